//! TCP: one address or name to connect to, one place to listen.
use super::{ClientEndpoint, Listening, ServerEndpoint, connect_error};
use crate::deferred::Deferred;
use crate::error::PortError;
use crate::reactor::Reactor;
use crate::transport::{Destination, Factory, ListenAt, TransportRef, connect_once};
use std::cell::RefCell;
use std::fmt;

/// A destination to connect to by TCP (Twisted's `TCP4ClientEndpoint` and `TCP6ClientEndpoint`); timeout and local address
/// are the [`Destination`]'s. The addresses of a name are tried one after the other: a
/// [`HostnameEndpoint`](super::HostnameEndpoint) does not wait so long for those that do not answer.
///
/// ```
/// use twistlet::endpoint::{ClientEndpoint, ServerEndpoint, TcpClientEndpoint, TcpServerEndpoint};
/// use twistlet::{Protocol, Reactor, TransportRef};
///
/// struct Quiet;
/// impl Protocol for Quiet {
///     fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
/// }
/// let reactor = Reactor::new()?;
/// let _ = TcpServerEndpoint::new(&reactor, "127.0.0.1:0").listen(|| Quiet).add_callback(move |listening| {
///     let client = TcpClientEndpoint::new(&reactor, listening.address());
///     client.connect(|| Quiet).add_callback(move |_transport| reactor.stop())
/// });
/// reactor.run()?;
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[derive(Clone, Debug)]
pub struct TcpClientEndpoint {
    reactor: Reactor,
    to: Destination,
}

impl TcpClientEndpoint {
    /// What connects to `to`. Nothing is looked up before [`connect`](ClientEndpoint::connect).
    pub fn new(reactor: &Reactor, to: impl Into<Destination>) -> Self {
        TcpClientEndpoint { reactor: *reactor, to: to.into() }
    }
    /// Where to.
    pub fn destination(&self) -> &Destination {
        &self.to
    }
}
impl ClientEndpoint for TcpClientEndpoint {
    fn connect_boxed(&self, factory: Box<dyn Factory>) -> Deferred<TransportRef> {
        connect_once(&self.reactor, self.to.clone(), factory).add_errback(connect_error)
    }
}

/// A place to listen by TCP (Twisted's `TCP4ServerEndpoint` and `TCP6ServerEndpoint`). Each [`listen`](ServerEndpoint::listen)
/// opens a socket of its own.
///
/// Made from a `std::net::TcpListener` it is Twisted's `AdoptedStreamServerEndpoint`: it listens once; a second time fails
/// with [`PortError::AlreadyListening`].
pub struct TcpServerEndpoint {
    reactor: Reactor,
    text: String,
    /// An adopted socket leaves it empty.
    at: RefCell<Option<ListenAt>>,
}

impl TcpServerEndpoint {
    /// What listens at `at`. Nothing is opened before [`listen`](ServerEndpoint::listen).
    pub fn new(reactor: &Reactor, at: impl Into<ListenAt>) -> Self {
        let at = at.into();
        TcpServerEndpoint { reactor: *reactor, text: at.to_string(), at: RefCell::new(Some(at)) }
    }
    fn place(&self) -> Option<ListenAt> {
        let mut at = self.at.borrow_mut();
        match at.as_ref()?.again() {
            Some(copy) => Some(copy),
            None => at.take(),
        }
    }
}
impl ServerEndpoint for TcpServerEndpoint {
    fn listen_boxed(&self, factory: Box<dyn Factory>) -> Deferred<Listening> {
        match self.place() {
            Some(at) => Listening::deferred(self.reactor.listen_tcp(at, factory)),
            None => Deferred::fail(PortError::AlreadyListening),
        }
    }
}
impl fmt::Debug for TcpServerEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpServerEndpoint").field("at", &self.text).finish_non_exhaustive()
    }
}
