//! `Condvar`: std's, for green threads and OS threads.
use super::line::Line;
use super::mutex::{Mutex, MutexGuard};
use crate::failure::Result;
use std::fmt;
use std::sync::{LockResult, PoisonError};
use std::time::{Duration, Instant};

/// [`std::sync::Condvar`], whose waits park the green thread (Eventlet's `threading.Condition`).
///
/// [`notify_one`](Condvar::notify_one) is for whoever has waited longest. A notification that meets a green thread which is
/// killed, or too late, goes to the next. Unlike std's it may be used with several mutexes.
///
/// In a destructor that runs because its green thread unwinds nothing waits: there a wait fails at once, as if the mutex were
/// poisoned, or as if the time were up.
///
/// ```
/// use twistlet::green::sync::{Arc, Condvar, Mutex};
/// use twistlet::green::thread;
///
/// let pair = Arc::new((Mutex::new(false), Condvar::new()));
/// let theirs = Arc::clone(&pair);
/// thread::spawn(move || {
///     *theirs.0.lock().unwrap() = true;
///     theirs.1.notify_one();
/// });
/// let (lock, changed) = &*pair;
/// let started = changed.wait_while(lock.lock().unwrap(), |started| !*started).unwrap();
/// assert!(*started);
/// ```
pub struct Condvar {
    line: Line,
}

/// Whether a timed wait of a [`Condvar`] ended because its time was up.
#[derive(Debug, PartialEq, Eq, Copy, Clone)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether the time was up.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

/// One that is killed on its way back to the lock passes its notification on.
struct PassOn<'a>(&'a Condvar);
impl Drop for PassOn<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Condvar {
    /// One that nobody waits for.
    #[must_use]
    pub const fn new() -> Self {
        Condvar { line: Line::new() }
    }
    /// Unlocks the mutex, waits for a notification, and locks again.
    ///
    /// # Errors
    /// When the mutex is poisoned; the guard is in the error.
    ///
    /// # Panics
    /// In the main loop and its callbacks.
    ///
    /// # Blocking
    /// Until it is notified, or woken for no reason, and the mutex is free.
    #[track_caller]
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        match self.wait_for(guard, None) {
            (guard, Ok(_)) => guard,
            // It would be called again and again.
            (guard, Err(_)) => Err(PoisonError::new(guard.unwrap_or_else(PoisonError::into_inner))),
        }
    }
    #[track_caller]
    fn wait_for<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        limit: Option<Duration>,
    ) -> (LockResult<MutexGuard<'a, T>>, Result<bool>) {
        let mutex: &'a Mutex<T> = MutexGuard::mutex(&guard);
        let mut guard = Some(guard);
        let called = self.line.be_called((), "a Condvar", limit, || {
            drop(guard.take());
            true
        });
        if let Some(guard) = guard {
            return (if mutex.is_poisoned() { Err(PoisonError::new(guard)) } else { Ok(guard) }, called);
        }
        let notified = matches!(called, Ok(true)).then(|| PassOn(self));
        let guard = mutex.lock();
        std::mem::forget(notified);
        // Where the reactor has ended meanwhile it is as if it had been woken for no reason.
        (guard, Ok(called.unwrap_or(true)))
    }
    /// As [`wait`](Condvar::wait), as long as `condition` says `true`.
    ///
    /// # Errors
    /// As `wait`.
    ///
    /// # Panics
    /// As `wait`, if there is anything to wait for.
    ///
    /// # Blocking
    /// As long as the condition holds.
    #[track_caller]
    pub fn wait_while<'a, T, F>(&self, mut guard: MutexGuard<'a, T>, mut condition: F) -> LockResult<MutexGuard<'a, T>>
    where
        F: FnMut(&mut T) -> bool,
    {
        while condition(&mut *guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }
    /// As [`wait`](Condvar::wait), no longer than `dur`, not counting the way back to the lock.
    ///
    /// # Errors
    /// As `wait`.
    ///
    /// # Panics
    /// As `wait`.
    ///
    /// # Blocking
    /// At most for `dur`, and then until the mutex is free.
    #[track_caller]
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        dur: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let (guard, called) = self.wait_for(guard, Some(dur));
        let late = WaitTimeoutResult(!called.unwrap_or(false));
        match guard {
            Ok(guard) => Ok((guard, late)),
            Err(poisoned) => Err(PoisonError::new((poisoned.into_inner(), late))),
        }
    }
    /// As [`wait_while`](Condvar::wait_while), no longer than `dur`.
    ///
    /// # Errors
    /// As `wait`.
    ///
    /// # Panics
    /// As `wait_while`.
    ///
    /// # Blocking
    /// At most for `dur`, and then until the mutex is free.
    #[track_caller]
    pub fn wait_timeout_while<'a, T, F>(
        &self,
        mut guard: MutexGuard<'a, T>,
        dur: Duration,
        mut condition: F,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)>
    where
        F: FnMut(&mut T) -> bool,
    {
        let start = Instant::now();
        loop {
            if !condition(&mut *guard) {
                return Ok((guard, WaitTimeoutResult(false)));
            }
            let Some(left) = dur.checked_sub(start.elapsed()) else {
                return Ok((guard, WaitTimeoutResult(true)));
            };
            let late;
            (guard, late) = self.wait_timeout(guard, left)?;
            if late.timed_out() {
                let late = condition(&mut *guard);
                return Ok((guard, WaitTimeoutResult(late)));
            }
        }
    }
    /// Wakes the one that has waited longest. Never waits.
    pub fn notify_one(&self) {
        if !self.line.is_still_empty() {
            self.line.call_first();
        }
    }
    /// Wakes all that wait. Never waits.
    pub fn notify_all(&self) {
        if !self.line.is_still_empty() {
            self.line.call_all();
        }
    }
}
impl Default for Condvar {
    fn default() -> Self {
        Condvar::new()
    }
}
impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}
