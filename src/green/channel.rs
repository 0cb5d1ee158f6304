//! `Channel`: a sender goes on when somebody has its item, or there is room for it (Eventlet's `coros.Channel`).
//!
//! A queue with other manners: what must never happen here is a rule that the queue's core does not know.
use super::hub::Hub;
use super::queue::{Core, Fifo, Full, NotPut};
use crate::failure::{Failure, Result};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// A channel between green threads (Eventlet's `coros.Channel`, and `coros.queue(max_size)`). Clones are the same channel.
///
/// Without room, as [`Channel::new`] makes it, the two meet: the receiver goes on first, then the sender.
///
/// ```
/// use twistlet::green::{Channel, spawn};
///
/// let channel = Channel::new();
/// let sender = channel.clone();
/// let sending = spawn(move || sender.send("hello"));
/// assert_eq!(channel.wait()?, "hello");
/// sending.wait()?;
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct Channel<T>(pub(super) Rc<Core<Result<T>, Fifo<Result<T>>>>);

/// The same channel.
impl<T> Clone for Channel<T> {
    fn clone(&self) -> Self {
        Channel(Rc::clone(&self.0))
    }
}
impl<T: 'static> Default for Channel<T> {
    fn default() -> Self {
        Channel::new()
    }
}
impl<T> fmt::Debug for Channel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("len", &self.0.len())
            .field("receiving", &self.0.getters().len())
            .field("sending", &self.0.putting())
            .finish()
    }
}

impl<T: 'static> Channel<T> {
    /// One without room: a send waits until somebody receives.
    pub fn new() -> Self {
        Channel::bounded(0)
    }
    /// One in which `n` items may lie: a send waits while there are as many.
    pub fn bounded(n: usize) -> Self {
        Channel(Rc::new(Core::new(n)))
    }
    /// Sends an item. In the main loop and its callbacks this never waits, and the item may lie there above the bound.
    ///
    /// # Errors
    /// [`ReactorError::Stopped`](crate::error::ReactorError::Stopped); [`Deadlock`](crate::error::Deadlock) on MAIN. Then the item
    /// is dropped: nothing of it stays, also when the green thread is killed meanwhile.
    ///
    /// # Blocking
    /// Until there is room; without any, until a receiver has it and goes on.
    #[track_caller]
    pub fn send(&self, item: T) -> Result {
        Ok(self.send_outcome(Ok(item), None)?)
    }
    /// As [`send`](Channel::send), no longer than `limit`. Zero never waits.
    ///
    /// # Errors
    /// The item, with [`TimedOut`](crate::error::TimedOut) when `limit` has passed; otherwise as `send`.
    ///
    /// # Blocking
    /// At most for `limit`.
    #[track_caller]
    pub fn send_timeout(&self, item: T, limit: Duration) -> Result<(), NotPut<T>> {
        self.send_outcome(Ok(item), Some(limit)).map_err(NotPut::of_item)
    }
    /// Sends a failure, which the receiver gets in the place of an item.
    ///
    /// # Errors
    /// As [`send`](Channel::send).
    ///
    /// # Blocking
    /// As `send`.
    #[track_caller]
    pub fn send_exception(&self, error: impl Into<Failure>) -> Result {
        Ok(self.send_outcome(Err(error.into()), None)?)
    }
    /// Sends an item if there is room or somebody waits for it. Never waits.
    ///
    /// # Errors
    /// [`Full`], with the item.
    pub fn try_send(&self, item: T) -> Result<(), Full<T>> {
        match self.0.try_put(Ok(item)) {
            Err(Ok(item)) => Err(Full(item)),
            // What comes back is what was given.
            _ => Ok(()),
        }
    }
    #[track_caller]
    fn send_outcome(&self, item: Result<T>, limit: Option<Duration>) -> Result<(), NotPut<Result<T>>> {
        let in_loop = Hub::current().is_none_or(|hub| hub.running().is_none());
        if in_loop {
            self.0.add(item);
            return Ok(());
        }
        self.0.put(item, "a receiver on a Channel", limit)
    }
    /// Receives the oldest item.
    ///
    /// # Errors
    /// A failure that was sent; [`ReactorError::Stopped`](crate::error::ReactorError::Stopped);
    /// [`Deadlock`](crate::error::Deadlock) on MAIN.
    ///
    /// # Panics
    /// In the main loop and its callbacks, when there is none.
    ///
    /// # Blocking
    /// Until there is one for this green thread.
    #[track_caller]
    pub fn wait(&self) -> Result<T> {
        self.0.wait("an item in a Channel", None)?
    }
    /// As [`wait`](Channel::wait), no longer than `limit`.
    ///
    /// # Errors
    /// [`TimedOut`](crate::error::TimedOut) when `limit` has passed; otherwise as `wait`.
    ///
    /// # Blocking
    /// At most for `limit`.
    #[track_caller]
    pub fn wait_timeout(&self, limit: Duration) -> Result<T> {
        self.0.wait("an item in a Channel", Some(limit))?
    }
    /// Receives the oldest item, if there is one, or somebody waits to send. Never waits.
    pub fn poll(&self) -> Option<Result<T>> {
        self.0.take()
    }
    /// Whether [`poll`](Channel::poll) would give something.
    pub fn ready(&self) -> bool {
        self.0.has_item()
    }
    /// How many items lie there.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// Whether none lie there.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// How many green threads wait for an item.
    pub fn waiting(&self) -> usize {
        self.0.getters().len()
    }
    /// How many green threads wait to send.
    pub fn sending(&self) -> usize {
        self.0.putting()
    }
}
