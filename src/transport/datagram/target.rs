//! Where a datagram goes, made from what programs have at hand. Literal addresses only: sending looks no names up.
use crate::address::Address;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// Whom a datagram is for: a `SocketAddr`, an [`Address`], an IP address and a port, `"127.0.0.1:53"`, or the path of a UNIX
/// socket.
///
/// ```
/// use twistlet::transport::Target;
/// assert_eq!(Target::from("127.0.0.1:53").to_string(), "127.0.0.1:53");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Target<'a>(pub(super) To<'a>);

#[derive(Clone, Copy, Debug)]
pub(super) enum To<'a> {
    Socket(SocketAddr),
    Path(&'a Path),
    /// No literal address.
    Text(&'a str),
    Nobody,
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            To::Socket(address) => address.fmt(f),
            To::Path(path) => path.display().fmt(f),
            To::Text(text) => f.pad(text),
            To::Nobody => f.pad("a socket without a name"),
        }
    }
}

impl From<SocketAddr> for Target<'_> {
    fn from(address: SocketAddr) -> Self {
        Target(To::Socket(address))
    }
}
impl<I: Into<IpAddr>> From<(I, u16)> for Target<'_> {
    fn from((ip, port): (I, u16)) -> Self {
        Target(To::Socket(SocketAddr::new(ip.into(), port)))
    }
}
impl<'a> From<&'a Address> for Target<'a> {
    fn from(address: &'a Address) -> Self {
        match address {
            Address::Unix(Some(path)) => Target(To::Path(path)),
            address => Target(address.socket().map_or(To::Nobody, To::Socket)),
        }
    }
}
impl<'a> From<&'a Path> for Target<'a> {
    fn from(path: &'a Path) -> Self {
        Target(To::Path(path))
    }
}
impl<'a> From<&'a std::path::PathBuf> for Target<'a> {
    fn from(path: &'a std::path::PathBuf) -> Self {
        Target(To::Path(path))
    }
}
impl<'a> From<&'a str> for Target<'a> {
    fn from(text: &'a str) -> Self {
        Target(text.parse().map_or(To::Text(text), To::Socket))
    }
}
