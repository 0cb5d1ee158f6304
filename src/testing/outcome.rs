//! What a Deferred has come to, said as a test says it (trial's `successResultOf` and its sisters).
use crate::deferred::Deferred;
use crate::failure::{Failure, Result};
use std::any::type_name;

/// The value of a Deferred that has succeeded.
///
/// ```
/// use twistlet::{Deferred, testing};
/// assert_eq!(testing::success_result_of(Deferred::succeed(42)), 42);
/// ```
///
/// # Panics
/// When it has failed, or has no result yet.
#[track_caller]
pub fn success_result_of<T: 'static>(deferred: Deferred<T>) -> T {
    match outcome(deferred) {
        Ok(value) => value,
        Err(failure) => panic!("a success was expected, but it failed: {failure} (at {})", failure.origin()),
    }
}

/// The failure of a Deferred that has failed.
///
/// # Panics
/// When it has succeeded, or has no result yet.
#[track_caller]
pub fn failure_result_of<T: 'static>(deferred: Deferred<T>) -> Failure {
    match outcome(deferred) {
        Ok(_) => panic!("a failure was expected, but it succeeded with a {}", type_name::<T>()),
        Err(failure) => failure,
    }
}

/// Demands that a Deferred has not fired.
///
/// # Panics
/// When it has.
#[track_caller]
pub fn assert_no_result<T: 'static>(deferred: &mut Deferred<T>) {
    match deferred.result() {
        None => {}
        Some(Ok(_)) => panic!("no result was expected yet, but it succeeded with a {}", type_name::<T>()),
        Some(Err(failure)) => panic!("no result was expected yet, but it failed: {failure} (at {})", failure.origin()),
    }
}

#[track_caller]
fn outcome<T: 'static>(deferred: Deferred<T>) -> Result<T> {
    match deferred.try_take() {
        Ok(outcome) => outcome,
        Err(_) => panic!("a result was expected, but the Deferred<{}> has not fired", type_name::<T>()),
    }
}
