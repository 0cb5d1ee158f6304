//! `Barrier`: std's, for green threads and OS threads.
use super::line::Line;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// [`std::sync::Barrier`], whose waits park the green thread.
///
/// A green thread that is killed in the wait does not count any more: another must come in its place. In a destructor that runs
/// because its green thread unwinds nothing waits: there [`wait`](Barrier::wait) counts, and returns at once.
///
/// ```
/// use twistlet::green::sync::{Arc, Barrier};
/// use twistlet::green::thread;
///
/// let barrier = Arc::new(Barrier::new(3));
/// let runners: Vec<_> = (0..3)
///     .map(|_| {
///         let barrier = Arc::clone(&barrier);
///         thread::spawn(move || barrier.wait().is_leader())
///     })
///     .collect();
/// let leaders = runners.into_iter().map(|runner| runner.join().unwrap());
/// assert_eq!(leaders.filter(|leads| *leads).count(), 1);
/// ```
pub struct Barrier {
    round: Mutex<Round>,
    line: Line,
    size: usize,
}
struct Round {
    number: u64,
    arrived: usize,
}

/// What [`Barrier::wait`] returns.
pub struct BarrierWaitResult(bool);
impl BarrierWaitResult {
    /// Whether this one came last.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.0
    }
}
impl fmt::Debug for BarrierWaitResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BarrierWaitResult").field("is_leader", &self.0).finish()
    }
}

/// One that waits; it does not count when it leaves before the round is over.
struct Arrival<'a>(&'a Barrier, u64);
impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        let mut round = self.0.lock();
        if round.number == self.1 {
            round.arrived -= 1;
        }
    }
}

impl Barrier {
    /// One for `n`. With zero or one nobody waits.
    #[must_use]
    pub const fn new(n: usize) -> Self {
        Barrier { round: Mutex::new(Round { number: 0, arrived: 0 }), line: Line::new(), size: n }
    }
    fn lock(&self) -> MutexGuard<'_, Round> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Waits until as many have come as it is for.
    ///
    /// # Panics
    /// In the main loop and its callbacks, unless this is the last.
    ///
    /// # Blocking
    /// Until the last has come.
    #[track_caller]
    pub fn wait(&self) -> BarrierWaitResult {
        let number = {
            let mut round = self.lock();
            round.arrived += 1;
            if round.arrived >= self.size {
                round.arrived = 0;
                round.number += 1;
                drop(round);
                self.line.call_all();
                return BarrierWaitResult(true);
            }
            round.number
        };
        let arrival = Arrival(self, number);
        while self.lock().number == number {
            let waited = self.line.be_called((), "a Barrier", None, || self.lock().number == number);
            if waited.is_err_and(|failure| !crate::green::task::remote_waker::is_stopped(&failure)) {
                std::mem::forget(arrival);
                return BarrierWaitResult(false);
            }
        }
        BarrierWaitResult(false)
    }
}
impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").finish_non_exhaustive()
    }
}
