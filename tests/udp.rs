//! UDP: datagrams received, sent and refused, and ports that stop in the middle of it.
mod rig;

use rig::{Countdown, Log, Slot, finish, logged, pump, run, watch_log};
use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::Duration;
use twistlet::error::CannotListen;
use twistlet::transport::{DatagramError, DatagramPort, DatagramProtocol, ListenAt};
use twistlet::{Address, Reactor, Shared};

type On = Box<dyn FnMut(DatagramPort)>;
type OnDatagram = Box<dyn FnMut(DatagramPort, &[u8], &Address)>;

/// A protocol made of closures.
#[derive(Default)]
struct Probe {
    started: Option<On>,
    received: Option<OnDatagram>,
    refused: Option<On>,
    stopped: Option<On>,
}
impl Probe {
    fn new() -> Self {
        Probe::default()
    }
    fn on_start(mut self, call: impl FnMut(DatagramPort) + 'static) -> Self {
        self.started = Some(Box::new(call));
        self
    }
    fn on_datagram(mut self, call: impl FnMut(DatagramPort, &[u8], &Address) + 'static) -> Self {
        self.received = Some(Box::new(call));
        self
    }
    fn on_refused(mut self, call: impl FnMut(DatagramPort) + 'static) -> Self {
        self.refused = Some(Box::new(call));
        self
    }
    fn on_stop(mut self, call: impl FnMut(DatagramPort) + 'static) -> Self {
        self.stopped = Some(Box::new(call));
        self
    }
}
impl DatagramProtocol for Probe {
    fn start_protocol(&mut self, port: DatagramPort) {
        if let Some(call) = &mut self.started {
            call(port);
        }
    }
    fn datagram_received(&mut self, port: DatagramPort, data: &[u8], from: &Address) {
        if let Some(call) = &mut self.received {
            call(port, data, from);
        }
    }
    fn connection_refused(&mut self, port: DatagramPort) {
        if let Some(call) = &mut self.refused {
            call(port);
        }
    }
    fn stop_protocol(&mut self, port: DatagramPort) {
        if let Some(call) = &mut self.stopped {
            call(port);
        }
    }
}
fn echo() -> Probe {
    Probe::new().on_datagram(|port, data, from| port.write_to(data, from).unwrap())
}
fn at(port: DatagramPort) -> SocketAddr {
    port.address().socket().expect("it is bound")
}
fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(rig::PATIENCE)).unwrap();
    socket
}
fn closed_port() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).unwrap()
}

#[test]
fn the_protocol_is_started_at_once_told_each_datagram_and_stopped_later() {
    // UDP-1, UDP-6
    let log = Log::default();
    let (started, received, stopped) = (log.clone(), log.clone(), log.clone());
    run(|reactor| {
        let probe = Probe::new()
            .on_start(move |port| started.add(format!("start {}", port.address().port().unwrap() > 0)))
            .on_datagram(move |port, data, from| {
                received.add(format!("{} {}", String::from_utf8_lossy(data), from.ip().unwrap()));
                port.write_to(data, from).unwrap();
            })
            .on_stop(move |port| {
                stopped.add(format!("stop {:?}", port.write_to("x", "127.0.0.1:9")));
                reactor.stop().unwrap();
            });
        let server = reactor.listen_udp("127.0.0.1:0", probe).unwrap();
        log.add("listening");
        let client = Probe::new().on_start(move |port| port.write_to("hello", &server.address()).unwrap()).on_datagram(
            move |port, data, from| {
                assert_eq!((data, from), (&b"hello"[..], &server.address()));
                let _ = server.stop_listening();
                let _ = port.stop_listening();
            },
        );
        reactor.listen_udp("127.0.0.1:0", client).unwrap();
    });
    assert_eq!(log.take(), ["start true", "listening", "hello 127.0.0.1", "stop Err(Gone)"]);
}

#[test]
fn a_place_that_is_taken_or_none_is_an_error_and_nothing_is_started() {
    // UDP-1
    let reactor = Reactor::new().unwrap();
    let taken = socket();
    let place = taken.local_addr().unwrap();
    for at in [place.to_string(), "example.org:53".to_owned(), "nonsense".to_owned(), "127.0.0.1:x".to_owned()] {
        let started = Rc::new(Cell::new(false));
        let mark = started.clone();
        let failure = reactor.listen_udp(&at, Probe::new().on_start(move |_| mark.set(true))).unwrap_err();
        let error = failure.check::<CannotListen>().unwrap();
        assert_eq!(error.at, at);
        assert!(failure.to_string().contains(&at), "{failure}");
        assert!(!started.get());
        assert_eq!(reactor.statistics().descriptors, 0);
    }
}

#[test]
fn a_start_that_panics_fails_the_call_and_closes_the_socket() {
    let reactor = Reactor::new().unwrap();
    let place = closed_port();
    let failure = reactor.listen_udp(place, Probe::new().on_start(|_| panic!("no"))).unwrap_err();
    assert!(failure.to_string().contains("no"));
    UdpSocket::bind(place).expect("it is free");
    assert_eq!(reactor.statistics().descriptors, 0);
}

#[test]
fn longer_datagrams_are_cut_and_empty_ones_arrive() {
    // UDP-2
    let reactor = Reactor::new().unwrap();
    let lengths = Log::default();
    let note = lengths.clone();
    let small = ListenAt::from("127.0.0.1:0").max_packet(100);
    let note_small = lengths.clone();
    let port = reactor.listen_udp("127.0.0.1:0", Probe::new().on_datagram(move |_, d, _| note.add(d.len()))).unwrap();
    let small = reactor.listen_udp(small, Probe::new().on_datagram(move |_, d, _| note_small.add(d.len()))).unwrap();
    let client = socket();
    for length in [0, 1, 8192, 8193, 60_000, 3] {
        client.send_to(&vec![7; length], at(port)).unwrap();
    }
    pump(reactor);
    assert_eq!(lengths.take(), ["0", "1", "8192", "8192", "8192", "3"]);
    client.send_to(&[7; 101], at(small)).unwrap();
    client.send_to(&[7; 99], at(small)).unwrap();
    pump(reactor);
    assert_eq!(lengths.take(), ["100", "99"]);
}

#[test]
fn a_panic_in_a_callback_is_logged_and_the_port_goes_on() {
    // UDP-2
    watch_log();
    let reactor = Reactor::new().unwrap();
    let count = Rc::new(Cell::new(0));
    let seen = count.clone();
    let probe = Probe::new().on_datagram(move |_, data, _| {
        seen.set(seen.get() + 1);
        assert_ne!(data, b"bad", "told so");
    });
    let port = reactor.listen_udp("127.0.0.1:0", probe).unwrap();
    let client = socket();
    for word in ["good", "bad", "good"] {
        client.send_to(word.as_bytes(), at(port)).unwrap();
    }
    pump(reactor);
    assert_eq!(count.get(), 3);
    let lines = logged();
    assert!(
        matches!(&lines[..], [line] if line.contains("told so") && line.contains("datagram port at 127")),
        "{lines:?}"
    );
}

#[test]
fn a_flood_lets_others_have_their_turn() {
    // UDP-2: a batch ends after 256 KiB, empty datagrams counted too.
    for (length, number) in [(8000, 26), (0, 200)] {
        let reactor = Reactor::new().unwrap();
        let log = Log::default();
        let (flood, note) = (log.clone(), log.clone());
        // It answers itself, so that its socket is never empty.
        let probe = Probe::new().on_datagram(move |port, data, from| {
            flood.add("datagram");
            port.write_to(data, from).unwrap();
        });
        let port = reactor.listen_udp("127.0.0.1:0", probe).unwrap();
        for _ in 0..number {
            port.write_to(vec![0; length], &port.address()).unwrap();
        }
        reactor.call_later(Duration::from_millis(1), move || {
            note.add("timer");
            reactor.stop().unwrap();
        });
        reactor.run().unwrap();
        assert!(log.contains("timer") && log.contains("datagram"));
    }
}

// UDP-2: tiny datagrams without end leave a connection its turns.
#[test]
fn a_flood_of_small_datagrams_costs_a_connection_little() {
    const HOPS: usize = 50;
    let (datagrams, hops) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    run(|reactor| {
        let count = datagrams.clone();
        let probe = Probe::new().on_datagram(move |port, data, from| {
            count.set(count.get() + 1);
            port.write_to(data, from).unwrap();
        });
        let port = reactor.listen_udp("127.0.0.1:0", probe).unwrap();
        for _ in 0..100 {
            port.write_to("x", &port.address()).unwrap();
        }
        let count = hops.clone();
        let ball = move |transport: twistlet::TransportRef, data: &[u8]| {
            count.set(count.get() + 1);
            if count.get() == HOPS {
                reactor.stop().unwrap();
            }
            transport.write(data);
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let far = listener.accept().unwrap().0;
        let (one, two) = (ball.clone(), ball);
        reactor.adopt_stream(near, rig::Probe::new().on_made(|t| t.write("ball")).on_data(one)).unwrap();
        reactor.adopt_stream(far, rig::Probe::new().on_data(two)).unwrap();
    });
    let each = datagrams.get() / hops.get();
    assert!((100..=2000).contains(&each), "{each} datagrams between two events of a connection");
}

#[test]
fn a_port_stops_in_the_middle_of_a_batch_and_its_address_is_free() {
    // UDP-6
    let reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (received, stopped) = (log.clone(), log.clone());
    let probe = Probe::new()
        .on_datagram(move |port, _, _| {
            received.add("datagram");
            for which in ["first", "second"] {
                let told = received.clone();
                let _ = port.stop_listening().add_callback(move |()| told.add(which));
            }
            received.add("asked");
        })
        .on_stop(move |_| stopped.add("stopped"));
    let port = reactor.listen_udp("127.0.0.1:0", probe).unwrap();
    let place = at(port);
    let client = socket();
    for _ in 0..3 {
        client.send_to(b"x", place).unwrap();
    }
    pump(reactor);
    assert_eq!(log.take(), ["datagram", "asked", "stopped", "first", "second"]);
    assert_eq!(port.address(), Address::Gone);
    assert_eq!(port.write("x"), Err(DatagramError::Gone));
    assert!(port.stop_listening().is_fired(), "harmless");
    let again = reactor.listen_udp(place, echo()).unwrap();
    assert_ne!(again, port, "a name is never given twice");
    client.send_to(b"again", place).unwrap();
    pump(reactor);
    assert_eq!(client.recv(&mut [0; 8]).unwrap(), 5);
}

#[test]
fn a_port_that_stops_in_its_start_is_stopped_later() {
    // UDP-6
    let reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (start, stop) = (log.clone(), log.clone());
    let probe = Probe::new()
        .on_start(move |port| {
            let _ = port.stop_listening();
            start.add("asked");
        })
        .on_stop(move |_| stop.add("stopped"));
    let port = reactor.listen_udp("127.0.0.1:0", probe).unwrap();
    log.add("returned");
    pump(reactor);
    assert_eq!(log.take(), ["asked", "returned", "stopped"]);
    assert_eq!(port.address(), Address::Gone);
}

#[test]
fn a_stop_that_panics_is_told_to_who_waits_or_else_logged() {
    watch_log();
    let reactor = Reactor::new().unwrap();
    let listen = || reactor.listen_udp("127.0.0.1:0", Probe::new().on_stop(|_| panic!("in the end"))).unwrap();
    let outcome = Slot::default();
    let told = outcome.clone();
    let _ = listen().stop_listening().add_errback(move |failure| told.set(failure.to_string()));
    pump(reactor);
    assert!(outcome.get().contains("in the end"));
    listen();
    assert!(logged().is_empty());
    reactor.close();
    assert!(logged().iter().any(|line| line.contains("in the end")));
}

#[test]
fn the_end_of_the_reactor_stops_the_protocol_and_closes_the_socket() {
    let log = Log::default();
    let reactor = Reactor::new().unwrap();
    let told = log.clone();
    let port = reactor.listen_udp("127.0.0.1:0", Probe::new().on_stop(move |_| told.add("stopped"))).unwrap();
    let place = at(port);
    reactor.close();
    assert_eq!(log.take(), ["stopped"]);
    assert_eq!(port.address(), Address::Gone);
    UdpSocket::bind(place).expect("it is free");
}

#[test]
fn what_cannot_be_sent_is_a_typed_error() {
    // UDP-4
    let reactor = Reactor::new().unwrap();
    let port = reactor.listen_udp("127.0.0.1:0", echo()).unwrap();
    let invalid = |text: &str| Err(DatagramError::InvalidAddress { text: text.to_owned() });
    assert_eq!(port.write_to("x", "example.org:53"), invalid("example.org:53"));
    assert_eq!(port.write_to("x", "[::1]:53"), invalid("[::1]:53"));
    assert_eq!(port.write_to("x", &Address::Unix(None)), invalid("a socket without a name"));
    assert_eq!(port.write_to(vec![0; 70_000], "127.0.0.1:9"), Err(DatagramError::TooLong { len: 70_000 }));
    assert_eq!(port.write("x"), Err(DatagramError::NotConnected));
    // Nobody listens there: unconnected ports are not told, and go on.
    port.write_to("x", closed_port()).unwrap();
    pump(reactor);
    port.write_to("x", closed_port()).unwrap();
    let denied = port.write_to("x", "255.255.255.255:9").unwrap_err();
    assert_eq!(denied.kind(), std::io::ErrorKind::PermissionDenied, "{denied}");
}

#[test]
fn a_connected_port_sends_to_its_peer_and_hears_nobody_else() {
    // UDP-5
    let (friend, stranger) = (socket(), socket());
    let reactor = Reactor::new().unwrap();
    let log = Log::default();
    let note = log.clone();
    let probe = Probe::new().on_datagram(move |_, data, _| note.add(String::from_utf8_lossy(data)));
    let port = reactor.listen_udp("0.0.0.0:0", probe).unwrap();
    let here = SocketAddr::new([127, 0, 0, 1].into(), at(port).port());
    stranger.send_to(b"early", here).unwrap();
    friend.send_to(b"early friend", here).unwrap();
    assert_eq!(port.peer(), None);
    let to = friend.local_addr().unwrap();
    port.connect(to).unwrap();
    assert_eq!(port.peer(), Some(Address::Udp(to)));
    assert_eq!(port.address(), Address::Udp(here), "the interface is known now");
    assert_eq!(port.connect(to), Err(DatagramError::AlreadyConnected));
    assert_eq!(port.connect(stranger.local_addr().unwrap()), Err(DatagramError::AlreadyConnected));
    port.write("one").unwrap();
    port.write_to("two", to).unwrap();
    let other = port.write_to("three", stranger.local_addr().unwrap()).unwrap_err();
    assert_eq!(other, DatagramError::OtherPeer { peer: to.to_string() });
    stranger.send_to(b"late", here).unwrap();
    friend.send_to(b"late friend", here).unwrap();
    pump(reactor);
    assert_eq!(log.take(), ["early friend", "late friend"]);
    let mut buffer = [0; 8];
    for word in ["one", "two"] {
        let n = friend.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..n], word.as_bytes());
    }
}

#[test]
fn a_refused_datagram_is_told_later_and_only_on_connected_ports() {
    // UDP-3, UDP-4; N: never inside of write
    run(|reactor| {
        let inside = Rc::new(Cell::new(false));
        let (write, refused) = (inside.clone(), inside.clone());
        let countdown = Countdown::new(reactor, 3);
        let probe = Probe::new()
            .on_start(move |port| {
                port.connect(closed_port()).unwrap();
                port.write("anybody?").unwrap();
            })
            .on_refused(move |port| {
                assert!(!refused.get(), "not while a method of the port is on the stack");
                countdown.done();
                // The second of two finds the refusal of the first, at once.
                inside.set(true);
                for _ in 0..2 {
                    port.write("anybody?").unwrap();
                }
                write.set(false);
            });
        reactor.listen_udp("127.0.0.1:0", probe).unwrap();
    });
}

#[test]
fn a_port_is_made_of_a_socket_of_the_callers() {
    // LIS-12
    let reactor = Reactor::new().unwrap();
    let mine = socket();
    let copy = mine.try_clone().unwrap();
    let port = reactor.listen_udp(copy, echo()).unwrap();
    let client = socket();
    assert_eq!(at(port), mine.local_addr().unwrap());
    client.send_to(b"hello", at(port)).unwrap();
    pump(reactor);
    assert_eq!(client.recv(&mut [0; 8]).unwrap(), 5);
    let _ = port.stop_listening();
    pump(reactor);
    // Still bound, and the reactor is not woken by what it receives.
    client.send_to(b"hello", mine.local_addr().unwrap()).unwrap();
    pump(reactor);
    assert_eq!(mine.recv(&mut [0; 8]).unwrap(), 5);
}

#[test]
fn ipv6_works_alike() {
    let reactor = Reactor::new().unwrap();
    let Ok(port) = reactor.listen_udp("[::1]:0", echo()) else { return eprintln!("skipped: no IPv6 here") };
    let client = UdpSocket::bind("[::1]:0").unwrap();
    client.set_read_timeout(Some(rig::PATIENCE)).unwrap();
    client.send_to(b"hello", at(port)).unwrap();
    pump(reactor);
    assert_eq!(client.recv(&mut [0; 8]).unwrap(), 5);
    assert!(matches!(port.write_to("x", "127.0.0.1:9"), Err(DatagramError::InvalidAddress { .. })));
}

#[test]
fn a_destructor_may_use_the_port_it_goes_with() {
    struct Last(Option<DatagramPort>, Rc<Cell<bool>>);
    impl DatagramProtocol for Last {
        fn start_protocol(&mut self, port: DatagramPort) {
            self.0 = Some(port);
        }
        fn datagram_received(&mut self, _: DatagramPort, _: &[u8], _: &Address) {}
    }
    impl Drop for Last {
        fn drop(&mut self) {
            let port = self.0.expect("started");
            assert_eq!(port.write_to("x", "127.0.0.1:9"), Err(DatagramError::Gone));
            let _ = port.stop_listening();
            let reactor = Reactor::current();
            let _ = reactor.listen_udp("127.0.0.1:0", echo());
            self.1.set(true);
        }
    }
    let reactor = Reactor::new().unwrap();
    let dropped = Rc::new(Cell::new(false));
    let port = reactor.listen_udp("127.0.0.1:0", Last(None, dropped.clone())).unwrap();
    let _ = port.stop_listening();
    pump(reactor);
    assert!(dropped.get());
    finish_idle(reactor);
}
fn finish_idle(reactor: Reactor) {
    reactor.call_soon(move || reactor.stop().unwrap());
    finish(reactor);
}

#[test]
fn a_shared_protocol_is_called_from_outside_and_told_when_they_left() {
    let reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (received, stopped) = (log.clone(), log.clone());
    let probe = Probe::new()
        .on_datagram(move |port, data, from| {
            received.add(String::from_utf8_lossy(data));
            port.write_to(data, from).unwrap();
        })
        .on_stop(move |_| stopped.add("stopped"));
    let shared = Shared::new(probe);
    let port = reactor.listen_udp("127.0.0.1:0", shared.clone()).unwrap();
    let client = socket();
    client.send_to(b"one", at(port)).unwrap();
    pump(reactor);
    assert_eq!(client.recv(&mut [0; 8]).unwrap(), 3);
    let (mut outer, note) = (shared.clone(), log.clone());
    let from = Address::Udp(client.local_addr().unwrap());
    let _ = shared.call(move |_| {
        outer.datagram_received(port, b"two", &from);
        note.add("inside");
    });
    assert_eq!(client.recv(&mut [0; 8]).unwrap(), 3);
    let _ = port.stop_listening();
    pump(reactor);
    assert_eq!(log.take(), ["one", "inside", "two", "stopped"]);
}
