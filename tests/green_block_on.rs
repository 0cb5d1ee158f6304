//! `block_on`: Deferreds as synchronous calls (TW-01 to TW-10, D2, D3).
#![cfg(feature = "green")]
mod guard;
use guard::{Trace, guarded, joined, logged};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use twistlet::error::PromiseDropped;
use twistlet::green::{block_on, sleep, spawn, with_timeout, yield_now};
use twistlet::{Deferred, Failure, Reactor};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(5);

// TWC-03, TWC-04, TW-02
#[test]
fn a_fired_deferred_is_taken_without_a_switch() {
    guarded(|| {
        assert_eq!(block_on(Deferred::succeed(1)).unwrap(), 1);
        let failure = Failure::msg("x");
        // TW-06: the very same failure
        assert_eq!(block_on(Deferred::<()>::fail(failure.clone())).unwrap_err(), failure);
        assert_eq!(Reactor::current().statistics().turns, 0);
    });
}

// TWC-05, HB-09
#[test]
fn in_implicit_mode_main_and_a_green_thread_both_make_progress() {
    guarded(|| {
        let (promise, deferred) = Deferred::new();
        let waiter = spawn(move || block_on(deferred));
        sleep(SHORT);
        promise.callback("fired");
        assert_eq!(waiter.wait().unwrap(), "fired");
    });
}

// TWC-06, HB-08
#[test]
fn in_join_mode_a_green_thread_gets_its_result_while_the_user_runs_the_reactor() {
    joined(|reactor| {
        spawn(move || {
            let sum = block_on(reactor.defer_to_thread(|| Ok(1 + 2)))?;
            assert_eq!(sum, 3);
            reactor.stop()
        });
    });
}

// TW-03
#[test]
fn the_value_is_the_one_at_the_end_of_the_chain() {
    guarded(|| {
        let (promise, deferred) = Deferred::new();
        let (inner, later) = Deferred::new();
        let chain =
            deferred.add_callback(|n: u32| Ok(n + 1)).add_callback(move |n| later.add_callback(move |m| Ok(n * m)));
        Reactor::current().call_later(SHORT, move || promise.callback(1));
        Reactor::current().call_later(SHORT * 2, move || inner.callback(10));
        assert_eq!(block_on(chain).unwrap(), 20);
    });
}

// TWC-11, TW-09
#[test]
fn whoever_fires_from_another_green_thread_runs_on() {
    guarded(|| {
        let trace = Trace::new();
        let (promise, deferred) = Deferred::new();
        let (waits, fires) = (trace.clone(), trace.clone());
        let waiter = spawn(move || {
            waits.note(format!("got {}", block_on(deferred)?));
            Ok(())
        });
        let firer = spawn(move || {
            promise.callback(1);
            fires.note("fired");
            yield_now();
            fires.note("ran on");
        });
        waiter.wait().unwrap();
        firer.wait().unwrap();
        assert_eq!(trace.take(), ["fired", "got 1", "ran on"]);
    });
}

// TW-04, TW-05, D2
#[test]
fn a_lent_deferred_keeps_its_value_or_failure() {
    guarded(|| {
        let (promise, mut deferred) = Deferred::new();
        Reactor::current().call_later(SHORT, move || promise.callback(vec![1, 2]));
        assert_eq!(block_on(&mut deferred).unwrap(), &[1, 2]);
        assert_eq!(block_on(&mut deferred).unwrap(), &[1, 2]);
        assert_eq!(block_on(deferred).unwrap(), [1, 2]);
        let (promise, mut deferred) = Deferred::<()>::new();
        Reactor::current().call_later(SHORT, move || promise.errback(Failure::msg("kept")));
        let first = block_on(&mut deferred).unwrap_err();
        assert_eq!(first.to_string(), "kept");
        assert_eq!(block_on(&mut deferred).unwrap_err(), first);
        assert_eq!(block_on(deferred).unwrap_err(), first);
        assert!(logged().is_empty());
    });
}

fn cancellable() -> (Rc<Cell<bool>>, twistlet::Promise<u32>, Deferred<u32>) {
    let cancelled = Rc::new(Cell::new(false));
    let (promise, deferred) = Deferred::new();
    let flag = cancelled.clone();
    promise.on_cancel(move || flag.set(true));
    (cancelled, promise, deferred)
}

// TW-08, D3
#[test]
fn an_interrupted_wait_cancels_the_deferred_it_took() {
    guarded(|| {
        let (cancelled, promise, deferred) = cancellable();
        assert!(with_timeout(SHORT, || block_on(deferred)).is_err());
        assert!(cancelled.get());
        promise.callback(1);
        let (cancelled, _promise, deferred) = cancellable();
        let killed = spawn(move || block_on(deferred));
        yield_now();
        killed.kill();
        assert!(killed.wait().is_err());
        assert!(cancelled.get());
    });
}

// TW-08, D3
#[test]
fn an_interrupted_wait_leaves_a_lent_deferred_alone() {
    guarded(|| {
        let (cancelled, promise, mut deferred) = cancellable();
        assert!(with_timeout(SHORT, || block_on(&mut deferred).copied()).is_err());
        assert!(!cancelled.get());
        promise.callback(7);
        assert_eq!(block_on(deferred).unwrap(), 7);
        // And a failure that comes later is not swallowed.
        let (_, promise, mut deferred) = cancellable();
        assert!(with_timeout(SHORT, || block_on(&mut deferred).copied()).is_err());
        promise.errback(Failure::msg("later"));
        assert_eq!(block_on(deferred).unwrap_err().to_string(), "later");
    });
}

// In the main loop: nothing to wait for it, so it is given up like an interrupted one
#[test]
fn a_refused_wait_in_the_main_loop_leaves_no_callback_behind() {
    joined(|reactor| {
        reactor.call_later(Duration::ZERO, move || {
            let (promise, mut deferred) = Deferred::new();
            guard::panic_of(|| block_on(&mut deferred).copied());
            promise.callback(1);
            assert_eq!(deferred.try_take().ok().unwrap().unwrap(), 1);
            reactor.stop()
        });
    });
}

#[test]
fn a_promise_that_is_dropped_ends_the_wait() {
    guarded(|| {
        let (promise, deferred) = Deferred::<()>::new();
        Reactor::current().call_later(SHORT, move || drop(promise));
        assert!(block_on(deferred).unwrap_err().is::<PromiseDropped>());
    });
}

// TWC-14 and the like are in main_loop.rs
#[test]
fn block_on_takes_green_threads_too() {
    guarded(|| {
        assert_eq!(block_on(spawn(|| Ok(3))).unwrap(), 3);
        let (_, _, deferred) = cancellable();
        drop(deferred);
        assert!(with_timeout(LONG, || ()).is_ok());
    });
}
