//! An allocator that counts for each OS thread, for tests of what something costs it.
#![allow(dead_code)] // each test file uses a part
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;
thread_local! {
    static COUNT: Cell<u32> = const { Cell::new(0) };
    /// Bytes that are allocated, and the most of them since `peak` began.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}
// SAFETY: forwards to the system's allocator; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        add(layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        add(-(layout.size() as isize));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(block, layout) }
    }
}
fn add(bytes: isize) {
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}
#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often this OS thread has allocated in `f`.
pub fn allocations(f: impl FnOnce()) -> u32 {
    let before = COUNT.get();
    f();
    COUNT.get() - before
}
/// How often this OS thread has allocated so far.
pub fn counted() -> u32 {
    COUNT.get()
}
/// How many bytes more than before this OS thread has had allocated at once in `f`.
pub fn peak(f: impl FnOnce()) -> usize {
    let before = LIVE.get();
    PEAK.set(before);
    f();
    (PEAK.get() - before).max(0) as usize
}
/// How many bytes this OS thread has allocated and not freed, in comparison with others of these figures.
pub fn live() -> isize {
    LIVE.get()
}
