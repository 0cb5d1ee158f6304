//! How a server is told to stop: by a handle, from any thread, or by a handler's error.
use super::room;
use crate::reactor::Remote;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The error by which a handler tells its server to stop (Eventlet's `StopServe`): `serve` returns as for
/// [`ServeHandle::stop`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopServe;
impl fmt::Display for StopServe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a handler asked its server to stop")
    }
}
impl std::error::Error for StopServe {}

/// Stops a server, from any green or OS thread; made by [`Server::handle`](super::Server::handle). Never waits.
#[derive(Clone)]
pub struct ServeHandle(Arc<Control>);

#[derive(Default)]
struct Control {
    stopping: AtomicBool,
    grace: Mutex<Option<Duration>>,
    active: AtomicUsize,
    /// Where it serves, so that it can be told.
    rooms: Mutex<Vec<(u64, Remote)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ServeHandle {
    pub(super) fn new() -> Self {
        ServeHandle(Arc::default())
    }
    /// Stops accepting. What becomes of the handlers that run is as the server was built: see
    /// [`Server::grace`](super::Server::grace).
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::Release);
        self.tell();
    }
    /// Stops accepting and gives the handlers this long; then they are killed, and `serve` returns when they have ended.
    pub fn stop_within(&self, grace: Duration) {
        *lock(&self.0.grace) = Some(grace);
        self.stop();
    }
    fn tell(&self) {
        for (id, remote) in lock(&self.0.rooms).iter() {
            let id = *id;
            // Refused when that reactor has ended, and with it the server.
            let _ = remote.call_from_thread(move |_| room::nudge(id));
        }
    }
    /// Whether it was told to stop.
    pub fn is_stopped(&self) -> bool {
        self.0.stopping.load(Ordering::Acquire)
    }
    /// How many connections are being served, on all threads.
    pub fn active(&self) -> usize {
        self.0.active.load(Ordering::Relaxed)
    }
    /// What `stop_within` said.
    pub(super) fn grace(&self) -> Option<Duration> {
        *lock(&self.0.grace)
    }
    pub(super) fn enter(&self, id: u64, remote: Remote) {
        lock(&self.0.rooms).push((id, remote));
    }
    pub(super) fn leave(&self, id: u64) {
        let mut rooms = lock(&self.0.rooms);
        let position = rooms.iter().position(|(other, _)| *other == id);
        let left = position.map(|position| rooms.swap_remove(position));
        drop(rooms);
        drop(left);
    }
    pub(super) fn begun(&self) {
        self.0.active.fetch_add(1, Ordering::Relaxed);
    }
    pub(super) fn ended(&self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}
impl fmt::Debug for ServeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeHandle").field("active", &self.active()).field("stopped", &self.is_stopped()).finish()
    }
}
