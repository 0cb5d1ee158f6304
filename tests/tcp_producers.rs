//! Producers on TCP connections: the high-water mark, pull producers, closing around them, two connections wired to each other.
mod rig;

use rig::{Log, Probe, Slot, dial, finish, logged, once, peer, pump, run, serve, watch_log};
use std::cell::Cell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::time::Duration;
use twistlet::{ConnectionClosed, Producer, Protocol, PullProducer, Reactor, Shared, TransportRef};

/// Records; does `on_resume` when resumed.
struct Push<F> {
    log: Log,
    on_resume: F,
}
impl<F: FnMut()> Producer for Push<F> {
    fn pause_producing(&mut self) {
        self.log.add("pause");
    }
    fn resume_producing(&mut self) {
        self.log.add("resume");
        (self.on_resume)();
    }
    fn stop_producing(&mut self) {
        self.log.add("stop");
    }
}
/// Records; does `on_produce` when asked.
struct Pull<F> {
    log: Log,
    on_produce: F,
}
impl<F: FnMut(TransportRef) -> bool> PullProducer for Pull<F> {
    fn produce(&mut self, consumer: TransportRef) -> bool {
        self.log.add("produce");
        (self.on_produce)(consumer)
    }
    fn stop_producing(&mut self) {
        self.log.add("stop");
    }
}

/// What the socket takes at once differs, so these write far more than any socket does.
const MUCH: usize = 16 << 20;

#[test]
fn a_push_producer_is_paused_above_the_mark_and_resumed_once_when_all_is_out() {
    // T16, N02, TCP-28: the pause comes when the callback is over, since no method of a transport runs user code.
    let log = Log::default();
    let reason = Slot::default();
    run(|reactor| {
        let own = log.clone();
        // The peer reads nothing before the pause: otherwise there may be none.
        let (go, paused) = channel();
        let probe = Probe::new().on_made(move |transport| {
            let go = go.clone();
            transport.call_later(Duration::from_millis(20), move || go.send(()).unwrap());
            transport.register_producer(Push {
                log: own.clone(),
                on_resume: move || {
                    assert_eq!(transport.unsent(), 0);
                    transport.unregister_producer();
                    transport.lose_connection();
                },
            });
            for _ in 0..4 {
                transport.write(vec![0; MUCH / 4]);
            }
            own.add("written");
            transport.call_later(Duration::ZERO, move || transport.write(b"above it, and paused already"));
        });
        let at = serve(reactor, once(probe.until_lost(reactor, &reason)));
        peer(at, move |mut stream| {
            paused.recv().unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap()
        });
    });
    assert_eq!(log.take(), ["written", "pause", "resume"]);
    assert!(reason.get().is_clean());
}

#[test]
fn a_push_producer_below_the_mark_hears_nothing() {
    let log = Log::default();
    run(|reactor| {
        let own = log.clone();
        let probe = Probe::new().on_made(move |transport| {
            transport.register_producer(Push { log: own.clone(), on_resume: || () });
            transport.write(vec![0; 1000]);
            transport.call_later(Duration::from_millis(20), move || {
                transport.unregister_producer();
                transport.unregister_producer();
                transport.lose_connection();
            });
        });
        let at = serve(reactor, once(probe.until_lost(reactor, &Slot::default())));
        peer(at, |mut stream| stream.read_to_end(&mut Vec::new()).unwrap());
    });
    assert!(log.take().is_empty());
}

#[test]
fn a_producer_that_overfills_when_resumed_is_paused_and_resumed_again() {
    let log = Log::default();
    run(|reactor| {
        let own = log.clone();
        let (go, paused) = channel();
        let probe = Probe::new().on_made(move |transport| {
            let go = go.clone();
            transport.call_later(Duration::from_millis(20), move || go.send(()).unwrap());
            let mut rounds = 2;
            let on_resume = move || {
                rounds -= 1;
                if rounds == 0 {
                    transport.unregister_producer();
                    transport.lose_connection();
                } else {
                    transport.write(vec![0; MUCH]);
                }
            };
            transport.register_producer(Push { log: own.clone(), on_resume });
            transport.write(vec![0; MUCH]);
        });
        let at = serve(reactor, once(probe.until_lost(reactor, &Slot::default())));
        peer(at, move |mut stream| {
            paused.recv().unwrap();
            // And slowly, so that what the resume writes waits too.
            let mut buffer = [0; 16 * 1024];
            while stream.read(&mut buffer).unwrap() > 0 {}
        });
    });
    assert_eq!(log.take(), ["pause", "resume", "pause", "resume"]);
}

#[test]
fn a_pull_producer_is_asked_once_for_each_full_flush_and_never_paused() {
    // T17, TCP-29
    let log = Log::default();
    let mut client = None;
    run(|reactor| {
        let own = log.clone();
        let probe = Probe::new().on_made(move |transport| {
            let mut left = 4;
            transport.register_pull_producer(Pull {
                log: own.clone(),
                on_produce: move |consumer: TransportRef| {
                    assert_eq!(consumer.unsent(), 0);
                    left -= 1;
                    consumer.write(vec![left as u8; MUCH / 4]);
                    left > 0
                },
            });
            // It waits for the last of it.
            transport.lose_connection();
        });
        let at = serve(reactor, once(probe.until_lost(reactor, &Slot::default())));
        client = Some(peer(at, |mut stream| {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            all.len()
        }));
    });
    assert_eq!(client.unwrap().join().unwrap(), MUCH);
    assert_eq!(log.take(), ["produce"; 4]);
}

#[test]
fn a_second_producer_is_refused_with_a_panic_and_the_first_goes_on() {
    // T18, TCP-27
    watch_log();
    let log = Log::default();
    let reason = Slot::default();
    run(|reactor| {
        let own = log.clone();
        let probe = Probe::new().on_made(move |transport| {
            transport.register_pull_producer(Pull { log: own.clone(), on_produce: |_| true });
            transport.register_producer(Push { log: own.clone(), on_resume: || () });
        });
        let at = serve(reactor, once(probe.until_lost(reactor, &reason)));
        peer(at, |mut stream| stream.read_to_end(&mut Vec::new()).unwrap());
    });
    assert!(
        matches!(reason.get(), ConnectionClosed::Failed(failure) if failure.to_string().contains("unregister_producer"))
    );
    assert_eq!(log.take(), ["stop"], "the first one, at the end");
    assert!(logged().iter().any(|line| line.contains("a producer is registered")));
}

#[test]
fn a_pull_producer_is_asked_once_at_registration_not_within_it() {
    let log = Log::default();
    run(|reactor| {
        let own = log.clone();
        let probe = Probe::new().on_made(move |transport| {
            transport.register_pull_producer(Pull {
                log: own.clone(),
                on_produce: move |_| {
                    let _ = reactor.stop();
                    true
                },
            });
            own.add("registered");
        });
        let at = serve(reactor, once(probe));
        let client = dial(at);
        reactor.call_later(Duration::from_secs(60), move || drop(client));
    });
    assert_eq!(log.take(), ["registered", "produce", "stop"]);
}

#[test]
fn a_producer_registered_with_a_lost_connection_is_only_stopped() {
    // T19
    let log = Log::default();
    let reactor = Reactor::new().unwrap();
    let name = Slot::default();
    let keep = name.clone();
    let at = serve(reactor, once(Probe::new().on_made(move |transport| keep.set(transport))));
    drop(dial(at));
    pump(reactor);
    let gone: TransportRef = name.get();
    assert!(!gone.is_connected());
    gone.register_producer(Push { log: log.clone(), on_resume: || () });
    gone.register_pull_producer(Pull { log: log.clone(), on_produce: |_| true });
    assert!(log.all().is_empty(), "R1");
    pump(reactor);
    assert_eq!(log.take(), ["stop", "stop"]);
}

#[test]
fn a_close_waits_for_a_push_producer_to_unregister() {
    // N03, TCP-15
    let log = Log::default();
    let mut client = None;
    run(|reactor| {
        let (own, lost) = (log.clone(), log.clone());
        let probe = Probe::new()
            .on_made(move |transport| {
                transport.register_producer(Push { log: own.clone(), on_resume: || () });
                transport.write(b"one ");
                transport.lose_connection();
                let own = own.clone();
                transport.call_later(Duration::from_millis(30), move || {
                    own.add("unregister");
                    transport.write(b"two");
                    transport.unregister_producer();
                });
            })
            .on_lost(move |_, reason| {
                lost.add(reason);
                let _ = reactor.stop();
            });
        let at = serve(reactor, once(probe));
        client = Some(peer(at, |mut stream| {
            let mut all = String::new();
            stream.read_to_string(&mut all).unwrap();
            all
        }));
    });
    assert_eq!(log.take(), ["unregister", "connection closed in order"]);
    assert_eq!(client.unwrap().join().unwrap(), "one two");
}

#[test]
fn an_error_of_the_protocol_s_own_does_not_wait_for_a_producer() {
    let log = Log::default();
    let reason = Slot::default();
    run(|reactor| {
        let own = log.clone();
        let probe = Probe::new().on_made(move |transport| {
            transport.register_producer(Push { log: own.clone(), on_resume: || () });
            transport.fail_connection(twistlet::Failure::msg("enough"));
        });
        let at = serve(reactor, once(probe.until_lost(reactor, &reason)));
        peer(at, |mut stream| stream.read_to_end(&mut Vec::new()).unwrap());
    });
    assert_eq!(log.take(), ["stop"]);
    assert_eq!(reason.get().to_string(), "connection closed after an error: enough");
}

#[test]
fn an_abort_inside_resume_stops_the_producer_before_the_protocol_hears() {
    // T25, TCP-26, TCP-32
    let log = Log::default();
    run(|reactor| {
        let (own, lost) = (log.clone(), log.clone());
        let probe = Probe::new()
            .on_made(move |transport| {
                let inside = own.clone();
                let on_resume = move || {
                    transport.abort_connection();
                    inside.add("still inside");
                };
                transport.register_producer(Push { log: own.clone(), on_resume });
                transport.write(vec![0; MUCH]);
            })
            .on_lost(move |_, reason| {
                lost.add(reason);
                let _ = reactor.stop();
            });
        let at = serve(reactor, once(probe));
        peer(at, |mut stream| std::io::copy(&mut stream, &mut std::io::sink()).map_err(drop));
    });
    assert_eq!(log.take(), ["pause", "resume", "still inside", "stop", "connection aborted by this side"]);
}

#[test]
fn a_panic_of_a_producer_closes_its_connection_and_nothing_else() {
    watch_log();
    let reason = Slot::default();
    run(|reactor| {
        let probe = Probe::new().on_made(move |transport| {
            transport.register_pull_producer(Pull { log: Log::default(), on_produce: |_| panic!("no more") });
        });
        let at = serve(reactor, once(probe.until_lost(reactor, &reason)));
        peer(at, |mut stream| stream.read_to_end(&mut Vec::new()).unwrap());
    });
    assert!(matches!(reason.get(), ConnectionClosed::Failed(failure) if failure.is_panic()));
    assert_eq!(logged().len(), 1);
}

#[test]
fn a_producer_may_unregister_itself_and_register_another_while_it_is_asked() {
    let log = Log::default();
    let mut client = None;
    run(|reactor| {
        let own = log.clone();
        let probe = Probe::new().on_made(move |transport| {
            let next = own.clone();
            transport.register_pull_producer(Pull {
                log: own.clone(),
                on_produce: move |consumer: TransportRef| {
                    consumer.write(b"first ");
                    consumer.unregister_producer();
                    let log = next.clone();
                    consumer.register_pull_producer(Pull {
                        log,
                        on_produce: |consumer: TransportRef| {
                            consumer.write(b"second");
                            consumer.lose_connection();
                            false
                        },
                    });
                    true
                },
            });
        });
        let at = serve(reactor, once(probe.until_lost(reactor, &Slot::default())));
        client = Some(peer(at, |mut stream| {
            let mut all = String::new();
            stream.read_to_string(&mut all).unwrap();
            all
        }));
    });
    assert_eq!(client.unwrap().join().unwrap(), "first second");
    assert_eq!(log.take(), ["produce", "produce"]);
}

#[test]
fn a_shared_producer_is_told_though_its_owner_is_inside() {
    let log = Log::default();
    run(|reactor| {
        let shared = Shared::new(Push { log: log.clone(), on_resume: || () });
        let factory = shared.clone();
        let probe = Probe::new().on_made(move |transport| {
            transport.register_producer(factory.clone());
            transport.write(vec![0; MUCH]);
            let inside = factory.clone();
            transport.call_later(Duration::from_millis(5), move || {
                // Meanwhile it is paused or was: both are told in order when we leave.
                inside.borrow().log.add("inside");
                transport.unregister_producer();
                transport.lose_connection();
            });
        });
        let at = serve(reactor, once(probe.until_lost(reactor, &Slot::default())));
        peer(at, |mut stream| std::io::copy(&mut stream, &mut std::io::sink()).unwrap());
    });
    let told = log.take();
    assert!(told.contains(&"pause".to_owned()) && told.contains(&"inside".to_owned()), "{told:?}");
}

/// Sends what it gets to the other connection.
struct Forward {
    to: TransportRef,
}
impl Protocol for Forward {
    fn data_received(&mut self, _: TransportRef, data: &[u8]) {
        self.to.write(data);
    }
    fn read_connection_lost(&mut self, _: TransportRef) {
        self.to.unregister_producer(); // which is this side: it has nothing more to give
        self.to.lose_write_connection();
    }
    fn connection_lost(&mut self, _: TransportRef, _: &ConnectionClosed) {
        self.to.unregister_producer();
        self.to.lose_connection();
    }
}

#[test]
fn two_connections_wired_to_each_other_hold_each_other_back() {
    // TCP-33, PX11
    const BODY: usize = 32 << 20;
    let origin = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let origin_at = origin.local_addr().unwrap();
    let sender = std::thread::spawn(move || {
        let (mut stream, _) = origin.accept().unwrap();
        for n in 0..BODY / 65_536 {
            stream.write_all(&[n as u8; 65_536]).unwrap();
        }
    });
    let most = Rc::new(Cell::new(0));
    let mut client = None;
    run(|reactor| {
        let peak = most.clone();
        let probe = Probe::new().on_made(move |inbound| {
            inbound.pause_producing();
            let peak = peak.clone();
            let _ = reactor.connect_protocol(origin_at, Forward { to: inbound }).add_callback(move |outbound| {
                inbound.register_producer(outbound);
                outbound.register_producer(inbound);
                inbound.switch_protocol(Forward { to: outbound }, b"");
                inbound.resume_producing();
                watch(reactor, inbound, peak);
            });
        });
        let at = serve(reactor, once(probe));
        let remote = reactor.remote();
        client = Some(peer(at, move |mut stream| {
            let (mut total, mut buffer) = (0, vec![0; 65_536]);
            loop {
                let n = stream.read(&mut buffer).unwrap();
                if n == 0 {
                    break;
                }
                total += n;
            }
            remote.call_from_thread(|reactor| reactor.stop()).unwrap();
            total
        }));
    });
    sender.join().unwrap();
    assert_eq!(client.unwrap().join().unwrap(), BODY);
    assert!(most.get() < 2 << 20, "{} bytes waited", most.get());
}
/// Notes the most that ever waited.
fn watch(reactor: Reactor, transport: TransportRef, peak: Rc<Cell<usize>>) {
    peak.set(peak.get().max(transport.unsent()));
    if transport.is_connected() {
        reactor.call_later(Duration::from_millis(1), move || watch(reactor, transport, peak));
    }
}

#[test]
fn the_destructor_of_an_unregistered_producer_runs_in_a_later_turn() {
    struct Dropped(Log);
    impl Producer for Dropped {
        fn pause_producing(&mut self) {}
        fn resume_producing(&mut self) {}
        fn stop_producing(&mut self) {}
    }
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.add("dropped");
        }
    }
    let log = Log::default();
    let reactor = Reactor::new().unwrap();
    reactor.handle_signals(false);
    let own = log.clone();
    let at = serve(
        reactor,
        once(Probe::new().on_made(move |transport| {
            transport.register_producer(Dropped(own.clone()));
            transport.unregister_producer();
            own.add("unregistered");
        })),
    );
    let _client = dial(at);
    pump(reactor);
    assert_eq!(log.take(), ["unregistered", "dropped"]);
    reactor.call_soon(move || reactor.stop());
    finish(reactor);
}
