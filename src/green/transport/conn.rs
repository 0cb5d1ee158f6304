//! What a GreenTransport and its protocol share: bytes that have arrived, how the connection ended, who waits for either.
//!
//! Reading is demand-driven: the wire is paused but while somebody waits for input, so TCP holds the peer back. The protocol's
//! methods run in the main loop and only note and wake. Who may read now is `turn`'s.
use super::memory;
use crate::address::Address;
use crate::error::ConnectionClosed;
use crate::failure::{Failure, Result};
use crate::green::task::{Waiter, Waiters, prepare};
use crate::greenlet::Greenlet;
use crate::transport::{Protocol, TransportRef};
use bytes::BytesMut;
use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

pub(super) struct Conn {
    wire: Cell<Option<TransportRef>>,
    peer: RefCell<Address>,
    host: RefCell<Address>,
    input: RefCell<BytesMut>,
    /// Something has come since the reader last looked.
    news: Cell<bool>,
    /// How the reading side ended, once it has: the peer's end, or the connection's.
    over: RefCell<Option<ConnectionClosed>>,
    /// How the connection ended, once it has.
    end: RefCell<Option<ConnectionClosed>>,
    /// An unclean end is told once, behind the data, to those who come later (D4).
    told: Cell<bool>,
    /// Nobody had been told of it when the connection ended.
    ended_untold: Cell<bool>,
    /// Our half-close has gone out.
    write_closed: Cell<bool>,
    /// The user's own pauses (TW-22).
    pauses: Cell<usize>,
    /// Whoever has the turn, where it waits for input.
    reader: RefCell<Option<Waiter>>,
    /// Somebody looked without waiting: a chunk may come, for its next look.
    asked: Cell<bool>,
    /// As far as we know the wire is not paused.
    flowing: Cell<bool>,
    /// Somebody has the turn to read, or is about to get it.
    pub(super) taken: Cell<bool>,
    /// Who waits for the turn.
    pub(super) line: Waiters,
    /// Where a decoder is at work.
    decoding: Cell<Option<Greenlet>>,
    closers: Waiters,
    /// Counts handshakes: what a decoder remembers of bytes before the last is void.
    epoch: Cell<u32>,
    /// Who waits for one.
    securing: Waiters,
}

impl Conn {
    pub(super) fn new() -> Rc<Conn> {
        Rc::new(Conn {
            wire: Cell::new(None),
            peer: RefCell::new(Address::Gone),
            host: RefCell::new(Address::Gone),
            input: RefCell::default(),
            news: Cell::new(false),
            over: RefCell::default(),
            end: RefCell::default(),
            told: Cell::new(false),
            ended_untold: Cell::new(false),
            write_closed: Cell::new(false),
            pauses: Cell::new(0),
            reader: RefCell::default(),
            asked: Cell::new(false),
            flowing: Cell::new(false),
            taken: Cell::new(false),
            line: Waiters::default(),
            decoding: Cell::new(None),
            closers: Waiters::default(),
            epoch: Cell::new(0),
            securing: Waiters::default(),
        })
    }
    /// Of a wire that has another protocol so far.
    pub(super) fn attach(&self, wire: TransportRef, unread: &[u8]) {
        self.wire.set(Some(wire));
        self.peer.replace(wire.peer());
        self.host.replace(wire.host());
        self.input.borrow_mut().extend_from_slice(unread);
        wire.pause_producing();
        if !wire.is_connected() {
            self.ended(&ConnectionClosed::Done);
        }
    }
    pub(super) fn wire(&self) -> Option<TransportRef> {
        self.wire.get()
    }
    pub(super) fn peer(&self) -> Address {
        self.peer.borrow().clone()
    }
    pub(super) fn host(&self) -> Address {
        self.host.borrow().clone()
    }

    /// The bytes that have arrived; `put_back` returns those that are not taken.
    pub(super) fn take_input(&self) -> BytesMut {
        self.look();
        let mut input = self.input.take();
        if !input.is_empty() && self.wire.get().is_some_and(TransportRef::is_void) {
            // It came before TLS.
            input.clear();
        }
        input
    }
    /// What has come so far is no news any more.
    pub(super) fn look(&self) {
        self.news.set(false);
    }
    pub(super) fn put_back(&self, mut rest: BytesMut) {
        let mut input = self.input.borrow_mut();
        if !input.is_empty() {
            // Arrived while a decoder that waits had the rest.
            rest.extend_from_slice(&input);
        }
        *input = rest;
    }
    /// Takes note of a decoder that begins or ends its work.
    pub(super) fn set_decoding(&self, at: Option<Greenlet>) {
        let old = self.decoding.replace(at);
        drop(old);
    }
    /// Whether it is a decoder of this connection that calls.
    pub(super) fn is_decoding_here(&self) -> bool {
        let at = self.decoding.take();
        let here = at.as_ref().is_some_and(Greenlet::is_current);
        self.decoding.set(at);
        here
    }
    /// For a decoder that has messages though no bytes came.
    pub(super) fn ready(self: &Rc<Self>) -> Rc<dyn Fn()> {
        let conn = Rc::downgrade(self);
        Rc::new(move || {
            if let Some(conn) = conn.upgrade() {
                conn.tell_reader();
            }
        })
    }

    /// Whether the connection has ended, both directions of it.
    pub(super) fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }
    /// Whether no more input will come, for whatever reason.
    pub(super) fn is_over(&self) -> bool {
        self.over.borrow().is_some()
    }
    /// The error behind the data, to whoever comes first, and to those who waited when it broke (G9).
    pub(super) fn tell_end(&self, waited: bool) -> Result<()> {
        match &*self.over.borrow() {
            Some(reason) if !reason.is_clean() && (!self.told.replace(true) || waited) => Err(reason.clone().into()),
            _ => Ok(()),
        }
    }
    /// Nothing more can be made of the input, which a reader is being told.
    pub(super) fn fail_reading(&self, failure: &Failure) {
        self.over.borrow_mut().get_or_insert_with(|| ConnectionClosed::Failed(failure.clone()));
        self.told.set(true);
        self.input.take();
    }
    /// The wire, as long as anything can be written.
    pub(super) fn writable(&self) -> Result<TransportRef> {
        match (&*self.end.borrow(), self.wire.get()) {
            (Some(reason), _) => Err(reason.clone().into()),
            (None, _) if self.write_closed.get() => Err(ConnectionClosed::Lost(Some(ErrorKind::BrokenPipe)).into()),
            (None, Some(wire)) => Ok(wire),
            (None, None) => Err(ConnectionClosed::Done.into()),
        }
    }
    /// How it ended, where it has; otherwise what its wire says.
    pub(super) fn why(&self, failure: Failure) -> Failure {
        match &*self.end.borrow() {
            Some(reason) if failure.is::<ConnectionClosed>() => reason.clone().into(),
            _ => failure,
        }
    }

    /// Parks until there is news for whoever has the turn. `false`: `limit` has passed.
    #[track_caller]
    pub(super) fn wait_input(&self, limit: Option<Duration>) -> Result<bool> {
        if self.news.get() {
            return Ok(true);
        }
        let wait = prepare()?;
        self.reader.replace(Some(wait.waiter()));
        self.flow();
        // Also when the wait is left by unwinding: nobody reading holds the peer back.
        let _pause = OnDrop(|| {
            self.reader.replace(None);
            self.flow();
        });
        wait.park_timeout("input from its connection", limit)
    }
    /// Lets a chunk come for who looks without waiting.
    pub(super) fn ask(&self) {
        self.asked.set(true);
        self.flow();
    }
    /// Lets input come while somebody wants it and the user has not paused.
    fn flow(&self) {
        let wanted = (self.asked.get() || self.reader.borrow().is_some()) && self.pauses.get() == 0;
        if self.flowing.replace(wanted) != wanted
            && let Some(wire) = self.wire.get()
        {
            if wanted { wire.resume_producing() } else { wire.pause_producing() }
        }
    }
    pub(super) fn pause(&self) {
        self.pauses.set(self.pauses.get() + 1);
        self.flow();
    }
    pub(super) fn resume(&self) {
        self.pauses.set(self.pauses.get().saturating_sub(1));
        // Whatever was done to the wire by its own verbs.
        self.flowing.set(false);
        self.flow();
    }
    fn tell_reader(&self) {
        self.news.set(true);
        let reader = self.reader.take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }
    /// No more input will come.
    fn finish(&self, reason: &ConnectionClosed) {
        self.over.borrow_mut().get_or_insert_with(|| reason.clone());
        self.tell_reader();
    }
    fn ended(&self, reason: &ConnectionClosed) {
        self.ended_untold.set(!self.told.get());
        self.end.borrow_mut().get_or_insert_with(|| reason.clone());
        self.finish(reason);
        self.closers.wake_all();
        self.securing.wake_all();
    }
    pub(super) fn epoch(&self) -> u32 {
        self.epoch.get()
    }
    /// TLS is in place, and nothing has come through it yet.
    fn secured(&self) {
        self.epoch.set(self.epoch.get() + 1);
        self.input.take();
        self.tell_reader();
        self.securing.wake_all();
    }
    /// Parks until the handshake is done; gives the error with which it was not, if so.
    #[cfg(feature = "tls")]
    #[track_caller]
    pub(super) fn wait_secure(&self) -> Result<Result<()>> {
        loop {
            if let Some(reason) = &*self.end.borrow() {
                self.told.set(true);
                return Ok(Err(match reason {
                    ConnectionClosed::Failed(failure) => failure.clone(),
                    reason => reason.clone().into(),
                }));
            }
            match self.wire.get() {
                Some(wire) if wire.is_handshaking() => self.securing.wait("the TLS handshake", None)?,
                Some(wire) if wire.is_secure() => return Ok(Ok(())),
                // It was being closed.
                _ => return Ok(Err(ConnectionClosed::Done.into())),
            };
        }
    }

    /// Parks until the connection is gone.
    #[track_caller]
    pub(super) fn wait_end(&self) -> Result<()> {
        let waited = self.end.borrow().is_none();
        while self.end.borrow().is_none() {
            self.closers.wait("the end of its connection", None)?;
        }
        match &*self.end.borrow() {
            Some(reason) if !reason.is_clean() && (!self.told.replace(true) || waited && self.ended_untold.get()) => {
                Err(reason.clone().into())
            }
            _ => Ok(()),
        }
    }
}

struct OnDrop<F: FnMut()>(F);
impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Called with the connection when it is made.
type Made = Box<dyn FnOnce(Rc<Conn>)>;

/// The protocol under a GreenTransport.
pub(super) struct GreenProtocol {
    conn: Rc<Conn>,
    made: Option<Made>,
}

impl GreenProtocol {
    pub(super) fn new(conn: &Rc<Conn>) -> Self {
        GreenProtocol { conn: Rc::clone(conn), made: None }
    }
    pub(super) fn when_made(made: impl FnOnce(Rc<Conn>) + 'static) -> Self {
        GreenProtocol { conn: Conn::new(), made: Some(Box::new(made)) }
    }
}

impl Protocol for GreenProtocol {
    fn connection_made(&mut self, transport: TransportRef) {
        // Again, where it took over: by now that may be the other way round.
        if self.conn.wire.get().is_none() {
            self.conn.attach(transport, b"");
        }
        // A connection whose handshake fails was never made (TW-59).
        if !transport.is_handshaking()
            && let Some(made) = self.made.take()
        {
            made(Rc::clone(&self.conn));
        }
    }
    fn handshake_completed(&mut self, _transport: TransportRef) {
        self.conn.secured();
        if let Some(made) = self.made.take() {
            made(Rc::clone(&self.conn));
        }
    }
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        {
            let mut input = self.conn.input.borrow_mut();
            if input.is_empty() {
                *input = memory::copied(data);
            } else {
                input.extend_from_slice(data);
            }
        }
        self.conn.asked.set(false);
        self.conn.flowing.set(false);
        transport.pause_producing();
        self.conn.tell_reader();
    }
    fn read_connection_lost(&mut self, _transport: TransportRef) {
        // Not the end: what is still to be written goes out until somebody closes.
        self.conn.finish(&ConnectionClosed::Done);
    }
    fn write_connection_lost(&mut self, _transport: TransportRef) {
        self.conn.write_closed.set(true);
    }
    fn connection_lost(&mut self, _transport: TransportRef, reason: &ConnectionClosed) {
        self.conn.ended(reason);
    }
}

/// Another protocol has the wire now: for this connection that is the end, and it is not its to close.
impl Drop for GreenProtocol {
    fn drop(&mut self) {
        if self.conn.end.borrow().is_none() {
            self.conn.wire.set(None);
            self.conn.ended(&ConnectionClosed::Done);
        }
    }
}
