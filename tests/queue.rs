//! `green::Queue`: items handed over in order, with and without a bound.
#![cfg(feature = "green")]
mod guard;
use guard::{Trace, guarded};
use std::time::Duration;
use twistlet::error::Killed;
use twistlet::green::queue::Full;
use twistlet::green::{Event, Queue, spawn, wait_all, with_timeout, yield_now};
use twistlet::{Failure, Reactor, TimedOut};

const SHORT: Duration = Duration::from_millis(5);

// EQS-12, Q-02
#[test]
fn an_item_arrives_whether_sent_before_or_after_the_wait() {
    guarded(|| {
        let queue = Queue::new();
        queue.send(1);
        assert!(queue.ready());
        assert_eq!(queue.wait().unwrap(), 1);
        let sender = queue.clone();
        spawn(move || sender.send(2));
        assert_eq!(queue.wait().unwrap(), 2);
        assert!(!queue.ready() && queue.is_empty());
    });
}

//
#[test]
fn a_failure_in_the_queue_is_given_in_its_turn() {
    guarded(|| {
        let queue = Queue::new();
        queue.send(1);
        queue.send_exception(Failure::msg("broken"));
        queue.send(2);
        assert_eq!(queue.wait().unwrap(), 1);
        assert_eq!(queue.poll().unwrap().unwrap_err().to_string(), "broken");
        assert_eq!(queue.poll().unwrap().unwrap(), 2);
        assert!(queue.poll().is_none());
    });
}

// EQS-16, Q-05, Q-07, G9
#[test]
fn four_receivers_get_four_items_each_once_and_in_order() {
    guarded(|| {
        let (queue, trace) = (Queue::new(), Trace::new());
        let receivers: Vec<_> = (0..4)
            .map(|n| {
                let (queue, trace) = (queue.clone(), trace.clone());
                spawn(move || {
                    let item: u32 = queue.wait()?;
                    trace.note(format!("{n}{item}"));
                    Ok(())
                })
            })
            .collect();
        yield_now();
        assert_eq!(queue.waiting(), 4);
        for item in 0..4 {
            queue.send(item);
        }
        trace.note("sent");
        wait_all(receivers);
        assert_eq!(trace.take(), ["sent", "00", "11", "22", "33"]);
    });
}

// EQS-17, Q-05
#[test]
fn an_item_sent_after_a_receiver_gave_up_waits_for_another() {
    guarded(|| {
        let queue = Queue::new();
        assert!(queue.wait_timeout(SHORT).unwrap_err().is::<TimedOut>());
        assert_eq!(with_timeout(SHORT, || queue.wait()).unwrap_err(), TimedOut(SHORT));
        queue.send("sent");
        assert_eq!(queue.wait().unwrap(), "sent");
    });
}

// EQS-18
#[test]
fn the_patient_receiver_gets_the_item_when_the_other_gives_up() {
    guarded(|| {
        let queue = Queue::new();
        let (one, two) = (queue.clone(), queue.clone());
        let hasty = spawn(move || Ok(with_timeout(Duration::ZERO, || one.wait()).is_err()));
        let patient = spawn(move || two.wait());
        yield_now();
        queue.send(1);
        assert!(hasty.wait().unwrap());
        assert_eq!(patient.wait().unwrap(), 1);
    });
}

// EQS-19
#[test]
fn when_both_receivers_gave_up_the_item_stays_for_a_third() {
    guarded(|| {
        let queue = Queue::new();
        let hasty: Vec<_> = (0..2)
            .map(|_| {
                let queue: Queue<u8> = queue.clone();
                spawn(move || Ok(with_timeout(SHORT, || queue.wait()).is_err()))
            })
            .collect();
        for outcome in wait_all(hasty) {
            assert!(outcome.unwrap());
        }
        queue.send(1);
        assert_eq!(queue.poll().unwrap().unwrap(), 1);
    });
}

// EQS-20, Q-03
#[test]
fn waiting_counts_the_receivers() {
    guarded(|| {
        let queue = Queue::new();
        let mine = queue.clone();
        let receiver = spawn(move || mine.wait());
        assert_eq!(queue.waiting(), 0);
        yield_now();
        assert_eq!(queue.waiting(), 1);
        queue.send(1);
        assert_eq!(receiver.wait().unwrap(), 1);
        assert_eq!(queue.waiting(), 0);
    });
}

// Q-06 turned around: handed over, no barging
#[test]
fn whoever_comes_between_the_send_and_the_wake_up_does_not_get_the_item() {
    guarded(|| {
        let queue = Queue::new();
        let mine = queue.clone();
        let receiver = spawn(move || mine.wait());
        yield_now();
        queue.send(1);
        assert!(queue.poll().is_none());
        assert!(!queue.ready());
        queue.send(2);
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.poll().unwrap().unwrap(), 2);
        assert_eq!(receiver.wait().unwrap(), 1);
    });
}

// A wake-up that came before a kill wins
#[test]
fn a_receiver_killed_before_the_item_leaves_it_and_one_killed_after_has_it() {
    guarded(|| {
        let (queue, trace) = (Queue::new(), Trace::new());
        let receive = |name: &'static str| {
            let (queue, trace) = (queue.clone(), trace.clone());
            spawn(move || {
                let item: u32 = queue.wait()?;
                trace.note(format!("{name} {item}"));
                yield_now();
                trace.note("not reached");
                Ok(())
            })
        };
        let (before, after) = (receive("before"), receive("after"));
        yield_now();
        before.kill();
        queue.send(1);
        after.kill();
        assert!(before.wait().unwrap_err().is::<Killed>());
        assert!(after.wait().unwrap_err().is::<Killed>());
        assert_eq!(trace.take(), ["after 1"]);
        assert!(queue.is_empty());
    });
}

// EQS-14, EQS-24, Q-08
#[test]
fn with_a_bound_of_two_the_third_put_waits_for_a_get() {
    guarded(|| {
        let (queue, trace) = (Queue::bounded(2), Trace::new());
        let (sender, noted) = (queue.clone(), trace.clone());
        let sender = spawn(move || {
            for n in 0..3 {
                sender.put(n)?;
                noted.note(n);
            }
            Ok(())
        });
        yield_now();
        assert_eq!(trace.take(), ["0", "1"]);
        assert_eq!(queue.get().unwrap(), 0);
        sender.wait().unwrap();
        assert_eq!(trace.take(), ["2"]);
        assert_eq!([queue.get().unwrap(), queue.get().unwrap()], [1, 2]);
    });
}

// EQS-15, EQS-24, Q-08
#[test]
fn with_a_bound_of_zero_the_sender_is_done_when_a_receiver_came() {
    guarded(|| {
        let queue = Queue::bounded(0);
        let sender = queue.clone();
        let sender = spawn(move || sender.put(1));
        yield_now();
        yield_now();
        assert!(!sender.is_finished());
        assert!(queue.ready());
        assert_eq!(queue.get().unwrap(), 1);
        sender.wait().unwrap();
    });
}

//
#[test]
fn at_a_rendezvous_the_receiver_goes_on_before_the_sender() {
    guarded(|| {
        let (queue, trace) = (Queue::bounded(0), Trace::new());
        let (receiver, got) = (queue.clone(), trace.clone());
        let (sender, sent) = (queue.clone(), trace.clone());
        let sender = spawn(move || {
            sent.note("sending");
            sender.put("item")?;
            sent.note("sent");
            Ok(())
        });
        let receiver = spawn(move || {
            got.note(format!("got {}", receiver.get()?));
            Ok(())
        });
        sender.wait().unwrap();
        receiver.wait().unwrap();
        assert_eq!(trace.take(), ["sending", "got item", "sent"]);
    });
}

// EQS-23, EQS-29, Q-09, LQ-08
#[test]
fn a_put_that_was_interrupted_leaves_nothing_behind() {
    guarded(|| {
        let (queue, trace) = (Queue::bounded(0), Trace::new());
        assert_eq!(with_timeout(SHORT, || queue.put(trace.on_drop("dropped 1"))).unwrap_err(), TimedOut(SHORT));
        assert!(queue.put_timeout(trace.on_drop("dropped 2"), SHORT).unwrap_err().is::<TimedOut>());
        assert!(queue.put_timeout(trace.on_drop("dropped 3"), Duration::ZERO).unwrap_err().is::<TimedOut>());
        let (other, item) = (queue.clone(), trace.on_drop("dropped 4"));
        let killed = spawn(move || other.put(item));
        yield_now();
        killed.kill();
        assert!(killed.wait().unwrap_err().is::<Killed>());
        assert_eq!(trace.take(), ["dropped 1", "dropped 2", "dropped 3", "dropped 4"]);
        assert!(queue.poll().is_none() && !queue.ready());
    });
}

// EQS-30, LQ-09
#[test]
fn ten_good_receivers_among_ten_killed_ones_get_everything_in_order() {
    guarded(|| {
        let (queue, trace) = (Queue::bounded(0), Trace::new());
        let (mut good, mut killed) = (Vec::new(), Vec::new());
        for n in 0..20 {
            let (queue, trace) = (queue.clone(), trace.clone());
            let receiver = spawn(move || {
                let item: u32 = queue.get()?;
                trace.note(item);
                Ok(())
            });
            if n % 2 == 0 {
                good.push(receiver)
            } else {
                killed.push(receiver)
            };
        }
        yield_now();
        killed.iter().for_each(|receiver| receiver.kill());
        for n in 0..10 {
            queue.put(n).unwrap();
        }
        assert!(wait_all(good).iter().all(Result::is_ok));
        assert!(wait_all(killed).iter().all(Result::is_err));
        assert_eq!(trace.take(), (0..10).map(|n: u32| n.to_string()).collect::<Vec<_>>());
    });
}

// EQS-25, LQ-12
#[test]
fn making_room_lets_a_waiting_put_through() {
    guarded(|| {
        for bound in [1, usize::MAX] {
            let queue = Queue::bounded(0);
            let sender = queue.clone();
            let sender = spawn(move || sender.put(1));
            yield_now();
            assert!(!sender.is_finished());
            queue.resize(bound);
            sender.wait().unwrap();
            queue.resize(0);
            assert_eq!(queue.get().unwrap(), 1);
        }
    });
}

// EQS-28, LQ-05
#[test]
fn a_put_at_a_rendezvous_with_a_waiting_receiver_does_not_wait() {
    guarded(|| {
        let queue = Queue::bounded(0);
        let mine = queue.clone();
        let receiver = spawn(move || mine.get());
        yield_now();
        assert_eq!(queue.waiting(), 1);
        queue.put(5).unwrap();
        assert!(queue.try_put(6).is_err(), "the one receiver has its item");
        assert_eq!(receiver.wait().unwrap(), 5);
    });
}

// EQS-32, EQS-33, EQS-34, LQ-06, EQS-37
#[test]
fn what_does_not_wait_works_from_callbacks_and_serves_those_who_wait() {
    guarded(|| {
        let reactor = Reactor::current();
        // EQS-32
        let (queue, done) = (Queue::bounded(1), Event::new());
        let (in_callback, tell) = (queue.clone(), done.clone());
        reactor.call_soon(move || {
            let puts = (in_callback.try_put(1).is_ok(), in_callback.try_put(2) == Err(Full(2)));
            let gets = (in_callback.poll().map(Result::unwrap), in_callback.poll().map(Result::unwrap));
            tell.send((puts, gets));
        });
        assert_eq!(done.wait().unwrap(), ((true, true), (Some(1), None)));
        // EQS-33
        let (queue, done) = (Queue::bounded(0), Event::new());
        let sender = queue.clone();
        let sender = spawn(move || sender.put(3));
        yield_now();
        let (in_callback, tell) = (queue.clone(), done.clone());
        reactor.call_soon(move || tell.send(in_callback.poll().map(Result::unwrap)));
        assert_eq!(done.wait().unwrap(), Some(3));
        sender.wait().unwrap();
        // EQS-34, EQS-37
        let receiver = queue.clone();
        let receiver = spawn(move || receiver.get());
        yield_now();
        let in_callback = queue.clone();
        reactor.call_soon(move || assert_eq!((in_callback.try_put(4), in_callback.try_put(5)), (Ok(()), Err(Full(5)))));
        assert_eq!(receiver.wait().unwrap(), 4);
        assert!(queue.is_empty());
    });
}

// from callbacks the bound is no obstacle
#[test]
fn send_goes_over_the_bound_and_put_waits_until_there_is_room_again() {
    guarded(|| {
        let queue = Queue::bounded(1);
        (0..3).for_each(|n| queue.send(n));
        let sender = queue.clone();
        let sender = spawn(move || sender.put(3));
        for n in 0..3 {
            yield_now();
            assert!(!sender.is_finished());
            assert_eq!(queue.get().unwrap(), n);
        }
        sender.wait().unwrap();
        assert_eq!(queue.get().unwrap(), 3);
    });
}

#[test]
fn putters_get_in_in_the_order_they_came() {
    guarded(|| {
        let queue = Queue::bounded(1);
        let senders: Vec<_> = (0..4)
            .map(|n| {
                let queue = queue.clone();
                spawn(move || queue.put(n))
            })
            .collect();
        yield_now();
        let items: Vec<i32> = (0..4).map(|_| queue.get().unwrap()).collect();
        assert_eq!(items, [0, 1, 2, 3]);
        assert!(wait_all(senders).iter().all(Result::is_ok));
    });
}

// R16
#[test]
fn items_whose_destructor_uses_the_queue_may_be_dropped_in_it() {
    struct Item(Queue<Item>);
    impl Drop for Item {
        fn drop(&mut self) {
            let _ = (self.0.len(), self.0.ready(), self.0.waiting());
        }
    }
    guarded(|| {
        let queue = Queue::bounded(0);
        let (sender, item) = (queue.clone(), Item(queue.clone()));
        let killed = spawn(move || sender.put(item));
        yield_now();
        killed.kill();
        assert!(killed.wait().is_err());
        queue.send(Item(queue.clone()));
        drop(queue.poll());
    });
}
