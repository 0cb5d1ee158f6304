//! Asking name servers: what is asked, of whom and when, and what becomes of every kind of answer.
mod nameserver;

use nameserver::{A, AAAA, Asked, CNAME, Line, MX, NS, NameServer, PTR, SOA, SRV, TXT, name};
use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use twistlet::deferred::{gather_results, list};
use twistlet::error::{Cancelled, ReactorError};
use twistlet::task::defer_later;
use twistlet::testing::{Network, failure_result_of, simulate_with};
use twistlet::transport::dns::{Client, Config, Data, DnsError, RecordType};
use twistlet::transport::resolver::Resolver;
use twistlet::{Address, ConnectError, Deferred, Failure, Protocol, Reactor, TransportRef};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
fn server_at(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 53))
}
/// One server, at 10.0.0.1.
fn config() -> Config {
    Config::new().server(server_at(1))
}

/// What a look-up on a simulated network came to, how long that took, and what the server at 10.0.0.1 was asked.
struct Outcome<T> {
    result: Result<T, Failure>,
    took: Duration,
    asked: Vec<Asked>,
}
impl<T: std::fmt::Debug> Outcome<T> {
    #[track_caller]
    fn value(self) -> T {
        self.result.expect("it succeeds")
    }
    #[track_caller]
    fn error(&self) -> DnsError {
        let failure = self.result.as_ref().expect_err("it fails");
        failure.check::<DnsError>().cloned().unwrap_or_else(|| panic!("another error: {failure:?}"))
    }
    fn questions(&self) -> Vec<(&str, u16)> {
        self.asked.iter().map(|asked| (&*asked.name, asked.kind)).collect()
    }
}

fn ask_on<T: std::fmt::Debug + 'static>(
    network: &Network,
    config: Config,
    script: impl FnMut(&Asked, Line) + 'static,
    look_up: impl FnOnce(&Client, &Reactor) -> Deferred<T>,
) -> Outcome<T> {
    let server = RefCell::new(None);
    let began = network.elapsed();
    let result = simulate_with(network, |reactor, _| {
        *server.borrow_mut() = Some(NameServer::new(reactor, server_at(1), script));
        Ok(look_up(&Client::with_config(reactor, config), reactor))
    });
    let asked = server.borrow().as_ref().map(NameServer::asked).unwrap_or_default();
    Outcome { result, took: network.elapsed() - began, asked }
}
fn ask<T: std::fmt::Debug + 'static>(
    config: Config,
    script: impl FnMut(&Asked, Line) + 'static,
    look_up: impl FnOnce(&Client, &Reactor) -> Deferred<T>,
) -> Outcome<T> {
    ask_on(&Network::new(), config, script, look_up)
}

#[test]
fn a_question_is_a_plain_one_with_room_for_a_large_answer() {
    let outcome = ask(
        config(),
        |asked, line| line.send(asked.reply().ip("www.Example.org", [10, 1, 2, 3])),
        |client, _| client.lookup_a("www.example.ORG."),
    );
    assert_eq!(outcome.asked.len(), 1);
    let asked = &outcome.asked[0];
    assert_eq!((&*asked.name, asked.kind, asked.class), ("www.example.ORG", A, 1));
    assert_eq!(asked.flags, 0x0100, "recursion is asked for");
    assert_eq!(asked.payload, Some(1232));
    assert!(!asked.stream && asked.from.port() >= 1024);
    assert_eq!(outcome.value(), [std::net::Ipv4Addr::new(10, 1, 2, 3)]);
}

#[test]
fn every_type_of_record_is_read() {
    let script = |asked: &Asked, line: Line| {
        let (owner, reply) = (&*asked.name.clone(), asked.reply());
        line.send(match asked.kind {
            A => reply.ip(owner, [1, 2, 3, 4]),
            AAAA => reply.ip(owner, ip("2001:db8::1")),
            NS => reply.record(0, owner, NS, 9, &name("ns.test")),
            CNAME => reply.cname(owner, "other.test"),
            PTR => reply.record(0, owner, PTR, 9, &name("host.test")),
            MX => reply.record(0, owner, MX, 9, &[&[0, 20], &name("b.test")[..]].concat()).record(
                0,
                owner,
                MX,
                9,
                &[&[0, 10], &name("a.test")[..]].concat(),
            ),
            TXT => reply.record(0, owner, TXT, 9, b"\x03one\x03two\x00"),
            SRV => reply.srv(owner, 1, 2, 3, "host.test").srv(owner, 0, 0, 0, ""),
            SOA => {
                let mut reply = reply.soa(owner, 7);
                reply.sections.swap(0, 1);
                reply
            }
            other => reply.record(0, owner, other, 9, &[1, 2, 3]),
        });
    };
    ask(config(), script, |client, _| {
        let rest = client.clone();
        gather_results([
            client
                .lookup_a("x.test")
                .add_callback(|found| assert_eq!(found, [[1, 2, 3, 4].into()] as [std::net::Ipv4Addr; 1])),
            client
                .lookup_aaaa("x.test")
                .add_callback(|found| assert_eq!(found, ["2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap()])),
            client.lookup_ns("x.test").add_callback(|found| assert_eq!(found, ["ns.test"])),
            client.lookup_cname("x.test").add_callback(|found| assert_eq!(found, ["other.test"])),
            client.lookup_ptr(ip("1.2.3.4")).add_callback(|found| assert_eq!(found, ["host.test"])),
            client.lookup_txt("x.test").add_callback(|found| assert_eq!(found, [b"onetwo"])),
            client.lookup_mx("x.test").add_callback(|found| {
                let found: Vec<_> = found.iter().map(|mx| (mx.preference, &*mx.exchange)).collect();
                assert_eq!(found, [(10, "a.test"), (20, "b.test")]);
                Ok(())
            }),
            client.lookup_srv("_x._tcp.test").add_callback(|found| {
                let found: Vec<_> =
                    found.iter().map(|srv| (srv.priority, srv.weight, srv.port, &*srv.target)).collect();
                assert_eq!(found, [(1, 2, 3, "host.test"), (0, 0, 0, ".")]);
                Ok(())
            }),
            client.lookup_soa("x.test").add_callback(|found| assert_eq!(found[0].minimum, 7 * SECOND)),
            rest.lookup("x.test", RecordType(4711)).add_callback(|found| {
                assert_eq!(found[0].data, Data::Other { kind: RecordType(4711), bytes: vec![1, 2, 3] });
                assert_eq!((&*found[0].name, found[0].ttl), ("x.test", 9 * SECOND));
                Ok(())
            }),
        ])
    })
    .value();
}

#[test]
fn the_names_of_an_address_are_asked_for_in_the_arpa_domains() {
    let script = |asked: &Asked, line: Line| line.send(asked.reply().soa("arpa", 0));
    let outcome = ask(config(), script, |client, _| {
        list([client.lookup_ptr(ip("192.0.2.5")), client.lookup_ptr(ip("2001:db8::567:89ab"))])
    });
    let v6 = "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
    assert_eq!(outcome.questions(), [("5.2.0.192.in-addr.arpa", PTR), (v6, PTR)]);
}

#[test]
fn what_does_not_exist_what_has_no_records_and_what_fails_are_told_apart() {
    let asked_for = || "gone.test".to_owned();
    let error = |script: fn(&Asked, Line)| ask(config(), script, |client, _| client.lookup_a("gone.test")).error();
    let no_such_name = DnsError::NoSuchName { name: asked_for() };
    assert_eq!(error(|asked, line| line.send(asked.reply().code(3))), no_such_name);
    assert_eq!(error(|asked, line| line.send(asked.reply().code(3).soa("test", 60))), no_such_name);
    // An alias of nothing is nothing.
    assert_eq!(error(|asked, line| line.send(asked.reply().code(3).cname("gone.test", "no.test"))), no_such_name);
    let no_records = DnsError::NoRecords { name: asked_for(), kind: RecordType::A };
    assert_eq!(error(|asked, line| line.send(asked.reply())), no_records);
    assert_eq!(error(|asked, line| line.send(asked.reply().soa("test", 60))), no_records);
    assert_eq!(error(|asked, line| line.send(asked.reply().ip("gone.test", ip("::1")))), no_records);
    for code in [2, 4, 5, 9] {
        let expected = DnsError::ServerFailed { name: asked_for(), code: Some(if code == 4 { 1 } else { code }) };
        // Not understood without extensions either.
        let script = move |asked: &Asked, line: Line| line.send(asked.reply().code(code));
        assert_eq!(ask(config(), script, |client, _| client.lookup_a("gone.test")).error(), expected);
    }
    // It points at others, instead of asking them.
    let lame = |asked: &Asked, line: Line| {
        line.send(asked.reply().without_flag(0x0080).record(1, "test", NS, 60, &name("ns.test")));
    };
    let lame = ask(config(), lame, |client, _| client.lookup_a("gone.test"));
    assert_eq!(lame.error(), DnsError::ServerFailed { name: asked_for(), code: None });
}

#[test]
fn silence_is_a_timeout_after_every_server_was_asked_as_often_as_configured() {
    let limit = 3 * SECOND;
    let outcome = ask(
        config().server(server_at(2)).timeout(limit).attempts(2),
        |_, _| (),
        |client, reactor| {
            NameServer::new(reactor, server_at(2), |_, _| ());
            client.lookup_a("x.test")
        },
    );
    assert_eq!(outcome.error(), DnsError::TimedOut { name: "x.test".into(), after: 4 * limit });
    assert_eq!(outcome.took, 4 * limit);
    assert_eq!(outcome.asked.len(), 2);
    let [first, second] = &outcome.asked[..] else { panic!() };
    assert_ne!(first.from.port(), second.from.port(), "another socket each time");
}

#[test]
fn a_server_that_is_not_there_or_fails_makes_way_at_once() {
    for script in [None, Some(2), Some(5)] {
        let network = Network::new();
        let result = simulate_with(&network, |reactor, _| {
            if let Some(code) = script {
                NameServer::new(reactor, server_at(1), move |asked, line| line.send(asked.reply().code(code)));
            }
            NameServer::new(reactor, server_at(2), |asked, line| line.send(asked.reply().ip("x.test", [1, 1, 1, 1])));
            Ok(Client::with_config(reactor, config().server(server_at(2))).lookup_a("x.test"))
        });
        assert_eq!(result.expect("the second one knows"), [[1, 1, 1, 1].into()] as [std::net::Ipv4Addr; 1]);
        assert_eq!(network.elapsed(), Duration::ZERO);
    }
}

#[test]
fn no_server_at_all_is_unreachable_at_once() {
    let network = Network::new();
    let result = simulate_with(&network, |reactor, _| Ok(Client::with_config(reactor, config()).lookup_a("x.test")));
    let failure = result.expect_err("nobody listens");
    assert_eq!(failure.check(), Some(&DnsError::Unreachable { name: "x.test".into() }));
    assert_eq!(network.elapsed(), Duration::ZERO);
}

#[test]
fn a_late_answer_to_an_earlier_question_is_taken() {
    let mut held = None;
    let script = move |asked: &Asked, line: Line| match held.take() {
        None => held = Some((asked.clone(), line)),
        Some((first, line)) => line.send(first.reply().ip("x.test", [1, 1, 1, 1])),
    };
    let outcome = ask(config(), script, |client, _| client.lookup_a("x.test"));
    assert_eq!(outcome.took, 5 * SECOND);
    assert_eq!(outcome.value(), [std::net::Ipv4Addr::new(1, 1, 1, 1)]);
}

#[test]
fn a_lost_datagram_is_sent_again() {
    let network = Network::new();
    network.lose_datagrams(1);
    let answer = |asked: &Asked, line: Line| line.send(asked.reply().ip("x.test", [1, 1, 1, 1]));
    let outcome = ask_on(&network, config().timeout(SECOND), answer, |client, _| client.lookup_a("x.test"));
    assert_eq!(outcome.took, SECOND);
    assert_eq!(outcome.value().len(), 1);
}

#[test]
fn with_rotation_every_server_gets_its_share() {
    let network = Network::new();
    let counts = simulate_with(&network, |reactor, _| {
        let servers: Vec<NameServer> = (1..=3)
            .map(|n| NameServer::new(reactor, server_at(n), |asked, line| line.send(asked.reply().soa("test", 0))))
            .collect();
        let config = (1..=3).map(server_at).fold(Config::new(), Config::server).rotate(true);
        let client = Client::with_config(reactor, config);
        let asked = list((0..9).map(|n| client.lookup_a(&format!("x{n}.test"))));
        Ok(asked.add_callback(move |_| Ok(servers.iter().map(NameServer::count).collect::<Vec<_>>())))
    });
    assert_eq!(counts.expect("they answer"), [3, 3, 3]);
}

#[test]
fn what_does_not_fit_a_datagram_is_asked_for_by_tcp() {
    let script = |asked: &Asked, line: Line| {
        let many = (0..=255).fold(asked.reply(), |reply, n| reply.ip("x.test", [10, 0, 1, n]));
        let cut = asked.reply().ip("x.test", [10, 0, 1, 0]).truncated();
        line.send(if asked.stream { many } else { cut });
    };
    let outcome = ask(config(), script, |client, _| client.lookup_a("x.test"));
    assert_eq!(outcome.asked.iter().map(|asked| asked.stream).collect::<Vec<_>>(), [false, true]);
    assert_ne!(outcome.asked[0].id, outcome.asked[1].id);
    assert_eq!(outcome.value().len(), 256);
    // By TCP alone.
    let outcome = ask(config().tcp_only(true), script, |client, _| client.lookup_a("x.test"));
    assert_eq!(outcome.asked.len(), 1);
    assert_eq!(outcome.value().len(), 256);
}

#[test]
fn a_truncated_answer_may_end_anywhere() {
    let script = |asked: &Asked, line: Line| match asked.stream {
        true => line.send(asked.reply().ip("x.test", [1, 1, 1, 1])),
        false => {
            let mut bytes = asked.reply().ip("x.test", [1, 1, 1, 1]).truncated().bytes();
            bytes.truncate(bytes.len() - 3);
            line.send(bytes);
        }
    };
    assert_eq!(ask(config(), script, |client, _| client.lookup_a("x.test")).value().len(), 1);
}

#[test]
fn a_server_that_stalls_hangs_up_or_babbles_on_tcp_makes_way() {
    type Fault = fn(&Asked, Line);
    let faults: [(Fault, bool); 4] = [
        (|_, _| (), true),
        (|_, line| line.wire().write([0]), true),
        (|_, line| line.wire().lose_connection(), false),
        (|asked, line| line.send(asked.reply().truncated()), false),
    ];
    for (fault, waits) in faults {
        let network = Network::new();
        let found = simulate_with(&network, |reactor, _| {
            NameServer::new(reactor, server_at(1), move |asked, line| match asked.stream {
                true => fault(asked, line),
                false => line.send(asked.reply().truncated()),
            });
            NameServer::new(reactor, server_at(2), |asked, line| line.send(asked.reply().ip("x.test", [1, 1, 1, 1])));
            Ok(Client::with_config(reactor, config().server(server_at(2)).timeout(SECOND)).lookup_a("x.test"))
        });
        assert_eq!(found.expect("the second one knows").len(), 1);
        assert_eq!(network.elapsed(), if waits { SECOND } else { Duration::ZERO });
    }
}

#[test]
fn a_server_that_does_not_know_the_extensions_is_asked_without() {
    for bare in [false, true] {
        let script = move |asked: &Asked, line: Line| match asked.payload {
            None => line.send(asked.reply().ip("x.test", [1, 1, 1, 1])),
            // Some old ones send the header back and nothing more.
            Some(_) if bare => line.send([&asked.id.to_be_bytes()[..], &[0x80, 0x01, 0, 0, 0, 0, 0, 0, 0, 0]].concat()),
            Some(_) => line.send(asked.reply().code(1)),
        };
        let outcome = ask(config(), script, |client, _| client.lookup_a("x.test"));
        assert_eq!(outcome.asked.iter().map(|asked| asked.payload).collect::<Vec<_>>(), [Some(1232), None]);
        assert_eq!(outcome.took, Duration::ZERO);
        assert_eq!(outcome.value().len(), 1);
    }
    let plain =
        ask(config().payload(None), |asked, line| line.send(asked.reply()), |client, _| client.lookup_a("x.test"));
    assert_eq!(plain.asked[0].payload, None);
}

#[test]
fn aliases_are_followed_within_an_answer_and_beyond() {
    let script = |asked: &Asked, line: Line| {
        line.send(match &*asked.name {
            "a.test" => asked.reply().cname("a.test", "B.test").cname("b.test", "c.test"),
            "c.test" => {
                asked.reply().cname("c.test", "d.test").ip("d.test", [1, 1, 1, 1]).ip("evil.test", [6, 6, 6, 6])
            }
            _ => asked.reply().code(3),
        });
    };
    let outcome = ask(config(), script, |client, _| client.lookup("a.test", RecordType::A));
    assert_eq!(outcome.questions(), [("a.test", A), ("c.test", A)]);
    let records = outcome.value();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].name, "d.test");
}

#[test]
fn an_alias_of_nothing_is_told_of_under_the_name_that_was_asked_for() {
    let script = |asked: &Asked, line: Line| {
        line.send(match &*asked.name {
            "a.test" => asked.reply().cname("a.test", "b.test"),
            _ => asked.reply().code(3).soa("test", 60),
        });
    };
    let outcome = ask(config(), script, |client, _| client.lookup_a("a.test"));
    assert_eq!(outcome.error(), DnsError::NoSuchName { name: "a.test".into() });
}

#[test]
fn rings_of_aliases_end() {
    let ring = |asked: &Asked, line: Line| line.send(asked.reply().cname("a.test", "b.test").cname("b.test", "a.test"));
    let error = DnsError::TooManyAliases { name: "a.test".into() };
    assert_eq!(ask(config(), ring, |client, _| client.lookup_a("a.test")).error(), error);
    let itself = |asked: &Asked, line: Line| line.send(asked.reply().cname("a.test", "a.test"));
    assert_eq!(ask(config(), itself, |client, _| client.lookup_a("a.test")).error(), error);
    // One step an answer, to and fro.
    let to_and_fro = |asked: &Asked, line: Line| {
        let other = if asked.name == "a.test" { "b.test" } else { "a.test" };
        line.send(asked.reply().cname(&asked.name, other));
    };
    let outcome = ask(config(), to_and_fro, |client, _| client.lookup_a("a.test"));
    assert_eq!(outcome.error(), error);
    assert_eq!(outcome.asked.len(), 17);
    // On and on.
    let mut n = 0;
    let on = move |asked: &Asked, line: Line| {
        n += 1;
        line.send(asked.reply().cname(&asked.name, &format!("x{n}.test")));
    };
    assert_eq!(ask(config(), on, |client, _| client.lookup_a("a.test")).error(), error);
}

#[test]
fn answers_are_remembered_for_as_long_as_they_hold() {
    let script = |asked: &Asked, line: Line| line.send(asked.reply().ip("x.test", [1, 1, 1, 1]));
    let outcome = ask(config(), script, |client, reactor| {
        let (client, reactor) = (client.clone(), *reactor);
        client.lookup_a("x.test").add_callback(move |_| {
            let again = client.clone();
            defer_later(&reactor, 59 * SECOND, move || again.lookup("X.test.", RecordType::A)).add_callback(
                move |found| {
                    assert_eq!(found[0].ttl, SECOND, "it grows old");
                    defer_later(&reactor, SECOND, move || client.lookup_a("x.test"))
                },
            )
        })
    });
    assert_eq!(outcome.questions(), [("x.test", A), ("x.test", A)]);
    assert_eq!(outcome.took, 60 * SECOND);
}

#[test]
fn that_something_is_not_there_is_remembered_as_long_as_its_zone_says() {
    for (config, seconds, expected) in [
        (config(), 10, [1, 2]),
        (config().negative_cache(2 * SECOND), 10, [1, 2]),
        (config().negative_cache(Duration::ZERO), 10, [2, 3]),
        (config().cache(0), 10, [2, 3]),
        (config(), 0, [2, 3]),
    ] {
        let script = move |asked: &Asked, line: Line| line.send(asked.reply().code(3).soa("test", seconds));
        let count = Rc::new(Cell::new(0));
        let counted = count.clone();
        let counting = move |asked: &Asked, line: Line| {
            counted.set(counted.get() + 1);
            script(asked, line);
        };
        let ask_again = |client: &Client, _: &Reactor| {
            let client = client.clone();
            client.lookup_a("x.test").add_both(move |_| client.lookup_a("x.test"))
        };
        let seen = ask(config.clone(), counting.clone(), ask_again);
        assert_eq!(seen.error(), DnsError::NoSuchName { name: "x.test".into() });
        assert_eq!(count.replace(0), expected[0], "{config:?}");
        let later = ask(config, counting, |client, reactor| {
            let (client, reactor) = (client.clone(), *reactor);
            client.lookup_a("x.test").add_both(move |_| {
                client
                    .lookup_a("x.test")
                    .add_both(move |_| defer_later(&reactor, 11 * SECOND, move || client.lookup_a("x.test")))
            })
        });
        assert!(later.result.is_err());
        assert_eq!(count.get(), expected[1]);
    }
}

#[test]
fn a_full_memory_forgets_what_expires_first_and_large_answers_are_not_kept() {
    let script = |asked: &Asked, line: Line| {
        let reply = asked.reply();
        line.send(match &*asked.name {
            "large.test" => (0..300).fold(reply, |reply, n| reply.ip("large.test", [10, 0, (n / 256) as u8, n as u8])),
            owner => reply.record(0, owner, A, owner.len() as u32, &[1, 1, 1, 1]),
        });
    };
    let outcome = ask(config().cache(2), script, |client, _| {
        let names = ["ccc.test", "a.test", "bb.test", "a.test", "bb.test", "ccc.test", "large.test", "large.test"];
        names.into_iter().fold(Deferred::succeed(vec![]), |before, name| {
            let client = client.clone();
            before.add_callback(move |_| client.lookup_a(name))
        })
    });
    let asked: Vec<_> = outcome.questions().into_iter().map(|question| question.0).collect();
    // a.test expires first, and makes way for bb.test, then for itself.
    assert_eq!(asked, ["ccc.test", "a.test", "bb.test", "a.test", "large.test", "large.test"]);
}

#[test]
fn memory_is_bounded_in_records_too() {
    let script = |asked: &Asked, line: Line| {
        let many = if asked.name == "large.test" { 257u16 } else { 10 };
        let ip = |n: u16| [10, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]];
        line.send((0..many).fold(asked.reply(), |reply, n| reply.ip(&asked.name, ip(n))));
    };
    let asked = |answers: usize, names: &[&'static str]| {
        let names = names.to_vec();
        let outcome = ask(config().cache(answers), script, |client, _| {
            names.into_iter().fold(Deferred::succeed(vec![]), |before, name| {
                let client = client.clone();
                before.add_callback(move |_| client.lookup_a(name))
            })
        });
        outcome.asked.len()
    };
    // However much room there is, an answer of so many records is not worth it.
    assert_eq!(asked(1000, &["large.test", "large.test"]), 2);
    // Room for 4 answers is room for 32 records: of 4 answers of 10 the first has made way.
    assert_eq!(asked(4, &["a.test", "b.test", "c.test", "a.test"]), 3);
    assert_eq!(asked(4, &["a.test", "b.test", "c.test", "d.test", "b.test", "c.test", "d.test"]), 4);
    assert_eq!(asked(4, &["a.test", "b.test", "c.test", "d.test", "a.test"]), 5);
}

#[test]
fn the_same_question_is_asked_once_at_a_time() {
    let network = Network::new();
    network.set_latency(10 * MS);
    let script = |asked: &Asked, line: Line| line.send(asked.reply().record(0, "x.test", A, 0, &[1, 1, 1, 1]));
    let outcome = ask_on(&network, config(), script, |client, _| {
        let gone = client.lookup_a("x.test");
        let all = gather_results([client.lookup_a("x.test"), client.lookup_a("X.TEST"), client.lookup_a("x.test.")]);
        gone.cancel();
        assert!(failure_result_of(gone).is::<Cancelled>());
        all
    });
    assert_eq!(outcome.asked.len(), 1);
    assert_eq!(outcome.value().len(), 3);
}

#[test]
fn a_look_up_that_everybody_gave_up_is_over() {
    let network = Network::new();
    let outcome = ask_on(
        &network,
        config(),
        |_, _| (),
        |client, reactor| {
            let all = [client.lookup_a("x.test"), client.lookup_a("x.test")];
            let before = reactor.statistics();
            all.iter().for_each(Deferred::cancel);
            let reactor = *reactor;
            // Some turns later.
            let later = defer_later(&reactor, MS, move || defer_later(&reactor, MS, move || Ok(reactor.statistics())));
            later.add_callback(move |after| {
                assert_eq!((before.descriptors, before.timers), (after.descriptors + 1, after.timers + 1));
            })
        },
    );
    assert!(outcome.took < SECOND, "nothing was waited for");
    outcome.value();
}

#[test]
fn many_look_ups_take_turns_and_too_many_are_refused() {
    let script = |asked: &Asked, line: Line| line.send(asked.reply().ip(&asked.name, [1, 1, 1, 1]));
    let outcome = ask(config(), script, |client, reactor| {
        let all = list((0..8192).map(|n| client.lookup_a(&format!("x{n}.test"))));
        assert!(reactor.statistics().descriptors < 200, "{:?}", reactor.statistics());
        let refused = failure_result_of(client.lookup_a("more.test"));
        assert_eq!(refused.check(), Some(&DnsError::TooManyLookUps { waiting: 8192 }));
        // Who asks what is being asked is not one more.
        assert!(!client.lookup_a("x0.test").is_fired());
        all
    });
    assert_eq!(outcome.value().iter().filter(|outcome| outcome.is_ok()).count(), 8192);
}

#[test]
fn names_that_are_none_are_refused_and_odd_ones_survive() {
    let long = "a".repeat(64);
    let very_long = "abcdefg.".repeat(32);
    let too_long = "x.".repeat(2000);
    for bad in
        ["", "..", ".test", "a..b", "a b", "a\tb", &long, &very_long, &too_long, "a\\", "a\\25", "a\\256b", "nul\0"]
    {
        let outcome = ask(config(), |_, _| (), |client, _| client.lookup_a(bad));
        assert!(matches!(outcome.error(), DnsError::InvalidName { .. }), "{bad:?}");
        assert!(outcome.asked.is_empty());
    }
    let script = |asked: &Asked, line: Line| line.send(asked.reply().cname(&asked.name, "plain.test"));
    for (text, wire) in [
        ("_x._tcp.test", "_x._tcp.test"),
        ("b\\065d.test", "bAd.test"),
        ("bücher.test", "xn--bcher-kva.test"),
        (&*format!("{}.test", "a".repeat(63)), &*format!("{}.test", "a".repeat(63))),
    ] {
        let outcome = ask(config(), script, |client, _| client.lookup_cname(text));
        assert_eq!(outcome.questions(), [(wire, CNAME)]);
    }
    // A dot within a label is no dot between labels.
    let odd = |asked: &Asked, line: Line| {
        line.send(asked.reply().record(0, &asked.name, CNAME, 9, b"\x05a.b\\\x00\x04test\x00"));
    };
    assert_eq!(ask(config(), odd, |client, _| client.lookup_cname("x.test")).value(), ["a\\.b\\\\\\000.test"]);
    for kind in [0, 41, 251, 252] {
        let error = ask(config(), |_, _| (), |client, _| client.lookup("x.test", RecordType(kind))).error();
        assert_eq!(error, DnsError::InvalidType { kind: RecordType(kind) });
    }
}

#[test]
fn the_end_of_the_reactor_fails_what_waits() {
    let slot = Rc::new(RefCell::new(Vec::new()));
    let seen = slot.clone();
    let _ = simulate_with(&Network::new(), |reactor, _| {
        NameServer::new(reactor, server_at(1), |asked, line| {
            if !asked.stream {
                line.send(asked.reply().truncated())
            }
        });
        NameServer::new(reactor, server_at(2), |_, _| ());
        for n in [1, 2] {
            let client = Client::with_config(reactor, Config::new().server(server_at(n)));
            for host in 0..200 {
                let seen = seen.clone();
                let _ = client
                    .lookup_a(&format!("x{host}.test"))
                    .add_both(move |outcome| seen.borrow_mut().push(outcome.err()));
            }
        }
        let reactor = *reactor;
        reactor.call_later(SECOND, move || reactor.stop());
        Ok(())
    });
    let seen = slot.take();
    assert_eq!(seen.len(), 400);
    assert!(seen.iter().all(Option::is_some));
    let reactor = Reactor::new().expect("a reactor");
    let client = Client::with_config(&reactor, config());
    reactor.close();
    assert_eq!(failure_result_of(client.lookup_a("x.test")).check(), Some(&ReactorError::Closed));
}

// DNS-1, GM-12, UA-26: the client in the place of getaddrinfo
#[test]
fn as_a_resolver_it_completes_host_names_and_asks_for_both_kinds() {
    let script = |asked: &Asked, line: Line| {
        line.send(match (&*asked.name, asked.kind) {
            ("www.corp.test", A) => asked.reply().ip("www.corp.test", [10, 0, 0, 80]),
            ("www.corp.test", AAAA) => asked.reply().ip("www.corp.test", ip("2001:db8::80")),
            ("a.b.test" | "only.test", A) => asked.reply().ip(&asked.name, [10, 0, 0, 81]),
            ("only.test", _) => asked.reply().code(2),
            ("broken.test", _) => asked.reply().code(2),
            _ => asked.reply().code(3),
        });
    };
    let searching = || config().search(["dev.test", "corp.test"]);
    let both = [(AAAA), (A)];
    let outcome = ask(searching(), script, |client, _| client.resolve("www"));
    let names = ["www.dev.test", "www.corp.test"];
    let expected: Vec<_> = names.iter().flat_map(|&name| both.map(|kind| (name, kind))).collect();
    assert_eq!(outcome.questions(), expected);
    assert_eq!(outcome.value(), [ip("2001:db8::80"), ip("10.0.0.80")]);
    // With dots enough it is tried as it is first; with one at its end, not otherwise.
    let outcome = ask(searching(), script, |client, _| client.resolve("a.b.test"));
    assert_eq!(outcome.questions(), both.map(|kind| ("a.b.test", kind)));
    assert_eq!(outcome.value(), [ip("10.0.0.81")]);
    let outcome = ask(searching().dots(9), script, |client, _| client.resolve("a.b.test."));
    assert_eq!(outcome.questions().len(), 2);
    let outcome = ask(searching(), script, |client, _| client.resolve("no.test"));
    assert_eq!(outcome.asked.len(), 6);
    let failure = outcome.result.expect_err("it is nowhere");
    assert_eq!(failure.check(), Some(&ConnectError::UnknownHost { host: "no.test".into() }));
    // One kind is enough, and a failure is not taken for absence.
    assert_eq!(ask(config(), script, |client, _| client.resolve("only.test")).value(), [ip("10.0.0.81")]);
    let failure = ask(searching(), script, |client, _| client.resolve("broken.test")).result.expect_err("it is broken");
    assert!(matches!(failure.check(), Some(ConnectError::Failed(inner)) if inner.is::<DnsError>()), "{failure:?}");
    let failure = ask(config(), |_, _| (), |client, _| client.resolve("slow.test")).result.expect_err("silence");
    let late = ConnectError::TimedOut { to: "slow.test".into(), after: 10 * SECOND };
    assert_eq!(failure.check(), Some(&late));
    // RFC 6761
    let outcome = ask(config(), script, |client, _| client.resolve("x.LocalHost."));
    assert!(outcome.asked.is_empty());
    assert_eq!(outcome.value(), [ip("::1"), ip("127.0.0.1")]);
}

// RFC 8305, section 3
#[test]
fn addresses_of_one_kind_do_not_wait_long_for_those_of_the_other() {
    for silent in [A, AAAA] {
        let script = move |asked: &Asked, line: Line| {
            if asked.kind != silent {
                let ip = if asked.kind == A { ip("10.0.0.1") } else { ip("2001:db8::1") };
                line.send(asked.reply().ip(&asked.name, ip));
            }
        };
        let outcome = ask(config(), script, |client, _| client.resolve("half.test"));
        assert_eq!(outcome.took, SECOND / 2);
        assert_eq!(outcome.value().len(), 1);
        // Given up meanwhile, it ends, with what it has, and nothing is left.
        let outcome = ask(config(), script, |client, reactor| {
            let (before, reactor) = (reactor.statistics(), *reactor);
            let answer = client.resolve("half.test");
            let canceller = answer.canceller();
            defer_later(&reactor, 10 * MS, move || canceller.cancel()).add_callback(move |_| {
                answer.add_callback(move |_| {
                    defer_later(&reactor, MS, move || {
                        let after = reactor.statistics();
                        assert_eq!((before.descriptors, before.timers), (after.descriptors, after.timers));
                    })
                })
            })
        });
        assert!(outcome.took < SECOND / 2);
        outcome.value();
    }
    // One that comes in time is waited for.
    let script = |asked: &Asked, line: Line| {
        let (asked, reactor) = (asked.clone(), Reactor::current());
        let late = if asked.kind == A { 10 * MS } else { 400 * MS };
        reactor.call_later(late, move || match asked.kind {
            A => line.send(asked.reply().ip(&asked.name, [10, 0, 0, 1])),
            _ => line.send(asked.reply().ip(&asked.name, ip("2001:db8::1"))),
        });
    };
    let outcome = ask(config(), script, |client, _| client.resolve("both.test"));
    assert_eq!(outcome.value(), [ip("2001:db8::1"), ip("10.0.0.1")]);
}

#[test]
fn a_reactor_with_the_client_as_its_resolver_connects_by_it() {
    struct Quiet;
    impl Protocol for Quiet {
        fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
    }
    let peer = simulate_with(&Network::new(), |reactor, _| {
        NameServer::new(reactor, server_at(1), |asked, line| {
            line.send(match asked.kind {
                A => asked.reply().ip(&asked.name, [10, 0, 0, 9]),
                _ => asked.reply().soa("test", 60),
            });
        });
        reactor.listen_tcp("10.0.0.9:80", || Quiet)?;
        reactor.set_resolver(Client::with_config(reactor, config()));
        Ok(reactor.connect_protocol("www.test:80", Quiet).add_callback(|wire| Ok(wire.peer())))
    });
    assert_eq!(peer.expect("it connects"), Address::Tcp(SocketAddr::from(([10, 0, 0, 9], 80))));
}

// UA-26 (589, 462)
#[test]
fn a_resolv_conf_is_read_with_all_its_oddities() {
    let text = "\u{feff}\n; comment\n# comment\nnameserver 192.0.2.1\n\tnameserver\t2001:db8::1 trailing\nnameserver bad\n\
        nameserver\nnameserver 192.0.2.1\nnameserver fe80::1%7\nnameserver fe80::1%no-such-if\ndomain old.test\n\
        search a.test b..bad c.test. # comment\noptions ndots:3 timeout:7 attempts:4 rotate edns0 use-vc nonsense:9 ndots:x\n\
        sortlist 1.2.3.4\nrubbish\n\0\n";
    let scoped = std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 53, 0, 7);
    let v4 = SocketAddr::from(([192, 0, 2, 1], 53));
    let v6 = SocketAddr::new(ip("2001:db8::1"), 53);
    let expected = Config::new().server(v4).server(v6).server(scoped.into());
    let expected =
        expected.search(["a.test", "c.test."]).dots(3).timeout(7 * SECOND).attempts(4).rotate(true).tcp_only(true);
    assert_eq!(Config::parse(text), expected);
    assert_eq!(Config::parse(""), Config::new());
    assert_eq!(Config::new().servers(), [SocketAddr::from(([127, 0, 0, 1], 53))]);
    assert!(Config::read("/nonexistent").is_err());
    // Bounded, whatever it says.
    let many: String = (0..1000).map(|n| format!("nameserver 10.0.{}.{}\n", n / 256, n % 256)).collect();
    let domains: String = (0..1000).map(|n| format!(" d{n}.test")).collect();
    let bounded = Config::parse(&format!("{many}search{domains}\noptions timeout:4000000000 attempts:99 ndots:99\n"));
    assert_eq!(bounded.servers().len(), 8);
    let names: Vec<String> = (0..16).map(|n| format!("d{n}.test")).collect();
    let servers = (0..8).map(|n| SocketAddr::from(([10, 0, 0, n], 53)));
    let expected = servers.fold(Config::new(), Config::server).search(names.iter().map(|name| &**name));
    assert_eq!(bounded, expected.timeout(30 * SECOND).attempts(5).dots(15));
}
