//! `TcpListener`: accepting as std has it, whose waiting is the green thread's.
use super::addresses::ToSocketAddrs;
use super::place::{self, Direction};
use super::socket::Socket;
use super::stream::TcpStream;
use crate::error::PortError;
use crate::green::task::prepare;
use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long `accept` waits before it tries again after the process had run out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(10);

/// A listening socket: [`std::net::TcpListener`], but `accept` parks the green thread and not the loop.
///
/// ```
/// use std::io::{Read, Write};
/// use twistlet::green::net::{TcpListener, TcpStream};
/// use twistlet::green::spawn;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let address = listener.local_addr()?;
/// spawn(move || {
///     for stream in listener.incoming() {
///         let mut stream = stream?;
///         spawn(move || Ok(std::io::copy(&mut stream.try_clone()?, &mut stream).map(drop)?));
///     }
///     Ok(())
/// });
/// let mut client = TcpStream::connect(address)?;
/// client.write_all(b"echo")?;
/// let mut answer = [0; 4];
/// client.read_exact(&mut answer)?;
/// assert_eq!(&answer, b"echo");
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct TcpListener(Arc<Listening>);

struct Listening {
    socket: Socket<mio::net::TcpListener>,
    closed: AtomicBool,
    /// The last attempt found no descriptor or memory for a connection.
    exhausted: AtomicBool,
}

impl TcpListener {
    /// Listens on the first address that can be had, with std's options (SO_REUSEADDR, std's backlog).
    ///
    /// # Errors
    /// `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`, ...; those of [`ToSocketAddrs`].
    ///
    /// # Blocking
    /// While a name is looked up.
    #[track_caller]
    pub fn bind(addr: impl ToSocketAddrs) -> io::Result<TcpListener> {
        let addresses: Vec<SocketAddr> = addr.to_socket_addrs()?.collect();
        let listener = std::net::TcpListener::bind(&addresses[..])?;
        listener.set_nonblocking(true)?;
        Ok(TcpListener::of(listener))
    }
    fn of(listener: std::net::TcpListener) -> TcpListener {
        TcpListener(Arc::new(Listening {
            socket: Socket::new(mio::net::TcpListener::from_std(listener)),
            closed: AtomicBool::new(false),
            exhausted: AtomicBool::new(false),
        }))
    }
    /// The next connection, and its peer's address.
    ///
    /// # Errors
    /// The system's. After one that means that descriptors or memory ran out (`EMFILE` and the like) the next `accept` first
    /// waits for 10 ms, so that a loop that goes on regardless leaves the others time to close something. `ResourceBusy`
    /// (holding [`Busy`](crate::error::Busy)) while another green thread waits here; `NotConnected` (holding
    /// [`PortError::NotListening`]) once [closed](TcpListener::close).
    ///
    /// # Panics
    /// In the main loop and its callbacks, when it has to wait.
    ///
    /// # Blocking
    /// Until somebody connects.
    #[track_caller]
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let listening = &*self.0;
        if listening.exhausted.swap(false, Ordering::Relaxed) && !listening.socket.is_nonblocking() && place::may_park()
        {
            prepare()?.park_timeout("a descriptor to be free", Some(PAUSE))?;
        }
        let attempt = |listener: &mio::net::TcpListener| {
            if listening.closed.load(Ordering::Acquire) {
                return Err(io::Error::new(io::ErrorKind::NotConnected, PortError::NotListening));
            }
            listener.accept()
        };
        match listening.socket.run(Direction::Read, "a connection to accept", attempt, |_| false) {
            Ok((stream, peer)) => Ok((TcpStream::of(stream), peer)),
            Err(error) => {
                let spent = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
                if error.raw_os_error().is_some_and(|code| spent.contains(&code)) {
                    listening.exhausted.store(true, Ordering::Relaxed);
                }
                Err(error)
            }
        }
    }
    /// The connections, one after the other: [`accept`](TcpListener::accept) for ever. As in std it goes on after an error,
    /// and ends only when the listener is [closed](TcpListener::close).
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming(self)
    }
    /// Stops listening, for all clones: connections that nobody has accepted are reset, and whoever waits in `accept` gets
    /// an error at once. std has no such call; there one drops the listener, which nobody can while another waits.
    pub fn close(&self) {
        if self.0.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        // Not every system can; then it ends when the last clone is dropped. Wakes whoever waits on another thread.
        let _ = socket2::SockRef::from(&self.0.socket.inner).shutdown(std::net::Shutdown::Both);
        if let Some(watch) = self.0.socket.place.find() {
            watch.closed(Direction::Read);
        }
    }
    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.socket.inner.local_addr()
    }
    /// The same listener again.
    ///
    /// # Errors
    /// None; std's signature.
    pub fn try_clone(&self) -> io::Result<TcpListener> {
        Ok(TcpListener(Arc::clone(&self.0)))
    }
    /// The time-to-live of packets of accepted connections.
    ///
    /// # Errors
    /// The system's.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.0.socket.inner.set_ttl(ttl)
    }
    /// The time-to-live of packets.
    ///
    /// # Errors
    /// The system's.
    pub fn ttl(&self) -> io::Result<u32> {
        self.0.socket.inner.ttl()
    }
    /// The socket's pending error, which this clears.
    ///
    /// # Errors
    /// The system's, of asking.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.0.socket.inner.take_error()
    }
    /// Whether `accept` fails with `WouldBlock` where it would wait. For all clones; accepted connections are not affected.
    ///
    /// # Errors
    /// None; std's signature.
    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        self.0.socket.set_nonblocking(on);
        Ok(())
    }
    /// Gives the socket back to std, blocking unless `set_nonblocking` said otherwise.
    ///
    /// # Errors
    /// `ResourceBusy` while clones exist, which a blocking socket would make hold the loop; the system's.
    pub fn into_std(self) -> io::Result<std::net::TcpListener> {
        if Arc::strong_count(&self.0) > 1 {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "the listener has clones: drop them before into_std()",
            ));
        }
        let listener = std::net::TcpListener::from(self.as_fd().try_clone_to_owned()?);
        listener.set_nonblocking(self.0.socket.is_nonblocking())?;
        Ok(listener)
    }
}

impl From<std::net::TcpListener> for TcpListener {
    fn from(listener: std::net::TcpListener) -> Self {
        // Fails only for a descriptor that is no socket, of which every use will say so.
        let _ = listener.set_nonblocking(true);
        let listener = TcpListener::of(listener);
        // The caller may have clones of it.
        listener.0.socket.place.expose();
        listener
    }
}
impl From<OwnedFd> for TcpListener {
    fn from(fd: OwnedFd) -> Self {
        std::net::TcpListener::from(fd).into()
    }
}
/// For options that are not here. Do not make it blocking: that would hold the loop.
impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.socket.expose()
    }
}
impl AsRawFd for TcpListener {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0.socket.inner, f)
    }
}

/// What [`TcpListener::incoming`] gives.
#[derive(Debug)]
pub struct Incoming<'a>(&'a TcpListener);

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;
    #[track_caller]
    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        let accepted = self.0.accept();
        match accepted {
            Err(_) if self.0.0.closed.load(Ordering::Acquire) => None,
            accepted => Some(accepted.map(|(stream, _)| stream)),
        }
    }
}
impl FusedIterator for Incoming<'_> {}
