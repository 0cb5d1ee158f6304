//! What a connection has written and not yet sent: small writes gathered in one buffer, large `Bytes` queued as they are,
//! sent in order by one `write` or `writev`, parts of files by `sendfile`. Owned by a stream; knows nothing of protocols.
use super::FilePart;
use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;

/// From here on a `Bytes` is queued instead of copied.
pub(super) const SHARE: usize = 4096;
/// Pieces handed to one writev.
const PIECES: usize = 64;

pub(super) enum Piece {
    Bytes(Bytes),
    File(FilePart),
}

#[derive(Default)]
pub(super) struct Outbox {
    /// Sealed pieces, sent first.
    pieces: VecDeque<Piece>,
    /// The gathering buffer, and how much of it has been sent.
    tail: Vec<u8>,
    sent: usize,
    len: usize,
    /// Pieces that have left, for the owner to drop when nothing is borrowed.
    spent: Vec<Piece>,
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
        self.pieces.push_back(Piece::Bytes(data));
    }
    pub(super) fn push_file(&mut self, part: FilePart) {
        self.seal();
        self.len += part.left();
        self.pieces.push_back(Piece::File(part));
    }
    fn seal(&mut self) {
        let mut piece = Bytes::from(std::mem::take(&mut self.tail));
        piece.advance(std::mem::take(&mut self.sent));
        if !piece.is_empty() {
            self.pieces.push_back(Piece::Bytes(piece));
        }
    }
    /// Sends one byte by the function given. `false`: there is none.
    pub(super) fn send_byte(&mut self, send: impl FnOnce(&[u8]) -> io::Result<usize>) -> io::Result<bool> {
        while self.len > 0 {
            let mut byte = [0];
            let part = match self.pieces.front() {
                Some(Piece::File(part)) => part,
                Some(Piece::Bytes(piece)) => {
                    let sent = send(&piece[..1])?;
                    self.advance(sent);
                    return Ok(true);
                }
                None => {
                    let sent = send(&self.tail[self.sent..][..1])?;
                    self.advance(sent);
                    return Ok(true);
                }
            };
            match part.file().read_at(&mut byte, part.position()) {
                Ok(1..) => {
                    let sent = send(&byte)?;
                    self.file_sent(sent);
                    return Ok(true);
                }
                Ok(0) => self.file_sent(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    part.fail(error);
                    self.drop_front();
                }
            }
        }
        Ok(false)
    }
    pub(super) fn take_spent(&mut self) -> Vec<Piece> {
        std::mem::take(&mut self.spent)
    }

    /// Sends as much as goes, by the functions given. `Ok(false)`: the socket takes no more for now.
    pub(super) fn send(
        &mut self,
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
        mut write_vectored: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
        mut send_file: impl FnMut(&FilePart) -> io::Result<usize>,
    ) -> io::Result<bool> {
        while self.len > 0 {
            let offered;
            let result = if self.pieces.is_empty() {
                offered = self.tail.len() - self.sent;
                write(&self.tail[self.sent..])
            } else if let Some(Piece::File(part)) = self.pieces.front() {
                offered = 0;
                match send_file(part) {
                    Ok(sent) => {
                        self.file_sent(sent);
                        continue;
                    }
                    Err(error) if is_of_the_file(&error) => {
                        part.fail(error);
                        // Of what was to leave, nothing will.
                        self.drop_front();
                        continue;
                    }
                    Err(error) => Err(error),
                }
            } else {
                let mut slices = [IoSlice::new(&[]); PIECES];
                let mut used = 0;
                // Up to a file, which goes another way.
                let before_file = self.pieces.iter().map_while(|piece| match piece {
                    Piece::Bytes(piece) => Some(&piece[..]),
                    Piece::File(_) => None,
                });
                // One further back is not reached by the slices.
                let has_file = self.pieces.iter().take(PIECES).any(|piece| matches!(piece, Piece::File(_)));
                let tail = self.tail.get(self.sent..).filter(|tail| !tail.is_empty() && !has_file);
                for (slot, piece) in slices.iter_mut().zip(before_file.chain(tail)) {
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
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn file_sent(&mut self, sent: usize) {
        if let Some(Piece::File(part)) = self.pieces.front() {
            let before = part.left();
            part.advance(sent);
            self.len -= before - part.left();
            if part.is_over() {
                self.spent.extend(self.pieces.pop_front());
            }
        }
    }
    /// Drops the part of a file that cannot be read.
    fn drop_front(&mut self) {
        self.spent.extend(self.pieces.pop_front());
        self.len = self.count();
    }
    fn count(&self) -> usize {
        let of = |piece: &Piece| match piece {
            Piece::Bytes(piece) => piece.len(),
            Piece::File(part) => part.left(),
        };
        self.pieces.iter().map(of).sum::<usize>() + self.tail.len() - self.sent
    }

    fn advance(&mut self, mut n: usize) {
        self.len -= n;
        while n > 0
            && let Some(Piece::Bytes(piece)) = self.pieces.front_mut()
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

/// Whether it was the file that failed, or cannot be sent in this way, and not the socket.
fn is_of_the_file(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::ENOSYS | libc::EIO | libc::EOVERFLOW | libc::ESPIPE | libc::EBADF)
    ) || error.kind() == io::ErrorKind::Unsupported
}
