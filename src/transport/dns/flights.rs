//! Questions on their way. Whoever asks what is being asked already waits for the same answer; what is known is not asked at all.
//! The number of questions under way is bounded, and so is that of those that wait.
use super::cache::{Cache, Key};
use super::config::Config;
use super::error::DnsError;
use super::exchange;
use super::message::{Question, Reply};
use super::name;
use super::record::Record;
use crate::clock::Clock;
use crate::deferred::{Canceller, Deferred, DeferredSemaphore, Promise};
use crate::error::{Cancelled, ReactorError};
use crate::failure::{Failure, Result};
use crate::reactor::Reactor;
use hickory_proto::rr::Name;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// Questions asked at a time; each has up to four sockets.
const UNDER_WAY: usize = 128;
/// Questions that wait or are being asked.
const MOST_QUESTIONS: usize = 8192;

/// What the answer to one question is.
#[derive(Clone)]
pub(super) enum Found {
    Records(Rc<[Record]>),
    /// The name is an alias, so many steps away, of one that must be asked about.
    Alias(Name, usize),
}

struct Flight {
    waiting: Vec<(u64, Promise<Found>)>,
    canceller: Option<Canceller>,
}

pub(super) struct Flights {
    pub(super) reactor: Reactor,
    pub(super) config: Rc<Config>,
    cache: RefCell<Cache>,
    flights: RefCell<HashMap<Key, Flight>>,
    slots: DeferredSemaphore,
    made: Cell<u64>,
    /// With `rotate`: which server is first.
    turn: Cell<usize>,
}

impl Flights {
    pub(super) fn new(reactor: Reactor, config: Config) -> Rc<Self> {
        Rc::new(Flights {
            reactor,
            cache: RefCell::new(Cache::new(config.cached)),
            config: Rc::new(config),
            flights: RefCell::default(),
            slots: DeferredSemaphore::new(UNDER_WAY),
            made: Cell::new(0),
            turn: Cell::new(0),
        })
    }
    pub(super) fn forget(&self) {
        self.cache.borrow_mut().clear();
    }

    /// The answer to `question`; fails with [`DnsError`].
    pub(super) fn ask(self: &Rc<Self>, question: Question) -> Deferred<Found> {
        if self.reactor.core().is_none() {
            return Deferred::fail(ReactorError::Closed);
        }
        let key = (name::text(&question.name).to_ascii_lowercase(), question.kind);
        let known = self.cache.borrow_mut().get(&key, self.reactor.now());
        match known {
            Some((Ok(records), age)) => return Deferred::succeed(Found::Records(aged(&records, age))),
            Some((Err(error), _)) => return Deferred::fail(error),
            None => {}
        }
        let waiting = self.flights.borrow().len();
        let flies = self.flights.borrow().contains_key(&key);
        if !flies && waiting >= MOST_QUESTIONS {
            return Deferred::fail(DnsError::TooManyLookUps { waiting });
        }
        let (promise, answer) = Deferred::new();
        let number = self.made.get() + 1;
        self.made.set(number);
        let (flights, wanted) = (Rc::downgrade(self), key.clone());
        promise.on_cancel(move || {
            if let Some(flights) = flights.upgrade() {
                flights.give_up(&wanted, number);
            }
        });
        let mut flights = self.flights.borrow_mut();
        let flight = flights.entry(key.clone()).or_insert_with(|| Flight { waiting: Vec::new(), canceller: None });
        flight.waiting.push((number, promise));
        drop(flights);
        if !flies {
            self.take_off(key, question);
        }
        answer
    }

    fn take_off(self: &Rc<Self>, key: Key, question: Question) {
        let (asking, landing, landed) = (Rc::clone(self), Rc::clone(self), key.clone());
        let reply = self.slots.run(move || {
            let turn = asking.turn.get();
            if asking.config.rotate {
                asking.turn.set(turn.wrapping_add(1));
            }
            exchange::ask(asking.reactor, &asking.config, question, turn)
        });
        let canceller = reply.canceller();
        if let Some(flight) = self.flights.borrow_mut().get_mut(&key) {
            flight.canceller = Some(canceller);
        }
        let _ = reply.add_both(move |reply| landing.land(&landed, reply));
    }

    fn land(&self, key: &Key, reply: Result<Reply>) {
        let outcome = self.judge(key, reply);
        let flight = self.flights.borrow_mut().remove(key);
        for (_, promise) in flight.into_iter().flat_map(|flight| flight.waiting) {
            match outcome.clone() {
                Ok(found) => promise.callback(found),
                Err(failure) => promise.errback(failure),
            }
        }
    }
    fn judge(&self, key: &Key, reply: Result<Reply>) -> Result<Found> {
        let (name, kind) = key.clone();
        let negative = |error: DnsError, ttl: Duration| {
            self.note(key, Err(error.clone()), ttl.min(self.config.negative));
            Err(error.into())
        };
        match reply? {
            Reply::Records(records, ttl) => {
                let records: Rc<[Record]> = records.into();
                self.note(key, Ok(Rc::clone(&records)), ttl);
                Ok(Found::Records(records))
            }
            Reply::Alias { target, steps } => Ok(Found::Alias(target, steps)),
            Reply::NoSuchName(ttl) => negative(DnsError::NoSuchName { name }, ttl),
            Reply::NoRecords(ttl) => negative(DnsError::NoRecords { name, kind }, ttl),
            Reply::TooManyAliases => Err(DnsError::TooManyAliases { name }.into()),
            // The exchange keeps these to itself.
            Reply::Truncated | Reply::NoExtensions => Err(DnsError::ServerFailed { name, code: None }.into()),
            Reply::Failed(code) => Err(DnsError::ServerFailed { name, code }.into()),
        }
    }
    fn note(&self, key: &Key, outcome: Result<Rc<[Record]>, DnsError>, ttl: Duration) {
        self.cache.borrow_mut().put(key.clone(), outcome, ttl, self.reactor.now());
    }

    /// One who waited does no longer; the last one takes the question back.
    fn give_up(&self, key: &Key, number: u64) {
        let mut flights = self.flights.borrow_mut();
        let Some(flight) = flights.get_mut(key) else { return };
        let Some(at) = flight.waiting.iter().position(|it| it.0 == number) else { return };
        let (_, promise) = flight.waiting.remove(at);
        let last = if flight.waiting.is_empty() { flights.remove(key) } else { None };
        drop(flights);
        if let Some(canceller) = last.and_then(|flight| flight.canceller) {
            canceller.cancel();
        }
        promise.errback(Failure::from(Cancelled));
    }
}

/// The records as they are after some time.
fn aged(records: &[Record], age: Duration) -> Rc<[Record]> {
    let older = |record: &Record| Record { ttl: record.ttl.saturating_sub(age), ..record.clone() };
    records.iter().map(older).collect()
}
