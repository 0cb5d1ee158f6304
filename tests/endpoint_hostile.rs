//! Endpoints whose callbacks turn against the attempt that calls them: they give it up, connect again, stop the reactor. Whatever
//! the endpoint is made of, its Deferred fires once, and nothing is left.
mod certs;
mod nameserver;
mod rig;

use certs::{client, server};
use nameserver::{A, Asked, Line, NameServer, SRV};
use rig::{Log, Slot, finish, run, serve};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use twistlet::deferred::Canceller;
use twistlet::endpoint::srv::SrvConnector;
use twistlet::endpoint::{
    ClientEndpoint, HostnameEndpoint, ProcessClientEndpoint, TcpClientEndpoint, wrap_client, wrap_client_tls,
};
use twistlet::protocols::proxy::{ProxyClientFactory, ProxyVersion};
use twistlet::transport::dns::{Client, Config};
use twistlet::transport::process::Command;
use twistlet::transport::resolver::{Hosts, HostsResolver, SystemResolver};
use twistlet::transport::tls::wrap_factory;
use twistlet::{Address, ConnectError, ConnectionClosed, Factory, Protocol, Reactor, TransportRef};

/// When the attempt is turned against.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    Build,
    Made,
    Secured,
}
type Deed = Rc<dyn Fn()>;

/// Does it.
struct Traitor {
    at: At,
    deed: Deed,
    log: Log,
}
impl Factory for Traitor {
    fn build_protocol(&mut self, _: &Address) -> Option<Box<dyn Protocol>> {
        if self.at == At::Build {
            (self.deed)();
        }
        Some(Box::new(Turncoat { at: self.at, deed: Rc::clone(&self.deed), log: self.log.clone() }))
    }
    fn stop_factory(&mut self) {
        self.log.add("stopped");
    }
}
struct Turncoat {
    at: At,
    deed: Deed,
    log: Log,
}
impl Protocol for Turncoat {
    fn connection_made(&mut self, _: TransportRef) {
        self.log.add("made");
        if self.at == At::Made {
            (self.deed)();
        }
    }
    fn handshake_completed(&mut self, _: TransportRef) {
        if self.at == At::Secured {
            (self.deed)();
        }
    }
    fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
    fn connection_lost(&mut self, _: TransportRef, _: &ConnectionClosed) {
        self.log.add("lost");
    }
}

struct Quiet;
impl Protocol for Quiet {
    fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
}

/// Endpoints of every make, by name; those that speak TLS at last.
fn endpoints(reactor: Reactor) -> Vec<(&'static str, Box<dyn ClientEndpoint>, bool)> {
    let hosts = Hosts::new().with("localhost", [127, 0, 0, 1].into());
    reactor.set_resolver(HostsResolver::new(hosts, SystemResolver::new(&reactor)));
    let plain = serve(reactor, || Quiet);
    let tls = serve(reactor, wrap_factory(server(), || Quiet));
    let tcp = |at: SocketAddr| TcpClientEndpoint::new(&reactor, at);
    let name = |at: SocketAddr| HostnameEndpoint::new(&reactor, "localhost", at.port());
    let proxied = |at| wrap_client(tcp(at), |factory| ProxyClientFactory::direct(ProxyVersion::V2, factory));
    let srv = |at: SocketAddr| {
        let zone = NameServer::here(&reactor, move |asked: &Asked, line: Line| {
            let reply = asked.reply();
            line.send(match asked.kind {
                SRV => {
                    reply.srv(&asked.name, 0, 0, at.port(), "localhost").srv(&asked.name, 1, 0, at.port(), "localhost")
                }
                A => reply.ip(&asked.name, [127, 0, 0, 1]),
                _ => reply,
            });
        });
        SrvConnector::new("x", "localhost").client(&Client::with_config(&reactor, Config::new().server(zone.at)))
    };
    let cat = ProcessClientEndpoint::new(&reactor, || Command::new("cat"));
    vec![
        ("tcp", Box::new(tcp(plain)), false),
        ("name", Box::new(name(plain)), false),
        ("proxied", Box::new(proxied(plain)), false),
        ("srv", Box::new(srv(plain).endpoint(&reactor)), false),
        ("process", Box::new(cat), false),
        ("tls", Box::new(wrap_client_tls(tcp(tls), &client(), "localhost")), true),
        ("tls by name", Box::new(wrap_client_tls(name(tls), &client(), "localhost")), true),
        ("srv by tls", Box::new(srv(tls).tls(client()).endpoint(&reactor)), true),
        ("tls in tls", Box::new(wrap_client(wrap_client_tls(tcp(tls), &client(), "localhost"), |f| f)), true),
    ]
}
const KINDS: usize = 9;

/// What became of an attempt at the endpoint of that number, and what the factory heard.
fn attempt(
    number: usize,
    at: At,
    deed: impl Fn(&dyn ClientEndpoint, &Slot<Canceller>) + 'static,
) -> (String, Vec<String>) {
    let (log, outcomes) = (Log::default(), Log::default());
    let (noted, outcome) = (log.clone(), outcomes.clone());
    run(move |reactor| {
        let (name, endpoint, _) = endpoints(reactor).swap_remove(number);
        let endpoint: Rc<dyn ClientEndpoint> = endpoint.into();
        reactor.call_later(Duration::from_millis(1), move || {
            let before = reactor.statistics().descriptors;
            let canceller = Slot::default();
            let known = canceller.clone();
            let again = Rc::clone(&endpoint);
            let deed: Deed = Rc::new(move || deed(&*again, &known));
            let connecting = endpoint.connect(Traitor { at, deed, log: noted.clone() });
            canceller.set(connecting.canceller());
            let seen = outcome.clone();
            let _ = connecting.add_both(move |outcome| {
                seen.add(match outcome {
                    Ok(transport) => {
                        transport.lose_connection();
                        "connected".to_owned()
                    }
                    Err(failure) => format!("{:?}", failure.check::<ConnectError>()),
                });
            });
            // Until it is all over.
            fn when_over(reactor: Reactor, log: Log, before: usize, name: &'static str, turns: usize) {
                assert!(turns < 4000, "{name}: {:?}, {:?}", log.all(), reactor.statistics());
                reactor.call_later(Duration::from_millis(1), move || {
                    let stopped = log.all().iter().any(|line| line == "stopped");
                    // The far end goes too.
                    if stopped && reactor.statistics().descriptors <= before {
                        let _ = reactor.stop();
                    } else {
                        when_over(reactor, log, before, name, turns + 1);
                    }
                });
            }
            when_over(reactor, noted, before, name, 0);
        });
    });
    let outcomes = outcomes.take();
    assert_eq!(outcomes.len(), 1, "{number} {at:?}: {outcomes:?}");
    (outcomes[0].clone(), log.take())
}

// END-4
#[test]
fn an_attempt_given_up_by_its_own_callback_fails_and_leaves_nothing() {
    for number in 0..KINDS {
        for at in [At::Build, At::Made, At::Secured] {
            if at == At::Secured && number < 5 {
                continue;
            }
            let (outcome, heard) = attempt(number, at, |_, canceller| canceller.get().cancel());
            assert_eq!(outcome, "Some(Cancelled)", "{number} {at:?}");
            let count = |what: &str| heard.iter().filter(|line| *line == what).count();
            assert_eq!(count("made"), count("lost"), "{number} {at:?}: {heard:?}");
            assert_eq!(count("stopped"), 1, "{number} {at:?}: {heard:?}");
        }
    }
}

#[test]
fn connecting_again_from_within_a_callback_is_another_attempt() {
    for at in [At::Build, At::Made] {
        for number in 0..KINDS {
            let again = Rc::new(Cell::new(false));
            let done = Slot::default();
            let seen = done.clone();
            let (outcome, heard) = attempt(number, at, move |endpoint, _| {
                if !again.replace(true) {
                    let seen = seen.clone();
                    let _ = endpoint.connect_boxed(Box::new(|| Quiet)).add_callback(move |transport| {
                        transport.abort_connection();
                        seen.set(());
                    });
                }
            });
            assert_eq!(
                (&*outcome, &*heard),
                ("connected", &["made", "lost", "stopped"].map(String::from)[..]),
                "{number}"
            );
        }
    }
}

// R5: also at the reactor's end
#[test]
fn an_attempt_whose_callback_stops_the_reactor_is_told_once() {
    for number in 0..KINDS {
        for at in [At::Build, At::Made, At::Secured] {
            if at == At::Secured && number < 5 {
                continue;
            }
            let (log, outcomes) = (Log::default(), Log::default());
            let reactor = Reactor::new().expect("a reactor");
            reactor.handle_signals(false);
            let (_, endpoint, _) = endpoints(reactor).swap_remove(number);
            let deed: Deed = Rc::new(move || drop(reactor.stop()));
            let (noted, seen) = (log.clone(), outcomes.clone());
            reactor.call_when_running(move || {
                let _ = endpoint
                    .connect(Traitor { at, deed, log: noted })
                    .add_both(move |outcome| seen.add(if outcome.is_ok() { "connected" } else { "failed" }));
            });
            finish(reactor);
            let heard = log.take();
            let count = |what: &str| heard.iter().filter(|line| *line == what).count();
            assert_eq!(outcomes.take().len(), 1, "{number} {at:?}");
            assert_eq!(count("made"), count("lost"), "{number} {at:?}: {heard:?}");
            assert_eq!(count("stopped"), 1, "{number} {at:?}: {heard:?}");
        }
    }
}
