//! `GreenPile`: jobs of a pool whose results are taken in the order in which they were spawned.
//!
//! A pile is the list of its jobs' handles; the pool, which it may share, does the rest. What must never happen here: a
//! borrow held while somebody waits.
use super::green_thread::GreenThread;
use super::pool::GreenPool;
use crate::deferred::IntoDeferred;
use crate::failure::Result;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

/// Jobs of one kind, whose results come in the order of spawning (Eventlet's `GreenPile`). Clones are the same pile.
///
/// Iterating gives the outcome of each job, waiting for it, and ends when there are no more: also at once, where nothing was
/// spawned. So spawn all, or the next at least, before you take. Results that nobody takes are kept. Dropping the pile detaches
/// its jobs.
///
/// ```
/// use twistlet::green::GreenPile;
///
/// let pile = GreenPile::new(5);
/// for n in 1..=3 {
///     pile.spawn(move || Ok(n * 10));
/// }
/// assert_eq!(pile.collect::<Result<Vec<_>, _>>()?, [10, 20, 30]);
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct GreenPile<T: 'static> {
    pool: GreenPool,
    jobs: Rc<RefCell<VecDeque<GreenThread<T>>>>,
}

impl<T: 'static> GreenPile<T> {
    /// A pile with a pool of its own, for `size` jobs at a time.
    pub fn new(size: usize) -> Self {
        GreenPile::of(&GreenPool::new(size))
    }
    /// A pile of jobs of `pool`, which may have other jobs and other piles.
    pub fn of(pool: &GreenPool) -> Self {
        GreenPile { pool: pool.clone(), jobs: Rc::default() }
    }
    /// Spawns a job of this pile, as [`GreenPool::spawn`]. Only when it is spawned it belongs to the pile: a wait for a place
    /// that is interrupted adds nothing.
    ///
    /// # Panics
    /// As `GreenPool::spawn`.
    ///
    /// # Blocking
    /// Until the pool has a place.
    #[track_caller]
    pub fn spawn<R: IntoDeferred<Value = T> + 'static>(&self, f: impl FnOnce() -> R + 'static) {
        let job = self.pool.spawn(f);
        self.jobs.borrow_mut().push_back(job);
    }
    /// How many results are still to be taken.
    pub fn len(&self) -> usize {
        self.jobs.borrow().len()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Its pool.
    pub fn pool(&self) -> &GreenPool {
        &self.pool
    }
}

/// The job whose result is waited for, out of its pile: put back where the wait is left otherwise.
struct Front<'a, T: 'static> {
    job: Option<GreenThread<T>>,
    pile: &'a GreenPile<T>,
}
impl<T: 'static> Drop for Front<'_, T> {
    fn drop(&mut self) {
        if let Some(job) = self.job.take() {
            self.pile.jobs.borrow_mut().push_front(job);
        }
    }
}

/// The outcomes, in the order of spawning.
///
/// # Errors
/// Each item is the outcome of its own job. Where the wait itself cannot go on ([`Deadlock`](crate::error::Deadlock) on MAIN,
/// [`ReactorError::Stopped`](crate::error::ReactorError::Stopped)), that is given in the job's place, and the job is detached.
///
/// # Blocking
/// `next` waits until the first of the jobs has ended. A deadline that passes meanwhile loses nothing.
impl<T: 'static> Iterator for GreenPile<T> {
    type Item = Result<T>;

    #[track_caller]
    fn next(&mut self) -> Option<Result<T>> {
        let job = self.jobs.borrow_mut().pop_front()?;
        let mut front = Front { job: Some(job), pile: self };
        let waited = front.job.as_ref().map_or(Ok(()), GreenThread::wait_for_end);
        let job = front.job.take()?;
        Some(waited.and_then(|()| job.wait()))
    }
}

/// The same pile.
impl<T: 'static> Clone for GreenPile<T> {
    fn clone(&self) -> Self {
        GreenPile { pool: self.pool.clone(), jobs: Rc::clone(&self.jobs) }
    }
}
impl<T: 'static> fmt::Debug for GreenPile<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GreenPile").field("len", &self.len()).field("pool", &self.pool).finish()
    }
}
