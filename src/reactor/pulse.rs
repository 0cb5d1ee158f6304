//! What the loop lets other threads see of it: that it moves, and whose code it runs.
//!
//! The loop writes with plain stores, which cost what setting a `Cell` costs, whether anybody looks or not; a
//! [`Watchdog`](super::watchdog::Watchdog) reads. Only while one is there does the loop also say which connection or green
//! thread it is. What must never happen here: an atomic read-modify-write on the loop's side, or a lock.
use std::panic::Location;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

/// User code has run since the clock was read.
const STALE: u8 = 1;
/// User code has begun since the watchdog looked.
const MOVED: u8 = 2;

/// Who holds the loop, in one word: a tag in the highest byte, and a number that it gives a meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Holder(u64);

impl Holder {
    /// No loop runs, or it waits for events: nobody.
    pub(crate) const NOBODY: Holder = Holder::tagged(0, 0);
    pub(crate) const REMOTE_CALL: Holder = Holder::tagged(1, 0);
    pub(crate) const DELAYED_CALL: Holder = Holder::tagged(2, 0);
    pub(crate) const QUEUED_CALL: Holder = Holder::tagged(3, 0);
    pub(crate) const TRIGGER: Holder = Holder::tagged(4, 0);
    /// Some source, while nobody watches.
    pub(crate) const SOURCE: Holder = Holder::tagged(5, 0);
    const GREEN: u8 = 6;
    const SOURCES: u8 = 16;

    const fn tagged(tag: u8, number: u64) -> Holder {
        Holder(((tag as u64) << 56) | (number & ((1 << 56) - 1)))
    }
    /// A green thread, by its number.
    #[cfg(feature = "green")]
    pub(crate) fn green(id: u64) -> Holder {
        Holder::tagged(Holder::GREEN, id)
    }
    pub(crate) fn source(kind: Kind, fd: Option<i32>) -> Holder {
        Holder::tagged(Holder::SOURCES + kind as u8, fd.map_or(0, |fd| u64::from(fd.unsigned_abs()) + 1))
    }
    fn tag(self) -> u8 {
        (self.0 >> 56) as u8
    }
    fn number(self) -> u64 {
        self.0 & ((1 << 56) - 1)
    }
    /// The number of the green thread, if it is one.
    pub(crate) fn green_id(self) -> Option<u64> {
        (self.tag() == Holder::GREEN).then(|| self.number())
    }
    pub(crate) fn fd(self) -> Option<i32> {
        (self.tag() >= Holder::SOURCES && self.number() > 0).then(|| (self.number() - 1) as i32)
    }
    /// What kind of callback it is.
    pub(crate) fn kind(self) -> &'static str {
        match self.tag() {
            1 => "a call from another thread",
            2 => "a delayed call",
            3 => "a queued call or a future",
            4 => "a trigger",
            5 => "a connection or a watch",
            Holder::GREEN => "a green thread",
            tag => Kind::named(tag.saturating_sub(Holder::SOURCES)),
        }
    }
}

/// What a source of the loop is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Connection,
    Port,
    Attempt,
    Closing,
    Watch,
    #[cfg_attr(not(feature = "green"), allow(dead_code, reason = "there are none"))]
    GreenSocket,
    Child,
    Signals,
    Datagrams,
    Other,
}
const KINDS: [(Kind, &str); 10] = [
    (Kind::Connection, "a connection"),
    (Kind::Port, "a listening port"),
    (Kind::Attempt, "a connection attempt"),
    (Kind::Closing, "a connection that is being closed"),
    (Kind::Watch, "a watched descriptor"),
    (Kind::GreenSocket, "a green socket"),
    (Kind::Child, "a child process"),
    (Kind::Signals, "signals"),
    (Kind::Datagrams, "a datagram port"),
    (Kind::Other, "a source of events"),
];
impl Kind {
    fn named(number: u8) -> &'static str {
        KINDS.get(usize::from(number)).map_or("a source of events", |(_, name)| name)
    }
    #[cfg(any(feature = "green", feature = "testing"))]
    pub(crate) fn name(self) -> &'static str {
        Kind::named(self as u8)
    }
}

/// Tells other threads about green threads; the hub's.
pub(crate) trait Names: Send + Sync {
    /// Name and place of spawning of the green thread that holds the loop.
    fn look_up(&self, id: u64) -> (Option<String>, Option<&'static Location<'static>>);
}

/// Shared by the loop and its watchdog.
pub(crate) struct Pulse {
    beat: AtomicU8,
    holder: AtomicU64,
    armed: AtomicBool,
    /// The watchdog has reported whoever holds the loop: to be settled when the loop goes on.
    reported: AtomicBool,
    names: OnceLock<Arc<dyn Names>>,
}

impl Pulse {
    pub(super) fn new() -> Arc<Pulse> {
        Arc::new(Pulse {
            beat: AtomicU8::new(0),
            holder: AtomicU64::new(Holder::NOBODY.0),
            armed: AtomicBool::new(false),
            reported: AtomicBool::new(false),
            names: OnceLock::new(),
        })
    }

    // ---- the loop's side ----

    /// User code is about to run.
    #[inline]
    pub(super) fn beat(&self) {
        self.beat.store(STALE | MOVED, Relaxed);
    }
    /// The clock is to be read anew.
    #[inline]
    pub(super) fn set_stale(&self) {
        self.beat.store(self.beat.load(Relaxed) | STALE, Relaxed);
    }
    /// Whether the clock is to be read anew; it is taken to be read now. The watchdog may miss that it has cleared
    /// `MOVED`, and be late by one look.
    #[inline]
    pub(super) fn take_stale(&self) -> bool {
        let beat = self.beat.load(Relaxed);
        if beat & STALE != 0 {
            self.beat.store(beat & !STALE, Relaxed);
        }
        beat & STALE != 0
    }
    /// Whose code runs from now on.
    #[inline]
    pub(crate) fn set_holder(&self, holder: Holder) {
        self.holder.store(holder.0, Relaxed);
    }
    /// Whether somebody looks.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.armed.load(Relaxed)
    }
    #[inline]
    pub(super) fn was_reported(&self) -> bool {
        self.reported.load(Relaxed)
    }
    #[cfg(feature = "green")]
    pub(crate) fn set_names(&self, names: Arc<dyn Names>) {
        let _ = self.names.set(names);
    }

    // ---- the watchdog's ----

    pub(super) fn set_watched(&self, on: bool) {
        self.armed.store(on, Relaxed);
    }
    pub(super) fn set_reported(&self, on: bool) {
        self.reported.store(on, Relaxed);
    }
    /// Whether any user code has begun since the last look.
    pub(super) fn has_moved(&self) -> bool {
        self.beat.fetch_and(!MOVED, Relaxed) & MOVED != 0
    }
    pub(super) fn holder(&self) -> Holder {
        Holder(self.holder.load(Relaxed))
    }
    pub(super) fn names(&self) -> Option<&Arc<dyn Names>> {
        self.names.get()
    }
}
