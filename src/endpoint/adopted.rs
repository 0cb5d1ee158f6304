//! Listening sockets that somebody else has made: given to the program, inherited under a number, or handed over by systemd.
use super::systemd::{self, Which};
use super::{Listening, ServerEndpoint};
use crate::deferred::Deferred;
use crate::error::{CannotListen, PortError};
use crate::failure::Result;
use crate::reactor::Reactor;
use crate::sys::descriptor::take_inherited;
use crate::transport::{Factory, ListenAt};
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

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
    Systemd(Which, Option<Domain>),
    Used,
}
/// What kind of socket it must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Domain {
    Inet,
    Inet6,
    Unix,
}
impl Domain {
    fn fits(self, socket: &OwnedFd) -> bool {
        let domain = socket2::SockRef::from(socket).domain().ok();
        domain
            == Some(match self {
                Domain::Inet => socket2::Domain::IPV4,
                Domain::Inet6 => socket2::Domain::IPV6,
                Domain::Unix => socket2::Domain::UNIX,
            })
    }
}

impl AdoptedServerEndpoint {
    /// Listens on `socket`: a `TcpListener`, a `UnixListener`, an `OwnedFd`.
    pub fn new(reactor: &Reactor, socket: impl Into<OwnedFd>) -> Self {
        Self::of(reactor, Socket::Here(socket.into()))
    }
    /// Listens on the socket that the process was started with under this number; taken when it listens. Only what has come
    /// through an exec can be taken, and once: not the standard streams, and nothing that this process has opened to be closed
    /// at exec, as std opens everything. (A C library may have opened something else: name numbers that were given to you.)
    pub fn inherited(reactor: &Reactor, number: RawFd) -> Self {
        Self::of(reactor, Socket::Inherited(number))
    }
    /// Listens on the socket with this number among those that systemd has handed over, counted from 0. See
    /// [`handed_over`](super::handed_over).
    pub fn systemd(reactor: &Reactor, index: usize) -> Self {
        Self::of(reactor, Socket::Systemd(Which::Index(index), None))
    }
    /// The same, by its name: `FileDescriptorName=` of the socket unit, which is the unit's name unless it says otherwise. The
    /// first of several.
    pub fn systemd_named(reactor: &Reactor, name: impl Into<String>) -> Self {
        Self::of(reactor, Socket::Systemd(Which::Name(name.into()), None))
    }
    pub(super) fn of_systemd(reactor: &Reactor, which: Which, domain: Domain) -> Self {
        Self::of(reactor, Socket::Systemd(which, Some(domain)))
    }
    fn of(reactor: &Reactor, socket: Socket) -> Self {
        AdoptedServerEndpoint { reactor: *reactor, socket: RefCell::new(socket) }
    }

    /// The socket, which is gone from here; unless there is none.
    fn take(&self) -> Result<OwnedFd> {
        let missing = |what: String, why: &str| CannotListen::new(what, io::Error::new(io::ErrorKind::NotFound, why));
        let mut place = self.socket.borrow_mut();
        let socket = match &*place {
            Socket::Here(_) => match std::mem::replace(&mut *place, Socket::Used) {
                Socket::Here(socket) => socket,
                _ => unreachable!("just seen"),
            },
            Socket::Used => return Err(PortError::AlreadyListening.into()),
            Socket::Inherited(number) => {
                // Of two threads one gets it.
                static TAKING: Mutex<()> = Mutex::new(());
                let _one_at_a_time = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
                take_inherited(*number).ok_or_else(|| {
                    let why = "the process was not started with such a descriptor, or it has been taken already";
                    missing(format!("descriptor {number}"), why)
                })?
            }
            Socket::Systemd(which, domain) => {
                let what = || format!("the socket {which} of systemd");
                match systemd::take(which, |socket| domain.is_none_or(|domain| domain.fits(socket))) {
                    systemd::Taken::It(socket) => socket,
                    systemd::Taken::Used => return Err(PortError::AlreadyListening.into()),
                    systemd::Taken::Unfit => return Err(missing(what(), "it is of another domain").into()),
                    systemd::Taken::Missing => return Err(missing(what(), "no such socket was handed over").into()),
                }
            }
        };
        *place = Socket::Used;
        Ok(socket)
    }
}
impl ServerEndpoint for AdoptedServerEndpoint {
    fn listen_boxed(&self, factory: Box<dyn Factory>) -> Deferred<Listening> {
        if self.reactor.core().is_none() {
            // The socket stays here.
            return Deferred::fail(crate::error::ReactorError::Closed);
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
            Socket::Systemd(which, _) => format!("{which} of systemd"),
            Socket::Used => "used".to_owned(),
        };
        f.debug_struct("AdoptedServerEndpoint").field("socket", &socket).finish()
    }
}
