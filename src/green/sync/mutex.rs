//! `Mutex`: std's, for green threads and OS threads.
//!
//! The value is in a `std::sync::Mutex` that is only ever tried; the line is beside it.
use super::line::{Line, insist};
use super::poison::{Mark, Poison};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{self, LockResult, PoisonError, TryLockError, TryLockResult};

/// How often one tries again before it waits, where the lock is held on another OS thread and will soon be given up.
const SPINS: usize = 100;

/// [`std::sync::Mutex`], whose [`lock`](Mutex::lock) parks the green thread and holds up nobody else (Eventlet's
/// `threading.Lock`).
///
/// First come, first served: whoever finds others waiting queues behind them, [`try_lock`](Mutex::try_lock) included. Poisoned
/// by a panic as std's, but not by a kill or a deadline: those unwind on purpose. (What such a green thread was changing may be
/// half changed, so do not wait between two changes that belong together.) It may be used by green threads and OS threads
/// together; uncontended it costs three atomic operations and no allocation.
///
/// ```
/// use twistlet::green::sync::{Arc, Mutex};
/// use twistlet::green::thread;
///
/// let sum = Arc::new(Mutex::new(0));
/// let workers: Vec<_> = (0..10)
///     .map(|n| {
///         let sum = Arc::clone(&sum);
///         thread::spawn(move || *sum.lock().unwrap() += n)
///     })
///     .collect();
/// for worker in workers {
///     worker.join().unwrap();
/// }
/// assert_eq!(*sum.lock().unwrap(), 45);
/// ```
pub struct Mutex<T: ?Sized> {
    line: Line,
    poison: Poison,
    data: sync::Mutex<T>,
}

/// Access to what a [`Mutex`] protects, until it is dropped. Dropping never waits.
#[must_use = "if unused the Mutex will immediately unlock"]
pub struct MutexGuard<'a, T: ?Sized + 'a> {
    // Dropped in this order: mark the poison, unlock, tell the next.
    #[allow(dead_code, reason = "it acts when dropped")]
    mark: Mark<'a>,
    data: sync::MutexGuard<'a, T>,
    release: Release<'a, T>,
}
struct Release<'a, T: ?Sized>(&'a Mutex<T>);
impl<T: ?Sized> Drop for Release<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if !self.0.line.is_still_empty() {
            self.0.line.tell_first();
        }
    }
}

impl<T> Mutex<T> {
    /// An unlocked one.
    pub const fn new(value: T) -> Self {
        Mutex { line: Line::new(), poison: Poison::new(), data: sync::Mutex::new(value) }
    }
    /// What it protects.
    ///
    /// # Errors
    /// When it is poisoned; the value is in the error.
    pub fn into_inner(self) -> LockResult<T> {
        let value = self.data.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.poison.check(value)
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Locks it.
    ///
    /// # Errors
    /// When it is poisoned; it is locked all the same, and the guard is in the error.
    ///
    /// # Panics
    /// In the main loop and its callbacks, when it is locked. In a destructor that runs because its green thread unwinds, when
    /// it is held by another green thread of the same OS thread: nothing may wait there, and there is no error to return.
    ///
    /// # Blocking
    /// Until it is this one's turn. Killed in the wait it has locked nothing.
    #[track_caller]
    #[inline]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let data = match self.attempt_in_turn() {
            Some(data) => data,
            None => self.lock_later(),
        };
        self.guard(data)
    }
    /// Locks it if it is free and nobody waits for it. Never waits.
    ///
    /// # Errors
    /// `WouldBlock`; `Poisoned` as [`lock`](Mutex::lock).
    #[inline]
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        match self.attempt_in_turn() {
            Some(data) => Ok(self.guard(data)?),
            None => Err(TryLockError::WouldBlock),
        }
    }
    #[inline]
    fn attempt_in_turn(&self) -> Option<sync::MutexGuard<'_, T>> {
        if self.line.is_empty() { self.attempt() } else { None }
    }
    #[inline]
    fn attempt(&self) -> Option<sync::MutexGuard<'_, T>> {
        let data = match self.data.try_lock() {
            Ok(data) => data,
            // Of a kill, perhaps: the poison that counts is our own.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        self.poison.hold();
        Some(data)
    }
    #[inline]
    fn guard<'a>(&'a self, data: sync::MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.poison.check(MutexGuard { mark: self.poison.mark(), data, release: Release(self) })
    }
    #[cold]
    #[track_caller]
    fn lock_later(&self) -> sync::MutexGuard<'_, T> {
        for _ in 0..SPINS {
            if self.poison.is_held_here() || !self.line.is_empty() {
                break;
            }
            std::hint::spin_loop();
            if let Some(data) = self.attempt() {
                return data;
            }
        }
        match self.line.serve(|| (), "a Mutex", || self.attempt()) {
            Ok(data) => data,
            Err(failure) => insist(&failure, "a Mutex", || self.poison.is_held_here(), || self.attempt()),
        }
    }
    /// Whether somebody has panicked with it locked.
    pub fn is_poisoned(&self) -> bool {
        self.poison.get()
    }
    /// What it protects is in order again.
    pub fn clear_poison(&self) {
        self.poison.clear();
    }
    /// What it protects: nobody else can have it.
    ///
    /// # Errors
    /// When it is poisoned; the reference is in the error.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        let value = self.data.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.poison.check(value)
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Self {
        Mutex::new(value)
    }
}
impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Mutex::new(T::default())
    }
}
impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Mutex");
        match self.attempt() {
            Some(data) => {
                // Let go as a guard is: somebody may have come meanwhile.
                let guard = self.guard(data).unwrap_or_else(PoisonError::into_inner);
                shown.field("data", &&*guard);
            }
            None => {
                shown.field("data", &format_args!("<locked>"));
            }
        }
        shown.field("poisoned", &self.is_poisoned()).finish_non_exhaustive()
    }
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    pub(super) fn mutex(guard: &MutexGuard<'a, T>) -> &'a Mutex<T> {
        guard.release.0
    }
}
impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.data
    }
}
impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.data
    }
}
impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
