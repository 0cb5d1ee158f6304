//! Messages after their length as four bytes.
use super::{Decoder, Encoder, FrameError, LONGEST};
use crate::failure::Result;
use bytes::{Buf, BufMut, Bytes, BytesMut};

const PREFIX: usize = size_of::<u32>();

/// A message after its length in four bytes, the most significant first (Twisted's `Int32StringReceiver`). Fails with
/// [`FrameError::TooLong`] as soon as a prefix says more than the limit.
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
#[derive(Clone, Debug)]
pub struct Int32Strings {
    max_length: usize,
}

impl Int32Strings {
    /// 99,999 bytes.
    pub fn new() -> Self {
        Int32Strings { max_length: LONGEST }
    }
    /// The longest message in bytes, prefix not counted.
    pub fn max_length(mut self, bytes: usize) -> Self {
        self.max_length = bytes;
        self
    }
}
impl Default for Int32Strings {
    fn default() -> Self {
        Int32Strings::new()
    }
}

impl Decoder for Int32Strings {
    type Item = Bytes;
    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>> {
        let Some(&prefix) = input.first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_be_bytes(prefix) as usize;
        if length > self.max_length {
            return Err(FrameError::TooLong { length: length as u64, limit: self.max_length as u64 }.into());
        }
        if input.len() - PREFIX < length {
            return Ok(None);
        }
        input.advance(PREFIX);
        Ok(Some(input.split_to(length).freeze()))
    }
}

impl<M: AsRef<[u8]>> Encoder<M> for Int32Strings {
    fn encode(&mut self, message: M, output: &mut BytesMut) -> Result {
        let message = message.as_ref();
        let too_long = |_| FrameError::TooLong { length: message.len() as u64, limit: u32::MAX.into() };
        let length = u32::try_from(message.len()).map_err(too_long)?;
        output.reserve(PREFIX + message.len());
        output.put_u32(length);
        output.extend_from_slice(message);
        Ok(())
    }
}
