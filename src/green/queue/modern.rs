//! The queues of Eventlet's `queue` module that are not `Queue`: without the counting, smallest first, newest first.
//!
//! They carry items, no failures. What must never happen here: a rule that `core` does not know.
use super::core::Core;
use super::errors::{Full, NotPut};
use super::store::{Fifo, Lifo, Smallest};
use crate::failure::Result;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

macro_rules! queue {
    ($(#[$doc:meta])* $name:ident, $store:ident $(, $ord:ident)?) => {
        $(#[$doc])*
        pub struct $name<T $(: $ord)?>(pub(in crate::green) Rc<Core<T, $store<T>>>);

        /// The same queue.
        impl<T $(: $ord)?> Clone for $name<T> {
            fn clone(&self) -> Self {
                $name(Rc::clone(&self.0))
            }
        }
        /// One without a bound.
        impl<T: 'static $(+ $ord)?> Default for $name<T> {
            fn default() -> Self {
                Self::new()
            }
        }
        impl<T $(: $ord)?> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let queue = &*self.0;
                f.debug_struct(stringify!($name))
                    .field("len", &queue.len())
                    .field("bound", &queue.bound())
                    .field("getting", &queue.getting())
                    .field("putting", &queue.putting())
                    .finish()
            }
        }
        impl<T: 'static $(+ $ord)?> $name<T> {
            /// One without a bound.
            pub fn new() -> Self {
                Self::bounded(usize::MAX)
            }
            /// One in which `put` waits while `n` items are there. With zero it waits until somebody takes the item.
            pub fn bounded(n: usize) -> Self {
                $name(Rc::new(Core::new(n)))
            }
            /// Adds an item, and waits while the queue is full.
            ///
            /// # Errors
            /// [`ReactorError::Stopped`](crate::error::ReactorError::Stopped); [`Deadlock`](crate::error::Deadlock) on MAIN. Then
            /// the item is dropped: nothing of it stays in the queue, also when the green thread is killed meanwhile.
            ///
            /// # Panics
            /// In the main loop and its callbacks, when the queue is full.
            ///
            /// # Blocking
            /// Until there is room; with a bound of zero, until somebody takes it.
            #[track_caller]
            pub fn put(&self, item: T) -> Result {
                Ok(self.0.put(item, concat!("room in a ", stringify!($name)), None)?)
            }
            /// As `put`, no longer than `limit`. Zero never waits.
            ///
            /// # Errors
            /// The item, with [`TimedOut`](crate::error::TimedOut) when `limit` has passed. Otherwise as `put`.
            ///
            /// # Blocking
            /// At most for `limit`.
            #[track_caller]
            pub fn put_timeout(&self, item: T, limit: Duration) -> Result<(), NotPut<T>> {
                self.0.put(item, concat!("room in a ", stringify!($name)), Some(limit))
            }
            /// Adds an item if there is room, or somebody waits for it. Never waits (Eventlet's `put_nowait`).
            ///
            /// # Errors
            /// [`Full`], with the item.
            pub fn try_put(&self, item: T) -> Result<(), Full<T>> {
                self.0.try_put(item).map_err(Full)
            }
            /// Takes the next item.
            ///
            /// # Errors
            /// [`ReactorError::Stopped`](crate::error::ReactorError::Stopped); [`Deadlock`](crate::error::Deadlock) on MAIN.
            ///
            /// # Panics
            /// In the main loop and its callbacks, when there is none.
            ///
            /// # Blocking
            /// Until there is one for this green thread.
            #[track_caller]
            pub fn get(&self) -> Result<T> {
                self.0.wait(concat!("an item in a ", stringify!($name)), None)
            }
            /// As `get`, no longer than `limit`. Zero never waits.
            ///
            /// # Errors
            /// [`TimedOut`](crate::error::TimedOut) when `limit` has passed (Eventlet's `Empty`): the queue keeps what comes.
            /// Otherwise as `get`.
            ///
            /// # Blocking
            /// At most for `limit`.
            #[track_caller]
            pub fn get_timeout(&self, limit: Duration) -> Result<T> {
                self.0.wait(concat!("an item in a ", stringify!($name)), Some(limit))
            }
            /// Takes the next item, if there is one. Never waits (Eventlet's `get_nowait`).
            pub fn try_get(&self) -> Option<T> {
                self.0.take()
            }
            /// How many items are there for whoever asks next (Eventlet's `qsize`).
            pub fn len(&self) -> usize {
                self.0.len()
            }
            /// Whether there are none.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }
            /// Whether `put` would wait, unless somebody waits for an item. One with a bound of zero always is.
            pub fn is_full(&self) -> bool {
                self.0.is_full()
            }
            /// How many green threads wait for an item.
            pub fn getting(&self) -> usize {
                self.0.getting()
            }
            /// How many green threads wait for room.
            pub fn putting(&self) -> usize {
                self.0.putting()
            }
            /// Changes the bound. Those who wait for room that there is now go on; what is in the queue stays.
            pub fn resize(&self, n: usize) {
                self.0.resize(n);
            }
        }
    };
}
macro_rules! joinable {
    ($name:ident $(, $ord:ident)?) => {
        impl<T: 'static $(+ $ord)?> $name<T> {
            /// One of the items that were taken has been dealt with. Never waits.
            ///
            /// # Panics
            /// When it is called more often than items came.
            #[track_caller]
            pub fn task_done(&self) {
                self.0.task_done();
            }
            /// How many items have come and have not been called done.
            pub fn unfinished(&self) -> usize {
                self.0.unfinished()
            }
            /// Waits until every item that came has been called done; at once when none has come.
            ///
            /// # Errors
            /// As `get`.
            ///
            /// # Blocking
            /// Until everything is done.
            #[track_caller]
            pub fn join(&self) -> Result {
                self.0.join(None)
            }
            /// As `join`, no longer than `limit`.
            ///
            /// # Errors
            /// [`TimedOut`](crate::error::TimedOut); otherwise as `get`.
            ///
            /// # Blocking
            /// At most for `limit`.
            #[track_caller]
            pub fn join_timeout(&self, limit: Duration) -> Result {
                self.0.join(Some(limit))
            }
        }
    };
}

queue! {
    /// A queue of items, without `task_done` and `join` (Eventlet's `queue.LightQueue`). Clones are the same queue.
    ///
    /// ```
    /// use twistlet::green::queue::{Full, LightQueue};
    ///
    /// let queue = LightQueue::bounded(1);
    /// queue.put("first")?;
    /// assert_eq!(queue.try_put("second"), Err(Full("second")));
    /// assert_eq!(queue.get()?, "first");
    /// # Ok::<(), twistlet::Failure>(())
    /// ```
    LightQueue, Fifo
}
queue! {
    /// A queue that gives the smallest item first, of equal ones the oldest (Eventlet's `queue.PriorityQueue`). Clones are the same
    /// queue. Wrap items in [`Reverse`](std::cmp::Reverse) to have the greatest first.
    ///
    /// The `Ord` of an item must not use the queue: that panics. When an `Ord` panics, so does the call that compared, and no item
    /// is lost.
    ///
    /// ```
    /// use twistlet::green::queue::PriorityQueue;
    ///
    /// let queue = PriorityQueue::new();
    /// for n in [3, 1, 2] {
    ///     queue.put(n)?;
    /// }
    /// assert_eq!([queue.get()?, queue.get()?, queue.get()?], [1, 2, 3]);
    /// # Ok::<(), twistlet::Failure>(())
    /// ```
    PriorityQueue, Smallest, Ord
}
queue! {
    /// A queue that gives the newest item first (Eventlet's `queue.LifoQueue`). Clones are the same queue.
    ///
    /// ```
    /// use twistlet::green::queue::LifoQueue;
    ///
    /// let queue = LifoQueue::new();
    /// for n in [3, 1, 2] {
    ///     queue.put(n)?;
    /// }
    /// assert_eq!([queue.get()?, queue.get()?, queue.get()?], [2, 1, 3]);
    /// # Ok::<(), twistlet::Failure>(())
    /// ```
    LifoQueue, Lifo
}
joinable!(PriorityQueue, Ord);
joinable!(LifoQueue);
