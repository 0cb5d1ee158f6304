//! The hub: its two modes, their ends, deadlocks, several threads, raw greenlets among green threads (HB, D8, G7).
#![cfg(feature = "green")]
mod guard;
use guard::{Trace, guarded, joined, logged, panic_of};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};
use twistlet::error::{Deadlock, Killed, ReactorError};
use twistlet::green::{
    Builder, Event, Queue, Semaphore, block_on, join_reactor, kill, proc, sleep, spawn, spawn_after, with_timeout,
    yield_now,
};
use twistlet::greenlet::{Greenlet, Value};
use twistlet::reactor::Phase;
use twistlet::{Deferred, Reactor};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(5);

// ---- the two modes ----

// HB-09, HB-15
#[test]
fn in_implicit_mode_nothing_runs_before_main_blocks() {
    guarded(|| {
        let trace = Trace::new();
        let noted = trace.clone();
        spawn(move || noted.note("ran"));
        assert!(!Reactor::current().is_running());
        assert!(trace.take().is_empty());
        yield_now();
        assert!(Reactor::current().is_running());
        assert_eq!(trace.take(), ["ran"]);
    });
}

// HB-08, HB-14
#[test]
fn joining_comes_first_and_once_the_loop_runs_implicitly_it_is_too_late() {
    guarded(|| {
        yield_now();
        let refused = join_reactor(&Reactor::current()).unwrap_err();
        assert_eq!(refused.check(), Some(&ReactorError::AlreadyRunning));
        assert_eq!(Reactor::current().run().unwrap_err().check(), Some(&ReactorError::AlreadyRunning));
    });
}

// HB-14
#[test]
fn run_from_a_green_thread_is_refused() {
    joined(|reactor| {
        spawn(move || {
            assert_eq!(reactor.run().unwrap_err().check(), Some(&ReactorError::AlreadyRunning));
            reactor.stop()
        });
    });
}

#[test]
fn run_without_join_reactor_makes_its_caller_the_loop() {
    guarded(|| {
        let reactor = Reactor::new().unwrap();
        let trace = Trace::new();
        let noted = trace.clone();
        // MAIN has looked at itself, but not waited.
        assert_eq!(with_timeout(LONG, || 1), Ok(1));
        spawn(move || {
            sleep(SHORT);
            noted.note("ran");
            reactor.stop()
        });
        reactor.call_soon(|| assert!(panic_of(|| sleep(LONG)).contains("main loop")));
        reactor.run().unwrap();
        assert_eq!(trace.take(), ["ran"]);
        assert!(logged().is_empty());
    });
}

#[test]
fn a_callback_that_blocks_before_any_green_thread_ran_is_found_out() {
    guarded(|| {
        let reactor = Reactor::new().unwrap();
        assert_eq!(with_timeout(LONG, || 1), Ok(1));
        reactor.call_soon(move || {
            assert!(panic_of(|| sleep(LONG)).contains("main loop"));
            reactor.stop()
        });
        reactor.run().unwrap();
        assert!(logged().is_empty());
    });
}

#[test]
fn a_reactor_may_be_joined_and_run_by_a_greenlet_that_is_not_main() {
    guarded(|| {
        let reactor = Reactor::new().unwrap();
        join_reactor(&reactor).unwrap();
        let done = Rc::new(Cell::new(false));
        let flag = done.clone();
        spawn(move || {
            yield_now();
            flag.set(true);
            reactor.stop()
        });
        let runs = Greenlet::new(move |_| {
            reactor.run()?;
            Ok(Box::new(()) as Value)
        });
        runs.switch(()).unwrap();
        assert!(runs.is_dead() && done.get());
    });
}

// ---- deadlocks ----

// D8, UA-01
#[test]
fn main_that_nothing_can_wake_fails_with_a_report_of_every_parked_green_thread() {
    guarded(|| {
        let (event, queue) = (Event::<()>::new(), Queue::<u8>::new());
        let mine = queue.clone();
        let stuck = Builder::default().name("stuck").spawn(move || mine.wait());
        let line = line!() - 1;
        let failure = event.wait().unwrap_err();
        let report = failure.check::<Deadlock>().unwrap().to_string();
        for part in [
            "MAIN waits for an Event at tests/green_hub.rs",
            "green thread 'stuck' waits for an item in a Queue",
            &format!("tests/green_hub.rs:{line}"),
        ] {
            assert!(report.contains(part), "{part}: {report}");
        }
        // Nothing is lost by it, and later waits work.
        queue.send(1);
        assert_eq!(stuck.wait().unwrap(), 1);
        assert!(panic_of(|| drop(Semaphore::new(0).acquire())).contains("MAIN waits for a Semaphore"));
        assert!(block_on(Deferred::<()>::new().1).is_err());
        let (_promise, deferred) = Deferred::<()>::new();
        assert!(block_on(deferred).unwrap_err().is::<Deadlock>());
    });
}

// D8
#[test]
fn what_may_still_wake_main_is_no_deadlock() {
    guarded(|| {
        let reactor = Reactor::current();
        let event = Event::new();
        // A timer, another thread, a live Remote.
        let tell = event.clone();
        reactor.call_later(SHORT, move || tell.send(1));
        assert_eq!(event.wait().unwrap(), 1);
        assert_eq!(
            block_on(reactor.defer_to_thread(|| {
                std::thread::sleep(SHORT);
                Ok(2)
            }))
            .unwrap(),
            2
        );
        event.reset();
        let remote = reactor.remote();
        let (promise, deferred) = Deferred::<u8>::new();
        thread_local!(static PROMISE: RefCell<Option<twistlet::Promise<u8>>> = const { RefCell::new(None) });
        PROMISE.set(Some(promise));
        let other = std::thread::spawn(move || {
            std::thread::sleep(SHORT);
            remote.call_from_thread(|_| PROMISE.take().unwrap().callback(3)).unwrap();
        });
        assert_eq!(block_on(deferred).unwrap(), 3);
        other.join().unwrap();
        // Yielding never is one.
        yield_now();
    });
}

// D8: run() keeps running
#[test]
fn in_join_mode_the_loop_waits_on() {
    guarded(|| {
        let reactor = Reactor::new().unwrap();
        join_reactor(&reactor).unwrap();
        let remote = reactor.remote();
        let stuck = spawn(|| Event::<()>::new().wait());
        let (running, runs) = std::sync::mpsc::channel();
        reactor.call_when_running(move || running.send(()).unwrap());
        let other = std::thread::spawn(move || {
            runs.recv().unwrap();
            std::thread::sleep(SHORT * 4);
            remote.call_from_thread(|reactor| reactor.stop()).unwrap();
        });
        reactor.run().unwrap();
        other.join().unwrap();
        assert!(stuck.wait().unwrap_err().is::<Killed>());
    });
}

// ---- ends ----

// HB-23, TWC-45
#[test]
fn stop_in_implicit_mode_fails_mains_wait_and_every_later_one() {
    guarded(|| {
        let event = Event::<()>::new();
        Reactor::current().call_later(SHORT, || Reactor::current().stop());
        let began = Instant::now();
        assert_eq!(event.wait().unwrap_err().check(), Some(&ReactorError::Stopped));
        assert!(began.elapsed() < LONG / 2);
        assert_eq!(event.wait().unwrap_err().check(), Some(&ReactorError::Stopped));
        assert!(panic_of(|| sleep(LONG)).contains("never end"));
        assert_eq!(event.wait_timeout(Duration::ZERO).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        // What is spawned then never runs.
        let unrun = spawn(|| ());
        assert!(unrun.is_finished());
        assert!(unrun.wait().unwrap_err().is::<Killed>());
        // A new reactor is a new beginning.
        let reactor = Reactor::new().unwrap();
        assert_eq!(spawn(|| Ok(1)).wait().unwrap(), 1);
        reactor.close();
    });
}

#[test]
fn main_that_was_woken_in_the_last_turn_gets_what_it_was_woken_for() {
    guarded(|| {
        let event = Event::new();
        let tell = event.clone();
        Reactor::current().call_later(SHORT, move || {
            tell.send("woken");
            Reactor::current().stop()
        });
        assert_eq!(event.wait().unwrap(), "woken");
        assert_eq!(event.wait().unwrap(), "woken");
    });
}

// G7, HB-24, HBC-29 turned around
#[test]
fn the_end_of_run_unwinds_every_suspended_green_thread_in_join_mode() {
    guarded(|| {
        let trace = Trace::new();
        let reactor = Reactor::new().unwrap();
        join_reactor(&reactor).unwrap();
        let mut handles = Vec::new();
        for (name, kind) in [("sleeps", 0), ("waits", 1), ("yields", 2)] {
            let guard = trace.on_drop(name);
            handles.push(spawn(move || {
                let _guard = guard;
                match kind {
                    0 => sleep(LONG),
                    1 => Event::<()>::new().wait()?,
                    _ => loop {
                        yield_now();
                    },
                }
                Ok(())
            }));
        }
        let unrun = trace.on_drop("never begins");
        handles.push(spawn_after(LONG, move || drop(unrun)));
        // One that calls stop, and waits on.
        let guard = trace.on_drop("stops");
        handles.push(spawn(move || {
            let _guard = guard;
            sleep(SHORT);
            reactor.stop()?;
            sleep(LONG);
            Ok(())
        }));
        reactor.run().unwrap();
        let mut unwound = trace.take();
        unwound.sort();
        assert_eq!(unwound, ["never begins", "sleeps", "stops", "waits", "yields"]);
        for handle in handles {
            assert!(handle.wait().unwrap_err().is::<Killed>());
        }
        assert!(logged().is_empty());
    });
}

// G7
#[test]
fn what_unwinds_at_the_end_may_spawn_kill_send_and_block_in_its_destructors() {
    struct Acts(Trace, Event<u8>, Option<twistlet::green::GreenThread<()>>);
    impl Drop for Acts {
        fn drop(&mut self) {
            let noted = self.0.clone();
            drop(spawn(move || noted.note("never")));
            let noted = self.0.clone();
            drop(spawn_after(SHORT, move || noted.note("never")));
            self.1.send(1);
            if let Some(other) = &self.2 {
                kill(other);
            }
            sleep(LONG);
            Reactor::current().call_later(SHORT, || ());
            self.0.note("destructor");
        }
    }
    guarded(|| {
        let (trace, event) = (Trace::new(), Event::new());
        let reactor = Reactor::new().unwrap();
        join_reactor(&reactor).unwrap();
        let other = spawn(|| sleep(LONG));
        let acts = Acts(trace.clone(), event.clone(), Some(other));
        spawn(move || {
            let _acts = acts;
            sleep(LONG);
        });
        // One that waits for what the destructor sends.
        let (waits, noted) = (event.clone(), trace.clone());
        spawn(move || {
            noted.note(format!("{:?}", waits.wait().is_ok()));
            sleep(LONG);
            noted.note("never");
        });
        reactor.call_later(SHORT, move || reactor.stop());
        reactor.run().unwrap();
        let noted = trace.take();
        assert!(noted.iter().all(|what| what != "never"), "{noted:?}");
        assert!(noted.contains(&"destructor".to_owned()));
    });
}

#[test]
fn one_that_swallows_its_kill_at_the_end_is_leaked_with_an_error() {
    guarded(|| {
        let reactor = Reactor::new().unwrap();
        join_reactor(&reactor).unwrap();
        let stubborn = spawn(|| -> () {
            loop {
                let _ = catch_unwind(|| sleep(LONG));
            }
        });
        reactor.call_later(SHORT, move || reactor.stop());
        reactor.run().unwrap();
        assert!(stubborn.wait().unwrap_err().is::<Killed>());
        let log = logged();
        assert!(log.len() == 1 && log[0].contains("leaked"), "{log:?}");
    });
}

// Links of procs are told at the end as well
#[test]
fn links_are_told_of_what_the_end_kills() {
    guarded(|| {
        let reactor = Reactor::new().unwrap();
        join_reactor(&reactor).unwrap();
        let told = Rc::new(Cell::new(0));
        for _ in 0..2 {
            let (one, two) = (told.clone(), told.clone());
            proc::spawn(|| sleep(LONG)).link(move |outcome| one.set(one.get() + u32::from(outcome.is_err())));
            spawn(|| sleep(LONG)).link(move |outcome| two.set(two.get() + u32::from(outcome.is_err())));
        }
        reactor.call_later(SHORT, move || reactor.stop());
        reactor.run().unwrap();
        assert_eq!(told.get(), 4);
    });
}

#[test]
fn shutdown_triggers_may_run_green_threads_to_their_end() {
    guarded(|| {
        let trace = Trace::new();
        let reactor = Reactor::new().unwrap();
        join_reactor(&reactor).unwrap();
        let noted = trace.clone();
        reactor.add_trigger(Phase::BeforeShutdown, move || {
            spawn(move || {
                sleep(SHORT);
                noted.note("saved");
                Ok(())
            })
        });
        reactor.call_soon(move || reactor.stop());
        reactor.run().unwrap();
        assert_eq!(trace.take(), ["saved"]);
    });
}

#[test]
fn close_from_main_in_implicit_mode_unwinds_everything_before_it_returns() {
    guarded(|| {
        let trace = Trace::new();
        let guard = trace.on_drop("unwound");
        let thread = spawn(move || {
            let _guard = guard;
            sleep(LONG);
        });
        let unrun = trace.on_drop("dropped");
        yield_now();
        let never = spawn(move || drop(unrun));
        Reactor::current().close();
        let mut noted = trace.take();
        noted.sort();
        assert_eq!(noted, ["dropped", "unwound"]);
        assert!(thread.wait().unwrap_err().is::<Killed>());
        assert!(never.wait().unwrap_err().is::<Killed>());
        // And again, with another.
        for n in 0..3 {
            let reactor = Reactor::new().unwrap();
            assert_eq!(spawn(move || Ok(n)).wait().unwrap(), n);
            reactor.close();
            reactor.close();
        }
    });
}

#[test]
fn close_before_anything_ran_drops_what_was_spawned() {
    guarded(|| {
        let trace = Trace::new();
        let guard = trace.on_drop("dropped");
        let thread = spawn(move || drop(guard));
        Reactor::current().close();
        assert_eq!(trace.take(), ["dropped"]);
        assert!(thread.wait().unwrap_err().is::<Killed>());
    });
}

#[test]
fn close_from_a_green_thread_ends_the_loop_after_the_turn() {
    guarded(|| {
        let trace = Trace::new();
        let (guard, noted) = (trace.on_drop("unwound"), trace.clone());
        let closes = spawn(move || {
            let _guard = guard;
            Reactor::current().close();
            noted.note("close returned");
            sleep(LONG);
        });
        assert_eq!(Event::<()>::new().wait().unwrap_err().check(), Some(&ReactorError::Stopped));
        assert_eq!(trace.take(), ["close returned", "unwound"]);
        assert!(closes.wait().unwrap_err().is::<Killed>());
    });
}

// HB-25
#[test]
fn after_a_crash_green_threads_live_on_under_the_next_loop() {
    guarded(|| {
        let reactor = Reactor::new().unwrap();
        join_reactor(&reactor).unwrap();
        let (event, trace) = (Event::<()>::new(), Trace::new());
        let (waits, noted) = (event.clone(), trace.clone());
        let thread = spawn(move || {
            waits.wait()?;
            noted.note("survived");
            sleep(SHORT);
            reactor.stop()
        });
        reactor.call_later(SHORT, move || reactor.crash());
        reactor.run().unwrap();
        assert!(!thread.is_finished());
        event.send(());
        reactor.run().unwrap();
        assert_eq!(trace.take(), ["survived"]);
    });
}

// HB-19, HB-20, HB-25
#[test]
fn after_a_crash_in_implicit_mode_the_next_blocking_call_starts_another_loop() {
    guarded(|| {
        let event = Event::<u8>::new();
        let mine = event.clone();
        let thread = spawn(move || mine.wait());
        Reactor::current().call_later(SHORT, || Reactor::current().crash());
        assert_eq!(Event::<()>::new().wait().unwrap_err().check(), Some(&ReactorError::Stopped));
        // Timers and green threads are still there; one that ends returns to the new loop.
        let again = event.clone();
        Reactor::current().call_later(SHORT, move || again.send(5));
        assert_eq!(thread.wait().unwrap(), 5);
        yield_now();
        let sleeping = spawn(|| sleep(LONG));
        yield_now();
        Reactor::current().call_later(SHORT, || Reactor::current().crash());
        assert!(Event::<()>::new().wait().is_err());
        Reactor::current().close();
        assert!(sleeping.wait().unwrap_err().is::<Killed>());
        assert!(logged().is_empty());
    });
}

// ---- several threads ----

#[test]
fn two_threads_each_have_their_reactor_and_green_threads() {
    guarded(|| {
        let threads: Vec<_> = (0..2)
            .map(|n| {
                std::thread::spawn(move || {
                    let queue = Queue::new();
                    for m in 0..100 {
                        let queue = queue.clone();
                        spawn(move || {
                            sleep(Duration::from_micros(100));
                            queue.send(n * 1000 + m);
                        });
                    }
                    let mut sum = 0;
                    for _ in 0..100 {
                        sum += queue.wait().unwrap();
                    }
                    Reactor::current().close();
                    sum
                })
            })
            .collect();
        let sums: Vec<i32> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(sums, [4950, 104_950]);
    });
}

#[test]
fn one_thread_wakes_another_by_its_remote() {
    guarded(|| {
        thread_local!(static EVENT: Event<u32> = Event::new());
        let (sender, receiver) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            sender.send(Reactor::current().remote()).unwrap();
            EVENT.with(Event::clone).wait().unwrap()
        });
        let remote = receiver.recv().unwrap();
        remote.call_from_thread(|_| EVENT.with(Event::clone).send(8)).unwrap();
        assert_eq!(other.join().unwrap(), 8);
    });
}

// G7, S5, D: a thread that ends without closing anything
#[test]
fn a_thread_may_end_with_parked_green_threads_and_unstarted_ones() {
    guarded(|| {
        for mode in 0..3 {
            let dropped = std::sync::Arc::new(());
            let (parked, unrun) = (dropped.clone(), dropped.clone());
            std::thread::spawn(move || {
                let reactor = Reactor::current();
                if mode == 0 {
                    join_reactor(&reactor).unwrap();
                }
                spawn(move || {
                    let _parked = parked;
                    sleep(LONG);
                });
                if mode == 1 {
                    yield_now();
                }
                drop(spawn(move || drop(unrun)));
                drop(proc::spawn(|| sleep(LONG)));
                spawn_after(LONG, || ()).link(|_| ());
            })
            .join()
            .unwrap();
            // Unstarted closures are dropped; a suspended stack is left as it is (in mode 1).
            let left = std::sync::Arc::strong_count(&dropped) - 1;
            assert_eq!(left, usize::from(mode == 1), "mode {mode}");
        }
    });
}

#[test]
fn destructors_of_thread_locals_that_block_or_spawn_do_no_harm() {
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            let _ = catch_unwind(|| sleep(SHORT));
            let _ = catch_unwind(|| Event::<()>::new().wait_timeout(SHORT));
            let _ = catch_unwind(|| drop(spawn(|| ())));
            let _ = catch_unwind(|| with_timeout(SHORT, || ()));
        }
    }
    guarded(|| {
        thread_local!(static FIRST: Late = const { Late });
        thread_local!(static LAST: Late = const { Late });
        for implicit in [true, false] {
            std::thread::spawn(move || {
                FIRST.with(|_| ());
                spawn(|| sleep(LONG));
                if implicit {
                    yield_now();
                }
                LAST.with(|_| ());
            })
            .join()
            .unwrap();
        }
    });
}

// HB-26, HBC-30: in a process of its own
#[test]
fn main_may_return_with_parked_green_threads() {
    if std::env::var_os("TWISTLET_CHILD").is_some() {
        struct Loud;
        impl Drop for Loud {
            fn drop(&mut self) {
                println!("a destructor ran");
            }
        }
        let loud = Loud;
        drop(spawn(move || {
            let _loud = loud;
            sleep(LONG);
        }));
        drop(spawn(|| println!("one ran")));
        yield_now();
        drop(spawn(|| println!("never")));
        println!("returning");
        std::process::exit(0);
    }
    guarded(|| {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["main_may_return_with_parked_green_threads", "--exact", "--nocapture"])
            .env("TWISTLET_CHILD", "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout).into_owned();
        assert!(child.status.success(), "{said}{}", String::from_utf8_lossy(&child.stderr));
        assert!(said.contains("one ran") && said.contains("returning"), "{said}");
        assert!(!said.contains("never") && !said.contains("destructor"), "{said}");
    });
}

// ---- raw greenlets ----

#[test]
fn a_raw_greenlet_on_top_of_a_green_thread_blocks_as_that_one() {
    joined(|reactor| {
        let (event, trace) = (Event::new(), Trace::new());
        let (waits, noted) = (event.clone(), trace.clone());
        let thread = spawn(move || {
            let raw = Greenlet::new(move |_| {
                sleep(SHORT);
                let value: u32 = waits.wait()?;
                yield_now();
                Ok(Box::new(value + block_on(Reactor::current().defer_to_thread(|| Ok(1)))?))
            });
            noted.note("begin");
            let value = raw.switch(())?;
            Ok(*value.downcast::<u32>().unwrap())
        });
        spawn(move || {
            sleep(SHORT * 2);
            event.send(41);
            assert_eq!(thread.wait()?, 42);
            assert_eq!(trace.take(), ["begin"]);
            reactor.stop()
        });
    });
}

#[test]
fn a_raw_greenlet_on_top_of_main_blocks_as_main() {
    guarded(|| {
        for _ in 0..2 {
            let raw = Greenlet::new(|_| {
                sleep(SHORT);
                Ok(Box::new(spawn(|| Ok(6)).wait()?))
            });
            assert_eq!(*raw.switch(()).unwrap().downcast::<i32>().unwrap(), 6);
            sleep(SHORT);
        }
        // It is the raw one that goes on when the loop ends.
        let raw = Greenlet::new(|_| {
            Reactor::current().call_later(SHORT, || Reactor::current().stop());
            Ok(Box::new(Event::<()>::new().wait().unwrap_err()))
        });
        let failure = *raw.switch(()).unwrap().downcast::<twistlet::Failure>().unwrap();
        assert_eq!(failure.check(), Some(&ReactorError::Stopped));
    });
}

#[test]
fn a_kill_goes_through_a_raw_greenlet_into_its_green_thread() {
    guarded(|| {
        let trace = Trace::new();
        let (inner, outer, noted) = (trace.on_drop("raw"), trace.on_drop("green"), trace.clone());
        let victim = spawn(move || {
            let _outer = outer;
            let raw = Greenlet::new(move |_| {
                let _inner = inner;
                sleep(LONG);
                Ok(Box::new(()))
            });
            noted.note(format!("{}", raw.switch(()).is_err()));
            sleep(LONG);
            Ok(())
        });
        yield_now();
        victim.kill();
        assert!(victim.wait().unwrap_err().is::<Killed>());
        assert_eq!(trace.take(), ["raw", "true", "green"]);
    });
}

#[test]
fn a_deadline_of_a_green_thread_reaches_a_raw_greenlet_on_top_of_it() {
    guarded(|| {
        let late = with_timeout(SHORT, || {
            let raw = Greenlet::new(|_| {
                sleep(LONG);
                Ok(Box::new(()))
            });
            assert!(raw.switch(()).is_err());
            sleep(LONG);
        });
        assert!(late.is_err());
    });
}

#[test]
fn closing_from_a_raw_greenlet_on_main_returns_to_it() {
    guarded(|| {
        let thread = spawn(|| sleep(LONG));
        yield_now();
        let raw = Greenlet::new(|_| {
            Reactor::current().close();
            Ok(Box::new("closed"))
        });
        assert_eq!(*raw.switch(()).unwrap().downcast::<&str>().unwrap(), "closed");
        assert!(thread.wait().unwrap_err().is::<Killed>());
    });
}

// A green thread parked in the hub cannot be disturbed by public switches
#[test]
fn a_parked_green_thread_is_not_woken_by_hand() {
    guarded(|| {
        let handle = Rc::new(RefCell::new(None));
        let slot = handle.clone();
        let thread = spawn(move || {
            *slot.borrow_mut() = Some(Greenlet::current());
            sleep(SHORT);
            Ok("in time")
        });
        yield_now();
        let greenlet = handle.borrow_mut().take().unwrap();
        assert!(greenlet.switch(()).is_err());
        assert!(greenlet.kill().is_err());
        assert_eq!(thread.wait().unwrap(), "in time");
    });
}

// ---- the loop ----

// R2, HB-16
#[test]
fn panics_of_callbacks_and_green_threads_do_not_end_the_loop() {
    joined(|reactor| {
        reactor.call_soon(|| -> () { panic!("a test's 1") });
        reactor.call_later(Duration::ZERO, || -> () { panic!("a test's 2") });
        drop(spawn(|| -> () { panic!("a test's 3") }));
        spawn(move || {
            sleep(SHORT);
            let mut log = logged();
            log.sort();
            assert_eq!(log.len(), 3, "{log:?}");
            reactor.stop()
        });
    });
}

// No thread that panics is seen by others (RS-09)
#[test]
fn nobody_sees_a_thread_that_panics() {
    struct Checks;
    impl Drop for Checks {
        fn drop(&mut self) {
            assert!(std::thread::panicking());
            yield_now();
            sleep(LONG);
        }
    }
    guarded(|| {
        let watching = spawn(|| {
            for _ in 0..50 {
                assert!(!std::thread::panicking());
                yield_now();
            }
            Ok(())
        });
        for n in 0..10 {
            let thread = spawn(move || {
                let _checks = Checks;
                yield_now();
                assert!(n % 2 == 0, "a test's");
                sleep(LONG);
            });
            yield_now();
            thread.kill();
            assert!(thread.wait().is_err());
        }
        watching.wait().unwrap();
        let poisoned = catch_unwind(AssertUnwindSafe(|| sleep(SHORT)));
        assert!(poisoned.is_ok());
    });
}
