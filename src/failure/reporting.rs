//! Where failures go that nobody takes: the log, or the program's hook. What must never happen here: an unwinding out of it,
//! whatever the user's `Display`, hook or logger does.
use super::{Failure, catch, drop_quietly};
use crate::error::Killed;
#[cfg(feature = "testing")]
use std::cell::Cell;
use std::cell::RefCell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is logged. Of the process.
static LOG_UNOBSERVED: AtomicBool = AtomicBool::new(true);
static LOG_THREADS: AtomicBool = AtomicBool::new(false);

/// Whether failures that nobody observed, of callbacks, Deferreds and green threads, are logged where there is no
/// [hook](on_unobserved_failure), in the whole process (Eventlet's `hub_exceptions`). On at first.
///
/// ```
/// use twistlet::failure::log_unobserved;
/// use twistlet::{Deferred, Failure};
///
/// log_unobserved(false);
/// drop(Deferred::<()>::fail(Failure::msg("not logged")));
/// log_unobserved(true);
/// ```
pub fn log_unobserved(on: bool) {
    LOG_UNOBSERVED.store(on, Ordering::Relaxed);
}
/// Whether panics of jobs on the thread pool are logged where they arise, though whoever waits for the job is told too, in
/// the whole process (Eventlet's `tpool_exceptions`). Off at first.
pub fn log_thread_panics(on: bool) {
    LOG_THREADS.store(on, Ordering::Relaxed);
}
/// The failure of a job whose caller will be told.
pub(crate) fn report_in_thread(failure: &Failure) {
    if LOG_THREADS.load(Ordering::Relaxed) {
        log_it("a job on the thread pool", failure);
    }
}

/// Logs a failure once, at error level. `what` says whose it was.
pub(crate) fn report(what: impl fmt::Display, failure: &Failure) {
    failure.0.told.store(true, Ordering::Relaxed);
    log_it(what, failure);
}
fn log_it(what: impl fmt::Display, failure: &Failure) {
    // The error's Display and the logger are the user's.
    if let Err(again) = panic::catch_unwind(AssertUnwindSafe(|| {
        #[cfg(feature = "testing")]
        if let Ok(Some(collect)) = COLLECTOR.try_with(Cell::get) {
            collect(&what.to_string(), failure);
        }
        log::error!(target: "twistlet", "{what}: {failure:?}");
    })) {
        drop_quietly(again);
    }
}

/// What a test keeps of the log.
#[cfg(feature = "testing")]
type Collector = fn(&str, &Failure);
#[cfg(feature = "testing")]
thread_local! {
    static COLLECTOR: Cell<Option<Collector>> = const { Cell::new(None) };
}
/// Tells `collector` of everything this thread logs.
#[cfg(feature = "testing")]
pub(crate) fn set_collector(collector: Option<Collector>) {
    let _ = COLLECTOR.try_with(|slot| slot.set(collector));
}

type Hook = Rc<dyn Fn(&str, &Failure)>;
thread_local! {
    static UNOBSERVED: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// Calls `hook` instead of the log for every failure of this thread that nobody observed: of a Deferred dropped with
/// one, of a green thread nobody waited for. It is told whose failure it was, in words, and the failure. The same
/// occurrence is told once; `Cancelled` and `Killed` are not told, since somebody asked for them.
///
/// There is one hook a thread; the next replaces it. A panic in it is logged.
///
/// ```
/// use std::{cell::RefCell, rc::Rc};
/// use twistlet::{Deferred, Failure, failure::on_unobserved_failure};
/// let seen = Rc::new(RefCell::new(Vec::new()));
/// let list = seen.clone();
/// on_unobserved_failure(move |_whose, failure| list.borrow_mut().push(failure.to_string()));
/// drop(Deferred::<()>::fail(Failure::msg("nobody looks")));
/// assert_eq!(*seen.borrow(), ["nobody looks"]);
/// ```
pub fn on_unobserved_failure(hook: impl Fn(&str, &Failure) + 'static) {
    let hook: Hook = Rc::new(hook);
    let before = UNOBSERVED.try_with(|slot| slot.replace(Some(hook)));
    drop(before);
}

/// Tells the hook, or the log, of a failure that went with its last owner. `what` says whose it was.
///
/// Once for each occurrence, however many owners it has, and not if it was logged before. Never of `Cancelled` and
/// `Killed`: somebody asked for these, and knows.
pub(crate) fn report_unobserved(what: impl fmt::Display, failure: &Failure) {
    if failure.is_cancelled() || failure.is::<Killed>() || failure.0.told.swap(true, Ordering::Relaxed) {
        return;
    }
    match UNOBSERVED.try_with(|slot| slot.borrow().clone()) {
        Ok(Some(hook)) => {
            if let Err(panicked) = catch(|| hook(&what.to_string(), failure)) {
                log_it("the hook for unobserved failures", &panicked);
                log_it(what, failure);
            }
            drop_quietly(hook);
        }
        // No hook, or the thread is ending.
        Ok(None) | Err(_) => {
            if LOG_UNOBSERVED.load(Ordering::Relaxed) {
                log_it(what, failure);
            }
        }
    }
}
