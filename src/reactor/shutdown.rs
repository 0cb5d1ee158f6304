//! A graceful end: ports accept no more, connections flush and close, and when the last is gone, or time is up, the reactor
//! stops. Built on what sources know how to do (`Source::drain`); the loop looks once a turn while a shutdown is under way.
use super::Reactor;
use super::core::Core;
use crate::deferred::{Deferred, Promise};
use crate::error::ReactorError;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// A shutdown under way.
#[derive(Default)]
pub(super) struct Draining {
    active: Cell<bool>,
    waiting: RefCell<Vec<Promise<()>>>,
    /// Those that close nothing, and only want to know.
    watching: RefCell<Vec<Promise<()>>>,
}

impl Reactor {
    /// Ends the reactor gracefully: ports stop accepting, every connection sends what was written and closes; when the last
    /// is gone, or after `deadline`, the Deferred fires and the reactor [stops](Reactor::stop), which loses what is left
    /// and unwinds the green threads that still run.
    ///
    /// Descriptors of [`watch`](Reactor::watch) and green sockets are not waited for.
    pub fn shutdown(&self, deadline: Duration) -> Deferred<()> {
        let Some(core) = self.core() else { return Deferred::fail(ReactorError::Closed) };
        let (promise, deferred) = Deferred::new();
        core.draining.waiting.borrow_mut().push(promise);
        if !core.draining.active.replace(true) {
            for source in core.all_sources() {
                source.drain();
            }
            let late = Rc::downgrade(&core);
            core.schedule(
                deadline,
                Box::new(move || {
                    if let Some(core) = late.upgrade() {
                        core.drained();
                    }
                }),
            );
            // The loop looks before it polls again.
            core.call_soon(Box::new(|| {}));
        }
        deferred
    }
}

impl Core {
    /// Fires in a later turn, once there is nothing that a shutdown would wait for. Closes nothing.
    pub(crate) fn when_drained(&self) -> Deferred<()> {
        let (promise, deferred) = Deferred::new();
        self.draining.watching.borrow_mut().push(promise);
        self.call_soon(Box::new(|| {}));
        deferred
    }
    /// Once a turn: whether what a shutdown waits for is gone.
    pub(super) fn look_whether_drained(self: &Rc<Self>) {
        if !self.draining.watching.borrow().is_empty() && !self.all_sources().iter().any(|source| source.drains()) {
            let watching = std::mem::take(&mut *self.draining.watching.borrow_mut());
            for promise in watching {
                self.guard("who waited for the last connection", || promise.callback(()));
            }
        }
        if self.draining.active.get() && !self.all_sources().iter().any(|source| source.drains()) {
            self.drained();
        }
    }
    fn drained(self: &Rc<Self>) {
        if !self.draining.active.replace(false) {
            return;
        }
        let waiting = std::mem::take(&mut *self.draining.waiting.borrow_mut());
        for promise in waiting {
            self.guard("a shutdown's Deferred", || promise.callback(()));
        }
        if Reactor::of(self).stop().is_err() {
            // It does not run: there is nothing to stop but what there is to close. A stop under way goes on.
            if !self.is_in_loop() {
                self.end();
            }
        }
    }
}
