//! A descriptor that is no socket but waits like one: the ends of pipes, and terminals.
//!
//! Used by `process` and `io`. Unless it is shared with other processes the descriptor never blocks, and it blocks again when
//! it is given away. What must never happen here: one given away that is still watched.
use super::place::Direction;
use super::socket::Socket;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// The file is shared only so that it can be taken out.
pub(in crate::green) struct Pipe(Socket<Arc<File>>);

impl Pipe {
    /// One whose open file description is this process's alone.
    pub(in crate::green) fn new(fd: OwnedFd) -> Pipe {
        // Fails only for a descriptor that is none, of which every use will say so.
        let _ = socket2::SockRef::from(&fd).set_nonblocking(true);
        Pipe::shared(fd)
    }
    /// One that others use too, so that it must stay as it is: only `read_by` is to be used.
    pub(in crate::green) fn shared(fd: OwnedFd) -> Pipe {
        let socket = Socket::new(Arc::new(File::from(fd)));
        // Others may have the same description, and closing our descriptor would leave the poller watching it.
        socket.place.expose();
        Pipe(socket)
    }
    /// Reads by `attempt`, which says `WouldBlock` when there is nothing yet.
    #[track_caller]
    pub(in crate::green) fn read_by(
        &self,
        reason: &'static str,
        attempt: impl FnMut(&File) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.attempt(Direction::Read, reason, attempt)
    }
    /// Does `attempt` until it no longer says `WouldBlock`, parking the green thread in between.
    #[track_caller]
    fn attempt<T>(
        &self,
        direction: Direction,
        reason: &'static str,
        mut attempt: impl FnMut(&File) -> io::Result<T>,
    ) -> io::Result<T> {
        self.0.run(direction, reason, |file| attempt(file), |_| false)
    }
    #[track_caller]
    pub(in crate::green) fn read(&self, reason: &'static str, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.attempt(Direction::Read, reason, |mut file| file.read(buf))
    }
    #[track_caller]
    pub(in crate::green) fn read_vectored(
        &self,
        reason: &'static str,
        bufs: &mut [IoSliceMut<'_>],
    ) -> io::Result<usize> {
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Ok(0);
        }
        self.attempt(Direction::Read, reason, |mut file| file.read_vectored(bufs))
    }
    #[track_caller]
    pub(in crate::green) fn write(&self, reason: &'static str, buf: &[u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.attempt(Direction::Write, reason, |mut file| file.write(buf))
    }
    #[track_caller]
    pub(in crate::green) fn write_vectored(&self, reason: &'static str, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Ok(0);
        }
        self.attempt(Direction::Write, reason, |mut file| file.write_vectored(bufs))
    }
    /// The same pipe under another descriptor.
    pub(in crate::green) fn try_clone(&self) -> io::Result<Pipe> {
        Ok(Pipe::shared(self.0.inner.try_clone()?.into()))
    }
    /// Out of our hands: no longer watched, and it blocks, as others expect.
    pub(in crate::green) fn into_fd(self) -> OwnedFd {
        let file = Arc::clone(&self.0.inner);
        drop(self.0);
        let _ = socket2::SockRef::from(&*file).set_nonblocking(false);
        match Arc::try_unwrap(file) {
            Ok(file) => file.into(),
            // Nobody else has it.
            Err(file) => unreachable!("a Pipe shares {file:?} with nobody"),
        }
    }
}

impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.inner.as_fd()
    }
}
impl std::fmt::Debug for Pipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.0.inner, f)
    }
}
