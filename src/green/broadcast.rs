//! `broadcast`: every receiver gets every value.
//!
//! The last values lie in one ring; a receiver is a position in it, and one that is too slow is told how much it missed. What
//! must never happen here: a value cloned or dropped, which is user code, while a cell is borrowed.
use super::task::Waiters;
use crate::error::TimedOut;
use crate::failure::{Failure, Result};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// A channel on which every receiver gets every value that is sent after it subscribed; the last `capacity` values are kept for
/// those who are slow.
///
/// ```
/// use twistlet::green::broadcast;
///
/// let (sender, first) = broadcast::channel(16);
/// let second = sender.subscribe();
/// sender.send("news")?;
/// assert_eq!((first.recv()?, second.recv()?), ("news", "news"));
/// # Ok::<(), twistlet::Failure>(())
/// ```
///
/// # Panics
/// When `capacity` is zero.
#[track_caller]
pub fn channel<T: Clone + 'static>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a broadcast channel must keep at least one value");
    let ring = Rc::new(Ring {
        values: RefCell::default(),
        capacity,
        sent: Cell::new(0),
        senders: Cell::new(1),
        receivers: Cell::new(1),
        waiters: Waiters::default(),
    });
    let receiver = Receiver { ring: Rc::clone(&ring), next: Cell::new(0) };
    (Sender { ring }, receiver)
}

struct Ring<T> {
    values: RefCell<VecDeque<Rc<T>>>,
    capacity: usize,
    /// How many have been sent; the newest in `values` is the last of them.
    sent: Cell<u64>,
    senders: Cell<usize>,
    receivers: Cell<usize>,
    waiters: Waiters,
}

/// The sending half; clones send to the same receivers. When the last is dropped the receivers get what is left, then [`Closed`].
pub struct Sender<T: 'static> {
    ring: Rc<Ring<T>>,
}
/// The receiving half. A clone goes on from where this one is.
pub struct Receiver<T: 'static> {
    ring: Rc<Ring<T>>,
    next: Cell<u64>,
}

/// Every sender is gone, and everything has been received; or, for a sender: every receiver is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;
impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the other side of the channel is gone")
    }
}
impl std::error::Error for Closed {}

/// This receiver was too slow: so many values were thrown away before it asked for them. It goes on with the oldest that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagged(pub u64);
impl fmt::Display for Lagged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the receiver was too slow and missed {} values; give the channel more capacity, or receive sooner",
            self.0
        )
    }
}
impl std::error::Error for Lagged {}

impl<T: Clone + 'static> Sender<T> {
    /// Sends a value to every receiver there is, and gives their number. Never waits.
    ///
    /// # Errors
    /// [`Closed`] when there is no receiver; the value is dropped.
    pub fn send(&self, value: T) -> Result<usize, Closed> {
        let ring = &*self.ring;
        if ring.receivers.get() == 0 {
            return Err(Closed);
        }
        let value = Rc::new(value);
        let oldest = {
            let mut values = ring.values.borrow_mut();
            values.push_back(value);
            if values.len() > ring.capacity { values.pop_front() } else { None }
        };
        ring.sent.set(ring.sent.get() + 1);
        ring.waiters.wake_all();
        drop(oldest);
        Ok(ring.receivers.get())
    }
    /// A receiver of what is sent from now on.
    pub fn subscribe(&self) -> Receiver<T> {
        self.ring.receivers.set(self.ring.receivers.get() + 1);
        Receiver { ring: Rc::clone(&self.ring), next: Cell::new(self.ring.sent.get()) }
    }
    /// How many receivers there are.
    pub fn receivers(&self) -> usize {
        self.ring.receivers.get()
    }
}

impl<T: Clone + 'static> Receiver<T> {
    /// The next value.
    ///
    /// # Errors
    /// [`Lagged`] when values were missed: the next call goes on behind them. [`Closed`] when no sender is left;
    /// [`ReactorError::Stopped`](crate::error::ReactorError::Stopped); [`Deadlock`](crate::error::Deadlock) on MAIN.
    ///
    /// # Panics
    /// In the main loop and its callbacks, when there is none.
    ///
    /// # Blocking
    /// Until there is one.
    #[track_caller]
    pub fn recv(&self) -> Result<T> {
        loop {
            if let Some(value) = self.try_recv() {
                return value;
            }
            self.ring.waiters.wait("a broadcast", None)?;
        }
    }
    /// As [`recv`](Receiver::recv), no longer than `limit`.
    ///
    /// # Errors
    /// [`TimedOut`] when `limit` has passed; otherwise as `recv`.
    ///
    /// # Blocking
    /// At most for `limit`.
    #[track_caller]
    pub fn recv_timeout(&self, limit: Duration) -> Result<T> {
        if let Some(value) = self.try_recv() {
            return value;
        }
        // One that is woken finds something: nobody else takes it away.
        if !limit.is_zero() {
            self.ring.waiters.wait("a broadcast", Some(limit))?;
        }
        self.try_recv().unwrap_or_else(|| Err(TimedOut(limit).into()))
    }
    /// The next value, if there is one. Never waits. Failures as of [`recv`](Receiver::recv).
    pub fn try_recv(&self) -> Option<Result<T>> {
        let ring = &*self.ring;
        let next = self.next.get();
        let value = {
            let values = ring.values.borrow();
            let first = ring.sent.get() - values.len() as u64;
            if next < first {
                self.next.set(first);
                return Some(Err(Lagged(first - next).into()));
            }
            values.get(usize::try_from(next - first).unwrap_or(usize::MAX)).cloned()
        };
        match value {
            Some(value) => {
                self.next.set(next + 1);
                Some(Ok(T::clone(&value)))
            }
            None if ring.senders.get() == 0 => Some(Err(Failure::from(Closed))),
            None => None,
        }
    }
    /// How many values are there for this receiver.
    pub fn len(&self) -> usize {
        let kept = self.ring.values.borrow().len();
        usize::try_from(self.ring.sent.get() - self.next.get()).unwrap_or(usize::MAX).min(kept)
    }
    /// Whether none are.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    pub(super) fn waiters(&self) -> &Waiters {
        &self.ring.waiters
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.ring.senders.set(self.ring.senders.get() + 1);
        Sender { ring: Rc::clone(&self.ring) }
    }
}
impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.ring.senders.set(self.ring.senders.get() - 1);
        if self.ring.senders.get() == 0 {
            self.ring.waiters.wake_all();
        }
    }
}
impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.ring.receivers.set(self.ring.receivers.get() + 1);
        Receiver { ring: Rc::clone(&self.ring), next: self.next.clone() }
    }
}
impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.ring.receivers.set(self.ring.receivers.get() - 1);
    }
}
impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("receivers", &self.ring.receivers.get()).finish()
    }
}
impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("behind", &(self.ring.sent.get() - self.next.get())).finish()
    }
}
