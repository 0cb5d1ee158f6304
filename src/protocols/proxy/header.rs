//! `ProxyHeader`: the value, and how it is written.
use super::ProxyError;
use super::parse::{self, Family, crc32c};
use crate::address::Address;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The first twelve bytes of version 2.
pub(super) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
pub(super) const FIXED: usize = 16;
/// The kind of the TLV with the header's CRC-32C.
pub(super) const CRC32C: u8 = 0x03;
/// The room for one path.
pub(super) const PATH: usize = 108;

/// How a header is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    /// One line of text, for TCP only.
    V1,
    /// Binary, with UNIX sockets, UDP and further fields.
    V2,
}

/// What a proxy says of a connection: who made it, to whom, and in version 2 further fields (TLVs).
///
/// ```
/// use twistlet::protocols::proxy::{ProxyHeader, ProxyVersion};
///
/// let header = ProxyHeader::new(ProxyVersion::V1, "192.0.2.7:4711".parse()?, "198.51.100.1:80".parse()?);
/// assert_eq!(header.to_bytes(), b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\r\n");
/// let (again, length) = ProxyHeader::parse(&header.to_bytes(), 2048)?.ok_or("all of it was there")?;
/// assert_eq!((again, length), (header.clone(), header.to_bytes().len()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    pub(super) version: ProxyVersion,
    pub(super) local: bool,
    pub(super) ends: Option<(Address, Address)>,
    pub(super) tlvs: Vec<(u8, Vec<u8>)>,
}

impl ProxyHeader {
    /// Of a TCP connection from `source` to `destination`. Where one is IPv4 and the other IPv6, both are written as IPv6.
    pub fn new(version: ProxyVersion, source: SocketAddr, destination: SocketAddr) -> Self {
        Self::between(version, Address::Tcp(source), Address::Tcp(destination))
    }
    /// As [`new`](ProxyHeader::new), of any connection. Two ends of different kinds, and those that the version has no
    /// words for, are written as [`unknown`](ProxyHeader::unknown).
    pub fn between(version: ProxyVersion, source: Address, destination: Address) -> Self {
        ProxyHeader { version, local: false, ends: Some((source, destination)), tlvs: Vec::new() }
    }
    /// Of a connection of which nothing is known: the receiver goes by the connection it sees.
    pub fn unknown(version: ProxyVersion) -> Self {
        ProxyHeader { version, local: false, ends: None, tlvs: Vec::new() }
    }
    /// Of a connection that the proxy makes for itself, such as a health check (version 2's LOCAL; in version 1 unknown).
    pub fn local(version: ProxyVersion) -> Self {
        ProxyHeader { version, local: version == ProxyVersion::V2, ends: None, tlvs: Vec::new() }
    }
    /// With a further field; version 1 leaves it out. Kind 0x03, the checksum, is for
    /// [`with_checksum`](ProxyHeader::with_checksum) to write.
    ///
    /// # Errors
    /// [`ProxyError::TooLong`] when the header could not be written any more.
    pub fn with_tlv(mut self, kind: u8, value: impl Into<Vec<u8>>) -> Result<Self, ProxyError> {
        let value = value.into();
        self.tlvs.push((kind, value));
        let fields: usize = self.tlvs.iter().map(|(_, value)| 3 + value.len()).sum();
        // Whatever the addresses take.
        let limit = usize::from(u16::MAX) - 2 * PATH;
        if fields > limit { Err(ProxyError::TooLong(limit)) } else { Ok(self) }
    }
    /// With a checksum (CRC-32C) of all that it says so far, which receivers may verify; version 1 leaves it out.
    ///
    /// # Errors
    /// As [`with_tlv`](ProxyHeader::with_tlv).
    pub fn with_checksum(self) -> Result<Self, ProxyError> {
        let mut header = self.with_tlv(CRC32C, [0; 4])?;
        let sum = crc32c(&header.to_bytes());
        if let Some((_, value)) = header.tlvs.last_mut() {
            *value = sum.to_be_bytes().to_vec();
        }
        Ok(header)
    }
    /// Its version.
    pub fn version(&self) -> ProxyVersion {
        self.version
    }
    /// Whether the proxy made the connection for itself.
    pub fn is_local(&self) -> bool {
        self.local
    }
    /// Who made the connection, where that is known.
    pub fn source(&self) -> Option<&Address> {
        self.ends.as_ref().map(|(source, _)| source)
    }
    /// To whom, where that is known.
    pub fn destination(&self) -> Option<&Address> {
        self.ends.as_ref().map(|(_, destination)| destination)
    }
    /// The further fields, kind and value, in their order.
    pub fn tlvs(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.tlvs.iter().map(|(kind, value)| (*kind, &**value))
    }
    /// The first further field of this kind: 0x01 ALPN, 0x02 the host name the client asked for, 0x20 TLS, ...
    pub fn tlv(&self, kind: u8) -> Option<&[u8]> {
        self.tlvs().find(|(other, _)| *other == kind).map(|(_, value)| value)
    }
    /// Reads the header at the beginning of `data`: the header and how many bytes it takes. `None` when more must come.
    ///
    /// # Errors
    /// What is wrong, as soon as it is certain; [`ProxyError::TooLong`] above `limit` bytes, in version 1 above 107.
    pub fn parse(data: &[u8], limit: usize) -> Result<Option<(ProxyHeader, usize)>, ProxyError> {
        parse::header(data, limit)
    }
    /// As it is written.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self.version {
            ProxyVersion::V1 => self.line().into_bytes(),
            ProxyVersion::V2 => self.binary(),
        }
    }

    fn line(&self) -> String {
        match self.pair() {
            Some(Pair::Sockets(Family::Tcp4 | Family::Tcp6, from, to)) => {
                let kind = if from.is_ipv4() { "TCP4" } else { "TCP6" };
                format!("PROXY {kind} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port())
            }
            _ => "PROXY UNKNOWN\r\n".to_owned(),
        }
    }
    fn binary(&self) -> Vec<u8> {
        let mut block = Vec::new();
        let family = match self.pair() {
            None => Family::Unspecified,
            Some(Pair::Sockets(family, from, to)) => {
                for end in [from, to] {
                    match end.ip() {
                        IpAddr::V4(ip) => block.extend_from_slice(&ip.octets()),
                        IpAddr::V6(ip) => block.extend_from_slice(&ip.octets()),
                    }
                }
                block.extend_from_slice(&from.port().to_be_bytes());
                block.extend_from_slice(&to.port().to_be_bytes());
                family
            }
            Some(Pair::Paths(from, to)) => {
                for path in [from, to] {
                    let start = block.len();
                    block.extend_from_slice(path.as_deref().map_or(&[][..], |path| path.as_os_str().as_bytes()));
                    block.resize(start + PATH, 0);
                }
                Family::Unix
            }
        };
        for (kind, value) in &self.tlvs {
            block.push(*kind);
            block.extend_from_slice(&(value.len() as u16).to_be_bytes());
            block.extend_from_slice(value);
        }
        let mut bytes = Vec::with_capacity(FIXED + block.len());
        bytes.extend_from_slice(&SIGNATURE);
        bytes.push(if self.local { 0x20 } else { 0x21 });
        bytes.push(family.code());
        bytes.extend_from_slice(&(block.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&block);
        bytes
    }
    /// The two ends as one kind of address, if there is one.
    fn pair(&self) -> Option<Pair> {
        match self.ends.as_ref()? {
            (Address::Tcp(from), Address::Tcp(to)) => {
                let (from, to) = one_family(*from, *to);
                Some(Pair::Sockets(if from.is_ipv4() { Family::Tcp4 } else { Family::Tcp6 }, from, to))
            }
            (Address::Udp(from), Address::Udp(to)) => {
                let (from, to) = one_family(*from, *to);
                Some(Pair::Sockets(if from.is_ipv4() { Family::Udp4 } else { Family::Udp6 }, from, to))
            }
            (Address::Unix(from), Address::Unix(to)) => {
                let fits = |path: &Option<PathBuf>| path.as_ref().is_none_or(|path| path.as_os_str().len() <= PATH);
                (fits(from) && fits(to)).then(|| Pair::Paths(from.clone(), to.clone()))
            }
            _ => None,
        }
    }
}

enum Pair {
    Sockets(Family, SocketAddr, SocketAddr),
    Paths(Option<PathBuf>, Option<PathBuf>),
}

fn one_family(from: SocketAddr, to: SocketAddr) -> (SocketAddr, SocketAddr) {
    if from.is_ipv4() == to.is_ipv4() {
        return (from, to);
    }
    let mapped = |end: SocketAddr| match end.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), end.port()),
        IpAddr::V6(_) => end,
    };
    (mapped(from), mapped(to))
}
