//! The ready queue: calls for the next turn, and work that is queued without an allocation.
//!
//! Anybody may queue; the loop alone runs it, once a turn. What must never happen here: the queue borrowed while a job runs.
use super::core::{Core, State};
use crate::failure;
use std::rc::Rc;

/// How far ahead in the queue memory is fetched, and in how long a queue: what takes turns in a short one is in the cache.
const PREFETCH: usize = 1;
const LONG_QUEUE: usize = 256;

/// Work that is queued without an allocation: a green thread that is to go on, a future's task.
pub(crate) trait Runnable {
    fn run(self: Rc<Self>);
    /// It is going to run soon: its memory may be fetched.
    #[inline]
    fn prefetch(&self) {}
}

pub(super) enum Job {
    Call(Box<dyn FnOnce()>),
    Run(Rc<dyn Runnable>),
}

impl Core {
    /// Queues a call for the next turn.
    pub(crate) fn call_soon(&self, call: Box<dyn FnOnce()>) {
        if self.state.get() != State::Closed {
            self.ready.borrow_mut().push_back(Job::Call(call));
        }
    }
    /// Queues work for the next turn, without an allocation.
    #[inline]
    pub(crate) fn run_soon(&self, work: Rc<dyn Runnable>) {
        if self.state.get() != State::Closed {
            self.ready.borrow_mut().push_back(Job::Run(work));
        }
    }

    pub(super) fn run_ready(&self) {
        let mut left = self.ready.borrow().len();
        // What is queued meanwhile waits for the next turn.
        while left > 0 {
            // One guard for the whole run of the queue: a panic costs a new one, an ordinary job none.
            let run = failure::catch(|| {
                while left > 0 {
                    left -= 1;
                    let job = self.next_job();
                    self.stale.set(true);
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
    #[inline]
    fn next_job(&self) -> Option<Job> {
        let mut ready = self.ready.borrow_mut();
        let job = ready.pop_front();
        if ready.len() > LONG_QUEUE
            && let Some(Job::Run(later)) = ready.get(PREFETCH)
        {
            later.prefetch();
        }
        job
    }
}
