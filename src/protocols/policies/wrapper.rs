//! `Wrapper`: what the author of a policy writes, and `Layer`, the two wires between which it stands. Called by the parts of
//! `layered`, which make a protocol and a transport of it.
use crate::error::ConnectionClosed;
use crate::failure::{Failure, Result};
use crate::transport::{Producer, PullProducer, Taken, TransportRef, Wire};
use bytes::Bytes;
use std::fmt;
use std::io::IoSlice;

/// A policy's part in one connection (Twisted's `ProtocolWrapper`): it stands between the wire and the wrapped protocol, sees
/// what either tells the other, and passes it on. Every method passes it on unchanged unless overridden;
/// [`WrappingFactory`](super::WrappingFactory) puts it in place.
///
/// The methods named as a protocol's are called by the wire below, the others by the wrapped protocol through its transport;
/// these may be called while one of the former runs, hence `&self`. The rules of [`TransportRef`] bind them: they must not
/// wait, nor run the code of others.
///
/// ```
/// use twistlet::protocols::policies::{Layer, Wrapper, WrappingFactory};
/// # use twistlet::{Protocol, Reactor, TransportRef};
/// # struct Echo;
/// # impl Protocol for Echo { fn data_received(&mut self, t: TransportRef, data: &[u8]) { t.write(data) } }
///
/// /// For protocols that answer after the peer has sent its last: its end does not close the connection.
/// struct KeepOpen;
/// impl Wrapper for KeepOpen {
///     fn read_connection_lost(&self, _: Layer) {}
/// }
/// # let reactor = Reactor::new()?;
/// reactor.listen_tcp("127.0.0.1:0", WrappingFactory::new(|_peer| Some(KeepOpen), || Echo))?;
/// # reactor.close();
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[allow(unused_variables, reason = "the names are documentation")]
pub trait Wrapper: 'static {
    /// The connection is there; the wrapped protocol is told when this has returned.
    fn connection_made(&self, layer: Layer) {}
    /// Bytes from the peer.
    fn data_received(&self, layer: Layer, data: &[u8]) {
        layer.deliver(data);
    }
    /// The peer will send no more.
    fn read_connection_lost(&self, layer: Layer) {
        layer.deliver_read_lost();
    }
    /// The end; the wrapped protocol is told when this has returned.
    fn connection_lost(&self, layer: Layer, reason: &ConnectionClosed) {}

    /// The wrapped protocol writes.
    fn write(&self, layer: Layer, data: &[u8]) {
        layer.lower().write(data);
    }
    /// The same, of bytes that need not be copied.
    fn write_bytes(&self, layer: Layer, data: Bytes) {
        layer.lower().write_bytes(data);
    }
    /// The same, of several pieces.
    fn write_vectored(&self, layer: Layer, parts: &[IoSlice<'_>]) {
        layer.lower().write_vectored(parts);
    }
    /// The wrapped protocol closes the connection, which is "disconnecting" for it from here on.
    fn lose_connection(&self, layer: Layer) {
        layer.lower().lose_connection();
    }
    /// The wrapped protocol closes its write side.
    fn lose_write_connection(&self, layer: Layer) {
        layer.lower().lose_write_connection();
    }
    /// The wrapped protocol closes the connection without sending what waits.
    fn abort_connection(&self, layer: Layer) {
        layer.lower().abort_connection();
    }
    /// The wrapped protocol closes the connection with an error.
    fn fail_connection(&self, layer: Layer, failure: Failure) {
        layer.lower().fail_connection(failure);
    }
    /// The wrapped protocol wants no data for now.
    fn pause_producing(&self, layer: Layer) {
        layer.lower().pause_producing();
    }
    /// The wrapped protocol wants data again.
    fn resume_producing(&self, layer: Layer) {
        layer.lower().resume_producing();
    }
    /// The wrapped protocol registers a push producer.
    ///
    /// # Panics
    /// When there is one.
    #[track_caller]
    fn register_producer(&self, layer: Layer, producer: Box<dyn Producer>) {
        layer.register_producer(producer);
    }
    /// The wrapped protocol registers a pull producer.
    ///
    /// # Panics
    /// When there is one.
    #[track_caller]
    fn register_pull_producer(&self, layer: Layer, producer: Box<dyn PullProducer>) {
        layer.register_pull_producer(producer);
    }
    /// The wrapped protocol's producer is done.
    fn unregister_producer(&self, layer: Layer) {
        layer.lower().unregister_producer();
    }
    /// `start_tls` puts a layer under the wrapped protocol and takes its producer, untold, to register it with that layer. To be
    /// overridden by whoever overrides the registration and keeps the producer.
    fn take_producer(&self, layer: Layer) -> Option<Taken> {
        layer.take_producer()
    }
}

/// Where a [`Wrapper`] stands. `Copy`, so that its timers simply capture it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    lower: TransportRef,
    upper: TransportRef,
}

impl Layer {
    pub(super) fn new(lower: TransportRef, upper: TransportRef) -> Self {
        Layer { lower, upper }
    }
    /// The wire below.
    pub fn lower(self) -> TransportRef {
        self.lower
    }
    /// The wire above: the wrapped protocol's transport.
    pub fn upper(self) -> TransportRef {
        self.upper
    }
    /// Gives bytes to the wrapped protocol. Its panic closes the connection.
    #[inline]
    pub fn deliver(self, data: &[u8]) {
        self.check(Wire::feed(self.upper, data));
    }
    /// Tells the wrapped protocol that the peer will send no more; once it is resumed, when it has paused.
    pub fn deliver_read_lost(self) {
        self.check(Wire::end_reading(self.upper));
    }
    /// Registers a push producer of the wrapped protocol's with the wire below.
    ///
    /// # Panics
    /// When there is one.
    #[track_caller]
    pub fn register_producer(self, producer: Box<dyn Producer>) {
        self.lower.register_producer(Push(producer));
    }
    /// Registers a pull producer of the wrapped protocol's with the wire below. What it writes goes through the wire above.
    ///
    /// # Panics
    /// When there is one.
    #[track_caller]
    pub fn register_pull_producer(self, producer: Box<dyn PullProducer>) {
        self.lower.register_pull_producer(Pull { producer, upper: self.upper });
    }
    /// Takes the producer that the wire below has.
    pub fn take_producer(self) -> Option<Taken> {
        self.lower.take_producer()
    }
    /// The panic of the wrapped protocol, already logged, has ended the wire above: so it goes with the one below.
    #[inline]
    pub(super) fn check(self, told: Result<()>) {
        if let Err(failure) = told {
            self.lower.fail_connection(failure);
        }
    }
}
impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer").field("lower", &self.lower).finish_non_exhaustive()
    }
}

struct Push(Box<dyn Producer>);
impl Producer for Push {
    fn pause_producing(&mut self) {
        self.0.pause_producing();
    }
    fn resume_producing(&mut self) {
        self.0.resume_producing();
    }
    fn stop_producing(&mut self) {
        self.0.stop_producing();
    }
}

struct Pull {
    producer: Box<dyn PullProducer>,
    upper: TransportRef,
}
impl PullProducer for Pull {
    fn produce(&mut self, _: TransportRef) -> bool {
        self.producer.produce(self.upper)
    }
    fn stop_producing(&mut self) {
        self.producer.stop_producing();
    }
}
