//! A queue whose getters need not wait for items, nor items for getters.
use super::{Deferred, Promise};
use crate::error::QueueError;
use crate::failure::Result;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

/// Items and getters meet in order (Twisted's `DeferredQueue`). Clones are the same queue.
///
/// `put` fires the oldest getter at once. A getter that was cancelled, or whose Deferred was dropped, takes no item.
///
/// ```
/// use twistlet::deferred::DeferredQueue;
/// let queue = DeferredQueue::new();
/// let mut first = queue.get();
/// queue.put("a")?;
/// assert_eq!(first.result(), Some(Ok(&"a")));
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct DeferredQueue<T: 'static>(Rc<Inner<T>>);

struct Inner<T: 'static> {
    items: RefCell<VecDeque<T>>,
    getters: RefCell<VecDeque<Promise<T>>>,
    size: Option<usize>,
    backlog: Option<usize>,
    /// Getters that gave up are cleared away when there are this many.
    purge_at: Cell<usize>,
    meeting: Cell<bool>,
}

impl<T: 'static> DeferredQueue<T> {
    /// A queue without limits.
    pub fn new() -> Self {
        Self::with_limits(None, None)
    }
    /// At most `size` items stored, at most `backlog` getters waiting; `None` is no limit. With a size of 0 items are
    /// only handed over; with a backlog of 0 nobody waits.
    pub fn with_limits(size: impl Into<Option<usize>>, backlog: impl Into<Option<usize>>) -> Self {
        Self(Rc::new(Inner {
            items: RefCell::default(),
            getters: RefCell::default(),
            size: size.into(),
            backlog: backlog.into(),
            purge_at: Cell::new(16),
            meeting: Cell::new(false),
        }))
    }
    /// Gives the item to the oldest getter, whose callbacks run now, or stores it.
    ///
    /// # Errors
    /// [`QueueError::Overflow`] if a limited queue is full; the item is dropped. Never without a limit.
    pub fn put(&self, item: T) -> Result {
        if let Some(size) = self.0.size
            && self.len() >= size
            && self.len() >= size + self.waiting()
        {
            return Err(QueueError::Overflow(size).into());
        }
        self.0.items.borrow_mut().push_back(item);
        self.0.meet();
        Ok(())
    }
    /// The oldest item, or the next to come. Fails with [`QueueError::Underflow`] if as many wait as may.
    pub fn get(&self) -> Deferred<T> {
        if self.0.getters.borrow().is_empty()
            && let Some(item) = self.0.pop()
        {
            return Deferred::succeed(item);
        }
        if self.0.backlog.is_some() || self.0.getters.borrow().len() >= self.0.purge_at.get() {
            self.0.purge();
            self.0.purge_at.set((self.0.getters.borrow().len() * 2).max(16));
        }
        if let Some(backlog) = self.0.backlog
            && self.0.getters.borrow().len() >= backlog
        {
            return Deferred::fail(QueueError::Underflow(backlog));
        }
        let (promise, deferred) = Deferred::new();
        self.0.getters.borrow_mut().push_back(promise);
        deferred
    }
    /// How many items are stored.
    pub fn len(&self) -> usize {
        self.0.items.borrow().len()
    }
    /// Whether no item is stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// How many wait for items.
    pub fn waiting(&self) -> usize {
        self.0.purge();
        self.0.getters.borrow().len()
    }
}
impl<T: 'static> Inner<T> {
    fn pop(&self) -> Option<T> {
        self.items.borrow_mut().pop_front()
    }
    /// Clears away the getters that gave up.
    fn purge(&self) {
        let (gone, left) = self.getters.take().into_iter().partition(|getter| getter.is_forgotten());
        self.getters.replace(left);
        // Fires those that were only forgotten, to nobody; but what they own is the user's.
        drop::<VecDeque<_>>(gone);
    }
    /// A callback may put or get again: that is seen by the loop that runs already.
    fn meet(&self) {
        if self.meeting.replace(true) {
            return;
        }
        loop {
            let getter = {
                let mut getters = self.getters.borrow_mut();
                if getters.is_empty() || self.items.borrow().is_empty() { None } else { getters.pop_front() }
            };
            let Some(getter) = getter else { break };
            if getter.is_forgotten() {
                continue;
            }
            match self.pop() {
                Some(item) => getter.callback(item),
                None => self.getters.borrow_mut().push_front(getter),
            }
        }
        self.meeting.set(false);
    }
}
impl<T: 'static> Default for DeferredQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}
impl<T> Clone for DeferredQueue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
impl<T> fmt::Debug for DeferredQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeferredQueue")
            .field("items", &self.0.items.borrow().len())
            .field("getters", &self.0.getters.borrow().len())
            .finish()
    }
}
