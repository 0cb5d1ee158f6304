//! What the system tells of descriptors and std does not: a descriptor for a child process, readable when it has ended, and
//! whether one can be read now.
//!
//! Called by `transport::process`, `green::process` and `green::io`. What must never happen here: a wait, except in
//! `wait_readable` and `wait_ended`.
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
#[cfg(feature = "green")]
use std::time::Duration;

/// A descriptor for the process `pid`, which is to be a child that nobody has waited for, so that the number is still its.
///
/// # Errors
/// The system's: `Unsupported` before Linux 5.3 and elsewhere.
#[cfg(target_os = "linux")]
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: pidfd_open(2) takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system has just made this descriptor (with FD_CLOEXEC) and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
#[cfg(not(target_os = "linux"))]
pub(crate) fn pidfd_open(_pid: u32) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Sends a signal to the process that `fd` is for, and to no other that may have its number since.
///
/// # Errors
/// The system's: `ESRCH` when it has been waited for, `ENOSYS` before Linux 5.1.
#[cfg(target_os = "linux")]
pub(crate) fn pidfd_send_signal(fd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: pidfd_send_signal(2) takes integers and a null siginfo, and touches no memory of ours.
    let sent = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
#[cfg(not(target_os = "linux"))]
pub(crate) fn pidfd_send_signal(_fd: BorrowedFd<'_>, _signal: i32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Sends a signal to `pid`, which is to be a child that nobody has waited for, so that the number is still its.
pub(crate) fn kill(pid: u32, signal: i32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: kill(2) takes two integers and touches no memory of ours.
    let sent = unsafe { libc::kill(pid, signal) };
    if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Holds the calling OS thread until the child `pid` has ended, and leaves it to be waited for.
pub(crate) fn wait_ended(pid: u32) -> io::Result<()> {
    loop {
        let mut about = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: waitid(2) writes one siginfo_t to memory of ours that lives until it has returned.
        let ended = unsafe { libc::waitid(libc::P_PID, pid, about.as_mut_ptr(), libc::WEXITED | libc::WNOWAIT) };
        if ended == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Whether reading would not wait now: there is something, or the end, or an error.
#[cfg(feature = "green")]
pub(crate) fn is_readable(fd: BorrowedFd<'_>) -> io::Result<bool> {
    wait_readable(fd, Some(Duration::ZERO))
}

/// Holds the calling OS thread until `is_readable`, no longer than `limit`. `false`: it is not.
#[cfg(feature = "green")]
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, limit: Option<Duration>) -> io::Result<bool> {
    let since = std::time::Instant::now();
    loop {
        let left = limit.map(|limit| limit.saturating_sub(since.elapsed()));
        // Rounded up, so as not to be early.
        let milliseconds = left.map_or(-1, |left| i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
        let mut asked = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, ours alone, which lives until poll(2) has returned.
        let ready = unsafe { libc::poll(&mut asked, 1, milliseconds) };
        if ready >= 0 {
            return Ok(ready > 0);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
