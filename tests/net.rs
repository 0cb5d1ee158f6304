//! Green sockets behave as std's do: what their documentation promises, against peers of std's and of their own.
#![cfg(feature = "green")]
mod support;

use std::io::{self, BufRead, BufReader, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::mpsc;
use std::time::Duration;
use support::{Noise, PATIENCE, closed_port, dial, serve};
use twistlet::green::net::{TcpListener, TcpStream, ToSocketAddrs};
use twistlet::green::{sleep, spawn, yield_now};
use twistlet::{ConnectError, Failure, Reactor};

/// A green stream and its green peer.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}
/// A green stream and a peer of std's.
fn pair_with_std() -> (TcpStream, std::net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = dial(listener.local_addr().unwrap());
    (listener.accept().unwrap().0, far)
}

// GM-04
#[test]
fn a_blocking_server_and_client_run_on_one_thread() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = spawn(move || {
        let (mut stream, peer) = listener.accept()?;
        assert_eq!(stream.peer_addr()?, peer);
        for line in BufReader::new(stream.try_clone()?).lines() {
            stream.write_all(line?.to_uppercase().as_bytes())?;
            stream.write_all(b"\n")?;
        }
        Ok(())
    });
    let mut client = TcpStream::connect(address).unwrap();
    assert_eq!(client.peer_addr().unwrap(), address);
    client.write_all(b"one\ntwo\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "ONE\nTWO\n");
    server.wait().unwrap();
}

#[test]
fn bind_reports_std_errors() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    assert!(address.ip().is_loopback() && address.port() != 0);
    assert_eq!(TcpListener::bind(address).unwrap_err().kind(), ErrorKind::AddrInUse);
    assert_eq!(TcpListener::bind("192.0.2.1:0").unwrap_err().kind(), ErrorKind::AddrNotAvailable);
    assert_eq!(TcpListener::bind(&[][..]).unwrap_err().kind(), ErrorKind::InvalidInput);
    // The first that can be had.
    let free: SocketAddr = ([127, 0, 0, 1], 0).into();
    let second = TcpListener::bind(&[address, free][..]).unwrap();
    assert_ne!(second.local_addr().unwrap(), address);
}

// HBC-20
#[test]
fn a_refused_connection_is_refused() {
    let error = TcpStream::connect(closed_port()).unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::ConnectionRefused, Some(libc::ECONNREFUSED)));
    let error = TcpStream::connect_timeout(&closed_port(), PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn connect_tries_every_address() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = listener.local_addr().unwrap();
    let stream = TcpStream::connect(&[closed_port(), there][..]).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), there);
    assert_eq!(TcpStream::connect(&[closed_port()][..]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(TcpStream::connect(&[][..]).unwrap_err().kind(), ErrorKind::InvalidInput);
}

// HBC-16
#[test]
fn connecting_to_a_mute_host_times_out() {
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    assert_eq!(TcpStream::connect_timeout(&address, Duration::ZERO).unwrap_err().kind(), ErrorKind::InvalidInput);
    let mut queued = Vec::new();
    let late = loop {
        assert!(queued.len() < 10, "the backlog of 0 never fills");
        match TcpStream::connect_timeout(&address, Duration::from_millis(30)) {
            Ok(stream) => queued.push(stream),
            Err(error) => break error,
        }
    };
    assert_eq!(late.kind(), ErrorKind::TimedOut);
    assert!(Failure::from(late).is::<twistlet::TimedOut>());
}

#[test]
fn addresses_are_what_std_takes() {
    fn all(addresses: impl ToSocketAddrs) -> io::Result<Vec<SocketAddr>> {
        addresses.to_socket_addrs().map(Iterator::collect)
    }
    let expected: SocketAddr = "127.0.0.1:80".parse().unwrap();
    assert_eq!(all("127.0.0.1:80").unwrap(), [expected]);
    assert_eq!(all("127.0.0.1:80".to_owned()).unwrap(), [expected]);
    assert_eq!(all(("127.0.0.1", 80)).unwrap(), [expected]);
    assert_eq!(all(("127.0.0.1".to_owned(), 80)).unwrap(), [expected]);
    assert_eq!(all((Ipv4Addr::LOCALHOST, 80)).unwrap(), [expected]);
    assert_eq!(all((IpAddr::from([127, 0, 0, 1]), 80)).unwrap(), [expected]);
    assert_eq!(all(expected).unwrap(), [expected]);
    let by_reference: &SocketAddr = &expected;
    assert_eq!(all(by_reference).unwrap(), [expected]);
    assert_eq!(all(&[expected, expected][..]).unwrap(), [expected, expected]);
    assert_eq!(all("[::1]:80").unwrap(), ["[::1]:80".parse().unwrap()]);
    for nonsense in ["", "127.0.0.1", "localhost", "localhost:", "localhost:x", "localhost:65536"] {
        assert_eq!(all(nonsense).unwrap_err().kind(), ErrorKind::InvalidInput, "{nonsense:?}");
    }
}

#[test]
fn names_are_looked_up_without_holding_the_loop() {
    let listener = TcpListener::bind("localhost:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let stream = TcpStream::connect(("localhost", port)).unwrap();
    assert!(stream.peer_addr().unwrap().ip().is_loopback());
    let error = TcpStream::connect("no-such-host.invalid:80").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let host = "no-such-host.invalid".to_owned();
    assert_eq!(Failure::from(error).check(), Some(&ConnectError::UnknownHost { host }));
}

#[test]
fn options_are_kept() {
    let (stream, _peer) = pair();
    assert!(!stream.nodelay().unwrap());
    stream.set_nodelay(true).unwrap();
    assert!(stream.nodelay().unwrap());
    stream.set_ttl(42).unwrap();
    assert_eq!(stream.ttl().unwrap(), 42);
    assert!(stream.take_error().unwrap().is_none());

    assert_eq!((stream.read_timeout().unwrap(), stream.write_timeout().unwrap()), (None, None));
    let limit = Some(Duration::new(3, 7));
    stream.set_read_timeout(limit).unwrap();
    assert_eq!((stream.read_timeout().unwrap(), stream.write_timeout().unwrap()), (limit, None));
    stream.set_write_timeout(limit).unwrap();
    stream.set_read_timeout(None).unwrap();
    // Clones are the same socket.
    let clone = stream.try_clone().unwrap();
    assert_eq!((clone.read_timeout().unwrap(), clone.write_timeout().unwrap()), (None, limit));
    for set in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
        assert_eq!(set(&stream, Some(Duration::ZERO)).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert!(format!("{stream:?}").contains("127.0.0.1"), "{stream:?}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_ttl(42).unwrap();
    assert_eq!(listener.ttl().unwrap(), 42);
    assert!(listener.take_error().unwrap().is_none());
    assert!(format!("{listener:?}").contains("127.0.0.1"), "{listener:?}");
}

#[test]
fn peek_takes_nothing() {
    let (mut stream, mut peer) = pair();
    let writer = spawn(move || Ok(peer.write_all(b"hello")?));
    let mut buffer = [0; 16];
    assert_eq!(stream.peek(&mut buffer).unwrap(), 5);
    assert_eq!(stream.peek(&mut buffer[..2]).unwrap(), 2);
    assert_eq!(stream.read(&mut buffer).unwrap(), 5);
    assert_eq!(&buffer[..5], b"hello");
    writer.wait().unwrap();
    assert_eq!(stream.peek(&mut buffer).unwrap(), 0);
}

#[test]
fn vectored_reads_and_writes_go_through() {
    let (mut stream, mut peer) = pair();
    let n = peer.write_vectored(&[IoSlice::new(b"hel"), IoSlice::new(b""), IoSlice::new(b"lo")]).unwrap();
    assert_eq!(n, 5);
    let (mut a, mut b) = ([0; 2], [0; 8]);
    let n = stream.read_vectored(&mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)]).unwrap();
    assert_eq!((n, &a, &b[..3]), (5, b"he", &b"llo"[..]));
    let reader = spawn(move || {
        let mut c = [0; 8];
        Ok((stream.read_vectored(&mut [IoSliceMut::new(&mut c)])?, c[0]))
    });
    yield_now();
    peer.write_all(b"!").unwrap();
    assert_eq!(reader.wait().unwrap(), (1, b'!'));
}

#[test]
fn empty_buffers_return_at_once() {
    let (mut stream, _peer) = pair();
    assert_eq!(stream.read(&mut []).unwrap(), 0);
    assert_eq!(stream.peek(&mut []).unwrap(), 0);
    assert_eq!(stream.write(&[]).unwrap(), 0);
    assert_eq!(stream.read_vectored(&mut []).unwrap(), 0);
    assert_eq!(stream.write_vectored(&[]).unwrap(), 0);
    stream.flush().unwrap();
}

#[test]
fn the_end_behind_data_is_seen_whenever_it_arrived() {
    // The reader waits; data and end come in one event, and the read that gets the data is short.
    for _ in 0..50 {
        let (mut stream, mut peer) = pair_with_std();
        let reader = spawn(move || {
            let mut buffer = [0; 64];
            let first = stream.read(&mut buffer)?;
            let rest = stream.read(&mut buffer)?;
            let again = stream.read(&mut buffer)?;
            Ok((first, rest, again))
        });
        yield_now();
        peer.write_all(b"bye").unwrap();
        drop(peer);
        assert_eq!(reader.wait().unwrap(), (3, 0, 0));
    }
    // The end comes later than the data.
    let (mut stream, mut peer) = pair_with_std();
    let reader = spawn(move || {
        let mut text = String::new();
        Ok(stream.read_to_string(&mut text).map(|_| text)?)
    });
    peer.write_all(b"good").unwrap();
    sleep(Duration::from_millis(2));
    peer.write_all(b"bye").unwrap();
    sleep(Duration::from_millis(2));
    drop(peer);
    assert_eq!(reader.wait().unwrap(), "goodbye");
}

#[test]
fn a_reader_that_drained_the_socket_gets_what_comes_later() {
    let (mut stream, mut peer) = pair();
    let reader = spawn(move || {
        let mut total = 0;
        let mut buffer = [0; 100];
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(total),
                n => total += n,
            }
        }
    });
    for size in 1..=300 {
        peer.write_all(&vec![7; size]).unwrap();
        if size % 3 == 0 {
            yield_now();
        }
    }
    drop(peer);
    assert_eq!(reader.wait().unwrap(), 300 * 301 / 2);
}

// HBC-14, GM-08
#[test]
fn both_directions_at_once_are_two_green_threads() {
    const SIZE: u64 = 3_000_000;
    let (near, far) = pair();
    let mut tasks = Vec::new();
    for stream in [near, far] {
        let mut writer = stream.try_clone().unwrap();
        tasks.push(spawn(move || {
            let n = io::copy(&mut Noise::new(SIZE), &mut writer)?;
            writer.shutdown(Shutdown::Write)?;
            Ok(n)
        }));
        let mut reader = stream;
        tasks.push(spawn(move || {
            let (mut expected, mut got) = (Vec::new(), Vec::new());
            Noise::new(SIZE).read_to_end(&mut expected)?;
            reader.read_to_end(&mut got)?;
            assert!(got == expected, "mixed up");
            Ok(got.len() as u64)
        }));
    }
    for task in tasks {
        assert_eq!(task.wait().unwrap(), SIZE);
    }
}

// GM-05
#[test]
fn nonblocking_sockets_say_would_block() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut far, _) = listener.accept().unwrap();
    near.set_nonblocking(true).unwrap();
    let mut buffer = [0; 4096];
    assert_eq!(near.read(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
    far.write_all(b"x").unwrap();
    // Without a turn of the loop in between, also after somebody has waited.
    assert_eq!(near.read(&mut buffer).unwrap(), 1);
    near.set_nonblocking(false).unwrap();
    let reader = spawn({
        let mut near = near.try_clone().unwrap();
        move || Ok(near.read(&mut [0; 8])?)
    });
    yield_now();
    far.write_all(b"y").unwrap();
    assert_eq!(reader.wait().unwrap(), 1);
    near.set_nonblocking(true).unwrap();
    far.write_all(b"z").unwrap();
    assert_eq!(near.read(&mut buffer).unwrap(), 1);
    while near.write(&buffer).is_ok() {}
    assert_eq!(near.write(&buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn sockets_come_from_std_and_go_back() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let listener = TcpListener::from(listener);
    let far = dial(address);
    let accepted = spawn(move || Ok((listener.accept()?.0, listener)));
    let (mut stream, listener) = accepted.wait().unwrap();
    let green = TcpStream::from(far);
    assert_eq!(green.read_timeout().unwrap(), Some(PATIENCE));
    let reader = spawn({
        let mut green = green.try_clone().unwrap();
        move || Ok(green.read(&mut [0; 8])?)
    });
    yield_now();
    stream.write_all(b"hi").unwrap();
    assert_eq!(reader.wait().unwrap(), 2);
    // Only the last handle may make it blocking.
    let clone = green.try_clone().unwrap();
    assert_eq!(green.into_std().unwrap_err().kind(), ErrorKind::ResourceBusy);
    let mut std = clone.into_std().unwrap();
    assert_eq!(std.read_timeout().unwrap(), Some(PATIENCE));
    stream.write_all(b"again").unwrap();
    let mut buffer = [0; 5];
    std.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"again");
    let listener = listener.into_std().unwrap();
    let _client = dial(address);
    listener.accept().unwrap();
}

// GM-09
#[test]
fn dropping_the_last_handle_closes_and_leaves_the_reactor() {
    let reactor = Reactor::current();
    let (mut stream, mut peer) = pair_with_std();
    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!((reactor.statistics().descriptors, reactor.statistics().timers), (1, 0));
    let fd = stream.as_raw_fd();
    let duplicate = stream.as_fd().try_clone_to_owned().unwrap();
    let clone = stream.try_clone().unwrap();
    drop(stream);
    assert_eq!(reactor.statistics().descriptors, 1);
    assert_eq!(clone.as_raw_fd(), fd);
    drop(clone);
    assert_eq!(reactor.statistics().descriptors, 0);
    drop(duplicate);
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
    reactor.close();
}

#[test]
fn a_duplicate_of_a_dropped_socket_disturbs_nobody() {
    let (mut stream, mut peer) = pair_with_std();
    let reader = spawn(move || {
        stream.read_exact(&mut [0; 1])?;
        Ok(stream.as_fd().try_clone_to_owned()?)
    });
    yield_now();
    peer.write_all(b"x").unwrap();
    let duplicate = reader.wait().unwrap();
    // Its old number may be another socket's now.
    let (mut other, mut other_peer) = pair_with_std();
    let reader = spawn(move || Ok(other.read(&mut [0; 8])?));
    yield_now();
    peer.write_all(b"for nobody").unwrap();
    sleep(Duration::from_millis(2));
    other_peer.write_all(b"abc").unwrap();
    assert_eq!(reader.wait().unwrap(), 3);
    let mut again = TcpStream::from(duplicate);
    let mut text = [0; 10];
    again.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"for nobody");
}

// UA-25
#[test]
fn a_reset_is_an_error_and_no_more() {
    let (mut stream, peer) = pair_with_std();
    let reader = spawn({
        let mut stream = stream.try_clone().unwrap();
        move || Ok(stream.read(&mut [0; 8]).unwrap_err().kind())
    });
    yield_now();
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    assert_eq!(reader.wait().unwrap(), ErrorKind::ConnectionReset);
    assert_eq!(stream.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn incoming_goes_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = spawn(move || {
        let mut served = 0;
        for stream in listener.incoming().take(20) {
            stream?.write_all(b"hi")?;
            served += 1;
        }
        Ok(served)
    });
    for _ in 0..20 {
        let mut text = String::new();
        TcpStream::connect(address).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "hi");
    }
    assert_eq!(server.wait().unwrap(), 20);
}

#[test]
fn a_slow_peer_delays_only_its_own_green_thread() {
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let slow = serve(move |mut stream| {
        let _ = released.lock().unwrap().recv();
        let _ = stream.write_all(b"late");
    });
    let fast = serve(|mut stream| {
        let _ = stream.write_all(b"soon");
    });
    let fetch = |address| {
        spawn(move || {
            let mut text = String::new();
            Ok(TcpStream::connect(address)?.read_to_string(&mut text).map(|_| text)?)
        })
    };
    let (late, soon) = (fetch(slow), fetch(fast));
    assert_eq!(soon.wait().unwrap(), "soon");
    assert!(!late.is_finished());
    release.send(()).unwrap();
    assert_eq!(late.wait().unwrap(), "late");
}

#[test]
fn five_hundred_connections_live_on_one_thread() {
    const CLIENTS: usize = 500;
    let echo = serve(|mut stream| {
        let _ = io::copy(&mut stream.try_clone().unwrap(), &mut stream);
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|i| {
            spawn(move || {
                let mut stream = TcpStream::connect(echo)?;
                for round in 0..5u32 {
                    let sent = (i as u32 * 7 + round).to_le_bytes();
                    stream.write_all(&sent)?;
                    let mut got = [0; 4];
                    stream.read_exact(&mut got)?;
                    assert_eq!(got, sent);
                }
                Ok(())
            })
        })
        .collect();
    for client in clients {
        client.wait().unwrap();
    }
}
