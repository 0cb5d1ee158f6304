//! `Chunk`: what one read brought, in a large buffer lent by the thread.
//!
//! A buffer is taken when there is something to read, and goes back when the chunk is dropped: last in, first out, so that a
//! busy thread works in one that its caches hold. What must never happen here: a buffer held by who waits.
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};

/// So many unused buffers a thread keeps.
const KEPT: usize = 4;
thread_local! {
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that were read: `TcpStream::read_chunk` and `UnixStream::read_chunk` give them. Reads as a `[u8]`, which may be changed
/// in place. Its buffer has 256 KiB and serves the next read of the thread when this is dropped, so it is not for keeping.
///
/// ```
/// use std::io::Write;
/// use twistlet::green::os::unix::net::UnixStream;
///
/// let (mut near, far) = UnixStream::pair()?;
/// near.write_all(b"hello")?;
/// let mut chunk = far.read_chunk()?;
/// chunk.make_ascii_uppercase();
/// assert_eq!(*chunk, *b"HELLO");
/// drop(near);
/// assert!(far.read_chunk()?.is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "what was read is in it"]
pub struct Chunk {
    buffer: Box<[u8]>,
    length: usize,
}

impl Chunk {
    /// How much one read brings at most, in bytes.
    pub const SIZE: usize = 256 * 1024;

    #[inline]
    pub(super) fn fill(read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<Chunk> {
        let pooled = POOL.try_with(|pool| pool.borrow_mut().pop()).ok().flatten();
        let buffer = pooled.unwrap_or_else(|| vec![0; Chunk::SIZE].into_boxed_slice());
        let mut chunk = Chunk { buffer, length: 0 };
        chunk.length = read(&mut chunk.buffer)?.min(Chunk::SIZE);
        Ok(chunk)
    }
}
impl Drop for Chunk {
    #[inline]
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < KEPT {
                pool.push(buffer);
            }
        });
    }
}
impl Deref for Chunk {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}
impl DerefMut for Chunk {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[..self.length]
    }
}
impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self
    }
}
impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk").field("length", &self.length).finish_non_exhaustive()
    }
}
