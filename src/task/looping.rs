//! `LoopingCall`: a function called on a grid of time, without drift and without making up for missed ticks.
//!
//! While it waits, the clock holds it; while its function's Deferred is pending, that does; so a running loop needs no owner,
//! and the end of the clock ends it. What must never happen here: the function or a callback run while a cell is borrowed.
use crate::clock::{Clock, DelayedCall};
use crate::deferred::{Deferred, IntoDeferred, Promise, maybe_deferred};
use crate::error::Cancelled;
use crate::failure::{self, Result};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Calls a function again and again (Twisted's `LoopingCall`). Clones are the same loop.
///
/// The calls are due on a grid: at the start, and at every multiple of the interval after it. A call that comes late, or
/// takes longer than an interval, moves nothing: the next is due at the next point of the grid, and those missed are left
/// out, which [`count`](LoopingCall::count) tells. There is never more than one call at a time. With an interval of zero it
/// is called once a turn.
///
/// ```
/// use std::time::Duration;
/// use twistlet::task::LoopingCall;
/// use twistlet::testing::{Clock, success_result_of};
///
/// let clock = Clock::new();
/// let ticks = LoopingCall::new(&clock, |ticks| {
///     println!("tick");
///     if ticks.calls() == 3 {
///         ticks.stop();
///     }
/// });
/// let done = ticks.start(Duration::from_secs(1));
/// clock.pump([Duration::from_secs(1); 2]);
/// success_result_of(done);
/// assert_eq!(ticks.calls(), 3);
/// ```
#[derive(Clone)]
pub struct LoopingCall(Rc<Inner>);

type Function = Box<dyn FnMut(&LoopingCall) -> Deferred<()>>;

struct Inner {
    clock: Rc<dyn Clock>,
    /// Out while it runs.
    f: RefCell<Option<Function>>,
    promise: RefCell<Option<Promise<()>>>,
    interval: Cell<Duration>,
    /// Where the grid begins.
    origin: Cell<Instant>,
    waiting: Cell<Option<DelayedCall>>,
    running: Cell<bool>,
    /// The function runs, or its Deferred is pending.
    executing: Cell<bool>,
    /// The interval of the grid in which the last call was made; before the first, that before the grid.
    last: Cell<i128>,
    count: Cell<u64>,
    calls: Cell<u64>,
}

impl LoopingCall {
    /// A loop that will call `f`; nothing happens before it is started. When `f` returns a Deferred, the next call waits
    /// for it. The loop itself is passed in, so that `f` can stop it.
    pub fn new<R: IntoDeferred + 'static>(clock: &dyn Clock, mut f: impl FnMut(&LoopingCall) -> R + 'static) -> Self {
        let f: Function = Box::new(move |this| {
            let called = maybe_deferred(|| f(this));
            called.add_callback(|_| ())
        });
        LoopingCall(Rc::new(Inner {
            origin: Cell::new(clock.now()),
            clock: clock.handle(),
            f: RefCell::new(Some(f)),
            promise: RefCell::default(),
            interval: Cell::new(Duration::ZERO),
            waiting: Cell::new(None),
            running: Cell::new(false),
            executing: Cell::new(false),
            last: Cell::new(0),
            count: Cell::new(0),
            calls: Cell::new(0),
        }))
    }
    /// Starts it: the first call is made before this returns. The Deferred fires when the loop is stopped, and fails when
    /// the function does, which ends the loop; cancelling it stops the loop. It may be started again afterwards.
    ///
    /// # Panics
    /// While it runs, the last call after a [`stop`](LoopingCall::stop) included.
    #[track_caller]
    pub fn start(&self, interval: Duration) -> Deferred<()> {
        let deferred = self.begin(interval);
        self.0.last.set(-1);
        self.tick();
        deferred
    }
    /// Starts it, with the first call after one interval (Twisted's `now=False`).
    ///
    /// # Panics
    /// As [`start`](LoopingCall::start).
    #[track_caller]
    pub fn start_later(&self, interval: Duration) -> Deferred<()> {
        let deferred = self.begin(interval);
        self.0.last.set(0);
        self.wait();
        deferred
    }
    #[track_caller]
    fn begin(&self, interval: Duration) -> Deferred<()> {
        let inner = &self.0;
        assert!(!inner.running.get() && !inner.executing.get(), "this LoopingCall runs already: stop() it first");
        let (promise, deferred) = Deferred::new();
        let cancelled = Rc::downgrade(inner);
        promise.on_cancel(move || {
            let Some(inner) = cancelled.upgrade() else { return };
            let promise = inner.promise.take();
            LoopingCall(inner).stop();
            if let Some(promise) = promise {
                promise.errback(Cancelled);
            }
        });
        inner.interval.set(interval);
        inner.origin.set(inner.clock.now());
        inner.running.set(true);
        inner.count.set(0);
        inner.calls.set(0);
        *inner.promise.borrow_mut() = Some(promise);
        deferred
    }
    /// Stops it. The Deferred of [`start`](LoopingCall::start) fires before this returns; when a call is being made, as
    /// soon as that is over. Harmless when it does not run.
    pub fn stop(&self) {
        let inner = &self.0;
        if !inner.running.replace(false) {
            return;
        }
        if let Some(call) = inner.waiting.take() {
            call.cancel();
            self.finish(Ok(()));
        }
    }
    /// Begins the grid anew: the next call is one interval from now. Does nothing while a call is being made, or when it
    /// does not run.
    pub fn reset(&self) {
        if let Some(call) = self.0.waiting.take() {
            call.cancel();
            self.0.origin.set(self.0.clock.now());
            self.0.last.set(0);
            self.wait();
        }
    }
    /// For the function: how many intervals have passed since the call before it (Twisted's `withCount`); 1 for the first,
    /// and always 1 with an interval of zero. More than 1 says that calls were left out. Never 0 then.
    pub fn count(&self) -> u64 {
        self.0.count.get()
    }
    /// How many calls have been made since it was started, the present one included.
    pub fn calls(&self) -> u64 {
        self.0.calls.get()
    }
    /// Whether it runs: started, and not stopped since.
    pub fn is_running(&self) -> bool {
        self.0.running.get()
    }
    /// The time between calls, as given to `start`.
    pub fn interval(&self) -> Duration {
        self.0.interval.get()
    }

    /// Which interval of the grid it is now.
    fn index(&self) -> i128 {
        let interval = self.0.interval.get().as_nanos();
        let elapsed = self.0.clock.now().saturating_duration_since(self.0.origin.get()).as_nanos();
        // Both fit: a Duration has less than 2^94 nanoseconds.
        elapsed.checked_div(interval).map_or(0, |index| index as i128)
    }
    /// Schedules the next call: for the first point of the grid after now.
    fn wait(&self) {
        let inner = &self.0;
        let interval = inner.interval.get();
        let delay = if interval.is_zero() {
            Duration::ZERO
        } else {
            let elapsed = inner.clock.now().saturating_duration_since(inner.origin.get()).as_nanos();
            let left = interval.as_nanos() - elapsed % interval.as_nanos();
            // At most an interval, which was a Duration.
            Duration::new((left / 1_000_000_000) as u64, (left % 1_000_000_000) as u32)
        };
        let this = self.clone();
        let call = inner.clock.schedule(delay, Box::new(move || this.tick()));
        inner.waiting.set(Some(call));
    }
    /// One point of the grid.
    fn tick(&self) {
        let inner = &self.0;
        inner.waiting.set(None);
        let index = self.index();
        let passed = if inner.interval.get().is_zero() { 1 } else { index - inner.last.get() };
        if passed <= 0 {
            // The clock called early.
            return self.wait();
        }
        inner.last.set(index);
        inner.count.set(passed as u64);
        inner.calls.set(inner.calls.get() + 1);
        inner.executing.set(true);
        let f = inner.f.take();
        let Some(mut f) = f else { return };
        // It never panics: what is in it is caught.
        let called = f(self);
        *inner.f.borrow_mut() = Some(f);
        match called.try_take() {
            Ok(outcome) => self.called(outcome),
            Err(called) => {
                let this = self.clone();
                let _ = called.add_both(move |outcome| this.called(outcome));
            }
        }
    }
    /// The call is over.
    fn called(&self, outcome: Result<()>) {
        self.0.executing.set(false);
        match outcome {
            Ok(()) if self.0.running.get() => self.wait(),
            outcome => {
                self.0.running.set(false);
                self.finish(outcome);
            }
        }
    }
    fn finish(&self, outcome: Result<()>) {
        let promise = self.0.promise.take();
        match (promise, outcome) {
            (Some(promise), Ok(())) => promise.callback(()),
            (Some(promise), Err(failure)) => promise.errback(failure),
            (None, Ok(())) => {}
            (None, Err(failure)) => failure::report("a LoopingCall", &failure),
        }
    }
}

impl fmt::Debug for LoopingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopingCall")
            .field("interval", &self.interval())
            .field("running", &self.is_running())
            .field("calls", &self.calls())
            .finish_non_exhaustive()
    }
}
