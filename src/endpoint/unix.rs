//! UNIX sockets: a path to connect to, a path to listen at.
use super::{ClientEndpoint, Listening, ServerEndpoint, connect_error};
use crate::deferred::Deferred;
use crate::reactor::Reactor;
use crate::transport::{Destination, Factory, TransportRef, UnixPath, connect_once};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A path to connect to (Twisted's `UNIXClientEndpoint`).
///
/// ```
/// use twistlet::Reactor;
/// use twistlet::endpoint::UnixClientEndpoint;
/// let reactor = Reactor::new()?;
/// let to = UnixClientEndpoint::new(&reactor, "/run/app/control");
/// assert_eq!(to.path(), "/run/app/control");
/// # reactor.close();
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[derive(Clone, Debug)]
pub struct UnixClientEndpoint {
    reactor: Reactor,
    path: PathBuf,
    to: Destination,
}

impl UnixClientEndpoint {
    /// What connects to `path`. Nothing is opened before [`connect`](ClientEndpoint::connect).
    pub fn new(reactor: &Reactor, path: impl Into<UnixPath>) -> Self {
        let path = path.into();
        UnixClientEndpoint { reactor: *reactor, path: path.path().to_owned(), to: Destination::unix(path) }
    }
    /// Gives up after `limit`. Default: 30 seconds.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.to = self.to.timeout(limit);
        self
    }
    /// Where to.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
impl ClientEndpoint for UnixClientEndpoint {
    fn connect_boxed(&self, factory: Box<dyn Factory>) -> Deferred<TransportRef> {
        connect_once(&self.reactor, self.to.clone(), factory).add_errback(connect_error)
    }
}

/// A path to listen at (Twisted's `UNIXServerEndpoint`).
#[derive(Clone, Debug)]
pub struct UnixServerEndpoint {
    reactor: Reactor,
    path: UnixPath,
}

impl UnixServerEndpoint {
    /// What listens at `path`. Nothing is opened before [`listen`](ServerEndpoint::listen).
    pub fn new(reactor: &Reactor, path: impl Into<UnixPath>) -> Self {
        UnixServerEndpoint { reactor: *reactor, path: path.into() }
    }
    /// Where.
    pub fn path(&self) -> &Path {
        self.path.path()
    }
}
impl ServerEndpoint for UnixServerEndpoint {
    fn listen_boxed(&self, factory: Box<dyn Factory>) -> Deferred<Listening> {
        Listening::deferred(self.reactor.listen_unix(self.path.clone(), factory))
    }
}
