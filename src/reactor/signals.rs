//! SIGINT and SIGTERM stop the reactors that run, each on its own thread, by a socket the handler writes to.
//!
//! A second signal, while they stop, does what it would do without us, and so does one when no reactor runs: it ends the
//! process. A signal that the program handles or ignores when the first reactor comes to run is left alone. What must
//! never happen here: anything in a handler but a write and an atomic; signals swallowed when nobody listens.
use super::Reactor;
use super::core::Core;
use super::driver::{Driver, Readiness};
use super::sources::Source;
use crate::failure::{self, Failure};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{SigId, flag, low_level};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const SIGNALS: [i32; 2] = [SIGINT, SIGTERM];

/// The process's: what its reactors share.
struct House {
    /// Whether the next signal has its default effect. Read and set in the handler.
    by_default: Arc<AtomicBool>,
    /// The signals that are ours to take.
    ours: Vec<i32>,
    listeners: usize,
}
static HOUSE: Mutex<Option<House>> = Mutex::new(None);

impl House {
    /// Takes the signals for good: a handler, once there, stays, and does by default what no handler would have done.
    fn open() -> io::Result<House> {
        let by_default = Arc::new(AtomicBool::new(true));
        let taken = taken();
        let ours: Vec<i32> = SIGNALS.into_iter().filter(|signal| taken & (1 << (signal - 1)) == 0).collect();
        for signal in &ours {
            // In this order: the first signal arms what the second will find.
            flag::register_conditional_default(*signal, Arc::clone(&by_default))?;
            flag::register(*signal, Arc::clone(&by_default))?;
        }
        Ok(House { by_default, ours, listeners: 0 })
    }
}

/// The set of signals that have a handler or are ignored. Where the system does not tell, none.
fn taken() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
    };
    set("SigIgn:") | set("SigCgt:")
}

/// One reactor's share; dropped, the reactor hears no signal any more.
pub(super) struct Listening {
    handlers: Vec<SigId>,
    source: Rc<Ear>,
    token: usize,
}

impl Listening {
    fn begin(core: &Rc<Core>) -> io::Result<Listening> {
        let (ear, mouth) = UnixStream::pair()?;
        ear.set_nonblocking(true)?;
        let token = core.reserve();
        let registered = core.driver().register_fd(ear.as_raw_fd(), token);
        if let Err(error) = registered {
            drop(core.remove_source(token));
            return Err(error);
        }
        let source = Rc::new(Ear(ear));
        core.install_source(token, Rc::clone(&source) as Rc<dyn Source>);
        let mut listening = Listening { handlers: Vec::new(), source, token };
        match listening.hear(&mouth) {
            Ok(()) => Ok(listening),
            Err(error) => {
                listening.end(core);
                Err(error)
            }
        }
    }
    fn hear(&mut self, mouth: &UnixStream) -> io::Result<()> {
        let mut house = HOUSE.lock().unwrap_or_else(PoisonError::into_inner);
        let house = match &mut *house {
            Some(house) => house,
            none => none.insert(House::open()?),
        };
        // Counted first: the end of this takes it back.
        house.listeners += 1;
        if house.listeners == 1 {
            house.by_default.store(false, Ordering::SeqCst);
        }
        for signal in &house.ours {
            self.handlers.push(low_level::pipe::register(*signal, mouth.try_clone()?)?);
        }
        Ok(())
    }
    fn end(self, core: &Core) {
        for handler in self.handlers {
            low_level::unregister(handler);
        }
        if let Some(house) = &mut *HOUSE.lock().unwrap_or_else(PoisonError::into_inner) {
            house.listeners = house.listeners.saturating_sub(1);
            if house.listeners == 0 {
                house.by_default.store(true, Ordering::SeqCst);
            }
        }
        let _ = core.driver().deregister_fd(self.source.0.as_raw_fd());
        drop(core.remove_source(self.token));
    }
}

/// The end of the socket that the loop watches.
struct Ear(UnixStream);

impl Source for Ear {
    fn ready(&self, core: &Rc<Core>, _readiness: Readiness) {
        let mut heard = false;
        let mut bytes = [0; 16];
        loop {
            match (&self.0).read(&mut bytes) {
                Ok(0) => break,
                Ok(_) => heard = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        if heard {
            // It may be stopping already; then there is nothing to add.
            let _ = Reactor::of(core).stop();
        }
    }
    fn shut(&self, _core: &Rc<Core>) {}
    fn is_internal(&self) -> bool {
        true
    }
}

impl Core {
    /// From here on SIGINT and SIGTERM stop this reactor, unless the program has said that they shall not.
    pub(super) fn listen_to_signals(self: &Rc<Self>) {
        let real = matches!(&*self.driver(), Driver::Os(_));
        if !real || !self.signals.get() || self.listening.borrow().is_some() {
            return;
        }
        match Listening::begin(self) {
            Ok(listening) => *self.listening.borrow_mut() = Some(listening),
            Err(error) => failure::report("SIGINT and SIGTERM will not stop the reactor", &Failure::from(error)),
        }
    }
    pub(super) fn ignore_signals(&self) {
        let listening = self.listening.borrow_mut().take();
        if let Some(listening) = listening {
            listening.end(self);
        }
    }
}
