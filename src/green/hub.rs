//! The hub of a thread: which greenlet runs the main loop, which green thread runs now, and how both end.
//!
//! Two modes (G2). Joined: the greenlet that calls `reactor.run()` is the main loop. Implicit: the first blocking call on
//! MAIN starts the loop in a greenlet of its own. Green threads switch with the loop only, and only `task` switches. What must
//! never happen here: a borrow held across a switch.
mod line;
pub(super) mod running;
pub(super) mod seen;

use super::debug;
use super::task::Task;
use crate::error::{Deadlock, ReactorError};
use crate::failure::{self, Result};
use crate::greenlet::{Greenlet, StackError};
use crate::reactor::{Core, Reactor};
use line::Line;
use seen::Seen;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// The implicit loop's stack: callbacks run on it, so it gets what a thread would get. Only touched pages cost memory.
const LOOP_STACK: usize = 2 * 1024 * 1024;
/// So many finished green threads are kept for their memory.
const SPARE_TASKS: usize = 1024;
/// How often a green thread that goes on blocking is unwound again at the end before it is left as it is.
const END_PATIENCE: usize = 100;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    /// Nobody has blocked and no loop has run a green thread.
    Undecided,
    Joined,
    Implicit,
    /// The reactor has ended.
    Stopped,
}

pub(crate) struct Hub {
    core: Rc<Core>,
    mode: Cell<Mode>,
    /// The greenlet of the loop, to which whoever blocks switches.
    main_loop: RefCell<Option<Greenlet>>,
    /// What it is told by, 0 when there is none.
    loop_id: Cell<usize>,
    /// Who is to go on.
    line: Line,
    /// MAIN, which blocks like a green thread in implicit mode.
    main: RefCell<Option<Rc<Task>>>,
    /// Every green thread that has not finished.
    tasks: RefCell<slab::Slab<Rc<Task>>>,
    /// Some that have finished, for their memory.
    spare: RefCell<Vec<Rc<Task>>>,
    next_token: Cell<u64>,
    /// The number of the next green thread that is spawned.
    next_id: Cell<u64>,
    /// What watchdogs on other threads see.
    seen: Arc<Seen>,
}

/// Owns the thread's hub; its destructor runs at the thread's end.
struct Installed(RefCell<Option<Rc<Hub>>>);
impl Drop for Installed {
    fn drop(&mut self) {
        if let Some(hub) = self.0.take() {
            hub.abandon();
        }
    }
}
thread_local! {
    static HUB: Installed = const { Installed(RefCell::new(None)) };
}

/// The calling greenlet becomes the main loop; `reactor.run()` follows (Eventlet's `join_reactor`). Blocking on it is an error
/// from here on, also before `run`.
///
/// ```
/// use twistlet::Reactor;
/// use twistlet::green::{join_reactor, sleep, spawn};
/// use std::time::Duration;
///
/// let reactor = Reactor::new()?;
/// join_reactor(&reactor)?;
/// spawn(move || {
///     sleep(Duration::from_millis(1));
///     reactor.stop()
/// });
/// reactor.run()?;
/// # Ok::<(), twistlet::Failure>(())
/// ```
///
/// # Errors
/// [`ReactorError::Closed`]; [`ReactorError::AlreadyRunning`] when a blocking call has started the loop implicitly.
pub fn join_reactor(reactor: &Reactor) -> Result<()> {
    let hub = Hub::of(&reactor.open()?);
    match hub.mode.get() {
        Mode::Undecided => {
            hub.join();
            Ok(())
        }
        Mode::Joined => Ok(()),
        Mode::Implicit => Err(ReactorError::AlreadyRunning.into()),
        Mode::Stopped => Err(ReactorError::Closed.into()),
    }
}

impl Hub {
    /// This thread's hub, made at first use, as is its reactor. When the reactor has ended, the hub that refuses every wait,
    /// until the program makes another reactor. `None` while the thread ends.
    #[inline]
    pub(super) fn current() -> Option<Rc<Hub>> {
        match Hub::existing() {
            Some(hub) if hub.mode.get() != Mode::Stopped => Some(hub),
            stopped => Hub::fresh(stopped),
        }
    }
    #[cold]
    fn fresh(stopped: Option<Rc<Hub>>) -> Option<Rc<Hub>> {
        HUB.try_with(|_| ()).ok()?;
        match (Core::current(), stopped) {
            (Some(core), _) => Some(Hub::of(&core)),
            (None, Some(stopped)) => Some(stopped),
            (None, None) => Some(Hub::of(&Reactor::current().core()?)),
        }
    }
    /// The hub if there is one already.
    pub(super) fn existing() -> Option<Rc<Hub>> {
        HUB.try_with(|hub| hub.0.borrow().clone()).ok().flatten()
    }
    fn of(core: &Rc<Core>) -> Rc<Hub> {
        if let Some(hub) = Hub::existing()
            && Rc::ptr_eq(&hub.core, core)
        {
            return hub;
        }
        let hub = Rc::new(Hub {
            core: Rc::clone(core),
            mode: Cell::new(Mode::Undecided),
            main_loop: RefCell::default(),
            loop_id: Cell::new(0),
            line: Line::default(),
            main: RefCell::default(),
            tasks: RefCell::default(),
            spare: RefCell::default(),
            next_token: Cell::new(1),
            next_id: Cell::new(seen::FIRST),
            seen: Seen::new(),
        });
        core.keep_time();
        core.pulse().set_names(hub.seen.clone());
        let watched = Rc::downgrade(&hub);
        core.set_watch_hook(Rc::new(move || {
            if let Some(hub) = watched.upgrade() {
                hub.is_watched_now();
            }
        }));
        let ending = Rc::downgrade(&hub);
        core.add_end_hook(Box::new(move || {
            if let Some(hub) = ending.upgrade() {
                hub.end();
            }
        }));
        // MAIN of a reactor that has ended is nobody to the new hub.
        let old = (HUB.with(|current| current.0.replace(Some(Rc::clone(&hub)))), running::take());
        drop(old);
        super::process::adopt(core);
        hub
    }

    pub(super) fn core(&self) -> &Rc<Core> {
        &self.core
    }
    pub(super) fn is_stopped(&self) -> bool {
        self.mode.get() == Mode::Stopped
    }
    /// Whether there is a loop to switch to.
    #[inline]
    pub(super) fn is_under_way(&self) -> bool {
        matches!(self.mode.get(), Mode::Joined | Mode::Implicit)
    }
    /// Whether the loop has a greenlet of its own, beside MAIN's.
    pub(super) fn has_own_loop(&self) -> bool {
        self.mode.get() == Mode::Implicit
    }
    /// A number for one `with_timeout`; 0 is a kill's.
    pub(super) fn token(&self) -> u64 {
        let token = self.next_token.get();
        self.next_token.set(token + 1);
        token
    }

    /// The green thread that runs now, MAIN included where it may block; `None` in the main loop and its callbacks. A raw
    /// `Greenlet` counts as the green thread on top of which it runs.
    #[inline]
    pub(super) fn running(self: &Rc<Self>) -> Option<Rc<Task>> {
        if self.mode.get() == Mode::Undecided && self.core.is_in_loop() {
            return None;
        }
        running::get().or_else(|| self.main_task())
    }
    /// MAIN, where no loop is below it on its stack.
    #[cold]
    fn main_task(self: &Rc<Self>) -> Option<Rc<Task>> {
        match self.mode.get() {
            Mode::Joined | Mode::Implicit => None,
            // After the loop's end whoever would block is told that there is none.
            Mode::Stopped => (!self.core.is_in_loop()).then(|| Task::main(self)),
            Mode::Undecided => {
                let main = Task::main(self);
                running::put(Rc::clone(&main));
                let old = self.main.replace(Some(Rc::clone(&main)));
                drop(old);
                Some(main)
            }
        }
    }

    /// A greenlet that returns to the loop, if there is one yet.
    #[inline]
    pub(super) fn greenlet(
        &self,
        stack_size: Option<usize>,
        body: impl FnOnce() + 'static,
    ) -> Result<Greenlet, StackError> {
        let main_loop = self.main_loop.borrow().clone();
        Greenlet::spawn_managed(stack_size, &main_loop.unwrap_or_else(Greenlet::current), body)
    }
    pub(super) fn loop_id(&self) -> usize {
        self.loop_id.get()
    }

    pub(super) fn enlist(&self, task: Rc<Task>) -> usize {
        self.tasks.borrow_mut().insert(task)
    }
    pub(super) fn delist(&self, key: usize) {
        let task = self.tasks.borrow_mut().try_remove(key);
        drop(task);
    }

    /// Memory for a green thread.
    #[inline]
    pub(super) fn spare(&self) -> Option<Rc<Task>> {
        self.spare.borrow_mut().pop()
    }
    /// One that has finished and that nobody else names.
    pub(super) fn keep_spare(&self, task: &Rc<Task>) -> bool {
        let mut spare = self.spare.borrow_mut();
        let kept = spare.len() < SPARE_TASKS && self.is_under_way();
        if kept {
            spare.push(Rc::clone(task));
        }
        kept
    }

    fn join(&self) {
        self.mode.set(Mode::Joined);
        let old = (self.set_loop(Some(Greenlet::current())), self.main.take(), running::take());
        drop(old);
    }
    /// Called by the loop before it starts a green thread: where there was no decision, this is one; and where another
    /// greenlet than the one that joined runs the reactor, that one is the loop.
    pub(super) fn loop_is_here(&self) {
        let known = || self.main_loop.borrow().as_ref().is_some_and(Greenlet::is_current);
        if self.mode.get() == Mode::Undecided || self.mode.get() == Mode::Joined && !known() {
            self.join();
        }
    }
    pub(super) fn has_loop(&self) -> bool {
        self.loop_id.get() != 0
    }
    /// Whether there is a loop, or who stands in for it, and the caller is not that.
    pub(super) fn can_leave(&self) -> bool {
        self.main_loop.borrow().as_ref().is_some_and(|main_loop| !main_loop.is_current())
    }
    fn set_loop(&self, main_loop: Option<Greenlet>) -> Option<Greenlet> {
        self.loop_id.set(main_loop.as_ref().map_or(0, Greenlet::id));
        self.main_loop.replace(main_loop)
    }

    /// Switches to the loop, starting it when this is MAIN's first wait. Returns when somebody switches back.
    ///
    /// Inlined, as all that lies between a wait and the switch: after one the processor mispredicts every return.
    #[inline(always)]
    pub(super) fn switch_to_loop(self: &Rc<Self>) -> Result<()> {
        // A green thread's way; MAIN and raw greenlets take the longer one.
        if Greenlet::transfer_to_parent(self.loop_id.get()) { Ok(()) } else { self.switch_from_elsewhere() }
    }
    #[inline(never)]
    fn switch_from_elsewhere(self: &Rc<Self>) -> Result<()> {
        if self.mode.get() == Mode::Undecided {
            self.start_loop()?;
        }
        let main_loop = self.main_loop.borrow().clone();
        match main_loop {
            Some(main_loop) => {
                main_loop.transfer();
                Ok(())
            }
            None => Err(ReactorError::Stopped.into()),
        }
    }

    /// Implicit mode: the loop in a greenlet of its own, without signal handlers, whose parent is MAIN.
    fn start_loop(self: &Rc<Self>) -> Result<()> {
        let hub = Rc::clone(self);
        let main_loop = Greenlet::spawn_managed(Some(LOOP_STACK), &Greenlet::main(), move || hub.run_loop())?;
        main_loop.set_name("the main loop");
        let idle = Rc::downgrade(self);
        self.core.set_idle_hook(Some(Rc::new(move || {
            if let Some(hub) = idle.upgrade() {
                hub.nothing_can_wake();
            }
        })));
        let closing = Rc::downgrade(self);
        self.core.set_close_hook(Some(Rc::new(move || {
            if let Some(hub) = closing.upgrade() {
                hub.close_from_main();
            }
        })));
        drop(self.set_loop(Some(main_loop)));
        self.mode.set(Mode::Implicit);
        Ok(())
    }
    /// MAIN closes the reactor whose loop waits on another stack: the loop gets to its end before `close` returns.
    fn close_from_main(self: &Rc<Self>) {
        let main = self.main.borrow().clone();
        let (Some(main), Some(running)) = (main, running::get()) else { return };
        if self.mode.get() == Mode::Implicit && Rc::ptr_eq(&main, &running) && Greenlet::can_switch() {
            main.will_return_here();
            drop(running::take());
            while self.has_loop() {
                if self.switch_to_loop().is_err() {
                    break;
                }
            }
            running::put(main);
        }
    }
    fn run_loop(self: Rc<Self>) {
        self.core.set_signals(false);
        let run = failure::catch(|| self.core.run_loop());
        if let Err(failure) = run.and_then(|run| run) {
            failure::report("the main loop", &failure);
        }
        if self.core.may_run_again() {
            // It crashed: the green threads stay, and the next blocking call starts another loop.
            self.mode.set(Mode::Undecided);
        } else {
            // Unwinds the green threads, on this greenlet, then tells MAIN.
            if let Err(failure) = failure::catch(|| self.core.end()) {
                failure::report("the end of the reactor", &failure);
            }
            self.end();
        }
        let main = self.main.borrow().clone();
        if let Some(main) = main {
            let why = if self.core.is_forked() { ReactorError::Forked } else { ReactorError::Stopped };
            main.is_left_alone(why.into());
        }
        drop(self.set_loop(None));
    }

    /// D8: MAIN waits, and nothing there is could ever end its wait.
    fn nothing_can_wake(&self) {
        let main = self.main.borrow().clone();
        if let Some(main) = main {
            main.fault(Deadlock { report: debug::format_parked(self) }.into());
        }
    }

    /// The reactor ends: every green thread is unwound, from ordinary code (G7). Whoever ends it stands in for the loop,
    /// which has come to its end or never ran.
    pub(super) fn end(self: &Rc<Self>) {
        if self.mode.replace(Mode::Stopped) == Mode::Stopped {
            return;
        }
        let running = running::take();
        let may_switch = Greenlet::can_switch();
        if may_switch {
            drop(self.set_loop(Some(Greenlet::current())));
        }
        for _ in 0..END_PATIENCE {
            let mut tasks: Vec<Rc<Task>> = self.tasks.borrow().iter().map(|(_, task)| Rc::clone(task)).collect();
            if tasks.is_empty() {
                break;
            }
            // Those that borrow from the stack of another come before it, the youngest first.
            tasks.sort_by_key(|task| if task.is_scoped() { (0, u64::MAX - task.id()) } else { (1, 0) });
            for task in tasks {
                task.end(may_switch);
            }
        }
        let left = std::mem::take(&mut *self.tasks.borrow_mut());
        for (_, task) in left {
            log::error!(target: "twistlet", "{} did not end; its stack is leaked", task.described());
            task.leak();
        }
        // Whoever is still in line has been unwound.
        drop((self.line.close(), self.spare.take()));
        if let Some(running) = running {
            running::put(running);
        } else if !self.core.is_in_loop() && may_switch {
            // A loop in a greenlet of its own goes on to its end: `run_loop` forgets it.
            let old = if self.main.borrow().is_none() { self.set_loop(None) } else { None };
            drop(old);
        }
    }
    /// The thread ends. What never ran is dropped; suspended stacks stay as they are, since unwinding them here would run
    /// anybody's code when half of the thread is gone.
    fn abandon(&self) {
        self.mode.set(Mode::Stopped);
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        for (_, task) in tasks {
            task.abandon();
        }
        let old = (self.set_loop(None), self.main.take(), running::take(), self.line.close(), self.spare.take());
        std::mem::forget(old.0);
    }
}
