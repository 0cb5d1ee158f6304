//! Where a connection ends: values that stay valid when the connection is gone.
//!
//! Errors, transports and factories name peers by these. Nothing here asks the operating system anything.
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// One end of a connection (Twisted's `IPv4Address`, `IPv6Address` and `UNIXAddress`).
///
/// ```
/// use twistlet::Address;
/// let peer = Address::Tcp("127.0.0.1:80".parse().unwrap());
/// assert_eq!(peer.port(), Some(80));
/// assert!(peer.ip().is_some_and(|ip| ip.is_loopback()));
/// assert_eq!(peer.to_string(), "127.0.0.1:80");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A TCP endpoint.
    Tcp(SocketAddr),
    /// A UDP endpoint.
    Udp(SocketAddr),
    /// A Unix-domain socket; `None` where it has no name, as the connecting side usually has not.
    Unix(Option<PathBuf>),
    /// A pipe, a terminal, or another descriptor that has no address.
    Pipe,
    /// A child process, by its number in the system.
    Process(u32),
    /// What a name answers whose connection is gone.
    Gone,
}

impl Address {
    /// The port of a TCP or UDP endpoint.
    pub fn port(&self) -> Option<u16> {
        self.socket().map(|address| address.port())
    }
    /// The IP address of a TCP or UDP endpoint.
    pub fn ip(&self) -> Option<IpAddr> {
        self.socket().map(|address| address.ip())
    }
    /// The address of a TCP or UDP endpoint as std has it.
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) | Self::Udp(address) => Some(*address),
            _ => None,
        }
    }
    /// The path of a Unix-domain socket that has one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => path.as_deref(),
            _ => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) | Self::Udp(address) => address.fmt(f),
            Self::Unix(Some(path)) => path.display().fmt(f),
            Self::Unix(None) => f.pad("an unnamed Unix socket"),
            Self::Pipe => f.pad("a pipe"),
            Self::Process(id) => write!(f, "process {id}"),
            Self::Gone => f.pad("a connection that is gone"),
        }
    }
}
