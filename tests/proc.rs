//! `green::proc`: links, and what ends because something else ended.
#![cfg(feature = "green")]
mod guard;
use guard::{Trace, guarded, in_callback, logged, panic_of};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use twistlet::error::{Killed, WaitsForItself};
use twistlet::green::proc::{self, LinkedExited, Proc, Source};
use twistlet::green::{Event, Queue, sleep, spawn, yield_now};
use twistlet::{Failure, TimedOut};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, PartialEq)]
struct Broken;
impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken")
    }
}
impl std::error::Error for Broken {}

fn sleeper() -> Proc<()> {
    proc::spawn(|| sleep(LONG))
}
fn exit_of<T: Clone>(proc: &Proc<T>) -> LinkedExited {
    match proc.wait() {
        Ok(_) => panic!("it ended well"),
        Err(failure) => failure.check::<LinkedExited>().unwrap_or_else(|| panic!("{failure:?}")).clone(),
    }
}

// PRC-01, PR-20, PR-21
#[test]
fn waiting_for_nothing_times_out_at_once_or_after_the_limit() {
    guarded(|| {
        let source = Source::<u8>::new("nobody sends");
        assert!(source.poll().is_none());
        assert_eq!(source.wait_timeout(Duration::ZERO).unwrap_err().check(), Some(&TimedOut(Duration::ZERO)));
        assert!(source.wait_timeout(SHORT).unwrap_err().is::<TimedOut>());
        let proc = sleeper();
        assert!(proc.wait_timeout(Duration::ZERO).unwrap_err().is::<TimedOut>());
        assert!(proc.wait_timeout(SHORT).unwrap_err().is::<TimedOut>());
        assert!(proc.poll().is_none());
        proc.kill();
    });
}

// PRC-02, PR-05
#[test]
fn links_are_told_in_a_later_turn_and_waiters_have_the_value_at_once() {
    guarded(|| {
        let (source, queue) = (Source::new("a"), Queue::new());
        source.link_value(queue.clone());
        source.send(1);
        assert!(!queue.ready());
        assert_eq!(source.wait().unwrap(), 1);
        assert!(!queue.ready());
        yield_now();
        assert_eq!(queue.poll().unwrap().unwrap(), 1);
    });
}

// PRC-26, PR-02 (a bad listener does not compile)
#[test]
fn a_source_is_sent_to_once() {
    guarded(|| {
        let source = Source::new("the source");
        source.send(1);
        assert!(panic_of(|| source.send(2)).contains("the source"));
        assert!(panic_of(|| source.send_exception(Broken)).contains("the source"));
        assert_eq!(source.wait().unwrap(), 1);
    });
}

// PRC-05, PR-04, PR-07, PR-27
#[test]
fn a_proc_linked_to_another_is_ended_by_its_end_also_when_that_is_past() {
    guarded(|| {
        let quick = proc::spawn(|| Ok(1));
        quick.set_name("quick");
        let listener = sleeper();
        quick.link_to(listener.clone());
        let name = "green thread 'quick'".to_owned();
        assert_eq!(exit_of(&listener), LinkedExited::Completed { name: name.clone() });
        let later = sleeper();
        yield_now();
        quick.link_to(later.clone());
        assert!(!later.ready());
        assert_eq!(exit_of(&later), LinkedExited::Completed { name });
        // One that has ended ignores it.
        quick.link_to(later.clone());
        yield_now();
        assert!(later.ready());
        assert!(logged().is_empty());
    });
}

// PRC-08, PRC-11, PR-03, PR-04
#[test]
fn a_value_goes_to_an_event_a_queue_a_closure_and_ends_procs_and_the_current_green_thread() {
    guarded(|| {
        for values_only in [false, true] {
            let proc = proc::spawn(|| Ok(25));
            let (event, queue, listener) = (Event::new(), Queue::new(), sleeper());
            let times = Rc::new(Cell::new(0));
            let counted = times.clone();
            let me = {
                let proc = proc.clone();
                proc::spawn(move || {
                    if values_only {
                        proc.link_value(proc::current());
                    } else {
                        proc.link_to(proc::current());
                    }
                    sleep(LONG);
                })
            };
            if values_only {
                proc.link_value(event.clone());
                proc.link_value(queue.clone());
                proc.link_value(listener.clone());
            } else {
                proc.link_to(event.clone());
                proc.link_to(queue.clone());
                proc.link_to(listener.clone());
            }
            proc.link(move |outcome| {
                assert_eq!(*outcome.unwrap(), 25);
                counted.set(counted.get() + 1);
            });
            assert_eq!(event.wait().unwrap(), 25);
            assert_eq!(queue.wait().unwrap(), 25);
            assert!(matches!(exit_of(&listener), LinkedExited::Completed { .. }));
            assert!(matches!(exit_of(&me), LinkedExited::Completed { .. }));
            assert_eq!(times.get(), 1);
        }
    });
}

// PRC-10, PR-08
#[test]
fn links_for_failures_hear_nothing_of_a_value_and_links_for_values_nothing_of_a_failure() {
    guarded(|| {
        let (event, queue, listener) = (Event::new(), Queue::new(), sleeper());
        let fine = proc::spawn(|| Ok(1));
        fine.link_exception(event.clone());
        fine.link_exception(queue.clone());
        fine.link_exception(listener.clone());
        let failed = proc::spawn(|| Err::<i32, _>(Broken.into()));
        failed.link_value(event.clone());
        failed.link_value(queue.clone());
        failed.link_value(listener.clone());
        assert!(fine.wait().is_ok() && failed.wait().is_err());
        yield_now();
        assert!(!event.ready() && !queue.ready() && !listener.ready());
        listener.kill();
    });
}

// PRC-12, PRC-14, PR-14
#[test]
fn a_failure_goes_to_events_and_queues_and_ends_procs_with_its_name_and_cause() {
    guarded(|| {
        for failures_only in [false, true] {
            let proc = proc::spawn(|| Err::<u8, _>(Broken.into()));
            proc.set_name("fragile");
            let (event, queue, listener) = (Event::new(), Queue::new(), sleeper());
            if failures_only {
                proc.link_exception(event.clone());
                proc.link_exception(queue.clone());
                proc.link_exception(listener.clone());
            } else {
                proc.link_to(event.clone());
                proc.link_to(queue.clone());
                proc.link_to(listener.clone());
            }
            assert!(event.wait().unwrap_err().is::<Broken>());
            assert!(queue.wait().unwrap_err().is::<Broken>());
            let exit = exit_of(&listener);
            assert!(matches!(&exit, LinkedExited::Failed { failure, .. } if failure.is::<Broken>()));
            assert!(exit.name().contains("fragile"));
            let words = exit.to_string();
            assert!(words.contains("fragile") && words.contains("broken"), "{words}");
        }
        assert!(logged().is_empty());
    });
}

// PRC-13, PR-15 (`Killed` is our ProcExit)
#[test]
fn a_kill_goes_to_events_and_queues_and_ends_procs_as_linked_killed() {
    guarded(|| {
        let proc = sleeper();
        let (event, queue, listener) = (Event::new(), Queue::new(), sleeper());
        proc.link_exception(event.clone());
        proc.link_to(queue.clone());
        proc.link_to(listener.clone());
        yield_now();
        proc.kill();
        assert!(event.wait().unwrap_err().is::<Killed>());
        assert!(queue.wait().unwrap_err().is::<Killed>());
        assert!(matches!(exit_of(&listener), LinkedExited::Killed { .. }));
        assert!(proc.wait().unwrap_err().is::<Killed>());
    });
}

// PRC-15, PR-28, PR-30
#[test]
fn wait_all_gives_the_values_in_input_order_also_of_those_that_have_ended_and_of_none() {
    guarded(|| {
        let procs: Vec<_> = [3u64, 1, 2]
            .into_iter()
            .map(|n| {
                proc::spawn(move || {
                    sleep(SHORT * u32::try_from(n).unwrap());
                    Ok(n)
                })
            })
            .collect();
        assert_eq!(proc::wait_all(procs.iter().cloned()).unwrap(), [3, 1, 2]);
        assert_eq!(proc::wait_all(procs.clone()).unwrap(), [3, 1, 2]);
        assert_eq!(proc::wait_all(Vec::<Proc<u8>>::new()).unwrap(), []);
        let event = Event::new();
        let link = procs[0].link_to(event.clone());
        assert!(procs[0].unlink(link));
        assert!(!procs[0].unlink(link));
        yield_now();
        assert!(!event.ready());
        procs[0].link_to(event.clone());
        assert_eq!(event.wait().unwrap(), 3);
    });
}

// PRC-16, PR-27, PR-28
#[test]
fn wait_all_fails_with_the_first_failure_that_occurs_and_the_others_go_on() {
    guarded(|| {
        let first = proc::spawn(|| Ok(1));
        let slow = proc::spawn(|| {
            sleep(SHORT * 4);
            Err(Failure::msg("later"))
        });
        let failing = proc::spawn(|| {
            sleep(SHORT);
            Err::<i32, _>(Broken.into())
        });
        let linked = proc::spawn(|| {
            sleep(LONG);
            Ok(4)
        });
        failing.link_to(linked.clone());
        linked.link_to(failing.clone());
        let all = [first.clone(), slow.clone(), failing, linked.clone()];
        assert!(proc::wait_all(all).unwrap_err().is::<Broken>());
        assert!(matches!(exit_of(&linked), LinkedExited::Failed { .. }));
        assert_eq!(first.wait().unwrap(), 1);
        assert!(!slow.ready());
        assert_eq!(slow.wait().unwrap_err().to_string(), "later");
    });
}

// PRC-22, PR-29
#[test]
fn wait_all_trapped_gives_every_outcome_killed_ones_too() {
    guarded(|| {
        let killed = proc::spawn(|| {
            sleep(LONG);
            Ok(0)
        });
        let all = [proc::spawn(|| Err(Broken.into())), proc::spawn(|| Ok(2)), killed.clone()];
        yield_now();
        killed.kill();
        let outcomes = proc::wait_all_trapped(all);
        assert!(outcomes[0].as_ref().unwrap_err().is::<Broken>());
        assert_eq!(*outcomes[1].as_ref().unwrap(), 2);
        assert!(outcomes[2].as_ref().unwrap_err().is::<Killed>());
    });
}

// PR-31
#[test]
fn kill_all_kills_all_and_waits_for_none() {
    guarded(|| {
        let procs = [sleeper(), sleeper(), sleeper()];
        yield_now();
        proc::kill_all(procs.clone());
        assert!(procs.iter().all(|proc| !proc.ready()));
        assert!(proc::wait_all_trapped(procs).iter().all(Result::is_err));
    });
}

// PRC-18, PR-12
#[test]
fn links_that_fail_keep_no_other_from_running_and_are_all_logged() {
    guarded(|| {
        for fails in [false, true] {
            let trace = Trace::new();
            let proc = proc::spawn(move || if fails { Err(Broken.into()) } else { Ok(1) });
            for n in 0..3 {
                let trace = trace.clone();
                proc.link(move |_| {
                    trace.note(n);
                    panic!("the link {n}");
                });
            }
            let _ = proc.wait();
            yield_now();
            assert_eq!(trace.take(), ["0", "1", "2"]); // PR-11: in their order
            let log = logged();
            assert_eq!(log.len(), 3);
            assert!(log.iter().enumerate().all(|(n, line)| line.contains(&format!("the link {n}"))), "{log:?}");
        }
    });
}

// PRC-19, PR-10
#[test]
fn of_two_links_that_unlink_each_other_exactly_one_runs() {
    guarded(|| {
        let trace = Trace::new();
        let source = Source::new("a source");
        let ids = Rc::new(Cell::new(None));
        for n in 0..2 {
            let (trace, other, ids_seen) = (trace.clone(), source.clone(), ids.clone());
            let id = source.link(move |_| {
                trace.note(n);
                let (first, second): (proc::LinkId, proc::LinkId) = ids_seen.get().unwrap();
                other.unlink(first);
                other.unlink(second);
            });
            ids.set(Some(ids.get().map_or((id, id), |(first, _)| (first, id))));
        }
        source.send(1);
        yield_now();
        assert_eq!(trace.take(), ["0"]);
    });
}

// PR-09
#[test]
fn a_link_made_by_a_link_is_told_too() {
    guarded(|| {
        let trace = Trace::new();
        let source = Source::new("a source");
        let (noted, again) = (trace.clone(), source.clone());
        source.link(move |_| {
            noted.note("first");
            again.link(move |_| noted.note("second"));
        });
        source.send(1);
        yield_now();
        assert_eq!(trace.take(), ["first", "second"]);
    });
}

// PRC-21, PR-05
#[test]
fn a_link_that_blocks_is_an_error_in_the_log_and_the_others_run() {
    guarded(|| {
        let event = Event::new();
        let proc = proc::spawn(|| Ok(1));
        proc.link(|_| sleep(SHORT));
        proc.link_to(event.clone());
        assert_eq!(event.wait().unwrap(), 1);
        let log = logged();
        assert!(log.len() == 1 && log[0].contains("main loop") && log[0].contains("tests/proc.rs"), "{log:?}");
    });
}

// GT-06
#[test]
fn a_proc_that_waits_for_itself_is_told_so() {
    guarded(|| {
        let (queue, outcome) = (Queue::<Proc<()>>::new(), Event::new());
        let (handle, tell) = (queue.clone(), outcome.clone());
        let proc = proc::spawn(move || {
            let me = handle.wait()?;
            tell.send(me.wait());
            assert!(me.wait_timeout(Duration::ZERO).unwrap_err().is::<TimedOut>());
            Ok(())
        });
        queue.send(proc.clone());
        assert!(outcome.wait().unwrap().unwrap_err().is::<WaitsForItself>());
        proc.wait().unwrap();
    });
}

// PR-26
#[test]
fn spawn_link_ends_its_maker_when_the_new_one_ends() {
    guarded(|| {
        let maker = spawn(|| {
            let _child = proc::spawn_link(|| Err::<(), _>(Broken.into()));
            sleep(LONG);
        });
        let failure = maker.wait().unwrap_err();
        assert!(matches!(failure.check(), Some(LinkedExited::Failed { failure, .. }) if failure.is::<Broken>()));
        assert!(panic_of(proc::current).contains("outside of a green thread"));
    });
    assert!(in_callback(|| panic_of(proc::current)).contains("outside of a green thread"));
}

// PR-19, D12, G6
#[test]
fn a_failure_nobody_saw_is_logged_once_with_name_and_site() {
    guarded(|| {
        let proc = proc::spawn(|| Err::<(), _>(Broken.into()));
        proc.set_name("unseen");
        drop(proc.clone());
        drop(proc);
        yield_now();
        let log = logged();
        assert_eq!(log.len(), 1, "{log:?}");
        assert!(log[0].contains("unseen") && log[0].contains("tests/proc.rs") && log[0].contains("broken"), "{log:?}");
        let seen = proc::spawn(|| Err::<(), _>(Broken.into()));
        seen.link(|outcome| assert!(outcome.is_err()));
        drop(seen);
        yield_now();
        yield_now();
        assert!(logged().is_empty());
    });
}

// PR-22: an interrupted wait leaves nothing behind
#[test]
fn many_wait_and_some_of_them_leave() {
    guarded(|| {
        let source = Source::new("a source");
        let waiters: Vec<_> = (0..6)
            .map(|n| {
                let source: Source<u8> = source.clone();
                spawn(move || if n % 2 == 0 { source.wait() } else { source.wait_timeout(SHORT) })
            })
            .collect();
        yield_now();
        waiters[0].kill();
        sleep(SHORT * 2);
        source.send(9);
        let values: Vec<_> = twistlet::green::wait_all(waiters).into_iter().map(Result::ok).collect();
        assert_eq!(values, [None, None, Some(9), None, Some(9), None]);
    });
}
