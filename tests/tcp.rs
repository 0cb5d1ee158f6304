//! TCP connections: writing, reading, pausing, names, addresses.
mod rig;

use bytes::Bytes;
use rig::{Countdown, Log, Probe, Slot, address, dial, finish, once, peer, plain_server, pump, reset, run, serve};
use std::cell::{Cell, RefCell};
use std::io::{IoSlice, Read, Write};
use std::rc::Rc;
use std::time::Duration;
use twistlet::{Address, ConnectionClosed, Protocol, Reactor, Shared, TransportRef, from_fn};

fn read_all(mut stream: std::net::TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("everything up to an orderly end");
    all
}

#[test]
fn what_is_written_before_a_close_arrives_before_it_in_order() {
    // T06
    let reason = Slot::default();
    let mut client = None;
    run(|reactor| {
        let probe = Probe::new().on_made(|transport| {
            transport.write(b"one ");
            transport.write_vectored(&[IoSlice::new(b"two "), IoSlice::new(b"three "), IoSlice::new(b"")]);
            transport.write(b"");
            write!(transport, "{} ", 4);
            transport.write_fmt(format_args!("five"));
            transport.lose_connection();
        });
        let at = serve(reactor, once(probe.until_lost(reactor, &reason)));
        client = Some(peer(at, read_all));
    });
    assert_eq!(client.unwrap().join().unwrap(), b"one two three 4 five");
    assert_eq!(reason.get(), ConnectionClosed::Done);
}

#[test]
fn a_write_after_lose_connection_is_sent_before_the_close() {
    // N01, TCP-6
    let reason = Slot::default();
    let mut client = None;
    run(|reactor| {
        let probe = Probe::new().on_made(|transport| {
            transport.write(b"one ");
            transport.lose_connection();
            assert!(transport.is_disconnecting());
            transport.write(b"two");
        });
        let at = serve(reactor, once(probe.until_lost(reactor, &reason)));
        client = Some(peer(at, read_all));
    });
    assert_eq!(client.unwrap().join().unwrap(), b"one two");
    assert!(reason.get().is_clean());
}

fn pattern(length: usize) -> Vec<u8> {
    let block: Vec<u8> = (0..251).collect();
    block
        .iter()
        .copied()
        .cycle()
        .take(length.min(251 * 1000))
        .collect::<Vec<u8>>()
        .repeat(length.div_ceil(251 * 1000).max(1))[..length]
        .to_vec()
}

#[test]
fn sixty_mebibytes_and_a_small_write_later_arrive_whole() {
    // T08
    const LARGE: usize = 60 << 20;
    let reason = Slot::default();
    let mut client = None;
    run(|reactor| {
        let probe = Probe::new().on_made(|transport| {
            transport.write(pattern(LARGE));
            assert!(transport.unsent() > 0);
            transport.call_later(Duration::ZERO, move || {
                transport.write(b"end");
                transport.lose_connection();
            });
        });
        let at = serve(reactor, once(probe.until_lost(reactor, &reason)));
        client = Some(peer(at, read_all));
    });
    let all = client.unwrap().join().unwrap();
    assert_eq!(all.len(), LARGE + 3);
    assert!(all[..LARGE] == pattern(LARGE) && all.ends_with(b"end"));
    assert!(reason.get().is_clean());
}

#[test]
fn large_and_small_pieces_leave_in_the_order_they_were_written() {
    let reason = Slot::default();
    let mut expected = Vec::new();
    let mut pieces = Vec::new();
    for n in 0..300usize {
        // Small ones are gathered, large ones queued as they are, and some fill a writev.
        let piece = vec![n as u8; [3, 5000, 100, 70_000, 1, 4096, 20_000][n % 7]];
        expected.extend_from_slice(&piece);
        pieces.push(Bytes::from(piece));
    }
    let mut client = None;
    run(|reactor| {
        let probe = Probe::new().on_made(move |transport| {
            for (n, piece) in pieces.iter().enumerate() {
                match n % 3 {
                    0 => transport.write_bytes(piece.clone()),
                    1 => transport.write(piece),
                    _ => transport.write_vectored(&[IoSlice::new(&piece[..1]), IoSlice::new(&piece[1..])]),
                }
            }
            transport.lose_connection();
        });
        let at = serve(reactor, once(probe.until_lost(reactor, &reason)));
        client = Some(peer(at, |stream| {
            // A slow start, so that the queue is long.
            stream.peek(&mut [0]).expect("something");
            read_all(stream)
        }));
    });
    assert!(client.unwrap().join().unwrap() == expected);
}

struct Echo;
impl Protocol for Echo {
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        transport.write(data);
    }
}

#[test]
fn a_megabyte_is_echoed_byte_for_byte() {
    let mut client = None;
    run(|reactor| {
        let at = serve(reactor, || Echo);
        let remote = reactor.remote();
        client = Some(peer(at, move |mut stream| {
            let mut writer = stream.try_clone().unwrap();
            let writing = std::thread::spawn(move || writer.write_all(&pattern(1 << 20)));
            let mut back = vec![0; 1 << 20];
            stream.read_exact(&mut back).unwrap();
            writing.join().unwrap().unwrap();
            remote.call_from_thread(|reactor| reactor.stop()).unwrap();
            back
        }));
    });
    assert!(client.unwrap().join().unwrap() == pattern(1 << 20));
}

#[test]
fn a_greeting_that_comes_with_the_connection_is_delivered() {
    // The event that says "connected" says "readable" too, and there is no other edge.
    for last_word in [false, true] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let log = Log::default();
        let heard = log.clone();
        let reactor = Reactor::new().unwrap();
        reactor.handle_signals(false);
        let probe = Probe::new()
            .on_made({
                let log = log.clone();
                move |_| log.add("made")
            })
            .on_data(move |transport, data| {
                heard.add(String::from_utf8_lossy(data));
                if !last_word {
                    transport.lose_connection();
                }
            });
        let reason = Slot::default();
        let deferred = reactor.connect_protocol(at, probe.until_lost(reactor, &reason));
        pump_once(reactor);
        // On this thread: everything has arrived before the reactor looks.
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"welcome").unwrap();
        let mut server = Some(server);
        if last_word {
            server.take();
        }
        finish(reactor);
        assert_eq!(log.take(), ["made", "welcome"]);
        assert!(reason.get().is_clean());
        drop((server, deferred));
    }
}
/// Dials, and does not look at the answer.
fn pump_once(reactor: Reactor) {
    reactor.call_soon(move || reactor.crash());
    reactor.run().unwrap();
}

#[test]
fn the_first_data_comes_in_a_later_turn_than_connection_made() {
    // PRO-2
    let turns = Log::default();
    run(|reactor| {
        let (made, data) = (turns.clone(), turns.clone());
        let at = serve(
            reactor,
            once(Probe::new().on_made(move |_| made.add(reactor.statistics().turns)).on_data(move |_, _| {
                data.add(reactor.statistics().turns);
                let _ = reactor.stop();
            })),
        );
        let mut client = dial(at);
        client.write_all(b"early").unwrap();
        reactor.call_when_running(move || {
            let _keep = &client;
        });
    });
    let turns: Vec<u64> = turns.take().iter().map(|turn| turn.parse().unwrap()).collect();
    assert!(turns[0] < turns[1], "{turns:?}");
}

#[test]
fn a_paused_connection_hears_of_the_peer_s_close_after_its_resume() {
    // T15, TCP-13
    let log = Log::default();
    run(|reactor| {
        let (data, lost) = (log.clone(), log.clone());
        let at = serve(
            reactor,
            once(
                Probe::new()
                    .on_data(move |transport, _| {
                        transport.pause_producing();
                        assert!(transport.is_paused());
                        data.add("paused");
                        let data = data.clone();
                        transport.call_later(Duration::from_millis(50), move || {
                            data.add("resumed");
                            transport.resume_producing();
                        });
                    })
                    .on_lost(move |_, reason| {
                        lost.add(reason);
                        let _ = reactor.stop();
                    }),
            ),
        );
        dial(at).write_all(b"x").unwrap();
    });
    assert_eq!(log.take(), ["paused", "resumed", "connection closed in order"]);
}

#[test]
fn a_reset_of_a_paused_idle_connection_is_told_after_its_resume() {
    // N05
    let log = Log::default();
    let reactor = Reactor::new().unwrap();
    reactor.handle_signals(false);
    let name = Slot::default();
    let (keep, lost) = (name.clone(), log.clone());
    let probe = Probe::new()
        .on_made(move |transport| {
            transport.pause_producing();
            keep.set(transport);
        })
        .on_lost(move |_, reason| {
            lost.add(reason.is_clean());
            let _ = reactor.stop();
        });
    let at = serve(reactor, once(probe));
    let client = dial(at);
    pump(reactor);
    reset(client);
    pump(reactor);
    assert!(log.all().is_empty(), "paused means no callbacks");
    name.get().resume_producing();
    finish(reactor);
    assert_eq!(log.take(), ["false"]);
}

#[test]
fn data_is_delivered_once_and_in_order_through_many_pauses() {
    // TX11
    let received = Rc::new(RefCell::new(Vec::new()));
    let all = received.clone();
    run(|reactor| {
        let probe = Probe::new().on_data(move |transport, data| {
            all.borrow_mut().extend_from_slice(data);
            for _ in 0..5 {
                transport.pause_producing();
                transport.resume_producing();
                transport.resume_producing();
            }
            transport.pause_producing();
            reactor.call_soon(move || transport.resume_producing());
        });
        let at = serve(reactor, once(probe.until_lost(reactor, &Slot::default())));
        peer(at, |mut stream| {
            for chunk in pattern(64 * 1024).chunks(1024) {
                stream.write_all(chunk).unwrap();
            }
        });
    });
    assert!(*received.borrow() == pattern(64 * 1024));
}

#[test]
fn pausing_in_connection_made_holds_the_first_data() {
    // TCP-12
    let log = Log::default();
    let (made, data) = (log.clone(), log.clone());
    run(|reactor| {
        let probe = Probe::new()
            .on_made(move |transport| {
                transport.pause_producing();
                let made = made.clone();
                transport.call_later(Duration::from_millis(20), move || {
                    made.add("resumed");
                    transport.resume_producing();
                });
            })
            .on_data(move |_, _| {
                data.add("data");
                let _ = reactor.stop();
            });
        let at = serve(reactor, once(probe));
        let mut client = dial(at);
        client.write_all(b"x").unwrap();
        reactor.call_later(Duration::from_secs(1), move || drop(client));
    });
    assert_eq!(log.take(), ["resumed", "data"]);
}

#[test]
fn who_is_paused_aborted_or_closed_by_another_in_the_same_batch_gets_no_data() {
    // N06, REA-30
    for act in [TransportRef::pause_producing, TransportRef::abort_connection, TransportRef::lose_connection] {
        let log = Log::default();
        let reactor = Reactor::new().unwrap();
        let names: Rc<RefCell<Vec<TransportRef>>> = Rc::default();
        let (log_of, names_of) = (log.clone(), names.clone());
        let at = serve(reactor, move || {
            let (log, names, all) = (log_of.clone(), names_of.clone(), names_of.clone());
            Probe::new().on_made(move |transport| names.borrow_mut().push(transport)).on_data(move |me, _| {
                log.add("data");
                for other in all.borrow().iter().filter(|other| **other != me) {
                    act(*other);
                }
            })
        });
        let (mut first, mut second) = (dial(at), dial(at));
        pump(reactor);
        assert_eq!(names.borrow().len(), 2);
        first.write_all(b"x").unwrap();
        second.write_all(b"x").unwrap();
        pump(reactor);
        assert_eq!(log.take(), ["data"], "both were readable, one was told");
        reactor.close();
    }
}

#[test]
fn a_flood_leaves_others_their_turns_and_loses_nothing() {
    // N08
    const FLOOD: usize = 16 << 20;
    let total = Rc::new(Cell::new(0));
    let at_other = Rc::new(Cell::new(None));
    let most = Rc::new(Cell::new(0));
    run(|reactor| {
        let (sum, seen, peak) = (total.clone(), at_other.clone(), most.clone());
        let (mut turn, mut in_turn) = (0, 0);
        let flood = Shared::new(Probe::new().on_data(move |_, data| {
            let now = reactor.statistics().turns;
            in_turn = if now == turn { in_turn + data.len() } else { data.len() };
            turn = now;
            peak.set(peak.get().max(in_turn));
            sum.set(sum.get() + data.len());
            if sum.get() == FLOOD {
                let _ = reactor.stop();
            }
        }));
        let flooded = serve(reactor, move || flood.clone());
        let sum = total.clone();
        let other = serve(
            reactor,
            once(Probe::new().on_data(move |_, _| {
                if seen.get().is_none() {
                    seen.set(Some(sum.get()));
                }
            })),
        );
        peer(flooded, |mut stream| stream.write_all(&vec![1; FLOOD]).unwrap());
        peer(other, |mut stream| {
            stream.write_all(b"x").unwrap();
            stream.read(&mut [0]).map_err(drop)
        });
    });
    assert_eq!(total.get(), FLOOD);
    assert!(most.get() <= 512 * 1024, "{} bytes in one turn", most.get());
    assert!(at_other.get().is_some_and(|before| before < FLOOD), "{at_other:?}");
}

#[test]
fn both_ends_know_each_other_s_addresses_until_the_connection_is_gone() {
    // TX07
    let client_side = Slot::default();
    let server_side = Slot::default();
    let built_for = Slot::default();
    let gone = Slot::default();
    let at = Slot::default();
    run(|reactor| {
        let (built, server, lost) = (built_for.clone(), server_side.clone(), gone.clone());
        let port = serve(
            reactor,
            from_fn(move |peer| {
                built.set(peer.clone());
                let (server, lost) = (server.clone(), lost.clone());
                let probe = Probe::new().on_lost(move |transport, _| {
                    server.set((transport.host(), transport.peer()));
                    lost.set(transport);
                    let _ = reactor.stop();
                });
                Some(probe)
            }),
        );
        at.set(port);
        let client = client_side.clone();
        let _ = reactor.connect_protocol(
            port,
            Probe::new().on_made(move |transport| {
                client.set((transport.host(), transport.peer()));
                transport.lose_connection();
            }),
        );
    });
    let (client_host, client_peer) = client_side.get();
    assert_eq!(client_peer, Address::Tcp(at.get()));
    assert_eq!(built_for.get(), client_host);
    assert_eq!(server_side.get(), (client_peer, client_host));
    assert_eq!((gone.get().peer(), gone.get().host()), (Address::Gone, Address::Gone));
}

#[test]
fn a_name_of_a_lost_connection_does_nothing_even_when_its_place_is_taken() {
    // TCP-36
    let reactor = Reactor::new().unwrap();
    let names: Rc<RefCell<Vec<TransportRef>>> = Rc::default();
    let keep = names.clone();
    let at = serve(reactor, move || {
        let keep = keep.clone();
        Probe::new().on_made(move |transport| keep.borrow_mut().push(transport))
    });
    drop(dial(at));
    pump(reactor);
    pump(reactor);
    let old = names.borrow()[0];
    assert!(!old.is_connected() && old.is_disconnecting());
    let mut client = dial(at);
    pump(reactor);
    let new = names.borrow()[1];
    assert_ne!(old, new);
    old.write(b"nobody");
    old.write_bytes(Bytes::from_static(b"nobody"));
    old.lose_connection();
    old.abort_connection();
    old.lose_write_connection();
    old.pause_producing();
    old.resume_producing();
    old.unregister_producer();
    old.fail_connection(twistlet::Failure::msg("nobody"));
    old.set_tcp_no_delay(true);
    old.set_tcp_keep_alive(true);
    assert_eq!(old.unsent(), 0);
    assert!(!old.call_later(Duration::ZERO, || ()).active());
    old.switch_protocol(Echo, b"x");
    new.write(b"hello");
    pump(reactor);
    let mut hello = [0; 5];
    client.read_exact(&mut hello).unwrap();
    assert_eq!(&hello, b"hello");
    assert!(new.is_connected() && !new.is_disconnecting() && !new.is_paused());
}

#[test]
fn the_protocol_is_dropped_when_its_connection_is_lost() {
    // TCP-36
    struct Dropped(Log);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.add("dropped");
        }
    }
    let log = Log::default();
    let reactor = Reactor::new().unwrap();
    let (mark, lost) = (Dropped(log.clone()), log.clone());
    let at = serve(
        reactor,
        once(Probe::new().on_lost(move |_, _| {
            let _mark = &mark;
            lost.add("lost");
        })),
    );
    drop(dial(at));
    pump(reactor);
    pump(reactor);
    assert_eq!(log.take(), ["lost", "dropped"]);
}

#[test]
fn a_wire_s_timers_are_forgotten_with_it() {
    let log = Log::default();
    let reactor = Reactor::new().unwrap();
    let fired = log.clone();
    let probe = Probe::new().on_made(move |transport| {
        for _ in 0..40 {
            let fired = fired.clone();
            transport.call_later(Duration::from_millis(5), move || fired.add("fired"));
        }
        transport.lose_connection();
    });
    let at = serve(reactor, once(probe));
    let _client = dial(at);
    pump(reactor);
    pump(reactor);
    assert_eq!(reactor.statistics().timers, 0);
    assert!(log.take().is_empty());
}

#[test]
fn options_can_be_toggled() {
    // TX04: off by default there; here no-delay is on, because writes are gathered.
    run(|reactor| {
        let probe = Probe::new().on_made(|transport| {
            for on in [false, true] {
                transport.set_tcp_no_delay(on);
                transport.set_tcp_keep_alive(on);
            }
            transport.set_read_size(1);
            transport.lose_connection();
        });
        let at = serve(reactor, once(probe.until_lost(reactor, &Slot::default())));
        peer(at, read_all);
    });
}

#[test]
fn a_bounded_read_size_bounds_deliveries_and_loses_nothing() {
    let sizes = Log::default();
    let seen = sizes.clone();
    run(|reactor| {
        let probe = Probe::new()
            .on_made(|transport| transport.set_read_size(3))
            .on_data(move |_, data| seen.add(String::from_utf8_lossy(data)));
        let at = serve(reactor, once(probe.until_lost(reactor, &Slot::default())));
        dial(at).write_all(b"0123456789").unwrap();
    });
    assert_eq!(sizes.take(), ["012", "345", "678", "9"]);
}

#[test]
fn when_flushed_fires_when_all_is_out_and_fails_when_it_never_will_be() {
    let log = Log::default();
    let (told, failed) = (log.clone(), log.clone());
    run(|reactor| {
        let probe = Probe::new().on_made(move |transport| {
            let told = told.clone();
            transport.write(pattern(8 << 20));
            transport.when_flushed().add_callback(move |()| {
                told.add(format!("flushed, {} left", transport.unsent()));
                transport.lose_connection();
            });
        });
        let at = serve(reactor, once(probe.until_lost(reactor, &Slot::default())));
        peer(at, read_all);
    });
    run(|reactor| {
        let probe = Probe::new().on_made(move |transport| {
            let failed = failed.clone();
            transport.write(pattern(64 << 20));
            transport.when_flushed().add_errback(move |failure| {
                failed.add(failure);
                Ok(())
            });
            transport.abort_connection();
        });
        let at = serve(reactor, once(probe.until_lost(reactor, &Slot::default())));
        let client = dial(at);
        reactor.call_later(Duration::from_secs(4), move || drop(client));
    });
    assert_eq!(log.take(), ["flushed, 0 left", "connection aborted by this side"]);
}

#[test]
fn a_callback_may_write_to_any_other_connection() {
    let reactor = Reactor::new().unwrap();
    let room: Rc<RefCell<Vec<TransportRef>>> = Rc::default();
    let at = serve(reactor, move || {
        let (enter, all) = (room.clone(), room.clone());
        Probe::new().on_made(move |transport| enter.borrow_mut().push(transport)).on_data(move |me, data| {
            // R1: no method of a transport runs user code, so the borrow may be held.
            for other in all.borrow().iter().filter(|other| **other != me) {
                other.write(data);
            }
        })
    });
    let mut clients = [dial(at), dial(at), dial(at)];
    pump(reactor);
    clients[0].write_all(b"hi").unwrap();
    pump(reactor);
    for client in &mut clients[1..] {
        let mut hi = [0; 2];
        client.read_exact(&mut hi).unwrap();
        assert_eq!(&hi, b"hi");
    }
}

#[test]
fn two_protocols_on_one_reactor_talk_to_each_other() {
    let answer = Slot::default();
    run(|reactor| {
        let at = serve(reactor, || Echo);
        let heard = answer.clone();
        let _ = reactor.connect_protocol(
            at,
            Probe::new().on_made(|transport| transport.write(b"ping")).on_data(move |_, data| {
                heard.set(data.to_vec());
                let _ = reactor.stop();
            }),
        );
    });
    assert_eq!(answer.get(), b"ping");
}

#[test]
fn the_end_of_the_reactor_tells_every_protocol_once() {
    // R5
    let log = Log::default();
    run(|reactor| {
        let lost = log.clone();
        let made = Countdown::new(reactor, 6);
        let at = serve(reactor, move || {
            let (lost, made) = (lost.clone(), made.clone());
            Probe::new().on_made(move |_| made.done()).on_lost(move |_, reason| lost.add(reason))
        });
        for _ in 0..3 {
            let client = dial(at);
            reactor.call_later(Duration::from_secs(60), move || drop(client));
            // And three of whom both ends are here.
            let lost = log.clone();
            let _ = reactor.connect_protocol(at, Probe::new().on_lost(move |_, reason| lost.add(reason)));
        }
    });
    let told = log.take();
    assert_eq!(told.len(), 9, "{told:?}");
    assert!(told.iter().all(|reason| reason.starts_with("connection lost")), "{told:?}");
}

#[test]
fn a_plain_server_and_a_client_protocol_agree() {
    let (at, server) = plain_server(|mut stream| {
        let mut request = [0; 5];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(b"answer").unwrap();
        request
    });
    let answer = Slot::default();
    run(|reactor| {
        let all = Rc::new(RefCell::new(Vec::new()));
        let (heard, sum) = (answer.clone(), all.clone());
        let _ = reactor.connect_protocol(
            at,
            Probe::new()
                .on_made(|transport| transport.write(b"query"))
                .on_data(move |_, data| sum.borrow_mut().extend_from_slice(data))
                .on_lost(move |_, reason| {
                    heard.set((all.take(), reason.clone()));
                    let _ = reactor.stop();
                }),
        );
    });
    assert_eq!(server.join().unwrap(), *b"query");
    assert_eq!(answer.get(), (b"answer".to_vec(), ConnectionClosed::Done));
}

#[test]
fn a_protocol_may_be_shared_and_called_from_outside_and_inside() {
    struct Counter {
        n: usize,
    }
    impl Protocol for Counter {
        fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
            self.n += data.len();
            write!(transport, "{}", self.n);
        }
    }
    let reactor = Reactor::new().unwrap();
    let shared = Shared::new(Counter { n: 0 });
    let factory = shared.clone();
    let port = reactor.listen_tcp("127.0.0.1:0", move || factory.clone()).unwrap();
    let mut client = dial(address(port));
    pump(reactor);
    client.write_all(b"abc").unwrap();
    pump(reactor);
    assert_eq!(shared.borrow().n, 3);
    shared.call(|counter| counter.n = 10);
    // Somebody is inside while data comes: a copy waits.
    let inside = shared.borrow();
    client.write_all(b"de").unwrap();
    pump(reactor);
    assert_eq!(inside.n, 10);
    drop(inside);
    assert_eq!(shared.borrow().n, 12);
    pump(reactor);
    let mut answer = [0; 3];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"312");
}
