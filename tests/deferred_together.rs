//! Several Deferreds: lists, races, queues, locks.
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use twistlet::deferred::{
    DeferredLock, DeferredQueue, DeferredSemaphore, all_or_first_error, first_completed, first_success, gather_results,
    list, race,
};
use twistlet::error::{AllFailed, FirstError, QueueError};
use twistlet::failure::on_unobserved_failure;
use twistlet::{Cancelled, Deferred, Failure, Promise, Result};

fn some(n: usize) -> (Vec<Option<Promise<u32>>>, Vec<Deferred<u32>>) {
    let (mut promises, mut deferreds) = (Vec::new(), Vec::new());
    for _ in 0..n {
        let (promise, deferred) = Deferred::new();
        promises.push(Some(promise));
        deferreds.push(deferred);
    }
    (promises, deferreds)
}
fn fire(promises: &mut [Option<Promise<u32>>], index: usize, outcome: Result<u32>) {
    promises[index].take().unwrap().resolve(outcome);
}
fn cancelled(promise: &Option<Promise<u32>>) -> bool {
    promise.as_ref().unwrap().is_cancelled()
}
fn unobserved() -> Rc<Cell<u32>> {
    let count = Rc::new(Cell::new(0));
    let seen = count.clone();
    on_unobserved_failure(move |_, _| seen.set(seen.get() + 1));
    count
}

#[test]
fn a_list_has_every_outcome_in_input_order() {
    // D45, D48
    let reports = unobserved();
    let (mut promises, deferreds) = some(3);
    let mut all = list(deferreds);
    fire(&mut promises, 2, Ok(3));
    fire(&mut promises, 1, Err(Failure::msg("two")));
    assert!(all.result().is_none());
    fire(&mut promises, 0, Ok(1));
    let outcomes = all.try_take().unwrap().unwrap();
    assert_eq!((&outcomes[0], &outcomes[2]), (&Ok(1), &Ok(3)));
    assert_eq!(outcomes[1].as_ref().unwrap_err().to_string(), "two");
    drop(outcomes);
    assert_eq!(reports.get(), 0);
}

#[test]
fn a_list_of_fired_ones_or_of_none_is_fired() {
    // DX15, DEF-56
    let mut all = list([Deferred::succeed(1), Deferred::succeed(2)]);
    assert_eq!(all.result().unwrap().unwrap(), &[Ok(1), Ok(2)]);
    assert_eq!(list(Vec::<Deferred<u8>>::new()).try_take().unwrap(), Ok(vec![]));
    assert_eq!(gather_results(Vec::<Deferred<u8>>::new()).try_take().unwrap(), Ok(vec![]));
}

#[test]
fn gathering_fails_with_the_first_failure_and_lets_the_others_go_on() {
    // D47, DX16, DEF-59, DEF-62
    let reports = unobserved();
    let (mut promises, deferreds) = some(3);
    let all = gather_results(deferreds);
    fire(&mut promises, 1, Err(Failure::msg("first")));
    assert_eq!(all.try_take().unwrap().unwrap_err().to_string(), "first");
    assert!(!cancelled(&promises[0]));
    fire(&mut promises, 0, Ok(1));
    fire(&mut promises, 2, Err(Failure::msg("later")));
    assert_eq!(reports.get(), 0);
}

#[test]
fn gathering_gives_the_values_in_input_order() {
    let (mut promises, deferreds) = some(3);
    let all = gather_results(deferreds);
    for index in [1, 2, 0] {
        fire(&mut promises, index, Ok(index as u32));
    }
    assert_eq!(all.try_take().unwrap(), Ok(vec![0, 1, 2]));
}

#[test]
fn cancelling_a_list_cancels_every_input_even_if_one_panics() {
    // D49, DEF-61
    std::panic::set_hook(Box::new(|_| {}));
    let (promises, deferreds) = some(3);
    promises[0].as_ref().unwrap().on_cancel(|| panic!("in on_cancel"));
    let all = list(deferreds);
    all.cancel();
    let _ = std::panic::take_hook();
    assert!(promises.iter().all(cancelled));
    let outcomes = all.try_take().unwrap().unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_err_and(|failure| failure.is::<Cancelled>())));
    let (promises, deferreds) = some(2);
    let all = gather_results(deferreds);
    all.cancel();
    assert!(promises.iter().all(cancelled));
    assert!(all.try_take().unwrap().unwrap_err().is::<Cancelled>());
}

#[test]
fn cancelling_after_it_has_fired_leaves_the_inputs_alone() {
    // D50
    let (mut promises, deferreds) = some(2);
    let all = gather_results(deferreds);
    fire(&mut promises, 0, Err(Failure::msg("x")));
    all.cancel();
    assert!(!cancelled(&promises[1]));
    assert_eq!(all.try_take().unwrap().unwrap_err().to_string(), "x");
}

#[test]
fn the_first_success_wins_and_the_others_are_cancelled_before_it_is_delivered() {
    // DEF-63, DEF-64
    let (mut promises, deferreds) = some(3);
    let seen = Rc::new(Cell::new(0));
    for promise in promises.iter().flatten() {
        let seen = seen.clone();
        promise.on_cancel(move || seen.set(seen.get() + 1));
    }
    let at_delivery = Rc::new(Cell::new(0));
    let (count, delivered) = (seen.clone(), at_delivery.clone());
    let winner = race(deferreds).add_callback(move |winner| {
        delivered.set(count.get());
        Ok(winner)
    });
    fire(&mut promises, 0, Err(Failure::msg("no")));
    fire(&mut promises, 2, Ok(7));
    assert_eq!(at_delivery.get(), 1);
    assert!(cancelled(&promises[1]));
    assert_eq!(winner.try_take().unwrap(), Ok((2, 7)));
    fire(&mut promises, 1, Ok(8));
}

#[test]
fn one_that_has_fired_wins_at_once() {
    let (promises, mut deferreds) = some(2);
    deferreds.insert(1, Deferred::succeed(5));
    let winner = race(deferreds);
    assert!(promises.iter().all(cancelled));
    assert_eq!(winner.try_take().unwrap(), Ok((1, 5)));
}

#[test]
fn a_race_that_all_lose_fails_with_all_failures_in_input_order() {
    // D52
    let (mut promises, deferreds) = some(2);
    let nobody = race(deferreds);
    fire(&mut promises, 1, Err(Failure::msg("b")));
    fire(&mut promises, 0, Err(Failure::msg("a")));
    let failure = nobody.try_take().unwrap().unwrap_err();
    let all = failure.trap::<AllFailed>().unwrap();
    assert_eq!(all.failures.iter().map(Failure::to_string).collect::<Vec<_>>(), ["a", "b"]);
    // DEF-66, as it should be
    assert!(race(Vec::<Deferred<u8>>::new()).try_take().unwrap().unwrap_err().is::<AllFailed>());
}

#[test]
fn cancelling_a_race_cancels_every_input() {
    // D53, DEF-65
    let (promises, deferreds) = some(2);
    let nobody = race(deferreds);
    nobody.cancel();
    assert!(promises.iter().all(cancelled));
    let failure = nobody.try_take().unwrap().unwrap_err();
    assert_eq!(failure.trap::<AllFailed>().unwrap().failures.len(), 2);
}

#[test]
fn cancelling_reaches_an_input_that_waits_for_another_by_now() {
    let (promise, first) = Deferred::<()>::new();
    let (second, waited) = Deferred::<u32>::new();
    let all = gather_results([first.add_callback(move |()| waited)]);
    promise.callback(());
    all.cancel();
    assert!(second.is_cancelled());
    drop(all);
}

#[test]
fn a_lock_is_handed_to_the_head_waiter() {
    // D54, DEF-67
    let lock = DeferredLock::new();
    let first = lock.acquire().try_take().unwrap().unwrap();
    let mut second = lock.acquire();
    let mut third = lock.acquire();
    assert!(second.result().is_none());
    first.release();
    assert!(second.result().is_some() && third.result().is_none() && lock.is_locked());
    drop(second);
    assert!(third.result().is_some());
    drop(third);
    assert!(!lock.is_locked());
}

#[test]
fn run_holds_the_lock_until_what_it_returns_has_fired() {
    // D54, DEF-69
    let lock = DeferredLock::new();
    let (promise, work) = Deferred::<u8>::new();
    let seen = lock.clone();
    let result = lock.run(move || work).add_callback(move |n| Ok((n, seen.is_locked())));
    assert!(lock.is_locked());
    promise.callback(1);
    assert_eq!(result.try_take().unwrap(), Ok((1, false)));
    let failed = lock.run(|| -> Result { Err(Failure::msg("x")) });
    assert!(!lock.is_locked());
    assert!(failed.try_take().unwrap().is_err());
}

#[test]
fn a_cancelled_acquire_is_skipped() {
    // D55, DEF-70
    let lock = DeferredLock::new();
    let held = lock.acquire();
    let second = lock.acquire();
    let third = lock.acquire();
    let mut fourth = lock.acquire();
    second.cancel();
    drop(third);
    held.cancel();
    assert!(lock.is_locked());
    drop(held);
    assert!(second.try_take().unwrap().unwrap_err().is::<Cancelled>());
    assert!(fourth.result().is_some());
}

#[test]
fn one_permit_back_lets_one_waiter_in() {
    // D56, DEF-68
    let semaphore = DeferredSemaphore::new(2);
    let held: Vec<_> = (0..2).map(|_| semaphore.acquire().try_take().unwrap().unwrap()).collect();
    let mut waiting: Vec<_> = (0..3).map(|_| semaphore.acquire()).collect();
    let mut held = held.into_iter();
    drop(held.next());
    let fired: Vec<_> = waiting.iter_mut().map(|deferred| deferred.is_fired()).collect();
    assert_eq!(fired, [true, false, false]);
    drop((waiting, held));
    assert_eq!((semaphore.available(), semaphore.limit()), (2, 2));
}

#[test]
#[should_panic(expected = "limit must be 1 at least")]
fn a_semaphore_of_nothing_is_refused() {
    // DEF-68
    DeferredSemaphore::new(0);
}

#[test]
fn getters_and_items_meet_in_order() {
    // D57, DEF-71
    let queue = DeferredQueue::with_limits(2, 2);
    let mut getters = [queue.get(), queue.get()];
    let refused = queue.get().try_take().unwrap().unwrap_err();
    assert_eq!(*refused.trap::<QueueError>().unwrap(), QueueError::Underflow(2));
    for n in 1..=4 {
        queue.put(n).unwrap();
    }
    assert_eq!(*queue.put(5).unwrap_err().trap::<QueueError>().unwrap(), QueueError::Overflow(2));
    let [first, second] = getters.each_mut().map(|getter| *getter.result().unwrap().unwrap());
    assert_eq!((first, second, queue.len()), (1, 2, 2));
    assert_eq!(queue.get().try_take().unwrap(), Ok(3));
    let none = DeferredQueue::with_limits(0, 0);
    assert!(none.put(1).is_err() && none.get().try_take().unwrap().is_err());
    let only_handed = DeferredQueue::with_limits(0, None);
    let mut getter = only_handed.get();
    only_handed.put(1).unwrap();
    assert_eq!(getter.result(), Some(Ok(&1)));
    assert!(only_handed.put(2).is_err());
}

#[test]
fn a_getter_that_gave_up_takes_no_item() {
    // D58, DEF-72
    let reports = unobserved();
    let queue = DeferredQueue::new();
    let cancelled = queue.get();
    cancelled.cancel();
    drop(queue.get());
    queue.put(1).unwrap();
    assert_eq!(queue.len(), 1);
    assert_eq!(queue.get().try_take().unwrap(), Ok(1));
    assert!(cancelled.try_take().unwrap().unwrap_err().is::<Cancelled>());
    for _ in 0..1000 {
        queue.get().cancel();
    }
    assert!(queue.waiting() == 0 && reports.get() == 0);
}

#[test]
fn a_getter_may_put_and_get_from_its_callback() {
    let queue = DeferredQueue::new();
    let seen = Rc::new(RefCell::new(Vec::new()));
    fn next(queue: DeferredQueue<u32>, seen: Rc<RefCell<Vec<u32>>>) {
        queue.clone().get().add_callback(move |n| {
            seen.borrow_mut().push(n);
            if n < 1000 {
                queue.put(n + 1).unwrap();
                next(queue, seen);
            }
        });
    }
    next(queue.clone(), seen.clone());
    queue.put(0).unwrap();
    assert!(seen.borrow().iter().copied().eq(0..=1000));
}

#[test]
fn the_first_success_is_told_with_its_number_and_the_others_go_on() {
    // DEF-57, DEF-59: fireOnOneCallback
    let reports = unobserved();
    let (mut promises, deferreds) = some(3);
    let mut first = first_success(deferreds);
    fire(&mut promises, 0, Err(Failure::msg("zero")));
    assert!(first.result().is_none(), "one failure is no end");
    fire(&mut promises, 2, Ok(7));
    assert_eq!(first.result(), Some(Ok(&(2, 7))));
    assert!(!cancelled(&promises[1]));
    fire(&mut promises, 1, Err(Failure::msg("late")));
    assert_eq!(first.result(), Some(Ok(&(2, 7))));
    drop(first);
    assert_eq!(reports.get(), 0, "the failures of losers are consumed");
}

#[test]
fn when_none_succeeds_all_failures_are_told_in_input_order() {
    // DEF-57: the normal full list
    let (mut promises, deferreds) = some(2);
    let first = first_success(deferreds);
    fire(&mut promises, 1, Err(Failure::msg("one")));
    fire(&mut promises, 0, Err(Failure::msg("zero")));
    let failure = first.try_take().unwrap().unwrap_err();
    let failures: Vec<_> =
        failure.check::<AllFailed>().unwrap().failures.iter().map(|failure| failure.to_string()).collect();
    assert_eq!(failures, ["zero", "one"]);
    // DEF-56: of nobody it would never fire.
    assert!(first_success(Vec::<Deferred<u8>>::new()).try_take().unwrap().unwrap_err().is::<AllFailed>());
    assert!(first_completed(Vec::<Deferred<u8>>::new()).try_take().unwrap().unwrap_err().is::<AllFailed>());
}

#[test]
fn the_first_failure_is_told_with_its_number() {
    // DEF-58: fireOnOneErrback
    let reports = unobserved();
    let (mut promises, deferreds) = some(3);
    let all = all_or_first_error(deferreds);
    fire(&mut promises, 0, Ok(1));
    fire(&mut promises, 1, Err(Failure::msg("broken")));
    let failure = all.try_take().unwrap().unwrap_err();
    let first = failure.check::<FirstError>().unwrap();
    assert_eq!((first.index, first.failure.to_string()), (1, "broken".to_owned()));
    assert_eq!(failure.to_string(), "number 1 failed first: broken");
    fire(&mut promises, 2, Err(Failure::msg("late")));
    assert_eq!(reports.get(), 0);

    let (mut promises, deferreds) = some(2);
    let mut all = all_or_first_error(deferreds);
    fire(&mut promises, 1, Ok(2));
    fire(&mut promises, 0, Ok(1));
    assert_eq!(all.result(), Some(Ok(&vec![1, 2])));
}

#[test]
fn the_first_outcome_is_told_whatever_it_is() {
    // DEF-57, DEF-58: both flags
    let (mut promises, deferreds) = some(2);
    let first = first_completed(deferreds);
    fire(&mut promises, 1, Err(Failure::msg("no")));
    let (index, outcome) = first.try_take().unwrap().unwrap();
    assert_eq!((index, outcome.unwrap_err().to_string()), (1, "no".to_owned()));
    fire(&mut promises, 0, Ok(1));

    let mut first = first_completed([Deferred::succeed(5), Deferred::succeed(6)]);
    assert_eq!(first.result(), Some(Ok(&(0, Ok(5)))));
}

#[test]
fn cancelling_one_that_waits_for_the_first_cancels_every_input() {
    // DEF-61; after it has fired nobody is: D50
    let (promises, deferreds) = some(2);
    let first = first_completed(deferreds);
    first.cancel();
    assert!(promises.iter().all(cancelled));
    let (index, outcome) = first.try_take().unwrap().unwrap();
    assert_eq!(index, 0);
    assert!(outcome.unwrap_err().is::<Cancelled>());

    let (mut promises, deferreds) = some(2);
    let first = first_success(deferreds);
    fire(&mut promises, 0, Ok(1));
    first.cancel();
    assert!(!cancelled(&promises[1]));

    let (promises, deferreds) = some(2);
    let all = all_or_first_error(deferreds);
    all.cancel();
    assert!(promises.iter().all(cancelled));
    assert!(all.try_take().unwrap().unwrap_err().check::<FirstError>().unwrap().failure.is::<Cancelled>());
}

#[test]
fn whoever_forks_an_input_sees_its_failure_though_the_list_has_it() {
    // DEF-60: consumeErrors=False
    let reports = unobserved();
    let (promise, input) = Deferred::<u32>::new();
    let (mut mine, theirs) = input.fork();
    let mut all = list([theirs]);
    promise.errback(Failure::msg("broken"));
    assert!(all.result().unwrap().unwrap()[0].is_err());
    assert_eq!(mine.result().unwrap().unwrap_err().to_string(), "broken");
    assert_eq!(reports.get(), 0);
    let (promise, input) = Deferred::<u32>::new();
    let (mine, theirs) = input.fork();
    let _all = list([theirs]);
    drop(mine);
    promise.errback(Failure::msg("broken"));
    assert_eq!(reports.get(), 1, "nobody looked at the other half");
}
