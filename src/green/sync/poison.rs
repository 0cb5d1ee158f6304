//! Poisoning as std's, but only by panics: a kill or a deadline that unwinds a green thread leaves its locks clean. And which
//! OS thread has a lock, for destructors that want it.
use crate::failure;
use crate::green::task::remote_waker::this_thread;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{LockResult, PoisonError};

pub(super) struct Poison {
    is_there: AtomicBool,
    /// The OS thread that has the lock, as soon as it has said so.
    holder: AtomicUsize,
}

impl Poison {
    pub(super) const fn new() -> Self {
        Poison { is_there: AtomicBool::new(false), holder: AtomicUsize::new(0) }
    }
    #[inline]
    pub(super) fn get(&self) -> bool {
        self.is_there.load(Ordering::Relaxed)
    }
    pub(super) fn clear(&self) {
        self.is_there.store(false, Ordering::Relaxed);
    }
    #[inline]
    pub(super) fn check<G>(&self, guard: G) -> LockResult<G> {
        if self.get() { Err(PoisonError::new(guard)) } else { Ok(guard) }
    }
    /// The lock has just been taken.
    #[inline]
    pub(super) fn hold(&self) {
        self.holder.store(this_thread(), Ordering::Relaxed);
    }
    /// Never said of a lock that another OS thread has: whoever gives it up takes its own name away first.
    pub(super) fn is_held_here(&self) -> bool {
        self.holder.load(Ordering::Relaxed) == this_thread()
    }
    /// For a guard, which drops it before it unlocks.
    #[inline]
    pub(super) fn mark(&self) -> Mark<'_> {
        Mark { poison: self, was_unwinding: std::thread::panicking() }
    }
}

pub(super) struct Mark<'a> {
    poison: &'a Poison,
    was_unwinding: bool,
}
impl Drop for Mark<'_> {
    #[inline]
    fn drop(&mut self) {
        self.poison.holder.store(0, Ordering::Relaxed);
        if !self.was_unwinding && std::thread::panicking() && failure::is_panicking() {
            self.poison.is_there.store(true, Ordering::Relaxed);
        }
    }
}
