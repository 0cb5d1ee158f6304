//! Where a connection ends: values that stay valid when the connection is gone.
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Unix(Option<PathBuf>),
    /// What a name answers whose connection is gone.
    Gone,
}
impl Address {
    pub fn port(&self) -> Option<u16> {
        todo!()
    }
    pub fn ip(&self) -> Option<std::net::IpAddr> {
        todo!()
    }
}
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}
