//! `BoundedSemaphore`: one that notices when more is given back than was taken.
use super::{Permit, Semaphore};
use std::fmt;
use std::time::Duration;

/// A [`Semaphore`] that never has more permits than at first (Eventlet's `BoundedSemaphore`; with one permit, its `Lock`). Clones are the same one.
///
/// ```
/// use twistlet::green::semaphore::BoundedSemaphore;
///
/// let semaphore = BoundedSemaphore::new(1);
/// semaphore.acquire().forget();
/// semaphore.release()?;
/// assert!(semaphore.release().is_err());
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[derive(Clone, Debug)]
pub struct BoundedSemaphore(Semaphore);

/// A [`BoundedSemaphore`] was released more often than it was acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleasedTooOften;
impl fmt::Display for ReleasedTooOften {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a BoundedSemaphore was released more often than it was acquired; it has all its permits")
    }
}
impl std::error::Error for ReleasedTooOften {}

impl BoundedSemaphore {
    /// One with `permits` to give.
    pub fn new(permits: usize) -> Self {
        BoundedSemaphore(Semaphore::limited(permits, permits))
    }
    /// Takes a permit, as [`Semaphore::acquire`].
    ///
    /// # Panics
    /// As `Semaphore::acquire`.
    ///
    /// # Blocking
    /// Until it is this one's turn.
    #[track_caller]
    pub fn acquire(&self) -> Permit {
        self.0.acquire()
    }
    /// Takes a permit if one is free. Never waits.
    pub fn try_acquire(&self) -> Option<Permit> {
        self.0.try_acquire()
    }
    /// As [`acquire`](BoundedSemaphore::acquire), no longer than `limit`.
    ///
    /// # Panics
    /// As `acquire`.
    ///
    /// # Blocking
    /// At most for `limit`.
    #[track_caller]
    pub fn acquire_timeout(&self, limit: Duration) -> Option<Permit> {
        self.0.acquire_timeout(limit)
    }
    /// Gives a permit back whose guard was [forgotten](Permit::forget). Never waits. A guard that is dropped when all the permits are
    /// back already, since somebody released in its stead, gives nothing.
    ///
    /// # Errors
    /// [`ReleasedTooOften`], and nothing changes.
    pub fn release(&self) -> Result<(), ReleasedTooOften> {
        if self.0.available() >= self.0.0.limit {
            return Err(ReleasedTooOften);
        }
        self.0.release();
        Ok(())
    }
    /// How many permits are free.
    pub fn available(&self) -> usize {
        self.0.available()
    }
    /// How many green threads wait.
    pub fn waiting(&self) -> usize {
        self.0.waiting()
    }
    /// Whether `acquire` would wait.
    pub fn is_locked(&self) -> bool {
        self.0.is_locked()
    }
    /// Permits that are free less green threads that wait.
    pub fn balance(&self) -> isize {
        self.0.balance()
    }
    pub(in crate::green) fn semaphore(&self) -> &Semaphore {
        &self.0
    }
}
