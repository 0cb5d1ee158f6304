//! TLS on every kind of wire: echo, order of events, what is agreed on, certificates, sessions, closing, back-pressure.
mod certs;
mod rig;
mod witness;

use certs::{authority, client, client_of, server};
use rig::run;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use twistlet::testing::{Clock, Pump, connect};
use twistlet::transport::tls::{ClientConfig, ServerConfig, Side, TlsProtocol, TlsVersion, wrap_factory};
use twistlet::{ConnectionClosed, Protocol, TransportRef};
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
        reactor.connect_tls(at, &client(), move || {
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
    let inner = |record: &Record| TlsProtocol::new(&server(), Witness::echo(record));
    let clock = Clock::new();
    let outer_client = TlsProtocol::new(
        client().named("localhost"),
        TlsProtocol::new(client().named("example.org"), Witness::new(&near).on_made(|transport| transport.write("x"))),
    );
    let pump = connect(outer_client, TlsProtocol::new(&server(), inner(&far)), &clock);
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
            .listen_unix(&path, wrap_factory(&server(), || Witness::echo(&Record::default())))
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
        TlsProtocol::new(&server(), Witness::new(&Record::default())),
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
