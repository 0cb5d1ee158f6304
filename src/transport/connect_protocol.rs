//! One connection for one protocol, as a Deferred: Twisted's `connectProtocol` and `ClientCreator`.
use super::connector::{self, Connector};
use super::{Address, ClientFactory, Destination, Factory, Protocol, TransportRef, UnixPath};
use crate::deferred::{Deferred, Promise};
use crate::error::{ConnectError, ConnectionClosed, ReactorError};
use crate::reactor::Reactor;
use std::cell::Cell;
use std::rc::Rc;

/// The factory of a single connection.
struct Once {
    protocol: Option<Box<dyn Protocol>>,
    promise: Rc<Cell<Option<Promise<TransportRef>>>>,
}

impl Factory for Once {
    fn build_protocol(&mut self, _peer: &Address) -> Option<Box<dyn Protocol>> {
        self.protocol.take()
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
        if self.core().is_none() {
            return Deferred::fail(ReactorError::Closed);
        }
        let (promise, deferred) = Deferred::new();
        let connector = Rc::new(Cell::new(None::<Connector>));
        let attempt = Rc::clone(&connector);
        promise.on_cancel(move || {
            if let Some(connector) = attempt.get() {
                connector.disconnect();
            }
        });
        let promise = Rc::new(Cell::new(Some(promise)));
        let waiting = Rc::clone(&promise);
        let told = move |transport: TransportRef| {
            if let Some(promise) = waiting.take() {
                promise.callback(transport);
            }
        };
        let factory = Once { protocol: Some(protocol), promise };
        connector.set(Some(connector::connect(self, to, Box::new(factory), Some(Box::new(told)))));
        deferred
    }
}
