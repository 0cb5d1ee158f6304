//! Multicast, broadcast and the other options of a datagram port (Twisted's `IMulticastTransport` and `setBroadcastAllowed`).
use super::{DatagramError, DatagramPort};
use crate::reactor::driver;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

/// One of the machine's network interfaces: `Interface::default()` is the system's choice, `2.into()` the second, and on IPv4
/// `Ipv4Addr::LOCALHOST.into()` the one with that address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Interface(Which);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
enum Which {
    #[default]
    Default,
    Index(u32),
    Address(Ipv4Addr),
}
impl From<u32> for Interface {
    /// By number, as `if_nametoindex` gives it.
    fn from(index: u32) -> Self {
        Interface(if index == 0 { Which::Default } else { Which::Index(index) })
    }
}
impl From<Ipv4Addr> for Interface {
    fn from(address: Ipv4Addr) -> Self {
        Interface(if address.is_unspecified() { Which::Default } else { Which::Address(address) })
    }
}
impl Interface {
    fn for_driver(self) -> driver::Interface {
        match self.0 {
            Which::Default => driver::Interface::Index(0),
            Which::Index(index) => driver::Interface::Index(index),
            Which::Address(address) => driver::Interface::Address(address),
        }
    }
}

type Result<T = ()> = std::result::Result<T, DatagramError>;

/// Options with an IPv4 and an IPv6 half.
macro_rules! options { ($($(#[doc = $doc:literal])+ $set:ident($value:ty) $get:ident: $set4:ident $get4:ident, $set6:ident $get6:ident;)+) => { $(
    $(#[doc = $doc])+
    ///
    /// # Errors
    /// The system's; [`DatagramError::Gone`].
    pub fn $set(self, value: $value) -> Result {
        self.option(|socket, v6| if v6 { socket.$set6(value) } else { socket.$set4(value) })
    }
    #[doc = concat!("What [`", stringify!($set), "`](DatagramPort::", stringify!($set), ") said.")]
    ///
    /// # Errors
    /// The system's; [`DatagramError::Gone`].
    pub fn $get(self) -> Result<$value> {
        self.option(|socket, v6| if v6 { socket.$get6() } else { socket.$get4() })
    }
)+ } }

/// Multicast and other options. They are those of the port's own family, IPv4 or IPv6.
impl DatagramPort {
    fn option<R>(self, call: impl FnOnce(&socket2::Socket, bool) -> io::Result<R>) -> Result<R> {
        let port = self.open()?;
        let v6 = port.address().ip().is_some_and(|ip| ip.is_ipv6());
        port.with_socket(|socket| socket.options(|socket| call(&socket, v6)))?.map_err(|e| DatagramError::option(&e))
    }
    /// Receives what is sent to a multicast group, on the system's choice of interface (Twisted's `joinGroup`). Bind to the
    /// unspecified address and the group's port.
    ///
    /// # Errors
    /// [`DatagramError::Multicast`]: no such group, no route for multicast, joined already.
    pub fn join_group(self, group: impl Into<IpAddr>) -> Result {
        self.join_group_on(group, Interface::default())
    }
    /// As [`join_group`](DatagramPort::join_group), on a certain interface.
    ///
    /// # Errors
    /// As `join_group`; [`DatagramError::Unsupported`] for an IPv6 group on an interface by address.
    pub fn join_group_on(self, group: impl Into<IpAddr>, interface: impl Into<Interface>) -> Result {
        self.member(group.into(), true, interface.into())
    }
    /// Ends [`join_group`](DatagramPort::join_group) (Twisted's `leaveGroup`).
    ///
    /// # Errors
    /// As `join_group`.
    pub fn leave_group(self, group: impl Into<IpAddr>) -> Result {
        self.leave_group_on(group, Interface::default())
    }
    /// Ends [`join_group_on`](DatagramPort::join_group_on).
    ///
    /// # Errors
    /// As `join_group_on`.
    pub fn leave_group_on(self, group: impl Into<IpAddr>, interface: impl Into<Interface>) -> Result {
        self.member(group.into(), false, interface.into())
    }
    fn member(self, group: IpAddr, on: bool, interface: Interface) -> Result {
        let changed = self.open()?.with_socket(|socket| socket.member(group, on, interface.for_driver()))?;
        changed.map_err(|error| match error.raw_os_error() {
            Some(code) => DatagramError::Multicast { group: group.to_string(), code },
            None => DatagramError::Unsupported,
        })
    }
    options! {
        /// How many routers a multicast datagram may pass, plus one. Default 1: it stays in the local network.
        set_multicast_ttl(u32) multicast_ttl:
            set_multicast_ttl_v4 multicast_ttl_v4, set_multicast_hops_v6 multicast_hops_v6;
        /// Whether what this port sends to a group comes back to members on this machine (Twisted's `setLoopbackMode`). Default: it does.
        set_multicast_loopback(bool) multicast_loopback:
            set_multicast_loop_v4 multicast_loop_v4, set_multicast_loop_v6 multicast_loop_v6;
        /// How many routers a datagram to one receiver may pass, plus one.
        set_ttl(u32) ttl: set_ttl_v4 ttl_v4, set_unicast_hops_v6 unicast_hops_v6;
    }
    /// The interface that multicast datagrams leave by (Twisted's `setOutgoingInterface`).
    ///
    /// # Errors
    /// The system's; [`DatagramError::Unsupported`] for an interface by number on IPv4, by address on IPv6.
    pub fn set_multicast_interface(self, interface: impl Into<Interface>) -> Result {
        let interface = interface.into().0;
        self.option(|socket, v6| match (v6, interface) {
            (true, Which::Default) => socket.set_multicast_if_v6(0),
            (true, Which::Index(index)) => socket.set_multicast_if_v6(index),
            (false, Which::Default) => socket.set_multicast_if_v4(&Ipv4Addr::UNSPECIFIED),
            (false, Which::Address(address)) => socket.set_multicast_if_v4(&address),
            (true, Which::Address(_)) | (false, Which::Index(_)) => Err(io::ErrorKind::Unsupported.into()),
        })
    }
    /// Whether it may send to broadcast addresses (Twisted's `setBroadcastAllowed`). Default: it may not.
    ///
    /// # Errors
    /// The system's; [`DatagramError::Gone`].
    pub fn set_broadcast(self, on: bool) -> Result {
        self.option(|socket, _| socket.set_broadcast(on))
    }
    /// What [`set_broadcast`](DatagramPort::set_broadcast) said.
    ///
    /// # Errors
    /// The system's; [`DatagramError::Gone`].
    pub fn broadcast(self) -> Result<bool> {
        self.option(|socket, _| socket.broadcast())
    }
}
