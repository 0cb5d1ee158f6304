//! `StringTransport`: one protocol on a wire whose far end is the test.
use super::Clock;
use super::tape::End;
use crate::address::Address;
use crate::error::ConnectionClosed;
use crate::failure::Failure;
use crate::transport::{Protocol, TransportRef};
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

/// The far end of a wire whose near end is the protocol under test (Twisted's `StringTransport`). Clones are the same wire;
/// when the last goes, the protocol's connection is lost.
///
/// Nothing happens by itself: what the protocol writes is kept, and whether it wants to close is only noted. The test
/// [delivers](StringTransport::deliver) and [loses](StringTransport::lose). The near end's host is `10.0.0.1:12345`, its peer
/// `192.168.1.1:54321`.
///
/// ```
/// use twistlet::testing::{Clock, StringTransport};
/// use twistlet::{ConnectionClosed, Protocol, TransportRef};
///
/// struct Echo;
/// impl Protocol for Echo {
///     fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
///         transport.write(data);
///     }
/// }
/// let wire = StringTransport::connect(Echo, &Clock::new());
/// wire.deliver("hello");
/// assert_eq!(wire.value(), b"hello");
/// wire.lose(ConnectionClosed::Done);
/// ```
#[derive(Clone)]
pub struct StringTransport(Rc<End>);

pub(super) fn address(text: [u8; 4], port: u16) -> Address {
    Address::Tcp(SocketAddr::from((text, port)))
}

impl StringTransport {
    /// Connects `protocol`: its `connection_made` has been called on return. Timers of its transport are on `clock`.
    pub fn connect(protocol: impl Protocol + 'static, clock: &Clock) -> Self {
        StringTransport(End::new(
            protocol,
            clock,
            address([10, 0, 0, 1], 12345),
            address([192, 168, 1, 1], 54321),
            false,
        ))
    }
    /// From now on the connection ends when the protocol closes it, without [`lose`](StringTransport::lose) (Twisted's
    /// `StringTransportWithDisconnection`): `connection_lost` comes with the next advance of the clock, by zero even, since no
    /// method of a transport calls its protocol.
    ///
    /// ```
    /// use std::time::Duration;
    /// use twistlet::testing::{AccumulatingProtocol, Clock, StringTransport};
    ///
    /// let (clock, seen) = (Clock::new(), AccumulatingProtocol::new());
    /// let wire = StringTransport::connect(seen.clone(), &clock);
    /// wire.ends_when_closed();
    /// wire.transport().lose_connection();
    /// clock.advance(Duration::ZERO);
    /// assert!(seen.reason().is_some_and(|reason| reason.is_clean()));
    /// ```
    pub fn ends_when_closed(&self) {
        self.0.tape.obeys.set(true);
        self.0.tape.obey();
    }
    /// Bytes arrive. While the protocol has paused its transport they are held back; after it resumed they are delivered
    /// with the next advance of the clock, by zero even, or the next call of this. After `lose_connection` or
    /// `abort_connection` a protocol gets no more data, as on a socket.
    pub fn deliver(&self, data: impl AsRef<[u8]>) {
        self.0.deliver(data.as_ref());
    }
    /// The far end sends no more: `read_connection_lost`.
    pub fn deliver_end(&self) {
        self.0.deliver_read_lost();
    }
    /// What the protocol wrote before `lose_write_connection` has gone out: `write_connection_lost`.
    pub fn finish_writing(&self) {
        self.0.deliver_write_lost();
    }
    /// The connection is over: the protocol is told, once; within one of its callbacks, as soon as that has returned.
    pub fn lose(&self, reason: ConnectionClosed) {
        self.0.lose(reason);
    }
    /// What the protocol has written since the last [`clear`](StringTransport::clear).
    pub fn value(&self) -> Vec<u8> {
        self.0.tape.written.borrow().clone()
    }
    /// Forgets what was written so far.
    pub fn clear(&self) {
        self.0.tape.written.borrow_mut().clear();
    }
    /// [`value`](StringTransport::value) and [`clear`](StringTransport::clear) in one.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.tape.written.borrow_mut())
    }
    /// Whether the protocol has asked to close: `lose_connection` or `abort_connection`.
    pub fn is_disconnecting(&self) -> bool {
        self.0.tape.closing.get() || self.0.tape.aborted.get()
    }
    /// Whether the protocol has called `abort_connection`.
    pub fn is_aborted(&self) -> bool {
        self.0.tape.aborted.get()
    }
    /// The error of the protocol's own with which it has closed the connection: `fail_connection`.
    pub fn failure(&self) -> Option<Failure> {
        self.0.tape.failed.borrow().clone()
    }
    /// Whether the protocol has called `lose_write_connection`.
    pub fn is_write_closing(&self) -> bool {
        self.0.tape.write_closing.get()
    }
    /// Whether the protocol wants no data at the moment.
    pub fn is_paused(&self) -> bool {
        self.0.tape.paused.get()
    }
    /// Whether the connection is over: by [`lose`](StringTransport::lose), or by a panic of the protocol.
    pub fn is_lost(&self) -> bool {
        self.0.is_lost()
    }
    /// Whether the protocol has registered a producer.
    pub fn has_producer(&self) -> bool {
        self.0.tape.has_producer.get()
    }
    /// As if too much was unsent: a push producer is paused.
    pub fn pause_producer(&self) {
        self.0.tape.pause_producer();
    }
    /// As if all was sent: a paused push producer goes on, a pull producer is asked once.
    pub fn resume_producer(&self) {
        self.0.tape.resume_producer(self.0.name());
    }
    /// The near end, as the protocol has it.
    pub fn transport(&self) -> TransportRef {
        self.0.name()
    }
}

impl fmt::Debug for StringTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StringTransport")
            .field("value", &self.value().escape_ascii().to_string())
            .field("disconnecting", &self.is_disconnecting())
            .field("lost", &self.is_lost())
            .finish_non_exhaustive()
    }
}
