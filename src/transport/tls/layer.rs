//! `Layer`: TLS between two wires. Below it is any wire, whose protocol it is (`TlsProtocol`); above it is a wire of its own, or
//! the one that `start_tls` was called on, whose transport it is.
//!
//! `input` decrypts and tells the upper protocol, `output` gathers and encrypts, `ending` closes, `verbs` is what a
//! `TransportRef` does to it. What must never happen here: user code run, or the upper protocol told anything, while rustls's
//! state machine is borrowed, or from a method of `Transport`.
mod ending;
mod input;
mod output;
mod verbs;

use super::{Side, TlsError, TlsInfo};
use crate::address::Address;
use crate::clock::{Clock, DelayedCall};
use crate::deferred::Promise;
use crate::error::ConnectionClosed;
use crate::failure::Failure;
use crate::transport::producer::Registered;
use crate::transport::{Protocol, TransportRef, wire};
use rustls::Connection;
use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::Duration;

/// The handshake is done, and the upper protocol told so.
const SECURE: u32 = 1;
/// The upper protocol has paused.
const PAUSED: u32 = 1 << 1;
const LOWER_PAUSED: u32 = 1 << 2;
/// Input is being worked off; what waits for a flush follows by itself.
const BUSY: u32 = 1 << 3;
const FLUSH_DUE: u32 = 1 << 4;
/// A call that goes on with the input is on its way.
const GO_ON_DUE: u32 = 1 << 5;
/// Work on the input stopped at a pause.
const HELD: u32 = 1 << 6;
/// `lose_connection` was called.
const CLOSING: u32 = 1 << 7;
/// `lose_write_connection` was called.
const WRITE_CLOSING: u32 = 1 << 8;
/// Our close_notify is out.
const CLOSE_SENT: u32 = 1 << 9;
/// The peer's close_notify has come; the upper protocol has been told.
const PEER_CLOSED: u32 = 1 << 10;
const PEER_TOLD: u32 = 1 << 11;
/// The wire below has no more input; that has been dealt with.
const EOF: u32 = 1 << 12;
const EOF_DONE: u32 = 1 << 13;
const ABORTED: u32 = 1 << 14;
/// It ends with an error: nothing more is received.
const FAILED: u32 = 1 << 15;
const LOWER_CLOSING: u32 = 1 << 16;
/// The wire below is gone.
const LOST: u32 = 1 << 17;
/// The upper protocol has been told.
const ENDED: u32 = 1 << 18;
const PRODUCER: u32 = 1 << 19;
const PRODUCER_PAUSED: u32 = 1 << 20;
/// The wire below has paused us.
const LOWER_FULL: u32 = 1 << 21;
/// We are the producer of the wire below.
const LOWER_PRODUCER: u32 = 1 << 22;
/// The producer of the wire below is to become ours.
const ADOPTS: u32 = 1 << 23;
/// Whoever paused its producer goes on when the wire below has sent what it has.
const RESUMING: u32 = 1 << 24;

pub(in crate::transport) struct Layer {
    me: Weak<Layer>,
    lower: Cell<TransportRef>,
    upper: Cell<TransportRef>,
    /// How many layers `start_tls` has put under `upper`, this one included; none when `upper` is our own wire.
    depth: Cell<usize>,
    flags: Cell<u32>,
    /// Until the handshake begins.
    side: RefCell<Option<Side>>,
    engine: RefCell<Option<Connection>>,
    /// Written, and not encrypted.
    plain: RefCell<Vec<u8>>,
    /// Received, and not decrypted: the rest of one delivery.
    held: RefCell<Vec<u8>>,
    /// The first bytes that came, for an error message.
    first: RefCell<Vec<u8>>,
    /// What rustls says, to be told behind the data before it.
    fault: RefCell<Option<TlsError>>,
    /// How it ends, where the wire below does not know.
    reason: RefCell<Option<ConnectionClosed>>,
    producer: RefCell<Option<Registered>>,
    flush_waiters: RefCell<Vec<Promise<()>>>,
    info: OnceCell<TlsInfo>,
    /// Of the handshake, then of the close.
    timer: Cell<Option<DelayedCall>>,
    clock: OnceCell<Rc<dyn Clock>>,
    read_size: Cell<usize>,
    /// Peer and host, once the wire below is gone and the upper one is not.
    ends: OnceCell<(Address, Address)>,
    /// The wire below is gone, the upper one not: the reactor, and our place in its table.
    waiting: Cell<Option<(u32, usize)>>,
}

impl Layer {
    fn new(side: Side) -> Rc<Layer> {
        Rc::new_cyclic(|me| Layer {
            me: me.clone(),
            lower: Cell::new(TransportRef::gone()),
            upper: Cell::new(TransportRef::gone()),
            depth: Cell::new(0),
            flags: Cell::new(0),
            side: RefCell::new(Some(side)),
            engine: RefCell::default(),
            plain: RefCell::default(),
            held: RefCell::default(),
            first: RefCell::default(),
            fault: RefCell::default(),
            reason: RefCell::default(),
            producer: RefCell::default(),
            flush_waiters: RefCell::default(),
            info: OnceCell::new(),
            timer: Cell::new(None),
            clock: OnceCell::new(),
            read_size: Cell::new(usize::MAX),
            ends: OnceCell::new(),
            waiting: Cell::new(None),
        })
    }
    #[inline]
    fn has(&self, bits: u32) -> bool {
        self.flags.get() & bits != 0
    }
    #[inline]
    fn set(&self, bits: u32) {
        self.flags.set(self.flags.get() | bits);
    }
    #[inline]
    fn clear(&self, bits: u32) {
        self.flags.set(self.flags.get() & !bits);
    }

    /// Puts a layer under a wire that has another protocol, and begins.
    pub(super) fn put_under(upper: TransportRef, side: Side) {
        let layer = Layer::new(side);
        layer.upper.set(upper);
        let protocol = TlsProtocol { layer: Rc::clone(&layer), made: None };
        let Some((lower, depth, paused)) = wire::put_under(upper, layer.clone(), Box::new(protocol)) else { return };
        layer.depth.set(depth);
        layer.attach(lower);
        layer.set(ADOPTS);
        layer.adopt_producer();
        if paused {
            layer.set(PAUSED);
            // The handshake needs what comes.
            lower.resume_producing();
        }
        layer.begin();
        // A producer that was at work has come back by then.
        layer.flush_soon();
    }
    fn attach(&self, lower: TransportRef) {
        self.lower.set(lower);
        let _ = self.clock.set(lower.clock());
    }
    /// Begins the handshake: a client's first message goes out. Runs no user code.
    fn begin(&self) {
        if self.has(ABORTED | FAILED | LOST) {
            return;
        }
        let Some(side) = self.side.take() else { return };
        match side.connection(&self.lower.get().peer()) {
            Ok(mut connection) => {
                self.send(&mut connection);
                let old = self.engine.replace(Some(connection));
                drop(old);
            }
            Err(error) => return self.fail(Failure::from(error)),
        }
        if let Some(limit) = side.handshake_timeout() {
            self.set_timer(limit, move |layer| layer.fail_hard(TlsError::HandshakeTimedOut(limit)));
        }
    }
    /// Runs `call` after `delay`, in the place of what was to run before.
    fn set_timer(&self, delay: Duration, call: impl FnOnce(&Layer) + 'static) {
        let timer = self.later(delay, call);
        if let Some(old) = self.timer.replace(timer) {
            old.cancel();
        }
    }
    fn stop_timer(&self) {
        if let Some(timer) = self.timer.take() {
            timer.cancel();
        }
    }
    fn later(&self, delay: Duration, call: impl FnOnce(&Layer) + 'static) -> Option<DelayedCall> {
        let layer = Weak::clone(&self.me);
        let call = move || {
            if let Some(layer) = layer.upgrade() {
                call(&layer);
            }
        };
        self.clock.get().map(|clock| clock.schedule(delay, Box::new(call)))
    }
    /// Tells the upper protocol; its panic ends the connection.
    fn tell(&self, event: impl FnOnce(&mut dyn Protocol) + 'static) {
        if let Err(failure) = wire::notify_above(self.upper.get(), self.depth.get(), event) {
            self.fail(failure);
        }
    }
}

/// TLS as the protocol of a wire, with another protocol above (Twisted's `TLSMemoryBIOProtocol`): for who connects by means of
/// his own; [`wrap_factory`](super::wrap_factory) makes one for each connection.
pub struct TlsProtocol {
    layer: Rc<Layer>,
    /// The upper protocol, until the connection is made.
    made: Option<Box<dyn Protocol>>,
}

impl TlsProtocol {
    /// Puts `protocol` on TLS.
    pub fn new(side: impl Into<Side>, protocol: impl Protocol + 'static) -> Self {
        TlsProtocol { layer: Layer::new(side.into()), made: Some(Box::new(protocol)) }
    }
}

impl Protocol for TlsProtocol {
    fn connection_made(&mut self, transport: TransportRef) {
        let Some(protocol) = self.made.take() else { return };
        let layer = &self.layer;
        layer.attach(transport);
        let upper = wire::open(layer.clone(), protocol);
        layer.upper.set(upper);
        layer.set(BUSY);
        layer.tell(move |protocol| protocol.connection_made(upper));
        layer.begin();
        layer.settle();
    }
    // The wire below may be named otherwise here than we name it: it is the upper one's, where `start_tls` was called.
    fn data_received(&mut self, _: TransportRef, data: &[u8]) {
        self.layer.input(data);
    }
    fn read_connection_lost(&mut self, _: TransportRef) {
        self.layer.end_of_input();
    }
    fn connection_lost(&mut self, _: TransportRef, reason: &ConnectionClosed) {
        self.layer.lost(reason);
    }
}
impl fmt::Debug for TlsProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsProtocol").field("lower", &self.layer.lower.get()).finish_non_exhaustive()
    }
}
