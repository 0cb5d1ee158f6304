//! Whether a destructor of a thread-local is on the stack: nothing may switch in one, since suspended frames may be inside
//! `LocalKey::with` of a thread-local that is destroyed already.
//!
//! Called by `thread`. Destructors run in the reverse order of registration, so `thread`'s own is too late for those that
//! were registered after it. glibc runs all of them from one function, which is looked for among the callers: exact, but
//! microseconds. So that a switch need not, the return addresses of a thread's outermost frames are remembered where they
//! are on the stack: when the thread's function has returned, others have taken the place. Elsewhere `thread` must do; and
//! `process::exit` runs destructors while the thread's function is there, of which only the search knows.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) use glibc::{has_destructor, moved};

/// Whether the callers include the destructor of a thread-local.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn has_destructor() -> bool {
    false
}
/// Whether the thread's function may have returned.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn moved() -> bool {
    false
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use crate::sys::block::on_native_stack;
    use std::cell::Cell;
    use std::ffi::c_void;
    use std::mem;
    use std::sync::atomic::{AtomicUsize, Ordering};

    unsafe extern "C" {
        fn _Unwind_Backtrace(step: extern "C" fn(*mut c_void, *mut c_void) -> i32, data: *mut c_void) -> i32;
        fn _Unwind_GetIP(frame: *mut c_void) -> usize;
        fn _Unwind_GetCFA(frame: *mut c_void) -> usize;
        fn _Unwind_FindEnclosingFunction(at: *mut c_void) -> *mut c_void;
    }

    /// Frames remembered. What runs a thread's function, and then the destructors, is among these: the outermost three are
    /// `_start`, `__libc_start_main` and what calls `main`, or `clone3`, `start_thread` and the function itself.
    const DEPTH: usize = 3;

    /// A return address and where it is.
    #[derive(Clone, Copy)]
    struct Mark {
        at: *const usize,
        says: usize,
    }
    static NOWHERE: usize = 0;
    const UNKNOWN: Mark = Mark { at: &raw const NOWHERE, says: 1 };

    thread_local! {
        static MARKS: Cell<[Mark; DEPTH]> = const { Cell::new([UNKNOWN; DEPTH]) };
        /// The bounds of the thread's stack; equal if unknown, zero if nobody asked.
        static BOUNDS: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
    }

    /// Whether the thread's outermost frames are not those of the last look, or there was none. To be asked on the thread's
    /// own stack; where return addresses are not always in the place of the call it cannot tell, and says no.
    #[inline]
    pub(in crate::sys) fn moved() -> bool {
        // SAFETY: a mark is in the frames of what calls the thread's function, on the stack the thread has for its life.
        cfg!(target_arch = "x86_64") && MARKS.get().iter().any(|mark| unsafe { mark.at.read_volatile() } != mark.says)
    }

    /// Whether the callers include the destructor of a thread-local. If not, `moved` compares with what is there now.
    #[cold]
    pub(in crate::sys) fn has_destructor() -> bool {
        let mut search = Search { runner: runner(), found: false, seen: 0, last: [UNKNOWN; DEPTH] };
        // SAFETY: `step` keeps to what a callback of it may do, and gets the search that outlives the call.
        unsafe { _Unwind_Backtrace(step, (&raw mut search).cast()) };
        if !search.found && on_native_stack() {
            let (low, high) = bounds();
            let good = |mark: &Mark| {
                let inside = (low..high).contains(&mark.at.addr());
                // SAFETY: within the thread's stack, above this very frame; the unwinder has just read it.
                inside && unsafe { mark.at.read_volatile() } == mark.says
            };
            if search.seen >= DEPTH && search.last.iter().all(good) {
                MARKS.set(search.last);
            }
        }
        search.found
    }

    /// The function of glibc that runs destructors of thread-locals; 0 if it cannot be found.
    fn runner() -> usize {
        const ABSENT: usize = 1;
        static RUNNER: AtomicUsize = AtomicUsize::new(0);
        let mut runner = RUNNER.load(Ordering::Relaxed);
        if runner == 0 {
            // SAFETY: a name that ends in a zero.
            runner = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__call_tls_dtors".as_ptr()) } as usize;
            runner = runner.max(ABSENT);
            RUNNER.store(runner, Ordering::Relaxed);
        }
        if runner == ABSENT { 0 } else { runner }
    }

    fn bounds() -> (usize, usize) {
        if BOUNDS.get() == (0, 0) {
            BOUNDS.set(ask_bounds().unwrap_or((1, 1)));
        }
        BOUNDS.get()
    }
    fn ask_bounds() -> Option<(usize, usize)> {
        let (mut low, mut size) = (std::ptr::null_mut(), 0);
        // SAFETY: attributes are destroyed exactly if they were made; the rest are out-parameters.
        unsafe {
            let mut attributes: libc::pthread_attr_t = mem::zeroed();
            if libc::pthread_getattr_np(libc::pthread_self(), &mut attributes) != 0 {
                return None;
            }
            let said = libc::pthread_attr_getstack(&attributes, &mut low, &mut size);
            libc::pthread_attr_destroy(&mut attributes);
            (said == 0).then_some((low as usize, low as usize + size))
        }
    }

    struct Search {
        runner: usize,
        found: bool,
        seen: usize,
        /// The last frames seen, in a ring.
        last: [Mark; DEPTH],
    }

    extern "C" fn step(frame: *mut c_void, search: *mut c_void) -> i32 {
        const GO_ON: i32 = 0;
        const STOP: i32 = 4;
        // SAFETY: what `_Unwind_Backtrace` was given, and passes on; a return address is behind its call.
        unsafe {
            let search = &mut *search.cast::<Search>();
            let address = _Unwind_GetIP(frame);
            // A frame's callee has pushed it below where the frame's own part of the stack ends.
            let at = _Unwind_GetCFA(frame).wrapping_sub(size_of::<usize>());
            // Beyond the outermost frame there is one without an address.
            if address != 0 {
                search.last[search.seen % DEPTH] = Mark { at: at as *const usize, says: address };
                search.seen += 1;
            }
            let function = _Unwind_FindEnclosingFunction(address.saturating_sub(1) as *mut c_void) as usize;
            search.found = search.runner != 0 && function == search.runner;
            if search.found { STOP } else { GO_ON }
        }
    }
}
