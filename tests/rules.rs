//! Rules of green threads, timeouts and events that no other file's subject are; and what becomes of a child of fork.
#![cfg(feature = "green")]
mod guard;

use guard::{Trace, in_callback, panic_of, passes};
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;
use twistlet::error::Killed;
use twistlet::green::net::wait_readable;
use twistlet::green::proc;
use twistlet::green::{
    Event, GreenState, Timeout, current, fail_after, is_timeout, sleep, spawn, spawn_after_local, with_timeout,
    with_timeout_or, yield_now,
};
use twistlet::{Failure, Reactor, TimedOut};

const SHORT: Duration = Duration::from_millis(3);
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_local_start_needs_its_spawner() {
    // GT-03
    passes(|| {
        let trace = Trace::new();
        let (lost, kept) = (trace.clone(), trace.clone());
        let gone = spawn(move || Ok(spawn_after_local(SHORT, move || lost.note("its spawner has ended"))));
        let orphan = gone.wait()?;
        let stays = spawn(move || {
            let child = spawn_after_local(SHORT, move || kept.note("its spawner waits"));
            child.wait()
        });
        stays.wait()?;
        assert!(orphan.wait().expect_err("never started").is::<Killed>());
        assert_eq!(trace.take(), ["its spawner waits"]);
        Ok(())
    });
}

#[test]
fn a_link_that_was_taken_back_is_not_called() {
    // GT-11
    passes(|| {
        let trace = Trace::new();
        let (first, second) = (trace.clone(), trace.clone());
        let thread = spawn(yield_now);
        let link = thread.link(move |_| first.note("taken back"));
        let other = thread.link(move |_| second.note("stays"));
        assert!(thread.unlink(link) && !thread.unlink(link));
        thread.wait()?;
        assert_eq!(trace.take(), ["stays"]);
        assert_ne!(link, other);
        Ok(())
    });
}

#[test]
fn kill_and_wait_returns_when_the_victim_has_ended() {
    // GT-14, UA-07, UA-08
    passes(|| {
        let trace = Trace::new();
        let seen = trace.clone();
        let victim = spawn(move || {
            let _cleaned = seen.on_drop("cleaned up");
            sleep(LONG);
        });
        yield_now();
        assert!(matches!(victim.state(), GreenState::Parked { .. }));
        victim.kill_and_wait()?;
        assert_eq!((trace.take(), victim.state()), (vec!["cleaned up".to_owned()], GreenState::Killed));
        assert!(victim.wait().expect_err("its outcome stays").is::<Killed>());

        let tough = spawn(|| {
            for _ in 0..3 {
                let _ = std::panic::catch_unwind(|| sleep(LONG));
            }
            Ok("swallowed it")
        });
        yield_now();
        assert!(!tough.kill_and_wait_timeout(Duration::ZERO)?, "it has not ended yet");
        assert!(tough.kill_and_wait_timeout(LONG)?);
        assert_eq!((tough.state(), tough.wait()?), (GreenState::Finished, "swallowed it"));
        Ok(())
    });
}

#[test]
fn whoever_is_late_gets_the_failure_or_the_value_that_was_given() {
    // TO-02, TO-10, GT-26
    passes(|| {
        assert_eq!(with_timeout_or(SHORT, 1, || 2), 2);
        let late = with_timeout_or(SHORT, 1, || {
            sleep(LONG);
            2
        });
        assert_eq!(late, 1);
        // An outer deadline is not taken for the inner one's.
        let outer = with_timeout(SHORT, || with_timeout_or(LONG, (), || sleep(LONG)));
        assert!(outer.is_err());
        let late = fail_after(SHORT, Failure::msg("too late"), || {
            sleep(LONG);
            Ok(())
        });
        assert_eq!(late.expect_err("late").to_string(), "too late");
        let own: twistlet::Result = fail_after(LONG, Failure::msg("too late"), || Err(Failure::msg("its own")));
        assert_eq!(own.expect_err("failed").to_string(), "its own");
        Ok(())
    });
}

#[test]
fn a_timeout_can_be_cancelled_and_started_again_inside() {
    // TO-01, TO-05, TO-06
    passes(|| {
        let timeout = Timeout::new(SHORT);
        assert!(!timeout.pending());
        let done = timeout.run(|timeout| {
            assert!(timeout.pending());
            timeout.cancel();
            timeout.cancel();
            sleep(SHORT * 2);
            assert!(!timeout.pending());
            timeout.start();
            let twice = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| timeout.start()));
            assert!(twice.is_err(), "it is pending");
            sleep(LONG);
        });
        assert_eq!(done, Err(TimedOut(SHORT)));
        assert!(timeout.run(|_| sleep(LONG)).is_err(), "it may be used again");
        assert!(Timeout::new(None).run(|_| sleep(SHORT)).is_ok());
        Ok(())
    });
}

#[test]
fn one_question_finds_every_timeout() {
    // TO-16
    assert!(is_timeout(&TimedOut(SHORT).into()));
    assert!(is_timeout(&io::Error::from(io::ErrorKind::TimedOut).into()));
    assert!(is_timeout(&io::Error::from(io::ErrorKind::WouldBlock).into()));
    assert!(!is_timeout(&io::Error::from(io::ErrorKind::NotFound).into()));
    assert!(!is_timeout(&Failure::msg("timed out, it says")));
}

#[test]
fn an_event_tells_values_from_failures() {
    // EV-02, EV-03
    let event = Event::<u32>::new();
    assert!(!event.has_result() && !event.has_exception() && event.poll_result().is_none());
    event.send(1);
    assert_eq!((event.has_result(), event.poll_result(), event.poll_exception()), (true, Some(1), None));
    event.reset();
    event.send_exception(Failure::msg("no"));
    assert!(event.has_exception() && event.poll_result().is_none());
    assert_eq!(event.poll_exception().map(|failure| failure.to_string()).as_deref(), Some("no"));
}

#[test]
fn a_green_thread_knows_itself() {
    passes(|| {
        let thread = spawn(|| {
            let me = current().expect("a green thread");
            me.set_name("Ada");
            Ok((me.id(), current().and_then(|me| me.name()), me.is_current()))
        });
        let id = thread.id();
        assert_eq!(thread.wait()?, (id, Some("Ada".into()), true));
        Ok(())
    });
}

#[test]
fn procs_killed_together_before_they_began_never_run() {
    // UA-07, D7
    passes(|| {
        let trace = Trace::new();
        let procs: Vec<_> = (0..3)
            .map(|n| {
                let trace = trace.clone();
                proc::spawn(move || trace.note(n))
            })
            .collect();
        proc::kill_all(procs.clone());
        assert!(
            proc::wait_all_trapped(procs).iter().all(|outcome| outcome.as_ref().is_err_and(|why| why.is::<Killed>()))
        );
        assert!(trace.take().is_empty());
        Ok(())
    });
}

#[test]
fn linking_to_the_current_one_in_the_main_loop_panics() {
    // SL-11
    let texts = in_callback(|| [panic_of(|| drop(proc::spawn_link(|| ()))), panic_of(|| drop(proc::current()))]);
    assert!(texts.iter().all(|text| text.contains("outside of a green thread")), "{texts:?}");
}

#[test]
fn a_wait_that_ends_in_time_leaves_no_timer() {
    // GTC-17, HB-43
    passes(|| {
        let (near, mut far) = UnixStream::pair()?;
        let writer = spawn(move || {
            far.write_all(b"x")?;
            Ok(far)
        });
        wait_readable(&near, Some(LONG))?;
        assert_eq!(Reactor::current().statistics().timers, 0);
        drop(writer.wait()?);
        Ok(())
    });
}

/// The test below, in a process of its own: others would be in the middle of something when it forks.
const IN_CHILD: &str = "TWISTLET_TEST_FORK";

#[test]
fn a_child_of_fork_is_refused_the_loop() {
    // UA-30, RS-37
    if std::env::var_os(IN_CHILD).is_none() {
        let this = std::env::current_exe().expect("this program");
        let output = Command::new(this)
            .args(["--exact", "a_child_of_fork_is_refused_the_loop", "--nocapture", "--test-threads=1"])
            .env(IN_CHILD, "1")
            .output()
            .expect("started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    sleep(SHORT); // the loop runs
    // SAFETY: the child only looks at the reactor, and leaves by `_exit`.
    match unsafe { libc::fork() } {
        0 => {
            let waited = std::panic::catch_unwind(|| sleep(SHORT));
            let told = waited.err().is_some_and(|payload| guard::text(&*payload).contains("child of fork"));
            let again = std::panic::catch_unwind(yield_now).is_err();
            // SAFETY: ends the child, without destructors.
            unsafe { libc::_exit(if told && again { 0 } else { 1 }) }
        }
        child => {
            assert!(child > 0, "{}", io::Error::last_os_error());
            let mut status = 0;
            // SAFETY: a child of this process, and room for its status.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "the child was not refused: {status}");
            sleep(SHORT); // the parent's goes on
        }
    }
}
