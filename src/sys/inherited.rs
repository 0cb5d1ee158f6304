//! Descriptors that go from one process to the next under their own numbers: kept open at exec by the one, claimed by the other.
//!
//! Called by `endpoint::activated` and `service`. What must never happen here: a descriptor claimed that somebody in this process
//! owns. What was opened by std, mio or this crate is marked to be closed at exec, and what came through an exec is not: that
//! mark is what tells, and a claim sets it.
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// One claim at a time.
static CLAIMING: Mutex<()> = Mutex::new(());

/// The child of `command` has these under the numbers they have here. They are kept until the command is dropped.
pub(crate) fn keep_open(command: &mut Command, descriptors: Vec<OwnedFd>) {
    let work = move || {
        for descriptor in &descriptors {
            // SAFETY: fcntl(2) takes integers and touches no memory; the child's descriptors are its own.
            if unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFD, 0) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure reads memory that was made before the fork and calls fcntl(2), which may be
    // called there; it asks for no memory: an error is a number.
    unsafe { command.pre_exec(work) };
}

/// Takes a descriptor that came with the process, as its environment says.
///
/// # Errors
/// `InvalidInput` for a standard stream, for one that was claimed already, and for what did not come through an exec; the
/// system's for what is none.
pub(crate) fn claim(number: RawFd) -> io::Result<OwnedFd> {
    let refused = || Err(io::Error::new(io::ErrorKind::InvalidInput, "not a descriptor this process was started with"));
    if number <= 2 {
        return refused();
    }
    let _claiming = CLAIMING.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: fcntl(2) takes integers and touches no memory of ours.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    if flags & libc::FD_CLOEXEC != 0 {
        return refused();
    }
    // SAFETY: as above.
    if unsafe { libc::fcntl(number, libc::F_SETFD, flags | libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open and was not marked, so it came through the exec that began this program, and whoever started it says in
    // the environment that it is meant for us; under the lock nobody else claims it, and afterwards it is marked.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
