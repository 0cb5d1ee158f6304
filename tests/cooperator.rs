//! `Cooperator` and its tasks on a test's clock, and on the reactor. Case ids: tests/README.md.
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use twistlet::error::Cancelled;
use twistlet::failure::on_unobserved_failure;
use twistlet::task::{self, CooperativeTask, Cooperator, TaskError};
use twistlet::testing::{Clock, assert_no_result, failure_result_of, success_result_of};
use twistlet::{Deferred, Failure, Promise, Reactor, Result};

const TURN: Duration = Duration::from_millis(1);

/// A cooperator whose slices are `units` steps.
fn in_units(clock: &Clock, units: usize) -> Cooperator {
    let cooperator = Cooperator::new(clock);
    cooperator.set_predicate(move || {
        let mut left = units;
        move || {
            left -= 1;
            left == 0
        }
    });
    cooperator
}

type Notes = Rc<RefCell<Vec<&'static str>>>;

/// Endless work that notes each step.
fn noting(notes: &Notes, name: &'static str) -> impl Iterator<Item = ()> + 'static {
    let notes = Rc::clone(notes);
    std::iter::repeat_with(move || notes.borrow_mut().push(name))
}

/// Work of one step that waits for the promise, and what counts the steps made.
fn waiting(cooperator: &Cooperator) -> (CooperativeTask, Promise<u32>, Rc<Cell<usize>>) {
    let (promise, deferred) = Deferred::new();
    let (mut deferred, steps) = (Some(deferred), Rc::new(Cell::new(0)));
    let counted = Rc::clone(&steps);
    let task = cooperator.cooperate(std::iter::from_fn(move || {
        counted.set(counted.get() + 1);
        deferred.take()
    }));
    (task, promise, steps)
}

fn ended(task: &CooperativeTask) -> TaskError {
    *failure_result_of(task.when_done()).check::<TaskError>().expect("a TaskError")
}

#[test]
fn a_slice_ends_with_the_step_after_which_its_predicate_says_so() {
    // K12, COO-1
    let clock = Clock::new();
    let cooperator = in_units(&clock, 10);
    let steps = Rc::new(Cell::new(0));
    let counted = Rc::clone(&steps);
    let task = cooperator.cooperate(std::iter::repeat_with(move || counted.set(counted.get() + 1)));
    assert_eq!(steps.get(), 0, "the first step is not made at once");
    clock.advance(TURN);
    assert_eq!(steps.get(), 10);
    clock.advance(TURN);
    assert_eq!(steps.get(), 20);
    task.stop().unwrap();
}

#[test]
fn the_turns_go_round_across_slices() {
    // COO-1
    let clock = Clock::new();
    let cooperator = in_units(&clock, 2);
    let notes = Notes::default();
    let tasks = ["a", "b", "c"].map(|name| cooperator.cooperate(noting(&notes, name)));
    clock.pump([TURN; 3]);
    assert_eq!(*notes.borrow(), ["a", "b", "c", "a", "b", "c"]);
    assert_eq!(clock.pending(), 1, "one call for all");
    for task in &tasks {
        task.stop().unwrap();
    }
    assert_eq!(clock.pending(), 0);
}

#[test]
fn endless_work_leaves_the_clock_that_stands_still() {
    let clock = Clock::new();
    let cooperator = Cooperator::new(&clock);
    let task = cooperator.cooperate(std::iter::repeat(()));
    clock.advance(TURN);
    task.stop().unwrap();
}

#[test]
fn a_slice_of_no_time_is_one_step() {
    let clock = Clock::new();
    let cooperator = Cooperator::new(&clock);
    cooperator.set_slice(Duration::ZERO);
    let notes = Notes::default();
    let task = cooperator.cooperate(noting(&notes, "step"));
    clock.advance(TURN);
    assert_eq!(notes.borrow().len(), 1);
    task.stop().unwrap();
}

#[test]
fn work_waits_for_a_cooperator_that_is_not_started() {
    // COO-2
    let clock = Clock::new();
    let cooperator = Cooperator::not_started(&clock);
    let task = cooperator.cooperate([(), ()]);
    clock.advance(TURN);
    assert!(!task.has_ended() && clock.pending() == 0);
    cooperator.start();
    clock.advance(TURN);
    success_result_of(task.when_done());
    assert!(cooperator.is_empty());
}

#[test]
fn a_step_that_gives_a_deferred_holds_its_task_alone() {
    // COO-3
    let clock = Clock::new();
    let cooperator = in_units(&clock, 4);
    let (task, promise, steps) = waiting(&cooperator);
    let notes = Notes::default();
    let other = cooperator.cooperate(noting(&notes, "other"));
    clock.advance(TURN);
    assert_eq!((steps.get(), notes.borrow().len()), (1, 3));
    other.stop().unwrap();
    assert_eq!(clock.pending(), 0, "nobody can go on");
    promise.callback(7);
    assert_eq!(steps.get(), 1, "not in the call that fires");
    clock.advance(TURN);
    success_result_of(task.when_done());
}

#[test]
fn a_step_that_fails_now_or_later_or_panics_fails_the_task() {
    // COO-3, COO-5
    let clock = Clock::new();
    let cooperator = Cooperator::new(&clock);
    let now = cooperator.cooperate([Result::<()>::Err(Failure::msg("now"))]);
    let panics = cooperator.cooperate((0..3).map(|n| assert!(n < 1, "the second step")));
    let (later, promise, _) = waiting(&cooperator);
    clock.advance(TURN);
    assert_eq!(failure_result_of(now.when_done()).to_string(), "now");
    assert!(failure_result_of(panics.when_done()).is_panic());
    promise.errback(Failure::msg("later"));
    for _ in 0..2 {
        assert_eq!(failure_result_of(later.when_done()).to_string(), "later");
    }
    assert_eq!(later.stop(), Err(TaskError::Failed)); // COO-6
    assert_eq!(later.pause(), Err(TaskError::Failed));
    assert!(cooperator.is_empty());
}

#[test]
fn pauses_count_and_add_to_the_wait_for_a_deferred() {
    // K13, COO-4
    let clock = Clock::new();
    let cooperator = Cooperator::new(&clock);
    for deferred_first in [true, false] {
        let (task, promise, steps) = waiting(&cooperator);
        clock.advance(TURN);
        task.pause().unwrap();
        task.pause().unwrap();
        if deferred_first {
            promise.callback(1);
            clock.advance(TURN);
            task.resume().unwrap();
            clock.advance(TURN);
            assert_eq!(steps.get(), 1);
            task.resume().unwrap();
        } else {
            task.resume().unwrap();
            task.resume().unwrap();
            clock.advance(TURN);
            assert_eq!(steps.get(), 1);
            promise.callback(1);
        }
        assert_eq!(steps.get(), 1, "resume makes no step itself");
        clock.advance(TURN);
        success_result_of(task.when_done());
    }
}

#[test]
fn resuming_what_is_not_paused_is_an_error() {
    // KX10, COO-4: also while it waits for a Deferred, which is not for resume() to end.
    let clock = Clock::new();
    let cooperator = Cooperator::new(&clock);
    let (task, promise, steps) = waiting(&cooperator);
    assert_eq!(task.resume(), Err(TaskError::NotPaused));
    clock.advance(TURN);
    assert_eq!(task.resume(), Err(TaskError::NotPaused));
    clock.advance(TURN);
    assert_eq!(steps.get(), 1);
    promise.callback(1);
    clock.advance(TURN);
    success_result_of(task.when_done());
}

#[test]
fn a_stopped_task_makes_no_step_and_says_that_it_was_stopped() {
    // K14, COO-5, COO-6
    let clock = Clock::new();
    let cooperator = Cooperator::new(&clock);
    let notes = Notes::default();
    let task = cooperator.cooperate(noting(&notes, "step"));
    let mut done = task.when_done();
    assert_no_result(&mut done);
    task.pause().unwrap();
    task.stop().unwrap();
    assert!(failure_result_of(done).is::<TaskError>());
    clock.advance(TURN);
    assert!(notes.borrow().is_empty());
    assert_eq!((task.stop(), task.pause()), (Err(TaskError::Stopped), Err(TaskError::Stopped)));
    assert_eq!(task.resume(), Ok(()), "the pause before the end is undone in silence");
    assert_eq!(ended(&task), TaskError::Stopped);
}

#[test]
fn what_has_come_to_its_end_says_so() {
    // COO-6
    let clock = Clock::new();
    let task = Cooperator::new(&clock).cooperate([()]);
    clock.advance(TURN);
    assert_eq!((task.stop(), task.pause()), (Err(TaskError::Done), Err(TaskError::Done)));
    success_result_of(task.when_done());
}

#[test]
fn who_hears_of_an_end_may_stop_the_whole_cooperator() {
    // K15, COO-7
    let clock = Clock::new();
    let cooperator = in_units(&clock, 3);
    let first = cooperator.cooperate([()]);
    let other = cooperator.cooperate(std::iter::repeat(()));
    let all = cooperator.clone();
    let done = first.when_done().add_callback(move |()| all.stop());
    clock.pump([TURN; 2]);
    success_result_of(done);
    assert_eq!(ended(&other), TaskError::SchedulerStopped);
    assert_eq!((cooperator.len(), clock.pending()), (0, 0));
}

#[test]
fn a_task_may_stop_itself_or_all_from_a_step() {
    let clock = Clock::new();
    let cooperator = Cooperator::new(&clock);
    let own: Rc<RefCell<Option<CooperativeTask>>> = Rc::default();
    let (mine, (_promise, late)) = (Rc::clone(&own), Deferred::<()>::new());
    let mut late = Some(late);
    let task = cooperator.cooperate(std::iter::from_fn(move || {
        mine.borrow().as_ref().unwrap().stop().unwrap();
        late.take()
    }));
    *own.borrow_mut() = Some(task.clone());
    clock.advance(TURN);
    assert_eq!(ended(&task), TaskError::Stopped);
    let all = cooperator.clone();
    let task = cooperator.cooperate(std::iter::repeat_with(move || all.stop()));
    clock.advance(TURN);
    assert_eq!(ended(&task), TaskError::SchedulerStopped);
    assert_eq!(clock.pending(), 0);
}

#[test]
fn a_cooperator_that_stops_ends_all_its_tasks_whatever_their_state() {
    // N12, KX08, COO-8
    let clock = Clock::new();
    let cooperator = Cooperator::new(&clock);
    let running: Vec<_> = (0..4).map(|_| cooperator.cooperate(std::iter::repeat(()))).collect();
    let paused = cooperator.cooperate([()]);
    paused.pause().unwrap();
    let (waits, promise, steps) = waiting(&cooperator);
    let (fails, to_fail, _) = waiting(&cooperator);
    clock.advance(TURN);
    cooperator.stop();
    for task in running.iter().chain([&paused, &waits, &fails]) {
        assert_eq!(ended(task), TaskError::SchedulerStopped);
    }
    promise.callback(1);
    to_fail.errback(Failure::msg("ignored"));
    clock.advance(TURN);
    assert_eq!((steps.get(), clock.pending()), (1, 0));
    assert_eq!(waits.stop(), Err(TaskError::SchedulerStopped));
    // New work is refused until it is started again.
    assert_eq!(ended(&cooperator.cooperate([()])), TaskError::SchedulerStopped);
    cooperator.start();
    let task = cooperator.cooperate([()]);
    clock.advance(TURN);
    success_result_of(task.when_done());
}

#[test]
fn the_last_task_takes_the_pending_slice_with_it() {
    // KX09, COO-7
    let clock = Clock::new();
    let cooperator = Cooperator::new(&clock);
    let task = cooperator.cooperate(std::iter::repeat(()));
    assert_eq!(clock.pending(), 1);
    task.stop().unwrap();
    assert_eq!(clock.pending(), 0);
    let tasks = [(); 2].map(|()| cooperator.cooperate([()]));
    assert_eq!(clock.pending(), 1);
    tasks[0].pause().unwrap();
    tasks[1].pause().unwrap();
    assert_eq!(clock.pending(), 0);
    tasks[0].resume().unwrap();
    assert_eq!(clock.pending(), 1);
    cooperator.stop();
    assert_eq!(clock.pending(), 0);
}

#[test]
fn cancelling_what_coiterate_gave_stops_the_work() {
    let clock = Clock::new();
    let cooperator = Cooperator::new(&clock);
    let done = cooperator.coiterate(std::iter::repeat(()));
    done.cancel();
    assert_eq!(failure_result_of(done).check(), Some(&TaskError::Stopped));
    assert!(cooperator.is_empty());
    let task = cooperator.cooperate([()]);
    let done = task.when_done();
    done.cancel();
    assert!(failure_result_of(done).is::<Cancelled>());
    clock.advance(TURN);
    success_result_of(task.when_done());
}

#[test]
fn a_failure_that_nobody_asks_for_is_told_once() {
    let told = Rc::new(Cell::new(0));
    let heard = Rc::clone(&told);
    on_unobserved_failure(move |_, _| heard.set(heard.get() + 1));
    let clock = Clock::new();
    let cooperator = Cooperator::new(&clock);
    drop(cooperator.cooperate([Result::<()>::Err(Failure::msg("unheard"))]));
    clock.advance(TURN);
    assert_eq!(told.get(), 1);
    cooperator.cooperate(std::iter::repeat(())).stop().unwrap();
    assert_eq!(told.get(), 1, "who stops knows");
}

#[test]
fn a_predicate_that_panics_ends_the_slice_alone() {
    let clock = Clock::new();
    let cooperator = Cooperator::new(&clock);
    cooperator.set_predicate(|| || panic!("a predicate"));
    let task = cooperator.cooperate([(), ()]);
    clock.pump([TURN; 3]);
    success_result_of(task.when_done());
}

#[test]
fn destructors_of_work_may_use_the_cooperator() {
    struct Meddler(Cooperator);
    impl Drop for Meddler {
        fn drop(&mut self) {
            self.0.stop();
            self.0.start();
            drop(self.0.cooperate([()]));
        }
    }
    let clock = Clock::new();
    let cooperator = Cooperator::new(&clock);
    let meddler = Meddler(cooperator.clone());
    let task = cooperator.cooperate(std::iter::from_fn(move || {
        let _ = &meddler;
        None::<()>
    }));
    let other = cooperator.cooperate(std::iter::repeat(()));
    clock.advance(TURN);
    success_result_of(task.when_done());
    assert_eq!(ended(&other), TaskError::SchedulerStopped);
    clock.advance(TURN);
    assert!(cooperator.is_empty());
}

#[test]
fn ten_thousand_tasks_take_turns_and_stop_quickly() {
    let clock = Clock::new();
    let cooperator = Cooperator::new(&clock);
    let tasks: Vec<_> = (0..10_000).map(|_| cooperator.cooperate([(); 3])).collect();
    clock.pump([TURN; 5]);
    assert!(tasks.iter().all(CooperativeTask::has_ended) && cooperator.is_empty());
    let _tasks: Vec<_> = (0..10_000).map(|_| cooperator.cooperate(std::iter::repeat(()))).collect();
    clock.pump([TURN; 2]);
    cooperator.stop();
    assert!(cooperator.is_empty());
}

#[test]
fn the_reactor_has_one_of_its_own_that_lets_everything_else_go_on() {
    // COO-9
    let reactor = Reactor::new().unwrap();
    let work = task::cooperate(std::iter::repeat(()));
    assert_eq!(Cooperator::current().len(), 1);
    reactor.call_later(Duration::from_millis(30), move || work.stop().map_err(Failure::from));
    let steps = (0..100).map(|_| std::thread::sleep(Duration::from_micros(300)));
    let _ = task::coiterate(steps).add_callback(move |()| reactor.stop());
    reactor.run().unwrap();
    let next = Reactor::new().unwrap();
    assert!(Cooperator::current().is_empty(), "not that of the reactor before");
    next.close();
}

#[test]
fn the_end_of_the_reactor_drops_the_work() {
    let reactor = Reactor::new().unwrap();
    let owned = Rc::new(());
    let weak = Rc::downgrade(&owned);
    drop(task::cooperate(std::iter::repeat_with(move || drop(Rc::clone(&owned)))));
    reactor.call_later(TURN, move || reactor.stop());
    reactor.run().unwrap();
    assert!(weak.upgrade().is_none());
}
