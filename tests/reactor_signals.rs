//! SIGINT and SIGTERM: each test is a process of its own, which sends the signals to itself. Rule REA-25.
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::raise;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;
use twistlet::reactor::Phase;
use twistlet::{Deferred, Reactor};

const IN_CHILD: &str = "TWISTLET_TEST_CHILD";

/// Runs `f` in a process of its own, which is this one called again for the one test; in the parent, how that ended.
fn alone(test: &str, f: impl FnOnce()) -> Option<ExitStatus> {
    if std::env::var_os(IN_CHILD).is_some() {
        // A hang must not outlive the test.
        thread::spawn(|| {
            thread::sleep(Duration::from_secs(30));
            std::process::abort();
        });
        f();
        std::process::exit(0);
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(IN_CHILD, "1");
    Some(child.status().unwrap())
}
#[track_caller]
fn clean(status: Option<ExitStatus>) {
    assert_eq!(status.unwrap().code(), Some(0));
}
#[track_caller]
fn killed_by(status: Option<ExitStatus>, signal: i32) {
    assert_eq!(status.unwrap().signal(), Some(signal));
}

#[test]
fn a_signal_stops_the_reactor_with_its_triggers() {
    let status = alone("a_signal_stops_the_reactor_with_its_triggers", || {
        for signal in [SIGINT, SIGTERM] {
            let reactor = Reactor::new().unwrap();
            let ran = Arc::new(AtomicUsize::new(0));
            let counted = ran.clone();
            reactor.add_trigger(Phase::BeforeShutdown, move || {
                counted.fetch_add(1, Ordering::Relaxed);
            });
            reactor.call_when_running(move || raise(signal).unwrap());
            reactor.run().unwrap();
            assert_eq!(ran.load(Ordering::Relaxed), 1);
        }
    });
    clean(status);
}

#[test]
fn every_reactor_that_runs_is_stopped() {
    let status = alone("every_reactor_that_runs_is_stopped", || {
        let all = Arc::new(Barrier::new(4));
        let threads: Vec<_> = (0..4)
            .map(|n| {
                let all = all.clone();
                thread::spawn(move || {
                    let reactor = Reactor::new().unwrap();
                    reactor.call_when_running(move || {
                        all.wait();
                        if n == 0 {
                            raise(SIGTERM).unwrap();
                        }
                    });
                    reactor.run().unwrap();
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    });
    clean(status);
}

#[test]
fn a_second_signal_while_it_stops_ends_the_process() {
    let status = alone("a_second_signal_while_it_stops_ends_the_process", || {
        let reactor = Reactor::new().unwrap();
        reactor.add_trigger(Phase::BeforeShutdown, move || {
            reactor.call_soon(|| raise(SIGINT).unwrap());
            let (promise, never) = Deferred::<()>::new();
            std::mem::forget(promise);
            never
        });
        reactor.call_when_running(|| raise(SIGINT).unwrap());
        reactor.run().unwrap();
    });
    killed_by(status, SIGINT);
}

#[test]
fn a_second_signal_ends_a_process_whose_callback_never_returns() {
    let status = alone("a_second_signal_ends_a_process_whose_callback_never_returns", || {
        let reactor = Reactor::new().unwrap();
        reactor.call_when_running(|| {
            raise(SIGTERM).unwrap();
            raise(SIGTERM).unwrap();
            unreachable!("the first only asks, the second does");
        });
        reactor.run().unwrap();
    });
    killed_by(status, SIGTERM);
}

#[test]
fn after_the_end_signals_have_their_default_effect() {
    let status = alone("after_the_end_signals_have_their_default_effect", || {
        let reactor = Reactor::new().unwrap();
        reactor.call_when_running(|| raise(SIGTERM).unwrap());
        reactor.run().unwrap();
        raise(SIGINT).unwrap();
    });
    killed_by(status, SIGINT);
}

#[test]
fn after_a_crash_signals_have_their_default_effect_until_it_runs_again() {
    let status = alone("after_a_crash_signals_have_their_default_effect_until_it_runs_again", || {
        let reactor = Reactor::new().unwrap();
        reactor.call_when_running(move || reactor.crash());
        reactor.run().unwrap();
        reactor.call_when_running(move || raise(SIGTERM).unwrap());
        reactor.run().unwrap();
        let reactor = Reactor::new().unwrap();
        reactor.call_when_running(move || reactor.crash());
        reactor.run().unwrap();
        raise(SIGTERM).unwrap();
    });
    killed_by(status, SIGTERM);
}

#[test]
fn a_reactor_that_is_told_not_to_does_not_listen() {
    let status = alone("a_reactor_that_is_told_not_to_does_not_listen", || {
        let reactor = Reactor::new().unwrap();
        reactor.handle_signals(false);
        reactor.call_when_running(|| raise(SIGTERM).unwrap());
        reactor.run().unwrap();
    });
    killed_by(status, SIGTERM);
}

#[test]
fn listening_can_be_given_up_while_it_runs() {
    let status = alone("listening_can_be_given_up_while_it_runs", || {
        let reactor = Reactor::new().unwrap();
        reactor.call_when_running(move || {
            reactor.handle_signals(false);
            raise(SIGTERM).unwrap();
        });
        reactor.run().unwrap();
    });
    killed_by(status, SIGTERM);
}

#[test]
fn a_handler_of_the_programs_own_keeps_its_signal() {
    // REA-25: only where the default handler is in place.
    let status = alone("a_handler_of_the_programs_own_keeps_its_signal", || {
        let caught = Arc::new(AtomicUsize::new(0));
        signal_hook::flag::register_usize(SIGINT, caught.clone(), 1).unwrap();
        let reactor = Reactor::new().unwrap();
        reactor.call_when_running(move || {
            raise(SIGINT).unwrap();
            raise(SIGINT).unwrap();
            reactor.call_later(Duration::from_millis(5), || raise(SIGTERM).unwrap());
        });
        reactor.add_trigger(Phase::BeforeShutdown, {
            let caught = caught.clone();
            move || assert_eq!(caught.load(Ordering::SeqCst), 1)
        });
        reactor.run().unwrap();
        assert_eq!(caught.load(Ordering::SeqCst), 1);
        raise(SIGINT).unwrap();
    });
    clean(status);
}
