//! `std::time`, as it is: nothing in it waits.
//!
//! `Instant` is std's own, since signatures all over the ecosystem name it. It reads the system's clock: what a test does to a
//! virtual one (see `testing`) it does not see; ask the reactor's [`Clock`](crate::clock::Clock) there. Timers
//! and waits of green threads go by the reactor's clock, which is the same one in a real reactor.
//!
//! | std | here |
//! |---|---|
//! | `Duration`, `Instant`, `SystemTime`, `UNIX_EPOCH`, `SystemTimeError`, `TryFromFloatSecsError` | std's own |
#[doc(no_inline)]
pub use std::time::{Duration, Instant, SystemTime, SystemTimeError, TryFromFloatSecsError, UNIX_EPOCH};
