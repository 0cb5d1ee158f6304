//! What a child does between fork and exec, which std leaves to unsafe closures: its descriptors, its signals, its terminal.
//!
//! Called by `transport::process`. What must never happen here: anything in the child but system calls that may be made there;
//! memory asked for, a lock taken.
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// What the child does.
#[derive(Default)]
pub(crate) struct Plan {
    /// Our descriptors, and the numbers above 2 that they have in the child. The sources must have numbers above all targets.
    pub(crate) descriptors: Vec<(OwnedFd, RawFd)>,
    /// Signals that are blocked in it; all others are not.
    pub(crate) blocked: Vec<i32>,
    /// Its standard input becomes the terminal of a new session.
    pub(crate) terminal: bool,
}

/// Where there is no close_range(2): descriptors up to this number are looked at one by one.
const MANY: RawFd = 65_536;

/// Adds the plan to what `command` does in its child. It keeps the sources until the command is dropped.
pub(crate) fn prepare(command: &mut Command, plan: Plan) {
    let work = move || {
        close_others_at_exec();
        for (source, target) in &plan.descriptors {
            // SAFETY: dup2(2) takes integers, may be called here, and the child's descriptors are nobody else's.
            if unsafe { libc::dup2(source.as_raw_fd(), *target) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        set_signals(&plan.blocked)?;
        if plan.terminal {
            take_terminal()?;
        }
        Ok(())
    };
    // SAFETY: the closure only makes system calls that may be made between fork and exec (fcntl, close_range, dup2, sigaction,
    // sigprocmask, setsid, ioctl), reads memory that was made before the fork, and asks for none: an error is a number.
    unsafe { command.pre_exec(work) };
}

/// Every descriptor above the standard ones is closed by exec, unless it is set out for the child afterwards.
fn close_others_at_exec() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: close_range(2) takes integers; with this flag it closes nothing yet.
        let done = unsafe {
            libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
        };
        if done == 0 {
            return;
        }
    }
    for fd in 3..MANY {
        // SAFETY: fcntl(2) takes integers; it fails for a number that is none, and then there is nothing to close.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// A signal ignored here would be ignored there: those get their default effect back.
fn set_signals(blocked: &[i32]) -> io::Result<()> {
    for signal in 1..=64 {
        let mut now = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: sigaction(2) writes what is set to memory of ours; a zeroed one is a valid value of it in any case. Setting a
        // default effect runs nothing, and handlers are not kept over exec.
        unsafe {
            if libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr()) == 0
                && now.assume_init_ref().sa_sigaction == libc::SIG_IGN
            {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
    }
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: the set is memory of ours that sigemptyset makes a valid one before it is used.
    let done = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in blocked {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut())
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Standard input is the terminal of a new session, whose leader the child is.
fn take_terminal() -> io::Result<()> {
    // SAFETY: setsid(2) and TIOCSCTTY take integers and touch no memory of ours.
    let done = unsafe { libc::setsid() >= 0 && libc::ioctl(0, libc::TIOCSCTTY as _, 0) == 0 };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}
