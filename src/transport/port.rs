//! Listening ports: accepting in bounded batches, surviving the want of descriptors, stopping and starting again
//! (Twisted's `IListeningPort`).
use super::destination::{ListenAt, Place};
use super::names::Names;
use super::stream::Stream;
use super::{Address, Factory, Protocol};
use crate::deferred::{Deferred, Promise};
use crate::error::{CannotListen, PortError};
use crate::failure::{self, Failure, Result};
use crate::reactor::driver::{ListenOptions, Listener, Readiness, Socket, unix};
use crate::reactor::{About, Core, Kind, Source};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Connections accepted in one go; grows by `BATCH_STEP` while that was not enough.
const BATCH: usize = 100;
const BATCH_STEP: usize = 20;
/// A port that could not accept for want of something tries again after this long.
const RETRY: Duration = Duration::from_millis(100);
/// Complaints about accepting are logged no more often than this.
const COMPLAIN: Duration = Duration::from_secs(1);

/// The name of a listening port, `Copy`; it ends with its reactor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ListeningPort {
    slot: u32,
    generation: u32,
    thread: PhantomData<*const ()>,
}

thread_local! {
    static PORTS: RefCell<Names<Port>> = const { RefCell::new(Names::new()) };
    /// Given up when descriptors run out, so that a waiting connection can be accepted and shed.
    static RESERVE: RefCell<Option<File>> = const { RefCell::new(None) };
    static COMPLAINED: Cell<Option<Instant>> = const { Cell::new(None) };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Listening,
    Stopping,
    Stopped,
}

struct Port {
    core: Rc<Core>,
    /// What binds again after a stop; an adopted socket cannot.
    again: Option<ListenAt>,
    listener: RefCell<Option<Listener>>,
    name: Cell<Option<ListeningPort>>,
    adopted: bool,
    token: Cell<usize>,
    factory: RefCell<Option<Box<dyn Factory>>>,
    address: RefCell<Address>,
    state: Cell<State>,
    /// The factory was started, so it is to be stopped.
    started: Cell<bool>,
    batch: Cell<usize>,
    stopped: RefCell<Vec<Promise<()>>>,
}

/// Binds, listens and starts the factory.
pub(super) fn listen(core: &Rc<Core>, at: ListenAt, factory: Box<dyn Factory>) -> Result<ListeningPort> {
    RESERVE.with(|reserve| reserve.borrow_mut().get_or_insert_with_file());
    let again = match &at.place {
        Place::Socket(address) => Some(Place::Socket(*address)),
        Place::Unix(path) => Some(Place::Unix(path.clone())),
        Place::Adopted(_) | Place::Text(_) => None,
    };
    let port = Rc::new(Port {
        core: Rc::clone(core),
        again: again.map(|place| ListenAt { place, ..at }),
        listener: RefCell::default(),
        name: Cell::new(None),
        adopted: matches!(at.place, Place::Adopted(_)),
        token: Cell::new(0),
        factory: RefCell::new(Some(factory)),
        address: RefCell::new(Address::Gone),
        state: Cell::new(State::Stopped),
        started: Cell::new(false),
        batch: Cell::new(BATCH),
        stopped: RefCell::default(),
    });
    port.start(at)?;
    let (slot, generation) = PORTS.with(|ports| ports.borrow_mut().insert(Rc::clone(&port)));
    let name = ListeningPort { slot, generation, thread: PhantomData };
    port.name.set(Some(name));
    core.add_end_hook(Box::new(move || name.forget()));
    Ok(name)
}

trait Reserve {
    fn get_or_insert_with_file(&mut self);
}
impl Reserve for Option<File> {
    fn get_or_insert_with_file(&mut self) {
        if self.is_none() {
            *self = File::open("/dev/null").ok();
        }
    }
}

impl ListeningPort {
    fn port(self) -> Option<Rc<Port>> {
        PORTS.try_with(|ports| ports.borrow().get((self.slot, self.generation))).ok().flatten()
    }
    /// Where it listens, the port number filled in. [`Address::Gone`] once the reactor has ended.
    pub fn address(self) -> Address {
        self.port().map_or(Address::Gone, |port| port.address.borrow().clone())
    }
    /// Accepts no more from now on; the connections there are stay. The Deferred fires when the socket is closed and the
    /// factory has been told `stop_factory`, in a later turn; it fails with what `stop_factory` panicked with. Harmless when
    /// it does not listen.
    pub fn stop_listening(self) -> Deferred<()> {
        let Some(port) = self.port() else { return Deferred::succeed(()) };
        if port.state.get() == State::Stopped {
            return Deferred::succeed(());
        }
        let (promise, deferred) = Deferred::new();
        port.stopped.borrow_mut().push(promise);
        if port.state.replace(State::Stopping) == State::Listening {
            let core = Rc::clone(&port.core);
            core.call_soon(Box::new(move || port.finish()));
        }
        deferred
    }
    /// Binds and listens again after a stop.
    ///
    /// # Errors
    /// [`PortError::AlreadyListening`]; [`CannotListen`] when the address has been taken; [`PortError::Gone`] when the
    /// reactor has ended, or the socket had been adopted.
    pub fn start_listening(self) -> Result<()> {
        let port = self.port().ok_or(PortError::Gone)?;
        if port.state.get() != State::Stopped {
            return Err(PortError::AlreadyListening.into());
        }
        let again = port.again.as_ref().ok_or(PortError::Gone)?;
        let place = match &again.place {
            Place::Socket(address) => Place::Socket(*address),
            Place::Unix(path) => Place::Unix(path.clone()),
            Place::Adopted(_) | Place::Text(_) => return Err(PortError::Gone.into()),
        };
        port.start(ListenAt { place, ..*again })
    }
    /// The reactor ends.
    fn forget(self) {
        let port = PORTS.try_with(|ports| ports.borrow_mut().remove((self.slot, self.generation))).ok().flatten();
        if let Some(port) = port {
            port.finish();
            let factory = port.factory.take();
            failure::drop_quietly(factory);
        }
    }
}

impl Port {
    fn start(self: &Rc<Self>, at: ListenAt) -> Result<()> {
        let text = at.to_string();
        let cannot = |error: io::Error| Failure::from(CannotListen::new(text, error));
        let listener = self.bind(at).and_then(|mut listener| {
            let token = self.core.reserve();
            let registered = self.core.driver().register_listener(&mut listener, token);
            match registered {
                Ok(()) => Ok((listener, token)),
                Err(error) => {
                    self.core.remove_source(token);
                    Err(error)
                }
            }
        });
        let (listener, token) = listener.map_err(cannot)?;
        *self.address.borrow_mut() = listener.address().unwrap_or(Address::Gone);
        *self.listener.borrow_mut() = Some(listener);
        self.token.set(token);
        self.core.install_source(token, self.clone());
        self.state.set(State::Listening);
        let started = self.with_factory(|factory| factory.start_factory());
        self.started.set(started.is_ok());
        if started.is_err() {
            self.finish();
        }
        started.map(drop)
    }
    fn bind(&self, at: ListenAt) -> io::Result<Listener> {
        match at.place {
            Place::Socket(address) => {
                let options = ListenOptions { backlog: at.backlog, reuse_port: at.reuse_port };
                self.core.driver().listen_tcp(address, &options)
            }
            Place::Unix(path) => self.core.driver().listen_unix(&path, at.backlog, at.file),
            Place::Adopted(socket) => unix::adopt_listener(socket),
            Place::Text(_) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "this is no place to listen: give a port, an address and a port, or a socket address",
            )),
        }
    }

    /// Calls the factory, taken out meanwhile.
    fn with_factory<R>(&self, call: impl FnOnce(&mut dyn Factory) -> R) -> Result<Option<R>> {
        let Some(mut factory) = self.factory.take() else { return Ok(None) };
        let outcome = failure::catch(|| call(&mut *factory));
        *self.factory.borrow_mut() = Some(factory);
        outcome.map(Some)
    }

    /// Closes the socket, tells the factory, then whoever waits.
    fn finish(&self) {
        let mut outcome = Ok(());
        let listener = self.listener.take();
        if let Some(mut listener) = listener {
            if self.adopted {
                self.core.driver().deregister_listener(&mut listener);
            }
            let ourselves = self.core.remove_source(self.token.get());
            drop(listener);
            self.state.set(State::Stopped);
            if self.started.replace(false) {
                outcome = self.with_factory(|factory| factory.stop_factory()).map(drop);
            }
            drop(ourselves);
        }
        let waiting = std::mem::take(&mut *self.stopped.borrow_mut());
        if let Err(failure) = &outcome
            && waiting.is_empty()
        {
            failure::report(format_args!("stop_factory of the port at {}", self.address.borrow()), failure);
        }
        for promise in waiting {
            match &outcome {
                Ok(()) => promise.callback(()),
                Err(failure) => promise.errback(failure.clone()),
            }
        }
    }

    fn accept(&self, core: &Rc<Core>) {
        let batch = self.batch.get();
        for _ in 0..batch {
            if self.state.get() != State::Listening {
                return;
            }
            match self.accept_one() {
                Ok((socket, peer)) => self.serve(core, socket, peer),
                Err(error) => match error.raw_os_error() {
                    _ if error.kind() == io::ErrorKind::WouldBlock => {
                        self.batch.set(BATCH);
                        return;
                    }
                    // Gone before it was accepted, or refused by a firewall: the next one, please.
                    Some(libc::ECONNABORTED | libc::EINTR | libc::EPERM | libc::EPROTO) => {}
                    Some(libc::EMFILE | libc::ENFILE) => return self.shed(&error),
                    _ => return self.retry_later(&error),
                },
            }
        }
        self.batch.set(batch + BATCH_STEP);
        core.dispatch_again(self.token.get());
    }
    fn accept_one(&self) -> io::Result<(Socket, Address)> {
        match &*self.listener.borrow() {
            Some(listener) => listener.accept(),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn serve(&self, core: &Rc<Core>, mut socket: Socket, peer: Address) {
        let protocol = match self.with_factory(|factory| factory.build_protocol(&peer)) {
            Ok(protocol) => protocol.flatten(),
            Err(failure) => {
                return failure::report(format_args!("the factory of the port at {}", self.address.borrow()), &failure);
            }
        };
        let Some(protocol) = protocol else { return };
        let token = core.reserve();
        let registered = core.driver().register_socket(&mut socket, token);
        if let Err(error) = registered {
            core.remove_source(token);
            failure::drop_quietly::<Box<dyn Protocol>>(protocol);
            return self.retry_later(&error);
        }
        Stream::new(core, socket, token, peer, protocol, None).start();
    }

    /// No descriptor left: with the reserved one, those who wait are accepted and closed, instead of waiting for nothing
    /// while the port's edge is used up.
    fn shed(&self, error: &io::Error) {
        let reserve = RESERVE.with(|reserve| reserve.borrow_mut().take());
        let Some(reserve) = reserve else { return self.retry_later(error) };
        drop(reserve);
        let mut shed = 0;
        while shed < self.batch.get()
            && let Ok(connection) = self.accept_one()
        {
            drop(connection);
            shed += 1;
        }
        RESERVE.with(|reserve| reserve.borrow_mut().get_or_insert_with_file());
        self.complain(format_args!("{error}: {shed} connections were shed"));
        self.try_again_in(RETRY);
    }
    fn retry_later(&self, error: &io::Error) {
        self.complain(format_args!("{error}: trying again"));
        self.try_again_in(RETRY);
    }
    fn try_again_in(&self, delay: Duration) {
        let (core, token) = (Rc::downgrade(&self.core), self.token.get());
        self.core.schedule(
            delay,
            Box::new(move || {
                if let Some(core) = core.upgrade() {
                    core.dispatch_again(token);
                }
            }),
        );
    }
    fn complain(&self, what: std::fmt::Arguments<'_>) {
        let now = self.core.now();
        if COMPLAINED.get().is_none_or(|last| now.saturating_duration_since(last) >= COMPLAIN) {
            COMPLAINED.set(Some(now));
            log::error!(target: "twistlet", "the port at {} cannot accept: {what}", self.address.borrow());
        }
    }
}

impl Source for Port {
    fn kind(&self) -> Kind {
        Kind::Port
    }
    fn fd(&self) -> Option<RawFd> {
        self.listener.borrow().as_ref().and_then(Listener::fd)
    }
    fn about(&self) -> About {
        About { detail: format!("at {}", self.address.borrow()), reads: true, ..About::default() }
    }
    fn ready(&self, core: &Rc<Core>, _readiness: Readiness) {
        self.accept(core);
    }
    fn shut(&self, _core: &Rc<Core>) {
        self.finish();
    }
    fn drain(&self) {
        // The socket is closed by the reactor's end at the latest.
        if self.state.replace(State::Stopping) == State::Listening {
            let name = self.name.get();
            self.core.call_soon(Box::new(move || {
                if let Some(port) = name.and_then(ListeningPort::port) {
                    port.finish();
                }
            }));
        }
    }
}
