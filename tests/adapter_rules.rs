//! Rules of the adapter as a whole, which are no single module's: how callbacks, green threads and `async` meet, and what their
//! users complain about elsewhere.
#![cfg(feature = "green")]
mod guard;

use guard::{Trace, guarded, joined, logged};
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};
use twistlet::green::net::{TcpListener, TcpStream};
use twistlet::green::proc::Proc;
use twistlet::green::{
    Event, GreenClientCreator, GreenThread, GreenTransport, Queue, Semaphore, SpawnFactory, block_on,
    defer_to_green_thread, sleep, spawn, spawn_after, with_timeout,
};
use twistlet::protocols::{LineHandler, LineReceiver, LineTransport, Lines};
use twistlet::{ConnectError, Deferred, Failure, IntoDeferred, Reactor, Result, TimedOut, TransportRef};

const SHORT: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(60);

// TW-06
#[test]
fn a_failure_keeps_its_type_its_identity_and_its_origin_on_the_way_into_the_waiter() {
    guarded(|| {
        let (promise, deferred) = Deferred::<()>::new();
        let thrown = Failure::from(std::io::Error::from(std::io::ErrorKind::AddrInUse));
        let original = thrown.clone();
        Reactor::current().call_soon(move || promise.errback(thrown));
        let caught = block_on(deferred.add_callback(|()| Ok(()))).unwrap_err();
        assert!(caught == original, "the very same");
        assert_eq!(caught.origin().line(), original.origin().line());
        assert_eq!(caught.check::<std::io::Error>().map(std::io::Error::kind), Some(std::io::ErrorKind::AddrInUse));
        assert!(logged().is_empty());
    });
}

// TW-10: not nested in the chain, as in the reference
#[test]
fn whoever_waits_goes_on_after_the_callback_that_fired_and_never_inside_it() {
    guarded(|| {
        let trace = Trace::new();
        let (promise, deferred) = Deferred::new();
        let (at_first, behind) = (trace.clone(), trace.clone());
        let waiter = spawn({
            let trace = trace.clone();
            move || {
                block_on(deferred.add_callback(move |()| at_first.note("a callback")))?;
                trace.note("the waiter");
                Ok(())
            }
        });
        Reactor::current().call_later(SHORT, move || {
            promise.callback(());
            behind.note("behind the fire");
        });
        waiter.wait().unwrap();
        assert_eq!(trace.take(), ["a callback", "behind the fire", "the waiter"]);
    });
}

/// A callback protocol that asks a green client for each line, in a green thread.
struct Proxy {
    upstream: std::net::SocketAddr,
}
impl LineHandler for Proxy {
    fn line_received(&mut self, transport: LineTransport, line: &[u8]) {
        let (upstream, line) = (self.upstream, line.to_vec());
        let ask = move || -> Result<String> {
            if line.is_empty() {
                return Err(Failure::msg("nothing was asked"));
            }
            let conn = GreenClientCreator::new(&Reactor::current()).framed(Lines::new).connect_tcp(upstream)?;
            conn.send_line(&line);
            let answer = conn.read_line()?.ok_or_else(|| Failure::msg("no answer"))?;
            Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        defer_to_green_thread(ask).add_both(move |outcome| {
            transport.send_line(outcome.unwrap_or_else(|failure| format!("error: {failure}")));
        });
    }
}

// EX-06, TW-11: the xcap proxy
#[test]
fn a_line_protocol_in_callbacks_answers_by_green_calls_and_its_connection_stays_open() {
    joined(|reactor| {
        let upstream = SpawnFactory::framed(Lines::new, |conn| {
            for line in &conn {
                let line = line?;
                if line == "hang up" {
                    break;
                }
                conn.send_line([&b"found "[..], &line].concat());
            }
            Ok(())
        });
        let upstream = reactor.listen_tcp("127.0.0.1:0", upstream).unwrap().address().socket().unwrap();
        let proxy = move || LineReceiver::with(Lines::new(), Proxy { upstream });
        let at = reactor.listen_tcp("127.0.0.1:0", proxy).unwrap().address().socket().unwrap();
        spawn(move || {
            let client = GreenClientCreator::new(&reactor).framed(Lines::new).connect_tcp(at)?;
            for (asked, answered) in [
                ("pres-rules alice", "found pres-rules alice"),
                ("", "error: nothing was asked"),
                ("hang up", "error: no answer"),
                ("again", "found again"),
            ] {
                client.send_line(asked);
                assert_eq!(client.read_line()?.unwrap(), answered);
            }
            reactor.stop()
        })
        .link(move |outcome| {
            if let Err(failure) = outcome {
                eprintln!("{failure}");
                std::process::abort();
            }
        });
    });
}

// UA-12
#[test]
fn waits_are_never_short_however_long_their_green_thread_has_computed_before() {
    guarded(|| {
        let compute = |time| {
            let start = Instant::now();
            while start.elapsed() < time {}
        };
        spawn(move || {
            sleep(SHORT);
            let later = spawn_after(LONG, || ()); // looks at the clock
            compute(3 * SHORT);
            let start = Instant::now();
            sleep(SHORT);
            assert!(start.elapsed() >= SHORT, "slept for {:?} only", start.elapsed());

            let later_still = spawn_after(LONG, || ());
            compute(3 * SHORT);
            let in_time = with_timeout(2 * SHORT, || Event::<()>::new().wait_timeout(SHORT / 10));
            assert!(in_time.is_ok(), "the deadline struck before its time");
            later.cancel();
            later_still.cancel();
        })
        .wait()
        .unwrap();
    });
}

// UA-14, UA-15
#[test]
fn whatever_times_out_is_found_by_one_question() {
    guarded(|| {
        let reactor = Reactor::current();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let mut socket = TcpStream::connect(at).unwrap();
        socket.set_read_timeout(Some(SHORT)).unwrap();
        let conn = GreenClientCreator::new(&reactor).connect_tcp(at).unwrap();
        let late: [(&str, Failure); 7] = [
            ("with_timeout", with_timeout(SHORT, || sleep(LONG)).unwrap_err().into()),
            ("Event", Event::<()>::new().wait_timeout(SHORT).unwrap_err()),
            ("Queue::wait_timeout", Queue::<()>::new().wait_timeout(SHORT).unwrap_err()),
            ("Queue::put_timeout", Queue::bounded(0).put_timeout((), SHORT).unwrap_err().into()),
            ("GreenTransport", conn.recv_timeout(SHORT).unwrap_err()),
            ("TcpStream", socket.read(&mut [0]).unwrap_err().into()),
            ("Deferred", block_on(Deferred::<()>::new().1.add_timeout(SHORT, &reactor)).unwrap_err()),
        ];
        for (what, failure) in late {
            assert!(failure.is::<TimedOut>(), "{what}: {failure:?}");
            assert_eq!(failure.kind(), std::io::ErrorKind::TimedOut, "{what}");
        }
        assert!(Semaphore::new(0).acquire_timeout(SHORT).is_none());
        assert!(!Failure::msg("it timed out").is::<TimedOut>(), "by type, not by words");
    });
}

// UA-34
#[test]
fn async_code_awaits_green_threads_and_green_threads_wait_for_async_code() {
    guarded(|| {
        let reactor = Reactor::current();
        let (promise, pause) = Deferred::new();
        let future = reactor.spawn_local(async move {
            let from_green: u32 = spawn(|| {
                sleep(SHORT);
                Ok(20)
            })
            .into_deferred()
            .await?;
            let from_callback: u32 = pause.await?;
            Ok::<_, Failure>(from_green + from_callback)
        });
        reactor.call_later(SHORT, move || promise.callback(22));
        assert_eq!(spawn(move || block_on(future)).wait().unwrap(), 42);
    });
}

// UA-23, UA-36: errors of one connection end that connection; nobody's failure is silent, nor told twice
#[test]
fn one_connections_error_reaches_the_log_once_and_no_other_connection() {
    guarded(|| {
        let reactor = Reactor::current();
        let factory = SpawnFactory::new(|conn| {
            let word = conn.read_n(4)?;
            if word == "oops" {
                return Err(Failure::msg("this conversation went wrong"));
            }
            conn.write(&word)
        });
        let at = reactor.listen_tcp("127.0.0.1:0", factory).unwrap().address().socket().unwrap();
        let mut good = TcpStream::connect(at).unwrap();
        let mut bad = TcpStream::connect(at).unwrap();
        bad.write_all(b"oops").unwrap();
        let mut rest = Vec::new();
        bad.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty());
        good.write_all(b"fine").unwrap();
        good.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"fine");
        let log = logged();
        assert_eq!(log.len(), 1, "{log:#?}");
        assert!(log[0].contains("this conversation went wrong"), "{log:#?}");
    });
}

// TW-54
#[test]
fn connecting_fails_with_an_error_of_its_own_type_in_both_ways_to_connect() {
    guarded(|| {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let failure = GreenClientCreator::new(&Reactor::current()).connect_tcp(closed).unwrap_err();
        assert!(failure.is::<ConnectError>(), "{failure:?}");
        let error = TcpStream::connect(closed).unwrap_err();
        assert_eq!((failure.kind(), error.kind()), (error.kind(), std::io::ErrorKind::ConnectionRefused));
    });
}

// RS-02, RS-03
#[test]
fn a_kill_looks_like_a_panic_to_std_whose_mutexes_it_poisons() {
    guarded(|| {
        let lock = Rc::new(std::sync::Mutex::new(0));
        let held = lock.clone();
        let victim = spawn(move || {
            let _guard = held.lock();
            sleep(LONG);
        });
        sleep(SHORT);
        victim.kill();
        assert!(victim.wait().is_err());
        // Known, and documented: std's locks are for OS threads.
        assert!(lock.is_poisoned());
        assert!(!std::thread::panicking());
    });
}

/// Does not compile for a type that is `Send` or `Sync`: `check` would be ambiguous.
trait StaysHere<A> {
    fn check() {}
}
impl<T: ?Sized> StaysHere<()> for T {}
struct Sendable;
impl<T: ?Sized + Send> StaysHere<Sendable> for T {}
struct Shareable;
impl<T: ?Sized + Sync> StaysHere<Shareable> for T {}

// UA-27, UA-29, RS-20, RS-36
#[test]
fn nothing_of_the_adapter_can_be_taken_to_another_thread() {
    <Event<()>>::check();
    <Queue<()>>::check();
    Semaphore::check();
    <GreenThread<()>>::check();
    <Proc<()>>::check();
    <GreenTransport>::check();
    <Deferred<()>>::check();
    Reactor::check();
    TransportRef::check();
}
