//! `TlsError`: what goes wrong with TLS, told apart as far as a program may want to. Values only; made by the layer from what
//! rustls says, and by the configurations.
use rustls::{AlertDescription, CertificateError, Error as Rustls, InvalidMessage};
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Why TLS failed. A handshake that does ends its connection with [`ConnectionClosed::Failed`](crate::ConnectionClosed)
/// around one of these; a green `connect_tls` fails with [`ConnectError::Tls`](crate::ConnectError::Tls).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TlsError {
    /// The handshake was not done in time: the peer stalls, or does not speak TLS.
    HandshakeTimedOut(Duration),
    /// The peer closed the connection before the handshake was done.
    EndedInHandshake,
    /// What came is no TLS: these are its first bytes.
    NotTls(Vec<u8>),
    /// The peer's certificate is for others.
    WrongName {
        /// Whom we wanted.
        expected: String,
        /// Whom the certificate names, as far as that is known.
        presented: Vec<String>,
    },
    /// The peer's certificate has expired.
    Expired,
    /// The peer's certificate is not valid yet: is this machine's clock right?
    NotYetValid,
    /// The peer's certificate was issued by nobody we trust.
    UnknownIssuer,
    /// The peer's certificate was revoked.
    Revoked,
    /// Anything else that is wrong with the peer's certificate.
    BadCertificate(CertificateError),
    /// The client gave no certificate, and this server requires one.
    NoClientCertificate,
    /// The two sides have no application protocol in common (ALPN).
    NoCommonProtocol,
    /// The peer gave up, and says why.
    Alert(AlertDescription),
    /// The name to check the server's certificate against is no host name and no IP address; or there is none, since the
    /// destination has no host.
    InvalidName(String),
    /// The PEM text has no certificate.
    NoCertificate,
    /// The PEM text has no private key.
    NoPrivateKey,
    /// The PEM text is malformed.
    BadPem(String),
    /// The private key is of no known kind, or not the certificate's.
    BadKey(String),
    /// The system's root certificates cannot be found.
    NoRoots(String),
    /// Anything else rustls says.
    Other(Rustls),
}

impl TlsError {
    /// What an error of rustls means.
    pub(super) fn from_rustls(error: Rustls, first: &[u8]) -> Self {
        match error {
            // Records begin with 20 to 24.
            Rustls::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge,
            ) if !first.is_empty() && !matches!(first[0], 20..=24) => Self::NotTls(first.to_vec()),
            Rustls::InvalidCertificate(error) => Self::from_certificate(error),
            Rustls::NoCertificatesPresented => Self::NoClientCertificate,
            Rustls::NoApplicationProtocol => Self::NoCommonProtocol,
            Rustls::AlertReceived(alert) => Self::Alert(alert),
            other => Self::Other(other),
        }
    }
    fn from_certificate(error: CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::Revoked => Self::Revoked,
            CertificateError::NotValidForName => {
                Self::WrongName { expected: "another name".to_owned(), presented: Vec::new() }
            }
            CertificateError::NotValidForNameContext { expected, presented } => {
                let presented = presented.into_iter().map(plain).collect();
                Self::WrongName { expected: expected.to_str().into_owned(), presented }
            }
            other => Self::BadCertificate(other),
        }
    }
}

/// A certificate's name without the debug form in which it comes: `DnsName("localhost")`, `IpAddress(127.0.0.1)`.
fn plain(name: String) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.map_or(name.clone(), |inner| inner.trim_matches('"').to_owned())
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HandshakeTimedOut(after) => {
                write!(f, "the TLS handshake was not done after {after:?}: the peer stalls, or does not speak TLS")
            }
            Self::EndedInHandshake => {
                f.write_str("the peer closed the connection during the TLS handshake: does it speak TLS at this port?")
            }
            Self::NotTls(first) => {
                write!(f, "the peer does not speak TLS: it sent \"{}\"", first.escape_ascii())
            }
            Self::WrongName { expected, presented } if presented.is_empty() => {
                write!(f, "the peer's certificate is not for {expected:?}")
            }
            Self::WrongName { expected, presented } => {
                write!(f, "the peer's certificate is not for {expected:?} but for {}", presented.join(", "))
            }
            Self::Expired => f.write_str("the peer's certificate has expired"),
            Self::NotYetValid => {
                f.write_str("the peer's certificate is not valid yet: is this machine's clock right?")
            }
            Self::UnknownIssuer => f.write_str(
                "the peer's certificate was issued by nobody we trust: if it should be trusted, add its issuer to the roots",
            ),
            Self::Revoked => f.write_str("the peer's certificate was revoked"),
            Self::BadCertificate(error) => write!(f, "the peer's certificate is not acceptable: {error}"),
            Self::NoClientCertificate => f.write_str("the client gave no certificate, which this server requires"),
            Self::NoCommonProtocol => f.write_str("the two sides have no application protocol in common (ALPN)"),
            Self::Alert(alert) => write!(f, "the peer gave TLS up: {alert:?}"),
            Self::InvalidName(name) if name.is_empty() => {
                f.write_str("there is no name to check the server's certificate against: say one, with ClientConfig::named")
            }
            Self::InvalidName(name) => write!(
                f,
                "{name:?} cannot be the name of a TLS server: it must be a host name (in punycode where it is not ASCII) or \
                 an IP address"
            ),
            Self::NoCertificate => f.write_str("there is no certificate in this PEM text"),
            Self::NoPrivateKey => f.write_str("there is no private key in this PEM text"),
            Self::BadPem(what) => write!(f, "this is not well-formed PEM: {what}"),
            Self::BadKey(what) => write!(f, "the private key cannot be used: {what}"),
            Self::NoRoots(what) => write!(f, "the system's root certificates cannot be found: {what}"),
            Self::Other(error) => write!(f, "TLS failed: {error}"),
        }
    }
}
impl Error for TlsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Other(error) => Some(error),
            _ => None,
        }
    }
}
