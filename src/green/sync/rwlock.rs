//! `RwLock`: std's, for green threads and OS threads, and fair.
//!
//! The value is in a `std::sync::RwLock` that is only ever tried; the line is beside it.
use super::line::{Line, insist};
use super::poison::{Mark, Poison};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{self, LockResult, PoisonError, TryLockError, TryLockResult};

/// [`std::sync::RwLock`], whose waits park the green thread.
///
/// First come, first served: readers share it, but those who come behind a waiting writer wait for that too, so that writers are
/// not starved. Hence a green thread that reads already must not ask to read again: with a writer in between it would wait for
/// ever. Poisoned by a panic of a writer, but not by a kill or a deadline. It may be used by green threads and OS threads
/// together; uncontended it costs three atomic operations and no allocation.
///
/// ```
/// use twistlet::green::sync::RwLock;
///
/// let lock = RwLock::new(5);
/// {
///     let (one, two) = (lock.read().unwrap(), lock.read().unwrap());
///     assert_eq!(*one + *two, 10);
/// }
/// *lock.write().unwrap() += 1;
/// assert_eq!(*lock.read().unwrap(), 6);
/// ```
pub struct RwLock<T: ?Sized> {
    line: Line<Role>,
    poison: Poison,
    data: sync::RwLock<T>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Reader,
    Writer,
}

/// Shared access to what a [`RwLock`] protects, until it is dropped. Dropping never waits.
#[must_use = "if unused the RwLock will immediately unlock"]
pub struct RwLockReadGuard<'a, T: ?Sized + 'a> {
    // Dropped in this order: unlock, tell the next.
    data: sync::RwLockReadGuard<'a, T>,
    #[allow(dead_code, reason = "it acts when dropped")]
    release: Release<'a, T>,
}
/// Exclusive access to what a [`RwLock`] protects, until it is dropped. Dropping never waits.
#[must_use = "if unused the RwLock will immediately unlock"]
pub struct RwLockWriteGuard<'a, T: ?Sized + 'a> {
    // Dropped in this order: mark the poison, unlock, tell the next.
    #[allow(dead_code, reason = "it acts when dropped")]
    mark: Mark<'a>,
    data: sync::RwLockWriteGuard<'a, T>,
    release: Release<'a, T>,
}
struct Release<'a, T: ?Sized>(&'a RwLock<T>);
impl<T: ?Sized> Drop for Release<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if !self.0.line.is_still_empty() {
            self.0.unlocked();
        }
    }
}

impl<T> RwLock<T> {
    /// An unlocked one.
    pub const fn new(value: T) -> Self {
        RwLock { line: Line::new(), poison: Poison::new(), data: sync::RwLock::new(value) }
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

fn tried<G>(outcome: TryLockResult<G>) -> Option<G> {
    match outcome {
        Ok(guard) => Some(guard),
        // Of a kill, perhaps: the poison that counts is our own.
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Locks it for reading.
    ///
    /// # Errors
    /// When it is poisoned; it is locked all the same, and the guard is in the error.
    ///
    /// # Panics
    /// In the main loop and its callbacks, when a writer has it or waits for it. In a destructor that runs because its green
    /// thread unwinds, when a green thread of the same OS thread is writing: nothing may wait there.
    ///
    /// # Blocking
    /// Until it is this one's turn. Killed in the wait it has locked nothing.
    #[track_caller]
    #[inline]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        let data = if self.line.is_empty() { tried(self.data.try_read()) } else { None };
        let data = match data {
            Some(data) => data,
            None => self.read_later(),
        };
        self.read_guard(data)
    }
    /// Locks it for writing.
    ///
    /// # Errors
    /// When it is poisoned; it is locked all the same, and the guard is in the error.
    ///
    /// # Panics
    /// In the main loop and its callbacks, when it is locked. In a destructor that runs because its green thread unwinds, when
    /// green threads of the same OS thread have it: nothing may wait there.
    ///
    /// # Blocking
    /// Until it is this one's turn. Killed in the wait it has locked nothing.
    #[track_caller]
    #[inline]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        let data = if self.line.is_empty() { self.attempt_write() } else { None };
        let data = match data {
            Some(data) => data,
            None => self.write_later(),
        };
        self.write_guard(data)
    }
    /// Locks it for reading, if no writer has it and nobody waits for it. Never waits.
    ///
    /// # Errors
    /// `WouldBlock`; `Poisoned` as [`read`](RwLock::read).
    pub fn try_read(&self) -> TryLockResult<RwLockReadGuard<'_, T>> {
        match if self.line.is_empty() { tried(self.data.try_read()) } else { None } {
            Some(data) => Ok(self.read_guard(data)?),
            None => Err(TryLockError::WouldBlock),
        }
    }
    /// Locks it for writing, if it is free and nobody waits for it. Never waits.
    ///
    /// # Errors
    /// `WouldBlock`; `Poisoned` as [`write`](RwLock::write).
    pub fn try_write(&self) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        match if self.line.is_empty() { self.attempt_write() } else { None } {
            Some(data) => Ok(self.write_guard(data)?),
            None => Err(TryLockError::WouldBlock),
        }
    }
    #[inline]
    fn attempt_write(&self) -> Option<sync::RwLockWriteGuard<'_, T>> {
        let data = tried(self.data.try_write())?;
        self.poison.hold();
        Some(data)
    }
    #[inline]
    fn read_guard<'a>(&'a self, data: sync::RwLockReadGuard<'a, T>) -> LockResult<RwLockReadGuard<'a, T>> {
        self.poison.check(RwLockReadGuard { data, release: Release(self) })
    }
    #[inline]
    fn write_guard<'a>(&'a self, data: sync::RwLockWriteGuard<'a, T>) -> LockResult<RwLockWriteGuard<'a, T>> {
        self.poison.check(RwLockWriteGuard { mark: self.poison.mark(), data, release: Release(self) })
    }
    /// A writer of this OS thread has it.
    fn is_written_here(&self) -> bool {
        self.poison.is_held_here() && tried(self.data.try_read()).is_none()
    }
    #[cold]
    #[track_caller]
    fn read_later(&self) -> sync::RwLockReadGuard<'_, T> {
        let attempt = || tried(self.data.try_read());
        match self.line.serve(|| Role::Reader, "a RwLock, to read", attempt) {
            Ok(data) => {
                // Those who are next come along.
                self.line.tell_first_if(|role| *role == Role::Reader);
                data
            }
            Err(failure) => insist(&failure, "a RwLock", || self.is_written_here(), attempt),
        }
    }
    #[cold]
    #[track_caller]
    fn write_later(&self) -> sync::RwLockWriteGuard<'_, T> {
        match self.line.serve(|| Role::Writer, "a RwLock, to write", || self.attempt_write()) {
            Ok(data) => data,
            Err(failure) => {
                let mut tries = 0;
                // Readers leave no trace of their threads: those of others will have gone soon.
                let held_here = || self.is_written_here();
                insist(&failure, "a RwLock", held_here, || {
                    tries += 1;
                    assert!(
                        tries < 20_000,
                        "a RwLock is wanted by a destructor while its green thread unwinds, and is read"
                    );
                    self.attempt_write()
                })
            }
        }
    }
    /// One guard less. Of those that read, the last says so.
    #[cold]
    fn unlocked(&self) {
        self.line.tell_first_if(|role| match role {
            Role::Reader => true,
            // A probe, let go at once.
            Role::Writer => tried(self.data.try_write()).is_some(),
        });
    }
    /// Whether a writer has panicked with it locked.
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

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> Self {
        RwLock::new(value)
    }
}
impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        RwLock::new(T::default())
    }
}
impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RwLock");
        match tried(self.data.try_read()) {
            Some(data) => {
                // Let go as a guard is: somebody may have come meanwhile.
                let guard = self.read_guard(data).unwrap_or_else(PoisonError::into_inner);
                shown.field("data", &&*guard);
            }
            None => {
                shown.field("data", &format_args!("<locked>"));
            }
        }
        shown.field("poisoned", &self.is_poisoned()).finish_non_exhaustive()
    }
}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// Goes on reading, with nobody writing in between. Readers who wait next come along.
    pub fn downgrade(guard: Self) -> RwLockReadGuard<'a, T> {
        let RwLockWriteGuard { mark, data, release } = guard;
        drop(mark);
        let lock = release.0;
        let reading = RwLockReadGuard { data: sync::RwLockWriteGuard::downgrade(data), release };
        if !lock.line.is_still_empty() {
            lock.line.tell_first_if(|role| *role == Role::Reader);
        }
        reading
    }
}
impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.data
    }
}
impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.data
    }
}
impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.data
    }
}
macro_rules! shown_as_value {
    ($($guard:ident)*) => {$(
        impl<T: ?Sized + fmt::Debug> fmt::Debug for $guard<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }
        impl<T: ?Sized + fmt::Display> fmt::Display for $guard<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }
    )*};
}
shown_as_value!(RwLockReadGuard RwLockWriteGuard);
