//! What happens to greenlets nobody holds any more.
#![cfg(feature = "green")]
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Once;
use twistlet::Failure;
use twistlet::greenlet::{Greenlet, Value};

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}
struct Capture;
impl log::Log for Capture {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        let _ = LINES.try_with(|lines| lines.borrow_mut().push(format!("{} {}", record.level(), record.args())));
    }
    fn flush(&self) {}
}
/// Logs of this thread from now on.
fn capture() {
    static SET: Once = Once::new();
    SET.call_once(|| {
        log::set_logger(&Capture).expect("no other logger");
        log::set_max_level(log::LevelFilter::Trace);
    });
    LINES.take();
}
fn logged(what: &str) -> bool {
    LINES.with_borrow(|lines| lines.iter().any(|line| line.contains(what)))
}

struct OnDrop<F: FnMut()>(F);
impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
fn unit() -> Value {
    Box::new(())
}
fn parent() -> Greenlet {
    Greenlet::current().parent().expect("a parent")
}
/// Suspended, and says when it is unwound.
fn suspended(unwound: &Rc<Cell<bool>>) -> Greenlet {
    let flag = unwound.clone();
    let g = Greenlet::new(move |_| {
        let _guard = OnDrop(|| flag.set(true));
        parent().switch(())
    });
    g.switch(()).unwrap();
    g
}

// GLC-07, GL-36
#[test]
fn dropping_the_last_handle_unwinds_at_once() {
    let (first, second) = (Rc::default(), Rc::default());
    let (a, b) = (suspended(&first), suspended(&second));
    let another = a.clone();
    drop(a);
    assert!(!first.get(), "there is another handle");
    drop(another);
    assert!(first.get() && !second.get());
    drop(b);
    assert!(second.get());
}

// GL-36, GL-37: from whoever drops it, who goes on.
#[test]
fn a_greenlet_may_drop_another() {
    let unwound = Rc::default();
    let victim = suspended(&unwound);
    let flag = unwound.clone();
    let dropper = Greenlet::new(move |_| {
        drop(victim);
        assert!(flag.get());
        parent().switch("first")?;
        Ok(Box::new("second"))
    });
    assert_eq!(*dropper.switch(()).unwrap().downcast::<&str>().unwrap(), "first");
    assert_eq!(*dropper.switch(()).unwrap().downcast::<&str>().unwrap(), "second");
    assert!(unwound.get());
}

// GLC-08, GL-38
#[test]
fn a_failure_in_a_dropped_greenlet_is_logged_and_nobody_else_is_told() {
    capture();
    let g = Greenlet::new(|_| {
        let _ = catch_unwind(AssertUnwindSafe(|| parent().switch(())));
        Err(Failure::msg("made of the exit"))
    });
    g.switch(()).unwrap();
    drop(g);
    assert!(logged("made of the exit"));
}

// GL-39
#[test]
fn one_that_will_not_go_is_leaked_with_a_message() {
    capture();
    let turns = Rc::new(Cell::new(0));
    let count = turns.clone();
    let g = Greenlet::new(move |_| {
        let parent = parent();
        loop {
            let _ = catch_unwind(AssertUnwindSafe(|| parent.switch(())));
            count.set(count.get() + 1);
        }
    });
    g.switch(()).unwrap();
    drop(g);
    assert!(turns.get() > 1 && turns.get() < 100, "{}", turns.get());
    assert!(logged("would not be unwound"));
}

// GL-40
#[test]
fn one_that_stores_a_handle_while_it_is_unwound_lives_on() {
    let saved: Rc<RefCell<Option<Greenlet>>> = Rc::default();
    let store = saved.clone();
    let g = Greenlet::new(move |_| {
        let parent = parent();
        let _ = catch_unwind(AssertUnwindSafe(|| parent.switch(())));
        *store.borrow_mut() = Some(Greenlet::current());
        Ok(unit())
    });
    g.switch(()).unwrap();
    drop(g);
    assert!(saved.borrow().as_ref().unwrap().is_dead());
}

// GL-41
#[test]
fn one_that_holds_itself_is_not_unwound() {
    let unwound = Rc::new(Cell::new(false));
    let flag = unwound.clone();
    let g = Greenlet::new(move |_| {
        let _guard = OnDrop(|| flag.set(true));
        let _me = Greenlet::current();
        parent().switch(())
    });
    g.switch(()).unwrap();
    drop(g);
    assert!(!unwound.get());
}

// GL-36: nobody has a handle when it switches away.
#[test]
fn an_orphan_is_unwound_when_it_switches_away() {
    let unwound = Rc::new(Cell::new(false));
    let flag = unwound.clone();
    let slot: Rc<RefCell<Option<Greenlet>>> = Rc::default();
    let own = slot.clone();
    *slot.borrow_mut() = Some(Greenlet::new(move |_| {
        let _guard = OnDrop(|| flag.set(true));
        let main = parent();
        drop(own.take());
        main.switch("bye")
    }));
    let g = slot.borrow().clone().unwrap();
    // The handle this borrow is of must not be the last: let a helper switch, and give up its own.
    let helper = Greenlet::new(move |_| g.switch(()));
    let said = helper.switch(()).unwrap();
    assert_eq!(*said.downcast::<&str>().unwrap(), "bye");
    assert!(!unwound.get(), "the helper has a handle");
    drop(helper);
    assert!(unwound.get());
}

// G5, RS-24: dropped while unwinding, it is unwound later.
#[test]
fn one_dropped_during_a_panic_is_unwound_at_the_next_switch() {
    let unwound = Rc::default();
    let g = suspended(&unwound);
    let caught = catch_unwind(AssertUnwindSafe(move || {
        let _g = g;
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(caught.is_err() && !unwound.get());
    Greenlet::current().switch(()).unwrap();
    assert!(unwound.get());
}

#[test]
fn dropping_an_unstarted_one_drops_its_body() {
    let held = Rc::new(());
    let captured = held.clone();
    let g = Greenlet::new(move |_| {
        drop(captured);
        Ok(unit())
    });
    drop(g);
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn a_long_chain_of_parents_is_dropped_without_recursion() {
    std::thread::Builder::new()
        .stack_size(64 << 10)
        .spawn(|| {
            let last = Greenlet::new(Ok);
            let mut root = last.clone();
            for _ in 0..100_000 {
                let above = Greenlet::new(Ok);
                root.set_parent(&above).unwrap();
                root = above;
            }
            drop(root);
            drop(last);
        })
        .unwrap()
        .join()
        .unwrap();
}

// S5: destructors of thread-locals
#[test]
fn at_the_end_of_a_thread_suspended_greenlets_are_leaked() {
    thread_local! {
        static HELD: RefCell<Option<Greenlet>> = const { RefCell::new(None) };
    }
    let unwound = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = unwound.clone();
    std::thread::spawn(move || {
        HELD.with_borrow(|held| assert!(held.is_none()));
        let g = Greenlet::new(move |_| {
            let _guard = OnDrop(|| flag.store(true, std::sync::atomic::Ordering::Relaxed));
            parent().switch(())
        });
        g.switch(()).unwrap();
        HELD.set(Some(g));
    })
    .join()
    .unwrap();
    assert!(!unwound.load(std::sync::atomic::Ordering::Relaxed));
}

// S5: a thread-local that a suspended frame uses is destroyed first; the greenlet must not be unwound after it.
#[test]
fn at_the_end_of_a_thread_no_frame_sees_a_destroyed_thread_local() {
    struct Loud(Cell<bool>);
    impl Drop for Loud {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    thread_local! {
        static HELD: RefCell<Option<Greenlet>> = const { RefCell::new(None) };
        static USED: Loud = const { Loud(Cell::new(false)) };
    }
    let bad = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = bad.clone();
    std::thread::spawn(move || {
        let first = Greenlet::new(Ok);
        first.switch(()).unwrap();
        // Registered after everything of the crate, and before the one its frame uses.
        HELD.set(None);
        let g = Greenlet::new(move |_| {
            USED.with(|used| {
                let _guard = OnDrop(|| flag.store(used.0.get(), std::sync::atomic::Ordering::Relaxed));
                parent().switch(())
            })
        });
        g.switch(()).unwrap();
        HELD.set(Some(g));
    })
    .join()
    .unwrap();
    assert!(!bad.load(std::sync::atomic::Ordering::Relaxed));
}

// GL-44, GLC-36: nothing to do with process exit but not to hang; the test ends with suspended greenlets.
#[test]
fn suspended_greenlets_may_be_forgotten() {
    let unwound = Rc::default();
    std::mem::forget(suspended(&unwound));
    assert!(!unwound.get());
}
