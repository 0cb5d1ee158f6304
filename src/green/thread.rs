//! `std::thread` of green threads. Signatures and errors are std's, so porting blocking code is replacing `std::thread` by
//! `twistlet::green::thread`. (In Eventlet: the green `thread`, `threading` and `time`.)
//!
//! Closures and values need not be `Send`: a green thread never leaves the OS thread it was spawned on. What is `Send` in std is
//! so here where the value is, and `unpark`, `join` and `kill` work from other OS threads. Called on an OS thread without a
//! reactor, `spawn` and `sleep` make one; `park` and `join` block it as std's.
//!
//! Two things differ and cannot be hidden. Green threads of one OS thread take turns only where one waits, so a loop that spins
//! on an atomic must [`yield_now`]. And a green thread may be killed, when [`join`](JoinHandle::join) gives an `Err` that holds
//! a [`Killed`](crate::error::Killed).
//!
//! # What is mirrored
//! | std | here |
//! |---|---|
//! | `spawn`, `Builder`, `JoinHandle`, `Thread`, `ThreadId`, `current`, `Result` | mirrored; `JoinHandle::kill` is added |
//! | `scope`, `Scope`, `ScopedJoinHandle`, `Builder::spawn_scoped` | mirrored, on [`green::scope`](mod@super::scope) |
//! | `sleep`, `yield_now`, `park`, `park_timeout` | mirrored; `sleep` of zero lets the others run once |
//! | `panicking`, `available_parallelism` | std's own. `panicking` is also `true` while a kill unwinds |
//! | `LocalKey`, `AccessError`, `thread_local!` | those of [`local`](mod@super::local): green-local |
//! | `sleep_ms`, `park_timeout_ms`, deprecated in std | not mirrored |
//! | unstable: `sleep_until`, `ThreadId::as_u64`, `spawn_unchecked`, `add_spawn_hook` | not mirrored |
mod handle;
mod join;
mod scoped;

pub use handle::{Thread, ThreadId, current};
pub use join::{Builder, JoinHandle};
pub use scoped::{Scope, ScopedJoinHandle, scope};

pub use super::local::{AccessError, LocalKey};
#[doc(no_inline)]
pub use super::sleep::{sleep, yield_now};
#[doc(no_inline)]
pub use std::thread::{Result, available_parallelism, panicking};

use std::time::Duration;

/// Starts a green thread. Never waits: it runs when the caller does.
///
/// ```
/// use twistlet::green::thread;
///
/// let six = thread::spawn(|| 2 * 3);
/// assert_eq!(six.join().unwrap(), 6);
/// ```
///
/// # Panics
/// When there is no stack to be had; [`Builder::spawn`] tells why as an error.
#[track_caller]
pub fn spawn<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    match Builder::new().spawn(f) {
        Ok(handle) => handle,
        Err(error) => panic!("failed to spawn a green thread: {error}"),
    }
}
/// Waits until somebody calls [`Thread::unpark`] for this green thread; at once when somebody has. May return for no reason.
///
/// # Panics
/// In the main loop and its callbacks, when it would wait.
///
/// # Blocking
/// Until then.
#[track_caller]
pub fn park() {
    current().park(None);
}
/// As [`park`], no longer than `dur`.
///
/// # Panics
/// As `park`.
///
/// # Blocking
/// At most for `dur`.
#[track_caller]
pub fn park_timeout(dur: Duration) {
    current().park(Some(dur));
}

/// As std's, in what other threads may do with them.
const _: () = {
    const fn shared<T: Send + Sync + std::panic::UnwindSafe>() {}
    shared::<Thread>();
    shared::<ThreadId>();
    shared::<JoinHandle<u8>>();
};
