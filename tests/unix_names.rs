//! UNIX sockets by name: files with permissions and locks, names that are no files, sockets of somebody else's, and datagrams.
mod rig;

use rig::{Log, Probe, Slot, pump, run};
use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use twistlet::error::CannotListen;
use twistlet::transport::{DatagramError, DatagramPort, DatagramProtocol, UnixPath};
use twistlet::{Address, ConnectError, Factory, Protocol, Reactor, TransportRef};

fn path(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("twistlet-names-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}
/// A child between its fork and its exec has a copy of what this process has open, and keeps a socket alive that was dropped here:
/// who starts children and who leaves sockets behind take turns.
static TURNS: std::sync::Mutex<()> = std::sync::Mutex::new(());
fn turn() -> std::sync::MutexGuard<'static, ()> {
    TURNS.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
fn lock_of(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.lock", path.display()))
}
fn abstract_name(name: &str) -> String {
    format!("\0twistlet-{name}-{}", std::process::id())
}

struct Echo;
impl Protocol for Echo {
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        transport.write(data);
    }
}
#[track_caller]
fn echo_over(reactor: Reactor, mut client: impl Read + Write) {
    client.write_all(b"hello").unwrap();
    pump(reactor);
    let mut back = [0; 5];
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello");
}

#[test]
#[cfg(target_os = "linux")]
fn a_name_without_a_file_is_listened_at_and_connected_to() {
    // UNX-1
    let name = abstract_name("stream");
    let shown = format!("@{}", &name[1..]);
    let addresses = Slot::default();
    run(|reactor| {
        let port = reactor.listen_unix(UnixPath::from(&name).mode(0o600).lock_file(), || Echo).unwrap();
        assert_eq!(port.address().to_string(), shown);
        assert_eq!(port.address(), Address::abstract_unix(&name[1..]));
        assert_eq!(port.address().path(), None);
        let seen = addresses.clone();
        let probe = Probe::new().on_made(|transport| transport.write("hello")).on_data(move |transport, data| {
            assert_eq!(data, b"hello");
            seen.set(transport.peer().to_string());
            transport.lose_connection();
        });
        let _ = reactor.connect_protocol_unix(&name, probe.until_lost(reactor, &Slot::default()));
        let taken = reactor.listen_unix(&name, || Echo).unwrap_err();
        assert_eq!(taken.check::<CannotListen>().unwrap().source.kind(), ErrorKind::AddrInUse);
        assert!(taken.to_string().contains(&shown), "{taken}");
    });
    assert_eq!(addresses.get(), shown);
}

#[test]
fn the_file_has_the_permissions_asked_for_whatever_the_umask() {
    // UNX-1
    let reactor = Reactor::new().unwrap();
    for mode in [0o600, 0o660, 0o666, 0o777] {
        let at = path(&format!("mode-{mode:o}"));
        let port = reactor.listen_unix(UnixPath::from(&at).mode(mode), || Echo).unwrap();
        assert_eq!(at.metadata().unwrap().permissions().mode() & 0o7777, mode);
        let _ = port.stop_listening();
        pump(reactor);
        assert!(!at.exists());
    }
}

#[test]
fn a_lock_keeps_a_second_server_away_and_tells_clients_whether_there_is_one() {
    // UNX-1, UNX-2
    let reactor = Reactor::new().unwrap();
    let at = path("locked");
    let locked = || UnixPath::from(&at).lock_file();
    let failed = Slot::default();
    let seen = failed.clone();
    let _ = reactor.connect_protocol_unix(locked(), Echo).add_both(move |outcome| {
        seen.set(outcome.unwrap_err().check::<ConnectError>().unwrap().clone());
    });
    assert!(!failed.is_set(), "in a later turn");
    pump(reactor);
    assert_eq!(failed.get(), ConnectError::NotServed { path: at.clone() });
    assert!(failed.get().to_string().contains("locked"));

    let port = reactor.listen_unix(locked(), || Echo).unwrap();
    assert_eq!(std::fs::read_to_string(lock_of(&at)).unwrap().trim(), std::process::id().to_string());
    struct Never;
    impl Factory for Never {
        fn build_protocol(&mut self, _: &Address) -> Option<Box<dyn Protocol>> {
            None
        }
        fn start_factory(&mut self) {
            panic!("started only after the bind");
        }
    }
    let failure = reactor.listen_unix(locked(), Never).unwrap_err();
    assert_eq!(failure.check::<CannotListen>().unwrap().source.kind(), ErrorKind::AddrInUse);
    assert!(failure.to_string().contains(&format!("process {}", std::process::id())), "{failure}");
    let connected = Rc::new(Cell::new(false));
    let mark = connected.clone();
    let _ = reactor.connect_protocol_unix(locked(), Echo).add_callback(move |_| mark.set(true));
    pump(reactor);
    assert!(connected.get());

    let _ = port.stop_listening();
    pump(reactor);
    assert!(!at.exists() && !lock_of(&at).exists());
    port.start_listening().expect("the lock is free again");
    assert!(lock_of(&at).exists());
    reactor.close();
    assert!(!at.exists() && !lock_of(&at).exists());
}

#[test]
fn a_lock_and_a_socket_left_by_the_dead_are_taken_over() {
    // UNX-1: a lock file that nobody holds, and Twisted's symbolic link to a number that is no process.
    let reactor = Reactor::new().unwrap();
    for (name, twisted) in [("left", false), ("left-by-twisted", true)] {
        let at = path(name);
        let _turn = turn();
        drop(UnixListener::bind(&at).unwrap());
        match twisted {
            false => std::fs::write(lock_of(&at), "4194999\n").unwrap(),
            true => std::os::unix::fs::symlink("4194999", lock_of(&at)).unwrap(),
        }
        let port = reactor.listen_unix(UnixPath::from(&at).lock_file(), || Echo).unwrap();
        echo_over(reactor, UnixStream::connect(&at).unwrap());
        let _ = port.stop_listening();
        pump(reactor);
        assert!(!at.exists() && !lock_of(&at).exists());
    }
    // One whose process lives is respected.
    let at = path("held-by-twisted");
    std::os::unix::fs::symlink(std::process::id().to_string(), lock_of(&at)).unwrap();
    let failure = reactor.listen_unix(UnixPath::from(&at).lock_file(), || Echo).unwrap_err();
    assert_eq!(failure.check::<CannotListen>().unwrap().source.kind(), ErrorKind::AddrInUse);
    // One that points at a file is not followed, and the file left alone.
    let (at, file) = (path("linked"), path("linked-to"));
    std::fs::write(&file, "precious").unwrap();
    std::os::unix::fs::symlink(&file, lock_of(&at)).unwrap();
    assert!(reactor.listen_unix(UnixPath::from(&at).lock_file(), || Echo).is_err());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn a_lock_ends_with_its_process_however_that_ends() {
    // UNX-1, UNX-2
    let at = path("killed");
    let script = "import fcntl, os, socket, sys, time\n\
                  lock = open(sys.argv[1] + '.lock', 'w'); fcntl.flock(lock, fcntl.LOCK_EX)\n\
                  lock.write(str(os.getpid())); lock.flush()\n\
                  s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print('ready', flush=True)\n\
                  time.sleep(600)";
    let started = turn();
    let mut python = Command::new("python3").args(["-c", script]).arg(&at).stdout(Stdio::piped()).spawn().unwrap();
    drop(started);
    let mut ready = [0; 5];
    python.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    let reactor = Reactor::new().unwrap();
    let locked = || UnixPath::from(&at).lock_file();
    let failure = reactor.listen_unix(locked(), || Echo).unwrap_err();
    assert!(failure.to_string().contains(&format!("process {} holds", python.id())), "{failure}");
    let connected = Rc::new(Cell::new(false));
    let mark = connected.clone();
    let _ = reactor.connect_protocol_unix(locked(), Echo).add_callback(move |_| mark.set(true));
    pump(reactor);
    assert!(connected.get());
    python.kill().unwrap();
    python.wait().unwrap();
    assert!(at.exists() && lock_of(&at).exists(), "it could not tidy up");
    let _ = reactor.listen_unix(locked(), || Echo).unwrap();
    echo_over(reactor, UnixStream::connect(&at).unwrap());
}

#[test]
fn sockets_of_somebody_else_are_adopted() {
    // LIS-12
    let reactor = Reactor::new().unwrap();
    let at = path("adopted");
    let theirs = UnixListener::bind(&at).unwrap();
    let port = reactor.listen_tcp(theirs.try_clone().unwrap(), || Echo).unwrap();
    assert_eq!(port.address().path(), Some(&*at));
    echo_over(reactor, UnixStream::connect(&at).unwrap());
    let _ = port.stop_listening();
    pump(reactor);
    assert!(at.exists(), "their file stays");
    let _kept = UnixStream::connect(&at).expect("and so does their socket");
    pump(reactor);

    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = tcp.local_addr().unwrap();
    let port = reactor.listen_tcp(OwnedFd::from(tcp), || Echo).unwrap();
    assert_eq!(port.address(), Address::Tcp(to));
    echo_over(reactor, std::net::TcpStream::connect(to).unwrap());

    let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    assert!(reactor.listen_tcp(file, || Echo).unwrap_err().is::<CannotListen>());
    let datagrams = UnixDatagram::unbound().unwrap();
    let failure = reactor.listen_tcp(OwnedFd::from(datagrams), || Echo).unwrap_err();
    assert!(failure.to_string().contains("another type"), "{failure}");
}

#[test]
fn a_connection_of_somebody_elses_is_adopted() {
    // LIS-12
    let reactor = Reactor::new().unwrap();
    let (near, far) = UnixStream::pair().unwrap();
    let made = Log::default();
    let seen = made.clone();
    struct Made(Log);
    impl Protocol for Made {
        fn connection_made(&mut self, _: TransportRef) {
            self.0.add("made");
        }
        fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
            transport.write(data);
        }
    }
    let transport = reactor.adopt_connection(near.try_clone().unwrap(), move || Made(seen.clone())).unwrap().unwrap();
    assert_eq!(made.take(), ["made"], "before it returns");
    echo_over(reactor, &far);
    // Closed here, and still open for who has a copy: no shutdown, and the reactor no longer looks.
    transport.lose_connection();
    pump(reactor);
    assert!(!transport.is_connected());
    (&near).write_all(b"still").unwrap();
    let mut five = [0; 5];
    (&far).read_exact(&mut five).unwrap();
    assert_eq!(reactor.statistics().descriptors, 0);

    let (near, mut far) = UnixStream::pair().unwrap();
    let declined = reactor.adopt_connection(near, twistlet::from_fn(|_| None::<Echo>)).unwrap();
    assert!(declined.is_none());
    assert_eq!(far.read(&mut five).unwrap(), 0, "it is closed");
    let failure = reactor.adopt_connection(std::fs::File::open("/dev/null").unwrap(), || Echo).unwrap_err();
    assert!(failure.is::<std::io::Error>(), "{failure}");
}

/// Notes datagrams and answers those who can be answered.
struct Answer(Log);
impl DatagramProtocol for Answer {
    fn datagram_received(&mut self, port: DatagramPort, data: &[u8], from: &Address) {
        self.0.add(format!("{} from {from}", String::from_utf8_lossy(data)));
        if data != b"answer" {
            let _ = port.write_to("answer", from);
        }
    }
    fn connection_refused(&mut self, _: DatagramPort) {
        self.0.add("refused");
    }
}

#[test]
fn datagrams_go_between_paths_and_names_and_from_nobody() {
    // UNX-6
    let reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (at, client) = (path("datagrams"), path("client"));
    let port = reactor.listen_unix_datagram(UnixPath::from(&at).mode(0o600), Answer(log.clone())).unwrap();
    assert_eq!(port.address(), Address::Unix(Some(at.clone())));
    assert_eq!(at.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let named = reactor.listen_unix_datagram(&client, Answer(Log::default())).unwrap();
    named.write_to("one", &at).unwrap();
    let unnamed = reactor.connect_unix_datagram(&at, Answer(Log::default())).unwrap();
    assert_eq!((unnamed.address(), unnamed.peer()), (Address::Unix(None), Some(Address::Unix(Some(at.clone())))));
    unnamed.write("two").unwrap();
    assert!(matches!(unnamed.write_to("x", &client), Err(DatagramError::OtherPeer { .. })));
    named.connect_path(&at).unwrap();
    named.write("three").unwrap();
    assert_eq!(named.connect_path(&at), Err(DatagramError::AlreadyConnected));
    pump(reactor);
    let named_shown = client.display();
    assert_eq!(
        log.take(),
        [
            format!("one from {named_shown}"),
            "two from an unnamed Unix socket".into(),
            format!("three from {named_shown}")
        ]
    );
    assert!(matches!(port.write_to("x", "127.0.0.1:9"), Err(DatagramError::InvalidAddress { .. })));
    assert!(matches!(port.write_to("x", &path("nobody")), Err(DatagramError::Os { code: libc::ENOENT })));
    assert!(reactor.connect_unix_datagram(path("nobody"), Answer(Log::default())).unwrap_err().is::<CannotListen>());
    // Its server gone, a connected port is refused, later.
    let told = Log::default();
    let orphan = reactor.connect_unix_datagram(&at, Answer(told.clone())).unwrap();
    let _ = port.stop_listening();
    pump(reactor);
    assert!(!at.exists());
    orphan.write("anybody?").unwrap();
    assert!(told.all().is_empty());
    pump(reactor);
    assert_eq!(told.take(), ["refused"]);
}

#[test]
#[cfg(target_os = "linux")]
fn datagrams_go_between_names_without_files() {
    // UNX-6
    let reactor = Reactor::new().unwrap();
    let (log, answers) = (Log::default(), Log::default());
    let (server, client) = (abstract_name("d-server"), abstract_name("d-client"));
    reactor.listen_unix_datagram(&server, Answer(log.clone())).unwrap();
    let port = reactor.listen_unix_datagram(&client, Answer(answers.clone())).unwrap();
    port.write_to("ping", Path::new(&server)).unwrap();
    pump(reactor);
    assert_eq!(log.all()[0], format!("ping from @{}", &client[1..]));
    assert_eq!(answers.all()[0], format!("answer from @{}", &server[1..]));
}

#[test]
fn a_stale_datagram_socket_is_replaced_and_a_living_one_is_not() {
    let reactor = Reactor::new().unwrap();
    let at = path("stale-datagrams");
    let _turn = turn();
    drop(UnixDatagram::bind(&at).unwrap());
    let port = reactor.listen_unix_datagram(&at, Answer(Log::default())).unwrap();
    assert!(reactor.listen_unix_datagram(&at, Answer(Log::default())).is_err());
    assert!(reactor.listen_unix(&at, || Echo).is_err(), "of another type, but alive");
    assert_eq!(port.address().path(), Some(&*at));
}

#[test]
fn a_receiver_that_is_slow_makes_the_sender_hear_would_block() {
    // UDP-4: what to do is the sender's business; nothing is kept.
    let reactor = Reactor::new().unwrap();
    let at = path("slow");
    let slow = UnixDatagram::bind(&at).unwrap();
    let port = reactor.connect_unix_datagram(&at, Answer(Log::default())).unwrap();
    let sent = (0..100_000).take_while(|_| port.write([7; 1000]).is_ok()).count();
    let error = port.write("one more").unwrap_err();
    assert_eq!(error, DatagramError::WouldBlock);
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    let mut buffer = [0; 1000];
    for _ in 0..sent {
        assert_eq!(slow.recv(&mut buffer).unwrap(), 1000);
    }
    port.write("one more").unwrap();
    assert_eq!(port.write(vec![0; 16 << 20]), Err(DatagramError::TooLong { len: 16 << 20 }));
}

#[test]
fn a_pair_of_datagram_sockets_is_adopted() {
    // LIS-12
    let reactor = Reactor::new().unwrap();
    let (near, far) = UnixDatagram::pair().unwrap();
    let log = Log::default();
    let port = reactor.listen_udp(near, Answer(log.clone())).unwrap();
    far.send(b"hello").unwrap();
    pump(reactor);
    assert_eq!(log.take(), ["hello from an unnamed Unix socket"]);
    port.write("back").unwrap();
    assert_eq!(far.recv(&mut [0; 8]).unwrap(), 4);
    let failure = reactor.listen_udp(OwnedFd::from(UnixStream::pair().unwrap().0), Answer(log)).unwrap_err();
    assert!(failure.to_string().contains("another type"), "{failure}");
}
