//! `Wire`: the owner of a wire made by hand, who plays the part that the reactor plays for a socket: a policy, a test.
//!
//! What must never happen here: the protocol called in another way than by the table's functions, which queue what comes
//! while it runs.
use super::{connection_lost, data_received, notify, open, read_lost, secured};
use crate::error::ConnectionClosed;
use crate::failure::Result;
use crate::transport::{Protocol, Transport, TransportRef};
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// The owner of a wire made by hand: a policy's, a test's. Users hold its [`TransportRef`]; the owner plays the part that
/// the reactor plays for a socket.
///
/// Dropping it unended is `deliver_lost(&ConnectionClosed::Lost(None))`.
#[derive(Debug)]
pub struct Wire {
    name: TransportRef,
}

impl Wire {
    /// Enters `transport` and its protocol into the thread's table and tells the protocol `connection_made`.
    pub fn new(transport: impl Transport + 'static, protocol: impl Protocol + 'static) -> Self {
        let name = open(Rc::new(transport), Box::new(protocol));
        let wire = Wire { name };
        let _ = Wire::tell(name, move |protocol| protocol.connection_made(name));
        wire
    }
    /// The first step of `new`, for an owner whose transport must know its name; `tell` is the other.
    pub(crate) fn open(transport: Rc<dyn Transport>, protocol: Box<dyn Protocol>) -> Self {
        Wire { name: open(transport, protocol) }
    }
    /// Tells the protocol of the wire `name` something; gives the panic, which has ended the wire.
    pub(crate) fn tell(name: TransportRef, event: impl FnOnce(&mut dyn Protocol) + 'static) -> Result<()> {
        notify(name, event).inspect_err(|failure| connection_lost(name, &ConnectionClosed::Failed(failure.clone())))
    }
    /// What the protocol, and everybody else, calls this wire.
    pub fn transport(&self) -> TransportRef {
        self.name
    }
    /// Bytes have arrived. While the protocol runs they wait until it returned. A panic of the protocol ends the wire.
    pub fn deliver(&self, data: &[u8]) {
        let _ = self.try_deliver(data);
    }
    /// As `deliver`; gives the panic, which has ended the wire, to whom it concerns.
    pub(crate) fn try_deliver(&self, data: &[u8]) -> Result<()> {
        Wire::feed(self.name, data)
    }
    /// `try_deliver` by name.
    pub(crate) fn feed(name: TransportRef, data: &[u8]) -> Result<()> {
        data_received(name, data)
            .inspect_err(|failure| connection_lost(name, &ConnectionClosed::Failed(failure.clone())))
    }
    /// The peer will send no more. While the wire is paused this waits, behind the bytes that wait.
    pub fn deliver_read_lost(&self) {
        let _ = Wire::end_reading(self.name);
    }
    /// `deliver_read_lost` by name; gives the panic, which has ended the wire.
    pub(crate) fn end_reading(name: TransportRef) -> Result<()> {
        read_lost(name).inspect_err(|failure| connection_lost(name, &ConnectionClosed::Failed(failure.clone())))
    }
    /// Our half-close has gone out.
    pub fn deliver_write_lost(&self) {
        let name = self.name;
        let _ = Wire::tell(name, move |protocol| protocol.write_connection_lost(name));
    }
    /// A descriptor has arrived, with the bytes that are delivered next.
    pub fn deliver_file_descriptor(&self, descriptor: OwnedFd) {
        let name = self.name;
        let _ = Wire::tell(name, move |protocol| protocol.file_descriptor_received(name, descriptor));
    }
    /// A secure layer is in place elsewhere, for which this wire was given up: what the protocol has kept is void.
    pub(crate) fn deliver_secured(&self) {
        if let Err(failure) = secured(self.name, 0) {
            connection_lost(self.name, &ConnectionClosed::Failed(failure));
        }
    }
    /// The connection is over: `connection_lost`, and the name means nothing from here on.
    pub fn deliver_lost(self, reason: &ConnectionClosed) {
        connection_lost(self.name, reason);
    }
}
impl Drop for Wire {
    fn drop(&mut self) {
        connection_lost(self.name, &ConnectionClosed::Lost(None));
    }
}
