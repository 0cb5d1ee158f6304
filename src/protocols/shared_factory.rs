//! One factory behind several connection attempts, or behind protocols that build theirs later: it is started once, and
//! stopped when the last who uses it has left. Nothing of it is public.
use crate::address::Address;
use crate::failure;
use crate::transport::{Factory, Protocol};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

#[derive(Clone)]
pub(crate) struct SharedFactory(Rc<Inner>);

struct Inner {
    /// Out while it runs.
    factory: RefCell<Option<Box<dyn Factory>>>,
    users: Cell<usize>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        failure::drop_quietly(self.factory.take());
    }
}

impl SharedFactory {
    pub(crate) fn new(factory: Box<dyn Factory>) -> Self {
        SharedFactory(Rc::new(Inner { factory: RefCell::new(Some(factory)), users: Cell::new(0) }))
    }
    fn with<R>(&self, call: impl FnOnce(&mut dyn Factory) -> R) -> Option<R> {
        let mut factory = self.0.factory.take()?;
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| call(&mut *factory)));
        *self.0.factory.borrow_mut() = Some(factory);
        match outcome {
            Ok(value) => Some(value),
            // Contained, and logged, by who called us.
            Err(payload) => std::panic::resume_unwind(payload),
        }
    }
    /// Somebody uses it from now on; a panic of `start_factory` is logged.
    pub(crate) fn enter(&self) {
        self.contained("start_factory", Self::begin);
    }
    /// Somebody uses it no more; a panic of `stop_factory` is logged.
    pub(crate) fn leave(&self) {
        self.contained("stop_factory", Self::end);
    }
    fn contained(&self, what: &str, call: impl FnOnce(&Self)) {
        if let Err(panicked) = failure::catch(|| call(self)) {
            failure::report(format_args!("{what} of a shared factory"), &panicked);
        }
    }
    fn begin(&self) {
        let users = self.0.users.get();
        self.0.users.set(users + 1);
        if users == 0 {
            self.with(|factory| factory.start_factory());
        }
    }
    fn end(&self) {
        let users = self.0.users.get().saturating_sub(1);
        self.0.users.set(users);
        if users == 0 {
            self.with(|factory| factory.stop_factory());
        }
    }
}

impl Factory for SharedFactory {
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        self.with(|factory| factory.build_protocol(peer)).flatten()
    }
    fn start_factory(&mut self) {
        self.begin();
    }
    fn stop_factory(&mut self) {
        self.end();
    }
}
