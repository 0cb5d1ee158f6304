//! TLS between wires that do what they like: user code within rustls that panics or calls back, wires that end without a word, that
//! deliver while they are paused or while their protocol runs; transports read by asking.
mod certs;
mod rig;
mod witness;

use certs::{client, server};
use rig::{Far, run, watch_log};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, SignatureScheme};
use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use twistlet::protocols::proxy::ProxyFactory;
use twistlet::protocols::{Inbox, LineHandler, LineReceiver, LineTransport, Lines, PullTransport, Received};
use twistlet::testing::{Clock, Pump, StringTransport, connect};
use twistlet::transport::tls::{ClientConfig, ServerConfig, Side, TlsError, TlsProtocol, wrap_factory};
use twistlet::{ConnectionClosed, Factory, Failure, Producer, Protocol, TransportRef};
use witness::{Record, Witness};

// ---- user code within rustls ----

type Act = Box<dyn FnOnce()>;
thread_local! {
    /// What the verifier or the resolver does, once.
    static ACT: RefCell<Option<Act>> = const { RefCell::new(None) };
}
fn act() {
    let act = ACT.take();
    if let Some(act) = act {
        act();
    }
}

#[derive(Debug)]
struct Verifier;
impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        act();
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
fn verifying() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let config = builder.dangerous().with_custom_certificate_verifier(Arc::new(Verifier)).with_no_client_auth();
    ClientConfig::from(Arc::new(config))
}
#[derive(Debug)]
struct Resolver;
impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        act();
        None
    }
}
fn resolving() -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let config = builder.with_no_client_auth().with_cert_resolver(Arc::new(Resolver));
    ServerConfig::from(Arc::new(config))
}

#[test]
fn a_verifier_may_panic_or_call_back() {
    watch_log();
    type Verb = fn(TransportRef);
    let verbs: [(&str, Verb); 9] = [
        ("panic", |_| panic!("boom")),
        ("abort", TransportRef::abort_connection),
        ("lose", TransportRef::lose_connection),
        ("fail", |transport| transport.fail_connection(Failure::msg("mine"))),
        ("write", |transport| transport.write("x".repeat(100_000))),
        ("pause", |transport| {
            transport.pause_producing();
            transport.resume_producing();
        }),
        ("switch", |transport| transport.switch_protocol(Witness::default(), "")),
        ("start", |transport| transport.start_tls(client().named("localhost"))),
        ("half", |transport| {
            drop(transport.when_flushed().add_errback(|_| {}));
            transport.lose_write_connection();
        }),
    ];
    for started in [false, true] {
        for (name, verb) in verbs {
            let (near, far) = (Record::default(), Record::default());
            let clock = Clock::new();
            let witness = Witness::new(&near);
            let pump = if started {
                connect(witness, Witness::new(&far), &clock)
            } else {
                connect(
                    TlsProtocol::new(verifying().named("localhost"), witness),
                    TlsProtocol::new(server(), Witness::new(&far)),
                    &clock,
                )
            };
            let transport = near.transport();
            ACT.set(Some(Box::new(move || verb(transport))));
            if started {
                pump.server().start_tls(server());
                pump.client().start_tls(verifying().named("localhost"));
            }
            pump.flush();
            assert!(ACT.take().is_none(), "{name}: the verifier was asked");
            if matches!(name, "write" | "pause" | "half") {
                assert!(near.has("secure") && far.has("secure"), "{name}: {:?}", near.events());
            }
            if name == "write" {
                assert_eq!(far.data().len(), 100_000);
            }
            if matches!(name, "panic" | "abort" | "fail") {
                assert!(near.has("lost") && far.has("lost") && !near.has("secure"), "{name}: {:?}", near.events());
            }
            drop(pump);
            clock.advance(Duration::from_secs(60));
            let lost = |record: &Record| record.events().iter().filter(|event| *event == "lost").count();
            assert_eq!(lost(&far), 1, "{name}");
            assert_eq!(lost(&near), usize::from(name != "switch"), "{name}: {:?}", near.events());
        }
    }
}
#[test]
fn a_verifier_may_destroy_the_wire_below() {
    let (near, far) = (Record::default(), Record::default());
    let pump = Rc::new(RefCell::new(None));
    *pump.borrow_mut() = Some(Rc::new(connect(
        TlsProtocol::new(verifying().named("localhost"), Witness::new(&near)),
        TlsProtocol::new(server(), Witness::new(&far)),
        &Clock::new(),
    )));
    let own = pump.clone();
    ACT.set(Some(Box::new(move || drop(own.take()))));
    for _ in 0..20 {
        let now = pump.borrow().clone();
        if let Some(pump) = now {
            pump.pump();
        }
    }
    for record in [near, far] {
        let events = record.events();
        assert_eq!(events.iter().filter(|event| *event == "lost").count(), 1, "{events:?}");
        assert!(events.ends_with(&["lost".to_owned()]), "{events:?}");
    }
}
#[test]
fn a_resolver_may_panic_or_close() {
    watch_log();
    let verbs: [fn(TransportRef); 3] =
        [|_| panic!("boom"), TransportRef::abort_connection, TransportRef::lose_connection];
    for verb in verbs {
        let (near, far) = (Record::default(), Record::default());
        let pump = connect(
            TlsProtocol::new(client().named("localhost"), Witness::new(&near)),
            TlsProtocol::new(resolving(), Witness::new(&far)),
            &Clock::new(),
        );
        let transport = far.transport();
        ACT.set(Some(Box::new(move || verb(transport))));
        pump.flush();
        assert_eq!(
            (near.events(), far.events()),
            (vec!["made".to_owned(), "lost".to_owned()], vec!["made".to_owned(), "lost".to_owned()])
        );
    }
}

// ---- how wires end ----

fn halves(
    near: impl FnOnce(Witness) -> Witness,
    far: impl FnOnce(Witness) -> Witness,
) -> (Record, Record, Pump, Clock) {
    let (near_record, far_record) = (Record::default(), Record::default());
    let clock = Clock::new();
    let pump = connect(
        TlsProtocol::new(client().named("localhost"), near(Witness::new(&near_record))),
        TlsProtocol::new(server(), far(Witness::new(&far_record))),
        &clock,
    );
    pump.flush();
    assert!(near_record.has("secure") && far_record.has("secure"));
    (near_record, far_record, pump, clock)
}
/// Two wires that the test carries bytes between; the handshake is done.
fn apart() -> ((StringTransport, Record), (StringTransport, Record), Clock) {
    let clock = Clock::new();
    let side = |side: Side| {
        let record = Record::default();
        (StringTransport::connect(TlsProtocol::new(side, Witness::new(&record)), &clock), record)
    };
    let (near, far) = (side(client().named("localhost")), side(Side::from(server())));
    for _ in 0..4 {
        clock.advance(Duration::ZERO);
        far.0.deliver(near.0.take());
        clock.advance(Duration::ZERO);
        near.0.deliver(far.0.take());
    }
    assert!(near.1.has("secure") && far.1.has("secure"));
    (near, far, clock)
}

#[test]
fn a_wire_that_is_gone_without_a_word_is_a_truncation_too() {
    // TLS-9: below is said to have ended in order, and no close_notify has come.
    let ((wire, record), _far, _) = apart();
    wire.lose(ConnectionClosed::Done);
    assert_eq!(record.reason(), Some(ConnectionClosed::Lost(Some(ErrorKind::UnexpectedEof))));

    let record = Record::default();
    let wire = StringTransport::connect(TlsProtocol::new(server(), Witness::new(&record)), &Clock::new());
    wire.lose(ConnectionClosed::Done);
    match record.reason() {
        Some(ConnectionClosed::Failed(failure)) => assert_eq!(failure.check(), Some(&TlsError::EndedInHandshake)),
        other => panic!("{other:?}"),
    }
}
#[test]
fn a_peer_that_does_not_take_our_alert_is_left_after_ten_seconds() {
    let clock = Clock::new();
    let wire = StringTransport::connect(TlsProtocol::new(server(), Witness::default()), &clock);
    wire.deliver("no TLS at all");
    assert!(wire.is_disconnecting() && !wire.is_aborted());
    clock.advance(Duration::from_secs(9));
    assert!(!wire.is_aborted());
    clock.advance(Duration::from_secs(1));
    assert!(wire.is_aborted());
}
#[test]
fn who_has_paused_and_closes_gets_nothing_more_and_hears_of_the_peers_end() {
    // TLS-7
    let (near, far, pump, _) = halves(|near| near.on_data(|transport, _| transport.pause_producing()), |far| far);
    far.transport().write("a");
    pump.flush();
    near.transport().lose_connection();
    far.transport().write("b".repeat(100_000));
    pump.flush();
    assert_eq!((near.text().as_str(), near.reason()), ("a", Some(ConnectionClosed::Done)));
    assert_eq!(far.reason(), Some(ConnectionClosed::Done));
}
#[test]
fn an_error_of_the_protocols_own_is_no_truncation_for_the_peer() {
    let (near, far, pump, _) = halves(|near| near, |far| far);
    near.transport().write("so far");
    near.transport().fail_connection(Failure::msg("mine"));
    pump.flush();
    assert_eq!(far.text(), "so far");
    assert!(far.has("read lost"));
    assert_eq!(far.reason(), Some(ConnectionClosed::Done));
    assert!(matches!(near.reason(), Some(ConnectionClosed::Failed(_))));
}
#[test]
fn nothing_is_written_behind_our_close_notify() {
    let (near, far, pump, _) = halves(|near| near, |far| far.on_read_lost(|_| {}));
    near.transport().lose_write_connection();
    pump.flush();
    near.transport().write("late");
    near.transport().write("late".repeat(10_000));
    assert_eq!(near.transport().unsent(), 0);
    pump.flush();
    assert_eq!(far.text(), "");
    // The other half lives, though the wire below has no more input behind the close_notify.
    pump.client().lose_write_connection();
    pump.flush();
    far.transport().write("the other way");
    pump.flush();
    assert_eq!(near.text(), "the other way");
    far.transport().lose_connection();
    pump.flush();
    assert_eq!((near.reason(), far.reason()), (Some(ConnectionClosed::Done), Some(ConnectionClosed::Done)));
}

#[derive(Clone, Default)]
struct Stops(Rc<Cell<u32>>);
impl Producer for Stops {
    fn pause_producing(&mut self) {}
    fn resume_producing(&mut self) {}
    fn stop_producing(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}
#[test]
fn who_waits_for_the_handshake_is_told_when_the_wire_is_gone() {
    let record = Record::default();
    let wire = StringTransport::connect(TlsProtocol::new(server(), Witness::new(&record)), &Clock::new());
    let stops = Stops::default();
    let transport = record.transport();
    transport.register_producer(stops.clone());
    transport.write("x");
    let flushed = transport.when_flushed();
    wire.lose(ConnectionClosed::Lost(Some(ErrorKind::ConnectionReset)));
    assert_eq!(stops.0.get(), 1);
    let failure = flushed.try_take().unwrap_or_else(|_| panic!("it has not fired")).unwrap_err();
    assert!(matches!(failure.check(), Some(ConnectionClosed::Lost(Some(ErrorKind::ConnectionReset)))), "{failure}");
}

// ---- wires that deliver when they should not ----

#[test]
fn what_comes_in_spite_of_a_pause_stays_in_order() {
    let (near, clock) = (Record::default(), Clock::new());
    let far = Record::default();
    run(|reactor| {
        let more = Rc::new(RefCell::new(None::<Box<dyn FnOnce()>>));
        let own = more.clone();
        let witness = Witness::new(&far).on_data(move |transport, _| {
            transport.pause_producing();
            let more = own.take();
            if let Some(more) = more {
                more();
            }
        });
        let wire = Rc::new(Far::connect(reactor, TlsProtocol::new(server(), witness)));
        let peer = StringTransport::connect(TlsProtocol::new(client().named("localhost"), Witness::new(&near)), &clock);
        for _ in 0..4 {
            clock.advance(Duration::ZERO);
            wire.deliver(peer.take());
            rig::pump(reactor);
            peer.deliver(wire.written_bytes());
        }
        assert!(far.has("secure"));
        far.transport().set_read_size(100);
        let record = |from: u32, to: u32| {
            let text: String = (from..to).map(|n| format!("{n:05} ")).collect();
            near.transport().write(&text);
            clock.advance(Duration::ZERO);
            (peer.take(), text)
        };
        let (first, second, third) = (record(0, 2000), record(2000, 4000), record(4000, 6000));
        far.transport().pause_producing();
        wire.deliver([first.0, second.0].concat());
        let again = wire.clone();
        *more.borrow_mut() = Some(Box::new(move || again.deliver(&third.0)));
        let expected = [first.1, second.1, third.1].concat();
        for _ in 0..2000 {
            far.transport().resume_producing();
            rig::pump(reactor);
        }
        assert!(far.text() == expected, "{} of {} bytes", far.data().len(), expected.len());
        reactor.call_soon(move || reactor.stop());
    });
}
#[test]
fn an_end_that_was_told_before_tls_started_ends_the_handshake() {
    let ended = |reason: Option<ConnectionClosed>| match reason {
        Some(ConnectionClosed::Failed(failure)) => failure.check() == Some(&TlsError::EndedInHandshake),
        other => panic!("{other:?}"),
    };
    // While the protocol had paused,
    run(|reactor| {
        let record = Record::default();
        let mut far = Far::connect(reactor, Witness::new(&record));
        far.near.pause_producing();
        far.wire().deliver_read_lost();
        far.near.start_tls(server());
        rig::pump(reactor);
        assert!(far.is_disconnecting(), "nothing is waited for");
        far.lose(&ConnectionClosed::Done);
        rig::pump(reactor);
        assert!(ended(record.reason()));
        assert_eq!(record.events(), ["made", "lost"]);
        reactor.call_soon(move || reactor.stop());
    });
    // and while it ran: the wire is gone before it starts TLS.
    let (record, clock) = (Record::default(), Clock::new());
    let wire = Rc::new(RefCell::new(None::<StringTransport>));
    let own = wire.clone();
    let witness = Witness::new(&record).on_data(move |transport, _| {
        let wire = own.borrow().clone().expect("there");
        wire.lose(ConnectionClosed::Lost(None));
        transport.start_tls(server());
    });
    *wire.borrow_mut() = Some(StringTransport::connect(witness, &clock));
    let own = wire.borrow().clone().expect("there");
    own.deliver("x");
    clock.advance(Duration::ZERO);
    assert_eq!(record.events(), ["made", "data", "lost"]);
    assert_eq!(record.reason(), Some(ConnectionClosed::Lost(None)));
    assert_eq!(clock.pending(), 0, "no handshake is waited for");
}
#[test]
fn tls_is_not_started_in_connection_lost() {
    watch_log();
    let record = Record::default();
    let clock = Clock::new();
    let witness = Witness::new(&record).on_data(|_, _| panic!("boom"));
    let wire = StringTransport::connect(
        witness.on_lost(|transport| {
            transport.start_tls(server());
            assert!(!transport.is_secure());
        }),
        &clock,
    );
    // The end comes with the panic, before the wire knows.
    wire.deliver("x");
    assert_eq!(record.events(), ["made", "data", "lost"]);
    assert_eq!(clock.pending(), 0, "no handshake is waited for");
}
#[test]
fn a_protocol_that_takes_over_may_pause_or_make_way_at_once() {
    run(|reactor| {
        let next = Record::default();
        let far = Far::connect(reactor, Witness::default());
        far.near.switch_protocol(Witness::new(&next).on_made(TransportRef::pause_producing), "");
        far.deliver("x");
        assert_eq!((next.events(), next.text()), (vec!["made".to_owned()], String::new()));
        far.near.resume_producing();
        rig::pump(reactor);
        assert_eq!(next.text(), "x");

        let last = Record::default();
        let own = last.clone();
        far.near.switch_protocol(
            Witness::default().on_made(move |transport| transport.switch_protocol(Witness::new(&own), "2")),
            "1",
        );
        rig::pump(reactor);
        far.deliver("3");
        assert_eq!(last.text(), "123");
        reactor.call_soon(move || reactor.stop());
    });
}

// ---- transports read by asking ----

struct Fills(Inbox<String>);
impl LineHandler for Fills {
    fn line_received(&mut self, _: LineTransport, line: &[u8]) {
        self.0.put(line.escape_ascii().to_string());
    }
}
#[test]
fn a_transport_read_by_asking_drops_what_came_before_tls() {
    struct Nobody;
    impl Protocol for Nobody {
        fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
    }
    for injected in ["", "evil\r\n", "half a li", "one\r\ntwo\r\nthr"] {
        for early in [true, false] {
            let (near, clock) = (Record::default(), Clock::new());
            let wire = StringTransport::connect(Nobody, &clock);
            let lines = PullTransport::take_over(wire.transport(), Lines::new(), b"");
            clock.advance(Duration::ZERO);
            let request = lines.recv();
            wire.deliver(format!("STARTTLS\r\n{injected}"));
            clock.advance(Duration::ZERO);
            let request = request.try_take().unwrap_or_else(|_| panic!("it has not fired"));
            assert_eq!(request.expect("a line").as_deref(), Some(&b"STARTTLS"[..]));
            lines.transport().start_tls(server());
            let asked = early.then(|| lines.recv());
            let peer =
                StringTransport::connect(TlsProtocol::new(client().named("localhost"), Witness::new(&near)), &clock);
            near.transport().write("secret\r\n");
            for _ in 0..4 {
                clock.advance(Duration::ZERO);
                wire.deliver(peer.take());
                clock.advance(Duration::ZERO);
                peer.deliver(wire.take());
            }
            let asked = asked.unwrap_or_else(|| lines.recv());
            clock.advance(Duration::ZERO);
            let line = asked.try_take().unwrap_or_else(|_| panic!("it has not fired")).expect("a line");
            assert_eq!(line.as_deref(), Some(&b"secret"[..]), "{injected:?}");
        }
    }
}
#[test]
fn a_decoder_that_keeps_half_a_message_forgets_it_at_tls() {
    struct Nobody;
    impl Protocol for Nobody {
        fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
    }
    let (near, clock) = (Record::default(), Clock::new());
    let wire = StringTransport::connect(Nobody, &clock);
    let decoder = Received::new(|inbox| LineReceiver::new(Fills(inbox)));
    let lines = PullTransport::take_over(wire.transport(), decoder, b"");
    clock.advance(Duration::ZERO);
    let asked = lines.recv();
    wire.deliver("half a li");
    clock.advance(Duration::ZERO);
    lines.transport().start_tls(server());
    let peer = StringTransport::connect(TlsProtocol::new(client().named("localhost"), Witness::new(&near)), &clock);
    near.transport().write("whole\r\n");
    for _ in 0..4 {
        clock.advance(Duration::ZERO);
        wire.deliver(peer.take());
        clock.advance(Duration::ZERO);
        peer.deliver(wire.take());
    }
    let line = asked.try_take().unwrap_or_else(|_| panic!("it has not fired")).expect("a line");
    assert_eq!(line.as_deref(), Some("whole"));
}

// ---- stacks ----

/// Carries bytes between the two until nothing moves, `sizes` at a time.
fn carry(near: &StringTransport, far: &StringTransport, clock: &Clock, sizes: &[usize]) {
    let mut sizes = sizes.iter().copied().cycle();
    let mut still = 0;
    while still < 3 {
        still += 1;
        for (from, to) in [(near, far), (far, near)] {
            clock.advance(Duration::ZERO);
            let sent = from.take();
            let mut rest = &sent[..];
            while !rest.is_empty() {
                still = 0;
                let n = sizes.next().unwrap_or(1).min(rest.len());
                to.deliver(&rest[..n]);
                rest = &rest[n..];
            }
        }
    }
}
proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 12, ..Default::default() })]
    #[test]
    fn three_layers_around_a_proxy_header_may_come_in_any_pieces(
        sizes in proptest::collection::vec(1usize..900, 1..8),
        inside in proptest::bool::ANY,
    ) {
        let (near, far, clock) = (Record::default(), Record::default(), Clock::new());
        let own = far.clone();
        let peer: twistlet::Address = twistlet::Address::Tcp("10.9.8.7:1".parse().expect("an address"));
        let echo = move || Witness::echo(&own);
        // TLS in TLS in TLS, the header before the first, or behind it.
        let mut factory: Box<dyn Factory> = if inside {
            Box::new(wrap_factory(server(), ProxyFactory::new(wrap_factory(server(), wrap_factory(server(), echo)))))
        } else {
            Box::new(ProxyFactory::new(wrap_factory(server(), wrap_factory(server(), wrap_factory(server(), echo)))))
        };
        let far_wire = StringTransport::connect(factory.build_protocol(&peer).expect("trusted"), &clock);
        let side = || client().named("localhost");
        let header = |protocol: Box<dyn Protocol>| -> Box<dyn Protocol> {
            let mut next = Some(protocol);
            Box::new(Witness::default().on_made(move |transport| {
                transport.write("PROXY TCP4 192.0.2.1 192.0.2.2 1111 2222\r\n");
                if let Some(next) = next.take() {
                    transport.switch_protocol(next, "");
                }
            }))
        };
        let inner = Witness::new(&near).on_made(|transport| transport.write("deep ".repeat(20_000)));
        let inner: Box<dyn Protocol> = Box::new(TlsProtocol::new(side(), TlsProtocol::new(side(), inner)));
        let outer = if inside {
            Box::new(TlsProtocol::new(side(), header(inner)))
        } else {
            header(Box::new(TlsProtocol::new(side(), inner)))
        };
        let near_wire = StringTransport::connect(outer, &clock);
        carry(&near_wire, &far_wire, &clock, &sizes);
        proptest::prop_assert_eq!(far.data().len(), 100_000);
        proptest::prop_assert!(near.data() == far.data());
        proptest::prop_assert_eq!(far.transport().peer().to_string(), "192.0.2.1:1111");
        near.transport().lose_connection();
        carry(&near_wire, &far_wire, &clock, &sizes);
        proptest::prop_assert!(near_wire.is_disconnecting() && far_wire.is_disconnecting());
        near_wire.lose(ConnectionClosed::Done);
        far_wire.lose(ConnectionClosed::Done);
        proptest::prop_assert_eq!((near.reason(), far.reason()), (Some(ConnectionClosed::Done), Some(ConnectionClosed::Done)));
        proptest::prop_assert_eq!(clock.pending(), 0);
    }
}
