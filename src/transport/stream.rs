//! One established stream connection, TCP, UNIX or a pair of descriptors: reading into the reactor's buffer, gathering what is written, closing in
//! its several ways. The reactor calls it (`Source`), its protocol calls it through `TransportRef` (`Transport`).
//!
//! Methods of `Transport` only change state and ask for a flush; everything that runs user code happens in `ready`, `flush`
//! and `shut`, with nothing borrowed. Edge-triggered: an edge is remembered until a read says that it is used up.
mod adopted;
mod descriptors;
mod ending;
mod output;
mod verbs;

use super::outbox::Outbox;
use super::producer::Registered;
use super::{Address, Protocol, Transport, TransportRef, wire};
use crate::deferred::Promise;
use crate::error::ConnectionClosed;
use crate::reactor::driver::{Readiness, Socket};
use crate::reactor::{About, Core, Kind, Source};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;

/// Above this much unsent output a producer is paused, and a green writer waits.
pub(crate) const HIGH_WATER: usize = 64 * 1024;
/// Full read buffers delivered before others get their turn.
const READ_BUDGET: u32 = 2;

/// Who made a connection and wants to hear of its end, after the protocol has.
pub(super) trait Owner {
    fn connection_lost(&self, reason: &ConnectionClosed);
}

/// State bits.
#[derive(Clone, Copy)]
struct Flags(u32);
const READABLE: u32 = 1;
const READ_CLOSED: u32 = 1 << 1;
const PAUSED: u32 = 1 << 2;
const EOF: u32 = 1 << 3;
const DISCONNECTING: u32 = 1 << 4;
const WRITE_LOSING: u32 = 1 << 5;
const WRITE_LOST: u32 = 1 << 6;
const ABORTING: u32 = 1 << 7;
const FLUSH_QUEUED: u32 = 1 << 8;
const AGAIN_QUEUED: u32 = 1 << 9;
const BLOCKED: u32 = 1 << 10;
const LOST: u32 = 1 << 11;
const PRODUCER: u32 = 1 << 12;
const PRODUCER_PAUSED: u32 = 1 << 13;
const FAULTY: u32 = 1 << 14;
const FAILING: u32 = 1 << 15;
/// Made of descriptors of the user's: others may have them too.
const ADOPTED: u32 = 1 << 16;
/// Something was written that nobody would read.
const OUTPUT_LOST: u32 = 1 << 17;
/// Somebody else may have a copy of the descriptor, which is then still watched after a close.
const SHARED: u32 = 1 << 19;

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
    /// To be sent, of UNIX sockets that send some.
    #[allow(clippy::box_collection, reason = "most streams never have one: a word in each")]
    descriptors: RefCell<Option<Box<VecDeque<OwnedFd>>>>,
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
            descriptors: RefCell::default(),
        });
        stream.name.set(wire::open(stream.clone(), protocol));
        core.install_source(token, stream.clone());
        stream
    }
    pub(super) fn name(&self) -> TransportRef {
        self.name.get()
    }
    /// Closing does not end the poller's watch: somebody else may have a copy of the descriptor.
    pub(super) fn share(&self) {
        self.set(SHARED);
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
    fn has(&self, bits: u32) -> bool {
        self.flags.get().0 & bits != 0
    }
    #[inline]
    fn set(&self, bits: u32) {
        self.flags.set(Flags(self.flags.get().0 | bits));
    }
    #[inline]
    fn clear(&self, bits: u32) {
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
        let must_pause = self.has(PRODUCER) && !self.has(PRODUCER_PAUSED) && self.is_full(unsent);
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

    fn try_read(&self, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
        match &*self.socket.borrow() {
            Some(socket) => socket.receive(buffer, descriptors),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
    fn try_write(&self, data: &[u8]) -> io::Result<usize> {
        match &*self.socket.borrow() {
            Some(socket) => socket.write(data),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match &*self.socket.borrow() {
            Some(socket) => socket.write_vectored(parts),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn read(&self, core: &Rc<Core>) {
        let mut buffer = core.take_read_buffer();
        let mut budget = READ_BUDGET;
        // No memory before there is one.
        let mut descriptors = Vec::new();
        while self.has(READABLE) && !self.has(PAUSED | DISCONNECTING | ABORTING | EOF | LOST | FAULTY) {
            if budget == 0 {
                self.read_again();
                break;
            }
            let size = self.read_size.get().min(buffer.len());
            match self.try_read(&mut buffer[..size], &mut descriptors) {
                Ok(0) => {
                    self.clear(READABLE);
                    self.set(EOF);
                    if let Err(failure) = wire::read_lost(self.name.get()) {
                        self.end(ConnectionClosed::Failed(failure));
                    }
                }
                Ok(n) => {
                    // A short read has emptied the socket, and more will make another edge; not so after the peer's end.
                    if n < size && !self.has(READ_CLOSED) && self.short_read_empties(&descriptors) {
                        self.clear(READABLE);
                    }
                    budget -= 1;
                    if !descriptors.is_empty() {
                        self.deliver_descriptors(&mut descriptors);
                    }
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
}

impl Source for Stream {
    fn kind(&self) -> Kind {
        Kind::Connection
    }
    fn fd(&self) -> Option<RawFd> {
        self.socket.borrow().as_ref().and_then(Socket::fd)
    }
    fn about(&self) -> About {
        let unsent = self.out.borrow().len();
        let unsent = if unsent > 0 { format!(", {unsent} bytes to be sent") } else { String::new() };
        About {
            detail: format!("with {}{unsent}", self.peer),
            reads: !self.has(PAUSED | EOF),
            writes: self.has(BLOCKED),
            waiting: Vec::new(),
        }
    }
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
        if readiness.contains(Readiness::ERROR) && self.has(ADOPTED) {
            self.look_whether_broken();
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
            && self.is_full(self.out.borrow().len())
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
