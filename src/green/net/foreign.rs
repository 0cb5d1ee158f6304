//! Waiting for descriptors that are no sockets of ours: another library's, a pipe, a device (Eventlet's `trampoline`).
//!
//! Each thread has a table of those that are waited for; a descriptor is watched while somebody waits for it, and no longer.
//! What must never happen here: a wait for a number that has become another descriptor's.
use super::place::{self, Direction, Watch};
use crate::error::{ConnectionClosed, TimedOut};
use crate::green::hub::Hub;
use crate::green::task::prepare;
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

/// One that is waited for, in one direction or in both.
struct Foreign {
    fd: RawFd,
    core: u32,
    watch: Rc<Watch>,
    /// The number was closed, and is another descriptor's by now.
    stale: Cell<bool>,
}
thread_local! {
    static WAITED_FOR: RefCell<Vec<Rc<Foreign>>> = const { RefCell::new(Vec::new()) };
}

/// Waits until a descriptor has something to read, its end included, no longer than `limit`; `None` is for ever. It may be a raw
/// number, which must stay open meanwhile.
///
/// For code that reads and writes descriptors by itself; it should set them non-blocking, and try first: waiting costs two
/// system calls. Another error than `TimedOut` is made by the caller, as in `wait_readable(..).map_err(..)` (HB-44).
///
/// ```
/// use std::io::{Read, Write};
/// use std::time::Duration;
/// use twistlet::green::net::wait_readable;
///
/// let (mut near, mut far) = std::os::unix::net::UnixStream::pair()?; // std's own: a stranger
/// far.write_all(b"hello")?;
/// wait_readable(&near, Some(Duration::from_secs(5)))?;
/// assert_eq!(near.read(&mut [0; 16])?, 5);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// `TimedOut` (holding [`TimedOut`]); `ResourceBusy` (holding [`Busy`](crate::error::Busy)) when another green thread waits for
/// the same of it; `AlreadyExists` when a green socket or [`Reactor::watch`](crate::Reactor::watch) has it; `PermissionDenied`
/// for what is always ready, such as a regular file; `NotConnected` (holding [`ConnectionClosed::Aborted`]) when the number
/// was closed meanwhile and came to be another descriptor's; the system's for one that is not open.
///
/// # Panics
/// In the main loop and its callbacks.
///
/// # Blocking
/// Until it is ready.
#[track_caller]
pub fn wait_readable(fd: &impl AsRawFd, limit: Option<Duration>) -> io::Result<()> {
    wait(fd.as_raw_fd(), Direction::Read, "a descriptor to be readable", limit)
}
/// Waits until a descriptor has room for what is written to it, no longer than `limit`; otherwise as [`wait_readable`].
///
/// # Errors
/// As [`wait_readable`].
///
/// # Panics
/// In the main loop and its callbacks.
///
/// # Blocking
/// Until it is ready.
#[track_caller]
pub fn wait_writable(fd: &impl AsRawFd, limit: Option<Duration>) -> io::Result<()> {
    wait(fd.as_raw_fd(), Direction::Write, "a descriptor to be writable", limit)
}

#[track_caller]
fn wait(fd: RawFd, direction: Direction, reason: &'static str, limit: Option<Duration>) -> io::Result<()> {
    let foreign = watched(fd)?;
    let listed = Listed(&foreign);
    foreign.watch.is_free(direction)?;
    let wait = prepare()?;
    foreign.watch.blocked(direction);
    let waiting = foreign.watch.begin(direction, wait.waiter());
    let in_time = wait.park_timeout(reason, limit)? || !foreign.watch.is_idle(direction);
    drop(waiting);
    drop(listed);
    if foreign.stale.get() {
        return Err(io::Error::new(io::ErrorKind::NotConnected, ConnectionClosed::Aborted));
    }
    match limit {
        Some(limit) if !in_time => Err(io::Error::new(io::ErrorKind::TimedOut, TimedOut(limit))),
        _ => Ok(()),
    }
}

/// Has the descriptor watched, so that its present state comes as an event.
fn watched(fd: RawFd) -> io::Result<Rc<Foreign>> {
    let core = place::core()?;
    let known = find(fd, core.id());
    if let Some(foreign) = known {
        match core.driver().reregister_fd(fd, foreign.watch.token()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => foreign.is_stale(),
            registered => return registered.map(|()| foreign),
        }
    }
    let watch = Watch::unplaced(core.reserve(), fd);
    core.install_source(watch.token(), watch.clone());
    let registered = core.driver().register_fd(fd, watch.token());
    if let Err(error) = registered {
        drop(core.remove_source(watch.token()));
        return Err(explain(error));
    }
    let foreign = Rc::new(Foreign { fd, core: core.id(), watch, stale: Cell::new(false) });
    WAITED_FOR.with(|table| table.borrow_mut().push(Rc::clone(&foreign)));
    Ok(foreign)
}
fn find(fd: RawFd, core: u32) -> Option<Rc<Foreign>> {
    WAITED_FOR.with(|table| table.borrow().iter().find(|other| other.fd == fd && other.core == core).cloned())
}

impl Foreign {
    /// The system does not know our watch any more: the descriptor was closed, and this is another.
    fn is_stale(self: &Rc<Self>) {
        self.stale.set(true);
        self.unlist();
        self.watch.closed(Direction::Read);
        self.watch.closed(Direction::Write);
    }
    fn unlist(self: &Rc<Self>) {
        let unlisted = WAITED_FOR.try_with(|table| {
            let mut table = table.borrow_mut();
            let position = table.iter().position(|other| Rc::ptr_eq(other, self));
            position.map(|position| table.swap_remove(position))
        });
        drop(unlisted);
    }
}

/// The watch ends with the last who waits.
struct Listed<'a>(&'a Rc<Foreign>);
impl Drop for Listed<'_> {
    fn drop(&mut self) {
        let foreign = self.0;
        if !foreign.watch.is_waited_for() {
            foreign.unlist();
            if let Some(hub) = Hub::existing()
                && hub.core().id() == foreign.core
            {
                let token = foreign.watch.token();
                if hub.core().source(token).is_some() && !foreign.stale.get() {
                    // Fails when it was closed: then the system has forgotten it.
                    let _ = hub.core().driver().deregister_fd(foreign.fd);
                }
                drop(hub.core().remove_source(token));
            }
        }
    }
}

fn explain(error: io::Error) -> io::Error {
    let (kind, text) = match error.raw_os_error() {
        Some(libc::EPERM) => {
            let text = "a regular file or a directory cannot be waited for: it is always ready";
            (io::ErrorKind::PermissionDenied, text)
        }
        Some(libc::EEXIST) => {
            let text = "the descriptor is watched already, by a green socket or Reactor::watch: wait through that";
            (io::ErrorKind::AlreadyExists, text)
        }
        _ => return error,
    };
    io::Error::new(kind, text)
}
