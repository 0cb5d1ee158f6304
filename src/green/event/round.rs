//! What lies between two resets of an event: its outcome, and those who wait for that one.
use crate::failure::Result;
use crate::green::task::Waiters;
use std::cell::OnceCell;
use std::rc::Rc;

pub struct Round<T> {
    pub(super) outcome: OnceCell<Result<T>>,
    pub(super) waiters: Waiters,
}
impl<T> Round<T> {
    pub(in crate::green) fn waiters(&self) -> &Waiters {
        &self.waiters
    }
    pub(in crate::green) fn outcome(&self) -> Option<Result<T>>
    where
        T: Clone,
    {
        self.outcome.get().cloned()
    }
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Round { outcome: OnceCell::new(), waiters: Waiters::default() })
    }
}
