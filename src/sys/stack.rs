//! Stacks: cut out of slabs, and pooled by their thread while they are free, the last one used on top.
//!
//! Called by `fiber`. A stack with frames must never come here, and no more than one stack be made of one place.
mod figures;

pub(crate) use figures::figures;

use super::error::StackError;
use super::slab::{Slab, guard, map, page, protect, unmap};
use super::{overflow, thread};
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::{self, NonNull};

/// Address space of a stack unless its maker says otherwise.
pub(crate) const DEFAULT_SIZE: usize = 256 << 10;
/// The least: `AT_MINSIGSTKSZ` alone may be 12 KiB, and a panic with its message takes 5.
pub(crate) const MIN_SIZE: usize = 1 << MIN_SHIFT;
const MIN_SHIFT: u32 = 14;
pub(super) const MAX_SHIFT: u32 = 30;
const CLASSES: usize = (MAX_SHIFT - MIN_SHIFT + 1) as usize;

/// Of a free stack that was used deeply this much at the top stays in memory.
const KEPT: usize = 16 << 10;
/// The free stacks on top of the pool are left as they are: they will be used next.
const HOT: usize = 64;
/// Of so many that come back above these one is looked at: asking the system about each would take longer than running
/// it. If that one was used deeply all are looked at. No power of two, which may be a rhythm of the program's.
const SAMPLE: usize = 61;
/// A slab takes no more address space than this, and the first of a thread no more than the second.
const MAX_SLAB: usize = (1 << 20) << if usize::BITS == 64 { 13 } else { 6 };
const FIRST_SLAB: usize = 8 << 20;

/// What sits at the very top of every stack for as long as its slab is mapped.
#[repr(C, align(64))]
pub(super) struct Seat {
    /// The next free stack below this one in the pool.
    next: Cell<*const Seat>,
    slab: *const Slab,
    /// Whose control block runs on this stack; null while it is free. The overflow reporter reads it.
    pub(super) owner: Cell<*const super::block::Block>,
    /// Free, and known to hold no more memory than is kept.
    swept: Cell<bool>,
}

/// A stack that is not free. Giving it back is `give`; losing it leaks it, which is always sound.
#[derive(Clone, Copy)]
pub(super) struct Stack(NonNull<Seat>);

impl Stack {
    fn slab(&self) -> &Slab {
        // SAFETY: a seat is mapped, and its slab there, as long as the stack is not free, and the pool's are mapped too.
        unsafe { &*self.seat().slab }
    }
    pub(super) fn seat(&self) -> &Seat {
        // SAFETY: as above.
        unsafe { self.0.as_ref() }
    }
    /// Address space of the stack, its guard included.
    pub(super) fn size(&self) -> usize {
        1 << self.slab().shift
    }
    /// Where frames may begin. Differs a little from stack to stack: the same offset in every page would make all stacks
    /// share a few lines of the processor's cache.
    pub(super) fn top(&self) -> *mut u8 {
        let at = self.0.as_ptr() as usize;
        let number = (at - self.slab().base) / self.slab().stride;
        self.0.as_ptr().cast::<u8>().wrapping_sub((number % COLORS) * 64)
    }
    /// The lowest byte that is not guard.
    pub(super) fn bottom(&self) -> *mut u8 {
        let size = self.size();
        self.0.as_ptr().cast::<u8>().wrapping_add(size_of::<Seat>()).wrapping_sub(size).wrapping_add(guard(size))
    }
}

const COLORS: usize = 16;

/// Of one thread. Has no destructor, so that stacks can come back while thread-locals are destroyed; `end_thread` ends it.
struct Pool {
    free: [Cell<*const Seat>; CLASSES],
    /// Stacks on top of each free list that were not looked at since they were used.
    unswept: [Cell<usize>; CLASSES],
    slabs: Cell<*const Slab>,
}

thread_local! {
    static POOL: Pool = const {
        Pool {
            free: [const { Cell::new(ptr::null()) }; CLASSES],
            unswept: [const { Cell::new(0) }; CLASSES],
            slabs: Cell::new(ptr::null()),
        }
    };
}

/// A stack of at least `size` bytes of address space, guard included.
#[inline]
pub(super) fn take(size: usize) -> Result<Stack, StackError> {
    // A larger size than any is refused by `carve`; it must not overflow here.
    let shift = size.clamp(MIN_SIZE.max(4 * page()), 2 << MAX_SHIFT).next_power_of_two().trailing_zeros();
    let class = (shift - MIN_SHIFT) as usize;
    POOL.with(|pool| {
        if class < CLASSES
            && let Some(seat) = NonNull::new(pool.free[class].get().cast_mut())
        {
            let stack = Stack(seat);
            pool.free[class].set(stack.seat().next.get());
            let unswept = &pool.unswept[class];
            unswept.set(unswept.get().saturating_sub(1));
            stack.seat().swept.set(false);
            return Ok(stack);
        }
        carve(pool, size, shift)
    })
}

/// Takes a stack back.
///
/// # Safety
/// It has no frames, will not be entered again, and nothing refers to its memory.
#[inline]
pub(super) unsafe fn give(stack: Stack) {
    if thread::is_ending() {
        return give_up(stack);
    }
    POOL.with(|pool| {
        let class = (stack.slab().shift - MIN_SHIFT) as usize;
        let seat = stack.seat();
        seat.owner.set(ptr::null());
        seat.next.set(pool.free[class].get());
        pool.free[class].set(seat);
        let unswept = pool.unswept[class].get() + 1;
        pool.unswept[class].set(unswept);
        if unswept >= HOT + SAMPLE {
            sample(pool, class, stack);
        }
    });
}

/// Gives memory of free stacks that were used deeply back to the system. For idle moments: takes a microsecond a stack.
pub(crate) fn trim() {
    if thread::is_ending() {
        return;
    }
    POOL.with(|pool| {
        for class in 0..CLASSES {
            sweep(pool, class, 0);
        }
    });
}

/// Looks at one free stack, and at all if that was used deeply.
#[cold]
fn sample(pool: &Pool, class: usize, stack: Stack) {
    if deep(stack).is_some() {
        sweep(pool, class, HOT);
    } else {
        pool.unswept[class].set(HOT);
    }
}

/// Looks at the free stacks below the `hot` ones that were not looked at since they were used.
#[cold]
fn sweep(pool: &Pool, class: usize, hot: usize) {
    let mut next = pool.free[class].get();
    let mut place = 0;
    while let Some(seat) = NonNull::new(next.cast_mut()) {
        let stack = Stack(seat);
        if place >= hot {
            if stack.seat().swept.get() {
                break;
            }
            stack.seat().swept.set(true);
            shrink(stack);
        }
        place += 1;
        next = stack.seat().next.get();
    }
    pool.unswept[class].set(hot.min(place));
}

/// Gives all but the top of a free stack back to the system, if there is anything to give.
fn shrink(stack: Stack) {
    if let Some((bottom, length)) = deep(stack) {
        // SAFETY: private anonymous memory of a free stack, below its seat: nobody refers to it.
        unsafe { libc::madvise(bottom as *mut c_void, length, libc::MADV_DONTNEED) };
    }
}

/// What a free stack has below the part that it keeps, where and how long, if that has been used.
fn deep(stack: Stack) -> Option<(usize, usize)> {
    let kept = stack.0.as_ptr() as usize + size_of::<Seat>() - KEPT;
    let bottom = stack.bottom() as usize;
    let length = kept.checked_sub(bottom).filter(|length| *length > 0)?;
    // Who goes deeper passes here: Rust's frames touch every page, and few others leave out two.
    let passage = length.min(2 * page());
    resident(kept - passage, passage).then_some((bottom, length))
}

/// Whether any of at most two pages is in memory.
fn resident(from: usize, length: usize) -> bool {
    let mut pages = [0u8; 2];
    // SAFETY: `pages` has a byte for each page of the range, which is mapped.
    let said = unsafe { libc::mincore(from as *mut c_void, length, pages.as_mut_ptr().cast()) };
    // If it cannot tell, giving back is right.
    said != 0 || pages.iter().any(|page| page & 1 != 0)
}

/// A stack never used before, from the newest slab of its class or a new one.
#[cold]
fn carve(pool: &Pool, size: usize, shift: u32) -> Result<Stack, StackError> {
    if shift > MAX_SHIFT || size > 1 << MAX_SHIFT {
        return Err(StackError::TooLarge { size });
    }
    if !thread::watch() {
        return Err(StackError::ThreadEnding);
    }
    overflow::install();
    let mut newest = 0;
    let mut at = pool.slabs.get();
    // SAFETY: slabs of the pool live until `end_thread`.
    while let Some(slab) = unsafe { at.as_ref() } {
        if slab.shift == shift {
            if slab.carved.get() < slab.count {
                return seat(slab);
            }
            newest = newest.max(slab.count);
        }
        at = slab.older;
    }
    let count = if newest == 0 { FIRST_SLAB >> shift } else { (newest * 2).min(MAX_SLAB >> shift) };
    let slab = map(count.max(1), shift, pool.slabs.get())?;
    pool.slabs.set(slab);
    // SAFETY: just made; slabs of the pool live until `end_thread`.
    seat(unsafe { &*slab })
}

/// Cuts the next stack out of a slab.
fn seat(slab: &Slab) -> Result<Stack, StackError> {
    let size = 1 << slab.shift;
    let bottom = slab.base + slab.carved.get() * slab.stride;
    protect(bottom, slab.stride - size + guard(size))?;
    slab.carved.set(slab.carved.get() + 1);
    let seat = (bottom + slab.stride - size_of::<Seat>()) as *mut Seat;
    // SAFETY: the top of a stack that nobody has, in a writable mapping; a stack's size is a multiple of the alignment.
    unsafe {
        seat.write(Seat { next: Cell::new(ptr::null()), slab, owner: Cell::new(ptr::null()), swept: Cell::new(false) });
        Ok(Stack(NonNull::new_unchecked(seat)))
    }
}

/// The thread ends: unmaps every slab whose stacks are all free. The others are unmapped when their last stack comes
/// back, or stay, if a stack has frames that nobody will ever run.
pub(super) fn end_thread() {
    POOL.with(|pool| {
        let mut at = pool.slabs.replace(ptr::null());
        let mut next = at;
        // SAFETY: slabs of the pool live until here.
        while let Some(slab) = unsafe { next.as_ref() } {
            slab.left.set(slab.carved.get());
            next = slab.older;
        }
        let each_free = |class: &Cell<*const Seat>, run: fn(Stack)| {
            let mut next = class.get();
            while let Some(seat) = NonNull::new(next.cast_mut()) {
                let stack = Stack(seat);
                next = stack.seat().next.get();
                run(stack);
            }
        };
        for class in &pool.free {
            each_free(class, |stack| stack.slab().left.set(stack.slab().left.get() - 1));
        }
        // Only what cannot be unmapped is worth a look.
        for class in &pool.free {
            each_free(class, |stack| {
                if stack.slab().left.get() > 0 {
                    shrink(stack);
                }
            });
            class.set(ptr::null());
        }
        while !at.is_null() {
            // SAFETY: as above; `unmap` frees only the one whose `older` was read before.
            let (older, left) = unsafe { ((*at).older, (*at).left.get()) };
            if left == 0 {
                // SAFETY: no stack of it is out, and the pool has forgotten it.
                unsafe { unmap(at) };
            }
            at = older;
        }
    });
}

/// A stack that comes back after the pool has gone.
#[cold]
fn give_up(stack: Stack) {
    let left = &stack.slab().left;
    left.set(left.get() - 1);
    if left.get() == 0 {
        // SAFETY: this was the last stack of it, and the pool has forgotten it.
        unsafe { unmap(stack.seat().slab) };
    }
}
