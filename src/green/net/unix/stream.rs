//! `UnixStream`: a connection of the UNIX domain as std has it. All clones are one socket.
use crate::green::net::chunk::Chunk;
use crate::green::net::face::{face, streaming};
use crate::green::net::place::Direction::{Read, Write};
use crate::green::net::socket::{Ender, Socket};
use crate::green::task::prepare;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The first and the longest pause between attempts to connect to a listener whose backlog is full: the system does not tell
/// when it has room again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// A connection of the UNIX domain: [`std::os::unix::net::UnixStream`], but a call that has to wait parks the green thread and
/// not the loop. Like [`TcpStream`](crate::green::net::TcpStream) in all else.
///
/// ```
/// use std::io::{Read, Write};
/// use twistlet::green::os::unix::net::UnixStream;
/// use twistlet::green::spawn;
///
/// let (mut near, mut far) = UnixStream::pair()?;
/// spawn(move || Ok(far.write_all(b"hello")?));
/// let mut text = String::new();
/// near.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// # Ok::<(), twistlet::Failure>(())
/// ```
///
/// # Errors
/// Of the calls that wait, as [`TcpStream`](crate::green::net::TcpStream).
///
/// # Panics
/// A call that has to wait panics in the main loop and its callbacks. One that need not is fine there.
pub struct UnixStream(Arc<Socket<std::os::unix::net::UnixStream>>);

impl UnixStream {
    pub(super) fn of(stream: mio::net::UnixStream) -> UnixStream {
        UnixStream(Arc::new(Socket::new(stream.into())))
    }
    /// Connects to the socket file at `path`.
    ///
    /// # Errors
    /// `NotFound`, `ConnectionRefused`, `PermissionDenied`, ...
    ///
    /// # Panics
    /// In the main loop and its callbacks, when it has to wait.
    ///
    /// # Blocking
    /// While the listener's backlog is full.
    #[track_caller]
    pub fn connect<P: AsRef<Path>>(path: P) -> io::Result<UnixStream> {
        UnixStream::connect_addr(&SocketAddr::from_pathname(path)?)
    }
    /// As [`connect`](UnixStream::connect), to any address of the domain.
    ///
    /// # Errors
    /// As `connect`.
    ///
    /// # Panics
    /// In the main loop and its callbacks, when it has to wait.
    ///
    /// # Blocking
    /// While the listener's backlog is full.
    #[track_caller]
    pub fn connect_addr(socket_addr: &SocketAddr) -> io::Result<UnixStream> {
        let (mut pause, longest) = PAUSES;
        loop {
            match mio::net::UnixStream::connect_addr(socket_addr) {
                Ok(stream) => return Ok(UnixStream::of(stream)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            prepare()?.park_timeout("room in a UnixListener's backlog", Some(pause))?;
            pause = longest.min(pause * 2);
        }
    }
    /// Two that are connected to each other.
    ///
    /// # Errors
    /// The system's.
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (one, other) = mio::net::UnixStream::pair()?;
        Ok((UnixStream::of(one), UnixStream::of(other)))
    }
    /// The peer's address.
    ///
    /// # Errors
    /// `NotConnected` when the peer has gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.inner.peer_addr()
    }
    /// Our own address.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.inner.local_addr()
    }
    /// Ends one direction, or both. Whoever waits in it goes on at once: a reader with what has arrived and then the end of
    /// the stream, a writer with `BrokenPipe`. Never waits, and works from any thread.
    ///
    /// # Errors
    /// `NotConnected` when it is not connected.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let done = self.0.inner.shutdown(how);
        self.0.ended(how);
        done
    }
}
face! { UnixStream(std::os::unix::net::UnixStream as std::os::unix::net::UnixStream) timeouts }
// A read ends before a message that carries descriptors, so less than there was room for may not be all there was.
streaming! { UnixStream(std::os::unix::net::UnixStream), "input from a UnixStream", "room to write to a UnixStream", |_n, _size| false }
