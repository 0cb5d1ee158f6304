//! `ThrottlingFactory`: all connections of a service together read and write no more than so much a second (Twisted's
//! `ThrottlingFactory`). What holds a producer back is in `gate`.
//!
//! What was too much in a second is made up for by a pause of all, so the limits hold on average, and a short burst passes.
mod gate;

use super::forward;
use super::layered::Layered;
use super::limits::Seat;
use super::wrapper::{Layer, Wrapper};
use crate::address::Address;
use crate::clock::{Clock, DelayedCall};
use crate::error::{ConnectError, ConnectionClosed};
use crate::transport::{ClientFactory, Connector, Factory, Producer, Protocol, PullProducer, Taken, TransportRef};
use bytes::Bytes;
use gate::Gate;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::io::IoSlice;
use std::rc::{Rc, Weak};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Limits the bytes that all connections of a factory together read and write in a second, and their number. Nothing is
/// limited unless said so.
///
/// Reading more than the limit pauses all connections for as long as it takes to make up for it. Writing more pauses their
/// producers: who writes without one is not held back.
///
/// ```
/// use twistlet::protocols::policies::ThrottlingFactory;
/// # use twistlet::{Protocol, Reactor, TransportRef};
/// # struct Echo;
/// # impl Protocol for Echo { fn data_received(&mut self, t: TransportRef, data: &[u8]) { t.write(data) } }
/// # let reactor = Reactor::new()?;
/// let factory = ThrottlingFactory::new(|| Echo).max_connections(100).read_limit(1_000_000).write_limit(1_000_000);
/// reactor.listen_tcp("127.0.0.1:0", factory)?;
/// # reactor.close();
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct ThrottlingFactory<F> {
    inner: F,
    max: usize,
    count: Rc<Cell<usize>>,
    shared: Rc<Shared>,
}

impl<F> ThrottlingFactory<F> {
    /// No limits yet.
    pub fn new(inner: F) -> Self {
        ThrottlingFactory { inner, max: usize::MAX, count: Rc::default(), shared: Rc::default() }
    }
    /// Declines connections beyond so many at once.
    pub fn max_connections(mut self, n: usize) -> Self {
        self.max = n;
        self
    }
    /// Bytes read in a second by all connections together; at least one.
    pub fn read_limit(self, bytes_per_second: usize) -> Self {
        self.shared.read.limit.set(Some(bytes_per_second.max(1)));
        self
    }
    /// Bytes written in a second by all connections together; at least one.
    pub fn write_limit(self, bytes_per_second: usize) -> Self {
        self.shared.write.limit.set(Some(bytes_per_second.max(1)));
        self
    }
    /// How many connections there are now.
    pub fn connections(&self) -> usize {
        self.count.get()
    }
}
impl<F: Factory> Factory for ThrottlingFactory<F> {
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        if self.count.get() >= self.max {
            log::info!(target: "twistlet", "the connection with {peer} is declined: there are {} already", self.max);
            return None;
        }
        let protocol = self.inner.build_protocol(peer)?;
        let throttled = Throttled {
            shared: Rc::clone(&self.shared),
            gate: Gate::new(),
            seat: Cell::new(Some(Seat::of(&self.count))),
        };
        Some(Layered::boxed(throttled, protocol, None))
    }
    forward!(factory);
}
impl<F: ClientFactory> ClientFactory for ThrottlingFactory<F> {
    forward!(client);
}
impl<F> fmt::Debug for ThrottlingFactory<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThrottlingFactory")
            .field("connections", &self.count.get())
            .field("read_limit", &self.shared.read.limit.get())
            .field("write_limit", &self.shared.write.limit.get())
            .finish_non_exhaustive()
    }
}

/// One direction of all connections.
#[derive(Default)]
struct Rate {
    limit: Cell<Option<usize>>,
    /// Since the last look.
    bytes: Cell<usize>,
    throttled: Cell<bool>,
    resume: Cell<Option<DelayedCall>>,
}
impl Rate {
    #[inline]
    fn count(&self, bytes: usize) {
        self.bytes.set(self.bytes.get().saturating_add(bytes));
    }
    /// How long to pause for what went in the last second, if that was too much.
    fn excess(&self) -> Option<Duration> {
        let (bytes, limit) = (self.bytes.take(), self.limit.get()?);
        let seconds = bytes as f64 / limit as f64 - 1.0;
        (bytes > limit).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Reading,
    Writing,
}

#[derive(Default)]
struct Shared {
    read: Rate,
    write: Rate,
    members: RefCell<HashMap<TransportRef, (Layer, Rc<Gate>)>>,
    check: Cell<Option<DelayedCall>>,
}

impl Shared {
    fn rate(&self, direction: Direction) -> &Rate {
        match direction {
            Direction::Reading => &self.read,
            Direction::Writing => &self.write,
        }
    }
    fn enter(self: &Rc<Self>, layer: Layer, gate: &Rc<Gate>) {
        let is_limited = self.read.limit.get().is_some() || self.write.limit.get().is_some();
        self.members.borrow_mut().insert(layer.lower(), (layer, Rc::clone(gate)));
        if is_limited && self.check.get().is_none() {
            self.check_later(&*layer.lower().clock());
        }
        if self.read.throttled.get() {
            layer.lower().pause_producing();
        }
        if self.write.throttled.get() {
            gate.throttle(layer, true);
        }
    }
    fn leave(&self, layer: Layer) {
        let member = self.members.borrow_mut().remove(&layer.lower());
        drop(member);
        if self.members.borrow().is_empty() {
            let timers = [self.check.take(), self.read.resume.take(), self.write.resume.take()];
            for timer in timers.into_iter().flatten() {
                timer.cancel();
            }
            for rate in [&self.read, &self.write] {
                rate.bytes.set(0);
                rate.throttled.set(false);
            }
        }
    }
    fn check_later(self: &Rc<Self>, clock: &dyn Clock) {
        let shared = Rc::downgrade(self);
        let call = clock.schedule(SECOND, Box::new(move || Shared::look(&shared)));
        self.check.set(Some(call));
    }
    fn look(shared: &Weak<Self>) {
        let Some(shared) = shared.upgrade() else { return };
        shared.check.set(None);
        let Some(clock) = shared.clock() else { return };
        shared.check_later(&*clock);
        for direction in [Direction::Reading, Direction::Writing] {
            let rate = shared.rate(direction);
            let Some(pause) = rate.excess() else { continue };
            match rate.resume.get() {
                // More has come through in spite of the pause.
                Some(resume) if resume.delay(pause).is_ok() => {}
                _ => {
                    let again = Rc::downgrade(&shared);
                    let resume = move || {
                        if let Some(shared) = again.upgrade() {
                            shared.rate(direction).resume.set(None);
                            shared.throttle(direction, false);
                        }
                    };
                    rate.resume.set(Some(clock.schedule(pause, Box::new(resume))));
                    shared.throttle(direction, true);
                }
            }
        }
    }
    fn clock(&self) -> Option<Rc<dyn Clock>> {
        let member = self.members.borrow().keys().next().copied();
        member.map(TransportRef::clock)
    }
    fn throttle(&self, direction: Direction, on: bool) {
        self.rate(direction).throttled.set(on);
        let members: Vec<_> = self.members.borrow().values().cloned().collect();
        for (layer, gate) in members {
            match direction {
                Direction::Writing => gate.throttle(layer, on),
                Direction::Reading if on => layer.lower().pause_producing(),
                // Unless it is paused by who stands above, too: the protocol, or TLS that `start_tls` has put there.
                Direction::Reading if !gate.has_paused() => layer.lower().resume_producing(),
                Direction::Reading => {}
            }
        }
    }
}

struct Throttled {
    shared: Rc<Shared>,
    gate: Rc<Gate>,
    seat: Cell<Option<Seat>>,
}
impl Wrapper for Throttled {
    fn connection_made(&self, layer: Layer) {
        self.shared.enter(layer, &self.gate);
    }
    #[inline]
    fn data_received(&self, layer: Layer, data: &[u8]) {
        self.shared.read.count(data.len());
        layer.deliver(data);
    }
    fn connection_lost(&self, layer: Layer, _: &ConnectionClosed) {
        drop(self.seat.take());
        self.shared.leave(layer);
    }
    #[inline]
    fn write(&self, layer: Layer, data: &[u8]) {
        self.shared.write.count(data.len());
        layer.lower().write(data);
    }
    fn write_bytes(&self, layer: Layer, data: Bytes) {
        self.shared.write.count(data.len());
        layer.lower().write_bytes(data);
    }
    fn write_vectored(&self, layer: Layer, parts: &[IoSlice<'_>]) {
        self.shared.write.count(parts.iter().map(|part| part.len()).sum());
        layer.lower().write_vectored(parts);
    }
    fn pause_producing(&self, layer: Layer) {
        self.gate.set_paused(true);
        layer.lower().pause_producing();
    }
    fn resume_producing(&self, layer: Layer) {
        self.gate.set_paused(false);
        if !self.shared.read.throttled.get() {
            layer.lower().resume_producing();
        }
    }
    fn register_producer(&self, layer: Layer, producer: Box<dyn Producer>) {
        self.gate.register_push(layer, producer);
    }
    fn register_pull_producer(&self, layer: Layer, producer: Box<dyn PullProducer>) {
        self.gate.register_pull(layer, producer);
    }
    fn unregister_producer(&self, layer: Layer) {
        self.gate.unregister(layer);
    }
    fn take_producer(&self, layer: Layer) -> Option<Taken> {
        self.gate.take(layer)
    }
}
