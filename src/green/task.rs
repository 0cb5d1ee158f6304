//! One green thread as the hub sees it, and the protocol of waiting: `prepare`, tell somebody the `Waiter`, `park`.
//!
//! Each wait has an identity, so that a late wake-up of an earlier wait does nothing. A wake-up only puts the green thread into
//! the reactor's queue (G1). One that came before a kill or a deadline wins: what was handed over is never lost, and the
//! interruption comes at the next wait. All waiting of the crate goes through here.
use super::hub::Hub;
use super::thread::Unrun;
use crate::error::{Killed, ReactorError};
use crate::failure::{self, Failure, ForcedUnwind, Result};
use crate::greenlet::Greenlet;
use crate::reactor::Runnable;
use std::cell::{Cell, RefCell};
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::time::Duration;

/// A green thread that was killed and swallows the unwinding this often is given up.
const KILL_PATIENCE: u32 = 1000;
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

pub(crate) struct Task {
    hub: Rc<Hub>,
    /// Who is resumed; out while it runs.
    greenlet: Cell<Option<Greenlet>>,
    state: Cell<State>,
    wait: Cell<u64>,
    woken: Cell<bool>,
    killed: Cell<bool>,
    raised: Cell<u32>,
    /// Deadlines that have passed, in that order, not yet delivered.
    expired: RefCell<Vec<u64>>,
    /// The wait cannot go on.
    fault: RefCell<Option<Failure>>,
    reason: Cell<&'static str>,
    site: Cell<&'static Location<'static>>,
    spawned: &'static Location<'static>,
    name: RefCell<Option<Rc<str>>>,
    key: Cell<usize>,
    /// Told when it was killed before it ran: the packet of its handle.
    unrun: RefCell<Option<Weak<dyn Unrun>>>,
}

impl Task {
    pub(super) fn new(hub: &Rc<Hub>, spawned: &'static Location<'static>) -> Rc<Task> {
        Rc::new(Task {
            hub: Rc::clone(hub),
            greenlet: Cell::new(None),
            state: Cell::new(State::Unstarted),
            wait: Cell::new(0),
            woken: Cell::new(false),
            killed: Cell::new(false),
            raised: Cell::new(0),
            expired: RefCell::default(),
            fault: RefCell::default(),
            reason: Cell::new("nothing"),
            site: Cell::new(spawned),
            spawned,
            name: RefCell::default(),
            key: Cell::new(usize::MAX),
            unrun: RefCell::default(),
        })
    }
    /// MAIN, in implicit mode.
    #[track_caller]
    pub(super) fn main(hub: &Rc<Hub>) -> Rc<Task> {
        let task = Task::new(hub, Location::caller());
        task.greenlet.set(Some(Greenlet::current()));
        task.state.set(State::Running);
        task.name.replace(Some(Rc::from("MAIN")));
        task
    }
    /// Gives it its greenlet and a place in the hub's list.
    pub(super) fn equip(self: &Rc<Self>, greenlet: Greenlet) {
        self.greenlet.set(Some(greenlet));
        self.key.set(self.hub.enlist(Rc::clone(self)));
    }
    pub(super) fn state(&self) -> State {
        self.state.get()
    }
    pub(super) fn spawned(&self) -> &'static Location<'static> {
        self.spawned
    }
    pub(super) fn set_name(&self, name: &str) {
        let name: Rc<str> = Rc::from(name);
        if let Some(greenlet) = self.greenlet.take() {
            greenlet.set_name(Rc::clone(&name));
            self.greenlet.set(Some(greenlet));
        }
        let old = self.name.replace(Some(name));
        drop(old);
    }
    pub(super) fn name(&self) -> String {
        match &*self.name.borrow() {
            Some(name) => format!("green thread '{name}'"),
            None => format!("the green thread spawned at {}", self.spawned),
        }
    }
    /// What it waits for, and where.
    pub(super) fn parked(&self) -> Option<(&'static str, &'static Location<'static>)> {
        (self.state.get() == State::Parked).then(|| (self.reason.get(), self.site.get()))
    }
    /// Told if it never runs. The packet is alive as long as the body is.
    pub(super) fn set_unrun(&self, packet: Weak<dyn Unrun>) {
        *self.unrun.borrow_mut() = Some(packet);
    }
    pub(super) fn start_soon(self: &Rc<Self>) {
        self.hub.core().run_soon(self.clone());
    }
    /// Its body is done; the stack is about to be left for the last time.
    pub(super) fn finished(&self) {
        self.state.set(State::Finished);
    }

    /// Throws a kill into it: at its present wait, or the next. One that never ran never will (D7). A green thread that
    /// kills itself unwinds here.
    pub(super) fn kill(self: &Rc<Self>) {
        match self.state.get() {
            State::Finished | State::Leaked => {}
            State::Unstarted => {
                self.killed.set(true);
                self.start_soon();
            }
            State::Parked => {
                self.killed.set(true);
                self.resume_soon();
            }
            State::Queued | State::Preparing => self.killed.set(true),
            State::Running => {
                self.killed.set(true);
                if self.hub.running().is_some_and(|running| Rc::ptr_eq(&running, self)) {
                    // An error means that it is unwinding already, and then it need not be told.
                    let _ = self.raise(KILL);
                }
            }
        }
    }
    /// A deadline of its passed.
    pub(super) fn expire(self: &Rc<Self>, token: u64) {
        self.expired.borrow_mut().push(token);
        if self.state.get() == State::Parked {
            self.resume_soon();
        }
    }
    /// The deadline's scope is left.
    pub(super) fn forget_deadline(&self, token: u64) {
        self.expired.borrow_mut().retain(|expired| *expired != token);
    }
    /// Its present wait cannot end otherwise.
    pub(super) fn fault(self: &Rc<Self>, failure: Failure) {
        if self.state.get() == State::Parked {
            let old = self.fault.replace(Some(failure));
            drop(old);
            self.resume_soon();
        }
    }
    fn resume_soon(self: &Rc<Self>) {
        self.state.set(State::Queued);
        self.hub.core().run_soon(self.clone());
    }

    /// Unwinds this green thread from where it stands. Returns only where that cannot be: while it unwinds already, and
    /// in programs built to abort on panic.
    fn raise(&self, token: u64) -> Result<()> {
        let interruption = || if token == KILL { Failure::from(Killed) } else { Failure::from(Interrupted) };
        if std::thread::panicking() || cfg!(panic = "abort") {
            return Err(interruption());
        }
        if token == KILL {
            self.raised.set(self.raised.get() + 1);
            if self.raised.get() > KILL_PATIENCE {
                log::error!(target: "twistlet", "{} swallows its kill for ever; its stack is leaked", self.name());
                self.state.set(State::Leaked);
                self.hub.delist(self.key.get());
                loop {
                    // Nobody resumes a leaked one.
                    self.hub.leave();
                    self.hub.switch_to_loop()?;
                }
            }
        }
        std::panic::resume_unwind(Box::new(ForcedUnwind { token }));
    }
    fn interruption(&self) -> Option<u64> {
        if self.killed.get() {
            return Some(KILL);
        }
        self.expired.borrow().first().copied()
    }

    /// The reactor ends: this one is unwound, or dropped unrun. `here`: on the loop's greenlet.
    pub(super) fn end(self: &Rc<Self>, here: bool) {
        self.killed.set(true);
        match self.state.get() {
            State::Unstarted => self.clone().run(),
            State::Parked | State::Queued if here => self.clone().run(),
            State::Finished => self.hub.delist(self.key.get()),
            _ => {}
        }
    }
    /// Its stack is never freed, since it has frames that nobody unwound.
    pub(super) fn leak(&self) {
        self.state.set(State::Leaked);
        std::mem::forget(self.greenlet.take());
    }

    fn never_ran(self: &Rc<Self>) {
        self.state.set(State::Finished);
        let packet = self.unrun.take().and_then(|packet| packet.upgrade());
        let greenlet = self.greenlet.take();
        // The closure is dropped, which is user code, before anybody hears of the end.
        if let Err(failure) = failure::catch(move || drop(greenlet)) {
            failure::report(format_args!("the destructor of a closure, {}", self.name()), &failure);
        }
        if let Some(packet) = packet {
            packet.never_ran();
        }
        self.hub.delist(self.key.get());
    }
}

/// The loop resumes it.
impl Runnable for Task {
    fn run(self: Rc<Self>) {
        match self.state.get() {
            State::Unstarted if self.killed.get() => return self.never_ran(),
            State::Unstarted => {}
            State::Queued => {}
            // At the end they are resumed without having been woken.
            State::Parked if self.hub.is_stopped() => {}
            _ => return,
        }
        if Greenlet::thread_is_over() {
            // Run in a destructor of a thread-local: what green threads use of others may be destroyed.
            return self.hub.core().crash();
        }
        let Some(greenlet) = self.greenlet.take() else { return };
        self.hub.loop_is_here();
        if self.state.replace(State::Running) == State::Unstarted {
            // Whoever spawned it, it returns to the loop (HB-06).
            greenlet.set_parent_managed(&Greenlet::current());
        }
        self.hub.enter(Rc::clone(&self));
        greenlet.transfer();
        drop(self.hub.leave());
        if self.state.get() == State::Finished {
            self.hub.delist(self.key.get());
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

/// A wait that begins: made by the green thread that is going to wait.
pub(crate) struct Wait {
    task: Rc<Task>,
    id: u64,
    site: &'static Location<'static>,
}

/// What whoever ends the wait holds.
#[derive(Clone)]
pub(crate) struct Waiter {
    task: Rc<Task>,
    id: u64,
}

/// Begins a wait.
///
/// # Errors
/// `Killed` while the green thread unwinds (G5); `ReactorError::Stopped`.
///
/// # Panics
/// In the main loop and its callbacks (G3). Unwinds when the green thread has been killed or a deadline has passed.
#[track_caller]
pub(crate) fn prepare() -> Result<Wait> {
    let site = Location::caller();
    let Some(hub) = Hub::current() else { return Err(ReactorError::Stopped.into()) };
    let Some(task) = hub.running() else { return Err(cannot_block(site)) };
    if crate::shared::is_inside_call() {
        return Err(cannot_block(site));
    }
    if hub.is_stopped() && !task.killed.get() {
        return Err(ReactorError::Stopped.into());
    }
    if std::thread::panicking() {
        // Never switch while unwinding: every other green thread would see a thread that panics.
        return Err(Killed.into());
    }
    if let Some(token) = task.interruption() {
        task.raise(token)?;
    }
    let id = task.wait.get() + 1;
    task.wait.set(id);
    task.woken.set(false);
    task.state.set(State::Preparing);
    Ok(Wait { task, id, site })
}

#[cold]
fn cannot_block(site: &'static Location<'static>) -> Failure {
    if std::thread::panicking() {
        return Killed.into();
    }
    panic!(
        "a blocking call in the main loop, at {site}: a callback must return at once. Run this in a green thread, by \
         defer_to_green_thread() or spawn(), or use what does not wait (poll, try_*, a Deferred's add_callback)"
    );
}

impl Wait {
    /// For whoever is to end the wait.
    pub(crate) fn waiter(&self) -> Waiter {
        Waiter { task: Rc::clone(&self.task), id: self.id }
    }
    /// Whether it has been woken; a hand-over to it counts then.
    pub(crate) fn is_woken(&self) -> bool {
        self.task.wait.get() == self.id && self.task.woken.get()
    }
    /// Suspends this green thread until its waiter is woken; at once when it has been. `reason` is for people.
    ///
    /// # Errors
    /// `Deadlock` on MAIN, `ReactorError::Stopped`, and what `prepare` says. Unwinds when the green thread is killed or a
    /// deadline passes.
    pub(crate) fn park(&self, reason: &'static str) -> Result<()> {
        let task = &self.task;
        if !task.woken.get() {
            task.reason.set(reason);
            task.site.set(self.site);
            task.state.set(State::Parked);
            // Perhaps a raw greenlet of the user's, on top of this green thread: it is who waits.
            task.greenlet.set(Some(Greenlet::current()));
            drop(task.hub.leave());
            loop {
                let switched = task.hub.switch_to_loop();
                if task.state.get() == State::Running {
                    break;
                }
                if switched.is_err() || task.hub.is_stopped() {
                    // MAIN, and the loop has ended.
                    task.hub.enter(Rc::clone(task));
                    break;
                }
                // Somebody switched here by hand: the wait goes on.
            }
        }
        task.state.set(State::Running);
        if task.woken.get() {
            return Ok(());
        }
        // From here on a wake-up of this wait is late.
        task.wait.set(self.id + 1);
        if let Some(failure) = task.fault.take() {
            return Err(failure);
        }
        match task.interruption() {
            Some(token) => task.raise(token),
            None => Err(ReactorError::Stopped.into()),
        }
    }
    /// As `park`, until `limit` has passed. `false`: it has, and nobody woke it.
    pub(crate) fn park_timeout(&self, reason: &'static str, limit: Option<Duration>) -> Result<bool> {
        let Some(limit) = limit else { return self.park(reason).map(|()| true) };
        let late = Rc::new(Cell::new(false));
        let timer = {
            let (waiter, late) = (self.waiter(), Rc::clone(&late));
            let call = Box::new(move || late.set(waiter.wake()));
            CancelOnDrop(self.task.hub.core().schedule(limit, call))
        };
        self.park(reason)?;
        drop(timer);
        Ok(!late.get())
    }
}
impl Drop for Wait {
    fn drop(&mut self) {
        if self.task.state.get() == State::Preparing && self.task.wait.get() == self.id {
            self.task.state.set(State::Running);
        }
        if self.task.wait.get() == self.id {
            self.task.wait.set(self.id + 1);
        }
    }
}

struct CancelOnDrop(crate::clock::DelayedCall);
impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Waiter {
    /// Ends the wait. `false`: it had ended already, and whoever meant to hand something over keeps it.
    pub(crate) fn wake(&self) -> bool {
        let task = &self.task;
        if task.wait.get() != self.id || task.woken.get() {
            return false;
        }
        match task.state.get() {
            State::Preparing => {
                task.woken.set(true);
                true
            }
            State::Parked => {
                task.woken.set(true);
                task.resume_soon();
                true
            }
            _ => false,
        }
    }
    /// Whether the wait still goes on.
    pub(crate) fn is_waiting(&self) -> bool {
        let task = &self.task;
        task.wait.get() == self.id && !task.woken.get() && matches!(task.state.get(), State::Preparing | State::Parked)
    }
    pub(crate) fn is_same(&self, other: &Waiter) -> bool {
        self.id == other.id && Rc::ptr_eq(&self.task, &other.task)
    }
    /// Who waits, for messages.
    pub(crate) fn who(&self) -> String {
        self.task.name()
    }
}

/// Lets everybody else who is ready run once.
#[track_caller]
pub(crate) fn yield_once() -> Result<()> {
    let wait = prepare()?;
    let task = &wait.task;
    task.reason.set("its turn");
    task.site.set(wait.site);
    task.woken.set(true);
    task.state.set(State::Queued);
    task.greenlet.set(Some(Greenlet::current()));
    task.hub.core().run_soon(task.clone());
    drop(task.hub.leave());
    while task.state.get() != State::Running {
        if task.hub.switch_to_loop().is_err() || (task.hub.is_stopped() && task.state.get() != State::Running) {
            task.hub.enter(Rc::clone(task));
            task.state.set(State::Running);
            return Err(ReactorError::Stopped.into());
        }
    }
    match task.interruption() {
        Some(token) => task.raise(token),
        None => Ok(()),
    }
}
