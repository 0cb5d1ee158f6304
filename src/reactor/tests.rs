//! What the public API cannot bring about: a loop left by unwinding, and a loop that nothing can wake.
use super::core::{Core, State};
use super::{Reactor, Remote};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Asked before the loop waits for ever, it ends the loop.
fn crash_when_idle(core: &Rc<Core>) -> Rc<Cell<u32>> {
    let asked = Rc::new(Cell::new(0));
    let (count, weak) = (asked.clone(), Rc::downgrade(core));
    core.set_idle_hook(Some(Rc::new(move || {
        count.set(count.get() + 1);
        if let Some(core) = weak.upgrade() {
            core.crash();
            core.call_soon(Box::new(|| ()));
        }
    })));
    asked
}

#[test]
fn the_next_reactor_takes_the_place_of_one_whose_run_was_unwound() {
    let reactor = Reactor::new().unwrap();
    let core = reactor.core().unwrap();
    core.set_idle_hook(Some(Rc::new(|| std::panic::resume_unwind(Box::new("through the loop")))));
    let freed = Rc::new(());
    let (timer, trigger) = (freed.clone(), freed.clone());
    reactor.call_later(Duration::MAX, move || drop(timer));
    reactor.add_trigger(super::Phase::AfterShutdown, move || drop(trigger));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| reactor.run())).is_err());
    assert_eq!(core.state.get(), State::Abandoned);
    assert!(!reactor.is_running() && !core.is_in_loop());
    assert!(reactor.run().is_err() && reactor.stop().is_err());
    drop(core);
    let next = Reactor::current();
    assert_ne!(next, reactor);
    assert_eq!(Rc::strong_count(&freed), 1);
    next.call_soon(move || next.stop());
    next.run().unwrap();
}

#[test]
fn the_loop_is_asked_when_nothing_can_wake_it_any_more() {
    let reactor = Reactor::new().unwrap();
    let core = reactor.core().unwrap();
    let asked = crash_when_idle(&core);
    reactor.run().unwrap();
    assert_eq!(asked.get(), 1);
    // A timer, a job, a handle on another thread: it waits as long as they are there, and is asked then.
    reactor.call_later(Duration::from_millis(2), || ());
    let never = reactor.call_later(Duration::MAX, || ());
    reactor.run().unwrap();
    assert_eq!((asked.get(), never.active()), (2, true));
    reactor.call_in_thread(|| std::thread::sleep(Duration::from_millis(5)));
    reactor.run().unwrap();
    assert_eq!(asked.get(), 3);
    let remote: Remote = reactor.remote();
    let thread = std::thread::spawn(move || {
        let copies = vec![remote.clone(), remote.clone(), remote];
        std::thread::sleep(Duration::from_millis(5));
        drop(copies);
    });
    reactor.run().unwrap();
    assert_eq!(asked.get(), 4);
    thread.join().unwrap();
    drop(core);
    reactor.close();
}
