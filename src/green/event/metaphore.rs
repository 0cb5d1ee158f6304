//! `Metaphore`: a count of what is still to come, and those who wait until nothing is.
use crate::green::sleep::infallible;
use crate::green::task::Waiters;
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// The opposite of a semaphore: waits while the count is not zero (Eventlet's `coros.metaphore`). Clones are the same one.
///
/// ```
/// use twistlet::green::{event::Metaphore, spawn};
///
/// let pending = Metaphore::new();
/// for _ in 0..2 {
///     pending.inc(1);
///     let done = pending.clone();
///     spawn(move || done.dec(1));
/// }
/// pending.wait();
/// assert_eq!(pending.count(), 0);
/// ```
#[derive(Clone, Default)]
pub struct Metaphore(Rc<Inner>);

#[derive(Default)]
struct Inner {
    count: Cell<usize>,
    waiters: Waiters,
}

impl Metaphore {
    /// One that counts nothing.
    pub fn new() -> Self {
        Metaphore::default()
    }
    /// Counts `by` more. Never waits.
    pub fn inc(&self, by: usize) {
        self.0.count.set(self.0.count.get().saturating_add(by));
    }
    /// Counts `by` less, but not less than zero; there, all who wait go on. Never waits.
    pub fn dec(&self, by: usize) {
        self.0.count.set(self.0.count.get().saturating_sub(by));
        if self.0.count.get() == 0 {
            self.0.waiters.wake_all();
        }
    }
    /// What it counts.
    pub fn count(&self) -> usize {
        self.0.count.get()
    }
    /// Waits until it comes to zero; at once when it is.
    ///
    /// # Panics
    /// In the main loop and its callbacks, unless it is zero. On MAIN, with the report, when it would wait for ever.
    ///
    /// # Blocking
    /// Until the count is zero.
    #[track_caller]
    pub fn wait(&self) {
        if self.count() > 0 {
            infallible(self.0.waiters.wait("a Metaphore to come to zero", None));
        }
    }
    /// As [`wait`](Metaphore::wait), no longer than `limit`. Returns whether it came to zero. Zero never waits.
    ///
    /// # Panics
    /// As `wait`.
    ///
    /// # Blocking
    /// At most for `limit`.
    #[track_caller]
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        if self.count() == 0 {
            return true;
        }
        let wait = || self.0.waiters.wait("a Metaphore to come to zero", Some(limit));
        !limit.is_zero() && infallible(wait()).unwrap_or(false)
    }
}
impl fmt::Debug for Metaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { count, waiters } = &*self.0;
        f.debug_struct("Metaphore").field("count", &count.get()).field("waiting", &waiters.len()).finish()
    }
}
