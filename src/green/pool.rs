//! `GreenPool`: any number of jobs, so many green threads at a time.
//!
//! Its places are counted by `place`; `imap` runs a function over an iterator. What must never happen here: a place lost,
//! however a job or its spawner ends.
mod imap;
mod place;

pub use imap::{Imap, Star};

use super::block::settle;
use super::green_thread::{GreenThread, finished, report_inline, spawn, spawn_n};
use super::sleep::infallible;
use crate::deferred::IntoDeferred;
use crate::failure::{Failure, ForcedUnwind, Result};
use place::{Place, Places};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

/// Jobs at a time, unless the program says otherwise: Eventlet's number.
const SIZE: usize = 1000;

/// Runs jobs in green threads, so many at a time; who spawns one more waits (Eventlet's `GreenPool`). Clones are the same pool.
///
/// A place is given back when its job returns, fails, panics or is killed, also before it began, and before anybody hears of the
/// outcome. Those who wait for a place get one in the order they came.
///
/// **From inside**: a job of a full pool that spawns another runs it itself, at once and on its own stack, since a wait for a
/// place might be one for its own. The `GreenThread` it gets has ended already, and has the job's outcome: a failure or a
/// panic is in it, as everywhere, and does not come out of `spawn`. (Eventlet lets it escape there.)
///
/// ```
/// use twistlet::green::{GreenPool, sleep};
/// use std::time::Duration;
///
/// let pool = GreenPool::new(2);
/// let jobs: Vec<_> = (1..=4)
///     .map(|n| {
///         pool.spawn(move || {
///             sleep(Duration::from_millis(1));
///             Ok(n * n)
///         })
///     })
///     .collect();
/// pool.wait_all();
/// assert_eq!(pool.free(), 2);
/// assert_eq!(jobs.into_iter().map(|job| job.wait()).sum::<Result<i32, _>>()?, 30);
/// # Ok::<(), twistlet::Failure>(())
/// ```
///
/// Over an iterator, results in order, and never more of the input read than needed:
///
/// ```
/// use twistlet::green::GreenPool;
///
/// let pool = GreenPool::new(10);
/// let lengths = pool.imap(|word: &str| Ok(word.len()), ["one", "two", "three"]);
/// assert_eq!(lengths.collect::<Result<Vec<_>, _>>()?, [3, 3, 5]);
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[derive(Clone)]
pub struct GreenPool(Rc<Places>);

/// How a job is run.
enum Entry {
    In(Place),
    /// The pool is full, and the caller is one of those that fill it.
    Inline,
    /// In a destructor that runs because of a panic or a kill nothing waits.
    Refused,
}

impl GreenPool {
    /// One for `size` jobs at a time. With 0, every spawn waits until it is [`resize`](GreenPool::resize)d.
    pub fn new(size: usize) -> Self {
        GreenPool(Places::new(size))
    }

    /// Runs `f` in a green thread of its own, as [`spawn`] does, when there is a place.
    ///
    /// Dropping the handle detaches. A job that is killed before it began never runs.
    ///
    /// # Panics
    /// As [`Semaphore::acquire`](super::Semaphore::acquire), where it has to wait. In a destructor that runs because of a panic
    /// or a kill it never waits: where there is no place the job is dropped, and its outcome is
    /// [`Killed`](crate::error::Killed).
    ///
    /// # Blocking
    /// Until there is a place; not in a job of this pool, see above.
    #[track_caller]
    pub fn spawn<R: IntoDeferred + 'static>(&self, f: impl FnOnce() -> R + 'static) -> GreenThread<R::Value> {
        match self.enter() {
            Entry::In(place) => spawn(holding(place, f)),
            Entry::Inline => finished(inline(f)),
            Entry::Refused => {
                let job = spawn(f);
                job.kill();
                job
            }
        }
    }
    /// As [`spawn`](GreenPool::spawn), without a handle: only a failure is told, to the log or to
    /// [`on_unobserved_failure`](crate::failure::on_unobserved_failure).
    ///
    /// # Panics
    /// As `spawn`.
    ///
    /// # Blocking
    /// As `spawn`.
    #[track_caller]
    pub fn spawn_n<R: IntoDeferred + 'static>(&self, f: impl FnOnce() -> R + 'static) {
        match self.enter() {
            Entry::In(place) => spawn_n(holding(place, f)),
            Entry::Inline => report_inline(inline(f)),
            Entry::Refused => {
                log::error!(target: "twistlet", "a job is not run: its pool is full, and its spawner unwinds")
            }
        }
    }
    /// As [`spawn`](GreenPool::spawn) if there is a place now. Never waits, so it is for callbacks.
    ///
    /// # Errors
    /// The job, where there is none.
    #[track_caller]
    pub fn try_spawn<R: IntoDeferred + 'static, F: FnOnce() -> R + 'static>(
        &self,
        f: F,
    ) -> Result<GreenThread<R::Value>, F> {
        match self.0.try_take() {
            Some(place) => Ok(spawn(holding(place, f))),
            None => Err(f),
        }
    }

    #[track_caller]
    #[inline]
    fn enter(&self) -> Entry {
        match self.0.try_take() {
            Some(place) => Entry::In(place),
            None => self.enter_full(),
        }
    }
    #[track_caller]
    #[cold]
    fn enter_full(&self) -> Entry {
        if self.0.has_caller() {
            return Entry::Inline;
        }
        match infallible(self.0.take()) {
            Some(place) => Entry::In(place),
            None => Entry::Refused,
        }
    }

    /// Runs `f` over what `input` gives, each call in a green thread of the pool; gives the results in the order of the input
    /// (Eventlet's `imap`). For several inputs, `zip` them.
    ///
    /// A green thread of its own takes from `input`, which may wait, and begins at once. It is never further ahead of who
    /// takes the results than the size of the pool, so memory is bounded however long the input is. A call that fails or panics gives an `Err` at its place, and
    /// the next result is the next call's. An input that panics gives an `Err` and ends there. Dropping the iterator kills
    /// the calls whose results are not taken.
    ///
    /// ```
    /// use twistlet::green::GreenPool;
    ///
    /// let pool = GreenPool::new(3);
    /// let halves = pool.imap(|n: u32| if n % 2 == 0 { Ok(n / 2) } else { Err(twistlet::Failure::msg("odd")) }, 0..);
    /// let first: Vec<_> = halves.take(3).map(|half| half.ok()).collect();
    /// assert_eq!(first, [Some(0), None, Some(1)]);
    /// ```
    ///
    /// # Blocking
    /// Never here; taking a result waits for it, see [`Imap`].
    #[track_caller]
    pub fn imap<I, R>(&self, f: impl Fn(I::Item) -> R + 'static, input: I) -> Imap<R::Value>
    where
        I: IntoIterator<IntoIter: 'static, Item: 'static>,
        R: IntoDeferred + 'static,
    {
        Imap::start(self, f, input.into_iter())
    }
    /// [`imap`](GreenPool::imap) for a function of several arguments, over tuples of them (Eventlet's `starmap`).
    ///
    /// ```
    /// use twistlet::green::GreenPool;
    ///
    /// fn area(width: u32, height: u32) -> twistlet::Result<u32> {
    ///     Ok(width * height)
    /// }
    /// let areas = GreenPool::default().starmap(area, [(2, 3), (4, 5)]);
    /// assert_eq!(areas.collect::<Result<Vec<_>, _>>()?, [6, 20]);
    /// # Ok::<(), twistlet::Failure>(())
    /// ```
    ///
    /// # Blocking
    /// Never here.
    #[track_caller]
    pub fn starmap<I, F>(&self, f: F, input: I) -> Imap<<F::Output as IntoDeferred>::Value>
    where
        I: IntoIterator<IntoIter: 'static, Item: 'static>,
        F: Star<I::Item, Output: IntoDeferred + 'static> + 'static,
    {
        self.imap(move |arguments| f.apply(arguments), input)
    }

    /// Returns when no job runs; at once when none does (Eventlet's `waitall`). It is enough that there is one such moment:
    /// others may have been spawned since.
    ///
    /// # Panics
    /// In a job of this pool, which would wait for itself; otherwise as [`Semaphore::acquire`](super::Semaphore::acquire).
    ///
    /// # Blocking
    /// Until no job runs.
    #[track_caller]
    pub fn wait_all(&self) {
        if self.0.has_caller() {
            return waits_for_itself();
        }
        infallible(self.0.wait_until_idle());
    }
    /// Changes how many jobs may run at a time. Never waits: those that run above the new size run to their end.
    pub fn resize(&self, size: usize) {
        self.0.resize(size);
    }
    /// How many jobs may run at a time.
    pub fn size(&self) -> usize {
        self.0.size()
    }
    /// How many jobs there are: running, waiting for something, or about to begin.
    pub fn running(&self) -> usize {
        self.0.taken()
    }
    /// How many places are free; below zero when the pool was made smaller than what runs.
    pub fn free(&self) -> isize {
        self.size() as isize - self.running() as isize
    }
    /// How many green threads wait for a place.
    pub fn waiting(&self) -> usize {
        self.0.waiting()
    }
}
/// 1000 jobs at a time.
impl Default for GreenPool {
    fn default() -> Self {
        GreenPool::new(SIZE)
    }
}
impl fmt::Debug for GreenPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GreenPool")
            .field("size", &self.size())
            .field("running", &self.running())
            .field("waiting", &self.waiting())
            .finish()
    }
}

/// The job with its place, which it gives back however it ends, and also when it never runs.
fn holding<R: IntoDeferred + 'static>(
    place: Place,
    f: impl FnOnce() -> R + 'static,
) -> impl FnOnce() -> Result<R::Value> + 'static {
    move || {
        let _inside = place.enter();
        settle(f())
    }
}
/// Runs a job on the stack of the job that spawned it. A kill or a deadline of that one goes through both.
fn inline<R: IntoDeferred + 'static>(f: impl FnOnce() -> R) -> Result<R::Value> {
    catch_panic(|| settle(f())).and_then(|outcome| outcome)
}
/// Catches what user code throws, and lets the unwinding of a kill or a deadline pass.
pub(super) fn catch_panic<V>(f: impl FnOnce() -> V) -> Result<V> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(value) => Ok(value),
        Err(payload) if payload.is::<ForcedUnwind>() => resume_unwind(payload),
        Err(payload) => Err(Failure::from_panic(payload)),
    }
}

#[cold]
#[track_caller]
fn waits_for_itself() {
    let what = "wait_all() in a job of the same pool, which would wait for itself: call it outside of the pool";
    assert!(std::thread::panicking(), "{what}");
    log::error!(target: "twistlet", "{what}, at {}", std::panic::Location::caller());
}
