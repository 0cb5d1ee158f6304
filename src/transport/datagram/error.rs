//! What sending a datagram, and changing a datagram port, can fail with.
use std::error::Error;
use std::fmt;
use std::io;

/// A datagram was not sent, or the port could not be changed (Twisted's `MessageLengthError`, `InvalidAddressError`,
/// `MulticastJoinError`, ...). What the network does to datagrams on their way nobody tells.
///
/// ```
/// use twistlet::transport::DatagramError;
/// let error = DatagramError::TooLong { len: 70_000 };
/// assert_eq!(error.to_string(), "a datagram of 70000 bytes is longer than the network takes: send less at once");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DatagramError {
    /// Longer than this socket, or the way there, takes.
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// No literal address, or one of another family than the port's.
    InvalidAddress {
        /// It, as the program wrote it.
        text: String,
    },
    /// The system has no room for it now. Nothing is kept: send it later, or count it as lost.
    WouldBlock,
    /// `write` on a port that is not connected: `connect` it, or use `write_to`.
    NotConnected,
    /// `connect` on a port that is connected.
    AlreadyConnected,
    /// `write_to` somebody else than the port is connected with.
    OtherPeer {
        /// Whom it is connected with.
        peer: String,
    },
    /// The group could not be joined or left.
    Multicast {
        /// The group.
        group: String,
        /// The system's error number.
        code: i32,
    },
    /// The port has stopped listening, or ended with its reactor.
    Gone,
    /// Any other error of the operating system.
    Os {
        /// Its `errno`.
        code: i32,
    },
    /// The socket cannot do this: a simulated one, or one of another family.
    Unsupported,
}

impl DatagramError {
    /// Nearest `io::ErrorKind`.
    pub fn kind(&self) -> io::ErrorKind {
        use io::ErrorKind;
        match self {
            Self::TooLong { .. } | Self::InvalidAddress { .. } | Self::OtherPeer { .. } => ErrorKind::InvalidInput,
            Self::WouldBlock => ErrorKind::WouldBlock,
            Self::NotConnected | Self::Gone => ErrorKind::NotConnected,
            Self::AlreadyConnected => ErrorKind::AlreadyExists,
            Self::Multicast { code, .. } | Self::Os { code } => io::Error::from_raw_os_error(*code).kind(),
            Self::Unsupported => ErrorKind::Unsupported,
        }
    }
    /// What an error of the system means for a datagram of `len` bytes to `to`.
    pub(super) fn from_io(error: &io::Error, len: usize, to: &dyn fmt::Display) -> Self {
        match error.raw_os_error() {
            Some(libc::EMSGSIZE) => Self::TooLong { len },
            Some(libc::EDESTADDRREQ | libc::ENOTCONN) => Self::NotConnected,
            Some(libc::EAFNOSUPPORT | libc::EINVAL) => Self::InvalidAddress { text: to.to_string() },
            _ if error.kind() == io::ErrorKind::WouldBlock => Self::WouldBlock,
            // Interfaces and sockets of the system have run out of buffers; it passes.
            Some(libc::ENOBUFS) => Self::WouldBlock,
            Some(code) => Self::Os { code },
            None if error.kind() == io::ErrorKind::InvalidInput => Self::InvalidAddress { text: to.to_string() },
            None => Self::Unsupported,
        }
    }
    pub(super) fn option(error: &io::Error) -> Self {
        error.raw_os_error().map_or(Self::Unsupported, |code| Self::Os { code })
    }
}

impl fmt::Display for DatagramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { len } => {
                write!(f, "a datagram of {len} bytes is longer than the network takes: send less at once")
            }
            Self::InvalidAddress { text } => {
                write!(f, "cannot send to {text:?}: write a literal address of the port's own family and a port")
            }
            Self::WouldBlock => {
                f.write_str("the system has no room for another datagram now: send it later or drop it")
            }
            Self::NotConnected => f.write_str("the datagram port is not connected: connect() it, or use write_to()"),
            Self::AlreadyConnected => f.write_str("the datagram port is connected already, which can be done once"),
            Self::OtherPeer { peer } => {
                write!(f, "the datagram port is connected with {peer} and sends to nobody else")
            }
            Self::Multicast { group, code } => {
                let error = io::Error::from_raw_os_error(*code);
                write!(f, "cannot join or leave the multicast group {group}: {error}")
            }
            Self::Gone => f.write_str("the datagram port has stopped listening or ended with its reactor"),
            Self::Os { code } => write!(f, "the datagram port: {}", io::Error::from_raw_os_error(*code)),
            Self::Unsupported => f.write_str("this datagram port cannot do that"),
        }
    }
}
impl Error for DatagramError {}
impl From<DatagramError> for io::Error {
    fn from(error: DatagramError) -> Self {
        match error {
            DatagramError::Os { code } | DatagramError::Multicast { code, .. } => io::Error::from_raw_os_error(code),
            error => io::Error::new(error.kind(), error),
        }
    }
}
