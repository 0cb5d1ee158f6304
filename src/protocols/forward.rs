//! `Forward`: a protocol on the wire of another, which sees its beginning and its end and passes everything on. For what needs
//! no wire of its own: whoever writes first, waits for the connection, or counts it. Nothing of it is public.
//!
//! It stays with the protocol inside: it goes when that is replaced, unless that one stays itself.
use crate::error::ConnectionClosed;
use crate::transport::{Protocol, TransportRef};
use std::os::fd::OwnedFd;

/// What is done besides.
pub(crate) trait Hooks {
    /// Before the protocol's `connection_made`.
    fn making(&mut self, transport: TransportRef) {
        let _ = transport;
    }
    /// After it.
    fn made(&mut self, transport: TransportRef) {
        let _ = transport;
    }
    /// After its `handshake_completed`.
    fn secured(&mut self, transport: TransportRef) {
        let _ = transport;
    }
    /// After its `connection_lost`.
    fn lost(&mut self, reason: &ConnectionClosed) {
        let _ = reason;
    }
}

pub(crate) struct Forward<H> {
    inner: Box<dyn Protocol>,
    hooks: H,
}
impl<H: Hooks + 'static> Forward<H> {
    pub(crate) fn boxed(inner: Box<dyn Protocol>, hooks: H) -> Box<dyn Protocol> {
        Box::new(Forward { inner, hooks })
    }
}
impl<H: Hooks> Protocol for Forward<H> {
    fn connection_made(&mut self, transport: TransportRef) {
        self.hooks.making(transport);
        self.inner.connection_made(transport);
        self.hooks.made(transport);
    }
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        self.inner.data_received(transport, data);
    }
    fn read_connection_lost(&mut self, transport: TransportRef) {
        self.inner.read_connection_lost(transport);
    }
    fn write_connection_lost(&mut self, transport: TransportRef) {
        self.inner.write_connection_lost(transport);
    }
    fn handshake_completed(&mut self, transport: TransportRef) {
        self.inner.handshake_completed(transport);
        self.hooks.secured(transport);
    }
    fn file_descriptor_received(&mut self, transport: TransportRef, descriptor: OwnedFd) {
        self.inner.file_descriptor_received(transport, descriptor);
    }
    fn connection_lost(&mut self, transport: TransportRef, reason: &ConnectionClosed) {
        self.inner.connection_lost(transport, reason);
        self.hooks.lost(reason);
    }
    fn switch_inner(&mut self, protocol: Box<dyn Protocol>) -> Result<Box<dyn Protocol>, Box<dyn Protocol>> {
        self.inner.switch_inner(protocol)
    }
}
