//! `Select`, `broadcast`, `watch` and the stricter semaphores.
#![cfg(feature = "green")]
mod guard;

use guard::passes;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use twistlet::error::Killed;
use twistlet::green::broadcast::{Closed, Lagged};
use twistlet::green::queue::{LifoQueue, LightQueue, PriorityQueue};
use twistlet::green::semaphore::{BoundedSemaphore, CappedSemaphore, ReleasedTooOften};
use twistlet::green::{
    Channel, Event, Queue, Select, Semaphore, broadcast, sleep, spawn, wait_all, watch, with_timeout, yield_now,
};
use twistlet::{Failure, Reactor, TimedOut};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_select_takes_what_comes_first_and_leaves_the_rest_alone() {
    passes(|| {
        let (queue, other, event, semaphore) =
            (Queue::new(), LightQueue::new(), Event::<u32>::new(), Semaphore::new(0));
        let choose = || {
            let (queue, other, event, semaphore) = (queue.clone(), other.clone(), event.clone(), semaphore.clone());
            let chosen = spawn(move || {
                Select::new()
                    .on(&queue, |item: twistlet::Result<u32>| format!("queue {item:?}"))
                    .on(&other, |item: u32| format!("other {item}"))
                    .on(&event, |outcome| format!("event {outcome:?}"))
                    .on(&semaphore, |permit| {
                        permit.forget();
                        "permit".to_owned()
                    })
                    .wait()
            });
            yield_now();
            chosen
        };
        let chosen = choose();
        assert_eq!((queue.waiting(), other.getting(), event.waiting(), semaphore.waiting()), (1, 1, 1, 1));
        queue.send(1);
        // Between the wake and the resumption: it is taken, and nobody else's item is.
        other.put(2)?;
        semaphore.release();
        assert_eq!(chosen.wait()?, "queue Ok(1)");
        assert_eq!((queue.waiting(), other.getting(), event.waiting(), semaphore.waiting()), (0, 0, 0, 0));
        assert_eq!((other.get()?, semaphore.try_acquire().map(|permit| permit.forget())), (2, Some(())));

        let chosen = choose();
        event.send(3);
        event.reset();
        assert_eq!(chosen.wait()?, "event Ok(3)", "the outcome it was woken for (EV-09)");
        let chosen = choose();
        semaphore.release();
        assert_eq!(chosen.wait()?, "permit");
        assert_eq!(semaphore.available(), 0);
        let chosen = choose();
        queue.send_exception(Failure::msg("sent"));
        assert!(chosen.wait()?.contains("sent"));
        Ok(())
    });
}

#[test]
fn a_select_that_is_late_or_killed_has_done_nothing() {
    passes(|| {
        let (queue, semaphore) = (Queue::<u32>::new(), Semaphore::new(0));
        let late = Select::new().on(&queue, |_| false).after(LONG, || false).after(SHORT, || true).wait()?;
        assert!(late);
        let (other, permits) = (queue.clone(), semaphore.clone());
        let doomed = spawn(move || Select::new().on(&other, |_| ()).on(&permits, drop).wait());
        yield_now();
        assert_eq!((queue.waiting(), semaphore.waiting()), (1, 1));
        doomed.kill();
        assert!(doomed.wait().expect_err("killed").is::<Killed>());
        assert_eq!((queue.waiting(), semaphore.waiting()), (0, 0));
        assert!(with_timeout(SHORT, || Select::new().on(&queue, |_| ()).wait()).is_err());
        queue.send(1);
        semaphore.release();
        assert_eq!((queue.len(), semaphore.available()), (1, 1));
        Ok(())
    });
}

#[test]
fn what_was_handed_to_a_select_before_its_kill_is_not_lost() {
    passes(|| {
        let queue = Queue::new();
        let (other, got) = (queue.clone(), Rc::new(Cell::new(0)));
        let result = Rc::clone(&got);
        let doomed = spawn(move || {
            Select::new().on(&other, |item: twistlet::Result<u32>| result.set(item.unwrap_or(0))).wait()?;
            yield_now();
            Ok(())
        });
        yield_now();
        queue.send(7);
        doomed.kill();
        assert!(doomed.wait().expect_err("killed at its next wait").is::<Killed>());
        assert_eq!(got.get(), 7);
        Ok(())
    });
}

#[test]
fn a_select_puts_when_there_is_room_and_keeps_the_item_otherwise() {
    passes(|| {
        let (full, jobs) = (Queue::bounded(1), Queue::<u32>::new());
        full.put(1)?;
        let mut slot = Some(2);
        jobs.send(5);
        let which = Select::new().put(&full, &mut slot, || 0).on(&jobs, |job| job.unwrap_or(0)).wait()?;
        assert_eq!((which, slot), (5, Some(2)));
        let other = full.clone();
        let taker = spawn(move || {
            sleep(SHORT);
            other.get()
        });
        let which = Select::new().put(&full, &mut slot, || 1).on(&jobs, |_| 0).wait()?;
        assert_eq!((which, slot), (1, None));
        assert_eq!((taker.wait()?, full.get()?), (1, 2));
        let late = Select::new().put(&Queue::bounded(0), &mut slot, || false).after(SHORT, || true).wait()?;
        assert!(late, "an empty slot has nothing to put");
        let mut slot = Some("late");
        let channel = Channel::new();
        let late = Select::new().put(&channel, &mut slot, || false).after(SHORT, || true).wait()?;
        assert_eq!((late, slot, channel.sending()), (true, Some("late"), 0));
        Ok(())
    });
}

#[test]
fn two_selects_can_meet_on_a_channel() {
    passes(|| {
        let channel = Channel::new();
        let other = channel.clone();
        let sender = spawn(move || {
            let mut slot = Some("met");
            Select::new().put(&other, &mut slot, || true).after(LONG, || false).wait()
        });
        let got = Select::new().on(&channel, |item| item).after(LONG, || Ok("late")).wait()??;
        assert_eq!((got, sender.wait()?), ("met", true));
        Ok(())
    });
}

#[test]
fn things_that_are_all_ready_take_turns() {
    passes(|| {
        let queues: Vec<Queue<()>> = (0..4).map(|_| Queue::new()).collect();
        let mut chosen = [0; 4];
        for _ in 0..100 {
            let mut select = Select::new();
            for (number, queue) in queues.iter().enumerate() {
                if !queue.ready() {
                    queue.send(());
                }
                select = select.on(queue, move |_| number);
            }
            chosen[select.wait()?] += 1;
        }
        assert!(chosen.iter().all(|times| *times >= 10), "{chosen:?}");
        Ok(())
    });
}

#[test]
fn a_select_that_does_not_wait_works_in_callbacks_and_one_that_waits_panics_there() {
    passes(|| {
        let queue = Queue::<u32>::new();
        assert!(Select::new().on(&queue, |_| ()).try_now().is_err());
        let log = Rc::new(RefCell::new(Vec::new()));
        let (other, seen) = (queue.clone(), Rc::clone(&log));
        Reactor::current().call_soon(move || {
            other.send(1);
            seen.borrow_mut().push(Select::new().on(&other, |item| item.is_ok()).wait().unwrap_or(false));
            let waits = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                Select::new().on(&other, |item| item.is_ok()).wait()
            }));
            seen.borrow_mut().push(waits.is_err());
        });
        yield_now();
        yield_now();
        assert_eq!(*log.borrow(), [true, true]);
        assert_eq!(queue.waiting(), 0);
        Ok(())
    });
}

#[test]
fn every_kind_of_source_wakes_a_select() {
    passes(|| {
        let (sender, receiver) = broadcast::channel(4);
        let (level, watcher) = watch::channel(0);
        let (smallest, newest, bounded) = (PriorityQueue::new(), LifoQueue::new(), BoundedSemaphore::new(1));
        bounded.acquire().forget();
        let (queue, other, permits) = (smallest.clone(), newest.clone(), bounded.clone());
        let selecting = spawn(move || {
            let mut seen = Vec::new();
            for _ in 0..5 {
                let select = Select::new()
                    .on(&receiver, |value: twistlet::Result<i32>| value.unwrap_or(-1))
                    .on(&watcher, |value| value.map_or(-1, |value| *value))
                    .on(&queue, |item: i32| item)
                    .on(&other, |item: i32| item)
                    .on(&permits, |permit| {
                        permit.forget();
                        5
                    });
                seen.push(select.wait()?);
            }
            Ok(seen)
        });
        let wakes: [&dyn Fn(); 5] = [
            &|| assert!(sender.send(1).is_ok()),
            &|| assert!(level.send(2).is_ok()),
            &|| assert!(smallest.try_put(3).is_ok()),
            &|| assert!(newest.try_put(4).is_ok()),
            &|| assert!(bounded.release().is_ok()),
        ];
        for wake in wakes {
            yield_now();
            wake();
        }
        assert_eq!(selecting.wait()?, [1, 2, 3, 4, 5]);
        Ok(())
    });
}

#[test]
fn every_receiver_of_a_broadcast_gets_every_value_and_the_end() {
    passes(|| {
        let (sender, first) = broadcast::channel(8);
        let receivers = [first.clone(), sender.subscribe(), first];
        let receiving = receivers.map(|receiver| {
            spawn(move || {
                let mut got = Vec::new();
                loop {
                    match receiver.recv() {
                        Ok(value) => got.push(value),
                        Err(failure) if failure.is::<Closed>() => return Ok(got),
                        Err(failure) => return Err(failure),
                    }
                }
            })
        });
        for n in 0..20 {
            assert_eq!(sender.send(n)?, 3);
            yield_now();
        }
        drop(sender);
        for got in wait_all(receiving) {
            assert_eq!(got?, (0..20).collect::<Vec<_>>());
        }
        Ok(())
    });
}

#[test]
fn a_receiver_that_is_too_slow_is_told_how_much_it_missed() {
    passes(|| {
        let (sender, receiver) = broadcast::channel(2);
        for n in 0..5 {
            sender.send(n)?;
        }
        assert_eq!(receiver.recv().expect_err("slow").check::<Lagged>(), Some(&Lagged(3)));
        assert_eq!((receiver.len(), receiver.recv()?, receiver.recv()?), (2, 3, 4));
        assert!(receiver.try_recv().is_none());
        assert!(receiver.recv_timeout(SHORT).expect_err("nothing").is::<TimedOut>());
        drop(receiver);
        assert_eq!(sender.send(9), Err(Closed));
        Ok(())
    });
}

#[test]
fn a_watched_value_is_seen_once_for_each_look_however_often_it_changed() {
    passes(|| {
        let (level, watcher) = watch::channel(0);
        assert!(!watcher.has_changed() && watcher.try_changed().is_none());
        level.send(1)?;
        level.send(2)?;
        assert_eq!(*watcher.changed()?, 2);
        assert!(watcher.changed_timeout(SHORT).expect_err("no change").is::<TimedOut>());
        let waiting = spawn(move || {
            let reached = watcher.wait_for(|level| *level >= 5)?;
            let end = watcher.changed().expect_err("the sender goes");
            Ok((*reached, end.is::<Closed>()))
        });
        for n in 3..=5 {
            level.send(n)?;
            yield_now();
        }
        drop(level);
        assert_eq!(waiting.wait()?, (5, true));
        Ok(())
    });
}

#[test]
fn a_bounded_semaphore_is_not_released_more_often_than_it_was_acquired() {
    // SE-08
    passes(|| {
        let semaphore = BoundedSemaphore::new(2);
        assert_eq!(semaphore.release(), Err(ReleasedTooOften));
        let permit = semaphore.acquire();
        semaphore.acquire().forget();
        assert!(semaphore.is_locked() && semaphore.try_acquire().is_none());
        assert!(semaphore.acquire_timeout(SHORT).is_none());
        let other = semaphore.clone();
        let waiting = spawn(move || other.acquire().forget());
        yield_now();
        assert_eq!(semaphore.balance(), -1);
        semaphore.release()?;
        waiting.wait()?;
        drop(permit);
        semaphore.release()?;
        assert_eq!((semaphore.release(), semaphore.available()), (Err(ReleasedTooOften), 2));
        Ok(())
    });
}

#[test]
fn a_capped_semaphore_holds_back_whoever_releases_too_much() {
    // SE-09
    passes(|| {
        let semaphore = CappedSemaphore::new(1, 2);
        assert!(semaphore.try_release() && !semaphore.try_release());
        assert!(semaphore.is_bounded() && !semaphore.is_locked());
        assert!(!semaphore.release_timeout(SHORT), "nothing was given");
        assert_eq!(semaphore.balance(), 2);
        let other = semaphore.clone();
        let releasing = spawn(move || other.release());
        yield_now();
        assert_eq!(semaphore.balance(), 3);
        semaphore.acquire();
        releasing.wait()?;
        assert_eq!(semaphore.available(), 2);
        for _ in 0..2 {
            semaphore.acquire();
        }
        assert!(semaphore.is_locked() && !semaphore.try_acquire() && !semaphore.acquire_timeout(SHORT));
        let other = semaphore.clone();
        let acquiring = spawn(move || other.acquire());
        yield_now();
        assert_eq!(semaphore.balance(), -1);
        acquiring.kill();
        acquiring.wait().expect_err("killed");
        assert_eq!(semaphore.balance(), 0);

        let meeting = CappedSemaphore::new(0, 0);
        assert!(!meeting.try_acquire() && !meeting.try_release());
        let other = meeting.clone();
        let releasing = spawn(move || other.release());
        yield_now();
        meeting.acquire();
        releasing.wait()
    });
}

#[test]
#[should_panic(expected = "3 permits and a limit of 2")]
fn a_capped_semaphore_with_more_permits_than_it_may_have_is_a_panic() {
    CappedSemaphore::new(3, 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Selects, plain waits, deadlines and kills on the same things: every item is taken once, every permit is accounted for.
    #[test]
    fn nothing_is_lost_between_selects_that_are_killed_or_late(steps in prop::collection::vec(0u8..6, 1..80)) {
        passes(move || {
            let (queue, semaphore) = (Queue::new(), Semaphore::new(0));
            let (taken, used) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(0)));
            let (mut sent, mut released) = (0u32, 0);
            let mut threads = Vec::new();
            for step in steps {
                match step {
                    0 => {
                        queue.send(sent);
                        sent += 1;
                    }
                    1 => {
                        semaphore.release();
                        released += 1;
                    }
                    2 | 3 => {
                        let (queue, semaphore) = (queue.clone(), semaphore.clone());
                        let (taken, used) = (Rc::clone(&taken), Rc::clone(&used));
                        let limit = if step == 2 { LONG } else { Duration::from_micros(1) };
                        threads.push(spawn(move || {
                            Select::new()
                                .on(&queue, |item| drop(item.map(|item| taken.borrow_mut().push(item))))
                                .on(&semaphore, |permit| {
                                    permit.forget();
                                    used.set(used.get() + 1);
                                })
                                .after(limit, || ())
                                .wait()
                        }));
                    }
                    4 => {
                        if let Some(thread) = threads.first() {
                            thread.kill();
                            threads.rotate_left(1);
                        }
                    }
                    _ => yield_now(),
                }
            }
            yield_now();
            for thread in &threads {
                thread.kill();
            }
            wait_all(threads);
            assert_eq!((queue.waiting(), semaphore.waiting()), (0, 0));
            let mut all = taken.borrow().clone();
            all.extend(std::iter::from_fn(|| queue.poll()).filter_map(Result::ok));
            all.sort_unstable();
            assert_eq!(all, (0..sent).collect::<Vec<_>>());
            assert_eq!(used.get() + semaphore.available(), released);
            Ok(())
        });
    }
}

#[test]
fn an_item_that_was_not_put_is_in_its_slot_although_somebody_made_room_before_the_select_went_on() {
    passes(|| {
        let (full, stop) = (Queue::bounded(1), Event::<()>::new());
        full.put(1)?;
        let (other, stopped) = (full.clone(), stop.clone());
        let selecting = spawn(move || {
            let mut slot = Some(2);
            let which = Select::new()
                .put(&other, &mut slot, || "put")
                .on(&stopped, |_| "stopped")
                .after(LONG, || "late")
                .wait()?;
            Ok((which, slot))
        });
        yield_now();
        stop.send(());
        assert_eq!(full.get()?, 1);
        assert_eq!(selecting.wait()?, ("stopped", Some(2)));
        assert!(full.is_empty());
        Ok(())
    });
}

#[test]
fn two_items_for_the_same_queue_stay_in_their_own_slots() {
    passes(|| {
        let full = Queue::bounded(1);
        full.put(0)?;
        let other = full.clone();
        let selecting = spawn(move || {
            let (mut one, mut two) = (Some(1), Some(2));
            Select::new().put(&other, &mut one, || ()).put(&other, &mut two, || ()).wait()?;
            Ok((one, two))
        });
        yield_now();
        assert_eq!((full.get()?, full.putting()), (0, 0));
        assert_eq!((selecting.wait()?, full.get()?), ((None, Some(2)), 1));
        Ok(())
    });
}

#[test]
fn selects_that_alternate_are_fair_each() {
    passes(|| {
        let queues: Vec<Queue<()>> = (0..4).map(|_| Queue::new()).collect();
        for queue in &queues {
            (0..200).for_each(|_| queue.send(()));
        }
        let mut chosen = [0; 4];
        for _ in 0..100 {
            for pair in [0, 2] {
                let (one, two) = (pair, pair + 1);
                let which = Select::new().on(&queues[one], |_| one).on(&queues[two], |_| two).wait()?;
                chosen[which] += 1;
            }
        }
        assert!(chosen.iter().all(|times| *times >= 20), "{chosen:?}");
        Ok(())
    });
}

#[test]
fn a_select_sees_green_threads_end_and_leaves_their_outcome() {
    passes(|| {
        let slow = spawn(|| sleep(LONG));
        let quick = spawn(|| {
            yield_now();
            Ok("done")
        });
        let watched = Rc::new(quick);
        let other = Rc::clone(&watched);
        let second = spawn(move || Select::new().on(&*other, |()| "it ended").wait());
        let first = Select::new().on(&slow, |()| "slow").on(&*watched, |()| "quick").after(LONG, || "late").wait()?;
        assert_eq!((first, second.wait()?), ("quick", "it ended"), "both who wait for it");
        assert!(!slow.is_finished());
        assert_eq!(Rc::into_inner(watched).expect("the last handle").wait()?, "done");
        let failed = spawn(|| -> twistlet::Result { Err(Failure::msg("unseen")) });
        Select::new().on(&failed, |()| ()).wait()?;
        // Waiting for the end is not seeing the outcome.
        assert_eq!(failed.wait().expect_err("failed").to_string(), "unseen");
        slow.kill();
        Ok(())
    });
}

#[test]
fn a_select_can_wait_until_a_point_in_time_and_acquire_of_a_capped_semaphore() {
    passes(|| {
        let meeting = CappedSemaphore::new(0, 0);
        let now = std::time::Instant::now();
        assert!(Select::new().on(&meeting, |()| false).at(now + SHORT, || true).wait()?);
        assert!(now.elapsed() >= SHORT);
        assert!(Select::new().on(&meeting, |()| false).at(now, || true).wait()?, "past");
        assert_eq!(meeting.balance(), 0);
        let other = meeting.clone();
        let releasing = spawn(move || other.release());
        assert!(Select::new().on(&meeting, |()| true).after(LONG, || false).wait()?);
        releasing.wait()
    });
}

#[test]
fn a_select_puts_into_a_priority_queue() {
    passes(|| {
        let jobs = PriorityQueue::bounded(2);
        jobs.put(2)?;
        let mut slot = Some(1);
        Select::new().put(&jobs, &mut slot, || ()).wait()?;
        assert_eq!((slot, jobs.get()?, jobs.get()?), (None, 1, 2));
        Ok(())
    });
}

#[test]
fn a_guard_dropped_after_somebody_released_in_its_stead_gives_nothing() {
    passes(|| {
        let semaphore = BoundedSemaphore::new(1);
        let permit = semaphore.acquire();
        semaphore.release()?;
        drop(permit);
        assert_eq!(semaphore.available(), 1);

        // SE-10, by kill and by panic
        let capped = CappedSemaphore::new(2, 2);
        let (one, two) = (capped.clone(), capped.clone());
        let killed = spawn(move || {
            let _held = one.hold();
            sleep(LONG);
        });
        let failed = spawn(move || -> () {
            let _held = two.hold();
            panic!("a test's");
        });
        yield_now();
        assert_eq!(capped.available(), 1);
        killed.kill();
        assert!(killed.wait().is_err() && failed.wait().is_err());
        assert_eq!(capped.available(), 2);
        let held = capped.hold();
        capped.release();
        drop(held);
        assert_eq!((capped.available(), capped.is_bounded()), (2, true));
        Ok(())
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    /// Against a model: permits are conserved, and handed over in the order in which they were asked for.
    #[test]
    fn a_semaphore_serves_in_order_whoever_is_killed_or_late(begin in 0usize..3, steps in prop::collection::vec(0u8..5, 1..60)) {
        passes(move || {
            let semaphore = Semaphore::new(begin);
            let served = Rc::new(RefCell::new(Vec::new()));
            let (mut free, mut line, mut expected) = (begin, std::collections::VecDeque::new(), Vec::new());
            let mut threads = Vec::new();
            for step in steps {
                match step {
                    0 | 1 => {
                        let (semaphore, served, number) = (semaphore.clone(), Rc::clone(&served), threads.len());
                        threads.push(spawn(move || {
                            semaphore.acquire().forget();
                            served.borrow_mut().push(number);
                        }));
                        yield_now();
                        if free > 0 && line.is_empty() {
                            free -= 1;
                            expected.push(number);
                        } else {
                            line.push_back(number);
                        }
                    }
                    2 => {
                        semaphore.release();
                        match line.pop_front() {
                            Some(next) => expected.push(next),
                            None => free += 1,
                        }
                    }
                    3 => {
                        // In the same turn as what comes next.
                        if let Some(victim) = line.pop_back() {
                            threads[victim].kill();
                        }
                    }
                    _ => {
                        let barged = semaphore.try_acquire();
                        assert_eq!(barged.is_some(), free > 0, "nobody takes what was handed to another");
                    }
                }
                assert_eq!((semaphore.available(), semaphore.waiting()), (free, line.len()));
            }
            yield_now();
            yield_now();
            assert_eq!(*served.borrow(), expected);
            threads.iter().for_each(|thread| thread.kill());
            wait_all(threads);
            assert_eq!((semaphore.available(), semaphore.waiting()), (free, 0));
            Ok(())
        });
    }
}
