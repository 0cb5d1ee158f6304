//! Lines: bytes up to a delimiter. As a codec here; the callback receivers in `line` search with the same function.
use super::{Decoder, Encoder};
use crate::error::LineTooLong;
use crate::failure::Result;
use bytes::{Bytes, BytesMut};

/// The longest line, delimiter not counted, unless told otherwise: Twisted's.
const LONGEST: usize = 16_384;

/// Lines up to a delimiter, which is not part of the message. Fails with [`LineTooLong`] as soon as a line is longer than the
/// limit, whether its end has come or not; what the peer has not ended when it closes is dropped.
///
/// ```
/// use bytes::BytesMut;
/// use twistlet::protocols::{Decoder, Lines};
///
/// let mut lines = Lines::new();
/// let mut input = BytesMut::from("one\r\ntwo");
/// assert_eq!(lines.decode(&mut input)?.as_deref(), Some(&b"one"[..]));
/// assert_eq!(lines.decode(&mut input)?, None);
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[derive(Clone, Debug)]
pub struct Lines {
    pub(in crate::protocols) delimiter: &'static [u8],
    pub(in crate::protocols) max_length: usize,
    /// So many bytes at the front of the input begin no delimiter: they were searched before.
    searched: usize,
}

impl Lines {
    /// CRLF, 16,384 bytes.
    pub fn new() -> Self {
        Lines { delimiter: b"\r\n", max_length: LONGEST, searched: 0 }
    }
    /// What ends a line.
    ///
    /// # Panics
    /// When it is empty.
    #[track_caller]
    pub fn delimiter(mut self, delimiter: &'static [u8]) -> Self {
        assert!(!delimiter.is_empty(), "the delimiter of Lines cannot be empty: say what ends a line, as in b\"\\n\"");
        self.delimiter = delimiter;
        self
    }
    /// The longest line in bytes, delimiter not counted.
    pub fn max_length(mut self, bytes: usize) -> Self {
        self.max_length = bytes;
        self
    }
    /// Whether so many bytes without a delimiter cannot be the beginning of a line that is short enough: a delimiter of
    /// which a part has come must not count.
    pub(in crate::protocols) fn is_too_long(&self, unfinished: usize) -> bool {
        unfinished >= self.max_length.saturating_add(self.delimiter.len())
    }
}
impl Default for Lines {
    fn default() -> Self {
        Lines::new()
    }
}

impl Decoder for Lines {
    type Item = Bytes;
    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>> {
        let from = std::mem::take(&mut self.searched);
        match find(input, self.delimiter, if from <= input.len() { from } else { 0 }) {
            Some(length) if length > self.max_length => Err(LineTooLong { limit: self.max_length }.into()),
            Some(length) => {
                let mut line = input.split_to(length + self.delimiter.len());
                line.truncate(length);
                Ok(Some(line.freeze()))
            }
            None if self.is_too_long(input.len()) => Err(LineTooLong { limit: self.max_length }.into()),
            None => {
                self.searched = input.len().saturating_sub(self.delimiter.len() - 1);
                Ok(None)
            }
        }
    }
    fn restart(&mut self) {
        self.searched = 0;
    }
}

impl<M: AsRef<[u8]>> Encoder<M> for Lines {
    fn encode(&mut self, message: M, output: &mut BytesMut) -> Result {
        let message = message.as_ref();
        output.reserve(message.len() + self.delimiter.len());
        output.extend_from_slice(message);
        output.extend_from_slice(self.delimiter);
        Ok(())
    }
}

/// Where the first delimiter that begins at `from` or later is.
pub(in crate::protocols) fn find(bytes: &[u8], delimiter: &[u8], from: usize) -> Option<usize> {
    let (&last, before) = delimiter.split_last()?;
    let mut at = from + before.len();
    loop {
        let end = at + memchr::memchr(last, bytes.get(at..)?)?;
        let start = end - before.len();
        if &bytes[start..end] == before {
            return Some(start);
        }
        at = end + 1;
    }
}
