//! What the loop does with a green thread: resumes it until it waits or ends, and keeps its memory for another.
//!
//! Called by the hub's line, and at the end of the reactor. What lies between the loop and the switch is inlined: after a
//! switch the processor mispredicts every return. What must never happen here: user code that unwinds into the loop.
use super::{State, Task};
use crate::green::hub::running;
use crate::greenlet::Greenlet;
use std::rc::Rc;

impl Task {
    /// It will be resumed soon: what that needs may be fetched from memory.
    #[inline]
    pub(in crate::green) fn prefetch(&self) {
        if let Some(greenlet) = self.greenlet.take() {
            greenlet.prefetch();
            self.greenlet.set(Some(greenlet));
        }
    }
    /// Runs it until it waits or ends.
    #[inline(always)]
    pub(in crate::green) fn resume(self: Rc<Self>) {
        if self.state.get() != State::Queued && !self.may_begin() {
            return;
        }
        if Greenlet::thread_is_over() {
            // Run in a destructor of a thread-local: what green threads use of others may be destroyed.
            return self.hub.core().crash();
        }
        let Some(greenlet) = self.greenlet.take() else { return };
        self.state.set(State::Running);
        running::put(self);
        greenlet.transfer();
        // One that waits has left by itself, and the hub's list holds it.
        if let Some(task) = running::take() {
            task.after_the_last(greenlet);
        }
    }
    /// Whether one that is not in the line for having been woken is to run.
    #[inline(never)]
    fn may_begin(self: &Rc<Self>) -> bool {
        match self.state.get() {
            State::Unstarted if self.killed.get() => {
                self.never_ran();
                false
            }
            State::Unstarted => {
                if let Some(greenlet) = self.greenlet.take() {
                    // Whoever spawned it, it returns to the loop that starts it (HB-06).
                    let main_loop = self.hub.loop_id();
                    if !greenlet.has_parent_managed(main_loop) {
                        greenlet.set_parent_managed(&Greenlet::current());
                    }
                    self.greenlet.set(Some(greenlet));
                }
                true
            }
            // At the end they are resumed without having been woken.
            State::Parked => self.hub.is_stopped(),
            _ => false,
        }
    }
    /// It has ended, or is given up.
    #[inline(never)]
    fn after_the_last(self: Rc<Self>, greenlet: Greenlet) {
        self.hide_name();
        match self.state.get() {
            State::Finished => {
                drop(greenlet);
                if !self.held.get() {
                    self.retire();
                }
            }
            State::Leaked => {
                self.leave();
                std::mem::forget(greenlet);
                self.tell_outlet();
            }
            _ => {}
        }
    }
    /// Nobody but the hub's list and the caller has it.
    #[inline]
    pub(super) fn is_alone(task: &Rc<Task>) -> bool {
        Rc::strong_count(task) == 2 && Rc::weak_count(task) == 0
    }
    /// Leaves the hub's list.
    pub(super) fn leave(&self) {
        self.hub.delist(self.key.replace(usize::MAX));
    }
    /// It has a packet, which says when it goes.
    pub(in crate::green) fn hold(&self) {
        self.held.set(true);
    }
    /// Its packet goes.
    #[inline]
    pub(in crate::green) fn let_go(self: &Rc<Self>) {
        self.held.set(false);
        if self.state.get() == State::Finished {
            self.retire();
        }
    }
    /// It has ended, and nobody waits for its outcome: if the caller has the last handle its memory serves another. One that
    /// had a life out of the ordinary is not worth the cleaning.
    #[inline]
    fn retire(self: &Rc<Self>) {
        if Task::is_alone(self) && !self.marked.get() && self.key.get() != usize::MAX {
            drop(self.outlet.take());
            if self.hub.keep_spare(self) {
                return;
            }
        }
        self.leave();
    }
}
