//! TLS on every kind of wire: echo, order of events, what is agreed on, certificates, sessions, closing, back-pressure.
mod certs;
mod rig;
mod witness;

use certs::{authority, client, client_of, server};
use rig::{run, serve};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use twistlet::testing::{Clock, Pump, connect};
use twistlet::transport::tls::{ClientConfig, ServerConfig, Side, TlsError, TlsProtocol, TlsVersion, wrap_factory};
use twistlet::{ConnectionClosed, Protocol, Reactor, TransportRef};
use witness::{Record, Witness};

fn closed_with(record: &Record) -> Option<TlsError> {
    match record.reason() {
        Some(ConnectionClosed::Failed(failure)) => failure.check::<TlsError>().cloned(),
        _ => None,
    }
}
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
    assert_eq!(seen.events(), ["made", "secure", "data", "read lost", "lost"]);
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
