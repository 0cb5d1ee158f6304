//! Connections: `Protocol` and `Factory`, which users write; `TransportRef`, which they hold; TCP and UNIX streams, listening
//! and connecting, which the reactor drives.
//!
//! The reading order is `protocol`, `handle`, `wire` (who calls protocols), `stream` (one connection), `port` and `connector`.
mod author;
mod connect_protocol;
mod connector;
mod datagram;
mod descriptors;
mod destination;
#[cfg(feature = "dns")]
pub mod dns;
mod factory;
mod file_part;
mod handle;
mod names;
mod outbox;
mod port;
pub mod process;
mod producer;
mod protocol;
mod reconnecting;
pub mod resolver;
mod shared;
mod stdio;
mod stream;
#[cfg(feature = "tls")]
pub mod tls;
mod unix;
mod wire;

pub use crate::address::Address;
pub use author::Transport;
pub use connector::Connector;
pub use datagram::{DatagramError, DatagramPort, DatagramProtocol, Interface, Target};
pub use descriptors::Ends;
pub use destination::{Destination, ListenAt};
pub use factory::{ClientFactory, Factory, FromFn, from_fn};
pub use file_part::FilePart;
pub use handle::TransportRef;
pub use port::ListeningPort;
pub use producer::{Producer, PullProducer, Registered, Taken};
pub use protocol::Protocol;
pub use reconnecting::{Backoff, ReconnectingClientFactory};
pub use unix::UnixPath;
pub use wire::Wire;

pub(crate) use connect_protocol::connect_once;
#[cfg(feature = "dns")]
pub(crate) use connector::connect_found;
pub(crate) use protocol::refuse_descriptor;
pub(crate) use wire::Flow;

pub(crate) use stream::HIGH_WATER;

use crate::failure::Result;
use crate::reactor::Reactor;

/// Listening and connecting. The start hooks of the factory just handed over run before these return; nothing else of the
/// user's does.
impl Reactor {
    /// Accepts TCP connections (Twisted's `listenTCP`): `reactor.listen_tcp(8007, || Echo)`.
    ///
    /// # Errors
    /// [`CannotListen`](crate::error::CannotListen) with the place and the system's reason; the factory was not started
    /// then. [`ReactorError::Closed`](crate::error::ReactorError::Closed).
    pub fn listen_tcp(&self, at: impl Into<ListenAt>, factory: impl Factory + 'static) -> Result<ListeningPort> {
        port::listen(&self.open()?, at.into(), Box::new(factory))
    }
    /// Accepts connections at a path of the file system (Twisted's `listenUNIX`), with permissions and a lock file if the
    /// [`UnixPath`] says so. A socket file whose server died is replaced; the file is removed when listening ends.
    ///
    /// # Errors
    /// As [`listen_tcp`](Reactor::listen_tcp).
    pub fn listen_unix(&self, path: impl Into<UnixPath>, factory: impl Factory + 'static) -> Result<ListeningPort> {
        port::listen(&self.open()?, ListenAt::unix(path.into()), Box::new(factory))
    }
    /// Connects by TCP (Twisted's `connectTCP`). The factory hears how it went, in a later turn; a name is looked up on the
    /// thread pool, and its addresses are tried in order. Default timeout: 30 seconds.
    pub fn connect_tcp(&self, to: impl Into<Destination>, factory: impl ClientFactory + 'static) -> Connector {
        connector::connect(self, to.into(), Box::new(factory), None)
    }
    /// Connects to a path of the file system (Twisted's `connectUNIX`).
    pub fn connect_unix(&self, path: impl Into<UnixPath>, factory: impl ClientFactory + 'static) -> Connector {
        connector::connect(self, Destination::unix(path.into()), Box::new(factory), None)
    }
}
