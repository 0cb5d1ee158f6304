//! The seam to `context`: make a context on a stack, jump to one. Called by `fiber` and `block` only.
//!
//! Replacing `context` by another switch means rewriting this file and nothing else.
use context::stack::Stack as Region;
use context::{Context, Transfer};
use std::ffi::c_void;
use std::mem;
use std::ptr::NonNull;

/// A suspended context: the stack pointer it saved.
pub(super) type Saved = NonNull<c_void>;

/// What runs first on a new stack: told who jumped here and the word they passed. It never returns.
pub(super) type Entry = extern "C" fn(Saved, usize) -> !;

/// Makes a context that will run `block::entry` on the stack between `bottom` and `top`.
///
/// # Safety
/// The memory from `bottom` to `top` is a writable stack without frames that outlives the context, with at least a page
/// below `top`.
#[inline(always)]
pub(super) unsafe fn prepare(top: *mut u8, bottom: *mut u8) -> Saved {
    // SAFETY: the caller vouches for the memory; a Region does not own it.
    let region = unsafe { Region::new(top.cast(), bottom.cast()) };
    // SAFETY: `shim` has the ABI that `context` expects of an entry, and does not return.
    let made = unsafe { Context::new(&region, shim) };
    // SAFETY: Context is `repr(C)` around one non-null pointer.
    unsafe { mem::transmute::<Context, Saved>(made) }
}

/// Suspends the caller and resumes `to`, which is given `word`. Returns when somebody resumes the caller: their context,
/// which is theirs to be resumed once, and their word.
///
/// # Safety
/// `to` was made by [`prepare`] or returned by [`jump`] on this thread, has not been jumped to since, and its stack is
/// still there.
#[inline(always)]
pub(super) unsafe fn jump(to: Saved, word: usize) -> (Saved, usize) {
    // SAFETY: as above; the caller vouches that it is resumed once and its stack alive.
    let arrived = unsafe { mem::transmute::<Saved, Context>(to).resume(word) };
    // SAFETY: as above.
    (unsafe { mem::transmute::<Context, Saved>(arrived.context) }, arrived.data)
}

/// Ends the chain of frames, for unwinders and for walkers of frame pointers, and calls the real entry.
///
/// `context` leaves code addresses or stale memory where the caller's frame pointer would be, and no unwind information.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
extern "C" fn shim(arrived: Transfer) -> ! {
    // The Transfer arrives in rdi and rsi, which are also Entry's parameters. On entry rsp is 8 below a multiple of 16.
    std::arch::naked_asm!(
        ".cfi_startproc",
        ".cfi_undefined rip",
        "xor ebp, ebp",
        "sub rsp, 8",
        ".cfi_adjust_cfa_offset 8",
        "call {entry}",
        "ud2",
        ".cfi_endproc",
        entry = sym super::block::entry,
    )
}

/// As on x86_64: the Transfer arrives in x0 and x1.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
extern "C" fn shim(arrived: Transfer) -> ! {
    std::arch::naked_asm!(
        ".cfi_startproc",
        ".cfi_undefined x30",
        "mov x29, xzr",
        "mov x30, xzr",
        "bl {entry}",
        "brk #1",
        ".cfi_endproc",
        entry = sym super::block::entry,
    )
}

/// Best effort elsewhere: no end marker.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
extern "C" fn shim(arrived: Transfer) -> ! {
    // SAFETY: Context is `repr(C)` around one non-null pointer.
    super::block::entry(unsafe { mem::transmute::<Context, Saved>(arrived.context) }, arrived.data)
}

const _: Entry = super::block::entry;

/// Asks the processor to fetch two lines of memory that will be used soon, for a suspended context those that resuming
/// it reads first. Any address will do.
#[inline(always)]
pub(super) fn prefetch(at: *const c_void) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address is harmless.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
        _mm_prefetch::<_MM_HINT_T0>(at.cast::<i8>().wrapping_add(64));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch of any address is harmless.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{0}]", "prfm pldl1keep, [{0}, #64]", in(reg) at, options(nostack, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}
