//! The loop of one thread's reactor and what hangs on it: sources, timers, the ready queue, calls from other threads.
//!
//! `Core` is owned by the thread (`CURRENT`); everybody else holds names. One turn is R3 of the design: calls from threads, due
//! timers, the ready queue as it stood, the flush of what was written, poll, dispatch. What must never happen here: user code
//! run, or a user's object dropped, while any cell is borrowed; a panic of user code that leaves `turn`. How a reactor is
//! found and how it ends is in `house`; the turns of the loop are in `turn`.
mod turn;

use super::driver::{Driver, Event, os};
use super::fork::Birthplace;
use super::future::Tasks;
use super::pool::{Pool, THREADS};
use super::pulse::Pulse;
use super::ready::Job;
use super::remote::{Awaited, Inbox};
use super::shutdown::Draining;
use super::signals::Listening;
use super::sources::{Source, Sources};
use super::triggers::Triggers;
use super::watchdog::Watched;
use crate::clock::{DelayedCall, Store};
use crate::failure::Result;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One read's buffer; every connection of the thread reads into the same one.
const READ_BUFFER: usize = 256 * 1024;
/// Spare output buffers kept, and the largest worth keeping.
const SPARE_BUFFERS: usize = 1024;
const SPARE_CAPACITY: usize = 16 * 1024;

pub(super) type Hook = Rc<dyn Fn()>;

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
    pub(super) queue_mark: Cell<u64>,
    pub(super) timers: Rc<Store>,
    /// The clock as it was read last; the pulse says whether user code has run since, so that whoever asks reads it anew.
    clock: Cell<Instant>,
    /// What timers are due by: the clock when the last poll returned.
    turn_clock: Cell<Instant>,
    /// Whether `clock` is kept up in turns that would not read it: for the green hub, which notes since when who waits.
    keeps_time: Cell<bool>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) watched: RefCell<Option<Watched>>,
    /// Called when a watchdog begins to look: the green hub's.
    pub(super) on_watched: RefCell<Option<Hook>>,
    inbox: Arc<Inbox>,
    pub(super) triggers: Triggers,
    pub(super) state: Cell<State>,
    pub(super) stop_asked: Cell<bool>,
    pub(super) phase_due: Cell<bool>,
    /// `run_loop` is on some stack of this thread.
    looping: Cell<bool>,
    pub(super) crashed: Cell<bool>,
    birthplace: Birthplace,
    pub(super) close_asked: Cell<bool>,
    pub(super) ending: Cell<bool>,
    pub(super) signals: Cell<bool>,
    pub(super) listening: RefCell<Option<Listening>>,
    pub(super) tasks: RefCell<Tasks>,
    pool: OnceCell<Rc<Pool>>,
    /// Pools of others, which end with the reactor.
    pub(super) more_pools: RefCell<Vec<Rc<Pool>>>,
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
                turn_clock: Cell::new(now),
                keeps_time: Cell::new(false),
                pulse: Pulse::new(),
                watched: RefCell::default(),
                on_watched: RefCell::default(),
                inbox,
                triggers: Triggers::default(),
                state: Cell::new(State::Idle),
                stop_asked: Cell::new(false),
                phase_due: Cell::new(false),
                looping: Cell::new(false),
                crashed: Cell::new(false),
                birthplace: Birthplace::here(),
                close_asked: Cell::new(false),
                ending: Cell::new(false),
                signals: Cell::new(true),
                listening: RefCell::default(),
                tasks: RefCell::default(),
                pool: OnceCell::new(),
                more_pools: RefCell::default(),
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

    /// The present instant as timers are set by it: read once a callback, and always anew outside the loop.
    pub(crate) fn now(&self) -> Instant {
        if self.pulse.take_stale() || !self.looping.get() {
            self.clock.set(self.driver.borrow().now());
        }
        self.clock.get()
    }
    /// The present instant, read now.
    pub(crate) fn fresh_now(&self) -> Instant {
        self.pulse.set_stale();
        self.now()
    }
    /// The instant at which the last poll returned; outside of the loop, and where nobody has asked for the time in this
    /// turn, the present one.
    pub(crate) fn turn_now(&self) -> Instant {
        if self.looping.get() && self.timers.len() > 0 { self.turn_clock.get() } else { self.fresh_now() }
    }
    #[track_caller]
    pub(crate) fn schedule(&self, delay: Duration, call: Box<dyn FnOnce()>) -> DelayedCall {
        self.schedule_from(Location::caller(), delay, call)
    }
    /// As `schedule`, for somebody at `site`.
    pub(crate) fn schedule_from(
        &self,
        site: &'static Location<'static>,
        delay: Duration,
        call: Box<dyn FnOnce()>,
    ) -> DelayedCall {
        if matches!(self.state.get(), State::Finished | State::Closed) {
            return DelayedCall::inactive();
        }
        self.timers.insert(self.now().checked_add(delay), call, site)
    }
    /// As `schedule_from`, and from the present instant: a green thread may have computed for long since anybody looked at the
    /// clock, and what it waits for must not be late before it began.
    #[cfg(feature = "green")]
    pub(crate) fn schedule_from_now(
        &self,
        site: &'static Location<'static>,
        delay: Duration,
        call: Box<dyn FnOnce()>,
    ) -> DelayedCall {
        self.pulse.set_stale();
        self.schedule_from(site, delay, call)
    }
    /// The clock as it was read last: of the present turn or one a little earlier, once somebody has asked to keep time.
    #[inline]
    #[cfg(feature = "green")]
    pub(crate) fn recent(&self) -> Instant {
        self.clock.get()
    }
    #[cfg(feature = "green")]
    pub(crate) fn keep_time(&self) {
        self.keeps_time.set(true);
        self.fresh_now();
    }
    #[inline]
    #[cfg(feature = "green")]
    pub(crate) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }
    /// As `schedule`, for housekeeping: whoever waits while nothing else can happen waits for ever.
    #[track_caller]
    #[cfg(feature = "green")]
    pub(crate) fn schedule_in_background(&self, delay: Duration, call: Box<dyn FnOnce()>) -> DelayedCall {
        if matches!(self.state.get(), State::Finished | State::Closed) {
            return DelayedCall::inactive();
        }
        self.timers.insert_in_background(self.now().checked_add(delay), call, Location::caller())
    }
    /// Whether this is a child of `fork`, and the reactor is its parent's.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.birthplace != Birthplace::here()
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
        self.pool.get_or_init(|| Rc::new(Pool::new(THREADS)))
    }
    /// Another pool, of `threads` at most.
    #[cfg(feature = "green")]
    pub(crate) fn add_pool(&self, threads: usize) -> Rc<Pool> {
        let pool = Rc::new(Pool::new(threads));
        self.more_pools.borrow_mut().push(Rc::clone(&pool));
        pool
    }
    /// Forgets one that has nothing left to do.
    #[cfg(feature = "green")]
    pub(crate) fn remove_pool(&self, pool: &Rc<Pool>) {
        self.more_pools.borrow_mut().retain(|other| !Rc::ptr_eq(other, pool));
    }
    pub(super) fn existing_pools(&self) -> Vec<Rc<Pool>> {
        self.pool.get().into_iter().chain(&*self.more_pools.borrow()).cloned().collect()
    }
    pub(crate) fn is_closed(&self) -> bool {
        self.state.get() == State::Closed
    }
    pub(crate) fn set_idle_hook(&self, idle: Option<Hook>) {
        let old = self.idle.replace(idle);
        drop(old);
    }
    #[cfg(feature = "green")]
    pub(crate) fn set_watch_hook(&self, hook: Hook) {
        let old = self.on_watched.replace(Some(hook));
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
    #[cfg(feature = "green")]
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
    /// Whether its end has begun: nothing more is going to be called.
    #[cfg(feature = "tls")]
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.get()
    }
    pub(crate) fn add_end_hook(&self, call: Box<dyn FnOnce()>) {
        self.at_end.borrow_mut().push(call);
    }
}
