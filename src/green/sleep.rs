//! Time for green threads: `sleep`, `yield_now`.
use super::task::{prepare, yield_once};
use crate::error::{Deadlock, Killed};
use crate::failure::{Failure, Result};
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
