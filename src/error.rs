//! Errors that programs tell apart: one enum a family, so a family is trapped as a type and a member matched as a variant.
//!
//! Values only: they are `Clone`, say what happened, to what and what to do about it, and know nothing of who raises them.
use crate::address::Address;
use crate::failure::Failure;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Why a connection ended: what `connection_lost` is told (Twisted's `ConnectionDone`, `ConnectionLost`,
/// `ConnectionAborted`).
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Whether both sides had said all they wanted to say.
    pub fn is_clean(&self) -> bool {
        matches!(self, Self::Done)
    }
    /// Nearest `io::ErrorKind`: an orderly end is `UnexpectedEof` to who still wanted something.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Done => io::ErrorKind::UnexpectedEof,
            Self::Lost(kind) => kind.unwrap_or(io::ErrorKind::ConnectionReset),
            Self::Aborted => io::ErrorKind::ConnectionAborted,
            Self::Failed(failure) => failure.kind(),
        }
    }
    /// What an error of a read or a write means for the connection.
    pub fn from_io(error: &io::Error) -> Self {
        Self::Lost(Some(error.kind()))
    }
}
impl fmt::Display for ConnectionClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("connection closed in order"),
            Self::Lost(None) => f.write_str("connection lost: the peer or the network broke it off"),
            Self::Lost(Some(kind)) => write!(f, "connection lost: {kind}"),
            Self::Aborted => f.write_str("connection aborted by this side"),
            Self::Failed(failure) => write!(f, "connection closed after an error: {failure}"),
        }
    }
}
impl Error for ConnectionClosed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(failure) => Some(failure.error()),
            _ => None,
        }
    }
}

/// Why a connection could not be made (Twisted's `ConnectError` and its subclasses).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody listens there.
    Refused {
        /// Whom we tried.
        to: Address,
    },
    /// No answer in time: ours, or the operating system's.
    TimedOut {
        /// Whom we tried, as the program wrote it.
        to: String,
        /// How long it was tried.
        after: Duration,
    },
    /// The name has no address.
    UnknownHost {
        /// The name.
        host: String,
    },
    /// The name cannot be that of a host, and nobody was asked for it: it is not ASCII, and no valid international name either.
    InvalidHost {
        /// The name, or its beginning.
        host: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Nobody who lives holds the lock of the UNIX socket (Twisted's `BadFileError`).
    NotServed {
        /// Its path.
        path: PathBuf,
    },
    /// No route to the host or its network.
    Unreachable {
        /// Whom we tried.
        to: Address,
    },
    /// The local end asked for could not be had.
    Bind {
        /// The local end.
        to: Address,
    },
    /// The factory declined (`build_protocol` returned `None`).
    NoProtocol,
    /// `stop_connecting` or `disconnect` was called, or the Deferred cancelled.
    Cancelled,
    /// The text of the destination is none.
    InvalidAddress {
        /// The text.
        text: String,
    },
    /// The TLS handshake failed.
    Tls(Failure),
    /// Any other error of the operating system.
    Os {
        /// Whom we tried.
        to: String,
        /// Its `errno`.
        code: i32,
    },
    /// An error of another kind: the factory panicked, a proxy refused, a wire of one's own failed.
    Failed(Failure),
}
impl ConnectError {
    /// What an error of `connect(2)` to `to` means; `after` is how long it was tried.
    pub fn from_io(error: io::Error, to: &Address, after: Duration) -> Self {
        use io::ErrorKind;
        let to = to.clone();
        match (error.kind(), error.raw_os_error()) {
            (ErrorKind::ConnectionRefused, _) => Self::Refused { to },
            (ErrorKind::TimedOut, _) => Self::TimedOut { to: to.to_string(), after },
            (ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable | ErrorKind::NetworkDown, _) => {
                Self::Unreachable { to }
            }
            (_, Some(code)) => Self::Os { to: to.to_string(), code },
            (_, None) => Self::from_failure(Failure::from(error)),
        }
    }
    /// The connect error that a failure is, or [`ConnectError::Failed`] around any other.
    pub fn from_failure(failure: Failure) -> Self {
        match failure.check::<ConnectError>() {
            Some(error) => error.clone(),
            None if failure.is::<Cancelled>() => Self::Cancelled,
            None => Self::Failed(failure),
        }
    }
    /// Nearest `io::ErrorKind`.
    pub fn kind(&self) -> io::ErrorKind {
        use io::ErrorKind;
        match self {
            Self::Refused { .. } => ErrorKind::ConnectionRefused,
            Self::TimedOut { .. } => ErrorKind::TimedOut,
            Self::UnknownHost { .. } | Self::NotServed { .. } => ErrorKind::NotFound,
            Self::Unreachable { .. } => ErrorKind::HostUnreachable,
            Self::Bind { .. } => ErrorKind::AddrNotAvailable,
            Self::InvalidAddress { .. } | Self::InvalidHost { .. } => ErrorKind::InvalidInput,
            Self::NoProtocol | Self::Cancelled => ErrorKind::Other,
            Self::Tls(failure) | Self::Failed(failure) => failure.kind(),
            Self::Os { code, .. } => io::Error::from_raw_os_error(*code).kind(),
        }
    }
}
impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { to } => write!(f, "cannot connect to {to}: refused; is a server listening there?"),
            Self::TimedOut { to, after } => write!(f, "cannot connect to {to}: no answer after {after:?}"),
            Self::UnknownHost { host } => write!(f, "cannot connect to {host:?}: the name has no address"),
            Self::InvalidHost { host, why } => write!(f, "cannot connect to {host:?}: not the name of a host: {why}"),
            Self::NotServed { path } => {
                write!(f, "cannot connect to {}: no server holds its lock file; is one running?", path.display())
            }
            Self::Unreachable { to } => write!(f, "cannot connect to {to}: no route to it"),
            Self::Bind { to } => write!(f, "cannot connect from {to}: this local address is taken or not ours"),
            Self::NoProtocol => f.write_str("connection given up: the factory built no protocol for it"),
            Self::Cancelled => f.write_str("connecting was cancelled"),
            Self::InvalidAddress { text } => {
                write!(f, "cannot connect to {text:?}: not a destination; write host:port, as in \"example.org:80\"")
            }
            Self::Tls(failure) => write!(f, "the TLS handshake failed: {failure}"),
            Self::Os { to, code } => write!(f, "cannot connect to {to}: {}", io::Error::from_raw_os_error(*code)),
            Self::Failed(failure) => write!(f, "cannot connect: {failure}"),
        }
    }
}
impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Tls(failure) | Self::Failed(failure) => Some(failure.error()),
            _ => None,
        }
    }
}

/// A socket could not be listened on (Twisted's `CannotListenError`).
#[derive(Clone, Debug)]
pub struct CannotListen {
    /// The address or path, as the program wrote it.
    pub at: String,
    /// What the operating system said.
    pub source: Arc<io::Error>,
}
impl CannotListen {
    /// `at` could not be listened on because of `source`.
    pub fn new(at: impl fmt::Display, source: io::Error) -> Self {
        Self { at: at.to_string(), source: Arc::new(source) }
    }
}
impl fmt::Display for CannotListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen at {}: {}", self.at, self.source)
    }
}
impl Error for CannotListen {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

/// What a reactor cannot do now (Twisted's `ReactorNotRunning`, `ReactorAlreadyRunning`, `ReactorNotRestartable`, ...).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReactorError {
    /// This thread has one already.
    AlreadyInstalled,
    /// It has ended: its `run` returned, or it was closed.
    Closed,
    /// `run` was called while it runs.
    AlreadyRunning,
    /// `run` was called after it had stopped.
    NotRestartable,
    /// `stop` was called while it does not run.
    NotRunning,
    /// It stopped while somebody waited.
    Stopped,
    /// A call that waits for the reactor's thread was made on that thread.
    WrongThread,
    /// This process is a child of `fork`, and the reactor its parent's.
    Forked,
}

/// A name of something that ended, or has not begun, was told to do something (Twisted's `NotConnectingError`,
/// `NotListeningError`, `AlreadyListened`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortError {
    /// `stop_connecting` on a connector that is not connecting.
    NotConnecting,
    /// `connect` on a connector that is connecting or connected.
    AlreadyConnecting,
    /// `stop_listening` on a port that does not listen.
    NotListening,
    /// `start_listening` on a port that listens.
    AlreadyListening,
    /// The port or connector ended with its reactor.
    Gone,
}

/// `DelayedCall::reset` or `delay` came too late (Twisted's `AlreadyCalled`, `AlreadyCancelled`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerError {
    /// It has been called.
    AlreadyCalled,
    /// It has been cancelled.
    AlreadyCancelled,
}

/// The Deferred was cancelled (Twisted's `CancelledError`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

/// The promise went away unfired. Twisted would have waited for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromiseDropped;

/// A Deferred was made to wait for itself: a callback returned the Deferred it is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitsForItself;

/// A deadline passed: of `Deferred::add_timeout`, of `with_timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut(pub Duration);

/// Nobody won a `race`: what each input failed with, in input order (Twisted's `FailureGroup`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllFailed {
    /// One a contestant; none if there were none.
    pub failures: Vec<Failure>,
}

/// The first input of an `all_or_first_error` that failed (Twisted's `FirstError`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstError {
    /// Which it was, in input order.
    pub index: usize,
    /// What it failed with.
    pub failure: Failure,
}

/// A bounded queue is full, or has as many getters waiting as it allows (Twisted's `QueueOverflow`, `QueueUnderflow`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueError {
    /// `put` on a full queue; the number is its size.
    Overflow(usize),
    /// `get` when as many wait as may; the number is how many that is.
    Underflow(usize),
}

/// The green thread was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Killed;

/// The object behind a `WeakShared` is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// A blocking call on MAIN that nothing can ever wake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadlock {
    /// Who waits, for what and where.
    pub report: String,
}

/// Two green threads wanted the same direction of one descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    /// Who waits there already.
    pub holder: String,
    /// Who was refused.
    pub refused: String,
}

/// Descriptors were to be sent, and there was no byte to go with each of them (Twisted's `FileDescriptorOverrun`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorOverrun {
    /// Descriptors that waited.
    pub descriptors: usize,
    /// Bytes that waited.
    pub bytes: usize,
}

/// A line grew above the limit before its end came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineTooLong {
    /// The limit in bytes.
    pub limit: usize,
}

/// Messages by pattern, for errors without a source.
macro_rules! messages {
    ($($type:ty { $($pattern:pat => $text:literal),+ $(,)? })+) => { $(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $( $pattern => write!(f, $text) ),+ }
            }
        }
        impl Error for $type {}
    )+ };
}
messages! {
    ReactorError {
        Self::AlreadyInstalled => "this thread has a reactor already: use Reactor::current(), or close() that one first",
        Self::Closed => "the reactor has ended: its run() returned or close() was called; make another with Reactor::new()",
        Self::AlreadyRunning => "the reactor is running already: run() was called from one of its callbacks",
        Self::NotRestartable => "a reactor that has stopped cannot run again: make another with Reactor::new()",
        Self::WrongThread => "this waits for the reactor, so it cannot be called on the reactor's own thread: return a Deferred instead",
        Self::Forked => "this process is a child of fork() and the reactor is its parent's: exec a program, or make a reactor in a thread of the child",
        Self::NotRunning => "the reactor is not running: call stop() from one of its callbacks, or close() to end it",
        Self::Stopped => "the reactor stopped before this was done",
    }
    PortError {
        Self::NotConnecting => "the connector is not connecting: it is connected, or disconnected already",
        Self::AlreadyConnecting => "the connector is connecting or connected already: disconnect() it first",
        Self::NotListening => "the port is not listening: it was stopped already",
        Self::AlreadyListening => "the port is listening already: stop_listening() first",
        Self::Gone => "the port or connector ended with its reactor",
    }
    TimerError {
        Self::AlreadyCalled => "the delayed call has been called already: schedule another",
        Self::AlreadyCancelled => "the delayed call has been cancelled already: schedule another",
    }
    Cancelled { Self => "the Deferred was cancelled" }
    PromiseDropped { Self => "the promise was dropped without being fired: whoever was to give the result went away" }
    WaitsForItself { Self => "a callback returned the Deferred it is attached to, which would wait for itself for ever" }
    TimedOut { Self(after) => "timed out after {after:?}" }
    QueueError {
        Self::Overflow(size) => "the queue is full: it holds {size} items and takes no more before one is taken",
        Self::Underflow(backlog) => "too many wait for the queue: {backlog} may, and as many do",
    }
    Killed { Self => "the green thread was killed" }
    Gone { Self => "the shared object is gone: its last owner dropped it" }
    Deadlock { Self { report } => "deadlock: nothing can ever wake this call\n{report}" }
    Busy { Self { holder, refused } => "{refused} cannot wait here: {holder} does, and one descriptor serves one reader and one writer" }
    DescriptorOverrun { Self { descriptors, bytes } => "{descriptors} descriptors were to be sent with {bytes} bytes: write at least one byte for each, in the same callback" }
    LineTooLong { Self { limit } => "a line is longer than the limit of {limit} bytes; raise max_length if such lines are to be taken" }
}
impl fmt::Display for AllFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.failures[..] {
            [] => f.write_str("a race without contestants has no winner"),
            [only] => write!(f, "the only contestant failed: {only}"),
            [first, ..] => write!(f, "all {} contestants failed, the first with: {first}", self.failures.len()),
        }
    }
}
impl fmt::Display for FirstError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "number {} failed first: {}", self.index, self.failure)
    }
}
impl Error for FirstError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.failure.error())
    }
}
impl Error for AllFailed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.failures.first().map(|failure| failure.error() as _)
    }
}
