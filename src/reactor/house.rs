//! Where a thread keeps its reactor, and how one ends: everybody is told, everything is freed, the thread may have another.
//!
//! Called by `Reactor::{new, current, close}` and at the end of `run` and of the thread. What must never happen here: a
//! destructor of the user's that finds a borrow, or that ends the ending by a panic.
use super::core::{Core, State};
use super::sources::Source;
use crate::error::ReactorError;
use crate::failure::Result;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// What is shut may open something else; this often it is shut again.
const SHUT_ROUNDS: usize = 8;

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
        Core::current().filter(|core| core.id() == id)
    }
    pub(super) fn next_id() -> u32 {
        let id = NEXT_ID.get();
        NEXT_ID.set(id.wrapping_add(1).max(1));
        id
    }
    /// Ends a reactor that its `run` has left behind by unwinding; any other stays.
    pub(super) fn make_way() -> Result<()> {
        match Core::current() {
            Some(old) if old.state.get() == State::Abandoned => old.end(),
            Some(_) => return Err(ReactorError::AlreadyInstalled.into()),
            None => {}
        }
        Ok(())
    }
    /// Becomes the thread's reactor.
    pub(super) fn settle_in(self: &Rc<Self>) -> Result<()> {
        if Core::current().is_some() {
            return Err(ReactorError::AlreadyInstalled.into());
        }
        let old = CURRENT.try_with(|current| current.0.replace(Some(Rc::clone(self))));
        old.map(drop).map_err(|_| ReactorError::Closed.into())
    }

    /// Nothing will ever happen any more, as a simulation knows: whoever waits is told, or the loop is left.
    #[cfg_attr(not(feature = "testing"), allow(dead_code, reason = "for simulations"))]
    pub(crate) fn rest(&self) {
        let idle = self.idle.borrow().clone();
        match idle {
            Some(idle) => idle(),
            None => self.crash(),
        }
    }
    /// Whether the pool's threads have work in hand, whose end they will tell.
    #[cfg_attr(not(feature = "testing"), allow(dead_code, reason = "for simulations"))]
    pub(crate) fn has_threads_at_work(&self) -> bool {
        self.existing_pools().iter().any(|pool| pool.is_busy())
    }
    /// Whether another thread might call.
    #[cfg_attr(not(feature = "testing"), allow(dead_code, reason = "for simulations"))]
    pub(crate) fn has_handles(&self) -> bool {
        self.inbox().has_handles() || self.inbox().is_notified()
    }
    pub(crate) fn crash(&self) {
        if self.is_in_loop() {
            self.crashed.set(true);
        }
    }
    /// As `is_running` tells the user.
    pub(super) fn runs(&self) -> bool {
        matches!(self.state.get(), State::Running | State::Stopping) && !self.crashed.get()
    }
    pub(crate) fn statistics(&self) -> super::Statistics {
        super::Statistics {
            turns: self.turns.get(),
            timers: self.timers.len(),
            descriptors: self.sources.borrow().len(),
            ready: self.ready.borrow().len(),
        }
    }

    pub(super) fn all_sources(&self) -> Vec<Rc<dyn Source>> {
        self.sources.borrow().all()
    }
    /// Loses every connection and stops every port; each is told.
    pub(super) fn shut_sources(self: &Rc<Self>) {
        for _ in 0..SHUT_ROUNDS {
            for source in self.all_sources() {
                self.guard("the end of a connection", move || source.shut(self));
            }
            if self.sources.borrow().len() == 0 {
                break;
            }
        }
    }

    /// Refuses calls from other threads, tells everybody who waits for one or for a thread, and lets the threads go: in
    /// this order, since a thread of the pool may be among those that wait.
    pub(super) fn stop_threads(&self) {
        self.inbox().close();
        loop {
            let awaited = std::mem::take(&mut *self.awaited.borrow_mut());
            if awaited.is_empty() {
                break;
            }
            for (_, awaited) in awaited {
                self.guard("what waited for another thread", move || awaited.stop());
            }
        }
        for pool in self.existing_pools() {
            pool.stop();
        }
    }

    /// Ends the reactor: sources are told, everything is freed, the thread may have another.
    pub(crate) fn end(self: &Rc<Self>) {
        if self.is_in_loop() {
            // Called from a callback: the loop must be off the stack first.
            self.close_asked.set(true);
            self.crashed.set(true);
            let on_close = self.on_close.borrow().clone();
            if let Some(on_close) = on_close {
                on_close();
            }
            return;
        }
        if self.ending.replace(true) {
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
        self.abandon();
        // Not before: what is dropped at the end of a reactor must not find, or make, another.
        let gone = CURRENT.try_with(|current| {
            let ours = current.0.borrow().as_ref().is_some_and(|core| core.id() == self.id());
            if ours { current.0.take() } else { None }
        });
        drop(gone);
    }

    /// Drops what the reactor holds and breaks its cycles; of the connections, nobody is told.
    fn abandon(self: &Rc<Self>) {
        self.state.set(State::Closed);
        self.ignore_signals();
        self.stop_threads();
        self.stop_watching();
        let on_watched = self.on_watched.borrow_mut().take();
        drop(on_watched);
        self.set_idle_hook(None);
        self.set_close_hook(None);
        // What drops may queue more, so until nothing is left.
        loop {
            let hooks = std::mem::take(&mut *self.at_end.borrow_mut());
            let tasks = self.tasks.borrow_mut().take_all();
            let jobs = std::mem::take(&mut *self.ready.borrow_mut());
            let sources = self.sources.borrow_mut().take_all();
            let triggers = self.triggers.take_all();
            if hooks.len() + tasks.len() + jobs.len() + sources.len() + triggers.len() + self.timers.len() == 0 {
                break;
            }
            for task in tasks {
                self.guard("a future", move || task.stop());
            }
            self.discard(hooks);
            self.discard(jobs);
            self.discard(sources);
            self.discard(triggers);
            self.discard(self.timers.take_all());
        }
    }
    /// Drops each, whatever the destructors do.
    fn discard<V>(&self, values: impl IntoIterator<Item = V>) {
        for value in values {
            self.guard("a destructor", move || drop(value));
        }
    }
}
