//! The loop and everything that hangs on it: Twisted's `reactor`. One a thread, and the thread owns it; programs hold names.
//!
//! A [`Reactor`] is made by [`Reactor::new`] (or found by [`Reactor::current`]), filled with ports, connections and timers,
//! and [run](Reactor::run). One turn of its loop is: calls from other threads, due timers, the ready queue as it stood, the
//! flush of what was written, poll, dispatch. Work queued in a phase waits for the next turn, so nothing starves I/O.
//!
//! Connecting and listening are added to `Reactor` by [`crate::transport`].
pub(crate) mod core;
pub(crate) mod driver;
mod fork;
mod future;
mod house;
#[cfg(any(feature = "green", feature = "testing"))]
mod list;
pub(crate) mod pool;
mod pulse;
mod ready;
mod remote;
mod shutdown;
mod signals;
mod sources;
#[cfg(test)]
mod tests;
mod triggers;
mod watch;
mod watchdog;

pub use remote::{Remote, RemotePromise};
pub use triggers::{Phase, Trigger};
pub use watch::{Descriptor, Watch};
pub use watchdog::{Blocked, Holder, Watchdog, Watching};

pub(crate) use self::core::{Core, State};
pub(crate) use self::ready::Runnable;
#[cfg(feature = "green")]
pub(crate) use self::remote::Inbox;
#[cfg(any(feature = "green", feature = "testing"))]
pub(crate) use list::Listed;
pub(crate) use pulse::Kind;
#[cfg(feature = "green")]
pub(crate) use pulse::{Holder as PulseHolder, Names};
pub(crate) use signals::Subscription;
pub(crate) use sources::{About, Source};

use crate::clock::{Clock, DelayedCall};
use crate::deferred::{IntoDeferred, run_and_report};
use crate::error::ReactorError;
use crate::failure::Result;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A name for this thread's reactor, which the thread owns: `Copy`, so that callbacks may hold it without owning what owns
/// them. The reactor ends with [`run`](Reactor::run), [`close`](Reactor::close) or the thread, and everything on it is
/// freed; calls on an ended one do nothing or fail with [`ReactorError::Closed`].
///
/// ```
/// use std::time::Duration;
/// use twistlet::Reactor;
///
/// let reactor = Reactor::new()?;
/// reactor.call_later(Duration::from_millis(1), move || reactor.stop());
/// reactor.run()?;
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reactor {
    id: u32,
    thread: PhantomData<*const ()>,
}

impl Reactor {
    /// Makes this thread's reactor (Twisted's `installReactor`).
    ///
    /// # Errors
    /// [`ReactorError::AlreadyInstalled`] while another lives on this thread; `io::Error` when the system has no descriptor
    /// left for the poller.
    pub fn new() -> Result<Reactor> {
        Core::install(None).map(|core| Reactor::of(&core))
    }
    /// This thread's reactor, made at first use: what `from twisted.internet import reactor` was.
    ///
    /// # Panics
    /// When there is none and the system refuses to make one; [`Reactor::new`] tells why as an error.
    #[track_caller]
    pub fn current() -> Reactor {
        if let Some(core) = Core::current()
            && core.state.get() != State::Abandoned
        {
            return Reactor::of(&core);
        }
        match Reactor::new() {
            Ok(reactor) => reactor,
            Err(failure) => panic!("no reactor can be made on this thread: {failure}"),
        }
    }
    pub(crate) fn of(core: &Core) -> Reactor {
        Reactor { id: core.id(), thread: PhantomData }
    }
    /// The name of no reactor.
    pub(crate) fn ended() -> Reactor {
        Reactor { id: 0, thread: PhantomData }
    }
    /// What the name means, while it means something.
    pub(crate) fn core(&self) -> Option<Rc<Core>> {
        Core::named(self.id).filter(|core| !core.is_closed())
    }
    pub(crate) fn open(&self) -> Result<Rc<Core>> {
        self.core().ok_or_else(|| ReactorError::Closed.into())
    }

    /// Runs the loop until [`stop`](Reactor::stop), then frees everything: connections are lost, timers and factories
    /// dropped. While it runs, SIGINT and SIGTERM stop it (see [`handle_signals`](Reactor::handle_signals)).
    ///
    /// # Errors
    /// [`ReactorError::AlreadyRunning`] from inside a callback; [`ReactorError::Closed`] when it has ended.
    ///
    /// # Blocking
    /// Holds the thread; with [`join_reactor`](crate::green::join_reactor) the caller becomes the main loop.
    pub fn run(&self) -> Result<()> {
        let core = self.open()?;
        core.run_loop()?;
        if core.state.get() == State::Finished {
            core.end();
        }
        Ok(())
    }
    /// Asks the loop to end: shutdown triggers run in a later turn, never before this returns.
    ///
    /// # Errors
    /// [`ReactorError::NotRunning`] when it does not run or is stopping already; [`ReactorError::Closed`] when it has ended.
    pub fn stop(&self) -> Result<()> {
        let core = self.open()?;
        match core.state.get() {
            State::Starting | State::Running if !core.crashed.get() && !core.stop_asked.replace(true) => Ok(()),
            _ => Err(ReactorError::NotRunning.into()),
        }
    }
    /// Leaves the loop after the present phase of the turn: no triggers, nothing is closed, and [`run`](Reactor::run) may be called again.
    pub fn crash(&self) {
        if let Some(core) = self.core() {
            core.crash();
        }
    }
    /// Ends a reactor: connections are lost, timers and factories dropped, without shutdown triggers. On a running one it
    /// takes effect when the present turn is over. Calling it twice is harmless.
    pub fn close(self) {
        if let Some(core) = self.core() {
            core.end();
        }
    }
    /// Whether the loop runs: from the during-startup to the during-shutdown triggers.
    pub fn is_running(&self) -> bool {
        self.core().is_some_and(|core| core.runs())
    }
    /// Whether [`run`](Reactor::run) takes SIGINT and SIGTERM as [`stop`](Reactor::stop). On by default; say `false` before
    /// `run` when the application installs handlers of its own.
    ///
    /// The first signal stops every reactor that runs and listens, each on its own thread. The next one, while they stop,
    /// and any one when none runs, ends the process, as without a reactor. A signal that was handled or ignored already
    /// when the process's first reactor came to run is left alone.
    pub fn handle_signals(&self, on: bool) {
        if let Some(core) = self.core() {
            core.set_signals(on);
        }
    }

    /// Calls `call` in a later turn, at least `delay` from now; a failure it returns is logged. Never fails: a delay
    /// beyond the end of time is never, and after shutdown the call is inactive. Resolution: a millisecond.
    ///
    /// The clock is read once a callback, when it is first needed: a callback that computes for long between two
    /// `call_later`s asks [`now`](Clock::now) in between if that matters.
    #[track_caller]
    pub fn call_later<R: IntoDeferred + 'static>(
        &self,
        delay: Duration,
        call: impl FnOnce() -> R + 'static,
    ) -> DelayedCall {
        self.schedule(delay, Box::new(move || run_and_report("a delayed call", call)))
    }
    /// Calls `call` in the next turn, before I/O. A failure it returns is logged.
    pub fn call_soon<R: IntoDeferred + 'static>(&self, call: impl FnOnce() -> R + 'static) {
        if let Some(core) = self.core() {
            core.call_soon(Box::new(move || run_and_report("a queued call", call)));
        }
    }
    /// Calls `call` once the reactor runs: after startup, or in the next turn when it runs already (Twisted's
    /// `callWhenRunning`).
    pub fn call_when_running<R: IntoDeferred + 'static>(&self, call: impl FnOnce() -> R + 'static) {
        if self.is_running() {
            self.call_soon(call);
        } else if let Some(core) = self.core() {
            core.add_trigger(Phase::AfterStartup, call);
        }
    }
    /// Calls `call` at a point of the reactor's life (Twisted's `addSystemEventTrigger`). For the before-phases a Deferred
    /// it returns is waited for; a failure is logged and holds nothing up.
    pub fn add_trigger<R: IntoDeferred + 'static>(&self, phase: Phase, call: impl FnOnce() -> R + 'static) -> Trigger {
        match self.core() {
            Some(core) => core.add_trigger(phase, call),
            None => Trigger::none(),
        }
    }
    /// A handle for other threads.
    pub fn remote(&self) -> Remote {
        match self.core() {
            Some(core) => Remote::of(&core),
            None => Remote::closed(),
        }
    }
    /// Figures of the loop.
    pub fn statistics(&self) -> Statistics {
        self.core().map(|core| core.statistics()).unwrap_or_default()
    }
}

impl Clock for Reactor {
    fn now(&self) -> Instant {
        self.core().map_or_else(Instant::now, |core| core.fresh_now())
    }
    fn recently(&self) -> Instant {
        self.core().map_or_else(Instant::now, |core| core.turn_now())
    }
    #[track_caller]
    fn schedule(&self, delay: Duration, call: Box<dyn FnOnce()>) -> DelayedCall {
        match self.core() {
            Some(core) => core.schedule(delay, call),
            None => DelayedCall::inactive(),
        }
    }
    fn handle(&self) -> Rc<dyn Clock> {
        Rc::new(*self)
    }
}

/// What [`Reactor::statistics`] tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Turns of the loop so far.
    pub turns: u64,
    /// Delayed calls that wait.
    pub timers: usize,
    /// Descriptors watched: connections, attempts, ports, the user's own; the reactor's own not counted.
    pub descriptors: usize,
    /// Jobs in the ready queue: calls, and green threads, of which those woken in a row are one job.
    pub ready: usize,
}
