//! One datagram socket on the reactor: receiving in bounded batches, sending at once, stopping. The reactor calls it (`Source`),
//! its protocol calls it through `DatagramPort`.
//!
//! Edge-triggered: a batch ends when the socket is empty, or asks to be called again. What must never happen here: the protocol
//! called from a method of `DatagramPort`, or with anything borrowed.
use super::target::{Target, To};
use super::{DatagramError, DatagramPort, DatagramProtocol, PORTS};
use crate::address::Address;
use crate::deferred::{Deferred, Promise};
use crate::error::CannotListen;
use crate::failure::{self, Failure, Result};
use crate::reactor::driver::{Datagram, FileOptions, Readiness, unix};
use crate::reactor::{About, Core, Kind, Source};
use crate::transport::UnixPath;
use crate::transport::destination::{ListenAt, MAX_PACKET, Place};
use std::cell::{Cell, RefCell};
use std::io;
use std::marker::PhantomData;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Bytes received before others get their turn.
const BATCH: usize = 256 * 1024;
/// What a datagram counts at least, which is what it costs: empty ones are work too.
const LEAST: usize = 512;
/// A socket whose receiving fails for want of something is tried again after this long.
const RETRY: Duration = Duration::from_millis(100);
/// Complaints are logged no more often than this.
const COMPLAIN: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Stopping,
    Closed,
}

pub(super) struct Port {
    core: Rc<Core>,
    token: usize,
    name: Cell<Option<DatagramPort>>,
    socket: RefCell<Option<Datagram>>,
    /// Its description is shared with the caller's copy.
    adopted: bool,
    /// Taken out while it is called.
    protocol: RefCell<Option<Box<dyn DatagramProtocol>>>,
    address: RefCell<Address>,
    peer: RefCell<Option<Address>>,
    max_packet: usize,
    state: Cell<State>,
    /// `start_protocol` returned, so `stop_protocol` is due.
    started: Cell<bool>,
    again: Cell<bool>,
    /// A timer is set for the next try.
    retries: Cell<bool>,
    refusal_due: Cell<bool>,
    stopped: RefCell<Vec<Promise<()>>>,
    complained: Cell<Option<Instant>>,
}

/// Binds and starts the protocol.
pub(in crate::transport) fn listen(
    core: &Rc<Core>,
    at: ListenAt,
    protocol: Box<dyn DatagramProtocol>,
) -> Result<DatagramPort> {
    let text = at.to_string();
    let (max_packet, adopted) = (at.max_packet, matches!(at.place, Place::Adopted(_)));
    match bind(core, at) {
        Ok(socket) => {
            let peer = if adopted { socket.peer() } else { None };
            open(core, socket, protocol, peer, max_packet, adopted)
        }
        Err(error) => {
            failure::drop_quietly(protocol);
            Err(CannotListen::new(text, error).into())
        }
    }
}

/// A UNIX socket without a name, connected.
pub(in crate::transport) fn connect_unix(
    core: &Rc<Core>,
    to: UnixPath,
    protocol: Box<dyn DatagramProtocol>,
) -> Result<DatagramPort> {
    let max_packet = to.max_packet.unwrap_or(MAX_PACKET);
    let socket = core.driver().bind_unix_datagram(None, FileOptions::default());
    let connected = socket.and_then(|socket| socket.connect_path(&to.path).map(|()| socket));
    let peer = Address::Unix(Some(to.path));
    match connected {
        Ok(socket) => open(core, socket, protocol, Some(peer), max_packet, false),
        Err(error) => {
            failure::drop_quietly(protocol);
            Err(CannotListen::new(peer, error).into())
        }
    }
}

fn bind(core: &Rc<Core>, at: ListenAt) -> io::Result<Datagram> {
    match at.place {
        Place::Socket(address) => core.driver().bind_udp(address, at.reuse_port),
        Place::Unix(path) => core.driver().bind_unix_datagram(Some(&path), at.file),
        Place::Adopted(socket) => unix::adopt_datagram(socket),
        Place::Text(_) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "this is no place for datagrams: give a port, a literal address and a port, or a socket address",
        )),
    }
}

/// Puts a socket on the reactor and tells the protocol.
fn open(
    core: &Rc<Core>,
    mut socket: Datagram,
    protocol: Box<dyn DatagramProtocol>,
    peer: Option<Address>,
    max_packet: usize,
    adopted: bool,
) -> Result<DatagramPort> {
    let token = core.reserve();
    let registered = core.driver().register_datagram(&mut socket, token);
    let address = socket.address().unwrap_or(Address::Gone);
    if let Err(error) = registered {
        core.remove_source(token);
        failure::drop_quietly(protocol);
        return Err(CannotListen::new(address, error).into());
    }
    let port = Rc::new(Port {
        core: Rc::clone(core),
        token,
        name: Cell::new(None),
        socket: RefCell::new(Some(socket)),
        adopted,
        protocol: RefCell::new(Some(protocol)),
        address: RefCell::new(address),
        peer: RefCell::new(peer),
        max_packet,
        state: Cell::new(State::Open),
        started: Cell::new(false),
        again: Cell::new(false),
        retries: Cell::new(false),
        refusal_due: Cell::new(false),
        stopped: RefCell::default(),
        complained: Cell::new(None),
    });
    let (slot, generation) = PORTS.with(|ports| ports.borrow_mut().insert(Rc::clone(&port)));
    let name = DatagramPort { slot, generation, thread: PhantomData };
    port.name.set(Some(name));
    core.install_source(token, port.clone());
    let started = port.with_protocol(|protocol| protocol.start_protocol(name));
    port.started.set(started.is_ok());
    if let Err(failure) = started {
        port.finish();
        return Err(failure);
    }
    Ok(name)
}

type Sent = std::result::Result<(), DatagramError>;

impl Port {
    pub(super) fn address(&self) -> Address {
        self.address.borrow().clone()
    }
    pub(super) fn peer(&self) -> Option<Address> {
        self.peer.borrow().clone()
    }
    pub(super) fn with_socket<R>(&self, call: impl FnOnce(&Datagram) -> R) -> std::result::Result<R, DatagramError> {
        self.socket.borrow().as_ref().map(call).ok_or(DatagramError::Gone)
    }

    // ---- sending ----

    pub(super) fn write_to(&self, data: &[u8], to: Target<'_>) -> Sent {
        if let Some(peer) = &*self.peer.borrow() {
            let same = match (to.0, peer) {
                (To::Socket(to), peer) => peer.socket() == Some(to),
                (To::Path(to), Address::Unix(Some(peer))) => to == peer,
                _ => false,
            };
            if !same {
                return Err(DatagramError::OtherPeer { peer: peer.to_string() });
            }
            return self.send(data, &to, |socket| socket.send(data));
        }
        match to.0 {
            To::Socket(address) => {
                self.check_family(&to)?;
                self.send(data, &to, |socket| socket.send_to(data, address))
            }
            To::Path(path) => self.send(data, &to, |socket| socket.send_to_path(data, path)),
            To::Text(_) | To::Nobody => Err(DatagramError::InvalidAddress { text: to.to_string() }),
        }
    }
    pub(super) fn write(&self, data: &[u8]) -> Sent {
        match &*self.peer.borrow() {
            Some(peer) => self.send(data, peer, |socket| socket.send(data)),
            None if self.socket.borrow().is_none() => Err(DatagramError::Gone),
            None => Err(DatagramError::NotConnected),
        }
    }
    fn send(&self, data: &[u8], to: &dyn std::fmt::Display, call: impl Fn(&Datagram) -> io::Result<usize>) -> Sent {
        loop {
            let error = match self.with_socket(&call)? {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                // Of an earlier datagram; for UNIX sockets of this one.
                io::ErrorKind::ConnectionRefused if self.peer.borrow().is_some() => {
                    self.refused_soon();
                    return Ok(());
                }
                io::ErrorKind::ConnectionRefused => return Ok(()),
                _ => return Err(DatagramError::from_io(&error, data.len(), to)),
            }
        }
    }
    fn check_family(&self, to: &Target<'_>) -> Sent {
        match (to.0, self.address.borrow().socket()) {
            (To::Socket(to), Some(here)) if to.is_ipv4() == here.is_ipv4() => Ok(()),
            _ => Err(DatagramError::InvalidAddress { text: to.to_string() }),
        }
    }
    pub(super) fn connect(&self, to: Target<'_>) -> Sent {
        if self.peer.borrow().is_some() {
            return Err(DatagramError::AlreadyConnected);
        }
        let (connected, peer) = match to.0 {
            To::Socket(address) => {
                self.check_family(&to)?;
                (self.with_socket(|socket| socket.connect(address))?, Address::Udp(address))
            }
            To::Path(path) => {
                (self.with_socket(|socket| socket.connect_path(path))?, Address::Unix(Some(path.to_owned())))
            }
            To::Text(_) | To::Nobody => return Err(DatagramError::InvalidAddress { text: to.to_string() }),
        };
        connected.map_err(|error| DatagramError::from_io(&error, 0, &to))?;
        *self.peer.borrow_mut() = Some(peer);
        // Of several interfaces one has been chosen.
        let address = self.with_socket(|socket| socket.address())?;
        if let Ok(address) = address {
            *self.address.borrow_mut() = address;
        }
        Ok(())
    }

    // ---- calling the protocol ----

    fn with_protocol<R>(&self, call: impl FnOnce(&mut dyn DatagramProtocol) -> R) -> Result<Option<R>> {
        let Some(mut protocol) = self.protocol.take() else { return Ok(None) };
        let outcome = failure::catch(|| call(&mut *protocol));
        *self.protocol.borrow_mut() = Some(protocol);
        outcome.map(Some)
    }
    fn report(&self, failure: &Failure) {
        failure::report(format_args!("the protocol of the datagram port at {}", self.address()), failure);
    }
    fn refused(&self) {
        let Some(name) = self.name.get().filter(|_| self.peer.borrow().is_some()) else { return };
        if self.state.get() == State::Open
            && let Err(failure) = self.with_protocol(|protocol| protocol.connection_refused(name))
        {
            self.report(&failure);
        }
    }
    /// In a later turn, once.
    fn refused_soon(&self) {
        if !self.refusal_due.replace(true) {
            let name = self.name.get();
            self.core.call_soon(Box::new(move || {
                if let Some(port) = name.and_then(DatagramPort::port) {
                    port.refusal_due.set(false);
                    port.refused();
                }
            }));
        }
    }

    // ---- receiving ----

    fn receive(&self, core: &Rc<Core>) {
        let Some(name) = self.name.get() else { return };
        let mut buffer = core.take_read_buffer();
        let size = self.max_packet.min(buffer.len());
        let mut left = BATCH;
        while self.state.get() == State::Open {
            if left == 0 {
                if !self.again.replace(true) {
                    core.dispatch_again(self.token);
                }
                break;
            }
            let received = self.with_socket(|socket| socket.receive(&mut buffer[..size]));
            match received {
                Ok(Ok((n, from))) => {
                    left = left.saturating_sub(n.max(LEAST));
                    // Datagrams that came before it was connected may be anybody's.
                    if self.is_from_stranger(&from) {
                        continue;
                    }
                    let data = &buffer[..n];
                    core.clock_is_stale();
                    if let Err(failure) = self.with_protocol(|protocol| protocol.datagram_received(name, data, &from)) {
                        self.report(&failure);
                    }
                }
                Ok(Err(error)) => {
                    left = left.saturating_sub(LEAST);
                    match error.kind() {
                        io::ErrorKind::WouldBlock => break,
                        io::ErrorKind::Interrupted => {}
                        io::ErrorKind::ConnectionRefused => self.refused(),
                        // What the network said about an earlier datagram of ours.
                        _ if is_about_the_way(&error) => {}
                        _ => {
                            self.retry_later(&error);
                            break;
                        }
                    }
                }
                Err(_) => break,
            }
        }
        core.return_read_buffer(buffer);
    }
    fn is_from_stranger(&self, from: &Address) -> bool {
        match (&*self.peer.borrow(), from) {
            (Some(Address::Udp(peer)), Address::Udp(from)) => (peer.ip(), peer.port()) != (from.ip(), from.port()),
            _ => false,
        }
    }
    fn retry_later(&self, error: &io::Error) {
        let now = self.core.now();
        if self.complained.get().is_none_or(|last| now.saturating_duration_since(last) >= COMPLAIN) {
            self.complained.set(Some(now));
            log::error!(
                target: "twistlet",
                "the datagram port at {} cannot receive: {error}: trying again", self.address()
            );
        }
        if self.retries.replace(true) {
            return;
        }
        let name = self.name.get();
        let again = move || {
            if let Some(port) = name.and_then(DatagramPort::port) {
                port.retries.set(false);
                port.core.dispatch_again(port.token);
            }
        };
        self.core.schedule(RETRY, Box::new(again));
    }

    // ---- the end ----

    pub(super) fn stop(self: &Rc<Self>) -> Deferred<()> {
        if self.state.get() == State::Closed {
            return Deferred::succeed(());
        }
        let (promise, deferred) = Deferred::new();
        self.stopped.borrow_mut().push(promise);
        if self.state.replace(State::Stopping) == State::Open {
            let port = Rc::clone(self);
            self.core.call_soon(Box::new(move || port.finish()));
        }
        deferred
    }
    /// Closes the socket, tells the protocol, then whoever waits. The name is free then.
    fn finish(&self) {
        if self.state.replace(State::Closed) == State::Closed {
            return;
        }
        let ourselves = self.core.remove_source(self.token);
        let socket = self.socket.take();
        if let Some(mut socket) = socket {
            if self.adopted {
                self.core.driver().deregister_datagram(&mut socket);
            }
            drop(socket);
        }
        let mut outcome = Ok(());
        if let Some(name) = self.name.get()
            && self.started.replace(false)
        {
            outcome = self.with_protocol(|protocol| protocol.stop_protocol(name)).map(drop);
        }
        let waiting = std::mem::take(&mut *self.stopped.borrow_mut());
        if let Err(failure) = &outcome
            && waiting.is_empty()
        {
            self.report(failure);
        }
        for promise in waiting {
            self.core.guard("a stop's Deferred", || match &outcome {
                Ok(()) => promise.callback(()),
                Err(failure) => promise.errback(failure.clone()),
            });
        }
        let protocol = self.protocol.take();
        failure::drop_quietly(protocol);
        let name = self.name.get();
        let named = name.and_then(|name| {
            PORTS.try_with(|ports| ports.borrow_mut().remove((name.slot, name.generation))).ok().flatten()
        });
        drop((named, ourselves));
    }
}

/// ICMP errors other than "nobody listens there": of one datagram, and no fault of the socket.
fn is_about_the_way(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EPROTO
                | libc::EOPNOTSUPP
                | libc::EMSGSIZE
                | libc::EACCES
                | libc::EPERM
        )
    )
}

impl Source for Port {
    fn kind(&self) -> Kind {
        Kind::Datagrams
    }
    fn fd(&self) -> Option<RawFd> {
        self.socket.borrow().as_ref().and_then(Datagram::fd)
    }
    fn about(&self) -> About {
        About { detail: format!("at {}", self.address.borrow()), reads: true, ..About::default() }
    }
    fn ready(&self, core: &Rc<Core>, readiness: Readiness) {
        if readiness == Readiness::default() {
            self.again.set(false);
        }
        // Whoever received to the budget and waits for the next turn has it once, also when there is news.
        if !self.again.get() {
            self.receive(core);
        }
    }
    fn shut(&self, _core: &Rc<Core>) {
        self.finish();
    }
}
