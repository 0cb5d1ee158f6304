//! Several readers of one connection: their order, what they leave to each other, how all hear of the end. And decoders, which
//! are user code: they wait, panic, fail, read their own connection.
#![cfg(feature = "green")]
mod guard;
mod pair;
mod rig;

use bytes::{Bytes, BytesMut};
use guard::{guarded, in_callback, logged, panic_of};
use pair::{framed_pair, listen, pair, text, until};
use rig::{Far, Probe, reset};
use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;
use twistlet::error::{Busy, Killed, LineTooLong};
use twistlet::green::{Event, GreenTransport, sleep, spawn, wait_all, with_timeout, yield_now};
use twistlet::protocols::{Decoder, Inbox, LineReceiver, Lines, Raw, Received};
use twistlet::testing::{Network, simulate_with};
use twistlet::{ConnectionClosed, Failure, Reactor, Result, TimedOut, TransportRef};

const SHORT: Duration = Duration::from_millis(10);

/// A wire whose far end is the test, taken over by a green transport.
fn wired<D: Decoder>(decoder: D) -> (Far, GreenTransport<D>) {
    let far = Far::connect(Reactor::current(), Probe::new());
    let conn = GreenTransport::take_over(far.near, decoder, b"");
    sleep(Duration::ZERO);
    (far, conn)
}
fn reader<D: Decoder<Item = Bytes>>(conn: &GreenTransport<D>) -> twistlet::green::GreenThread<String> {
    let conn = conn.clone();
    spawn(move || Ok(text(conn.recv())))
}
fn all(readers: Vec<twistlet::green::GreenThread<String>>) -> Vec<String> {
    wait_all(readers).into_iter().map(|read| read.unwrap_or_else(|failure| format!("failed: {failure}"))).collect()
}

// TW-24, G9
#[test]
fn readers_of_lines_that_came_together_get_one_each_though_the_first_asks_again_at_once() {
    guarded(|| {
        let (near, far) = framed_pair(Lines::new);
        let greedy = {
            let near = near.clone();
            spawn(move || Ok([text(near.recv()), text(near.recv())].join(" ")))
        };
        yield_now();
        let others = vec![reader(&near), reader(&near)];
        yield_now();
        far.write("a\r\nb\r\nc\r\nd\r\n").unwrap();
        assert_eq!(greedy.wait().unwrap(), "a d");
        assert_eq!(all(others), ["b", "c"]);
    });
}

#[test]
fn messages_that_a_decoder_has_already_go_to_the_readers_behind() {
    guarded(|| {
        let (near, far) = framed_pair(|| Received::new(|inbox: Inbox<Bytes>| LineReceiver::new(inbox)));
        let readers = (0..3).map(|_| reader(&near)).collect();
        yield_now();
        far.write("one\r\ntwo\r\nthree\r\n").unwrap();
        assert_eq!(all(readers), ["one", "two", "three"]);
    });
}

#[test]
fn a_read_n_is_not_torn_by_other_readers() {
    guarded(|| {
        let (far, conn) = wired(Raw);
        let reads: Vec<_> = [6, 1, 2]
            .map(|n| {
                let conn = conn.clone();
                spawn(move || conn.read_n(n))
            })
            .into();
        yield_now();
        for chunk in ["abc", "d", "efgh", "i"] {
            far.deliver(chunk);
            yield_now();
        }
        let reads: Vec<_> = wait_all(reads).into_iter().map(Result::unwrap).collect();
        assert_eq!(reads, ["abcdef", "g", "hi"]);
    });
}

#[test]
fn a_reader_killed_after_its_wake_takes_what_woke_it_and_leaves_the_rest_to_the_next() {
    guarded(|| {
        let (far, conn) = wired(Raw);
        let took = Rc::new(RefCell::new(String::new()));
        let first = {
            let (conn, took) = (conn.clone(), took.clone());
            spawn(move || {
                let read = conn.read_n(1)?;
                took.borrow_mut().push_str(&read.escape_ascii().to_string());
                conn.read_n(1).map(drop)
            })
        };
        yield_now();
        let second = reader(&conn);
        yield_now();
        far.deliver("abc");
        first.kill();
        assert!(first.wait().unwrap_err().is::<Killed>());
        assert_eq!(*took.borrow(), "a");
        assert_eq!(second.wait().unwrap(), "bc");
    });
}

#[test]
fn readers_that_are_killed_or_late_leave_everything_to_the_next() {
    guarded(|| {
        let (far, conn) = wired(Raw);
        let killed = reader(&conn);
        yield_now();
        let late = {
            let conn = conn.clone();
            spawn(move || Ok(with_timeout(SHORT, || conn.recv()).is_err()))
        };
        let late_in_line = {
            let conn = conn.clone();
            spawn(move || conn.recv_timeout(SHORT))
        };
        let killed_in_line = reader(&conn);
        let last = reader(&conn);
        yield_now();
        killed.kill();
        killed_in_line.kill();
        assert!(late.wait().unwrap());
        assert_eq!(late_in_line.wait().unwrap_err().check(), Some(&TimedOut(SHORT)));
        yield_now();
        far.deliver("abc");
        assert_eq!(last.wait().unwrap(), "abc");
        // Nobody reads any more: the peer is held back.
        assert!(far.is_paused());
        assert!(killed.wait().unwrap_err().is::<Killed>() && killed_in_line.wait().unwrap_err().is::<Killed>());
    });
}

// TW-16, G9, D4
#[test]
fn readers_that_wait_when_the_connection_breaks_all_hear_of_it_and_later_ones_get_the_end() {
    guarded(|| {
        let (mut far, conn) = wired(Raw);
        let readers = (0..3).map(|_| reader(&conn)).collect();
        yield_now();
        far.lose(&ConnectionClosed::Lost(Some(ErrorKind::ConnectionReset)));
        assert_eq!(all(readers), ["error: connection lost: connection reset"; 3]);
        assert_eq!(text(conn.recv()), "-");
        assert_eq!(text(conn.recv()), "-");
        conn.close().unwrap();
    });
}

// D4, TW-38, TW-42
#[test]
fn what_came_before_an_unclean_end_is_read_first_in_each_of_the_ways() {
    guarded(|| {
        let broken = || {
            let (mut far, conn) = wired(Raw);
            conn.recv_timeout(Duration::ZERO).unwrap_err();
            far.deliver("abc");
            far.lose(&ConnectionClosed::Lost(None));
            conn
        };
        let conn = broken();
        assert_eq!(conn.read_n(2).unwrap(), "ab");
        assert_eq!(conn.read_n(2).unwrap(), "c");
        assert_eq!(conn.read_n(2).unwrap_err().check(), Some(&ConnectionClosed::Lost(None)));
        assert_eq!(conn.read_n(2).unwrap(), "");
        // The error first, so that nobody takes a part for the whole; then what there is.
        let conn = broken();
        assert_eq!(conn.read_all().unwrap_err().check(), Some(&ConnectionClosed::Lost(None)));
        assert_eq!(conn.read_all().unwrap(), "abc");
        assert_eq!(conn.read_all().unwrap(), "");
        let items: Vec<String> = broken().iter().map(|item| text(item.map(Some))).collect();
        assert_eq!(items, ["abc", &format!("error: {}", ConnectionClosed::Lost(None))]);
        // Nobody read: whoever closes is told.
        let conn = broken();
        assert_eq!(conn.close().unwrap_err().check(), Some(&ConnectionClosed::Lost(None)));
        conn.close().unwrap();
    });
}

#[test]
fn an_end_in_order_stays_one_though_the_connection_breaks_later() {
    guarded(|| {
        let (mut far, conn) = wired(Raw);
        far.wire().deliver_read_lost();
        assert_eq!(text(conn.recv()), "-");
        far.lose(&ConnectionClosed::Lost(None));
        assert_eq!(text(conn.recv()), "-");
        assert_eq!(conn.write("x").unwrap_err().check(), Some(&ConnectionClosed::Lost(None)));
    });
}

// TW-48..TW-51
#[test]
fn lines_before_the_close_are_delivered_and_an_unfinished_one_is_dropped() {
    guarded(|| {
        let (near, far) = framed_pair(Lines::new);
        far.write("one\r\ntwo\r\nthr").unwrap();
        far.close().unwrap();
        let lines: Vec<String> = near.iter().map(|line| text(line.map(Some))).collect();
        assert_eq!(lines, ["one", "two"]);
        assert_eq!(near.read_line().unwrap(), None);
        // Unclean: the error comes out of the loop.
        let (near, far) = framed_pair(Lines::new);
        far.write("one\r\n").unwrap();
        assert_eq!(text(near.read_line()), "one");
        far.abort_connection();
        let lines: Vec<String> = near.iter().map(|line| text(line.map(Some))).collect();
        assert_eq!(lines, ["error: connection lost: connection reset"]);
        assert_eq!(near.read_line().unwrap(), None);
    });
}

// TW-50
#[test]
fn send_line_never_waits_and_adds_the_delimiter() {
    guarded(|| {
        let (near, far) = framed_pair(|| Lines::new().delimiter(b"\n"));
        let turns = Reactor::current().statistics().turns;
        near.send_line("x".repeat(200_000));
        near.send_line("y");
        assert_eq!(Reactor::current().statistics().turns, turns);
        near.lose_connection();
        let read = far.read_all().unwrap();
        assert_eq!((read.len(), &read[199_999..]), (200_003, &b"x\ny\n"[..]));
    });
}

/// Waits for permission in the middle of decoding.
struct Slow {
    go: Event<()>,
    panics: bool,
}
impl Decoder for Slow {
    type Item = Bytes;
    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>> {
        if input.is_empty() {
            return Ok(None);
        }
        self.go.wait()?;
        assert!(!std::mem::take(&mut self.panics), "the decoder panics");
        Ok(Some(input.split_to(1).freeze()))
    }
}

#[test]
fn readers_behind_a_decoder_that_waits_have_their_turn_after_it() {
    guarded(|| {
        let go = Event::new();
        let (far, conn) = wired(Slow { go: go.clone(), panics: false });
        let readers = (0..2).map(|_| reader(&conn)).collect();
        yield_now();
        far.deliver("a");
        yield_now();
        assert!(matches!(conn.recv_timeout(Duration::ZERO), Err(failure) if failure.is::<TimedOut>()));
        // More comes, and the end, while it is at work.
        conn.transport().resume_producing();
        far.deliver("b");
        far.wire().deliver_read_lost();
        go.send(());
        assert_eq!(all(readers), ["a", "b"]);
        assert_eq!(text(conn.recv()), "-");
    });
}

#[test]
fn a_decoder_that_panics_or_is_killed_loses_nothing() {
    guarded(|| {
        let go = Event::new();
        let (far, conn) = wired(Slow { go: go.clone(), panics: true });
        let killed = reader(&conn);
        yield_now();
        far.deliver("ab");
        yield_now();
        killed.kill();
        let panics = reader(&conn);
        let next = reader(&conn);
        yield_now();
        go.send(());
        assert!(killed.wait().unwrap_err().is::<Killed>());
        assert!(panics.wait().unwrap_err().is_panic());
        assert_eq!(next.wait().unwrap(), "a");
        assert_eq!(text(conn.recv()), "b");
    });
}

/// Reads the connection whose bytes it decodes.
#[derive(Default)]
struct Curious {
    conn: Rc<RefCell<Option<GreenTransport<Curious>>>>,
}
impl Decoder for Curious {
    type Item = String;
    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<String>> {
        let conn = self.conn.borrow().clone();
        let Some(conn) = conn else { return Ok(None) };
        let failure = conn.recv().unwrap_err();
        assert!(conn.recv_timeout(Duration::ZERO).unwrap_err().is::<Busy>());
        let length = input.len();
        input.clear();
        Ok((length > 0).then(|| format!("{} {length}", failure.is::<Busy>())))
    }
}

#[test]
fn a_decoder_that_reads_its_own_connection_is_refused() {
    guarded(|| {
        let own = Rc::default();
        let (far, conn) = wired(Curious { conn: Rc::clone(&own) });
        *own.borrow_mut() = Some(conn.clone());
        let reading = {
            let conn = conn.clone();
            spawn(move || conn.recv())
        };
        yield_now();
        far.deliver("abc");
        assert_eq!(reading.wait().unwrap().unwrap(), "true 3");
        own.take();
    });
}

#[test]
fn a_decoder_s_error_is_told_once_to_each_who_waits_and_closes_the_connection() {
    guarded(|| {
        let (near, far) = framed_pair(|| Lines::new().max_length(4));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let near = near.clone();
                spawn(move || near.recv())
            })
            .collect();
        yield_now();
        far.write("too long").unwrap();
        let mut told = wait_all(readers).into_iter().map(Result::unwrap_err);
        let (first, second) = (told.next().unwrap(), told.next().unwrap());
        assert_eq!(first.check(), Some(&LineTooLong { limit: 4 }));
        assert!(matches!(second.check(), Some(ConnectionClosed::Failed(why)) if why.is::<LineTooLong>()), "{second:?}");
        assert_eq!(near.recv().unwrap(), None);
        assert_eq!(near.iter().count(), 0);
        assert_eq!(text(far.recv()), "-");
        near.close().unwrap();
        let gone = near.write("x").unwrap_err();
        assert!(matches!(gone.check(), Some(ConnectionClosed::Failed(_))), "{gone:?}");
        assert!(logged().is_empty());
    });
}

// SL-03
#[test]
fn looking_without_waiting_finds_what_came_since_the_last_look() {
    guarded(|| {
        let (near, far) = pair();
        let look = || near.recv_timeout(Duration::ZERO);
        assert_eq!(look().unwrap_err().check(), Some(&TimedOut(Duration::ZERO)));
        far.write("abc").unwrap();
        let mut found = None;
        until(|| {
            found = look().ok();
            found.is_some()
        });
        assert_eq!(found.unwrap().unwrap(), "abc");
        far.close().unwrap();
        until(|| look().is_ok());
        assert_eq!(look().unwrap(), None);
    });
}

// SL-08, SL-09, G3
#[test]
fn in_a_callback_what_is_at_hand_may_be_read_and_nothing_be_waited_for() {
    in_callback(|| {
        let far = Far::connect(Reactor::current(), Probe::new());
        let conn = GreenTransport::take_over(far.near, Raw, b"abcdef");
        assert_eq!(conn.read_n(2).unwrap(), "ab");
        assert_eq!(conn.recv_n(1).unwrap(), "c");
        assert_eq!(text(conn.recv()), "def");
        assert!(conn.recv_timeout(Duration::ZERO).unwrap_err().is::<TimedOut>());
        for waits in [
            panic_of(|| conn.recv()),
            panic_of(|| conn.recv_timeout(SHORT)),
            panic_of(|| conn.read_n(1)),
            panic_of(|| conn.read_all()),
            panic_of(|| conn.recv_n(1)),
            panic_of(|| conn.close()),
        ] {
            assert!(waits.contains("in the main loop") && waits.contains("green_transport_readers.rs"), "{waits}");
        }
        assert_eq!((conn.read_n(0).unwrap(), conn.recv_n(0).unwrap()), (Bytes::new(), Bytes::new()));
    });
}

// D1
#[test]
fn a_time_limit_is_the_whole_call_s_and_loses_nothing() {
    guarded(|| {
        let (near, far) = framed_pair(Lines::new);
        let sender = spawn(move || {
            // Bytes, but no line, ever.
            while far.write("x").is_ok() {
                sleep(Duration::from_millis(1));
            }
        });
        assert_eq!(near.recv_timeout(SHORT).unwrap_err().check(), Some(&TimedOut(SHORT)));
        sender.kill();
        let (near, far) = framed_pair(Lines::new);
        far.write("on").unwrap();
        assert!(near.recv_timeout(SHORT).unwrap_err().is::<TimedOut>());
        far.write("e\r\n").unwrap();
        // More than there is.
        assert_eq!(near.recv_timeout(Duration::MAX).unwrap().unwrap(), "one");
        assert_eq!(Reactor::current().statistics().timers, 0);
    });
}

#[test]
fn a_time_limit_passes_on_the_clock_of_a_simulation() {
    let network = Network::new();
    let hour = Duration::from_secs(3600);
    simulate_with(&network, |_, network| {
        let (near, far) = framed_pair(Lines::new);
        let sender = spawn(move || {
            for _ in 0..4 {
                sleep(hour / 8);
                far.write("x")?;
            }
            sleep(hour);
            far.write("\r\n")
        });
        let before = network.elapsed();
        assert!(near.recv_timeout(hour).unwrap_err().is::<TimedOut>());
        assert_eq!(network.elapsed() - before, hour);
        assert_eq!(near.recv_timeout(hour).unwrap().unwrap(), "xxxx");
        sender.wait()
    })
    .unwrap();
}

#[test]
fn pauses_are_counted_and_hold_a_reader_that_waits_already() {
    guarded(|| {
        let (far, conn) = wired(Raw);
        let waiting = reader(&conn);
        yield_now();
        assert!(!far.is_paused());
        conn.pause_producing();
        conn.pause_producing();
        assert!(far.is_paused());
        conn.resume_producing();
        assert!(far.is_paused());
        conn.resume_producing();
        conn.resume_producing();
        assert!(!far.is_paused());
        conn.pause_producing();
        conn.resume_producing();
        far.deliver("abc");
        assert!(far.is_paused());
        assert_eq!(waiting.wait().unwrap(), "abc");
        // A pause does not hold back what has arrived.
        conn.recv_timeout(Duration::ZERO).unwrap_err();
        far.deliver("def");
        conn.pause_producing();
        assert_eq!(text(conn.recv()), "def");
        // Interrupted reads leave the count alone (TW-23).
        assert!(with_timeout(SHORT, || conn.recv()).is_err());
        conn.resume_producing();
        let waiting = reader(&conn);
        yield_now();
        assert!(!far.is_paused());
        far.deliver("g");
        assert_eq!(waiting.wait().unwrap(), "g");
    });
}

#[test]
fn lines_and_bytes_of_one_connection_may_alternate() {
    guarded(|| {
        let (near, far) = framed_pair(Lines::new);
        let body = near.clone().reframe(Raw);
        far.write("5\r\nhello7\r\n, world").unwrap();
        assert_eq!(text(near.read_line()), "5");
        assert_eq!(body.read_n(5).unwrap(), "hello");
        assert_eq!(text(near.read_line()), "7");
        assert_eq!(body.read_n(7).unwrap(), ", world");
        // Both wait for the same connection, and have it in their turns.
        let by_line = reader(&near);
        yield_now();
        let raw = reader(&body);
        yield_now();
        far.write("line\r\nrest").unwrap();
        assert_eq!(by_line.wait().unwrap(), "line");
        assert_eq!(raw.wait().unwrap(), "rest");
        drop(near);
        far.write("x").unwrap();
        assert_eq!(body.read_n(1).unwrap(), "x");
        drop(body);
        assert_eq!(text(far.recv()), "-");
    });
}

// G5
#[test]
fn a_destructor_that_reads_while_unwinding_gets_what_is_at_hand_and_never_waits() {
    struct Farewell(GreenTransport, Rc<RefCell<Vec<String>>>);
    impl Drop for Farewell {
        fn drop(&mut self) {
            let seen = [text(self.0.recv()), text(self.0.recv())];
            self.1.borrow_mut().extend(seen);
            self.1.borrow_mut().push(text(self.0.write(vec![0; 1 << 20]).map(|()| None)));
            self.1.borrow_mut().push(text(self.0.close().map(|()| None)));
        }
    }
    guarded(|| {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let (far, conn) = wired(Raw);
        let victim = {
            let farewell = Farewell(conn.clone(), seen.clone());
            spawn(move || {
                let farewell = farewell;
                farewell.0.read_n(100).map(drop)
            })
        };
        yield_now();
        far.deliver("abc");
        yield_now();
        victim.kill();
        assert!(victim.wait().unwrap_err().is::<Killed>());
        let killed = format!("error: {}", Failure::from(Killed));
        assert_eq!(*seen.borrow(), ["abc".to_owned(), killed.clone(), "-".to_owned(), killed]);
    });
}

#[test]
fn another_protocol_on_its_wire_is_the_end_for_a_green_transport() {
    guarded(|| {
        let (far, conn) = wired(Raw);
        let waiting = reader(&conn);
        yield_now();
        let got = Rc::new(RefCell::new(String::new()));
        let into = got.clone();
        let next = Probe::new().on_data(move |_, data| into.borrow_mut().push_str(&data.escape_ascii().to_string()));
        conn.transport().switch_protocol(next, b"");
        assert_eq!(waiting.wait().unwrap(), "-");
        assert!(conn.write("x").is_err());
        drop(conn);
        far.deliver("abc");
        assert_eq!((&**got.borrow(), far.is_disconnecting()), ("abc", false));
    });
}

#[test]
fn a_reset_is_told_to_a_reader_that_waits_and_closes_the_connection() {
    guarded(|| {
        let served = Rc::new(Cell::new(None));
        let told = served.clone();
        let at = listen(twistlet::green::SpawnFactory::new(move |conn: GreenTransport| {
            told.set(Some((text(conn.recv()), text(conn.recv()))));
        }));
        let client = rig::dial(at);
        until(|| Reactor::current().statistics().descriptors > 1);
        reset(client);
        until(|| {
            let seen = served.take();
            let done = seen.is_some();
            served.set(seen);
            done
        });
        assert_eq!(served.take().unwrap(), ("error: connection lost: connection reset".to_owned(), "-".to_owned()));
    });
}

/// Writes, and has a message though no bytes came.
struct Ticker {
    tick: Rc<Cell<u32>>,
}
impl Decoder for Ticker {
    type Item = u32;
    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<u32>> {
        input.clear();
        let tick = self.tick.take();
        Ok((tick > 0).then_some(tick))
    }
    fn attached(&mut self, transport: TransportRef, ready: &Rc<dyn Fn()>) {
        transport.write("attached");
        let (tick, ready) = (self.tick.clone(), ready.clone());
        transport.call_later(Duration::from_millis(1), move || {
            tick.set(7);
            ready();
        });
    }
}

#[test]
fn a_decoder_may_write_and_have_messages_though_no_bytes_came() {
    guarded(|| {
        let (near, far) = framed_pair(|| Ticker { tick: Rc::default() });
        assert_eq!(near.recv().unwrap(), Some(7));
        assert_eq!(far.read_n(8).unwrap(), "attached");
    });
}

/// Random readers, deadlines and kills: each byte is read once, in order, and nobody waits for ever.
#[test]
fn whoever_reads_times_out_or_is_killed_no_byte_is_lost_or_read_twice() {
    for seed in 1..=20u64 {
        guarded(move || {
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mut random = move |below: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % below
            };
            let (near, far) = pair();
            let read = Rc::new(RefCell::new(Vec::new()));
            let (mut sent, mut readers) = (Vec::new(), Vec::new());
            for _ in 0..150 {
                match random(7) {
                    0..=2 => {
                        let (near, read, way) = (near.clone(), read.clone(), random(4));
                        let limit = Duration::from_micros(random(300));
                        let amount = 1 + random(5) as usize;
                        readers.push(spawn(move || {
                            loop {
                                let bytes = match way {
                                    0 => near.recv()?.unwrap_or_default(),
                                    1 => near.read_n(amount)?,
                                    2 => match near.recv_timeout(limit) {
                                        Err(failure) if failure.is::<TimedOut>() => return Ok(()),
                                        read => read?.unwrap_or_default(),
                                    },
                                    _ => match with_timeout(limit, || near.recv_n(amount)) {
                                        Err(_) => return Ok(()),
                                        Ok(bytes) => bytes?,
                                    },
                                };
                                if bytes.is_empty() {
                                    return Ok(());
                                }
                                read.borrow_mut().extend_from_slice(&bytes);
                                if bytes[0] % 3 == 0 {
                                    yield_now();
                                }
                            }
                        }));
                    }
                    3 if !readers.is_empty() => readers[random(readers.len() as u64) as usize].kill(),
                    4 => sleep(Duration::from_micros(random(200))),
                    5 => yield_now(),
                    _ => {
                        let chunk: Vec<u8> = (0..1 + random(9)).map(|n| (sent.len() as u64 + n) as u8).collect();
                        sent.extend_from_slice(&chunk);
                        far.write(chunk).unwrap();
                    }
                }
            }
            drop(far);
            readers.push(spawn({
                let (near, read) = (near.clone(), read.clone());
                move || {
                    let rest = near.read_all()?;
                    read.borrow_mut().extend_from_slice(&rest);
                    Ok(())
                }
            }));
            for outcome in wait_all(readers) {
                assert!(outcome.as_ref().err().is_none_or(Failure::is::<Killed>), "{outcome:?}");
            }
            assert_eq!(*read.borrow(), sent, "seed {seed}");
        });
    }
}
