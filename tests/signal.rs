//! `green::signal`: each test is a process of its own, which sends the signals to itself. Rules UA-31, UA-32.
#![cfg(feature = "green")]
mod guard;
use guard::{guarded, logged};
use signal_hook::low_level::raise;
use std::cell::{Cell, RefCell};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::rc::Rc;
use std::time::Duration;
use twistlet::Reactor;
use twistlet::green::signal::{self, SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, Signals};
use twistlet::green::{Event, join_reactor, sleep, spawn, with_timeout, yield_now};

const IN_CHILD: &str = "TWISTLET_TEST_CHILD";

/// Runs `f` in a process of its own, which is this one called again for the one test; in the parent, how that ended.
fn alone(test: &str, f: impl FnOnce() + Send + 'static) -> Option<ExitStatus> {
    if std::env::var_os(IN_CHILD).is_some() {
        guarded(f);
        std::process::exit(0);
    }
    let mut child = Command::new(std::env::current_exe().expect("a path"));
    child.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(IN_CHILD, "1");
    Some(child.status().expect("it runs"))
}
#[track_caller]
fn clean(status: Option<ExitStatus>) {
    assert_eq!(status.expect("the parent").code(), Some(0));
}

#[test]
fn a_green_thread_waits_for_signals() {
    clean(alone("a_green_thread_waits_for_signals", || {
        let signals = Rc::new(Signals::new([SIGHUP, SIGUSR1, SIGUSR2]).expect("ours"));
        assert_eq!(signals.poll(), None);
        assert_eq!(signals.wait_timeout(Duration::from_millis(5)).expect("waited"), None);
        assert_eq!(signals.wait_timeout(Duration::ZERO).expect("asked"), None);
        // Killed while it waits, it has taken none.
        let waiting = signals.clone();
        let killed = spawn(move || Ok(waiting.wait()?));
        yield_now();
        killed.kill();
        assert!(killed.wait().is_err());
        raise(SIGUSR1).expect("sent");
        raise(SIGUSR1).expect("sent");
        raise(SIGHUP).expect("sent");
        let mut both = [signals.wait().expect("one"), signals.wait().expect("another")];
        both.sort_unstable();
        assert_eq!(both, [SIGHUP, SIGUSR1]);
        assert_eq!(signals.wait_timeout(Duration::from_millis(5)).expect("waited"), None);
        // Each gets another.
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let signals = signals.clone();
                spawn(move || Ok(signals.iter().next()))
            })
            .collect();
        yield_now();
        raise(SIGUSR2).expect("sent");
        sleep(Duration::from_millis(2));
        raise(SIGHUP).expect("sent");
        let got: Vec<_> = waiters.into_iter().map(|waiter| waiter.wait().expect("a signal")).collect();
        assert_eq!(got, [Some(SIGUSR2), Some(SIGHUP)]);
    }));
}

#[test]
fn a_handler_runs_in_a_green_thread_of_its_own_and_may_wait() {
    clean(alone("a_handler_runs_in_a_green_thread_of_its_own_and_may_wait", || {
        let runs = Rc::new(RefCell::new(Vec::new()));
        let other = Rc::new(spawn(|| sleep(Duration::from_secs(60))));
        let (noted, killed, done) = (runs.clone(), other.clone(), Event::new());
        let tell = done.clone();
        let handler = signal::on(SIGUSR1, move || {
            noted.borrow_mut().push("begun");
            sleep(Duration::from_millis(5));
            // What a handler in the loop could not do.
            killed.kill();
            while !killed.is_finished() {
                yield_now();
            }
            noted.borrow_mut().push("done");
            if !tell.ready() {
                tell.send(());
            }
        })
        .expect("ours");
        raise(SIGUSR1).expect("sent");
        sleep(Duration::from_millis(2));
        raise(SIGUSR1).expect("sent");
        done.wait().expect("it ran");
        sleep(Duration::from_millis(20));
        assert_eq!(runs.borrow().as_slice(), ["begun", "begun", "done", "done"]);
        // A failure is told, and the next one runs.
        let failing = signal::on(SIGUSR2, || panic!("boom")).expect("ours");
        raise(SIGUSR2).expect("sent");
        sleep(Duration::from_millis(20));
        assert!(logged().iter().any(|line| line.contains("boom")));
        failing.detach();
        drop(handler);
        let others = Signals::new([SIGUSR1]).expect("ours");
        raise(SIGUSR1).expect("sent");
        others.wait().expect("heard");
        assert_eq!(runs.borrow().len(), 4);
    }));
}

#[test]
fn what_is_subscribed_to_does_not_stop_the_reactor() {
    clean(alone("what_is_subscribed_to_does_not_stop_the_reactor", || {
        let reactor = Reactor::new().expect("a reactor");
        join_reactor(&reactor).expect("joined");
        let stopped_by = Rc::new(Cell::new(0));
        let noted = stopped_by.clone();
        spawn(move || {
            let signals = Signals::new([SIGTERM])?;
            for _ in 0..3 {
                // Several, and the program lives.
                raise(SIGTERM)?;
                raise(SIGTERM)?;
                assert_eq!(signals.wait()?, SIGTERM);
            }
            drop(signals);
            sleep(Duration::from_millis(2));
            // From here on they stop it as ever.
            noted.set(1);
            raise(SIGTERM)?;
            sleep(Duration::from_secs(60));
            Ok(())
        });
        reactor.run().expect("it runs");
        assert_eq!(stopped_by.get(), 1);
    }));
}

#[test]
fn the_other_signal_stops_it_still() {
    clean(alone("the_other_signal_stops_it_still", || {
        let reactor = Reactor::new().expect("a reactor");
        join_reactor(&reactor).expect("joined");
        spawn(|| {
            let _signals = Signals::new([SIGTERM])?;
            raise(SIGINT)?;
            sleep(Duration::from_secs(60));
            Ok(())
        });
        reactor.run().expect("it runs");
    }));
}

/// Subscribes twice, gives both up, and sends the signal.
fn subscribe_and_leave(which: i32) {
    let first = Signals::new([which]).expect("ours");
    let second = Signals::new([which]).expect("ours");
    drop(first);
    raise(which).expect("sent");
    assert_eq!(second.wait().expect("heard"), which);
    drop(second);
    raise(which).expect("sent");
    unreachable!("it has ended the process");
}
#[test]
fn after_the_last_subscription_a_signal_has_its_default_effect() {
    let name = "after_the_last_subscription_a_signal_has_its_default_effect";
    let status = alone(name, || subscribe_and_leave(SIGHUP));
    assert_eq!(status.expect("the parent").signal(), Some(SIGHUP));
}
#[test]
fn that_goes_for_those_that_stop_reactors_too() {
    let status = alone("that_goes_for_those_that_stop_reactors_too", || subscribe_and_leave(SIGTERM));
    assert_eq!(status.expect("the parent").signal(), Some(SIGTERM));
}

#[test]
fn a_handler_of_the_programs_own_is_called_as_well() {
    clean(alone("a_handler_of_the_programs_own_is_called_as_well", || {
        let flag = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        signal_hook::flag::register(SIGHUP, flag.clone()).expect("ours");
        let signals = Signals::new([SIGHUP]).expect("ours");
        raise(SIGHUP).expect("sent");
        assert_eq!(signals.wait().expect("heard"), SIGHUP);
        assert!(flag.swap(false, std::sync::atomic::Ordering::SeqCst));
        drop(signals);
        raise(SIGHUP).expect("sent");
        assert!(flag.load(std::sync::atomic::Ordering::SeqCst));
    }));
}

#[test]
fn sigchld_may_be_subscribed_to_and_children_are_waited_for_all_the_same() {
    clean(alone("sigchld_may_be_subscribed_to_and_children_are_waited_for_all_the_same", || {
        let signals = Signals::new([SIGCHLD]).expect("ours");
        let status = twistlet::green::process::Command::new("sh").args(["-c", "exit 3"]).status().expect("it runs");
        assert_eq!(status.code(), Some(3));
        assert_eq!(signals.wait().expect("heard"), SIGCHLD);
    }));
}

#[test]
fn those_that_cannot_be_handled_are_an_error() {
    for number in [9, 19, 11, 0, -1, 65, 1000] {
        let error = Signals::new([number]).expect_err("refused");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{number}: {error}");
    }
}

#[test]
fn nothing_is_left_of_a_subscription() {
    clean(alone("nothing_is_left_of_a_subscription", || {
        let count = || std::fs::read_dir("/proc/self/fd").expect("Linux").count();
        sleep(Duration::ZERO);
        let work = || {
            for _ in 0..20 {
                let signals = Signals::new([SIGHUP, SIGUSR1]).expect("ours");
                let _ = with_timeout(Duration::from_millis(1), || signals.wait().map(drop));
                drop(signal::on(SIGUSR2, || {}).expect("ours"));
            }
        };
        work();
        let before = count();
        work();
        assert_eq!(count(), before);
        let signals = Signals::new([SIGHUP]).expect("ours");
        Reactor::current().close();
        assert!(signals.wait().is_err());
        assert_eq!(signals.wait_timeout(Duration::ZERO).expect("asked"), None);
    }));
}
