//! `Pool`: things that are dear to make, lent to one user at a time.
//!
//! Whoever gives one back hands it to who has waited longest: it is promised before that one runs. What must never happen here:
//! a borrow held while `create` or a destructor runs; a place lost, however either ends.
use super::block::settle;
use super::task::Waiters;
use crate::deferred::IntoDeferred;
use crate::error::TimedOut;
use crate::failure::Result;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::Duration;

/// Things that are dear to make, lent to one user at a time (Eventlet's `pools.Pool`). Clones are the same pool.
///
/// [`get`](Pool::get) gives a free one, makes another while there are fewer than the most there may be, else waits. What it
/// gives is an [`Item`], which goes back when it is dropped: also by a panic and by a kill.
///
/// For a pool of mere permits (Eventlet's `TokenPool`) there is [`Semaphore`](super::Semaphore); for connections
/// [`ConnPool`](super::conn_pool::ConnPool).
///
/// ```
/// use twistlet::green::pools::Pool;
///
/// let buffers = Pool::new(0, 4, || Ok(Vec::<u8>::with_capacity(65536)))?;
/// {
///     let mut buffer = buffers.get()?;
///     buffer.clear();
///     buffer.extend_from_slice(b"hello");
/// } // back in the pool
/// assert_eq!((buffers.len(), buffers.free()), (1, 4));
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct Pool<T: 'static>(Rc<Inner<T>>);

/// Which of the free items is used next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The one that has been free longest: all are used alike.
    #[default]
    RoundRobin,
    /// The one that was given back last: those that are not needed stay unused.
    Stack,
}

struct Inner<T: 'static> {
    free: RefCell<VecDeque<T>>,
    /// Items there are, those that are being made included.
    made: Cell<usize>,
    max: Cell<usize>,
    /// So many green threads have been woken for an item, or for leave to make one, and have yet to run.
    promised: Cell<usize>,
    order: Cell<Order>,
    getters: Waiters,
    create: Box<dyn Fn() -> Result<T>>,
}

/// A thing of a [`Pool`]; goes back when it is dropped.
#[must_use = "it goes back at once when this is dropped"]
pub struct Item<T: 'static> {
    value: Option<T>,
    pool: Pool<T>,
}

impl<T: 'static> Pool<T> {
    /// A pool of at least `min` items, which are made at once, and at most `max`. `create` makes one; it may wait, and what it
    /// returns is as for [`spawn`](super::spawn).
    ///
    /// # Errors
    /// What `create` fails with.
    ///
    /// # Panics
    /// With a panic of `create`.
    ///
    /// # Blocking
    /// As `create` does, where `min` is not 0.
    #[track_caller]
    pub fn new<R>(min: usize, max: usize, create: impl Fn() -> R + 'static) -> Result<Self>
    where
        R: IntoDeferred<Value = T>,
    {
        let pool = Pool::empty(max, move || settle(create()));
        for _ in 0..min.min(max) {
            let item = pool.create()?;
            drop(item);
        }
        Ok(pool)
    }
    pub(super) fn empty(max: usize, create: impl Fn() -> Result<T> + 'static) -> Self {
        Pool(Rc::new(Inner {
            free: RefCell::default(),
            made: Cell::new(0),
            max: Cell::new(max),
            promised: Cell::new(0),
            order: Cell::default(),
            getters: Waiters::default(),
            create: Box::new(create),
        }))
    }
    /// Which free item is used next; at first [`Order::RoundRobin`].
    pub fn set_order(&self, order: Order) {
        self.0.order.set(order);
    }

    /// A free item, or a new one.
    ///
    /// # Errors
    /// What `create` fails with; [`ReactorError::Stopped`](crate::error::ReactorError::Stopped);
    /// [`Deadlock`](crate::error::Deadlock) on MAIN.
    ///
    /// # Panics
    /// With a panic of `create`. In the main loop and its callbacks, where it would wait.
    ///
    /// # Blocking
    /// Until there is one, and as `create` does.
    #[track_caller]
    pub fn get(&self) -> Result<Item<T>> {
        self.get_for(None)
    }
    /// As [`get`](Pool::get), waiting for an item no longer than `limit`. The time that `create` takes is not part of it. Zero
    /// never waits for an item.
    ///
    /// # Errors
    /// [`TimedOut`] when `limit` has passed; otherwise as `get`.
    ///
    /// # Blocking
    /// At most for `limit`, and as `create` does.
    #[track_caller]
    pub fn get_timeout(&self, limit: Duration) -> Result<Item<T>> {
        self.get_for(Some(limit))
    }
    /// A free item, if there is one. Never waits and makes none.
    pub fn try_get(&self) -> Option<Item<T>> {
        if self.available() <= self.0.promised.get() { None } else { self.take_free() }
    }
    #[track_caller]
    fn get_for(&self, limit: Option<Duration>) -> Result<Item<T>> {
        while self.available() <= self.0.promised.get() {
            let woken = limit != Some(Duration::ZERO) && self.0.getters.wait("an item of a Pool", limit)?;
            match limit {
                _ if woken => self.0.promised.set(self.0.promised.get() - 1),
                Some(limit) => return Err(TimedOut(limit).into()),
                None => {}
            }
            // Woken, there is one, unless the pool was made smaller since.
        }
        match self.take_free() {
            Some(item) => Ok(item),
            None => self.create(),
        }
    }
    fn take_free(&self) -> Option<Item<T>> {
        let value = self.0.free.borrow_mut().pop_front();
        value.map(|value| self.lend(value))
    }
    fn lend(&self, value: T) -> Item<T> {
        Item { value: Some(value), pool: self.clone() }
    }
    /// Makes one, for which there is room.
    #[track_caller]
    fn create(&self) -> Result<Item<T>> {
        self.0.made.set(self.0.made.get() + 1);
        Vacancy(self.clone()).fill()
    }

    /// Adds an item that was made elsewhere. Never waits.
    ///
    /// # Errors
    /// The item, where there are as many as there may be.
    pub fn put(&self, item: T) -> Result<(), T> {
        if self.0.made.get() >= self.0.max.get() {
            return Err(item);
        }
        self.0.made.set(self.0.made.get() + 1);
        self.store(item);
        Ok(())
    }
    fn store(&self, item: T) {
        match self.0.order.get() {
            Order::RoundRobin => self.0.free.borrow_mut().push_back(item),
            Order::Stack => self.0.free.borrow_mut().push_front(item),
        }
        self.0.hand_over();
    }
    /// Changes how many items there may be. Never waits: those above it go when they are given back.
    pub fn resize(&self, max: usize) {
        self.0.max.set(max);
        self.0.hand_over();
    }
    /// How many items there may be.
    pub fn max(&self) -> usize {
        self.0.max.get()
    }
    /// How many items there are, free or lent or being made.
    pub fn len(&self) -> usize {
        self.0.made.get()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// How many can be had without waiting for somebody: the free ones, and those that may still be made.
    pub fn free(&self) -> usize {
        self.available().saturating_sub(self.0.promised.get())
    }
    /// How many green threads wait for an item.
    pub fn waiting(&self) -> usize {
        self.0.getters.len()
    }
    fn available(&self) -> usize {
        self.0.available()
    }
    /// Takes out the free items that are not worth keeping; the caller drops them. `keep` must not be user code.
    pub(super) fn remove_free(&self, mut keep: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut free = self.0.free.borrow_mut();
        let (kept, removed): (VecDeque<T>, VecDeque<T>) = std::mem::take(&mut *free).into_iter().partition(&mut keep);
        *free = kept;
        self.0.made.set(self.0.made.get() - removed.len());
        removed.into()
    }
    /// What `of` makes of each free item. It must not be user code.
    pub(super) fn each_free<V>(&self, of: impl FnMut(&T) -> V) -> Vec<V> {
        self.0.free.borrow().iter().map(of).collect()
    }
}

impl<T: 'static> Inner<T> {
    /// How many may be had: free, or yet to be made.
    fn available(&self) -> usize {
        self.free.borrow().len() + self.max.get().saturating_sub(self.made.get())
    }
    /// Wakes as many as there are items for.
    fn hand_over(&self) {
        while self.available() > self.promised.get() && self.getters.wake_one() {
            self.promised.set(self.promised.get() + 1);
        }
    }
    fn one_less(&self) {
        self.made.set(self.made.get() - 1);
        self.hand_over();
    }
}

/// The place of an item that is yet to be made. Dropped, it is anybody's: where `create` was left by an error or by unwinding.
pub(super) struct Vacancy<T: 'static>(Pool<T>);
impl<T: 'static> Vacancy<T> {
    #[track_caller]
    pub(super) fn fill(self) -> Result<Item<T>> {
        let value = (self.0.0.create)()?;
        let item = self.0.lend(value);
        // It is counted already.
        self.0.0.made.set(self.0.0.made.get() + 1);
        drop(self);
        Ok(item)
    }
}
impl<T: 'static> Drop for Vacancy<T> {
    fn drop(&mut self) {
        self.0.0.one_less();
    }
}

impl<T: 'static> Item<T> {
    /// Throws a broken one away: the pool makes another when it is needed. Gives back what is inside, to be closed or
    /// dropped, or to be kept.
    pub fn discard(item: Self) -> T {
        let (value, vacancy) = Item::take_out(item);
        drop(vacancy);
        value
    }
    /// What is inside, and the place it leaves, which is kept for the caller.
    pub(super) fn take_out(mut item: Self) -> (T, Vacancy<T>) {
        match item.value.take() {
            Some(value) => (value, Vacancy(item.pool.clone())),
            None => unreachable!("an item holds its value until it goes"),
        }
    }
    /// The pool it goes back to.
    pub fn pool(item: &Self) -> &Pool<T> {
        &item.pool
    }
}
impl<T: 'static> Drop for Item<T> {
    fn drop(&mut self) {
        let Some(value) = self.value.take() else { return };
        let inner = &self.pool.0;
        if inner.made.get() > inner.max.get() {
            inner.one_less();
            drop(value);
        } else {
            self.pool.store(value);
        }
    }
}
impl<T: 'static> Deref for Item<T> {
    type Target = T;
    fn deref(&self) -> &T {
        match &self.value {
            Some(value) => value,
            None => unreachable!("an item holds its value until it goes"),
        }
    }
}
impl<T: 'static> DerefMut for Item<T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.value {
            Some(value) => value,
            None => unreachable!("an item holds its value until it goes"),
        }
    }
}
impl<T: fmt::Debug + 'static> fmt::Debug for Item<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Item").field(&**self).finish()
    }
}

/// The same pool.
impl<T: 'static> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Pool(Rc::clone(&self.0))
    }
}
impl<T: 'static> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("max", &self.max())
            .field("len", &self.len())
            .field("free", &self.free())
            .field("waiting", &self.waiting())
            .finish()
    }
}
