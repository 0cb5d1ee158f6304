//! What a GreenTransport and its protocol share: bytes that have arrived, how the connection ended, who waits for either.
//!
//! Reading is demand-driven: the wire is paused but while somebody waits for input, so TCP holds the peer back. The protocol's
//! methods run in the main loop and only note and wake.
use crate::address::Address;
use crate::error::ConnectionClosed;
use crate::failure::{Failure, Result};
use crate::green::task::{Waiter, prepare};
use crate::transport::{Protocol, TransportRef};
use bytes::BytesMut;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

pub(super) struct Conn {
    wire: Cell<Option<TransportRef>>,
    peer: RefCell<Address>,
    host: RefCell<Address>,
    input: RefCell<BytesMut>,
    /// The peer has finished.
    eof: Cell<bool>,
    /// How it ended, once it has.
    end: RefCell<Option<ConnectionClosed>>,
    /// An unclean end is told once, behind the data.
    end_told: Cell<bool>,
    /// The user's own pauses (TW-22).
    pauses: Cell<usize>,
    readers: RefCell<VecDeque<Waiter>>,
    closers: RefCell<Vec<Waiter>>,
}

impl Conn {
    pub(super) fn new() -> Rc<Conn> {
        Rc::new(Conn {
            wire: Cell::new(None),
            peer: RefCell::new(Address::Gone),
            host: RefCell::new(Address::Gone),
            input: RefCell::default(),
            eof: Cell::new(false),
            end: RefCell::default(),
            end_told: Cell::new(false),
            pauses: Cell::new(0),
            readers: RefCell::default(),
            closers: RefCell::default(),
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
            self.end.borrow_mut().get_or_insert(ConnectionClosed::Done);
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
        self.input.take()
    }
    pub(super) fn put_back(&self, mut rest: BytesMut) {
        let mut input = self.input.borrow_mut();
        if !input.is_empty() {
            // Arrived while a decoder that waits had the rest.
            rest.extend_from_slice(&input);
        }
        *input = rest;
    }
    /// Whether no more input will come, for whatever reason.
    pub(super) fn is_finished(&self) -> bool {
        self.eof.get() || self.end.borrow().is_some()
    }
    /// For a decoder that has messages though no bytes came.
    pub(super) fn ready(self: &Rc<Self>) -> Rc<dyn Fn()> {
        let conn = Rc::downgrade(self);
        Rc::new(move || {
            if let Some(conn) = conn.upgrade() {
                conn.wake_reader();
            }
        })
    }
    /// A reader has been told what is wrong.
    pub(super) fn told(&self) {
        self.end_told.set(true);
    }
    /// The error behind the data, once (D4).
    pub(super) fn tell_end(&self) -> Result<()> {
        match &*self.end.borrow() {
            Some(reason) if !reason.is_clean() && !self.end_told.replace(true) => Err(reason.clone().into()),
            _ => Ok(()),
        }
    }
    /// Why nothing can be written any more.
    pub(super) fn writable(&self) -> Result<TransportRef> {
        match (&*self.end.borrow(), self.wire.get()) {
            (Some(reason), _) => Err(reason.clone().into()),
            (None, Some(wire)) => Ok(wire),
            (None, None) => Err(Failure::from(ConnectionClosed::Done)),
        }
    }

    /// Parks until there is news for a reader. `false`: `limit` has passed.
    #[track_caller]
    pub(super) fn wait_input(&self, limit: Option<Duration>) -> Result<bool> {
        let wait = prepare()?;
        self.readers.borrow_mut().push_back(wait.waiter());
        self.flow();
        // Also when the wait is left by unwinding: nobody reading holds the peer back.
        let _pause = OnDrop(|| self.flow());
        wait.park_timeout("input from its connection", limit)
    }
    /// Lets input come while somebody waits for it and the user has not paused.
    fn flow(&self) {
        let wanted = {
            let mut readers = self.readers.borrow_mut();
            while readers.front().is_some_and(|reader| !reader.is_waiting()) {
                readers.pop_front();
            }
            !readers.is_empty() && self.pauses.get() == 0
        };
        if let Some(wire) = self.wire.get() {
            if wanted { wire.resume_producing() } else { wire.pause_producing() }
        }
    }
    pub(super) fn pause(&self) {
        self.pauses.set(self.pauses.get() + 1);
        self.flow();
    }
    pub(super) fn resume(&self) {
        self.pauses.set(self.pauses.get().saturating_sub(1));
        self.flow();
    }
    fn wake_reader(&self) {
        loop {
            let reader = self.readers.borrow_mut().pop_front();
            match reader {
                Some(reader) if !reader.wake() => {}
                _ => return,
            }
        }
    }
    fn wake_readers(&self) {
        let readers = std::mem::take(&mut *self.readers.borrow_mut());
        for reader in readers {
            reader.wake();
        }
    }
    /// The next reader, when this one leaves input behind.
    pub(super) fn pass_on(&self) {
        if !self.input.borrow().is_empty() {
            self.wake_reader();
        }
    }

    /// Parks until the connection is gone.
    #[track_caller]
    pub(super) fn wait_end(&self) -> Result<()> {
        while self.end.borrow().is_none() {
            let wait = prepare()?;
            self.closers.borrow_mut().push(wait.waiter());
            wait.park("the end of its connection")?;
        }
        match &*self.end.borrow() {
            Some(reason) if !reason.is_clean() && !self.end_told.replace(true) => Err(reason.clone().into()),
            _ => Ok(()),
        }
    }
}

pub(super) struct OnDrop<F: FnMut()>(pub(super) F);
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
        if let Some(made) = self.made.take() {
            made(Rc::clone(&self.conn));
        }
    }
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        {
            let mut input = self.conn.input.borrow_mut();
            if input.is_empty() {
                *input = BytesMut::from(data);
            } else {
                input.extend_from_slice(data);
            }
        }
        transport.pause_producing();
        self.conn.wake_reader();
    }
    fn read_connection_lost(&mut self, _transport: TransportRef) {
        // Not the end: what is still to be written goes out until somebody closes.
        self.conn.eof.set(true);
        self.conn.wake_readers();
    }
    fn connection_lost(&mut self, _transport: TransportRef, reason: &ConnectionClosed) {
        self.conn.end.replace(Some(reason.clone()));
        self.conn.wake_readers();
        let closers = std::mem::take(&mut *self.conn.closers.borrow_mut());
        for closer in closers {
            closer.wake();
        }
    }
}
