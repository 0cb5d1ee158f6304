//! `Clock`: time that moves when a test says so. Knows nothing of reactors.
use crate::clock::{DelayedCall, Store};
use crate::deferred::{IntoDeferred, run_and_report};
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Time that moves when told to (Twisted's `task.Clock`). Clones are the same clock.
///
/// ```
/// use std::cell::Cell;
/// use std::rc::Rc;
/// use std::time::Duration;
/// use twistlet::testing::Clock;
///
/// let clock = Clock::new();
/// let rang = Rc::new(Cell::new(false));
/// let bell = Rc::clone(&rang);
/// clock.call_later(Duration::from_secs(3600), move || bell.set(true));
/// clock.advance(Duration::from_secs(3600));
/// assert!(rang.get());
/// ```
#[derive(Clone)]
pub struct Clock(Rc<Inner>);

struct Inner {
    store: Rc<Store>,
    now: Rc<Cell<Instant>>,
    started: Instant,
}

impl Clock {
    /// A clock that stands at its beginning.
    pub fn new() -> Self {
        let started = Instant::now();
        let now = Rc::new(Cell::new(started));
        let hand = Rc::clone(&now);
        Clock(Rc::new(Inner { store: Store::new(started, move || hand.get()), now, started }))
    }
    /// Calls `call` when time has been advanced by `delay`. A panic of it, or a failure it returns, goes through
    /// [`advance`](Clock::advance) to the test; a reactor would log it.
    pub fn call_later<R: IntoDeferred + 'static>(
        &self,
        delay: Duration,
        call: impl FnOnce() -> R + 'static,
    ) -> DelayedCall {
        let call = move || match call().into_deferred().try_take() {
            Ok(Ok(_)) => {}
            Ok(Err(failure)) => panic!("a call on the test's clock failed: {failure}"),
            Err(pending) => run_and_report("a delayed call", move || pending),
        };
        crate::clock::Clock::schedule(self, delay, Box::new(call))
    }
    /// Moves time, then makes all calls that are due, in the order of their times, and of their making where those are the
    /// same; also calls that these make and that are due already.
    ///
    /// # Panics
    /// With the panic of such a call; those behind it are made at the next advance. With a failure one returned.
    pub fn advance(&self, by: Duration) {
        let now = self.0.now.get().checked_add(by);
        self.0.now.set(now.expect("a test's clock cannot be advanced beyond the end of time"));
        while let Some(call) = self.0.store.pop_due(self.0.now.get(), u64::MAX) {
            call();
        }
    }
    /// Several advances, one after the other.
    ///
    /// # Panics
    /// As [`advance`](Clock::advance).
    pub fn pump(&self, steps: impl IntoIterator<Item = Duration>) {
        for step in steps {
            self.advance(step);
        }
    }
    /// How far time has been moved.
    pub fn elapsed(&self) -> Duration {
        self.0.now.get().saturating_duration_since(self.0.started)
    }
    /// How many calls wait (Twisted's `getDelayedCalls`): a test may demand that none is left behind.
    pub fn pending(&self) -> usize {
        self.0.store.len()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new()
    }
}
impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("elapsed", &self.elapsed()).field("pending", &self.pending()).finish()
    }
}

impl crate::clock::Clock for Clock {
    fn now(&self) -> Instant {
        self.0.now.get()
    }
    #[track_caller]
    fn schedule(&self, delay: Duration, call: Box<dyn FnOnce()>) -> DelayedCall {
        self.0.store.insert(self.0.now.get().checked_add(delay), call, std::panic::Location::caller())
    }
    fn handle(&self) -> Rc<dyn crate::clock::Clock> {
        Rc::new(self.clone())
    }
}
