//! Futures on the reactor: what drives an `async fn` over Deferreds, Twisted's `inlineCallbacks`.
//!
//! A task lives in its reactor's table; wakers know it by number only, so they may go to any thread and outlive it. What
//! must never happen here: a future polled, or dropped, while a cell is borrowed, or polled while it is being polled.
use super::core::Core;
use super::remote::{Awaited, Remote};
use super::{Reactor, Runnable};
use crate::deferred::{Deferred, IntoDeferred, Promise};
use crate::error::Cancelled;
use crate::failure;
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// The tasks of one reactor.
#[derive(Default)]
pub(super) struct Tasks {
    slots: slab::Slab<(u64, Rc<dyn Task>)>,
    made: u64,
}

/// A task's number: its place, and its serial against the place's next tenant.
type Name = (usize, u64);

impl Tasks {
    fn reserve(&mut self) -> Name {
        self.made += 1;
        (self.slots.vacant_key(), self.made)
    }
    fn insert(&mut self, name: Name, task: Rc<dyn Task>) {
        let slot = self.slots.insert((name.1, task));
        debug_assert_eq!(slot, name.0, "nothing came between");
    }
    fn get(&self, (slot, serial): Name) -> Option<Rc<dyn Task>> {
        self.slots.get(slot).filter(|(there, _)| *there == serial).map(|(_, task)| Rc::clone(task))
    }
    fn remove(&mut self, (slot, serial): Name) -> Option<Rc<dyn Task>> {
        self.slots.get(slot).filter(|(there, _)| *there == serial)?;
        Some(self.slots.remove(slot).1)
    }
    /// How many there are that are not being polled.
    #[cfg(feature = "testing")]
    pub(super) fn waiting(&self) -> usize {
        self.slots.iter().filter(|(_, (_, task))| !task.is_polled()).count()
    }
    pub(super) fn take_all(&mut self) -> Vec<Rc<dyn Task>> {
        std::mem::take(&mut self.slots).into_iter().map(|(_, (_, task))| task).collect()
    }
}

pub(super) trait Task: Runnable {
    /// The reactor ends first.
    fn stop(self: Rc<Self>);
    /// Whether it is being polled.
    #[cfg(feature = "testing")]
    fn is_polled(&self) -> bool;
}

/// What wakers are made of.
struct Bell {
    remote: Remote,
    reactor: u32,
    name: Name,
    /// Rung since the last poll began: the task is queued, or will be.
    rung: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        if self.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        let (reactor, name) = (self.reactor, self.name);
        if self.remote.is_here() {
            queue(reactor, name);
        } else {
            // Refused when the reactor has ended, and the task with it.
            let _ = self.remote.push(move |_| queue(reactor, name));
        }
    }
}

/// Polls the task in the next run of the ready queue.
fn queue(reactor: u32, name: Name) {
    if let Some(core) = Core::named(reactor) {
        let task = core.tasks.borrow().get(name);
        if let Some(task) = task {
            core.run_soon(task);
        }
    }
}

struct Driven<R: IntoDeferred> {
    name: Name,
    reactor: u32,
    /// Out while it is polled.
    future: RefCell<Option<Pin<Box<dyn Future<Output = R>>>>>,
    promise: RefCell<Option<Promise<R::Value>>>,
    polling: Cell<bool>,
    /// Woken while it was being polled, on another stack.
    missed: Cell<bool>,
    bell: Arc<Bell>,
    waker: Waker,
}

impl<R: IntoDeferred + 'static> Driven<R> {
    fn poll(self: &Rc<Self>) {
        if self.polling.get() {
            self.missed.set(true);
            return;
        }
        let Some(mut future) = self.future.borrow_mut().take() else { return };
        self.bell.rung.store(false, Ordering::Release);
        self.polling.set(true);
        let polled = failure::catch(|| future.as_mut().poll(&mut Context::from_waker(&self.waker)));
        self.polling.set(false);
        let cancelled = self.promise.borrow().is_none();
        match polled {
            Ok(Poll::Pending) if !cancelled => {
                let old = self.future.replace(Some(future));
                drop(old);
                if self.missed.take() {
                    queue(self.reactor, self.name);
                }
            }
            Ok(Poll::Pending) => discard(future),
            Ok(Poll::Ready(outcome)) => {
                discard(future);
                match self.leave() {
                    Some(promise) => promise.resolve(outcome),
                    None => failure::drop_quietly(outcome),
                }
            }
            Err(panicked) => {
                discard(future);
                match self.leave() {
                    Some(promise) => promise.errback(panicked),
                    None => failure::report("a cancelled future", &panicked),
                }
            }
        }
    }
    /// Off the table; the promise, unless it was cancelled.
    fn leave(&self) -> Option<Promise<R::Value>> {
        if let Some(core) = Core::named(self.reactor) {
            // Not the last name of it: who calls this has one.
            let task = core.tasks.borrow_mut().remove(self.name);
            drop(task);
        }
        self.promise.borrow_mut().take()
    }
    /// Drops the future, now or when it returns from being polled.
    fn cancel(&self) {
        let promise = self.leave();
        let future = self.future.borrow_mut().take();
        if let Some(future) = future {
            discard(future);
        }
        if let Some(promise) = promise {
            promise.errback(Cancelled);
        }
    }
}

fn discard<F: ?Sized>(future: Pin<Box<F>>) {
    if let Err(failure) = failure::catch(move || drop(future)) {
        failure::report("the destructor of a future", &failure);
    }
}

impl<R: IntoDeferred + 'static> Runnable for Driven<R> {
    fn run(self: Rc<Self>) {
        self.poll();
    }
}
impl<R: IntoDeferred + 'static> Task for Driven<R> {
    #[cfg(feature = "testing")]
    fn is_polled(&self) -> bool {
        self.polling.get()
    }
    fn stop(self: Rc<Self>) {
        let promise = self.promise.borrow_mut().take();
        let future = self.future.borrow_mut().take();
        if let Some(future) = future {
            discard(future);
        }
        if let Some(promise) = promise {
            Box::new(promise).stop();
        }
    }
}

impl<T: 'static> Deferred<T> {
    /// Drives a future on this thread's reactor, as [`Reactor::spawn_local`] does (Twisted's `ensureDeferred`).
    ///
    /// ```
    /// use twistlet::{Deferred, Result};
    ///
    /// async fn sum(a: Deferred<u32>, b: Deferred<u32>) -> Result<u32> {
    ///     Ok(a.await? + b.await?)
    /// }
    ///
    /// let mut total = Deferred::from_future(sum(Deferred::succeed(20), Deferred::succeed(22)));
    /// assert_eq!(total.result(), Some(Ok(&42))); // nothing it had to wait for
    /// ```
    pub fn from_future<R: IntoDeferred<Value = T> + 'static>(future: impl Future<Output = R> + 'static) -> Self {
        Reactor::current().spawn_local(future)
    }
}

impl Reactor {
    /// Drives a future to its end; the Deferred fires with its output (Twisted's `inlineCallbacks`). The first step runs at
    /// once, the others in turns of the loop.
    ///
    /// Cancelling the Deferred drops the future, and with it what it awaits, which is cancelled too. A panic in it becomes
    /// a failure. Dropping the Deferred leaves it running. When the reactor ends first, it fails with
    /// [`ReactorError::Stopped`](crate::error::ReactorError::Stopped). The wakers it hands out may be used on any thread.
    ///
    /// ```
    /// use std::time::Duration;
    /// use twistlet::{Deferred, Reactor};
    ///
    /// let reactor = Reactor::new()?;
    /// let (promise, answer) = Deferred::new();
    /// reactor.call_later(Duration::from_millis(1), move || promise.callback(42));
    /// let _ = reactor.spawn_local(async move {
    ///     assert_eq!(answer.await?, 42);
    ///     reactor.stop()
    /// });
    /// reactor.run()?;
    /// # Ok::<(), twistlet::Failure>(())
    /// ```
    pub fn spawn_local<R: IntoDeferred + 'static>(
        &self,
        future: impl Future<Output = R> + 'static,
    ) -> Deferred<R::Value> {
        let core = match self.open() {
            Ok(core) => core,
            Err(closed) => return Deferred::fail(closed),
        };
        let (promise, deferred) = Deferred::new();
        let name = core.tasks.borrow_mut().reserve();
        let bell = Arc::new(Bell { remote: Remote::of(&core), reactor: core.id(), name, rung: AtomicBool::new(false) });
        let task = Rc::new(Driven {
            name,
            reactor: core.id(),
            future: RefCell::new(Some(Box::pin(future) as Pin<Box<dyn Future<Output = R>>>)),
            promise: RefCell::new(None),
            polling: Cell::new(false),
            missed: Cell::new(false),
            waker: Waker::from(Arc::clone(&bell)),
            bell,
        });
        core.tasks.borrow_mut().insert(name, Rc::clone(&task) as Rc<dyn Task>);
        let cancelled = Rc::downgrade(&task);
        promise.on_cancel(move || {
            if let Some(task) = cancelled.upgrade() {
                task.cancel();
            }
        });
        *task.promise.borrow_mut() = Some(promise);
        task.poll();
        deferred
    }
}
