//! A codec in callback style: `Framed` decodes what comes and tells a `Handler`.
use super::Decoder;
use crate::error::ConnectionClosed;
use crate::transport::{Flow, Protocol, TransportRef, refuse_descriptor};
use bytes::{Bytes, BytesMut};
use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::os::fd::OwnedFd;
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
    /// A descriptor from the peer, on UNIX sockets: before the bytes it was sent with. Unless this is overridden, it is closed.
    fn file_descriptor_received(&mut self, transport: TransportRef, descriptor: OwnedFd) {
        refuse_descriptor(transport, descriptor);
    }
    /// The end. [`ConnectionClosed::Failed`] with the decoder's error when that was the reason.
    fn connection_lost(&mut self, transport: TransportRef, reason: &ConnectionClosed) {
        let _ = (transport, reason);
    }
}

/// The bytes that a [`Framed`] has received and not decoded, for its handler: to give them to the protocol that takes over,
/// or to take bytes between messages in another way. Clones are the same.
///
/// ```
/// use bytes::Bytes;
/// use twistlet::protocols::codec::{Framed, Handler, Netstrings, Unread};
/// # use twistlet::{Protocol, TransportRef};
/// # struct Tunnel;
/// # impl Protocol for Tunnel { fn data_received(&mut self, _: TransportRef, _: &[u8]) {} }
///
/// struct Hello(Unread);
/// impl Handler<Bytes> for Hello {
///     fn message_received(&mut self, transport: TransportRef, _: Bytes) {
///         transport.switch_protocol(Tunnel, self.0.take());
///     }
/// }
/// let factory = || Framed::with_unread(Netstrings::new(), Hello);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Unread(Rc<RefCell<BytesMut>>);

impl Unread {
    /// Takes all of it: within `message_received`, what came after that message. Decoding goes on with what comes next.
    pub fn take(&self) -> Bytes {
        self.0.take().freeze()
    }
    /// Puts `data` before what is there. Within `message_received` it is decoded when that has returned, otherwise with the
    /// next bytes that come.
    pub fn put_back(&self, data: impl AsRef<[u8]>) {
        let mut whole = BytesMut::from(data.as_ref());
        let mut unread = self.0.borrow_mut();
        whole.extend_from_slice(&unread);
        *unread = whole;
    }
    fn clear(&self) {
        self.0.take();
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
    unread: Unread,
    transport: Cell<TransportRef>,
    /// It stopped at a pause, and goes on by itself.
    held: Cell<bool>,
}
struct Parts<D, H> {
    decoder: D,
    handler: H,
    eof: bool,
}

impl<D: Decoder, H: Handler<D::Item> + 'static> Framed<D, H> {
    /// Messages as `decoder` finds them go to `handler`.
    pub fn new(decoder: D, handler: H) -> Self {
        Framed::with_unread(decoder, |_| handler)
    }
    /// The same, for a handler that takes bytes itself that have not been decoded: see [`Unread`].
    pub fn with_unread(decoder: D, handler: impl FnOnce(Unread) -> H) -> Self {
        let unread = Unread::default();
        let parts = Parts { decoder, handler: handler(unread.clone()), eof: false };
        Framed(Rc::new(Inner {
            parts: RefCell::new(parts),
            unread,
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
                    self.unread.clear();
                    return;
                }
            }
            let Parts { decoder, handler, eof } = &mut *parts;
            // Out while the decoder has it, back before the handler may ask for it.
            let mut input = self.unread.0.take();
            let decoded = if *eof { decoder.decode_eof(&mut input) } else { decoder.decode(&mut input) };
            match decoded {
                Ok(Some(message)) => {
                    self.unread.0.replace(input);
                    handler.message_received(transport, message);
                }
                Ok(None) => {
                    if !input.is_empty() || input.capacity() <= KEEP {
                        self.unread.0.replace(input);
                    }
                    if std::mem::take(eof) {
                        handler.read_connection_lost(transport);
                    }
                    return;
                }
                Err(failure) => transport.fail_connection(failure),
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
            self.0.unread.0.borrow_mut().extend_from_slice(data);
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
            self.0.unread.clear();
            parts.eof = false;
            parts.decoder.restart();
            parts.handler.handshake_completed(transport);
        }
    }
    fn file_descriptor_received(&mut self, transport: TransportRef, descriptor: OwnedFd) {
        if let Some(mut parts) = self.0.enter() {
            parts.handler.file_descriptor_received(transport, descriptor);
        }
    }
    fn connection_lost(&mut self, transport: TransportRef, reason: &ConnectionClosed) {
        if let Some(mut parts) = self.0.enter() {
            self.0.unread.clear();
            parts.handler.connection_lost(transport, reason);
        }
    }
}

impl<D, H> fmt::Debug for Framed<D, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Framed").field("decoder", &std::any::type_name::<D>()).finish_non_exhaustive()
    }
}
