//! `Layered`: the protocol on the wire below and the transport of the wire above that make a `Wrapper` of one connection.
//! Made by the factories of this module.
//!
//! The wire above ends with the protocol below, whatever way that ends: so no policy can keep a connection, or lose one.
use super::wrapper::{Layer, Wrapper};
use crate::error::ConnectionClosed;
use crate::failure::Failure;
use crate::transport::{Producer, Protocol, PullProducer, Taken, Transport, TransportRef, Wire};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// The connections that a factory wraps at present, by the names their wrapped protocols know.
pub(super) type Wires = Rc<RefCell<HashSet<TransportRef>>>;

pub(super) struct Layered<W> {
    middle: Rc<Middle<W>>,
    /// Until the connection is made.
    protocol: Option<Box<dyn Protocol>>,
    upper: Option<Wire>,
    live: Option<Wires>,
}

impl<W: Wrapper> Layered<W> {
    pub(super) fn boxed(wrapper: W, protocol: Box<dyn Protocol>, live: Option<Wires>) -> Box<dyn Protocol> {
        let layer = Cell::new(Layer::new(TransportRef::gone(), TransportRef::gone()));
        let middle = Rc::new(Middle { wrapper, layer, closing: Cell::new(false) });
        Box::new(Layered { middle, protocol: Some(protocol), upper: None, live })
    }
    fn tell(&self, event: impl FnOnce(&mut dyn Protocol, TransportRef) + 'static) {
        let layer = self.middle.layer.get();
        let upper = layer.upper();
        layer.check(Wire::tell(upper, move |protocol| event(protocol, upper)));
    }
}
impl<W> Layered<W> {
    fn forget(&self) {
        if let (Some(live), Some(upper)) = (&self.live, &self.upper) {
            live.borrow_mut().remove(&upper.transport());
        }
    }
}

impl<W: Wrapper> Protocol for Layered<W> {
    fn connection_made(&mut self, lower: TransportRef) {
        // None a second time, which no wire does.
        let Some(protocol) = self.protocol.take() else { return };
        let middle: Rc<dyn Transport> = self.middle.clone();
        // The wire below is known before the protocol above can ask for it.
        self.middle.layer.set(Layer::new(lower, TransportRef::gone()));
        let upper = Wire::open(middle, protocol);
        let layer = Layer::new(lower, upper.transport());
        self.middle.layer.set(layer);
        if let Some(live) = &self.live {
            live.borrow_mut().insert(upper.transport());
        }
        self.upper = Some(upper);
        self.middle.wrapper.connection_made(layer);
        self.tell(|protocol, upper| protocol.connection_made(upper));
    }
    fn data_received(&mut self, _: TransportRef, data: &[u8]) {
        self.middle.wrapper.data_received(self.middle.layer.get(), data);
    }
    fn read_connection_lost(&mut self, _: TransportRef) {
        self.middle.wrapper.read_connection_lost(self.middle.layer.get());
    }
    fn write_connection_lost(&mut self, _: TransportRef) {
        self.tell(|protocol, upper| protocol.write_connection_lost(upper));
    }
    fn handshake_completed(&mut self, _: TransportRef) {
        self.tell(|protocol, upper| protocol.handshake_completed(upper));
    }
    fn file_descriptor_received(&mut self, _: TransportRef, descriptor: OwnedFd) {
        self.tell(|protocol, upper| protocol.file_descriptor_received(upper, descriptor));
    }
    fn connection_lost(&mut self, _: TransportRef, reason: &ConnectionClosed) {
        self.forget();
        self.middle.wrapper.connection_lost(self.middle.layer.get(), reason);
        if let Some(upper) = self.upper.take() {
            upper.deliver_lost(reason);
        }
    }
}
impl<W> Drop for Layered<W> {
    fn drop(&mut self) {
        self.forget();
    }
}

/// The transport of the wrapped protocol.
struct Middle<W> {
    wrapper: W,
    layer: Cell<Layer>,
    /// The wrapped protocol has closed, which it sees at once whatever the wrapper makes of it.
    closing: Cell<bool>,
}

impl<W: Wrapper> Transport for Middle<W> {
    fn lower(&self) -> Option<TransportRef> {
        Some(self.layer.get().lower())
    }
    fn write(&self, data: &[u8]) {
        self.wrapper.write(self.layer.get(), data);
    }
    fn write_bytes(&self, data: Bytes) {
        self.wrapper.write_bytes(self.layer.get(), data);
    }
    fn write_vectored(&self, parts: &[IoSlice<'_>]) {
        self.wrapper.write_vectored(self.layer.get(), parts);
    }
    fn lose_connection(&self) {
        self.closing.set(true);
        self.wrapper.lose_connection(self.layer.get());
    }
    fn lose_write_connection(&self) {
        self.wrapper.lose_write_connection(self.layer.get());
    }
    fn abort_connection(&self) {
        self.closing.set(true);
        self.wrapper.abort_connection(self.layer.get());
    }
    fn fail_connection(&self, failure: Failure) {
        self.closing.set(true);
        self.wrapper.fail_connection(self.layer.get(), failure);
    }
    fn is_disconnecting(&self) -> bool {
        self.closing.get() || self.layer.get().lower().is_disconnecting()
    }
    fn pause_producing(&self) {
        self.wrapper.pause_producing(self.layer.get());
    }
    fn resume_producing(&self) {
        self.wrapper.resume_producing(self.layer.get());
    }
    fn register_producer(&self, producer: Box<dyn Producer>) {
        self.wrapper.register_producer(self.layer.get(), producer);
    }
    fn register_pull_producer(&self, producer: Box<dyn PullProducer>) {
        self.wrapper.register_pull_producer(self.layer.get(), producer);
    }
    fn unregister_producer(&self) {
        self.wrapper.unregister_producer(self.layer.get());
    }
    fn take_producer(&self) -> Option<Taken> {
        self.wrapper.take_producer(self.layer.get())
    }
}
