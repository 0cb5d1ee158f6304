//! `File`: std's, whose calls run on threads.
//!
//! A thread cannot have the caller's buffer, so each file keeps one of its own. What must never happen here: a lock held
//! while a call runs.
use super::{FileTimes, Metadata, OpenOptions, Permissions, formatted, off_loop};
use std::fmt;
use std::fs;
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// At most so much is copied through the file's buffer in one trip: `read` and `write` may do less than asked for.
const TRIP: usize = 256 * 1024;

/// An open file: [`std::fs::File`], but a call waits on a thread and only the calling green thread waits for it.
///
/// Reading, writing and seeking are `std::io`'s traits, on `File` and on `&File`. One read or write moves 256 KiB at most;
/// `read_to_end` and `read_to_string` are one trip to a thread however much there is. Several green threads may use one file
/// at once, with one position, as std's threads may.
///
/// ```
/// use std::io::{BufRead, BufReader};
/// use twistlet::green::fs::File;
///
/// let lines = BufReader::new(File::open("Cargo.toml")?).lines();
/// assert!(lines.count() > 10);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct File {
    pub(super) inner: Arc<fs::File>,
    /// For the next trip; empty while one is on its way.
    buffer: Mutex<Vec<u8>>,
}

impl File {
    /// Opens a file to read.
    ///
    /// # Errors
    /// As std's.
    ///
    /// # Panics
    /// In the main loop and its callbacks.
    ///
    /// # Blocking
    /// As [`OpenOptions::open`].
    #[track_caller]
    pub fn open(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().read(true).open(path)
    }
    /// Opens a file to write, made or emptied.
    ///
    /// # Errors
    /// As std's.
    ///
    /// # Panics
    /// In the main loop and its callbacks.
    ///
    /// # Blocking
    /// As [`OpenOptions::open`].
    #[track_caller]
    pub fn create(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).open(path)
    }
    /// Makes a file that must not be there, to read and write.
    ///
    /// # Errors
    /// `AlreadyExists`, and as std's.
    ///
    /// # Panics
    /// In the main loop and its callbacks.
    ///
    /// # Blocking
    /// As [`OpenOptions::open`].
    #[track_caller]
    pub fn create_new(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path)
    }
    /// [`OpenOptions::new`].
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Calls `f` with the file on a thread.
    #[track_caller]
    pub(super) fn on_thread<T: Send + 'static>(
        &self,
        f: impl FnOnce(&fs::File) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let file = Arc::clone(&self.inner);
        off_loop(move || f(&file))
    }
    fn take_buffer(&self) -> Vec<u8> {
        std::mem::take(&mut *self.buffer.lock().unwrap_or_else(PoisonError::into_inner))
    }
    fn return_buffer(&self, buffer: Vec<u8>) {
        *self.buffer.lock().unwrap_or_else(PoisonError::into_inner) = buffer;
    }
    /// Fills `buf`, or a part of it, by `read` on a thread.
    #[track_caller]
    pub(super) fn read_through(
        &self,
        buf: &mut [u8],
        read: impl FnOnce(&fs::File, &mut [u8]) -> io::Result<usize> + Send + 'static,
    ) -> io::Result<usize> {
        let size = buf.len().min(TRIP);
        if size == 0 {
            return Ok(0);
        }
        let mut buffer = self.take_buffer();
        let (outcome, buffer) = self.on_thread(move |file| {
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            let outcome = read(file, &mut buffer[..size]);
            Ok((outcome, buffer))
        })?;
        if let Ok(n) = outcome {
            buf[..n].copy_from_slice(&buffer[..n]);
        }
        self.return_buffer(buffer);
        outcome
    }
    /// Writes `parts`, or a beginning of them, by `write` on a thread.
    #[track_caller]
    pub(super) fn write_through<'a>(
        &self,
        parts: impl Iterator<Item = &'a [u8]>,
        write: impl FnOnce(&fs::File, &[u8]) -> io::Result<usize> + Send + 'static,
    ) -> io::Result<usize> {
        let mut buffer = self.take_buffer();
        buffer.clear();
        for part in parts {
            let room = TRIP - buffer.len();
            buffer.extend_from_slice(&part[..part.len().min(room)]);
        }
        if buffer.is_empty() {
            return Ok(0);
        }
        let (outcome, buffer) = self.on_thread(move |file| Ok((write(file, &buffer), buffer)))?;
        self.return_buffer(buffer);
        outcome
    }
    #[track_caller]
    fn read_rest(&self, buf: &mut Vec<u8>) -> io::Result<usize> {
        let (outcome, rest) = self.on_thread(|mut file| {
            let mut rest = Vec::new();
            Ok((file.read_to_end(&mut rest), rest))
        })?;
        // What was read before an error counts, as in std.
        if buf.capacity() == 0 {
            *buf = rest;
        } else {
            buf.extend_from_slice(&rest);
        }
        outcome
    }
    #[track_caller]
    fn read_text(&self, buf: &mut String) -> io::Result<usize> {
        let text = self.on_thread(|mut file| {
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            Ok(text)
        })?;
        let size = text.len();
        if buf.capacity() == 0 {
            *buf = text;
        } else {
            buf.push_str(&text);
        }
        Ok(size)
    }
}

/// Calls that are std's, on a thread.
macro_rules! on_a_thread {
    ($(
        $(#[$doc:meta])*
        $name:ident($($arg:ident: $type:ty)?) -> $result:ty;
    )*) => {
        impl File { $(
            $(#[$doc])*
            ///
            /// # Errors
            /// As std's.
            ///
            /// # Panics
            /// In the main loop and its callbacks.
            ///
            /// # Blocking
            /// Until a thread has done it.
            #[track_caller]
            pub fn $name(&self $(, $arg: $type)?) -> io::Result<$result> {
                self.on_thread(move |file| file.$name($($arg)?))
            }
        )* }
    };
}
on_a_thread! {
    /// Waits until everything is on the disk, what the system knows of the file included.
    sync_all() -> ();
    /// Waits until the contents are on the disk.
    sync_data() -> ();
    /// Cuts or extends the file.
    set_len(size: u64) -> ();
    /// What the system knows of it.
    metadata() -> Metadata;
    /// Changes its permissions.
    set_permissions(permissions: Permissions) -> ();
    /// Changes its times.
    set_times(times: FileTimes) -> ();
    /// Changes the time of its last change.
    set_modified(time: SystemTime) -> ();
}
impl File {
    /// The same open file again, with one position. Never waits.
    ///
    /// # Errors
    /// As std's.
    pub fn try_clone(&self) -> io::Result<File> {
        Ok(File::from(self.inner.try_clone()?))
    }
    /// Gives std's file back. A call whose green thread was killed may still run on it, so it may be a duplicate.
    ///
    /// # Errors
    /// Of duplicating the descriptor.
    pub fn into_std(self) -> io::Result<fs::File> {
        match Arc::try_unwrap(self.inner) {
            Ok(file) => Ok(file),
            Err(file) => file.try_clone(),
        }
    }
}

macro_rules! io {
    ($($type:ty)*) => { $(
        /// At most 256 KiB at once.
        impl Read for $type {
            #[track_caller]
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.read_through(buf, |mut file, buf| file.read(buf))
            }
            #[track_caller]
            fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
                self.read_rest(buf)
            }
            #[track_caller]
            fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
                self.read_text(buf)
            }
        }
        /// At most 256 KiB at once. `flush` has nothing to do.
        impl Write for $type {
            #[track_caller]
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                self.write_through(std::iter::once(buf), |mut file, buf| file.write(buf))
            }
            #[track_caller]
            fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                self.write_through(bufs.iter().map(|buf| &**buf), |mut file, buf| file.write(buf))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
            #[track_caller]
            fn write_fmt(&mut self, arguments: fmt::Arguments<'_>) -> io::Result<()> {
                // In one trip, where the pieces would be one each.
                self.write_all(&formatted(arguments)?)
            }
        }
        /// From the end on a thread; the others never wait.
        impl Seek for $type {
            #[track_caller]
            fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
                match position {
                    // Only a number changes.
                    SeekFrom::Start(_) | SeekFrom::Current(_) => (&*self.inner).seek(position),
                    SeekFrom::End(_) => self.on_thread(move |mut file| file.seek(position)),
                }
            }
        }
    )* };
}
io! { File &File }

impl From<fs::File> for File {
    fn from(file: fs::File) -> Self {
        File { inner: Arc::new(file), buffer: Mutex::default() }
    }
}
impl From<OwnedFd> for File {
    fn from(fd: OwnedFd) -> Self {
        fs::File::from(fd).into()
    }
}
/// For a child's stream, without waiting.
///
/// # Panics
/// When a call whose green thread was killed still runs on it and the descriptor cannot be duplicated; use
/// [`File::into_std`] where that matters.
impl From<File> for Stdio {
    fn from(file: File) -> Stdio {
        match file.into_std() {
            Ok(file) => file.into(),
            Err(error) => panic!("a file that is still in use cannot be given to a child: {error}"),
        }
    }
}
impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}
impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}
/// # Panics
/// As `Stdio::from`.
impl IntoRawFd for File {
    fn into_raw_fd(self) -> RawFd {
        match self.into_std() {
            Ok(file) => file.into_raw_fd(),
            Err(error) => panic!("a file that is still in use cannot be given away: {error}"),
        }
    }
}
impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
