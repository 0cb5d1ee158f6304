//! TLS on every kind of wire: echo, order of events, what is agreed on, certificates, sessions, closing, back-pressure.
mod certs;
mod rig;
mod witness;

use certs::{authority, client, client_of, server};
use rig::run;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use twistlet::testing::{Clock, Pump, StringTransport, connect};
use twistlet::transport::tls::{ClientConfig, ServerConfig, Side, TlsProtocol, TlsVersion, wrap_factory};
use twistlet::{ConnectionClosed, Producer, Protocol, PullProducer, TransportRef};
use witness::{Record, Witness};

/// Both sides in memory.
fn pair_of(
    client: Side,
    near: impl Protocol + 'static,
    server: &ServerConfig,
    far: impl Protocol + 'static,
) -> (Pump, Clock) {
    let clock = Clock::new();
    (connect(TlsProtocol::new(client, near), TlsProtocol::new(server, far), &clock), clock)
}
fn pair(near: impl Protocol + 'static, far: impl Protocol + 'static) -> (Pump, Clock) {
    pair_of(client().named("localhost"), near, &server(), far)
}

#[test]
fn what_was_written_before_the_handshake_is_echoed_over_tcp_and_told_in_order() {
    // TLS-2, TLS-5, TLS-16
    let (near, far) = (Record::default(), Record::default());
    let (seen, seen_far) = (near.clone(), far.clone());
    run(move |reactor| {
        let port = reactor.listen_tls("127.0.0.1:0", &server(), move || Witness::echo(&far)).expect("a port");
        let at = ("localhost", port.address().port().expect("a port"));
        reactor.connect_tls(at, client(), move || {
            Witness::new(&near)
                .on_made(|transport| {
                    assert!(transport.is_secure() && transport.is_handshaking() && transport.tls_info().is_none());
                    transport.write("hello");
                    assert_eq!(transport.unsent(), 5);
                })
                .on_secure(|transport| assert!(transport.is_secure() && !transport.is_handshaking()))
                .on_data(|transport, _| transport.lose_connection())
                .on_lost(move |_| drop(reactor.stop()))
        });
    });
    assert_eq!(seen.events(), ["made", "secure", "data", "lost"]);
    assert_eq!(seen.text(), "hello");
    assert_eq!(seen.reason(), Some(ConnectionClosed::Done));
    assert_eq!(seen_far.events(), ["made", "secure", "data", "read lost", "lost"]);
    assert_eq!(seen_far.reason(), Some(ConnectionClosed::Done));
}

#[test]
fn it_works_in_memory_and_inside_itself() {
    // TLS-1
    let (near, far) = (Record::default(), Record::default());
    let inner = |record: &Record| TlsProtocol::new(server(), Witness::echo(record));
    let clock = Clock::new();
    let outer_client = TlsProtocol::new(
        client().named("localhost"),
        TlsProtocol::new(client().named("example.org"), Witness::new(&near).on_made(|transport| transport.write("x"))),
    );
    let pump = connect(outer_client, TlsProtocol::new(server(), inner(&far)), &clock);
    pump.flush();
    assert_eq!((near.text().as_str(), far.text().as_str()), ("x", "x"));
    near.transport().lose_connection();
    pump.flush();
    assert_eq!((near.reason(), far.reason()), (Some(ConnectionClosed::Done), Some(ConnectionClosed::Done)));
}

#[test]
fn unix_sockets_carry_it_too() {
    let path = std::env::temp_dir().join(format!("twistlet-tls-{}", std::process::id()));
    let record = Record::default();
    let seen = record.clone();
    run(move |reactor| {
        reactor
            .listen_unix(&path, wrap_factory(server(), || Witness::echo(&Record::default())))
            .expect("a place to listen");
        reactor.connect_unix(
            &path,
            wrap_factory(client().named("localhost"), move || {
                Witness::new(&record)
                    .on_made(|transport| transport.write("by path"))
                    .on_data(|transport, _| transport.lose_connection())
                    .on_lost(move |_| drop(reactor.stop()))
            }),
        );
    });
    assert_eq!((seen.text().as_str(), seen.reason()), ("by path", Some(ConnectionClosed::Done)));
}

#[test]
fn what_was_agreed_on_is_known_when_the_handshake_is_done() {
    // TLS-5: version, ALPN, SNI, the peer's certificates
    let identity = authority().issue(&["client"]);
    let (near, far) = (Record::default(), Record::default());
    let client = client().alpn(["imap", "smtp"]).client_certificate(&identity.chain, &identity.key).expect("a key");
    let server = server().alpn(["smtp"]).require_client_certificate(&authority().root).expect("roots");
    let (pump, _) = pair_of(
        client.named("localhost"),
        Witness::new(&near).on_secure(|transport| {
            let info = transport.tls_info().expect("secure");
            assert_eq!((info.alpn(), info.server_name()), (Some(&b"smtp"[..]), None));
            assert_eq!((info.version(), info.peer_certificates().len()), (TlsVersion::Tls13, 1));
            assert!(info.cipher_suite().starts_with("TLS13_"), "{info:?}");
        }),
        &server,
        Witness::new(&far).on_secure(|transport| {
            let info = transport.tls_info().expect("secure");
            assert_eq!((info.alpn(), info.server_name()), (Some(&b"smtp"[..]), Some("localhost")));
            assert_eq!((info.peer_certificates().len(), info.is_resumed()), (1, false));
        }),
    );
    pump.flush();
    assert!(near.has("secure") && far.has("secure"), "{:?} {:?}", near.reason(), far.reason());
}
#[test]
fn a_client_certificate_may_be_optional_and_a_name_an_address() {
    let server = server().ask_client_certificate(&authority().root).expect("roots");
    let far = Record::default();
    let (pump, _) = pair_of(
        client().named("127.0.0.1"),
        Witness::new(&Record::default()),
        &server,
        Witness::new(&far).on_secure(|transport| {
            let info = transport.tls_info().expect("secure");
            assert_eq!((info.peer_certificates().len(), info.server_name()), (0, None), "no SNI for addresses");
        }),
    );
    pump.flush();
    assert!(far.has("secure"));
}
#[test]
fn a_server_shows_the_certificate_of_the_name_it_is_asked_for() {
    let one = authority().issue(&["one.example"]);
    let wild = authority().issue(&["*.two.example"]);
    let server = server().certificate_for("one.example", &one.chain, &one.key).expect("a pair");
    let server = server.certificate_for("*.two.example", &wild.chain, &wild.key).expect("a pair");
    for (name, goes) in [
        ("one.example", true),
        ("x.two.example", true),
        ("localhost", true),
        ("x.y.two.example", false),
        ("three.example", false),
    ] {
        let near = Record::default();
        let (pump, _) = pair_of(client().named(name), Witness::new(&near), &server, Witness::new(&Record::default()));
        pump.flush();
        assert_eq!(near.has("secure"), goes, "{name}: {:?}", near.reason());
    }
}
#[test]
fn sessions_are_resumed_unless_one_does_not_want_it() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let (client, server) = (client_of(version), server());
        let resumed = |client: &ClientConfig, server: &ServerConfig| {
            let (near, seen) = (Record::default(), Rc::new(Cell::new(None)));
            let mark = seen.clone();
            let (pump, _) = pair_of(
                client.named("localhost"),
                Witness::new(&near).on_secure(move |transport| {
                    let info = transport.tls_info().expect("secure");
                    mark.set(Some(info.is_resumed()));
                    assert_eq!(info.peer_certificates().len(), 1, "known in both cases");
                }),
                server,
                Witness::new(&Record::default()).on_secure(|transport| transport.lose_connection()),
            );
            pump.flush();
            seen.get().expect("secure")
        };
        assert!(!resumed(&client, &server));
        assert!(resumed(&client, &server), "{version:?}");
        assert!(!resumed(&client.clone().without_resumption(), &server));
        let once = server.clone().without_resumption();
        assert!(!resumed(&client_of(version), &once));
        let client = client_of(version);
        assert!(!resumed(&client, &once) && !resumed(&client, &once));
    }
}

#[test]
fn data_goes_on_coming_after_lose_connection_until_the_peer_is_done() {
    // TLS-7: "server that called loseConnection still receives the client's whole payload"
    const MUCH: usize = 900_000;
    let far = Record::default();
    let (pump, _) = pair(
        Witness::new(&Record::default()).on_secure(|transport| transport.write(vec![7; MUCH])),
        Witness::new(&far).on_secure(|transport| {
            transport.write("bye");
            transport.lose_connection();
        }),
    );
    pump.flush();
    assert_eq!(far.data().len(), MUCH);
    assert_eq!(far.reason(), Some(ConnectionClosed::Done));
}
#[test]
fn closing_before_the_handshake_aborts_unless_something_was_written() {
    // TLS-8
    let (near, far) = (Record::default(), Record::default());
    let (pump, _) = pair(
        Witness::new(&near).on_made(|transport| {
            transport.write("last words");
            transport.lose_connection();
            assert!(transport.is_disconnecting());
        }),
        Witness::new(&far),
    );
    pump.flush();
    assert_eq!((far.text().as_str(), near.reason()), ("last words", Some(ConnectionClosed::Done)));

    let near = Record::default();
    let (pump, _) = pair(Witness::new(&near).on_made(TransportRef::lose_connection), Witness::new(&Record::default()));
    pump.flush();
    assert_eq!(near.reason(), Some(ConnectionClosed::Aborted));
}
#[test]
fn half_a_close_lets_the_other_half_go_on() {
    // The request is over; the answer comes, in pieces, and its end.
    let (near, far) = (Record::default(), Record::default());
    let (pump, _) = pair(
        Witness::new(&near).on_secure(|transport| {
            transport.write("question");
            transport.lose_write_connection();
        }),
        Witness::new(&far).on_read_lost(|transport| {
            transport.write("answer, ");
            transport.call_later(Duration::ZERO, move || {
                transport.write("and more");
                transport.lose_connection();
            });
        }),
    );
    pump.flush();
    assert_eq!(near.events(), ["made", "secure", "write lost", "data", "read lost", "lost"]);
    assert_eq!((far.text().as_str(), near.text().as_str()), ("question", "answer, and more"));
    assert_eq!((near.reason(), far.reason()), (Some(ConnectionClosed::Done), Some(ConnectionClosed::Done)));
}
#[test]
fn an_abort_ends_both_sides_at_once() {
    // TLS-11
    let (near, far) = (Record::default(), Record::default());
    let (pump, _) = pair(Witness::new(&near), Witness::new(&far).on_secure(TransportRef::abort_connection));
    pump.flush();
    assert_eq!(far.reason(), Some(ConnectionClosed::Aborted));
    assert!(matches!(near.reason(), Some(ConnectionClosed::Lost(_))));
}
#[test]
fn small_writes_leave_as_one_record() {
    // TLS-3
    let (near, clock) = (Record::default(), Clock::new());
    let pump = connect(
        TlsProtocol::new(client().named("localhost"), Witness::new(&near)),
        TlsProtocol::new(server(), Witness::new(&Record::default())),
        &clock,
    );
    pump.flush();
    let wire = near.transport();
    for _ in 0..100 {
        wire.write("0123456789");
    }
    assert_eq!(wire.unsent(), 1000, "nothing is encrypted yet");
    clock.advance(Duration::ZERO);
    assert_eq!(wire.unsent(), 1000 + 5 + 1 + 16, "one record: header, type, tag");
}

/// Writes pieces of 10,000 bytes until it has written `left` or is paused; notes the most that was ever unsent.
#[derive(Clone)]
struct Source(Rc<Flow>);
struct Flow {
    wire: Cell<Option<TransportRef>>,
    left: Cell<usize>,
    paused: Cell<bool>,
    pauses: Cell<usize>,
    stops: Cell<usize>,
    most: Cell<usize>,
    delay: Cell<Duration>,
    /// So many a turn.
    pieces: Cell<usize>,
}
const PIECE: usize = 10_000;
impl Source {
    fn new(bytes: usize) -> Self {
        Source(Rc::new(Flow {
            wire: Cell::new(None),
            left: Cell::new(bytes),
            paused: Cell::new(false),
            pauses: Cell::new(0),
            stops: Cell::new(0),
            most: Cell::new(0),
            delay: Cell::new(Duration::ZERO),
            pieces: Cell::new(1),
        }))
    }
    fn start(&self, wire: TransportRef) {
        self.0.wire.set(Some(wire));
        wire.register_producer(self.clone());
        self.clone().go_on();
    }
    /// Some a turn, as a producer that has other things to do.
    fn go_on(self) {
        let flow = &self.0;
        let Some(wire) = flow.wire.get().filter(|_| !flow.paused.get()) else { return };
        if flow.left.get() == 0 {
            return wire.unregister_producer();
        }
        for _ in 0..flow.pieces.get() {
            let n = PIECE.min(flow.left.get());
            flow.left.set(flow.left.get() - n);
            wire.write(vec![b'x'; n]);
        }
        flow.most.set(flow.most.get().max(wire.unsent()));
        let delay = flow.delay.get();
        wire.call_later(delay, move || self.go_on());
    }
}
impl Producer for Source {
    fn pause_producing(&mut self) {
        assert!(!self.0.paused.replace(true), "paused twice");
        self.0.pauses.set(self.0.pauses.get() + 1);
    }
    fn resume_producing(&mut self) {
        assert!(self.0.paused.replace(false), "resumed twice");
        self.clone().go_on();
    }
    fn stop_producing(&mut self) {
        self.0.stops.set(self.0.stops.get() + 1);
        self.0.wire.set(None);
    }
}

#[test]
fn sixty_mebibytes_to_a_slow_reader_take_little_memory_both_ways() {
    // TLS-4, TLS-12: the writer is paused; the reader pauses after each delivery and goes on in a later turn.
    const MUCH: usize = 60 << 20;
    for down in [true, false] {
        let source = Source::new(MUCH);
        source.0.pieces.set(20);
        let (came, flow) = (Rc::new(Cell::new(0)), source.0.clone());
        let got = came.clone();
        run(move |reactor| {
            let writer = move || {
                let source = source.clone();
                Witness::new(&Record::default()).on_made(move |transport| {
                    source.start(transport);
                    transport.lose_connection();
                })
            };
            let reader = move || {
                let came = came.clone();
                let mut deliveries = 0;
                Slow(Box::new(move |transport: TransportRef, n| {
                    came.set(came.get() + n);
                    deliveries += 1;
                    if deliveries % 2 == 0 {
                        transport.pause_producing();
                        transport.call_later(Duration::from_millis(1), move || transport.resume_producing());
                    }
                    if came.get() == MUCH {
                        reactor.call_later(Duration::from_millis(1), move || reactor.stop());
                    }
                }))
            };
            let port = if down {
                reactor.listen_tls("127.0.0.1:0", &server(), writer.clone())
            } else {
                reactor.listen_tls("127.0.0.1:0", &server(), reader.clone())
            };
            let at = port.expect("a port").address().socket().expect("a port");
            if down {
                reactor.connect_tls(at, client().named("localhost"), reader);
            } else {
                reactor.connect_tls(at, client().named("localhost"), writer);
            }
        });
        assert_eq!(got.get(), MUCH);
        assert!(flow.pauses.get() > 10, "paused {} times", flow.pauses.get());
        assert!(flow.most.get() < 300_000, "{} bytes were unsent at once", flow.most.get());
    }
}
struct Slow(Box<dyn FnMut(TransportRef, usize)>);
impl Protocol for Slow {
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        (self.0)(transport, data.len());
    }
}

#[test]
fn a_producer_ahead_of_the_handshake_is_paused_and_goes_on_after_it() {
    // TLS-4
    let source = Source::new(300_000);
    let (flow, far) = (source.0.clone(), Record::default());
    let (pump, clock) =
        pair(Witness::new(&Record::default()).on_made(move |transport| source.start(transport)), Witness::new(&far));
    clock.advance(Duration::ZERO);
    assert!(flow.paused.get(), "more than the mark waits for the handshake");
    assert!(flow.most.get() <= 64 * 1024 + 2 * PIECE, "{} bytes wait", flow.most.get());
    pump.flush();
    assert_eq!((far.data().len(), flow.left.get(), flow.stops.get()), (300_000, 0, 0));
}
#[test]
fn a_producer_holds_a_close_back_and_is_stopped_when_the_connection_is_lost() {
    // TLS-7, TLS-12
    let (far, source) = (Record::default(), Source::new(200_000));
    let flow = source.0.clone();
    let (pump, _) = pair(
        Witness::new(&Record::default()).on_made(move |transport| {
            source.start(transport);
            transport.lose_connection();
        }),
        Witness::new(&far),
    );
    pump.flush();
    assert_eq!((far.data().len(), far.reason()), (200_000, Some(ConnectionClosed::Done)));
    assert_eq!(flow.stops.get(), 0, "it was done before");

    let (near, source) = (Record::default(), Source::new(usize::MAX));
    let flow = source.0.clone();
    flow.delay.set(Duration::from_secs(1));
    let (pump, _) = pair(
        Witness::new(&near).on_secure(move |transport| source.start(transport)),
        Witness::new(&Record::default()).on_data(|transport, _| transport.abort_connection()),
    );
    pump.flush();
    assert!(near.has("lost"));
    assert_eq!(flow.stops.get(), 1);
    near.transport().register_producer(Source::new(0));
}
/// Writes `left` pieces, one each time it is asked.
struct Pull {
    left: usize,
    stopped: Rc<Cell<bool>>,
}
impl PullProducer for Pull {
    fn produce(&mut self, consumer: TransportRef) -> bool {
        consumer.write(vec![b'y'; PIECE]);
        self.left -= 1;
        self.left > 0
    }
    fn stop_producing(&mut self) {
        self.stopped.set(true);
    }
}
#[test]
fn a_pull_producer_is_asked_once_the_handshake_is_done_and_each_time_all_has_left() {
    let (far, stopped) = (Record::default(), Rc::new(Cell::new(false)));
    let mark = stopped.clone();
    let (pump, _) = pair(
        Witness::new(&Record::default()).on_made(move |transport| {
            transport.register_pull_producer(Pull { left: 25, stopped: mark.clone() });
            transport.lose_connection();
        }),
        Witness::new(&far),
    );
    pump.flush();
    assert_eq!((far.data().len(), far.reason()), (25 * PIECE, Some(ConnectionClosed::Done)));
    assert!(!stopped.get());
}
#[test]
fn a_second_producer_panics_where_it_is_registered() {
    let near = Record::default();
    let (pump, _) = pair(
        Witness::new(&near).on_secure(|transport| {
            transport.register_producer(Source::new(0));
            transport.register_producer(Source::new(0));
        }),
        Witness::new(&Record::default()),
    );
    pump.flush();
    assert!(
        matches!(near.reason(), Some(ConnectionClosed::Failed(failure)) if failure.to_string().contains("unregister_producer"))
    );
}

/// What a client and a server say to each other, cut into chunks; what each received.
fn talk_in_chunks(version: &'static rustls::SupportedProtocolVersion, sizes: &[usize]) -> (Vec<u8>, Vec<u8>) {
    let (near, far, clock) = (Record::default(), Record::default(), Clock::new());
    let hello = |text: &'static str| {
        move |transport: TransportRef| {
            transport.write(text);
            transport.write(vec![b'z'; 40_000]);
            transport.lose_connection();
        }
    };
    let near_wire = StringTransport::connect(
        TlsProtocol::new(client_of(version).named("localhost"), Witness::new(&near).on_made(hello("from the client"))),
        &clock,
    );
    let far_wire = StringTransport::connect(
        TlsProtocol::new(server(), Witness::new(&far).on_secure(hello("from the server"))),
        &clock,
    );
    let mut sizes = sizes.iter().copied().cycle();
    for _ in 0..40 {
        for (from, to) in [(&near_wire, &far_wire), (&far_wire, &near_wire)] {
            clock.advance(Duration::ZERO);
            let sent = from.take();
            let mut rest = &sent[..];
            while !rest.is_empty() {
                let n = sizes.next().unwrap_or(1).clamp(1, rest.len());
                to.deliver(&rest[..n]);
                rest = &rest[n..];
            }
        }
    }
    assert!(near_wire.is_disconnecting() && far_wire.is_disconnecting());
    near_wire.lose(ConnectionClosed::Done);
    far_wire.lose(ConnectionClosed::Done);
    assert_eq!((near.reason(), far.reason()), (Some(ConnectionClosed::Done), Some(ConnectionClosed::Done)));
    (near.data(), far.data())
}
proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 24, ..Default::default() })]
    #[test]
    fn records_may_come_in_any_pieces(sizes in proptest::collection::vec(1usize..20_000, 1..12), small in proptest::bool::ANY) {
        let sizes: Vec<usize> = if small { sizes.iter().map(|size| size % 40 + 1).collect() } else { sizes };
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            let (near, far) = talk_in_chunks(version, &sizes);
            proptest::prop_assert!(near.starts_with(b"from the server") && near.len() == 40_015);
            proptest::prop_assert!(far.starts_with(b"from the client") && far.len() == 40_015);
        }
    }
}
