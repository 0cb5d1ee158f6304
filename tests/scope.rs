//! `green::scope`: green threads that borrow from a stack, and every way out of it.
#![cfg(feature = "green")]
mod guard;
use guard::{Trace, guarded, in_callback, joined, logged, panic_of};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};
use twistlet::error::{Killed, WaitsForItself};
use twistlet::green::scope::{Scope, scope};
use twistlet::green::{
    Builder, Event, GreenState, GreenThread, Semaphore, current, sleep, spawn, with_timeout, yield_now,
};
use twistlet::greenlet::Greenlet;
use twistlet::{Failure, Reactor, TimedOut};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(10);

/// Something on somebody's stack that knows when it is gone: whoever uses it afterwards is found out.
struct Lent<'a> {
    alive: Cell<bool>,
    used: Cell<usize>,
    wrong: &'a Cell<bool>,
}
impl<'a> Lent<'a> {
    fn new(wrong: &'a Cell<bool>) -> Self {
        Lent { alive: Cell::new(true), used: Cell::new(0), wrong }
    }
    fn touch(&self) {
        if !self.alive.get() {
            self.wrong.set(true);
        }
        self.used.set(self.used.get() + 1);
    }
}
impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.alive.set(false);
    }
}
/// Uses it when it goes.
struct Touches<'a>(&'a Lent<'a>);
impl Drop for Touches<'_> {
    fn drop(&mut self) {
        self.0.touch();
    }
}
fn never() -> &'static Cell<bool> {
    Box::leak(Box::new(Cell::new(false)))
}

// UA-37
#[test]
fn green_threads_borrow_from_their_maker_and_have_ended_when_scope_returns() {
    guarded(|| {
        let words = ["a".to_owned(), "b".to_owned()];
        let mut counted = 0;
        let order = RefCell::new(Vec::new());
        let value = scope(|s| {
            s.spawn(|| {
                sleep(SHORT);
                counted += words.len();
            });
            let other = s.spawn(|| {
                order.borrow_mut().push(1);
                yield_now();
                order.borrow_mut().push(3);
                words.join("")
            });
            s.spawn(|| order.borrow_mut().push(2));
            other.wait().unwrap()
        });
        assert_eq!((value.as_str(), counted), ("ab", 2));
        assert_eq!(*order.borrow(), [1, 2, 3]);
        assert_eq!(scope(|_| 7), 7);
        assert!(logged().is_empty());
    });
}

#[test]
fn handles_that_are_dropped_or_forgotten_are_joined_all_the_same() {
    guarded(|| {
        let count = Cell::new(0);
        scope(|s| {
            drop(s.spawn(|| {
                sleep(SHORT);
                count.set(count.get() + 1);
            }));
            std::mem::forget(s.spawn(|| {
                sleep(SHORT);
                count.set(count.get() + 1);
            }));
        });
        assert_eq!(count.get(), 2);
    });
}

#[test]
fn a_scope_that_panics_kills_its_green_threads_and_panics_when_they_are_gone() {
    guarded(|| {
        let wrong = never();
        let trace = Trace::new();
        let said = panic_of(|| {
            let lent = Lent::new(wrong);
            scope(|s| {
                for _ in 0..3 {
                    s.spawn(|| {
                        let _touch = Touches(&lent);
                        let _noted = trace.on_drop("gone");
                        sleep(LONG);
                    });
                }
                s.spawn(|| {
                    let _touch = Touches(&lent);
                    unreachable!("never started");
                });
                yield_now();
                let _last = s.spawn(|| unreachable!("never started"));
                panic!("oh");
            })
        });
        assert_eq!(said, "oh");
        trace.note("caught");
        assert_eq!(trace.take(), ["gone", "gone", "gone", "caught"]);
        assert!(!wrong.get());
    });
}

#[test]
fn an_owner_that_is_killed_inside_unwinds_when_its_green_threads_are_gone() {
    guarded(|| {
        let wrong = never();
        let trace = Trace::new();
        let seen = trace.clone();
        let owner = spawn(move || {
            let _owner = seen.on_drop("owner");
            let lent = Lent::new(wrong);
            scope(|s| {
                s.spawn(|| {
                    let _touch = Touches(&lent);
                    let _noted = seen.on_drop("child");
                    sleep(LONG);
                });
                sleep(LONG);
            });
        });
        yield_now();
        yield_now();
        owner.kill();
        assert!(owner.wait().unwrap_err().is::<Killed>());
        assert_eq!(trace.take(), ["child", "owner"]);
        assert!(!wrong.get());
    });
}

#[test]
fn neither_kills_nor_deadlines_let_an_owner_leave_before_a_child_that_takes_its_time() {
    guarded(|| {
        let wrong = never();
        let trace = Trace::new();
        let (seen, gate) = (trace.clone(), Event::<()>::new());
        let open = gate.clone();
        let owner = spawn(move || {
            let _owner = seen.on_drop("owner");
            let lent = Lent::new(wrong);
            let late = with_timeout(SHORT, || {
                scope(|s| {
                    s.spawn(|| {
                        let _touch = Touches(&lent);
                        // Swallows what it is told, some times.
                        for _ in 0..20 {
                            let _ = catch_unwind(AssertUnwindSafe(|| sleep(LONG)));
                        }
                        std::thread::sleep(SHORT * 2);
                        lent.touch();
                        seen.note("child");
                    });
                    open.send(());
                    sleep(LONG);
                })
            });
            seen.note(format!("{late:?}"));
            // The kill, which was kept.
            yield_now();
            unreachable!("killed");
        });
        gate.wait().unwrap();
        sleep(SHORT / 2);
        for _ in 0..5 {
            owner.kill();
            yield_now();
        }
        assert!(owner.wait().unwrap_err().is::<Killed>());
        assert_eq!(trace.take().first().map(String::as_str), Some("child"));
        assert!(!wrong.get());
    });
}

#[test]
fn a_kill_that_comes_while_the_owner_waits_for_dying_children_comes_after_them() {
    guarded(|| {
        let wrong = never();
        let trace = Trace::new();
        let (seen, permit) = (trace.clone(), Semaphore::new(0));
        let give = permit.clone();
        let owner = spawn(move || {
            let lent = Lent::new(wrong);
            let late = with_timeout(SHORT, || {
                scope(|s| {
                    s.spawn(|| {
                        let _touch = Touches(&lent);
                        // A scope of its own holds it up: its child outlives many kills.
                        scope(|inner| {
                            inner.spawn(|| {
                                for _ in 0..200 {
                                    let _ = catch_unwind(AssertUnwindSafe(yield_now));
                                    lent.touch();
                                }
                            });
                            sleep(LONG);
                        });
                    });
                    sleep(LONG);
                })
            });
            assert_eq!(late, Err(TimedOut(SHORT)));
            seen.note("late");
            drop(give.acquire());
            seen.note("not reached");
        });
        sleep(SHORT * 2);
        owner.kill();
        owner.kill();
        assert!(owner.wait().unwrap_err().is::<Killed>());
        assert_eq!(trace.take(), ["late"]);
        assert!(!wrong.get());
        drop(permit);
    });
}

#[test]
fn a_deadline_around_a_scope_ends_its_green_threads_and_is_the_outcome() {
    guarded(|| {
        let wrong = never();
        let began = Instant::now();
        let late = with_timeout(SHORT, || {
            let lent = Lent::new(wrong);
            scope(|s| {
                s.spawn(|| {
                    let _touch = Touches(&lent);
                    sleep(LONG)
                });
            })
        });
        assert_eq!(late, Err(TimedOut(SHORT)));
        assert!(began.elapsed() < LONG / 2);
        assert!(!wrong.get());
        // A deadline inside ends what is inside of it alone.
        let inner = scope(|s| {
            let slow = s.spawn(|| {
                sleep(SHORT * 3);
                1
            });
            let late = with_timeout(SHORT, || sleep(LONG));
            (late.is_err(), slow.wait().unwrap())
        });
        assert_eq!(inner, (true, 1));
    });
}

#[test]
fn a_child_that_is_killed_has_that_as_its_outcome_and_the_scope_goes_on() {
    guarded(|| {
        let outcome = scope(|s| {
            let started = s.spawn(|| sleep(LONG));
            let other = s.spawn(|| sleep(LONG));
            other.kill();
            yield_now();
            assert!(matches!(started.thread().state(), GreenState::Parked { .. }));
            started.kill();
            (started.wait(), other.join())
        });
        assert!(outcome.0.unwrap_err().is::<Killed>());
        assert!(outcome.1.unwrap_err().is::<Killed>());
        // Killed, and nobody asks: that is no panic.
        scope(|s| s.spawn(|| sleep(LONG)).kill());
        assert!(logged().is_empty());
    });
}

#[test]
fn a_panic_that_nobody_waited_for_makes_scope_panic_and_one_that_was_waited_for_does_not() {
    guarded(|| {
        let caught = scope(|s| s.spawn(|| panic!("mine")).wait().map(|()| 1));
        assert!(caught.unwrap_err().is_panic());
        let trace = Trace::new();
        let said = panic_of(|| {
            scope(|s| {
                s.spawn(|| panic!("nobody's"));
                s.spawn(|| {
                    sleep(SHORT);
                    trace.note("the other ran to its end");
                });
            })
        });
        assert_eq!(said, "a scoped green thread panicked");
        assert_eq!(trace.take(), ["the other ran to its end"]);
        // The scope's own panic goes before.
        let said = panic_of(|| {
            scope(|s| {
                s.spawn(|| panic!("a child's"));
                yield_now();
                panic!("the scope's");
            })
        });
        assert_eq!(said, "the scope's");
    });
}

#[test]
fn scopes_nest_and_scoped_green_threads_spawn_into_their_scope() {
    guarded(|| {
        let count = Cell::new(0);
        let add = || count.set(count.get() + 1);
        fn grow<'scope>(s: &'scope Scope<'scope, '_>, left: usize, add: &'scope dyn Fn()) {
            add();
            if left > 0 {
                s.spawn(move || {
                    yield_now();
                    grow(s, left - 1, add);
                    grow(s, left - 1, add);
                });
            }
        }
        scope(|s| grow(s, 6, &add));
        assert_eq!(count.get(), 127);
        count.set(0);
        scope(|outer| {
            for _ in 0..3 {
                outer.spawn(|| {
                    let local = Cell::new(0);
                    scope(|inner| {
                        for _ in 0..3 {
                            inner.spawn(|| {
                                yield_now();
                                local.set(local.get() + 1);
                            });
                        }
                    });
                    assert_eq!(local.get(), 3);
                    count.set(count.get() + local.get());
                });
            }
        });
        assert_eq!(count.get(), 9);
    });
}

#[test]
fn what_destructors_of_dying_children_spawn_never_runs() {
    guarded(|| {
        struct Spawns<'scope, 'env>(&'scope Scope<'scope, 'env>, &'scope Cell<usize>);
        impl Drop for Spawns<'_, '_> {
            fn drop(&mut self) {
                let count = self.1;
                drop(self.0.spawn(move || count.set(count.get() + 1)));
            }
        }
        let ran = Cell::new(0);
        let late = with_timeout(SHORT, || {
            scope(|s| {
                s.spawn(|| {
                    let _spawns = Spawns(s, &ran);
                    sleep(LONG);
                });
                sleep(LONG);
            })
        });
        assert!(late.is_err());
        assert_eq!(ran.get(), 0);
    });
}

#[test]
fn destructors_that_wait_while_they_are_killed_do_not_and_those_of_values_run_inside() {
    guarded(|| {
        struct Waits<'a>(&'a Lent<'a>, Event<()>);
        impl Drop for Waits<'_> {
            fn drop(&mut self) {
                let _ = self.1.wait();
                self.0.touch();
            }
        }
        let wrong = never();
        let said = panic_of(|| {
            let lent = Lent::new(wrong);
            scope(|s| {
                s.spawn(|| {
                    let _waits = Waits(&lent, Event::new());
                    sleep(LONG);
                });
                // A value that nobody takes, whose destructor panics.
                struct Panics<'a>(Touches<'a>);
                impl Drop for Panics<'_> {
                    fn drop(&mut self) {
                        self.0.0.touch();
                        if !std::thread::panicking() {
                            panic!("in a destructor");
                        }
                    }
                }
                drop(s.spawn(|| Panics(Touches(&lent))));
                yield_now();
                panic!("out");
            });
        });
        assert_eq!(said, "out");
        assert!(!wrong.get());
        assert!(logged().iter().any(|line| line.contains("in a destructor")));
    });
}

#[test]
fn names_and_stacks_are_given_by_a_builder_and_a_child_that_waits_for_itself_is_told() {
    guarded(|| {
        scope(|s| {
            let named = Builder::default()
                .name("lent")
                .stack_size(32 * 1024)
                .spawn_scoped(s, || current().and_then(|me| me.name()));
            assert_eq!(named.wait().unwrap().as_deref(), Some("lent"));
            let slot = Rc::new(RefCell::new(None));
            let own = Rc::clone(&slot);
            *slot.borrow_mut() = Some(s.spawn(move || {
                let me = own.borrow_mut().take();
                // Another owner of the handle of its own: what it would wait for is itself.
                me.map(|me: twistlet::green::scope::ScopedGreenThread<'_, bool>| {
                    me.wait().unwrap_err().is::<WaitsForItself>()
                })
                .unwrap_or_default()
            }));
        });
    });
}

#[test]
fn when_the_reactor_is_closed_inside_children_end_first_and_the_scope_returns() {
    guarded(|| {
        let wrong = never();
        let trace = Trace::new();
        let lent = Lent::new(wrong);
        scope(|s| {
            s.spawn(|| {
                let _touch = Touches(&lent);
                let _noted = trace.on_drop("child");
                sleep(LONG);
            });
            yield_now();
            Reactor::current().close();
            trace.note("closed");
        });
        trace.note("left");
        assert_eq!(trace.take(), ["child", "closed", "left"]);
        assert!(!wrong.get());
    });
}

// G7
#[test]
fn when_the_reactor_ends_children_are_unwound_before_the_green_thread_they_borrow_from() {
    guarded(|| {
        let wrong = never();
        let trace = Trace::new();
        let seen = trace.clone();
        let owner: GreenThread<()> = spawn(move || {
            let lent = Lent::new(wrong);
            let _owner = seen.on_drop("owner");
            scope(|s| {
                s.spawn(|| {
                    let mine = Lent::new(wrong);
                    let _touch = Touches(&lent);
                    let _noted = seen.on_drop("child");
                    scope(|inner| {
                        inner.spawn(|| {
                            let _touch = Touches(&mine);
                            let _noted = seen.on_drop("grandchild");
                            sleep(LONG);
                        });
                    });
                });
                let _inside = seen.on_drop("inside");
                sleep(LONG);
            });
        });
        sleep(SHORT);
        Reactor::current().close();
        assert_eq!(trace.take(), ["grandchild", "child", "inside", "owner"]);
        assert!(owner.is_finished());
        assert!(!wrong.get());
    });
}

#[test]
fn in_join_mode_a_scope_of_a_green_thread_is_joined_when_the_loop_ends() {
    joined(|reactor| {
        let wrong = never();
        spawn(move || {
            let lent = Lent::new(wrong);
            scope(|s| {
                s.spawn(|| {
                    let _touch = Touches(&lent);
                    sleep(LONG);
                });
                s.spawn(|| reactor.stop().unwrap());
            });
            unreachable!("its kill came first");
        });
        reactor.call_later(Duration::ZERO, move || assert!(!wrong.get()));
    });
}

#[test]
fn a_loop_that_crashes_under_a_scope_is_started_again_by_its_wait() {
    guarded(|| {
        let done = Cell::new(false);
        let ended = with_timeout(LONG, || {
            scope(|s| {
                let crash = s.spawn(|| {
                    Reactor::current().crash();
                    sleep(SHORT);
                    done.set(true);
                });
                drop(crash);
                // The crash ends this wait with an error, and so the scope.
                let _ = Event::<()>::new().wait();
            })
        });
        assert_eq!(ended, Ok(()));
        assert!(done.get());
    });
}

#[test]
fn a_deadlock_inside_a_scope_on_main_ends_the_children_and_is_told() {
    guarded(|| {
        let wrong = never();
        let said = panic_of(|| {
            let lent = Lent::new(wrong);
            scope(|s| {
                s.spawn(|| {
                    let _touch = Touches(&lent);
                    let nobody = Event::<()>::new();
                    let _ = nobody.wait();
                });
            });
        });
        assert!(said.contains("deadlock") && said.contains("an Event"), "{said}");
        assert!(!wrong.get());
    });
}

#[test]
fn in_a_callback_children_are_dropped_unrun_and_the_scope_panics() {
    let trace = in_callback(|| {
        let trace = Trace::new();
        assert_eq!(scope(|_| 1), 1);
        let said = panic_of(|| {
            let words = ["a"];
            scope(|s| {
                let noted = trace.on_drop("dropped");
                s.spawn(move || {
                    let _noted = noted;
                    unreachable!("{}", words.len());
                });
            });
        });
        assert!(said.contains("a blocking call in the main loop"), "{said}");
        trace.take()
    });
    assert_eq!(trace, ["dropped"]);
}

// G5
#[test]
fn a_scope_in_a_destructor_that_runs_while_unwinding_drops_its_children_unrun() {
    guarded(|| {
        struct Scopes(Trace);
        impl Drop for Scopes {
            fn drop(&mut self) {
                let words = ["a"];
                let noted = self.0.on_drop("dropped");
                let value = scope(|s| {
                    s.spawn(move || {
                        let _noted = noted;
                        unreachable!("{}", words.len());
                    });
                    5
                });
                self.0.note(value);
            }
        }
        let trace = Trace::new();
        let said = panic_of(|| {
            let _scopes = Scopes(trace.clone());
            panic!("on the way");
        });
        assert_eq!(said, "on the way");
        assert_eq!(trace.take(), ["dropped", "5"]);
        // And of a kill.
        let seen = trace.clone();
        let killed = spawn(move || {
            let _scopes = Scopes(seen);
            sleep(LONG);
        });
        yield_now();
        killed.kill_and_wait().unwrap();
        assert_eq!(trace.take(), ["dropped", "5"]);
    });
}

#[test]
fn a_scope_on_a_raw_greenlet_waits_through_the_green_thread_below_and_is_unwound_with_it() {
    guarded(|| {
        let wrong = never();
        let trace = Trace::new();
        let seen = trace.clone();
        let raw = Greenlet::new(move |_| {
            let lent = Lent::new(wrong);
            let sum = scope(|s| {
                let one = s.spawn(|| {
                    let _touch = Touches(&lent);
                    sleep(SHORT);
                    1
                });
                let two = s.spawn(|| {
                    lent.touch();
                    2
                });
                two.wait().unwrap() + one.wait().unwrap()
            });
            seen.note(sum);
            // And now it is left in the middle, and dropped there.
            let _ = scope(|s| {
                s.spawn(|| {
                    let _touch = Touches(&lent);
                    let _noted = seen.on_drop("child");
                    sleep(LONG);
                });
                yield_now();
                let _noted = seen.on_drop("inside");
                // No handle of its own may stay on its stack.
                let parent = Greenlet::current().parent().expect("a parent");
                parent.switch(())
            });
            Ok(Box::new(()))
        });
        raw.switch(()).unwrap();
        assert_eq!(trace.take(), ["3"]);
        // The loop, which ran it last, lets go of it.
        yield_now();
        drop(raw);
        assert_eq!(trace.take(), ["inside", "child"]);
        assert!(!wrong.get());
    });
}

#[test]
fn a_child_that_swallows_its_kill_for_ever_keeps_its_owner_for_ever_and_others_run_on() {
    guarded(|| {
        let wrong = never();
        let (began, told) = (Rc::new(Cell::new(0)), Trace::new());
        let (count, seen) = (began.clone(), told.clone());
        let owner = spawn(move || {
            let lent = Lent::new(wrong);
            let _never = seen.on_drop("owner");
            scope(|s| {
                s.spawn(|| {
                    loop {
                        let _ = catch_unwind(AssertUnwindSafe(|| sleep(LONG)));
                        lent.touch();
                        count.set(count.get() + 1);
                    }
                });
                sleep(LONG);
            });
            seen.note("left the scope");
        });
        sleep(SHORT);
        owner.kill();
        assert!(owner.wait().unwrap_err().is::<Killed>());
        assert!(began.get() > 100);
        assert!(!wrong.get());
        assert!(told.take().is_empty());
        let log = logged();
        assert!(log.iter().any(|line| line.contains("swallows its kill for ever")), "{log:?}");
        assert!(log.iter().any(|line| line.contains("cannot leave its scope")), "{log:?}");
        // The thread is none the worse.
        assert_eq!(spawn(|| Ok(1)).wait().unwrap(), 1);
    });
}

#[test]
fn a_thread_that_ends_with_a_scope_in_the_middle_leaks_both_stacks() {
    guarded(|| {
        let reactor = Reactor::new().unwrap();
        let wrong = never();
        let _left = spawn(move || {
            let lent = Lent::new(wrong);
            scope(|s| {
                s.spawn(|| {
                    let _touch = Touches(&lent);
                    sleep(LONG);
                });
                s.spawn(|| {
                    lent.touch();
                    sleep(LONG);
                });
                sleep(LONG);
            });
        });
        sleep(SHORT);
        let _ = reactor;
    });
}

#[test]
fn a_failure_that_is_no_panic_is_a_value_of_its_type() {
    guarded(|| {
        let outcome = scope(|s| s.spawn(|| Err::<u8, Failure>(Failure::msg("mine"))).wait());
        assert_eq!(outcome.unwrap().unwrap_err().to_string(), "mine");
    });
}

#[test]
fn killed_at_every_wait_an_owner_leaves_no_child_behind() {
    guarded(|| {
        for n in 0..60 {
            let wrong = never();
            let alive = Rc::new(Cell::new(0_i32));
            let count = alive.clone();
            let owner = spawn(move || {
                let lent = Lent::new(wrong);
                scope(|s| {
                    for i in 0..4 {
                        let (lent, count) = (&lent, &count);
                        s.spawn(move || {
                            count.set(count.get() + 1);
                            let _touch = Touches(lent);
                            for _ in 0..i * 3 {
                                yield_now();
                            }
                            scope(|inner| {
                                inner.spawn(|| {
                                    lent.touch();
                                    yield_now();
                                    lent.touch();
                                });
                                yield_now();
                            });
                            count.set(count.get() - 1);
                        });
                        yield_now();
                    }
                });
            });
            for _ in 0..n {
                yield_now();
            }
            owner.kill();
            let outcome = owner.wait();
            assert!(!wrong.get(), "at {n}");
            assert!(outcome.is_err() || alive.get() == 0, "at {n}");
        }
        assert!(logged().is_empty());
    });
}
