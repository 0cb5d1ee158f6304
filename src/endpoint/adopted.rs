//! Listening sockets that somebody else has made: given to the program, or inherited under a number. (`activated` has those of
//! systemd.)
use super::{Listening, ServerEndpoint};
use crate::deferred::Deferred;
use crate::error::{CannotListen, PortError, ReactorError};
use crate::failure::Result;
use crate::reactor::Reactor;
use crate::sys::inherited;
use crate::transport::{Factory, ListenAt};
use std::cell::RefCell;
use std::fmt;
use std::os::fd::{OwnedFd, RawFd};

/// A listening socket, TCP or UNIX, that is there already (Twisted's `AdoptedStreamServerEndpoint`). It is this endpoint's from
/// then on, listens once, and is closed when listening ends; a second [`listen`](ServerEndpoint::listen) fails with
/// [`PortError::AlreadyListening`].
///
/// ```
/// use twistlet::Reactor;
/// use twistlet::endpoint::{AdoptedServerEndpoint, ServerEndpoint};
/// # use twistlet::{Protocol, TransportRef};
/// # struct Echo;
/// # impl Protocol for Echo { fn data_received(&mut self, t: TransportRef, data: &[u8]) { t.write(data) } }
/// let reactor = Reactor::new()?;
/// let socket = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let _listening = AdoptedServerEndpoint::new(&reactor, socket).listen(|| Echo);
/// # reactor.close();
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct AdoptedServerEndpoint {
    reactor: Reactor,
    socket: RefCell<Socket>,
}

enum Socket {
    Here(OwnedFd),
    Inherited(RawFd),
    Used,
}

impl AdoptedServerEndpoint {
    /// Listens on `socket`: a `TcpListener`, a `UnixListener`, an `OwnedFd`.
    pub fn new(reactor: &Reactor, socket: impl Into<OwnedFd>) -> Self {
        Self::of(reactor, Socket::Here(socket.into()))
    }
    /// Listens on the socket that the process was started with under this number; taken when it listens. Only what has come
    /// through an exec can be taken, and once: not the standard streams, and nothing that this process has opened.
    pub fn inherited(reactor: &Reactor, number: RawFd) -> Self {
        Self::of(reactor, Socket::Inherited(number))
    }
    fn of(reactor: &Reactor, socket: Socket) -> Self {
        AdoptedServerEndpoint { reactor: *reactor, socket: RefCell::new(socket) }
    }

    /// The socket, which is gone from here; unless there is none.
    fn take(&self) -> Result<OwnedFd> {
        let mut place = self.socket.borrow_mut();
        match std::mem::replace(&mut *place, Socket::Used) {
            Socket::Here(socket) => Ok(socket),
            Socket::Used => Err(PortError::AlreadyListening.into()),
            Socket::Inherited(number) => inherited::claim(number).map_err(|error| {
                *place = Socket::Inherited(number);
                CannotListen::new(format_args!("descriptor {number}"), error).into()
            }),
        }
    }
}
impl ServerEndpoint for AdoptedServerEndpoint {
    fn listen_boxed(&self, factory: Box<dyn Factory>) -> Deferred<Listening> {
        if self.reactor.core().is_none() {
            // The socket stays here.
            return Deferred::fail(ReactorError::Closed);
        }
        match self.take() {
            Ok(socket) => Listening::deferred(self.reactor.listen_tcp(ListenAt::from(socket), factory)),
            Err(failure) => Deferred::fail(failure),
        }
    }
}
impl fmt::Debug for AdoptedServerEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = match &*self.socket.borrow() {
            Socket::Here(socket) => format!("{socket:?}"),
            Socket::Inherited(number) => format!("inherited {number}"),
            Socket::Used => "used".to_owned(),
        };
        f.debug_struct("AdoptedServerEndpoint").field("socket", &socket).finish()
    }
}
