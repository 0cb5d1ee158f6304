//! What a PullTransport and its protocol share: bytes that have arrived, how the connection ended, who has asked.
//!
//! The wire is paused but while somebody has asked for more than is there, so TCP holds the peer back.
use crate::address::Address;
use crate::deferred::{Deferred, Promise};
use crate::error::{Busy, Cancelled, ConnectionClosed};
use crate::failure::{self, Failure, Result};
use crate::protocols::codec::{Decoder, Encoder};
use crate::transport::{HIGH_WATER, Protocol, TransportRef};
use bytes::{Bytes, BytesMut};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::rc::Rc;
use std::task::Waker;

/// Who has asked for a message, under a number to cancel it by.
type Asker<M> = (u64, Promise<Option<M>>);

pub(super) struct Conn<P: Decoder> {
    wire: Cell<Option<TransportRef>>,
    peer: RefCell<Address>,
    host: RefCell<Address>,
    pub(super) input: RefCell<BytesMut>,
    /// Out while it works.
    decoder: RefCell<Option<P>>,
    /// It has been told of its wire.
    attached: Cell<bool>,
    /// Nothing more is to be had from it.
    drained: Cell<bool>,
    /// A message whose asker has gone meanwhile.
    spare: RefCell<Option<P::Item>>,
    askers: RefCell<VecDeque<Asker<P::Item>>>,
    asked: Cell<u64>,
    /// How the reading side ended, once it has.
    over: RefCell<Option<ConnectionClosed>>,
    /// How the connection ended, once it has.
    end: RefCell<Option<ConnectionClosed>>,
    /// An unclean end is told once, behind the data, to those who come later (D4).
    told: Cell<bool>,
    /// Our half-close has gone out.
    write_closed: Cell<bool>,
    /// As far as we know the wire is not paused.
    flowing: Cell<bool>,
    closers: RefCell<Vec<Promise<()>>>,
    /// Tasks that poll for anything that happens.
    wakers: RefCell<Vec<Waker>>,
    /// One of them wants bytes.
    pub(super) polled: Cell<bool>,
    /// One of them waits for what was written to leave.
    #[cfg(feature = "futures-io")]
    pub(super) flushing: Cell<bool>,
}

impl<P: Decoder> Conn<P> {
    pub(super) fn new(decoder: P) -> Rc<Self> {
        Rc::new(Conn {
            wire: Cell::new(None),
            peer: RefCell::new(Address::Gone),
            host: RefCell::new(Address::Gone),
            input: RefCell::default(),
            decoder: RefCell::new(Some(decoder)),
            attached: Cell::new(false),
            drained: Cell::new(false),
            spare: RefCell::new(None),
            askers: RefCell::default(),
            asked: Cell::new(0),
            over: RefCell::default(),
            end: RefCell::default(),
            told: Cell::new(false),
            write_closed: Cell::new(false),
            flowing: Cell::new(false),
            closers: RefCell::default(),
            wakers: RefCell::default(),
            polled: Cell::new(false),
            #[cfg(feature = "futures-io")]
            flushing: Cell::new(false),
        })
    }
    /// Of a wire that may have another protocol so far.
    pub(super) fn attach(self: &Rc<Self>, wire: TransportRef, unread: &[u8]) {
        self.wire.set(Some(wire));
        self.peer.replace(wire.peer());
        self.host.replace(wire.host());
        self.input.borrow_mut().extend_from_slice(unread);
        wire.pause_producing();
        if !wire.is_connected() {
            self.ended(&ConnectionClosed::Done);
        }
    }
    pub(super) fn wire(&self) -> TransportRef {
        self.wire.get().unwrap_or_else(TransportRef::gone)
    }
    pub(super) fn peer(&self) -> Address {
        self.peer.borrow().clone()
    }
    pub(super) fn host(&self) -> Address {
        self.host.borrow().clone()
    }

    pub(super) fn recv(self: &Rc<Self>) -> Deferred<Option<P::Item>> {
        // Whoever asked before comes first.
        if self.askers.borrow().is_empty()
            && let Some(outcome) = self.next(false)
        {
            return match outcome {
                Ok(item) => Deferred::succeed(item),
                Err(failure) => Deferred::fail(failure),
            };
        }
        let (promise, deferred) = Deferred::new();
        let (conn, number) = (Rc::downgrade(self), self.asked.get() + 1);
        self.asked.set(number);
        promise.on_cancel(move || {
            if let Some(conn) = conn.upgrade() {
                conn.forget(number);
            }
        });
        self.askers.borrow_mut().push_back((number, promise));
        self.flow();
        deferred
    }
    fn forget(&self, number: u64) {
        let asker = {
            let mut askers = self.askers.borrow_mut();
            let place = askers.iter().position(|(there, _)| *there == number);
            place.and_then(|place| askers.remove(place))
        };
        self.flow();
        if let Some((_, promise)) = asker {
            promise.errback(Cancelled);
        }
    }
    /// Gives messages to those who have asked, as long as there are both.
    fn serve(self: &Rc<Self>) {
        while !self.askers.borrow().is_empty() {
            let Some(outcome) = self.next(true) else { break };
            let asker = self.askers.borrow_mut().pop_front();
            match (asker, outcome) {
                (Some((_, promise)), outcome) => promise.resolve(outcome),
                (None, Ok(item)) => {
                    let none = self.spare.replace(item);
                    debug_assert!(none.is_none(), "it is given out first");
                }
                (None, Err(_)) => self.told.set(false),
            }
        }
        self.flow();
    }
    /// A message, the end, or an error; `None` when there has to be more input. `waited`: they did before the end came.
    fn next(self: &Rc<Self>, waited: bool) -> Option<Result<Option<P::Item>>> {
        let spare = self.spare.borrow_mut().take();
        if spare.is_some() {
            return Some(Ok(spare));
        }
        loop {
            if self.drained.get() {
                return Some(self.tell_end(waited).map(|()| None));
            }
            let mut decoder = self.decoder.borrow_mut().take()?;
            let (over, mut input) = (self.is_over(), self.input.take());
            if self.wire().is_void() {
                // It came before TLS.
                input.clear();
            }
            let decoded = failure::catch(|| {
                if !self.attached.replace(true) {
                    decoder.attached(self.wire(), &self.ready());
                }
                match decoder.decode(&mut input) {
                    Ok(None) if over => decoder.decode_eof(&mut input),
                    decoded => decoded,
                }
            });
            let none = self.decoder.replace(Some(decoder));
            drop(none);
            let arrived = self.put_back(input);
            match decoded.and_then(|decoded| decoded) {
                Ok(Some(item)) => return Some(Ok(Some(item))),
                Ok(None) if over => self.drained.set(true),
                Ok(None) if arrived || self.is_over() => {}
                Ok(None) => return None,
                Err(failure) => {
                    self.fail_reading(&failure);
                    return Some(Err(failure));
                }
            }
        }
    }
    /// Returns whether bytes have arrived while these were out.
    fn put_back(&self, mut rest: BytesMut) -> bool {
        let mut input = self.input.borrow_mut();
        let arrived = !input.is_empty();
        if arrived {
            rest.extend_from_slice(&input);
        }
        *input = rest;
        arrived
    }
    fn fail_reading(&self, failure: &Failure) {
        self.over.borrow_mut().get_or_insert_with(|| ConnectionClosed::Failed(failure.clone()));
        self.told.set(true);
        self.drained.set(true);
        self.input.take();
        self.wire().fail_connection(failure.clone());
    }
    /// For a decoder that has messages though no bytes came.
    fn ready(self: &Rc<Self>) -> Rc<dyn Fn()> {
        let conn = Rc::downgrade(self);
        Rc::new(move || {
            let Some(wire) = conn.upgrade().and_then(|conn| conn.wire.get()) else { return };
            let conn = conn.clone();
            wire.soon(move || {
                if let Some(conn) = conn.upgrade() {
                    conn.serve();
                }
            });
        })
    }
    pub(super) fn encode<M>(&self, message: M) -> Result<Bytes>
    where
        P: Encoder<M>,
    {
        let Some(mut codec) = self.decoder.borrow_mut().take() else {
            let (holder, refused) = ("the decoder of this connection".to_owned(), "an encoder".to_owned());
            return Err(Busy { holder, refused }.into());
        };
        let mut output = BytesMut::new();
        let encoded = failure::catch(|| codec.encode(message, &mut output));
        let none = self.decoder.replace(Some(codec));
        drop(none);
        encoded.and_then(|encoded| encoded)?;
        Ok(output.freeze())
    }

    /// Whether no more input will come, for whatever reason.
    pub(super) fn is_over(&self) -> bool {
        self.over.borrow().is_some()
    }
    /// The error behind the data, to whoever comes first, and to those who waited when it broke.
    pub(super) fn tell_end(&self, waited: bool) -> Result<()> {
        match &*self.over.borrow() {
            Some(reason) if !reason.is_clean() && (!self.told.replace(true) || waited) => Err(reason.clone().into()),
            _ => Ok(()),
        }
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
    /// Fires when a writer may go on.
    pub(super) fn room(self: &Rc<Self>, wire: TransportRef) -> Deferred<()> {
        if wire.unsent() > HIGH_WATER { self.flushed(wire) } else { Deferred::succeed(()) }
    }
    pub(super) fn flushed(self: &Rc<Self>, wire: TransportRef) -> Deferred<()> {
        let conn = Rc::clone(self);
        wire.when_flushed().add_errback(move |failure| Err(conn.why(failure)))
    }
    /// How it ended, where it has; otherwise what its wire says.
    fn why(&self, failure: Failure) -> Failure {
        match &*self.end.borrow() {
            Some(reason) if failure.is::<ConnectionClosed>() => reason.clone().into(),
            _ => failure,
        }
    }
    pub(super) fn when_ended(&self) -> Deferred<()> {
        if self.end.borrow().is_some() {
            return match self.tell_end(false) {
                Ok(()) => Deferred::succeed(()),
                Err(failure) => Deferred::fail(failure),
            };
        }
        let (promise, deferred) = Deferred::new();
        self.closers.borrow_mut().push(promise);
        deferred
    }

    /// Lets input come while somebody wants it.
    pub(super) fn flow(&self) {
        let wanted = self.polled.get() || !self.askers.borrow().is_empty();
        if self.flowing.replace(wanted) != wanted
            && let Some(wire) = self.wire.get()
        {
            if wanted { wire.resume_producing() } else { wire.pause_producing() }
        }
    }
    /// Wakes `waker` when anything has happened.
    #[cfg(feature = "futures-io")]
    pub(super) fn register(&self, waker: &Waker) {
        let mut wakers = self.wakers.borrow_mut();
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }
    pub(super) fn tell_tasks(&self) {
        let wakers = self.wakers.take();
        wakers.into_iter().for_each(Waker::wake);
    }
    /// No more input will come.
    fn finish(self: &Rc<Self>, reason: &ConnectionClosed) {
        self.over.borrow_mut().get_or_insert_with(|| reason.clone());
        self.polled.set(false);
        self.serve();
        self.tell_tasks();
    }
    fn ended(self: &Rc<Self>, reason: &ConnectionClosed) {
        let untold = !self.told.get();
        self.end.borrow_mut().get_or_insert_with(|| reason.clone());
        self.finish(reason);
        for promise in self.closers.take() {
            let broken = !reason.is_clean() && untold;
            // Those who close may go away before.
            if broken { promise.errback(reason.clone()) } else { promise.callback(()) }
        }
    }
}

/// The protocol under a PullTransport.
pub(super) struct PullProtocol<P: Decoder> {
    conn: Rc<Conn<P>>,
    made: Option<Box<dyn FnOnce()>>,
}
impl<P: Decoder> PullProtocol<P> {
    pub(super) fn new(conn: Rc<Conn<P>>) -> Self {
        PullProtocol { conn, made: None }
    }
    pub(super) fn when_made(conn: Rc<Conn<P>>, made: impl FnOnce() + 'static) -> Self {
        PullProtocol { conn, made: Some(Box::new(made)) }
    }
}
impl<P: Decoder> Protocol for PullProtocol<P> {
    fn connection_made(&mut self, transport: TransportRef) {
        // Again, where it took over: by now that may be the other way round.
        if self.conn.wire.get().is_none() {
            self.conn.attach(transport, b"");
        }
        self.conn.flowing.set(false);
        // A connection whose handshake fails was never made.
        if !transport.is_handshaking()
            && let Some(made) = self.made.take()
        {
            made();
        }
        self.conn.flow();
    }
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        self.conn.input.borrow_mut().extend_from_slice(data);
        self.conn.polled.set(false);
        self.conn.flowing.set(false);
        transport.pause_producing();
        self.conn.serve();
        self.conn.tell_tasks();
    }
    fn handshake_completed(&mut self, _transport: TransportRef) {
        self.conn.input.take();
        let decoder = self.conn.decoder.borrow_mut().take();
        if let Some(mut decoder) = decoder {
            let restarted = failure::catch(|| decoder.restart());
            let none = self.conn.decoder.replace(Some(decoder));
            drop(none);
            if let Err(failure) = restarted {
                self.conn.fail_reading(&failure);
            }
        }
        if let Some(made) = self.made.take() {
            made();
        }
        self.conn.serve();
        self.conn.tell_tasks();
    }
    fn read_connection_lost(&mut self, _transport: TransportRef) {
        // Not the end: what is still to be written goes out until somebody closes.
        self.conn.finish(&ConnectionClosed::Done);
    }
    fn write_connection_lost(&mut self, _transport: TransportRef) {
        self.conn.write_closed.set(true);
        self.conn.tell_tasks();
    }
    fn connection_lost(&mut self, _transport: TransportRef, reason: &ConnectionClosed) {
        self.conn.ended(reason);
    }
}
/// Another protocol has the wire now: for this connection that is the end, and it is not its to close.
impl<P: Decoder> Drop for PullProtocol<P> {
    fn drop(&mut self) {
        if self.conn.end.borrow().is_none() {
            self.conn.wire.set(None);
            self.conn.ended(&ConnectionClosed::Done);
        }
    }
}
