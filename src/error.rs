//! Errors that programs tell apart: one enum a family, so a family is trapped as a type and a member matched as a variant.
use crate::address::Address;
use crate::failure::Failure;
use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

/// Why a connection ended: what `connection_lost` is told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectionClosed {
    /// Closed in order, by either side.
    Done,
    /// The network or the peer broke it off; data may be missing.
    Lost(Option<io::ErrorKind>),
    /// `abort_connection` was called here.
    Aborted,
    /// A protocol's own error: a panic in a callback, TLS, a line that was too long.
    Failed(Failure),
}
impl ConnectionClosed {
    pub fn is_clean(&self) -> bool {
        matches!(self, Self::Done)
    }
}

/// Why a connection could not be made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectError {
    Refused {
        to: Address,
    },
    TimedOut {
        to: String,
        after: Duration,
    },
    UnknownHost {
        host: String,
    },
    Unreachable {
        to: Address,
    },
    Bind {
        to: Address,
    },
    /// The factory declined (`build_protocol` returned `None`).
    NoProtocol,
    Cancelled,
    InvalidAddress {
        text: String,
    },
    Tls(Failure),
    Os {
        to: String,
        code: i32,
    },
}

#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ReactorError {
    AlreadyInstalled,
    Closed,
    AlreadyRunning,
    NotRestartable,
    NotRunning,
    /// It stopped while somebody waited.
    Stopped,
}
/// `DelayedCall::reset` or `delay` came too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerError {
    AlreadyCalled,
    AlreadyCancelled,
}
#[derive(Clone, Debug)]
pub struct CannotListen {
    pub at: String,
    pub source: std::sync::Arc<io::Error>,
}
/// The Deferred was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;
/// The promise went away unfired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromiseDropped;
/// A deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut(pub Duration);
/// The green thread was killed.
#[derive(Clone, Debug)]
pub struct Killed;
/// The object behind a `WeakShared` is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;
/// A blocking call on MAIN that nothing can ever wake.
#[derive(Clone, Debug)]
pub struct Deadlock {
    pub report: String,
}
/// Two green threads wanted the same direction of one descriptor.
#[derive(Clone, Debug)]
pub struct Busy {
    pub holder: String,
    pub refused: String,
}
#[derive(Clone, Debug)]
pub struct LineTooLong {
    pub limit: usize,
}

macro_rules! errors { ($($t:ty)*) => { $(
    impl fmt::Display for $t { fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { todo!() } }
    impl Error for $t {}
)* } }
errors! { ConnectionClosed ConnectError ReactorError TimerError CannotListen Cancelled PromiseDropped TimedOut Killed Gone Deadlock Busy LineTooLong }
