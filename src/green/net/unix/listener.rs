//! `UnixListener`: accepting on a socket file as std has it.
use super::stream::UnixStream;
use crate::green::net::face::face;
use crate::green::net::place::Direction;
use crate::green::net::socket::Socket;
use std::io;
use std::iter::FusedIterator;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// A listening socket of the UNIX domain: [`std::os::unix::net::UnixListener`], but `accept` parks the green thread and not the
/// loop. As in std the file stays when it is dropped, and a file that exists is `AddrInUse`.
///
/// ```
/// use std::io::{Read, Write};
/// use twistlet::green::os::unix::net::{UnixListener, UnixStream};
/// use twistlet::green::spawn;
///
/// let path = std::env::temp_dir().join(format!("twistlet-doc-{}", std::process::id()));
/// let listener = UnixListener::bind(&path)?;
/// spawn(move || Ok(listener.accept()?.0.write_all(b"hello")?));
/// let mut text = String::new();
/// UnixStream::connect(&path)?.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// # std::fs::remove_file(path)?;
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct UnixListener(Arc<Socket<mio::net::UnixListener>>);

impl UnixListener {
    /// Listens on a new socket file at `path`.
    ///
    /// # Errors
    /// `AddrInUse` when there is a file; `PermissionDenied`; `NotFound` without the folder.
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixListener> {
        UnixListener::of(std::os::unix::net::UnixListener::bind(path)?)
    }
    /// Listens on any address of the domain.
    ///
    /// # Errors
    /// As [`bind`](UnixListener::bind).
    pub fn bind_addr(socket_addr: &SocketAddr) -> io::Result<UnixListener> {
        UnixListener::of(std::os::unix::net::UnixListener::bind_addr(socket_addr)?)
    }
    /// One of which nobody has a clone.
    pub(in crate::green) fn of(listener: std::os::unix::net::UnixListener) -> io::Result<UnixListener> {
        listener.set_nonblocking(true)?;
        Ok(UnixListener(Arc::new(Socket::new(mio::net::UnixListener::from_std(listener)))))
    }
    /// The next connection, and its peer's address, which is mostly unnamed.
    ///
    /// # Errors
    /// As [`TcpListener::accept`](crate::green::net::TcpListener::accept).
    ///
    /// # Panics
    /// In the main loop and its callbacks, when it has to wait.
    ///
    /// # Blocking
    /// Until somebody connects.
    #[track_caller]
    pub fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        self.accept_unless(&|| false)
    }
    /// As `accept`; `given_up` is asked before each attempt.
    #[track_caller]
    pub(in crate::green) fn accept_unless(&self, given_up: &dyn Fn() -> bool) -> io::Result<(UnixStream, SocketAddr)> {
        let (stream, peer) = self.0.accept(given_up, mio::net::UnixListener::accept)?;
        Ok((UnixStream::of(stream), peer))
    }
    /// Whoever waits in `accept`, on this thread, tries again.
    pub(in crate::green) fn nudge(&self) {
        self.0.nudge(Direction::Read);
    }
    /// The connections, one after the other: [`accept`](UnixListener::accept) until it is [closed](UnixListener::close).
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming(self)
    }
    /// Stops listening, for all clones: whoever waits in `accept` gets an error at once. std has no such call.
    pub fn close(&self) {
        self.0.close();
    }
    /// Whether it has been [closed](UnixListener::close).
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
}
face! { UnixListener(std::os::unix::net::UnixListener as mio::net::UnixListener) listener }

/// What [`UnixListener::incoming`] gives.
#[derive(Debug)]
pub struct Incoming<'a>(&'a UnixListener);

impl Iterator for Incoming<'_> {
    type Item = io::Result<UnixStream>;
    #[track_caller]
    fn next(&mut self) -> Option<io::Result<UnixStream>> {
        match self.0.accept() {
            Err(_) if self.0.is_closed() => None,
            accepted => Some(accepted.map(|(stream, _)| stream)),
        }
    }
}
impl FusedIterator for Incoming<'_> {}
impl<'a> IntoIterator for &'a UnixListener {
    type Item = io::Result<UnixStream>;
    type IntoIter = Incoming<'a>;
    fn into_iter(self) -> Incoming<'a> {
        self.incoming()
    }
}
