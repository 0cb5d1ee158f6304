//! Accepting, the same for TCP and UNIX listeners: what keeps a full process from spinning, and how a listener is closed.
use super::place::{self, Direction};
use super::socket::Socket;
use crate::error::PortError;
use crate::green::task::prepare;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long `accept` waits before it tries again after the process had run out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(10);

/// Whether an error means that there is nothing left for a connection: descriptors, memory.
pub(in crate::green) fn is_exhaustion(error: &io::Error) -> bool {
    let spent = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| spent.contains(&code))
}

impl<L: AsRawFd> Socket<L> {
    /// The next connection. `given_up` is asked before each attempt: a server that is told to stop says so.
    #[track_caller]
    pub(super) fn accept<C>(
        &self,
        given_up: &dyn Fn() -> bool,
        mut accept: impl FnMut(&L) -> io::Result<C>,
    ) -> io::Result<C> {
        if self.exhausted.swap(false, Ordering::Relaxed) && !self.is_nonblocking() && place::may_park() {
            prepare()?.park_timeout("a descriptor to be free", Some(PAUSE))?;
        }
        let attempt = |listener: &L| {
            if self.is_closed() || given_up() {
                return Err(io::Error::new(io::ErrorKind::NotConnected, PortError::NotListening));
            }
            accept(listener)
        };
        let accepted = self.run(Direction::Read, "a connection to accept", attempt, |_| false);
        if let Err(error) = &accepted
            && is_exhaustion(error)
        {
            self.exhausted.store(true, Ordering::Relaxed);
        }
        accepted
    }
}
