//! Sets and pools of procs, and what `proc` has beside links: who is in, who has left, what is told of failures.
#![cfg(feature = "green")]
mod guard;

use guard::{logged, passes};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use twistlet::Failure;
use twistlet::error::{Killed, WaitsForItself};
use twistlet::green::proc::{self, LinkedExited, Pool, ProcSet, RunningProcSet};
use twistlet::green::{Event, sleep, spawn, yield_now};

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_set_waits_for_all_in_the_order_they_came_or_for_the_first_failure() {
    // PR-28, PR-30, PR-33
    passes(|| {
        assert!(ProcSet::<u32>::new().wait_all()?.is_empty());
        let mut set: ProcSet<u64> = (0..3).map(|n| proc::spawn(move || Ok(n))).collect();
        let last = set.spawn(|| {
            sleep(Duration::from_millis(2));
            Ok(9)
        });
        set.add(last.clone());
        assert_eq!((set.len(), set.contains(&last), set.wait_all()?), (4, true, vec![0, 1, 2, 9]));
        set.spawn(|| Err(Failure::msg("one")));
        set.spawn(|| {
            sleep(LONG);
            Ok(0)
        });
        assert!(set.wait_all().expect_err("one failed").to_string().contains("one"));
        set.kill_all_and_wait()?;
        let outcomes = set.wait_all_trapped();
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 4);
        assert!(outcomes[5].as_ref().is_err_and(|failure| failure.is::<Killed>()));
        Ok(())
    });
}

#[test]
fn a_running_set_forgets_those_that_have_ended_and_waits_for_those_that_come_meanwhile() {
    // PR-32
    passes(|| {
        let set = RunningProcSet::new();
        let (go, more, seen) = (Event::<()>::new(), set.clone(), Rc::new(Cell::new(0)));
        let (gate, count) = (go.clone(), Rc::clone(&seen));
        let first = set.spawn(move || {
            assert!(more.contains_current());
            gate.wait()?;
            let later = Rc::clone(&count);
            more.spawn(move || {
                yield_now();
                later.set(later.get() + 1);
                Ok(())
            });
            count.set(count.get() + 1);
            Ok(())
        });
        set.add(first.clone());
        yield_now();
        assert!(set.contains(&first) && set.len() == 1 && !set.contains_current());
        go.send(());
        set.wait_all()?;
        assert_eq!((seen.get(), set.len(), set.is_empty()), (2, 0, true));
        set.add(first);
        assert!(set.is_empty(), "one that has ended is not kept");
        let quick = set.spawn(|| Ok(()));
        yield_now();
        yield_now();
        assert!(quick.ready() && set.is_empty(), "it left by itself");
        Ok(())
    });
}

#[test]
fn a_set_that_is_killed_is_empty_and_whoever_was_taken_out_runs_on() {
    passes(|| {
        let set: RunningProcSet<()> = (0..3).map(|_| proc::spawn(|| sleep(LONG))).collect();
        let free = proc::spawn(|| sleep(Duration::from_millis(3)));
        set.add(free.clone());
        assert!(set.discard(&free) && !set.discard(&free));
        set.kill_all_and_wait()?;
        yield_now();
        assert!(set.is_empty());
        free.wait()
    });
}

#[test]
fn a_member_that_waits_for_its_own_set_gets_an_error() {
    passes(|| {
        let set = RunningProcSet::new();
        let own = set.clone();
        let member = set.spawn(move || Ok(own.wait_all().expect_err("it is in it").is::<WaitsForItself>()));
        let outcome: bool = member.wait()?;
        assert!(outcome);
        Ok(())
    });
}

#[test]
fn a_failure_in_a_running_set_is_still_told_when_nobody_looked() {
    // PR-19, D12
    passes(|| {
        let set = RunningProcSet::<()>::new();
        drop(set.spawn(|| Err(Failure::msg("nobody looks"))));
        while !set.is_empty() {
            yield_now();
        }
        let log = logged();
        assert_eq!(log.iter().filter(|line| line.contains("nobody looks")).count(), 1, "{log:?}");
        Ok(())
    });
}

#[test]
fn a_pool_runs_so_many_and_a_slot_is_free_however_its_proc_ends() {
    // PR-34, PR-36
    passes(|| {
        let pool = Pool::new(2);
        let (most, now) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let procs: Vec<_> = (0..10)
            .map(|n| {
                let (most, now) = (Rc::clone(&most), Rc::clone(&now));
                pool.spawn(move || {
                    now.set(now.get() + 1);
                    most.set(most.get().max(now.get()));
                    yield_now();
                    now.set(now.get() - 1);
                    match n % 3 {
                        0 => Ok(n),
                        1 => Err(Failure::msg("failed")),
                        _ => panic!("panicked"),
                    }
                })
            })
            .collect();
        assert_eq!(proc::wait_all_trapped(procs).iter().filter(|outcome| outcome.is_ok()).count(), 4);
        pool.wait_all()?;
        assert_eq!((most.get(), pool.free()), (2, 2));
        let doomed = pool.spawn(|| Ok(0));
        doomed.kill();
        assert!(doomed.wait().expect_err("never ran").is::<Killed>());
        assert_eq!(pool.free(), 2);
        Ok(())
    });
}

#[test]
fn whoever_is_interrupted_while_the_pool_is_full_takes_no_slot() {
    passes(|| {
        let pool = Pool::new(1);
        let busy = pool.spawn(|| sleep(LONG));
        let other = pool.clone();
        let spawner = spawn(move || drop(other.spawn(|| Ok(()))));
        yield_now();
        assert_eq!(pool.waiting(), 1);
        spawner.kill();
        spawner.wait().expect_err("killed");
        pool.kill_all();
        busy.wait().expect_err("killed");
        assert_eq!((pool.free(), pool.waiting()), (1, 0));
        Ok(())
    });
}

#[test]
fn links_for_values_and_for_failures_end_the_caller_for_those_alone() {
    // PR-03, PR-26
    passes(|| {
        let lives = |linked: fn() -> proc::Proc<u32>| {
            spawn(move || {
                let child = linked();
                let _ = child.wait();
                yield_now();
                Ok(())
            })
            .wait()
        };
        fn fails() -> twistlet::Result<u32> {
            Err(Failure::msg("failed"))
        }
        lives(|| proc::spawn_link_value(fails))?;
        lives(|| proc::spawn_link_exception(|| Ok(1)))?;
        let ended = lives(|| proc::spawn_link_value(|| Ok(1))).expect_err("a value ends it");
        assert!(matches!(ended.check(), Some(LinkedExited::Completed { .. })), "{ended}");
        let ended = lives(|| proc::spawn_link_exception(fails)).expect_err("a failure ends it");
        assert!(matches!(ended.check(), Some(LinkedExited::Failed { .. })), "{ended}");
        Ok(())
    });
}

#[test]
fn failures_of_a_kind_can_be_made_values_and_others_stay_failures() {
    // PR-35
    passes(|| {
        let parse = |text: &'static str| move || Ok(text.parse::<u32>()?);
        type Wrapped = std::num::ParseIntError;
        let outcome = proc::spawn(proc::wrap_errors::<Wrapped, _>(parse("x"))).wait()?;
        assert!(outcome.expect_err("no number").is::<Wrapped>());
        assert_eq!(proc::spawn(proc::wrap_errors::<Wrapped, _>(parse("7"))).wait()?, Ok(7));
        let other = proc::spawn(proc::wrap_errors::<Wrapped, u32>(|| Err(Failure::msg("another")))).wait();
        assert!(other.expect_err("of another kind").to_string().contains("another"));
        Ok(())
    });
}
