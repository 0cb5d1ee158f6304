//! Locks and semaphores for callbacks: who may not go on yet waits as a Deferred.
use super::{Deferred, IntoDeferred, Promise, maybe_deferred};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

/// Lets one in at a time (Twisted's `DeferredLock`). Clones are the same lock.
///
/// ```
/// use twistlet::{Deferred, deferred::DeferredLock};
/// let lock = DeferredLock::new();
/// let (done, work) = Deferred::new();
/// lock.run(move || work.add_callback(|()| println!("first")));
/// let mut second = lock.run(|| Ok("second"));
/// assert!(second.result().is_none());
/// done.callback(());
/// assert_eq!(second.result(), Some(Ok(&"second")));
/// ```
#[derive(Clone)]
pub struct DeferredLock(DeferredSemaphore);

/// Lets a number of them in at a time (Twisted's `DeferredSemaphore`). Clones are the same semaphore.
#[derive(Clone)]
pub struct DeferredSemaphore(Rc<Inner>);

/// Being let in. Dropping it is Twisted's `release`: the one who waits longest gets it, and its callbacks run.
pub struct DeferredPermit(Rc<Inner>);

struct Inner {
    limit: usize,
    free: Cell<usize>,
    waiting: RefCell<VecDeque<Promise<DeferredPermit>>>,
    purge_at: Cell<usize>,
    handing_over: Cell<bool>,
}

impl DeferredLock {
    /// A free lock.
    pub fn new() -> Self {
        Self(DeferredSemaphore::new(1))
    }
    /// The lock, held while the permit lives; the Deferred has fired if the lock is free. Cancelled, it waits no more.
    pub fn acquire(&self) -> Deferred<DeferredPermit> {
        self.0.acquire()
    }
    /// Runs `f` while holding the lock, which is released when what `f` returns has fired.
    pub fn run<R: IntoDeferred>(&self, f: impl FnOnce() -> R + 'static) -> Deferred<R::Value> {
        self.0.run(f)
    }
    /// Whether somebody holds it.
    pub fn is_locked(&self) -> bool {
        self.0.available() == 0
    }
}
impl Default for DeferredLock {
    fn default() -> Self {
        Self::new()
    }
}

impl DeferredSemaphore {
    /// A semaphore of `limit` permits.
    ///
    /// # Panics
    /// If `limit` is 0: nobody could ever come in.
    #[track_caller]
    pub fn new(limit: usize) -> Self {
        assert!(limit > 0, "a semaphore of no permits lets nobody in: its limit must be 1 at least");
        Self(Rc::new(Inner {
            limit,
            free: Cell::new(limit),
            waiting: RefCell::default(),
            purge_at: Cell::new(16),
            handing_over: Cell::new(false),
        }))
    }
    /// A permit, once there is one. First come, first served. Cancelled, it waits no more.
    pub fn acquire(&self) -> Deferred<DeferredPermit> {
        let inner = &self.0;
        if inner.free.get() > 0 && inner.waiting.borrow().is_empty() {
            inner.free.set(inner.free.get() - 1);
            return Deferred::succeed(DeferredPermit(inner.clone()));
        }
        let (promise, deferred) = Deferred::new();
        inner.waiting.borrow_mut().push_back(promise);
        inner.purge();
        deferred
    }
    /// Runs `f` with a permit, which goes back when what `f` returns has fired.
    pub fn run<R: IntoDeferred>(&self, f: impl FnOnce() -> R + 'static) -> Deferred<R::Value> {
        self.acquire().add_callback(move |permit| {
            maybe_deferred(f).add_both(move |outcome| {
                drop(permit);
                outcome
            })
        })
    }
    /// How many permits are free.
    pub fn available(&self) -> usize {
        self.0.free.get()
    }
    /// How many permits there are.
    pub fn limit(&self) -> usize {
        self.0.limit
    }
}

impl DeferredPermit {
    /// As dropping it.
    pub fn release(self) {}
}
impl Drop for DeferredPermit {
    fn drop(&mut self) {
        self.0.free.set(self.0.free.get() + 1);
        self.0.hand_over();
    }
}

impl Inner {
    /// Who comes in may go out at once, and so on along the queue: that is seen by the loop that runs already.
    fn hand_over(self: &Rc<Self>) {
        if self.handing_over.replace(true) {
            return;
        }
        while self.free.get() > 0 {
            let next = self.waiting.borrow_mut().pop_front();
            let Some(promise) = next else { break };
            if promise.is_forgotten() {
                continue;
            }
            self.free.set(self.free.get() - 1);
            promise.callback(DeferredPermit(self.clone()));
        }
        self.handing_over.set(false);
    }
    /// Clears away those who gave up, now and then.
    fn purge(&self) {
        if self.waiting.borrow().len() < self.purge_at.get() {
            return;
        }
        let (gone, left) = self.waiting.take().into_iter().partition::<VecDeque<_>, _>(Promise::is_forgotten);
        self.purge_at.set((left.len() * 2).max(16));
        self.waiting.replace(left);
        drop(gone);
    }
}

impl fmt::Debug for DeferredLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeferredLock").field("locked", &self.is_locked()).finish()
    }
}
impl fmt::Debug for DeferredSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeferredSemaphore").field("available", &self.available()).field("limit", &self.0.limit).finish()
    }
}
impl fmt::Debug for DeferredPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeferredPermit")
    }
}
