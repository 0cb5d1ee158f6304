//! Fibers: a control block, and a stack to run a body on. The safe face of the ground floor.
//!
//! Called by `greenlet`. A block sits at the top of its own stack (`spawn`: no allocation at all), or on the heap until
//! and after it has one (`vacant` and `equip`), or is the thread's own. A fiber that is suspended when its last handle
//! goes keeps its stack for ever: who wants it unwound does that before.
use super::block::{BOXED, Block, CURRENT, DEAD, MAIN, MARK, STARTED, begin, discard, forgotten, go, main_block, run};
use super::error::StackError;
use super::stack::{self, Stack};
use super::{switch, thread};
use std::any::Any;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::rc::Rc;

/// A larger body goes to the heap: the first page of a stack is for frames.
const LARGE_BODY: usize = 1024;

/// A handle of a fiber. Clones are the same fiber.
pub(crate) struct Fiber(pub(super) NonNull<Block>);

impl Fiber {
    /// A fiber that will run `body` on a stack of its own when it is first transferred to. Body and control block are
    /// placed on that stack. When the body returns `successor` runs.
    ///
    /// A panic of the body is logged, and ends it as a return does.
    pub(crate) fn spawn<F: FnOnce() + 'static>(size: usize, successor: Fiber, body: F) -> Result<Self, StackError> {
        if size_of::<F>() > LARGE_BODY || align_of::<F>() > 64 {
            let body: Box<dyn FnOnce()> = Box::new(body);
            return Self::spawn(size, successor, body);
        }
        let stack = stack::take(size)?;
        let at = (stack.top() as usize - size_of::<Block>()) & !(align_of::<Block>() - 1);
        let block = stack.top().with_addr(at).cast::<Block>();
        // SAFETY: the top of a free stack of at least three pages, above all that will be its frames; nobody else has it.
        unsafe {
            block.write(Block::new(0));
            let fiber = Self(NonNull::new_unchecked(block));
            fiber.block().successor.set(Some(successor));
            fiber.load(stack, block.cast(), body);
            Ok(fiber)
        }
    }

    /// A fiber without a stack yet, on the heap: to be given one by [`Self::equip`]. Its stack goes back as soon as it
    /// is dead. `attachment` belongs to it as long as there are handles.
    pub(crate) fn vacant(attachment: Box<dyn Any>) -> Self {
        let mut block = Box::new(Block::new(BOXED));
        *block.attachment.get_mut() = Some(attachment);
        // SAFETY: from a Box. `reclaim` makes it one again.
        Self(unsafe { NonNull::new_unchecked(Box::into_raw(block)) })
    }

    /// Gives a vacant fiber a stack and a body. Does nothing but drop `body` if it has one already, or is dead.
    pub(crate) fn equip<F: FnOnce() + 'static>(&self, size: usize, body: F) -> Result<(), StackError> {
        if size_of::<F>() > LARGE_BODY || align_of::<F>() > 64 {
            let body: Box<dyn FnOnce()> = Box::new(body);
            return self.equip(size, body);
        }
        let block = self.block();
        if block.flags.get() & (BOXED | STARTED | DEAD) != BOXED || block.stack.get().is_some() {
            return Ok(());
        }
        let stack = stack::take(size)?;
        // SAFETY: a free stack that nobody else has, for a fiber that has none.
        unsafe { self.load(stack, stack.top(), body) };
        Ok(())
    }

    /// Places the body on the stack below `top` and makes the context that runs it.
    ///
    /// # Safety
    /// The stack is this fiber's from now on, and is free below `top`.
    unsafe fn load<F: FnOnce() + 'static>(&self, stack: Stack, top: *mut u8, body: F) {
        let block = self.block();
        let align = align_of::<F>().max(16);
        let place = top.with_addr((top as usize - size_of::<F>()) & !(align - 1));
        // SAFETY: room of the size and alignment of F, below `top`, on a stack without frames.
        unsafe {
            place.cast::<F>().write(body);
            block.saved.set(Some(switch::prepare(place, stack.bottom())));
        }
        block.body.set(place);
        block.run.set(Some(run::<F>));
        block.discard.set(Some(discard::<F>));
        block.stack.set(Some(stack));
        stack.seat().owner.set(block);
    }

    /// The one whose code runs.
    #[inline]
    pub(crate) fn current() -> Self {
        let block = match NonNull::new(CURRENT.get().cast_mut()) {
            Some(block) => block,
            None => begin(),
        };
        // SAFETY: the current fiber's block is there: its code runs.
        unsafe { block.as_ref() }.count();
        Self(block)
    }
    /// The thread's own fiber.
    pub(crate) fn main() -> Self {
        let main = main_block();
        // SAFETY: it is there as long as the thread's code runs.
        unsafe { main.as_ref() }.count();
        Self(main)
    }

    #[inline]
    pub(super) fn block(&self) -> &Block {
        // SAFETY: a block is there as long as a handle is.
        unsafe { self.0.as_ref() }
    }

    /// Runs this fiber until somebody transfers to the caller. Returns at once if it is the caller.
    ///
    /// # Panics
    /// If it is dead or has no stack, and at the end of the thread, in destructors of thread-locals.
    #[inline]
    pub(crate) fn transfer(&self) {
        let current = CURRENT.get();
        match self.block().saved.get() {
            // SAFETY: a context that is saved in a block is that of a suspended or unstarted fiber of this thread,
            // whose stack is there; `current` is the block of the code running here.
            Some(context) if !current.is_null() => unsafe { go(current, self.0, context) },
            _ => self.transfer_slowly(),
        }
    }

    /// As [`Self::transfer`], but holds no handle while the caller is suspended: if this was the last, the fiber runs on
    /// without one.
    #[inline]
    pub(crate) fn transfer_into(self) {
        let current = CURRENT.get();
        match self.block().saved.get() {
            Some(context) if !current.is_null() => {
                let target = ManuallyDrop::new(self).0;
                // SAFETY: a fiber that can run is there with or without handles, and stays while it runs; the rest as
                // in `transfer`.
                unsafe {
                    let handles = &target.as_ref().handles;
                    handles.set(handles.get() - 1);
                    go(current, target, context);
                }
            }
            _ => self.transfer_slowly(),
        }
    }

    /// From a fiber made by [`Self::spawn`] to its successor, if that is the one whose [`Self::id`] is given. `false`, and
    /// nothing has happened, where it is not, or cannot run.
    #[inline(always)]
    pub(crate) fn transfer_to_successor(id: usize) -> bool {
        let current = CURRENT.get();
        if current.is_null() {
            return false;
        }
        // SAFETY: the block of the code running here is there, and only this thread's code changes its successor; the
        // reference is gone before any other runs.
        let (spawned, successor) = unsafe {
            let block = &*current;
            (!block.is(BOXED) && !block.is(MAIN), (*block.successor.as_ptr()).as_ref().map(|successor| successor.0))
        };
        let Some(target) = successor.filter(|target| spawned && target.as_ptr() as usize == id) else { return false };
        // SAFETY: the successor counts as a handle, so its block is there; the reference is gone before the jump.
        let Some(context) = (unsafe { target.as_ref() }).saved.get() else { return false };
        // SAFETY: as in `transfer`.
        unsafe { go(current, target, context) };
        true
    }

    #[cold]
    #[inline(never)]
    fn transfer_slowly(&self) {
        if self.is_current() {
            return;
        }
        assert!(!thread::is_ending(), "a switch between greenlets in the destructor of a thread-local");
        let current = Self::current();
        let Some(context) = self.block().saved.get() else {
            panic!("transfer to a greenlet that is dead or cannot run yet")
        };
        // The block of the code running here needs no handle.
        let block = current.0.as_ptr();
        drop(current);
        // SAFETY: as in `transfer`.
        unsafe { go(block, self.0, context) };
    }

    /// Whether the code running is this fiber's.
    #[inline]
    pub(crate) fn is_current(&self) -> bool {
        let current = CURRENT.get();
        ptr::eq(current, self.0.as_ptr()) || (current.is_null() && self.is_main() && !thread::is_ending())
    }
    #[inline]
    pub(crate) fn is_main(&self) -> bool {
        self.block().is(MAIN)
    }
    /// Whether its body has begun.
    #[inline]
    pub(crate) fn is_started(&self) -> bool {
        self.block().is(STARTED)
    }
    /// Whether its body has returned, or never will begin.
    #[inline]
    pub(crate) fn is_dead(&self) -> bool {
        self.block().is(DEAD)
    }
    /// Whether it can be transferred to.
    #[inline]
    pub(crate) fn can_run(&self) -> bool {
        self.block().saved.get().is_some()
    }
    /// A vacant fiber without a stack will never run.
    pub(crate) fn abandon(&self) {
        if self.block().flags.get() & (BOXED | STARTED) == BOXED && !self.can_run() {
            self.block().set(DEAD);
        }
    }
    /// What says which fiber this is, as long as there is a handle.
    #[inline]
    pub(crate) fn id(&self) -> usize {
        self.0.as_ptr() as usize
    }
    /// Whether it was made by `vacant`.
    #[inline]
    pub(crate) fn is_boxed(&self) -> bool {
        self.block().is(BOXED)
    }
    #[inline]
    pub(crate) fn handles(&self) -> usize {
        self.block().handles.get()
    }
    /// A bit for the floor above.
    #[inline]
    pub(crate) fn mark(&self) -> bool {
        self.block().is(MARK)
    }
    #[inline]
    pub(crate) fn set_mark(&self, on: bool) {
        let flags = self.block().flags.get() & !MARK;
        self.block().flags.set(if on { flags | MARK } else { flags });
    }
    /// What `vacant` was given.
    pub(crate) fn attachment<T: 'static>(&self) -> Option<&T> {
        // SAFETY: written before the first handle, dropped after the last; only shared references in between.
        unsafe { (*self.block().attachment.get()).as_deref()?.downcast_ref() }
    }
    /// Who runs when the body has returned; if that one cannot, the thread's own fiber.
    pub(crate) fn set_successor(&self, successor: &Fiber) {
        drop(self.block().successor.replace(Some(successor.clone())));
    }
    /// Whether the successor is the one with this [`Self::id`].
    #[inline]
    pub(crate) fn has_successor(&self, id: usize) -> bool {
        let successor = self.block().successor.take();
        let is_it = successor.as_ref().is_some_and(|successor| successor.id() == id);
        self.block().successor.set(successor);
        is_it
    }
    pub(crate) fn successor(&self) -> Option<Fiber> {
        let block = self.block();
        let successor = block.successor.take();
        let clone = successor.clone();
        block.successor.set(successor);
        clone
    }
    /// For the report of an overflow, and for logs.
    pub(crate) fn set_name(&self, name: Rc<str>) {
        // SAFETY: nobody has a reference to the name: `name` clones it, and the overflow reporter interrupts no code
        // of this function on its way (it would have to overflow here, between two words).
        let before = unsafe { (*self.block().name.get()).replace(name) };
        drop(before);
    }
    pub(crate) fn name(&self) -> Option<Rc<str>> {
        // SAFETY: as above.
        unsafe { (*self.block().name.get()).clone() }
    }
    /// Address space of its stack, guard included. `None` for the thread's own, and without one.
    pub(crate) fn stack_size(&self) -> Option<usize> {
        self.block().stack.get().map(|stack| stack.size())
    }
    /// Bytes of its stack in use at the moment.
    pub(crate) fn stack_used(&self) -> Option<usize> {
        let stack = self.block().stack.get()?;
        let here = 0u8;
        let low = match self.block().saved.get() {
            Some(context) => context.as_ptr() as usize,
            None if self.is_current() => &raw const here as usize,
            None => return None,
        };
        (stack.top() as usize).checked_sub(low)
    }
    /// Asks the processor to fetch what a transfer to it will need.
    #[inline]
    pub(crate) fn prefetch(&self) {
        if let Some(context) = self.block().saved.get() {
            switch::prefetch(context.as_ptr());
        }
    }
}

impl Clone for Fiber {
    #[inline]
    fn clone(&self) -> Self {
        self.block().count();
        Self(self.0)
    }
}

impl Drop for Fiber {
    #[inline]
    fn drop(&mut self) {
        let handles = &self.block().handles;
        handles.set(handles.get() - 1);
        if handles.get() == 0 {
            // SAFETY: this was the last handle.
            unsafe { forgotten(self.0) };
        }
    }
}
