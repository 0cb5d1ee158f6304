//! Awaiting a Deferred: `async fn` over Deferreds is what `inlineCallbacks` was.
//!
//! Works under any executor of the same thread. What drives futures on the reactor lives above.
use super::chain::{Node, Source};
use super::nodes::Waiting;
use super::{Deferred, State};
use crate::failure::Result;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A Deferred being awaited. Dropped before the outcome came, it cancels the Deferred, as a dropped future does.
pub struct DeferredFuture<T: 'static> {
    deferred: Option<Deferred<T>>,
    waiting: Option<Rc<Waiting<T>>>,
}

impl<T: 'static> IntoFuture for Deferred<T> {
    type Output = Result<T>;
    type IntoFuture = DeferredFuture<T>;
    fn into_future(self) -> DeferredFuture<T> {
        DeferredFuture { deferred: Some(self), waiting: None }
    }
}

// Nothing in it is pinned.
impl<T> Unpin for DeferredFuture<T> {}

impl<T: 'static> Future for DeferredFuture<T> {
    type Output = Result<T>;
    /// # Panics
    /// If it is polled after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let Some(deferred) = self.deferred.take() else { panic!("a Deferred was awaited again after it was ready") };
        let deferred = match deferred.try_take() {
            Ok(outcome) => return Poll::Ready(outcome),
            Err(deferred) => deferred,
        };
        let waiting = match self.waiting.take() {
            Some(waiting) => waiting,
            None => match deferred.into_state() {
                Ok(outcome) => return Poll::Ready(outcome),
                Err(node) => Waiting::attach(&node),
            },
        };
        waiting.set_waker(context.waker());
        self.deferred = Some(Deferred::pending(waiting.clone() as Rc<dyn Source<T>>));
        self.waiting = Some(waiting);
        Poll::Pending
    }
}
impl<T: 'static> Drop for DeferredFuture<T> {
    fn drop(&mut self) {
        if let Some(mut deferred) = self.deferred.take()
            && let State::Pending(node) = deferred.fetch()
        {
            let node: Rc<dyn Node> = node.clone();
            super::chain::cancel(node);
        }
    }
}
