//! Where a connection ends: values that stay valid when the connection is gone.
//!
//! Errors, transports and factories name peers by these. Nothing here asks the operating system anything.
use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
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
    /// A Unix-domain socket; `None` where it has no name, as the connecting side usually has not. The names of Linux that are no
    /// files ("abstract") begin with a NUL byte here: see [`abstract_unix`](Address::abstract_unix). Two paths of one file are
    /// two addresses.
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
    /// The path of a Unix-domain socket that has one, that is a file.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Unix(Some(path)) if abstract_name(path).is_none() => Some(path),
            _ => None,
        }
    }
    /// A name of Linux' that is no file: nothing to be removed, and nobody's permissions. Shown as `@name`.
    ///
    /// ```
    /// # use twistlet::Address;
    /// let address = Address::abstract_unix("my-service");
    /// assert_eq!(address.abstract_name(), Some(&b"my-service"[..]));
    /// assert_eq!((address.path(), &*address.to_string()), (None, "@my-service"));
    /// ```
    pub fn abstract_unix(name: impl AsRef<[u8]>) -> Address {
        let mut path = vec![0];
        path.extend_from_slice(name.as_ref());
        Address::Unix(Some(OsString::from_vec(path).into()))
    }
    /// The name of a Unix-domain socket that is no file.
    pub fn abstract_name(&self) -> Option<&[u8]> {
        match self {
            Self::Unix(Some(path)) => abstract_name(path),
            _ => None,
        }
    }
}

fn abstract_name(path: &Path) -> Option<&[u8]> {
    path.as_os_str().as_bytes().strip_prefix(&[0])
}
/// A path, or `@name`.
pub(crate) fn write_path(path: &Path, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match abstract_name(path) {
        Some(name) => write!(f, "@{}", name.escape_ascii()),
        None => fmt::Display::fmt(&path.display(), f),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) | Self::Udp(address) => address.fmt(f),
            Self::Unix(Some(path)) => write_path(path, f),
            Self::Unix(None) => f.pad("an unnamed Unix socket"),
            Self::Pipe => f.pad("a pipe"),
            Self::Process(id) => write!(f, "process {id}"),
            Self::Gone => f.pad("a connection that is gone"),
        }
    }
}
