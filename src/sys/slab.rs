//! Slabs: mappings of address space for many equal stacks, and the guards between those.
//!
//! On Linux 6.13 and later guards are page-table markers inside the mapping (`MADV_GUARD_INSTALL`), so a million stacks are
//! some forty mappings; elsewhere a guard splits the mapping (`mprotect`), and the kernel's limit of mappings is an error
//! with a name. Called by `stack`. A slab with a stack that somebody has must never be unmapped.
use super::error::StackError;
use super::overflow;
use std::cell::Cell;
use std::ffi::c_void;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One mapping.
pub(super) struct Slab {
    pub(super) base: usize,
    pub(super) count: usize,
    /// Log2 of a stack's size.
    pub(super) shift: u32,
    /// From stack to stack.
    pub(super) stride: usize,
    /// Stacks handed out at least once.
    pub(super) carved: Cell<usize>,
    /// Counted from the end of the thread on: stacks somebody still has.
    pub(super) left: Cell<usize>,
    pub(super) older: *const Slab,
    entry: &'static overflow::Entry,
}

/// Bytes of guard at the low end of a stack of `size`. More than a page where it costs little: C code compiled without
/// stack probes can skip one.
pub(super) fn guard(size: usize) -> usize {
    (size / 16).clamp(page(), 64 << 10).next_multiple_of(page())
}

#[cfg(target_arch = "x86_64")]
pub(super) fn page() -> usize {
    4096
}
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn page() -> usize {
    static PAGE: AtomicUsize = AtomicUsize::new(0);
    match PAGE.load(Ordering::Relaxed) {
        0 => {
            // SAFETY: sysconf has no preconditions.
            let asked = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
            let page = usize::try_from(asked).unwrap_or(4096);
            PAGE.store(page, Ordering::Relaxed);
            page
        }
        page => page,
    }
}

/// How guards are made, found out by the first.
#[cfg(target_os = "linux")]
static GUARDS: AtomicUsize = AtomicUsize::new(0);
#[cfg(target_os = "linux")]
const BY_MARKERS: usize = 1;
#[cfg(target_os = "linux")]
const BY_MPROTECT: usize = 2;

#[cfg(target_os = "linux")]
fn by_markers() -> bool {
    if GUARDS.load(Ordering::Relaxed) == 0 {
        // The variable is for tests of the other way.
        let other = std::env::var_os("TWISTLET_GUARD").is_some_and(|way| way == "mprotect");
        GUARDS.store(if other { BY_MPROTECT } else { BY_MARKERS }, Ordering::Relaxed);
    }
    GUARDS.load(Ordering::Relaxed) == BY_MARKERS
}

/// Makes the low end of a stack fault.
pub(super) fn protect(at: usize, length: usize) -> Result<(), StackError> {
    #[cfg(target_os = "linux")]
    if by_markers() {
        const MADV_GUARD_INSTALL: libc::c_int = 102;
        // SAFETY: a range of a slab in which no stack was cut yet.
        if unsafe { libc::madvise(at as *mut c_void, length, MADV_GUARD_INSTALL) } == 0 {
            return Ok(());
        }
        // An older kernel, or memory locked by mlockall.
        GUARDS.store(BY_MPROTECT, Ordering::Relaxed);
    }
    // SAFETY: as above.
    if unsafe { libc::mprotect(at as *mut c_void, length, libc::PROT_NONE) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::ENOMEM) => Err(StackError::TooManyMappings {
            limit: std::fs::read_to_string("/proc/sys/vm/max_map_count").ok().and_then(|text| text.trim().parse().ok()),
        }),
        code => Err(StackError::OutOfMemory { size: length, code: code.unwrap_or(0) }),
    }
}

/// A new slab of up to `count` stacks; fewer if the system has not that much address space.
pub(super) fn map(mut count: usize, shift: u32, older: *const Slab) -> Result<*const Slab, StackError> {
    // One page of page table covers this much; stacks that straddle two would cost more of them.
    const ALIGN: usize = 2 << 20;
    #[cfg(target_os = "linux")]
    const FLAGS: libc::c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
    #[cfg(not(target_os = "linux"))]
    const FLAGS: libc::c_int = libc::MAP_PRIVATE | libc::MAP_ANON;
    let stride = (1 << shift) + page();
    let (base, length) = loop {
        let length = count * stride;
        // SAFETY: a new anonymous mapping wherever the system likes.
        let at =
            unsafe { libc::mmap(ptr::null_mut(), length + ALIGN, libc::PROT_READ | libc::PROT_WRITE, FLAGS, -1, 0) };
        if at != libc::MAP_FAILED {
            let at = at as usize;
            let base = at.next_multiple_of(ALIGN);
            // SAFETY: the ends of the mapping just made, which nobody has seen. If this fails, they stay mapped.
            unsafe {
                if base > at {
                    libc::munmap(at as *mut c_void, base - at);
                }
                if base < at + ALIGN {
                    libc::munmap((base + length) as *mut c_void, at + ALIGN - base);
                }
            }
            break (base, length);
        }
        if count == 1 {
            let code = io::Error::last_os_error().raw_os_error().unwrap_or(0);
            return Err(StackError::OutOfMemory { size: 1 << shift, code });
        }
        count /= 2;
    };
    // Before Linux 6.8 MAP_STACK alone does not keep huge pages away, and one would make 512 pages of every first touch.
    #[cfg(target_os = "linux")]
    // SAFETY: the mapping just made.
    unsafe {
        libc::madvise(base as *mut c_void, length, libc::MADV_NOHUGEPAGE);
    }
    let entry = overflow::register(base, length, stride);
    Ok(Box::into_raw(Box::new(Slab {
        base,
        count,
        shift,
        stride,
        carved: Cell::new(0),
        left: Cell::new(0),
        older,
        entry,
    })))
}

/// Gives a slab back to the system.
///
/// # Safety
/// Nobody has a stack of this slab, and nobody uses it afterwards.
pub(super) unsafe fn unmap(slab: *const Slab) {
    // SAFETY: made by `map` with Box::into_raw; the caller is the last to have it.
    let slab = unsafe { Box::from_raw(slab.cast_mut()) };
    overflow::unregister(slab.entry);
    // SAFETY: the whole mapping, without a stack that anybody has.
    unsafe { libc::munmap(slab.base as *mut c_void, slab.count * slab.stride) };
}
