//! `start_tls` on live connections: raw, by lines, framed, producers, pauses; plaintext behind the request is dropped.
mod certs;
mod rig;
mod witness;

use bytes::Bytes;
use certs::{client, server};
use rig::{Log, run, watch_log};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use twistlet::protocols::codec::{Framed, Handler, Netstrings};
use twistlet::protocols::{LineHandler, LineReceiver, LineTransport};
use twistlet::testing::{Clock, Pump, StringTransport, connect};
use twistlet::transport::tls::{ServerConfig, TlsProtocol};
use twistlet::{ConnectionClosed, Producer, Protocol, PullProducer, Reactor, TransportRef};
use witness::{Record, Witness};

/// Answers STARTTLS with "go" and TLS; echoes everything else.
fn starttls_server(record: &Record) -> Witness {
    let config = server();
    Witness::new(record).on_data(move |transport, data| {
        if data.starts_with(b"STARTTLS") {
            transport.write("go");
            transport.start_tls(&config);
        } else {
            transport.write(data);
        }
    })
}
/// Says STARTTLS, and `then` when it is secure.
fn starttls_client(record: &Record, then: impl Fn(TransportRef) + 'static) -> Witness {
    Witness::new(record)
        .on_made(|transport| transport.write("STARTTLS"))
        .on_data(|transport, data| {
            if data == b"go" {
                transport.start_tls(client().named("localhost"));
            }
        })
        .on_secure(then)
}

#[test]
fn a_connection_becomes_secure_under_the_names_that_everybody_holds() {
    // TLS-14
    let (near, far) = (Record::default(), Record::default());
    let (seen, seen_far) = (near.clone(), far.clone());
    run(move |reactor| {
        let port = reactor.listen_tcp("127.0.0.1:0", move || starttls_server(&far)).expect("a port");
        let near = near.clone();
        reactor.connect_tcp(&port.address(), move || {
            let copy = near.clone();
            starttls_client(&near, move |transport| {
                assert_eq!(copy.transport(), transport, "the name stays");
                assert!(transport.is_secure() && !transport.is_handshaking());
                copy.transport().write("secret");
            })
            .on_lost(move |_| drop(reactor.stop()))
        });
        let seen = seen.clone();
        reactor.call_later(Duration::from_millis(1), move || until_secret(reactor, seen));
    });
    fn until_secret(reactor: Reactor, seen: Record) {
        if seen.text() == "gosecret" {
            seen.transport().lose_connection();
        } else {
            reactor.call_later(Duration::from_millis(1), move || until_secret(reactor, seen));
        }
    }
    assert_eq!(seen_far.events(), ["made", "data", "secure", "data", "read lost", "lost"]);
    assert_eq!(seen_far.text(), "STARTTLSsecret");
    assert_eq!(seen_far.reason(), Some(ConnectionClosed::Done));
}

fn memory(near: impl Protocol + 'static, far: impl Protocol + 'static) -> (Pump, Clock) {
    let clock = Clock::new();
    (connect(near, far, &clock), clock)
}

#[test]
fn it_works_in_memory_twice_over_and_closes_in_order() {
    let (near, far) = (Record::default(), Record::default());
    let config = server();
    let twice = Cell::new(0);
    let far_protocol = Witness::new(&far).on_data(move |transport, data| match data {
        b"STARTTLS" => {
            transport.write("go");
            transport.start_tls(&config);
        }
        data => transport.write(data),
    });
    let near_protocol = Witness::new(&near)
        .on_made(|transport| transport.write("STARTTLS"))
        .on_data(|transport, data| {
            if data == b"go" {
                transport.start_tls(client().named("localhost"));
            }
        })
        .on_secure(move |transport| {
            twice.set(twice.get() + 1);
            transport.write(if twice.get() == 1 { "STARTTLS" } else { "deep" });
        });
    let (pump, _) = memory(near_protocol, far_protocol);
    pump.flush();
    assert_eq!(near.events(), ["made", "data", "secure", "data", "secure", "data"]);
    assert_eq!((near.text().as_str(), far.text().as_str()), ("gogodeep", "STARTTLSSTARTTLSdeep"));
    far.transport().lose_connection();
    pump.flush();
    assert_eq!((near.reason(), far.reason()), (Some(ConnectionClosed::Done), Some(ConnectionClosed::Done)));
}

#[test]
fn what_was_written_before_goes_out_first_and_in_the_clear() {
    let record = Record::default();
    let config = server();
    let wire = StringTransport::connect(
        Witness::new(&record).on_data(move |transport, _| {
            transport.write("before");
            transport.start_tls(&config);
            transport.write("after");
        }),
        &Clock::new(),
    );
    wire.deliver("x");
    assert_eq!(wire.value(), b"before", "what is written after waits for the handshake");
    assert_eq!(record.transport().unsent(), "before".len() + "after".len());
}

/// Lines; answers each, and begins TLS on STARTTLS.
struct Mail {
    tls: ServerConfig,
    log: Log,
}
impl LineHandler for Mail {
    fn line_received(&mut self, transport: LineTransport, line: &[u8]) {
        let secure = if transport.is_secure() { "secure" } else { "plain" };
        self.log.add(format_args!("{secure} {}", line.escape_ascii()));
        if line == b"STARTTLS" {
            transport.send_line("220 go");
            transport.start_tls(&self.tls);
            assert_eq!(transport.clear_line_buffer(), Bytes::new());
        } else {
            transport.send_line("250 ok");
        }
    }
    fn handshake_completed(&mut self, _: LineTransport) {
        self.log.add("handshake");
    }
}

#[test]
fn lines_behind_starttls_are_dropped_and_lines_through_tls_are_not() {
    // CVE-2011-0411 and its kind: what an attacker puts behind the request must not be taken for the client's.
    for injected in ["", "RCPT attacker\r\n", "half a li", "one\r\ntwo\r\nthr"] {
        let log = Log::default();
        let config = server();
        let record = Record::default();
        let request = format!("EHLO\r\nSTARTTLS\r\n{injected}");
        let own = log.clone();
        let (pump, _) = memory(
            Witness::new(&record).on_made(move |transport| transport.write(&request)).on_data(|transport, data| {
                if data.ends_with(b"220 go\r\n") {
                    transport.start_tls(client().named("localhost"));
                    transport.write("MAIL\r\n");
                }
            }),
            LineReceiver::new(Mail { tls: config, log: own }),
        );
        pump.flush();
        assert_eq!(log.take(), ["plain EHLO", "plain STARTTLS", "handshake", "secure MAIL"], "{injected:?}");
        assert_eq!(record.text(), "250 ok\r\n220 go\r\n250 ok\r\n");
    }
}

#[test]
fn half_a_line_before_a_start_from_outside_is_dropped_too() {
    let log = Log::default();
    let (record, config, clock) = (Record::default(), server(), Clock::new());
    let pump = connect(
        Witness::new(&record).on_made(|transport| transport.write("half a li")).on_data(|transport, data| {
            if data == b"now" {
                transport.start_tls(client().named("localhost"));
                transport.write("whole\r\n");
            }
        }),
        LineReceiver::new(Mail { tls: config.clone(), log: log.clone() }),
        &clock,
    );
    pump.flush();
    let far = pump.server();
    far.write("now");
    far.start_tls(&config);
    pump.flush();
    assert_eq!(log.take(), ["handshake", "secure whole"]);
}

#[test]
fn lines_held_back_by_a_pause_are_dropped() {
    let log = Log::default();
    struct Pauses(Mail);
    impl LineHandler for Pauses {
        fn line_received(&mut self, transport: LineTransport, line: &[u8]) {
            self.0.line_received(transport, line);
            if line == b"STARTTLS" {
                transport.pause_producing();
            }
        }
        fn handshake_completed(&mut self, transport: LineTransport) {
            self.0.handshake_completed(transport);
            assert!(transport.is_paused(), "a handshake needs no permission");
            transport.resume_producing();
        }
    }
    let record = Record::default();
    let (pump, _) = memory(
        Witness::new(&record).on_made(|transport| transport.write("STARTTLS\r\ninjected\r\n")).on_data(
            |transport, data| {
                if data == b"220 go\r\n" {
                    transport.start_tls(client().named("localhost"));
                    transport.write("mine\r\n");
                }
            },
        ),
        LineReceiver::new(Pauses(Mail { tls: server(), log: log.clone() })),
    );
    pump.flush();
    assert_eq!(log.take(), ["plain STARTTLS", "handshake", "secure mine"]);
}

#[test]
fn messages_behind_starttls_are_dropped_by_framed_protocols() {
    struct Upgrade(ServerConfig, Log);
    impl Handler<Bytes> for Upgrade {
        fn message_received(&mut self, transport: TransportRef, message: Bytes) {
            self.1.add(message.escape_ascii());
            if message == "start" {
                transport.write("go");
                transport.start_tls(&self.0);
            }
        }
        fn handshake_completed(&mut self, _: TransportRef) {
            self.1.add("handshake");
        }
    }
    for injected in ["", "4:evil,", "4:ev", "9"] {
        let (log, record, config) = (Log::default(), Record::default(), server());
        let request = format!("5:start,{injected}");
        let (pump, _) = memory(
            Witness::new(&record).on_made(move |transport| transport.write(&request)).on_data(|transport, data| {
                if data == b"go" {
                    transport.start_tls(client().named("localhost"));
                    transport.write("4:good,");
                }
            }),
            Framed::new(Netstrings::new(), Upgrade(config, log.clone())),
        );
        pump.flush();
        assert_eq!(log.take(), ["start", "handshake", "good"], "{injected:?}");
    }
}

#[test]
fn bytes_for_the_next_protocol_are_dropped_when_tls_comes_between() {
    for first in [true, false] {
        let (near, far, next) = (Record::default(), Record::default(), Record::default());
        let (config, told) = (server(), next.clone());
        let (pump, _) = memory(
            starttls_client(&near, |transport| transport.write("secret")),
            Witness::new(&far).on_data(move |transport, _| {
                transport.write("go");
                if first {
                    transport.start_tls(&config);
                }
                transport.switch_protocol(Witness::new(&told), "injected");
                if !first {
                    transport.start_tls(&config);
                }
            }),
        );
        pump.flush();
        assert_eq!(next.events(), ["made", "secure", "data"]);
        assert_eq!(next.text(), "secret");
        drop(pump);
    }
}

#[test]
fn starting_twice_or_too_late_does_nothing_but_log() {
    watch_log();
    let record = Record::default();
    let wire = StringTransport::connect(Witness::new(&record), &Clock::new());
    let near = wire.transport();
    near.start_tls(client().named("localhost"));
    let hello = wire.value();
    near.start_tls(client().named("localhost"));
    assert_eq!(wire.value(), hello);
    assert!(rig::logged().iter().any(|line| line.contains("start_tls")));

    wire.lose(ConnectionClosed::Done);
    near.start_tls(client().named("localhost"));
    assert!(!near.is_secure());

    let wire = StringTransport::connect(Witness::new(&record), &Clock::new());
    wire.transport().lose_connection();
    wire.transport().start_tls(client().named("localhost"));
    assert!(wire.value().is_empty() && !wire.transport().is_secure());
}
