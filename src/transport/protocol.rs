//! `Protocol`: what a program does with one connection's events. Written by users, called by `wire`.
use super::TransportRef;
use crate::error::ConnectionClosed;
use std::cell::Cell;
use std::os::fd::OwnedFd;

/// One connection's reactions: Twisted's `Protocol`. The reactor owns it; no method is ever entered while another of the
/// same protocol runs, and none is called while a method of a transport is on the stack.
///
/// The order of calls is `connection_made`, any number of `data_received`, the half-close notices, and `connection_lost`
/// exactly once. A panic in a method is logged, and the connection is closed with
/// [`ConnectionClosed::Failed`].
///
/// ```
/// use twistlet::{Protocol, TransportRef};
///
/// struct Echo;
/// impl Protocol for Echo {
///     fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
///         transport.write(data);
///     }
/// }
/// ```
pub trait Protocol {
    /// The connection is there. Data comes in a later turn at the earliest.
    fn connection_made(&mut self, transport: TransportRef) {
        let _ = transport;
    }
    /// Bytes from the peer, at least one, as many as were there: the borders mean nothing. The slice is the reactor's one
    /// read buffer: copy what is to be kept.
    fn data_received(&mut self, transport: TransportRef, data: &[u8]);
    /// The peer will send no more (Twisted's `IHalfCloseableProtocol.readConnectionLost`). Unless this is overridden, what
    /// was written is flushed and the connection closed.
    fn read_connection_lost(&mut self, transport: TransportRef) {
        transport.lose_connection();
    }
    /// `lose_write_connection` is done: the peer has been told that no more will come.
    fn write_connection_lost(&mut self, transport: TransportRef) {
        let _ = transport;
    }
    /// A secure layer is in place, on transports that have one.
    fn handshake_completed(&mut self, transport: TransportRef) {
        let _ = transport;
    }
    /// A descriptor from the peer, on UNIX sockets (Twisted's `IFileDescriptorReceiver`): before the bytes that it was sent with. It is
    /// closed at exec, and closed when it is dropped. Unless this is overridden, it is closed, which is logged.
    fn file_descriptor_received(&mut self, transport: TransportRef, descriptor: OwnedFd) {
        refuse_descriptor(transport, descriptor);
    }
    /// The end, exactly once and last. `peer()` and `host()` still answer.
    fn connection_lost(&mut self, transport: TransportRef, reason: &ConnectionClosed) {
        let _ = (transport, reason);
    }
    /// For protocols that wrap another one and are to stay when `switch_protocol` is called on their wire: takes `protocol`
    /// in and gives the one it had. The others, by default, give `protocol` back, and are themselves replaced by it.
    ///
    /// # Errors
    /// `protocol`, not taken.
    fn switch_inner(&mut self, protocol: Box<dyn Protocol>) -> Result<Box<dyn Protocol>, Box<dyn Protocol>> {
        Err(protocol)
    }
}

impl<P: Protocol + ?Sized> Protocol for Box<P> {
    fn connection_made(&mut self, transport: TransportRef) {
        (**self).connection_made(transport);
    }
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        (**self).data_received(transport, data);
    }
    fn read_connection_lost(&mut self, transport: TransportRef) {
        (**self).read_connection_lost(transport);
    }
    fn write_connection_lost(&mut self, transport: TransportRef) {
        (**self).write_connection_lost(transport);
    }
    fn handshake_completed(&mut self, transport: TransportRef) {
        (**self).handshake_completed(transport);
    }
    fn file_descriptor_received(&mut self, transport: TransportRef, descriptor: OwnedFd) {
        (**self).file_descriptor_received(transport, descriptor);
    }
    fn connection_lost(&mut self, transport: TransportRef, reason: &ConnectionClosed) {
        (**self).connection_lost(transport, reason);
    }
    fn switch_inner(&mut self, protocol: Box<dyn Protocol>) -> Result<Box<dyn Protocol>, Box<dyn Protocol>> {
        (**self).switch_inner(protocol)
    }
}

/// The first so many refused descriptors of a thread are logged one by one, then one of as many: a peer can send a thousand with
/// four bytes.
const REFUSALS_LOGGED: (u64, u64) = (16, 1000);

/// What protocols do with a descriptor that they do not expect.
pub(crate) fn refuse_descriptor(transport: TransportRef, descriptor: OwnedFd) {
    thread_local! {
        static REFUSED: Cell<u64> = const { Cell::new(0) };
    }
    drop(descriptor);
    let number = REFUSED.get() + 1;
    REFUSED.set(number);
    let (first, every) = REFUSALS_LOGGED;
    if number <= first || number.is_multiple_of(every) {
        let peer = transport.peer();
        log::warn!(
            target: "twistlet",
            "the protocol of the connection with {peer} takes no descriptors: one is closed, number {number} on this thread"
        );
    }
}
