//! UNIX sockets: the same protocols at a path of the file system, and what becomes of the file.
mod rig;

use rig::{Probe, Slot, finish, pump, run};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use twistlet::error::CannotListen;
use twistlet::{Address, ConnectError, ConnectionClosed, Protocol, Reactor, TransportRef};

/// A path in a fresh folder; short, since socket paths may not be long.
fn path(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("twistlet-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    let _ = std::fs::remove_file(&path);
    path
}

struct Echo;
impl Protocol for Echo {
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        transport.write(data);
    }
}

#[track_caller]
fn echo(reactor: Reactor, at: &PathBuf) {
    let mut client = UnixStream::connect(at).unwrap();
    client.set_read_timeout(Some(rig::PATIENCE)).unwrap();
    client.write_all(b"hello").unwrap();
    pump(reactor);
    let mut back = [0; 5];
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello");
}

#[test]
fn a_protocol_is_served_at_a_path_whose_file_goes_with_the_port() {
    let reactor = Reactor::new().unwrap();
    let at = path("echo");
    let port = reactor.listen_unix(&at, || Echo).unwrap();
    assert_eq!(port.address().path(), Some(&*at));
    echo(reactor, &at);
    let _ = port.stop_listening();
    pump(reactor);
    assert!(!at.exists());
    port.start_listening().unwrap();
    echo(reactor, &at);
    reactor.close();
    assert!(!at.exists());
}

#[test]
fn two_megabytes_go_both_ways_between_protocols() {
    let at = path("large");
    let total = Slot::default();
    total.set(0);
    let reason = Slot::default();
    run(|reactor| {
        reactor.listen_unix(&at, || Echo).unwrap();
        let sum = total.clone();
        let client =
            Probe::new().on_made(|transport| transport.write(vec![7; 2 << 20])).on_data(move |transport, data| {
                assert!(data.iter().all(|byte| *byte == 7));
                sum.set(sum.get() + data.len());
                if sum.get() == 2 << 20 {
                    transport.lose_connection();
                }
            });
        let _ = reactor.connect_protocol_unix(&at, client.until_lost(reactor, &reason));
    });
    assert_eq!(total.get(), 2 << 20);
    assert!(reason.get().is_clean());
}

#[test]
fn a_file_left_by_a_dead_server_is_replaced() {
    let reactor = Reactor::new().unwrap();
    let at = path("stale");
    drop(UnixListener::bind(&at).unwrap());
    assert!(at.exists());
    reactor.listen_unix(&at, || Echo).unwrap();
    echo(reactor, &at);
}

#[test]
fn the_file_of_a_living_server_and_what_is_no_socket_are_left_alone() {
    let reactor = Reactor::new().unwrap();
    let at = path("living");
    let living = UnixListener::bind(&at).unwrap();
    let failure = reactor.listen_unix(&at, || Echo).unwrap_err();
    assert_eq!(failure.check::<CannotListen>().unwrap().source.kind(), ErrorKind::AddrInUse);
    UnixStream::connect(&at).expect("it still serves");
    drop(living);

    let file = path("a-file");
    std::fs::write(&file, "precious").unwrap();
    assert!(reactor.listen_unix(&file, || Echo).unwrap_err().is::<CannotListen>());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");

    let nowhere = path("no-folder").join("socket");
    assert!(reactor.listen_unix(&nowhere, || Echo).unwrap_err().is::<CannotListen>());
    let long = path(&"x".repeat(200));
    assert!(reactor.listen_unix(&long, || Echo).unwrap_err().is::<CannotListen>());
}

#[test]
fn a_file_somebody_else_has_put_there_since_is_not_removed() {
    let reactor = Reactor::new().unwrap();
    let at = path("replaced");
    let port = reactor.listen_unix(&at, || Echo).unwrap();
    std::fs::remove_file(&at).unwrap();
    let _other = UnixListener::bind(&at).unwrap();
    let _ = port.stop_listening();
    pump(reactor);
    assert!(at.exists());
}

#[test]
fn both_ends_know_their_paths() {
    let at = path("named");
    let server = Slot::default();
    let client = Slot::default();
    run(|reactor| {
        let seen = server.clone();
        reactor
            .listen_unix(&at, move || {
                let seen = seen.clone();
                Probe::new().on_made(move |transport| seen.set((transport.host(), transport.peer())))
            })
            .unwrap();
        let seen = client.clone();
        let probe = Probe::new().on_made(move |transport| {
            seen.set(transport.peer());
            transport.lose_connection();
        });
        let _ = reactor.connect_protocol_unix(&at, probe.until_lost(reactor, &Slot::default()));
    });
    assert_eq!(client.get(), Address::Unix(Some(at.clone())));
    // The client may have been faster than the server's accept.
    if server.is_set() {
        assert_eq!(server.get(), (Address::Unix(Some(at)), Address::Unix(None)));
    }
}

#[test]
fn a_path_without_a_server_cannot_be_connected_to() {
    let missing = Slot::default();
    let refused = Slot::default();
    run(|reactor| {
        let (one, two) = (missing.clone(), refused.clone());
        let _ = reactor.connect_protocol_unix(path("missing"), Echo).add_both(move |outcome| {
            one.set(outcome.unwrap_err().check::<ConnectError>().unwrap().clone());
        });
        let dead = path("dead");
        drop(UnixListener::bind(&dead).unwrap());
        let _ = reactor.connect_protocol_unix(dead, Echo).add_both(move |outcome| {
            two.set(outcome.unwrap_err().check::<ConnectError>().unwrap().clone());
            reactor.stop()
        });
    });
    assert!(matches!(missing.get(), ConnectError::Os { code: libc::ENOENT, .. }), "{:?}", missing.get());
    assert!(matches!(refused.get(), ConnectError::Refused { .. }), "{:?}", refused.get());
}

#[test]
fn half_close_and_abort_work_as_on_tcp() {
    let at = path("half");
    let reactor = Reactor::new().unwrap();
    reactor.handle_signals(false);
    let log = rig::Log::default();
    let (read, lost) = (log.clone(), log.clone());
    let mut probe = Some(
        Probe::new()
            .on_read_lost(move |transport| {
                read.add("read lost");
                transport.write(b"answer");
                transport.lose_connection();
            })
            .on_lost(move |_, reason| lost.add(reason)),
    );
    reactor
        .listen_unix(&at, move || probe.take().unwrap_or_else(|| Probe::new().on_made(TransportRef::abort_connection)))
        .unwrap();
    let mut client = UnixStream::connect(&at).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    pump(reactor);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
    assert_eq!(log.take(), ["read lost", "connection closed in order"]);
    let mut client = UnixStream::connect(&at).unwrap();
    pump(reactor);
    assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
    let reason = Slot::default();
    let _ = reactor.connect_protocol_unix(&at, Echo).add_callback(|transport| transport.abort_connection());
    let deferred = reactor
        .connect_protocol_unix(&at, Probe::new().on_made(TransportRef::abort_connection).until_lost(reactor, &reason));
    finish(reactor);
    assert_eq!(reason.get(), ConnectionClosed::Aborted);
    drop(deferred);
}
