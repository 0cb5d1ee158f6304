//! The order in which green threads and calls of the reactor run, where both are queued.
#![cfg(feature = "green")]

use std::cell::RefCell;
use std::rc::Rc;
use twistlet::Reactor;
use twistlet::green::{Event, spawn, yield_now};

type Log = Rc<RefCell<Vec<&'static str>>>;

fn note(log: &Log, what: &'static str) -> impl FnOnce() + use<> {
    let log = Rc::clone(log);
    move || log.borrow_mut().push(what)
}

#[test]
fn green_threads_and_calls_run_in_the_order_in_which_they_were_queued() {
    let reactor = Reactor::current();
    let log = Log::default();
    spawn(note(&log, "a"));
    spawn(note(&log, "b"));
    reactor.call_soon(note(&log, "c"));
    spawn(note(&log, "d"));
    reactor.call_soon(note(&log, "e"));
    let last = spawn(note(&log, "f"));
    assert!(last.wait().is_ok());
    assert_eq!(*log.borrow(), ["a", "b", "c", "d", "e", "f"]);
}

#[test]
fn who_is_woken_in_a_turn_runs_after_what_was_queued_before_it() {
    let reactor = Reactor::current();
    let log = Log::default();
    let event = Event::new();
    let (told, after) = (event.clone(), note(&log, "woken"));
    let waiter = spawn(move || {
        let _ = told.wait();
        after();
    });
    yield_now();
    let first = note(&log, "call");
    reactor.call_soon(move || {
        first();
        event.send(());
    });
    spawn(note(&log, "green"));
    assert!(waiter.wait().is_ok());
    assert_eq!(*log.borrow(), ["call", "green", "woken"]);
}

#[test]
fn those_who_yield_take_turns_with_calls_that_queue_themselves_again() {
    let reactor = Reactor::current();
    let log = Log::default();
    let again = Rc::clone(&log);
    reactor.call_soon(move || {
        again.borrow_mut().push("call");
        let once_more = Rc::clone(&again);
        reactor.call_soon(move || once_more.borrow_mut().push("call"));
    });
    let green = Rc::clone(&log);
    let yielder = spawn(move || {
        for _ in 0..2 {
            green.borrow_mut().push("green");
            yield_now();
        }
    });
    assert!(yielder.wait().is_ok());
    assert_eq!(*log.borrow(), ["call", "green", "call", "green"]);
}
