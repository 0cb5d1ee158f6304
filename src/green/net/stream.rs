//! `TcpStream`: a connection as std has it, whose waiting is the green thread's. All clones are one socket.
use super::ToSocketAddrs;
use super::addresses::each;
use super::chunk::Chunk;
use super::face::{face, streaming};
use super::place::Direction::{Read, Write};
use super::socket::{Ender, Socket, zero_timeout};
use std::io;
use std::net::{Shutdown, SocketAddr};
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
    pub fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<TcpStream> {
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
        TcpStream::finish(mio::net::TcpStream::connect(*address)?, limit)
    }
    /// Waits for the end of an attempt.
    #[track_caller]
    pub(in crate::green) fn finish(begun: mio::net::TcpStream, limit: Option<Duration>) -> io::Result<TcpStream> {
        let stream = TcpStream::of(begun);
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
        self.0.ended(how);
        done
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
}
face! { TcpStream(std::net::TcpStream as std::net::TcpStream) timeouts }
// 0 is the end, which stays. Less than there was room for is all there was.
streaming! { TcpStream(std::net::TcpStream), "input from a TcpStream", "room to write to a TcpStream", |n, size| 0 < n && n < size }
