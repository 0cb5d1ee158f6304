//! A lock of the process whose waiting is the green thread's: first come, first served, across OS threads.
//!
//! Used by the standard streams. Its state is under a mutex that is held for moments; the holder only gives it on. What must
//! never happen here: it handed to somebody who has gone; a promise fired or dropped under the mutex.
use crate::deferred::Deferred;
use crate::green::block_on;
use crate::green::hub::Hub;
use crate::green::sleep::infallible;
use crate::green::task::Task;
use crate::reactor::RemotePromise;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

pub(super) struct Gate(Mutex<Inside>);

struct Inside {
    holder: Option<Holder>,
    /// How often the holder has it.
    depth: usize,
    line: VecDeque<Ticket>,
}

/// A green thread, by its address, which stays its as long as it holds the gate; 0: whatever else runs on the OS thread.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Holder {
    thread: ThreadId,
    task: usize,
}

struct Ticket {
    /// Not there any more: who waited has gone.
    number: Arc<()>,
    holder: Holder,
    promise: RemotePromise<()>,
}

fn me() -> (Holder, Option<Rc<Task>>) {
    let task = Hub::existing().and_then(|hub| hub.running()).filter(|task| !task.is_main());
    let address = task.as_ref().map_or(0, |task| Rc::as_ptr(task) as usize);
    (Holder { thread: thread::current().id(), task: address }, task)
}

impl Gate {
    pub(super) const fn new() -> Gate {
        Gate(Mutex::new(Inside { holder: None, depth: 0, line: VecDeque::new() }))
    }
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Waits until it is free. `again`: whoever has it may have it once more.
    ///
    /// # Panics
    /// When the caller has it and `again` is not said; in the main loop, when it has to wait.
    #[track_caller]
    pub(super) fn enter(&self, again: bool) -> Pass<'_> {
        let (holder, task) = me();
        let mut inside = self.inside();
        let entered = match inside.holder {
            None => {
                (inside.holder, inside.depth) = (Some(holder), 1);
                true
            }
            Some(other) if other == holder => {
                assert!(again, "this green thread has the lock already, and would wait for itself");
                inside.depth += 1;
                true
            }
            Some(_) => {
                drop(inside);
                self.wait(holder)
            }
        };
        Pass { gate: self, entered, _task: task }
    }
    #[track_caller]
    fn wait(&self, holder: Holder) -> bool {
        if thread::panicking() {
            // In a destructor nothing waits: it goes on without the lock.
            return false;
        }
        let (promise, entered) = Deferred::from_thread();
        let number = Arc::new(());
        let mut inside = self.inside();
        if inside.holder.is_none() {
            // Left meanwhile.
            (inside.holder, inside.depth) = (Some(holder), 1);
            drop(inside);
            drop((promise, entered.cancel()));
            return true;
        }
        inside.line.push_back(Ticket { number: Arc::clone(&number), holder, promise });
        drop(inside);
        let leaving = Leaving { gate: self, number: &number };
        let entered = infallible(block_on(entered)).is_some();
        if entered {
            std::mem::forget(leaving);
        }
        entered
    }
    fn leave(&self) {
        let mut inside = self.inside();
        inside.depth = inside.depth.saturating_sub(1);
        if inside.depth > 0 {
            return;
        }
        let next = inside.line.pop_front();
        inside.holder = next.as_ref().map(|ticket| ticket.holder);
        inside.depth = usize::from(next.is_some());
        drop(inside);
        if let Some(ticket) = next {
            ticket.promise.callback(());
        }
    }
}

/// Whoever waited has been interrupted.
struct Leaving<'a> {
    gate: &'a Gate,
    number: &'a Arc<()>,
}
impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut inside = self.gate.inside();
        let place = inside.line.iter().position(|ticket| Arc::ptr_eq(&ticket.number, self.number));
        match place {
            Some(place) => {
                let ticket = inside.line.remove(place);
                drop(inside);
                drop(ticket);
            }
            None => {
                // It has been handed over already.
                drop(inside);
                self.gate.leave();
            }
        }
    }
}

/// Whoever has it is inside.
pub(super) struct Pass<'a> {
    gate: &'a Gate,
    entered: bool,
    /// So that no other green thread gets its address. It keeps the pass on its OS thread, too.
    _task: Option<Rc<Task>>,
}
impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.entered {
            self.gate.leave();
        }
    }
}
