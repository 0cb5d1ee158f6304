//! Failures that were logged, kept for the test to look at (trial's `flushLoggedErrors`): what nobody expected fails it.
//!
//! A reactor contains what its callbacks do wrong and logs it, so a failed `assert!` in a callback does not fail the test by
//! itself: whoever collects here makes it. What must never happen here: a second panic while a test unwinds.
use crate::failure::{Failure, set_collector};
use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::rc::Rc;

/// A failure that was logged.
#[derive(Clone, Debug)]
pub struct LoggedFailure {
    /// Whose it was, as the log says it.
    pub whose: String,
    /// The failure.
    pub failure: Failure,
}
impl fmt::Display for LoggedFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.whose, self.failure)
    }
}

type Kept = Rc<RefCell<Vec<LoggedFailure>>>;
thread_local! {
    /// Those who collect, the innermost last.
    static COLLECTING: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
}

/// Collects what this thread logs as failed, from [`collect`](LoggedFailures::collect) on: panics of callbacks, failures
/// they return, Deferreds dropped with one, green threads nobody waited for. Logged they are all the same. When it is dropped
/// with any left that were not [flushed](flush_logged_failures), it panics: the test fails.
///
/// ```
/// use twistlet::testing::{LoggedFailures, flush_logged_failures};
/// use twistlet::{Deferred, Failure};
///
/// let _nothing_unexpected = LoggedFailures::collect();
/// drop(Deferred::<()>::fail(Failure::msg("as this test expects")));
/// assert_eq!(flush_logged_failures().len(), 1);
/// ```
#[must_use = "it collects as long as it is held"]
#[derive(Debug)]
pub struct LoggedFailures(Kept);

impl LoggedFailures {
    /// Begins. One within another collects in its place.
    pub fn collect() -> Self {
        let kept = Kept::default();
        COLLECTING.with(|all| all.borrow_mut().push(Rc::clone(&kept)));
        set_collector(Some(keep));
        LoggedFailures(kept)
    }
    /// What is left, to whoever does not want a panic.
    pub(super) fn end(self) -> Vec<LoggedFailure> {
        self.0.take()
    }
    pub(super) fn len(&self) -> usize {
        self.0.borrow().len()
    }
}
impl Drop for LoggedFailures {
    fn drop(&mut self) {
        let left = COLLECTING.try_with(|all| {
            let mut all = all.borrow_mut();
            all.retain(|kept| !Rc::ptr_eq(kept, &self.0));
            all.len()
        });
        if left == Ok(0) {
            set_collector(None);
        }
        let failures = self.0.take();
        if !failures.is_empty() && !std::thread::panicking() {
            panic!("{}", FailuresLogged { failures });
        }
    }
}

fn keep(whose: &str, failure: &Failure) {
    let kept = COLLECTING.try_with(|all| all.borrow().last().cloned());
    if let Ok(Some(kept)) = kept {
        kept.borrow_mut().push(LoggedFailure { whose: whose.to_owned(), failure: failure.clone() });
    }
}

/// Takes the failures that were logged since a [`LoggedFailures`], or a simulation, began to collect: the test expected them.
pub fn flush_logged_failures() -> Vec<LoggedFailure> {
    flush(|_| true)
}
/// The same, of those whose error is an `E`; the others stay (trial's `flushLoggedErrors(E)`).
///
/// ```
/// use twistlet::testing::{LoggedFailures, flush_logged_failures_of};
/// use twistlet::{Deferred, TimedOut};
/// use std::time::Duration;
///
/// let _collecting = LoggedFailures::collect();
/// drop(Deferred::<()>::fail(TimedOut(Duration::from_secs(1))));
/// assert_eq!(flush_logged_failures_of::<TimedOut>().len(), 1);
/// ```
pub fn flush_logged_failures_of<E: Error + 'static>() -> Vec<LoggedFailure> {
    flush(Failure::is::<E>)
}
fn flush(wanted: impl Fn(&Failure) -> bool) -> Vec<LoggedFailure> {
    let kept = COLLECTING.try_with(|all| all.borrow().last().cloned());
    let Ok(Some(kept)) = kept else { return Vec::new() };
    let (flushed, left) = kept.take().into_iter().partition(|logged| wanted(&logged.failure));
    kept.replace(left);
    flushed
}

/// Failures were logged that the test did not flush.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FailuresLogged {
    /// In the order they were logged.
    pub failures: Vec<LoggedFailure>,
}
impl fmt::Display for FailuresLogged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "failures were logged that the test did not expect; it takes those it does with flush_logged_failures()",
        )?;
        self.failures.iter().try_for_each(|logged| write!(f, "\n  {logged}"))
    }
}
impl Error for FailuresLogged {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.failures.first().map(|logged| logged.failure.error() as _)
    }
}
