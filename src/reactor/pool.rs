//! The reactor's thread pool (placeholder).
use super::Reactor;
use crate::deferred::{Deferred, IntoDeferred};

pub(crate) struct Pool {}
impl Pool {
    pub(super) fn new() -> Self {
        Pool {}
    }
    pub(super) fn stop(&self) {}
}
impl Reactor {
    /// todo
    pub fn call_in_thread(&self, f: impl FnOnce() + Send + 'static) {
        std::thread::spawn(f);
    }
    /// todo
    pub fn defer_to_thread<R>(&self, f: impl FnOnce() -> R + Send + 'static) -> Deferred<R::Value>
    where
        R: IntoDeferred + Send + 'static,
        R::Value: Send,
    {
        let _ = f;
        todo!()
    }
}
