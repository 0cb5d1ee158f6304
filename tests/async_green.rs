//! Green threads and futures: a green thread that waits for a future, an async function that waits for a green thread.
#![cfg(feature = "green")]
use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn, ready};
use std::rc::Rc;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;
use twistlet::error::{Deadlock, Killed, ReactorError};
use twistlet::green::{block_on_future, join_reactor, kill, sleep, spawn, with_timeout, yield_now};
use twistlet::task::defer_later;
use twistlet::{Deferred, Failure, Reactor};

#[path = "support/watch.rs"]
mod support;
use support::{Notes, OnDrop, assert_logged_once, dog};

const MS: Duration = Duration::from_millis(1);

/// What another OS thread sets, and wakes for, after `delay`.
fn from_thread(delay: Duration) -> impl Future<Output = u32> {
    let state = Arc::new(Mutex::new((None, None::<Waker>)));
    let theirs = Arc::clone(&state);
    thread::spawn(move || {
        thread::sleep(delay);
        let waker = {
            let mut state = theirs.lock().unwrap();
            state.0 = Some(42);
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    });
    poll_fn(move |context| {
        let mut state = state.lock().unwrap();
        match state.0 {
            Some(answer) => Poll::Ready(answer),
            None => {
                state.1 = Some(context.waker().clone());
                Poll::Pending
            }
        }
    })
}

#[test]
fn main_waits_for_a_future_and_everybody_else_goes_on() {
    let _dog = dog();
    let reactor = Reactor::current();
    let turns = Rc::new(Cell::new(0));
    let counted = Rc::clone(&turns);
    spawn(move || {
        for _ in 0..10 {
            counted.set(counted.get() + 1);
            yield_now();
        }
    });
    let text = String::from("borrowed");
    let answer = block_on_future(async {
        let n = defer_later(&reactor, MS, || Ok(7)).await?;
        Ok::<_, Failure>(text.len() + n)
    });
    assert_eq!(answer.unwrap().unwrap(), 15);
    assert_eq!(turns.get(), 10);
    reactor.close();
}

#[test]
fn another_thread_wakes_it_and_no_wake_up_is_lost() {
    let _dog = dog();
    assert_eq!(block_on_future(from_thread(MS)).unwrap(), 42);
    let waiting: Vec<_> =
        (0..200).map(|n| spawn(move || block_on_future(from_thread(Duration::from_micros(n * 7 % 500))))).collect();
    for one in waiting {
        assert_eq!(one.wait().unwrap(), 42);
    }
    Reactor::current().close();
}

#[test]
fn a_future_that_wakes_itself_while_it_is_polled_is_polled_again_and_others_run_between() {
    let _dog = dog();
    let others = Rc::new(Cell::new(0));
    let counted = Rc::clone(&others);
    let other = spawn(move || {
        for _ in 0..50 {
            counted.set(counted.get() + 1);
            yield_now();
        }
    });
    let mut left = 100;
    block_on_future(poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    }))
    .unwrap();
    other.wait().unwrap();
    assert_eq!(others.get(), 50);
    Reactor::current().close();
}

#[test]
fn who_woke_itself_first_may_be_woken_by_another_thread_afterwards() {
    let _dog = dog();
    // Nobody keeps the waker of the first polls: that says nothing about the later ones.
    let mut polls = 0;
    let mut thread = None;
    let waited = block_on_future(poll_fn(|context| {
        polls += 1;
        match polls {
            ..3 => context.waker().wake_by_ref(),
            3 => {
                let waker = context.waker().clone();
                thread = Some(std::thread::spawn(move || {
                    std::thread::sleep(20 * MS);
                    waker.wake();
                }));
            }
            _ => return Poll::Ready(polls),
        }
        Poll::Pending
    }));
    assert_eq!(waited.unwrap(), 4);
    thread.expect("started").join().unwrap();
    Reactor::current().close();
}

#[test]
fn in_the_main_loop_a_ready_one_is_had_and_any_other_panics_and_is_dropped() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    join_reactor(&reactor).unwrap();
    let dropped = Rc::new(Cell::new(false));
    let gone = Rc::clone(&dropped);
    reactor.call_soon(move || {
        assert_eq!(block_on_future(ready(5)).unwrap(), 5);
        let note = OnDrop(move || gone.set(true));
        let _ = block_on_future(async move {
            let _note = note;
            pending::<()>().await;
        });
        unreachable!("it cannot wait here");
    });
    reactor.call_later(MS, move || reactor.stop());
    reactor.run().unwrap();
    assert_logged_once(&["async_green.rs", "defer_to_green_thread"]);
    assert!(dropped.get());
}

#[test]
fn a_kill_drops_the_future_and_what_it_awaits_is_cancelled() {
    let _dog = dog();
    let notes = Notes::default();
    let (promise, never) = Deferred::<u32>::new();
    let cancelled = notes.clone();
    promise.on_cancel(move || cancelled.add("cancelled"));
    let told = notes.clone();
    let waiting = spawn(move || {
        let _end = OnDrop(move || told.add("unwound"));
        block_on_future(async move {
            never.await?;
            Ok::<_, Failure>(())
        })?
    });
    sleep(MS);
    kill(&waiting);
    assert!(waiting.wait().unwrap_err().is::<Killed>());
    assert_eq!(notes.all(), "cancelled unwound");
    Reactor::current().close();
}

#[test]
fn a_deadline_drops_the_future_and_the_green_thread_goes_on() {
    let _dog = dog();
    let dropped = Rc::new(Cell::new(false));
    let gone = Rc::clone(&dropped);
    let late = with_timeout(MS, move || {
        let note = OnDrop(move || gone.set(true));
        block_on_future(async move {
            let _note = note;
            pending::<()>().await;
        })
    });
    assert!(late.is_err() && dropped.get());
    assert_eq!(block_on_future(from_thread(MS)).unwrap(), 42);
    Reactor::current().close();
}

#[test]
fn a_panic_of_the_future_is_the_green_threads() {
    let _dog = dog();
    let broken = spawn(|| {
        block_on_future(async {
            defer_later(&Reactor::current(), MS, || Ok(())).await?;
            if true {
                panic!("in the future");
            }
            Ok::<_, Failure>(())
        })?
    });
    assert!(broken.wait().unwrap_err().to_string().contains("in the future"));
    Reactor::current().close();
}

#[test]
fn when_nobody_has_kept_the_waker_main_is_told_of_the_deadlock() {
    let _dog = dog();
    let failure = block_on_future(pending::<()>()).unwrap_err();
    assert!(failure.is::<Deadlock>(), "{failure}");
    assert!(failure.to_string().contains("a future"), "{failure}");
    Reactor::current().close();
}

#[test]
fn after_the_reactors_end_it_is_told_so() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let outcome = Rc::new(RefCell::new(None));
    let told = Rc::clone(&outcome);
    let (send, kept) = mpsc::channel();
    reactor.call_later(MS, move || reactor.stop());
    join_reactor(&reactor).unwrap();
    spawn(move || {
        let told = OnDrop(move || {
            // A destructor during unwinding: it does not wait.
            *told.borrow_mut() = Some(block_on_future(pending::<()>()));
        });
        let _ = block_on_future(poll_fn(|context| {
            let _ = send.send(context.waker().clone());
            Poll::<()>::Pending
        }));
        drop(told);
    });
    reactor.run().unwrap();
    assert!(outcome.take().unwrap().unwrap_err().is::<Killed>());
    // Late wakers do nothing.
    kept.iter().for_each(Waker::wake);
    let ended = thread::spawn(|| {
        let reactor = Reactor::new().unwrap();
        spawn(|| ());
        sleep(MS);
        reactor.close();
        block_on_future(pending::<()>()).unwrap_err().is::<ReactorError>()
    });
    assert!(ended.join().unwrap());
}

#[test]
fn a_green_thread_is_awaited_in_an_async_function() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    join_reactor(&reactor).unwrap();
    let sum = reactor.spawn_local(async {
        let slow = spawn(|| {
            sleep(MS);
            Ok(20)
        });
        let quick = spawn(|| Ok(22));
        Ok(slow.await? + quick.await?)
    });
    let failed = reactor.spawn_local(async { spawn(|| Err::<(), _>(Failure::msg("broken"))).await });
    let _ = sum.add_callback(move |sum| {
        assert_eq!(sum, 42);
        failed.add_both(move |outcome| {
            assert_eq!(outcome.unwrap_err().to_string(), "broken");
            reactor.stop()
        })
    });
    reactor.run().unwrap();
}

#[test]
fn an_await_that_is_dropped_kills_the_green_thread() {
    let _dog = dog();
    let notes = Notes::default();
    let told = notes.clone();
    let reactor = Reactor::current();
    let task = reactor.spawn_local(async move {
        spawn(move || {
            let _end = OnDrop(move || told.add("killed"));
            sleep(Duration::from_secs(3600));
        })
        .await
    });
    sleep(MS);
    task.cancel();
    sleep(MS);
    assert_eq!(notes.all(), "killed");
    drop(task);
    reactor.close();
}
