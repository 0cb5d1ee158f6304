//! Descriptors that go from one process to the next under their own numbers: kept open at exec by the one, claimed by the other.
//!
//! Called by `endpoint::activated` and `service`. What must never happen here: a descriptor claimed that somebody in this process
//! owns. What was opened by std, mio or this crate is marked to be closed at exec, and what came through an exec is not: that
//! mark is what tells, and a claim sets it. Other libraries open without the mark, in safe functions; so on Linux what was open is
//! noted before the program begins, and nothing else can be claimed.
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// What was open before `main`, by number: device and inode.
#[cfg(target_os = "linux")]
mod born {
    use crate::sys::descriptor::identity;
    use std::os::fd::RawFd;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Higher numbers are not handed over.
    const MANY: usize = 4096;
    /// Looked at by one system call.
    const CHUNK: usize = 256;
    static BORN: [[AtomicU64; 2]; MANY] = [const { [AtomicU64::new(0), AtomicU64::new(0)] }; MANY];

    // SAFETY: the section holds functions without arguments that the C library calls when it is ready and before `main`, and with it
    // all other Rust code of the program.
    #[unsafe(link_section = ".init_array")]
    #[used]
    static LOOK: extern "C" fn() = look;

    /// Asks for no memory and cannot panic.
    extern "C" fn look() {
        let mut first = 0;
        while first < MANY {
            let mut asked = [libc::pollfd { fd: 0, events: 0, revents: 0 }; CHUNK];
            for (fd, asked) in (first as RawFd..).zip(&mut asked) {
                asked.fd = fd;
            }
            // SAFETY: as many pollfds as are said, ours alone, which live until poll(2) has returned; with no time to wait.
            let done = unsafe { libc::poll(asked.as_mut_ptr(), CHUNK as libc::nfds_t, 0) };
            for (asked, born) in asked.iter().zip(BORN.iter().skip(first)) {
                // Refused where fewer may be open; then each is asked for.
                if done < 0 || asked.revents & libc::POLLNVAL == 0 {
                    let [device, inode] = identity(asked.fd);
                    born[0].store(device, Ordering::Relaxed);
                    born[1].store(inode, Ordering::Relaxed);
                }
            }
            first += CHUNK;
        }
    }
    /// Whether what has this number had it then.
    pub(super) fn is(number: RawFd) -> bool {
        let born = usize::try_from(number).ok().and_then(|number| BORN.get(number));
        let then = born.map(|born| [born[0].load(Ordering::Relaxed), born[1].load(Ordering::Relaxed)]);
        then.is_some_and(|then| then != [0; 2] && then == identity(number))
    }
}

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
    #[cfg(target_os = "linux")]
    if !born::is(number) {
        return refused();
    }
    // SAFETY: as above.
    if unsafe { libc::fcntl(number, libc::F_SETFD, flags | libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, was not marked, and was there before this program began, so it came through the exec, and no code of ours
    // had a part in that; under the lock nobody else claims it, and afterwards it is marked.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
