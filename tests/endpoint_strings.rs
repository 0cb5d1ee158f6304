//! Endpoints from strings: what descriptions mean, and what is said of those that mean nothing.
mod rig;
mod support;

use proptest::prelude::*;
use rig::{Log, Probe, Slot, closed_port, run};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use twistlet::endpoint::{
    ClientEndpoint, Descriptions, ParseError, ParseReason, ServerEndpoint, TcpClientEndpoint, client_from_string,
    quote, server_from_string, wrap_client,
};
use twistlet::protocols::proxy::{ProxyClientFactory, ProxyFactory, ProxyHeader, ProxyVersion};
use twistlet::testing::{Network, simulate, simulate_with};
use twistlet::transport::resolver;
use twistlet::{Address, ConnectError, Deferred, Protocol, Reactor, TransportRef, from_fn};

struct Quiet;
impl Protocol for Quiet {
    fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
}

fn with_reactor<T>(f: impl FnOnce(&Reactor) -> T) -> T {
    let reactor = Reactor::new().expect("one a thread");
    let result = f(&reactor);
    reactor.close();
    result
}
#[track_caller]
fn client_error(text: &str) -> ParseError {
    with_reactor(|reactor| client_from_string(reactor, text).err()).expect("no description")
}
#[track_caller]
fn server_error(text: &str) -> ParseError {
    with_reactor(|reactor| server_from_string(reactor, text).err()).expect("no description")
}
/// The address that a description of a server listens at.
#[track_caller]
fn listens_at(text: &str) -> Address {
    simulate(|reactor, _| {
        Ok(server_from_string(reactor, text)?.listen(|| Quiet).add_callback(|it| Ok(it.address().clone())))
    })
    .expect("it listens")
}
/// Whom a description of a client connects to, where all addresses answer.
#[track_caller]
fn connects_to(text: &str) -> (Address, Address) {
    simulate(|reactor, _| {
        for at in ["10.0.0.1:80", "[2001:db8::1]:80"] {
            reactor.listen_tcp(at, || Quiet)?;
        }
        reactor.listen_unix("/run/a:b", || Quiet)?;
        reactor.set_resolver(resolver::from_fn(|_| {
            Deferred::succeed(vec!["10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()])
        }));
        let connecting = client_from_string(reactor, text)?.connect(|| Quiet);
        Ok(connecting.add_callback(|transport| Ok((transport.peer(), transport.host()))))
    })
    .expect("it connects")
}
fn tcp(text: &str) -> Address {
    Address::Tcp(text.parse().unwrap())
}

#[test]
fn clients_are_described_in_any_order_with_and_without_names() {
    // END-17
    for text in [
        "tcp:host.test:80",
        "TCP:host.test:80",
        "tcp:host=host.test:port=80",
        "tcp:port=80:host=host.test",
        "tcp:host=host.test:80",
        "tcp:80:host=host.test",
        "tcp:host.test:port=80",
        "tcp:host.test:80:timeout=5",
        "tcp:host.test:80:timeout=0.25:bindAddress=10.0.0.9",
        "tcp:10.0.0.1:80",
    ] {
        assert_eq!(connects_to(text).0, tcp("10.0.0.1:80"), "{text}");
    }
    assert_eq!(connects_to("tcp6:host.test:80").0, tcp("[2001:db8::1]:80"));
    assert_eq!(connects_to(r"tcp:2001\:db8\:\:1:80").0, tcp("[2001:db8::1]:80"));
    let (_, host) = connects_to("tcp:host.test:80:bindAddress=10.0.0.9");
    assert_eq!(host.ip(), Some(Ipv4Addr::new(10, 0, 0, 9).into()));
    // EX03
    assert_eq!(connects_to(r"unix:/run/a\:b").0, Address::Unix(Some("/run/a:b".into())));
    assert_eq!(connects_to(r"unix:path=/run/a\:b:timeout=3").0, Address::Unix(Some("/run/a:b".into())));
}

#[test]
fn a_timeout_is_in_seconds() {
    let network = Network::new();
    network.blackhole(true);
    let outcome = simulate_with(&network, |reactor, _| {
        Ok(client_from_string(reactor, "tcp:10.0.0.1:80:timeout=2.5")?.connect(|| Quiet))
    });
    let after = Duration::from_millis(2500);
    assert_eq!(outcome.unwrap_err().check(), Some(&ConnectError::TimedOut { to: "10.0.0.1:80".into(), after }));
    assert_eq!(network.elapsed(), after);
}

#[test]
fn servers_are_described() {
    // END-16
    assert_eq!(listens_at("tcp:80"), tcp("0.0.0.0:80"));
    assert_eq!(listens_at("tcp:port=80:interface=127.0.0.1:backlog=5"), tcp("127.0.0.1:80"));
    assert_eq!(listens_at("tcp:80:interface="), tcp("0.0.0.0:80"));
    assert_eq!(listens_at("tcp:80:127.0.0.1:5"), tcp("127.0.0.1:80"));
    assert_eq!(listens_at(r"tcp:80:interface=\:\:1"), tcp("[::1]:80"));
    assert_eq!(listens_at("tcp6:80"), tcp("[::]:80"));
    assert_eq!(listens_at(r"tcp6:80:interface=[\:\:1]"), tcp("[::1]:80"));
    assert_eq!(listens_at("unix:/run/x"), Address::Unix(Some("/run/x".into())));
    assert_eq!(listens_at("haproxy:tcp:80"), tcp("0.0.0.0:80"));
    assert_eq!(listens_at(r"HAProxy:tcp:interface=\:\:1:port=80"), tcp("[::1]:80"));
}

#[test]
fn a_unix_socket_s_file_is_as_described() {
    // END-16: with a lock file unless it is told otherwise
    use std::os::unix::fs::PermissionsExt;
    let folder = support::folder("endpoint-strings");
    let (path, lock) = (folder.join("socket"), folder.join("socket.lock"));
    let place = quote(path.to_str().unwrap());
    with_reactor(|reactor| {
        let listen = |text: &str| {
            let listening = server_from_string(reactor, text).unwrap().listen(|| Quiet);
            listening.try_take().map_err(|_| "pending").unwrap()
        };
        listen(&format!("unix:{place}:mode=600:backlog=5")).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(lock.exists());
        assert!(listen(&format!("unix:{place}")).is_err(), "it is served");
        let unlocked = quote(folder.join("other").to_str().unwrap());
        listen(&format!("unix:address={unlocked}:lockfile=0")).unwrap();
        assert!(folder.join("other").exists() && !folder.join("other.lock").exists());
        for text in ["unix:/x:mode=888", "unix:/x:mode=77777", "unix:/x:lockfile=maybe", "unix:address=/x:path=/y"] {
            assert!(server_from_string(reactor, text).is_err(), "{text}");
        }
    });
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn nothing_is_opened_before_it_is_used() {
    // END-2: what is wrong with the place arrives there
    with_reactor(|reactor| {
        let missing = server_from_string(reactor, "unix:/no/such/folder/socket").expect("a description");
        let listening = missing.listen(|| Quiet).try_take().map_err(|_| "pending").unwrap();
        assert!(listening.unwrap_err().to_string().contains("/no/such/folder/socket"));
        for text in ["tcp:no such host:80", "unix:/no/such/folder/socket"] {
            client_from_string(reactor, text).expect("a description");
        }
        assert_eq!(reactor.statistics().descriptors, 0);
    });
}

#[test]
fn a_header_tells_a_server_behind_a_proxy_who_connects() {
    let peer = Slot::default();
    run(|reactor| {
        let seen = peer.clone();
        let factory = from_fn(move |peer| {
            seen.set(peer.clone());
            let _ = reactor.stop();
            Some(Quiet)
        });
        let server = server_from_string(&reactor, "haproxy:tcp:0:interface=127.0.0.1").unwrap();
        let _ = server.listen(factory).add_callback(move |listening| {
            let header = |to| ProxyHeader::new(ProxyVersion::V2, "192.0.2.7:4711".parse().unwrap(), to);
            let header = header(listening.address().socket().unwrap());
            let client = TcpClientEndpoint::new(&reactor, listening.address());
            wrap_client(client, move |factory| ProxyClientFactory::new(header.clone(), factory)).connect(|| Quiet)
        });
    });
    assert_eq!(peer.get(), tcp("192.0.2.7:4711"));
}

#[test]
fn errors_point_at_the_place() {
    for (text, place, reason) in [
        ("", 0..0, "an empty description; write one such as tcp:8007"),
        ("tcp", 3..3, "tcp needs host"),
        ("tcp:", 4..4, "tcp needs host"),
        ("tcp:h", 5..5, "tcp needs port"),
        ("tcp:h:http", 6..10, "port must be a number from 0 to 65535"),
        ("tcp:h:65536", 6..11, "port must be a number from 0 to 65535"),
        ("tcp::80", 4..4, "host must be a name or an address"),
        ("tcp:host=:80", 9..9, "host must be a name or an address"),
        (r"tcp:h\", 5..6, "a backslash with nothing after it; for a backslash write two"),
        ("tcp:h:1:prot=2", 8..12, "tcp knows no argument \"prot\"; it takes host, port, timeout, bindAddress"),
        ("tcp:h:1:2", 8..9, "too many arguments for tcp; it takes host, port, timeout, bindAddress"),
        ("tcp:host=a:host=b:1", 11..15, "host is given twice"),
        ("tcp:h:1:timeout=-1", 16..18, "timeout must be a number of seconds"),
        ("tcp:h:1:timeout=inf", 16..19, "timeout must be a number of seconds"),
        ("tcp:h:1:bindAddress=x", 20..21, r"bindAddress must be an IP address; the colons of IPv6 are written \:"),
        ("unix:", 5..5, "unix needs path"),
        ("carrier pigeon:x", 0..14, "no kind of endpoint is called \"carrier pigeon\"; there are "),
        ("tcp=x:y", 0..3, "no kind of endpoint is called \"tcp=x\"; there are "),
    ] {
        let error = client_error(text);
        assert_eq!(error.place(), place, "{text}");
        assert_eq!(error.offset(), place.start);
        assert!(error.reason().to_string().starts_with(reason), "{text}: {}", error.reason());
        assert_eq!(error.text(), text);
    }
    let within = server_error("haproxy:tcp:http");
    assert_eq!((within.place(), within.text()), (12..16, "haproxy:tcp:http"));
    assert_eq!(server_error("haproxy:").to_string(), "haproxy needs a description\n  haproxy:\n          ^");
    assert_eq!(server_error("haproxy").place(), 7..7);
    assert!(matches!(server_error(&"haproxy:".repeat(100)).reason(), ParseReason::TooDeep));
    assert_eq!(server_error("tcp6:80:interface=127.0.0.1").reason().to_string(), "interface must be an IPv6 address");
}

#[test]
fn errors_show_the_place_under_the_text() {
    assert_eq!(
        client_error("tcp:bücher.example:80\t:port=x").to_string(),
        "port must be a number from 0 to 65535\n  tcp:bücher.example:80\\u{9}:port=x\n                                  ^"
    );
    let long = format!("tcp:{}:http:{}", "h".repeat(100), "x".repeat(100));
    let shown = client_error(&long).to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[1].len() < 140 && lines[1].starts_with("  ...hhh") && lines[1].ends_with("xxx..."), "{shown}");
    let at = lines[2].find('^').unwrap();
    assert_eq!(&lines[1][at..at + 4], "http");
}

#[test]
fn programs_add_kinds_of_their_own() {
    // END-18
    let mut kinds = Descriptions::new();
    kinds.add_client("Twice", |arguments| {
        let first = arguments.require("first")?.client()?;
        let again = arguments.take("again")?;
        match again {
            Some(again) => again.client(),
            None => Ok(first),
        }
    });
    kinds.add_server("local", |arguments| {
        let port = arguments.require("port")?.port()?;
        if port < 1024 {
            return Err(arguments.wrong("not that port"));
        }
        server_from_string(arguments.reactor(), &format!("tcp:{port}:interface=127.0.0.1"))
    });
    with_reactor(|reactor| {
        assert!(kinds.client(reactor, r"twice:tcp\:h\:80:again=unix\:/x").is_ok());
        // Places within a description in a value are those of the whole.
        let error = kinds.client(reactor, r"twice:tcp\:h\:80:again=tcp\:h\:http").err().unwrap();
        assert_eq!(&error.text()[error.place()], "http");
        let error = kinds.client(reactor, r"twice:twice\:tcp\\\:h\\\:x").err().unwrap();
        assert_eq!(&error.text()[error.place()], "x");
        let error = kinds.server(reactor, "local:80").err().unwrap();
        assert_eq!(error.reason(), &ParseReason::Other("not that port".into()));
        assert!(kinds.server(reactor, "LOCAL:8000").is_ok());
        assert!(kinds.server(reactor, "haproxy:local:8000").is_ok());
        let none = Descriptions::none();
        assert!(none.client(reactor, "tcp:h:80").is_err());
    });
}

#[test]
fn equals_signs_after_the_first_are_the_value_s() {
    // END-15
    for text in ["unix:path=/a=b", r"unix:/a\=b", "unix:path=/a\\=b"] {
        let error = simulate(|reactor, _| Ok(client_from_string(reactor, text)?.connect(|| Quiet))).unwrap_err();
        assert!(error.to_string().contains("/a=b"), "{text}: {error}");
    }
}

#[test]
fn a_client_wrapped_in_a_layer_fires_with_the_transport_of_its_protocol() {
    // A layer with a wire of its own: the peer's header is what it waits for.
    let log = Log::default();
    let noted = log.clone();
    run(move |reactor| {
        let server =
            || Probe::new().on_made(|transport| transport.write("PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\nhello"));
        let at = rig::serve(reactor, server);
        let (made, data) = (noted.clone(), noted.clone());
        let probe = Probe::new().on_made(move |transport| made.add(format!("made {}", transport.peer()))).on_data(
            move |_, bytes| {
                data.add(bytes.escape_ascii());
                let _ = reactor.stop();
            },
        );
        let endpoint = wrap_client(TcpClientEndpoint::new(&reactor, at), ProxyFactory::new);
        let _ = endpoint
            .connect_protocol(probe)
            .add_callback(move |transport| noted.add(format!("fired {}", transport.peer())));
    });
    assert_eq!(log.take(), ["made 192.0.2.7:1", "fired 192.0.2.7:1", "hello"]);
}

#[test]
fn a_wrapped_client_whose_layer_never_comes_about_fails() {
    let outcomes = Log::default();
    let noted = outcomes.clone();
    run(move |reactor| {
        let at = rig::serve(reactor, || Probe::new().on_made(|transport| transport.write("GET /")));
        let unknown = || Probe::new().on_made(|transport| transport.write("PROXY UNKNOWN\r\n"));
        let proper = rig::serve(reactor, unknown);
        let silent = rig::serve(reactor, || Quiet);
        let count = rig::Countdown::new(reactor, 6);
        let wrapped = |at: SocketAddr| wrap_client(TcpClientEndpoint::new(&reactor, at), ProxyFactory::new);
        let cancelled = wrapped(silent).connect(|| Quiet);
        let canceller = cancelled.canceller();
        reactor.call_later(Duration::from_millis(30), move || canceller.cancel());
        let panics = wrap_client(TcpClientEndpoint::new(&reactor, at), |_| -> ProxyFactory { panic!("wrap") });
        let all = [
            wrapped(at).connect(|| Quiet),
            wrapped(closed_port()).connect(|| Quiet),
            wrapped(proper).connect(from_fn(|_| None::<Quiet>)),
            wrapped(proper).connect(|| Probe::new().on_made(|_| panic!("made"))),
            cancelled,
            panics.connect(|| Quiet),
        ];
        for (n, connecting) in all.into_iter().enumerate() {
            let (noted, count) = (noted.clone(), count.clone());
            let _ = connecting.add_both(move |outcome| {
                let failure = outcome.expect_err("no connection");
                let error = failure.check::<ConnectError>().expect("a ConnectError");
                noted.add(format!("{n} {error}"));
                count.done();
            });
        }
    });
    let mut outcomes = outcomes.take();
    outcomes.sort();
    let expected = ["does not begin with a PROXY header", "refused", "built no protocol", "made", "cancelled", "wrap"];
    assert_eq!(outcomes.len(), expected.len());
    for (outcome, expected) in outcomes.iter().zip(expected) {
        assert!(outcome.contains(expected), "{outcome}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in r"(tcp|unix|haproxy|tls|ssl|systemd|stdio|fd|twice)?[a-z0-9:=\\.é\t]{0,40}") {
        with_reactor(|reactor| {
            for error in [client_from_string(reactor, &text).err(), server_from_string(reactor, &text).err()].into_iter().flatten() {
                let shown = error.to_string();
                prop_assert_eq!(shown.lines().count(), 3);
                prop_assert!(text.get(error.place()).is_some());
            }
            Ok(())
        })?;
    }

    #[test]
    fn any_text_at_all_is_an_endpoint_or_an_error(text in any::<String>()) {
        with_reactor(|reactor| {
            if let Err(error) = client_from_string(reactor, &text) {
                let _ = error.to_string();
            }
        });
    }

    #[test]
    fn what_is_quoted_means_itself(value in any::<String>(), by_name in any::<bool>(), nested in any::<bool>()) {
        prop_assume!(!value.is_empty());
        let mut kinds = Descriptions::none();
        let seen = Slot::default();
        let noted = seen.clone();
        kinds.add_client("see", move |arguments| {
            noted.set(arguments.require("value")?.as_str().to_owned());
            client_from_string(arguments.reactor(), "tcp:h:1")
        });
        kinds.add_client("in", |arguments| arguments.require("what")?.client());
        let name = if by_name { "value=" } else { "" };
        let mut text = format!("see:{name}{}", quote(&value));
        if nested {
            text = format!("in:{}", quote(&text));
        }
        with_reactor(|reactor| kinds.client(reactor, &text).map(drop)).unwrap();
        prop_assert_eq!(seen.get(), value);
    }
}
