//! `Select`: waiting for several things at once, of which one happens.
//!
//! A wait with one waiter for each thing, told apart by its number; whoever wakes one hands over to it as to any other, so the
//! other things lose nothing. `source` says what can be waited for. What must never happen here: a user's closure called
//! before every line has been left.
mod source;

pub use source::Source;

use super::Channel;
use super::hub::Hub;
use super::queue::{Core, Fifo, LifoQueue, LightQueue, PriorityQueue, Queue};
use super::task::{Waiter, prepare};
use crate::failure::Result;
use std::cell::Cell;
use std::fmt;
use std::time::{Duration, Instant};

/// Waits for several things at once; what is done with the first that happens is its value.
///
/// When several are ready, any of them is taken. The others are left as they were: nothing is taken
/// out of a queue, no permit is used. Killed or too late, nothing has happened at all.
///
/// ```
/// use std::time::{Duration, Instant};
/// use twistlet::green::{Event, Queue, Select};
///
/// let (jobs, stop) = (Queue::<u32>::new(), Event::<()>::new());
/// jobs.send(7);
/// let next = Select::new()
///     .on(&jobs, |job| job.map(Some))
///     .on(&stop, |stopped| stopped.map(|()| None))
///     .after(Duration::from_secs(1), || Ok(None))
///     .wait()??;
/// assert_eq!(next, Some(7));
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[must_use = "nothing happens before wait()"]
pub struct Select<'a, R> {
    branches: Vec<Box<dyn Branch<R> + 'a>>,
    /// The earliest deadline, and what then.
    deadline: Option<(Duration, Box<dyn FnOnce() -> R + 'a>)>,
}

/// One thing that is waited for, and what is done with it.
trait Branch<R> {
    /// Takes it if it is there.
    fn attempt(&mut self) -> bool;
    /// Waits for it as well.
    fn enter(&mut self, waiter: Waiter);
    /// Does not wait for it any more.
    fn leave(&mut self, waiter: &Waiter);
    /// Takes what its waiter was woken for. `false`: somebody was faster.
    fn accept(&mut self) -> bool;
    /// What is done with what was taken.
    fn finish(self: Box<Self>) -> Option<R>;
}

thread_local! {
    /// Decides where a select begins to look. A counter would favour some in programs whose selects alternate.
    static DICE: Cell<u32> = const { Cell::new(0x9E37_79B9) };
}
/// The same throws in every run.
fn throw() -> usize {
    DICE.with(|dice| {
        let mut x = dice.get();
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        dice.set(x);
        (x >> 8) as usize
    })
}

impl<'a, R> Select<'a, R> {
    /// Of nothing yet.
    pub fn new() -> Self {
        Select { branches: Vec::new(), deadline: None }
    }
    /// Takes from `source` when there is something, and gives it to `then`: an item, an outcome, a permit (see [`Source`]).
    pub fn on<S: Source>(mut self, source: &'a S, then: impl FnOnce(S::Output) -> R + 'a) -> Self {
        self.branches.push(Box::new(Take { source, place: None, taken: None, then }));
        self
    }
    /// Puts the item in `slot` into `queue` when there is room; the slot is empty afterwards, and only then.
    pub fn put<Q: Room>(mut self, queue: &'a Q, slot: &'a mut Option<Q::Item>, then: impl FnOnce() -> R + 'a) -> Self {
        self.branches.push(Box::new(Put { queue, slot, done: false, then }));
        self
    }
    /// Gives up after `limit`; of several, after the shortest.
    pub fn after(mut self, limit: Duration, then: impl FnOnce() -> R + 'a) -> Self {
        if self.deadline.as_ref().is_none_or(|(earliest, _)| limit < *earliest) {
            self.deadline = Some((limit, Box::new(then)));
        }
        self
    }
    /// As [`after`](Select::after), at a point in time of the reactor's clock.
    pub fn at(self, time: Instant, then: impl FnOnce() -> R + 'a) -> Self {
        let now = Hub::current().map(|hub| hub.core().now());
        self.after(now.map_or(Duration::ZERO, |now| time.saturating_duration_since(now)), then)
    }
    /// Waits until one of them happens, and does what was to be done then.
    ///
    /// # Errors
    /// [`ReactorError::Stopped`](crate::error::ReactorError::Stopped); [`Deadlock`](crate::error::Deadlock) on MAIN.
    ///
    /// # Panics
    /// In the main loop and its callbacks, when none is ready. Where there is nothing to wait for.
    ///
    /// # Blocking
    /// Until one of them happens, or the limit has passed.
    #[track_caller]
    pub fn wait(mut self) -> Result<R> {
        assert!(!self.branches.is_empty() || self.deadline.is_some(), "a Select of nothing would wait for ever");
        loop {
            if let Some(value) = self.attempt() {
                return Ok(value);
            }
            let limit = self.deadline.as_ref().map(|(limit, _)| *limit);
            if limit != Some(Duration::ZERO) {
                let wait = prepare()?;
                let mut entered = Entered { branches: &mut self.branches, waiters: Vec::new() };
                for number in 0..entered.branches.len() {
                    // A select of four billion things cannot be told from another; nobody can make one.
                    let waiter = wait.waiter_for(number as u32);
                    entered.waiters.push(waiter.clone());
                    entered.branches[number].enter(waiter);
                }
                let in_time = wait.park_timeout("one of several things", limit)?;
                let which = wait.branch() as usize;
                drop(entered);
                drop(wait);
                if in_time {
                    if self.branches[which].accept()
                        && let Some(value) = self.branches.swap_remove(which).finish()
                    {
                        return Ok(value);
                    }
                    // Somebody was faster; the time begins anew, which only a broadcast or a watch can do.
                    continue;
                }
            }
            // Perhaps something came in the last moment.
            if let Some(value) = self.attempt() {
                return Ok(value);
            }
            if let Some((_, then)) = self.deadline.take() {
                return Ok(then());
            }
        }
    }
    /// Does what was to be done with one that is ready. Never waits.
    ///
    /// # Errors
    /// The select, when none is ready.
    pub fn try_now(mut self) -> Result<R, Self> {
        self.attempt().ok_or(self)
    }
    fn attempt(&mut self) -> Option<R> {
        let count = self.branches.len();
        let first = throw();
        for step in 0..count {
            let number = first.wrapping_add(step) % count;
            if self.branches[number].attempt() {
                return self.branches.swap_remove(number).finish();
            }
        }
        None
    }
}
impl<R> Default for Select<'_, R> {
    fn default() -> Self {
        Select::new()
    }
}
impl<R> fmt::Debug for Select<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Select")
            .field("branches", &self.branches.len())
            .field("after", &self.deadline.as_ref().map(|(limit, _)| limit))
            .finish()
    }
}

/// Leaves every line, however the wait ends.
struct Entered<'b, 'a, R> {
    branches: &'b mut Vec<Box<dyn Branch<R> + 'a>>,
    waiters: Vec<Waiter>,
}
impl<R> Drop for Entered<'_, '_, R> {
    fn drop(&mut self) {
        for (branch, waiter) in self.branches.iter_mut().zip(&self.waiters) {
            branch.leave(waiter);
        }
    }
}

struct Take<'a, S: Source, F> {
    source: &'a S,
    place: Option<S::Place>,
    taken: Option<S::Output>,
    then: F,
}
impl<R, S: Source, F: FnOnce(S::Output) -> R> Branch<R> for Take<'_, S, F> {
    fn attempt(&mut self) -> bool {
        self.taken = self.source.take_now();
        self.taken.is_some()
    }
    fn enter(&mut self, waiter: Waiter) {
        self.place = Some(self.source.enter(waiter));
    }
    fn leave(&mut self, waiter: &Waiter) {
        if let Some(place) = &self.place {
            self.source.leave(place, waiter);
        }
    }
    fn accept(&mut self) -> bool {
        self.taken = self.place.take().and_then(|place| self.source.take_handed(place));
        self.taken.is_some()
    }
    fn finish(self: Box<Self>) -> Option<R> {
        let Take { taken, then, .. } = *self;
        taken.map(then)
    }
}

/// What [`Select::put`] can put into: [`Queue`], [`LightQueue`], [`LifoQueue`], [`PriorityQueue`], [`Channel`].
pub trait Room: room::Core {}
impl<Q: room::Core> Room for Q {}

mod room {
    use super::*;
    use crate::green::queue::Full;

    /// The inside of a queue with room.
    pub trait Core {
        /// What is put into it.
        type Item;
        #[doc(hidden)]
        fn try_put(&self, item: Self::Item) -> Result<(), Self::Item>;
        #[doc(hidden)]
        fn enter(&self, waiter: Waiter, item: Self::Item);
        #[doc(hidden)]
        fn withdraw(&self, waiter: &Waiter) -> Option<Self::Item>;
    }
    fn enter<T>(core: &super::Core<Result<T>, Fifo<Result<T>>>, waiter: Waiter, item: T) {
        core.enter_putter(waiter, Ok(item));
    }
    macro_rules! of_results {
        ($queue:ident, $try_put:ident) => {
            impl<T: 'static> Core for $queue<T> {
                type Item = T;
                fn try_put(&self, item: T) -> Result<(), T> {
                    self.$try_put(item).map_err(|Full(item)| item)
                }
                fn enter(&self, waiter: Waiter, item: T) {
                    enter(&self.0, waiter, item);
                }
                fn withdraw(&self, waiter: &Waiter) -> Option<T> {
                    self.0.withdraw(waiter).and_then(Result::ok)
                }
            }
        };
    }
    of_results!(Queue, try_put);
    of_results!(Channel, try_send);
    macro_rules! of_items {
        ($queue:ident $(, $ord:ident)?) => {
            impl<T: 'static $(+ $ord)?> Core for $queue<T> {
                type Item = T;
                fn try_put(&self, item: T) -> Result<(), T> {
                    self.0.try_put(item)
                }
                fn enter(&self, waiter: Waiter, item: T) {
                    self.0.enter_putter(waiter, item);
                }
                fn withdraw(&self, waiter: &Waiter) -> Option<T> {
                    self.0.withdraw(waiter)
                }
            }
        };
    }
    of_items!(LightQueue);
    of_items!(LifoQueue);
    of_items!(PriorityQueue, Ord);
}

struct Put<'a, Q: Room, F> {
    queue: &'a Q,
    slot: &'a mut Option<Q::Item>,
    done: bool,
    then: F,
}
impl<R, Q: Room, F: FnOnce() -> R> Branch<R> for Put<'_, Q, F> {
    fn attempt(&mut self) -> bool {
        if let Some(item) = self.slot.take() {
            match self.queue.try_put(item) {
                Ok(()) => self.done = true,
                Err(item) => *self.slot = Some(item),
            }
        }
        self.done
    }
    fn enter(&mut self, waiter: Waiter) {
        if let Some(item) = self.slot.take() {
            self.queue.enter(waiter, item);
        }
    }
    fn leave(&mut self, waiter: &Waiter) {
        if let Some(item) = self.queue.withdraw(waiter) {
            *self.slot = Some(item);
        }
    }
    fn accept(&mut self) -> bool {
        // Whoever made room has the item.
        self.done = true;
        true
    }
    fn finish(self: Box<Self>) -> Option<R> {
        self.done.then(self.then)
    }
}
