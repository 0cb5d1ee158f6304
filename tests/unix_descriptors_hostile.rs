//! Descriptors over UNIX sockets from those who mean no good: by the thousand, to who expects none, when there is no room, at the
//! worst moment. None is left open. Rules UNX-4, UNX-5.
mod certs;
mod rig;

use rig::{Log, Probe, logged, open_files, pump, watch_log};
use std::cell::Cell;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use twistlet::protocols::policies::{LimitTotalConnections, ThrottlingFactory, TimeoutFactory, TrafficLoggingFactory};
use twistlet::{ConnectionClosed, Factory, Protocol, Reactor, TransportRef};

/// Descriptors are the process's: one test at a time counts them, from its beginning until its reactor has ended.
struct Alone(#[allow(dead_code)] MutexGuard<'static, ()>);
fn alone() -> Alone {
    static ALONE: Mutex<()> = Mutex::new(());
    Alone(ALONE.lock().unwrap_or_else(PoisonError::into_inner))
}
impl Drop for Alone {
    fn drop(&mut self) {
        Reactor::current().close();
    }
}

/// A socket in which so many messages with so many descriptors wait, each with a byte; the other end is closed.
fn flooded(messages: usize, descriptors: usize) -> UnixStream {
    let (near, far) = UnixStream::pair().unwrap();
    let script = "import socket, sys\ns = socket.socket(fileno=0)\nfor n in range(int(sys.argv[1])):\n  \
                  socket.send_fds(s, [b'x'], [2] * int(sys.argv[2]))\n";
    let mut python = Command::new("python3");
    python.args(["-c", script, &messages.to_string(), &descriptors.to_string()]).stdin(Stdio::from(OwnedFd::from(far)));
    assert!(python.status().unwrap().success());
    drop(python);
    near
}

type OnDescriptor = Box<dyn FnMut(TransportRef, OwnedFd)>;
/// Takes descriptors, closes them, and notes everything.
struct Taker(Log, Option<OnDescriptor>);
impl Taker {
    fn new(log: &Log) -> Self {
        Taker(log.clone(), None)
    }
    fn then(log: &Log, call: impl FnMut(TransportRef, OwnedFd) + 'static) -> Self {
        Taker(log.clone(), Some(Box::new(call)))
    }
}
impl Protocol for Taker {
    fn data_received(&mut self, _: TransportRef, data: &[u8]) {
        self.0.add(format_args!("data {}", data.len()));
    }
    fn file_descriptor_received(&mut self, transport: TransportRef, descriptor: OwnedFd) {
        self.0.add("descriptor");
        if let Some(call) = &mut self.1 {
            call(transport, descriptor);
        }
    }
    fn connection_lost(&mut self, _: TransportRef, reason: &ConnectionClosed) {
        self.0.add(format_args!("lost {reason}"));
    }
}
fn adopt(reactor: Reactor, socket: UnixStream, protocol: impl Protocol + 'static) -> TransportRef {
    let mut protocol = Some(protocol);
    reactor.adopt_connection(socket, twistlet::from_fn(move |_| protocol.take())).unwrap().unwrap()
}
fn count(lines: &[String], what: &str) -> usize {
    lines.iter().filter(|line| *line == what).count()
}

#[test]
fn what_arrives_is_closed_at_exec() {
    let _alone = alone();
    let reactor = Reactor::new().unwrap();
    let seen = Rc::new(Cell::new(0));
    let marked = seen.clone();
    let look = move |_, descriptor: OwnedFd| {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd())).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let closes = u32::from_str_radix(flags, 8).unwrap() & 0o2_000_000 != 0;
        marked.set(marked.get() + usize::from(closes));
    };
    adopt(reactor, flooded(2, 3), Taker::then(&Log::default(), look));
    pump(reactor);
    assert_eq!(seen.get(), 6);
}

#[test]
fn a_thousand_for_a_protocol_that_expects_none_are_closed_and_do_not_flood_the_log() {
    let _alone = alone();
    watch_log();
    let reactor = Reactor::new().unwrap();
    let before = open_files();
    let bytes = Rc::new(Cell::new(0));
    let seen = bytes.clone();
    adopt(reactor, flooded(8, 250), Probe::new().on_data(move |_, data| seen.set(seen.get() + data.len())));
    pump(reactor);
    assert_eq!((bytes.get(), open_files()), (8, before));
    let lines = logged();
    assert!((1..=20).contains(&lines.len()), "{} lines", lines.len());
}

#[test]
fn a_paused_protocol_gets_them_when_it_goes_on_and_none_is_left_when_it_does_not() {
    let _alone = alone();
    let reactor = Reactor::new().unwrap();
    let before = open_files();
    for end in ["resume", "close", "abort", "reactor"] {
        let log = Log::default();
        let transport = adopt(reactor, flooded(2, 250), Taker::new(&log));
        transport.pause_producing();
        pump(reactor);
        assert!(log.take().is_empty());
        match end {
            "resume" => transport.resume_producing(),
            "close" => transport.lose_connection(),
            "abort" => transport.abort_connection(),
            _ => reactor.close(),
        }
        if end != "reactor" {
            pump(reactor);
            assert_eq!(open_files(), before, "{end}");
        } else {
            assert!(open_files() < before);
        }
        let lines = log.take();
        assert_eq!(count(&lines, "descriptor"), if end == "resume" { 500 } else { 0 }, "{end}");
        assert!(lines.last().unwrap().starts_with("lost"));
    }
}

#[test]
fn whatever_is_done_at_the_first_none_is_left() {
    let _alone = alone();
    watch_log();
    let reactor = Reactor::new().unwrap();
    let before = open_files();
    type Deed = fn(TransportRef, OwnedFd);
    let deeds: [(&str, Deed, usize); 5] = [
        ("panic", |_, _| panic!("on purpose"), 1),
        ("abort", |transport, _| transport.abort_connection(), 250),
        ("close", |transport, _| transport.lose_connection(), 250),
        ("pause", |transport, _| transport.pause_producing(), 250),
        ("give back", |transport, descriptor| transport.send_file_descriptor(descriptor).unwrap_or(()), 500),
    ];
    for (name, deed, expected) in deeds {
        let log = Log::default();
        let transport = adopt(reactor, flooded(2, 250), Taker::then(&log, deed));
        pump(reactor);
        let lines = log.take();
        assert_eq!(count(&lines, "descriptor"), expected, "{name}: {lines:?}");
        transport.abort_connection();
        pump(reactor);
        assert_eq!(open_files(), before, "{name}");
    }
}

#[test]
fn another_protocol_that_takes_over_gets_the_rest() {
    let _alone = alone();
    let reactor = Reactor::new().unwrap();
    let before = open_files();
    let (first, second) = (Log::default(), Log::default());
    let log = second.clone();
    let switch = move |transport: TransportRef, _| {
        transport.switch_protocol(Taker::new(&log), "");
    };
    adopt(reactor, flooded(1, 100), Taker::then(&first, switch));
    pump(reactor);
    assert_eq!((count(&first.take(), "descriptor"), count(&second.take(), "descriptor")), (1, 99));
    assert_eq!(open_files(), before);
}

#[test]
fn policies_hand_them_on_and_leave_none() {
    let _alone = alone();
    let reactor = Reactor::new().unwrap();
    let before = open_files();
    let log = Log::default();
    let take = {
        let log = log.clone();
        move || Taker::new(&log)
    };
    let wrapped: Vec<Box<dyn Factory>> = vec![
        Box::new(TrafficLoggingFactory::new(std::io::sink(), take.clone())),
        Box::new(TimeoutFactory::half_an_hour(take.clone())),
        Box::new(ThrottlingFactory::new(take.clone())),
        Box::new(LimitTotalConnections::new(5, TrafficLoggingFactory::new(std::io::sink(), take))),
    ];
    for factory in wrapped {
        reactor.adopt_connection(flooded(2, 250), factory).unwrap();
        pump(reactor);
        let lines = log.take();
        assert_eq!((count(&lines, "descriptor"), open_files()), (500, before), "{lines:?}");
    }
}

#[test]
fn those_that_come_under_tls_are_closed() {
    let _alone = alone();
    watch_log();
    let reactor = Reactor::new().unwrap();
    let before = open_files();
    let log = Log::default();
    // Both what came with the bytes after which TLS began, and what comes when it should be there.
    let begin = |transport: TransportRef, _| transport.start_tls(certs::server());
    let transport = adopt(reactor, flooded(3, 250), Taker::then(&log, begin));
    pump(reactor);
    transport.abort_connection();
    pump(reactor);
    let lines = log.take();
    assert!(count(&lines, "descriptor") <= 250, "{lines:?}");
    assert_eq!(open_files(), before);
}

#[test]
fn without_room_for_them_some_are_lost_and_the_connection_lives() {
    let test = "without_room_for_them_some_are_lost_and_the_connection_lives";
    if std::env::var_os("TWISTLET_TEST_ALONE").is_none() {
        let script = "ulimit -n 60; exec \"$@\"";
        let me = std::env::current_exe().unwrap();
        let mut child = Command::new("sh");
        child.args(["-c", script, "sh"]).arg(me).args([test, "--exact", "--nocapture", "--test-threads=1"]);
        let output = child.env("TWISTLET_TEST_ALONE", "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    watch_log();
    let reactor = Reactor::new().unwrap();
    let before = open_files();
    let (log, kept) = (Log::default(), Rc::new(std::cell::RefCell::new(Vec::new())));
    let keep = kept.clone();
    let taker = Taker::then(&log, move |_, descriptor| keep.borrow_mut().push(descriptor));
    let transport = adopt(reactor, flooded(3, 50), taker);
    transport.pause_producing();
    pump(reactor);
    transport.resume_producing();
    pump(reactor);
    let lines = log.take();
    assert_eq!(lines.iter().filter(|line| line.starts_with("data")).count(), 3, "{lines:?}");
    assert!((1..60).contains(&kept.borrow().len()), "{}", kept.borrow().len());
    assert!(logged().iter().any(|line| line.contains("are lost")));
    kept.borrow_mut().clear();
    assert_eq!(open_files(), before);
    reactor.close();
}

// UNX-4: a user may have only so many descriptors on their way; who takes none holds the others up, no more.
#[test]
fn more_on_their_way_than_one_user_may_have_wait_until_there_are_fewer() {
    let test = "more_on_their_way_than_one_user_may_have_wait_until_there_are_fewer";
    if std::env::var_os("TWISTLET_TEST_ALONE").is_none() {
        // The system lets root have any number; and others may not be allowed to reach this program.
        let script = r#"
            ulimit -n 64
            [ "$(id -u)" = 0 ] || exec "$@"
            other="setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all --"
            $other test -x "$1" || { echo "not shown here: 1 passed"; exit; }
            exec $other "$@""#;
        let me = std::env::current_exe().unwrap();
        let mut child = Command::new("sh");
        child.args(["-c", script, "sh"]).arg(me).args([test, "--exact", "--nocapture", "--test-threads=1"]);
        let output = child.env("TWISTLET_TEST_ALONE", "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let reactor = Reactor::new().unwrap();
    reactor.handle_signals(false);
    let (near, far) = UnixStream::pair().unwrap();
    let (sent, came) = (Log::default(), Log::default());
    let far = adopt(reactor, far, Taker::new(&came));
    far.pause_producing();
    let near = adopt(reactor, near, Taker::new(&sent));
    let all = 90;
    for _ in 0..all / 10 {
        for _ in 0..10 {
            near.send_file_descriptor(std::fs::File::open("/dev/null").unwrap()).unwrap();
        }
        near.write([b'x'; 10]);
        pump(reactor);
    }
    assert!(near.is_connected() && near.unsent() > 0, "{:?}, {} unsent", sent.take(), near.unsent());
    far.resume_producing();
    let since = std::time::Instant::now();
    while count(&came.all(), "descriptor") < all {
        assert!(since.elapsed() < rig::PATIENCE, "{:?} {:?}", sent.take(), came.take());
        reactor.call_later(std::time::Duration::from_millis(5), move || reactor.crash());
        reactor.run().unwrap();
    }
    assert_eq!((near.unsent(), near.is_connected()), (0, true));
    reactor.close();
}
