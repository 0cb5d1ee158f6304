//! A workload of most primitives at once, one green thread of which is killed in its n-th turn, for every one and every n, and
//! then any of them at any time: nothing may be left of them. A turn of the loop is one switch to each green thread that is
//! ready, so "in its n-th turn" is "at its n-th switch" with a few that come to nothing.
#![cfg(feature = "green")]
mod guard;

use guard::guarded;
use std::cell::Cell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;
use twistlet::Reactor;
use twistlet::green::os::unix::net::UnixStream;
use twistlet::green::pools::Pool;
use twistlet::green::sync::{Condvar, Mutex, mpsc};
use twistlet::green::{
    Channel, Event, GreenPool, GreenThread, Queue, Select, Semaphore, broadcast, debug, proc, scope, sleep, spawn,
    wait_all, watch, with_timeout, yield_now,
};

const LONG: Duration = Duration::from_secs(3600);
/// After so many turns everybody has ended who can.
const TURNS: u32 = 14;
const WORKERS: usize = 22;

/// What the workers share, and what must be as it was when they are gone.
struct World {
    queue: Queue<u32>,
    channel: Channel<u32>,
    semaphore: Semaphore,
    event: Event<u32>,
    jobs: GreenPool,
    things: Pool<u32>,
    locked: Arc<(Mutex<u32>, Condvar)>,
    wires: (Rc<UnixStream>, Rc<UnixStream>),
    values: broadcast::Sender<u32>,
    level: watch::Sender<u32>,
    dropped: Rc<Cell<usize>>,
}
/// Something on a worker's stack, to see that its destructors have run.
struct Held(Rc<Cell<usize>>);
impl Drop for Held {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

impl World {
    fn new() -> twistlet::Result<World> {
        let (near, far) = UnixStream::pair()?;
        Ok(World {
            queue: Queue::bounded(1),
            channel: Channel::new(),
            semaphore: Semaphore::new(1),
            event: Event::new(),
            jobs: GreenPool::new(2),
            things: Pool::new(0, 1, || {
                yield_now();
                Ok(1)
            })?,
            locked: Arc::default(),
            wires: (Rc::new(near), Rc::new(far)),
            values: broadcast::channel(2).0,
            level: watch::channel(0).0,
            dropped: Rc::default(),
        })
    }

    fn worker(&self, f: impl FnOnce() -> twistlet::Result + 'static) -> GreenThread<()> {
        let held = Held(Rc::clone(&self.dropped));
        spawn(move || {
            let _held = held;
            f()
        })
    }

    fn start(&self) -> Vec<GreenThread<()>> {
        let mut workers = Vec::new();
        for number in 0..2 {
            let queue = self.queue.clone();
            workers.push(self.worker(move || (0..3).try_for_each(|n| queue.put(n + number))));
            let queue = self.queue.clone();
            workers.push(self.worker(move || {
                (0..3).try_for_each(|_| {
                    queue.get_timeout(LONG)?;
                    queue.task_done();
                    Ok(())
                })
            }));
            let semaphore = self.semaphore.clone();
            workers.push(self.worker(move || {
                for _ in 0..2 {
                    let _permit = semaphore.acquire();
                    yield_now();
                }
                Ok(())
            }));
            let things = self.things.clone();
            workers.push(self.worker(move || {
                for _ in 0..2 {
                    let _thing = things.get()?;
                    yield_now();
                }
                Ok(())
            }));
            let locked = Arc::clone(&self.locked);
            workers.push(self.worker(move || {
                let (mutex, changed) = &*locked;
                let mut guard = mutex.lock().expect("not poisoned");
                *guard += 1;
                yield_now();
                if number == 0 {
                    drop(changed.wait_while(guard, |count| *count < 2).expect("not poisoned"));
                } else {
                    changed.notify_all();
                }
                Ok(())
            }));
        }
        let channel = self.channel.clone();
        workers.push(self.worker(move || (0..2).try_for_each(|n| channel.send(n))));
        let channel = self.channel.clone();
        workers.push(self.worker(move || (0..2).try_for_each(|_| channel.wait().map(drop))));
        let (event, channel) = (self.event.clone(), self.channel.clone());
        workers.push(self.worker(move || Select::new().on(&event, drop).on(&channel, drop).after(LONG, || ()).wait()));
        let event = self.event.clone();
        workers.push(self.worker(move || {
            yield_now();
            event.send(1);
            Ok(())
        }));
        let jobs = self.jobs.clone();
        workers.push(self.worker(move || {
            let mut squares = jobs.imap(
                |n: u32| {
                    yield_now();
                    Ok(n * n)
                },
                0..4,
            );
            squares.try_for_each(|square| square.map(drop))
        }));
        let jobs = self.jobs.clone();
        workers.push(self.worker(move || {
            let members: Vec<_> = (0..3).map(|_| jobs.spawn(yield_now)).collect();
            wait_all(members).into_iter().collect()
        }));
        let count = Rc::clone(&self.dropped);
        workers.push(self.worker(move || {
            let lent = Cell::new(0);
            scope(|s| {
                for _ in 0..2 {
                    s.spawn(|| {
                        yield_now();
                        lent.set(lent.get() + 1);
                    });
                }
                yield_now();
            });
            assert!(lent.get() <= 2 && Rc::strong_count(&count) > 0);
            Ok(())
        }));
        let queue = Queue::<()>::new();
        workers.push(self.worker(move || {
            let _ = with_timeout(LONG, || queue.get());
            Ok(())
        }));
        let (near, far) = (Rc::clone(&self.wires.0), Rc::clone(&self.wires.1));
        workers.push(self.worker(move || {
            (&*near).write_all(b"ping")?;
            Ok((&*near).read_exact(&mut [0; 4])?)
        }));
        workers.push(self.worker(move || {
            (&*far).read_exact(&mut [0; 4])?;
            yield_now();
            Ok((&*far).write_all(b"pong")?)
        }));
        let (values, level) = (self.values.subscribe(), self.level.subscribe());
        let (sender, changer) = (self.values.clone(), self.level.clone());
        workers.push(self.worker(move || {
            let (send, receive) = mpsc::sync_channel(0);
            let linked = proc::spawn(move || {
                sender.send(1)?;
                changer.send(1)?;
                // Nobody takes it when its reader was killed.
                let _ = send.send(2);
                Ok(())
            });
            linked.link_to(proc::current());
            values.recv()?;
            level.changed()?;
            let _ = receive.recv();
            sleep(LONG);
            Ok(())
        }));
        assert_eq!(workers.len(), WORKERS - 1);
        let semaphore = self.semaphore.clone();
        workers.push(self.worker(move || {
            // Swallows whatever comes; the next wait tells it again.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(semaphore.acquire())));
            yield_now();
            Ok(())
        }));
        workers
    }

    /// `kills`: in which turn, and whom.
    fn run(kills: &[(u32, usize)]) -> twistlet::Result {
        let world = World::new()?;
        let workers = world.start();
        for turn in 0..TURNS {
            for (_, victim) in kills.iter().filter(|(when, _)| *when == turn) {
                workers[*victim].kill();
            }
            yield_now();
        }
        let ended = workers.iter().filter(|worker| worker.is_finished()).count();
        for worker in &workers {
            worker.kill();
        }
        wait_all(workers);
        // What members and children of those do, who were killed with them.
        world.jobs.wait_all();
        for _ in 0..3 {
            yield_now();
        }
        if kills.is_empty() {
            assert_eq!(ended, WORKERS - 1, "so many turns are enough for all but the one that waits for ever");
        }
        let World { queue, channel, semaphore, jobs, things, locked, dropped, event, .. } = &world;
        assert_eq!(dropped.get(), WORKERS, "{kills:?}: stacks that were not unwound");
        assert_eq!((semaphore.available(), semaphore.waiting()), (1, 0), "{kills:?}: permits");
        assert_eq!((jobs.running(), jobs.free(), jobs.waiting()), (0, 2, 0), "{kills:?}: pool");
        assert_eq!((things.free(), things.waiting()), (1, 0), "{kills:?}: things");
        assert_eq!((queue.waiting(), queue.putting()), (0, 0), "{kills:?}: queue");
        assert_eq!((channel.waiting(), channel.sending(), event.waiting()), (0, 0, 0), "{kills:?}: channel");
        assert!(locked.0.try_lock().is_ok(), "{kills:?}: the mutex is locked, or poisoned by a kill");
        Ok(())
    }
}

/// Runs the schedules on one thread with one reactor, which must be as it was afterwards.
fn run_all(schedules: impl Iterator<Item = Vec<(u32, usize)>> + Send + 'static) -> usize {
    // One after another: descriptors are counted for the whole process.
    static ALONE: StdMutex<()> = StdMutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let outcome = guarded(move || {
        World::run(&[])?;
        let measure = || {
            let statistics = Reactor::current().statistics();
            let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
            (debug::green_threads().len(), statistics.timers, statistics.descriptors, open)
        };
        let before = measure();
        let mut count = 0;
        for kills in schedules {
            World::run(&kills)?;
            count += 1;
            assert_eq!(measure(), before, "green threads, timers, descriptors, open files, after {kills:?}");
        }
        Ok::<usize, twistlet::Failure>(count)
    });
    match outcome {
        Ok(count) => count,
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn whoever_is_killed_at_whichever_switch_leaves_nothing_behind() {
    let schedules = (0..WORKERS).flat_map(|victim| (0..TURNS).map(move |turn| vec![(turn, victim)]));
    assert_eq!(run_all(schedules), WORKERS * TURNS as usize);
}

/// A fixed sequence that looks random.
fn numbers(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |bound| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % bound
    }
}
fn many_at_once(seed: u64) {
    // In portions, since each has only so much time before it counts as hanging.
    for portion in 0..10 {
        let mut next = numbers(seed + portion);
        let schedules = (0..485)
            .map(move |_| (0..1 + next(5)).map(|_| (next(TURNS as usize) as u32, next(WORKERS))).collect::<Vec<_>>());
        assert_eq!(run_all(schedules), 485);
    }
}
#[test]
fn several_that_are_killed_in_the_same_run_leave_nothing_behind() {
    many_at_once(100);
}
#[test]
fn several_others_that_are_killed_in_the_same_run_leave_nothing_behind() {
    many_at_once(200);
}
