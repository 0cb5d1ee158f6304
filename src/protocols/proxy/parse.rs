//! Reading a PROXY header: a function of the bytes so far, so that it does not matter in which pieces they came.
use super::ProxyError;
use super::header::{CRC32C, FIXED, PATH, ProxyHeader, ProxyVersion, SIGNATURE};
use crate::address::Address;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// How a line of version 1 begins.
const WORD: &[u8] = b"PROXY ";
/// The longest line of version 1, its end included.
const LONGEST_LINE: usize = 107;

type Outcome = Result<Option<(ProxyHeader, usize)>, ProxyError>;

pub(super) fn header(data: &[u8], limit: usize) -> Outcome {
    if begins(data, &SIGNATURE) {
        return binary(data, limit);
    }
    if begins(data, WORD) {
        return line(data);
    }
    Err(ProxyError::NoHeader)
}
/// Whether `data` begins with `word`, or is itself its beginning.
fn begins(data: &[u8], word: &[u8]) -> bool {
    let length = data.len().min(word.len());
    data[..length] == word[..length]
}

fn line(data: &[u8]) -> Outcome {
    let seen = &data[..data.len().min(LONGEST_LINE)];
    let Some(end) = memchr::memchr(b'\n', seen) else {
        return if seen.len() == LONGEST_LINE { Err(ProxyError::TooLong(LONGEST_LINE)) } else { Ok(None) };
    };
    let Some(line) = seen[..end].strip_suffix(b"\r") else {
        return Err(ProxyError::BadLine("it ends with a line feed alone"));
    };
    let Ok(line) = std::str::from_utf8(line) else { return Err(ProxyError::BadLine("it is not text")) };
    let mut words = line.split(' ').skip(1);
    let ends = match words.next() {
        // Whatever follows.
        Some("UNKNOWN") => None,
        Some("TCP4") => Some(ends::<Ipv4Addr>(words)?),
        Some("TCP6") => Some(ends::<Ipv6Addr>(words)?),
        _ => return Err(ProxyError::BadLine("neither TCP4 nor TCP6 nor UNKNOWN")),
    };
    Ok(Some((ProxyHeader { version: ProxyVersion::V1, local: false, ends, tlvs: Vec::new() }, end + 1)))
}
fn ends<'a, Ip: std::str::FromStr + Into<IpAddr>>(
    mut words: impl Iterator<Item = &'a str>,
) -> Result<(Address, Address), ProxyError> {
    let mut next = || words.next().ok_or(ProxyError::BadLine("two addresses and two ports are wanted"));
    let (from, to, from_port, to_port) = (next()?, next()?, next()?, next()?);
    if words.next().is_some() {
        return Err(ProxyError::BadLine("there is something after the ports"));
    }
    let end = |ip: &str, port: &str| {
        let ip: Ip = ip.parse().map_err(|_| ProxyError::BadLine("not an address of the kind it says"))?;
        Ok(Address::Tcp(SocketAddr::new(ip.into(), self::port(port)?)))
    };
    Ok((end(from, from_port)?, end(to, to_port)?))
}
/// Decimal, without sign and without leading zeros, which somebody might read as octal.
fn port(text: &str) -> Result<u16, ProxyError> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain).ok_or(ProxyError::BadLine("not a port"))
}

/// Address family and transport in one byte of version 2.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Unspecified,
    Tcp4,
    Udp4,
    Tcp6,
    Udp6,
    Unix,
    UnixDatagram,
}
impl Family {
    pub(super) fn code(self) -> u8 {
        match self {
            Family::Unspecified => 0x00,
            Family::Tcp4 => 0x11,
            Family::Udp4 => 0x12,
            Family::Tcp6 => 0x21,
            Family::Udp6 => 0x22,
            Family::Unix => 0x31,
            Family::UnixDatagram => 0x32,
        }
    }
    fn of(code: u8) -> Option<Family> {
        let all = [
            Family::Unspecified,
            Family::Tcp4,
            Family::Udp4,
            Family::Tcp6,
            Family::Udp6,
            Family::Unix,
            Family::UnixDatagram,
        ];
        all.into_iter().find(|family| family.code() == code)
    }
    /// How many bytes two addresses take.
    fn room(self) -> usize {
        match self {
            Family::Unspecified => 0,
            Family::Tcp4 | Family::Udp4 => 12,
            Family::Tcp6 | Family::Udp6 => 36,
            Family::Unix | Family::UnixDatagram => 2 * PATH,
        }
    }
}

fn binary(data: &[u8], limit: usize) -> Outcome {
    let Some(fixed) = data.get(..FIXED) else {
        // Told before the rest comes, as soon as it is there.
        return match data.get(SIGNATURE.len()) {
            Some(byte) if byte >> 4 != 2 => Err(ProxyError::BadVersion(byte >> 4)),
            _ if limit < FIXED => Err(ProxyError::TooLong(limit)),
            _ => Ok(None),
        };
    };
    let (version, command) = (fixed[12] >> 4, fixed[12] & 0xf);
    let length = FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if version != 2 {
        return Err(ProxyError::BadVersion(version));
    }
    if length > limit {
        return Err(ProxyError::TooLong(limit));
    }
    let local = match command {
        0 => true,
        1 => false,
        other => return Err(ProxyError::BadCommand(other)),
    };
    // What a proxy says of a connection of its own is to be ignored, whatever it is.
    let family =
        if local { Family::Unspecified } else { Family::of(fixed[13]).ok_or(ProxyError::BadFamily(fixed[13]))? };
    let room = family.room();
    if length - FIXED < room {
        return Err(ProxyError::ShortAddresses);
    }
    let Some(whole) = data.get(..length) else { return Ok(None) };
    let (addresses, fields) = whole[FIXED..].split_at(room);
    let mut header =
        ProxyHeader { version: ProxyVersion::V2, local, ends: addresses_of(family, addresses), tlvs: Vec::new() };
    if !local {
        header.tlvs = tlvs(whole, fields)?;
    }
    Ok(Some((header, length)))
}

fn addresses_of(family: Family, block: &[u8]) -> Option<(Address, Address)> {
    let socket = |ip: &[u8], port: &[u8]| {
        let ip: IpAddr = match <[u8; 4]>::try_from(ip) {
            Ok(octets) => octets.into(),
            Err(_) => <[u8; 16]>::try_from(ip).ok()?.into(),
        };
        Some(SocketAddr::new(ip, u16::from_be_bytes(port.try_into().ok()?)))
    };
    let sockets = |ip: usize| {
        let (ips, ports) = block.split_at(2 * ip);
        Some((socket(&ips[..ip], &ports[..2])?, socket(&ips[ip..], &ports[2..])?))
    };
    let path = |field: &[u8]| {
        let length = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
        let path = std::ffi::OsStr::from_bytes(&field[..length]);
        Address::Unix((!path.is_empty()).then(|| PathBuf::from(path)))
    };
    match family {
        Family::Unspecified => None,
        Family::Tcp4 => sockets(4).map(|(from, to)| (Address::Tcp(from), Address::Tcp(to))),
        Family::Tcp6 => sockets(16).map(|(from, to)| (Address::Tcp(from), Address::Tcp(to))),
        Family::Udp4 => sockets(4).map(|(from, to)| (Address::Udp(from), Address::Udp(to))),
        Family::Udp6 => sockets(16).map(|(from, to)| (Address::Udp(from), Address::Udp(to))),
        Family::Unix | Family::UnixDatagram => Some((path(&block[..PATH]), path(&block[PATH..]))),
    }
}

fn tlvs(whole: &[u8], mut rest: &[u8]) -> Result<Vec<(u8, Vec<u8>)>, ProxyError> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let [kind, high, low, more @ ..] = rest else { return Err(ProxyError::BadTlv) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((value, next)) = more.split_at_checked(length) else { return Err(ProxyError::BadTlv) };
        if *kind == CRC32C {
            // Each costs a pass over the whole.
            if found.iter().any(|(kind, _)| *kind == CRC32C) {
                return Err(ProxyError::BadChecksum);
            }
            verify(whole, whole.len() - more.len(), value)?;
        }
        found.push((*kind, value.to_vec()));
        rest = next;
    }
    Ok(found)
}
/// The sum is over the header with zeros in the sum's place.
fn verify(whole: &[u8], at: usize, value: &[u8]) -> Result<(), ProxyError> {
    let sum: [u8; 4] = value.try_into().map_err(|_| ProxyError::BadChecksum)?;
    let mut copy = whole.to_vec();
    copy[at..at + 4].fill(0);
    if crc32c(&copy) == u32::from_be_bytes(sum) { Ok(()) } else { Err(ProxyError::BadChecksum) }
}

/// CRC-32C (Castagnoli), bit by bit: headers are short.
pub(super) fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}
