//! Calls between threads and the thread pool. Cases R20 to R25, RX11 to RX14, rules THR.
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use twistlet::error::{PromiseDropped, ReactorError};
use twistlet::reactor::{Phase, Remote, RemotePromise};
use twistlet::{Cancelled, Deferred, Failure, Reactor, Result};

#[path = "support/watch.rs"]
mod support;
use support::{Notes, assert_logged_once, dog, logged};

const MS: Duration = Duration::from_millis(1);

#[test]
fn what_goes_to_other_threads_can_go_there() {
    fn assert<T: Send + 'static>() {}
    fn shared<T: Send + Sync + Clone + 'static>() {}
    shared::<Remote>();
    assert::<RemotePromise<Vec<u8>>>();
}

#[test]
fn calls_from_threads_run_in_order_and_not_before_the_loop_does() {
    // R20, THR-1, THR-2
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for n in 0..3 {
            let tell = tell.clone();
            remote.call_from_thread(move |_| tell.send((n, thread::current().id())).unwrap()).unwrap();
        }
        remote.call_from_thread(|reactor| reactor.stop()).unwrap();
    })
    .join()
    .unwrap();
    assert!(told.try_recv().is_err());
    reactor.run().unwrap();
    let here = thread::current().id();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [(0, here), (1, here), (2, here)]);
}

#[test]
fn a_call_from_the_reactors_own_thread_waits_for_the_next_turn() {
    // THR-1, THR-3: made in a timer, it must end the poll that would follow.
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    let remote = reactor.remote();
    let saw = notes.clone();
    reactor.call_later(MS, move || {
        remote.call_from_thread(|reactor| reactor.stop()).unwrap();
        saw.add(reactor.is_running());
    });
    reactor.add_trigger(Phase::BeforeShutdown, notes.adds("stopped"));
    reactor.run().unwrap();
    assert_eq!(notes.all(), "true stopped");
}

#[test]
fn a_call_that_queues_itself_for_ever_starves_nobody() {
    // R21, THR-4, REA-2, REA-6. R3 lets a timer made in the phase of the calls wait for the next turn, with the second call.
    fn forever(remote: Remote, count: Arc<AtomicUsize>) {
        let again = remote.clone();
        let _ = remote.call_from_thread(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            forever(again, count);
        });
    }
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    forever(reactor.remote(), count.clone());
    reactor.call_later(2 * MS, move || reactor.defer_to_thread(|| Ok(())).add_callback(move |()| reactor.stop()));
    reactor.run().unwrap();
    assert!(count.load(Ordering::Relaxed) > 1);
}

#[test]
fn a_flood_of_calls_arrives_complete_and_in_order() {
    // THR-3
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let threads = 4;
    let each = 25_000;
    let seen = Arc::new(Mutex::new(vec![Vec::new(); threads]));
    let left = Arc::new(AtomicUsize::new(threads * each));
    for n in 0..threads {
        let (remote, seen, left) = (reactor.remote(), seen.clone(), left.clone());
        thread::spawn(move || {
            for i in 0..each {
                let (seen, left) = (seen.clone(), left.clone());
                let call = move |reactor: &Reactor| {
                    seen.lock().unwrap()[n].push(i);
                    if left.fetch_sub(1, Ordering::Relaxed) == 1 { reactor.stop() } else { Ok(()) }
                };
                remote.call_from_thread(call).unwrap();
            }
        });
    }
    reactor.run().unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(|list| list.iter().copied().eq(0..each)));
}

#[test]
fn a_flood_before_run_and_from_the_own_thread_is_fine() {
    // THR-2, THR-3
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    let count = Arc::new(AtomicUsize::new(0));
    for _ in 0..100_000 {
        let count = count.clone();
        remote.call_from_thread(move |_| _ = count.fetch_add(1, Ordering::Relaxed)).unwrap();
    }
    remote.call_from_thread(|reactor| reactor.stop()).unwrap();
    reactor.run().unwrap();
    assert_eq!(count.load(Ordering::Relaxed), 100_000);
}

#[test]
fn a_panic_in_a_call_is_logged_and_the_next_one_runs() {
    // REA-2
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    remote.call_from_thread(|_| panic!("broken call")).unwrap();
    remote.call_from_thread(|reactor| reactor.stop()).unwrap();
    reactor.run().unwrap();
    assert_logged_once(&["a call from another thread", "broken call"]);
}

#[test]
fn after_the_end_calls_are_refused_and_their_closures_dropped() {
    // THR-2
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    let (kept, dropped) = (Arc::new(()), Arc::new(()));
    let (a, b) = (kept.clone(), dropped.clone());
    reactor.add_trigger(Phase::DuringShutdown, {
        let remote = remote.clone();
        // Accepted, but the loop is over: dropped with the inbox.
        move || remote.call_from_thread(move |_| drop(a))
    });
    reactor.call_soon(move || reactor.stop());
    reactor.run().unwrap();
    let refused = remote.call_from_thread(move |_| drop(b)).unwrap_err();
    assert_eq!(refused.check(), Some(&ReactorError::Stopped));
    assert_eq!((Arc::strong_count(&kept), Arc::strong_count(&dropped)), (1, 1));
}

#[test]
fn a_blocking_call_gives_what_the_function_or_its_deferred_comes_to() {
    // THR-14
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    let thread = thread::spawn(move || {
        assert_eq!(remote.blocking_call(|_| Ok(1)).unwrap(), 1);
        let later = remote.blocking_call(|reactor| {
            let (promise, deferred) = Deferred::new();
            reactor.call_later(MS, move || promise.callback(2));
            deferred
        });
        assert_eq!(later.unwrap(), 2);
        let panicked = remote.blocking_call(|_| -> Result { panic!("inside") }).unwrap_err();
        assert!(panicked.is_panic());
        let forgotten = remote.blocking_call(|_| Deferred::<()>::new().1).unwrap_err();
        assert!(forgotten.is::<PromiseDropped>());
        remote.blocking_call(|reactor| reactor.stop()).unwrap();
    });
    reactor.run().unwrap();
    thread.join().unwrap();
    assert_eq!(logged(), [""; 0]);
}

#[test]
fn a_blocking_call_gets_the_failure_of_a_deferred_that_fails_later() {
    // R25
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    reactor.call_in_thread(move || {
        let failed: Result = remote.blocking_call(|reactor| {
            let (promise, deferred) = Deferred::new();
            reactor.call_later(MS, move || promise.errback(Failure::msg("later")));
            deferred
        });
        let told = remote.call_from_thread(move |reactor| {
            assert_eq!(failed.unwrap_err().to_string(), "later");
            reactor.stop()
        });
        told.unwrap();
    });
    reactor.run().unwrap();
    assert_eq!(logged(), [""; 0]);
}

#[test]
fn a_blocking_call_on_the_reactors_thread_is_an_error() {
    // THR-14
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    let failure = remote.blocking_call(|_| ()).unwrap_err();
    assert_eq!(failure.check(), Some(&ReactorError::WrongThread));
    assert!(failure.to_string().contains("return a Deferred instead"), "{failure}");
    reactor.close();
}

#[test]
fn blocking_calls_that_the_end_finds_waiting_are_told() {
    // THR-10: those whose function has not run, and those whose Deferred somebody keeps unfired for ever.
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let kept: Rc<RefCell<Vec<twistlet::Promise<()>>>> = Rc::default();
    thread_local!(static KEPT: RefCell<Vec<twistlet::Promise<()>>> = const { RefCell::new(Vec::new()) });
    let outcomes: Vec<_> = (0..2)
        .map(|_| {
            let remote = reactor.remote();
            let (tell, told) = mpsc::channel();
            // On the pool, whose end the reactor's end waits for.
            reactor.call_in_thread(move || {
                let outcome = remote.blocking_call(|reactor| {
                    let (promise, deferred) = Deferred::<()>::new();
                    KEPT.with_borrow_mut(|kept| kept.push(promise));
                    if KEPT.with_borrow(Vec::len) == 2 {
                        reactor.stop().unwrap();
                    }
                    deferred
                });
                tell.send(outcome).unwrap();
            });
            told
        })
        .collect();
    let (tell, told) = mpsc::channel();
    let remote = reactor.remote();
    reactor.add_trigger(Phase::DuringShutdown, move || {
        let (inside, entered) = mpsc::channel();
        thread::spawn(move || {
            inside.send(()).unwrap();
            tell.send(remote.blocking_call(|_| ())).unwrap();
        });
        entered.recv().unwrap();
    });
    let start = Instant::now();
    reactor.run().unwrap();
    assert!(start.elapsed() < Duration::from_secs(20));
    for told in outcomes.iter().chain([&told]) {
        assert_eq!(told.recv().unwrap().unwrap_err().check(), Some(&ReactorError::Stopped));
    }
    drop(kept);
    KEPT.take();
}

#[test]
fn a_thread_that_waits_for_the_pools_end_and_one_that_never_ends_do_not_hold_the_reactor() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let (release, wait) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    reactor.call_in_thread(move || {
        tell.send(()).unwrap();
        let _ = wait.recv();
        tell.send(()).unwrap();
    });
    told.recv().unwrap();
    reactor.call_soon(move || reactor.stop());
    let start = Instant::now();
    reactor.run().unwrap();
    assert!(start.elapsed() < Duration::from_secs(20));
    // It goes on by itself.
    drop(release);
    told.recv().unwrap();
}

#[test]
fn jobs_of_the_pool_start_in_order_on_named_threads() {
    // THR-5, THR-7, THR-11, RX12, R24: there is no thread before there is a job.
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    reactor.suggest_thread_pool_size(1);
    let list = Arc::new(Mutex::new(Vec::new()));
    for n in 0..50 {
        let list = list.clone();
        reactor.call_in_thread(move || {
            let name = thread::current().name().map(str::to_owned);
            list.lock().unwrap().push((n, name));
        });
    }
    let remote = reactor.remote();
    reactor.call_in_thread(move || remote.call_from_thread(|reactor| reactor.stop()).unwrap());
    reactor.run().unwrap();
    let list = list.lock().unwrap();
    assert_eq!(list.len(), 50);
    for (n, (m, name)) in list.iter().enumerate() {
        assert_eq!((n, Some("twistlet-pool-1")), (*m, name.as_deref()));
    }
}

#[test]
fn there_are_ten_threads_at_most() {
    // RX14, THR-5
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let together = Arc::new(Barrier::new(10));
    let names = Arc::new(Mutex::new(HashSet::new()));
    let jobs: Vec<Deferred<()>> = (0..50)
        .map(|n| {
            let (together, names) = (together.clone(), names.clone());
            reactor.defer_to_thread(move || {
                names.lock().unwrap().insert(thread::current().name().unwrap().to_owned());
                // The first ten meet: so there are ten; the set shows that there are no more.
                if n < 10 {
                    together.wait();
                }
            })
        })
        .collect();
    let _ = twistlet::deferred::gather_results(jobs).add_callback(move |_| reactor.stop());
    reactor.run().unwrap();
    assert_eq!(names.lock().unwrap().len(), 10);
}

#[test]
fn a_larger_pool_starts_what_waits_and_a_smaller_one_still_works() {
    // THR-6
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    reactor.suggest_thread_pool_size(1);
    let together = Arc::new(Barrier::new(5));
    let jobs: Vec<Deferred<()>> = (0..5)
        .map(|_| {
            let together = together.clone();
            reactor.defer_to_thread(move || _ = together.wait())
        })
        .collect();
    reactor.call_later(MS, move || reactor.suggest_thread_pool_size(5));
    let _ = twistlet::deferred::gather_results(jobs).add_callback(move |_| {
        reactor.suggest_thread_pool_size(0);
        reactor.defer_to_thread(|| Ok(())).add_callback(move |()| reactor.stop())
    });
    reactor.run().unwrap();
    assert_eq!(logged(), [""; 0]);
}

#[test]
fn the_result_of_a_job_comes_in_a_later_turn_on_the_reactors_thread() {
    // THR-12
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let here = thread::current().id();
    let (done, wait) = mpsc::channel();
    let mut job = reactor.defer_to_thread(move || {
        done.send(()).unwrap();
        Ok(thread::current().id())
    });
    wait.recv().unwrap();
    assert!(job.result().is_none());
    let _ = job.add_callback(move |there| {
        assert_ne!(there, here);
        assert_eq!(thread::current().id(), here);
        reactor.stop()
    });
    reactor.run().unwrap();
    assert_eq!(logged(), [""; 0]);
}

#[test]
fn a_job_that_fails_or_panics_fails_its_own_deferred_only() {
    // RX11, THR-7
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    reactor.suggest_thread_pool_size(1);
    let notes = Notes::default();
    let (good, bad, worse, last) = (notes.clone(), notes.clone(), notes.clone(), notes.clone());
    let _ = reactor.defer_to_thread(|| Ok(7)).add_callback(move |n| good.add(n));
    let _ =
        reactor.defer_to_thread(|| -> Result { Err(Failure::msg("bad")) }).add_errback(move |failure| bad.add(failure));
    let _ = reactor
        .defer_to_thread(|| -> Result { panic!("worse") })
        .add_errback(move |failure| worse.add(failure.is_panic()));
    // The panic of a call nobody waits for is logged, on its own thread, which goes on.
    reactor.call_in_thread(|| panic!("nobody waits"));
    let _ = reactor.defer_to_thread(|| Ok(support::logged())).add_callback(move |lines| {
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("a call in a thread") && lines[0].contains("nobody waits"));
        last.add("last");
        reactor.stop()
    });
    reactor.run().unwrap();
    assert_eq!(notes.all(), "7 bad true last");
    assert_eq!(logged(), [""; 0]);
}

#[test]
fn a_cancelled_job_fails_at_once_and_runs_all_the_same() {
    // THR-13
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let (go, wait) = mpsc::channel::<()>();
    let kept = Arc::new(());
    let value = kept.clone();
    let (tell, told) = mpsc::channel();
    let job = reactor.defer_to_thread(move || {
        wait.recv().unwrap();
        tell.send("ran").unwrap();
        Ok(value)
    });
    let seen = Rc::new(Cell::new(false));
    let saw = seen.clone();
    let job = job.add_both(move |outcome| {
        assert!(outcome.unwrap_err().is::<Cancelled>());
        saw.set(true);
    });
    job.cancel();
    assert!(seen.get());
    go.send(()).unwrap();
    reactor.call_soon(move || reactor.defer_to_thread(|| Ok(())).add_callback(move |()| reactor.stop()));
    assert_eq!(told.recv().unwrap(), "ran");
    reactor.run().unwrap();
    assert_eq!(Arc::strong_count(&kept), 1);
    assert_eq!(logged(), [""; 0]);
}

#[test]
fn a_thread_keeps_nothing_of_a_job_that_is_done() {
    // THR-11
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let kept = Arc::new(());
    let (captured, result) = (kept.clone(), kept.clone());
    let job = reactor.defer_to_thread(move || {
        drop(captured);
        Ok(result)
    });
    let watched = kept.clone();
    let _ = job.add_callback(move |result| {
        drop(result);
        assert_eq!(Arc::strong_count(&watched), 2);
        reactor.stop()
    });
    reactor.run().unwrap();
    assert_eq!(Arc::strong_count(&kept), 1);
    assert_eq!(logged(), [""; 0]);
}

#[test]
fn work_that_must_be_finished_holds_shutdown_up_and_work_that_comes_too_late_is_refused() {
    // THR-9
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    let saved = notes.clone();
    reactor.add_trigger(Phase::BeforeShutdown, move || {
        reactor.defer_to_thread(|| Ok("saved")).add_callback(move |what| saved.add(what))
    });
    let refused = notes.clone();
    reactor.add_trigger(Phase::AfterShutdown, move || {
        reactor.call_in_thread(|| panic!("called"));
        let late = reactor.defer_to_thread(|| -> Result { panic!("called") }).try_take().unwrap();
        refused.add(format!("{:?}", late.unwrap_err().check::<ReactorError>()));
    });
    reactor.call_soon(move || reactor.stop());
    reactor.run().unwrap();
    assert_eq!(notes.all(), "saved Some(Stopped)");
    assert_logged_once(&["a call in a thread was not made"]);
}

#[test]
fn a_queued_job_is_dropped_and_a_running_one_left_alone_at_close() {
    // THR-9
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    reactor.suggest_thread_pool_size(1);
    let (release, wait) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let notes = Notes::default();
    let first = tell.clone();
    let running = reactor.defer_to_thread(move || {
        first.send("began").unwrap();
        let _ = wait.recv();
        first.send("ended").unwrap();
    });
    assert_eq!(told.recv().unwrap(), "began");
    let queued = reactor.defer_to_thread(move || tell.send("queued").unwrap());
    for job in [running, queued] {
        let notes = notes.clone();
        let _ = job.add_both(move |outcome| notes.add(outcome.unwrap_err().is::<ReactorError>()));
    }
    reactor.close();
    assert_eq!(notes.all(), "true true");
    drop(release);
    assert_eq!(told.recv().unwrap(), "ended");
    assert!(told.recv().is_err(), "the queued one was dropped");
}

#[test]
fn a_promise_for_a_thread_fires_here_once_or_tells_that_it_was_dropped() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    let (value, first) = Deferred::from_thread();
    let (failing, second) = Deferred::<u32>::from_thread();
    let (dropped, third) = Deferred::<u32>::from_thread();
    let (a, b, c) = (notes.clone(), notes.clone(), notes.clone());
    let first = first.add_callback(move |n: u32| a.add(n));
    let second = second.add_both(move |outcome| b.add(outcome.unwrap_err()));
    let third = third.add_both(move |outcome| c.add(outcome.unwrap_err().is::<PromiseDropped>()));
    thread::spawn(move || {
        value.callback(1);
        failing.errback(Failure::msg("failed"));
        drop(dropped);
    });
    let all = twistlet::deferred::gather_results([first, second, third]);
    let _ = all.add_callback(move |_| reactor.stop());
    reactor.run().unwrap();
    assert_eq!(notes.all(), "1 failed true");
}

#[test]
fn a_promise_that_outlives_its_reactor_is_harmless() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let (promise, deferred) = Deferred::<u32>::from_thread();
    let notes = Notes::default();
    let told = notes.clone();
    let _ = deferred.add_both(move |outcome| told.add(outcome.unwrap_err()));
    reactor.close();
    assert_eq!(notes.all(), ReactorError::Stopped.to_string());
    let next = Reactor::new().unwrap();
    let (other, mut pending) = Deferred::<u32>::from_thread();
    promise.callback(1);
    assert!(pending.result().is_none());
    drop(other);
    next.close();
    assert!(pending.result().unwrap().is_err());
}

#[test]
fn many_jobs_on_many_reactors_end_without_a_deadlock() {
    let _dog = dog();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(|| {
                for round in 0..25 {
                    let reactor = Reactor::new().unwrap();
                    for n in 0..20 {
                        let remote = reactor.remote();
                        reactor.call_in_thread(move || {
                            let _ = remote.blocking_call(
                                move |reactor| {
                                    if n == round % 20 { reactor.stop() } else { Ok(()) }
                                },
                            );
                        });
                    }
                    reactor.run().unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}
