//! What a test has left on its reactor when it ends (trial's "dirty reactor"): nothing is the only good answer.
//!
//! Reads what the reactor and the green threads tell about themselves to people; changes nothing.
use crate::reactor::{Core, Reactor};
use std::fmt;
use std::rc::Rc;

/// What is pending on a reactor: each item in words, so that whoever left it is found.
///
/// ```
/// use std::time::Duration;
/// use twistlet::testing::Leftovers;
/// use twistlet::Reactor;
///
/// let reactor = Reactor::new()?;
/// let call = reactor.call_later(Duration::from_secs(60), || ());
/// assert_eq!(Leftovers::of(&reactor).timers.len(), 1);
/// call.cancel();
/// assert!(Leftovers::of(&reactor).is_empty());
/// # reactor.close();
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leftovers {
    /// Delayed calls, and the lines that made them where these are known (see [`NoLeftovers`]).
    pub timers: Vec<String>,
    /// Connections, attempts, listening ports, watched descriptors.
    pub descriptors: Vec<String>,
    /// Green threads, but for the one that asks and MAIN.
    pub green_threads: Vec<String>,
    /// Futures that have not ended, but for the one that asks.
    pub futures: usize,
    /// Jobs on the thread pool that have not ended: at least so many.
    pub jobs: usize,
}

impl Leftovers {
    /// What there is now. Nothing on a reactor that has ended.
    pub fn of(reactor: &Reactor) -> Self {
        let Some(core) = reactor.core() else { return Leftovers::default() };
        let pool = core.pool_figures();
        Leftovers {
            timers: timers(&core),
            descriptors: core.list_sources().into_iter().map(|source| named(&source)).collect(),
            green_threads: green_threads(),
            futures: core.waiting_futures(),
            // A thread that is about to take a job is at work already.
            jobs: pool.busy.max(pool.queued),
        }
    }
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        *self == Leftovers::default()
    }
    /// These without those that were there `before`.
    fn since(mut self, before: &Leftovers) -> Leftovers {
        let forget = |now: &mut Vec<String>, before: &[String]| {
            for old in before {
                if let Some(place) = now.iter().position(|item| item == old) {
                    now.remove(place);
                }
            }
        };
        forget(&mut self.timers, &before.timers);
        forget(&mut self.descriptors, &before.descriptors);
        forget(&mut self.green_threads, &before.green_threads);
        self.futures = self.futures.saturating_sub(before.futures);
        self.jobs = self.jobs.saturating_sub(before.jobs);
        self
    }
}

fn timers(core: &Rc<Core>) -> Vec<String> {
    let timers = core.list_timers().into_iter();
    timers
        .map(|(_, site)| match site {
            Some(site) => format!("a delayed call made at {site}"),
            None => "a delayed call".to_owned(),
        })
        .collect()
}
fn named(source: &crate::reactor::Listed) -> String {
    let gap = if source.about.detail.is_empty() { "" } else { " " };
    format!("{}{gap}{}", source.kind.name(), source.about.detail)
}
#[cfg(feature = "green")]
fn green_threads() -> Vec<String> {
    use crate::green::debug;
    let others = debug::green_threads().into_iter().filter(|green| !green.is_main());
    let suspended = others.filter(|green| !matches!(green.state, debug::State::Running));
    suspended
        .map(|green| match green.spawned_at {
            Some(site) => format!("green thread #{} spawned at {site}", green.id),
            None => format!("green thread #{}", green.id),
        })
        .collect()
}
#[cfg(not(feature = "green"))]
fn green_threads() -> Vec<String> {
    Vec::new()
}

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing is left");
        }
        f.write_str("left behind:")?;
        let items = self.timers.iter().chain(&self.descriptors).chain(&self.green_threads);
        items.into_iter().try_for_each(|item| write!(f, "\n  {item}"))?;
        if self.futures > 0 {
            write!(f, "\n  futures that have not ended: {}", self.futures)?;
        }
        if self.jobs > 0 {
            write!(f, "\n  jobs on the thread pool: {}", self.jobs)?;
        }
        Ok(())
    }
}

/// Demands that nothing is left on a reactor: at the end of a test, before the reactor is closed, or in the last callback of
/// a [simulation](super::simulate). A connection that is being closed counts until it is gone, a turn or two later; the other
/// end of it until it has heard of that, which on a [`Network`](super::Network) with latency takes as long as anything does. A
/// test whose own side closes first waits for it, with `defer_later` or, for a server's, until
/// [`Network::connections`](super::Network::connections) is 0.
///
/// # Panics
/// With a list of what is left.
#[track_caller]
pub fn check_leftovers(reactor: &Reactor) {
    let left = Leftovers::of(reactor);
    assert!(left.is_empty(), "{left}");
}

/// Demands, when it is dropped, that nothing more is left on the reactor than when it was made; and has the reactor remember
/// which line makes each timer, so that the panic can say it. While a test panics already it is silent.
///
/// ```
/// use std::time::Duration;
/// use twistlet::testing::NoLeftovers;
/// use twistlet::Reactor;
///
/// let reactor = Reactor::new()?;
/// let tidy = NoLeftovers::watch(&reactor);
/// reactor.call_later(Duration::from_millis(1), move || reactor.crash());
/// reactor.run()?;
/// drop(tidy);
/// # reactor.close();
/// # Ok::<(), twistlet::Failure>(())
/// ```
///
/// # Panics
/// When it is dropped, with a list of what is left.
#[must_use = "it looks when it is dropped"]
#[derive(Debug)]
pub struct NoLeftovers {
    reactor: Reactor,
    before: Leftovers,
}
impl NoLeftovers {
    /// Begins.
    pub fn watch(reactor: &Reactor) -> Self {
        if let Some(core) = reactor.core() {
            core.record_timer_sites(true);
        }
        NoLeftovers { reactor: *reactor, before: Leftovers::of(reactor) }
    }
}
impl Drop for NoLeftovers {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let left = Leftovers::of(&self.reactor).since(&self.before);
        assert!(left.is_empty(), "{left}");
    }
}
