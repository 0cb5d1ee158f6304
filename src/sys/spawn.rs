//! What a child does between fork and exec, which std leaves to unsafe closures: its descriptors, its signals, its terminal.
//!
//! Called by `transport::process`. What must never happen here: anything in the child but system calls that may be made there;
//! memory asked for, a lock taken.
use super::descriptor::identity;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// How often a start is tried anew because other threads opened and closed descriptors meanwhile.
const ATTEMPTS: u32 = 1000;
/// What the child says then. None of the system calls made there gives it.
const AGAIN: i32 = libc::EALREADY;

/// A number that a descriptor of the child gets, and what this process has there (device and inode) as the child is made.
struct Place {
    target: RawFd,
    before: [AtomicU64; 2],
}

/// Starts `command` with the plan.
///
/// std's child tells by a pipe that it could not exec. The pipe has a number like any other descriptor; should that be one of
/// the targets, putting ours there would close it, and a start that failed would look like one that did not. So the free ones among
/// the targets are occupied before std opens the pipe, and the child looks whether there is still what was there: another thread
/// may have closed it in between, and then the pipe may have its number.
///
/// # Errors
/// The system's, for every step up to exec itself.
pub(crate) fn start(command: &mut Command, plan: Plan) -> io::Result<Child> {
    let place = |(_, target): &(OwnedFd, RawFd)| Place { target: *target, before: Default::default() };
    let places: Arc<[Place]> = plan.descriptors.iter().map(place).collect();
    prepare(command, plan, Arc::clone(&places));
    let null = std::fs::File::open("/dev/null")?;
    let mut attempts = 1;
    loop {
        let mut held = Vec::new();
        for Place { target, before } in &*places {
            let holds = super::descriptor::duplicate_above(null.as_fd(), *target)?;
            if holds.as_raw_fd() == *target {
                held.push(holds);
            }
            for (before, is) in before.iter().zip(identity(*target)) {
                before.store(is, Ordering::Relaxed);
            }
        }
        match command.spawn() {
            Err(error) if error.raw_os_error() == Some(AGAIN) && attempts < ATTEMPTS => attempts += 1,
            outcome => return outcome,
        }
    }
}

/// Adds the plan to what `command` does in its child. It keeps the sources until the command is dropped.
fn prepare(command: &mut Command, plan: Plan, places: Arc<[Place]>) {
    let work = move || {
        for Place { target, before } in &*places {
            let now = identity(*target);
            if now != [0; 2] && now != [before[0].load(Ordering::Relaxed), before[1].load(Ordering::Relaxed)] {
                return Err(io::Error::from_raw_os_error(AGAIN));
            }
        }
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
    // SAFETY: the closure only makes system calls that may be made between fork and exec (fstat, fcntl, close_range, dup2, sigaction,
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
