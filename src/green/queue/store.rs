//! Where a queue keeps its items, and in which order it gives them out.
//!
//! What must never happen here: an item compared, which is user code, while a cell is borrowed; an item lost because that panicked.
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

pub(in crate::green) trait Store<I>: Default {
    /// Whether `push` and `pop` run user code.
    const COMPARES: bool = false;
    fn push(&self, item: I);
    fn pop(&self) -> Option<I>;
    fn len(&self) -> usize;
}

/// First come, first served.
pub(in crate::green) struct Fifo<I>(RefCell<VecDeque<I>>);
impl<I> Default for Fifo<I> {
    fn default() -> Self {
        Fifo(RefCell::default())
    }
}
impl<I> Store<I> for Fifo<I> {
    #[inline]
    fn push(&self, item: I) {
        self.0.borrow_mut().push_back(item);
    }
    #[inline]
    fn pop(&self) -> Option<I> {
        self.0.borrow_mut().pop_front()
    }
    #[inline]
    fn len(&self) -> usize {
        self.0.borrow().len()
    }
}

/// The newest first.
pub(in crate::green) struct Lifo<I>(RefCell<Vec<I>>);
impl<I> Default for Lifo<I> {
    fn default() -> Self {
        Lifo(RefCell::default())
    }
}
impl<I> Store<I> for Lifo<I> {
    fn push(&self, item: I) {
        self.0.borrow_mut().push(item);
    }
    fn pop(&self) -> Option<I> {
        self.0.borrow_mut().pop()
    }
    fn len(&self) -> usize {
        self.0.borrow().len()
    }
}

/// Items and when each came. It only ever swaps: whatever a comparison does, every item stays in it.
#[derive(Debug)]
struct Heap<I>(Vec<(I, u64)>);
impl<I: Ord> Heap<I> {
    /// Whether one is smaller, or equal and older.
    fn is_before(&self, one: usize, other: usize) -> bool {
        let (one, other) = (&self.0[one], &self.0[other]);
        one.0.cmp(&other.0).then(one.1.cmp(&other.1)).is_lt()
    }
    fn push(&mut self, item: I, came: u64) {
        self.0.push((item, came));
        let mut at = self.0.len() - 1;
        while at > 0 {
            let parent = (at - 1) / 2;
            if !self.is_before(at, parent) {
                break;
            }
            self.0.swap(at, parent);
            at = parent;
        }
    }
    /// The item leaves when all has been compared.
    fn pop(&mut self) -> Option<I> {
        let last = self.0.len().checked_sub(1)?;
        self.0.swap(0, last);
        let mut at = 0;
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            if left >= last {
                break;
            }
            let child = if right < last && self.is_before(right, left) { right } else { left };
            if !self.is_before(child, at) {
                break;
            }
            self.0.swap(at, child);
            at = child;
        }
        self.0.pop().map(|(item, _)| item)
    }
}

/// The smallest first; of equal ones the oldest.
pub(in crate::green) struct Smallest<I> {
    /// Out while items are compared.
    heap: Cell<Option<Heap<I>>>,
    len: Cell<usize>,
    came: Cell<u64>,
}
impl<I: Ord> Default for Smallest<I> {
    fn default() -> Self {
        Smallest { heap: Cell::new(Some(Heap(Vec::new()))), len: Cell::new(0), came: Cell::new(0) }
    }
}
impl<I: Ord> Smallest<I> {
    fn with<R>(&self, f: impl FnOnce(&mut Heap<I>) -> R) -> R {
        let Some(heap) = self.heap.take() else {
            panic!("a PriorityQueue was used by the Ord of one of its items");
        };
        // Given back also when a comparison panics.
        let mut out = Out(self, heap);
        f(&mut out.1)
    }
}
struct Out<'a, I: Ord>(&'a Smallest<I>, Heap<I>);
impl<I: Ord> Drop for Out<'_, I> {
    fn drop(&mut self) {
        let heap = std::mem::take(&mut self.1.0);
        self.0.len.set(heap.len());
        self.0.heap.set(Some(Heap(heap)));
    }
}
impl<I: Ord> Store<I> for Smallest<I> {
    const COMPARES: bool = true;
    fn push(&self, item: I) {
        self.came.set(self.came.get() + 1);
        self.with(|heap| heap.push(item, self.came.get()));
    }
    fn pop(&self) -> Option<I> {
        if self.len.get() == 0 {
            return None;
        }
        self.with(Heap::pop)
    }
    fn len(&self) -> usize {
        self.len.get()
    }
}
