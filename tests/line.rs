//! The line protocols, callback style: `LineReceiver` and `LineOnlyReceiver` on a wire whose far end is the test.
mod rig;

use bytes::Bytes;
use rig::{Far, Log, pump};
use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;
use twistlet::error::LineTooLong;
use twistlet::protocols::{LineHandler, LineOnlyReceiver, LineReceiver, LineTransport, Lines};
use twistlet::{ConnectionClosed, Protocol, Reactor, Shared, TransportRef};

type OnLine = Box<dyn FnMut(LineTransport, &str)>;

/// Records what it is told, and does in `on_line` what the test wants done; `raw N` begins raw mode for N bytes.
struct Recorder {
    log: Log,
    on_line: OnLine,
    raw_left: usize,
}
impl Recorder {
    fn new(log: &Log, on_line: impl FnMut(LineTransport, &str) + 'static) -> Self {
        Recorder { log: log.clone(), on_line: Box::new(on_line), raw_left: 0 }
    }
}
impl LineHandler for Recorder {
    fn connection_made(&mut self, _: LineTransport) {
        self.log.add("made");
    }
    fn line_received(&mut self, transport: LineTransport, line: &[u8]) {
        let line = String::from_utf8_lossy(line).into_owned();
        self.log.add(&line);
        if let Some(n) = line.strip_prefix("raw ") {
            self.raw_left = n.parse().expect("a number");
            transport.set_raw_mode();
        }
        (self.on_line)(transport, &line);
    }
    fn raw_data_received(&mut self, transport: LineTransport, data: &[u8]) {
        let n = self.raw_left.min(data.len());
        self.raw_left -= n;
        // Chunks mean nothing: recorded byte by byte.
        for byte in &data[..n] {
            self.log.add(format!("raw:{}", char::from(*byte)));
        }
        if self.raw_left == 0 {
            transport.set_line_mode(&data[n..]);
        }
    }
    fn line_length_exceeded(&mut self, _: LineTransport, line: &[u8]) {
        self.log.add(format!("too long: {}", String::from_utf8_lossy(line)));
    }
    fn read_connection_lost(&mut self, _: LineTransport) {
        self.log.add("read lost");
    }
    fn write_connection_lost(&mut self, _: LineTransport) {
        self.log.add("write lost");
    }
    fn handshake_completed(&mut self, _: LineTransport) {
        self.log.add("handshake");
    }
    fn connection_lost(&mut self, _: LineTransport, reason: &ConnectionClosed) {
        self.log.add(format!("lost: {reason}"));
    }
}

fn receiver(on_line: impl FnMut(LineTransport, &str) + 'static) -> (Reactor, Log, Far) {
    let (reactor, log) = (Reactor::current(), Log::default());
    let far = Far::connect(reactor, LineReceiver::new(Recorder::new(&log, on_line)));
    log.take();
    (reactor, log, far)
}
fn only_receiver(lines: Lines, on_line: impl FnMut(LineTransport, &str) + 'static) -> (Reactor, Log, Far) {
    let (reactor, log) = (Reactor::current(), Log::default());
    let far = Far::connect(reactor, LineOnlyReceiver::with(lines, Recorder::new(&log, on_line)));
    log.take();
    (reactor, log, far)
}

#[test]
fn lines_and_raw_blocks_come_the_same_in_chunks_of_any_size() {
    // P01, LIN-2
    let script = "one\r\n\r\nraw 7\r\nabc\r\ndetwo\r\nraw 1\r\nxraw 3\r\n\r\n\rlast\r\nunfinished";
    let mut expected = None;
    for size in (1..=9).chain([64, 1000]) {
        let (_reactor, log, far) = receiver(|_, _| {});
        for chunk in script.as_bytes().chunks(size) {
            far.deliver(chunk);
        }
        let events = log.take();
        assert_eq!(events[0..4], ["one", "", "raw 7", "raw:a"]);
        assert_eq!(events.last().unwrap(), "last");
        assert_eq!(events.len(), 4 + 6 + 2 + 1 + 1 + 3 + 1, "{events:?}");
        assert_eq!(*expected.get_or_insert_with(|| events.clone()), events, "in chunks of {size}");
    }
}

#[test]
fn only_lines_come_in_chunks_of_any_size_and_the_tail_is_kept() {
    // PX05, LIN-11
    for size in [1, 2, 3, 5, 100] {
        let (_reactor, log, far) = only_receiver(Lines::new(), |_, _| {});
        for chunk in b"one\r\ntwo\r\r\n\nthree\r\n".chunks(size) {
            far.deliver(chunk);
        }
        far.deliver("fo");
        assert_eq!(log.take(), ["one", "two\r", "\nthree"]);
        far.deliver("ur\r\n");
        assert_eq!(log.take(), ["four"]);
    }
}

#[test]
fn lines_after_a_pause_wait_for_the_resume() {
    // P02, LIN-8
    let (reactor, log, far) = receiver(|transport, line| {
        if line == "pause" {
            transport.pause_producing();
            transport.call_later(Duration::ZERO, move || transport.resume_producing());
        }
    });
    far.deliver("one\r\npause\r\ntwo\r\nthr");
    assert_eq!(log.take(), ["one", "pause"]);
    pump(reactor);
    assert_eq!(log.take(), ["two"]);
    far.deliver("ee\r\n");
    assert_eq!(log.take(), ["three"]);
}

#[test]
fn each_resume_delivers_one_line_to_who_pauses_after_every_line() {
    // P08
    let (reactor, log, far) = only_receiver(Lines::new(), |transport, _| transport.pause_producing());
    far.deliver("one\r\ntwo\r\nthree\r\n");
    for line in ["one", "two", "three"] {
        assert_eq!(log.take(), [line]);
        assert!(far.is_paused());
        far.near.resume_producing();
        assert!(log.all().is_empty(), "R1: no callback before a transport's method returns");
        pump(reactor);
    }
    assert!(log.take().is_empty());
    assert!(!far.is_paused());
}

#[test]
fn a_pause_through_any_copy_of_the_name_holds_the_lines() {
    let (reactor, log, far) = receiver(|transport, line| {
        if line == "pause" {
            let plain: TransportRef = *transport;
            plain.pause_producing();
            plain.pause_producing();
        }
    });
    far.deliver("pause\r\none\r\n");
    far.deliver("two\r\n");
    pump(reactor);
    assert_eq!(log.take(), ["pause"]);
    far.near.resume_producing();
    far.near.pause_producing();
    pump(reactor);
    assert!(log.take().is_empty(), "paused again before its turn");
    far.near.resume_producing();
    pump(reactor);
    assert_eq!(log.take(), ["one", "two"]);
}

#[test]
fn raw_bytes_after_a_pause_wait_for_the_resume() {
    // PX01
    let (reactor, log, far) = receiver(|transport, line| {
        if line == "raw 3" {
            transport.pause_producing();
        }
    });
    far.deliver("raw 3\r\nabcone\r\n");
    pump(reactor);
    assert_eq!(log.take(), ["raw 3"]);
    far.near.resume_producing();
    pump(reactor);
    assert_eq!(log.take(), ["raw:a", "raw:b", "raw:c", "one"]);
}

/// Raw and line mode in turn, at every byte.
struct Flip {
    flips: Rc<RefCell<usize>>,
}
impl LineHandler for Flip {
    fn line_received(&mut self, transport: LineTransport, _: &[u8]) {
        transport.set_raw_mode();
    }
    fn raw_data_received(&mut self, transport: LineTransport, data: &[u8]) {
        *self.flips.borrow_mut() += 1;
        transport.set_line_mode(&data[1..]);
    }
}

#[test]
fn thousands_of_mode_flips_in_one_chunk_need_no_stack() {
    // P04, LIN-6
    let small = std::thread::Builder::new().stack_size(64 * 1024);
    let flips_in_thread = small.spawn(|| {
        let reactor = Reactor::new().unwrap();
        let flips = Rc::new(RefCell::new(0));
        let far =
            Far::connect(reactor, LineReceiver::with(Lines::new().delimiter(b"\n"), Flip { flips: flips.clone() }));
        far.deliver("\nx".repeat(5000));
        flips.take()
    });
    assert_eq!(flips_in_thread.unwrap().join().unwrap(), 5000);
}

#[test]
fn an_over_long_line_closes_the_connection_with_an_error_that_says_so() {
    // P05, LIN-3, LIN-4
    struct Plain;
    impl LineHandler for Plain {
        fn line_received(&mut self, _: LineTransport, line: &[u8]) {
            assert!(line.len() <= 16_384);
        }
    }
    for rest in ["\r\n", ""] {
        for only in [false, true] {
            let reactor = Reactor::new().unwrap();
            let far = if only {
                Far::connect(reactor, LineOnlyReceiver::new(Plain))
            } else {
                Far::connect(reactor, LineReceiver::new(Plain))
            };
            far.deliver(format!("{}\r\n", "x".repeat(16_384)));
            assert!(!far.is_disconnecting(), "a line of the limit is taken");
            far.deliver(format!("{}{rest}", "x".repeat(if rest.is_empty() { 16_386 } else { 16_385 })));
            assert!(far.is_disconnecting());
            assert_eq!(far.failure().unwrap().check::<LineTooLong>(), Some(&LineTooLong { limit: 16_384 }));
            drop(far);
            reactor.close();
        }
    }
}

#[test]
fn a_delimiter_cut_in_two_does_not_make_a_line_too_long() {
    // LIN-3
    let (_reactor, log, far) = only_receiver(Lines::new().max_length(5), |_, _| {});
    far.deliver("12345\r");
    far.deliver("\n");
    assert_eq!(log.take(), ["12345"]);
    far.deliver("12345\r");
    far.deliver("x");
    assert_eq!(log.take(), ["too long: 12345\rx"]);
}

#[test]
fn an_endless_line_is_told_of_once_the_limit_is_passed_and_costs_no_more() {
    let (_reactor, log, far) = only_receiver(Lines::new().max_length(1000), |_, _| {});
    for _ in 0..1002 {
        far.deliver("x");
    }
    let told = log.take();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].len(), "too long: ".len() + 1002);
}

#[test]
fn only_the_excess_is_handed_over_after_a_short_line() {
    // PX04
    let (reactor, log) = (Reactor::current(), Log::default());
    let lines = Lines::new().max_length(5);
    let far = Far::connect(reactor, LineReceiver::with(lines, Recorder::new(&log, |_, _| {})));
    log.take();
    far.deliver("one\r\n0123456789");
    assert_eq!(log.take(), ["one", "too long: 0123456789"]);
    // LIN-4: a receiver with raw mode hands over everything behind it too.
    far.deliver("0123456789\r\ntwo\r\nrest");
    assert_eq!(log.take(), ["too long: 0123456789\r\ntwo\r\nrest"]);
    far.deliver("three\r\n");
    assert_eq!(log.take(), ["three"], "usable, if the handler left it so");
}

#[test]
fn an_only_receiver_drops_the_lines_behind_an_over_long_one_and_keeps_the_tail() {
    // LIN-11
    let (_reactor, log, far) = only_receiver(Lines::new().max_length(5), |_, _| {});
    far.deliver("0123456789\r\ntwo\r\nthr");
    assert_eq!(log.take(), ["too long: 0123456789"]);
    far.deliver("ee\r\n");
    assert_eq!(log.take(), ["three"]);
}

#[test]
fn no_line_follows_a_close() {
    // P20, LIN-5
    for only in [false, true] {
        let close = |transport: LineTransport, line: &str| {
            if line == "3" {
                transport.lose_connection();
            }
        };
        let (reactor, log, far) = if only { only_receiver(Lines::new(), close) } else { receiver(close) };
        far.deliver("1\r\n2\r\n3\r\n4\r\n");
        far.deliver("5\r\n");
        assert_eq!(log.take(), ["1", "2", "3"]);
        drop(far);
        reactor.close();
    }
}

#[test]
fn no_line_follows_an_abort() {
    let (_reactor, log, far) = receiver(|transport, _| transport.abort_connection());
    far.deliver("1\r\n2\r\n");
    assert_eq!(log.take(), ["1"]);
}

struct Taken {
    log: Log,
}
impl Protocol for Taken {
    fn connection_made(&mut self, _: TransportRef) {
        self.log.add("taken");
    }
    fn data_received(&mut self, _: TransportRef, data: &[u8]) {
        self.log.add(format!("bytes: {}", String::from_utf8_lossy(data)));
    }
}

#[test]
fn another_protocol_gets_the_rest_of_the_chunk() {
    // PX07, INT-5, LIN-9
    for only in [false, true] {
        let own = Log::default();
        let taken = own.clone();
        let upgrade = move |transport: LineTransport, line: &str| {
            if line == "UPGRADE" {
                transport.switch_protocol(Taken { log: taken.clone() }, transport.clear_line_buffer());
            }
        };
        let (reactor, log, far) = if only { only_receiver(Lines::new(), upgrade) } else { receiver(upgrade) };
        far.deliver("one\r\nUPGRADE\r\nraw\r\nbytes");
        far.deliver("more");
        assert_eq!(log.take(), ["one", "UPGRADE"]);
        assert_eq!(own.take(), ["taken", "bytes: raw\r\nbytes", "bytes: more"]);
        drop(far);
        reactor.close();
    }
}

#[test]
fn no_line_follows_a_switch_even_if_the_rest_was_left() {
    let own = Log::default();
    let taken = own.clone();
    let (_reactor, log, far) =
        receiver(move |transport, _| transport.switch_protocol(Taken { log: taken.clone() }, b"unread"));
    far.deliver("one\r\ntwo\r\n");
    assert_eq!(log.take(), ["one"]);
    assert_eq!(own.take(), ["taken", "bytes: unread"]);
}

#[test]
fn a_switch_from_outside_comes_in_a_later_turn() {
    let own = Log::default();
    let (reactor, log, far) = receiver(|_, _| {});
    far.deliver("one\r\ntw");
    far.near.switch_protocol(Taken { log: own.clone() }, b"");
    assert!(own.all().is_empty());
    pump(reactor);
    far.deliver("o\r\n");
    assert_eq!((log.take(), own.take()), (vec!["one".into()], vec!["taken".into(), "bytes: o\r\n".into()]));
}

#[test]
fn the_line_buffer_can_be_taken_and_cleared() {
    // LIN-9
    let kept = Rc::new(RefCell::new(Bytes::new()));
    let keep = kept.clone();
    let (_reactor, log, far) = receiver(move |transport, line| {
        if line == "clear" {
            *keep.borrow_mut() = transport.clear_line_buffer();
            assert!(transport.clear_line_buffer().is_empty());
        }
    });
    far.deliver("clear\r\ntwo\r\nthr");
    assert_eq!(log.take(), ["clear"]);
    assert_eq!(&kept.borrow()[..], b"two\r\nthr");
    far.deliver("ee\r\n");
    assert_eq!(log.take(), ["ee"]);
}

#[test]
fn line_mode_set_from_outside_delivers_its_lines_in_a_later_turn() {
    // LIN-6, and R1
    let name = Rc::new(RefCell::new(None));
    let keep = name.clone();
    let (reactor, log, far) = receiver(move |transport, _| *keep.borrow_mut() = Some(transport));
    far.deliver("raw 9\r\n");
    let transport: LineTransport = name.borrow().unwrap();
    transport.set_line_mode(b"one\r\ntwo\r\n");
    assert_eq!(log.take(), ["raw 9"]);
    pump(reactor);
    assert_eq!(log.take(), ["one", "two"]);
}

#[test]
fn an_only_receiver_has_no_raw_mode() {
    let (_reactor, log, far) = only_receiver(Lines::new(), |_, _| {});
    far.deliver("raw 3\r\nabc\r\n");
    assert_eq!(log.take(), ["raw 3", "abc"]);
}

#[test]
fn a_line_is_sent_as_one_write_with_its_delimiter() {
    // LIN-10
    let (_reactor, _log, far) = only_receiver(Lines::new().delimiter(b"\n"), |transport, line| {
        transport.send_line(line);
        write!(transport, "{line}!");
    });
    far.deliver("hello\n");
    assert_eq!(far.writes(), 2);
    assert_eq!(far.written(), "hello\nhello!");
}
#[test]
fn every_event_is_forwarded() {
    for only in [false, true] {
        let (reactor, log) = (Reactor::current(), Log::default());
        let handler = Recorder::new(&log, |_, _| {});
        let mut protocol: Box<dyn Protocol> =
            if only { Box::new(LineOnlyReceiver::new(handler)) } else { Box::new(LineReceiver::new(handler)) };
        let far = Far::connect(reactor, LineOnlyReceiver::new(Recorder::new(&Log::default(), |_, _| {})));
        protocol.connection_made(far.near);
        protocol.data_received(far.near, b"x\r\n");
        protocol.read_connection_lost(far.near);
        protocol.write_connection_lost(far.near);
        protocol.handshake_completed(far.near);
        protocol.connection_lost(far.near, &ConnectionClosed::Aborted);
        let end = "lost: connection aborted by this side";
        assert_eq!(log.take(), ["made", "x", "read lost", "write lost", "handshake", end]);
        drop(far);
        reactor.close();
    }
}

#[test]
fn a_shared_handler_is_told_everything_and_its_owner_may_be_inside() {
    let (reactor, log) = (Reactor::current(), Log::default());
    let shared = Shared::new(Recorder::new(&log, |_, _| {}));
    let mut far = Far::connect(reactor, LineReceiver::new(shared.clone()));
    {
        let inside = shared.borrow();
        far.deliver("one\r\nraw 2\r\n");
        inside.log.add("inside");
    }
    far.deliver("ab");
    far.wire().deliver_read_lost();
    far.wire().deliver_write_lost();
    far.lose(&ConnectionClosed::Done);
    let end = "lost: connection closed in order";
    assert_eq!(log.take(), ["made", "inside", "one", "raw 2", "raw:a", "raw:b", "read lost", "write lost", end]);
}

#[test]
fn a_panic_in_a_queued_call_of_a_shared_handler_closes_the_connection() {
    let (reactor, log) = (Reactor::current(), Log::default());
    let shared = Shared::new(Recorder::new(&log, |_, line| assert_ne!(line, "panic")));
    let far = Far::connect(reactor, LineReceiver::new(shared.clone()));
    let inside = shared.borrow();
    far.deliver("panic\r\n");
    drop(inside);
    assert!(far.failure().unwrap().is_panic());
}

#[test]
fn line_transports_are_names_of_their_wires() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let keep = seen.clone();
    let (_reactor, _log, mut far) = receiver(move |transport, _| keep.borrow_mut().push(transport));
    far.deliver("one\r\ntwo\r\n");
    let names = seen.take();
    assert_eq!(names[0], names[1]);
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), 1);
    assert!(format!("{:?}", names[0]).starts_with("LineTransport("));
    far.lose(&ConnectionClosed::Done);
    let gone = names[0];
    gone.send_line("nobody hears");
    gone.set_raw_mode();
    gone.set_line_mode(b"x\r\n");
    assert!(gone.clear_line_buffer().is_empty());
    assert!(gone.is_disconnecting());
}

#[test]
fn a_name_of_a_connection_that_is_gone_does_not_touch_the_next() {
    let names = Rc::new(RefCell::new(Vec::new()));
    let keep = names.clone();
    let (reactor, _log, mut far) = receiver(move |transport, _| keep.borrow_mut().push(transport));
    far.deliver("x\r\n");
    far.lose(&ConnectionClosed::Done);
    let log = Log::default();
    let next = Far::connect(reactor, LineReceiver::new(Recorder::new(&log, |_, _| {})));
    next.deliver("one\r\ntw");
    let old = names.borrow()[0];
    old.set_raw_mode();
    assert!(old.clear_line_buffer().is_empty());
    old.send_line("old");
    next.deliver("o\r\n");
    assert_eq!(log.take(), ["made", "one", "two"]);
    assert_eq!(next.written(), "");
}

#[test]
fn the_end_waits_behind_lines_that_a_pause_holds_back() {
    // What the reactor reads at the resume is the end, and the first line behind the pause pauses again.
    let log = Log::default();
    let said = log.clone();
    struct OneATime(Log);
    impl LineHandler for OneATime {
        fn line_received(&mut self, transport: LineTransport, line: &[u8]) {
            self.0.add(String::from_utf8_lossy(line));
            transport.pause_producing();
            transport.call_later(Duration::from_millis(1), move || transport.resume_producing());
        }
        fn read_connection_lost(&mut self, transport: LineTransport) {
            self.0.add("end");
            transport.lose_connection();
        }
    }
    rig::run(|reactor| {
        let to = rig::serve(reactor, move || {
            let said = said.clone();
            LineReceiver::new(OneATime(said))
        });
        drop(rig::peer(to, move |mut stream| {
            use std::io::{Read, Write};
            stream.write_all(b"one\r\ntwo\r\nthree\r\n").expect("taken");
            stream.shutdown(std::net::Shutdown::Write).expect("open");
            stream.read_to_end(&mut Vec::new()).map(drop)
        }));
        fn watch(reactor: Reactor, log: Log) {
            if log.contains("end") {
                let _ = reactor.stop();
            } else {
                reactor.call_later(Duration::from_millis(1), move || watch(reactor, log));
            }
        }
        watch(reactor, log.clone());
    });
    assert_eq!(log.all(), ["one", "two", "three", "end"]);
}
