//! Connecting: what a client factory is told and when, every way in which a connection does not come about, trying again.
mod rig;

use rig::{Log, PATIENCE, Probe, Slot, closed_port, finish, logged, plain_server, pump, run, serve, watch_log};
use std::cell::Cell;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::{Duration, Instant};
use twistlet::error::{Cancelled, PortError, ReactorError};
use twistlet::transport::{Backoff, Destination, ReconnectingClientFactory};
use twistlet::{
    Address, ClientFactory, ConnectError, ConnectionClosed, Connector, Factory, Protocol, Reactor, Shared, TransportRef,
};

struct Quiet;
impl Protocol for Quiet {
    fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
}

type Hook = Box<dyn FnMut(Connector)>;

/// Records everything; does as `started`, `failed` and `lost` say; stops the reactor when it is stopped itself.
struct Recorder {
    log: Log,
    reactor: Reactor,
    build: Box<dyn FnMut() -> Option<Box<dyn Protocol>>>,
    started: Hook,
    failed: Hook,
    lost: Hook,
    error: Slot<ConnectError>,
}
impl Recorder {
    fn new(reactor: Reactor, log: &Log) -> Self {
        Recorder {
            log: log.clone(),
            reactor,
            build: Box::new(|| Some(Box::new(Quiet))),
            started: Box::new(|_| ()),
            failed: Box::new(|_| ()),
            lost: Box::new(|_| ()),
            error: Slot::default(),
        }
    }
    fn build(mut self, build: impl FnMut() -> Option<Box<dyn Protocol>> + 'static) -> Self {
        self.build = Box::new(build);
        self
    }
    fn started(mut self, hook: impl FnMut(Connector) + 'static) -> Self {
        self.started = Box::new(hook);
        self
    }
    fn failed(mut self, hook: impl FnMut(Connector) + 'static) -> Self {
        self.failed = Box::new(hook);
        self
    }
    fn lost(mut self, hook: impl FnMut(Connector) + 'static) -> Self {
        self.lost = Box::new(hook);
        self
    }
    fn error(mut self, slot: &Slot<ConnectError>) -> Self {
        self.error = slot.clone();
        self
    }
}
impl Factory for Recorder {
    fn build_protocol(&mut self, _: &Address) -> Option<Box<dyn Protocol>> {
        self.log.add("build");
        (self.build)()
    }
    fn start_factory(&mut self) {
        self.log.add("start");
    }
    fn stop_factory(&mut self) {
        self.log.add("stop");
        let _ = self.reactor.stop();
    }
}
impl ClientFactory for Recorder {
    fn started_connecting(&mut self, connector: Connector) {
        self.log.add("connecting");
        (self.started)(connector);
    }
    fn client_connection_failed(&mut self, connector: Connector, reason: &ConnectError) {
        self.log.add("failed");
        self.error.set(reason.clone());
        (self.failed)(connector);
    }
    fn client_connection_lost(&mut self, connector: Connector, _: &ConnectionClosed) {
        self.log.add("lost");
        (self.lost)(connector);
    }
}

/// What connecting to `to` fails with.
#[track_caller]
fn failure_of(to: impl Into<Destination>) -> ConnectError {
    let (log, error) = (Log::default(), Slot::default());
    let to = to.into();
    run(|reactor| {
        reactor.connect_tcp(to, Recorder::new(reactor, &log).error(&error));
        assert_eq!(log.all(), ["start", "connecting"], "CON-1, CON-2: these at once, the rest later");
    });
    assert_eq!(log.take(), ["start", "connecting", "failed", "stop"]);
    error.get()
}

/// A port that answers nobody: its queue is full. Keep the sockets.
fn blackhole() -> (SocketAddr, Vec<socket2::Socket>) {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let at = listener.local_addr().unwrap().as_socket().unwrap();
    let mut held = vec![listener];
    for _ in 0..4 {
        let filler = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        let _ = filler.connect(&at.into());
        held.push(filler);
    }
    (at, held)
}

#[test]
fn a_connection_is_made_and_lost_in_the_order_twisted_has() {
    // CON-1, CON-5, CON-8
    let log = Log::default();
    let (at, server) = plain_server(drop);
    run(|reactor| {
        let made = log.clone();
        let factory = Recorder::new(reactor, &log).build(move || {
            let made = made.clone();
            Some(Box::new(Probe::new().on_made(move |_| made.add("made"))))
        });
        let connector = reactor.connect_tcp(at, factory);
        assert_eq!(log.all(), ["start", "connecting"]);
        assert_eq!(connector.destination().to_string(), at.to_string());
    });
    server.join().unwrap();
    assert_eq!(log.take(), ["start", "connecting", "build", "made", "lost", "stop"]);
}

#[test]
fn a_port_nobody_listens_on_refuses() {
    let at = closed_port();
    assert_eq!(failure_of(at), ConnectError::Refused { to: Address::Tcp(at) });
}

#[test]
fn an_unknown_host_is_told_by_its_name() {
    // CON-12
    let error = failure_of("no-such-host.invalid:80");
    assert_eq!(error, ConnectError::UnknownHost { host: "no-such-host.invalid".into() });
    assert!(matches!(failure_of(("", 80)), ConnectError::InvalidAddress { .. }));
    assert!(matches!(failure_of(("a b", 80)), ConnectError::UnknownHost { .. }));
}

#[test]
fn text_that_is_no_destination_fails_when_it_is_used() {
    for text in ["nonsense", "host:http", "127.0.0.1:99999", "", ":80", "::1:x"] {
        assert_eq!(failure_of(text), ConnectError::InvalidAddress { text: text.into() }, "{text:?}");
    }
}

#[test]
fn an_attempt_that_is_not_answered_times_out() {
    // CON-4
    let (at, _held) = blackhole();
    let limit = Duration::from_millis(100);
    let begun = Instant::now();
    let error = failure_of(Destination::from(at).timeout(limit));
    assert_eq!(error, ConnectError::TimedOut { to: at.to_string(), after: limit });
    assert!(begun.elapsed() >= limit && begun.elapsed() < PATIENCE);
}

#[test]
fn the_local_end_may_be_chosen() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let local = closed_port();
    let host = Slot::default();
    run(|reactor| {
        let seen = host.clone();
        let probe = Probe::new().on_made(move |transport| {
            seen.set(transport.host());
            transport.lose_connection();
        });
        let to = Destination::from(to).bind(local);
        let _ = reactor.connect_protocol(to, probe.until_lost(reactor, &Slot::default()));
    });
    assert_eq!(host.get(), Address::Tcp(local));
    assert_eq!(listener.accept().unwrap().1, local);
}

#[test]
fn a_local_end_that_is_taken_is_told_later_and_as_such() {
    // TX06
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = taken.local_addr().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = Destination::from(listener.local_addr().unwrap()).bind(local);
    assert_eq!(failure_of(to), ConnectError::Bind { to: Address::Tcp(local) });
    let foreign: SocketAddr = "192.0.2.1:0".parse().unwrap();
    let to = Destination::from(listener.local_addr().unwrap()).bind(foreign);
    assert_eq!(failure_of(to), ConnectError::Bind { to: Address::Tcp(foreign) });
}

#[test]
fn a_factory_that_declines_fails_the_attempt_and_the_server_sees_a_close() {
    // E01, TX18
    let (log, error) = (Log::default(), Slot::default());
    let (at, server) = plain_server(|mut stream| stream.read(&mut [0]).unwrap());
    run(|reactor| {
        reactor.connect_tcp(at, Recorder::new(reactor, &log).build(|| None).error(&error));
    });
    assert_eq!(server.join().unwrap(), 0);
    assert_eq!(error.get(), ConnectError::NoProtocol);
    assert_eq!(log.take(), ["start", "connecting", "build", "failed", "stop"]);
}

#[test]
fn a_factory_that_panics_fails_the_attempt_with_its_panic() {
    // CON-6
    watch_log();
    let (log, error) = (Log::default(), Slot::default());
    let (at, server) = plain_server(|mut stream| stream.read(&mut [0]).unwrap());
    run(|reactor| {
        reactor.connect_tcp(at, Recorder::new(reactor, &log).build(|| panic!("no protocol today")).error(&error));
    });
    assert_eq!(server.join().unwrap(), 0);
    assert!(matches!(error.get(), ConnectError::Failed(failure) if failure.is_panic()));
    assert_eq!(logged().len(), 1);
}

#[test]
fn a_panic_in_connection_made_loses_the_connection_with_it() {
    // CON-7
    let (log, reason) = (Log::default(), Slot::default());
    let (at, server) = plain_server(|mut stream| stream.read(&mut [0]).unwrap());
    run(|reactor| {
        let reason = reason.clone();
        let factory = Recorder::new(reactor, &log).build(move || {
            let reason = reason.clone();
            let probe = Probe::new().on_made(|_| panic!("not made"));
            Some(Box::new(probe.on_lost(move |_, why| reason.set(why.clone()))))
        });
        reactor.connect_tcp(at, factory);
    });
    server.join().unwrap();
    assert!(matches!(reason.get(), ConnectionClosed::Failed(failure) if failure.is_panic()));
    assert_eq!(log.take(), ["start", "connecting", "build", "lost", "stop"]);
}

#[test]
fn stopping_while_connecting_is_told_in_a_later_turn() {
    // CON-3; there inside of stopConnecting
    let (log, error) = (Log::default(), Slot::default());
    let (at, _held) = blackhole();
    run(|reactor| {
        let connector = reactor.connect_tcp(at, Recorder::new(reactor, &log).error(&error));
        reactor.call_soon(move || {
            connector.stop_connecting().unwrap();
            connector.stop_connecting().unwrap();
        });
    });
    assert_eq!(error.get(), ConnectError::Cancelled);
    assert_eq!(log.take(), ["start", "connecting", "failed", "stop"]);
}

#[test]
fn stopping_inside_started_connecting_dials_nobody() {
    // CON-3
    let (log, error) = (Log::default(), Slot::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    run(|reactor| {
        let inside = log.clone();
        let factory = Recorder::new(reactor, &log).error(&error).started(move |connector| {
            connector.stop_connecting().unwrap();
            inside.add("still inside");
        });
        reactor.connect_tcp(listener.local_addr().unwrap(), factory);
    });
    assert_eq!(error.get(), ConnectError::Cancelled);
    assert_eq!(log.take(), ["start", "connecting", "still inside", "failed", "stop"]);
    assert!(listener.accept().is_err());
}

#[test]
fn stopping_while_a_name_is_looked_up_works_too() {
    let (log, error) = (Log::default(), Slot::default());
    run(|reactor| {
        let connector = reactor.connect_tcp("localhost:1", Recorder::new(reactor, &log).error(&error));
        connector.disconnect();
    });
    assert_eq!(error.get(), ConnectError::Cancelled);
}

#[test]
fn a_connector_knows_what_it_can_do_in_each_state() {
    // CON-3
    let log = Log::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = Slot::default();
    run(|reactor| {
        let (connected, lost) = (name.clone(), log.clone());
        let factory = Recorder::new(reactor, &log)
            .started(|connector| {
                assert_eq!(connector.connect().unwrap_err().check(), Some(&PortError::AlreadyConnecting))
            })
            .build(move || {
                let connected = connected.clone();
                Some(Box::new(Probe::new().on_made(move |_| {
                    let connector: Connector = connected.get();
                    assert_eq!(connector.connect().unwrap_err().check(), Some(&PortError::AlreadyConnecting));
                    assert_eq!(connector.stop_connecting().unwrap_err().check(), Some(&PortError::NotConnecting));
                    connector.disconnect();
                })))
            })
            .lost(move |connector| {
                assert_eq!(connector.stop_connecting().unwrap_err().check(), Some(&PortError::NotConnecting));
                connector.disconnect();
                lost.add("checked");
            });
        name.set(reactor.connect_tcp(listener.local_addr().unwrap(), factory));
    });
    assert_eq!(log.take(), ["start", "connecting", "build", "lost", "checked", "stop"]);
    let stale: Connector = name.get();
    assert_eq!(stale.connect().unwrap_err().check(), Some(&PortError::Gone));
    assert_eq!(stale.stop_connecting().unwrap_err().check(), Some(&PortError::NotConnecting));
    stale.disconnect();
    assert_eq!(stale.destination().to_string(), "");
}

#[test]
fn a_factory_may_connect_again_after_a_loss_and_after_a_failure_with_the_same_connector() {
    // CON-9
    let log = Log::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        // Two connections, then nobody.
        for _ in 0..2 {
            drop(listener.accept().unwrap());
        }
    });
    run(|reactor| {
        let first = Slot::default();
        let (same, again) = (first.clone(), first.clone());
        let mut failures = 0;
        let factory = Recorder::new(reactor, &log)
            .lost(move |connector| {
                assert_eq!(connector, same.get());
                connector.connect().unwrap();
                assert!(connector.connect().is_err());
            })
            .failed(move |connector| {
                assert_eq!(connector, again.get());
                failures += 1;
                if failures < 3 {
                    connector.connect_later(Duration::from_millis(1)).unwrap();
                }
            });
        first.set(reactor.connect_tcp(at, factory));
    });
    server.join().unwrap();
    let events = log.take();
    assert_eq!(events.iter().filter(|event| *event == "start").count(), 1, "it went on all the time");
    assert_eq!(events.iter().filter(|event| *event == "failed").count(), 3);
    assert!(events.ends_with(&["failed".into(), "stop".into()]), "{events:?}");
    // The kernel may have queued a third before the listener went.
    assert!(events.iter().filter(|event| *event == "build").count() >= 2, "{events:?}");
}

#[test]
fn an_attempt_that_waits_can_be_stopped() {
    let log = Log::default();
    run(|reactor| {
        let factory = Recorder::new(reactor, &log).failed({
            let mut again = true;
            move |connector| {
                if std::mem::take(&mut again) {
                    connector.connect_later(Duration::from_secs(3600)).unwrap();
                    reactor.call_soon(move || connector.stop_connecting().unwrap());
                }
            }
        });
        reactor.connect_tcp(closed_port(), factory);
    });
    assert_eq!(log.take(), ["start", "connecting", "failed", "failed", "stop"]);
}

#[test]
fn a_host_name_is_looked_up_and_its_addresses_are_tried_in_turn() {
    let at = Slot::default();
    run(|reactor| {
        let port = serve(reactor, || Quiet).port();
        let seen = at.clone();
        let probe = Probe::new().on_made(move |transport| {
            seen.set(transport.peer());
            let _ = reactor.stop();
        });
        // Where the name means ::1 first, that is refused and 127.0.0.1 tried next.
        let _ = reactor.connect_protocol(("localhost", port), probe);
    });
    assert!(at.get().ip().unwrap().is_loopback());
}

#[test]
fn the_first_address_s_failure_is_the_one_told() {
    let port = closed_port().port();
    let error = failure_of(("localhost", port));
    assert!(matches!(&error, ConnectError::Refused { to } if to.port() == Some(port)), "{error:?}");
}

#[test]
fn a_connection_as_a_deferred_fires_with_its_transport() {
    let log = Log::default();
    run(|reactor| {
        let at = serve(reactor, || Quiet);
        let (made, fired) = (log.clone(), log.clone());
        let _ = reactor.connect_protocol(at, Probe::new().on_made(move |_| made.add("made"))).add_callback(
            move |transport| {
                fired.add(transport.peer() == Address::Tcp(at));
                let _ = reactor.stop();
            },
        );
        assert!(log.all().is_empty());
    });
    assert_eq!(log.take(), ["made", "true"]);
}

#[test]
fn a_connection_as_a_deferred_fails_with_why_not() {
    let at = closed_port();
    let error = Slot::default();
    run(|reactor| {
        let seen = error.clone();
        let _ = reactor.connect_protocol(at, Quiet).add_callback(|_| ()).add_errback(move |failure| {
            seen.set(failure.trap::<ConnectError>()?.clone());
            let _ = reactor.stop();
            Ok(())
        });
    });
    assert_eq!(error.get(), ConnectError::Refused { to: Address::Tcp(at) });
}

#[test]
fn a_protocol_that_panics_in_connection_made_fails_the_deferred() {
    // END-5: there it hangs
    let error = Slot::default();
    run(|reactor| {
        let at = serve(reactor, || Quiet);
        let seen = error.clone();
        let _ = reactor.connect_protocol(at, Probe::new().on_made(|_| panic!("no"))).add_both(move |outcome| {
            seen.set(outcome.expect_err("a failure"));
            reactor.stop()
        });
    });
    assert!(matches!(error.get().check(), Some(ConnectionClosed::Failed(failure)) if failure.is_panic()));
}

#[test]
fn cancelling_the_deferred_gives_the_attempt_up() {
    // PRO-7
    let (at, _held) = blackhole();
    let reactor = Reactor::new().unwrap();
    let error = Slot::default();
    let seen = error.clone();
    let deferred = reactor.connect_protocol(at, Quiet);
    let canceller = deferred.canceller();
    let _rest = deferred.add_both(move |outcome| seen.set(outcome.expect_err("a failure")));
    pump(reactor);
    assert_eq!(reactor.statistics().descriptors, 1);
    canceller.cancel();
    assert!(error.is_set(), "told at once");
    assert!(error.get().is::<Cancelled>() || error.get().check() == Some(&ConnectError::Cancelled), "{}", error.get());
    pump(reactor);
    assert_eq!(reactor.statistics().descriptors, 0);
    assert_eq!(reactor.statistics().timers, 0);
}

#[test]
fn cancelling_before_the_first_turn_connects_to_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let reactor = Reactor::new().unwrap();
    let made = Log::default();
    let seen = made.clone();
    let deferred =
        reactor.connect_protocol(listener.local_addr().unwrap(), Probe::new().on_made(move |_| seen.add("made")));
    deferred.cancel();
    let _ = deferred.add_both(drop);
    pump(reactor);
    assert!(made.take().is_empty());
    assert_eq!(reactor.statistics().descriptors, 0);
}

#[test]
fn the_reactor_s_end_fails_attempts_under_way_and_those_that_wait() {
    // R5
    let log = Log::default();
    let (at, _held) = blackhole();
    let reactor = Reactor::new().unwrap();
    reactor.handle_signals(false);
    let error = Slot::default();
    // Asks for more, though there is no reactor for it.
    let hook = |connector: Connector| drop(connector.connect());
    let other = Log::default();
    reactor.connect_tcp(at, Recorder::new(reactor, &log).error(&error).failed(hook));
    reactor.connect_tcp(
        closed_port(),
        Recorder::new(reactor, &other).failed(|connector| drop(connector.connect_later(Duration::from_secs(60)))),
    );
    reactor.call_later(Duration::from_millis(20), move || reactor.stop());
    finish(reactor);
    assert_eq!(error.get(), ConnectError::Cancelled);
    assert_eq!(log.take(), ["start", "connecting", "failed", "stop"]);
    assert_eq!(other.take(), ["start", "connecting", "failed", "failed", "stop"]);
    assert_eq!(
        reactor.connect_protocol(at, Quiet).try_take().map_err(|_| "pending").unwrap().unwrap_err().check(),
        Some(&ReactorError::Closed)
    );
    assert_eq!(reactor.connect_tcp(at, || Quiet).destination().to_string(), "", "the name of no connector");
}

#[test]
fn a_plain_closure_as_a_client_factory_logs_its_failure() {
    watch_log();
    let reactor = Reactor::new().unwrap();
    let at = closed_port();
    reactor.connect_tcp(at, || Quiet);
    pump(reactor);
    let lines = logged();
    assert!(lines.len() == 1 && lines[0].contains(&at.to_string()) && lines[0].starts_with("WARN"), "{lines:?}");
}

#[test]
fn a_shared_client_factory_hears_everything() {
    let log = Log::default();
    let (at, server) = plain_server(drop);
    run(|reactor| {
        let shared = Shared::new(Recorder::new(reactor, &log));
        reactor.connect_tcp(at, shared);
    });
    server.join().unwrap();
    assert_eq!(log.take(), ["start", "connecting", "build", "lost", "stop"]);
}

// ---- trying again and again ----

#[test]
fn a_reconnecting_factory_tries_until_its_retries_are_used_up() {
    // REC-2
    watch_log();
    let log = Log::default();
    run(|reactor| {
        let backoff = Backoff::default().initial_delay(Duration::from_millis(1)).max_retries(3);
        let factory = ReconnectingClientFactory::with_backoff(&backoff, Recorder::new(reactor, &log));
        reactor.connect_tcp(closed_port(), factory);
    });
    assert_eq!(log.take(), ["start", "stop"]);
    assert!(logged().iter().any(|line| line.contains("giving up")));
}

#[test]
fn a_reconnecting_factory_comes_back_after_losses() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || (0..4).for_each(|_| drop(listener.accept().unwrap())));
    let made = Rc::new(Cell::new(0));
    run(|reactor| {
        let backoff = Backoff::default().initial_delay(Duration::from_millis(1));
        let (count, useful) = (made.clone(), backoff.clone());
        let factory = ReconnectingClientFactory::with_backoff(&backoff, move || {
            let (count, useful) = (count.clone(), useful.clone());
            Probe::new().on_made(move |_| {
                count.set(count.get() + 1);
                useful.reset_delay();
                if count.get() == 4 {
                    useful.stop_trying();
                    let _ = reactor.stop();
                }
            })
        });
        reactor.connect_tcp(at, factory);
    });
    server.join().unwrap();
    assert_eq!(made.get(), 4);
}

#[test]
fn stop_trying_ends_a_wait_and_an_attempt() {
    // REC-5
    let (at, _held) = blackhole();
    for to in [at, closed_port()] {
        let log = Log::default();
        run(|reactor| {
            let backoff = Backoff::default().initial_delay(Duration::from_secs(1000));
            let factory = ReconnectingClientFactory::with_backoff(&backoff, Recorder::new(reactor, &log));
            reactor.connect_tcp(to, factory);
            reactor.call_later(Duration::from_millis(20), move || backoff.stop_trying());
        });
        assert_eq!(log.take(), ["start", "stop"]);
    }
}

#[test]
fn waits_grow_up_to_the_longest() {
    // REC-1, REC-2: by e each time, with some jitter
    let times = Rc::new(std::cell::RefCell::new(Vec::new()));
    run(|reactor| {
        let seen = times.clone();
        let backoff = Backoff::default()
            .initial_delay(Duration::from_millis(2))
            .max_delay(Duration::from_millis(40))
            .max_retries(5);
        struct Timed(Rc<std::cell::RefCell<Vec<Instant>>>, Reactor);
        impl Factory for Timed {
            fn build_protocol(&mut self, _: &Address) -> Option<Box<dyn Protocol>> {
                self.0.borrow_mut().push(Instant::now());
                None
            }
            fn stop_factory(&mut self) {
                let _ = self.1.stop();
            }
        }
        let at = serve(reactor, || Quiet);
        reactor.connect_tcp(at, ReconnectingClientFactory::with_backoff(&backoff, Timed(seen, reactor)));
    });
    let times = times.borrow();
    let waits: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1000.0).collect();
    assert_eq!(waits.len(), 5);
    // Means 5.4, 14.8, 40, 40, 40 ms; a wait strays by 12 % in the mean, and never comes early by more than a few of those.
    for (wait, mean) in waits.iter().zip([5.4, 14.8, 40.0, 40.0, 40.0]) {
        assert!(*wait > mean * 0.3, "{waits:?}");
    }
}
