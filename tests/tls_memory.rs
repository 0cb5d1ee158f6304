//! What peers can make TLS spend: slow readers and writers, and streams of what the protocol allows but nobody needs.
mod certs;
mod counting;
mod rig;
mod witness;

use certs::{client, pair, server};
use counting::{live, peak};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use twistlet::testing::{Clock, StringTransport, connect};
use twistlet::transport::tls::{Side, TlsProtocol};
use twistlet::{ConnectionClosed, Producer, Protocol, Reactor, TransportRef};
use witness::{Record, Witness};

// ---- slow readers and writers ----

/// What goes each way: 200 MB by hand (`TLS_MEGABYTES=200`), less as a rule, since it is debug code that moves it.
fn megabytes() -> usize {
    std::env::var("TLS_MEGABYTES").ok().and_then(|text| text.parse().ok()).unwrap_or(32)
}

/// Writes while nobody pauses it.
#[derive(Clone)]
struct Pour(Rc<Pouring>);
struct Pouring {
    wire: TransportRef,
    left: Cell<usize>,
    paused: Cell<bool>,
}
impl Pour {
    fn go_on(&self) {
        const PIECE: usize = 40_000;
        if self.0.paused.get() {
            return;
        }
        let n = PIECE.min(self.0.left.get());
        self.0.left.set(self.0.left.get() - n);
        self.0.wire.write(vec![7; n]);
        if self.0.left.get() == 0 {
            return self.0.wire.unregister_producer();
        }
        let again = self.clone();
        self.0.wire.call_later(Duration::ZERO, move || again.go_on());
    }
}
impl Producer for Pour {
    fn pause_producing(&mut self) {
        self.0.paused.set(true);
    }
    fn resume_producing(&mut self) {
        self.0.paused.set(false);
        self.go_on();
    }
    fn stop_producing(&mut self) {
        self.0.paused.set(true);
    }
}
/// Sends all of it and reads what comes back, slowly.
struct Slow {
    reactor: Reactor,
    much: usize,
    came: usize,
    deliveries: usize,
}
impl Protocol for Slow {
    fn connection_made(&mut self, transport: TransportRef) {
        let pour = Pour(Rc::new(Pouring { wire: transport, left: Cell::new(self.much), paused: Cell::new(false) }));
        transport.register_producer(pour.clone());
        pour.go_on();
    }
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        self.came += data.len();
        self.deliveries += 1;
        if self.came == self.much {
            let _ = self.reactor.stop();
        } else if self.deliveries.is_multiple_of(16) {
            transport.pause_producing();
            transport.call_later(Duration::from_millis(2), move || transport.resume_producing());
        }
    }
}
/// Echoes, and reads no more than it can write.
struct Echo;
impl Protocol for Echo {
    fn connection_made(&mut self, transport: TransportRef) {
        transport.register_producer(transport);
    }
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        transport.write(data);
    }
}
#[test]
fn a_slow_reader_of_its_own_echo_costs_little_memory() {
    let much = megabytes() << 20;
    let cost = peak(|| {
        let reactor = Reactor::new().expect("a reactor");
        reactor.handle_signals(false);
        let port = reactor.listen_tls("127.0.0.1:0", &server(), || Echo).expect("a port");
        reactor.connect_tls(&port.address(), client().named("localhost"), move || Slow {
            reactor,
            much,
            came: 0,
            deliveries: 0,
        });
        let late = Rc::new(Cell::new(false));
        let mark = late.clone();
        reactor.call_later(Duration::from_secs(60), move || {
            mark.set(true);
            reactor.stop()
        });
        reactor.run().expect("it runs");
        assert!(!late.get(), "it took too long");
    });
    // Both sides, the reactor's buffer and TLS's, and what waits on each side: half a megabyte at most.
    println!("{cost} bytes at once for {much} each way");
    assert!(cost < 3 << 20, "{cost} bytes at once for {much} each way");
}

// ---- streams that mean nothing ----

/// A peer with a mind of its own.
struct Raw(rustls::Connection);
impl Raw {
    fn give(&mut self, data: &[u8]) {
        let mut rest = data;
        while !rest.is_empty() {
            self.0.read_tls(&mut rest).expect("taken");
            self.0.process_new_packets().expect("TLS");
            let mut thrown = Vec::new();
            let _ = self.0.reader().read_to_end(&mut thrown);
        }
    }
    fn take(&mut self) -> Vec<u8> {
        let mut sent = Vec::new();
        while self.0.wants_write() {
            self.0.write_tls(&mut sent).expect("written");
        }
        sent
    }
    fn says(&mut self, data: &[u8]) -> Vec<u8> {
        self.0.writer().write_all(data).expect("written");
        self.take()
    }
    fn new_keys(&mut self) -> Vec<u8> {
        self.0.refresh_traffic_keys().expect("TLS 1.3");
        self.take()
    }
    fn server(tickets: usize) -> Raw {
        let builder = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let chain = CertificateDer::pem_slice_iter(pair().chain.as_bytes()).map(|der| der.expect("PEM")).collect();
        let key = PrivateKeyDer::from_pem_slice(pair().key.as_bytes()).expect("PEM");
        let builder = builder.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
        let mut config = builder.with_single_cert(chain, key).expect("a certificate");
        config.send_tls13_tickets = tickets;
        let mut connection = rustls::ServerConnection::new(Arc::new(config)).expect("a server");
        connection.set_buffer_limit(None);
        Raw(connection.into())
    }
    fn client() -> Raw {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(certs::authority().root.as_bytes()).expect("PEM")).expect("a root");
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        Raw(rustls::ClientConnection::new(Arc::new(config), name).expect("a client").into())
    }
}
fn alone(side: Side) -> (StringTransport, Record, Clock) {
    let (record, clock) = (Record::default(), Clock::new());
    let wire = StringTransport::connect(TlsProtocol::new(side, Witness::new(&record)), &clock);
    (wire, record, clock)
}
/// The handshake of ours with a peer of that mind, up to the peer's last flight, which is returned undelivered.
fn shake(raw: &mut Raw, wire: &StringTransport, clock: &Clock) -> Vec<u8> {
    let flight = raw.take();
    wire.deliver(flight);
    clock.advance(Duration::ZERO);
    raw.give(&wire.take());
    raw.take()
}
/// Feeds it until the connection is closed; what that costs, and how much was taken.
fn feed(what: &str, wire: &StringTransport, mut next: impl FnMut() -> Vec<u8>) -> usize {
    let (mut taken, mut most) = (0, 0);
    let start = live();
    while taken < 4_000_000 && !wire.is_disconnecting() {
        let piece = next();
        if piece.is_empty() {
            break;
        }
        let held = live();
        let cost = peak(|| wire.deliver(&piece));
        most = most.max((held - start).max(0) as usize + cost);
        taken += piece.len();
    }
    println!("{what}: {taken} bytes taken, {most} bytes of memory, {} bytes answered", wire.value().len());
    assert!(most < 1 << 20, "{what}: {most} bytes of memory for {taken}");
    assert!(wire.value().len() < 64_000, "{what}: {} bytes were answered", wire.value().len());
    taken
}

#[test]
fn streams_of_nothing_before_the_handshake_cost_no_memory() {
    let repeated = |piece: &[u8]| {
        let whole = piece.repeat(8000 / piece.len());
        move || whole.clone()
    };
    for side in [Side::from(server()), client().named("localhost")] {
        for (what, piece) in [
            ("empty handshake records", &[22, 3, 1, 0, 0][..]),
            ("empty data records", &[23, 3, 3, 0, 0][..]),
            ("changes of the cipher", &[20, 3, 3, 0, 1, 1][..]),
            ("warnings", &[21, 3, 3, 0, 2, 1, 90][..]),
        ] {
            let (wire, record, clock) = alone(side.clone());
            let taken = feed(what, &wire, repeated(piece));
            assert!(taken < 200_000, "{what}: {taken} bytes were taken");
            wire.lose(ConnectionClosed::Done);
            assert!(matches!(record.reason(), Some(ConnectionClosed::Failed(_))), "{what}");
            drop(clock);
        }
    }
    // A hello that never ends: in whole records, and a byte at a time.
    let (wire, record, _clock) = alone(Side::from(server()));
    let mut first = true;
    feed("a huge hello", &wire, || {
        let mut piece = vec![22, 3, 1, 0x40, 0];
        piece.extend_from_slice(if std::mem::take(&mut first) { &[1, 255, 255, 255] } else { &[0; 4] });
        piece.extend_from_slice(&[0; 0x4000 - 4]);
        piece
    });
    assert!(wire.is_disconnecting());
    wire.lose(ConnectionClosed::Done);
    assert!(matches!(record.reason(), Some(ConnectionClosed::Failed(_))));
    let (wire, _record, _clock) = alone(Side::from(server()));
    let mut hello = vec![22, 3, 1, 0, 4, 1, 0, 255, 0];
    hello.extend([22, 3, 1, 0, 1, 0].repeat(70_000));
    let mut pieces = hello.chunks(5000);
    feed("a hello in bytes", &wire, || pieces.next().map_or_else(Vec::new, <[u8]>::to_vec));
}

#[test]
fn tickets_new_keys_and_tiny_records_cost_no_memory() {
    let (wire, record, clock) = alone(client().named("localhost"));
    let mut raw = Raw::server(5_000);
    raw.give(&wire.take());
    let flight = shake(&mut raw, &wire, &clock);
    assert!(record.has("secure"));
    let mut pieces = flight.chunks(5000);
    assert!(flight.len() > 300_000, "{} bytes of tickets", flight.len());
    feed("tickets", &wire, || pieces.next().map_or_else(Vec::new, <[u8]>::to_vec));

    for (what, between) in [("new keys", &b""[..]), ("new keys between bytes", &b"x"[..])] {
        for by_server in [true, false] {
            let (wire, record, clock) = alone(if by_server { client().named("localhost") } else { server().into() });
            let mut raw = if by_server { Raw::server(2) } else { Raw::client() };
            if by_server {
                raw.give(&wire.take());
            }
            let rest = shake(&mut raw, &wire, &clock);
            wire.deliver(rest);
            clock.advance(Duration::ZERO);
            assert!(record.has("secure"));
            wire.take();
            let raw = RefCell::new(raw);
            let mut made = 0;
            feed(what, &wire, || {
                made += 1;
                if made > 20_000 {
                    return Vec::new();
                }
                let mut raw = raw.borrow_mut();
                let mut piece = raw.new_keys();
                if !between.is_empty() {
                    piece.extend(raw.says(between));
                }
                piece
            });
        }
    }

    let (wire, record, clock) = alone(server().into());
    let mut raw = Raw::client();
    let rest = shake(&mut raw, &wire, &clock);
    wire.deliver(rest);
    let mut made = 0;
    let counted = feed("records of one byte", &wire, || {
        made += 1;
        if made > 40 {
            return Vec::new();
        }
        (0..500).flat_map(|_| raw.says(b"x")).collect()
    });
    assert!(counted > 0);
    assert_eq!(record.data().len(), 20_000);
}

#[test]
fn connections_that_have_ended_leave_no_memory() {
    let one = |held: bool| {
        let clock = Clock::new();
        let (near, far) = (Record::default(), Record::default());
        let paused = move |transport: TransportRef, _: &[u8]| {
            if held {
                transport.pause_producing();
            }
        };
        let pump = connect(
            TlsProtocol::new(client().without_resumption().named("localhost"), Witness::new(&near).on_data(paused)),
            TlsProtocol::new(server(), Witness::echo(&far)),
            &clock,
        );
        pump.flush();
        near.transport().set_read_size(1);
        near.transport().write("some");
        pump.flush();
        if held {
            // The end waits for the pause to end.
            pump.server().abort_connection();
            pump.flush();
            assert!(!near.has("lost"));
            near.transport().abort_connection();
            clock.advance(Duration::ZERO);
        } else {
            near.transport().lose_connection();
        }
        pump.flush();
        drop(pump);
        clock.advance(Duration::from_secs(100));
        assert!(near.has("lost") && far.has("lost"));
    };
    let reactor = Reactor::new().expect("a reactor");
    for held in [false, true] {
        for _ in 0..10 {
            one(held);
        }
        let before = live();
        for _ in 0..100 {
            one(held);
        }
        let left = live() - before;
        assert!(left < 3_000, "{left} bytes are left by a hundred connections");
    }
    reactor.close();
}
