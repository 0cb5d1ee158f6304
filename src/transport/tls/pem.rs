//! What both configurations need: certificates and keys out of PEM text, the provider of cryptography, sets of roots.
use super::TlsError;
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::sync::{Arc, OnceLock};

/// ring, whatever the process has for its default.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(ring::default_provider())))
}

/// The certificates in a PEM text, at least one.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err(TlsError::NoCertificate),
        Ok(all) => Ok(all),
        Err(error) => Err(malformed(&error)),
    }
}
fn malformed(error: &PemError) -> TlsError {
    TlsError::BadPem(error.to_string())
}

/// A certificate chain and its key, which must be the certificate's.
pub(super) fn certified(chain: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(chain)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
        PemError::NoItemsFound => TlsError::NoPrivateKey,
        error => malformed(&error),
    })?;
    match CertifiedKey::from_der(chain, key, &provider()) {
        Ok(certified) => Ok(Arc::new(certified)),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(TlsError::BadKey("it is not the key of the first certificate".to_owned()))
        }
        Err(rustls::Error::InvalidCertificate(error)) => Err(TlsError::BadCertificate(error)),
        Err(error) => Err(TlsError::BadKey(error.to_string())),
    }
}

/// The certificates in a PEM text as roots.
pub(super) fn roots(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| TlsError::from_rustls(error, b""))?;
    }
    Ok(roots)
}

/// The system's roots, looked up once a process.
pub(super) fn platform_roots() -> Result<Arc<RootCertStore>, TlsError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(Arc::clone(roots));
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems have some that no verifier takes; the others are good.
    let (_, _) = roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
        return Err(TlsError::NoRoots(why));
    }
    for error in &found.errors {
        log::debug!(target: "twistlet", "a root certificate of the system was left out: {error}");
    }
    Ok(Arc::clone(ROOTS.get_or_init(|| Arc::new(roots))))
}
