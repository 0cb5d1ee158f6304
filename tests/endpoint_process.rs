//! Child processes and standard input and output as endpoints.
mod rig;
mod support;

use rig::{Log, Probe, Slot, run};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command as Program, Stdio};
use twistlet::endpoint::{ClientEndpoint, ProcessClientEndpoint};
use twistlet::transport::process::{Command, ExitReason};
use twistlet::{Address, ConnectError, ConnectionClosed, Deferred, Factory, Protocol, Reactor, TransportRef, from_fn};

fn shell(script: &'static str) -> impl Fn() -> Command {
    move || Command::new("sh").args(["-c", script])
}
/// Why the connection with a script ends, and what it has said.
fn talk(script: &'static str, input: &'static str) -> (ConnectionClosed, String) {
    let (reason, said) = (Slot::default(), Log::default());
    let (lost, heard) = (reason.clone(), said.clone());
    run(move |reactor| {
        let endpoint = ProcessClientEndpoint::new(&reactor, shell(script));
        let probe = Probe::new()
            .on_made(move |transport| {
                transport.write(input);
                transport.lose_write_connection();
            })
            .on_data(move |_, data| heard.add(String::from_utf8_lossy(data)))
            .on_read_lost(|_| {})
            .until_lost(reactor, &lost);
        let _ = endpoint.connect_protocol(probe);
    });
    (reason.get(), said.take().concat())
}

#[test]
fn a_child_s_output_is_received_and_its_exit_is_the_end() {
    // END-8
    assert_eq!(talk("tr a-z A-Z", "hello"), (ConnectionClosed::Done, "HELLO".into()));
    let (reason, _) = talk("cat > /dev/null; exit 3", "x");
    assert!(
        matches!(&reason, ConnectionClosed::Failed(why) if why.check() == Some(&ExitReason::Failed { code: 3 })),
        "{reason:?}"
    );
}

#[test]
fn each_connect_starts_a_child_and_fires_after_connection_made() {
    let log = Log::default();
    let noted = log.clone();
    run(move |reactor| {
        let endpoint = ProcessClientEndpoint::new(&reactor, shell("exec cat"));
        let count = rig::Countdown::new(reactor, 2);
        for _ in 0..2 {
            let (asked, made, fired, count) = (noted.clone(), noted.clone(), noted.clone(), count.clone());
            let factory = from_fn(move |peer| {
                asked.add(matches!(peer, Address::Process(_)));
                let made = made.clone();
                Some(Probe::new().on_made(move |_| made.add("made")))
            });
            let _ = endpoint.connect(factory).add_callback(move |transport| {
                fired.add("fired");
                transport.lose_connection();
                count.done();
            });
            assert!(!noted.contains("made"), "not before a later turn");
        }
    });
    let log = log.take();
    assert_eq!(log.iter().filter(|line| **line == "true").count(), 2);
    assert_eq!(log[..3], ["true", "made", "fired"]);
}

struct Counted(Log, bool);
impl Factory for Counted {
    fn build_protocol(&mut self, _: &Address) -> Option<Box<dyn Protocol>> {
        self.1.then(|| Box::new(Probe::new().on_made(|transport| transport.lose_connection())) as _)
    }
    fn start_factory(&mut self) {
        self.0.add("start");
    }
    fn stop_factory(&mut self) {
        self.0.add("stop");
    }
}

#[test]
fn the_factory_is_stopped_when_the_child_has_gone() {
    // END-2
    for builds in [true, false] {
        let log = Log::default();
        let factory = Counted(log.clone(), builds);
        let reactor = Reactor::new().unwrap();
        reactor.handle_signals(false);
        let _ = ProcessClientEndpoint::new(&reactor, shell("exec cat")).connect(factory).add_both(|_| ());
        assert_eq!(log.all(), ["start"]);
        reactor.call_later(std::time::Duration::from_millis(300), move || reactor.stop());
        reactor.run().unwrap();
        assert_eq!(log.take(), ["start", "stop"], "builds: {builds}");
    }
}

#[test]
fn what_keeps_a_child_from_being_a_connection_fails_the_connect() {
    // END-3, END-4, END-5
    rig::watch_log();
    let errors = Log::default();
    let noted = errors.clone();
    run(move |reactor| {
        let cat = || ProcessClientEndpoint::new(&reactor, shell("exec cat"));
        let all: Vec<Deferred<TransportRef>> = vec![
            ProcessClientEndpoint::new(&reactor, || Command::new("/no/such/program")).connect(Probe::new),
            ProcessClientEndpoint::new(&reactor, || panic!("command")).connect(Probe::new),
            cat().connect(from_fn(|_| None::<Probe>)),
            cat().connect(|| -> Probe { panic!("factory") }),
            cat().connect(|| Probe::new().on_made(|_| panic!("made"))),
        ];
        let count = rig::Countdown::new(reactor, all.len());
        for (n, connecting) in all.into_iter().enumerate() {
            let (noted, count) = (noted.clone(), count.clone());
            let _ = connecting.add_both(move |outcome| {
                let failure = outcome.expect_err("no connection");
                noted.add(format!("{n} {}", failure.check::<ConnectError>().expect("a ConnectError")));
                count.done();
            });
        }
    });
    let mut errors = errors.take();
    errors.sort();
    let expected = [
        "cannot start /no/such/program",
        "panicked: command",
        "built no protocol",
        "panicked: factory",
        "panicked: made",
    ];
    assert_eq!(errors.len(), expected.len());
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.contains(expected), "{error}");
    }
}
#[test]
fn a_cancelled_connect_fails_with_cancelled() {
    let error = Slot::default();
    let (seen, seen_at_once) = (error.clone(), error.clone());
    run(move |reactor| {
        let connecting = ProcessClientEndpoint::new(&reactor, shell("exec cat")).connect(Probe::new);
        let canceller = connecting.canceller();
        let _ = connecting.add_both(move |outcome| seen.set(outcome.expect_err("cancelled")));
        canceller.cancel();
        assert!(seen_at_once.is_set());
        // Its end is waited for: nothing of it is left then.
        reactor.call_later(std::time::Duration::from_millis(300), move || reactor.stop());
    });
    assert!(matches!(error.get().check(), Some(ConnectError::Cancelled)), "{}", error.get());
}

#[test]
fn a_server_on_standard_input_and_output_serves_who_has_started_it() {
    // STD-1
    let mut server = Program::new(support::example("haproxy_server"))
        .arg("haproxy:stdio:")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = server.stdin.take().unwrap();
    input.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\nGET / HTTP/1.0\r\n\r\n").unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line == "you are 192.0.2.7:1")));
    let _ = server.kill();
    let _ = server.wait();
}
