//! `block_on`: a Deferred as a synchronous call. Fired ones are taken without a switch, anywhere; for others the green
//! thread parks, and whoever fires the Deferred only wakes it.
mod future;

pub use future::block_on_future;

use super::task::{Waiter, prepare};
use crate::deferred::{Canceller, Deferred, IntoDeferred};
use crate::failure::Result;
use std::cell::Cell;
use std::rc::Rc;

/// What [`block_on`] waits for: a `Deferred`, whose value it takes and which it cancels when the wait is interrupted; a
/// `&mut Deferred`, which keeps its value and is left alone; a `GreenThread`.
pub trait Waitable {
    /// What the wait gives.
    type Output;
    /// [`block_on`].
    ///
    /// # Blocking
    /// Until it is there.
    fn wait(self) -> Self::Output;
}

/// Waits for a Deferred and gives its value or failure (twistedutil's `block_on`).
///
/// ```
/// use twistlet::green::block_on;
/// use twistlet::Reactor;
///
/// let reactor = Reactor::current();
/// let sum = block_on(reactor.defer_to_thread(|| Ok((1..=10).sum::<u32>())))?;
/// assert_eq!(sum, 55);
/// # Ok::<(), twistlet::Failure>(())
/// ```
///
/// # Errors
/// The Deferred's failure; [`ReactorError::Stopped`](crate::error::ReactorError::Stopped);
/// [`Deadlock`](crate::error::Deadlock) on MAIN.
///
/// # Panics
/// In the main loop and its callbacks, when the Deferred has not fired.
///
/// # Blocking
/// Until it has fired.
#[track_caller]
pub fn block_on<W: Waitable>(what: W) -> W::Output {
    what.wait()
}

/// Cancels the Deferred when the wait for it is left by unwinding or by an error.
struct CancelUnlessDone(Option<Canceller>);
impl Drop for CancelUnlessDone {
    fn drop(&mut self) {
        if let Some(canceller) = self.0.take() {
            canceller.cancel();
        }
    }
}

impl<T: 'static> Waitable for Deferred<T> {
    type Output = Result<T>;
    #[track_caller]
    fn wait(self) -> Result<T> {
        let unfired = match self.try_take() {
            Ok(outcome) => return outcome,
            Err(unfired) => unfired,
        };
        // Before `prepare`, which unwinds where a kill or a deadline is due already.
        let mut guard = CancelUnlessDone(Some(unfired.canceller()));
        let wait = prepare()?;
        let slot = Rc::new(Cell::new(None));
        let (filled, waiter) = (Rc::clone(&slot), wait.waiter());
        let _chain = unfired.add_both(move |outcome| {
            filled.set(Some(outcome));
            waiter.wake();
        });
        wait.park("a Deferred")?;
        guard.0 = None;
        match slot.take() {
            Some(outcome) => outcome,
            None => Err(crate::error::ReactorError::Stopped.into()),
        }
    }
}

impl<'a, T: 'static> Waitable for &'a mut Deferred<T> {
    type Output = Result<&'a T>;
    #[track_caller]
    fn wait(self) -> Result<&'a T> {
        while self.result().is_none() {
            let wait = prepare()?;
            let waiter: Waiter = wait.waiter();
            self.observe(move |_| {
                waiter.wake();
            });
            wait.park("a Deferred")?;
        }
        match self.result() {
            Some(Ok(value)) => Ok(value),
            Some(Err(failure)) => Err(failure.clone()),
            None => Err(crate::error::ReactorError::Stopped.into()),
        }
    }
}

/// What a green thread's body returned, waited for where that is a Deferred.
#[track_caller]
pub(super) fn settle<R: IntoDeferred>(returned: R) -> Result<R::Value>
where
    R::Value: 'static,
{
    returned.into_deferred().wait()
}
