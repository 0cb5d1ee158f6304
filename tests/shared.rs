//! `Shared`: callbacks that come back to the object they came from.
use std::cell::RefCell;
use std::rc::Rc;
use twistlet::error::{Gone, PromiseDropped};
use twistlet::{Deferred, Failure, Result, Shared, WeakShared};

#[test]
fn a_call_runs_at_once_when_nobody_is_inside() {
    let shared = Shared::new(1);
    assert_eq!(shared.call(|n| Ok(*n + 1)).try_take().unwrap(), Ok(2));
}

#[test]
fn a_call_from_inside_waits_until_the_one_inside_is_done() {
    let shared = Shared::new(Vec::new());
    let me = shared.clone();
    let log = Rc::new(RefCell::new(Vec::new()));
    let seen = log.clone();
    shared.call(move |list| {
        me.call(|list| {
            list.push("second");
            Ok(list.len())
        })
        .add_callback(move |length| seen.borrow_mut().push(length));
        list.push("first");
    });
    assert_eq!(*shared.borrow(), ["first", "second"]);
    assert_eq!(log.take(), [2]);
}

#[test]
fn calls_run_in_order_and_by_a_loop() {
    let task = || {
        let shared = Shared::new(Vec::new());
        fn again(me: Shared<Vec<u32>>, n: u32) {
            let next = me.clone();
            me.call(move |list| {
                list.push(n);
                if n < 100_000 {
                    again(next, n + 1);
                }
            });
        }
        again(shared.clone(), 0);
        assert!(shared.borrow().iter().copied().eq(0..=100_000));
    };
    std::thread::Builder::new().stack_size(64 << 10).spawn(task).unwrap().join().unwrap();
}

#[test]
fn what_a_call_has_caused_runs_with_the_object_free() {
    let shared = Shared::new(0);
    let (me, again) = (shared.clone(), shared.clone());
    shared.call(move |_| {
        me.call(|n| {
            *n += 1;
        })
        .add_callback(move |()| assert_eq!(*again.borrow(), 1));
    });
}

#[test]
fn a_call_does_not_overtake_those_that_wait() {
    let shared = Shared::new(Vec::new());
    let (a, b, c) = (shared.clone(), shared.clone(), shared.clone());
    shared.call(move |_| {
        a.call(|list| list.push(1)).add_callback(move |()| {
            c.call(|list| list.push(3));
        });
        b.call(|list| list.push(2));
    });
    assert_eq!(*shared.borrow(), [1, 2, 3]);
}

#[test]
fn calls_made_while_the_owner_looks_run_when_the_guard_goes() {
    let shared = Shared::new(1);
    let guard = shared.borrow();
    let mut call = shared.call(|n| {
        *n += 1;
        Ok(*n)
    });
    assert!(call.result().is_none());
    drop(guard);
    assert_eq!(call.result(), Some(Ok(&2)));
}

#[test]
fn borrowing_from_inside_a_call_panics_and_says_what_to_do() {
    std::panic::set_hook(Box::new(|_| {}));
    let shared = Shared::new(1);
    let me = shared.clone();
    let failure = shared.call(move |_| Ok(*me.borrow())).try_take().unwrap().unwrap_err();
    let _ = std::panic::take_hook();
    assert!(failure.is_panic() && failure.to_string().contains("`call`, which waits its turn"), "{failure}");
    assert_eq!(*shared.borrow(), 1);
}

#[test]
fn a_panic_in_a_call_is_its_failure_and_leaves_the_object_usable() {
    std::panic::set_hook(Box::new(|_| {}));
    let shared = Shared::new(1);
    let me = shared.clone();
    let inner = Rc::new(RefCell::new(None));
    let slot = inner.clone();
    let outer = shared.call(move |_| -> Result {
        slot.replace(Some(me.call(|_| -> Result { panic!("queued") })));
        panic!("direct")
    });
    let _ = std::panic::take_hook();
    assert_eq!(outer.try_take().unwrap().unwrap_err().to_string(), "panicked: direct");
    assert_eq!(inner.take().unwrap().try_take().unwrap().unwrap_err().to_string(), "panicked: queued");
    assert_eq!(shared.call(|n| Ok(*n)).try_take().unwrap(), Ok(1));
}

#[test]
fn calls_left_by_an_unwinding_guard_run_with_the_next_call() {
    std::panic::set_hook(Box::new(|_| {}));
    let shared = Shared::new(Vec::new());
    let me = shared.clone();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _guard = me.borrow();
        me.call(|list| list.push(1));
        panic!("with the guard");
    }));
    let _ = std::panic::take_hook();
    assert!(result.is_err() && shared.borrow().is_empty());
    assert_eq!(*shared.borrow(), [1]);
    shared.call(|list| list.push(2));
    assert_eq!(*shared.borrow(), [1, 2]);
}

#[test]
fn an_object_gives_callbacks_to_itself() {
    struct Login {
        me: WeakShared<Login>,
        user: Option<String>,
    }
    let login = Shared::cyclic(|me| {
        assert!(me.call(|_: &mut Login| ()).try_take().unwrap().unwrap_err().is::<Gone>());
        Login { me, user: None }
    });
    let (promise, lookup) = Deferred::<String>::new();
    login.call(move |login| {
        lookup.add_callback(login.me.bind(|login: &mut Login, user: String| {
            login.user = Some(user);
            Ok(1)
        }));
    });
    promise.callback("ada".to_string());
    assert_eq!(login.borrow().user.as_deref(), Some("ada"));
}

#[test]
fn a_weak_name_does_not_keep_the_object() {
    let shared = Shared::new(1);
    let weak = shared.downgrade();
    assert!(weak.upgrade().is_some_and(|same| same == shared));
    drop(shared);
    assert!(weak.upgrade().is_none());
    assert!(weak.call(|_| ()).try_take().unwrap().unwrap_err().is::<Gone>());
}

#[test]
fn a_destructor_may_call_the_object_it_was_captured_for() {
    struct Witness(Shared<Vec<u32>>);
    impl Drop for Witness {
        fn drop(&mut self) {
            self.0.call(|list| list.push(2));
        }
    }
    let shared = Shared::new(Vec::new());
    let witness = Witness(shared.clone());
    shared.call(move |list| {
        let _witness = witness;
        list.push(1);
    });
    assert_eq!(*shared.borrow(), [1, 2]);
}

#[test]
fn the_object_may_drop_its_last_owner_and_its_queue() {
    let shared = Shared::new(None::<Shared<()>>);
    let weak = shared.downgrade();
    let last = weak.clone();
    let (promise, deferred) = Deferred::<()>::new();
    // Waits for ever in the queue of an object that goes.
    let queued = Rc::new(RefCell::new(None));
    let slot = queued.clone();
    deferred.add_callback(move |()| {
        let guard = shared.borrow();
        slot.replace(Some(last.call(|_| Err::<(), _>(Failure::msg("ran")))));
        drop(guard);
        drop(shared);
    });
    promise.callback(());
    assert!(weak.upgrade().is_none());
    let failure = queued.take().unwrap().try_take().unwrap().unwrap_err();
    assert!(!failure.is::<PromiseDropped>() && failure.to_string() == "ran");
}

#[test]
fn clones_are_the_same_object() {
    let (a, b) = (Shared::new(1), Shared::new(1));
    assert!(a == a.clone() && a != b);
}
