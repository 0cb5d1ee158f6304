//! `Builder` and `JoinHandle`: how a green thread is started by std's names, and its outcome as std has it.
//!
//! The outcome is kept where other OS threads can get it. What must never happen here: a value of the user's dropped under the
//! lock.
use super::Result;
use super::handle::{Thread, set_current};
use crate::error::Killed;
use crate::failure::{self, Failure, ForcedUnwind};
use crate::green::green_thread;
use crate::green::hub::{Hub, running};
use crate::green::task::remote_waker::{RemoteWaker, Sleeper, is_stopped, this_thread};
use crate::reactor::Inbox;
use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A green thread to be, with a name or a stack size: [`std::thread::Builder`].
#[derive(Debug, Default)]
#[must_use = "must eventually spawn the thread"]
pub struct Builder {
    name: Option<String>,
    stack_size: Option<usize>,
}

impl Builder {
    /// One without a name, with a stack of the default size.
    pub fn new() -> Builder {
        Builder::default()
    }
    /// What [`Thread::name`], reports and log lines call it.
    pub fn name(mut self, name: String) -> Builder {
        self.name = Some(name);
        self
    }
    /// Address space for its stack, in bytes. Default 256 KiB, less than std's 2 MiB; only touched pages cost memory.
    pub fn stack_size(mut self, size: usize) -> Builder {
        self.stack_size = Some(size);
        self
    }
    pub(super) fn prepared(self) -> (green_thread::Builder, Thread) {
        let mut builder = green_thread::Builder::default();
        if let Some(name) = &self.name {
            builder = builder.name(name.clone());
        }
        if let Some(size) = self.stack_size {
            builder = builder.stack_size(size);
        }
        (builder, Thread::new(self.name))
    }
    /// Starts it. Never waits. Unlike std's it takes closures and gives values that are not `Send`: green threads never leave
    /// their OS thread.
    ///
    /// # Errors
    /// When there is no stack to be had.
    #[track_caller]
    pub fn spawn<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let (builder, thread) = self.prepared();
        let packet = Arc::new(Packet { slot: Mutex::default(), thread, site: Location::caller() });
        let body = {
            let packet = Arc::clone(&packet);
            move || {
                set_current(packet.thread.clone());
                packet.run(f);
            }
        };
        let green = builder.spawn(body);
        let number = green.number();
        {
            let packet = Arc::clone(&packet);
            green.link(move |outcome| packet.ended(outcome.err()));
        }
        match green.wait_timeout(Duration::ZERO) {
            // It runs, detached.
            Err(_) => {}
            Ok(outcome) => outcome?,
        }
        let home =
            Hub::existing().map(|hub| Home { thread: this_thread(), inbox: Arc::clone(hub.core().inbox()), number });
        Ok(JoinHandle { packet, home })
    }
}

/// The outcome, for whoever joins.
struct Packet<T> {
    slot: Mutex<Slot<T>>,
    thread: Thread,
    site: &'static Location<'static>,
}
struct Slot<T> {
    outcome: Option<Result<T>>,
    is_over: bool,
    is_detached: bool,
    waiter: Option<RemoteWaker>,
}
impl<T> Default for Slot<T> {
    fn default() -> Self {
        Slot { outcome: None, is_over: false, is_detached: false, waiter: None }
    }
}

impl<T> Packet<T> {
    fn lock(&self) -> MutexGuard<'_, Slot<T>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// The body.
    fn run(&self, f: impl FnOnce() -> T) {
        match catch_unwind(AssertUnwindSafe(f)) {
            Ok(value) => self.keep(Ok(value)),
            Err(payload) if payload.is::<ForcedUnwind>() => resume_unwind(payload),
            Err(payload) if self.lock().is_detached => self.tell(payload),
            Err(payload) => self.keep(Err(payload)),
        }
    }
    /// Of a panic that nobody will join for.
    fn tell(&self, payload: Box<dyn Any + Send>) {
        let failure = Failure::from_panic(payload);
        match self.thread.name() {
            Some(name) => {
                let whose = format_args!("green thread '{name}', spawned at {}", self.site);
                failure::report_unobserved(whose, &failure);
            }
            None => failure::report_unobserved(format_args!("the green thread spawned at {}", self.site), &failure),
        }
        failure::drop_quietly(failure);
    }
    fn keep(&self, outcome: Result<T>) {
        let old = self.lock().outcome.replace(outcome);
        drop(old);
    }
    /// It is over, and so are its green-local values.
    fn ended(&self, failure: Option<&Failure>) {
        let waiter = {
            let mut slot = self.lock();
            if let (Some(failure), None) = (failure, &slot.outcome) {
                slot.outcome = Some(Err(payload_of(failure)));
            }
            slot.is_over = true;
            slot.waiter.take()
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
    fn take(&self, otherwise: Option<RemoteWaker>) -> Option<Result<T>> {
        let mut slot = self.lock();
        let outcome = if slot.is_over { slot.outcome.take() } else { None };
        let old = std::mem::replace(&mut slot.waiter, otherwise);
        drop(slot);
        drop(old);
        outcome
    }
}

pub(super) fn payload_of(failure: &Failure) -> Box<dyn Any + Send> {
    match failure.check::<Killed>() {
        Some(killed) => Box::new(*killed),
        None => Box::new(failure.clone()),
    }
}

/// Where the green thread is, for a kill.
struct Home {
    thread: usize,
    inbox: Arc<Inbox>,
    number: u64,
}
/// On its thread.
fn kill_here(inbox: &Arc<Inbox>, number: u64) {
    let hub = Hub::existing().filter(|hub| Arc::ptr_eq(hub.core().inbox(), inbox));
    if let Some(task) = hub.and_then(|hub| hub.by_id(number)) {
        task.kill();
    }
}

/// The right to a green thread's outcome: [`std::thread::JoinHandle`]. Dropped it detaches: the green thread runs on, and a panic
/// nobody joined for is logged. `Send` and `Sync` where the value is `Send`: it may be joined from another OS thread.
pub struct JoinHandle<T> {
    packet: Arc<Packet<T>>,
    home: Option<Home>,
}

impl<T> JoinHandle<T> {
    /// A name for it.
    #[must_use]
    pub fn thread(&self) -> &Thread {
        &self.packet.thread
    }
    /// What its closure returned.
    ///
    /// # Errors
    /// The payload of its panic. When it was killed the payload is a [`Killed`](crate::error::Killed), so that nobody takes a
    /// kill for a value: `unwrap` panics, and `payload.is::<Killed>()` tells it from a panic. When it was ended otherwise, as by
    /// the end of its reactor before it began, a [`Failure`](crate::Failure); so too in a destructor while the caller unwinds,
    /// where nothing waits.
    ///
    /// # Panics
    /// In the main loop and its callbacks, when it has not ended. When it joins itself. On MAIN, with the report, when it would
    /// wait for ever.
    ///
    /// # Blocking
    /// Until it has ended.
    #[track_caller]
    pub fn join(self) -> Result<T> {
        loop {
            if let Some(outcome) = self.packet.take(None) {
                return outcome;
            }
            let is_here = self.home.as_ref().is_some_and(|home| home.thread == this_thread());
            if is_here && running::id() == self.home.as_ref().map(|home| home.number) {
                panic!("a green thread joins itself: that would never end");
            }
            let sleeper = match Sleeper::new() {
                Ok(sleeper) => sleeper,
                Err(failure) => return Err(Box::new(failure)),
            };
            if is_here {
                sleeper.is_woken_here_only(true);
            }
            if let Some(outcome) = self.packet.take(Some(sleeper.waker())) {
                return outcome;
            }
            match sleeper.park("a green thread", None) {
                Ok(_) => {}
                Err(failure) if is_stopped(&failure) => {}
                Err(failure) => {
                    crate::green::sleep::infallible::<()>(Err(failure.clone()));
                    return Err(Box::new(failure));
                }
            }
        }
    }
    /// Whether it has ended: whether [`join`](JoinHandle::join) would return at once.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.packet.lock().is_over
    }
    /// Unwinds it from where it waits, or keeps it from ever running, as [`GreenThread::kill`](crate::green::GreenThread::kill)
    /// does; from any OS thread. Not in std, where a thread cannot be ended from outside.
    pub fn kill(&self) {
        let Some(home) = &self.home else { return };
        if home.thread == this_thread() {
            kill_here(&home.inbox, home.number);
        } else {
            let (inbox, number) = (Arc::clone(&home.inbox), home.number);
            // Refused when the reactor has ended, and then so has the green thread.
            let _ = home.inbox.push(Box::new(move |_| kill_here(&inbox, number)));
        }
    }
}
impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        let outcome = {
            let mut slot = self.packet.lock();
            slot.is_detached = true;
            slot.outcome.take()
        };
        match outcome {
            Some(Err(payload)) if !payload.is::<Killed>() && !payload.is::<Failure>() => {
                self.packet.tell(payload);
            }
            outcome => drop(outcome),
        }
    }
}
impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("thread", self.thread()).finish_non_exhaustive()
    }
}
