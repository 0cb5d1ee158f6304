//! What events, queues, channels and semaphores cost the allocator: nothing where nobody waits, and once they are warm, nothing
//! where somebody does.
#![cfg(feature = "green")]
mod counting;
mod guard;

use counting::allocations;
use guard::guarded;
use std::time::Duration;
use twistlet::green::queue::{LifoQueue, LightQueue, PriorityQueue};
use twistlet::green::semaphore::{BoundedSemaphore, CappedSemaphore};
use twistlet::green::{Channel, Event, Queue, Semaphore, spawn, yield_now};

#[test]
fn what_nobody_waits_for_allocates_nothing() {
    guarded(|| {
        let (event, queue, channel) = (Event::new(), Queue::bounded(4), Channel::bounded(4));
        let (light, newest, smallest) = (LightQueue::bounded(4), LifoQueue::bounded(4), PriorityQueue::bounded(4));
        let (semaphore, bounded, capped) = (Semaphore::new(1), BoundedSemaphore::new(1), CappedSemaphore::new(1, 1));
        let round = |n: u32| {
            event.send(n);
            assert_eq!((event.wait().ok(), event.wait_timeout(Duration::ZERO).ok()), (Some(n), Some(n)));
            event.reset();
            queue.put(n).unwrap();
            queue.send(n);
            assert_eq!((queue.get().ok(), queue.poll().and_then(Result::ok)), (Some(n), Some(n)));
            queue.task_done();
            queue.task_done();
            queue.join().unwrap();
            channel.send(n).unwrap();
            assert_eq!(channel.wait().ok(), Some(n));
            light.put(n).unwrap();
            newest.put(n).unwrap();
            smallest.put(n).unwrap();
            assert_eq!((light.get().ok(), newest.get().ok(), smallest.get().ok()), (Some(n), Some(n), Some(n)));
            light.try_put(n).unwrap();
            assert_eq!((light.try_get(), light.try_get()), (Some(n), None));
            let permit = semaphore.acquire();
            assert!(semaphore.try_acquire().is_none());
            drop((permit, bounded.acquire(), capped.hold()));
        };
        // Their stores get memory once.
        round(0);
        assert_eq!(allocations(|| (1..100).for_each(&round)), 0);
    });
}

#[test]
fn whoever_waits_in_a_line_that_is_warm_allocates_nothing() {
    guarded(|| {
        let (ping, pong) = (Queue::bounded(0), Channel::new());
        let (there, back) = (ping.clone(), pong.clone());
        let gate = Semaphore::new(0);
        let turn = gate.clone();
        let echo = spawn(move || -> twistlet::Result {
            loop {
                let item: u32 = there.get()?;
                turn.acquire().forget();
                back.send(item)?;
            }
        });
        let round = |n| {
            ping.put(n).unwrap();
            yield_now();
            gate.release();
            assert_eq!(pong.wait().ok(), Some(n));
        };
        (0..50).for_each(&round);
        assert_eq!(allocations(|| (50..150).for_each(&round)), 0);
        echo.kill();
        assert!(echo.wait().is_err());
    });
}
