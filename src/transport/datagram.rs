//! Datagrams: `DatagramProtocol`, which users write; `DatagramPort`, which they hold. UDP and UNIX datagram sockets, which the
//! reactor drives in `port`.
//!
//! Sending is one system call and keeps nothing. What must never happen here: user code run by a method of a port.
mod error;
mod multicast;
mod port;
mod shared;
mod target;

pub use error::DatagramError;
pub use multicast::Interface;
pub use target::Target;

use super::Address;
use super::destination::ListenAt;
use super::names::Names;
use crate::deferred::Deferred;
use crate::failure::Result;
use crate::reactor::Reactor;
use port::Port;
pub(super) use port::{connect_unix, listen};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

/// What a program does with the datagrams of one port: Twisted's `DatagramProtocol`. The reactor owns it; no method is entered
/// while another of the same protocol runs, and none is called while a method of a port is on the stack.
///
/// The order of calls is `start_protocol`, any number of `datagram_received` and `connection_refused`, and `stop_protocol` exactly
/// once. A panic in one of the middle two is logged, and the port goes on.
///
/// ```
/// use twistlet::transport::{DatagramPort, DatagramProtocol};
/// use twistlet::{Address, Reactor};
///
/// struct Echo;
/// impl DatagramProtocol for Echo {
///     fn datagram_received(&mut self, port: DatagramPort, data: &[u8], from: &Address) {
///         let _ = port.write_to(data, from); // lost on the way or lost here: a datagram's fate
///     }
/// }
/// let reactor = Reactor::new()?;
/// let port = reactor.listen_udp("127.0.0.1:0", Echo)?;
/// assert!(port.address().port().is_some_and(|port| port > 0));
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub trait DatagramProtocol {
    /// The port is bound and can send. Called by `listen_udp` itself; a panic here makes that fail.
    fn start_protocol(&mut self, port: DatagramPort) {
        let _ = port;
    }
    /// One datagram; it may be empty. What of it did not fit into [`max_packet`](ListenAt::max_packet) is lost. The slice is the
    /// reactor's one read buffer: copy what is to be kept. `from` is [`Address::Udp`] on UDP ports.
    fn datagram_received(&mut self, port: DatagramPort, data: &[u8], from: &Address);
    /// On a connected port: nobody listens where an earlier datagram went. In a later turn than the `write` that found out.
    fn connection_refused(&mut self, port: DatagramPort) {
        let _ = port;
    }
    /// The end, exactly once and last: the socket is closed.
    fn stop_protocol(&mut self, port: DatagramPort) {
        let _ = port;
    }
}
impl<P: DatagramProtocol + ?Sized> DatagramProtocol for Box<P> {
    fn start_protocol(&mut self, port: DatagramPort) {
        (**self).start_protocol(port);
    }
    fn datagram_received(&mut self, port: DatagramPort, data: &[u8], from: &Address) {
        (**self).datagram_received(port, data, from);
    }
    fn connection_refused(&mut self, port: DatagramPort) {
        (**self).connection_refused(port);
    }
    fn stop_protocol(&mut self, port: DatagramPort) {
        (**self).stop_protocol(port);
    }
}

/// The name of a datagram port, `Copy`. It ends when the port has stopped listening, or with its reactor; then it does nothing and
/// [`address`](DatagramPort::address) is [`Address::Gone`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DatagramPort {
    slot: u32,
    generation: u32,
    thread: PhantomData<*const ()>,
}

thread_local! {
    static PORTS: RefCell<Names<Port>> = const { RefCell::new(Names::new()) };
}

/// Datagrams.
impl Reactor {
    /// Binds a UDP port and tells the protocol `start_protocol` (Twisted's `listenUDP`). Datagrams of more than 8,192 bytes are cut
    /// to that, unless [`ListenAt::max_packet`] says otherwise; with [`ListenAt::reuse_port`] several sockets share the port,
    /// and each receives what is sent to its multicast groups (`listenMulticast` with `listenMultiple`).
    ///
    /// ```
    /// use twistlet::testing::simulate;
    /// use twistlet::transport::{DatagramPort, DatagramProtocol, ListenAt};
    /// use twistlet::{Address, Promise, Deferred};
    ///
    /// struct Ask(Address, Option<Promise<String>>);
    /// impl DatagramProtocol for Ask {
    ///     fn start_protocol(&mut self, port: DatagramPort) {
    ///         port.write_to("ping", &self.0).expect("there is room for one");
    ///     }
    ///     fn datagram_received(&mut self, port: DatagramPort, data: &[u8], _from: &Address) {
    ///         if let Some(promise) = self.1.take() {
    ///             promise.callback(String::from_utf8_lossy(data).into_owned());
    ///         }
    ///         let _ = port.stop_listening();
    ///     }
    /// }
    /// struct Shout;
    /// impl DatagramProtocol for Shout {
    ///     fn datagram_received(&mut self, port: DatagramPort, data: &[u8], from: &Address) {
    ///         let _ = port.write_to(data.to_ascii_uppercase(), from);
    ///     }
    /// }
    /// let answer = simulate(|reactor, _network| {
    ///     reactor.listen_udp("10.0.0.1:53", Shout)?;
    ///     let (promise, answer) = Deferred::new();
    ///     let ask = Ask(Address::Udp(([10, 0, 0, 1], 53).into()), Some(promise));
    ///     reactor.listen_udp(ListenAt::from("0.0.0.0:0").max_packet(512), ask)?;
    ///     Ok(answer)
    /// })?;
    /// assert_eq!(answer, "PING");
    /// # Ok::<(), twistlet::Failure>(())
    /// ```
    ///
    /// # Errors
    /// [`CannotListen`](crate::error::CannotListen) with the place and the system's reason; what `start_protocol` panicked with;
    /// [`ReactorError::Closed`](crate::error::ReactorError::Closed). The socket is closed then.
    pub fn listen_udp(
        &self,
        at: impl Into<ListenAt>,
        protocol: impl DatagramProtocol + 'static,
    ) -> Result<DatagramPort> {
        port::listen(&self.open()?, at.into(), Box::new(protocol))
    }
}

impl DatagramPort {
    fn port(self) -> Option<Rc<Port>> {
        PORTS.try_with(|ports| ports.borrow().get((self.slot, self.generation))).ok().flatten()
    }
    fn open(self) -> std::result::Result<Rc<Port>, DatagramError> {
        self.port().ok_or(DatagramError::Gone)
    }
    /// Sends one datagram, now or never: nothing is kept to be sent later.
    ///
    /// # Errors
    /// [`DatagramError`]. That nobody listens there is none: see [`DatagramProtocol::connection_refused`].
    pub fn write_to<'a>(
        self,
        data: impl AsRef<[u8]>,
        to: impl Into<Target<'a>>,
    ) -> std::result::Result<(), DatagramError> {
        self.open()?.write_to(data.as_ref(), to.into())
    }
    /// Sends one datagram to whom the port is [connected](DatagramPort::connect) with.
    ///
    /// # Errors
    /// [`DatagramError`].
    pub fn write(self, data: impl AsRef<[u8]>) -> std::result::Result<(), DatagramError> {
        self.open()?.write(data.as_ref())
    }
    /// Sends to this peer alone from now on, and receives from it alone (Twisted's `connect`). Only of connected ports the system
    /// tells when nobody listens there. Once.
    ///
    /// # Errors
    /// [`DatagramError::AlreadyConnected`], [`DatagramError::InvalidAddress`], the system's.
    pub fn connect(self, to: SocketAddr) -> std::result::Result<(), DatagramError> {
        self.open()?.connect(Target::from(to))
    }
    /// As [`connect`](DatagramPort::connect), of a UNIX datagram port with the socket at a path.
    ///
    /// # Errors
    /// As `connect`; that nobody is there.
    pub fn connect_path(self, to: impl AsRef<Path>) -> std::result::Result<(), DatagramError> {
        self.open()?.connect(Target::from(to.as_ref()))
    }
    /// Where it is bound, the port number filled in; [`Address::Unix(None)`](Address::Unix) for UNIX ports without a name.
    pub fn address(self) -> Address {
        self.port().map_or(Address::Gone, |port| port.address())
    }
    /// Whom it is connected with.
    pub fn peer(self) -> Option<Address> {
        self.port()?.peer()
    }
    /// Receives no more from now on. The Deferred fires when the socket is closed and the protocol has been told
    /// `stop_protocol`, in a later turn; it fails with what that panicked with. Every call's Deferred does; harmless afterwards.
    pub fn stop_listening(self) -> Deferred<()> {
        self.port().map_or_else(|| Deferred::succeed(()), |port| port.stop())
    }
}
