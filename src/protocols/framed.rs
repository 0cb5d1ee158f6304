//! A codec in callback style: `Framed` decodes what comes and tells a `Handler`.
use super::Decoder;
use crate::error::ConnectionClosed;
use crate::transport::{Flow, Protocol, TransportRef};
use bytes::BytesMut;
use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::rc::Rc;

/// An empty buffer with more memory than this gives it back.
const KEEP: usize = 16 * 1024;

/// What receives the messages of a [`Framed`] in callback style. Its methods are a
/// [`Protocol`]'s, with messages instead of bytes.
pub trait Handler<M> {
    /// The connection is there.
    fn connection_made(&mut self, transport: TransportRef) {
        let _ = transport;
    }
    /// A message from the peer. None comes after `lose_connection` or `switch_protocol`, nor between `pause_producing` and
    /// `resume_producing`.
    fn message_received(&mut self, transport: TransportRef, message: M);
    /// The peer will send no more. Unless this is overridden, what was written is flushed and the connection closed.
    fn read_connection_lost(&mut self, transport: TransportRef) {
        transport.lose_connection();
    }
    /// `lose_write_connection` is done.
    fn write_connection_lost(&mut self, transport: TransportRef) {
        let _ = transport;
    }
    /// A secure layer is in place.
    fn handshake_completed(&mut self, transport: TransportRef) {
        let _ = transport;
    }
    /// The end. [`ConnectionClosed::Failed`] with the decoder's error when that was the reason.
    fn connection_lost(&mut self, transport: TransportRef, reason: &ConnectionClosed) {
        let _ = (transport, reason);
    }
}

/// The callback protocol of a codec: decodes, and tells a [`Handler`]. An error of the decoder closes the connection.
///
/// ```
/// use bytes::Bytes;
/// use twistlet::TransportRef;
/// use twistlet::protocols::codec::{Framed, Handler, Netstrings};
///
/// struct Count(usize);
/// impl Handler<Bytes> for Count {
///     fn message_received(&mut self, _: TransportRef, message: Bytes) {
///         self.0 += message.len();
///     }
/// }
/// let factory = || Framed::new(Netstrings::new(), Count(0));
/// ```
pub struct Framed<D, H>(Rc<Inner<D, H>>);

struct Inner<D, H> {
    /// Borrowed while the handler runs: nobody else enters, the wire sees to that.
    parts: RefCell<Parts<D, H>>,
    transport: Cell<TransportRef>,
    /// It stopped at a pause, and goes on by itself.
    held: Cell<bool>,
}
struct Parts<D, H> {
    decoder: D,
    handler: H,
    input: BytesMut,
    eof: bool,
}

impl<D: Decoder, H: Handler<D::Item> + 'static> Framed<D, H> {
    /// Messages as `decoder` finds them go to `handler`.
    pub fn new(decoder: D, handler: H) -> Self {
        let parts = Parts { decoder, handler, input: BytesMut::new(), eof: false };
        Framed(Rc::new(Inner {
            parts: RefCell::new(parts),
            transport: Cell::new(TransportRef::gone()),
            held: Cell::new(false),
        }))
    }
}

impl<D: Decoder, H: Handler<D::Item> + 'static> Inner<D, H> {
    fn enter(&self) -> Option<RefMut<'_, Parts<D, H>>> {
        self.parts.try_borrow_mut().ok()
    }

    /// Goes on in the place of an event of the protocol.
    fn work(self: Rc<Self>) {
        if let Some(mut parts) = self.enter() {
            self.decode(&mut parts);
        }
    }

    /// Messages, as long as there are some and the handler wants them; at the peer's end, that end after the last.
    fn decode(self: &Rc<Self>, parts: &mut Parts<D, H>) {
        let transport = self.transport.get();
        loop {
            match transport.flow() {
                Flow::Go => {}
                Flow::Paused => {
                    if !self.held.replace(true) {
                        let inner = Rc::downgrade(self);
                        transport.when_resumed(move || {
                            if let Some(inner) = inner.upgrade() {
                                inner.held.set(false);
                                inner.work();
                            }
                        });
                    }
                    return;
                }
                Flow::Over => {
                    parts.input = BytesMut::new();
                    return;
                }
            }
            let Parts { decoder, handler, input, eof } = &mut *parts;
            match if *eof { decoder.decode_eof(input) } else { decoder.decode(input) } {
                Ok(Some(message)) => handler.message_received(transport, message),
                Ok(None) => {
                    if std::mem::take(eof) {
                        handler.read_connection_lost(transport);
                    }
                    if input.is_empty() && input.capacity() > KEEP {
                        *input = BytesMut::new();
                    }
                    return;
                }
                Err(failure) => {
                    *input = BytesMut::new();
                    transport.fail_connection(failure);
                }
            }
        }
    }
}

impl<D: Decoder, H: Handler<D::Item> + 'static> Protocol for Framed<D, H> {
    fn connection_made(&mut self, transport: TransportRef) {
        self.0.transport.set(transport);
        let inner = Rc::downgrade(&self.0);
        let ready: Rc<dyn Fn()> = Rc::new(move || {
            let inner = inner.clone();
            transport.soon(move || {
                if let Some(inner) = inner.upgrade() {
                    inner.work();
                }
            });
        });
        if let Some(mut parts) = self.0.enter() {
            parts.decoder.attached(transport, &ready);
            parts.handler.connection_made(transport);
        }
    }
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        self.0.transport.set(transport);
        if let Some(mut parts) = self.0.enter() {
            parts.input.extend_from_slice(data);
            self.0.decode(&mut parts);
        }
    }
    fn read_connection_lost(&mut self, transport: TransportRef) {
        self.0.transport.set(transport);
        if let Some(mut parts) = self.0.enter() {
            parts.eof = true;
            self.0.decode(&mut parts);
        }
    }
    fn write_connection_lost(&mut self, transport: TransportRef) {
        if let Some(mut parts) = self.0.enter() {
            parts.handler.write_connection_lost(transport);
        }
    }
    fn handshake_completed(&mut self, transport: TransportRef) {
        if let Some(mut parts) = self.0.enter() {
            // What is left came before TLS, and is void.
            parts.input = BytesMut::new();
            parts.eof = false;
            parts.decoder.restart();
            parts.handler.handshake_completed(transport);
        }
    }
    fn connection_lost(&mut self, transport: TransportRef, reason: &ConnectionClosed) {
        if let Some(mut parts) = self.0.enter() {
            parts.input = BytesMut::new();
            parts.handler.connection_lost(transport, reason);
        }
    }
}

impl<D, H> fmt::Debug for Framed<D, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Framed").field("decoder", &std::any::type_name::<D>()).finish_non_exhaustive()
    }
}
