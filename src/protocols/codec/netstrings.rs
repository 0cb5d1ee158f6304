//! Netstrings: `5:hello,`.
use super::{Decoder, Encoder, FrameError, LONGEST};
use crate::failure::Result;
use bytes::{Buf, Bytes, BytesMut};

/// Messages as `LENGTH:BYTES,` (Twisted's `NetstringReceiver`). Fails with [`FrameError`] as soon as the bytes can be no
/// netstring, or a length is above the limit.
///
/// ```
/// use bytes::BytesMut;
/// use twistlet::protocols::{Decoder, Netstrings};
///
/// let mut input = BytesMut::from("5:hello,0:,");
/// assert_eq!(Netstrings::new().decode(&mut input)?.as_deref(), Some(&b"hello"[..]));
/// assert_eq!(Netstrings::new().decode(&mut input)?.as_deref(), Some(&b""[..]));
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[derive(Clone, Debug)]
pub struct Netstrings {
    max_length: usize,
}

impl Netstrings {
    /// 99,999 bytes.
    pub fn new() -> Self {
        Netstrings { max_length: LONGEST }
    }
    /// The longest message in bytes.
    pub fn max_length(mut self, bytes: usize) -> Self {
        self.max_length = bytes;
        self
    }
    /// The length the input begins with, and how many bytes say so, colon included.
    fn length(&self, input: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
        let mut length = 0u64;
        for (at, &byte) in input.iter().enumerate() {
            match byte {
                b'0'..=b'9' if at == 1 && length == 0 => {
                    return Err(FrameError::Malformed("a colon after a length of 0"));
                }
                // The limit holds from the first digit that breaks it, so the digits that follow are never waited for.
                b'0'..=b'9' => {
                    let longer = length.checked_mul(10).and_then(|length| length.checked_add(u64::from(byte - b'0')));
                    length = longer.unwrap_or(u64::MAX);
                    if longer.is_none() || length > self.max_length as u64 {
                        return Err(FrameError::TooLong { length, limit: self.max_length as u64 });
                    }
                }
                b':' if at > 0 => return Ok(Some((length as usize, at + 1))),
                _ if at == 0 => return Err(FrameError::Malformed("a digit")),
                _ => return Err(FrameError::Malformed("a digit or a colon")),
            }
        }
        Ok(None)
    }
}
impl Default for Netstrings {
    fn default() -> Self {
        Netstrings::new()
    }
}

impl Decoder for Netstrings {
    type Item = Bytes;
    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>> {
        let Some((length, prefix)) = self.length(input)? else { return Ok(None) };
        match input.get(prefix.saturating_add(length)) {
            None => Ok(None),
            Some(b',') => {
                input.advance(prefix);
                let message = input.split_to(length).freeze();
                input.advance(1);
                Ok(Some(message))
            }
            Some(_) => Err(FrameError::Malformed("a comma after the message").into()),
        }
    }
}

impl<M: AsRef<[u8]>> Encoder<M> for Netstrings {
    fn encode(&mut self, message: M, output: &mut BytesMut) -> Result {
        let message = message.as_ref();
        output.extend_from_slice(message.len().to_string().as_bytes());
        output.extend_from_slice(b":");
        output.extend_from_slice(message);
        output.extend_from_slice(b",");
        Ok(())
    }
}
