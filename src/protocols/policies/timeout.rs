//! `TimeoutFactory`: connections on which nothing is read or written for a while are closed (Twisted's `TimeoutFactory`).
use super::forward;
use super::idle::IdleTimeout;
use super::layered::Layered;
use super::wrapper::{Layer, Wrapper};
use crate::address::Address;
use crate::error::{ConnectError, ConnectionClosed};
use crate::transport::{ClientFactory, Connector, Factory, Protocol, TransportRef};
use bytes::Bytes;
use std::fmt;
use std::io::IoSlice;
use std::rc::Rc;
use std::time::Duration;

/// Twisted's default.
const HALF_AN_HOUR: Duration = Duration::from_secs(30 * 60);

type Expired = Rc<dyn Fn(TransportRef)>;

/// Closes connections that neither read nor wrote anything for a while. What has been written but not taken by the peer is no
/// sign of life.
///
/// ```
/// use std::time::Duration;
/// use twistlet::protocols::policies::TimeoutFactory;
/// # use twistlet::{Protocol, Reactor, TransportRef};
/// # struct Echo;
/// # impl Protocol for Echo { fn data_received(&mut self, t: TransportRef, data: &[u8]) { t.write(data) } }
/// # let reactor = Reactor::new()?;
/// reactor.listen_tcp("127.0.0.1:0", TimeoutFactory::new(Duration::from_secs(60), || Echo))?;
/// # reactor.close();
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct TimeoutFactory<F> {
    inner: F,
    idle: Option<Duration>,
    expired: Option<Expired>,
}

impl<F> TimeoutFactory<F> {
    /// Closes connections of `inner` after so long; `Duration` or, for never, `None`.
    pub fn new(idle: impl Into<Option<Duration>>, inner: F) -> Self {
        TimeoutFactory { inner, idle: idle.into(), expired: None }
    }
    /// Closes connections of `inner` after 30 minutes.
    pub fn half_an_hour(inner: F) -> Self {
        TimeoutFactory::new(HALF_AN_HOUR, inner)
    }
    /// Calls `expired`, with the transport of the wrapped protocol, instead of `lose_connection`: to say good-bye, or to abort
    /// what the peer does not take.
    pub fn on_expiry(mut self, expired: impl Fn(TransportRef) + 'static) -> Self {
        self.expired = Some(Rc::new(expired));
        self
    }
}
impl<F: Factory> Factory for TimeoutFactory<F> {
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        let protocol = self.inner.build_protocol(peer)?;
        let Some(period) = self.idle else { return Some(protocol) };
        let mut idle = IdleTimeout::new();
        if let Some(expired) = self.expired.clone() {
            idle = idle.on_expiry(move |transport| expired(transport));
        }
        Some(Layered::boxed(Idle { idle, period }, protocol, None))
    }
    forward!(factory);
}
impl<F: ClientFactory> ClientFactory for TimeoutFactory<F> {
    forward!(client);
}
impl<F> fmt::Debug for TimeoutFactory<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutFactory").field("idle", &self.idle).finish_non_exhaustive()
    }
}

struct Idle {
    idle: IdleTimeout,
    period: Duration,
}
impl Wrapper for Idle {
    fn connection_made(&self, layer: Layer) {
        self.idle.set_timeout(layer.upper(), Some(self.period));
    }
    #[inline]
    fn data_received(&self, layer: Layer, data: &[u8]) {
        self.idle.reset();
        layer.deliver(data);
    }
    fn connection_lost(&self, layer: Layer, _: &ConnectionClosed) {
        self.idle.set_timeout(layer.upper(), None);
    }
    #[inline]
    fn write(&self, layer: Layer, data: &[u8]) {
        self.idle.reset();
        layer.lower().write(data);
    }
    fn write_bytes(&self, layer: Layer, data: Bytes) {
        self.idle.reset();
        layer.lower().write_bytes(data);
    }
    fn write_vectored(&self, layer: Layer, parts: &[IoSlice<'_>]) {
        self.idle.reset();
        layer.lower().write_vectored(parts);
    }
}
