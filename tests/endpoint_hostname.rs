//! `HostnameEndpoint`: all addresses of a name in a race, on a network in memory where time is virtual.
mod rig;

use rig::{Log, Probe, Slot};
use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use twistlet::endpoint::{ClientEndpoint, HostnameEndpoint};
use twistlet::testing::{Network, flush_logged_failures, simulate, simulate_with};
use twistlet::transport::resolver;
use twistlet::{Address, ConnectError, Deferred, Failure, Protocol, Reactor, TransportRef, from_fn};

const FIRST: &str = "2001:db8::1";
const SECOND: &str = "10.0.0.1";
const THIRD: &str = "2001:db8::2";
const ALL: [&str; 3] = [FIRST, THIRD, SECOND];

struct Quiet;
impl Protocol for Quiet {
    fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
fn at(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), 80)
}
/// A name with these addresses, in this order.
fn name(reactor: &Reactor, ips: &[&str]) -> HostnameEndpoint {
    let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
    reactor.set_resolver(resolver::from_fn(move |_| Deferred::succeed(ips.clone())));
    HostnameEndpoint::new(reactor, "host.test", 80)
}
fn listen(reactor: &Reactor, ips: &[&str]) {
    for ip in ips {
        reactor.listen_tcp(at(ip), || Quiet).unwrap();
    }
}
/// What connecting to a name with these addresses comes to, and how long it takes.
fn race(
    network: &Network,
    ips: &[&str],
    setup: impl FnOnce(&Reactor),
    endpoint: impl FnOnce(HostnameEndpoint) -> HostnameEndpoint,
) -> (Result<IpAddr, ConnectError>, Duration) {
    let outcome = simulate_with(network, |reactor, _| {
        setup(reactor);
        let connecting = endpoint(name(reactor, ips)).connect(|| Quiet);
        let reactor = *reactor;
        Ok(connecting.add_both(move |outcome| {
            // END-10: whatever the outcome
            assert_eq!(reactor.statistics().timers, 0);
            Ok(outcome.map(|transport| transport.peer().ip().unwrap()))
        }))
    });
    let outcome = outcome.unwrap();
    (outcome.map_err(|failure| failure.trap::<ConnectError>().unwrap().clone()), network.elapsed())
}
fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
/// The network answers nobody for a while.
fn dead_until(network: &Network, time: Duration) -> impl FnOnce(&Reactor) {
    let network = network.clone();
    network.blackhole(true);
    move |reactor| {
        listen(reactor, &ALL);
        reactor.call_later(time, move || network.blackhole(false));
    }
}

#[test]
fn families_take_turns_beginning_with_the_resolver_s_first() {
    // RFC 8305, section 4
    let cases: [(&[&str], &[&str]); 4] = [
        (&[FIRST, THIRD, "2001:db8::3", SECOND, "10.0.0.2"], &[FIRST, SECOND, THIRD, "10.0.0.2", "2001:db8::3"]),
        (&[SECOND, "10.0.0.2", FIRST], &[SECOND, FIRST, "10.0.0.2"]),
        (&[SECOND, SECOND, "10.0.0.2"], &[SECOND, "10.0.0.2"]),
        (&[FIRST], &[FIRST]),
    ];
    for (given, tried) in cases {
        let log = Log::default();
        let network = Network::new();
        let outcome = simulate_with(&network, |reactor, _| {
            for ip in given.iter().collect::<std::collections::HashSet<_>>() {
                reactor.listen_tcp(at(ip), || Quiet)?;
            }
            let seen = log.clone();
            Ok(name(reactor, given).connect(from_fn(move |peer| {
                seen.add(peer.ip().unwrap());
                None::<Quiet>
            })))
        });
        assert_eq!(outcome.unwrap_err().check(), Some(&ConnectError::NoProtocol));
        assert_eq!(log.take(), tried);
        assert_eq!(network.elapsed(), Duration::ZERO, "no attempt waits for the time of its own when one has failed");
    }
}

#[test]
fn a_silent_address_is_joined_by_the_next_after_the_delay() {
    // END-9, and the delay is RFC 8305's
    let network = Network::new();
    let (outcome, elapsed) = race(&network, &ALL, dead_until(&network, ms(200)), |endpoint| endpoint);
    assert_eq!(outcome, Ok(ip(SECOND)));
    assert_eq!(elapsed, ms(250));

    let network = Network::new();
    let (outcome, elapsed) = race(&network, &ALL, dead_until(&network, ms(1500)), |e| e.attempt_delay(ms(1000)));
    assert_eq!(outcome, Ok(ip(THIRD)));
    assert_eq!(elapsed, ms(2000));
}

#[test]
fn a_failed_attempt_is_followed_by_the_next_at_once() {
    // END-10: there it waits for the tick
    let network = Network::new();
    network.set_latency(ms(40));
    let (outcome, elapsed) = race(&network, &ALL, |reactor| listen(reactor, &[THIRD]), |endpoint| endpoint);
    assert_eq!(outcome, Ok(ip(THIRD)));
    assert_eq!(elapsed, ms(240), "two refusals and an answer, each there and back");
}

#[test]
fn who_began_earlier_may_still_win_and_builds_the_only_protocol() {
    // E04
    let network = Network::new();
    network.set_latency(ms(200));
    let built = Log::default();
    let lost = Log::default();
    let descriptors = Rc::new(Cell::new((0, 0)));
    simulate_with(&network, |reactor, _| {
        let reactor = *reactor;
        for ip in ALL {
            let lost = lost.clone();
            let probe = move || {
                let lost = lost.clone();
                Probe::new().on_lost(move |_, reason| lost.add(reason))
            };
            reactor.listen_tcp(at(ip), probe)?;
        }
        let (seen, count) = (built.clone(), descriptors.clone());
        let factory = from_fn(move |peer| {
            seen.add(peer.ip().unwrap());
            Some(Quiet)
        });
        Ok(name(&reactor, &ALL).connect(factory).add_callback(move |transport| {
            let now = reactor.statistics();
            assert_eq!(now.timers, 0);
            // A second from now the given up attempts are gone on the other side as well.
            let later = now.descriptors;
            twistlet::task::defer_later(&reactor, ms(1000), move || {
                count.set((later, reactor.statistics().descriptors));
                assert!(transport.is_connected());
            })
        }))
    })
    .unwrap();
    assert_eq!(built.take(), [FIRST]);
    let (before, after) = descriptors.get();
    assert_eq!(after, 5, "three ports and the two ends of one connection; before: {before}");
    assert!(lost.all().len() <= 1, "the one that was given up: {:?}", lost.all());
}

#[test]
fn the_most_telling_error_is_told() {
    // END-11: there the last
    let network = Network::new();
    let refused = Err(ConnectError::Refused { to: Address::Tcp(at(SECOND)) });
    for ips in [[FIRST, SECOND], [SECOND, FIRST]] {
        // From there the first cannot be reached, and the second refuses.
        let from = |endpoint: HostnameEndpoint| endpoint.bind("10.0.0.9:0".parse().unwrap());
        assert_eq!(race(&Network::new(), &ips, |_| (), from).0, refused);
    }
    let (outcome, _) = race(&network, &[SECOND, "10.0.0.2"], |_| (), |endpoint| endpoint);
    assert_eq!(outcome, refused, "of equals the first");
}

#[test]
fn the_time_limit_is_for_everything() {
    // END-9: there for each attempt
    let network = Network::new();
    network.blackhole(true);
    let (outcome, elapsed) = race(&network, &ALL, |_| (), |endpoint| endpoint);
    assert_eq!(outcome, Err(ConnectError::TimedOut { to: "host.test:80".into(), after: Duration::from_secs(30) }));
    assert_eq!(elapsed, Duration::from_secs(30));
    assert_eq!(network.connections(), 0);
    let never = simulate(|reactor, _| {
        reactor.set_resolver(resolver::from_fn(|_| {
            let (promise, deferred) = Deferred::new();
            std::mem::forget(promise);
            deferred
        }));
        Ok(HostnameEndpoint::new(reactor, "host.test", 80).timeout(ms(10)).connect(|| Quiet))
    });
    let never = never.unwrap_err();
    assert_eq!(never.check(), Some(&ConnectError::TimedOut { to: "host.test:80".into(), after: ms(10) }));
}

#[test]
fn cancelling_during_the_lookup_gives_it_up() {
    // END-13: there it looks like a lookup that failed
    let log = Log::default();
    let error = Slot::default();
    simulate(|reactor, _| {
        let noted = log.clone();
        let pending = Cell::new(None);
        reactor.set_resolver(resolver::from_fn(move |_| {
            let (promise, deferred) = Deferred::new();
            let noted = noted.clone();
            promise.on_cancel(move || noted.add("lookup given up"));
            pending.set(Some(promise));
            deferred
        }));
        let connecting = HostnameEndpoint::new(reactor, "host.test", 80).connect(|| Quiet);
        let canceller = connecting.canceller();
        let seen = error.clone();
        let _ = connecting.add_both(move |outcome| seen.set(outcome.unwrap_err()));
        canceller.cancel();
        assert_eq!(reactor.statistics().timers, 0);
        Ok(())
    })
    .unwrap();
    assert_eq!(error.get().check(), Some(&ConnectError::Cancelled));
    assert_eq!(log.take(), ["lookup given up"]);
}

#[test]
fn cancelling_during_the_race_gives_every_attempt_up() {
    // END-13
    let network = Network::new();
    network.blackhole(true);
    let error = Slot::default();
    simulate_with(&network, |reactor, _| {
        let connecting = name(reactor, &ALL).connect(|| Quiet);
        let canceller = connecting.canceller();
        let seen = error.clone();
        let _ = connecting.add_both(move |outcome| seen.set(outcome.unwrap_err()));
        let reactor = *reactor;
        reactor.call_later(ms(400), move || {
            assert_eq!(reactor.statistics().descriptors, 2);
            canceller.cancel();
            assert_eq!(reactor.statistics().timers, 0);
            assert_eq!(reactor.statistics().descriptors, 0);
        });
        Ok(())
    })
    .unwrap();
    assert_eq!(error.get().check(), Some(&ConnectError::Cancelled));
    assert_eq!(network.elapsed(), ms(400));
}

#[test]
fn a_name_without_addresses_is_unknown() {
    // END-12
    let unknown = Err(ConnectError::UnknownHost { host: "host.test".into() });
    assert_eq!(race(&Network::new(), &[], |_| (), |endpoint| endpoint).0, unknown);
    let none_of_them = race(&Network::new(), &[FIRST], |reactor| listen(reactor, &[FIRST]), |e| e.only_ipv4());
    assert_eq!(none_of_them.0, unknown);
    let broken: Result<TransportRef, Failure> = simulate(|reactor, _| {
        reactor.set_resolver(resolver::from_fn(|_| Deferred::fail(Failure::msg("the resolver is ill"))));
        Ok(HostnameEndpoint::new(reactor, "host.test", 80).connect(|| Quiet))
    });
    let broken = broken.unwrap_err();
    assert!(matches!(broken.check(), Some(ConnectError::Failed(why)) if why.to_string() == "the resolver is ill"));
}

#[test]
fn one_family_can_be_asked_for() {
    let all = |reactor: &Reactor| listen(reactor, &ALL);
    assert_eq!(race(&Network::new(), &ALL, all, |e| e.only_ipv4()).0, Ok(ip(SECOND)));
    assert_eq!(race(&Network::new(), &[SECOND, FIRST], all, |e| e.only_ipv6()).0, Ok(ip(FIRST)));
}

#[test]
fn the_end_of_the_reactor_ends_the_race_once() {
    // R5
    let network = Network::new();
    network.blackhole(true);
    let log = Log::default();
    simulate_with(&network, |reactor, _| {
        let seen = log.clone();
        let _ = name(reactor, &ALL).connect(|| Quiet).add_both(move |outcome| seen.add(outcome.unwrap_err()));
        let reactor = *reactor;
        reactor.call_later(ms(400), move || reactor.stop());
        Ok(())
    })
    .unwrap();
    assert_eq!(log.take(), [ConnectError::Cancelled.to_string()]);
    assert_eq!(network.connections(), 0);
}

#[test]
fn a_factory_that_panics_for_one_address_is_asked_for_the_next() {
    let outcome = simulate(|reactor, _| {
        listen(reactor, &ALL);
        let factory = from_fn(|peer| match peer.ip() {
            Some(IpAddr::V6(_)) => panic!("no"),
            _ => Some(Quiet),
        });
        Ok(name(reactor, &ALL).connect(factory).add_callback(|transport| {
            assert_eq!(flush_logged_failures().len(), 1, "of the first address");
            Ok(transport.peer())
        }))
    });
    assert_eq!(outcome.unwrap(), Address::Tcp(at(SECOND)));
}

#[test]
fn a_factory_whose_destructor_panics_or_connects_again_harms_nobody() {
    struct Bomb(Reactor, Log);
    impl Drop for Bomb {
        fn drop(&mut self) {
            self.1.add("dropped");
            let _ = HostnameEndpoint::new(&self.0, FIRST, 80).connect(|| Quiet);
            panic!("a destructor");
        }
    }
    let log = Log::default();
    let outcome = simulate(|reactor, _| {
        let bomb = Bomb(*reactor, log.clone());
        let factory = from_fn(move |_| {
            let _ = &bomb;
            None::<Quiet>
        });
        listen(reactor, &[SECOND]);
        Ok(name(reactor, &[SECOND]).connect(factory))
    });
    assert_eq!(outcome.unwrap_err().check(), Some(&ConnectError::NoProtocol));
    assert_eq!(log.take(), ["dropped"]);
}
