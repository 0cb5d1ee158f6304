//! `pools::Pool`, `conn_pool::ConnPool` and `dag_pool::DagPool`: things that are lent, and jobs that wait for each other.
#![cfg(feature = "green")]
mod guard;
use guard::{Trace, guarded, in_callback, logged, panic_of};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::{Duration, Instant};
use twistlet::error::{Deadlock, Killed};
use twistlet::green::conn_pool::{ConnPool, ConnectTimeout, Connection};
use twistlet::green::dag_pool::{Collision, DagPool, PropagateError, Values};
use twistlet::green::pools::{Item, Order, Pool};
use twistlet::green::{Event, join_reactor, sleep, spawn, wait_all, with_timeout, yield_now};
use twistlet::testing::{Network, flush_logged_failures, simulate_with};
use twistlet::{Deferred, Failure, Reactor, Result, TimedOut};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(3600);

/// A pool of numbers in the order of their making.
fn numbers(max: usize) -> (Pool<u32>, Rc<Cell<u32>>) {
    let made = Rc::new(Cell::new(0));
    let counts = made.clone();
    let pool = Pool::new(0, max, move || {
        counts.set(counts.get() + 1);
        Ok(counts.get())
    });
    (pool.expect("nothing is made yet"), made)
}

// ---- Pool ----

// PTC-14, PL-01, PL-02
#[test]
fn with_all_items_out_a_getter_waits_for_the_next_that_is_put_back() {
    guarded(|| {
        let (pool, made) = numbers(4);
        assert_eq!((pool.free(), pool.len(), pool.max(), made.get()), (4, 0, 4, 0));
        let mut out: Vec<_> = (0..4).map(|_| pool.get().expect("made")).collect();
        assert_eq!((pool.free(), pool.waiting(), made.get()), (0, 0, 4));
        assert!(pool.try_get().is_none());
        let wants = pool.clone();
        let getter = spawn(move || wants.get().map(|item| *item));
        yield_now();
        assert_eq!(pool.waiting(), 1);
        let third = out.remove(2);
        drop(third);
        // It is the getter's already.
        assert!(pool.try_get().is_none());
        assert_eq!((pool.free(), pool.waiting()), (0, 0));
        assert_eq!(getter.wait().expect("an item"), 3);
        assert_eq!((pool.free(), made.get()), (1, 4));
    });
}

// PTC-15, PL-01
#[test]
fn items_are_used_in_turn_or_the_last_first() {
    guarded(|| {
        let (pool, _) = numbers(3);
        let use_two = |pool: &Pool<u32>| {
            let (one, two) = (pool.get().expect("one"), pool.get().expect("two"));
            let numbers = (*one, *two);
            drop(one);
            drop(two);
            numbers
        };
        assert_eq!(use_two(&pool), (1, 2));
        assert_eq!(use_two(&pool), (1, 2));
        pool.set_order(Order::Stack);
        let (one, two) = (pool.get().expect("one"), pool.get().expect("two"));
        drop(one);
        drop(two);
        assert_eq!(use_two(&pool), (2, 1));
    });
}

// PTC-16, PL-03
#[test]
fn a_hundred_users_have_four_items_made_though_making_one_waits() {
    guarded(|| {
        let made = Rc::new(Cell::new(0));
        let counts = made.clone();
        let pool = Pool::new(0, 4, move || {
            sleep(Duration::from_micros(100));
            counts.set(counts.get() + 1);
            Deferred::succeed(counts.get())
        });
        let pool = pool.expect("nothing is made yet");
        let users: Vec<_> = (0..100)
            .map(|_| {
                let pool = pool.clone();
                spawn(move || {
                    let _item = pool.get()?;
                    yield_now();
                    Ok(())
                })
            })
            .collect();
        assert!(wait_all(users).iter().all(Result::is_ok));
        assert_eq!((made.get(), pool.free(), pool.len()), (4, 4, 4));
    });
}

// PTC-17, PL-04, G9
#[test]
fn an_item_that_comes_after_the_getters_were_killed_is_free() {
    guarded(|| {
        let (pool, _) = numbers(1);
        let item = pool.get().expect("made");
        let getters: Vec<_> = (0..5)
            .map(|_| {
                let pool = pool.clone();
                spawn(move || pool.get().map(|item| *item))
            })
            .collect();
        yield_now();
        assert_eq!(pool.waiting(), 5);
        getters.iter().for_each(|getter| getter.kill());
        assert_eq!(pool.waiting(), 0);
        drop(item);
        assert_eq!(pool.free(), 1);
        for getter in getters {
            assert!(getter.wait().expect_err("killed").is::<Killed>());
        }
        assert_eq!(*pool.get().expect("it is free"), 1);
        // Late ones.
        let item = pool.get().expect("it");
        assert!(pool.get_timeout(SHORT).expect_err("late").is::<TimedOut>());
        assert!(pool.get_timeout(Duration::ZERO).expect_err("late").is::<TimedOut>());
        assert!(with_timeout(SHORT, || pool.get()).is_err());
        drop(item);
        assert_eq!((pool.free(), *pool.get_timeout(SHORT).expect("it")), (1, 1));
    });
}

// G9
#[test]
fn a_getter_that_was_promised_an_item_before_its_kill_gives_it_back() {
    guarded(|| {
        let (pool, _) = numbers(1);
        let item = pool.get().expect("made");
        let wants = pool.clone();
        let getter = spawn(move || {
            let _item = wants.get()?;
            yield_now();
            Ok(())
        });
        yield_now();
        drop(item);
        getter.kill();
        assert_eq!(pool.free(), 0);
        assert!(getter.wait().expect_err("killed").is::<Killed>());
        assert_eq!((pool.free(), pool.len()), (1, 1));
    });
}

// PTC-18, PL-03
#[test]
fn what_is_not_made_takes_no_place() {
    guarded(|| {
        let how = Rc::new(Cell::new(0));
        let way = how.clone();
        let pool = Pool::new(0, 1, move || match way.get() {
            0 => Err(Failure::msg("no more of these")),
            1 => panic!("in create"),
            2 => {
                sleep(LONG);
                Ok(0)
            }
            n => Ok(n),
        });
        let pool = pool.expect("nothing is made yet");
        assert_eq!(pool.get().expect_err("it fails").to_string(), "no more of these");
        assert_eq!((pool.free(), pool.len()), (1, 0));
        how.set(1);
        assert_eq!(panic_of(|| pool.get()), "in create");
        assert_eq!(pool.free(), 1);
        how.set(2);
        let wants = pool.clone();
        let maker = spawn(move || wants.get().map(|item| *item));
        yield_now();
        assert_eq!(pool.free(), 0);
        // One who waits gets the leave to make one when the maker goes.
        let wants = pool.clone();
        let next = spawn(move || wants.get().map(|item| *item));
        yield_now();
        assert_eq!(pool.waiting(), 1);
        how.set(3);
        maker.kill();
        assert_eq!(next.wait().expect("made"), 3);
        assert_eq!((pool.free(), pool.len()), (1, 1));
        assert!(Pool::<u32>::new(2, 4, || Err(Failure::msg("none at all"))).is_err());
        assert_eq!(Pool::new(2, 4, || Ok(1)).expect("two").len(), 2);
        assert_eq!(Pool::new(3, 2, || Ok(1)).expect("two").len(), 2);
    });
}

// PL-02
#[test]
fn an_item_goes_back_on_every_way_out_unless_it_is_thrown_away() {
    guarded(|| {
        let (pool, made) = numbers(1);
        let wants = pool.clone();
        let panicked = spawn(move || {
            let _item = wants.get()?;
            if true {
                panic!("with an item");
            }
            Ok(())
        });
        assert!(panicked.wait().expect_err("its panic").is_panic());
        let wants = pool.clone();
        let victim = spawn(move || {
            let _item = wants.get()?;
            sleep(LONG);
            Ok(())
        });
        yield_now();
        assert_eq!(pool.free(), 0);
        victim.kill();
        let _ = victim.wait();
        let mut item = pool.get().expect("it came back");
        assert_eq!((*item, made.get(), format!("{item:?}")), (1, 1, "Item(1)".to_owned()));
        *item = 10;
        drop(item);
        let item = pool.get().expect("as it was left");
        // A getter is given leave to make one in its place.
        let wants = pool.clone();
        let getter = spawn(move || wants.get().map(|item| *item));
        yield_now();
        assert_eq!(Item::discard(item), 10);
        assert_eq!(getter.wait().expect("another"), 2);
        assert_eq!((pool.len(), pool.free()), (1, 1));
    });
}

// PL-01
#[test]
fn items_from_elsewhere_are_taken_while_there_is_room() {
    guarded(|| {
        let (pool, _) = numbers(1);
        assert_eq!(pool.put(7), Ok(()));
        assert_eq!(pool.put(8), Err(8));
        let item = pool.get().expect("it");
        assert_eq!(*item, 7);
        let wants = pool.clone();
        let getter = spawn(move || wants.get().map(|item| *item));
        yield_now();
        pool.resize(2);
        assert_eq!(pool.put(9), Ok(()));
        assert_eq!(getter.wait().expect("leave or item"), 9);
        assert_eq!(pool.len(), 2);
    });
}

// PL-02
#[test]
fn made_smaller_it_drops_what_comes_back() {
    guarded(|| {
        let (pool, trace) = (Pool::new(0, 2, || Ok(Trace::new())).expect("empty"), Trace::new());
        let items = (pool.get().expect("one"), pool.get().expect("two"));
        pool.resize(1);
        assert_eq!((pool.free(), pool.len()), (0, 2));
        drop(items.0);
        assert_eq!((pool.free(), pool.len()), (0, 1));
        drop(items.1);
        assert_eq!((pool.free(), pool.len()), (1, 1));
        // A getter that was promised a place that is no more waits on.
        let item = pool.get().expect("it");
        let (wants, noted) = (pool.clone(), trace.clone());
        let getter = spawn(move || {
            let _item = wants.get()?;
            noted.note("got");
            Ok(())
        });
        yield_now();
        pool.resize(2);
        pool.resize(1);
        yield_now();
        assert_eq!((trace.take(), pool.waiting()), (vec![], 1));
        drop(item);
        getter.wait().expect("its turn");
        assert_eq!((trace.take(), pool.len(), pool.free()), (vec!["got".to_owned()], 1, 1));
    });
}

#[test]
fn a_pool_knows_deadlocks_and_callbacks() {
    guarded(|| {
        let (pool, _) = numbers(1);
        let item = pool.get().expect("made");
        assert!(pool.get().expect_err("nobody gives one back").is::<Deadlock>());
        drop(item);
        assert!(format!("{pool:?}").contains("free: 1"));
    });
    let (taken, text) = in_callback(|| {
        let (pool, _) = numbers(1);
        let one = pool.get().map(|item| *item);
        let _item = pool.try_get();
        (one.is_ok(), panic_of(|| pool.get()))
    });
    assert!(taken && text.contains("a blocking call in the main loop"), "{text}");
}

#[derive(Clone, Debug)]
enum Step {
    Use { yields: u8, end: u8 },
    Kill(u8),
    Resize(u8),
    Put,
    Yield,
}
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..4u8, 0..6u8).prop_map(|(yields, end)| Step::Use { yields, end }),
        3 => any::<u8>().prop_map(Step::Kill),
        1 => (0..4u8).prop_map(Step::Resize),
        1 => Just(Step::Put),
        2 => Just(Step::Yield),
    ];
    proptest::collection::vec(step, 1..40)
}
proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn no_item_and_no_place_is_lost_however_users_end(steps in steps()) {
        guarded(move || {
            let (alive, turn) = (Rc::new(Cell::new(0usize)), Rc::new(Cell::new(0)));
            struct Thing(Rc<Cell<usize>>);
            impl Thing {
                fn new(alive: &Rc<Cell<usize>>) -> Thing {
                    alive.set(alive.get() + 1);
                    Thing(alive.clone())
                }
            }
            impl Drop for Thing {
                fn drop(&mut self) {
                    self.0.set(self.0.get() - 1);
                }
            }
            let (counts, turns) = (alive.clone(), turn.clone());
            let pool = Pool::new(0, 2, move || {
                turns.set(turns.get() + 1);
                match turns.get() % 4 {
                    0 => Err(Failure::msg("not this time")),
                    1 => {
                        yield_now();
                        Ok(Thing::new(&counts))
                    }
                    _ => Ok(Thing::new(&counts)),
                }
            })
            .expect("empty");
            let mut users = Vec::new();
            for step in steps {
                match step {
                    Step::Use { yields, end } => {
                        let pool = pool.clone();
                        users.push(spawn(move || {
                            let item = if end == 5 { pool.get_timeout(Duration::from_micros(20))? } else { pool.get()? };
                            (0..yields).for_each(|_| yield_now());
                            match end {
                                0 => drop(Item::discard(item)),
                                1 => panic!("with an item"),
                                _ => drop(item),
                            }
                            Ok(())
                        }));
                    }
                    Step::Kill(n) if !users.is_empty() => users[usize::from(n) % users.len()].kill(),
                    Step::Resize(max) => pool.resize(max.into()),
                    Step::Put => drop(pool.put(Thing::new(&alive))),
                    _ => yield_now(),
                }
            }
            pool.resize(2);
            for user in users {
                let _ = user.wait();
            }
            assert_eq!((pool.free(), pool.waiting()), (2.max(pool.len()), 0));
            assert_eq!(alive.get(), pool.len());
            drop(pool);
            assert_eq!(alive.get(), 0);
        });
    }
}

// ---- ConnPool ----

/// A connection that notes its end.
struct Wire(u32, Trace);
impl Drop for Wire {
    fn drop(&mut self) {
        self.1.note(format!("{} closed", self.0));
    }
}
/// A maker of wires.
fn wires(trace: &Trace) -> impl Fn() -> Result<Wire> + 'static {
    let (made, trace) = (Cell::new(0), trace.clone());
    move || {
        made.set(made.get() + 1);
        Ok(Wire(made.get(), trace.clone()))
    }
}
/// Runs `test` on simulated time, in a green thread.
fn simulated(test: impl FnOnce(&Network) -> Result<()> + Send + 'static) {
    guarded(|| {
        let network = Network::new();
        simulate_with(&network, |reactor, network| {
            join_reactor(reactor)?;
            let network = network.clone();
            Ok(twistlet::green::defer_to_green_thread(move || test(&network)))
        })
        .expect("it ends well");
    });
}

// DB-01, DB-02
#[test]
fn the_connection_given_back_last_is_lent_next() {
    simulated(|_| {
        let trace = Trace::new();
        let pool = ConnPool::builder(wires(&trace)).max_size(2).build();
        let (one, two) = (pool.get()?, pool.get()?);
        assert_eq!((one.0, two.0, pool.len(), pool.free()), (1, 2, 2, 0));
        drop(one);
        drop(two);
        assert_eq!(pool.get()?.0, 2);
        let both = (pool.get()?, pool.get()?);
        assert_eq!((both.0.0, both.1.0), (2, 1));
        assert!(pool.get_timeout(SHORT).is_err_and(|late| late.is::<TimedOut>()));
        let wants = pool.clone();
        let getter = spawn(move || wants.get().map(|wire| wire.0));
        yield_now();
        assert_eq!(pool.waiting(), 1);
        drop(both);
        // One of them is promised; it is the last that is taken.
        assert_eq!(getter.wait()?, 1);
        assert_eq!(trace.take(), Vec::<String>::new());
        Ok(())
    });
}

// DB-01
#[test]
fn idle_and_old_connections_are_thrown_away_by_a_timer() {
    simulated(|network| {
        let trace = Trace::new();
        let seconds = Duration::from_secs;
        let pool = ConnPool::builder(wires(&trace)).max_idle(seconds(10)).max_age(seconds(30)).build();
        let (one, two) = (pool.get()?, pool.get()?);
        drop(one);
        sleep(seconds(6));
        drop(two);
        assert_eq!(Reactor::current().statistics().timers, 1);
        sleep(seconds(5));
        assert_eq!((trace.take(), pool.len()), (vec!["1 closed".to_owned()], 1));
        sleep(seconds(4));
        assert_eq!(pool.get()?.0, 2);
        sleep(seconds(11));
        assert_eq!((trace.take(), pool.len()), (vec!["2 closed".to_owned()], 0));
        assert_eq!(Reactor::current().statistics().timers, 0);
        // Age: in use it is left alone, given back it goes.
        let three = pool.get()?;
        sleep(seconds(31));
        assert_eq!(Connection::age(&three), seconds(31));
        drop(three);
        assert_eq!((trace.take(), pool.len()), (vec!["3 closed".to_owned()], 0));
        // And idle, though it is used now and then.
        let began = network.elapsed();
        assert_eq!(pool.get()?.0, 4);
        for _ in 0..4 {
            sleep(seconds(7));
            drop(pool.get()?);
        }
        assert_eq!(trace.take(), Vec::<String>::new());
        sleep(seconds(3));
        assert_eq!((trace.take(), network.elapsed() - began), (vec!["4 closed".to_owned()], seconds(31)));
        // The sooner end of one given back later.
        let old = pool.get()?;
        sleep(seconds(25));
        let young = pool.get()?;
        drop(young);
        drop(old);
        sleep(seconds(6));
        assert_eq!(trace.take(), ["5 closed"]);
        Ok(())
    });
}

// DB-01
#[test]
fn with_no_time_to_be_idle_or_to_grow_old_none_is_used_twice() {
    simulated(|_| {
        for age in [true, false] {
            let trace = Trace::new();
            let pool = ConnPool::builder(wires(&trace));
            let pool = if age { pool.max_age(Duration::ZERO) } else { pool.max_idle(Duration::ZERO) }.build();
            for n in 1..=2 {
                assert_eq!(pool.get()?.0, n);
                assert_eq!(trace.take(), [format!("{n} closed")]);
            }
            let endless = ConnPool::builder(wires(&trace)).max_age(Duration::MAX).max_idle(Duration::MAX);
            let endless = endless.connect_timeout(Duration::MAX).build();
            drop(endless.get()?);
            sleep(Duration::from_secs(1 << 30));
            assert_eq!(endless.get()?.0, 1);
            assert_eq!(Reactor::current().statistics().timers, 0);
        }
        Ok(())
    });
}

// DB-01
#[test]
fn connecting_too_long_is_an_error_of_its_own() {
    simulated(|network| {
        let slow = Rc::new(Cell::new(true));
        let how = slow.clone();
        let pool = ConnPool::builder(move || {
            if how.get() {
                sleep(LONG);
            }
            Ok(1)
        });
        let pool = pool.max_size(1).build();
        let failure = pool.get().expect_err("too long");
        assert_eq!(failure.check(), Some(&ConnectTimeout(TimedOut(Duration::from_secs(5)))));
        assert_eq!((failure.kind(), network.elapsed()), (std::io::ErrorKind::TimedOut, Duration::from_secs(5)));
        assert!(failure.to_string().contains("connect_timeout"), "{failure}");
        assert_eq!((pool.free(), pool.len()), (1, 0));
        slow.set(false);
        assert_eq!(*pool.get()?, 1);
        // A deadline of the caller's own is another thing.
        slow.set(true);
        pool.clear();
        assert!(with_timeout(SHORT, || pool.get()).is_err());
        assert_eq!(pool.free(), 1);
        Ok(())
    });
}

// DB-03
#[test]
fn a_connection_is_cleaned_before_it_is_used_again_or_thrown_away() {
    simulated(|_| {
        let (trace, how) = (Trace::new(), Rc::new(Cell::new(0)));
        let (noted, way) = (trace.clone(), how.clone());
        let pool = ConnPool::builder(wires(&trace)).max_size(1).cleanup(move |wire: &mut Wire| {
            noted.note(format!("clean {}", wire.0));
            match way.get() {
                0 => Ok(()),
                1 => Err(Failure::msg("cannot roll back")),
                2 => panic!("in the cleanup"),
                _ => {
                    sleep(LONG);
                    Ok(())
                }
            }
        });
        let pool = pool.build();
        drop(pool.get()?);
        assert_eq!(trace.take(), Vec::<String>::new());
        assert_eq!((pool.get()?.0, trace.take()), (1, vec!["clean 1".to_owned()]));
        how.set(1);
        assert_eq!(pool.get()?.0, 2);
        assert_eq!(trace.take(), ["clean 1", "1 closed"]);
        how.set(2);
        assert_eq!(pool.get()?.0, 3);
        assert_eq!(trace.take(), ["clean 2", "2 closed"]);
        let log = logged().join("\n");
        assert!(log.contains("cannot roll back") && log.contains("in the cleanup"), "{log}");
        assert_eq!(flush_logged_failures().len(), 2);
        // Left in the middle of a cleanup.
        how.set(3);
        assert!(with_timeout(SHORT, || pool.get()).is_err());
        assert_eq!((trace.take(), pool.len()), (vec!["clean 3".to_owned(), "3 closed".to_owned()], 0));
        drop(pool.get()?);
        let wants = pool.clone();
        let victim = spawn(move || wants.get().map(drop));
        yield_now();
        victim.kill();
        assert!(victim.wait().is_err_and(|failure| failure.is::<Killed>()));
        assert_eq!((trace.take(), pool.free()), (vec!["clean 4".to_owned(), "4 closed".to_owned()], 1));
        Ok(())
    });
}

// DB-02, DB-04
#[test]
fn broken_ones_are_discarded_and_free_ones_cleared() {
    simulated(|_| {
        let trace = Trace::new();
        let pool = ConnPool::builder(wires(&trace)).max_size(2).build();
        let (one, two) = (pool.get()?, pool.get()?);
        let wants = pool.clone();
        let getter = spawn(move || wants.get().map(|wire| wire.0));
        yield_now();
        drop(Connection::discard(one));
        assert_eq!((getter.wait()?, trace.take()), (3, vec!["1 closed".to_owned()]));
        pool.clear();
        assert_eq!((trace.take(), pool.len(), pool.free()), (vec!["3 closed".to_owned()], 1, 1));
        assert_eq!(Reactor::current().statistics().timers, 0);
        drop(two);
        pool.resize(0);
        assert_eq!(pool.get()?.0, 2);
        assert_eq!((trace.take(), pool.is_empty()), (vec!["2 closed".to_owned()], true));
        pool.resize(1);
        drop(pool.get()?);
        drop(pool);
        assert_eq!((trace.take(), Reactor::current().statistics().timers), (vec!["4 closed".to_owned()], 0));
        Ok(())
    });
}

#[test]
fn destructors_of_connections_may_wait_and_may_panic() {
    simulated(|_| {
        struct Polite(Trace, bool);
        impl Drop for Polite {
            fn drop(&mut self) {
                assert!(self.1, "of a connection");
                self.0.note("goodbye");
                sleep(SHORT);
                self.0.note("gone");
            }
        }
        let (trace, polite) = (Trace::new(), Rc::new(Cell::new(true)));
        let (noted, how) = (trace.clone(), polite.clone());
        let pool = ConnPool::builder(move || Ok(Polite(noted.clone(), how.get()))).build();
        drop(pool.get()?);
        sleep(Duration::from_secs(11));
        assert_eq!((trace.take(), pool.len()), (vec!["goodbye".to_owned(), "gone".to_owned()], 0));
        polite.set(false);
        let both = (pool.get()?, pool.get()?);
        drop(both.0);
        sleep(Duration::from_secs(11));
        assert_eq!(pool.len(), 1);
        drop(both.1);
        pool.clear();
        assert_eq!(pool.len(), 0);
        assert_eq!(logged().iter().filter(|line| line.contains("of a connection")).count(), 2);
        assert_eq!(flush_logged_failures().len(), 2);
        Ok(())
    });
}

// D8: the timer counts for nothing
#[test]
fn an_idle_connection_hides_no_deadlock() {
    guarded(|| {
        let began = Instant::now();
        let pool = ConnPool::builder(|| Ok(1)).build();
        drop(pool.get().expect("one"));
        assert_eq!(Reactor::current().statistics().timers, 1);
        let failure = Event::<()>::new().wait().expect_err("nobody sends");
        assert!(failure.is::<Deadlock>());
        // Another timer does count.
        assert!(Event::<()>::new().wait_timeout(SHORT).expect_err("late").is::<TimedOut>());
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(*pool.get().expect("it"), 1);
    });
}

#[test]
fn the_timer_works_in_real_time_too() {
    guarded(|| {
        let trace = Trace::new();
        let pool = ConnPool::builder(wires(&trace)).max_idle(SHORT).build();
        drop(pool.get().expect("one"));
        sleep(SHORT * 3);
        assert_eq!(trace.take(), ["1 closed"]);
        drop(pool.get().expect("two"));
        Reactor::current().close();
        assert_eq!(pool.len(), 1);
        drop(pool);
        assert_eq!(trace.take(), ["2 closed"]);
    });
}

// ---- DagPool ----

fn sum(values: Values<&'static str, i32>) -> Result<i32> {
    values.map(|pair| Ok(pair?.1)).sum()
}

// GP-14
#[test]
fn jobs_take_the_values_of_others_as_they_come() {
    guarded(|| {
        let (pool, trace) = (DagPool::new(), Trace::new());
        let noted = trace.clone();
        let total = pool.spawn("d", ["a", "b", "c"], move |values| {
            noted.note("begins");
            let mut total = 0;
            for pair in values {
                let (key, value) = pair?;
                noted.note(key);
                total += value;
            }
            Ok(total)
        });
        total.expect("a new key");
        yield_now();
        assert_eq!(trace.take(), ["begins"]);
        assert_eq!((pool.running(), pool.waiting()), (1, 1));
        assert_eq!(pool.waiting_for(&"d"), HashSet::from(["a", "b", "c"]));
        pool.post("b", 20).expect("a new key");
        yield_now();
        assert_eq!((trace.take(), pool.waiting_for(&"d").len()), (vec!["b".to_owned()], 2));
        pool.spawn("a", [], |_| {
            sleep(SHORT);
            Ok(1)
        })
        .expect("a new key");
        pool.spawn("c", ["a"], sum).expect("a new key");
        assert_eq!(pool.get("d").expect("a sum"), 22);
        assert_eq!(trace.take(), ["a", "c"]);
        assert_eq!((pool.running(), pool.waiting(), pool.running_keys()), (0, 0, vec![]));
        assert_eq!(pool.wait(["a", "b"]).expect("both"), HashMap::from([("a", 1), ("b", 20)]));
        assert_eq!(pool.wait_all().expect("all").len(), 4);
        assert_eq!(pool.items().len(), 4);
        assert!(pool.waiting_for(&"unknown").is_empty());
        assert!(format!("{pool:?}").contains("results: 4"));
    });
}

// GP-14
#[test]
fn a_key_is_given_once() {
    guarded(|| {
        let pool = DagPool::new();
        pool.post("a", 1).expect("a new key");
        pool.spawn("b", ["never"], sum).expect("a new key");
        let taken = |key: &str| Err(Collision { key: format!("{key:?}") });
        assert_eq!(pool.post("a", 2), taken("a"));
        assert_eq!(pool.post("b", 2), taken("b"));
        assert_eq!(pool.spawn("a", [], |_| Ok(1)), taken("a"));
        assert_eq!(pool.spawn("b", [], |_| Ok(1)), taken("b"));
        assert_eq!(pool.replace("b", 1), taken("b"));
        assert_eq!(pool.replace("a", 3), Ok(()));
        assert_eq!(pool.get("a").expect("the new one"), 3);
        assert!(pool.get("b").expect_err("nobody gives it").is::<Deadlock>());
        assert!(pool.kill(&"b") && !pool.kill(&"a") && !pool.kill(&"c"));
        yield_now();
        assert_eq!(pool.replace("b", 4), Ok(()));
        assert_eq!(pool.get("b").expect("replaced"), 4);
    });
}

// GP-14
#[test]
fn failures_pass_on_to_who_needs_the_value() {
    guarded(|| {
        let pool = DagPool::new();
        pool.spawn("c", ["b"], sum).expect("a new key");
        pool.spawn("b", ["a", "x"], sum).expect("a new key");
        pool.spawn("a", [], |_| Err(Failure::msg("no a"))).expect("a new key");
        let failure = pool.get("c").expect_err("it fails");
        let error: &PropagateError = failure.check().expect("a PropagateError");
        assert_eq!(error.key, "\"c\"");
        let error: &PropagateError = error.cause.check().expect("of b");
        assert_eq!(error.key, "\"b\"");
        let error: &PropagateError = error.cause.check().expect("of a");
        assert_eq!((&*error.key, error.cause.to_string()), ("\"a\"", "no a".to_owned()));
        assert!(failure.to_string().contains("no a"), "{failure}");
        assert!(pool.wait(["a"]).is_err() && pool.items().is_empty());
        // One that does not mind.
        pool.spawn("d", ["a", "b"], |values| Ok(values.filter(Result::is_err).count() as i32)).expect("a new key");
        assert_eq!(pool.get("d").expect("two"), 2);
        // Panics, kills, also before it began.
        pool.spawn("panics", [], |_| if true { panic!("of a job") } else { Ok(1) }).expect("a new key");
        let failure = pool.get("panics").expect_err("it panics");
        assert!(failure.check::<PropagateError>().expect("it").cause.is_panic());
        for begun in [false, true] {
            let key = if begun { "begun" } else { "unbegun" };
            pool.spawn(key, ["never"], sum).expect("a new key");
            if begun {
                yield_now();
            }
            assert!(pool.kill(&key));
            let failure = pool.get(key).expect_err("killed");
            assert!(failure.check::<PropagateError>().expect("it").cause.is::<Killed>());
        }
        assert_eq!((pool.running(), pool.waiting()), (0, 0));
        assert_eq!(logged(), Vec::<String>::new());
    });
}

// GP-14
#[test]
fn who_stops_waiting_leaves_nothing_behind() {
    guarded(|| {
        struct Noted(#[allow(dead_code)] Rc<()>);
        let (pool, token) = (DagPool::<u32, Rc<RefCell<Noted>>>::new(), Rc::new(()));
        for n in 0..100 {
            let mut values = pool.wait_each([n, n + 1]);
            assert!(with_timeout(Duration::from_micros(10), || values.next()).is_err());
        }
        assert!(with_timeout(SHORT, || pool.get(7)).is_err());
        pool.post(7, Rc::new(RefCell::new(Noted(token.clone())))).expect("a new key");
        assert_eq!(Rc::strong_count(&token), 2);
        let held = token.clone();
        pool.spawn(8, [9], move |values| {
            let _held = held;
            values.map(|pair| pair.map(|(_, value)| value)).next().expect("one")
        })
        .expect("a new key");
        yield_now();
        pool.kill(&8);
        assert!(pool.get(8).is_err());
        drop(pool);
        assert_eq!(Rc::strong_count(&token), 1);
    });
}

// GP-14
#[test]
fn a_thousand_jobs_in_a_chain_and_a_thousand_on_one() {
    guarded(|| {
        let pool = DagPool::new();
        for n in (1..1000u32).rev() {
            pool.spawn(n, [n - 1], |mut values| values.next().expect("one").map(|(_, value)| value + 1)).expect("new");
        }
        pool.post(0, 0).expect("a new key");
        pool.spawn(1000, 0..1000, |values| values.map(|pair| Ok(pair?.1)).sum::<Result<u32>>()).expect("a new key");
        assert_eq!(pool.get(1000).expect("a sum"), 999 * 1000 / 2);
    });
}
