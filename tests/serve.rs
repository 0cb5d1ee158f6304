//! Servers in a line: what handlers may do to them, how they end, and on several threads.
#![cfg(feature = "green")]
mod guard;

use guard::{guarded, logged};
use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use twistlet::error::Killed;
use twistlet::failure::on_unobserved_failure;
use twistlet::green::net::{TcpListener, TcpStream};
use twistlet::green::os::unix::net::{UnixListener, UnixStream};
use twistlet::green::serve::{
    Connect, Listen, ServeHandle, Server, StopServe, connect, listen, serve, serve_on_all_cores,
};
use twistlet::green::{Event, GreenThread, block_on, sleep, spawn, yield_now};
use twistlet::{Failure, Reactor, Result, TimedOut};

const MOMENT: Duration = Duration::from_millis(20);

fn listening() -> (TcpListener, SocketAddr) {
    let listener = listen("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}
/// All that comes from there.
fn fetch(address: SocketAddr) -> Result<String> {
    let mut text = String::new();
    connect(address)?.read_to_string(&mut text)?;
    Ok(text)
}
/// A server in a green thread, and what stops it.
fn serving(
    server: &Server,
    listener: &TcpListener,
    handler: impl Fn(TcpStream, SocketAddr) -> Result + 'static,
) -> (GreenThread<()>, ServeHandle) {
    let (server, listener, handle) = (server.clone(), listener.try_clone().unwrap(), server.handle());
    (spawn(move || server.serve(&listener, handler)), handle)
}

// HBC-22 (each connection), CV-02, CV-03
#[test]
fn each_connection_has_its_handler_and_is_closed_when_that_returns() {
    guarded(|| {
        let (listener, address) = listening();
        let kept = Rc::new(RefCell::new(Vec::new()));
        let (server, handle) = serving(&Server::new(), &listener, {
            let kept = kept.clone();
            move |mut stream, peer| {
                // Clones that somebody keeps do not keep the connection.
                kept.borrow_mut().push(stream.try_clone()?);
                assert_eq!(stream.peer_addr()?, peer);
                Ok(write!(stream, "{peer}")?)
            }
        });
        for _ in 0..5 {
            let mut stream = connect(address).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            assert_eq!(text, stream.local_addr().unwrap().to_string());
        }
        assert!(!server.is_finished());
        assert_eq!(kept.borrow().len(), 5);
        assert_eq!((&kept.borrow()[0]).read(&mut [0]).unwrap(), 0);
        handle.stop();
        server.wait().unwrap();
        // The listener stays open.
        serve(&listener, {
            spawn(move || fetch(address));
            |_, _| Err::<(), _>(StopServe.into())
        })
        .unwrap();
    });
}

// UA-24, CV-03: a handler's end is nobody else's.
#[test]
fn failing_panicking_and_killed_handlers_are_told_of_and_the_server_goes_on() {
    guarded(|| {
        let told = Rc::new(RefCell::new(Vec::new()));
        on_unobserved_failure({
            let told = told.clone();
            move |whose, failure| told.borrow_mut().push((whose.to_owned(), failure.to_string()))
        });
        let (listener, address) = listening();
        let calls = Rc::new(Cell::new(0));
        let (server, handle) = serving(&Server::new(), &listener, {
            let calls = calls.clone();
            move |mut stream, _| {
                calls.set(calls.get() + 1);
                match calls.get() {
                    1 => Err(Failure::msg("it failed")),
                    2 => panic!("it panicked"),
                    3 => Err(Killed.into()),
                    4 => Err(std::io::Error::from(ErrorKind::ConnectionReset).into()),
                    _ => Ok(stream.write_all(b"fine")?),
                }
            }
        });
        for _ in 0..4 {
            assert_eq!(fetch(address).unwrap(), "");
        }
        assert_eq!(fetch(address).unwrap(), "fine");
        let told = told.take();
        assert_eq!(told.iter().map(|(_, what)| &what[..]).collect::<Vec<_>>(), ["it failed", "panicked: it panicked"]);
        assert!(told[0].0.contains("the handler of the connection from 127.0.0.1:"), "{}", told[0].0);
        handle.stop();
        server.wait().unwrap();
        assert_eq!(logged(), [""; 0]);
    });
}

// HBC-22 (excepting), CV-04
#[test]
fn a_strict_server_ends_with_its_handlers_failure() {
    guarded(|| {
        let (listener, address) = listening();
        let (server, _) = serving(&Server::new().strict(true), &listener, |_, peer| match peer.port() {
            0 => Ok(()),
            _ => Err(Failure::msg("ends it all")),
        });
        let client = spawn(move || fetch(address));
        assert_eq!(server.wait().unwrap_err().to_string(), "ends it all");
        assert_eq!(client.wait().unwrap(), "");
        // A panic is a failure too, and a killed handler is not.
        let calls = Cell::new(0);
        let (server, _) = serving(&Server::new().strict(true), &listener, move |_, _| {
            calls.set(calls.get() + 1);
            if calls.get() == 1 { Err(Killed.into()) } else { panic!("on purpose") }
        });
        assert_eq!(fetch(address).unwrap(), "");
        assert!(!server.is_finished());
        assert_eq!(fetch(address).unwrap(), "");
        assert!(server.wait().unwrap_err().is_panic());
    });
}

// HBC-22 (already closed)
#[test]
fn handlers_may_close_by_themselves_and_give_the_socket_away() {
    guarded(|| {
        let (listener, address) = listening();
        let calls = Cell::new(0);
        let (server, handle) = serving(&Server::new(), &listener, move |stream, _| {
            calls.set(calls.get() + 1);
            match calls.get() {
                1 => drop(stream),
                2 => stream.shutdown(Shutdown::Both)?,
                // The server holds no clone that would stand in the way.
                _ => drop(stream.into_std()?),
            }
            Ok(())
        });
        for _ in 0..3 {
            assert_eq!(fetch(address).unwrap(), "");
        }
        handle.stop();
        server.wait().unwrap();
    });
}

// HBC-23 (StopServe), CV-04
#[test]
fn stop_serve_ends_the_server_and_leaves_other_handlers_running() {
    guarded(|| {
        let (listener, address) = listening();
        let (server, handle) = serving(&Server::new(), &listener, |mut stream, _| {
            let mut word = [0; 4];
            stream.read_exact(&mut word)?;
            if &word == b"stop" {
                return Err(StopServe.into());
            }
            Ok(stream.write_all(&word)?)
        });
        let mut other = connect(address).unwrap();
        yield_now();
        let mut stopping = connect(address).unwrap();
        stopping.write_all(b"stop").unwrap();
        server.wait().unwrap();
        assert!(handle.is_stopped());
        assert_eq!(handle.active(), 1);
        other.write_all(b"echo").unwrap();
        let mut echo = String::new();
        other.read_to_string(&mut echo).unwrap();
        assert_eq!((&echo[..], handle.active()), ("echo", 0));
    });
}

// HBC-23 (blocking, concurrency), CV-02, CV-05
#[test]
fn at_the_limit_one_more_is_accepted_and_none_served() {
    guarded(|| {
        let (listener, address) = listening();
        let (server, handle) = serving(&Server::new().concurrency(5), &listener, |mut stream, _| {
            stream.write_all(b"!")?;
            stream.read_to_end(&mut Vec::new())?;
            Ok(())
        });
        let mut clients: Vec<TcpStream> = (0..5).map(|_| connect(address).unwrap()).collect();
        for client in &mut clients {
            client.read_exact(&mut [0]).unwrap();
        }
        let mut sixth = connect(address).unwrap();
        sixth.set_read_timeout(Some(MOMENT)).unwrap();
        assert_eq!(sixth.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(handle.active(), 5);
        assert!(!server.is_finished());
        drop(clients.pop());
        sixth.set_read_timeout(None).unwrap();
        sixth.read_exact(&mut [0]).unwrap();
        assert_eq!(handle.active(), 5);
        // A stop comes also while one waits for its turn.
        let mut seventh = connect(address).unwrap();
        sleep(MOMENT);
        handle.stop();
        server.wait().unwrap();
        assert_eq!(seventh.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn a_graceful_stop_lets_handlers_end_and_kills_those_that_do_not() {
    guarded(|| {
        let (listener, address) = listening();
        let ends = Rc::new(RefCell::new(Vec::new()));
        let (server, handle) = serving(&Server::new().grace(Duration::from_secs(60)), &listener, {
            let ends = ends.clone();
            move |mut stream, _| {
                struct Noted(Rc<RefCell<Vec<u8>>>, u8);
                impl Drop for Noted {
                    fn drop(&mut self) {
                        self.0.borrow_mut().push(self.1 + if std::thread::panicking() { b'a' } else { b'A' });
                    }
                }
                let mut kind = [0];
                stream.read_exact(&mut kind)?;
                let _noted = Noted(ends.clone(), kind[0]);
                stream.read_to_end(&mut Vec::new())?;
                Ok(())
            }
        });
        let mut clients: Vec<TcpStream> = (0..3).map(|_| connect(address).unwrap()).collect();
        for (kind, client) in clients.iter_mut().enumerate() {
            client.write_all(&[kind as u8]).unwrap();
        }
        sleep(MOMENT);
        handle.stop();
        sleep(MOMENT);
        assert!(!server.is_finished(), "it waits for its handlers");
        // Nobody is accepted any more, though the listener is open.
        let late = connect(address).unwrap();
        late.set_read_timeout(Some(MOMENT)).unwrap();
        assert_eq!((&late).read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        drop(clients.remove(0));
        sleep(MOMENT);
        assert_eq!((handle.active(), server.is_finished()), (2, false));
        // Impatience is heard at once.
        let start = Instant::now();
        handle.stop_within(MOMENT);
        server.wait().unwrap();
        assert!(start.elapsed() < Duration::from_secs(5));
        let mut ends = ends.take();
        ends.sort_unstable();
        assert_eq!((ends, handle.active()), (b"Abc".to_vec(), 0));
        assert_eq!(clients[0].read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn closing_the_listener_or_killing_the_server_ends_it() {
    guarded(|| {
        let (listener, address) = listening();
        let (server, handle) = serving(&Server::new(), &listener, |mut stream, _| {
            stream.read_to_end(&mut Vec::new())?;
            Ok(stream.write_all(b"served")?)
        });
        let mut client = connect(address).unwrap();
        sleep(MOMENT);
        server.kill();
        assert!(server.wait().unwrap_err().is::<Killed>());
        // Its handlers go on.
        client.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "served");
        handle.stop();

        let (server, handle) = serving(&Server::new(), &listener, |_, _| Ok(()));
        sleep(MOMENT);
        listener.close();
        server.wait().unwrap();
        assert!(!handle.is_stopped());
        drop((listener, client));
        assert_eq!(Reactor::current().statistics().descriptors, 0);
        // One that was stopped before it began does nothing.
        let (listener, _) = listening();
        let server = Server::new();
        server.handle().stop();
        server.serve(&listener, |_, _| ()).unwrap();
    });
}

#[test]
fn unix_listeners_are_served_alike() {
    guarded(|| {
        let path = std::env::temp_dir().join(format!("twistlet-serve-{}", std::process::id()));
        let listener: UnixListener = Listen::new().backlog(8).bind_unix(&path).unwrap();
        let client = spawn({
            let path = path.clone();
            move || {
                let mut text = String::new();
                UnixStream::connect(path)?.read_to_string(&mut text)?;
                Ok(text)
            }
        });
        serve(&listener, |mut stream, peer| -> Result {
            assert!(peer.is_unnamed());
            stream.write_all(b"hello")?;
            Err(StopServe.into())
        })
        .unwrap();
        assert_eq!(client.wait().unwrap(), "hello");
        std::fs::remove_file(path).unwrap();
    });
}

// CV-01, GM-07
#[test]
fn connect_and_listen_take_options() {
    guarded(|| {
        let shared = Listen::new().reuse_port(true).backlog(4).bind("127.0.0.1:0").unwrap();
        let address = shared.local_addr().unwrap();
        assert_eq!(listen(address).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(Listen::new().bind(&[][..]).unwrap_err().kind(), ErrorKind::InvalidInput);
        let stream = Connect::new().bind(([127, 0, 0, 2], 0).into()).connect(address).unwrap();
        assert_eq!(stream.local_addr().unwrap().ip().to_string(), "127.0.0.2");
        assert_eq!(shared.accept().unwrap().1, stream.local_addr().unwrap());
        let other_family = Connect::new().bind("[::1]:0".parse().unwrap()).connect(address);
        assert_eq!(other_family.unwrap_err().kind(), ErrorKind::InvalidInput);
        let taken = Connect::new().bind(address).connect(address);
        assert_eq!(taken.unwrap_err().kind(), ErrorKind::AddrInUse);

        // The time is for all addresses together.
        let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        full.listen(0).unwrap();
        let mute = full.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&mute, MOMENT) {
            queued.push(stream);
        }
        let start = Instant::now();
        let error = Connect::new().timeout(MOMENT).connect(&[mute, mute, mute, mute][..]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(Failure::from(error).is::<TimedOut>());
        assert!((MOMENT..MOMENT * 3).contains(&start.elapsed()));
    });
}

#[test]
fn all_cores_serve_one_port_and_stop_together() {
    guarded(|| {
        let threads = Arc::new(Mutex::new(std::collections::HashSet::new()));
        let served = Arc::new(AtomicUsize::new(0));
        let handler = {
            let (threads, served) = (threads.clone(), served.clone());
            move |mut stream: TcpStream, _| {
                threads.lock().unwrap().insert(std::thread::current().id());
                served.fetch_add(1, Ordering::Relaxed);
                Ok(stream.write_all(b"hello")?)
            }
        };
        let cores = serve_on_all_cores("127.0.0.1:0", 3, handler).unwrap();
        assert_eq!(cores.threads(), 3);
        let address = cores.local_addr();
        let clients: Vec<_> = (0..200).map(|_| spawn(move || fetch(address))).collect();
        for client in clients {
            assert_eq!(client.wait().unwrap(), "hello");
        }
        assert_eq!(served.load(Ordering::Relaxed), 200);
        assert!(threads.lock().unwrap().len() > 1, "the system shares out the connections");
        let handle = cores.handle();
        std::thread::spawn(move || handle.stop());
        let outcomes = cores.wait();
        assert_eq!(outcomes.len(), 3);
        assert!(outcomes.iter().all(Result::is_ok));
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn one_handler_stops_all_cores_with_grace_or_by_its_failure() {
    guarded(|| {
        let server = Server::new().grace(Duration::from_secs(60));
        let cores = server
            .serve_on_all_cores("127.0.0.1:0", 2, |mut stream: TcpStream, _| -> Result {
                let mut word = [0; 4];
                stream.read_exact(&mut word)?;
                match &word {
                    b"stop" => Err(StopServe.into()),
                    _ => Ok(stream.write_all(&word)?),
                }
            })
            .unwrap();
        let mut patient = connect(cores.local_addr()).unwrap();
        sleep(MOMENT);
        connect(cores.local_addr()).unwrap().write_all(b"stop").unwrap();
        sleep(MOMENT);
        assert!(cores.handle().is_stopped());
        patient.write_all(b"echo").unwrap();
        let mut echo = String::new();
        patient.read_to_string(&mut echo).unwrap();
        assert_eq!(echo, "echo");
        assert!(cores.wait().iter().all(Result::is_ok));

        let cores = Server::new()
            .strict(true)
            .serve_on_all_cores("127.0.0.1:0", 2, |_: TcpStream, _| Err::<(), _>(Failure::msg("ends it all")))
            .unwrap();
        drop(connect(cores.local_addr()).unwrap());
        let outcomes = cores.wait();
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 1);
        // Many are stopped without having served anybody; none is left behind.
        for _ in 0..10 {
            let cores = serve_on_all_cores("127.0.0.1:0", 2, |_: TcpStream, _| ()).unwrap();
            cores.handle().stop();
            assert!(cores.wait().iter().all(Result::is_ok));
        }
    });
}

#[test]
fn thousands_of_connections_are_served_on_one_thread() {
    guarded(|| {
        const MANY: usize = 2000;
        let start = Event::<()>::new();
        let go = start.clone();
        let (listener, address) = listening();
        let (server, handle) = serving(&Server::new().concurrency(MANY), &listener, move |mut stream, _| {
            let mut word = [0; 8];
            stream.read_exact(&mut word)?;
            go.wait()?;
            Ok(stream.write_all(&word)?)
        });
        let clients: Vec<_> = (0..MANY)
            .map(|number| {
                spawn(move || {
                    let mut stream = connect(address)?;
                    stream.write_all(&(number as u64).to_le_bytes())?;
                    let mut word = [0; 8];
                    stream.read_exact(&mut word)?;
                    Ok(u64::from_le_bytes(word) as usize == number)
                })
            })
            .collect();
        // All of them at once.
        while handle.active() < MANY {
            sleep(Duration::from_millis(1));
        }
        start.send(());
        for client in clients {
            assert!(client.wait().unwrap());
        }
        handle.stop();
        server.wait().unwrap();
        block_on(Reactor::current().defer_to_thread(|| Ok(()))).unwrap();
        drop(listener);
        let statistics = Reactor::current().statistics();
        assert_eq!((statistics.timers, statistics.descriptors), (0, 0));
    });
}
