//! The PROXY protocol, versions 1 and 2: a load balancer that forwards a connection says first whose it is (Twisted's
//! `protocols.haproxy`).
//!
//! | Twisted | here |
//! |---|---|
//! | `HAProxyWrappingFactory`, `HAProxyProtocolWrapper` | [`ProxyFactory`] around the factory of the protocol behind |
//! | `haproxy:` in an endpoint's description | the same |
//! | (not there: the side of the proxy) | [`ProxyClientFactory`], [`ProxyHeader`] |
//!
//! `header` is the value and how it is written, `parse` how it is read, `server` and `client` the factories. What must never
//! happen here: more kept of a peer than the longest header allowed, or a byte of the header given to the protocol behind.
mod client;
mod header;
mod parse;
mod server;

pub use client::ProxyClientFactory;
pub use header::{ProxyHeader, ProxyVersion};
pub use server::ProxyFactory;

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// What is wrong with a PROXY header: with this the connection is closed, as
/// [`ConnectionClosed::Failed`](crate::ConnectionClosed::Failed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyError {
    /// The connection begins with something else.
    NoHeader,
    /// A line of version 1 that is none, and what about it.
    BadLine(&'static str),
    /// Version 2 with another version number.
    BadVersion(u8),
    /// Version 2 with an unknown command.
    BadCommand(u8),
    /// Version 2 with an unknown kind of addresses.
    BadFamily(u8),
    /// Version 2 with less room than its addresses take.
    ShortAddresses,
    /// A TLV of version 2 is longer than what is left of the header.
    BadTlv,
    /// The header's own checksum says that it arrived damaged.
    BadChecksum,
    /// The header is longer than this many bytes.
    TooLong(usize),
    /// The connection ended within the header.
    Truncated,
    /// The header was not there in time.
    TimedOut(Duration),
}
impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHeader => f.write_str(
                "the connection does not begin with a PROXY header: is the proxy told to send one, and does nobody come around it?",
            ),
            Self::BadLine(what) => write!(f, "not a PROXY header of version 1: {what}"),
            Self::BadVersion(version) => write!(f, "a PROXY header of version {version}, and only 1 and 2 are known"),
            Self::BadCommand(command) => write!(f, "a PROXY header with command {command}, and only 0 and 1 are known"),
            Self::BadFamily(family) => write!(f, "a PROXY header with addresses of the unknown kind {family:#04x}"),
            Self::ShortAddresses => f.write_str("a PROXY header that ends within its addresses"),
            Self::BadTlv => f.write_str("a PROXY header with a TLV that reaches over its end"),
            Self::BadChecksum => f.write_str("a PROXY header whose checksum is wrong: it was damaged on its way"),
            Self::TooLong(limit) => {
                write!(f, "a PROXY header of more than {limit} bytes; raise max_header if the proxy sends such")
            }
            Self::Truncated => f.write_str("the connection ended within its PROXY header"),
            Self::TimedOut(limit) => write!(f, "no complete PROXY header within {limit:?}"),
        }
    }
}
impl Error for ProxyError {}
