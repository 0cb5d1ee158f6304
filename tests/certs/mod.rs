//! Certificates made on the spot: an authority, what it issues, and the configurations of both sides that go with it. Signing keys
//! are made once a program, since making them takes a while without optimisation.
#![allow(dead_code)] // each test file uses a part
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};
use std::sync::OnceLock;
use twistlet::transport::tls::{ClientConfig, ServerConfig};

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Pair {
    pub chain: String,
    pub key: String,
}

/// Who issues certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, in PEM: what others trust.
    pub root: String,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let root = params.self_signed(&key).expect("a certificate").pem();
        Authority { issuer: Issuer::new(params, key), root }
    }
    /// A certificate for these host names and IP addresses.
    pub fn issue(&self, names: &[&str]) -> Pair {
        self.issue_with(names, |_| {})
    }
    /// The same, out of the ordinary.
    pub fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let chain = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Pair { chain, key: key.serialize_pem() }
    }
    /// One that has had its day.
    pub fn issue_expired(&self, names: &[&str]) -> Pair {
        self.issue_with(names, |params| {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        })
    }
}

/// The authority of this program.
pub fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::new("the tests' authority"))
}
/// A certificate for this machine: `localhost`, `127.0.0.1`, `example.org`.
pub fn pair() -> &'static Pair {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(|| authority().issue(&["localhost", "127.0.0.1", "example.org"]))
}
/// A server that shows it.
pub fn server() -> ServerConfig {
    ServerConfig::from_pem(&pair().chain, &pair().key).expect("a server")
}
/// A client that trusts the authority.
pub fn client() -> ClientConfig {
    ClientConfig::with_roots_pem(&authority().root).expect("a client")
}
/// The same, of one version of TLS.
pub fn client_of(version: &'static rustls::SupportedProtocolVersion) -> ClientConfig {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority().root.as_bytes()).expect("PEM")).expect("a root");
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[version]).expect("a version");
    ClientConfig::from(std::sync::Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}
