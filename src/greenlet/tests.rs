//! The hub's side of greenlets, which integration tests cannot reach.
use super::{Greenlet, GreenletError, trim_stacks};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Mutex;

fn managed(body: impl FnOnce() + 'static) -> Greenlet {
    Greenlet::spawn_managed(None, &Greenlet::current(), body).expect("a stack")
}

#[test]
fn a_managed_greenlet_runs_when_it_is_transferred_to_and_its_parent_after_it() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let main = Greenlet::current();
    let (inner, back) = (seen.clone(), main.clone());
    let g = managed(move || {
        inner.borrow_mut().push(1);
        back.transfer();
        inner.borrow_mut().push(3);
    });
    assert!(!g.is_started() && g.is_managed() && !g.is_main() && main.is_main());
    assert_eq!(g.parent(), Some(main.clone()));
    g.transfer();
    assert!(g.is_started() && !g.is_dead() && !g.is_current() && main.is_current());
    seen.borrow_mut().push(2);
    g.transfer();
    assert!(g.is_dead());
    assert_eq!(*seen.borrow(), [1, 2, 3]);
    main.transfer();
}

#[test]
fn the_parent_of_a_managed_one_can_be_changed() {
    let seen = Rc::new(Cell::new(0));
    let count = seen.clone();
    let parent = managed(move || count.set(count.get() + 1));
    let g = managed(|| {});
    g.set_parent_managed(&parent);
    g.transfer();
    assert!(g.is_dead() && parent.is_dead() && seen.get() == 1);
    // A parent that is dead: MAIN runs.
    let g = managed(|| {});
    g.set_parent_managed(&parent);
    g.transfer();
    assert!(g.is_dead());
}

#[test]
fn main_can_park_while_a_loop_runs_in_a_greenlet_of_its_own() {
    let main = Greenlet::main();
    let rounds = Rc::new(Cell::new(0));
    let count = rounds.clone();
    let hub = managed(move || {
        let worker = managed({
            let count = count.clone();
            let hub = Greenlet::current();
            move || {
                for _ in 0..10 {
                    count.set(count.get() + 1);
                    hub.transfer();
                }
            }
        });
        while !worker.is_dead() {
            worker.prefetch();
            worker.transfer();
        }
        main.transfer();
    });
    hub.transfer();
    assert_eq!(rounds.get(), 10);
    hub.transfer();
    assert!(hub.is_dead());
}

#[test]
fn public_calls_do_not_reach_a_managed_one() {
    let main = Greenlet::current();
    let g = managed(move || main.transfer());
    for _ in 0..2 {
        for result in [g.switch(()), g.throw(crate::failure::Failure::msg("no")), g.kill()] {
            assert_eq!(result.err().and_then(|failure| failure.check().copied()), Some(GreenletError::Managed));
        }
        let refused = g.set_parent(&Greenlet::main()).expect_err("refused");
        assert_eq!(refused.check(), Some(&GreenletError::Managed));
        g.transfer();
    }
    assert!(g.is_dead());
}

#[test]
fn greenlets_of_a_user_work_within_a_managed_one() {
    let hub = Greenlet::current();
    let got = Rc::new(Cell::new(0));
    let parked: Rc<RefCell<Option<Greenlet>>> = Rc::default();
    let (result, park) = (got.clone(), parked.clone());
    let g = managed(move || {
        let generator = Greenlet::new(move |_| {
            let parent = Greenlet::current().parent().expect("the managed one");
            parent.switch(1)?;
            // What a blocking call does: the hub is told who waits, and runs.
            *park.borrow_mut() = Some(Greenlet::current());
            hub.transfer();
            parent.switch(2)
        });
        for _ in 0..2 {
            let value = generator.switch(()).expect("a value").downcast::<i32>().expect("an i32");
            result.set(result.get() * 10 + *value);
        }
        assert!(generator.kill().expect("an exit").is::<super::GreenletExit>());
    });
    g.transfer();
    assert_eq!(got.get(), 1);
    let waiter = parked.take().expect("it parked");
    let refused = waiter.switch(()).expect_err("only the hub may wake it");
    assert_eq!(refused.check(), Some(&GreenletError::Managed));
    waiter.transfer();
    assert_eq!(got.get(), 12);
    assert!(g.is_dead() && waiter.is_dead());
}

// Its parent, a managed one, is parked when it ends: MAIN runs on.
#[test]
fn the_outcome_of_one_whose_parents_are_parked_is_lost_but_control_is_not() {
    let hub = Greenlet::current();
    let made: Rc<RefCell<Option<Greenlet>>> = Rc::default();
    let slot = made.clone();
    let g = managed(move || {
        *slot.borrow_mut() = Some(Greenlet::new(Ok));
        hub.transfer();
    });
    g.transfer();
    let child = made.take().expect("a child");
    child.switch(5).expect("something");
    assert!(child.is_dead());
    g.transfer();
    assert!(g.is_dead());
}

#[test]
fn a_panic_of_a_managed_body_stays_in_it() {
    let g = managed(|| std::panic::resume_unwind(Box::new("boom")));
    g.transfer();
    assert!(g.is_dead());
}

#[test]
fn dropping_an_unstarted_one_drops_its_closure_and_a_suspended_one_is_leaked() {
    let held = Rc::new(());
    let captured = held.clone();
    drop(managed(move || drop(captured)));
    assert_eq!(Rc::strong_count(&held), 1);

    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("bomb"));
        }
    }
    let bomb = Bomb;
    drop(managed(move || std::mem::forget(bomb)));

    let (captured, main) = (held.clone(), Greenlet::current());
    let g = managed(move || {
        main.transfer();
        drop(captured);
    });
    g.transfer();
    drop(g);
    assert_eq!(Rc::strong_count(&held), 2, "leaked, not unwound");
}

#[test]
fn large_and_overaligned_bodies_arrive_whole() {
    #[repr(align(256))]
    struct Aligned(u8);
    let (large, aligned, seen) = ([7u8; 100_000], Aligned(9), Rc::new(Cell::new(0)));
    let sum = seen.clone();
    let g = managed(move || {
        assert_eq!((&raw const aligned).addr() % 256, 0);
        sum.set(large.iter().map(|n| usize::from(*n)).sum::<usize>() + usize::from(aligned.0));
    });
    g.transfer();
    assert_eq!(seen.get(), 700_009);
}

#[test]
fn bodies_of_every_shape_are_run_once_or_dropped_once() {
    thread_local! {
        static DROPPED: Cell<usize> = const { Cell::new(0) };
    }
    /// Zero-sized, and still to be dropped once.
    struct Nothing;
    impl Drop for Nothing {
        fn drop(&mut self) {
            DROPPED.set(DROPPED.get() + 1);
        }
    }
    #[repr(align(64))]
    struct Line([u8; 64]);
    #[repr(align(4096))]
    struct Page([u8; 4096]);
    let check = |make: &dyn Fn(Nothing) -> Greenlet| {
        for run in [false, true] {
            DROPPED.set(0);
            let g = make(Nothing);
            if run {
                g.transfer();
                assert_eq!(DROPPED.get(), 1);
            }
            drop(g);
            assert_eq!(DROPPED.get(), 1);
        }
    };
    // The size limit of what is placed on the stack, and one more.
    let (fits, large) = ([1u8; 1024], [2u8; 1025]);
    check(&|nothing| managed(move || drop(nothing)));
    check(&|nothing| managed(move || drop((nothing, std::hint::black_box(fits)))));
    check(&|nothing| managed(move || drop((nothing, std::hint::black_box(large)))));
    check(&|nothing| {
        let line = Line([3; 64]);
        managed(move || {
            assert_eq!(((&raw const line).addr() % 64, line.0), (0, [3; 64]));
            drop(nothing);
        })
    });
    check(&|nothing| {
        let page = Page([4; 4096]);
        managed(move || {
            assert_eq!(((&raw const page).addr() % 4096, page.0), (0, [4; 4096]));
            drop(nothing);
        })
    });
}

// GL-36: a destructor must not unwind, so whoever is killed while it drops another is at its next switch.
#[test]
fn a_kill_of_one_that_waits_for_another_to_be_unwound_is_not_lost() {
    let hub = Greenlet::current();
    let (parked, past): (Rc<RefCell<Option<Greenlet>>>, _) = (Rc::default(), Rc::new(Cell::new((false, false))));
    let (park, told) = (parked.clone(), past.clone());
    // Swallows its exit and waits in the hub.
    let stubborn = Greenlet::new(move |_| {
        let parent = Greenlet::current().parent().expect("a parent");
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| parent.switch(())));
        *park.borrow_mut() = Some(Greenlet::current());
        hub.transfer();
        Ok(Box::new(()))
    });
    stubborn.switch(()).expect("it waits");
    let dropper = Greenlet::new(move |_| {
        drop(stubborn);
        told.set((true, false));
        Greenlet::current().parent().expect("a parent").switch(())?;
        told.set((true, true));
        Ok(Box::new(()))
    });
    let killed = dropper.clone();
    // In a green thread, so that the test plays the hub.
    let g = managed(move || {
        let _ = dropper.switch(());
    });
    g.transfer();
    assert!(!g.is_dead() && parked.borrow().is_some());
    let _ = killed.kill();
    assert_eq!(past.get(), (true, false), "it was unwound at the switch after the drop");
    assert!(killed.is_dead());
    g.transfer();
    parked.take().expect("the stubborn one").transfer();
}

#[test]
fn names_and_handles_come_and_go_while_one_dies() {
    for round in 0..200 {
        let own: Rc<RefCell<Option<Greenlet>>> = Rc::default();
        let (slot, main) = (own.clone(), Greenlet::current());
        let g = managed(move || {
            Greenlet::current().set_name(format!("number {round}"));
            let mine = slot.take();
            let clones: Vec<_> = (0..5).map(|_| Greenlet::current()).collect();
            if round % 2 == 0 {
                main.transfer();
            }
            drop((mine, clones));
            // Nobody names it now, but its frames are here.
            assert_eq!(Greenlet::current().name().as_deref(), Some(&*format!("number {round}")));
        });
        *own.borrow_mut() = Some(g.clone());
        g.transfer();
        if round % 3 == 0 && g.0.can_run() {
            g.transfer();
        }
        drop(g);
    }
}

#[test]
fn sizes_names_and_use_are_told() {
    let main = Greenlet::current();
    let g = Greenlet::spawn_managed(Some(20_000), &Greenlet::current(), move || main.transfer()).expect("a stack");
    g.set_name("worker");
    assert_eq!(g.name().as_deref(), Some("worker"));
    assert_eq!(g.stack_size(), Some(32 << 10));
    g.transfer();
    let used = g.stack_used().expect("suspended");
    assert!((100..8_000).contains(&used), "{used}");
    g.transfer();
    assert_eq!(Greenlet::main().stack_size(), None);
    assert!(Greenlet::spawn_managed(Some(usize::MAX), &Greenlet::current(), || {}).is_err());
    assert!(Greenlet::can_switch());
}

/// Figures of the process: one test at a time.
static MEMORY: Mutex<()> = Mutex::new(());

/// A figure of `/proc/self/status`, in KiB.
fn status(what: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").expect("proc");
    let line = text.lines().find(|line| line.starts_with(what)).expect("the line");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

#[inline(never)]
fn deep(kib: usize) -> u8 {
    let page = [1u8; 1024];
    let page = std::hint::black_box(page);
    if kib == 0 { page[0] } else { deep(kib - 1).wrapping_add(page[7]) }
}

#[test]
fn memory_of_deeply_used_stacks_is_given_back() {
    const COUNT: usize = 1000;
    let _alone = MEMORY.lock();
    std::thread::spawn(|| {
        let before = status("RssAnon");
        let main = Greenlet::current();
        let gs: Vec<_> = (0..COUNT)
            .map(|_| {
                let main = main.clone();
                managed(move || {
                    std::hint::black_box(deep(50));
                    main.transfer();
                })
            })
            .collect();
        gs.iter().for_each(Greenlet::transfer);
        let full = status("RssAnon");
        assert!(full > before + COUNT * 50, "{before} {full}");
        gs.iter().for_each(Greenlet::transfer);
        drop(gs);
        // The hottest stay, of the rest the tops.
        let swept = status("RssAnon");
        assert!(swept < before + COUNT * 60, "{before} {full} {swept}");
        trim_stacks();
        let trimmed = status("RssAnon");
        assert!(trimmed < before + COUNT * 24, "{before} {full} {swept} {trimmed}");
    })
    .join()
    .expect("the thread");
}

/// Parks `count` and tells the bytes each takes, page tables included, and the mappings of the process.
fn parked(count: usize) -> (usize, usize) {
    let memory = || status("RssAnon") + status("VmPTE");
    let main = Greenlet::current();
    let before = memory();
    let gs: Vec<_> = (0..count)
        .map(|_| {
            let main = main.clone();
            managed(move || main.transfer())
        })
        .collect();
    gs.iter().for_each(Greenlet::transfer);
    let each = (memory() - before) * 1024 / count;
    let maps = std::fs::read_to_string("/proc/self/maps").map_or(0, |maps| maps.lines().count());
    gs.iter().for_each(Greenlet::transfer);
    (each, maps)
}

#[test]
fn a_hundred_thousand_parked_take_a_page_and_a_bit_each() {
    let _alone = MEMORY.lock();
    let (each, maps) = std::thread::spawn(|| parked(100_000)).join().expect("the thread");
    assert!(each <= 4812 + 100, "{each} bytes each");
    // One without guard markers has two a stack, and would have failed at half as many.
    assert!(maps < 1000, "{maps} mappings");
}

/// What the next test's child does; nothing when the tests run.
#[test]
fn in_the_child() {
    if std::env::var_os("TWISTLET_CASE").is_none() {
        return;
    }
    let g = managed(|| {
        std::hint::black_box(deep(100_000));
    });
    g.set_name("diver");
    g.transfer();
}

#[test]
fn an_overflow_is_reported_with_the_name() {
    let output = std::process::Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "greenlet::tests::in_the_child", "--nocapture"])
        .env("TWISTLET_CASE", "diver")
        .output()
        .expect("a child process");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("green thread 'diver' overflowed its 256 KiB stack; raise it"), "{words}");
    assert!(!output.status.success());
}
