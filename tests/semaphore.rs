//! `green::Semaphore`: permits handed over in the order they were asked for.
#![cfg(feature = "green")]
mod guard;
use guard::{Trace, guarded, panic_of};
use std::time::{Duration, Instant};
use twistlet::Reactor;
use twistlet::error::Killed;
use twistlet::green::{Semaphore, sleep, spawn, wait_all, with_timeout, yield_now};

const SHORT: Duration = Duration::from_millis(5);

// SE-01
#[test]
fn acquiring_takes_and_releasing_adds_also_above_the_beginning() {
    guarded(|| {
        let semaphore = Semaphore::new(1);
        let permit = semaphore.acquire();
        assert!(semaphore.is_locked());
        drop(permit);
        assert_eq!(semaphore.available(), 1);
        semaphore.release();
        assert_eq!(semaphore.available(), 2);
        semaphore.acquire().forget();
        semaphore.acquire().forget();
        assert_eq!(semaphore.available(), 0);
        assert_eq!(Semaphore::new(0).available(), 0); // EQS-42
    });
}

// EQS-40, SE-02
#[test]
fn an_empty_semaphore_says_no_at_once_or_after_the_limit() {
    guarded(|| {
        let semaphore = Semaphore::new(0);
        assert!(semaphore.try_acquire().is_none());
        assert!(semaphore.acquire_timeout(Duration::ZERO).is_none());
        let began = Instant::now();
        assert!(semaphore.acquire_timeout(Duration::from_millis(20)).is_none());
        assert!(began.elapsed() >= Duration::from_millis(20));
        semaphore.release();
        assert!(semaphore.acquire_timeout(SHORT).is_some());
        assert_eq!(semaphore.available(), 1);
    });
}

// EQS-43, SE-04, SE-03
#[test]
fn five_waiters_acquire_in_the_order_they_came_after_the_releaser() {
    guarded(|| {
        let (semaphore, trace) = (Semaphore::new(0), Trace::new());
        let waiters: Vec<_> = (0..5)
            .map(|n| {
                let (semaphore, trace) = (semaphore.clone(), trace.clone());
                spawn(move || {
                    semaphore.acquire().forget();
                    trace.note(n);
                })
            })
            .collect();
        yield_now();
        assert_eq!(semaphore.waiting(), 5);
        for _ in 0..5 {
            semaphore.release();
        }
        trace.note("released");
        wait_all(waiters);
        assert_eq!(trace.take(), ["released", "0", "1", "2", "3", "4"]);
        assert_eq!(semaphore.available(), 0);
    });
}

// EQS-45, SE-05
#[test]
fn nobody_takes_a_permit_in_between_that_was_handed_over() {
    guarded(|| {
        let semaphore = Semaphore::new(0);
        let mine = semaphore.clone();
        let waiter = spawn(move || {
            mine.acquire().forget();
            Ok("mine")
        });
        yield_now();
        semaphore.release();
        assert!(semaphore.try_acquire().is_none());
        assert_eq!(waiter.wait().unwrap(), "mine");
    });
}

// SE-04: no hog
#[test]
fn one_that_acquires_and_releases_in_a_loop_lets_the_others_in() {
    guarded(|| {
        let (semaphore, trace) = (Semaphore::new(1), Trace::new());
        let waiters: Vec<_> = ["a", "b"]
            .into_iter()
            .map(|name| {
                let (semaphore, trace) = (semaphore.clone(), trace.clone());
                spawn(move || {
                    for _ in 0..3 {
                        let _permit = semaphore.acquire();
                        trace.note(name);
                        yield_now();
                    }
                })
            })
            .collect();
        wait_all(waiters);
        assert_eq!(trace.take(), ["a", "b", "a", "b", "a", "b"]);
        assert_eq!(semaphore.available(), 1);
    });
}

// SE-07, G9
#[test]
fn a_waiter_that_was_killed_or_came_too_late_consumes_nothing() {
    guarded(|| {
        let semaphore = Semaphore::new(0);
        let (one, two, three) = (semaphore.clone(), semaphore.clone(), semaphore.clone());
        let killed = spawn(move || one.acquire().forget());
        let late = spawn(move || with_timeout(SHORT, || two.acquire().forget()).map_err(Into::into));
        let patient = spawn(move || three.acquire().forget());
        yield_now();
        // In the same turn: killed, and then a permit is released.
        killed.kill();
        semaphore.release();
        assert!(killed.wait().unwrap_err().is::<Killed>());
        // That one went to the next.
        assert!(late.wait().is_ok());
        assert_eq!(semaphore.waiting(), 1);
        semaphore.release();
        patient.wait().unwrap();
        assert_eq!(semaphore.available(), 0);
        let three = semaphore.clone();
        let late = spawn(move || with_timeout(SHORT, || three.acquire().forget()).map_err(Into::into));
        assert!(late.wait().is_err());
        semaphore.release();
        assert_eq!(semaphore.available(), 1);
    });
}

// A wake-up that came before a kill wins, and nothing is lost
#[test]
fn a_permit_handed_over_before_a_kill_is_given_back_by_the_unwinding() {
    guarded(|| {
        let semaphore = Semaphore::new(0);
        let mine = semaphore.clone();
        let killed = spawn(move || {
            let _permit = mine.acquire();
            sleep(Duration::from_secs(60));
        });
        yield_now();
        semaphore.release();
        killed.kill();
        assert!(killed.wait().unwrap_err().is::<Killed>());
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn a_permit_may_be_released_from_a_callback_and_acquired_there_when_free() {
    guarded(|| {
        let semaphore = Semaphore::new(0);
        let in_callback = semaphore.clone();
        Reactor::current().call_later(SHORT, move || {
            assert!(in_callback.try_acquire().is_none());
            in_callback.release();
        });
        drop(semaphore.acquire());
        let in_callback = semaphore.clone();
        let held = twistlet::green::Event::new();
        let tell = held.clone();
        Reactor::current().call_soon(move || {
            let permit = in_callback.acquire(); // one is free
            let message = panic_of(|| in_callback.acquire());
            drop(permit);
            tell.send(message);
        });
        assert!(held.wait().unwrap().contains("main loop"));
        assert_eq!(semaphore.available(), 1);
    });
}

// G5
#[test]
fn a_destructor_that_acquires_while_unwinding_gets_an_empty_permit() {
    struct Acquires(Semaphore);
    impl Drop for Acquires {
        fn drop(&mut self) {
            drop(self.0.acquire());
        }
    }
    guarded(|| {
        let semaphore = Semaphore::new(0);
        let mine = semaphore.clone();
        let killed = spawn(move || {
            let _acquires = Acquires(mine);
            sleep(Duration::from_secs(60));
        });
        yield_now();
        killed.kill();
        assert!(killed.wait().is_err());
        assert_eq!(semaphore.available(), 0);
    });
}

// D8
#[test]
fn main_that_waits_for_ever_panics_with_the_report() {
    guarded(|| {
        let message = panic_of(|| Semaphore::new(0).acquire());
        assert!(message.contains("MAIN waits for a Semaphore at tests/semaphore.rs"), "{message}");
    });
}
