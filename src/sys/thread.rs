//! The end of a thread, as stacks must know it: from then on nothing switches, and free stacks go back to the system.
//!
//! Called by `block` and `stack`. Nothing here may run user code.
use super::{block, overflow, stack};
use std::cell::Cell;
use std::ffi::c_void;

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

/// Whether a destructor of a thread-local is on the stack: asked before a greenlet is unwound, whose frames may use
/// another that is already destroyed.
///
/// Destructors run in the reverse order of registration, so `Watch` may be too late. glibc runs all of them from one
/// function, which is looked for among the callers. Elsewhere `Watch` must do.
pub(crate) fn in_destructor() -> bool {
    if is_ending() {
        return true;
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::sync::atomic::{AtomicUsize, Ordering};
        /// 0 before it was looked up.
        static RUNNER: AtomicUsize = AtomicUsize::new(0);
        const ABSENT: usize = 1;
        let mut runner = RUNNER.load(Ordering::Relaxed);
        if runner == 0 {
            // SAFETY: a name that ends in a zero.
            runner = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__call_tls_dtors".as_ptr()) } as usize;
            runner = runner.max(ABSENT);
            RUNNER.store(runner, Ordering::Relaxed);
        }
        if runner != ABSENT {
            let mut search = Search { runner, found: false };
            // SAFETY: `step` keeps to what a callback of it may do, and gets the search that outlives the call.
            unsafe { _Unwind_Backtrace(step, (&raw mut search).cast()) };
            return search.found;
        }
    }
    false
}

struct Search {
    runner: usize,
    found: bool,
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
unsafe extern "C" {
    fn _Unwind_Backtrace(step: extern "C" fn(*mut c_void, *mut c_void) -> i32, data: *mut c_void) -> i32;
    fn _Unwind_GetIP(frame: *mut c_void) -> usize;
    fn _Unwind_FindEnclosingFunction(at: *mut c_void) -> *mut c_void;
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
extern "C" fn step(frame: *mut c_void, search: *mut c_void) -> i32 {
    const GO_ON: i32 = 0;
    const STOP: i32 = 4;
    // SAFETY: what `_Unwind_Backtrace` was given, and passes on; a return address is behind its call.
    unsafe {
        let search = &mut *search.cast::<Search>();
        let at = _Unwind_GetIP(frame).saturating_sub(1);
        search.found = _Unwind_FindEnclosingFunction(at as *mut c_void) as usize == search.runner;
        if search.found { STOP } else { GO_ON }
    }
}
