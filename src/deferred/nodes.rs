//! The kinds of nodes: a promise's, a callback's, the end of a chain, and a future's.
//!
//! User code runs in `accept` and in `cancel`, behind `catch`, with every cell closed.
use super::Deferred;
use super::chain::{Consumer, Next, Node, Out, Source, Ties, run, run_nested, settle};
use crate::error::Cancelled;
use crate::failure::{Failure, Result, catch, drop_quietly, report};
use std::cell::Cell;
use std::panic::Location;
use std::rc::Rc;
use std::task::Waker;

/// The node a promise fires.
pub(super) struct Root<T> {
    out: Out<T>,
    fired: Cell<bool>,
    cancelled: Cell<bool>,
    on_cancel: Cell<Option<Box<dyn FnOnce()>>>,
    made: &'static Location<'static>,
}
impl<T: 'static> Root<T> {
    pub(super) fn new(made: &'static Location<'static>, outcome: Option<Result<T>>) -> Rc<Self> {
        Rc::new(Self {
            fired: Cell::new(outcome.is_some()),
            out: Out::new(Ties::default(), outcome),
            cancelled: Cell::new(false),
            on_cancel: Cell::new(None),
            made,
        })
    }
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }
    pub(super) fn has_fired(&self) -> bool {
        self.fired.get()
    }
    pub(super) fn made(&self) -> &'static Location<'static> {
        self.made
    }
    /// Nobody will ever see the outcome, whose only owner asks.
    pub(super) fn is_forgotten(self: &Rc<Self>) -> bool {
        Rc::strong_count(self) == 1 && !self.out.has_next()
    }
    pub(super) fn on_cancel(&self, f: Box<dyn FnOnce()>) {
        if self.fired.get() {
            return drop_quietly(f);
        }
        let f = match self.on_cancel.take() {
            None => f,
            Some(first) => Box::new(move || {
                first();
                f();
            }),
        };
        self.on_cancel.set(Some(f));
    }
    /// Marks it as fired. Not if it was: an outcome that comes after the cancellation is swallowed.
    pub(super) fn begin(&self) -> bool {
        if self.fired.replace(true) {
            return false;
        }
        if let Some(f) = self.on_cancel.take() {
            drop_quietly(f);
        }
        true
    }
    /// Fires with a failure while the promise is dropped. `begin` was said.
    pub(super) fn lose(self: Rc<Self>, failure: Failure) {
        self.out.put(Err(failure));
        if self.out.has_next() {
            run_nested(self);
        }
    }
    pub(super) fn fire(self: Rc<Self>, outcome: Result<T>) -> Option<Rc<dyn Node>> {
        if !self.begin() {
            return None;
        }
        self.out.put(outcome);
        self.out.pass()
    }
}
impl<T: 'static> Node for Root<T> {
    fn run(self: Rc<Self>) -> Option<Rc<dyn Node>> {
        self.out.pass()
    }
    fn ties(&self) -> &Ties {
        &self.out.ties
    }
    fn next_node(&self) -> Option<Rc<dyn Node>> {
        self.out.next_node()
    }
    fn cancel(self: Rc<Self>) {
        if self.fired.get() || self.cancelled.replace(true) {
            return;
        }
        if let Some(f) = self.on_cancel.take()
            && let Err(panicked) = catch(f)
        {
            report("the on_cancel function of a promise", &panicked);
        }
        run(self.fire(Err(Cancelled.into())));
    }
}
impl<T: 'static> Source<T> for Root<T> {
    fn out(&self) -> &Out<T> {
        &self.out
    }
}

/// One callback or errback.
pub(super) struct Link<U, F> {
    f: Cell<Option<F>>,
    out: Out<U>,
}
impl<U: 'static, F: 'static> Link<U, F> {
    pub(super) fn attach<T: 'static>(source: Rc<dyn Source<T>>, f: F) -> Rc<Self>
    where
        F: FnOnce(Result<T>) -> Deferred<U>,
    {
        let link = Rc::new(Link { f: Cell::new(Some(f)), out: Out::new(Ties::after(&source), None) });
        source.out().set_next(Next::Link(link.clone()));
        link
    }
}
impl<U: 'static, F: 'static> Node for Link<U, F> {
    fn run(self: Rc<Self>) -> Option<Rc<dyn Node>> {
        self.out.pass()
    }
    fn ties(&self) -> &Ties {
        &self.out.ties
    }
    fn next_node(&self) -> Option<Rc<dyn Node>> {
        self.out.next_node()
    }
}
impl<U: 'static, F: 'static> Source<U> for Link<U, F> {
    fn out(&self) -> &Out<U> {
        &self.out
    }
}
impl<T, U: 'static, F: FnOnce(Result<T>) -> Deferred<U> + 'static> Consumer<T> for Link<U, F> {
    fn accept(self: Rc<Self>, outcome: Result<T>) -> Option<Rc<dyn Node>> {
        self.out.ties.cut();
        let f = self.f.take()?;
        let next = Deferred::enter(move || f(outcome));
        settle(self, next)
    }
}

/// The end of a chain: takes the outcome elsewhere, and says which chain to go on with.
pub(super) struct Sink<F> {
    f: Cell<Option<F>>,
    ties: Ties,
}
impl<F: 'static> Sink<F> {
    pub(super) fn attach<T: 'static>(source: &Rc<dyn Source<T>>, f: F) -> Rc<dyn Node>
    where
        F: FnOnce(Result<T>) -> Option<Rc<dyn Node>>,
    {
        let sink = Rc::new(Sink { f: Cell::new(Some(f)), ties: Ties::after(source) });
        source.out().set_next(Next::Link(sink.clone()));
        sink
    }
}
impl<F> Node for Sink<F> {
    fn run(self: Rc<Self>) -> Option<Rc<dyn Node>> {
        None
    }
    fn ties(&self) -> &Ties {
        &self.ties
    }
    fn next_node(&self) -> Option<Rc<dyn Node>> {
        None
    }
}
impl<T, F: FnOnce(Result<T>) -> Option<Rc<dyn Node>>> Consumer<T> for Sink<F> {
    fn accept(self: Rc<Self>, outcome: Result<T>) -> Option<Rc<dyn Node>> {
        self.ties.cut();
        let f = self.f.take()?;
        match catch(move || f(outcome)) {
            Ok(next) => next,
            // What it dropped on the way may be the user's.
            Err(panicked) => {
                report("the end of a Deferred's chain", &panicked);
                None
            }
        }
    }
}

/// Where a future waits: keeps the outcome for it and wakes it.
pub(super) struct Waiting<T> {
    out: Out<T>,
    waker: Cell<Option<Waker>>,
}
impl<T: 'static> Waiting<T> {
    pub(super) fn attach(source: &Rc<dyn Source<T>>) -> Rc<Self> {
        let waiting = Rc::new(Waiting { out: Out::new(Ties::after(source), None), waker: Cell::new(None) });
        source.out().set_next(Next::Link(waiting.clone()));
        waiting
    }
    pub(super) fn set_waker(&self, waker: &Waker) {
        let before = self.waker.take();
        self.waker.set(Some(match before {
            Some(before) if before.will_wake(waker) => before,
            before => {
                let waker = waker.clone();
                drop(before);
                waker
            }
        }));
    }
}
impl<T: 'static> Node for Waiting<T> {
    fn run(self: Rc<Self>) -> Option<Rc<dyn Node>> {
        self.out.pass()
    }
    fn ties(&self) -> &Ties {
        &self.out.ties
    }
    fn next_node(&self) -> Option<Rc<dyn Node>> {
        self.out.next_node()
    }
}
impl<T: 'static> Source<T> for Waiting<T> {
    fn out(&self) -> &Out<T> {
        &self.out
    }
}
impl<T: 'static> Consumer<T> for Waiting<T> {
    fn accept(self: Rc<Self>, outcome: Result<T>) -> Option<Rc<dyn Node>> {
        self.out.ties.cut();
        self.out.put(outcome);
        if let Some(waker) = self.waker.take()
            && let Err(panicked) = catch(move || waker.wake())
        {
            report("the waker of a task that awaits a Deferred", &panicked);
        }
        Some(self)
    }
}
