//! Messages after their length as an integer of one, two, four or eight bytes: one machine for all four.
use super::{Decoder, Encoder, FrameError, LONGEST};
use crate::failure::Result;
use bytes::{Buf, Bytes, BytesMut};
use std::fmt;
use std::marker::PhantomData;

/// A message after its length in eight bits.
pub type Int8Strings = IntStrings<u8>;
/// A message after its length in sixteen bits.
pub type Int16Strings = IntStrings<u16>;
/// A message after its length in thirty-two bits.
pub type Int32Strings = IntStrings<u32>;
/// A message after its length in sixty-four bits.
pub type Int64Strings = IntStrings<u64>;

/// A message after its length as a `P`, the most significant byte first (Twisted's `Int8StringReceiver`,
/// `Int16StringReceiver`, `Int32StringReceiver`). Fails with [`FrameError::TooLong`] as soon as a prefix says more than the
/// limit: no byte of such a message is waited for.
///
/// ```
/// use bytes::BytesMut;
/// use twistlet::protocols::{Encoder, Int32Strings};
///
/// let mut output = BytesMut::new();
/// Int32Strings::new().encode("hello", &mut output)?;
/// assert_eq!(&output[..], b"\0\0\0\x05hello");
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct IntStrings<P> {
    max_length: u64,
    prefix: PhantomData<P>,
}

/// The unsigned integers that can be the prefix of [`IntStrings`].
pub trait Prefix: Sized + 'static + private::Sealed {
    /// The largest length it can say.
    const MAX: u64;
    #[doc(hidden)]
    fn read(input: &[u8]) -> Option<u64>;
    #[doc(hidden)]
    fn append(length: u64, output: &mut BytesMut);
}
mod private {
    pub trait Sealed {}
}
macro_rules! prefix { ($($int:ty)+) => { $(
    impl private::Sealed for $int {}
    impl Prefix for $int {
        const MAX: u64 = <$int>::MAX as u64;
        fn read(input: &[u8]) -> Option<u64> {
            input.first_chunk().map(|prefix| <$int>::from_be_bytes(*prefix) as u64)
        }
        fn append(length: u64, output: &mut BytesMut) {
            output.extend_from_slice(&(length as $int).to_be_bytes());
        }
    }
)+ } }
prefix! { u8 u16 u32 u64 }

impl<P: Prefix> IntStrings<P> {
    /// 99,999 bytes, or as many as the prefix can say.
    pub fn new() -> Self {
        IntStrings { max_length: (LONGEST as u64).min(P::MAX), prefix: PhantomData }
    }
    /// The longest message in bytes that is taken, prefix not counted. What is sent is limited by the prefix alone.
    pub fn max_length(mut self, bytes: usize) -> Self {
        self.max_length = bytes as u64;
        self
    }
}
impl<P: Prefix> Default for IntStrings<P> {
    fn default() -> Self {
        IntStrings::new()
    }
}
impl<P> Clone for IntStrings<P> {
    fn clone(&self) -> Self {
        IntStrings { max_length: self.max_length, prefix: PhantomData }
    }
}
impl<P> fmt::Debug for IntStrings<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntStrings")
            .field("prefix", &std::any::type_name::<P>())
            .field("max_length", &self.max_length)
            .finish_non_exhaustive()
    }
}

impl<P: Prefix> Decoder for IntStrings<P> {
    type Item = Bytes;
    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>> {
        let Some(length) = P::read(input) else { return Ok(None) };
        if length > self.max_length {
            return Err(FrameError::TooLong { length, limit: self.max_length }.into());
        }
        // Not above the limit, which is a usize.
        let length = length as usize;
        if input.len() - size_of::<P>() < length {
            return Ok(None);
        }
        input.advance(size_of::<P>());
        Ok(Some(input.split_to(length).freeze()))
    }
}

impl<P: Prefix, M: AsRef<[u8]>> Encoder<M> for IntStrings<P> {
    fn encode(&mut self, message: M, output: &mut BytesMut) -> Result {
        let message = message.as_ref();
        let length = message.len() as u64;
        if length > P::MAX {
            return Err(FrameError::TooLong { length, limit: P::MAX }.into());
        }
        output.reserve(size_of::<P>() + message.len());
        P::append(length, output);
        output.extend_from_slice(message);
        Ok(())
    }
}
