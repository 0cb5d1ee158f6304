//! Starting green threads: how one is made, run and brought to its outcome.
use super::packet::Packet;
use super::{GreenThread, Hub, current};
use crate::deferred::IntoDeferred;
use crate::failure::{self, Failure, Result};
use crate::green::block::settle;
use crate::green::task::{Outlet, Task};
use crate::greenlet::{Greenlet, StackError};
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::time::Duration;

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
    local: bool,
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
        self.local = false;
        self
    }
    /// As [`after`](Builder::after), unless the green thread that spawns it has ended by then: see
    /// [`spawn_after_local`](super::spawn_after_local).
    pub fn after_local(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self.local = true;
        self
    }
    /// Starts it; never waits. Where no stack is to be had, the outcome is the failure that says so.
    #[track_caller]
    pub fn spawn<R: IntoDeferred + 'static>(self, f: impl FnOnce() -> R + 'static) -> GreenThread<R::Value> {
        let site = Location::caller();
        let task = Task::new(&hub(), site);
        let packet = Packet::new(task);
        launch(packet.task(), &packet, &self, f);
        GreenThread { packet }
    }
}

/// Where the outcome of a body goes.
pub(in crate::green) trait Outcome<T>: Outlet {
    /// Published in the green thread's own context.
    fn publish(&self, outcome: Result<T>);
}

fn hub() -> Rc<Hub> {
    match Hub::current() {
        Some(hub) => hub,
        None => panic!("a green thread was spawned while the OS thread ends"),
    }
}

/// Gives the task a body that ends in `outcome`, and queues it.
pub(in crate::green) fn launch<R: IntoDeferred + 'static, O: Outcome<R::Value> + 'static>(
    task: &Rc<Task>,
    outcome: &Rc<O>,
    how: &Builder,
    f: impl FnOnce() -> R + 'static,
) {
    let body = {
        let (task, outcome) = (Rc::clone(task), Rc::clone(outcome));
        move || {
            let ended = failure::catch(|| settle(f())).and_then(|ended| ended);
            task.drop_locals();
            outcome.publish(task.verdict(ended));
            // Perhaps the last owner of a user's value.
            if let Err(failure) = failure::catch(move || drop(outcome)) {
                failure::report(format_args!("the destructor of the outcome, {}", task.name()), &failure);
            }
            task.drop_last_locals();
            task.finished();
        }
    };
    match task.hub().greenlet(how.stack_size, body) {
        Ok(greenlet) => {
            let outlet: Weak<dyn Outlet> = Rc::downgrade(outcome) as _;
            start(task, greenlet, Some(outlet), how);
        }
        Err(error) => refuse(task, &**outcome, error),
    }
}
#[cold]
fn refuse<T>(task: &Rc<Task>, outcome: &impl Outcome<T>, error: StackError) {
    task.refused();
    outcome.publish(Err(error.into()));
}
fn start(task: &Rc<Task>, greenlet: Greenlet, outlet: Option<Weak<dyn Outlet>>, how: &Builder) {
    task.equip(greenlet, outlet);
    if let Some(name) = &how.name {
        task.set_name(name);
    }
    if task.hub().is_stopped() {
        // What cannot run any more is as if it had been killed.
        return task.end(false);
    }
    match how.delay {
        None => task.start_soon(),
        Some(delay) => {
            let later = Rc::clone(task);
            let begin: Box<dyn FnOnce()> = match how.local.then(current).flatten() {
                Some(spawner) => {
                    Box::new(move || if spawner.state().is_over() { later.kill() } else { later.start_soon() })
                }
                None => Box::new(move || later.start_soon()),
            };
            task.start_at(task.hub().core().schedule_from_now(task.spawned_at(), delay, begin));
        }
    }
}

/// A green thread without a handle.
#[track_caller]
pub(super) fn spawn_alone<R: IntoDeferred + 'static>(f: impl FnOnce() -> R + 'static) {
    let task = Task::new(&hub(), Location::caller());
    let body = {
        let task = Rc::clone(&task);
        move || {
            // A value nobody gets is dropped inside.
            let ended = failure::catch(|| settle(f()).map(drop)).and_then(|ended| ended);
            task.drop_locals();
            if let Err(failure) = task.verdict(ended) {
                task.report_unobserved(&failure);
                failure::drop_quietly(failure);
            }
            task.drop_last_locals();
            task.finished();
        }
    };
    match task.hub().greenlet(None, body) {
        Ok(greenlet) => start(&task, greenlet, None, &Builder::default()),
        Err(error) => {
            task.refused();
            failure::report(task.described(), &Failure::from(error));
        }
    }
}

/// The handle of a job that has run already, in somebody else's context.
#[track_caller]
pub(in crate::green) fn finished<T: 'static>(outcome: Result<T>) -> GreenThread<T> {
    let task = Task::new(&hub(), Location::caller());
    task.refused();
    let packet = Packet::new(task);
    packet.publish(outcome);
    GreenThread { packet }
}
/// As `finished`, without a handle.
#[track_caller]
pub(in crate::green) fn report_inline<T>(outcome: Result<T>) {
    match outcome {
        Ok(value) => failure::drop_quietly(value),
        Err(failure) => {
            let whose = format_args!("a job run by the job that spawned it at {}", Location::caller()).to_string();
            failure::report_unobserved(whose, &failure);
            failure::drop_quietly(failure);
        }
    }
}
