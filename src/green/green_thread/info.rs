//! Green threads without their outcome: what one does, and a name for one that keeps nothing alive.
//!
//! `debug` lists them all; here is what a program asks about one.
use crate::green::hub::Hub;
use crate::green::task::{State, Task};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::time::Instant;

/// What a green thread does, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GreenState {
    /// It has not begun.
    Pending,
    /// It was woken, and goes on in a later turn.
    Ready,
    /// Its code runs.
    Running,
    /// It waits.
    Parked {
        /// For what, in words.
        reason: &'static str,
        /// The line that made it wait.
        site: &'static Location<'static>,
        /// Since when, to the precision of a turn of the loop.
        since: Instant,
    },
    /// It ended with a value; of a [`ThreadRef`], in any way.
    Finished,
    /// It ended with a failure or a panic.
    Failed,
    /// It was ended by a kill, or a link; or given up, because it swallowed that for ever.
    Killed,
}
impl GreenState {
    pub(super) fn of(task: &Task) -> GreenState {
        match task.state() {
            State::Unstarted => GreenState::Pending,
            State::Queued => GreenState::Ready,
            State::Running | State::Preparing => GreenState::Running,
            State::Parked => {
                let sight = task.look();
                GreenState::Parked { reason: sight.reason, site: sight.site, since: sight.since }
            }
            State::Finished => GreenState::Finished,
            State::Leaked => GreenState::Killed,
        }
    }
    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        matches!(self, GreenState::Finished | GreenState::Failed | GreenState::Killed)
    }
}

/// A name for a green thread, without its outcome. It keeps nothing alive; clones and other names of the same one are equal.
#[derive(Clone)]
pub struct ThreadRef {
    id: u64,
    spawned: &'static Location<'static>,
    task: Weak<Task>,
}

/// The green thread whose code calls this (Eventlet's `getcurrent`); MAIN counts as one where it may wait. `None` in the main
/// loop and its callbacks. Never waits.
///
/// ```
/// use twistlet::green::{Builder, current};
///
/// let worker = Builder::default().name("worker").spawn(|| Ok(current().and_then(|me| me.name())));
/// assert_eq!(worker.wait()?.as_deref(), Some("worker"));
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub fn current() -> Option<ThreadRef> {
    let task = Hub::current()?.running()?;
    Some(ThreadRef::of(&task))
}

impl ThreadRef {
    pub(in crate::green) fn of(task: &Rc<Task>) -> ThreadRef {
        ThreadRef { id: task.id(), spawned: task.spawned_at(), task: Rc::downgrade(task) }
    }
    /// Its memory may serve another by now.
    fn task(&self) -> Option<Rc<Task>> {
        self.task.upgrade().filter(|task| task.id() == self.id)
    }
    /// Tells it from all others of its reactor, ended ones included; MAIN's is 1.
    pub fn id(&self) -> u64 {
        self.id
    }
    /// The name it was given, while it lives.
    pub fn name(&self) -> Option<String> {
        self.task().and_then(|task| task.own_name())
    }
    /// Calls it so in reports and log lines.
    pub fn set_name(&self, name: &str) {
        if let Some(task) = self.task() {
            task.set_name(name);
        }
    }
    /// Where it was spawned; of MAIN, where it first waited.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.spawned
    }
    /// What it does; [`GreenState::Finished`] however it ended.
    pub fn state(&self) -> GreenState {
        self.task().map_or(GreenState::Finished, |task| GreenState::of(&task))
    }
    /// Whether it is MAIN.
    pub fn is_main(&self) -> bool {
        self.id == crate::green::hub::seen::MAIN
    }
    /// Whether its code runs now.
    pub fn is_current(&self) -> bool {
        self.task().is_some_and(|task| task.is_running())
    }
    /// As [`GreenThread::kill`](super::GreenThread::kill); nothing if it has ended.
    pub fn kill(&self) {
        if let Some(task) = self.task() {
            task.kill();
        }
    }
}
impl PartialEq for ThreadRef {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.task.ptr_eq(&other.task)
    }
}
impl Eq for ThreadRef {}
impl Hash for ThreadRef {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}
impl fmt::Debug for ThreadRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("ThreadRef");
        f.field("id", &self.id).field("name", &self.name()).field("state", &self.state()).finish()
    }
}
