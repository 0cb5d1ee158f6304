//! Endpoints: where to connect and where to listen as objects, so that a program decides on TCP, UNIX, TLS or a child process in
//! one place, or leaves it to a string (Twisted's `internet.endpoints`).
//!
//! An endpoint never fails when it is made or used: what is wrong with it arrives in the Deferred.
//!
//! | Twisted | here |
//! |---|---|
//! | `clientFromString`, `serverFromString`, their plug-ins | [`client_from_string`], [`server_from_string`], [`Descriptions`] |
//! | `TCP4ClientEndpoint`, `TCP4ServerEndpoint` and the like | [`TcpClientEndpoint`], [`TcpServerEndpoint`], [`UnixClientEndpoint`], [`UnixServerEndpoint`] |
//! | `HostnameEndpoint` | [`HostnameEndpoint`] |
//! | `connectProtocol` | [`ClientEndpoint::connect_protocol`] |
//! | `wrapClientTLS`, `SSL4ServerEndpoint` | `wrap_client_tls`, `wrap_server_tls`, with the feature `tls` |
//! | `ProcessEndpoint`, `StandardIOEndpoint` | [`ProcessClientEndpoint`], [`StdioServerEndpoint`] |
//! | `AdoptedStreamServerEndpoint`, `systemd:` | [`AdoptedServerEndpoint`], [`ActivatedServerEndpoint`] |
//! | `haproxy:` | [`wrap_server`] with a [`ProxyFactory`](crate::protocols::proxy::ProxyFactory) |
//!
//! Green threads connect to any of them with `GreenClientCreator::connect`, and serve any with a `SpawnFactory`. Everything a
//! name is looked up for goes through [`Reactor::resolve`](crate::Reactor::resolve).
pub(crate) mod activated;
mod adopted;
mod description;
mod hostname;
pub(crate) mod inheritance;
mod process;
#[cfg(feature = "dns")]
pub mod srv;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
mod unix;
mod wrapped;

pub use activated::ActivatedServerEndpoint;
pub use adopted::AdoptedServerEndpoint;
pub use description::{
    Arguments, Descriptions, ParseError, ParseReason, Value, client_from_string, quote, server_from_string,
};
pub use hostname::HostnameEndpoint;
pub use process::{ProcessClientEndpoint, StdioServerEndpoint};
pub use tcp::{TcpClientEndpoint, TcpServerEndpoint};
#[cfg(feature = "tls")]
pub use tls::{TlsClientEndpoint, TlsServerEndpoint, wrap_client_tls, wrap_server_tls};
pub use unix::{UnixClientEndpoint, UnixServerEndpoint};
pub use wrapped::{WrappedClientEndpoint, WrappedServerEndpoint, wrap_client, wrap_server};

use crate::address::Address;
use crate::deferred::Deferred;
use crate::error::{ConnectError, ConnectionClosed};
use crate::failure::{Failure, Result};
use crate::transport::{Factory, ListeningPort, Protocol, TransportRef};
use std::fmt;
use std::rc::Rc;

/// Something that can be connected to (Twisted's `IStreamClientEndpoint`).
pub trait ClientEndpoint {
    /// As [`connect`](ClientEndpoint::connect), for a factory in a box: what an author writes.
    fn connect_boxed(&self, factory: Box<dyn Factory>) -> Deferred<TransportRef>;
    /// Connects once, with a protocol of `factory`. Fires right after its `connection_made`; fails with
    /// [`ConnectError`]. Cancelling it gives the attempt up, and closes a connection that was made
    /// meanwhile.
    fn connect(&self, factory: impl Factory + 'static) -> Deferred<TransportRef>
    where
        Self: Sized,
    {
        self.connect_boxed(Box::new(factory))
    }
    /// Connects once, for a protocol that exists already (Twisted's `connectProtocol`).
    fn connect_protocol(&self, protocol: impl Protocol + 'static) -> Deferred<TransportRef>
    where
        Self: Sized,
    {
        self.connect_boxed(Box::new(Only(Some(Box::new(protocol)))))
    }
}
/// A factory with one protocol to give.
struct Only(Option<Box<dyn Protocol>>);
impl Factory for Only {
    fn build_protocol(&mut self, _peer: &Address) -> Option<Box<dyn Protocol>> {
        self.0.take()
    }
}
/// What a connection attempt failed with, as the one type that endpoints promise.
fn connect_error<T>(failure: Failure) -> Result<T> {
    if failure.is::<ConnectError>() { Err(failure) } else { Err(as_connect_error(failure).into()) }
}
fn as_connect_error(failure: Failure) -> ConnectError {
    match failure.check() {
        #[cfg(feature = "tls")]
        Some(ConnectionClosed::Failed(cause)) if cause.is::<crate::transport::tls::TlsError>() => {
            ConnectError::Tls(cause.clone())
        }
        // What `connection_made` panicked with.
        Some(ConnectionClosed::Failed(cause)) => ConnectError::from_failure(cause.clone()),
        _ => ConnectError::from_failure(failure),
    }
}
impl<E: ClientEndpoint + ?Sized> ClientEndpoint for &E {
    fn connect_boxed(&self, factory: Box<dyn Factory>) -> Deferred<TransportRef> {
        (**self).connect_boxed(factory)
    }
}
impl<E: ClientEndpoint + ?Sized> ClientEndpoint for Box<E> {
    fn connect_boxed(&self, factory: Box<dyn Factory>) -> Deferred<TransportRef> {
        (**self).connect_boxed(factory)
    }
}
impl<E: ClientEndpoint + ?Sized> ClientEndpoint for Rc<E> {
    fn connect_boxed(&self, factory: Box<dyn Factory>) -> Deferred<TransportRef> {
        (**self).connect_boxed(factory)
    }
}

/// Something that can be listened on (Twisted's `IStreamServerEndpoint`).
pub trait ServerEndpoint {
    /// As [`listen`](ServerEndpoint::listen), for a factory in a box: what an author writes.
    fn listen_boxed(&self, factory: Box<dyn Factory>) -> Deferred<Listening>;
    /// Listens, with protocols of `factory`. Fails with [`CannotListen`](crate::error::CannotListen).
    fn listen(&self, factory: impl Factory + 'static) -> Deferred<Listening>
    where
        Self: Sized,
    {
        self.listen_boxed(Box::new(factory))
    }
}
impl<E: ServerEndpoint + ?Sized> ServerEndpoint for &E {
    fn listen_boxed(&self, factory: Box<dyn Factory>) -> Deferred<Listening> {
        (**self).listen_boxed(factory)
    }
}
impl<E: ServerEndpoint + ?Sized> ServerEndpoint for Box<E> {
    fn listen_boxed(&self, factory: Box<dyn Factory>) -> Deferred<Listening> {
        (**self).listen_boxed(factory)
    }
}
impl<E: ServerEndpoint + ?Sized> ServerEndpoint for Rc<E> {
    fn listen_boxed(&self, factory: Box<dyn Factory>) -> Deferred<Listening> {
        (**self).listen_boxed(factory)
    }
}

/// What a [`ServerEndpoint`] has opened. Dropping it changes nothing: it owns nothing.
#[derive(Clone)]
pub struct Listening {
    address: Address,
    stop: Rc<dyn Fn() -> Deferred<()>>,
}

impl Listening {
    /// Something at `address` that `stop` ends: for authors of endpoints without a [`ListeningPort`].
    pub fn new(address: Address, stop: impl Fn() -> Deferred<()> + 'static) -> Self {
        Listening { address, stop: Rc::new(stop) }
    }
    fn deferred(port: Result<ListeningPort>) -> Deferred<Listening> {
        match port {
            Ok(port) => Deferred::succeed(port.into()),
            Err(failure) => Deferred::fail(failure),
        }
    }
    /// Where it listens, with the port that the system chose.
    pub fn address(&self) -> &Address {
        &self.address
    }
    /// Accepts no more; established connections are left alone. Fires when the socket is closed.
    pub fn stop_listening(&self) -> Deferred<()> {
        (self.stop)()
    }
}
impl From<ListeningPort> for Listening {
    fn from(port: ListeningPort) -> Self {
        Listening::new(port.address(), move || port.stop_listening())
    }
}
impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").field("address", &self.address).finish_non_exhaustive()
    }
}
