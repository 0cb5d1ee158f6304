//! A transport read by asking, with Deferreds: what an `async fn` awaits. The callback core's sister of `GreenTransport`.
//!
//! `conn` is what the transport and its protocol share, `factory` accepts, `io` has the traits of async libraries. What must
//! never happen here: a decoder, a promise or a waker run or dropped while something is borrowed.
mod conn;
mod factory;
#[cfg(feature = "futures-io")]
mod io;

pub use factory::PullFactory;

use super::codec::{Decoder, Encoder, Raw};
use crate::address::Address;
use crate::deferred::Deferred;
use crate::failure::Result;
use crate::reactor::Reactor;
use crate::transport::{Destination, TransportRef, UnixPath};
use conn::{Conn, PullProtocol};
use std::fmt;
use std::rc::Rc;

/// A connection whose messages are asked for: `conn.recv().await?`. Nobody asking holds the peer back, by TCP; writing waits
/// for a peer that is slow to read. Clones are the same connection; the last one dropped closes it, after what was written.
///
/// `P` says what a message is: [`Raw`] bytes as they come, [`Lines`](super::Lines), a [`Decoder`] of one's own. Each verb gives
/// a [`Deferred`], for `await` and for callbacks alike. With the feature `futures-io` one for raw bytes is an `AsyncRead +
/// AsyncWrite`, so that an async library that is generic over those and wants no runtime of its own runs on the reactor.
///
/// ```
/// use twistlet::protocols::{Lines, PullFactory, PullTransport};
/// use twistlet::{Deferred, Reactor, Result};
///
/// async fn echo(conn: PullTransport<Lines>) -> Result<()> {
///     while let Some(line) = conn.recv().await? {
///         conn.send(line).await?;
///     }
///     Ok(())
/// }
///
/// let reactor = Reactor::new()?;
/// let port = reactor.listen_tcp("127.0.0.1:0", PullFactory::framed(Lines::new, |c| Deferred::from_future(echo(c))))?;
/// let to = port.address().socket().ok_or_else(|| twistlet::Failure::msg("no port"))?;
/// let client = reactor.spawn_local(async move {
///     let conn = PullTransport::connect_tcp(&reactor, to, Lines::new()).await?;
///     conn.send("hello").await?;
///     assert_eq!(conn.recv().await?.as_deref(), Some(&b"hello"[..]));
///     conn.close().await
/// });
/// let _ = client.add_both(move |_| reactor.stop());
/// reactor.run()?;
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct PullTransport<P: Decoder = Raw>(Rc<Handle<P>>);

/// The connection as its users own it: when the last is gone it is closed.
struct Handle<P: Decoder>(Rc<Conn<P>>);
impl<P: Decoder> Drop for Handle<P> {
    fn drop(&mut self) {
        self.0.wire().lose_connection();
    }
}

impl<P: Decoder> PullTransport<P> {
    fn new(conn: Rc<Conn<P>>) -> Self {
        PullTransport(Rc::new(Handle(conn)))
    }
    fn conn(&self) -> &Rc<Conn<P>> {
        &self.0.0
    }
    /// Connects by TCP: to `"host:port"`, `("host", port)`, a `SocketAddr`, or a [`Destination`] with a timeout and a local
    /// address. Fails with [`ConnectError`](crate::ConnectError). Cancelled, or dropped in an `await`, no connection is left.
    pub fn connect_tcp(reactor: &Reactor, to: impl Into<Destination>, decoder: P) -> Deferred<Self> {
        Self::connect(decoder, |protocol| reactor.connect_protocol(to, protocol))
    }
    /// Connects to a path of the file system. Otherwise as [`connect_tcp`](PullTransport::connect_tcp).
    pub fn connect_unix(reactor: &Reactor, path: impl Into<UnixPath>, decoder: P) -> Deferred<Self> {
        Self::connect(decoder, |protocol| reactor.connect_protocol_unix(path, protocol))
    }
    fn connect(decoder: P, connect: impl FnOnce(PullProtocol<P>) -> Deferred<TransportRef>) -> Deferred<Self> {
        let conn = Conn::new(decoder);
        // From here on somebody owns the connection, and closes it should nobody want it any more.
        let transport = PullTransport::new(Rc::clone(&conn));
        connect(PullProtocol::new(conn)).add_callback(move |_| Ok(transport))
    }
    /// Takes a wire over from its callback protocol, which is dropped when its present callback is over, with the bytes that
    /// it has not consumed. So any wire can be read by asking: an endpoint's, a policy's, a test's.
    pub fn take_over(transport: TransportRef, decoder: P, unread: &[u8]) -> Self {
        let conn = Conn::new(decoder);
        conn.attach(transport, unread);
        transport.switch_protocol(PullProtocol::new(Rc::clone(&conn)), b"");
        PullTransport::new(conn)
    }

    /// The next message; `None` after a clean close. After an unclean one, what had arrived is given first, then the error
    /// once, then `None`. Several who ask are served in the order they came. Cancelled, it takes no message.
    ///
    /// Fails with [`ConnectionClosed`](crate::ConnectionClosed), how the connection broke; with the decoder's error or
    /// panic, with which the connection is closed.
    pub fn recv(&self) -> Deferred<Option<P::Item>> {
        self.conn().recv()
    }
    /// Sends all of `data`. Fires at once while the transport holds no more than its high-water mark, 65,536 bytes, and
    /// otherwise when all has left: so a slow peer holds back whoever awaits it.
    ///
    /// Fails with [`ConnectionClosed`](crate::ConnectionClosed) when the connection is gone, or its write side closed.
    pub fn write(&self, data: impl AsRef<[u8]>) -> Deferred<()> {
        match self.conn().writable() {
            Ok(wire) => {
                wire.write(data);
                self.conn().room(wire)
            }
            Err(gone) => Deferred::fail(gone),
        }
    }
    /// One message, as the codec writes it. Otherwise as [`write`](PullTransport::write); fails with what the encoder refuses,
    /// or with [`Busy`](crate::error::Busy) from within the decoder, and nothing is sent then.
    pub fn send<M>(&self, message: M) -> Deferred<()>
    where
        P: Encoder<M>,
    {
        match self.try_send(message) {
            Ok(wire) => self.conn().room(wire),
            Err(failure) => Deferred::fail(failure),
        }
    }
    fn try_send<M>(&self, message: M) -> Result<TransportRef>
    where
        P: Encoder<M>,
    {
        let wire = self.conn().writable()?;
        wire.write_bytes(self.conn().encode(message)?);
        Ok(wire)
    }
    /// Fires when everything written is with the operating system. Fails with
    /// [`ConnectionClosed`](crate::ConnectionClosed) when the connection ends before that.
    pub fn flush(&self) -> Deferred<()> {
        match self.conn().writable() {
            Ok(wire) => self.conn().flushed(wire),
            Err(gone) => Deferred::fail(gone),
        }
    }
    /// Sends what was written, then closes; fires when the connection is gone. Again, it fires at once. Fails with how the
    /// connection broke, unless a reader had been told before.
    pub fn close(&self) -> Deferred<()> {
        self.transport().lose_connection();
        self.conn().when_ended()
    }
    /// Sends what was written, then closes the write side; the peer's messages still come.
    pub fn lose_write_connection(&self) {
        self.transport().lose_write_connection();
    }
    /// Closes without sending what waits.
    pub fn abort_connection(&self) {
        self.transport().abort_connection();
    }
    /// The transport itself, whose verbs take effect at once. Its `pause_producing` is overruled by the next who asks.
    pub fn transport(&self) -> TransportRef {
        self.conn().wire()
    }
    /// The other end; answers after the end too.
    pub fn peer(&self) -> Address {
        self.conn().peer()
    }
    /// This end; answers after the end too.
    pub fn host(&self) -> Address {
        self.conn().host()
    }
}

impl<P: Decoder> Clone for PullTransport<P> {
    fn clone(&self) -> Self {
        PullTransport(Rc::clone(&self.0))
    }
}
/// Identity.
impl<P: Decoder> PartialEq for PullTransport<P> {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}
impl<P: Decoder> Eq for PullTransport<P> {}
impl<P: Decoder> fmt::Debug for PullTransport<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullTransport").field("peer", &self.peer()).finish_non_exhaustive()
    }
}
