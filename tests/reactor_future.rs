//! Futures on the reactor: steps, wakers of any thread, cancelling, panics, ends.
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;
use twistlet::deferred::Canceller;
use twistlet::error::ReactorError;
use twistlet::{Cancelled, Deferred, Failure, Reactor, Result};

#[path = "support/watch.rs"]
mod support;
use support::{Notes, OnDrop, assert_logged_once, dog, logged};

const MS: Duration = Duration::from_millis(1);

fn later<T: Clone + 'static>(reactor: Reactor, value: T) -> Deferred<T> {
    let (promise, deferred) = Deferred::new();
    reactor.call_later(MS, move || promise.callback(value));
    deferred
}
/// Gives its waker away and waits until `ready` says so.
fn parked(give: mpsc::Sender<Waker>, ready: Arc<AtomicBool>) -> impl Future<Output = ()> {
    poll_fn(move |context| {
        if ready.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        let _ = give.send(context.waker().clone());
        Poll::Pending
    })
}

#[test]
fn the_first_step_runs_at_once_and_the_others_in_the_loop() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    let saw = notes.clone();
    let sum = reactor.spawn_local(async move {
        saw.add("begun");
        let one = later(reactor, 1).await?;
        saw.add("on");
        Ok(one + later(reactor, 2).await?)
    });
    notes.add("spawned");
    let told = notes.clone();
    let _ = sum.add_callback(move |sum| {
        told.add(sum);
        reactor.stop()
    });
    reactor.run().unwrap();
    assert_eq!(notes.all(), "begun spawned on 3");
}

#[test]
fn a_future_that_waits_for_nothing_has_fired() {
    let reactor = Reactor::new().unwrap();
    assert_eq!(reactor.spawn_local(async { Ok(7) }).result(), Some(Ok(&7)));
    assert_eq!(Deferred::from_future(async { Deferred::succeed(8) }).result(), Some(Ok(&8)));
    let mut failed = Deferred::from_future(async { Err::<(), _>(Failure::msg("no")) });
    assert_eq!(failed.result().unwrap().unwrap_err().to_string(), "no");
    reactor.close();
}

#[test]
fn a_failure_goes_through_the_question_mark() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let failed = reactor.spawn_local(async move {
        let (promise, deferred) = Deferred::<u32>::new();
        reactor.call_later(MS, move || promise.errback(Failure::msg("broken")));
        deferred.await?;
        Ok(())
    });
    let _ = failed.add_errback(move |failure| {
        assert_eq!(failure.to_string(), "broken");
        reactor.stop()
    });
    reactor.run().unwrap();
    assert_eq!(logged(), [""; 0]);
}

#[test]
fn a_panic_becomes_a_failure_at_once_or_later() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let mut at_once = reactor.spawn_local(async {
        if true {
            panic!("first step")
        }
    });
    assert!(at_once.result().unwrap().unwrap_err().is_panic());
    let afterwards = reactor.spawn_local(async move {
        later(reactor, ()).await?;
        if true {
            panic!("second step")
        }
        Ok(())
    });
    let _ = afterwards.add_errback(move |failure| {
        assert!(failure.is_panic() && failure.to_string().contains("second step"));
        reactor.stop()
    });
    reactor.run().unwrap();
    assert_eq!(logged(), [""; 0]);
}

#[test]
fn a_failure_nobody_looks_at_is_logged_once() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let _ = reactor.spawn_local(async move {
        later(reactor, ()).await?;
        reactor.call_soon(move || reactor.stop());
        Err::<(), _>(Failure::msg("nobody looks"))
    });
    reactor.run().unwrap();
    assert_logged_once(&["nobody looks"]);
}

#[test]
fn cancelling_drops_the_future_and_cancels_what_it_awaits() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    let (promise, inner) = Deferred::<()>::new();
    promise.on_cancel(notes.adds("inner cancelled"));
    let gone = notes.clone();
    let guard = OnDrop(move || gone.add("dropped"));
    let mut task = reactor.spawn_local(async move {
        let _guard = guard;
        inner.await
    });
    assert!(task.result().is_none());
    task.cancel();
    // As a scope's are: the awaited, then the locals.
    assert_eq!(notes.all(), "inner cancelled dropped");
    assert!(task.result().unwrap().unwrap_err().is::<Cancelled>());
    drop(promise);
    reactor.close();
    assert_eq!(logged(), [""; 0]);
}

#[test]
fn a_future_may_cancel_itself() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let own: Rc<RefCell<Option<Canceller>>> = Rc::default();
    let name = own.clone();
    let notes = Notes::default();
    let gone = notes.clone();
    let guard = OnDrop(move || gone.add("dropped"));
    let mut task = reactor.spawn_local(async move {
        let _guard = guard;
        later(reactor, ()).await?;
        name.borrow().as_ref().unwrap().cancel();
        std::future::pending::<()>().await;
        Ok(())
    });
    *own.borrow_mut() = Some(task.canceller());
    reactor.call_later(5 * MS, move || reactor.stop());
    reactor.run().unwrap();
    assert!(task.result().unwrap().unwrap_err().is::<Cancelled>());
    assert_eq!(notes.all(), "dropped");
}

#[test]
fn a_deferred_let_go_leaves_the_future_running() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    drop(reactor.spawn_local(async move {
        later(reactor, ()).await?;
        reactor.stop()
    }));
    reactor.run().unwrap();
}

#[test]
fn a_waker_may_be_used_on_any_thread_often_and_after_the_end() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let (give, wakers) = mpsc::channel();
    let ready = Arc::new(AtomicBool::new(false));
    let set = ready.clone();
    let polls = Rc::new(Cell::new(0));
    let polled = polls.clone();
    let future = parked(give, ready);
    let task = reactor.spawn_local(async move {
        let mut future = std::pin::pin!(future);
        poll_fn(|context| {
            polled.set(polled.get() + 1);
            future.as_mut().poll(context)
        })
        .await;
    });
    let waker: Waker = wakers.recv().unwrap();
    let there = waker.clone();
    let remote = reactor.remote();
    let waking = thread::spawn(move || {
        // While it is queued, a thousand wakes are one.
        remote
            .blocking_call(move |_| {
                for _ in 0..1000 {
                    there.wake_by_ref();
                }
            })
            .unwrap();
        let waker: Waker = wakers.recv().unwrap();
        // The loop has a turn to itself, in which nothing is polled, and goes to sleep.
        remote.blocking_call(|_| ()).unwrap();
        set.store(true, Ordering::Release);
        waker.wake();
    });
    let done = Rc::new(Cell::new(false));
    let is_done = done.clone();
    let _ = task.add_callback(move |()| {
        is_done.set(true);
        reactor.stop()
    });
    reactor.run().unwrap();
    waking.join().unwrap();
    assert!(done.get());
    assert_eq!(polls.get(), 3);
    waker.wake_by_ref();
    thread::spawn(move || waker.wake()).join().unwrap();
    assert_eq!(logged(), [""; 0]);
}

#[test]
fn a_future_that_wakes_itself_starves_nobody() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let polls = Rc::new(Cell::new(0));
    let polled = polls.clone();
    let _ = reactor.spawn_local(poll_fn(move |context| {
        polled.set(polled.get() + 1);
        context.waker().wake_by_ref();
        Poll::<()>::Pending
    }));
    reactor.call_later(5 * MS, move || reactor.stop());
    reactor.run().unwrap();
    assert!(polls.get() > 1);
}

#[test]
fn the_end_of_the_reactor_drops_futures_and_tells_who_waits() {
    // R7
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    let gone = notes.clone();
    let guard = OnDrop(move || gone.add("dropped"));
    let (give, wakers) = mpsc::channel();
    let task = reactor.spawn_local(async move {
        let _guard = guard;
        parked(give, Arc::default()).await;
    });
    let told = notes.clone();
    let _ = task.add_both(move |outcome: Result| {
        let failure = outcome.unwrap_err();
        told.add(format!("{:?}", failure.check::<ReactorError>()));
        // Another is refused, and so on.
        let again = reactor.spawn_local(async {}).try_take().unwrap();
        told.add(again.is_err());
    });
    reactor.close();
    assert_eq!(notes.all(), "dropped Some(Stopped) true");
    // A waker of an ended reactor wakes nobody of the next.
    let next = Reactor::new().unwrap();
    let _ = next.spawn_local(std::future::pending::<()>());
    wakers.recv().unwrap().wake();
    assert_eq!(next.statistics().ready, 0);
    next.close();
}

#[test]
fn thousands_of_futures_come_and_go() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let kept = Arc::new(());
    let tasks: Vec<Deferred<u32>> = (0..5_000)
        .map(|n| {
            let kept = kept.clone();
            reactor.spawn_local(async move {
                for _ in 0..3 {
                    let (promise, turn) = Deferred::new();
                    reactor.call_soon(move || promise.callback(()));
                    turn.await?;
                }
                drop(kept);
                Ok(n)
            })
        })
        .collect();
    let _ = twistlet::deferred::gather_results(tasks).add_callback(move |all| {
        assert!(all.into_iter().eq(0..5_000));
        reactor.stop()
    });
    reactor.run().unwrap();
    assert_eq!(Arc::strong_count(&kept), 1);
    assert_eq!(logged(), [""; 0]);
}
