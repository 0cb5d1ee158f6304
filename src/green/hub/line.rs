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
const PREFETCH: usize = 2;
const MANY: usize = 32;

pub(super) struct Line {
    tasks: RefCell<VecDeque<Rc<Task>>>,
    /// Where each stretch that is still to run begins, as a number of `joined`.
    stretches: RefCell<VecDeque<u64>>,
    /// How many have ever joined the line and left it.
    joined: Cell<u64>,
    left: Cell<u64>,
    /// What the reactor's queue was like when the newest stretch was queued: as long as it is, the stretch may grow.
    open: Cell<u64>,
}

impl Default for Line {
    fn default() -> Self {
        Line {
            tasks: RefCell::default(),
            stretches: RefCell::default(),
            joined: Cell::new(0),
            left: Cell::new(0),
            open: Cell::new(CLOSED),
        }
    }
}

impl Line {
    /// Everybody in line, for whom nothing comes any more.
    pub(super) fn close(&self) -> VecDeque<Rc<Task>> {
        self.open.set(CLOSED);
        self.left.set(self.joined.get());
        self.stretches.take();
        self.tasks.take()
    }
    /// The stretch that runs now ends before this number.
    fn begin(&self) -> u64 {
        let mut stretches = self.stretches.borrow_mut();
        stretches.pop_front();
        stretches.front().copied().unwrap_or(self.joined.get())
    }
    #[inline]
    fn next(&self, end: u64) -> Option<Rc<Task>> {
        let left = self.left.get();
        if left >= end {
            return None;
        }
        self.left.set(left + 1);
        let mut tasks = self.tasks.borrow_mut();
        if tasks.len() > MANY
            && let Some(soon) = tasks.get(PREFETCH)
        {
            soon.prefetch();
        }
        tasks.pop_front()
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
        line.joined.set(line.joined.get() + 1);
        line.tasks.borrow_mut().push_back(task);
    }
    /// Queues a new stretch in the reactor. `false`: nothing will run any more.
    #[inline(never)]
    fn open_stretch(self: &Rc<Self>) -> bool {
        if self.is_stopped() || self.core.is_closed() {
            return false;
        }
        self.line.stretches.borrow_mut().push_back(self.line.joined.get());
        self.core.run_soon(self.clone());
        self.line.open.set(self.core.queue_mark());
        true
    }
}

/// The reactor runs a stretch.
impl Runnable for Hub {
    fn run(self: Rc<Self>) {
        let end = self.line.begin();
        self.loop_is_here();
        while let Some(task) = self.line.next(end) {
            self.core.clock_is_stale();
            task.resume();
        }
    }
}
