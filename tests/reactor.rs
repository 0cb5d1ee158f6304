//! The reactor's life: startup, shutdown, triggers, crash, close, one reactor a thread. Cases R, rules REA.
use std::cell::{Cell, RefCell};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};
use twistlet::error::ReactorError;
use twistlet::reactor::{Descriptor, Phase, Watch};
use twistlet::{Clock, ConnectionClosed, Deferred, Failure, Reactor, Result};

#[path = "support/watch.rs"]
mod support;
use support::{Notes, OnDrop, assert_logged_once, dog, logged};

const MS: Duration = Duration::from_millis(1);
const PHASES: [(Phase, &str); 6] = [
    (Phase::AfterShutdown, "after-shutdown"),
    (Phase::DuringShutdown, "during-shutdown"),
    (Phase::BeforeShutdown, "before-shutdown"),
    (Phase::AfterStartup, "after-startup"),
    (Phase::DuringStartup, "during-startup"),
    (Phase::BeforeStartup, "before-startup"),
];

fn reason(result: Result) -> ReactorError {
    *result.unwrap_err().check::<ReactorError>().unwrap()
}

#[test]
fn stop_before_run_is_an_error() {
    // R01, REA-10
    let reactor = Reactor::new().unwrap();
    assert_eq!(reason(reactor.stop()), ReactorError::NotRunning);
    reactor.close();
    assert_eq!(reason(reactor.stop()), ReactorError::Closed);
}

#[test]
fn it_runs_from_during_startup_to_before_shutdown() {
    // R02, REA-9
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    for (phase, name) in PHASES {
        let notes = notes.clone();
        reactor.add_trigger(phase, move || notes.add(format!("{name}:{}", reactor.is_running())));
    }
    reactor.call_soon(move || reactor.stop());
    assert!(!reactor.is_running());
    reactor.run().unwrap();
    assert!(!reactor.is_running());
    assert_eq!(
        notes.all(),
        "before-startup:false during-startup:true after-startup:true \
         before-shutdown:true during-shutdown:false after-shutdown:false"
    );
}

#[test]
fn triggers_run_in_the_order_of_phases_and_of_adding() {
    // R03, R11, REA-18
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    for round in ["1", "2"] {
        for (phase, name) in PHASES {
            reactor.add_trigger(phase, notes.adds(&format!("{name}{round}")));
        }
    }
    reactor.call_soon(move || reactor.stop());
    reactor.run().unwrap();
    let expected: Vec<String> =
        PHASES.iter().rev().flat_map(|(_, name)| [format!("{name}1"), format!("{name}2")]).collect();
    assert_eq!(notes.all(), expected.join(" "));
}

#[test]
fn stop_returns_before_any_shutdown_trigger_runs() {
    // R04, REA-10
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    reactor.add_trigger(Phase::BeforeShutdown, notes.adds("shutdown"));
    for way in ["trigger", "timer"] {
        let notes = notes.clone();
        let stop = move || {
            let stopped = reactor.stop();
            notes.add(format!("{way}:{}", stopped.is_ok()));
        };
        match way {
            "trigger" => drop(reactor.add_trigger(Phase::AfterStartup, stop)),
            _ => drop(reactor.call_later(Duration::ZERO, stop)),
        }
    }
    reactor.run().unwrap();
    // REA-10: the second stop is refused.
    assert_eq!(notes.all(), "trigger:true timer:false shutdown");
}

#[test]
fn a_stop_before_startup_is_over_completes_startup_first() {
    // REA-10
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    let (promise, gate) = Deferred::new();
    reactor.add_trigger(Phase::BeforeStartup, move || {
        reactor.stop().unwrap();
        gate
    });
    let promise = Cell::new(Some(promise));
    reactor.call_later(20 * MS, move || {
        // REA-16: the loop has waited properly meanwhile, neither here nor there.
        assert!(!reactor.is_running());
        assert!(reactor.statistics().turns < 10, "{:?}", reactor.statistics());
        if let Some(promise) = promise.take() {
            promise.callback(());
        }
    });
    for (phase, name) in PHASES {
        reactor.add_trigger(phase, notes.adds(name));
    }
    reactor.run().unwrap();
    let expected: Vec<&str> = PHASES.iter().rev().map(|(_, name)| *name).collect();
    assert_eq!(notes.all(), expected.join(" "));
    assert_eq!(logged(), [""; 0]);
}

#[test]
fn the_loop_works_while_shutdown_waits_for_a_trigger() {
    // REA-11
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    let saw = notes.clone();
    reactor.add_trigger(Phase::BeforeShutdown, move || {
        let (promise, deferred) = Deferred::new();
        reactor.call_later(MS, move || {
            saw.add(format!("running:{}", reactor.is_running()));
            saw.add(format!("{:?}", reason(reactor.stop())));
            promise.callback(());
        });
        deferred
    });
    reactor.add_trigger(Phase::DuringShutdown, notes.adds("during"));
    reactor.call_soon(move || reactor.stop());
    reactor.run().unwrap();
    assert_eq!(notes.all(), "running:true NotRunning during");
}

struct Told(Notes, &'static str);
impl Descriptor for Told {
    fn connection_lost(&mut self, reason: &ConnectionClosed) {
        assert_eq!(*reason, ConnectionClosed::Lost(None));
        self.0.add(self.1);
        assert!(self.1 != "first", "the first one breaks");
    }
}

#[test]
fn every_descriptor_is_told_of_the_end_although_one_of_them_panics() {
    // R05, REA-14
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    let (a, b) = UnixStream::pair().unwrap();
    let _first = reactor.watch(a, Told(notes.clone(), "first")).unwrap();
    let _second = reactor.watch(b, Told(notes.clone(), "second")).unwrap();
    reactor.add_trigger(Phase::BeforeShutdown, notes.adds("before"));
    reactor.add_trigger(Phase::DuringShutdown, notes.adds("during"));
    reactor.call_soon(move || reactor.stop());
    reactor.run().unwrap();
    assert_eq!(notes.all(), "before first second during");
    assert_logged_once(&["watched descriptor", "the first one breaks"]);
}

#[test]
fn run_inside_run_is_an_error() {
    // R06, REA-8
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    for (phase, _) in PHASES {
        let notes = notes.clone();
        reactor.add_trigger(phase, move || notes.add(format!("{:?}", reason(reactor.run()))));
    }
    reactor.call_soon(move || reactor.stop());
    reactor.run().unwrap();
    assert_eq!(
        notes.all(),
        "AlreadyRunning AlreadyRunning AlreadyRunning AlreadyRunning NotRestartable NotRestartable"
    );
}

#[test]
fn a_reactor_that_has_ended_cannot_run_again_but_the_thread_can_have_another() {
    // R07, REA-8
    let _dog = dog();
    for _ in 0..3 {
        let reactor = Reactor::new().unwrap();
        reactor.call_soon(move || reactor.stop());
        reactor.run().unwrap();
        let failure = reactor.run().unwrap_err();
        assert!(failure.is::<ReactorError>());
        assert!(failure.to_string().contains("make another with Reactor::new()"), "{failure}");
    }
}

#[test]
fn after_a_crash_it_runs_again_with_everything_it_had() {
    // R09, REA-12
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    let crashed = notes.clone();
    reactor.call_when_running(move || {
        reactor.crash();
        crashed.add(format!("running:{}", reactor.is_running()));
        crashed.add(format!("{:?}", reason(reactor.stop())));
    });
    let later = notes.clone();
    let timer = reactor.call_later(20 * MS, move || {
        later.add("timer");
        reactor.stop()
    });
    reactor.add_trigger(Phase::BeforeShutdown, notes.adds("shutdown"));
    reactor.run().unwrap();
    assert!(timer.active(), "R19: what waits goes on waiting");
    assert_eq!(notes.all(), "running:false NotRunning");
    let again = notes.clone();
    reactor.call_when_running(move || again.add(format!("again:{}", reactor.is_running())));
    reactor.run().unwrap();
    assert_eq!(notes.all(), "running:false NotRunning again:true timer shutdown");
}

#[test]
fn what_an_earlier_run_left_unfired_holds_up_nothing() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    let (old, first) = Deferred::<()>::new();
    reactor.add_trigger(Phase::BeforeStartup, move || first);
    reactor.call_later(MS, move || reactor.crash());
    reactor.run().unwrap();

    let (new, second) = Deferred::<()>::new();
    reactor.add_trigger(Phase::BeforeStartup, move || second);
    let (early, late) = (notes.clone(), notes.clone());
    reactor.call_later(MS, move || {
        old.callback(());
        early.add("old fired");
    });
    reactor.call_later(5 * MS, move || {
        late.add(format!("running:{}", reactor.is_running()));
        new.callback(());
    });
    let started = notes.clone();
    reactor.call_when_running(move || {
        started.add("started");
        reactor.stop()
    });
    reactor.run().unwrap();
    assert_eq!(notes.all(), "old fired running:false started");
}

#[test]
fn a_trigger_that_fails_is_logged_and_the_others_run() {
    // R13, REA-21
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    for (phase, name) in PHASES {
        reactor.add_trigger(phase, move || -> Result { panic!("{name} panics") });
        reactor.add_trigger(phase, move || -> Result { Err(Failure::msg(format!("{name} fails"))) });
        reactor.add_trigger(phase, notes.adds(name));
    }
    reactor.call_soon(move || reactor.stop());
    reactor.run().unwrap();
    let expected: Vec<&str> = PHASES.iter().rev().map(|(_, name)| *name).collect();
    assert_eq!(notes.all(), expected.join(" "));
    let lines = logged();
    assert_eq!(lines.len(), 12, "{lines:#?}");
    assert!(lines[0].contains("before-startup panics") && lines[11].contains("after-shutdown fails"), "{lines:#?}");
}

#[test]
fn a_before_trigger_that_fires_an_earlier_ones_deferred_ends_nothing_early() {
    // R15, REA-19
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    let (first, one) = Deferred::<()>::new();
    let (third, three) = Deferred::<()>::new();
    reactor.add_trigger(Phase::BeforeShutdown, move || one);
    let fired = notes.clone();
    reactor.add_trigger(Phase::BeforeShutdown, move || {
        first.callback(());
        fired.add("second");
    });
    let ran = notes.clone();
    reactor.add_trigger(Phase::BeforeShutdown, move || {
        ran.add("third");
        three
    });
    let finish = notes.clone();
    reactor.add_trigger(Phase::BeforeShutdown, move || {
        reactor.call_later(MS, move || {
            finish.add("timer");
            third.callback(());
        });
    });
    reactor.add_trigger(Phase::DuringShutdown, notes.adds("during"));
    reactor.call_soon(move || reactor.stop());
    reactor.run().unwrap();
    assert_eq!(notes.all(), "second third timer during");
}

#[test]
fn a_before_trigger_whose_deferred_fails_or_is_forgotten_holds_nothing_up() {
    // REA-18
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    reactor.add_trigger(Phase::BeforeShutdown, || Deferred::<()>::fail(Failure::msg("at once")));
    reactor.add_trigger(Phase::BeforeShutdown, move || {
        let (promise, deferred) = Deferred::<u8>::new();
        reactor.call_later(MS, move || promise.errback(Failure::msg("later")));
        deferred
    });
    reactor.add_trigger(Phase::BeforeShutdown, || Deferred::<u8>::new().1);
    reactor.call_soon(move || reactor.stop());
    reactor.run().unwrap();
    let lines = logged();
    assert_eq!(lines.len(), 3, "{lines:#?}");
}

#[test]
fn triggers_can_be_removed_while_the_event_is_under_way() {
    // RX04, RX05, RX06, REA-22
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    let doomed = reactor.add_trigger(Phase::DuringShutdown, notes.adds("never"));
    reactor.add_trigger(Phase::BeforeShutdown, move || {
        let (promise, deferred) = Deferred::new();
        reactor.call_soon(move || {
            assert!(doomed.remove(), "while the event is suspended");
            assert!(!doomed.remove(), "RX06");
            promise.callback(());
        });
        deferred
    });
    let target = Rc::new(Cell::new(None));
    let (removes, note) = (target.clone(), notes.clone());
    reactor.add_trigger(Phase::AfterShutdown, move || {
        let removed = removes.take().map(twistlet::reactor::Trigger::remove);
        note.add(format!("removed:{removed:?}"));
    });
    target.set(Some(reactor.add_trigger(Phase::AfterShutdown, notes.adds("skipped"))));
    reactor.call_soon(move || reactor.stop());
    reactor.run().unwrap();
    assert_eq!(notes.all(), "removed:Some(true)");
}

#[test]
fn a_trigger_added_while_the_event_fires_is_fired_with_it() {
    // REA-20
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    for phase in [Phase::BeforeShutdown, Phase::DuringShutdown, Phase::AfterShutdown] {
        let notes = notes.clone();
        reactor.add_trigger(phase, move || {
            reactor.add_trigger(phase, notes.adds(&format!("{phase:?}")));
        });
    }
    reactor.call_soon(move || reactor.stop());
    reactor.run().unwrap();
    assert_eq!(notes.all(), "BeforeShutdown DuringShutdown AfterShutdown");
}

#[test]
fn hooks_for_the_running_reactor_keep_their_order() {
    // RX02, REA-24
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    for n in 0..4 {
        reactor.call_when_running(notes.adds(&n.to_string()));
    }
    let inner = notes.clone();
    reactor.call_when_running(move || {
        reactor.call_when_running(inner.adds("inner"));
        inner.add("outer");
        reactor.call_soon(move || reactor.stop());
    });
    assert_eq!(notes.all(), "");
    reactor.run().unwrap();
    assert_eq!(notes.all(), "0 1 2 3 outer inner");
}

#[test]
fn one_turn_takes_the_queue_as_it_stood() {
    // REA-1, REA-6, R3: calls queue calls, and each waits for the next turn, with timers and I/O in between.
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let turns = Rc::new(RefCell::new(Vec::new()));
    fn again(reactor: Reactor, left: u32, turns: Rc<RefCell<Vec<u64>>>) {
        turns.borrow_mut().push(reactor.statistics().turns);
        if left == 0 {
            reactor.stop().unwrap();
        } else {
            reactor.call_soon(move || again(reactor, left - 1, turns));
        }
    }
    let first = turns.clone();
    reactor.call_soon(move || again(reactor, 4, first));
    reactor.run().unwrap();
    let turns = turns.take();
    assert!(turns.windows(2).all(|pair| pair[1] == pair[0] + 1), "{turns:?}");
}

#[test]
fn close_in_a_callback_takes_effect_after_the_turn() {
    let _dog = dog();
    for (phase, name) in PHASES {
        let reactor = Reactor::new().unwrap();
        let notes = Notes::default();
        let closed = notes.clone();
        reactor.add_trigger(phase, move || {
            reactor.close();
            reactor.close();
            closed.add("closed");
            // Still the thread's, until the turn is over.
            assert_eq!(Reactor::new().unwrap_err().check(), Some(&ReactorError::AlreadyInstalled));
        });
        let dropped = notes.clone();
        let guard = OnDrop(move || dropped.add("freed"));
        reactor.call_later(Duration::from_secs(3600), move || drop(guard));
        reactor.call_later(MS, move || reactor.stop());
        reactor.run().unwrap();
        assert_eq!(notes.all(), "closed freed", "{name}");
        assert_eq!(reason(reactor.run()), ReactorError::Closed);
        assert_eq!(logged(), [""; 0], "{name}");
    }
}

#[test]
fn close_without_run_frees_everything_and_runs_no_trigger() {
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    let (timer, soon, trigger, watch) = (notes.clone(), notes.clone(), notes.clone(), notes.clone());
    let (timer, soon, trigger) =
        (OnDrop(move || timer.add("timer")), OnDrop(move || soon.add("soon")), OnDrop(move || trigger.add("trigger")));
    let call = reactor.call_later(Duration::from_secs(3600), move || drop(timer));
    reactor.call_soon(move || drop(soon));
    reactor.add_trigger(Phase::AfterShutdown, move || drop(trigger));
    let (a, _b) = UnixStream::pair().unwrap();
    let watch = reactor.watch(a, Told(watch, "watch")).unwrap();
    reactor.close();
    assert!(!call.active() && !watch.is_active());
    let all = notes.all();
    for what in ["timer", "soon", "trigger", "watch"] {
        assert!(all.contains(what), "{all}");
    }
    assert_eq!(reactor.statistics(), twistlet::reactor::Statistics::default());
}

#[test]
fn the_end_of_the_thread_frees_everything() {
    // R7
    let freed = std::sync::Arc::new(());
    let held = freed.clone();
    std::thread::spawn(move || {
        let reactor = Reactor::current();
        let (a, b, c, d) = (held.clone(), held.clone(), held.clone(), held);
        reactor.call_later(Duration::from_secs(3600), move || drop(a));
        reactor.call_soon(move || drop(b));
        reactor.add_trigger(Phase::AfterShutdown, move || drop(c));
        reactor.spawn_local(async move {
            std::future::pending::<()>().await;
            drop(d);
        });
    })
    .join()
    .unwrap();
    assert_eq!(std::sync::Arc::strong_count(&freed), 1);
}

#[test]
fn a_thread_has_one_reactor_and_threads_have_each_their_own() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    assert_eq!(Reactor::new().unwrap_err().check(), Some(&ReactorError::AlreadyInstalled));
    assert_eq!(Reactor::current(), reactor);
    let threads: Vec<_> = (0..4u32)
        .map(|n| {
            std::thread::spawn(move || {
                let reactor = Reactor::new().unwrap();
                let turns = Rc::new(Cell::new(0));
                fn tick(reactor: Reactor, turns: Rc<Cell<u32>>, n: u32) {
                    turns.set(turns.get() + 1);
                    if turns.get() == 100 + n {
                        reactor.stop().unwrap();
                    } else {
                        reactor.call_later(Duration::ZERO, move || tick(reactor, turns, n));
                    }
                }
                let counted = turns.clone();
                reactor.call_soon(move || tick(reactor, counted, n));
                reactor.run().unwrap();
                turns.get()
            })
        })
        .collect();
    let turns: Vec<u32> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(turns, [100, 101, 102, 103]);
    reactor.close();
    Reactor::new().unwrap().close();
}

#[test]
fn names_of_a_reactor_that_has_ended_do_nothing() {
    let old = Reactor::new().unwrap();
    let trigger = old.add_trigger(Phase::AfterShutdown, || ());
    old.close();
    let new = Reactor::new().unwrap();
    assert_ne!(old, new);
    let call = old.call_later(MS, || panic!("called"));
    assert!(!call.active() && !call.cancel());
    assert!(call.reset(MS).is_err());
    old.call_soon(|| panic!("called"));
    old.call_when_running(|| panic!("called"));
    old.crash();
    old.close();
    old.suggest_thread_pool_size(3);
    old.handle_signals(false);
    assert!(!trigger.remove() && !old.add_trigger(Phase::AfterStartup, || ()).remove());
    assert!(!old.is_running());
    assert_eq!(reason(old.run()), ReactorError::Closed);
    assert_eq!(reason(old.remote().call_from_thread(|_| ())), ReactorError::Stopped);
    assert!(old.defer_to_thread(|| Ok(())).try_take().unwrap().unwrap_err().is::<ReactorError>());
    assert!(old.spawn_local(async {}).try_take().unwrap().unwrap_err().is::<ReactorError>());
    assert_eq!(new.statistics().ready, 0);
    new.call_soon(move || new.stop());
    new.run().unwrap();
}

#[test]
fn outside_the_loop_the_clock_does_not_stand_still() {
    let reactor = Reactor::new().unwrap();
    let before = reactor.now();
    let call = reactor.call_later(MS, || ());
    // Work before `run`, not waiting for anything.
    while before.elapsed() < 5 * MS {}
    assert!(reactor.now() >= before + 5 * MS);
    let later = reactor.call_later(MS, || ());
    assert!(later.time().unwrap() >= call.time().unwrap() + 5 * MS);
    assert!(reactor.now() <= Instant::now());
    reactor.close();
}

#[test]
fn statistics_count_what_waits() {
    let reactor = Reactor::new().unwrap();
    assert_eq!(reactor.statistics(), twistlet::reactor::Statistics::default());
    let (a, _b) = UnixStream::pair().unwrap();
    let watch = reactor.watch(a, Told(Notes::default(), "watch")).unwrap();
    let call = reactor.call_later(MS, || ());
    reactor.call_soon(|| ());
    let statistics = reactor.statistics();
    assert_eq!((statistics.timers, statistics.descriptors, statistics.ready, statistics.turns), (1, 1, 1, 0));
    call.cancel();
    drop(watch);
    let statistics = reactor.statistics();
    assert_eq!((statistics.timers, statistics.descriptors), (0, 0));
    reactor.close();
}

/// Writes to its peer as long as it is read.
struct Reader(Rc<UnixStream>, Notes);
impl Descriptor for Reader {
    fn readable(&mut self, _watch: &Watch) {
        let mut buffer = [0; 64];
        while let Ok(n) = std::io::Read::read(&mut &*self.0, &mut buffer) {
            self.1.add(format!("read:{n}"));
            if n == 0 {
                break;
            }
        }
    }
}

#[test]
fn data_that_has_arrived_is_delivered_before_a_timer_that_expires_meanwhile() {
    // R3
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let notes = Notes::default();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let ours = Rc::new(ours);
    let _watch = reactor.watch(ours.clone(), Reader(ours, notes.clone())).unwrap();
    let late = notes.clone();
    reactor.call_when_running(move || {
        reactor.call_later(2 * MS, move || {
            late.add("timer");
            reactor.stop()
        });
        theirs.write_all(b"data").unwrap();
        // The callback is slow, so the timer is due when the loop looks again.
        let since = Instant::now();
        while since.elapsed() < 5 * MS {}
        std::mem::forget(theirs);
    });
    reactor.run().unwrap();
    assert_eq!(notes.all(), "read:4 timer");
}
