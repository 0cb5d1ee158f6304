//! Figures of the calling thread's stacks, for reports. Reads the pool; nothing may change in it meanwhile, and nothing does.
use super::{CLASSES, POOL, Seat, Slab};
use crate::sys::slab::page;
use crate::sys::thread;
use std::ffi::c_void;
use std::ptr::NonNull;

/// Pages asked about at once.
const PAGES: usize = 16 << 10;

/// What there is.
#[derive(Default)]
pub(crate) struct Figures {
    /// Stacks made so far, used or free.
    pub(crate) made: usize,
    /// Of these, those that are free.
    pub(crate) free: usize,
    /// Bytes of all of them that are in memory.
    pub(crate) resident: usize,
}

/// Counts the thread's stacks and asks the system how much of them is in memory: some microseconds a GiB of address space,
/// and more where much is in use.
pub(crate) fn figures() -> Figures {
    let mut figures = Figures::default();
    if thread::is_ending() {
        return figures;
    }
    POOL.with(|pool| {
        for class in 0..CLASSES {
            let mut next = pool.free[class].get();
            while let Some(seat) = NonNull::new(next.cast_mut()) {
                figures.free += 1;
                // SAFETY: seats of free stacks are mapped, and nobody changes the list while it is read.
                next = unsafe { next_of(seat) };
            }
        }
        let mut at = pool.slabs.get();
        // SAFETY: slabs of the pool live until the thread ends.
        while let Some(slab) = unsafe { at.as_ref() } {
            figures.made += slab.carved.get();
            figures.resident += resident(slab);
            at = slab.older;
        }
    });
    figures
}

/// # Safety
/// The seat is mapped.
unsafe fn next_of(seat: NonNull<Seat>) -> *const Seat {
    // SAFETY: the caller's.
    unsafe { seat.as_ref() }.next.get()
}

fn resident(slab: &Slab) -> usize {
    let mut told = vec![0u8; PAGES];
    let end = slab.base + slab.carved.get() * slab.stride;
    let mut at = slab.base;
    let mut pages = 0;
    while at < end {
        let length = (end - at).min(PAGES * page());
        // SAFETY: `told` has a byte for each page of the range, which is part of a mapping.
        let said = unsafe { libc::mincore(at as *mut c_void, length, told.as_mut_ptr().cast()) };
        if said == 0 {
            pages += told[..length.div_ceil(page())].iter().filter(|page| **page & 1 != 0).count();
        }
        at += length;
    }
    pages * page()
}
