//! Sockets that are there already: adopted, inherited under a number, handed over by systemd.
mod rig;
mod support;

use rig::{Probe, finish};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::{Child, ChildStdout, Command, Stdio};
use support::{dial, example};
use twistlet::endpoint::{
    ActivatedServerEndpoint, AdoptedServerEndpoint, ClientEndpoint, ServerEndpoint, TcpClientEndpoint,
    UnixClientEndpoint, server_from_string,
};
use twistlet::error::{CannotListen, PortError, ReactorError};
use twistlet::{Address, Failure, Reactor};

#[track_caller]
fn listen(endpoint: &impl ServerEndpoint) -> Result<Address, Failure> {
    let listening = endpoint.listen(Probe::new).try_take().map_err(|_| "pending").expect("at once");
    listening.map(|listening| listening.address().clone())
}

#[test]
fn a_socket_is_adopted_once_whatever_its_family() {
    // END-7
    let folder = support::folder("adopted");
    let path = folder.join("socket");
    let (tcp, unix) = (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(&path).unwrap());
    let at = tcp.local_addr().unwrap();
    let reactor = Reactor::new().unwrap();
    reactor.handle_signals(false);
    let (tcp, unix) = (AdoptedServerEndpoint::new(&reactor, tcp), AdoptedServerEndpoint::new(&reactor, unix));
    assert_eq!(listen(&tcp).unwrap(), Address::Tcp(at));
    assert_eq!(listen(&unix).unwrap(), Address::Unix(Some(path.clone())));
    for endpoint in [&tcp, &unix] {
        assert_eq!(listen(endpoint).unwrap_err().check(), Some(&PortError::AlreadyListening));
    }
    let _ = TcpClientEndpoint::new(&reactor, at).connect(Probe::new).add_callback(move |_| {
        UnixClientEndpoint::new(&reactor, &path).connect(Probe::new).add_callback(move |_| reactor.stop())
    });
    finish(reactor);
    std::fs::remove_dir_all(folder).unwrap();
    // A reactor that is gone takes nothing.
    let late = AdoptedServerEndpoint::new(&reactor, TcpListener::bind("127.0.0.1:0").unwrap());
    assert_eq!(listen(&late).unwrap_err().check(), Some(&ReactorError::Closed));
}

#[test]
fn what_is_no_listening_socket_is_refused_and_closed() {
    let reactor = Reactor::new().unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(listen(&AdoptedServerEndpoint::new(&reactor, file)).unwrap_err().is::<CannotListen>());
    let (pipe, mut writer) = std::io::pipe().unwrap();
    assert!(listen(&AdoptedServerEndpoint::new(&reactor, OwnedFd::from(pipe))).unwrap_err().is::<CannotListen>());
    assert_eq!(writer.write(b"x").map_err(|error| error.kind()), Err(ErrorKind::BrokenPipe));
}

#[test]
fn what_this_process_has_opened_is_not_inherited() {
    let reactor = Reactor::new().unwrap();
    let ours = TcpListener::bind("127.0.0.1:0").unwrap();
    // Not to be closed at exec, as some libraries open everything.
    let bare = socket2::Socket::new_raw(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    bare.listen(1).unwrap();
    for number in [ours.as_raw_fd(), bare.as_raw_fd(), 0, 1, 2, 999, -1, i32::MAX] {
        let endpoint = AdoptedServerEndpoint::inherited(&reactor, number);
        for _ in 0..2 {
            let failure = listen(&endpoint).unwrap_err();
            assert!(failure.to_string().contains(&format!("descriptor {number}")), "{failure}");
        }
    }
    assert!(ours.local_addr().is_ok() && bare.local_addr().is_ok(), "they are open still");
    // Nor is anything handed over to a test.
    assert!(listen(&ActivatedServerEndpoint::indexed(&reactor, 0)).unwrap_err().is::<CannotListen>());
}

#[test]
fn descriptions_of_such_sockets_say_which() {
    let reactor = Reactor::new().unwrap();
    for text in
        ["fd:3", "fd:number=17", "systemd:domain=INET:index=0", "systemd:INET6:0", "systemd:domain=UNIX:name=web"]
    {
        assert!(server_from_string(&reactor, text).is_ok(), "{text}");
    }
    for text in [
        "fd:",
        "fd:x",
        "fd:2",
        "fd:-1",
        "systemd:",
        "systemd:domain=INET",
        "systemd:domain=INET:index=0:name=x",
        "systemd:domain=X:index=0",
        "systemd:domain=INET:index=-1",
        "systemd:domain=INET:index=0:port=1",
    ] {
        assert!(server_from_string(&reactor, text).is_err(), "{text}");
    }
}

/// A server that is started with `listener` as descriptor 3, by `sh` with `variables`.
struct Server {
    child: Child,
    lines: BufReader<ChildStdout>,
}
impl Server {
    fn start(listener: &TcpListener, variables: &str, endpoint: &str) -> Server {
        let script = format!("exec 3<&0 </dev/null; {variables} exec \"$0\" \"$1\"");
        let socket = OwnedFd::from(listener.try_clone().unwrap());
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .arg(example("haproxy_server"))
            .arg(endpoint)
            .stdin(socket)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sh");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Server { child, lines }
    }
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("readable");
        line.trim_end().to_owned()
    }
    fn errors(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut text).expect("readable");
        text
    }
}
impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
fn ask(at: SocketAddr) -> String {
    let mut stream = dial(at);
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_server_started_with_a_socket_listens_on_it() {
    // SYD-1
    let systemd = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web";
    for (variables, endpoint) in
        [(systemd, "systemd:domain=INET:index=0"), (systemd, "systemd:domain=INET:name=web"), ("", "fd:3")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let mut server = Server::start(&listener, variables, endpoint);
        drop(listener);
        assert_eq!(server.line(), format!("listening on {at}"), "{endpoint}");
        assert!(ask(at).contains("you are 127.0.0.1:"));
    }
}

#[test]
fn sockets_for_others_and_of_other_kinds_are_left_alone() {
    // SYD-1
    for (variables, endpoint, told) in [
        ("LISTEN_PID=1 LISTEN_FDS=1 LISTEN_FDNAMES=web", "systemd:domain=INET:index=0", "systemd did not hand it over"),
        (
            "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=web",
            "systemd:domain=INET:index=0",
            "systemd did not hand it over",
        ),
        ("LISTEN_PID=$$ LISTEN_FDS=1", "systemd:domain=INET:name=web", "systemd did not hand it over"),
        ("LISTEN_PID=$$ LISTEN_FDS=1", "systemd:domain=UNIX:name=unknown", "it is no socket of the domain"),
        ("", "fd:4", "descriptor 4"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut server = Server::start(&listener, variables, endpoint);
        assert_eq!(server.line(), "");
        let errors = server.errors();
        assert!(errors.contains(told), "{endpoint}: {errors}");
    }
}
