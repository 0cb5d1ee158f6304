//! Waits that nothing cuts short: of a green thread whose stack others borrow from, for their end.
//!
//! Called by `scope`. Kills and deadlines that come meanwhile are kept for the next wait of the other kind. What must never
//! happen here: a way to resume a green thread that was given up.
use super::wait::{Wait, Waiter};
use super::{State, Task};
use crate::error::ReactorError;
use crate::failure::{Failure, Result};
use crate::green::hub::{Hub, running};
use crate::greenlet::Greenlet;
use std::panic::Location;
use std::rc::Rc;

/// Waits once, until the waiter that `tell` is given is woken or something else disturbs the wait: the caller looks whether
/// it is to wait again. Neither kills nor deadlines do.
///
/// # Errors
/// The wait cannot be, or cannot go on: while unwinding, in the main loop, without a loop, in a deadlock.
pub(crate) fn park_stubbornly(
    site: &'static Location<'static>,
    reason: &'static str,
    tell: impl FnOnce(Waiter),
) -> Result<()> {
    let cannot = || Failure::from(ReactorError::Stopped);
    if !Greenlet::can_switch() || crate::shared::is_inside_call() {
        return Err(cannot());
    }
    let running = running::get().or_else(|| Hub::current().and_then(|hub| hub.running()));
    let Some(task) = running else { return Err(cannot()) };
    if task.hub.is_stopped() && !task.hub.can_leave() {
        return Err(cannot());
    }
    let wait = Wait::begin(Rc::clone(&task), site);
    tell(wait.waiter());
    task.shield(true);
    let parked = wait.park(reason);
    task.shield(false);
    match parked {
        // A loop that ended, or a resumption while the reactor ends: the caller looks again.
        Err(failure) if matches!(failure.check(), Some(ReactorError::Stopped)) => Ok(()),
        parked => parked,
    }
}

/// Where a wait can never end and must not be cut short: the green thread that runs is given up, with its stack. Returns
/// where that cannot be: on MAIN, in the main loop, in a raw greenlet.
pub(crate) fn give_up_running(why: &str) {
    let Some(task) = running::get() else { return };
    if Greenlet::can_switch() && Greenlet::current().is_managed() && !task.is_main() && task.hub.can_leave() {
        crate::failure::drop_quietly(crate::failure::catch(|| {
            log::error!(target: "twistlet", "{} {why}: it never goes on, and its stack is leaked", task.described());
        }));
        let _ = task.give_up();
    }
}

impl Task {
    /// Interruptions wait, or those that came meanwhile count.
    fn shield(&self, on: bool) {
        self.shielded.set(on);
        self.interrupted.set(!on && (self.killed.get() || !self.expired.borrow().is_empty()));
    }
    /// To the loop, for ever: nobody resumes a leaked one. Returns only where there is no loop.
    pub(super) fn give_up(self: &Rc<Self>) -> Result<()> {
        self.state.set(State::Leaked);
        loop {
            self.hub.switch_to_loop()?;
        }
    }
    /// It borrows from the stack of another: where the reactor ends it is ended before that one.
    pub(in crate::green) fn set_scoped(&self) {
        self.marked.set(true);
        self.scoped.set(true);
    }
    pub(in crate::green) fn is_scoped(&self) -> bool {
        self.scoped.get()
    }
    /// Whether it was given up.
    pub(in crate::green) fn is_leaked(&self) -> bool {
        self.state.get() == State::Leaked
    }
    /// One that has not begun never will: what it would have run is dropped here and now.
    pub(in crate::green) fn drop_unstarted(self: &Rc<Self>) {
        if self.state.get() == State::Unstarted {
            self.marked.set(true);
            self.killed.set(true);
            self.forget_start();
            self.never_ran();
        }
    }
}
