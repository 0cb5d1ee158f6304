//! `Listeners`: listening sockets that a program's next process goes on with, and the endpoint that opens them.
//!
//! A table of duplicates, each from its `listen` to its stop. What must never happen here: a duplicate kept longer, for then
//! connections would wait at a port where nobody listens.
use crate::deferred::Deferred;
use crate::endpoint::activated::activated;
use crate::endpoint::inheritance::{self, Role};
use crate::endpoint::{Listening, ServerEndpoint};
use crate::error::{CannotListen, PortError};
use crate::failure::Result;
use crate::reactor::Reactor;
use crate::reactor::driver::unix::{BoundPath, is_stale};
use crate::transport::Factory;
use socket2::{Domain, SockAddr, Socket, Type};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// The listening sockets that a program keeps through its restarts: what is opened by [`tcp`](Listeners::tcp) and
/// [`unix`](Listeners::unix) is handed to the
/// process that [`Application`](super::Application) starts in its own place, which goes on listening there, and no connection
/// is refused or lost meanwhile. Clones are the same table.
#[derive(Clone, Default)]
pub struct Listeners(Rc<Table>);

#[derive(Default)]
struct Table {
    kept: RefCell<HashMap<String, Kept>>,
    /// A successor listens on them: the files of UNIX sockets are its.
    handed_over: Cell<bool>,
}

/// A duplicate, and the file of a UNIX socket, which is removed with it.
struct Kept(OwnedFd, Option<BoundPath>);
impl Kept {
    /// Its file stays.
    fn leave(self) {
        if let Some(file) = self.1 {
            file.leave();
        }
    }
}

impl Listeners {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }
    /// Listens at `at`, an address and a port as in `"127.0.0.1:8007"`, or a port alone, which is on every IPv4 interface: on the
    /// socket that the process before this one had open for the same text, and otherwise on a new one.
    pub fn tcp(&self, reactor: &Reactor, at: impl Into<String>) -> ListenersEndpoint {
        ListenersEndpoint { listeners: self.clone(), reactor: *reactor, at: at.into(), path: None }
    }
    /// Listens at a path of the file system, likewise. A socket file there that nobody serves is replaced; ours is removed when
    /// the listening ends, unless a successor goes on with it.
    pub fn unix(&self, reactor: &Reactor, path: impl Into<PathBuf>) -> ListenersEndpoint {
        let path = path.into();
        let at = format!("unix:{}", path.display());
        ListenersEndpoint { listeners: self.clone(), reactor: *reactor, at, path: Some(path) }
    }
    pub(super) fn are_handed_over(&self) {
        self.0.handed_over.set(true);
        for Kept(_, file) in self.0.kept.borrow_mut().values_mut() {
            if let Some(file) = file.take() {
                file.leave();
            }
        }
    }
    /// What a successor is to have.
    pub(super) fn hand_over(&self) -> io::Result<Vec<(Role, String, OwnedFd)>> {
        let mut all = Vec::new();
        for (name, Kept(listener, _)) in &*self.0.kept.borrow() {
            all.push((Role::Listener, name.clone(), listener.try_clone()?));
        }
        for socket in activated() {
            all.push((Role::Activated, socket.name.clone(), socket.descriptor.try_clone()?));
        }
        Ok(all)
    }
    /// Closes what was handed over and is not listened on: there, connections would wait for nobody.
    pub(super) fn forget_unused() {
        for (name, _) in inheritance::take_all(Role::Listener) {
            log::warn!(target: "twistlet", "the process before this one listened at {name}, this one does not: closed");
        }
    }
}
impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.kept.borrow().keys()).finish()
    }
}

/// What [`Listeners::tcp`] and [`Listeners::unix`] give.
#[derive(Clone, Debug)]
pub struct ListenersEndpoint {
    listeners: Listeners,
    reactor: Reactor,
    /// What the successor knows it by.
    at: String,
    /// Of a UNIX socket.
    path: Option<PathBuf>,
}

impl ListenersEndpoint {
    fn open(&self) -> io::Result<OwnedFd> {
        if let Some(inherited) = inheritance::take(Role::Listener, &self.at) {
            return Ok(inherited);
        }
        let Some(path) = &self.path else { return self.open_tcp() };
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        let address = SockAddr::unix(path)?;
        match socket.bind(&address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(Type::STREAM, path) => {
                std::fs::remove_file(path)?;
                socket.bind(&address)?;
            }
            bound => bound?,
        }
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    }
    fn open_tcp(&self) -> io::Result<OwnedFd> {
        let address = match (self.at.parse::<SocketAddr>(), self.at.parse::<u16>()) {
            (Ok(address), _) => address,
            (_, Ok(port)) => (Ipv4Addr::UNSPECIFIED, port).into(),
            _ => {
                let text = "not a place to listen: write address:port, as in \"127.0.0.1:80\", or a port";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        };
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    }
    fn listen_on(&self, listener: OwnedFd, factory: Box<dyn Factory>) -> Result<Listening> {
        let kept = listener.try_clone().map_err(|error| CannotListen::new(&self.at, error))?;
        let kept = Kept(kept, self.path.clone().map(BoundPath::of));
        let port = self.reactor.listen_tcp(listener, factory)?;
        self.listeners.0.kept.borrow_mut().insert(self.at.clone(), kept);
        let (this, address) = (self.clone(), port.address());
        Ok(Listening::new(address, move || {
            this.forget();
            port.stop_listening()
        }))
    }
    fn forget(&self) {
        let kept = self.listeners.0.kept.borrow_mut().remove(&self.at);
        if let Some(kept) = kept
            && self.listeners.0.handed_over.get()
        {
            kept.leave();
        }
    }
}
impl ServerEndpoint for ListenersEndpoint {
    /// Fails with [`PortError::AlreadyListening`] while it listens.
    fn listen_boxed(&self, factory: Box<dyn Factory>) -> Deferred<Listening> {
        if self.listeners.0.kept.borrow().contains_key(&self.at) {
            return Deferred::fail(PortError::AlreadyListening);
        }
        let opened = self.open().map_err(|error| CannotListen::new(&self.at, error).into());
        match opened.and_then(|listener| self.listen_on(listener, factory)) {
            Ok(listening) => Deferred::succeed(listening),
            Err(failure) => Deferred::fail(failure),
        }
    }
}
