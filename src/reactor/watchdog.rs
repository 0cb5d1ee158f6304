//! A watchdog: an OS thread that looks whether the loop moves, and reports whoever holds it longer than a limit.
//!
//! `look` is that thread. It reads the reactor's `Pulse`; the loop itself never waits for it. What must never happen here:
//! a report while the loop waits for events, or of the report itself; the loop's thread joining the watchdog's, whose hook
//! is the user's.
mod look;

use super::Reactor;
use super::core::Core;
use super::pulse;
use crate::failure::{self, Result};
use look::Shared;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Log lines come no more often than this, unless the program says otherwise.
const EVERY: Duration = Duration::from_secs(1);

/// Finds what blocks the loop: a callback or a green thread that runs longer than a limit without giving the loop a chance
/// (Eventlet's `hub_blocking_detection`; nothing is thrown into whoever blocks). Off unless started.
///
/// It costs a thread, and the loop a store each time it calls somebody. A report comes between one limit and one and a half
/// after the culprit began; when the machine itself is stopped or overloaded, later.
///
/// ```
/// use std::sync::mpsc::channel;
/// use std::time::Duration;
/// use twistlet::Reactor;
/// use twistlet::reactor::Watchdog;
///
/// let reactor = Reactor::new()?;
/// let (tell, told) = channel();
/// let limit = Duration::from_millis(10);
/// let watching = Watchdog::new(limit).quiet().on_block(move |blocked| drop(tell.send(blocked.to_string()))).start(&reactor)?;
/// reactor.call_soon(move || {
///     // What no callback should do.
///     println!("{}", told.recv().expect("a report"));
///     reactor.stop()
/// });
/// reactor.run()?;
/// assert_eq!(watching.count(), 1);
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[must_use = "a watchdog looks once it has been started"]
pub struct Watchdog {
    limit: Duration,
    every: Duration,
    quiet: bool,
    hook: Option<Hook>,
    over: Option<Over>,
}
type Hook = Box<dyn Fn(&Blocked) + Send>;
type Over = Rc<dyn Fn(&Blocked)>;

impl Watchdog {
    /// Reports whoever holds the loop longer than `limit`; a millisecond at least.
    pub fn new(limit: Duration) -> Self {
        Watchdog { limit: limit.max(Duration::from_millis(1)), every: EVERY, quiet: false, hook: None, over: None }
    }
    /// Log lines come no more often than this, one a second by default; the next one says how many were left out. Hooks are
    /// told of each.
    pub fn at_most_every(mut self, interval: Duration) -> Self {
        self.every = interval;
        self
    }
    /// Writes no log lines: there is a hook, or only the figures of [`Watching`] are wanted.
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }
    /// Calls `hook` while the loop is held, once each time, on the watchdog's own thread: quickly, and without waiting for
    /// the loop. A panic in it is logged.
    pub fn on_block(mut self, hook: impl Fn(&Blocked) + Send + 'static) -> Self {
        self.hook = Some(Box::new(hook));
        self
    }
    /// Calls `hook` on the loop's thread when the loop goes on after a report, with how long it was held. The place for what
    /// is dear, such as [`debug::format_all`](crate::green::debug::format_all). Not while the reactor is ending.
    pub fn on_release(mut self, hook: impl Fn(&Blocked) + 'static) -> Self {
        self.over = Some(Rc::new(hook));
        self
    }
    /// Begins to look at a reactor, in the place of the watchdog it had; ends with the reactor.
    ///
    /// # Errors
    /// [`ReactorError::Closed`](crate::error::ReactorError::Closed); `io::Error` when the system has no thread.
    pub fn start(self, reactor: &Reactor) -> Result<Watching> {
        let core = reactor.open()?;
        core.stop_watching();
        let shared = Shared::new(&core, self.limit, (!self.quiet).then_some(self.every));
        look::spawn(Arc::clone(&shared), self.hook)?;
        core.pulse.set_watched(true);
        let watching = Watching(Arc::clone(&shared));
        let old = core.watched.replace(Some(Watched { shared, over: self.over }));
        drop(old);
        let hook = core.on_watched.borrow().clone();
        if let Some(hook) = hook {
            hook();
        }
        Ok(watching)
    }
}
impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// A watchdog at work, for any thread to ask. Dropping it changes nothing.
#[derive(Clone)]
pub struct Watching(Arc<Shared>);

impl Watching {
    /// How often the loop has been held longer than the limit.
    pub fn count(&self) -> u64 {
        self.0.count.load(Ordering::Relaxed)
    }
    /// Whether somebody holds the loop now, longer than the limit: next to free to ask.
    pub fn is_blocked(&self) -> bool {
        self.0.blocked.load(Ordering::Relaxed)
    }
    /// Whether it still looks: not when stopped or replaced, nor when the reactor has ended.
    pub fn is_active(&self) -> bool {
        !self.0.is_stopped()
    }
    /// Looks no more.
    pub fn stop(&self) {
        self.0.stop();
    }
}
impl fmt::Debug for Watching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watching").field("active", &self.is_active()).field("count", &self.count()).finish()
    }
}

/// Who holds a loop.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Holder {
    /// A green thread: its number in [`debug`](crate::green::debug), its name, and where it was spawned (MAIN was not).
    GreenThread {
        /// As in `debug::green_threads`.
        id: u64,
        /// If it has one.
        name: Option<String>,
        /// Nowhere: MAIN.
        spawned_at: Option<&'static Location<'static>>,
    },
    /// A callback of the reactor.
    Callback {
        /// Of what: "a delayed call", "a connection", ...
        kind: &'static str,
        /// The descriptor it belongs to.
        fd: Option<i32>,
    },
}
impl Holder {
    fn of(holder: pulse::Holder, names: Option<&Arc<dyn pulse::Names>>) -> Holder {
        match holder.green_id() {
            Some(id) => {
                let (name, spawned_at) = names.map_or((None, None), |names| names.look_up(id));
                Holder::GreenThread { id, name, spawned_at }
            }
            None => Holder::Callback { kind: holder.kind(), fd: holder.fd() },
        }
    }
}
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::GreenThread { name: None, spawned_at: None, .. } => f.write_str("MAIN"),
            Holder::GreenThread { id, name, spawned_at } => {
                write!(f, "green thread #{id}")?;
                if let Some(name) = name {
                    write!(f, " '{name}'")?;
                }
                spawned_at.map_or(Ok(()), |site| write!(f, ", spawned at {site},"))
            }
            Holder::Callback { kind, fd: Some(fd) } => write!(f, "the callback of {kind} (descriptor {fd})"),
            Holder::Callback { kind, fd: None } => write!(f, "the callback of {kind}"),
        }
    }
}

/// What a [`Watchdog`] reports.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Blocked {
    /// The OS thread of the reactor: its name, or its number.
    pub thread: String,
    /// Who holds the loop.
    pub holder: Holder,
    /// For how long, at least.
    pub held: Duration,
    /// Whether the thread sleeps in the system, as in a call that blocks, or computes; `None` where the system does not say.
    pub sleeps: Option<bool>,
}
impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.sleeps {
            Some(true) => "; it sleeps in the system, in a call that blocks",
            Some(false) => "; it computes",
            None => "",
        };
        write!(f, "{} has held the loop of thread '{}' for {:.0?}{how}", self.holder, self.thread, self.held)
    }
}

/// The reactor's share.
pub(super) struct Watched {
    shared: Arc<Shared>,
    over: Option<Over>,
}

impl Core {
    pub(crate) fn stop_watching(&self) {
        self.pulse.set_watched(false);
        self.pulse.set_reported(false);
        let watched = self.watched.borrow_mut().take();
        if let Some(watched) = watched {
            watched.shared.stop();
        }
    }
    /// The loop goes on after a report: says so. The watchdog sees nobody hold the loop meanwhile.
    #[cold]
    pub(super) fn settle_report(&self) {
        self.pulse.set_reported(false);
        let found = {
            let watched = self.watched.borrow();
            watched.as_ref().and_then(|watched| Some((watched.shared.settle()?, watched.over.clone())))
        };
        let Some(((mut blocked, logged), over)) = found else { return };
        if logged
            && let Holder::Callback { fd: Some(fd), kind } = blocked.holder
            && let Some(detail) = self.detail_of(fd)
        {
            log::warn!(target: "twistlet", "descriptor {fd} is {kind} {detail}");
        }
        blocked.sleeps = None;
        if logged {
            log::warn!(target: "twistlet", "the loop goes on: {blocked}");
        }
        if let Some(over) = over
            && let Err(failure) = failure::catch(|| over(&blocked))
        {
            failure::report("the hook for a loop that goes on", &failure);
        }
    }
    fn detail_of(&self, fd: i32) -> Option<String> {
        let source = self.all_sources().into_iter().find(|source| source.fd() == Some(fd))?;
        Some(source.about().detail)
    }
}
