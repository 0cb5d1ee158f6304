//! Kills: forced unwinding, what it may and may not disturb (G4, G5, G9).
#![cfg(feature = "green")]
mod guard;
use guard::{Trace, guarded, joined, logged};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;
use twistlet::error::Killed;
use twistlet::green::{
    Event, GreenThread, Queue, Semaphore, block_on, kill, proc, sleep, spawn, spawn_after, wait_all, with_timeout,
    yield_now,
};
use twistlet::{Deferred, Failure, Reactor};

const LONG: Duration = Duration::from_secs(60);

fn was_killed<T>(outcome: twistlet::Result<T>) -> bool {
    outcome.is_err_and(|failure| failure.is::<Killed>())
}

// GT-12, GT-19
#[test]
fn a_kill_unwinds_the_victim_from_where_it_waits_and_its_waiter_is_told() {
    guarded(|| {
        let trace = Trace::new();
        let guard = trace.on_drop("destructor");
        let noted = trace.clone();
        let victim = spawn(move || {
            let _guard = guard;
            sleep(LONG);
            noted.note("not reached");
        });
        yield_now();
        kill(&victim);
        trace.note("kill returned");
        assert!(was_killed(victim.wait()));
        assert_eq!(trace.take(), ["kill returned", "destructor"]);
        assert!(logged().is_empty());
    });
}

#[test]
fn a_kill_reaches_every_kind_of_wait() {
    guarded(|| {
        let event = Event::<()>::new();
        let queue = Queue::<u8>::bounded(0);
        let semaphore = Semaphore::new(0);
        let (promise, deferred) = Deferred::<()>::new();
        let (other_promise, mut lent) = Deferred::<()>::new();
        let (e, q, q2, s) = (event.clone(), queue.clone(), Queue::<u8>::new(), semaphore.clone());
        let forever = proc::spawn(|| sleep(LONG));
        let (f, child) = (forever.clone(), spawn(|| sleep(LONG)));
        let victims: Vec<GreenThread<()>> = vec![
            spawn(|| sleep(LONG)),
            spawn(move || e.wait()),
            spawn(move || q.put(1)),
            spawn(move || q2.get().map(drop)),
            spawn(move || s.acquire().forget()),
            spawn(move || block_on(deferred)),
            spawn(move || block_on(&mut lent).copied()),
            spawn(move || f.wait()),
            spawn(move || child.wait()),
            spawn(|| {
                loop {
                    yield_now();
                }
            })
            .into_unit(),
            spawn(|| Deferred::<()>::new().1.add_both(|_| Deferred::<()>::new().1)),
        ];
        yield_now();
        victims.iter().for_each(GreenThread::kill);
        for outcome in wait_all(victims) {
            assert!(outcome.is_err());
        }
        forever.kill();
        assert_eq!((event.waiting(), queue.waiting(), semaphore.waiting()), (0, 0, 0));
        drop((promise, other_promise));
    });
}
trait IntoUnit {
    fn into_unit(self) -> GreenThread<()>;
}
impl<T: 'static> IntoUnit for GreenThread<T> {
    fn into_unit(self) -> GreenThread<()> {
        spawn(move || {
            struct KillsIt<T: 'static>(Option<GreenThread<T>>);
            impl<T> Drop for KillsIt<T> {
                fn drop(&mut self) {
                    if let Some(thread) = &self.0 {
                        thread.kill();
                    }
                }
            }
            let _held = KillsIt(Some(self));
            sleep(LONG);
        })
    }
}

// D7, GT-15, PR-23, GTC-08
#[test]
fn killed_before_it_began_it_never_runs_and_its_closure_is_dropped() {
    guarded(|| {
        let trace = Trace::new();
        let (guard, noted) = (trace.on_drop("dropped"), trace.clone());
        let victim = spawn(move || {
            let _guard = guard;
            noted.note("ran");
        });
        let linked = trace.clone();
        victim.link(move |outcome| linked.note(format!("linked {}", outcome.is_err())));
        victim.kill();
        victim.kill();
        trace.note("killed");
        assert!(was_killed(victim.wait()));
        assert_eq!(trace.take(), ["killed", "dropped", "linked true"]);
        let noted = trace.clone();
        let delayed = spawn_after(LONG, move || noted.note("ran"));
        assert!(delayed.cancel());
        assert!(was_killed(delayed.wait()));
        let noted = trace.clone();
        let linkable = proc::spawn(move || noted.note("ran"));
        linkable.kill();
        assert!(was_killed(linkable.wait()));
        assert!(trace.take().is_empty());
        assert_eq!(Reactor::current().statistics().timers, 0, "the start of the delayed one is cancelled");
    });
}

// GT-21
#[test]
fn cancel_does_nothing_to_one_that_has_begun() {
    guarded(|| {
        let begun = spawn(|| {
            yield_now();
            Ok(1)
        });
        yield_now();
        assert!(!begun.cancel());
        assert_eq!(begun.wait().unwrap(), 1);
    });
}

// GT-18
#[test]
fn a_green_thread_that_kills_itself_unwinds_in_place_and_at_every_later_wait() {
    guarded(|| {
        let trace = Trace::new();
        let noted = trace.clone();
        let suicidal = spawn(move || {
            let swallowed = catch_unwind(AssertUnwindSafe(|| {
                noted.note("before");
                HANDLE.with_borrow(|handle| handle.as_ref().unwrap().kill());
                noted.note("not reached");
            }));
            assert!(swallowed.is_err());
            noted.note("swallowed");
            sleep(LONG);
            noted.note("not reached either");
        });
        HANDLE.set(Some(suicidal));
        yield_now();
        let suicidal = HANDLE.take().unwrap();
        assert!(was_killed(suicidal.wait()));
        assert_eq!(trace.take(), ["before", "swallowed"]);
    });
}
thread_local!(static HANDLE: RefCell<Option<GreenThread<()>>> = const { RefCell::new(None) });

// GT-20
#[test]
fn one_that_swallows_its_kill_and_returns_a_value_has_that_value() {
    guarded(|| {
        let victim = spawn(|| {
            let _ = catch_unwind(|| sleep(LONG));
            Ok("survived")
        });
        yield_now();
        victim.kill();
        assert_eq!(victim.wait().unwrap(), "survived");
    });
}

// G4: sticky, bounded, leaked
#[test]
fn one_that_swallows_its_kill_for_ever_is_given_up_with_an_error_in_the_log() {
    guarded(|| {
        let times = Rc::new(Cell::new(0));
        let counted = times.clone();
        let victim = spawn(move || -> () {
            loop {
                let _ = catch_unwind(|| sleep(LONG));
                counted.set(counted.get() + 1);
            }
        });
        victim.set_name("stubborn");
        yield_now();
        victim.kill();
        assert!(was_killed(victim.wait()));
        assert!((100..100_000).contains(&times.get()));
        let log = logged();
        assert!(log.len() == 1 && log[0].contains("stubborn") && log[0].contains("leaked"), "{log:?}");
        // The others go on.
        assert_eq!(spawn(|| Ok(1)).wait().unwrap(), 1);
    });
}

// GT-13, GT-17, GTC-29
#[test]
fn a_kill_from_a_callback_returns_before_the_victim_unwinds() {
    joined(|reactor| {
        let trace = Trace::new();
        let guard = trace.on_drop("unwound");
        let victim = spawn(move || {
            let _guard = guard;
            sleep(LONG);
        });
        reactor.call_later(Duration::from_millis(2), move || {
            victim.kill();
            trace.note("kill returned");
            reactor.call_later(Duration::from_millis(2), move || {
                assert_eq!(trace.take(), ["kill returned", "unwound"]);
                assert!(victim.is_finished());
                reactor.stop()
            });
        });
    });
}

// GTC-28: a destructor cannot wait (G5); what wants to clean up slowly catches the unwinding, and then every wait unwinds again
#[test]
fn destructors_that_block_while_their_green_thread_is_killed_do_not_wait() {
    struct Blocks(Trace, Event<()>, Queue<u8>);
    impl Drop for Blocks {
        fn drop(&mut self) {
            self.0.note("begin");
            sleep(LONG);
            yield_now();
            assert!(was_killed(self.1.wait()));
            assert!(was_killed(self.1.wait_timeout(LONG)));
            assert!(was_killed(self.2.get()));
            assert!(was_killed(self.2.put(1)));
            assert!(was_killed(block_on(Deferred::<()>::new().1)));
            assert!(was_killed(spawn(|| ()).wait()));
            assert!(was_killed(proc::spawn(|| ()).wait()));
            assert_eq!(with_timeout(LONG, || sleep(LONG)), Ok(()));
            self.0.note("end");
        }
    }
    guarded(|| {
        let trace = Trace::new();
        let blocks = Blocks(trace.clone(), Event::new(), Queue::bounded(0));
        let victim = spawn(move || {
            let _blocks = blocks;
            sleep(LONG);
        });
        yield_now();
        victim.kill();
        assert!(was_killed(victim.wait()));
        assert_eq!(trace.take(), ["begin", "end"]);
        // The same in a real panic.
        let blocks = Blocks(trace.clone(), Event::new(), Queue::bounded(0));
        let failed = spawn(move || -> () {
            let _blocks = blocks;
            panic!("a test's");
        });
        assert!(failed.wait().unwrap_err().is_panic());
        assert_eq!(trace.take(), ["begin", "end"]);
    });
}

#[test]
fn destructors_that_spawn_kill_send_and_release_while_unwinding_do_so() {
    struct Acts(Trace, Event<u8>, Queue<u8>, Semaphore, GreenThread<()>);
    impl Drop for Acts {
        fn drop(&mut self) {
            let noted = self.0.clone();
            spawn(move || noted.note("spawned"));
            self.1.send(1);
            self.2.send(2);
            self.3.release();
            self.4.kill();
        }
    }
    guarded(|| {
        let trace = Trace::new();
        let (event, queue, semaphore) = (Event::new(), Queue::new(), Semaphore::new(0));
        let (other_trace, other) = (trace.on_drop("the other was killed"), Event::new());
        let tell = other.clone();
        let victim = spawn(move || {
            let _noted = other_trace;
            tell.send(());
            sleep(LONG);
        });
        other.wait().unwrap();
        let acts = Acts(trace.clone(), event.clone(), queue.clone(), semaphore.clone(), victim);
        let first = spawn(move || {
            let _acts = acts;
            sleep(LONG);
        });
        yield_now();
        first.kill();
        assert_eq!(event.wait().unwrap(), 1);
        assert_eq!(queue.wait().unwrap(), 2);
        semaphore.acquire().forget();
        yield_now();
        assert_eq!(trace.take(), ["spawned", "the other was killed"]);
        assert!(was_killed(first.wait()));
    });
}

// Kill during unwinding: it changes nothing
#[test]
fn a_kill_of_one_that_unwinds_by_a_panic_leaves_the_panic_its_outcome() {
    struct KillsItself;
    impl Drop for KillsItself {
        fn drop(&mut self) {
            HANDLE.with_borrow(|handle| handle.as_ref().unwrap().kill());
        }
    }
    guarded(|| {
        HANDLE.set(Some(spawn(|| -> () {
            let _kills = KillsItself;
            panic!("a test's");
        })));
        yield_now();
        let outcome = HANDLE.take().unwrap().wait();
        assert!(outcome.unwrap_err().is_panic());
    });
}

#[test]
fn a_destructor_that_panics_while_its_green_thread_is_killed_and_catches_it_disturbs_nobody() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            let _ = catch_unwind(|| panic!("a test's"));
        }
    }
    guarded(|| {
        let victim = spawn(|| {
            let _panics = Panics;
            sleep(LONG);
        });
        yield_now();
        victim.kill();
        assert!(was_killed(victim.wait()));
    });
}

// The private payload is sticky through a Deferred's callbacks, which run in the green thread that fires
#[test]
fn a_kill_that_lands_in_a_callback_of_a_deferred_fails_the_chain_and_unwinds_at_the_next_wait() {
    guarded(|| {
        let trace = Trace::new();
        let noted = trace.clone();
        let victim = spawn(move || {
            let (promise, deferred) = Deferred::new();
            let seen = noted.clone();
            let _chain = deferred.add_callback(|()| sleep(LONG)).add_errback(move |failure: Failure| {
                seen.note(format!("errback {}", failure.is::<Killed>()));
            });
            promise.callback(());
            noted.note("fired");
            sleep(LONG);
            noted.note("not reached");
        });
        yield_now();
        victim.kill();
        assert!(was_killed(victim.wait()));
        assert_eq!(trace.take(), ["errback true", "fired"]);
    });
}

/// What a small workload owns, counted.
#[derive(Clone)]
struct Counted(Rc<Cell<usize>>);
impl Counted {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Counted(count.clone())
    }
}
impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

// G4, G9: a kill at every point where a small workload switches
#[test]
fn killed_at_the_nth_switch_for_every_n_a_workload_leaves_nothing_behind() {
    guarded(|| {
        for at in 0.. {
            let alive = Rc::new(Cell::new(0usize));
            let semaphore = Semaphore::new(1);
            let (queue, bounded) = (Queue::<Counted>::new(), Queue::<Counted>::bounded(1));
            let event = Event::<()>::new();
            let switches = Rc::new(Cell::new(0usize));
            let victim = {
                let (alive, semaphore, queue, bounded, event) =
                    (alive.clone(), semaphore.clone(), queue.clone(), bounded.clone(), event.clone());
                spawn(move || {
                    let _mine = Counted::new(&alive);
                    for _ in 0..2 {
                        let _permit = semaphore.acquire();
                        yield_now();
                        bounded.put(Counted::new(&alive))?;
                        let _item = queue.get()?;
                        let _ = with_timeout(Duration::from_millis(1), || sleep(LONG));
                        let inner = Counted::new(&alive);
                        let child = spawn(move || {
                            yield_now();
                            Ok(inner)
                        });
                        let _inner = child.wait()?;
                        let (promise, deferred) = Deferred::new();
                        let counted = Counted::new(&alive);
                        spawn(move || promise.callback(counted));
                        let _value = block_on(deferred)?;
                        sleep(Duration::from_micros(100));
                    }
                    event.wait()
                })
            };
            // Somebody who gives it what it waits for, competes for the permit, and takes what it puts.
            let helper = {
                let (alive, semaphore, queue, bounded, event) =
                    (alive.clone(), semaphore.clone(), queue.clone(), bounded.clone(), event.clone());
                spawn(move || {
                    for _ in 0..2 {
                        queue.send(Counted::new(&alive));
                        drop(semaphore.acquire());
                        let _ = bounded.wait_timeout(Duration::from_millis(5));
                    }
                    event.send(());
                })
            };
            while switches.get() < at && !victim.is_finished() {
                switches.set(switches.get() + 1);
                yield_now();
            }
            let over = victim.is_finished();
            victim.kill();
            let outcome = victim.wait();
            // A wake-up that came before the kill wins: then it got to its end, which needs the event.
            let got_to_its_end = outcome.is_ok() && event.ready();
            assert!(over || got_to_its_end || was_killed(outcome), "killed at switch {at}");
            helper.wait().unwrap();
            // Children that nobody waits for any more run out.
            for _ in 0..5 {
                yield_now();
            }
            assert_eq!(semaphore.available(), 1, "a permit is lost at switch {at}");
            assert_eq!((semaphore.waiting(), queue.waiting(), bounded.waiting(), event.waiting()), (0, 0, 0, 0));
            while queue.poll().is_some() || bounded.poll().is_some() {}
            assert_eq!(alive.get(), 0, "something lives on at switch {at}");
            assert_eq!(Reactor::current().statistics().timers, 0, "a timer is left at switch {at}");
            if over {
                assert!(at > 10, "{at}");
                break;
            }
        }
        assert!(logged().is_empty());
    });
}
