//! Futures on the reactor (placeholder).
use super::Reactor;
use crate::deferred::{Deferred, IntoDeferred};
impl<T: 'static> Deferred<T> {
    /// Drives a future on this thread's reactor; its first step runs at once.
    pub fn from_future<R: IntoDeferred<Value = T>>(future: impl Future<Output = R> + 'static) -> Self {
        let _ = future;
        todo!()
    }
}
impl Reactor {
    /// todo
    pub fn spawn_local<R: IntoDeferred>(&self, future: impl Future<Output = R> + 'static) -> Deferred<R::Value> {
        let _ = future;
        todo!()
    }
}
