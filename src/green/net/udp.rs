//! `UdpSocket`: datagrams as std has them, whose waiting is the green thread's.
use super::addresses::{ToSocketAddrs, each};
use super::face::face;
use super::place::Direction::{Read, Write};
use super::socket::Socket;
use crate::error::ConnectionClosed;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// A UDP socket: [`std::net::UdpSocket`], but a call that has to wait parks the green thread and not the loop.
///
/// One green thread may receive and one may send at the same time. Clones are the same socket.
///
/// ```
/// use twistlet::green::net::UdpSocket;
/// use twistlet::green::spawn;
///
/// let server = UdpSocket::bind("127.0.0.1:0")?;
/// let address = server.local_addr()?;
/// spawn(move || {
///     let mut datagram = [0; 1500];
///     let (n, peer) = server.recv_from(&mut datagram)?;
///     Ok(server.send_to(&datagram[..n], peer).map(drop)?)
/// });
/// let client = UdpSocket::bind("127.0.0.1:0")?;
/// client.connect(address)?;
/// client.send(b"ping")?;
/// let mut answer = [0; 16];
/// let n = client.recv(&mut answer)?;
/// assert_eq!(&answer[..n], b"ping");
/// # Ok::<(), twistlet::Failure>(())
/// ```
///
/// # Errors
/// Of the calls that wait: as [`TcpStream`](super::TcpStream); `NotConnected` once [closed](UdpSocket::close).
///
/// # Panics
/// A call that has to wait panics in the main loop and its callbacks. One that need not is fine there.
pub struct UdpSocket(Arc<Socket<std::net::UdpSocket>>);

const INPUT: &str = "a datagram on a UdpSocket";
const ROOM: &str = "room to send on a UdpSocket";

impl UdpSocket {
    /// Binds to the first address that can be had.
    ///
    /// # Errors
    /// `AddrInUse`, `AddrNotAvailable`, ...; those of [`ToSocketAddrs`].
    ///
    /// # Blocking
    /// While a name is looked up.
    #[track_caller]
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<UdpSocket> {
        let addresses: Vec<SocketAddr> = addr.to_socket_addrs()?.collect();
        let socket = std::net::UdpSocket::bind(&addresses[..])?;
        socket.set_nonblocking(true)?;
        Ok(UdpSocket(Arc::new(Socket::new(socket))))
    }
    #[track_caller]
    fn receive<T>(&self, mut attempt: impl FnMut(&std::net::UdpSocket) -> io::Result<T>) -> io::Result<T> {
        self.0.run(Read, INPUT, |socket| self.open().and_then(|()| attempt(socket)), |_| false)
    }
    #[track_caller]
    fn transmit<T>(&self, mut attempt: impl FnMut(&std::net::UdpSocket) -> io::Result<T>) -> io::Result<T> {
        self.0.run(Write, ROOM, |socket| self.open().and_then(|()| attempt(socket)), |_| false)
    }
    fn open(&self) -> io::Result<()> {
        if self.0.is_closed() {
            return Err(io::Error::new(io::ErrorKind::NotConnected, ConnectionClosed::Aborted));
        }
        Ok(())
    }

    /// One datagram, and who sent it. What does not fit into `buf` is lost.
    ///
    /// # Errors
    /// The system's; see the type.
    ///
    /// # Blocking
    /// Until one has arrived.
    #[track_caller]
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.receive(|socket| socket.recv_from(buf))
    }
    /// As [`recv_from`](UdpSocket::recv_from), without taking it.
    ///
    /// # Errors
    /// The system's; see the type.
    ///
    /// # Blocking
    /// Until one has arrived.
    #[track_caller]
    pub fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.receive(|socket| socket.peek_from(buf))
    }
    /// Sends one datagram to the first of the addresses.
    ///
    /// # Errors
    /// `InvalidInput` without an address; the system's; those of [`ToSocketAddrs`].
    ///
    /// # Blocking
    /// While a name is looked up, and while the system has no room for it.
    #[track_caller]
    pub fn send_to<A: ToSocketAddrs>(&self, buf: &[u8], addr: A) -> io::Result<usize> {
        let Some(address) = addr.to_socket_addrs()?.next() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no addresses to send data to"));
        };
        self.transmit(|socket| socket.send_to(buf, address))
    }
    /// Makes this the peer: only its datagrams are received, and [`send`](UdpSocket::send) goes there.
    ///
    /// # Errors
    /// The last address's; those of [`ToSocketAddrs`].
    ///
    /// # Blocking
    /// While a name is looked up.
    #[track_caller]
    pub fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<()> {
        each(addr, |address| self.0.inner.connect(address))
    }
    /// Sends one datagram to the peer.
    ///
    /// # Errors
    /// `ConnectionRefused` when an earlier one found nobody; the system's; see the type.
    ///
    /// # Blocking
    /// While the system has no room for it.
    #[track_caller]
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.transmit(|socket| socket.send(buf))
    }
    /// One datagram of the peer's. What does not fit into `buf` is lost.
    ///
    /// # Errors
    /// `ConnectionRefused` when one that was sent found nobody; the system's; see the type.
    ///
    /// # Blocking
    /// Until one has arrived.
    #[track_caller]
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.receive(|socket| socket.recv(buf))
    }
    /// As [`recv`](UdpSocket::recv), without taking it.
    ///
    /// # Errors
    /// As `recv`.
    ///
    /// # Blocking
    /// Until one has arrived.
    #[track_caller]
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.receive(|socket| socket.peek(buf))
    }
    /// Ends it for all clones: whoever waits in a call on it gets an error at once. std has no such call; there one drops the
    /// socket, which nobody can while another waits.
    pub fn close(&self) {
        self.0.close();
    }
    /// Our own address.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.inner.local_addr()
    }
    /// The peer's address.
    ///
    /// # Errors
    /// `NotConnected` before [`connect`](UdpSocket::connect).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.inner.peer_addr()
    }
}
face! { UdpSocket(std::net::UdpSocket as std::net::UdpSocket) timeouts }

/// Options, straight to the system.
macro_rules! options {
    ($($(#[doc = $doc:literal])+ $set:ident($value:ty) $get:ident;)+) => {
        impl UdpSocket { $(
            $(#[doc = $doc])+
            ///
            /// # Errors
            /// The system's.
            pub fn $set(&self, value: $value) -> io::Result<()> {
                self.0.inner.$set(value)
            }
            #[doc = concat!("What [`", stringify!($set), "`](UdpSocket::", stringify!($set), ") said.")]
            ///
            /// # Errors
            /// The system's.
            pub fn $get(&self) -> io::Result<$value> {
                self.0.inner.$get()
            }
        )+ }
    };
}
options! {
    /// Whether it may send to broadcast addresses (SO_BROADCAST).
    set_broadcast(bool) broadcast;
    /// The time-to-live of packets.
    set_ttl(u32) ttl;
    /// Whether multicast packets come back to this host (IP_MULTICAST_LOOP).
    set_multicast_loop_v4(bool) multicast_loop_v4;
    /// The time-to-live of multicast packets. Default 1: the local network.
    set_multicast_ttl_v4(u32) multicast_ttl_v4;
    /// Whether IPv6 multicast packets come back to this host (IPV6_MULTICAST_LOOP).
    set_multicast_loop_v6(bool) multicast_loop_v6;
}
impl UdpSocket {
    /// Joins a multicast group on the interface with this address; unspecified lets the system choose.
    ///
    /// # Errors
    /// The system's.
    pub fn join_multicast_v4(&self, multiaddr: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.0.inner.join_multicast_v4(multiaddr, interface)
    }
    /// Joins an IPv6 multicast group on the interface with this index; 0 is any.
    ///
    /// # Errors
    /// The system's.
    pub fn join_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.0.inner.join_multicast_v6(multiaddr, interface)
    }
    /// Leaves a multicast group.
    ///
    /// # Errors
    /// The system's.
    pub fn leave_multicast_v4(&self, multiaddr: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.0.inner.leave_multicast_v4(multiaddr, interface)
    }
    /// Leaves an IPv6 multicast group.
    ///
    /// # Errors
    /// The system's.
    pub fn leave_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.0.inner.leave_multicast_v6(multiaddr, interface)
    }
}
