//! The queues of Eventlet's `queue` module and `Channel`: who gets what, in which order, and what stays when somebody leaves.
#![cfg(feature = "green")]
mod guard;

use guard::{logged, passes};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;
use twistlet::error::Killed;
use twistlet::green::queue::{Full, LifoQueue, LightQueue, PriorityQueue};
use twistlet::green::{Channel, Queue, sleep, spawn, wait_all, with_timeout, yield_now};
use twistlet::{Reactor, TimedOut};

const SHORT: Duration = Duration::from_millis(5);

#[test]
fn a_bounded_queue_lets_as_many_in_as_it_has_room_and_the_rest_in_order() {
    // EQS-14, EQS-24
    passes(|| {
        let queue = LightQueue::bounded(2);
        let done = Rc::new(Cell::new(0));
        let (other, count) = (queue.clone(), Rc::clone(&done));
        let putter = spawn(move || {
            for n in 1..=3 {
                other.put(n)?;
                count.set(n);
            }
            Ok(())
        });
        yield_now();
        assert_eq!((done.get(), queue.len(), queue.putting(), queue.is_full()), (2, 2, 1, true));
        assert_eq!(queue.get()?, 1);
        yield_now();
        assert_eq!(done.get(), 3);
        assert_eq!((queue.get()?, queue.get()?), (2, 3));
        putter.wait()
    });
}

#[test]
fn on_a_queue_without_room_a_put_waits_for_its_taker_and_leaves_nothing_when_it_is_late() {
    // EQS-15, EQS-29, LQ-01, LQ-08
    passes(|| {
        let queue = Queue::bounded(0);
        assert!(queue.is_empty() && queue.is_full());
        let late = queue.put_timeout(1, SHORT).expect_err("nobody takes it");
        assert!(late.is::<TimedOut>());
        assert!(queue.try_get().is_none());
        assert_eq!(queue.unfinished(), 0, "what was withdrawn never came");
        let other = queue.clone();
        let putter = spawn(move || other.put(2));
        yield_now();
        assert_eq!(queue.putting(), 1);
        assert_eq!(queue.get()?, 2);
        putter.wait()
    });
}

#[test]
fn a_put_that_is_killed_leaves_nothing() {
    // Q-09, EQS-23
    passes(|| {
        for channel in [Channel::bounded(0), Channel::bounded(1)] {
            while channel.try_send(0).is_ok() {}
            let there = channel.len();
            let other = channel.clone();
            let sender = spawn(move || other.send(1));
            yield_now();
            assert_eq!(channel.sending(), 1);
            sender.kill();
            assert!(sender.wait().expect_err("killed").is::<Killed>());
            assert_eq!((channel.sending(), channel.len()), (0, there));
        }
        Ok(())
    });
}

#[test]
fn on_a_channel_the_receiver_goes_on_before_the_sender_whoever_came_first() {
    // EQS-21, EQS-22, EQS-28, Q-10, LQ-05
    passes(|| {
        for receiver_first in [true, false] {
            let channel = Channel::new();
            let log = Rc::new(RefCell::new(Vec::new()));
            let receive = || {
                let (channel, log) = (channel.clone(), Rc::clone(&log));
                spawn(move || {
                    let got = channel.wait()?;
                    log.borrow_mut().push(got);
                    Ok(())
                })
            };
            let send = || {
                let (channel, log) = (channel.clone(), Rc::clone(&log));
                spawn(move || {
                    log.borrow_mut().push("sending");
                    channel.send("got it")?;
                    log.borrow_mut().push("sent");
                    Ok(())
                })
            };
            let both = if receiver_first { [receive(), send()] } else { [send(), receive()] };
            wait_all(both).into_iter().collect::<twistlet::Result<Vec<()>>>()?;
            assert_eq!(*log.borrow(), ["sending", "got it", "sent"]);
        }
        Ok(())
    });
}

#[test]
fn a_send_in_a_callback_never_waits_and_may_exceed_the_bound() {
    //
    passes(|| {
        let channel = Channel::new();
        let other = channel.clone();
        Reactor::current().call_soon(move || {
            other.send(1)?;
            other.send(2)
        });
        yield_now();
        yield_now();
        assert_eq!(channel.len(), 2);
        assert_eq!((channel.wait()?, channel.wait()?), (1, 2));
        Ok(())
    });
}

#[test]
fn what_does_not_wait_works_in_callbacks_and_wakes_whoever_is_on_the_other_side() {
    // EQS-32, EQS-33, EQS-34, LQ-06
    passes(|| {
        let one = LightQueue::bounded(1);
        let seen = Rc::new(RefCell::new(Vec::new()));
        let (queue, log) = (one.clone(), Rc::clone(&seen));
        Reactor::current().call_soon(move || {
            log.borrow_mut().push(queue.try_put(1).is_ok());
            log.borrow_mut().push(queue.try_put(2).is_ok());
            log.borrow_mut().push(queue.try_get().is_some());
            log.borrow_mut().push(queue.try_get().is_some());
        });
        yield_now();
        yield_now();
        assert_eq!(*seen.borrow(), [true, false, true, false]);

        let none = LightQueue::bounded(0);
        let queue = none.clone();
        let putter = spawn(move || queue.put("put"));
        yield_now();
        let (queue, got) = (none.clone(), Rc::new(Cell::new(None)));
        let result = Rc::clone(&got);
        Reactor::current().call_soon(move || result.set(queue.try_get()));
        putter.wait()?;
        assert_eq!(got.take(), Some("put"));

        let queue = none.clone();
        let getter = spawn(move || queue.get());
        yield_now();
        let (queue, went) = (none.clone(), Rc::new(Cell::new(false)));
        let result = Rc::clone(&went);
        Reactor::current().call_soon(move || result.set(queue.try_put("got").is_ok()));
        assert_eq!(getter.wait()?, "got");
        assert!(went.get() && none.is_empty() && none.is_full());
        Ok(())
    });
}

#[test]
fn a_put_that_does_not_wait_needs_a_getter_on_a_queue_without_room() {
    // EQS-37, LQ-07
    passes(|| {
        let queue = LightQueue::bounded(0);
        assert_eq!(queue.try_put(1), Err(Full(1)));
        let other = queue.clone();
        let getter = spawn(move || other.get());
        yield_now();
        assert_eq!(queue.getting(), 1);
        assert_eq!(queue.try_put(2), Ok(()));
        assert_eq!(getter.wait()?, 2);
        Ok(())
    });
}

#[test]
fn getters_that_are_killed_lose_nothing_and_the_others_get_all_in_order() {
    // EQS-30, LQ-09
    passes(|| {
        let queue = LightQueue::bounded(0);
        let got = Rc::new(RefCell::new(Vec::new()));
        let mut good = Vec::new();
        let mut doomed = Vec::new();
        for n in 0..20 {
            let (queue, got) = (queue.clone(), Rc::clone(&got));
            let getter = spawn(move || {
                let item = queue.get()?;
                got.borrow_mut().push(item);
                Ok(())
            });
            if n % 2 == 0 { good.push(getter) } else { doomed.push(getter) }
        }
        yield_now();
        for getter in &doomed {
            getter.kill();
        }
        for n in 0..10 {
            queue.put(n)?;
        }
        wait_all(good).into_iter().collect::<twistlet::Result<Vec<()>>>()?;
        assert!(wait_all(doomed).into_iter().all(|outcome| outcome.is_err_and(|failure| failure.is::<Killed>())));
        assert_eq!(*got.borrow(), (0..10).collect::<Vec<_>>());
        Ok(())
    });
}

#[test]
fn a_larger_bound_lets_those_in_who_wait_and_a_smaller_one_throws_nothing_away() {
    // EQS-25, LQ-12
    passes(|| {
        for bound in [1, usize::MAX] {
            let queue = PriorityQueue::bounded(0);
            let other = queue.clone();
            let putter = spawn(move || other.put(1));
            yield_now();
            queue.resize(bound);
            putter.wait()?;
            assert_eq!(queue.len(), 1);
            queue.resize(0);
            assert_eq!(queue.get()?, 1);
        }
        Ok(())
    });
}

#[test]
fn the_smallest_comes_first_or_the_newest_and_equals_in_the_order_they_came() {
    // EQS-36, LQ-15
    #[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
    struct Job(u32);
    passes(|| {
        let (smallest, newest) = (PriorityQueue::new(), LifoQueue::new());
        for n in [3, 1, 2, 1] {
            smallest.put(Job(n))?;
            newest.put(n)?;
        }
        let order: Vec<u32> = std::iter::from_fn(|| smallest.try_get()).map(|Job(n)| n).collect();
        assert_eq!(order, [1, 1, 2, 3]);
        assert_eq!(std::iter::from_fn(|| newest.try_get()).collect::<Vec<_>>(), [1, 2, 1, 3]);

        struct Equal(u32);
        impl PartialEq for Equal {
            fn eq(&self, _: &Self) -> bool {
                true
            }
        }
        impl Eq for Equal {}
        impl PartialOrd for Equal {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for Equal {
            fn cmp(&self, _: &Self) -> std::cmp::Ordering {
                std::cmp::Ordering::Equal
            }
        }
        let queue = PriorityQueue::new();
        for n in 0..50 {
            queue.put(Equal(n))?;
        }
        let order: Vec<u32> = std::iter::from_fn(|| queue.try_get()).map(|Equal(n)| n).collect();
        assert_eq!(order, (0..50).collect::<Vec<_>>());
        Ok(())
    });
}

thread_local! {
    /// What the next comparison of two `Nasty` does.
    static NASTY: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
}
struct Nasty(u32);
impl PartialEq for Nasty {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl Eq for Nasty {}
impl PartialOrd for Nasty {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Nasty {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        if let Some(nasty) = NASTY.take() {
            nasty();
        }
        self.0.cmp(&other.0)
    }
}

#[test]
fn a_priority_queue_survives_comparisons_that_panic_or_use_it() {
    passes(|| {
        let queue = PriorityQueue::new();
        for n in [2, 1] {
            queue.put(Nasty(n))?;
        }
        let other = queue.clone();
        let nasties: [Box<dyn FnOnce()>; 2] =
            [Box::new(|| -> () { panic!("compared") }), Box::new(move || assert!(other.try_get().is_none()))];
        for nasty in nasties {
            NASTY.set(Some(nasty));
            let other = queue.clone();
            assert!(spawn(move || other.put(Nasty(0))).wait().is_err(), "the comparison panicked");
        }
        let rest: Vec<u32> = std::iter::from_fn(|| queue.try_get()).map(|nasty| nasty.0).collect();
        assert_eq!(rest.iter().filter(|n| **n > 0).collect::<Vec<_>>(), [&1, &2], "nothing else is lost: {rest:?}");
        Ok(())
    });
}

#[test]
fn join_waits_until_all_that_came_is_done() {
    // EQS-31, LQ-14
    passes(|| {
        let queue = Queue::new();
        queue.join()?;
        queue.put(1)?;
        queue.send(2);
        assert_eq!((queue.get()?, queue.unfinished()), (1, 2));
        assert!(queue.join_timeout(SHORT).expect_err("not done").is::<TimedOut>());
        queue.task_done();
        let other = queue.clone();
        let worker = spawn(move || {
            other.get()?;
            sleep(SHORT);
            other.task_done();
            Ok(())
        });
        queue.join()?;
        assert_eq!(queue.unfinished(), 0);
        worker.wait()
    });
}

#[test]
#[should_panic(expected = "more often than there were items")]
fn task_done_without_an_item_is_a_panic() {
    LifoQueue::<u32>::new().task_done();
}

#[test]
fn a_get_is_interrupted_by_a_deadline_and_the_item_stays_for_the_next() {
    passes(|| {
        let queue = LightQueue::new();
        assert!(with_timeout(SHORT, || queue.get()).is_err());
        assert!(queue.get_timeout(SHORT).expect_err("late").is::<TimedOut>());
        queue.put("here")?;
        assert_eq!((queue.getting(), queue.get()?), (0, "here"));
        Ok(())
    });
}

#[test]
fn iterating_a_queue_gives_one_item_after_another() {
    //
    passes(|| {
        let queue = Queue::new();
        let other = queue.clone();
        spawn(move || (0..5).for_each(|n| other.send(n)));
        let items: Vec<u32> = queue.into_iter().take(5).collect::<twistlet::Result<_>>()?;
        assert_eq!(items, [0, 1, 2, 3, 4]);
        Ok(())
    });
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Put,
    PutShortly,
    Get,
    GetShortly,
    KillPutter,
    KillGetter,
    Yield,
}
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Put),
        1 => Just(Step::PutShortly),
        4 => Just(Step::Get),
        1 => Just(Step::GetShortly),
        1 => Just(Step::KillPutter),
        1 => Just(Step::KillGetter),
        3 => Just(Step::Yield),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// Whoever leaves, however: what was put comes out once.
    #[test]
    fn whoever_is_killed_or_late_no_item_is_lost_or_doubled(bound in 0usize..4, steps in steps()) {
        passes(move || {
            let queue = LightQueue::bounded(bound);
            let put = Rc::new(RefCell::new(VecDeque::new()));
            let got = Rc::new(RefCell::new(Vec::new()));
            let (mut putters, mut getters) = (VecDeque::new(), VecDeque::new());
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Put | Step::PutShortly => {
                        let (queue, put) = (queue.clone(), Rc::clone(&put));
                        let limit = if matches!(step, Step::Put) { Duration::from_secs(60) } else { Duration::from_micros(1) };
                        putters.push_back(spawn(move || {
                            if queue.put_timeout(number, limit).is_ok() {
                                put.borrow_mut().push_back(number);
                            }
                        }));
                    }
                    Step::Get | Step::GetShortly => {
                        let (queue, got) = (queue.clone(), Rc::clone(&got));
                        let limit = if matches!(step, Step::Get) { Duration::from_secs(60) } else { Duration::from_micros(1) };
                        getters.push_back(spawn(move || {
                            if let Ok(item) = queue.get_timeout(limit) {
                                got.borrow_mut().push(item);
                            }
                        }));
                    }
                    Step::KillPutter => drop(putters.pop_front().inspect(|putter| putter.kill())),
                    Step::KillGetter => drop(getters.pop_front().inspect(|getter| getter.kill())),
                    Step::Yield => yield_now(),
                }
            }
            // Everybody who still waits leaves; whoever has been served ends by itself.
            for _ in 0..3 {
                yield_now();
            }
            for thread in putters.iter().chain(&getters) {
                thread.kill();
            }
            wait_all(putters.into_iter().chain(getters));
            yield_now();
            assert_eq!((queue.getting(), queue.putting()), (0, 0));
            let left: Vec<usize> = std::iter::from_fn(|| queue.try_get()).collect();
            let mut all = got.borrow().clone();
            all.extend(left);
            let mut all_put: Vec<usize> = put.borrow().iter().copied().collect();
            all.sort_unstable();
            all_put.sort_unstable();
            // A putter that was killed after its item had gone in did not say so.
            assert!(all_put.iter().all(|item| all.binary_search(item).is_ok()), "lost: put {all_put:?}, came {all:?}");
            let came = all.len();
            all.dedup();
            assert_eq!(all.len(), came, "doubled");
            Ok(())
        });
    }
}

#[test]
fn a_comparison_that_panics_loses_no_item() {
    passes(|| {
        let queue = PriorityQueue::bounded(4);
        for n in [4, 3, 2, 1] {
            queue.put(Nasty(n))?;
        }
        // In a get: the panic is that of whoever gets.
        NASTY.set(Some(Box::new(|| panic!("compared"))));
        let other = queue.clone();
        assert!(spawn(move || other.get().map(drop)).wait().expect_err("compared").is_panic());
        assert_eq!(queue.len(), 4);
        // In a get, but on behalf of one who waits for room.
        let other = queue.clone();
        let putter = spawn(move || other.put(Nasty(0)));
        yield_now();
        while queue.len() > 2 {
            queue.resize(2);
            queue.get()?;
        }
        NASTY.set(Some(Box::new(|| panic!("compared"))));
        queue.get()?;
        putter.wait()?;
        assert!(logged().iter().any(|line| line.contains("compared")));
        assert_eq!(queue.len(), 2, "one was taken, one came in");
        Ok(())
    });
}

#[test]
fn what_a_killed_putter_had_is_dropped_by_nobody_else_and_its_panic_stays_there() {
    struct Panics(u32);
    impl Drop for Panics {
        fn drop(&mut self) {
            if self.0 == 2 {
                panic!("dropped");
            }
        }
    }
    passes(|| {
        let queue = LightQueue::bounded(1);
        queue.put(Panics(1))?;
        let other = queue.clone();
        let doomed = spawn(move || other.put(Panics(2)));
        yield_now();
        doomed.kill();
        // Before the victim runs.
        assert_eq!(queue.get()?.0, 1);
        assert!(doomed.wait().expect_err("killed").is::<Killed>());
        assert!(queue.is_empty() && queue.putting() == 0);
        Ok(())
    });
}

#[test]
fn at_a_rendezvous_whoever_gets_goes_on_before_whoever_puts_also_when_it_came_first() {
    // EQS-21, EQS-22, EQS-28, LQ-05
    passes(|| {
        let (queue, events) = (LightQueue::bounded(0), Rc::new(RefCell::new(Vec::new())));
        let (other, log) = (queue.clone(), Rc::clone(&events));
        let getter = spawn(move || {
            for _ in 0..2 {
                let item = other.get()?;
                log.borrow_mut().push(item);
            }
            Ok(())
        });
        for (item, done) in [("hello", "sent hello"), ("world", "sent world")] {
            queue.put(item)?;
            events.borrow_mut().push(done);
        }
        getter.wait()?;
        assert_eq!(*events.borrow(), ["hello", "sent hello", "world", "sent world"]);

        events.borrow_mut().clear();
        let (other, log) = (queue.clone(), Rc::clone(&events));
        let putter = spawn(move || {
            for (begun, item, done) in [("sending 1", "1", "sent 1"), ("sending 2", "2", "sent 2")] {
                log.borrow_mut().push(begun);
                other.put(item)?;
                log.borrow_mut().push(done);
            }
            Ok(())
        });
        for _ in 0..2 {
            let item = queue.get()?;
            events.borrow_mut().push(item);
        }
        putter.wait()?;
        assert_eq!(*events.borrow(), ["sending 1", "1", "sent 1", "sending 2", "2", "sent 2"]);
        Ok(())
    });
}
