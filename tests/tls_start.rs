//! `start_tls` on live connections: raw, by lines, framed, producers, pauses; plaintext behind the request is dropped.
mod certs;
mod rig;
mod witness;

use bytes::Bytes;
use certs::{client, server};
use rig::{Far, Log, run, watch_log};
use std::cell::Cell;
use std::time::Duration;
use twistlet::protocols::codec::{Decoder, Framed, Handler, Netstrings};
use twistlet::protocols::{Inbox, LineHandler, LineReceiver, LineTransport, Received};
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
fn bytes_that_arrive_before_the_next_protocol_has_started_tls_are_dropped() {
    // The switch is carried out when the bytes come, and what takes over begins with TLS.
    let (first, next, config) = (Record::default(), Record::default(), server());
    run(|reactor| {
        let far = Far::connect(reactor, Witness::new(&first));
        far.near.switch_protocol(Witness::new(&next).on_made(move |transport| transport.start_tls(&config)), "");
        far.deliver("injected");
        assert_eq!((first.text(), next.text()), (String::new(), String::new()));
        assert_eq!(next.events(), ["made"]);
        reactor.call_soon(move || reactor.stop());
    });
}

#[test]
fn bytes_held_back_by_a_pause_on_the_wire_itself_are_dropped() {
    // A wire that does not heed pauses: what it delivers waits at the name.
    let (far, near, config, clock) = (Record::default(), Record::default(), server(), Clock::new());
    run(|reactor| {
        let wire = Far::connect(reactor, Witness::new(&far));
        let peer = StringTransport::connect(Witness::new(&near), &clock);
        wire.near.pause_producing();
        wire.deliver("injected");
        wire.near.start_tls(&config);
        peer.transport().start_tls(client().named("localhost"));
        peer.transport().write("secret");
        for _ in 0..4 {
            clock.advance(Duration::ZERO);
            wire.deliver(peer.take());
            rig::pump(reactor);
            peer.deliver(wire.written_bytes());
        }
        assert_eq!(far.events(), ["made", "secure"]);
        wire.near.resume_producing();
        rig::pump(reactor);
        assert_eq!(far.text(), "secret");
        reactor.call_soon(move || reactor.stop());
    });
}

/// What a framed server believes: `before` arrives, TLS starts from outside, and the client says `secret`.
fn framed_believes<D: Decoder<Item: std::fmt::Debug>>(
    decoder: D,
    before: &'static str,
    secret: &'static str,
) -> Vec<String> {
    struct Notes(Log);
    impl<M: std::fmt::Debug> Handler<M> for Notes {
        fn message_received(&mut self, _: TransportRef, message: M) {
            self.0.add(format_args!("{message:?}"));
        }
        fn handshake_completed(&mut self, _: TransportRef) {
            self.0.add("handshake");
        }
    }
    let (log, record, config) = (Log::default(), Record::default(), server());
    let near =
        Witness::new(&record).on_made(move |transport| transport.write(before)).on_data(move |transport, data| {
            if data == b"now" {
                transport.start_tls(client().named("localhost"));
                transport.write(secret);
            }
        });
    let (pump, _) = memory(near, Framed::new(decoder, Notes(log.clone())));
    pump.flush();
    pump.server().write("now");
    pump.server().start_tls(&config);
    pump.flush();
    log.take()
}
#[test]
fn half_a_message_before_a_start_from_outside_is_dropped_too() {
    assert_eq!(framed_believes(Netstrings::new(), "4:ev", "4:good,"), ["handshake", "b\"good\""]);
    // And what a decoder has taken out of the bytes already.
    struct Fills(Inbox<String>);
    impl LineHandler for Fills {
        fn line_received(&mut self, _: LineTransport, line: &[u8]) {
            self.0.put(line.escape_ascii().to_string());
        }
    }
    let inside = Received::new(|inbox| LineReceiver::new(Fills(inbox)));
    assert_eq!(framed_believes(inside, "half a li", "whole\r\n"), ["handshake", "\"whole\""]);
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

#[derive(Clone)]
struct Notes(Log);
impl Producer for Notes {
    fn pause_producing(&mut self) {
        self.0.add("pause");
    }
    fn resume_producing(&mut self) {
        self.0.add("resume");
    }
    fn stop_producing(&mut self) {
        self.0.add("stop");
    }
}
#[test]
fn a_push_producer_moves_to_the_secure_layer() {
    // TLS-14: it is held back by the handshake, and by the wire below afterwards.
    let (near, far, log) = (Record::default(), Record::default(), Log::default());
    let config = server();
    let own = log.clone();
    let (pump, clock) = memory(
        starttls_client(&near, |_| {}),
        Witness::new(&far).on_made(move |transport| transport.register_producer(Notes(own.clone()))).on_data(
            move |transport, _| {
                transport.write("go");
                transport.start_tls(&config);
                transport.write(vec![0; 100_000]);
            },
        ),
    );
    pump.pump();
    clock.advance(Duration::ZERO);
    assert_eq!(log.take(), ["pause"], "more than the mark waits for the handshake");
    pump.flush();
    // Once it is out; what the wire in memory did to it meanwhile is its business.
    assert_eq!(log.all().last().map(String::as_str), Some("resume"));
    assert_eq!(near.data().len(), 100_002);
    let server = far.transport();
    server.lose_connection();
    pump.flush();
    assert!(!far.has("lost"), "a producer is waited for");
    server.unregister_producer();
    pump.flush();
    assert_eq!((far.reason(), near.reason()), (Some(ConnectionClosed::Done), Some(ConnectionClosed::Done)));
    assert!(!log.contains("stop"));
}
struct Counts(usize);
impl PullProducer for Counts {
    fn produce(&mut self, consumer: TransportRef) -> bool {
        consumer.write(vec![b'0' + self.0 as u8; 1000]);
        self.0 -= 1;
        self.0 > 0
    }
}
#[test]
fn a_pull_producer_moves_to_the_secure_layer() {
    let (near, far) = (Record::default(), Record::default());
    let config = server();
    let (pump, _) = memory(
        starttls_client(&near, |_| {}),
        Witness::new(&far).on_data(move |transport, _| {
            transport.write("go");
            transport.register_pull_producer(Counts(5));
            transport.start_tls(&config);
            transport.lose_connection();
        }),
    );
    pump.flush();
    let expected: Vec<u8> = b"go".iter().copied().chain((1..=5).rev().flat_map(|n| vec![b'0' + n; 1000])).collect();
    assert!(near.data() == expected, "{} bytes", near.data().len());
    assert_eq!(far.reason(), Some(ConnectionClosed::Done));
}
/// Starts TLS from within its own call.
struct Starts(Option<ServerConfig>, usize);
impl PullProducer for Starts {
    fn produce(&mut self, consumer: TransportRef) -> bool {
        if let Some(config) = self.0.take() {
            consumer.write("go");
            consumer.start_tls(&config);
            return true;
        }
        consumer.write("secret");
        self.1 -= 1;
        self.1 > 0
    }
}
#[test]
fn a_producer_that_starts_tls_itself_goes_on_through_it() {
    let (near, far, config) = (Record::default(), Record::default(), server());
    let (pump, _) = memory(
        starttls_client(&near, |_| {}),
        Witness::new(&far).on_data(move |transport, _| {
            transport.register_pull_producer(Starts(Some(config.clone()), 3));
            transport.lose_connection();
        }),
    );
    pump.flush();
    // A close that was under way before refuses TLS; so what comes is not secret.
    assert!(!near.has("secure"));

    let (near, far, config) = (Record::default(), Record::default(), server());
    let (pump, _) = memory(
        starttls_client(&near, |_| {}),
        Witness::new(&far).on_data(move |transport, _| {
            transport.register_pull_producer(Starts(Some(config.clone()), 3));
        }),
    );
    pump.flush();
    assert_eq!(near.text(), "gosecretsecretsecret");
    far.transport().lose_connection();
    pump.flush();
    assert_eq!(far.reason(), Some(ConnectionClosed::Done));
}

#[test]
fn a_producer_that_starts_tls_itself_holds_the_close_back() {
    let (near, far, config) = (Record::default(), Record::default(), server());
    let (pump, _) = memory(
        starttls_client(&near, |_| {}),
        Witness::new(&far)
            .on_data(move |transport, _| transport.register_pull_producer(Starts(Some(config.clone()), 3)))
            .on_secure(TransportRef::lose_connection),
    );
    pump.flush();
    assert_eq!(near.text(), "gosecretsecretsecret");
    assert_eq!((far.reason(), near.reason()), (Some(ConnectionClosed::Done), Some(ConnectionClosed::Done)));
}

#[test]
fn a_pause_before_stays_and_does_not_keep_the_handshake_back() {
    let (near, far) = (Record::default(), Record::default());
    let config = server();
    let (pump, _) = memory(
        starttls_client(&near, |transport| transport.write("secret")),
        Witness::new(&far).on_data(move |transport, _| {
            transport.pause_producing();
            transport.write("go");
            transport.start_tls(&config);
            assert!(transport.is_paused());
        }),
    );
    pump.flush();
    assert_eq!(far.events(), ["made", "data", "secure"]);
    far.transport().resume_producing();
    pump.flush();
    assert_eq!(far.text(), "STARTTLSsecret");
}

#[test]
fn the_ends_of_a_wire_that_tls_was_put_under_are_told_as_under_any() {
    type End = (&'static str, fn(&Pump, &Record), fn(&ConnectionClosed) -> bool);
    let ends: [End; 5] = [
        ("lose", |_, far| far.transport().lose_connection(), |reason| *reason == ConnectionClosed::Done),
        ("abort", |_, far| far.transport().abort_connection(), |reason| *reason == ConnectionClosed::Aborted),
        (
            "fail",
            |_, far| far.transport().fail_connection(twistlet::Failure::msg("mine")),
            |reason| matches!(reason, ConnectionClosed::Failed(_)),
        ),
        ("peer", |_, far| far.note("peer"), |reason| *reason == ConnectionClosed::Done),
        ("reset", |pump, _| pump.client().abort_connection(), |reason| matches!(reason, ConnectionClosed::Lost(_))),
    ];
    for (name, end, fits) in ends {
        let (near, far) = (Record::default(), Record::default());
        let (pump, _) = memory(starttls_client(&near, |_| {}), starttls_server(&far));
        pump.flush();
        assert!(near.has("secure") && far.has("secure"));
        end(&pump, &far);
        if name == "peer" {
            near.transport().lose_connection();
        }
        pump.flush();
        assert_eq!(far.events().iter().filter(|event| *event == "lost").count(), 1, "{name}: {:?}", far.events());
        let reason = far.reason().expect("lost");
        assert!(fits(&reason), "{name}: {reason:?}");
        assert!(near.has("lost") && !far.transport().is_connected());
    }
}
#[test]
fn a_panic_behind_start_tls_ends_the_connection() {
    watch_log();
    let (near, far, config) = (Record::default(), Record::default(), server());
    let (pump, _) = memory(
        starttls_client(&near, |_| {}),
        Witness::new(&far).on_data(move |transport, _| {
            transport.write("go");
            transport.start_tls(&config);
            panic!("boom");
        }),
    );
    pump.flush();
    assert!(matches!(far.reason(), Some(ConnectionClosed::Failed(_))), "{:?}", far.reason());
    assert!(near.has("lost") && !near.has("secure"));
}
#[test]
fn a_wire_whose_protocol_is_tls_and_that_nobody_owns_any_more_tells_its_end() {
    let record = Record::default();
    let wire =
        StringTransport::connect(TlsProtocol::new(client().named("localhost"), Witness::new(&record)), &Clock::new());
    record.transport().start_tls(client().named("localhost"));
    drop(wire);
    assert_eq!(record.events(), ["made", "lost"]);
    assert!(matches!(record.reason(), Some(ConnectionClosed::Lost(None))));
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 24, ..Default::default() })]
    #[test]
    fn starttls_in_any_pieces_never_believes_what_was_injected(
        sizes in proptest::collection::vec(1usize..600, 1..10),
        injected in "[a-z\r\n]{0,40}",
    ) {
        let (log, record, clock) = (Log::default(), Record::default(), Clock::new());
        let server = StringTransport::connect(LineReceiver::new(Mail { tls: server(), log: log.clone() }), &clock);
        let client = StringTransport::connect(
            Witness::new(&record).on_data(|transport, data| {
                if data == b"220 go\r\n" {
                    transport.start_tls(client().named("localhost"));
                    transport.write("MAIL\r\n");
                }
            }),
            &clock,
        );
        let mut sizes = sizes.into_iter().cycle();
        // What is injected comes with the request; later, it would be a broken handshake.
        server.deliver(format!("STARTTLS\r\n{injected}"));
        for _ in 0..12 {
            for (from, to) in [(&server, &client), (&client, &server)] {
                clock.advance(Duration::ZERO);
                let sent = from.take();
                let mut rest = &sent[..];
                while !rest.is_empty() {
                    let n = if rest == b"220 go\r\n" { rest.len() } else { sizes.next().unwrap_or(1).min(rest.len()) };
                    to.deliver(&rest[..n]);
                    rest = &rest[n..];
                }
            }
        }
        proptest::prop_assert_eq!(log.take(), ["plain STARTTLS", "handshake", "secure MAIL"]);
        proptest::prop_assert!(record.text().ends_with("250 ok\r\n"));
    }
}
