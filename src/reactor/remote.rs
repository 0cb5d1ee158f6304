//! The one handle other threads may hold, and the inbox it writes to (Twisted's `callFromThread`).
//!
//! Wake-ups are coalesced: only the first call after the loop last looked writes to the poller. What must never happen here:
//! a user's closure run or dropped under the inbox's lock.
use super::Reactor;
use super::core::Core;
use super::driver::Waker;
use crate::deferred::{Deferred, IntoDeferred, Promise, run_and_report};
use crate::error::{PromiseDropped, ReactorError};
use crate::failure::{Failure, Result};
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, ThreadId};

type Call = Box<dyn FnOnce(&Reactor) + Send>;

/// Calls on their way to the loop.
pub(crate) struct Inbox {
    /// `None` once the reactor has ended.
    calls: Mutex<Option<Vec<Call>>>,
    notified: AtomicBool,
    /// `Remote`s there are: while one lives, somebody may call.
    handles: AtomicUsize,
    /// `None` where there never was a reactor.
    waker: Option<Waker>,
    thread: ThreadId,
}

impl Inbox {
    pub(super) fn new(waker: Waker) -> Arc<Inbox> {
        Arc::new(Inbox {
            calls: Mutex::new(Some(Vec::new())),
            notified: AtomicBool::new(false),
            handles: AtomicUsize::new(0),
            waker: Some(waker),
            thread: thread::current().id(),
        })
    }
    fn lock(&self) -> MutexGuard<'_, Option<Vec<Call>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Ends a poll, also one that is about to begin.
    pub(crate) fn wake(&self) {
        if !self.notified.swap(true, Ordering::AcqRel) && thread::current().id() != self.thread {
            self.waker.iter().for_each(Waker::wake);
        }
    }
    pub(super) fn is_notified(&self) -> bool {
        self.notified.load(Ordering::Acquire)
    }
    pub(super) fn has_handles(&self) -> bool {
        self.handles.load(Ordering::Acquire) > 0
    }
    /// Somebody on the reactor's thread waits for what another thread may do, until `expect_no_more`.
    #[cfg(feature = "green")]
    pub(crate) fn expect_calls(&self) {
        self.handles.fetch_add(1, Ordering::Relaxed);
    }
    /// Called on the reactor's thread, which is awake and will look.
    #[cfg(feature = "green")]
    pub(crate) fn expect_no_more(&self) {
        self.handles.fetch_sub(1, Ordering::AcqRel);
    }
    pub(crate) fn push(&self, call: Call) -> Result<()> {
        let refused = match &mut *self.lock() {
            Some(calls) => {
                calls.push(call);
                None
            }
            None => Some(call),
        };
        if refused.is_some() {
            return Err(ReactorError::Stopped.into());
        }
        self.wake();
        Ok(())
    }
    /// The calls queued when this began; what they queue waits for the next turn.
    pub(super) fn run(&self, core: &Rc<Core>) {
        if !self.is_notified() {
            return;
        }
        // Cleared before the queue is read: a call pushed in between wakes the loop once too often, never once too little.
        self.notified.store(false, Ordering::Release);
        let calls = match &mut *self.lock() {
            Some(calls) => std::mem::take(calls),
            None => Vec::new(),
        };
        let reactor = Reactor::of(core);
        for call in calls {
            core.guard("a call from another thread", || call(&reactor));
        }
    }
    /// Refuses calls from here on and drops those that wait: whoever waits for one is told.
    pub(super) fn close(&self) {
        let calls = self.lock().take();
        for call in calls.into_iter().flatten() {
            if let Err(failure) = crate::failure::catch(move || drop(call)) {
                crate::failure::report("a destructor", &failure);
            }
        }
    }
}

/// A reactor, for other threads: `Send + Sync + Clone`. Made by [`Reactor::remote`].
///
/// ```
/// use twistlet::Reactor;
///
/// let reactor = Reactor::new()?;
/// let remote = reactor.remote();
/// std::thread::spawn(move || remote.call_from_thread(|reactor| reactor.stop()));
/// reactor.run()?;
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct Remote(Arc<Inbox>);

impl Remote {
    /// Of a reactor that has ended: every call is refused.
    pub(super) fn closed() -> Self {
        Remote(Arc::new(Inbox {
            calls: Mutex::new(None),
            notified: AtomicBool::new(true),
            handles: AtomicUsize::new(1),
            waker: None,
            thread: thread::current().id(),
        }))
    }
    pub(super) fn of(core: &Core) -> Self {
        core.inbox().handles.fetch_add(1, Ordering::Relaxed);
        Remote(Arc::clone(core.inbox()))
    }
    /// Runs `call`, which is ours, on the reactor's thread.
    pub(super) fn push(&self, call: impl FnOnce(&Reactor) + Send + 'static) -> Result<()> {
        self.0.push(Box::new(call))
    }
    pub(super) fn is_here(&self) -> bool {
        thread::current().id() == self.0.thread
    }
    /// Runs `f` on the reactor's thread, in a later turn, in the order of the calls (Twisted's `callFromThread`). A failure it
    /// returns is logged.
    ///
    /// # Errors
    /// [`ReactorError::Stopped`] when the reactor has ended; `f` is dropped.
    pub fn call_from_thread<R: IntoDeferred + 'static>(
        &self,
        f: impl FnOnce(&Reactor) -> R + Send + 'static,
    ) -> Result<()> {
        self.0.push(Box::new(move |reactor| run_and_report("a call from another thread", || f(reactor))))
    }
    /// Runs `f` on the reactor's thread and gives what it, or the Deferred it returns, came to (Twisted's
    /// `blockingCallFromThread`).
    ///
    /// # Errors
    /// The failure of `f`; [`ReactorError::Stopped`] when the reactor ended first; [`ReactorError::WrongThread`] on the
    /// reactor's own thread, which would wait for itself.
    ///
    /// # Blocking
    /// Holds the calling thread, which is not the reactor's.
    pub fn blocking_call<R>(&self, f: impl FnOnce(&Reactor) -> R + Send + 'static) -> Result<R::Value>
    where
        R: IntoDeferred + 'static,
        R::Value: Send + 'static,
    {
        if self.is_here() {
            return Err(ReactorError::WrongThread.into());
        }
        let (answer, wait) = mpsc::channel::<Result<R::Value>>();
        self.push(move |reactor| {
            let outcome = crate::deferred::maybe_deferred(|| f(reactor));
            let (id, outcome) = match (reactor.core(), outcome.try_take()) {
                // The caller waits; it can only be gone together with its thread.
                (_, Ok(outcome)) => return drop(answer.send(outcome)),
                (None, Err(_)) => return,
                (Some(core), Err(outcome)) => (core.keep_awaited(Box::new(Answer(answer))), outcome),
            };
            let reactor = *reactor;
            let _ = outcome.add_both(move |outcome| {
                // Not there any more when the reactor has ended: then the caller was told so.
                if let Some(Answer(answer)) = take_awaited::<Answer<R::Value>>(&reactor, id) {
                    let _ = answer.send(outcome);
                }
            });
        })?;
        wait.recv().unwrap_or_else(|_| Err(ReactorError::Stopped.into()))
    }
}
impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("thread", &self.0.thread).finish_non_exhaustive()
    }
}
impl Clone for Remote {
    fn clone(&self) -> Self {
        self.0.handles.fetch_add(1, Ordering::Relaxed);
        Remote(Arc::clone(&self.0))
    }
}
impl Drop for Remote {
    fn drop(&mut self) {
        // The loop may be waiting on account of this handle alone: let it look again.
        if self.0.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.wake();
        }
    }
}

/// What a reactor keeps while another thread works on it, or waits for it.
pub(super) trait Awaited {
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
    /// The reactor ends first.
    fn stop(self: Box<Self>);
}
impl<T: 'static> Awaited for Promise<T> {
    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
    fn stop(self: Box<Self>) {
        // Not where nobody waits: that would be logged as a failure nobody looked at.
        if !self.is_forgotten() {
            self.errback(ReactorError::Stopped);
        }
    }
}
/// Where a thread in `blocking_call` waits; it is told by the drop.
struct Answer<T>(mpsc::Sender<Result<T>>);
impl<T: 'static> Awaited for Answer<T> {
    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
    fn stop(self: Box<Self>) {}
}
pub(super) fn take_awaited<A: 'static>(reactor: &Reactor, number: u64) -> Option<A> {
    let awaited = reactor.core()?.give_awaited(number)?;
    awaited.into_any().downcast().ok().map(|awaited| *awaited)
}

/// The producer's end of a Deferred of another thread: `Send`. Dropped unfired it is `PromiseDropped`, as ever.
pub struct RemotePromise<T: Send + 'static> {
    /// Where the promise waits in the reactor; taken when it is fired.
    slot: Option<(Remote, u64)>,
    value: PhantomData<fn(T)>,
}

impl<T: Send + 'static> Deferred<T> {
    /// A Deferred that another thread fires; its callbacks run on this thread, in a turn of this thread's reactor.
    ///
    /// ```
    /// use twistlet::{Deferred, Reactor};
    ///
    /// let reactor = Reactor::new()?;
    /// let (promise, answer) = Deferred::from_thread();
    /// std::thread::spawn(move || promise.callback(42));
    /// let _ = answer.add_callback(move |n: u32| {
    ///     assert_eq!(n, 42);
    ///     reactor.stop()
    /// });
    /// reactor.run()?;
    /// # Ok::<(), twistlet::Failure>(())
    /// ```
    pub fn from_thread() -> (RemotePromise<T>, Deferred<T>) {
        let (promise, deferred) = Deferred::new();
        let Some(core) = Reactor::current().core() else {
            promise.errback(ReactorError::Closed);
            return (RemotePromise { slot: None, value: PhantomData }, deferred);
        };
        let slot = core.keep_awaited(Box::new(promise));
        (RemotePromise { slot: Some((Remote::of(&core), slot)), value: PhantomData }, deferred)
    }
}

impl<T: Send + 'static> RemotePromise<T> {
    /// Fires the Deferred with a value, in a turn of its reactor.
    pub fn callback(mut self, value: T) {
        self.send(move |promise| promise.callback(value));
    }
    /// Fires the Deferred with a failure, in a turn of its reactor.
    #[track_caller]
    pub fn errback(mut self, error: impl Into<Failure>) {
        let failure = error.into();
        self.send(move |promise| promise.errback(failure));
    }
    /// Fires the Deferred with what becomes a Deferred on the reactor's thread only.
    pub(super) fn resolve<R: IntoDeferred<Value = T> + Send + 'static>(mut self, outcome: R) {
        self.send(move |promise| promise.resolve(outcome));
    }
    pub(super) fn number(&self) -> Option<u64> {
        self.slot.as_ref().map(|(_, number)| *number)
    }
    fn send(&mut self, settle: impl FnOnce(Promise<T>) + Send + 'static) {
        let Some((remote, number)) = self.slot.take() else { return };
        // A reactor that has ended has told the Deferred so.
        let _ = remote.push(move |reactor| {
            if let Some(promise) = take_awaited(reactor, number) {
                settle(promise);
            }
        });
    }
}
impl<T: Send + 'static> Drop for RemotePromise<T> {
    fn drop(&mut self) {
        self.send(|promise| promise.errback(PromiseDropped));
    }
}
impl<T: Send + 'static> fmt::Debug for RemotePromise<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemotePromise").finish_non_exhaustive()
    }
}
