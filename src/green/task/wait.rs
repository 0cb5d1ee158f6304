//! The protocol of waiting: `prepare`, tell somebody the `Waiter`, `park`.
//!
//! Each wait has an identity, so that a late wake-up of an earlier wait does nothing. A wake-up only puts the green thread into
//! the reactor's queue (G1). One that came before a kill or a deadline wins: what was handed over is never lost, and the
//! interruption comes at the next wait. No user code may run between `prepare` and `park`: it might wait itself.
use super::{State, Task};
use crate::clock::DelayedCall;
use crate::error::{Killed, ReactorError};
use crate::failure::{Failure, Result};
use crate::green::hub::{Hub, running};
use crate::greenlet::Greenlet;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

/// A wait that begins: made by the green thread that is going to wait.
pub(crate) struct Wait {
    task: Rc<Task>,
    id: u64,
    site: &'static Location<'static>,
}

/// What whoever ends the wait holds.
#[derive(Clone)]
pub struct Waiter {
    task: Rc<Task>,
    id: u64,
    /// Which of the things it waits for this one ends the wait for; most wait for one only.
    branch: u32,
}

/// Begins a wait.
///
/// # Errors
/// `Killed` while the green thread unwinds (G5); `ReactorError::Stopped`.
///
/// # Panics
/// In the main loop and its callbacks (G3). Unwinds when the green thread has been killed or a deadline has passed.
#[track_caller]
#[inline]
pub(crate) fn prepare() -> Result<Wait> {
    prepare_at(Location::caller())
}
/// As `prepare`, for somebody at `site`.
#[inline(always)]
pub(crate) fn prepare_at(site: &'static Location<'static>) -> Result<Wait> {
    if !Greenlet::can_switch() {
        return Err(cannot_switch());
    }
    let task = match running::get() {
        Some(task) if task.hub.is_under_way() => task,
        _ => look_further(site)?,
    };
    if crate::shared::is_inside_call() {
        cannot_wait_inside(site);
    }
    if task.interrupted.get()
        && let Some(token) = task.interruption()
    {
        task.raise(token)?;
    }
    if task.hub.is_stopped() {
        return Err(ReactorError::Stopped.into());
    }
    Ok(Wait::begin(task, site))
}

#[cold]
fn look_further(site: &'static Location<'static>) -> Result<Rc<Task>> {
    let Some(hub) = Hub::current() else { return Err(ReactorError::Stopped.into()) };
    match hub.running() {
        Some(task) => Ok(task),
        None => cannot_block(site),
    }
}
/// Never switch while unwinding: every other green thread would see a thread that panics. Nor while the thread ends.
#[cold]
fn cannot_switch() -> Failure {
    if std::thread::panicking() { Killed.into() } else { ReactorError::Stopped.into() }
}
#[cold]
fn cannot_block(site: &'static Location<'static>) -> ! {
    panic!(
        "a blocking call in the main loop, at {site}: a callback must return at once. Run this in a green thread, by \
         defer_to_green_thread() or spawn(), or use what does not wait (poll, try_*, a Deferred's add_callback)"
    );
}

#[cold]
fn cannot_wait_inside(site: &'static Location<'static>) -> ! {
    panic!(
        "a blocking call inside a call on a Shared object, at {site}: the object is borrowed, and whoever wants it meanwhile \
         would wait for ever. Return a Deferred, or wait outside the call"
    );
}

impl Wait {
    #[inline(always)]
    pub(super) fn begin(task: Rc<Task>, site: &'static Location<'static>) -> Wait {
        let id = task.wait.get() + 1;
        task.wait.set(id);
        task.woken.set(false);
        task.late.set(false);
        task.state.set(State::Preparing);
        Wait { task, id, site }
    }
    /// For whoever is to end the wait.
    pub(crate) fn waiter(&self) -> Waiter {
        self.waiter_for(0)
    }
    /// As `waiter`, for one of several things this green thread waits for at once.
    pub(crate) fn waiter_for(&self, branch: u32) -> Waiter {
        Waiter { task: Rc::clone(&self.task), id: self.id, branch }
    }
    /// Whose waiter was woken.
    pub(crate) fn branch(&self) -> u32 {
        self.task.branch.get()
    }
    /// Suspends this green thread until its waiter is woken; at once when it has been. `reason` is for people.
    ///
    /// # Errors
    /// `Deadlock` on MAIN, `ReactorError::Stopped`, and what `prepare` says. Unwinds when the green thread is killed or a
    /// deadline passes.
    #[inline(always)]
    pub(crate) fn park(&self, reason: &'static str) -> Result<()> {
        let task = &self.task;
        debug_assert_eq!(task.wait.get(), self.id, "user code waited between prepare and park");
        let mut switched = Ok(());
        // One that has been interrupted since `prepare` does not suspend.
        if !task.woken.get() && !task.interrupted.get() {
            task.reason.set(reason);
            task.site.set(self.site);
            task.since.set(task.hub.core().recent());
            task.state.set(State::Parked);
            drop(running::take());
            switched = switch_away(task);
        }
        task.state.set(State::Running);
        if task.woken.get() {
            return Ok(());
        }
        self.ended_otherwise(switched)
    }
    #[cold]
    fn ended_otherwise(&self, switched: Result<()>) -> Result<()> {
        let task = &self.task;
        // From here on a wake-up of this wait is late.
        task.wait.set(self.id + 1);
        if let Some(failure) = task.fault.take() {
            return Err(failure);
        }
        if let Some(token) = task.interruption() {
            task.raise(token)?;
        }
        switched?;
        Err(ReactorError::Stopped.into())
    }
    /// As `park`, until `limit` has passed. `false`: it has, and nobody woke it.
    #[inline(always)]
    pub(crate) fn park_timeout(&self, reason: &'static str, limit: Option<Duration>) -> Result<bool> {
        match limit {
            None => self.park(reason).map(|()| true),
            Some(limit) => self.park_until(reason, limit),
        }
    }
    #[inline(never)]
    fn park_until(&self, reason: &'static str, limit: Duration) -> Result<bool> {
        let timer = {
            let waiter = self.waiter();
            CancelOnDrop(self.task.hub.core().schedule_from_now(
                self.site,
                limit,
                Box::new(move || waiter.time_is_up()),
            ))
        };
        self.park(reason)?;
        drop(timer);
        Ok(!self.task.late.get())
    }
}
impl Drop for Wait {
    #[inline]
    fn drop(&mut self) {
        if self.task.wait.get() == self.id {
            if self.task.state.get() == State::Preparing {
                self.task.state.set(State::Running);
            }
            self.task.wait.set(self.id + 1);
        }
    }
}

struct CancelOnDrop(DelayedCall);
impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// To the loop. Returns when this green thread is resumed, or there is no loop any more. The caller has left `running`.
#[inline(always)]
fn switch_away(task: &Rc<Task>) -> Result<()> {
    // Perhaps a raw greenlet of the user's, on top of this green thread: it is who waits.
    task.greenlet.set(Some(Greenlet::current()));
    let switched = task.hub.switch_to_loop();
    if task.state.get() == State::Running {
        return Ok(());
    }
    go_on(task, switched)
}
/// Whoever was resumed was perhaps not woken.
#[cold]
fn go_on(task: &Rc<Task>, mut switched: Result<()>) -> Result<()> {
    loop {
        if task.state.get() == State::Running {
            return Ok(());
        }
        if switched.is_err() || !task.hub.has_loop() {
            // MAIN, and the loop has ended or could not begin.
            drop(task.greenlet.take());
            running::put(Rc::clone(task));
            return switched.and(Err(ReactorError::Stopped.into()));
        }
        // Somebody switched here by hand: the wait goes on.
        switched = task.hub.switch_to_loop();
    }
}

impl Waiter {
    /// Ends the wait. `false`: it had ended already, and whoever meant to hand something over keeps it.
    #[inline]
    pub(crate) fn wake(&self) -> bool {
        let task = &self.task;
        if task.wait.get() != self.id || task.woken.get() {
            return false;
        }
        match task.state.get() {
            State::Preparing => {
                task.woken.set(true);
                task.branch.set(self.branch);
                true
            }
            State::Parked => {
                task.woken.set(true);
                task.branch.set(self.branch);
                task.resume_soon();
                true
            }
            _ => false,
        }
    }
    fn time_is_up(&self) {
        if self.wake() {
            self.task.late.set(true);
        }
    }
    /// Whether the wait still goes on.
    pub(crate) fn is_waiting(&self) -> bool {
        let task = &self.task;
        task.wait.get() == self.id && !task.woken.get() && matches!(task.state.get(), State::Preparing | State::Parked)
    }
    pub(crate) fn is_same(&self, other: &Waiter) -> bool {
        self.id == other.id && self.branch == other.branch && Rc::ptr_eq(&self.task, &other.task)
    }
    /// Who waits, for messages.
    pub(crate) fn who(&self) -> String {
        self.task.name()
    }
}

/// Lets everybody else who is ready run once.
#[track_caller]
#[inline(always)]
pub(crate) fn yield_once() -> Result<()> {
    // Nobody can wake it while it is in line, so it needs no number of its own, as other waits do.
    if let Some(task) = running::take() {
        if Greenlet::can_switch()
            && task.hub.is_under_way()
            && !task.interrupted.get()
            && !crate::shared::is_inside_call()
        {
            task.resume_soon();
            let switched = switch_away(&task);
            task.state.set(State::Running);
            if switched.is_err() || task.interrupted.get() {
                return after_yield(&task, switched);
            }
            return Ok(());
        }
        running::put(task);
    }
    yield_slowly()
}
/// For those who may not wait, and MAIN's first.
#[cold]
#[track_caller]
fn yield_slowly() -> Result<()> {
    let wait = prepare()?;
    let task = &wait.task;
    drop(running::take());
    task.resume_soon();
    let switched = switch_away(task);
    task.state.set(State::Running);
    after_yield(task, switched)
}
#[cold]
fn after_yield(task: &Rc<Task>, switched: Result<()>) -> Result<()> {
    if let Some(token) = task.interruption() {
        task.raise(token)?;
    }
    switched
}
