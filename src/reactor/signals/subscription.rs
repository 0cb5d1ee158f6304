//! Signals for whoever asks: a closure of ours is called in the loop for each that has come.
//!
//! Used by `service::application`, by `green::signal`, and by `green::process` where the system has no descriptors for processes. Several of one kind
//! that come before the loop looks are one, as the system has it. What must never happen here: user code called.
use super::{House, empty};
use crate::reactor::core::Core;
use crate::reactor::driver::Readiness;
use crate::reactor::pulse::Kind;
use crate::reactor::sources::{About, Source};
use signal_hook::{SigId, flag, low_level};
use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Dropped, it hears no more.
pub(crate) struct Subscription {
    core: Weak<Core>,
    ear: Rc<Ear>,
    handlers: Vec<SigId>,
    claimed: Vec<i32>,
}

struct Ear {
    stream: UnixStream,
    token: Cell<Option<usize>>,
    signals: Vec<(i32, Arc<AtomicBool>)>,
    /// The signal, or `None`: the reactor has ended.
    heard: Box<dyn Fn(Option<i32>)>,
    internal: bool,
}

impl Ear {
    fn leave(&self, core: &Core) {
        if let Some(token) = self.token.take() {
            let _ = core.driver().deregister_fd(self.stream.as_raw_fd());
            drop(core.remove_source(token));
        }
    }
}
impl Source for Ear {
    fn ready(&self, _core: &Rc<Core>, _readiness: Readiness) {
        empty(&self.stream);
        for (signal, flag) in &self.signals {
            if flag.swap(false, Ordering::SeqCst) {
                (self.heard)(Some(*signal));
            }
        }
    }
    fn shut(&self, core: &Rc<Core>) {
        self.leave(core);
        (self.heard)(None);
    }
    fn is_internal(&self) -> bool {
        self.internal
    }
    fn kind(&self) -> Kind {
        Kind::Signals
    }
    fn fd(&self) -> Option<RawFd> {
        Some(self.stream.as_raw_fd())
    }
    fn about(&self) -> About {
        let numbers: Vec<String> = self.signals.iter().map(|(signal, _)| signal.to_string()).collect();
        About { detail: numbers.join(", "), ..About::default() }
    }
}

impl Subscription {
    /// Calls `heard` in the loop with each of `signals` that comes, and with `None` when the reactor ends. `internal`: what is
    /// heard wakes nobody who waits.
    ///
    /// # Errors
    /// `InvalidInput` for one that cannot be handled; the system's.
    pub(crate) fn new(
        core: &Rc<Core>,
        signals: &[i32],
        internal: bool,
        heard: impl Fn(Option<i32>) + 'static,
    ) -> io::Result<Subscription> {
        for signal in signals {
            if !(1..=64).contains(signal) || signal_hook::consts::FORBIDDEN.contains(signal) {
                let text = format!("signal {signal} cannot be handled");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        }
        let (stream, mouth) = UnixStream::pair()?;
        stream.set_nonblocking(true)?;
        let token = core.reserve();
        let registered = core.driver().register_fd(stream.as_raw_fd(), token);
        if let Err(error) = registered {
            drop(core.remove_source(token));
            return Err(error);
        }
        let signals = signals.iter().map(|signal| (*signal, Arc::default())).collect();
        let heard = Box::new(heard);
        let ear = Rc::new(Ear { stream, token: Cell::new(Some(token)), signals, heard, internal });
        core.install_source(token, Rc::clone(&ear) as Rc<dyn Source>);
        // From here on its drop takes everything back.
        let mut subscription =
            Subscription { core: Rc::downgrade(core), ear, handlers: Vec::new(), claimed: Vec::new() };
        let ear = Rc::clone(&subscription.ear);
        for (signal, flag) in &ear.signals {
            House::lock().claim(*signal)?;
            subscription.claimed.push(*signal);
            // In this order: who hears the socket finds the flag.
            subscription.handlers.push(flag::register(*signal, Arc::clone(flag))?);
            subscription.handlers.push(low_level::pipe::register(*signal, mouth.try_clone()?)?);
        }
        Ok(subscription)
    }
    /// Whether the reactor it was made on still is there, and is `core`.
    #[cfg(feature = "green")]
    pub(crate) fn is_of(&self, core: &Rc<Core>) -> bool {
        Weak::ptr_eq(&self.core, &Rc::downgrade(core)) && self.ear.token.get().is_some()
    }
}
impl Drop for Subscription {
    fn drop(&mut self) {
        for handler in self.handlers.drain(..) {
            low_level::unregister(handler);
        }
        let mut house = House::lock();
        for signal in self.claimed.drain(..) {
            house.disclaim(signal);
        }
        drop(house);
        if let Some(core) = self.core.upgrade() {
            self.ear.leave(&core);
        }
    }
}
