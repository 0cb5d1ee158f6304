//! Several Deferreds as one, and one as two.
//!
//! Inputs are consumed: what becomes of their outcomes is said here and nowhere else.
use super::chain::{self, Node};
use super::{Deferred, Promise};
use crate::error::{AllFailed, FirstError};
use crate::failure::{Failure, Result};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

/// Inputs that have not fired, for cancelling them. Weak: a chain belongs to its promise.
#[derive(Default)]
struct Inputs(RefCell<Vec<Weak<dyn Node>>>);
impl Inputs {
    fn add(&self, input: Option<Rc<dyn Node>>) {
        if let Some(input) = input {
            self.0.borrow_mut().push(Rc::downgrade(&input));
        }
    }
    fn cancel(&self) {
        let inputs = self.0.take();
        for input in inputs {
            if let Some(node) = input.upgrade() {
                chain::cancel(node);
            }
        }
    }
}

/// What all inputs of a `list` or `gather_results` write to.
struct Gathering<T, V: 'static> {
    slots: RefCell<Vec<Option<T>>>,
    missing: Cell<usize>,
    promise: Cell<Option<Promise<V>>>,
}
impl<T, V> Gathering<T, V> {
    fn new(size: usize, promise: Promise<V>) -> Rc<Self> {
        let slots = RefCell::new((0..size).map(|_| None).collect());
        Rc::new(Self { slots, missing: Cell::new(size), promise: Cell::new(Some(promise)) })
    }
    /// Gives everything when the last is in.
    fn put(&self, index: usize, item: T) -> Option<Vec<T>> {
        if let Some(slot) = self.slots.borrow_mut().get_mut(index) {
            *slot = Some(item);
        }
        self.missing.set(self.missing.get() - 1);
        if self.missing.get() == 0 { Some(self.slots.take().into_iter().flatten().collect()) } else { None }
    }
    fn finish(&self, outcome: Result<V>) -> Option<Rc<dyn Node>> {
        self.promise.take()?.put(outcome)
    }
}

/// All values in input order, or the first failure (Twisted's `gatherResults`, whose `FirstError` is not wrapped here).
///
/// After a failure the others go on; what they give is dropped. Cancelling cancels every input.
///
/// ```
/// use twistlet::{Deferred, deferred::gather_results};
/// let (promise, slow) = Deferred::new();
/// let mut both = gather_results([slow, Deferred::succeed(2)]);
/// promise.callback(1);
/// assert_eq!(both.result(), Some(Ok(&vec![1, 2])));
/// ```
pub fn gather_results<T: 'static>(inputs: impl IntoIterator<Item = Deferred<T>>) -> Deferred<Vec<T>> {
    collect(inputs, |gathering, index, outcome| match outcome {
        Ok(value) => all_in(gathering, index, value),
        Err(failure) => give_up(gathering, failure),
    })
}
fn all_in<T>(gathering: &Gathering<T, Vec<T>>, index: usize, value: T) -> Option<Rc<dyn Node>> {
    let all = gathering.put(index, value)?;
    gathering.finish(Ok(all))
}
fn give_up<T>(gathering: &Gathering<T, Vec<T>>, failure: Failure) -> Option<Rc<dyn Node>> {
    let next = gathering.finish(Err(failure));
    let dropped = gathering.slots.take();
    drop(dropped);
    next
}

/// Every outcome in input order; never fails (Twisted's `DeferredList`, with `consumeErrors`).
///
/// Cancelling cancels every input; the list then has what they made of it.
pub fn list<T: 'static>(inputs: impl IntoIterator<Item = Deferred<T>>) -> Deferred<Vec<Result<T>>> {
    collect(inputs, |gathering, index, outcome| {
        let all = gathering.put(index, outcome)?;
        gathering.finish(Ok(all))
    })
}

/// Puts one outcome where it belongs; says which chain to go on with.
type Arrived<T, S> = fn(&Gathering<S, Vec<S>>, usize, Result<T>) -> Option<Rc<dyn Node>>;

fn collect<T: 'static, S: 'static>(
    inputs: impl IntoIterator<Item = Deferred<T>>,
    arrived: Arrived<T, S>,
) -> Deferred<Vec<S>> {
    // All of them first: the iterator is user code, and some may have fired.
    let inputs: Vec<_> = inputs.into_iter().collect();
    let (promise, deferred) = Deferred::new();
    if inputs.is_empty() {
        promise.callback(Vec::new());
        return deferred;
    }
    let pending = Rc::new(Inputs::default());
    let waiting = pending.clone();
    promise.on_cancel(move || waiting.cancel());
    let gathering = Gathering::new(inputs.len(), promise);
    for (index, input) in inputs.into_iter().enumerate() {
        let gathering = gathering.clone();
        pending.add(input.sink(move |outcome| arrived(&gathering, index, outcome)));
    }
    deferred
}

/// All values in input order, or [`FirstError`] with the number of the input that failed first (Twisted's `DeferredList` with
/// `fireOnOneErrback`). Otherwise as [`gather_results`].
///
/// ```
/// use twistlet::error::FirstError;
/// use twistlet::{Deferred, Failure, deferred::all_or_first_error};
/// let (_promise, slow) = Deferred::<u32>::new();
/// let mut both = all_or_first_error([slow, Deferred::fail(Failure::msg("no"))]);
/// let Some(Err(failure)) = both.result() else { panic!("the second has failed") };
/// assert_eq!(failure.check::<FirstError>().map(|first| first.index), Some(1));
/// ```
pub fn all_or_first_error<T: 'static>(inputs: impl IntoIterator<Item = Deferred<T>>) -> Deferred<Vec<T>> {
    collect(inputs, |gathering, index, outcome| match outcome {
        Ok(value) => all_in(gathering, index, value),
        Err(failure) => give_up(gathering, FirstError { index, failure }.into()),
    })
}

/// The first outcome, success or failure, with the number of its input; the others go on, and what they give is dropped
/// (Twisted's `DeferredList` with both `fireOnOneCallback` and `fireOnOneErrback`). Never fails by itself.
///
/// Cancelling cancels every input. The first of nobody fails at once with [`AllFailed`]; in Twisted it never fires.
///
/// ```
/// use twistlet::{Deferred, Failure, deferred::first_completed};
/// let (_promise, slow) = Deferred::<u32>::new();
/// let mut first = first_completed([slow, Deferred::fail(Failure::msg("no"))]);
/// assert!(matches!(first.result(), Some(Ok((1, Err(_))))));
/// ```
pub fn first_completed<T: 'static>(inputs: impl IntoIterator<Item = Deferred<T>>) -> Deferred<(usize, Result<T>)> {
    let inputs = inputs.into_iter().map(|input| input.add_both(Ok));
    compete(inputs, false)
}

/// The first success with the number of its input; the others go on, and what they give is dropped (Twisted's `DeferredList`
/// with `fireOnOneCallback`). [`race`] cancels them.
///
/// If all fail, [`AllFailed`] has their failures in input order. Cancelling cancels every input. The first of nobody fails at
/// once; in Twisted it never fires.
///
/// ```
/// use twistlet::{Deferred, Failure, deferred::first_success};
/// let mut first = first_success([Deferred::fail(Failure::msg("no")), Deferred::succeed(7)]);
/// assert_eq!(first.result(), Some(Ok(&(1, 7))));
/// ```
pub fn first_success<T: 'static>(inputs: impl IntoIterator<Item = Deferred<T>>) -> Deferred<(usize, T)> {
    compete(inputs, false)
}

/// The first success with its index; the others are cancelled, before it is delivered (Twisted's `race`).
///
/// If all fail, [`AllFailed`] has their failures in input order; so has a race that was cancelled, which cancels every
/// input. A race of nobody fails at once.
///
/// ```
/// use twistlet::{Deferred, deferred::race};
/// let (loser, slow) = Deferred::<u32>::new();
/// let mut winner = race([slow, Deferred::succeed(7)]);
/// assert_eq!(winner.result(), Some(Ok(&(1, 7))));
/// assert!(loser.is_cancelled());
/// ```
pub fn race<T: 'static>(inputs: impl IntoIterator<Item = Deferred<T>>) -> Deferred<(usize, T)> {
    compete(inputs, true)
}

struct Competition<T: 'static> {
    promise: Cell<Option<Promise<(usize, T)>>>,
    inputs: Rc<Inputs>,
    /// What the losers have failed with so far.
    failures: RefCell<Vec<Option<Failure>>>,
    running: Cell<usize>,
    /// Losers are cancelled, rather than left alone.
    cancels: bool,
}

fn compete<T: 'static>(inputs: impl IntoIterator<Item = Deferred<T>>, cancels: bool) -> Deferred<(usize, T)> {
    // All of them first: the iterator is user code, and some may have fired.
    let inputs: Vec<_> = inputs.into_iter().collect();
    if inputs.is_empty() {
        return Deferred::fail(AllFailed { failures: Vec::new() });
    }
    let (promise, deferred) = Deferred::new();
    let pending = Rc::new(Inputs::default());
    let waiting = pending.clone();
    promise.on_cancel(move || waiting.cancel());
    let competition = Rc::new(Competition {
        promise: Cell::new(Some(promise)),
        inputs: pending,
        failures: RefCell::new(inputs.iter().map(|_| None).collect()),
        running: Cell::new(inputs.len()),
        cancels,
    });
    for (index, input) in inputs.into_iter().enumerate() {
        let judge = competition.clone();
        let place = input.sink(move |outcome| judge.arrived(index, outcome));
        competition.inputs.add(place);
        if cancels && competition.is_over() {
            // Somebody won before the others were at the start.
            competition.inputs.cancel();
        }
    }
    deferred
}
impl<T> Competition<T> {
    fn is_over(&self) -> bool {
        let promise = self.promise.take();
        let over = promise.is_none();
        self.promise.set(promise);
        over
    }
    fn arrived(&self, index: usize, outcome: Result<T>) -> Option<Rc<dyn Node>> {
        match outcome {
            Ok(value) => {
                let promise = self.promise.take()?;
                if self.cancels {
                    self.inputs.cancel();
                }
                promise.put(Ok((index, value)))
            }
            Err(failure) => {
                if let Some(slot) = self.failures.borrow_mut().get_mut(index) {
                    *slot = Some(failure);
                }
                self.running.set(self.running.get() - 1);
                if self.running.get() > 0 {
                    return None;
                }
                let failures = self.failures.take().into_iter().flatten().collect();
                self.promise.take()?.put(Err(AllFailed { failures }.into()))
            }
        }
    }
}

/// See [`Deferred::fork`].
pub(super) fn fork<T: Clone + 'static>(deferred: Deferred<T>) -> (Deferred<T>, Deferred<T>) {
    let node = match deferred.into_state() {
        Ok(outcome) => return (Deferred::ready(outcome.clone()), Deferred::ready(outcome)),
        Err(node) => node,
    };
    let deferred = Deferred::pending(node);
    let (first, left) = Deferred::new();
    let (second, right) = Deferred::new();
    let source = Rc::new(Inputs::default());
    let owners = Rc::new(Cell::new(2));
    for promise in [&first, &second] {
        let (source, owners) = (source.clone(), owners.clone());
        promise.on_cancel(move || {
            owners.set(owners.get() - 1);
            if owners.get() == 0 {
                source.cancel();
            }
        });
    }
    source.add(deferred.sink(move |outcome| {
        if second.is_cancelled() {
            return first.put(outcome);
        }
        if let Some(node) = first.put(outcome.clone()) {
            chain::run_nested(node);
        }
        second.put(outcome)
    }));
    (left, right)
}
