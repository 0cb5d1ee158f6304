//! Connectors: one factory's connection attempts to one destination (Twisted's `IConnector`). States: disconnected, connecting,
//! connected, and again. What a call causes is told in a later turn; the start hooks alone run within `connect_*`.
mod finding;

#[cfg(feature = "dns")]
pub(crate) use finding::connect_found;

use super::destination::{Destination, Host};
use super::names::Names;
use super::stream::{Owner, Stream};
use super::{Address, ClientFactory, TransportRef};
use crate::clock::DelayedCall;
use crate::deferred::Canceller;
use crate::error::{ConnectError, ConnectionClosed, PortError};
use crate::failure::{self, Result};
use crate::reactor::driver::{ConnectFault, Readiness, Socket};
use crate::reactor::{About, Core, Kind, Reactor, Source};
use finding::Finder;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

/// The name of a connector, `Copy`. It means something from `connect_*` until the factory has been told of a failure or loss
/// and has not asked for another attempt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Connector {
    slot: u32,
    generation: u32,
    thread: PhantomData<*const ()>,
}

thread_local! {
    static CONNECTORS: RefCell<Names<Inner>> = const { RefCell::new(Names::new()) };
    /// The reactor that has our end hook.
    static HOOKED: Cell<u32> = const { Cell::new(0) };
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Disconnected,
    /// `connect` was called; the attempt begins in a later turn, or when its delay is over.
    Waiting,
    Connecting,
    Connected,
    /// Its reactor has ended, or nobody can ask for another attempt.
    Gone,
}

/// Told once, right after `connection_made` of the first connection.
pub(super) type OnConnected = Box<dyn FnOnce(TransportRef)>;

struct Inner {
    core: Rc<Core>,
    name: Cell<Connector>,
    to: Destination,
    /// With a finder: where the latest attempt went.
    finder: Option<Finder>,
    found: RefCell<Option<Destination>>,
    factory: RefCell<Option<Box<dyn ClientFactory>>>,
    on_connected: RefCell<Option<OnConnected>>,
    factory_started: Cell<bool>,
    state: Cell<State>,
    /// Counts attempts, so that an answer to an earlier one is known as such.
    attempt: Cell<u64>,
    timeout: Cell<Option<DelayedCall>>,
    delay: Cell<Option<DelayedCall>>,
    /// Gives the look-up of the name up.
    looking: Cell<Option<Canceller>>,
    /// Addresses yet to be tried, and how the first of them failed.
    left: RefCell<VecDeque<SocketAddr>>,
    first_failure: RefCell<Option<ConnectError>>,
    socket: RefCell<Option<(Socket, Address)>>,
    token: Cell<usize>,
    transport: Cell<Option<TransportRef>>,
    /// Disconnected while its factory was asked for a protocol.
    unwanted: Cell<bool>,
}

pub(super) fn connect(
    reactor: &Reactor,
    to: Destination,
    factory: Box<dyn ClientFactory>,
    on_connected: Option<OnConnected>,
) -> Connector {
    begin(reactor, to, None, factory, on_connected)
}
fn begin(
    reactor: &Reactor,
    to: Destination,
    finder: Option<Finder>,
    factory: Box<dyn ClientFactory>,
    on_connected: Option<OnConnected>,
) -> Connector {
    let gone = Connector { slot: u32::MAX, generation: 0, thread: PhantomData };
    let Some(core) = reactor.core() else { return gone };
    let inner = Rc::new(Inner {
        core: Rc::clone(&core),
        name: Cell::new(gone),
        to,
        finder,
        found: RefCell::default(),
        factory: RefCell::new(Some(factory)),
        on_connected: RefCell::new(on_connected),
        factory_started: Cell::new(false),
        state: Cell::new(State::Waiting),
        attempt: Cell::new(0),
        timeout: Cell::new(None),
        delay: Cell::new(None),
        looking: Cell::new(None),
        left: RefCell::default(),
        first_failure: RefCell::default(),
        socket: RefCell::default(),
        token: Cell::new(0),
        transport: Cell::new(None),
        unwanted: Cell::new(false),
    });
    let (slot, generation) = CONNECTORS.with(|connectors| connectors.borrow_mut().insert(Rc::clone(&inner)));
    let name = Connector { slot, generation, thread: PhantomData };
    inner.name.set(name);
    shut_with(&core);
    inner.begin();
    name
}

/// At the reactor's end its connectors are told, those too that have no socket yet.
fn shut_with(core: &Rc<Core>) {
    if HOOKED.replace(core.id()) == core.id() {
        return;
    }
    core.add_end_hook(Box::new(|| {
        let all = CONNECTORS.try_with(|connectors| connectors.borrow().all()).unwrap_or_default();
        all.iter().for_each(Inner::shut);
    }));
}

impl Connector {
    fn inner(self) -> Option<Rc<Inner>> {
        CONNECTORS.try_with(|connectors| connectors.borrow().get((self.slot, self.generation))).ok().flatten()
    }
    /// Makes another attempt, in a later turn: for `client_connection_failed` and `client_connection_lost`.
    ///
    /// # Errors
    /// [`PortError::AlreadyConnecting`] unless it is disconnected; [`PortError::Gone`] when the factory has been told of the
    /// end and did not ask then: use [`connect_later`](Connector::connect_later) there.
    pub fn connect(self) -> Result<()> {
        self.connect_later(Duration::ZERO)
    }
    /// Makes another attempt, at least `delay` from now; `stop_connecting` takes that back.
    ///
    /// # Errors
    /// As [`connect`](Connector::connect).
    pub fn connect_later(self, delay: Duration) -> Result<()> {
        let inner = self.inner().ok_or(PortError::Gone)?;
        match inner.state.get() {
            State::Disconnected => {}
            State::Gone => return Err(PortError::Gone.into()),
            _ => return Err(PortError::AlreadyConnecting.into()),
        }
        inner.state.set(State::Waiting);
        let attempt = Rc::downgrade(&inner);
        let call = inner.core.schedule(
            delay,
            Box::new(move || {
                if let Some(inner) = attempt.upgrade() {
                    inner.delay.set(None);
                    inner.begin();
                }
            }),
        );
        inner.delay.set(Some(call));
        Ok(())
    }
    /// Gives the attempt up: `client_connection_failed` with [`ConnectError::Cancelled`] follows in a later turn.
    ///
    /// # Errors
    /// [`PortError::NotConnecting`] when there is none.
    pub fn stop_connecting(self) -> Result<()> {
        let inner = self.inner().ok_or(PortError::NotConnecting)?;
        match inner.state.get() {
            State::Waiting | State::Connecting => {
                inner.fail_soon(ConnectError::Cancelled);
                Ok(())
            }
            _ => Err(PortError::NotConnecting.into()),
        }
    }
    /// `stop_connecting` or `lose_connection`, whichever applies.
    pub fn disconnect(self) {
        let Some(inner) = self.inner() else { return };
        match inner.transport.get() {
            Some(transport) => transport.lose_connection(),
            // Its factory is being asked for a protocol, and has the say when it has given one.
            None if inner.state.get() == State::Connected => inner.unwanted.set(true),
            None => drop(self.stop_connecting()),
        }
    }
    /// Where it connects to, at present if that is looked up for every attempt; empty text once the connector is gone.
    pub fn destination(self) -> Destination {
        self.inner().map_or_else(|| Destination::from(""), |inner| inner.target())
    }
}

impl Inner {
    fn with_factory<R>(&self, what: &str, call: impl FnOnce(&mut dyn ClientFactory) -> R) -> Result<Option<R>> {
        let Some(mut factory) = self.factory.take() else { return Ok(None) };
        let outcome = failure::catch(|| call(&mut *factory));
        *self.factory.borrow_mut() = Some(factory);
        if let Err(failure) = &outcome {
            failure::report(format_args!("{what} of the factory connecting to {}", self.to), failure);
        }
        outcome.map(Some)
    }

    fn begin(self: &Rc<Self>) {
        if self.state.get() != State::Waiting {
            return;
        }
        self.state.set(State::Connecting);
        let attempt = self.attempt.get() + 1;
        self.attempt.set(attempt);
        self.first_failure.take();
        if let Some(limit) = self.to.limit() {
            let inner = Rc::downgrade(self);
            let late = move || {
                if let Some(inner) = inner.upgrade().filter(|inner| inner.is_attempt(attempt)) {
                    inner.fail(ConnectError::TimedOut { to: inner.target().to_string(), after: limit });
                }
            };
            self.timeout.set(Some(self.core.schedule(limit, Box::new(late))));
        }
        let name = self.name.get();
        if !self.factory_started.replace(true) {
            let _ = self.with_factory("start_factory", |factory| factory.start_factory());
        }
        let _ = self.with_factory("started_connecting", |factory| factory.started_connecting(name));
        if !self.is_attempt(attempt) {
            return;
        }
        match &self.finder {
            None => self.dial(attempt),
            Some(finder) => self.find_soon(attempt, finder),
        }
    }
    fn is_attempt(&self, attempt: u64) -> bool {
        self.attempt.get() == attempt && self.state.get() == State::Connecting
    }

    fn dial(self: &Rc<Self>, attempt: u64) {
        match self.target().host() {
            Host::Socket(address) => {
                self.left.replace(VecDeque::from([*address]));
                self.try_next();
            }
            Host::Name(host, port) => {
                let (inner, host, port) = (Rc::downgrade(self), host.clone(), *port);
                let answer = Reactor::of(&self.core).resolve(&host);
                self.looking.set(Some(answer.canceller()));
                let _ = answer.add_both(move |answer| {
                    let Some(inner) = inner.upgrade().filter(|inner| inner.is_attempt(attempt)) else { return };
                    inner.looking.set(None);
                    match answer {
                        Ok(ips) => {
                            inner.left.replace(ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect());
                            inner.try_next();
                        }
                        Err(failure) => inner.fail_soon(ConnectError::from_failure(failure)),
                    }
                });
            }
            Host::Unix(path) if self.to.must_be_locked() && !self.core.driver().is_locked(path) => {
                self.fail_soon(ConnectError::NotServed { path: path.clone() });
            }
            Host::Unix(path) => {
                let socket = self.core.driver().connect_unix(path);
                let peer = Address::Unix(Some(path.clone()));
                match socket {
                    Ok(socket) => self.watch(socket, peer),
                    Err(error) => self.fail_soon(ConnectError::from_io(error, &peer, Duration::ZERO)),
                }
            }
            Host::Text(text) => self.fail_soon(ConnectError::InvalidAddress { text: text.clone() }),
        }
    }

    /// The next address; when none is left, the failure of the first one tried is the one reported.
    fn try_next(self: &Rc<Self>) {
        loop {
            let next = self.left.borrow_mut().pop_front();
            let Some(address) = next else {
                let none = || ConnectError::UnknownHost { host: self.target().to_string() };
                let failure = self.first_failure.take().unwrap_or_else(none);
                return self.fail_soon(failure);
            };
            let local = self.target().local();
            let socket = self.core.driver().connect_tcp(address, local);
            let peer = Address::Tcp(address);
            match socket {
                Ok(socket) => return self.watch(socket, peer),
                Err(ConnectFault::Bind(error)) => {
                    let local = local.map_or(Address::Gone, Address::Tcp);
                    log::debug!(target: "twistlet", "binding to {local} failed: {error}");
                    self.note(ConnectError::Bind { to: local });
                }
                Err(ConnectFault::Connect(error)) => {
                    self.note(ConnectError::from_io(error, &peer, Duration::ZERO));
                }
            }
        }
    }
    fn note(&self, error: ConnectError) {
        self.first_failure.borrow_mut().get_or_insert(error);
    }

    fn watch(self: &Rc<Self>, mut socket: Socket, peer: Address) {
        let token = self.core.reserve();
        let registered = self.core.driver().register_socket(&mut socket, token);
        if let Err(error) = registered {
            self.core.remove_source(token);
            return self.fail_soon(ConnectError::from_io(error, &peer, Duration::ZERO));
        }
        *self.socket.borrow_mut() = Some((socket, peer));
        self.token.set(token);
        self.core.install_source(token, self.clone());
    }

    /// Takes the attempt's socket back, unwatched.
    fn release(&self) -> Option<(Socket, Address)> {
        if let Some(looking) = self.looking.take() {
            // Later: what the resolver does about it is not for the caller's stack.
            self.core.call_soon(Box::new(move || looking.cancel()));
        }
        let socket = self.socket.take()?;
        let ourselves = self.core.remove_source(self.token.get());
        drop(ourselves);
        Some(socket)
    }

    fn connected(self: &Rc<Self>, readiness: Readiness) {
        let Some((socket, peer)) = self.socket.take() else { return };
        self.cancel_timeout();
        self.state.set(State::Connected);
        let token = self.token.get();
        let protocol = self.with_factory("build_protocol", |factory| factory.build_protocol(&peer));
        let unwanted = self.unwanted.take();
        let protocol = match protocol {
            Ok(Some(Some(protocol))) if !unwanted => protocol,
            other => {
                self.core.remove_source(token);
                drop(socket);
                let reason = match &other {
                    Err(failure) => ConnectError::Failed(failure.clone()),
                    Ok(_) if unwanted => ConnectError::Cancelled,
                    Ok(_) => ConnectError::NoProtocol,
                };
                failure::drop_quietly(other);
                return self.fail(reason);
            }
        };
        let stream = Stream::new(&self.core, socket, token, peer, protocol, Some(Box::new(self.clone())));
        self.transport.set(Some(stream.name()));
        stream.start();
        stream.announced(readiness);
        let told = self.on_connected.take();
        if let Some(told) = told
            && stream.name().is_connected()
        {
            self.core.guard("a connection's Deferred", || told(stream.name()));
        }
    }

    fn cancel_timeout(&self) {
        for timer in [self.timeout.take(), self.delay.take()].into_iter().flatten() {
            timer.cancel();
        }
    }
    /// Fails in a later turn, with the attempt already over.
    fn fail_soon(self: &Rc<Self>, reason: ConnectError) {
        self.cancel_timeout();
        self.release();
        self.attempt.set(self.attempt.get() + 1);
        self.state.set(State::Connecting);
        let (inner, attempt) = (Rc::clone(self), self.attempt.get());
        self.core.call_soon(Box::new(move || {
            if inner.is_attempt(attempt) {
                inner.fail(reason);
            }
        }));
    }
    fn fail(self: &Rc<Self>, reason: ConnectError) {
        self.cancel_timeout();
        self.release();
        self.state.set(State::Disconnected);
        let name = self.name.get();
        let _ = self.with_factory("client_connection_failed", |factory| {
            factory.client_connection_failed(name, &reason);
        });
        self.settle();
    }
    /// The factory has been told: unless it asked for more, this is the end of it.
    fn settle(self: &Rc<Self>) {
        if self.state.get() != State::Disconnected {
            return;
        }
        self.state.set(State::Gone);
        if self.factory_started.replace(false) {
            let _ = self.with_factory("stop_factory", |factory| factory.stop_factory());
        }
        let name = self.name.get();
        let removed =
            CONNECTORS.try_with(|connectors| connectors.borrow_mut().remove((name.slot, name.generation))).ok();
        let (factory, told) = (self.factory.take(), self.on_connected.take());
        failure::drop_quietly((factory, told));
        drop(removed);
    }
    /// The reactor ends.
    fn shut(self: &Rc<Self>) {
        match self.state.get() {
            State::Waiting | State::Connecting => {
                self.attempt.set(self.attempt.get() + 1);
                self.fail(ConnectError::Cancelled);
                // Whatever the factory asked for: there is no reactor for it.
                self.cancel_timeout();
                self.state.set(State::Disconnected);
                self.settle();
            }
            State::Connected | State::Disconnected | State::Gone => {}
        }
    }
}

impl Owner for Rc<Inner> {
    fn connection_lost(&self, reason: &ConnectionClosed) {
        self.transport.set(None);
        self.state.set(State::Disconnected);
        let name = self.name.get();
        let _ = self.with_factory("client_connection_lost", |factory| factory.client_connection_lost(name, reason));
        self.settle();
    }
}

/// While connecting, the connector itself is the source.
impl Source for Inner {
    fn kind(&self) -> Kind {
        Kind::Attempt
    }
    fn fd(&self) -> Option<RawFd> {
        self.socket.borrow().as_ref().and_then(|(socket, _)| socket.fd())
    }
    fn about(&self) -> About {
        About { detail: format!("to {}", self.to), writes: true, ..About::default() }
    }
    fn ready(&self, _core: &Rc<Core>, readiness: Readiness) {
        if readiness == Readiness::default() {
            return;
        }
        let outcome = match &*self.socket.borrow() {
            Some((socket, _)) => match socket.take_error() {
                Ok(None) => socket.peer().map(drop),
                Ok(Some(error)) | Err(error) => Err(error),
            },
            None => return,
        };
        let Some(inner) = self.name.get().inner() else { return };
        match outcome {
            Ok(()) => inner.connected(readiness),
            Err(error) if error.kind() == io::ErrorKind::NotConnected && !readiness.is_writable() => {}
            Err(error) => {
                if let Some((_, peer)) = self.release() {
                    self.note(ConnectError::from_io(error, &peer, Duration::ZERO));
                }
                inner.try_next();
            }
        }
    }
    fn shut(&self, _core: &Rc<Core>) {
        if let Some(inner) = self.name.get().inner() {
            Inner::shut(&inner);
        }
    }
}
