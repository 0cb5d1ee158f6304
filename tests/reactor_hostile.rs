//! What breaks naive loops: panics of every kind in every kind of callback, destructors that do things, misuse.
use std::cell::{Cell, RefCell};
use std::fmt;
use std::os::unix::net::UnixStream;
use std::panic::panic_any;
use std::rc::Rc;
use std::time::Duration;
use twistlet::reactor::{Descriptor, Phase, Watch};
use twistlet::{Deferred, Failure, Reactor, Result};

#[path = "support/watch.rs"]
mod support;
use support::{Notes, OnDrop, dog, logged};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

/// A payload that panics when it is dropped, with a payload that does so too.
struct Bomb(u32);
impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 > 0 {
            panic_any(Bomb(self.0 - 1));
        }
    }
}
#[derive(Debug)]
struct Unprintable;
impl fmt::Display for Unprintable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("cannot be printed")
    }
}
impl std::error::Error for Unprintable {}

struct Explodes;
impl Descriptor for Explodes {
    fn readable(&mut self, _: &Watch) {
        panic_any(Bomb(3));
    }
    fn writable(&mut self, _: &Watch) {
        panic_any(Bomb(3));
    }
    fn connection_lost(&mut self, _: &twistlet::ConnectionClosed) {
        panic_any(Bomb(3));
    }
}

#[test]
fn no_panic_in_any_callback_ends_the_loop() {
    // R2, REA-2, REA-3, REA-5, REA-21
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    fn explode() -> Result {
        panic_any(Bomb(3))
    }
    for phase in [
        Phase::BeforeStartup,
        Phase::DuringStartup,
        Phase::AfterStartup,
        Phase::BeforeShutdown,
        Phase::DuringShutdown,
        Phase::AfterShutdown,
    ] {
        reactor.add_trigger(phase, explode);
        reactor.add_trigger(phase, || Err::<(), _>(Failure::from(Unprintable)));
        reactor.add_trigger(phase, || Deferred::succeed(Bomb(2)));
    }
    reactor.call_soon(explode);
    reactor.call_soon(|| Ok(Bomb(2)));
    reactor.call_later(MS, explode);
    reactor.call_later(MS, || Err::<(), _>(Failure::from(Unprintable)));
    reactor.call_later(MS, || Ok(Bomb(2)));
    reactor.call_when_running(explode);
    reactor.remote().call_from_thread(|_| explode()).unwrap();
    let _watches = [
        reactor.watch(UnixStream::pair().unwrap().0, Explodes).unwrap(),
        reactor.watch(UnixStream::pair().unwrap().0, Explodes).unwrap(),
    ];
    reactor.call_in_thread(|| panic_any(Bomb(3)));
    drop(reactor.defer_to_thread(explode));
    drop(reactor.defer_to_thread(|| Ok(Bomb(2))));
    drop(reactor.spawn_local(async { explode() }));
    drop(reactor.spawn_local(async { Ok(Bomb(2)) }));
    drop(reactor.spawn_local(async {
        let _bomb = Bomb(2);
        std::future::pending::<()>().await;
    }));
    reactor.add_trigger(Phase::AfterShutdown, notes.adds("the end"));
    reactor.call_later(10 * MS, move || {
        drop(reactor.defer_to_thread(|| Ok(())).add_callback(move |()| reactor.stop()));
    });
    reactor.run().unwrap();
    assert_eq!(notes.all(), "the end");
    assert!(logged().len() >= 10);
}

#[test]
fn a_panic_in_the_middle_of_the_ready_queue_costs_nobody_a_turn() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let turns = Rc::new(RefCell::new(Vec::new()));
    for n in 0..100 {
        let turns = turns.clone();
        reactor.call_soon(move || {
            turns.borrow_mut().push(reactor.statistics().turns);
            assert!(n % 3 != 0, "every third");
        });
    }
    reactor.call_soon(move || reactor.stop());
    reactor.run().unwrap();
    assert_eq!(*turns.borrow(), [1; 100]);
    assert_eq!(logged().len(), 34);
}

#[test]
fn destructors_of_everything_may_use_the_reactor() {
    // R1: no cell is borrowed while they run.
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let busy = move || {
        reactor.call_later(MS, || ()).cancel();
        reactor.call_soon(|| ());
        reactor.add_trigger(Phase::AfterShutdown, || ()).remove();
        let _ = reactor.remote().call_from_thread(|_| ());
        let _ = reactor.statistics();
        drop(reactor.spawn_local(async {}));
        if let Ok(watch) = reactor.watch(UnixStream::pair().unwrap().0, Explodes) {
            drop(watch);
        }
    };
    let count = Rc::new(Cell::new(0));
    let guard = || {
        let count = count.clone();
        OnDrop(move || {
            count.set(count.get() + 1);
            busy();
        })
    };
    struct Holds<G>(#[allow(dead_code, reason = "held")] G);
    impl<G> Descriptor for Holds<G> {}

    // Each twice: dropped by its own means, and by the end of the reactor.
    let held = guard();
    assert!(reactor.call_later(HOUR, move || drop(held)).cancel());
    let held = guard();
    assert!(reactor.add_trigger(Phase::AfterStartup, move || drop(held)).remove());
    drop(reactor.watch(UnixStream::pair().unwrap().0, Holds(guard())).unwrap());
    let held = guard();
    let task = reactor.spawn_local(async move {
        let _held = held;
        std::future::pending::<()>().await;
    });
    task.cancel();
    assert_eq!(count.get(), 4);

    let held = guard();
    reactor.call_later(HOUR, move || drop(held));
    let held = guard();
    reactor.add_trigger(Phase::AfterStartup, move || drop(held));
    let _watch = reactor.watch(UnixStream::pair().unwrap().0, Holds(guard())).unwrap();
    let held = guard();
    drop(reactor.spawn_local(async move {
        let _held = held;
        std::future::pending::<()>().await;
    }));
    let held = guard();
    reactor.call_soon(move || drop(held));
    reactor.close();
    assert_eq!(count.get(), 9);
    // What was spawned during the end was refused, and nobody looked at that; nothing else is worth a line.
    assert!(logged().iter().all(|line| line.contains("the reactor has ended")));
}

#[test]
fn a_cancelled_future_whose_destructor_fires_what_it_waited_for_is_not_polled_again() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let (promise, inner) = Deferred::<()>::new();
    let promise = Cell::new(Some(promise));
    let guard = OnDrop(move || {
        if let Some(promise) = promise.take() {
            promise.callback(());
        }
    });
    let task = reactor.spawn_local(async move {
        let outcome = inner.await;
        drop(guard);
        outcome
    });
    task.cancel();
    reactor.call_soon(move || reactor.stop());
    reactor.run().unwrap();
    assert_eq!(logged(), [""; 0]);
}

#[test]
fn a_hundred_thousand_queued_calls_and_timers_are_dropped_on_a_small_stack() {
    std::thread::Builder::new()
        .stack_size(128 << 10)
        .spawn(|| {
            let reactor = Reactor::new().unwrap();
            for _ in 0..100_000 {
                reactor.call_soon(|| ());
                reactor.call_later(HOUR, || ());
            }
            reactor.close();
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn everything_that_ends_a_reactor_may_be_said_at_once() {
    let _dog = dog();
    for order in 0..6 {
        let reactor = Reactor::new().unwrap();
        reactor.call_soon(move || match order {
            0 => {
                let _ = reactor.stop();
                reactor.crash();
            }
            1 => {
                reactor.crash();
                let _ = reactor.stop();
                reactor.close();
            }
            2 => {
                reactor.close();
                reactor.crash();
                assert!(reactor.stop().is_err());
            }
            3 => {
                let _ = reactor.stop();
                reactor.close();
            }
            4 => {
                reactor.crash();
                reactor.crash();
            }
            _ => {
                let _ = reactor.stop();
                let _ = reactor.stop();
            }
        });
        reactor.run().unwrap();
        assert!(!reactor.is_running());
        reactor.close();
        assert_eq!(logged(), [""; 0]);
        Reactor::new().unwrap().close();
    }
}
