//! The length-prefixed codecs cut at any places: the same messages, the same error at the same place; limits held from the
//! prefix alone; what a handler takes of the bytes behind its message.
mod rig;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use rig::{Far, Log};
use std::fmt::Debug;
use twistlet::protocols::codec::{Framed, Handler, IntStrings, Prefix, Unread};
use twistlet::protocols::{
    Decoder, Encoder, FrameError, Int8Strings, Int16Strings, Int32Strings, Int64Strings, Netstrings,
};
use twistlet::{ConnectionClosed, Failure, Protocol, Reactor, Result, TransportRef};

/// What a decoder makes of some bytes: messages, the error, how many bytes had come by then.
#[derive(PartialEq, Debug, Default)]
struct Outcome {
    messages: Vec<Vec<u8>>,
    error: Option<String>,
    left: Vec<u8>,
}
fn decode<D: Decoder<Item = Bytes>>(mut decoder: D, chunks: &[&[u8]]) -> Outcome {
    let mut input = BytesMut::new();
    let mut outcome = Outcome::default();
    for chunk in chunks {
        input.extend_from_slice(chunk);
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(message)) => outcome.messages.push(message.to_vec()),
                Ok(None) => break,
                Err(failure) => {
                    // How much came behind the error is the cut's affair.
                    outcome.error = Some(failure.to_string());
                    return outcome;
                }
            }
        }
    }
    outcome.left = input.to_vec();
    outcome
}
/// `data` cut at `cuts`.
fn pieces<'a>(data: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (data.len() + 1)).chain([0, data.len()]).collect();
    cuts.sort_unstable();
    cuts.windows(2).map(|ends| &data[ends[0]..ends[1]]).collect()
}
fn encode<E: for<'a> Encoder<&'a [u8]>>(mut encoder: E, messages: &[Vec<u8>]) -> Vec<u8> {
    let mut output = BytesMut::new();
    for message in messages {
        encoder.encode(message, &mut output).expect("encodable");
    }
    output.to_vec()
}

/// What a limit of `limit` makes of a valid stream: the messages before the first one above it.
fn expected(messages: &[Vec<u8>], limit: usize) -> Vec<Vec<u8>> {
    messages.iter().take_while(|message| message.len() <= limit).cloned().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// INT-1, INT-2, NET-1
    #[test]
    fn any_split_of_valid_streams_gives_the_messages_up_to_the_limit(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8),
        cuts in prop::collection::vec(any::<usize>(), 0..30),
        limit in 0usize..250,
    ) {
        fn check<C>(codec: &C, messages: &[Vec<u8>], cuts: &[usize], limit: usize) -> Result<(), TestCaseError>
        where
            C: Decoder<Item = Bytes> + for<'a> Encoder<&'a [u8]> + Clone,
        {
            let data = encode(codec.clone(), messages);
            let outcome = decode(codec.clone(), &pieces(&data, cuts));
            prop_assert_eq!(&outcome.messages, &expected(messages, limit));
            prop_assert_eq!(outcome.error.is_some(), messages.iter().any(|message| message.len() > limit));
            prop_assert_eq!(&outcome.left, b"");
            Ok(())
        }
        check(&Int8Strings::new().max_length(limit), &messages, &cuts, limit)?;
        check(&Int16Strings::new().max_length(limit), &messages, &cuts, limit)?;
        check(&Int32Strings::new().max_length(limit), &messages, &cuts, limit)?;
        check(&Int64Strings::new().max_length(limit), &messages, &cuts, limit)?;
        check(&Netstrings::new().max_length(limit), &messages, &cuts, limit)?;
    }

    /// NET-2, INT-2
    #[test]
    fn any_split_of_anything_gives_the_same(
        data in prop::collection::vec(prop::sample::select(&b"\0\0\x01\x02\x05\xff0123456789::,,ab"[..]), 0..200),
        cuts in prop::collection::vec(any::<usize>(), 0..30),
    ) {
        fn check<D: Decoder<Item = Bytes> + Clone>(codec: D, data: &[u8], cuts: &[usize]) -> Result<(), TestCaseError> {
            prop_assert_eq!(decode(codec.clone(), &pieces(data, cuts)), decode(codec.clone(), &[data]));
            let bytes: Vec<&[u8]> = data.chunks(1).collect();
            prop_assert_eq!(decode(codec.clone(), &bytes), decode(codec, &[data]));
            Ok(())
        }
        check(Int8Strings::new(), &data, &cuts)?;
        check(Int16Strings::new().max_length(600), &data, &cuts)?;
        check(Int32Strings::new().max_length(600), &data, &cuts)?;
        check(Int64Strings::new().max_length(600), &data, &cuts)?;
        check(Netstrings::new().max_length(20), &data, &cuts)?;
    }
}

fn too_long<P: Prefix>(prefix: &[u8], limit: usize, length: u64) {
    let codec = IntStrings::<P>::new().max_length(limit);
    // A byte less says nothing yet.
    assert_eq!(decode(codec.clone(), &[&prefix[..prefix.len() - 1]]).error, None);
    let mut input = BytesMut::from(prefix);
    let error = codec.clone().decode(&mut input).expect_err("above the limit");
    assert_eq!(error.check(), Some(&FrameError::TooLong { length, limit: limit as u64 }));
    assert!(input.capacity() < 1000, "no room is made for what is refused");
}

#[test]
fn every_prefix_is_refused_above_the_limit_before_a_byte_of_its_message() {
    // P13, INT-2
    too_long::<u8>(b"\x03", 2, 3);
    too_long::<u16>(b"\x01\x00", 255, 256);
    too_long::<u32>(b"\xff\xff\xff\xff", 99_999, u32::MAX.into());
    too_long::<u64>(b"\xff\xff\xff\xff\xff\xff\xff\xff", 99_999, u64::MAX);
    too_long::<u64>(b"\x00\x00\x00\x01\x00\x00\x00\x00", 99_999, 1 << 32);
}

#[test]
fn the_limit_itself_is_taken_and_the_default_is_twisteds() {
    // INT-1
    let longest = vec![vec![7; 255]];
    assert_eq!(decode(Int8Strings::new(), &[&encode(Int8Strings::new(), &longest)]).messages, longest);
    let mut prefix = BytesMut::new();
    prefix.extend_from_slice(&99_999u64.to_be_bytes());
    assert_eq!(Int64Strings::new().decode(&mut prefix).expect("taken"), None);
    let mut prefix = BytesMut::new();
    prefix.extend_from_slice(&100_000u64.to_be_bytes());
    assert!(Int64Strings::new().decode(&mut prefix).is_err());
}

#[test]
fn what_a_prefix_cannot_say_is_not_sent() {
    // INT-3
    fn refused<P: Prefix + Debug>(length: usize) {
        let mut output = BytesMut::from("before");
        let error = IntStrings::<P>::new().encode(vec![0; length], &mut output).expect_err("too long");
        assert_eq!(error.check(), Some(&FrameError::TooLong { length: length as u64, limit: P::MAX }));
        assert_eq!(output, "before", "nothing of it is written");
        IntStrings::<P>::new().encode(vec![0; length - 1], &mut output).expect("the longest");
    }
    refused::<u8>(256);
    refused::<u16>(65_536);
}

/// Does what its messages say with the bytes behind them.
struct Taker(Unread, Log);
impl Handler<Bytes> for Taker {
    fn message_received(&mut self, transport: TransportRef, message: Bytes) {
        let (unread, log) = (&self.0, &self.1);
        log.add(message.escape_ascii());
        match &message[..] {
            b"take" => log.add(format_args!("took {}", unread.take().escape_ascii())),
            b"skip two" => {
                let rest = unread.take();
                unread.put_back(&rest[2..]);
            }
            b"more" => unread.put_back([1, b'x']),
            b"switch" => transport.switch_protocol(Next(log.clone()), unread.take()),
            b"close" => transport.lose_connection(),
            _ => {}
        }
    }
}
struct Next(Log);
impl Protocol for Next {
    fn data_received(&mut self, _: TransportRef, data: &[u8]) {
        self.0.add(format_args!("next got {}", data.escape_ascii()));
    }
    fn connection_lost(&mut self, _: TransportRef, _: &ConnectionClosed) {
        self.0.add("next lost");
    }
}

#[test]
fn a_handler_takes_part_of_the_unread_bytes_and_decoding_goes_on_behind_it() {
    // PX07, INT-5
    let log = Log::default();
    let said = log.clone();
    let reactor = Reactor::new().expect("a reactor");
    let far = Far::connect(reactor, Framed::with_unread(Int8Strings::new(), |unread| Taker(unread, said)));
    far.deliver(b"\x08skip two??\x04more\x01y\x04takerest");
    assert_eq!(log.take(), ["skip two", "more", "x", "y", "take", "took rest"]);
    far.deliver(b"\x01");
    far.deliver(b"z");
    assert_eq!(log.take(), ["z"]);
    far.deliver(b"\x06switch\x01unread");
    assert_eq!(log.take(), ["switch", "next got \\x01unread"]);
    drop(far);
    assert_eq!(log.take(), ["next lost"]);
}

#[test]
fn no_message_of_any_prefix_follows_a_close() {
    // INT-4, NET-3
    fn check<D: Decoder<Item = Bytes>>(codec: D, data: &[u8]) {
        let log = Log::default();
        let said = log.clone();
        let reactor = Reactor::new().expect("a reactor");
        let far = Far::connect(reactor, Framed::with_unread(codec, |unread| Taker(unread, said)));
        far.deliver(data);
        far.deliver(data);
        assert_eq!(log.take(), ["close"]);
        drop(far);
        reactor.close();
    }
    check(Int8Strings::new(), b"\x05close\x01x");
    check(Int16Strings::new(), b"\0\x05close\0\x01x");
    check(Int64Strings::new(), b"\0\0\0\0\0\0\0\x05close\0\0\0\0\0\0\0\x01x");
    check(Netstrings::new(), b"5:close,1:x,");
}

/// SFL-1, SFL-2: a protocol as an enum of states.
#[derive(Clone)]
enum Upload {
    Version,
    Length,
    Record(usize),
    Done,
}
impl Upload {
    fn awaited(&self) -> usize {
        match self {
            Upload::Version | Upload::Length | Upload::Done => 1,
            Upload::Record(length) => *length,
        }
    }
}
impl Decoder for Upload {
    type Item = Bytes;
    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>> {
        while input.len() >= self.awaited() {
            let bytes = input.split_to(self.awaited()).freeze();
            *self = match self {
                Upload::Version if bytes[0] != 1 => return Err(Failure::msg("an unknown version")),
                Upload::Version => Upload::Length,
                Upload::Length if bytes[0] == 0 => Upload::Done,
                Upload::Length => Upload::Record(bytes[0].into()),
                Upload::Record(_) => {
                    *self = Upload::Length;
                    return Ok(Some(bytes));
                }
                Upload::Done => return Err(Failure::msg("nothing comes after the end")),
            };
        }
        Ok(None)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_protocol_of_states_gets_exactly_the_bytes_it_awaits(
        records in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..100), 0..6),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
        tail in prop::collection::vec(any::<u8>(), 0..3),
    ) {
        let mut data = vec![1];
        data.extend(encode(Int8Strings::new(), &records));
        data.push(0);
        data.extend(&tail);
        let outcome = decode(Upload::Version, &pieces(&data, &cuts));
        prop_assert_eq!(outcome.messages, records);
        prop_assert_eq!(outcome.error.is_some(), !tail.is_empty());
    }
}
