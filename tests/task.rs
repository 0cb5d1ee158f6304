//! `LoopingCall`, `defer_later` and `react`, driven by a test's clock. Case ids: tests/README.md.
use std::cell::{Cell, RefCell};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use twistlet::error::{Cancelled, TimedOut};
use twistlet::task::{Exit, LoopingCall, defer_later, react};
use twistlet::testing::{Clock, assert_no_result, failure_result_of, success_result_of};
use twistlet::{Deferred, DelayedCall, Failure, Promise, Reactor, Result};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

type Notes = Rc<RefCell<Vec<(Duration, u64)>>>;

/// A loop that notes when it was called, and its counts.
fn noting(clock: &Clock) -> (LoopingCall, Notes) {
    let notes = Rc::new(RefCell::new(Vec::new()));
    let (kept, time) = (Rc::clone(&notes), clock.clone());
    let ticks = LoopingCall::new(clock, move |ticks| kept.borrow_mut().push((time.elapsed(), ticks.count())));
    (ticks, notes)
}

#[test]
fn a_loop_calls_at_once_and_then_at_each_interval() {
    // LOO-1
    let clock = Clock::new();
    let (ticks, notes) = noting(&clock);
    let mut done = ticks.start(millis(500));
    assert_eq!(*notes.borrow(), [(Duration::ZERO, 1)]);
    clock.pump([millis(250); 4]);
    assert_eq!(*notes.borrow(), [(Duration::ZERO, 1), (millis(500), 1), (millis(1000), 1)]);
    assert_no_result(&mut done);
    assert!(ticks.is_running());
}

#[test]
fn a_failure_of_the_first_call_fails_what_start_returns() {
    // LOO-1
    let clock = Clock::new();
    let ticks = LoopingCall::new(&clock, |_| Result::<()>::Err(Failure::msg("no")));
    let failure = failure_result_of(ticks.start(seconds(1)));
    assert_eq!(failure.to_string(), "no");
    assert!(!ticks.is_running());
    assert_eq!(clock.pending(), 0);
}

#[test]
fn a_panic_of_the_function_fails_the_loop() {
    let clock = Clock::new();
    let ticks = LoopingCall::new(&clock, |ticks| assert!(ticks.calls() < 2, "the second call"));
    let done = ticks.start(seconds(1));
    clock.advance(seconds(1));
    assert!(failure_result_of(done).is_panic());
    assert_eq!(clock.pending(), 0);
}

#[test]
#[should_panic(expected = "runs already")]
fn starting_a_running_loop_is_an_error_of_the_program() {
    // LOO-1
    let clock = Clock::new();
    let (ticks, _) = noting(&clock);
    let _first = ticks.start(seconds(1));
    let _second = ticks.start(seconds(1));
}

#[test]
fn the_next_call_waits_for_the_deferred_of_the_last() {
    // LOO-2, K09
    let clock = Clock::new();
    let (inside, most, calls) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let ticks = {
        let (time, inside, most, calls) = (clock.clone(), Rc::clone(&inside), Rc::clone(&most), Rc::clone(&calls));
        LoopingCall::new(&clock, move |_| {
            calls.set(calls.get() + 1);
            inside.set(inside.get() + 1);
            most.set(most.get().max(inside.get()));
            let inside = Rc::clone(&inside);
            defer_later(&time, seconds(1), move || inside.set(inside.get() - 1))
        })
    };
    let done = ticks.start(millis(200));
    clock.pump([millis(100); 23]);
    // 0.0 to 1.0, 1.2 to 2.2.
    assert_eq!((calls.get(), most.get()), (2, 1));
    clock.advance(millis(100));
    assert_eq!(calls.get(), 3);
    ticks.stop();
    clock.advance(seconds(1));
    success_result_of(done);
    assert_eq!((clock.pending(), inside.get()), (0, 0));
}

#[test]
fn a_slow_call_skips_the_points_it_missed_and_keeps_to_the_grid() {
    // LOO-3: interval 0.5, the call takes 2 s: the next is at 2.5, not at 2.0.
    let clock = Clock::new();
    let starts = Rc::new(RefCell::new(Vec::new()));
    let (time, noted) = (clock.clone(), Rc::clone(&starts));
    let ticks = LoopingCall::new(&clock, move |_| {
        noted.borrow_mut().push(time.elapsed());
        defer_later(&time, seconds(2), || ())
    });
    let _done = ticks.start(millis(500));
    clock.pump([millis(100); 50]);
    assert_eq!(*starts.borrow(), [Duration::ZERO, millis(2500), millis(5000)]);
}

#[test]
fn a_late_call_does_not_move_the_grid() {
    // LOO-3, no drift
    let clock = Clock::new();
    let (ticks, notes) = noting(&clock);
    let _done = ticks.start(seconds(1));
    clock.pump([millis(1300), millis(600), millis(100)]);
    let times: Vec<_> = notes.borrow().iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [Duration::ZERO, millis(1300), millis(2000)]);
}

#[test]
fn an_interval_of_zero_calls_once_a_turn() -> Result {
    // LOO-4
    let reactor = Reactor::new()?;
    let turns = Rc::new(RefCell::new(Vec::new()));
    let noted = Rc::clone(&turns);
    let ticks = LoopingCall::new(&reactor, move |ticks| {
        noted.borrow_mut().push(reactor.statistics().turns);
        if ticks.calls() == 4 {
            ticks.stop();
            let _ = reactor.stop();
        }
    });
    let _done = ticks.start(Duration::ZERO);
    reactor.run()?;
    let turns = turns.borrow();
    assert_eq!(turns.len(), 4);
    assert!(turns.windows(2).all(|pair| pair[0] < pair[1]), "{turns:?}");
    Ok(())
}

#[test]
fn stopping_a_waiting_loop_fires_at_once_and_leaves_no_timer() {
    // LOO-5, K06
    let clock = Clock::new();
    let (ticks, notes) = noting(&clock);
    let done = ticks.start_later(seconds(1));
    assert!(notes.borrow().is_empty());
    clock.advance(seconds(1));
    assert_eq!(*notes.borrow(), [(seconds(1), 1)]);
    ticks.stop();
    success_result_of(done);
    assert_eq!(clock.pending(), 0);
    ticks.stop();
    assert!(!ticks.is_running());
}

#[test]
fn stopping_during_a_call_fires_when_the_call_is_over() {
    // LOO-5
    let clock = Clock::new();
    let gate: Rc<RefCell<Option<Promise<()>>>> = Rc::default();
    let kept = Rc::clone(&gate);
    let ticks = LoopingCall::new(&clock, move |_| {
        let (promise, deferred) = Deferred::new();
        *kept.borrow_mut() = Some(promise);
        deferred
    });
    let mut done = ticks.start(seconds(1));
    ticks.stop();
    assert_no_result(&mut done);
    let promise = gate.take().unwrap();
    promise.callback(());
    success_result_of(done);
    assert_eq!(clock.pending(), 0);
}

#[test]
fn a_function_that_stops_and_then_fails_fails_the_loop() {
    // LOO-5
    let clock = Clock::new();
    let ticks = LoopingCall::new(&clock, |ticks| {
        ticks.stop();
        Result::<()>::Err(Failure::msg("after the stop"))
    });
    assert_eq!(failure_result_of(ticks.start(seconds(1))).to_string(), "after the stop");
}

#[test]
fn reset_begins_the_grid_anew() {
    // LOO-6
    let clock = Clock::new();
    let (ticks, notes) = noting(&clock);
    let _done = ticks.start(seconds(1));
    clock.advance(millis(700));
    ticks.reset();
    clock.pump([millis(100); 25]);
    let times: Vec<_> = notes.borrow().iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [Duration::ZERO, millis(1700), millis(2700)]);
    assert!(notes.borrow().iter().all(|(_, count)| *count == 1));
}

#[test]
fn reset_during_a_call_does_nothing() {
    // LOO-6
    let clock = Clock::new();
    let times = Rc::new(RefCell::new(Vec::new()));
    let (time, noted) = (clock.clone(), Rc::clone(&times));
    let ticks = LoopingCall::new(&clock, move |ticks| {
        noted.borrow_mut().push(time.elapsed());
        ticks.reset();
    });
    let _done = ticks.start(seconds(1));
    clock.pump([millis(1500), millis(500)]);
    assert_eq!(*times.borrow(), [Duration::ZERO, millis(1500), seconds(2)]);
}

#[test]
fn a_jump_of_three_intervals_counts_three() {
    // LOO-7, K04
    let clock = Clock::new();
    let (ticks, notes) = noting(&clock);
    let _done = ticks.start(seconds(1));
    clock.advance(seconds(3));
    clock.advance(millis(1750));
    clock.advance(millis(250));
    let counts: Vec<_> = notes.borrow().iter().map(|(_, count)| *count).collect();
    // 1.75 intervals late is still one point of the grid.
    assert_eq!(counts, [1, 3, 1, 1]);
}

#[test]
fn counts_are_never_zero_and_sum_to_the_intervals_elapsed() {
    // LOO-7, K05: tenths of a second, in steps that do not divide them.
    let clock = Clock::new();
    let (ticks, notes) = noting(&clock);
    let _done = ticks.start(millis(100));
    let mut step = 1;
    while clock.elapsed() < seconds(100) {
        step = step * 7919 % 104_729;
        clock.advance(Duration::from_nanos(step * 4217));
    }
    let counts: Vec<_> = notes.borrow().iter().map(|(_, count)| *count).collect();
    assert!(counts.iter().all(|count| *count > 0));
    let intervals = clock.elapsed().as_nanos() / 100_000_000;
    assert_eq!(u128::from(counts.iter().sum::<u64>()), intervals + 1);
}

#[test]
fn an_interval_of_zero_counts_one() {
    // LOO-7
    let clock = Clock::new();
    let ticks = LoopingCall::new(&clock, |ticks| {
        assert_eq!(ticks.count(), 1);
        if ticks.calls() == 3 {
            ticks.stop();
        }
    });
    // Calls that are due already run in the same advance, so this loop must stop itself.
    let done = ticks.start_later(Duration::ZERO);
    clock.advance(seconds(5));
    success_result_of(done);
}

#[test]
fn a_stopped_loop_can_be_started_again() {
    // LOO-8
    let clock = Clock::new();
    let (ticks, notes) = noting(&clock);
    let first = ticks.start(seconds(1));
    clock.advance(seconds(1));
    ticks.stop();
    success_result_of(first);
    clock.advance(millis(300));
    let second = ticks.start(seconds(2));
    clock.advance(seconds(2));
    ticks.stop();
    success_result_of(second);
    let expected = [(Duration::ZERO, 1), (seconds(1), 1), (millis(1300), 1), (millis(3300), 1)];
    assert_eq!(*notes.borrow(), expected);
}

#[test]
fn what_start_returned_can_start_the_loop_again() {
    let clock = Clock::new();
    let (ticks, notes) = noting(&clock);
    let again = ticks.clone();
    let _ = ticks.start(seconds(1)).add_callback(move |()| {
        let _running = again.start(seconds(5));
    });
    ticks.stop();
    assert!(ticks.is_running());
    assert_eq!(notes.borrow().len(), 2);
}

#[test]
fn cancelling_what_start_returned_stops_the_loop() {
    let clock = Clock::new();
    let (ticks, _) = noting(&clock);
    let done = ticks.start(seconds(1)).add_timeout(millis(3500), &clock);
    clock.pump([seconds(1); 4]);
    assert!(failure_result_of(done).is::<TimedOut>());
    assert!(!ticks.is_running());
    assert_eq!((ticks.calls(), clock.pending()), (4, 0));
}

#[test]
fn a_running_loop_needs_no_owner_and_ends_with_its_clock() {
    let clock = Clock::new();
    let witness = Rc::new(());
    let kept = Rc::clone(&witness);
    let _ = LoopingCall::new(&clock, move |_| drop(Rc::clone(&kept))).start(seconds(1));
    clock.advance(seconds(1));
    assert_eq!(Rc::strong_count(&witness), 2);
    assert_eq!(clock.pending(), 1);
}

#[test]
fn a_loop_on_a_reactor_is_freed_with_it() -> Result {
    let reactor = Reactor::new()?;
    let witness = Rc::new(());
    let kept = Rc::clone(&witness);
    let _ = LoopingCall::new(&reactor, move |_| drop(Rc::clone(&kept))).start(seconds(1));
    reactor.close();
    assert_eq!(Rc::strong_count(&witness), 1);
    Ok(())
}

#[test]
fn call_later_is_on_every_clock() {
    fn schedule(clock: &dyn twistlet::Clock, rang: &Rc<Cell<u32>>) -> DelayedCall {
        let rang = Rc::clone(rang);
        clock.call_later(seconds(1), move || rang.set(rang.get() + 1))
    }
    let clock = Clock::new();
    let rang = Rc::new(Cell::new(0));
    schedule(&clock, &rang);
    let cancelled = schedule(&clock, &rang);
    assert!(cancelled.cancel());
    clock.advance(seconds(1));
    assert_eq!(rang.get(), 1);
}

#[test]
fn defer_later_gives_what_the_function_came_to() {
    // DLA-1
    let clock = Clock::new();
    let mut value = defer_later(&clock, seconds(2), || Ok(42));
    let failed = defer_later(&clock, seconds(2), || Result::<()>::Err(Failure::msg("no")));
    let panicked = defer_later(&clock, seconds(2), || assert!(std::hint::black_box(false)));
    let (promise, inner) = Deferred::new();
    let mut chained = defer_later(&clock, seconds(2), move || inner);
    clock.advance(seconds(1));
    assert_no_result(&mut value);
    clock.advance(seconds(1));
    assert_eq!(success_result_of(value), 42);
    assert_eq!(failure_result_of(failed).to_string(), "no");
    assert!(failure_result_of(panicked).is_panic());
    assert_no_result(&mut chained);
    promise.callback("late");
    assert_eq!(success_result_of(chained), "late");
}

#[test]
fn cancelling_defer_later_forgets_the_call() {
    // DLA-1, K10
    let clock = Clock::new();
    let ran = Rc::new(Cell::new(false));
    let set = Rc::clone(&ran);
    let deferred = defer_later(&clock, seconds(2), move || set.set(true));
    deferred.cancel();
    assert_eq!(clock.pending(), 0);
    assert_eq!(Rc::strong_count(&ran), 1);
    clock.advance(seconds(5));
    assert!(!ran.get());
    assert!(failure_result_of(deferred).is::<Cancelled>());
}

#[test]
fn cancelling_defer_later_afterwards_cancels_what_the_function_returned() {
    let clock = Clock::new();
    let (promise, inner) = Deferred::<()>::new();
    let told = Rc::new(Cell::new(false));
    let tell = Rc::clone(&told);
    promise.on_cancel(move || tell.set(true));
    let deferred = defer_later(&clock, seconds(1), move || inner);
    clock.advance(seconds(1));
    deferred.cancel();
    assert!(told.get());
    assert!(failure_result_of(deferred).is::<Cancelled>());
    drop(promise);
}

fn is(code: ExitCode, expected: u8) -> bool {
    format!("{code:?}") == format!("{:?}", ExitCode::from(expected))
}

#[test]
fn react_runs_until_its_deferred_has_fired() {
    // DLA-2
    let ran = Rc::new(Cell::new(false));
    let set = Rc::clone(&ran);
    let code = react(move |reactor| defer_later(reactor, millis(2), move || set.set(true)));
    assert!(ran.get() && is(code, 0));
    // The reactor is gone: there may be another.
    assert!(is(react(|_| ()), 0));
}

#[test]
fn react_starts_and_stops_even_when_all_is_done_already() {
    // DLA-2
    let started = Rc::new(Cell::new(false));
    let set = Rc::clone(&started);
    let code = react(move |reactor| reactor.call_when_running(move || set.set(true)));
    assert!(started.get() && is(code, 0));
}

#[test]
fn react_fails_with_one_or_with_the_code_asked_for() {
    // DLA-2
    assert!(is(react(|_| Result::<()>::Err(Failure::msg("no"))), 1));
    assert!(is(react(|_| Result::<()>::Err(Exit(7).into())), 7));
    assert!(is(react(|reactor| defer_later(reactor, millis(1), || Result::<()>::Err(Exit(3).into()))), 3));
    assert!(is(react(|_| assert!(std::hint::black_box(false))), 1));
}

#[test]
fn react_succeeds_when_the_reactor_is_stopped_first() {
    // DLA-2
    let code = react(|reactor| {
        let reactor = *reactor;
        reactor.call_later(millis(1), move || reactor.stop());
        let (promise, never) = Deferred::<()>::new();
        reactor.call_later(seconds(1000), move || promise.callback(()));
        never
    });
    assert!(is(code, 0));
}

#[test]
fn react_does_not_stop_a_reactor_that_is_stopping() {
    // DLA-2: what main returned fires while the shutdown triggers run.
    let code = react(|reactor| {
        let reactor = *reactor;
        let (promise, done) = Deferred::<()>::new();
        reactor.add_trigger(twistlet::reactor::Phase::BeforeShutdown, move || {
            promise.callback(());
            defer_later(&reactor, millis(2), || ())
        });
        reactor.call_later(millis(1), move || reactor.stop());
        done
    });
    assert!(is(code, 0));
}
