//! Deadlines that unwind (G4): `with_timeout` and its relatives, and `Timeout`, which can be cancelled and started again.
//!
//! Each has a number, by which the unwinding that it causes is known from those of others. What must never happen here: one
//! that strikes after the call that it belongs to has been left.
use super::hub::Hub;
use super::task::Task;
use crate::clock::DelayedCall;
use crate::error::TimedOut;
use crate::failure::{Failure, ForcedUnwind, Result};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

/// Runs `f`, and unwinds it at its next wait once `limit` has passed (Eventlet's `with_timeout`). Code that does not wait is
/// not interrupted. An inner deadline's `TimedOut` is `f`'s own value and stays inside `Ok`; an outer one unwinds through.
///
/// ```
/// use std::time::Duration;
/// use twistlet::green::{sleep, with_timeout};
///
/// let late = with_timeout(Duration::from_millis(5), || sleep(Duration::from_secs(60)));
/// assert!(late.is_err());
/// ```
///
/// # Errors
/// [`TimedOut`] when this very deadline ended `f`.
///
/// # Panics
/// In the main loop and its callbacks.
///
/// # Blocking
/// As `f` does.
#[track_caller]
pub fn with_timeout<T>(limit: Duration, f: impl FnOnce() -> T) -> Result<T, TimedOut> {
    let Some(armed) = Armed::here(Some(limit)) else { return Ok(f()) };
    armed.run(f)
}
/// As [`with_timeout`], with a value in the place of the error (Eventlet's `timeout_value`): of this very deadline's alone.
///
/// ```
/// use std::time::Duration;
/// use twistlet::green::{sleep, with_timeout_or};
///
/// let found = with_timeout_or(Duration::from_millis(5), "nothing", || {
///     sleep(Duration::from_secs(60));
///     "something"
/// });
/// assert_eq!(found, "nothing");
/// ```
///
/// # Panics
/// In the main loop and its callbacks.
///
/// # Blocking
/// As `f` does.
#[track_caller]
pub fn with_timeout_or<T>(limit: Duration, value: T, f: impl FnOnce() -> T) -> T {
    match with_timeout(limit, f) {
        Ok(value) => value,
        Err(TimedOut(_)) => value,
    }
}
/// As [`with_timeout`], with a failure of one's own as the outcome when the limit has passed (Eventlet's `exc_after`, and the
/// second argument of its `Timeout`).
///
/// ```
/// use std::time::Duration;
/// use twistlet::Failure;
/// use twistlet::green::{fail_after, sleep};
///
/// let late = fail_after(Duration::from_millis(5), Failure::msg("the kettle is cold"), || {
///     sleep(Duration::from_secs(60));
///     Ok("tea")
/// });
/// assert_eq!(late.unwrap_err().to_string(), "the kettle is cold");
/// ```
///
/// # Errors
/// `failure`; what `f` returns.
///
/// # Panics
/// In the main loop and its callbacks.
///
/// # Blocking
/// As `f` does.
#[track_caller]
pub fn fail_after<T>(limit: Duration, failure: impl Into<Failure>, f: impl FnOnce() -> Result<T>) -> Result<T> {
    match with_timeout(limit, f) {
        Ok(outcome) => outcome,
        Err(TimedOut(_)) => Err(failure.into()),
    }
}
/// Whether a failure is that something took too long: [`TimedOut`], or an error of the kind `TimedOut` or `WouldBlock`, which
/// is what sockets with a timeout give (Eventlet's `is_timeout`).
///
/// ```
/// use std::{io, time::Duration};
/// use twistlet::{Failure, TimedOut, green::is_timeout};
///
/// assert!(is_timeout(&TimedOut(Duration::ZERO).into()));
/// assert!(is_timeout(&io::Error::from(io::ErrorKind::WouldBlock).into()));
/// assert!(!is_timeout(&Failure::msg("other")));
/// ```
pub fn is_timeout(failure: &Failure) -> bool {
    failure.is::<TimedOut>() || matches!(failure.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

/// A deadline for one call, which the call may cancel, start again and look at (Eventlet's `Timeout`).
///
/// Eventlet's counts from its construction, and may be forgotten there; this one counts while [`run`](Timeout::run) runs, and
/// can strike nobody else. `None` as the limit is never; zero strikes at the first wait.
///
/// ```
/// use std::time::Duration;
/// use twistlet::green::{Timeout, sleep};
///
/// let ms = Duration::from_millis;
/// // A limit between two steps rather than for all of them.
/// let steps = Timeout::new(ms(50)).run(|timeout| {
///     for _ in 0..4 {
///         sleep(ms(20));
///         timeout.restart();
///     }
///     timeout.cancel();
///     sleep(ms(60));
///     "done"
/// });
/// assert_eq!(steps, Ok("done"));
/// ```
pub struct Timeout {
    limit: Option<Duration>,
    /// While `run` runs.
    armed: RefCell<Option<Rc<Armed>>>,
}

impl Timeout {
    /// One that has not begun to count.
    pub fn new(limit: impl Into<Option<Duration>>) -> Timeout {
        Timeout { limit: limit.into(), armed: RefCell::new(None) }
    }
    /// Runs `f`, and unwinds it at its next wait once the limit has passed. May be called again.
    ///
    /// # Errors
    /// [`TimedOut`] when this very deadline ended `f`.
    ///
    /// # Panics
    /// In the main loop and its callbacks; while it runs already.
    ///
    /// # Blocking
    /// As `f` does.
    #[track_caller]
    pub fn run<T>(&self, f: impl FnOnce(&Timeout) -> T) -> Result<T, TimedOut> {
        assert!(self.armed.borrow().is_none(), "this Timeout runs already: each call needs one of its own");
        let Some(armed) = Armed::here(self.limit) else { return Ok(f(self)) };
        let armed = Rc::new(armed);
        *self.armed.borrow_mut() = Some(Rc::clone(&armed));
        let left = Left(self);
        let outcome = armed.run(|| f(self));
        drop(left);
        outcome
    }
    /// Keeps it from striking, also when the limit has passed and nothing has waited since. Nothing when it is not pending.
    pub fn cancel(&self) {
        if let Some(armed) = self.armed() {
            armed.disarm();
        }
    }
    /// Counts anew, after a [`cancel`](Timeout::cancel).
    ///
    /// # Panics
    /// When it is pending; outside of [`run`](Timeout::run).
    #[track_caller]
    pub fn start(&self) {
        assert!(!self.pending(), "start() of a Timeout that is pending: cancel() it before, or restart()");
        self.restart();
    }
    /// Counts anew from now, whether it is pending or not.
    ///
    /// # Panics
    /// Outside of [`run`](Timeout::run).
    #[track_caller]
    pub fn restart(&self) {
        match self.armed() {
            Some(armed) => armed.rearm(),
            None if std::thread::panicking() => {}
            None => panic!("a Timeout counts only inside its run()"),
        }
    }
    /// Whether it counts, or has passed and waits for a wait to strike at.
    pub fn pending(&self) -> bool {
        self.armed().is_some_and(|armed| armed.is_pending())
    }
    /// How long it lets its call run.
    pub fn limit(&self) -> Option<Duration> {
        self.limit
    }
    fn armed(&self) -> Option<Rc<Armed>> {
        self.armed.borrow().clone()
    }
}
impl fmt::Debug for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout").field("limit", &self.limit).field("pending", &self.pending()).finish()
    }
}
/// The call is left.
struct Left<'a>(&'a Timeout);
impl Drop for Left<'_> {
    fn drop(&mut self) {
        let armed = self.0.armed.borrow_mut().take();
        drop(armed);
    }
}

/// A deadline of the green thread that runs, with the number by which its unwinding is known.
struct Armed {
    hub: Rc<Hub>,
    task: Rc<Task>,
    token: u64,
    limit: Option<Duration>,
    call: Cell<Option<DelayedCall>>,
    site: &'static Location<'static>,
}
impl Armed {
    /// Begins to count. `None` in a destructor that runs where nothing can wait.
    #[track_caller]
    fn here(limit: Option<Duration>) -> Option<Armed> {
        let running = Hub::current().and_then(|hub| hub.running().map(|task| (hub, task)));
        let Some((hub, task)) = running else {
            if std::thread::panicking() {
                return None;
            }
            panic!("with_timeout() in the main loop: there is nothing to interrupt; use Deferred::add_timeout()");
        };
        let token = hub.token();
        let armed = Armed { hub, task, token, limit, call: Cell::new(None), site: Location::caller() };
        armed.arm();
        Some(armed)
    }
    fn rearm(&self) {
        self.disarm();
        self.arm();
    }
    fn arm(&self) {
        match self.limit {
            None => {}
            Some(Duration::ZERO) => self.task.expire(self.token),
            Some(limit) => {
                let (task, token) = (Rc::downgrade(&self.task), self.token);
                let call = move || {
                    if let Some(task) = task.upgrade() {
                        task.expire(token);
                    }
                };
                self.call.set(Some(self.hub.core().schedule_from_now(self.site, limit, Box::new(call))));
            }
        }
    }
    fn disarm(&self) {
        if let Some(call) = self.call.take() {
            call.cancel();
        }
        self.task.forget_deadline(self.token);
    }
    fn is_pending(&self) -> bool {
        let call = self.call.take();
        self.call.set(call);
        self.task.has_expired(self.token) || call.is_some_and(|call| call.active())
    }
    fn run<T>(&self, f: impl FnOnce() -> T) -> Result<T, TimedOut> {
        let outcome = catch_unwind(AssertUnwindSafe(f));
        self.disarm();
        match outcome {
            Ok(value) => Ok(value),
            Err(payload) => match payload.downcast::<ForcedUnwind>() {
                Ok(unwind) if unwind.token == self.token => Err(TimedOut(self.limit.unwrap_or_default())),
                Ok(unwind) => resume_unwind(unwind),
                Err(payload) => resume_unwind(payload),
            },
        }
    }
}
