//! `green::tpool`: what blocks runs on other threads, and only who asked for it waits.
#![cfg(feature = "green")]
mod guard;
use guard::{guarded, in_callback, logged, panic_of};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use twistlet::error::{Killed, PromiseDropped, ReactorError};
use twistlet::green::tpool::{self, Proxy};
use twistlet::green::{sleep, spawn, wait_all, with_timeout, yield_now};
use twistlet::{Failure, Reactor, Result, TimedOut};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(3600);

/// A native job that ends when it is told to, and tells that it has begun.
struct Job {
    begun: Receiver<()>,
    end: Sender<()>,
}
impl Job {
    fn new() -> (Job, impl FnOnce() -> Result<u32> + Send + 'static) {
        let ((begin, begun), (end, ended)) = (channel(), channel());
        let work = move || {
            let _ = begin.send(());
            let _ = ended.recv();
            Ok(7)
        };
        (Job { begun, end }, work)
    }
    fn wait_for_begin(&self) {
        while self.begun.try_recv().is_err() {
            sleep(Duration::from_micros(100));
        }
    }
    fn finish(&self) {
        let _ = self.end.send(());
    }
}

// TP-01
#[test]
fn a_call_blocks_its_green_thread_alone() {
    guarded(|| {
        let ticks = Rc::new(Cell::new(0));
        let counts = ticks.clone();
        let ticker = spawn(move || {
            loop {
                sleep(Duration::from_micros(200));
                counts.set(counts.get() + 1);
            }
        });
        let here = thread::current().id();
        let there = tpool::execute(|| {
            thread::sleep(Duration::from_millis(20));
            Ok(thread::current().id())
        });
        assert_ne!(there.expect("an id"), here);
        assert!(ticks.get() > 5, "{} ticks", ticks.get());
        ticker.kill();
    });
}

// PTC-22, TP-01, TP-06
#[test]
fn failures_timeouts_and_panics_reach_the_caller() {
    guarded(|| {
        let failure = tpool::execute(|| -> Result<()> { Err(std::io::Error::other("of the disk").into()) });
        assert_eq!(failure.expect_err("it fails").to_string(), "of the disk");
        let timeout = tpool::execute(|| -> Result<()> { Err(TimedOut(SHORT).into()) });
        assert!(timeout.expect_err("it fails").is::<TimedOut>());
        for _ in 0..50 {
            let panic = tpool::execute(|| {
                if true {
                    panic!("in a thread")
                }
            });
            let failure = panic.expect_err("it panics");
            assert!(failure.is_panic() && failure.to_string().contains("in a thread"));
        }
        assert_eq!(tpool::execute(|| Ok(1)).expect("the threads live on"), 1);
        tpool::execute(|| ()).expect("nothing to return");
    });
}

// PTC-24, TP-02
#[test]
fn many_calls_at_once_each_get_their_own_token() {
    guarded(|| {
        let callers: Vec<_> = (0..100u64)
            .map(|n| {
                spawn(move || {
                    for round in 0..10 {
                        let token = n * 100 + round;
                        let fails = token % 7 == 0;
                        let returned = tpool::execute(move || {
                            if token % 5 == 0 {
                                thread::sleep(Duration::from_micros(token % 200));
                            }
                            if fails { Err(Failure::msg(token)) } else { Ok(token) }
                        });
                        match returned {
                            Ok(back) => assert!(back == token && !fails),
                            Err(failure) => assert!(failure.to_string() == token.to_string() && fails),
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        assert!(wait_all(callers).into_iter().all(|caller| caller.is_ok()));
    });
}

// PTC-24, UA-33
#[test]
fn failing_calls_leave_nothing_behind() {
    guarded(|| {
        let token = Arc::new(());
        for n in 0..300 {
            let held = token.clone();
            let outcome = tpool::execute(move || {
                let _held = held;
                if n % 2 == 0 { panic!("of a job") } else { Err::<(), _>(Failure::msg("it fails")) }
            });
            assert!(outcome.is_err());
        }
        // Threads drop what they captured before they answer.
        assert_eq!(Arc::strong_count(&token), 1);
    });
}

// TP-02
#[test]
fn no_more_threads_than_said_and_calls_in_line_begin_in_order() {
    guarded(|| {
        assert_eq!(tpool::size(), 20);
        tpool::set_size(2);
        assert_eq!(tpool::size(), 2);
        let (now, most, order) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(vec![])));
        let callers: Vec<_> = (0..10)
            .map(|n| {
                let (now, most, order) = (now.clone(), most.clone(), order.clone());
                spawn(move || {
                    tpool::execute(move || {
                        order.lock().expect("not poisoned").push(n);
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        thread::sleep(Duration::from_millis(1));
                        now.fetch_sub(1, Ordering::SeqCst);
                    })
                })
            })
            .collect();
        wait_all(callers);
        assert!(most.load(Ordering::SeqCst) <= 2);
        let mut order = order.lock().expect("not poisoned").clone();
        // Two threads may note in either order.
        assert!(order.iter().enumerate().all(|(place, n): (usize, &usize)| place.abs_diff(*n) <= 1), "{order:?}");
        order.sort_unstable();
        assert_eq!(order, (0..10).collect::<Vec<_>>());
        // More while it runs.
        tpool::set_size(3);
        let jobs: Vec<_> = (0..3).map(|_| Job::new()).collect();
        let mut callers = Vec::new();
        let mut handles = Vec::new();
        for (job, work) in jobs {
            callers.push(spawn(move || tpool::execute(work)));
            handles.push(job);
        }
        handles.iter().for_each(Job::wait_for_begin);
        handles.iter().for_each(Job::finish);
        assert!(wait_all(callers).into_iter().all(|n| n.is_ok_and(|n| n == 7)));
    });
}

/// The child of the next test.
#[test]
#[ignore = "run by another test, with the variable set"]
fn tells_its_size() {
    guarded(|| {
        let size = tpool::size();
        let warned = logged().iter().any(|line| line.contains("not a number"));
        let here = thread::current().id();
        let inline = tpool::execute(|| Ok(thread::current().id())).expect("an id") == here;
        println!("size {size} warned {warned} inline {inline}");
    });
}
// TP-01, PTC-25
#[test]
fn the_environment_says_how_many_threads_there_may_be() {
    let told = |value: &str| {
        let mut child = std::process::Command::new(std::env::current_exe().expect("this program"));
        child.args(["--exact", "tells_its_size", "--ignored", "--nocapture"]).env("TWISTLET_THREADPOOL_SIZE", value);
        String::from_utf8(child.output().expect("it runs").stdout).expect("text")
    };
    for (value, says) in [
        ("3", "size 3 warned false inline false"),
        ("0", "size 0 warned false inline true"),
        ("many", "size 20 warned true inline false"),
    ] {
        let text = told(value);
        assert!(text.contains(says), "{value}: {text}");
    }
}

// TP-03
#[test]
fn from_a_thread_of_a_pool_it_calls_on_the_spot() {
    guarded(|| {
        tpool::set_size(1);
        let nested = tpool::execute(|| {
            let inner = tpool::execute(|| Ok(thread::current().id()))?;
            assert!(
                tpool::execute(|| if true {
                    panic!("inside")
                })
                .is_err_and(|failure| failure.is_panic())
            );
            Ok(inner == thread::current().id())
        });
        assert!(nested.expect("no deadlock"));
        let nested = twistlet::green::block_on(Reactor::current().defer_to_thread(|| tpool::execute(|| Ok(3))));
        assert_eq!(nested.expect("no deadlock"), 3);
    });
}

// PTC-25, TP-03
#[test]
fn with_no_threads_it_calls_on_the_spot_and_warns() {
    guarded(|| {
        tpool::set_size(0);
        let here = thread::current().id();
        assert_eq!(tpool::execute(|| Ok(thread::current().id())).expect("an id"), here);
        assert!(logged().iter().any(|line| line.contains("tpool has no threads")));
        assert!(
            tpool::execute(|| if true {
                panic!("here")
            })
            .is_err_and(|failure| failure.is_panic())
        );
        let proxy = Proxy::new(thread::current().id());
        assert!(proxy.call(|id| Ok(*id == thread::current().id())).expect("called"));
        assert_eq!(logged(), Vec::<String>::new());
        tpool::set_size(1);
        assert_ne!(tpool::execute(|| Ok(thread::current().id())).expect("an id"), here);
    });
}

// TP-04
#[test]
fn an_interrupted_caller_goes_and_the_result_is_dropped() {
    guarded(|| {
        let dropped = Arc::new(());
        let (job, work) = Job::new();
        let held = dropped.clone();
        let caller = spawn(move || tpool::execute(move || work().map(|_| held)).map(drop));
        job.wait_for_begin();
        caller.kill();
        assert!(caller.wait().expect_err("killed").is::<Killed>());
        assert_eq!(Arc::strong_count(&dropped), 2);
        job.finish();
        while Arc::strong_count(&dropped) > 1 {
            sleep(Duration::from_micros(100));
        }
        let (job, work) = Job::new();
        assert!(with_timeout(SHORT, || tpool::execute(work)).is_err());
        job.finish();
        assert_eq!(tpool::execute(|| Ok(2)).expect("undisturbed"), 2);
        assert_eq!(logged(), Vec::<String>::new());
    });
}

// PTC-21, TP-07
#[test]
fn letting_the_threads_go_delivers_what_runs() {
    guarded(|| {
        assert!(tpool::shutdown(LONG), "there are none");
        let (job, work) = Job::new();
        let caller = spawn(move || tpool::execute(work));
        job.wait_for_begin();
        let ends = spawn(|| Ok(tpool::shutdown(LONG)));
        yield_now();
        job.finish();
        assert!(ends.wait().expect("its answer"));
        assert_eq!(caller.wait().expect("its result"), 7);
        assert_eq!(tpool::execute(|| Ok(8)).expect("new threads"), 8);
    });
}

// TP-07, UA-05
#[test]
fn a_busy_thread_does_not_hold_the_end_up() {
    guarded(|| {
        tpool::set_size(1);
        let (job, work) = Job::new();
        let caller = spawn(move || tpool::execute(work));
        job.wait_for_begin();
        let in_line = spawn(|| tpool::execute(|| Ok(1)));
        yield_now();
        let began = Instant::now();
        assert!(!tpool::shutdown(SHORT));
        assert!(began.elapsed() < Duration::from_secs(2));
        assert!(in_line.wait().expect_err("it never began").is::<PromiseDropped>());
        // New ones beside the old.
        assert_eq!(tpool::execute(|| Ok(2)).expect("new threads"), 2);
        job.finish();
        assert_eq!(caller.wait().expect("delivered late"), 7);
    });
}

// TP-07, UA-05
#[test]
fn the_end_of_the_reactor_does_not_wait_for_a_busy_thread() {
    let began = Instant::now();
    let (end, ended) = channel::<()>();
    let outcome = guarded(move || {
        let reactor = Reactor::current();
        reactor.call_later(SHORT, move || reactor.stop());
        let outcome = tpool::execute(move || {
            let _ = ended.recv();
            Ok(())
        });
        let refused = tpool::execute(|| Ok(()));
        (outcome.is_err_and(|failure| failure.is::<ReactorError>()), refused.is_err())
    });
    assert_eq!(outcome, (true, true));
    assert!(began.elapsed() < Duration::from_secs(5));
    drop(end);
}

#[test]
fn in_a_callback_nothing_is_begun() {
    let (begins, begun) = channel();
    let text = in_callback(move || {
        panic_of(|| tpool::execute(move || begins.send(()).is_ok().then_some(()).ok_or(Failure::msg(""))))
    });
    assert!(text.contains("a blocking call in the main loop"), "{text}");
    assert!(begun.recv().is_err(), "it was not called");
}

// ---- Proxy ----

// TP-08
#[test]
fn an_object_is_used_by_one_call_at_a_time_elsewhere() {
    guarded(|| {
        struct Counter {
            n: u32,
            busy: bool,
            home: thread::ThreadId,
        }
        let counter = Proxy::new(Counter { n: 0, busy: false, home: thread::current().id() });
        let users: Vec<_> = (0..50)
            .map(|_| {
                let counter = counter.clone();
                spawn(move || {
                    counter.call(|counter| {
                        assert!(!std::mem::replace(&mut counter.busy, true));
                        assert_ne!(thread::current().id(), counter.home);
                        thread::yield_now();
                        counter.busy = false;
                        counter.n += 1;
                    })
                })
            })
            .collect();
        assert!(wait_all(users).into_iter().all(|user| user.is_ok()));
        let failure = counter
            .call(|_| {
                if true {
                    panic!("in a call")
                }
            })
            .expect_err("it panics");
        assert!(failure.is_panic());
        assert_eq!(counter.call(|counter| Ok(counter.n)).expect("not poisoned"), 50);
        assert_eq!(format!("{counter:?}"), "Proxy { busy: false, .. }");
    });
}

// TP-04, TP-08
#[test]
fn the_next_call_waits_for_one_whose_caller_is_gone() {
    guarded(|| {
        let (job, work) = Job::new();
        let proxy = Proxy::new(vec![1]);
        let first = proxy.clone();
        let caller = spawn(move || {
            first.call(move |list| {
                let n = work()?;
                list.push(n);
                Ok(())
            })
        });
        job.wait_for_begin();
        caller.kill();
        assert!(caller.wait().expect_err("killed").is::<Killed>());
        // It takes no thread while it waits.
        assert!(with_timeout(SHORT, || proxy.call(|_| Ok(()))).is_err());
        job.finish();
        assert_eq!(proxy.call(|list| Ok(list.clone())).expect("its turn"), [1, 7]);
    });
}

// PTC-23, TP-08
#[test]
fn the_steps_of_a_slow_iterator_let_others_run() {
    guarded(|| {
        let ticks = Rc::new(Cell::new(0));
        let counts = ticks.clone();
        let ticker = spawn(move || {
            loop {
                sleep(Duration::from_micros(200));
                counts.set(counts.get() + 1);
            }
        });
        let slow = (0..5).inspect(|_| thread::sleep(Duration::from_millis(3)));
        let steps: Result<Vec<_>> = Proxy::new(slow).steps().collect();
        assert_eq!(steps.expect("five"), [0, 1, 2, 3, 4]);
        assert!(ticks.get() > 5, "{} ticks", ticks.get());
        ticker.kill();
        let mut steps = Proxy::new((0..).inspect(|n| assert_ne!(*n, 1))).steps();
        assert!(steps.next().is_some_and(|step| step.is_ok()));
        assert!(steps.next().is_some_and(|step| step.is_err()));
        assert!(steps.next().is_none());
    });
}

#[test]
fn the_object_is_dropped_on_another_thread() {
    struct Home(Sender<thread::ThreadId>);
    impl Drop for Home {
        fn drop(&mut self) {
            let _ = self.0.send(thread::current().id());
        }
    }
    let (tell, told) = channel();
    let home = guarded(move || {
        tpool::set_size(1);
        let proxy = Proxy::new(Home(tell));
        proxy.call(|_| ()).expect("called");
        drop(proxy);
        // In line behind it.
        tpool::execute(|| ()).expect("called");
        thread::current().id()
    });
    assert_ne!(told.recv().expect("it was dropped"), home);
}
