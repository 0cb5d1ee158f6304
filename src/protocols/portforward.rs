//! Port forwarding: what comes to one port goes to another place, and back (Twisted's `protocols.portforward`).
//!
//! Two wires, each the other's producer, so that a slow side holds back the fast one and neither side's bytes pile up. Bytes
//! go from the reactor's read buffer to the other wire; nothing is kept here.
use crate::address::Address;
use crate::deferred::{Canceller, Deferred};
use crate::error::ConnectionClosed;
use crate::reactor::Reactor;
use crate::transport::{Destination, Factory, Protocol, TransportRef};
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

type Connect = Rc<dyn Fn(Forward) -> Deferred<TransportRef>>;

/// Connects on for each connection, and carries the bytes both ways, the end of either way included.
///
/// The client is not read before the other side is there. When either connection is lost, what was written to the other is
/// sent, and it is closed; when the other cannot be made, the client's is closed, and a warning logged.
///
/// ```
/// # use twistlet::Reactor;
/// use twistlet::protocols::portforward::ForwardFactory;
///
/// # let reactor = Reactor::new()?;
/// reactor.listen_tcp("127.0.0.1:0", ForwardFactory::new(&reactor, "localhost:8007"))?;
/// # reactor.close();
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct ForwardFactory {
    connect: Connect,
}

impl ForwardFactory {
    /// Forwards to `to`, by TCP.
    pub fn new(reactor: &Reactor, to: impl Into<Destination>) -> Self {
        let (reactor, to) = (*reactor, to.into());
        ForwardFactory::connecting(move |outbound| reactor.connect_protocol(to.clone(), outbound))
    }
    /// Forwards to wherever `connect` connects the protocol it is given: an endpoint, a UNIX socket, TLS. Cancelling the
    /// Deferred it returns, as happens when the client goes away meanwhile, is to give the attempt up.
    pub fn connecting(connect: impl Fn(Forward) -> Deferred<TransportRef> + 'static) -> Self {
        ForwardFactory { connect: Rc::new(connect) }
    }
}
impl Factory for ForwardFactory {
    fn build_protocol(&mut self, _: &Address) -> Option<Box<dyn Protocol>> {
        Some(Box::new(Inbound {
            connect: Rc::clone(&self.connect),
            attempt: None,
            forward: Forward { other: Rc::default(), own: Rc::default(), ways: Ways::default() },
        }))
    }
}
impl fmt::Debug for ForwardFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardFactory").finish_non_exhaustive()
    }
}

/// Which ways of a wire have ended.
#[derive(Default)]
struct Ways {
    read: bool,
    written: bool,
}

/// The protocol of the connection that a [`ForwardFactory`] makes: what arrives goes to the client, so does its end.
pub struct Forward {
    /// The other wire, once it is there.
    other: Rc<Cell<Option<TransportRef>>>,
    /// Where the other side finds ours.
    own: Rc<Cell<Option<TransportRef>>>,
    ways: Ways,
}
impl Forward {
    fn both_ended(&self, transport: TransportRef) {
        if self.ways.read && self.ways.written {
            transport.lose_connection();
        }
    }
}
/// The outbound side: it comes to a client that waits for it.
impl Protocol for Forward {
    fn connection_made(&mut self, transport: TransportRef) {
        self.own.set(Some(transport));
        match self.other.get() {
            Some(inbound) if inbound.is_connected() => {
                inbound.register_producer(transport);
                transport.register_producer(inbound);
                inbound.resume_producing();
            }
            _ => transport.lose_connection(),
        }
    }
    #[inline]
    fn data_received(&mut self, _: TransportRef, data: &[u8]) {
        if let Some(other) = self.other.get() {
            other.write(data);
        }
    }
    fn read_connection_lost(&mut self, transport: TransportRef) {
        self.ways.read = true;
        if let Some(other) = self.other.get() {
            // Which is this side: it has nothing more to give.
            other.unregister_producer();
            other.lose_write_connection();
        }
        self.both_ended(transport);
    }
    fn write_connection_lost(&mut self, transport: TransportRef) {
        self.ways.written = true;
        self.both_ended(transport);
    }
    fn connection_lost(&mut self, _: TransportRef, _: &ConnectionClosed) {
        self.own.set(None);
        if let Some(other) = self.other.take() {
            other.unregister_producer();
            other.lose_connection();
        }
    }
}
impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").field("to", &self.other.get()).finish_non_exhaustive()
    }
}

/// The client's side.
struct Inbound {
    connect: Connect,
    /// Gives the attempt up.
    attempt: Option<Canceller>,
    forward: Forward,
}
impl Protocol for Inbound {
    fn connection_made(&mut self, transport: TransportRef) {
        transport.pause_producing();
        self.forward.own.set(Some(transport));
        let outbound =
            Forward { other: Rc::clone(&self.forward.own), own: Rc::clone(&self.forward.other), ways: Ways::default() };
        let attempt = (self.connect)(outbound);
        self.attempt = Some(attempt.canceller());
        attempt.add_errback(move |failure| {
            if transport.is_connected() {
                log::warn!(target: "twistlet", "the connection with {} cannot be forwarded: {failure}", transport.peer());
                transport.lose_connection();
            }
            Ok(transport)
        });
    }
    #[inline]
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        self.forward.data_received(transport, data);
    }
    fn read_connection_lost(&mut self, transport: TransportRef) {
        self.forward.read_connection_lost(transport);
    }
    fn write_connection_lost(&mut self, transport: TransportRef) {
        self.forward.write_connection_lost(transport);
    }
    fn connection_lost(&mut self, transport: TransportRef, reason: &ConnectionClosed) {
        if self.forward.other.get().is_none()
            && let Some(attempt) = self.attempt.take()
        {
            attempt.cancel();
        }
        self.forward.connection_lost(transport, reason);
    }
}
