//! Where to connect and where to listen, as values made from what programs have at hand: text, a host and a port, a socket
//! address, a listening socket. Text that is no address is kept as it is and refused when it is used.
use super::{Address, UnixPath};
use crate::reactor::driver::{FileOptions, unix};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// How long an attempt may take, names looked up included, unless told otherwise: Twisted's.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Of a datagram more is lost, unless told otherwise: Twisted's.
pub(super) const MAX_PACKET: usize = 8192;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Where to connect and how: `"host:port"`, `("host", port)`, a `SocketAddr`. Text that is no address fails when used, with
/// [`ConnectError::InvalidAddress`](crate::ConnectError::InvalidAddress).
///
/// ```
/// use std::time::Duration;
/// use twistlet::transport::Destination;
///
/// let to = Destination::from("localhost:8007").timeout(Duration::from_secs(5));
/// assert_eq!(to.to_string(), "localhost:8007");
/// ```
#[derive(Clone, Debug)]
pub struct Destination {
    host: Host,
    timeout: Option<Duration>,
    bind: Option<SocketAddr>,
    /// Of a path: only if somebody holds its lock.
    locked: bool,
}

/// What a destination names.
#[derive(Clone, Debug)]
pub(crate) enum Host {
    Socket(SocketAddr),
    Name(String, u16),
    Unix(std::path::PathBuf),
    /// Not an address.
    Text(String),
}

impl Destination {
    /// Gives up after `limit`, which includes looking the name up. Default: 30 seconds.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }
    /// Waits as long as the system does.
    pub fn without_timeout(mut self) -> Self {
        self.timeout = None;
        self
    }
    /// Connects from this local address.
    pub fn bind(mut self, local: SocketAddr) -> Self {
        self.bind = Some(local);
        self
    }
    fn new(host: Host) -> Self {
        Destination { host, timeout: Some(CONNECT_TIMEOUT), bind: None, locked: false }
    }
    pub(crate) fn unix(at: UnixPath) -> Self {
        let mut destination = Destination::new(Host::Unix(at.path));
        destination.locked = at.lock;
        if let Some(timeout) = at.timeout {
            destination.timeout = Some(timeout);
        }
        destination
    }
    pub(super) fn must_be_locked(&self) -> bool {
        self.locked
    }
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }
    pub(crate) fn limit(&self) -> Option<Duration> {
        self.timeout
    }
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.bind
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Socket(address) => address.fmt(f),
            Host::Name(host, port) => write!(f, "{host}:{port}"),
            Host::Unix(path) => crate::address::write_path(path, f),
            Host::Text(text) => text.fmt(f),
        }
    }
}

/// `host:port`, `[v6]:port`, `1.2.3.4:port`.
fn parse(text: &str) -> Host {
    if let Ok(address) = text.parse() {
        return Host::Socket(address);
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && !host.contains([':', ' ', '/']) => match port.parse() {
            Ok(port) => Host::Name(host.to_owned(), port),
            Err(_) => Host::Text(text.to_owned()),
        },
        _ => Host::Text(text.to_owned()),
    }
}
fn host_and_port(host: &str, port: u16) -> Host {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(ip) => Host::Socket(SocketAddr::new(ip, port)),
        Err(_) if host.is_empty() => Host::Text(format!(":{port}")),
        Err(_) => Host::Name(host.to_owned(), port),
    }
}

impl From<&str> for Destination {
    fn from(text: &str) -> Self {
        Destination::new(parse(text))
    }
}
impl From<String> for Destination {
    fn from(text: String) -> Self {
        Destination::new(parse(&text))
    }
}
impl From<&String> for Destination {
    fn from(text: &String) -> Self {
        Destination::new(parse(text))
    }
}
impl From<(&str, u16)> for Destination {
    fn from((host, port): (&str, u16)) -> Self {
        Destination::new(host_and_port(host, port))
    }
}
impl From<(String, u16)> for Destination {
    fn from((host, port): (String, u16)) -> Self {
        Destination::new(host_and_port(&host, port))
    }
}
impl From<SocketAddr> for Destination {
    fn from(address: SocketAddr) -> Self {
        Destination::new(Host::Socket(address))
    }
}
impl From<&Address> for Destination {
    fn from(address: &Address) -> Self {
        match address {
            Address::Unix(Some(path)) => Destination::new(Host::Unix(path.clone())),
            address => match address.socket() {
                Some(socket) => Destination::from(socket),
                None => Destination::new(Host::Text(address.to_string())),
            },
        }
    }
}

/// Where to listen: `8007` (every IPv4 interface), `"127.0.0.1:0"`, a `SocketAddr`; or a socket to adopt, as std has
/// them or as an `OwnedFd`, which is the reactor's from then on. Port 0 is any free one: ask the
/// [`ListeningPort`](super::ListeningPort).
#[derive(Debug)]
pub struct ListenAt {
    pub(super) place: Place,
    pub(super) backlog: u32,
    pub(super) reuse_port: bool,
    pub(super) max_packet: usize,
    pub(super) file: FileOptions,
    /// Said by a port number alone: every interface.
    #[cfg_attr(not(feature = "green"), allow(dead_code, reason = "for backdoors, which are green"))]
    pub(super) bare_port: bool,
}

#[derive(Debug)]
pub(super) enum Place {
    Socket(SocketAddr),
    /// A socket of the caller's: listening, or for datagrams.
    Adopted(OwnedFd),
    Unix(std::path::PathBuf),
    /// Not an address.
    Text(String),
}

impl ListenAt {
    fn new(place: Place) -> Self {
        ListenAt {
            place,
            backlog: BACKLOG,
            reuse_port: false,
            max_packet: MAX_PACKET,
            file: FileOptions::default(),
            bare_port: false,
        }
    }
    pub(super) fn unix(at: UnixPath) -> Self {
        let backlog = at.backlog.unwrap_or(BACKLOG);
        let file = FileOptions { mode: at.mode, lock: at.lock };
        ListenAt {
            backlog,
            file,
            max_packet: at.max_packet.unwrap_or(MAX_PACKET),
            ..ListenAt::new(Place::Unix(at.path))
        }
    }
    /// A path of the file system to which this user alone can connect.
    #[cfg(feature = "green")]
    pub(crate) fn private_unix(path: &std::path::Path) -> Self {
        ListenAt::unix(UnixPath::from(path).mode(0o600))
    }
    /// Of a port number alone, that port of the loopback interface.
    #[cfg(feature = "green")]
    pub(crate) fn at_home(mut self) -> Self {
        if let Place::Socket(address) = &mut self.place
            && self.bare_port
        {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        self
    }
    /// Whether this machine alone can reach it.
    #[cfg(feature = "green")]
    pub(crate) fn is_local(&self) -> bool {
        match &self.place {
            Place::Socket(address) => address.ip().is_loopback(),
            Place::Adopted(socket) => match unix::describe(socket) {
                Some(Address::Unix(_)) => true,
                address => address.and_then(|address| address.ip()).is_some_and(|ip| ip.is_loopback()),
            },
            Place::Unix(_) => true,
            // That it is no address will be the error.
            Place::Text(_) => true,
        }
    }
    /// The same place once more; `None` for an adopted socket, of which there is one.
    pub(crate) fn again(&self) -> Option<Self> {
        let place = match &self.place {
            Place::Socket(address) => Place::Socket(*address),
            Place::Unix(path) => Place::Unix(path.clone()),
            Place::Text(text) => Place::Text(text.clone()),
            Place::Adopted(_) => return None,
        };
        Some(ListenAt { place, ..*self })
    }
    /// How many connections may wait to be accepted. Default 1,024; the system has a limit of its own.
    pub fn backlog(mut self, n: u32) -> Self {
        self.backlog = n;
        self
    }
    /// Shares the port with other sockets that say the same (SO_REUSEPORT): one reactor a core. Of UDP sockets that share a port
    /// one receives each datagram, and all receive what is sent to their multicast groups (Twisted's `listenMultiple`).
    pub fn reuse_port(mut self) -> Self {
        self.reuse_port = true;
        self
    }
    /// UDP: the most that is received of one datagram; the rest of a longer one is lost. Default 8,192 bytes.
    pub fn max_packet(mut self, bytes: usize) -> Self {
        self.max_packet = bytes.max(1);
        self
    }
}
impl fmt::Display for ListenAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Socket(address) => address.fmt(f),
            Place::Adopted(socket) => match unix::describe(socket) {
                Some(address) => address.fmt(f),
                None => f.write_str("an adopted descriptor"),
            },
            Place::Unix(path) => crate::address::write_path(path, f),
            Place::Text(text) => text.fmt(f),
        }
    }
}

/// Literal addresses only: listening looks no names up, but for the one that every machine has.
fn place(host: Host) -> Place {
    match host {
        Host::Socket(address) => Place::Socket(address),
        Host::Name(host, port) if host == "localhost" => Place::Socket((Ipv4Addr::LOCALHOST, port).into()),
        Host::Name(host, port) => Place::Text(format!("{host}:{port}")),
        Host::Unix(path) => Place::Unix(path),
        Host::Text(text) => match text.strip_prefix(':').and_then(|port| port.parse::<u16>().ok()) {
            Some(port) => Place::Socket((Ipv4Addr::UNSPECIFIED, port).into()),
            None => Place::Text(text),
        },
    }
}

impl From<u16> for ListenAt {
    fn from(port: u16) -> Self {
        ListenAt { bare_port: true, ..ListenAt::new(Place::Socket((Ipv4Addr::UNSPECIFIED, port).into())) }
    }
}
impl From<&str> for ListenAt {
    fn from(text: &str) -> Self {
        ListenAt::new(place(parse(text)))
    }
}
impl From<String> for ListenAt {
    fn from(text: String) -> Self {
        ListenAt::from(&*text)
    }
}
impl From<&String> for ListenAt {
    fn from(text: &String) -> Self {
        ListenAt::from(&**text)
    }
}
impl From<(&str, u16)> for ListenAt {
    fn from((host, port): (&str, u16)) -> Self {
        ListenAt::new(place(host_and_port(host, port)))
    }
}
impl From<SocketAddr> for ListenAt {
    fn from(address: SocketAddr) -> Self {
        ListenAt::new(Place::Socket(address))
    }
}
/// Sockets of the caller's (Twisted's `adoptStreamPort`, `adoptDatagramPort`). When listening ends they are closed, and nothing
/// else: the file of a UNIX socket stays.
macro_rules! adopted { ($($socket:ty)+) => { $(
    impl From<$socket> for ListenAt {
        fn from(socket: $socket) -> Self {
            ListenAt::new(Place::Adopted(socket.into()))
        }
    }
)+ } }
adopted! { TcpListener UdpSocket std::os::unix::net::UnixListener std::os::unix::net::UnixDatagram OwnedFd }
