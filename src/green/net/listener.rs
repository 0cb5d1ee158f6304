//! `TcpListener`: accepting as std has it, whose waiting is the green thread's.
use super::addresses::ToSocketAddrs;
use super::face::face;
use super::place::Direction;
use super::socket::Socket;
use super::stream::TcpStream;
use std::io;
use std::iter::FusedIterator;
use std::net::SocketAddr;
use std::sync::Arc;

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
pub struct TcpListener(Arc<Socket<mio::net::TcpListener>>);

impl TcpListener {
    /// Listens on the first address that can be had, with std's options (SO_REUSEADDR, std's backlog);
    /// [`Listen`](crate::green::serve::Listen) has others.
    ///
    /// # Errors
    /// `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`, ...; those of [`ToSocketAddrs`].
    ///
    /// # Blocking
    /// While a name is looked up.
    #[track_caller]
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<TcpListener> {
        let addresses: Vec<SocketAddr> = addr.to_socket_addrs()?.collect();
        TcpListener::of(std::net::TcpListener::bind(&addresses[..])?)
    }
    /// One of which nobody has a clone.
    pub(in crate::green) fn of(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        listener.set_nonblocking(true)?;
        Ok(TcpListener(Arc::new(Socket::new(mio::net::TcpListener::from_std(listener)))))
    }
    /// The next connection, and its peer's address.
    ///
    /// # Errors
    /// The system's. After one that means that descriptors or memory ran out (`EMFILE` and the like) the next `accept` first
    /// waits for 10 ms, so that a loop that goes on regardless leaves the others time to close something. `ResourceBusy`
    /// (holding [`Busy`](crate::error::Busy)) while another green thread waits here; `NotConnected` (holding
    /// [`PortError::NotListening`](crate::error::PortError::NotListening)) once [closed](TcpListener::close).
    ///
    /// # Panics
    /// In the main loop and its callbacks, when it has to wait.
    ///
    /// # Blocking
    /// Until somebody connects.
    #[track_caller]
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept_unless(&|| false)
    }
    /// As `accept`; `given_up` is asked before each attempt.
    #[track_caller]
    pub(in crate::green) fn accept_unless(&self, given_up: &dyn Fn() -> bool) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.0.accept(given_up, mio::net::TcpListener::accept)?;
        Ok((TcpStream::of(stream), peer))
    }
    /// Whoever waits in `accept`, on this thread, tries again.
    pub(in crate::green) fn nudge(&self) {
        self.0.nudge(Direction::Read);
    }
    /// The connections, one after the other: [`accept`](TcpListener::accept) for ever. As in std it goes on after an error,
    /// and ends only when the listener is [closed](TcpListener::close).
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming(self)
    }
    /// Stops listening, for all clones: connections that nobody has accepted are reset, and whoever waits in `accept` gets
    /// an error at once. std has no such call; there one drops the listener, which nobody can while another waits.
    pub fn close(&self) {
        self.0.close();
    }
    /// Whether it has been [closed](TcpListener::close).
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.inner.local_addr()
    }
    /// The time-to-live of packets of accepted connections.
    ///
    /// # Errors
    /// The system's.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.0.inner.set_ttl(ttl)
    }
    /// The time-to-live of packets.
    ///
    /// # Errors
    /// The system's.
    pub fn ttl(&self) -> io::Result<u32> {
        self.0.inner.ttl()
    }
}
face! { TcpListener(std::net::TcpListener as mio::net::TcpListener) listener }

/// What [`TcpListener::incoming`] gives.
#[derive(Debug)]
pub struct Incoming<'a>(&'a TcpListener);

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;
    #[track_caller]
    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        match self.0.accept() {
            Err(_) if self.0.is_closed() => None,
            accepted => Some(accepted.map(|(stream, _)| stream)),
        }
    }
}
impl FusedIterator for Incoming<'_> {}
