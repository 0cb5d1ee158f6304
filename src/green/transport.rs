//! A transport and its protocol as one object with blocking verbs.
use crate::deferred::IntoDeferred;
use crate::failure::Result;
use crate::protocols::codec::{Chunks, Decoder, Encoder, Lines, Raw};
use crate::reactor::Reactor;
use crate::transport::{Address, Destination, Factory, Protocol, TransportRef};
use bytes::Bytes;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

/// Clones are the same connection; the last one dropped closes it without waiting.
pub struct GreenTransport<D = Raw>(PhantomData<Rc<D>>);
pub type UnbufferedTransport = GreenTransport<Chunks>;
pub type LineOnlyReceiverTransport = GreenTransport<Lines>;

impl<D> Clone for GreenTransport<D> {
    fn clone(&self) -> Self {
        todo!()
    }
}
/// Identity.
impl<D> PartialEq for GreenTransport<D> {
    fn eq(&self, other: &Self) -> bool {
        todo!()
    }
}
impl<D: Decoder> GreenTransport<D> {
    /// The next message (for `Raw`, the bytes at hand); `None` after a clean close.
    pub fn recv(&self) -> Result<Option<D::Item>> {
        todo!()
    }
    pub fn recv_timeout(&self, limit: Duration) -> Result<Option<D::Item>> {
        todo!()
    }
    pub fn iter(&self) -> Iter<'_, D> {
        todo!()
    }
    /// All of `data`; waits while the transport holds more than its high-water mark.
    pub fn write(&self, data: impl AsRef<[u8]>) -> Result {
        todo!()
    }
    /// `write!(conn, ..)?`, with or without `std::io::Write` in scope.
    pub fn write_fmt(&self, text: fmt::Arguments<'_>) -> Result {
        todo!()
    }
    /// One message, as the codec writes it; waits as `write` does.
    pub fn send<M>(&self, message: M) -> Result
    where
        D: Encoder<M>,
    {
        todo!()
    }
    /// Until everything written is with the operating system.
    pub fn flush(&self) -> Result {
        todo!()
    }
    /// `lose_connection`, then waits for the end.
    pub fn close(&self) -> Result {
        todo!()
    }
    /// The bytes not yet parsed stay: lines first, then a body.
    pub fn reframe<E: Decoder>(self, decoder: E) -> GreenTransport<E> {
        todo!()
    }

    /// Takes a wire over from its callback protocol, with the bytes that one has not consumed.
    pub fn take_over(transport: TransportRef, decoder: D, unread: &[u8]) -> Self {
        todo!()
    }

    // The rest never waits and is the transport's own.
    pub fn transport(&self) -> TransportRef {
        todo!()
    }
    pub fn lose_connection(&self) {
        self.transport().lose_connection()
    }
    pub fn lose_write_connection(&self) {
        self.transport().lose_write_connection()
    }
    pub fn abort_connection(&self) {
        self.transport().abort_connection()
    }
    pub fn peer(&self) -> Address {
        self.transport().peer()
    }
    pub fn host(&self) -> Address {
        self.transport().host()
    }
    pub fn set_tcp_no_delay(&self, on: bool) {
        self.transport().set_tcp_no_delay(on)
    }
}
impl GreenTransport<Raw> {
    /// Everything until the peer closes.
    pub fn read_all(&self) -> Result<Bytes> {
        todo!()
    }
    /// `n` bytes; fewer only at the end.
    pub fn read_n(&self, n: usize) -> Result<Bytes> {
        todo!()
    }
}
impl GreenTransport<Lines> {
    pub fn read_line(&self) -> Result<Option<Bytes>> {
        self.recv()
    }
    /// Never waits.
    pub fn send_line(&self, line: impl AsRef<[u8]>) {
        todo!()
    }
}

pub struct Iter<'a, D>(&'a GreenTransport<D>);
impl<D: Decoder> Iterator for Iter<'_, D> {
    type Item = Result<D::Item>;
    fn next(&mut self) -> Option<Result<D::Item>> {
        todo!()
    }
}
impl<'a, D: Decoder> IntoIterator for &'a GreenTransport<D> {
    type Item = Result<D::Item>;
    type IntoIter = Iter<'a, D>;
    fn into_iter(self) -> Iter<'a, D> {
        self.iter()
    }
}

macro_rules! io { ($($t:ty)*) => { $(
    impl io::Read for $t {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> { todo!() }
    }
    impl io::Write for $t {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> { todo!() }
        fn flush(&mut self) -> io::Result<()> { todo!() }
    }
)* } }
io! { GreenTransport<Raw> &GreenTransport<Raw> }
/// `framed` takes what makes a decoder for each connection: `GreenClientCreator::new(&reactor).framed(Lines::new)`.
pub struct GreenClientCreator<D = Raw>(PhantomData<Rc<D>>);
impl GreenClientCreator {
    pub fn new(reactor: &Reactor) -> Self {
        todo!()
    }
}
impl<D: Decoder> GreenClientCreator<D> {
    pub fn framed<E: Decoder>(self, decoder: impl Fn() -> E + 'static) -> GreenClientCreator<E> {
        todo!()
    }
    pub fn connect_tcp(&self, to: impl Into<Destination>) -> Result<GreenTransport<D>> {
        todo!()
    }
    pub fn connect_unix(&self, path: impl AsRef<Path>) -> Result<GreenTransport<D>> {
        todo!()
    }
}

/// `SpawnFactory` without the set of handlers.
pub struct SimpleSpawnFactory<D = Raw>(PhantomData<Rc<D>>);
impl SimpleSpawnFactory {
    pub fn new<R: IntoDeferred>(handler: impl Fn(GreenTransport) -> R + 'static) -> Self {
        todo!()
    }
    pub fn framed<D: Decoder, R: IntoDeferred>(
        decoder: impl Fn() -> D + 'static,
        handler: impl Fn(GreenTransport<D>) -> R + 'static,
    ) -> SimpleSpawnFactory<D> {
        todo!()
    }
}
impl<D: Decoder> Factory for SimpleSpawnFactory<D> {
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        todo!()
    }
}

/// A green thread for each connection, which is closed when the handler is done. Clones share the set of handlers.
pub struct SpawnFactory<D = Raw>(PhantomData<Rc<D>>);
impl<D> Clone for SpawnFactory<D> {
    fn clone(&self) -> Self {
        todo!()
    }
}
impl SpawnFactory {
    pub fn new<R: IntoDeferred>(handler: impl Fn(GreenTransport) -> R + 'static) -> Self {
        todo!()
    }
    pub fn framed<D: Decoder, R: IntoDeferred>(
        decoder: impl Fn() -> D + 'static,
        handler: impl Fn(GreenTransport<D>) -> R + 'static,
    ) -> SpawnFactory<D> {
        todo!()
    }
}
impl<D: Decoder> SpawnFactory<D> {
    pub fn keep_open(self) -> Self {
        todo!()
    }
    pub fn wait_all(&self) -> Vec<Result> {
        todo!()
    }
}
impl<D: Decoder> Factory for SpawnFactory<D> {
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        todo!()
    }
}
