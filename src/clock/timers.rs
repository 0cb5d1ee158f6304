//! The calls of one clock, ordered by (due time, order of making): a four-ary heap of keys that knows where each slot
//! stands, so that cancelling is exact and leaves nothing behind. Called by `clock::Store` alone, under its borrow: closures
//! go in and come out, and none is called or dropped here.
use crate::error::TimerError;
use std::panic::Location;
use std::time::{Duration, Instant};

const ARITY: usize = 4;
const NEVER: u64 = u64::MAX;
const FREE: u32 = u32::MAX;

/// What the heap orders: nanoseconds since the clock's epoch, then the order of making.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    due: u64,
    order: u64,
    slot: u32,
}

struct Slot {
    generation: u32,
    /// In the heap; `FREE` when there is no call. Then `next_free` chains.
    position: u32,
    next_free: u32,
    called: bool,
    /// Nobody waits for it: it is no reason to think that something will happen.
    background: bool,
    call: Option<Box<dyn FnOnce()>>,
}

pub(crate) struct Timers {
    epoch: Instant,
    heap: Vec<Key>,
    slots: Vec<Slot>,
    free: u32,
    made: u64,
    /// Where the call of each slot was made, while somebody wants to know.
    sites: Option<Vec<Option<Site>>>,
    /// How many of those in the heap are in the background.
    background: usize,
}

type Site = &'static Location<'static>;

impl Timers {
    pub(crate) fn new(epoch: Instant) -> Self {
        Timers { epoch, heap: Vec::new(), slots: Vec::new(), free: FREE, made: 0, sites: None, background: 0 }
    }

    fn nanos(&self, due: Option<Instant>) -> u64 {
        match due {
            Some(due) => u64::try_from(due.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(NEVER),
            None => NEVER,
        }
    }
    fn instant(&self, nanos: u64) -> Option<Instant> {
        // A call that never comes is due in the far future, so that `time()` has an answer while it is pending.
        self.epoch.checked_add(Duration::from_nanos(nanos))
    }

    pub(crate) fn insert(&mut self, due: Option<Instant>, call: Box<dyn FnOnce()>, site: Site) -> (u32, u32) {
        let slot = self.free;
        let slot = if slot == FREE {
            self.slots.push(Slot {
                generation: 1,
                position: FREE,
                next_free: FREE,
                called: false,
                background: false,
                call: None,
            });
            (self.slots.len() - 1) as u32
        } else {
            self.free = self.slots[slot as usize].next_free;
            slot
        };
        if self.sites.is_some() {
            self.note(slot, site);
        }
        let key = Key { due: self.nanos(due), order: self.made, slot };
        self.made += 1;
        let entry = &mut self.slots[slot as usize];
        entry.call = Some(call);
        let generation = entry.generation;
        self.heap.push(key);
        self.sift_up(self.heap.len() - 1);
        (slot, generation)
    }

    #[cold]
    fn note(&mut self, slot: u32, site: Site) {
        if let Some(sites) = &mut self.sites {
            let slot = slot as usize;
            if sites.len() <= slot {
                sites.resize(slot + 1, None);
            }
            sites[slot] = Some(site);
        }
    }
    /// Whether to remember where calls are made.
    #[cfg(any(feature = "green", feature = "testing"))]
    pub(crate) fn record_sites(&mut self, on: bool) {
        if on != self.sites.is_some() {
            self.sites = on.then(Vec::new);
        }
    }
    /// When each call is due (`None`: never) and where it was made, the next one first.
    #[cfg(any(feature = "green", feature = "testing"))]
    pub(crate) fn list(&self) -> Vec<(Option<Instant>, Option<Site>)> {
        let mut keys = self.heap.clone();
        keys.sort_unstable();
        let site = |slot: u32| self.sites.as_ref().and_then(|sites| sites.get(slot as usize).copied().flatten());
        let due = |due: u64| (due != NEVER).then(|| self.instant(due)).flatten();
        keys.iter().map(|key| (due(key.due), site(key.slot))).collect()
    }

    pub(crate) fn cancel(&mut self, slot: u32, generation: u32) -> Option<Box<dyn FnOnce()>> {
        let position = self.position(slot, generation)?;
        self.remove(position);
        self.release(slot, false)
    }

    pub(crate) fn due(&self, slot: u32, generation: u32) -> Option<Instant> {
        let position = self.position(slot, generation)?;
        self.instant(self.heap[position].due)
    }

    /// Why a name is no longer pending. A slot remembers its last call only; names older than that were called, as far as
    /// anybody can tell.
    pub(crate) fn outcome(&self, slot: u32, generation: u32) -> TimerError {
        match self.slots.get(slot as usize) {
            Some(entry) if entry.generation == generation.wrapping_add(1) && !entry.called => {
                TimerError::AlreadyCancelled
            }
            _ => TimerError::AlreadyCalled,
        }
    }

    pub(crate) fn reschedule(&mut self, slot: u32, due: Option<Instant>) {
        let position = self.slots[slot as usize].position as usize;
        let due = self.nanos(due);
        let key = &mut self.heap[position];
        let earlier = due < key.due;
        key.due = due;
        if earlier { self.sift_up(position) } else { self.sift_down(position) }
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.heap.first().filter(|key| key.due != NEVER).and_then(|key| self.instant(key.due))
    }

    #[cfg(feature = "green")]
    pub(crate) fn send_to_background(&mut self, slot: u32) {
        self.slots[slot as usize].background = true;
        self.background += 1;
    }
    pub(crate) fn has_background(&self) -> bool {
        self.background > 0
    }
    /// Whether there is one that comes and is not in the background. Looks at few: those in the background are.
    pub(crate) fn has_foreground(&self) -> bool {
        self.heap.iter().any(|key| key.due != NEVER && !self.slots[key.slot as usize].background)
    }

    pub(crate) fn mark(&self) -> u64 {
        self.made
    }

    pub(crate) fn pop_due(&mut self, now: Instant, mark: u64) -> Option<Box<dyn FnOnce()>> {
        let now = self.nanos(Some(now));
        let first = *self.heap.first()?;
        if first.due > now || first.due == NEVER {
            return None;
        }
        let position = if first.order < mark { 0 } else { self.first_made_before(now, mark)? };
        let slot = self.heap[position].slot;
        self.remove(position);
        self.release(slot, true)
    }

    /// Only when a call of this pass made another that sorts before the rest of the pass: rare, so a scan will do.
    fn first_made_before(&self, now: u64, mark: u64) -> Option<usize> {
        let due = self.heap.iter().enumerate().filter(|(_, key)| key.due <= now && key.order < mark);
        due.min_by_key(|(_, key)| **key).map(|(position, _)| position)
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(crate) fn take_all(&mut self) -> Vec<Box<dyn FnOnce()>> {
        let keys = std::mem::take(&mut self.heap);
        keys.iter().filter_map(|key| self.release(key.slot, false)).collect()
    }

    fn position(&self, slot: u32, generation: u32) -> Option<usize> {
        let entry = self.slots.get(slot as usize)?;
        (entry.generation == generation && entry.call.is_some()).then_some(entry.position as usize)
    }

    fn release(&mut self, slot: u32, called: bool) -> Option<Box<dyn FnOnce()>> {
        let entry = &mut self.slots[slot as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.position = FREE;
        entry.called = called;
        if let Some(sites) = &mut self.sites
            && let Some(site) = sites.get_mut(slot as usize)
        {
            *site = None;
        }
        if std::mem::take(&mut entry.background) {
            self.background -= 1;
        }
        entry.next_free = self.free;
        self.free = slot;
        entry.call.take()
    }

    fn remove(&mut self, position: usize) {
        let Some(last) = self.heap.pop() else { return };
        if position < self.heap.len() {
            let removed = std::mem::replace(&mut self.heap[position], last);
            if last < removed { self.sift_up(position) } else { self.sift_down(position) }
        }
    }

    fn sift_up(&mut self, mut position: usize) {
        let key = self.heap[position];
        while position > 0 {
            let parent = (position - 1) / ARITY;
            if self.heap[parent] <= key {
                break;
            }
            self.place(position, self.heap[parent]);
            position = parent;
        }
        self.place(position, key);
    }

    fn sift_down(&mut self, mut position: usize) {
        let key = self.heap[position];
        loop {
            let first = position * ARITY + 1;
            let children = first..(first + ARITY).min(self.heap.len());
            let Some(least) = children.min_by_key(|child| self.heap[*child]) else { break };
            if key <= self.heap[least] {
                break;
            }
            self.place(position, self.heap[least]);
            position = least;
        }
        self.place(position, key);
    }

    fn place(&mut self, position: usize, key: Key) {
        self.heap[position] = key;
        self.slots[key.slot as usize].position = position as u32;
    }
}
