//! What all queues are: a store of items, those who wait for one, those who wait for room.
//!
//! An item is handed over, not announced: when it comes, the first in line is woken and the item is kept for it. What must
//! never happen here: an item dropped or compared, which is user code, while a cell is borrowed.
use super::errors::NotPut;
use super::store::Store;
use crate::error::TimedOut;
use crate::failure::{self, Result};
use crate::green::hub::Hub;
use crate::green::task::{Wait, Waiter, Waiters, prepare, yield_once};
use crate::greenlet::Greenlet;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Duration;

pub(in crate::green) struct Core<I, S> {
    store: S,
    /// Items of green threads that have been woken for them, in the order in which those will run.
    handed: RefCell<VecDeque<I>>,
    bound: Cell<usize>,
    getters: Waiters,
    putters: RefCell<VecDeque<Putter<I>>>,
    /// Items that came in and that nobody has called done yet.
    unfinished: Cell<usize>,
    joiners: Waiters,
}
/// One who waits for room, with what it has to put: when there is room, the item is in the queue before its owner runs.
struct Putter<I> {
    waiter: Waiter,
    item: I,
}

/// Takes a putter out when its wait is left otherwise than by being woken: nothing of it stays.
struct Withdraw<'a, I, S: Store<I>>(&'a Core<I, S>, &'a Wait);
impl<I, S: Store<I>> Drop for Withdraw<'_, I, S> {
    fn drop(&mut self) {
        // While a green thread unwinds, a destructor that panics would end the program.
        failure::drop_quietly(self.0.withdraw(&self.1.waiter()));
    }
}

impl<I, S: Store<I>> Core<I, S> {
    pub(in crate::green) fn new(bound: usize) -> Self {
        Core {
            store: S::default(),
            handed: RefCell::default(),
            bound: Cell::new(bound),
            getters: Waiters::default(),
            putters: RefCell::default(),
            unfinished: Cell::new(0),
            joiners: Waiters::default(),
        }
    }
    pub(in crate::green) fn len(&self) -> usize {
        self.store.len()
    }
    pub(super) fn getting(&self) -> usize {
        self.getters.len()
    }
    pub(in crate::green) fn putting(&self) -> usize {
        self.putters.borrow().iter().filter(|putter| putter.waiter.is_waiting()).count()
    }
    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.bound.get()
    }
    pub(in crate::green) fn bound(&self) -> usize {
        self.bound.get()
    }
    /// To the first who waits, else into the store.
    #[inline]
    pub(in crate::green) fn add(&self, item: I) {
        self.unfinished.set(self.unfinished.get() + 1);
        if self.getters.wake_one() {
            self.handed.borrow_mut().push_back(item);
        } else {
            self.store.push(item);
        }
    }
    /// The next item that nobody has been promised.
    #[inline]
    pub(in crate::green) fn take(&self) -> Option<I> {
        let Some(item) = self.store.pop() else {
            // A queue without room: straight from the one who waits to put.
            let item = self.next_putter();
            self.unfinished.set(self.unfinished.get() + usize::from(item.is_some()));
            return item;
        };
        self.let_in();
        Some(item)
    }
    /// Those who wait for room that there is.
    fn let_in(&self) {
        while !self.is_full() {
            match self.next_putter() {
                Some(next) if S::COMPARES => self.add_for_another(next),
                Some(next) => self.add(next),
                None => break,
            }
        }
    }
    /// A comparison that panics in the course of somebody else's call is only reported: that one's item is not lost by it.
    #[cold]
    fn add_for_another(&self, item: I) {
        if let Err(failure) = failure::catch(|| self.add(item)) {
            failure::report("comparing the items of a PriorityQueue", &failure);
            failure::drop_quietly(failure);
        }
    }
    /// The item of the first who waits for room, who goes on. One whose wait has ended otherwise, and who has yet to run, takes
    /// its item back itself.
    #[inline]
    fn next_putter(&self) -> Option<I> {
        let putter = {
            let mut putters = self.putters.borrow_mut();
            let position = putters.iter().position(|putter| putter.waiter.is_waiting())?;
            putters.remove(position)?
        };
        putter.waiter.wake();
        Some(putter.item)
    }
    /// Whether `take` would give something.
    pub(in crate::green) fn has_item(&self) -> bool {
        self.len() > 0 || self.putting() > 0
    }

    #[track_caller]
    pub(in crate::green) fn wait(&self, reason: &'static str, limit: Option<Duration>) -> Result<I> {
        if let Some(item) = self.take() {
            return Ok(item);
        }
        if limit != Some(Duration::ZERO)
            && self.getters.wait(reason, limit)?
            && let Some(item) = self.claim()
        {
            return Ok(item);
        }
        // Perhaps one came after the time was up.
        self.take().ok_or_else(|| TimedOut(limit.unwrap_or_default()).into())
    }
    /// What was handed to the green thread that calls this, which has been woken for it.
    #[inline]
    pub(in crate::green) fn claim(&self) -> Option<I> {
        self.handed.borrow_mut().pop_front()
    }

    /// # Errors
    /// The item, where there is no room and nobody waits for it.
    #[inline]
    pub(in crate::green) fn try_put(&self, item: I) -> Result<(), I> {
        if !self.is_full() {
            self.add(item);
        } else if self.getters.wake_one() {
            self.unfinished.set(self.unfinished.get() + 1);
            self.handed.borrow_mut().push_back(item);
        } else {
            return Err(item);
        }
        Ok(())
    }
    #[track_caller]
    pub(in crate::green) fn put(
        &self,
        item: I,
        reason: &'static str,
        limit: Option<Duration>,
    ) -> Result<(), NotPut<I>> {
        let item = match self.try_put(item) {
            Ok(()) => {
                // Without room somebody got it who waited for it, and who goes on first (LQ-05, Q-10).
                if self.bound.get() == 0 && limit != Some(Duration::ZERO) {
                    after_you();
                }
                return Ok(());
            }
            Err(item) => item,
        };
        if limit == Some(Duration::ZERO) {
            return Err(NotPut::late(item, Duration::ZERO));
        }
        let wait = match prepare() {
            Ok(wait) => wait,
            Err(failure) => return Err(NotPut { item, failure }),
        };
        self.enter_putter(wait.waiter(), item);
        let withdraw = Withdraw(self, &wait);
        let failure = match wait.park_timeout(reason, limit) {
            Ok(true) => {
                // Whoever made room has taken the item.
                std::mem::forget(withdraw);
                return Ok(());
            }
            Ok(false) => TimedOut(limit.unwrap_or_default()).into(),
            Err(failure) => failure,
        };
        match self.withdraw(&wait.waiter()) {
            Some(item) => Err(NotPut { item, failure }),
            None => unreachable!("only who wakes a putter takes its item"),
        }
    }
    pub(super) fn resize(&self, n: usize) {
        self.bound.set(n);
        self.let_in();
    }

    pub(in crate::green) fn getters(&self) -> &Waiters {
        &self.getters
    }
    pub(in crate::green) fn enter_putter(&self, waiter: Waiter, item: I) {
        self.putters.borrow_mut().push_back(Putter { waiter, item });
    }
    /// The item of one who does not wait for room any more, unless somebody has it.
    pub(in crate::green) fn withdraw(&self, waiter: &Waiter) -> Option<I> {
        let mut putters = self.putters.borrow_mut();
        let position = putters.iter().position(|putter| putter.waiter.is_same(waiter))?;
        putters.remove(position).map(|putter| putter.item)
    }

    pub(super) fn unfinished(&self) -> usize {
        self.unfinished.get()
    }
    #[track_caller]
    pub(super) fn task_done(&self) {
        match self.unfinished.get() {
            0 => {
                let what = "task_done() of a queue, more often than there were items";
                // A panic in a destructor that runs because of another would end the program.
                assert!(std::thread::panicking(), "{what}");
                log::error!(target: "twistlet", "{what}, at {}", std::panic::Location::caller());
            }
            1 => {
                self.unfinished.set(0);
                self.joiners.wake_all();
            }
            more => self.unfinished.set(more - 1),
        }
    }
    #[track_caller]
    pub(super) fn join(&self, limit: Option<Duration>) -> Result<()> {
        let done = || self.unfinished.get() == 0;
        if done() || limit != Some(Duration::ZERO) && self.joiners.wait("the items of a queue to be done", limit)? {
            return Ok(());
        }
        if done() { Ok(()) } else { Err(TimedOut(limit.unwrap_or_default()).into()) }
    }
}

/// Lets whoever was woken go on first, where that is possible.
#[track_caller]
fn after_you() {
    let may_wait = Greenlet::can_switch() && Hub::current().is_some_and(|hub| hub.running().is_some());
    if may_wait && !crate::shared::is_inside_call() {
        // An error means that the loop has ended; the item was handed over all the same.
        let _ = yield_once();
    }
}
