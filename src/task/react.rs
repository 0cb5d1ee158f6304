//! `react`: a whole program as one function that returns a Deferred, and its exit code.
use crate::deferred::{IntoDeferred, maybe_deferred};
use crate::failure::{self, Failure, Result};
use crate::reactor::Reactor;
use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::process::ExitCode;
use std::rc::Rc;

/// The error with which a program given to [`react`] asks for an exit code (Twisted's `SystemExit` there): it is not
/// logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exit(pub u8);
impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the program asks to exit with code {}", self.0)
    }
}
impl Error for Exit {}

/// Calls `main`, runs this thread's reactor until what `main` returned has fired, stops the reactor and gives the exit code:
/// 0 for success, that of an [`Exit`], or 1 for any other failure, which is logged, or printed to standard error when
/// nobody takes the log. When the reactor is stopped first the code is 0.
///
/// ```no_run
/// use std::process::ExitCode;
/// use std::time::Duration;
/// use twistlet::task::{defer_later, react};
///
/// fn main() -> ExitCode {
///     react(|reactor| defer_later(reactor, Duration::from_secs(1), || println!("a second later")))
/// }
/// ```
///
/// # Blocking
/// Holds the thread until then.
pub fn react<R: IntoDeferred<Value = ()>>(main: impl FnOnce(&Reactor) -> R + 'static) -> ExitCode {
    let reactor = Reactor::current();
    let outcome = Rc::new(RefCell::new(None));
    let settled = Rc::clone(&outcome);
    let _ = maybe_deferred(|| main(&reactor)).add_both(move |outcome| {
        // What the end of the reactor drops says nothing of the program.
        if reactor.core().is_some() {
            *settled.borrow_mut() = Some(outcome);
        }
        // Not before it runs, and not again when it is stopping: then `stop` refuses, and that is fine.
        reactor.call_when_running(move || drop(reactor.stop()));
    });
    if let Err(failure) = reactor.run() {
        return exit_code(Err(failure));
    }
    let outcome: Option<Result<()>> = outcome.take();
    exit_code(outcome.unwrap_or(Ok(())))
}

fn exit_code(outcome: Result<()>) -> ExitCode {
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    if let Some(Exit(code)) = failure.check() {
        return ExitCode::from(*code);
    }
    complain(&failure);
    ExitCode::FAILURE
}

fn complain(failure: &Failure) {
    if log::log_enabled!(target: "twistlet", log::Level::Error) {
        failure::report("the main function", failure);
    } else {
        eprintln!("the main function failed: {failure}");
    }
}
