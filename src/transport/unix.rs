//! Where a UNIX socket is and how it is made, and what else the reactor does with sockets of this kind: datagrams, and
//! connections that somebody else has made.
use super::datagram::{self, DatagramPort, DatagramProtocol};
use super::stream::Stream;
use super::{Factory, ListenAt, TransportRef};
use crate::failure::{self, Result};
use crate::reactor::Reactor;
use crate::reactor::driver::unix;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The path of a UNIX socket, to listen at or to connect to, with options: made of anything that is a path. On Linux a path that
/// begins with a NUL byte is a name without a file (`"\0my-service"`); options of the file mean nothing to it.
///
/// ```
/// use twistlet::transport::UnixPath;
/// let at = UnixPath::from("/run/my-service/socket").mode(0o660).lock_file();
/// assert_eq!(at.path(), std::path::Path::new("/run/my-service/socket"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixPath {
    pub(super) path: PathBuf,
    pub(super) mode: Option<u32>,
    pub(super) lock: bool,
    pub(super) backlog: Option<u32>,
    pub(super) timeout: Option<Duration>,
    pub(super) max_packet: Option<usize>,
}

impl UnixPath {
    /// The path alone.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Listening: the permissions of the socket's file, such as `0o660`; there is no moment at which it has more. Default: those
    /// of any new file, which the process's umask decides (Twisted: `0o666`).
    pub fn mode(mut self, permissions: u32) -> Self {
        self.mode = Some(permissions & 0o7777);
        self
    }
    /// Listening: holds the lock `PATH.lock` as long as the socket is there, and fails while another process does (Twisted's
    /// `wantPID`). Connecting: fails at once with [`ConnectError::NotServed`](crate::ConnectError::NotServed) unless a process that
    /// lives holds it (`checkPID`). The lock ends with its process, however that ends.
    pub fn lock_file(mut self) -> Self {
        self.lock = true;
        self
    }
    /// Listening: how many connections may wait to be accepted. Default 1,024; the system has a limit of its own.
    pub fn backlog(mut self, n: u32) -> Self {
        self.backlog = Some(n);
        self
    }
    /// Connecting: gives up after `limit`. Default: 30 seconds.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }
    /// Datagrams: the most that is received of one. Default 8,192 bytes.
    pub fn max_packet(mut self, bytes: usize) -> Self {
        self.max_packet = Some(bytes.max(1));
        self
    }
}

impl From<PathBuf> for UnixPath {
    fn from(path: PathBuf) -> Self {
        UnixPath { path, mode: None, lock: false, backlog: None, timeout: None, max_packet: None }
    }
}
impl From<String> for UnixPath {
    fn from(path: String) -> Self {
        PathBuf::from(path).into()
    }
}
impl<P: AsRef<Path> + ?Sized> From<&P> for UnixPath {
    fn from(path: &P) -> Self {
        path.as_ref().to_owned().into()
    }
}

/// UNIX datagrams, and sockets that somebody else has made.
impl Reactor {
    /// Binds a UNIX datagram socket and tells the protocol `start_protocol` (Twisted's `listenUNIXDatagram`). Addresses of senders are
    /// [`Address::Unix`](crate::Address::Unix); one without a name cannot be answered. The file is removed when listening ends.
    ///
    /// A receiver that is slow makes `write_to` fail with [`WouldBlock`](super::DatagramError::WouldBlock).
    ///
    /// # Errors
    /// As [`listen_udp`](Reactor::listen_udp).
    pub fn listen_unix_datagram(
        &self,
        path: impl Into<UnixPath>,
        protocol: impl DatagramProtocol + 'static,
    ) -> Result<DatagramPort> {
        datagram::listen(&self.open()?, ListenAt::unix(path.into()), Box::new(protocol))
    }
    /// A UNIX datagram port connected with the socket at `path` (Twisted's `connectUNIXDatagram`), without a name of its own: it cannot
    /// be answered. For one with a name: [`listen_unix_datagram`](Reactor::listen_unix_datagram), and
    /// [`connect_path`](DatagramPort::connect_path).
    ///
    /// # Errors
    /// [`CannotListen`](crate::error::CannotListen) with the system's reason, such as that nobody is there; what `start_protocol`
    /// panicked with; [`ReactorError::Closed`](crate::error::ReactorError::Closed).
    pub fn connect_unix_datagram(
        &self,
        path: impl Into<UnixPath>,
        protocol: impl DatagramProtocol + 'static,
    ) -> Result<DatagramPort> {
        datagram::connect_unix(&self.open()?, path.into(), Box::new(protocol))
    }

    /// Makes a transport of a connected stream socket that somebody else has made: accepted elsewhere, or received as a descriptor
    /// (Twisted's `adoptStreamConnection`). The descriptor is the reactor's from then on. The factory builds the protocol, which is told
    /// `connection_made`, before this returns; `None` where it declines, and then the socket is closed.
    ///
    /// ```
    /// # use twistlet::{Protocol, Reactor, TransportRef};
    /// # struct Echo;
    /// # impl Protocol for Echo {
    /// #     fn data_received(&mut self, transport: TransportRef, data: &[u8]) { transport.write(data); }
    /// # }
    /// let reactor = Reactor::new()?;
    /// let (near, _far) = std::os::unix::net::UnixStream::pair()?;
    /// let transport = reactor.adopt_connection(near, || Echo)?;
    /// assert!(transport.is_some_and(|transport| transport.is_connected()));
    /// # Ok::<(), twistlet::Failure>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for what is no stream socket of a family that is known, `NotConnected`; what the factory panicked with;
    /// [`ReactorError::Closed`](crate::error::ReactorError::Closed).
    pub fn adopt_connection(
        &self,
        socket: impl Into<OwnedFd>,
        mut factory: impl Factory,
    ) -> Result<Option<TransportRef>> {
        let core = self.open()?;
        let mut socket = unix::adopt_connection(socket.into())?;
        let peer = socket.peer()?;
        let protocol = failure::catch(|| factory.build_protocol(&peer));
        failure::catch(move || drop(factory))?;
        let Some(protocol) = protocol? else { return Ok(None) };
        let token = core.reserve();
        let registered = core.driver().register_socket(&mut socket, token);
        if let Err(error) = registered {
            core.remove_source(token);
            failure::drop_quietly(protocol);
            return Err(error.into());
        }
        let stream = Stream::new(&core, socket, token, peer, protocol, None);
        stream.share();
        stream.start();
        Ok(Some(stream.name()))
    }
}
