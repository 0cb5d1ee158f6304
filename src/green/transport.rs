//! `GreenTransport`: a transport and its protocol as one object with blocking verbs (twistedutil's `GreenTransport`).
//!
//! What is here waits on `conn`, which the protocol underneath feeds. `read` has the verbs of raw bytes, `creator` connects,
//! `spawn_factory` accepts.
mod conn;
mod creator;
mod read;
mod spawn_factory;

pub use creator::GreenClientCreator;
pub use spawn_factory::{SimpleSpawnFactory, SpawnFactory};

use crate::address::Address;
use crate::error::{Busy, TimedOut};
use crate::failure::Result;
use crate::green::block::block_on;
use crate::protocols::codec::{Chunks, Decoder, Encoder, Lines, Raw};
use crate::transport::{HIGH_WATER, TransportRef};
use bytes::{Bytes, BytesMut};
use conn::{Conn, GreenProtocol};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A connection as a synchronous object. Clones are the same connection; the last one dropped closes it without waiting. All
/// verbs take `&self`, so that one green thread may write, or close, while another reads.
///
/// `D` says what a message is: [`Raw`] bytes as they come, [`Lines`], a [`Decoder`] of one's own. Several readers are served
/// in the order they came.
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

struct Decoding<D> {
    /// Out while it decodes, which is user code.
    decoder: RefCell<Option<D>>,
    /// It has been told of its wire.
    attached: Cell<bool>,
    /// `decode_eof` has said that nothing is left.
    drained: Cell<bool>,
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
        let decoder = RefCell::new(Some(decoder));
        let decoder = Decoding { decoder, attached: Cell::new(false), drained: Cell::new(false) };
        GreenTransport { conn, decoder: Rc::new(decoder) }
    }

    /// The next message; for [`Raw`], the bytes at hand. `None` after a clean close. After an unclean one, what had arrived is
    /// given first, then the error once, then `None`.
    ///
    /// # Errors
    /// [`ConnectionClosed`](crate::ConnectionClosed) with how the connection broke; the decoder's error, after which the
    /// connection is being closed.
    ///
    /// # Blocking
    /// Until there is a message or the end.
    #[track_caller]
    pub fn recv(&self) -> Result<Option<D::Item>> {
        self.recv_until(None)
    }
    /// As [`recv`](GreenTransport::recv), no longer than `limit`. Zero only looks, and is safe anywhere.
    ///
    /// # Errors
    /// [`TimedOut`] when `limit` has passed: nothing is lost. Otherwise as `recv`.
    ///
    /// # Blocking
    /// At most for `limit`.
    #[track_caller]
    pub fn recv_timeout(&self, limit: Duration) -> Result<Option<D::Item>> {
        self.recv_until(Some(limit))
    }
    #[track_caller]
    fn recv_until(&self, limit: Option<Duration>) -> Result<Option<D::Item>> {
        let mut deadline = None;
        loop {
            if let Some(item) = self.decode()? {
                self.conn.pass_on();
                return Ok(Some(item));
            }
            if self.conn.is_finished() {
                self.conn.tell_end()?;
                return Ok(None);
            }
            let left = match limit {
                None => None,
                Some(limit) => {
                    let deadline = *deadline.get_or_insert_with(|| Instant::now() + limit);
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(TimedOut(limit).into());
                    }
                    Some(left)
                }
            };
            self.conn.wait_input(left)?;
        }
    }
    /// One message from what has arrived. The decoder is user code: it is out while it runs.
    #[track_caller]
    fn decode(&self) -> Result<Option<D::Item>> {
        let input = self.conn.take_input();
        let finished = self.conn.is_finished();
        let decoder = self.decoder.decoder.borrow_mut().take();
        let Some(decoder) = decoder else {
            self.conn.put_back(input);
            let who = "the decoder of this connection".to_owned();
            return Err(Busy { holder: who.clone(), refused: who }.into());
        };
        // Given back also when the decoder panics or is unwound out of a wait of its own.
        let mut work = Work { green: self, decoder: Some(decoder), input };
        let decoder = match &mut work.decoder {
            Some(decoder) => decoder,
            None => return Ok(None),
        };
        if !self.decoder.attached.replace(true) {
            decoder.attached(self.transport(), &self.conn.0.ready());
        }
        let mut outcome = decoder.decode(&mut work.input);
        if finished && matches!(outcome, Ok(None)) && !self.decoder.drained.get() {
            outcome = decoder.decode_eof(&mut work.input);
            if matches!(outcome, Ok(None)) {
                self.decoder.drained.set(true);
            }
        }
        if let Err(failure) = &outcome {
            work.input.clear();
            self.conn.told();
            self.transport().fail_connection(failure.clone());
        }
        outcome
    }
    /// Messages until the connection is closed: `for line in &conn { let line = line?; .. }`.
    pub fn iter(&self) -> Iter<'_, D> {
        Iter { transport: self, failed: false }
    }

    /// Sends all of `data` and returns once the transport holds no more than its high-water mark, 65,536 bytes, so that a slow
    /// peer holds its writer back. Writing nothing returns at once.
    ///
    /// # Errors
    /// [`ConnectionClosed`](crate::ConnectionClosed) once the connection is gone, with how it ended.
    ///
    /// # Blocking
    /// While the transport holds more. Interrupted, the bytes stay queued.
    #[track_caller]
    pub fn write(&self, data: impl AsRef<[u8]>) -> Result<()> {
        self.write_slice(data.as_ref())
    }
    #[track_caller]
    fn write_slice(&self, data: &[u8]) -> Result<()> {
        let wire = self.conn.writable()?;
        wire.write(data);
        if wire.unsent() > HIGH_WATER { block_on(wire.when_flushed()) } else { Ok(()) }
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
            None => self.write(text.to_string()),
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
        if wire.unsent() > HIGH_WATER { block_on(wire.when_flushed()) } else { Ok(()) }
    }
    fn encode<M>(&self, message: M) -> Result<Bytes>
    where
        D: Encoder<M>,
    {
        let busy = || Busy { holder: "the decoder of this connection".into(), refused: "an encoder".into() };
        let decoder = self.decoder.decoder.borrow_mut().take().ok_or_else(busy)?;
        let mut work = Work { green: self, decoder: Some(decoder), input: BytesMut::new() };
        let mut output = BytesMut::new();
        if let Some(decoder) = &mut work.decoder {
            decoder.encode(message, &mut output)?;
        }
        Ok(output.freeze())
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
        if wire.unsent() == 0 { Ok(()) } else { block_on(wire.when_flushed()) }
    }
    /// `lose_connection`, then waits for the end (twistedutil's `loseConnection(wait=True)`). Again, or after the peer closed, it
    /// returns at once.
    ///
    /// # Errors
    /// How the connection broke, unless a reader has been told.
    ///
    /// # Blocking
    /// Until the output has left and the connection is gone.
    #[track_caller]
    pub fn close(&self) -> Result<()> {
        self.lose_connection();
        self.conn.wait_end()
    }
    /// The same connection with other messages: lines first, then a body. The bytes not yet parsed stay.
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

/// A decoder at work.
struct Work<'a, D: 'static> {
    green: &'a GreenTransport<D>,
    decoder: Option<D>,
    input: BytesMut,
}
impl<D> Drop for Work<'_, D> {
    fn drop(&mut self) {
        let old = self.green.decoder.decoder.replace(self.decoder.take());
        drop(old);
        self.green.conn.put_back(std::mem::take(&mut self.input));
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
    /// Sends a line and its delimiter; never waits (twistedutil's `sendline`).
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
