//! How a child ended, and what can go wrong with one: values.
use super::Signal;
use std::error::Error;
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;

/// How a child process ended (Twisted's `ProcessDone` and `ProcessTerminated`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ExitReason {
    /// It exited with code 0.
    Done,
    /// It exited with another code.
    Failed {
        /// The code, 1 to 255.
        code: i32,
    },
    /// A signal ended it.
    Killed {
        /// Which.
        signal: Signal,
        /// Whether the system wrote a core.
        core_dumped: bool,
    },
    /// It still runs: the reactor ended before it did.
    Left,
    /// It has ended, and somebody else in this program has taken its status, or SIGCHLD is ignored.
    Unknown,
}

impl ExitReason {
    /// Whether it exited with code 0.
    pub fn is_success(self) -> bool {
        self == Self::Done
    }
    /// The code it exited with, if it did.
    pub fn code(self) -> Option<i32> {
        match self {
            Self::Done => Some(0),
            Self::Failed { code } => Some(code),
            _ => None,
        }
    }
    /// The signal that ended it, if one did.
    pub fn signal(self) -> Option<Signal> {
        match self {
            Self::Killed { signal, .. } => Some(signal),
            _ => None,
        }
    }
    /// As std has it; `None` when there is no status.
    pub fn status(self) -> Option<ExitStatus> {
        let raw = match self {
            Self::Done => 0,
            Self::Failed { code } => (code & 0xff) << 8,
            Self::Killed { signal, core_dumped } => signal.number() | if core_dumped { 0x80 } else { 0 },
            Self::Left | Self::Unknown => return None,
        };
        Some(ExitStatus::from_raw(raw))
    }
}
impl From<ExitStatus> for ExitReason {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(0), _) => Self::Done,
            (Some(code), _) => Self::Failed { code },
            (None, Some(signal)) => Self::Killed { signal: signal.into(), core_dumped: status.core_dumped() },
            (None, None) => Self::Unknown,
        }
    }
}
impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("the process exited with code 0"),
            Self::Failed { code } => write!(f, "the process exited with code {code}"),
            Self::Killed { signal, core_dumped: false } => write!(f, "the process was ended by {signal}"),
            Self::Killed { signal, core_dumped: true } => {
                write!(f, "the process was ended by {signal}, and dumped core")
            }
            Self::Left => f.write_str("the process still ran when the reactor ended"),
            Self::Unknown => f.write_str("the process has ended, and somebody else has taken its exit status"),
        }
    }
}
impl Error for ExitReason {}

/// A process could not be started.
#[derive(Clone, Debug)]
pub struct SpawnError {
    /// The program, as it was asked for.
    pub program: String,
    /// What the operating system said.
    pub source: Arc<io::Error>,
}
impl SpawnError {
    pub(super) fn new(program: &str, source: io::Error) -> Self {
        SpawnError { program: program.to_owned(), source: Arc::new(source) }
    }
    /// Nearest `io::ErrorKind`.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}
impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot start {}: {}", self.program, self.source)
    }
}
impl Error for SpawnError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

/// What cannot be done to a child process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProcessError {
    /// It has exited (Twisted's `ProcessExitedAlready`).
    ExitedAlready,
    /// It has no such pipe, or one of the other direction.
    NoSuchPipe {
        /// The number asked for.
        fd: i32,
    },
    /// There is no signal of this name.
    UnknownSignal {
        /// The name.
        text: String,
    },
    /// The system refuses: no such signal, or the process belongs to another user by now.
    Refused {
        /// Its `errno`.
        code: i32,
    },
    /// It has no terminal.
    NoTerminal,
}
impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExitedAlready => f.write_str("the process has exited already"),
            Self::NoSuchPipe { fd } => {
                write!(f, "the process has no pipe {fd} of this direction: name it with child_fd when it is started")
            }
            Self::UnknownSignal { text } => {
                write!(f, "there is no signal {text:?}: write it as \"TERM\", or give its number")
            }
            Self::Refused { code } => write!(f, "the system refuses: {}", io::Error::from_raw_os_error(*code)),
            Self::NoTerminal => f.write_str("the process has no terminal of ours: start it with Command::terminal"),
        }
    }
}
impl Error for ProcessError {}

/// A process wrote more than was to be kept. It has been killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputTooLong {
    /// The limit in bytes.
    pub limit: usize,
}
impl fmt::Display for OutputTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the process wrote more than the limit of {} bytes; use output_limited if that is to be taken",
            self.limit
        )
    }
}
impl Error for OutputTooLong {}
