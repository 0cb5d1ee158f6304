//! The ends of TCP connections: half-close, abort, errors of the protocol's own, and in which order who is told.
mod rig;

use rig::{Countdown, Log, Probe, Slot, dial, finish, logged, once, peer, plain_server, pump, run, serve, watch_log};
use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;
use twistlet::error::LineTooLong;
use twistlet::{
    Address, ClientFactory, ConnectError, ConnectionClosed, Connector, Factory, Failure, Protocol, Reactor,
    TransportRef,
};

fn read_all(mut stream: std::net::TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("everything up to an orderly end");
    all
}

#[test]
fn a_half_close_is_told_to_both_sides_and_the_other_direction_stays_open() {
    // T09, TX09
    let log = Log::default();
    run(|reactor| {
        let (data, closed, lost) = (log.clone(), log.clone(), log.clone());
        let server = Probe::new()
            .on_data(move |_, bytes| data.add(format!("server got {}", String::from_utf8_lossy(bytes))))
            .on_read_lost(move |transport| {
                closed.add("server: read lost");
                assert!(transport.is_connected() && !transport.is_disconnecting());
                transport.write(b"answer");
                transport.lose_connection();
            })
            .on_lost(move |_, reason| lost.add(format!("server: {reason}")));
        let at = serve(reactor, once(server));
        let (written, heard, ended) = (log.clone(), log.clone(), log.clone());
        let client = Probe::new()
            .on_made(|transport| {
                transport.write(b"hello");
                transport.lose_write_connection();
                transport.lose_write_connection();
            })
            .on_write_lost(move |transport| {
                written.add("client: write lost");
                transport.write(b"dropped");
                assert_eq!(transport.unsent(), 0);
                transport.lose_write_connection();
            })
            .on_data(move |_, bytes| heard.add(format!("client got {}", String::from_utf8_lossy(bytes))))
            .on_lost(move |_, reason| {
                ended.add(format!("client: {reason}"));
                let _ = reactor.stop();
            });
        let _ = reactor.connect_protocol(at, client);
    });
    assert_eq!(
        log.take(),
        [
            "client: write lost",
            "server got hello",
            "server: read lost",
            "server: connection closed in order",
            "client got answer",
            "client: connection closed in order",
        ]
    );
}

#[test]
fn who_does_not_know_half_close_closes_whole() {
    // T10
    let log = Log::default();
    run(|reactor| {
        let (data, lost, ended) = (log.clone(), log.clone(), log.clone());
        let both = Countdown::new(reactor, 2);
        let (one, two) = (both.clone(), both);
        let server = Probe::new().on_data(move |_, _| data.add("data")).on_lost(move |_, reason| {
            lost.add(reason);
            one.done();
        });
        let at = serve(reactor, once(server));
        let client = Probe::new()
            .on_made(|transport| {
                transport.write(b"x");
                transport.lose_write_connection();
            })
            .on_lost(move |_, reason| {
                ended.add(reason);
                two.done();
            });
        let _ = reactor.connect_protocol(at, client);
    });
    let done = "connection closed in order";
    assert_eq!(log.take(), ["data", done, done]);
}

#[test]
fn a_panic_in_a_half_close_notice_is_logged_once_and_ends_the_connection() {
    // T11, TCP-20
    watch_log();
    for read_side in [true, false] {
        let reason = Slot::default();
        run(|reactor| {
            let probe = Probe::new();
            let probe = if read_side {
                probe.on_read_lost(|_| panic!("read notice"))
            } else {
                probe.on_made(TransportRef::lose_write_connection).on_write_lost(|_| panic!("write notice"))
            };
            let at = serve(reactor, once(probe.until_lost(reactor, &reason)));
            let client = dial(at);
            if read_side {
                client.shutdown(Shutdown::Write).unwrap();
            }
            reactor.call_later(Duration::from_secs(60), move || drop(client));
        });
        assert!(matches!(reason.get(), ConnectionClosed::Failed(failure) if failure.is_panic()));
        let lines = logged();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("notice") && lines[0].contains("the connection with 127.0.0.1"), "{lines:?}");
    }
}

#[test]
fn half_closed_both_ways_and_then_closed_is_one_clean_loss() {
    // T12, TCP-21
    let log = Log::default();
    run(|reactor| {
        let (read, write, lost) = (log.clone(), log.clone(), log.clone());
        let probe = Probe::new()
            .on_read_lost(move |transport| {
                read.add("read lost");
                transport.lose_write_connection();
            })
            .on_write_lost(move |transport| {
                write.add("write lost");
                transport.lose_connection();
            })
            .on_lost(move |_, reason| {
                lost.add(reason);
                let _ = reactor.stop();
            });
        let at = serve(reactor, once(probe));
        peer(at, |stream| {
            stream.shutdown(Shutdown::Write).unwrap();
            read_all(stream)
        });
    });
    assert_eq!(log.take(), ["read lost", "write lost", "connection closed in order"]);
}

#[test]
fn a_half_close_towards_a_peer_that_has_gone_is_no_error() {
    // TX10
    let reason = Slot::default();
    run(|reactor| {
        let probe = Probe::new().on_read_lost(|transport| {
            transport.lose_write_connection();
            transport.call_later(Duration::from_millis(5), move || transport.lose_connection());
        });
        let at = serve(reactor, once(probe.until_lost(reactor, &reason)));
        drop(dial(at));
    });
    assert!(reason.get().is_clean());
}

#[test]
fn closing_after_a_half_close_is_told_in_a_later_turn() {
    // N04, TCP-16
    let log = Log::default();
    run(|reactor| {
        let (inside, lost) = (log.clone(), log.clone());
        let probe = Probe::new()
            .on_made(TransportRef::lose_write_connection)
            .on_write_lost(move |transport| {
                transport.lose_connection();
                inside.add("still inside");
            })
            .on_lost(move |_, _| {
                lost.add("lost");
                let _ = reactor.stop();
            });
        let at = serve(reactor, once(probe));
        let client = dial(at);
        reactor.call_later(Duration::from_secs(60), move || drop(client));
    });
    assert_eq!(log.take(), ["still inside", "lost"]);
}

#[test]
fn an_abort_inside_data_received_is_not_reentrant_and_later_writes_are_dropped() {
    // T24, TCP-23
    let log = Log::default();
    let mut client = None;
    run(|reactor| {
        let (data, lost) = (log.clone(), log.clone());
        let probe = Probe::new()
            .on_data(move |transport, _| {
                transport.write(b"before");
                transport.abort_connection();
                assert!(transport.is_connected() && transport.is_disconnecting());
                transport.write(b"after");
                data.add("still inside");
            })
            .on_lost(move |_, reason| {
                lost.add(reason);
                let _ = reactor.stop();
            });
        let at = serve(reactor, once(probe));
        client = Some(peer(at, |mut stream| {
            stream.write_all(b"x").unwrap();
            stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind())
        }));
    });
    assert_eq!(log.take(), ["still inside", "connection aborted by this side"]);
    assert_eq!(client.unwrap().join().unwrap(), Err(ErrorKind::ConnectionReset), "an abort is a reset");
}

#[test]
fn the_peer_of_an_abort_sees_a_loss() {
    let reason = Slot::default();
    run(|reactor| {
        let at = serve(reactor, once(Probe::new().on_made(TransportRef::abort_connection)));
        let _ = reactor.connect_protocol(at, Probe::new().until_lost(reactor, &reason));
    });
    assert_eq!(reason.get(), ConnectionClosed::Lost(Some(ErrorKind::ConnectionReset)));
}

#[test]
fn an_abort_is_prompt_though_the_peer_does_not_read() {
    // T26
    let reason = Slot::default();
    run(|reactor| {
        let probe = Probe::new().on_made(|transport| {
            transport.write(vec![0; 32 << 20]);
            transport.call_later(Duration::from_millis(20), move || {
                assert!(transport.unsent() > 0);
                transport.lose_connection();
                transport.abort_connection();
            });
        });
        let at = serve(reactor, once(probe.until_lost(reactor, &reason)));
        let client = dial(at);
        reactor.call_later(Duration::from_secs(60), move || drop(client));
    });
    assert_eq!(reason.get(), ConnectionClosed::Aborted);
}

#[test]
fn aborts_and_closes_in_any_mixture_are_one_loss() {
    // TX15, TCP-24
    let mixtures: [&[fn(TransportRef)]; 6] = [
        &[TransportRef::abort_connection, TransportRef::lose_connection],
        &[TransportRef::abort_connection, TransportRef::abort_connection],
        &[TransportRef::lose_connection, TransportRef::abort_connection],
        &[TransportRef::lose_connection, TransportRef::lose_connection],
        &[TransportRef::lose_write_connection, TransportRef::lose_connection, TransportRef::lose_write_connection],
        &[TransportRef::lose_write_connection, TransportRef::abort_connection],
    ];
    let reactor = Reactor::new().unwrap();
    for mixture in mixtures {
        let log = Log::default();
        let lost = log.clone();
        let probe = Probe::new()
            .on_made(move |transport| mixture.iter().for_each(|act| act(transport)))
            .on_lost(move |_, reason| lost.add(reason));
        let at = serve(reactor, once(probe));
        let client = dial(at);
        pump(reactor);
        let told = log.take();
        assert_eq!(told.len(), 1, "{told:?}");
        drop(client);
    }
    assert_eq!(reactor.statistics().timers, 0);
    assert_eq!(reactor.statistics().descriptors, mixtures.len(), "only the ports are left");
}

#[test]
fn a_panic_is_the_reason_even_after_an_abort() {
    // TCP-25
    let reason = Slot::default();
    run(|reactor| {
        let probe = Probe::new().on_made(|transport| {
            transport.abort_connection();
            panic!("a bug");
        });
        let at = serve(reactor, once(probe.until_lost(reactor, &reason)));
        let client = dial(at);
        reactor.call_later(Duration::from_secs(60), move || drop(client));
    });
    assert!(matches!(reason.get(), ConnectionClosed::Failed(failure) if failure.to_string().contains("a bug")));
}

#[test]
fn the_peer_of_a_protocol_that_panicked_sees_an_orderly_end() {
    // ERR-9
    let reason = Slot::default();
    let mut client = None;
    run(|reactor| {
        let probe = Probe::new().on_data(|_, _| panic!("a bug"));
        let at = serve(reactor, once(probe.until_lost(reactor, &reason)));
        client = Some(peer(at, |mut stream| {
            stream.write_all(b"x").unwrap();
            read_all(stream)
        }));
    });
    assert!(client.unwrap().join().unwrap().is_empty());
    assert!(matches!(reason.get(), ConnectionClosed::Failed(failure) if failure.is_panic()));
}

#[test]
fn an_error_of_the_protocol_s_own_is_the_reason_and_what_was_written_is_sent() {
    let reason = Slot::default();
    let mut client = None;
    run(|reactor| {
        let probe = Probe::new().on_made(|transport| {
            transport.write(b"too long, sorry");
            transport.fail_connection(LineTooLong { limit: 1 });
            transport.fail_connection(Failure::msg("the first counts"));
            assert!(transport.is_disconnecting());
            transport.lose_connection();
        });
        let at = serve(reactor, once(probe.until_lost(reactor, &reason)));
        client = Some(peer(at, read_all));
    });
    assert_eq!(client.unwrap().join().unwrap(), b"too long, sorry");
    assert!(matches!(reason.get(), ConnectionClosed::Failed(failure) if failure.is::<LineTooLong>()));
}

#[test]
fn unread_input_does_not_turn_a_close_into_a_reset() {
    // TCP-14
    let mut clients = Vec::new();
    run(|reactor| {
        let lost = Countdown::new(reactor, 20);
        let at = serve(reactor, move || {
            let lost = lost.clone();
            Probe::new()
                .on_made(|transport| {
                    transport.pause_producing();
                    transport.call_later(Duration::from_millis(30), move || {
                        transport.write(b"goodbye");
                        transport.lose_connection();
                    });
                })
                .on_lost(move |_, _| lost.done())
        });
        for _ in 0..20 {
            clients.push(peer(at, |mut stream| {
                stream.write_all(&[7; 20_000]).unwrap();
                read_all(stream)
            }));
        }
    });
    for client in clients {
        assert_eq!(client.join().unwrap(), b"goodbye");
    }
}

#[test]
fn no_data_comes_after_lose_connection() {
    let log = Log::default();
    let heard = log.clone();
    run(|reactor| {
        let probe = Probe::new().on_data(move |transport, _| {
            heard.add("data");
            transport.write(vec![0; 4 << 20]);
            transport.lose_connection();
            transport.resume_producing();
        });
        let at = serve(reactor, once(probe.until_lost(reactor, &Slot::default())));
        peer(at, |mut stream| {
            for _ in 0..20 {
                if stream.write_all(b"more").is_err() {
                    break;
                }
                stream.read_exact(&mut [0; 1000]).unwrap();
            }
            let _ = stream.read_to_end(&mut Vec::new());
        });
    });
    assert_eq!(log.take(), ["data"]);
}

/// A client factory that records, and gives its protocol.
struct Recorder {
    log: Log,
    reactor: Reactor,
    panics: bool,
}
impl Protocol for Recorder {
    fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
    fn connection_lost(&mut self, transport: TransportRef, _: &ConnectionClosed) {
        assert!(matches!(transport.peer(), Address::Tcp(_)), "they answer to the last");
        self.log.add("protocol: lost");
        assert!(!self.panics, "as told");
    }
}
impl Factory for Recorder {
    fn build_protocol(&mut self, _: &Address) -> Option<Box<dyn Protocol>> {
        Some(Box::new(Recorder { log: self.log.clone(), ..*self }))
    }
    fn start_factory(&mut self) {
        self.log.add("factory: start");
    }
    fn stop_factory(&mut self) {
        self.log.add("factory: stop");
        let _ = self.reactor.stop();
    }
}
impl ClientFactory for Recorder {
    fn client_connection_failed(&mut self, _: Connector, reason: &ConnectError) {
        self.log.add(format!("factory: failed: {reason}"));
    }
    fn client_connection_lost(&mut self, _: Connector, reason: &ConnectionClosed) {
        self.log.add(format!("factory: lost: {}", reason.is_clean()));
    }
}

#[test]
fn the_protocol_hears_of_a_loss_before_the_factory_which_then_stops() {
    // T14, TCP-35; N09, TCP-37: a panic in between skips nothing
    for panics in [false, true] {
        let log = Log::default();
        let (at, server) = plain_server(drop);
        run(|reactor| {
            reactor.connect_tcp(at, Recorder { log: log.clone(), reactor, panics });
        });
        server.join().unwrap();
        assert_eq!(log.take(), ["factory: start", "protocol: lost", "factory: lost: true", "factory: stop"]);
    }
}

#[test]
fn a_peer_s_reset_in_the_middle_of_a_transfer_is_a_loss() {
    let reason = Slot::default();
    run(|reactor| {
        let probe = Probe::new().on_made(|transport| transport.write(vec![1; 16 << 20]));
        let at = serve(reactor, once(probe.until_lost(reactor, &reason)));
        peer(at, |mut stream| {
            stream.read_exact(&mut [0; 1000]).unwrap();
            rig::reset(stream);
        });
    });
    assert!(matches!(reason.get(), ConnectionClosed::Lost(Some(_))), "{:?}", reason.get());
}

#[test]
fn what_arrived_before_an_orderly_end_is_delivered_before_it() {
    let sum = Rc::new(Cell::new(0));
    let add = sum.clone();
    let reason = Slot::default();
    run(|reactor| {
        let probe = Probe::new().on_data(move |_, data| add.set(add.get() + data.len()));
        let at = serve(reactor, once(probe.until_lost(reactor, &reason)));
        peer(at, |mut stream| stream.write_all(&vec![1; 3 << 20]).unwrap());
    });
    assert_eq!(sum.get(), 3 << 20);
    assert!(reason.get().is_clean());
}

#[test]
fn a_switch_of_protocols_in_every_callback_carries_the_bytes() {
    struct Second {
        log: Log,
        reactor: Reactor,
    }
    impl Protocol for Second {
        fn connection_made(&mut self, _: TransportRef) {
            self.log.add("second");
        }
        fn data_received(&mut self, _: TransportRef, data: &[u8]) {
            self.log.add(String::from_utf8_lossy(data));
        }
        fn connection_lost(&mut self, _: TransportRef, _: &ConnectionClosed) {
            self.log.add("second: lost");
            let _ = self.reactor.stop();
        }
    }
    let log = Log::default();
    run(|reactor| {
        let (second, first) = (log.clone(), log.clone());
        let probe = Probe::new()
            .on_data(move |transport, data| {
                transport.switch_protocol(Second { log: second.clone(), reactor }, &data[1..]);
                transport.switch_protocol(Second { log: second.clone(), reactor }, b"again");
            })
            .on_lost(move |_, _| first.add("first: lost"));
        let at = serve(reactor, once(probe));
        dial(at).write_all(b"abc").unwrap();
    });
    assert_eq!(log.take(), ["second", "second", "bcagain", "second: lost"]);
}

#[test]
fn a_panic_of_a_protocol_that_takes_over_from_outside_closes_the_connection() {
    struct Bad;
    impl Protocol for Bad {
        fn connection_made(&mut self, _: TransportRef) {
            panic!("not me");
        }
        fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
    }
    let reactor = Reactor::new().unwrap();
    reactor.handle_signals(false);
    let name: Rc<RefCell<Option<TransportRef>>> = Rc::default();
    let keep = name.clone();
    let at = serve(reactor, once(Probe::new().on_made(move |transport| *keep.borrow_mut() = Some(transport))));
    let mut client = dial(at);
    pump(reactor);
    let transport = name.borrow().unwrap();
    transport.switch_protocol(Bad, b"");
    pump(reactor);
    assert!(!transport.is_connected());
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    reactor.call_soon(move || reactor.stop());
    finish(reactor);
}
