//! The handlers of one server on one thread: who runs, how each ends, and how whoever waits for that hears of it.
use super::handle::{ServeHandle, StopServe};
use super::listener::{Accepting, FnOnceEnd};
use crate::deferred::IntoDeferred;
use crate::error::Killed;
use crate::failure::{self, Failure, Result};
use crate::green::block::settle;
use crate::green::task::Waiters;
use crate::green::{Builder, GreenThread};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a thread's rooms do when their server is told to stop.
pub(super) trait Nudge {
    fn nudge(&self);
}
thread_local! {
    static ROOMS: RefCell<Vec<(u64, Weak<dyn Nudge>)>> = const { RefCell::new(Vec::new()) };
}
/// The server that serves there looks whether it is to go on.
pub(super) fn nudge(id: u64) {
    let room = ROOMS.with(|rooms| rooms.borrow().iter().find(|(other, _)| *other == id)?.1.upgrade());
    if let Some(room) = room {
        room.nudge();
    }
}

pub(super) struct Room<L> {
    id: u64,
    listener: L,
    handle: ServeHandle,
    strict: bool,
    stack_size: Option<usize>,
    /// By seat; `None` while it is being spawned or killed.
    handlers: RefCell<Slab<Option<GreenThread<()>>>>,
    /// The server, waiting for a handler to end or for the word to stop.
    changed: Waiters,
    /// Of a handler, where that ends the server.
    failure: Cell<Option<Failure>>,
}

impl<L: Accepting> Room<L> {
    /// Known to the handle until it is left.
    pub(super) fn enter(
        listener: &L,
        handle: &ServeHandle,
        strict: bool,
        stack_size: Option<usize>,
    ) -> io::Result<Rc<Room<L>>> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let room = Rc::new(Room {
            id,
            listener: listener.again()?,
            handle: handle.clone(),
            strict,
            stack_size,
            handlers: RefCell::default(),
            changed: Waiters::default(),
            failure: Cell::new(None),
        });
        let weak: Weak<dyn Nudge> = Rc::downgrade(&room) as _;
        ROOMS.with(|rooms| rooms.borrow_mut().push((id, weak)));
        handle.enter(id, crate::reactor::Reactor::current().remote());
        Ok(room)
    }
    /// The server is through with it.
    pub(super) fn leave(&self) {
        self.handle.leave(self.id);
        let left = ROOMS.try_with(|rooms| {
            let mut rooms = rooms.borrow_mut();
            let position = rooms.iter().position(|(other, _)| *other == self.id);
            position.map(|position| rooms.swap_remove(position))
        });
        drop(left);
    }
    pub(super) fn active(&self) -> usize {
        self.handlers.borrow().len()
    }
    pub(super) fn take_failure(&self) -> Option<Failure> {
        self.failure.take()
    }
    /// Waits until a handler has ended or the server is told to stop, no longer than `limit`.
    #[track_caller]
    pub(super) fn wait(&self, reason: &'static str, limit: Option<Duration>) -> Result<bool> {
        self.changed.wait(reason, limit)
    }

    /// Starts the handler of a connection.
    pub(super) fn start<R: IntoDeferred + 'static>(
        self: &Rc<Self>,
        stream: L::Stream,
        peer: L::Address,
        handler: &Rc<impl Fn(L::Stream, L::Address) -> R + 'static>,
    ) {
        let seat = self.handlers.borrow_mut().insert(None);
        self.handle.begun();
        let seated = Seated { room: Rc::clone(self), seat };
        let handler = Rc::clone(handler);
        let body = move || {
            let connection = Connection { ender: Some(L::ender(&stream)), _seated: seated };
            let whose = peer.clone();
            let ended = failure::catch(|| settle(handler(stream, peer)).map(drop)).and_then(|ended| ended);
            if let Err(failure) = ended {
                connection._seated.room.failed(&whose, failure);
            }
            // The handler is perhaps the last owner of a user's value.
            failure::drop_quietly(handler);
            drop(connection);
        };
        let mut builder = Builder::default();
        if let Some(bytes) = self.stack_size {
            builder = builder.stack_size(bytes);
        }
        let thread = builder.spawn(body);
        // Where no stack was to be had it has ended by now, and tells when it is dropped.
        let unseated = match self.handlers.borrow_mut().get_mut(seat) {
            Some(slot) => slot.replace(thread),
            None => Some(thread),
        };
        drop(unseated);
    }
    /// Kills the handlers that run, and waits until they have ended.
    #[track_caller]
    pub(super) fn clear(&self) {
        let killed: Vec<GreenThread<()>> =
            self.handlers.borrow_mut().iter_mut().filter_map(|(_, handler)| handler.take()).collect();
        for handler in &killed {
            handler.kill();
        }
        for handler in killed {
            let _ = handler.wait();
        }
    }

    fn failed(&self, peer: &L::Address, failure: Failure) {
        if failure.is::<StopServe>() {
            return self.handle.stop();
        }
        if failure.is::<Killed>() {
            return;
        }
        if self.strict {
            let first = self.failure.take().unwrap_or(failure);
            self.failure.set(Some(first));
            return self.handle.stop();
        }
        if is_routine(&failure) {
            log::debug!(target: "twistlet", "the connection from {peer:?} ended: {failure}");
        } else {
            failure::report_unobserved(format_args!("the handler of the connection from {peer:?}"), &failure);
        }
    }
}
impl<L: Accepting> Nudge for Room<L> {
    fn nudge(&self) {
        self.listener.nudge();
        self.changed.wake_all();
    }
}

/// What peers do to connections every day.
fn is_routine(failure: &Failure) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    let io = failure.check::<io::Error>();
    io.is_some_and(|error| matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected))
}

/// A handler's place, left however it ends, also when it never begins.
struct Seated<L: Accepting> {
    room: Rc<Room<L>>,
    seat: usize,
}
impl<L: Accepting> Drop for Seated<L> {
    fn drop(&mut self) {
        let left = self.room.handlers.borrow_mut().try_remove(self.seat);
        self.room.handle.ended();
        self.room.changed.wake_one();
        drop(left);
    }
}

/// A connection, closed however its handler ends.
struct Connection<L: Accepting> {
    ender: Option<L::Ender>,
    /// Left when the connection has its end.
    _seated: Seated<L>,
}
impl<L: Accepting> Drop for Connection<L> {
    fn drop(&mut self) {
        if let Some(ender) = self.ender.take() {
            ender.end();
        }
    }
}
