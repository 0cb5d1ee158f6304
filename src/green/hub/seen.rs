//! The hub as reports and watchdogs see it: who there is, who spawned whom, who runs now.
//!
//! `Seen` is shared with watchdogs of other threads. What must never happen here: work on the way of a switch while nobody
//! looks.
use super::{Hub, Mode, running};
use crate::green::task::{State, Task};
use crate::reactor::{Names, PulseHolder};
use crate::sys::StaticRef;
use std::collections::HashMap;
use std::panic::Location;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Spawned by a callback, or before there was a loop.
pub(in crate::green) const LOOP: u64 = 0;
pub(in crate::green) const MAIN: u64 = 1;
/// The first number of a green thread that was spawned.
pub(super) const FIRST: u64 = 2;

/// Whose code runs now, for other threads.
pub(super) struct Seen {
    spawned: StaticRef<Location<'static>>,
    named: Mutex<HashMap<u64, String>>,
}

impl Seen {
    pub(super) fn new() -> Arc<Seen> {
        Arc::new(Seen { spawned: StaticRef::new(), named: Mutex::default() })
    }
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, String>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
impl Names for Seen {
    fn look_up(&self, id: u64) -> (Option<String>, Option<&'static Location<'static>>) {
        let name = self.lock().get(&id).cloned();
        (name, if id == MAIN { None } else { self.spawned.get() })
    }
}

fn is_alive(task: &Task) -> bool {
    !matches!(task.state(), State::Finished | State::Leaked)
}

impl Hub {
    /// The number of a green thread that is being spawned.
    #[inline]
    pub(in crate::green) fn number(&self) -> u64 {
        let number = self.next_id.get();
        self.next_id.set(number + 1);
        number
    }
    /// Green threads spawned so far.
    pub(in crate::green) fn spawned(&self) -> u64 {
        self.next_id.get() - FIRST
    }
    /// How often a green thread has been put in line to go on.
    pub(in crate::green) fn switches(&self) -> u64 {
        self.line.taken()
    }
    /// Who spawns, if somebody does now.
    #[inline]
    pub(in crate::green) fn spawner(&self) -> u64 {
        match running::id() {
            Some(id) => id,
            None if self.mode.get() == Mode::Undecided && !self.core.is_in_loop() => MAIN,
            None => LOOP,
        }
    }
    /// MAIN, where it blocks like a green thread, and every green thread that has not ended, the oldest first.
    pub(in crate::green) fn everybody(&self) -> Vec<Rc<Task>> {
        let mut all: Vec<Rc<Task>> = self.main.borrow().iter().cloned().collect();
        all.extend(self.tasks.borrow().iter().map(|(_, task)| Rc::clone(task)));
        all.retain(|task| is_alive(task));
        all.sort_unstable_by_key(|task| task.id());
        all
    }
    /// So many of them have been spawned and have not ended.
    pub(in crate::green) fn alive(&self) -> usize {
        // Seats of the finished are kept for others.
        self.tasks.borrow().iter().filter(|(_, task)| is_alive(task)).count()
    }
    pub(in crate::green) fn by_id(&self, id: u64) -> Option<Rc<Task>> {
        self.tasks.borrow().iter().map(|(_, task)| task).find(|task| task.id() == id && is_alive(task)).cloned()
    }

    /// A watchdog begins to look: from here on it is told who runs.
    pub(super) fn is_watched_now(&self) {
        if let Some(task) = running::get()
            && self.core.is_in_loop()
        {
            self.show(&task);
        }
        // The loop leaves what it runs, and goes on with it in the other way.
        self.line.set_aside();
    }
    fn show(&self, task: &Task) {
        self.seen.spawned.set(Some(task.spawned_at()));
        task.show_name(|id, name| drop(self.seen.lock().insert(id, name)));
        self.core.pulse().set_holder(PulseHolder::green(task.id()));
    }
    /// One whose name was shown has ended.
    pub(in crate::green) fn forget_name(&self, id: u64) {
        let name = self.seen.lock().remove(&id);
        drop(name);
    }
    /// As the loop runs a stretch while somebody looks.
    #[cold]
    pub(super) fn run_watched(&self) {
        loop {
            // Another watchdog may take the place of this one meanwhile.
            self.line.take_up();
            let Some(task) = self.line.next() else { break };
            self.show(&task);
            self.core.clock_is_stale();
            task.resume();
        }
        self.core.pulse().set_holder(PulseHolder::QUEUED_CALL);
    }
}
