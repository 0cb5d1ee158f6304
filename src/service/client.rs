//! `ClientService`: a connection that is kept up. What it does when is in `table`; here is how.
//!
//! A running one is kept by what it waits for, the attempt, the connection or the clock; each names its attempt by number, and
//! one that is over is not heard. What must never happen here: user code run while a cell is borrowed, or events handled one
//! inside another: they queue.
mod retry;
mod table;

pub use retry::{ExponentialBackoff, RetryPolicy};

use super::Service;
use super::watched::{WatchedFactory, Watcher};
use crate::clock::{Clock, DelayedCall};
use crate::deferred::{Canceller, Deferred, IntoDeferred, Promise};
use crate::endpoint::ClientEndpoint;
use crate::error::{Cancelled, ConnectionClosed};
use crate::failure::{self, Failure, Result};
use crate::shared::Shared;
use crate::transport::{Factory, TransportRef};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;
use table::{Action, Event, Phase};

/// How long to wait when the policy has panicked.
const AFTER_PANIC: Duration = Duration::from_secs(60);

/// Keeps a connection up while it runs: connects, and after each failure or loss connects again, later and later (Twisted's
/// `ClientService`). Clones are the same service.
///
/// ```no_run
/// use twistlet::service::{ClientService, MultiService};
/// # use twistlet::{Protocol, Reactor, TransportRef, endpoint::ClientEndpoint};
/// # struct Feed;
/// # impl Protocol for Feed { fn data_received(&mut self, _: TransportRef, _: &[u8]) {} }
/// # fn program(reactor: &Reactor, endpoint: impl ClientEndpoint + 'static) {
/// let feed = ClientService::new(reactor, endpoint, || Feed)
///     .prepare_connection(|transport| transport.write("SUBSCRIBE\r\n"));
/// let program = MultiService::new();
/// program.add(feed.clone());
/// feed.when_connected().add_callback(|transport| println!("connected with {}", transport.peer()));
/// # }
/// ```
#[derive(Clone)]
pub struct ClientService(Rc<Inner>);

type Prepare = Box<dyn FnMut(TransportRef) -> Deferred<()>>;

struct Inner {
    clock: Rc<dyn Clock>,
    endpoint: Box<dyn ClientEndpoint>,
    factory: Shared<Box<dyn Factory>>,
    /// Out while it is asked.
    policy: RefCell<Option<Box<dyn RetryPolicy>>>,
    prepare: RefCell<Option<Shared<Prepare>>>,
    phase: Cell<Phase>,
    /// The number of the present attempt.
    attempt: Cell<u64>,
    /// Since the last connection.
    failed: Cell<u32>,
    /// Of the present attempt.
    transport: Cell<Option<TransportRef>>,
    canceller: RefCell<Option<Canceller>>,
    timer: Cell<Option<DelayedCall>>,
    waiting: RefCell<Vec<Waiting>>,
    stopping: RefCell<Vec<Promise<()>>>,
    events: RefCell<VecDeque<News>>,
    handling: Cell<bool>,
}

struct News {
    event: Event,
    /// The attempt it is of, if it is of one.
    attempt: Option<u64>,
    failure: Option<Failure>,
}

struct Waiting {
    promise: Promise<TransportRef>,
    /// After so many more failures it gives up.
    failures: Option<u32>,
}

impl ClientService {
    /// A service that keeps up a connection of `endpoint` with a protocol of `factory`.
    pub fn new(clock: &dyn Clock, endpoint: impl ClientEndpoint + 'static, factory: impl Factory + 'static) -> Self {
        ClientService(Rc::new(Inner {
            clock: clock.handle(),
            endpoint: Box::new(endpoint),
            factory: Shared::new(Box::new(factory)),
            policy: RefCell::new(Some(Box::new(ExponentialBackoff::new()))),
            prepare: RefCell::default(),
            phase: Cell::new(Phase::Init),
            attempt: Cell::new(0),
            failed: Cell::new(0),
            transport: Cell::new(None),
            canceller: RefCell::default(),
            timer: Cell::new(None),
            waiting: RefCell::default(),
            stopping: RefCell::default(),
            events: RefCell::default(),
            handling: Cell::new(false),
        }))
    }
    /// Another wait between attempts than [`ExponentialBackoff`].
    pub fn retry_policy(self, policy: impl RetryPolicy + 'static) -> Self {
        let before = self.0.policy.replace(Some(Box::new(policy)));
        drop(before);
        self
    }
    /// Calls `prepare` with each connection, right after its `connection_made`: for a greeting or a log-in. The connection
    /// counts when what it returned has fired; if that fails the connection is closed, and it was a failed attempt.
    pub fn prepare_connection<R: IntoDeferred + 'static>(
        self,
        mut prepare: impl FnMut(TransportRef) -> R + 'static,
    ) -> Self {
        let prepare: Prepare = Box::new(move |transport| prepare(transport).into_deferred().add_callback(|_| ()));
        drop(self.0.prepare.replace(Some(Shared::new(prepare))));
        self
    }
    /// The connection, now or when there is one, whatever the number of attempts. Fails with [`Cancelled`] when the service is
    /// stopped, or is stopped before.
    pub fn when_connected(&self) -> Deferred<TransportRef> {
        self.wait(None)
    }
    /// As [`when_connected`](ClientService::when_connected), and after `failures` failed attempts in a row from now on (at least
    /// one) fails with what the last failed with (Twisted's `failAfterFailures`).
    pub fn when_connected_within(&self, failures: u32) -> Deferred<TransportRef> {
        self.wait(Some(failures.max(1)))
    }
    fn wait(&self, failures: Option<u32>) -> Deferred<TransportRef> {
        let inner = &self.0;
        match (inner.phase.get(), inner.transport.get()) {
            (Phase::Connected, Some(transport)) => Deferred::succeed(transport),
            (Phase::Stopped, _) => Deferred::fail(Cancelled),
            _ => {
                let (promise, deferred) = Deferred::new();
                let mut waiting = inner.waiting.borrow_mut();
                waiting.retain(|waiting| !waiting.promise.is_forgotten());
                waiting.push(Waiting { promise, failures });
                deferred
            }
        }
    }
    /// The connection, if there is one and it is prepared.
    pub fn connection(&self) -> Option<TransportRef> {
        self.0.transport.get().filter(|_| self.0.phase.get() == Phase::Connected)
    }
    /// How many attempts have failed since there was a connection.
    pub fn failed_attempts(&self) -> u32 {
        self.0.failed.get()
    }
}

impl Service for ClientService {
    /// Begins to connect; the Deferred has fired, for the service is up while it tries.
    fn start_service(&mut self) -> Deferred<()> {
        self.0.happen(Event::Start, None, None);
        Deferred::succeed(())
    }
    /// Closes the connection, or gives up the attempt. Fires when that is done.
    fn stop_service(&mut self) -> Deferred<()> {
        let (promise, deferred) = Deferred::new();
        self.0.stopping.borrow_mut().push(promise);
        self.0.happen(Event::Stop, None, None);
        deferred
    }
}

impl Watcher for Inner {
    fn made(&self, attempt: u64, transport: TransportRef) {
        if attempt == self.attempt.get() {
            self.transport.set(Some(transport));
        }
    }
    fn lost(self: Rc<Self>, attempt: u64, reason: &ConnectionClosed) {
        self.happen(Event::Lost, Some(attempt), Some(Failure::from(reason.clone())));
    }
}

impl Inner {
    fn happen(self: &Rc<Self>, event: Event, attempt: Option<u64>, failure: Option<Failure>) {
        self.events.borrow_mut().push_back(News { event, attempt, failure });
        if self.handling.replace(true) {
            return;
        }
        while let Some(News { event, attempt, failure }) = self.next_event() {
            if attempt.is_some_and(|attempt| attempt != self.attempt.get()) {
                continue;
            }
            let Some((phase, actions)) = table::next(self.phase.get(), event) else { continue };
            self.phase.set(phase);
            for action in actions {
                self.act(*action, failure.as_ref());
            }
        }
        self.handling.set(false);
    }
    fn next_event(&self) -> Option<News> {
        self.events.borrow_mut().pop_front()
    }
    fn act(self: &Rc<Self>, action: Action, failure: Option<&Failure>) {
        match action {
            Action::Connect => self.connect(),
            Action::Cancel => {
                // Its loss will be the end of the attempt, as it is of a connection.
                if let Some(transport) = self.transport.get() {
                    transport.lose_connection();
                }
                self.cancel();
            }
            Action::Close => {
                if let Some(transport) = self.transport.get() {
                    transport.lose_connection();
                }
            }
            Action::Count => self.count(failure),
            Action::Wait => self.wait(),
            Action::StopWaiting => {
                if let Some(timer) = self.timer.take() {
                    timer.cancel();
                }
            }
            Action::Deliver => {
                self.failed.set(0);
                let Some(transport) = self.transport.get() else { return };
                for waiting in self.take_waiting() {
                    waiting.promise.callback(transport);
                }
            }
            Action::Dismiss => {
                for waiting in self.take_waiting() {
                    waiting.promise.errback(Cancelled);
                }
            }
            Action::TellStopped => {
                let stopping = std::mem::take(&mut *self.stopping.borrow_mut());
                for promise in stopping {
                    promise.callback(());
                }
            }
            Action::Warn => {
                log::warn!(target: "twistlet", "a ClientService that runs was started again: this does nothing")
            }
        }
    }
    fn take_waiting(&self) -> Vec<Waiting> {
        std::mem::take(&mut *self.waiting.borrow_mut())
    }
    fn connect(self: &Rc<Self>) {
        let attempt = self.attempt.get() + 1;
        self.attempt.set(attempt);
        self.transport.set(None);
        let factory = WatchedFactory { factory: self.factory.clone(), watcher: Rc::clone(self) as _, attempt };
        let connecting = match failure::catch(|| self.endpoint.connect_boxed(Box::new(factory))) {
            Ok(connecting) => connecting,
            Err(panicked) => Deferred::fail(panicked),
        };
        *self.canceller.borrow_mut() = Some(connecting.canceller());
        let this = Rc::clone(self);
        let _ = connecting.add_both(move |outcome| this.connected(attempt, outcome));
    }
    /// The endpoint has answered.
    fn connected(self: &Rc<Self>, attempt: u64, outcome: Result<TransportRef>) {
        let current = attempt == self.attempt.get() && self.phase.get() == Phase::Connecting;
        let transport = match outcome {
            Ok(transport) if !current => return transport.lose_connection(),
            Ok(transport) => transport,
            Err(failure) => return self.happen(Event::Failed, Some(attempt), Some(failure)),
        };
        // An endpoint need not be one that our factory was asked by.
        self.transport.set(Some(transport));
        let prepare = self.prepare.borrow().clone();
        let Some(prepare) = prepare else { return self.happen(Event::Ready, Some(attempt), None) };
        let preparing = prepare.call(move |prepare| prepare(transport));
        let canceller = preparing.canceller();
        let was_stopped = attempt != self.attempt.get() || self.phase.get() != Phase::Connecting;
        *self.canceller.borrow_mut() = Some(canceller.clone());
        let this = Rc::clone(self);
        let _ = preparing.add_both(move |outcome| {
            // When it is stopped meanwhile, the end of the connection is what is waited for.
            if this.phase.get() == Phase::Connecting {
                match outcome {
                    Ok(()) => this.happen(Event::Ready, Some(attempt), None),
                    Err(failure) => this.happen(Event::Failed, Some(attempt), Some(failure)),
                }
            }
        });
        // By what prepares it.
        if was_stopped {
            canceller.cancel();
        }
    }
    fn cancel(&self) {
        let canceller = self.canceller.take();
        if let Some(canceller) = canceller {
            canceller.cancel();
        }
    }
    fn count(&self, failure: Option<&Failure>) {
        self.failed.set(self.failed.get().saturating_add(1));
        let mut gone = Vec::new();
        let mut waiting = self.waiting.borrow_mut();
        for mut one in std::mem::take(&mut *waiting) {
            one.failures = one.failures.map(|failures| failures - 1);
            if one.failures == Some(0) { gone.push(one) } else { waiting.push(one) }
        }
        drop(waiting);
        for one in gone {
            match failure {
                Some(failure) => one.promise.errback(failure.clone()),
                None => one.promise.errback(Cancelled),
            }
        }
    }
    fn wait(self: &Rc<Self>) {
        // What is left of this attempt is not heard any more.
        let attempt = self.attempt.get() + 1;
        self.attempt.set(attempt);
        self.transport.set(None);
        self.cancel();
        let failed = self.failed.get();
        let mut policy = self.policy.take();
        let wait = failure::catch(|| policy.as_mut().map_or(AFTER_PANIC, |policy| policy.wait(failed)));
        let policy = match self.policy.replace(policy) {
            // It has set another.
            Some(newer) => self.policy.replace(Some(newer)),
            None => None,
        };
        failure::drop_quietly(policy);
        let wait = wait.unwrap_or_else(|panicked| {
            failure::report("the retry policy of a ClientService", &panicked);
            AFTER_PANIC
        });
        let this = Rc::clone(self);
        let timer = self.clock.schedule(
            wait,
            Box::new(move || {
                this.timer.set(None);
                this.happen(Event::Due, Some(attempt), None);
            }),
        );
        self.timer.set(Some(timer));
    }
}

impl fmt::Debug for ClientService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientService")
            .field("phase", &self.0.phase.get())
            .field("failed_attempts", &self.failed_attempts())
            .field("connection", &self.connection())
            .finish_non_exhaustive()
    }
}
