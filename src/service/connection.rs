//! `ConnectionService`: one connection, from start to stop.
use super::Service;
use super::watched::{WatchedFactory, Watcher};
use crate::deferred::{Canceller, Deferred, Promise};
use crate::endpoint::ClientEndpoint;
use crate::error::ConnectionClosed;
use crate::shared::Shared;
use crate::transport::{Factory, TransportRef};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

/// Connects once when it is started and closes the connection when it is stopped (Twisted's `TCPClient` and its like). One that
/// is lost is not made again: for that there is [`ClientService`](super::ClientService). Clones are the same service.
///
/// Its start fires when there is a connection, and fails with [`ConnectError`](crate::ConnectError); its stop fires when the
/// connection is gone.
#[derive(Clone)]
pub struct ConnectionService(Rc<Inner>);

struct Inner {
    endpoint: Box<dyn ClientEndpoint>,
    factory: Shared<Box<dyn Factory>>,
    attempt: RefCell<Option<Rc<Attempt>>>,
}

/// What one start has begun.
#[derive(Default)]
struct Attempt {
    canceller: RefCell<Option<Canceller>>,
    transport: Cell<Option<TransportRef>>,
    unwanted: Cell<bool>,
    over: Cell<bool>,
    stopping: RefCell<Option<Promise<()>>>,
}

impl ConnectionService {
    /// A service that has a connection of `endpoint` with a protocol of `factory`.
    pub fn new(endpoint: impl ClientEndpoint + 'static, factory: impl Factory + 'static) -> Self {
        ConnectionService(Rc::new(Inner {
            endpoint: Box::new(endpoint),
            factory: Shared::new(Box::new(factory)),
            attempt: RefCell::default(),
        }))
    }
    /// The connection, while there is one.
    pub fn connection(&self) -> Option<TransportRef> {
        let attempt = self.0.attempt.borrow();
        attempt.as_ref().and_then(|attempt| attempt.transport.get()).filter(|transport| transport.is_connected())
    }
}

impl Attempt {
    fn end(&self) {
        self.over.set(true);
        let stopping = self.stopping.take();
        if let Some(promise) = stopping {
            promise.callback(());
        }
    }
}
impl Watcher for Attempt {
    fn made(&self, _attempt: u64, transport: TransportRef) {
        self.transport.set(Some(transport));
    }
    fn lost(self: Rc<Self>, _attempt: u64, _reason: &ConnectionClosed) {
        self.end();
    }
}

impl Service for ConnectionService {
    fn start_service(&mut self) -> Deferred<()> {
        let attempt = Rc::new(Attempt::default());
        *self.0.attempt.borrow_mut() = Some(Rc::clone(&attempt));
        let factory = WatchedFactory { factory: self.0.factory.clone(), watcher: Rc::clone(&attempt) as _, attempt: 0 };
        let connecting = self.0.endpoint.connect_boxed(Box::new(factory));
        *attempt.canceller.borrow_mut() = Some(connecting.canceller());
        connecting.add_both(move |outcome| {
            match &outcome {
                // It could not be cancelled.
                Ok(transport) if attempt.unwanted.get() => transport.lose_connection(),
                Ok(transport) => attempt.transport.set(Some(*transport)),
                Err(_) => attempt.end(),
            }
            outcome.map(drop)
        })
    }
    fn stop_service(&mut self) -> Deferred<()> {
        let attempt = self.0.attempt.take();
        let Some(attempt) = attempt.filter(|attempt| !attempt.over.get()) else { return Deferred::succeed(()) };
        let (promise, stopped) = Deferred::new();
        *attempt.stopping.borrow_mut() = Some(promise);
        attempt.unwanted.set(true);
        if let Some(transport) = attempt.transport.get() {
            transport.lose_connection();
        }
        let canceller = attempt.canceller.take();
        if let Some(canceller) = canceller {
            canceller.cancel();
        }
        stopped
    }
}
impl fmt::Debug for ConnectionService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionService").field("connection", &self.connection()).finish_non_exhaustive()
    }
}
