//! The adapter: green threads on the reactor, so that callbacks become synchronous calls and blocking code runs without
//! blocking the loop (Eventlet on Twisted).
//!
//! A blocking call parks the calling green thread and switches to the main loop; whoever ends the wait only puts the green
//! thread back into the loop's queue. Calls that never wait (`spawn`, `send`, `poll`, `link`, ...) are safe anywhere; those
//! that may say so in a `# Blocking` section, and in a callback of the reactor they panic.
// Running and waiting.
mod block;
mod green_thread;
mod hub;
pub mod proc;
pub mod scope;
mod sleep;
mod task;
pub mod timeout;
// What green threads share.
pub mod broadcast;
pub mod channel;
pub mod event;
pub mod local;
pub mod queue;
pub mod select;
pub mod semaphore;
pub mod watch;
// Many of them.
pub mod conn_pool;
pub mod dag_pool;
pub mod pile;
pub mod pool;
pub mod pools;
pub mod tpool;
// std's names.
pub mod fs;
pub mod io;
pub mod net;
pub mod os;
pub mod process;
pub mod sync;
pub mod thread;
pub mod time;
// Conversations and servers.
pub mod serve;
pub mod signal;
pub mod transport;
// Seeing inside.
pub mod backdoor;
pub mod debug;

pub use block::{Waitable, block_on};
pub use event::Event;
pub use green_thread::{
    Builder, GreenState, GreenThread, ThreadRef, call_in_green_thread, current, defer_to_green_thread, kill, spawn,
    spawn_after, spawn_after_local, spawn_n, wait_all,
};
pub use hub::join_reactor;
pub use local::local;
pub use pile::GreenPile;
pub use pool::GreenPool;
pub use proc::LinkId;
pub use queue::Queue;
pub use scope::scope;
pub use semaphore::Semaphore;
pub use sleep::{sleep, yield_now};
pub use timeout::{Timeout, fail_after, is_timeout, with_timeout, with_timeout_or};
pub use transport::{
    GreenClientCreator, GreenTransport, LineOnlyReceiverTransport, SimpleSpawnFactory, SpawnFactory,
    UnbufferedTransport,
};
