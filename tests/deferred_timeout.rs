//! `Deferred::add_timeout`: whose cancellation becomes `TimedOut`, and when the time stops counting.
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use twistlet::{Cancelled, Deferred, Failure, Promise, Reactor, Result, TimedOut};

const LIMIT: Duration = Duration::from_millis(10);

/// Runs the thread's reactor until well after `LIMIT`: timers run in the order of their deadlines.
fn pass_the_limit(reactor: Reactor) {
    reactor.call_later(LIMIT * 2, move || reactor.stop());
    reactor.run().unwrap();
}
fn outcome<T: 'static>(deferred: Deferred<T>) -> Result<T> {
    deferred.try_take().expect("fired")
}

#[test]
fn nothing_happens_and_it_fails_with_timed_out() {
    // D39, DEF-35
    let reactor = Reactor::new().unwrap();
    let (promise, deferred) = Deferred::<u8>::new();
    let deferred = deferred.add_timeout(LIMIT, &reactor);
    pass_the_limit(reactor);
    assert!(promise.is_cancelled());
    assert_eq!(*outcome(deferred).unwrap_err().trap::<TimedOut>().unwrap(), TimedOut(LIMIT));
}

#[test]
fn an_outcome_in_time_stops_the_clock_for_what_comes_later() {
    // D40, DEF-34
    let reactor = Reactor::new().unwrap();
    let (promise, deferred) = Deferred::<u8>::new();
    let (later_promise, later) = Deferred::<u8>::new();
    let deferred = deferred.add_timeout(LIMIT, &reactor).add_callback(move |_| later);
    let before = reactor.statistics().timers;
    promise.callback(1);
    assert_eq!(reactor.statistics().timers, before - 1);
    pass_the_limit(reactor);
    assert!(!later_promise.is_cancelled());
    later_promise.callback(2);
    assert_eq!(outcome(deferred), Ok(2));
}

#[test]
fn a_producer_that_fires_when_cancelled_decides_the_outcome() {
    // D42, DX13
    for fails in [false, true] {
        let reactor = Reactor::new().unwrap();
        let (promise, deferred) = Deferred::<u8>::new();
        let slot = Rc::new(RefCell::new(None::<Promise<u8>>));
        let own = slot.clone();
        promise.on_cancel(move || {
            let promise = own.take().unwrap();
            if fails { promise.errback(Failure::msg("E")) } else { promise.callback(5) }
        });
        slot.replace(Some(promise));
        let deferred = deferred.add_timeout(LIMIT, &reactor);
        pass_the_limit(reactor);
        match outcome(deferred) {
            Ok(n) => assert!(n == 5 && !fails),
            Err(failure) => assert!(failure.to_string() == "E" && fails),
        }
    }
}

#[test]
fn the_users_own_cancel_stays_cancelled() {
    // D43, DEF-37
    let reactor = Reactor::new().unwrap();
    let (promise, deferred) = Deferred::<u8>::new();
    let (other, asynchronous) = Deferred::<u8>::new();
    let deferred = deferred.add_timeout(LIMIT, &reactor);
    let canceller = deferred.canceller();
    let deferred = deferred.add_errback(move |failure| {
        assert!(failure.is::<Cancelled>());
        asynchronous
    });
    canceller.cancel();
    assert!(promise.is_cancelled());
    pass_the_limit(reactor);
    assert!(!other.is_cancelled());
    drop(deferred);
}

#[test]
fn an_errback_before_the_limit_may_absorb_the_cancellation() {
    // D44, DX14 (a translation of one's own is an errback after the limit)
    let reactor = Reactor::new().unwrap();
    let (_promise, deferred) = Deferred::<u8>::new();
    let deferred = deferred.add_errback(|failure| {
        failure.trap::<Cancelled>()?;
        Ok(7)
    });
    let deferred = deferred.add_timeout(LIMIT, &reactor);
    pass_the_limit(reactor);
    assert_eq!(outcome(deferred), Ok(7));
}

#[test]
fn limits_may_be_set_at_several_places() {
    // DEF-38
    let reactor = Reactor::new().unwrap();
    let (first, deferred) = Deferred::<()>::new();
    let (second, waited) = Deferred::<u8>::new();
    let deferred =
        deferred.add_timeout(LIMIT * 100, &reactor).add_callback(move |()| waited).add_timeout(LIMIT, &reactor);
    first.callback(());
    pass_the_limit(reactor);
    assert!(second.is_cancelled());
    assert_eq!(*outcome(deferred).unwrap_err().trap::<TimedOut>().unwrap(), TimedOut(LIMIT));
}

#[test]
fn a_fired_one_needs_no_clock() {
    let reactor = Reactor::new().unwrap();
    let deferred = Deferred::succeed(1).add_timeout(LIMIT, &reactor);
    assert_eq!(outcome(deferred), Ok(1));
    assert_eq!(reactor.statistics().timers, 0);
}
