//! A cell for references to statics that one thread writes and others read. Used where a thread tells others what it does.
//! Nothing but a `&'static T` or null may ever be in it.
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

pub(crate) struct StaticRef<T: Sync + 'static>(AtomicPtr<T>);

impl<T: Sync + 'static> StaticRef<T> {
    pub(crate) const fn new() -> Self {
        StaticRef(AtomicPtr::new(ptr::null_mut()))
    }
    #[inline]
    pub(crate) fn set(&self, to: Option<&'static T>) {
        let pointer = to.map_or(ptr::null_mut(), |to| ptr::from_ref(to).cast_mut());
        // What it points to was there before: a reference to a static may be used on any thread at any time.
        self.0.store(pointer, Ordering::Release);
    }
    pub(crate) fn get(&self) -> Option<&'static T> {
        // SAFETY: null, or made from a `&'static T` by `set`; `T: Sync`, so that another thread may have it too. It is
        // only read through.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }
}
