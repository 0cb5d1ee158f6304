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
        self.push(wait.waiter());
        let place = Place { line: self, wait: &wait };
        let woken = wait.park_timeout(reason, limit)?;
        if woken {
            // Whoever woke it took it out.
            std::mem::forget(place);
        }
        Ok(woken)
    }
    fn push(&self, waiter: Waiter) {
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
        while let Some(waiter) = self.pop() {
            if waiter.wake() {
                return true;
            }
        }
        false
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
    #[cold]
    fn remove(&self, waiter: &Waiter) {
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
struct Place<'a> {
    line: &'a Waiters,
    wait: &'a Wait,
}
impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.line.remove(&self.wait.waiter());
    }
}
