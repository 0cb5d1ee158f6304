//! Closures, destructors and payloads that do their worst: nothing of it may touch a stack that is somebody else's.
#![cfg(feature = "green")]
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use twistlet::greenlet::{Greenlet, GreenletError, StackError, Value};
use twistlet::{Failure, Result};

fn unit() -> Value {
    Box::new(())
}
fn parent() -> Greenlet {
    Greenlet::current().parent().expect("a parent")
}
struct OnDrop<F: FnMut()>(F);
impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
fn text(value: Value) -> &'static str {
    *value.downcast::<&'static str>().expect("a text")
}

/// A dead greenlet whose parent is `top`, which nobody else holds: a switch to it starts `top`.
fn only_way_to(top: Greenlet) -> Greenlet {
    let dead = Greenlet::new(Ok);
    dead.switch(()).unwrap();
    dead.set_parent(&top).unwrap();
    dead
}

// The dying child is the last to name the greenlet it starts, and what that one's ancestors captured switches when dropped.
#[test]
fn a_greenlet_that_is_being_started_keeps_its_parent_and_its_stack() {
    let main = Greenlet::current();
    let unwound = Rc::new(Cell::new(0));
    let order = Rc::new(RefCell::new(Vec::new()));
    let (count, seen) = (unwound.clone(), order.clone());
    let bomb = OnDrop(move || {
        let _frame = OnDrop(|| count.set(count.get() + 1));
        seen.borrow_mut().push("bomb");
        let _ = main.switch("from a destructor");
    });
    let seen = order.clone();
    let grandparent = Greenlet::new(move |_| {
        let _bomb = &bomb;
        seen.borrow_mut().push("grandparent");
        Ok(unit())
    });
    let seen = order.clone();
    let parent = Greenlet::new(move |value| {
        seen.borrow_mut().push(text(value));
        Ok(unit())
    });
    parent.set_parent(&grandparent).unwrap();
    let slot: Rc<RefCell<Option<Greenlet>>> = Rc::default();
    let (own, main) = (slot.clone(), Greenlet::current());
    let child = Greenlet::new(move |_| {
        // The last handle of this very greenlet goes.
        let dead = own.take().expect("put there");
        dead.set_parent(&main)?;
        Ok(Box::new("outcome"))
    });
    child.set_parent(&parent).unwrap();
    let dead = only_way_to(child);
    drop((parent, grandparent));
    *slot.borrow_mut() = Some(dead.clone());
    assert_eq!(text(dead.switch(()).unwrap()), "from a destructor");
    assert_eq!(*order.borrow(), ["outcome", "grandparent", "bomb"]);
    assert_eq!(unwound.get(), 1, "the frames of the destructor are unwound, since nobody holds them");
}

#[test]
fn the_last_handle_may_go_anywhere() {
    // In the body, in what the body captured, in what it returns, in what its panic carries, in what is thrown at it.
    for case in 0..5 {
        let slot: Rc<RefCell<Option<Greenlet>>> = Rc::default();
        let own = slot.clone();
        let g = Greenlet::new(move |_| {
            let own = OnDrop(move || drop(own.take()));
            match case {
                0 => drop(own),
                1 => {}
                2 => return Ok(Box::new(Greenlet::current())),
                3 => {
                    let _me = Greenlet::current();
                    let _own = own;
                    resume_unwind(Box::new(3))
                }
                _ => drop(parent().switch(Greenlet::current())?),
            }
            Ok(unit())
        });
        *slot.borrow_mut() = Some(g.clone());
        let starter = Greenlet::new(move |_| g.switch(()));
        let got = starter.switch(());
        drop(starter);
        drop(got);
        drop(slot.take());
    }
}

#[test]
fn payloads_with_hostile_destructors_stay_in_their_boxes() {
    struct Again(u32);
    impl Drop for Again {
        fn drop(&mut self) {
            if self.0 > 0 {
                resume_unwind(Box::new(Again(self.0 - 1)));
            }
        }
    }
    struct Switches;
    impl Drop for Switches {
        fn drop(&mut self) {
            let _ = Greenlet::new(Ok).switch(1);
            let _ = Greenlet::current().switch(2);
        }
    }
    for depth in 0..4 {
        let g = Greenlet::new(move |_| resume_unwind(Box::new(Again(depth))));
        let failure = g.switch(()).unwrap_err();
        assert!(failure.is_panic());
        drop(failure);
    }
    let g = Greenlet::new(|_| panic_any(Switches));
    drop(g.switch(()).unwrap_err());
    // Swallowed by the greenlet itself.
    let g = Greenlet::new(|_| {
        drop(catch_unwind(|| panic_any(Switches)).unwrap_err());
        Ok(Box::new("on"))
    });
    assert_eq!(text(g.switch(()).unwrap()), "on");
    // Values in flight.
    let g = Greenlet::new(|value| {
        drop(value);
        parent().switch(Switches)
    });
    drop(g.switch(Switches).unwrap());
    drop(g.throw(Failure::msg("out")).unwrap_err());
}

#[test]
fn what_unstarted_ones_captured_may_switch_spawn_and_panic_when_dropped() {
    let ran = Rc::new(Cell::new(0));
    for case in 0..4 {
        let count = ran.clone();
        let main = Greenlet::current();
        let bomb = OnDrop(move || {
            count.set(count.get() + 1);
            match case {
                0 => drop(main.switch(())),
                1 => drop(Greenlet::new(|_| parent().switch(())).switch(())),
                2 => drop(Greenlet::new(Ok)),
                _ => resume_unwind(Box::new("bomb")),
            }
        });
        let g = Greenlet::new(move |_| {
            let _bomb = &bomb;
            Ok(unit())
        });
        match case % 2 {
            0 => drop(catch_unwind(AssertUnwindSafe(|| drop(g)))),
            _ => drop(g.kill()),
        }
    }
    assert_eq!(ran.get(), 4);
}

#[test]
fn greenlets_are_made_and_dropped_while_unwinding() {
    let dropped = Rc::new(Cell::new(0));
    let count = dropped.clone();
    let caught = catch_unwind(AssertUnwindSafe(move || {
        let _guard = OnDrop(move || {
            for _ in 0..10 {
                let count = OnDrop({
                    let count = count.clone();
                    move || count.set(count.get() + 1)
                });
                let g = Greenlet::new(move |_| {
                    let _count = &count;
                    Ok(unit())
                });
                let refused = g.switch(()).unwrap_err();
                assert_eq!(refused.check(), Some(&GreenletError::Unwinding));
                assert!(g.kill().is_err() && !g.is_dead());
            }
        });
        resume_unwind(Box::new(()));
    }));
    assert!(caught.is_err());
    assert_eq!(dropped.get(), 10);
}

#[test]
fn one_that_is_given_a_new_parent_while_it_is_dropped_refuses_to_its_reaper() {
    let odd = Rc::new(Cell::new(0));
    let turns = Rc::new(Cell::new(0));
    let (bad, count) = (odd.clone(), turns.clone());
    let elsewhere = Greenlet::new(Ok);
    elsewhere.switch(()).unwrap();
    let g = Greenlet::new(move |_| {
        let main = parent();
        loop {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| main.switch(()))) {
                bad.set(bad.get() + u32::from(payload.is::<String>() || payload.is::<&str>()));
            }
            count.set(count.get() + 1);
            Greenlet::current().set_parent(&elsewhere)?;
        }
    });
    g.switch(()).unwrap();
    drop(g);
    assert_eq!(odd.get(), 0, "no switch of its panicked");
    assert!(turns.get() > 1 && turns.get() < 100, "{}", turns.get());
}

#[test]
fn killing_ones_parent_or_oneself_ends_nobody_else() {
    let outer_unwound = Rc::new(Cell::new(false));
    let flag = outer_unwound.clone();
    let outer = Greenlet::new(move |_| {
        let _guard = OnDrop(|| flag.set(true));
        let inner = Greenlet::new(|_| {
            let killed = parent().kill();
            // Nobody holds this one after that: it never gets here.
            drop(killed);
            unreachable!()
        });
        inner.switch(())
    });
    outer.switch(()).unwrap();
    assert!(outer.is_dead() && outer_unwound.get());

    let g = Greenlet::new(|_| {
        let me = Greenlet::current();
        let _ = catch_unwind(AssertUnwindSafe(|| me.kill()));
        me.kill()
    });
    g.switch(()).unwrap();
    assert!(g.is_dead());
}

#[test]
fn parents_in_a_ring_are_refused_whatever_their_state() {
    let dead = Greenlet::new(Ok);
    dead.switch(()).unwrap();
    let unstarted = Greenlet::new(Ok);
    let suspended = Greenlet::new(|_| parent().switch(()));
    suspended.switch(()).unwrap();
    dead.set_parent(&unstarted).unwrap();
    unstarted.set_parent(&suspended).unwrap();
    assert_eq!(suspended.set_parent(&dead).unwrap_err().check(), Some(&GreenletError::Cycle));
    // A ring through what a body holds is a leak, and no more.
    let holder: Rc<RefCell<Option<Greenlet>>> = Rc::default();
    let held = holder.clone();
    *holder.borrow_mut() = Some(Greenlet::new(move |value| {
        let _held = &held;
        Ok(value)
    }));
}

#[test]
fn any_stack_size_works_or_is_an_error() {
    for bytes in [0, 1, 4095, 16 << 10, (16 << 10) + 1, 1 << 20] {
        let g = Greenlet::with_stack_size(bytes, |_| {
            let failure = Failure::msg(format_args!("{:?} {}", Greenlet::current(), 1.5f64));
            let _ = catch_unwind(|| resume_unwind(Box::new(1)));
            Err(failure)
        });
        assert!(g.switch(()).unwrap_err().to_string().contains("1.5"));
    }
    for bytes in [(1 << 30) + 1, usize::MAX / 2, usize::MAX - 4095, usize::MAX] {
        let g = Greenlet::with_stack_size(bytes, Ok);
        let failure = g.switch(()).unwrap_err();
        assert!(matches!(failure.check(), Some(StackError::TooLarge { .. })), "{failure}");
        assert!(!g.is_started() && !g.is_dead());
    }
}

#[test]
fn closures_of_any_size_and_alignment_arrive_whole() {
    #[repr(align(64))]
    struct Line([u8; 64]);
    #[repr(align(4096))]
    struct Page([u8; 4096]);
    let (line, page, large) = (Line([1; 64]), Page([2; 4096]), [3u8; 60_000]);
    let g = Greenlet::new(move |_| {
        assert_eq!(((&raw const line).addr() % 64, (&raw const page).addr() % 4096), (0, 0));
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| usize::from(*byte)).sum::<usize>();
        Ok(Box::new((sum(&line.0), sum(&page.0), sum(&large))))
    });
    let sums = *g.switch(()).unwrap().downcast::<(usize, usize, usize)>().unwrap();
    assert_eq!(sums, (64, 8192, 180_000));
}

thread_local! {
    static ALIVE: Cell<isize> = const { Cell::new(0) };
}
/// Counts itself, and knows if it is dropped twice.
struct Token(u64);
const GOOD: u64 = 0x600d_600d_600d_600d;
impl Token {
    fn new() -> Self {
        ALIVE.set(ALIVE.get() + 1);
        Self(GOOD)
    }
}
impl Drop for Token {
    fn drop(&mut self) {
        assert_eq!(std::mem::replace(&mut self.0, 0xdead), GOOD, "dropped twice, or overwritten");
        ALIVE.set(ALIVE.get() - 1);
    }
}

/// What greenlets of the random test share: handles by number, and the dice.
struct World {
    handles: RefCell<Vec<Option<Greenlet>>>,
    dice: Cell<u64>,
    steps: Cell<u32>,
    made: Cell<u32>,
}
impl World {
    fn roll(&self, sides: usize) -> usize {
        let mut x = self.dice.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.dice.set(x);
        (x >> 33) as usize % sides
    }
    fn pick(&self) -> Option<Greenlet> {
        let at = self.roll(self.handles.borrow().len());
        self.handles.borrow()[at].clone()
    }
    fn put(&self, handle: Option<Greenlet>) {
        let at = self.roll(self.handles.borrow().len());
        // Dropped outside the borrow: it may unwind somebody.
        let old = std::mem::replace(&mut self.handles.borrow_mut()[at], handle);
        drop(old);
    }
}

/// Random steps, with something on the stack that must be there after each of them.
fn act(world: &Rc<World>, depth: u32) -> Result<Value> {
    let token = Token::new();
    let id = world.made.replace(world.made.get() + 1);
    let frame = std::hint::black_box([id; 16]);
    while world.steps.get() > 0 {
        world.steps.set(world.steps.get() - 1);
        let other = world.pick();
        match world.roll(12) {
            0 | 1 => {
                let (next, captured) = (world.clone(), Token::new());
                let g = Greenlet::with_stack_size(1 << (14 + world.roll(5)), move |_| {
                    let _captured = captured;
                    act(&next, depth + 1)
                });
                world.put(Some(g));
            }
            2..=4 => drop(other.map(|g| g.switch(Token::new()))),
            5 => drop(other.map(|g| g.throw(Failure::msg("thrown")))),
            6 => drop(other.map(|g| g.kill())),
            7 => world.put(None),
            8 => drop(other.map(|g| g.set_parent(&world.pick().unwrap_or_else(Greenlet::current)))),
            9 => world.put(Some(Greenlet::current())),
            10 if depth > 0 => match world.roll(3) {
                0 => return Ok(Box::new(token)),
                1 => return Err(Failure::msg("failed")),
                _ => resume_unwind(Box::new(1)),
            },
            _ => {
                // A kill is swallowed, now and then.
                let inner = world.clone();
                let got = catch_unwind(AssertUnwindSafe(move || inner.pick().map(|g| g.switch(()))));
                drop(got);
            }
        }
        assert_eq!(std::hint::black_box(&frame), &[id; 16], "a frame was overwritten");
        assert_eq!(token.0, GOOD);
    }
    Ok(unit())
}

#[test]
fn whatever_is_done_in_any_order_no_frame_is_lost_or_overwritten() {
    let threads: Vec<_> = (1..=4u64)
        .map(|thread| {
            thread::spawn(move || {
                for round in 0..150 {
                    let world = Rc::new(World {
                        handles: RefCell::new((0..12).map(|_| None).collect()),
                        dice: Cell::new(thread * 1_000_003 + round * 7_919 + 1),
                        steps: Cell::new(400),
                        made: Cell::new(0),
                    });
                    // MAIN's own switches fail with what arrives there, and nothing else.
                    let ended = catch_unwind(AssertUnwindSafe(|| act(&world, 0)));
                    assert!(ended.is_ok(), "MAIN is never unwound");
                    world.steps.set(0);
                    for at in 0..12 {
                        let old = world.handles.borrow_mut()[at].take();
                        drop(old);
                    }
                    let _ = Greenlet::current().switch(());
                    // Rings of suspended ones that hold each other stay; nothing is dropped twice.
                    assert!(ALIVE.get() >= 0);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no thread fails");
    }
}

#[test]
fn those_without_rings_leave_nothing_behind() {
    thread::spawn(|| {
        let mut dice = 88_172_645_463_325_252u64;
        let mut roll = |sides: usize| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            (dice >> 33) as usize % sides
        };
        let mut all: Vec<Greenlet> = Vec::new();
        for _ in 0..20_000 {
            match roll(5) {
                0 | 1 => {
                    let (captured, stop) = (Token::new(), roll(3));
                    let main = Greenlet::current();
                    all.push(Greenlet::new(move |value| {
                        let _captured = captured;
                        let _local = Token::new();
                        drop(value);
                        for _ in 0..stop {
                            main.switch(Token::new())?;
                        }
                        Ok(Box::new(Token::new()))
                    }));
                }
                2 | 3 if !all.is_empty() => drop(all[roll(all.len())].switch(Token::new())),
                _ if !all.is_empty() => drop(all.swap_remove(roll(all.len()))),
                _ => {}
            }
        }
        drop(all);
        assert_eq!(ALIVE.get(), 0);
    })
    .join()
    .expect("the thread");
}

// S5: a loop that was left runs again in a destructor, and would resume who is parked.
#[test]
fn a_destructor_of_a_thread_local_cannot_run_the_loop() {
    use twistlet::Reactor;
    use twistlet::green::{join_reactor, spawn, yield_now};
    let (bad, fresh) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (saw, ran) = (bad.clone(), fresh.clone());
    thread::spawn(move || {
        let reactor = Reactor::new().unwrap();
        join_reactor(&reactor).unwrap();
        let _idle = reactor.call_later(std::time::Duration::from_millis(20), move || reactor.crash());
        AT_END.with(|_| ());
        let _detached = spawn(move || {
            USED.with(|used| {
                loop {
                    yield_now();
                    saw.fetch_or(used.0.get(), Ordering::Relaxed);
                }
            });
        });
        reactor.run().unwrap();
        AT_END.with(|end| {
            *end.0.borrow_mut() = Some(Box::new(move || {
                let _ = catch_unwind(AssertUnwindSafe(|| {
                    let _new = spawn(move || ran.store(true, Ordering::Relaxed));
                    let _ = reactor.run();
                }));
            }));
        });
    })
    .join()
    .unwrap();
    assert!(!bad.load(Ordering::Relaxed), "a frame has seen a destroyed thread-local");
    assert!(!fresh.load(Ordering::Relaxed));
}

/// A thread-local whose destructor calls what was put there.
struct AtEnd(RefCell<Option<Box<dyn FnOnce()>>>);
impl Drop for AtEnd {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            call();
        }
    }
}
struct Loud(Cell<bool>);
impl Drop for Loud {
    fn drop(&mut self) {
        self.0.set(true);
    }
}
thread_local! {
    static AT_END: AtEnd = const { AtEnd(RefCell::new(None)) };
    static USED: Loud = const { Loud(Cell::new(false)) };
}

// S5: AT_END is registered after everything of the crate and before USED, so its destructor runs between theirs.
#[test]
fn a_destructor_of_a_thread_local_cannot_switch() {
    let (bad, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (saw, count) = (bad.clone(), refused.clone());
    thread::spawn(move || {
        Greenlet::new(Ok).switch(()).unwrap();
        AT_END.with(|_| ());
        let g = Greenlet::new(move |_| {
            let main = parent();
            USED.with(|used| {
                loop {
                    main.switch(())?;
                    saw.fetch_or(used.0.get(), Ordering::Relaxed);
                }
            })
        });
        for _ in 0..3 {
            g.switch(()).unwrap();
        }
        AT_END.with(|end| {
            *end.0.borrow_mut() = Some(Box::new(move || {
                for failure in [g.switch(()), g.kill(), g.throw(Failure::msg("no")), Greenlet::new(Ok).switch(())] {
                    let ending = failure.err().and_then(|failure| failure.check().copied());
                    count.fetch_add(usize::from(ending == Some(GreenletError::ThreadEnding)), Ordering::Relaxed);
                }
            }));
        });
    })
    .join()
    .unwrap();
    assert!(!bad.load(Ordering::Relaxed), "a frame has seen a destroyed thread-local");
    assert_eq!(refused.load(Ordering::Relaxed), 4);
}

// S5 through the hub: MAIN's own wait would run the loop, and the loop the others.
#[test]
fn a_destructor_of_a_thread_local_cannot_wait() {
    use std::time::Duration;
    use twistlet::green::{sleep, spawn, yield_now};
    let bad = Arc::new(AtomicBool::new(false));
    let saw = bad.clone();
    thread::spawn(move || {
        yield_now();
        AT_END.with(|_| ());
        let _detached = spawn(move || {
            USED.with(|used| {
                loop {
                    yield_now();
                    saw.fetch_or(used.0.get(), Ordering::Relaxed);
                }
            });
        });
        sleep(Duration::from_millis(1));
        AT_END.with(|end| {
            *end.0.borrow_mut() = Some(Box::new(|| {
                let _ = catch_unwind(|| sleep(Duration::from_millis(2)));
                let _ = catch_unwind(|| twistlet::Reactor::current().close());
            }));
        });
    })
    .join()
    .unwrap();
    assert!(!bad.load(Ordering::Relaxed), "a frame has seen a destroyed thread-local");
}
