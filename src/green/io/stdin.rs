//! Standard input, waited for by the loop.
//!
//! The buffer is the process's and goes to whoever has the lock. What must never happen here: a read of a descriptor that has
//! nothing; O_NONBLOCK set on what other processes have too.
use super::gate::{Gate, Pass};
use crate::green::fs::off_loop;
use crate::green::net::Pipe;
use crate::sys;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Lines, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

static GATE: Gate = Gate::new();
/// While nobody has the lock.
static READER: Mutex<Option<Box<BufReader<Raw>>>> = Mutex::new(None);

/// Standard input: [`std::io::Stdin`]. Made by [`stdin`].
pub struct Stdin(io::Stdin);

/// A handle on standard input. Never waits.
///
/// ```no_run
/// use twistlet::green::io;
///
/// for line in io::stdin().lines() {
///     println!("{} bytes", line?.len());
/// }
/// # Ok::<(), io::Error>(())
/// ```
pub fn stdin() -> Stdin {
    Stdin(io::stdin())
}

impl Stdin {
    /// Keeps others from reading; the lock is a green one, so who waits for it holds nobody up.
    ///
    /// # Panics
    /// When this green thread has it already; in the main loop and its callbacks, when it has to wait.
    ///
    /// # Blocking
    /// Until nobody else has it.
    #[track_caller]
    pub fn lock(&self) -> StdinLock<'static> {
        let pass = GATE.enter(false);
        let reader = READER.lock().unwrap_or_else(PoisonError::into_inner).take();
        StdinLock { reader: Some(reader.unwrap_or_else(|| Box::new(BufReader::new(Raw::Unopened)))), _pass: pass }
    }
    /// Appends a line, with its end; 0 at the end of input.
    ///
    /// # Errors
    /// `InvalidData` when it is not UTF-8; the system's.
    ///
    /// # Panics
    /// In the main loop and its callbacks, when it has to wait.
    ///
    /// # Blocking
    /// Until there is a line. Killed meanwhile, nothing that was typed is lost.
    #[track_caller]
    pub fn read_line(&self, buf: &mut String) -> io::Result<usize> {
        self.lock().read_line(buf)
    }
    /// The lines of input, without their ends. Has the lock from here on.
    ///
    /// # Panics
    /// As [`lock`](Stdin::lock); its `next` in the main loop and its callbacks, when it has to wait.
    ///
    /// # Blocking
    /// As `lock`; its `next`, until there is a line.
    #[track_caller]
    pub fn lines(self) -> Lines<StdinLock<'static>> {
        self.lock().lines()
    }
    /// Whether it is a terminal: `IsTerminal`, which std lets nobody implement.
    pub fn is_terminal(&self) -> bool {
        self.0.is_terminal()
    }
}
macro_rules! read {
    ($($type:ty)*) => { $(
        impl Read for $type {
            #[track_caller]
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.lock().read(buf)
            }
            #[track_caller]
            fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
                self.lock().read_to_end(buf)
            }
            #[track_caller]
            fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
                self.lock().read_to_string(buf)
            }
            #[track_caller]
            fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
                self.lock().read_exact(buf)
            }
        }
    )* };
}
read! { Stdin &Stdin }

impl AsFd for Stdin {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
impl AsRawFd for Stdin {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
impl fmt::Debug for Stdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stdin").finish_non_exhaustive()
    }
}

/// Standard input, for one reader: [`std::io::StdinLock`]. Its reads wait, as [`Stdin`]'s do.
pub struct StdinLock<'a> {
    /// Out only while this is dropped.
    reader: Option<Box<BufReader<Raw>>>,
    _pass: Pass<'a>,
}
impl StdinLock<'_> {
    fn reader(&mut self) -> &mut BufReader<Raw> {
        self.reader.get_or_insert_with(|| Box::new(BufReader::new(Raw::Unopened)))
    }
    /// Whether it is a terminal.
    pub fn is_terminal(&self) -> bool {
        io::stdin().is_terminal()
    }
}
impl Drop for StdinLock<'_> {
    fn drop(&mut self) {
        // Before the pass is given back.
        let old = std::mem::replace(&mut *READER.lock().unwrap_or_else(PoisonError::into_inner), self.reader.take());
        drop(old);
    }
}
impl Read for StdinLock<'_> {
    #[track_caller]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.reader().read(buf)
    }
}
impl BufRead for StdinLock<'_> {
    #[track_caller]
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader().fill_buf()
    }
    fn consume(&mut self, n: usize) {
        self.reader().consume(n);
    }
}
impl fmt::Debug for StdinLock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdinLock").finish_non_exhaustive()
    }
}

/// Descriptor 0, by what it is.
enum Raw {
    Unopened,
    /// The loop can watch it. A duplicate of the descriptor: the loop watches nobody else's.
    Watched(Pipe),
    /// It is always ready.
    File(Arc<File>),
    /// As std has it: there is none, so it is at its end.
    None,
}
impl Raw {
    fn open() -> io::Result<Raw> {
        let fd = match io::stdin().as_fd().try_clone_to_owned() {
            Ok(fd) => fd,
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => return Ok(Raw::None),
            Err(error) => return Err(error),
        };
        let file = File::from(fd);
        let kind = file.metadata()?.file_type();
        use std::os::unix::fs::FileTypeExt;
        let ready = kind.is_file() || kind.is_dir() || kind.is_block_device();
        Ok(if ready { Raw::File(Arc::new(file)) } else { Raw::Watched(Pipe::shared(file.into())) })
    }
}
impl Read for Raw {
    #[track_caller]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if matches!(self, Raw::Unopened) {
            *self = Raw::open()?;
        }
        match self {
            Raw::Unopened | Raw::None => Ok(0),
            Raw::Watched(pipe) => pipe.read_by("input on stdin", |mut file| {
                if sys::is_readable(file.as_fd())? { file.read(buf) } else { Err(io::ErrorKind::WouldBlock.into()) }
            }),
            Raw::File(file) => {
                let (file, mut own) = (Arc::clone(file), vec![0; buf.len()]);
                let own = off_loop(move || {
                    let n = (&*file).read(&mut own)?;
                    own.truncate(n);
                    Ok(own)
                })?;
                buf[..own.len()].copy_from_slice(&own);
                Ok(own.len())
            }
        }
    }
}
