//! What queues and channels say no with, giving the item back.
use crate::error::TimedOut;
use crate::failure::Failure;
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// There is no room for the item, and nobody waits for it (Eventlet's `queue.Full`). Gives it back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Full<T>(pub T);

impl<T> fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Full(..)")
    }
}
impl<T> fmt::Display for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no room in the queue: put() waits for some, resize() makes some")
    }
}
impl<T> Error for Full<T> {}

/// An item that was not put within the limit, or could not be waited for, and why: [`TimedOut`], or what ends every wait, such as
/// [`ReactorError::Stopped`](crate::error::ReactorError::Stopped). As a [`Failure`], into which `?` turns it, it is that reason.
///
/// ```
/// use std::time::Duration;
/// use twistlet::TimedOut;
/// use twistlet::green::Queue;
///
/// let queue = Queue::bounded(1);
/// queue.put("first")?;
/// let not_put = queue.put_timeout("second", Duration::from_millis(1)).unwrap_err();
/// assert!(not_put.is::<TimedOut>());
/// assert_eq!(not_put.item, "second");
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct NotPut<T> {
    /// The item, of which nothing stays in the queue.
    pub item: T,
    /// Why.
    pub failure: Failure,
}
impl<T> NotPut<T> {
    pub(super) fn late(item: T, limit: Duration) -> Self {
        NotPut { item, failure: TimedOut(limit).into() }
    }
    /// Whether the reason is an `E`.
    pub fn is<E: Error + 'static>(&self) -> bool {
        self.failure.is::<E>()
    }
}
impl<T> NotPut<crate::failure::Result<T>> {
    /// Of an item that was not a failure.
    pub(in crate::green) fn of_item(self) -> NotPut<T> {
        match self.item {
            Ok(item) => NotPut { item, failure: self.failure },
            Err(_) => unreachable!("what comes back is what was given"),
        }
    }
}
impl<T> From<NotPut<T>> for Failure {
    fn from(not_put: NotPut<T>) -> Failure {
        not_put.failure
    }
}
impl<T> fmt::Debug for NotPut<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotPut").field("failure", &self.failure).finish_non_exhaustive()
    }
}
impl<T> fmt::Display for NotPut<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the item was not put: {}", self.failure)
    }
}
