//! A callback protocol as a decoder: `Received` feeds the protocol, whose handler is an `Inbox`, and takes out what it put there.
//! So what was written for callbacks serves green threads unchanged.
use super::{Decoder, Handler};
use crate::error::ConnectionClosed;
use crate::failure::{Failure, Result};
use crate::transport::{Protocol, Transport, TransportRef, Wire};
use bytes::{Bytes, BytesMut};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;
use std::rc::Rc;

/// Where a callback protocol puts what it received when somebody else asks for it. Implement your protocol's handler
/// trait for `Inbox<YourMessage>`, and [`Received`] makes a decoder of the protocol. Clones are the same inbox.
pub struct Inbox<M>(Rc<Contents<M>>);

struct Contents<M> {
    messages: RefCell<VecDeque<Result<M>>>,
    /// Told of messages that come while nobody decodes: from a timer of the protocol's, say.
    ready: RefCell<Option<Rc<dyn Fn()>>>,
    decoding: Cell<bool>,
}

impl<M> Inbox<M> {
    fn new() -> Self {
        Inbox(Rc::new(Contents { messages: RefCell::default(), ready: RefCell::default(), decoding: Cell::new(false) }))
    }
    /// A message, for whoever asks next.
    pub fn put(&self, message: M) {
        self.push(Ok(message));
    }
    /// The end with an error: whoever asks gets the messages before it, then `error`, and the connection is closed.
    #[track_caller]
    pub fn fail(&self, error: impl Into<Failure>) {
        self.push(Err(error.into()));
    }
    fn push(&self, message: Result<M>) {
        self.0.messages.borrow_mut().push_back(message);
        if !self.0.decoding.get() {
            let ready = self.0.ready.borrow().clone();
            if let Some(ready) = ready {
                ready();
            }
        }
    }
    fn take(&self) -> Result<Option<M>> {
        let next = self.0.messages.borrow_mut().pop_front();
        next.transpose()
    }
}
impl<M> Clone for Inbox<M> {
    fn clone(&self) -> Self {
        Inbox(Rc::clone(&self.0))
    }
}
impl<M> fmt::Debug for Inbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("messages", &self.0.messages.borrow().len()).finish_non_exhaustive()
    }
}
impl<M> Handler<M> for Inbox<M> {
    fn message_received(&mut self, _: TransportRef, message: M) {
        self.put(message);
    }
}

/// Any callback protocol as a decoder: `Received::new(|inbox| MyProtocol::new(inbox))`.
///
/// The protocol has a wire of its own, through which it writes to the real one: `connection_made` comes when decoding begins,
/// `data_received` when somebody asks for a message and none is there, `connection_lost` when its input has ended. When it
/// closes its connection the real one is closed; whether bytes are read is up to whoever decodes.
///
/// ```
/// use bytes::{Bytes, BytesMut};
/// use twistlet::protocols::{Decoder, Inbox, LineReceiver, Received};
///
/// let mut lines = Received::new(|inbox: Inbox<Bytes>| LineReceiver::new(inbox));
/// let mut input = BytesMut::from("one\r\ntwo\r\n");
/// assert_eq!(lines.decode(&mut input)?.as_deref(), Some(&b"one"[..]));
/// assert_eq!(lines.decode(&mut input)?.as_deref(), Some(&b"two"[..]));
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct Received<M> {
    inbox: Inbox<M>,
    state: State,
}
enum State {
    /// Told nothing yet.
    Made(Box<dyn Protocol>),
    Wired(Wire),
    Ended,
}

impl<M: 'static> Received<M> {
    /// `make` gets the inbox that its protocol is to fill.
    pub fn new<P: Protocol + 'static>(make: impl FnOnce(Inbox<M>) -> P) -> Self {
        let inbox = Inbox::new();
        let protocol = Box::new(make(inbox.clone()));
        Received { inbox, state: State::Made(protocol) }
    }
    fn wire(&mut self, lower: TransportRef) {
        self.state = match std::mem::replace(&mut self.state, State::Ended) {
            State::Made(protocol) => {
                let relay = Relay { lower, closing: Cell::new(false), inbox: self.inbox.clone() };
                State::Wired(self.decoding(|| Wire::new(relay, protocol)))
            }
            wired => wired,
        };
    }
    /// What is put into the inbox during `call` is about to be taken out anyway: nobody need be told.
    fn decoding<R>(&self, call: impl FnOnce() -> R) -> R {
        struct Decoding<'a>(&'a Cell<bool>);
        impl Drop for Decoding<'_> {
            fn drop(&mut self) {
                self.0.set(false);
            }
        }
        self.inbox.0.decoding.set(true);
        let _decoding = Decoding(&self.inbox.0.decoding);
        call()
    }
}
impl<M: 'static> Decoder for Received<M> {
    type Item = M;
    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<M>> {
        self.wire(TransportRef::gone());
        if let Some(message) = self.inbox.take()? {
            return Ok(Some(message));
        }
        if let State::Wired(wire) = &self.state
            && !input.is_empty()
        {
            let data = input.split();
            self.decoding(|| wire.try_deliver(&data))?;
        }
        self.inbox.take()
    }
    fn decode_eof(&mut self, input: &mut BytesMut) -> Result<Option<M>> {
        if let Some(message) = self.decode(input)? {
            return Ok(Some(message));
        }
        if let State::Wired(wire) = std::mem::replace(&mut self.state, State::Ended) {
            self.decoding(|| wire.deliver_lost(&ConnectionClosed::Done));
        }
        self.inbox.take()
    }
    fn restart(&mut self) {
        if let State::Wired(wire) = &self.state {
            self.decoding(|| wire.deliver_secured());
        }
    }
    fn attached(&mut self, transport: TransportRef, ready: &Rc<dyn Fn()>) {
        *self.inbox.0.ready.borrow_mut() = Some(Rc::clone(ready));
        self.wire(transport);
    }
}
impl<M> fmt::Debug for Received<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received").field("inbox", &self.inbox).finish_non_exhaustive()
    }
}

/// The wire of a `Received`'s protocol. It outlives the real connection, whose last bytes may be decoded after its end, and
/// the demand that pauses the real one does not pause it.
struct Relay<M> {
    lower: TransportRef,
    closing: Cell<bool>,
    inbox: Inbox<M>,
}
impl<M> Transport for Relay<M> {
    fn lower(&self) -> Option<TransportRef> {
        Some(self.lower)
    }
    fn write(&self, data: &[u8]) {
        self.lower.write(data);
    }
    fn write_bytes(&self, data: Bytes) {
        self.lower.write_bytes(data);
    }
    fn write_vectored(&self, parts: &[IoSlice<'_>]) {
        self.lower.write_vectored(parts);
    }
    fn lose_connection(&self) {
        self.closing.set(true);
        self.lower.lose_connection();
    }
    fn abort_connection(&self) {
        self.closing.set(true);
        self.lower.abort_connection();
    }
    fn fail_connection(&self, failure: Failure) {
        // Whoever decodes gets the messages before it, then the failure, and closes the connection with it.
        if !self.closing.replace(true) {
            self.inbox.push(Err(failure));
        }
    }
    /// Under whoever decodes.
    #[cfg(feature = "tls")]
    fn start_tls(&self, side: crate::transport::tls::Side) -> Option<crate::transport::tls::Side> {
        self.lower.start_tls(side);
        None
    }
    fn is_disconnecting(&self) -> bool {
        self.closing.get()
    }
    fn is_connected(&self) -> bool {
        !self.closing.get()
    }
    fn pause_producing(&self) {}
    fn resume_producing(&self) {}
}
