//! What a Deferred costs the allocator: nothing when it has fired, one block for the two ends, one for each link.
mod counting;

use counting::allocations;
use twistlet::Deferred;

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
