//! What a `Select` can wait for: a line of waiters, something that is there, something that was handed over.
use crate::failure::Result;
use crate::green::event::{Event, Round};
use crate::green::queue::{LifoQueue, LightQueue, PriorityQueue, Queue};
use crate::green::semaphore::{BoundedSemaphore, CappedSemaphore, Permit, Semaphore};
use crate::green::task::Waiter;
use crate::green::{Channel, GreenThread, LinkId, broadcast, watch};
use std::rc::Rc;

/// What [`Select::on`](super::Select::on) can wait for, and what it gives:
///
/// | source | output |
/// |---|---|
/// | [`Queue`], [`Channel`] | `Result<T>`: the item or failure, taken out |
/// | [`LightQueue`], [`PriorityQueue`], [`LifoQueue`] | the item, taken out |
/// | [`Event`] | `Result<T>`: a clone of the outcome |
/// | [`Semaphore`], [`BoundedSemaphore`] | the [`Permit`] |
/// | [`CappedSemaphore`] | nothing: the permit is taken |
/// | [`GreenThread`] | nothing: it has ended, and `wait` gives its outcome at once |
/// | [`broadcast::Receiver`] | `Result<T>`: the next value |
/// | [`watch::Receiver`] | `Result<Rc<T>>`: the value that changed |
pub trait Source: sealed::Source {}
impl<S: sealed::Source> Source for S {}

mod sealed {
    use super::*;

    pub trait Source {
        /// What is taken.
        type Output;
        /// What a waiter in line stands in.
        #[doc(hidden)]
        type Place;
        /// Takes what is there.
        #[doc(hidden)]
        fn take_now(&self) -> Option<Self::Output>;
        #[doc(hidden)]
        fn enter(&self, waiter: Waiter) -> Self::Place;
        #[doc(hidden)]
        fn leave(&self, place: &Self::Place, waiter: &Waiter);
        /// Takes what a waiter was woken for.
        #[doc(hidden)]
        fn take_handed(&self, place: Self::Place) -> Option<Self::Output>;
    }
    macro_rules! in_line {
        ($line:ident) => {
            type Place = ();
            fn enter(&self, waiter: Waiter) {
                self.$line().push(waiter);
            }
            fn leave(&self, (): &(), waiter: &Waiter) {
                self.$line().remove(waiter);
            }
        };
    }
    macro_rules! queue {
        ($queue:ident, $output:ty $(, $ord:ident)?) => {
            impl<T: 'static $(+ $ord)?> Source for $queue<T> {
                type Output = $output;
                type Place = ();
                fn take_now(&self) -> Option<$output> {
                    self.0.take()
                }
                fn enter(&self, waiter: Waiter) {
                    self.0.getters().push(waiter);
                }
                fn leave(&self, (): &(), waiter: &Waiter) {
                    self.0.getters().remove(waiter);
                }
                fn take_handed(&self, (): ()) -> Option<$output> {
                    self.0.claim()
                }
            }
        };
    }
    queue!(Queue, Result<T>);
    queue!(Channel, Result<T>);
    queue!(LightQueue, T);
    queue!(LifoQueue, T);
    queue!(PriorityQueue, T, Ord);
    impl Source for Semaphore {
        type Output = Permit;
        in_line!(waiters);
        fn take_now(&self) -> Option<Permit> {
            self.try_acquire()
        }
        fn take_handed(&self, (): ()) -> Option<Permit> {
            Some(self.permit())
        }
    }
    impl Source for BoundedSemaphore {
        type Output = Permit;
        type Place = ();
        fn take_now(&self) -> Option<Permit> {
            self.try_acquire()
        }
        fn enter(&self, waiter: Waiter) {
            self.semaphore().enter(waiter);
        }
        fn leave(&self, (): &(), waiter: &Waiter) {
            self.semaphore().leave(&(), waiter);
        }
        fn take_handed(&self, (): ()) -> Option<Permit> {
            self.semaphore().take_handed(())
        }
    }
    impl Source for CappedSemaphore {
        type Output = ();
        in_line!(acquirers);
        fn take_now(&self) -> Option<()> {
            self.try_acquire().then_some(())
        }
        fn take_handed(&self, (): ()) -> Option<()> {
            Some(())
        }
    }
    impl<T: 'static> Source for GreenThread<T> {
        type Output = ();
        type Place = LinkId;
        fn take_now(&self) -> Option<()> {
            self.is_finished().then_some(())
        }
        fn enter(&self, waiter: Waiter) -> LinkId {
            self.tell_end(waiter)
        }
        fn leave(&self, place: &LinkId, _: &Waiter) {
            self.unlink(*place);
        }
        fn take_handed(&self, _: LinkId) -> Option<()> {
            Some(())
        }
    }
    impl<T: Clone + 'static> Source for broadcast::Receiver<T> {
        type Output = Result<T>;
        in_line!(waiters);
        fn take_now(&self) -> Option<Result<T>> {
            self.try_recv()
        }
        fn take_handed(&self, (): ()) -> Option<Result<T>> {
            self.try_recv()
        }
    }
    impl<T: 'static> Source for watch::Receiver<T> {
        type Output = Result<Rc<T>>;
        in_line!(waiters);
        fn take_now(&self) -> Option<Result<Rc<T>>> {
            self.try_changed()
        }
        fn take_handed(&self, (): ()) -> Option<Result<Rc<T>>> {
            self.try_changed()
        }
    }
    impl<T: Clone + 'static> Source for Event<T> {
        type Output = Result<T>;
        /// The round it waits in, whose outcome it gets also when the event has been reset meanwhile.
        type Place = Rc<Round<T>>;
        fn take_now(&self) -> Option<Result<T>> {
            self.poll()
        }
        fn enter(&self, waiter: Waiter) -> Rc<Round<T>> {
            let round = self.round();
            round.waiters().push(waiter);
            round
        }
        fn leave(&self, round: &Rc<Round<T>>, waiter: &Waiter) {
            round.waiters().remove(waiter);
        }
        fn take_handed(&self, round: Rc<Round<T>>) -> Option<Result<T>> {
            round.outcome()
        }
    }
}
