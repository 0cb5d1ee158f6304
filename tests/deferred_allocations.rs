//! What a Deferred costs the allocator: nothing when it has fired, one block for the two ends, one for each link.
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use twistlet::Deferred;

struct Counting;
thread_local! {
    static COUNT: Cell<u32> = const { Cell::new(0) };
}
// SAFETY: forwards to the system's allocator; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(block, layout) }
    }
}
#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(f: impl FnOnce()) -> u32 {
    let before = COUNT.get();
    f();
    COUNT.get() - before
}

#[test]
fn a_fired_one_allocates_nothing() {
    assert_eq!(
        allocations(|| {
            let deferred = Deferred::succeed(1).add_callback(|n| Ok(n + 1)).add_errback(|_| Ok(0));
            assert_eq!(deferred.try_take().unwrap(), Ok(2));
        }),
        0
    );
}

#[test]
fn two_ends_and_a_callback_are_two_blocks() {
    assert_eq!(
        allocations(|| {
            let (promise, deferred) = Deferred::<u32>::new();
            let deferred = deferred.add_callback(|n| Ok(n + 1));
            promise.callback(1);
            assert_eq!(deferred.try_take().unwrap(), Ok(2));
        }),
        2
    );
}

#[test]
fn a_link_is_one_block() {
    assert_eq!(
        allocations(|| {
            let (promise, mut deferred) = Deferred::<u32>::new();
            for _ in 0..10 {
                deferred = deferred.add_callback(|n| Ok(n + 1));
            }
            promise.callback(0);
            assert_eq!(deferred.try_take().unwrap(), Ok(10));
        }),
        11
    );
}
