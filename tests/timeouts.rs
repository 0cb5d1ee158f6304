//! `with_timeout`: deadlines that unwind (G4), nested, late, early and swallowed.
#![cfg(feature = "green")]
mod guard;
use guard::{Trace, guarded, in_callback, logged, panic_of};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};
use twistlet::error::Killed;
use twistlet::green::{Event, sleep, spawn, with_timeout, yield_now};
use twistlet::{Reactor, TimedOut};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(10);

// GTC-19, TO-10
#[test]
fn a_slow_call_is_unwound_and_a_fast_one_gives_its_value() {
    guarded(|| {
        let trace = Trace::new();
        let began = Instant::now();
        let guard = trace.on_drop("unwound");
        let late = with_timeout(SHORT, move || {
            let _guard = guard;
            sleep(LONG);
        });
        assert_eq!(late, Err(TimedOut(SHORT)));
        assert!(began.elapsed() >= SHORT);
        assert_eq!(trace.take(), ["unwound"]);
        assert_eq!(with_timeout(LONG, || "fast"), Ok("fast"));
        assert_eq!(
            with_timeout(LONG, || {
                yield_now();
                "fast"
            }),
            Ok("fast")
        );
        assert!(logged().is_empty());
    });
}

// GTC-20, TO-08, TO-09
#[test]
fn an_outer_deadline_passes_through_the_inner_one_and_the_other_way_round() {
    guarded(|| {
        let outer = with_timeout(SHORT, || with_timeout(LONG, || sleep(LONG)));
        assert_eq!(outer, Err(TimedOut(SHORT)));
        let inner = with_timeout(LONG, || with_timeout(SHORT, || sleep(LONG)));
        assert_eq!(inner, Ok(Err(TimedOut(SHORT))));
        // Both have passed when the next wait comes: whichever passed first counts.
        let both = with_timeout(SHORT, || {
            with_timeout(SHORT * 2, || {
                std::thread::sleep(SHORT * 4);
                yield_now();
                yield_now();
            })
        });
        assert_eq!(both, Err(TimedOut(SHORT)));
        let both = with_timeout(SHORT * 2, || {
            let inner = with_timeout(SHORT, || {
                std::thread::sleep(SHORT * 4);
                yield_now();
                yield_now();
            });
            assert_eq!(inner, Err(TimedOut(SHORT)));
            yield_now();
        });
        assert_eq!(both, Err(TimedOut(SHORT * 2)));
    });
}

// GTC-21, TO-05, TO-11
#[test]
fn a_deadline_whose_scope_was_left_does_nothing_and_is_no_timer_any_more() {
    guarded(|| {
        assert_eq!(with_timeout(SHORT, || 1), Ok(1));
        assert!(catch_unwind(|| with_timeout(SHORT, || panic!("a test's"))).is_err());
        assert_eq!(Reactor::current().statistics().timers, 0);
        sleep(SHORT * 3);
    });
}

// GTC-31, TO-04
#[test]
fn a_deadline_that_passes_while_nothing_waits_has_no_effect() {
    guarded(|| {
        let value = with_timeout(SHORT, || {
            std::thread::sleep(SHORT * 3);
            5
        });
        assert_eq!(value, Ok(5));
        yield_now();
        sleep(SHORT);
    });
}

// TO-03
#[test]
fn zero_strikes_at_the_first_wait_and_an_endless_limit_never() {
    guarded(|| {
        assert_eq!(with_timeout(Duration::ZERO, || 1), Ok(1));
        assert_eq!(with_timeout(Duration::ZERO, yield_now), Err(TimedOut(Duration::ZERO)));
        // GTC-25
        assert_eq!(with_timeout(Duration::MAX, || sleep(SHORT)), Ok(()));
    });
}

// TO-07: generic handling of errors does not swallow it
#[test]
fn code_that_ignores_errors_does_not_swallow_a_deadline() {
    guarded(|| {
        let event = Event::<()>::new();
        let late = with_timeout(SHORT, || {
            loop {
                let _ = event.wait();
            }
        });
        assert_eq!(late, Err::<(), _>(TimedOut(SHORT)));
    });
}

// G4: sticky while its scope lasts, bounded
#[test]
fn a_deadline_swallowed_by_catch_unwind_comes_again_and_is_dropped_when_it_is_swallowed_for_ever() {
    guarded(|| {
        let twice = with_timeout(SHORT, || {
            assert!(catch_unwind(|| sleep(LONG)).is_err());
            sleep(LONG);
        });
        assert_eq!(twice, Err(TimedOut(SHORT)));
        let mut times = 0;
        let stubborn = with_timeout(
            SHORT,
            AssertUnwindSafe(|| {
                while catch_unwind(|| sleep(SHORT)).is_err() {
                    times += 1;
                }
                "went on"
            }),
        );
        assert_eq!(stubborn, Ok("went on"));
        assert!(times > 100);
        let log = logged();
        assert!(log.len() == 1 && log[0].contains("deadline"), "{log:?}");
    });
}

// A kill goes through deadlines
#[test]
fn a_kill_is_not_taken_for_a_deadline() {
    guarded(|| {
        let victim = spawn(|| with_timeout(LONG, || sleep(LONG)).map_err(Into::into));
        yield_now();
        victim.kill();
        assert!(victim.wait().unwrap_err().is::<Killed>());
        assert_eq!(Reactor::current().statistics().timers, 0);
    });
}

// TO-12
#[test]
fn a_deadline_of_a_green_thread_that_has_ended_hits_nobody() {
    guarded(|| {
        let thread = spawn(|| {
            let _ = with_timeout(SHORT, yield_now);
        });
        thread.wait().unwrap();
        sleep(SHORT * 2);
        assert!(logged().is_empty());
    });
}

// TO-13
#[test]
fn a_deadline_in_the_main_loop_is_an_error_at_once() {
    let message = in_callback(|| panic_of(|| with_timeout(LONG, || ())));
    assert!(message.contains("main loop"), "{message}");
}

// GTC-26, TO-15
#[test]
fn nothing_that_the_call_held_is_kept_after_it() {
    guarded(|| {
        let held = Rc::new(());
        let mine = held.clone();
        let _ = with_timeout(SHORT, move || {
            let _mine = mine;
            sleep(LONG);
        });
        assert_eq!(Rc::strong_count(&held), 1);
    });
}

#[test]
fn a_deadline_interrupts_the_wait_of_a_child_but_not_the_child() {
    guarded(|| {
        let event = Event::new();
        let tell = event.clone();
        let child = spawn(move || {
            sleep(SHORT * 3);
            tell.send("the child ended");
        });
        assert!(with_timeout(SHORT, || child.wait()).is_err());
        assert_eq!(event.wait().unwrap(), "the child ended");
    });
}

// GT-23
#[test]
fn sleeping_takes_at_least_its_time_and_an_interrupted_sleep_leaves_no_timer() {
    guarded(|| {
        let began = Instant::now();
        sleep(SHORT);
        assert!(began.elapsed() >= SHORT);
        let victim = spawn(|| sleep(LONG));
        yield_now();
        victim.kill();
        assert!(victim.wait().is_err());
        assert_eq!(Reactor::current().statistics().timers, 0);
        let mut order = Vec::new();
        let queue = twistlet::green::Queue::new();
        for n in [3u64, 1, 2] {
            let queue = queue.clone();
            spawn(move || {
                sleep(SHORT * u32::try_from(n).unwrap());
                queue.send(n);
            });
        }
        for _ in 0..3 {
            order.push(queue.wait().unwrap());
        }
        assert_eq!(order, [1, 2, 3]);
    });
}
