//! TLS over any wire (Twisted's `protocols.tls`, `internet.ssl`), on rustls: TCP, UNIX, a policy's, a test's, TLS itself.
//!
//! `connect_tls` and `listen_tls` are `connect_tcp` and `listen_tcp` with [`wrap_factory`];
//! [`start_tls`](crate::TransportRef::start_tls) puts a layer under a connection that is there. A protocol notices little: its
//! `connection_made` comes when the wire is there, what it writes then is sent when the handshake is done, which
//! `handshake_completed` says before any data. A handshake that fails ends the connection with [`TlsError`].
//!
//! # How it ends
//!
//! An end that the peer announces (close_notify) is told as `read_connection_lost`, and the connection closes as
//! [`Done`](crate::ConnectionClosed::Done). An end without that may be an attacker's: it is
//! [`Lost`](crate::ConnectionClosed::Lost) with `UnexpectedEof`. `lose_connection` sends what was written and our close_notify,
//! then waits for the peer's, for ten seconds at most; what comes meanwhile is delivered, unless the protocol has paused.
//! `lose_write_connection` sends the close_notify only; a peer that speaks TLS 1.2 then closes.
//!
//! # Certificates
//!
//! A client checks the server's certificate and name, always. [`rustls`]'s own configurations are taken too, for what is not
//! here.
mod client;
mod error;
mod factory;
mod info;
mod layer;
mod pem;
mod server;
mod side;

pub use client::ClientConfig;
pub use error::TlsError;
pub use factory::{TlsFactory, wrap_factory};
pub use info::{TlsInfo, TlsVersion};
pub use layer::TlsProtocol;
pub use rustls;
pub use server::ServerConfig;
pub use side::Side;

use super::destination::Host;
use super::{ClientFactory, Connector, Destination, Factory, ListenAt, ListeningPort, TransportRef, wire};
use crate::failure::Result;
use crate::reactor::Reactor;
use std::time::Duration;

/// How long a handshake may take, unless told otherwise.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

impl Reactor {
    /// Accepts TLS connections by TCP (Twisted's `listenSSL`).
    ///
    /// # Errors
    /// As [`listen_tcp`](Reactor::listen_tcp).
    pub fn listen_tls(
        &self,
        at: impl Into<ListenAt>,
        config: &ServerConfig,
        factory: impl Factory + 'static,
    ) -> Result<ListeningPort> {
        self.listen_tcp(at, wrap_factory(config, factory))
    }
    /// Connects by TCP and TLS (Twisted's `connectSSL`). `side` is a [`ClientConfig`], whose server must be whom `to` names, or
    /// one with [another name](ClientConfig::named). The protocol's `connection_made` comes before the handshake,
    /// [`handshake_completed`](crate::Protocol::handshake_completed) after it.
    pub fn connect_tls(
        &self,
        to: impl Into<Destination>,
        side: impl Into<Side>,
        factory: impl ClientFactory + 'static,
    ) -> Connector {
        let to = to.into();
        let side = side.into().or_named(host_of(&to));
        self.connect_tcp(to, wrap_factory(side, factory))
    }
}

/// Whom a destination names.
pub(crate) fn host_of(to: &Destination) -> Option<String> {
    match to.host() {
        Host::Socket(address) => Some(address.ip().to_string()),
        Host::Name(host, _) => Some(host.clone()),
        Host::Unix(_) | Host::Text(_) => None,
    }
}

impl TransportRef {
    /// From here on the connection is TLS's (Twisted's `startTLS`). Every copy of this name encrypts what it writes; what was
    /// written before goes out first, as it is. The protocol stays, is not connected again, and hears `handshake_completed`.
    ///
    /// What has been received and not delivered is dropped, in line receivers and other framing layers too: a peer that
    /// waits for the handshake has sent nothing behind its request, and whoever else did is not to be believed.
    ///
    /// Does nothing on a connection that is being closed or is gone. While the handshake of an earlier `start_tls` goes on
    /// it does nothing but log an error; after it, it puts TLS into TLS.
    ///
    /// A client without a [name](ClientConfig::named) takes the peer's IP address for it.
    pub fn start_tls(self, side: impl Into<Side>) {
        let Some(transport) = wire::transport(self).filter(|transport| !transport.is_disconnecting()) else { return };
        if wire::is_void(self) {
            let peer = self.peer();
            return log::error!(target: "twistlet", "start_tls on the connection with {peer}, where TLS is starting: ignored");
        }
        match transport.start_tls(side.into()) {
            Some(side) => layer::Layer::put_under(self, side),
            None => wire::make_void(self),
        }
    }
    /// What TLS has agreed on: version, application protocol, the peer's certificates. `None` before `handshake_completed`,
    /// and on other connections.
    pub fn tls_info(self) -> Option<TlsInfo> {
        wire::transport(self).and_then(|transport| transport.tls_info())
    }
}
