//! `green::local!`: every green thread has its own values, which end with it.
#![cfg(feature = "green")]
mod guard;
use guard::{Trace, guarded, joined, logged, panic_of};
use std::cell::{Cell, RefCell};
use std::time::Duration;
use twistlet::Reactor;
use twistlet::error::Killed;
use twistlet::green::{Event, Semaphore, local, sleep, spawn, spawn_n, wait_all, yield_now};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(3600);

local! {
    static COUNT: Cell<u32> = const { Cell::new(0) };
    static WORDS: RefCell<Vec<String>> = RefCell::new(vec!["first".to_owned()]);
    static TRACE: Trace = Trace::new();
}

/// Says so when it is dropped.
struct Noted(Trace, &'static str);
impl Drop for Noted {
    fn drop(&mut self) {
        self.0.note(self.1);
    }
}
local! {
    static ONE: RefCell<Option<Noted>> = RefCell::new(None);
    static TWO: RefCell<Option<Noted>> = RefCell::new(None);
}

// CL-01
#[test]
fn every_green_thread_has_its_own_value() {
    guarded(|| {
        COUNT.set(100);
        let threads: Vec<_> = (0..10)
            .map(|n| {
                spawn(move || {
                    assert_eq!(COUNT.get(), 0);
                    for _ in 0..n {
                        COUNT.with(|count| count.set(count.get() + 1));
                        yield_now();
                    }
                    Ok(COUNT.replace(7))
                })
            })
            .collect();
        let counts: Vec<_> = wait_all(threads).into_iter().flatten().collect();
        assert_eq!(counts, (0..10).collect::<Vec<_>>());
        assert_eq!(COUNT.take(), 100);
        // Cells and borrows.
        WORDS.with_borrow_mut(|words| words.push("second".to_owned()));
        assert_eq!(WORDS.with_borrow(Vec::len), 2);
        assert_eq!(spawn(|| Ok(WORDS.take())).wait().expect("its own"), ["first"]);
        WORDS.set(Vec::new());
        assert_eq!(WORDS.replace(vec![]).len(), 0);
        assert_eq!(TRACE.with(Trace::take), Vec::<String>::new());
        assert_eq!(format!("{COUNT:?}"), "LocalKey { .. }");
    });
}

// CL-01: a green thread that gets the memory of another gets none of its values
#[test]
fn values_are_gone_with_their_green_thread() {
    guarded(|| {
        for n in 0..100 {
            let before = spawn(move || Ok(COUNT.replace(n + 1))).wait().expect("a number");
            assert_eq!(before, 0);
            spawn_n(|| COUNT.set(5));
            yield_now();
        }
    });
}

// CL-01
#[test]
fn main_and_the_main_loop_have_their_own_values_and_numbers() {
    guarded(|| {
        COUNT.set(1);
        yield_now(); // the loop has a greenlet of its own from here on
        let (seen, sees) = (Event::new(), Event::new());
        let (first, second) = (seen.clone(), sees.clone());
        let reactor = Reactor::current();
        reactor.call_soon(move || first.send((COUNT.replace(2), local::id())));
        assert_eq!(seen.wait().expect("sent"), (0, 0));
        reactor.call_soon(move || second.send((COUNT.get(), local::id())));
        assert_eq!(sees.wait().expect("sent"), (2, 0));
        assert_eq!((COUNT.get(), local::id()), (1, 1));
        let threads: Vec<_> = (0..3).map(|_| spawn(|| Ok(local::id()))).collect();
        let ids: Vec<_> = wait_all(threads).into_iter().flatten().collect();
        assert!(ids.iter().all(|id| *id > 1) && ids[0] != ids[1]);
    });
    joined(|reactor| {
        COUNT.set(3);
        spawn(move || {
            assert_eq!(COUNT.get(), 0);
            reactor.call_soon(move || {
                assert_eq!((COUNT.get(), local::id()), (3, 0));
                reactor.stop()
            });
        });
    });
}

#[test]
fn values_are_dropped_before_the_outcome_is_known_the_youngest_first() {
    guarded(|| {
        let trace = Trace::new();
        let (noted, hears) = (trace.clone(), trace.clone());
        let thread = spawn(move || {
            ONE.set(Some(Noted(noted.clone(), "one")));
            TWO.set(Some(Noted(noted.clone(), "two")));
            let _frame = noted.on_drop("the body");
            Ok(())
        });
        thread.link(move |_| hears.note("its end"));
        thread.wait().expect("its end");
        assert_eq!(trace.take(), ["the body", "two", "one", "its end"]);
        // Killed, panicking, without a handle.
        let noted = trace.clone();
        let victim = spawn(move || {
            ONE.set(Some(Noted(noted, "of a victim")));
            sleep(LONG);
        });
        yield_now();
        victim.kill();
        assert!(victim.wait().expect_err("killed").is::<Killed>());
        let noted = trace.clone();
        let panics = spawn(move || {
            ONE.set(Some(Noted(noted, "of a panic")));
            assert!(ONE.with_borrow(Option::is_none), "it is there");
        });
        assert!(panics.wait().expect_err("its panic").is_panic());
        let noted = trace.clone();
        spawn_n(move || ONE.set(Some(Noted(noted, "alone"))));
        yield_now();
        assert_eq!(trace.take(), ["of a victim", "of a panic", "alone"]);
    });
}

struct Late(Trace);
impl Drop for Late {
    fn drop(&mut self) {
        let itself = LATE.try_with(|_| ());
        self.0.note(format!("itself: {}", itself.is_err()));
        let text = panic_of(|| LATE.with(|_| ()));
        assert!(text.contains("being dropped already"), "{text}");
        // Another may still be made, and is dropped after.
        let noted = self.0.clone();
        ONE.set(Some(Noted(noted, "made meanwhile")));
        self.0.note(format!("count: {}", COUNT.get()));
    }
}
local! {
    static LATE: RefCell<Option<Late>> = RefCell::new(None);
}

#[test]
fn a_value_that_is_dropped_cannot_be_used_but_others_can() {
    guarded(|| {
        let trace = Trace::new();
        let (noted, linked) = (trace.clone(), trace.clone());
        let thread = spawn(move || {
            COUNT.set(4);
            LATE.set(Some(Late(noted)));
        });
        thread.link(move |_| {
            linked.note(format!("link: {} {}", LATE.try_with(|_| ()).is_err(), TWO.try_with(|_| ()).is_ok()))
        });
        thread.wait().expect("its end");
        assert_eq!(trace.take(), ["itself: true", "count: 4", "made meanwhile", "link: true true"]);
        assert_eq!(logged(), Vec::<String>::new());
    });
}

/// Waits when it is dropped.
struct Waits(Trace);
impl Drop for Waits {
    fn drop(&mut self) {
        self.0.note("waits");
        sleep(SHORT);
        let _permit = Semaphore::new(0).acquire_timeout(SHORT);
        yield_now();
        let event = Event::<()>::new().wait_timeout(SHORT);
        self.0.note(match event {
            Err(failure) if failure.is::<Killed>() => "waited not",
            _ => "waited",
        });
    }
}
local! {
    static WAITS: RefCell<Option<Waits>> = RefCell::new(None);
}

#[test]
fn destructors_may_wait_unless_their_green_thread_was_killed() {
    guarded(|| {
        let trace = Trace::new();
        let noted = trace.clone();
        spawn(move || WAITS.set(Some(Waits(noted)))).wait().expect("its end");
        assert_eq!(trace.take(), ["waits", "waited"]);
        let noted = trace.clone();
        let victim = spawn(move || {
            WAITS.set(Some(Waits(noted)));
            sleep(LONG);
        });
        yield_now();
        victim.kill();
        let _ = victim.wait();
        assert_eq!(trace.take(), ["waits", "waited not"]);
        // The kill comes while it waits.
        let noted = trace.clone();
        let victim = spawn(move || WAITS.set(Some(Waits(noted))));
        yield_now();
        assert_eq!(trace.take(), ["waits"]);
        victim.kill();
        victim.wait().expect("it had its value");
        assert_eq!(trace.take(), ["waited not"]);
        assert_eq!(logged(), Vec::<String>::new());
    });
}

struct Angry;
impl Drop for Angry {
    fn drop(&mut self) {
        panic!("of a local's destructor");
    }
}
local! {
    static ANGRY: RefCell<Option<Angry>> = RefCell::new(None);
    static NEVER: Cell<u32> = panic!("no value for you");
    static ITSELF: Cell<u32> = Cell::new(ITSELF.get() + 1);
}

#[test]
fn panics_of_destructors_are_logged_and_of_initial_expressions_come_out() {
    guarded(|| {
        let trace = Trace::new();
        let noted = trace.clone();
        let thread = spawn(move || {
            ONE.set(Some(Noted(noted, "the other")));
            ANGRY.set(Some(Angry));
            Ok(5)
        });
        assert_eq!(thread.wait().expect("its value"), 5);
        assert_eq!(trace.take(), ["the other"]);
        assert!(logged().iter().any(|line| line.contains("of a local's destructor")));
        for _ in 0..2 {
            assert_eq!(panic_of(|| NEVER.get()), "no value for you");
        }
        assert!(panic_of(|| ITSELF.get()).contains("needs the value itself"));
        assert!(spawn(|| NEVER.set(1)).wait().expect_err("its panic").is_panic());
    });
}

#[test]
fn mains_values_are_dropped_when_the_os_thread_ends() {
    use std::sync::mpsc::{Sender, channel};
    struct Tells(Sender<bool>);
    impl Drop for Tells {
        fn drop(&mut self) {
            // Nothing waits here, and its own value is gone.
            let refused = Event::<()>::new().wait().is_err() && TELLS.try_with(|_| ()).is_err();
            let _ = self.0.send(refused);
        }
    }
    local! {
        static TELLS: RefCell<Option<Tells>> = RefCell::new(None);
    }
    let (tell, told) = channel();
    let main = tell.clone();
    guarded(move || {
        TELLS.set(Some(Tells(main)));
        yield_now();
        let done = Event::new();
        let tell_loop = done.clone();
        Reactor::current().call_soon(move || {
            TELLS.set(Some(Tells(tell)));
            tell_loop.send(());
        });
        done.wait().expect("it was called");
    });
    assert_eq!(told.iter().collect::<Vec<_>>(), [true, true]);
}

#[test]
fn a_greenlet_counts_as_the_green_thread_below_it() {
    use twistlet::greenlet::Greenlet;
    guarded(|| {
        COUNT.set(8);
        let greenlet = Greenlet::new(|_| Ok(Box::new(COUNT.get())));
        assert_eq!(*greenlet.switch(()).expect("it returns").downcast::<u32>().expect("a number"), 8);
        let seen = spawn(|| {
            COUNT.set(9);
            let greenlet = Greenlet::new(|_| Ok(Box::new(COUNT.get())));
            greenlet.switch(())
        });
        let seen = seen.wait().map(|value| value.downcast_ref::<u32>().copied());
        assert_eq!(seen.expect("it returns"), Some(9));
    });
}
