//! Seeing inside: who runs, who waits for what and where, what is pending, and who holds the loop (Eventlet's `debug`).
//!
//! Everything here tells of the calling thread's reactor and its green threads; nothing waits. Looking costs the program
//! nothing while nobody looks: what reports tell is kept anyway, or only after a switch here was turned on.
//!
//! | Eventlet | here |
//! |---|---|
//! | `format_hub_timers`, `hub_timer_stacks(on)` | [`format_timers`], [`record_timer_sites`] |
//! | `format_hub_listeners`; `hub_listener_stacks(on)` | [`format_descriptors`], which always knows where its waiters wait |
//! | `format_threads_info`; gevent's `print_run_info` | [`format_green_threads`], [`format_tree`], [`format_all`] |
//! | `hub_exceptions(on)`, `tpool_exceptions(on)` | [`log_unobserved`], [`log_thread_panics`] |
//! | `hub_blocking_detection(on, resolution)` | [`blocking_detection`], [`Watchdog`] |
//! | `hub_prevent_multiple_readers(on)` | none: a second reader always gets [`Busy`](crate::error::Busy) |
//! | `spew` | none: use the `log` of this crate at trace level, or a profiler |
mod info;
mod reactor;
mod signal;
mod stats;

pub use crate::failure::{log_thread_panics, log_unobserved, on_unobserved_failure};
pub use crate::reactor::{Blocked, Holder, Watchdog, Watching};
pub use info::{Branch, GreenInfo, Spawner, State, format_green_threads, format_tree, green_threads, kill, tree};
pub(in crate::green) use info::{first, format_parked};
pub use reactor::{
    DescriptorInfo, TimerInfo, descriptors, format_descriptors, format_timers, record_timer_sites, timers,
};
pub use signal::{call_on_signal, dump_on_signal};
pub use stats::{Stats, stats};

use crate::failure::Result;
use crate::reactor::{Core, Reactor};
use std::fmt::Write;
use std::rc::Rc;
use std::time::Duration;

/// Everything: the figures, the tree of green threads, the timers, the descriptors.
///
/// ```
/// use twistlet::green::{debug, sleep, spawn};
/// use std::time::Duration;
///
/// let worker = spawn(|| {
///     sleep(Duration::from_millis(1));
///     Ok(debug::format_all())
/// });
/// worker.set_name("worker");
/// assert!(worker.wait()?.contains("green thread 'worker'"));
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub fn format_all() -> String {
    let mut all = String::new();
    let thread = std::thread::current();
    let _ = writeln!(all, "== thread '{}' ==", thread.name().unwrap_or("without a name"));
    let _ = write!(all, "{}", stats());
    let _ = write!(all, "green threads:\n{}", format_tree());
    let _ = write!(all, "timers:\n{}", format_timers());
    let _ = write!(all, "descriptors:\n{}", format_descriptors());
    all
}

/// Turns the [`Watchdog`] of this thread's reactor on, with log lines about whoever holds the loop longer than `limit`, or
/// off (Eventlet's `hub_blocking_detection`). At any time; also from a callback.
///
/// ```
/// use twistlet::green::debug::blocking_detection;
/// use std::time::Duration;
///
/// blocking_detection(Duration::from_millis(50))?;
/// blocking_detection(None)?;
/// # Ok::<(), twistlet::Failure>(())
/// ```
///
/// # Errors
/// As [`Watchdog::start`].
pub fn blocking_detection(limit: impl Into<Option<Duration>>) -> Result<()> {
    match (limit.into(), Core::current()) {
        (Some(limit), _) => Watchdog::new(limit).start(&Reactor::current()).map(drop),
        (None, Some(core)) => {
            core.stop_watching();
            Ok(())
        }
        (None, None) => Ok(()),
    }
}

/// The reactor of this thread, if there is one.
fn core() -> Option<Rc<Core>> {
    Core::current().filter(|core| !core.is_closed())
}
