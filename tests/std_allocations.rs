//! What `green::sync` costs the allocator where nobody waits: nothing.
#![cfg(feature = "green")]
mod counting;

use counting::{allocations, counted};
use twistlet::green::sync::mpsc::{channel, sync_channel};
use twistlet::green::sync::{Arc, Barrier, Condvar, Mutex, Once, OnceLock, RwLock};
use twistlet::green::{spawn, thread, yield_now};

#[test]
fn what_nobody_waits_for_allocates_nothing() {
    let work = || {
        let (mutex, lock, changed) = (Mutex::new(0), RwLock::new(0), Condvar::new());
        let (once, cell, barrier) = (Once::new(), OnceLock::new(), Barrier::new(1));
        let (send, recv) = channel();
        let (sync_send, sync_recv) = sync_channel(2);
        // Their queues get memory once.
        send.send(0).unwrap();
        sync_send.send(0).unwrap();
        recv.recv().unwrap();
        sync_recv.recv().unwrap();
        thread::current().unpark();
        thread::park();
        allocations(|| {
            for n in 0..100 {
                *mutex.lock().unwrap() += *lock.read().unwrap();
                *mutex.try_lock().unwrap() += 1;
                *lock.write().unwrap() += 1;
                changed.notify_one();
                changed.notify_all();
                once.call_once(|| {});
                cell.get_or_init(|| 1);
                barrier.wait();
                send.send(n).unwrap();
                assert_eq!(recv.recv(), Ok(n));
                sync_send.send(n).unwrap();
                assert_eq!(sync_recv.try_recv(), Ok(n));
                thread::current().unpark();
                thread::park();
            }
        })
    };
    assert_eq!(work(), 0);
    assert_eq!(spawn(move || Ok(work())).wait().unwrap(), 0);
}

#[test]
fn a_wait_for_a_lock_costs_one_block() {
    let mutex = Arc::new(Mutex::new(0));
    let worker = |mutex: Arc<Mutex<i32>>| {
        move || {
            let mut count = 0;
            for _ in 0..1000 {
                let before = counted();
                let mut held = mutex.lock().unwrap();
                count += counted() - before;
                *held += 1;
                yield_now();
            }
            Ok(count)
        }
    };
    let (one, two) = (spawn(worker(Arc::clone(&mutex))), spawn(worker(Arc::clone(&mutex))));
    let (one, two) = (one.wait().unwrap(), two.wait().unwrap());
    // And the other's, and the line's memory.
    assert!(one + two <= 4 * 2000 && one + two > 0, "{one} and {two}");
}
