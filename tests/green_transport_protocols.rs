//! Protocols of one's own as green transports, in both ways; std's traits; wires taken over; UNIX sockets; faults of the network.
#![cfg(feature = "green")]
mod guard;
mod pair;
mod rig;
mod support;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use guard::{guarded, logged};
use pair::{creator, framed_pair, listen, pair, text, until};
use rig::Probe;
use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use support::Noise;
use twistlet::green::{
    GreenClientCreator, GreenTransport, LineOnlyReceiverTransport, SpawnFactory, UnbufferedTransport, proc, sleep,
    spawn, wait_all, yield_now,
};
use twistlet::protocols::{
    Chunks, Decoder, Encoder, FrameError, Inbox, LineHandler, LineReceiver, LineTransport, Lines, Raw, Received,
};
use twistlet::testing::{Network, flush_logged_failures_of, simulate_with};
use twistlet::transport::Destination;
use twistlet::{ConnectError, ConnectionClosed, Failure, Protocol, Reactor, Result, TransportRef};

#[derive(Debug, PartialEq)]
struct Frame {
    kind: u8,
    body: Bytes,
}
fn frame(kind: u8, body: &'static str) -> Frame {
    Frame { kind, body: Bytes::from(body) }
}
struct Frames;
impl Decoder for Frames {
    type Item = Frame;
    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame>> {
        let [kind, length, ..] = input[..] else { return Ok(None) };
        if input.len() < 2 + usize::from(length) {
            return Ok(None);
        }
        input.advance(2);
        Ok(Some(Frame { kind, body: input.split_to(length.into()).freeze() }))
    }
}
impl Encoder<Frame> for Frames {
    fn encode(&mut self, frame: Frame, output: &mut BytesMut) -> Result {
        let length = frame.body.len().try_into().map_err(|_| Failure::msg("a body is 255 bytes at most"))?;
        output.extend([frame.kind, length]);
        output.put_slice(&frame.body);
        Ok(())
    }
}

// TW-52, EX: ten lines of new code.
#[test]
fn a_decoder_of_one_s_own_is_a_green_transport_on_both_sides() {
    guarded(|| {
        let at = listen(SpawnFactory::framed(
            || Frames,
            |conn| {
                for frame in &conn {
                    let frame = frame?;
                    conn.send(Frame { kind: frame.kind + 1, body: frame.body.to_ascii_uppercase().into() })?;
                }
                Ok(())
            },
        ));
        let conn = creator().framed(|| Frames).connect_tcp(at).unwrap();
        // Byte by byte, and several at once.
        conn.set_read_size(1);
        conn.write(b"\x01\x05hello\x03\x00\x05\x03abc").unwrap();
        assert_eq!(conn.recv().unwrap(), Some(frame(2, "HELLO")));
        assert_eq!(conn.recv().unwrap(), Some(frame(4, "")));
        assert_eq!(conn.recv().unwrap(), Some(frame(6, "ABC")));
        let long = Frame { kind: 1, body: vec![0; 256].into() };
        assert!(conn.send(long).unwrap_err().to_string().contains("255"));
        conn.send(frame(7, "still there")).unwrap();
        assert_eq!(conn.recv().unwrap(), Some(frame(8, "STILL THERE")));
        conn.lose_write_connection();
        assert_eq!(conn.recv().unwrap(), None);
    });
}

// TW-52, EX: a callback protocol that exists.
trait FrameHandler {
    fn connected(&mut self, _: TransportRef) {}
    fn frame_received(&mut self, transport: TransportRef, frame: Frame);
    fn garbage(&mut self, transport: TransportRef, failure: Failure);
}
struct FrameProtocol<H> {
    buffer: BytesMut,
    handler: H,
}
impl<H: FrameHandler> Protocol for FrameProtocol<H> {
    fn connection_made(&mut self, transport: TransportRef) {
        transport.write(b"\x00\x05hi 0!");
        self.handler.connected(transport);
    }
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        self.buffer.extend_from_slice(data);
        while let Ok(Some(frame)) = Frames.decode(&mut self.buffer) {
            match frame.kind {
                // It answers by itself.
                9 => transport.write([10, 0]),
                255 => self.handler.garbage(transport, Failure::msg("garbage")),
                _ => self.handler.frame_received(transport, frame),
            }
        }
    }
}
impl FrameHandler for Inbox<Frame> {
    fn frame_received(&mut self, _: TransportRef, frame: Frame) {
        self.put(frame);
    }
    fn garbage(&mut self, _: TransportRef, failure: Failure) {
        self.fail(failure);
    }
}
fn old() -> Received<Frame> {
    Received::new(|inbox| FrameProtocol { buffer: BytesMut::new(), handler: inbox })
}

#[test]
fn a_callback_protocol_that_exists_is_a_green_transport_through_an_inbox() {
    guarded(|| {
        let (near, far) = framed_pair(old);
        let far = far.reframe(Frames);
        // Several messages in one chunk, one that it answers by itself among them.
        far.write(b"\x01\x01a\x09\x00\x02\x01b\x03\x01c\x04\x05par").unwrap();
        assert_eq!(near.recv().unwrap(), Some(frame(1, "a")));
        assert_eq!(far.recv().unwrap(), Some(frame(0, "hi 0!")));
        assert_eq!(far.recv().unwrap(), Some(frame(10, "")));
        assert_eq!(near.recv().unwrap(), Some(frame(2, "b")));
        assert_eq!(near.recv().unwrap(), Some(frame(3, "c")));
        assert!(near.recv_timeout(Duration::from_millis(5)).is_err());
        far.write("ts").unwrap();
        assert_eq!(near.recv().unwrap(), Some(frame(4, "parts")));
        far.close().unwrap();
        assert_eq!(near.recv().unwrap(), None);
    });
}

#[test]
fn an_inbox_that_fails_gives_its_messages_then_the_error_and_closes() {
    guarded(|| {
        let (near, far) = framed_pair(old);
        far.write(b"\x01\x01a\xff\x00\x02\x01b").unwrap();
        assert_eq!(near.recv().unwrap(), Some(frame(1, "a")));
        assert_eq!(near.recv().unwrap_err().to_string(), "garbage");
        assert_eq!(near.recv().unwrap(), None);
        assert_eq!(far.read_all().unwrap(), "\0\x05hi 0!");
        assert!(logged().is_empty());
    });
}

#[test]
fn a_callback_protocol_may_close_its_green_transport() {
    struct Closes(Inbox<Bytes>);
    impl LineHandler for Closes {
        fn line_received(&mut self, transport: LineTransport, line: &[u8]) {
            self.0.put(Bytes::copy_from_slice(line));
            if line == b"bye" {
                transport.send_line("bye");
                transport.lose_connection();
            }
        }
    }
    guarded(|| {
        let (near, far) = framed_pair(|| Received::new(|inbox| LineReceiver::new(Closes(inbox))));
        far.write("one\r\nbye\r\nignored\r\n").unwrap();
        assert_eq!((text(near.recv()), text(near.recv()), text(near.recv())), ("one".into(), "bye".into(), "-".into()));
        assert_eq!(far.read_all().unwrap(), "bye\r\n");
    });
}

#[test]
fn every_framing_of_the_crate_carries_what_a_message_is() {
    use twistlet::protocols::{Int32Strings, Netstrings};
    guarded(|| {
        let (near, far) = framed_pair(Netstrings::new);
        let far = far.reframe(Netstrings::new());
        near.send("one").unwrap();
        near.send("").unwrap();
        assert_eq!((text(far.recv()), text(far.recv())), ("one".into(), String::new()));
        far.write("5:hello!").unwrap();
        assert!(near.recv().unwrap_err().is::<FrameError>());
        let (near, far) = framed_pair(Int32Strings::new);
        let far = far.reframe(Int32Strings::new());
        near.send(b"\0\0").unwrap();
        assert_eq!(text(far.recv()), "\\x00\\x00");
        let (near, far): (UnbufferedTransport, _) = framed_pair(Chunks::default);
        far.write("chunk").unwrap();
        assert_eq!(text(near.recv()), "chunk");
    });
}

// ---- std ----

/// Blocking code that knows nothing of us.
fn copy_lines(input: impl Read, mut output: impl Write) -> io::Result<()> {
    for line in BufReader::new(input).lines() {
        writeln!(output, "{}", line?)?;
    }
    output.flush()
}

#[test]
fn blocking_code_runs_on_shared_and_on_mutable_references() {
    guarded(|| {
        let at = listen(SpawnFactory::new(|mut conn: GreenTransport| {
            match &conn.read_n(1)?[..] {
                b"&" => copy_lines(&conn, &conn)?,
                // Owned, twice the same connection.
                b"o" => copy_lines(conn.clone(), conn.clone())?,
                b"m" => {
                    let mut line = String::new();
                    BufReader::new(&mut conn).read_line(&mut line)?;
                    conn.write_all(line.as_bytes())?;
                }
                _ => {
                    io::copy(&mut &conn, &mut &conn)?;
                }
            }
            Ok(())
        }));
        for way in ["&", "o", "m", "c"] {
            let conn = creator().connect_tcp(at).unwrap();
            conn.write(way).unwrap();
            conn.write("one line\n").unwrap();
            conn.lose_write_connection();
            assert_eq!(conn.read_all().unwrap(), "one line\n", "{way}");
        }
        assert!(logged().is_empty());
    });
}

#[test]
fn the_same_line_means_the_same_with_std_s_write_in_scope() {
    fn ours(mut conn: GreenTransport) -> Result {
        conn.write("a")?;
        write!(conn, "b{}", 1)?;
        conn.write_all(b"c")?;
        conn.flush()
    }
    fn through_mut(conn: &mut GreenTransport) -> Result {
        let n: usize = conn.write(b"d")?;
        assert_eq!((n, conn.write(b"")?), (1, 0));
        Ok(conn.flush()?)
    }
    guarded(|| {
        let (mut near, far) = pair();
        ours(near.clone()).unwrap();
        through_mut(&mut near).unwrap();
        let mut buffer = [0; 3];
        assert_eq!(near.read(&mut []).unwrap(), 0);
        drop(near);
        (&far).read_exact(&mut buffer).unwrap();
        let mut rest = String::new();
        (&far).read_to_string(&mut rest).unwrap();
        assert_eq!((&buffer, &*rest), (b"ab1", "cd"));
        assert_eq!((&far).read(&mut buffer).unwrap(), 0);
    });
}

#[test]
fn std_s_errors_keep_what_happened() {
    guarded(|| {
        let (near, far) = pair();
        far.abort_connection();
        let error = (&near).read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let back = Failure::from(error);
        assert_eq!(back.check(), Some(&ConnectionClosed::Lost(Some(ErrorKind::ConnectionReset))));
        assert_eq!(Write::write(&mut &near, b"x").unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

/// Headers by line, then the body.
fn request(conn: LineOnlyReceiverTransport) -> Result<(Vec<String>, Bytes)> {
    let (mut headers, mut length) = (Vec::new(), 0);
    while let Some(line) = conn.read_line()?.filter(|line| !line.is_empty()) {
        let line = String::from_utf8_lossy(&line).into_owned();
        if let Some(n) = line.strip_prefix("Content-Length: ") {
            length = n.parse()?;
        }
        headers.push(line);
    }
    Ok((headers, conn.reframe(Raw).read_n(length)?))
}
#[test]
fn lines_first_then_a_body_whatever_the_chunks() {
    guarded(|| {
        for read_size in [1, 3, 1 << 20] {
            let (near, far) = framed_pair(Lines::new);
            near.set_read_size(read_size);
            far.write("POST /\r\nContent-Length: 11\r\n\r\nhello world and more").unwrap();
            let (headers, body) = request(near).unwrap();
            assert_eq!((headers.len(), &body[..]), (2, &b"hello world"[..]));
        }
    });
}

// ---- taking over ----

struct Upgrade;
impl LineHandler for Upgrade {
    fn line_received(&mut self, transport: LineTransport, line: &[u8]) {
        if line == b"UPGRADE" {
            let conn = GreenTransport::take_over(*transport, Frames, &transport.clear_line_buffer());
            spawn(move || {
                let first = conn.recv()?;
                conn.send(frame(1, "upgraded"))?;
                let second = conn.recv()?;
                assert_eq!((first, second), (Some(frame(2, "first")), Some(frame(3, "second"))));
                conn.send(frame(4, "bye"))
            });
        } else {
            transport.send_line(line);
        }
    }
}
#[test]
fn a_callback_connection_is_taken_over_in_the_middle_of_a_chunk() {
    guarded(|| {
        let at = listen(|| LineReceiver::new(Upgrade));
        let conn = creator().connect_tcp(at).unwrap();
        conn.write("hello\r\nUPGRADE\r\n\x02\x05fi").unwrap();
        assert_eq!(conn.read_n(7).unwrap(), "hello\r\n");
        conn.write("rst").unwrap();
        let conn = conn.reframe(Frames);
        assert_eq!(conn.recv().unwrap(), Some(frame(1, "upgraded")));
        conn.send(frame(3, "second")).unwrap();
        assert_eq!(conn.recv().unwrap(), Some(frame(4, "bye")));
        assert_eq!(conn.recv().unwrap(), None);
        assert!(logged().is_empty());
    });
}

#[test]
fn a_wire_may_be_taken_over_as_soon_as_it_is_made_and_by_a_green_thread() {
    guarded(|| {
        let at = listen(|| {
            Probe::new().on_made(|transport| {
                let conn = GreenTransport::take_over(transport, Raw, b"left ");
                spawn(move || conn.write(conn.read_all()?));
            })
        });
        let conn = creator().connect_tcp(at).unwrap();
        conn.write("right").unwrap();
        conn.lose_write_connection();
        assert_eq!(conn.read_all().unwrap(), "left right");
        // Not in a callback.
        let made = Rc::new(Cell::new(None));
        let slot = made.clone();
        let at = listen(move || {
            let slot = slot.clone();
            Probe::new().on_made(move |transport| slot.set(Some(transport)))
        });
        let conn = creator().connect_tcp(at).unwrap();
        until(|| made.get().is_some());
        let taken = GreenTransport::take_over(made.get().unwrap(), Lines::new(), b"one\r\nt");
        conn.write("wo\r\n").unwrap();
        assert_eq!((text(taken.recv()), text(taken.recv())), ("one".into(), "two".into()));
        // Again, from itself.
        let again = GreenTransport::take_over(taken.transport(), Raw, b"");
        yield_now();
        assert_eq!(text(taken.recv()), "-");
        drop(taken);
        conn.write("three").unwrap();
        assert_eq!(again.read_n(5).unwrap(), "three");
        drop(again);
        assert_eq!(text(conn.recv()), "-");
    });
}

#[test]
fn a_wire_that_is_gone_taken_over_gives_what_was_unread_and_the_end() {
    guarded(|| {
        let (near, far) = pair();
        let wire = near.transport();
        far.close().unwrap();
        near.close().unwrap();
        let late = GreenTransport::take_over(wire, Raw, b"abc");
        assert_eq!((text(late.recv()), text(late.recv())), ("abc".into(), "-".into()));
        assert!(late.write("x").is_err());
        late.close().unwrap();
        // Lost between the call and the switch.
        let seen = Rc::new(RefCell::new(None));
        let slot = seen.clone();
        let at = listen(move || {
            let slot = slot.clone();
            Probe::new().on_data(move |transport, data| {
                transport.abort_connection();
                *slot.borrow_mut() = Some(GreenTransport::take_over(transport, Raw, data));
            })
        });
        let conn = creator().connect_tcp(at).unwrap();
        conn.write("abc").unwrap();
        assert!(conn.recv().is_err());
        let taken = seen.borrow_mut().take().unwrap();
        assert_eq!(text(taken.recv()), "abc");
        assert_eq!(taken.recv().unwrap_err().check(), Some(&ConnectionClosed::Aborted));
        assert_eq!(text(taken.recv()), "-");
    });
}

// ---- other wires ----

#[test]
fn green_transports_run_on_unix_sockets() {
    guarded(|| {
        let path = support::folder("green-unix").join("socket");
        let reactor = Reactor::current();
        reactor.listen_unix(&path, SpawnFactory::new(|conn: GreenTransport| conn.write(conn.read_all()?))).unwrap();
        let creator = GreenClientCreator::new(&reactor);
        let conn = creator.connect_unix(&path).unwrap();
        let writer = {
            let conn = conn.clone();
            spawn(move || {
                conn.write(vec![7; 5_000_000])?;
                conn.lose_write_connection();
                Ok(())
            })
        };
        writer.wait().unwrap();
        assert!(conn.read_all().unwrap().iter().filter(|byte| **byte == 7).count() == 5_000_000);
        assert!(creator.framed(Lines::new).connect_unix(path.with_extension("none")).is_err());
        reactor.close();
    });
}

/// Both directions of a port forwarder at once.
#[test]
fn noise_goes_through_a_forwarder_both_ways_unharmed() {
    const LENGTH: u64 = 10_000_000;
    fn forward(source: &UnbufferedTransport, dest: &UnbufferedTransport) -> Result {
        while let Some(data) = source.recv()? {
            dest.write(data)?;
        }
        dest.lose_write_connection();
        Ok(())
    }
    fn same_noise(conn: &GreenTransport) -> bool {
        let (mut expected, mut got) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        let mut noise = Noise::new(LENGTH);
        loop {
            match noise.read(&mut expected).unwrap() {
                0 => return conn.read_n(1).unwrap().is_empty(),
                n if (&mut &*conn).read_exact(&mut got[..n]).is_err() || expected[..n] != got[..n] => return false,
                _ => {}
            }
        }
    }
    fn send_noise(conn: GreenTransport) -> Result {
        io::copy(&mut Noise::new(LENGTH), &mut &conn)?;
        conn.lose_write_connection();
        Ok(())
    }
    guarded(|| {
        let server = listen(SpawnFactory::new(|conn: GreenTransport| {
            let sender = {
                let conn = conn.clone();
                spawn(move || send_noise(conn))
            };
            assert!(same_noise(&conn));
            sender.wait()
        }));
        let forwarder = listen(SpawnFactory::framed(Chunks::default, move |local: UnbufferedTransport| {
            let remote = creator().framed(Chunks::default).connect_tcp(server)?;
            let ways = [(local.clone(), remote.clone()), (remote, local)]
                .map(|(source, dest)| proc::spawn(move || forward(&source, &dest)));
            proc::wait_all(ways).map(drop)
        }));
        let conn = creator().connect_tcp(forwarder).unwrap();
        let sender = {
            let conn = conn.clone();
            spawn(move || send_noise(conn))
        };
        assert!(same_noise(&conn));
        sender.wait().unwrap();
        conn.close().unwrap();
        assert!(logged().is_empty());
    });
}

// ---- faults ----

fn simulated(network: &Network, program: impl FnOnce(SocketAddr, &Network) -> Result) -> Result {
    simulate_with(network, |reactor, network| {
        let factory = SpawnFactory::framed(Lines::new, |conn| {
            for line in &conn {
                conn.send(line?)?;
            }
            Ok(())
        });
        let port = reactor.listen_tcp("127.0.0.1:7", factory)?;
        let at = port.address().socket().expect("it listens");
        program(at, network)
    })
}

#[test]
fn short_reads_and_writes_and_slow_lines_change_nothing() {
    let network = Network::new();
    network.limit_io(1);
    network.set_latency(Duration::from_millis(40));
    network.set_buffer(100);
    simulated(&network, |at, _| {
        let conn = creator().framed(Lines::new).connect_tcp(at)?;
        for n in [0, 1, 1000] {
            conn.send("x".repeat(n))?;
            assert_eq!(conn.recv()?.map(|line| line.len()), Some(n));
        }
        conn.close()
    })
    .unwrap();
    assert!(network.elapsed() > Duration::from_millis(40) * 6);
}

#[test]
fn resets_end_readers_and_writers_with_their_reason() {
    let network = Network::new();
    simulated(&network, |at, network| {
        let conns: Vec<_> = (0..10).map(|_| creator().framed(Lines::new).connect_tcp(at)).collect::<Result<_>>()?;
        let readers: Vec<_> = conns
            .iter()
            .map(|conn| {
                let conn = conn.clone();
                spawn(move || conn.recv())
            })
            .collect();
        sleep(Duration::from_secs(1));
        network.reset_all();
        let told = wait_all(readers);
        assert_eq!(flush_logged_failures_of::<ConnectionClosed>().len(), 10, "of the handlers of the server");
        for outcome in told {
            assert_eq!(outcome.unwrap_err().check(), Some(&ConnectionClosed::Lost(Some(ErrorKind::ConnectionReset))));
        }
        for conn in conns {
            assert!(conn.send("x").is_err());
            assert_eq!(conn.recv()?, None);
        }
        // And the server serves on.
        let conn = creator().framed(Lines::new).connect_tcp(at)?;
        conn.send("x")?;
        assert_eq!(text(conn.recv()), "x");
        // The peer is gone, and a write is the first to find out.
        network.break_writes(1);
        conn.send("y")?;
        let broken = conn.recv().unwrap_err();
        assert_eq!(broken.check(), Some(&ConnectionClosed::Lost(Some(ErrorKind::BrokenPipe))));
        Ok(())
    })
    .unwrap();
}

// TW-56
#[test]
fn connecting_is_refused_or_times_out_as_the_network_says() {
    let network = Network::new();
    simulated(&network, |at, network| {
        network.refuse_connects(true);
        let refused = creator().connect_tcp(at).unwrap_err();
        assert!(matches!(refused.check(), Some(ConnectError::Refused { .. })));
        network.refuse_connects(false);
        network.blackhole(true);
        let (limit, before) = (Duration::from_secs(5), network.elapsed());
        let late = creator().connect_tcp(Destination::from(at).timeout(limit)).unwrap_err();
        assert!(matches!(late.check(), Some(ConnectError::TimedOut { after, .. }) if *after == limit), "{late:?}");
        assert_eq!(network.elapsed() - before, limit);
        network.blackhole(false);
        creator().connect_tcp(at)?.close()
    })
    .unwrap();
    assert_eq!(network.connections(), 0);
}

#[test]
fn a_writer_waits_in_simulated_time_for_a_peer_that_does_not_read() {
    let network = Network::new();
    network.set_buffer(1000);
    simulate_with(&network, |_, network| {
        let (near, far) = pair();
        let day = Duration::from_secs(86_400);
        let reader = spawn(move || {
            sleep(day);
            Ok(far.read_n(200_000)?.len())
        });
        near.write(vec![0; 200_000])?;
        assert!(network.elapsed() >= day);
        assert_eq!(reader.wait()?, 200_000);
        Ok(())
    })
    .unwrap();
}
