//! Addresses of sockets: std's trait of the same name, whose look-ups do not hold the loop. Literal addresses are taken as they
//! are; names go to `getaddrinfo` on the reactor's thread pool while the green thread waits.
use super::place;
use crate::green::block_on;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::{iter, option, slice, vec};

/// What can be turned into socket addresses, as [`std::net::ToSocketAddrs`] for the same types. Names are looked up on the
/// reactor's thread pool.
///
/// ```
/// use twistlet::green::net::ToSocketAddrs;
///
/// let mut found = "127.0.0.1:80".to_socket_addrs()?;
/// assert_eq!(found.next(), Some(([127, 0, 0, 1], 80).into()));
/// # std::io::Result::Ok(())
/// ```
pub trait ToSocketAddrs {
    /// Goes through the addresses, in the system's order.
    type Iter: Iterator<Item = SocketAddr>;
    /// The addresses.
    ///
    /// # Errors
    /// `InvalidInput` for text that is no `host:port`; `NotFound`, holding
    /// [`ConnectError::UnknownHost`](crate::ConnectError::UnknownHost), for a name without an address.
    ///
    /// # Panics
    /// In the main loop and its callbacks, for a name; never for literal addresses.
    ///
    /// # Blocking
    /// While a name is looked up.
    fn to_socket_addrs(&self) -> io::Result<Self::Iter>;
}

/// Types whose addresses std can tell without a look-up.
macro_rules! literal {
    ($($type:ty),*) => { $(
        impl ToSocketAddrs for $type {
            type Iter = option::IntoIter<SocketAddr>;
            fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
                std::net::ToSocketAddrs::to_socket_addrs(self)
            }
        }
    )* };
}
literal! { SocketAddr, SocketAddrV4, SocketAddrV6, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16) }

impl ToSocketAddrs for (&str, u16) {
    type Iter = vec::IntoIter<SocketAddr>;
    #[track_caller]
    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        look_up(self.0, self.1)
    }
}
impl ToSocketAddrs for (String, u16) {
    type Iter = vec::IntoIter<SocketAddr>;
    #[track_caller]
    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        look_up(&self.0, self.1)
    }
}
impl ToSocketAddrs for str {
    type Iter = vec::IntoIter<SocketAddr>;
    #[track_caller]
    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        if let Ok(address) = self.parse() {
            return Ok(vec![address].into_iter());
        }
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
        let (host, port) = self.rsplit_once(':').ok_or_else(|| invalid("invalid socket address"))?;
        look_up(host, port.parse().map_err(|_| invalid("invalid port value"))?)
    }
}
impl ToSocketAddrs for String {
    type Iter = vec::IntoIter<SocketAddr>;
    #[track_caller]
    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        (**self).to_socket_addrs()
    }
}
impl<'a> ToSocketAddrs for &'a [SocketAddr] {
    type Iter = iter::Cloned<slice::Iter<'a, SocketAddr>>;
    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        Ok(self.iter().cloned())
    }
}
impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {
    type Iter = T::Iter;
    #[track_caller]
    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        (**self).to_socket_addrs()
    }
}

#[track_caller]
fn look_up(host: &str, port: u16) -> io::Result<vec::IntoIter<SocketAddr>> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![SocketAddr::new(ip, port)].into_iter());
    }
    let found = block_on(place::reactor()?.resolve(host))?;
    Ok(found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect::<Vec<_>>().into_iter())
}

/// Tries them in order, until one succeeds; otherwise the last one's error.
pub(in crate::green) fn each<T>(
    addresses: impl ToSocketAddrs,
    mut attempt: impl FnMut(&SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = None;
    for address in addresses.to_socket_addrs()? {
        match attempt(&address) {
            Ok(value) => return Ok(value),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "could not resolve to any addresses")))
}
