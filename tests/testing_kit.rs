//! The test kit's own promises: what it makes fail, what it finds left behind, attempts in a test's hand.
use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;
use twistlet::protocols::{PullFactory, PullTransport, Raw};
use twistlet::task::defer_later;
use twistlet::testing::{
    Clock, FailuresLogged, Leftovers, LoggedFailures, NoLeftovers, check_leftovers, connect, flush_logged_failures,
    flush_logged_failures_of, simulate,
};
use twistlet::{
    ConnectError, ConnectionClosed, Deferred, Failure, Protocol, PullProducer, Reactor, TimedOut, TransportRef,
};

#[path = "support/watch.rs"]
mod support;
use support::{dog, logged};

const MS: Duration = Duration::from_millis(1);
const AT: &str = "10.0.0.9:7000";

/// What a panic of `f` says.
fn panic_of(f: impl FnOnce()) -> String {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) {
        Ok(()) => panic!("it did not panic"),
        Err(payload) => Failure::from_panic(payload).to_string(),
    }
}

#[test]
fn a_failed_assert_in_a_callback_fails_the_simulation() {
    // TST-7
    let _dog = dog();
    let failed = simulate(|reactor, _| {
        reactor.call_later(MS, || assert_eq!(1 + 1, 3, "in a callback"));
        Ok(defer_later(reactor, MS * 2, || Ok(7)))
    })
    .unwrap_err();
    let all = failed.check::<FailuresLogged>().unwrap();
    assert_eq!(all.failures.len(), 1);
    assert!(all.failures[0].failure.is_panic());
    assert!(failed.to_string().contains("in a callback"), "{failed}");
    assert_eq!(logged().len(), 1, "it is logged all the same");
}

#[test]
fn what_a_simulation_ended_early_for_is_told_rather_than_that_it_ended() {
    let _dog = dog();
    let failed = simulate(|reactor, _| {
        let (promise, deferred) = Deferred::<()>::new();
        reactor.call_later(MS, move || {
            assert!(promise.is_cancelled(), "the promise goes with this panic");
            promise.callback(());
        });
        // Its failure is taken, and nothing fires the other.
        let _ = deferred.add_errback(|_| Ok(()));
        Ok(Deferred::<()>::new().1.add_both(|_| defer_never()))
    })
    .unwrap_err();
    assert!(failed.to_string().contains("the promise goes with this panic"), "{failed}");
    fn defer_never() -> Deferred<()> {
        let (promise, never) = Deferred::new();
        std::mem::forget(promise);
        never
    }
}

#[test]
fn a_failure_of_the_simulations_own_is_told_first() {
    let _dog = dog();
    let failed = simulate(|reactor, _| {
        reactor.call_soon(|| Err::<(), _>(Failure::msg("logged")));
        Ok(defer_later(reactor, MS, || Err::<(), _>(Failure::msg("its own"))))
    })
    .unwrap_err();
    assert_eq!(failed.to_string(), "its own");
}

#[test]
fn failures_that_were_flushed_are_no_failures() {
    let _dog = dog();
    simulate(|reactor, _| {
        reactor.call_soon(|| Err::<(), _>(TimedOut(MS).into()));
        reactor.call_soon(|| Err::<(), _>(Failure::msg("another")));
        Ok(defer_later(reactor, MS, || {
            assert_eq!(flush_logged_failures_of::<TimedOut>().len(), 1);
            let rest = flush_logged_failures();
            assert_eq!((rest.len(), rest[0].failure.to_string()), (1, "another".to_owned()));
            assert!(!rest[0].whose.is_empty());
            Ok(())
        }))
    })
    .unwrap();
}

#[test]
fn a_panic_while_the_reactor_ends_counts_and_a_promise_dropped_then_does_not() {
    let _dog = dog();
    struct Sore;
    impl twistlet::Protocol for Sore {
        fn data_received(&mut self, _: twistlet::TransportRef, _: &[u8]) {}
        fn connection_lost(&mut self, _: twistlet::TransportRef, _: &twistlet::ConnectionClosed) {
            panic!("at the end");
        }
    }
    let failed = simulate(|reactor, _| {
        reactor.listen_tcp(AT, || Sore)?;
        let (promise, unwatched) = Deferred::<()>::new();
        reactor.call_later(Duration::from_secs(60), move || promise.callback(()));
        drop(unwatched);
        Ok(reactor.connect_protocol(AT, Sore).add_callback(|_| ()))
    })
    .unwrap_err();
    assert!(failed.check::<FailuresLogged>().unwrap().failures.iter().all(|logged| logged.failure.is_panic()));
}

#[test]
fn logged_failures_that_nobody_flushed_fail_the_test() {
    let _dog = dog();
    let said = panic_of(|| {
        let _nothing_unexpected = LoggedFailures::collect();
        drop(Deferred::<()>::fail(Failure::msg("broken")));
    });
    assert!(said.contains("broken") && said.contains("flush_logged_failures"), "{said}");
    // One within another has its own.
    let outer = LoggedFailures::collect();
    {
        let _inner = LoggedFailures::collect();
        drop(Deferred::<()>::fail(Failure::msg("inner")));
        assert_eq!(flush_logged_failures().len(), 1);
    }
    assert!(flush_logged_failures().is_empty());
    drop(outer);
    // Nobody collects any more.
    drop(Deferred::<()>::fail(Failure::msg("late")));
    assert!(flush_logged_failures().is_empty());
}

#[test]
fn whatever_is_left_on_the_reactor_is_named() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    check_leftovers(&reactor);
    let tidy = NoLeftovers::watch(&reactor);
    let port = reactor.listen_tcp("127.0.0.1:0", PullFactory::new(|_| ())).unwrap();
    let line = line!() + 1;
    let call = reactor.call_later(Duration::from_secs(3600), || ());
    let future = reactor.spawn_local(std::future::pending::<()>());
    let said = panic_of(move || drop(tidy));
    assert!(said.contains(&format!("made at tests/testing_kit.rs:{line}:")), "{said}");
    assert!(
        said.contains("a listening port at 127.0.0.1:") && said.contains("futures that have not ended: 1"),
        "{said}"
    );
    let left = Leftovers::of(&reactor);
    assert_eq!((left.timers.len(), left.descriptors.len(), left.futures, left.jobs), (1, 1, 1, 0));
    call.cancel();
    future.cancel();
    let _ = port.stop_listening();
    reactor.call_later(MS, move || reactor.crash());
    reactor.run().unwrap();
    check_leftovers(&reactor);
    reactor.close();
    assert!(Leftovers::of(&reactor).is_empty());
}

#[test]
fn what_was_there_before_is_not_the_tests() {
    let reactor = Reactor::new().unwrap();
    let _before = reactor.call_later(Duration::from_secs(3600), || ());
    drop(NoLeftovers::watch(&reactor));
    assert!(panic_of(|| check_leftovers(&reactor)).contains("a delayed call"));
    reactor.close();
}

#[test]
fn a_connection_and_a_job_count_until_they_are_gone() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let to = reactor.listen_tcp("127.0.0.1:0", PullFactory::new(|conn: PullTransport| conn.recv())).unwrap().address();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let job = reactor.defer_to_thread(move || Ok(wait.recv()?));
    let seen = Rc::new(Cell::new(0));
    let counted = Rc::clone(&seen);
    let done = reactor.spawn_local(async move {
        let conn = PullTransport::connect_tcp(&reactor, &to, Raw).await?;
        let left = Leftovers::of(&reactor);
        counted.set(left.descriptors.iter().filter(|item| item.starts_with("a connection with 127.0.0.1:")).count());
        assert_eq!((left.jobs, left.futures), (1, 0));
        go.send(())?;
        job.await?;
        conn.close().await?;
        assert_eq!(Leftovers::of(&reactor).jobs, 0);
        Ok(())
    });
    let _ = done.add_both(move |outcome| {
        let _ = reactor.stop();
        outcome
    });
    reactor.run().unwrap();
    assert!(seen.get() >= 1);
    assert_eq!(logged(), [""; 0]);
}

#[test]
fn a_held_attempt_succeeds_or_fails_when_the_test_says_so() {
    // TST-6
    let _dog = dog();
    simulate(|reactor, network| {
        reactor.listen_tcp(AT, PullFactory::new(|conn: PullTransport| conn.write("hello")))?;
        network.hold_connects(true);
        let (reactor, network) = (*reactor, network.clone());
        Ok(reactor.spawn_local(async move {
            assert!(!network.succeed_once() && !network.fail_once(ErrorKind::TimedOut), "nobody has called yet");
            let first = PullTransport::connect_tcp(&reactor, AT, Raw);
            let second = PullTransport::connect_tcp(&reactor, AT, Raw);
            let given_up = PullTransport::connect_tcp(&reactor, AT, Raw);
            defer_later(&reactor, MS, || ()).await?;
            assert_eq!(network.held().len(), 3);
            assert_eq!(network.attempts().len(), 3);
            assert!(network.fail_once(ErrorKind::HostUnreachable));
            let failure = first.await.unwrap_err();
            assert!(failure.is::<ConnectError>());
            assert_eq!(failure.kind(), ErrorKind::HostUnreachable);
            assert!(network.succeed_once());
            let conn = second.await?;
            assert_eq!(conn.recv().await?.unwrap(), "hello");
            given_up.cancel();
            let _ = given_up.await;
            assert!(network.held().is_empty() && !network.succeed_once());
            Ok(())
        }))
    })
    .unwrap();
}

#[test]
fn a_pump_delivers_coalesced_or_write_by_write_or_byte_by_byte() {
    // LOO-P
    use twistlet::testing::{AccumulatingProtocol, Clock, Delivery, connect};
    struct Counts(Rc<std::cell::RefCell<Vec<usize>>>);
    impl twistlet::Protocol for Counts {
        fn data_received(&mut self, _: twistlet::TransportRef, data: &[u8]) {
            self.0.borrow_mut().push(data.len());
        }
    }
    for (delivery, expected) in
        [(Delivery::Coalesced, vec![6]), (Delivery::PerWrite, vec![1, 2, 3]), (Delivery::PerByte, vec![1; 6])]
    {
        let lengths = Rc::default();
        let pump = connect(AccumulatingProtocol::new(), Counts(Rc::clone(&lengths)), &Clock::new());
        pump.set_delivery(delivery);
        for piece in ["a", "bc", "", "def"] {
            pump.client().write(piece);
        }
        pump.flush();
        assert_eq!(*lengths.borrow(), expected, "{delivery:?}");
    }
}

#[test]
fn a_pump_holds_a_writer_back_whose_reader_has_paused() {
    use twistlet::testing::{AccumulatingProtocol, Clock, connect, success_result_of};
    let seen = AccumulatingProtocol::new();
    let pump = connect(AccumulatingProtocol::new(), seen.clone(), &Clock::new());
    pump.server().pause_producing();
    pump.client().write(vec![7; 200_000]);
    let mut flushed = pump.client().when_flushed();
    pump.flush();
    assert!(pump.client().unsent() > 100_000 && flushed.result().is_none());
    pump.server().resume_producing();
    pump.flush();
    success_result_of(flushed);
    assert_eq!((seen.take().len(), pump.client().unsent()), (200_000, 0));
}

#[test]
fn what_an_accumulating_protocol_was_told_can_be_waited_for() {
    // TST-3
    use twistlet::ConnectionClosed;
    use twistlet::testing::{AccumulatingProtocol, Clock, StringTransport, success_result_of};
    let (clock, seen) = (Clock::new(), AccumulatingProtocol::new());
    let (mut made, mut closed) = (seen.when_made(), seen.when_closed());
    assert!(!made.is_fired() && seen.transport().is_none());
    let wire = StringTransport::connect(seen.clone(), &clock);
    assert_eq!(made.result(), Some(Ok(&wire.transport())));
    seen.stay_open();
    wire.deliver("data");
    wire.deliver_end();
    assert_eq!((seen.data(), seen.is_read_lost(), wire.is_disconnecting()), (b"data".to_vec(), true, false));
    assert!(!closed.is_fired());
    wire.lose(ConnectionClosed::Lost(None));
    assert_eq!(success_result_of(closed), ConnectionClosed::Lost(None));
    assert_eq!(success_result_of(seen.when_closed()), ConnectionClosed::Lost(None));
    assert_eq!(success_result_of(seen.when_made()), wire.transport());
}

#[test]
fn a_wire_that_ends_when_closed_tells_why_and_only_once() {
    // TST-2
    use twistlet::ConnectionClosed;
    use twistlet::testing::{AccumulatingProtocol, Clock, StringTransport};
    type Close = fn(twistlet::TransportRef);
    let closes: [(Close, &str); 3] = [
        (|wire| wire.lose_connection(), "Done"),
        (|wire| wire.abort_connection(), "Aborted"),
        (|wire| wire.fail_connection(Failure::msg("mine")), "Failed"),
    ];
    for (close, expected) in closes {
        let (clock, seen) = (Clock::new(), AccumulatingProtocol::new());
        let wire = StringTransport::connect(seen.clone(), &clock);
        close(wire.transport());
        clock.advance(MS);
        assert_eq!(seen.reason(), None, "it is for the test to end it");
        wire.ends_when_closed();
        close(wire.transport());
        assert_eq!(seen.reason(), None, "no method of a transport calls its protocol");
        clock.advance(Duration::ZERO);
        assert!(format!("{:?}", seen.reason().unwrap()).starts_with(expected));
        wire.lose(ConnectionClosed::Lost(None));
        assert!(format!("{:?}", seen.reason().unwrap()).starts_with(expected));
        assert_eq!(clock.pending(), 0);
    }
}

#[test]
fn a_producer_that_panics_in_memory_ends_its_connection_as_on_a_socket() {
    // TST-9, R2
    struct Idle(Rc<Cell<u32>>);
    impl Protocol for Idle {
        fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
        fn connection_lost(&mut self, _: TransportRef, reason: &ConnectionClosed) {
            self.0.set(self.0.get() + if matches!(reason, ConnectionClosed::Failed(_)) { 1 } else { 10 });
        }
    }
    struct Panics;
    impl PullProducer for Panics {
        fn produce(&mut self, _: TransportRef) -> bool {
            panic!("in a producer")
        }
    }
    let _dog = dog();
    let lost = Rc::new(Cell::new(0));
    let pump = connect(Idle(lost.clone()), Idle(lost.clone()), &Clock::new());
    pump.client().register_pull_producer(Panics);
    pump.flush();
    assert_eq!(lost.get(), 11, "one with its failure, the other with the end that this is for it");
    assert_eq!(logged().len(), 1);
}
