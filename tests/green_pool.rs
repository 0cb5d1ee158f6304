//! `GreenPool`, `imap` and `GreenPile`: so many at a time, results in order, no place ever lost.
#![cfg(feature = "green")]
mod guard;
use guard::{Trace, guarded, in_callback, joined, logged, panic_of};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use twistlet::error::{Deadlock, Killed};
use twistlet::green::{Event, GreenPile, GreenPool, Queue, kill, sleep, spawn, wait_all, with_timeout, yield_now};
use twistlet::{Deferred, Failure, Reactor, Result};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(3600);

fn fail<T>() -> Result<T> {
    Err(Failure::msg("it failed"))
}
/// Counts how many run at once, and the most there were.
#[derive(Clone, Default)]
struct Gauge(Rc<(Cell<usize>, Cell<usize>)>);
impl Gauge {
    fn enter(&self) -> impl Drop + use<> {
        struct Leave(Gauge);
        impl Drop for Leave {
            fn drop(&mut self) {
                let now = &self.0.0.0;
                now.set(now.get() - 1);
            }
        }
        let (now, most) = &*self.0;
        now.set(now.get() + 1);
        most.set(most.get().max(now.get()));
        Leave(self.clone())
    }
    fn now(&self) -> usize {
        self.0.0.get()
    }
    fn most(&self) -> usize {
        self.0.1.get()
    }
}

// ---- GreenPool ----

// GP-01, GP-03
#[test]
fn no_more_jobs_run_than_there_are_places() {
    guarded(|| {
        let (pool, gauge) = (GreenPool::new(3), Gauge::default());
        let jobs: Vec<_> = (0..10)
            .map(|n| {
                let gauge = gauge.clone();
                pool.spawn(move || {
                    let _here = gauge.enter();
                    sleep(Duration::from_micros(100 * (10 - n)));
                    Ok(n)
                })
            })
            .collect();
        assert!(pool.running() <= 3);
        let results: Vec<_> = wait_all(jobs).into_iter().map(|job| job.expect("a number")).collect();
        assert_eq!(results, (0..10).collect::<Vec<_>>());
        assert_eq!((gauge.most(), pool.running(), pool.free()), (3, 0, 3));
        assert_eq!(GreenPool::default().size(), 1000);
    });
}

// PTC-07, GP-01
#[test]
fn the_third_spawn_n_waits_until_one_of_two_has_run() {
    guarded(|| {
        let (pool, trace) = (GreenPool::new(2), Trace::new());
        for n in 1..=3 {
            let job = trace.clone();
            pool.spawn_n(move || job.note(n));
            trace.note(format!("spawned {n}"));
        }
        assert_eq!(trace.take(), ["spawned 1", "spawned 2", "1", "2", "spawned 3"]);
        pool.wait_all();
        assert_eq!(trace.take(), ["3"]);
    });
}

// GP-03, G9
#[test]
fn spawners_get_places_in_the_order_they_came() {
    guarded(|| {
        let (pool, trace, gate) = (GreenPool::new(1), Trace::new(), Event::<()>::new());
        let open = gate.clone();
        pool.spawn(move || open.wait());
        let spawners: Vec<_> = (0..5)
            .map(|n| {
                let (pool, trace) = (pool.clone(), trace.clone());
                spawn(move || {
                    pool.spawn(move || trace.note(n)).wait()?;
                    Ok(())
                })
            })
            .collect();
        yield_now();
        assert_eq!(pool.waiting(), 5);
        assert!(pool.try_spawn(|| ()).is_err(), "no place for whoever has not waited");
        gate.send(());
        wait_all(spawners);
        assert_eq!(trace.take(), ["0", "1", "2", "3", "4"]);
        assert_eq!((pool.waiting(), pool.running()), (0, 0));
    });
}

// PTC-04, GP-02
#[test]
fn a_job_of_a_full_pool_runs_what_it_spawns_itself() {
    guarded(|| {
        let (pool, trace) = (GreenPool::new(1), Trace::new());
        let (inner, noted) = (pool.clone(), trace.clone());
        let outer = pool.spawn(move || {
            let n = noted.clone();
            let job = inner.spawn(move || {
                n.note("by spawn");
                Ok(5)
            });
            assert!(job.is_finished());
            let n = noted.clone();
            inner.spawn_n(move || n.note("by spawn_n"));
            // Deeper.
            let (again, n) = (inner.clone(), noted.clone());
            let deep = inner.spawn(move || {
                sleep(SHORT);
                again.spawn(move || {
                    n.note("inside");
                    Deferred::succeed("a Deferred")
                })
            });
            let _ = deep.wait()?;
            noted.note("goes on");
            job.wait()
        });
        assert_eq!(outer.wait().expect("its value"), 5);
        assert_eq!(trace.take(), ["by spawn", "by spawn_n", "inside", "goes on"]);
        assert_eq!(pool.free(), 1);
    });
}

// GP-02: where Eventlet lets the error out of `spawn`, it is in the handle
#[test]
fn the_failure_or_panic_of_a_job_run_inside_is_in_its_handle() {
    guarded(|| {
        let pool = GreenPool::new(1);
        let inner = pool.clone();
        let outer = pool.spawn(move || {
            let failed = inner.spawn(fail::<()>).wait().expect_err("its failure");
            assert_eq!(failed.to_string(), "it failed");
            let panicked = inner
                .spawn(|| {
                    if true {
                        panic!("at the disco")
                    }
                })
                .wait()
                .expect_err("its panic");
            assert!(panicked.is_panic());
            inner.spawn_n(fail::<()>);
            inner.spawn_n(|| {
                if true {
                    panic!("nobody looks")
                }
            });
            Ok(())
        });
        outer.wait().expect("it goes on");
        let log = logged().join("\n");
        assert!(log.contains("it failed") && log.contains("nobody looks"), "{log}");
        assert_eq!(pool.free(), 1);
    });
}

// GP-02, G4
#[test]
fn a_kill_or_a_deadline_of_a_job_goes_through_the_job_it_runs() {
    guarded(|| {
        let (pool, trace) = (GreenPool::new(1), Trace::new());
        let (inner, noted) = (pool.clone(), trace.clone());
        let outer = pool.spawn(move || {
            let mark = noted.clone();
            let late = with_timeout(SHORT, || {
                inner.spawn(move || {
                    let _end = mark.on_drop("by its deadline");
                    sleep(LONG);
                })
            });
            assert!(late.is_err());
            inner.spawn(move || {
                let _end = noted.on_drop("by a kill");
                sleep(LONG);
            });
            panic!("it was killed")
        });
        sleep(Duration::from_millis(20));
        assert_eq!(trace.take(), ["by its deadline"]);
        outer.kill();
        assert!(outer.wait().expect_err("killed").is::<Killed>());
        assert_eq!(trace.take(), ["by a kill"]);
        assert_eq!(pool.free(), 1);
    });
}

// GP-02
#[test]
fn only_jobs_of_the_pool_itself_are_inside() {
    guarded(|| {
        let (one, other) = (GreenPool::new(1), GreenPool::new(1));
        let (first, second, trace) = (one.clone(), other.clone(), Trace::new());
        let noted = trace.clone();
        let job = one.spawn(move || {
            // A green thread that a job spawns by itself is none of the pool's: it waits.
            let (pool, inside) = (first.clone(), noted.clone());
            spawn(move || {
                pool.spawn(move || inside.note("later"));
            });
            yield_now();
            assert_eq!(first.waiting(), 1);
            // And inside the other pool's job it is not inside the first.
            let pool = second.clone();
            second
                .spawn(move || {
                    pool.spawn(move || noted.note("inline"));
                })
                .wait()
        });
        job.wait().expect("it ends");
        one.wait_all();
        assert_eq!(trace.take(), ["inline", "later"]);
    });
}

// PTC-08, GP-05
#[test]
fn every_end_of_a_job_gives_its_place_back() {
    guarded(|| {
        let pool = GreenPool::new(7);
        let _ = pool.spawn(|| Ok(1)).wait();
        let _ = pool.spawn(fail::<()>).wait();
        let _ = pool
            .spawn(|| {
                if true {
                    panic!("of a job")
                }
            })
            .wait();
        pool.spawn_n(fail::<()>);
        pool.spawn_n(|| {
            if true {
                panic!("of another")
            }
        });
        pool.spawn_n(|| ());
        pool.wait_all();
        assert_eq!(pool.free(), 7);
        // Killed: before it began, while it waits, by itself.
        let unborn = pool.spawn(|| ());
        unborn.kill();
        let waiting = pool.spawn(|| sleep(LONG));
        yield_now();
        waiting.kill();
        let me = Rc::new(RefCell::new(None));
        let own = me.clone();
        *me.borrow_mut() = Some(pool.spawn(move || {
            let me = own.borrow_mut().take().expect("its handle");
            kill(&me);
        }));
        assert_eq!(pool.free(), 5);
        pool.wait_all();
        assert_eq!(pool.free(), 7);
        assert!(unborn.wait().expect_err("killed").is::<Killed>());
        assert!(waiting.wait().expect_err("killed").is::<Killed>());
        // A Deferred that it returned is part of the job.
        let (promise, deferred) = Deferred::<u8>::new();
        let job = pool.spawn(move || deferred);
        yield_now();
        assert_eq!(pool.running(), 1);
        promise.callback(9);
        assert_eq!(job.wait().expect("its value"), 9);
        // Its destructors panic.
        struct Angry;
        impl Drop for Angry {
            fn drop(&mut self) {
                panic!("of a destructor");
            }
        }
        let angry = pool.spawn(|| {
            let _angry = Angry;
        });
        assert!(angry.wait().expect_err("its panic").is_panic());
        let unborn = pool.spawn({
            let angry = Angry;
            move || drop(angry)
        });
        unborn.kill();
        let _ = unborn.wait();
        let _ = pool.spawn(|| Ok(Angry)).wait().map(std::mem::forget);
        assert_eq!(pool.free(), 7);
    });
}

// GP-05: a place is free before anybody hears of the end
#[test]
fn whoever_hears_of_the_end_finds_the_place_free() {
    guarded(|| {
        let pool = GreenPool::new(1);
        let (free, looks) = (Rc::new(Cell::new(-1)), pool.clone());
        let seen = free.clone();
        let job = pool.spawn(|| Ok(1));
        job.link(move |_| seen.set(looks.free()));
        job.wait().expect("its value");
        assert_eq!(free.get(), 1);
    });
}

// GP-06
#[test]
fn an_interrupted_spawner_takes_no_place() {
    guarded(|| {
        let (pool, gate, ran) = (GreenPool::new(1), Event::<()>::new(), Trace::new());
        let open = gate.clone();
        pool.spawn(move || open.wait());
        let (full, inside) = (pool.clone(), ran.clone());
        let killed = spawn(move || {
            full.spawn(move || inside.note("of a killed spawner"));
        });
        yield_now();
        let (full, inside) = (pool.clone(), ran.clone());
        let late = with_timeout(SHORT, move || full.spawn(move || inside.note("of a late one")));
        assert!(late.is_err());
        assert_eq!(pool.waiting(), 1);
        killed.kill();
        yield_now();
        assert_eq!(pool.waiting(), 0);
        gate.send(());
        pool.wait_all();
        assert_eq!((pool.free(), ran.take()), (1, vec![]));
    });
}

// GP-06, G9: the place was handed over first
#[test]
fn a_spawner_that_was_given_a_place_before_its_kill_uses_it() {
    guarded(|| {
        let (pool, gate) = (GreenPool::new(1), Event::<()>::new());
        let (open, full) = (gate.clone(), pool.clone());
        let job = pool.spawn(move || open.wait());
        let ran = Rc::new(Cell::new(false));
        let inside = ran.clone();
        let spawner = spawn(move || {
            full.spawn(move || inside.set(true));
            yield_now();
            panic!("it was killed")
        });
        yield_now();
        // In the context of the job's end, after its place was handed over.
        let victim = Rc::new(spawner);
        let kills = victim.clone();
        job.link(move |_| kills.kill());
        gate.send(());
        sleep(SHORT);
        assert!(victim.is_finished());
        assert!(ran.get());
        assert_eq!(pool.free(), 1);
    });
}

// GP-03
#[test]
fn a_pool_can_be_made_larger_and_smaller() {
    guarded(|| {
        let (pool, gate) = (GreenPool::new(2), Event::<()>::new());
        let mut jobs = Vec::new();
        for _ in 0..2 {
            let open = gate.clone();
            jobs.push(pool.spawn(move || open.wait()));
        }
        pool.resize(0);
        assert_eq!((pool.free(), pool.size(), pool.running()), (-2, 0, 2));
        let (full, open) = (pool.clone(), gate.clone());
        let spawner = spawn(move || full.spawn(move || open.wait()).wait());
        yield_now();
        assert_eq!(pool.waiting(), 1);
        pool.resize(3);
        assert_eq!((pool.waiting(), pool.running(), pool.free()), (0, 3, 0));
        yield_now();
        pool.resize(1);
        gate.send(());
        wait_all(jobs);
        spawner.wait().expect("its turn came");
        assert_eq!((pool.free(), pool.running()), (1, 0));
    });
}

// GP-04
#[test]
fn waiting_for_all_ends_with_the_last_job_and_is_refused_to_a_job() {
    guarded(|| {
        let (pool, trace) = (GreenPool::new(2), Trace::new());
        pool.wait_all();
        for n in 0..3 {
            let trace = trace.clone();
            pool.spawn_n(move || {
                sleep(SHORT);
                trace.note(n);
            });
        }
        pool.wait_all();
        assert_eq!(trace.take(), ["0", "1", "2"]);
        let inside = pool.clone();
        let failure = pool.spawn(move || inside.wait_all()).wait().expect_err("it panics");
        assert!(failure.is_panic() && failure.to_string().contains("wait_all()"), "{failure}");
        // Several may wait.
        pool.spawn_n(|| sleep(SHORT));
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let pool = pool.clone();
                spawn(move || pool.wait_all())
            })
            .collect();
        assert!(wait_all(waiters).iter().all(Result::is_ok));
    });
}

#[test]
fn in_a_callback_a_job_can_be_spawned_where_there_is_a_place() {
    let (running, refused, panicked) = in_callback(|| {
        let pool = GreenPool::new(2);
        pool.spawn(|| ());
        let spawned = pool.try_spawn(|| ()).is_ok();
        let refused = pool.try_spawn(|| ()).is_err();
        let full = pool.clone();
        (pool.running() == 2 && spawned, refused, panic_of(move || full.spawn(|| ())))
    });
    assert!(running && refused);
    assert!(panicked.contains("a blocking call in the main loop"), "{panicked}");
}

#[test]
fn in_a_destructor_of_one_that_unwinds_a_full_pool_refuses() {
    guarded(|| {
        struct Spawns(GreenPool, Trace);
        impl Drop for Spawns {
            fn drop(&mut self) {
                let (one, two) = (self.1.on_drop("dropped unrun"), self.1.clone());
                let job = self.0.spawn(move || {
                    drop(one);
                    two.note("ran")
                });
                self.0.spawn_n(|| ());
                let ended = self.1.clone();
                job.link(move |outcome| ended.note(outcome.is_err_and(|failure| failure.is::<Killed>())));
            }
        }
        let (pool, trace) = (GreenPool::new(1), Trace::new());
        let blocker = pool.spawn(|| sleep(LONG));
        let spawns = Spawns(pool.clone(), trace.clone());
        let victim = spawn(move || {
            let _spawns = spawns;
            sleep(LONG);
        });
        yield_now();
        victim.kill();
        let _ = victim.wait();
        yield_now();
        assert_eq!(trace.take(), ["dropped unrun", "true"]);
        assert!(logged().iter().any(|line| line.contains("a job is not run")));
        blocker.kill();
        pool.wait_all();
        assert_eq!(pool.free(), 1);
    });
}

// D8
#[test]
fn a_pool_that_never_empties_is_a_deadlock_of_main() {
    guarded(|| {
        let pool = GreenPool::new(1);
        pool.spawn(|| Event::<()>::new().wait());
        let full = pool.clone();
        let text = panic_of(move || full.spawn(|| ()));
        assert!(text.contains("deadlock") && text.contains("a place in a GreenPool"), "{text}");
        let text = panic_of(move || pool.wait_all());
        assert!(text.contains("the jobs of a GreenPool"), "{text}");
    });
}

// PTC-03, HB-37: a timer that a job leaves behind does nothing to the next job
#[test]
fn a_deadline_of_a_job_that_ended_never_strikes() {
    guarded(|| {
        let pool = GreenPool::new(1);
        pool.spawn(|| with_timeout(SHORT, || ()).map_err(Failure::from)).wait().expect("in time");
        pool.spawn(|| sleep(SHORT * 3)).wait().expect("undisturbed");
        assert_eq!(Reactor::current().statistics().timers, 0);
    });
}

#[test]
fn the_end_of_the_reactor_leaves_no_place_taken() {
    joined(|reactor| {
        let pool = GreenPool::new(2);
        for _ in 0..2 {
            pool.spawn(|| sleep(LONG));
        }
        let (full, ended) = (pool.clone(), pool.clone());
        spawn(move || {
            full.spawn(|| ());
        });
        let results = pool.imap(|n: u32| Ok(n), 0..);
        spawn(move || results.for_each(drop));
        reactor.call_later(SHORT, move || reactor.stop());
        struct Look(GreenPool);
        impl Drop for Look {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    return;
                }
                assert_eq!((self.0.running(), self.0.waiting()), (0, 0));
            }
        }
        thread_local!(static LOOK: RefCell<Option<Look>> = const { RefCell::new(None) });
        LOOK.set(Some(Look(ended)));
    });
}

// ---- imap ----

// GP-07
#[test]
fn results_come_in_the_order_of_the_input() {
    guarded(|| {
        let pool = GreenPool::new(4);
        let slow_first = |n: u64| {
            sleep(Duration::from_micros(500 * (10 - n)));
            Ok(n)
        };
        let results: Vec<_> = pool.imap(slow_first, 0..10).map(|n| n.expect("a number")).collect();
        assert_eq!(results, (0..10).collect::<Vec<_>>());
        assert_eq!(pool.free(), 4);
    });
}

// GP-07
#[test]
fn the_input_is_read_before_the_iteration_and_not_far_ahead_of_it() {
    guarded(|| {
        let pool = GreenPool::new(3);
        let read = Rc::new(Cell::new(0));
        let counts = read.clone();
        let mut results = pool.imap(Ok, (0..).inspect(move |_| counts.set(counts.get() + 1)));
        assert_eq!(read.get(), 0);
        for _ in 0..5 {
            yield_now();
        }
        assert_eq!(read.get(), 3);
        for taken in 1..=100 {
            assert_eq!(results.next().expect("endless").expect("a number"), taken - 1);
            yield_now();
            assert!(read.get() <= taken + 4, "{} read, {taken} taken", read.get());
        }
        assert!(format!("{results:?}").contains("ended: false"));
        drop(results);
        sleep(SHORT);
        assert!(read.get() < 110);
        assert_eq!(pool.free(), 3);
        pool.wait_all();
    });
}

// PTC-10, GP-08
#[test]
fn what_fails_or_panics_does_so_at_its_own_place() {
    guarded(|| {
        let pool = GreenPool::new(4);
        let mut results = pool.imap(
            |n| match n {
                1 => fail(),
                7 => panic!("the seventh"),
                n => Ok(n),
            },
            0..10,
        );
        for n in 0..10 {
            let result = results.next().expect("ten");
            match n {
                1 => assert_eq!(result.expect_err("fails").to_string(), "it failed"),
                7 => assert!(result.expect_err("panics").is_panic()),
                n => assert_eq!(result.expect("a number"), n),
            }
        }
        assert!(results.next().is_none() && results.next().is_none());
    });
}

// GP-09
#[test]
fn an_empty_input_ends_at_once() {
    guarded(|| {
        let pool = GreenPool::new(4);
        assert_eq!(pool.imap(|()| Ok(()), []).count(), 0);
        assert_eq!(pool.starmap(|_: u8, _: u8| Ok(()), []).count(), 0);
        // No function: the arguments themselves.
        let pairs: Vec<_> = pool.imap(Ok, [1, 2].into_iter().zip(["a", "b"])).flatten().collect();
        assert_eq!(pairs, [(1, "a"), (2, "b")]);
    });
}

#[test]
fn an_input_that_panics_gives_that_last() {
    guarded(|| {
        let pool = GreenPool::new(4);
        let input = (0..).inspect(|n| assert_ne!(*n, 3, "no three"));
        let mut results = pool.imap(Ok, input);
        for n in 0..3 {
            assert_eq!(results.next().expect("three").expect("a number"), n);
        }
        let failure = results.next().expect("its panic").expect_err("a failure");
        assert!(failure.is_panic() && failure.to_string().contains("no three"), "{failure}");
        assert!(results.next().is_none());
        assert_eq!(pool.free(), 4);
        // One whose destructor panics.
        struct Angry(u8);
        impl Iterator for Angry {
            type Item = u8;
            fn next(&mut self) -> Option<u8> {
                self.0 = self.0.checked_sub(1)?;
                Some(self.0)
            }
        }
        impl Drop for Angry {
            fn drop(&mut self) {
                panic!("of the input's destructor");
            }
        }
        let results: Vec<_> = pool.imap(Ok, Angry(2)).collect();
        assert_eq!(results.len(), 3);
        assert!(results[2].as_ref().is_err_and(Failure::is_panic));
    });
}

#[test]
fn dropping_the_results_kills_the_calls_and_drops_the_input() {
    guarded(|| {
        let (pool, trace, gauge) = (GreenPool::new(3), Trace::new(), Gauge::default());
        let (running, input_ends) = (gauge.clone(), trace.on_drop("the input"));
        let input = (0..).inspect(move |_| {
            let _ = &input_ends;
        });
        let mut results = pool.imap(
            move |n: u32| {
                let _here = running.enter();
                if n > 0 {
                    sleep(LONG);
                }
                Ok(n)
            },
            input,
        );
        assert_eq!(results.next().expect("endless").expect("a number"), 0);
        (0..3).for_each(|_| yield_now());
        assert_eq!(gauge.now(), 3);
        drop(results);
        pool.wait_all();
        yield_now();
        assert_eq!((gauge.now(), pool.free(), trace.take()), (0, 3, vec!["the input".to_owned()]));
        // Before the producer began.
        drop(pool.imap(Ok, 0..));
        sleep(SHORT);
        assert_eq!((pool.free(), Reactor::current().statistics().timers), (3, 0));
    });
}

#[test]
fn a_deadline_while_a_result_is_awaited_loses_nothing() {
    guarded(|| {
        let (pool, gate) = (GreenPool::new(2), Event::new());
        let open = gate.clone();
        let mut results = pool.imap(move |n: u32| open.wait().map(|()| n), 0..4);
        assert!(with_timeout(SHORT, || results.next()).is_err());
        assert!(with_timeout(SHORT, || results.next()).is_err());
        gate.send(());
        assert_eq!(results.flatten().collect::<Vec<_>>(), [0, 1, 2, 3]);
    });
}

#[test]
fn a_wait_for_results_that_cannot_end_gives_its_error_and_ends() {
    guarded(|| {
        let pool = GreenPool::new(2);
        let mut results = pool.imap(|_: u32| Event::<()>::new().wait(), 0..);
        assert!(results.next().expect("an error").expect_err("it").is::<Deadlock>());
        assert!(results.next().is_none());
        drop(results);
        pool.wait_all();
        // The producer waits for an input that never comes.
        let mut results = pool.imap(Ok, std::iter::repeat_with(|| Queue::<u8>::new().wait()).map(drop));
        assert!(results.next().expect("an error").expect_err("it").is::<Deadlock>());
        assert!(results.next().is_none());
    });
}

// GP-02
#[test]
fn a_job_may_imap_in_its_own_full_pool() {
    guarded(|| {
        let pool = GreenPool::new(1);
        let inside = pool.clone();
        let job = pool.spawn(move || {
            let squares = inside.imap(
                |n: u32| {
                    sleep(Duration::from_micros(50));
                    Ok(n * n)
                },
                0..10,
            );
            squares.sum::<Result<u32>>()
        });
        assert_eq!(job.wait().expect("a sum"), 285);
        assert_eq!(pool.free(), 1);
    });
}

#[test]
fn several_may_share_a_pool_and_the_input_may_wait() {
    guarded(|| {
        let pool = GreenPool::new(4);
        let queue = Queue::new();
        let gives = queue.clone();
        spawn(move || {
            for n in 0..20 {
                gives.send(n);
                sleep(Duration::from_micros(50));
            }
        });
        let from_queue = pool.imap(Ok, std::iter::repeat_with(move || queue.wait()).map(|n| n.unwrap_or(0)).take(20));
        let from_range = pool.imap(
            |n: u32| {
                yield_now();
                Ok(n)
            },
            0..20,
        );
        let pairs: Vec<_> = from_queue.flatten().zip(from_range.flatten()).collect();
        assert_eq!(pairs, (0..20).map(|n| (n, n)).collect::<Vec<_>>());
        pool.wait_all();
        assert_eq!(pool.free(), 4);
    });
}

// ---- GreenPile ----

// PTC-12, GP-10
#[test]
fn a_pile_gives_its_own_results_in_the_order_of_spawning() {
    guarded(|| {
        let pile = GreenPile::new(5);
        for n in 0..10u64 {
            pile.spawn(move || {
                sleep(Duration::from_micros(100 * (10 - n)));
                Ok(n)
            });
        }
        assert_eq!(pile.len(), 10);
        assert_eq!(pile.flatten().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        // Two on one pool.
        let pool = GreenPool::new(2);
        let (one, two) = (GreenPile::of(&pool), GreenPile::of(&pool));
        for n in 0..10 {
            one.spawn(move || Ok(n));
            two.spawn(move || if n == 3 { fail() } else { Ok(2 * n) });
        }
        assert_eq!(one.flatten().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        let failed: Vec<_> = two.enumerate().filter(|(_, result)| result.is_err()).map(|(n, _)| n).collect();
        assert_eq!(failed, [3]);
        assert_eq!(pool.free(), 2);
    });
}

// GP-10, GP-11
#[test]
fn an_empty_pile_ends_at_once_and_may_be_filled_again() {
    guarded(|| {
        let mut pile = GreenPile::new(2);
        assert!(pile.next().is_none() && pile.is_empty());
        pile.spawn(|| Ok(1));
        assert_eq!(pile.next().expect("one").expect("a number"), 1);
        assert!(pile.next().is_none());
        // Filled by a job of its own.
        let again = pile.clone();
        pile.spawn(move || {
            again.spawn(|| Ok(3));
            Ok(2)
        });
        assert_eq!(pile.clone().flatten().collect::<Vec<_>>(), [2, 3]);
    });
}

// PTC-12, GP-12
#[test]
fn an_interrupted_spawn_is_not_of_the_pile() {
    guarded(|| {
        let (pile, gate) = (GreenPile::new(1), Event::new());
        let open = gate.clone();
        pile.spawn(move || open.wait());
        let late = with_timeout(SHORT, || pile.spawn(|| Ok(())));
        assert!(late.is_err());
        assert_eq!(pile.len(), 1);
        gate.send(());
        assert_eq!(pile.clone().count(), 1);
        pile.spawn(|| Ok(()));
        assert_eq!(pile.count(), 1);
    });
}

#[test]
fn a_deadline_while_a_pile_is_taken_loses_nothing() {
    guarded(|| {
        let (mut pile, gate) = (GreenPile::new(2), Event::new());
        for n in 0..2 {
            let open = gate.clone();
            pile.spawn(move || open.wait().map(|()| n));
        }
        assert!(with_timeout(SHORT, || pile.next()).is_err());
        assert_eq!(pile.len(), 2);
        gate.send(());
        assert_eq!(pile.flatten().collect::<Vec<_>>(), [0, 1]);
    });
}

// ---- many ----

// PTC-13, GP-07
#[test]
fn thousands_of_jobs_keep_each_producers_order_and_bounded_memory() {
    guarded(|| {
        let (pool, gauge) = (GreenPool::new(50), Gauge::default());
        let dice = Rc::new(Cell::new(12345u32));
        let roll = move || {
            dice.set(dice.get().wrapping_mul(1664525).wrapping_add(1013904223));
            dice.get() >> 16
        };
        let producers: Vec<_> = (0..5)
            .map(|_| {
                let (pool, gauge, roll) = (pool.clone(), gauge.clone(), roll.clone());
                spawn(move || {
                    let results = pool.imap(
                        move |n: u32| {
                            let _here = gauge.enter();
                            match roll() % 4 {
                                0 => yield_now(),
                                1 => (0..roll() % 5).for_each(|_| yield_now()),
                                2 => sleep(Duration::from_micros((roll() % 50).into())),
                                _ => {}
                            }
                            Ok(n)
                        },
                        0..2000,
                    );
                    for (n, result) in results.enumerate() {
                        assert_eq!(result? as usize, n);
                    }
                    Ok(())
                })
            })
            .collect();
        for producer in wait_all(producers) {
            producer.expect("in order");
        }
        assert!(gauge.most() <= 50);
        assert_eq!((pool.free(), gauge.now()), (50, 0));
    });
}

/// What a step of the random workload does to the pool.
#[derive(Clone, Debug)]
enum Step {
    Spawn { yields: u8, end: u8 },
    SpawnOutside { yields: u8 },
    Imap { items: u8, take: u8 },
    Kill(u8),
    Cancel(u8),
    Resize(u8),
    Yield,
}
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..4u8, 0..4u8).prop_map(|(yields, end)| Step::Spawn { yields, end }),
        2 => (0..4u8).prop_map(|yields| Step::SpawnOutside { yields }),
        1 => (0..6u8, 0..6u8).prop_map(|(items, take)| Step::Imap { items, take }),
        3 => any::<u8>().prop_map(Step::Kill),
        1 => any::<u8>().prop_map(Step::Cancel),
        1 => (0..5u8).prop_map(Step::Resize),
        2 => Just(Step::Yield),
    ];
    proptest::collection::vec(step, 1..40)
}
proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    // GP-05, GP-06
    #[test]
    fn no_place_is_lost_however_jobs_and_spawners_end(steps in steps()) {
        guarded(move || {
            let (pool, gauge) = (GreenPool::new(3), Gauge::default());
            let mut threads = Vec::new();
            for step in steps {
                match step {
                    Step::Spawn { yields, end } => {
                        let gauge = gauge.clone();
                        let inside = pool.clone();
                        let job = pool.try_spawn(move || {
                            let _here = gauge.enter();
                            for _ in 0..yields {
                                yield_now();
                            }
                            match end {
                                0 => fail(),
                                1 => panic!("of a job"),
                                2 => inside.spawn(yield_now).wait(),
                                _ => Ok(()),
                            }
                        });
                        threads.extend(job.ok());
                    }
                    Step::SpawnOutside { yields } => {
                        let (pool, gauge) = (pool.clone(), gauge.clone());
                        threads.push(spawn(move || {
                            let job = pool.spawn(move || {
                                let _here = gauge.enter();
                                (0..yields).for_each(|_| yield_now());
                            });
                            yield_now();
                            job.wait()
                        }));
                    }
                    Step::Imap { items, take } => {
                        let pool = pool.clone();
                        threads.push(spawn(move || {
                            let f = |n| {
                                yield_now();
                                if n == 2 { fail() } else { Ok(n) }
                            };
                            pool.imap(f, 0..items).take(take.into()).for_each(drop);
                        }));
                    }
                    Step::Kill(n) if !threads.is_empty() => threads[usize::from(n) % threads.len()].kill(),
                    Step::Cancel(n) if !threads.is_empty() => {
                        threads[usize::from(n) % threads.len()].cancel();
                    }
                    Step::Resize(size) => pool.resize(size.into()),
                    _ => yield_now(),
                }
            }
            pool.resize(3);
            for thread in threads {
                let _ = thread.wait();
            }
            pool.wait_all();
            assert_eq!((pool.running(), pool.waiting(), pool.free(), gauge.now()), (0, 0, 3, 0));
        });
    }
}
