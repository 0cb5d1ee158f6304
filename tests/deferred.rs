//! One Deferred: handlers, chaining, pausing, cancelling, who sees a failure.
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use twistlet::deferred::{Canceller, maybe_deferred};
use twistlet::error::{PromiseDropped, WaitsForItself};
use twistlet::failure::on_unobserved_failure;
use twistlet::{Cancelled, Deferred, Failure, Promise, Result};

/// What happened, in order.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<Vec<String>>>);
impl Log {
    fn add(&self, text: impl ToString) {
        self.0.borrow_mut().push(text.to_string());
    }
    fn take(&self) -> Vec<String> {
        self.0.take()
    }
}
/// The failures nobody observed on this thread from now on.
fn unobserved() -> Log {
    let log = Log::default();
    let list = log.clone();
    on_unobserved_failure(move |_, failure| list.add(failure));
    log
}
fn value<T: 'static>(mut deferred: Deferred<T>) -> T {
    assert!(deferred.is_fired(), "{deferred:?}");
    deferred.try_take().unwrap().unwrap()
}
fn failure<T: 'static>(deferred: Deferred<T>) -> Failure {
    deferred.try_take().ok().and_then(Result::err).expect("a failure")
}

#[test]
fn a_callback_runs_once_with_the_value() {
    // D01
    let (log, (promise, deferred)) = (Log::default(), Deferred::new());
    let (seen, not_seen) = (log.clone(), log.clone());
    deferred.add_callbacks(move |text: &str| seen.add(text), move |failure| not_seen.add(failure));
    promise.callback("hello");
    assert_eq!(log.take(), ["hello"]);
}

#[test]
fn the_second_callback_gets_what_the_first_returned() {
    // D02
    let (promise, deferred) = Deferred::new();
    let deferred = deferred.add_callback(|n: u32| Ok(n + 1)).add_callback(|n| Ok(n.to_string()));
    promise.callback(1);
    assert_eq!(value(deferred), "2");
}

#[test]
fn an_error_of_a_callback_goes_to_the_next_errback() {
    // D04, DEF-8
    let (promise, deferred) = Deferred::new();
    let log = Log::default();
    let (own, next) = (log.clone(), log.clone());
    deferred
        .add_callbacks(
            |(): ()| Ok("x".parse::<u8>()?),
            move |failure| {
                own.add("own errback");
                Err(failure)
            },
        )
        .add_errback(move |failure| {
            next.add(failure.is::<std::num::ParseIntError>());
            Ok(0)
        });
    promise.callback(());
    assert_eq!(log.take(), ["true"]);
}

#[test]
fn a_failure_skips_callbacks_and_stays_the_same() {
    // DX01
    let failed = Failure::msg("no");
    let expected = failed.clone();
    let twice = |calls: Rc<Cell<u32>>, failed: Failure| {
        move |()| -> Result {
            calls.set(calls.get() + 1);
            Err(failed)
        }
    };
    let calls = Rc::new(Cell::new(0));
    let deferred = Deferred::succeed(())
        .add_callback(twice(calls.clone(), failed.clone()))
        .add_callback(twice(calls.clone(), failed));
    assert_eq!((calls.get(), failure(deferred)), (1, expected));
}

#[test]
fn a_fired_one_is_as_one_that_was_made_fired() {
    // DX02, DEF-44
    let (promise, mut fired) = Deferred::new();
    promise.callback(7);
    let mut made = Deferred::succeed(7);
    assert_eq!(fired.result(), made.result());
    assert_eq!(value(fired.add_callback(|n| Ok(n + 1))), value(made.add_callback(|n| Ok(n + 1))));
    let (promise, fired) = Deferred::<()>::new();
    promise.errback(Cancelled);
    assert!(failure(fired).is::<Cancelled>() && failure(Deferred::<()>::fail(Cancelled)).is::<Cancelled>());
}

#[test]
fn adding_to_a_fired_one_runs_at_once() {
    // DEF-9
    let log = Log::default();
    let seen = log.clone();
    let deferred = Deferred::succeed(1).add_callback(move |n| seen.add(n));
    assert_eq!(log.take(), ["1"]);
    drop(deferred);
}

#[test]
fn a_handler_added_by_a_running_one_waits_for_its_return() {
    // D14, D15
    let log = Log::default();
    let (promise, deferred) = Deferred::<()>::new();
    let slot = Rc::new(RefCell::new(None::<Deferred<()>>));
    let (inner, outer_log) = (slot.clone(), log.clone());
    let deferred = deferred.add_callback(move |()| {
        let this = inner.take().unwrap();
        let added = outer_log.clone();
        let this = this.add_callback(move |()| -> Result {
            added.add("added");
            Err(Failure::msg("later"))
        });
        let seen = outer_log.clone();
        this.add_errback(move |failure| {
            seen.add(failure);
            Ok(())
        });
        outer_log.add("returning");
    });
    slot.replace(Some(deferred));
    promise.callback(());
    assert_eq!(log.take(), ["returning", "added", "later"]);
}

#[test]
fn handlers_wait_for_all_handlers_of_a_returned_deferred() {
    // D12, DEF-13
    let log = Log::default();
    let (promise, outer) = Deferred::<()>::new();
    let (inner_promise, inner) = Deferred::<u32>::new();
    let (first, last) = (log.clone(), log.clone());
    let inner = inner.add_callback(move |n| {
        first.add(format!("inner {n}"));
        Ok(n + 1)
    });
    let outer = outer.add_callback(move |()| inner).add_callback(move |n| last.add(format!("outer {n}")));
    promise.callback(());
    assert!(log.take().is_empty());
    inner_promise.callback(1);
    assert_eq!(log.take(), ["inner 1", "outer 2"]);
    value(outer);
}

#[test]
fn a_deferred_returned_by_an_errback_puts_the_chain_back_on_the_value_track() {
    // DX04
    let (promise, inner) = Deferred::<u32>::new();
    let outer = Deferred::<u32>::fail(Cancelled).add_errback(move |_| inner).add_callback(|n| Ok(n + 1));
    promise.callback(1);
    assert_eq!(value(outer), 2);
}

#[test]
fn an_inner_that_fired_before_is_waited_for_through_the_middle() {
    // D11
    let log = Log::default();
    let (inner_promise, inner) = Deferred::<u32>::new();
    let (middle_promise, middle) = Deferred::<()>::new();
    let (outer_promise, outer) = Deferred::<()>::new();
    let (m, o) = (log.clone(), log.clone());
    let middle = middle.add_callback(move |()| inner).add_callback(move |n| {
        m.add(format!("middle {n}"));
        Ok(n + 1)
    });
    let outer = outer.add_callback(move |()| middle);
    outer_promise.callback(());
    middle_promise.callback(());
    inner_promise.callback(1);
    assert_eq!(log.take(), ["middle 1"]);
    outer.add_callback(move |n| o.add(format!("outer {n}")));
    assert_eq!(log.take(), ["outer 2"]);
}

#[test]
fn a_chain_of_three_works_in_any_firing_order() {
    // D21, DEF-15
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let (a, first) = Deferred::<u32>::new();
        let (b, second) = Deferred::<u32>::new();
        let (c, third) = Deferred::<u32>::new();
        let second = second.add_callback(move |n| third.add_callback(move |m| Ok(n * 10 + m)));
        let mut all = first.add_callback(move |n| second.add_callback(move |m| Ok(n * 100 + m)));
        let mut promises = [Some(a), Some(b), Some(c)];
        for (step, index) in order.into_iter().enumerate() {
            assert!(all.result().is_none(), "{order:?} before {step}");
            promises[index].take().unwrap().callback(index as u32 + 1);
        }
        assert_eq!(value(all), 123, "{order:?}");
    }
}

#[test]
fn an_already_failed_deferred_that_is_returned_logs_nothing() {
    // D18, D37, DEF-12
    let log = unobserved();
    let outer = Deferred::succeed(()).add_callback(|()| Deferred::<()>::fail(Failure::msg("inner")));
    assert_eq!(failure(outer).to_string(), "inner");
    let (promise, outer) = Deferred::succeed(()).add_callback(|()| Ok(())).fork_pending();
    let outer = outer.add_callback(|()| Deferred::<()>::fail(Failure::msg("inner")));
    promise.callback(());
    outer.add_errback(|_| Ok(()));
    assert!(log.take().is_empty());
}
trait ForkPending {
    fn fork_pending(self) -> (Promise<()>, Deferred<()>);
}
impl ForkPending for Deferred<()> {
    fn fork_pending(self) -> (Promise<()>, Deferred<()>) {
        let (promise, deferred) = Deferred::new();
        (promise, self.add_callback(move |()| deferred))
    }
}

#[test]
fn an_errback_that_returns_a_pending_deferred_has_handled_the_failure() {
    // D38
    let log = unobserved();
    let (_promise, pending) = Deferred::<()>::new();
    drop(Deferred::<()>::fail(Failure::msg("first")).add_errback(move |_| pending));
    assert!(log.take().is_empty());
}

#[test]
fn a_failure_is_reported_once_when_the_last_that_could_handle_it_goes() {
    // DEF-39
    let log = unobserved();
    let deferred = Deferred::<()>::fail(Failure::msg("made failed"));
    assert!(log.take().is_empty());
    drop(deferred);
    assert_eq!(log.take(), ["made failed"]);
    // The handle goes first.
    let (promise, deferred) = Deferred::<()>::new();
    drop(deferred.add_callback(|()| ()));
    promise.errback(Failure::msg("late"));
    assert_eq!(log.take(), ["late"]);
    // The failure comes first.
    let (promise, deferred) = Deferred::<()>::new();
    let deferred = deferred.add_callback(|()| ());
    promise.errback(Failure::msg("early"));
    assert!(log.take().is_empty());
    drop(deferred);
    assert_eq!(log.take(), ["early"]);
    // Passing it on by an errback is not handling it: DEF-42.
    drop(Deferred::<()>::fail(Failure::msg("again")).add_errback(Err));
    assert_eq!(log.take(), ["again"]);
}

#[test]
fn a_failure_with_two_owners_is_reported_once() {
    let log = unobserved();
    let (promise, deferred) = Deferred::<()>::new();
    let (left, right) = deferred.fork();
    promise.errback(Failure::msg("both"));
    drop((left, right));
    assert_eq!(log.take(), ["both"]);
}

#[test]
fn a_failure_that_was_shown_or_taken_is_handled() {
    // DEF-41, D12 of the design
    let log = unobserved();
    let mut deferred = Deferred::<()>::fail(Failure::msg("shown"));
    assert!(deferred.result().is_some_and(|outcome| outcome.is_err()));
    drop(deferred);
    assert!(Deferred::<()>::fail(Failure::msg("taken")).try_take().is_ok());
    drop(Deferred::<()>::fail(Cancelled));
    assert!(log.take().is_empty());
    let mut deferred = Deferred::<()>::fail(Failure::msg("observed only"));
    deferred.observe(|_| {});
    drop(deferred);
    assert_eq!(log.take(), ["observed only"]);
}

#[test]
fn a_dropped_promise_is_a_failure_for_whoever_waits() {
    let log = unobserved();
    let (promise, deferred) = Deferred::<()>::new();
    let line = line!() - 1;
    drop(promise);
    let failed = failure(deferred);
    assert!(failed.is::<PromiseDropped>());
    assert_eq!((failed.origin().file(), failed.origin().line()), (file!(), line));
    let (promise, deferred) = Deferred::<()>::new();
    drop(deferred);
    drop(promise);
    assert!(log.take().is_empty(), "nobody waited");
}

#[test]
fn a_panic_in_a_handler_is_a_failure() {
    // DEF-7
    std::panic::set_hook(Box::new(|_| {}));
    let deferred = Deferred::succeed(1).add_callback(|_| -> Result<u32> { panic!("oh") });
    let (promise, pending) = Deferred::<u32>::new();
    let pending = pending.add_callback(|_| -> Result<u32> { panic!("oh") });
    promise.callback(1);
    let _ = std::panic::take_hook();
    for deferred in [deferred, pending] {
        let failed = failure(deferred);
        assert!(failed.is_panic());
        assert_eq!(failed.to_string(), "panicked: oh");
    }
}

#[test]
fn a_deferred_returned_from_its_own_callback_is_detected() {
    // DEF-18
    let slot = Rc::new(RefCell::new(None::<Deferred<u8>>));
    let own = slot.clone();
    let (promise, deferred) = Deferred::<u8>::new();
    let seen = Log::default();
    let log = seen.clone();
    let mut deferred = deferred.add_callback(move |_| own.take().unwrap());
    deferred.observe(move |outcome| log.add(outcome.is_err_and(|failure| failure.is::<WaitsForItself>())));
    let deferred = deferred.add_callback(|n| Ok(n + 1)).add_callback(Ok);
    slot.replace(Some(deferred));
    let log = unobserved();
    promise.callback(1);
    assert_eq!(seen.take(), ["true"]);
    assert_eq!(log.take(), [WaitsForItself.to_string()]);
    // The link itself, and a promise.
    let slot = Rc::new(RefCell::new(None::<Deferred<u8>>));
    let own = slot.clone();
    let (promise, deferred) = Deferred::<u8>::new();
    slot.replace(Some(deferred.add_callback(move |_| own.take().unwrap())));
    promise.callback(1);
    let (promise, deferred) = Deferred::<u8>::new();
    promise.resolve(deferred.add_callback(Ok));
}

#[test]
fn a_promise_resolves_with_another_deferred() {
    // DEF-17, DX06
    let (a, first) = Deferred::<u8>::new();
    let (b, second) = Deferred::<u8>::new();
    let first = first.add_callback(|n| Ok(n + 1));
    a.resolve(second);
    b.callback(1);
    assert_eq!(value(first), 2);
    let (a, first) = Deferred::<u8>::new();
    a.resolve(Ok(3));
    assert_eq!(value(first), 3);
}

#[test]
fn a_paused_deferred_keeps_its_value_until_the_guard_goes() {
    // DEF-21, DEF-22, DEF-23 (guards cannot be dropped too often)
    let log = Log::default();
    let (promise, deferred) = Deferred::<u32>::new();
    let seen = log.clone();
    let mut deferred = deferred.add_callback(move |n| {
        seen.add(n);
        Ok(n)
    });
    let (one, two) = (deferred.pause(), deferred.pause());
    promise.callback(1);
    assert!(log.take().is_empty() && deferred.result().is_none());
    drop(one);
    assert!(log.take().is_empty());
    drop(two);
    assert_eq!(log.take(), ["1"]);
    let pause = deferred.pause();
    let seen = log.clone();
    let deferred = deferred.add_callback(move |n| seen.add(n + 1));
    assert!(log.take().is_empty());
    drop(pause);
    assert_eq!(log.take(), ["2"]);
    drop(deferred);
}

#[test]
fn a_paused_inner_that_has_fired_is_waited_for() {
    // D09
    let inner = Deferred::succeed(1);
    let pause = inner.pause();
    let mut outer = Deferred::succeed(()).add_callback(move |()| inner);
    assert!(outer.result().is_none());
    let (promise, pending) = Deferred::<()>::new();
    let mut outer = pending.add_callback(move |()| outer).add_callback(|n| Ok(n + 1));
    promise.callback(());
    assert!(outer.result().is_none());
    drop(pause);
    assert_eq!(value(outer), 2);
}

#[test]
fn pausing_the_outer_lets_the_inner_run_to_its_end() {
    // D10, DEF-20: the inner was given away, so nobody can add to it any more
    let log = Log::default();
    let (inner_promise, inner) = Deferred::<u32>::new();
    let (promise, outer) = Deferred::<()>::new();
    let (in_log, out_log) = (log.clone(), log.clone());
    let inner = inner.add_callback(move |n| {
        in_log.add("inner");
        Ok(n)
    });
    let outer = outer.add_callback(move |()| inner).add_callback(move |n| {
        out_log.add("outer");
        Ok(n)
    });
    promise.callback(());
    let pause = outer.pause();
    inner_promise.callback(5);
    assert_eq!(log.take(), ["inner"]);
    drop(pause);
    assert_eq!(log.take(), ["outer"]);
    assert_eq!(value(outer), 5);
}

#[test]
fn pausing_from_inside_a_handler_stops_the_next_one() {
    let slot = Rc::new(RefCell::new(None::<Deferred<()>>));
    let guard = Rc::new(RefCell::new(None));
    let (inner, keep) = (slot.clone(), guard.clone());
    let (promise, deferred) = Deferred::<()>::new();
    let log = Log::default();
    let next = log.clone();
    let deferred =
        deferred.add_callback(move |()| drop(keep.replace(inner.borrow().as_ref().map(|deferred| deferred.pause()))));
    slot.replace(Some(deferred.add_callback(move |()| next.add("next"))));
    promise.callback(());
    assert!(log.take().is_empty());
    guard.take();
    assert_eq!(log.take(), ["next"]);
}

#[test]
fn cancelling_without_on_cancel_fails_with_cancelled_and_swallows_the_late_value() {
    // D27, D28, DX10, D25 (a second fire does not compile)
    let (promise, deferred) = Deferred::<u8>::new();
    let deferred = deferred.add_callback(Ok);
    deferred.cancel();
    assert!(promise.is_cancelled());
    promise.callback(1);
    assert!(failure(deferred).is::<Cancelled>());
    let (promise, deferred) = Deferred::<u8>::new();
    deferred.cancel();
    let log = unobserved();
    promise.errback(Failure::msg("late"));
    assert!(failure(deferred).is::<Cancelled>());
    assert!(log.take().is_empty());
    let (promise, deferred) = Deferred::<u8>::new();
    deferred.cancel();
    let (other, late) = Deferred::<u8>::new();
    promise.resolve(late);
    assert!(other.is_cancelled());
    drop(deferred);
}

#[test]
fn on_cancel_runs_once_and_the_outcome_is_one_cancelled() {
    // D30, DEF-24
    let (promise, deferred) = Deferred::<u8>::new();
    let log = Log::default();
    let (calls, errors) = (log.clone(), log.clone());
    promise.on_cancel(move || calls.add("on_cancel"));
    let canceller = deferred.canceller();
    let deferred = deferred.add_errback(move |failure| {
        errors.add(failure.is::<Cancelled>());
        Err(failure)
    });
    canceller.cancel();
    canceller.cancel();
    deferred.cancel();
    assert_eq!(log.take(), ["on_cancel", "true"]);
    let late = log.clone();
    promise.on_cancel(move || late.add("at once"));
    assert_eq!(log.take(), ["at once"]);
}

#[test]
fn an_on_cancel_that_fires_decides_the_outcome() {
    // D33, D34
    for fails in [false, true] {
        let (promise, deferred) = Deferred::<u8>::new();
        let slot = Rc::new(RefCell::new(None));
        let own = slot.clone();
        promise.on_cancel(move || {
            let promise: Promise<u8> = own.take().unwrap();
            if fails { promise.errback(Failure::msg("mine")) } else { promise.callback(5) }
        });
        slot.replace(Some(promise));
        let deferred = deferred.add_callback(|n| Ok(n + 1));
        deferred.cancel();
        if fails { assert_eq!(failure(deferred).to_string(), "mine") } else { assert_eq!(value(deferred), 6) }
    }
}

#[test]
fn cancelling_after_the_outcome_does_nothing() {
    // DX11, DEF-28, DEF-32
    let (promise, deferred) = Deferred::<u8>::new();
    let witness = Rc::new(());
    let held = witness.clone();
    promise.on_cancel(move || drop(held));
    assert_eq!(Rc::strong_count(&witness), 2);
    promise.errback(Failure::msg("E"));
    assert_eq!(Rc::strong_count(&witness), 1);
    deferred.cancel();
    assert_eq!(failure(deferred).to_string(), "E");
    let canceller = Deferred::succeed(1).canceller();
    canceller.cancel();
}

#[test]
fn cancelling_from_inside_a_handler_does_nothing() {
    // DEF-28
    let (promise, deferred) = Deferred::<u8>::new();
    let slot = Rc::new(RefCell::new(None::<Canceller>));
    let own = slot.clone();
    let deferred = deferred.add_callback(move |n| {
        own.borrow().as_ref().unwrap().cancel();
        Ok(n)
    });
    slot.replace(Some(deferred.canceller()));
    promise.callback(1);
    assert_eq!(value(deferred), 1);
}

#[test]
fn cancelling_is_forwarded_to_the_deferred_waited_for() {
    // DEF-27, DEF-31, D60
    let (promise, outer) = Deferred::<()>::new();
    let (inner_promise, inner) = Deferred::<u8>::new();
    let (last_promise, last) = Deferred::<u8>::new();
    let inner = inner.add_errback(move |_| last);
    let canceller = outer.canceller();
    let mut outer = outer.add_callback(move |()| inner).add_callback(|n| Ok(n + 1));
    promise.callback(());
    canceller.cancel();
    assert!(inner_promise.is_cancelled() && outer.result().is_none());
    canceller.cancel();
    assert!(last_promise.is_cancelled());
    assert!(failure(outer).is::<Cancelled>());
}

#[test]
fn a_canceller_follows_its_chain_and_no_other() {
    let (promise, first) = Deferred::<u8>::new();
    let of_first = first.canceller();
    let first = first.add_callback(|n| Ok(n + 1));
    let (outer_promise, outer) = Deferred::<()>::new();
    let of_outer = outer.canceller();
    let (last_promise, last) = Deferred::<u8>::new();
    let mut outer = outer.add_callback(move |()| first).add_callback(move |_| last);
    outer_promise.callback(());
    promise.callback(1);
    // `first` has come to its end; the chain it was returned into waits for another.
    of_first.cancel();
    assert!(!last_promise.is_cancelled() && outer.result().is_none());
    of_outer.cancel();
    assert!(last_promise.is_cancelled());
    assert!(failure(outer).is::<Cancelled>());

    // Returned before anybody waits for the outer.
    let (promise, first) = Deferred::<u8>::new();
    let of_first = first.canceller();
    let (outer_promise, outer) = Deferred::<()>::new();
    let of_outer = outer.canceller();
    let outer = outer.add_callback(move |()| first);
    outer_promise.callback(());
    let (last_promise, last) = Deferred::<u8>::new();
    let outer = outer.add_callback(move |_| last);
    promise.callback(1);
    of_first.cancel();
    assert!(!last_promise.is_cancelled());
    of_outer.cancel();
    assert!(last_promise.is_cancelled());
    drop(outer);
}

#[test]
fn a_panicking_on_cancel_is_logged_and_the_deferred_cancelled() {
    // DEF-29, as it should be
    std::panic::set_hook(Box::new(|_| {}));
    let (promise, deferred) = Deferred::<u8>::new();
    promise.on_cancel(|| panic!("in on_cancel"));
    deferred.cancel();
    let _ = std::panic::take_hook();
    assert!(failure(deferred).is::<Cancelled>());
}

#[test]
fn both_owners_of_a_fork_must_cancel() {
    let (promise, deferred) = Deferred::<u8>::new();
    let (left, right) = deferred.fork();
    left.cancel();
    assert!(!promise.is_cancelled());
    assert!(failure(left).is::<Cancelled>());
    right.cancel();
    assert!(promise.is_cancelled());
    let (promise, deferred) = Deferred::<u8>::new();
    let (left, right) = deferred.fork();
    right.cancel();
    promise.callback(1);
    assert_eq!(value(left), 1);
    drop(right);
    let (left, right) = Deferred::succeed("x".to_string()).fork();
    assert_eq!(value(left), value(right));
}

#[test]
fn observe_and_result_leave_the_outcome_where_it_is() {
    let log = Log::default();
    let (promise, mut deferred) = Deferred::new();
    let seen = log.clone();
    deferred.observe(move |outcome: Result<&String, &Failure>| seen.add(outcome.unwrap()));
    assert!(deferred.result().is_none());
    let deferred = deferred.try_take().unwrap_err();
    promise.callback("value".to_string());
    assert_eq!(log.take(), ["value"]);
    assert_eq!(value(deferred), "value");
}

#[test]
fn maybe_deferred_takes_values_errors_panics_and_deferreds() {
    // DX17, DEF-45
    std::panic::set_hook(Box::new(|_| {}));
    let panicked = failure(maybe_deferred(|| -> Result { panic!("x") }));
    let _ = std::panic::take_hook();
    assert!(panicked.is_panic());
    assert!(failure(maybe_deferred(|| Ok("x".parse::<u8>()?))).is::<std::num::ParseIntError>());
    maybe_deferred(|| {}).try_take().unwrap().unwrap();
    let (promise, deferred) = Deferred::<u8>::new();
    let deferred = maybe_deferred(move || deferred);
    promise.callback(1);
    assert_eq!(value(deferred), 1);
}

#[test]
fn handlers_that_never_return_are_handlers() {
    let (_promise, deferred) = Deferred::<u8>::new();
    drop(deferred.add_callback(|_| -> Result { todo!() }));
    let (_promise, deferred) = Deferred::<u8>::new();
    drop(deferred.add_callback(|_| todo!()));
}

#[test]
fn a_deferred_says_what_it_is() {
    let (promise, deferred) = Deferred::<u8>::new();
    assert_eq!(format!("{deferred:?} {promise:?}"), "Deferred<u8>(pending) Promise<u8>(unfired)");
    promise.callback(1);
    assert_eq!(format!("{deferred:?}"), "Deferred<u8>(succeeded)");
    assert_eq!(format!("{:?}", Deferred::<u8>::fail(Cancelled)), "Deferred<u8>(failed)");
}

#[test]
fn awaiting_takes_the_outcome_and_wakes_the_task() {
    // DEF-49, DEF-50
    use std::future::{Future, IntoFuture};
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Context, Poll, Wake, Waker};
    struct Count(AtomicU32);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let count = Arc::new(Count(AtomicU32::new(0)));
    let waker = Waker::from(count.clone());
    let mut context = Context::from_waker(&waker);
    let (promise, deferred) = Deferred::<u8>::new();
    let mut task = pin!(async move {
        let one = Deferred::succeed(1).await?;
        Ok::<u8, Failure>(deferred.await? + one)
    });
    assert!(task.as_mut().poll(&mut context).is_pending());
    assert!(task.as_mut().poll(&mut context).is_pending());
    promise.callback(4);
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    assert_eq!(task.as_mut().poll(&mut context), Poll::Ready(Ok(5)));
    // A dropped future cancels.
    let (promise, deferred) = Deferred::<u8>::new();
    let mut future = Box::pin(deferred.into_future());
    assert!(future.as_mut().poll(&mut context).is_pending());
    drop(future);
    assert!(promise.is_cancelled());
}

#[test]
fn a_failure_that_a_callback_returns_to_the_reactor_is_told_once() {
    std::panic::set_hook(Box::new(|_| {}));
    let log = unobserved();
    let reactor = twistlet::Reactor::new().unwrap();
    let (promise, later) = Deferred::<()>::new();
    reactor.call_soon(|| Err::<(), _>(Failure::msg("at once")));
    reactor.call_soon(|| -> Result { panic!("panic") });
    reactor.call_soon(move || later);
    reactor.call_soon(|| Ok("fine".to_string()));
    reactor.call_soon(|| Deferred::<u8>::fail(Cancelled));
    reactor.call_soon(move || {
        promise.errback(Failure::msg("later"));
        reactor.stop()
    });
    reactor.run().unwrap();
    let _ = std::panic::take_hook();
    assert_eq!(log.take(), ["at once", "panicked: panic", "later"]);
}
