//! `std::sync`, whose waits park the calling green thread and hold up nobody else. Signatures and errors are std's, so porting
//! blocking code is replacing `std::sync` by `twistlet::green::sync`. (In Eventlet: the green `threading` and `queue`.)
//!
//! # Threads
//! Everything here is `Send` and `Sync` where std's is, and may be shared by green threads of one OS thread, by those of several
//! OS threads, and by plain OS threads. A green thread that is woken from another OS thread goes on through its reactor's inbox.
//! An OS thread that has no reactor is blocked as by std, and none is made for it; so is MAIN when its reactor has ended. While
//! a green thread or MAIN waits here another OS thread might wake it, so the reactor does not call that a
//! [`Deadlock`](crate::error::Deadlock), even where there is no other OS thread; green-only primitives such as
//! [`Semaphore`](super::Semaphore) and [`Event`](super::Event) are told.
//!
//! # Order
//! First come, first served. Who finds others waiting waits behind them, also where the lock is just being handed on.
//!
//! # Kills, deadlines, panics
//! One that is killed in a wait has got nothing, and what was meant for it goes to the next. A guard that a kill or a deadline
//! drops unlocks without poisoning; a panic poisons as in std. (std's own locks cannot tell the two apart, since
//! `std::thread::panicking()` is true in both.) A wait in a callback of the main loop panics, as every other.
//!
//! In a destructor that runs because its green thread unwinds nothing waits. Locks are tried; one that is held on another OS
//! thread is waited for by blocking this one; one that is held by a green thread of the same OS thread would never be had, and
//! is a panic, which in a destructor ends the process: use `try_lock` there. Other calls say what they return then.
//!
//! # What is mirrored
//! | std | here |
//! |---|---|
//! | `Mutex`, `MutexGuard`, `RwLock`, `RwLockReadGuard`, `RwLockWriteGuard` | mirrored |
//! | `Condvar`, `WaitTimeoutResult` | mirrored; `wait_timeout_ms`, deprecated in std, is not |
//! | `Barrier`, `BarrierWaitResult` | mirrored |
//! | `Once`, `OnceState`, `OnceLock`, `LazyLock` | mirrored; `ONCE_INIT`, deprecated in std, is not |
//! | [`mpsc`] | mirrored |
//! | `Arc`, `Weak`, `atomic`, `PoisonError`, `TryLockError`, `LockResult`, `TryLockResult` | std's own: they never wait |
//! | unstable: `mpmc`, `oneshot`, `poison`, `nonpoison`, `ReentrantLock`, `Exclusive`, mapped guards, `get_cloned`, `set`, `replace`, `get_or_try_init` | not mirrored |
mod barrier;
mod condvar;
pub(super) mod line;
pub mod mpsc;
mod mutex;
mod once;
mod once_lock;
mod poison;
mod rwlock;

#[doc(no_inline)]
pub use std::sync::{Arc, LockResult, PoisonError, TryLockError, TryLockResult, Weak, atomic};

pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use mutex::{Mutex, MutexGuard};
pub use once::{Once, OnceState};
pub use once_lock::{LazyLock, OnceLock};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// As std's, in what other threads and `catch_unwind` may do with them.
const _: () = {
    use std::panic::{RefUnwindSafe, UnwindSafe};
    const fn shared<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    const fn sent<T: Send>() {}
    const fn seen<T: Sync>() {}
    shared::<Mutex<std::cell::Cell<u8>>>();
    shared::<RwLock<u8>>();
    shared::<Condvar>();
    shared::<Barrier>();
    shared::<Once>();
    shared::<OnceLock<u8>>();
    shared::<LazyLock<u8>>();
    shared::<mpsc::Sender<u8>>();
    shared::<mpsc::SyncSender<std::cell::Cell<u8>>>();
    sent::<mpsc::Receiver<std::cell::Cell<u8>>>();
    seen::<MutexGuard<'static, u8>>();
    seen::<RwLockReadGuard<'static, u8>>();
    seen::<RwLockWriteGuard<'static, u8>>();
};
