//! `Proxy`: an object that is only used on other OS threads, by one call at a time.
//!
//! Its turn is a `Semaphore`'s, given back when the call has really ended, also when its caller has gone. What must never happen
//! here: the lock waited for by the reactor's thread.
use super::{Hands, catch_panic, settle};
use crate::deferred::IntoDeferred;
use crate::error::ReactorError;
use crate::failure::Result;
use crate::green::semaphore::Semaphore;
use crate::green::task::{Waiters, prepare};
use std::cell::Cell;
use std::fmt;
use std::iter::FusedIterator;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

/// An object whose methods block, used on threads of [`tpool`](super), one call at a time (Eventlet's `tpool.Proxy`). Clones are
/// the same object.
///
/// ```
/// use std::collections::HashMap;
/// use twistlet::green::tpool::Proxy;
///
/// let database = Proxy::new(HashMap::new());
/// database.call(|rows| Ok(rows.insert("answer", 42)))?;
/// assert_eq!(database.call(|rows| Ok(rows["answer"]))?, 42);
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct Proxy<T: Send + 'static>(Rc<Inner<T>>);

struct Inner<T: Send + 'static> {
    turn: Semaphore,
    /// Empty when it goes.
    value: Option<Arc<Mutex<T>>>,
}

impl<T: Send + 'static> Proxy<T> {
    /// A proxy of `value`. It is dropped on a thread of the pool as well, since that may block.
    pub fn new(value: T) -> Self {
        Proxy(Rc::new(Inner { turn: Semaphore::new(1), value: Some(Arc::new(Mutex::new(value))) }))
    }
    /// Calls `f` with the object, on a thread of the pool, as [`execute`](super::execute) does. A call whose caller was interrupted
    /// runs to its end; the next waits for that. A panic is the call's failure, and leaves the object as it stands.
    ///
    /// # Errors
    /// As `execute`.
    ///
    /// # Panics
    /// In the main loop and its callbacks.
    ///
    /// # Blocking
    /// The calling green thread until it is its turn and `f` has returned; the others run.
    #[track_caller]
    pub fn call<R>(&self, f: impl FnOnce(&mut T) -> R + Send + 'static) -> Result<R::Value>
    where
        R: IntoDeferred + Send + 'static,
        R::Value: Send,
    {
        drop(prepare()?);
        let permit = self.0.turn.acquire();
        let Some(value) = self.0.value.clone() else { return Err(ReactorError::Stopped.into()) };
        let call = move || f(&mut value.lock().unwrap_or_else(PoisonError::into_inner));
        let deferred = match Hands::current()?.begin(call) {
            Ok(deferred) => deferred,
            Err(call) => return catch_panic(|| settle(call())).and_then(|outcome| outcome),
        };
        // Not by `wait`, whose interruption would be the end as far as anybody can see.
        let done = Rc::new((Cell::new(None), Waiters::default()));
        let tell = Rc::clone(&done);
        let _chain = deferred.add_both(move |outcome| {
            drop(permit);
            tell.0.set(Some(outcome));
            tell.1.wake_all();
        });
        loop {
            if let Some(outcome) = done.0.take() {
                return outcome;
            }
            done.1.wait("a call of a tpool::Proxy", None)?;
        }
    }
}
impl<I: Iterator<Item: Send> + Send + 'static> Proxy<I> {
    /// An iterator whose steps are made on the pool's threads.
    pub fn steps(&self) -> Steps<I> {
        Steps { proxy: self.clone(), ended: false }
    }
}

/// What [`Proxy::steps`] gives.
///
/// # Errors
/// An item is an error where the step panicked or could not be made; it is the last.
///
/// # Blocking
/// `next`, as [`Proxy::call`].
pub struct Steps<I: Send + 'static> {
    proxy: Proxy<I>,
    ended: bool,
}
impl<I: Iterator<Item: Send> + Send + 'static> Iterator for Steps<I> {
    type Item = Result<I::Item>;
    #[track_caller]
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let step = self.proxy.call(|iterator| Ok(iterator.next())).transpose();
        self.ended = !matches!(step, Some(Ok(_)));
        step
    }
}
impl<I: Iterator<Item: Send> + Send + 'static> FusedIterator for Steps<I> {}
impl<I: Send + 'static> fmt::Debug for Steps<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steps").field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Drop for Inner<T> {
    fn drop(&mut self) {
        let Some(value) = self.value.take() else { return };
        super::dispose(value);
    }
}
/// The same object.
impl<T: Send + 'static> Clone for Proxy<T> {
    fn clone(&self) -> Self {
        Proxy(Rc::clone(&self.0))
    }
}
impl<T: Send + 'static> fmt::Debug for Proxy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("busy", &self.0.turn.is_locked()).finish_non_exhaustive()
    }
}
