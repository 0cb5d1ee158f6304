//! Rules of the hub that other tests do not show: order and clock of its turns, processes and signals around it, what it
//! leaves behind (HB).
#![cfg(feature = "green")]
mod guard;

use guard::{Trace, guarded, joined, logged};
use signal_hook::consts::{SIGCONT, SIGINT, SIGSTOP, SIGTERM, SIGUSR1};
use std::cell::Cell;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};
use twistlet::error::Killed;
use twistlet::green::net::{TcpListener, TcpStream};
use twistlet::green::signal::Signals;
use twistlet::green::{
    Event, block_on, debug, join_reactor, sleep, spawn, spawn_after, spawn_after_local, with_timeout, yield_now,
};
use twistlet::{Clock, Deferred, Failure, Reactor};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(10);
const IN_CHILD: &str = "TWISTLET_HUB_CHILD";

/// This program called again for the one test, or nothing in that child.
fn child(test: &str) -> Option<Command> {
    if std::env::var_os(IN_CHILD).is_some() {
        // A hang must not outlive the test.
        std::thread::spawn(|| {
            std::thread::sleep(Duration::from_secs(30));
            std::process::abort();
        });
        return None;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(IN_CHILD, "1").stdout(Stdio::piped());
    Some(command)
}
fn run(mut command: Command) -> ExitStatus {
    let output = command.output().unwrap();
    output.status
}

// ---- order and clock ----

// HB-28, HB-29, HB-30, HBC-03: due timers by time, then by making, before the green threads they wake; what is made meanwhile
// waits for another turn
#[test]
fn timers_fire_by_time_then_by_making_and_those_made_meanwhile_wait() {
    guarded(|| {
        let reactor = Reactor::current();
        let trace = Trace::new();
        let note = |what: &'static str| {
            let trace = trace.clone();
            move || trace.note(what)
        };
        reactor.call_later(2 * SHORT, note("second"));
        let noted = trace.clone();
        reactor.call_later(SHORT, move || {
            noted.note("first");
            let again = noted.clone();
            reactor.call_later(Duration::ZERO, move || again.note("made meanwhile"));
            let queued = noted.clone();
            reactor.call_soon(move || queued.note("queued"));
        });
        reactor.call_later(SHORT, note("first too"));
        let woken = trace.clone();
        let sleeper = spawn(move || {
            sleep(SHORT);
            woken.note("woken");
        });
        sleeper.wait().unwrap();
        sleep(2 * SHORT);
        let seen = trace.take();
        assert_eq!(seen[..2], ["first", "first too"], "{seen:?}");
        let at = |what: &str| seen.iter().position(|seen| seen == what).unwrap();
        assert!(at("queued") < at("made meanwhile") && at("made meanwhile") < at("second"), "{seen:?}");
        assert!(at("woken") > at("first too"), "{seen:?}");
    });
}

// HB-33: delays are minimums, by a clock that only goes forward
#[test]
fn nobody_wakes_too_early() {
    guarded(|| {
        let reactor = Reactor::current();
        let threads: Vec<_> = (0..50u64)
            .map(|n| {
                spawn(move || {
                    let (wanted, began) = (Duration::from_micros(n * 137), reactor.now());
                    sleep(wanted);
                    assert!(reactor.now() - began >= wanted, "{n}");
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.wait().unwrap());
    });
}

// UA-19: a wait shorter than the poller can wait does not spin
#[test]
fn short_sleeps_do_not_spin() {
    guarded(|| {
        yield_now();
        let before = debug::stats().turns;
        for _ in 0..20 {
            sleep(Duration::from_micros(300));
        }
        let turns = debug::stats().turns - before;
        assert!(turns <= 80, "{turns} turns for 20 sleeps");
        // And a loop that has nothing to do does nothing.
        let before = debug::stats().turns;
        sleep(30 * SHORT / 10);
        assert!(debug::stats().turns - before <= 5);
    });
}

// UA-18: sleep(0) in a loop starves neither timers nor sockets
#[test]
fn yielding_in_a_loop_starves_nobody() {
    guarded(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let stop = Rc::new(Cell::new(false));
        let seen = stop.clone();
        let hog = spawn(move || {
            while !seen.get() {
                sleep(Duration::ZERO);
            }
        });
        let server = spawn(move || Ok(listener.accept()?.0.read(&mut [0])?));
        TcpStream::connect(to).unwrap().write_all(b"x").unwrap();
        assert_eq!(server.wait().unwrap(), 1);
        sleep(SHORT);
        stop.set(true);
        hog.wait().unwrap();
    });
}

// ---- what the hub keeps ----

// HB-36, HB-38, HB-39, HB-40: the reactor's timers are the hub's; cancelling is exact, and nothing lingers
#[test]
fn timers_of_waits_are_the_reactors_and_nothing_of_them_stays() {
    guarded(|| {
        let reactor = Reactor::current();
        let sleepers: Vec<_> = (0..100).map(|_| spawn(|| sleep(LONG))).collect();
        yield_now();
        assert_eq!((reactor.statistics().timers, debug::timers().len()), (100, 100));
        sleepers.iter().for_each(|sleeper| sleeper.kill());
        sleepers.into_iter().for_each(|sleeper| assert!(sleeper.wait().is_err()));
        assert_eq!(reactor.statistics().timers, 0);
        // A thousand rounds and more of made and cancelled ones.
        for n in 0..2_000 {
            let kept = Rc::new(());
            let inside = kept.clone();
            let call = reactor.call_later(LONG, move || drop(inside));
            assert!(call.active() && call.cancel() && !call.cancel() && !call.active());
            assert_eq!(Rc::strong_count(&kept), 1, "the closure is dropped at once");
            let _ = with_timeout(LONG, || n);
        }
        assert_eq!(reactor.statistics().timers, 0);
        // One that has been made is not pending, and cancelling it is harmless.
        let call = reactor.call_later(Duration::ZERO, || ());
        sleep(Duration::from_millis(1));
        assert!(!call.active() && !call.cancel());
    });
}

// HB-32: an error or a hang-up is news for the reader and for the writer
#[test]
fn a_reset_wakes_the_reader_and_the_writer() {
    guarded(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        let writing = ours.try_clone().unwrap();
        let reader = spawn(move || Ok((&ours).read(&mut [0]).map_err(|error| error.kind())));
        let writer = spawn(move || {
            loop {
                if let Err(error) = (&writing).write(&[0; 65536]) {
                    return Ok(error.kind());
                }
            }
        });
        while debug::green_threads().iter().filter(|info| matches!(info.state, debug::State::Parked { .. })).count() < 2
        {
            yield_now();
        }
        // Unread input makes the close a reset.
        drop(peer);
        assert!(matches!(reader.wait().unwrap(), Ok(0) | Err(ErrorKind::ConnectionReset)));
        assert!(matches!(writer.wait().unwrap(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe));
    });
}

// HB-02: a wake-up that nobody ever makes: the loop waits on, without turning
#[test]
fn in_join_mode_a_loop_with_nothing_to_do_sleeps() {
    joined(|reactor| {
        let event = Event::<()>::new();
        let forever = spawn(move || event.wait());
        let remote = reactor.remote();
        spawn(move || {
            let before = debug::stats().turns;
            let (promise, deferred) = Deferred::<()>::from_thread();
            std::thread::spawn(move || {
                std::thread::sleep(5 * SHORT);
                drop(remote);
                promise.callback(());
            });
            block_on(deferred).unwrap();
            assert!(debug::stats().turns - before <= 5);
            forever.kill();
            reactor.stop()
        });
    });
}

// HB-16, HB-17, HB-48, HBC-28: a panic in a green thread or a callback is nobody else's, and MAIN's wait goes on
#[test]
fn nothing_that_fails_surfaces_in_main() {
    guarded(|| {
        let reactor = Reactor::current();
        let event = Event::<u8>::new();
        let tell = event.clone();
        reactor.call_later(2 * SHORT, move || tell.send(1));
        reactor.call_later(SHORT, || panic!("in a timer"));
        let failing = spawn(|| -> Result<(), Failure> { panic!("in a green thread") });
        let dropped = spawn_after(SHORT, || Err::<(), _>(Failure::msg("nobody looks")));
        drop(dropped);
        assert_eq!(event.wait().unwrap(), 1);
        // HB-22: who waits is told, and nobody else.
        assert!(failing.wait().unwrap_err().is_panic());
        let log = logged().join("\n");
        assert!(log.contains("in a timer") && log.contains("nobody looks"), "{log}");
        assert!(!log.contains("in a green thread"), "{log}");
    });
}

// ---- the process around it ----

// HB-34, HBC-07: stopped and continued, and interrupted by a signal, in the middle of a poll
#[test]
fn a_process_that_is_stopped_and_continued_wakes_on_time() {
    let Some(mut command) = child("a_process_that_is_stopped_and_continued_wakes_on_time") else {
        // A handler without SA_RESTART, or the poll would not notice.
        take_sigusr1();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        println!("ready");
        let began = Instant::now();
        let late = with_timeout(Duration::from_millis(300), || listener.accept().map(drop));
        assert!(late.is_err() && began.elapsed() >= Duration::from_millis(300));
        std::process::exit(0);
    };
    let mut child = command.spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it ended early");
    }
    for signal in [SIGUSR1, SIGSTOP, SIGCONT, SIGUSR1] {
        let kill = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().unwrap();
        assert!(kill.success());
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
fn take_sigusr1() {
    let noticed = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    signal_hook::flag::register(SIGUSR1, noticed).unwrap();
}

// HB-12, HB-18: the implicit loop leaves signals alone, and so they do what they do
#[test]
fn in_implicit_mode_a_signal_ends_the_process() {
    for signal in [SIGINT, SIGTERM] {
        let Some(mut command) = child("in_implicit_mode_a_signal_ends_the_process") else {
            let signal = std::env::var("SIGNAL").unwrap().parse().unwrap();
            drop(spawn(move || signal_hook::low_level::raise(signal).map_err(Failure::from)));
            sleep(LONG);
            std::process::exit(0);
        };
        command.env("SIGNAL", signal.to_string());
        assert_eq!(run(command).signal(), Some(signal));
    }
}

// HB-12: and the explicit one follows `run`
#[test]
fn in_join_mode_a_signal_stops_the_loop() {
    let Some(command) = child("in_join_mode_a_signal_stops_the_loop") else {
        let reactor = Reactor::new().unwrap();
        join_reactor(&reactor).unwrap();
        drop(spawn(move || signal_hook::low_level::raise(SIGTERM).map_err(Failure::from)));
        drop(spawn(|| sleep(LONG)));
        reactor.run().unwrap();
        std::process::exit(7);
    };
    assert_eq!(run(command).code(), Some(7));
}

// HB-13, HB-26, UA-05: threads of the pool do not hold up the end of MAIN
#[test]
fn the_pools_threads_do_not_hold_up_the_end_of_the_process() {
    let Some(command) = child("the_pools_threads_do_not_hold_up_the_end_of_the_process") else {
        let reactor = Reactor::current();
        reactor.call_in_thread(|| std::thread::sleep(LONG));
        sleep(SHORT);
        assert_eq!(debug::stats().pool_busy, 1);
        let began = Instant::now();
        reactor.close();
        assert!(began.elapsed() < Duration::from_secs(5));
        std::process::exit(7);
    };
    let began = Instant::now();
    assert_eq!(run(command).code(), Some(7));
    assert!(began.elapsed() < LONG / 3);
}

// HB-27: MAIN waits for something, here for all it has spawned
#[test]
fn main_waits_for_what_it_has_spawned() {
    guarded(|| {
        let threads: Vec<_> = (0..10u64).map(|n| spawn_after(Duration::from_millis(n), move || Ok(n))).collect();
        let sum = twistlet::green::wait_all(threads).into_iter().map(Result::unwrap).sum::<u64>();
        assert_eq!((sum, debug::stats().green_threads), (45, 0));
    });
}

// HB-11, HB-49: one loop a thread, and no other while it lives
#[test]
fn a_thread_has_one_loop_at_a_time() {
    guarded(|| {
        let reactor = Reactor::current();
        yield_now();
        assert!(Reactor::new().is_err());
        reactor.close();
        let next = Reactor::new().unwrap();
        assert_ne!(next, reactor);
        join_reactor(&next).unwrap();
        next.call_soon(move || next.stop());
        next.run().unwrap();
    });
}

// HB-37, HB-39: a local call goes with the green thread that made it, a global one does not
#[test]
fn a_local_call_goes_with_its_maker_and_a_global_one_does_not() {
    guarded(|| {
        let trace = Trace::new();
        let notes = trace.clone();
        let maker = spawn(move || {
            let (local, global) = (notes.clone(), notes.clone());
            let gone = notes.on_drop("the closure was dropped");
            Ok((
                spawn_after_local(SHORT, move || {
                    let _gone = gone;
                    local.note("local");
                }),
                spawn_after(SHORT, move || global.note("global")),
            ))
        });
        let (local, global) = maker.wait().unwrap();
        global.wait().unwrap();
        assert!(local.wait().unwrap_err().is::<Killed>());
        assert_eq!(trace.take(), ["the closure was dropped", "global"]);
        // MAIN lives as long as the loop.
        assert_eq!(spawn_after_local(SHORT, || Ok(1)).wait().unwrap(), 1);
        assert_eq!(debug::stats().timers, 0);
    });
}

// UA-02: a handler of a signal may still wake MAIN
#[test]
fn main_that_waits_for_a_signal_alone_is_no_deadlock() {
    let Some(command) = child("main_that_waits_for_a_signal_alone_is_no_deadlock") else {
        let signals = Signals::new([SIGUSR1]).unwrap();
        std::thread::spawn(|| {
            std::thread::sleep(5 * SHORT);
            signal_hook::low_level::raise(SIGUSR1)
        });
        assert_eq!(signals.wait().unwrap(), SIGUSR1);
        std::process::exit(7);
    };
    assert_eq!(run(command).code(), Some(7));
}
