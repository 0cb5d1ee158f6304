//! `Thread`, by which a green thread is named and unparked from anywhere, and `current`.
use crate::green::hub::running;
use crate::green::local;
use crate::green::task::remote_waker::{RemoteWaker, Sleeper, is_stopped};
use std::cell::RefCell;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What tells a green thread from all others of the process ([`std::thread::ThreadId`], which only std can make).
#[derive(Eq, PartialEq, Clone, Copy, Hash, Debug)]
pub struct ThreadId(NonZeroU64);

static NEXT: AtomicU64 = AtomicU64::new(1);

impl ThreadId {
    fn next() -> Self {
        ThreadId(NonZeroU64::new(NEXT.fetch_add(1, Ordering::Relaxed)).unwrap_or(NonZeroU64::MAX))
    }
}

/// A name for a green thread, or for an OS thread where it is not one: [`std::thread::Thread`]. `Send` and `Sync`; does not keep
/// the green thread.
///
/// ```
/// use twistlet::green::thread;
///
/// let parked = thread::Builder::new().name("sleeper".into()).spawn(thread::park)?;
/// assert_eq!(parked.thread().name(), Some("sleeper"));
/// parked.thread().unpark();
/// parked.join().unwrap();
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Thread(Arc<Inner>);

struct Inner {
    id: ThreadId,
    name: Option<String>,
    token: Mutex<Token>,
}
#[derive(Default)]
struct Token {
    is_there: bool,
    parked: Option<RemoteWaker>,
}

local! {
    static CURRENT: RefCell<Thread> = RefCell::new(Thread::unasked());
}

/// The running green thread: [`std::thread::current`]. MAIN, and an OS thread without a reactor, is named as std does; callbacks
/// of a main loop that is not MAIN have a nameless one. Never waits.
#[must_use]
pub fn current() -> Thread {
    CURRENT.try_with(|thread| thread.borrow().clone()).unwrap_or_else(|_| Thread::new(None))
}
/// The green thread that runs now was made by this mirror, and has its name already.
pub(super) fn set_current(thread: Thread) {
    // Fails only at the end of a green thread, where this is not called.
    let _ = CURRENT.try_with(|current| current.replace(thread));
}

impl Thread {
    pub(super) fn new(name: Option<String>) -> Self {
        Thread(Arc::new(Inner { id: ThreadId::next(), name, token: Mutex::default() }))
    }
    /// For one whose spawner gave it none.
    fn unasked() -> Self {
        let name = match running::get() {
            Some(task) if !task.is_main() => task.own_name(),
            _ => std::thread::current().name().map(str::to_owned),
        };
        Thread::new(name)
    }
    /// What tells it from all others.
    #[must_use]
    pub fn id(&self) -> ThreadId {
        self.0.id
    }
    /// The name given to its [`Builder`](super::Builder); MAIN's is `main` on the process's first thread.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }
    /// Ends its [`park`](super::park), or the next one. Never waits; from any OS thread.
    pub fn unpark(&self) {
        let parked = {
            let mut token = self.token();
            token.is_there = true;
            token.parked.take()
        };
        if let Some(parked) = parked {
            parked.wake();
        }
    }
    fn token(&self) -> MutexGuard<'_, Token> {
        self.0.token.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Takes the token; says how to be told when there is none.
    fn take_token(&self, otherwise: Option<RemoteWaker>) -> bool {
        let mut token = self.token();
        let is_there = std::mem::take(&mut token.is_there);
        let old = std::mem::replace(&mut token.parked, if is_there { None } else { otherwise });
        drop(token);
        drop(old);
        is_there
    }
    /// Of the caller.
    #[track_caller]
    pub(super) fn park(&self, limit: Option<Duration>) {
        if self.take_token(None) || limit == Some(Duration::ZERO) {
            return;
        }
        loop {
            // Nothing waits while it unwinds; this may return for no reason.
            let Ok(sleeper) = Sleeper::new() else { return };
            if self.take_token(Some(sleeper.waker())) {
                return;
            }
            let forget = Forget(self);
            let parked = sleeper.park("unpark()", limit);
            drop(forget);
            match parked {
                // MAIN's reactor has ended; the thread goes on.
                Err(failure) if is_stopped(&failure) => {}
                _ => break,
            }
        }
        self.take_token(None);
    }
}
impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread").field("id", &self.id()).field("name", &self.name()).finish_non_exhaustive()
    }
}

/// Takes the waker out, however the wait ends.
struct Forget<'a>(&'a Thread);
impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let parked = self.0.token().parked.take();
        drop(parked);
    }
}
