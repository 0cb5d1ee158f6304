//! Protocol, Factory, Transport, Producer.
pub use crate::address::Address;
use crate::clock::{Clock, DelayedCall};
use crate::deferred::{Deferred, IntoDeferred};
use crate::error::{ConnectError, ConnectionClosed};
use crate::failure::Result;
use crate::shared::Shared;
use bytes::Bytes;
use std::fmt;
use std::io::IoSlice;
use std::marker::PhantomData;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

/// One connection's reactions. The reactor owns it; no method is ever entered while another runs.
pub trait Protocol {
    fn connection_made(&mut self, transport: TransportRef) {}
    fn data_received(&mut self, transport: TransportRef, data: &[u8]);
    /// The peer will send no more. Default: flush and close.
    fn read_connection_lost(&mut self, transport: TransportRef) {
        transport.lose_connection()
    }
    fn write_connection_lost(&mut self, transport: TransportRef) {}
    fn handshake_completed(&mut self, transport: TransportRef) {}
    /// Exactly once, last.
    fn connection_lost(&mut self, transport: TransportRef, reason: &ConnectionClosed) {}
}
macro_rules! forward_protocol { ($self:ident => $inner:expr) => {
    fn connection_made(&mut $self, transport: TransportRef) { $inner.connection_made(transport) }
    fn data_received(&mut $self, transport: TransportRef, data: &[u8]) { $inner.data_received(transport, data) }
    fn read_connection_lost(&mut $self, transport: TransportRef) { $inner.read_connection_lost(transport) }
    fn write_connection_lost(&mut $self, transport: TransportRef) { $inner.write_connection_lost(transport) }
    fn handshake_completed(&mut $self, transport: TransportRef) { $inner.handshake_completed(transport) }
    fn connection_lost(&mut $self, transport: TransportRef, reason: &ConnectionClosed) { $inner.connection_lost(transport, reason) }
} }
impl<P: Protocol + ?Sized> Protocol for Box<P> {
    forward_protocol!(self => (**self));
}
impl<P: Protocol + 'static> Protocol for Shared<P> {
    forward_protocol!(self => self.borrow());
}

/// A wire as its protocol, and everybody who was told of it, names it. `Copy`, so that callbacks simply capture it; it
/// owns nothing, so that nothing leaks; the same before and after `start_tls`. No method waits, fails or runs user code
/// before it returns, and once the connection is gone they do nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransportRef {
    slot: u32,
    generation: u32,
    thread: PhantomData<*const ()>,
}

impl TransportRef {
    pub fn write(self, data: impl AsRef<[u8]>) {
        todo!()
    }
    /// `write!(transport, "{n}\r\n")`
    pub fn write_fmt(self, text: fmt::Arguments<'_>) {
        todo!()
    }
    /// Queued without copying.
    pub fn write_bytes(self, data: Bytes) {
        todo!()
    }
    pub fn write_vectored(self, parts: &[IoSlice<'_>]) {
        todo!()
    }
    /// Flush, then close.
    pub fn lose_connection(self) {
        todo!()
    }
    /// Flush, then half-close.
    pub fn lose_write_connection(self) {
        todo!()
    }
    pub fn abort_connection(self) {
        todo!()
    }
    pub fn is_disconnecting(self) -> bool {
        todo!()
    }
    pub fn pause_producing(self) {
        todo!()
    }
    pub fn resume_producing(self) {
        todo!()
    }
    /// # Panics When one is registered.
    #[track_caller]
    pub fn register_producer(self, producer: impl Producer + 'static) {
        todo!()
    }
    #[track_caller]
    pub fn register_pull_producer(self, producer: impl PullProducer + 'static) {
        todo!()
    }
    pub fn unregister_producer(self) {
        todo!()
    }
    pub fn peer(self) -> Address {
        todo!()
    }
    pub fn host(self) -> Address {
        todo!()
    }
    pub fn set_tcp_no_delay(self, on: bool) {
        todo!()
    }
    pub fn set_tcp_keep_alive(self, on: bool) {
        todo!()
    }
    /// Another protocol takes over after the current callback: `connection_made`, then the bytes the old one left unread.
    pub fn switch_protocol(self, protocol: impl Protocol + 'static, unread: impl AsRef<[u8]>) {
        todo!()
    }
    /// On the wire's own clock, the reactor's or a test's; forgotten when the connection is lost.
    pub fn call_later<R: IntoDeferred + 'static>(
        self,
        delay: Duration,
        call: impl FnOnce() -> R + 'static,
    ) -> DelayedCall {
        todo!()
    }
    pub fn clock(self) -> Rc<dyn Clock> {
        todo!()
    }
}
impl fmt::Debug for TransportRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}

/// What the author of a transport writes; its users hold a `TransportRef`. A wrapper names the wire below and overrides
/// what it changes.
pub trait Transport {
    fn lower(&self) -> Option<TransportRef> {
        None
    }
    fn write(&self, data: &[u8]);
    fn write_bytes(&self, data: Bytes) {
        self.write(&data)
    }
    fn write_vectored(&self, parts: &[IoSlice<'_>]) {
        todo!()
    }
    fn lose_connection(&self) {
        todo!("lower")
    }
    fn lose_write_connection(&self) {
        todo!("lower")
    }
    fn abort_connection(&self) {
        todo!("lower")
    }
    fn is_disconnecting(&self) -> bool {
        todo!("lower")
    }
    fn pause_producing(&self) {
        todo!("lower")
    }
    fn resume_producing(&self) {
        todo!("lower")
    }
    fn register_producer(&self, producer: Box<dyn Producer>) {
        todo!("lower")
    }
    fn unregister_producer(&self) {
        todo!("lower")
    }
    fn peer(&self) -> Address {
        todo!("lower")
    }
    fn host(&self) -> Address {
        todo!("lower")
    }
    fn set_tcp_no_delay(&self, on: bool) {}
    fn set_tcp_keep_alive(&self, on: bool) {}
    fn clock(&self) -> Rc<dyn Clock> {
        todo!("lower")
    }
}

/// The owner of a wire made by hand: a policy's, a test's.
pub struct Wire(Rc<()>);
impl Wire {
    pub fn new(transport: impl Transport + 'static, protocol: impl Protocol + 'static) -> Self {
        todo!()
    }
    pub fn transport(&self) -> TransportRef {
        todo!()
    }
    // What a reactor does to a wire:
    pub fn deliver(&self, data: &[u8]) {
        todo!()
    }
    pub fn deliver_lost(self, reason: &ConnectionClosed) {
        todo!()
    }
}

/// A push producer: goes on until paused.
pub trait Producer {
    fn pause_producing(&mut self);
    fn resume_producing(&mut self);
    fn stop_producing(&mut self);
}
/// A pull producer: writes once each time it is asked.
pub trait PullProducer {
    /// `false` when there is no more; the consumer then unregisters it.
    fn produce(&mut self, consumer: TransportRef) -> bool;
    fn stop_producing(&mut self) {}
}
/// Two wires can hold each other back.
impl Producer for TransportRef {
    fn pause_producing(&mut self) {
        TransportRef::pause_producing(*self)
    }
    fn resume_producing(&mut self) {
        TransportRef::resume_producing(*self)
    }
    fn stop_producing(&mut self) {
        self.lose_connection()
    }
}

#[diagnostic::on_unimplemented(
    message = "`{Self}` does not make protocols",
    note = "a closure without arguments that returns a `Protocol` is a factory; to look at the peer's address use `from_fn(|peer| ..)`"
)]
/// Makes a protocol for each connection. A closure without arguments is one: `listen_tcp(addr, || Echo)`.
pub trait Factory {
    /// `None` declines the connection.
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>>;
    fn start_factory(&mut self) {}
    fn stop_factory(&mut self) {}
}
pub trait ClientFactory: Factory {
    fn started_connecting(&mut self, connector: Connector) {}
    fn client_connection_failed(&mut self, connector: Connector, reason: &ConnectError) {
        todo!("log at warn level")
    }
    fn client_connection_lost(&mut self, connector: Connector, reason: &ConnectionClosed) {}
}
impl<F, P> Factory for F
where
    F: FnMut() -> P,
    P: Protocol + 'static,
{
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        Some(Box::new(self()))
    }
}
impl<F, P> ClientFactory for F
where
    F: FnMut() -> P,
    P: Protocol + 'static,
{
}
impl<F: Factory + 'static> Factory for Shared<F> {
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        self.borrow().build_protocol(peer)
    }
}
impl<F: ClientFactory + 'static> ClientFactory for Shared<F> {}
impl Factory for Box<dyn Factory> {
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        (**self).build_protocol(peer)
    }
}

/// A factory that looks at the peer, and may decline it.
pub fn from_fn<F, P>(f: F) -> FromFn<F>
where
    F: FnMut(&Address) -> Option<P>,
    P: Protocol + 'static,
{
    FromFn(f)
}
pub struct FromFn<F>(F);
impl<F, P> Factory for FromFn<F>
where
    F: FnMut(&Address) -> Option<P>,
    P: Protocol + 'static,
{
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        Some(Box::new((self.0)(peer)?))
    }
}
impl<F, P> ClientFactory for FromFn<F>
where
    F: FnMut(&Address) -> Option<P>,
    P: Protocol + 'static,
{
}

/// Connects again, later and later. `Backoff` is the half that a protocol keeps.
pub struct ReconnectingClientFactory<F> {
    factory: F,
    backoff: Backoff,
}
impl<F: Factory> ReconnectingClientFactory<F> {
    pub fn new(factory: F) -> Self {
        todo!()
    }
    pub fn with_backoff(backoff: &Backoff, factory: F) -> Self {
        todo!()
    }
}
impl<F: Factory> Factory for ReconnectingClientFactory<F> {
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        self.factory.build_protocol(peer)
    }
}
impl<F: Factory> ClientFactory for ReconnectingClientFactory<F> {}
#[derive(Clone, Default)]
pub struct Backoff(Rc<()>);
impl Backoff {
    pub fn initial_delay(self, delay: Duration) -> Self {
        todo!()
    }
    pub fn max_delay(self, delay: Duration) -> Self {
        todo!()
    }
    pub fn max_retries(self, n: u32) -> Self {
        todo!()
    }
    /// Say so once the connection proved useful.
    pub fn reset_delay(&self) {
        todo!()
    }
    pub fn stop_trying(&self) {
        todo!()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Connector {
    slot: u32,
    generation: u32,
    thread: PhantomData<*const ()>,
}
impl Connector {
    pub fn connect(self) -> Result {
        todo!()
    }
    pub fn stop_connecting(self) -> Result {
        todo!()
    }
    pub fn disconnect(self) {
        todo!()
    }
    pub fn destination(self) -> Destination {
        todo!()
    }
}
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListeningPort {
    slot: u32,
    generation: u32,
    thread: PhantomData<*const ()>,
}
impl ListeningPort {
    pub fn address(self) -> Address {
        todo!()
    }
    pub fn stop_listening(self) -> Deferred<()> {
        todo!()
    }
    pub fn start_listening(self) -> Result {
        todo!()
    }
}

/// Where to connect and how: `"host:port"`, `("host", port)`, a `SocketAddr`. Text that is no address fails when used.
#[derive(Clone, Debug)]
pub struct Destination(String);
impl Destination {
    pub fn timeout(self, limit: Duration) -> Self {
        todo!()
    }
    pub fn bind(self, local: SocketAddr) -> Self {
        todo!()
    }
}
/// Where to listen: `8007` (every IPv4 interface), `"127.0.0.1:0"`, a `SocketAddr`, a `std::net::TcpListener` to adopt.
pub struct ListenAt(());
impl ListenAt {
    pub fn backlog(self, n: u32) -> Self {
        todo!()
    }
    pub fn reuse_port(self) -> Self {
        todo!()
    }
}
macro_rules! from { ($to:ty: $($from:ty),*) => { $( impl From<$from> for $to { fn from(_: $from) -> Self { todo!() } } )* } }
from!(Destination: &str, String, &String, (&str, u16), (String, u16), SocketAddr, &Address);
from!(ListenAt: u16, &str, String, &String, (&str, u16), SocketAddr, TcpListener);
