//! Connecting by SRV records: which servers are tried, in which order and how often, and what is told when none will do.
mod nameserver;
mod rig;

use nameserver::{A, Asked, Line, NameServer, SRV};
use rig::{Log, Slot};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use twistlet::endpoint::ClientEndpoint;
use twistlet::endpoint::srv::{SrvConnector, SrvError, SrvTarget};
use twistlet::error::PortError;
use twistlet::task::defer_later;
use twistlet::testing::{Network, flush_logged_failures, simulate_with};
use twistlet::transport::dns::{Client, Config, DnsError};
use twistlet::transport::resolver::{Hosts, HostsResolver};
use twistlet::transport::tls::{ClientConfig, ServerConfig};
use twistlet::transport::{Backoff, ReconnectingClientFactory};
use twistlet::{
    Address, ClientFactory, Clock, ConnectError, ConnectionClosed, Connector, Deferred, Factory, Failure, Protocol,
    Reactor, TransportRef,
};

const SECOND: Duration = Duration::from_secs(1);
const NAME: &str = "_chat._tcp.x.test";

struct Quiet;
impl Protocol for Quiet {
    fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
}

fn server_at() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 53))
}
fn at(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 1, last], 5222))
}
/// Answers with these servers, whose hosts `h7.test` are at 10.0.1.7.
fn zone(records: Vec<(u16, u16, &'static str)>) -> impl FnMut(&Asked, Line) + 'static {
    move |asked, line| {
        let reply = asked.reply();
        line.send(match asked.kind {
            SRV if asked.name == NAME && !records.is_empty() => records
                .iter()
                .fold(reply, |reply, (priority, weight, host)| reply.srv(NAME, *priority, *weight, 5222, host)),
            A => address_of(asked),
            _ => reply.soa("test", 0),
        });
    }
}
fn address_of(asked: &Asked) -> nameserver::Reply {
    let host = asked.name.strip_suffix(".test").unwrap_or_default();
    match host.strip_prefix('h').and_then(|n| n.parse::<u8>().ok()) {
        Some(n) => asked.reply().ip(&asked.name, [10, 0, 1, n]),
        None if host == "x" => asked.reply().ip(&asked.name, [10, 0, 1, 99]),
        None => asked.reply().code(3).soa("test", 0),
    }
}

/// A simulated network with a name server, and a client that is the reactor's resolver too.
fn on_network<T: 'static>(
    script: impl FnMut(&Asked, Line) + 'static,
    f: impl FnOnce(&Reactor, &NameServer, SrvConnector) -> Deferred<T>,
) -> (Result<T, Failure>, Duration) {
    let network = Network::new();
    let result = simulate_with(&network, |reactor, _| {
        let server = NameServer::new(reactor, server_at(), script);
        let client = Client::with_config(reactor, Config::new().server(server_at()).negative_cache(Duration::ZERO));
        reactor.set_resolver(client.clone());
        Ok(f(reactor, &server, SrvConnector::new("chat", "x.test").client(&client)))
    });
    (result, network.elapsed())
}

/// Does as told when an attempt fails or a connection is lost, up to `left` times, and notes what it hears; fires when stopped.
struct Persistent {
    log: Log,
    left: Rc<Cell<usize>>,
    done: Rc<Cell<Option<twistlet::Promise<()>>>>,
    connector: Slot<Connector>,
    on_made: fn(TransportRef),
}
impl Persistent {
    fn new(log: &Log, again: usize) -> (Self, Deferred<()>) {
        let (promise, done) = Deferred::new();
        let factory = Persistent {
            log: log.clone(),
            left: Rc::new(Cell::new(again)),
            done: Rc::new(Cell::new(Some(promise))),
            connector: Slot::default(),
            on_made: |wire| wire.lose_connection(),
        };
        (factory, done)
    }
    fn again(&self, connector: Connector) {
        assert_eq!(connector, self.connector.get(), "the same in all callbacks");
        if let Some(left) = self.left.get().checked_sub(1) {
            self.left.set(left);
            connector.connect().expect("again");
        }
    }
}
struct Greeting(fn(TransportRef));
impl Protocol for Greeting {
    fn connection_made(&mut self, wire: TransportRef) {
        (self.0)(wire);
    }
    fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
}
impl Factory for Persistent {
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        self.log.add(format!("connected to {peer}"));
        Some(Box::new(Greeting(self.on_made)))
    }
    fn start_factory(&mut self) {
        self.log.add("start");
    }
    fn stop_factory(&mut self) {
        self.log.add("stop");
        if let Some(done) = self.done.take() {
            done.callback(());
        }
    }
}
impl ClientFactory for Persistent {
    fn started_connecting(&mut self, connector: Connector) {
        self.connector.set(connector);
    }
    fn client_connection_failed(&mut self, connector: Connector, reason: &ConnectError) {
        let why = match reason {
            ConnectError::Refused { to } => format!("{to} refused"),
            other => other.to_string(),
        };
        self.log.add(why);
        self.again(connector);
    }
    fn client_connection_lost(&mut self, connector: Connector, _: &ConnectionClosed) {
        self.log.add(format!("lost {}", connector.destination()));
        self.again(connector);
    }
}

fn hosts(targets: &[SrvTarget]) -> Vec<&str> {
    targets.iter().map(|target| &*target.host).collect()
}

// SRV-1, SRV-3, SRV-4, N15
#[test]
fn every_attempt_gets_the_next_server_and_a_full_round_ends_in_another_look_up() {
    let log = Log::default();
    let tried = Rc::new(RefCell::new(Vec::new()));
    let seen = tried.clone();
    let records = vec![(20, 0, "h3.test"), (10, 0, "h1.test"), (20, 0, "h4.test"), (15, 0, "h2.test")];
    let (result, _) = on_network(zone(records), |reactor, server, srv| {
        let listening = reactor.listen_tcp(at(4), || Quiet).expect("it listens");
        let (factory, done) = Persistent::new(&log, 5);
        let srv = srv.inspect(move |target| seen.borrow_mut().push(target.clone()));
        reactor.connect_srv(srv, factory);
        let server = server.clone();
        done.add_callback(move |()| {
            let asked = server.questions().into_iter().filter(|question| question.1 == SRV).count();
            assert_eq!(asked, 1, "the second time its answer is still good");
            listening.stop_listening()
        })
    });
    result.expect("it ends");
    let refused = |n: u8| format!("{} refused", at(n));
    let h4 = [format!("connected to {}", at(4)), "lost h4.test:5222".to_owned()];
    let first =
        [vec!["start".to_owned(), refused(1), refused(2), refused(3)], h4.to_vec(), vec![refused(1), refused(2)]]
            .concat();
    assert_eq!(log.take(), [first, vec!["stop".to_owned()]].concat());
    let tried = tried.take();
    assert_eq!(hosts(&tried), ["h1.test", "h2.test", "h3.test", "h4.test", "h1.test", "h2.test"]);
    assert_eq!(tried[0], SrvTarget { host: "h1.test".into(), port: 5222, priority: 10, weight: 0 });
}

// N15: with a plain look-up an attempt, when the answer may not be kept
#[test]
fn a_single_server_is_looked_up_again_for_every_attempt() {
    let log = Log::default();
    let script = |asked: &Asked, line: Line| {
        line.send(match asked.kind {
            SRV => asked.reply().record(
                0,
                NAME,
                SRV,
                0,
                &[&[0, 0, 0, 0, 20, 102], &nameserver::name("h1.test")[..]].concat(),
            ),
            _ => address_of(asked),
        });
    };
    let (result, _) = on_network(script, |reactor, server, srv| {
        let (factory, done) = Persistent::new(&log, 2);
        reactor.connect_srv(srv, factory);
        let server = server.clone();
        done.add_callback(move |()| {
            assert_eq!(server.questions().into_iter().filter(|question| question.1 == SRV).count(), 3);
        })
    });
    result.expect("it ends");
}

// SRV-3
#[test]
fn servers_of_one_priority_share_the_clients_by_weight() {
    let counts = Rc::new(RefCell::new([0; 3]));
    let seen = counts.clone();
    let (result, _) =
        on_network(zone(vec![(0, 0, "h0.test"), (0, 20, "h1.test"), (0, 60, "h2.test")]), |reactor, _, srv| {
            let srv = srv.inspect(move |target| {
                let n = target.host[1..2].parse::<usize>().expect("a digit");
                seen.borrow_mut()[n] += 1;
            });
            for n in 0..=2 {
                reactor.listen_tcp(at(n), || Quiet).expect("it listens");
            }
            let endpoint = srv.endpoint(reactor);
            let one = move |_| endpoint.connect(|| Quiet).add_callback(|wire| wire.abort_connection());
            (0..1000).fold(Deferred::succeed(()), |before, _| before.add_callback(one.clone()))
        });
    result.expect("they connect");
    let [none, light, heavy] = *counts.borrow();
    assert_eq!(none + light + heavy, 1000);
    // By chance once in a billion.
    assert!((150..=350).contains(&light) && (600..=850).contains(&heavy) && none < 60, "{none} {light} {heavy}");
}

fn fails_with(
    script: impl FnMut(&Asked, Line) + 'static,
    change: impl FnOnce(SrvConnector) -> SrvConnector,
) -> ConnectError {
    struct Failing(Rc<RefCell<Option<twistlet::Promise<ConnectError>>>>);
    impl Factory for Failing {
        fn build_protocol(&mut self, _: &Address) -> Option<Box<dyn Protocol>> {
            panic!("there is nobody")
        }
    }
    impl ClientFactory for Failing {
        fn client_connection_failed(&mut self, _: Connector, reason: &ConnectError) {
            self.0.take().expect("once").callback(reason.clone());
        }
    }
    let (result, _) = on_network(script, |reactor, _, srv| {
        let (promise, failed) = Deferred::new();
        let srv = change(srv);
        reactor.connect_srv(srv.clone(), Failing(Rc::new(RefCell::new(Some(promise)))));
        // As an endpoint it is told the same.
        let endpoint = srv.endpoint(reactor);
        // Not at once: the question that was given up is still on its way, and would be joined.
        let reactor = *reactor;
        failed.add_callback(move |first: ConnectError| {
            let second = defer_later(&reactor, SECOND, move || endpoint.connect(|| Quiet));
            second.add_both(move |outcome| {
                let second = outcome.expect_err("nor does the endpoint");
                let second: ConnectError = second.check::<ConnectError>().expect("a ConnectError").clone();
                assert_eq!(first.to_string(), second.to_string());
                Ok(first)
            })
        })
    });
    result.expect("it is told")
}
fn srv_error(error: &ConnectError) -> Option<&SrvError> {
    if let ConnectError::Failed(failure) = error { failure.check() } else { None }
}

// SRV-2, SRV-5
#[test]
fn whatever_goes_wrong_with_the_records_is_told_as_what_it_is() {
    let same = |srv: SrvConnector| srv;
    let name = || NAME.to_owned();
    let not_offered = fails_with(zone(vec![(0, 0, "")]), same);
    assert_eq!(srv_error(&not_offered), Some(&SrvError::NotOffered { name: name() }));
    let no_port =
        |asked: &Asked, line: Line| line.send(asked.reply().srv(NAME, 0, 0, 0, "h1.test").srv(NAME, 0, 0, 1, ""));
    assert_eq!(srv_error(&fails_with(no_port, same)), Some(&SrvError::NoUsableServer { name: name() }));
    let failing = |asked: &Asked, line: Line| line.send(asked.reply().code(2));
    let ConnectError::Failed(failure) = fails_with(failing, |srv| srv.default_port(5222)) else { panic!() };
    assert!(
        matches!(failure.check(), Some(DnsError::ServerFailed { code: Some(2), .. })),
        "not taken for absence: {failure}"
    );
    let unknown = fails_with(zone(vec![]), same);
    assert_eq!(srv_error(&unknown), Some(&SrvError::UnknownPort { service: "chat".into(), domain: "x.test".into() }));
    for (silent, limit) in [(true, 7), (false, 30)] {
        let late = fails_with(|_, _| (), |srv| if silent { srv.timeout(7 * SECOND) } else { srv });
        let by_servers = ConnectError::TimedOut { to: name(), after: 10 * SECOND };
        let by_connector = ConnectError::TimedOut { to: name(), after: limit * SECOND };
        assert_eq!(late, if silent { by_connector } else { by_servers });
    }
}

#[test]
fn a_domain_that_is_none_is_an_unknown_host() {
    let (result, _) = on_network(
        |_, _| (),
        |reactor, server, _| {
            let client = Client::with_config(reactor, Config::new().server(server.at));
            let all = ["", ".", "..", "a b"]
                .map(|domain| SrvConnector::new("chat", domain).client(&client).endpoint(reactor));
            twistlet::deferred::list(all.map(|endpoint| endpoint.connect(|| Quiet)))
        },
    );
    for outcome in result.expect("they are told") {
        let failure = outcome.expect_err("it is none");
        assert!(matches!(failure.check(), Some(ConnectError::UnknownHost { .. })), "{failure}");
    }
}

type Script = Box<dyn FnMut(&Asked, Line)>;

// EX07, SRV-2
#[test]
fn without_records_the_domain_itself_is_the_server() {
    let nxdomain = |asked: &Asked, line: Line| {
        line.send(if asked.kind == A { address_of(asked) } else { asked.reply().code(3).soa("test", 0) });
    };
    for missing in [false, true] {
        // An unknown service at its default port, a known one and a number at theirs.
        for (service, default, port) in [("chat", Some(4000), 4000), ("5060", None, 5060), ("5060", Some(1), 5060)] {
            let script = zone(vec![]);
            let script: Script = if missing { Box::new(nxdomain) } else { Box::new(script) };
            let (result, _) = on_network(script, move |reactor, server, _| {
                let to = SocketAddr::from(([10, 0, 1, 99], port));
                reactor.listen_tcp(to, || Quiet).expect("it listens");
                let client = Client::with_config(reactor, Config::new().server(server.at));
                let srv = SrvConnector::new(service, "x.test").client(&client);
                let srv = default.into_iter().fold(srv, SrvConnector::default_port);
                let (factory, done) = Persistent::new(&Log::default(), 0);
                reactor.connect_srv(srv.clone(), factory);
                let endpoint = srv.endpoint(reactor);
                done.add_callback(move |()| endpoint.connect(|| Quiet)).add_callback(|wire| Ok(wire.peer()))
            });
            assert_eq!(result.expect("it connects").port(), Some(port));
        }
    }
}

// SRV-5: Twisted says nothing here
#[test]
fn stopping_before_the_answer_is_told_and_looks_no_further() {
    let log = Log::default();
    let (result, took) = on_network(
        |_, _| (),
        |reactor, server, srv| {
            let (factory, done) = Persistent::new(&log, 0);
            let connector = reactor.connect_srv(srv, factory);
            assert_eq!(connector.destination().to_string(), NAME);
            assert!(connector.connect().is_err_and(|failure| failure.check() == Some(&PortError::AlreadyConnecting)));
            let (server, reactor) = (server.clone(), *reactor);
            defer_later(&reactor, SECOND, move || {
                connector.stop_connecting().expect("it is connecting");
                assert!(connector.stop_connecting().is_ok(), "until it was told");
                done.add_callback(move |()| {
                    assert_eq!(server.count(), 1);
                    assert!(connector.stop_connecting().is_err());
                })
            })
        },
    );
    result.expect("it is told");
    assert_eq!(log.take(), ["start", "connecting was cancelled", "stop"]);
    assert!(took < 2 * SECOND, "{took:?}");
}

#[test]
fn disconnecting_closes_the_connection_or_gives_the_attempt_up() {
    let log = Log::default();
    let (result, _) = on_network(zone(vec![(0, 0, "h1.test")]), |reactor, _, srv| {
        reactor.listen_tcp(at(1), || Quiet).expect("it listens");
        let (mut factory, done) = Persistent::new(&log, 0);
        factory.on_made = |_| ();
        let connector = reactor.connect_srv(srv.clone(), factory);
        let reactor = *reactor;
        defer_later(&reactor, SECOND, move || {
            assert_eq!(connector.destination().to_string(), "h1.test:5222");
            connector.disconnect();
            done
        })
    });
    result.expect("it ends");
    let connected = format!("connected to {}", at(1));
    assert_eq!(log.take(), ["start", &connected, "lost h1.test:5222", "stop"]);
}

// TW-55
#[test]
fn an_endpoint_goes_through_the_servers_by_itself() {
    let records = || vec![(1, 0, "h1.test"), (2, 0, "h2.test"), (3, 0, "gone.test"), (4, 0, "h4.test")];
    let (result, _) = on_network(zone(records()), |reactor, _, srv| {
        reactor.listen_tcp(at(4), || Quiet).expect("it listens");
        srv.endpoint(reactor).connect(|| Quiet).add_callback(|wire| Ok(wire.peer()))
    });
    assert_eq!(result.expect("the last one accepts"), Address::Tcp(at(4)));
    let (result, _) = on_network(zone(records()), |reactor, _, srv| srv.endpoint(reactor).connect(|| Quiet));
    let failure = result.expect_err("nobody accepts");
    assert_eq!(failure.check(), Some(&ConnectError::Refused { to: Address::Tcp(at(1)) }), "the first one's failure");
}

#[test]
fn a_server_that_does_not_answer_makes_way_when_its_time_is_up() {
    let network = Network::new();
    let peer = simulate_with(&network, |reactor, network| {
        NameServer::new(reactor, server_at(), zone(vec![(1, 0, "h1.test"), (2, 0, "h2.test")]));
        let client = Client::with_config(reactor, Config::new().server(server_at()));
        let hosts = Hosts::new().with("h1.test", at(1).ip()).with("h2.test", at(2).ip());
        reactor.set_resolver(HostsResolver::new(hosts, client.clone()));
        reactor.listen_tcp(at(2), || Quiet)?;
        let silence = network.clone();
        let srv = SrvConnector::new("chat", "x.test").client(&client).timeout(3 * SECOND);
        let srv = srv.inspect(move |target| silence.blackhole(target.host == "h1.test"));
        Ok(srv.endpoint(reactor).connect(|| Quiet).add_callback(|wire| Ok(wire.peer())))
    });
    assert_eq!(peer.expect("the second one"), Address::Tcp(at(2)));
    assert_eq!(network.elapsed(), 3 * SECOND);
}

#[test]
fn an_endpoint_that_is_given_up_or_declined_tries_no_other_server() {
    let tried = Rc::new(Cell::new(0));
    for cancelled in [false, true] {
        let seen = tried.clone();
        let (result, _) = on_network(zone(vec![(1, 0, "h1.test"), (2, 0, "h2.test")]), move |reactor, _, srv| {
            reactor.listen_tcp(at(1), || Quiet).expect("it listens");
            let srv = srv.inspect(move |_| seen.set(seen.get() + 1));
            let connecting = srv.endpoint(reactor).connect(twistlet::from_fn(|_| None::<Quiet>));
            let canceller = connecting.canceller();
            if cancelled {
                canceller.cancel();
            }
            connecting
        });
        let failure = result.expect_err("it comes to nothing");
        let expected = if cancelled { ConnectError::Cancelled } else { ConnectError::NoProtocol };
        assert_eq!(failure.check(), Some(&expected));
        assert_eq!(tried.replace(0), usize::from(!cancelled));
    }
}

#[test]
fn a_reconnecting_factory_goes_round_the_servers() {
    let tried = Rc::new(RefCell::new(Vec::new()));
    let seen = tried.clone();
    let (result, _) = on_network(zone(vec![(1, 0, "h1.test"), (2, 0, "h2.test")]), move |reactor, _, srv| {
        let backoff = Backoff::default().max_retries(4);
        let srv = srv.inspect(move |target| seen.borrow_mut().push(target.host.clone()));
        reactor.connect_srv(srv, ReconnectingClientFactory::with_backoff(&backoff, || Quiet));
        let reactor = *reactor;
        defer_later(&reactor, 600 * SECOND, move || Ok(reactor.now()))
    });
    result.expect("time passes");
    assert_eq!(tried.take(), ["h1.test", "h2.test", "h1.test", "h2.test", "h1.test"]);
}

#[test]
fn the_servers_of_a_while_ago_do_when_the_name_servers_fail() {
    let log = Log::default();
    let mut answers = 0;
    let script = move |asked: &Asked, line: Line| {
        line.send(match asked.kind {
            SRV => {
                answers += 1;
                let data = [&[0, 0, 0, 0, 20, 102], &nameserver::name("h1.test")[..]].concat();
                if answers == 1 { asked.reply().record(0, NAME, SRV, 0, &data) } else { asked.reply().code(2) }
            }
            _ => address_of(asked),
        });
    };
    let (result, _) = on_network(script, |reactor, _, srv| {
        let (factory, done) = Persistent::new(&log, 1);
        reactor.connect_srv(srv, factory);
        done
    });
    result.expect("it ends");
    let refused = format!("{} refused", at(1));
    assert_eq!(log.take(), ["start", &refused, &refused, "stop"]);
}

// Malicious answers
#[test]
fn records_that_point_at_themselves_at_each_other_or_at_thousands_do_no_harm() {
    // A host of the name of the records has no address.
    let itself = |asked: &Asked, line: Line| {
        line.send(if asked.kind == SRV { asked.reply().srv(NAME, 0, 0, 5222, NAME) } else { address_of(asked) });
    };
    let error = fails_with(itself, |srv| srv);
    assert!(matches!(error, ConnectError::UnknownHost { .. }), "{error}");
    // The records' name as an alias of itself, and of records elsewhere.
    let alias = |asked: &Asked, line: Line| line.send(asked.reply().cname(&asked.name, &asked.name));
    let ConnectError::Failed(failure) = fails_with(alias, |srv| srv) else { panic!() };
    assert!(matches!(failure.check(), Some(DnsError::TooManyAliases { .. })));
    let tried = Rc::new(Cell::new(0));
    let seen = tried.clone();
    let thousands = |asked: &Asked, line: Line| {
        line.send(match (asked.kind, asked.stream) {
            (SRV, true) => (0..1300).fold(asked.reply(), |reply, n| reply.srv(NAME, 5, n, 5222, "h1.test")),
            (SRV, false) => asked.reply().truncated(),
            _ => address_of(asked),
        });
    };
    let (result, took) = on_network(thousands, |reactor, _, srv| {
        srv.inspect(move |_| seen.set(seen.get() + 1)).endpoint(reactor).connect(|| Quiet)
    });
    assert!(result.is_err());
    assert_eq!(tried.get(), 64);
    assert!(took < SECOND);
}

#[test]
fn a_look_that_panics_or_meddles_changes_nothing() {
    let (result, _) = on_network(zone(vec![(0, 0, "h1.test")]), |reactor, _, srv| {
        reactor.listen_tcp(at(1), || Quiet).expect("it listens");
        let (reactor, looks) = (*reactor, Rc::new(Cell::new(0)));
        let inner = Rc::new(RefCell::new(None::<SrvConnector>));
        let meddling = inner.clone();
        let srv = srv.inspect(move |_| {
            looks.set(looks.get() + 1);
            if looks.get() == 1 {
                // The same connector, from within its own look.
                let srv = meddling.borrow().clone().expect("set below");
                reactor.connect_srv(srv, || Quiet);
            }
            panic!("no good look");
        });
        *inner.borrow_mut() = Some(srv.clone());
        let connecting = srv.endpoint(&reactor).connect(|| Quiet);
        connecting.add_callback(move |wire| {
            // Breaks the test's own ring.
            inner.borrow_mut().take();
            assert_eq!(flush_logged_failures().len(), 2, "each panic is logged");
            Ok(wire.peer())
        })
    });
    assert_eq!(result.expect("it connects"), Address::Tcp(at(1)));
}

/// TLS servers at h1 and h2, the first with a certificate for somebody else, and a client's configuration that trusts both.
fn tls_world(reactor: &Reactor, first: &str, second: &str) -> ClientConfig {
    let mut roots = String::new();
    for (n, name) in [(1, first), (2, second)] {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        let config = ServerConfig::from_pem(made.cert.pem(), made.signing_key.serialize_pem()).expect("a good pair");
        reactor.listen_tls(at(n), &config, move || Talker(n)).expect("it listens");
        roots.push_str(&made.cert.pem());
    }
    ClientConfig::with_roots_pem(roots).expect("good roots")
}
/// Says its number.
struct Talker(u8);
impl Protocol for Talker {
    fn handshake_completed(&mut self, wire: TransportRef) {
        wire.write(format!("{}\n", self.0));
    }
    fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
}
const TWO: [(u16, u16, &str); 2] = [(1, 0, "h1.test"), (2, 0, "h2.test")];

// TW-55, section 15: the domain is to be proven, and a server that cannot makes way
#[test]
fn with_tls_an_endpoint_goes_on_to_a_server_that_proves_the_domain() {
    let (result, _) = on_network(zone(TWO.to_vec()), |reactor, _, srv| {
        let config = tls_world(reactor, "h1.test", "x.test");
        let greeted = Slot::default();
        let note = greeted.clone();
        let factory = move || {
            let note = note.clone();
            rig::Probe::new().on_data(move |_, data| note.set(String::from_utf8_lossy(data).into_owned()))
        };
        let reactor = *reactor;
        srv.tls(&config).endpoint(&reactor).connect(factory).add_callback(move |wire| {
            assert!(wire.is_secure());
            wire.write("this is the wire to write to");
            defer_later(&reactor, SECOND, move || Ok((wire.peer(), greeted.get())))
        })
    });
    assert_eq!(result.expect("the second one"), (Address::Tcp(at(2)), "2\n".to_owned()));
    // By their own names both would do; by a name of somebody else none.
    for (name, expected) in [(None, Some(1)), (Some("y.test"), None)] {
        let (result, _) = on_network(zone(TWO.to_vec()), |reactor, _, srv| {
            let config = tls_world(reactor, "h1.test", "h2.test");
            let srv = match name {
                None => srv.tls_by_host(&config),
                Some(name) => srv.tls(config.named(name)),
            };
            srv.endpoint(reactor).connect(|| Quiet).add_callback(|wire| Ok(wire.peer()))
        });
        match expected {
            Some(n) => assert_eq!(result.expect("it is itself"), Address::Tcp(at(n))),
            None => {
                let failure = result.expect_err("it is not");
                assert!(matches!(failure.check(), Some(ConnectError::Tls(_))), "{failure}");
            }
        }
    }
}

#[test]
fn with_tls_giving_up_during_the_handshake_leaves_no_connection_behind() {
    let network = Network::new();
    let result = simulate_with(&network, |reactor, network| {
        NameServer::new(reactor, server_at(), zone(TWO.to_vec()));
        let client = Client::with_config(reactor, Config::new().server(server_at()));
        reactor.set_resolver(client.clone());
        let config = tls_world(reactor, "x.test", "x.test");
        // A server that says nothing.
        reactor.listen_tcp("10.0.1.3:5222", || Quiet)?;
        let srv = SrvConnector::new("chat", "x.test").client(&client).tls(&config);
        network.set_latency(Duration::from_millis(100));
        let lost = Rc::new(Cell::new(false));
        let seen = lost.clone();
        let factory = move || {
            let seen = seen.clone();
            rig::Probe::new().on_lost(move |_, _| seen.set(true))
        };
        let connecting = srv.endpoint(reactor).connect(factory);
        let canceller = connecting.canceller();
        let (reactor, network) = (*reactor, network.clone());
        let watched = connecting.add_both(|outcome| Ok(outcome.err()));
        Ok(defer_later(&reactor, Duration::from_millis(650), move || {
            assert!(network.connections() > 0, "the handshake is under way");
            canceller.cancel();
            watched.add_callback(move |failure: Option<Failure>| {
                let failure = failure.expect("it was given up");
                assert_eq!(failure.check(), Some(&ConnectError::Cancelled));
                defer_later(&reactor, SECOND, move || {
                    assert!(lost.get());
                    Ok(network.connections())
                })
            })
        }))
    });
    assert_eq!(result.expect("it ends"), 0);
}

// SRV-1 with TLS
#[test]
fn with_tls_every_attempt_of_a_connector_is_checked_against_its_own_server() {
    for by_host in [true, false] {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let note = seen.clone();
        let (result, _) = on_network(zone(TWO.to_vec()), |reactor, _, srv| {
            let config = tls_world(reactor, "h1.test", "h2.test");
            let srv = if by_host { srv.tls_by_host(&config) } else { srv.tls(&config) };
            let factory = move || {
                let note = note.clone();
                rig::Probe::new()
                    .on_data(|wire, _| wire.lose_connection())
                    .on_lost(move |_, reason| note.borrow_mut().push(reason.is_clean()))
            };
            reactor
                .connect_srv(srv, ReconnectingClientFactory::with_backoff(&Backoff::default().max_retries(1), factory));
            defer_later(reactor, 60 * SECOND, || Ok(()))
        });
        result.expect("time passes");
        assert_eq!(seen.take(), [by_host; 2]);
    }
}

#[test]
fn nothing_is_kept_of_a_connector_that_has_ended() {
    let kept = Rc::new(());
    let (result, _) = on_network(zone(TWO.to_vec()), |reactor, _, srv| {
        let log = Log::default();
        let inside = [(); 4].map(|()| kept.clone());
        let [first, second, third, fourth] = inside.map(|kept| {
            srv.clone().inspect(move |_| {
                let _kept = &kept;
            })
        });
        // Refused, stopped, through an endpoint, given up.
        let (factory, refused) = Persistent::new(&log, 1);
        reactor.connect_srv(first, factory);
        let (factory, stopped) = Persistent::new(&log, 1);
        let connector = reactor.connect_srv(second, factory);
        connector.stop_connecting().expect("it is connecting");
        let failed = third.endpoint(reactor).connect(|| Quiet).add_both(|_| ());
        let given_up = fourth.endpoint(reactor).connect(|| Quiet);
        given_up.cancel();
        drop(given_up);
        let all = twistlet::deferred::list([refused, stopped, failed]);
        let reactor = *reactor;
        all.add_callback(move |_| defer_later(&reactor, SECOND, || Ok(())))
    });
    result.expect("they end");
    assert_eq!(Rc::strong_count(&kept), 1);
}

#[cfg(feature = "green")]
mod green {
    use super::*;
    use twistlet::green::{GreenClientCreator, SrvTarget as GreenTarget, block_on, spawn};
    use twistlet::protocols::Lines;

    // TW-55
    #[test]
    fn a_green_thread_connects_to_a_service_and_waits_for_whatever_that_takes() {
        for tls in [false, true] {
            let (result, _) = on_network(zone(TWO.to_vec()), move |reactor, _, srv| {
                let tried = Rc::new(RefCell::new(Vec::<GreenTarget>::new()));
                let seen = tried.clone();
                let srv = srv.inspect(move |target| seen.borrow_mut().push(target.clone()));
                let srv = if tls {
                    srv.tls(tls_world(reactor, "nobody.test", "x.test"))
                } else {
                    reactor.listen_tcp(at(2), || Greeting(|wire| wire.write("2\r\n"))).expect("it listens");
                    srv
                };
                let creator = GreenClientCreator::new(reactor).framed(|| Lines::new().delimiter(b"\n"));
                twistlet::green::defer_to_green_thread(move || {
                    let conn = creator.connect_srv(srv)?;
                    assert_eq!(conn.peer(), Address::Tcp(at(2)));
                    let line = conn.read_line()?.expect("a line");
                    conn.close()?;
                    Ok((line, tried.borrow().len()))
                })
            });
            let (line, tried) = result.expect("it connects");
            assert_eq!((line.trim_ascii(), tried), (&b"2"[..], 2));
        }
    }

    #[test]
    fn a_green_thread_that_is_killed_while_it_connects_leaves_nothing_behind() {
        let (result, took) = on_network(
            |_, _| (),
            |reactor, server, srv| {
                let creator = GreenClientCreator::new(reactor);
                let (reactor, server) = (*reactor, server.clone());
                let before = reactor.statistics().descriptors;
                let waiting = spawn(move || creator.connect_srv(srv).map(drop));
                twistlet::green::defer_to_green_thread(move || {
                    block_on(defer_later(&reactor, SECOND, || Ok(())))?;
                    assert_eq!(server.count(), 1);
                    waiting.kill();
                    block_on(defer_later(&reactor, SECOND, || Ok(())))?;
                    Ok((before, reactor.statistics().descriptors))
                })
            },
        );
        let (before, after) = result.expect("it ends");
        assert_eq!(before, after);
        assert!(took < 3 * SECOND);
    }
}
