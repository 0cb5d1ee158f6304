//! A process that takes the place of this one: started with what this one listens on, and waited for until it says that it is up.
//!
//! What must never happen here: a wait; a child that did not come up left running.
use crate::clock::{Clock, DelayedCall};
use crate::deferred::{Deferred, Promise};
use crate::endpoint::inheritance::{self, Role};
use crate::failure::{self, Failure, Result};
use crate::reactor::{Descriptor, Reactor, Watch};
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

/// What the successor says when it is up.
const READY: u8 = b'!';

/// Why a program was not restarted; it goes on as it was.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RestartError {
    /// The program could not be started.
    Spawn(Arc<io::Error>),
    /// It ended before it was up.
    Ended,
    /// It was not up in time, and was killed.
    TimedOut(Duration),
}
impl fmt::Display for RestartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spawn(error) => write!(f, "the successor could not be started: {error}"),
            Self::Ended => f.write_str("the successor ended before it was ready: its own messages say why"),
            Self::TimedOut(limit) => write!(f, "the successor was not ready after {limit:?}, and was killed"),
        }
    }
}
impl Error for RestartError {}

struct Waiting {
    reactor: Reactor,
    child: RefCell<Option<Child>>,
    promise: RefCell<Option<Promise<u32>>>,
    watch: RefCell<Option<Watch>>,
    timer: Cell<Option<DelayedCall>>,
}

/// Starts `program` with this process's arguments and what it is to have. Fires with its process number when it is up; fails
/// with [`RestartError`]; when it is cancelled the child is killed.
pub(super) fn start(
    reactor: &Reactor,
    program: &PathBuf,
    mut heirlooms: Vec<(Role, String, OwnedFd)>,
    limit: Duration,
) -> Deferred<u32> {
    let begun = UnixStream::pair().and_then(|(ours, theirs)| {
        ours.set_nonblocking(true)?;
        heirlooms.push((Role::Ready, String::new(), theirs.into()));
        let mut command = Command::new(program);
        let mut arguments = std::env::args_os();
        if let Some(own_name) = arguments.next() {
            command.arg0(own_name);
        }
        command.args(arguments);
        inheritance::bequeath(&mut command, heirlooms);
        // With the command go our copies of what the child has.
        Ok((command.spawn()?, ours))
    });
    let (child, ours) = match begun {
        Ok(begun) => begun,
        Err(error) => return Deferred::fail(RestartError::Spawn(Arc::new(error))),
    };
    let (promise, deferred) = Deferred::new();
    let waiting = Rc::new(Waiting {
        reactor: *reactor,
        child: RefCell::new(Some(child)),
        promise: RefCell::default(),
        watch: RefCell::default(),
        timer: Cell::new(None),
    });
    let cancelled = Rc::downgrade(&waiting);
    promise.on_cancel(move || {
        if let Some(waiting) = cancelled.upgrade() {
            // What is cancelled fails by itself.
            let promise = waiting.promise.take();
            waiting.give_up(None);
            drop(promise);
        }
    });
    *waiting.promise.borrow_mut() = Some(promise);
    let ours = Rc::new(ours);
    let late = Rc::clone(&waiting);
    let expire = Box::new(move || late.give_up(Some(RestartError::TimedOut(limit).into())));
    waiting.timer.set(Some(reactor.schedule(limit, expire)));
    match reactor.watch(Rc::clone(&ours), Ear { ours, waiting: Rc::downgrade(&waiting) }) {
        Ok(watch) => *waiting.watch.borrow_mut() = Some(watch),
        Err(failure) => waiting.give_up(Some(failure)),
    }
    deferred
}

/// Says to the process before this one, if there was one, that this one is up.
pub(super) fn say_ready() {
    if let Some(pipe) = inheritance::take(Role::Ready, "")
        && let Err(error) = UnixStream::from(pipe).write_all(&[READY])
    {
        log::warn!(target: "twistlet", "the process before this one cannot be told that this one is ready: {error}");
    }
}

impl Waiting {
    fn settle(&self) -> Option<Promise<u32>> {
        if let Some(timer) = self.timer.take() {
            timer.cancel();
        }
        let watch = self.watch.take();
        drop(watch);
        self.promise.take()
    }
    fn is_up(&self) {
        let promise = self.settle();
        let child = self.child.take();
        if let (Some(promise), Some(child)) = (promise, child) {
            promise.callback(child.id());
        }
    }
    fn give_up(&self, why: Option<Failure>) {
        let promise = self.settle();
        let child = self.child.take();
        if let Some(mut child) = child {
            // It may have ended; then there is nothing to kill.
            let _ = child.kill();
            let _ =
                self.reactor.defer_to_thread(move || Ok(child.wait()?)).add_both(|outcome: Result<_>| match outcome {
                    Ok(status) => log::warn!(target: "twistlet", "the successor that was given up has ended: {status}"),
                    Err(failure) => failure::report("the end of a successor", &failure),
                });
        }
        if let (Some(promise), Some(why)) = (promise, why) {
            promise.errback(why);
        }
    }
}

/// Hears what the successor says.
struct Ear {
    ours: Rc<UnixStream>,
    waiting: Weak<Waiting>,
}
impl Descriptor for Ear {
    fn readable(&mut self, _watch: &Watch) {
        let mut said = [0; 16];
        let said = loop {
            match (&*self.ours).read(&mut said) {
                Ok(n) => break said[..n].first().copied(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => break None,
            }
        };
        let Some(waiting) = self.waiting.upgrade() else { return };
        if said == Some(READY) { waiting.is_up() } else { waiting.give_up(Some(RestartError::Ended.into())) }
    }
}
