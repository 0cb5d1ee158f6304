//! The line of green threads that are to go on, and how the loop runs it.
//!
//! Those that were woken with nothing queued in between in the reactor are one job of the reactor, a stretch: the order of
//! green threads, calls and futures is that in which they were queued (G9), and the turn they run in is that of R3, but
//! from one green thread to the next the loop does not leave this file. What must never happen here: a borrow held while a
//! green thread runs.
use super::Hub;
use crate::green::task::Task;
use crate::reactor::Runnable;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// No state of the reactor's queue.
const CLOSED: u64 = u64::MAX;
/// How far ahead memory is fetched, and from how many in line on that is worth it: few are in the cache anyway.
const PREFETCH: usize = 3;
const MANY: usize = 256;

type Stretch = Vec<Rc<Task>>;

pub(super) struct Line {
    /// What is left of the stretch that runs, the first one last: taking from there is cheapest.
    now: RefCell<Stretch>,
    /// The newest stretch.
    newest: RefCell<Stretch>,
    /// Those between the two, where the reactor has had other things to do in between.
    older: RefCell<VecDeque<Stretch>>,
    /// What the reactor's queue was like when the newest stretch was queued: as long as it is, the stretch may grow.
    open: Cell<u64>,
    /// What was left of the stretch that ran when a watchdog began to look.
    aside: RefCell<Stretch>,
    /// How many have been in line.
    taken: Cell<u64>,
}

impl Default for Line {
    fn default() -> Self {
        Line {
            now: RefCell::default(),
            newest: RefCell::default(),
            older: RefCell::default(),
            open: Cell::new(CLOSED),
            aside: RefCell::default(),
            taken: Cell::new(0),
        }
    }
}

impl Line {
    /// Everybody in line, for whom nothing comes any more.
    pub(super) fn close(&self) -> Vec<Rc<Task>> {
        self.open.set(CLOSED);
        let mut all = self.now.take();
        all.extend(self.aside.take());
        all.extend(self.older.take().into_iter().flatten());
        all.extend(self.newest.take());
        all
    }
    fn open(&self, mark: u64) {
        self.open.set(mark);
        let mut newest = self.newest.borrow_mut();
        if !newest.is_empty() {
            self.older.borrow_mut().push_back(std::mem::take(&mut *newest));
        }
    }
    /// The turn of the oldest stretch that waits. Each takes the other's memory.
    fn begin(&self) {
        let mut now = self.now.borrow_mut();
        let mut older = self.older.borrow_mut().pop_front();
        let mut newest = self.newest.borrow_mut();
        let next = older.as_mut().unwrap_or(&mut newest);
        next.reverse();
        self.taken.set(self.taken.get() + next.len() as u64);
        if now.is_empty() {
            std::mem::swap(&mut *now, next);
        } else {
            // A turn of the loop inside another.
            next.append(&mut now);
            std::mem::swap(&mut *now, next);
        }
    }
    /// The loop stops here with what it runs.
    pub(super) fn set_aside(&self) {
        let mut aside = self.aside.borrow_mut();
        if aside.is_empty() {
            std::mem::swap(&mut *self.now.borrow_mut(), &mut *aside);
        }
    }
    pub(super) fn is_set_aside(&self) -> bool {
        !self.aside.borrow().is_empty()
    }
    /// And goes on with it.
    pub(super) fn take_up(&self) {
        self.now.borrow_mut().append(&mut self.aside.borrow_mut());
    }
    pub(super) fn taken(&self) -> u64 {
        self.taken.get()
    }
    #[inline]
    pub(super) fn next(&self) -> Option<Rc<Task>> {
        let mut now = self.now.borrow_mut();
        if now.len() > MANY {
            now[now.len() - PREFETCH].prefetch();
        }
        now.pop()
    }
}

impl Hub {
    /// Puts a green thread into the line: it goes on in a later turn.
    #[inline]
    pub(in crate::green) fn queue(self: &Rc<Self>, task: Rc<Task>) {
        let line = &self.line;
        if line.open.get() != self.core.queue_mark() && !self.open_stretch() {
            return;
        }
        line.newest.borrow_mut().push(task);
    }
    /// Queues a new stretch in the reactor. `false`: nothing will run any more.
    #[inline(never)]
    fn open_stretch(self: &Rc<Self>) -> bool {
        if self.is_stopped() || self.core.is_closed() {
            return false;
        }
        self.core.run_soon(self.clone());
        self.line.open(self.core.queue_mark());
        true
    }
}

/// The reactor runs a stretch.
impl Runnable for Hub {
    fn run(self: Rc<Self>) {
        self.line.begin();
        self.loop_is_here();
        if !self.core.pulse().is_watched() {
            while let Some(task) = self.line.next() {
                self.core.clock_is_stale();
                task.resume();
            }
        }
        if self.core.pulse().is_watched() || self.line.is_set_aside() {
            self.run_watched();
        }
    }
}
