//! What breaks naive chains: depth, destructors, re-entrance, panics in the wrong place.
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use twistlet::deferred::{DeferredLock, gather_results};
use twistlet::error::PromiseDropped;
use twistlet::failure::on_unobserved_failure;
use twistlet::{Cancelled, Deferred, Failure, Promise, Result};

/// Runs `f` on a stack of 64 KiB.
fn on_a_small_stack(f: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(64 << 10).spawn(f).unwrap().join().unwrap();
}
const MANY: u32 = 100_000;

#[test]
fn a_million_callbacks_run_on_a_small_stack() {
    // DEF-16
    on_a_small_stack(|| {
        let (promise, mut deferred) = Deferred::<u32>::new();
        for _ in 0..1_000_000 {
            deferred = deferred.add_callback(|n| Ok(n + 1));
        }
        promise.callback(0);
        assert_eq!(deferred.try_take().unwrap(), Ok(1_000_000));
    });
}

#[test]
fn a_million_callbacks_are_dropped_unfired_or_cancelled_on_a_small_stack() {
    on_a_small_stack(|| {
        for way in 0..3 {
            let (promise, mut deferred) = Deferred::<u32>::new();
            for _ in 0..1_000_000 / 3 {
                deferred = deferred.add_callback(|n| Ok(n + 1));
            }
            match way {
                0 => {
                    drop(promise);
                    assert!(deferred.try_take().unwrap().unwrap_err().is::<PromiseDropped>());
                }
                1 => {
                    deferred.cancel();
                    assert!(deferred.try_take().unwrap().unwrap_err().is::<Cancelled>());
                }
                _ => {
                    on_unobserved_failure(|_, _| {});
                    drop(deferred);
                    drop(promise);
                }
            }
        }
    });
}

/// A Deferred whose callback returns one whose callback returns one, and so on; the promises from the inside out.
fn nested(depth: u32, handlers: bool) -> (Vec<Promise<u32>>, Deferred<u32>) {
    let (promise, mut all) = Deferred::<u32>::new();
    let mut promises = vec![promise];
    for _ in 1..depth {
        let (promise, deferred) = Deferred::<u32>::new();
        let inner = all;
        all = deferred.add_callback(move |_| inner);
        if handlers {
            all = all.add_callback(|n| Ok(n + 1));
        }
        promises.push(promise);
    }
    (promises, all)
}

#[test]
fn deferreds_that_return_deferreds_fire_in_either_order_on_a_small_stack() {
    // DEF-16
    for handlers in [false, true] {
        on_a_small_stack(move || {
            let (promises, all) = nested(MANY, handlers);
            for promise in promises {
                promise.callback(0);
            }
            assert_eq!(all.try_take().unwrap(), Ok(if handlers { MANY - 1 } else { 0 }));
            let (promises, all) = nested(MANY, handlers);
            for promise in promises.into_iter().rev() {
                promise.callback(0);
            }
            assert_eq!(all.try_take().unwrap(), Ok(if handlers { MANY - 1 } else { 0 }));
        });
    }
}

#[test]
fn deferreds_that_return_deferreds_are_cancelled_and_dropped_on_a_small_stack() {
    on_a_small_stack(|| {
        on_unobserved_failure(|_, _| {});
        let (promises, all) = nested(MANY, true);
        drop((all, promises));
        let (promises, all) = nested(MANY, true);
        drop((promises, all));
        let (mut promises, all) = nested(MANY, true);
        let innermost = promises.remove(0);
        for promise in promises.into_iter().rev() {
            promise.callback(0);
        }
        all.cancel();
        assert!(innermost.is_cancelled());
        assert!(all.try_take().unwrap().unwrap_err().is::<Cancelled>());
        let (mut promises, all) = nested(MANY, true);
        let innermost = promises.remove(0);
        for promise in promises.into_iter().rev() {
            promise.callback(0);
        }
        drop(innermost);
        assert!(all.try_take().unwrap().unwrap_err().is::<PromiseDropped>());
    });
}

#[test]
fn wrapping_what_already_waits_is_not_quadratic() {
    on_a_small_stack(|| {
        let (innermost, mut all) = Deferred::<u32>::new();
        for _ in 0..MANY {
            let (promise, deferred) = Deferred::<()>::new();
            let inner = all;
            all = deferred.add_callback(move |()| inner).add_callback(|n| Ok(n + 1));
            promise.callback(());
        }
        innermost.callback(0);
        assert_eq!(all.try_take().unwrap(), Ok(MANY));
        // One chain whose every callback waits.
        let (promise, mut all) = Deferred::<u32>::new();
        let next = Rc::new(RefCell::new(None::<Promise<u32>>));
        for _ in 0..MANY {
            let next = next.clone();
            all = all.add_callback(move |n| {
                let (promise, deferred) = Deferred::new();
                next.replace(Some(promise));
                deferred.add_callback(move |m: u32| Ok(n + m))
            });
        }
        promise.callback(0);
        while let Some(promise) = next.take() {
            promise.callback(1);
        }
        assert_eq!(all.try_take().unwrap(), Ok(MANY));
    });
}

#[test]
fn a_chain_that_never_ends_takes_no_memory() {
    // A loop by recursion: each callback returns a Deferred whose callback returns the next.
    fn again(left: Rc<Cell<u32>>, slot: Rc<RefCell<Option<Promise<()>>>>, alive: Rc<()>) -> Deferred<()> {
        let (promise, deferred) = Deferred::new();
        slot.replace(Some(promise));
        let witness = alive.clone();
        deferred.add_callback(move |()| {
            left.set(left.get() - 1);
            assert!(Rc::strong_count(&witness) < 8);
            if left.get() == 0 { Deferred::succeed(()) } else { again(left, slot, witness) }
        })
    }
    on_a_small_stack(|| {
        let slot = Rc::new(RefCell::new(None));
        let all = again(Rc::new(Cell::new(MANY)), slot.clone(), Rc::new(()));
        let next = || slot.borrow_mut().take();
        while let Some(promise) = next() {
            promise.callback(());
        }
        assert_eq!(all.try_take().unwrap(), Ok(()));
    });
}

#[test]
fn promises_owned_by_callbacks_of_dropped_promises_are_dropped_by_a_loop() {
    on_a_small_stack(|| {
        let (first, mut last) = Deferred::<()>::new();
        let mut deferreds = Vec::new();
        for _ in 0..MANY {
            let (promise, deferred) = Deferred::<()>::new();
            deferreds.push(last.add_callback(move |()| promise.callback(())));
            last = deferred;
        }
        drop(first);
        assert!(last.try_take().unwrap().unwrap_err().is::<PromiseDropped>());
        for deferred in deferreds {
            assert!(deferred.try_take().unwrap().is_err());
        }
    });
}

#[test]
fn forks_of_forks_and_lists_of_lists_fire_by_a_loop() {
    on_a_small_stack(|| {
        for left in [false, true] {
            let (promise, mut deferred) = Deferred::<u32>::new();
            let mut others = Vec::new();
            for _ in 0..MANY / 4 {
                let (a, b) = deferred.fork();
                let (go_on, other) = if left { (a, b) } else { (b, a) };
                deferred = go_on.add_callback(|n| Ok(n + 1));
                others.push(other);
            }
            promise.callback(0);
            assert_eq!(deferred.try_take().unwrap(), Ok(MANY / 4));
            for (n, other) in others.into_iter().enumerate() {
                assert_eq!(other.try_take().unwrap(), Ok(n as u32));
            }
        }
        let (promise, mut deferred) = Deferred::<u32>::new();
        for _ in 0..MANY / 4 {
            deferred = gather_results([deferred]).add_callback(|all| Ok(all.into_iter().sum()));
        }
        promise.callback(3);
        assert_eq!(deferred.try_take().unwrap(), Ok(3));
    });
}

#[test]
fn a_long_queue_at_a_lock_is_served_by_a_loop() {
    on_a_small_stack(|| {
        let lock = DeferredLock::new();
        let held = lock.acquire();
        let count = Rc::new(Cell::new(0));
        for _ in 0..MANY {
            let count = count.clone();
            lock.run(move || count.set(count.get() + 1));
        }
        drop(held);
        assert_eq!(count.get(), MANY);
        assert!(!lock.is_locked());
    });
}

struct OnDrop<F: FnMut()>(F);
impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn a_destructor_may_fire_another_deferred() {
    let (promise, deferred) = Deferred::<()>::new();
    let (other, others) = Deferred::<u8>::new();
    let mut other = Some(other);
    let witness = OnDrop(move || other.take().unwrap().callback(1));
    let deferred = deferred.add_callback(move |()| drop(witness)).add_errback(|_| Ok(()));
    let others = others.add_callback(move |n| {
        deferred.cancel();
        drop(deferred);
        Ok(n)
    });
    drop(promise);
    assert_eq!(others.try_take().unwrap(), Ok(1));
}

#[test]
fn a_value_may_fire_its_own_chain_when_dropped() {
    // The value nobody takes fires a promise whose callback looks at the chain the value came from.
    let (promise, deferred) = Deferred::new();
    let (other, others) = Deferred::<()>::new();
    let mut other = Some(other);
    let value = OnDrop(move || other.take().unwrap().callback(()));
    let slot = Rc::new(RefCell::new(Some(deferred)));
    let own = slot.clone();
    let others = others.add_callback(move |()| drop(own.borrow_mut().take()));
    promise.callback(value);
    let deferred = slot.borrow_mut().take();
    drop(deferred);
    assert_eq!(others.try_take().unwrap(), Ok(()));
}

#[test]
fn a_callback_may_drop_its_own_deferred() {
    let (promise, deferred) = Deferred::<()>::new();
    let slot = Rc::new(RefCell::new(None::<Deferred<u8>>));
    let own = slot.clone();
    let deferred = deferred.add_callback(move |()| {
        drop(own.take());
        Ok(1)
    });
    slot.replace(Some(deferred));
    promise.callback(());
    assert!(slot.take().is_none());
}

#[test]
fn firing_from_inside_a_callback_runs_the_other_chain_at_once() {
    let order = Rc::new(RefCell::new(Vec::new()));
    let (inner, inner_deferred) = Deferred::<()>::new();
    let (outer, outer_deferred) = Deferred::<()>::new();
    let (a, b) = (order.clone(), order.clone());
    inner_deferred.add_callback(move |()| a.borrow_mut().push("inner"));
    outer_deferred.add_callback(move |()| {
        inner.callback(());
        b.borrow_mut().push("outer");
    });
    outer.callback(());
    assert_eq!(order.take(), ["inner", "outer"]);
}

#[test]
fn a_promise_fired_inside_the_chain_it_resolves_is_taken_at_once() {
    let (inner, waited) = Deferred::<u8>::new();
    let (outer, deferred) = Deferred::<()>::new();
    let deferred = deferred.add_callback(move |()| {
        inner.callback(3);
        waited
    });
    outer.callback(());
    assert_eq!(deferred.try_take().unwrap(), Ok(3));
}

#[test]
fn panicking_destructors_do_not_stop_a_chain() {
    std::panic::set_hook(Box::new(|_| {}));
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("in drop");
            }
        }
    }
    on_unobserved_failure(|_, _| {});
    // In a callback that is dropped unused, and in a value a callback drops.
    let (promise, deferred) = Deferred::<()>::new();
    let bomb = Bomb;
    let deferred = deferred
        .add_callback(move |()| drop(bomb))
        .add_errback(|failure| if failure.is_panic() { Ok(()) } else { Err(failure) });
    drop(promise);
    assert_eq!(deferred.try_take().unwrap(), Ok(()));
    // In a value that arrives where nobody is.
    let (promise, deferred) = Deferred::<u8>::new();
    drop(deferred.add_callback(|_| Ok(Bomb)));
    promise.callback(1);
    // In an error.
    #[derive(Debug)]
    struct Fatal(#[allow(dead_code)] Bomb2);
    #[derive(Debug)]
    struct Bomb2;
    impl Drop for Bomb2 {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("in drop of an error");
            }
        }
    }
    impl std::fmt::Display for Fatal {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("in display")
        }
    }
    impl std::error::Error for Fatal {}
    let (promise, deferred) = Deferred::<u8>::new();
    drop(deferred.add_callback(|_| -> Result { Err(Fatal(Bomb2).into()) }));
    promise.callback(1);
    // In a hook and in an observer.
    on_unobserved_failure(|_, _| panic!("in the hook"));
    drop(Deferred::<()>::fail(Failure::msg("x")));
    let mut deferred = Deferred::succeed(1);
    deferred.observe(|_| panic!("in the observer"));
    assert_eq!(deferred.try_take().unwrap(), Ok(1));
    // In on_cancel's captures.
    let (promise, deferred) = Deferred::<u8>::new();
    let bomb = Bomb;
    promise.on_cancel(move || drop(bomb));
    promise.callback(1);
    assert_eq!(deferred.try_take().unwrap(), Ok(1));
    let _ = std::panic::take_hook();
}

#[test]
fn a_failure_at_the_end_of_the_thread_is_no_harm() {
    thread_local! {
        static KEPT: RefCell<Vec<(Promise<u8>, Deferred<u8>)>> = const { RefCell::new(Vec::new()) };
    }
    std::thread::spawn(|| {
        on_unobserved_failure(|_, _| {});
        for _ in 0..3 {
            let (promise, deferred) = Deferred::<u8>::new();
            let (other, nested) = Deferred::<u8>::new();
            let deferred = deferred.add_callback(move |n| other.callback(n)).add_callback(|()| nested);
            KEPT.with_borrow_mut(|kept| kept.push((promise, deferred)));
        }
    })
    .join()
    .unwrap();
}

#[test]
fn nothing_is_left_of_a_chain_that_has_ended() {
    let witness = Rc::new(());
    for way in 0..5 {
        let (promise, deferred) = Deferred::<()>::new();
        let (inner_promise, inner) = Deferred::<()>::new();
        let (a, b) = (witness.clone(), witness.clone());
        let canceller = deferred.canceller();
        let deferred = deferred
            .add_callback(move |()| {
                let _a = a;
                inner
            })
            .add_callback(move |()| drop(b))
            .add_errback(|_| Ok(()));
        match way {
            0 => {
                promise.callback(());
                inner_promise.callback(());
            }
            1 => drop(promise),
            2 => {
                promise.callback(());
                canceller.cancel();
            }
            3 => {
                promise.callback(());
                drop(inner_promise);
            }
            _ => {
                drop(deferred);
                promise.callback(());
                inner_promise.callback(());
                assert_eq!(Rc::strong_count(&witness), 1);
                continue;
            }
        }
        assert_eq!(Rc::strong_count(&witness), 1, "way {way}");
        drop(deferred);
    }
}
