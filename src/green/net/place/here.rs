//! The watches of this OS thread's reactor, and what other threads may do with it.
//!
//! Called by `Place` alone, but for the few words on whether and where a green thread may wait. What must never happen here: a
//! table borrowed while a source is dropped.
use super::Watch;
use crate::error::ReactorError;
use crate::green::hub::Hub;
use crate::green::task::yield_once;
use crate::reactor::{Core, Reactor};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Operations that did not wait before others get their turn.
pub(super) const BREATH: u32 = 64;

/// What other threads may do with a reactor that watches a socket.
pub(super) struct Link {
    pub(super) registry: mio::Registry,
    pub(super) forget: Box<dyn Fn(u32, usize) + Send + Sync>,
    pub(super) thread: String,
}

/// The watches of this thread's reactor.
pub(super) struct Here {
    /// 0: no reactor has watched anything yet.
    pub(super) id: Cell<u32>,
    core: RefCell<Weak<Core>>,
    link: RefCell<Option<Arc<Link>>>,
    pub(super) watches: RefCell<Slab<Rc<Watch>>>,
    pub(super) breath: Cell<u32>,
}
thread_local! {
    pub(super) static HERE: Here = const {
        Here {
            id: Cell::new(0),
            core: RefCell::new(Weak::new()),
            link: RefCell::new(None),
            watches: RefCell::new(Slab::new()),
            breath: Cell::new(BREATH),
        }
    };
}
static NEXT_ID: AtomicU32 = AtomicU32::new(1);

impl Here {
    /// This thread's reactor begins to watch sockets.
    pub(super) fn attach(core: &Rc<Core>) -> io::Result<Arc<Link>> {
        let attached = HERE.with(|here| {
            let same = here.id.get() != 0 && Weak::ptr_eq(&here.core.borrow(), &Rc::downgrade(core));
            if same { here.link.borrow().clone() } else { None }
        });
        if let Some(link) = attached {
            return Ok(link);
        }
        Here::detach(None);
        let registry = core.driver().registry()?;
        let inbox = Arc::downgrade(core.inbox());
        let forget = move |slot, token| {
            if let Some(inbox) = inbox.upgrade() {
                // Refused when the reactor has ended, which has forgotten everything.
                let _ = inbox.push(Box::new(move |_| Here::forget(slot, token)));
            }
        };
        let thread = std::thread::current();
        let thread = thread.name().map_or_else(|| format!("{:?}", thread.id()), |name| format!("'{name}'"));
        let link = Arc::new(Link { registry, forget: Box::new(forget), thread });
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed).max(1);
        core.add_end_hook(Box::new(move || Here::detach(Some(id))));
        HERE.with(|here| {
            here.id.set(id);
            here.core.replace(Rc::downgrade(core));
            here.link.replace(Some(Arc::clone(&link)));
        });
        Ok(link)
    }
    /// The reactor has ended.
    fn detach(id: Option<u32>) {
        let left = HERE.try_with(|here| {
            if id.is_some_and(|id| id != here.id.get()) {
                return None;
            }
            here.id.set(0);
            Some((here.link.take(), here.watches.take(), here.core.take()))
        });
        drop(left);
    }
    /// A socket has left this thread's reactor.
    pub(super) fn forget(slot: u32, token: usize) {
        let left = HERE.try_with(|here| {
            let mut watches = here.watches.borrow_mut();
            let is_it = watches.get(slot as usize).is_some_and(|watch| watch.token == token);
            is_it.then(|| (watches.remove(slot as usize), here.core.borrow().upgrade()))
        });
        if let Ok(Some((watch, core))) = left {
            let source = core.and_then(|core| core.remove_source(token));
            drop((watch, source));
        }
    }
}

/// Whether the caller may wait: a green thread, or MAIN, that is not being unwound.
pub(in crate::green) fn may_park() -> bool {
    !std::thread::panicking() && Hub::current().is_some_and(|hub| !hub.is_stopped() && hub.running().is_some())
}
/// Lets the others run when this thread has gone on for long without a wait.
#[inline]
pub(in crate::green) fn breathe() {
    let spent = HERE.try_with(|here| {
        let left = here.breath.get().saturating_sub(1);
        here.breath.set(left);
        left == 0
    });
    if spent == Ok(true) {
        take_turns();
    }
}
#[cold]
fn take_turns() {
    let _ = HERE.try_with(|here| here.breath.set(BREATH));
    let runs = Hub::existing().is_some_and(|hub| hub.core().is_in_loop() && hub.running().is_some());
    if runs && !std::thread::panicking() {
        // An error means that the reactor has stopped: nobody is left to take turns with.
        let _ = yield_once();
    }
}
/// This thread's reactor, made at need.
pub(in crate::green) fn core() -> io::Result<Rc<Core>> {
    if Hub::existing().is_none() && Core::current().is_none() {
        Reactor::new()?;
    }
    match Hub::current() {
        Some(hub) if !hub.is_stopped() => Ok(Rc::clone(hub.core())),
        _ => Err(crate::failure::Failure::from(ReactorError::Stopped).into()),
    }
}
/// A name for it.
pub(in crate::green) fn reactor() -> io::Result<Reactor> {
    Ok(Reactor::of(&*core()?))
}
pub(in crate::green) fn now() -> io::Result<std::time::Instant> {
    Ok(core()?.fresh_now())
}
