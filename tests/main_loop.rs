//! Which calls are safe in the main loop, one by one, and what the others say there (G3, SL).
//!
//! Each runs in a callback of a timer, in join mode.
#![cfg(feature = "green")]
mod guard;
use guard::{guarded, in_callback, joined, logged, panic_of};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use twistlet::green::{
    Event, GreenClientCreator, Queue, Semaphore, block_on, call_in_green_thread, defer_to_green_thread, join_reactor,
    proc, sleep, spawn, spawn_after, spawn_n, wait_all, yield_now,
};
use twistlet::greenlet::Greenlet;
use twistlet::{Deferred, Failure, Reactor, TimedOut};

const LONG: Duration = Duration::from_secs(60);

/// Starts a call that is safe in a callback, and fails unless it returned before anything else ran.
macro_rules! safe {
    ($($(#[$meta:meta])* $name:ident: $body:expr;)*) => { $(
        $(#[$meta])*
        #[test]
        fn $name() {
            in_callback(|| {
                let turns = Reactor::current().statistics().turns;
                let check: fn() = $body;
                check();
                assert_eq!(Reactor::current().statistics().turns, turns, "it did not wait");
                assert!(logged().is_empty());
            });
        }
    )* };
}

// 1. what creates green threads (SL-01)
safe! {
    spawn_is_safe_anywhere: || drop(spawn(|| ()));
    spawn_n_is_safe_anywhere: || spawn_n(|| ());
    spawn_after_is_safe_anywhere: || drop(spawn_after(LONG, || ()));
    proc_spawn_is_safe_anywhere: || drop(proc::spawn(|| ()));
    defer_to_green_thread_is_safe_anywhere: || drop(defer_to_green_thread(|| ()));
    call_in_green_thread_is_safe_anywhere: || drop(call_in_green_thread(|| ()));
    a_builder_is_safe_anywhere: || drop(twistlet::green::Builder::default().name("a").stack_size(32768).spawn(|| ()));
}
// 2. send, send_exception, poll, ready (SL-02)
safe! {
    sending_to_an_event_is_safe_anywhere: || Event::new().send(1);
    sending_a_failure_to_an_event_is_safe_anywhere: || Event::<()>::new().send_exception(Failure::msg("x"));
    polling_an_event_is_safe_anywhere: || assert!(Event::<()>::new().poll().is_none());
    asking_whether_an_event_is_ready_is_safe_anywhere: || assert!(!Event::<()>::new().ready());
    resetting_an_event_is_safe_anywhere: || {
        let event = Event::new();
        event.send(1);
        event.reset();
    };
    sending_to_a_queue_is_safe_anywhere: || Queue::new().send(1);
    sending_to_a_full_queue_is_safe_anywhere: || Queue::bounded(0).send(1);
    sending_a_failure_to_a_queue_is_safe_anywhere: || Queue::<()>::new().send_exception(Failure::msg("x"));
    polling_a_queue_is_safe_anywhere: || assert!(Queue::<()>::new().poll().is_none());
    asking_whether_a_queue_is_ready_is_safe_anywhere: || assert!(!Queue::<()>::new().ready());
    trying_to_put_is_safe_anywhere: || assert!(Queue::bounded(0).try_put(1).is_err());
}
// 3. wait(timeout=0) (SL-03)
safe! {
    waiting_zero_for_a_proc_is_polling: || {
        let proc = proc::spawn(|| ());
        assert!(proc.wait_timeout(Duration::ZERO).unwrap_err().is::<TimedOut>());
        assert!(proc.poll().is_none());
    };
    waiting_zero_for_an_event_is_polling: || {
        assert!(Event::<()>::new().wait_timeout(Duration::ZERO).unwrap_err().is::<TimedOut>());
    };
    waiting_zero_for_a_queue_is_polling: || {
        assert!(Queue::<()>::new().wait_timeout(Duration::ZERO).unwrap_err().is::<TimedOut>());
    };
    waiting_zero_for_a_green_thread_is_polling: || {
        assert!(spawn(|| ()).wait_timeout(Duration::ZERO).is_err());
    };
    putting_for_zero_is_trying: || {
        assert!(Queue::bounded(0).put_timeout(1, Duration::ZERO).unwrap_err().is::<TimedOut>());
    };
    acquiring_for_zero_is_trying: || assert!(Semaphore::new(0).acquire_timeout(Duration::ZERO).is_none());
}
fn other_link() -> proc::LinkId {
    let proc = proc::spawn(|| ());
    proc.link(|_| ());
    proc.link(|_| ())
}
// 4. links (SL-04)
safe! {
    link_is_safe_anywhere: || assert_ne!(proc::spawn(|| ()).link(|_| ()), other_link());
    link_to_is_safe_anywhere: || assert_ne!(proc::spawn(|| ()).link_to(Event::new()), other_link());
    link_value_is_safe_anywhere: || assert_ne!(proc::spawn(|| ()).link_value(Queue::new()), other_link());
    link_exception_is_safe_anywhere: || assert_ne!(proc::spawn(|| ()).link_exception(proc::spawn(|| ())), other_link());
    unlink_is_safe_anywhere: || {
        let proc = proc::spawn(|| ());
        assert!(proc.unlink(proc.link(|_| ())));
    };
    the_link_of_a_green_thread_is_safe_anywhere: || {
        spawn(|| ()).link(|_| ());
    };
}
// SL-06
safe! {
    releasing_is_safe_anywhere: || Semaphore::new(0).release();
    trying_to_acquire_is_safe_anywhere: || assert!(Semaphore::new(0).try_acquire().is_none());
    killing_is_safe_anywhere: || spawn(|| ()).kill();
    cancelling_is_safe_anywhere: || assert!(spawn(|| ()).cancel());
    killing_a_proc_is_safe_anywhere: || proc::spawn(|| ()).kill();
    killing_all_is_safe_anywhere: || proc::kill_all([proc::spawn(|| ())]);
}
// SL-08, HB-04: what is there already
safe! {
    /// TWC-14, TW-02
    block_on_a_fired_deferred_is_safe_anywhere: || assert_eq!(block_on(Deferred::succeed(1)).unwrap(), 1);
    block_on_a_failed_deferred_is_safe_anywhere: || {
        assert!(block_on(Deferred::<()>::fail(Failure::msg("x"))).is_err());
        assert!(block_on(&mut Deferred::<()>::fail(Failure::msg("x"))).is_err());
    };
    waiting_for_a_ready_event_is_safe_anywhere: || {
        let event = Event::new();
        event.send(1);
        assert_eq!(event.wait().unwrap(), 1);
    };
    taking_an_item_that_is_there_is_safe_anywhere: || {
        let queue = Queue::bounded(1);
        queue.put(1).unwrap();
        assert_eq!(queue.get().unwrap(), 1);
    };
    acquiring_a_free_permit_is_safe_anywhere: || drop(Semaphore::new(1).acquire());
    waiting_for_no_procs_is_safe_anywhere: || {
        assert!(proc::wait_all(Vec::<proc::Proc<()>>::new()).unwrap().is_empty());
        assert!(wait_all(Vec::<twistlet::green::GreenThread<()>>::new()).is_empty());
    };
}

/// A blocking call in a callback: it panics with the place of the call and what to do instead.
macro_rules! blocks {
    ($($(#[$meta:meta])* $name:ident: $body:expr;)*) => { $(
        $(#[$meta])*
        #[test]
        fn $name() {
            let message = in_callback(|| panic_of(|| { let _ = $body; }));
            assert!(message.contains("blocking call in the main loop"), "{message}");
            assert!(message.contains(concat!("at ", file!(), ":", line!())), "{message}");
            assert!(message.contains("defer_to_green_thread()"), "{message}");
        }
    )* };
}
// SL-09, HB-03
blocks! { sleeping_in_the_main_loop_panics: sleep(LONG); }
// D11, GT-24
blocks! { sleeping_zero_in_the_main_loop_panics: sleep(Duration::ZERO); }
blocks! { yielding_in_the_main_loop_panics: yield_now(); }
// TWC-07, TW-07
blocks! { block_on_an_unfired_deferred_in_the_main_loop_panics: block_on(Deferred::<()>::new().1); }
blocks! { block_on_a_lent_deferred_in_the_main_loop_panics: block_on(&mut Deferred::<()>::new().1).copied(); }
blocks! { waiting_for_an_event_in_the_main_loop_panics: Event::<()>::new().wait(); }
blocks! { waiting_a_while_for_an_event_in_the_main_loop_panics: Event::<()>::new().wait_timeout(LONG); }
blocks! { waiting_for_an_item_in_the_main_loop_panics: Queue::<()>::new().wait(); }
blocks! { getting_an_item_in_the_main_loop_panics: Queue::<()>::new().get(); }
blocks! { waiting_a_while_for_an_item_in_the_main_loop_panics: Queue::<()>::new().wait_timeout(LONG); }
blocks! { putting_into_a_full_queue_in_the_main_loop_panics: Queue::bounded(0).put(1); }
blocks! { putting_a_while_into_a_full_queue_in_the_main_loop_panics: Queue::bounded(0).put_timeout(1, LONG); }
blocks! { acquiring_in_the_main_loop_panics: Semaphore::new(0).acquire(); }
blocks! { acquiring_a_while_in_the_main_loop_panics: Semaphore::new(0).acquire_timeout(LONG); }
blocks! { waiting_for_a_green_thread_in_the_main_loop_panics: spawn(|| ()).wait(); }
blocks! { waiting_a_while_for_a_green_thread_in_the_main_loop_panics: spawn(|| ()).wait_timeout(LONG); }
blocks! { waiting_for_a_proc_in_the_main_loop_panics: proc::spawn(|| ()).wait(); }
blocks! { waiting_a_while_for_a_proc_in_the_main_loop_panics: proc::spawn(|| ()).wait_timeout(LONG); }
blocks! { waiting_for_procs_in_the_main_loop_panics: proc::wait_all([proc::spawn(|| ())]); }
blocks! { waiting_for_every_proc_in_the_main_loop_panics: proc::wait_all_trapped([proc::spawn(|| ())]); }
blocks! { connecting_in_the_main_loop_panics: GreenClientCreator::new(&Reactor::current()).connect_tcp("127.0.0.1:9"); }

blocks! { waiting_for_green_threads_in_the_main_loop_panics: wait_all([spawn(|| ())]); }

// HB-08: before run() already
#[test]
fn after_join_reactor_its_caller_may_not_block_also_before_the_loop_runs() {
    guarded(|| {
        let reactor = Reactor::new().unwrap();
        join_reactor(&reactor).unwrap();
        join_reactor(&reactor).unwrap();
        assert!(panic_of(|| sleep(LONG)).contains("main loop"));
        assert!(panic_of(yield_now).contains("main loop"));
        reactor.close();
    });
}

// G3, R2, HB-16: caught at the callback's boundary, and logged with the place
#[test]
fn a_callback_that_blocks_is_logged_and_the_loop_goes_on() {
    joined(|reactor| {
        reactor.call_later(Duration::ZERO, || sleep(LONG));
        reactor.call_soon(|| drop(Event::<()>::new().wait()));
        reactor.call_later(Duration::from_millis(5), move || {
            let log = logged();
            assert_eq!(log.len(), 2, "{log:?}");
            assert!(
                log.iter().all(|line| line.contains("main loop") && line.contains("tests/main_loop.rs")),
                "{log:?}"
            );
            reactor.stop()
        });
    });
}

// A callback of a Deferred that is fired in the main loop is in the main loop
#[test]
fn a_callback_of_a_deferred_may_block_where_it_is_fired_in_a_green_thread_and_not_in_the_main_loop() {
    joined(|reactor| {
        let (promise, deferred) = Deferred::new();
        let blocks = |deferred: Deferred<()>| {
            deferred.add_callback(|()| {
                sleep(Duration::from_millis(1));
                Ok("slept")
            })
        };
        let first = blocks(deferred);
        reactor.call_soon(move || {
            promise.callback(());
            let failure = first.try_take().ok().unwrap().unwrap_err();
            assert!(failure.is_panic() && failure.to_string().contains("main loop"), "{failure}");
            let (promise, deferred) = Deferred::new();
            let second = blocks(deferred);
            spawn(move || {
                promise.callback(());
                assert_eq!(block_on(second)?, "slept");
                reactor.stop()
            });
        });
    });
}

// A raw greenlet in a callback is in the main loop too
#[test]
fn a_raw_greenlet_run_by_a_callback_may_not_block_either() {
    let message = in_callback(|| {
        let raw = Greenlet::new(|_| Ok(Box::new(panic_of(|| sleep(LONG)))));
        *raw.switch(()).unwrap().downcast::<String>().unwrap()
    });
    assert!(message.contains("main loop"), "{message}");
}

// While a callback unwinds, its destructors must not panic again
#[test]
fn destructors_that_block_while_a_callback_unwinds_do_not_wait() {
    struct Blocks;
    impl Drop for Blocks {
        fn drop(&mut self) {
            sleep(LONG);
            assert!(Event::<()>::new().wait().is_err());
            assert_eq!(twistlet::green::with_timeout(LONG, || 1), Ok(1));
            drop(Semaphore::new(0).acquire());
        }
    }
    in_callback(|| {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _blocks = Blocks;
            panic!("a test's");
        }));
        assert!(panicked.is_err());
    });
}

// HB-05: what was done before the panic stays done
#[test]
fn a_failed_wait_in_the_main_loop_leaves_nothing_in_line() {
    in_callback(|| {
        let (event, queue, semaphore) = (Event::<()>::new(), Queue::<u8>::new(), Semaphore::new(0));
        let full = Queue::bounded(0);
        panic_of(|| event.wait());
        panic_of(|| queue.wait());
        panic_of(|| semaphore.acquire());
        panic_of(|| full.put(1));
        assert_eq!((event.waiting(), queue.waiting(), semaphore.waiting()), (0, 0, 0));
        assert!(!full.ready());
    });
}
