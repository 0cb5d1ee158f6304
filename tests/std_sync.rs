//! `green::sync`: locks, conditions, barriers, Once and channels, between green threads and between OS threads.
#![cfg(feature = "green")]
mod guard;
use guard::{Trace, guarded, in_callback, panic_of};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use twistlet::error::Killed;
use twistlet::green::sync::mpsc::{
    RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError, channel, sync_channel,
};
use twistlet::green::sync::{
    Arc, Barrier, Condvar, LazyLock, Mutex, Once, OnceLock, RwLock, RwLockWriteGuard, TryLockError,
};
use twistlet::green::{GreenThread, sleep, spawn, with_timeout, yield_now};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(5);

fn was_killed<T>(outcome: twistlet::Result<T>) -> bool {
    outcome.is_err_and(|failure| failure.is::<Killed>())
}
fn run(threads: impl IntoIterator<Item = GreenThread<()>>) {
    for thread in threads {
        thread.wait().expect("it ended well");
    }
}

#[test]
fn a_mutex_held_over_a_wait_parks_the_others_in_the_order_they_came() {
    guarded(|| {
        let mutex = Arc::new(Mutex::new(Vec::new()));
        let threads: Vec<_> = (0..5)
            .map(|n| {
                let mutex = Arc::clone(&mutex);
                spawn(move || {
                    for _ in 0..3 {
                        let mut list = mutex.lock().unwrap();
                        yield_now();
                        list.push(n);
                    }
                })
            })
            .collect();
        run(threads);
        assert_eq!(*mutex.lock().unwrap(), [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
    });
}

// SE-05
#[test]
fn nobody_barges_in_front_of_one_that_has_been_woken() {
    guarded(|| {
        let mutex = Arc::new(Mutex::new("free"));
        let held = mutex.lock().unwrap();
        let theirs = Arc::clone(&mutex);
        let second = spawn(move || *theirs.lock().unwrap() = "second");
        yield_now();
        drop(held);
        assert!(matches!(mutex.try_lock(), Err(TryLockError::WouldBlock)));
        assert_eq!(*mutex.lock().unwrap(), "second");
        run([second]);
    });
}

// SE-07, G9
#[test]
fn one_killed_in_the_line_of_a_mutex_takes_nothing() {
    guarded(|| {
        let mutex = Arc::new(Mutex::new(0));
        let held = mutex.lock().unwrap();
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let mutex = Arc::clone(&mutex);
                spawn(move || *mutex.lock().unwrap() += 1)
            })
            .collect();
        yield_now();
        // One in the middle; and the first, when it has been told already.
        waiters[1].kill();
        drop(held);
        waiters[0].kill();
        let outcomes: Vec<_> = waiters.into_iter().map(|waiter| was_killed(waiter.wait())).collect();
        // What came first wins: the wake-up. It has the lock, and a kill comes at its next wait, of which there is none.
        assert_eq!(outcomes, [false, true, false]);
        assert_eq!(*mutex.lock().unwrap(), 2);
        assert!(!mutex.is_poisoned());
    });
}

#[test]
fn one_killed_before_the_mutex_is_free_leaves_it_to_the_next() {
    guarded(|| {
        let mutex = Arc::new(Mutex::new(0));
        let held = mutex.lock().unwrap();
        let waiters: Vec<_> = (1..=2)
            .map(|n| {
                let mutex = Arc::clone(&mutex);
                spawn(move || *mutex.lock().unwrap() += n)
            })
            .collect();
        yield_now();
        waiters[0].kill();
        drop(held);
        let outcomes: Vec<_> = waiters.into_iter().map(|waiter| was_killed(waiter.wait())).collect();
        assert_eq!(outcomes, [true, false]);
        assert_eq!(*mutex.lock().unwrap(), 2);
    });
}

// RS-03, UA-09
#[test]
fn a_kill_or_a_deadline_unlocks_without_poisoning_and_a_panic_poisons() {
    guarded(|| {
        let (mutex, lock) = (Arc::new(Mutex::new(0)), Arc::new(RwLock::new(0)));
        let (m, l) = (Arc::clone(&mutex), Arc::clone(&lock));
        let victim = spawn(move || {
            let (_m, _l) = (m.lock().unwrap(), l.write().unwrap());
            sleep(LONG);
        });
        yield_now();
        victim.kill();
        assert!(was_killed(victim.wait()));
        assert!(!mutex.is_poisoned() && !lock.is_poisoned());
        let late = with_timeout(SHORT, || {
            let (_m, _l) = (mutex.lock().unwrap(), lock.write().unwrap());
            sleep(LONG);
        });
        assert!(late.is_err() && !mutex.is_poisoned() && !lock.is_poisoned());

        let (m, l) = (Arc::clone(&mutex), Arc::clone(&lock));
        let fails = spawn(move || {
            let (_m, _l) = (m.lock().unwrap(), l.write().unwrap());
            yield_now();
            panic!("on purpose");
        });
        assert!(fails.wait().unwrap_err().is_panic());
        assert!(mutex.is_poisoned() && lock.is_poisoned());
        *mutex.lock().unwrap_err().into_inner() = 1;
        assert!(matches!(mutex.try_lock(), Err(TryLockError::Poisoned(_))));
        assert!(lock.read().is_err() && lock.write().is_err() && lock.try_read().is_err());
        mutex.clear_poison();
        lock.clear_poison();
        assert_eq!(*mutex.lock().unwrap(), 1);
        assert_eq!(*lock.read().unwrap(), 0);
    });
}

#[test]
fn a_panic_after_a_swallowed_kill_poisons_and_a_kill_resumed_by_hand_does_not() {
    guarded(|| {
        let mutex = Arc::new(Mutex::new(0));
        let m = Arc::clone(&mutex);
        let swallows = spawn(move || {
            let _held = m.lock().unwrap();
            drop(catch_unwind(|| sleep(LONG)));
            panic!("a real one");
        });
        yield_now();
        swallows.kill();
        assert!(swallows.wait().is_err());
        assert!(mutex.is_poisoned());
        mutex.clear_poison();

        let m = Arc::clone(&mutex);
        let resumes = spawn(move || {
            let _held = m.lock().unwrap();
            if let Err(payload) = catch_unwind(|| sleep(LONG)) {
                std::panic::resume_unwind(payload);
            }
        });
        yield_now();
        resumes.kill();
        assert!(was_killed(resumes.wait()));
        assert!(!mutex.is_poisoned());
    });
}

#[test]
fn a_read_guard_does_not_poison() {
    let lock = RwLock::new(0);
    panic_of(|| {
        let _read = lock.read().unwrap();
        panic!("on purpose");
    });
    assert!(!lock.is_poisoned());
    panic_of(|| {
        let _read = RwLockWriteGuard::downgrade(lock.write().unwrap());
        panic!("on purpose");
    });
    assert!(!lock.is_poisoned());
}

// G3
#[test]
fn in_a_callback_what_would_wait_panics_and_what_need_not_is_fine() {
    in_callback(|| {
        let mutex = Mutex::new(0);
        let held = mutex.lock().unwrap();
        assert!(panic_of(|| drop(mutex.lock())).contains("main loop"));
        assert!(mutex.try_lock().is_err());
        drop(held);
        assert_eq!(*mutex.lock().unwrap(), 0);
        let (send, recv) = sync_channel(1);
        send.send(1).unwrap();
        assert!(panic_of(|| send.send(2)).contains("main loop"));
        assert_eq!(recv.recv(), Ok(1));
        assert!(panic_of(|| recv.recv()).contains("main loop"));
        assert_eq!(recv.try_recv(), Err(TryRecvError::Empty));
        let changed = Condvar::new();
        assert!(panic_of(|| drop(changed.wait(mutex.lock().unwrap()))).contains("main loop"));
        assert!(panic_of(|| Barrier::new(2).wait()).contains("main loop"));
        // That was a panic with the mutex locked.
        assert_eq!(*mutex.lock().unwrap_err().into_inner(), 0);
    });
}

// G5
#[test]
fn a_destructor_that_unwinds_does_not_wait() {
    struct Last(Arc<Mutex<u8>>, Arc<Condvar>, Arc<RefCell<Vec<&'static str>>>);
    impl Drop for Last {
        fn drop(&mut self) {
            let mut said = self.2.borrow_mut();
            // Free: had at once.
            let mut held = self.0.lock().unwrap();
            *held += 1;
            if self.1.wait(held).is_err() {
                said.push("wait");
            }
            let (send, recv) = sync_channel(0);
            if send.send(1) == Err(SendError(1)) {
                said.push("send");
            }
            if recv.recv() == Err(RecvError) {
                said.push("recv");
            }
            if recv.recv_timeout(LONG) == Err(RecvTimeoutError::Timeout) {
                said.push("recv_timeout");
            }
            if !Barrier::new(2).wait().is_leader() {
                said.push("barrier");
            }
            // Held by the green thread that waits for us: refused in words, since it would be for ever.
            let locked = self.0.lock().unwrap();
            if catch_unwind(AssertUnwindSafe(|| drop(self.0.lock()))).is_err() {
                said.push("lock");
            }
            drop(locked);
        }
    }
    guarded(|| {
        #[allow(clippy::arc_with_non_send_sync, reason = "one type for all fields")]
        let said = Arc::new(RefCell::new(Vec::new()));
        let mutex = Arc::new(Mutex::new(0));
        let last = Last(Arc::clone(&mutex), Arc::new(Condvar::new()), Arc::clone(&said));
        let victim = spawn(move || {
            let _last = last;
            sleep(LONG);
        });
        yield_now();
        victim.kill();
        assert!(was_killed(victim.wait()));
        assert_eq!(*said.borrow(), ["wait", "send", "recv", "recv_timeout", "barrier", "lock"]);
        assert_eq!(*mutex.lock().unwrap(), 1);
    });
}

#[test]
fn readers_share_and_a_waiting_writer_holds_back_those_who_come_later() {
    guarded(|| {
        let lock = Arc::new(RwLock::new(0));
        let trace = Trace::new();
        let first = lock.read().unwrap();
        let mut threads = Vec::new();
        for (name, writes) in [("writer", true), ("reader 1", false), ("reader 2", false), ("last", true)] {
            let (lock, trace) = (Arc::clone(&lock), trace.clone());
            threads.push(spawn(move || {
                if writes {
                    let mut value = lock.write().unwrap();
                    *value += 1;
                    trace.note(name);
                    yield_now();
                } else {
                    let value = lock.read().unwrap();
                    trace.note(format!("{name} sees {value}"));
                    yield_now();
                    trace.note(format!("{name} leaves"));
                }
            }));
        }
        yield_now();
        assert!(lock.try_read().is_err() && lock.try_write().is_err());
        drop(first);
        run(threads);
        let order = ["writer", "reader 1 sees 1", "reader 2 sees 1", "reader 1 leaves", "reader 2 leaves", "last"];
        assert_eq!(trace.take(), order);
        assert_eq!(*lock.read().unwrap(), 2);
    });
}

#[test]
fn a_writer_killed_in_line_lets_the_readers_behind_it_go_on() {
    guarded(|| {
        let lock = Arc::new(RwLock::new(0));
        let first = lock.read().unwrap();
        let (l, r) = (Arc::clone(&lock), Arc::clone(&lock));
        let writer = spawn(move || *l.write().unwrap() += 1);
        let reader = spawn(move || Ok(*r.read().unwrap()));
        yield_now();
        writer.kill();
        assert!(was_killed(writer.wait()));
        // While the first still reads.
        assert_eq!(reader.wait().unwrap(), 0);
        assert_eq!(*first, 0);
    });
}

#[test]
fn a_condvar_wakes_in_order_and_passes_on_what_a_killed_one_was_meant_to_get() {
    guarded(|| {
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let trace = Trace::new();
        let waiters: Vec<_> = (0..4)
            .map(|n| {
                let (shared, trace) = (Arc::clone(&shared), trace.clone());
                spawn(move || {
                    let mut tickets = shared.0.lock().unwrap();
                    tickets = shared.1.wait_while(tickets, |tickets| *tickets == 0).unwrap();
                    *tickets -= 1;
                    trace.note(n);
                })
            })
            .collect();
        yield_now();
        *shared.0.lock().unwrap() = 2;
        waiters[0].kill();
        shared.1.notify_one();
        // On its way back to the lock, which is held.
        let held = shared.0.lock().unwrap();
        shared.1.notify_one();
        yield_now();
        waiters[2].kill();
        yield_now();
        drop(held);
        let mut outcomes = waiters.into_iter();
        assert!(was_killed(outcomes.next().unwrap().wait()));
        outcomes.next().unwrap().wait().unwrap();
        assert!(was_killed(outcomes.next().unwrap().wait()));
        outcomes.next().unwrap().wait().unwrap();
        assert_eq!(trace.take(), ["1", "3"]);
        assert_eq!(*shared.0.lock().unwrap(), 0);
    });
}

#[test]
fn timed_waits_of_a_condvar_say_whether_the_time_was_up() {
    guarded(|| {
        let (mutex, changed) = (Mutex::new(false), Condvar::new());
        let (guard, late) = changed.wait_timeout(mutex.lock().unwrap(), SHORT).unwrap();
        assert!(late.timed_out());
        let (guard, late) = changed.wait_timeout_while(guard, SHORT, |ready| !*ready).unwrap();
        assert!(late.timed_out() && !*guard);
        let (guard, late) = changed.wait_timeout_while(guard, LONG, |ready| *ready).unwrap();
        assert!(!late.timed_out());
        drop(guard);
        let shared = Arc::new((mutex, changed));
        let theirs = Arc::clone(&shared);
        let teller = spawn(move || {
            *theirs.0.lock().unwrap() = true;
            theirs.1.notify_all();
        });
        let guard = shared.0.lock().unwrap();
        let (guard, late) = shared.1.wait_timeout_while(guard, LONG, |ready| !*ready).unwrap();
        assert!(!late.timed_out() && *guard);
        run([teller]);
    });
}

#[test]
fn a_barrier_has_one_leader_and_does_not_count_the_killed() {
    guarded(|| {
        let barrier = Arc::new(Barrier::new(3));
        let come = || {
            let barrier = Arc::clone(&barrier);
            spawn(move || Ok(barrier.wait().is_leader()))
        };
        for _ in 0..3 {
            let killed = come();
            yield_now();
            killed.kill();
            assert!(was_killed(killed.wait()));
            let three = [come(), come(), come()];
            assert_eq!(three.map(|one| one.wait().unwrap()), [false, false, true]);
        }
        assert!(Barrier::new(1).wait().is_leader() && Barrier::new(0).wait().is_leader());
    });
}

#[test]
fn a_once_runs_one_closure_that_may_wait_and_a_kill_leaves_it_to_the_next() {
    guarded(|| {
        let once = Arc::new(Once::new());
        let trace = Trace::new();
        let call = |name: &'static str, time| {
            let (once, trace) = (Arc::clone(&once), trace.clone());
            spawn(move || {
                once.call_once(|| {
                    trace.note(format!("{name} begins"));
                    sleep(time);
                    trace.note(format!("{name} ends"));
                });
                trace.note(format!("{name} goes on"));
            })
        };
        let (victim, next, late) = (call("victim", LONG), call("next", SHORT), call("late", SHORT));
        let theirs = Arc::clone(&once);
        let watcher = spawn(move || theirs.wait());
        yield_now();
        victim.kill();
        assert!(was_killed(victim.wait()));
        run([next, late, watcher]);
        assert_eq!(trace.take(), ["victim begins", "next begins", "next ends", "next goes on", "late goes on"]);
        assert!(once.is_completed());
    });
}

#[test]
fn a_panic_poisons_a_once_until_it_is_forced() {
    let once = Once::new();
    panic_of(|| once.call_once(|| panic!("on purpose")));
    assert!(!once.is_completed());
    assert!(panic_of(|| once.call_once(|| {})).contains("poisoned"));
    assert!(panic_of(|| once.wait()).contains("poisoned"));
    once.call_once_force(|state| assert!(state.is_poisoned()));
    once.call_once(|| unreachable!());
    once.wait_force();
}

#[test]
fn a_value_is_made_once_though_its_maker_waits() {
    guarded(|| {
        let (cell, made) = (Arc::new(OnceLock::new()), Rc::new(RefCell::new(0)));
        let threads: Vec<_> = (0..3)
            .map(|n| {
                let (cell, made) = (Arc::clone(&cell), Rc::clone(&made));
                spawn(move || {
                    let value = *cell.get_or_init(|| {
                        *made.borrow_mut() += 1;
                        sleep(SHORT);
                        n
                    });
                    Ok(value)
                })
            })
            .collect();
        let theirs = Arc::clone(&cell);
        let waiter = spawn(move || Ok(*theirs.wait()));
        yield_now();
        assert_eq!(cell.get(), None);
        assert_eq!(threads.into_iter().map(|thread| thread.wait().unwrap()).collect::<Vec<_>>(), [0, 0, 0]);
        assert_eq!((waiter.wait().unwrap(), *made.borrow()), (0, 1));
        assert_eq!(cell.set(9), Err(9));
        let mut cell = Arc::into_inner(cell).unwrap();
        assert_eq!((cell.take(), cell.take()), (Some(0), None));
        assert_eq!(cell.set(9), Ok(()));
        assert_eq!((cell.clone() == cell, format!("{cell:?}")), (true, "OnceLock(9)".to_owned()));
    });
}

#[test]
fn a_lazy_lock_is_poisoned_by_a_panic_of_its_initialiser() {
    let lazy: LazyLock<u8> = LazyLock::new(|| panic!("on purpose"));
    assert_eq!(panic_of(|| *lazy), "on purpose");
    assert!(panic_of(|| *lazy).contains("poisoned"));
    let mut lazy = LazyLock::new(|| 5);
    assert_eq!(LazyLock::get(&lazy), None);
    *LazyLock::force_mut(&mut lazy) += 1;
    assert_eq!((*lazy, LazyLock::get_mut(&mut lazy)), (6, Some(&mut 6)));
}

#[test]
fn a_channel_gives_items_in_order_and_tells_of_its_ends() {
    guarded(|| {
        let (send, recv) = channel();
        assert_eq!(recv.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(recv.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        let other = send.clone();
        let sender = spawn(move || {
            for n in 0..5 {
                other.send(n).unwrap();
                yield_now();
            }
        });
        assert_eq!(recv.iter().take(5).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        run([sender]);
        send.send(5).unwrap();
        send.send(6).unwrap();
        assert_eq!(recv.try_iter().collect::<Vec<_>>(), [5, 6]);
        send.send(7).unwrap();
        drop(send);
        assert_eq!((recv.recv(), recv.recv()), (Ok(7), Err(RecvError)));
        assert_eq!(recv.try_recv(), Err(TryRecvError::Disconnected));
        assert_eq!(recv.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
        let (send, recv) = channel();
        drop(recv);
        assert_eq!(send.send(1), Err(SendError(1)));
        // The last sender goes while one waits.
        let (send, recv) = channel::<u8>();
        let waits = spawn(move || Ok(recv.into_iter().count()));
        yield_now();
        drop(send);
        assert_eq!(waits.wait().unwrap(), 0);
    });
}

#[test]
fn a_bounded_channel_holds_back_its_senders_in_order() {
    guarded(|| {
        let (send, recv) = sync_channel(2);
        assert_eq!((send.try_send(0), send.try_send(1)), (Ok(()), Ok(())));
        assert_eq!(send.try_send(2), Err(TrySendError::Full(2)));
        let senders: Vec<_> = (2..6)
            .map(|n| {
                let send = send.clone();
                spawn(move || {
                    send.send(n).unwrap();
                    Ok(n)
                })
            })
            .collect();
        yield_now();
        senders[1].kill();
        // Its item is not sent, whether it has unwound yet or not.
        assert_eq!(recv.iter().take(5).collect::<Vec<_>>(), [0, 1, 2, 4, 5]);
        let outcomes: Vec<_> = senders.into_iter().map(|sender| sender.wait().ok()).collect();
        assert_eq!(outcomes, [Some(2), None, Some(4), Some(5)]);
        // The receiver goes while one waits: the item comes back.
        send.send(6).unwrap();
        send.send(7).unwrap();
        let waits = spawn(move || Ok(send.send(8)));
        yield_now();
        drop(recv);
        assert_eq!(waits.wait().unwrap(), Err(SendError(8)));
    });
}

#[test]
fn a_rendezvous_ends_when_the_item_is_taken() {
    guarded(|| {
        let (send, recv) = sync_channel(0);
        assert_eq!(send.try_send(0), Err(TrySendError::Full(0)));
        let trace = Trace::new();
        let noted = trace.clone();
        let theirs = send.clone();
        let sender = spawn(move || {
            theirs.send(1).unwrap();
            noted.note("sent");
        });
        yield_now();
        yield_now();
        trace.note("not yet");
        assert_eq!(recv.recv(), Ok(1));
        run([sender]);
        assert_eq!(trace.take(), ["not yet", "sent"]);
        // The other way round: somebody waits for it.
        let receiver = spawn(move || {
            let first = recv.recv().unwrap();
            Ok((first, recv.recv_timeout(SHORT), recv))
        });
        yield_now();
        assert_eq!(send.try_send(2), Ok(()));
        assert_eq!(send.try_send(3), Err(TrySendError::Full(3)));
        let (first, none, recv) = receiver.wait().unwrap();
        assert_eq!((first, none), (2, Err(RecvTimeoutError::Timeout)));
        let killed = spawn(move || recv.recv().map_err(Into::into));
        yield_now();
        killed.kill();
        assert!(was_killed(killed.wait()));
        assert_eq!(send.send(4), Err(SendError(4)));
    });
}

// RS-16
#[test]
fn items_are_dropped_when_nothing_is_locked() {
    struct Asks(Rc<RefCell<Option<twistlet::green::sync::mpsc::Sender<Asks>>>>);
    impl Drop for Asks {
        fn drop(&mut self) {
            if let Some(send) = self.0.borrow().as_ref() {
                assert!(send.send(Asks(Rc::default())).is_err());
            }
        }
    }
    guarded(|| {
        let (send, recv) = channel();
        let slot = Rc::new(RefCell::new(Some(send.clone())));
        for _ in 0..3 {
            assert!(send.send(Asks(Rc::clone(&slot))).is_ok());
        }
        drop(recv);
        let left = slot.borrow_mut().take();
        drop(left);
    });
}

/// Permits by a mutex and a condition; given back by a destructor, which may run in a kill.
struct Permits(Mutex<usize>, Condvar);
struct Permit<'a>(&'a Permits);
impl Permits {
    fn acquire(&self) -> Permit<'_> {
        let mut free = self.1.wait_while(self.0.lock().unwrap(), |free| *free == 0).unwrap();
        *free -= 1;
        Permit(self)
    }
}
impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap() += 1;
        self.0.1.notify_one();
    }
}

// G9, UA-09
#[test]
fn a_kill_at_any_moment_loses_no_permit_no_lock_and_no_item() {
    guarded(|| {
        for moment in 0..120 {
            for victim in 0..4 {
                let permits = Arc::new(Permits(Mutex::new(2), Condvar::new()));
                let (mutex, lock) = (Arc::new(Mutex::new(0)), Arc::new(RwLock::new(0)));
                let (send, recv) = sync_channel(1);
                let items = spawn(move || Ok(recv.iter().count()));
                let workers: Vec<_> = (0..4)
                    .map(|n| {
                        let (permits, mutex, lock) = (Arc::clone(&permits), Arc::clone(&mutex), Arc::clone(&lock));
                        let send = send.clone();
                        spawn(move || {
                            for round in 0..3 {
                                let permit = permits.acquire();
                                yield_now();
                                let mut held = mutex.lock().unwrap();
                                yield_now();
                                *held += 1;
                                drop(held);
                                drop(permit);
                                if (n + round) % 2 == 0 {
                                    *lock.write().unwrap() += 1;
                                } else {
                                    let _read = lock.read().unwrap();
                                    yield_now();
                                }
                                send.send(n).unwrap();
                            }
                        })
                    })
                    .collect();
                drop(send);
                for _ in 0..moment {
                    yield_now();
                }
                workers[victim].kill();
                let ended = workers.into_iter().map(|worker| worker.wait().is_ok());
                let ended = ended.filter(|ended| *ended).count();
                assert!(ended >= 3, "{moment} {victim}");
                let items = items.wait().unwrap();
                assert!(items >= 9 && (ended < 4 || items == 12), "{moment} {victim}");
                assert_eq!(*permits.0.lock().unwrap(), 2, "{moment} {victim}");
                assert!(mutex.try_lock().is_ok() && lock.try_write().is_ok());
            }
        }
    });
}

/// Runs `work` on so many OS threads at once, each with green threads of its own where `greens` is not zero.
fn on_threads(threads: usize, greens: usize, work: impl Fn(usize) + Send + Sync + 'static) {
    let work = Arc::new(work);
    let all: Vec<_> = (0..threads)
        .map(|thread| {
            let work = Arc::clone(&work);
            std::thread::spawn(move || {
                if greens == 0 {
                    return work(thread);
                }
                let tasks: Vec<_> = (0..greens)
                    .map(|n| {
                        let work = Arc::clone(&work);
                        spawn(move || work(thread * greens + n))
                    })
                    .collect();
                run(tasks);
            })
        })
        .collect();
    for thread in all {
        thread.join().expect("no assertion failed");
    }
}

// SE-12, UA-27, RS-20
#[test]
fn a_mutex_excludes_green_threads_of_several_os_threads_and_plain_ones() {
    guarded(|| {
        for greens in [0, 1, 5] {
            let inside = AtomicBool::new(false);
            let shared = Arc::new((Mutex::new(0), inside));
            let theirs = Arc::clone(&shared);
            on_threads(4, greens, move |_| {
                for round in 0..200 {
                    let mut count = theirs.0.lock().unwrap();
                    assert!(!theirs.1.swap(true, Ordering::SeqCst));
                    *count += 1;
                    if round % 16 == 0 && greens > 0 {
                        yield_now();
                    }
                    theirs.1.store(false, Ordering::SeqCst);
                }
            });
            assert_eq!(*shared.0.lock().unwrap(), 4 * greens.max(1) * 200);
        }
    });
}

#[test]
fn a_rwlock_keeps_writers_alone_across_os_threads() {
    guarded(|| {
        for greens in [0, 4] {
            let shared = Arc::new((RwLock::new([0; 8]), AtomicUsize::new(0)));
            let theirs = Arc::clone(&shared);
            on_threads(3, greens, move |number| {
                for round in 0..100 {
                    if (number + round) % 4 == 0 {
                        let mut values = theirs.0.write().unwrap();
                        for value in values.iter_mut() {
                            *value += 1;
                            if greens > 0 && round % 10 == 0 {
                                yield_now();
                            }
                        }
                        theirs.1.fetch_add(1, Ordering::Relaxed);
                    } else {
                        let values = theirs.0.read().unwrap();
                        let first = values[0];
                        if greens > 0 && round % 10 == 0 {
                            yield_now();
                        }
                        assert!(values.iter().all(|value| *value == first));
                    }
                }
            });
            assert_eq!(shared.0.read().unwrap()[7], shared.1.load(Ordering::Relaxed));
        }
    });
}

#[test]
fn a_condvar_loses_no_ticket_across_os_threads() {
    guarded(|| {
        let shared = Arc::new((Mutex::new(0usize), Condvar::new()));
        let theirs = Arc::clone(&shared);
        // Half of them make tickets, half of them take.
        on_threads(4, 4, move |number| {
            for _ in 0..100 {
                if number % 2 == 0 {
                    *theirs.0.lock().unwrap() += 1;
                    theirs.1.notify_one();
                } else {
                    let mut tickets = theirs.0.lock().unwrap();
                    while *tickets == 0 {
                        tickets = theirs.1.wait(tickets).unwrap();
                    }
                    *tickets -= 1;
                }
            }
        });
        assert_eq!(*shared.0.lock().unwrap(), 0);
    });
}

#[test]
fn killed_and_late_waiters_lose_no_ticket_across_os_threads() {
    guarded(|| {
        let shared = Arc::new((Mutex::new(0usize), Condvar::new()));
        let taken = Arc::new(AtomicUsize::new(0));
        let takers: Vec<_> = (0..2)
            .map(|_| {
                let (shared, taken) = (Arc::clone(&shared), Arc::clone(&taken));
                std::thread::spawn(move || {
                    while taken.load(Ordering::SeqCst) < 300 {
                        let victims: Vec<_> = (0..3)
                            .map(|_| {
                                let (shared, taken) = (Arc::clone(&shared), Arc::clone(&taken));
                                spawn(move || {
                                    let mut tickets = shared.0.lock().unwrap();
                                    while *tickets == 0 {
                                        let limit = Duration::from_micros(300);
                                        tickets = shared.1.wait_timeout(tickets, limit).unwrap().0;
                                    }
                                    *tickets -= 1;
                                    taken.fetch_add(1, Ordering::SeqCst);
                                })
                            })
                            .collect();
                        sleep(Duration::from_micros(200));
                        for victim in &victims {
                            victim.kill();
                        }
                        for victim in victims {
                            let _ = victim.wait();
                        }
                    }
                })
            })
            .collect();
        for _ in 0..300 {
            *shared.0.lock().unwrap() += 1;
            shared.1.notify_one();
            if taken.load(Ordering::Relaxed).is_multiple_of(3) {
                std::thread::yield_now();
            }
        }
        for taker in takers {
            taker.join().unwrap();
        }
        assert_eq!((*shared.0.lock().unwrap(), taken.load(Ordering::SeqCst)), (0, 300));
        assert!(!shared.0.is_poisoned());
    });
}

#[test]
fn channels_carry_everything_between_os_threads() {
    guarded(|| {
        for bound in [None, Some(0), Some(1), Some(7)] {
            let (report, results) = std::sync::mpsc::channel();
            for greens in [0, 3] {
                let report = report.clone();
                // One end here, on MAIN or on a plain thread, the other in green threads of another thread.
                let senders = greens.max(1);
                let sum = |recv: twistlet::green::sync::mpsc::Receiver<usize>| {
                    recv.iter().fold((0, 0), |(n, sum), item| (n + 1, sum + item))
                };
                let received = match bound {
                    None => {
                        let (send, recv) = channel();
                        let thread = std::thread::spawn(move || {
                            let send = Mutex::new(send);
                            on_threads(2, greens, move |_| {
                                let send = send.lock().unwrap().clone();
                                (0..100).for_each(|item| send.send(item).unwrap());
                            });
                        });
                        let received = sum(recv);
                        thread.join().unwrap();
                        received
                    }
                    Some(bound) => {
                        let (send, recv) = sync_channel(bound);
                        let thread = std::thread::spawn(move || {
                            on_threads(2, greens, move |_| (0..100).for_each(|item| send.send(item).unwrap()));
                        });
                        let received = sum(recv);
                        thread.join().unwrap();
                        received
                    }
                };
                report.send((received, senders)).unwrap();
            }
            drop(report);
            for (received, senders) in results {
                assert_eq!(received, (2 * senders * 100, 2 * senders * 4950), "bound {bound:?}");
            }
        }
    });
}

#[test]
fn once_and_barrier_work_across_os_threads() {
    guarded(|| {
        for greens in [0, 4] {
            let (once, calls) = (Once::new(), AtomicUsize::new(0));
            let barrier = Barrier::new(3 * greens.max(1));
            let leaders = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&leaders);
            on_threads(3, greens, move |_| {
                for _ in 0..20 {
                    counted.fetch_add(usize::from(barrier.wait().is_leader()), Ordering::SeqCst);
                }
                once.call_once(|| {
                    sleep(SHORT);
                    calls.fetch_add(1, Ordering::SeqCst);
                });
                assert_eq!(calls.load(Ordering::SeqCst), 1);
            });
            assert_eq!(leaders.load(Ordering::SeqCst), 20);
        }
    });
}

#[test]
fn a_thread_without_a_reactor_gets_none_by_waiting() {
    guarded(|| {
        let mutex = Arc::new(Mutex::new(()));
        let held = mutex.lock().unwrap();
        let theirs = Arc::clone(&mutex);
        let (asks, asked) = std::sync::mpsc::channel();
        let plain = std::thread::spawn(move || {
            asks.send(()).unwrap();
            drop(theirs.lock().unwrap());
            // Had it one, this would be refused.
            twistlet::Reactor::new().unwrap().close();
        });
        asked.recv().unwrap();
        std::thread::sleep(SHORT);
        drop(held);
        plain.join().unwrap();
    });
}

#[test]
fn main_goes_on_by_std_means_when_its_reactor_has_ended() {
    guarded(|| {
        let (send, recv) = channel();
        run([spawn(|| {})]);
        twistlet::Reactor::current().close();
        let plain = std::thread::spawn(move || {
            std::thread::sleep(SHORT);
            send.send(1).unwrap();
        });
        assert_eq!(recv.recv(), Ok(1));
        plain.join().unwrap();
    });
}

#[test]
fn a_wait_for_another_thread_is_no_deadlock() {
    guarded(|| {
        let (send, recv) = channel();
        run([spawn(|| {})]);
        let start = Instant::now();
        let plain = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            send.send(1).unwrap();
        });
        assert_eq!(recv.recv(), Ok(1));
        assert!(start.elapsed() >= Duration::from_millis(20));
        plain.join().unwrap();
    });
}

#[test]
fn the_end_of_a_reactor_hands_on_what_its_green_threads_waited_for() {
    guarded(|| {
        let mutex = Arc::new(Mutex::new(0));
        let held = mutex.lock().unwrap();
        let theirs = Arc::clone(&mutex);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let ends = std::thread::spawn(move || {
            let waits = spawn(move || *theirs.lock().unwrap() += 1);
            yield_now();
            ready.send(()).unwrap();
            twistlet::Reactor::current().close();
            assert!(was_killed(waits.wait()));
        });
        is_ready.recv().unwrap();
        let ours = Arc::clone(&mutex);
        let next = std::thread::spawn(move || *ours.lock().unwrap() += 2);
        ends.join().unwrap();
        drop(held);
        next.join().unwrap();
        assert_eq!(*mutex.lock().unwrap(), 2);
    });
}

#[test]
fn they_show_themselves_as_those_of_std() {
    let mutex = Mutex::new(1);
    assert_eq!(format!("{mutex:?}"), format!("{:?}", std::sync::Mutex::new(1)));
    let held = mutex.lock().unwrap();
    assert_eq!(format!("{held:?} {held}"), "1 1");
    assert_eq!(format!("{mutex:?}"), "Mutex { data: <locked>, poisoned: false, .. }");
    drop(held);
    let lock = RwLock::new(1);
    assert_eq!(format!("{lock:?}"), format!("{:?}", std::sync::RwLock::new(1)));
    assert_eq!(format!("{:?}", Condvar::new()), "Condvar { .. }");
    assert_eq!(format!("{:?}", Once::new()), "Once { .. }");
    assert_eq!(format!("{:?}", OnceLock::<u8>::new()), "OnceLock(<uninit>)");
    let lazy: LazyLock<u8> = LazyLock::new(|| 1);
    assert_eq!(format!("{lazy:?}"), "LazyLock(<uninit>)");
    assert_eq!((mutex.into_inner().unwrap(), lock.into_inner().unwrap()), (1, 1));
    static EVERYWHERE: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    EVERYWHERE.lock().unwrap().push(1);
}
