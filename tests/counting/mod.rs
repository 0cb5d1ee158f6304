//! An allocator that counts for each OS thread, for tests of what something costs it.
#![allow(dead_code)] // each test file uses a part
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;
thread_local! {
    static COUNT: Cell<u32> = const { Cell::new(0) };
    static LIVE: Cell<isize> = const { Cell::new(0) };
}
// SAFETY: forwards to the system's allocator; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        let _ = LIVE.try_with(|live| live.set(live.get() + layout.size() as isize));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let _ = LIVE.try_with(|live| live.set(live.get() - layout.size() as isize));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(block, layout) }
    }
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
/// How many bytes this OS thread has allocated and not freed.
pub fn live() -> isize {
    LIVE.get()
}
