//! Where a green socket is watched: which thread's reactor, under which watch, and whether somebody waits there.
//!
//! A socket outlives reactors and crosses threads, its waiters do neither. So the socket holds one atomic word, its home, and
//! the `Watch` with the waiters is in a table of the home's thread. What must never happen here: a wait for which no event can
//! come. Hence the home changes only while nobody waits, and a wait begins only where the home still is, by compare-and-swap.
mod here;

pub(in crate::green) use here::now;
pub(super) use here::{breathe, core, may_park, reactor};

use crate::error::Busy;
use crate::green::hub::Hub;
use crate::green::task::{Waiter, prepare};
use crate::reactor::driver::Readiness;
use crate::reactor::{About, Core, Kind, Source};
use here::{BREATH, HERE, Here, Link};
use std::cell::Cell;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Which way a wait is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    Read = 0,
    Write = 1,
}
use Direction::{Read, Write};

impl Direction {
    /// In a home's word and in a watch's flags.
    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// How a wait went.
pub(super) enum Parked {
    Woken,
    /// The limit has passed.
    Late,
    /// The socket is watched elsewhere by now.
    Moved,
}

/// What a watch knows of its socket, shifted by direction: an edge has come that no operation has used up; no edge will come
/// any more; somebody waits.
const READY: u8 = 0;
const CLOSED: u8 = 2;
const WAITING: u8 = 4;

/// The reactor's end of a socket.
pub(super) struct Watch {
    word: Cell<u64>,
    token: usize,
    fd: RawFd,
    flags: Cell<u8>,
    waiters: [Cell<Option<Waiter>>; 2],
}

impl Watch {
    /// One of no place, for whoever keeps it himself.
    pub(super) fn unplaced(token: usize, fd: RawFd) -> Rc<Watch> {
        Rc::new(Watch { word: Cell::new(0), token, fd, flags: Cell::new(0), waiters: Default::default() })
    }
    pub(super) fn token(&self) -> usize {
        self.token
    }
    #[inline]
    fn has(&self, what: u8, direction: Direction) -> bool {
        self.flags.get() & direction.bit() << what != 0
    }
    #[inline]
    fn set(&self, what: u8, direction: Direction) {
        self.flags.set(self.flags.get() | direction.bit() << what);
    }
    #[inline]
    fn clear(&self, what: u8, direction: Direction) {
        self.flags.set(self.flags.get() & !(direction.bit() << what));
    }
    /// An operation would find nothing: the next edge says when to try.
    #[inline]
    pub(super) fn is_idle(&self, direction: Direction) -> bool {
        !self.has(READY, direction)
    }
    /// An operation said that it would block.
    #[inline]
    pub(super) fn blocked(&self, direction: Direction) {
        self.clear(READY, direction);
    }
    /// An operation got less than it asked for, so there is no more, and more will make another edge. Not so at the end.
    #[inline]
    pub(super) fn used_up(&self, direction: Direction) {
        if !self.has(CLOSED, direction) {
            self.clear(READY, direction);
        }
    }
    /// The end of a direction, whoever made it.
    pub(super) fn closed(&self, direction: Direction) {
        self.set(CLOSED, direction);
        self.wake(direction);
    }
    #[inline]
    pub(super) fn wake(&self, direction: Direction) {
        self.set(READY, direction);
        // Most events say both directions, and most waits are for one.
        if self.has(WAITING, direction) {
            self.wake_waiter(direction);
        }
    }
    fn wake_waiter(&self, direction: Direction) {
        let slot = &self.waiters[direction as usize];
        if let Some(waiter) = slot.take() {
            waiter.wake();
            // It stays the holder until it has left its wait.
            slot.set(Some(waiter));
        }
    }
    /// Refuses a second one in the same direction.
    #[inline]
    pub(super) fn is_free(&self, direction: Direction) -> io::Result<()> {
        if self.has(WAITING, direction) { Err(self.busy(direction)) } else { Ok(()) }
    }
    pub(super) fn is_waited_for(&self) -> bool {
        self.has(WAITING, Read) || self.has(WAITING, Write)
    }
    /// A wait begins, until what this gives is dropped.
    pub(super) fn begin(&self, direction: Direction, waiter: Waiter) -> impl Drop {
        self.waiters[direction as usize].set(Some(waiter));
        self.set(WAITING, direction);
        Waiting { watch: self, direction }
    }
    #[cold]
    fn busy(&self, direction: Direction) -> io::Error {
        let slot = &self.waiters[direction as usize];
        let waiter = slot.take();
        let holder = waiter.as_ref().map_or_else(|| "another".to_owned(), Waiter::who);
        slot.set(waiter);
        busy(holder)
    }
}

impl Source for Watch {
    fn ready(&self, _core: &Rc<Core>, readiness: Readiness) {
        if readiness.contains(Readiness::READ_CLOSED | Readiness::ERROR) {
            self.set(CLOSED, Read);
        }
        if readiness.contains(Readiness::ERROR) {
            self.set(CLOSED, Write);
        }
        if readiness.is_readable() {
            self.wake(Read);
        }
        if readiness.is_writable() {
            self.wake(Write);
        }
    }
    fn shut(&self, core: &Rc<Core>) {
        let ourselves = core.remove_source(self.token);
        self.wake(Read);
        self.wake(Write);
        drop(ourselves);
    }
    fn kind(&self) -> Kind {
        Kind::GreenSocket
    }
    fn fd(&self) -> Option<RawFd> {
        Some(self.fd)
    }
    fn about(&self) -> About {
        let mut about = About { reads: self.has(WAITING, Read), writes: self.has(WAITING, Write), ..About::default() };
        for (direction, what) in [(Read, "reads"), (Write, "writes")] {
            let slot = &self.waiters[direction as usize];
            let waiter = slot.take();
            about.waiting.extend(waiter.as_ref().map(|waiter| format!("{} {what}", waiter.who())));
            slot.set(waiter);
        }
        about
    }
}

fn busy(holder: String) -> io::Error {
    let running = Hub::existing().and_then(|hub| hub.running());
    let refused = running.map_or_else(|| "the main loop".to_owned(), |task| task.name());
    io::Error::new(io::ErrorKind::ResourceBusy, Busy { holder, refused })
}

/// A home: id of the reactor, slot of the watch, who waits. 0: none.
fn word(id: u32, slot: u32) -> u64 {
    u64::from(id) << 32 | u64::from(slot) << 2
}
fn id(word: u64) -> u32 {
    (word >> 32) as u32
}
fn slot(word: u64) -> u32 {
    word as u32 >> 2
}
const WAITERS: u64 = 3;

struct Way {
    link: std::sync::Weak<Link>,
    token: usize,
    fd: RawFd,
}
impl Default for Way {
    fn default() -> Self {
        Way { link: std::sync::Weak::new(), token: 0, fd: -1 }
    }
}

/// The socket's end.
#[derive(Default)]
pub(super) struct Place {
    home: AtomicU64,
    /// How to leave the home from another thread. Locked by whoever changes the home.
    way: Mutex<Way>,
    /// Somebody may have duplicated the descriptor: closing ours would leave the poller watching.
    exposed: AtomicBool,
}

impl Place {
    pub(super) fn expose(&self) {
        self.exposed.store(true, Ordering::Relaxed);
    }
    fn lock(&self) -> MutexGuard<'_, Way> {
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// The watch, if it is on this thread.
    #[inline]
    pub(super) fn find(&self) -> Option<Rc<Watch>> {
        let home = self.home.load(Ordering::Acquire);
        if home == 0 {
            return None;
        }
        let find = |here: &Here| {
            if here.id.get() == id(home) { here.watches.borrow().get(slot(home) as usize).cloned() } else { None }
        };
        HERE.try_with(find).ok().flatten()
    }

    /// The watch, after making this thread's reactor the home.
    pub(super) fn settle(&self, fd: RawFd) -> io::Result<Rc<Watch>> {
        let core = core()?;
        let mut way = self.lock();
        if let Some(watch) = self.find() {
            return Ok(watch);
        }
        self.leave_elsewhere(fd, &way)?;
        let link = Here::attach(&core)?;
        let token = core.reserve();
        // Ready until an operation says otherwise: there has been no edge yet.
        let flags = Cell::new(Read.bit() | Write.bit());
        let watch = Rc::new(Watch { word: Cell::new(0), token, fd, flags, waiters: Default::default() });
        let slot = HERE.with(|here| {
            let slot = here.watches.borrow_mut().insert(Rc::clone(&watch)) as u32;
            watch.word.set(word(here.id.get(), slot));
            slot
        });
        core.install_source(token, watch.clone());
        let registered = core.driver().register_fd(fd, token);
        if let Err(error) = registered {
            Here::forget(slot, token);
            return Err(error);
        }
        *way = Way { link: Arc::downgrade(&link), token, fd };
        self.home.store(watch.word.get(), Ordering::Release);
        Ok(watch)
    }
    /// Ends the watch by another thread's reactor, unless somebody waits there.
    fn leave_elsewhere(&self, fd: RawFd, way: &Way) -> io::Result<()> {
        loop {
            let home = self.home.load(Ordering::Acquire);
            if home == 0 {
                return Ok(());
            }
            let link = way.link.upgrade();
            if let Some(link) = &link
                && home & WAITERS != 0
            {
                return Err(busy(format!("a green thread of OS thread {}", link.thread)));
            }
            if self.home.compare_exchange(home, 0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                continue;
            }
            if let Some(link) = link {
                // Fails only when the descriptor is not watched, which is what is wanted.
                let _ = link.registry.deregister(&mut mio::unix::SourceFd(&fd));
                (link.forget)(slot(home), way.token);
            }
            return Ok(());
        }
    }

    /// The socket is about to be closed, or given away.
    fn leave(&self) {
        let way = self.lock();
        let home = self.home.swap(0, Ordering::AcqRel);
        if home == 0 {
            return;
        }
        if let Some(link) = way.link.upgrade() {
            if self.exposed.load(Ordering::Relaxed) {
                let _ = link.registry.deregister(&mut mio::unix::SourceFd(&way.fd));
            }
            let here = HERE.try_with(|here| here.id.get() == id(home)).unwrap_or(false);
            if here { Here::forget(slot(home), way.token) } else { (link.forget)(slot(home), way.token) }
        }
    }

    /// Parks the calling green thread until there is news.
    #[track_caller]
    pub(super) fn park(
        &self,
        watch: &Rc<Watch>,
        direction: Direction,
        reason: &'static str,
        limit: Option<Duration>,
    ) -> io::Result<Parked> {
        watch.is_free(direction)?;
        let wait = prepare()?;
        if !self.begin(watch.word.get(), direction) {
            return Ok(Parked::Moved);
        }
        let waiting = (watch.begin(direction, wait.waiter()), Begun { place: self, watch, direction });
        // A frame less on the stack of whoever waits without a limit: every line of it is a cache miss when it goes on.
        let in_time = match limit {
            None => wait.park(reason).map(|()| true)?,
            Some(_) => wait.park_timeout(reason, limit)?,
        };
        drop(waiting);
        let _ = HERE.try_with(|here| here.breath.set(BREATH));
        Ok(if in_time { Parked::Woken } else { Parked::Late })
    }
    /// A wait begins, if the home still is there.
    fn begin(&self, home: u64, direction: Direction) -> bool {
        let mut old = self.home.load(Ordering::Relaxed);
        while old & !WAITERS == home {
            let new = old | u64::from(direction.bit());
            match self.home.compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => old = other,
            }
        }
        false
    }
    fn end(&self, home: u64, direction: Direction) {
        let mut old = self.home.load(Ordering::Relaxed);
        while old & !WAITERS == home {
            let new = old & !u64::from(direction.bit());
            match self.home.compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => old = other,
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Leaves the wait, however it ends.
struct Waiting<'a> {
    watch: &'a Watch,
    direction: Direction,
}
impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.watch.clear(WAITING, self.direction);
        drop(self.watch.waiters[self.direction as usize].take());
    }
}
/// Lets the socket move again.
struct Begun<'a> {
    place: &'a Place,
    watch: &'a Watch,
    direction: Direction,
}
impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.place.end(self.watch.word.get(), self.direction);
    }
}
