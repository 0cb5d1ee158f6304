//! Sockets of the UNIX domain: `std::os::unix::net`, whose waiting is the green thread's. Programs find them under std's path,
//! [`green::os::unix::net`](crate::green::os::unix::net).
mod datagram;
mod listener;
mod stream;

pub use datagram::UnixDatagram;
pub use listener::{Incoming, UnixListener};
pub use stream::UnixStream;
