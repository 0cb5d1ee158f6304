//! A socket of the system's, with what makes waiting for it green: try, park when it would block, try again.
//!
//! The descriptor never blocks; `set_nonblocking` is a flag here, as are the timeouts, shared by all clones like std's. What
//! must never happen here: an allocation, a lock or a system call more than the operation itself where nobody has to wait.
use super::place::{self, Direction, Parked, Place};
use crate::error::TimedOut;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

pub(super) struct Socket<S: AsRawFd> {
    /// Dropped first: who watches a descriptor must hear of its end before somebody else gets the number.
    pub(super) place: Place,
    pub(super) inner: S,
    nonblocking: AtomicBool,
    /// Somebody closed it for all its clones, where there is such a call.
    closed: AtomicBool,
    /// A listener's: the last attempt found no descriptor or memory for a connection.
    pub(super) exhausted: AtomicBool,
    /// By direction, in nanoseconds; 0 is none.
    limits: [AtomicU64; 2],
}

impl<S: AsRawFd> Socket<S> {
    pub(super) fn new(inner: S) -> Self {
        Socket {
            place: Place::default(),
            inner,
            nonblocking: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            exhausted: AtomicBool::new(false),
            limits: Default::default(),
        }
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

    /// Whoever waits in an ended direction goes on, and finds what it finds.
    pub(super) fn ended(&self, how: Shutdown) {
        // Whoever waits on another thread hears it from the system.
        if let Some(watch) = self.place.find() {
            if how != Shutdown::Write {
                watch.closed(Direction::Read);
            }
            if how != Shutdown::Read {
                watch.closed(Direction::Write);
            }
        }
    }
    /// Whoever waits in this direction, on this thread, tries again.
    pub(super) fn nudge(&self, direction: Direction) {
        if let Some(watch) = self.place.find() {
            watch.wake(direction);
        }
    }
    /// Ends its use by all clones, as far as the system goes with that: the rest is told by `is_closed`.
    pub(super) fn close(&self)
    where
        S: AsFd,
    {
        if !self.closed.swap(true, Ordering::AcqRel) {
            // Not every system can. Wakes whoever waits on another thread.
            let _ = socket2::SockRef::from(&self.inner).shutdown(Shutdown::Both);
            self.ended(Shutdown::Both);
        }
    }
    /// Notes the end of a direction, where the system does not tell.
    pub(super) fn set_closed(&self) {
        self.closed.store(true, Ordering::Release);
    }
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
    /// The descriptor, unless clones of the socket exist; blocking unless `set_nonblocking` said otherwise.
    pub(super) fn into_fd(self: Arc<Self>) -> Result<OwnedFd, Arc<Self>>
    where
        S: Into<OwnedFd>,
    {
        let Socket { place, inner, nonblocking, .. } = Arc::try_unwrap(self)?;
        // It stays open, so the poller must be told.
        place.expose();
        drop(place);
        let fd: OwnedFd = inner.into();
        // Fails only for a descriptor that is no socket, of which every use will say so.
        let _ = socket2::SockRef::from(&fd).set_nonblocking(nonblocking.into_inner());
        Ok(fd)
    }
    /// The descriptor, or a duplicate of it where clones exist: that one still does not block, since it shares the mode.
    pub(super) fn give_fd(self: Arc<Self>) -> OwnedFd
    where
        S: AsFd + Into<OwnedFd>,
    {
        match self.into_fd() {
            Ok(fd) => fd,
            Err(shared) => match shared.expose().try_clone_to_owned() {
                Ok(duplicate) => duplicate,
                Err(error) => panic!(
                    "a socket that has clones gives a duplicate of its descriptor, and there is none: {error}; drop the \
                     clones first, or use into_std(), which returns an error"
                ),
            },
        }
    }

    /// Does `attempt` once, or again where a signal came in between.
    pub(super) fn attempt<T>(&self, mut attempt: impl FnMut(&S) -> io::Result<T>) -> io::Result<T> {
        loop {
            match attempt(&self.inner) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
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
                    let left = limit.saturating_sub(now.saturating_duration_since(*since.get_or_insert(now)));
                    if left.is_zero() {
                        // Woken, time and again, for nothing.
                        return Err(timed_out(limit));
                    }
                    Some(left)
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

/// Ends a socket of which clones are left when its owner is through with it.
pub struct Ender<S: AsRawFd>(Weak<Socket<S>>);
impl<S: AsRawFd + AsFd> Ender<S> {
    pub(super) fn of(socket: &Arc<Socket<S>>) -> Self {
        Ender(Arc::downgrade(socket))
    }
    pub(in crate::green) fn end(self) {
        if let Some(socket) = self.0.upgrade() {
            // Fails when the peer has gone, and then there is nothing to end.
            let _ = socket2::SockRef::from(&socket.inner).shutdown(Shutdown::Both);
            socket.ended(Shutdown::Both);
        }
    }
}

/// As std says it.
pub(super) fn zero_timeout() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "cannot set a 0 duration timeout")
}
#[cold]
pub(super) fn timed_out(limit: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, TimedOut(limit))
}
