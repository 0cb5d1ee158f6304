//! Processes on terminals, their output as a Deferred, and as connections. Rules PRC-9, PRC-10, END-8.
mod rig;
use rig::{Log, Probe, Slot, logged, run, watch_log};
use std::cell::RefCell;
use std::process::Output;
use std::rc::Rc;
use std::time::{Duration, Instant};
use twistlet::error::ReactorError;
use twistlet::transport::process::{
    ChildFd, Command, ExitReason, OutputTooLong, ProcessError, ProcessProtocol, ProcessRef, Signal, SpawnError, output,
    output_limited, value,
};
use twistlet::{Cancelled, ConnectError, ConnectionClosed, Deferred, Failure, Reactor, Result};

fn sh(script: &str) -> Command {
    Command::new("sh").args(["-c", script])
}
/// Runs a reactor until a Deferred fires.
#[track_caller]
fn outcome<T: 'static>(make: impl FnOnce(&Reactor) -> Deferred<T>) -> Result<T> {
    let slot: Rc<RefCell<Option<Result<T>>>> = Rc::default();
    run(|reactor| {
        let into = slot.clone();
        let _ = make(&reactor).add_both(move |outcome| {
            *into.borrow_mut() = Some(outcome);
            reactor.call_soon(move || reactor.stop());
        });
    });
    slot.take().expect("it fired")
}

type Talk = Box<dyn FnMut(ProcessRef, &str)>;
/// A terminal's other side.
struct Screen {
    text: String,
    talk: Talk,
    log: Log,
    reason: Slot<ExitReason>,
}
impl ProcessProtocol for Screen {
    fn child_data_received(&mut self, process: ProcessRef, fd: i32, data: &[u8]) {
        assert_eq!(fd, 1);
        self.text.push_str(&String::from_utf8_lossy(data));
        (self.talk)(process, &self.text);
    }
    fn child_connection_lost(&mut self, _: ProcessRef, fd: i32) {
        self.log.add(format_args!("lost {fd}"));
    }
    fn process_ended(&mut self, _: ProcessRef, reason: &ExitReason) {
        self.log.add(self.text.replace("\r\n", "|"));
        self.reason.set(*reason);
        let _ = Reactor::current().stop();
    }
}
#[track_caller]
fn on_terminal(command: Command, talk: impl FnMut(ProcessRef, &str) + 'static) -> (Vec<String>, ExitReason) {
    let (log, reason) = (Log::default(), Slot::default());
    run(|reactor| {
        let screen = Screen { text: String::new(), talk: Box::new(talk), log: log.clone(), reason: reason.clone() };
        reactor.spawn_process(screen, command).expect("it starts");
    });
    (log.take(), reason.get())
}

// PRC-9
#[test]
fn a_child_on_a_terminal_has_one_of_its_own_with_a_size_that_can_change() {
    let script = "trap 'stty size; exit 3' WINCH; tty -s && stty size && echo err >&2; while :; do sleep 0.01; done";
    let mut resized = false;
    let (log, reason) = on_terminal(sh(script).terminal(30, 100), move |process, text| {
        if text.contains("err") && !std::mem::replace(&mut resized, true) {
            process.set_terminal_size(40, 120).expect("a terminal");
        }
    });
    assert_eq!(log, ["lost 1", "30 100|err|40 120|"]);
    assert_eq!(reason, ExitReason::Failed { code: 3 });
}

// PRC-9: what is written is typed, Ctrl-C included; the child's session is its own.
#[test]
fn what_is_written_to_a_terminal_is_typed() {
    let mut typed = 0;
    let (log, reason) =
        on_terminal(sh("stty -echo; echo ready; cat; sleep 60").terminal(24, 80), move |process, text| {
            if typed == 0 && text.contains("ready") {
                typed = 1;
                process.write("hello\n");
            } else if typed == 1 && text.contains("hello") {
                typed = 2;
                process.write("\x03");
            }
        });
    assert_eq!(log, ["lost 1", "ready|hello|"]);
    assert_eq!(reason.signal(), Some(Signal::INT));
}

// PRC-9: closing it hangs it up.
#[test]
fn closing_a_terminal_hangs_the_child_up() {
    let (log, reason) = on_terminal(sh("echo ready; exec cat").terminal(24, 80), |process, text| {
        if text.contains("ready") {
            process.lose_connection();
        }
    });
    assert_eq!(log[0], "lost 1");
    assert_eq!(reason.signal(), Some(Signal::HUP));
}

// PRC-9
#[test]
fn a_terminal_excludes_other_descriptors_and_pipes_have_no_size() {
    run(|reactor| {
        struct Idle;
        impl ProcessProtocol for Idle {
            fn process_ended(&mut self, _: ProcessRef, _: &ExitReason) {
                let _ = Reactor::current().stop();
            }
        }
        let both = sh("true").terminal(24, 80).child_fd(3, ChildFd::Read);
        let failure = reactor.spawn_process(Idle, both).expect_err("one or the other");
        assert_eq!(failure.check::<SpawnError>().expect("typed").kind(), std::io::ErrorKind::InvalidInput);
        let process = reactor.spawn_process(Idle, "true").expect("it starts");
        assert_eq!(process.set_terminal_size(1, 1), Err(ProcessError::NoTerminal));
    });
}

// PRC-10
#[test]
fn output_gives_both_streams_and_the_status_as_std_does() {
    for script in ["echo out; echo err >&2; exit 3", "kill -9 $$", "cat", "printf 'a\\0b'", "true"] {
        let ours: Output = outcome(|reactor| output(reactor, sh(script))).expect("it runs");
        let theirs = std::process::Command::new("sh").args(["-c", script]).output().expect("it runs");
        assert_eq!(ours, theirs, "{script}");
    }
    let missing = outcome(|reactor| output(reactor, "/nonexistent")).expect_err("nothing there");
    assert!(missing.is::<SpawnError>());
}

// PRC-10: an endless output costs no more than was allowed, and its child is killed.
#[test]
fn output_has_a_limit() {
    let failure = outcome(|reactor| output_limited(reactor, sh("exec yes"), 100_000)).expect_err("endless");
    assert_eq!(failure.check::<OutputTooLong>(), Some(&OutputTooLong { limit: 100_000 }));
    let exact = outcome(|reactor| output_limited(reactor, sh("printf 12345"), 5)).expect("just so");
    assert_eq!(exact.stdout, b"12345");
}

// PRC-10
#[test]
fn value_is_the_exit_code_or_a_failure_with_the_signal() {
    assert_eq!(outcome(|reactor| value(reactor, sh("echo dropped; exit 4"))).expect("it runs"), 4);
    let killed = outcome(|reactor| value(reactor, sh("kill -TERM $$"))).expect_err("a signal");
    assert_eq!(killed.check::<ExitReason>().and_then(|reason| reason.signal()), Some(Signal::TERM));
}

#[test]
fn cancelling_or_stopping_the_reactor_kills_what_nobody_waits_for() {
    let id = Slot::<u32>::default();
    let found = id.clone();
    let cancelled = outcome(move |reactor| {
        let deferred = output(reactor, sh("echo $$ >&2; exec sleep 60"));
        let canceller = deferred.canceller();
        reactor.call_later(Duration::from_millis(50), move || canceller.cancel());
        drop(found);
        deferred
    });
    assert!(cancelled.expect_err("cancelled").is::<Cancelled>());
    let stopped: Rc<RefCell<Option<Failure>>> = Rc::default();
    run(|reactor| {
        let into = stopped.clone();
        let _ = output(&reactor, sh("exec sleep 60"))
            .add_errback(move |failure| {
                *into.borrow_mut() = Some(failure.clone());
                Err::<Output, _>(failure)
            })
            .add_both(|_| ());
        reactor.call_soon(move || reactor.stop());
    });
    assert_eq!(stopped.take().expect("told").check::<ReactorError>(), Some(&ReactorError::Stopped));
}

/// A connection to a child: what the probe's `on_lost` was told.
#[track_caller]
fn talk(command: Command, probe: Probe) -> ConnectionClosed {
    let reason = Slot::default();
    run(|reactor| {
        let _ = reactor.connect_process(command, probe.until_lost(reactor, &reason)).add_both(|_| ());
    });
    reason.get()
}

// END-8
#[test]
fn a_child_is_a_connection_with_its_exit_status_as_the_reason() {
    let log = Log::default();
    let (made, heard) = (log.clone(), log.clone());
    let probe = Probe::new()
        .on_made(move |transport| {
            made.add(transport.peer().to_string().starts_with("process "));
            transport.write("hello");
            transport.lose_write_connection();
        })
        .on_data(move |_, data| heard.add(String::from_utf8_lossy(data)));
    assert_eq!(talk(sh("tr a-z A-Z"), probe), ConnectionClosed::Done);
    assert_eq!(log.take(), ["true", "HELLO"]);
    let ExitedWith(reason) = talk(sh("exit 7"), Probe::new()).into();
    assert_eq!(reason, ExitReason::Failed { code: 7 });
    let ExitedWith(reason) = talk(sh("kill -9 $$"), Probe::new()).into();
    assert_eq!(reason.signal(), Some(Signal::KILL));
    let missing = outcome(|reactor| reactor.connect_process("/nonexistent", Probe::new())).expect_err("nothing there");
    assert!(matches!(missing.check(), Some(ConnectError::Failed(failure)) if failure.is::<SpawnError>()), "{missing}");
}
struct ExitedWith(ExitReason);
impl From<ConnectionClosed> for ExitedWith {
    #[track_caller]
    fn from(reason: ConnectionClosed) -> Self {
        match &reason {
            ConnectionClosed::Failed(failure) => ExitedWith(*failure.check().unwrap_or_else(|| panic!("{reason:?}"))),
            other => panic!("{other:?}"),
        }
    }
}

// END-8: what it still has to say does not stop it, and what it was told arrives.
#[test]
fn lose_connection_lets_the_child_finish_and_terminates_it_when_it_does_not() {
    let probe = Probe::new().on_made(|transport| {
        transport.write(vec![b'x'; 300_000]);
        transport.lose_connection();
        assert!(transport.is_disconnecting());
    });
    assert_eq!(
        talk(sh("[ $(tee /dev/stderr 2>/dev/null | wc -c) = 300000 ]; r=$?; yes | head -c 300000; exit $r"), probe),
        ConnectionClosed::Done
    );
    let since = Instant::now();
    let deaf = sh("trap '' TERM; while :; do sleep 0.01; done").grace(Duration::from_millis(30));
    let ExitedWith(reason) = talk(deaf, Probe::new().on_made(|transport| transport.lose_connection())).into();
    assert_eq!(reason.signal(), Some(Signal::KILL));
    assert!(since.elapsed() < Duration::from_secs(4));
}

#[test]
fn aborting_a_connection_kills_its_child() {
    let probe = Probe::new().on_made(|transport| transport.abort_connection());
    assert_eq!(talk(sh("exec sleep 60"), probe), ConnectionClosed::Aborted);
}

#[test]
fn a_panic_ends_the_connection_and_the_child() {
    watch_log();
    let probe = Probe::new().on_data(|_, _| panic!("no"));
    let reason = talk(sh("echo x; cat"), probe);
    assert!(matches!(reason, ConnectionClosed::Failed(failure) if failure.is_panic()));
    assert_eq!(logged().len(), 1);
}

// END-8
#[test]
fn what_a_connected_child_complains_of_is_logged() {
    watch_log();
    assert_eq!(talk(sh("echo one >&2; echo two >&2"), Probe::new()), ConnectionClosed::Done);
    let lines = logged();
    assert!(lines.len() == 2 && lines[0].ends_with("says: one") && lines[1].starts_with("WARN: sh ("), "{lines:?}");
    assert_eq!(talk(sh("echo one >&2").child_fd(2, ChildFd::Null), Probe::new()), ConnectionClosed::Done);
    assert!(logged().is_empty());
}

// END-8: the child closes its input and talks on.
#[test]
fn a_child_that_closes_its_input_is_still_heard() {
    let log = Log::default();
    let (lost, heard) = (log.clone(), log.clone());
    let probe = Probe::new()
        .on_write_lost(move |_| lost.add("write lost"))
        .on_data(move |_, data| heard.add(String::from_utf8_lossy(data).trim()));
    assert_eq!(talk(sh("exec 0<&-; sleep 0.05; echo still here"), probe), ConnectionClosed::Done);
    assert_eq!(log.take(), ["write lost", "still here"]);
}
