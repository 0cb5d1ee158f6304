//! Green threads: blocking style on the reactor.
pub mod event;
pub mod net;
pub mod proc;
pub mod queue;
pub mod scope;
pub mod semaphore;
pub mod transport;

pub use event::Event;
pub use queue::Queue;
pub use scope::scope;
pub use semaphore::Semaphore;
pub use transport::{
    GreenClientCreator, GreenTransport, LineOnlyReceiverTransport, SimpleSpawnFactory, SpawnFactory,
    UnbufferedTransport,
};

use crate::deferred::{Deferred, IntoDeferred};
use crate::error::TimedOut;
use crate::failure::{Failure, Result};
use crate::reactor::Reactor;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

/// The calling greenlet becomes the main loop; `reactor.run()` follows.
pub fn join_reactor(reactor: &Reactor) -> Result {
    todo!()
}

/// What `block_on` waits for. An owned one gives its value away and is cancelled when the wait is interrupted; a
/// borrowed one keeps it.
pub trait Waitable {
    type Output;
    fn wait(self) -> Self::Output;
}
impl<T: 'static> Waitable for Deferred<T> {
    type Output = Result<T>;
    fn wait(self) -> Result<T> {
        todo!()
    }
}
impl<'a, T: 'static> Waitable for &'a mut Deferred<T> {
    type Output = Result<&'a T>;
    fn wait(self) -> Result<&'a T> {
        todo!()
    }
}
#[track_caller]
pub fn block_on<W: Waitable>(what: W) -> W::Output {
    what.wait()
}

pub fn spawn<R: IntoDeferred + 'static>(f: impl FnOnce() -> R + 'static) -> GreenThread<R::Value> {
    todo!()
}
pub fn spawn_after<R: IntoDeferred + 'static>(
    delay: Duration,
    f: impl FnOnce() -> R + 'static,
) -> GreenThread<R::Value> {
    todo!()
}
/// `spawn` under the name Twisted programs know.
pub fn call_in_green_thread<R: IntoDeferred + 'static>(f: impl FnOnce() -> R + 'static) -> GreenThread<R::Value> {
    spawn(f)
}
/// Cancelling the Deferred kills the green thread.
pub fn defer_to_green_thread<R: IntoDeferred + 'static>(f: impl FnOnce() -> R + 'static) -> Deferred<R::Value> {
    todo!()
}
pub fn sleep(time: Duration) {
    todo!()
}
pub fn yield_now() {
    todo!()
}
pub fn kill<T>(thread: &GreenThread<T>) {
    thread.kill()
}
/// Unwinds `f` at its next switch after `limit`. An inner deadline's `TimedOut` is `f`'s own value and stays inside `Ok`.
pub fn with_timeout<T>(limit: Duration, f: impl FnOnce() -> T) -> Result<T, TimedOut> {
    todo!()
}
pub fn wait_all<T>(threads: impl IntoIterator<Item = GreenThread<T>>) -> Vec<Result<T>> {
    todo!()
}

/// Dropping it detaches.
pub struct GreenThread<T>(PhantomData<Rc<T>>);
impl<T> GreenThread<T> {
    pub fn wait(self) -> Result<T> {
        todo!()
    }
    /// `Err` gives the thread back: it is still running.
    pub fn wait_timeout(self, limit: Duration) -> Result<Result<T>, Self> {
        todo!()
    }
    pub fn kill(&self) {
        todo!()
    }
    pub fn is_finished(&self) -> bool {
        todo!()
    }
    pub fn link(&self, f: impl FnOnce(Result<&T, &Failure>) + 'static) {
        todo!()
    }
}
impl<T: 'static> IntoDeferred for GreenThread<T> {
    type Value = T;
    fn into_deferred(self) -> Deferred<T> {
        todo!()
    }
}
impl<T: 'static> Waitable for GreenThread<T> {
    type Output = Result<T>;
    fn wait(self) -> Result<T> {
        todo!()
    }
}
