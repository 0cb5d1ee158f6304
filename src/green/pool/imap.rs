//! `imap`: a function over an iterator, several calls at a time, results in order.
//!
//! One green thread, the producer, takes from the input and spawns the calls; their handles wait in order in the `Flow`, which
//! holds no more of them than the pool has places. What must never happen here: a producer that outlives whom it
//! produces for.
use super::{GreenPool, catch_panic};
use crate::deferred::IntoDeferred;
use crate::error::Killed;
use crate::failure::{Failure, Result};
use crate::green::green_thread::{GreenThread, spawn};
use crate::green::sleep::infallible;
use crate::green::task::Waiters;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

/// Results of [`GreenPool::imap`], in the order of its input (Eventlet's `GreenMap`).
///
/// Dropping it kills the calls that run for it and drops the input.
///
/// # Errors
/// Each item is the outcome of its own call: what it failed with, or its panic. An input that panicked gives that as the last
/// item. Where the wait itself cannot go on ([`Deadlock`](crate::error::Deadlock) on MAIN,
/// [`ReactorError::Stopped`](crate::error::ReactorError::Stopped)) that is the last item.
///
/// # Blocking
/// `next` waits until the result is there. A deadline that passes meanwhile loses nothing: the next `next` waits for the same
/// result.
#[must_use = "dropping it kills the calls that it runs"]
pub struct Imap<T: 'static> {
    flow: Rc<Flow<T>>,
    producer: GreenThread<()>,
    /// Whose result is next.
    front: Option<GreenThread<T>>,
}

/// What lies between the producer and who takes the results.
struct Flow<T: 'static> {
    calls: RefCell<VecDeque<Call<T>>>,
    /// Nothing more comes.
    ended: Cell<bool>,
    /// The producer, where there are enough.
    room: Waiters,
    /// Who takes, where there are none.
    next: Waiters,
}
enum Call<T: 'static> {
    Made(GreenThread<T>),
    /// The input could not go on.
    Failed(Failure),
}

impl<T: 'static> Call<T> {
    fn kill(self) {
        if let Call::Made(call) = self {
            call.kill();
        }
    }
}

impl<T: 'static> Flow<T> {
    fn push(&self, call: Call<T>) {
        if self.ended.get() {
            // Whoever wanted it left while the producer was on its way to this.
            return call.kill();
        }
        self.calls.borrow_mut().push_back(call);
        self.next.wake_one();
    }
    fn pop(&self) -> Option<Call<T>> {
        let call = self.calls.borrow_mut().pop_front();
        self.room.wake_one();
        call
    }
    fn end(&self) {
        self.ended.set(true);
        self.next.wake_all();
    }
    #[track_caller]
    fn wait_for_room(&self, places: usize) {
        while self.calls.borrow().len() >= places.max(1) {
            infallible(self.room.wait("somebody to take the results of an imap", None));
        }
    }
}

/// Tells who takes the results of the end, also of one that was not the input's.
struct Ending<T: 'static>(Rc<Flow<T>>);
impl<T: 'static> Drop for Ending<T> {
    fn drop(&mut self) {
        if !self.0.ended.get() {
            self.0.push(Call::Failed(Killed.into()));
        }
        self.0.end();
    }
}

impl<T: 'static> Imap<T> {
    #[track_caller]
    pub(super) fn start<A: 'static, R: IntoDeferred<Value = T> + 'static>(
        pool: &GreenPool,
        f: impl Fn(A) -> R + 'static,
        mut input: impl Iterator<Item = A> + 'static,
    ) -> Self {
        let flow = Rc::new(Flow {
            calls: RefCell::default(),
            ended: Cell::new(false),
            room: Waiters::default(),
            next: Waiters::default(),
        });
        let f = Rc::new(f);
        // One that is inside waits for the results: then the calls must get on without a place.
        let from_inside = pool.0.has_caller();
        let (pool, filled) = (pool.clone(), Rc::clone(&flow));
        let producer = spawn(move || {
            let _inside = from_inside.then(|| pool.0.admit());
            let ending = Ending(filled);
            let flow = &*ending.0;
            let done = catch_panic(move || {
                flow.wait_for_room(pool.size());
                while !flow.ended.get()
                    && let Some(item) = input.next()
                {
                    let f = Rc::clone(&f);
                    flow.push(Call::Made(pool.spawn(move || f(item))));
                    flow.wait_for_room(pool.size());
                }
                drop((input, f));
            });
            if let Err(failure) = done {
                flow.push(Call::Failed(failure));
            }
            flow.ended.set(true);
        });
        producer.set_name("the producer of an imap");
        Imap { flow, producer, front: None }
    }

    /// Nobody wants the rest.
    fn abandon(&mut self) {
        self.producer.kill();
        let calls = std::mem::take(&mut *self.flow.calls.borrow_mut());
        self.flow.ended.set(true);
        for call in self.front.take().map(Call::Made).into_iter().chain(calls) {
            call.kill();
        }
    }
    #[cold]
    fn give_up(&mut self, failure: Failure) -> Option<Result<T>> {
        self.abandon();
        Some(Err(failure))
    }
}

impl<T: 'static> Iterator for Imap<T> {
    type Item = Result<T>;

    #[track_caller]
    fn next(&mut self) -> Option<Result<T>> {
        loop {
            if let Some(call) = &self.front {
                // Not `wait`, which would take it along if this wait is unwound.
                if let Err(failure) = call.wait_for_end() {
                    return self.give_up(failure);
                }
                return self.front.take().map(GreenThread::wait);
            }
            match self.flow.pop() {
                Some(Call::Made(call)) => self.front = Some(call),
                Some(Call::Failed(failure)) => return Some(Err(failure)),
                None if self.flow.ended.get() => return None,
                None => {
                    if let Err(failure) = self.flow.next.wait("the next result of an imap", None) {
                        return self.give_up(failure);
                    }
                }
            }
        }
    }
}
impl<T: 'static> std::iter::FusedIterator for Imap<T> {}
impl<T: 'static> Drop for Imap<T> {
    fn drop(&mut self) {
        self.abandon();
    }
}
impl<T: 'static> fmt::Debug for Imap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap")
            .field("calls", &self.flow.calls.borrow().len())
            .field("ended", &self.flow.ended.get())
            .finish_non_exhaustive()
    }
}

/// A function that [`GreenPool::starmap`] calls with what is in a tuple.
pub trait Star<Arguments> {
    /// What the function returns.
    type Output;
    /// Calls it.
    fn apply(&self, arguments: Arguments) -> Self::Output;
}
macro_rules! stars {
    ($(($($name:ident)+))+) => { $(
        impl<F: Fn($($name),+) -> R, R, $($name),+> Star<($($name,)+)> for F {
            type Output = R;
            #[allow(non_snake_case, reason = "arguments are named as their types")]
            fn apply(&self, ($($name,)+): ($($name,)+)) -> R {
                self($($name),+)
            }
        }
    )+ };
}
stars! { (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E G) }
