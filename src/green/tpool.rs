//! `tpool`: what blocks the OS thread, run on another, while only the calling green thread waits.
//!
//! The threads are the pool's of the reactor floor; here is how many there are, who waits, and how they are let go. What must
//! never happen here: a green thread that waits for a thread which will never answer; a value's destructor in the wrong place.
mod proxy;

pub use proxy::{Proxy, Steps};

use super::block::{Waitable, settle};
use super::pool::catch_panic;
use super::sleep::infallible;
use super::task::{Waiters, prepare};
use crate::deferred::{Deferred, IntoDeferred};
use crate::error::{PromiseDropped, ReactorError};
use crate::failure::{self, Result};
use crate::reactor::Reactor;
use crate::reactor::pool::Pool;
use std::cell::{Cell, RefCell};
use std::env;
use std::rc::Rc;
use std::time::Duration;

/// Threads at most, unless the program or the environment says otherwise: Eventlet's number, and its variable.
const SIZE: usize = 20;
const SIZE_VARIABLE: &str = "TWISTLET_THREADPOOL_SIZE";

thread_local! {
    static HANDS: RefCell<Option<Rc<Hands>>> = const { RefCell::new(None) };
    /// As the program wants it.
    static WANTED: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The threads of one reactor.
struct Hands {
    reactor: Reactor,
    /// `None`: calls are made where they are asked for.
    pool: Option<Rc<Pool>>,
    /// Calls whose outcome is not there.
    running: Cell<usize>,
    idle: Waiters,
}

/// Calls `f` on another OS thread (Eventlet's `tpool.execute`). For what blocks: files, a database's C library, long
/// computations. What `f` returns is as for [`spawn`](super::spawn), and must be `Send`, as what it captures: it cannot use what
/// belongs to green threads.
///
/// There are 20 threads a reactor at most, or what [`set_size`] or the environment variable `TWISTLET_THREADPOOL_SIZE` says;
/// more calls wait in line. (They are others than those of [`Reactor::defer_to_thread`], so that neither keeps the other
/// waiting.) With 0 threads, and when it is itself on a thread of a pool, `f` is called on the spot.
///
/// **Interrupted**, by a kill or a deadline, the green thread goes; `f` cannot be stopped and runs to its end, and what it
/// returns is dropped.
///
/// ```
/// use twistlet::green::tpool;
///
/// let text = tpool::execute(|| Ok(std::fs::read_to_string("Cargo.toml")?))?;
/// assert!(text.contains("[package]"));
/// # Ok::<(), twistlet::Failure>(())
/// ```
///
/// # Errors
/// What `f` failed with, also by a panic; [`ReactorError::Stopped`] when the reactor ended first;
/// [`PromiseDropped`] when [`shutdown`] dropped it before it began.
///
/// # Panics
/// In the main loop and its callbacks.
///
/// # Blocking
/// The calling green thread until `f` has returned; the others run.
#[track_caller]
pub fn execute<R>(f: impl FnOnce() -> R + Send + 'static) -> Result<R::Value>
where
    R: IntoDeferred + Send + 'static,
    R::Value: Send,
{
    if Pool::is_worker() {
        let returned = failure::catch(f)?;
        return returned.into_deferred().try_take().unwrap_or_else(|_| Err(PromiseDropped.into()));
    }
    // Where it must not wait, nothing is begun.
    drop(prepare()?);
    match Hands::current()?.begin(f) {
        Ok(deferred) => deferred.wait(),
        Err(f) => catch_panic(|| settle(f())).and_then(|outcome| outcome),
    }
}

/// Sets how many threads this OS thread's reactor may use for [`execute`] (Eventlet's `set_num_threads`). Surplus threads leave
/// when they have finished what they do. With 0, `execute` calls its function on the spot, which blocks the reactor.
pub fn set_size(threads: usize) {
    WANTED.set(Some(threads));
    let hands = HANDS.with(|hands| hands.borrow().clone());
    if let Some(pool) = hands.as_ref().and_then(|hands| hands.pool.as_ref())
        && threads > 0
    {
        pool.resize(threads);
    } else {
        // Whatever runs ends as it would have; the next call finds it changed.
        let old = HANDS.take();
        drop(old);
    }
}
/// How many threads there may be.
pub fn size() -> usize {
    WANTED.get().unwrap_or_else(size_of_environment)
}
fn size_of_environment() -> usize {
    let Some(text) = env::var_os(SIZE_VARIABLE) else { return SIZE };
    match text.to_str().and_then(|text| text.trim().parse().ok()) {
        Some(size) => size,
        None => {
            log::warn!(target: "twistlet", "{SIZE_VARIABLE} is {text:?}, not a number: {SIZE} threads are used");
            SIZE
        }
    }
}

/// Lets the threads go: waits for the calls that run, no longer than `limit`, and delivers their results (Eventlet's
/// `killall`). `false`: some run still; these end when they do and their results are delivered then, but those that have
/// not begun are dropped, and whoever waits for them gets [`PromiseDropped`]. The next [`execute`] has new threads. Not needed
/// at the end of the reactor, which does not wait longer than a quarter of a second.
///
/// # Panics
/// In the main loop and its callbacks, when calls run.
///
/// # Blocking
/// Until the last call has ended, at most for `limit`.
#[track_caller]
pub fn shutdown(limit: Duration) -> bool {
    let Some(hands) = HANDS.with(|hands| hands.borrow().clone()) else { return true };
    if hands.running.get() > 0 && limit > Duration::ZERO {
        infallible(hands.idle.wait("the threads of tpool", Some(limit)));
    }
    let old = HANDS.with(|current| {
        let ours = current.borrow().as_ref().is_some_and(|current| Rc::ptr_eq(current, &hands));
        if ours { current.take() } else { None }
    });
    drop(old);
    let done = hands.running.get() == 0;
    if let Some(pool) = &hands.pool {
        pool.dismiss();
        if done && let Some(core) = hands.reactor.core() {
            core.remove_pool(pool);
        }
    }
    done
}

impl Hands {
    /// Those of this thread's reactor.
    fn current() -> Result<Rc<Hands>> {
        let reactor = Reactor::current();
        if let Some(hands) = HANDS.with(|hands| hands.borrow().clone())
            && hands.reactor == reactor
        {
            return Ok(hands);
        }
        let core = reactor.core().ok_or(ReactorError::Closed)?;
        let pool = match size() {
            0 => {
                log::warn!(target: "twistlet", "tpool has no threads: its calls block the reactor");
                None
            }
            threads => Some(core.add_pool(threads)),
        };
        let hands = Rc::new(Hands { reactor, pool, running: Cell::new(0), idle: Waiters::default() });
        let old = HANDS.replace(Some(Rc::clone(&hands)));
        drop(old);
        Ok(hands)
    }
    /// Has a thread call `f`. `Err`: there are none.
    fn begin<R, F: FnOnce() -> R + Send + 'static>(self: &Rc<Self>, f: F) -> Result<Deferred<R::Value>, F>
    where
        R: IntoDeferred + Send + 'static,
        R::Value: Send,
    {
        let Some(pool) = &self.pool else { return Err(f) };
        self.running.set(self.running.get() + 1);
        let ending = Ending(Rc::clone(self));
        Ok(self.reactor.defer_to(pool, f).add_both(move |outcome| {
            drop(ending);
            outcome
        }))
    }
}

/// Drops a value on a thread, where there are any.
fn dispose(value: impl Send + 'static) {
    let hands = HANDS.try_with(|hands| hands.borrow().clone()).ok().flatten();
    if let Some(hands) = hands
        && let Some(pool) = &hands.pool
    {
        // Refused, it is dropped here.
        let _ = hands.reactor.submit_to(pool, Box::new(move || drop(value)));
    }
}

/// A call has its outcome, or nobody wants it any more.
struct Ending(Rc<Hands>);
impl Drop for Ending {
    fn drop(&mut self) {
        let running = &self.0.running;
        running.set(running.get() - 1);
        if running.get() == 0 {
            self.0.idle.wake_all();
        }
    }
}
