//! One connection, as a Deferred: Twisted's `connectProtocol` and `ClientCreator`, and what endpoints are made of.
use super::connector::{self, Connector};
use super::{Address, ClientFactory, Destination, Factory, Protocol, TransportRef, UnixPath};
use crate::deferred::{Deferred, Promise};
use crate::error::{ConnectError, ConnectionClosed, ReactorError};
use crate::reactor::Reactor;
use std::cell::Cell;
use std::rc::Rc;

/// Makes the factory of a single connection one that hears how it went.
struct Once {
    factory: Box<dyn Factory>,
    promise: Rc<Cell<Option<Promise<TransportRef>>>>,
}

impl Factory for Once {
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        self.factory.build_protocol(peer)
    }
    fn start_factory(&mut self) {
        self.factory.start_factory();
    }
    fn stop_factory(&mut self) {
        self.factory.stop_factory();
    }
}
impl ClientFactory for Once {
    fn client_connection_failed(&mut self, _connector: Connector, reason: &ConnectError) {
        if let Some(promise) = self.promise.take() {
            promise.errback(reason.clone());
        }
    }
    fn client_connection_lost(&mut self, _connector: Connector, reason: &ConnectionClosed) {
        // Still unfired only when `connection_made` panicked or the connection ended within it.
        if let Some(promise) = self.promise.take() {
            promise.errback(reason.clone());
        }
    }
}

/// A factory with one protocol to give.
struct Only(Option<Box<dyn Protocol>>);
impl Factory for Only {
    fn build_protocol(&mut self, _peer: &Address) -> Option<Box<dyn Protocol>> {
        self.0.take()
    }
}

impl Reactor {
    /// Connects by TCP, one connection for one protocol (Twisted's `connectProtocol`, `ClientCreator`). Fires right after
    /// `connection_made`; fails with [`ConnectError`]. Cancelling it gives the attempt up, and closes a connection that was
    /// made meanwhile.
    pub fn connect_protocol(
        &self,
        to: impl Into<Destination>,
        protocol: impl Protocol + 'static,
    ) -> Deferred<TransportRef> {
        self.connect_once(to.into(), Box::new(protocol))
    }
    /// As [`connect_protocol`](Reactor::connect_protocol), to a path of the file system.
    pub fn connect_protocol_unix(
        &self,
        path: impl Into<UnixPath>,
        protocol: impl Protocol + 'static,
    ) -> Deferred<TransportRef> {
        self.connect_once(Destination::unix(path.into()), Box::new(protocol))
    }

    fn connect_once(&self, to: Destination, protocol: Box<dyn Protocol>) -> Deferred<TransportRef> {
        connect_once(self, to, Box::new(Only(Some(protocol))))
    }
}

/// One attempt at one connection, with a protocol of `factory`. Fires right after its `connection_made`.
pub(crate) fn connect_once(reactor: &Reactor, to: Destination, factory: Box<dyn Factory>) -> Deferred<TransportRef> {
    if reactor.core().is_none() {
        return Deferred::fail(ReactorError::Closed);
    }
    let (promise, deferred) = Deferred::new();
    let connector = Rc::new(Cell::new(None::<Connector>));
    let promise = Rc::new(Cell::new(Some(promise)));
    let (attempt, waiting) = (Rc::clone(&connector), Rc::downgrade(&promise));
    let give_up = move || {
        if let Some(connector) = attempt.get() {
            connector.disconnect();
        }
        // The connector's own answer comes in a later turn.
        if let Some(promise) = waiting.upgrade().and_then(|promise| promise.take()) {
            promise.errback(ConnectError::Cancelled);
        }
    };
    if let Some(unfired) = promise.take() {
        unfired.on_cancel(give_up);
        promise.set(Some(unfired));
    }
    let waiting = Rc::clone(&promise);
    let told = move |transport: TransportRef| {
        if let Some(promise) = waiting.take() {
            promise.callback(transport);
        }
    };
    let factory = Once { factory, promise };
    connector.set(Some(connector::connect(reactor, to, Box::new(factory), Some(Box::new(told)))));
    deferred
}
