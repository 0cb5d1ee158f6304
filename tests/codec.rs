//! Codecs on bytes alone: any chunking, limits, garbage; and `Framed`, `Inbox`, `Received` around them.
mod rig;

use bytes::{Buf, Bytes, BytesMut};
use proptest::prelude::*;
use rig::{Far, Log, pump};
use std::time::Duration;
use twistlet::error::LineTooLong;
use twistlet::protocols::codec::{Framed, Handler};
use twistlet::protocols::{
    Chunks, Decoder, Encoder, FrameError, Inbox, Int32Strings, LineReceiver, Lines, Netstrings, Raw, Received,
};
use twistlet::{ConnectionClosed, Failure, Protocol, Reactor, Result, Shared, TransportRef};

/// Everything `decoder` finds when `data` comes in chunks of `size`, and the error at which it stopped.
fn decode<D: Decoder<Item = Bytes>>(mut decoder: D, data: &[u8], size: usize) -> (Vec<Vec<u8>>, Option<Failure>) {
    let mut input = BytesMut::new();
    let mut found = Vec::new();
    for chunk in data.chunks(size) {
        input.extend_from_slice(chunk);
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(message)) => found.push(message.to_vec()),
                Ok(None) => break,
                Err(failure) => return (found, Some(failure)),
            }
        }
    }
    (found, None)
}
fn encode<E: for<'a> Encoder<&'a [u8]>>(mut encoder: E, messages: &[Vec<u8>]) -> Vec<u8> {
    let mut output = BytesMut::new();
    for message in messages {
        encoder.encode(message, &mut output).expect("encodable");
    }
    output.to_vec()
}
#[track_caller]
fn frame_error(outcome: (Vec<Vec<u8>>, Option<Failure>)) -> FrameError {
    assert!(outcome.0.is_empty(), "{:?}", outcome.0);
    *outcome.1.expect("an error").check::<FrameError>().expect("a frame error")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// NET-1, INT-1, LIN-1: what is encoded is decoded, however it is cut.
    #[test]
    fn messages_survive_every_codec_in_any_chunks(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
        size in 1usize..64,
    ) {
        prop_assert_eq!(decode(Netstrings::new(), &encode(Netstrings::new(), &messages), size), (messages.clone(), None));
        prop_assert_eq!(decode(Int32Strings::new(), &encode(Int32Strings::new(), &messages), size), (messages.clone(), None));
        let lines: Vec<Vec<u8>> =
            messages.iter().map(|line| line.iter().copied().filter(|byte| *byte != b'\n').collect()).collect();
        prop_assert_eq!(decode(Lines::new(), &encode(Lines::new(), &lines), size), (lines.clone(), None));
        let delimiter = Lines::new().delimiter(b"\n");
        prop_assert_eq!(decode(delimiter.clone(), &encode(delimiter, &lines), size), (lines, None));
        prop_assert_eq!(decode(Raw, &messages.concat(), size).0.concat(), messages.concat());
        prop_assert_eq!(decode(Chunks, &messages.concat(), size).0.concat(), messages.concat());
    }

    #[test]
    fn garbage_gives_messages_or_an_error_and_nothing_else(
        data in prop::collection::vec(prop::sample::select(&b"0123456789:,\r\n\0ab"[..]), 0..400),
        size in 1usize..50,
    ) {
        decode(Netstrings::new().max_length(100), &data, size);
        decode(Int32Strings::new().max_length(100), &data, size);
        decode(Lines::new().max_length(100), &data, size);
    }
}

#[test]
fn a_line_of_the_limit_is_taken_and_one_byte_more_is_not() {
    // LIN-1, LIN-3
    for size in [1, 7, 100, 20_000] {
        let mut line = vec![b'x'; 16_384];
        line.extend(b"\r\n");
        assert_eq!(decode(Lines::new(), &line, size).0, [&line[..16_384]]);
        line.insert(0, b'x');
        let (found, error) = decode(Lines::new(), &line, size);
        assert!(found.is_empty());
        assert_eq!(error.expect("too long").check::<LineTooLong>(), Some(&LineTooLong { limit: 16_384 }));
    }
}

#[test]
fn a_line_without_an_end_fails_before_more_is_kept() {
    let (found, error) = decode(Lines::new().max_length(10), b"one\r\n01234567890123456789", 1);
    assert_eq!(found, [b"one"]);
    assert!(error.expect("too long").is::<LineTooLong>());
}

#[test]
fn lines_end_where_their_delimiter_says() {
    let lines = Lines::new().delimiter(b"--end--");
    assert_eq!(decode(lines, b"a--end---end--b--end----end--", 1).0, [&b"a"[..], b"-end--b", b""]);
    assert_eq!(decode(Lines::new(), b"a\nb\r\r\n\n\r\n", 3).0, [&b"a\nb\r"[..], b"\n"]);
}

#[test]
#[should_panic(expected = "cannot be empty")]
fn an_empty_delimiter_is_refused() {
    let _ = Lines::new().delimiter(b"");
}

#[test]
fn what_a_line_has_begun_is_dropped_at_the_end() {
    // TW-49
    let mut input = BytesMut::from("one\r\ntwo");
    let mut lines = Lines::new();
    assert_eq!(lines.decode_eof(&mut input).unwrap().as_deref(), Some(&b"one"[..]));
    assert_eq!(lines.decode_eof(&mut input).unwrap(), None);
}

#[test]
fn a_line_decoder_does_not_trust_what_it_knew_of_an_input_that_was_changed() {
    let mut lines = Lines::new();
    let mut input = BytesMut::from("a long beginning");
    assert_eq!(lines.decode(&mut input).unwrap(), None);
    input.clear();
    input.extend_from_slice(b"x\r\n");
    assert_eq!(lines.decode(&mut input).unwrap().as_deref(), Some(&b"x"[..]));
}

#[test]
fn a_length_above_the_limit_fails_before_the_bytes_come() {
    // P13, INT-2
    let error = frame_error(decode(Int32Strings::new(), b"\x00\x01\x86\xa0", 1));
    assert_eq!(error, FrameError::TooLong { length: 100_000, limit: 99_999 });
    let error = frame_error(decode(Int32Strings::new().max_length(3), b"\xff\xff\xff\xff", 4));
    assert_eq!(error, FrameError::TooLong { length: u32::MAX.into(), limit: 3 });
    // NET-2: not even the colon is waited for.
    let error = frame_error(decode(Netstrings::new(), b"100000", 1));
    assert_eq!(error, FrameError::TooLong { length: 100_000, limit: 99_999 });
    frame_error(decode(Netstrings::new().max_length(usize::MAX), b"99999999999999999999999999", 30));
}

#[test]
fn empty_messages_are_messages() {
    assert_eq!(decode(Int32Strings::new(), b"\0\0\0\0\0\0\0\x01x", 9).0, [&b""[..], b"x"]);
    assert_eq!(decode(Netstrings::new(), b"0:,1:x,", 9).0, [&b""[..], b"x"]);
    assert_eq!(decode(Lines::new(), b"\r\n\r\n", 1).0, [b"", b""]);
}

#[test]
fn what_is_no_netstring_is_refused_at_the_byte_that_shows_it() {
    // NET-2
    for bad in [&b"x"[..], b":", b"1x", b"01:a,", b"-1:", b"3:abcd", b"1:ab", b" 1:a,"] {
        for size in [1, 10] {
            let error = frame_error(decode(Netstrings::new(), bad, size));
            assert!(matches!(error, FrameError::Malformed(_)), "{bad:?} gave {error:?}");
        }
    }
}

#[test]
fn a_second_netstring_comes_when_its_rest_does() {
    // PX06
    let mut netstrings = Netstrings::new();
    let mut input = BytesMut::from("3:one,1");
    assert_eq!(netstrings.decode(&mut input).unwrap().as_deref(), Some(&b"one"[..]));
    assert_eq!(netstrings.decode(&mut input).unwrap(), None);
    input.extend_from_slice(b"0:0123456789,");
    assert_eq!(netstrings.decode(&mut input).unwrap().as_deref(), Some(&b"0123456789"[..]));
}

/// Records what a `Framed` tells it, and does as it is told.
struct Recorder {
    log: Log,
}
impl<M: AsRef<[u8]>> Handler<M> for Recorder {
    fn connection_made(&mut self, _: TransportRef) {
        self.log.add("made");
    }
    fn message_received(&mut self, transport: TransportRef, message: M) {
        let message = String::from_utf8_lossy(message.as_ref()).into_owned();
        match &*message {
            "close" => transport.lose_connection(),
            "pause" => transport.pause_producing(),
            "panic" => panic!("as told"),
            "switch" => transport.switch_protocol(Framed::new(Lines::new(), Recorder { log: self.log.clone() }), b""),
            _ => {}
        }
        self.log.add(message);
    }
    fn read_connection_lost(&mut self, _: TransportRef) {
        self.log.add("read lost");
    }
    fn write_connection_lost(&mut self, _: TransportRef) {
        self.log.add("write lost");
    }
    fn handshake_completed(&mut self, _: TransportRef) {
        self.log.add("handshake");
    }
    fn connection_lost(&mut self, _: TransportRef, reason: &ConnectionClosed) {
        self.log.add(format!("lost: {reason}"));
    }
}
fn framed() -> (Reactor, Log, Far) {
    let reactor = Reactor::new().unwrap();
    let log = Log::default();
    let far = Far::connect(reactor, Framed::new(Netstrings::new(), Recorder { log: log.clone() }));
    (reactor, log, far)
}

#[test]
fn framed_forwards_every_event_of_a_protocol() {
    let (_reactor, log, mut far) = framed();
    far.deliver("1:a,1:");
    far.deliver("b,");
    far.wire().deliver_read_lost();
    far.wire().deliver_write_lost();
    far.lose(&ConnectionClosed::Done);
    assert_eq!(log.take(), ["made", "a", "b", "read lost", "write lost", "lost: connection closed in order"]);
    let mut protocol = Framed::new(Netstrings::new(), Recorder { log: log.clone() });
    protocol.handshake_completed(far.near);
    assert_eq!(log.take(), ["handshake"]);
}

#[test]
fn no_message_follows_a_close_and_none_comes_in_a_pause() {
    let (reactor, log, far) = framed();
    far.deliver("1:a,5:pause,1:b,5:close,1:c,");
    assert_eq!(log.take(), ["made", "a", "pause"]);
    pump(reactor);
    assert!(log.take().is_empty());
    far.near.resume_producing();
    assert!(log.all().is_empty(), "R1: a transport's methods run no user code");
    pump(reactor);
    assert_eq!(log.take(), ["b", "close"]);
    far.deliver("1:d,");
    assert!(log.take().is_empty());
}

#[test]
fn bytes_that_come_in_a_pause_wait_for_its_end() {
    let (reactor, log, far) = framed();
    far.deliver("5:pause,1:a,");
    far.deliver("1:b,");
    log.take();
    far.near.resume_producing();
    pump(reactor);
    assert_eq!(log.take(), ["a", "b"]);
}

#[test]
fn a_decoder_s_error_closes_the_connection_with_it() {
    let (_reactor, log, far) = framed();
    far.deliver("1:a,nonsense");
    assert_eq!(log.take(), ["made", "a"]);
    assert!(far.is_disconnecting());
    assert!(far.failure().expect("a reason").is::<FrameError>());
    far.deliver("1:b,");
    assert!(log.take().is_empty());
}

#[test]
fn nothing_is_delivered_once_another_protocol_takes_over() {
    let (_reactor, log, far) = framed();
    far.deliver("6:switch,1:a,");
    far.deliver("line\r\n");
    assert_eq!(log.take(), ["made", "switch", "made", "line"]);
}

#[test]
fn a_panic_after_a_pause_closes_the_connection() {
    let (reactor, log, far) = framed();
    far.deliver("5:pause,5:panic,1:a,");
    far.near.resume_producing();
    pump(reactor);
    assert!(far.failure().expect("a reason").is_panic());
    assert_eq!(log.take(), ["made", "pause"]);
}

/// A callback protocol with a greeting, a timer and an end of its own.
struct Old<H> {
    handler: H,
    buffer: BytesMut,
}
impl<H: Handler<u8>> Protocol for Old<H> {
    fn connection_made(&mut self, transport: TransportRef) {
        transport.write(b"hello");
    }
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        self.buffer.extend_from_slice(data);
        while self.buffer.has_remaining() {
            match self.buffer.get_u8() {
                0 => transport.lose_connection(),
                1 => transport.fail_connection(Failure::msg("one")),
                2 => panic!("two"),
                n => self.handler.message_received(transport, n),
            }
        }
    }
    fn connection_lost(&mut self, transport: TransportRef, _: &ConnectionClosed) {
        self.handler.message_received(transport, 255);
    }
}
fn old() -> Received<u8> {
    Received::new(|inbox: Inbox<u8>| Old { handler: inbox, buffer: BytesMut::new() })
}
fn all(received: &mut Received<u8>, data: &[u8]) -> Result<Vec<u8>> {
    let mut input = BytesMut::from(data);
    let mut found = Vec::new();
    while let Some(message) = received.decode(&mut input)? {
        found.push(message);
    }
    Ok(found)
}

#[test]
fn a_callback_protocol_is_a_decoder() {
    let mut received = old();
    assert_eq!(all(&mut received, &[7, 8]).unwrap(), [7, 8]);
    let mut rest = BytesMut::from(&[9][..]);
    assert_eq!(received.decode_eof(&mut rest).unwrap(), Some(9));
    assert_eq!(received.decode_eof(&mut rest).unwrap(), Some(255), "it is told of the end");
    assert_eq!(received.decode_eof(&mut rest).unwrap(), None);
}

#[test]
fn a_callback_protocol_s_own_error_comes_behind_its_messages() {
    let mut received = old();
    let mut input = BytesMut::from(&[5, 6, 1][..]);
    assert_eq!(received.decode(&mut input).unwrap(), Some(5));
    assert_eq!(received.decode(&mut input).unwrap(), Some(6));
    assert_eq!(received.decode(&mut input).unwrap_err().to_string(), "one");
}

#[test]
fn a_callback_protocol_s_panic_is_the_decoder_s_error() {
    let mut received = old();
    assert!(all(&mut received, &[2]).unwrap_err().is_panic());
    assert_eq!(all(&mut received, &[7]).unwrap(), [255], "its end was told, and nothing else comes");
}

#[test]
fn a_callback_protocol_writes_to_the_real_wire_and_outlives_it() {
    let reactor = Reactor::new().unwrap();
    let log = Log::default();
    let mut far = Far::connect(reactor, Framed::new(Raw, Recorder { log }));
    let mut received = old();
    received.attached(far.near, &(std::rc::Rc::new(|| {}) as std::rc::Rc<dyn Fn()>));
    assert_eq!(far.written(), "hello");
    far.near.pause_producing();
    assert_eq!(all(&mut received, &[7]).unwrap(), [7], "the demand that pauses the wire does not hold back its bytes");
    far.lose(&ConnectionClosed::Done);
    assert_eq!(all(&mut received, &[8]).unwrap(), [8], "what came before the end is decoded after it");
}

#[test]
fn a_callback_protocol_that_closes_closes_the_real_wire() {
    let reactor = Reactor::new().unwrap();
    let far = Far::connect(reactor, Framed::new(Raw, Recorder { log: Log::default() }));
    let mut received = old();
    received.attached(far.near, &(std::rc::Rc::new(|| {}) as std::rc::Rc<dyn Fn()>));
    assert!(all(&mut received, &[0]).unwrap().is_empty());
    assert!(far.is_disconnecting());
}

/// Says something though nobody spoke to it.
struct Impatient {
    inbox: Inbox<Bytes>,
}
impl Protocol for Impatient {
    fn connection_made(&mut self, transport: TransportRef) {
        let inbox = self.inbox.clone();
        transport.call_later(Duration::ZERO, move || inbox.put(Bytes::from_static(b"well?")));
    }
    fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
}

#[test]
fn a_message_that_comes_without_bytes_is_delivered() {
    let reactor = Reactor::new().unwrap();
    let log = Log::default();
    let decoder = Received::new(|inbox| Impatient { inbox });
    let _far = Far::connect(reactor, Framed::new(decoder, Recorder { log: log.clone() }));
    pump(reactor);
    pump(reactor);
    assert_eq!(log.take(), ["made", "well?"]);
}

#[test]
fn lines_by_callback_are_lines_by_decoder() {
    let mut received = Received::new(|inbox: Inbox<Bytes>| LineReceiver::with(Lines::new().max_length(5), inbox));
    let mut input = BytesMut::from("one\r\ntwo\r\nthree is too long\r\n");
    assert_eq!(received.decode(&mut input).unwrap().as_deref(), Some(&b"one"[..]));
    assert_eq!(received.decode(&mut input).unwrap().as_deref(), Some(&b"two"[..]));
    assert!(received.decode(&mut input).unwrap_err().is::<LineTooLong>());
}

#[test]
fn a_shared_handler_is_told_everything_and_its_owner_may_be_inside() {
    let reactor = Reactor::new().unwrap();
    let log = Log::default();
    let shared = Shared::new(Recorder { log: log.clone() });
    let mut far = Far::connect(reactor, Framed::new(Netstrings::new(), shared.clone()));
    {
        let inside = shared.borrow();
        far.deliver("1:a,");
        inside.log.add("inside");
    }
    far.wire().deliver_read_lost();
    far.wire().deliver_write_lost();
    far.lose(&ConnectionClosed::Aborted);
    assert_eq!(log.take(), ["made", "inside", "a", "read lost", "write lost", "lost: connection aborted by this side"]);
}
