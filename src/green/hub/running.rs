//! Which green thread's code runs on this OS thread: one word, looked at in every wait.
//!
//! The loop puts in whom it resumes; whoever waits takes itself out, so nothing is counted on the way. It has no destructor,
//! so that those of other thread-locals may look; the hub empties it at the end.
use crate::green::task::Task;
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::rc::Rc;

thread_local! {
    static RUNNING: ManuallyDrop<Cell<Option<Rc<Task>>>> = const { ManuallyDrop::new(Cell::new(None)) };
}

/// Its code is about to run.
#[inline]
pub(in crate::green) fn put(task: Rc<Task>) {
    let old = RUNNING.with(|running| running.replace(Some(task)));
    debug_assert!(old.is_none(), "two green threads run at once");
}
/// The one that runs, which is about to leave; `None` in the loop and its callbacks, and where nobody has waited yet.
#[inline]
pub(in crate::green) fn take() -> Option<Rc<Task>> {
    RUNNING.with(|running| running.take())
}
/// Its number.
#[inline]
pub(in crate::green) fn id() -> Option<u64> {
    RUNNING.with(|running| {
        let task = running.take();
        let id = task.as_ref().map(|task| task.id());
        running.set(task);
        id
    })
}
/// The one that runs.
#[inline]
pub(in crate::green) fn get() -> Option<Rc<Task>> {
    RUNNING.with(|running| {
        let task = running.take();
        let clone = task.clone();
        running.set(task);
        clone
    })
}
