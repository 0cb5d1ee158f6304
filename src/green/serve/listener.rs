//! What a server can serve: TCP and UNIX listeners.
use crate::green::net::{Ender, TcpListener, TcpStream};
use crate::green::os::unix::net::{UnixListener, UnixStream};
use std::fmt;
use std::io;

/// What [`Server`](super::Server) serves: [`TcpListener`] and [`UnixListener`]. Its `Stream` and `Address` are what a handler
/// gets: the connection, and its peer's address.
pub trait Listener: Accepting {}
impl<L: Accepting> Listener for L {}

/// How; for this crate's listeners only.
pub trait Accepting: Sized + 'static {
    /// A connection.
    type Stream: 'static;
    /// Its peer.
    type Address: fmt::Debug + Clone + 'static;
    /// Ends a connection.
    type Ender: FnOnceEnd;
    /// The next connection; `given_up` is asked before each attempt.
    #[track_caller]
    fn accept_unless(&self, given_up: &dyn Fn() -> bool) -> io::Result<(Self::Stream, Self::Address)>;
    /// What ends the connection whoever has clones of it.
    fn ender(stream: &Self::Stream) -> Self::Ender;
    /// Whoever waits in `accept_unless` tries again.
    fn nudge(&self);
    /// Whether it was closed by the program.
    fn closed(&self) -> bool;
    /// The same listener.
    fn again(&self) -> io::Result<Self>;
}
/// Ends a connection.
pub trait FnOnceEnd: 'static {
    /// Now.
    fn end(self);
}

macro_rules! accepting {
    ($listener:ty, $stream:ty, $address:ty, $inner:ty) => {
        impl FnOnceEnd for Ender<$inner> {
            fn end(self) {
                Ender::end(self);
            }
        }
        impl Accepting for $listener {
            type Stream = $stream;
            type Address = $address;
            type Ender = Ender<$inner>;
            #[track_caller]
            fn accept_unless(&self, given_up: &dyn Fn() -> bool) -> io::Result<($stream, $address)> {
                <$listener>::accept_unless(self, given_up)
            }
            fn ender(stream: &$stream) -> Ender<$inner> {
                stream.ender()
            }
            fn nudge(&self) {
                <$listener>::nudge(self);
            }
            fn closed(&self) -> bool {
                self.is_closed()
            }
            fn again(&self) -> io::Result<Self> {
                self.try_clone()
            }
        }
    };
}
accepting! { TcpListener, TcpStream, std::net::SocketAddr, std::net::TcpStream }
accepting! { UnixListener, UnixStream, std::os::unix::net::SocketAddr, std::os::unix::net::UnixStream }
