//! TLS with a service's servers: which name they must prove, and waiting for the handshake, so that a server that fails it makes
//! way for the next one.
use super::SrvTarget;
use crate::deferred::{Deferred, Promise};
use crate::endpoint::{ClientEndpoint, HostnameEndpoint};
use crate::error::{ConnectError, ConnectionClosed};
use crate::protocols::SharedFactory;
use crate::transport::tls::{ClientConfig, Side, TlsProtocol};
use crate::transport::{Address, ClientFactory, Connector, Factory, Protocol, TransportRef};
use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;

#[derive(Clone)]
pub(super) struct Tls {
    side: Side,
    /// Whether the server's name is the host's.
    by_host: bool,
}

impl Tls {
    pub(super) fn new(side: Side) -> Self {
        Tls { side, by_host: false }
    }
    pub(super) fn by_host(config: &ClientConfig) -> Self {
        Tls { side: config.into(), by_host: true }
    }
    fn side(&self, domain: &str, host: &str) -> Side {
        let name = if self.by_host { host } else { domain };
        match self.side.clone() {
            Side::Client { config, name: None } => config.named(name),
            named => named,
        }
    }

    /// A factory with TLS under its protocols, and who is to be told which server was chosen.
    pub(super) fn wrap_client<F: ClientFactory>(
        &self,
        domain: &str,
        factory: F,
    ) -> (Secure<F>, impl Fn(&SrvTarget) + use<F>) {
        let side = Rc::new(RefCell::new(self.side(domain, domain)));
        let (tls, domain, next) = (self.clone(), domain.to_owned(), Rc::clone(&side));
        (Secure { side, factory }, move |target: &SrvTarget| *next.borrow_mut() = tls.side(&domain, &target.host))
    }

    /// Connects, and fires when the handshake is done; fails with [`ConnectError`].
    pub(super) fn connect(
        &self,
        endpoint: &HostnameEndpoint,
        domain: &str,
        factory: SharedFactory,
    ) -> Deferred<TransportRef> {
        let (promise, secured) = Deferred::new();
        let factory =
            Awaited { side: self.side(domain, endpoint.host()), factory, promise: Rc::new(Cell::new(Some(promise))) };
        endpoint.connect(factory).add_callback(move |wire| {
            secured.add_errback(move |failure| {
                // Given up while the handshake went on.
                wire.abort_connection();
                Err(failure)
            })
        })
    }
}

/// A client's factory whose protocols speak TLS with the server that was chosen last.
pub(super) struct Secure<F> {
    side: Rc<RefCell<Side>>,
    factory: F,
}
impl<F: Factory> Factory for Secure<F> {
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        let protocol = self.factory.build_protocol(peer)?;
        let side = self.side.borrow().clone();
        Some(Box::new(TlsProtocol::new(side, protocol)))
    }
    fn start_factory(&mut self) {
        self.factory.start_factory();
    }
    fn stop_factory(&mut self) {
        self.factory.stop_factory();
    }
}
impl<F: ClientFactory> ClientFactory for Secure<F> {
    fn started_connecting(&mut self, connector: Connector) {
        self.factory.started_connecting(connector);
    }
    fn client_connection_failed(&mut self, connector: Connector, reason: &ConnectError) {
        self.factory.client_connection_failed(connector, reason);
    }
    fn client_connection_lost(&mut self, connector: Connector, reason: &ConnectionClosed) {
        self.factory.client_connection_lost(connector, reason);
    }
}

/// Fired when TLS is done, or cannot be.
type Done = Rc<Cell<Option<Promise<TransportRef>>>>;

/// A factory of one connection, whose handshake somebody waits for.
struct Awaited {
    side: Side,
    factory: SharedFactory,
    promise: Done,
}
impl Factory for Awaited {
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        let protocol = self.factory.build_protocol(peer)?;
        let watched = Watched { protocol, promise: Rc::clone(&self.promise) };
        Some(Box::new(TlsProtocol::new(self.side.clone(), watched)))
    }
    fn start_factory(&mut self) {
        self.factory.start_factory();
    }
    fn stop_factory(&mut self) {
        self.factory.stop_factory();
    }
}

/// The protocol, and a look at how the handshake goes.
struct Watched {
    protocol: Box<dyn Protocol>,
    promise: Done,
}
impl Protocol for Watched {
    fn connection_made(&mut self, wire: TransportRef) {
        self.protocol.connection_made(wire);
    }
    fn data_received(&mut self, wire: TransportRef, data: &[u8]) {
        self.protocol.data_received(wire, data);
    }
    fn read_connection_lost(&mut self, wire: TransportRef) {
        self.protocol.read_connection_lost(wire);
    }
    fn write_connection_lost(&mut self, wire: TransportRef) {
        self.protocol.write_connection_lost(wire);
    }
    fn file_descriptor_received(&mut self, wire: TransportRef, descriptor: OwnedFd) {
        self.protocol.file_descriptor_received(wire, descriptor);
    }
    fn handshake_completed(&mut self, wire: TransportRef) {
        self.protocol.handshake_completed(wire);
        if let Some(promise) = self.promise.take() {
            promise.callback(wire);
        }
    }
    fn connection_lost(&mut self, wire: TransportRef, reason: &ConnectionClosed) {
        self.protocol.connection_lost(wire, reason);
        if let Some(promise) = self.promise.take() {
            promise.errback(failed(reason));
        }
    }
    fn switch_inner(
        &mut self,
        protocol: Box<dyn Protocol>,
    ) -> std::result::Result<Box<dyn Protocol>, Box<dyn Protocol>> {
        Ok(std::mem::replace(&mut self.protocol, protocol))
    }
}
fn failed(reason: &ConnectionClosed) -> ConnectError {
    ConnectError::Tls(match reason {
        ConnectionClosed::Failed(failure) => failure.clone(),
        reason => reason.clone().into(),
    })
}
