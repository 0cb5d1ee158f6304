//! `Pool`: so many procs at once.
use super::{Proc, RunningProcSet, spawn};
use crate::deferred::IntoDeferred;
use crate::failure::Result;
use crate::green::Semaphore;
use std::fmt;

/// Runs so many procs at once (Eventlet's `proc.Pool`, and `pool.Pool` before it). Clones are the same pool.
///
/// For green threads whose handles are enough, and whose members spawn into the pool themselves, there is
/// [`GreenPool`](crate::green::GreenPool).
///
/// ```
/// use twistlet::green::proc::{self, Pool};
///
/// let pool = Pool::new(2);
/// let squares: Vec<_> = (0..5).map(|n| pool.spawn(move || Ok(n * n))).collect();
/// assert_eq!(proc::wait_all(squares)?, [0, 1, 4, 9, 16]);
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[derive(Clone)]
pub struct Pool<T: 'static> {
    slots: Semaphore,
    running: RunningProcSet<T>,
}

impl<T: 'static> Pool<T> {
    /// One for `limit` at once.
    ///
    /// # Panics
    /// When that is zero.
    #[track_caller]
    pub fn new(limit: usize) -> Self {
        assert!(limit > 0, "a proc::Pool for none could never run one");
        Pool { slots: Semaphore::new(limit), running: RunningProcSet::new() }
    }
    /// Starts `f` in a proc, and waits first while as many run as may. However it ends, its slot is free then.
    ///
    /// # Panics
    /// In the main loop and its callbacks, when it would wait.
    ///
    /// # Blocking
    /// While the pool is full. A member of a full pool that spawns into it waits for the others.
    #[track_caller]
    pub fn spawn<R: IntoDeferred<Value = T> + 'static>(&self, f: impl FnOnce() -> R + 'static) -> Proc<T> {
        let slot = self.slots.acquire();
        let new = spawn(move || {
            let _slot = slot;
            f()
        });
        self.running.add(new.clone());
        new
    }
    /// How many more could start at once.
    pub fn free(&self) -> usize {
        self.slots.available()
    }
    /// How many green threads wait to start one.
    pub fn waiting(&self) -> usize {
        self.slots.waiting()
    }
    /// Those that run.
    pub fn running(&self) -> &RunningProcSet<T> {
        &self.running
    }
    /// Waits until none runs.
    ///
    /// # Errors
    /// As [`RunningProcSet::wait_all`].
    ///
    /// # Blocking
    /// Until none runs.
    #[track_caller]
    pub fn wait_all(&self) -> Result {
        self.running.wait_all()
    }
    /// Kills them all. Does not wait.
    pub fn kill_all(&self) {
        self.running.kill_all();
    }
}
impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("free", &self.slots.available()).field("running", &self.running.len()).finish()
    }
}
