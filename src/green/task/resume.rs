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
                    // Whoever spawned it, it returns to the loop (HB-06).
                    greenlet.set_parent_managed(&Greenlet::current());
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
                self.hub.delist(self.key.replace(usize::MAX));
                drop(greenlet);
                self.retire();
            }
            State::Leaked => {
                self.hub.delist(self.key.replace(usize::MAX));
                std::mem::forget(greenlet);
                self.tell_outlet();
            }
            _ => {}
        }
    }
    /// Whoever calls this is about to drop the last handle of it, perhaps: then its memory serves another. One that had a
    /// life out of the ordinary is not worth the cleaning.
    #[inline]
    pub(in crate::green) fn retire(self: &Rc<Self>) {
        let ordinary = self.state.get() == State::Finished
            && Rc::strong_count(self) == 1
            && !self.interrupted.get()
            && self.raised.get() == 0
            && self.key.get() == usize::MAX
            && self.expired.borrow().is_empty()
            && self.name.borrow().is_none();
        if ordinary {
            let old =
                (self.fault.take(), self.cause.take(), self.start.take(), self.outlet.take(), self.greenlet.take());
            drop(old);
            self.hub.keep_spare(self);
        }
    }
}
