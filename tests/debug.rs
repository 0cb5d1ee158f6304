//! Seeing inside: lists, trees, timers, descriptors, figures, switches of the log, reports on a signal.
#![cfg(feature = "green")]
mod guard;

use guard::{guarded, joined, logged};
use std::cell::{Cell, RefCell};
use std::io::Read;
use std::panic::Location;
use std::rc::Rc;
use std::time::{Duration, Instant};
use twistlet::error::Deadlock;
use twistlet::green::debug::{self, Spawner, State};
use twistlet::green::net::{TcpListener, TcpStream};
use twistlet::green::{Builder, Event, Queue, join_reactor, sleep, spawn, spawn_after, spawn_n, yield_now};
use twistlet::{Deferred, Failure, Protocol, Reactor, TransportRef};

const LONG: Duration = Duration::from_secs(60);

#[track_caller]
fn here() -> &'static Location<'static> {
    Location::caller()
}

// DG-01, UA-01, UA-06, RS-30
#[test]
fn the_list_says_who_waits_for_what_where_since_when_and_who_spawned_whom() {
    guarded(|| {
        let event = Event::<()>::new();
        let mine = event.clone();
        let (spawned, waits) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(None)));
        let (place, other) = (spawned.clone(), waits.clone());
        let parent = Builder::default().name("parent").stack_size(128 * 1024).spawn(move || {
            let child = spawn(move || {
                other.set(Some(here()));
                mine.wait()
            });
            place.set(Some(here()));
            child.wait()
        });
        let delayed = spawn_after(LONG, || ());
        let before = Instant::now();
        sleep(Duration::from_millis(30));
        let all = debug::green_threads();
        let [main, first, later, child] = &all[..] else { panic!("{all:?}") };
        assert!(main.is_main() && main.state == State::Running && main.spawned_at.is_none(), "{main:?}");
        assert_eq!(first.name.as_deref(), Some("parent"));
        assert_eq!(first.spawned_by, Spawner::Main);
        assert_eq!(first.stack_size, Some(128 * 1024));
        assert!(first.stack_used.is_some_and(|used| used > 200 && used < 64 * 1024), "{first:?}");
        assert!(matches!(first.state, State::Parked { reason: "a green thread", .. }));
        assert_eq!(later.state, State::Pending);
        assert!(later.starts_in.is_some_and(|left| left > LONG / 2 && left <= LONG));
        assert_eq!(child.spawned_by, Spawner::GreenThread(first.id));
        let State::Parked { reason, at } = child.state else { panic!("{child:?}") };
        assert_eq!((reason, at.line()), ("an Event", waits.take().unwrap().line() + 1));
        let age = child.age.unwrap();
        assert!(age >= Duration::from_millis(25) && age <= before.elapsed() + Duration::from_millis(20), "{age:?}");
        assert_eq!(child.spawned_at.unwrap().line(), spawned.take().unwrap().line() - 4);
        // In words, and as a tree.
        let text = debug::format_green_threads();
        assert_eq!(text.lines().count(), 4);
        assert!(text.contains("green thread 'parent' waits for a green thread at tests/debug.rs"), "{text}");
        assert!(text.contains("MAIN runs") && text.contains("has not begun, for"), "{text}");
        let tree = debug::tree();
        let shape: Vec<_> = tree.iter().map(|branch| (branch.depth, branch.thread.id)).collect();
        assert_eq!(shape, [(0, main.id), (1, first.id), (2, child.id), (1, later.id)]);
        assert_eq!(debug::format_tree().lines().count(), 4);
        delayed.kill();
        event.send(());
        parent.wait().unwrap();
    });
}

// UA-16: those whose spawner has ended are at the root, and say so
#[test]
fn an_orphan_names_its_ended_parent() {
    guarded(|| {
        let event = Event::<()>::new();
        let mine = event.clone();
        let parent = spawn(move || drop(spawn(move || mine.wait())));
        parent.wait().unwrap();
        yield_now();
        let tree = debug::format_tree();
        assert!(tree.contains("by #2, which has ended"), "{tree}");
        event.send(());
        yield_now();
        yield_now();
        assert_eq!(debug::green_threads().len(), 1);
    });
}

// Whom a callback spawns has the loop for a parent; numbers are never used again, memory is.
#[test]
fn numbers_name_one_green_thread_for_ever() {
    joined(|reactor| {
        reactor.call_soon(move || {
            drop(spawn(|| ()));
            assert_eq!(debug::green_threads()[0].spawned_by, Spawner::Loop);
            reactor.call_soon(move || {
                reactor.call_soon(move || {
                    let thread = spawn(move || reactor.stop());
                    assert_eq!(debug::green_threads().iter().map(|info| info.id).collect::<Vec<_>>(), [3]);
                    drop(thread);
                });
            });
        });
    });
}

#[test]
fn one_is_killed_by_its_number() {
    guarded(|| {
        let thread = spawn(|| sleep(LONG));
        yield_now();
        let id = debug::green_threads()[1].id;
        assert!(debug::kill(id) && !debug::kill(id) && !debug::kill(1) && !debug::kill(999));
        assert!(thread.wait().unwrap_err().is::<twistlet::error::Killed>());
        assert!(!debug::kill(id));
    });
}

// HB-41, DG-01, HBC-25: readers, writers and timers are seen; the sites of timers are a switch
#[test]
fn timers_are_listed_in_order_and_their_sites_when_wanted() {
    guarded(|| {
        let reactor = Reactor::current();
        let unseen = reactor.call_later(2 * LONG, || ());
        debug::record_timer_sites(true);
        let seen = reactor.call_later(LONG, || ());
        let line = line!() - 1;
        let sleeper = spawn(|| sleep(LONG / 2));
        let sleeps = line!() - 1;
        yield_now();
        let timers = debug::timers();
        let sites: Vec<_> = timers.iter().map(|timer| timer.made_at.map(|site| site.line())).collect();
        assert_eq!(sites, [Some(sleeps), Some(line), None]);
        assert!(timers[1].left.unwrap() <= LONG && timers[1].left.unwrap() > LONG / 2);
        let text = debug::format_timers();
        assert!(text.lines().nth(1).unwrap().contains(&format!("made at tests/debug.rs:{line}:")), "{text}");
        debug::record_timer_sites(false);
        assert!(debug::timers().iter().all(|timer| timer.made_at.is_none()));
        assert!(seen.cancel() && unseen.cancel());
        sleeper.kill();
        yield_now();
        yield_now();
        assert_eq!(debug::stats().timers, 0);
        assert_eq!(debug::format_timers(), "");
    });
}

struct Quiet;
impl Protocol for Quiet {
    fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
}

// HB-41: the reactor's own descriptors are not shown
#[test]
fn descriptors_are_listed_with_what_they_are_and_who_waits() {
    guarded(|| {
        let reactor = Reactor::current();
        assert_eq!(debug::descriptors().len(), 0);
        let port = reactor.listen_tcp("127.0.0.1:0", || Quiet).unwrap();
        let address = port.address().socket().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(address).unwrap();
        let reader = Builder::default().name("reader").spawn(move || {
            let read = (&client).read(&mut [0; 10]);
            read.map(drop).map_err(Failure::from)
        });
        while debug::descriptors().len() < 3 {
            yield_now();
        }
        let text = debug::format_descriptors();
        assert!(text.contains(&format!("a listening port at {address}, reads")), "{text}");
        assert!(text.contains("a connection with 127.0.0.1:"), "{text}");
        assert!(text.contains("a green socket"), "{text}");
        assert!(text.contains("green thread 'reader'"), "{text}");
        assert!(debug::descriptors().iter().all(|info| info.fd.is_some()));
        drop(listener);
        reader.kill();
        reactor.close();
        assert_eq!(debug::descriptors().len(), 0);
    });
}

// UA-33
#[test]
fn the_figures_count_and_come_back_to_where_they_were() {
    guarded(|| {
        let reactor = Reactor::current();
        yield_now();
        let before = debug::stats();
        assert_eq!((before.green_threads, before.spawned), (0, 0));
        let event = Event::<()>::new();
        for _ in 0..10 {
            let event = event.clone();
            spawn_n(move || event.wait());
        }
        yield_now();
        let during = debug::stats();
        assert_eq!((during.green_threads, during.spawned), (10, 10));
        assert!(during.stacks >= before.stacks + 10 - before.stacks_cached, "{during:?}");
        assert!(during.stack_memory >= before.stack_memory.max(10 * 4096), "{during:?}");
        assert!(during.switches >= before.switches + 11 && during.turns > before.turns, "{during:?}");
        event.send(());
        yield_now();
        yield_now();
        let after = debug::stats();
        assert_eq!((after.green_threads, after.spawned, after.timers), (0, 10, 0));
        assert!(after.stacks_cached >= 10 && after.stacks == during.stacks, "{after:?}");
        let on_thread = twistlet::green::block_on(reactor.defer_to_thread(|| Ok(())));
        on_thread.unwrap();
        assert_eq!(debug::stats().pool_threads, 1);
        assert!(debug::format_all().contains("thread pool: 1 threads"), "{}", debug::format_all());
    });
}

#[test]
fn where_there_is_no_reactor_there_is_nothing_to_see() {
    guarded(|| {
        assert!(debug::green_threads().is_empty() && debug::timers().is_empty() && debug::descriptors().is_empty());
        assert_eq!(debug::stats().turns, 0);
        debug::record_timer_sites(true);
        debug::blocking_detection(None).unwrap();
        assert!(!debug::kill(2) && !debug::format_all().is_empty());
        // And looking has made none.
        let _ = Reactor::new().unwrap();
    });
}

// D8: the report of a deadlock is made of the same lines
#[test]
fn a_deadlock_tells_what_the_list_tells() {
    guarded(|| {
        let queue = Queue::<u8>::new();
        let mine = queue.clone();
        let stuck = Builder::default().name("stuck").spawn(move || mine.wait());
        let failure = Event::<()>::new().wait().unwrap_err();
        let report = failure.check::<Deadlock>().unwrap().report.clone();
        let line = report.lines().find(|line| line.contains("'stuck'")).unwrap();
        assert!(line.contains("waits for an item in a Queue at tests/debug.rs:"), "{line}");
        assert!(line.contains("; spawned at tests/debug.rs:") && line.contains(" KiB; by MAIN"), "{line}");
        assert!(report.contains("MAIN waits for an Event at tests/debug.rs:"), "{report}");
        queue.send(1);
        assert_eq!(stuck.wait().unwrap(), 1);
    });
}

// HBC-25, UA-36, D12: every switch goes both ways
#[test]
fn the_switches_of_the_log_turn_both_ways() {
    guarded(|| {
        let reactor = Reactor::new().unwrap();
        join_reactor(&reactor).unwrap();
        let fail = |what: &'static str| drop(Deferred::<()>::fail(Failure::msg(what)));
        debug::log_unobserved(false);
        fail("unobserved, off");
        debug::log_unobserved(true);
        fail("unobserved, on");
        reactor.call_soon(move || {
            debug::log_unobserved(false);
            reactor.call_soon(|| panic!("callback, off"));
            reactor.call_soon(|| debug::log_unobserved(true));
            reactor.call_soon(|| panic!("callback, on"));
            reactor.call_soon(move || {
                let job = move |what: &'static str| {
                    reactor.defer_to_thread(move || -> Result<(), Failure> { panic!("{what}") })
                };
                let _ = job("thread, off").add_errback(move |failure| {
                    assert!(failure.to_string().contains("thread, off"));
                    debug::log_thread_panics(true);
                    let second = job("thread, on").add_errback(move |_| {
                        debug::log_thread_panics(false);
                        reactor.stop()
                    });
                    drop(second);
                    Ok(())
                });
            });
        });
        reactor.run().unwrap();
        // Of a pool thread the log is another thread's: what this thread logged is its own.
        let log = logged().join("\n");
        for on in ["unobserved, on", "callback, on"] {
            assert!(log.contains(on), "{on}: {log}");
        }
        assert!(!log.contains("off"), "{log}");
        // A hook in place of the log, and a switch does not hold it back.
        let seen = Rc::new(RefCell::new(Vec::new()));
        let list = seen.clone();
        debug::on_unobserved_failure(move |whose, failure| list.borrow_mut().push(format!("{whose}: {failure}")));
        debug::log_unobserved(false);
        fail("hooked");
        debug::log_unobserved(true);
        assert!(seen.borrow()[0].contains("hooked"));
    });
}

// The text comes when the signal does, and the wait for it is no reason to live.
#[test]
fn a_signal_brings_a_report() {
    guarded(|| {
        let heard = Rc::new(Cell::new(0));
        let count = heard.clone();
        debug::call_on_signal(libc::SIGUSR2, move || {
            assert!(debug::format_all().contains("green threads:"));
            count.set(count.get() + 1);
            if count.get() == 1 {
                panic!("in the hook");
            }
        })
        .unwrap();
        // UA-02 turned round: it wakes nobody, so a deadlock is one.
        assert!(Event::<()>::new().wait().unwrap_err().is::<Deadlock>());
        for n in 1..=2 {
            signal_hook::low_level::raise(libc::SIGUSR2).unwrap();
            while heard.get() < n {
                sleep(Duration::from_millis(1));
            }
        }
        assert_eq!(debug::descriptors().len(), 0);
        assert!(debug::dump_on_signal(libc::SIGKILL).is_err());
        debug::dump_on_signal(libc::SIGUSR2).unwrap();
    });
}

// UA-16: SIGUSR1, in a process of its own
#[test]
fn on_sigusr1_the_report_is_written_to_stderr() {
    const IN_CHILD: &str = "TWISTLET_DEBUG_CHILD";
    if std::env::var_os(IN_CHILD).is_some() {
        debug::dump_on_signal(libc::SIGUSR1).unwrap();
        debug::record_timer_sites(true);
        let worker = Builder::default().name("worker").spawn(|| sleep(LONG));
        yield_now();
        signal_hook::low_level::raise(libc::SIGUSR1).unwrap();
        sleep(Duration::from_millis(50));
        worker.kill();
        std::process::exit(0);
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["on_sigusr1_the_report_is_written_to_stderr", "--exact", "--nocapture"]).env(IN_CHILD, "1");
    let output = child.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    for part in ["== thread '", "green thread 'worker' waits for", "timers:\n  due in ", ", made at tests/debug.rs:"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}
