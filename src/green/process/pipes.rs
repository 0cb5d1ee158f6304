//! The parent's ends of a child's pipes.
//!
//! They never block the loop; given to another child they are ordinary blocking pipes again.
use crate::green::net::Pipe;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::process::{self, Stdio};

/// A child's standard input: [`std::process::ChildStdin`]. Dropping it closes the pipe, and the child reads the end.
///
/// Writing to a child that has closed its end is `BrokenPipe`. As with sockets, one green thread may wait to write; a second
/// gets [`Busy`](crate::error::Busy). A kill in the middle of `write_all` has written a part.
pub struct ChildStdin(Pipe);
/// A child's standard output: [`std::process::ChildStdout`]. `Stdio::from` it makes a pipeline.
pub struct ChildStdout(Pipe);
/// A child's standard error: [`std::process::ChildStderr`].
pub struct ChildStderr(Pipe);

/// The traits of a pipe's end, for `$type(Pipe)`.
macro_rules! reader {
    ($type:ty, $reason:literal) => {
        reader! { @io $reason, $type, &$type }
    };
    (@io $reason:literal, $($type:ty),*) => { $(
        /// Waits for something to read, or the end.
        impl io::Read for $type {
            #[track_caller]
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.0.read($reason, buf)
            }
            #[track_caller]
            fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                self.0.read_vectored($reason, bufs)
            }
        }
    )* };
}
macro_rules! writer {
    ($type:ty, $reason:literal) => {
        writer! { @io $reason, $type, &$type }
    };
    (@io $reason:literal, $($type:ty),*) => { $(
        /// Waits for room; may take less than all, as ever. `flush` has nothing to do.
        impl io::Write for $type {
            #[track_caller]
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                self.0.write($reason, buf)
            }
            #[track_caller]
            fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                self.0.write_vectored($reason, bufs)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
    )* };
}
macro_rules! descriptor {
    ($type:ident, $std:ty) => {
        impl From<$std> for $type {
            fn from(pipe: $std) -> Self {
                $type(Pipe::new(pipe.into()))
            }
        }
        /// Of a pipe that is nobody else's: it becomes non-blocking.
        impl From<OwnedFd> for $type {
            fn from(fd: OwnedFd) -> Self {
                $type(Pipe::new(fd))
            }
        }
        /// Blocking again.
        impl From<$type> for OwnedFd {
            fn from(pipe: $type) -> OwnedFd {
                pipe.0.into_fd()
            }
        }
        /// For another child, which gets a blocking pipe.
        impl From<$type> for Stdio {
            fn from(pipe: $type) -> Stdio {
                OwnedFd::from(pipe).into()
            }
        }
        impl AsFd for $type {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.as_fd()
            }
        }
        impl AsRawFd for $type {
            fn as_raw_fd(&self) -> RawFd {
                self.as_fd().as_raw_fd()
            }
        }
        /// Blocking again.
        impl IntoRawFd for $type {
            fn into_raw_fd(self) -> RawFd {
                OwnedFd::from(self).into_raw_fd()
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($type)).field(&self.0).finish()
            }
        }
    };
}
pub(in crate::green) use {descriptor, reader, writer};

writer! { ChildStdin, "room to write to a child" }
descriptor! { ChildStdin, process::ChildStdin }
reader! { ChildStdout, "output of a child" }
descriptor! { ChildStdout, process::ChildStdout }
reader! { ChildStderr, "output of a child" }
descriptor! { ChildStderr, process::ChildStderr }
