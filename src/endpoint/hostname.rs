//! `HostnameEndpoint`: a name to connect to, all its addresses in a race (Happy Eyeballs, RFC 8305).
//!
//! A race owns its attempts and timers and is owned by what it waits for; `finish` is its one way out, after which none of
//! them is left.
use super::{ClientEndpoint, as_connect_error};
use crate::clock::DelayedCall;
use crate::deferred::{Canceller, Deferred, Promise};
use crate::error::{ConnectError, ReactorError};
use crate::failure::{Failure, Result};
use crate::protocols::SharedFactory;
use crate::reactor::Reactor;
use crate::transport::{Destination, Factory, TransportRef, connect_once};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// Twisted's, and for each attempt; here for all of them and the lookup together.
const TIMEOUT: Duration = Duration::from_secs(30);
/// RFC 8305's recommendation; Twisted waits 300 ms.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// A host name and a port to connect to (Twisted's `HostnameEndpoint`): the name is looked up, and its addresses are tried
/// side by side until one answers.
///
/// The first address is tried at once; another joins each time [`attempt_delay`](HostnameEndpoint::attempt_delay) has
/// passed, and as soon as an attempt fails. IPv6 and IPv4 take turns, beginning with the family of the first address in the
/// resolver's order, in which the system has put what it prefers (RFC 8305, section 4). Whoever connects first and has got a
/// protocol wins; the others are given up.
///
/// If all fail, the error is the most telling: that the program itself did not want a connection (the factory declined or
/// panicked) says more than a refusal, that more than a timeout, that more than an address which cannot be reached from here.
/// Of equals it is the first.
///
/// A name beyond ASCII is looked up in its `xn--` form (IDNA, UTS #46) with the feature `dns`; without it, it must be given in
/// that form. One that is no name fails with [`ConnectError::InvalidHost`]: when it is used, as always.
///
/// ```
/// use std::time::Duration;
/// use twistlet::Reactor;
/// use twistlet::endpoint::HostnameEndpoint;
/// let reactor = Reactor::new()?;
/// let to = HostnameEndpoint::new(&reactor, "example.org", 80).timeout(Duration::from_secs(10));
/// assert_eq!(to.host(), "example.org");
/// # reactor.close();
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[derive(Clone, Debug)]
pub struct HostnameEndpoint {
    reactor: Reactor,
    host: String,
    port: u16,
    timeout: Option<Duration>,
    attempt_delay: Duration,
    bind: Option<SocketAddr>,
    family: Option<Family>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}
impl Family {
    fn of(ip: &IpAddr) -> Family {
        if ip.is_ipv6() { Family::V6 } else { Family::V4 }
    }
}

impl HostnameEndpoint {
    /// What connects to `port` of `host`, which may be an address too.
    pub fn new(reactor: &Reactor, host: impl Into<String>, port: u16) -> Self {
        HostnameEndpoint {
            reactor: *reactor,
            host: host.into(),
            port,
            timeout: Some(TIMEOUT),
            attempt_delay: ATTEMPT_DELAY,
            bind: None,
            family: None,
        }
    }
    /// Gives up after `limit`, which includes looking the name up and all attempts. Default: 30 seconds.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }
    /// Waits as long as the system does.
    pub fn without_timeout(mut self) -> Self {
        self.timeout = None;
        self
    }
    /// How long an attempt is alone before the next address is tried beside it. Default: 250 ms.
    pub fn attempt_delay(mut self, delay: Duration) -> Self {
        self.attempt_delay = delay;
        self
    }
    /// Connects from this local address; addresses of the other family then fail.
    pub fn bind(mut self, local: SocketAddr) -> Self {
        self.bind = Some(local);
        self
    }
    /// Tries IPv4 addresses only.
    pub fn only_ipv4(mut self) -> Self {
        self.family = Some(Family::V4);
        self
    }
    /// Tries IPv6 addresses only.
    pub fn only_ipv6(mut self) -> Self {
        self.family = Some(Family::V6);
        self
    }
    /// The name.
    pub fn host(&self) -> &str {
        &self.host
    }
    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl ClientEndpoint for HostnameEndpoint {
    fn connect_boxed(&self, factory: Box<dyn Factory>) -> Deferred<TransportRef> {
        Race::start(self.clone(), factory)
    }
}

struct Race {
    endpoint: HostnameEndpoint,
    factory: SharedFactory,
    promise: Cell<Option<Promise<TransportRef>>>,
    lookup: RefCell<Option<Canceller>>,
    /// Addresses nobody has tried yet.
    left: RefCell<VecDeque<SocketAddr>>,
    attempts: RefCell<Vec<(SocketAddr, Canceller)>>,
    /// When the next attempt begins, and when all are given up.
    next: Cell<Option<DelayedCall>>,
    deadline: Cell<Option<DelayedCall>>,
    error: RefCell<Option<ConnectError>>,
}

impl Race {
    fn start(endpoint: HostnameEndpoint, factory: Box<dyn Factory>) -> Deferred<TransportRef> {
        let reactor = endpoint.reactor;
        if reactor.core().is_none() {
            return Deferred::fail(ConnectError::Failed(ReactorError::Closed.into()));
        }
        let (promise, deferred) = Deferred::new();
        let race = Rc::new(Race {
            endpoint,
            factory: SharedFactory::new(factory),
            promise: Cell::new(None),
            lookup: RefCell::default(),
            left: RefCell::default(),
            attempts: RefCell::default(),
            next: Cell::new(None),
            deadline: Cell::new(None),
            error: RefCell::default(),
        });
        let cancelled = Rc::downgrade(&race);
        promise.on_cancel(move || {
            if let Some(race) = cancelled.upgrade() {
                race.finish(Err(ConnectError::Cancelled));
            }
        });
        race.promise.set(Some(promise));
        race.factory.enter();
        if let Some(limit) = race.endpoint.timeout {
            let late = Rc::downgrade(&race);
            let call = reactor.call_later(limit, move || {
                if let Some(race) = late.upgrade() {
                    let to = format!("{}:{}", race.endpoint.host, race.endpoint.port);
                    race.finish(Err(ConnectError::TimedOut { to, after: limit }));
                }
            });
            race.deadline.set(Some(call));
        }
        let answer = reactor.resolve(&race.endpoint.host);
        *race.lookup.borrow_mut() = Some(answer.canceller());
        let _ = answer.add_both(move |answer| race.resolved(answer));
        deferred
    }
    fn is_over(&self) -> bool {
        let promise = self.promise.take();
        let over = promise.is_none();
        self.promise.set(promise);
        over
    }

    fn resolved(self: &Rc<Self>, answer: Result<Vec<IpAddr>>) {
        let ips = match answer {
            Ok(ips) => ips,
            Err(failure) => return self.finish(Err(as_connect_error(failure))),
        };
        let wanted = |ip: &IpAddr| self.endpoint.family.is_none_or(|family| family == Family::of(ip));
        let ips = interleave(ips.into_iter().filter(wanted).collect());
        let port = self.endpoint.port;
        self.left.replace(ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect());
        self.try_next();
    }

    /// Sends the next address into the race. Attempts fail in a later turn at the earliest.
    fn try_next(self: &Rc<Self>) {
        if self.is_over() {
            return;
        }
        if let Some(timer) = self.next.take() {
            timer.cancel();
        }
        let next = self.left.borrow_mut().pop_front();
        let Some(address) = next else {
            if self.attempts.borrow().is_empty() {
                let unknown = || ConnectError::UnknownHost { host: self.endpoint.host.clone() };
                let error = self.error.take().unwrap_or_else(unknown);
                self.finish(Err(error));
            }
            return;
        };
        let to = Destination::from(address).without_timeout();
        let to = match self.endpoint.bind {
            Some(local) => to.bind(local),
            None => to,
        };
        let attempt = connect_once(&self.endpoint.reactor, to, Box::new(self.factory.clone()));
        self.attempts.borrow_mut().push((address, attempt.canceller()));
        let race = Rc::clone(self);
        let _ = attempt.add_both(move |outcome| race.attempted(address, outcome));
        if !self.left.borrow().is_empty() && !self.is_over() {
            let race = Rc::downgrade(self);
            let call = self.endpoint.reactor.call_later(self.endpoint.attempt_delay, move || {
                if let Some(race) = race.upgrade() {
                    race.next.set(None);
                    race.try_next();
                }
            });
            self.next.set(Some(call));
        }
    }

    fn attempted(self: &Rc<Self>, address: SocketAddr, outcome: Result<TransportRef>) {
        self.attempts.borrow_mut().retain(|(other, _)| *other != address);
        match outcome {
            Ok(transport) => self.finish(Ok(transport)),
            Err(failure) => self.failed(failure),
        }
    }
    fn failed(self: &Rc<Self>, failure: Failure) {
        let error = as_connect_error(failure);
        if error == ConnectError::Cancelled {
            // By the end of the reactor: nobody else cancels an attempt of a race that is not over.
            return self.finish(Err(error));
        }
        let more_telling = self.error.borrow().as_ref().is_none_or(|known| telling(&error) > telling(known));
        if more_telling {
            self.error.replace(Some(error));
        }
        self.try_next();
    }

    /// The end, once. Attempts and timers are gone before whoever waits is told.
    fn finish(&self, outcome: Result<TransportRef, ConnectError>) {
        let Some(promise) = self.promise.take() else { return };
        for timer in [self.next.take(), self.deadline.take()].into_iter().flatten() {
            timer.cancel();
        }
        self.left.take();
        let lookup = self.lookup.take();
        let attempts = self.attempts.take();
        for canceller in lookup.iter().chain(attempts.iter().map(|(_, canceller)| canceller)) {
            canceller.cancel();
        }
        self.factory.leave();
        match outcome {
            Ok(transport) => promise.callback(transport),
            Err(error) => promise.errback(error),
        }
    }
}

/// How much an error says about what is wrong.
fn telling(error: &ConnectError) -> u8 {
    match error {
        ConnectError::NoProtocol | ConnectError::Failed(_) | ConnectError::Tls(_) => 4,
        ConnectError::Refused { .. } => 3,
        ConnectError::TimedOut { .. } => 2,
        ConnectError::Unreachable { .. } | ConnectError::Bind { .. } => 0,
        _ => 1,
    }
}

/// Families by turns, each in its own order; the first address stays the first. Repeated ones are left out.
fn interleave(ips: Vec<IpAddr>) -> Vec<IpAddr> {
    let Some(first) = ips.first().map(Family::of) else { return ips };
    let mut seen = std::collections::HashSet::new();
    let (mut leading, mut others): (VecDeque<_>, VecDeque<_>) =
        ips.into_iter().filter(|ip| seen.insert(*ip)).partition(|ip| Family::of(ip) == first);
    let mut turns = Vec::with_capacity(leading.len() + others.len());
    while !leading.is_empty() || !others.is_empty() {
        turns.extend(leading.pop_front());
        turns.extend(others.pop_front());
    }
    turns
}
