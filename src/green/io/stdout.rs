//! Standard output and standard error: std's, written on threads.
//!
//! What must never happen here: output of one `write!` torn apart by another green thread's.
use super::gate::{Gate, Pass};
use crate::green::fs::{formatted, off_loop};
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// At most so much is copied for one `write`.
const TRIP: usize = 256 * 1024;

macro_rules! stream {
    (
        $gate:ident,
        $(#[$stream_doc:meta])* $stream:ident,
        $(#[$lock_doc:meta])* $lock:ident,
        $(#[$doc:meta])* $name:ident
    ) => {
        static $gate: Gate = Gate::new();

        $(#[$stream_doc])*
        pub struct $stream(io::$stream);

        $(#[$doc])*
        pub fn $name() -> $stream {
            $stream(io::$name())
        }
        impl $stream {
            /// Keeps others from writing in between; the lock is a green one, so who waits for it holds nobody up. One
            /// green thread may lock it several times.
            ///
            /// # Panics
            /// In the main loop and its callbacks, when it has to wait.
            ///
            /// # Blocking
            /// Until nobody else has it.
            #[track_caller]
            pub fn lock(&self) -> $lock<'static> {
                $lock { _pass: $gate.enter(true) }
            }
            /// Whether it is a terminal: `IsTerminal`, which std lets nobody implement.
            pub fn is_terminal(&self) -> bool {
                self.0.is_terminal()
            }
        }
        $(#[$lock_doc])*
        pub struct $lock<'a> {
            _pass: Pass<'a>,
        }
        impl $lock<'_> {
            /// Whether it is a terminal.
            pub fn is_terminal(&self) -> bool {
                io::$name().is_terminal()
            }
        }
        /// Waits until a thread has written.
        impl Write for $lock<'_> {
            #[track_caller]
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                let own = buf[..buf.len().min(TRIP)].to_owned();
                off_loop(move || io::$name().write(&own))
            }
            #[track_caller]
            fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
                let own = buf.to_owned();
                off_loop(move || io::$name().write_all(&own))
            }
            #[track_caller]
            fn write_fmt(&mut self, arguments: fmt::Arguments<'_>) -> io::Result<()> {
                // In one trip, where the pieces would be one each.
                self.write_all(&formatted(arguments)?)
            }
            #[track_caller]
            fn flush(&mut self) -> io::Result<()> {
                off_loop(|| io::$name().flush())
            }
        }
        stream! { @write $stream }
        stream! { @write &$stream }
        impl AsFd for $stream {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.as_fd()
            }
        }
        impl AsRawFd for $stream {
            fn as_raw_fd(&self) -> RawFd {
                self.0.as_raw_fd()
            }
        }
        impl fmt::Debug for $stream {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($stream)).finish_non_exhaustive()
            }
        }
        impl fmt::Debug for $lock<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($lock)).finish_non_exhaustive()
            }
        }
    };
    (@write $type:ty) => {
        /// Each call with the lock.
        impl Write for $type {
            #[track_caller]
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                self.lock().write(buf)
            }
            #[track_caller]
            fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
                self.lock().write_all(buf)
            }
            #[track_caller]
            fn write_fmt(&mut self, arguments: fmt::Arguments<'_>) -> io::Result<()> {
                // Formatted before the lock is taken: that is user code, and may wait.
                let text = formatted(arguments)?;
                self.lock().write_all(&text)
            }
            #[track_caller]
            fn flush(&mut self) -> io::Result<()> {
                self.lock().flush()
            }
        }
    };
}
stream! {
    OUT,
    /// Standard output: [`std::io::Stdout`], whose buffer it uses. Made by [`stdout`].
    Stdout,
    /// Standard output, for one writer: [`std::io::StdoutLock`].
    StdoutLock,
    /// A handle on standard output. Never waits.
    ///
    /// ```
    /// use std::io::Write;
    /// use twistlet::green::io;
    ///
    /// let mut out = io::stdout().lock();
    /// writeln!(out, "two lines")?;
    /// writeln!(out, "that stay together")?;
    /// # Ok::<(), io::Error>(())
    /// ```
    stdout
}
stream! {
    ERR,
    /// Standard error: [`std::io::Stderr`]. Made by [`stderr`].
    Stderr,
    /// Standard error, for one writer: [`std::io::StderrLock`].
    StderrLock,
    /// A handle on standard error. Never waits.
    stderr
}
