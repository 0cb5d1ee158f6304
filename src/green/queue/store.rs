//! Where a queue keeps its items, and in which order it gives them out.
//!
//! What must never happen here: an item compared, which is user code, while a cell is borrowed.
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

pub(in crate::green) trait Store<I>: Default {
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

/// An item and when it came: of equal ones the oldest is the smallest.
struct Entry<I>(I, u64);
impl<I: Ord> PartialEq for Entry<I> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl<I: Ord> Eq for Entry<I> {}
impl<I: Ord> PartialOrd for Entry<I> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<I: Ord> Ord for Entry<I> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0).then_with(|| self.1.cmp(&other.1))
    }
}

type Heap<I> = BinaryHeap<Reverse<Entry<I>>>;

/// The smallest first; of equal ones the oldest.
pub(in crate::green) struct Smallest<I> {
    /// Out while items are compared.
    heap: Cell<Option<Heap<I>>>,
    len: Cell<usize>,
    came: Cell<u64>,
}
impl<I: Ord> Default for Smallest<I> {
    fn default() -> Self {
        Smallest { heap: Cell::new(Some(BinaryHeap::new())), len: Cell::new(0), came: Cell::new(0) }
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
        let heap = std::mem::take(&mut self.1);
        self.0.len.set(heap.len());
        self.0.heap.set(Some(heap));
    }
}
impl<I: Ord> Store<I> for Smallest<I> {
    fn push(&self, item: I) {
        self.came.set(self.came.get() + 1);
        let entry = Reverse(Entry(item, self.came.get()));
        self.with(|heap| heap.push(entry));
    }
    fn pop(&self) -> Option<I> {
        if self.len.get() == 0 {
            return None;
        }
        self.with(BinaryHeap::pop).map(|Reverse(Entry(item, _))| item)
    }
    fn len(&self) -> usize {
        self.len.get()
    }
}
