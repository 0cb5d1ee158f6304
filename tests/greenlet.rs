//! Greenlets: switch, throw, kill, parents. Case ids are of greenlet's own rules and tests.
#![cfg(feature = "green")]
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use twistlet::greenlet::{Greenlet, GreenletError, GreenletExit, Value};
use twistlet::{Failure, Result};

fn unit() -> Value {
    Box::new(())
}
fn int(value: Value) -> i32 {
    *value.downcast::<i32>().expect("an i32")
}
fn is_exit(value: Value) -> bool {
    value.is::<GreenletExit>()
}
fn parent() -> Greenlet {
    Greenlet::current().parent().expect("a parent")
}
type Trace<T> = Rc<RefCell<Vec<T>>>;
fn trace<T>() -> Trace<T> {
    Rc::default()
}

#[derive(Debug, PartialEq)]
struct Oops(i32);
impl std::fmt::Display for Oops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "oops {}", self.0)
    }
}
impl std::error::Error for Oops {}
fn oops(failure: &Failure) -> i32 {
    failure.check::<Oops>().expect("an Oops").0
}

struct OnDrop<F: FnMut()>(F);
impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

// GLC-01, GL-11, GL-12
#[test]
fn a_body_and_its_parent_take_turns() {
    let seen = trace();
    let inner = seen.clone();
    let g = Greenlet::new(move |first| {
        inner.borrow_mut().push(int(first));
        let got = parent().switch(2)?;
        inner.borrow_mut().push(int(got));
        Ok(Box::new(4))
    });
    seen.borrow_mut().push(0);
    let got = g.switch(1).unwrap();
    seen.borrow_mut().push(int(got));
    let got = g.switch(3).unwrap();
    seen.borrow_mut().push(int(got));
    assert_eq!(*seen.borrow(), [0, 1, 2, 3, 4]);
    assert!(g.is_dead() && g.is_started());
}

// GLC-02, GL-05
#[test]
fn two_greenlets_of_one_body_keep_their_own_place() {
    let seen = trace();
    let make = |name: &'static str| {
        let seen = seen.clone();
        Greenlet::new(move |_| {
            seen.borrow_mut().push((name, 1));
            parent().switch(())?;
            seen.borrow_mut().push((name, 2));
            Ok(unit())
        })
    };
    let (a, b) = (make("a"), make("b"));
    assert!(!a.is_started() && !a.is_dead());
    for g in [&a, &b, &b, &a] {
        g.switch(()).unwrap();
    }
    assert_eq!(*seen.borrow(), [("a", 1), ("b", 1), ("b", 2), ("a", 2)]);
    assert!(a.is_dead() && b.is_dead());
}

// GL-01, GL-03, GL-04, GL-06, GLC-24, GL-31
#[test]
fn main_alone_has_no_parent_and_cannot_be_given_one() {
    let main = Greenlet::current();
    assert!(main.parent().is_none() && main.is_started() && !main.is_dead());
    let g = Greenlet::new(Ok);
    assert_eq!(g.parent(), Some(main.clone()));
    let refused = main.set_parent(&g).unwrap_err();
    assert_eq!(refused.check(), Some(&GreenletError::MainHasNoParent));
    let seen = Greenlet::new(move |_| Ok(Box::new(Greenlet::current().parent()))).switch(()).unwrap();
    assert_eq!(*seen.downcast::<Option<Greenlet>>().unwrap(), Some(main));
}

// GL-02
#[test]
fn the_parent_is_who_made_it() {
    let outer = Greenlet::new(|_| {
        let inner = Greenlet::new(Ok);
        assert_eq!(inner.parent(), Some(Greenlet::current()));
        inner.switch(7)
    });
    assert_eq!(int(outer.switch(()).unwrap()), 7);
}

// GL-14
#[test]
fn a_switch_to_oneself_returns_at_once() {
    assert_eq!(int(Greenlet::current().switch(5).unwrap()), 5);
    let g = Greenlet::new(|_| Greenlet::current().switch(6));
    assert_eq!(int(g.switch(()).unwrap()), 6);
}

// GL-15
#[test]
fn a_switch_to_a_dead_one_goes_to_its_parent() {
    let g = Greenlet::new(Ok);
    g.switch(()).unwrap();
    assert_eq!(int(g.switch(9).unwrap()), 9);
    // Up a chain, to a parent that waits.
    let outer = Greenlet::new(|_| {
        let inner = Greenlet::new(Ok);
        inner.switch(())?;
        let main = parent();
        main.switch(inner)
    });
    let inner = *outer.switch(()).unwrap().downcast::<Greenlet>().unwrap();
    assert!(inner.is_dead());
    assert_eq!(int(inner.switch(11).unwrap()), 11, "outer ends with what its switch returned");
    assert!(outer.is_dead());
}

// GL-16, GL-34, GLC-22, GLC-20
#[test]
fn an_unstarted_parent_is_started_by_what_reaches_it() {
    let dead = Greenlet::new(Ok);
    dead.switch(()).unwrap();
    let doubles = Greenlet::new(|value| Ok(Box::new(2 * int(value))));
    dead.set_parent(&doubles).unwrap();
    assert_eq!(int(dead.switch(21).unwrap()), 42);

    let plus_one = Greenlet::new(|value| Ok(Box::new(int(value) + 1)));
    let child = Greenlet::new(Ok);
    child.set_parent(&plus_one).unwrap();
    assert_eq!(int(child.switch(42).unwrap()), 43);
    assert!(plus_one.is_dead());
}

// GL-17, GL-18
#[test]
fn the_outcome_goes_to_the_parent_of_the_moment() {
    let collector = Greenlet::new(|_| {
        let got = parent().switch("ready")?;
        Ok(Box::new(int(got) * 10))
    });
    collector.switch(()).unwrap();
    let worker = Greenlet::new(|_| {
        parent().switch("half")?;
        Ok(Box::new(4))
    });
    worker.switch(()).unwrap();
    worker.set_parent(&collector).unwrap();
    assert_eq!(int(worker.switch(()).unwrap()), 40);
}

// GL-19, GLC-35
#[test]
fn a_value_is_not_kept_after_it_was_delivered() {
    let shared = Rc::new(());
    let g = Greenlet::new(|mut value| {
        let parent = parent();
        loop {
            value = parent.switch(value)?;
        }
    });
    for _ in 0..100 {
        drop(g.switch(shared.clone()).unwrap());
    }
    assert_eq!(Rc::strong_count(&shared), 1);
}

// GL-13 (one typed value): a Value travels as it is.
#[test]
fn a_boxed_value_is_not_boxed_again() {
    let g = Greenlet::new(Ok);
    let boxed: Value = Box::new(3);
    assert_eq!(int(g.switch(boxed).unwrap()), 3);
}

// GL-20, GLC-06
#[test]
fn a_failure_goes_to_the_parent() {
    let g1 = Greenlet::new(|_| {
        let caught = parent().switch(()).unwrap_err();
        Ok(Box::new(oops(&caught)))
    });
    g1.switch(()).unwrap();
    let child = Greenlet::new(|_| Err(Oops(6).into()));
    child.set_parent(&g1).unwrap();
    assert_eq!(int(child.switch(()).unwrap()), 6);
    assert!(child.is_dead());
}

// GL-20, RS-12
#[test]
fn a_panic_goes_to_the_parent_as_a_failure() {
    let g = Greenlet::new(|_| std::panic::resume_unwind(Box::new("boom")));
    let failure = g.switch(()).unwrap_err();
    assert!(failure.is_panic() && failure.to_string().contains("boom"), "{failure}");
    assert!(g.is_dead());
    assert!(!std::thread::panicking());
}

// GLC-28, GL-21, GL-23, GL-26
#[test]
fn a_killed_greenlet_exits_with_a_value_and_may_be_killed_again() {
    let dropped = Rc::new(Cell::new(false));
    let flag = dropped.clone();
    let g = Greenlet::new(move |_| {
        let _guard = OnDrop(move || flag.set(true));
        parent().switch(())
    });
    g.switch(()).unwrap();
    assert!(is_exit(g.kill().unwrap()));
    assert!(g.is_dead() && dropped.get());
    assert!(is_exit(g.kill().unwrap()));
}

// GL-21: as an error the exit is a value for the parent too.
#[test]
fn a_body_that_fails_with_the_exit_leaves_quietly() {
    let g = Greenlet::new(|_| Err(GreenletExit.into()));
    assert!(is_exit(g.switch(()).unwrap()));
}

// GL-22
#[test]
fn handlers_of_errors_do_not_see_a_kill() {
    let handled = Rc::new(Cell::new(false));
    let flag = handled.clone();
    let g = Greenlet::new(move |_| {
        if parent().switch(()).is_err() {
            flag.set(true);
        }
        Ok(unit())
    });
    g.switch(()).unwrap();
    assert!(is_exit(g.kill().unwrap()));
    assert!(!handled.get());
}

// GL-23
#[test]
fn a_failure_is_thrown_out_of_the_pending_switch() {
    let g = Greenlet::new(|_| {
        let failure = parent().switch(()).unwrap_err();
        parent().switch(oops(&failure))
    });
    g.switch(()).unwrap();
    assert_eq!(int(g.throw(Oops(3)).unwrap()), 3);
    assert!(!g.is_dead());
}

// GL-24
#[test]
fn what_is_thrown_at_an_unstarted_one_goes_to_its_parent() {
    let held = Rc::new(());
    let captured = held.clone();
    let g = Greenlet::new(move |_| {
        let _captured = captured;
        unreachable!("it never runs")
    });
    assert_eq!(oops(&g.throw(Oops(1)).unwrap_err()), 1);
    assert!(g.is_dead() && !g.is_started());
    assert_eq!(Rc::strong_count(&held), 1, "what the body captured is dropped at once");
    let g = Greenlet::new(|_| unreachable!("it never runs"));
    assert!(is_exit(g.kill().unwrap()));
    assert!(g.is_dead());
}

// GL-25, GLC-29
#[test]
fn a_throw_kills_a_chain_of_unstarted_ones() {
    let (g1, g2) = (Greenlet::new(|_| unreachable!()), Greenlet::new(|_| unreachable!()));
    g2.set_parent(&g1).unwrap();
    assert_eq!(oops(&g2.throw(Oops(2)).unwrap_err()), 2);
    assert!(g1.is_dead() && g2.is_dead());

    // Caught where it surfaces, if that is suspended in a handler.
    let g1 = Greenlet::new(|_| {
        let failure = parent().switch(()).unwrap_err();
        parent().switch(oops(&failure))
    });
    g1.switch(()).unwrap();
    let g2 = Greenlet::new(|_| unreachable!());
    g2.set_parent(&g1).unwrap();
    assert_eq!(int(g2.throw(Oops(4)).unwrap()), 4);
    assert!(!g1.is_dead() && g2.is_dead());
}

// GL-24 with GL-16
#[test]
fn a_kill_of_an_unstarted_one_starts_its_unstarted_parent_with_the_exit() {
    let g1 = Greenlet::new(|value| Ok(Box::new(is_exit(value))));
    let g2 = Greenlet::new(|_| unreachable!());
    g2.set_parent(&g1).unwrap();
    assert!(*g2.kill().unwrap().downcast::<bool>().unwrap());
}

// GL-26
#[test]
fn what_is_thrown_at_a_dead_one_goes_to_its_parent() {
    let g = Greenlet::new(Ok);
    g.switch(()).unwrap();
    assert_eq!(oops(&g.throw(Oops(5)).unwrap_err()), 5);
    assert!(is_exit(g.throw(GreenletExit).unwrap()));
}

// GL-27
#[test]
fn a_throw_at_oneself_returns_it() {
    assert_eq!(oops(&Greenlet::current().throw(Oops(8)).unwrap_err()), 8);
    let g = Greenlet::new(|_| Greenlet::current().kill());
    assert!(is_exit(g.switch(()).unwrap()));
}

// GL-28
#[test]
fn main_is_told_to_exit_by_an_error_and_the_killer_stays_suspended() {
    let g = Greenlet::new(|_| {
        let first = parent().kill()?;
        let second = parent().throw(GreenletExit)?;
        Ok(Box::new(int(first) + int(second)))
    });
    assert!(g.switch(()).unwrap_err().is::<GreenletExit>());
    assert!(!g.is_dead());
    assert!(g.switch(1).unwrap_err().is::<GreenletExit>());
    assert_eq!(int(g.switch(2).unwrap()), 3);
    assert!(Greenlet::current().kill().unwrap_err().is::<GreenletExit>());
}

// GL-30, GLC-13: a handler that switches away is not disturbed, nor does the other see its panic.
#[test]
fn a_panic_being_handled_is_not_seen_by_others() {
    let caught = catch_unwind(AssertUnwindSafe(|| std::panic::resume_unwind(Box::new(1)))).unwrap_err();
    let g = Greenlet::new(|_| {
        assert!(!std::thread::panicking());
        let _ = catch_unwind(|| std::panic::resume_unwind(Box::new(2)));
        Ok(unit())
    });
    g.switch(()).unwrap();
    assert_eq!(caught.downcast_ref(), Some(&1));
}

// GL-32, GL-33
#[test]
fn a_cycle_of_parents_is_refused() {
    let (a, b) = (Greenlet::new(Ok), Greenlet::new(Ok));
    a.set_parent(&b).unwrap();
    for (child, parent) in [(&b, &a), (&a, &a)] {
        assert_eq!(child.set_parent(parent).unwrap_err().check(), Some(&GreenletError::Cycle));
    }
    assert_eq!(a.parent(), Some(b.clone()));
    assert_eq!(b.parent(), Some(Greenlet::current()));
}

// GLC-15, GL-07: the body is consumed by the start; Rust has no body to read or set afterwards.
#[test]
fn what_the_body_captured_goes_when_it_ends() {
    let held = Rc::new(());
    let captured = held.clone();
    let g = Greenlet::new(move |_| Ok(Box::new(Rc::strong_count(&captured))));
    g.switch(()).unwrap();
    assert_eq!(Rc::strong_count(&held), 1);
    assert!(g.is_dead());
}

// GLC-10, GL-45 (handles are not Send: checked by the compiler)
#[test]
fn threads_have_greenlets_of_their_own() {
    let threads: Vec<_> = (0..10)
        .map(|_| {
            std::thread::spawn(|| {
                for _ in 0..20 {
                    a_body_and_its_parent_take_turns();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

// RS-04, S8: sticky
#[test]
fn a_swallowed_kill_comes_again_at_the_next_switch() {
    let times = Rc::new(Cell::new(0));
    let count = times.clone();
    let g = Greenlet::new(move |_| {
        let parent = parent();
        for _ in 0..3 {
            if catch_unwind(AssertUnwindSafe(|| parent.switch(()))).is_err() {
                count.set(count.get() + 1);
            }
        }
        parent.switch("not reached")
    });
    g.switch(()).unwrap();
    assert!(is_exit(g.kill().unwrap()));
    assert_eq!(times.get(), 3);
}

// RS-04: bounded
#[test]
fn one_that_swallows_for_ever_is_given_up() {
    let g = Greenlet::new(move |_| {
        let parent = parent();
        loop {
            let _ = catch_unwind(AssertUnwindSafe(|| parent.switch("still here")));
        }
    });
    g.switch(()).unwrap();
    assert_eq!(*g.kill().unwrap().downcast::<&str>().unwrap(), "still here");
    assert!(!g.is_dead());
    // Its last handle goes: it refuses again, and is leaked.
}

// G5, RS-09, RS-10
#[test]
fn nothing_switches_while_unwinding() {
    let tried: Rc<RefCell<Option<Failure>>> = Rc::default();
    let result = tried.clone();
    let other = Greenlet::new(Ok);
    let target = other.clone();
    let g = Greenlet::new(move |_| {
        let _guard = OnDrop(move || *result.borrow_mut() = target.switch(()).err());
        parent().switch(())
    });
    g.switch(()).unwrap();
    g.kill().unwrap();
    assert_eq!(tried.borrow().as_ref().unwrap().check(), Some(&GreenletError::Unwinding));
    assert!(!other.is_started());
}

// GL-09
#[test]
fn debug_tells_the_state() {
    let main = Greenlet::current();
    let g = Greenlet::new(move |_| {
        assert!(format!("{main:?}").contains("main, suspended"));
        parent().switch(format!("{:?}", Greenlet::current()))
    });
    assert!(format!("{g:?}").contains("pending"));
    let told = g.switch(()).unwrap().downcast::<String>().unwrap();
    assert!(told.contains("current"), "{told}");
    assert!(format!("{g:?}").contains("suspended"));
    g.kill().unwrap();
    assert!(format!("{g:?}").contains("dead"));
}

#[test]
fn greenlets_nest_deeply() {
    fn nest(depth: i32) -> Result<Value> {
        if depth == 0 {
            return Ok(Box::new(0));
        }
        let got = Greenlet::new(move |_| nest(depth - 1)).switch(())?;
        Ok(Box::new(int(got) + 1))
    }
    assert_eq!(int(nest(1000).unwrap()), 1000);
}

#[test]
fn many_are_alive_at_once() {
    let gs: Vec<_> = (0..2000)
        .map(|n| {
            let g = Greenlet::new(move |_| {
                parent().switch(())?;
                Ok(Box::new(n))
            });
            g.switch(()).unwrap();
            g
        })
        .collect();
    let sum: i32 = gs.iter().map(|g| int(g.switch(()).unwrap())).sum();
    assert_eq!(sum, 1999 * 2000 / 2);
}

#[test]
fn floating_point_and_large_values_survive_switches() {
    let g = Greenlet::new(|first| {
        let mut sum = *first.downcast::<f64>().unwrap();
        for _ in 0..10 {
            sum += *parent().switch([sum; 64])?.downcast::<f64>().unwrap();
        }
        Ok(Box::new([sum; 64]))
    });
    let mut sum = 0.0;
    for n in 0..11 {
        sum += f64::from(n);
        assert_eq!(*g.switch(f64::from(n)).unwrap().downcast::<[f64; 64]>().unwrap(), [sum; 64]);
    }
}

// S11, C6: the chain of frames ends at the entry.
#[test]
fn a_backtrace_of_a_greenlet_shows_its_frames_and_ends() {
    #[inline(never)]
    fn recognizable() -> String {
        std::backtrace::Backtrace::force_capture().to_string()
    }
    let g = Greenlet::new(|_| Ok(Box::new(recognizable())));
    let text = g.switch(()).unwrap().downcast::<String>().unwrap();
    assert!(text.contains("recognizable"), "{text}");
    assert!(!text.contains("a_backtrace_of_a_greenlet_shows_its_frames_and_ends\n"), "{text}");
}
