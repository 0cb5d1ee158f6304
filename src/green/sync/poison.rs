//! Poisoning as std's, but only by panics: a kill or a deadline that unwinds a green thread leaves its locks clean.
use crate::failure;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LockResult, PoisonError};

pub(super) struct Poison(AtomicBool);

impl Poison {
    pub(super) const fn new() -> Self {
        Poison(AtomicBool::new(false))
    }
    #[inline]
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
    pub(super) fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
    #[inline]
    pub(super) fn check<G>(&self, guard: G) -> LockResult<G> {
        if self.get() { Err(PoisonError::new(guard)) } else { Ok(guard) }
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
        if !self.was_unwinding && std::thread::panicking() && failure::is_panicking() {
            self.poison.0.store(true, Ordering::Relaxed);
        }
    }
}
