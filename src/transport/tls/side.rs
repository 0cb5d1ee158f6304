//! `Side`: which part a wire plays in a handshake, and with what. Makes rustls's state machine.
use super::{ClientConfig, ServerConfig, TlsError};
use crate::address::Address;
use crate::transport::resolver::international;
use rustls::Connection;
use rustls::pki_types::ServerName;
use std::net::IpAddr;
use std::time::Duration;

/// Which side of TLS a wire is: what [`start_tls`](crate::TransportRef::start_tls) and
/// [`wrap_factory`](super::wrap_factory) take.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Side {
    /// The one that begins, and checks the other's name.
    Client {
        /// How.
        config: ClientConfig,
        /// Whom the server must be: a host name or an IP address. `None`: the host of the destination that `connect_tls`
        /// connects to; of a wire that is there already, the IP address of its peer.
        name: Option<String>,
    },
    /// The one that shows a certificate.
    Server(ServerConfig),
}

impl From<&ClientConfig> for Side {
    fn from(config: &ClientConfig) -> Side {
        Side::Client { config: config.clone(), name: None }
    }
}
impl From<ClientConfig> for Side {
    fn from(config: ClientConfig) -> Side {
        Side::Client { config, name: None }
    }
}
impl From<&ServerConfig> for Side {
    fn from(config: &ServerConfig) -> Side {
        Side::Server(config.clone())
    }
}
impl From<ServerConfig> for Side {
    fn from(config: ServerConfig) -> Side {
        Side::Server(config)
    }
}

impl Side {
    /// The same with a name, if it has none and wants one.
    pub(crate) fn or_named(self, host: Option<String>) -> Side {
        match self {
            Side::Client { config, name } => Side::Client { config, name: name.or(host) },
            server => server,
        }
    }
    pub(super) fn handshake_timeout(&self) -> Option<Duration> {
        match self {
            Side::Client { config, .. } => config.handshake_timeout,
            Side::Server(config) => config.handshake_timeout,
        }
    }
    /// The state machine; the client's first message is in it already.
    pub(super) fn connection(&self, peer: &Address) -> Result<Connection, TlsError> {
        let made = match self {
            Side::Client { config, name } => {
                let name = match (name, peer.ip()) {
                    (Some(name), _) => server_name(name)?,
                    (None, Some(ip)) => ServerName::from(ip),
                    (None, None) => return Err(TlsError::InvalidName(String::new())),
                };
                rustls::ClientConnection::new(config.rustls.clone(), name).map(Connection::from)
            }
            Side::Server(config) => rustls::ServerConnection::new(config.rustls.clone()).map(Connection::from),
        };
        let mut made = made.map_err(TlsError::Other)?;
        // The layer and the wire below keep count of what waits.
        made.set_buffer_limit(None);
        Ok(made)
    }
}

/// A host name, or an IP address with or without brackets.
fn server_name(text: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(ServerName::from(ip));
    }
    let invalid = || TlsError::InvalidName(text.to_owned());
    let name = international::ascii(bare).map_err(|_| invalid())?;
    let name = name.strip_suffix('.').unwrap_or(&name);
    ServerName::try_from(name.to_owned()).map_err(|_| invalid())
}
