//! A table behind `Copy` names: values under (slot, generation), for ports and connectors. A stale name finds nothing.
use std::rc::Rc;

pub(super) struct Names<T> {
    slots: Vec<(u32, Option<Rc<T>>)>,
    free: Vec<u32>,
}

impl<T> Names<T> {
    pub(super) const fn new() -> Self {
        Names { slots: Vec::new(), free: Vec::new() }
    }
    pub(super) fn insert(&mut self, value: Rc<T>) -> (u32, u32) {
        match self.free.pop() {
            Some(slot) => {
                let entry = &mut self.slots[slot as usize];
                entry.1 = Some(value);
                (slot, entry.0)
            }
            None => {
                self.slots.push((1, Some(value)));
                ((self.slots.len() - 1) as u32, 1)
            }
        }
    }
    pub(super) fn get(&self, (slot, generation): (u32, u32)) -> Option<Rc<T>> {
        self.slots.get(slot as usize).filter(|entry| entry.0 == generation)?.1.clone()
    }
    pub(super) fn all(&self) -> Vec<Rc<T>> {
        self.slots.iter().filter_map(|slot| slot.1.clone()).collect()
    }
    /// The caller drops what comes out, with the table free.
    pub(super) fn remove(&mut self, (slot, generation): (u32, u32)) -> Option<Rc<T>> {
        let entry = self.slots.get_mut(slot as usize).filter(|entry| entry.0 == generation)?;
        entry.0 = entry.0.wrapping_add(1).max(1);
        self.free.push(slot);
        entry.1.take()
    }
}
