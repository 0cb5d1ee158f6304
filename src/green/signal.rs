//! Signals in green threads: [`Signals`] waits for them, [`on`] starts a green thread for each that comes.
//!
//! What handles a signal here is ordinary code in a green thread of its own, which may wait, join and kill (Eventlet's and
//! gevent's handlers run in the loop and may not). Several signals of one kind that come before the loop looks are one, as
//! the system has it.
//!
//! # Whose signal
//! While somebody subscribes to SIGINT or SIGTERM, these no longer stop reactors: stopping is the subscriber's. A signal that
//! the program handled before by other means still gets there too. When the last subscription is gone, a signal has its
//! default effect again, unless the program handled or ignored it before; a real-time signal then has none.
//!
//! SIGCHLD belongs to nobody: [`process`](crate::green::process) does not need it on Linux, and where it does it shares it.
//! So it may be subscribed to; but do not reap in answer to it what this crate waits for, by `waitpid(-1)`.
//!
//! SIGKILL, SIGSTOP and the signals of broken programs (SIGILL, SIGFPE, SIGSEGV) cannot be subscribed to.
use super::hub::Hub;
use super::spawn_n;
use super::task::Waiters;
use crate::deferred::IntoDeferred;
use crate::error::ReactorError;
use crate::failure::Failure;
use crate::reactor::{Core, Subscription};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

pub use signal_hook::consts::signal::{
    SIGABRT, SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGIO, SIGPIPE, SIGPROF, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN,
    SIGTTOU, SIGURG, SIGUSR1, SIGUSR2, SIGVTALRM, SIGWINCH,
};

fn core() -> io::Result<Rc<Core>> {
    match Hub::current() {
        Some(hub) if !hub.is_stopped() => Ok(Rc::clone(hub.core())),
        _ => Err(Failure::from(ReactorError::Stopped).into()),
    }
}

/// Signals to wait for, as numbers like [`SIGHUP`]. Dropping it ends the subscription.
///
/// ```
/// use twistlet::green::signal::{SIGUSR1, Signals};
///
/// let signals = Signals::new([SIGUSR1])?;
/// # signal_hook::low_level::raise(SIGUSR1)?;
/// // Somebody: kill -USR1 ...
/// assert_eq!(signals.wait()?, SIGUSR1);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Signals {
    heard: Rc<Heard>,
    _subscription: Subscription,
}

#[derive(Default)]
struct Heard {
    /// In the order they came, each once.
    pending: RefCell<VecDeque<i32>>,
    waiters: Waiters,
    stopped: Cell<bool>,
}
impl Heard {
    fn hear(&self, signal: Option<i32>) {
        let Some(signal) = signal else {
            self.stopped.set(true);
            return self.waiters.wake_all();
        };
        let mut pending = self.pending.borrow_mut();
        if !pending.contains(&signal) {
            pending.push_back(signal);
            drop(pending);
            self.waiters.wake_one();
        }
    }
}

impl Signals {
    /// Subscribes to `signals`, from here on.
    ///
    /// # Errors
    /// `InvalidInput` for one that cannot be handled; the system's; `ReactorError::Stopped`.
    pub fn new(signals: impl IntoIterator<Item = i32>) -> io::Result<Signals> {
        let signals: Vec<i32> = signals.into_iter().collect();
        let heard = Rc::new(Heard::default());
        let hears = Rc::clone(&heard);
        let subscription = Subscription::new(&core()?, &signals, false, move |signal| hears.hear(signal))?;
        Ok(Signals { heard, _subscription: subscription })
    }
    /// The next signal. Of several green threads that wait each gets another.
    ///
    /// # Errors
    /// `ReactorError::Stopped`.
    ///
    /// # Panics
    /// In the main loop and its callbacks, when there is none.
    ///
    /// # Blocking
    /// Until one comes.
    #[track_caller]
    pub fn wait(&self) -> io::Result<i32> {
        match self.next_within(None)? {
            Some(signal) => Ok(signal),
            None => Err(Failure::from(ReactorError::Stopped).into()),
        }
    }
    /// As [`wait`](Signals::wait), no longer than `limit`; `None`: none has come.
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
    pub fn wait_timeout(&self, limit: Duration) -> io::Result<Option<i32>> {
        self.next_within(Some(limit))
    }
    #[track_caller]
    fn next_within(&self, limit: Option<Duration>) -> io::Result<Option<i32>> {
        let mut left = limit;
        let mut deadline = None;
        loop {
            if let Some(signal) = self.poll() {
                return Ok(Some(signal));
            }
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            if self.heard.stopped.get() {
                return Err(Failure::from(ReactorError::Stopped).into());
            }
            if let Some(limit) = limit {
                let now = core()?.now();
                let deadline = *deadline.get_or_insert(now.checked_add(limit));
                left = deadline.map(|deadline| deadline.saturating_duration_since(now));
            }
            if !self.heard.waiters.wait("a signal", left)? {
                return Ok(self.poll());
            }
        }
    }
    /// A signal that has come and that nobody has taken. Never waits.
    pub fn poll(&self) -> Option<i32> {
        self.heard.pending.borrow_mut().pop_front()
    }
    /// One signal after the other, until the reactor stops.
    ///
    /// # Panics
    /// Its `next`, as [`wait`](Signals::wait).
    ///
    /// # Blocking
    /// Its `next`, until a signal comes.
    pub fn iter(&self) -> Iter<'_> {
        Iter(self)
    }
}
impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").field("pending", &self.heard.pending.borrow()).finish_non_exhaustive()
    }
}

/// What [`Signals::iter`] gives.
#[derive(Debug)]
pub struct Iter<'a>(&'a Signals);
impl Iterator for Iter<'_> {
    type Item = i32;
    #[track_caller]
    fn next(&mut self) -> Option<i32> {
        self.0.wait().ok()
    }
}
impl<'a> IntoIterator for &'a Signals {
    type Item = i32;
    type IntoIter = Iter<'a>;
    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Starts `f` in a new green thread for each `signal` that comes, as long as the [`Handler`] lives (Eventlet's and gevent's
/// `signal`, whose handlers must not wait). Runs may overlap. What `f` returns is as for [`spawn_n`]: a failure is logged.
///
/// ```
/// use std::time::Duration;
/// use twistlet::green::{Event, signal, sleep};
///
/// let reloaded = Event::new();
/// let tell = reloaded.clone();
/// let _handler = signal::on(signal::SIGHUP, move || {
///     sleep(Duration::from_millis(1)); // it may wait
///     tell.send("reloaded")
/// })?;
/// # signal_hook::low_level::raise(signal::SIGHUP)?;
/// assert_eq!(reloaded.wait()?, "reloaded");
/// # Ok::<(), twistlet::Failure>(())
/// ```
///
/// # Errors
/// As [`Signals::new`].
#[track_caller]
pub fn on<R: IntoDeferred + 'static>(signal: i32, f: impl Fn() -> R + 'static) -> io::Result<Handler> {
    let f = Rc::new(f);
    let heard = move |heard: Option<i32>| {
        if heard.is_some() {
            let f = Rc::clone(&f);
            spawn_n(move || f());
        }
    };
    let subscription = Subscription::new(&core()?, &[signal], false, heard)?;
    Ok(Handler { signal, subscription: Some(subscription) })
}

/// A signal's handler, made by [`on`]. Dropping it takes the handler away; runs that have begun go on.
#[must_use = "dropping it takes the handler away"]
pub struct Handler {
    signal: i32,
    subscription: Option<Subscription>,
}
impl Handler {
    /// Leaves the handler where it is, until the reactor ends.
    pub fn detach(mut self) {
        if let (Some(subscription), Ok(core)) = (self.subscription.take(), core()) {
            core.add_end_hook(Box::new(move || drop(subscription)));
        }
    }
}
impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").field("signal", &self.signal).finish_non_exhaustive()
    }
}
