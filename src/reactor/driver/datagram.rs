//! Datagram sockets of either driver: UDP and UNIX ones of the system, and those of the network in memory. Used through
//! `driver::Datagram` by the datagram ports of `transport`. No call here blocks, and none allocates for a UDP datagram.
use super::{Driver, FileOptions, memory, os, unix};
use crate::address::Address;
use socket2::{SockAddr, SockRef};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

#[derive(Debug)]
pub(crate) enum Datagram {
    Udp(mio::net::UdpSocket),
    /// With the path that is removed when it is closed.
    Unix(mio::net::UnixDatagram, #[allow(dead_code, reason = "it is there to be dropped")] Option<unix::BoundPath>),
    Memory(memory::Datagram),
}

impl Driver {
    /// `shared`: with others that say the same.
    pub(crate) fn bind_udp(&self, at: SocketAddr, shared: bool) -> io::Result<Datagram> {
        match self {
            Driver::Os(_) => os::bind_udp(at, shared),
            Driver::Memory(driver) => driver.bind_udp(at, shared),
        }
    }
    /// Without a path: a socket that has no name.
    pub(crate) fn bind_unix_datagram(&self, path: Option<&Path>, options: FileOptions) -> io::Result<Datagram> {
        match self {
            Driver::Os(_) => unix::bind_datagram(path, options),
            Driver::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
    pub(crate) fn register_datagram(&self, socket: &mut Datagram, token: usize) -> io::Result<()> {
        match (self, socket) {
            (Driver::Os(driver), Datagram::Udp(socket)) => driver.register_readable(socket, token),
            (Driver::Os(driver), Datagram::Unix(socket, _)) => driver.register_readable(socket, token),
            (Driver::Memory(driver), Datagram::Memory(socket)) => driver.register_datagram(socket, token),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
    /// As [`deregister_listener`](Driver::deregister_listener).
    pub(crate) fn deregister_datagram(&self, socket: &mut Datagram) {
        if let Driver::Os(driver) = self {
            let _ = match socket {
                Datagram::Udp(socket) => driver.deregister(socket),
                Datagram::Unix(socket, _) => driver.deregister(socket),
                Datagram::Memory(_) => Ok(()),
            };
        }
    }
}

impl Datagram {
    pub(crate) fn fd(&self) -> Option<RawFd> {
        match self {
            Datagram::Udp(socket) => Some(socket.as_raw_fd()),
            Datagram::Unix(socket, _) => Some(socket.as_raw_fd()),
            Datagram::Memory(_) => None,
        }
    }
    /// The length of the next datagram, or of what of it fits, and its sender.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Address)> {
        match self {
            Datagram::Udp(socket) => socket.recv_from(buffer).map(|(n, from)| (n, Address::Udp(from))),
            Datagram::Unix(socket, _) => socket.recv_from(buffer).map(|(n, from)| (n, unix::address(&from))),
            Datagram::Memory(socket) => socket.receive(buffer).map(|(n, from)| (n, Address::Udp(from))),
        }
    }
    pub(crate) fn send_to(&self, data: &[u8], to: SocketAddr) -> io::Result<usize> {
        match self {
            Datagram::Udp(socket) => socket.send_to(data, to),
            Datagram::Unix(..) => Err(io::ErrorKind::InvalidInput.into()),
            Datagram::Memory(socket) => socket.send_to(data, to),
        }
    }
    pub(crate) fn send_to_path(&self, data: &[u8], to: &Path) -> io::Result<usize> {
        match self {
            Datagram::Unix(socket, _) => SockRef::from(socket).send_to(data, &SockAddr::unix(to)?),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    /// To the peer it is connected with.
    pub(crate) fn send(&self, data: &[u8]) -> io::Result<usize> {
        match self {
            Datagram::Udp(socket) => socket.send(data),
            Datagram::Unix(socket, _) => socket.send(data),
            Datagram::Memory(socket) => socket.send(data),
        }
    }
    pub(crate) fn connect(&self, to: SocketAddr) -> io::Result<()> {
        match self {
            Datagram::Udp(socket) => socket.connect(to),
            Datagram::Unix(..) => Err(io::ErrorKind::InvalidInput.into()),
            Datagram::Memory(socket) => socket.connect(to),
        }
    }
    pub(crate) fn connect_path(&self, to: &Path) -> io::Result<()> {
        match self {
            Datagram::Unix(socket, _) => SockRef::from(socket).connect(&SockAddr::unix(to)?),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    pub(crate) fn address(&self) -> io::Result<Address> {
        match self {
            Datagram::Udp(socket) => socket.local_addr().map(Address::Udp),
            Datagram::Unix(socket, _) => socket.local_addr().map(|address| unix::address(&address)),
            Datagram::Memory(socket) => socket.address().map(Address::Udp),
        }
    }
    /// Whom it is connected with.
    pub(crate) fn peer(&self) -> Option<Address> {
        match self {
            Datagram::Udp(socket) => socket.peer_addr().ok().map(Address::Udp),
            Datagram::Unix(socket, _) => socket.peer_addr().ok().map(|address| unix::address(&address)),
            Datagram::Memory(_) => None,
        }
    }
    /// Options of the system's sockets; simulated ones have none.
    pub(crate) fn options<R>(&self, call: impl FnOnce(SockRef<'_>) -> io::Result<R>) -> io::Result<R> {
        match self {
            Datagram::Udp(socket) => call(SockRef::from(socket)),
            Datagram::Unix(socket, _) => call(SockRef::from(socket)),
            Datagram::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
    /// Receives from a multicast group, or no longer. Simulated networks have one interface.
    pub(crate) fn member(&self, group: IpAddr, on: bool, interface: Interface) -> io::Result<()> {
        if let Datagram::Memory(socket) = self {
            return socket.member(group, on);
        }
        self.options(|socket| {
            own_groups_only(&socket, group);
            match (group, interface) {
                (IpAddr::V4(group), Interface::Index(index)) => {
                    let interface = socket2::InterfaceIndexOrAddress::Index(index);
                    match on {
                        true => socket.join_multicast_v4_n(&group, &interface),
                        false => socket.leave_multicast_v4_n(&group, &interface),
                    }
                }
                (IpAddr::V4(group), Interface::Address(interface)) => match on {
                    true => socket.join_multicast_v4(&group, &interface),
                    false => socket.leave_multicast_v4(&group, &interface),
                },
                (IpAddr::V6(group), Interface::Index(index)) => match on {
                    true => socket.join_multicast_v6(&group, index),
                    false => socket.leave_multicast_v6(&group, index),
                },
                (IpAddr::V6(_), Interface::Address(_)) => Err(io::ErrorKind::InvalidInput.into()),
            }
        })
    }
}

/// On Linux a socket bound to every interface receives what is sent to the groups of all others, until told otherwise; so one
/// that has left would go on receiving. Where this is refused, that is how it is.
fn own_groups_only(socket: &SockRef<'_>, group: IpAddr) {
    #[cfg(target_os = "linux")]
    let _ = match group {
        IpAddr::V4(_) => socket.set_multicast_all_v4(false),
        IpAddr::V6(_) => socket.set_multicast_all_v6(false),
    };
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, group);
}

/// Which of the machine's interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interface {
    /// Its number; 0 is the system's choice.
    Index(u32),
    Address(std::net::Ipv4Addr),
}
