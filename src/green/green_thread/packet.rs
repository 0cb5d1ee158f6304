//! What passes between a green thread and the holder of its handle.
//!
//! The handle is one, so is whoever waits. What must never happen here: user code (a link, a value's destructor) run while a
//! cell is borrowed.
use super::builder::Outcome;
use super::info::GreenState;
use crate::deferred::Promise;
use crate::error::Killed;
use crate::failure::{self, Failure, Result};
use crate::green::proc::{LinkId, LinkedExited};
use crate::green::task::{Outlet, Task, Waiter};
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

pub(super) type Link<T> = Box<dyn FnOnce(Result<&T, &Failure>)>;

/// Who is to be told of the end.
enum Told<T: 'static> {
    /// With the outcome.
    Link(Link<T>),
    /// That it has come.
    Waiter(Waiter),
}
struct Links<T: 'static> {
    made: u64,
    told: VecDeque<(LinkId, Told<T>)>,
}
impl<T> Default for Links<T> {
    fn default() -> Self {
        Links { made: 0, told: VecDeque::new() }
    }
}

/// One byte of it: a packet of a small value fits into what the allocator hands out fastest.
#[derive(Clone, Copy)]
enum End {
    Finished,
    Failed,
    Killed,
}

pub(super) struct Packet<T: 'static> {
    outcome: Cell<Option<Result<T>>>,
    /// How it ended, once the outcome is there, or was.
    ended: Cell<Option<End>>,
    waiter: Cell<Option<Waiter>>,
    /// Most have none: that takes one word.
    links: Cell<Option<Box<Links<T>>>>,
    showing: Cell<bool>,
    promise: Cell<Option<Promise<T>>>,
    /// Somebody has seen a failure.
    observed: Cell<bool>,
    task: Rc<Task>,
}

impl<T: 'static> Packet<T> {
    pub(super) fn new(task: Rc<Task>) -> Rc<Packet<T>> {
        task.hold();
        Rc::new(Packet {
            outcome: Cell::new(None),
            ended: Cell::new(None),
            waiter: Cell::new(None),
            links: Cell::new(None),
            showing: Cell::new(false),
            promise: Cell::new(None),
            observed: Cell::new(false),
            task,
        })
    }
    #[inline]
    pub(super) fn task(&self) -> &Rc<Task> {
        &self.task
    }
    /// The outcome, for whom it is shown to nobody else any more.
    #[inline]
    pub(super) fn take(&self) -> Option<Result<T>> {
        self.outcome.take()
    }
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get().is_some()
    }
    pub(super) fn state(&self) -> GreenState {
        match self.ended.get() {
            None => GreenState::of(&self.task),
            Some(End::Finished) => GreenState::Finished,
            Some(End::Failed) => GreenState::Failed,
            Some(End::Killed) => GreenState::Killed,
        }
    }
    pub(super) fn set_waiter(&self, waiter: Waiter) {
        let old = self.waiter.replace(Some(waiter));
        drop(old);
    }
    pub(super) fn set_promise(&self, promise: Promise<T>) {
        let old = self.promise.replace(Some(promise));
        drop(old);
    }
    pub(super) fn link(&self, link: Link<T>) -> LinkId {
        self.tell(Told::Link(link))
    }
    /// Wakes `waiter` when the outcome is there; that is not seeing it.
    pub(super) fn tell_waiter(&self, waiter: Waiter) -> LinkId {
        self.tell(Told::Waiter(waiter))
    }
    fn tell(&self, told: Told<T>) -> LinkId {
        let mut links = self.links.take().unwrap_or_default();
        links.made += 1;
        let id = LinkId(links.made);
        links.told.push_back((id, told));
        self.links.set(Some(links));
        if self.has_ended() {
            self.show();
        }
        id
    }
    pub(super) fn unlink(&self, id: LinkId) -> bool {
        let Some(mut links) = self.links.take() else { return false };
        let place = links.told.iter().position(|(other, _)| *other == id);
        let removed = place.and_then(|place| links.told.remove(place));
        self.links.set(Some(links));
        removed.is_some()
    }
    /// Shows the outcome to the links, first come first served; those that are linked meanwhile too, without recursion.
    #[inline]
    fn show(&self) {
        if let Some(links) = self.links.take() {
            self.links.set(Some(links));
            self.show_each();
        }
    }
    #[cold]
    fn show_each(&self) {
        if self.showing.replace(true) {
            return;
        }
        loop {
            let Some(mut links) = self.links.take() else { break };
            let told = links.told.pop_front();
            // Kept also when it is empty: a number is given once.
            self.links.set(Some(links));
            let link = match told {
                Some((_, Told::Link(link))) => link,
                Some((_, Told::Waiter(waiter))) => {
                    waiter.wake();
                    continue;
                }
                None => break,
            };
            // Out of its cell while it is shown: nobody can take it from under the link.
            let Some(outcome) = self.outcome.take() else { break };
            if outcome.is_err() {
                self.observed.set(true);
            }
            let shown = failure::catch(|| link(outcome.as_ref()));
            self.outcome.set(Some(outcome));
            if let Err(failure) = shown {
                failure::report(format_args!("a link of {}", self.task.name()), &failure);
                failure::drop_quietly(failure);
            }
        }
        self.showing.set(false);
    }
}

impl<T: 'static> Outcome<T> for Packet<T> {
    /// Links, then the Deferred, then whoever waits.
    fn publish(&self, outcome: Result<T>) {
        let how = match &outcome {
            Ok(_) => End::Finished,
            Err(failure) if failure.is::<Killed>() || failure.is::<LinkedExited>() => End::Killed,
            Err(_) => End::Failed,
        };
        self.outcome.set(Some(outcome));
        self.ended.set(Some(how));
        self.show();
        if let Some(promise) = self.promise.take() {
            match self.outcome.take() {
                Some(Ok(value)) => promise.callback(value),
                Some(Err(failure)) => promise.errback(failure),
                None => drop(promise),
            }
        }
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }
}

impl<T: 'static> Outlet for Packet<T> {
    fn ended_by(&self, failure: Failure) {
        self.publish(Err(failure));
    }
}

impl<T: 'static> Drop for Packet<T> {
    fn drop(&mut self) {
        if let Some(Err(failure)) = self.outcome.get_mut()
            && !self.observed.get()
        {
            self.task.report_unobserved(failure);
        }
        self.task.let_go();
    }
}
