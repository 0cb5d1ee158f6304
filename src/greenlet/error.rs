//! What can go wrong with a greenlet, as values, and the exit that is not an error of anybody.
use std::error::Error;
use std::fmt;

/// A switch, throw or change of parent that cannot be done. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GreenletError {
    /// The thread's MAIN greenlet has no parent and cannot be given one.
    MainHasNoParent,
    /// The new parent is the greenlet itself or one of its descendants.
    Cycle,
    /// It belongs to the hub of green threads: parked there, or one of its own. Wake it by what it waits for.
    Managed,
    /// A destructor that runs because of a panic or a kill wanted to switch: every other greenlet would see the thread
    /// panicking.
    Unwinding,
    /// A destructor of a thread-local wanted to switch: suspended greenlets may use thread-locals already destroyed.
    ThreadEnding,
}

impl fmt::Display for GreenletError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MainHasNoParent => "the main greenlet of a thread has no parent",
            Self::Cycle => "a greenlet cannot be its own ancestor",
            Self::Managed => "the greenlet is the hub's: it is parked there and only the hub may resume it",
            Self::Unwinding => "cannot switch between greenlets while unwinding, in a destructor",
            Self::ThreadEnding => "cannot switch between greenlets in the destructor of a thread-local",
        })
    }
}
impl Error for GreenletError {}

/// How a killed greenlet ends: its parent is given this as a value, not as a failure (greenlet's `GreenletExit`).
///
/// Returned as an error by a body, or thrown by [`throw`](super::Greenlet::throw), it is the same: a greenlet leaves
/// quietly, and the parent's `switch` returns `Ok` of a box with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GreenletExit;

impl fmt::Display for GreenletExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the greenlet was told to exit")
    }
}
impl Error for GreenletExit {}
