//! Waits that any OS thread may end: what `green::sync` and `green::thread` wait by.
//!
//! Whoever waits has a `Sleeper`, which stays on its thread; a `RemoteWaker` is what others keep, in whatever they share. The
//! two meet in one atomic word, so a wake-up is either in time or refused, wherever it comes from. From the same thread it
//! goes straight to the green thread; from another through the reactor's inbox. A plain OS thread, without a reactor, sleeps
//! itself. What must never happen here: a wake-up that was accepted and that nobody will ever see.
use super::wait::{Waiter, prepare};
use crate::error::ReactorError;
use crate::failure::Result;
use crate::green::hub::Hub;
use crate::reactor::{Core, Inbox};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

const WAITING: u8 = 0;
/// Woken, and whoever waits has yet to see it.
const WOKEN: u8 = 1;
/// Nobody waits any more.
const LEFT: u8 = 2;

struct Node {
    state: AtomicU8,
    home: Home,
}
enum Home {
    /// A green thread, or MAIN: of which thread, where in its table, and how it is called.
    Green {
        thread: usize,
        seat: usize,
        inbox: Arc<Inbox>,
    },
    Plain {
        lock: Mutex<()>,
        bell: Condvar,
    },
}

/// Those of this thread that wait so.
struct Seats(RefCell<Slab<Seat>>);
struct Seat {
    node: Arc<Node>,
    waiter: Option<Waiter>,
}
impl Drop for Seats {
    fn drop(&mut self) {
        // Green threads that are left suspended when their thread ends never go on.
        for (_, seat) in &*self.0.borrow() {
            seat.node.state.store(LEFT, Ordering::Release);
        }
    }
}
thread_local! {
    static SEATS: Seats = const { Seats(RefCell::new(Slab::new())) };
    static TOKEN: u8 = const { 0 };
}

/// A number that no other living OS thread has.
#[inline]
pub(in crate::green) fn this_thread() -> usize {
    TOKEN.with(|token| std::ptr::from_ref(token) as usize)
}

/// Who may wait for any thread; made by itself. Used for one wait after the other.
pub(in crate::green) struct Sleeper {
    node: Arc<Node>,
    only_here: Cell<bool>,
    stays: PhantomData<Rc<()>>,
}

impl Sleeper {
    /// For the running green thread, or for MAIN. For the OS thread where it has no reactor, or one that has ended.
    ///
    /// # Errors
    /// As `prepare`, but for a stopped reactor.
    ///
    /// # Panics
    /// As `prepare`.
    #[track_caller]
    pub(in crate::green) fn new() -> Result<Sleeper> {
        if Hub::existing().is_none() && Core::current().is_none() {
            return Ok(Sleeper::plain());
        }
        match prepare() {
            Ok(_) => {}
            Err(failure) if !std::thread::panicking() && is_stopped(&failure) => return Ok(Sleeper::plain()),
            Err(failure) => return Err(failure),
        }
        let Some(core) = Hub::existing().map(|hub| Rc::clone(hub.core())) else { return Ok(Sleeper::plain()) };
        let node = SEATS.try_with(|seats| {
            let mut seats = seats.0.borrow_mut();
            let entry = seats.vacant_entry();
            let home = Home::Green { thread: this_thread(), seat: entry.key(), inbox: Arc::clone(core.inbox()) };
            let node = Arc::new(Node { state: AtomicU8::new(WAITING), home });
            entry.insert(Seat { node: Arc::clone(&node), waiter: None });
            node
        });
        Ok(node.map_or_else(|_| Sleeper::plain(), Sleeper::with))
    }
    fn with(node: Arc<Node>) -> Sleeper {
        Sleeper { node, only_here: Cell::new(false), stays: PhantomData }
    }
    /// Whether nobody on another thread can end the next wait: where nobody here can either, it is a deadlock.
    pub(in crate::green) fn is_woken_here_only(&self, only_here: bool) {
        self.only_here.set(only_here);
    }
    fn plain() -> Sleeper {
        let home = Home::Plain { lock: Mutex::new(()), bell: Condvar::new() };
        Sleeper::with(Arc::new(Node { state: AtomicU8::new(WAITING), home }))
    }
    /// For whoever is to end the wait.
    pub(in crate::green) fn waker(&self) -> RemoteWaker {
        RemoteWaker(Arc::clone(&self.node))
    }
    pub(in crate::green) fn is_woken_by(&self, waker: &RemoteWaker) -> bool {
        Arc::ptr_eq(&self.node, &waker.0)
    }
    /// Waits until it is woken, at once when it has been. `false`: `limit` has passed first. May return `true` early to one
    /// that has been woken before; to a new one it does not.
    ///
    /// # Errors
    /// As `park`. `ReactorError::Stopped`: make another `Sleeper`, and go on waiting by that.
    #[track_caller]
    pub(in crate::green) fn park(&self, reason: &'static str, limit: Option<Duration>) -> Result<bool> {
        let state = &self.node.state;
        match &self.node.home {
            Home::Plain { lock, bell } => Ok(self.sleep(lock, bell, limit)),
            Home::Green { seat, inbox, .. } => {
                let wait = prepare()?;
                self.seat(*seat, Some(wait.waiter()));
                if state.load(Ordering::Acquire) != WAITING && state.swap(WAITING, Ordering::AcqRel) == WOKEN {
                    self.seat(*seat, None);
                    return Ok(true);
                }
                let expecting = (!self.only_here.get()).then(|| Expecting::begin(inbox));
                let parked = wait.park_timeout(reason, limit);
                drop(expecting);
                self.seat(*seat, None);
                // What came from another thread meanwhile counts, though its call has yet to arrive.
                if state.compare_exchange(WOKEN, WAITING, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                    return Ok(true);
                }
                parked
            }
        }
    }
    fn seat(&self, seat: usize, waiter: Option<Waiter>) {
        let old = SEATS.try_with(|seats| {
            let mut seats = seats.0.borrow_mut();
            seats.get_mut(seat).and_then(|seat| std::mem::replace(&mut seat.waiter, waiter))
        });
        drop(old);
    }
    /// A plain thread's way.
    fn sleep(&self, lock: &Mutex<()>, bell: &Condvar, limit: Option<Duration>) -> bool {
        let end = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.node.state.swap(WAITING, Ordering::AcqRel) == WOKEN {
                return true;
            }
            held = match end {
                None => bell.wait(held).unwrap_or_else(PoisonError::into_inner),
                Some(end) => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    bell.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
    /// Leaves for good. `true`: it had been woken, and has not seen it.
    pub(in crate::green) fn leave(&self) -> bool {
        self.node.state.swap(LEFT, Ordering::AcqRel) == WOKEN
    }
}
impl Drop for Sleeper {
    fn drop(&mut self) {
        self.leave();
        if let Home::Green { seat, .. } = self.node.home {
            let old = SEATS.try_with(|seats| seats.0.borrow_mut().try_remove(seat));
            drop(old);
        }
    }
}

/// A wait can only be ended through the inbox, as far as the loop knows: no deadlock, while it goes on.
struct Expecting<'a>(&'a Inbox);
impl<'a> Expecting<'a> {
    fn begin(inbox: &'a Inbox) -> Self {
        inbox.expect_calls();
        Expecting(inbox)
    }
}
impl Drop for Expecting<'_> {
    fn drop(&mut self) {
        self.0.expect_no_more();
    }
}

pub(in crate::green) fn is_stopped(failure: &crate::failure::Failure) -> bool {
    matches!(failure.check(), Some(ReactorError::Stopped | ReactorError::Closed))
}

/// Ends the wait of a `Sleeper`, from any thread.
#[derive(Clone)]
pub(in crate::green) struct RemoteWaker(Arc<Node>);

impl RemoteWaker {
    /// Wakes it. `false`: it does not wait any more, and whoever meant to hand something over keeps it. `true` also when it
    /// has been woken already.
    ///
    /// A green thread that is killed before it gets to see a wake-up of another thread finds that it was woken when it
    /// [leaves](Sleeper::leave).
    pub(in crate::green) fn wake(&self) -> bool {
        let node = &self.0;
        match node.state.compare_exchange(WAITING, WOKEN, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {}
            Err(state) => return state == WOKEN,
        }
        match &node.home {
            Home::Plain { lock, bell } => {
                // Not between its look at the state and its sleep.
                drop(lock.lock().unwrap_or_else(PoisonError::into_inner));
                bell.notify_one();
                true
            }
            Home::Green { thread, seat, inbox } => {
                let woken = if *thread == this_thread() {
                    wake_here(node, *seat)
                } else {
                    let (there, seat) = (Arc::clone(node), *seat);
                    inbox
                        .push(Box::new(move |_| {
                            wake_here(&there, seat);
                        }))
                        .is_ok()
                };
                woken || node.state.compare_exchange(WOKEN, LEFT, Ordering::AcqRel, Ordering::Acquire).is_err()
            }
        }
    }
}
impl fmt::Debug for RemoteWaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteWaker").finish_non_exhaustive()
    }
}

/// `false`: it is not there any more, or unwinds already.
fn wake_here(node: &Arc<Node>, seat: usize) -> bool {
    let found = SEATS.try_with(|seats| {
        let seats = seats.0.borrow();
        let seat = seats.get(seat).filter(|seat| Arc::ptr_eq(&seat.node, node))?;
        Some(seat.waiter.clone())
    });
    match found {
        Ok(Some(Some(waiter))) => waiter.wake(),
        // It runs, and will look before it parks.
        Ok(Some(None)) => true,
        _ => false,
    }
}
