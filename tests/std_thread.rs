//! `green::thread`: std's threads as green threads; and what of std is here as it is.
#![cfg(feature = "green")]
mod guard;
use guard::{Trace, guarded, in_callback, logged, panic_of, text};
use std::any::Any;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use twistlet::error::Killed;
use twistlet::green::thread::{self, Builder, Thread};
use twistlet::green::{self, spawn, with_timeout, yield_now};
use twistlet::{Failure, Reactor};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(5);

fn is_killed<T>(outcome: thread::Result<T>) -> bool {
    outcome.is_err_and(|payload| payload.is::<Killed>())
}

#[test]
fn join_gives_the_value_or_the_payload_of_the_panic() {
    guarded(|| {
        // Neither closure nor value need be Send.
        let shared = Rc::new(Cell::new(1));
        let theirs = Rc::clone(&shared);
        let value = thread::spawn(move || {
            theirs.set(2);
            theirs
        });
        assert_eq!(value.join().unwrap().get(), 2);
        let fails = thread::spawn(|| -> u8 { std::panic::panic_any(7u64) });
        assert_eq!(fails.join().unwrap_err().downcast_ref(), Some(&7u64));
        let fails = thread::spawn(|| panic!("in words: {}", 1));
        assert_eq!(text(&*fails.join().unwrap_err()), "in words: 1");
        assert!(logged().is_empty());
    });
}

// GT-13, GT-15
#[test]
fn join_of_a_killed_one_is_an_error_that_says_so() {
    guarded(|| {
        let trace = Trace::new();
        let guard = trace.on_drop("unwound");
        let waits = thread::spawn(move || {
            let _guard = guard;
            thread::sleep(LONG);
            "a value"
        });
        yield_now();
        waits.kill();
        assert!(is_killed(waits.join()));
        assert_eq!(trace.take(), ["unwound"]);
        let never = thread::spawn(|| unreachable!("killed before it ran"));
        never.kill();
        assert!(is_killed::<()>(never.join()));
        let itself = thread::spawn(|| {
            thread::sleep(SHORT);
        });
        assert!(itself.join().is_ok());
        assert!(logged().is_empty());
    });
}

// G6
#[test]
fn a_panic_nobody_joins_for_is_logged_and_a_kill_is_not() {
    guarded(|| {
        drop(Builder::new().name("early".into()).spawn(|| panic!("first")).unwrap());
        let late = Builder::new().name("late".into()).spawn(|| panic!("second")).unwrap();
        let killed = thread::spawn(|| thread::sleep(LONG));
        yield_now();
        killed.kill();
        yield_now();
        yield_now();
        assert!(late.is_finished() && killed.is_finished());
        drop((late, killed));
        let lines = logged();
        assert!(lines.len() == 2 && lines[0].contains("early") && lines[0].contains("first"), "{lines:?}");
        assert!(lines[1].contains("late") && lines[1].contains("second"), "{lines:?}");
    });
}

#[test]
fn it_runs_on_when_its_handle_is_dropped() {
    guarded(|| {
        let (send, recv) = green::sync::mpsc::channel();
        drop(thread::spawn(move || {
            thread::sleep(SHORT);
            send.send("done").unwrap();
        }));
        assert_eq!(recv.recv(), Ok("done"));
    });
}

#[test]
fn green_locals_are_gone_when_join_returns() {
    guarded(|| {
        struct Noted(Trace);
        impl Drop for Noted {
            fn drop(&mut self) {
                yield_now();
                self.0.note("local dropped");
            }
        }
        green::thread_local!(static LOCAL: Cell<Option<Noted>> = Cell::new(None));
        let trace = Trace::new();
        let noted = Noted(trace.clone());
        thread::spawn(move || LOCAL.set(Some(noted))).join().unwrap();
        trace.note("joined");
        assert_eq!(trace.take(), ["local dropped", "joined"]);
    });
}

#[test]
fn names_and_ids_are_those_of_std_where_there_are_any() {
    guarded(|| {
        let main = thread::current();
        assert_eq!(main.name(), std::thread::current().name());
        assert_eq!(main.id(), thread::current().id());
        let named = Builder::new().name("worker".into()).stack_size(64 * 1024).spawn(thread::current).unwrap();
        let name = named.thread().clone();
        let inside = named.join().unwrap();
        assert_eq!((inside.id(), inside.name()), (name.id(), Some("worker")));
        assert_eq!(thread::spawn(|| thread::current().name().map(str::to_owned)).join().unwrap(), None);
        let ids = [(); 3].map(|()| thread::spawn(|| (thread::current().id(), thread::current().id())).join().unwrap());
        assert!(ids.iter().all(|(one, two)| one == two) && ids[0] != ids[1] && ids[1] != ids[2]);
        // One that Eventlet's names have spawned.
        let other = green::Builder::default().name("eventlet's").spawn(|| Ok(thread::current()));
        assert_eq!(other.wait().unwrap().name(), Some("eventlet's"));
        assert!(format!("{inside:?}").contains("worker"));
    });
}

#[test]
fn a_stack_that_cannot_be_had_is_an_error() {
    guarded(|| {
        let error = Builder::new().stack_size(usize::MAX / 2).spawn(|| ()).unwrap_err();
        assert!(!error.to_string().is_empty());
    });
}

#[test]
fn park_waits_for_a_token_and_keeps_one() {
    guarded(|| {
        let trace = Trace::new();
        let noted = trace.clone();
        let parked = thread::spawn(move || {
            thread::park();
            noted.note("first");
            thread::park();
            noted.note("second");
        });
        // Before it has begun, and twice: that is one token.
        parked.thread().unpark();
        parked.thread().unpark();
        yield_now();
        yield_now();
        assert_eq!(trace.take(), ["first"]);
        assert!(!parked.is_finished());
        parked.thread().unpark();
        parked.join().unwrap();
        assert_eq!(trace.take(), ["second"]);
        let start = Instant::now();
        thread::park_timeout(SHORT);
        assert!(start.elapsed() >= SHORT);
        thread::current().unpark();
        thread::park_timeout(LONG);
        thread::park_timeout(Duration::ZERO);
        assert!(with_timeout(SHORT, thread::park).is_err());
    });
}

#[test]
fn a_killed_one_leaves_its_park_and_unpark_of_it_does_nothing() {
    guarded(|| {
        let parked = thread::spawn(thread::park);
        yield_now();
        let name = parked.thread().clone();
        parked.kill();
        name.unpark();
        assert!(is_killed(parked.join()));
        name.unpark();
    });
}

// G3
#[test]
fn callbacks_of_the_main_loop_may_spawn_but_not_join() {
    in_callback(|| {
        let spawned = thread::spawn(|| 1);
        assert!(!spawned.is_finished());
        assert!(panic_of(|| spawned.join()).contains("main loop"));
        assert!(panic_of(thread::park).contains("main loop"));
        thread::current().unpark();
        thread::park();
    });
}

// RS-20
#[test]
fn unpark_join_and_kill_work_from_other_os_threads() {
    guarded(|| {
        let (send, handles) = std::sync::mpsc::channel();
        let (done, is_done) = green::sync::mpsc::channel::<()>();
        let owner = std::thread::spawn(move || {
            let parked = thread::spawn(|| {
                thread::park();
                "unparked"
            });
            let sleeps = thread::spawn(|| thread::sleep(LONG));
            send.send((parked, sleeps)).unwrap();
            // Meanwhile the loop of this thread runs.
            assert!(is_done.recv().is_err());
        });
        let (parked, sleeps) = handles.recv().unwrap();
        let name: Thread = parked.thread().clone();
        let plain = std::thread::spawn(move || name.unpark());
        assert_eq!(parked.join().unwrap(), "unparked");
        sleeps.kill();
        assert!(is_killed(sleeps.join()));
        plain.join().unwrap();
        drop(done);
        owner.join().unwrap();
    });
}

#[test]
fn many_tokens_between_os_threads_lose_none() {
    guarded(|| {
        fn ping_pong(rounds: usize) {
            let (to_there, here) = std::sync::mpsc::channel::<Thread>();
            let turn = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
            let theirs = std::sync::Arc::clone(&turn);
            let main = thread::current();
            let other = std::thread::spawn(move || {
                let plays = thread::spawn(move || {
                    to_there.send(thread::current()).unwrap();
                    for round in 0..rounds {
                        while theirs.load(std::sync::atomic::Ordering::SeqCst) != 2 * round + 1 {
                            thread::park();
                        }
                        theirs.store(2 * round + 2, std::sync::atomic::Ordering::SeqCst);
                        main.unpark();
                    }
                });
                plays.join().unwrap();
            });
            let opponent = here.recv().unwrap();
            for round in 0..rounds {
                turn.store(2 * round + 1, std::sync::atomic::Ordering::SeqCst);
                opponent.unpark();
                while turn.load(std::sync::atomic::Ordering::SeqCst) != 2 * round + 2 {
                    thread::park();
                }
            }
            other.join().unwrap();
        }
        // From a plain thread, then from MAIN of a reactor.
        ping_pong(500);
        thread::spawn(|| ()).join().unwrap();
        ping_pong(500);
    });
}

#[test]
fn a_thread_that_joins_itself_is_told() {
    guarded(|| {
        let (send, recv) = green::sync::mpsc::channel::<thread::JoinHandle<()>>();
        let joins = Rc::new(Cell::new(None));
        let slot = Rc::clone(&joins);
        let handle = thread::spawn(move || {
            let me = recv.recv().unwrap();
            slot.set(Some(panic_of(|| me.join())));
        });
        send.send(handle).unwrap();
        yield_now();
        yield_now();
        assert!(joins.take().unwrap().contains("joins itself"));
    });
}

#[test]
fn a_scope_joins_those_that_borrow_on_every_way_out() {
    guarded(|| {
        let trace = Trace::new();
        let shared = Cell::new(0);
        let killed = thread::scope(|s| {
            let waits = s.spawn(|| thread::sleep(LONG));
            s.spawn(|| {
                thread::sleep(SHORT);
                shared.set(shared.get() + 1);
            });
            yield_now();
            waits.kill();
            assert_eq!(waits.thread().name(), None);
            waits.join()
        });
        assert!(is_killed(killed));
        assert_eq!(shared.get(), 1);
        let late = with_timeout(SHORT, || {
            thread::scope(|s| {
                s.spawn(|| {
                    let _guard = trace.on_drop("unwound");
                    thread::sleep(LONG);
                });
            });
        });
        assert!(late.is_err());
        assert_eq!(trace.take(), ["unwound"]);
        let words = panic_of(|| thread::scope(|s| drop(s.spawn(|| panic!("on purpose")))));
        assert!(words.contains("panicked"), "{words}");
        let error = thread::scope(|s| Builder::new().stack_size(usize::MAX / 2).spawn_scoped(s, || ()).unwrap_err());
        assert!(!error.to_string().is_empty());
    });
}

// D8
#[test]
fn main_is_told_when_it_joins_what_never_ends() {
    guarded(|| {
        let event = green::Event::<()>::new();
        let theirs = event.clone();
        let stuck = Builder::new().name("stuck".into()).spawn(move || drop(theirs.wait())).unwrap();
        let report = panic_of(|| stuck.join());
        assert!(report.contains("deadlock") && report.contains("stuck"), "{report}");
    });
}

#[test]
fn the_end_of_the_reactor_ends_them_and_joins_say_so() {
    guarded(|| {
        let waits = thread::spawn(|| thread::sleep(LONG));
        yield_now();
        Reactor::current().close();
        assert!(is_killed(waits.join()));
        let (there, handles) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let unborn = thread::spawn(|| ());
            there.send(unborn).unwrap();
            Reactor::current().close();
        })
        .join()
        .unwrap();
        let outcome: thread::Result<()> = handles.recv().unwrap().join();
        let payload: Box<dyn Any + Send> = outcome.unwrap_err();
        assert!(payload.is::<Killed>() || payload.is::<Failure>());
    });
}

#[test]
fn sleeping_holds_up_nobody_and_zero_takes_turns() {
    guarded(|| {
        let trace = Trace::new();
        let start = Instant::now();
        let sleepers: Vec<_> = (0..10).map(|_| thread::spawn(|| thread::sleep(Duration::from_millis(20)))).collect();
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
        assert!(start.elapsed() < Duration::from_millis(150));
        let noted = trace.clone();
        let other = spawn(move || noted.note("other"));
        thread::sleep(Duration::ZERO);
        trace.note("back");
        other.wait().unwrap();
        assert_eq!(trace.take(), ["other", "back"]);
    });
}

#[test]
fn a_path_change_is_enough_for_modules_and_macros() {
    use twistlet::green as std;
    let mut map = std::collections::HashMap::<u8, std::string::String>::new();
    map.insert(std::mem::size_of::<u8>() as u8, std::format!("{}", std::f64::consts::PI));
    std::assert_eq!(map[&1].len(), std::vec![1; 17].len());
    std::thread_local!(static LOCAL: std::cell::Cell<u8> = std::cell::Cell::new(1));
    assert_eq!(LOCAL.get(), 1);
    let instant: ::std::time::Instant = std::time::Instant::now();
    assert!(std::matches!(instant.elapsed(), std::time::Duration { .. }));
    assert!(!std::env!("CARGO_PKG_NAME").is_empty());
}
