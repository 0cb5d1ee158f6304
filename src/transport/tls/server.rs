//! `ServerConfig`: which certificates a server shows, and which it wants to see. A value; the layer makes connections from it.
use super::{HANDSHAKE_TIMEOUT, TlsError, pem};
use crate::failure::Result;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerSessionMemoryCache, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Sessions remembered, for clients that come back. Sealed tickets would take no memory, but a part of each handshake.
const SESSIONS: usize = 1024;

/// How a server does TLS: versions 1.2 and 1.3, sessions resumed. Cheap to clone; clones share the sessions.
///
/// ```
/// use twistlet::transport::tls::ServerConfig;
///
/// # let made = rcgen::generate_simple_self_signed(["example.org".to_owned()]).unwrap();
/// # let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
/// let config = ServerConfig::from_pem(certificate, key)?.alpn(["http/1.1"]);
/// # let _ = config;
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[derive(Clone)]
pub struct ServerConfig {
    pub(super) rustls: Arc<rustls::ServerConfig>,
    pub(super) handshake_timeout: Option<Duration>,
    /// Unless rustls's configuration was given.
    certificates: Option<ByName>,
}

/// Chosen by the name that a client asks for.
#[derive(Clone, Debug)]
struct ByName {
    names: HashMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
}
impl ByName {
    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let wild = || name.split_once('.').and_then(|(_, parent)| self.names.get(&format!("*.{parent}")));
        self.names.get(&name).or_else(wild)
    }
}
impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.find(name));
        Some(Arc::clone(named.unwrap_or(&self.default)))
    }
}

impl ServerConfig {
    /// Shows this certificate: the chain, the server's own first, and its key, both in PEM, perhaps in one text.
    ///
    /// # Errors
    /// [`TlsError::NoCertificate`], [`TlsError::NoPrivateKey`], [`TlsError::BadPem`], [`TlsError::BadKey`].
    pub fn from_pem(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self> {
        let default = pem::certified(chain.as_ref(), key.as_ref())?;
        let certificates = ByName { names: HashMap::new(), default };
        let builder = rustls::ServerConfig::builder_with_provider(pem::provider());
        let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Other)?;
        let mut rustls = builder.with_no_client_auth().with_cert_resolver(Arc::new(certificates.clone()));
        rustls.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        Ok(ServerConfig { certificates: Some(certificates), ..ServerConfig::from(Arc::new(rustls)) })
    }
    /// Shows another certificate to clients that ask for `name` (SNI): a host name, or `*.example.org` for all names one label
    /// longer. Those who ask for none, or for one that nobody has, are shown the first.
    ///
    /// # Errors
    /// As [`from_pem`](ServerConfig::from_pem).
    pub fn certificate_for(
        mut self,
        name: impl AsRef<str>,
        chain: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> Result<Self> {
        let certified = pem::certified(chain.as_ref(), key.as_ref())?;
        let mut certificates = match self.certificates.take() {
            Some(certificates) => certificates,
            None => ByName { names: HashMap::new(), default: Arc::clone(&certified) },
        };
        certificates.names.insert(name.as_ref().trim_end_matches('.').to_ascii_lowercase(), certified);
        Arc::make_mut(&mut self.rustls).cert_resolver = Arc::new(certificates.clone());
        self.certificates = Some(certificates);
        Ok(self)
    }
    /// Takes these application protocols, the best first (ALPN). A client that offers none of them is refused; one that
    /// offers nothing is not.
    pub fn alpn(mut self, protocols: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        let protocols = protocols.into_iter().map(|protocol| protocol.as_ref().to_vec()).collect();
        Arc::make_mut(&mut self.rustls).alpn_protocols = protocols;
        self
    }
    /// Takes clients only that show a certificate issued by one in this PEM text.
    ///
    /// # Errors
    /// [`TlsError::NoCertificate`], [`TlsError::BadPem`], [`TlsError::BadCertificate`].
    pub fn require_client_certificate(self, roots: impl AsRef<[u8]>) -> Result<Self> {
        self.verify_clients(roots.as_ref(), true)
    }
    /// The same, but a client may do without: then
    /// [`TlsInfo::peer_certificates`](super::TlsInfo::peer_certificates) is empty.
    ///
    /// # Errors
    /// As [`require_client_certificate`](ServerConfig::require_client_certificate).
    pub fn ask_client_certificate(self, roots: impl AsRef<[u8]>) -> Result<Self> {
        self.verify_clients(roots.as_ref(), false)
    }
    fn verify_clients(mut self, roots: &[u8], required: bool) -> Result<Self> {
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(pem::roots(roots)?), pem::provider());
        let builder = if required { builder } else { builder.allow_unauthenticated() };
        let general = |error: rustls::server::VerifierBuilderError| rustls::Error::General(error.to_string());
        let verifier: Arc<dyn ClientCertVerifier> = builder.build().map_err(|error| TlsError::Other(general(error)))?;
        let old = &self.rustls;
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(old.crypto_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Other)?;
        let mut rustls = builder.with_client_cert_verifier(verifier).with_cert_resolver(Arc::clone(&old.cert_resolver));
        rustls.alpn_protocols.clone_from(&old.alpn_protocols);
        // Of sessions without a certificate none is to be resumed.
        rustls.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        self.rustls = Arc::new(rustls);
        Ok(self)
    }
    /// Makes a full handshake each time.
    pub fn without_resumption(mut self) -> Self {
        let rustls = Arc::make_mut(&mut self.rustls);
        rustls.session_storage = Arc::new(NoServerSessionStorage {});
        rustls.ticketer = Arc::new(NoTickets);
        rustls.send_tls13_tickets = 0;
        self
    }
    /// Gives up on clients whose handshake takes longer than this. Default: 30 seconds.
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.handshake_timeout = Some(limit);
        self
    }
    /// Waits for the handshake as long as the peer takes.
    pub fn without_handshake_timeout(mut self) -> Self {
        self.handshake_timeout = None;
        self
    }
}

#[derive(Debug)]
struct NoTickets;
impl rustls::server::ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }
    fn lifetime(&self) -> u32 {
        0
    }
    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// For whatever rustls can and this cannot. Its provider of cryptography is the one used.
impl From<Arc<rustls::ServerConfig>> for ServerConfig {
    fn from(rustls: Arc<rustls::ServerConfig>) -> Self {
        ServerConfig { rustls, handshake_timeout: Some(HANDSHAKE_TIMEOUT), certificates: None }
    }
}
impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.certificates.as_ref().map(|certificates| certificates.names.keys());
        f.debug_struct("ServerConfig")
            .field("names", &names.map(|names| names.cloned().collect::<Vec<_>>()))
            .field("handshake_timeout", &self.handshake_timeout)
            .finish_non_exhaustive()
    }
}
