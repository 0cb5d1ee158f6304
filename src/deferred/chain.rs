//! What a chain is made of, and the loop that runs it.
//!
//! A node holds the outcome of one link until somebody takes it. It owns the node after it and knows the one before
//! it weakly, so an unfired chain belongs to its promise. Running, cancelling and searching are loops, never
//! recursion. No cell is held open while user code runs: everything is taken out first.
use super::Deferred;
use crate::error::WaitsForItself;
use crate::failure::{Failure, Result, drop_quietly, report_unobserved};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

/// A node without its types.
pub(super) trait Node {
    /// Passes the outcome held here to who comes next; gives the node to go on with.
    fn run(self: Rc<Self>) -> Option<Rc<dyn Node>>;
    fn ties(&self) -> &Ties;
    fn next_node(&self) -> Option<Rc<dyn Node>>;
    /// Cancels what this node waits for itself, which only a promise's node does.
    fn cancel(self: Rc<Self>) {}
}
/// A node whose outcome is a `T`.
pub(super) trait Source<T>: Node {
    fn out(&self) -> &Out<T>;
}
/// A node that waits for a `T`.
pub(super) trait Consumer<T>: Node {
    fn accept(self: Rc<Self>, outcome: Result<T>) -> Option<Rc<dyn Node>>;
}

/// What the node is to the one it waits for.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Relation {
    /// The link after it.
    #[default]
    Next,
    /// The link after a callback that returned it.
    Outer,
    /// The callback that returned it: its outcome becomes the node's own.
    Adopter,
}

/// What nodes of all types have.
#[derive(Default)]
pub(super) struct Ties {
    /// What the node waits for.
    up: Cell<Option<Weak<dyn Node>>>,
    relation: Cell<Relation>,
    /// How often it is paused, times two; and one if there are marks. Zero is the short way everywhere.
    busy: Cell<u32>,
    marks: Cell<Option<Marks>>,
}
impl Ties {
    #[inline]
    pub(super) fn after<T: 'static>(source: &Rc<dyn Source<T>>) -> Self {
        let up: Weak<dyn Node> = Rc::downgrade(source) as _;
        Self { up: Cell::new(Some(up)), ..Self::default() }
    }
    fn up(&self) -> Option<Rc<dyn Node>> {
        let up = self.up.take();
        let node = up.as_ref().and_then(Weak::upgrade);
        self.up.set(up);
        node
    }
    fn wait_for(&self, up: Weak<dyn Node>, relation: Relation) {
        self.up.set(Some(up));
        self.relation.set(relation);
    }
    /// The outcome waited for is here.
    #[inline]
    pub(super) fn cut(&self) {
        drop(self.up.take());
    }
    #[inline]
    fn is_paused(&self) -> bool {
        self.busy.get() > 1
    }
    pub(super) fn take_marks(&self) -> Option<Marks> {
        self.busy.set(self.busy.get() & !1);
        self.marks.take()
    }
}

/// Where the cancellers of a chain find it: a mark moves with the outcome, from node to node, and ends with its chain.
pub(super) type Marks = Box<Vec<Rc<Mark>>>;
#[derive(Default)]
pub(super) struct Mark(Cell<Option<Weak<dyn Node>>>);
impl Mark {
    /// A mark on the node.
    pub(super) fn on(node: &Rc<dyn Node>) -> Rc<Self> {
        let mark = Rc::new(Mark::default());
        add_marks(node, Box::new(vec![mark.clone()]));
        mark
    }
    pub(super) fn node(&self) -> Option<Rc<dyn Node>> {
        let place = self.0.take();
        let node = place.as_ref().and_then(Weak::upgrade);
        self.0.set(place);
        node
    }
}
/// Moves `marks` to the node.
pub(super) fn add_marks(node: &Rc<dyn Node>, mut marks: Marks) {
    // A mark nobody but us holds has no canceller any more.
    marks.retain(|mark| Rc::strong_count(mark) > 1);
    if marks.is_empty() {
        return;
    }
    for mark in marks.iter() {
        mark.0.set(Some(Rc::downgrade(node)));
    }
    let ties = node.ties();
    let all = match ties.take_marks() {
        Some(mut before) => {
            before.append(&mut marks);
            before
        }
        None => marks,
    };
    ties.marks.set(Some(all));
    ties.busy.set(ties.busy.get() | 1);
}

/// Who takes an outcome.
#[derive(Default)]
pub(super) enum Next<T> {
    /// Nobody yet: it stays here.
    #[default]
    Nobody,
    /// A link.
    Link(Rc<dyn Consumer<T>>),
    /// A node of another chain, as its own outcome.
    Adopter(Rc<dyn Source<T>>),
}

/// The outgoing side of a node.
pub(super) struct Out<T> {
    pub(super) outcome: Cell<Option<Result<T>>>,
    next: Cell<Next<T>>,
    pub(super) ties: Ties,
}
impl<T> Out<T> {
    #[inline]
    pub(super) fn new(ties: Ties, outcome: Option<Result<T>>) -> Self {
        Self { outcome: Cell::new(outcome), next: Cell::new(Next::Nobody), ties }
    }
    /// The outcome, if it is here and nothing holds it.
    #[inline]
    pub(super) fn take(&self) -> Option<Result<T>> {
        if self.ties.is_paused() { None } else { self.outcome.take() }
    }
    /// Puts the outcome here.
    #[inline]
    pub(super) fn put(&self, outcome: Result<T>) {
        let before = self.outcome.replace(Some(outcome));
        debug_assert!(before.is_none());
    }
    #[inline]
    pub(super) fn set_next(&self, next: Next<T>) {
        self.next.set(next);
    }
    pub(super) fn describe(&self) -> &'static str {
        let outcome = self.outcome.take();
        let text = match &outcome {
            None => "pending",
            Some(Ok(_)) => "succeeded",
            Some(Err(_)) => "failed",
        };
        self.outcome.set(outcome);
        text
    }
    pub(super) fn has_next(&self) -> bool {
        let next = self.next.take();
        let has = !matches!(next, Next::Nobody);
        self.next.set(next);
        has
    }
    /// Gives the outcome, which is here, to who takes it.
    #[inline]
    pub(super) fn pass(&self) -> Option<Rc<dyn Node>> {
        let ties = &self.ties;
        if ties.is_paused() {
            return None;
        }
        let next = self.next.take();
        if matches!(next, Next::Nobody) {
            return None;
        }
        let Some(outcome) = self.outcome.take() else {
            self.next.set(next);
            return None;
        };
        match next {
            Next::Nobody => None,
            Next::Link(link) => {
                if ties.busy.get() != 0
                    && let Some(marks) = ties.take_marks()
                    && link.ties().relation.get() == Relation::Next
                {
                    let link: Rc<dyn Node> = link.clone();
                    add_marks(&link, marks);
                }
                link.accept(outcome)
            }
            Next::Adopter(node) => {
                node.ties().cut();
                node.out().put(outcome);
                Some(node)
            }
        }
    }
    pub(super) fn next_node(&self) -> Option<Rc<dyn Node>> {
        let next = self.next.take();
        let node: Option<Rc<dyn Node>> = match &next {
            Next::Nobody => None,
            Next::Link(link) => Some(link.clone()),
            Next::Adopter(node) => Some(node.clone()),
        };
        self.next.set(next);
        node
    }
}
impl<T> Drop for Out<T> {
    fn drop(&mut self) {
        // What is dropped may panic, and this may be in the middle of a chain.
        match self.outcome.take() {
            None => {}
            Some(Err(failure)) => {
                unhandled::<T>(&failure);
                drop_quietly(failure);
            }
            Some(Ok(value)) if std::mem::needs_drop::<T>() => drop_quietly(value),
            Some(Ok(_)) => {}
        }
    }
}

/// A failure goes with the Deferred that held it.
#[cold]
pub(super) fn unhandled<T>(failure: &Failure) {
    report_unobserved(format_args!("unhandled failure in a Deferred<{}>", std::any::type_name::<T>()), failure);
}

/// Runs a chain to where it waits or ends.
#[inline]
pub(super) fn run(mut next: Option<Rc<dyn Node>>) {
    while let Some(node) = next {
        next = node.run();
    }
}

thread_local! {
    static NESTING: Cell<bool> = const { Cell::new(false) };
    static NESTED: RefCell<VecDeque<Rc<dyn Node>>> = const { RefCell::new(VecDeque::new()) };
}
/// Runs a chain in the middle of another one. It may come here again: the callbacks of a dropped promise are dropped,
/// and own further promises, and so on to any depth. What comes meanwhile waits here for the first to be done.
pub(super) fn run_nested(node: Rc<dyn Node>) {
    struct Done;
    impl Drop for Done {
        fn drop(&mut self) {
            NESTING.set(false);
        }
    }
    if NESTING.get() {
        let mut node = Some(node);
        // The queue is gone at the very end of the thread.
        let _ = NESTED.try_with(|queue| queue.borrow_mut().extend(node.take()));
        return run(node);
    }
    NESTING.set(true);
    let _done = Done;
    let mut next = Some(node);
    while let Some(node) = next {
        run(Some(node));
        next = NESTED.try_with(|queue| queue.borrow_mut().pop_front()).ok().flatten();
    }
}

/// Cancels what the node waits for in the end.
pub(super) fn cancel(mut node: Rc<dyn Node>) {
    while let Some(up) = node.ties().up() {
        node = up;
    }
    node.cancel();
}
/// Stops a chain where its outcome is now.
pub(super) fn pause(mut node: Rc<dyn Node>) -> Rc<dyn Node> {
    // The callbacks of a chain that was returned go on, to its end.
    loop {
        let relation = node.ties().relation.get();
        match node.ties().up() {
            Some(up) if relation != Relation::Adopter => node = up,
            _ => break,
        }
        if relation == Relation::Outer {
            break;
        }
    }
    let busy = &node.ties().busy;
    busy.set(busy.get() + 2);
    node
}
/// Takes back one `pause`.
pub(super) fn resume(node: Rc<dyn Node>) {
    let ties = node.ties();
    ties.busy.set(ties.busy.get().saturating_sub(2));
    if !ties.is_paused() {
        run(Some(node));
    }
}

fn same(a: &Rc<dyn Node>, b: &Rc<dyn Node>) -> bool {
    Rc::as_ptr(a).cast::<()>() == Rc::as_ptr(b).cast::<()>()
}
/// Whether `inner` waits for `node`. Looks from both ends at once: one of the two ways is short in any sane program.
fn waits_for(inner: &Rc<dyn Node>, node: &Rc<dyn Node>) -> bool {
    if same(inner, node) {
        return true;
    }
    let (mut up, mut down) = (inner.clone(), node.clone());
    loop {
        match up.ties().up() {
            Some(found) if same(&found, node) => return true,
            Some(further) => up = further,
            None => return false,
        }
        match down.next_node() {
            Some(found) if same(&found, inner) => return true,
            Some(further) => down = further,
            None => return false,
        }
    }
}

/// Gives a node its outcome: at once, or when the Deferred has it.
#[inline]
pub(super) fn settle<T: 'static>(node: Rc<impl Source<T> + 'static>, deferred: Deferred<T>) -> Option<Rc<dyn Node>> {
    match deferred.into_state() {
        Ok(outcome) => {
            node.out().put(outcome);
            Some(node)
        }
        Err(inner) => adopt(node, inner),
    }
}
/// Makes the end of another chain what `node`, or rather who waits for it, waits for.
#[inline(never)]
fn adopt<T: 'static>(node: Rc<dyn Source<T>>, inner: Rc<dyn Source<T>>) -> Option<Rc<dyn Node>> {
    let out = node.out();
    let (this, that): (Rc<dyn Node>, Rc<dyn Node>) = (node.clone(), inner.clone());
    if waits_for(&that, &this) {
        out.put(Err(WaitsForItself.into()));
        return Some(node);
    }
    let end = Rc::downgrade(&that);
    // Who waits for this node waits for the inner chain from now on, and this node is done: a callback that returns a
    // Deferred whose callback returns a Deferred, and so on for ever, takes no more memory than one.
    let next = if out.ties.is_paused() { Next::Nobody } else { out.next.take() };
    match next {
        Next::Nobody => {
            out.ties.wait_for(end, Relation::Adopter);
            inner.out().set_next(Next::Adopter(node));
        }
        Next::Link(link) => {
            // The cancellers of this chain stay with it; of a chain that was returned itself, until its end.
            let keeper = if link.ties().relation.get() == Relation::Next { link.clone() } else { that };
            link.ties().wait_for(end, Relation::Outer);
            if let Some(marks) = out.ties.take_marks() {
                add_marks(&keeper, marks);
            }
            inner.out().set_next(Next::Link(link));
        }
        Next::Adopter(adopter) => {
            adopter.ties().wait_for(end, Relation::Adopter);
            if let Some(marks) = out.ties.take_marks() {
                add_marks(&that, marks);
            }
            inner.out().set_next(Next::Adopter(adopter));
        }
    }
    None
}
