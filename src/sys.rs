//! GROUND: stacks, the switch between them, and the reporter of overflows. Nearly all `unsafe` of the crate is here.
//!
//! `greenlet` is built on the safe face of this floor, [`Fiber`]; nothing else may call that. What must never happen here:
//! a stack reused or unmapped while it has frames, a switch from a thread-local destructor, an unwind past an entry.
//!
//! # Safety contract of the floor
//!
//! Of `context` only `Context::new` and `resume` are used, in `switch`. What makes the rest of this floor sound:
//!
//! 1. A stack is entered through a naked shim that ends the chain of frames; behind it the body runs under
//!    `catch_unwind`, so nothing unwinds past the entry.
//! 2. A body is moved to the top of its own stack, read out by the first entry, or dropped in place if that never comes.
//! 3. A stack goes back to its pool only when its entry function has jumped away for the last time, and the fiber that
//!    was jumped to does it: never the departing one itself. One that is suspended and that nobody can name any more
//!    keeps its stack for ever. `Drop`, thread exit and the pool all obey this.
//! 4. A control block lives as long as a handle names it, or frames live on its stack. Handles are neither `Send` nor
//!    `Sync`, so a stack never leaves its thread, counts need no atomics, and cached addresses of thread locals hold.
//! 5. No switch from a destructor of a thread local: a suspended frame may be inside `LocalKey::with` of one already
//!    destroyed. `thread` notices the end of the thread, and from then on a switch panics; before that `is_over` tells
//!    whether it has begun, and the floors above ask it wherever the thread's own stack switches to what was suspended.
//! 6. A saved context is taken out of its block as it is resumed, so none is resumed twice.
//!
//! `ancillary`, `descriptor`, `inherited`, `monotonic`, `pidfd`, `spawn` and `terminal` are system calls that the callback core
//! needs too; the rest is there with `green` only.
pub(crate) mod ancillary;
#[cfg(feature = "green")]
mod block;
pub(crate) mod descriptor;
#[cfg(feature = "green")]
mod error;
#[cfg(feature = "green")]
mod fiber;
#[cfg(feature = "green")]
mod fork;
#[cfg(feature = "green")]
mod frames;
pub(crate) mod inherited;
pub(crate) mod monotonic;
#[cfg(feature = "green")]
mod overflow;
pub(crate) mod pidfd;
#[cfg(feature = "green")]
mod scope;
#[cfg(feature = "green")]
mod slab;
pub(crate) mod spawn;
#[cfg(feature = "green")]
mod stack;
#[cfg(feature = "green")]
mod static_ref;
#[cfg(feature = "green")]
mod switch;
pub(crate) mod terminal;
#[cfg(feature = "green")]
mod thread;

#[cfg(feature = "green")]
pub use error::StackError;
#[cfg(feature = "green")]
pub(crate) use fiber::Fiber;
#[cfg(feature = "green")]
pub(crate) use fork::generation as fork_generation;
pub(crate) use pidfd::pidfd_open;
#[cfg(feature = "green")]
pub(crate) use pidfd::{is_readable, wait_readable};
#[cfg(feature = "green")]
pub(crate) use scope::Lender;
#[cfg(feature = "green")]
pub(crate) use stack::{DEFAULT_SIZE, figures as stack_figures, trim};
#[cfg(feature = "green")]
pub(crate) use static_ref::StaticRef;
#[cfg(feature = "green")]
pub(crate) use thread::{in_destructor, is_over};
