//! `ClientConfig`: whom a client trusts, and what it shows and offers. A value; the layer makes connections from it.
use super::{HANDSHAKE_TIMEOUT, Side, TlsError, pem};
use crate::failure::Result;
use rustls::RootCertStore;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::CertificateDer;
use rustls::sign::SingleCertAndKey;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How a client does TLS: versions 1.2 and 1.3, the server's certificate and name always checked, sessions resumed.
/// Cheap to clone; clones share the sessions.
///
/// ```
/// use twistlet::transport::tls::ClientConfig;
///
/// # let pem = rcgen::generate_simple_self_signed(["internal".to_owned()]).unwrap().cert.pem();
/// let config = ClientConfig::with_roots_pem(pem.as_bytes())?.alpn(["h2", "http/1.1"]);
/// let side = config.named("www.example.org");
/// # let _ = side;
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[derive(Clone)]
pub struct ClientConfig {
    pub(super) rustls: Arc<rustls::ClientConfig>,
    pub(super) handshake_timeout: Option<Duration>,
}

impl ClientConfig {
    /// Trusts whom the system trusts. The roots are read once a process; the environment variables `SSL_CERT_FILE` and
    /// `SSL_CERT_DIR` replace them.
    ///
    /// # Errors
    /// [`TlsError::NoRoots`].
    ///
    /// # Blocking
    /// The first call reads the files of the system's roots: some milliseconds.
    pub fn new() -> Result<Self> {
        Self::trusting(pem::platform_roots()?)
    }
    /// Trusts those certificates only that were issued by one in this PEM text, or are one of them.
    ///
    /// # Errors
    /// [`TlsError::NoCertificate`], [`TlsError::BadPem`], [`TlsError::BadCertificate`].
    pub fn with_roots_pem(pem: impl AsRef<[u8]>) -> Result<Self> {
        Self::trusting(Arc::new(pem::roots(pem.as_ref())?))
    }
    /// The same, of one certificate in DER.
    ///
    /// # Errors
    /// [`TlsError::BadCertificate`].
    pub fn with_root(der: impl AsRef<[u8]>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        let der = CertificateDer::from(der.as_ref().to_vec());
        roots.add(der).map_err(|error| TlsError::from_rustls(error, b""))?;
        Self::trusting(Arc::new(roots))
    }
    fn trusting(roots: Arc<RootCertStore>) -> Result<Self> {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, pem::provider()).build();
        let verifier = verifier.map_err(|error| TlsError::Other(rustls::Error::General(error.to_string())))?;
        let builder = rustls::ClientConfig::builder_with_provider(pem::provider());
        let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Other)?;
        let rustls = builder.with_webpki_verifier(verifier).with_no_client_auth();
        Ok(ClientConfig::from(Arc::new(rustls)))
    }

    /// Offers these application protocols, the best first (ALPN). Which was agreed on is in
    /// [`TlsInfo::alpn`](super::TlsInfo::alpn).
    pub fn alpn(mut self, protocols: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        let protocols = protocols.into_iter().map(|protocol| protocol.as_ref().to_vec()).collect();
        Arc::make_mut(&mut self.rustls).alpn_protocols = protocols;
        self
    }
    /// Shows this certificate to servers that ask for one: the chain, the client's own first, and its key, both in PEM.
    ///
    /// # Errors
    /// [`TlsError::NoCertificate`], [`TlsError::NoPrivateKey`], [`TlsError::BadPem`], [`TlsError::BadKey`].
    pub fn client_certificate(mut self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self> {
        let certified = pem::certified(chain.as_ref(), key.as_ref())?;
        let rustls = Arc::make_mut(&mut self.rustls);
        rustls.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
        // A session of somebody else is not to be resumed.
        rustls.resumption = Resumption::default();
        Ok(self)
    }
    /// Makes a full handshake each time.
    pub fn without_resumption(mut self) -> Self {
        Arc::make_mut(&mut self.rustls).resumption = Resumption::disabled();
        self
    }
    /// Gives up when the handshake takes longer than this. Default: 30 seconds.
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.handshake_timeout = Some(limit);
        self
    }
    /// Waits for the handshake as long as the peer takes.
    pub fn without_handshake_timeout(mut self) -> Self {
        self.handshake_timeout = None;
        self
    }
    /// The client side of a connection with the server of this name, a host name or an IP address: what
    /// [`start_tls`](crate::TransportRef::start_tls) takes, and `connect_tls` where the destination's host is not it.
    pub fn named(&self, name: impl Into<String>) -> Side {
        Side::Client { config: self.clone(), name: Some(name.into()) }
    }
}

/// For whatever rustls can and this cannot. Its provider of cryptography is the one used.
impl From<Arc<rustls::ClientConfig>> for ClientConfig {
    fn from(rustls: Arc<rustls::ClientConfig>) -> Self {
        ClientConfig { rustls, handshake_timeout: Some(HANDSHAKE_TIMEOUT) }
    }
}
impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig").field("handshake_timeout", &self.handshake_timeout).finish_non_exhaustive()
    }
}
