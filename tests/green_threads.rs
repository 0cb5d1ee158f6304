//! `spawn` and its relatives: order, outcomes, links, handles, failures nobody saw (GT, G6, D10, D12).
#![cfg(feature = "green")]
mod guard;
use guard::{Trace, guarded, joined, logged, panic_of};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};
use twistlet::error::{Cancelled, Killed, WaitsForItself};
use twistlet::failure::on_unobserved_failure;
use twistlet::green::{
    Builder, Event, GreenThread, Queue, block_on, call_in_green_thread, defer_to_green_thread, sleep, spawn,
    spawn_after, spawn_n, wait_all, yield_now,
};
use twistlet::{Deferred, Failure, Reactor};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(5);

// GTC-01, GT-01, GT-05
#[test]
fn spawn_returns_at_once_and_green_threads_start_in_order_in_a_later_turn() {
    guarded(|| {
        let trace = Trace::new();
        let threads: Vec<_> = (0..3)
            .map(|n| {
                let trace = trace.clone();
                spawn(move || {
                    trace.note(n);
                    Ok(n * 10)
                })
            })
            .collect();
        trace.note("spawned");
        let values: Vec<_> = wait_all(threads).into_iter().map(Result::unwrap).collect();
        assert_eq!(values, [0, 10, 20]);
        assert_eq!(trace.take(), ["spawned", "0", "1", "2"]);
    });
}

// GT-02
#[test]
fn spawn_n_runs_in_the_same_order_and_its_failure_alone_is_told() {
    guarded(|| {
        let trace = Trace::new();
        let (one, two, three) = (trace.clone(), trace.clone(), trace.clone());
        spawn_n(move || one.note(1));
        spawn(move || two.note(2));
        spawn_n(move || three.note(3));
        spawn_n(|| Ok("a value nobody gets"));
        spawn_n(|| Err::<(), _>(Failure::msg("nobody looks")));
        spawn_n(|| -> () { panic!("a test's") });
        yield_now();
        yield_now();
        assert_eq!(trace.take(), ["1", "2", "3"]);
        let log = logged();
        assert_eq!(log.len(), 2, "{log:?}");
        assert!(log[0].contains("nobody looks") && log[0].contains("tests/green_threads.rs"), "{log:?}");
        assert!(log[1].contains("a test's"), "{log:?}");
    });
}

// GTC-07, GT-03
#[test]
fn spawn_after_starts_after_its_delay_although_its_spawner_has_ended() {
    guarded(|| {
        let began = Instant::now();
        let child = spawn(move || Ok(spawn_after(SHORT * 2, move || Ok(began.elapsed()))));
        let child = child.wait().unwrap();
        assert!(child.wait().unwrap() >= SHORT * 2);
    });
}

// GTC-13, GT-04, HB-06
#[test]
fn a_child_of_one_that_exits_at_once_runs() {
    guarded(|| {
        let event = Event::new();
        let tell = event.clone();
        spawn(move || {
            spawn(move || tell.send("ran"));
        });
        assert_eq!(event.wait().unwrap(), "ran");
    });
}

// GTC-04, GT-07
#[test]
fn links_see_the_outcome_in_order_before_whoever_waits_runs() {
    guarded(|| {
        let trace = Trace::new();
        let thread = spawn(|| Ok(7));
        for n in 0..3 {
            let trace = trace.clone();
            thread.link(move |outcome| trace.note(format!("link {n} saw {}", outcome.unwrap())));
        }
        assert_eq!(thread.wait().unwrap(), 7);
        trace.note("waited");
        assert_eq!(trace.take(), ["link 0 saw 7", "link 1 saw 7", "link 2 saw 7", "waited"]);
    });
}

// GT-07: in its own context, so a link may wait
#[test]
fn a_link_may_wait_and_the_handle_gets_the_outcome_after_it() {
    guarded(|| {
        let trace = Trace::new();
        let thread = spawn(|| Ok(7));
        let noted = trace.clone();
        thread.link(move |_| {
            sleep(SHORT);
            noted.note("the link is done");
        });
        assert_eq!(thread.wait().unwrap(), 7);
        assert_eq!(trace.take(), ["the link is done"]);
    });
}

// GTC-05, GT-08
#[test]
fn a_link_on_one_that_has_ended_is_called_before_link_returns() {
    guarded(|| {
        let thread = spawn(|| Ok(1));
        yield_now();
        assert!(thread.is_finished());
        let seen = Rc::new(Cell::new(0));
        let mine = seen.clone();
        thread.link(move |outcome| mine.set(*outcome.unwrap()));
        assert_eq!(seen.get(), 1);
        assert_eq!(thread.wait().unwrap(), 1);
    });
}

// GTC-06, GT-09
#[test]
fn a_link_that_links_again_does_so_without_recursion() {
    fn again(thread: &Rc<GreenThread<()>>, trace: &Trace, left: u32) {
        let (next, noted) = (thread.clone(), trace.clone());
        thread.link(move |_| {
            if left > 0 {
                again(&next, &noted, left - 1);
            } else {
                noted.note("the last");
            }
        });
    }
    guarded(|| {
        let trace = Trace::new();
        let thread = Rc::new(spawn(|| ()));
        again(&thread, &trace, 100_000);
        yield_now();
        assert_eq!(trace.take(), ["the last"]);
        again(&thread, &trace, 100_000);
        assert_eq!(trace.take(), ["the last"]);
    });
}

// GT-10 turned around
#[test]
fn a_link_that_panics_is_logged_and_the_others_are_called() {
    guarded(|| {
        let trace = Trace::new();
        let thread = spawn(|| Ok(1));
        let noted = trace.clone();
        thread.link(|_| panic!("a test's"));
        thread.link(move |_| noted.note("the second"));
        assert_eq!(thread.wait().unwrap(), 1);
        assert_eq!(trace.take(), ["the second"]);
        let log = logged();
        assert!(log.len() == 1 && log[0].contains("a link of the green thread"), "{log:?}");
    });
}

// GT-06
#[test]
fn one_that_waits_for_itself_is_told_so() {
    guarded(|| {
        let (handles, outcome) = (Queue::<GreenThread<()>>::new(), Event::<Option<Failure>>::new());
        let (mine, tell) = (handles.clone(), outcome.clone());
        let thread = spawn(move || {
            let me = mine.wait()?;
            let me = me.wait_timeout(Duration::ZERO).expect_err("it still runs");
            tell.send(me.wait().err());
            Ok(())
        });
        handles.send(thread);
        assert!(outcome.wait().unwrap().unwrap().is::<WaitsForItself>());
    });
}

#[test]
fn a_wait_with_a_limit_gives_the_handle_back_in_time() {
    guarded(|| {
        let event = Event::<u8>::new();
        let mine = event.clone();
        let thread = spawn(move || mine.wait());
        let thread = thread.wait_timeout(Duration::ZERO).expect_err("it has not begun");
        let thread = thread.wait_timeout(SHORT).expect_err("it waits");
        event.send(3);
        assert_eq!(thread.wait_timeout(LONG).expect("in time").unwrap(), 3);
        let done = spawn(|| Ok(4));
        yield_now();
        assert_eq!(done.wait_timeout(Duration::ZERO).expect("at once").unwrap(), 4);
    });
}

// A body may return whatever a callback may
#[test]
fn a_body_that_returns_a_deferred_or_a_green_thread_ends_when_that_does() {
    guarded(|| {
        let (promise, deferred) = Deferred::new();
        let thread = spawn(move || deferred);
        yield_now();
        assert!(!thread.is_finished());
        promise.callback(5);
        assert_eq!(thread.wait().unwrap(), 5);
        assert_eq!(spawn(|| spawn(|| spawn(|| Ok(6)))).wait().unwrap(), 6);
    });
}

// G6
#[test]
fn a_panic_stays_in_its_green_thread_and_whoever_waits_gets_it() {
    guarded(|| {
        let failed = spawn(|| -> () { panic!("a test's") });
        let other = spawn(|| {
            yield_now();
            Ok("fine")
        });
        let failure = failed.wait().unwrap_err();
        assert!(failure.is_panic() && failure.to_string().contains("a test's"));
        assert_eq!(other.wait().unwrap(), "fine");
        drop(failure);
        assert!(logged().is_empty());
    });
}

// G6, D12, HB-22
#[test]
fn a_failure_nobody_saw_is_logged_once_with_name_and_site() {
    guarded(|| {
        let thread = Builder::default().name("careless").spawn(|| -> () { panic!("nobody looks") });
        let line = line!() - 1;
        drop(thread);
        yield_now();
        let log = logged();
        assert_eq!(log.len(), 1, "{log:?}");
        for part in ["careless", &format!("tests/green_threads.rs:{line}"), "nobody looks"] {
            assert!(log[0].contains(part), "{part}: {log:?}");
        }
        // With a handle that is dropped later: then.
        let thread = spawn(|| Err::<(), _>(Failure::msg("nobody looks")));
        yield_now();
        assert!(logged().is_empty());
        drop(thread);
        assert_eq!(logged().len(), 1);
    });
}

// D12: observed
#[test]
fn a_failure_that_was_waited_for_linked_deferred_or_was_a_kill_is_not_logged() {
    guarded(|| {
        let fails = || Err::<(), _>(Failure::msg("seen"));
        assert!(spawn(fails).wait().is_err());
        assert!(wait_all([spawn(fails)])[0].is_err());
        let linked = spawn(fails);
        linked.link(|outcome| assert!(outcome.is_err()));
        drop(linked);
        assert!(block_on(defer_to_green_thread(fails)).is_err());
        let killed = spawn(|| sleep(LONG));
        yield_now();
        killed.kill();
        drop(killed);
        yield_now();
        assert!(logged().is_empty());
        // An errback that nobody added: the Deferred tells.
        drop(defer_to_green_thread(fails));
        yield_now();
        assert_eq!(logged().len(), 1);
    });
}

// D12
#[test]
fn on_unobserved_failure_is_told_instead_of_the_log() {
    guarded(|| {
        let told = Rc::new(RefCell::new(Vec::new()));
        let list = told.clone();
        on_unobserved_failure(move |whose, failure| list.borrow_mut().push(format!("{whose}: {failure}")));
        drop(Builder::default().name("careless").spawn(|| Err::<(), _>(Failure::msg("nobody looks"))));
        yield_now();
        let told = told.borrow();
        assert!(told.len() == 1 && told[0].contains("careless") && told[0].contains("nobody looks"), "{told:?}");
        assert!(logged().is_empty());
    });
}

// D10
#[test]
fn dropping_the_handle_detaches() {
    guarded(|| {
        let event = Event::new();
        let tell = event.clone();
        drop(spawn(move || {
            sleep(SHORT);
            tell.send("ran on");
        }));
        assert_eq!(event.wait().unwrap(), "ran on");
    });
}

#[test]
fn the_value_of_a_detached_one_is_dropped_in_its_own_context_also_if_that_panics_or_waits() {
    struct Waits(Trace);
    impl Drop for Waits {
        fn drop(&mut self) {
            sleep(SHORT);
            self.0.note("dropped");
            panic!("a test's");
        }
    }
    guarded(|| {
        let trace = Trace::new();
        let value = Waits(trace.clone());
        drop(spawn(move || Ok(value)));
        sleep(SHORT * 3);
        assert_eq!(trace.take(), ["dropped"]);
        assert_eq!(logged().len(), 1);
        let value = Waits(trace.clone());
        spawn_n(move || Ok(value));
        sleep(SHORT * 3);
        assert_eq!(trace.take(), ["dropped"]);
        assert_eq!(spawn(|| Ok(1)).wait().unwrap(), 1);
    });
}

// TWC-11..13, TW-11, TW-12, TW-13
#[test]
fn defer_to_green_thread_gives_the_sum_or_the_failure_and_its_callbacks_may_block() {
    guarded(|| {
        assert_eq!(block_on(defer_to_green_thread(|| Ok(2 + 3))).unwrap(), 5);
        let divided = defer_to_green_thread(|| Ok("x".parse::<u32>()?));
        assert!(block_on(divided).unwrap_err().is::<std::num::ParseIntError>());
        let chained = defer_to_green_thread(|| Ok(1)).add_callback(|n| {
            sleep(SHORT);
            Ok(n + 1)
        });
        assert_eq!(block_on(chained).unwrap(), 2);
        assert_eq!(call_in_green_thread(|| Ok(3)).wait().unwrap(), 3);
    });
}

#[test]
fn cancelling_the_deferred_of_a_green_thread_kills_it() {
    guarded(|| {
        let trace = Trace::new();
        let guard = trace.on_drop("unwound");
        let deferred = defer_to_green_thread(move || {
            let _guard = guard;
            sleep(LONG);
        });
        yield_now();
        deferred.cancel();
        yield_now();
        assert_eq!(trace.take(), ["unwound"]);
        let failure = block_on(deferred).unwrap_err();
        assert!(failure.is::<Cancelled>() || failure.is::<Killed>(), "{failure:?}");
    });
}

#[test]
fn the_handle_of_one_that_has_ended_is_a_fired_deferred() {
    guarded(|| {
        use twistlet::IntoDeferred;
        let thread = spawn(|| Ok(1));
        yield_now();
        assert_eq!(thread.into_deferred().try_take().ok().unwrap().unwrap(), 1);
    });
}

// A stack that cannot be had is an outcome
#[test]
fn a_stack_that_is_not_to_be_had_fails_the_green_thread_not_its_spawner() {
    guarded(|| {
        let thread = Builder::default().stack_size(usize::MAX / 2).spawn(|| Ok(1));
        assert!(thread.is_finished());
        assert!(thread.wait().is_err());
    });
}

#[test]
fn a_builder_gives_names_and_stacks() {
    guarded(|| {
        let thread = Builder::default().name("worker").stack_size(1024 * 1024).spawn(|| {
            let big = std::hint::black_box([1u8; 300_000]);
            Ok(big.iter().map(|n| u64::from(*n)).sum::<u64>())
        });
        assert!(format!("{thread:?}").contains("worker"));
        assert_eq!(thread.wait().unwrap(), 300_000);
        let delayed = Builder::default().after(SHORT).spawn(|| Ok(1));
        delayed.set_name("delayed");
        yield_now();
        assert!(!delayed.is_finished());
        assert_eq!(delayed.wait().unwrap(), 1);
    });
}

// GT-23, HB-29: a loop of yields starves neither timers nor others
#[test]
fn one_that_yields_for_ever_lets_timers_and_others_run() {
    guarded(|| {
        let spinning = spawn(|| -> () {
            loop {
                yield_now();
            }
        });
        let began = Instant::now();
        sleep(SHORT);
        assert!(began.elapsed() < Duration::from_secs(1));
        let reactor = Reactor::current();
        assert_eq!(block_on(reactor.defer_to_thread(|| Ok(5))).unwrap(), 5);
        spinning.kill();
        assert!(spinning.wait().is_err());
    });
}

// RS-35: the waker runs on before the woken
#[test]
fn whoever_wakes_others_runs_on_first() {
    joined(|reactor| {
        let (event, trace) = (Event::new(), Trace::new());
        let (waits, noted) = (event.clone(), trace.clone());
        spawn(move || {
            waits.wait()?;
            noted.note("woken");
            Ok(())
        });
        spawn(move || {
            event.send(());
            trace.note("sent");
            yield_now();
            assert_eq!(trace.take(), ["sent", "woken"]);
            reactor.stop()
        });
    });
}

#[test]
fn ten_thousand_green_threads_wait_and_wake() {
    guarded(|| {
        let (event, count) = (Event::new(), Rc::new(Cell::new(0)));
        let threads: Vec<_> = (0..10_000)
            .map(|_| {
                let (event, count) = (event.clone(), count.clone());
                Builder::default().stack_size(16 * 1024).spawn(move || {
                    event.wait()?;
                    count.set(count.get() + 1);
                    Ok(())
                })
            })
            .collect();
        yield_now();
        event.send(());
        assert!(wait_all(threads).iter().all(Result::is_ok));
        assert_eq!(count.get(), 10_000);
    });
}

// The kinds of outcome are told apart
#[test]
fn a_value_a_failure_a_panic_and_a_kill_are_told_apart() {
    guarded(|| {
        let killed = spawn(|| sleep(LONG));
        yield_now();
        killed.kill();
        assert!(spawn(|| ()).wait().is_ok());
        let failure = spawn(|| Err::<(), _>(Failure::msg("x"))).wait().unwrap_err();
        assert!(!failure.is_panic() && !failure.is::<Killed>());
        assert!(spawn(|| -> () { panic!("a test's") }).wait().unwrap_err().is_panic());
        assert!(killed.wait().unwrap_err().is::<Killed>());
        assert!(panic_of(|| -> () { panic!("of the test") }).contains("of the test"));
    });
}
