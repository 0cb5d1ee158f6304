//! Endpoints over sockets and over a network in memory: what a connect and a listen give, and the race of a name's addresses.
mod rig;

use rig::{Log, Probe, Slot, address, closed_port, finish, pump, run, serve};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use twistlet::endpoint::{
    ClientEndpoint, HostnameEndpoint, ServerEndpoint, TcpClientEndpoint, TcpServerEndpoint, UnixClientEndpoint,
    UnixServerEndpoint,
};
use twistlet::error::{CannotListen, PortError, ReactorError, TimedOut};
use twistlet::testing::{Network, simulate, simulate_with};
use twistlet::{Address, ConnectError, Deferred, Factory, Failure, Protocol, Reactor, TransportRef, from_fn};

struct Quiet;
impl Protocol for Quiet {
    fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
}

/// A factory that notes when it is started and stopped.
struct Noting(Log);
impl Factory for Noting {
    fn build_protocol(&mut self, _peer: &Address) -> Option<Box<dyn Protocol>> {
        self.0.add("build");
        let log = self.0.clone();
        Some(Box::new(Probe::new().on_made(move |_| log.add("made"))))
    }
    fn start_factory(&mut self) {
        self.0.add("start");
    }
    fn stop_factory(&mut self) {
        self.0.add("stop");
    }
}

/// The error that connecting ends with.
#[track_caller]
fn error_of(connect: impl FnOnce(Reactor) -> Deferred<TransportRef>) -> ConnectError {
    let error = Slot::default();
    run(|reactor| {
        let seen = error.clone();
        let _ = connect(reactor).add_both(move |outcome| {
            seen.set(outcome.expect_err("a failure"));
            reactor.stop()
        });
    });
    error.get().trap::<ConnectError>().expect("a ConnectError").clone()
}

#[test]
fn connecting_fires_right_after_connection_made_with_the_transport() {
    // END-1
    let log = Log::default();
    run(|reactor| {
        let at = serve(reactor, || Quiet);
        let (made, fired) = (log.clone(), log.clone());
        let probe = Probe::new().on_made(move |_| {
            let next = made.clone();
            made.add("made");
            reactor.call_soon(move || next.add("a turn later"));
        });
        let _ = TcpClientEndpoint::new(&reactor, at).connect_protocol(probe).add_callback(move |transport| {
            fired.add(format!("fired {}", transport.peer() == Address::Tcp(at)));
            reactor.call_soon(move || reactor.stop());
        });
        assert!(log.all().is_empty(), "nothing happens before a later turn");
    });
    assert_eq!(log.take(), ["made", "fired true", "a turn later"]);
}

#[test]
fn a_tcp_endpoint_listens_and_stops() {
    run(|reactor| {
        let endpoint = TcpServerEndpoint::new(&reactor, "127.0.0.1:0");
        let _ = endpoint.listen(|| Quiet).add_callback(move |listening| {
            let client = TcpClientEndpoint::new(&reactor, listening.address());
            client
                .connect(|| Quiet)
                .add_callback(move |_| listening.stop_listening())
                .add_callback(move |()| client.connect(|| Quiet))
                .add_both(move |outcome| {
                    let failure = outcome.expect_err("nobody listens any more");
                    assert!(matches!(failure.check(), Some(ConnectError::Refused { .. })), "{failure}");
                    reactor.stop()
                })
        });
        // END-7: an endpoint listens as often as one likes
        let again = endpoint.listen(|| Quiet).try_take().map_err(|_| "pending").unwrap();
        assert!(again.is_ok());
    });
}

#[test]
fn unix_endpoints_meet_at_a_path() {
    let folder = std::env::temp_dir().join(format!("twistlet-endpoint-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("socket");
    run(|reactor| {
        let made = UnixServerEndpoint::new(&reactor, &path).listen(|| Quiet).try_take().map_err(|_| "pending").unwrap();
        assert_eq!(made.unwrap().address().path(), Some(&*path));
        let _ = UnixClientEndpoint::new(&reactor, &path).connect(|| Quiet).add_callback(move |_| reactor.stop());
    });
    let missing = path.clone();
    let error = error_of(|reactor| UnixClientEndpoint::new(&reactor, missing).connect(|| Quiet));
    assert!(matches!(error, ConnectError::Os { code: libc::ENOENT, .. }), "{error:?}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_is_wrong_with_a_place_arrives_in_the_deferred() {
    // END-1, END-2
    let reactor = Reactor::new().unwrap();
    let taken = address(reactor.listen_tcp("127.0.0.1:0", || Quiet).unwrap());
    for at in [taken.to_string(), "no place".to_string()] {
        let listening =
            TcpServerEndpoint::new(&reactor, at).listen(|| Quiet).try_take().map_err(|_| "pending").unwrap();
        assert!(listening.unwrap_err().is::<CannotListen>());
    }
    let text = TcpClientEndpoint::new(&reactor, "no place").connect(|| Quiet);
    let error = Slot::default();
    let seen = error.clone();
    let _ = text.add_errback(move |failure| {
        seen.set(failure.trap::<ConnectError>()?.clone());
        Ok(TransportRef::clone(&gone()))
    });
    pump(reactor);
    assert_eq!(error.get(), ConnectError::InvalidAddress { text: "no place".into() });
    reactor.close();
    for connect in [
        TcpClientEndpoint::new(&reactor, taken).connect(|| Quiet),
        HostnameEndpoint::new(&reactor, "127.0.0.1", 1).connect(|| Quiet),
    ] {
        let failure = connect.try_take().map_err(|_| "pending").unwrap().unwrap_err();
        let Some(ConnectError::Failed(cause)) = failure.check() else { panic!("{failure}") };
        assert_eq!(cause.check(), Some(&ReactorError::Closed));
    }
}

/// The name of no wire.
fn gone() -> TransportRef {
    let wire = twistlet::testing::StringTransport::connect(Quiet, &twistlet::testing::Clock::new());
    wire.transport()
}

#[test]
fn a_factory_that_declines_or_panics_fails_the_connect() {
    // E01, END-3
    let declined = error_of(|reactor| {
        let at = serve(reactor, || Quiet);
        TcpClientEndpoint::new(&reactor, at).connect(from_fn(|_| None::<Quiet>))
    });
    assert_eq!(declined, ConnectError::NoProtocol);
    let panicked = error_of(|reactor| {
        let at = serve(reactor, || Quiet);
        TcpClientEndpoint::new(&reactor, at).connect(|| -> Quiet { panic!("no") })
    });
    assert!(matches!(&panicked, ConnectError::Failed(failure) if failure.is_panic()), "{panicked:?}");
}

#[test]
fn a_panic_in_connection_made_fails_the_connect() {
    // END-5: there it hangs
    let hosts = [false, true];
    for by_name in hosts {
        let error = error_of(|reactor| {
            let at = serve(reactor, || Quiet);
            let probe = || Probe::new().on_made(|_| panic!("no"));
            match by_name {
                true => HostnameEndpoint::new(&reactor, "127.0.0.1", at.port()).connect(probe),
                false => TcpClientEndpoint::new(&reactor, at).connect(probe),
            }
        });
        assert!(matches!(&error, ConnectError::Failed(failure) if failure.is_panic()), "{error:?}");
    }
}

#[test]
fn a_cancelled_connect_fails_at_once_and_leaves_nothing() {
    // END-4
    let network = Network::new();
    network.blackhole(true);
    simulate_with(&network, |reactor, _| {
        let reactor = *reactor;
        let endpoints: [Box<dyn ClientEndpoint>; 2] = [
            Box::new(TcpClientEndpoint::new(&reactor, "10.0.0.1:80")),
            Box::new(HostnameEndpoint::new(&reactor, "10.0.0.1", 80)),
        ];
        for endpoint in endpoints {
            let connecting = endpoint.connect(|| Quiet);
            let canceller = connecting.canceller();
            let error = Slot::default();
            let seen = error.clone();
            let _ = connecting.add_both(move |outcome| seen.set(outcome.expect_err("a failure")));
            canceller.cancel();
            assert_eq!(error.get().check(), Some(&ConnectError::Cancelled));
        }
        reactor.call_soon(move || {
            assert_eq!(reactor.statistics().timers, 0);
            assert_eq!(reactor.statistics().descriptors, 0);
        });
        Ok(())
    })
    .unwrap();
    assert_eq!(network.elapsed(), Duration::ZERO);
}

#[test]
fn a_cancelled_connect_is_not_logged_and_a_timeout_stays_one() {
    rig::watch_log();
    let network = Network::new();
    network.blackhole(true);
    let outcome = simulate_with(&network, |reactor, _| {
        drop({
            let connecting = TcpClientEndpoint::new(reactor, "10.0.0.1:80").connect(|| Quiet);
            connecting.cancel();
            connecting
        });
        let connecting = HostnameEndpoint::new(reactor, "10.0.0.1", 80).connect(|| Quiet);
        Ok(connecting.add_timeout(Duration::from_secs(3), reactor))
    });
    assert_eq!(outcome.unwrap_err().check(), Some(&TimedOut(Duration::from_secs(3))));
    assert_eq!(rig::logged(), [""; 0]);
}

#[test]
fn cancelling_after_success_does_nothing() {
    // END-4
    let connected = Rc::new(Cell::new(false));
    let state = connected.clone();
    simulate(|reactor, _| {
        let reactor = *reactor;
        reactor.listen_tcp("10.0.0.1:80", || Quiet)?;
        let mut connecting = HostnameEndpoint::new(&reactor, "10.0.0.1", 80).connect(|| Quiet);
        let canceller = connecting.canceller();
        connecting.observe(move |transport| {
            let transport = *transport.expect("connected");
            reactor.call_later(Duration::from_secs(1), move || {
                canceller.cancel();
                reactor.call_later(Duration::from_secs(1), move || {
                    state.set(transport.is_connected() && !transport.is_disconnecting());
                    reactor.stop()
                });
            });
        });
        std::mem::forget(connecting);
        Ok(())
    })
    .unwrap();
    assert!(connected.get());
}

#[test]
fn the_factory_is_started_before_and_stopped_after_its_connection() {
    // END-2
    for by_name in [false, true] {
        let log = Log::default();
        let factory = Noting(log.clone());
        run(|reactor| {
            let at = serve(reactor, || Probe::new().on_made(|transport| transport.lose_connection()));
            let _ = match by_name {
                true => HostnameEndpoint::new(&reactor, "127.0.0.1", at.port()).connect(factory),
                false => TcpClientEndpoint::new(&reactor, at).connect(factory),
            };
            reactor.call_later(Duration::from_millis(50), move || reactor.stop());
        });
        assert_eq!(log.take(), ["start", "build", "made", "stop"], "by name: {by_name}");
    }
}

#[test]
fn an_adopted_listener_listens_once() {
    // END-7
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let reactor = Reactor::new().unwrap();
    reactor.handle_signals(false);
    let endpoint = TcpServerEndpoint::new(&reactor, listener);
    let first = endpoint.listen(|| Quiet).try_take().map_err(|_| "pending").unwrap().unwrap();
    assert_eq!(first.address(), &Address::Tcp(at));
    let second = endpoint.listen(|| Quiet).try_take().map_err(|_| "pending").unwrap();
    assert_eq!(second.unwrap_err().check(), Some(&PortError::AlreadyListening));
    let _ = TcpClientEndpoint::new(&reactor, at).connect(|| Quiet).add_callback(move |_| reactor.stop());
    finish(reactor);
}

#[test]
fn an_invalid_host_name_fails_when_used() {
    // EX02, END-12
    let long = "a".repeat(300);
    for name in ["", "no such name", "nul\0", "a/b", &*long] {
        let error = error_of(|reactor| HostnameEndpoint::new(&reactor, name, 80).connect(|| Quiet));
        assert_eq!(error, ConnectError::UnknownHost { host: name.into() });
    }
}

#[test]
fn a_name_s_refused_address_is_told_at_once() {
    // END-11: there it takes a tick
    let at = closed_port();
    let error = error_of(|reactor| {
        HostnameEndpoint::new(&reactor, "127.0.0.1", at.port()).attempt_delay(Duration::from_secs(60)).connect(|| Quiet)
    });
    assert_eq!(error, ConnectError::Refused { to: Address::Tcp(at) });
}

#[test]
fn an_endpoint_in_a_box_is_an_endpoint() {
    let error: Result<TransportRef, Failure> = simulate(|reactor, _| {
        let endpoint: Rc<Box<dyn ClientEndpoint>> = Rc::new(Box::new(TcpClientEndpoint::new(reactor, "10.0.0.1:80")));
        let server: Box<dyn ServerEndpoint> = Box::new(TcpServerEndpoint::new(reactor, "10.0.0.1:80"));
        Ok(server.listen(|| Quiet).add_callback(move |_| endpoint.connect(|| Quiet)))
    });
    assert!(error.is_ok());
}
