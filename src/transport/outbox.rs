//! What a connection has written and not yet sent: small writes gathered in one buffer, large `Bytes` queued as they are,
//! sent in order by one `write` or `writev`. Owned by a stream; knows nothing of protocols.
use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::{self, IoSlice};

/// From here on a `Bytes` is queued instead of copied.
pub(super) const SHARE: usize = 4096;
/// Pieces handed to one writev.
const PIECES: usize = 64;

#[derive(Default)]
pub(super) struct Outbox {
    /// Sealed pieces, sent first.
    pieces: VecDeque<Bytes>,
    /// The gathering buffer, and how much of it has been sent.
    tail: Vec<u8>,
    sent: usize,
    len: usize,
    /// Pieces that have left, for the owner to drop when nothing is borrowed.
    spent: Vec<Bytes>,
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.len
    }
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Whether a first write would need memory: then the caller lends some.
    pub(super) fn wants_memory(&self) -> bool {
        self.tail.capacity() == 0
    }
    pub(super) fn lend(&mut self, buffer: Vec<u8>) {
        self.tail = buffer;
    }
    /// Gives the gathering buffer's memory back, once nothing is in it.
    pub(super) fn reclaim(&mut self) -> Option<Vec<u8>> {
        (self.tail.capacity() > 0 && self.len == 0).then(|| {
            self.sent = 0;
            std::mem::take(&mut self.tail)
        })
    }
    #[inline]
    pub(super) fn push(&mut self, data: &[u8]) {
        self.tail.extend_from_slice(data);
        self.len += data.len();
    }
    pub(super) fn push_bytes(&mut self, data: Bytes) {
        self.seal();
        self.len += data.len();
        self.pieces.push_back(data);
    }
    fn seal(&mut self) {
        let mut piece = Bytes::from(std::mem::take(&mut self.tail));
        piece.advance(std::mem::take(&mut self.sent));
        if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
    }
    /// Sends one byte by the function given.
    pub(super) fn send_byte(&mut self, send: impl FnOnce(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        let first = self.pieces.front().map_or_else(|| &self.tail[self.sent..], |piece| &piece[..]);
        let sent = send(first.get(..1).unwrap_or_default())?;
        self.advance(sent.min(1));
        Ok(())
    }
    pub(super) fn take_spent(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.spent)
    }

    /// Sends as much as goes, by the functions given. `Ok(false)`: the socket takes no more for now.
    pub(super) fn send(
        &mut self,
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
        mut write_vectored: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<bool> {
        while self.len > 0 {
            let offered;
            let result = if self.pieces.is_empty() {
                offered = self.tail.len() - self.sent;
                write(&self.tail[self.sent..])
            } else {
                let mut slices = [IoSlice::new(&[]); PIECES];
                let mut used = 0;
                let tail = self.tail.get(self.sent..).filter(|tail| !tail.is_empty());
                for (slot, piece) in slices.iter_mut().zip(self.pieces.iter().map(|piece| &piece[..]).chain(tail)) {
                    *slot = IoSlice::new(piece);
                    used += 1;
                }
                offered = slices[..used].iter().map(|slice| slice.len()).sum();
                write_vectored(&slices[..used])
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.advance(n);
                    // A short write means a full buffer: the next would only say so.
                    if n < offered {
                        return Ok(false);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn advance(&mut self, mut n: usize) {
        self.len -= n;
        while n > 0
            && let Some(piece) = self.pieces.front_mut()
        {
            if piece.len() > n {
                piece.advance(n);
                return;
            }
            n -= piece.len();
            self.spent.extend(self.pieces.pop_front());
        }
        self.sent += n;
        if self.sent == self.tail.len() {
            self.tail.clear();
            self.sent = 0;
        } else if self.sent >= 64 * 1024 && self.sent * 2 >= self.tail.len() {
            // What was sent is more than what waits: moving the rest costs less than growing for ever.
            self.tail.drain(..self.sent);
            self.sent = 0;
        }
    }
}
