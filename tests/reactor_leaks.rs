//! R7 under a counting allocator: reactors that are made, filled, run and closed leave nothing behind, no byte and no
//! descriptor. One test only: the counters are the process's.
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Duration;
use twistlet::reactor::{Descriptor, Phase, Watch};
use twistlet::{ConnectionClosed, Deferred, Protocol, Reactor, TransportRef};

struct Counting;
static BYTES: AtomicIsize = AtomicIsize::new(0);

// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(at, layout) }
    }
}
#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// Holds on to its reactor, as everything in a program does.
struct Echo(Reactor, Rc<Cell<u32>>);
impl Protocol for Echo {
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        transport.write(data);
    }
    fn connection_lost(&mut self, _: TransportRef, _: &ConnectionClosed) {
        self.1.set(self.1.get() + u32::from(self.0.is_running()));
    }
}
struct Watcher(Rc<Cell<Option<Watch>>>);
impl Descriptor for Watcher {
    fn readable(&mut self, _: &Watch) {
        self.0.take();
    }
}

/// Everything at once, then the end in one of several ways.
fn live(round: usize) {
    let reactor = Reactor::new().unwrap();
    let count = Rc::new(Cell::new(0));
    let (served, own) = (count.clone(), count.clone());
    let port = reactor.listen_tcp("127.0.0.1:0", move || Echo(reactor, served.clone())).unwrap();
    if round.is_multiple_of(50) {
        let address = port.address().socket().unwrap();
        reactor.connect_tcp(address, move || Echo(reactor, own.clone()));
    }
    let keep = count.clone();
    let timer = reactor.call_later(Duration::from_secs(3600), move || drop(keep));
    reactor.call_soon(move || timer.reset(Duration::from_secs(60)).unwrap());
    let trigger = count.clone();
    reactor.add_trigger(Phase::AfterShutdown, move || drop(trigger));
    let (promise, pending) = Deferred::<()>::new();
    let task = count.clone();
    drop(reactor.spawn_local(async move {
        let outcome = pending.await;
        drop(task);
        outcome
    }));
    reactor.call_later(Duration::from_secs(60), move || drop(promise));
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let cell = Rc::new(Cell::new(None));
    cell.set(Some(reactor.watch(ours, Watcher(cell.clone())).unwrap()));
    let remote = reactor.remote();
    let _ = remote.call_from_thread(|_| ());
    let (answer, mine) = Deferred::<u32>::from_thread();
    drop(mine.add_errback(|_| Ok(0)));
    if round.is_multiple_of(100) {
        drop(reactor.defer_to_thread(move || answer.callback(1)));
    }
    match round % 3 {
        0 => reactor.close(),
        1 => {
            reactor.call_soon(move || reactor.stop());
            reactor.run().unwrap();
        }
        _ => {
            reactor.call_soon(move || reactor.crash());
            reactor.run().unwrap();
            reactor.call_soon(move || reactor.close());
            reactor.run().unwrap();
        }
    }
    assert!(!timer.active());
}

#[test]
fn ten_thousand_reactors_leave_nothing_behind() {
    // The log of what was stopped is not what is counted here.
    for round in 0..300 {
        live(round);
    }
    let before = (BYTES.load(Ordering::Relaxed), descriptors());
    for round in 0..10_000 {
        live(round);
    }
    let after = (BYTES.load(Ordering::Relaxed), descriptors());
    assert_eq!(before.1, after.1, "descriptors");
    // Not a byte a reactor; the harness and the threads' own may differ by a little.
    assert!((after.0 - before.0).abs() < 10_000, "{} bytes", after.0 - before.0);
    // A thread that just ends.
    let before = descriptors();
    for _ in 0..50 {
        std::thread::spawn(|| {
            let reactor = Reactor::current();
            reactor.listen_tcp("127.0.0.1:0", move || Echo(reactor, Rc::default())).unwrap();
        })
        .join()
        .unwrap();
    }
    assert_eq!(before, descriptors());
}
