//! `Cooperator`: many pieces of work, a step of each in turn, in slices short enough for everything else to go on meanwhile.
//!
//! The cooperator owns its tasks; the clock owns the cooperator while a slice is due, and a Deferred that a task waits for
//! does so meanwhile; tasks name it weakly, so that the end of the reactor frees them all. What must never happen here: a
//! step, a callback or a destructor of the user's run while a cell is borrowed.
mod task;

pub use task::{CooperativeTask, TaskError};
use task::{Task, Work};

use crate::clock::{Clock, DelayedCall};
use crate::deferred::{Deferred, IntoDeferred};
use crate::failure;
use crate::reactor::Reactor;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::Duration;

/// How long a slice is, unless told otherwise.
const SLICE: Duration = Duration::from_millis(10);
/// And how many steps it has at most: a test's clock stands still during a slice.
const STEPS: usize = 10_000;
/// From one slice to the next: not zero, which a test's clock would run in the same `advance`.
const GAP: Duration = Duration::from_nanos(10);

/// Runs pieces of work side by side, a step of each in turn (Twisted's `Cooperator`). Clones are the same cooperator.
///
/// A piece of work is an iterator; each item is a step: `()` goes on, a `Result` goes on or ends it, and for a `Deferred` the
/// task waits, the others going on. Steps are made in slices of 10 ms (10,000 steps at most), with a turn of the loop between
/// two. The first is never made before `cooperate` has returned. What is infinite or long belongs here, on the reactor's
/// thread; what blocks does not.
///
/// ```
/// use twistlet::task::Cooperator;
/// use twistlet::testing::{Clock, success_result_of};
///
/// let clock = Clock::new();
/// let cooperator = Cooperator::new(&clock);
/// let sum = cooperator.cooperate((1..=3).map(|n| println!("step {n}")));
/// clock.advance(std::time::Duration::from_millis(1));
/// success_result_of(sum.when_done());
/// ```
#[derive(Clone)]
pub struct Cooperator(Rc<Inner>);

type Predicate = Box<dyn FnMut() -> bool>;
struct Inner {
    clock: Rc<dyn Clock>,
    /// Makes the question that ends a slice; `None` asks the clock.
    predicate: RefCell<Option<Rc<dyn Fn() -> Predicate>>>,
    slice: Cell<Duration>,
    running: Cell<bool>,
    /// Stopped, rather than never started: work is refused.
    stopped: Cell<bool>,
    /// All that have not ended.
    all: RefCell<Vec<Rc<Task>>>,
    /// Those that can go on, the next one first.
    queue: RefCell<VecDeque<Rc<Task>>>,
    tick: Cell<Option<DelayedCall>>,
    in_tick: Cell<bool>,
}

thread_local! {
    /// That of the thread's reactor, while it has work.
    static CURRENT: RefCell<Option<(Reactor, Weak<Inner>)>> = const { RefCell::new(None) };
}

/// Adds work to the [reactor's own](Cooperator::current) cooperator (Twisted's `task.cooperate`).
pub fn cooperate<W>(work: W) -> CooperativeTask
where
    W: IntoIterator<Item: IntoDeferred, IntoIter: 'static>,
{
    Cooperator::current().cooperate(work)
}
/// As [`cooperate`], and gives its end alone: cancelling the Deferred stops the work (Twisted's `task.coiterate`).
///
/// ```
/// use twistlet::{Reactor, task};
///
/// let reactor = Reactor::new()?;
/// let _ = task::coiterate((0..100).map(|_| ())).add_callback(move |()| reactor.stop());
/// reactor.run()?;
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub fn coiterate<W>(work: W) -> Deferred<()>
where
    W: IntoIterator<Item: IntoDeferred, IntoIter: 'static>,
{
    Cooperator::current().coiterate(work)
}

impl Cooperator {
    /// One that works by `clock`, started.
    pub fn new(clock: &dyn Clock) -> Self {
        let this = Self::not_started(clock);
        this.0.running.set(true);
        this
    }
    /// One that takes work, and begins when it is [started](Cooperator::start).
    pub fn not_started(clock: &dyn Clock) -> Self {
        Cooperator(Rc::new(Inner {
            clock: clock.handle(),
            predicate: RefCell::default(),
            slice: Cell::new(SLICE),
            running: Cell::new(false),
            stopped: Cell::new(false),
            all: RefCell::default(),
            queue: RefCell::default(),
            tick: Cell::new(None),
            in_tick: Cell::new(false),
        }))
    }
    /// That of this thread's reactor, which lives as long as it has work.
    pub fn current() -> Self {
        let reactor = Reactor::current();
        let there = CURRENT.with(|current| {
            let current = current.borrow();
            let (of, inner) = current.as_ref()?;
            if *of == reactor { inner.upgrade() } else { None }
        });
        there.map_or_else(
            || {
                let made = Cooperator::new(&reactor);
                CURRENT.with(|current| *current.borrow_mut() = Some((reactor, Rc::downgrade(&made.0))));
                made
            },
            Cooperator,
        )
    }
    /// How long a slice may be; default 10 ms. A step that takes longer is not interrupted. With zero every slice is one
    /// step.
    pub fn set_slice(&self, slice: Duration) {
        self.0.slice.set(slice);
        let before = self.0.predicate.take();
        drop(before);
    }
    /// Another end for slices than time: `make` is called at the start of each and gives what is asked after each step
    /// whether that was the last (Twisted's `terminationPredicateFactory`).
    pub fn set_predicate<P: FnMut() -> bool + 'static>(&self, make: impl Fn() -> P + 'static) {
        let made: Rc<dyn Fn() -> Predicate> = Rc::new(move || Box::new(make()));
        let before = self.0.predicate.replace(Some(made));
        drop(before);
    }
    /// Adds work. On a stopped cooperator the task has ended with [`TaskError::SchedulerStopped`].
    pub fn cooperate<W>(&self, work: W) -> CooperativeTask
    where
        W: IntoIterator<Item: IntoDeferred, IntoIter: 'static>,
    {
        let mut steps = work.into_iter();
        let work: Work = Box::new(move || Some(steps.next()?.into_deferred().add_callback(|_| ())));
        let task = Task::new(&self.0, work);
        if self.0.stopped.get() {
            task.finish_with(TaskError::SchedulerStopped);
        } else {
            self.0.admit(&task);
            self.0.enqueue(&task);
        }
        CooperativeTask::new(task, self.clone())
    }
    /// As [`cooperate`](Cooperator::cooperate), and gives the end alone: cancelling the Deferred stops the work.
    pub fn coiterate<W>(&self, work: W) -> Deferred<()>
    where
        W: IntoIterator<Item: IntoDeferred, IntoIter: 'static>,
    {
        let task = self.cooperate(work).into_task();
        let (promise, deferred) = Deferred::new();
        let cancelled = Rc::downgrade(&task);
        promise.on_cancel(move || {
            if let Some(task) = cancelled.upgrade() {
                task.finish_with(TaskError::Stopped);
            }
        });
        task.tell(promise);
        deferred
    }
    /// Begins, or begins again after [`stop`](Cooperator::stop). Harmless when it runs.
    pub fn start(&self) {
        self.0.running.set(true);
        self.0.stopped.set(false);
        self.0.wait();
    }
    /// Ends every task, those that are paused or wait included, with [`TaskError::SchedulerStopped`], before this returns;
    /// takes no more until it is started.
    pub fn stop(&self) {
        self.0.running.set(false);
        self.0.stopped.set(true);
        let queue = std::mem::take(&mut *self.0.queue.borrow_mut());
        queue.iter().for_each(|task| task.queued.set(false));
        let tick = self.0.tick.take();
        tick.map(DelayedCall::cancel);
        // A task that was added by who heard of another's end, after a start(), is none of these.
        let tasks = std::mem::take(&mut *self.0.all.borrow_mut());
        for task in tasks {
            task.finish_with(TaskError::SchedulerStopped);
        }
    }
    /// Whether it is started, and not stopped since.
    pub fn is_running(&self) -> bool {
        self.0.running.get()
    }
    /// How many tasks have not ended.
    pub fn len(&self) -> usize {
        self.0.all.borrow().len()
    }
    /// Whether there is no work.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Inner {
    fn admit(&self, task: &Rc<Task>) {
        let mut all = self.all.borrow_mut();
        task.place.set(all.len());
        all.push(Rc::clone(task));
    }
    /// Takes out a task that has ended.
    fn dismiss(&self, task: &Task) {
        self.dequeue(task);
        let mut all = self.all.borrow_mut();
        let place = task.place.get();
        // In a stop() they are out already, and others may have come.
        let itself = all.get(place).is_some_and(|other| std::ptr::eq(&**other, task)).then(|| all.swap_remove(place));
        if let Some(moved) = all.get(place) {
            moved.place.set(place);
        }
        drop(all);
        drop(itself);
    }
    fn enqueue(self: &Rc<Self>, task: &Rc<Task>) {
        if task.can_go_on() && !task.queued.replace(true) {
            self.queue.borrow_mut().push_back(Rc::clone(task));
            self.wait();
        }
    }
    /// Takes a task out of the turn; with the last one goes the call that would make the next slice.
    fn dequeue(&self, task: &Task) {
        if task.queued.replace(false) {
            let mut queue = self.queue.borrow_mut();
            queue.retain(|queued| !std::ptr::eq(&**queued, task));
            if queue.is_empty()
                && let Some(tick) = self.tick.take()
            {
                drop(queue);
                tick.cancel();
            }
        }
    }
    /// Sees to the next slice.
    fn wait(self: &Rc<Self>) {
        if !self.running.get() || self.in_tick.get() || self.queue.borrow().is_empty() || self.tick.get().is_some() {
            return;
        }
        let this = Rc::clone(self);
        let tick = self.clock.schedule(GAP, Box::new(move || this.slice()));
        self.tick.set(Some(tick));
    }
    fn slice(self: &Rc<Self>) {
        self.tick.set(None);
        self.in_tick.set(true);
        let mut is_over = self.end_of_slice();
        while self.running.get()
            && let Some(task) = self.next()
        {
            task.step(self);
            // Who panics here is asked no more.
            if failure::catch(&mut is_over).unwrap_or_else(|panicked| {
                failure::report("the predicate of a Cooperator", &panicked);
                true
            }) {
                break;
            }
        }
        failure::drop_quietly(is_over);
        self.in_tick.set(false);
        self.wait();
    }
    fn next(&self) -> Option<Rc<Task>> {
        let task = self.queue.borrow_mut().pop_front()?;
        task.queued.set(false);
        Some(task)
    }
    fn end_of_slice(&self) -> Predicate {
        let make = self.predicate.borrow().clone();
        if let Some(make) = make {
            return failure::catch(|| make()).unwrap_or_else(|panicked| {
                failure::report("the predicate of a Cooperator", &panicked);
                Box::new(|| true)
            });
        }
        let (clock, slice) = (Rc::clone(&self.clock), self.slice.get());
        let (begin, mut steps) = (clock.now(), 0);
        Box::new(move || {
            steps += 1;
            steps >= STEPS || clock.now().saturating_duration_since(begin) >= slice
        })
    }
}

impl fmt::Debug for Cooperator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cooperator")
            .field("running", &self.is_running())
            .field("tasks", &self.len())
            .finish_non_exhaustive()
    }
}
