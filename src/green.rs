//! The adapter: green threads on the reactor, so that callbacks become synchronous calls and blocking code runs without
//! blocking the loop (Eventlet on Twisted).
//!
//! A blocking call parks the calling green thread and switches to the main loop; whoever ends the wait only puts the green
//! thread back into the loop's queue. Calls that never wait (`spawn`, `send`, `poll`, `link`, ...) are safe anywhere; those
//! that may say so in a `# Blocking` section, and in a callback of the reactor they panic.
mod block;
pub mod event;
mod hub;
pub mod net;
pub mod proc;
pub mod queue;
pub mod semaphore;
mod sleep;
mod task;
mod thread;
pub mod transport;

pub use block::{Waitable, block_on};
pub use event::Event;
pub use hub::join_reactor;
pub use queue::Queue;
pub use semaphore::Semaphore;
pub use sleep::{sleep, with_timeout, yield_now};
pub use thread::{
    Builder, GreenThread, call_in_green_thread, defer_to_green_thread, kill, spawn, spawn_after, spawn_n, wait_all,
};
pub use transport::{
    GreenClientCreator, GreenTransport, LineOnlyReceiverTransport, SimpleSpawnFactory, SpawnFactory,
    UnbufferedTransport,
};
