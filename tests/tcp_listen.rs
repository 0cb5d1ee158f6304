//! Listening ports: starting, accepting, stopping, starting again, adopted sockets, ports in use.
mod rig;

use rig::{Countdown, Log, Probe, Slot, address, dial, logged, pump, run, watch_log};
use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use twistlet::error::{CannotListen, PortError, ReactorError};
use twistlet::transport::ListenAt;
use twistlet::{Address, Factory, Protocol, Reactor, Shared, TransportRef, from_fn};

struct Echo;
impl Protocol for Echo {
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        transport.write(data);
    }
}

/// Records its life; `start` and `stop` may panic.
struct Recorder {
    log: Log,
    panic_in: &'static str,
}
impl Recorder {
    fn new(log: &Log) -> Self {
        Recorder { log: log.clone(), panic_in: "" }
    }
    fn note(&self, what: &str) {
        self.log.add(what);
        assert_ne!(self.panic_in, what, "as told");
    }
}
impl Factory for Recorder {
    fn build_protocol(&mut self, _: &Address) -> Option<Box<dyn Protocol>> {
        self.note("build");
        Some(Box::new(Echo))
    }
    fn start_factory(&mut self) {
        self.note("start");
    }
    fn stop_factory(&mut self) {
        self.note("stop");
    }
}
impl Drop for Recorder {
    fn drop(&mut self) {
        self.log.add("dropped");
    }
}

#[track_caller]
fn echo(reactor: Reactor, to: std::net::SocketAddr) {
    let mut client = dial(to);
    client.write_all(b"x").unwrap();
    pump(reactor);
    let mut back = [0];
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"x");
}

#[test]
fn listening_starts_the_factory_at_once_and_builds_nothing_yet() {
    // LIS-1, LIS-2
    let log = Log::default();
    let reactor = Reactor::new().unwrap();
    let port = reactor.listen_tcp("127.0.0.1:0", Recorder::new(&log)).unwrap();
    assert_eq!(log.take(), ["start"]);
    assert_ne!(port.address().port(), Some(0), "port 0 is any free one");
    let _client = dial(address(port));
    assert!(log.all().is_empty(), "accepted in a turn of the loop");
    pump(reactor);
    assert_eq!(log.take(), ["build"]);
    reactor.close();
    assert_eq!(log.take(), ["stop", "dropped"]);
    assert_eq!(port.address(), Address::Gone);
}

#[test]
fn a_port_in_use_is_an_error_at_once_and_the_factory_is_not_started() {
    // T05, LIS-1
    let log = Log::default();
    let reactor = Reactor::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    let failure = reactor.listen_tcp(at, Recorder::new(&log)).unwrap_err();
    let error = failure.check::<CannotListen>().expect("told as such");
    assert_eq!((error.at.as_str(), error.source.kind()), (&*at.to_string(), ErrorKind::AddrInUse));
    assert_eq!(log.take(), ["dropped"]);
    assert_eq!(reactor.statistics().descriptors, 0);
}

#[test]
fn what_is_no_place_is_refused_when_it_is_used() {
    let reactor = Reactor::new().unwrap();
    for place in ["nonsense", "host:http", "example.org:80", "1.2.3.4", "", ":", "127.0.0.1:99999"] {
        let failure = reactor.listen_tcp(place, || Echo).unwrap_err();
        let error = failure.check::<CannotListen>().unwrap_or_else(|| panic!("{place}: {failure}"));
        assert_eq!(error.source.kind(), ErrorKind::InvalidInput, "{place}");
    }
    // Not an address of this machine.
    let failure = reactor.listen_tcp("192.0.2.1:0", || Echo).unwrap_err();
    assert_eq!(failure.check::<CannotListen>().unwrap().source.kind(), ErrorKind::AddrNotAvailable);
}

#[test]
fn places_are_made_of_what_programs_have() {
    let reactor = Reactor::new().unwrap();
    let places = [
        ListenAt::from(0),
        ListenAt::from("localhost:0"),
        ListenAt::from(":0"),
        ListenAt::from(String::from("127.0.0.1:0")).backlog(5),
        ListenAt::from(("127.0.0.1", 0)),
        ListenAt::from(std::net::SocketAddr::from(([127, 0, 0, 1], 0))),
        ListenAt::from(TcpListener::bind("127.0.0.1:0").unwrap()),
    ];
    for place in places {
        let text = place.to_string();
        let port = reactor.listen_tcp(place, || Echo).unwrap_or_else(|error| panic!("{text}: {error}"));
        echo(reactor, ([127, 0, 0, 1], port.address().port().unwrap()).into());
    }
}

#[test]
fn ipv6_is_served_where_there_is_any() {
    let reactor = Reactor::new().unwrap();
    if TcpListener::bind("[::1]:0").is_err() {
        return; // A machine without IPv6.
    }
    let port = reactor.listen_tcp("[::1]:0", || Echo).unwrap();
    assert!(port.address().ip().unwrap().is_ipv6());
    echo(reactor, address(port));
}

#[test]
fn stopping_refuses_new_connections_keeps_the_old_and_tells_the_factory() {
    // LIS-8
    let log = Log::default();
    let reactor = Reactor::new().unwrap();
    let port = reactor.listen_tcp("127.0.0.1:0", Recorder::new(&log)).unwrap();
    let at = address(port);
    let mut client = dial(at);
    pump(reactor);
    let stopped = log.clone();
    port.stop_listening().add_callback(move |()| stopped.add("stopped"));
    log.add("asked");
    pump(reactor);
    assert_eq!(log.take(), ["start", "build", "asked", "stop", "stopped"]);
    assert_eq!(TcpStream::connect(at).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    client.write_all(b"still").unwrap();
    pump(reactor);
    let mut back = [0; 5];
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"still");
}

#[test]
fn stopping_twice_shares_one_end_and_a_third_time_is_harmless() {
    // LIS-9
    let log = Log::default();
    let reactor = Reactor::new().unwrap();
    let port = reactor.listen_tcp("127.0.0.1:0", Recorder::new(&log)).unwrap();
    for n in ["first", "second"] {
        let log = log.clone();
        port.stop_listening().add_callback(move |()| log.add(n));
    }
    pump(reactor);
    assert_eq!(log.take(), ["start", "stop", "first", "second"]);
    assert!(port.stop_listening().try_take().is_ok_and(|outcome| outcome.is_ok()));
}

#[test]
fn a_stopped_port_can_listen_again_at_its_place() {
    // LIS-10
    let log = Log::default();
    let reactor = Reactor::new().unwrap();
    let port = reactor.listen_tcp("127.0.0.1:0", Recorder::new(&log)).unwrap();
    let before = address(port);
    assert_eq!(port.start_listening().unwrap_err().check(), Some(&PortError::AlreadyListening));
    let _ = port.stop_listening();
    assert_eq!(
        port.start_listening().unwrap_err().check(),
        Some(&PortError::AlreadyListening),
        "not before it has stopped"
    );
    pump(reactor);
    port.start_listening().unwrap();
    echo(reactor, address(port));
    let fixed = reactor.listen_tcp(before, || Echo).expect("the number is free, since it was asked for as 0");
    let _ = fixed.stop_listening();
    pump(reactor);
    fixed.start_listening().unwrap();
    assert_eq!(address(fixed), before);
    echo(reactor, before);
    assert_eq!(log.take(), ["start", "stop", "start", "build"]);
}

#[test]
fn a_port_that_is_taken_meanwhile_says_so_when_it_is_to_listen_again() {
    let reactor = Reactor::new().unwrap();
    let at = rig::closed_port();
    let port = reactor.listen_tcp(at, || Echo).unwrap();
    let _ = port.stop_listening();
    pump(reactor);
    let _taken = TcpListener::bind(at).unwrap();
    assert!(port.start_listening().unwrap_err().is::<CannotListen>());
    // And it is as before.
    assert!(port.stop_listening().try_take().is_ok());
}

#[test]
fn what_stop_factory_panics_with_is_what_stopping_fails_with_and_the_port_can_start_again() {
    // T02
    let log = Log::default();
    let reactor = Reactor::new().unwrap();
    let factory = Recorder { log: log.clone(), panic_in: "stop" };
    let port = reactor.listen_tcp("127.0.0.1:0", factory).unwrap();
    let told = log.clone();
    port.stop_listening().add_both(move |outcome| told.add(outcome.is_err_and(|failure| failure.is_panic())));
    pump(reactor);
    assert_eq!(log.take(), ["start", "stop", "true"]);
    port.start_listening().unwrap();
    echo(reactor, address(port));
    watch_log();
    reactor.close();
    assert_eq!(log.take(), ["start", "build", "stop", "dropped"]);
    assert_eq!(logged().len(), 1, "nobody waited for it");
}

#[test]
fn a_factory_that_cannot_start_leaves_no_port() {
    let log = Log::default();
    let reactor = Reactor::new().unwrap();
    let at = rig::closed_port();
    let factory = Recorder { log: log.clone(), panic_in: "start" };
    assert!(reactor.listen_tcp(at, factory).unwrap_err().is_panic());
    assert_eq!(log.take(), ["start", "dropped"]);
    assert_eq!(reactor.statistics().descriptors, 0);
    reactor.listen_tcp(at, || Echo).expect("the place is free again");
}

#[test]
fn a_factory_shared_by_three_ports_starts_once_and_stops_after_the_last() {
    // T04, PRO-3
    let log = Log::default();
    let reactor = Reactor::new().unwrap();
    let shared = Shared::new(Recorder::new(&log));
    let ports: Vec<_> = (0..3).map(|_| reactor.listen_tcp("127.0.0.1:0", shared.clone()).unwrap()).collect();
    assert_eq!(log.take(), ["start"]);
    for port in &ports {
        assert!(log.all().is_empty());
        let _ = port.stop_listening();
        pump(reactor);
    }
    assert_eq!(log.take(), ["stop"]);
    ports[0].start_listening().unwrap();
    assert_eq!(log.take(), ["start"]);
    echo(reactor, address(ports[0]));
    assert_eq!(log.take(), ["build"]);
}

#[test]
fn a_factory_somebody_is_inside_of_declines_and_says_so() {
    watch_log();
    let log = Log::default();
    let reactor = Reactor::new().unwrap();
    let shared = Shared::new(Recorder::new(&log));
    let port = reactor.listen_tcp("127.0.0.1:0", shared.clone()).unwrap();
    let mut client = dial(address(port));
    let inside = shared.borrow();
    pump(reactor);
    drop(inside);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert_eq!(logged().len(), 1);
    echo(reactor, address(port));
}

#[test]
fn one_of_three_whose_connection_made_panics_is_closed_and_the_others_are_served() {
    // N10, LIS-7
    watch_log();
    let reactor = Reactor::new().unwrap();
    let count = Rc::new(Cell::new(0));
    let port = reactor
        .listen_tcp("127.0.0.1:0", move || {
            count.set(count.get() + 1);
            let n = count.get();
            Probe::new()
                .on_made(move |_| assert_ne!(n, 2, "the second"))
                .on_data(|transport, data| transport.write(data))
        })
        .unwrap();
    let mut clients = [dial(address(port)), dial(address(port)), dial(address(port))];
    for client in &mut clients {
        client.write_all(b"x").unwrap();
    }
    pump(reactor);
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.read(&mut [0]).unwrap_or(0), usize::from(n != 1), "client {n}");
    }
    assert_eq!(logged().len(), 1);
}

#[test]
fn a_panic_in_build_protocol_closes_that_connection_only() {
    watch_log();
    let reactor = Reactor::new().unwrap();
    let first = Cell::new(true);
    let port = reactor
        .listen_tcp("127.0.0.1:0", move || {
            assert!(!first.replace(false), "the first");
            Echo
        })
        .unwrap();
    let mut client = dial(address(port));
    pump(reactor);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    let lines = logged();
    assert!(lines.len() == 1 && lines[0].contains("the factory of the port at 127.0.0.1:"), "{lines:?}");
    echo(reactor, address(port));
}

#[test]
fn a_factory_may_decline() {
    // LIS-4, PRO-4
    let reactor = Reactor::new().unwrap();
    let port = reactor.listen_tcp("127.0.0.1:0", from_fn(|_| None::<Echo>)).unwrap();
    let mut client = dial(address(port));
    pump(reactor);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert_eq!(reactor.statistics().descriptors, 1, "the port");
}

#[test]
fn stopping_inside_build_protocol_still_serves_that_connection() {
    // LIS-10
    let reactor = Reactor::new().unwrap();
    let name = Slot::default();
    let of = name.clone();
    let port = reactor
        .listen_tcp("127.0.0.1:0", move || {
            let port: twistlet::ListeningPort = of.get();
            let _ = port.stop_listening();
            Echo
        })
        .unwrap();
    name.set(port);
    let at = address(port);
    let mut client = dial(at);
    client.write_all(b"x").unwrap();
    pump(reactor);
    let mut back = [0];
    client.read_exact(&mut back).unwrap();
    assert_eq!(TcpStream::connect(at).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn an_adopted_socket_is_served_and_stays_the_caller_s() {
    // LIS-12
    let reactor = Reactor::new().unwrap();
    let ours = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = ours.local_addr().unwrap();
    let port = reactor.listen_tcp(ours.try_clone().unwrap(), || Echo).unwrap();
    assert_eq!(address(port), at);
    echo(reactor, at);
    let _ = port.stop_listening();
    pump(reactor);
    // Listening goes on in the copy, and no event of it reaches the reactor.
    let _client = dial(at);
    pump(reactor);
    ours.set_nonblocking(true).unwrap();
    ours.accept().expect("the connection waits here");
    assert_eq!(port.start_listening().unwrap_err().check(), Some(&PortError::Gone));
}

#[test]
fn two_ports_share_a_number_when_both_say_so() {
    let reactor = Reactor::new().unwrap();
    let first = reactor.listen_tcp(ListenAt::from("127.0.0.1:0").reuse_port(), || Echo).unwrap();
    let at = address(first);
    assert!(reactor.listen_tcp(at, || Echo).is_err());
    let second = reactor.listen_tcp(ListenAt::from(at).reuse_port(), || Echo).unwrap();
    assert_eq!(address(second), at);
    for _ in 0..8 {
        echo(reactor, at);
    }
}

#[test]
fn three_hundred_who_wait_are_all_accepted() {
    // LIS-3: more than a batch
    let mut clients = Vec::new();
    run(|reactor| {
        let made = Countdown::new(reactor, 300);
        let port = reactor
            .listen_tcp("127.0.0.1:0", move || {
                let made = made.clone();
                Probe::new().on_made(move |_| made.done())
            })
            .unwrap();
        clients = (0..300).map(|_| dial(address(port))).collect();
    });
}

#[test]
fn after_the_reactor_s_end_ports_mean_nothing() {
    let reactor = Reactor::new().unwrap();
    let port = reactor.listen_tcp("127.0.0.1:0", || Echo).unwrap();
    reactor.close();
    assert_eq!(port.start_listening().unwrap_err().check(), Some(&PortError::Gone));
    assert!(port.stop_listening().try_take().is_ok_and(|outcome| outcome.is_ok()));
    assert_eq!(reactor.listen_tcp("127.0.0.1:0", || Echo).unwrap_err().check(), Some(&ReactorError::Closed));
    let next = Reactor::new().unwrap();
    let other = next.listen_tcp("127.0.0.1:0", || Echo).unwrap();
    assert_ne!(port, other);
    assert_eq!(port.address(), Address::Gone);
}
