//! The system's own monotonic clock as a number, which std's `Instant` does not tell and other programs compare.
//!
//! Called by `service::systemd`. What must never happen here: anything else timed by it.
use std::mem::MaybeUninit;
use std::time::Duration;

/// Since some moment of the past that is the same for all processes. Zero where the system has no such clock.
pub(crate) fn monotonic() -> Duration {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: the timespec is memory of ours, which clock_gettime(2) writes; zeroed it is valid if that fails.
    let time = unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, time.as_mut_ptr());
        time.assume_init()
    };
    // Neither is negative on this clock.
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
