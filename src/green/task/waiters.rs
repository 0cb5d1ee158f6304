//! A line of green threads that wait for the same thing: first come, first served (G9).
//!
//! Whoever leaves by a kill or a deadline leaves the line, and what was meant for it goes to the next. One alone in line costs
//! no allocation.
use super::wait::{Wait, Waiter, prepare};
use crate::failure::Result;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

#[derive(Default)]
pub(crate) struct Waiters(RefCell<Line>);

#[derive(Default)]
struct Line {
    first: Option<Waiter>,
    more: VecDeque<Waiter>,
}

impl Waiters {
    /// Waits in line, no longer than `limit`. `true`: woken, and so handed what there was to hand over; it has left the
    /// line. `false`: the limit has passed.
    ///
    /// # Errors
    /// As `prepare` and `park`.
    #[track_caller]
    #[inline(always)]
    pub(crate) fn wait(&self, reason: &'static str, limit: Option<Duration>) -> Result<bool> {
        let wait = prepare()?;
        let place = self.enter(&wait);
        let woken = wait.park_timeout(reason, limit)?;
        if woken {
            place.was_served();
        }
        Ok(woken)
    }
    /// A place at the end of the line, for the time of a wait.
    #[inline]
    pub(crate) fn enter<'a>(&'a self, wait: &'a Wait) -> Place<'a> {
        self.push(wait.waiter());
        Place { line: self, wait }
    }
    /// To the end of the line, from which whoever is not woken has to be removed.
    pub(crate) fn push(&self, waiter: Waiter) {
        let mut line = self.0.borrow_mut();
        if line.first.is_none() && line.more.is_empty() {
            line.first = Some(waiter);
        } else {
            line.more.push_back(waiter);
        }
    }
    #[inline]
    fn pop(&self) -> Option<Waiter> {
        let mut line = self.0.borrow_mut();
        line.first.take().or_else(|| line.more.pop_front())
    }
    /// Wakes the first who still waits. `false`: nobody does.
    #[inline]
    pub(crate) fn wake_one(&self) -> bool {
        self.wake_first().is_some()
    }
    /// As `wake_one`; says who it was.
    #[inline]
    pub(crate) fn wake_first(&self) -> Option<Waiter> {
        while let Some(waiter) = self.pop() {
            if waiter.wake() {
                return Some(waiter);
            }
        }
        None
    }
    #[inline]
    pub(crate) fn wake_all(&self) {
        while self.wake_one() {}
    }
    /// How many still wait.
    pub(crate) fn len(&self) -> usize {
        let line = self.0.borrow();
        line.first.iter().chain(&line.more).filter(|waiter| waiter.is_waiting()).count()
    }
    /// Takes one out of the line that was not woken.
    #[cold]
    pub(crate) fn remove(&self, waiter: &Waiter) {
        let removed = {
            let mut line = self.0.borrow_mut();
            if line.first.as_ref().is_some_and(|first| first.is_same(waiter)) {
                line.first.take()
            } else {
                let position = line.more.iter().position(|other| other.is_same(waiter));
                position.and_then(|position| line.more.remove(position))
            }
        };
        drop(removed);
    }
}

/// A place in the line: given up when the wait is left otherwise than by being woken.
pub(crate) struct Place<'a> {
    line: &'a Waiters,
    wait: &'a Wait,
}
impl Place<'_> {
    /// Whoever woke it took it out.
    #[inline]
    pub(crate) fn was_served(self) {
        std::mem::forget(self);
    }
}
impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.line.remove(&self.wait.waiter());
    }
}
