//! The producer's end of a Deferred, and the two handles a consumer may give away: to cancel it, to hold it.
use super::IntoDeferred;
use super::chain::{self, Mark, Node};
use super::nodes::Root;
use crate::error::PromiseDropped;
use crate::failure::{Failure, Result, catch, report};
use std::fmt;
use std::rc::Rc;

/// The producer's end; firing consumes it. Dropped unfired, it fires [`PromiseDropped`] for whoever still waits.
///
/// Firing twice does not compile:
///
/// ```compile_fail,E0382
/// let (promise, deferred) = twistlet::Deferred::new();
/// promise.callback(1);
/// promise.callback(2);
/// ```
///
/// (A promise that is dropped because of what another dropped promise did runs its callbacks when that one is done.)
pub struct Promise<T: 'static>(pub(super) Option<Rc<Root<T>>>);

/// Cancels the Deferred it was taken from; [`Deferred::cancel`](super::Deferred::cancel) for whoever does not own the Deferred.
///
/// It follows its chain: whatever was added to the Deferred since, it cancels what the chain waits for now. Owns
/// nothing: when the chain has come to its end, or when it was given to another chain, it does nothing.
#[derive(Clone)]
pub struct Canceller(pub(super) Rc<Mark>);

/// The chain stands still while this lives. See [`Deferred::pause`](super::Deferred::pause).
#[must_use = "the chain goes on when this is dropped"]
pub struct Pause(pub(super) Option<Rc<dyn Node>>);

impl<T: 'static> Promise<T> {
    /// Fires with a value. Runs the callbacks that were added, here and now.
    ///
    /// If the Deferred was cancelled meanwhile, the value is dropped.
    pub fn callback(mut self, value: T) {
        if let Some(root) = self.0.take() {
            chain::run(root.fire(Ok(value)));
        }
    }
    /// Fires with a failure.
    #[track_caller]
    pub fn errback(self, error: impl Into<Failure>) {
        let failure = error.into();
        self.settle(Err(failure));
    }
    /// Fires with a result, or with what another Deferred will give (Twisted's `other.chainDeferred(this)`).
    ///
    /// If this one was cancelled meanwhile, the other is cancelled too.
    pub fn resolve(mut self, outcome: impl IntoDeferred<Value = T>) {
        let Some(root) = self.0.take() else { return };
        let deferred = outcome.into_deferred();
        if root.begin() {
            chain::run(chain::settle(root, deferred));
        } else {
            deferred.cancel();
            deferred.sink(|_late| None);
        }
    }
    /// Calls `f` once if the Deferred is cancelled before it fires; at once if it was. A later `callback` is swallowed.
    ///
    /// `f` runs inside `cancel`. It may fire the promise itself, if it can get at it; otherwise the Deferred fails with
    /// [`Cancelled`](crate::Cancelled) when `f` returns. It is dropped when the promise fires. A panic in it is logged. Several are
    /// called in the order they were given.
    pub fn on_cancel(&self, f: impl FnOnce() + 'static) {
        match &self.0 {
            Some(root) if !root.is_cancelled() => root.on_cancel(Box::new(f)),
            _ => {
                if let Err(panicked) = catch(f) {
                    report("the on_cancel function of a promise", &panicked);
                }
            }
        }
    }
    /// Whether the Deferred was cancelled: nobody waits for the outcome any more.
    pub fn is_cancelled(&self) -> bool {
        self.0.as_ref().is_some_and(|root| root.is_cancelled())
    }
    /// Whether nobody is left to see the outcome: cancelled, or dropped without a handler.
    pub fn is_forgotten(&self) -> bool {
        self.0.as_ref().is_none_or(|root| root.has_fired() || root.is_forgotten())
    }

    fn settle(self, outcome: Result<T>) {
        chain::run(self.put(outcome));
    }
    /// Fires, and leaves it to the caller to run the chain.
    pub(super) fn put(mut self, outcome: Result<T>) -> Option<Rc<dyn Node>> {
        self.0.take()?.fire(outcome)
    }
}
impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        if let Some(root) = self.0.take()
            && !root.is_forgotten()
            && root.begin()
        {
            let failure = Failure::at(root.made(), PromiseDropped);
            root.lose(failure);
        }
    }
}
impl<T> fmt::Debug for Promise<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = if self.is_cancelled() { "cancelled" } else { "unfired" };
        write!(f, "Promise<{}>({text})", std::any::type_name::<T>())
    }
}

impl Canceller {
    /// As [`Deferred::cancel`](super::Deferred::cancel).
    pub fn cancel(&self) {
        if let Some(node) = self.0.node() {
            chain::cancel(node);
        }
    }
}
impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Canceller")
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        if let Some(node) = self.0.take() {
            chain::resume(node);
        }
    }
}
impl fmt::Debug for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pause")
    }
}
