//! `TlsFactory`: a factory whose protocols speak TLS, around one whose protocols do not (Twisted's `TLSMemoryBIOFactory`).
use super::Side;
use super::layer::TlsProtocol;
use crate::error::{ConnectError, ConnectionClosed};
use crate::transport::{Address, ClientFactory, Connector, Factory, Protocol};

/// What [`wrap_factory`] makes.
#[derive(Clone, Debug)]
pub struct TlsFactory<F> {
    side: Side,
    factory: F,
}

/// Puts TLS under the protocols of `factory`, on whatever wire they get: for listening and connecting with
/// `listen_unix`, `connect_unix`, an endpoint, a test's wire.
///
/// ```
/// # use twistlet::{Protocol, Reactor, TransportRef};
/// use twistlet::transport::tls::{ServerConfig, wrap_factory};
/// # struct Echo;
/// # impl Protocol for Echo { fn data_received(&mut self, t: TransportRef, data: &[u8]) { t.write(data) } }
/// # let made = rcgen::generate_simple_self_signed(["example.org".to_owned()]).unwrap();
/// # let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
/// # let reactor = Reactor::new()?;
/// # let folder = std::env::temp_dir().join(format!("twistlet-doc-tls-{}", std::process::id()));
/// let config = ServerConfig::from_pem(certificate, key)?;
/// reactor.listen_unix(&folder, wrap_factory(&config, || Echo))?;
/// # reactor.close();
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub fn wrap_factory<F: Factory>(side: impl Into<Side>, factory: F) -> TlsFactory<F> {
    TlsFactory { side: side.into(), factory }
}

impl<F> TlsFactory<F> {
    /// The factory inside.
    pub fn inner(&self) -> &F {
        &self.factory
    }
}
impl<F: Factory> Factory for TlsFactory<F> {
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        let protocol = self.factory.build_protocol(peer)?;
        Some(Box::new(TlsProtocol::new(self.side.clone(), protocol)))
    }
    fn start_factory(&mut self) {
        self.factory.start_factory();
    }
    fn stop_factory(&mut self) {
        self.factory.stop_factory();
    }
}
impl<F: ClientFactory> ClientFactory for TlsFactory<F> {
    fn started_connecting(&mut self, connector: Connector) {
        self.factory.started_connecting(connector);
    }
    fn client_connection_failed(&mut self, connector: Connector, reason: &ConnectError) {
        self.factory.client_connection_failed(connector, reason);
    }
    fn client_connection_lost(&mut self, connector: Connector, reason: &ConnectionClosed) {
        self.factory.client_connection_lost(connector, reason);
    }
}
