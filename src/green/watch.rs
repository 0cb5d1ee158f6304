//! `watch`: one value that changes, and those who want to know when it has.
//!
//! Only the latest value is kept; whoever is slow sees that it changed, not how often. What must never happen here: a value
//! cloned or dropped, or a closure called, while a cell is borrowed.
use super::broadcast::Closed;
use super::task::Waiters;
use crate::error::TimedOut;
use crate::failure::Result;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// A value, and a receiver that has seen it.
///
/// ```
/// use twistlet::green::{spawn, watch};
///
/// let (level, watcher) = watch::channel(1);
/// let watching = spawn(move || watcher.wait_for(|level| *level > 2));
/// level.send(2)?;
/// level.send(3)?;
/// assert_eq!(*watching.wait()?, 3);
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub fn channel<T: 'static>(value: T) -> (Sender<T>, Receiver<T>) {
    let cell = Rc::new(Watched {
        value: RefCell::new(Rc::new(value)),
        version: Cell::new(0),
        senders: Cell::new(1),
        receivers: Cell::new(1),
        waiters: Waiters::default(),
    });
    (Sender(Rc::clone(&cell)), Receiver { cell, seen: Cell::new(0) })
}

struct Watched<T> {
    value: RefCell<Rc<T>>,
    version: Cell<u64>,
    senders: Cell<usize>,
    receivers: Cell<usize>,
    waiters: Waiters,
}
impl<T> Watched<T> {
    fn get(&self) -> Rc<T> {
        Rc::clone(&self.value.borrow())
    }
    fn replace(&self, value: T) {
        let old = self.value.replace(Rc::new(value));
        self.version.set(self.version.get() + 1);
        self.waiters.wake_all();
        drop(old);
    }
}

/// Changes the value; clones change the same one.
pub struct Sender<T: 'static>(Rc<Watched<T>>);
/// Sees the value, and waits for it to change. A clone has seen what this one has.
pub struct Receiver<T: 'static> {
    cell: Rc<Watched<T>>,
    seen: Cell<u64>,
}

impl<T: 'static> Sender<T> {
    /// Changes the value and wakes all who wait. Never waits.
    ///
    /// # Errors
    /// [`Closed`] when there is no receiver; the value is changed all the same, for those who subscribe later.
    pub fn send(&self, value: T) -> Result<(), Closed> {
        self.0.replace(value);
        if self.0.receivers.get() == 0 { Err(Closed) } else { Ok(()) }
    }
    /// The present value.
    pub fn get(&self) -> Rc<T> {
        self.0.get()
    }
    /// A receiver that has seen the present value.
    pub fn subscribe(&self) -> Receiver<T> {
        self.0.receivers.set(self.0.receivers.get() + 1);
        Receiver { cell: Rc::clone(&self.0), seen: Cell::new(self.0.version.get()) }
    }
    /// How many receivers there are.
    pub fn receivers(&self) -> usize {
        self.0.receivers.get()
    }
}

impl<T: 'static> Receiver<T> {
    /// The present value, which counts as seen.
    pub fn get(&self) -> Rc<T> {
        self.seen.set(self.cell.version.get());
        self.cell.get()
    }
    /// Whether the value has changed since this receiver saw it.
    pub fn has_changed(&self) -> bool {
        self.seen.get() != self.cell.version.get()
    }
    /// Waits until the value is another than this receiver has seen, and gives it; at once when it is.
    ///
    /// # Errors
    /// [`Closed`] when no sender is left and the last change has been seen;
    /// [`ReactorError::Stopped`](crate::error::ReactorError::Stopped); [`Deadlock`](crate::error::Deadlock) on MAIN.
    ///
    /// # Panics
    /// In the main loop and its callbacks, when it would wait.
    ///
    /// # Blocking
    /// Until it has changed.
    #[track_caller]
    pub fn changed(&self) -> Result<Rc<T>> {
        loop {
            if let Some(value) = self.try_changed() {
                return value;
            }
            self.cell.waiters.wait("a watched value to change", None)?;
        }
    }
    /// As [`changed`](Receiver::changed), no longer than `limit`.
    ///
    /// # Errors
    /// [`TimedOut`] when `limit` has passed; otherwise as `changed`.
    ///
    /// # Blocking
    /// At most for `limit`.
    #[track_caller]
    pub fn changed_timeout(&self, limit: Duration) -> Result<Rc<T>> {
        if let Some(value) = self.try_changed() {
            return value;
        }
        if !limit.is_zero() {
            self.cell.waiters.wait("a watched value to change", Some(limit))?;
        }
        self.try_changed().unwrap_or_else(|| Err(TimedOut(limit).into()))
    }
    /// The value, if it is another than this receiver has seen. Never waits.
    pub fn try_changed(&self) -> Option<Result<Rc<T>>> {
        if self.has_changed() {
            return Some(Ok(self.get()));
        }
        (self.cell.senders.get() == 0).then(|| Err(Closed.into()))
    }
    /// Waits until `wanted` says yes to the value, and gives it; at once when it does to the present one.
    ///
    /// # Errors
    /// As [`changed`](Receiver::changed).
    ///
    /// # Panics
    /// As `changed`.
    ///
    /// # Blocking
    /// Until `wanted` says yes.
    #[track_caller]
    pub fn wait_for(&self, mut wanted: impl FnMut(&T) -> bool) -> Result<Rc<T>> {
        let mut value = self.get();
        while !wanted(&value) {
            value = self.changed()?;
        }
        Ok(value)
    }
    pub(super) fn waiters(&self) -> &Waiters {
        &self.cell.waiters
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.set(self.0.senders.get() + 1);
        Sender(Rc::clone(&self.0))
    }
}
impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.senders.set(self.0.senders.get() - 1);
        if self.0.senders.get() == 0 {
            self.0.waiters.wake_all();
        }
    }
}
impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.cell.receivers.set(self.cell.receivers.get() + 1);
        Receiver { cell: Rc::clone(&self.cell), seen: self.seen.clone() }
    }
}
impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.cell.receivers.set(self.cell.receivers.get() - 1);
    }
}
impl<T: fmt::Debug> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.get()).finish()
    }
}
impl<T: fmt::Debug> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.cell.get();
        f.debug_struct("Receiver").field("value", &value).field("has_changed", &self.has_changed()).finish()
    }
}
