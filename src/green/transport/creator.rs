//! `GreenClientCreator`: connecting as a synchronous call (twistedutil's, modelled on Twisted's `ClientCreator`).
use super::conn::{Conn, GreenProtocol};
use super::{GreenTransport, Handle};
use crate::deferred::Deferred;
use crate::failure::Result;
use crate::green::block::block_on;
use crate::protocols::codec::{Decoder, Raw};
use crate::reactor::Reactor;
use crate::transport::process::Command;
use crate::transport::{Destination, Ends, TransportRef, UnixPath};
use std::fmt;
use std::rc::Rc;

/// Connects, and gives the connected [`GreenTransport`]. `framed` takes what makes a decoder for each connection:
/// `GreenClientCreator::new(&reactor).framed(Lines::new)`.
pub struct GreenClientCreator<D: 'static = Raw> {
    pub(super) reactor: Reactor,
    pub(super) decoder: Rc<dyn Fn() -> D>,
}

impl GreenClientCreator {
    /// For raw bytes, on `reactor`.
    pub fn new(reactor: &Reactor) -> Self {
        GreenClientCreator { reactor: *reactor, decoder: Rc::new(|| Raw) }
    }
}
impl<D: Decoder> GreenClientCreator<D> {
    /// The same, with messages of another kind.
    pub fn framed<E: Decoder>(self, decoder: impl Fn() -> E + 'static) -> GreenClientCreator<E> {
        GreenClientCreator { reactor: self.reactor, decoder: Rc::new(decoder) }
    }
    /// Connects by TCP: to `"host:port"`, `("host", port)`, a `SocketAddr`, or a
    /// [`Destination`] with a timeout and a local address.
    ///
    /// # Errors
    /// [`ConnectError`](crate::ConnectError); [`ReactorError::Stopped`](crate::error::ReactorError::Stopped).
    ///
    /// # Blocking
    /// Until connected. Interrupted, no connection is left behind.
    #[track_caller]
    pub fn connect_tcp(&self, to: impl Into<Destination>) -> Result<GreenTransport<D>> {
        self.make(|protocol| self.reactor.connect_protocol(to, protocol))
    }
    /// Connects to a path of the file system.
    ///
    /// # Errors
    /// As [`connect_tcp`](GreenClientCreator::connect_tcp).
    ///
    /// # Blocking
    /// Until connected.
    #[track_caller]
    pub fn connect_unix(&self, path: impl Into<UnixPath>) -> Result<GreenTransport<D>> {
        self.make(|protocol| self.reactor.connect_protocol_unix(path, protocol))
    }
    /// Connects by TCP and TLS, and returns when the handshake is done. `side` is a
    /// [`ClientConfig`](crate::transport::tls::ClientConfig), whose server must be whom `to` names, or one with
    /// [another name](crate::transport::tls::ClientConfig::named).
    ///
    /// # Errors
    /// As [`connect_tcp`](GreenClientCreator::connect_tcp); [`ConnectError::Tls`](crate::ConnectError::Tls) with the
    /// [`TlsError`](crate::transport::tls::TlsError), or with how the connection ended.
    ///
    /// # Blocking
    /// Until connected and secure. Interrupted, no connection is left behind.
    #[cfg(feature = "tls")]
    #[track_caller]
    pub fn connect_tls(
        &self,
        to: impl Into<Destination>,
        side: impl Into<crate::transport::tls::Side>,
    ) -> Result<GreenTransport<D>> {
        use crate::transport::tls::{TlsProtocol, host_of};
        let to = to.into();
        let side = side.into().or_named(host_of(&to));
        let conn = self.make(|protocol| self.reactor.connect_protocol(to, TlsProtocol::new(side, protocol)))?;
        match conn.conn.wait_secure()? {
            Ok(()) => Ok(conn),
            Err(failure) => Err(crate::error::ConnectError::Tls(failure).into()),
        }
    }
    /// Starts a child process and talks to it as to a connection; see
    /// [`Reactor::connect_process`](crate::Reactor::connect_process).
    ///
    /// ```
    /// use twistlet::Reactor;
    /// use twistlet::green::GreenClientCreator;
    ///
    /// let sort = GreenClientCreator::new(&Reactor::current()).connect_process("sort")?;
    /// sort.write("pear\napple\n")?;
    /// sort.lose_write_connection();
    /// assert_eq!(sort.read_all()?, "apple\npear\n");
    /// # Ok::<(), twistlet::Failure>(())
    /// ```
    ///
    /// # Errors
    /// [`ConnectError::Failed`](crate::ConnectError::Failed) around a
    /// [`SpawnError`](crate::transport::process::SpawnError);
    /// [`ReactorError::Stopped`](crate::error::ReactorError::Stopped).
    ///
    /// # Blocking
    /// Until it has started. Interrupted, it is killed.
    #[track_caller]
    pub fn connect_process(&self, command: impl Into<Command>) -> Result<GreenTransport<D>> {
        self.make(|protocol| self.reactor.connect_process(command, protocol))
    }
    /// Standard input and output; see [`Reactor::stdio`](crate::Reactor::stdio).
    ///
    /// # Errors
    /// As `Reactor::stdio`.
    ///
    /// # Blocking
    /// Never.
    #[track_caller]
    pub fn stdio(&self) -> Result<GreenTransport<D>> {
        let handle = Rc::new(Handle(Conn::new()));
        let transport = self.reactor.stdio(GreenProtocol::new(&handle.0))?;
        handle.attach(transport, b"");
        Ok(GreenTransport::with_handle(handle, (self.decoder)()))
    }
    /// Open descriptors as a connection; see [`Reactor::adopt_stream`](crate::Reactor::adopt_stream).
    ///
    /// # Errors
    /// As `Reactor::adopt_stream`.
    ///
    /// # Blocking
    /// Never.
    #[track_caller]
    pub fn adopt_stream(&self, ends: impl Into<Ends>) -> Result<GreenTransport<D>> {
        let handle = Rc::new(Handle(Conn::new()));
        let transport = self.reactor.adopt_stream(ends, GreenProtocol::new(&handle.0))?;
        handle.attach(transport, b"");
        Ok(GreenTransport::with_handle(handle, (self.decoder)()))
    }
    #[track_caller]
    fn make(&self, connect: impl FnOnce(GreenProtocol) -> Deferred<TransportRef>) -> Result<GreenTransport<D>> {
        // From here on somebody owns the connection, and closes it should the decoder panic.
        let handle = Rc::new(Handle(Conn::new()));
        block_on(connect(GreenProtocol::new(&handle.0)))?;
        Ok(GreenTransport::with_handle(handle, (self.decoder)()))
    }
}
impl<D> Clone for GreenClientCreator<D> {
    fn clone(&self) -> Self {
        GreenClientCreator { reactor: self.reactor, decoder: Rc::clone(&self.decoder) }
    }
}
impl<D> fmt::Debug for GreenClientCreator<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GreenClientCreator").finish_non_exhaustive()
    }
}
