//! The watchdog: who holds the loop too long is named while it holds it; nobody else ever is (HB-50, HB-51, UA-16, UA-17).
#![cfg(feature = "green")]
mod guard;

use guard::{guarded, joined};
use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use twistlet::green::{Builder, debug, join_reactor, sleep, spawn, yield_now};
use twistlet::reactor::{Blocked, Holder, Watchdog, Watching};
use twistlet::{Protocol, Reactor, TransportRef};

const LIMIT: Duration = Duration::from_millis(20);

fn watched(reactor: Reactor) -> (Watching, Receiver<Blocked>) {
    let (tell, told) = channel();
    let dog = Watchdog::new(LIMIT).quiet().on_block(move |blocked| drop(tell.send(blocked.clone())));
    (dog.start(&reactor).unwrap(), told)
}
/// Holds the loop until the watchdog has said so.
fn hold(told: &Receiver<Blocked>) -> Blocked {
    told.recv_timeout(Duration::from_secs(10)).expect("a report while the loop is held")
}

// HB-51: the report comes while it still holds the loop, and names it
#[test]
fn a_green_thread_that_holds_the_loop_is_named_while_it_does() {
    guarded(|| {
        let (watching, told) = watched(Reactor::current());
        let line = line!() + 1;
        let culprit = Builder::default().name("culprit").spawn(move || {
            let began = Instant::now();
            let blocked = hold(&told);
            assert!(began.elapsed() >= LIMIT * 9 / 10 && blocked.held >= LIMIT / 2, "{blocked:?}");
            Ok((blocked, told))
        });
        let other = spawn(|| ());
        other.wait().unwrap();
        let (blocked, told) = culprit.wait().unwrap();
        let Holder::GreenThread { id: 2, name: Some(name), spawned_at: Some(site) } = &blocked.holder else {
            panic!("{blocked:?}")
        };
        assert_eq!((name.as_str(), site.file(), site.line()), ("culprit", "tests/watchdog.rs", line));
        assert_eq!(blocked.sleeps, Some(true));
        let text = blocked.to_string();
        assert!(text.starts_with("green thread #2 'culprit', spawned at tests/watchdog.rs:"), "{text}");
        assert!(text.contains("the loop of thread '") && text.contains("sleeps in the system"), "{text}");
        assert_eq!(watching.count(), 1);
        // One that computes; its name is not known, and that of the other is forgotten.
        spawn(move || {
            let blocked = loop {
                if let Ok(blocked) = told.try_recv() {
                    break blocked;
                }
            };
            assert!(matches!(blocked.holder, Holder::GreenThread { id: 4, name: None, .. }), "{blocked:?}");
        })
        .wait()
        .unwrap();
        assert_eq!(watching.count(), 2);
    });
}

struct Slow(Rc<RefCell<Option<Receiver<Blocked>>>>, Reactor);
impl Protocol for Slow {
    fn data_received(&mut self, _: TransportRef, _: &[u8]) {
        let blocked = hold(self.0.borrow().as_ref().unwrap());
        assert!(matches!(blocked.holder, Holder::Callback { kind: "a connection", fd: Some(_) }), "{blocked:?}");
        self.1.stop().unwrap();
    }
}

// UA-16: callbacks, by kind
#[test]
fn callbacks_are_told_by_kind_and_descriptor() {
    joined(|reactor| {
        let told = Rc::new(RefCell::new(None));
        let (mine, slow) = (told.clone(), told.clone());
        let port = reactor.listen_tcp("127.0.0.1:0", move || Slow(slow.clone(), reactor)).unwrap();
        let to = port.address().socket().unwrap();
        reactor.call_soon(move || {
            *mine.borrow_mut() = Some(watched(reactor).1);
            let blocked = hold(mine.borrow().as_ref().unwrap());
            assert_eq!(blocked.holder, Holder::Callback { kind: "a queued call or a future", fd: None });
            reactor.call_later(Duration::ZERO, move || {
                let blocked = hold(mine.borrow().as_ref().unwrap());
                assert_eq!(blocked.holder, Holder::Callback { kind: "a delayed call", fd: None });
                std::thread::spawn(move || TcpStream::connect(to)?.write_all(b"x"));
            });
        });
    });
}

// HB-50: toggled at run time, from the green thread that is the culprit, with others in line behind it
#[test]
fn it_may_be_turned_on_and_off_in_the_middle_of_a_turn() {
    guarded(|| {
        let reactor = Reactor::current();
        let ran = Rc::new(Cell::new(0));
        let first = spawn(move || {
            let (old, _) = watched(reactor);
            let (watching, told) = watched(reactor);
            assert!(!old.is_active() && watching.is_active());
            let blocked = hold(&told);
            assert!(matches!(blocked.holder, Holder::GreenThread { id: 2, .. }), "{blocked:?}");
            Ok(told)
        });
        let behind: Vec<_> = (0..5)
            .map(|n| {
                let ran = ran.clone();
                spawn(move || {
                    assert_eq!(ran.replace(n + 1), n);
                    if n == 3 {
                        // Again, while it is watched.
                        let (watching, told) = watched(reactor);
                        let blocked = hold(&told);
                        assert!(matches!(blocked.holder, Holder::GreenThread { id: 6, .. }), "{blocked:?}");
                        watching.stop();
                        debug::blocking_detection(None).unwrap();
                    }
                })
            })
            .collect();
        let told = first.wait().unwrap();
        assert!(behind.into_iter().all(|thread| thread.wait().is_ok()));
        assert_eq!(ran.get(), 5);
        std::thread::sleep(3 * LIMIT);
        assert!(told.try_recv().is_err());
    });
}

// UA-17: no report while the loop waits, or moves
#[test]
fn a_loop_that_waits_or_moves_is_not_reported() {
    guarded(|| {
        let limit = 5 * LIMIT;
        let watching = Watchdog::new(limit).start(&Reactor::current()).unwrap();
        sleep(3 * limit);
        let until = Instant::now() + 3 * limit;
        while Instant::now() < until {
            yield_now();
        }
        // An overloaded machine may stop this very thread for longer than the limit.
        assert!(watching.count() <= 1, "{watching:?}");
    });
}

// UA-17: cheap first, dear when the loop goes on; log lines are limited, and the report is not itself reported
#[test]
fn the_log_is_not_flooded_and_the_dear_report_comes_afterwards() {
    guarded(|| {
        let reactor = Reactor::current();
        let over = Rc::new(RefCell::new(Vec::new()));
        let list = over.clone();
        let (tell, told) = channel();
        let watching = Watchdog::new(LIMIT)
            .at_most_every(Duration::from_secs(60))
            .on_block(move |_| tell.send(()).unwrap_or_default())
            .on_release(move |blocked| {
                // Longer than the limit: nobody holds the loop while it reports.
                std::thread::sleep(3 * LIMIT);
                list.borrow_mut().push((blocked.clone(), debug::format_all()));
            })
            .start(&reactor)
            .unwrap();
        let asked = watching.clone();
        for _ in 0..3 {
            let asked = asked.clone();
            let told = &told;
            reactor.call_soon(|| ());
            yield_now();
            told.recv().unwrap();
            while !asked.is_blocked() {
                std::thread::yield_now();
            }
        }
        yield_now();
        assert!(!watching.is_blocked());
        assert_eq!(watching.count(), 3);
        let over = over.borrow();
        assert_eq!(over.len(), 3);
        assert!(over.iter().all(|(blocked, all)| blocked.held >= LIMIT && all.contains("green threads:")));
        assert!(matches!(over[0].0.holder, Holder::GreenThread { id: 1, .. }));
        let log = guard::logged();
        assert_eq!(
            log.iter().filter(|line| line.contains("the loop goes on: MAIN has held the loop")).count(),
            1,
            "{log:?}"
        );
    });
}

// UA-17: which loop
#[test]
fn reactors_of_one_process_are_told_apart_and_each_ends_with_its_own() {
    let names = Arc::new(Mutex::new(Vec::new()));
    let threads: Vec<_> = ["one", "two"]
        .into_iter()
        .map(|name| {
            let names = names.clone();
            let run = move || {
                let reactor = Reactor::new().unwrap();
                join_reactor(&reactor).unwrap();
                let (watching, told) = watched(reactor);
                reactor.call_soon(move || {
                    let blocked = hold(&told);
                    names.lock().unwrap().push(blocked.thread);
                    reactor.stop()
                });
                reactor.run().unwrap();
                assert!(!watching.is_active() && watching.count() == 1);
                assert!(Watchdog::new(LIMIT).start(&reactor).is_err());
            };
            std::thread::Builder::new().name(name.to_owned()).spawn(run).unwrap()
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let mut names = names.lock().unwrap();
    names.sort();
    assert_eq!(*names, ["one", "two"]);
}

// A hook that panics, and a program that holds the loop for ever between two waits.
#[test]
fn a_hook_that_panics_harms_nobody() {
    guarded(|| {
        let reactor = Reactor::current();
        let watching = Watchdog::new(LIMIT).quiet().on_block(|_| panic!("in the hook")).start(&reactor).unwrap();
        for n in 1..=2 {
            yield_now();
            while watching.count() < n {
                std::thread::yield_now();
            }
        }
        yield_now();
        assert!(watching.is_active());
    });
}

// Whoever is in line when it is turned on or off keeps its place, and nobody is lost, killed ones included.
#[test]
fn turning_it_on_and_off_everywhere_changes_no_order_and_loses_nobody() {
    guarded(|| {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for round in 0..60 {
            let order = Rc::new(RefCell::new(Vec::new()));
            let threads: Vec<_> = (0..10u64)
                .map(|n| {
                    let (order, dice) = (order.clone(), random());
                    Builder::default().name(format!("{round}-{n}")).spawn(move || {
                        for step in 0..4 {
                            order.borrow_mut().push((step, n));
                            match dice >> (8 * step) & 7 {
                                0 => debug::blocking_detection(Duration::from_secs(5)).unwrap(),
                                1 => debug::blocking_detection(None).unwrap(),
                                _ => {}
                            }
                            yield_now();
                        }
                    })
                })
                .collect();
            let victim = random() % 20;
            if let Some(thread) = threads.get(victim as usize) {
                yield_now();
                thread.kill();
            }
            let ended = threads.into_iter().filter_map(|thread| thread.wait().err()).count();
            assert!(ended <= 1);
            let order = order.take();
            assert!(order.is_sorted(), "{order:?}");
            assert!(order.len() >= 36);
        }
        // Closed while some are set aside.
        let reactor = Reactor::current();
        let threads: Vec<_> = (0..5)
            .map(|n| {
                spawn(move || {
                    debug::blocking_detection(Duration::from_secs(5)).unwrap();
                    if n == 1 {
                        reactor.close();
                    }
                    sleep(Duration::from_secs(60));
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| assert!(thread.wait().is_err()));
    });
}
