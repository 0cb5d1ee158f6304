//! The test kit itself: the clock, outcomes, wires in memory. Case ids: tests/README.md.
use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;
use twistlet::clock::Clock as _;
use twistlet::error::TimerError;
use twistlet::testing::{Clock, StringTransport, assert_no_result, connect, failure_result_of, success_result_of};
use twistlet::{ConnectionClosed, Deferred, Failure, Producer, Protocol, PullProducer, Result, TransportRef};

type Log = Rc<RefCell<Vec<String>>>;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
fn log() -> Log {
    Log::default()
}
fn note(log: &Log, text: impl Into<String>) {
    log.borrow_mut().push(text.into());
}

// ---- the clock ----

#[test]
fn a_call_is_made_exactly_when_it_is_due() {
    // K01, CLK-1
    let clock = Clock::new();
    assert_eq!(clock.elapsed(), Duration::ZERO);
    let calls = Rc::new(Cell::new(0));
    let count = Rc::clone(&calls);
    let call = clock.call_later(seconds(2), move || count.set(count.get() + 1));
    clock.advance(seconds(1));
    assert_eq!((calls.get(), call.active()), (0, true));
    clock.advance(seconds(1));
    assert_eq!((calls.get(), call.active()), (1, false));
    clock.advance(seconds(1));
    assert_eq!(calls.get(), 1);
}

#[test]
fn calls_are_made_in_the_order_of_time_and_of_making() {
    // CLK-1
    let clock = Clock::new();
    let order = log();
    for (name, at) in [("c", 3), ("a", 1), ("b1", 2), ("b2", 2)] {
        let order = Rc::clone(&order);
        clock.call_later(seconds(at), move || note(&order, name));
    }
    clock.advance(seconds(3));
    assert_eq!(*order.borrow(), ["a", "b1", "b2", "c"]);
}

#[test]
fn calls_are_moved_and_cancelled_as_on_a_reactor() {
    // CLK-1
    let clock = Clock::new();
    let order = log();
    let make = |name: &'static str, at| {
        let order = Rc::clone(&order);
        clock.call_later(seconds(at), move || note(&order, name))
    };
    let (moved, put_off, cancelled) = (make("moved", 1), make("put off", 1), make("cancelled", 1));
    moved.reset(seconds(4)).unwrap();
    put_off.delay(seconds(1)).unwrap();
    assert!(cancelled.cancel());
    assert_eq!(put_off.time().unwrap() - clock.now(), seconds(2));
    clock.pump([seconds(1); 4]);
    assert_eq!(*order.borrow(), ["put off", "moved"]);
    assert_eq!(moved.reset(seconds(1)), Err(TimerError::AlreadyCalled));
    assert_eq!(cancelled.delay(seconds(1)), Err(TimerError::AlreadyCancelled));
    assert_eq!(clock.pending(), 0);
}

#[test]
fn time_has_moved_to_its_end_before_any_call_is_made() {
    // CLK-2
    let clock = Clock::new();
    let seen = Rc::new(RefCell::new(Vec::new()));
    for at in [1, 2] {
        let (time, seen) = (clock.clone(), Rc::clone(&seen));
        clock.call_later(seconds(at), move || seen.borrow_mut().push(time.elapsed()));
    }
    clock.advance(seconds(10));
    assert_eq!(*seen.borrow(), [seconds(10), seconds(10)]);
}

#[test]
fn a_call_made_for_now_runs_in_the_same_advance() {
    // CLK-2
    let clock = Clock::new();
    let order = log();
    let (time, noted) = (clock.clone(), Rc::clone(&order));
    clock.call_later(seconds(1), move || {
        note(&noted, "first");
        let noted = Rc::clone(&noted);
        time.call_later(Duration::ZERO, move || note(&noted, "second"));
    });
    clock.advance(seconds(1));
    assert_eq!(*order.borrow(), ["first", "second"]);
}

#[test]
fn a_call_is_no_longer_active_when_it_runs() {
    // CLK-2
    let clock = Clock::new();
    let slot = Rc::new(Cell::new(None));
    let active = Rc::new(Cell::new(true));
    let (seen, own) = (Rc::clone(&active), Rc::clone(&slot));
    let call = clock.call_later(seconds(1), move || {
        let own: Option<twistlet::DelayedCall> = own.get();
        seen.set(own.is_some_and(|own| own.active()));
    });
    slot.set(Some(call));
    clock.advance(seconds(1));
    assert!(!active.get());
}

#[test]
fn a_panic_and_a_failure_go_through_advance_to_the_test() {
    // CLK-3
    let clock = Clock::new();
    let calls = Rc::new(Cell::new(0));
    clock.call_later(seconds(1), || assert!(std::hint::black_box(false)));
    clock.call_later(seconds(1), || Result::<()>::Err(Failure::msg("no")));
    let count = Rc::clone(&calls);
    clock.call_later(seconds(1), move || count.set(1));
    assert!(catch_unwind(AssertUnwindSafe(|| clock.advance(seconds(1)))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| clock.advance(seconds(0)))).is_err());
    assert_eq!(calls.get(), 0);
    clock.advance(Duration::ZERO);
    assert_eq!(calls.get(), 1);
}

// ---- outcomes ----

#[test]
fn outcomes_are_what_the_deferred_came_to() {
    assert_eq!(success_result_of(Deferred::succeed(1)), 1);
    assert_eq!(failure_result_of(Deferred::<u8>::fail(Failure::msg("no"))).to_string(), "no");
    let (promise, mut pending) = Deferred::new();
    assert_no_result(&mut pending);
    promise.callback("there");
    assert_eq!(success_result_of(pending), "there");
}

#[test]
fn a_wrong_outcome_fails_the_test() {
    let fails = |check: fn()| assert!(catch_unwind(check).is_err());
    fails(|| assert_eq!(success_result_of(Deferred::<u8>::fail(Failure::msg("no"))), 1));
    fails(|| drop(failure_result_of(Deferred::succeed(1))));
    fails(|| assert_no_result(&mut Deferred::succeed(1)));
    fails(|| assert_no_result(&mut Deferred::<u8>::fail(Failure::msg("no"))));
    fails(|| {
        let (_promise, pending) = Deferred::<u8>::new();
        success_result_of(pending);
    });
}

// ---- one protocol on a wire ----

/// Notes what it is told.
struct Noting(Log);
impl Protocol for Noting {
    fn connection_made(&mut self, _: TransportRef) {
        note(&self.0, "made");
    }
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        let text = String::from_utf8_lossy(data).into_owned();
        match &*text {
            "pause" => transport.pause_producing(),
            "close" => transport.lose_connection(),
            "abort" => transport.abort_connection(),
            "half" => transport.lose_write_connection(),
            "panic" => panic!("as asked"),
            _ => {}
        }
        note(&self.0, text);
    }
    fn read_connection_lost(&mut self, transport: TransportRef) {
        note(&self.0, "end");
        transport.lose_connection();
    }
    fn write_connection_lost(&mut self, _: TransportRef) {
        note(&self.0, "write end");
    }
    fn connection_lost(&mut self, _: TransportRef, reason: &ConnectionClosed) {
        note(&self.0, format!("lost: {reason:?}"));
    }
}

#[test]
fn a_string_transport_records_and_notes() {
    // TST-1
    let (clock, told) = (Clock::new(), log());
    let wire = StringTransport::connect(Noting(Rc::clone(&told)), &clock);
    let near = wire.transport();
    assert_eq!(near.host().to_string(), "10.0.0.1:12345");
    assert_eq!(near.peer().to_string(), "192.168.1.1:54321");
    near.write("one");
    write!(near, " {}", 2);
    assert_eq!(wire.value(), b"one 2");
    assert_eq!(wire.take(), b"one 2");
    near.lose_connection();
    assert!(wire.is_disconnecting() && !wire.is_aborted() && !wire.is_lost());
    near.write("still");
    assert_eq!(wire.value(), b"still");
    near.abort_connection();
    assert!(wire.is_aborted());
    wire.lose(ConnectionClosed::Done);
    wire.lose(ConnectionClosed::Aborted);
    assert_eq!(*told.borrow(), ["made", "lost: Done"]);
    assert!(wire.is_lost());
}

#[test]
fn a_paused_protocol_gets_nothing_until_it_has_resumed() {
    let (clock, told) = (Clock::new(), log());
    let wire = StringTransport::connect(Noting(Rc::clone(&told)), &clock);
    wire.deliver("pause");
    wire.deliver("a");
    wire.deliver("b");
    assert!(wire.is_paused());
    wire.transport().resume_producing();
    assert_eq!(*told.borrow(), ["made", "pause"]);
    clock.advance(Duration::ZERO);
    assert_eq!(*told.borrow(), ["made", "pause", "ab"]);
}

#[test]
fn a_wire_lost_within_a_callback_ends_after_it() {
    struct Suicidal(Log, Rc<RefCell<Option<StringTransport>>>);
    impl Protocol for Suicidal {
        fn data_received(&mut self, _: TransportRef, _: &[u8]) {
            let wire = self.1.borrow().clone();
            wire.unwrap().lose(ConnectionClosed::Done);
            note(&self.0, "data");
        }
        fn connection_lost(&mut self, _: TransportRef, _: &ConnectionClosed) {
            note(&self.0, "lost");
        }
    }
    let (told, slot) = (log(), Rc::new(RefCell::new(None)));
    let wire = StringTransport::connect(Suicidal(Rc::clone(&told), Rc::clone(&slot)), &Clock::new());
    *slot.borrow_mut() = Some(wire.clone());
    wire.deliver("x");
    assert_eq!(*told.borrow(), ["data", "lost"]);
    slot.take();
}

#[test]
fn dropping_the_far_end_loses_the_connection() {
    let told = log();
    drop(StringTransport::connect(Noting(Rc::clone(&told)), &Clock::new()));
    assert_eq!(*told.borrow(), ["made", "lost: Lost(None)"]);
}

#[test]
fn timers_of_a_wire_are_on_the_tests_clock_and_end_with_it() {
    let (clock, told) = (Clock::new(), log());
    let wire = StringTransport::connect(Noting(Rc::clone(&told)), &clock);
    for at in [1, 5] {
        let told = Rc::clone(&told);
        wire.transport().call_later(seconds(at), move || note(&told, format!("timer {at}")));
    }
    clock.advance(seconds(1));
    wire.lose(ConnectionClosed::Done);
    clock.advance(seconds(10));
    assert_eq!(*told.borrow(), ["made", "timer 1", "lost: Done"]);
    assert_eq!(clock.pending(), 0);
}

struct Push(Log);
impl Producer for Push {
    fn pause_producing(&mut self) {
        note(&self.0, "pause");
    }
    fn resume_producing(&mut self) {
        note(&self.0, "resume");
    }
    fn stop_producing(&mut self) {
        note(&self.0, "stop");
    }
}
/// Writes "0".."9" on ten requests, then has no more.
struct Digits(u8);
impl PullProducer for Digits {
    fn produce(&mut self, consumer: TransportRef) -> bool {
        consumer.write(self.0.to_string());
        self.0 += 1;
        self.0 < 10
    }
}

#[test]
fn a_string_transport_keeps_a_producer() {
    // TST-1
    let (clock, told) = (Clock::new(), log());
    let wire = StringTransport::connect(Noting(log()), &clock);
    wire.transport().register_producer(Push(Rc::clone(&told)));
    assert!(wire.has_producer());
    let second = catch_unwind(AssertUnwindSafe(|| wire.transport().register_producer(Push(log()))));
    assert!(second.is_err());
    wire.pause_producer();
    wire.resume_producer();
    wire.lose(ConnectionClosed::Done);
    assert_eq!(*told.borrow(), ["pause", "resume", "stop"]);
}

#[test]
fn a_pull_producer_is_asked_once_each_time() {
    // TST-5
    let wire = StringTransport::connect(Noting(log()), &Clock::new());
    wire.transport().register_pull_producer(Digits(0));
    while wire.has_producer() {
        wire.resume_producer();
    }
    assert_eq!(wire.value(), b"0123456789");
}

// ---- two protocols on a wire ----

fn pair() -> (twistlet::testing::Pump, Log, Log, Clock) {
    let (client, server, clock) = (log(), log(), Clock::new());
    let pump = connect(Noting(Rc::clone(&client)), Noting(Rc::clone(&server)), &clock);
    (pump, client, server, clock)
}

#[test]
fn a_pump_moves_what_was_written_in_one_piece() {
    // LOO-P, TST-6
    let (pump, client, server, _) = pair();
    pump.client().write("a");
    pump.client().write("b");
    pump.server().write("c");
    assert_eq!(*server.borrow(), ["made"]);
    assert!(pump.pump());
    assert!(!pump.pump());
    assert_eq!(*server.borrow(), ["made", "ab"]);
    assert_eq!(*client.borrow(), ["made", "c"]);
    assert_eq!(pump.client().peer(), pump.server().host());
}

#[test]
fn closing_sends_what_waits_and_both_are_told_once() {
    // LOO-P
    let (pump, client, server, _) = pair();
    pump.client().write("last words");
    pump.client().lose_connection();
    pump.flush();
    assert_eq!(*client.borrow(), ["made", "lost: Done"]);
    assert_eq!(*server.borrow(), ["made", "last words", "end", "lost: Done"]);
}

#[test]
fn half_closing_leaves_the_other_direction() {
    let (pump, client, server, _) = pair();
    pump.client().write("request");
    pump.client().lose_write_connection();
    pump.server().write("answer");
    pump.flush();
    assert_eq!(*client.borrow(), ["made", "answer", "write end", "end", "lost: Done"]);
    assert_eq!(*server.borrow(), ["made", "request", "end", "lost: Done"]);
}

#[test]
fn aborting_and_a_panic_reset_the_other_side() {
    let reset = format!("lost: Lost(Some({:?}))", ErrorKind::ConnectionReset);
    let (pump, client, server, _) = pair();
    pump.client().write("lost with the connection");
    pump.client().abort_connection();
    pump.flush();
    assert_eq!(*client.borrow(), ["made", "lost: Aborted"]);
    assert_eq!(*server.borrow(), ["made".to_owned(), reset.clone()]);

    let (pump, client, server, _) = pair();
    pump.client().write("panic");
    pump.flush();
    assert_eq!(*client.borrow(), ["made".to_owned(), reset]);
    assert!(server.borrow().last().unwrap().starts_with("lost: Failed"));
}

#[test]
fn a_paused_side_gets_data_and_end_when_it_resumes() {
    let (pump, _, server, _) = pair();
    pump.client().write("pause");
    pump.flush();
    pump.client().write("later");
    pump.client().lose_connection();
    pump.flush();
    assert_eq!(*server.borrow(), ["made", "pause"]);
    pump.server().resume_producing();
    pump.flush();
    assert_eq!(*server.borrow(), ["made", "pause", "later", "end", "lost: Done"]);
}

#[test]
fn producers_are_served_and_hold_the_close_back() {
    // LOO-P
    let (pump, client, server, _) = pair();
    pump.client().register_pull_producer(Digits(0));
    pump.client().lose_connection();
    pump.flush();
    let digits: String = server.borrow()[1..11].concat();
    assert_eq!(digits, "0123456789");
    assert_eq!(*client.borrow(), ["made", "lost: Done"]);

    let (pump, _, _, _) = pair();
    let told = log();
    pump.client().register_producer(Push(Rc::clone(&told)));
    pump.client().write(vec![b'x'; 100_000]);
    pump.pump();
    assert_eq!(*told.borrow(), ["pause"]);
    pump.pump();
    assert_eq!(*told.borrow(), ["pause", "resume"]);
}

#[test]
fn a_pump_runs_what_is_due_on_the_clock() {
    let (pump, _, server, clock) = pair();
    let client = pump.client();
    client.call_later(Duration::ZERO, move || client.write("tick"));
    pump.flush();
    assert_eq!(*server.borrow(), ["made", "tick"]);
    assert_eq!(clock.elapsed(), Duration::ZERO);
}

#[test]
fn protocols_that_never_stop_talking_fail_the_test() {
    // TST-6
    struct Echo;
    impl Protocol for Echo {
        fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
            transport.write(data);
        }
    }
    let pump = connect(Echo, Echo, &Clock::new());
    pump.client().write("ping");
    assert!(catch_unwind(AssertUnwindSafe(|| pump.flush())).is_err());
}
