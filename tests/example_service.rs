//! examples/service_app.rs as another process: it serves, stops in order, restarts without a gap, and talks to systemd.
mod support;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use support::{PATIENCE, dial, example, folder};

/// The program and its successors, which have its output too.
struct App {
    child: Option<Child>,
    lines: Receiver<String>,
    pids: Vec<u32>,
}

fn at(place: &str, drain: u64) -> Command {
    let mut command = Command::new(example("service_app"));
    command.args([place, &drain.to_string()]);
    command
}

impl App {
    fn start(command: &mut Command) -> App {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let (sender, lines) = channel();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("piped")), Box::new(child.stderr.take().expect("piped"))];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        App { child: Some(child), lines, pids: Vec::new() }
    }
    /// The next line that contains `text`.
    #[track_caller]
    fn line_with(&self, text: &str) -> String {
        let mut others = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => others.push(line),
                Err(error) => panic!("no line with {text:?} ({error}), but {others:#?}"),
            }
        }
    }
    /// Waits until one listens; says where.
    #[track_caller]
    fn listening(&mut self) -> SocketAddr {
        self.listening_somewhere().parse().expect("an address")
    }
    #[track_caller]
    fn listening_somewhere(&mut self) -> String {
        let line = self.line_with("is listening on");
        let words: Vec<&str> = line.split(' ').collect();
        self.pids.push(words[1].parse().expect("a process"));
        words[5].to_owned()
    }
    fn signal(&self, name: &str) {
        let pid = self.pids.last().expect("it listens").to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "no {name} for {pid}");
    }
    /// Waits for the end of the first process.
    #[track_caller]
    fn finish(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("once");
        let pid = child.id();
        let (sender, ended) = channel();
        std::thread::spawn(move || sender.send(child.wait()));
        match ended.recv_timeout(PATIENCE) {
            Ok(status) => status.expect("waitable"),
            Err(_) => {
                let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
                panic!("process {pid} does not end")
            }
        }
    }
}
impl Drop for App {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        for pid in self.pids.iter().skip(1) {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
        }
    }
}

/// One word there and back.
fn echo(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"hello")?;
    let mut back = [0; 5];
    stream.read_exact(&mut back)?;
    assert_eq!(&back, b"hello");
    Ok(())
}
/// Waits until nobody listens at `at`.
fn wait_until_refused(at: SocketAddr) {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(at).is_ok() {
        assert!(Instant::now() < deadline, "connections are still accepted");
    }
}
fn is_running(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z"))
}
fn wait_for_end_of(pid: u32) {
    let deadline = Instant::now() + PATIENCE;
    while is_running(pid) {
        assert!(Instant::now() < deadline, "process {pid} does not end");
        std::thread::yield_now();
    }
}

#[test]
fn it_serves_and_stops_when_the_connections_that_are_there_have_ended() {
    let mut app = App::start(&mut at("127.0.0.1:0", 60));
    let address = app.listening();
    let mut stream = dial(address);
    echo(&mut stream).unwrap();
    app.line_with("answers");
    app.signal("TERM");
    app.line_with("stops");
    wait_until_refused(address);
    // Not cut off.
    echo(&mut stream).unwrap();
    drop(stream);
    assert_eq!(app.finish().code(), Some(0));
}

#[test]
fn connections_that_do_not_end_are_closed_in_time() {
    let mut app = App::start(&mut at("127.0.0.1:0", 1));
    let mut stream = dial(app.listening());
    echo(&mut stream).unwrap();
    app.signal("INT");
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0, "in order");
    assert_eq!(app.finish().code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut app = App::start(&mut at("127.0.0.1:0", 600));
    let mut stream = dial(app.listening());
    echo(&mut stream).unwrap();
    app.signal("TERM");
    app.line_with("stops");
    app.signal("TERM");
    assert_eq!(app.finish().signal(), Some(15));
}

#[test]
fn what_cannot_start_says_why_and_fails() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = taken.local_addr().unwrap().to_string();
    for (place, why) in
        [(place.as_str(), "in use"), ("nowhere", "not a place to listen"), ("systemd:web", "hand it over")]
    {
        let mut app = App::start(&mut at(place, 60));
        app.line_with(why);
        assert_eq!(app.finish().code(), Some(1), "{place}");
    }
}

#[test]
fn a_restart_refuses_and_loses_no_connection() {
    let mut app = App::start(&mut at("127.0.0.1:0", 2));
    let address = app.listening();
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut stream = TcpStream::connect(address).expect("never refused");
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    for _ in 0..3 {
                        echo(&mut stream).expect("never lost");
                    }
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for restart in 0..3 {
        let before = served.load(Ordering::Relaxed);
        app.signal("USR2");
        assert_eq!(app.listening(), address, "restart {restart}");
        wait_for_end_of(app.pids[restart]);
        let deadline = Instant::now() + PATIENCE;
        while served.load(Ordering::Relaxed) < before + 50 {
            assert!(
                Instant::now() < deadline && !clients.iter().any(|client| client.is_finished()),
                "nobody is served"
            );
            std::thread::yield_now();
        }
    }
    assert_eq!(app.finish().code(), Some(0), "the first has ended in order");
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("no connection was refused or lost");
    }
    app.signal("TERM");
    wait_for_end_of(app.pids[3]);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_successor_that_does_not_come_up_leaves_everything_as_it_was() {
    let program = folder("service_app").join("program");
    std::fs::copy(example("service_app"), &program).unwrap();
    let mut app = App::start(Command::new(&program).args(["127.0.0.1:0", "60"]));
    let address = app.listening();
    let mut stream = dial(address);
    echo(&mut stream).unwrap();
    // As an upgrade does it: another file under the name.
    let replace = |text: &str, mode: &str| {
        let new = program.with_extension("new");
        std::fs::write(&new, text).unwrap();
        let mode = Command::new("chmod").arg(mode).arg(&new).status();
        assert!(mode.unwrap().success());
        std::fs::rename(new, &program).unwrap();
    };
    for (mode, why) in [("755", "ended before it was ready"), ("644", "could not be started")] {
        replace("#!/bin/sh\nexit 3\n", mode);
        app.signal("USR2");
        app.line_with(why);
        echo(&mut stream).unwrap();
        echo(&mut dial(address)).unwrap();
    }
    // And a good one at last.
    std::fs::remove_file(&program).unwrap();
    std::fs::copy(example("service_app"), &program).unwrap();
    app.signal("USR2");
    assert_eq!(app.listening(), address);
    drop(stream);
    app.signal("TERM");
}

/// What systemd would hear.
fn notices(socket: &UnixDatagram) -> String {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = [0; 4096];
    let n = socket.recv(&mut bytes).expect("it is told");
    String::from_utf8_lossy(&bytes[..n]).into_owned()
}
fn hear(socket: &UnixDatagram, wanted: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !notices(socket).lines().any(|line| line == wanted) {
        assert!(Instant::now() < deadline, "no {wanted}");
    }
}

#[test]
fn systemd_is_told_when_it_is_ready_alive_another_and_stopping() {
    let path = folder("service_notify").join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut app = App::start(at("127.0.0.1:0", 1).env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000"));
    assert_eq!(notices(&socket), "READY=1");
    app.listening();
    let begun = Instant::now();
    for _ in 0..5 {
        hear(&socket, "WATCHDOG=1");
    }
    assert!(begun.elapsed() > Duration::from_millis(150), "at half of the time, not more often");
    app.signal("USR2");
    app.listening();
    hear(&socket, &format!("MAINPID={}", app.pids[1]));
    app.signal("TERM");
    hear(&socket, "STOPPING=1");
}

#[test]
#[cfg(target_os = "linux")]
fn systemd_is_told_at_an_abstract_name_too() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("twistlet-service-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    let _app = App::start(at("127.0.0.1:0", 1).env("NOTIFY_SOCKET", format!("@{name}")));
    hear(&socket, "READY=1");
}

#[test]
fn a_socket_of_systemds_is_served_and_handed_on() {
    // SYD-1
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Under systemd, descriptor 3 is the socket.
    let script = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web exec \"$0\" systemd:web 1";
    let program = example("service_app");
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(Path::new(&program)).stdin(OwnedFd::from(listener));
    let mut app = App::start(&mut command);
    // The copy in here must not keep it open.
    drop(command);
    assert_eq!(app.listening(), address);
    echo(&mut dial(address)).unwrap();
    app.signal("USR2");
    assert_eq!(app.listening(), address);
    assert_eq!(app.finish().code(), Some(0));
    echo(&mut dial(address)).unwrap();
    app.signal("TERM");
    wait_until_refused(address);
}

#[test]
fn the_variables_of_another_process_are_not_believed() {
    let variables: HashMap<_, _> = [("LISTEN_PID", "1"), ("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "web")].into();
    let mut app = App::start(at("systemd:web", 1).envs(variables));
    app.line_with("hand it over");
    assert_eq!(app.finish().code(), Some(1));
    let handover = [("TWISTLET_PREDECESSOR", "1"), ("TWISTLET_HANDOVER", "listener 0 127.0.0.1:0\nready 1 \n")];
    let mut app = App::start(at("127.0.0.1:0", 1).envs(handover));
    app.listening();
    app.signal("TERM");
    assert_eq!(app.finish().code(), Some(0));
}

#[test]
fn a_socket_of_the_file_system_is_handed_on_and_removed_at_the_end() {
    let path = folder("service_unix").join("socket");
    // What a server that was killed leaves behind is no hindrance.
    drop(UnixListener::bind(&path).unwrap());
    let mut app = App::start(&mut at(&format!("unix:{}", path.display()), 1));
    let serve = || {
        let mut stream = UnixStream::connect(&path).expect("not refused");
        stream.write_all(b"hello").unwrap();
        let mut back = [0; 5];
        stream.read_exact(&mut back).unwrap();
    };
    app.listening_somewhere();
    for restart in 0..2 {
        serve();
        app.signal("USR2");
        app.listening_somewhere();
        serve();
        wait_for_end_of(app.pids[restart]);
        serve();
    }
    app.signal("TERM");
    wait_for_end_of(app.pids[2]);
    assert!(!path.exists());
}
