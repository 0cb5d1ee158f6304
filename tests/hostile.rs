//! Programs that swallow kills in whatever they wait for, and deadlines that race with what they are for.
#![cfg(feature = "green")]
mod guard;

use guard::guarded;
use std::cell::Cell;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use twistlet::Reactor;
use twistlet::green::os::unix::net::UnixStream;
use twistlet::green::pools::Pool;
use twistlet::green::sync::{Condvar, Mutex, mpsc};
use twistlet::green::{
    Channel, Event, GreenPool, Queue, Select, Semaphore, broadcast, debug, proc, scope, sleep, spawn, watch,
    with_timeout, yield_now,
};

const LONG: Duration = Duration::from_secs(3600);
type Wait = (&'static str, Box<dyn FnOnce()>);

/// A wait by the name of what it waits for; clones what it needs.
macro_rules! wait {
    ($name:literal, [$($shared:ident),*], $wait:expr) => {{
        $(let $shared = $shared.clone();)*
        let wait: Wait = ($name, Box::new(move || {
            let _ = $wait;
        }));
        wait
    }};
}

#[test]
fn a_kill_that_is_swallowed_in_any_wait_comes_again_at_the_next_and_leaves_nothing() {
    // RS-04
    guarded(|| {
        let (queue, full, channel) = (Queue::<u32>::new(), Queue::<u32>::bounded(0), Channel::<u32>::new());
        let (semaphore, event) = (Semaphore::new(0), Event::<u32>::new());
        let (jobs, things) = (GreenPool::new(1), Pool::new(0, 1, || Ok(1u32)).expect("a pool"));
        let held = things.get().expect("a thing");
        let locked: Arc<(Mutex<u32>, Condvar)> = Arc::default();
        let (near, _far) = UnixStream::pair().expect("a pair");
        let near = Rc::new(near);
        let busy = jobs.spawn(|| sleep(LONG));
        let (sender, receiver) = mpsc::channel::<u32>();
        let ((values, value), (level, watcher)) = (broadcast::channel::<u32>(2), watch::channel(0u32));
        let going = proc::spawn(|| sleep(LONG));
        yield_now();
        let measure = || (debug::green_threads().len(), Reactor::current().statistics().timers);
        let before = measure();

        let waits: Vec<Wait> = vec![
            ("sleep", Box::new(|| sleep(LONG))),
            wait!("get", [queue], queue.get()),
            wait!("get_timeout", [queue], queue.get_timeout(LONG)),
            wait!("put", [full], full.put(1)),
            wait!("send", [channel], channel.send(1)),
            wait!("acquire", [semaphore], semaphore.acquire()),
            wait!("event", [event], event.wait()),
            wait!("select", [event, queue], {
                Select::new().on(&event, drop).on(&queue, drop).after(LONG, || ()).wait()
            }),
            wait!("pool", [jobs], jobs.spawn(|| ())),
            wait!("things", [things], things.get()),
            wait!("condvar", [locked], {
                let guard = locked.0.lock().expect("not poisoned");
                locked.1.wait(guard).map(drop)
            }),
            wait!("mpsc", [], receiver.recv()),
            wait!("read", [near], (&*near).read(&mut [0; 8])),
            wait!("with_timeout", [queue], with_timeout(LONG, || queue.get())),
            wait!("broadcast", [value], value.recv()),
            wait!("watch", [watcher], watcher.changed()),
            ("scope", Box::new(|| scope(|s| drop(s.spawn(|| sleep(LONG)))))),
            wait!("proc", [going], going.wait()),
        ];
        for (name, wait) in waits {
            let step = Rc::new(Cell::new(0));
            let at = Rc::clone(&step);
            let victim = spawn(move || {
                at.set(1);
                let _ = catch_unwind(AssertUnwindSafe(wait));
                at.set(2);
                sleep(LONG);
                at.set(3);
            });
            for _ in 0..3 {
                yield_now();
            }
            assert_eq!(step.get(), 1, "{name} did not wait");
            victim.kill();
            assert!(victim.wait().is_err(), "{name}");
            assert_eq!(step.get(), 2, "{name}: passed its second wait, or never left the first");
            assert_eq!(measure(), before, "{name}: green threads, timers");
        }
        let lines = (queue.waiting(), full.putting(), channel.sending(), semaphore.waiting(), event.waiting());
        assert_eq!((lines, things.waiting()), ((0, 0, 0, 0, 0), 0));
        assert!(locked.0.try_lock().is_ok());
        drop(held);
        assert_eq!((things.free(), jobs.running(), jobs.waiting()), (1, 1, 0));
        busy.kill();
        going.kill();
        yield_now();
        drop((sender, values, level));
    });
}

#[test]
fn deadlines_that_race_with_what_they_are_for_lose_and_double_nothing() {
    // TO-14, EQS-17
    guarded(|| {
        const LIMIT: Duration = Duration::from_micros(200);
        for round in 0..1_000u64 {
            let (queue, semaphore) = (Queue::new(), Semaphore::new(0));
            let (own, other, permits) = (queue.clone(), queue.clone(), semaphore.clone());
            let takers = [
                spawn(move || Ok(with_timeout(LIMIT, || own.get()).is_ok_and(|item| item.is_ok()))),
                spawn(move || Ok(other.get_timeout(LIMIT).is_ok())),
            ];
            let holder = spawn(move || drop(with_timeout(LIMIT, || permits.acquire())));
            yield_now();
            // Before, about, and after the deadlines.
            sleep(Duration::from_micros(round % 400));
            queue.send(1);
            queue.send(2);
            semaphore.release();
            let taken = takers.into_iter().map(|taker| taker.wait()).filter(|took| *took == Ok(true)).count();
            holder.wait().expect("it ends");
            let left = std::iter::from_fn(|| queue.poll()).count();
            assert_eq!(taken + left, 2, "round {round}: items");
            assert_eq!((semaphore.available(), semaphore.waiting(), queue.waiting()), (1, 0, 0), "round {round}");
            assert_eq!(Reactor::current().statistics().timers, 0, "round {round}");
        }
    });
}
