//! Pseudo-terminals: a pair, and the size of one.
//!
//! Called by `transport::process`. What must never happen here: a descriptor that a child started meanwhile would inherit.
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// A new pseudo-terminal: our side, and the side that is a terminal to whoever has it.
#[cfg(target_os = "linux")]
pub(crate) fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    use std::os::fd::FromRawFd;
    // std adds O_CLOEXEC.
    let ours = open_quietly("/dev/ptmx")?;
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one integer of ours, which lives until ioctl(2) has returned.
    if unsafe { libc::ioctl(ours.as_raw_fd(), libc::TIOCSPTLCK, &unlocked) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let how = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes integers and touches no memory of ours.
    let theirs = unsafe { libc::ioctl(ours.as_raw_fd(), libc::TIOCGPTPEER, how) };
    if theirs < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system has just made this descriptor, and nobody else knows of it.
    Ok((ours.into(), unsafe { OwnedFd::from_raw_fd(theirs) }))
}
#[cfg(not(target_os = "linux"))]
pub(crate) fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Opens a device for both directions; it does not become the terminal of this process.
fn open_quietly(path: &str) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path)
}

/// Tells a terminal its size; whoever is in its foreground hears of it by SIGWINCH.
pub(crate) fn set_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize of ours, which lives until ioctl(2) has returned.
    let done = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &size) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
