//! Who writes much: push and pull producers (Twisted's `IPushProducer`, `IPullProducer`), and a transport's slot for one.
use super::TransportRef;
use crate::failure::{self, Result};
use crate::reactor::Core;
use std::fmt;

/// A push producer: goes on until paused.
pub trait Producer {
    /// More is buffered than the consumer's high-water mark: write no more until resumed.
    fn pause_producing(&mut self);
    /// All of it has left: go on.
    fn resume_producing(&mut self);
    /// The consumer is gone.
    fn stop_producing(&mut self);
}

/// A pull producer: writes once each time it is asked.
pub trait PullProducer {
    /// Writes some more to `consumer`. `false` when there is no more; the consumer then unregisters it.
    fn produce(&mut self, consumer: TransportRef) -> bool;
    /// The consumer is gone.
    fn stop_producing(&mut self) {}
}

/// A registered producer of either kind: what the author of a wire keeps.
pub enum Registered {
    /// Goes on until paused.
    Push(Box<dyn Producer>),
    /// Writes when asked.
    Pull(Box<dyn PullProducer>),
}
/// A producer that a wire has given up: see [`Transport::take_producer`](super::Transport::take_producer).
#[derive(Debug)]
pub struct Taken {
    /// The producer.
    pub producer: Registered,
    /// It was told to pause, and not yet to go on: whoever takes it owes it that.
    pub paused: bool,
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Registered::Push(_) => "Push(..)",
            Registered::Pull(_) => "Pull(..)",
        })
    }
}

impl Registered {
    /// Tells it that the consumer is gone; a panic is contained.
    pub(super) fn stop(mut self) -> Result<()> {
        let stopped = failure::catch(|| match &mut self {
            Registered::Push(producer) => producer.stop_producing(),
            Registered::Pull(producer) => producer.stop_producing(),
        });
        stopped.and(failure::catch(move || drop(self)))
    }
}

/// Registered with a wire that is gone: told so in a later turn, since registering runs no user code.
pub(super) fn stop_soon(producer: Registered) {
    if let Some(core) = Core::current() {
        core.call_soon(Box::new(move || {
            if let Err(failure) = producer.stop() {
                failure::report("a producer", &failure);
            }
        }));
    }
}
