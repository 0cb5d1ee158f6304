//! Why there is no stack. Public by way of `greenlet`; nothing here may allocate address space.
use super::stack::MAX_SHIFT;
use std::error::Error;
use std::fmt;
use std::io;

/// Why there is no stack for a new greenlet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StackError {
    /// The kernel's limit of memory mappings a process is reached: each stack takes two of them on this system.
    TooManyMappings {
        /// `vm.max_map_count`, if it could be read.
        limit: Option<usize>,
    },
    /// The system gave no address space: an `ulimit -v`, a container's limit, or strict overcommit.
    OutOfMemory {
        /// Bytes asked for.
        size: usize,
        /// What the system said, as `errno`.
        code: i32,
    },
    /// More than a gigabyte was asked for.
    TooLarge {
        /// Bytes asked for.
        size: usize,
    },
    /// The thread is ending: thread-local destructors cannot run greenlets.
    ThreadEnding,
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyMappings { limit: Some(limit) } => {
                write!(
                    f,
                    "no stack for a greenlet: the process has vm.max_map_count = {limit} memory mappings; raise vm.max_map_count"
                )
            }
            Self::TooManyMappings { limit: None } => {
                f.write_str("no stack for a greenlet: too many memory mappings; raise vm.max_map_count")
            }
            Self::OutOfMemory { size, code } => write!(
                f,
                "no address space for a greenlet's stack of {} KiB: {}; use smaller stacks or raise the limit (ulimit -v)",
                size >> 10,
                io::Error::from_raw_os_error(*code)
            ),
            Self::TooLarge { size } => {
                write!(
                    f,
                    "a greenlet's stack of {} MiB is more than the largest, {} MiB",
                    size >> 20,
                    1 << (MAX_SHIFT - 20)
                )
            }
            Self::ThreadEnding => f.write_str("no new greenlets: the thread is ending"),
        }
    }
}
impl Error for StackError {}
