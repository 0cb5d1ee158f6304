//! TLS around endpoints, and endpoints that strings describe with it.
mod certs;
mod rig;
mod support;

use certs::{authority, client, pair, server};
use rig::{Countdown, Log, Probe, Slot, run, serve};
use std::fs;
use std::time::Duration;
use support::folder;
use twistlet::endpoint::{
    ClientEndpoint, HostnameEndpoint, ServerEndpoint, TcpClientEndpoint, TcpServerEndpoint, client_from_string, quote,
    server_from_string, wrap_client, wrap_client_tls, wrap_server, wrap_server_tls,
};
use twistlet::error::CannotListen;
use twistlet::protocols::proxy::{ProxyClientFactory, ProxyFactory, ProxyHeader, ProxyVersion};
use twistlet::transport::resolver::{Hosts, HostsResolver, SystemResolver};
use twistlet::transport::tls::TlsError;
use twistlet::{ConnectError, Protocol, Reactor, TransportRef, from_fn};

struct Echo;
impl Protocol for Echo {
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        transport.write(data);
    }
}
fn quiet() -> Probe {
    Probe::new()
}
/// What a client that connects to `server` with `client` hears to its "hello".
#[track_caller]
fn talk(
    server: impl FnOnce(&Reactor) -> Box<dyn ServerEndpoint>,
    client: impl FnOnce(&Reactor, u16) -> Box<dyn ClientEndpoint> + 'static,
) -> Vec<String> {
    let log = Log::default();
    let noted = log.clone();
    run(move |reactor| {
        let server = server(&reactor);
        let who = noted.clone();
        let listening = server.listen(from_fn(move |peer| {
            who.add(format!("from {}", peer.ip().expect("an address")));
            Some(Echo)
        }));
        let _ = listening.add_callback(move |listening| {
            let client = client(&reactor, listening.address().port().expect("a port"));
            let data = noted.clone();
            let probe = Probe::new().on_made(|transport| transport.write("hello")).on_data(move |_, bytes| {
                data.add(bytes.escape_ascii());
                let _ = reactor.stop();
            });
            client.connect_protocol(probe).add_callback(move |transport| {
                noted.add(format!("connected, secure: {}", transport.is_secure() && transport.tls_info().is_some()));
            })
        });
    });
    let mut heard = log.take();
    heard.retain(|line| !line.starts_with("from 127."));
    heard
}

#[test]
fn connecting_by_tls_is_done_when_the_handshake_is() {
    // END-1, END-7, TLS-5
    let heard = talk(
        |reactor| Box::new(wrap_server_tls(TcpServerEndpoint::new(reactor, "127.0.0.1:0"), &server())),
        |reactor, port| {
            Box::new(wrap_client_tls(HostnameEndpoint::new(reactor, "127.0.0.1", port), &client(), "example.org"))
        },
    );
    assert_eq!(heard, ["connected, secure: true", "hello"]);
}

#[test]
fn a_server_may_have_an_international_name() {
    // END-12
    let pair = authority().issue(&["xn--bcher-kva.test"]);
    let config = twistlet::transport::tls::ServerConfig::from_pem(&pair.chain, &pair.key).unwrap();
    let heard = talk(
        move |reactor| Box::new(wrap_server_tls(TcpServerEndpoint::new(reactor, "127.0.0.1:0"), &config)),
        |reactor, port| {
            let hosts = Hosts::new().with("Bücher.test", [127, 0, 0, 1].into());
            reactor.set_resolver(HostsResolver::new(hosts, SystemResolver::new(reactor)));
            Box::new(wrap_client_tls(HostnameEndpoint::new(reactor, "bücher.test", port), &client(), "bücher.test"))
        },
    );
    assert_eq!(heard, ["connected, secure: true", "hello"]);
}

#[test]
fn a_handshake_that_fails_fails_the_connect() {
    let errors = Log::default();
    let noted = errors.clone();
    run(move |reactor| {
        let tls = serve(reactor, twistlet::transport::tls::wrap_factory(server(), quiet));
        let plain = serve(reactor, || Probe::new().on_made(|transport| transport.write("220 mail.example.org\r\n")));
        let closing = serve(reactor, || Probe::new().on_made(|transport| transport.lose_connection()));
        let silent = serve(reactor, quiet);
        let to = |at, name: &str| wrap_client_tls(TcpClientEndpoint::new(&reactor, at), &client(), name);
        let impatient = client().handshake_timeout(Duration::from_millis(20));
        let cancelled = to(silent, "localhost").connect(quiet);
        let canceller = cancelled.canceller();
        reactor.call_later(Duration::from_millis(30), move || canceller.cancel());
        let all = [
            to(tls, "wrong.example").connect(quiet),
            to(plain, "localhost").connect(quiet),
            to(closing, "localhost").connect(quiet),
            wrap_client_tls(TcpClientEndpoint::new(&reactor, silent), &impatient, "localhost").connect(quiet),
            to(rig::closed_port(), "localhost").connect(quiet),
            to(tls, "localhost").connect(|| Probe::new().on_made(|_| panic!("made"))),
            to(tls, "localhost").connect(from_fn(|_| None::<Probe>)),
            cancelled,
        ];
        let count = Countdown::new(reactor, all.len());
        for (n, connecting) in all.into_iter().enumerate() {
            let (noted, count) = (noted.clone(), count.clone());
            let _ = connecting.add_both(move |outcome| {
                let failure = outcome.expect_err("no connection");
                noted.add(match failure.check::<ConnectError>().expect("a ConnectError") {
                    ConnectError::Tls(why) => match why.check::<TlsError>().expect("a TlsError") {
                        TlsError::WrongName { .. } => format!("{n} wrong name"),
                        TlsError::NotTls(_) => format!("{n} not TLS"),
                        TlsError::EndedInHandshake => format!("{n} ended"),
                        TlsError::HandshakeTimedOut(_) => format!("{n} timed out"),
                        other => format!("{n} {other:?}"),
                    },
                    ConnectError::Refused { .. } => format!("{n} refused"),
                    ConnectError::Failed(failure) if failure.is_panic() => format!("{n} panicked"),
                    ConnectError::NoProtocol => format!("{n} no protocol"),
                    ConnectError::Cancelled => format!("{n} cancelled"),
                    other => format!("{n} {other:?}"),
                });
                count.done();
            });
        }
    });
    let mut errors = errors.take();
    errors.sort();
    let expected = [
        "0 wrong name",
        "1 not TLS",
        "2 ended",
        "3 timed out",
        "4 refused",
        "5 panicked",
        "6 no protocol",
        "7 cancelled",
    ];
    assert_eq!(errors, expected);
}

#[test]
fn tls_and_a_proxy_header_stand_in_either_order() {
    let header = || ProxyHeader::new(ProxyVersion::V2, "192.0.2.7:1".parse().unwrap(), "192.0.2.8:2".parse().unwrap());
    // In front of TLS, as load balancers that do not terminate it send it.
    let heard = talk(
        |reactor| {
            let behind = wrap_server(TcpServerEndpoint::new(reactor, "127.0.0.1:0"), ProxyFactory::new);
            Box::new(wrap_server_tls(behind, &server()))
        },
        move |reactor, port| {
            let tcp = TcpClientEndpoint::new(reactor, ("127.0.0.1", port));
            let introduced = wrap_client(tcp, move |factory| ProxyClientFactory::new(header(), factory));
            Box::new(wrap_client_tls(introduced, &client(), "localhost"))
        },
    );
    assert_eq!(heard, ["from 192.0.2.7", "connected, secure: true", "hello"]);
    // Inside it.
    let heard = talk(
        |reactor| {
            let secure = wrap_server_tls(TcpServerEndpoint::new(reactor, "127.0.0.1:0"), &server());
            Box::new(wrap_server(secure, ProxyFactory::new))
        },
        move |reactor, port| {
            let tcp = TcpClientEndpoint::new(reactor, ("127.0.0.1", port));
            let secure = wrap_client_tls(tcp, &client(), "localhost");
            Box::new(wrap_client(secure, move |factory| ProxyClientFactory::new(header(), factory)))
        },
    );
    assert_eq!(heard[0], "connected, secure: true");
    let mut heard = heard;
    heard.sort();
    assert_eq!(heard, ["connected, secure: true", "from 192.0.2.7", "hello"]);
}

#[test]
fn a_connection_behind_a_proxy_header_can_start_tls() {
    let heard = Slot::default();
    let seen = heard.clone();
    run(move |reactor| {
        let server_side = || {
            Probe::new().on_data(|transport, data| match transport.is_secure() {
                true => write!(transport, "{} from {}", data.escape_ascii(), transport.peer()),
                false => {
                    transport.write("go on");
                    transport.start_tls(server());
                }
            })
        };
        let at = serve(reactor, ProxyFactory::new(server_side));
        let header = ProxyHeader::new(ProxyVersion::V1, "192.0.2.7:1".parse().unwrap(), at);
        let client_side =
            Probe::new().on_made(|transport| transport.write("STARTTLS")).on_data(move |transport, data| {
                if transport.is_secure() {
                    seen.set(String::from_utf8_lossy(data).into_owned());
                    let _ = reactor.stop();
                    return;
                }
                transport.start_tls(client().named("localhost"));
                transport.write("hello");
            });
        let tcp = TcpClientEndpoint::new(&reactor, at);
        let _ = wrap_client(tcp, move |factory| ProxyClientFactory::new(header.clone(), factory))
            .connect_protocol(client_side);
    });
    assert_eq!(heard.get(), "hello from 192.0.2.7:1");
}

#[test]
fn strings_describe_tls_with_files() {
    // END-16, END-17
    let folder = folder("endpoint-tls");
    let path = |name: &str| quote(folder.join(name).to_str().unwrap());
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    write("key.pem", &pair().key);
    write("cert.pem", &pair().chain);
    write("both.pem", &format!("{}{}", pair().chain, pair().key));
    fs::create_dir(folder.join("roots")).unwrap();
    write("roots/ours.pem", &authority().root);
    write("roots/README", "no certificate");

    let servers = [
        format!("ssl:0:interface=127.0.0.1:privateKey={}:certKey={}", path("key.pem"), path("cert.pem")),
        format!("tls:port=0:interface=127.0.0.1:privateKey={}:extraCertChain={}", path("both.pem"), path("cert.pem")),
        format!(r"ssl:privateKey={}:endpoint=tcp\:0\:interface\=127.0.0.1", path("both.pem")),
    ];
    let clients: [fn(u16, &str, &str) -> String; 3] = [
        |port, roots, _| format!("tls:localhost:{port}:bindAddress=127.0.0.1:trustRoots={roots}"),
        |port, roots, both| format!("tls:host=127.0.0.1:port={port}:trustRoots={roots}:certificate={both}:timeout=5"),
        |port, roots, _| format!(r"ssl:example.org:443:trustRoots={roots}:endpoint=tcp\:127.0.0.1\:{port}"),
    ];
    for (server, client) in servers.into_iter().zip(clients) {
        let (roots, both) = (path("roots"), path("both.pem"));
        let heard = talk(
            move |reactor| server_from_string(reactor, &server).unwrap(),
            move |reactor, port| client_from_string(reactor, &client(port, &roots, &both)).unwrap(),
        );
        assert_eq!(heard, ["connected, secure: true", "hello"]);
    }
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn files_that_are_not_there_are_missed_when_they_are_used() {
    let reactor = Reactor::new().unwrap();
    let server = server_from_string(&reactor, "ssl:0:interface=127.0.0.1:privateKey=/no/such/key.pem").unwrap();
    let failure = server.listen(quiet).try_take().map_err(|_| "pending").unwrap().unwrap_err();
    assert!(failure.is::<CannotListen>() && failure.to_string().contains("/no/such/key.pem"), "{failure}");
    let client = client_from_string(&reactor, "tls:localhost:1:trustRoots=/no/such/roots").unwrap();
    let failure = client.connect(quiet).try_take().map_err(|_| "pending").unwrap().unwrap_err();
    assert!(
        matches!(failure.check(), Some(ConnectError::Tls(why)) if why.to_string().contains("/no/such/roots")),
        "{failure}"
    );
    let missing = client_from_string(&reactor, "tls:localhost").err().unwrap();
    assert_eq!(missing.reason().to_string(), "tls needs port");
    let unknown = client_from_string(&reactor, "tls:h:1:sslmethod=SSLv3").err().unwrap();
    assert_eq!(&unknown.text()[unknown.place()], "sslmethod");
    reactor.close();
}

#[test]
fn a_tls_client_s_slot_is_free_after_it_fired() {
    // The Deferred's callbacks may close the connection they were told of.
    let reason = Slot::default();
    run(|reactor| {
        let at = serve(reactor, twistlet::transport::tls::wrap_factory(server(), || Echo));
        let endpoint = wrap_client_tls(TcpClientEndpoint::new(&reactor, at), &client(), "localhost");
        let _ = endpoint
            .connect_protocol(Probe::new().until_lost(reactor, &reason))
            .add_callback(|transport| transport.lose_connection());
    });
    assert!(reason.get().is_clean());
}
