//! Connections as synchronous objects: reading in every way, pauses, ends clean and unclean, writers held back, factories
//! that run a green thread for each connection.
#![cfg(feature = "green")]
mod guard;
mod support;

use guard::{Trace, guarded, logged};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::time::Duration;
use support::{PATIENCE, closed_port, dial, serve};
use twistlet::green::{
    GreenClientCreator, GreenTransport, Queue, SimpleSpawnFactory, SpawnFactory, UnbufferedTransport, join_reactor,
    sleep, spawn, wait_all, with_timeout, yield_now,
};
use twistlet::protocols::{Chunks, LineHandler, LineOnlyReceiver, LineTransport};
use twistlet::{ConnectError, ConnectionClosed, Failure, Reactor, TimedOut};

const LONG: Duration = Duration::from_secs(60);
const PREFIX: &str = "you said ";
const REST: &str = "hello. BYE";

/// Who answers a line in two parts and closes: a callback protocol, or threads on plain sockets.
#[derive(Clone, Copy, Debug)]
enum Server {
    Callbacks,
    Threads,
}

struct Answer;
impl LineHandler for Answer {
    fn line_received(&mut self, transport: LineTransport, line: &[u8]) {
        write!(transport, "{PREFIX}{}. ", line.escape_ascii());
        transport.call_later(Duration::from_millis(5), move || {
            transport.write("BYE");
            transport.lose_connection();
        });
    }
}

impl Server {
    fn start(self) -> SocketAddr {
        match self {
            Server::Callbacks => {
                let port = Reactor::current().listen_tcp("127.0.0.1:0", || LineOnlyReceiver::new(Answer));
                port.unwrap().address().socket().unwrap()
            }
            Server::Threads => serve(|mut stream| {
                let mut line = [0; 7];
                stream.read_exact(&mut line).unwrap();
                stream.write_all(format!("{PREFIX}hello. ").as_bytes()).unwrap();
                std::thread::sleep(Duration::from_millis(5));
                stream.write_all(b"BYE").unwrap();
            }),
        }
    }
}

/// Runs `check` with each kind of server, and with reads of any size and of one byte.
fn each_way(check: impl Fn(SocketAddr, usize) + Send + Sync + 'static) {
    let check = std::sync::Arc::new(check);
    for server in [Server::Callbacks, Server::Threads] {
        for read_size in [1 << 20, 1] {
            let check = check.clone();
            guarded(move || {
                check(server.start(), read_size);
                Reactor::current().close();
            });
        }
    }
}
fn creator() -> GreenClientCreator {
    GreenClientCreator::new(&Reactor::current())
}
/// Connected, and the question asked.
fn ask(at: SocketAddr, read_size: usize) -> GreenTransport {
    let conn = creator().connect_tcp(at).unwrap();
    conn.set_read_size(read_size);
    conn.write("hello\r\n").unwrap();
    conn
}
fn ask_unbuffered(at: SocketAddr, read_size: usize) -> UnbufferedTransport {
    let conn = creator().framed(Chunks::default).connect_tcp(at).unwrap();
    conn.set_read_size(read_size);
    conn.write("hello\r\n").unwrap();
    conn
}
/// A connection whose far end `talk` has, on a thread of its own.
fn connected(talk: impl Fn(std::net::TcpStream) + Send + Sync + 'static) -> GreenTransport {
    creator().connect_tcp(serve(talk)).unwrap()
}
/// What `GreenTransport::recv` gives, as text.
fn text(item: twistlet::Result<Option<bytes::Bytes>>) -> String {
    item.unwrap().map_or_else(|| "the end".to_owned(), |bytes| bytes.escape_ascii().to_string())
}

// TWC-15, TWC-16, TWC-26
#[test]
fn an_unbuffered_transport_gives_the_chunks_as_they_came_and_then_the_end_again_and_again() {
    each_way(|at, read_size| {
        let conn = ask_unbuffered(at, read_size);
        let mut received = Vec::new();
        while let Some(chunk) = conn.recv().unwrap() {
            assert!(chunk.len() <= read_size, "a chunk of {}", chunk.len());
            received.extend_from_slice(&chunk);
        }
        assert_eq!(received, [PREFIX, REST].concat().as_bytes());
        assert!(conn.recv().unwrap().is_none());
        assert!(conn.recv().unwrap().is_none());
    });
}

// TWC-17, TWC-22, TWC-26
#[test]
fn iterating_gives_everything_and_ends() {
    each_way(|at, read_size| {
        let chunks: Result<Vec<_>, Failure> = ask_unbuffered(at, read_size).iter().collect();
        assert_eq!(chunks.unwrap().concat(), [PREFIX, REST].concat().as_bytes());
        let pieces: Result<Vec<_>, Failure> = ask(at, read_size).iter().collect();
        assert_eq!(pieces.unwrap().concat(), [PREFIX, REST].concat().as_bytes());
    });
}

// TWC-20, TWC-26
#[test]
fn read_n_gives_what_was_asked_for_then_what_is_left_then_nothing() {
    each_way(|at, read_size| {
        let conn = ask(at, read_size);
        assert_eq!(conn.read_n(9).unwrap(), PREFIX);
        assert_eq!(conn.read_n(999).unwrap(), REST);
        assert_eq!(conn.read_n(9).unwrap(), "");
        assert_eq!(conn.read_n(1).unwrap(), "");
        assert_eq!(conn.recv_n(9).unwrap(), "");
        assert_eq!(conn.recv_n(1).unwrap(), "");
    });
}

// TWC-21, TWC-22, TWC-26
#[test]
fn read_all_gives_all_then_nothing() {
    each_way(|at, read_size| {
        let conn = ask(at, read_size);
        assert_eq!(conn.read_all().unwrap(), [PREFIX, REST].concat());
        assert_eq!(conn.read_all().unwrap(), "");
        assert!(conn.recv().unwrap().is_none());
    });
}

// TWC-23, TWC-26
#[test]
fn one_resume_too_many_changes_nothing() {
    each_way(|at, read_size| {
        let conn = creator().connect_tcp(at).unwrap();
        conn.resume_producing();
        conn.transport().resume_producing();
        conn.set_read_size(read_size);
        conn.write("hello\r\n").unwrap();
        assert_eq!(conn.read_n(9).unwrap(), PREFIX);
        assert_eq!(conn.read_all().unwrap(), REST);
    });
}

// TWC-24, TWC-26
#[test]
fn a_pause_of_the_users_holds_readers_back() {
    each_way(|at, read_size| {
        let conn = ask(at, read_size);
        conn.pause_producing();
        let late = with_timeout(Duration::from_millis(50), || conn.read_all());
        assert!(matches!(late, Err(TimedOut(_))), "{late:?}");
        conn.resume_producing();
        assert_eq!(conn.read_all().unwrap(), [PREFIX, REST].concat());
    });
}

// TWC-25, TWC-26
#[test]
fn a_resume_from_elsewhere_lets_a_waiting_reader_have_everything() {
    each_way(|at, read_size| {
        let conn = ask(at, read_size);
        conn.pause_producing();
        let other = conn.clone();
        spawn(move || {
            sleep(Duration::from_millis(20));
            other.resume_producing();
        });
        let answer = with_timeout(PATIENCE, || conn.read_all());
        assert_eq!(answer.unwrap().unwrap(), [PREFIX, REST].concat());
    });
}

// TWC-30
#[test]
fn a_refused_connection_fails_the_call() {
    guarded(|| {
        let refused = creator().connect_tcp(closed_port()).unwrap_err();
        assert!(matches!(refused.check(), Some(ConnectError::Refused { .. })), "{refused:?}");
    });
}

// TWC-31, D4
#[test]
fn after_a_reset_comes_what_had_arrived_then_the_error_once_then_the_end() {
    guarded(|| {
        let (go, wait) = channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let conn = connected(move |mut stream| {
            stream.write_all(b"partial").unwrap();
            let _ = wait.lock().unwrap().recv();
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        });
        assert_eq!(conn.read_n(4).unwrap(), "part");
        go.send(()).unwrap();
        // Nobody reads, so nobody hears of the reset before what is left was asked for.
        assert_eq!(text(conn.recv()), "ial");
        let broken = conn.recv().unwrap_err();
        assert_eq!(broken.check(), Some(&ConnectionClosed::Lost(Some(ErrorKind::ConnectionReset))), "{broken:?}");
        assert!(conn.recv().unwrap().is_none());
        assert!(conn.write("more").is_err());
    });
}

// TWC-33
#[test]
fn writing_nothing_returns_at_once() {
    guarded(|| {
        let conn = connected(|stream| drop(stream.set_nonblocking(false)));
        let turns = Reactor::current().statistics().turns;
        conn.write("").unwrap();
        conn.flush().unwrap();
        assert_eq!(Reactor::current().statistics().turns, turns);
    });
}

// TWC-34, D5
#[test]
fn a_write_after_an_interrupted_one_waits_and_everything_arrives_in_order() {
    guarded(|| {
        const LENGTH: usize = 16 << 20;
        let (go, wait) = channel::<()>();
        let (tell, told) = channel();
        let (wait, tell) = (std::sync::Mutex::new(wait), std::sync::Mutex::new(tell));
        let conn = connected(move |mut stream| {
            let _ = wait.lock().unwrap().recv();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            let _ = tell.lock().unwrap().send(all);
        });
        let late = with_timeout(Duration::from_millis(20), || conn.write(vec![b'a'; LENGTH]));
        assert!(matches!(late, Err(TimedOut(_))), "{late:?}");
        let held = with_timeout(Duration::from_millis(20), || conn.write("b"));
        assert!(matches!(held, Err(TimedOut(_))), "the peer has not read yet, so this one waits too: {held:?}");
        go.send(()).unwrap();
        conn.write("c").unwrap();
        assert!(conn.transport().unsent() <= 65_536);
        conn.close().unwrap();
        let all = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(all.len(), LENGTH + 2);
        assert!(all[..LENGTH].iter().all(|byte| *byte == b'a'));
        assert_eq!(all[LENGTH..], *b"bc");
    });
}

// TWC-36
#[test]
fn closing_under_a_blocked_reader_ends_both() {
    guarded(|| {
        let conn = connected(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
        let other = conn.clone();
        let reader = spawn(move || Ok(text(other.recv())));
        yield_now();
        conn.close().unwrap();
        assert_eq!(reader.wait().unwrap(), "the end");
        conn.close().unwrap();
    });
}

// TWC-37
#[test]
fn three_readers_are_all_told_of_the_end() {
    guarded(|| {
        let (go, wait) = channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let conn = connected(move |stream| {
            let _ = wait.lock().unwrap().recv();
            drop(stream);
        });
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let conn = conn.clone();
                spawn(move || Ok(text(conn.recv())))
            })
            .collect();
        yield_now();
        go.send(()).unwrap();
        let ends: Vec<String> = wait_all(readers).into_iter().map(Result::unwrap).collect();
        assert_eq!(ends, ["the end"; 3]);
    });
}

#[test]
fn readers_are_served_in_the_order_they_came() {
    guarded(|| {
        let (go, wait) = channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let conn = connected(move |mut stream| {
            let _ = wait.lock().unwrap().recv();
            stream.write_all(b"abc").unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let conn = conn.clone();
                spawn(move || conn.read_n(1))
            })
            .collect();
        yield_now();
        go.send(()).unwrap();
        let read: Vec<_> = wait_all(readers).into_iter().map(Result::unwrap).collect();
        assert_eq!(read, ["a", "b", "c"]);
    });
}

// TWC-38
#[test]
fn what_is_left_in_the_buffer_is_given_without_waiting_for_more() {
    guarded(|| {
        let conn = connected(|mut stream| {
            stream.write_all(b"sixsix").unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        assert_eq!(conn.read_n(1).unwrap(), "s");
        assert_eq!(conn.recv_n(2).unwrap(), "ix");
        let turns = Reactor::current().statistics().turns;
        assert_eq!(conn.recv_n(2).unwrap(), "si");
        assert_eq!(conn.recv_n(2).unwrap(), "x");
        assert_eq!(Reactor::current().statistics().turns, turns);
    });
}

// TWC-39
#[test]
fn chunks_that_come_together_with_the_close_are_delivered_before_the_end() {
    guarded(|| {
        let (tell, told) = channel();
        let tell = std::sync::Mutex::new(tell);
        let at = serve(move |mut stream| {
            stream.write_all(b"one ").unwrap();
            stream.write_all(b"two").unwrap();
            drop(stream);
            let _ = tell.lock().unwrap().send(());
        });
        let conn = creator().framed(Chunks::default).connect_tcp(at).unwrap();
        // All of it, the end included, has arrived before anybody reads.
        told.recv_timeout(PATIENCE).unwrap();
        conn.set_read_size(4);
        assert_eq!(text(conn.recv()), "one ");
        assert_eq!(text(conn.recv()), "two");
        assert_eq!(text(conn.recv()), "the end");
    });
}

// TWC-42, HBC-22
#[test]
fn a_handler_that_fails_panics_returns_or_closes_leaves_its_client_with_the_end() {
    guarded(|| {
        let reactor = Reactor::current();
        let factory = SpawnFactory::new(|conn: GreenTransport| match &conn.read_n(1)?[..] {
            b"f" => Err(Failure::msg("it fails")),
            b"p" => panic!("it panics"),
            b"c" => conn.close(),
            _ => Ok(()),
        });
        let at = reactor.listen_tcp("127.0.0.1:0", factory.clone()).unwrap().address().socket().unwrap();
        for (how, failures) in [("r", 0), ("c", 0), ("f", 1), ("p", 1)] {
            let conn = creator().connect_tcp(at).unwrap();
            conn.write(how).unwrap();
            assert_eq!(conn.read_all().unwrap(), "", "{how}");
            assert_eq!(logged().len(), failures, "{how}");
        }
        assert_eq!(factory.running(), 0);
    });
}

// TW-60
#[test]
fn a_factory_waits_for_its_handlers_and_gives_their_outcomes() {
    guarded(|| {
        let reactor = Reactor::current();
        let factory = SpawnFactory::new(|conn: GreenTransport| match &conn.read_all()?[..] {
            b"" => Err(Failure::msg("nothing said")),
            _ => Ok(()),
        });
        let at = reactor.listen_tcp("127.0.0.1:0", factory.clone()).unwrap().address().socket().unwrap();
        let clients: Vec<_> = ["something", ""].map(|word| (word, creator().connect_tcp(at).unwrap())).into();
        while factory.running() < 2 {
            yield_now();
        }
        for (word, conn) in &clients {
            conn.write(word).unwrap();
            conn.lose_write_connection();
        }
        let outcomes = factory.wait_all();
        assert!(outcomes[0].is_ok() && outcomes[1].is_err(), "{outcomes:?}");
        assert!(logged().is_empty(), "what was taken is not logged");
        assert_eq!(factory.running(), 0);
    });
}

// TWC-43
#[test]
fn a_queue_takes_the_connections() {
    guarded(|| {
        let queue = Queue::new();
        let inner = queue.clone();
        let factory = SpawnFactory::new(move |conn: GreenTransport| inner.send(conn)).keep_open();
        let port = Reactor::current().listen_tcp("127.0.0.1:0", factory).unwrap();
        let client = creator().connect_tcp(&port.address()).unwrap();
        let conn = queue.wait().unwrap();
        assert_eq!(conn.peer(), client.host());
        conn.write("welcome").unwrap();
        conn.close().unwrap();
        assert_eq!(client.read_all().unwrap(), "welcome");
    });
}

#[test]
fn the_simple_factory_closes_what_its_handler_leaves_and_logs_a_failure() {
    guarded(|| {
        let factory = SimpleSpawnFactory::new(|conn: GreenTransport| {
            conn.write("bye")?;
            Err::<(), _>(Failure::msg("it fails"))
        });
        let port = Reactor::current().listen_tcp("127.0.0.1:0", factory).unwrap();
        let client = creator().connect_tcp(&port.address()).unwrap();
        assert_eq!(client.read_all().unwrap(), "bye");
        let lines = logged();
        assert!(lines.len() == 1 && lines[0].contains("it fails"), "{lines:?}");
    });
}

// TWC-44, TW-57
#[test]
fn connecting_that_is_interrupted_leaves_no_connection() {
    guarded(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let late = with_timeout(Duration::ZERO, || creator().connect_tcp(at));
        assert!(matches!(late, Err(TimedOut(_))), "{late:?}");
        sleep(Duration::from_millis(1));
        assert_eq!(Reactor::current().statistics().descriptors, 0);
        // Whether or not the attempt got as far as the listener: what it finds is the end.
        listener.set_nonblocking(true).unwrap();
        if let Ok((mut stream, _)) = listener.accept() {
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
        }
    });
}

#[test]
fn a_slow_peer_holds_its_writer_back_and_nobody_else() {
    guarded(|| {
        let trace = Trace::new();
        let (go, wait) = channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let slow = connected(move |mut stream| {
            let _ = wait.lock().unwrap().recv();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let writer = {
            let (slow, trace) = (slow.clone(), trace.clone());
            spawn(move || {
                slow.write(vec![0; 32 << 20])?;
                trace.note("the slow one");
                slow.close()
            })
        };
        let at = Server::Callbacks.start();
        assert_eq!(ask(at, 1 << 20).read_all().unwrap(), [PREFIX, REST].concat());
        trace.note("the quick one");
        go.send(()).unwrap();
        writer.wait().unwrap();
        assert_eq!(trace.take(), ["the quick one", "the slow one"]);
    });
}

#[test]
fn the_last_handle_dropped_closes_the_connection() {
    guarded(|| {
        let (tell, told) = channel();
        let tell = std::sync::Mutex::new(tell);
        let conn = connected(move |mut stream| {
            let mut all = String::new();
            stream.read_to_string(&mut all).unwrap();
            let _ = tell.lock().unwrap().send(all);
        });
        let clone = conn.clone();
        drop(conn);
        clone.write("last words").unwrap();
        drop(clone);
        // The close happens in the loop, which runs while something is waited for.
        let heard = Rc::new(std::cell::RefCell::new(None));
        while heard.borrow().is_none() {
            sleep(Duration::from_millis(1));
            *heard.borrow_mut() = told.try_recv().ok();
        }
        assert_eq!(heard.take().as_deref(), Some("last words"));
    });
}

#[test]
fn std_s_read_and_write_work_on_a_green_transport() {
    guarded(|| {
        let mut conn = creator().connect_tcp(Server::Callbacks.start()).unwrap();
        Write::write_all(&mut conn, b"hello\r\n").unwrap();
        Write::flush(&mut conn).unwrap();
        let mut answer = String::new();
        Read::read_to_string(&mut conn, &mut answer).unwrap();
        assert_eq!(answer, [PREFIX, REST].concat());
    });
}

#[test]
fn handlers_that_are_still_waiting_end_with_the_reactor() {
    guarded(|| {
        let reactor = Reactor::new().unwrap();
        join_reactor(&reactor).unwrap();
        let trace = Trace::new();
        let noted = trace.clone();
        let factory = SpawnFactory::new(move |conn: GreenTransport| {
            let _noted = noted.on_drop("ended");
            reactor.stop()?;
            conn.recv()?;
            sleep(LONG);
            Ok(())
        });
        let at = reactor.listen_tcp("127.0.0.1:0", factory).unwrap().address().socket().unwrap();
        let mut client = dial(at);
        reactor.run().unwrap();
        assert_eq!(trace.take(), ["ended"]);
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
        // What its `recv` told it is what it ended with, and nobody asked.
        let lines = logged();
        assert!(lines.len() == 1 && lines[0].contains("connection lost"), "{lines:?}");
    });
}
