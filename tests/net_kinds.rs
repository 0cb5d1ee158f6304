//! UDP, the UNIX domain and descriptors of strangers: green sockets beside std's, the same code run on both.
#![cfg(feature = "green")]
mod support;

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, Shutdown};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::PATIENCE;
use twistlet::error::{Busy, Killed};
use twistlet::green::net::{Chunk, TcpListener, TcpStream, UdpSocket, wait_readable, wait_writable};
use twistlet::green::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use twistlet::green::{sleep, spawn, with_timeout, yield_now};
use twistlet::{Failure, Reactor, TimedOut};

const SHORT: Duration = Duration::from_millis(20);

fn udp_pair() -> (UdpSocket, UdpSocket) {
    let (one, other) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    one.connect(other.local_addr().unwrap()).unwrap();
    other.connect(one.local_addr().unwrap()).unwrap();
    (one, other)
}
/// A file that nobody has, removed when dropped.
struct Path(PathBuf);
impl Path {
    fn new() -> Path {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("twistlet-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Path(std::env::temp_dir().join(name))
    }
}
impl Drop for Path {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
impl AsRef<std::path::Path> for Path {
    fn as_ref(&self) -> &std::path::Path {
        &self.0
    }
}
fn fill(mut stream: &UnixStream) {
    stream.set_nonblocking(true).unwrap();
    while stream.write(&[0; 65536]).is_ok() {}
    stream.set_nonblocking(false).unwrap();
}
#[track_caller]
fn assert_busy(error: io::Error) {
    assert_eq!(error.kind(), ErrorKind::ResourceBusy);
    assert!(Failure::from(error).is::<Busy>());
}
#[track_caller]
fn assert_late(error: io::Error) {
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(Failure::from(error).is::<TimedOut>());
}

/// One function, compiled against std and against green.
macro_rules! beside_std {
    ($test:ident, $udp:ident, $stream:ident, $listener:ident, $datagram:ident, $body:block) => {
        #[test]
        fn $test() {
            #[allow(unused_imports)]
            fn of_std() -> Vec<String> {
                use std::net::UdpSocket as $udp;
                use std::os::unix::net::{UnixDatagram as $datagram, UnixListener as $listener, UnixStream as $stream};
                $body
            }
            #[allow(unused_imports)]
            fn of_green() -> Vec<String> {
                use twistlet::green::net::UdpSocket as $udp;
                use twistlet::green::os::unix::net::{
                    UnixDatagram as $datagram, UnixListener as $listener, UnixStream as $stream,
                };
                $body
            }
            assert_eq!(of_green(), of_std());
        }
    };
}
/// What both must agree about: values, and the kinds of errors.
fn told<T: std::fmt::Debug>(result: io::Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{:?} {:?}", error.kind(), error.raw_os_error()),
    }
}

beside_std!(udp_does_what_std_does, Udp, Stream, Listener, Datagram, {
    let mut seen = Vec::new();
    let (one, two) = (Udp::bind("127.0.0.1:0").unwrap(), Udp::bind("127.0.0.1:0").unwrap());
    let (here, there) = (one.local_addr().unwrap(), two.local_addr().unwrap());
    seen.push(told(one.peer_addr()));
    seen.push(told(one.send(b"nobody is the peer")));
    seen.push(told(one.send_to(b"0123456789", there)));
    let mut buf = [0; 4];
    seen.push(told(two.peek_from(&mut buf).map(|(n, from)| (n, from == here))));
    // What does not fit is lost.
    seen.push(told(two.recv_from(&mut buf).map(|(n, from)| (n, from == here))));
    seen.push(format!("{buf:?}"));
    seen.push(told(one.send_to(b"", there)));
    seen.push(told(two.recv_from(&mut buf).map(|(n, _)| n)));
    seen.push(told(one.connect(there)));
    seen.push(told(one.peer_addr().map(|peer| peer == there)));
    seen.push(told(one.send(b"abc")));
    seen.push(told(two.peek(&mut buf)));
    seen.push(told(two.recv(&mut buf)));
    seen.push(told(one.send(&vec![0; 70_000])));
    seen.push(told(one.send_to(b"x", &[][..] as &[std::net::SocketAddr])));
    seen.push(told(one.set_read_timeout(Some(Duration::ZERO))));
    seen.push(told(one.set_read_timeout(Some(SHORT)).and_then(|()| one.read_timeout()).map(|limit| limit.is_some())));
    seen.push(told(one.set_nonblocking(true)));
    seen.push(told(one.recv(&mut buf)));
    seen.push(told(Udp::bind(there)));
    seen.push(told(Udp::bind("192.0.2.1:0")));
    seen.push(told(one.set_broadcast(true).and_then(|()| one.broadcast())));
    seen.push(told(one.set_ttl(33).and_then(|()| one.ttl())));
    seen.push(told(one.set_multicast_ttl_v4(3).and_then(|()| one.multicast_ttl_v4())));
    seen.push(told(one.set_multicast_loop_v4(false).and_then(|()| one.multicast_loop_v4())));
    seen.push(told(one.multicast_loop_v6()));
    seen.push(told(one.join_multicast_v4(&Ipv4Addr::new(224, 0, 0, 251), &Ipv4Addr::LOCALHOST)));
    seen.push(told(one.leave_multicast_v4(&Ipv4Addr::new(224, 0, 0, 251), &Ipv4Addr::LOCALHOST)));
    seen.push(told(one.leave_multicast_v4(&Ipv4Addr::new(224, 0, 0, 251), &Ipv4Addr::LOCALHOST)));
    seen.push(told(one.join_multicast_v6(&"ff02::fb".parse().unwrap(), 0).map_err(|_| ErrorKind::Other.into())));
    seen.push(told(one.take_error().map(|error| error.is_none())));
    // One that nobody has: the answer of the network is told by the next call.
    drop(two);
    one.set_nonblocking(false).unwrap();
    one.set_read_timeout(Some(PATIENCE)).unwrap();
    seen.push(told(one.send(b"lost")));
    seen.push(told(one.recv(&mut buf)));
    seen
});

beside_std!(unix_streams_do_what_std_does, Udp, Stream, Listener, Datagram, {
    let mut seen = Vec::new();
    let path = Path::new();
    seen.push(told(Stream::connect(&path)));
    let listener = Listener::bind(&path).unwrap();
    seen.push(told(Listener::bind(&path)));
    seen.push(told(listener.local_addr().map(|at| at.as_pathname() == Some(path.as_ref()))));
    let mut near = Stream::connect(&path).unwrap();
    let (mut far, peer) = listener.accept().unwrap();
    seen.push(format!("{}", peer.is_unnamed()));
    seen.push(told(near.peer_addr().map(|at| at.as_pathname() == Some(path.as_ref()))));
    seen.push(told(near.local_addr().map(|at| at.is_unnamed())));
    seen.push(told(near.write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")])));
    let (mut a, mut b) = ([0; 2], [0; 8]);
    seen.push(told(far.read_vectored(&mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)])));
    seen.push(format!("{a:?} {b:?}"));
    seen.push(told(far.write(&[])));
    seen.push(told(far.set_nonblocking(true)));
    seen.push(told(far.read(&mut a)));
    seen.push(told(listener.set_nonblocking(true)));
    seen.push(told(listener.accept().map(drop)));
    seen.push(told(near.shutdown(Shutdown::Write)));
    seen.push(told(far.read(&mut a)));
    seen.push(told(near.write(b"x")));
    seen.push(told(near.take_error().map(|error| error.is_none())));
    seen.push(told(near.set_write_timeout(Some(Duration::ZERO))));
    drop(far);
    seen.push(told(near.read(&mut a)));
    // What was sent and never read breaks it off.
    let (mut near, mut far) = Stream::pair().unwrap();
    near.write_all(b"unread").unwrap();
    drop(std::mem::replace(&mut far, Stream::pair().unwrap().0));
    seen.push(told(near.read(&mut a)));
    drop(listener);
    seen.push(told(Stream::connect(&path)));
    seen
});

beside_std!(unix_datagrams_do_what_std_does, Udp, Stream, Listener, Datagram, {
    let mut seen = Vec::new();
    let (here, there) = (Path::new(), Path::new());
    let (one, two) = (Datagram::bind(&here).unwrap(), Datagram::bind(&there).unwrap());
    let unbound = Datagram::unbound().unwrap();
    seen.push(told(Datagram::bind(&here)));
    seen.push(told(unbound.local_addr().map(|at| at.is_unnamed())));
    seen.push(told(unbound.send(b"to whom?")));
    seen.push(told(unbound.peer_addr().map(drop)));
    seen.push(told(unbound.send_to(b"no such file", "/nonexistent/socket")));
    let mut buf = [0; 4];
    seen.push(told(unbound.send_to(b"0123456789", &there)));
    seen.push(told(two.recv_from(&mut buf).map(|(n, from)| (n, from.is_unnamed()))));
    seen.push(told(one.connect(&there)));
    seen.push(told(one.send(b"abc")));
    seen.push(told(two.recv_from(&mut buf).map(|(n, from)| (n, from.as_pathname() == Some(here.as_ref())))));
    seen.push(told(one.send(b"")));
    seen.push(told(two.recv(&mut buf)));
    seen.push(told(two.set_nonblocking(true)));
    seen.push(told(two.recv(&mut buf)));
    seen.push(told(one.shutdown(Shutdown::Both)));
    seen.push(told(one.recv(&mut buf)));
    drop(two);
    seen.push(told(unbound.connect(&there)));
    seen.push(told(unbound.send_to(b"x", &there)));
    let (near, far) = Datagram::pair().unwrap();
    seen.push(told(near.send(b"pair")));
    seen.push(told(far.recv(&mut buf)));
    drop(far);
    seen.push(told(near.send(b"x")));
    seen
});

#[test]
fn abstract_names_work() {
    use twistlet::green::os::linux::net::SocketAddrExt;
    let name = format!("twistlet-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    let server = spawn(move || {
        for stream in listener.incoming().take(1) {
            stream?.write_all(b"hello")?;
        }
        Ok(())
    });
    let mut text = String::new();
    UnixStream::connect_addr(&address).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    server.wait().unwrap();

    let address = SocketAddr::from_abstract_name(format!("{name}-datagram").as_bytes()).unwrap();
    let receiver = UnixDatagram::bind_addr(&address).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.connect_addr(&address).unwrap();
    assert_eq!(sender.send_to_addr(b"abc", &address).unwrap(), 3);
    assert_eq!(receiver.recv(&mut [0; 8]).unwrap(), 3);
}

// GM-08, HB-45
#[test]
fn a_udp_socket_sends_and_receives_at_once_and_refuses_a_second_reader() {
    let (one, other) = udp_pair();
    let receiver = spawn({
        let one = one.try_clone().unwrap();
        move || {
            let mut buf = [0; 16];
            (0..100).try_fold(0, |sum, _| Ok(sum + one.recv(&mut buf)?))
        }
    });
    yield_now();
    assert_busy(one.recv(&mut [0; 16]).unwrap_err());
    assert_busy(one.peek_from(&mut [0; 16]).unwrap_err());
    for _ in 0..100 {
        other.send(b"abc").unwrap();
        one.send(b"defg").unwrap();
        assert_eq!(other.recv(&mut [0; 16]).unwrap(), 4);
        yield_now();
    }
    assert_eq!(receiver.wait().unwrap(), 300);
}

// HBC-16, GM-05
#[test]
fn every_wait_of_every_kind_times_out() {
    let (udp, _peer) = udp_pair();
    let (stream, _far) = UnixStream::pair().unwrap();
    let (datagram, _far_datagram) = UnixDatagram::pair().unwrap();
    let mut buf = [0; 8];
    udp.set_read_timeout(Some(SHORT)).unwrap();
    stream.set_read_timeout(Some(SHORT)).unwrap();
    stream.set_write_timeout(Some(SHORT)).unwrap();
    datagram.set_read_timeout(Some(SHORT)).unwrap();
    datagram.set_write_timeout(Some(SHORT)).unwrap();
    let start = Instant::now();
    assert_late(udp.recv(&mut buf).unwrap_err());
    assert_late(udp.recv_from(&mut buf).unwrap_err());
    assert_late(udp.peek(&mut buf).unwrap_err());
    assert_late(udp.peek_from(&mut buf).unwrap_err());
    assert_late((&stream).read(&mut buf).unwrap_err());
    assert_late(stream.read_chunk().unwrap_err());
    assert_late((&stream).read_vectored(&mut [IoSliceMut::new(&mut buf)]).unwrap_err());
    fill(&stream);
    assert_late((&stream).write(b"x").unwrap_err());
    assert_late((&stream).write_vectored(&[IoSlice::new(b"x")]).unwrap_err());
    assert_late(datagram.recv(&mut buf).unwrap_err());
    assert_late(datagram.recv_from(&mut buf).unwrap_err());
    let late = loop {
        if let Err(error) = datagram.send(b"x") {
            break error;
        }
    };
    assert_late(late);
    let elapsed = start.elapsed();
    assert!(elapsed >= SHORT * 12 && elapsed < PATIENCE, "{elapsed:?}");
    assert_eq!(Reactor::current().statistics().timers, 0);
}

#[test]
fn a_full_receiver_makes_send_to_wait_until_it_has_room() {
    let path = Path::new();
    let receiver = UnixDatagram::bind(&path).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while sender.send_to(b"x", &path).is_ok() {
        sent += 1;
    }
    sender.set_nonblocking(false).unwrap();
    // It is not the peer, so the system never says that there is room again.
    sender.set_write_timeout(Some(SHORT * 3)).unwrap();
    let start = Instant::now();
    assert_late(sender.send_to(b"late", &path).unwrap_err());
    assert!(start.elapsed() >= SHORT * 3);
    sender.set_write_timeout(None).unwrap();
    let waiting = spawn(move || Ok(sender.send_to(b"last", &path)?));
    sleep(SHORT);
    assert!(!waiting.is_finished());
    let mut buf = [0; 8];
    for _ in 0..sent {
        assert_eq!(receiver.recv(&mut buf).unwrap(), 1);
    }
    assert_eq!(receiver.recv(&mut buf).unwrap(), 4);
    assert_eq!(waiting.wait().unwrap(), 4);
    // A peer's queue is told of by the system.
    let (near, far) = UnixDatagram::pair().unwrap();
    let sender = spawn(move || (0..1000).try_for_each(|_| near.send(b"x").map(drop)).map_err(Failure::from));
    for _ in 0..1000 {
        assert_eq!(far.recv(&mut buf).unwrap(), 1);
    }
    sender.wait().unwrap();
}

#[test]
fn a_full_backlog_makes_connect_wait() {
    let path = Path::new();
    let listening = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    listening.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    listening.listen(0).unwrap();
    let listener = UnixListener::from(OwnedFd::from(listening));
    let first = UnixStream::connect(&path).unwrap();
    let second = spawn({
        let path = path.0.clone();
        move || Ok(UnixStream::connect(path)?)
    });
    sleep(SHORT);
    assert!(!second.is_finished());
    let accepted = listener.accept().unwrap();
    let second = second.wait().unwrap();
    drop((first, second, accepted));
}

// HB-47, UA-21
#[test]
fn closing_from_one_green_thread_wakes_the_others() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let path = Path::new();
    let listener = UnixListener::bind(&path).unwrap();
    let (stream, _far) = UnixStream::pair().unwrap();
    let (datagram, _other) = UnixDatagram::pair().unwrap();
    fill(&stream);
    let waits = [
        spawn({
            let udp = udp.try_clone().unwrap();
            move || Ok(told(udp.recv(&mut [0; 8]).map_err(|error| error.kind().into())))
        }),
        spawn({
            let listener = listener.try_clone().unwrap();
            move || Ok(format!("{:?}", listener.incoming().next().map(drop)))
        }),
        spawn({
            let stream = stream.try_clone().unwrap();
            move || Ok(told((&stream).read(&mut [0; 8])))
        }),
        spawn({
            let stream = stream.try_clone().unwrap();
            move || Ok(told((&stream).write(b"x").map_err(|error| error.kind().into())))
        }),
        spawn({
            let datagram = datagram.try_clone().unwrap();
            move || Ok(told(datagram.recv(&mut [0; 8])))
        }),
    ];
    yield_now();
    assert!(waits.iter().all(|wait| !wait.is_finished()));
    udp.close();
    listener.close();
    stream.shutdown(Shutdown::Both).unwrap();
    datagram.shutdown(Shutdown::Both).unwrap();
    let outcomes: Vec<String> = waits.into_iter().map(|wait| wait.wait().unwrap()).collect();
    assert_eq!(outcomes, ["NotConnected None", "None", "0", "BrokenPipe None", "0"]);
    assert_eq!(udp.send_to(b"x", "127.0.0.1:9").unwrap_err().kind(), ErrorKind::NotConnected);
    assert!(listener.is_closed() && listener.accept().is_err());
}

// GT-30 and its like: a kill frees what was waited for.
#[test]
fn a_kill_or_a_deadline_in_any_call_frees_its_direction() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let path = Path::new();
    let listener = UnixListener::bind(&path).unwrap();
    let (stream, far) = UnixStream::pair().unwrap();
    let (datagram, far_datagram) = UnixDatagram::pair().unwrap();
    fill(&stream);
    datagram.set_nonblocking(true).unwrap();
    while datagram.send(b"x").is_ok() {}
    datagram.set_nonblocking(false).unwrap();
    let far_listener = UnixListener::bind(Path::new()).unwrap();
    let (tcp_listener, foreign) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), std::os::unix::net::UnixStream::pair().unwrap());
    type Call = Box<dyn Fn()>;
    let calls = || -> Vec<Call> {
        let udp = [udp.try_clone().unwrap(), udp.try_clone().unwrap()];
        let [udp, second_udp] = udp;
        let listener = listener.try_clone().unwrap();
        let (reader, writer, chunked) =
            (stream.try_clone().unwrap(), stream.try_clone().unwrap(), far_listener.try_clone().unwrap());
        let (receiver, sender) = (datagram.try_clone().unwrap(), datagram.try_clone().unwrap());
        let (tcp, foreign) = (tcp_listener.try_clone().unwrap(), foreign.0.try_clone().unwrap());
        vec![
            Box::new(move || drop(udp.recv_from(&mut [0; 8]))),
            Box::new(move || drop(second_udp.set_nonblocking(false).map(|()| sleep(PATIENCE)))),
            Box::new(move || drop(listener.accept())),
            Box::new(move || drop((&reader).read(&mut [0; 8]))),
            Box::new(move || drop((&writer).write(b"x"))),
            Box::new(move || drop(chunked.incoming().next())),
            Box::new(move || drop(receiver.recv(&mut [0; 8]))),
            Box::new(move || drop(sender.send(b"x"))),
            Box::new(move || drop(tcp.accept())),
            Box::new(move || drop(wait_readable(&foreign, None))),
        ]
    };
    for call in calls() {
        let thread = spawn(call);
        sleep(Duration::from_millis(1));
        assert!(!thread.is_finished());
        thread.kill();
        assert!(thread.wait().unwrap_err().is::<Killed>());
    }
    for call in calls() {
        assert!(with_timeout(Duration::from_millis(2), call).is_err());
    }
    // All of it is free: what was waited for comes to others.
    udp.send_to(b"abc", udp.local_addr().unwrap()).unwrap();
    assert_eq!(udp.recv(&mut [0; 8]).unwrap(), 3);
    let client = UnixStream::connect(&path).unwrap();
    drop((listener.accept().unwrap(), client));
    let reader = spawn(move || {
        far.set_nonblocking(true)?;
        while far.read_chunk().is_ok() {}
        far.set_nonblocking(false)?;
        (&far).write_all(b"x")?;
        far_datagram.set_nonblocking(true)?;
        while far_datagram.recv(&mut [0; 8]).is_ok() {}
        far_datagram.send(b"y")?;
        Ok((far, far_datagram))
    });
    (&stream).write_all(b"x").unwrap();
    assert_eq!((&stream).read(&mut [0; 8]).unwrap(), 1);
    datagram.send(b"x").unwrap();
    assert_eq!(datagram.recv(&mut [0; 8]).unwrap(), 1);
    drop(reader.wait().unwrap());
    (&foreign.1).write_all(b"x").unwrap();
    wait_readable(&foreign.0, Some(PATIENCE)).unwrap();
    assert_eq!(Reactor::current().statistics().timers, 0);
}

#[test]
fn sockets_serve_from_another_os_thread() {
    let (one, other) = udp_pair();
    let (near, far) = UnixStream::pair().unwrap();
    one.set_read_timeout(Some(PATIENCE)).unwrap();
    // They were waited for here before.
    assert!(with_timeout(Duration::from_millis(1), || one.recv(&mut [0; 8])).is_err());
    assert!(with_timeout(Duration::from_millis(1), || near.read_chunk()).is_err());
    let there = thread::spawn(move || {
        let datagram = spawn(move || Ok(one.recv(&mut [0; 8])?));
        let chunk = spawn(move || Ok(near.read_chunk()?.to_vec()));
        (datagram.wait().unwrap(), chunk.wait().unwrap())
    });
    thread::sleep(SHORT);
    other.send(b"abc").unwrap();
    (&far).write_all(b"defg").unwrap();
    assert_eq!(there.join().unwrap(), (3, b"defg".to_vec()));
}

#[test]
fn sockets_come_from_std_and_go_back() {
    let (one, two) = std::os::unix::net::UnixDatagram::pair().unwrap();
    one.set_read_timeout(Some(SHORT)).unwrap();
    let one = UnixDatagram::from(one);
    assert_eq!(one.read_timeout().unwrap(), Some(SHORT));
    assert_late(one.recv(&mut [0; 8]).unwrap_err());
    let clone = one.try_clone().unwrap();
    assert_eq!(one.into_std().unwrap_err().kind(), ErrorKind::ResourceBusy);
    let one: std::os::unix::net::UnixDatagram = clone.try_into().unwrap();
    assert_eq!(one.read_timeout().unwrap(), Some(SHORT));
    // It blocks again: std's timeout, not a would-block at once.
    let start = Instant::now();
    assert!(one.recv(&mut [0; 8]).is_err() && start.elapsed() >= SHORT / 2);
    two.send(b"abc").unwrap();
    assert_eq!(one.recv(&mut [0; 8]).unwrap(), 3);

    let (near, mut far) = UnixStream::pair().unwrap();
    let number = near.as_raw_fd();
    let fd = OwnedFd::from(near);
    assert_eq!(fd.as_raw_fd(), number);
    let near = UnixStream::from(fd);
    let clone = near.try_clone().unwrap();
    // While there are clones, a duplicate.
    let duplicate = OwnedFd::from(near);
    assert_ne!(duplicate.as_raw_fd(), number);
    far.write_all(b"abc").unwrap();
    drop(duplicate);
    assert_eq!(clone.read_chunk().unwrap().len(), 3);
    let raw = clone.into_raw_fd();
    assert_eq!(raw, number);

    let udp: std::net::UdpSocket = UdpSocket::bind("127.0.0.1:0").unwrap().into_std().unwrap();
    let udp = UdpSocket::from(udp);
    let address = udp.local_addr().unwrap();
    udp.send_to(b"x", address).unwrap();
    assert_eq!(udp.recv_from(&mut [0; 8]).unwrap(), (1, address));
    let listener = UnixListener::bind(Path::new()).unwrap().into_std().unwrap();
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

// HBC-08, HB-42, HB-43, HB-45
#[test]
fn a_bad_descriptor_gives_the_same_error_twice() {
    let file = File::open("/proc/self/status").unwrap();
    let epoll = File::open(std::env::current_exe().unwrap()).unwrap();
    for _ in 0..2 {
        assert_eq!(wait_readable(&-1, None).unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(wait_writable(&-1, Some(SHORT)).unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(wait_readable(&epoll, None).unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
    drop(file);
    sleep(Duration::from_millis(1));
    assert_eq!(Reactor::current().statistics().descriptors, 0);
}

// HB-42 to HB-46
#[test]
fn strangers_are_waited_for_one_reader_and_one_writer_each() {
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    assert_late(wait_readable(&near, Some(SHORT)).unwrap_err());
    wait_writable(&near, None).unwrap();
    assert_eq!(Reactor::current().statistics().descriptors, 0);
    let reader = spawn({
        let near = near.try_clone().unwrap();
        let number = near.as_raw_fd();
        move || {
            let near = near;
            assert_eq!(near.as_raw_fd(), number);
            Ok(wait_readable(&near, None)?)
        }
    });
    yield_now();
    // Another number is another descriptor, and the writer of this one is no second reader.
    wait_writable(&near, Some(PATIENCE)).unwrap();
    assert_late(wait_readable(&near, Some(Duration::ZERO)).unwrap_err());
    assert!(!reader.is_finished());
    (&far).write_all(b"x").unwrap();
    reader.wait().unwrap();
    wait_readable(&near, None).unwrap();

    (&near).read_exact(&mut [0]).unwrap();
    let number = near.as_raw_fd();
    let first = spawn(move || Ok(wait_readable(&number, None)?));
    yield_now();
    assert_busy(wait_readable(&number, None).unwrap_err());
    wait_writable(&number, Some(PATIENCE)).unwrap();
    assert!(!first.is_finished());
    drop(far);
    first.wait().unwrap();
    // HBC-18: nothing remains.
    let statistics = Reactor::current().statistics();
    assert_eq!((statistics.descriptors, statistics.timers), (0, 0));

    // A green socket is waited for by its own means.
    let (green, _far) = UnixStream::pair().unwrap();
    assert!(with_timeout(Duration::from_millis(1), || green.read_chunk()).is_err());
    assert_eq!(wait_readable(&green, None).unwrap_err().kind(), ErrorKind::AlreadyExists);
}

// HBC-15, HB-47, UA-22
#[test]
fn who_waits_for_a_number_that_became_another_descriptor_is_told() {
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    let number = near.as_raw_fd();
    let stale = spawn(move || Ok(wait_readable(&number, None).unwrap_err().kind()));
    yield_now();
    drop((near, far));
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    let reused = if near.as_raw_fd() == number { near } else { far };
    if reused.as_raw_fd() != number {
        return; // another test's thread got the number
    }
    assert_late(wait_readable(&reused, Some(SHORT)).unwrap_err());
    assert_eq!(stale.wait().unwrap(), ErrorKind::NotConnected);
    wait_writable(&reused, None).unwrap();
}

#[test]
fn chunks_are_lent_by_the_thread() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    let total = 3 * Chunk::SIZE;
    let writer = spawn(move || Ok(client.write_all(&vec![7; total])?));
    let mut got = 0;
    let mut buffers = std::collections::HashSet::new();
    loop {
        let chunk = server.read_chunk().unwrap();
        if chunk.is_empty() {
            break;
        }
        assert!(chunk.iter().all(|byte| *byte == 7));
        got += chunk.len();
        buffers.insert(chunk.as_ptr());
    }
    writer.wait().unwrap();
    assert_eq!((got, buffers.len()), (total, 1));
}
