//! What passes between a green thread and the holder of its handle.
//!
//! The handle is one, so is whoever waits. What must never happen here: user code (a link, a value's destructor) run while a
//! cell is borrowed.
use super::builder::Outcome;
use crate::deferred::Promise;
use crate::failure::{self, Failure, Result};
use crate::green::task::{Outlet, Task, Waiter};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

pub(super) type Link<T> = Box<dyn FnOnce(Result<&T, &Failure>)>;

pub(super) struct Packet<T: 'static> {
    outcome: Cell<Option<Result<T>>>,
    /// The outcome is there, or was.
    ended: Cell<bool>,
    waiter: Cell<Option<Waiter>>,
    links: RefCell<VecDeque<Link<T>>>,
    showing: Cell<bool>,
    promise: Cell<Option<Promise<T>>>,
    /// Somebody has seen a failure.
    observed: Cell<bool>,
    about: Rc<Task>,
}

impl<T: 'static> Packet<T> {
    pub(super) fn new(about: &Rc<Task>) -> Rc<Packet<T>> {
        Rc::new(Packet {
            outcome: Cell::new(None),
            ended: Cell::new(false),
            waiter: Cell::new(None),
            links: RefCell::new(VecDeque::new()),
            showing: Cell::new(false),
            promise: Cell::new(None),
            observed: Cell::new(false),
            about: Rc::clone(about),
        })
    }
    /// The outcome, for whom it is shown to nobody else any more.
    #[inline]
    pub(super) fn take(&self) -> Option<Result<T>> {
        self.outcome.take()
    }
    pub(super) fn set_waiter(&self, waiter: Waiter) {
        let old = self.waiter.replace(Some(waiter));
        drop(old);
    }
    pub(super) fn set_promise(&self, promise: Promise<T>) {
        let old = self.promise.replace(Some(promise));
        drop(old);
    }
    pub(super) fn link(&self, link: Link<T>) {
        self.links.borrow_mut().push_back(link);
        if self.ended.get() {
            self.show();
        }
    }
    /// Shows the outcome to the links, first come first served; those that are linked meanwhile too, without recursion.
    fn show(&self) {
        if self.showing.replace(true) {
            return;
        }
        loop {
            let link = self.links.borrow_mut().pop_front();
            let Some(link) = link else { break };
            // Out of its cell while it is shown: nobody can take it from under the link.
            let Some(outcome) = self.outcome.take() else { break };
            if outcome.is_err() {
                self.observed.set(true);
            }
            let shown = failure::catch(|| link(outcome.as_ref()));
            self.outcome.set(Some(outcome));
            if let Err(failure) = shown {
                failure::report(format_args!("a link of {}", self.about.name()), &failure);
                failure::drop_quietly(failure);
            }
        }
        self.showing.set(false);
    }
}

impl<T: 'static> Outcome<T> for Packet<T> {
    /// Links, then the Deferred, then whoever waits.
    fn publish(&self, outcome: Result<T>) {
        self.outcome.set(Some(outcome));
        self.ended.set(true);
        if !self.links.borrow().is_empty() {
            self.show();
        }
        if let Some(promise) = self.promise.take() {
            match self.outcome.take() {
                Some(Ok(value)) => promise.callback(value),
                Some(Err(failure)) => promise.errback(failure),
                None => drop(promise),
            }
        }
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }
}

impl<T: 'static> Outlet for Packet<T> {
    fn ended_by(&self, failure: Failure) {
        self.publish(Err(failure));
    }
}

impl<T: 'static> Drop for Packet<T> {
    fn drop(&mut self) {
        if let Some(Err(failure)) = self.outcome.get_mut()
            && !self.observed.get()
        {
            self.about.report_unobserved(failure);
        }
    }
}
