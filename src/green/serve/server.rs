//! `Server`: accepts until told to stop.
use super::handle::ServeHandle;
use super::listener::{Accepting, Listener};
use super::room::Room;
use crate::deferred::IntoDeferred;
use crate::failure::Result;
use crate::green::net::{is_exhaustion, now};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How often it is told that there are no descriptors left.
const COMPLAINT: Duration = Duration::from_secs(1);

/// Serves connections as they come, a green thread each, at most 1000 at once, until a handler returns [`StopServe`](super::StopServe)
/// (Eventlet's `serve`). [`Server`] has options. For TCP and UNIX listeners.
///
/// # Errors
/// The listener's, when it cannot go on.
///
/// # Panics
/// In the main loop and its callbacks.
///
/// # Blocking
/// Until stopped, or the listener is closed.
#[track_caller]
pub fn serve<L: Listener, R: IntoDeferred + 'static>(
    listener: &L,
    handler: impl Fn(L::Stream, L::Address) -> R + 'static,
) -> Result<()> {
    Server::new().serve(listener, handler)
}

/// A server: how many connections at once, what a failing handler means, how it ends.
///
/// ```
/// use std::io::{Read, Write};
/// use std::time::Duration;
/// use twistlet::green::net::TcpStream;
/// use twistlet::green::serve::{Server, listen};
/// use twistlet::green::spawn;
///
/// let listener = listen("127.0.0.1:0")?;
/// let address = listener.local_addr()?;
/// let server = Server::new().concurrency(100).grace(Duration::from_secs(5));
/// let handle = server.handle();
/// spawn(move || {
///     let mut text = String::new();
///     TcpStream::connect(address)?.read_to_string(&mut text)?;
///     assert_eq!(text, "hello");
///     handle.stop();
///     Ok(())
/// });
/// server.serve(&listener, |mut stream, _peer| Ok(stream.write_all(b"hello")?))?;
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[derive(Clone, Debug)]
pub struct Server {
    concurrency: usize,
    strict: bool,
    grace: Option<Duration>,
    stack_size: Option<usize>,
    handle: ServeHandle,
}
impl Default for Server {
    fn default() -> Self {
        Server::new()
    }
}

impl Server {
    /// At most 1000 connections at once; failures of handlers are logged; handlers outlive the server.
    pub fn new() -> Self {
        Server { concurrency: 1000, strict: false, grace: None, stack_size: None, handle: ServeHandle::new() }
    }
    /// How many connections are served at once, on each thread. Default 1000, at least 1. Beyond that one more is accepted and
    /// waits; the others wait in the listener's backlog.
    pub fn concurrency(mut self, connections: usize) -> Self {
        self.concurrency = connections.max(1);
        self
    }
    /// Whether the first failure of a handler ends the server, which returns it, as Eventlet's does. Off by default: failures
    /// are told to [`on_unobserved_failure`](crate::failure::on_unobserved_failure) or logged, but for peers that went away.
    pub fn strict(mut self, on: bool) -> Self {
        self.strict = on;
        self
    }
    /// How long the handlers that run may go on once it stops; then they are killed, and `serve` returns when they have ended.
    /// Without, `serve` returns at once and they go on.
    pub fn grace(mut self, time: Duration) -> Self {
        self.grace = Some(time);
        self
    }
    /// Address space for a handler's stack, in bytes, as in [`Builder::stack_size`](crate::green::Builder::stack_size).
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }
    /// What stops it, and all servers that are its clones.
    pub fn handle(&self) -> ServeHandle {
        self.handle.clone()
    }
    /// Calls `handler` for each connection, in a green thread of its own, with the connection and its peer's address. The
    /// connection is closed when that has ended, by return, failure, panic or kill, whoever has clones of it.
    ///
    /// Returns when a handler returns [`StopServe`](super::StopServe), the handle says so, or the listener is closed. The listener stays
    /// open, unless it was closed. When the green thread that serves is killed, the handlers go on.
    ///
    /// # Errors
    /// The listener's, when it cannot go on: no descriptors or memory, and connections that broke off before they were
    /// accepted, do not count. When [strict](Server::strict), a handler's failure.
    ///
    /// # Panics
    /// In the main loop and its callbacks.
    ///
    /// # Blocking
    /// Until stopped; see [`grace`](Server::grace).
    #[track_caller]
    pub fn serve<L: Listener, R: IntoDeferred + 'static>(
        &self,
        listener: &L,
        handler: impl Fn(L::Stream, L::Address) -> R + 'static,
    ) -> Result<()> {
        let room = Room::enter(listener, &self.handle, self.strict, self.stack_size)?;
        let left = Leaving(&room);
        let handler = Rc::new(handler);
        let served = self.accept(listener, &room, &handler);
        let ended = self.wind_up(&room);
        drop(left);
        match room.take_failure() {
            Some(failure) => Err(failure),
            None => served.and(ended),
        }
    }
    #[track_caller]
    fn accept<L: Accepting, R: IntoDeferred + 'static>(
        &self,
        listener: &L,
        room: &Rc<Room<L>>,
        handler: &Rc<impl Fn(L::Stream, L::Address) -> R + 'static>,
    ) -> Result<()> {
        let is_over = || self.handle.is_stopped();
        let mut complained: Option<Instant> = None;
        while !is_over() {
            let (stream, peer) = match listener.accept_unless(&is_over) {
                Ok(connection) => connection,
                Err(_) if is_over() || listener.closed() => break,
                Err(error) if is_exhaustion(&error) => {
                    // The next `accept` waits first.
                    let now = now()?;
                    if complained.is_none_or(|last| now.saturating_duration_since(last) >= COMPLAINT) {
                        complained = Some(now);
                        log::error!(target: "twistlet", "cannot accept a connection, and tries again: {error}");
                    }
                    continue;
                }
                Err(error) if is_the_peers(&error) => {
                    log::debug!(target: "twistlet", "a connection ended before it was accepted: {error}");
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            // One more than are served is accepted, and waits.
            while room.active() >= self.concurrency && !is_over() {
                room.wait("a handler to end", None)?;
            }
            if !is_over() {
                room.start(stream, peer, handler);
            }
        }
        Ok(())
    }
    /// The handlers have their time, and their end.
    #[track_caller]
    fn wind_up<L: Accepting>(&self, room: &Room<L>) -> Result<()> {
        let since = now()?;
        while room.active() > 0 {
            let Some(grace) = self.handle.grace().or(self.grace) else { return Ok(()) };
            let left = grace.saturating_sub(now()?.saturating_duration_since(since));
            if left.is_zero() {
                room.clear();
                break;
            }
            room.wait("the handlers to end", Some(left))?;
        }
        Ok(())
    }
}

/// What accept(2) says of a connection and not of the listener.
fn is_the_peers(error: &io::Error) -> bool {
    let codes = [
        libc::ECONNABORTED,
        libc::ECONNRESET,
        libc::EPROTO,
        libc::EPERM,
        libc::ENETDOWN,
        libc::ENOPROTOOPT,
        libc::EHOSTDOWN,
        libc::EHOSTUNREACH,
        libc::ENETUNREACH,
        libc::ETIMEDOUT,
    ];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Leaves the room, also when the server is killed.
struct Leaving<'a, L: Accepting>(&'a Room<L>);
impl<L: Accepting> Drop for Leaving<'_, L> {
    fn drop(&mut self) {
        self.0.leave();
    }
}
