//! The places of a pool: who has one, who waits for one, who is inside.
//!
//! A place that comes free is handed to whoever has waited longest: it is never free in between. What must never happen
//! here: a place that is not given back, hence the guards.
use crate::failure::Result;
use crate::green::hub::running;
use crate::green::task::{Task, Waiters};
use std::cell::Cell;
use std::rc::Rc;

pub(super) struct Places {
    size: Cell<usize>,
    /// Those of jobs, and those that were handed to spawners which have yet to run.
    taken: Cell<usize>,
    spawners: Waiters,
    /// Who waits for the end of all jobs.
    idle: Waiters,
}

/// A place that somebody has; given back when dropped.
pub(super) struct Place(Rc<Places>);

/// The running green thread is known as one of the pool's.
pub(super) struct Inside {
    task: Option<Rc<Task>>,
    /// What it was before: the pool of another, or none.
    before: usize,
    _place: Option<Place>,
}

impl Places {
    pub(super) fn new(size: usize) -> Rc<Self> {
        Rc::new(Places {
            size: Cell::new(size),
            taken: Cell::new(0),
            spawners: Waiters::default(),
            idle: Waiters::default(),
        })
    }
    pub(super) fn size(&self) -> usize {
        self.size.get()
    }
    pub(super) fn taken(&self) -> usize {
        self.taken.get()
    }
    pub(super) fn waiting(&self) -> usize {
        self.spawners.len()
    }
    /// A place if one is free. Nobody waits while one is.
    #[inline]
    pub(super) fn try_take(self: &Rc<Self>) -> Option<Place> {
        let taken = self.taken.get();
        if taken >= self.size.get() {
            return None;
        }
        self.taken.set(taken + 1);
        Some(Place(Rc::clone(self)))
    }
    /// Waits in line for one.
    #[track_caller]
    pub(super) fn take(self: &Rc<Self>) -> Result<Place> {
        // Counted already by whoever handed it over.
        self.spawners.wait("a place in a GreenPool", None).map(|_| Place(Rc::clone(self)))
    }
    #[inline]
    fn hand_over(&self) {
        while self.taken.get() < self.size.get() && self.spawners.wake_one() {
            self.taken.set(self.taken.get() + 1);
        }
    }
    pub(super) fn resize(&self, size: usize) {
        self.size.set(size);
        self.hand_over();
    }
    #[track_caller]
    pub(super) fn wait_until_idle(&self) -> Result<()> {
        if self.taken.get() == 0 {
            return Ok(());
        }
        self.idle.wait("the jobs of a GreenPool", None).map(drop)
    }

    /// What tells this pool from all others that have members.
    fn name(self: &Rc<Self>) -> usize {
        Rc::as_ptr(self) as usize
    }
    /// Whether the running green thread is inside.
    pub(super) fn has_caller(self: &Rc<Self>) -> bool {
        running::get().is_some_and(|task| task.pool().get() == self.name())
    }
    /// The running green thread counts as inside, without a place of its own.
    pub(super) fn admit(self: &Rc<Self>) -> Inside {
        self.let_in(None)
    }
    #[inline]
    fn let_in(self: &Rc<Self>, place: Option<Place>) -> Inside {
        let task = running::get();
        let before = task.as_ref().map_or(0, |task| task.pool().replace(self.name()));
        Inside { task, before, _place: place }
    }
}

impl Place {
    /// The running green thread takes the place.
    #[inline]
    pub(super) fn enter(self) -> Inside {
        let places = Rc::clone(&self.0);
        places.let_in(Some(self))
    }
}
impl Drop for Place {
    #[inline]
    fn drop(&mut self) {
        let places = &self.0;
        places.taken.set(places.taken.get() - 1);
        places.hand_over();
        if places.taken.get() == 0 {
            places.idle.wake_all();
        }
    }
}
impl Drop for Inside {
    #[inline]
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.pool().set(self.before);
        }
    }
}
