//! One established stream connection, TCP or UNIX: reading into the reactor's buffer, gathering what is written, closing in
//! its several ways. The reactor calls it (`Source`), its protocol calls it through `TransportRef` (`Transport`).
//!
//! Methods of `Transport` only change state and ask for a flush; everything that runs user code happens in `ready`, `flush`
//! and `shut`, with nothing borrowed. Edge-triggered: an edge is remembered until a read says that it is used up.
use super::outbox::Outbox;
use super::producer::{Producer, PullProducer, Registered, stop_soon};
use super::{Address, Protocol, Transport, TransportRef, wire};
use crate::clock::Clock;
use crate::deferred::{Deferred, Promise};
use crate::error::ConnectionClosed;
use crate::failure::{self, Failure};
use crate::reactor::driver::{Readiness, Socket};
use crate::reactor::{Core, Reactor, Source};
use bytes::Bytes;
use std::cell::{Cell, OnceCell, RefCell};
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::rc::Rc;

/// Above this much unsent output a producer is paused, and a green writer waits.
pub(crate) const HIGH_WATER: usize = 64 * 1024;
/// A write of this size goes out at once when nothing waits before it: copying it would cost more than the system call.
const AT_ONCE: usize = 16 * 1024;
/// Full read buffers delivered before others get their turn.
const READ_BUDGET: u32 = 2;
/// Arrived bytes thrown away before closing, so that the close does not turn into a reset.
const DRAIN_READS: u32 = 16;

/// Who made a connection and wants to hear of its end, after the protocol has.
pub(super) trait Owner {
    fn connection_lost(&self, reason: &ConnectionClosed);
}

/// State bits.
#[derive(Clone, Copy)]
struct Flags(u16);
const READABLE: u16 = 1;
const READ_CLOSED: u16 = 1 << 1;
const PAUSED: u16 = 1 << 2;
const EOF: u16 = 1 << 3;
const DISCONNECTING: u16 = 1 << 4;
const WRITE_LOSING: u16 = 1 << 5;
const WRITE_LOST: u16 = 1 << 6;
const ABORTING: u16 = 1 << 7;
const FLUSH_QUEUED: u16 = 1 << 8;
const AGAIN_QUEUED: u16 = 1 << 9;
const BLOCKED: u16 = 1 << 10;
const LOST: u16 = 1 << 11;
const PRODUCER: u16 = 1 << 12;
const PRODUCER_PAUSED: u16 = 1 << 13;
const FAULTY: u16 = 1 << 14;
const FAILING: u16 = 1 << 15;

pub(crate) struct Stream {
    core: Rc<Core>,
    token: usize,
    name: Cell<TransportRef>,
    socket: RefCell<Option<Socket>>,
    out: RefCell<Outbox>,
    flags: Cell<Flags>,
    producer: RefCell<Option<Registered>>,
    /// A write or the protocol failed: the connection ends with this at the next flush.
    fault: RefCell<Option<ConnectionClosed>>,
    peer: Address,
    host: OnceCell<Address>,
    owner: RefCell<Option<Box<dyn Owner>>>,
    /// Who waits for the output to leave.
    flush_waiters: RefCell<Vec<Promise<()>>>,
    read_size: Cell<usize>,
}

impl Stream {
    /// Makes a connection of a registered socket, whose token's source it becomes. Its protocol is told by `start`.
    pub(super) fn new(
        core: &Rc<Core>,
        socket: Socket,
        token: usize,
        peer: Address,
        protocol: Box<dyn Protocol>,
        owner: Option<Box<dyn Owner>>,
    ) -> Rc<Stream> {
        // Writes are gathered here; Nagle's algorithm would only delay them.
        socket.set_tcp_no_delay(true);
        let stream = Rc::new(Stream {
            core: Rc::clone(core),
            token,
            name: Cell::new(TransportRef::new(u32::MAX, 0)),
            socket: RefCell::new(Some(socket)),
            out: RefCell::default(),
            flags: Cell::new(Flags(0)),
            producer: RefCell::default(),
            fault: RefCell::default(),
            peer,
            host: OnceCell::new(),
            owner: RefCell::new(owner),
            flush_waiters: RefCell::default(),
            read_size: Cell::new(usize::MAX),
        });
        stream.name.set(wire::open(stream.clone(), protocol));
        core.install_source(token, stream.clone());
        stream
    }
    pub(super) fn name(&self) -> TransportRef {
        self.name.get()
    }
    /// Tells the protocol `connection_made`.
    pub(super) fn start(&self) {
        let name = self.name();
        if let Err(failure) = wire::notify(name, move |protocol| protocol.connection_made(name)) {
            self.end(ConnectionClosed::Failed(failure));
        }
    }

    /// The event that announced the connection announced input too, and there will be no other: read in the next turn.
    pub(super) fn announced(&self, readiness: Readiness) {
        self.note(readiness);
        if self.has(READABLE) {
            self.read_again();
        }
    }

    #[inline]
    fn has(&self, bits: u16) -> bool {
        self.flags.get().0 & bits != 0
    }
    #[inline]
    fn set(&self, bits: u16) {
        self.flags.set(Flags(self.flags.get().0 | bits));
    }
    #[inline]
    fn clear(&self, bits: u16) {
        self.flags.set(Flags(self.flags.get().0 & !bits));
    }

    #[inline]
    fn note(&self, readiness: Readiness) {
        if readiness.is_readable() {
            self.set(READABLE);
        }
        if readiness.contains(Readiness::READ_CLOSED | Readiness::ERROR) {
            self.set(READ_CLOSED);
        }
    }
    #[inline]
    fn flush_soon(&self) {
        if !self.has(FLUSH_QUEUED | LOST) {
            self.set(FLUSH_QUEUED);
            self.core.flush_soon(self.token);
        }
    }
    fn read_again(&self) {
        if !self.has(AGAIN_QUEUED | LOST) {
            self.set(AGAIN_QUEUED);
            self.core.dispatch_again(self.token);
        }
    }
    /// What was written needs a flush, or somebody must be told to pause.
    fn wrote(&self, unsent: usize) {
        let must_pause = self.has(PRODUCER) && !self.has(PRODUCER_PAUSED) && unsent > HIGH_WATER;
        if !self.has(BLOCKED) || must_pause {
            self.flush_soon();
        }
    }
    fn cannot_write(&self) -> bool {
        self.has(LOST | WRITE_LOST | ABORTING | FAULTY)
    }
    /// The connection ends with this, once no user code is on the stack.
    fn fail(&self, error: &io::Error) {
        self.set(FAULTY);
        self.fault.borrow_mut().get_or_insert_with(|| ConnectionClosed::from_io(error));
        self.flush_soon();
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &*self.socket.borrow() {
            Some(socket) => socket.read(buffer),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
    fn try_write(&self, data: &[u8]) -> io::Result<usize> {
        match &*self.socket.borrow() {
            Some(socket) => socket.write(data),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn read(&self, core: &Rc<Core>) {
        let mut buffer = core.take_read_buffer();
        let mut budget = READ_BUDGET;
        while self.has(READABLE) && !self.has(PAUSED | DISCONNECTING | ABORTING | EOF | LOST | FAULTY) {
            if budget == 0 {
                self.read_again();
                break;
            }
            let size = self.read_size.get().min(buffer.len());
            match self.try_read(&mut buffer[..size]) {
                Ok(0) => {
                    self.clear(READABLE);
                    self.set(EOF);
                    let name = self.name.get();
                    if let Err(failure) = wire::notify(name, move |protocol| protocol.read_connection_lost(name)) {
                        self.end(ConnectionClosed::Failed(failure));
                    }
                }
                Ok(n) => {
                    // A short read has emptied the socket, and more will make another edge; not so after the peer's end.
                    if n < size && !self.has(READ_CLOSED) {
                        self.clear(READABLE);
                    }
                    budget -= 1;
                    if let Err(failure) = wire::data_received(self.name.get(), &buffer[..n]) {
                        self.end(ConnectionClosed::Failed(failure));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.clear(READABLE),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.end(ConnectionClosed::from_io(&error)),
            }
        }
        core.return_read_buffer(buffer);
    }

    /// Sends what waits. Returns whether nothing is left and the connection still lives.
    fn send(&self) -> bool {
        if self.has(BLOCKED) {
            return self.out.borrow().is_empty();
        }
        let sent = {
            let mut out = self.out.borrow_mut();
            let socket = self.socket.borrow();
            let Some(socket) = &*socket else { return false };
            out.send(|data| socket.write(data), |parts| socket.write_vectored(parts))
        };
        match sent {
            Ok(true) => {
                if let Some(buffer) = self.out.borrow_mut().reclaim() {
                    self.core.return_spare(buffer);
                }
                true
            }
            Ok(false) => {
                self.set(BLOCKED);
                false
            }
            Err(error) => {
                self.end(ConnectionClosed::from_io(&error));
                false
            }
        }
    }

    /// Calls the producer, which may unregister itself or write meanwhile.
    fn with_producer(&self, call: impl FnOnce(&mut Registered) -> bool) {
        let Some(mut producer) = self.producer.take() else { return };
        match failure::catch(|| call(&mut producer)) {
            Ok(goes_on) => {
                if !goes_on {
                    self.clear(PRODUCER | PRODUCER_PAUSED);
                }
                let mut kept = Some(producer);
                if self.has(PRODUCER) && self.producer.borrow().is_none() {
                    *self.producer.borrow_mut() = kept.take();
                }
                if let Err(failure) = failure::catch(move || drop(kept)) {
                    failure::report("the destructor of a producer", &failure);
                }
            }
            Err(failure) => {
                failure::report(format_args!("a producer of the connection with {}", self.peer), &failure);
                self.clear(PRODUCER);
                failure::drop_quietly(producer);
                self.end(ConnectionClosed::Failed(failure));
            }
        }
    }

    /// Everything has left: what was waiting for that, one thing at a time.
    fn flushed(&self) {
        let waiters = std::mem::take(&mut *self.flush_waiters.borrow_mut());
        if !waiters.is_empty() {
            self.core.guard("a flush's Deferred", || waiters.into_iter().for_each(|waiter| waiter.callback(())));
            return self.flush_soon();
        }
        if self.has(FAILING) {
            self.end(ConnectionClosed::Done);
        } else if self.has(PRODUCER) {
            let is_pull = matches!(&*self.producer.borrow(), Some(Registered::Pull(_)));
            if is_pull {
                let name = self.name.get();
                self.with_producer(|producer| match producer {
                    Registered::Pull(producer) => producer.produce(name),
                    Registered::Push(_) => true,
                });
                // Asked again when what it wrote has left; one that wrote nothing waits for the next flush.
                if !self.out.borrow().is_empty() || !self.has(PRODUCER) {
                    self.flush_soon();
                }
            } else if self.has(PRODUCER_PAUSED) {
                self.clear(PRODUCER_PAUSED);
                self.with_producer(|producer| {
                    if let Registered::Push(producer) = producer {
                        producer.resume_producing();
                    }
                    true
                });
                self.flush_soon();
            }
            // A producer that goes on holds the close back until it unregisters.
        } else if self.has(DISCONNECTING) {
            self.end(ConnectionClosed::Done);
        } else if self.has(WRITE_LOSING) && !self.has(WRITE_LOST) {
            self.set(WRITE_LOST);
            if let Some(socket) = &*self.socket.borrow() {
                // Fails only when the peer has gone, which reading will tell.
                let _ = socket.shutdown(Shutdown::Write);
            }
            let name = self.name.get();
            if let Err(failure) = wire::notify(name, move |protocol| protocol.write_connection_lost(name)) {
                self.end(ConnectionClosed::Failed(failure));
            }
        }
    }

    /// The one end of every connection: producer, socket, protocol, owner, in this order.
    fn end(&self, reason: ConnectionClosed) {
        if self.has(LOST) {
            return;
        }
        self.set(LOST);
        let reset = matches!(reason, ConnectionClosed::Aborted);
        // The protocol's own error is the reason, however the end was reached.
        let fault = if self.has(FAILING) { self.fault.take() } else { None };
        let reason = fault.unwrap_or(reason);
        if let Some(producer) = self.producer.take()
            && let Err(failure) = producer.stop()
        {
            failure::report("a producer", &failure);
        }
        self.host();
        let socket = self.socket.take();
        if let Some(socket) = socket {
            match reason {
                _ if reset => socket.reset_on_close(),
                ConnectionClosed::Lost(_) => {}
                _ => self.drain(&socket),
            }
        }
        let ourselves = self.core.remove_source(self.token);
        let unsent = std::mem::take(&mut *self.out.borrow_mut());
        drop(unsent);
        let waiters = std::mem::take(&mut *self.flush_waiters.borrow_mut());
        for waiter in waiters {
            self.core.guard("a flush's Deferred", || waiter.errback(reason.clone()));
        }
        wire::connection_lost(self.name.get(), &reason);
        let owner = self.owner.take();
        if let Some(owner) = owner {
            owner.connection_lost(&reason);
        }
        drop(ourselves);
    }

    /// Closing with unread input would reset the connection and could lose the peer our last bytes.
    fn drain(&self, socket: &Socket) {
        if !self.has(READABLE) || self.has(EOF) {
            return;
        }
        let mut scrap = [0; 4096];
        for _ in 0..DRAIN_READS {
            match socket.read(&mut scrap) {
                Ok(n) if n > 0 => {}
                _ => break,
            }
        }
    }

    #[track_caller]
    fn register(&self, producer: Registered) {
        if self.has(LOST) {
            return stop_soon(producer);
        }
        assert!(
            !self.has(PRODUCER),
            "a producer is registered with this transport already: unregister_producer() first"
        );
        self.set(PRODUCER);
        self.clear(PRODUCER_PAUSED);
        let old = self.producer.replace(Some(producer));
        drop(old);
        self.flush_soon();
    }
}

impl Source for Stream {
    fn ready(&self, core: &Rc<Core>, readiness: Readiness) {
        if readiness == Readiness::default() {
            self.clear(AGAIN_QUEUED);
        }
        if self.has(LOST) {
            return;
        }
        self.note(readiness);
        if readiness.is_writable() && self.has(BLOCKED) {
            self.clear(BLOCKED);
            self.flush_soon();
        }
        // Whoever was read to its budget and waits for its next turn has it once, also when there is news.
        if self.has(READABLE) && !self.has(AGAIN_QUEUED) {
            self.read(core);
        }
    }

    fn flush(&self, _core: &Rc<Core>) {
        self.clear(FLUSH_QUEUED);
        if self.has(LOST) {
            return;
        }
        if self.has(FAULTY) {
            let reason = self.fault.take().unwrap_or(ConnectionClosed::Lost(None));
            return self.end(reason);
        }
        if self.has(ABORTING) {
            return self.end(ConnectionClosed::Aborted);
        }
        if self.send() {
            self.flushed();
        } else if self.has(PRODUCER)
            && !self.has(PRODUCER_PAUSED | LOST)
            && self.out.borrow().len() > HIGH_WATER
            && matches!(&*self.producer.borrow(), Some(Registered::Push(_)))
        {
            self.set(PRODUCER_PAUSED);
            self.with_producer(|producer| {
                if let Registered::Push(producer) = producer {
                    producer.pause_producing();
                }
                true
            });
        }
    }

    fn shut(&self, _core: &Rc<Core>) {
        self.end(ConnectionClosed::Lost(None));
    }
    fn drain(&self) {
        self.lose_connection();
    }
    fn drains(&self) -> bool {
        true
    }
}

impl Transport for Stream {
    fn write(&self, data: &[u8]) {
        if data.is_empty() || self.cannot_write() {
            return;
        }
        let mut out = self.out.borrow_mut();
        let mut rest = data;
        if data.len() >= AT_ONCE && out.is_empty() && !self.has(BLOCKED) {
            match self.try_write(data) {
                Ok(n) => {
                    rest = &data[n..];
                    if !rest.is_empty() {
                        self.set(BLOCKED);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.set(BLOCKED),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    drop(out);
                    return self.fail(&error);
                }
            }
        }
        if !rest.is_empty() {
            if out.wants_memory() {
                out.lend(self.core.take_spare());
            }
            out.push(rest);
        }
        let unsent = out.len();
        drop(out);
        if unsent > 0 || self.has(PRODUCER) {
            self.wrote(unsent);
        }
    }
    fn write_vectored(&self, parts: &[IoSlice<'_>]) {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len == 0 || self.cannot_write() {
            return;
        }
        if len >= AT_ONCE {
            parts.iter().for_each(|part| self.write(part));
            return;
        }
        let mut out = self.out.borrow_mut();
        if out.wants_memory() {
            out.lend(self.core.take_spare());
        }
        parts.iter().for_each(|part| out.push(part));
        let unsent = out.len();
        drop(out);
        self.wrote(unsent);
    }
    fn write_bytes(&self, data: Bytes) {
        if data.is_empty() || self.cannot_write() {
            return;
        }
        let mut out = self.out.borrow_mut();
        out.push_bytes(data);
        let unsent = out.len();
        drop(out);
        self.wrote(unsent);
    }
    fn lose_connection(&self) {
        if !self.has(DISCONNECTING | ABORTING | LOST) {
            self.set(DISCONNECTING);
            self.flush_soon();
        }
    }
    fn lose_write_connection(&self) {
        if !self.has(WRITE_LOSING | LOST) {
            self.set(WRITE_LOSING);
            self.flush_soon();
        }
    }
    fn abort_connection(&self) {
        if !self.has(ABORTING | LOST) {
            self.set(ABORTING);
            self.flush_soon();
        }
    }
    fn fail_connection(&self, failure: Failure) {
        if !self.has(FAILING | FAULTY | LOST) {
            self.set(DISCONNECTING | FAILING);
            *self.fault.borrow_mut() = Some(ConnectionClosed::Failed(failure));
            self.flush_soon();
        }
    }
    fn is_disconnecting(&self) -> bool {
        self.has(DISCONNECTING | ABORTING | LOST)
    }
    fn is_connected(&self) -> bool {
        !self.has(LOST)
    }
    fn unsent(&self) -> usize {
        self.out.borrow().len()
    }
    fn when_flushed(&self) -> Deferred<()> {
        if self.has(LOST | FAULTY | ABORTING) {
            return Deferred::fail(ConnectionClosed::Done);
        }
        if self.out.borrow().is_empty() {
            return Deferred::succeed(());
        }
        let (promise, deferred) = Deferred::new();
        self.flush_waiters.borrow_mut().push(promise);
        deferred
    }
    fn set_read_size(&self, bytes: usize) {
        self.read_size.set(bytes.max(1));
    }
    fn pause_producing(&self) {
        self.set(PAUSED);
    }
    fn resume_producing(&self) {
        if self.has(PAUSED) {
            self.clear(PAUSED);
            if self.has(READABLE) && !self.has(DISCONNECTING | ABORTING | EOF) {
                self.read_again();
            }
        }
    }
    fn register_producer(&self, producer: Box<dyn Producer>) {
        self.register(Registered::Push(producer));
    }
    fn register_pull_producer(&self, producer: Box<dyn PullProducer>) {
        self.register(Registered::Pull(producer));
    }
    fn unregister_producer(&self) {
        if self.has(PRODUCER) {
            self.clear(PRODUCER | PRODUCER_PAUSED);
            // Its destructor is user code, and a transport's methods run none.
            if let Some(producer) = self.producer.take() {
                self.core.call_soon(Box::new(move || drop(producer)));
            }
            self.flush_soon();
        }
    }
    fn peer(&self) -> Address {
        self.peer.clone()
    }
    fn host(&self) -> Address {
        let ask = || self.socket.borrow().as_ref().and_then(|socket| socket.host().ok()).unwrap_or(Address::Gone);
        self.host.get_or_init(ask).clone()
    }
    fn set_tcp_no_delay(&self, on: bool) {
        if let Some(socket) = &*self.socket.borrow() {
            socket.set_tcp_no_delay(on);
        }
    }
    fn set_tcp_keep_alive(&self, on: bool) {
        if let Some(socket) = &*self.socket.borrow() {
            socket.set_tcp_keep_alive(on);
        }
    }
    fn clock(&self) -> Rc<dyn Clock> {
        Reactor::of(&self.core).handle()
    }
}
