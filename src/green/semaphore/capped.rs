//! `CappedSemaphore`: releasing waits as well, while as many permits are free as there may be.
//!
//! A permit is handed over in both directions: whoever is woken has it, or has got rid of it.
use crate::failure::Result;
use crate::green::sleep::infallible;
use crate::green::task::Waiters;
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// A semaphore with a limit to its free permits (Eventlet's `CappedSemaphore`). Clones are the same one. With a limit of zero whoever
/// acquires and whoever releases meet.
///
/// ```
/// use twistlet::green::{semaphore::CappedSemaphore, spawn};
///
/// let meeting = CappedSemaphore::new(0, 0);
/// let other = meeting.clone();
/// let released = spawn(move || other.release());
/// meeting.acquire();
/// released.wait()?;
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[derive(Clone)]
pub struct CappedSemaphore(Rc<Inner>);

struct Inner {
    free: Cell<usize>,
    limit: usize,
    /// In line only while nothing is free and nobody releases.
    acquirers: Waiters,
    /// In line only while as many are free as may be and nobody acquires.
    releasers: Waiters,
}

impl CappedSemaphore {
    /// One with `permits` free, and never more than `limit`.
    ///
    /// # Panics
    /// When `permits` are more than `limit`.
    #[track_caller]
    pub fn new(permits: usize, limit: usize) -> Self {
        assert!(permits <= limit, "a CappedSemaphore with {permits} permits and a limit of {limit}");
        let free = Cell::new(permits);
        CappedSemaphore(Rc::new(Inner { free, limit, acquirers: Waiters::default(), releasers: Waiters::default() }))
    }
    /// Takes a permit.
    ///
    /// # Panics
    /// In the main loop and its callbacks, when it would wait. On MAIN, with the report, when it would wait for ever, or the
    /// reactor has stopped.
    ///
    /// # Blocking
    /// Until it is this one's turn.
    #[track_caller]
    pub fn acquire(&self) {
        infallible(self.take(None));
    }
    /// As [`acquire`](CappedSemaphore::acquire), no longer than `limit`. `false`: it has passed.
    ///
    /// # Panics
    /// As `acquire`.
    ///
    /// # Blocking
    /// At most for `limit`.
    #[track_caller]
    pub fn acquire_timeout(&self, limit: Duration) -> bool {
        infallible(self.take(Some(limit))).unwrap_or(false)
    }
    /// Takes a permit, and gives it back when the guard is dropped: without waiting, so that where as many are free as may be, it
    /// gives nothing.
    ///
    /// # Panics
    /// As [`acquire`](CappedSemaphore::acquire).
    ///
    /// # Blocking
    /// Until it is this one's turn.
    #[track_caller]
    pub fn hold(&self) -> CappedPermit {
        match infallible(self.take(None)) {
            Some(true) => CappedPermit(Some(self.clone())),
            _ => CappedPermit(None),
        }
    }
    /// Takes a permit if one is to be had. Never waits.
    pub fn try_acquire(&self) -> bool {
        let Inner { free, releasers, .. } = &*self.0;
        match free.get() {
            // Straight from one who waits to release.
            0 => releasers.wake_one(),
            some => {
                if !releasers.wake_one() {
                    free.set(some - 1);
                }
                true
            }
        }
    }
    #[track_caller]
    fn take(&self, limit: Option<Duration>) -> Result<bool> {
        if self.try_acquire() {
            return Ok(true);
        }
        Ok(limit != Some(Duration::ZERO) && self.0.acquirers.wait("a CappedSemaphore", limit)?)
    }
    /// Gives a permit: to whoever has waited longest, else to those that are free.
    ///
    /// # Panics
    /// As [`acquire`](CappedSemaphore::acquire).
    ///
    /// # Blocking
    /// While as many are free as may be.
    #[track_caller]
    pub fn release(&self) {
        infallible(self.give(None));
    }
    /// As [`release`](CappedSemaphore::release), no longer than `limit`. `false`: it has passed, and nothing was given.
    ///
    /// # Panics
    /// As `release`.
    ///
    /// # Blocking
    /// At most for `limit`.
    #[track_caller]
    pub fn release_timeout(&self, limit: Duration) -> bool {
        infallible(self.give(Some(limit))).unwrap_or(false)
    }
    /// Gives a permit if it need not wait for that.
    pub fn try_release(&self) -> bool {
        let Inner { free, limit, acquirers, .. } = &*self.0;
        if acquirers.wake_one() {
            return true;
        }
        let room = free.get() < *limit;
        if room {
            free.set(free.get() + 1);
        }
        room
    }
    #[track_caller]
    fn give(&self, limit: Option<Duration>) -> Result<bool> {
        if self.try_release() {
            return Ok(true);
        }
        Ok(limit != Some(Duration::ZERO) && self.0.releasers.wait("room in a CappedSemaphore", limit)?)
    }
    pub(in crate::green) fn acquirers(&self) -> &Waiters {
        &self.0.acquirers
    }
    /// How many permits are free.
    pub fn available(&self) -> usize {
        self.0.free.get()
    }
    /// Whether `acquire` would wait (Eventlet's `locked`).
    pub fn is_locked(&self) -> bool {
        self.available() == 0 && self.0.releasers.len() == 0
    }
    /// Whether `release` would wait (Eventlet's `bounded`).
    pub fn is_bounded(&self) -> bool {
        self.available() >= self.0.limit && self.0.acquirers.len() == 0
    }
    /// Free permits and green threads that wait to release, less those that wait to acquire.
    pub fn balance(&self) -> isize {
        let Inner { free, acquirers, releasers, .. } = &*self.0;
        count(free.get() + releasers.len()) - count(acquirers.len())
    }
}

/// One permit of a [`CappedSemaphore`]; gives itself back when dropped, also by a kill or a panic.
#[must_use = "the permit is given back when this is dropped"]
#[derive(Debug)]
pub struct CappedPermit(Option<CappedSemaphore>);
impl Drop for CappedPermit {
    fn drop(&mut self) {
        if let Some(semaphore) = self.0.take() {
            semaphore.try_release();
        }
    }
}

fn count(n: usize) -> isize {
    isize::try_from(n).unwrap_or(isize::MAX)
}

impl fmt::Debug for CappedSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { free, limit, acquirers, releasers } = &*self.0;
        f.debug_struct("CappedSemaphore")
            .field("available", &free.get())
            .field("limit", limit)
            .field("acquiring", &acquirers.len())
            .field("releasing", &releasers.len())
            .finish()
    }
}
