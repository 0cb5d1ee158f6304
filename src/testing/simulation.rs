//! `simulate`: a reactor whose network is memory and whose time jumps, run until there is nothing left to do.
use super::Network;
use super::logged::{FailuresLogged, LoggedFailures};
use crate::deferred::IntoDeferred;
use crate::failure::Result;
use crate::reactor::driver::Driver;
use crate::reactor::driver::memory::{Surroundings, Threads};
use crate::reactor::{Core, Reactor};
use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::rc::{Rc, Weak};

/// Runs `f` and then a reactor of its own on a perfect [`Network`]; see [`simulate_with`].
///
/// ```
/// use std::time::Duration;
/// use twistlet::task::defer_later;
/// use twistlet::testing::simulate;
///
/// // An hour that takes no time.
/// let answer = simulate(|reactor, _network| Ok(defer_later(reactor, Duration::from_secs(3600), || Ok(42))))?;
/// assert_eq!(answer, 42);
/// # Ok::<(), twistlet::Failure>(())
/// ```
///
/// # Errors
/// As [`simulate_with`].
pub fn simulate<R: IntoDeferred>(f: impl FnOnce(&Reactor, &Network) -> Result<R>) -> Result<R::Value> {
    simulate_with(&Network::new(), f)
}

/// Makes a reactor on `network` and gives it to `f`, which listens, connects and sets timers there, with the ordinary methods;
/// then runs it, and closes it whatever happens, unwinding included.
///
/// `f` returns `Ok(())` or `Ok(deferred)`. With a Deferred that has not fired the reactor runs until it has; otherwise until
/// somebody stops it, or until it is at rest: no timer, nothing on its way, and no thread that could call. Time stands still while anything can be done
/// at once, and then jumps. It does not jump while the reactor's thread pool is at work, but it does not wait for threads
/// that a program started by itself. Literal addresses need no lookup, so they keep a simulation repeatable.
///
/// # Errors
/// What `f` failed with, or its Deferred; [`FailuresLogged`] when anything was logged as failed, a failed `assert!` in a
/// callback foremost, and was not [flushed](super::flush_logged_failures); [`AtRest`] when the Deferred has not fired by the end;
/// [`ReactorError::AlreadyInstalled`](crate::error::ReactorError::AlreadyInstalled) where the thread has a reactor.
///
/// # Panics
/// With a panic of `f`. Those of callbacks are contained and logged, as on any reactor; they come back as [`FailuresLogged`].
pub fn simulate_with<R: IntoDeferred>(
    network: &Network,
    f: impl FnOnce(&Reactor, &Network) -> Result<R>,
) -> Result<R::Value> {
    let surroundings = Rc::new(Outside::default());
    let core = Core::install(Some(Driver::Memory(network.0.driver(surroundings.clone()))))?;
    *surroundings.0.borrow_mut() = Rc::downgrade(&core);
    let reactor = Reactor::of(&core);
    reactor.handle_signals(false);
    let closing = Closing(reactor);
    let logged = LoggedFailures::collect();
    let outcome = simulated(&core, &reactor, || f(&reactor, network));
    // While the reactor ends whoever waits is told, and most do not care; who panics is at fault all the same.
    let before = logged.len();
    drop(closing);
    let mut failures = logged.end();
    let late = failures.split_off(before.min(failures.len()));
    failures.extend(late.into_iter().filter(|late| late.failure.is_panic()));
    match outcome {
        Err(failure) if failures.is_empty() || !failure.is::<AtRest>() => Err(failure),
        Ok(value) if failures.is_empty() => Ok(value),
        _ => Err(FailuresLogged { failures }.into()),
    }
}

/// What it came to, with the reactor still there.
fn simulated<R: IntoDeferred>(core: &Rc<Core>, reactor: &Reactor, f: impl FnOnce() -> Result<R>) -> Result<R::Value> {
    let reactor = *reactor;
    let outcome = Rc::new(RefCell::new(None));
    match f()?.into_deferred().try_take() {
        Ok(Ok(value)) => *outcome.borrow_mut() = Some(Ok(value)),
        Ok(Err(failure)) => return Err(failure),
        Err(pending) => {
            let fired = Rc::clone(&outcome);
            let _ = pending.add_both(move |outcome| {
                *fired.borrow_mut() = Some(outcome);
                // Refused when it is stopping already.
                let _ = reactor.stop();
            });
        }
    }
    // Green code that waited on the main stack has had the loop run already.
    if !core.is_in_loop() && !core.is_closed() {
        core.run_loop()?;
    }
    // Taken before the end of the reactor drops promises.
    let outcome = outcome.take();
    outcome.unwrap_or(Err(AtRest.into()))
}

/// The simulation came to its end before the Deferred fired: nothing was left that could have fired it, or the reactor was
/// stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AtRest;
impl fmt::Display for AtRest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the simulation ended before its Deferred fired: nothing was left to do, or the reactor was stopped; \
             what should have fired it was never called",
        )
    }
}
impl Error for AtRest {}

struct Closing(Reactor);
impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The reactor around a simulated network, as the network asks about it.
#[derive(Default)]
struct Outside(RefCell<Weak<Core>>);

impl Surroundings for Outside {
    fn threads(&self) -> Threads {
        match self.0.borrow().upgrade() {
            Some(core) if core.has_threads_at_work() => Threads::AtWork,
            Some(core) if core.has_handles() => Threads::MayCall,
            _ => Threads::Away,
        }
    }
    fn at_rest(&self) {
        if let Some(core) = self.0.borrow().upgrade() {
            let weak = Rc::downgrade(&core);
            core.call_soon(Box::new(move || {
                if let Some(core) = weak.upgrade() {
                    core.rest();
                }
            }));
        }
    }
}
