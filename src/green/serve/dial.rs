//! Sockets to serve on and to be served by, with the options servers and clients ask for.
use crate::green::net::{TcpListener, TcpStream, ToSocketAddrs, each, now};
use crate::green::os::unix::net::UnixListener;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Connects to the first address that answers (Eventlet's `connect`); [`Connect`] has options.
///
/// # Errors
/// As [`TcpStream::connect`].
///
/// # Panics
/// In the main loop and its callbacks, when it has to wait.
///
/// # Blocking
/// Until connected.
#[track_caller]
pub fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<TcpStream> {
    TcpStream::connect(addr)
}
/// Listens on the first address that can be had (Eventlet's `listen`); [`Listen`] has options.
///
/// # Errors
/// As [`TcpListener::bind`].
///
/// # Blocking
/// While a name is looked up.
#[track_caller]
pub fn listen<A: ToSocketAddrs>(addr: A) -> io::Result<TcpListener> {
    Listen::new().bind(addr)
}

/// How to connect: where from, and how long at most.
///
/// ```
/// use std::time::Duration;
/// use twistlet::green::serve::{Connect, listen};
///
/// let listener = listen("127.0.0.1:0")?;
/// let stream = Connect::new()
///     .bind(([127, 0, 0, 1], 0).into())
///     .timeout(Duration::from_secs(5))
///     .connect(listener.local_addr()?)?;
/// assert!(stream.peer_addr()?.ip().is_loopback());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Connect {
    bind: Option<SocketAddr>,
    timeout: Option<Duration>,
}
impl Connect {
    /// From wherever the system chooses, for as long as it takes.
    pub fn new() -> Self {
        Connect::default()
    }
    /// From this local address; port 0 lets the system choose one. Addresses of the other family are then passed over.
    pub fn bind(mut self, local: SocketAddr) -> Self {
        self.bind = Some(local);
        self
    }
    /// No longer than this for all addresses together, the look-up of the name not counted.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }
    /// Connects to the first address that answers.
    ///
    /// # Errors
    /// As [`TcpStream::connect`]; `TimedOut` (holding [`TimedOut`](crate::TimedOut)) when the time is over; `AddrInUse` and the
    /// like of the local address; `InvalidInput` when no address is of the local address's family.
    ///
    /// # Panics
    /// In the main loop and its callbacks, when it has to wait.
    ///
    /// # Blocking
    /// Until connected, no longer than the timeout.
    #[track_caller]
    pub fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<TcpStream> {
        let addresses = addr.to_socket_addrs()?;
        let fitting: Vec<SocketAddr> =
            addresses.filter(|to| self.bind.is_none_or(|from| from.is_ipv4() == to.is_ipv4())).collect();
        let since = now()?;
        each(&fitting[..], |to| {
            let begun = self.begin(to)?;
            let left = match self.timeout {
                Some(limit) => Some(limit.saturating_sub(now()?.saturating_duration_since(since))),
                None => None,
            };
            TcpStream::finish(begun, left)
        })
    }
    fn begin(&self, to: &SocketAddr) -> io::Result<mio::net::TcpStream> {
        let Some(from) = self.bind else { return mio::net::TcpStream::connect(*to) };
        let (domain, kind) = (socket2::Domain::for_address(*to), socket2::Type::STREAM);
        let socket = socket2::Socket::new(domain, kind, Some(socket2::Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.bind(&from.into())?;
        match socket.connect(&(*to).into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(mio::net::TcpStream::from_std(socket.into())),
        }
    }
}

/// How to listen: backlog and sharing of the port.
///
/// ```
/// use twistlet::green::serve::Listen;
///
/// let first = Listen::new().reuse_port(true).bind("127.0.0.1:0")?;
/// let second = Listen::new().reuse_port(true).backlog(16).bind(first.local_addr()?)?;
/// assert_eq!(first.local_addr()?, second.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Listen {
    backlog: u32,
    reuse_addr: bool,
    reuse_port: bool,
    only_v6: Option<bool>,
}
impl Default for Listen {
    fn default() -> Self {
        Listen::new()
    }
}
impl Listen {
    /// A backlog of 1024, an address that may be in TIME_WAIT, a port of its own.
    pub fn new() -> Self {
        Listen { backlog: 1024, reuse_addr: true, reuse_port: false, only_v6: None }
    }
    /// How many connections may wait to be accepted. Default 1024; the system has a limit of its own.
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections;
        self
    }
    /// Whether connections of a predecessor that linger (TIME_WAIT) do not hold it off (SO_REUSEADDR). On by default.
    pub fn reuse_addr(mut self, on: bool) -> Self {
        self.reuse_addr = on;
        self
    }
    /// Whether several sockets may listen on the port, among which the system shares out connections (SO_REUSEPORT). Off by
    /// default: a second server by mistake would take half of them.
    pub fn reuse_port(mut self, on: bool) -> Self {
        self.reuse_port = on;
        self
    }
    /// Whether an IPv6 socket takes IPv6 connections only (IPV6_V6ONLY). Default: as the system is set.
    pub fn only_v6(mut self, on: bool) -> Self {
        self.only_v6 = Some(on);
        self
    }
    /// Listens on the first address that can be had.
    ///
    /// # Errors
    /// As [`TcpListener::bind`].
    ///
    /// # Blocking
    /// While a name is looked up.
    #[track_caller]
    pub fn bind<A: ToSocketAddrs>(&self, addr: A) -> io::Result<TcpListener> {
        each(addr, |at| {
            let (domain, kind) = (socket2::Domain::for_address(*at), socket2::Type::STREAM);
            let socket = socket2::Socket::new(domain, kind, Some(socket2::Protocol::TCP))?;
            socket.set_reuse_address(self.reuse_addr)?;
            if self.reuse_port {
                socket.set_reuse_port(true)?;
            }
            if let (Some(on), true) = (self.only_v6, at.is_ipv6()) {
                socket.set_only_v6(on)?;
            }
            socket.bind(&(*at).into())?;
            socket.listen(self.system_backlog())?;
            TcpListener::of(socket.into())
        })
    }
    /// Listens on a new socket file at `path`.
    ///
    /// # Errors
    /// As [`UnixListener::bind`].
    pub fn bind_unix<P: AsRef<Path>>(&self, path: P) -> io::Result<UnixListener> {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
        socket.bind(&socket2::SockAddr::unix(path)?)?;
        socket.listen(self.system_backlog())?;
        UnixListener::of(socket.into())
    }
    fn system_backlog(&self) -> i32 {
        i32::try_from(self.backlog).unwrap_or(i32::MAX)
    }
}
