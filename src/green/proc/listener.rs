//! Who may be told of an outcome, and what a green thread is ended with when one that it is linked to has ended.
use super::Proc;
use crate::error::Killed;
use crate::failure::{Failure, Result};
use crate::green::hub::Hub;
use crate::green::task::Task;
use crate::green::{Event, Queue};
use std::error::Error;
use std::fmt;
use std::rc::{Rc, Weak};

/// An Event, a Queue, another Proc, the [`current`] green thread. Not closures: through a trait their `&T` argument would not
/// infer; they have [`Proc::link`].
pub trait Listener<T>: 'static {
    /// Called in the main loop with the outcome, and what makes the error that ends a green thread linked to it. Must not wait.
    fn notify(self, outcome: Result<&T, &Failure>, exited: &dyn Fn() -> LinkedExited);
}
/// Holds a clone of the outcome. One that holds another already keeps that, and the log says so.
impl<T: Clone + 'static> Listener<T> for Event<T> {
    fn notify(self, outcome: Result<&T, &Failure>, _exited: &dyn Fn() -> LinkedExited) {
        match outcome {
            Ok(value) => self.send(value.clone()),
            Err(failure) => self.send_exception(failure.clone()),
        }
    }
}
/// Gets a clone of the outcome as an item.
impl<T: Clone + 'static> Listener<T> for Queue<T> {
    fn notify(self, outcome: Result<&T, &Failure>, _exited: &dyn Fn() -> LinkedExited) {
        match outcome {
            Ok(value) => self.send(value.clone()),
            Err(failure) => self.send_exception(failure.clone()),
        }
    }
}
/// Is ended with [`LinkedExited`], unless it has ended already.
impl<T, U: 'static> Listener<T> for Proc<U> {
    fn notify(self, _outcome: Result<&T, &Failure>, exited: &dyn Fn() -> LinkedExited) {
        self.task.kill_because(Some(exited().into()));
    }
}

/// The green thread that called [`current`], as a listener: it is ended with [`LinkedExited`].
#[derive(Clone)]
pub struct Current(Weak<Task>);

/// The calling green thread, for a link: when the other ends, this one is unwound, and its outcome is [`LinkedExited`].
///
/// # Panics
/// In the main loop and its callbacks, and on MAIN: there is no green thread to end.
#[track_caller]
pub fn current() -> Current {
    let running = Hub::current().and_then(|hub| hub.running());
    match running {
        Some(task) if !task.is_main() => Current(Rc::downgrade(&task)),
        _ => panic!("proc::current() outside of a green thread: a link would have nobody to end"),
    }
}
impl<T> Listener<T> for Current {
    fn notify(self, _outcome: Result<&T, &Failure>, exited: &dyn Fn() -> LinkedExited) {
        if let Some(task) = self.0.upgrade() {
            task.kill_because(Some(exited().into()));
        }
    }
}
impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Current").field(&self.0.upgrade().map(|task| task.name())).finish()
    }
}

/// Why a green thread was ended by a link: the one it was linked to has ended (Eventlet's `LinkedExited` family).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkedExited {
    /// It returned a value: `LinkedCompleted`.
    Completed {
        /// Who ended.
        name: String,
    },
    /// It failed or panicked: `LinkedFailed`.
    Failed {
        /// Who ended.
        name: String,
        /// Of what.
        failure: Failure,
    },
    /// It was killed: `LinkedKilled`.
    Killed {
        /// Who ended.
        name: String,
    },
}
impl LinkedExited {
    pub(super) fn of(name: String, failure: Option<&Failure>) -> Self {
        match failure {
            None => LinkedExited::Completed { name },
            Some(failure) if failure.is::<Killed>() => LinkedExited::Killed { name },
            Some(failure) => LinkedExited::Failed { name, failure: failure.clone() },
        }
    }
    /// Who ended.
    pub fn name(&self) -> &str {
        match self {
            LinkedExited::Completed { name } | LinkedExited::Failed { name, .. } | LinkedExited::Killed { name } => {
                name
            }
        }
    }
}
impl fmt::Display for LinkedExited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkedExited::Completed { name } => write!(f, "{name}, to which this was linked, has completed"),
            LinkedExited::Failed { name, failure } => write!(f, "{name}, to which this was linked, failed: {failure}"),
            LinkedExited::Killed { name } => write!(f, "{name}, to which this was linked, was killed"),
        }
    }
}
impl Error for LinkedExited {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            LinkedExited::Failed { failure, .. } => Some(failure.error()),
            _ => None,
        }
    }
}
