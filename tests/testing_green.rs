//! Green threads in simulations: they sleep, wait and block on simulated time.
#![cfg(feature = "green")]
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use twistlet::error::Deadlock;
use twistlet::green::{block_on, defer_to_green_thread, join_reactor, sleep, spawn};
use twistlet::testing::{AtRest, Network, simulate, simulate_with};
use twistlet::{Deferred, Reactor, Result};

fn hours(n: u64) -> Duration {
    Duration::from_secs(3600 * n)
}

#[test]
fn green_threads_sleep_for_simulated_hours() -> Result {
    let (real, network) = (Instant::now(), Network::new());
    let order = Rc::new(RefCell::new(Vec::new()));
    simulate_with(&network, |reactor, _| {
        join_reactor(reactor)?;
        let mut sleepers = Vec::new();
        for n in [3, 1, 2] {
            let order = Rc::clone(&order);
            sleepers.push(defer_to_green_thread(move || {
                sleep(hours(n));
                order.borrow_mut().push(n);
            }));
        }
        Ok(twistlet::deferred::gather_results(sleepers))
    })?;
    assert_eq!(*order.borrow(), [1, 2, 3]);
    assert_eq!(network.elapsed(), hours(3));
    assert!(real.elapsed() < Duration::from_secs(5));
    Ok(())
}

#[test]
fn blocking_on_the_main_stack_runs_the_simulation() -> Result {
    let network = Network::new();
    let slept = simulate_with(&network, |_, network| {
        sleep(hours(1));
        let network = network.clone();
        let sleeper = spawn(move || {
            sleep(hours(1));
            Ok(network.elapsed())
        });
        Ok(Deferred::succeed(sleeper.wait()?))
    })?;
    assert_eq!(slept, hours(2));
    Ok(())
}

#[test]
fn a_wait_that_nothing_in_the_simulation_can_end_is_a_deadlock() -> Result {
    simulate(|reactor, _| {
        // A listener alone wakes nobody: nothing outside of the simulation connects to it.
        struct Deaf;
        impl twistlet::Protocol for Deaf {
            fn data_received(&mut self, _: twistlet::TransportRef, _: &[u8]) {}
        }
        reactor.listen_tcp("127.0.0.1:0", || Deaf)?;
        let (promise, never) = Deferred::<()>::new();
        let waited = block_on(never);
        assert!(waited.unwrap_err().is::<Deadlock>());
        drop(promise);
        Ok(())
    })
}

#[test]
fn a_green_thread_left_waiting_ends_with_the_simulation() {
    let witness = Rc::new(());
    let kept = Rc::clone(&witness);
    let (promise, never) = Deferred::<()>::new();
    let outcome = simulate(|reactor, _| {
        join_reactor(reactor)?;
        Ok(defer_to_green_thread(move || {
            let kept = kept;
            let outcome = block_on(never);
            drop(kept);
            outcome
        }))
    });
    assert_eq!(outcome.unwrap_err().check(), Some(&AtRest));
    assert_eq!(Rc::strong_count(&witness), 1);
    drop(promise);
}

#[test]
fn green_threads_that_are_left_are_named_with_the_line_that_spawned_them() {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use twistlet::testing::{Leftovers, NoLeftovers};
    let reactor = Reactor::new().unwrap();
    let tidy = NoLeftovers::watch(&reactor);
    let line = line!() + 1;
    let left = spawn(|| sleep(Duration::from_secs(3600)));
    sleep(Duration::from_millis(1));
    let said =
        twistlet::Failure::from_panic(catch_unwind(AssertUnwindSafe(move || drop(tidy))).unwrap_err()).to_string();
    assert!(said.contains(&format!("spawned at tests/testing_green.rs:{line}:")), "{said}");
    assert!(said.contains("a delayed call made at tests/testing_green.rs"), "{said}");
    left.kill();
    let _ = left.wait();
    assert!(Leftovers::of(&reactor).is_empty(), "{}", Leftovers::of(&reactor));
    reactor.close();
}
