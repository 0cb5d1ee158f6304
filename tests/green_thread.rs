//! Green threads as such, `block_on`, and the two modes of the hub: who starts the loop, what its end does to whom.
#![cfg(feature = "green")]
mod guard;

use guard::{Trace, guarded, in_callback, joined, logged, panic_of};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use twistlet::error::{Killed, ReactorError};
use twistlet::green::{Event, block_on, defer_to_green_thread, sleep, spawn, spawn_after, yield_now};
use twistlet::{Cancelled, Deferred, Failure, Reactor};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(5);

fn turns() -> u64 {
    Reactor::current().statistics().turns
}

// TWC-03, TWC-04, TW-02
#[test]
fn block_on_a_fired_deferred_gives_its_outcome_without_waiting() {
    guarded(|| {
        let before = turns();
        assert_eq!(block_on(Deferred::succeed(7)).unwrap(), 7);
        let failure = block_on(Deferred::<()>::fail(Failure::msg("no"))).unwrap_err();
        assert_eq!(failure.to_string(), "no");
        assert_eq!(turns(), before);
    });
}

// TWC-14, SL-08
#[test]
fn block_on_a_fired_deferred_works_in_the_main_loop() {
    assert_eq!(in_callback(|| block_on(Deferred::succeed(7)).unwrap()), 7);
}

// TWC-05, HB-09
#[test]
fn a_green_thread_blocks_on_a_deferred_while_main_sleeps() {
    guarded(|| {
        let slow = || {
            let (promise, deferred) = Deferred::new();
            Reactor::current().call_later(SHORT, move || promise.callback("value"));
            deferred
        };
        let thread = spawn(move || block_on(slow()));
        sleep(SHORT * 4);
        assert!(thread.is_finished());
        assert_eq!(thread.wait().unwrap(), "value");
    });
}

// TWC-06, HB-08
#[test]
fn a_green_thread_spawned_before_run_gets_its_result_from_the_users_loop() {
    joined(|reactor| {
        let (promise, deferred) = Deferred::new();
        spawn(move || {
            assert_eq!(block_on(deferred)?, "value");
            reactor.stop()
        });
        reactor.call_later(SHORT, move || promise.callback("value"));
    });
}

// TWC-11, TW-09
#[test]
fn who_fires_a_deferred_that_another_green_thread_blocks_on_goes_on() {
    guarded(|| {
        let trace = Trace::new();
        let (promise, deferred) = Deferred::new();
        let (a, b) = (trace.clone(), trace.clone());
        let waits = spawn(move || {
            let value = block_on(deferred)?;
            a.note(format!("a got {value}"));
            Ok(())
        });
        let fires = spawn(move || {
            promise.callback(1);
            b.note("b goes on");
            yield_now();
            b.note("b ends");
        });
        waits.wait().unwrap();
        fires.wait().unwrap();
        assert_eq!(trace.take(), ["b goes on", "a got 1", "b ends"]);
    });
}

// D2, D3
#[test]
fn block_on_takes_and_cancels_or_borrows_and_leaves_alone() {
    guarded(|| {
        let cancelled = Rc::new(Cell::new(0));
        let make = || {
            let (promise, deferred) = Deferred::<i32>::new();
            let count = cancelled.clone();
            promise.on_cancel(move || count.set(count.get() + 1));
            (promise, deferred)
        };
        let (_promise, deferred) = make();
        let takes = spawn(move || block_on(deferred));
        let (promise, mut deferred) = make();
        let borrows = spawn(move || {
            let killed = twistlet::green::with_timeout(SHORT, || block_on(&mut deferred).copied());
            assert!(killed.is_err());
            Ok(deferred)
        });
        yield_now();
        takes.kill();
        assert!(takes.wait().unwrap_err().is::<Killed>());
        assert_eq!(cancelled.get(), 1);
        let mut deferred = borrows.wait().unwrap();
        assert_eq!(cancelled.get(), 1);
        promise.callback(5);
        assert_eq!(*block_on(&mut deferred).unwrap(), 5);
        assert_eq!(*block_on(&mut deferred).unwrap(), 5);
    });
}

// TWC-44, TW-57
#[test]
fn block_on_cancels_its_deferred_also_when_the_kill_came_first() {
    guarded(|| {
        let outcome = Rc::new(RefCell::new(None));
        let (promise, deferred) = Deferred::<()>::new();
        let seen = outcome.clone();
        let deferred = deferred.add_errback(move |failure| {
            *seen.borrow_mut() = Some(failure.clone());
            Err(failure)
        });
        let thread = spawn(move || {
            twistlet::green::with_timeout(Duration::ZERO, || block_on(deferred)).map(drop).map_err(Failure::from)
        });
        assert!(thread.wait().is_err());
        let outcome = outcome.take().expect("the Deferred is told");
        assert!(outcome.is::<Cancelled>(), "{outcome:?}");
        assert!(promise.is_cancelled());
        assert!(logged().is_empty());
    });
}

// TWC-12, TW-11
#[test]
fn deferring_to_a_green_thread_gives_the_value_or_the_failure() {
    guarded(|| {
        let divide = |a: i32, b: i32| a.checked_div(b).ok_or_else(|| Failure::msg("division by zero"));
        assert_eq!(block_on(defer_to_green_thread(|| Ok(2 + 3))).unwrap(), 5);
        assert_eq!(block_on(defer_to_green_thread(move || divide(1, 0))).unwrap_err().to_string(), "division by zero");
    });
}

// TWC-13, TW-12
#[test]
fn callbacks_of_a_deferred_green_thread_may_sleep() {
    joined(|reactor| {
        defer_to_green_thread(|| Ok(1))
            .add_callback(|n| {
                sleep(SHORT);
                Ok(n + 1)
            })
            .add_both(move |outcome| {
                assert_eq!(outcome.unwrap(), 2);
                reactor.stop()
            });
    });
}

// TWC-45, HB-23
#[test]
fn a_stop_ends_mains_waits_in_implicit_mode() {
    guarded(|| {
        let reactor = Reactor::current();
        reactor.call_later(SHORT, move || reactor.stop());
        let event = Event::<()>::new();
        let begun = Instant::now();
        let stopped = event.wait().unwrap_err();
        assert!(matches!(stopped.check(), Some(ReactorError::Stopped)), "{stopped:?}");
        assert!(matches!(event.wait().unwrap_err().check(), Some(ReactorError::Stopped)));
        // A wait without an error channel would be one for ever.
        assert!(panic_of(|| sleep(LONG)).contains("would never end"));
        assert!(begun.elapsed() < LONG);
    });
}

// GTC-01
#[test]
fn a_green_thread_runs_once_and_gives_its_value() {
    guarded(|| {
        let runs = Rc::new(Cell::new(0));
        let counted = runs.clone();
        let thread = spawn(move || {
            counted.set(counted.get() + 1);
            Ok(6 * 7)
        });
        assert_eq!(runs.get(), 0, "it starts in a later turn");
        assert_eq!(thread.wait().unwrap(), 42);
        assert_eq!(runs.get(), 1);
    });
}

// GTC-04, GTC-05, GTC-06
#[test]
fn links_are_told_of_the_end_once_at_once_when_it_is_past_and_also_those_made_by_links() {
    guarded(|| {
        let trace = Trace::new();
        let thread = Rc::new(spawn(|| Ok(1)));
        let (first, second, again) = (trace.clone(), trace.clone(), thread.clone());
        thread.link(move |outcome| {
            first.note(format!("first: {}", outcome.unwrap()));
            again.link(move |outcome| second.note(format!("made by a link: {}", outcome.unwrap())));
        });
        while !thread.is_finished() {
            yield_now();
        }
        assert_eq!(trace.take(), ["first: 1", "made by a link: 1"]);
        let late = trace.clone();
        thread.link(move |outcome| late.note(format!("late: {}", outcome.unwrap())));
        assert_eq!(trace.take(), ["late: 1"]);
    });
}

// GTC-07, GTC-11
#[test]
fn a_delayed_green_thread_runs_after_its_delay() {
    guarded(|| {
        let begun = Instant::now();
        let thread = spawn_after(SHORT, move || Ok(begun.elapsed()));
        assert!(thread.wait().unwrap() >= SHORT);
    });
}

// GTC-13
#[test]
fn a_child_outlives_its_parent() {
    guarded(|| {
        let done = Event::new();
        let told = done.clone();
        spawn(move || drop(spawn(move || told.send("the child ran"))));
        assert_eq!(done.wait().unwrap(), "the child ran");
    });
}

// HBC-28, HB-19
#[test]
fn after_a_crash_the_next_wait_starts_another_loop_and_earlier_timers_still_fire() {
    guarded(|| {
        let reactor = Reactor::current();
        let fired = Rc::new(Cell::new(false));
        let mark = fired.clone();
        reactor.call_later(SHORT * 2, move || mark.set(true));
        spawn(move || reactor.crash());
        assert!(Event::<()>::new().wait().is_err());
        assert!(!fired.get());
        sleep(SHORT * 4);
        assert!(fired.get());
    });
}

// HBC-11, HB-20
#[test]
fn a_green_thread_of_a_crashed_loop_ends_into_the_next_one() {
    guarded(|| {
        let reactor = Reactor::current();
        let trace = Trace::new();
        let noted = trace.clone();
        let thread = spawn(move || {
            sleep(SHORT);
            noted.note("it ends");
        });
        yield_now();
        reactor.call_soon(move || reactor.crash());
        assert!(Event::<()>::new().wait().is_err());
        thread.wait().unwrap();
        trace.note("main goes on");
        assert_eq!(trace.take(), ["it ends", "main goes on"]);
    });
}

// HBC-29, HB-24, G7
#[test]
fn a_green_thread_that_stops_the_reactor_and_waits_is_unwound_before_run_returns() {
    let trace = guarded(|| {
        let reactor = Reactor::new().unwrap();
        twistlet::green::join_reactor(&reactor).unwrap();
        let trace = Trace::new();
        let noted = trace.clone();
        spawn(move || {
            let _noted = noted.on_drop("unwound");
            reactor.stop()?;
            sleep(LONG);
            noted.note("never");
            Ok::<(), Failure>(())
        });
        reactor.run().unwrap();
        trace.note("run returned");
        trace.take()
    });
    assert_eq!(trace, ["unwound", "run returned"]);
}

// HBC-30, HB-26, S5
#[test]
fn when_a_thread_ends_its_green_threads_neither_go_on_nor_begin() {
    struct Count(Arc<AtomicU32>);
    impl Drop for Count {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let (unwound, begun, forgotten) = (Arc::default(), Arc::<AtomicU32>::default(), Arc::default());
    let (in_wait, in_body, in_closure) = (Count(Arc::clone(&unwound)), begun.clone(), Count(Arc::clone(&forgotten)));
    guarded(move || {
        spawn(move || {
            let _in_wait = in_wait;
            sleep(LONG);
        });
        yield_now();
        spawn(move || {
            let _in_closure = in_closure;
            in_body.fetch_add(1, Ordering::SeqCst);
        });
    });
    assert_eq!(
        unwound.load(Ordering::SeqCst),
        0,
        "a suspended stack is leaked, not unwound among destroyed thread-locals"
    );
    assert_eq!(begun.load(Ordering::SeqCst), 0);
    assert_eq!(forgotten.load(Ordering::SeqCst), 1, "a closure that never ran is dropped");
}
