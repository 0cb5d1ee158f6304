//! `scope` as std has it, on [`green::scope`](crate::green::scope): the same guarantees, std's names and outcomes.
//!
//! What must never happen here: a way out of `scope` other than through the inner scope's `leave`.
use super::Result;
use super::handle::{Thread, set_current};
use super::join::{Builder, payload_of};
use crate::failure::Failure;
use crate::green::scope::{self, ScopedGreenThread};
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};

/// Runs `f`, which may spawn green threads that borrow from the caller's stack, and returns when all of them have ended:
/// [`std::thread::scope`]. When `f` panics, or the caller is killed, they are killed first; see
/// [`scope::scope`](crate::green::scope::scope()).
///
/// ```
/// use twistlet::green::thread;
///
/// let words = vec!["one", "two"];
/// let mut total = 0;
/// let first = thread::scope(|s| {
///     let first = s.spawn(|| words[0].len());
///     s.spawn(|| total = words.iter().map(|word| word.len()).sum());
///     first.join().unwrap()
/// });
/// assert_eq!((first, total), (3, 6));
/// ```
///
/// # Panics
/// With what `f` panicked with, or when one panicked that nobody joined.
///
/// # Blocking
/// Until all have ended.
#[track_caller]
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let scope = Scope { green: scope::Scope::new() };
    let outcome = catch_unwind(AssertUnwindSafe(|| f(&scope)));
    scope.green.leave(outcome, Location::caller())
}

/// Where green threads that borrow are spawned: [`std::thread::Scope`].
#[derive(Debug)]
pub struct Scope<'scope, 'env: 'scope> {
    green: scope::Scope<'scope, 'env>,
}

impl<'scope> Scope<'scope, '_> {
    /// Starts a green thread that ends before the scope is left. Never waits.
    ///
    /// # Panics
    /// When there is no stack to be had; [`Builder::spawn_scoped`] tells why as an error.
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        match Builder::new().spawn_scoped(self, f) {
            Ok(handle) => handle,
            Err(error) => panic!("failed to spawn a green thread: {error}"),
        }
    }
}

impl Builder {
    /// As [`Scope::spawn`], with this name and stack size.
    ///
    /// # Errors
    /// When there is no stack to be had.
    #[track_caller]
    pub fn spawn_scoped<'scope, 'env, F, T>(
        self,
        scope: &'scope Scope<'scope, 'env>,
        f: F,
    ) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        let (builder, thread) = self.prepared();
        let current = thread.clone();
        let green = builder.spawn_scoped(&scope.green, move || {
            set_current(current);
            f()
        });
        if green.is_finished() {
            // It has had no turn yet.
            return Err(green.wait().err().unwrap_or_else(|| Failure::msg("it could not be started")).into());
        }
        Ok(ScopedJoinHandle { green, thread })
    }
}

/// The right to the outcome of a green thread of a [`scope`](scope()): [`std::thread::ScopedJoinHandle`].
pub struct ScopedJoinHandle<'scope, T> {
    green: ScopedGreenThread<'scope, T>,
    thread: Thread,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// A name for it.
    #[must_use]
    pub fn thread(&self) -> &Thread {
        &self.thread
    }
    /// What its closure returned.
    ///
    /// # Errors
    /// As [`JoinHandle::join`](super::JoinHandle::join).
    ///
    /// # Panics
    /// In the main loop and its callbacks, when it has not ended.
    ///
    /// # Blocking
    /// Until it has ended.
    #[track_caller]
    pub fn join(self) -> Result<T> {
        self.green.wait().map_err(|failure| failure.into_panic().unwrap_or_else(|failure| payload_of(&failure)))
    }
    /// Whether it has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.green.is_finished()
    }
    /// Unwinds it from where it waits, or keeps it from ever running. Not in std.
    pub fn kill(&self) {
        self.green.kill();
    }
}
impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedJoinHandle").field("thread", &self.thread).finish_non_exhaustive()
    }
}
