//! `ReconnectingClientFactory`: connects again, later and later (Twisted's), and `Backoff`, the half of it that a protocol
//! keeps to say when a connection proved useful.
use super::{Address, ClientFactory, Connector, Factory, Protocol};
use crate::error::{ConnectError, ConnectionClosed};
use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::time::Duration;

/// The growth from one wait to the next, and how far a wait strays from it: Twisted's constants, so that clients that were
/// cut off together do not come back together.
const FACTOR: f64 = std::f64::consts::E;
const JITTER: f64 = 0.119_626_565_582;

/// Connects again after a failure or a loss, after a wait that grows from attempt to attempt.
///
/// ```
/// use std::time::Duration;
/// use twistlet::transport::{Backoff, ReconnectingClientFactory};
/// # use twistlet::{Protocol, TransportRef};
/// # struct Feed { backoff: Backoff }
/// impl Protocol for Feed {
///     fn data_received(&mut self, _: TransportRef, _: &[u8]) {
///         self.backoff.reset_delay(); // the server is well
///     }
/// }
/// let backoff = Backoff::default().max_delay(Duration::from_secs(60));
/// let factory = ReconnectingClientFactory::with_backoff(&backoff.clone(), move || Feed { backoff: backoff.clone() });
/// ```
#[derive(Debug)]
pub struct ReconnectingClientFactory<F> {
    factory: F,
    backoff: Backoff,
}

impl<F: Factory> ReconnectingClientFactory<F> {
    /// Reconnects for ever, first after about 2.7 s, at most an hour apart.
    pub fn new(factory: F) -> Self {
        Self::with_backoff(&Backoff::default(), factory)
    }
    /// Reconnects as `backoff` says.
    pub fn with_backoff(backoff: &Backoff, factory: F) -> Self {
        ReconnectingClientFactory { factory, backoff: backoff.clone() }
    }
}

impl<F: Factory> Factory for ReconnectingClientFactory<F> {
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        self.factory.build_protocol(peer)
    }
    fn start_factory(&mut self) {
        self.factory.start_factory();
    }
    fn stop_factory(&mut self) {
        self.factory.stop_factory();
    }
}
impl<F: Factory> ClientFactory for ReconnectingClientFactory<F> {
    fn started_connecting(&mut self, connector: Connector) {
        self.backoff.0.connector.set(Some(connector));
    }
    fn client_connection_failed(&mut self, connector: Connector, reason: &ConnectError) {
        self.backoff.retry(connector, reason);
    }
    fn client_connection_lost(&mut self, connector: Connector, reason: &ConnectionClosed) {
        self.backoff.retry(connector, reason);
    }
}

/// How a [`ReconnectingClientFactory`] waits. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Backoff(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    initial: Cell<Duration>,
    longest: Cell<Duration>,
    most: Cell<Option<u32>>,
    delay: Cell<Duration>,
    retries: Cell<u32>,
    stopped: Cell<bool>,
    connector: Cell<Option<Connector>>,
}
impl Default for Inner {
    fn default() -> Self {
        let initial = Duration::from_secs(1);
        Inner {
            initial: Cell::new(initial),
            longest: Cell::new(Duration::from_secs(3600)),
            most: Cell::new(None),
            delay: Cell::new(initial),
            retries: Cell::new(0),
            stopped: Cell::new(false),
            connector: Cell::new(None),
        }
    }
}

impl Backoff {
    /// What the first wait grows from; it is about 2.7 times as long. Default: 1 s.
    pub fn initial_delay(self, delay: Duration) -> Self {
        self.0.initial.set(delay);
        self.0.delay.set(delay);
        self
    }
    /// The mean of a wait grows no further than this. Default: an hour.
    pub fn max_delay(self, delay: Duration) -> Self {
        self.0.longest.set(delay);
        self
    }
    /// Gives up after so many attempts in a row. Default: never.
    pub fn max_retries(self, n: u32) -> Self {
        self.0.most.set(Some(n));
        self
    }
    /// Say so once the connection proved useful: the next wait begins anew.
    pub fn reset_delay(&self) {
        self.0.delay.set(self.0.initial.get());
        self.0.retries.set(0);
        self.0.stopped.set(false);
    }
    /// No more attempts; one under way is given up.
    pub fn stop_trying(&self) {
        self.0.stopped.set(true);
        if let Some(connector) = self.0.connector.get() {
            // Nothing is under way when it is connected.
            let _ = connector.stop_connecting();
        }
    }

    fn retry(&self, connector: Connector, reason: &dyn std::fmt::Display) {
        let inner = &*self.0;
        if inner.stopped.get() {
            return;
        }
        inner.retries.set(inner.retries.get() + 1);
        if inner.most.get().is_some_and(|most| inner.retries.get() > most) {
            log::warn!(target: "twistlet", "giving up on {} after {reason}", connector.destination());
            return;
        }
        let mean = inner.delay.get().mul_f64(FACTOR).min(inner.longest.get());
        inner.delay.set(mean);
        let delay = mean.mul_f64((1.0 + JITTER * normal()).max(0.0));
        log::info!(target: "twistlet", "connecting to {} again in {delay:.1?}, after {reason}", connector.destination());
        if let Err(failure) = connector.connect_later(delay) {
            log::debug!(target: "twistlet", "no further attempt: {failure}");
        }
    }
}

/// A normally distributed number, by the sum of twelve uniform ones; the randomness is std's hasher seed.
fn normal() -> f64 {
    let uniform = |n: u8| (RandomState::new().hash_one(n) >> 11) as f64 / (1u64 << 53) as f64;
    (0..12).map(uniform).sum::<f64>() - 6.0
}
