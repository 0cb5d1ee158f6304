//! `trait Transport`: what the author of a wire writes. Users hold a `TransportRef`, which forwards to one of these.
use super::producer::{Producer, PullProducer, Taken};
#[cfg(feature = "tls")]
use super::tls::{Side, TlsInfo};
use super::{Address, FilePart, TransportRef};
use crate::clock::Clock;
use crate::deferred::Deferred;
use crate::failure::Failure;
use bytes::Bytes;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// A wire as its author sees it: TCP, UNIX, a policy around another wire, a test's. A wrapper names the wire
/// [`lower`](Transport::lower) and overrides what it changes; every other method goes there.
///
/// The rules of [`TransportRef`] bind its author: no method waits, fails or runs user code before it returns.
pub trait Transport {
    /// The wire below, which gets what is not overridden.
    fn lower(&self) -> Option<TransportRef> {
        None
    }
    /// Sends bytes, after those written before.
    fn write(&self, data: &[u8]);
    /// Sends bytes without copying them, where that is possible.
    fn write_bytes(&self, data: Bytes) {
        self.write(&data);
    }
    /// Sends several pieces as one.
    fn write_vectored(&self, parts: &[IoSlice<'_>]) {
        for part in parts {
            self.write(part);
        }
    }
    /// Sends a part of a file, after what was written before, without its bytes passing through the program. `false`: the wire
    /// cannot do that, and whoever asks reads and writes instead. A wire that looks at what passes cannot.
    fn write_file(&self, part: &FilePart) -> bool {
        let _ = part;
        false
    }
    /// Flushes, then closes.
    fn lose_connection(&self) {
        if let Some(lower) = self.lower() {
            lower.lose_connection();
        }
    }
    /// Flushes, then closes the write side.
    fn lose_write_connection(&self) {
        if let Some(lower) = self.lower() {
            lower.lose_write_connection();
        }
    }
    /// Closes without flushing.
    fn abort_connection(&self) {
        if let Some(lower) = self.lower() {
            lower.abort_connection();
        }
    }
    /// Closes as `lose_connection` does, though no producer is waited for, and gives `failure` as the reason.
    fn fail_connection(&self, failure: Failure) {
        match self.lower() {
            Some(lower) => lower.fail_connection(failure),
            None => self.lose_connection(),
        }
    }
    /// Sends a descriptor with the bytes that wait or that are written next.
    ///
    /// # Errors
    /// `Unsupported` on wires that carry none, `NotConnected`; the descriptor is closed.
    fn send_file_descriptor(&self, descriptor: OwnedFd) -> io::Result<()> {
        match self.lower() {
            Some(lower) => lower.send_file_descriptor(descriptor),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }
    /// Whether this side is closing the connection.
    fn is_disconnecting(&self) -> bool {
        self.lower().is_some_and(TransportRef::is_disconnecting)
    }
    /// Whether the connection is there: false once it has been lost.
    fn is_connected(&self) -> bool {
        self.lower().is_none_or(TransportRef::is_connected)
    }
    /// Bytes written that have not left.
    fn unsent(&self) -> usize {
        self.lower().map_or(0, TransportRef::unsent)
    }
    /// Fires when everything written so far has left, fails when the connection ends before that.
    fn when_flushed(&self) -> Deferred<()> {
        self.lower().map_or_else(|| Deferred::succeed(()), TransportRef::when_flushed)
    }
    /// Bounds a delivery, where that is possible.
    fn set_read_size(&self, bytes: usize) {
        if let Some(lower) = self.lower() {
            lower.set_read_size(bytes);
        }
    }
    /// Stops delivering.
    fn pause_producing(&self) {
        if let Some(lower) = self.lower() {
            lower.pause_producing();
        }
    }
    /// Goes on delivering.
    fn resume_producing(&self) {
        if let Some(lower) = self.lower() {
            lower.resume_producing();
        }
    }
    /// Takes a push producer.
    ///
    /// # Panics
    /// When there is one.
    #[track_caller]
    fn register_producer(&self, producer: Box<dyn Producer>) {
        if let Some(lower) = self.lower() {
            lower.register_producer(Forward(producer));
        }
    }
    /// Takes a pull producer.
    ///
    /// # Panics
    /// When there is one.
    #[track_caller]
    fn register_pull_producer(&self, producer: Box<dyn PullProducer>) {
        if let Some(lower) = self.lower() {
            lower.register_pull_producer(Forward(producer));
        }
    }
    /// Forgets the producer.
    fn unregister_producer(&self) {
        if let Some(lower) = self.lower() {
            lower.unregister_producer();
        }
    }
    /// Gives the producer up, untold, to who takes this wire's place: `start_tls` registers it again with the layer that it
    /// puts there.
    fn take_producer(&self) -> Option<Taken> {
        self.lower().and_then(TransportRef::take_producer)
    }
    /// The other end.
    fn peer(&self) -> Address {
        self.lower().map_or(Address::Gone, TransportRef::peer)
    }
    /// This end.
    fn host(&self) -> Address {
        self.lower().map_or(Address::Gone, TransportRef::host)
    }
    /// TCP_NODELAY, where there is such a thing.
    fn set_tcp_no_delay(&self, on: bool) {
        if let Some(lower) = self.lower() {
            lower.set_tcp_no_delay(on);
        }
    }
    /// SO_KEEPALIVE, where there is such a thing.
    fn set_tcp_keep_alive(&self, on: bool) {
        if let Some(lower) = self.lower() {
            lower.set_tcp_keep_alive(on);
        }
    }
    /// Whether what is written is encrypted.
    fn is_secure(&self) -> bool {
        self.lower().is_some_and(TransportRef::is_secure)
    }
    /// Whether a secure layer is there whose handshake is not done.
    fn is_handshaking(&self) -> bool {
        self.lower().is_some_and(TransportRef::is_handshaking)
    }
    /// What TLS has agreed on.
    #[cfg(feature = "tls")]
    fn tls_info(&self) -> Option<TlsInfo> {
        self.lower().and_then(TransportRef::tls_info)
    }
    /// Where TLS begins when it is started on this wire: right under its protocol, which is what giving `side` back says,
    /// or elsewhere, which an author sees to here.
    #[cfg(feature = "tls")]
    fn start_tls(&self, side: Side) -> Option<Side> {
        Some(side)
    }
    /// The clock the wire lives by. An author without a wire below gives one.
    fn clock(&self) -> Rc<dyn Clock> {
        match self.lower() {
            Some(lower) => lower.clock(),
            None => crate::reactor::Reactor::ended().handle(),
        }
    }
}

/// A boxed producer as a producer.
struct Forward<T: ?Sized>(Box<T>);
impl Producer for Forward<dyn Producer> {
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
impl PullProducer for Forward<dyn PullProducer> {
    fn produce(&mut self, consumer: TransportRef) -> bool {
        self.0.produce(consumer)
    }
    fn stop_producing(&mut self) {
        self.0.stop_producing();
    }
}
