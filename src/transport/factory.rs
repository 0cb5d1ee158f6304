//! Factories: who makes a protocol for each connection (Twisted's `Factory` and `ClientFactory`). Written by users; called by
//! ports and connectors.
use super::{Address, Connector, Protocol};
use crate::error::{ConnectError, ConnectionClosed};

/// Makes a protocol for each connection. A closure without arguments is one: `listen_tcp(addr, || Echo)`; to look at the
/// peer use [`from_fn`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not make protocols",
    note = "a closure without arguments that returns a `Protocol` is a factory; to look at the peer's address use `from_fn(|peer| ..)`"
)]
pub trait Factory {
    /// The protocol for a connection with `peer`. `None` declines the connection, which is closed.
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>>;
    /// The first port or connector begins to use this factory: called within `listen_*` or `connect_*`, or by the connection
    /// attempt that is made again.
    fn start_factory(&mut self) {}
    /// The port has stopped, the connector has given up.
    fn stop_factory(&mut self) {}
}

/// A factory that hears of connection attempts too.
pub trait ClientFactory: Factory {
    /// An attempt begins; `connector` can stop it.
    fn started_connecting(&mut self, connector: Connector) {
        let _ = connector;
    }
    /// No connection came of it. Unless `connector.connect()` or `connect_later` is called from here, that is the end. Logged
    /// at warn level unless overridden.
    fn client_connection_failed(&mut self, connector: Connector, reason: &ConnectError) {
        log::warn!(target: "twistlet", "connecting to {} failed: {reason}", connector.destination());
    }
    /// The connection is over; its protocol knows. `connector.connect()` or `connect_later` makes another.
    fn client_connection_lost(&mut self, connector: Connector, reason: &ConnectionClosed) {
        let _ = (connector, reason);
    }
}

impl<F, P> Factory for F
where
    F: FnMut() -> P,
    P: Protocol + 'static,
{
    fn build_protocol(&mut self, _peer: &Address) -> Option<Box<dyn Protocol>> {
        Some(Box::new(self()))
    }
}
impl<F, P> ClientFactory for F
where
    F: FnMut() -> P,
    P: Protocol + 'static,
{
}

impl Factory for Box<dyn Factory> {
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        (**self).build_protocol(peer)
    }
    fn start_factory(&mut self) {
        (**self).start_factory();
    }
    fn stop_factory(&mut self) {
        (**self).stop_factory();
    }
}

/// A factory that looks at the peer, and may decline it.
///
/// ```
/// # use twistlet::{from_fn, Protocol, Reactor, TransportRef};
/// # struct Echo;
/// # impl Protocol for Echo { fn data_received(&mut self, t: TransportRef, data: &[u8]) { t.write(data) } }
/// # let reactor = Reactor::new()?;
/// reactor.listen_tcp("127.0.0.1:0", from_fn(|peer| peer.ip().is_some_and(|ip| ip.is_loopback()).then(|| Echo)))?;
/// # reactor.close();
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub fn from_fn<F, P>(f: F) -> FromFn<F>
where
    F: FnMut(&Address) -> Option<P>,
    P: Protocol + 'static,
{
    FromFn(f)
}

/// What [`from_fn`] makes.
#[derive(Clone, Debug)]
pub struct FromFn<F>(F);

impl<F, P> Factory for FromFn<F>
where
    F: FnMut(&Address) -> Option<P>,
    P: Protocol + 'static,
{
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        Some(Box::new((self.0)(peer)?))
    }
}
impl<F, P> ClientFactory for FromFn<F>
where
    F: FnMut(&Address) -> Option<P>,
    P: Protocol + 'static,
{
}
