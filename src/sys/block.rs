//! Control blocks: what a fiber is, from the first switch to it to the return of its stack.
//!
//! Called by `fiber`, whose handles count here, and by the entry of every stack. A stack must never be given back before
//! its fiber has jumped away for the last time, and then not by itself.
use super::fiber::Fiber;
use super::stack::{self, Stack};
use super::switch::{self, Saved};
use super::thread;
use crate::failure;
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::mem::{self, ManuallyDrop};
use std::panic::{self, AssertUnwindSafe};
use std::ptr::{self, NonNull};
use std::rc::Rc;

pub(super) const STARTED: u8 = 1;
pub(super) const DEAD: u8 = 2;
/// The thread's own: has no stack of ours, never dies.
pub(super) const MAIN: u8 = 4;
/// On the heap, not on its stack.
pub(super) const BOXED: u8 = 8;
/// A bit for the floor above.
pub(super) const MARK: u8 = 16;

/// The control block. Only its own thread touches it, through shared references and cells.
pub(super) struct Block {
    /// Present while it can be resumed: suspended, or unstarted with a stack.
    pub(super) saved: Cell<Option<Saved>>,
    pub(super) handles: Cell<usize>,
    pub(super) flags: Cell<u8>,
    pub(super) stack: Cell<Option<Stack>>,
    /// Where the body is until it starts, how to run it and how to drop it.
    pub(super) body: Cell<*mut u8>,
    pub(super) run: Cell<Option<unsafe fn(*mut u8)>>,
    pub(super) discard: Cell<Option<unsafe fn(*mut u8)>>,
    /// Who runs when the body has returned. Counts as a handle.
    pub(super) successor: Cell<Option<Fiber>>,
    pub(super) name: UnsafeCell<Option<Rc<str>>>,
    pub(super) attachment: UnsafeCell<Option<Box<dyn Any>>>,
}

impl Block {
    pub(super) const fn new(flags: u8) -> Self {
        Self {
            saved: Cell::new(None),
            handles: Cell::new(1),
            flags: Cell::new(flags),
            stack: Cell::new(None),
            body: Cell::new(ptr::null_mut()),
            run: Cell::new(None),
            discard: Cell::new(None),
            successor: Cell::new(None),
            name: UnsafeCell::new(None),
            attachment: UnsafeCell::new(None),
        }
    }
    /// One handle more.
    #[inline]
    pub(super) fn count(&self) {
        let handles = self.handles.get().wrapping_add(1);
        // As with `Rc`: handles can be forgotten in safe code, though on 64 bits nobody lives to forget so many.
        if usize::BITS < 64 && handles == 0 {
            std::process::abort();
        }
        self.handles.set(handles);
    }
    pub(super) fn is(&self, flag: u8) -> bool {
        self.flags.get() & flag != 0
    }
    pub(super) fn set(&self, flag: u8) {
        self.flags.set(self.flags.get() | flag);
    }
    /// For the overflow reporter.
    pub(super) fn name_bytes(&self) -> Option<&[u8]> {
        // SAFETY: `set_name` alone changes it, on this thread, and lends it to nobody.
        unsafe { (*self.name.get()).as_deref().map(str::as_bytes) }
    }
}

thread_local! {
    /// Whose code runs; null before the first use of this floor and when the thread ends.
    pub(super) static CURRENT: Cell<*const Block> = const { Cell::new(ptr::null()) };
    /// Without a destructor, so that its address is good as long as the thread's code runs.
    static THREAD: ManuallyDrop<Block> = const { ManuallyDrop::new(Block::new(STARTED | MAIN)) };
}

/// Nobody has a handle any more.
///
/// # Safety
/// No handle is left, and this one is not used afterwards.
#[inline(never)]
pub(super) unsafe fn forgotten(at: NonNull<Block>) {
    // SAFETY: blocks stay at least until `reclaim`.
    let block = unsafe { at.as_ref() };
    if block.is(MAIN) || ptr::eq(CURRENT.get(), block) {
        return;
    }
    if !block.is(STARTED) {
        block.set(STARTED | DEAD);
        block.saved.set(None);
        if let Some(discard) = block.discard.take() {
            // SAFETY: the body is where `load` placed it, and will not start. No borrow is held: it may run anything.
            let thrown = panic::catch_unwind(AssertUnwindSafe(|| unsafe { discard(block.body.get()) }));
            if let Err(payload) = thrown {
                complain("what a greenlet that never ran had captured panicked when it was dropped", payload);
            }
        }
    }
    if block.is(DEAD) {
        // SAFETY: dead, without frames on its stack, and without handles.
        unsafe { reclaim(at) };
    } else {
        // The logger is the user's, and may panic.
        let logged = failure::catch(|| {
            log::debug!(target: "twistlet", "a suspended greenlet was forgotten: its stack stays");
        });
        failure::drop_quietly(logged);
    }
}

/// Frees what a dead fiber without handles has.
///
/// # Safety
/// It is dead, has no frames and no handles, and is not used afterwards.
unsafe fn reclaim(at: NonNull<Block>) {
    // SAFETY: nobody else refers to it.
    unsafe {
        let block = at.as_ref();
        let stack = block.stack.take();
        let successor = block.successor.take();
        let name = (*block.name.get()).take();
        if block.is(BOXED) {
            let attachment = (*block.attachment.get()).take();
            drop(Box::from_raw(at.as_ptr()));
            if let Some(stack) = stack {
                stack::give(stack);
            }
            // The attachment may run code of the floor above: after all else.
            failure::drop_quietly(attachment);
        } else if let Some(stack) = stack {
            // The block was on it.
            stack::give(stack);
        }
        drop(name);
        drop(successor);
    }
}

/// The switch itself.
///
/// # Safety
/// `current` is the block of the code running here; `context` is what `target` has saved, on this thread.
#[inline(always)]
pub(super) unsafe fn go(current: *const Block, target: NonNull<Block>, context: Saved) {
    // SAFETY: the target has a saved context, so it is there. No reference to it may last beyond the jump: when this
    // one is resumed the target may have ended, and its block be gone.
    unsafe { target.as_ref() }.saved.set(None);
    CURRENT.set(target.as_ptr());
    // SAFETY: the context was taken out of its block, so it is resumed once, and its stack is there: a stack is given
    // back when its fiber is dead and forgotten.
    let (from, word) = unsafe { switch::jump(context, current as usize) };
    // SAFETY: both are what the one who jumped here passed.
    unsafe { arrive(from, word) };
}

/// The lowest bit of the word that is passed in a switch: whoever jumped will not be back.
const LAST: usize = 1;

/// Saves the context of the fiber that jumped here, or buries it.
///
/// # Safety
/// The arguments are what a jump returned, or an entry was given.
#[inline(always)]
unsafe fn arrive(from: Saved, word: usize) {
    let block = (word & !LAST) as *const Block;
    if word & LAST == 0 {
        // SAFETY: whoever jumped here passed its own block, which is there as long as it is suspended.
        unsafe { (*block).saved.set(Some(from)) };
    } else {
        // SAFETY: as above; and it will not be resumed.
        unsafe { bury(NonNull::new_unchecked(block.cast_mut())) };
    }
}

/// A fiber has left its stack for good.
///
/// # Safety
/// Its block is there, and its context is not saved anywhere.
unsafe fn bury(at: NonNull<Block>) {
    // SAFETY: the block is there until it is reclaimed.
    let block = unsafe { at.as_ref() };
    block.set(DEAD);
    if block.handles.get() == 0 {
        // SAFETY: dead, no frames, no handles.
        unsafe { reclaim(at) };
    } else if block.is(BOXED)
        && let Some(stack) = block.stack.take()
    {
        // SAFETY: its frames are gone, and its block is elsewhere.
        unsafe { stack::give(stack) };
    }
}

/// Where every stack begins. `switch::shim` calls it.
pub(super) extern "C" fn entry(from: Saved, word: usize) -> ! {
    let block = CURRENT.get();
    // SAFETY: `go` made the fiber that starts here the current one.
    let me = unsafe { &*block };
    // From here on there are frames on this stack: before anything else may run, `forgotten` must know.
    me.set(STARTED);
    me.discard.set(None);
    // SAFETY: the arguments of an entry.
    unsafe { arrive(from, word) };
    if let Some(run) = me.run.take() {
        // SAFETY: the body is where `load` placed it, and is run once.
        unsafe { run(me.body.get()) };
    }
    let successor = me.successor.take();
    let main = main_block();
    let target = successor.as_ref().filter(|next| next.can_run()).map_or(main, |next| next.0);
    // As a handle of one that will run it needs no destructor: only not to be counted.
    match successor {
        Some(next) if next.0 == target => {
            let next = ManuallyDrop::new(next);
            next.block().handles.set(next.block().handles.get() - 1);
        }
        other => drop(other),
    }
    // SAFETY: the thread's own fiber is suspended while another runs, so one of the two has a context; blocks that can
    // run are there. Nothing on this stack needs a destructor any more.
    unsafe {
        let Some(context) = target.as_ref().saved.take() else { std::process::abort() };
        CURRENT.set(target.as_ptr());
        switch::jump(context, block as usize | LAST);
    }
    std::process::abort()
}

/// # Safety
/// `at` holds an F, which is moved out.
pub(super) unsafe fn run<F: FnOnce()>(at: *mut u8) {
    // SAFETY: as the caller says.
    let body = unsafe { at.cast::<F>().read() };
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(body)) {
        complain("a greenlet of the hub panicked", payload);
    }
}

/// # Safety
/// `at` holds an F, which is dropped.
pub(super) unsafe fn discard<F: FnOnce()>(at: *mut u8) {
    // SAFETY: as the caller says.
    unsafe { at.cast::<F>().drop_in_place() };
}

#[cold]
fn complain(what: &str, payload: Box<dyn Any + Send>) {
    let failure = failure::Failure::from_panic(payload);
    failure::report(what, &failure);
    failure::drop_quietly(failure);
}

pub(super) fn main_block() -> NonNull<Block> {
    THREAD.with(|main| NonNull::from(&**main))
}

/// Whether the thread's own fiber runs.
#[inline]
pub(super) fn on_native_stack() -> bool {
    // SAFETY: the block of the code running here is there.
    unsafe { CURRENT.get().as_ref() }.is_none_or(|current| current.is(MAIN))
}

/// The first use of this floor on a thread: its own fiber is the current one.
#[cold]
pub(super) fn begin() -> NonNull<Block> {
    let main = main_block();
    if thread::watch() {
        CURRENT.set(main.as_ptr());
    }
    main
}

/// The thread ends: nothing may be switched to.
pub(super) fn end_thread() {
    CURRENT.set(ptr::null());
    // SAFETY: nobody has a reference to the name.
    let name = THREAD.with(|main| unsafe { (*main.name.get()).take() });
    drop(name);
}

const _: () = assert!(mem::align_of::<Block>() > LAST);
