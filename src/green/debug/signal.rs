//! A report when a signal comes, as many programs bind to SIGUSR1.
use super::format_all;
use crate::failure::Result;
use crate::reactor::{Core, Reactor, Subscription};
use std::io::Write;
use std::rc::Rc;

/// Writes [`format_all`] to the process's stderr whenever `signal` comes, until the reactor of this thread ends (SIGUSR1:
/// `libc::SIGUSR1`); after that it has its default effect again. For one signal on several threads, each with its reactor, all
/// of them report. SIGINT or SIGTERM asked for in this way stops no reactor any more.
///
/// The report comes from the loop, so not while somebody holds it: a [`Watchdog`](super::Watchdog) tells of that. It is
/// written at once, and a pipe at stderr that nobody reads would hold the loop. Nobody is woken by it: a program that has
/// nothing else to wait for still has a deadlock.
///
/// # Errors
/// `io::Error` for a signal that cannot be caught, or when the system has no descriptor left;
/// [`ReactorError::Closed`](crate::error::ReactorError::Closed).
pub fn dump_on_signal(signal: i32) -> Result<()> {
    call_on_signal(signal, || {
        let report = format_all();
        // Nobody can be told that it cannot be written.
        let _ = std::io::stderr().lock().write_all(report.as_bytes());
    })
}

/// Calls `hook` in a callback of the loop whenever `signal` comes: as [`dump_on_signal`], for a report that goes elsewhere.
/// A panic in it is logged.
///
/// # Errors
/// As [`dump_on_signal`].
pub fn call_on_signal(signal: i32, hook: impl Fn() + 'static) -> Result<()> {
    let core = match Core::current() {
        Some(core) if !core.is_closed() => core,
        _ => Reactor::current().open()?,
    };
    let weak = Rc::downgrade(&core);
    let heard = move |came: Option<i32>| {
        if came.is_some()
            && let Some(core) = weak.upgrade()
        {
            core.guard("the hook of a signal", &hook);
        }
    };
    let subscription = Subscription::new(&core, &[signal], true, heard)?;
    core.add_end_hook(Box::new(move || drop(subscription)));
    Ok(())
}
