//! Green sockets between OS threads: `Send + Sync` as std's, one home at a time.
#![cfg(feature = "green")]
mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use support::PATIENCE;
use twistlet::error::Busy;
use twistlet::green::net::{TcpListener, TcpStream};
use twistlet::green::{sleep, spawn, yield_now};
use twistlet::{Failure, Reactor};

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

#[test]
fn a_plain_thread_needs_no_preparation() {
    let (mut near, mut far) = pair();
    let echo = thread::spawn(move || std::io::copy(&mut far.try_clone().unwrap(), &mut far).unwrap());
    for round in 0..100u8 {
        near.write_all(&[round]).unwrap();
        let mut got = [0];
        near.read_exact(&mut got).unwrap();
        assert_eq!(got, [round]);
    }
    drop(near);
    assert_eq!(echo.join().unwrap(), 100);
}

#[test]
fn connections_accepted_here_are_served_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (send, connections) = mpsc::channel::<TcpStream>();
    let worker = thread::spawn(move || {
        let mut tasks = Vec::new();
        for mut stream in connections {
            tasks.push(spawn(move || Ok(std::io::copy(&mut stream.try_clone()?, &mut stream)?)));
        }
        tasks.into_iter().map(|task| task.wait().unwrap()).sum::<u64>()
    });
    let acceptor = spawn(move || {
        for _ in 0..20 {
            send.send(listener.accept()?.0).unwrap();
        }
        drop(send);
        Ok(())
    });
    let clients: Vec<_> = (0..20)
        .map(|_| {
            spawn(move || {
                let mut stream = TcpStream::connect(address)?;
                stream.write_all(b"hello")?;
                stream.shutdown(Shutdown::Write)?;
                let mut text = String::new();
                stream.read_to_string(&mut text)?;
                assert_eq!(text, "hello");
                Ok(())
            })
        })
        .collect();
    acceptor.wait().unwrap();
    for client in clients {
        client.wait().unwrap();
    }
    assert_eq!(worker.join().unwrap(), 100);
}

#[test]
fn a_socket_moves_to_the_thread_that_waits_for_it_and_back() {
    let (mut near, mut far) = pair();
    let reactor = Reactor::current();
    for round in 0..10 {
        // It waits here ...
        let reader = spawn(move || {
            near.read_exact(&mut [0; 3])?;
            Ok(near)
        });
        yield_now();
        far.write_all(b"abc").unwrap();
        near = reader.wait().unwrap();
        // ... and there.
        let (ask, asked) = mpsc::channel();
        let there = thread::spawn(move || {
            ask.send(()).unwrap();
            near.read_exact(&mut [0; 3]).unwrap();
            near.read_exact(&mut [0; 3]).unwrap();
            near
        });
        asked.recv().unwrap();
        far.write_all(b"def").unwrap();
        thread::sleep(Duration::from_millis(round % 2));
        far.write_all(b"ghi").unwrap();
        near = there.join().unwrap();
        // Its old watch here is forgotten in the next turn; `far` has never waited.
        yield_now();
        yield_now();
        assert!(reactor.statistics().descriptors <= 1, "{:?}", reactor.statistics());
    }
}

// HB-45
#[test]
fn a_wait_is_refused_while_somebody_waits_on_another_thread() {
    let (near, mut far) = pair();
    let near = Arc::new(near);
    let reader = spawn({
        let near = near.clone();
        move || Ok((&*near).read(&mut [0; 8])?)
    });
    yield_now();
    let there = thread::Builder::new().name("the other".into()).spawn({
        let near = near.clone();
        move || {
            // What need not wait is fine.
            (&*near).write_all(b"hello").unwrap();
            (&*near).read(&mut [0; 8]).unwrap_err()
        }
    });
    let error = there.unwrap().join().unwrap();
    assert_eq!(error.kind(), ErrorKind::ResourceBusy);
    let failure = Failure::from(error);
    let busy = failure.check::<Busy>().unwrap();
    assert!(busy.holder.contains("OS thread"), "{busy}");
    far.read_exact(&mut [0; 5]).unwrap();
    far.write_all(b"abc").unwrap();
    assert_eq!(reader.wait().unwrap(), 3);
    // Nobody waits any more: now it moves.
    let there = thread::spawn(move || (&*near).read(&mut [0; 8]).unwrap());
    thread::sleep(Duration::from_millis(1));
    far.write_all(b"defg").unwrap();
    assert_eq!(there.join().unwrap(), 4);
}

#[test]
fn shutdown_on_one_thread_wakes_who_waits_on_another() {
    let (near, _far) = pair();
    let near = Arc::new(near);
    let (ask, asked) = mpsc::channel();
    let there = thread::spawn({
        let near = near.clone();
        move || {
            let reader = spawn({
                let near = near.clone();
                move || Ok((&*near).read(&mut [0; 8])?)
            });
            yield_now();
            ask.send(()).unwrap();
            reader.wait().unwrap()
        }
    });
    asked.recv().unwrap();
    near.shutdown(Shutdown::Both).unwrap();
    assert_eq!(there.join().unwrap(), 0);
}

#[test]
fn closing_a_listener_on_one_thread_wakes_accept_on_another() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (ask, asked) = mpsc::channel();
    let there = thread::spawn({
        let listener = listener.try_clone().unwrap();
        move || {
            let acceptor = spawn(move || Ok(listener.incoming().count()));
            yield_now();
            ask.send(()).unwrap();
            acceptor.wait().unwrap()
        }
    });
    asked.recv().unwrap();
    listener.close();
    assert_eq!(there.join().unwrap(), 0);
}

#[test]
fn a_socket_dropped_on_another_thread_is_closed_at_once_and_forgotten_here() {
    let (mut near, mut far) = pair();
    near.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert_eq!(near.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
    let reactor = Reactor::current();
    assert_eq!(reactor.statistics().descriptors, 1);
    thread::spawn(move || drop(near)).join().unwrap();
    // Before this thread's loop has turned.
    far.set_nonblocking(true).unwrap();
    assert_eq!(far.read(&mut [0; 8]).unwrap(), 0);
    sleep(Duration::from_millis(1));
    assert_eq!(reactor.statistics().descriptors, 0);
}

#[test]
fn a_socket_outlives_the_thread_that_waited_for_it() {
    let (near, mut far) = pair();
    let mut near = thread::spawn(move || {
        let mut near = near;
        near.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        assert_eq!(near.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
        near
    })
    .join()
    .unwrap();
    near.set_read_timeout(Some(PATIENCE)).unwrap();
    let reader = spawn(move || Ok(near.read(&mut [0; 8])?));
    yield_now();
    far.write_all(b"abc").unwrap();
    assert_eq!(reader.wait().unwrap(), 3);
}

#[test]
fn threads_that_fight_over_a_socket_lose_no_wake_up() {
    // Four threads wait for one socket in turn; every byte is read by somebody, whoever is refused tries again.
    const BYTES: usize = 2000;
    let (near, mut far) = pair();
    let near = Arc::new(near);
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let near = near.clone();
            thread::spawn(move || {
                let mut read = 0;
                loop {
                    match (&*near).read(&mut [0; 1]) {
                        Ok(0) => return read,
                        Ok(n) => read += n,
                        Err(error) if error.kind() == ErrorKind::ResourceBusy => thread::yield_now(),
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    for i in 0..BYTES {
        far.write_all(b"x").unwrap();
        if i % 7 == 0 {
            thread::yield_now();
        }
    }
    drop(far);
    let read: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
    assert_eq!(read, BYTES);
}
