//! `UnixDatagram`: datagrams of the UNIX domain as std has them.
use crate::green::net::face::face;
use crate::green::net::place::Direction::{Read, Write};
use crate::green::net::place::now;
use crate::green::net::socket::{Socket, timed_out};
use crate::green::task::prepare;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The first and the longest pause between attempts to send to somebody whose queue is full and who is not the peer: the
/// system does not tell when there is room again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));
const INPUT: &str = "a datagram on a UnixDatagram";
const ROOM: &str = "room to send on a UnixDatagram";

/// A datagram socket of the UNIX domain: [`std::os::unix::net::UnixDatagram`], but a call that has to wait parks the green
/// thread and not the loop.
///
/// One green thread may receive and one may send at the same time. Clones are the same socket.
///
/// ```
/// use twistlet::green::os::unix::net::UnixDatagram;
/// use twistlet::green::spawn;
///
/// let (near, far) = UnixDatagram::pair()?;
/// spawn(move || Ok(far.send(b"hello").map(drop)?));
/// let mut datagram = [0; 16];
/// let n = near.recv(&mut datagram)?;
/// assert_eq!(&datagram[..n], b"hello");
/// # Ok::<(), twistlet::Failure>(())
/// ```
///
/// # Errors
/// Of the calls that wait, as [`TcpStream`](crate::green::net::TcpStream).
///
/// # Panics
/// A call that has to wait panics in the main loop and its callbacks. One that need not is fine there.
pub struct UnixDatagram(Arc<Socket<std::os::unix::net::UnixDatagram>>);

impl UnixDatagram {
    fn of(socket: std::os::unix::net::UnixDatagram) -> io::Result<UnixDatagram> {
        socket.set_nonblocking(true)?;
        Ok(UnixDatagram(Arc::new(Socket::new(socket))))
    }
    /// One that receives at a new socket file at `path`.
    ///
    /// # Errors
    /// `AddrInUse` when there is a file; the system's.
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixDatagram> {
        UnixDatagram::of(std::os::unix::net::UnixDatagram::bind(path)?)
    }
    /// One that receives at any address of the domain.
    ///
    /// # Errors
    /// As [`bind`](UnixDatagram::bind).
    pub fn bind_addr(socket_addr: &SocketAddr) -> io::Result<UnixDatagram> {
        UnixDatagram::of(std::os::unix::net::UnixDatagram::bind_addr(socket_addr)?)
    }
    /// One without an address.
    ///
    /// # Errors
    /// The system's.
    pub fn unbound() -> io::Result<UnixDatagram> {
        UnixDatagram::of(std::os::unix::net::UnixDatagram::unbound()?)
    }
    /// Two that are connected to each other.
    ///
    /// # Errors
    /// The system's.
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let (one, other) = std::os::unix::net::UnixDatagram::pair()?;
        Ok((UnixDatagram::of(one)?, UnixDatagram::of(other)?))
    }
    /// Makes the socket at `path` the peer.
    ///
    /// # Errors
    /// `NotFound`, `ConnectionRefused`, ...
    pub fn connect<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        self.0.inner.connect(path)
    }
    /// Makes the socket at an address the peer.
    ///
    /// # Errors
    /// As [`connect`](UnixDatagram::connect).
    pub fn connect_addr(&self, socket_addr: &SocketAddr) -> io::Result<()> {
        self.0.inner.connect_addr(socket_addr)
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
        let recv = |socket: &std::os::unix::net::UnixDatagram| match socket.recv_from(buf) {
            Err(error) if self.is_over(&error) => Ok((0, SocketAddr::from_pathname("")?)),
            received => received,
        };
        self.0.run(Read, INPUT, recv, |_| false)
    }
    /// One datagram. What does not fit into `buf` is lost.
    ///
    /// # Errors
    /// The system's; see the type.
    ///
    /// # Blocking
    /// Until one has arrived.
    #[track_caller]
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        let recv = |socket: &std::os::unix::net::UnixDatagram| match socket.recv(buf) {
            Err(error) if self.is_over(&error) => Ok(0),
            received => received,
        };
        self.0.run(Read, INPUT, recv, |_| false)
    }
    /// Whoever would block on one that is shut down is told so by the system; whoever only asks is not.
    fn is_over(&self, error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::WouldBlock && self.0.is_closed() && !self.0.is_nonblocking()
    }
    /// Sends one datagram to the peer.
    ///
    /// # Errors
    /// `NotConnected` without one; `ConnectionRefused` when it has gone; see the type.
    ///
    /// # Blocking
    /// While the peer's queue is full.
    #[track_caller]
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.0.run(Write, ROOM, |socket| socket.send(buf), |_| false)
    }
    /// Sends one datagram to the socket at `path`.
    ///
    /// # Errors
    /// `NotFound`, `ConnectionRefused`, ...; see the type.
    ///
    /// # Blocking
    /// While the receiver's queue is full. The system does not tell when that ends, so it is tried again every 20 ms.
    #[track_caller]
    pub fn send_to<P: AsRef<Path>>(&self, buf: &[u8], path: P) -> io::Result<usize> {
        self.send_to_addr(buf, &SocketAddr::from_pathname(path)?)
    }
    /// As [`send_to`](UnixDatagram::send_to), to any address of the domain.
    ///
    /// # Errors
    /// As `send_to`.
    ///
    /// # Blocking
    /// As `send_to`.
    #[track_caller]
    pub fn send_to_addr(&self, buf: &[u8], socket_addr: &SocketAddr) -> io::Result<usize> {
        let send = |socket: &std::os::unix::net::UnixDatagram| socket.send_to_addr(buf, socket_addr);
        let limit = self.0.timeout(Write);
        let since = limit.map(|_| now()).transpose()?;
        let (mut pause, longest) = PAUSES;
        loop {
            match self.0.attempt(send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.0.is_nonblocking() => {}
                sent => return sent,
            }
            if let (Some(limit), Some(since)) = (limit, since) {
                let left = limit.saturating_sub(now()?.saturating_duration_since(since));
                if left.is_zero() {
                    return Err(timed_out(limit));
                }
                pause = pause.min(left);
            }
            // Not for an edge: each attempt makes one, by giving back the memory it had taken.
            prepare()?.park_timeout(ROOM, Some(pause))?;
            pause = longest.min(pause * 2);
        }
    }
    /// Ends one direction, or both. Whoever waits in it goes on at once: a reader with 0, a writer with `BrokenPipe`.
    ///
    /// # Errors
    /// `NotConnected` without a peer.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let done = self.0.inner.shutdown(how);
        if done.is_ok() && how != Shutdown::Write {
            self.0.set_closed();
        }
        self.0.ended(how);
        done
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
    /// `NotConnected` without one.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.inner.peer_addr()
    }
}
face! { UnixDatagram(std::os::unix::net::UnixDatagram as std::os::unix::net::UnixDatagram) timeouts }
