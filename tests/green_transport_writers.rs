//! Writing to and closing green transports: who waits, for how long, and what of a connection that is gone, half closed, reset,
//! or whose peer never reads.
#![cfg(feature = "green")]
mod guard;
mod pair;
mod rig;

use guard::{guarded, in_callback, logged, panic_of};
use pair::{creator, framed_pair, listen, pair, text, until};
use rig::{Far, Probe, dial, plain_server, reset};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;
use twistlet::error::{Killed, ReactorError};
use twistlet::green::{GreenTransport, SpawnFactory, join_reactor, sleep, spawn, wait_all, with_timeout, yield_now};
use twistlet::protocols::{Decoder, Int32Strings, Lines, Raw};
use twistlet::{ConnectionClosed, Failure, Reactor, Result, TransportRef};

const HIGH_WATER: usize = 65_536;
/// More than the sockets' buffers hold.
const MUCH: usize = 16 << 20;
const SHORT: Duration = Duration::from_millis(10);

/// A connection to a socket that is left alone until somebody asks for it.
fn to_plain() -> (GreenTransport, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = creator().connect_tcp(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}
fn reason(outcome: Result<()>) -> Option<ConnectionClosed> {
    outcome.unwrap_err().check().cloned()
}
fn lost(kind: ErrorKind) -> ConnectionClosed {
    ConnectionClosed::Lost(Some(kind))
}

// TW-25, D5
#[test]
fn a_write_returns_at_or_below_the_mark_and_a_flush_at_nothing() {
    guarded(|| {
        let (near, far) = pair();
        let reader = spawn(move || Ok(far.read_all()?.len()));
        for _ in 0..50 {
            near.write([7; 150_000]).unwrap();
            assert!(near.transport().unsent() <= HIGH_WATER);
        }
        near.flush().unwrap();
        assert_eq!(near.transport().unsent(), 0);
        near.close().unwrap();
        assert_eq!(reader.wait().unwrap(), 50 * 150_000);
    });
}

// TW-29
#[test]
fn two_writers_above_the_mark_both_wait_and_what_they_write_is_not_mixed() {
    guarded(|| {
        let (near, far) = pair();
        let write = |byte: u8| {
            let near = near.clone();
            spawn(move || near.write(vec![byte; MUCH]))
        };
        let writers = vec![write(b'a'), write(b'b')];
        for _ in 0..3 {
            yield_now();
        }
        assert!(writers.iter().all(|writer| !writer.is_finished()));
        for byte in *b"ab" {
            assert!(far.read_n(MUCH).unwrap().iter().all(|read| *read == byte));
        }
        assert!(wait_all(writers).iter().all(Result::is_ok));
        near.write("c").unwrap();
        assert_eq!(text(far.recv()), "c");
    });
}

// SL-07, SL-09, G3
#[test]
fn in_a_callback_a_write_that_need_not_wait_is_fine_and_one_that_must_panics() {
    in_callback(|| {
        let far = Far::connect(Reactor::current(), Probe::new());
        let conn = GreenTransport::take_over(far.near, Lines::new(), b"");
        conn.write("a").unwrap();
        conn.write("").unwrap();
        write!(conn, "{}", 1).unwrap();
        conn.send_line("b");
        conn.send("c").unwrap();
        conn.flush().unwrap();
        conn.pause_producing();
        conn.resume_producing();
        assert_eq!(far.written(), "a1b\r\nc\r\n");
        conn.lose_write_connection();
        conn.lose_connection();
        assert!(far.is_disconnecting());
    });
    guarded(|| {
        let reactor = Reactor::new().unwrap();
        join_reactor(&reactor).unwrap();
        let (at, peer) = plain_server(|mut stream| stream.read_to_end(&mut Vec::new()).unwrap());
        let said = Rc::new(RefCell::new(Vec::new()));
        let told = said.clone();
        spawn(move || {
            let conn = creator().connect_tcp(at)?;
            let inner = conn.clone();
            reactor.call_soon(move || {
                let panics = [panic_of(|| inner.write(vec![0; MUCH])), panic_of(|| inner.flush())];
                told.borrow_mut().extend(panics);
                inner.lose_connection();
            });
            sleep(Duration::ZERO);
            drop(conn.close());
            reactor.stop()
        });
        reactor.run().unwrap();
        assert!(said.borrow().len() == 2 && said.borrow().iter().all(|said| said.contains("in the main loop")));
        assert_eq!(peer.join().unwrap(), MUCH, "what was written is sent all the same");
    });
}

// TW-27, TW-32
#[test]
fn a_writer_whose_peer_never_reads_can_be_killed_and_the_connection_aborted() {
    guarded(|| {
        let (near, mut peer) = to_plain();
        let write = || {
            let near = near.clone();
            spawn(move || near.write(vec![0; MUCH]))
        };
        let writer = write();
        yield_now();
        writer.kill();
        assert!(writer.wait().unwrap_err().is::<Killed>());
        assert!(near.transport().unsent() > HIGH_WATER, "the bytes stay queued");
        // Closing would wait for the peer.
        assert!(with_timeout(SHORT, || near.close()).is_err());
        let writer = write();
        yield_now();
        near.abort_connection();
        assert_eq!(reason(near.flush()), Some(ConnectionClosed::Aborted));
        assert_eq!(reason(writer.wait()), Some(ConnectionClosed::Aborted));
        assert_eq!(reason(near.close()), Some(ConnectionClosed::Aborted));
        near.close().unwrap();
        let mut all = Vec::new();
        assert!(peer.read_to_end(&mut all).is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    });
}

// TW-26, TW-27
#[test]
fn a_writer_whose_peer_resets_hears_of_it_and_so_does_everybody_after() {
    guarded(|| {
        let (near, peer) = to_plain();
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let near = near.clone();
                spawn(move || near.write(vec![0; MUCH]))
            })
            .collect();
        yield_now();
        reset(peer);
        for writer in wait_all(writers) {
            assert!(matches!(reason(writer), Some(ConnectionClosed::Lost(Some(_)))));
        }
        for _ in 0..2 {
            assert!(matches!(reason(near.write("x")), Some(ConnectionClosed::Lost(Some(_)))));
            assert!(matches!(reason(near.write("")), Some(ConnectionClosed::Lost(Some(_)))));
            assert!(matches!(reason(near.flush()), Some(ConnectionClosed::Lost(Some(_)))));
        }
        assert!(matches!(reason(near.recv().map(drop)), Some(ConnectionClosed::Lost(Some(_)))));
        assert_eq!(text(near.recv()), "-");
    });
}

// TW-26, TW-28, TW-31
#[test]
fn after_a_close_in_order_writing_fails_with_that_every_time_and_closing_returns_at_once() {
    guarded(|| {
        let (near, far) = pair();
        near.lose_connection();
        near.write("accepted still").unwrap();
        near.close().unwrap();
        for _ in 0..2 {
            assert_eq!(reason(near.write("x")), Some(ConnectionClosed::Done));
            assert_eq!(reason(near.flush()), Some(ConnectionClosed::Done));
            let turns = Reactor::current().statistics().turns;
            near.close().unwrap();
            assert_eq!(Reactor::current().statistics().turns, turns);
        }
        assert_eq!(far.read_all().unwrap(), "accepted still");
        // The peer has closed.
        far.close().unwrap();
        assert_ne!(near.peer(), twistlet::Address::Gone);
        assert_eq!((near.peer(), near.host()), (far.host(), far.peer()));
    });
}

#[test]
fn several_may_wait_for_the_close_and_all_hear_how_it_went() {
    guarded(|| {
        let (near, peer) = to_plain();
        let write = near.transport();
        write.write(vec![0; MUCH]);
        let closers: Vec<_> = (0..3)
            .map(|_| {
                let near = near.clone();
                spawn(move || near.close())
            })
            .collect();
        yield_now();
        reset(peer);
        for outcome in wait_all(closers) {
            assert!(matches!(reason(outcome), Some(ConnectionClosed::Lost(Some(_)))));
        }
        near.close().unwrap();
    });
}

// TW-36
#[test]
fn each_way_of_a_connection_closes_by_itself() {
    guarded(|| {
        let (near, far) = pair();
        near.write("question").unwrap();
        near.lose_write_connection();
        assert_eq!(far.read_all().unwrap(), "question");
        assert_eq!(reason(near.write("more")), Some(lost(ErrorKind::BrokenPipe)));
        // The other way is open, for more than the buffers hold.
        let answer = {
            let far = far.clone();
            spawn(move || {
                far.write(vec![1; MUCH])?;
                far.write("end")?;
                far.lose_write_connection();
                Ok(())
            })
        };
        assert_eq!(near.read_n(MUCH).unwrap().len(), MUCH);
        assert_eq!(near.read_all().unwrap(), "end");
        answer.wait().unwrap();
        assert_eq!((text(near.recv()), text(far.recv())), ("-".into(), "-".into()));
        near.close().unwrap();
        far.close().unwrap();
    });
}

// TW-36: a write that is under way when the other way closes.
#[test]
fn the_peer_s_half_close_does_not_disturb_a_writer() {
    guarded(|| {
        let (near, far) = pair();
        let writer = {
            let near = near.clone();
            spawn(move || near.write(vec![2; MUCH]))
        };
        let reader = spawn(move || near.recv());
        yield_now();
        far.lose_write_connection();
        assert_eq!(reader.wait().unwrap(), None);
        assert_eq!(far.read_n(MUCH).unwrap().len(), MUCH);
        writer.wait().unwrap();
    });
}

// TW-37, G5
#[test]
fn the_last_clone_closes_wherever_it_is_dropped() {
    guarded(|| {
        // On another green thread.
        let (near, far) = pair();
        near.write("a").unwrap();
        let clone = near.clone();
        drop(near);
        spawn(move || drop(clone));
        assert_eq!(far.read_all().unwrap(), "a");
        // By unwinding, on a green thread that is killed.
        let (near, far) = pair();
        let victim = spawn(move || {
            near.write("b")?;
            near.recv().map(drop)
        });
        assert_eq!(far.read_n(1).unwrap(), "b");
        victim.kill();
        assert_eq!(text(far.recv()), "-");
        drop(victim.wait());
        // Of a green thread that never ran.
        let (near, far) = pair();
        let victim = spawn(move || near.recv());
        victim.kill();
        assert_eq!(text(far.recv()), "-");
        drop(victim.wait());
        // In the main loop.
        let (near, far) = pair();
        Reactor::current().call_soon(move || drop(near));
        assert_eq!(text(far.recv()), "-");
        assert!(logged().is_empty());
    });
}

// TW-57, TWC-44
#[test]
fn a_green_thread_interrupted_before_it_connects_leaves_no_attempt_behind() {
    guarded(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let at = listener.local_addr().unwrap();
        // Woken and killed in one: the kill comes at the next wait, which is the connecting.
        let (go, gone) = (twistlet::green::Event::new(), Rc::new(Cell::new(false)));
        let victim = {
            let (go, gone) = (go.clone(), gone.clone());
            spawn(move || {
                go.wait()?;
                gone.set(true);
                creator().connect_tcp(at)?.close()
            })
        };
        yield_now();
        go.send(());
        victim.kill();
        assert!(victim.wait().unwrap_err().is::<Killed>());
        assert!(gone.get());
        assert_nothing_remains(&listener);
        // A deadline that has passed before.
        let late = with_timeout(Duration::ZERO, || creator().connect_tcp(at).map(drop));
        assert!(late.is_err());
        assert_nothing_remains(&listener);
        // In the middle of it.
        let victim = spawn(move || creator().connect_tcp(at).map(drop));
        yield_now();
        victim.kill();
        assert!(victim.wait().unwrap_err().is::<Killed>());
        assert_nothing_remains(&listener);
    });
    in_callback(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let waits = panic_of(|| creator().connect_tcp(at).map(drop));
        assert!(waits.contains("in the main loop"), "{waits}");
        assert_eq!(Reactor::current().statistics().descriptors, 0);
    });
}
#[track_caller]
fn assert_nothing_remains(listener: &TcpListener) {
    sleep(Duration::from_millis(2));
    assert_eq!(Reactor::current().statistics().descriptors, 0);
    while let Ok((mut stream, _)) = listener.accept() {
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let end = stream.read(&mut [0]);
        assert!(matches!(&end, Ok(0)) || end.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    }
}

#[test]
fn a_decoder_that_cannot_be_made_leaves_no_connection() {
    guarded(|| {
        let (at, peer) = plain_server(|mut stream| stream.read(&mut [0]).unwrap_or(0));
        fn none() -> Raw {
            panic!("no decoder")
        }
        let said = panic_of(|| creator().framed(none).connect_tcp(at));
        assert!(said.contains("no decoder"));
        sleep(Duration::from_millis(1));
        assert_eq!(peer.join().unwrap(), 0);
        assert_eq!(Reactor::current().statistics().descriptors, 0);
    });
}

// TW-54
#[test]
fn what_cannot_be_connected_fails_with_its_own_error() {
    guarded(|| {
        let connect = |to: &str| creator().connect_tcp(to).unwrap_err().to_string();
        assert!(connect("no address").contains("no address"));
        assert!(connect("there-is-no-such-host.invalid:80").contains("there-is-no-such-host.invalid"));
        assert!(creator().connect_unix("/no/such/socket").is_err());
        Reactor::current().close();
        let reactor = Reactor::new().unwrap();
        let creator = twistlet::green::GreenClientCreator::new(&reactor);
        reactor.close();
        assert!(creator.connect_tcp("127.0.0.1:1").is_err());
    });
}

#[test]
fn when_the_reactor_has_ended_verbs_are_errors_and_what_had_arrived_is_read() {
    guarded(|| {
        let (near, far) = framed_pair(Lines::new);
        far.write("one\r\ntwo\r\n").unwrap();
        assert_eq!(text(near.recv()), "one");
        Reactor::current().close();
        assert_eq!(text(near.recv()), "two");
        assert!(near.recv().is_err());
        assert_eq!(text(near.recv()), "-");
        assert!(near.write("x").is_err() && near.send("x").is_err() && near.flush().is_err());
        near.send_line("x");
        near.pause_producing();
        near.resume_producing();
        near.set_read_size(1);
        near.lose_connection();
        near.close().unwrap();
        assert!(near.recv_timeout(SHORT).unwrap().is_none());
        drop((near, far));
        // One that has not been told of any end.
        let reactor = Reactor::new().unwrap();
        let (near, _far) = pair();
        let stopper = near.clone();
        let reader = spawn(move || stopper.recv());
        yield_now();
        reactor.close();
        let ended = reader.wait().unwrap_err();
        assert!(ended.is::<Killed>() || ended.is::<ReactorError>() || ended.is::<ConnectionClosed>(), "{ended:?}");
    });
}

struct Unspeakable;
impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Err(fmt::Error)
    }
}
#[test]
fn text_that_cannot_be_formatted_is_an_error_with_nothing_sent() {
    guarded(|| {
        let (near, far) = pair();
        let failure: Failure = write!(near, "a{}", Unspeakable).unwrap_err();
        assert!(failure.is::<fmt::Error>());
        assert!(near.send(String::from("b")).is_ok());
        near.close().unwrap();
        assert_eq!(far.read_all().unwrap(), "b");
    });
}

#[test]
fn messages_are_sent_whole_by_any_number_of_senders() {
    guarded(|| {
        let (near, far) = framed_pair(|| Int32Strings::new().max_length(1 << 20));
        let far = far.reframe(Int32Strings::new().max_length(1 << 20));
        let senders: Vec<_> = (0..20u8)
            .map(|n| {
                let near = near.clone();
                spawn(move || {
                    for _ in 0..5 {
                        near.send(vec![n; 50_000 + usize::from(n)])?;
                    }
                    Ok(())
                })
            })
            .collect();
        let mut counts = [0; 20];
        for _ in 0..100 {
            let message = far.recv().unwrap().unwrap();
            let n = message[0];
            assert!(message.len() == 50_000 + usize::from(n) && message.iter().all(|byte| *byte == n));
            counts[usize::from(n)] += 1;
        }
        assert_eq!(counts, [5; 20]);
        assert!(wait_all(senders).iter().all(Result::is_ok));
    });
}

/// 20 MB through a green pipe to a reader that is slow.
#[test]
fn a_pipe_to_a_slow_reader_holds_no_more_than_the_mark_and_one_write() {
    const LENGTH: usize = 20_000_000;
    guarded(|| {
        let (sink, slow) = plain_server(|mut stream| {
            let (mut total, mut sum, mut buffer) = (0, 0u64, vec![0; 1 << 18]);
            loop {
                match stream.read(&mut buffer).unwrap() {
                    0 => break (total, sum),
                    n => {
                        total += n;
                        sum += buffer[..n].iter().map(|byte| u64::from(*byte)).sum::<u64>();
                        std::thread::sleep(Duration::from_micros(500)); // slow
                    }
                }
            }
        });
        let most = Rc::new(Cell::new((0, 0)));
        let (seen, watched) = (most.clone(), Rc::new(Cell::new(None::<TransportRef>)));
        let watch = watched.clone();
        let pipe: SocketAddr = listen(SpawnFactory::new(move |from: GreenTransport| {
            let to = creator().connect_tcp(sink)?;
            watch.set(Some(to.transport()));
            while let Some(chunk) = from.recv()? {
                let length = chunk.len();
                assert!(to.transport().unsent() <= HIGH_WATER);
                let transport = to.transport();
                to.write(chunk)?;
                let (unsent, longest) = seen.get();
                seen.set((unsent.max(transport.unsent()), longest.max(length)));
            }
            to.close()
        }));
        let mut highest = 0;
        let source = std::thread::spawn(move || {
            let mut stream = dial(pipe);
            let data: Vec<u8> = (0..LENGTH).map(|n| n as u8).collect();
            stream.write_all(&data).unwrap();
            data.iter().map(|byte| u64::from(*byte)).sum::<u64>()
        });
        until(|| {
            highest = highest.max(watched.get().map_or(0, TransportRef::unsent));
            source.is_finished() && slow.is_finished()
        });
        let (unsent, longest) = most.get();
        assert!(unsent <= HIGH_WATER, "{unsent}");
        assert!(highest > HIGH_WATER, "it did hold the writer back");
        assert!(highest <= HIGH_WATER + longest, "{highest}");
        assert!(longest <= 256 * 1024, "{longest}");
        assert_eq!(slow.join().unwrap(), (LENGTH, source.join().unwrap()));
    });
}

#[test]
fn five_hundred_connections_at_once_are_served() {
    guarded(|| {
        let at = listen(SpawnFactory::framed(Lines::new, |conn| {
            for line in &conn {
                conn.send_line(line?);
            }
            Ok(())
        }));
        let clients: Vec<_> = (0..500)
            .map(|n| {
                spawn(move || {
                    let conn = creator().framed(Lines::new).connect_tcp(at)?;
                    for round in 0..3 {
                        let line = format!("{n} {round}");
                        conn.send_line(&line);
                        assert_eq!(text(conn.read_line()), line);
                    }
                    conn.close()
                })
            })
            .collect();
        for outcome in wait_all(clients) {
            outcome.unwrap();
        }
        until(|| Reactor::current().statistics().descriptors == 1);
    });
}

/// Generic code may ask for any decoder.
fn _generic<D: Decoder>(conn: GreenTransport<D>) -> GreenTransport<Raw> {
    conn.reframe(Raw)
}
