//! `DnsError`: why a look-up gave no records. A name that does not exist, a name without such records, servers that failed and
//! servers that did not answer are different news.
use super::record::RecordType;
use crate::error::ConnectError;
use crate::failure::Failure;
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Why a look-up failed (Twisted's `DomainError` and its subclasses, `DNSQueryTimeoutError`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DnsError {
    /// There is no such name (NXDOMAIN).
    NoSuchName {
        /// The name that was asked for.
        name: String,
    },
    /// The name exists, without records of this type.
    NoRecords {
        /// The name that was asked for.
        name: String,
        /// The type of the records.
        kind: RecordType,
    },
    /// The servers answered that they could not, or would not, tell: SERVFAIL, REFUSED and so on, or with nonsense.
    ServerFailed {
        /// The name that was asked for.
        name: String,
        /// The last server's response code; `None` where what it sent was no valid message, or no answer to the question.
        code: Option<u16>,
    },
    /// No server answered.
    TimedOut {
        /// The name that was asked for.
        name: String,
        /// How long they were asked.
        after: Duration,
    },
    /// No server could be reached: nobody listens there, or there is no way to it.
    Unreachable {
        /// The name that was asked for.
        name: String,
    },
    /// The name is an alias of an alias and so on, in a ring or without end.
    TooManyAliases {
        /// The name that was asked for.
        name: String,
    },
    /// The text is no domain name: a label is empty or longer than 63 bytes, or all of it is longer than 255.
    InvalidName {
        /// The text.
        name: String,
    },
    /// Records of this type cannot be asked for by a look-up: zone transfers and what only stands in messages.
    InvalidType {
        /// The type.
        kind: RecordType,
    },
    /// No socket could be had to ask with.
    NoSocket(Failure),
    /// So many look-ups wait already that this one was refused.
    TooManyLookUps {
        /// How many.
        waiting: usize,
    },
}

impl DnsError {
    /// Whether the records are known not to exist, as against not having been found out about.
    pub fn is_negative(&self) -> bool {
        matches!(self, Self::NoSuchName { .. } | Self::NoRecords { .. })
    }
    /// The same news about another name, of which this one is an alias.
    pub(super) fn about(mut self, other: &str) -> Self {
        match &mut self {
            Self::NoSuchName { name }
            | Self::NoRecords { name, .. }
            | Self::ServerFailed { name, .. }
            | Self::TimedOut { name, .. }
            | Self::Unreachable { name }
            | Self::TooManyAliases { name } => other.clone_into(name),
            Self::InvalidName { .. } | Self::InvalidType { .. } | Self::NoSocket(_) | Self::TooManyLookUps { .. } => {}
        }
        self
    }
    /// What it means for a connection to `host`.
    pub(crate) fn into_connect_error(self, host: &str) -> ConnectError {
        match self {
            Self::NoSuchName { .. } | Self::NoRecords { .. } | Self::InvalidName { .. } => {
                ConnectError::UnknownHost { host: host.to_owned() }
            }
            Self::TimedOut { after, .. } => ConnectError::TimedOut { to: host.to_owned(), after },
            other => ConnectError::Failed(other.into()),
        }
    }
}

fn code_name(code: u16) -> &'static str {
    match code {
        1 => "FORMERR: it did not understand the question",
        2 => "SERVFAIL: it could not find out",
        4 => "NOTIMP: it does not do this",
        5 => "REFUSED: it does not answer us",
        9 => "NOTAUTH",
        16 => "BADVERS",
        _ => "an error",
    }
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchName { name } => write!(f, "the name {name} does not exist"),
            Self::NoRecords { name, kind } => write!(f, "the name {name} has no {kind} records"),
            Self::ServerFailed { name, code: Some(code) } => {
                write!(f, "no name server could look {name} up: the last one answered {code}, {}", code_name(*code))
            }
            Self::ServerFailed { name, code: None } => {
                write!(f, "no name server could look {name} up: the last one sent no valid answer")
            }
            Self::TimedOut { name, after } => {
                write!(
                    f,
                    "looking {name} up: no name server answered in {after:?}; is there a network, and does /etc/resolv.conf, or \
                     the program's configuration, name the right ones?"
                )
            }
            Self::Unreachable { name } => {
                write!(
                    f,
                    "looking {name} up: no name server could be reached; is there a network, and does /etc/resolv.conf, or the \
                     program's configuration, name the right ones?"
                )
            }
            Self::TooManyAliases { name } => write!(f, "the name {name} is an alias of too many others, or of itself"),
            Self::InvalidName { name } => write!(f, "{name:?} is no domain name"),
            Self::InvalidType { kind } => write!(f, "{kind} records cannot be looked up"),
            Self::NoSocket(failure) => write!(f, "no socket to ask a name server with: {failure}"),
            Self::TooManyLookUps { waiting } => write!(f, "{waiting} look-ups wait for name servers already"),
        }
    }
}
impl Error for DnsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NoSocket(failure) => Some(failure.error()),
            _ => None,
        }
    }
}
