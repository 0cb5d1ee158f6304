//! The one way to the operating system: polling, waking, the time, and stream and listening sockets. Chosen by enum when
//! a reactor is made: `os` is mio on real sockets, `memory` a network and a clock inside this process for tests of faults.
//! The loop and the transports use these types only; whatever asks the system for time or I/O by another way breaks that.
mod datagram;
mod lock;
#[cfg_attr(not(feature = "testing"), allow(dead_code, reason = "for simulations"))]
pub(crate) mod memory;
pub(crate) mod os;
pub(crate) mod pipe;
pub(crate) mod unix;

pub(crate) use datagram::{Datagram, Interface};
pub(crate) use unix::FileOptions;

use crate::address::Address;
use std::fs::File;
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the poller says of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness(u8);

impl Readiness {
    pub(crate) const READABLE: Readiness = Readiness(1);
    pub(crate) const WRITABLE: Readiness = Readiness(2);
    /// The peer will send no more: read until the end, no further edge will come.
    pub(crate) const READ_CLOSED: Readiness = Readiness(4);
    pub(crate) const ERROR: Readiness = Readiness(8);

    pub(crate) fn contains(self, other: Readiness) -> bool {
        self.0 & other.0 != 0
    }
    /// An error or a hang-up is news for the reader and for the writer.
    pub(crate) fn is_readable(self) -> bool {
        self.0 & (1 | 4 | 8) != 0
    }
    pub(crate) fn is_writable(self) -> bool {
        self.0 & (2 | 8) != 0
    }
}
impl std::ops::BitOr for Readiness {
    type Output = Readiness;
    fn bitor(self, other: Readiness) -> Readiness {
        Readiness(self.0 | other.0)
    }
}

/// One event of a poll: whose, and what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) token: usize,
    pub(crate) readiness: Readiness,
}

/// Options of a TCP listening socket.
#[derive(Clone, Debug)]
pub(crate) struct ListenOptions {
    pub(crate) backlog: u32,
    pub(crate) reuse_port: bool,
}

pub(crate) enum Driver {
    Os(os::Driver),
    #[cfg_attr(not(feature = "testing"), allow(dead_code, reason = "for simulations"))]
    Memory(memory::Driver),
}

impl Driver {
    pub(crate) fn poll(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        match self {
            Driver::Os(driver) => driver.poll(timeout, events),
            Driver::Memory(driver) => driver.poll(timeout, events),
        }
    }
    /// The clock of this driver.
    pub(crate) fn now(&self) -> Instant {
        match self {
            Driver::Os(_) => Instant::now(),
            Driver::Memory(driver) => driver.now(),
        }
    }
    pub(crate) fn waker(&self) -> Waker {
        match self {
            Driver::Os(driver) => Waker::Os(driver.waker()),
            Driver::Memory(driver) => Waker::Memory(driver.waker()),
        }
    }
    /// Starts connecting; the result is known when the socket becomes writable.
    pub(crate) fn connect_tcp(&self, to: SocketAddr, bind: Option<SocketAddr>) -> Result<Socket, ConnectFault> {
        match self {
            Driver::Os(_) => os::connect_tcp(to, bind),
            Driver::Memory(driver) => driver.connect_tcp(to, bind),
        }
    }
    pub(crate) fn connect_unix(&self, path: &Path) -> io::Result<Socket> {
        match self {
            Driver::Os(_) => unix::connect(path),
            Driver::Memory(driver) => driver.connect_unix(path),
        }
    }
    pub(crate) fn listen_tcp(&self, at: SocketAddr, options: &ListenOptions) -> io::Result<Listener> {
        match self {
            Driver::Os(_) => os::listen_tcp(at, options),
            Driver::Memory(driver) => driver.listen_tcp(at, options),
        }
    }
    pub(crate) fn listen_unix(&self, path: &Path, backlog: u32, options: FileOptions) -> io::Result<Listener> {
        match self {
            Driver::Os(_) => unix::listen(path, backlog, options),
            Driver::Memory(driver) => driver.listen_unix(path),
        }
    }
    /// Whether a server that lives holds the lock of the socket at this path.
    pub(crate) fn is_locked(&self, path: &Path) -> bool {
        match self {
            Driver::Os(_) => unix::is_locked(path),
            Driver::Memory(_) => true,
        }
    }
    /// Watches a socket for both directions, edge-triggered, until it is dropped.
    pub(crate) fn register_socket(&self, socket: &mut Socket, token: usize) -> io::Result<()> {
        match (self, socket) {
            (Driver::Os(driver), Socket::Tcp(stream)) => driver.register(stream, token),
            (Driver::Os(driver), Socket::Unix(stream)) => driver.register(stream, token),
            (Driver::Memory(driver), Socket::Memory(stream)) => driver.register_socket(stream, token),
            (Driver::Os(driver), Socket::Pipe(pipe)) => pipe.register(driver, token, false),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
    /// As `register_socket`, and accepts files too, which are always ready.
    pub(crate) fn register_standard(&self, pipe: &pipe::Pipe, token: usize) -> io::Result<()> {
        match self {
            Driver::Os(driver) => pipe.register(driver, token, true),
            Driver::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
    /// Ends the watch of a socket whose description others may have too: closing ours would leave the poller watching.
    pub(crate) fn deregister_socket(&self, socket: &mut Socket) {
        if let Driver::Os(driver) = self {
            let _ = match socket {
                Socket::Tcp(stream) => driver.deregister(stream),
                Socket::Unix(stream) => driver.deregister(stream),
                Socket::Pipe(pipe) => {
                    pipe.deregister(driver);
                    Ok(())
                }
                Socket::Memory(_) => Ok(()),
            };
        }
    }
    /// Closes the write side.
    pub(crate) fn close_writer(&self, socket: &Socket) -> io::Result<()> {
        match (self, socket) {
            (Driver::Os(driver), Socket::Pipe(pipe)) => {
                pipe.close_writer(driver);
                Ok(())
            }
            _ => socket.shutdown(Shutdown::Write),
        }
    }
    pub(crate) fn register_listener(&self, listener: &mut Listener, token: usize) -> io::Result<()> {
        match (self, listener) {
            (Driver::Os(driver), Listener::Tcp(listener)) => driver.register_readable(listener, token),
            (Driver::Os(driver), Listener::Unix(listener, _)) => driver.register_readable(listener, token),
            (Driver::Memory(driver), Listener::Memory(listener)) => driver.register_listener(listener, token),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
    /// Adopted sockets share their description with the caller's copy: closing ours would leave the poller watching.
    pub(crate) fn deregister_listener(&self, listener: &mut Listener) {
        if let Driver::Os(driver) = self {
            let _ = match listener {
                Listener::Tcp(listener) => driver.deregister(listener),
                Listener::Unix(listener, _) => driver.deregister(listener),
                Listener::Memory(_) => Ok(()),
            };
        }
    }
    /// A descriptor of the user's own.
    pub(crate) fn register_fd(&self, fd: RawFd, token: usize) -> io::Result<()> {
        match self {
            Driver::Os(driver) => driver.register(&mut mio::unix::SourceFd(&fd), token),
            Driver::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
    /// Asks the system anew: what the descriptor is ready for now comes as an event, news or not.
    pub(crate) fn reregister_fd(&self, fd: RawFd, token: usize) -> io::Result<()> {
        match self {
            Driver::Os(driver) => driver.reregister(&mut mio::unix::SourceFd(&fd), token),
            Driver::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
    /// For sockets that another thread takes over: it must end our watch of them.
    #[cfg(feature = "green")]
    pub(crate) fn registry(&self) -> io::Result<mio::Registry> {
        match self {
            Driver::Os(driver) => driver.registry(),
            Driver::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
    pub(crate) fn deregister_fd(&self, fd: RawFd) -> io::Result<()> {
        match self {
            Driver::Os(driver) => driver.deregister(&mut mio::unix::SourceFd(&fd)),
            Driver::Memory(_) => Ok(()),
        }
    }
}

/// Why a socket could not even begin to connect: the local address is told from the remote one.
#[derive(Debug)]
pub(crate) enum ConnectFault {
    Bind(io::Error),
    Connect(io::Error),
}

/// Ends a poll from any thread.
#[derive(Clone)]
pub(crate) enum Waker {
    Os(Arc<mio::Waker>),
    Memory(memory::Waker),
}
impl Waker {
    pub(crate) fn wake(&self) {
        match self {
            // The only failure is a full counter, and then the loop is awake already.
            Waker::Os(waker) => drop(waker.wake()),
            Waker::Memory(waker) => waker.wake(),
        }
    }
}

/// A connected, or connecting, stream socket. Never blocks.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
    Memory(memory::Socket),
    /// Other descriptors: pipes, terminals.
    Pipe(pipe::Pipe),
}

impl Socket {
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        use io::Read;
        match self {
            Socket::Tcp(stream) => (&mut &*stream).read(buffer),
            Socket::Unix(stream) => (&mut &*stream).read(buffer),
            Socket::Memory(stream) => stream.read(buffer),
            Socket::Pipe(pipe) => pipe.read(buffer),
        }
    }
    /// As `read`; descriptors that come along are put into `descriptors`.
    pub(crate) fn receive(&self, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
        match self {
            Socket::Unix(stream) => unix::receive(stream, buffer, descriptors),
            _ => self.read(buffer),
        }
    }
    /// Whether descriptors can travel on it.
    pub(crate) fn takes_descriptors(&self) -> bool {
        matches!(self, Socket::Unix(_))
    }
    /// Sends these bytes, at least one, with a descriptor beside the first.
    pub(crate) fn send_descriptor(&self, data: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<usize> {
        match self {
            Socket::Unix(stream) => crate::sys::ancillary::send(stream.as_fd(), data, descriptor),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
    pub(crate) fn write(&self, data: &[u8]) -> io::Result<usize> {
        use io::Write;
        match self {
            Socket::Tcp(stream) => (&mut &*stream).write(data),
            Socket::Unix(stream) => (&mut &*stream).write(data),
            Socket::Memory(stream) => stream.write(data),
            Socket::Pipe(pipe) => pipe.write(data),
        }
    }
    pub(crate) fn write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        use io::Write;
        match self {
            Socket::Tcp(stream) => (&mut &*stream).write_vectored(parts),
            Socket::Unix(stream) => (&mut &*stream).write_vectored(parts),
            Socket::Memory(stream) => stream.write_vectored(parts),
            Socket::Pipe(pipe) => pipe.write_vectored(parts),
        }
    }
    /// Whether `send_file` can do anything.
    pub(crate) fn sends_files(&self) -> bool {
        cfg!(any(target_os = "linux", target_os = "android")) && matches!(self, Socket::Tcp(_) | Socket::Unix(_))
    }
    /// Has the system send up to `length` bytes of `file` from `offset` on; none are sent at its end.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) fn send_file(&self, file: &File, offset: u64, length: usize) -> io::Result<usize> {
        let socket = match self {
            Socket::Tcp(stream) => socket2::SockRef::from(stream),
            Socket::Unix(stream) => socket2::SockRef::from(stream),
            Socket::Memory(_) | Socket::Pipe(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        let offset = usize::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::Unsupported))?;
        socket.sendfile(file, offset, NonZeroUsize::new(length))
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(crate) fn send_file(&self, _: &File, _: u64, _: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Its number in the system; simulated ones have none.
    pub(crate) fn fd(&self) -> Option<RawFd> {
        match self {
            Socket::Tcp(stream) => Some(stream.as_raw_fd()),
            Socket::Unix(stream) => Some(stream.as_raw_fd()),
            Socket::Memory(_) => None,
            Socket::Pipe(pipe) => pipe.fd(),
        }
    }
    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.shutdown(how),
            Socket::Unix(stream) => stream.shutdown(how),
            Socket::Memory(stream) => stream.shutdown(how),
            // It has no such thing; see `Driver::close_writer`.
            Socket::Pipe(_) => Ok(()),
        }
    }
    /// The pending error of the socket: how a connection attempt ended.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Socket::Tcp(stream) => stream.take_error(),
            Socket::Unix(stream) => stream.take_error(),
            Socket::Memory(stream) => stream.take_error(),
            Socket::Pipe(_) => Ok(None),
        }
    }
    /// The peer, or an error while there is none.
    pub(crate) fn peer(&self) -> io::Result<Address> {
        match self {
            Socket::Tcp(stream) => stream.peer_addr().map(Address::Tcp),
            Socket::Unix(stream) => stream.peer_addr().map(|address| unix::address(&address)),
            Socket::Memory(stream) => stream.peer(),
            Socket::Pipe(_) => Ok(Address::Pipe),
        }
    }
    pub(crate) fn host(&self) -> io::Result<Address> {
        match self {
            Socket::Tcp(stream) => stream.local_addr().map(Address::Tcp),
            Socket::Unix(stream) => stream.local_addr().map(|address| unix::address(&address)),
            Socket::Memory(stream) => stream.host(),
            Socket::Pipe(_) => Ok(Address::Pipe),
        }
    }
    pub(crate) fn set_tcp_no_delay(&self, on: bool) {
        if let Socket::Tcp(stream) = self {
            let _ = stream.set_nodelay(on);
        }
    }
    pub(crate) fn set_tcp_keep_alive(&self, on: bool) {
        if let Socket::Tcp(stream) = self {
            let _ = socket2::SockRef::from(stream).set_keepalive(on);
        }
    }
    pub(crate) fn as_pipe(&self) -> Option<&pipe::Pipe> {
        match self {
            Socket::Pipe(pipe) => Some(pipe),
            _ => None,
        }
    }
    /// The close that follows is a reset.
    pub(crate) fn reset_on_close(&self) {
        match self {
            Socket::Tcp(stream) => drop(socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))),
            Socket::Unix(_) | Socket::Pipe(_) => {}
            Socket::Memory(stream) => stream.reset_on_close(),
        }
    }
}

/// A listening socket. Never blocks.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(mio::net::TcpListener),
    /// With the path that is removed when listening ends.
    Unix(mio::net::UnixListener, #[allow(dead_code, reason = "it is there to be dropped")] Option<unix::BoundPath>),
    Memory(memory::Listener),
}

impl Listener {
    pub(crate) fn fd(&self) -> Option<RawFd> {
        match self {
            Listener::Tcp(listener) => Some(listener.as_raw_fd()),
            Listener::Unix(listener, _) => Some(listener.as_raw_fd()),
            Listener::Memory(_) => None,
        }
    }
    pub(crate) fn accept(&self) -> io::Result<(Socket, Address)> {
        match self {
            Listener::Tcp(listener) => {
                listener.accept().map(|(stream, peer)| (Socket::Tcp(stream), Address::Tcp(peer)))
            }
            Listener::Unix(listener, _) => {
                listener.accept().map(|(stream, peer)| (Socket::Unix(stream), unix::address(&peer)))
            }
            Listener::Memory(listener) => listener.accept().map(|(stream, peer)| (Socket::Memory(stream), peer)),
        }
    }
    pub(crate) fn address(&self) -> io::Result<Address> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Listener::Unix(listener, _) => listener.local_addr().map(|address| unix::address(&address)),
            Listener::Memory(listener) => listener.address(),
        }
    }
}
