//! The founding SRV connector, whole: as a program, against a name server and a TLS server that the test runs.
#![cfg(feature = "green")]
mod nameserver;
mod support;

use nameserver::{A, Asked, Line, NameServer, SRV};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use support::Program;
use twistlet::transport::tls::ServerConfig;
use twistlet::{ConnectionClosed, Protocol, Reactor, Remote, TransportRef};

const NAME: &str = "_msrps._tcp.ag-projects.com";

/// A relay that answers a request when it is complete, and notes what it was sent.
struct Relay {
    got: String,
    heard: Sender<String>,
}
impl Protocol for Relay {
    fn data_received(&mut self, wire: TransportRef, data: &[u8]) {
        self.got.push_str(&String::from_utf8_lossy(data));
        if self.got.ends_with("-------49fh$\r\n") {
            wire.write("MSRP 49fh 200 OK\r\nTo-Path: msrps://alice.example.com:9892/98cjs;tcp\r\n\x07odd\r\n-------49fh$\r\nnot read\r\n");
        }
    }
    fn connection_lost(&mut self, _: TransportRef, _: &ConnectionClosed) {
        let _ = self.heard.send(std::mem::take(&mut self.got));
    }
}

/// A thread with a name server, whose SRV records name a port where nobody listens and then the relay, and the relay, whose
/// certificate is for `certified`.
struct World {
    dns: SocketAddr,
    relay: SocketAddr,
    dead: u16,
    roots: PathBuf,
    heard: std::sync::mpsc::Receiver<String>,
    remote: Remote,
    thread: Option<JoinHandle<()>>,
}
impl World {
    fn new(certified: &str) -> World {
        let made = rcgen::generate_simple_self_signed([certified.to_owned()]).expect("a certificate");
        let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        // The tests of this program run side by side.
        static WORLDS: AtomicUsize = AtomicUsize::new(0);
        let number = WORLDS.fetch_add(1, Ordering::Relaxed);
        let roots = std::env::temp_dir().join(format!("twistlet-srv-{}-{number}.pem", std::process::id()));
        std::fs::write(&roots, &pem).expect("written");
        let (tell, told) = channel();
        let (hear, heard) = channel();
        let thread = std::thread::spawn(move || {
            let reactor = Reactor::new().expect("a reactor");
            reactor.handle_signals(false);
            let config = ServerConfig::from_pem(pem, key).expect("a good pair");
            let factory = move || Relay { got: String::new(), heard: hear.clone() };
            let relay = reactor.listen_tls("127.0.0.1:0", &config, factory).expect("a free port");
            let relay = relay.address().socket().expect("it listens");
            let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let dead = closed.expect("a free port").port();
            let server = NameServer::here(&reactor, move |asked: &Asked, line: Line| {
                line.send(match (asked.kind, &*asked.name) {
                    (SRV, NAME) => asked.reply().srv(NAME, 20, 0, relay.port(), "relay.ag-projects.com").srv(
                        NAME,
                        10,
                        0,
                        dead,
                        "dead.ag-projects.com",
                    ),
                    (A, "relay.ag-projects.com" | "dead.ag-projects.com") => {
                        asked.reply().ip(&asked.name, [127, 0, 0, 1])
                    }
                    (_, "gone.test" | "_msrps._tcp.gone.test") => asked.reply().code(3),
                    _ => asked.reply(),
                });
            });
            tell.send((server.at, relay, dead, reactor.remote())).expect("somebody waits");
            reactor.run().expect("it runs");
        });
        let (dns, relay, dead, remote) = told.recv().expect("it starts");
        World { dns, relay, dead, roots, heard, remote, thread: Some(thread) }
    }
    fn run(&self, more: &[&str]) -> Program {
        let (dns, roots) = (self.dns.to_string(), self.roots.display().to_string());
        Program::example("srv_connector", &[&["--dns", &dns, "--roots", &roots], more].concat())
    }
}
impl Drop for World {
    fn drop(&mut self) {
        let _ = self.remote.call_from_thread(|reactor| reactor.stop());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.roots);
    }
}

#[track_caller]
fn assert_talks(world: &World, more: &[&str]) {
    let (status, output, errors) = world.run(more).finish();
    assert!(status.success(), "{status}; {errors}");
    let expected = format!(
        "resolved {NAME} --> dead.ag-projects.com:{}\nresolved {NAME} --> relay.ag-projects.com:{}\n\
         Sending:\nMSRP 49fh AUTH\nTo-Path: msrps://alice@intra.example.com;tcp\n\
         From-Path: msrps://alice.example.com:9892/98cjs;tcp\n-------49fh$\n\nReceived:\nMSRP 49fh 200 OK\n\
         To-Path: msrps://alice.example.com:9892/98cjs;tcp\n\\x07odd\n-------49fh$",
        world.dead,
        world.relay.port()
    );
    let output: Vec<_> = output.iter().map(|line| line.trim_end_matches('\r')).collect();
    assert_eq!(output.join("\n"), expected);
    assert!(world.heard.recv_timeout(support::PATIENCE).expect("it was there").starts_with("MSRP 49fh AUTH\r\n"));
}

// EX-05, TW-55
#[test]
fn the_srv_connector_tells_of_the_servers_it_tries_and_talks_lines_over_tls() {
    assert_talks(&World::new("ag-projects.com"), &[]);
}

#[test]
fn on_request_the_servers_prove_their_own_names() {
    let world = World::new("relay.ag-projects.com");
    assert_talks(&world, &["--by-host"]);
    // Otherwise that is a stranger: nothing is said to him.
    let (status, output, errors) = world.run(&[]).finish();
    assert_eq!(status.code(), Some(1));
    assert!(errors.starts_with("srv_connector: cannot connect to 127.0.0.1:"), "the first server's failure: {errors}");
    assert!(!output.iter().any(|line| line.contains("Sending")), "{output:?}");
    assert_eq!(world.heard.recv_timeout(support::PATIENCE).as_deref(), Ok(""));
}

#[test]
fn without_network_records_or_sense_it_says_what_is_wrong() {
    let world = World::new("ag-projects.com");
    let fails = |program: Program, expected: &str| {
        let (status, _, errors) = program.finish();
        assert_eq!(status.code(), Some(1), "{errors}");
        assert!(errors.starts_with("srv_connector: ") && errors.contains(expected), "{errors}");
        assert!(!errors.contains("panicked"), "{errors}");
    };
    // UDP that nobody hears.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
    fails(Program::example("srv_connector", &["--dns", &silent.to_string()]), "no name server could be reached");
    fails(
        world.run(&["msrps", "gone.test"]),
        "gone.test has no SRV records for the service \"msrps\", whose port is not known either",
    );
    fails(Program::example("srv_connector", &["--roots", "/nonexistent"]), "No such file");
    for bad in [&["--dns"][..], &["--dns", "nonsense"], &["--nonsense"], &["one"], &["one", "two", "three"]] {
        let (status, _, errors) = Program::example("srv_connector", bad).finish();
        assert_eq!(status.code(), Some(2));
        assert!(errors.starts_with("usage: srv_connector"), "{errors}");
    }
}
