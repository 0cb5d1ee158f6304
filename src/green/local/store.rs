//! The values of one green thread, each under its key.
//!
//! Few keys are in use at a time, so they are looked for one after another. What must never happen here: user code (an initial
//! expression, a destructor) run while the list is borrowed.
use super::AccessError;
use crate::failure;
use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;

#[derive(Default)]
pub(in crate::green) struct Store(RefCell<Vec<(usize, Entry)>>);

enum Entry {
    /// The initial expression runs.
    Coming,
    There(Rc<dyn Any>),
    /// Being dropped, or dropped.
    Gone,
}

impl Store {
    /// The value, made by `init` where there is none yet.
    pub(super) fn get<T: 'static>(&self, key: usize, init: fn() -> T) -> Result<Rc<T>, AccessError> {
        let found = {
            let entries = self.0.borrow();
            match entries.iter().find(|(name, _)| *name == key) {
                Some((_, Entry::There(value))) => Some(Ok(Rc::clone(value))),
                Some((_, Entry::Gone)) => Some(Err(AccessError)),
                Some((_, Entry::Coming)) => {
                    drop(entries);
                    needs_itself()
                }
                None => None,
            }
        };
        match found {
            Some(Ok(value)) => match value.downcast() {
                Ok(value) => Ok(value),
                Err(_) => unreachable!("a key has one type"),
            },
            Some(Err(gone)) => Err(gone),
            None => Ok(self.make(key, init)),
        }
    }
    #[cold]
    fn make<T: 'static>(&self, key: usize, init: fn() -> T) -> Rc<T> {
        self.0.borrow_mut().push((key, Entry::Coming));
        let coming = Coming { store: self, key };
        let value = Rc::new(init());
        std::mem::forget(coming);
        self.set(key, Entry::There(value.clone()));
        value
    }
    fn set(&self, key: usize, entry: Entry) -> Option<Entry> {
        let mut entries = self.0.borrow_mut();
        let place = entries.iter_mut().find(|(name, _)| *name == key);
        place.map(|(_, place)| std::mem::replace(place, entry))
    }
    /// Drops the values, the youngest first, also those that are made meanwhile. A destructor's panic is logged; a key is
    /// dropped once.
    pub(in crate::green) fn clear(&self, whose: &str) {
        loop {
            let youngest = {
                let entries = self.0.borrow();
                let there = entries.iter().rev().find(|(_, entry)| matches!(entry, Entry::There(_)));
                there.map(|(key, _)| *key)
            };
            let Some(key) = youngest else { break };
            let value = self.set(key, Entry::Gone);
            if let Err(failure) = failure::catch(move || drop(value)) {
                failure::report(format_args!("the destructor of {whose}"), &failure);
                failure::drop_quietly(failure);
            }
        }
    }
}

/// The initial expression is left by unwinding: the next use tries again.
struct Coming<'a> {
    store: &'a Store,
    key: usize,
}
impl Drop for Coming<'_> {
    fn drop(&mut self) {
        self.store.0.borrow_mut().retain(|(name, _)| *name != self.key);
    }
}

#[cold]
fn needs_itself() -> ! {
    panic!("the initial expression of a green-local value needs the value itself");
}
