//! `End`: one end of a wire in memory, which records what its protocol writes and asks. `StringTransport` is one, `Pump` two.
//!
//! What the protocol does through its transport only changes the `Tape`; what the test does runs the protocol, with nothing
//! borrowed.
use super::Clock;
use crate::address::Address;
use crate::clock::Clock as _;
use crate::deferred::{Deferred, Promise};
use crate::error::ConnectionClosed;
use crate::failure::{self, Failure};
use crate::transport::{self, Producer, Protocol, PullProducer, Transport, TransportRef, Wire};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::Duration;

/// Above this much unsent output a push producer is paused.
pub(super) const HIGH_WATER: usize = 64 * 1024;

pub(super) enum Registered {
    Push(Box<dyn Producer>),
    Pull(Box<dyn PullProducer>),
}

/// What a protocol has done to its transport.
pub(super) struct Tape {
    pub(super) written: RefCell<Vec<u8>>,
    /// `lose_connection`, `lose_write_connection`, `abort_connection` were called.
    pub(super) closing: Cell<bool>,
    pub(super) write_closing: Cell<bool>,
    pub(super) aborted: Cell<bool>,
    /// What `fail_connection` was called with.
    pub(super) failed: RefCell<Option<Failure>>,
    /// Who waits for the output to leave.
    flushing: RefCell<Vec<Promise<()>>>,
    /// Output leaves only when the test takes it; on a wire nobody takes from it is gone at once.
    keeps: bool,
    /// How long each of the writes was whose bytes it keeps.
    pub(super) writes: RefCell<VecDeque<usize>>,
    /// `lose_connection` and `abort_connection` end it, without the test's doing.
    pub(super) obeys: Cell<bool>,
    /// The protocol has been told `write_connection_lost`.
    pub(super) write_closed: Cell<bool>,
    pub(super) lost: Cell<bool>,
    pub(super) paused: Cell<bool>,
    producer: RefCell<Option<Registered>>,
    pub(super) has_producer: Cell<bool>,
    pub(super) producer_paused: Cell<bool>,
    clock: Clock,
    host: Address,
    peer: Address,
    end: RefCell<Weak<End>>,
}

impl Tape {
    fn register(&self, producer: Registered) {
        if self.lost.get() {
            return self.later(move || stop(producer));
        }
        assert!(
            !self.has_producer.get(),
            "a producer is registered with this transport already: unregister_producer() first"
        );
        self.has_producer.set(true);
        self.producer_paused.set(false);
        let old = self.producer.replace(Some(producer));
        drop(old);
    }
    /// Ends it, if it is to end by itself, when the clock is advanced next: closing runs no user code.
    pub(super) fn obey(&self) {
        let asked = self.closing.get() || self.aborted.get();
        if asked && self.obeys.get() && !self.lost.get() {
            let end = self.end.borrow().clone();
            self.later(move || {
                if let Some(end) = end.upgrade() {
                    end.lose(end.tape.reason());
                }
            });
        }
    }
    /// Why it ends, as far as the protocol has a say in it.
    pub(super) fn reason(&self) -> ConnectionClosed {
        match self.failed.borrow().clone() {
            _ if self.aborted.get() => ConnectionClosed::Aborted,
            Some(failure) => ConnectionClosed::Failed(failure),
            None => ConnectionClosed::Done,
        }
    }
    /// What was written has left: tells who waits for that.
    pub(super) fn flushed(&self) {
        for promise in self.flushing.take() {
            promise.callback(());
        }
    }
    /// The lengths of the writes that make up the first `bytes` of the output.
    pub(super) fn take_writes(&self, bytes: usize) -> Vec<usize> {
        let (mut left, mut taken) = (bytes, Vec::new());
        let mut writes = self.writes.borrow_mut();
        while let Some(length) = writes.front_mut() {
            let now = left.min(*length);
            if now == 0 {
                break;
            }
            taken.push(now);
            left -= now;
            *length -= now;
            if *length == 0 {
                writes.pop_front();
            }
        }
        taken
    }
    /// User code is run by the test's clock, never by a method of a transport.
    fn later(&self, call: impl FnOnce() + 'static) {
        self.clock.schedule(Duration::ZERO, Box::new(call));
    }
    fn fail(&self, failure: Failure) {
        // Behind a close that waits for a producer, too.
        if !self.lost.get() && !self.aborted.get() && self.failed.borrow().is_none() {
            self.closing.set(true);
            *self.failed.borrow_mut() = Some(failure);
            self.obey();
        }
    }
    /// Calls the producer, taken out meanwhile. `false` unregisters it.
    fn with_producer(&self, call: impl FnOnce(&mut Registered) -> bool) {
        let Some(mut producer) = self.producer.take() else { return };
        // As on a socket: its panic ends the connection.
        let goes_on = failure::catch(|| call(&mut producer)).unwrap_or_else(|failure| {
            failure::report("a producer", &failure);
            self.fail(failure);
            false
        });
        if !goes_on {
            self.has_producer.set(false);
        }
        let mut kept = Some(producer);
        if self.has_producer.get() && self.producer.borrow().is_none() {
            *self.producer.borrow_mut() = kept.take();
        }
        drop(kept);
    }
    pub(super) fn pause_producer(&self) {
        if self.has_producer.get() && !self.producer_paused.replace(true) {
            self.with_producer(|producer| {
                if let Registered::Push(producer) = producer {
                    producer.pause_producing();
                }
                true
            });
        }
    }
    /// A paused push producer goes on; a pull producer is asked once. Returns whether there was one of either.
    pub(super) fn resume_producer(&self, consumer: TransportRef) -> bool {
        let is_pull = matches!(&*self.producer.borrow(), Some(Registered::Pull(_)));
        if !self.has_producer.get() || !self.producer_paused.replace(false) && !is_pull {
            return false;
        }
        self.with_producer(|producer| match producer {
            Registered::Push(producer) => {
                producer.resume_producing();
                true
            }
            Registered::Pull(producer) => producer.produce(consumer),
        });
        true
    }
}

fn stop(mut producer: Registered) {
    // Contained, because the end of a wire may come with the unwinding of a test.
    let stopped = failure::catch(move || match &mut producer {
        Registered::Push(producer) => producer.stop_producing(),
        Registered::Pull(producer) => producer.stop_producing(),
    });
    if let Err(failure) = stopped {
        failure::report("a producer", &failure);
    }
}

/// One end: the tape, the wire that names it, and what the far end sent while the protocol had paused it.
pub(super) struct End {
    pub(super) tape: Rc<Tape>,
    name: TransportRef,
    wire: RefCell<Option<Rc<Wire>>>,
    /// Why it ends, when that was said while the protocol ran.
    reason: RefCell<Option<ConnectionClosed>>,
    held_back: RefCell<Vec<u8>>,
}

impl End {
    /// `connection_made` has been called when this returns.
    pub(super) fn new(
        protocol: impl Protocol + 'static,
        clock: &Clock,
        host: Address,
        peer: Address,
        keeps: bool,
    ) -> Rc<End> {
        let tape = Rc::new(Tape {
            written: RefCell::default(),
            closing: Cell::new(false),
            write_closing: Cell::new(false),
            aborted: Cell::new(false),
            failed: RefCell::default(),
            flushing: RefCell::default(),
            keeps,
            writes: RefCell::default(),
            obeys: Cell::new(false),
            write_closed: Cell::new(false),
            lost: Cell::new(false),
            paused: Cell::new(false),
            producer: RefCell::default(),
            has_producer: Cell::new(false),
            producer_paused: Cell::new(false),
            clock: clock.clone(),
            host,
            peer,
            end: RefCell::default(),
        });
        let wire = Wire::new(Near(Rc::clone(&tape)), protocol);
        let end = Rc::new(End {
            tape,
            name: wire.transport(),
            wire: RefCell::new(Some(Rc::new(wire))),
            reason: RefCell::default(),
            held_back: RefCell::default(),
        });
        *end.tape.end.borrow_mut() = Rc::downgrade(&end);
        end
    }
    pub(super) fn name(&self) -> TransportRef {
        self.name
    }
    /// Whether the protocol has been told, or has panicked.
    pub(super) fn is_lost(&self) -> bool {
        self.tape.lost.get() || !self.name.is_connected()
    }
    /// Whether what arrives now would have to wait.
    pub(super) fn holds_back(&self) -> bool {
        self.tape.paused.get() || !self.held_back.borrow().is_empty()
    }
    /// How much more may be sent to it now: what a pause holds back is bounded, as on a socket.
    pub(super) fn room(&self) -> usize {
        // One that is gone takes everything, and throws it away.
        if self.holds_back() && !self.is_lost() {
            HIGH_WATER.saturating_sub(self.held_back.borrow().len())
        } else {
            usize::MAX
        }
    }
    pub(super) fn deliver(&self, data: &[u8]) {
        if self.tape.closing.get() || self.tape.aborted.get() {
            return;
        }
        if self.holds_back() {
            self.held_back.borrow_mut().extend_from_slice(data);
            return self.deliver_held_back();
        }
        self.with_wire(|wire| wire.deliver(data));
    }
    /// What came while it was paused, unless it still is.
    pub(super) fn deliver_held_back(&self) {
        if !self.tape.paused.get() && !self.tape.closing.get() && !self.tape.aborted.get() {
            let data = std::mem::take(&mut *self.held_back.borrow_mut());
            if !data.is_empty() {
                self.with_wire(|wire| wire.deliver(&data));
            }
        }
    }
    pub(super) fn deliver_read_lost(&self) {
        self.with_wire(Wire::deliver_read_lost);
    }
    pub(super) fn deliver_write_lost(&self) {
        self.tape.write_closed.set(true);
        self.with_wire(Wire::deliver_write_lost);
    }
    /// Ends it. Within a callback of the protocol: as soon as that has returned.
    pub(super) fn lose(&self, reason: ConnectionClosed) {
        if self.tape.lost.replace(true) {
            return;
        }
        self.tape.has_producer.set(false);
        for promise in self.tape.flushing.take() {
            promise.errback(reason.clone());
        }
        let producer = self.tape.producer.take();
        if let Some(producer) = producer {
            stop(producer);
        }
        let wire = self.wire.take();
        *self.reason.borrow_mut() = Some(reason);
        if let Some(wire) = wire {
            self.finish(wire);
        }
    }
    /// Runs the protocol.
    fn with_wire(&self, call: impl FnOnce(&Wire)) {
        let wire = self.wire.borrow().clone();
        if let Some(wire) = wire {
            call(&wire);
            self.finish(wire);
        }
    }
    /// Whoever holds the wire last ends it, if it has been lost meanwhile.
    fn finish(&self, wire: Rc<Wire>) {
        if let Some(wire) = Rc::into_inner(wire) {
            let reason = self.reason.take().unwrap_or(ConnectionClosed::Lost(None));
            wire.deliver_lost(&reason);
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.lose(ConnectionClosed::Lost(None));
    }
}

/// The transport the protocol sees.
struct Near(Rc<Tape>);

impl Transport for Near {
    fn write(&self, data: &[u8]) {
        let tape = &self.0;
        if !tape.lost.get() && !tape.aborted.get() && !tape.write_closed.get() {
            tape.written.borrow_mut().extend_from_slice(data);
            if tape.keeps && !data.is_empty() {
                tape.writes.borrow_mut().push_back(data.len());
            }
        }
    }
    fn lose_connection(&self) {
        self.0.closing.set(true);
        self.0.obey();
    }
    fn lose_write_connection(&self) {
        self.0.write_closing.set(true);
    }
    fn abort_connection(&self) {
        self.0.aborted.set(true);
        self.0.obey();
    }
    fn fail_connection(&self, failure: Failure) {
        self.0.fail(failure);
    }
    fn when_flushed(&self) -> Deferred<()> {
        if !self.0.keeps || self.0.written.borrow().is_empty() {
            return Deferred::succeed(());
        }
        let (promise, deferred) = Deferred::new();
        self.0.flushing.borrow_mut().push(promise);
        deferred
    }
    fn is_disconnecting(&self) -> bool {
        self.0.closing.get() || self.0.aborted.get() || self.0.lost.get()
    }
    fn is_connected(&self) -> bool {
        !self.0.lost.get()
    }
    fn unsent(&self) -> usize {
        self.0.written.borrow().len()
    }
    fn pause_producing(&self) {
        self.0.paused.set(true);
    }
    fn resume_producing(&self) {
        if self.0.paused.replace(false) {
            let end = self.0.end.borrow().clone();
            self.0.later(move || {
                if let Some(end) = end.upgrade() {
                    end.deliver_held_back();
                }
            });
        }
    }
    fn register_producer(&self, producer: Box<dyn Producer>) {
        self.0.register(Registered::Push(producer));
    }
    fn register_pull_producer(&self, producer: Box<dyn PullProducer>) {
        self.0.register(Registered::Pull(producer));
    }
    fn unregister_producer(&self) {
        self.0.has_producer.set(false);
        self.0.producer_paused.set(false);
        let producer: Option<Box<dyn Any>> = self.0.producer.take().map(|producer| Box::new(producer) as _);
        if let Some(producer) = producer {
            // Its destructor is user code.
            self.0.later(move || drop(producer));
        }
    }
    fn take_producer(&self) -> Option<transport::Taken> {
        let producer = self.0.producer.take()?;
        let paused = self.0.producer_paused.get();
        self.0.has_producer.set(false);
        self.0.producer_paused.set(false);
        let producer = match producer {
            Registered::Push(producer) => transport::Registered::Push(producer),
            Registered::Pull(producer) => transport::Registered::Pull(producer),
        };
        Some(transport::Taken { producer, paused })
    }
    fn peer(&self) -> Address {
        self.0.peer.clone()
    }
    fn host(&self) -> Address {
        self.0.host.clone()
    }
    fn clock(&self) -> Rc<dyn crate::clock::Clock> {
        self.0.clock.handle()
    }
}
