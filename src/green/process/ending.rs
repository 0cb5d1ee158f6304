//! The end of a child: who waits for it, and how they are told.
//!
//! A child belongs to the OS process, waiting to the thread: each thread with waiters watches the child by a pidfd of its
//! own, or, where there is none, by SIGCHLD. Whoever comes first reaps, under the lock, and std keeps the status. What must
//! never happen here: a process id used after its child has been reaped; a blocking call under the lock.
use super::ExitStatus;
use super::reaper;
use crate::error::ReactorError;
use crate::failure::Failure;
use crate::green::hub::Hub;
use crate::green::task::Waiters;
use crate::reactor::driver::Readiness;
use crate::reactor::{About, Core, Kind, Source, Subscription};
use crate::sys;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::process;
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The end of a child, for others than the holder of the [`Child`](super::Child): clones are the same child, and any number
/// of green threads may wait for it, on any OS thread. Made by [`Child::ending`](super::Child::ending). Not in std.
///
/// ```
/// use twistlet::green::process::Command;
/// use twistlet::green::spawn;
///
/// let child = Command::new("sh").args(["-c", "exit 7"]).spawn()?;
/// let waiters: Vec<_> = (0..3)
///     .map(|_| {
///         let ending = child.ending();
///         spawn(move || Ok(ending.wait()?.code()))
///     })
///     .collect();
/// for waiter in waiters {
///     assert_eq!(waiter.wait()?, Some(7));
/// }
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[derive(Clone)]
pub struct Ending(pub(super) Arc<Process>);

impl Ending {
    /// Waits for the end. The child's stdin stays as it is: one that reads it to the end ends only when it is closed.
    ///
    /// # Errors
    /// `ECHILD` when somebody else has reaped it.
    ///
    /// # Panics
    /// In the main loop and its callbacks, unless it has ended.
    ///
    /// # Blocking
    /// Until it has ended.
    #[track_caller]
    pub fn wait(&self) -> io::Result<ExitStatus> {
        match self.0.wait(None)? {
            Some(status) => Ok(status),
            None => Err(stopped()),
        }
    }
    /// As [`wait`](Ending::wait), no longer than `limit`; `None`: it still runs.
    ///
    /// # Errors
    /// As `wait`.
    ///
    /// # Panics
    /// As `wait`.
    ///
    /// # Blocking
    /// At most for `limit`. Zero never waits.
    #[track_caller]
    pub fn wait_timeout(&self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        self.0.wait(Some(limit))
    }
    /// The status, if it has ended. Never waits.
    ///
    /// # Errors
    /// As `wait`.
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }
    /// Kills the child (SIGKILL). Never waits; one that has been waited for is left alone.
    ///
    /// # Errors
    /// The system's, as std has them.
    pub fn kill(&self) -> io::Result<()> {
        self.0.kill()
    }
    /// The child's process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}
impl fmt::Debug for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ending").field("id", &self.id()).finish_non_exhaustive()
    }
}

fn stopped() -> io::Error {
    Failure::from(ReactorError::Stopped).into()
}

/// A child. When nobody holds it any more, the reaper gets it.
pub(super) struct Process {
    id: u32,
    kill_on_drop: bool,
    /// Out only while this is dropped.
    child: Mutex<Option<process::Child>>,
}

impl Process {
    pub(super) fn new(child: process::Child, kill_on_drop: bool) -> Arc<Process> {
        Arc::new(Process { id: child.id(), kill_on_drop, child: Mutex::new(Some(child)) })
    }
    pub(super) fn id(&self) -> u32 {
        self.id
    }
    fn lock(&self) -> MutexGuard<'_, Option<process::Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub(super) fn kill(&self) -> io::Result<()> {
        self.lock().as_mut().map_or(Ok(()), process::Child::kill)
    }
    pub(super) fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.lock().as_mut().map_or(Ok(None), process::Child::try_wait)
    }
    /// A descriptor for it, unless it has ended. Nobody can reap it in between, so the id is its.
    fn descriptor(&self) -> io::Result<Result<OwnedFd, ExitStatus>> {
        let mut child = self.lock();
        if let Some(status) = child.as_mut().map_or(Ok(None), process::Child::try_wait)? {
            return Ok(Err(status));
        }
        reaper::open(self.id).map(Ok)
    }

    /// The status; `None` when `limit` has passed.
    #[track_caller]
    pub(super) fn wait(self: &Arc<Self>, limit: Option<Duration>) -> io::Result<Option<ExitStatus>> {
        let ended = self.try_wait()?;
        if ended.is_some() || limit == Some(Duration::ZERO) {
            return Ok(ended);
        }
        let core = match Hub::current() {
            Some(hub) if !hub.is_stopped() => Rc::clone(hub.core()),
            // No loop and no green threads: nobody is held up by a thread that waits.
            _ => return self.wait_on_thread(limit),
        };
        let deadline = limit.and_then(|limit| core.now().checked_add(limit));
        let mut misled = false;
        loop {
            let in_time = match self.news(&core, misled)? {
                Ok(news) => news.wait(left(deadline, core.now()))?,
                Err(status) => return Ok(Some(status)),
            };
            if let Some(status) = self.try_wait()? {
                return Ok(Some(status));
            }
            if !in_time {
                return Ok(None);
            }
            // Its end is known, but somebody who traces it is told first: SIGCHLD comes when it is our turn.
            misled = true;
        }
    }
    fn wait_on_thread(&self, limit: Option<Duration>) -> io::Result<Option<ExitStatus>> {
        match self.descriptor()? {
            Ok(fd) => drop(sys::wait_readable(fd.as_fd(), limit)?),
            Err(status) => return Ok(Some(status)),
        }
        self.try_wait()
    }
    /// By what this thread hears of its end, which is still to come; or the status.
    fn news(&self, core: &Rc<Core>, misled: bool) -> io::Result<Result<News, ExitStatus>> {
        if !misled {
            if let Some(watch) = Watch::existing(self.id, core) {
                return Ok(Ok(News::Watch(watch)));
            }
            match self.descriptor() {
                Ok(Ok(fd)) => return Watch::begin(self.id, fd, core).map(|watch| Ok(News::Watch(watch))),
                Ok(Err(status)) => return Ok(Err(status)),
                Err(error) if reaper::is_unsupported(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let bell = Bell::here(core)?;
        // It may have ended before the subscription.
        Ok(match self.try_wait()? {
            Some(status) => Err(status),
            None => Ok(News::Bell(bell)),
        })
    }
}
fn left(deadline: Option<Instant>, now: Instant) -> Option<Duration> {
    deadline.map(|deadline| deadline.saturating_duration_since(now))
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut child) = child {
            if self.kill_on_drop {
                // It has ended, or nothing can be done.
                let _ = child.kill();
            }
            reaper::bury(child);
        }
    }
}

enum News {
    Watch(Rc<Watch>),
    Bell(Rc<Bell>),
}
impl News {
    #[track_caller]
    fn wait(&self, limit: Option<Duration>) -> io::Result<bool> {
        const REASON: &str = "the end of a child process";
        match self {
            News::Watch(watch) => {
                let _stay = Stay(watch);
                Ok(watch.waiters.wait(REASON, limit)?)
            }
            News::Bell(bell) => Ok(bell.waiters.wait(REASON, limit)?),
        }
    }
}
thread_local! {
    static WATCHES: RefCell<HashMap<u32, Rc<Watch>>> = RefCell::default();
    static BELL: RefCell<Weak<Bell>> = const { RefCell::new(Weak::new()) };
}

/// This thread's watch of a child: there as long as somebody waits.
struct Watch {
    id: u32,
    core: Weak<Core>,
    token: Cell<Option<usize>>,
    fd: OwnedFd,
    waiters: Waiters,
}
impl Watch {
    fn existing(id: u32, core: &Rc<Core>) -> Option<Rc<Watch>> {
        let watch = WATCHES.try_with(|watches| watches.borrow().get(&id).cloned()).ok().flatten();
        watch.filter(|watch| watch.token.get().is_some() && Weak::ptr_eq(&watch.core, &Rc::downgrade(core)))
    }
    fn begin(id: u32, fd: OwnedFd, core: &Rc<Core>) -> io::Result<Rc<Watch>> {
        let token = reaper::register(core, &fd)?;
        let core_name = Rc::downgrade(core);
        let watch =
            Rc::new(Watch { id, core: core_name, token: Cell::new(Some(token)), fd, waiters: Waiters::default() });
        core.install_source(token, Rc::clone(&watch) as Rc<dyn Source>);
        let old = WATCHES.try_with(|watches| watches.borrow_mut().insert(id, Rc::clone(&watch)));
        drop(old);
        Ok(watch)
    }
    fn leave(&self) {
        let Some(token) = self.token.take() else { return };
        if let Some(core) = self.core.upgrade() {
            let _ = core.driver().deregister_fd(self.fd.as_raw_fd());
            drop(core.remove_source(token));
        }
        let left = WATCHES.try_with(|watches| {
            let mut watches = watches.borrow_mut();
            let ours = watches.get(&self.id).is_some_and(|watch| std::ptr::eq(&**watch, self));
            if ours { watches.remove(&self.id) } else { None }
        });
        drop(left);
    }
}
impl Source for Watch {
    fn ready(&self, _core: &Rc<Core>, _readiness: Readiness) {
        self.leave();
        self.waiters.wake_all();
    }
    fn shut(&self, _core: &Rc<Core>) {
        self.leave();
        self.waiters.wake_all();
    }
    fn kind(&self) -> Kind {
        Kind::Child
    }
    fn fd(&self) -> Option<RawFd> {
        Some(self.fd.as_raw_fd())
    }
    fn about(&self) -> About {
        About { detail: format!("process {}", self.id), ..About::default() }
    }
}
/// The last who leaves ends the watch.
struct Stay<'a>(&'a Rc<Watch>);
impl Drop for Stay<'_> {
    fn drop(&mut self) {
        if self.0.waiters.len() == 0 {
            self.0.leave();
        }
    }
}

/// This thread's ear for SIGCHLD: there as long as somebody waits. It says that some child has ended; each looks for its own.
struct Bell {
    subscription: RefCell<Option<Subscription>>,
    waiters: Waiters,
}
impl Bell {
    fn here(core: &Rc<Core>) -> io::Result<Rc<Bell>> {
        let existing = BELL.try_with(|bell| bell.borrow().upgrade()).ok().flatten();
        if let Some(bell) = existing
            && bell.subscription.borrow().as_ref().is_some_and(|subscription| subscription.is_of(core))
        {
            return Ok(bell);
        }
        let bell = Rc::new(Bell { subscription: RefCell::default(), waiters: Waiters::default() });
        let rung = Rc::downgrade(&bell);
        let subscription = Subscription::new(core, &[libc::SIGCHLD], false, move |_| {
            if let Some(bell) = rung.upgrade() {
                bell.waiters.wake_all();
            }
        })?;
        *bell.subscription.borrow_mut() = Some(subscription);
        let old = BELL.try_with(|slot| slot.replace(Rc::downgrade(&bell)));
        drop(old);
        Ok(bell)
    }
}
