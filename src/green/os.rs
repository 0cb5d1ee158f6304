//! `std::os` of the systems this runs on: descriptors, and the sockets of the UNIX domain that wait without holding the loop.
//!
//! | std | here |
//! |---|---|
//! | `os::fd` | std's own, whole; all green sockets have its traits but `FromRawFd` (see [`net`](crate::green::net)) |
//! | `os::unix::net` | [`unix::net`], all that is stable |
//! | `os::unix::fs` | [`unix::fs`](crate::green::fs::unix), all that is stable but `chroot` and its like |
//! | `os::unix::process` | [`unix::process`](crate::green::process::unix), without the unsafe `pre_exec` |
//! | `os::unix::{ffi, io}` | std's own |
//! | `os::linux::net` | [`linux::net`] |

/// Descriptors: std's own.
pub mod fd {
    pub use std::os::fd::*;
}

/// What UNIX systems have.
pub mod unix {
    pub use crate::green::fs::unix as fs;
    pub use crate::green::process::unix as process;
    pub use std::os::unix::{ffi, io};

    /// Sockets of the UNIX domain: `std::os::unix::net`.
    pub mod net {
        pub use crate::green::net::unix::{Incoming, UnixDatagram, UnixListener, UnixStream};
        pub use std::os::unix::net::SocketAddr;
    }
}

/// What Linux has.
#[cfg(target_os = "linux")]
pub mod linux {
    /// `std::os::linux::net`.
    pub mod net {
        use crate::green::net::TcpStream;
        use std::io;
        pub use std::os::linux::net::SocketAddrExt;

        /// Options of TCP that Linux alone has: [`std::os::linux::net::TcpStreamExt`].
        pub trait TcpStreamExt {
            /// Whether acknowledgements are sent at once (TCP_QUICKACK). The system may change its mind later.
            ///
            /// # Errors
            /// The system's.
            fn set_quickack(&self, quickack: bool) -> io::Result<()>;
            /// Whether acknowledgements are sent at once now.
            ///
            /// # Errors
            /// The system's.
            fn quickack(&self) -> io::Result<bool>;
        }
        impl TcpStreamExt for TcpStream {
            fn set_quickack(&self, quickack: bool) -> io::Result<()> {
                socket2::SockRef::from(self).set_tcp_quickack(quickack)
            }
            fn quickack(&self) -> io::Result<bool> {
                socket2::SockRef::from(self).tcp_quickack()
            }
        }
    }
}
