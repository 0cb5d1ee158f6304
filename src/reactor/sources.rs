//! What the poller watches: each source under a token of slot and generation, so that a late event for one that is gone finds
//! nothing. Used by `Core` only; sources come out as `Rc`s, and none is called or dropped here.
use super::core::Core;
use super::driver::Readiness;
use super::pulse::Kind;
use std::os::fd::RawFd;
use std::rc::Rc;

/// Something the loop calls: a connection, a port, a user's descriptor.
pub(crate) trait Source {
    /// The poller said so, or (with no readiness) the source asked to be called again.
    fn ready(&self, core: &Rc<Core>, readiness: Readiness);
    /// It asked for this with `flush_soon`: write what is due, finish what can be finished.
    fn flush(&self, core: &Rc<Core>) {
        let _ = core;
    }
    /// The reactor ends: tell the owner and leave.
    fn shut(&self, core: &Rc<Core>);
    /// A graceful shutdown begins: accept no more, flush and close.
    fn drain(&self) {}
    /// Whether a graceful shutdown waits for it.
    fn drains(&self) -> bool {
        false
    }
    /// Part of the reactor itself: not counted, and alone it wakes nobody.
    fn is_internal(&self) -> bool {
        false
    }
    /// What it is, for people.
    fn kind(&self) -> Kind {
        Kind::Other
    }
    fn fd(&self) -> Option<RawFd> {
        None
    }
    /// More about it.
    fn about(&self) -> About {
        About::default()
    }
}

/// What a source tells about itself to people.
#[derive(Debug, Default)]
#[cfg_attr(not(feature = "green"), allow(dead_code, reason = "reports in full are green"))]
pub(crate) struct About {
    /// Whom it is with, where it listens.
    pub(crate) detail: String,
    pub(crate) reads: bool,
    pub(crate) writes: bool,
    /// Who waits for it.
    pub(crate) waiting: Vec<String>,
}

#[derive(Default)]
pub(super) struct Sources {
    slots: Vec<Slot>,
    free: Vec<u32>,
    len: usize,
}

struct Slot {
    generation: u32,
    source: Option<Rc<dyn Source>>,
}

fn split(token: usize) -> (usize, u32) {
    (token & 0xffff_ffff, (token >> 32) as u32)
}

impl Sources {
    pub(super) fn reserve(&mut self) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, source: None });
            (self.slots.len() - 1) as u32
        });
        // 31 bits: the all-ones token is the waker's.
        (self.slots[slot as usize].generation as usize) << 32 | slot as usize
    }
    pub(super) fn install(&mut self, token: usize, source: Rc<dyn Source>) -> Option<Rc<dyn Source>> {
        let (slot, generation) = split(token);
        let entry = self.slots.get_mut(slot).filter(|entry| entry.generation == generation)?;
        self.len += usize::from(!source.is_internal());
        let old = entry.source.replace(source);
        self.len -= usize::from(old.as_ref().is_some_and(|old| !old.is_internal()));
        old
    }
    #[inline]
    pub(super) fn get(&self, token: usize) -> Option<Rc<dyn Source>> {
        let (slot, generation) = split(token);
        self.slots.get(slot).filter(|entry| entry.generation == generation)?.source.clone()
    }
    pub(super) fn remove(&mut self, token: usize) -> Option<Rc<dyn Source>> {
        let (slot, generation) = split(token);
        let entry = self.slots.get_mut(slot).filter(|entry| entry.generation == generation)?;
        entry.generation = (entry.generation + 1) & 0x7fff_ffff;
        self.free.push(slot as u32);
        let source = entry.source.take();
        self.len -= usize::from(source.as_ref().is_some_and(|source| !source.is_internal()));
        source
    }
    /// How many there are, the reactor's own not counted.
    pub(super) fn len(&self) -> usize {
        self.len
    }
    pub(super) fn all(&self) -> Vec<Rc<dyn Source>> {
        self.slots.iter().filter_map(|slot| slot.source.clone()).collect()
    }
    pub(super) fn take_all(&mut self) -> Vec<Rc<dyn Source>> {
        let tokens: Vec<usize> = (0..self.slots.len())
            .filter(|slot| self.slots[*slot].source.is_some())
            .map(|slot| (self.slots[slot].generation as usize) << 32 | slot)
            .collect();
        tokens.into_iter().filter_map(|token| self.remove(token)).collect()
    }
}
