//! A program as one service: started, run until it is told to stop, stopped in order; restarted without a gap.
//!
//! What must never happen here: a shutdown that waits for ever. Everything in it is bounded by `drain` and `flush`.
use super::listeners::Listeners;
use super::successor;
use super::systemd::{self, Notifier};
use super::{Service, ServiceHandle};
use crate::deferred::{Canceller, Deferred};
use crate::endpoint::inheritance;
use crate::failure::{self, Failure};
use crate::reactor::{Phase, Reactor, Subscription};
use crate::task::LoopingCall;
use signal_hook::consts::{SIGHUP, SIGUSR1, SIGUSR2};
use std::cell::{Cell, RefCell};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

const DRAIN: Duration = Duration::from_secs(20);
const FLUSH: Duration = Duration::from_secs(5);
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A signal upon which an [`Application`] is restarted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RestartSignal {
    /// SIGHUP, which a terminal that is closed sends too.
    Hangup,
    /// SIGUSR1.
    User1,
    /// SIGUSR2.
    User2,
}
impl RestartSignal {
    fn number(self) -> i32 {
        match self {
            Self::Hangup => SIGHUP,
            Self::User1 => SIGUSR1,
            Self::User2 => SIGUSR2,
        }
    }
}

/// How a program runs as a service (what Twisted has `twistd` for); [`run`](Application::run) is the program.
///
/// ```no_run
/// use std::process::ExitCode;
/// use std::time::Duration;
/// use twistlet::Reactor;
/// use twistlet::service::{Application, MultiService, RestartSignal, StreamServerEndpointService};
/// # use twistlet::{Protocol, TransportRef};
/// # struct Echo;
/// # impl Protocol for Echo { fn data_received(&mut self, t: TransportRef, data: &[u8]) { t.write(data) } }
///
/// fn main() -> ExitCode {
///     let application = Application::new().drain(Duration::from_secs(60)).restart_on([RestartSignal::Hangup]);
///     let program = MultiService::new();
///     let endpoint = application.listeners().tcp(&Reactor::current(), "127.0.0.1:8007");
///     program.add(StreamServerEndpointService::new(endpoint, || Echo));
///     application.run(program)
/// }
/// ```
#[derive(Debug)]
pub struct Application {
    listeners: Listeners,
    drain: Duration,
    flush: Duration,
    restart_on: Vec<RestartSignal>,
    ready_within: Duration,
    program: Option<PathBuf>,
}

impl Application {
    /// With the defaults below.
    pub fn new() -> Self {
        inheritance::claim();
        Application {
            listeners: Listeners::new(),
            drain: DRAIN,
            flush: FLUSH,
            restart_on: vec![RestartSignal::User2],
            ready_within: READY_WITHIN,
            // Now: when the file is replaced later, the system tells the name of what is not there any more.
            program: std::env::current_exe().ok(),
        }
    }
    /// Where to open the listening sockets that a restart hands on.
    pub fn listeners(&self) -> Listeners {
        self.listeners.clone()
    }
    /// How long the services may take to stop, and the connections that are there to end by themselves, when the program is
    /// told to stop. Default: 20 seconds.
    pub fn drain(mut self, limit: Duration) -> Self {
        self.drain = limit;
        self
    }
    /// How long the connections that are left then may take to send what was written; each is closed when that is done, and
    /// aborted when the time is up. Default: 5 seconds.
    pub fn flush(mut self, limit: Duration) -> Self {
        self.flush = limit;
        self
    }
    /// The signals upon which it is restarted; none for never. Default: SIGUSR2 alone.
    pub fn restart_on(mut self, signals: impl IntoIterator<Item = RestartSignal>) -> Self {
        self.restart_on = signals.into_iter().collect();
        self
    }
    /// How long a successor may take to start before it is killed, and this process goes on. Default: a minute.
    pub fn ready_within(mut self, limit: Duration) -> Self {
        self.ready_within = limit;
        self
    }
    /// What a restart starts, with this process's arguments. Default: the file this process was started from, or what is there
    /// then.
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// Starts `service`, runs this thread's reactor until it is told to stop, and stops the service.
    ///
    /// - **Start.** First what needs the program's rights, then the rest. If that fails, what was started is stopped, and the
    ///   exit code is 1.
    /// - **Stop**, by SIGTERM, SIGINT or [`Reactor::stop`]: the service stops, so that no more connections are accepted; those that
    ///   are there may go on for the time of [`drain`](Application::drain), then are closed within that of
    ///   [`flush`](Application::flush), then aborted. The exit code is 0. A second signal ends the process at once.
    /// - **Restart**, by SIGUSR2 or what [`restart_on`](Application::restart_on) said: the same program is started as another
    ///   process, which has the sockets of [`listeners`](Application::listeners) and of
    ///   [`ActivatedServerEndpoint`](crate::endpoint::ActivatedServerEndpoint). When its service is up, this one stops as above; until
    ///   then both accept, so no connection is refused or lost. If it does not come up, it is killed, and this one goes on as
    ///   if nothing had been.
    /// - **systemd**, by [`systemd::Notifier`]: it is told when the service is up, when it stops, that it is alive as often as
    ///   it wants to hear that, and the successor's process number; the unit needs `NotifyAccess=all` for restarts.
    ///
    /// # Blocking
    /// Holds the thread until then.
    pub fn run(self, service: impl Service + 'static) -> ExitCode {
        let reactor = Reactor::current();
        let run = Rc::new(Run {
            reactor,
            application: self,
            service: ServiceHandle::new(service),
            systemd: Notifier::from_environment(),
            up: Cell::new(false),
            stopping: Cell::new(false),
            failed: Cell::new(false),
            handed_over: Cell::new(false),
            successor: RefCell::default(),
            hearing: RefCell::default(),
        });
        let (starting, stopping) = (Rc::clone(&run), Rc::clone(&run));
        reactor.call_when_running(move || starting.start());
        reactor.add_trigger(Phase::BeforeShutdown, move || stopping.stop());
        if let Err(failure) = reactor.run() {
            complain("the reactor", &failure);
            return ExitCode::FAILURE;
        }
        if run.failed.get() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
impl Default for Application {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs a program that is `service`, with the defaults of [`Application`].
///
/// ```no_run
/// use std::process::ExitCode;
/// use std::time::Duration;
/// use twistlet::Reactor;
/// use twistlet::service::{TimerService, run_application};
///
/// fn main() -> ExitCode {
///     run_application(TimerService::new(&Reactor::current(), Duration::from_secs(1), || println!("tick")))
/// }
/// ```
///
/// # Blocking
/// Holds the thread until the program is told to stop.
pub fn run_application(service: impl Service + 'static) -> ExitCode {
    Application::new().run(service)
}

/// One run of an application.
struct Run {
    reactor: Reactor,
    application: Application,
    service: ServiceHandle,
    systemd: Option<Notifier>,
    up: Cell<bool>,
    stopping: Cell<bool>,
    failed: Cell<bool>,
    /// A successor serves.
    handed_over: Cell<bool>,
    successor: RefCell<Option<Canceller>>,
    hearing: RefCell<Option<Subscription>>,
}

impl Run {
    fn start(self: Rc<Self>) {
        self.hear();
        let service = self.service.clone();
        let started = self.service.privileged_start().add_callback(move |()| service.start());
        let _ = started.add_both(move |outcome| match outcome {
            // What becomes of a start that a stop interrupts is of no interest.
            _ if self.stopping.get() => {}
            Ok(()) => self.is_up(),
            Err(failure) => {
                complain("the program could not be started", &failure);
                self.failed.set(true);
                // It may be on its way to the end already.
                let _ = self.reactor.stop();
            }
        });
    }
    fn is_up(self: &Rc<Self>) {
        self.up.set(true);
        Listeners::forget_unused();
        successor::say_ready();
        self.tell(Notifier::ready);
        if let Some(interval) = systemd::watchdog_interval()
            && self.systemd.is_some()
        {
            let this = Rc::clone(self);
            let alive = LoopingCall::new(&self.reactor, move |_| this.tell(Notifier::watchdog));
            let _ = alive.start(interval);
        }
    }
    /// From the beginning: until somebody hears it such a signal ends the process.
    fn hear(self: &Rc<Self>) {
        let signals: Vec<i32> = self.application.restart_on.iter().map(|signal| signal.number()).collect();
        let Some(core) = self.reactor.core().filter(|_| !signals.is_empty()) else { return };
        let this = Rc::downgrade(self);
        let heard = move |signal: Option<i32>| {
            if let (Some(this), Some(_)) = (this.upgrade(), signal) {
                this.restart();
            }
        };
        match Subscription::new(&core, &signals, true, heard) {
            Ok(hearing) => *self.hearing.borrow_mut() = Some(hearing),
            Err(error) => failure::report("hearing of restarts", &error.into()),
        }
    }
    fn restart(self: &Rc<Self>) {
        if !self.up.get() || self.stopping.get() || self.successor.borrow().is_some() {
            log::warn!(target: "twistlet", "told to restart while it starts, restarts or stops: this does nothing");
            return;
        }
        let begun = self.application.listeners.hand_over().and_then(|heirlooms| {
            let program = self.application.program.as_ref();
            let program = program.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the program has no file"))?;
            Ok(successor::start(&self.reactor, program, heirlooms, self.application.ready_within))
        });
        let ready = begun.unwrap_or_else(Deferred::fail);
        *self.successor.borrow_mut() = Some(ready.canceller());
        let this = Rc::clone(self);
        let _ = ready.add_both(move |outcome| {
            drop(this.successor.take());
            match outcome {
                Ok(pid) => {
                    log::info!(target: "twistlet", "process {pid} serves from now on: this one ends");
                    this.handed_over.set(true);
                    this.application.listeners.are_handed_over();
                    this.tell(|systemd| systemd.main_pid(pid));
                    let _ = this.reactor.stop();
                }
                Err(_) if this.stopping.get() => {}
                Err(failure) => complain("not restarted", &failure),
            }
        });
    }
    /// Before the reactor ends; it waits for what this returns.
    fn stop(self: Rc<Self>) -> Deferred<()> {
        self.stopping.set(true);
        if !self.handed_over.get() {
            self.tell(Notifier::stopping);
        }
        let successor = self.successor.take();
        if let Some(successor) = successor {
            successor.cancel();
        }
        drop(self.hearing.take());
        let core = self.reactor.core();
        let stopped = self.service.stop().add_errback(|failure| {
            failure::report("stopping the program", &failure);
            Ok(())
        });
        let quiet =
            stopped.add_callback(move |()| core.map_or_else(|| Deferred::succeed(()), |core| core.when_drained()));
        quiet.add_timeout(self.application.drain, &self.reactor).add_both(move |outcome| {
            if outcome.is_err() {
                let limit = self.application.drain;
                log::warn!(target: "twistlet", "services or connections have not ended within {limit:?}: they are closed");
            }
            self.reactor.shutdown(self.application.flush)
        })
    }
    fn tell(&self, what: impl FnOnce(&Notifier) -> io::Result<()>) {
        if let Some(systemd) = &self.systemd
            && let Err(error) = what(systemd)
        {
            log::warn!(target: "twistlet", "systemd cannot be told: {error}");
        }
    }
}

/// Says it where somebody sees it.
fn complain(what: &str, failure: &Failure) {
    if log::log_enabled!(target: "twistlet", log::Level::Error) {
        failure::report(what, failure);
    } else {
        eprintln!("{what}: {failure}");
    }
}
