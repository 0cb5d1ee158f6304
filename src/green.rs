//! The adapter: green threads on the reactor, so that callbacks become synchronous calls and blocking code runs without
//! blocking the loop (Eventlet on Twisted).
//!
//! A blocking call parks the calling green thread and switches to the main loop; whoever ends the wait only puts the green
//! thread back into the loop's queue. Calls that never wait (`spawn`, `send`, `poll`, `link`, ...) are safe anywhere; those
//! that may say so in a `# Blocking` section, and in a callback of the reactor they panic.
//!
//! # Porting code that was written for std
//! The modules [`fs`], [`io`], [`net`], [`os`], [`process`], [`sync`], [`thread`] and [`time`] have std's names and signatures, and
//! wait without holding up the loop. std's other modules never wait: they are here as they are, with std's macros, so that replacing
//! the path is enough, be it in each `use` or once for a module:
//!
//! ```
//! use twistlet::green as std;
//!
//! let (send, recv) = std::sync::mpsc::channel();
//! std::thread::spawn(move || send.send(std::format!("from {}", "a green thread")));
//! std::println!("{}", recv.recv().unwrap());
//! ```
//!
//! | std | here |
//! |---|---|
//! | `fs`, `io`, `net`, `os`, `process`, `sync`, `thread`, `time` | mirrored: each has a table |
//! | `alloc`, `any`, `array`, `ascii`, `backtrace`, `borrow`, `boxed`, `cell`, `char`, `clone`, `cmp`, `collections`, `convert`, `default`, `env`, `error`, `f32`, `f64`, `ffi`, `fmt`, `future`, `hash`, `hint`, `iter`, `marker`, `mem`, `num`, `ops`, `option`, `panic`, `path`, `pin`, `prelude`, `primitive`, `ptr`, `rc`, `result`, `slice`, `str`, `string`, `vec` | std's own |
//! | `thread_local!` | [`local!`](macro@local): of a green thread, not of the OS thread |
//! | `print!`, `println!`, `eprint!`, `eprintln!`, `dbg!` | std's own: a pipe that nobody reads holds up the OS thread |
//! | the other macros | std's own |
//! | `task` | not mirrored: nothing there waits, write `std::task` |
//! | `arch`, `assert_matches`, `intrinsics`, `simd`, `u8` and the like (deprecated modules), what is unstable | not mirrored |
//!
//! What is left of std itself holds up the OS thread, and with it the loop and every green thread on it: `std::thread::sleep`,
//! `join` and `scope`, std's locks, conditions and channels where they wait, std's sockets, files and children; and so do rayon's
//! scopes and whatever a C library waits for. Give such code to [`tpool`]; the [watchdog](debug) finds what was overlooked. Two traps
//! are worse than slow. A lock of std that is held while its green thread waits here stops the thread for ever when another green
//! thread wants it (`println!` inside a `std::io::stdout().lock()`, a logger that waits): hold green ones. And a `RefCell` borrowed
//! over a wait, or in the closure of a `thread_local!`'s `with`, is found borrowed by others, who panic.
//!
//! Names without a path are not changed by this: `println!`, and `thread_local!`, whose values all green threads of the OS
//! thread share.
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
// What of std never waits.
#[doc(no_inline)]
pub use local::local as thread_local;
#[doc(no_inline)]
pub use std::{
    alloc, any, array, ascii, backtrace, borrow, boxed, cell, char, clone, cmp, collections, convert, default, env,
    error, f32, f64, ffi, fmt, future, hash, hint, iter, marker, mem, num, ops, option, panic, path, pin, prelude,
    primitive, ptr, rc, result, slice, str, string, vec,
};
#[doc(no_inline)]
pub use std::{
    assert, assert_eq, assert_ne, cfg, column, compile_error, concat, dbg, debug_assert, debug_assert_eq,
    debug_assert_ne, eprint, eprintln, file, format, format_args, include, include_bytes, include_str, line, matches,
    module_path, option_env, print, println, stringify, todo, unimplemented, unreachable, write, writeln,
};
// Conversations and servers.
pub mod serve;
pub mod signal;
pub mod transport;
// Seeing inside.
pub mod backdoor;
pub mod debug;

#[cfg(feature = "dns")]
pub use crate::endpoint::srv::{SrvConnector, SrvTarget};
pub use block::{Waitable, block_on, block_on_future};
pub use channel::Channel;
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
pub use select::Select;
pub use semaphore::Semaphore;
pub use sleep::{sleep, yield_now};
pub use timeout::{Timeout, fail_after, is_timeout, with_timeout, with_timeout_or};
pub use transport::{
    GreenClientCreator, GreenTransport, LineOnlyReceiverTransport, SimpleSpawnFactory, SpawnFactory,
    UnbufferedTransport,
};
