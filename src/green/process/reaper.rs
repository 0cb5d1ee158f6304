//! Children whose `Child` is gone: reaped when they end, so that no zombie stays.
//!
//! A loop watches each by a pidfd; where there is none, it is reaped when the next child is started. What must
//! never happen here: a wait; a running child forgotten.
use crate::reactor::driver::Readiness;
use crate::reactor::{Core, Kind, Source, Subscription};
use crate::sys;
#[cfg(test)]
use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::process::Child;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};

static ORPHANS: Mutex<BTreeMap<u32, Orphan>> = Mutex::new(BTreeMap::new());
/// By process id, which is its until it has been reaped.
struct Orphan {
    child: Child,
    watched: bool,
}
thread_local! {
    /// Where there are no pidfds: the ear for SIGCHLD, while any are left.
    static SWEEPER: RefCell<Option<Subscription>> = const { RefCell::new(None) };
    /// Unit tests do without pidfds.
    #[cfg(test)]
    pub(super) static WITHOUT: Cell<bool> = const { Cell::new(false) };
}

/// A descriptor for a child that has not been waited for.
pub(super) fn open(id: u32) -> io::Result<OwnedFd> {
    #[cfg(test)]
    if WITHOUT.get() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    sys::pidfd_open(id)
}
/// The system has no such descriptors, or a sandbox forbids them.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
        || matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EACCES))
}
/// Has the loop watch it, under a token whose source is to be installed.
pub(super) fn register(core: &Rc<Core>, fd: &OwnedFd) -> io::Result<usize> {
    let token = core.reserve();
    let registered = core.driver().register_fd(fd.as_raw_fd(), token);
    if let Err(error) = registered {
        drop(core.remove_source(token));
        return Err(error);
    }
    Ok(token)
}

/// Takes over a child nobody waits for.
pub(super) fn bury(mut child: Child) {
    // Reaped now, or by somebody else.
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    let id = child.id();
    lock().insert(id, Orphan { child, watched: false });
    if let Some(core) = Core::current().filter(|core| !core.is_closed()) {
        watch(id, &core);
    }
}
/// A loop is here for green threads: it watches those that no loop does.
pub(in crate::green) fn adopt(core: &Rc<Core>) {
    let orphans = lock();
    if orphans.is_empty() {
        return;
    }
    let unwatched: Vec<u32> = orphans.iter().filter(|(_, orphan)| !orphan.watched).map(|(id, _)| *id).collect();
    drop(orphans);
    for id in unwatched {
        watch(id, core);
    }
}
fn lock() -> MutexGuard<'static, BTreeMap<u32, Orphan>> {
    ORPHANS.lock().unwrap_or_else(PoisonError::into_inner)
}
/// Reaps those that have ended; whether any are left.
pub(super) fn sweep() -> bool {
    let mut orphans = lock();
    orphans.retain(|_, orphan| matches!(orphan.child.try_wait(), Ok(None)));
    !orphans.is_empty()
}

/// Has the loop tell of the child's end.
fn watch(id: u32, core: &Rc<Core>) {
    let begun = {
        // Under the lock nobody reaps it, so the number is its.
        let mut orphans = lock();
        let Some(orphan) = orphans.get_mut(&id).filter(|orphan| !orphan.watched) else { return };
        let begun = open(id).and_then(|fd| Ok((register(core, &fd)?, fd)));
        orphan.watched = begun.is_ok();
        begun
    };
    match begun {
        Ok((token, fd)) => core.install_source(token, Rc::new(Grave { id, fd, token })),
        Err(error) if is_unsupported(&error) => listen(core),
        Err(error) => {
            log::debug!(target: "twistlet", "child {id} is reaped when another is started: {error}");
        }
    }
}
/// Sweeps at each SIGCHLD until none are left.
fn listen(core: &Rc<Core>) {
    let heard = |_| {
        if !sweep() {
            let done = SWEEPER.try_with(|sweeper| sweeper.take());
            drop(done);
        }
    };
    let listens = SWEEPER.try_with(|sweeper| sweeper.borrow().as_ref().is_some_and(|sweeper| sweeper.is_of(core)));
    if listens != Ok(false) {
        return;
    }
    match Subscription::new(core, &[libc::SIGCHLD], true, heard) {
        Ok(subscription) => {
            let old = SWEEPER.try_with(|sweeper| sweeper.replace(Some(subscription)));
            drop(old);
            // It may have ended before the subscription.
            heard(None);
        }
        Err(error) => log::debug!(target: "twistlet", "children are reaped when another is started: {error}"),
    }
}

/// The descriptor that tells of the end of an orphan.
struct Grave {
    id: u32,
    fd: OwnedFd,
    token: usize,
}
impl Source for Grave {
    fn ready(&self, core: &Rc<Core>, _readiness: Readiness) {
        let _ = core.driver().deregister_fd(self.fd.as_raw_fd());
        drop(core.remove_source(self.token));
    }
    fn shut(&self, core: &Rc<Core>) {
        self.ready(core, Readiness::default());
    }
    /// It wakes nobody.
    fn is_internal(&self) -> bool {
        true
    }
    fn kind(&self) -> Kind {
        Kind::Child
    }
    fn fd(&self) -> Option<RawFd> {
        Some(self.fd.as_raw_fd())
    }
}
impl Drop for Grave {
    fn drop(&mut self) {
        let mut orphans = lock();
        if let Some(orphan) = orphans.get_mut(&self.id) {
            orphan.watched = false;
            if !matches!(orphan.child.try_wait(), Ok(None)) {
                orphans.remove(&self.id);
            }
        }
    }
}
