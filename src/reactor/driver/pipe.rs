//! A stream on descriptors that are no stream sockets: one for both directions (a terminal, a serial line) or one for each (pipes).
//! Used through `driver::Socket` only.
//!
//! What must never happen here: a descriptor closed while the poller watches it, unless its description goes with it; input or
//! output of a description that others share left non-blocking at the end.
use super::os;
use crate::sys;
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, IoSlice, IsTerminal, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::rc::Rc;

/// The ends of it; one that is both is there twice.
#[derive(Debug)]
pub(crate) struct Pipe {
    reader: Option<Rc<End>>,
    writer: RefCell<Option<Rc<End>>>,
}

/// One descriptor.
#[derive(Debug)]
pub(crate) struct End {
    file: File,
    /// The poller tells when it is ready; otherwise it always is: a file.
    watched: Cell<bool>,
    terminal: bool,
    /// It was a blocking one, and becomes one again.
    blocked: bool,
    /// Which standard stream of the process it stands for, and what takes its place: whoever has the other end is to see it.
    standard: Option<(RawFd, File)>,
    /// It has been a stream; when it could not become one, the standard stream stays.
    used: Cell<bool>,
}

impl End {
    /// Takes a descriptor over, which does not block from here on.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<End> {
        let socket = socket2::SockRef::from(&fd);
        let blocked = !socket.nonblocking()?;
        if blocked {
            socket.set_nonblocking(true)?;
        }
        let file = File::from(fd);
        let terminal = file.is_terminal();
        Ok(End { file, watched: Cell::new(false), terminal, blocked, standard: None, used: Cell::new(false) })
    }
    /// A standard stream of the process, 0 or 1, under a descriptor of our own. A terminal or a pipe is opened anew where that is
    /// possible, so that the flag is ours alone and the process may print, and the shell read, as before.
    pub(crate) fn standard(number: RawFd) -> io::Result<End> {
        let fd = match number {
            0 => io::stdin().as_fd().try_clone_to_owned(),
            _ => io::stdout().as_fd().try_clone_to_owned(),
        };
        let file = match fd {
            Ok(fd) => File::from(fd),
            // There is none: nothing to read, nobody to write to.
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => null()?,
            Err(error) => return Err(error),
        };
        let kind = file.metadata()?.file_type();
        if kind.is_fifo() || file.is_terminal() {
            use std::os::unix::fs::OpenOptionsExt;
            let mut how = File::options();
            how.read(number == 0).write(number != 0).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK);
            if let Ok(anew) = how.open(format!("/proc/self/fd/{number}")) {
                let mut end = End::new(anew.into())?;
                end.stand_for(number, kind.is_fifo())?;
                return Ok(end);
            }
        }
        if kind.is_file() || kind.is_dir() || kind.is_block_device() {
            let terminal = false;
            return Ok(End {
                file,
                watched: Cell::new(false),
                terminal,
                blocked: false,
                standard: None,
                used: Cell::new(false),
            });
        }
        let mut end = End::new(file.into())?;
        end.stand_for(number, kind.is_fifo() || kind.is_socket())?;
        Ok(end)
    }
    fn stand_for(&mut self, number: RawFd, visible: bool) -> io::Result<()> {
        if visible {
            self.standard = Some((number, null()?));
        }
        Ok(())
    }
    fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}
fn null() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/null")
}

impl Drop for End {
    fn drop(&mut self) {
        if self.blocked {
            let _ = socket2::SockRef::from(&self.file).set_nonblocking(false);
        }
        if let Some((number, null)) = self.standard.as_ref().filter(|_| self.used.get()) {
            let _ = sys::descriptor::replace_standard(*number, null.as_fd());
        }
    }
}

impl Pipe {
    /// One descriptor for both directions.
    pub(crate) fn both(end: End) -> Pipe {
        let end = Rc::new(end);
        Pipe { reader: Some(Rc::clone(&end)), writer: RefCell::new(Some(end)) }
    }
    /// One for each, or for one only.
    pub(crate) fn new(reader: Option<End>, writer: Option<End>) -> Pipe {
        Pipe { reader: reader.map(Rc::new), writer: RefCell::new(writer.map(Rc::new)) }
    }
    /// Has the poller watch it. `files`: what cannot be watched because it is always ready is accepted too.
    pub(super) fn register(&self, driver: &os::Driver, token: usize, files: bool) -> io::Result<()> {
        let writer = self.writer.borrow().clone();
        let one = self.is_one();
        if let Some(reader) = &self.reader {
            let fd = &reader.fd();
            let mut source = mio::unix::SourceFd(fd);
            let outcome =
                if one { driver.register(&mut source, token) } else { driver.register_readable(&mut source, token) };
            reader.registered(outcome, files)?;
        }
        if let Some(writer) = writer.as_ref().filter(|_| !one) {
            let outcome = driver.register_writable(&mut mio::unix::SourceFd(&writer.fd()), token);
            if let Err(error) = writer.registered(outcome, files) {
                self.deregister(driver);
                return Err(error);
            }
        }
        for end in self.reader.iter().chain(&writer) {
            end.used.set(true);
        }
        Ok(())
    }
    pub(super) fn deregister(&self, driver: &os::Driver) {
        let writer = self.writer.borrow();
        for end in self.reader.iter().chain(&*writer) {
            if end.watched.replace(false) {
                let _ = driver.deregister(&mut mio::unix::SourceFd(&end.fd()));
            }
        }
    }
    /// Closes the write side; a terminal has none of its own.
    pub(super) fn close_writer(&self, driver: &os::Driver) {
        let one = self.is_one();
        let Some(writer) = self.writer.take() else { return };
        if one {
            let _ = socket2::SockRef::from(&writer.file).shutdown(Shutdown::Write);
        } else if writer.watched.replace(false) {
            let _ = driver.deregister(&mut mio::unix::SourceFd(&writer.fd()));
        }
    }
    fn is_one(&self) -> bool {
        matches!((&self.reader, &*self.writer.borrow()), (Some(reader), Some(writer)) if Rc::ptr_eq(reader, writer))
    }
    pub(crate) fn has_reader(&self) -> bool {
        self.reader.is_some()
    }
    pub(crate) fn has_writer(&self) -> bool {
        self.writer.borrow().is_some()
    }
    /// No event will say that it can be read: it always can.
    pub(crate) fn is_always_readable(&self) -> bool {
        self.reader.as_ref().is_some_and(|reader| !reader.watched.get())
    }
    /// The write side can fail alone.
    pub(crate) fn has_own_writer(&self) -> bool {
        self.has_writer() && !self.is_one()
    }
    /// Nobody reads any more what is written.
    pub(crate) fn is_broken(&self) -> bool {
        self.has_own_writer()
            && self.writer.borrow().as_ref().is_some_and(|writer| sys::descriptor::is_broken(writer.file.as_fd()))
    }
    pub(crate) fn fd(&self) -> Option<RawFd> {
        let writer = self.writer.borrow();
        self.reader.as_ref().or(writer.as_ref()).map(|end| end.fd())
    }

    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(end) = &self.reader else { return Err(io::ErrorKind::WouldBlock.into()) };
        match (&end.file).read(buffer) {
            // What a terminal's other side says when nobody has it any more.
            Err(error) if end.terminal && error.raw_os_error() == Some(libc::EIO) => Ok(0),
            read => read,
        }
    }
    pub(crate) fn write(&self, data: &[u8]) -> io::Result<usize> {
        let writer = self.writer.borrow();
        let Some(end) = &*writer else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let mut written = end.write(data)?;
        // A short write to a pipe means that it is full, and there will be an event; not so for a terminal or a file.
        while written < data.len() && (end.terminal || !end.watched.get()) {
            match end.write(&data[written..]) {
                Ok(0) | Err(_) => break,
                Ok(n) => written += n,
            }
        }
        Ok(written)
    }
    pub(crate) fn write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let writer = self.writer.borrow();
        let Some(end) = &*writer else { return Err(io::ErrorKind::BrokenPipe.into()) };
        if !end.terminal && end.watched.get() {
            return (&end.file).write_vectored(parts);
        }
        let mut written = 0;
        for part in parts.iter().filter(|part| !part.is_empty()) {
            match self.write(part) {
                Ok(n) => {
                    written += n;
                    if n < part.len() {
                        break;
                    }
                }
                Err(_) if written > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }
}

impl End {
    fn registered(&self, outcome: io::Result<()>, files: bool) -> io::Result<()> {
        match outcome {
            Ok(()) => self.watched.set(true),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                if !files {
                    let text =
                        "a file that is always ready cannot be a stream here: read or write it with defer_to_thread";
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
    fn write(&self, data: &[u8]) -> io::Result<usize> {
        match (&self.file).write(data) {
            Err(error) if self.terminal && error.raw_os_error() == Some(libc::EIO) => {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            written => written,
        }
    }
}
