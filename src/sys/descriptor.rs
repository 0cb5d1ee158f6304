//! What std does not do to descriptors: put one under another's number, move one out of the way, ask whether it is still read.
//!
//! Called by `reactor::driver` and by `transport::process`. What must never happen here: a wait; a descriptor closed that
//! somebody else owns, except in `replace`, which is there for that.
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Whether what is written to `fd` can reach nobody any more: the reading end of a pipe is closed, or a socket is broken.
pub(crate) fn is_broken(fd: BorrowedFd<'_>) -> bool {
    let mut asked = libc::pollfd { fd: fd.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: one pollfd, ours alone, which lives until poll(2) has returned; with no time to wait.
    let ready = unsafe { libc::poll(&mut asked, 1, 0) };
    ready > 0 && asked.revents & libc::POLLERR != 0
}

/// A duplicate of `fd` under a number of at least `least`, closed at exec.
pub(crate) fn duplicate_above(fd: BorrowedFd<'_>, least: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl(2) takes integers and touches no memory of ours.
    let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Puts what `with` is under the number `standard`, which is to be 0, 1 or 2: these belong to the whole process, no owner of ours
/// counts on what they are.
pub(crate) fn replace_standard(standard: RawFd, with: BorrowedFd<'_>) -> io::Result<()> {
    if !(0..=2).contains(&standard) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: dup2(2) takes two integers; the number it closes is a standard stream's, which nobody owns as an `OwnedFd`.
    let done = unsafe { libc::dup2(with.as_raw_fd(), standard) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Device and inode of what is open under a number; zeros: nothing. May be called between fork and exec.
pub(crate) fn identity(fd: RawFd) -> [u64; 2] {
    let mut about = std::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: fstat(2) writes one stat to memory of ours, of which zeros are a valid value if it fails.
    let about = unsafe { if libc::fstat(fd, about.as_mut_ptr()) == 0 { about.assume_init() } else { return [0; 2] } };
    [about.st_dev as u64, about.st_ino as u64]
}
