//! Records as programs see them: types as numbers with names, data as plain values. The library that reads messages does not
//! show.
use super::name;
use hickory_proto::rr::{self, RData};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// The type of a record: one of the constants, or any other number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordType(pub u16);

macro_rules! types {
    ($($name:ident = $number:literal, $doc:literal;)*) => {
        impl RecordType {
            $( #[doc = $doc] pub const $name: RecordType = RecordType($number); )*
        }
        impl fmt::Display for RecordType {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    $( $number => f.write_str(stringify!($name)), )*
                    other => write!(f, "TYPE{other}"),
                }
            }
        }
    };
}
types! {
    A = 1, "IPv4 addresses.";
    NS = 2, "Name servers.";
    CNAME = 5, "What the name is an alias of.";
    SOA = 6, "The start of the zone.";
    PTR = 12, "The name of an address.";
    MX = 15, "Mail exchangers.";
    TXT = 16, "Text.";
    AAAA = 28, "IPv6 addresses.";
    SRV = 33, "Servers of a service.";
    NAPTR = 35, "Rewriting rules.";
    TLSA = 52, "Certificates for TLS.";
    SVCB = 64, "How to reach a service.";
    HTTPS = 65, "How to reach an HTTPS service.";
    ANY = 255, "Whatever the server feels like telling.";
    CAA = 257, "Who may issue certificates.";
}
impl RecordType {
    /// Whether a look-up may ask for it.
    pub(super) fn is_askable(self) -> bool {
        // 0, OPT and those that are transactions, not data.
        self.0 != 0 && self.0 != 41 && !(249..=254).contains(&self.0)
    }
}
impl fmt::Debug for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Whose it is: the name asked for, or what that is an alias of. Without a dot at the end.
    pub name: String,
    /// How much longer it may be relied on.
    pub ttl: Duration,
    /// What it says.
    pub data: Data,
}

/// What a record says. Names are without a dot at the end; the root is `"."`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Data {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// What the name is an alias of.
    Cname(String),
    /// A name server.
    Ns(String),
    /// The name of an address.
    Ptr(String),
    /// A mail exchanger.
    Mx(Mx),
    /// A server of a service.
    Srv(Srv),
    /// Text, in pieces of 255 bytes at most.
    Txt(Vec<Vec<u8>>),
    /// The start of a zone.
    Soa(Soa),
    /// Of another type: its bytes, with names in full.
    Other {
        /// The type.
        kind: RecordType,
        /// The data.
        bytes: Vec<u8>,
    },
}

/// A mail exchanger.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mx {
    /// Lower is better.
    pub preference: u16,
    /// Its name.
    pub exchange: String,
}

/// A server of a service (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Srv {
    /// Lower is better.
    pub priority: u16,
    /// Among equals: its share of the clients.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host; `"."` says that there is no such service.
    pub target: String,
}

/// The start of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Soa {
    /// The zone's first name server.
    pub server: String,
    /// The address of whoever is responsible, as a name.
    pub responsible: String,
    /// The zone's version.
    pub serial: u32,
    /// How long it is to be relied on that something is not there.
    pub minimum: Duration,
}

impl Data {
    /// The address that an A or AAAA record says.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Data::A(ip) => Some((*ip).into()),
            Data::Aaaa(ip) => Some((*ip).into()),
            _ => None,
        }
    }
    fn new(data: &RData) -> Data {
        match data {
            RData::A(ip) => Data::A(ip.0),
            RData::AAAA(ip) => Data::Aaaa(ip.0),
            RData::CNAME(target) => Data::Cname(name::text(&target.0)),
            RData::NS(target) => Data::Ns(name::text(&target.0)),
            RData::PTR(target) => Data::Ptr(name::text(&target.0)),
            RData::MX(mx) => Data::Mx(Mx { preference: mx.preference, exchange: name::text(&mx.exchange) }),
            RData::SRV(srv) => Data::Srv(Srv {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: name::text(&srv.target),
            }),
            RData::TXT(txt) => Data::Txt(txt.txt_data.iter().map(|piece| piece.to_vec()).collect()),
            RData::SOA(soa) => Data::Soa(Soa {
                server: name::text(&soa.mname),
                responsible: name::text(&soa.rname),
                serial: soa.serial,
                minimum: Duration::from_secs(soa.minimum.into()),
            }),
            other => {
                let mut bytes = Vec::new();
                let mut encoder = BinEncoder::new(&mut bytes);
                // Alone, there is nothing a name could be compressed against.
                if let Err(error) = other.emit(&mut encoder) {
                    log::debug!(target: "twistlet", "a {} record could not be written again: {error}", other.record_type());
                }
                Data::Other { kind: RecordType(other.record_type().into()), bytes }
            }
        }
    }
}
impl Record {
    pub(super) fn new(record: &rr::Record) -> Record {
        Record { name: name::text(&record.name), ttl: ttl(record.ttl), data: Data::new(&record.data) }
    }
}

/// A time to live as a duration: at most a week, and nothing for what is negative as RFC 2181 counts.
pub(super) fn ttl(seconds: u32) -> Duration {
    const WEEK: u32 = 7 * 24 * 3600;
    Duration::from_secs(if seconds > i32::MAX as u32 { 0 } else { seconds.min(WEEK) }.into())
}
