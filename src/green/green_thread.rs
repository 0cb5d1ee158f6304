//! Green threads as programs hold them: `spawn` and its relatives, and `GreenThread`.
//!
//! `builder` starts them, `packet` has what becomes of their outcome. What must never happen here: waiting on behalf of a call
//! that says it is safe anywhere.
mod builder;
mod info;
mod packet;

pub use builder::Builder;
pub(super) use builder::{Outcome, finished, launch, report_inline};
pub use info::{GreenState, ThreadRef, current};

use super::block::Waitable;
use super::hub::Hub;
use super::proc::LinkId;
use super::task::{State, Waiter, prepare};
use crate::deferred::{Deferred, IntoDeferred};
use crate::error::{ReactorError, WaitsForItself};
use crate::failure::{Failure, Result};
use packet::Packet;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

/// A green thread: Eventlet's `GreenThread`. Dropping the handle detaches: it runs on, and a failure that nobody took is
/// logged with its name and the place it was spawned at.
pub struct GreenThread<T: 'static> {
    packet: Rc<Packet<T>>,
}

/// Starts `f` in a green thread, in a later turn, in the order of spawning; never waits (Eventlet's `spawn`). What `f` returns
/// is as for a Deferred's callback: `()`, a `Result`, a `Deferred`, which is waited for.
///
/// ```
/// use twistlet::green::spawn;
///
/// let six = spawn(|| Ok(2 * 3));
/// assert_eq!(six.wait()?, 6);
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[track_caller]
pub fn spawn<R: IntoDeferred + 'static>(f: impl FnOnce() -> R + 'static) -> GreenThread<R::Value> {
    Builder::default().spawn(f)
}
/// As [`spawn`], at least `delay` from now (Eventlet's `spawn_after`). Killed before that, it never runs.
#[track_caller]
pub fn spawn_after<R: IntoDeferred + 'static>(
    delay: Duration,
    f: impl FnOnce() -> R + 'static,
) -> GreenThread<R::Value> {
    Builder::default().after(delay).spawn(f)
}
/// As [`spawn_after`], unless the green thread that calls this has ended by then: then `f` is dropped and the outcome is
/// [`Killed`](crate::error::Killed) (Eventlet's `spawn_after_local`). MAIN and the main loop count as never ending.
///
/// ```
/// use std::time::Duration;
/// use twistlet::green::{sleep, spawn, spawn_after_local};
///
/// let short = spawn(|| Ok(spawn_after_local(Duration::from_millis(5), || Ok(1))));
/// assert!(short.wait()?.wait().is_err());
/// let long = spawn(|| spawn_after_local(Duration::from_millis(5), || Ok(1)).wait());
/// assert_eq!(long.wait()?, 1);
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[track_caller]
pub fn spawn_after_local<R: IntoDeferred + 'static>(
    delay: Duration,
    f: impl FnOnce() -> R + 'static,
) -> GreenThread<R::Value> {
    Builder::default().after_local(delay).spawn(f)
}
/// As [`spawn`], without a handle: nobody can wait for it, and only its failure is told, to the log or to
/// [`on_unobserved_failure`](crate::failure::on_unobserved_failure) (Eventlet's `spawn_n`). A little cheaper.
///
/// ```
/// use twistlet::green::{Event, spawn_n};
///
/// let done = Event::new();
/// let tell = done.clone();
/// spawn_n(move || tell.send("done"));
/// assert_eq!(done.wait()?, "done");
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[track_caller]
pub fn spawn_n<R: IntoDeferred + 'static>(f: impl FnOnce() -> R + 'static) {
    builder::spawn_alone(f);
}
/// [`spawn`] under the name Twisted programs know (Eventlet's `callInGreenThread`).
#[track_caller]
pub fn call_in_green_thread<R: IntoDeferred + 'static>(f: impl FnOnce() -> R + 'static) -> GreenThread<R::Value> {
    spawn(f)
}
/// Runs blocking code from a callback: `f` in a green thread, its outcome as a Deferred (Eventlet's `deferToGreenThread`).
/// Cancelling the Deferred kills the green thread. The Deferred's callbacks run in the green thread, so they may block.
///
/// ```
/// use std::time::Duration;
/// use twistlet::Reactor;
/// use twistlet::green::{defer_to_green_thread, join_reactor, sleep};
///
/// let reactor = Reactor::new()?;
/// join_reactor(&reactor)?;
/// let _ = defer_to_green_thread(|| {
///     sleep(Duration::from_millis(1));
///     Ok("slept")
/// })
/// .add_callback(move |how| {
///     println!("{how}");
///     reactor.stop()
/// });
/// reactor.run()?;
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[track_caller]
pub fn defer_to_green_thread<R: IntoDeferred + 'static>(f: impl FnOnce() -> R + 'static) -> Deferred<R::Value> {
    spawn(f).into_deferred()
}
/// [`GreenThread::kill`], as a function.
pub fn kill<T: 'static>(thread: &GreenThread<T>) {
    thread.kill();
}
/// Every outcome, in input order.
///
/// # Blocking
/// Until the last of them has ended.
#[track_caller]
pub fn wait_all<T: 'static>(threads: impl IntoIterator<Item = GreenThread<T>>) -> Vec<Result<T>> {
    // A closure would lose the caller's place.
    let mut outcomes = Vec::new();
    for thread in threads {
        outcomes.push(thread.wait());
    }
    outcomes
}

impl<T: 'static> GreenThread<T> {
    /// Unwinds it from where it waits, destructors included, or keeps it from ever running (Eventlet's `kill`). Takes effect
    /// in a later turn and does not wait; one that kills itself unwinds at once. Its outcome is
    /// [`Killed`](crate::error::Killed).
    pub fn kill(&self) {
        self.packet.task().kill();
    }
    /// What tells it from the others of its reactor.
    pub(super) fn number(&self) -> u64 {
        self.packet.task().id()
    }
    /// Whether it has ended, one way or another.
    pub fn is_finished(&self) -> bool {
        self.packet.has_ended()
    }
    /// What it does, or how it ended.
    ///
    /// ```
    /// use twistlet::green::{GreenState, spawn};
    ///
    /// let thread = spawn(|| Ok(1));
    /// assert_eq!(thread.state(), GreenState::Pending);
    /// thread.kill_and_wait()?;
    /// assert_eq!(thread.state(), GreenState::Killed);
    /// # Ok::<(), twistlet::Failure>(())
    /// ```
    pub fn state(&self) -> GreenState {
        self.packet.state()
    }
    /// Tells it from all others of its reactor.
    pub fn id(&self) -> u64 {
        self.packet.task().id()
    }
    /// The name it was given.
    pub fn name(&self) -> Option<String> {
        self.packet.task().own_name()
    }
    /// Where it was spawned.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.packet.task().spawned_at()
    }
    /// A name for it that keeps nothing of it.
    pub fn thread(&self) -> ThreadRef {
        ThreadRef::of(self.packet.task())
    }
    /// Calls it so in reports and log lines.
    pub fn set_name(&self, name: &str) {
        self.packet.task().set_name(name);
    }
    /// Calls `f` with the outcome when it ends, in its own context and before whoever waits runs; at once when it has ended
    /// (Eventlet's `link`). Never waits. A failure that is shown to a link counts as seen.
    pub fn link(&self, f: impl FnOnce(Result<&T, &Failure>) + 'static) -> LinkId {
        self.packet.link(Box::new(f))
    }
    /// Removes a link that has not been called. Returns whether it was there (Eventlet's `unlink`).
    pub fn unlink(&self, link: LinkId) -> bool {
        self.packet.unlink(link)
    }
    /// Wakes `waiter` when it has ended, until that is unlinked.
    pub(super) fn tell_end(&self, waiter: Waiter) -> LinkId {
        self.packet.tell_waiter(waiter)
    }
    /// Kills it if it has not begun; otherwise does nothing. Returns whether it was in time (Eventlet's `cancel`).
    pub fn cancel(&self) -> bool {
        let in_time = self.packet.task().state() == State::Unstarted;
        if in_time {
            self.packet.task().kill();
        }
        in_time
    }
}

impl<T: 'static> GreenThread<T> {
    /// [`kill`](GreenThread::kill), and waits until it has ended, destructors included. Its outcome stays for whoever waits
    /// next. One that swallows its kill may take its time.
    ///
    /// # Errors
    /// [`WaitsForItself`] in a destructor of its own; [`ReactorError::Stopped`]; [`Deadlock`](crate::error::Deadlock) on MAIN.
    ///
    /// # Panics
    /// In the main loop and its callbacks, unless it has ended: the kill is done all the same.
    ///
    /// # Blocking
    /// Until it has ended.
    #[track_caller]
    pub fn kill_and_wait(&self) -> Result<()> {
        self.kill_within(None).map(drop)
    }
    /// As [`kill_and_wait`](GreenThread::kill_and_wait), no longer than `limit`. Returns whether it has ended (gevent's
    /// `kill(timeout)`).
    ///
    /// # Errors
    /// As `kill_and_wait`.
    ///
    /// # Blocking
    /// Until it has ended or `limit` has passed. Zero never waits.
    #[track_caller]
    pub fn kill_and_wait_timeout(&self, limit: Duration) -> Result<bool> {
        self.kill_within(Some(limit))
    }
    #[track_caller]
    fn kill_within(&self, limit: Option<Duration>) -> Result<bool> {
        self.kill();
        if self.packet.has_ended() {
            return Ok(true);
        }
        if limit == Some(Duration::ZERO) {
            return Ok(false);
        }
        if self.packet.task().is_running() {
            return Err(WaitsForItself.into());
        }
        let wait = prepare()?;
        let place = Place { packet: &self.packet, link: self.packet.tell_waiter(wait.waiter()) };
        wait.park_timeout("a green thread to die", limit)?;
        drop(place);
        Ok(self.packet.has_ended())
    }
    /// Its value, or the failure it ended with (Eventlet's `wait`).
    ///
    /// # Errors
    /// Its failure: what it returned, its panic, or [`Killed`](crate::error::Killed).
    ///
    /// # Blocking
    /// Until it has ended.
    #[track_caller]
    pub fn wait(self) -> Result<T> {
        match self.wait_for(None) {
            Ok(outcome) => outcome,
            Err(_) => Err(ReactorError::Stopped.into()),
        }
    }
    /// As [`wait`](GreenThread::wait), no longer than `limit`. `Err` gives the handle back: it is still running.
    ///
    /// # Errors
    /// The outer one is the handle, the inner one its failure.
    ///
    /// # Blocking
    /// Until it has ended or `limit` has passed. Zero never waits.
    #[track_caller]
    pub fn wait_timeout(self, limit: Duration) -> Result<Result<T>, Self> {
        self.wait_for(Some(limit))
    }
    /// Waits for its end, and leaves its outcome where it is.
    #[track_caller]
    pub(super) fn wait_for_end(&self) -> Result<()> {
        if self.packet.has_ended() {
            return Ok(());
        }
        if self.packet.task().is_running() {
            return Err(WaitsForItself.into());
        }
        let wait = prepare()?;
        self.packet.set_waiter(wait.waiter());
        wait.park("a green thread")
    }
    #[track_caller]
    fn wait_for(self, limit: Option<Duration>) -> Result<Result<T>, Self> {
        if let Some(outcome) = self.packet.take() {
            return Ok(outcome);
        }
        if limit == Some(Duration::ZERO) {
            return Err(self);
        }
        if self.packet.task().is_running() {
            return Ok(Err(WaitsForItself.into()));
        }
        let waited = prepare().and_then(|wait| {
            self.packet.set_waiter(wait.waiter());
            wait.park_timeout("a green thread", limit)
        });
        match (waited, self.packet.take()) {
            (_, Some(outcome)) => Ok(outcome),
            (Err(failure), None) => Ok(Err(failure)),
            (Ok(_), None) => Err(self),
        }
    }
}

/// Who waits for the end, until it waits no longer.
struct Place<'a, T: 'static> {
    packet: &'a Packet<T>,
    link: LinkId,
}
impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        self.packet.unlink(self.link);
    }
}

impl<T: 'static> IntoDeferred for GreenThread<T> {
    type Value = T;
    /// Fires with the outcome; cancelling it kills the green thread.
    fn into_deferred(self) -> Deferred<T> {
        let outcome = self.packet.take();
        match outcome {
            Some(Ok(value)) => Deferred::succeed(value),
            Some(Err(failure)) => Deferred::fail(failure),
            None => {
                let (promise, deferred) = Deferred::new();
                let task = Rc::downgrade(self.packet.task());
                promise.on_cancel(move || {
                    if let Some(task) = task.upgrade() {
                        task.kill();
                    }
                });
                self.packet.set_promise(promise);
                deferred
            }
        }
    }
}
impl<T: 'static> Waitable for GreenThread<T> {
    type Output = Result<T>;
    #[track_caller]
    fn wait(self) -> Result<T> {
        GreenThread::wait(self)
    }
}
impl<T: 'static> fmt::Debug for GreenThread<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GreenThread").field("name", &self.packet.task().name()).field("state", &self.state()).finish()
    }
}
