//! Endpoints from green code: any of them as a synchronous call, and green threads behind any that listens.
#![cfg(feature = "green")]
mod certs;
mod guard;
mod pair;
mod support;

use certs::{client, server};
use guard::guarded;
use pair::{creator, listen, until};
use std::cell::{Cell, RefCell};
use std::fs;
use std::rc::Rc;
use std::time::Duration;
use support::folder;
use twistlet::endpoint::{
    ClientEndpoint, HostnameEndpoint, ProcessClientEndpoint, ServerEndpoint, TcpClientEndpoint, TcpServerEndpoint,
    client_from_string, quote, server_from_string, wrap_client, wrap_client_tls, wrap_server_tls,
};
use twistlet::error::Cancelled;
use twistlet::green::{GreenTransport, SpawnFactory, block_on, spawn, with_timeout};
use twistlet::protocols::Lines;
use twistlet::protocols::proxy::{ProxyClientFactory, ProxyHeader, ProxyVersion};
use twistlet::transport::process::Command;
use twistlet::transport::resolver::from_fn;
use twistlet::transport::tls::TlsError;
use twistlet::{ConnectError, Deferred, Factory, Reactor, Result, TransportRef};

/// Says who is there, and then the same as its client.
fn greeter() -> SpawnFactory<Lines> {
    SpawnFactory::framed(Lines::new, |conn| {
        conn.send_line(conn.peer().to_string());
        for line in &conn {
            conn.send_line(line?);
        }
        Ok(())
    })
}
#[track_caller]
fn ok<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|failure| panic!("{failure}"))
}
/// What a client of `to` is greeted with; they get on.
#[track_caller]
fn greeted(to: impl ClientEndpoint) -> String {
    let conn = ok(creator().framed(Lines::new).connect(to));
    let greeting = ok(conn.read_line()).expect("a line");
    conn.send_line("hello");
    assert_eq!(ok(conn.read_line()).expect("a line"), "hello");
    ok(conn.close());
    String::from_utf8_lossy(&greeting).into_owned()
}
fn from_string(text: &str) -> Box<dyn ClientEndpoint> {
    client_from_string(&Reactor::current(), text).unwrap_or_else(|error| panic!("{error}"))
}
/// Where the greeter listens, as a string says.
#[track_caller]
fn serve(text: &str) -> u16 {
    let endpoint = server_from_string(&Reactor::current(), text).unwrap_or_else(|error| panic!("{error}"));
    ok(block_on(endpoint.listen(greeter()))).address().port().unwrap_or_default()
}

// TW-52, END-15: as in twistedutil, but for whatever a string says
#[test]
fn strings_say_where_green_threads_connect_and_listen() {
    guarded(|| {
        let port = serve("tcp:0:interface=127.0.0.1");
        assert!(greeted(from_string(&format!("tcp:127.0.0.1:{port}"))).starts_with("127.0.0.1:"));

        let folder = folder("green-endpoint");
        let path = quote(folder.join("socket").to_str().expect("text"));
        serve(&format!("unix:{path}:mode=600:backlog=5"));
        assert!(!greeted(from_string(&format!("unix:{path}:lockfile=1:timeout=5"))).is_empty());

        let [pem, root] = ["server.pem", "root.pem"].map(|name| folder.join(name));
        let pair = certs::authority().issue(&["localhost"]);
        fs::write(&pem, pair.chain + &pair.key)
            .and_then(|()| fs::write(&root, &certs::authority().root))
            .expect("files");
        let [pem, root] = [pem, root].map(|path| quote(path.to_str().expect("text")));
        let port = serve(&format!("tls:0:interface=127.0.0.1:privateKey={pem}"));
        assert!(greeted(from_string(&format!("tls:localhost:{port}:trustRoots={root}"))).starts_with("127.0.0.1:"));
    });
}

// HAP-3: both versions, with and without TLS within
#[test]
fn green_threads_stand_behind_a_proxy_header_and_send_one() {
    guarded(|| {
        let port = serve("haproxy:tcp:0:interface=127.0.0.1");
        let reactor = Reactor::current();
        let to = TcpClientEndpoint::new(&reactor, ("127.0.0.1", port));
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            let header = ProxyHeader::new(version, ([192, 0, 2, 7], 4711).into(), ([192, 0, 2, 1], 80).into());
            let to = wrap_client(to.clone(), move |factory| ProxyClientFactory::new(header.clone(), factory));
            assert_eq!(greeted(to), "192.0.2.7:4711");
        }
        let proxied = server_from_string(&reactor, "haproxy:tcp:0:interface=127.0.0.1").expect("a description");
        let port = ok(block_on(wrap_server_tls(proxied, &server()).listen(greeter()))).address().port();
        let header = ProxyHeader::new(ProxyVersion::V2, ([192, 0, 2, 8], 4711).into(), ([192, 0, 2, 1], 80).into());
        let to = TcpClientEndpoint::new(&reactor, ("127.0.0.1", port.expect("a port")));
        let to = wrap_client(to, move |factory| ProxyClientFactory::new(header.clone(), factory));
        assert_eq!(greeted(wrap_client_tls(to, &client(), "localhost")), "192.0.2.8:4711");
    });
}

// END-8
#[test]
fn a_child_is_talked_to_as_any_endpoint() {
    guarded(|| {
        let script = "while read line; do echo $line; done";
        let reactor = Reactor::current();
        let shell = ProcessClientEndpoint::new(&reactor, move || Command::new("sh").args(["-c", script]));
        let conn = ok(creator().framed(|| Lines::new().delimiter(b"\n")).connect(&shell));
        conn.transport().write("one\ntwo\n");
        assert_eq!(ok(conn.read_line()).expect("a line"), "one");
        assert_eq!(ok(conn.read_line()).expect("a line"), "two");
        conn.lose_write_connection();
        assert!(ok(conn.read_line()).is_none());

        let failure = creator().connect(ProcessClientEndpoint::new(&reactor, || Command::new("/no/such")));
        assert!(matches!(failure.expect_err("no program").check(), Some(ConnectError::Failed(_))));
    });
}

// END-9, TW-53: what goes wrong is a value
#[test]
fn a_name_is_raced_for_and_what_fails_is_told() {
    guarded(|| {
        let port = listen(greeter()).port();
        let reactor = Reactor::current();
        reactor.set_resolver(from_fn(|host| match host {
            "both.test" => Deferred::succeed(vec![[127, 77, 0, 1].into(), [127, 0, 0, 1].into()]),
            _ => Deferred::fail(ConnectError::UnknownHost { host: host.to_owned() }),
        }));
        assert!(greeted(HostnameEndpoint::new(&reactor, "both.test", port)).starts_with("127.0.0.1:"));
        let failure = creator().connect(HostnameEndpoint::new(&reactor, "none.test", port)).expect_err("no such host");
        assert_eq!(failure.check(), Some(&ConnectError::UnknownHost { host: "none.test".to_owned() }));

        let tls =
            ok(block_on(wrap_server_tls(TcpServerEndpoint::new(&reactor, "127.0.0.1:0"), &server()).listen(greeter())));
        let to = || TcpClientEndpoint::new(&reactor, tls.address());
        let failure = creator().connect(wrap_client_tls(to(), &client(), "wrong.example")).expect_err("not its name");
        let Some(ConnectError::Tls(why)) = failure.check() else { panic!("{failure}") };
        assert!(matches!(why.check(), Some(TlsError::WrongName { .. })), "{why}");
        assert!(greeted(wrap_client_tls(to(), &client(), "localhost")).starts_with("127.0.0.1:"));
    });
}

/// Makes several connections, and says that one of them is it; or never says anything.
struct Several {
    to: TcpClientEndpoint,
    chosen: Option<usize>,
}
impl ClientEndpoint for Several {
    fn connect_boxed(&self, factory: Box<dyn Factory>) -> Deferred<TransportRef> {
        let factory = Rc::new(RefCell::new(factory));
        let all = (0..3).map(|_| {
            let factory = Rc::clone(&factory);
            self.to.connect(twistlet::from_fn(move |peer| factory.borrow_mut().build_protocol(peer).map(Any)))
        });
        let chosen = self.chosen;
        twistlet::deferred::gather_results(all).add_callback(move |made: Vec<TransportRef>| match chosen {
            Some(at) => Deferred::succeed(made[at]),
            None => {
                let (promise, never) = Deferred::new();
                std::mem::forget(promise);
                never
            }
        })
    }
}
struct Any(Box<dyn twistlet::Protocol>);
impl twistlet::Protocol for Any {
    fn connection_made(&mut self, transport: TransportRef) {
        self.0.connection_made(transport);
    }
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        self.0.data_received(transport, data);
    }
    fn connection_lost(&mut self, transport: TransportRef, reason: &twistlet::ConnectionClosed) {
        self.0.connection_lost(transport, reason);
    }
}

#[test]
fn of_several_connections_the_one_that_the_endpoint_names_is_it_and_the_others_are_closed() {
    guarded(|| {
        let served = Rc::new(Cell::new(0));
        let count = Rc::clone(&served);
        let factory = SpawnFactory::new(move |conn: GreenTransport| {
            count.set(count.get() + 1);
            while let Some(data) = conn.recv()? {
                conn.write(data)?;
            }
            Ok(())
        });
        let port = listen(factory.clone());
        let to = TcpClientEndpoint::new(&Reactor::current(), port);
        for chosen in [0, 1, 2] {
            let conn = ok(creator().connect(Several { to: to.clone(), chosen: Some(chosen) }));
            ok(conn.write("this one"));
            assert_eq!(ok(conn.read_n(8)), "this one");
            until(|| factory.running() == 1);
            drop(conn);
            until(|| factory.running() == 0);
        }
        assert_eq!(served.get(), 9);
        // Given up, none is left.
        let endless = Several { to, chosen: None };
        let outcome = with_timeout(Duration::from_millis(50), || creator().connect(endless));
        assert!(outcome.is_err());
        until(|| served.get() == 12 && factory.running() == 0);
    });
}

#[test]
fn a_green_thread_that_is_killed_while_it_connects_gives_the_attempt_up() {
    guarded(|| {
        let reactor = Reactor::current();
        let (asked, given_up) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
        let (asks, noted) = (Rc::clone(&asked), Rc::clone(&given_up));
        reactor.set_resolver(from_fn(move |_| {
            asks.set(true);
            let noted = Rc::clone(&noted);
            let (promise, answer) = Deferred::new();
            promise.on_cancel(move || noted.set(true));
            std::mem::forget(promise);
            answer
        }));
        let thread = spawn(move || creator().connect(HostnameEndpoint::new(&reactor, "slow.test", 80)).map(drop));
        until(|| asked.get());
        thread.kill();
        assert!(thread.wait().is_err());
        assert!(given_up.get());
        // A Deferred that is cancelled below says so.
        let cancelled = wrap_client(Cancels, |factory| factory);
        let failure = creator().connect(cancelled).expect_err("cancelled");
        assert_eq!(failure.check(), Some(&ConnectError::Cancelled));
    });
}
struct Cancels;
impl ClientEndpoint for Cancels {
    fn connect_boxed(&self, _: Box<dyn Factory>) -> Deferred<TransportRef> {
        Deferred::fail(Cancelled)
    }
}
