//! Host names: who is asked for addresses, by whom, and what happens when the answer does not come.
mod rig;

use rig::{Log, Probe, Slot, finish, once, plain_server, run};
use std::cell::{Cell, RefCell};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;
use twistlet::error::{Cancelled, ReactorError};
use twistlet::testing::{failure_result_of, simulate, success_result_of};
use twistlet::transport::Destination;
use twistlet::transport::resolver::{Hosts, HostsResolver, Resolver, SystemResolver, from_fn};
use twistlet::{
    Address, ClientFactory, ConnectError, Connector, Deferred, Factory, Failure, Promise, Protocol, Reactor,
};

type Answer = Deferred<Vec<IpAddr>>;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
fn unknown(host: &str) -> ConnectError {
    ConnectError::UnknownHost { host: host.to_owned() }
}

type Asked = (String, Option<Promise<Vec<IpAddr>>>);

/// Answers nothing by itself: the test holds the promises.
#[derive(Clone, Default)]
struct Held {
    asked: Rc<RefCell<Vec<Asked>>>,
    cancelled: Rc<Cell<usize>>,
}
impl Resolver for Held {
    fn resolve(&self, host: &str) -> Answer {
        let (promise, answer) = Deferred::new();
        let cancelled = self.cancelled.clone();
        promise.on_cancel(move || cancelled.set(cancelled.get() + 1));
        self.asked.borrow_mut().push((host.to_owned(), Some(promise)));
        answer
    }
}
impl Held {
    fn answer(&self, outcome: Result<Vec<IpAddr>, ConnectError>) {
        let promise = self.asked.borrow_mut().last_mut().and_then(|asked| asked.1.take()).expect("asked");
        promise.resolve(outcome.map_err(Failure::from));
    }
}

/// Notes why there was no connection, and stops the reactor.
struct Failing {
    why: Slot<ConnectError>,
    reactor: Reactor,
    connector: Slot<Connector>,
}
impl Failing {
    fn new(reactor: Reactor, why: &Slot<ConnectError>, connector: &Slot<Connector>) -> Self {
        Failing { why: why.clone(), reactor, connector: connector.clone() }
    }
}
impl Factory for Failing {
    fn build_protocol(&mut self, _: &Address) -> Option<Box<dyn Protocol>> {
        Some(Box::new(Probe::new()))
    }
}
impl ClientFactory for Failing {
    fn started_connecting(&mut self, connector: Connector) {
        self.connector.set(connector);
    }
    fn client_connection_failed(&mut self, _: Connector, reason: &ConnectError) {
        self.why.set(reason.clone());
        let reactor = self.reactor;
        // Later, so that what is cancelled with it is.
        reactor.call_soon(move || reactor.stop());
    }
}

// DNS-6, DNS-3
#[test]
fn a_literal_address_is_itself_at_once_and_nobody_is_asked() {
    let reactor = Reactor::new().expect("a reactor");
    reactor.set_resolver(from_fn(|host| panic!("asked for {host}")));
    for (text, expected) in [
        ("127.0.0.1", ip("127.0.0.1")),
        ("::1", ip("::1")),
        ("[::1]", ip("::1")),
        ("fe80::1%eth0", ip("fe80::1")),
        ("[fe80::1%3]", ip("fe80::1")),
        ("::ffff:1.2.3.4", ip("::ffff:1.2.3.4")),
    ] {
        assert_eq!(success_result_of(reactor.resolve(text)), [expected], "{text}");
    }
    // None of these is literal.
    let asked = Held::default();
    reactor.set_resolver(asked.clone());
    for text in ["1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.4%eth0", "::1::", "", "[]"] {
        drop(reactor.resolve(text));
        assert_eq!(asked.asked.borrow().last().map(|asked| asked.0.clone()).as_deref(), Some(text));
    }
    reactor.close();
}

// DNS-2, DNS-3
#[test]
fn the_system_knows_localhost_and_answers_in_a_later_turn() {
    run(|reactor| {
        let mut answer = reactor.resolve("localhost");
        assert!(!answer.is_fired());
        let _ = answer.add_both(move |found| {
            let found = found.expect("localhost has an address");
            assert!(!found.is_empty() && found.iter().all(|ip| ip.is_loopback()), "{found:?}");
            reactor.stop()
        });
    });
}

// DNS-1, DNS-2: no addresses is not found, and whatever goes wrong is told
#[test]
fn what_no_host_can_be_called_is_unknown() {
    for host in ["", "a b", "nul\0", "a/b", "no-such-host.invalid"] {
        run(|reactor| {
            let _ = reactor.resolve(host).add_both(move |found| {
                let failure = found.expect_err("it has no address");
                assert_eq!(failure.check(), Some(&unknown(host)));
                reactor.stop()
            });
        });
    }
}

// DNS-4
#[test]
fn a_look_up_that_takes_too_long_fails_and_its_late_answer_changes_nothing() {
    run(|reactor| {
        reactor.suggest_thread_pool_size(1);
        let (go, wait) = mpsc::channel::<()>();
        reactor.call_in_thread(move || wait.recv().unwrap_or(()));
        let limit = Duration::from_millis(20);
        let resolver = SystemResolver::new(&reactor).timeout(limit);
        let _ = resolver.resolve("localhost").add_both(move |found| {
            let failure = found.expect_err("no thread is free");
            assert_eq!(failure.check(), Some(&ConnectError::TimedOut { to: "localhost".into(), after: limit }));
            drop(go);
            // What is looked up now comes after the late answer.
            reactor.resolve("localhost").add_callback(move |_| reactor.stop())
        });
    });
}

// DNS-1: cancel is optional there; here it is immediate
#[test]
fn a_look_up_can_be_cancelled() {
    let reactor = Reactor::new().expect("a reactor");
    let answer = reactor.resolve("localhost");
    answer.cancel();
    assert!(failure_result_of(answer).is::<Cancelled>());
    reactor.close();
    assert_eq!(failure_result_of(reactor.resolve("localhost")).check(), Some(&ReactorError::Closed));
}

// DNS-5
#[test]
fn setting_a_resolver_gives_the_one_before() {
    let reactor = Reactor::new().expect("a reactor");
    let first = reactor.set_resolver(from_fn(|_| Deferred::succeed(vec![ip("10.0.0.1")])));
    assert_eq!(success_result_of(reactor.resolve("a")), [ip("10.0.0.1")]);
    let second = reactor.set_resolver(from_fn(|_| Deferred::succeed(vec![ip("10.0.0.2")])));
    assert_eq!(success_result_of(reactor.resolve("a")), [ip("10.0.0.2")]);
    reactor.set_resolver(second);
    assert_eq!(success_result_of(reactor.resolve("a")), [ip("10.0.0.1")]);
    reactor.set_resolver(first);
    let mut answer = reactor.resolve("localhost");
    assert!(!answer.is_fired(), "the system's again, on a thread");
    reactor.close();
}

#[test]
fn a_resolver_goes_with_its_reactor() {
    let kept = Rc::new(());
    let reactor = Reactor::new().expect("a reactor");
    let inside = kept.clone();
    reactor.set_resolver(from_fn(move |_| {
        let _kept = &inside;
        Deferred::succeed(vec![ip("10.0.0.1")])
    }));
    assert_eq!(Rc::strong_count(&kept), 2);
    reactor.close();
    assert_eq!(Rc::strong_count(&kept), 1);
    let next = Reactor::new().expect("another");
    assert!(!next.resolve("localhost").is_fired());
    next.close();
}

#[test]
fn a_resolver_may_be_replaced_by_its_own_look_up_and_by_its_own_destructor() {
    struct Meddling(Reactor);
    impl Drop for Meddling {
        fn drop(&mut self) {
            drop(self.0.resolve("dropped"));
            self.0.set_resolver(from_fn(|_| Deferred::succeed(vec![ip("10.0.0.3")])));
        }
    }
    impl Resolver for Meddling {
        fn resolve(&self, _: &str) -> Answer {
            self.0.set_resolver(from_fn(|_| Deferred::succeed(vec![ip("10.0.0.2")])));
            self.0.resolve("again")
        }
    }
    let reactor = Reactor::new().expect("a reactor");
    reactor.set_resolver(Meddling(reactor));
    assert_eq!(success_result_of(reactor.resolve("a")), [ip("10.0.0.2")]);
    assert_eq!(success_result_of(reactor.resolve("a")), [ip("10.0.0.3")]);
    reactor.set_resolver(Meddling(reactor));
    reactor.close();
}

#[test]
fn a_resolver_that_panics_fails_the_look_up_alone() {
    let (why, connector) = (Slot::default(), Slot::default());
    run(|reactor| {
        reactor.set_resolver(from_fn(|_| panic!("no idea")));
        assert!(failure_result_of(reactor.resolve("a")).is_panic());
        reactor.connect_tcp("a:80", Failing::new(reactor, &why, &connector));
    });
    assert!(matches!(why.get(), ConnectError::Failed(failure) if failure.is_panic()));
}

#[test]
fn connections_go_where_the_resolver_says() {
    let (at, server) = plain_server(|mut client| {
        let mut text = String::new();
        client.read_to_string(&mut text).map(|_| text)
    });
    run(|reactor| {
        let hosts = Hosts::new().with("Server.Test.", at.ip());
        reactor.set_resolver(HostsResolver::new(hosts, SystemResolver::new(&reactor)));
        let probe = Probe::new().on_made(|wire| {
            wire.write("hello");
            wire.lose_connection();
        });
        let probe = probe.on_lost(move |_, _| drop(reactor.stop()));
        reactor.connect_tcp(("server.TEST", at.port()), once(probe));
    });
    assert_eq!(server.join().expect("no panic").expect("readable"), "hello");
}

#[test]
fn a_resolver_may_give_up_the_connection_that_asks_it() {
    // Its answer is then given up too, and nothing is left waiting for it.
    let (held, why, connector) = (Held::default(), Slot::default(), Slot::<Connector>::default());
    let reactor = Reactor::new().expect("a reactor");
    reactor.handle_signals(false);
    let (asked, known) = (held.clone(), connector.clone());
    reactor.set_resolver(from_fn(move |host| {
        known.get().stop_connecting().expect("it is connecting");
        asked.resolve(host)
    }));
    reactor.connect_tcp("slow:80", Failing::new(reactor, &why, &connector));
    finish(reactor);
    assert_eq!(why.get(), ConnectError::Cancelled);
    assert_eq!(held.cancelled.get(), 1);
}

// UA-26 (387): every address is tried
#[test]
fn addresses_are_tried_in_the_order_given() {
    let (at, server) = plain_server(drop);
    run(|reactor| {
        let bad = IpAddr::from(Ipv4Addr::new(127, 99, 0, 1));
        reactor.set_resolver(from_fn(move |_| Deferred::succeed(vec![bad, at.ip()])));
        let peer = Slot::default();
        let seen = peer.clone();
        let probe = Probe::new().on_made(move |wire| seen.set(wire.peer()));
        let probe = probe.on_lost(move |_, _| {
            assert_eq!(peer.get(), Address::Tcp(at));
            let _ = reactor.stop();
        });
        reactor.connect_tcp(("many", at.port()), once(probe));
    });
    server.join().expect("no panic");
}

#[test]
fn a_resolver_that_finds_nothing_or_forgets_fails_the_connection() {
    let (why, connector) = (Slot::default(), Slot::default());
    run(|reactor| {
        reactor.set_resolver(from_fn(|_| Deferred::succeed(vec![])));
        reactor.connect_tcp("empty:80", Failing::new(reactor, &why, &connector));
    });
    assert!(matches!(why.get(), ConnectError::UnknownHost { .. }), "{:?}", why.get());
    run(|reactor| {
        reactor.set_resolver(from_fn(|_| Deferred::<Vec<IpAddr>>::new().1));
        reactor.connect_tcp("forgotten:80", Failing::new(reactor, &why, &connector));
    });
    assert!(matches!(why.get(), ConnectError::Failed(_)), "{:?}", why.get());
}

#[test]
fn giving_a_connection_up_gives_its_look_up_up() {
    let held = Held::default();
    let (why, connector) = (Slot::default(), Slot::default());
    let reactor = Reactor::new().expect("a reactor");
    reactor.handle_signals(false);
    reactor.set_resolver(held.clone());
    reactor.connect_tcp("slow:80", Failing::new(reactor, &why, &connector));
    connector.get().stop_connecting().expect("it is looking");
    assert_eq!(held.cancelled.get(), 0, "in a later turn");
    finish(reactor);
    assert_eq!(why.get(), ConnectError::Cancelled);
    assert_eq!(held.cancelled.get(), 1);
    // Too late: nobody wants it, nothing happens.
    held.answer(Ok(vec![ip("127.0.0.1")]));
}

#[test]
fn the_time_for_connecting_includes_the_look_up() {
    let held = Held::default();
    let (why, connector) = (Slot::default(), Slot::default());
    let limit = Duration::from_secs(7);
    let _ = simulate(|reactor, _| {
        reactor.set_resolver(held.clone());
        let to = Destination::from("slow:80").timeout(limit);
        reactor.connect_tcp(to, Failing::new(*reactor, &why, &connector));
        Ok(())
    });
    assert_eq!(why.get(), ConnectError::TimedOut { to: "slow:80".into(), after: limit });
    assert_eq!(held.cancelled.get(), 1);
}

#[test]
fn an_answer_to_an_earlier_attempt_is_not_taken_for_the_present_one() {
    struct Again {
        log: Log,
        failed: usize,
    }
    impl Factory for Again {
        fn build_protocol(&mut self, _: &Address) -> Option<Box<dyn Protocol>> {
            None
        }
    }
    impl ClientFactory for Again {
        fn started_connecting(&mut self, connector: Connector) {
            if self.failed == 0 {
                connector.stop_connecting().expect("it is connecting");
            }
        }
        fn client_connection_failed(&mut self, connector: Connector, reason: &ConnectError) {
            self.log.add(reason);
            self.failed += 1;
            if self.failed == 1 {
                connector.connect().expect("again");
            }
        }
    }
    let (held, log) = (Held::default(), Log::default());
    let _ = simulate(|reactor, _| {
        reactor.set_resolver(held.clone());
        reactor.connect_tcp("twice:80", Again { log: log.clone(), failed: 0 });
        let held = held.clone();
        reactor.call_later(Duration::from_secs(1), move || held.answer(Err(unknown("second"))));
        Ok(())
    });
    assert_eq!(log.take(), [ConnectError::Cancelled.to_string(), unknown("second").to_string()]);
    assert_eq!(held.asked.borrow().len(), 1, "the first was given up before anybody was asked");
}

// GM-12, UA-26 (387, 511)
#[test]
fn a_hosts_file_is_read_with_all_its_oddities() {
    let text = "\u{feff}\n# comment\n127.0.0.1 localhost # more\n  ::1\tlocalhost ip6-localhost\n\
        not-an-address name\n10.0.0.1\n10.0.0.2 A.b.C a.B.c other.\r\n999.0.0.1 bad\nfe80::1%lo link\n127.0.0.1 localhost\n#10.0.0.9 a.b.c";
    let hosts = Hosts::parse(text);
    let v6 = IpAddr::from(Ipv6Addr::LOCALHOST);
    assert_eq!(hosts.addresses("localhost."), Some(&[ip("127.0.0.1"), v6][..]));
    assert_eq!(hosts.addresses("IP6-LOCALHOST"), Some(&[v6][..]));
    assert_eq!(hosts.addresses("a.b.c"), Some(&[ip("10.0.0.2")][..]));
    assert_eq!(hosts.addresses("other"), Some(&[ip("10.0.0.2")][..]));
    assert_eq!(hosts.addresses("link"), Some(&[ip("fe80::1")][..]));
    for absent in ["name", "bad", "more", ""] {
        assert_eq!(hosts.addresses(absent), None, "{absent}");
    }
    assert_eq!(hosts.len(), 5);
}

// GM-12
#[test]
fn a_name_in_the_hosts_table_is_looked_up_nowhere_else() {
    let asked = Held::default();
    let resolver = HostsResolver::new(Hosts::new().with("v4.test", ip("10.0.0.1")), asked.clone());
    assert_eq!(success_result_of(resolver.resolve("V4.test")), [ip("10.0.0.1")]);
    assert!(asked.asked.borrow().is_empty());
    drop(resolver.resolve("other.test"));
    assert_eq!(asked.asked.borrow().len(), 1);
    assert_eq!(Hosts::read("/nonexistent/hosts").expect_err("there is none").kind(), std::io::ErrorKind::NotFound);
    assert!(Hosts::system().addresses("localhost").is_some_and(|found| !found.is_empty()));
}

proptest::proptest! {
    #[test]
    fn any_text_is_a_hosts_file(text in "\\PC{0,200}|([0-9.: #\tab\n]{0,200})") {
        let hosts = Hosts::parse(&text);
        proptest::prop_assert!(hosts.len() <= text.len());
    }
}

// END-12, EX02
#[test]
fn names_beyond_ascii_are_asked_for_in_ascii() {
    let reactor = Reactor::new().expect("the only one");
    let held = Held::default();
    reactor.set_resolver(held.clone());
    for (name, asked) in [
        ("bücher.test", "xn--bcher-kva.test"),
        // Decomposed, in capitals, with the dots and digits of other scripts: the same name to its reader.
        ("BU\u{308}CHER\u{3002}test", "xn--bcher-kva.test"),
        ("_x.bücher.test.", "_x.xn--bcher-kva.test."),
        ("faß.test", "xn--fa-hia.test"),
        ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
    ] {
        assert!(!reactor.resolve(name).is_fired(), "{name}");
        let last = held.asked.borrow().last().map(|asked| asked.0.clone());
        assert_eq!(last.as_deref(), Some(asked), "{name}");
    }
    // What is ASCII goes as it is written, whatever it is.
    let _ = reactor.resolve("XN--\\No Name_");
    assert_eq!(held.asked.borrow().last().expect("asked").0, "XN--\\No Name_");
    // An address in other digits is an address.
    assert_eq!(success_result_of(reactor.resolve("１２７.0.0.１")), [ip("127.0.0.1")]);
    let before = held.asked.borrow().len();
    let long = "é".repeat(100_000);
    for bad in ["b\u{fffd}cher.test", "a\u{ff0f}b.test", "a\u{a0}b.test", "xn--\u{e9}.test", "\u{ad}", &long] {
        let failure = failure_result_of(reactor.resolve(bad));
        let Some(ConnectError::InvalidHost { host, .. }) = failure.check() else { panic!("{bad}: {failure}") };
        assert!(bad.starts_with(&**host) && host.len() <= 600);
    }
    assert_eq!(held.asked.borrow().len(), before, "nobody was asked");
    let hosts = Hosts::parse("192.0.2.7 Bücher.test xn--zckzah.test");
    for name in ["bücher.test", "xn--bcher-kva.test", "XN--BCHER-KVA.test.", "テスト.test"] {
        assert_eq!(hosts.addresses(name), Some(&[ip("192.0.2.7")][..]), "{name}");
    }
    reactor.close();
}

// GM-12, UA-26
#[cfg(feature = "green")]
#[test]
fn green_sockets_ask_the_reactors_resolver_too() {
    use twistlet::green::net::{TcpStream, ToSocketAddrs};
    let (at, server) = plain_server(drop);
    let reactor = Reactor::current();
    reactor.set_resolver(HostsResolver::new(Hosts::new().with("green.test", at.ip()), SystemResolver::new(&reactor)));
    let found: Vec<_> = ("green.test", at.port()).to_socket_addrs().expect("it is there").collect();
    assert_eq!(found, [at]);
    let stream = TcpStream::connect(("green.test", at.port())).expect("it listens");
    assert_eq!(stream.peer_addr().expect("connected"), at);
    let error = "\u{ad}:80".to_socket_addrs().map(|_| ()).expect_err("no name");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    server.join().expect("no panic");
    reactor.close();
}
