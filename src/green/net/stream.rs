//! `TcpStream`: a connection as std has it, whose waiting is the green thread's. All clones are one socket.
use super::ToSocketAddrs;
use super::addresses::each;
use super::place::Direction::{Read, Write};
use super::socket::{Socket, zero_timeout};
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// A TCP connection: [`std::net::TcpStream`], but a call that has to wait parks the green thread and not the loop (Eventlet's
/// `GreenSocket`).
///
/// Reading and writing are `std::io`'s traits, on `TcpStream` and on `&TcpStream`. Clones (`try_clone`) are the same socket;
/// dropping the last one closes it, without waiting. Killing a green thread that waits leaves the socket usable.
///
/// ```
/// use std::io::{Read, Write};
/// use twistlet::green::net::{TcpListener, TcpStream};
/// use twistlet::green::spawn;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let address = listener.local_addr()?;
/// let server = spawn(move || {
///     let (mut stream, _) = listener.accept()?;
///     let mut name = String::new();
///     stream.read_to_string(&mut name)?;
///     write!(stream, "hello, {name}")?;
///     Ok(())
/// });
/// let mut client = TcpStream::connect(address)?;
/// client.write_all(b"world")?;
/// client.shutdown(std::net::Shutdown::Write)?;
/// let mut answer = String::new();
/// client.read_to_string(&mut answer)?;
/// assert_eq!(answer, "hello, world");
/// server.wait()?;
/// # Ok::<(), twistlet::Failure>(())
/// ```
///
/// # Errors
/// Of the calls that wait, beside the system's own: `TimedOut` (holding [`TimedOut`](crate::TimedOut)) when a timeout that was
/// set has passed; `ResourceBusy` (holding [`Busy`](crate::error::Busy)) when another green thread waits in the same
/// direction; `Deadlock` on MAIN; and [`ReactorError::Stopped`](crate::error::ReactorError::Stopped).
///
/// # Panics
/// A call that has to wait panics in the main loop and its callbacks. One that need not is fine there.
pub struct TcpStream(Arc<Socket<std::net::TcpStream>>);

impl TcpStream {
    pub(super) fn of(stream: mio::net::TcpStream) -> TcpStream {
        TcpStream(Arc::new(Socket::new(stream.into())))
    }
    /// Connects to the first address that answers. Names are looked up on the thread pool.
    ///
    /// # Errors
    /// The last address's: `ConnectionRefused`, `TimedOut`, `HostUnreachable`, ...; those of [`ToSocketAddrs`].
    ///
    /// # Panics
    /// In the main loop and its callbacks, when it has to wait.
    ///
    /// # Blocking
    /// Until connected.
    #[track_caller]
    pub fn connect(addr: impl ToSocketAddrs) -> io::Result<TcpStream> {
        each(addr, |address| TcpStream::connect_within(address, None))
    }
    /// Connects to one address, within `timeout`.
    ///
    /// # Errors
    /// As [`connect`](TcpStream::connect); `TimedOut` when `timeout` has passed; `InvalidInput` when it is zero.
    ///
    /// # Panics
    /// In the main loop and its callbacks, when it has to wait.
    ///
    /// # Blocking
    /// Until connected, no longer than `timeout`.
    #[track_caller]
    pub fn connect_timeout(addr: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        if timeout.is_zero() {
            return Err(zero_timeout());
        }
        TcpStream::connect_within(addr, Some(timeout))
    }
    #[track_caller]
    fn connect_within(address: &SocketAddr, limit: Option<Duration>) -> io::Result<TcpStream> {
        let stream = TcpStream::of(mio::net::TcpStream::connect(*address)?);
        let outcome = |socket: &std::net::TcpStream| match socket.take_error()? {
            Some(error) => Err(error),
            None => match socket.peer_addr() {
                Err(error) if error.kind() == io::ErrorKind::NotConnected => Err(io::ErrorKind::WouldBlock.into()),
                peer => peer.map(drop),
            },
        };
        stream.0.run_within(limit, Write, "a connection to be made", outcome, |()| false)?;
        Ok(stream)
    }

    /// The peer's address.
    ///
    /// # Errors
    /// `NotConnected` when the peer has gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.inner.peer_addr()
    }
    /// Our own address.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.inner.local_addr()
    }
    /// Ends one direction, or both. Whoever waits in it goes on at once: a reader with what has arrived and then the end of
    /// the stream, a writer with `BrokenPipe`. Never waits, and works from any thread.
    ///
    /// # Errors
    /// `NotConnected` when the peer has gone.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let done = self.0.inner.shutdown(how);
        // Whoever waits on another thread hears it from the system.
        if let Some(watch) = self.0.place.find() {
            if how != Shutdown::Write {
                watch.closed(Read);
            }
            if how != Shutdown::Read {
                watch.closed(Write);
            }
        }
        done
    }
    /// The same socket again: bytes, position, timeouts and `set_nonblocking` are shared, as std's clones share them.
    ///
    /// # Errors
    /// None; std's signature.
    pub fn try_clone(&self) -> io::Result<TcpStream> {
        Ok(TcpStream(Arc::clone(&self.0)))
    }
    /// How long one `read` or `peek` may wait; `None`, the default, is for ever. Expiry is an error of kind `TimedOut`: std
    /// allows `WouldBlock` or `TimedOut`, and its readers never try again on this one. Resolution: a millisecond.
    ///
    /// # Errors
    /// `InvalidInput` for zero.
    pub fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.0.set_timeout(Read, limit)
    }
    /// How long one `write` may wait, likewise.
    ///
    /// # Errors
    /// `InvalidInput` for zero.
    pub fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.0.set_timeout(Write, limit)
    }
    /// What [`set_read_timeout`](TcpStream::set_read_timeout) said.
    ///
    /// # Errors
    /// None; std's signature.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.0.timeout(Read))
    }
    /// What [`set_write_timeout`](TcpStream::set_write_timeout) said.
    ///
    /// # Errors
    /// None; std's signature.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.0.timeout(Write))
    }
    /// Reads without taking.
    ///
    /// # Errors
    /// As `read`.
    ///
    /// # Blocking
    /// Until something has arrived.
    #[track_caller]
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.0.run(Read, "input from a TcpStream", |socket| socket.peek(buf), |_| false)
    }
    /// Whether small writes are sent at once (TCP_NODELAY). Off by default, as in std.
    ///
    /// # Errors
    /// The system's.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.0.inner.set_nodelay(on)
    }
    /// Whether small writes are sent at once.
    ///
    /// # Errors
    /// The system's.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.0.inner.nodelay()
    }
    /// The time-to-live of packets.
    ///
    /// # Errors
    /// The system's.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.0.inner.set_ttl(ttl)
    }
    /// The time-to-live of packets.
    ///
    /// # Errors
    /// The system's.
    pub fn ttl(&self) -> io::Result<u32> {
        self.0.inner.ttl()
    }
    /// The socket's pending error, which this clears.
    ///
    /// # Errors
    /// The system's, of asking.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.0.inner.take_error()
    }
    /// Whether calls fail with `WouldBlock` where they would wait. For all clones.
    ///
    /// # Errors
    /// None; std's signature.
    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        self.0.set_nonblocking(on);
        Ok(())
    }
    /// Gives the socket back to std, blocking unless `set_nonblocking` said otherwise, with its timeouts.
    ///
    /// # Errors
    /// `ResourceBusy` while clones exist, which a blocking socket would make hold the loop; the system's.
    pub fn into_std(self) -> io::Result<std::net::TcpStream> {
        if Arc::strong_count(&self.0) > 1 {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "the socket has clones: drop them before into_std()",
            ));
        }
        self.0.place.expose();
        let stream = self.0.inner.try_clone()?;
        stream.set_nonblocking(self.0.is_nonblocking())?;
        stream.set_read_timeout(self.0.timeout(Read))?;
        stream.set_write_timeout(self.0.timeout(Write))?;
        Ok(stream)
    }

    #[inline]
    #[track_caller]
    fn read_some(&self, buf: &mut [u8]) -> io::Result<usize> {
        let size = buf.len();
        if size == 0 {
            return Ok(0);
        }
        // 0 is the end, which stays.
        let used_up = |n: &usize| 0 < *n && *n < size;
        self.0.run(Read, "input from a TcpStream", |mut socket| io::Read::read(&mut socket, buf), used_up)
    }
    #[track_caller]
    fn read_scattered(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let size: usize = bufs.iter().map(|buf| buf.len()).sum();
        if size == 0 {
            return Ok(0);
        }
        let used_up = |n: &usize| 0 < *n && *n < size;
        self.0.run(Read, "input from a TcpStream", |mut socket| io::Read::read_vectored(&mut socket, bufs), used_up)
    }
    #[inline]
    #[track_caller]
    fn write_some(&self, buf: &[u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let used_up = |n: &usize| *n < buf.len();
        self.0.run(Write, "room to write to a TcpStream", |mut socket| io::Write::write(&mut socket, buf), used_up)
    }
    #[track_caller]
    fn write_gathered(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Ok(0);
        }
        let write = |mut socket: &std::net::TcpStream| io::Write::write_vectored(&mut socket, bufs);
        // The system takes no more than some number of pieces at once, so less than all does not mean that there is no room.
        self.0.run(Write, "room to write to a TcpStream", write, |_| false)
    }
}

macro_rules! io {
    ($($type:ty)*) => { $(
        /// An empty buffer gives 0 at once.
        impl io::Read for $type {
            #[inline]
            #[track_caller]
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.read_some(buf)
            }
            #[track_caller]
            fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                self.read_scattered(bufs)
            }
        }
        /// `write` may take less than all, as ever; an empty one returns at once; `flush` has nothing to do.
        impl io::Write for $type {
            #[inline]
            #[track_caller]
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                self.write_some(buf)
            }
            #[track_caller]
            fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                self.write_gathered(bufs)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
    )* };
}
io! { TcpStream &TcpStream }

/// Timeouts are taken over.
impl From<std::net::TcpStream> for TcpStream {
    fn from(stream: std::net::TcpStream) -> Self {
        let limits = [(Read, stream.read_timeout()), (Write, stream.write_timeout())];
        // These fail only for a descriptor that is no socket, of which every use will say so.
        let _ = stream.set_nonblocking(true);
        let socket = Socket::new(stream);
        for (direction, limit) in limits {
            let _ = limit.and_then(|limit| socket.set_timeout(direction, limit));
        }
        // The caller may have clones of it.
        socket.place.expose();
        TcpStream(Arc::new(socket))
    }
}
impl From<OwnedFd> for TcpStream {
    fn from(fd: OwnedFd) -> Self {
        std::net::TcpStream::from(fd).into()
    }
}
/// For options that are not here. Do not make it blocking: that would hold the loop.
impl AsFd for TcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.expose()
    }
}
impl AsRawFd for TcpStream {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0.inner, f)
    }
}
