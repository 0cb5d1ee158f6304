//! One green thread as the hub sees it: its state, what interrupts it, how the loop resumes it.
//!
//! `resume` is what the loop does with it; `wait` has the protocol of waiting, through which all waiting of the crate goes;
//! `waiters` a line of those who wait.
//! Interruptions (a kill, a deadline) only mark the green thread and put it into the reactor's queue; it unwinds itself, from
//! the frame where it waits. What must never happen here: user code run while something is borrowed.
pub(in crate::green) mod remote_waker;
mod resume;
mod seen;
mod stubborn;
mod wait;
mod waiters;

pub(crate) use stubborn::{give_up_running, park_stubbornly};
pub(crate) use wait::{Wait, Waiter, prepare, prepare_at, yield_once};
pub(crate) use waiters::Waiters;

use super::hub::Hub;
use super::hub::seen::{LOOP, MAIN};
use super::local::Store;
use super::proc::LinkedExited;
use crate::clock::DelayedCall;
use crate::error::Killed;
use crate::failure::{self, Failure, ForcedUnwind, Result};
use crate::greenlet::Greenlet;
use std::cell::{Cell, RefCell};
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::time::Instant;

/// A green thread that swallows the unwinding of its kill this often is given up; a deadline swallowed as often is dropped.
const PATIENCE: u32 = 1000;
/// The token of a kill; deadlines have others.
const KILL: u64 = 0;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Unstarted,
    Running,
    /// It is about to park: a wake-up is noted, and it does not park.
    Preparing,
    Parked,
    /// In the reactor's queue.
    Queued,
    Finished,
    /// Given up: its stack stays, and nobody resumes it.
    Leaked,
}

/// Who is told when a green thread ends without its body: the packet of its handle.
pub(super) trait Outlet {
    fn ended_by(&self, failure: Failure);
}

pub(crate) struct Task {
    hub: Rc<Hub>,
    /// Who is resumed; out while it runs.
    greenlet: Cell<Option<Greenlet>>,
    state: Cell<State>,
    /// The wait that goes on, or the last; each has its number.
    wait: Cell<u64>,
    woken: Cell<bool>,
    /// Which of several things it waited for woke it.
    branch: Cell<u32>,
    /// It was the wait's own time limit that woke it.
    late: Cell<bool>,
    killed: Cell<bool>,
    /// Killed, or a deadline has passed: the next wait unwinds.
    interrupted: Cell<bool>,
    /// It waits for what borrows from its stack: interruptions are kept for later.
    shielded: Cell<bool>,
    raised: Cell<u32>,
    /// Deadlines that have passed, in that order, whose scopes are not left yet.
    expired: RefCell<Vec<u64>>,
    /// The wait cannot go on.
    fault: Cell<Option<Failure>>,
    /// What a kill makes of its outcome, where that is not `Killed`.
    cause: Cell<Option<Failure>>,
    reason: Cell<&'static str>,
    site: Cell<&'static Location<'static>>,
    spawned: Cell<&'static Location<'static>>,
    /// What tells it from all others, and that of who spawned it.
    id: Cell<u64>,
    parent: Cell<u64>,
    /// When it was spawned or began to wait, by the clock of that turn.
    since: Cell<Instant>,
    /// Watchdogs know its name.
    shown: Cell<bool>,
    name: RefCell<Option<Rc<str>>>,
    /// Its seat in the hub's list, kept from one life to the next.
    key: Cell<usize>,
    /// The pool whose job it is, by its address; 0 where it is none's.
    pool: Cell<usize>,
    /// Its green-local values, once it has any.
    locals: Cell<Option<Rc<Store>>>,
    /// They are being dropped: waits that a kill interrupts return.
    cleaning: Cell<bool>,
    has_locals: Cell<bool>,
    /// A handle's packet is there, and will call `retire` when it goes.
    held: Cell<bool>,
    /// It borrows from the stack of another, and ends before that one.
    scoped: Cell<bool>,
    /// Something out of the ordinary happened to it: its memory is not used again.
    marked: Cell<bool>,
    /// When it is to start, where that is not at once.
    start: Cell<Option<DelayedCall>>,
    /// Alive as long as the body is.
    outlet: Cell<Option<Weak<dyn Outlet>>>,
}

impl Task {
    pub(super) fn new(hub: &Rc<Hub>, spawned: &'static Location<'static>) -> Rc<Task> {
        if let Some(task) = hub.spare()
            && Task::is_alone(&task)
        {
            task.state.set(State::Unstarted);
            task.reason.set("nothing");
            task.site.set(spawned);
            task.spawned.set(spawned);
            task.id.set(hub.number());
            task.parent.set(hub.spawner());
            task.since.set(hub.core().recent());
            return task;
        }
        Task::made(hub, spawned, hub.number())
    }
    fn made(hub: &Rc<Hub>, spawned: &'static Location<'static>, id: u64) -> Rc<Task> {
        Rc::new(Task {
            hub: Rc::clone(hub),
            greenlet: Cell::new(None),
            state: Cell::new(State::Unstarted),
            wait: Cell::new(0),
            woken: Cell::new(false),
            branch: Cell::new(0),
            late: Cell::new(false),
            killed: Cell::new(false),
            interrupted: Cell::new(false),
            shielded: Cell::new(false),
            raised: Cell::new(0),
            expired: RefCell::new(Vec::new()),
            fault: Cell::new(None),
            cause: Cell::new(None),
            reason: Cell::new("nothing"),
            site: Cell::new(spawned),
            spawned: Cell::new(spawned),
            id: Cell::new(id),
            parent: Cell::new(if id == MAIN { LOOP } else { hub.spawner() }),
            since: Cell::new(hub.core().recent()),
            shown: Cell::new(false),
            name: RefCell::new(None),
            key: Cell::new(usize::MAX),
            pool: Cell::new(0),
            locals: Cell::new(None),
            cleaning: Cell::new(false),
            has_locals: Cell::new(false),
            held: Cell::new(false),
            scoped: Cell::new(false),
            marked: Cell::new(false),
            start: Cell::new(None),
            outlet: Cell::new(None),
        })
    }
    /// MAIN, where it blocks like a green thread.
    #[track_caller]
    pub(super) fn main(hub: &Rc<Hub>) -> Rc<Task> {
        let task = Task::made(hub, Location::caller(), MAIN);
        task.state.set(State::Running);
        task
    }
    /// Gives it its greenlet and a place in the hub's list.
    pub(super) fn equip(self: &Rc<Self>, greenlet: Greenlet, outlet: Option<Weak<dyn Outlet>>) {
        self.greenlet.set(Some(greenlet));
        self.outlet.set(outlet);
        if self.key.get() == usize::MAX {
            self.key.set(self.hub.enlist(Rc::clone(self)));
        }
    }
    pub(super) fn hub(&self) -> &Rc<Hub> {
        &self.hub
    }
    pub(super) fn state(&self) -> State {
        self.state.get()
    }
    pub(super) fn pool(&self) -> &Cell<usize> {
        &self.pool
    }
    /// Its green-local values.
    pub(super) fn locals(&self) -> Rc<Store> {
        self.has_locals.set(true);
        let store = self.locals.take().unwrap_or_default();
        self.locals.set(Some(Rc::clone(&store)));
        store
    }
    /// Drops its green-local values, on its own stack. They cannot be had again.
    #[inline]
    pub(super) fn drop_locals(&self) {
        if self.has_locals.get() {
            self.clear_locals();
        }
    }
    #[cold]
    fn clear_locals(&self) {
        if let Some(store) = self.locals.take() {
            self.locals.set(Some(Rc::clone(&store)));
            self.cleaning.set(true);
            store.clear(&format!("a green-local value of {}", self.name()));
            self.cleaning.set(false);
        }
    }
    /// Whether its code runs now.
    pub(super) fn is_running(self: &Rc<Self>) -> bool {
        self.hub.running().is_some_and(|running| Rc::ptr_eq(&running, self))
    }
    /// Whether it is MAIN: the one that nobody spawned.
    pub(super) fn is_main(&self) -> bool {
        self.key.get() == usize::MAX && !matches!(self.state.get(), State::Unstarted | State::Finished | State::Leaked)
    }
    pub(super) fn set_name(self: &Rc<Self>, name: &str) {
        self.marked.set(true);
        let name: Rc<str> = Rc::from(name);
        match self.greenlet.take() {
            Some(greenlet) => {
                greenlet.set_name(Rc::clone(&name));
                self.greenlet.set(Some(greenlet));
            }
            None if self.is_running() => Greenlet::current().set_name(Rc::clone(&name)),
            None => {}
        }
        let old = self.name.replace(Some(name));
        drop(old);
    }
    /// What reports call it.
    pub(super) fn name(&self) -> String {
        match &*self.name.borrow() {
            Some(name) => format!("green thread '{name}'"),
            None if self.is_main() => "MAIN".to_owned(),
            None => format!("the green thread spawned at {}", self.spawned.get()),
        }
    }
    /// Its name and the place it was spawned at.
    pub(super) fn described(&self) -> String {
        match &*self.name.borrow() {
            Some(name) => format!("green thread '{name}', spawned at {}", self.spawned.get()),
            None => format!("the green thread spawned at {}", self.spawned.get()),
        }
    }
    /// Tells of a failure that nobody saw, unless somebody asked for it.
    pub(super) fn report_unobserved(&self, failure: &Failure) {
        if let Some(LinkedExited::Completed { .. } | LinkedExited::Killed { .. }) = failure.check() {
            return;
        }
        failure::report_unobserved(self.described(), failure);
    }
    pub(super) fn start_soon(self: &Rc<Self>) {
        self.hub.queue(Rc::clone(self));
    }
    pub(super) fn start_at(&self, call: DelayedCall) {
        self.marked.set(true);
        self.start.set(Some(call));
    }
    /// The last of what it owns: values that a link or the destructor of its outcome made, too.
    #[inline]
    pub(super) fn drop_last_locals(&self) {
        if self.has_locals.replace(false) {
            self.clear_locals();
            drop(self.locals.take());
        }
    }
    /// Its body is done, and so is everything it owned; the stack is about to be left for the last time.
    pub(super) fn finished(&self) {
        self.state.set(State::Finished);
    }
    /// It was spawned where nothing can run: no stack, or no reactor any more.
    pub(super) fn refused(&self) {
        self.state.set(State::Finished);
        if !self.held.get() {
            self.leave();
        }
    }
    /// The outcome of a body that was unwound by a kill is the reason of the kill.
    pub(super) fn verdict<T>(&self, outcome: Result<T>) -> Result<T> {
        match outcome {
            Err(failure) if self.killed.get() && failure.is::<Killed>() => Err(self.cause.take().unwrap_or(failure)),
            outcome => outcome,
        }
    }

    /// Throws a kill into it: at its present wait, or the next. One that never ran never will (D7). A green thread that
    /// kills itself unwinds here.
    pub(super) fn kill(self: &Rc<Self>) {
        self.kill_because(None);
    }
    /// A kill that makes `cause` of its outcome.
    pub(super) fn kill_because(self: &Rc<Self>, cause: Option<Failure>) {
        let state = self.state.get();
        if matches!(state, State::Finished | State::Leaked) {
            return;
        }
        self.marked.set(true);
        let again = self.killed.replace(true);
        if !again {
            self.cause.set(cause);
        }
        self.interrupted.set(!self.shielded.get());
        match state {
            State::Unstarted if !again => {
                self.forget_start();
                self.start_soon();
            }
            State::Parked if !self.shielded.get() => self.resume_soon(),
            State::Running if self.is_running() => {
                // An error means that it is unwinding already, and then it need not be told.
                let _ = self.raise(KILL);
            }
            _ => {}
        }
    }
    fn forget_start(&self) {
        if let Some(start) = self.start.take() {
            start.cancel();
        }
    }
    /// A deadline of its passed.
    pub(super) fn expire(self: &Rc<Self>, token: u64) {
        self.marked.set(true);
        self.expired.borrow_mut().push(token);
        self.interrupted.set(!self.shielded.get());
        if self.state.get() == State::Parked && !self.shielded.get() {
            self.resume_soon();
        }
    }
    /// A deadline has passed, and its scope is not left yet.
    pub(super) fn has_expired(&self, token: u64) -> bool {
        self.expired.borrow().contains(&token)
    }
    /// The deadline's scope is left.
    pub(super) fn forget_deadline(&self, token: u64) {
        let mut expired = self.expired.borrow_mut();
        expired.retain(|expired| *expired != token);
        self.interrupted.set(!self.shielded.get() && (self.killed.get() || !expired.is_empty()));
        if !self.killed.get() {
            self.raised.set(0);
        }
    }
    /// Its present wait cannot end otherwise.
    pub(super) fn fault(self: &Rc<Self>, failure: Failure) {
        self.marked.set(true);
        if self.state.get() == State::Parked {
            let old = self.fault.replace(Some(failure));
            drop(old);
            self.resume_soon();
        }
    }
    #[inline]
    fn resume_soon(self: &Rc<Self>) {
        self.state.set(State::Queued);
        self.hub.queue(Rc::clone(self));
    }
    /// MAIN calls the loop by hand, and goes on here when that has ended.
    pub(super) fn will_return_here(&self) {
        self.greenlet.set(Some(Greenlet::current()));
    }
    /// The loop ends, on its own greenlet, and MAIN goes on: at the wait it is in, which fails unless it has been woken.
    pub(super) fn is_left_alone(&self, failure: Failure) {
        if self.state.get() == State::Parked {
            let old = self.fault.replace(Some(failure));
            drop(old);
        }
        if let Some(greenlet) = self.greenlet.take() {
            Greenlet::current().set_parent_managed(&greenlet);
        }
    }

    /// Unwinds this green thread from where it stands. Returns only where that cannot be: while it unwinds already, and
    /// in programs built to abort on panic.
    fn raise(self: &Rc<Self>, token: u64) -> Result<()> {
        let interruption = || if token == KILL { Failure::from(Killed) } else { Failure::from(Interrupted) };
        if std::thread::panicking() || self.cleaning.get() || cfg!(panic = "abort") {
            return Err(interruption());
        }
        self.raised.set(self.raised.get() + 1);
        if self.raised.get() > PATIENCE {
            if token != KILL {
                log::error!(target: "twistlet", "{} swallows a deadline for ever: it goes on without", self.described());
                self.forget_deadline(token);
                return Ok(());
            }
            if self.is_main() {
                return Err(interruption());
            }
            log::error!(target: "twistlet", "{} swallows its kill for ever; its stack is leaked", self.described());
            self.give_up()?;
        }
        std::panic::resume_unwind(Box::new(ForcedUnwind::new(token)));
    }
    fn interruption(&self) -> Option<u64> {
        if !self.interrupted.get() {
            return None;
        }
        if self.killed.get() {
            return Some(KILL);
        }
        self.expired.borrow().first().copied()
    }

    /// The reactor ends: this one is unwound, or dropped unrun.
    pub(super) fn end(self: &Rc<Self>, may_switch: bool) {
        self.marked.set(true);
        self.killed.set(true);
        self.interrupted.set(!self.shielded.get());
        self.forget_start();
        match self.state.get() {
            State::Unstarted => self.clone().resume(),
            State::Parked | State::Queued if may_switch => {
                if let Some(greenlet) = self.greenlet.take() {
                    // The loop it would return to may be gone.
                    if greenlet.is_managed() {
                        greenlet.set_parent_managed(&Greenlet::current());
                    }
                    self.greenlet.set(Some(greenlet));
                }
                self.clone().resume();
            }
            State::Finished => self.leave(),
            _ => {}
        }
    }
    /// Its stack is never freed, since it has frames that nobody unwound.
    pub(super) fn leak(self: &Rc<Self>) {
        self.state.set(State::Leaked);
        std::mem::forget((self.greenlet.take(), self.locals.take()));
        self.tell_outlet();
    }
    /// The OS thread ends: the closure of one that never ran is dropped, a suspended stack stays.
    pub(super) fn abandon(&self) {
        if self.state.get() == State::Finished {
            return;
        }
        let started = self.state.replace(State::Leaked) != State::Unstarted;
        let greenlet = self.greenlet.take();
        if started {
            std::mem::forget((greenlet, self.locals.take()));
        } else {
            self.state.set(State::Finished);
            failure::drop_quietly(greenlet);
        }
    }
    fn never_ran(self: &Rc<Self>) {
        self.state.set(State::Finished);
        let outlet = self.outlet.take().and_then(|outlet| outlet.upgrade());
        let greenlet = self.greenlet.take();
        // The closure is dropped, which is user code, before anybody hears of the end.
        if let Err(failure) = failure::catch(move || drop(greenlet)) {
            failure::report(format_args!("the destructor of a closure, {}", self.name()), &failure);
        }
        if let Some(outlet) = outlet {
            outlet.ended_by(self.cause.take().unwrap_or_else(|| Killed.into()));
        }
        self.hub.delist(self.key.replace(usize::MAX));
    }
    fn tell_outlet(&self) {
        if let Some(outlet) = self.outlet.take().and_then(|outlet| outlet.upgrade()) {
            outlet.ended_by(self.cause.take().unwrap_or_else(|| Killed.into()));
        }
    }
}

/// What a blocking call gets in place of an unwinding that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interrupted;
impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the wait was interrupted by a deadline of the green thread")
    }
}
impl std::error::Error for Interrupted {}
