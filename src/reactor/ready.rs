//! The ready queue: calls for the next turn, and work that is queued without an allocation.
//!
//! Anybody may queue; the loop alone runs it, once a turn. What must never happen here: the queue borrowed while a job runs.
use super::core::{Core, State};
use crate::failure;
use std::rc::Rc;

/// Work that is queued without an allocation: green threads that are to go on, a future's task.
pub(crate) trait Runnable {
    fn run(self: Rc<Self>);
}

pub(super) enum Job {
    Call(Box<dyn FnOnce()>),
    Run(Rc<dyn Runnable>),
}

impl Core {
    /// Queues a call for the next turn.
    pub(crate) fn call_soon(&self, call: Box<dyn FnOnce()>) {
        if self.state.get() != State::Closed {
            self.change_queue_mark();
            self.ready.borrow_mut().push_back(Job::Call(call));
        }
    }
    /// Queues work for the next turn, without an allocation.
    #[inline]
    pub(crate) fn run_soon(&self, work: Rc<dyn Runnable>) {
        if self.state.get() != State::Closed {
            self.change_queue_mark();
            self.ready.borrow_mut().push_back(Job::Run(work));
        }
    }

    pub(super) fn run_ready(&self) {
        let mut left = self.ready.borrow().len();
        self.change_queue_mark();
        // What is queued meanwhile waits for the next turn.
        while left > 0 {
            // One guard for the whole run of the queue: a panic costs a new one, an ordinary job none.
            let run = failure::catch(|| {
                while left > 0 {
                    left -= 1;
                    let job = self.ready.borrow_mut().pop_front();
                    self.clock_is_stale();
                    match job {
                        Some(Job::Run(work)) => work.run(),
                        Some(Job::Call(call)) => call(),
                        None => left = 0,
                    }
                }
            });
            if let Err(failure) = run {
                failure::report("a queued call", &failure);
            }
        }
    }
    /// What is queued while this stays the same is queued without anything in between, and runs in the same turn.
    #[inline]
    #[cfg(feature = "green")]
    pub(crate) fn queue_mark(&self) -> u64 {
        self.queue_mark.get()
    }
    #[inline]
    fn change_queue_mark(&self) {
        self.queue_mark.set(self.queue_mark.get() + 1);
    }
    /// User code is about to run: whoever asks for the clock then reads it anew.
    #[inline]
    pub(crate) fn clock_is_stale(&self) {
        self.pulse.beat();
    }
}
