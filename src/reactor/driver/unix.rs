//! UNIX sockets of the system: names in the file system and abstract ones, the files that binding makes, their permissions and
//! locks, and what a server that died has left. Used through `driver::Driver`.
//!
//! What must never happen here: a file removed that is not a socket, or one that somebody else serves.
use super::lock::Lock;
use super::{Datagram, Listener, Socket};
use crate::address::Address;
use crate::sys::ancillary::{self, Besides};
use socket2::{Domain, SockAddr, SockRef, Type};
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// How the file of a UNIX socket is made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FileOptions {
    /// Its permissions; otherwise those of any new file.
    pub(crate) mode: Option<u32>,
    /// With a lock beside it.
    pub(crate) lock: bool,
}

/// The file of a bound UNIX socket, removed with it, unless somebody else has put another there since; and its lock, which goes
/// after it.
#[derive(Debug)]
pub(crate) struct BoundPath {
    path: PathBuf,
    inode: Option<(u64, u64)>,
    #[allow(dead_code, reason = "it is there to be dropped")]
    lock: Option<Lock>,
}
impl BoundPath {
    /// Of a socket that is bound there already.
    pub(crate) fn of(path: PathBuf) -> Self {
        BoundPath { inode: inode(&path), path, lock: None }
    }
    /// Somebody else removes it.
    pub(crate) fn leave(mut self) {
        self.inode = None;
    }
}
impl Drop for BoundPath {
    fn drop(&mut self) {
        if self.inode.is_some() && inode(&self.path) == self.inode {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
fn inode(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|data| (data.dev(), data.ino()))
}

/// Linux has names that are no files: their first byte is NUL.
fn is_abstract(path: &Path) -> bool {
    path.as_os_str().as_bytes().first() == Some(&0)
}

fn socket(kind: Type) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::UNIX, kind, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn bind(kind: Type, path: &Path, options: FileOptions) -> io::Result<(socket2::Socket, Option<BoundPath>)> {
    let mut socket = socket(kind)?;
    let address = SockAddr::unix(path)?;
    if is_abstract(path) {
        socket.bind(&address)?;
        return Ok((socket, None));
    }
    if path.as_os_str().is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a path is needed"));
    }
    let lock = if options.lock { Some(Lock::take(path)?) } else { None };
    if let Some(mode) = options.mode {
        socket = restrict(socket, mode);
    }
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(kind, path) => {
            std::fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        bound => bound?,
    }
    let bound = BoundPath { path: path.to_owned(), inode: inode(path), lock };
    if let Some(mode) = options.mode {
        // The umask may have taken some away.
        let made = std::fs::symlink_metadata(path)?.permissions().mode() & 0o7777;
        if made != mode {
            std::fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
    }
    Ok((socket, Some(bound)))
}

/// On Linux the file that `bind` makes has the permissions of the socket: there is no moment at which others could connect.
fn restrict(socket: socket2::Socket, mode: u32) -> socket2::Socket {
    let file = std::fs::File::from(OwnedFd::from(socket));
    // Refused elsewhere, and then `bind` does what can be done.
    let _ = file.set_permissions(Permissions::from_mode(mode));
    OwnedFd::from(file).into()
}

/// A socket file nobody serves any more: its server died without removing it. Does not wait for one that lives and is busy.
pub(crate) fn is_stale(kind: Type, path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket());
    let refused = || -> io::Result<bool> {
        let connected = socket(kind)?.connect(&SockAddr::unix(path)?);
        Ok(connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused))
    };
    is_socket && refused().unwrap_or(false)
}

pub(super) fn listen(path: &Path, backlog: u32, options: FileOptions) -> io::Result<Listener> {
    let (socket, bound) = bind(Type::STREAM, path, options)?;
    socket.listen(backlog.min(i32::MAX as u32) as i32)?;
    Ok(Listener::Unix(mio::net::UnixListener::from_std(socket.into()), bound))
}

pub(super) fn connect(path: &Path) -> io::Result<Socket> {
    let socket = socket(Type::STREAM)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(Socket::Unix(mio::net::UnixStream::from_std(socket.into())))
}

/// Reads, descriptors included.
pub(super) fn receive(
    stream: &mio::net::UnixStream,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let (n, besides) = ancillary::receive(stream.as_fd(), buffer, descriptors)?;
    if besides != Besides::default() {
        let Besides { truncated, unknown } = besides;
        let lost = if truncated { "descriptors that did not fit into this process are lost" } else { "" };
        log::warn!(target: "twistlet", "beside data on a UNIX socket: {unknown} messages of unknown kinds ignored; {lost}");
    }
    Ok(n)
}

/// A datagram socket; without a path one that nobody can send to.
pub(super) fn bind_datagram(path: Option<&Path>, options: FileOptions) -> io::Result<Datagram> {
    let (socket, bound) = match path {
        Some(path) => bind(Type::DGRAM, path, options)?,
        None => (socket(Type::DGRAM)?, None),
    };
    Ok(Datagram::Unix(mio::net::UnixDatagram::from_std(socket.into()), bound))
}

/// Whether somebody who lives holds the lock of the socket at `path`.
pub(crate) fn is_locked(path: &Path) -> bool {
    is_abstract(path) || Lock::is_held(path)
}

pub(crate) fn address(address: &std::os::unix::net::SocketAddr) -> Address {
    if let Some(path) = address.as_pathname() {
        return Address::Unix(Some(path.to_owned()));
    }
    #[cfg(target_os = "linux")]
    if let Some(name) = std::os::linux::net::SocketAddrExt::as_abstract_name(address) {
        return Address::abstract_unix(name);
    }
    Address::Unix(None)
}

/// Adopts a listening socket of the caller's, TCP or UNIX.
pub(crate) fn adopt_listener(fd: OwnedFd) -> io::Result<Listener> {
    let socket = adopt(fd, Type::STREAM)?;
    Ok(match socket.domain()? {
        Domain::UNIX => Listener::Unix(mio::net::UnixListener::from_std(socket.into()), None),
        _ => Listener::Tcp(mio::net::TcpListener::from_std(socket.into())),
    })
}
/// Adopts a connected socket of the caller's.
pub(crate) fn adopt_connection(fd: OwnedFd) -> io::Result<Socket> {
    let socket = adopt(fd, Type::STREAM)?;
    Ok(match socket.domain()? {
        Domain::UNIX => Socket::Unix(mio::net::UnixStream::from_std(socket.into())),
        _ => Socket::Tcp(mio::net::TcpStream::from_std(socket.into())),
    })
}
/// Adopts a datagram socket of the caller's.
pub(crate) fn adopt_datagram(fd: OwnedFd) -> io::Result<Datagram> {
    let socket = adopt(fd, Type::DGRAM)?;
    Ok(match socket.domain()? {
        Domain::UNIX => Datagram::Unix(mio::net::UnixDatagram::from_std(socket.into()), None),
        _ => Datagram::Udp(mio::net::UdpSocket::from_std(socket.into())),
    })
}
fn adopt(fd: OwnedFd, kind: Type) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::from(fd);
    let invalid = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    match (socket.r#type()?, socket.domain()?) {
        (is, _) if is != kind => return invalid("this descriptor is a socket of another type"),
        (_, Domain::UNIX | Domain::IPV4 | Domain::IPV6) => {}
        _ => return invalid("this descriptor is a socket of a family that is not supported"),
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Where the socket of the caller's is, for people.
pub(crate) fn describe(fd: &OwnedFd) -> Option<Address> {
    let socket = SockRef::from(fd);
    let address = socket.local_addr().ok()?;
    if let Some(address) = address.as_socket() {
        return Some(if socket.r#type().ok()? == Type::DGRAM { Address::Udp(address) } else { Address::Tcp(address) });
    }
    address.as_unix().map(|address| self::address(&address))
}
