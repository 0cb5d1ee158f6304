//! `check_stream`: what every byte stream under a `TransportRef` owes its protocol, as scenarios that run on anybody's transport.
//!
//! `probe` has the protocol that complains of what may never happen, `flow` and `endings` the scenarios. Nothing here knows
//! what kind of transport it is.
mod endings;
mod flow;
mod probe;

use super::LoggedFailures;
use crate::failure::Result;
use crate::reactor::Reactor;
use crate::transport::Protocol;
use probe::{Court, Make, Pair};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// What a transport owes its protocol: the groups of scenarios of [`check_stream`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[non_exhaustive]
pub enum StreamRule {
    /// `connection_made` comes once and first; nothing comes after `connection_lost`; all with the same name.
    Order,
    /// Every byte arrives, in order, once; no delivery is empty.
    Bytes,
    /// Between `pause_producing` and `resume_producing` no data comes, and none is lost.
    Pause,
    /// A push producer is paused when too much is unsent and resumed when all has left, in turns; one that is unregistered is
    /// left alone.
    PushProducer,
    /// A pull producer is asked at once and each time the output has left, until it says that there is no more.
    PullProducer,
    /// A second producer is refused by a panic; one on a connection that ends is told `stop_producing`, once.
    OneProducer,
    /// `lose_connection` sends what was written, waits for a producer, and ends both sides cleanly.
    Close,
    /// Who has closed the connection, or aborted it, gets no more data. Over TLS this does not hold after `lose_connection`, as in
    /// Twisted: what the peer says until it has heard of the close is delivered.
    NoDataAfterClose,
    /// `lose_write_connection` sends what was written and ends one direction only; both sides are told, once.
    HalfClose,
    /// `abort_connection` ends it at once, with `ConnectionClosed::Aborted` for this side.
    Abort,
    /// `fail_connection`, and a panic of the protocol, end it with `ConnectionClosed::Failed`; the other side is told.
    Failed,
    /// `connection_lost` comes exactly once, however often and by whomever the connection is closed.
    OneEnd,
    /// `peer` and `host` answer the same from `connection_made` through `connection_lost`, and are gone afterwards, when every
    /// method does nothing.
    Names,
    /// `when_flushed` fires when what was written has left, and fails when the connection ends before that.
    Flush,
    /// `switch_protocol` hands over within a callback, with the bytes that were unread.
    Switch,
    /// No method runs user code before it returns; no protocol is entered twice.
    NoReentry,
    /// After `connection_lost` the protocol is dropped.
    Released,
}
impl fmt::Display for StreamRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Something that a transport did and may not do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The rule it broke.
    pub rule: StreamRule,
    /// What was seen, and on which side.
    pub what: String,
}
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

/// Runs a transport through every scenario, each on a fresh connection and from both sides. For authors of transports: of a
/// policy, a new kind of wire, a fake.
///
/// `make_pair` connects two protocols over the transport, the first as whoever connects, and returns what lets things happen
/// for a moment: for a wire in memory its pump, for sockets [`turns`].
///
/// ```
/// use twistlet::testing::{Clock, check_stream, connect};
///
/// check_stream(|client, server| {
///     let pump = connect(client, server, &Clock::new());
///     Ok(move || { pump.pump(); })
/// });
/// ```
///
/// # Panics
/// With every violation that was seen; [`StreamCheck`] returns them instead.
#[track_caller]
pub fn check_stream<M: FnMut() + 'static>(make_pair: impl FnMut(Box<dyn Protocol>, Box<dyn Protocol>) -> Result<M>) {
    let violations = StreamCheck::new().violations(make_pair);
    let listed: Vec<String> = violations.iter().map(|violation| format!("\n  {violation}")).collect();
    assert!(listed.is_empty(), "the transport breaks rules of streams:{}", listed.concat());
}

/// [`check_stream`] with some rules left out, for transports that cannot keep them all: one without half-close, say.
///
/// ```
/// use twistlet::testing::{Clock, StreamCheck, StreamRule, connect};
///
/// let violations = StreamCheck::new().without(StreamRule::HalfClose).violations(|client, server| {
///     let pump = connect(client, server, &Clock::new());
///     Ok(move || { pump.pump(); })
/// });
/// assert_eq!(violations, []);
/// ```
#[derive(Clone, Debug, Default)]
pub struct StreamCheck {
    without: Vec<StreamRule>,
}
impl StreamCheck {
    /// With every rule.
    pub fn new() -> Self {
        Self::default()
    }
    /// Without the scenarios and the complaints of one rule.
    #[must_use]
    pub fn without(mut self, rule: StreamRule) -> Self {
        self.without.push(rule);
        self
    }
    /// Runs the scenarios; what was seen, without repetitions.
    pub fn violations<M: FnMut() + 'static>(
        &self,
        mut make_pair: impl FnMut(Box<dyn Protocol>, Box<dyn Protocol>) -> Result<M>,
    ) -> Vec<Violation> {
        // Panics of protocols are part of it.
        let logged = LoggedFailures::collect();
        let court = Rc::new(Court::default());
        let mut make = |near, far| make_pair(near, far).map(|turn| Box::new(turn) as Box<dyn FnMut()>);
        let make: Make<'_> = &mut make;
        for (rule, name, scenario) in flow::SCENARIOS.iter().chain(endings::SCENARIOS) {
            if self.without.contains(rule) {
                continue;
            }
            for swapped in [false, true] {
                court.begin(name);
                let mut pair = Pair::new(&court, swapped, make);
                scenario(&mut pair);
                pair.finish();
            }
        }
        drop(logged.end());
        let mut violations = court.take();
        violations.retain(|violation| !self.without.contains(&violation.rule));
        violations
    }
}

/// A scenario connects its pair itself, when it has said what is to happen.
type Scenario = (StreamRule, &'static str, fn(&mut Pair<'_>));

/// Lets a reactor run for a moment each time it is called, for [`check_stream`] and for tests that look at things in between:
/// the loop runs for a millisecond of its time, and is left by [`crash`](Reactor::crash), so that everything stays.
///
/// ```
/// use twistlet::Reactor;
/// use twistlet::testing::turns;
///
/// let reactor = Reactor::new()?;
/// let port = reactor.listen_tcp("127.0.0.1:0", twistlet::protocols::PullFactory::new(|_| ()))?;
/// let mut turn = turns(&reactor);
/// turn();
/// assert!(port.address().socket().is_some());
/// # reactor.close();
/// # Ok::<(), twistlet::Failure>(())
/// ```
///
/// # Panics
/// What it returns panics where the reactor cannot run: in one of its callbacks, or when it has ended.
pub fn turns(reactor: &Reactor) -> impl FnMut() + use<> {
    let reactor = *reactor;
    move || {
        reactor.call_later(Duration::from_millis(1), move || reactor.crash());
        if let Err(failure) = reactor.run() {
            panic!("the reactor cannot run here: {failure}");
        }
    }
}
