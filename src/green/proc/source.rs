//! `Source`: an outcome that is there once and for all, and the links that are told of it.
//!
//! Links are called in the main loop, in the order they were made, in a later turn than what made the outcome. What must never
//! happen here: a link called, or dropped, while a cell is borrowed.
use super::listener::{LinkedExited, Listener};
use crate::error::{ReactorError, TimedOut, WaitsForItself};
use crate::failure::{self, Failure, Result};
use crate::green::green_thread::Outcome;
use crate::green::hub::Hub;
use crate::green::task::{Outlet, Task, Waiters};
use crate::reactor::Runnable;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::Duration;

/// An outcome that somebody will send, once, and links that are told of it (Eventlet's `proc.Source`). Clones are the same
/// one. A [`Proc`](super::Proc) is one that its green thread sends.
///
/// ```
/// use twistlet::green::{Queue, proc::Source};
///
/// let source = Source::new("the answer");
/// let queue = Queue::new();
/// source.link_value(queue.clone());
/// source.send(42);
/// assert!(!queue.ready());
/// assert_eq!(queue.wait()?, 42);
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct Source<T: 'static>(Rc<Inner<T>>);

/// The name of a link, for taking it back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LinkId(pub(in crate::green) u64);

pub(in crate::green) struct Inner<T: 'static> {
    outcome: OnceCell<Result<T>>,
    waiters: Waiters,
    links: RefCell<VecDeque<Link<T>>>,
    made: Cell<u64>,
    /// The links will be told: it is in the reactor's queue.
    queued: Cell<bool>,
    observed: Cell<bool>,
    name: RefCell<String>,
    about: Option<Rc<Task>>,
    this: Weak<Inner<T>>,
}
type Call<T> = Box<dyn FnOnce(Result<&T, &Failure>)>;
struct Link<T> {
    id: LinkId,
    wants: Wants,
    call: Call<T>,
}
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    Both,
    /// To know of the end, whatever the outcome: nobody has seen a failure for that.
    End,
    Value,
    Failure,
}

impl<T> Clone for Source<T> {
    fn clone(&self) -> Self {
        Source(Rc::clone(&self.0))
    }
}
impl<T> fmt::Debug for Source<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("name", &self.0.name()).field("ready", &self.ready()).finish()
    }
}

impl<T> Source<T> {
    /// Whether the outcome is there.
    pub fn ready(&self) -> bool {
        self.0.outcome.get().is_some()
    }
}

impl<T: 'static> Source<T> {
    /// One without an outcome. The name is for messages.
    pub fn new(name: impl Into<String>) -> Self {
        Source::with(name.into(), None)
    }
    pub(super) fn of(task: &Rc<Task>) -> Self {
        Source::with(String::new(), Some(Rc::clone(task)))
    }
    fn with(name: String, about: Option<Rc<Task>>) -> Self {
        Source(Rc::new_cyclic(|this| Inner {
            outcome: OnceCell::new(),
            waiters: Waiters::default(),
            links: RefCell::default(),
            made: Cell::new(0),
            queued: Cell::new(false),
            observed: Cell::new(false),
            name: RefCell::new(name),
            about,
            this: this.clone(),
        }))
    }
    pub(super) fn inner(&self) -> &Rc<Inner<T>> {
        &self.0
    }
    /// Gives it its value. Never waits; the links are told in a later turn.
    ///
    /// # Panics
    /// When it has an outcome already, which stays.
    #[track_caller]
    pub fn send(&self, value: T) {
        self.0.send(Ok(value));
    }
    /// Gives it a failure.
    ///
    /// # Panics
    /// As [`send`](Source::send).
    #[track_caller]
    pub fn send_exception(&self, error: impl Into<Failure>) {
        self.0.send(Err(error.into()));
    }
    /// As [`Proc::wait`](super::Proc::wait).
    ///
    /// # Errors
    /// The failure that was sent.
    ///
    /// # Blocking
    /// Until it has an outcome.
    #[track_caller]
    pub fn wait(&self) -> Result<T>
    where
        T: Clone,
    {
        self.wait_for(None)
    }
    /// As [`wait`](Source::wait), no longer than `limit`. Zero never waits.
    ///
    /// # Errors
    /// [`TimedOut`]; otherwise as `wait`.
    ///
    /// # Blocking
    /// At most for `limit`.
    #[track_caller]
    pub fn wait_timeout(&self, limit: Duration) -> Result<T>
    where
        T: Clone,
    {
        self.wait_for(Some(limit))
    }
    #[track_caller]
    pub(super) fn wait_for(&self, limit: Option<Duration>) -> Result<T>
    where
        T: Clone,
    {
        if !self.ready() && limit != Some(Duration::ZERO) {
            if self.0.about.as_ref().is_some_and(Task::is_running) {
                return Err(WaitsForItself.into());
            }
            self.0.waiters.wait("a Source", limit)?;
        }
        match self.poll() {
            Some(outcome) => outcome,
            None => match limit {
                Some(limit) => Err(TimedOut(limit).into()),
                None => Err(ReactorError::Stopped.into()),
            },
        }
    }
    /// The outcome, if it is there. Never waits.
    pub fn poll(&self) -> Option<Result<T>>
    where
        T: Clone,
    {
        let outcome = self.0.outcome.get()?;
        if outcome.is_err() {
            self.0.observed.set(true);
        }
        Some(outcome.clone())
    }
    /// As [`Proc::link`](super::Proc::link).
    pub fn link(&self, f: impl FnOnce(Result<&T, &Failure>) + 'static) -> LinkId {
        self.0.add(Wants::Both, Box::new(f))
    }
    /// As [`Proc::link_to`](super::Proc::link_to).
    pub fn link_to(&self, listener: impl Listener<T>) -> LinkId {
        self.0.tell(Wants::Both, listener)
    }
    /// As [`Proc::link_value`](super::Proc::link_value).
    pub fn link_value(&self, listener: impl Listener<T>) -> LinkId {
        self.0.tell(Wants::Value, listener)
    }
    /// As [`Proc::link_exception`](super::Proc::link_exception).
    pub fn link_exception(&self, listener: impl Listener<T>) -> LinkId {
        self.0.tell(Wants::Failure, listener)
    }
    /// Calls `f` in the main loop when the outcome is there. Whoever learns of it so has not seen a failure.
    pub(super) fn at_end(&self, f: impl FnOnce() + 'static) -> LinkId {
        self.0.add(Wants::End, Box::new(move |_| f()))
    }
    /// Waits for the outcome, without looking at it.
    #[track_caller]
    pub(super) fn wait_end(&self) -> Result<()> {
        if self.0.outcome.get().is_none() {
            if self.0.about.as_ref().is_some_and(Task::is_running) {
                return Err(WaitsForItself.into());
            }
            self.0.waiters.wait("the end of a proc", None)?;
        }
        Ok(())
    }
    /// Removes a link. Returns whether it was there.
    pub fn unlink(&self, link: LinkId) -> bool {
        let removed = {
            let mut links = self.0.links.borrow_mut();
            let position = links.iter().position(|other| other.id == link);
            position.and_then(|position| links.remove(position))
        };
        removed.is_some()
    }
}

impl<T: 'static> Inner<T> {
    fn name(&self) -> String {
        match &self.about {
            Some(task) => task.name(),
            None => self.name.borrow().clone(),
        }
    }
    #[track_caller]
    fn send(&self, outcome: Result<T>) {
        if self.set(outcome) {
            return;
        }
        assert!(std::thread::panicking(), "the source '{}' has an outcome already", self.name());
        log::error!(target: "twistlet", "the source '{}' has an outcome already; another is dropped", self.name());
    }
    fn set(&self, outcome: Result<T>) -> bool {
        if let Err(outcome) = self.outcome.set(outcome) {
            drop(outcome);
            return false;
        }
        self.waiters.wake_all();
        self.tell_soon();
        true
    }
    fn add(&self, wants: Wants, call: Call<T>) -> LinkId {
        let id = LinkId(self.made.get());
        self.made.set(id.0 + 1);
        self.links.borrow_mut().push_back(Link { id, wants, call });
        if self.outcome.get().is_some() {
            self.tell_soon();
        }
        id
    }
    fn tell(&self, wants: Wants, listener: impl Listener<T>) -> LinkId {
        let this = self.this.clone();
        self.add(
            wants,
            Box::new(move |outcome| {
                let name = this.upgrade().map(|source| source.name()).unwrap_or_default();
                listener.notify(outcome, &|| LinkedExited::of(name.clone(), outcome.err()));
            }),
        )
    }
    fn tell_soon(&self) {
        if self.links.borrow().is_empty() || self.queued.replace(true) {
            return;
        }
        let (Some(this), Some(hub)) = (self.this.upgrade(), Hub::current()) else { return };
        if hub.is_stopped() {
            // There will be no later turn.
            this.run();
        } else {
            hub.core().run_soon(this);
        }
    }
}

/// In the main loop: the links are told.
impl<T: 'static> Runnable for Inner<T> {
    fn run(self: Rc<Self>) {
        self.queued.set(false);
        let Some(outcome) = self.outcome.get() else { return };
        loop {
            let link = self.links.borrow_mut().pop_front();
            let Some(link) = link else { break };
            let wanted = match outcome {
                Ok(_) => link.wants != Wants::Failure,
                Err(_) => link.wants != Wants::Value,
            };
            let told = failure::catch(|| {
                if wanted {
                    (link.call)(outcome.as_ref());
                } else {
                    drop(link.call);
                }
            });
            if wanted && link.wants != Wants::End && outcome.is_err() {
                self.observed.set(true);
            }
            if let Err(failure) = told {
                failure::report(format_args!("a link of {}", self.name()), &failure);
                failure::drop_quietly(failure);
            }
        }
    }
}

impl<T: 'static> Outcome<T> for Inner<T> {
    fn publish(&self, outcome: Result<T>) {
        self.set(outcome);
    }
}
impl<T: 'static> Outlet for Inner<T> {
    fn ended_by(&self, failure: Failure) {
        self.set(Err(failure));
    }
}

impl<T: 'static> Drop for Inner<T> {
    fn drop(&mut self) {
        if let Some(task) = &self.about
            && let Some(Err(failure)) = self.outcome.get()
            && !self.observed.get()
        {
            task.report_unobserved(failure);
        }
    }
}
