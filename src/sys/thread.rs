//! The end of a thread, as stacks must know it: from then on nothing switches, and free stacks go back to the system.
//!
//! Called by `block` and `stack`. Nothing here may run user code.
use super::{block, frames, overflow, stack};
use std::cell::Cell;

thread_local! {
    /// Thread-local destructors are running. Has none itself, so it can be read by any of them.
    static ENDING: Cell<bool> = const { Cell::new(false) };
    static WATCH: Watch = const { Watch };
}

/// Its destructor is the news that the thread ends.
struct Watch;
impl Drop for Watch {
    fn drop(&mut self) {
        ENDING.set(true);
        block::end_thread();
        stack::end_thread();
        overflow::end_thread();
    }
}

/// Begins to watch for the end of this thread. `false` if it has come.
pub(super) fn watch() -> bool {
    WATCH.try_with(|_| ()).is_ok()
}

/// Whether thread-local destructors are running on this thread (once it has used this floor).
#[inline]
pub(crate) fn is_ending() -> bool {
    ENDING.get()
}

/// Whether a destructor of a thread-local is on the stack of the calling fiber. Exact where `frames` is; microseconds.
pub(crate) fn in_destructor() -> bool {
    is_ending() || frames::has_destructor()
}

/// Whether the thread's function has returned, and destructors of thread-locals may be running: asked before a switch.
/// Of those that run because of `process::exit` it knows only from `Watch` on.
///
/// On another stack than the thread's own the function cannot have returned: it is suspended. When the thread has ended,
/// whatever runs counts as on its own.
#[inline]
pub(crate) fn is_over() -> bool {
    block::on_native_stack() && (is_ending() || frames::moved() && frames::has_destructor())
}
