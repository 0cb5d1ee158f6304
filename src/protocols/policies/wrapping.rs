//! `WrappingFactory`: any `Wrapper` around the protocols of any factory (Twisted's `WrappingFactory`).
use super::forward;
use super::layered::{Layered, Wires};
use super::wrapper::Wrapper;
use crate::address::Address;
use crate::error::{ConnectError, ConnectionClosed};
use crate::transport::{ClientFactory, Connector, Factory, Protocol, TransportRef};
use std::fmt;

/// Puts a [`Wrapper`] around each protocol that a factory makes: the base of a policy of one's own. A connection that the
/// factory declines stays declined.
pub struct WrappingFactory<M, F> {
    make: M,
    inner: F,
    live: Live,
}

impl<M, F> WrappingFactory<M, F> {
    /// `make` gives the wrapper of a connection with the peer it is told; `None` declines the connection.
    pub fn new<W: Wrapper>(make: M, inner: F) -> Self
    where
        M: FnMut(&Address) -> Option<W>,
    {
        WrappingFactory { make, inner, live: Live::default() }
    }
    /// The connections it has wrapped and that have not ended.
    pub fn live(&self) -> Live {
        self.live.clone()
    }
}
impl<M, W, F> Factory for WrappingFactory<M, F>
where
    M: FnMut(&Address) -> Option<W>,
    W: Wrapper,
    F: Factory,
{
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        let protocol = self.inner.build_protocol(peer)?;
        let wrapper = (self.make)(peer)?;
        Some(Layered::boxed(wrapper, protocol, Some(self.live.0.clone())))
    }
    forward!(factory);
}
impl<M, W, F> ClientFactory for WrappingFactory<M, F>
where
    M: FnMut(&Address) -> Option<W>,
    W: Wrapper,
    F: ClientFactory,
{
    forward!(client);
}
impl<M, F> fmt::Debug for WrappingFactory<M, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WrappingFactory").field("live", &self.live.len()).finish_non_exhaustive()
    }
}

/// The connections that a [`WrappingFactory`] wraps at present. Clones are the same.
#[derive(Clone, Default, Debug)]
pub struct Live(Wires);

impl Live {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Their transports, as the wrapped protocols have them, in no order.
    pub fn transports(&self) -> Vec<TransportRef> {
        self.0.borrow().iter().copied().collect()
    }
}
