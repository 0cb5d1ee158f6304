//! Time for green threads: `sleep`, `yield_now`, `with_timeout`.
use super::hub::Hub;
use super::task::{prepare, yield_once};
use crate::error::{Deadlock, Killed, TimedOut};
use crate::failure::{Failure, ForcedUnwind, Result};
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

/// Suspends the calling green thread for at least `time`; the others run meanwhile (Eventlet's `sleep`). Zero lets everybody
/// who is ready run once.
///
/// # Panics
/// In the main loop and its callbacks; on MAIN when the reactor has stopped.
///
/// # Blocking
/// For `time`. Unwinds when the green thread is killed.
#[track_caller]
pub fn sleep(time: Duration) {
    if time.is_zero() {
        return yield_now();
    }
    infallible(prepare().and_then(|wait| wait.park_timeout("time to pass", Some(time)).map(drop)));
}
/// Lets everybody else who is ready run once (Eventlet's `sleep(0)`).
///
/// # Panics
/// As [`sleep`].
///
/// # Blocking
/// Until its turn comes again.
#[track_caller]
#[inline]
pub fn yield_now() {
    infallible(yield_once());
}

/// For waits that have no error to return: a deadlock or a stopped reactor would make them wait for ever, so they panic with
/// the report. A green thread that is being unwound just goes on unwinding.
#[track_caller]
#[inline]
pub(super) fn infallible<T>(outcome: Result<T>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(_) if std::thread::panicking() || cfg!(panic = "abort") => None,
        // A destructor of a green-local value, whose green thread was killed.
        Err(failure) if failure.is::<Killed>() => None,
        Err(failure) => wait_for_ever(&failure),
    }
}
#[cold]
#[track_caller]
fn wait_for_ever(failure: &Failure) -> ! {
    match failure.check::<Deadlock>() {
        Some(deadlock) => panic!("{deadlock}"),
        None => panic!("this wait would never end: {failure}"),
    }
}

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
    let running = Hub::current().and_then(|hub| hub.running().map(|task| (hub, task)));
    let Some((hub, task)) = running else {
        if std::thread::panicking() {
            // A destructor: nothing in it waits.
            return Ok(f());
        }
        panic!("with_timeout() in the main loop: there is nothing to interrupt; use Deferred::add_timeout()");
    };
    let token = hub.token();
    let deadline = if limit.is_zero() {
        task.expire(token);
        None
    } else {
        let task = Rc::downgrade(&task);
        let call = move || {
            if let Some(task) = task.upgrade() {
                task.expire(token);
            }
        };
        Some(hub.core().schedule_from_now(Location::caller(), limit, Box::new(call)))
    };
    let outcome = catch_unwind(AssertUnwindSafe(f));
    if let Some(deadline) = deadline {
        deadline.cancel();
    }
    task.forget_deadline(token);
    match outcome {
        Ok(value) => Ok(value),
        Err(payload) => match payload.downcast::<ForcedUnwind>() {
            Ok(unwind) if unwind.token == token => Err(TimedOut(limit)),
            Ok(unwind) => resume_unwind(unwind),
            Err(payload) => resume_unwind(payload),
        },
    }
}
