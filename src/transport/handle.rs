//! `TransportRef`: the name of a wire, which protocols and everybody else hold. It looks the wire's transport up and
//! forwards; all behaviour is in the transport.
use super::wire::{self, Flow};
use super::{Address, FilePart, Producer, Protocol, PullProducer};
use crate::clock::{Clock, DelayedCall};
use crate::deferred::{Deferred, IntoDeferred, run_and_report};
use crate::error::ConnectionClosed;
use crate::failure::Failure;
use bytes::Bytes;
use std::fmt::{self, Write as _};
use std::io::{self, IoSlice};
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

/// A wire as its protocol, and everybody who was told of it, names it: Twisted's `ITransport`. `Copy`, so that callbacks
/// simply capture it; it owns nothing, so that nothing leaks. No method waits, fails or runs user code before it returns,
/// and once the connection is gone they do nothing.
///
/// What a method changes is visible at once: after `lose_connection` the transport `is_disconnecting`. What follows from it,
/// a producer's pause or `connection_lost`, comes when the present callback is over.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransportRef {
    slot: u32,
    generation: u32,
    thread: PhantomData<*const ()>,
}

impl TransportRef {
    pub(super) const fn new(slot: u32, generation: u32) -> Self {
        TransportRef { slot, generation, thread: PhantomData }
    }
    /// The name of no wire.
    pub(crate) const fn gone() -> Self {
        TransportRef::new(u32::MAX, 0)
    }
    pub(super) fn slot(self) -> usize {
        self.slot as usize
    }
    pub(super) fn generation(self) -> u32 {
        self.generation
    }

    /// Sends bytes, after those written before. Small writes are gathered and leave together when the batch of events has
    /// been dispatched. Ignored once the write side is closed; accepted between `lose_connection` and the close.
    #[inline]
    pub fn write(self, data: impl AsRef<[u8]>) {
        if let Some(transport) = wire::transport(self) {
            transport.write(data.as_ref());
        }
    }
    /// Sends text: `write!(transport, "{n}\r\n")`.
    pub fn write_fmt(self, text: fmt::Arguments<'_>) {
        match text.as_str() {
            Some(text) => self.write(text),
            None => {
                let mut buffer = String::new();
                // Formatting into a String fails only when a Display of the user's does: then what it wrote is sent.
                let _ = buffer.write_fmt(text);
                self.write(buffer);
            }
        }
    }
    /// Sends bytes without copying them, when they are many.
    pub fn write_bytes(self, data: Bytes) {
        if let Some(transport) = wire::transport(self) {
            transport.write_bytes(data);
        }
    }
    /// Sends several pieces as one (Twisted's `writeSequence`).
    pub fn write_vectored(self, parts: &[IoSlice<'_>]) {
        if let Some(transport) = wire::transport(self) {
            transport.write_vectored(parts);
        }
    }
    /// Sends a part of a file, if the wire can: see `Transport::write_file`.
    pub(crate) fn write_file(self, part: &FilePart) -> bool {
        wire::transport(self).is_some_and(|transport| transport.write_file(part))
    }
    /// Sends a descriptor to the peer, on UNIX sockets (Twisted's `sendFileDescriptor`): with the first byte that has not left yet,
    /// so write at least one byte for each descriptor in the same callback; otherwise the connection is lost with
    /// [`DescriptorOverrun`](crate::error::DescriptorOverrun). Our copy is closed when it has been sent, and when the connection is
    /// lost. More than 64 that wait make a producer pause.
    ///
    /// ```
    /// # use twistlet::{Protocol, Reactor, TransportRef};
    /// # struct Sink;
    /// # impl Protocol for Sink {
    /// #     fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
    /// # }
    /// # let reactor = Reactor::new()?;
    /// # let (near, _far) = std::os::unix::net::UnixStream::pair()?;
    /// # let transport = reactor.adopt_connection(near, || Sink)?.expect("accepted");
    /// let log = std::fs::File::open("/dev/null")?;
    /// transport.send_file_descriptor(log)?;
    /// transport.write(b"x");
    /// # Ok::<(), twistlet::Failure>(())
    /// ```
    ///
    /// # Errors
    /// `Unsupported` on wires that carry no descriptors; `NotConnected` when it is being lost, or gone. The descriptor is closed.
    pub fn send_file_descriptor(self, descriptor: impl Into<OwnedFd>) -> io::Result<()> {
        match wire::transport(self) {
            Some(transport) => transport.send_file_descriptor(descriptor.into()),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
    /// Stops reading, sends what was written, waits for a registered producer to unregister, then closes.
    ///
    /// Closing over unread input would reset the connection, and could take what was written with it: where there is any, the
    /// peer is told of the end, and what it goes on sending is thrown away, for two seconds at most. Input that comes only
    /// when all has left is still answered by a reset: who refuses a peer in the middle of a long message had better
    /// [close the write side](TransportRef::lose_write_connection) and hear it out.
    pub fn lose_connection(self) {
        if let Some(transport) = wire::transport(self) {
            transport.lose_connection();
        }
    }
    /// Sends what was written, then closes the write side only.
    pub fn lose_write_connection(self) {
        if let Some(transport) = wire::transport(self) {
            transport.lose_write_connection();
        }
    }
    /// Closes without sending what waits; the peer of a TCP connection sees a reset.
    pub fn abort_connection(self) {
        if let Some(transport) = wire::transport(self) {
            transport.abort_connection();
        }
    }
    /// Closes because of an error of the protocol's own: nothing more is received, what was written is sent without waiting
    /// for a producer, and `connection_lost` is told [`ConnectionClosed::Failed`](crate::ConnectionClosed::Failed) with
    /// `error`.
    #[track_caller]
    pub fn fail_connection(self, error: impl Into<Failure>) {
        let error = error.into();
        if let Some(transport) = wire::transport(self) {
            transport.fail_connection(error);
        }
    }
    /// Whether the connection is being closed by this side, or is gone.
    pub fn is_disconnecting(self) -> bool {
        wire::transport(self).is_none_or(|transport| transport.is_disconnecting())
    }
    /// No more `data_received` until `resume_producing`: the peer is held back by TCP.
    pub fn pause_producing(self) {
        if let Some(transport) = wire::pause(self) {
            transport.pause_producing();
        }
    }
    /// Goes on reading. No effect on a connection that is being closed.
    pub fn resume_producing(self) {
        if let Some(transport) = wire::resume(self) {
            transport.resume_producing();
            wire::resumed(self);
        }
    }
    /// Whether `pause_producing` was called last.
    pub fn is_paused(self) -> bool {
        wire::is_paused(self)
    }
    /// Whoever writes more than the peer takes: it is paused above 65,536 bytes of unsent output and resumed at none. It
    /// holds `lose_connection` back until it unregisters. On a connection that is gone it is told `stop_producing`.
    ///
    /// # Panics
    /// When a producer is registered already.
    #[track_caller]
    pub fn register_producer(self, producer: impl Producer + 'static) {
        match wire::transport(self) {
            Some(transport) => transport.register_producer(Box::new(producer)),
            None => super::producer::stop_soon(super::producer::Registered::Push(Box::new(producer))),
        }
    }
    /// Whoever writes when asked: once now and once each time all output has left.
    ///
    /// # Panics
    /// When a producer is registered already.
    #[track_caller]
    pub fn register_pull_producer(self, producer: impl PullProducer + 'static) {
        match wire::transport(self) {
            Some(transport) => transport.register_pull_producer(Box::new(producer)),
            None => super::producer::stop_soon(super::producer::Registered::Pull(Box::new(producer))),
        }
    }
    /// The producer is done; harmless when there is none.
    pub fn unregister_producer(self) {
        if let Some(transport) = wire::transport(self) {
            transport.unregister_producer();
        }
    }
    pub(crate) fn take_producer(self) -> Option<super::producer::Taken> {
        wire::transport(self).and_then(|transport| transport.take_producer())
    }
    /// Whether what is written is encrypted: from the start of a connection made by TLS, from `start_tls` on another.
    pub fn is_secure(self) -> bool {
        wire::transport(self).is_some_and(|transport| transport.is_secure())
    }
    /// Whether the wire is secure, and `handshake_completed` is still to come.
    pub fn is_handshaking(self) -> bool {
        wire::transport(self).is_some_and(|transport| transport.is_handshaking())
    }
    /// Whether TLS is starting on this wire: what was received before is void.
    pub(crate) fn is_void(self) -> bool {
        wire::is_void(self)
    }
    /// The other end. Answers through `connection_lost`; [`Address::Gone`] afterwards.
    pub fn peer(self) -> Address {
        wire::transport(self).map_or(Address::Gone, |transport| transport.peer())
    }
    /// This end. Answers through `connection_lost`; [`Address::Gone`] afterwards.
    pub fn host(self) -> Address {
        wire::transport(self).map_or(Address::Gone, |transport| transport.host())
    }
    /// TCP_NODELAY, which is on from the start because writes are gathered here. No effect on other wires.
    pub fn set_tcp_no_delay(self, on: bool) {
        if let Some(transport) = wire::transport(self) {
            transport.set_tcp_no_delay(on);
        }
    }
    /// SO_KEEPALIVE, off from the start. No effect on other wires.
    pub fn set_tcp_keep_alive(self, on: bool) {
        if let Some(transport) = wire::transport(self) {
            transport.set_tcp_keep_alive(on);
        }
    }
    /// Another protocol takes over when the present callback is over: the old one is dropped, the new one gets
    /// `connection_made`, then the bytes the old one left unread.
    pub fn switch_protocol(self, protocol: impl Protocol + 'static, unread: impl AsRef<[u8]>) {
        wire::switch(self, Box::new(protocol), unread.as_ref().to_vec());
    }
    /// Calls `call` in a later turn, at least `delay` from now, on the wire's own clock, the reactor's or a test's.
    /// Forgotten when the connection is lost.
    #[track_caller]
    pub fn call_later<R: IntoDeferred + 'static>(
        self,
        delay: Duration,
        call: impl FnOnce() -> R + 'static,
    ) -> DelayedCall {
        let call = self.clock().schedule(delay, Box::new(move || run_and_report("a delayed call", call)));
        wire::remember_timer(self, call);
        call
    }
    /// The clock this wire lives by.
    pub fn clock(self) -> Rc<dyn Clock> {
        wire::clock(self)
    }
    /// Whether there is still a connection.
    pub fn is_connected(self) -> bool {
        wire::transport(self).is_some_and(|transport| transport.is_connected())
    }
    /// Whether the protocol may go on delivering what it has found in its bytes.
    #[inline]
    pub(crate) fn flow(self) -> Flow {
        wire::flow(self)
    }
    /// Runs `event` in the place of one of the protocol's own, its panic contained: in a later turn, or when the present
    /// callback is over. Forgotten when the connection is gone.
    pub(crate) fn soon(self, event: impl FnOnce() + 'static) {
        wire::soon(self, Box::new(event));
    }
    /// As `soon`, once `resume_producing` is called.
    pub(crate) fn when_resumed(self, event: impl FnOnce() + 'static) {
        wire::when_resumed(self, Box::new(event));
    }
    /// Fires when everything written so far is with the operating system; fails with
    /// [`ConnectionClosed`](crate::ConnectionClosed) when the connection ends before that.
    pub fn when_flushed(self) -> Deferred<()> {
        match wire::transport(self) {
            Some(transport) => transport.when_flushed(),
            None => Deferred::fail(ConnectionClosed::Done),
        }
    }
    /// At most so many bytes a read; at least one. Default: as many as the reactor's buffer holds.
    pub fn set_read_size(self, bytes: usize) {
        if let Some(transport) = wire::transport(self) {
            transport.set_read_size(bytes);
        }
    }
    /// How many bytes were written and have not left yet.
    pub fn unsent(self) -> usize {
        wire::transport(self).map_or(0, |transport| transport.unsent())
    }
}

impl fmt::Debug for TransportRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportRef").field("slot", &self.slot).field("peer", &self.peer()).finish()
    }
}

/// Two wires can hold each other back: what a forwarder registers.
impl Producer for TransportRef {
    fn pause_producing(&mut self) {
        TransportRef::pause_producing(*self);
    }
    fn resume_producing(&mut self) {
        TransportRef::resume_producing(*self);
    }
    fn stop_producing(&mut self) {
        self.lose_connection();
    }
}
