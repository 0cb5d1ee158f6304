//! `TlsInfo`: what a handshake has agreed on. Taken once, when it is done.
use rustls::pki_types::CertificateDer;
use rustls::{Connection, HandshakeKind, ProtocolVersion};
use std::fmt;
use std::rc::Rc;

/// What the two sides of a TLS connection have agreed on; see [`TransportRef::tls_info`](crate::TransportRef::tls_info). Clones
/// are the same.
#[derive(Clone)]
pub struct TlsInfo(Rc<Agreed>);

struct Agreed {
    version: TlsVersion,
    alpn: Option<Vec<u8>>,
    server_name: Option<String>,
    certificates: Vec<CertificateDer<'static>>,
    resumed: bool,
    cipher_suite: &'static str,
}

/// A version of TLS.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum TlsVersion {
    /// 1.2
    Tls12,
    /// 1.3
    Tls13,
}

impl TlsInfo {
    pub(super) fn of(connection: &Connection) -> Self {
        let server_name = match connection {
            Connection::Server(server) => server.server_name().map(str::to_owned),
            Connection::Client(_) => None,
        };
        let tls13 = connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        TlsInfo(Rc::new(Agreed {
            version: if tls13 { TlsVersion::Tls13 } else { TlsVersion::Tls12 },
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            server_name,
            certificates: connection.peer_certificates().map_or_else(Vec::new, <[_]>::to_vec),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            cipher_suite: suite.unwrap_or("unknown"),
        }))
    }
    /// The version in use.
    pub fn version(&self) -> TlsVersion {
        self.0.version
    }
    /// The application protocol agreed on (ALPN), if any was.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.0.alpn.as_deref()
    }
    /// On a server: the host name that the client asked for (SNI), if any.
    pub fn server_name(&self) -> Option<&str> {
        self.0.server_name.as_deref()
    }
    /// The certificates that the peer has shown, in DER, its own first; none where it had to show none.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        &self.0.certificates
    }
    /// Whether an earlier session was resumed.
    pub fn is_resumed(&self) -> bool {
        self.0.resumed
    }
    /// The cipher suite's name, as in `TLS13_AES_256_GCM_SHA384`.
    pub fn cipher_suite(&self) -> &'static str {
        self.0.cipher_suite
    }
}
impl fmt::Debug for TlsInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsInfo")
            .field("version", &self.version())
            .field("alpn", &self.alpn().map(|alpn| alpn.escape_ascii().to_string()))
            .field("server_name", &self.server_name())
            .field("peer_certificates", &self.peer_certificates().len())
            .field("resumed", &self.is_resumed())
            .field("cipher_suite", &self.cipher_suite())
            .finish()
    }
}
