//! `GreenTransport`: a transport and its protocol as one object with blocking verbs (twistedutil's `GreenTransport`).
//!
//! What is here waits on `conn`, which the protocol underneath feeds; `turn` says who reads, `decoding` makes messages. `read`
//! has the verbs of raw bytes, `creator` connects, `spawn_factory` accepts. What must never happen here: a decoder, or anything
//! else of the user's, run or dropped while something is borrowed.
mod conn;
mod creator;
mod decoding;
mod endpoint;
mod memory;
mod read;
mod spawn_factory;
#[cfg(feature = "dns")]
mod srv;
mod turn;

pub use creator::GreenClientCreator;
pub use spawn_factory::{SimpleSpawnFactory, SpawnFactory};

use crate::address::Address;
use crate::failure::{Failure, Result};
use crate::green::block::block_on;
use crate::protocols::codec::{Chunks, Decoder, Encoder, Lines, Raw};
use crate::transport::{HIGH_WATER, TransportRef};
use bytes::Bytes;
use conn::{Conn, GreenProtocol};
use decoding::Decoding;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;
use turn::Limit;

/// A connection as a synchronous object. Clones are the same connection; the last one dropped closes it without waiting. All
/// verbs take `&self`, so that one green thread may write, or close, while another reads.
///
/// `D` says what a message is: [`Raw`] bytes as they come, [`Lines`], a [`Decoder`] of one's own. Several readers are served
/// in the order they came, each with all it asked for; those who wait when the connection breaks all hear of it.
///
/// ```no_run
/// use twistlet::Reactor;
/// use twistlet::green::GreenClientCreator;
///
/// let conn = GreenClientCreator::new(&Reactor::current()).connect_tcp("www.example.org:80")?;
/// conn.write("GET / HTTP/1.0\r\n\r\n")?;
/// println!("{}", conn.read_all()?.escape_ascii());
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct GreenTransport<D: 'static = Raw> {
    conn: Rc<Handle>,
    decoder: Rc<Decoding<D>>,
}
/// Chunks as they were received (twistedutil's `UnbufferedTransport`).
pub type UnbufferedTransport = GreenTransport<Chunks>;
/// Lines (twistedutil's `basic.LineOnlyReceiverTransport`).
pub type LineOnlyReceiverTransport = GreenTransport<Lines>;

/// The connection as its users own it: when the last is gone it is closed.
struct Handle(Rc<Conn>);
impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(wire) = self.0.wire() {
            wire.lose_connection();
        }
    }
}
impl std::ops::Deref for Handle {
    type Target = Conn;
    fn deref(&self) -> &Conn {
        &self.0
    }
}

impl<D> Clone for GreenTransport<D> {
    fn clone(&self) -> Self {
        GreenTransport { conn: Rc::clone(&self.conn), decoder: Rc::clone(&self.decoder) }
    }
}
/// Identity.
impl<D> PartialEq for GreenTransport<D> {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.conn, &other.conn)
    }
}
impl<D> Eq for GreenTransport<D> {}
impl<D> fmt::Debug for GreenTransport<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GreenTransport").field("peer", &self.conn.peer()).finish_non_exhaustive()
    }
}

impl<D: Decoder> GreenTransport<D> {
    fn new(conn: Rc<Conn>, decoder: D) -> Self {
        GreenTransport::with_handle(Rc::new(Handle(conn)), decoder)
    }
    fn with_handle(conn: Rc<Handle>, decoder: D) -> Self {
        GreenTransport { conn, decoder: Rc::new(Decoding::new(decoder)) }
    }

    /// The next message; for [`Raw`], the bytes at hand. `None` after a clean close. After an unclean one, what had arrived is
    /// given first, then the error once, then `None`.
    ///
    /// # Errors
    /// [`ConnectionClosed`](crate::ConnectionClosed) with how the connection broke; the decoder's error, with which the
    /// connection is closed; [`Busy`](crate::error::Busy) for a decoder that reads its own connection.
    ///
    /// # Blocking
    /// Until there is a message or the end.
    #[track_caller]
    pub fn recv(&self) -> Result<Option<D::Item>> {
        self.recv_until(None)
    }
    /// As [`recv`](GreenTransport::recv), no longer than `limit`. Zero only looks, and is safe anywhere: what has arrived
    /// is given, and a chunk more let come for the next look.
    ///
    /// # Errors
    /// [`TimedOut`](crate::TimedOut) when `limit` has passed: nothing is lost. Otherwise as `recv`.
    ///
    /// # Blocking
    /// At most for `limit`.
    #[track_caller]
    pub fn recv_timeout(&self, limit: Duration) -> Result<Option<D::Item>> {
        self.recv_until(Some(limit))
    }
    #[track_caller]
    fn recv_until(&self, limit: Option<Duration>) -> Result<Option<D::Item>> {
        let mut limit = Limit::new(limit);
        let turn = self.conn.turn_within(&mut limit)?;
        let mut late = limit.is_zero();
        loop {
            if let Some(item) = self.decode()? {
                return Ok(Some(item));
            }
            if self.decoder.is_drained() {
                turn.tell_end()?;
                return Ok(None);
            }
            if self.conn.is_over() {
                // The end came while the decoder was at work.
                continue;
            }
            if late {
                if limit.is_zero() {
                    self.conn.ask();
                }
                return Err(limit.failure());
            }
            late = !turn.wait_input(limit.left())?;
        }
    }
    /// Messages until the connection is closed: `for line in &conn { let line = line?; .. }`.
    pub fn iter(&self) -> Iter<'_, D> {
        Iter { transport: self, failed: false }
    }

    /// Sends all of `data` and returns once the transport holds no more than its high-water mark, 65,536 bytes, so that a slow
    /// peer holds its writer back. Writing nothing returns at once.
    ///
    /// # Errors
    /// [`ConnectionClosed`](crate::ConnectionClosed) once the connection is gone, with how it ended, or once
    /// [`lose_write_connection`](GreenTransport::lose_write_connection) has closed the write side (a broken pipe).
    ///
    /// # Blocking
    /// While the transport holds more. Interrupted, the bytes stay queued. Where nobody may wait, in the main loop, a write
    /// that need not is fine.
    #[track_caller]
    pub fn write(&self, data: impl AsRef<[u8]>) -> Result<()> {
        self.write_slice(data.as_ref())
    }
    #[track_caller]
    fn write_slice(&self, data: &[u8]) -> Result<()> {
        let wire = self.conn.writable()?;
        wire.write(data);
        self.wait_for_room(wire)
    }
    #[track_caller]
    fn wait_for_room(&self, wire: TransportRef) -> Result<()> {
        if wire.unsent() > HIGH_WATER { self.wait_flushed(wire) } else { Ok(()) }
    }
    #[track_caller]
    fn wait_flushed(&self, wire: TransportRef) -> Result<()> {
        match block_on(wire.when_flushed()) {
            Ok(()) => Ok(()),
            Err(failure) => Err(self.conn.why(failure)),
        }
    }
    /// `write!(conn, ..)?`, with or without `std::io::Write` in scope.
    ///
    /// # Errors
    /// As [`write`](GreenTransport::write).
    ///
    /// # Blocking
    /// As [`write`](GreenTransport::write).
    #[track_caller]
    pub fn write_fmt(&self, text: fmt::Arguments<'_>) -> Result<()> {
        match text.as_str() {
            Some(text) => self.write(text),
            None => {
                let mut buffer = String::new();
                fmt::Write::write_fmt(&mut buffer, text).map_err(|_| Failure::from(fmt::Error))?;
                self.write(buffer)
            }
        }
    }
    /// One message, as the codec writes it.
    ///
    /// # Errors
    /// What the encoder refuses, with nothing sent; otherwise as [`write`](GreenTransport::write).
    ///
    /// # Blocking
    /// As [`write`](GreenTransport::write).
    #[track_caller]
    pub fn send<M>(&self, message: M) -> Result<()>
    where
        D: Encoder<M>,
    {
        let wire = self.conn.writable()?;
        wire.write_bytes(self.encode(message)?);
        self.wait_for_room(wire)
    }
    /// Until everything written is with the operating system.
    ///
    /// # Errors
    /// [`ConnectionClosed`](crate::ConnectionClosed) when the connection ends before that.
    ///
    /// # Blocking
    /// As long as that takes.
    #[track_caller]
    pub fn flush(&self) -> Result<()> {
        let wire = self.conn.writable()?;
        self.wait_flushed(wire)
    }
    /// `lose_connection`, then waits for the end (twistedutil's `loseConnection(wait=True)`). Again, or after the peer closed, it
    /// returns at once.
    ///
    /// # Errors
    /// How the connection broke, unless a reader had been told before.
    ///
    /// # Blocking
    /// Until the output has left and the connection is gone.
    #[track_caller]
    pub fn close(&self) -> Result<()> {
        self.lose_connection();
        self.conn.wait_end()
    }
    /// From here on the connection is TLS's (Twisted's `startTLS`); returns when the handshake is done. What has arrived and
    /// was not read is dropped: it may be an attacker's. Interrupted, the handshake goes on.
    ///
    /// # Errors
    /// [`TlsError`](crate::transport::tls::TlsError), or [`ConnectionClosed`](crate::ConnectionClosed) where the connection
    /// ended otherwise; in both cases it is closed.
    ///
    /// # Blocking
    /// Until the handshake is done.
    #[cfg(feature = "tls")]
    #[track_caller]
    pub fn start_tls(&self, side: impl Into<crate::transport::tls::Side>) -> Result<()> {
        let wire = self.conn.writable()?;
        wire.start_tls(side);
        self.conn.take_input();
        self.conn.wait_secure()?
    }
    /// The same connection with other messages: lines first, then a body. The bytes not yet parsed stay. A clone goes on with
    /// the old ones, and the two may take turns where one message ends and the next begins.
    pub fn reframe<E: Decoder>(self, decoder: E) -> GreenTransport<E> {
        GreenTransport::with_handle(Rc::clone(&self.conn), decoder)
    }
    /// Takes a wire over from its callback protocol, which is dropped when its present callback is over, with the bytes that
    /// it has not consumed.
    pub fn take_over(transport: TransportRef, decoder: D, unread: &[u8]) -> Self {
        let conn = Conn::new();
        conn.attach(transport, unread);
        transport.switch_protocol(GreenProtocol::new(&conn), b"");
        GreenTransport::new(conn, decoder)
    }

    /// The transport itself (twistedutil's `transport` attribute), whose verbs never wait. Its `pause_producing` is overruled by
    /// the next reader: [`pause_producing`](GreenTransport::pause_producing) here is not.
    pub fn transport(&self) -> TransportRef {
        self.conn.wire().unwrap_or_else(TransportRef::gone)
    }
    /// Holds readers back until [`resume_producing`](GreenTransport::resume_producing) was called as often: never waits.
    pub fn pause_producing(&self) {
        self.conn.pause();
    }
    /// Takes one [`pause_producing`](GreenTransport::pause_producing) back. One too many is harmless.
    pub fn resume_producing(&self) {
        self.conn.resume();
    }
    /// Sends what was written, then closes; never waits.
    pub fn lose_connection(&self) {
        self.transport().lose_connection();
    }
    /// Sends what was written, then closes the write side; never waits.
    pub fn lose_write_connection(&self) {
        self.transport().lose_write_connection();
    }
    /// Closes without sending; never waits.
    pub fn abort_connection(&self) {
        self.transport().abort_connection();
    }
    /// The other end; answers after the end too.
    pub fn peer(&self) -> Address {
        self.conn.peer()
    }
    /// This end; answers after the end too.
    pub fn host(&self) -> Address {
        self.conn.host()
    }
    /// TCP_NODELAY, on from the start.
    pub fn set_tcp_no_delay(&self, on: bool) {
        self.transport().set_tcp_no_delay(on);
    }
    /// At most so many bytes a read (twistedutil's `transportBufferSize`).
    pub fn set_read_size(&self, bytes: usize) {
        self.transport().set_read_size(bytes);
    }
}

impl GreenTransport<Lines> {
    /// The next line, without its delimiter; `None` after a clean close, when an unfinished line is dropped.
    ///
    /// # Errors
    /// As [`recv`](GreenTransport::recv); [`LineTooLong`](crate::error::LineTooLong).
    ///
    /// # Blocking
    /// Until there is a line or the end.
    #[track_caller]
    pub fn read_line(&self) -> Result<Option<Bytes>> {
        self.recv()
    }
    /// Sends a line and its delimiter; never waits, and does nothing once the connection is gone (twistedutil's `sendline`).
    pub fn send_line(&self, line: impl AsRef<[u8]>) {
        if let Ok(line) = self.encode(line) {
            self.transport().write_bytes(line);
        }
    }
}

/// What [`GreenTransport::iter`] makes: ends at a clean close, or behind an error.
#[derive(Debug)]
pub struct Iter<'a, D: 'static> {
    transport: &'a GreenTransport<D>,
    failed: bool,
}
impl<D: Decoder> Iterator for Iter<'_, D> {
    type Item = Result<D::Item>;
    fn next(&mut self) -> Option<Result<D::Item>> {
        if self.failed {
            return None;
        }
        let next = self.transport.recv().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}
impl<'a, D: Decoder> IntoIterator for &'a GreenTransport<D> {
    type Item = Result<D::Item>;
    type IntoIter = Iter<'a, D>;
    fn into_iter(self) -> Iter<'a, D> {
        self.iter()
    }
}
