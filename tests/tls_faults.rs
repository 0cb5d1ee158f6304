//! What goes wrong under TLS, each with its typed outcome: bad certificates, peers that do not speak TLS, stall, go away or cut the
//! connection off; protocols that panic, or close, in each callback.
mod certs;
mod counting;
mod rig;
mod witness;

use certs::{Authority, authority, client, pair, server};
use counting::peak;
use rig::{dial, run, watch_log};
use std::cell::Cell;
use std::io::{ErrorKind, Write};
use std::rc::Rc;
use std::time::Duration;
use twistlet::testing::{Clock, Pump, StringTransport, connect};
use twistlet::transport::tls::rustls::AlertDescription;
use twistlet::transport::tls::{ClientConfig, ServerConfig, Side, TlsError, TlsProtocol};
use twistlet::{ConnectionClosed, Failure, Reactor, TransportRef};
use witness::{Record, Witness};

fn tls_error(reason: Option<ConnectionClosed>) -> TlsError {
    match &reason {
        Some(ConnectionClosed::Failed(failure)) => {
            failure.check::<TlsError>().cloned().unwrap_or_else(|| panic!("another failure: {failure}"))
        }
        other => panic!("no failure: {other:?}"),
    }
}
/// Both sides in memory until nothing moves; how each ended.
fn outcome(client: Side, server: &ServerConfig) -> (Record, Record) {
    let (near, far) = (Record::default(), Record::default());
    let clock = Clock::new();
    let pump = connect(
        TlsProtocol::new(client, Witness::new(&near).on_made(|transport| transport.write("secret"))),
        TlsProtocol::new(server, Witness::new(&far)),
        &clock,
    );
    pump.flush();
    assert!(near.has("secure") || !far.has("data"), "nothing was sent to the wrong server");
    (near, far)
}

#[test]
fn a_client_refuses_a_certificate_for_another_name() {
    // TLS-6, TLS-15
    let (near, far) = outcome(client().named("other.example"), &server());
    let error = tls_error(near.reason());
    let TlsError::WrongName { expected, presented } = &error else { panic!("{error}") };
    assert_eq!(expected, "other.example");
    assert!(presented.iter().any(|name| name == "localhost"), "{presented:?}");
    assert!(error.to_string().contains("other.example"), "{error}");
    assert_eq!(near.events(), ["made", "lost"]);
    assert_eq!(tls_error(far.reason()), TlsError::Alert(AlertDescription::BadCertificate));
    assert_eq!(far.events(), ["made", "lost"]);
}
#[test]
fn a_client_refuses_an_address_that_the_certificate_does_not_name() {
    let (near, _) = outcome(client().named("127.0.0.2"), &server());
    assert!(matches!(tls_error(near.reason()), TlsError::WrongName { .. }));
    let (near, _) = outcome(client().named("127.0.0.1"), &server());
    assert!(near.has("secure") && !matches!(near.reason(), Some(ConnectionClosed::Failed(_))));
    // Without a name it is the peer's address.
    let (near, _) = outcome(Side::from(client()), &server());
    assert!(matches!(tls_error(near.reason()), TlsError::WrongName { .. }));
}
#[test]
fn a_client_refuses_an_expired_certificate() {
    let expired = authority().issue_expired(&["localhost"]);
    let server = ServerConfig::from_pem(&expired.chain, &expired.key).expect("a server");
    let (near, far) = outcome(client().named("localhost"), &server);
    assert_eq!(tls_error(near.reason()), TlsError::Expired);
    assert_eq!(tls_error(far.reason()), TlsError::Alert(AlertDescription::CertificateExpired));
}
#[test]
fn a_client_refuses_an_issuer_it_does_not_trust() {
    let stranger = Authority::new("a stranger").issue(&["localhost"]);
    let server = ServerConfig::from_pem(&stranger.chain, &stranger.key).expect("a server");
    let (near, far) = outcome(client().named("localhost"), &server);
    assert_eq!(tls_error(near.reason()), TlsError::UnknownIssuer);
    assert_eq!(tls_error(far.reason()), TlsError::Alert(AlertDescription::UnknownCA));
}
#[test]
fn a_name_that_is_none_is_refused_before_anything_is_sent() {
    let record = Record::default();
    let wire =
        StringTransport::connect(TlsProtocol::new(client().named("not a name"), Witness::new(&record)), &Clock::new());
    assert!(wire.value().is_empty() && wire.is_disconnecting());
    wire.lose(ConnectionClosed::Done);
    assert_eq!(tls_error(record.reason()), TlsError::InvalidName("not a name".to_owned()));
}
#[test]
fn a_server_refuses_clients_without_a_certificate_or_with_a_strangers() {
    let server = server().require_client_certificate(&authority().root).expect("roots");
    let (near, far) = outcome(client().named("localhost"), &server);
    assert_eq!(tls_error(far.reason()), TlsError::NoClientCertificate);
    // In TLS 1.3 the client is done before it hears of it.
    assert_eq!(tls_error(near.reason()), TlsError::Alert(AlertDescription::CertificateRequired));
    let stranger = Authority::new("a stranger").issue(&["client"]);
    let client = client().client_certificate(&stranger.chain, &stranger.key).expect("a certificate");
    let (_, far) = outcome(client.named("localhost"), &server);
    assert_eq!(tls_error(far.reason()), TlsError::UnknownIssuer);
}
#[test]
fn the_two_sides_must_have_a_protocol_in_common() {
    let (near, far) = outcome(client().alpn(["h2"]).named("localhost"), &server().alpn(["smtp"]));
    assert_eq!(tls_error(far.reason()), TlsError::NoCommonProtocol);
    assert_eq!(tls_error(near.reason()), TlsError::Alert(AlertDescription::NoApplicationProtocol));
}
#[test]
fn bad_pem_is_refused_with_what_is_wrong() {
    let error = |result: twistlet::Result<ServerConfig>| result.unwrap_err().check::<TlsError>().cloned();
    let (chain, key) = (&pair().chain, &pair().key);
    assert_eq!(error(ServerConfig::from_pem("", key)), Some(TlsError::NoCertificate));
    assert_eq!(error(ServerConfig::from_pem(chain, "")), Some(TlsError::NoPrivateKey));
    assert!(matches!(error(ServerConfig::from_pem("-----BEGIN CERTIFICATE-----\nx", key)), Some(TlsError::BadPem(_))));
    let other = authority().issue(&["other"]);
    assert!(matches!(error(ServerConfig::from_pem(chain, &other.key)), Some(TlsError::BadKey(_))));
    let broken = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    assert!(matches!(error(ServerConfig::from_pem(broken, key)), Some(TlsError::BadCertificate(_))));
    let client = ClientConfig::with_roots_pem("nothing").unwrap_err();
    assert_eq!(client.check(), Some(&TlsError::NoCertificate));
}

/// A wire whose protocol is TLS and whose far end is the test.
fn alone(side: impl Into<Side>, record: &Record) -> (StringTransport, Clock) {
    let clock = Clock::new();
    (StringTransport::connect(TlsProtocol::new(side, Witness::new(record)), &clock), clock)
}

#[test]
fn plaintext_on_a_tls_port_is_called_that_on_both_sides() {
    let record = Record::default();
    let (wire, _) = alone(server(), &record);
    wire.deliver("GET / HTTP/1.0\r\n\r\n");
    assert!(wire.is_disconnecting());
    assert_eq!(wire.value().first(), Some(&21), "an alert");
    wire.lose(ConnectionClosed::Done);
    assert_eq!(tls_error(record.reason()), TlsError::NotTls(b"GET / HTTP/1.0\r\n".to_vec()));
    assert_eq!(record.events(), ["made", "lost"]);

    let record = Record::default();
    let (wire, _) = alone(client().named("localhost"), &record);
    wire.deliver("HTTP/1.1 400 Bad Request\r\n");
    wire.lose(ConnectionClosed::Done);
    let error = tls_error(record.reason());
    assert!(error.to_string().contains("HTTP/1.1 400"), "{error}");
}
#[test]
fn garbage_ends_the_connection_and_costs_no_memory() {
    for first in [20u8, 21, 22, 23, 24, 0, 128, 255] {
        let record = Record::default();
        let (wire, _) = alone(server(), &record);
        let mut garbage = vec![first, 3, 3, 0x40, 0];
        garbage.extend((0..2_000_000u32).map(|n| (n.wrapping_mul(7919) >> 3) as u8));
        let cost = peak(|| garbage.chunks(1000).for_each(|chunk| wire.deliver(chunk)));
        // One buffer for what is decrypted is the thread's.
        assert!(cost < 400_000, "{first}: {cost} bytes");
        assert!(wire.is_disconnecting(), "{first}");
        wire.lose(ConnectionClosed::Done);
        assert!(matches!(record.reason(), Some(ConnectionClosed::Failed(_))), "{first}: {:?}", record.reason());
        assert_eq!(record.events(), ["made", "lost"]);
    }
}
#[test]
fn a_peer_that_stalls_in_the_handshake_is_given_up() {
    for (side, limit) in [
        (Side::from(server()), 30),
        (client().named("localhost"), 30),
        (Side::from(server().handshake_timeout(Duration::from_secs(3))), 3),
    ] {
        let record = Record::default();
        let (wire, clock) = alone(side, &record);
        clock.advance(Duration::from_secs(limit - 1));
        assert!(!wire.is_disconnecting());
        clock.advance(Duration::from_secs(1));
        assert!(wire.is_aborted());
        wire.lose(ConnectionClosed::Aborted);
        assert_eq!(tls_error(record.reason()), TlsError::HandshakeTimedOut(Duration::from_secs(limit)));
    }
    let record = Record::default();
    let (wire, clock) = alone(server().without_handshake_timeout(), &record);
    clock.advance(Duration::from_secs(1000));
    assert!(!wire.is_disconnecting());
}
#[test]
fn a_peer_that_goes_away_in_the_handshake_is_told_from_others() {
    let record = Record::default();
    let (wire, _) = alone(client().named("localhost"), &record);
    wire.deliver_end();
    assert!(wire.is_disconnecting());
    wire.lose(ConnectionClosed::Done);
    assert_eq!(tls_error(record.reason()), TlsError::EndedInHandshake);

    let record = Record::default();
    let (wire, _) = alone(client().named("localhost"), &record);
    wire.lose(ConnectionClosed::Lost(Some(ErrorKind::ConnectionReset)));
    assert_eq!(record.reason(), Some(ConnectionClosed::Lost(Some(ErrorKind::ConnectionReset))));
}

/// Two protocols that have done the handshake, by TCP, so that the wires below can be ended by the test.
struct Halves {
    near: Record,
    far: Record,
    pump: Pump,
    clock: Clock,
}
fn halves(near: impl FnOnce(Witness) -> Witness, far: impl FnOnce(Witness) -> Witness) -> Halves {
    let (near_record, far_record) = (Record::default(), Record::default());
    let clock = Clock::new();
    let pump = connect(
        TlsProtocol::new(client().named("localhost"), near(Witness::new(&near_record))),
        TlsProtocol::new(server(), far(Witness::new(&far_record))),
        &clock,
    );
    pump.flush();
    assert!(near_record.has("secure") && far_record.has("secure"));
    Halves { near: near_record, far: far_record, pump, clock }
}

#[test]
fn an_end_without_a_close_notify_is_a_truncation_and_one_with_it_is_not() {
    // TLS-9
    let both = halves(|near| near, |far| far);
    both.far.transport().write("all of it");
    both.pump.flush();
    // The wire below ends, as if somebody had cut it.
    both.pump.server().lose_connection();
    both.pump.flush();
    assert_eq!(both.near.text(), "all of it");
    assert_eq!(both.near.reason(), Some(ConnectionClosed::Lost(Some(ErrorKind::UnexpectedEof))));

    let both = halves(|near| near, |far| far);
    both.far.transport().write("all of it");
    both.far.transport().lose_connection();
    both.pump.flush();
    assert_eq!(both.near.text(), "all of it", "data read together with the close is delivered first");
    assert_eq!(both.near.events(), ["made", "secure", "data", "read lost", "lost"]);
    assert_eq!((both.near.reason(), both.far.reason()), (Some(ConnectionClosed::Done), Some(ConnectionClosed::Done)));
}
#[test]
fn a_truncation_after_our_half_close_is_one_too() {
    let both = halves(|near| near, |far| far.on_read_lost(|_| {}));
    both.near.transport().lose_write_connection();
    both.pump.flush();
    assert!(both.near.has("write lost") && both.far.has("read lost"));
    both.pump.server().lose_connection();
    both.pump.flush();
    assert_eq!(both.near.reason(), Some(ConnectionClosed::Lost(Some(ErrorKind::UnexpectedEof))));
}
#[test]
fn a_peer_that_does_not_answer_a_close_notify_is_waited_for_ten_seconds() {
    // TLS-7, with a limit
    let both = halves(|near| near, |far| far);
    let server = both.pump.server();
    both.near.transport().lose_connection();
    assert!(both.near.transport().is_disconnecting());
    both.clock.advance(Duration::ZERO);
    assert!(!both.pump.client().is_disconnecting(), "it waits");
    both.clock.advance(Duration::from_secs(9));
    assert!(!both.pump.client().is_disconnecting());
    both.clock.advance(Duration::from_secs(1));
    assert!(both.pump.client().is_disconnecting());
    both.pump.flush();
    assert_eq!(both.near.reason(), Some(ConnectionClosed::Done));
    assert!(!server.is_connected());
}
#[test]
fn a_record_that_was_tampered_with_ends_the_connection_behind_the_data_before_it() {
    // The client's records are taken down and changed on their way.
    let record = Record::default();
    let (wire, clock) = alone(client().named("localhost"), &record);
    let peer_record = Record::default();
    let (peer, peer_clock) = alone(server(), &peer_record);
    for _ in 0..4 {
        peer.deliver(wire.take());
        peer_clock.advance(Duration::ZERO);
        wire.deliver(peer.take());
        clock.advance(Duration::ZERO);
    }
    assert!(record.has("secure") && peer_record.has("secure"));
    peer_record.transport().write("good");
    peer_clock.advance(Duration::ZERO);
    let mut bytes = peer.take();
    peer_record.transport().write("evil");
    peer_clock.advance(Duration::ZERO);
    let mut changed = peer.take();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    bytes.extend(changed);
    wire.deliver(bytes);
    assert_eq!(record.text(), "good");
    assert!(wire.is_disconnecting());
    wire.lose(ConnectionClosed::Done);
    assert!(matches!(tls_error(record.reason()), TlsError::Other(_)));
}

#[test]
fn a_panic_in_each_callback_ends_that_connection_with_it() {
    watch_log();
    type Change = fn(Witness) -> Witness;
    let cases: [(&str, Change); 4] = [
        ("made", |witness| witness.on_made(|_| panic!("boom"))),
        ("secure", |witness| witness.on_secure(|_| panic!("boom"))),
        ("data", |witness| witness.on_data(|_, _| panic!("boom"))),
        ("read lost", |witness| witness.on_read_lost(|_| panic!("boom"))),
    ];
    for (at, change) in cases {
        let (near, far) = (Record::default(), Record::default());
        let pump = connect(
            TlsProtocol::new(client().named("localhost"), change(Witness::new(&near))),
            TlsProtocol::new(
                server(),
                Witness::new(&far).on_secure(|transport| {
                    transport.write("x");
                    transport.lose_connection();
                }),
            ),
            &Clock::new(),
        );
        pump.flush();
        assert_eq!(near.events().last().map(String::as_str), Some("lost"), "{at}");
        assert_eq!(near.events().iter().filter(|event| *event == "lost").count(), 1, "{at}");
        match near.reason() {
            Some(ConnectionClosed::Failed(failure)) => assert!(failure.to_string().contains("boom"), "{at}: {failure}"),
            other => panic!("{at}: {other:?}"),
        }
        assert!(far.has("lost"), "{at}");
        assert!(!pump.client().is_connected() && !pump.server().is_connected());
    }
    // The last one changes nothing.
    let both = halves(|near| near.on_lost(|_| panic!("boom")), |far| far);
    both.far.transport().lose_connection();
    both.pump.flush();
    assert_eq!(both.near.reason(), Some(ConnectionClosed::Done));
}

#[test]
fn closing_and_aborting_in_each_callback_ends_it_once() {
    type Verb = fn(TransportRef);
    let verbs: [(&str, Verb); 3] = [
        ("lose", TransportRef::lose_connection),
        ("abort", TransportRef::abort_connection),
        ("fail", |transport| transport.fail_connection(Failure::msg("mine"))),
    ];
    for (name, verb) in verbs {
        for at in ["made", "secure", "data", "read lost", "lost"] {
            let (near, far) = (Record::default(), Record::default());
            let on = |event| {
                move |transport: TransportRef| {
                    if event == at {
                        verb(transport)
                    }
                }
            };
            let witness = Witness::new(&near)
                .on_made(on("made"))
                .on_secure(on("secure"))
                .on_data(move |transport, _| {
                    if at == "data" {
                        verb(transport)
                    }
                })
                .on_read_lost(
                    move |transport| if at == "read lost" { verb(transport) } else { transport.lose_connection() },
                )
                .on_lost(on("lost"));
            let pump = connect(
                TlsProtocol::new(client().named("localhost"), witness),
                TlsProtocol::new(
                    server(),
                    Witness::new(&far).on_secure(|transport| {
                        transport.write("x");
                        transport.lose_connection();
                    }),
                ),
                &Clock::new(),
            );
            pump.flush();
            let events = near.events();
            assert_eq!(events.iter().filter(|event| *event == "lost").count(), 1, "{name} in {at}: {events:?}");
            assert!(events.ends_with(&["lost".to_owned()]), "{name} in {at}: {events:?}");
            let reason = near.reason().expect("lost");
            let fits = match (name, at) {
                (_, "lost") | ("lose", "secure" | "data" | "read lost") => reason == ConnectionClosed::Done,
                // TLS-8: nothing was written, so there is nothing to wait for.
                ("lose", "made") | ("abort", _) => reason == ConnectionClosed::Aborted,
                _ => matches!(&reason, ConnectionClosed::Failed(failure) if failure.to_string() == "mine"),
            };
            assert!(fits, "{name} in {at}: {reason:?}");
            assert!(far.has("lost"), "{name} in {at}: the server {:?}", far.events());
            assert!(!pump.client().is_connected() && !pump.server().is_connected());
        }
    }
}

/// A client that pauses at its first byte, with more in the same read, and small reads.
fn pausing(held: &str) -> Halves {
    let both = halves(|near| near.on_data(|transport, _| transport.pause_producing()), |far| far);
    both.near.transport().set_read_size(1);
    both.far.transport().write(held);
    both.pump.flush();
    assert_eq!(both.near.text(), held[..1]);
    both
}
#[test]
fn what_a_pause_holds_back_is_not_overtaken_by_the_end() {
    // In order,
    let both = pausing("abc");
    both.far.transport().lose_connection();
    both.pump.flush();
    assert_eq!(both.near.events(), ["made", "secure", "data"], "the end waits");
    for expected in ["ab", "abc"] {
        both.near.transport().resume_producing();
        both.pump.flush();
        assert_eq!(both.near.text(), expected);
        assert!(!both.near.has("read lost"));
    }
    both.near.transport().resume_producing();
    both.pump.flush();
    assert_eq!(both.near.events(), ["made", "secure", "data", "read lost", "lost"]);
    assert_eq!(both.near.reason(), Some(ConnectionClosed::Done));

    // and not in order: the wire below is gone, and the name stays until all was told.
    let both = pausing("abc");
    both.pump.server().abort_connection();
    both.pump.flush();
    assert!(!both.pump.client().is_connected());
    let near = both.near.transport();
    assert!(both.near.reason().is_none() && !near.is_connected());
    let peer = near.peer();
    assert_ne!(peer, twistlet::Address::Gone);
    near.resume_producing();
    both.clock.advance(Duration::ZERO);
    assert_eq!(both.near.text(), "ab");
    near.resume_producing();
    both.clock.advance(Duration::ZERO);
    assert_eq!(both.near.text(), "abc");
    near.resume_producing();
    both.clock.advance(Duration::ZERO);
    assert_eq!(both.near.reason(), Some(ConnectionClosed::Lost(Some(ErrorKind::ConnectionReset))));

    // Who closes instead does not want the rest.
    let both = pausing("abc");
    both.pump.server().abort_connection();
    both.pump.flush();
    both.near.transport().lose_connection();
    both.clock.advance(Duration::ZERO);
    assert_eq!(both.near.text(), "a");
    assert!(both.near.has("lost"));
}
#[test]
fn the_end_of_the_reactor_is_told_to_who_has_paused_and_to_who_is_in_a_handshake() {
    // R5
    let (near, far) = (Record::default(), Record::default());
    let (seen, seen_far) = (near.clone(), far.clone());
    run(move |reactor| {
        let port = reactor
            .listen_tls("127.0.0.1:0", &server(), move || {
                Witness::new(&far).on_secure(|transport| transport.write("abc"))
            })
            .expect("a port");
        let at = port.address().socket().expect("a port");
        reactor.connect_tls(at, client().named("localhost"), move || {
            Witness::new(&near).on_made(|transport| transport.set_read_size(1)).on_data(move |transport, _| {
                transport.pause_producing();
                // The wire below goes while data is held back, and the reactor ends.
                let _ = reactor.stop();
            })
        });
        // One that says nothing.
        let silent = Box::leak(Box::new(dial(at)));
        let _ = silent;
    });
    assert_eq!(seen.text(), "a");
    assert!(seen.has("lost"));
    assert!(seen_far.events().iter().filter(|event| *event == "lost").count() >= 1);
    let made = seen_far.events().iter().filter(|event| *event == "made").count();
    assert_eq!(made, seen_far.events().iter().filter(|event| *event == "lost").count());
}
#[test]
fn a_listener_survives_peers_that_speak_no_tls_and_peers_that_vanish() {
    let (served, seen) = (Rc::new(Cell::new(0)), Record::default());
    let reasons = seen.clone();
    run(move |reactor: Reactor| {
        let done = served.clone();
        let port = reactor
            .listen_tls("127.0.0.1:0", &server(), move || {
                let done = done.clone();
                Witness::new(&Record::default()).on_lost(move |_| done.set(done.get() + 1))
            })
            .expect("a port");
        let at = port.address().socket().expect("a port");
        for talk in ["GET / HTTP/1.0\r\n\r\n", "", "\x16\x03\x01\x02\x00"] {
            let mut stream = dial(at);
            stream.write_all(talk.as_bytes()).expect("written");
            if talk.is_empty() {
                rig::reset(stream);
            }
        }
        fn wait(reactor: Reactor, served: Rc<Cell<i32>>, at: std::net::SocketAddr, seen: Record) {
            if served.get() < 3 {
                reactor.call_later(Duration::from_millis(1), move || wait(reactor, served, at, seen));
                return;
            }
            reactor.connect_tls(at, client().named("localhost"), move || {
                Witness::new(&seen).on_secure(TransportRef::lose_connection).on_lost(move |_| drop(reactor.stop()))
            });
        }
        wait(reactor, served, at, seen);
    });
    assert_eq!(reasons.events(), ["made", "secure", "lost"]);
}
