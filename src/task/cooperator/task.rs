//! One piece of work of a cooperator: its steps, its pauses, its end and who is told of it.
use super::{Cooperator, Inner};
use crate::deferred::{Deferred, Promise};
use crate::failure::{self, Failure, Result};
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::rc::{Rc, Weak};

/// What a task cannot do any more, or why it ended (Twisted's `TaskStopped`, `TaskDone`, `TaskFailed`, `NotPaused`,
/// `SchedulerStopped`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TaskError {
    /// [`CooperativeTask::stop`] was called.
    Stopped,
    /// It has come to its end.
    Done,
    /// A step failed.
    Failed,
    /// It was resumed more often than paused.
    NotPaused,
    /// The whole [`Cooperator`] was stopped.
    SchedulerStopped,
}
impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopped => "the cooperative task was stopped",
            Self::Done => "the cooperative task has come to its end already",
            Self::Failed => "the cooperative task has failed already: when_done() tells why",
            Self::NotPaused => "the cooperative task is not paused: resume() undoes one pause()",
            Self::SchedulerStopped => "the cooperator was stopped: start() it before it can take work",
        })
    }
}
impl Error for TaskError {}

/// One step; `None` is the end.
pub(super) type Work = Box<dyn FnMut() -> Option<Deferred<()>>>;

pub(super) struct Task {
    cooperator: Weak<Inner>,
    /// Out while it runs; gone at the end.
    work: RefCell<Option<Work>>,
    pauses: Cell<u32>,
    /// For a Deferred.
    waiting: Cell<bool>,
    pub(super) queued: Cell<bool>,
    /// Among `all`.
    pub(super) place: Cell<usize>,
    end: RefCell<Option<(TaskError, Result<()>)>>,
    done: RefCell<Vec<Promise<()>>>,
    /// Somebody has been, or will be, told of the end.
    told: Cell<bool>,
}

impl Task {
    pub(super) fn new(cooperator: &Rc<Inner>, work: Work) -> Rc<Task> {
        Rc::new(Task {
            cooperator: Rc::downgrade(cooperator),
            work: RefCell::new(Some(work)),
            pauses: Cell::new(0),
            waiting: Cell::new(false),
            queued: Cell::new(false),
            place: Cell::new(0),
            end: RefCell::default(),
            done: RefCell::default(),
            told: Cell::new(false),
        })
    }
    pub(super) fn can_go_on(&self) -> bool {
        self.pauses.get() == 0 && !self.waiting.get() && !self.has_ended()
    }
    fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }
    pub(super) fn step(self: &Rc<Self>, cooperator: &Rc<Inner>) {
        let Some(mut work) = self.work.take() else { return };
        let step = failure::catch(&mut work);
        if self.has_ended() {
            // From within. What came of the step interests nobody.
            failure::drop_quietly(work);
            if let Ok(Some(late)) = step {
                ignore(late);
            }
            return;
        }
        *self.work.borrow_mut() = Some(work);
        match step.map(|step| step.map(Deferred::try_take)) {
            Ok(None) => self.finish(TaskError::Done, Ok(())),
            Ok(Some(Ok(Ok(())))) => cooperator.enqueue(self),
            Ok(Some(Ok(Err(failure)))) | Err(failure) => self.finish(TaskError::Failed, Err(failure)),
            Ok(Some(Err(pending))) => {
                self.waiting.set(true);
                let (task, cooperator) = (Rc::clone(self), Rc::clone(cooperator));
                let _ = pending.add_both(move |outcome| {
                    task.waiting.set(false);
                    match outcome {
                        Ok(()) => cooperator.enqueue(&task),
                        // After an end it is ignored.
                        Err(failure) => task.finish(TaskError::Failed, Err(failure)),
                    }
                });
            }
        }
    }
    pub(super) fn finish_with(&self, error: TaskError) {
        self.finish(error, Err(Failure::from(error)));
    }
    /// Ends it, once: out of the cooperator first, so that who is told may do with that what he likes.
    fn finish(&self, how: TaskError, outcome: Result<()>) {
        if self.has_ended() {
            return;
        }
        *self.end.borrow_mut() = Some((how, outcome.clone()));
        let work = self.work.take();
        if let Some(cooperator) = self.cooperator.upgrade() {
            cooperator.dismiss(self);
        }
        failure::drop_quietly(work);
        let done = std::mem::take(&mut *self.done.borrow_mut());
        for promise in done {
            promise.resolve(outcome.clone());
        }
    }
    /// Tells of the end, now or then.
    pub(super) fn tell(&self, promise: Promise<()>) {
        self.told.set(true);
        let end = self.end.borrow().as_ref().map(|(_, outcome)| outcome.clone());
        match end {
            Some(outcome) => promise.resolve(outcome),
            None => {
                let mut done = self.done.borrow_mut();
                done.retain(|promise| !promise.is_forgotten());
                done.push(promise);
            }
        }
    }
    fn check(&self) -> Result<(), TaskError> {
        self.end.borrow().as_ref().map_or(Ok(()), |(how, _)| Err(*how))
    }
}
impl Drop for Task {
    fn drop(&mut self) {
        if let Some((TaskError::Failed, Err(failure))) = self.end.get_mut()
            && !self.told.get()
        {
            failure::report_unobserved("a cooperative task", failure);
        }
    }
}

/// What comes of it is for nobody.
fn ignore(late: Deferred<()>) {
    let _ = late.add_both(|_| ());
}

/// A piece of work in a [`Cooperator`] (Twisted's `CooperativeTask`). Clones are the same task; dropping them changes nothing.
#[derive(Clone)]
pub struct CooperativeTask {
    task: Rc<Task>,
    /// The task names it weakly.
    cooperator: Cooperator,
}

impl CooperativeTask {
    pub(super) fn new(task: Rc<Task>, cooperator: Cooperator) -> Self {
        CooperativeTask { task, cooperator }
    }
    pub(super) fn into_task(self) -> Rc<Task> {
        self.task
    }
    /// Makes no more steps until [resumed](CooperativeTask::resume) as often as paused.
    ///
    /// # Errors
    /// How it ended, if it has: [`TaskError::Done`], [`Failed`](TaskError::Failed), [`Stopped`](TaskError::Stopped) or
    /// [`SchedulerStopped`](TaskError::SchedulerStopped).
    pub fn pause(&self) -> Result<(), TaskError> {
        self.task.check()?;
        self.task.pauses.set(self.task.pauses.get() + 1);
        self.cooperator.0.dequeue(&self.task);
        Ok(())
    }
    /// Undoes one [`pause`](CooperativeTask::pause). The next step is made in a later slice, once the Deferred that the task
    /// may wait for has fired too.
    ///
    /// # Errors
    /// [`TaskError::NotPaused`].
    pub fn resume(&self) -> Result<(), TaskError> {
        let pauses = self.task.pauses.get().checked_sub(1).ok_or(TaskError::NotPaused)?;
        self.task.pauses.set(pauses);
        self.cooperator.0.enqueue(&self.task);
        Ok(())
    }
    /// Ends it: no step is made any more, and [`when_done`](CooperativeTask::when_done) fails with [`TaskError::Stopped`].
    ///
    /// # Errors
    /// As [`pause`](CooperativeTask::pause).
    pub fn stop(&self) -> Result<(), TaskError> {
        self.task.check()?;
        self.task.finish_with(TaskError::Stopped);
        Ok(())
    }
    /// Fires when it has come to its end, and fails as a step did, or with [`TaskError`]; at once when it has ended. Every
    /// call gives a Deferred of its own; cancelling it leaves the task alone.
    pub fn when_done(&self) -> Deferred<()> {
        let (promise, deferred) = Deferred::new();
        self.task.tell(promise);
        deferred
    }
    /// Whether it has ended, one way or another.
    pub fn has_ended(&self) -> bool {
        self.task.has_ended()
    }
}

impl fmt::Debug for CooperativeTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CooperativeTask")
            .field("pauses", &self.task.pauses.get())
            .field("waiting", &self.task.waiting.get())
            .field("end", &self.task.check().err())
            .finish_non_exhaustive()
    }
}
