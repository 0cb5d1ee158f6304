//! The loop and everything that hangs on it. One a thread; handles are cheap clones.
use crate::clock::{Clock, DelayedCall};
use crate::deferred::{Deferred, IntoDeferred};
use crate::failure::Result;
use crate::transport::{
    ClientFactory, Connector, Destination, Factory, ListenAt, ListeningPort, Protocol, TransportRef,
};
use std::future::Future;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A name for this thread's reactor, which the thread owns: `Copy`, so that callbacks may hold it without owning what
/// owns them. It ends with `run`, `close` or the thread, and everything on it is freed; calls on an ended one do
/// nothing or fail with `ReactorError::Closed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reactor {
    generation: u32,
    thread: PhantomData<*const ()>,
}

impl Reactor {
    /// Makes this thread's reactor.
    /// # Errors `ReactorError::AlreadyInstalled` while another lives on this thread; `io::Error`.
    pub fn new() -> Result<Reactor> {
        todo!()
    }
    /// Ends a reactor that will not run. Connections are lost, timers and factories dropped.
    pub fn close(self) {
        todo!()
    }
    /// This thread's reactor, made at first use: what `from twisted.internet import reactor` was.
    pub fn current() -> Reactor {
        todo!()
    }
    pub fn run(&self) -> Result {
        todo!()
    }
    pub fn stop(&self) -> Result {
        todo!()
    }
    pub fn crash(&self) {
        todo!()
    }
    pub fn is_running(&self) -> bool {
        todo!()
    }
    /// Stops, drains, unwinds green threads until the deadline.
    pub fn shutdown(&self, deadline: Duration) -> Deferred<()> {
        todo!()
    }
    pub fn handle_signals(&self, on: bool) {
        todo!()
    }

    pub fn call_later<R: IntoDeferred + 'static>(
        &self,
        delay: Duration,
        call: impl FnOnce() -> R + 'static,
    ) -> DelayedCall {
        todo!()
    }
    pub fn call_soon<R: IntoDeferred + 'static>(&self, call: impl FnOnce() -> R + 'static) {
        todo!()
    }
    pub fn call_when_running<R: IntoDeferred + 'static>(&self, call: impl FnOnce() -> R + 'static) {
        todo!()
    }
    pub fn add_trigger<R: IntoDeferred + 'static>(&self, phase: Phase, call: impl FnOnce() -> R + 'static) -> Trigger {
        todo!()
    }

    pub fn listen_tcp(&self, at: impl Into<ListenAt>, factory: impl Factory + 'static) -> Result<ListeningPort> {
        todo!()
    }
    pub fn listen_unix(&self, path: impl AsRef<Path>, factory: impl Factory + 'static) -> Result<ListeningPort> {
        todo!()
    }
    pub fn connect_tcp(&self, to: impl Into<Destination>, factory: impl ClientFactory + 'static) -> Connector {
        todo!()
    }
    pub fn connect_unix(&self, path: impl AsRef<Path>, factory: impl ClientFactory + 'static) -> Connector {
        todo!()
    }
    /// One connection for one protocol (Twisted's `connectProtocol`, `ClientCreator`). Fires right after `connection_made`.
    pub fn connect_protocol(
        &self,
        to: impl Into<Destination>,
        protocol: impl Protocol + 'static,
    ) -> Deferred<TransportRef> {
        todo!()
    }
    pub fn resolve(&self, host: &str) -> Deferred<Vec<IpAddr>> {
        todo!()
    }

    pub fn call_in_thread(&self, f: impl FnOnce() + Send + 'static) {
        todo!()
    }
    pub fn defer_to_thread<R: IntoDeferred<Value: Send> + Send + 'static>(
        &self,
        f: impl FnOnce() -> R + Send + 'static,
    ) -> Deferred<R::Value> {
        todo!()
    }
    pub fn spawn_local<R: IntoDeferred>(&self, future: impl Future<Output = R> + 'static) -> Deferred<R::Value> {
        todo!()
    }
    pub fn remote(&self) -> Remote {
        todo!()
    }
    /// Watches a descriptor of the caller's (Twisted's addReader, addWriter) until the registration is dropped.
    pub fn watch(&self, descriptor: impl AsFd + 'static, handler: impl Descriptor + 'static) -> Result<Watch> {
        todo!()
    }
    pub fn statistics(&self) -> Statistics {
        todo!()
    }
}
impl Clock for Reactor {
    fn now(&self) -> Instant {
        todo!()
    }
    fn schedule(&self, delay: Duration, call: Box<dyn FnOnce()>) -> DelayedCall {
        todo!()
    }
    fn handle(&self) -> Rc<dyn crate::clock::Clock> {
        todo!()
    }
}

#[derive(Clone, Copy)]
pub enum Phase {
    BeforeStartup,
    DuringStartup,
    AfterStartup,
    BeforeShutdown,
    DuringShutdown,
    AfterShutdown,
}
#[derive(Clone, Copy)]
pub struct Trigger(u32, PhantomData<*const ()>);
impl Trigger {
    pub fn remove(self) -> bool {
        todo!()
    }
}
pub trait Descriptor {
    fn readable(&mut self) {}
    fn writable(&mut self) {}
}
pub struct Watch(Rc<()>);
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Statistics {
    pub turns: u64,
    pub timers: usize,
    pub descriptors: usize,
}

/// The one handle that other threads may hold.
#[derive(Clone)]
pub struct Remote(std::sync::Arc<()>);
impl Remote {
    /// # Errors `ReactorError::Stopped`.
    pub fn call_from_thread<R: IntoDeferred>(&self, f: impl FnOnce(&Reactor) -> R + Send + 'static) -> Result {
        todo!()
    }
    /// Waits on the calling thread.
    pub fn blocking_call<R: IntoDeferred<Value: Send>>(
        &self,
        f: impl FnOnce(&Reactor) -> R + Send + 'static,
    ) -> Result<R::Value> {
        todo!()
    }
}
const _: () = {
    const fn assert_send_sync<T: Send + Sync + Clone>() {}
    assert_send_sync::<Remote>()
};
