//! `green::Event`: one outcome, any number of waiters.
#![cfg(feature = "green")]
mod guard;
use guard::{Trace, guarded, logged, panic_of};
use std::time::{Duration, Instant};
use twistlet::green::event::Metaphore;
use twistlet::green::{Event, GreenThread, sleep, spawn, wait_all, with_timeout, yield_now};
use twistlet::{Failure, TimedOut};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(5);

// EQS-01, EV-05
#[test]
fn a_waiter_gets_the_value_that_is_sent_later_and_as_often_as_it_asks() {
    guarded(|| {
        let event = Event::new();
        let sender = event.clone();
        spawn(move || sender.send(7));
        assert_eq!(event.wait().unwrap(), 7);
        assert_eq!(event.wait().unwrap(), 7);
        assert_eq!(event.poll().unwrap().unwrap(), 7);
    });
}

// EQS-02, EV-06, EV-07, G9
#[test]
fn five_waiters_wake_in_the_order_they_came_and_after_the_sender() {
    guarded(|| {
        let (event, trace) = (Event::new(), Trace::new());
        let waiters: Vec<_> = (0..5)
            .map(|n| {
                let (event, trace) = (event.clone(), trace.clone());
                spawn(move || {
                    event.wait()?;
                    trace.note(n);
                    Ok(())
                })
            })
            .collect();
        yield_now();
        assert_eq!(event.waiting(), 5);
        event.send(());
        trace.note("sent");
        assert_eq!(event.waiting(), 0);
        wait_all(waiters);
        assert_eq!(trace.take(), ["sent", "0", "1", "2", "3", "4"]);
    });
}

// EQS-04, EV-04
#[test]
fn a_second_send_and_a_reset_too_early_panic_and_change_nothing() {
    guarded(|| {
        let event = Event::new();
        assert!(panic_of(|| event.reset()).contains("no outcome"));
        event.send(1);
        assert!(panic_of(|| event.send(2)).contains("already"));
        assert!(panic_of(|| event.send_exception(Failure::msg("x"))).contains("already"));
        assert_eq!(event.wait().unwrap(), 1);
        event.reset();
        assert!(!event.ready());
        event.send(3);
        assert_eq!(event.wait().unwrap(), 3);
    });
}

#[test]
fn a_second_send_in_a_destructor_that_runs_because_of_a_panic_is_logged() {
    struct Sends(Event<u8>);
    impl Drop for Sends {
        fn drop(&mut self) {
            self.0.send(2);
            self.0.reset();
            self.0.reset();
        }
    }
    guarded(|| {
        let event = Event::new();
        event.send(1);
        let sends = Sends(event.clone());
        let failed = spawn(move || -> () {
            let _sends = sends;
            panic!("a test's");
        });
        assert!(failed.wait().unwrap_err().is_panic());
        let log = logged();
        assert!(log[0].contains("already") && log[1].contains("no outcome"), "{log:?}");
    });
}

// EQS-05
#[test]
fn a_failure_that_was_reset_is_not_seen_again() {
    guarded(|| {
        let event = Event::<()>::new();
        event.send_exception(Failure::msg("first"));
        assert_eq!(event.wait().unwrap_err().to_string(), "first");
        assert_eq!(event.poll().unwrap().unwrap_err().to_string(), "first");
        event.reset();
        assert!(event.wait_timeout(SHORT).unwrap_err().is::<TimedOut>());
    });
}

// EQS-06, EV-10
#[test]
fn a_wait_with_a_limit_gives_the_value_in_time_and_times_out_never_early() {
    guarded(|| {
        let event = Event::new();
        let began = Instant::now();
        let late = event.wait_timeout(Duration::from_millis(20)).unwrap_err();
        assert_eq!(late.check(), Some(&TimedOut(Duration::from_millis(20))));
        assert!(began.elapsed() >= Duration::from_millis(20));
        let sender = event.clone();
        spawn(move || sender.send("in time"));
        assert_eq!(event.wait_timeout(LONG).unwrap(), "in time");
        assert_eq!(event.waiting(), 0);
    });
}

// EV-08, G9
#[test]
fn a_waiter_that_was_killed_or_came_too_late_leaves_no_trace() {
    guarded(|| {
        let event = Event::<u32>::new();
        let (one, two, three) = (event.clone(), event.clone(), event.clone());
        let killed = spawn(move || one.wait());
        let late = spawn(move || two.wait_timeout(SHORT));
        let patient = spawn(move || three.wait());
        yield_now();
        killed.kill();
        sleep(SHORT * 2);
        assert_eq!(event.waiting(), 1);
        event.send(5);
        assert!(killed.wait().unwrap_err().is::<twistlet::error::Killed>());
        assert!(late.wait().unwrap_err().is::<TimedOut>());
        assert_eq!(patient.wait().unwrap(), 5);
    });
}

// EV-09
#[test]
fn waiters_get_the_outcome_they_were_woken_for_although_the_event_was_reset_and_sent_again() {
    guarded(|| {
        let event = Event::new();
        let mine = event.clone();
        let waiter = spawn(move || mine.wait());
        yield_now();
        event.send("earlier");
        event.reset();
        event.send("later");
        assert_eq!(waiter.wait().unwrap(), "earlier");
        assert_eq!(event.wait().unwrap(), "later");
    });
}

// TO-14: the value is not lost, whichever comes first in a turn
#[test]
fn when_a_timeout_and_a_send_meet_nothing_is_lost() {
    guarded(|| {
        for send_first in [true, false] {
            let event = Event::new();
            let sender = event.clone();
            let waits = event.clone();
            let begin = Event::<()>::new();
            let begun = begin.clone();
            let waiter = spawn(move || {
                begun.send(());
                Ok(with_timeout(SHORT, || waits.wait()))
            });
            begin.wait().unwrap();
            // Both are due in the same turn: this thread's own code holds the loop until then.
            let reactor = twistlet::Reactor::current();
            let send_at = if send_first { SHORT / 2 } else { SHORT * 2 };
            let call = reactor.call_later(send_at, move || sender.send(1));
            std::thread::sleep(SHORT * 3);
            yield_now();
            let outcome = waiter.wait().unwrap();
            if send_first {
                assert_eq!(outcome.unwrap().unwrap(), 1);
            } else {
                assert_eq!(outcome.unwrap_err(), TimedOut(SHORT));
            }
            assert!(event.ready(), "the value stays");
            assert!(!call.active());
        }
    });
}

// R16
#[test]
fn a_value_whose_clone_uses_the_event_itself_disturbs_nothing() {
    struct Value(Event<Value>, u32);
    impl Clone for Value {
        fn clone(&self) -> Self {
            assert!(self.0.ready());
            if self.1 == 0 {
                self.0.reset();
                self.0.send(Value(self.0.clone(), 1));
            }
            Value(self.0.clone(), self.1)
        }
    }
    guarded(|| {
        let event = Event::new();
        event.send(Value(event.clone(), 0));
        assert_eq!(event.wait().unwrap().1, 0);
        assert_eq!(event.wait().unwrap().1, 1);
        event.reset(); // breaks the cycle
    });
}

#[test]
fn one_waiter_that_panics_does_not_keep_the_others_from_waking() {
    guarded(|| {
        let event = Event::new();
        let waiters: Vec<GreenThread<u32>> = (0..3)
            .map(|n| {
                let event = event.clone();
                spawn(move || {
                    event.wait()?;
                    assert_ne!(n, 1, "a test's");
                    Ok(n)
                })
            })
            .collect();
        yield_now();
        event.send(());
        let outcomes = wait_all(waiters);
        assert_eq!(*outcomes[0].as_ref().unwrap(), 0);
        assert!(outcomes[1].as_ref().unwrap_err().is_panic());
        assert_eq!(*outcomes[2].as_ref().unwrap(), 2);
    });
}

// EQS-11, EV-13
#[test]
fn a_metaphore_is_waited_for_until_it_comes_to_zero() {
    guarded(|| {
        let pending = Metaphore::new();
        pending.wait();
        assert!(pending.wait_timeout(Duration::ZERO));
        pending.inc(2);
        assert!(!pending.wait_timeout(SHORT) && !pending.wait_timeout(Duration::ZERO));
        let decs: Vec<_> = (0..2)
            .map(|_| {
                let pending = pending.clone();
                spawn(move || pending.dec(1))
            })
            .collect();
        pending.wait();
        assert!(decs.iter().all(GreenThread::is_finished), "after the second");
        pending.dec(5);
        assert_eq!(pending.count(), 0, "never below");
    });
}

// EV-02, EV-03
#[test]
fn an_event_tells_its_kinds_of_outcome_apart() {
    guarded(|| {
        let event = Event::new();
        assert!(!event.has_result() && !event.has_exception() && event.poll().is_none());
        event.send(1);
        assert!(event.has_result() && !event.has_exception());
        assert_eq!((event.poll_result(), event.poll_exception()), (Some(1), None));
        event.reset();
        event.send_exception(Failure::msg("sent"));
        assert!(!event.has_result() && event.has_exception() && event.poll().is_some());
        assert_eq!(event.poll_result(), None);
        assert_eq!(event.poll_exception().map(|failure| failure.to_string()).as_deref(), Some("sent"));
    });
}
