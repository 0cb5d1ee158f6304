//! Streams on descriptors: an open pipe, FIFO, terminal, serial line or socket as a `TransportRef` with a `Protocol`.
//!
//! `Reactor::adopt_stream` for users, `adopt` for processes and stdio. The stream itself is `stream`'s, on another kind of socket.
use super::stream::{Owner, Stream};
use super::{Address, Protocol, TransportRef};
use crate::failure::Result;
use crate::reactor::driver::Socket;
use crate::reactor::driver::pipe::{End, Pipe};
use crate::reactor::{Core, Reactor};
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::rc::Rc;

/// What a stream is made of: one descriptor for both directions, one for each, or one that is only read or only written.
/// `From` whatever owns a descriptor, so that [`Reactor::adopt_stream`] takes a `UnixStream`, a `File` or `(reader, writer)`.
#[derive(Debug)]
pub struct Ends(Kind);
#[derive(Debug)]
enum Kind {
    Both(OwnedFd),
    Apart(Option<OwnedFd>, Option<OwnedFd>),
}

impl Ends {
    /// One descriptor, read and written: a socket, a terminal, a serial line.
    pub fn both(fd: impl Into<OwnedFd>) -> Self {
        Ends(Kind::Both(fd.into()))
    }
    /// One that is read and another that is written: the ends of two pipes.
    pub fn pair(reader: impl Into<OwnedFd>, writer: impl Into<OwnedFd>) -> Self {
        Ends(Kind::Apart(Some(reader.into()), Some(writer.into())))
    }
    /// One that is only read. What is written to the stream is dropped.
    pub fn reader(fd: impl Into<OwnedFd>) -> Self {
        Ends(Kind::Apart(Some(fd.into()), None))
    }
    /// One that is only written. Its protocol hears of the end when whoever reads closes.
    pub fn writer(fd: impl Into<OwnedFd>) -> Self {
        Ends(Kind::Apart(None, Some(fd.into())))
    }
}
macro_rules! ends { ($($way:ident: $($type:ty)+;)+) => { $( $(
    impl From<$type> for Ends {
        fn from(fd: $type) -> Self {
            Ends::$way(fd)
        }
    }
)+ )+ } }
ends! {
    both: OwnedFd File UnixStream TcpStream;
    reader: PipeReader ChildStdout ChildStderr;
    writer: PipeWriter ChildStdin;
}
impl<R: Into<OwnedFd>, W: Into<OwnedFd>> From<(R, W)> for Ends {
    fn from((reader, writer): (R, W)) -> Self {
        Ends::pair(reader, writer)
    }
}

impl Reactor {
    /// Makes a stream of open descriptors: pipes, a FIFO, a terminal, a serial line, a connected socket (Twisted's
    /// `adoptStreamConnection`, `SerialPort`, and what `StandardIO` is for other descriptors). The protocol is told
    /// `connection_made` in a later turn; from there on every rule of a TCP connection holds.
    ///
    /// - The descriptors are made non-blocking. That is a property of what was opened, not of the descriptor: other processes
    ///   that have the same terminal or pipe see it too. It is taken back when the stream ends, of pipes and terminals.
    /// - With two descriptors, `lose_write_connection` closes the one that is written; a socket is shut down; on a terminal it
    ///   only stops the writing.
    /// - When nobody reads any more what the stream writes, a stream that is still read goes on: its protocol is told
    ///   `write_connection_lost`, producers stop, flushes fail. Any other ends.
    /// - `peer()` and `host()` of what has no address are [`Address::Pipe`].
    ///
    /// # Errors
    /// `io::Error`: of kind `PermissionDenied` for a regular file, which is always ready and belongs on a thread;
    /// `AlreadyExists` when the descriptor is watched already.
    /// [`ReactorError::Closed`](crate::error::ReactorError::Closed).
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use twistlet::{Protocol, Reactor, TransportRef};
    ///
    /// struct Echo(Reactor);
    /// impl Protocol for Echo {
    ///     fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
    ///         transport.write(data);
    ///     }
    ///     fn connection_lost(&mut self, _: TransportRef, _: &twistlet::ConnectionClosed) {
    ///         let _ = self.0.stop();
    ///     }
    /// }
    ///
    /// let reactor = Reactor::new()?;
    /// let (input, mut to_echo) = std::io::pipe()?;
    /// let (mut from_echo, output) = std::io::pipe()?;
    /// reactor.adopt_stream((input, output), Echo(reactor))?;
    /// to_echo.write_all(b"hello")?;
    /// drop(to_echo);
    /// reactor.run()?;
    /// let mut heard = String::new();
    /// from_echo.read_to_string(&mut heard)?;
    /// assert_eq!(heard, "hello");
    /// # Ok::<(), twistlet::Failure>(())
    /// ```
    pub fn adopt_stream(&self, ends: impl Into<Ends>, protocol: impl Protocol + 'static) -> Result<TransportRef> {
        let core = self.open()?;
        Ok(adopt(&core, ends.into(), None, Box::new(protocol))?)
    }
}

/// As `adopt_stream`; `peer` is what it is with, if that is known.
pub(super) fn adopt(
    core: &Rc<Core>,
    ends: Ends,
    peer: Option<Address>,
    protocol: Box<dyn Protocol>,
) -> io::Result<TransportRef> {
    let mut socket = match ends.0 {
        Kind::Both(fd) => match connected(fd)? {
            Ok(socket) => socket,
            Err(fd) => Socket::Pipe(Pipe::both(End::new(fd)?)),
        },
        Kind::Apart(reader, writer) => {
            let reader = reader.map(End::new).transpose()?;
            Socket::Pipe(Pipe::new(reader, writer.map(End::new).transpose()?))
        }
    };
    let peer = peer.unwrap_or_else(|| socket.peer().unwrap_or(Address::Pipe));
    let token = core.reserve();
    let registered = core.driver().register_socket(&mut socket, token);
    if let Err(error) = registered {
        drop(core.remove_source(token));
        return Err(error);
    }
    Ok(Stream::adopt(core, socket, token, peer, protocol, None).name())
}

/// As `adopt`, of the process's standard streams.
pub(super) fn adopt_standard(
    core: &Rc<Core>,
    protocol: Box<dyn Protocol>,
    owner: Box<dyn Owner>,
) -> io::Result<TransportRef> {
    let pipe = Pipe::new(Some(End::standard(0)?), Some(End::standard(1)?));
    let token = core.reserve();
    let registered = core.driver().register_standard(&pipe, token);
    if let Err(error) = registered {
        drop(core.remove_source(token));
        return Err(error);
    }
    Ok(Stream::adopt(core, Socket::Pipe(pipe), token, Address::Pipe, protocol, Some(owner)).name())
}

/// A connected stream socket of a kind that the driver has, so that it has addresses and options.
fn connected(fd: OwnedFd) -> io::Result<std::result::Result<Socket, OwnedFd>> {
    let socket = socket2::SockRef::from(&fd);
    let (kind, peer) = (socket.r#type(), socket.peer_addr());
    let (Ok(socket2::Type::STREAM), Ok(peer)) = (kind, peer) else { return Ok(Err(fd)) };
    socket.set_nonblocking(true)?;
    Ok(match peer.domain() {
        socket2::Domain::UNIX => Ok(Socket::Unix(mio::net::UnixStream::from_std(fd.into()))),
        socket2::Domain::IPV4 | socket2::Domain::IPV6 => Ok(Socket::Tcp(mio::net::TcpStream::from_std(fd.into()))),
        _ => Err(fd),
    })
}
