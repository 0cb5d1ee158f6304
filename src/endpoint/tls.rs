//! TLS around endpoints, whatever they are made of: `wrap_client_tls` and `wrap_server_tls`.
use super::wrapped::{self, Until};
use super::{ClientEndpoint, Listening, ServerEndpoint};
use crate::deferred::Deferred;
use crate::transport::tls::{ClientConfig, ServerConfig, Side, wrap_factory};
use crate::transport::{Factory, TransportRef};

/// Connects to `endpoint` by TLS, whose server must be called `name`, a host name or an IP address (Twisted's
/// `wrapClientTLS`).
///
/// The Deferred fires right after the protocol's `handshake_completed`, when the other side is who it should be; its
/// `connection_made` came before. (In Twisted it fires after `connectionMade`, and knows nothing of the handshake.) A handshake
/// that fails is [`ConnectError::Tls`](crate::ConnectError::Tls) around a [`TlsError`](crate::transport::tls::TlsError).
///
/// ```
/// use twistlet::Reactor;
/// use twistlet::endpoint::{HostnameEndpoint, wrap_client_tls};
/// use twistlet::transport::tls::ClientConfig;
/// # let pem = rcgen::generate_simple_self_signed(["internal".to_owned()]).unwrap().cert.pem();
/// let reactor = Reactor::new()?;
/// let config = ClientConfig::with_roots_pem(pem.as_bytes())?;
/// let _https = wrap_client_tls(HostnameEndpoint::new(&reactor, "example.org", 443), &config, "example.org");
/// # reactor.close();
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub fn wrap_client_tls<E: ClientEndpoint>(
    endpoint: E,
    config: &ClientConfig,
    name: impl Into<String>,
) -> TlsClientEndpoint<E> {
    TlsClientEndpoint { endpoint, side: config.named(name) }
}

/// Listens at `endpoint` by TLS (Twisted's `SSL4ServerEndpoint`, over any other).
///
/// ```
/// use twistlet::Reactor;
/// use twistlet::endpoint::{TcpServerEndpoint, wrap_server_tls};
/// use twistlet::transport::tls::ServerConfig;
/// # let made = rcgen::generate_simple_self_signed(["internal".to_owned()]).unwrap();
/// # let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
/// let reactor = Reactor::new()?;
/// let config = ServerConfig::from_pem(chain, key)?;
/// let _https = wrap_server_tls(TcpServerEndpoint::new(&reactor, 8443), &config);
/// # reactor.close();
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub fn wrap_server_tls<E: ServerEndpoint>(endpoint: E, config: &ServerConfig) -> TlsServerEndpoint<E> {
    TlsServerEndpoint { endpoint, config: config.clone() }
}

/// What [`wrap_client_tls`] makes.
#[derive(Clone, Debug)]
pub struct TlsClientEndpoint<E> {
    endpoint: E,
    side: Side,
}
/// What [`wrap_server_tls`] makes.
#[derive(Clone, Debug)]
pub struct TlsServerEndpoint<E> {
    endpoint: E,
    config: ServerConfig,
}

impl<E: ClientEndpoint> ClientEndpoint for TlsClientEndpoint<E> {
    fn connect_boxed(&self, factory: Box<dyn Factory>) -> Deferred<TransportRef> {
        let side = self.side.clone();
        wrapped::connect(&self.endpoint, factory, Until::Secured, move |factory| Box::new(wrap_factory(side, factory)))
    }
}
impl<E: ServerEndpoint> ServerEndpoint for TlsServerEndpoint<E> {
    fn listen_boxed(&self, factory: Box<dyn Factory>) -> Deferred<Listening> {
        self.endpoint.listen_boxed(Box::new(wrap_factory(&self.config, factory)))
    }
}
