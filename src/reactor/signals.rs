//! SIGINT and SIGTERM stop the reactors that run, each on its own thread, by a socket the handler writes to; `subscription`
//! has signals for whoever else asks.
//!
//! A second signal, while they stop, does what it would do without us, and so does one when no reactor runs: it ends the
//! process. A signal that the program handles or ignores when we first come to it is left alone, and one that somebody
//! subscribes to is the subscriber's. What must never happen here: anything in a handler but a write and an atomic; signals
//! swallowed when nobody listens.
mod subscription;

pub(crate) use subscription::Subscription;

use super::Reactor;
use super::core::Core;
use super::driver::{Driver, Readiness};
use super::sources::Source;
use crate::failure::{self, Failure};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{SigId, flag, low_level};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Those that stop a reactor.
const SIGNALS: [i32; 2] = [SIGINT, SIGTERM];

/// The process's: what its reactors share.
struct House {
    lines: BTreeMap<i32, Line>,
    /// Reactors that SIGINT and SIGTERM stop.
    listeners: usize,
}
static HOUSE: Mutex<House> = Mutex::new(House { lines: BTreeMap::new(), listeners: 0 });

/// One signal. A handler, once there, stays, and does by default what no handler would have done.
struct Line {
    /// Whether the next one has its default effect. Read and set in the handler.
    by_default: Arc<AtomicBool>,
    /// Nobody else had it before us.
    ours: bool,
    /// The handler by which the first arms what the second will find.
    armed: Option<SigId>,
    /// Who subscribes to it.
    claims: usize,
}

impl House {
    fn lock() -> MutexGuard<'static, House> {
        HOUSE.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Takes a signal for good, at first use.
    fn open(&mut self, signal: i32) -> io::Result<&mut Line> {
        if let std::collections::btree_map::Entry::Vacant(entry) = self.lines.entry(signal) {
            let by_default = Arc::new(AtomicBool::new(true));
            // Of a realtime signal the library does not know the default effect: it has none from here on.
            let ours = taken() & (1 << (signal - 1)) == 0 && low_level::signal_name(signal).is_some();
            if ours {
                flag::register_conditional_default(signal, Arc::clone(&by_default))?;
            }
            entry.insert(Line { by_default, ours, armed: None, claims: 0 });
            self.settle(signal)?;
        }
        self.lines.get_mut(&signal).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
    /// After a change of who hears it.
    fn settle(&mut self, signal: i32) -> io::Result<()> {
        let Some(line) = self.lines.get_mut(&signal).filter(|line| line.ours) else { return Ok(()) };
        let (stops, free) = (SIGNALS.contains(&signal), line.claims == 0);
        match line.armed.take() {
            Some(id) if !free => drop(low_level::unregister(id)),
            None if free && stops => line.armed = Some(flag::register(signal, Arc::clone(&line.by_default))?),
            same => line.armed = same,
        }
        line.by_default.store(free && (!stops || self.listeners == 0), Ordering::SeqCst);
        Ok(())
    }
    fn claim(&mut self, signal: i32) -> io::Result<()> {
        self.open(signal)?.claims += 1;
        self.settle(signal)
    }
    fn disclaim(&mut self, signal: i32) {
        let Some(line) = self.lines.get_mut(&signal) else { return };
        line.claims = line.claims.saturating_sub(1);
        // It fails where a handler cannot be set, and here it is set already.
        let _ = self.settle(signal);
    }
    fn is_claimed(&self, signal: i32) -> bool {
        self.lines.get(&signal).is_some_and(|line| line.claims > 0)
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
    counted: bool,
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
        let source = Rc::new(Ear { ear, heard: SIGNALS.map(|signal| (signal, Arc::default())) });
        core.install_source(token, Rc::clone(&source) as Rc<dyn Source>);
        let mut listening = Listening { handlers: Vec::new(), source, token, counted: false };
        match listening.hear(&mouth) {
            Ok(()) => Ok(listening),
            Err(error) => {
                listening.end(core);
                Err(error)
            }
        }
    }
    fn hear(&mut self, mouth: &UnixStream) -> io::Result<()> {
        let mut house = House::lock();
        for signal in SIGNALS {
            house.open(signal)?;
        }
        // Counted first: the end of this takes it back.
        house.listeners += 1;
        self.counted = true;
        if house.listeners == 1 {
            SIGNALS.into_iter().try_for_each(|signal| house.settle(signal))?;
        }
        for (signal, heard) in &self.source.heard {
            if house.lines.get(signal).is_some_and(|line| line.ours) {
                // In this order: who hears the socket finds the flag.
                self.handlers.push(flag::register(*signal, Arc::clone(heard))?);
                self.handlers.push(low_level::pipe::register(*signal, mouth.try_clone()?)?);
            }
        }
        Ok(())
    }
    fn end(self, core: &Core) {
        for handler in self.handlers {
            low_level::unregister(handler);
        }
        let mut house = House::lock();
        house.listeners -= usize::from(self.counted);
        if self.counted && house.listeners == 0 {
            for signal in SIGNALS {
                // It fails where a handler cannot be set, and here it is set already.
                let _ = house.settle(signal);
            }
        }
        drop(house);
        let _ = core.driver().deregister_fd(self.source.ear.as_raw_fd());
        drop(core.remove_source(self.token));
    }
}

/// The end of the socket that the loop watches.
struct Ear {
    ear: UnixStream,
    heard: [(i32, Arc<AtomicBool>); 2],
}

/// Reads what the handlers wrote.
fn empty(mut ear: &UnixStream) {
    let mut bytes = [0; 16];
    loop {
        match ear.read(&mut bytes) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

impl Source for Ear {
    fn ready(&self, core: &Rc<Core>, _readiness: Readiness) {
        empty(&self.ear);
        let house = House::lock();
        let heard = self.heard.iter().filter(|(_, heard)| heard.swap(false, Ordering::SeqCst));
        let stops = heard.filter(|(signal, _)| !house.is_claimed(*signal)).count() > 0;
        drop(house);
        if stops {
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
