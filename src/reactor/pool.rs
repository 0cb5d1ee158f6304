//! The reactor's thread pool, for what blocks: Twisted's `callInThread` and `deferToThread`.
//!
//! Threads start with the first job, ten at most, and leave after some idle seconds; jobs start in the order they came.
//! What must never happen here: a job run, or dropped, under the lock; the reactor's thread waiting for a job without end.
use super::Reactor;
use super::remote::{Remote, take_awaited};
use crate::deferred::{Deferred, IntoDeferred, Promise};
use crate::error::ReactorError;
use crate::failure::{self, Failure};
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Threads at most, unless the program says otherwise: Twisted's number.
pub(super) const THREADS: usize = 10;
/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(10);
/// How long the end of the reactor waits for jobs that run.
const PATIENCE: Duration = Duration::from_millis(250);

/// Work, and the handle by which the reactor knows that a thread may still call it.
struct Job {
    call: Box<dyn FnOnce() + Send>,
    remote: Remote,
}

struct Backlog {
    jobs: VecDeque<Job>,
    limit: usize,
    threads: usize,
    idle: usize,
    /// Threads that have not looked for their first job yet.
    starting: usize,
    /// Threads made so far: their names.
    made: usize,
    stopped: bool,
    handles: HashMap<usize, JoinHandle<()>>,
}

struct Shared {
    backlog: Mutex<Backlog>,
    /// There is a job, or a reason to leave.
    work: Condvar,
    /// A thread has left a stopped pool.
    left: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Pool(Arc<Shared>);

thread_local! {
    /// This OS thread is one of a pool's.
    static WORKER: Cell<bool> = const { Cell::new(false) };
}

impl Pool {
    /// Whether the calling thread is one of a pool's.
    #[cfg(feature = "green")]
    pub(crate) fn is_worker() -> bool {
        WORKER.get()
    }
    pub(super) fn new(limit: usize) -> Self {
        Pool(Arc::new(Shared {
            backlog: Mutex::new(Backlog {
                jobs: VecDeque::new(),
                limit,
                threads: 0,
                idle: 0,
                starting: 0,
                made: 0,
                stopped: false,
                handles: HashMap::new(),
            }),
            work: Condvar::new(),
            left: Condvar::new(),
        }))
    }

    /// Whether there is a job that has not ended.
    #[cfg_attr(not(feature = "testing"), allow(dead_code, reason = "for simulations"))]
    pub(super) fn is_busy(&self) -> bool {
        let backlog = self.0.lock();
        !backlog.jobs.is_empty() || backlog.threads > backlog.idle
    }

    /// Threads there are, those of them at work, and jobs that wait for one.
    #[cfg(any(feature = "green", feature = "testing"))]
    pub(super) fn figures(&self) -> (usize, usize, usize) {
        let backlog = self.0.lock();
        (backlog.threads, backlog.threads - backlog.idle, backlog.jobs.len())
    }
    /// Queues a job; gives the reason when it cannot be done, and the job is dropped.
    fn submit(&self, job: Job) -> Result<(), Failure> {
        let mut backlog = self.0.lock();
        if backlog.stopped {
            drop(backlog);
            failure::drop_quietly(job);
            return Err(ReactorError::Stopped.into());
        }
        backlog.jobs.push_back(job);
        self.0.work.notify_one();
        let Err(error) = self.hire(&mut backlog) else { return Ok(()) };
        if backlog.threads > 0 {
            // Somebody will come to it.
            return Ok(());
        }
        let job = backlog.jobs.pop_back();
        drop(backlog);
        failure::drop_quietly(job);
        Err(error.into())
    }

    /// Starts as many threads as there is work for.
    fn hire(&self, backlog: &mut Backlog) -> std::io::Result<()> {
        while backlog.jobs.len() > backlog.idle + backlog.starting && backlog.threads < backlog.limit {
            let number = backlog.made + 1;
            let shared = Arc::clone(&self.0);
            let name = format!("twistlet-pool-{number}");
            let handle = thread::Builder::new().name(name).spawn(move || work(&shared, number))?;
            backlog.handles.insert(number, handle);
            backlog.made = number;
            backlog.threads += 1;
            backlog.starting += 1;
        }
        Ok(())
    }

    pub(crate) fn resize(&self, limit: usize) {
        let mut backlog = self.0.lock();
        backlog.limit = limit.max(1);
        // Those above the limit leave when they have nothing in hand.
        self.0.work.notify_all();
        if !backlog.stopped
            && let Err(error) = self.hire(&mut backlog)
        {
            drop(backlog);
            failure::report("the thread pool", &error.into());
        }
    }

    /// Takes no more work and forgets what has not begun; what has runs to its end.
    fn close(&self) -> bool {
        let mut backlog = self.0.lock();
        if std::mem::replace(&mut backlog.stopped, true) {
            return false;
        }
        let jobs = std::mem::take(&mut backlog.jobs);
        self.0.work.notify_all();
        drop(backlog);
        jobs.into_iter().for_each(failure::drop_quietly);
        true
    }
    /// As `stop`, without waiting.
    #[cfg(feature = "green")]
    pub(crate) fn dismiss(&self) {
        self.close();
    }
    /// Takes no more work, forgets what has not begun, and waits a moment for what has.
    ///
    /// A thread that is still busy then is left to itself: its result goes nowhere, and it ends with its job, or with the
    /// process.
    pub(super) fn stop(&self) {
        if !self.close() {
            return;
        }
        let deadline = Instant::now() + PATIENCE;
        let mut backlog = self.0.lock();
        while backlog.threads > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                log::warn!(
                    target: "twistlet",
                    "the reactor ends while {} of its threads are busy; they are left to themselves", backlog.threads
                );
                break;
            }
            backlog = self.0.left.wait_timeout(backlog, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let all_left = backlog.threads == 0;
        let handles = std::mem::take(&mut backlog.handles);
        drop(backlog);
        for handle in handles.into_values() {
            if all_left || handle.is_finished() {
                // Cannot have panicked: jobs are guarded.
                let _ = handle.join();
            }
        }
    }
}

/// A thread's life.
fn work(shared: &Shared, number: usize) {
    WORKER.set(true);
    shared.lock().starting -= 1;
    while let Some(Job { call, remote }) = next(shared, number) {
        if let Err(failure) = failure::catch(call) {
            failure::report("a call in a thread", &failure);
        }
        // Last: until here the job may have called the reactor.
        drop(remote);
    }
}

/// Waits for a job; `None` says that the thread is to leave, and is off the books already.
fn next(shared: &Shared, number: usize) -> Option<Job> {
    let mut backlog = shared.lock();
    let mut tired = false;
    loop {
        let surplus = backlog.threads > backlog.limit;
        if !surplus && let Some(job) = backlog.jobs.pop_front() {
            return Some(job);
        }
        if surplus || tired || backlog.stopped {
            backlog.threads -= 1;
            if backlog.stopped {
                shared.left.notify_all();
                return None;
            }
            let handle = backlog.handles.remove(&number);
            drop(backlog);
            drop(handle);
            return None;
        }
        backlog.idle += 1;
        let (again, waited) = shared.work.wait_timeout(backlog, IDLE).unwrap_or_else(PoisonError::into_inner);
        backlog = again;
        backlog.idle -= 1;
        tired = waited.timed_out();
    }
}

impl Reactor {
    /// Calls `f` on a thread of the reactor's pool (Twisted's `callInThread`); for what blocks. A panic in it is logged.
    ///
    /// Calls start in the order they were made, ten at a time unless
    /// [`suggest_thread_pool_size`](Reactor::suggest_thread_pool_size) says otherwise. To call the reactor from there,
    /// capture its [`remote`](Reactor::remote).
    ///
    /// **At the end of the reactor** what has not begun is dropped, what runs is waited for a quarter of a second and then
    /// left to itself. Work that must be finished belongs into a `BeforeShutdown` trigger that returns its Deferred. When
    /// the reactor has ended, `f` is dropped and that is logged.
    ///
    /// ```
    /// use twistlet::Reactor;
    ///
    /// let reactor = Reactor::new()?;
    /// let remote = reactor.remote();
    /// reactor.call_in_thread(move || {
    ///     let answer = 6 * 7; // takes its time
    ///     let told = remote.call_from_thread(move |reactor| {
    ///         assert_eq!(answer, 42);
    ///         reactor.stop()
    ///     });
    ///     assert!(told.is_ok());
    /// });
    /// reactor.run()?;
    /// # Ok::<(), twistlet::Failure>(())
    /// ```
    pub fn call_in_thread(&self, f: impl FnOnce() + Send + 'static) {
        if let Err(failure) = self.submit(Box::new(f)) {
            failure::report("a call in a thread was not made", &failure);
        }
    }

    /// Calls `f` on a thread of the pool; the Deferred fires with what it returns, in a later turn (Twisted's
    /// `deferToThread`). It fails with what `f` fails with, also by a panic; with [`ReactorError::Stopped`] when the
    /// reactor ends first; with the system's error when it has no thread.
    ///
    /// Cancelling the Deferred fails it at once; `f` runs all the same, and what it returns is dropped.
    ///
    /// ```
    /// use twistlet::Reactor;
    ///
    /// let reactor = Reactor::new()?;
    /// let _ = reactor.defer_to_thread(|| Ok(std::fs::read_to_string("Cargo.toml")?)).add_callback(move |text| {
    ///     assert!(text.contains("[package]"));
    ///     reactor.stop()
    /// });
    /// reactor.run()?;
    /// # Ok::<(), twistlet::Failure>(())
    /// ```
    pub fn defer_to_thread<R>(&self, f: impl FnOnce() -> R + Send + 'static) -> Deferred<R::Value>
    where
        R: IntoDeferred + Send + 'static,
        R::Value: Send,
    {
        match self.core() {
            Some(core) => self.defer_to(core.pool(), f),
            None => Deferred::fail(ReactorError::Closed),
        }
    }
    /// As `defer_to_thread`, on a thread of `pool`.
    pub(crate) fn defer_to<R>(&self, pool: &Pool, f: impl FnOnce() -> R + Send + 'static) -> Deferred<R::Value>
    where
        R: IntoDeferred + Send + 'static,
        R::Value: Send,
    {
        let (promise, deferred) = Deferred::from_thread();
        let number = promise.number();
        let call = move || match failure::catch(f) {
            Ok(outcome) => promise.resolve(outcome),
            Err(failure) => {
                failure::report_in_thread(&failure);
                promise.errback(failure);
            }
        };
        let submitted = self.submit_to(pool, Box::new(call));
        if let Err(failure) = submitted
            && let Some(promise) = number.and_then(|number| take_awaited::<Promise<R::Value>>(self, number))
        {
            promise.errback(failure);
        }
        deferred
    }

    /// Sets how many threads the pool may have, one at least; ten by default (Twisted's `suggestThreadPoolSize`). Surplus
    /// threads leave when they have finished what they do.
    pub fn suggest_thread_pool_size(&self, threads: usize) {
        if let Some(core) = self.core() {
            core.pool().resize(threads);
        }
    }

    fn submit(&self, call: Box<dyn FnOnce() + Send>) -> Result<(), Failure> {
        let core = self.open()?;
        self.submit_to(core.pool(), call)
    }
    pub(crate) fn submit_to(&self, pool: &Pool, call: Box<dyn FnOnce() + Send>) -> Result<(), Failure> {
        let core = self.open()?;
        pool.submit(Job { call, remote: Remote::of(&core) })
    }
}
