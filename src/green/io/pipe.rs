//! Anonymous pipes: `pipe()` and its two ends.
use crate::green::net::Pipe;
use crate::green::process::pipes::{descriptor, reader, writer};
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::process::Stdio;

/// A pipe: what is written to the one end is read from the other ([`std::io::pipe`]). Never waits.
///
/// ```
/// use std::io::{Read, Write};
/// use twistlet::green::{io, spawn};
///
/// let (mut reader, mut writer) = io::pipe()?;
/// spawn(move || Ok(writer.write_all(b"through the pipe")?));
/// let mut text = String::new();
/// reader.read_to_string(&mut text)?;
/// assert_eq!(text, "through the pipe");
/// # Ok::<(), twistlet::Failure>(())
/// ```
///
/// # Errors
/// The system's, when there are too many descriptors.
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    Ok((reader.into(), writer.into()))
}

/// The end of a pipe that is read: [`std::io::PipeReader`]. At its end when every writer is gone.
///
/// Given to a child (`Stdio::from`) it blocks again, for every clone of it: do not keep one to read from as well.
pub struct PipeReader(Pipe);
/// The end of a pipe that is written to: [`std::io::PipeWriter`]. `BrokenPipe` when every reader is gone.
///
/// Given to a child (`Stdio::from`) it blocks again, for every clone of it: do not keep one to write to as well.
pub struct PipeWriter(Pipe);

reader! { PipeReader, "input from a pipe" }
descriptor! { PipeReader, std::io::PipeReader }
writer! { PipeWriter, "room to write to a pipe" }
descriptor! { PipeWriter, std::io::PipeWriter }

impl PipeReader {
    /// The same end again, under another descriptor. Never waits.
    ///
    /// # Errors
    /// The system's.
    pub fn try_clone(&self) -> io::Result<PipeReader> {
        self.0.try_clone().map(PipeReader)
    }
}
impl PipeWriter {
    /// The same end again, under another descriptor. Never waits.
    ///
    /// # Errors
    /// The system's.
    pub fn try_clone(&self) -> io::Result<PipeWriter> {
        self.0.try_clone().map(PipeWriter)
    }
}
