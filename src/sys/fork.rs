//! How often this process has been a child of `fork` without exec, told by the C library: one load instead of a system call.
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

static FORKS: AtomicU32 = AtomicU32::new(0);
static COUNTING: Once = Once::new();

unsafe extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// What another call in the same process gives as well, and one in a child of it does not.
pub(crate) fn generation() -> u32 {
    COUNTING.call_once(|| {
        // SAFETY: the handler adds to an atomic number and does nothing else, which is allowed in a child of fork. It fails
        // for want of memory alone, and then a fork is not noticed.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
    FORKS.load(Ordering::Relaxed)
}
