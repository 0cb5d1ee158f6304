//! Closures that borrow from somebody's stack, given to who only takes what borrows nothing; and the count of them.
//!
//! `green::scope` alone calls this, and `green::thread::scope` through it. What must never happen here: a way by which a `Lender` goes while something that it lent
//! is still there.
//!
//! # Contract
//!
//! A `Lender` is kept in the frame of `green::scope::scope`, or of `green::thread::scope`, as a field of the `Scope` that is
//! borrowed for `'scope`; it is neither moved nor forgotten there. That frame is left by returning or unwinding, which drops the `Lender`, or never:
//! greenlets whose frames are not unwound keep their stacks for ever (contract of this floor, 3), so that what was borrowed
//! stays where it is.
use std::cell::Cell;
use std::process::abort;
use std::rc::Rc;

/// Lends closures, and knows whether all have come back.
#[derive(Default)]
pub(crate) struct Lender(Rc<Cell<usize>>);

/// One closure that was lent: alive until it has run to its end, or was dropped.
struct Lent {
    /// Dropped before the note below.
    body: Box<dyn FnOnce()>,
    note: Note,
}
struct Note(Rc<Cell<usize>>);
impl Drop for Note {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Lender {
    /// Makes a closure that may be called after `'scope` as far as types know. Whoever takes it must have called or dropped
    /// it before the lender is dropped.
    pub(crate) fn lend<'scope>(&'scope self, body: Box<dyn FnOnce() + 'scope>) -> Box<dyn FnOnce()> {
        // SAFETY: only the lifetime of the trait object is changed. `body` is gone, called to its end or dropped, when its
        // `Note` is dropped: it is moved into the call, which drops what it captured when it returns or unwinds, or it is the
        // field before the note. Until then the count is above zero, and a count above zero when the lender is dropped ends
        // the process; the borrow of `self` keeps the lender alive for `'scope`, and the contract above says that it is
        // dropped before its frame is left, by whatever way. A closure or a suspended frame that is forgotten is counted for
        // ever, so the frame it borrows from is never left either. Everything stays on one thread: neither type is `Send`.
        let body = unsafe { std::mem::transmute::<Box<dyn FnOnce() + 'scope>, Box<dyn FnOnce()>>(body) };
        self.0.set(self.0.get() + 1);
        let lent = Lent { body, note: Note(Rc::clone(&self.0)) };
        Box::new(move || {
            let Lent { body, note } = lent;
            body();
            drop(note);
        })
    }
    /// So many closures are still there.
    pub(crate) fn lent(&self) -> usize {
        self.0.get()
    }
}
impl Drop for Lender {
    fn drop(&mut self) {
        if self.lent() > 0 {
            // Unwinding would free what others use.
            eprintln!("twistlet: a scope was left while green threads borrow from it");
            abort();
        }
    }
}
