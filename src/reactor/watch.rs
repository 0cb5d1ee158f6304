//! Descriptors of the user's own in the loop: Twisted's `addReader` and `addWriter`, for what the reactor has no transport
//! for (inotify, a terminal, another library's socket).
//!
//! What must never happen here: a user's handler or descriptor called or dropped while a cell is borrowed; a descriptor
//! closed while the poller still watches it.
use super::Reactor;
use super::core::Core;
use super::driver::Readiness;
use super::pulse::Kind;
use super::sources::{About, Source};
use crate::error::ConnectionClosed;
use crate::failure::{self, Result};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::rc::{Rc, Weak};

/// What a watched descriptor calls: Twisted's `IReadDescriptor` and `IWriteDescriptor` in one.
///
/// The reactor tells of **changes** (edges). After a call, read, or write, until the system says `WouldBlock`: for what is
/// left lying there no other call comes, unless [`Watch::again`] asks for one. So the descriptor should not be a blocking
/// one. A call without anything to do is possible. A panic is logged and ends the watch.
pub trait Descriptor {
    /// There is something to read, or the other end has closed, or there is an error to be read.
    fn readable(&mut self, watch: &Watch) {
        let _ = watch;
    }
    /// There is room to write; also once at the beginning.
    fn writable(&mut self, watch: &Watch) {
        let _ = watch;
    }
    /// The watch has ended, though nobody asked for it: the reactor has, or this handler has panicked.
    fn connection_lost(&mut self, reason: &ConnectionClosed) {
        let _ = reason;
    }
}

/// The registration of a descriptor. When it is dropped, the descriptor is no longer watched, and it and its handler are
/// dropped (Twisted's `removeReader`, `removeWriter`).
///
/// It owns nothing, so a handler may hold it: the end of the reactor frees both.
#[must_use = "the descriptor is watched while this lives"]
pub struct Watch {
    watched: Weak<Watched>,
    /// Not the one a handler is lent.
    owner: bool,
}

impl Watch {
    /// Ends the watch: the handler is not called again. It and the descriptor are dropped now, or, from inside the handler,
    /// when it returns. Harmless when it has ended.
    pub fn stop(&self) {
        if let Some(watched) = self.watched.upgrade()
            && watched.leave()
        {
            watched.free();
        }
    }
    /// Asks for another call, in a later turn, for whatever the descriptor is ready for then: for a handler that stopped
    /// before `WouldBlock`, so that others have their turn.
    ///
    /// # Errors
    /// Of the operating system, when the descriptor was closed.
    pub fn again(&self) -> Result<()> {
        let watched = self.watched.upgrade().filter(|watched| watched.token.get().is_some());
        if let Some((watched, core)) = watched.and_then(|watched| Some((watched.clone(), watched.core()?)))
            && let Some(token) = watched.token.get()
        {
            core.driver().reregister_fd(watched.fd, token)?;
        }
        Ok(())
    }
    /// Whether the descriptor is watched.
    pub fn is_active(&self) -> bool {
        self.watched.upgrade().is_some_and(|watched| watched.token.get().is_some())
    }
}
impl Drop for Watch {
    fn drop(&mut self) {
        if self.owner {
            self.stop();
        }
    }
}
impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("active", &self.is_active()).finish_non_exhaustive()
    }
}

/// A watched descriptor, owned by the reactor.
struct Watched {
    me: Weak<Watched>,
    reactor: u32,
    fd: RawFd,
    /// While it is watched.
    token: Cell<Option<usize>>,
    /// Out while it runs.
    handler: RefCell<Option<Box<dyn Descriptor>>>,
    running: Cell<bool>,
    /// Keeps `fd` open. Dropped after the handler, and only when the poller has forgotten it.
    descriptor: RefCell<Option<Box<dyn AsFd>>>,
}

impl Watched {
    fn core(&self) -> Option<Rc<Core>> {
        Core::named(self.reactor)
    }
    /// Tells the poller and the loop to forget it; `false` when they had.
    fn leave(&self) -> bool {
        let Some(token) = self.token.take() else { return false };
        if let Some(core) = self.core() {
            let _ = core.driver().deregister_fd(self.fd);
            drop(core.remove_source(token));
        }
        true
    }
    fn free(&self) {
        if self.running.get() {
            return;
        }
        let handler = self.handler.borrow_mut().take();
        let descriptor = self.descriptor.borrow_mut().take();
        // The handler first: it may use the descriptor to the last.
        drop(Parts { _handler: handler, _descriptor: descriptor });
    }
    fn call(&self, call: impl FnOnce(&mut dyn Descriptor, &Watch)) {
        let Some(mut handler) = self.handler.borrow_mut().take() else { return };
        let watch = Watch { watched: self.me.clone(), owner: false };
        self.running.set(true);
        if let Err(failure) = failure::catch(|| call(&mut *handler, &watch)) {
            failure::report("the handler of a watched descriptor", &failure);
            if self.leave() {
                let reason = ConnectionClosed::Failed(failure);
                if let Err(again) = failure::catch(|| handler.connection_lost(&reason)) {
                    failure::report("the handler of a watched descriptor", &again);
                }
            }
        }
        self.running.set(false);
        let old = self.handler.replace(Some(handler));
        drop(old);
        if self.token.get().is_none() {
            self.free();
        }
    }
}

/// Dropped in this order, also when the first drop panics.
struct Parts {
    _handler: Option<Box<dyn Descriptor>>,
    _descriptor: Option<Box<dyn AsFd>>,
}

impl Source for Watched {
    fn kind(&self) -> Kind {
        Kind::Watch
    }
    fn fd(&self) -> Option<RawFd> {
        Some(self.fd)
    }
    fn about(&self) -> About {
        About { reads: true, writes: true, ..About::default() }
    }
    fn ready(&self, _core: &Rc<Core>, readiness: Readiness) {
        if readiness.is_readable() && self.token.get().is_some() {
            self.call(|handler, watch| handler.readable(watch));
        }
        if readiness.is_writable() && self.token.get().is_some() {
            self.call(|handler, watch| handler.writable(watch));
        }
    }
    fn shut(&self, _core: &Rc<Core>) {
        if self.leave() {
            self.call(|handler, _| handler.connection_lost(&ConnectionClosed::Lost(None)));
        }
    }
}

impl Reactor {
    /// Watches a descriptor of the caller's until the [`Watch`] is dropped (Twisted's `addReader`, `addWriter`). The reactor
    /// keeps the descriptor open for that time.
    ///
    /// Give it a descriptor that does not block, and read [`Descriptor`] about edges. A descriptor can be watched once at a
    /// time; a duplicate (`try_clone`) is another.
    ///
    /// # Errors
    /// `io::Error`: of kind `PermissionDenied` for a regular file or a directory, which are always ready and belong on a
    /// thread; `AlreadyExists` when it is watched already; the system's when it is closed.
    /// [`ReactorError::Closed`](crate::error::ReactorError::Closed).
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::os::unix::net::UnixStream;
    /// use std::rc::Rc;
    /// use twistlet::Reactor;
    /// use twistlet::reactor::{Descriptor, Watch};
    ///
    /// struct Printer(Rc<UnixStream>, Reactor);
    /// impl Descriptor for Printer {
    ///     fn readable(&mut self, watch: &Watch) {
    ///         let mut buffer = [0; 512];
    ///         loop {
    ///             match (&*self.0).read(&mut buffer) {
    ///                 Ok(0) => {
    ///                     watch.stop();
    ///                     return drop(self.1.stop());
    ///                 }
    ///                 Ok(n) => println!("{} bytes", n),
    ///                 Err(_) => return, // WouldBlock: until the next time
    ///             }
    ///         }
    ///     }
    /// }
    ///
    /// let reactor = Reactor::new()?;
    /// let (ours, mut theirs) = UnixStream::pair()?;
    /// ours.set_nonblocking(true)?;
    /// let ours = Rc::new(ours);
    /// let _watch = reactor.watch(ours.clone(), Printer(ours, reactor))?;
    /// theirs.write_all(b"hello")?;
    /// drop(theirs);
    /// reactor.run()?;
    /// # Ok::<(), twistlet::Failure>(())
    /// ```
    pub fn watch(&self, descriptor: impl AsFd + 'static, handler: impl Descriptor + 'static) -> Result<Watch> {
        let core = self.open()?;
        let fd = descriptor.as_fd().as_raw_fd();
        let token = core.reserve();
        let registered = core.driver().register_fd(fd, token);
        if let Err(error) = registered {
            drop(core.remove_source(token));
            return Err(explain(error).into());
        }
        let watched = Rc::new_cyclic(|me| Watched {
            me: me.clone(),
            reactor: core.id(),
            fd,
            token: Cell::new(Some(token)),
            handler: RefCell::new(Some(Box::new(handler))),
            running: Cell::new(false),
            descriptor: RefCell::new(Some(Box::new(descriptor))),
        });
        let watch = Watch { watched: Rc::downgrade(&watched), owner: true };
        core.install_source(token, watched);
        Ok(watch)
    }
}

/// The system's own words for this are "operation not permitted".
fn explain(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::EPERM) {
        let text = "a regular file or a directory cannot be watched: it is always ready; read it with defer_to_thread";
        return io::Error::new(io::ErrorKind::PermissionDenied, text);
    }
    error
}
