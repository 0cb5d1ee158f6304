//! Green threads as programs hold them: `spawn` and its relatives, `GreenThread`, what becomes of their outcome.
use super::block::Waitable;
use super::hub::Hub;
use super::task::{State, Task, Waiter, prepare};
use crate::deferred::{Deferred, IntoDeferred, Promise};
use crate::error::{Killed, ReactorError, WaitsForItself};
use crate::failure::{self, Failure, Result};
use crate::greenlet::Greenlet;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::time::Duration;

type Link<T> = Box<dyn FnOnce(Result<&T, &Failure>)>;

/// A green thread: Eventlet's `GreenThread`. Dropping the handle detaches: it runs on, and a failure that nobody took is
/// logged with its name and the place it was spawned at.
pub struct GreenThread<T: 'static> {
    task: Rc<Task>,
    packet: Rc<Packet<T>>,
}

/// What passes between a green thread and whoever waits for it.
struct Packet<T: 'static> {
    outcome: RefCell<Option<Result<T>>>,
    waiters: RefCell<Vec<Waiter>>,
    links: RefCell<Vec<Link<T>>>,
    promise: Cell<Option<Promise<T>>>,
    /// Somebody has seen a failure.
    observed: Cell<bool>,
    about: Rc<Task>,
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
    threads.into_iter().map(GreenThread::wait).collect()
}

/// A green thread with a name, a stack size or a delay: as `std::thread::Builder`.
///
/// ```
/// use twistlet::green::Builder;
///
/// let worker = Builder::default().name("worker").stack_size(64 * 1024).spawn(|| Ok(1));
/// assert_eq!(worker.wait()?, 1);
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Builder {
    name: Option<String>,
    stack_size: Option<usize>,
    delay: Option<Duration>,
}

impl Builder {
    /// What reports and log lines call it. Default: the place it was spawned at.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
    /// Address space for its stack, in bytes; only touched pages cost memory. Default 256 KiB, at least 16 KiB.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }
    /// Starts at least `delay` from now.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }
    /// Starts it; never waits. Where no stack is to be had, the outcome is the failure that says so.
    #[track_caller]
    pub fn spawn<R: IntoDeferred + 'static>(self, f: impl FnOnce() -> R + 'static) -> GreenThread<R::Value> {
        let Some(hub) = Hub::current() else { panic!("a green thread was spawned while the OS thread ends") };
        let task = Task::new(&hub, Location::caller());
        let packet = Rc::new(Packet {
            outcome: RefCell::default(),
            waiters: RefCell::default(),
            links: RefCell::default(),
            promise: Cell::new(None),
            observed: Cell::new(false),
            about: Rc::clone(&task),
        });
        let thread = GreenThread { task, packet };
        let (task, packet) = (Rc::clone(&thread.task), Rc::clone(&thread.packet));
        let body = move || {
            let outcome = failure::catch(|| super::block::settle(f())).and_then(|outcome| outcome);
            packet.finish(outcome);
            task.finished();
        };
        let greenlet = match Greenlet::spawn_managed(self.stack_size, body) {
            Ok(greenlet) => greenlet,
            Err(error) => {
                thread.task.finished();
                thread.packet.finish(Err(error.into()));
                return thread;
            }
        };
        thread.task.equip(greenlet);
        thread.task.set_unrun(Rc::downgrade(&thread.packet) as Weak<dyn Unrun>);
        if let Some(name) = &self.name {
            thread.task.set_name(name);
        }
        if hub.is_stopped() {
            // The reactor ends: what cannot run any more is as if it had been killed.
            thread.task.kill();
        }
        match self.delay {
            None => thread.task.start_soon(),
            Some(delay) => {
                let task = Rc::clone(&thread.task);
                hub.core().schedule(delay, Box::new(move || task.start_soon()));
            }
        }
        thread
    }
}

impl<T: 'static> GreenThread<T> {
    /// Unwinds it from where it waits, destructors included, or keeps it from ever running (Eventlet's `kill`). Takes effect
    /// in a later turn and does not wait; one that kills itself unwinds at once. Its outcome is
    /// [`Killed`](crate::error::Killed).
    pub fn kill(&self) {
        self.task.kill();
    }
    /// Whether it has ended, one way or another.
    pub fn is_finished(&self) -> bool {
        self.task.state() == State::Finished
    }
    /// Calls it so in reports and log lines.
    pub fn set_name(&self, name: &str) {
        self.task.set_name(name);
    }
    /// Calls `f` with the outcome when it ends, in its own context and before whoever waits runs; at once when it has ended
    /// (Eventlet's `link`). Never waits. A failure that is shown to a link counts as seen.
    pub fn link(&self, f: impl FnOnce(Result<&T, &Failure>) + 'static) {
        if self.packet.outcome.borrow().is_none() {
            return self.packet.links.borrow_mut().push(Box::new(f));
        }
        self.packet.show(Box::new(f));
    }
    fn is_running_one(&self) -> bool {
        Hub::existing().and_then(|hub| hub.running()).is_some_and(|running| Rc::ptr_eq(&running, &self.task))
    }
}

impl<T: 'static> GreenThread<T> {
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
    #[track_caller]
    fn wait_for(self, limit: Option<Duration>) -> Result<Result<T>, Self> {
        if self.packet.outcome.borrow().is_none() && limit != Some(Duration::ZERO) {
            if self.is_running_one() {
                return Ok(Err(WaitsForItself.into()));
            }
            let waited = prepare().and_then(|wait| {
                self.packet.waiters.borrow_mut().push(wait.waiter());
                let outcome = wait.park_timeout("a green thread", limit);
                let waiter = wait.waiter();
                self.packet.waiters.borrow_mut().retain(|other| !other.is_same(&waiter));
                outcome
            });
            if let Err(failure) = waited {
                return Ok(Err(failure));
            }
        }
        let outcome = self.packet.outcome.borrow_mut().take();
        match outcome {
            Some(outcome) => Ok(outcome),
            None => Err(self),
        }
    }
}

impl<T: 'static> Packet<T> {
    /// Publishes the outcome: links, then the Deferred, then whoever waits.
    fn finish(&self, outcome: Result<T>) {
        *self.outcome.borrow_mut() = Some(outcome);
        loop {
            let links = std::mem::take(&mut *self.links.borrow_mut());
            if links.is_empty() {
                break;
            }
            for link in links {
                self.show(link);
            }
        }
        if let Some(promise) = self.promise.take() {
            let outcome = self.outcome.borrow_mut().take();
            match outcome {
                Some(Ok(value)) => promise.callback(value),
                Some(Err(failure)) => promise.errback(failure),
                None => drop(promise),
            }
        }
        let waiters = std::mem::take(&mut *self.waiters.borrow_mut());
        for waiter in waiters {
            waiter.wake();
        }
    }
    /// Shows the outcome to a link, outside any borrow: what it is shown cannot be taken from it meanwhile.
    fn show(&self, link: Link<T>) {
        let outcome = self.outcome.borrow_mut().take();
        let Some(outcome) = outcome else { return };
        if outcome.is_err() {
            self.observed.set(true);
        }
        if let Err(failure) = failure::catch(|| link(outcome.as_ref())) {
            failure::report(format_args!("a link of {}", self.about.name()), &failure);
        }
        *self.outcome.borrow_mut() = Some(outcome);
    }
}

/// How a task tells the packet of a green thread that never ran.
pub(super) trait Unrun {
    fn never_ran(&self);
}
impl<T: 'static> Unrun for Packet<T> {
    fn never_ran(&self) {
        self.finish(Err(Killed.into()));
    }
}

impl<T: 'static> Drop for Packet<T> {
    fn drop(&mut self) {
        if let Some(Err(failure)) = self.outcome.get_mut()
            && !self.observed.get()
            && !failure.is::<Killed>()
        {
            failure::report_unobserved(format_args!("{}", self.about.name()), failure);
        }
    }
}

impl<T: 'static> IntoDeferred for GreenThread<T> {
    type Value = T;
    /// Fires with the outcome; cancelling it kills the green thread.
    fn into_deferred(self) -> Deferred<T> {
        let outcome = self.packet.outcome.borrow_mut().take();
        match outcome {
            Some(Ok(value)) => Deferred::succeed(value),
            Some(Err(failure)) => Deferred::fail(failure),
            None => {
                let (promise, deferred) = Deferred::new();
                let (task, packet) = (Rc::downgrade(&self.task), Rc::downgrade(&self.packet));
                promise.on_cancel(move || {
                    if let (Some(task), Some(packet)) = (task.upgrade(), packet.upgrade()) {
                        GreenThread { task, packet }.kill();
                    }
                });
                self.packet.promise.set(Some(promise));
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
        f.debug_struct("GreenThread").field("name", &self.task.name()).field("state", &self.task.state()).finish()
    }
}
