//! The proxy's side: connections that begin with a header.
use super::{ProxyHeader, ProxyVersion};
use crate::address::Address;
use crate::error::{ConnectError, ConnectionClosed};
use crate::protocols::{Forward, Hooks};
use crate::transport::{ClientFactory, Connector, Factory, Protocol, TransportRef};

/// Writes a PROXY header as the first thing on each connection of a factory, before the protocol's `connection_made`.
///
/// ```
/// use twistlet::protocols::proxy::{ProxyClientFactory, ProxyHeader, ProxyVersion};
/// use twistlet::{Protocol, Reactor, TransportRef};
///
/// struct Quiet;
/// impl Protocol for Quiet {
///     fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
/// }
/// let reactor = Reactor::new()?;
/// let client = "192.0.2.7:4711".parse()?;
/// let header = ProxyHeader::new(ProxyVersion::V2, client, "198.51.100.1:80".parse()?);
/// reactor.connect_tcp("127.0.0.1:8007", ProxyClientFactory::new(header, || Quiet));
/// # reactor.close();
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[derive(Clone, Debug)]
pub struct ProxyClientFactory<F> {
    say: Say,
    inner: F,
}
#[derive(Clone, Debug)]
enum Say {
    Header(ProxyHeader),
    Itself(ProxyVersion),
}

impl<F> ProxyClientFactory<F> {
    /// Connections of `inner` begin with `header`.
    pub fn new(header: ProxyHeader, inner: F) -> Self {
        ProxyClientFactory { say: Say::Header(header), inner }
    }
    /// Each connection of `inner` tells its own two ends: for a client that connects to a server behind a proxy directly.
    pub fn direct(version: ProxyVersion, inner: F) -> Self {
        ProxyClientFactory { say: Say::Itself(version), inner }
    }
}
impl<F: Factory> Factory for ProxyClientFactory<F> {
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        let inner = self.inner.build_protocol(peer)?;
        Some(Forward::boxed(inner, Introduction(Some(self.say.clone()))))
    }
    fn start_factory(&mut self) {
        self.inner.start_factory();
    }
    fn stop_factory(&mut self) {
        self.inner.stop_factory();
    }
}
impl<F: ClientFactory> ClientFactory for ProxyClientFactory<F> {
    fn started_connecting(&mut self, connector: Connector) {
        self.inner.started_connecting(connector);
    }
    fn client_connection_failed(&mut self, connector: Connector, reason: &ConnectError) {
        self.inner.client_connection_failed(connector, reason);
    }
    fn client_connection_lost(&mut self, connector: Connector, reason: &ConnectionClosed) {
        self.inner.client_connection_lost(connector, reason);
    }
}

/// The header goes out first.
struct Introduction(Option<Say>);
impl Hooks for Introduction {
    fn making(&mut self, transport: TransportRef) {
        let header = match self.0.take() {
            Some(Say::Header(header)) => header,
            Some(Say::Itself(version)) => ProxyHeader::between(version, transport.host(), transport.peer()),
            None => return,
        };
        transport.write(header.to_bytes());
    }
}
