//! The line of those who wait for a primitive, of whatever OS thread: first come, first served (G9).
//!
//! A wake-up is a hint to the first in line, who keeps its place until it has what it wants; newcomers queue behind it, so
//! nobody barges in, and a hint that meets a killed green thread goes to the next. What must never happen here: a call of the
//! user's, or a switch, under the line's own lock.
use crate::failure::{Failure, Result};
use crate::green::task::remote_waker::{RemoteWaker, Sleeper, is_stopped};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(in crate::green) struct Line<R = ()> {
    places: Mutex<VecDeque<(RemoteWaker, R)>>,
    len: AtomicUsize,
}

impl<R> Line<R> {
    pub(in crate::green) const fn new() -> Self {
        Line { places: Mutex::new(VecDeque::new()), len: AtomicUsize::new(0) }
    }
    fn lock(&self) -> MutexGuard<'_, VecDeque<(RemoteWaker, R)>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Whether nobody waits, as newcomers ask.
    #[inline]
    pub(in crate::green) fn is_empty(&self) -> bool {
        self.len.load(Ordering::Relaxed) == 0
    }
    /// Whether nobody waits, as asked by whoever has just given something up: either this sees the newcomer, or the newcomer,
    /// who joins before it looks, sees what was given up. Both change the same word, and so are in order.
    #[inline]
    pub(in crate::green) fn is_still_empty(&self) -> bool {
        self.len.fetch_add(0, Ordering::AcqRel) == 0
    }
    fn join<'a>(&'a self, sleeper: &'a Sleeper, role: R, keeps_place: bool) -> Place<'a, R> {
        let mut places = self.lock();
        places.push_back((sleeper.waker(), role));
        self.len.fetch_add(1, Ordering::AcqRel);
        Place { line: self, sleeper, keeps_place }
    }
    fn remove(&self, sleeper: &Sleeper) -> Option<usize> {
        let mut places = self.lock();
        let at = places.iter().position(|(waker, _)| sleeper.is_woken_by(waker))?;
        let gone = places.remove(at);
        self.len.fetch_sub(1, Ordering::AcqRel);
        drop(places);
        drop(gone);
        Some(at)
    }
    /// Tells the first who still waits, who stays in line.
    pub(in crate::green) fn tell_first(&self) {
        self.tell_first_if(|_| true);
    }
    pub(in crate::green) fn tell_first_if(&self, wanted: impl Fn(&R) -> bool) {
        let mut places = self.lock();
        while let Some((waker, role)) = places.front() {
            if !wanted(role) || waker.wake() {
                return;
            }
            places.pop_front();
            self.len.fetch_sub(1, Ordering::AcqRel);
        }
    }
    /// Takes the first who still waits out of the line, and tells it.
    pub(in crate::green) fn call_first(&self) -> bool {
        let mut places = self.lock();
        while let Some((waker, _)) = places.pop_front() {
            self.len.fetch_sub(1, Ordering::AcqRel);
            if waker.wake() {
                return true;
            }
        }
        false
    }
    pub(in crate::green) fn call_all(&self) {
        let all = {
            let mut places = self.lock();
            self.len.fetch_sub(places.len(), Ordering::AcqRel);
            std::mem::take(&mut *places)
        };
        for (waker, _) in all {
            waker.wake();
        }
    }

    /// Waits in line until it is the first and `attempt` gives something.
    ///
    /// # Errors
    /// Where nothing may wait: `attempt` may be repeated by other means.
    #[cold]
    #[track_caller]
    pub(in crate::green) fn serve<G>(
        &self,
        role: impl Fn() -> R,
        reason: &'static str,
        mut attempt: impl FnMut() -> Option<G>,
    ) -> Result<G> {
        loop {
            let sleeper = Sleeper::new()?;
            let place = self.join(&sleeper, role(), true);
            loop {
                if place.is_first()
                    && let Some(got) = attempt()
                {
                    place.served();
                    return Ok(got);
                }
                match sleeper.park(reason, None) {
                    Ok(_) => {}
                    // MAIN's reactor has ended; the thread goes on.
                    Err(failure) if is_stopped(&failure) => break,
                    Err(failure) => return Err(failure),
                }
            }
        }
    }
    /// Waits in line, after `begin` has been called with the place taken, until called out of the line. `false`: `limit` has
    /// passed first. A call that meets a green thread that is killed goes to the next.
    #[cold]
    #[track_caller]
    pub(in crate::green) fn be_called(
        &self,
        role: R,
        reason: &'static str,
        limit: Option<Duration>,
        begin: impl FnOnce() -> bool,
    ) -> Result<bool> {
        let sleeper = Sleeper::new()?;
        let place = self.join(&sleeper, role, false);
        if !begin() {
            return Ok(true);
        }
        let called = sleeper.park(reason, limit)?;
        if called || place.was_called() {
            place.served();
            return Ok(true);
        }
        Ok(false)
    }
}

/// A place in line, given up when it is left.
struct Place<'a, R> {
    line: &'a Line<R>,
    sleeper: &'a Sleeper,
    /// Until it is served; else it is called out of the line.
    keeps_place: bool,
}
impl<R> Place<'_, R> {
    fn is_first(&self) -> bool {
        self.line.lock().front().is_some_and(|(waker, _)| self.sleeper.is_woken_by(waker))
    }
    fn was_called(&self) -> bool {
        self.sleeper.leave()
    }
    /// Nothing is to be passed on.
    fn served(self) {
        self.line.remove(self.sleeper);
        std::mem::forget(self);
    }
}
impl<R> Drop for Place<'_, R> {
    fn drop(&mut self) {
        let at = self.line.remove(self.sleeper);
        if self.keeps_place {
            // Perhaps it had been told.
            if at == Some(0) {
                self.line.tell_first();
            }
        } else if self.sleeper.leave() {
            self.line.call_first();
        }
    }
}

/// What is done where green threads may not wait, while one unwinds: the OS thread tries again and again. `held_here`: it
/// would be for ever.
#[cold]
#[track_caller]
pub(in crate::green) fn insist<G>(
    failure: &Failure,
    what: &str,
    held_here: impl Fn() -> bool,
    mut attempt: impl FnMut() -> Option<G>,
) -> G {
    loop {
        if let Some(got) = attempt() {
            return got;
        }
        assert!(
            !held_here(),
            "{what} is wanted by a destructor while its green thread unwinds ({failure}), where nothing may wait, and is held \
             by a green thread of the same OS thread; use try_lock there"
        );
        std::thread::sleep(Duration::from_micros(100));
    }
}
