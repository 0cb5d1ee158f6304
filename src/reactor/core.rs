//! The loop of one thread's reactor and what hangs on it: sources, timers, the ready queue, calls from other threads.
//!
//! `Core` is owned by the thread (`CURRENT`); everybody else holds names. One turn is R3 of the design: calls from threads, due
//! timers, the ready queue as it stood, the flush of what was written, poll, dispatch. What must never happen here: user code
//! run, or a user's object dropped, while any cell is borrowed; a panic of user code that leaves `turn`.
use super::driver::{Driver, Event, Readiness, os};
use super::pool::Pool;
use super::remote::Inbox;
use super::sources::{Source, Sources};
use super::triggers::Triggers;
use crate::clock::{DelayedCall, Store};
use crate::error::ReactorError;
use crate::failure::{self, Failure, Result};
use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One read's buffer; every connection of the thread reads into the same one.
const READ_BUFFER: usize = 256 * 1024;
/// Output written while output is flushed is flushed too, this often, before the poll.
const FLUSH_ROUNDS: usize = 4;
/// Spare output buffers kept, and the largest worth keeping.
const SPARE_BUFFERS: usize = 64;
const SPARE_CAPACITY: usize = 64 * 1024;

/// Work that is queued without an allocation: a green thread that is to go on, a future's task.
pub(crate) trait Runnable {
    fn run(self: Rc<Self>);
}

enum Job {
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
    sources: RefCell<Sources>,
    /// Sources that had more to read than their budget, and those resumed since: they are dispatched again.
    again: RefCell<Vec<usize>>,
    /// Sources with something to write or to finish, once a batch.
    flush: RefCell<Vec<usize>>,
    ready: RefCell<VecDeque<Job>>,
    timers: Rc<Store>,
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
    crashed: Cell<bool>,
    close_asked: Cell<bool>,
    pub(super) signals: Cell<bool>,
    pool: OnceCell<Rc<Pool>>,
    read_buffer: Cell<Option<Box<[u8]>>>,
    spare: RefCell<Vec<Vec<u8>>>,
    turns: Cell<u64>,
    /// Asked before the loop would wait for ever for nothing: the green hub's deadlock report.
    idle: RefCell<Option<Rc<dyn Fn()>>>,
    /// Called when a running reactor is closed: the green hub's, whose loop may wait on another stack.
    on_close: RefCell<Option<Rc<dyn Fn()>>>,
    /// Promises that other threads will fire.
    awaited: RefCell<slab::Slab<Box<dyn Any>>>,
    /// Run when the reactor ends, before its sources are shut: the green hub's.
    at_end: RefCell<Vec<Box<dyn FnOnce()>>>,
}

/// Owns the thread's reactor; its destructor runs at the thread's end.
struct Installed(RefCell<Option<Rc<Core>>>);
impl Drop for Installed {
    fn drop(&mut self) {
        if let Some(core) = self.0.take() {
            core.abandon();
        }
    }
}
thread_local! {
    static CURRENT: Installed = const { Installed(RefCell::new(None)) };
    static NEXT_ID: Cell<u32> = const { Cell::new(1) };
}

impl Core {
    /// This thread's reactor.
    #[inline]
    pub(crate) fn current() -> Option<Rc<Core>> {
        CURRENT.try_with(|current| current.0.borrow().clone()).ok().flatten()
    }
    /// This thread's reactor, if it is the one named.
    pub(crate) fn named(id: u32) -> Option<Rc<Core>> {
        Core::current().filter(|core| core.id == id)
    }
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Makes and installs this thread's reactor.
    pub(crate) fn install(driver: Option<Driver>) -> Result<Rc<Core>> {
        if let Some(old) = Core::current() {
            if old.state.get() != State::Abandoned {
                return Err(ReactorError::AlreadyInstalled.into());
            }
            old.end();
        }
        let driver = match driver {
            Some(driver) => driver,
            None => Driver::Os(os::Driver::new()?),
        };
        let now = driver.now();
        let id = NEXT_ID.get();
        NEXT_ID.set(id.wrapping_add(1).max(1));
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
                timers: Store::new(now, move || me.upgrade().map_or(now, |core| core.now())),
                clock: Cell::new(now),
                stale: Cell::new(false),
                turn_clock: Cell::new(now),
                inbox,
                triggers: Triggers::default(),
                state: Cell::new(State::Idle),
                stop_asked: Cell::new(false),
                phase_due: Cell::new(false),
                crashed: Cell::new(false),
                close_asked: Cell::new(false),
                signals: Cell::new(true),
                pool: OnceCell::new(),
                read_buffer: Cell::new(None),
                spare: RefCell::default(),
                turns: Cell::new(0),
                idle: RefCell::default(),
                awaited: RefCell::default(),
                on_close: RefCell::default(),
                at_end: RefCell::default(),
            }
        });
        match CURRENT.try_with(|current| current.0.replace(Some(Rc::clone(&core)))) {
            Ok(_) => Ok(core),
            Err(_) => Err(ReactorError::Closed.into()),
        }
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
        self.crashed.set(false);
        self.state.set(State::Starting);
        self.read_turn_clock();
        self.fire_startup();
        while self.state.get() != State::Finished && !self.crashed.get() {
            self.turn(None);
        }
        std::mem::forget(abandoned);
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
        if self.phase_due.replace(false) {
            self.finish_phase();
        }
        if self.stop_asked.replace(false) {
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

    fn flush_all(self: &Rc<Self>) {
        for _ in 0..FLUSH_ROUNDS {
            if self.flush.borrow().is_empty() {
                return;
            }
            let mut batch = std::mem::take(&mut *self.flush.borrow_mut());
            for token in batch.drain(..) {
                let source = self.sources.borrow().get(token);
                if let Some(source) = source {
                    source.flush(self);
                }
            }
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
            || self.stop_asked.get();
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
            || Arc::strong_count(&self.inbox) > 1
            || self.inbox.is_notified()
    }

    fn dispatch(self: &Rc<Self>) {
        let mut events = self.events.take();
        let again = std::mem::take(&mut *self.again.borrow_mut());
        for event in events.drain(..) {
            self.dispatch_one(event.token, event.readiness);
        }
        self.events.set(events);
        for token in again {
            self.dispatch_one(token, Readiness::default());
        }
    }

    fn dispatch_one(self: &Rc<Self>, token: usize, readiness: Readiness) {
        let source = self.sources.borrow().get(token);
        if let Some(source) = source {
            self.stale.set(true);
            source.ready(self, readiness);
        }
    }

    /// The present instant: read once a callback.
    pub(crate) fn now(&self) -> Instant {
        if self.stale.replace(false) {
            self.clock.set(self.driver.borrow().now());
        }
        self.clock.get()
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
            self.ready.borrow_mut().push_back(Job::Call(call));
        }
    }
    /// Queues work for the next turn, without an allocation.
    #[inline]
    pub(crate) fn run_soon(&self, work: Rc<dyn Runnable>) {
        if self.state.get() != State::Closed {
            self.ready.borrow_mut().push_back(Job::Run(work));
        }
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
    pub(super) fn keep_promise(&self, promise: Box<dyn Any>) -> usize {
        self.awaited.borrow_mut().insert(promise)
    }
    pub(super) fn give_promise(&self, slot: usize) -> Option<Box<dyn Any>> {
        self.awaited.borrow_mut().try_remove(slot)
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
    pub(crate) fn set_idle_hook(&self, idle: Option<Rc<dyn Fn()>>) {
        let old = self.idle.replace(idle);
        drop(old);
    }
    pub(crate) fn set_close_hook(&self, on_close: Option<Rc<dyn Fn()>>) {
        let old = self.on_close.replace(on_close);
        drop(old);
    }
    /// Whether the loop is somewhere below, on this stack or on another of this thread.
    pub(crate) fn is_in_loop(&self) -> bool {
        matches!(self.state.get(), State::Starting | State::Running | State::Stopping)
    }
    /// Whether the loop has not run yet, or was left by `crash`.
    pub(crate) fn may_run_again(&self) -> bool {
        self.state.get() == State::Idle
    }
    pub(crate) fn set_signals(&self, on: bool) {
        self.signals.set(on);
    }
    pub(crate) fn add_end_hook(&self, call: Box<dyn FnOnce()>) {
        self.at_end.borrow_mut().push(call);
    }
    pub(crate) fn crash(&self) {
        if matches!(self.state.get(), State::Starting | State::Running | State::Stopping) {
            self.crashed.set(true);
        }
    }
    pub(crate) fn statistics(&self) -> super::Statistics {
        super::Statistics {
            turns: self.turns.get(),
            timers: self.timers.len(),
            descriptors: self.sources.borrow().len(),
            ready: self.ready.borrow().len(),
        }
    }

    /// Loses every connection and stops every port; each is told.
    pub(super) fn shut_sources(self: &Rc<Self>) {
        let sources = self.sources.borrow().all();
        for source in sources {
            source.shut(self);
        }
    }

    /// Ends the reactor: sources are told, everything is freed, the thread may have another.
    pub(crate) fn end(self: &Rc<Self>) {
        if matches!(self.state.get(), State::Starting | State::Running | State::Stopping) {
            // Called from a callback: the loop must be off the stack first.
            self.close_asked.set(true);
            self.crashed.set(true);
            let on_close = self.on_close.borrow().clone();
            if let Some(on_close) = on_close {
                on_close();
            }
            return;
        }
        if self.state.get() == State::Closed {
            return;
        }
        self.state.set(State::Finished);
        loop {
            let hooks = std::mem::take(&mut *self.at_end.borrow_mut());
            if hooks.is_empty() {
                break;
            }
            for hook in hooks {
                self.guard("the end of the reactor", hook);
            }
        }
        self.shut_sources();
        if let Some(pool) = self.existing_pool() {
            self.inbox.close();
            pool.stop();
        }
        self.state.set(State::Closed);
        let _ = CURRENT.try_with(|current| {
            let ours = current.0.borrow().as_ref().is_some_and(|core| core.id == self.id);
            if ours { current.0.take() } else { None }
        });
        self.abandon();
    }

    /// Drops what the reactor holds and breaks its cycles; nobody is told.
    fn abandon(self: &Rc<Self>) {
        self.state.set(State::Closed);
        self.inbox.close();
        self.set_idle_hook(None);
        self.set_close_hook(None);
        drop(std::mem::take(&mut *self.at_end.borrow_mut()));
        // What drops may queue more, so until nothing is left.
        loop {
            let jobs = std::mem::take(&mut *self.ready.borrow_mut());
            let sources = self.sources.borrow_mut().take_all();
            let timers = self.timers.len();
            let awaited = std::mem::take(&mut *self.awaited.borrow_mut());
            if jobs.is_empty() && sources.is_empty() && awaited.is_empty() && timers == 0 {
                break;
            }
            for job in jobs {
                self.guard("a destructor", move || drop(job));
            }
            for source in sources {
                self.guard("a destructor", move || drop(source));
            }
            for (_, promise) in awaited {
                self.guard("a destructor", move || drop(promise));
            }
            self.guard("a destructor", || self.timers.clear());
        }
        self.guard("a destructor", || self.triggers.clear());
    }
}

/// Marks the reactor when its loop is left by unwinding, so that the next one can take its place.
struct Abandon<'a>(&'a Rc<Core>);
impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.state.set(State::Abandoned);
    }
}
