//! The green threads of one scope: which of them live, and how all of them are brought to their end.
//!
//! Owned by the scope and by each of them. Nothing here borrows from anybody's stack: what does is in the closures, which
//! `sys` counts. What must never happen here: `end_all` left while one of them lives.
use crate::error::{Deadlock, Killed};
use crate::failure::{self, Failure, Result};
use crate::green::green_thread::Outcome;
use crate::green::task::{Outlet, Task, Waiter, give_up_running, park_stubbornly, prepare_at};
use std::cell::{Cell, RefCell};
use std::panic::Location;
use std::process::abort;
use std::rc::Rc;

const REASON: &str = "the green threads of its scope";
/// How often a deadlock may be reported after all have been killed.
const DEADLOCKS: u32 = 3;

#[derive(Default)]
pub(super) struct Members {
    alive: RefCell<slab::Slab<Rc<Child>>>,
    /// Who leaves the scope.
    owner: Cell<Option<Waiter>>,
    /// Whoever is spawned now is killed.
    closing: Cell<bool>,
    /// One was given up: the scope can never be left.
    leaked: Cell<bool>,
    /// Panics that nobody has waited for.
    pub(super) unseen: Cell<usize>,
}

/// One green thread of a scope.
pub(super) struct Child {
    pub(super) task: Rc<Task>,
    members: Rc<Members>,
    key: Cell<usize>,
    ended: Cell<bool>,
    /// Why it has no outcome of its own: it never ran.
    failure: Cell<Option<Failure>>,
    waiter: Cell<Option<Waiter>>,
}

impl Members {
    pub(super) fn adopt(self: &Rc<Self>, task: Rc<Task>) -> Rc<Child> {
        let child = Rc::new(Child {
            task,
            members: Rc::clone(self),
            key: Cell::new(usize::MAX),
            ended: Cell::new(false),
            failure: Cell::new(None),
            waiter: Cell::new(None),
        });
        child.key.set(self.alive.borrow_mut().insert(Rc::clone(&child)));
        child
    }
    pub(super) fn is_closing(&self) -> bool {
        self.closing.get()
    }
    fn is_empty(&self) -> bool {
        self.alive.borrow().is_empty()
    }
    fn list(&self) -> Vec<Rc<Child>> {
        self.alive.borrow().iter().map(|(_, child)| Rc::clone(child)).collect()
    }
    fn wake(&self) {
        if let Some(owner) = self.owner.take() {
            owner.wake();
        }
    }

    /// Waits for all of them, unless something interrupts.
    ///
    /// # Errors
    /// As `prepare` and `park`.
    pub(super) fn join(&self, site: &'static Location<'static>) -> Result<()> {
        while !self.is_empty() && !self.leaked.get() {
            let wait = prepare_at(site)?;
            self.set_owner(wait.waiter());
            wait.park(REASON)?;
        }
        Ok(())
    }
    /// Kills those that live, and returns when none does: whatever happens to the one that calls this. Where that can never
    /// be it does not return.
    pub(super) fn end_all(&self, site: &'static Location<'static>) {
        let no_way_out = AbortOnUnwind;
        self.closing.set(true);
        let mut deadlocks = 0;
        loop {
            for child in self.list() {
                if child.task.is_running() {
                    never_return("leaves a scope on top of one of the scope's own green threads");
                }
                child.task.kill();
            }
            if self.is_empty() {
                break;
            }
            if self.leaked.get() {
                never_return("cannot leave its scope: a green thread of it swallows its kill for ever");
            }
            let Err(failure) = park_stubbornly(site, REASON, |waiter| self.set_owner(waiter)) else { continue };
            // Those that have not begun need no turn.
            for child in self.list() {
                child.task.drop_unstarted();
            }
            deadlocks += 1;
            let again = failure.is::<Deadlock>() && deadlocks <= DEADLOCKS;
            if !self.is_empty() && !again {
                never_return("cannot leave its scope: green threads of it live, and there is no way to wait for them");
            }
        }
        std::mem::forget(no_way_out);
    }
    fn set_owner(&self, waiter: Waiter) {
        let old = self.owner.replace(Some(waiter));
        drop(old);
    }
}

/// Unwinding past this would free what others use.
struct AbortOnUnwind;
impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        never_return("was unwound while it waited for the green threads of its scope");
    }
}
/// The frame that others borrow from stays for ever: with its green thread, or, where that cannot be given up, by ending the
/// process.
#[cold]
fn never_return(why: &str) -> ! {
    give_up_running(why);
    eprintln!("twistlet: whoever called scope() {why}; what it borrows would be freed under it, so the process ends");
    abort();
}

impl Child {
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get() || self.task.is_leaked()
    }
    pub(super) fn set_waiter(&self, waiter: Waiter) {
        let old = self.waiter.replace(Some(waiter));
        drop(old);
    }
    /// Why there is no outcome of its own.
    pub(super) fn failure(&self) -> Failure {
        self.failure.take().unwrap_or_else(|| Killed.into())
    }
    /// It panicked, and nobody knows yet.
    pub(super) fn has_panicked(&self) {
        self.members.unseen.set(self.members.unseen.get() + 1);
    }
    /// Somebody does.
    pub(super) fn panic_was_seen(&self) {
        self.members.unseen.set(self.members.unseen.get() - 1);
    }
    fn over(&self) {
        self.ended.set(true);
        let gone = self.members.alive.borrow_mut().try_remove(self.key.replace(usize::MAX));
        drop(gone);
        if self.members.is_empty() {
            self.members.wake();
        }
        self.tell();
    }
    fn tell(&self) {
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }
}
/// Its closure is gone by now: it ran, or there was no stack for it.
impl Outcome<()> for Child {
    fn publish(&self, outcome: Result<()>) {
        if let Err(failure) = outcome {
            self.failure.set(Some(failure));
        }
        self.over();
    }
}
/// It never ran, and its closure is gone by now; or it was given up, and lives for ever.
impl Outlet for Child {
    fn ended_by(&self, failure: Failure) {
        if self.task.is_leaked() {
            self.members.leaked.set(true);
            self.members.wake();
            return self.tell();
        }
        self.failure.set(Some(failure));
        self.over();
    }
}
impl Drop for Child {
    fn drop(&mut self) {
        if let Some(failure) = self.failure.take() {
            self.task.report_unobserved(&failure);
            failure::drop_quietly(failure);
        }
    }
}
