//! The loop of one thread's reactor and what hangs on it: sources, timers, the ready queue, calls from other threads.
//!
//! `Core` is owned by the thread (`CURRENT`); everybody else holds names. One turn is R3 of the design: calls from threads, due
//! timers, the ready queue as it stood, the flush of what was written, poll, dispatch. What must never happen here: user code
//! run, or a user's object dropped, while any cell is borrowed; a panic of user code that leaves `turn`. How a reactor is
//! found and how it ends is in `house`.
use super::driver::{Driver, Event, Readiness, os};
use super::future::Tasks;
use super::pool::Pool;
use super::remote::{Awaited, Inbox};
use super::shutdown::Draining;
use super::signals::Listening;
use super::sources::{Source, Sources};
use super::triggers::Triggers;
use crate::clock::{DelayedCall, Store};
use crate::error::ReactorError;
use crate::failure::{self, Failure, Result};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One read's buffer; every connection of the thread reads into the same one.
const READ_BUFFER: usize = 256 * 1024;
/// Output written while output is flushed is flushed too, this often, before the poll.
const FLUSH_ROUNDS: usize = 4;
/// Spare output buffers kept, and the largest worth keeping.
const SPARE_BUFFERS: usize = 1024;
const SPARE_CAPACITY: usize = 16 * 1024;

/// Work that is queued without an allocation: green threads that are to go on, a future's task.
pub(crate) trait Runnable {
    fn run(self: Rc<Self>);
}

pub(super) type Hook = Rc<dyn Fn()>;

pub(super) enum Job {
    Call(Box<dyn FnOnce()>),
    Run(Rc<dyn Runnable>),
}

/// Where a reactor is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Made, or crashed: may be run.
    Idle,
    /// Waiting for what the before-startup triggers returned.
    Starting,
    Running,
    /// Waiting for what the before-shutdown triggers returned; the loop runs normally.
    Stopping,
    /// The loop is about to end.
    Finished,
    /// `run` was left by unwinding.
    Abandoned,
    Closed,
}

pub(crate) struct Core {
    id: u32,
    driver: RefCell<Driver>,
    events: Cell<Vec<Event>>,
    pub(super) sources: RefCell<Sources>,
    /// Sources that had more to read than their budget, and those resumed since: they are dispatched again.
    again: RefCell<Vec<usize>>,
    /// Sources with something to write or to finish, once a batch.
    flush: RefCell<Vec<usize>>,
    pub(super) ready: RefCell<VecDeque<Job>>,
    /// Another number whenever something has been queued, or the queue begins to run.
    queue_mark: Cell<u64>,
    pub(super) timers: Rc<Store>,
    /// The clock as it was read last; `stale` says that user code has run since, so whoever asks reads it anew.
    clock: Cell<Instant>,
    stale: Cell<bool>,
    /// What timers are due by: the clock when the last poll returned.
    turn_clock: Cell<Instant>,
    inbox: Arc<Inbox>,
    pub(super) triggers: Triggers,
    pub(super) state: Cell<State>,
    pub(super) stop_asked: Cell<bool>,
    pub(super) phase_due: Cell<bool>,
    /// `run_loop` is on some stack of this thread.
    looping: Cell<bool>,
    pub(super) crashed: Cell<bool>,
    pub(super) close_asked: Cell<bool>,
    pub(super) ending: Cell<bool>,
    pub(super) signals: Cell<bool>,
    pub(super) listening: RefCell<Option<Listening>>,
    pub(super) tasks: RefCell<Tasks>,
    pool: OnceCell<Rc<Pool>>,
    read_buffer: Cell<Option<Box<[u8]>>>,
    spare: RefCell<Vec<Vec<u8>>>,
    pub(super) turns: Cell<u64>,
    /// Asked before the loop would wait for ever for nothing: the green hub's deadlock report.
    pub(super) idle: RefCell<Option<Hook>>,
    /// Called when a running reactor is closed: the green hub's, whose loop may wait on another stack.
    pub(super) draining: Draining,
    pub(super) on_close: RefCell<Option<Hook>>,
    /// What other threads will answer, and where they wait for our answers; in the order of the asking.
    pub(super) awaited: RefCell<BTreeMap<u64, Box<dyn Awaited>>>,
    awaited_made: Cell<u64>,
    /// Run when the reactor ends, before its sources are shut: the green hub's.
    pub(super) at_end: RefCell<Vec<Box<dyn FnOnce()>>>,
}

impl Core {
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Makes and installs this thread's reactor.
    pub(crate) fn install(driver: Option<Driver>) -> Result<Rc<Core>> {
        Core::make_way()?;
        let driver = match driver {
            Some(driver) => driver,
            None => Driver::Os(os::Driver::new()?),
        };
        let now = driver.now();
        let id = Core::next_id();
        let inbox = Inbox::new(driver.waker());
        let core = Rc::new_cyclic(|me: &std::rc::Weak<Core>| {
            let me = me.clone();
            Core {
                id,
                driver: RefCell::new(driver),
                events: Cell::default(),
                sources: RefCell::default(),
                again: RefCell::default(),
                flush: RefCell::default(),
                ready: RefCell::default(),
                queue_mark: Cell::new(0),
                timers: Store::new(now, move || me.upgrade().map_or(now, |core| core.now())),
                clock: Cell::new(now),
                stale: Cell::new(false),
                turn_clock: Cell::new(now),
                inbox,
                triggers: Triggers::default(),
                state: Cell::new(State::Idle),
                stop_asked: Cell::new(false),
                phase_due: Cell::new(false),
                looping: Cell::new(false),
                crashed: Cell::new(false),
                close_asked: Cell::new(false),
                ending: Cell::new(false),
                signals: Cell::new(true),
                listening: RefCell::default(),
                tasks: RefCell::default(),
                pool: OnceCell::new(),
                read_buffer: Cell::new(None),
                spare: RefCell::default(),
                turns: Cell::new(0),
                idle: RefCell::default(),
                awaited: RefCell::default(),
                awaited_made: Cell::new(0),
                on_close: RefCell::default(),
                draining: Draining::default(),
                at_end: RefCell::default(),
            }
        });
        core.settle_in()?;
        Ok(core)
    }

    /// Runs until stopped; `startup` and `shutdown` triggers included. The reactor goes on existing: its caller ends it.
    pub(crate) fn run_loop(self: &Rc<Self>) -> Result<()> {
        match self.state.get() {
            State::Idle => {}
            State::Finished | State::Abandoned => return Err(ReactorError::NotRestartable.into()),
            State::Closed => return Err(ReactorError::Closed.into()),
            State::Starting | State::Running | State::Stopping => return Err(ReactorError::AlreadyRunning.into()),
        }
        let abandoned = Abandon(self);
        self.looping.set(true);
        self.crashed.set(false);
        self.phase_due.set(false);
        self.stop_asked.set(false);
        self.state.set(State::Starting);
        self.read_turn_clock();
        self.fire_startup();
        while self.state.get() != State::Finished && !self.crashed.get() {
            self.turn(None);
        }
        std::mem::forget(abandoned);
        self.ignore_signals();
        self.looping.set(false);
        if self.crashed.get() && self.state.get() != State::Finished {
            self.state.set(State::Idle);
        }
        if self.close_asked.get() {
            self.state.set(State::Finished);
        }
        Ok(())
    }

    /// One turn of the loop; `limit` bounds the wait.
    pub(crate) fn turn(self: &Rc<Self>, limit: Option<Duration>) {
        self.turns.set(self.turns.get() + 1);
        self.inbox.run(self);
        self.run_timers();
        self.run_ready();
        crate::shared::work_off_left_over();
        self.look_whether_drained();
        if self.phase_due.replace(false) {
            self.finish_phase();
        }
        // A stop during startup waits until startup is complete.
        if self.stop_due() {
            self.stop_asked.set(false);
            self.fire_shutdown();
        }
        if self.state.get() == State::Finished || self.crashed.get() {
            self.flush_all();
            return;
        }
        self.flush_all();
        self.poll(limit);
        self.dispatch();
        self.flush_all();
    }

    fn stop_due(&self) -> bool {
        self.stop_asked.get() && self.state.get() == State::Running
    }

    fn run_timers(&self) {
        if self.timers.len() == 0 {
            return;
        }
        let mark = self.timers.mark();
        while let Some(call) = self.timers.pop_due(self.turn_clock.get(), mark) {
            self.guard("a delayed call", call);
        }
    }

    fn run_ready(&self) {
        let mut left = self.ready.borrow().len();
        self.change_queue_mark();
        while left > 0 {
            // One guard for the whole run of the queue: a panic costs a new one, an ordinary job none.
            let run = failure::catch(|| {
                while left > 0 {
                    left -= 1;
                    let job = self.ready.borrow_mut().pop_front();
                    self.stale.set(true);
                    match job {
                        Some(Job::Run(work)) => work.run(),
                        Some(Job::Call(call)) => call(),
                        None => left = 0,
                    }
                }
            });
            if let Err(failure) = run {
                failure::report("a queued call", &failure);
            }
        }
    }

    /// Runs a callback that nobody waits for.
    pub(crate) fn guard(&self, what: &'static str, call: impl FnOnce()) {
        self.stale.set(true);
        if let Err(failure) = failure::catch(call) {
            failure::report(what, &failure);
        }
    }

    pub(super) fn flush_all(self: &Rc<Self>) {
        for _ in 0..FLUSH_ROUNDS {
            if self.flush.borrow().is_empty() {
                return;
            }
            let mut batch = std::mem::take(&mut *self.flush.borrow_mut());
            self.each_source(batch.drain(..).map(|token| (token, ())), |source, ()| source.flush(self));
            // Its memory is used again, unless somebody needed another list meanwhile.
            let mut list = self.flush.borrow_mut();
            if list.is_empty() {
                *list = batch;
            }
        }
    }

    fn poll(self: &Rc<Self>, limit: Option<Duration>) {
        let mut timeout = self.poll_timeout(limit);
        if timeout.is_none() && !self.can_wake() {
            let idle = self.idle.borrow().clone();
            if let Some(idle) = idle {
                idle();
                timeout = self.poll_timeout(limit);
            }
        }
        let mut events = self.events.take();
        let polled = self.driver.borrow_mut().poll(timeout, &mut events);
        self.events.set(events);
        if let Err(error) = polled {
            // Only a defect of ours or a lost descriptor gets here; the loop must neither die nor spin.
            failure::report("the poller", &Failure::from(error));
            std::thread::sleep(Duration::from_millis(10));
        }
        self.stale.set(true);
        if self.timers.len() > 0 {
            self.read_turn_clock();
        }
    }

    fn read_turn_clock(&self) {
        self.stale.set(true);
        self.turn_clock.set(self.now());
    }

    fn poll_timeout(&self, limit: Option<Duration>) -> Option<Duration> {
        let busy = !self.ready.borrow().is_empty()
            || !self.again.borrow().is_empty()
            || !self.flush.borrow().is_empty()
            || self.inbox.is_notified()
            || self.phase_due.get()
            || self.stop_due();
        if busy {
            return Some(Duration::ZERO);
        }
        let timer = self.timers.next_due().map(|due| {
            self.stale.set(true);
            due.saturating_duration_since(self.now())
        });
        match (timer, limit) {
            (Some(timer), Some(limit)) => Some(timer.min(limit)),
            (timer, limit) => timer.or(limit),
        }
    }

    /// Whether anything there is could end a wait without end.
    pub(crate) fn can_wake(&self) -> bool {
        self.timers.next_due().is_some()
            || self.sources.borrow().len() > 0
            || self.inbox.has_handles()
            || self.inbox.is_notified()
    }

    fn dispatch(self: &Rc<Self>) {
        let mut events = self.events.take();
        let again = std::mem::take(&mut *self.again.borrow_mut());
        let polled = events.drain(..).map(|event| (event.token, event.readiness));
        let again = again.into_iter().map(|token| (token, Readiness::default()));
        self.each_source(polled.chain(again), |source, readiness| source.ready(self, readiness));
        self.events.set(events);
    }

    /// Calls `call` with every source that is still there when its turn comes. Sources guard what user code they call; what
    /// is caught here is the panic of a destructor of one that went away. One guard for all: a panic costs a new one.
    fn each_source<T>(&self, mut all: impl Iterator<Item = (usize, T)>, call: impl Fn(&dyn Source, T)) {
        loop {
            let done = failure::catch(|| {
                for (token, with) in all.by_ref() {
                    let source = self.sources.borrow().get(token);
                    if let Some(source) = source {
                        self.stale.set(true);
                        call(&*source, with);
                    }
                }
            });
            match done {
                Ok(()) => return,
                Err(failure) => failure::report("a connection or a watch", &failure),
            }
        }
    }

    /// The present instant as timers are set by it: read once a callback, and always anew outside the loop.
    pub(crate) fn now(&self) -> Instant {
        if self.stale.replace(false) || !self.looping.get() {
            self.clock.set(self.driver.borrow().now());
        }
        self.clock.get()
    }
    /// The present instant, read now.
    pub(super) fn fresh_now(&self) -> Instant {
        self.stale.set(true);
        self.now()
    }
    pub(crate) fn schedule(&self, delay: Duration, call: Box<dyn FnOnce()>) -> DelayedCall {
        if matches!(self.state.get(), State::Finished | State::Closed) {
            return DelayedCall::inactive();
        }
        self.timers.insert(self.now().checked_add(delay), call)
    }
    /// Queues a call for the next turn.
    pub(crate) fn call_soon(&self, call: Box<dyn FnOnce()>) {
        if self.state.get() != State::Closed {
            self.change_queue_mark();
            self.ready.borrow_mut().push_back(Job::Call(call));
        }
    }
    /// Queues work for the next turn, without an allocation.
    #[inline]
    pub(crate) fn run_soon(&self, work: Rc<dyn Runnable>) {
        if self.state.get() != State::Closed {
            self.change_queue_mark();
            self.ready.borrow_mut().push_back(Job::Run(work));
        }
    }

    /// What is queued while this stays the same is queued without anything in between, and runs in the same turn.
    #[inline]
    pub(crate) fn queue_mark(&self) -> u64 {
        self.queue_mark.get()
    }
    fn change_queue_mark(&self) {
        self.queue_mark.set(self.queue_mark.get() + 1);
    }
    /// User code is about to run: whoever asks for the clock then reads it anew.
    #[inline]
    pub(crate) fn clock_is_stale(&self) {
        self.stale.set(true);
    }

    // ---- sources ----

    pub(crate) fn driver(&self) -> std::cell::Ref<'_, Driver> {
        self.driver.borrow()
    }
    /// A token for a source that is about to be registered.
    pub(crate) fn reserve(&self) -> usize {
        self.sources.borrow_mut().reserve()
    }
    /// Puts a source under its token, in the place of what was there.
    pub(crate) fn install_source(&self, token: usize, source: Rc<dyn Source>) {
        let old = self.sources.borrow_mut().install(token, source);
        drop(old);
    }
    /// Forgets a token: events that still come for it do nothing.
    pub(crate) fn remove_source(&self, token: usize) -> Option<Rc<dyn Source>> {
        self.sources.borrow_mut().remove(token)
    }
    pub(crate) fn source(&self, token: usize) -> Option<Rc<dyn Source>> {
        self.sources.borrow().get(token)
    }
    /// The source's `flush` is called before the next poll.
    #[inline]
    pub(crate) fn flush_soon(&self, token: usize) {
        self.flush.borrow_mut().push(token);
    }
    /// The source's `ready` is called again in the next dispatch, and the poll does not wait.
    pub(crate) fn dispatch_again(&self, token: usize) {
        self.again.borrow_mut().push(token);
    }
    /// The buffer all reads of this thread go through. Taken while user code looks at it, so give it back.
    pub(crate) fn take_read_buffer(&self) -> Box<[u8]> {
        self.read_buffer.take().unwrap_or_else(|| vec![0; READ_BUFFER].into_boxed_slice())
    }
    pub(crate) fn return_read_buffer(&self, buffer: Box<[u8]>) {
        self.read_buffer.set(Some(buffer));
    }
    /// An empty output buffer with memory of an earlier one's, so that idle connections hold none.
    pub(crate) fn take_spare(&self) -> Vec<u8> {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }
    pub(crate) fn return_spare(&self, mut buffer: Vec<u8>) {
        let mut spare = self.spare.borrow_mut();
        if buffer.capacity() <= SPARE_CAPACITY && spare.len() < SPARE_BUFFERS {
            buffer.clear();
            spare.push(buffer);
        }
    }

    // ---- the rest of the house ----

    pub(crate) fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }
    /// Keeps what another thread will answer, or waits for, until then or until the reactor ends.
    pub(super) fn keep_awaited(&self, awaited: Box<dyn Awaited>) -> u64 {
        let number = self.awaited_made.replace(self.awaited_made.get() + 1);
        let old = self.awaited.borrow_mut().insert(number, awaited);
        drop(old);
        number
    }
    pub(super) fn give_awaited(&self, number: u64) -> Option<Box<dyn Awaited>> {
        self.awaited.borrow_mut().remove(&number)
    }
    pub(crate) fn pool(&self) -> &Rc<Pool> {
        self.pool.get_or_init(|| Rc::new(Pool::new()))
    }
    pub(super) fn existing_pool(&self) -> Option<&Rc<Pool>> {
        self.pool.get()
    }
    pub(crate) fn is_closed(&self) -> bool {
        self.state.get() == State::Closed
    }
    pub(crate) fn set_idle_hook(&self, idle: Option<Hook>) {
        let old = self.idle.replace(idle);
        drop(old);
    }
    pub(crate) fn set_close_hook(&self, on_close: Option<Hook>) {
        let old = self.on_close.replace(on_close);
        drop(old);
    }
    /// Whether the loop is somewhere below, on this stack or on another of this thread.
    pub(crate) fn is_in_loop(&self) -> bool {
        self.looping.get()
    }
    /// Whether the loop has not run yet, or was left by `crash`.
    pub(crate) fn may_run_again(&self) -> bool {
        self.state.get() == State::Idle
    }
    /// Whether `run_loop` listens to SIGINT and SIGTERM.
    pub(crate) fn set_signals(&self, on: bool) {
        self.signals.set(on);
        if !on {
            self.ignore_signals();
        }
    }
    pub(crate) fn add_end_hook(&self, call: Box<dyn FnOnce()>) {
        self.at_end.borrow_mut().push(call);
    }
}

/// Marks the reactor when its loop is left by unwinding, so that the next one can take its place.
struct Abandon<'a>(&'a Rc<Core>);
impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.looping.set(false);
        self.0.state.set(State::Abandoned);
    }
}
