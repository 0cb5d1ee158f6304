//! How many connections at once: in all (Twisted's `LimitTotalConnectionsFactory`), of one host (`LimitConnectionsByPeer`).
//!
//! Nothing stands in the way of the bytes but one call: what is wrapped is the protocol, not its wire. A connection's seat is
//! given back when its protocol has been told of the end, or was dropped without: also after a panic, also when it was never
//! made.
use super::forward;
use crate::address::Address;
use crate::error::{ConnectError, ConnectionClosed};
use crate::transport::{ClientFactory, Connector, Factory, Protocol, TransportRef};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// Twisted's limit for one host.
const OF_ONE_PEER: usize = 5;

type Overflow = Box<dyn FnMut() -> Box<dyn Protocol>>;

/// At most so many connections at once. Those beyond are declined, or get a protocol that tells them so.
///
/// ```
/// use twistlet::protocols::policies::LimitTotalConnections;
/// # use twistlet::{Protocol, Reactor, TransportRef};
/// # struct Echo;
/// # impl Protocol for Echo { fn data_received(&mut self, t: TransportRef, data: &[u8]) { t.write(data) } }
/// struct Busy;
/// impl Protocol for Busy {
///     fn connection_made(&mut self, transport: TransportRef) {
///         transport.write("busy, come back later\r\n");
///         transport.lose_connection();
///     }
///     fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
/// }
/// # let reactor = Reactor::new()?;
/// reactor.listen_tcp("127.0.0.1:0", LimitTotalConnections::new(1000, || Echo).overflow(|| Busy))?;
/// # reactor.close();
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct LimitTotalConnections<F> {
    inner: F,
    limit: usize,
    count: Rc<Cell<usize>>,
    overflow: Option<Overflow>,
}

impl<F> LimitTotalConnections<F> {
    /// At most `limit` connections of `inner` at once.
    pub fn new(limit: usize, inner: F) -> Self {
        LimitTotalConnections { inner, limit, count: Rc::default(), overflow: None }
    }
    /// The protocol of connections beyond the limit. They count, as any other, until they have ended.
    pub fn overflow<P: Protocol + 'static>(mut self, mut protocol: impl FnMut() -> P + 'static) -> Self {
        self.overflow = Some(Box::new(move || Box::new(protocol())));
        self
    }
    /// How many connections there are now.
    pub fn connections(&self) -> usize {
        self.count.get()
    }
}
impl<F: Factory> Factory for LimitTotalConnections<F> {
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        let protocol = if self.count.get() < self.limit {
            self.inner.build_protocol(peer)?
        } else {
            let overflow = self.overflow.as_mut();
            if overflow.is_none() {
                log::info!(target: "twistlet", "the connection with {peer} is declined: there are {} already", self.limit);
            }
            overflow?()
        };
        Some(Seated::boxed(Box::new(Seat::of(&self.count)), protocol))
    }
    forward!(factory);
}
impl<F: ClientFactory> ClientFactory for LimitTotalConnections<F> {
    forward!(client);
}
impl<F> fmt::Debug for LimitTotalConnections<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitTotalConnections")
            .field("limit", &self.limit)
            .field("connections", &self.count.get())
            .finish_non_exhaustive()
    }
}

/// At most so many connections at once with the same IP address: five, unless told otherwise. Peers without one (UNIX
/// sockets) are not limited.
///
/// ```
/// use twistlet::protocols::policies::LimitConnectionsByPeer;
/// # use twistlet::{Protocol, Reactor, TransportRef};
/// # struct Echo;
/// # impl Protocol for Echo { fn data_received(&mut self, t: TransportRef, data: &[u8]) { t.write(data) } }
/// # let reactor = Reactor::new()?;
/// reactor.listen_tcp("127.0.0.1:0", LimitConnectionsByPeer::new(|| Echo).limit(20))?;
/// # reactor.close();
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct LimitConnectionsByPeer<F> {
    inner: F,
    limit: usize,
    counts: Counts,
}
type Counts = Rc<RefCell<HashMap<IpAddr, usize>>>;

impl<F> LimitConnectionsByPeer<F> {
    /// At most five connections of `inner` with one address.
    pub fn new(inner: F) -> Self {
        LimitConnectionsByPeer { inner, limit: OF_ONE_PEER, counts: Counts::default() }
    }
    /// So many instead of five.
    pub fn limit(mut self, connections: usize) -> Self {
        self.limit = connections;
        self
    }
    /// How many connections there are now with `address`.
    pub fn connections(&self, address: IpAddr) -> usize {
        self.counts.borrow().get(&address.to_canonical()).copied().unwrap_or(0)
    }
}
impl<F: Factory> Factory for LimitConnectionsByPeer<F> {
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        // The same host, whether it came by a socket for both families or not.
        let Some(address) = peer.ip().map(|ip| ip.to_canonical()) else { return self.inner.build_protocol(peer) };
        if self.connections(address) >= self.limit {
            log::info!(target: "twistlet", "the connection with {peer} is declined: it has {} already", self.limit);
            return None;
        }
        let protocol = self.inner.build_protocol(peer)?;
        Some(Seated::boxed(Box::new(PeerSeat::of(&self.counts, address)), protocol))
    }
    forward!(factory);
}
impl<F: ClientFactory> ClientFactory for LimitConnectionsByPeer<F> {
    forward!(client);
}
impl<F> fmt::Debug for LimitConnectionsByPeer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitConnectionsByPeer").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// One of a number of connections, until it is dropped.
pub(super) struct Seat(Rc<Cell<usize>>);
impl Seat {
    pub(super) fn of(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Seat(Rc::clone(count))
    }
}
impl Drop for Seat {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

struct PeerSeat(Counts, IpAddr);
impl PeerSeat {
    fn of(counts: &Counts, address: IpAddr) -> Self {
        *counts.borrow_mut().entry(address).or_insert(0) += 1;
        PeerSeat(Rc::clone(counts), address)
    }
}
impl Drop for PeerSeat {
    fn drop(&mut self) {
        let mut counts = self.0.borrow_mut();
        if let Some(count) = counts.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.1);
            }
        }
    }
}

/// What is given back by being dropped.
trait Held {}
impl Held for Seat {}
impl Held for PeerSeat {}

/// A protocol on a seat. Whoever takes over by `switch_protocol` sits on the same.
struct Seated {
    protocol: Box<dyn Protocol>,
    seat: Option<Box<dyn Held>>,
}
impl Seated {
    fn boxed(seat: Box<dyn Held>, protocol: Box<dyn Protocol>) -> Box<dyn Protocol> {
        Box::new(Seated { protocol, seat: Some(seat) })
    }
}
impl Protocol for Seated {
    fn connection_made(&mut self, transport: TransportRef) {
        self.protocol.connection_made(transport);
    }
    #[inline]
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        self.protocol.data_received(transport, data);
    }
    fn read_connection_lost(&mut self, transport: TransportRef) {
        self.protocol.read_connection_lost(transport);
    }
    fn write_connection_lost(&mut self, transport: TransportRef) {
        self.protocol.write_connection_lost(transport);
    }
    fn handshake_completed(&mut self, transport: TransportRef) {
        self.protocol.handshake_completed(transport);
    }
    fn file_descriptor_received(&mut self, transport: TransportRef, descriptor: OwnedFd) {
        self.protocol.file_descriptor_received(transport, descriptor);
    }
    fn connection_lost(&mut self, transport: TransportRef, reason: &ConnectionClosed) {
        // First, so that whoever is told may connect again at once.
        self.seat = None;
        self.protocol.connection_lost(transport, reason);
    }
    fn switch_inner(&mut self, protocol: Box<dyn Protocol>) -> Result<Box<dyn Protocol>, Box<dyn Protocol>> {
        // The one it holds may itself be such a wrapper.
        match self.protocol.switch_inner(protocol) {
            Ok(old) => Ok(old),
            Err(protocol) => Ok(std::mem::replace(&mut self.protocol, protocol)),
        }
    }
}
