//! A socket of the system's, with what makes waiting for it green: try, park when it would block, try again.
//!
//! The descriptor never blocks; `set_nonblocking` is a flag here, as are the timeouts, shared by all clones like std's. What
//! must never happen here: an allocation, a lock or a system call more than the operation itself where nobody has to wait.
use super::place::{self, Direction, Parked, Place};
use crate::error::TimedOut;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub(super) struct Socket<S: AsRawFd> {
    pub(super) inner: S,
    pub(super) place: Place,
    nonblocking: AtomicBool,
    /// By direction, in nanoseconds; 0 is none.
    limits: [AtomicU64; 2],
}

impl<S: AsRawFd> Socket<S> {
    pub(super) fn new(inner: S) -> Self {
        Socket { inner, place: Place::default(), nonblocking: AtomicBool::new(false), limits: Default::default() }
    }
    fn fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
    /// For others, who may duplicate it.
    pub(super) fn expose(&self) -> BorrowedFd<'_>
    where
        S: AsFd,
    {
        self.place.expose();
        self.inner.as_fd()
    }
    pub(super) fn set_nonblocking(&self, on: bool) {
        self.nonblocking.store(on, Ordering::Relaxed);
    }
    #[inline]
    pub(super) fn is_nonblocking(&self) -> bool {
        self.nonblocking.load(Ordering::Relaxed)
    }
    #[inline]
    fn limit(&self, direction: Direction) -> Option<Duration> {
        match self.limits[direction as usize].load(Ordering::Relaxed) {
            0 => None,
            nanoseconds => Some(Duration::from_nanos(nanoseconds)),
        }
    }
    pub(super) fn timeout(&self, direction: Direction) -> Option<Duration> {
        self.limit(direction)
    }
    pub(super) fn set_timeout(&self, direction: Direction, limit: Option<Duration>) -> io::Result<()> {
        let nanoseconds = match limit {
            Some(Duration::ZERO) => return Err(zero_timeout()),
            Some(limit) => u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX),
            None => 0,
        };
        self.limits[direction as usize].store(nanoseconds, Ordering::Relaxed);
        Ok(())
    }

    /// Does `attempt` as soon as the socket is ready for it, under the direction's timeout. `used_up`: what came says that
    /// the socket is not ready any more.
    #[inline]
    #[track_caller]
    pub(super) fn run<T>(
        &self,
        direction: Direction,
        reason: &'static str,
        attempt: impl FnMut(&S) -> io::Result<T>,
        used_up: impl Fn(&T) -> bool,
    ) -> io::Result<T> {
        self.run_within(self.limit(direction), direction, reason, attempt, used_up)
    }
    #[track_caller]
    pub(super) fn run_within<T>(
        &self,
        limit: Option<Duration>,
        direction: Direction,
        reason: &'static str,
        mut attempt: impl FnMut(&S) -> io::Result<T>,
        used_up: impl Fn(&T) -> bool,
    ) -> io::Result<T> {
        let nonblocking = self.is_nonblocking();
        if !nonblocking {
            place::breathe();
        }
        let mut watch = self.place.find();
        let mut tried = false;
        if let Some(watch) = &watch {
            watch.is_free(direction)?;
            // Whoever cannot park may still find what arrived since the loop last looked.
            tried = watch.is_idle(direction) && !nonblocking && place::may_park();
        }
        let mut since = None;
        let mut late = false;
        loop {
            if !tried {
                match attempt(&self.inner) {
                    Ok(value) => {
                        if let Some(watch) = &watch
                            && used_up(&value)
                        {
                            watch.used_up(direction);
                        }
                        return Ok(value);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock && !nonblocking => {}
                    Err(error) => return Err(error),
                }
                if late {
                    return Err(timed_out(limit.unwrap_or_default()));
                }
            }
            let here = match watch.take() {
                Some(watch) => watch,
                None => self.place.settle(self.fd())?,
            };
            here.blocked(direction);
            let left = match limit {
                None => None,
                Some(limit) => {
                    let now = place::now()?;
                    Some(limit.saturating_sub(now.saturating_duration_since(*since.get_or_insert(now))))
                }
            };
            match self.place.park(&here, direction, reason, left)? {
                Parked::Woken => (tried, watch) = (false, Some(here)),
                // What came in the last moment counts.
                Parked::Late => (tried, watch, late) = (false, Some(here), true),
                // It finds, moves, or says who holds it.
                Parked::Moved => tried = true,
            }
        }
    }
}

impl<S: AsRawFd> Drop for Socket<S> {
    fn drop(&mut self) {
        self.place.leave(self.fd());
    }
}

/// As std says it.
pub(super) fn zero_timeout() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "cannot set a 0 duration timeout")
}
#[cold]
fn timed_out(limit: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, TimedOut(limit))
}
