//! Handlers held by a `Shared`: told at once, or, when somebody is inside, as soon as they left, with a copy of the bytes.
use super::{Handler, LineHandler, LineTransport};
use crate::error::ConnectionClosed;
use crate::failure;
use crate::shared::Shared;
use crate::transport::TransportRef;
use std::cell::Cell;
use std::os::fd::OwnedFd;

/// Tells the object, or queues what `later` makes; a panic of what was queued closes the connection.
fn tell<H: 'static, L: FnOnce(&mut H) + 'static>(
    shared: &Shared<H>,
    wire: TransportRef,
    now: impl FnOnce(&mut H),
    later: impl FnOnce() -> L,
) {
    shared.enter_or_queue(now, || {
        let call = later();
        Box::new(move |handler: &mut H| {
            if let Err(failure) = failure::catch(|| call(handler)) {
                failure::report(format_args!("the handler of the connection with {}", wire.peer()), &failure);
                wire.fail_connection(failure);
            }
        })
    });
}

macro_rules! forward { ($transport:ty, $($method:ident)+) => { $(
    fn $method(&mut self, transport: $transport) {
        tell(self, wire(&transport), |handler| handler.$method(transport), || move |handler: &mut H| handler.$method(transport));
    }
)+ } }
macro_rules! forward_bytes { ($($method:ident)+) => { $(
    fn $method(&mut self, transport: LineTransport, data: &[u8]) {
        tell(
            self,
            *transport,
            |handler| handler.$method(transport, data),
            || {
                let data = data.to_vec();
                move |handler: &mut H| handler.$method(transport, &data)
            },
        );
    }
)+ } }
macro_rules! forward_end {
    ($transport:ty) => {
        fn connection_lost(&mut self, transport: $transport, reason: &ConnectionClosed) {
            tell(
                self,
                wire(&transport),
                |handler| handler.connection_lost(transport, reason),
                || {
                    let reason = reason.clone();
                    move |handler: &mut H| handler.connection_lost(transport, &reason)
                },
            );
        }
    };
}

macro_rules! forward_descriptor {
    ($transport:ty) => {
        fn file_descriptor_received(&mut self, transport: $transport, descriptor: OwnedFd) {
            let descriptor = Cell::new(Some(descriptor));
            tell(
                self,
                wire(&transport),
                |handler| {
                    if let Some(descriptor) = descriptor.take() {
                        handler.file_descriptor_received(transport, descriptor);
                    }
                },
                || {
                    let descriptor = descriptor.take();
                    move |handler: &mut H| {
                        if let Some(descriptor) = descriptor {
                            handler.file_descriptor_received(transport, descriptor);
                        }
                    }
                },
            );
        }
    };
}

fn wire(transport: &TransportRef) -> TransportRef {
    *transport
}

impl<H: LineHandler + 'static> LineHandler for Shared<H> {
    forward! { LineTransport, connection_made read_connection_lost write_connection_lost handshake_completed }
    forward_bytes! { line_received raw_data_received line_length_exceeded }
    forward_descriptor! { LineTransport }
    forward_end! { LineTransport }
}

impl<M: 'static, H: Handler<M> + 'static> Handler<M> for Shared<H> {
    forward! { TransportRef, connection_made read_connection_lost write_connection_lost handshake_completed }
    fn message_received(&mut self, transport: TransportRef, message: M) {
        let message = Cell::new(Some(message));
        tell(
            self,
            transport,
            |handler| {
                if let Some(message) = message.take() {
                    handler.message_received(transport, message);
                }
            },
            || {
                let message = message.take();
                move |handler: &mut H| {
                    if let Some(message) = message {
                        handler.message_received(transport, message);
                    }
                }
            },
        );
    }
    forward_descriptor! { TransportRef }
    forward_end! { TransportRef }
}
