//! Delayed calls: order, names, destructors that do things. Cases R16 to R19, rules TIM.
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};
use twistlet::error::TimerError;
use twistlet::{Clock, DelayedCall, Reactor};

#[path = "support/watch.rs"]
mod support;
use support::{Notes, OnDrop, assert_logged_once, dog, logged};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn calls_come_in_the_order_of_time_and_then_of_making() {
    // R17, TIM-3
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    let list = notes.clone();
    // In one callback, so that all are set by one look at the clock.
    reactor.call_soon(move || {
        for delay in [5, 1, 10] {
            for n in 0..3 {
                reactor.call_later(delay * MS, list.adds(&format!("{delay}/{n}")));
            }
        }
        reactor.call_later(20 * MS, move || reactor.stop());
        let cancelled = reactor.call_later(2 * MS, list.adds("never"));
        assert!(cancelled.cancel());
    });
    let start = Instant::now();
    reactor.run().unwrap();
    assert!(start.elapsed() >= 20 * MS);
    assert_eq!(notes.all(), "1/0 1/1 1/2 5/0 5/1 5/2 10/0 10/1 10/2");
}

#[test]
fn thousands_of_calls_keep_their_order_whatever_is_cancelled_and_moved() {
    // TIM-3, TIM-6, TIM-9
    let clock = twistlet::testing::Clock::new();
    let seen: Rc<RefCell<Vec<(u32, u32)>>> = Rc::default();
    // Any generator will do: this one is xorshift.
    let mut state = 0x2545_f491u32;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let mut expected = Vec::new();
    let mut calls: Vec<(DelayedCall, u32)> = Vec::new();
    for n in 0..5_000 {
        let slot = random() % 50;
        let seen = seen.clone();
        calls.push((clock.call_later(HOUR, move || seen.borrow_mut().push((slot, n))), slot));
    }
    // All are moved to one of fifty instants, forward and then back, or cancelled.
    let base = clock.now();
    for (n, (call, slot)) in calls.iter().enumerate() {
        if random() % 3 == 0 {
            assert!(call.cancel());
        } else {
            call.reset(random() % 7 * MS).unwrap();
            assert!(call.time().unwrap() < base + 7 * MS);
            call.reset(MS).unwrap();
            call.delay(*slot * MS).unwrap();
            assert_eq!(call.time().unwrap(), base + *slot * MS + MS);
            expected.push((*slot, n as u32));
        }
    }
    assert_eq!(clock.pending(), expected.len());
    clock.advance(MS * 100);
    assert_eq!(clock.pending(), 0);
    expected.sort();
    assert_eq!(seen.take(), expected);
}

#[test]
fn a_call_is_never_made_at_once_nor_too_early() {
    // TIM-1
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    reactor.call_later(Duration::ZERO, notes.adds("zero"));
    assert_eq!(notes.all(), "");
    let start = Instant::now();
    reactor.call_later(7 * MS, move || {
        assert!(start.elapsed() >= 7 * MS);
        reactor.stop()
    });
    reactor.run().unwrap();
    assert_eq!(notes.all(), "zero");
    assert_eq!(logged(), [""; 0]);
}

#[test]
fn a_call_beyond_the_end_of_time_waits_and_harms_nothing() {
    // R19, TIM-1
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let never = reactor.call_later(Duration::MAX, || panic!("called"));
    let far = reactor.call_later(Duration::from_secs(1 << 40), || panic!("called"));
    let postponed = reactor.call_later(MS, || panic!("called"));
    postponed.delay(Duration::MAX).unwrap();
    let brought_back = reactor.call_later(Duration::MAX, || ());
    brought_back.reset(MS).unwrap();
    reactor.call_later(10 * MS, move || reactor.crash());
    reactor.run().unwrap();
    assert!(never.active() && far.active() && postponed.active() && !brought_back.active());
    assert!(never.time().unwrap() > Instant::now() + HOUR);
    assert_eq!(never.delay(Duration::MAX), Ok(()));
    reactor.close();
    assert!(!never.active() && never.time().is_none());
}

#[test]
fn a_call_made_or_cancelled_cannot_be_changed_any_more() {
    // R16, TIM-4, TIM-5, TIM-6
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let own: Rc<Cell<Option<DelayedCall>>> = Rc::default();
    let name = own.clone();
    let call = reactor.call_later(MS, move || {
        let call = name.take().unwrap();
        assert!(!call.active() && call.time().is_none());
        assert!(!call.cancel(), "from inside itself");
        assert_eq!(call.reset(MS), Err(TimerError::AlreadyCalled));
        assert_eq!(call.delay(MS), Err(TimerError::AlreadyCalled));
        reactor.stop()
    });
    own.set(Some(call));
    let cancelled = reactor.call_later(HOUR, || ());
    assert!(cancelled.cancel() && !cancelled.cancel());
    assert_eq!(cancelled.reset(MS), Err(TimerError::AlreadyCancelled));
    assert_eq!(cancelled.delay(MS), Err(TimerError::AlreadyCancelled));
    reactor.run().unwrap();
    assert!(!call.active() && !call.cancel());
    assert_eq!(logged(), [""; 0]);
}

#[test]
fn an_old_name_does_not_mean_the_call_that_took_its_place() {
    let reactor = Reactor::new().unwrap();
    let old = reactor.call_later(HOUR, || ());
    old.cancel();
    let new = reactor.call_later(HOUR, || ());
    assert_ne!(old, new);
    assert!(!old.active() && !old.cancel() && old.reset(MS).is_err());
    assert!(new.active());
    reactor.close();
    // Nor does the name of an ended reactor's call mean one of the next.
    let reactor = Reactor::new().unwrap();
    let next = reactor.call_later(HOUR, || ());
    assert!(!new.active() && next.active());
    reactor.close();
}

#[test]
fn reset_counts_from_now_and_delay_from_when_it_was_due() {
    // TIM-6
    let reactor = Reactor::new().unwrap();
    let call = reactor.call_later(HOUR, || ());
    let due = call.time().unwrap();
    call.delay(HOUR).unwrap();
    assert_eq!(call.time(), Some(due + HOUR));
    call.reset(HOUR / 2).unwrap();
    assert!(call.time().unwrap() < due);
    assert!(call.time().unwrap() >= reactor.now() + HOUR / 2 - 1000 * MS);
    reactor.close();
}

#[test]
fn a_cancelled_closure_is_dropped_at_once() {
    // TIM-5
    let reactor = Reactor::new().unwrap();
    let kept = Rc::new(());
    let held = kept.clone();
    let call = reactor.call_later(HOUR, move || drop(held));
    call.cancel();
    assert_eq!(Rc::strong_count(&kept), 1);
    reactor.close();
}

#[test]
fn a_call_may_cancel_move_and_make_others() {
    // REA-3, TIM-1
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    let doomed = reactor.call_later(HOUR, notes.adds("doomed"));
    let moved = reactor.call_later(HOUR, notes.adds("moved"));
    let made = notes.clone();
    reactor.call_later(MS, move || {
        made.add("first");
        assert!(doomed.cancel());
        moved.reset(8 * MS).unwrap();
        reactor.call_later(20 * MS, move || reactor.stop());
        let turn = reactor.statistics().turns;
        let now = made.clone();
        reactor.call_later(Duration::ZERO, move || {
            now.add("zero");
            assert!(reactor.statistics().turns > turn, "in a later turn");
        });
    });
    reactor.run().unwrap();
    assert_eq!(notes.all(), "first zero moved");
    assert_eq!(logged(), [""; 0]);
}

#[test]
fn a_call_in_the_same_pass_can_cancel_the_next_one() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    let target: Rc<Cell<Option<DelayedCall>>> = Rc::default();
    let (cancels, first) = (target.clone(), notes.clone());
    reactor.call_later(Duration::ZERO, move || first.add(cancels.take().unwrap().cancel()));
    target.set(Some(reactor.call_later(Duration::ZERO, notes.adds("never"))));
    reactor.call_later(Duration::ZERO, notes.adds("third"));
    reactor.call_later(MS, move || reactor.stop());
    reactor.run().unwrap();
    assert_eq!(notes.all(), "true third");
}

#[test]
fn calls_that_make_calls_for_now_starve_nobody() {
    // REA-2, REA-3
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    fn forever(reactor: Reactor, count: Rc<Cell<u32>>) {
        count.set(count.get() + 1);
        reactor.call_later(Duration::ZERO, move || forever(reactor, count));
    }
    let count = Rc::new(Cell::new(0));
    let counted = count.clone();
    reactor.call_soon(move || forever(reactor, counted));
    reactor.call_later(5 * MS, move || reactor.stop());
    reactor.run().unwrap();
    assert!(count.get() >= 1);
}

#[test]
fn a_panic_in_a_call_is_logged_and_the_others_are_made() {
    // REA-3
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    reactor.call_later(Duration::ZERO, || panic!("broken timer"));
    reactor.call_later(Duration::ZERO, notes.adds("next"));
    reactor.call_later(MS, move || reactor.stop());
    reactor.run().unwrap();
    assert_eq!(notes.all(), "next");
    assert_logged_once(&["a delayed call", "broken timer"]);
}

#[test]
fn a_destructor_may_make_cancel_and_stop() {
    // R1, R16
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    let other = reactor.call_later(HOUR, notes.adds("other"));
    let inner = notes.clone();
    let guard = OnDrop(move || {
        other.cancel();
        let inner = inner.clone();
        reactor.call_later(MS, move || {
            inner.add("made by a destructor");
            reactor.stop()
        });
    });
    let call = reactor.call_later(HOUR, move || drop(guard));
    assert!(call.cancel());
    assert!(!other.active());
    reactor.run().unwrap();
    assert_eq!(notes.all(), "made by a destructor");
}

#[test]
fn destructors_at_the_end_find_a_reactor_that_refuses_and_end_nothing_by_panicking() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    for _ in 0..3 {
        let saw = notes.clone();
        let guard = OnDrop(move || {
            let call = reactor.call_later(MS, || panic!("called"));
            reactor.call_soon(|| panic!("called"));
            reactor.add_trigger(twistlet::reactor::Phase::AfterShutdown, || panic!("called"));
            // The same one still: a destructor does not come by a reactor nobody would run.
            assert_eq!(Reactor::current(), reactor);
            assert!(Reactor::new().is_err());
            saw.add(call.active());
            panic!("a destructor panics");
        });
        reactor.call_later(HOUR, move || drop(guard));
    }
    reactor.call_soon(move || reactor.stop());
    reactor.run().unwrap();
    assert_eq!(notes.all(), "false false false");
    assert_eq!(logged().len(), 3);
    assert_ne!(Reactor::current(), reactor);
    Reactor::current().close();
}

#[test]
fn after_the_end_the_calls_names_are_inactive() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let call = reactor.call_later(HOUR, || ());
    reactor.call_soon(move || reactor.stop());
    reactor.run().unwrap();
    assert!(!call.active() && !call.cancel());
    assert_eq!(call.reset(MS), Err(TimerError::AlreadyCancelled));
}

#[test]
fn a_callback_that_takes_long_does_not_make_its_next_timer_early_if_it_looks_at_the_clock() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    reactor.call_soon(move || {
        reactor.call_later(HOUR, || ());
        let start = Instant::now();
        while start.elapsed() < 5 * MS {}
        let now = reactor.now();
        assert!(now >= start + 5 * MS);
        reactor.call_later(5 * MS, move || {
            assert!(now.elapsed() >= 5 * MS);
            reactor.stop()
        });
    });
    reactor.run().unwrap();
    assert_eq!(logged(), [""; 0]);
}
