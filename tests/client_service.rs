//! `ClientService` against an endpoint in the test's hands and a clock that stands still; one test for each way through its
//! table. Case ids: tests/README.md.
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use twistlet::endpoint::ClientEndpoint;
use twistlet::error::Cancelled;
use twistlet::service::{ClientService, ExponentialBackoff, RetryPolicy, Service};
use twistlet::testing::{Clock, StringTransport, assert_no_result, failure_result_of, success_result_of};
use twistlet::{
    Address, ConnectError, ConnectionClosed, Deferred, Factory, Failure, Promise, Protocol, Result, TransportRef,
    from_fn,
};

type Attempt = (Box<dyn Factory>, Promise<TransportRef>);

/// An endpoint that leaves every attempt to the test.
#[derive(Clone)]
struct Manual {
    clock: Clock,
    attempts: Rc<RefCell<Vec<Attempt>>>,
}
impl ClientEndpoint for Manual {
    fn connect_boxed(&self, factory: Box<dyn Factory>) -> Deferred<TransportRef> {
        let (promise, deferred) = Deferred::new();
        self.attempts.borrow_mut().push((factory, promise));
        deferred
    }
}
impl Manual {
    fn begun(&self) -> usize {
        self.attempts.borrow().len()
    }
    fn take(&self) -> Attempt {
        self.attempts.borrow_mut().pop().expect("an attempt")
    }
    /// The attempt succeeds; gives the far end.
    fn accept(&self) -> StringTransport {
        let (mut factory, promise) = self.take();
        let protocol = factory.build_protocol(&Address::Gone).expect("a protocol");
        let wire = StringTransport::connect(protocol, &self.clock);
        promise.callback(wire.transport());
        wire
    }
    fn refuse(&self, why: &str) {
        self.take().1.errback(Failure::msg(why));
    }
}

#[derive(Default, Clone)]
struct Notes(Rc<RefCell<Vec<&'static str>>>);
struct Noting(Notes);
impl Protocol for Noting {
    fn connection_made(&mut self, _: TransportRef) {
        self.0.0.borrow_mut().push("made");
    }
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        match data {
            b"panic" => panic!("told to"),
            b"switch" => transport.switch_protocol(Noting(self.0.clone()), b""),
            _ => self.0.0.borrow_mut().push("data"),
        }
    }
    fn read_connection_lost(&mut self, _: TransportRef) {
        self.0.0.borrow_mut().push("read lost");
    }
    fn write_connection_lost(&mut self, _: TransportRef) {
        self.0.0.borrow_mut().push("write lost");
    }
    fn handshake_completed(&mut self, _: TransportRef) {
        self.0.0.borrow_mut().push("handshake");
    }
    fn connection_lost(&mut self, _: TransportRef, _: &ConnectionClosed) {
        self.0.0.borrow_mut().push("lost");
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// A service that waits as many seconds as attempts have failed, with what it stands on.
fn service() -> (ClientService, Manual, Clock) {
    let (service, endpoint, clock, _) = noted();
    (service, endpoint, clock)
}
fn noted() -> (ClientService, Manual, Clock, Notes) {
    let (clock, notes) = (Clock::new(), Notes::default());
    let endpoint = Manual { clock: clock.clone(), attempts: Rc::default() };
    let kept = notes.clone();
    let service = ClientService::new(&clock, endpoint.clone(), move || Noting(kept.clone()))
        .retry_policy(|failed: u32| SECOND * failed);
    (service, endpoint, clock, notes)
}
fn is_cancelled(deferred: Deferred<TransportRef>) -> bool {
    failure_result_of(deferred).is::<Cancelled>()
}

#[test]
fn it_connects_as_it_starts_and_tells_who_waited_of_the_connection() {
    // CLI-3, CLI-6
    let (mut service, endpoint, _clock) = service();
    let mut early = service.when_connected();
    assert_no_result(&mut early);
    assert_eq!(endpoint.begun(), 0);
    success_result_of(service.start_service());
    assert_eq!(endpoint.begun(), 1);
    assert_no_result(&mut early);
    assert!(service.connection().is_none());
    let wire = endpoint.accept();
    assert_eq!(success_result_of(early), wire.transport());
    assert_eq!(success_result_of(service.when_connected()), wire.transport());
    assert_eq!(service.connection(), Some(wire.transport()));
}

#[test]
fn a_second_start_does_nothing() {
    // CLI-3
    let (mut service, endpoint, clock) = service();
    service.start_service();
    service.start_service();
    assert_eq!(endpoint.begun(), 1);
    let wire = endpoint.accept();
    service.start_service();
    assert_eq!((endpoint.begun(), clock.pending()), (0, 0));
    assert!(!wire.is_disconnecting());
    // Nor while it waits, nor while it is about to start anyway.
    wire.lose(ConnectionClosed::Done);
    service.start_service();
    assert_eq!((endpoint.begun(), clock.pending()), (0, 1));
    clock.advance(SECOND);
    let wire = endpoint.accept();
    let mut stopped = service.stop_service();
    service.start_service();
    service.start_service();
    assert_no_result(&mut stopped);
    wire.lose(ConnectionClosed::Done);
    success_result_of(stopped);
    assert_eq!((endpoint.begun(), clock.pending()), (1, 0));
}

#[test]
fn failures_are_followed_by_longer_and_longer_waits() {
    // CLI-4
    let (mut service, endpoint, clock) = service();
    service.start_service();
    for failed in 1..5 {
        endpoint.refuse("no");
        assert_eq!((service.failed_attempts(), clock.pending(), endpoint.begun()), (failed, 1, 0));
        clock.advance(SECOND * failed - Duration::from_millis(1));
        assert_eq!(endpoint.begun(), 0);
        clock.advance(Duration::from_millis(1));
        assert_eq!(endpoint.begun(), 1);
    }
    let _wire = endpoint.accept();
    assert_eq!(service.failed_attempts(), 0);
}

#[test]
fn a_lost_connection_is_made_again() {
    // CLI-4
    let (mut service, endpoint, clock) = service();
    service.start_service();
    let first = endpoint.accept();
    first.lose(ConnectionClosed::Lost(None));
    assert_eq!((service.failed_attempts(), clock.pending()), (1, 1));
    let mut next = service.when_connected();
    assert_no_result(&mut next);
    clock.advance(SECOND);
    let second = endpoint.accept();
    assert_eq!(success_result_of(next), second.transport());
    assert_eq!(service.failed_attempts(), 0);
}

#[test]
fn a_factory_that_declines_and_an_endpoint_that_panics_are_failed_attempts() {
    // CLI-4
    struct Panics;
    impl ClientEndpoint for Panics {
        fn connect_boxed(&self, _: Box<dyn Factory>) -> Deferred<TransportRef> {
            panic!("an endpoint")
        }
    }
    struct Asks;
    impl ClientEndpoint for Asks {
        fn connect_boxed(&self, mut factory: Box<dyn Factory>) -> Deferred<TransportRef> {
            assert!(factory.build_protocol(&Address::Gone).is_none());
            Deferred::fail(ConnectError::NoProtocol)
        }
    }
    let clock = Clock::new();
    let mut panics = ClientService::new(&clock, Panics, || Noting(Notes::default()));
    let mut declines = ClientService::new(&clock, Asks, from_fn(|_| None::<Noting>));
    for service in [&mut panics, &mut declines] {
        let failed = service.when_connected_within(1);
        service.start_service();
        failure_result_of(failed);
        assert_eq!(service.failed_attempts(), 1);
        success_result_of(service.stop_service());
    }
    assert_eq!(clock.pending(), 0);
}

#[test]
fn who_waits_for_so_many_failures_is_told_of_the_last_of_them() {
    // E07, CLI-6
    let (mut service, endpoint, clock) = service();
    let mut patient = service.when_connected();
    let (one, mut two, mut three) =
        (service.when_connected_within(1), service.when_connected_within(2), service.when_connected_within(3));
    service.start_service();
    endpoint.refuse("first");
    assert_eq!(failure_result_of(one).to_string(), "first");
    assert_no_result(&mut two);
    clock.advance(SECOND);
    endpoint.refuse("second");
    assert_eq!(failure_result_of(two).to_string(), "second");
    // Counted from the call on.
    let mut late = service.when_connected_within(2);
    for waiting in [&mut patient, &mut three, &mut late] {
        assert_no_result(waiting);
    }
    clock.advance(2 * SECOND);
    let wire = endpoint.accept();
    for waiting in [patient, three, late] {
        assert_eq!(success_result_of(waiting), wire.transport());
    }
}

#[test]
fn stopping_what_never_ran_or_has_stopped_is_done_at_once() {
    // CLI-7, CLI-6
    let (mut service, endpoint, clock) = service();
    let early = service.when_connected();
    success_result_of(service.stop_service());
    assert!(is_cancelled(early));
    success_result_of(service.stop_service());
    assert!(is_cancelled(service.when_connected()));
    service.start_service();
    let _wire = endpoint.accept();
    assert_eq!(clock.pending(), 0);
}

#[test]
fn stopping_while_it_waits_forgets_the_timer_and_is_done_at_once() {
    // EX05, CLI-7
    let (mut service, endpoint, clock) = service();
    service.start_service();
    endpoint.refuse("no");
    let waiting = service.when_connected();
    assert_eq!(clock.pending(), 1);
    success_result_of(service.stop_service());
    assert!(is_cancelled(waiting));
    assert_eq!(clock.pending(), 0);
    clock.advance(100 * SECOND);
    assert_eq!((clock.pending(), endpoint.begun()), (0, 0));
}

#[test]
fn stopping_an_attempt_cancels_it_and_is_done_when_that_has_failed() {
    // CLI-7
    let (mut service, endpoint, clock) = service();
    service.start_service();
    let waiting = service.when_connected();
    success_result_of(service.stop_service());
    let (_factory, promise) = endpoint.take();
    assert!(promise.is_cancelled());
    assert!(is_cancelled(waiting));
    assert_eq!(clock.pending(), 0);
}

#[test]
fn stopping_a_connection_closes_it_and_is_done_when_it_is_gone() {
    // CLI-7, CLI-8
    let (mut service, endpoint, clock) = service();
    service.start_service();
    let wire = endpoint.accept();
    let mut stopped = service.stop_service();
    let mut again = service.stop_service();
    let mut waiting = service.when_connected();
    assert!(wire.is_disconnecting());
    assert_no_result(&mut stopped);
    assert_no_result(&mut again);
    assert_no_result(&mut waiting);
    wire.lose(ConnectionClosed::Done);
    success_result_of(stopped);
    success_result_of(again);
    assert!(is_cancelled(waiting));
    assert_eq!(clock.pending(), 0);
}

#[test]
fn one_that_is_started_while_it_stops_connects_when_the_old_connection_is_gone() {
    // CLI-3, CLI-8
    let (mut service, endpoint, clock) = service();
    service.start_service();
    let first = endpoint.accept();
    let mut stopped = service.stop_service();
    let waiting = service.when_connected();
    service.start_service();
    assert_no_result(&mut stopped);
    assert_eq!(endpoint.begun(), 0);
    first.lose(ConnectionClosed::Done);
    success_result_of(stopped);
    let second = endpoint.accept();
    assert_eq!(success_result_of(waiting), second.transport());
    assert_eq!(clock.pending(), 0);
}

#[test]
fn one_that_is_stopped_again_before_it_came_to_connect_stays_stopped() {
    // CLI-7: Restarting and back
    let (mut service, endpoint, _clock) = service();
    service.start_service();
    let wire = endpoint.accept();
    let mut first = service.stop_service();
    service.start_service();
    let mut second = service.stop_service();
    assert_no_result(&mut first);
    assert_no_result(&mut second);
    wire.lose(ConnectionClosed::Done);
    success_result_of(first);
    success_result_of(second);
    assert_eq!(endpoint.begun(), 0);
    assert!(is_cancelled(service.when_connected()));
}

#[test]
fn one_that_is_started_again_as_its_attempt_is_given_up_connects_anew() {
    // CLI-3: Restarting, and the attempt that is waited for fails
    let (mut service, endpoint, clock) = service();
    service.start_service();
    let waiting = service.when_connected();
    let (_factory, promise) = endpoint.take();
    let mut inner = service.clone();
    promise.on_cancel(move || drop(inner.start_service()));
    success_result_of(service.stop_service());
    assert_eq!(endpoint.begun(), 1);
    let wire = endpoint.accept();
    assert_eq!(success_result_of(waiting), wire.transport());
    assert_eq!(clock.pending(), 0);
}

#[test]
fn what_prepares_a_connection_may_stop_the_service_and_is_given_up() {
    let (clock, stops) = (Clock::new(), Rc::new(RefCell::new(None::<ClientService>)));
    let endpoint = Manual { clock: clock.clone(), attempts: Rc::default() };
    let (kept, inner) = (Rc::new(RefCell::new(None)), stops.clone());
    let (promises, ends) = (kept.clone(), Rc::new(RefCell::new(None)));
    let stopped = ends.clone();
    let mut service =
        ClientService::new(&clock, endpoint.clone(), || Noting(Notes::default())).prepare_connection(move |_| {
            let mut service = inner.borrow().clone().expect("set");
            *stopped.borrow_mut() = Some(service.stop_service());
            let (promise, deferred) = Deferred::<()>::new();
            *promises.borrow_mut() = Some(promise);
            deferred
        });
    *stops.borrow_mut() = Some(service.clone());
    service.start_service();
    let wire = endpoint.accept();
    assert!(wire.is_disconnecting());
    assert!(kept.take().expect("prepared").is_cancelled(), "nobody waits for it any more");
    let mut stopped = ends.take().expect("stopped");
    assert_no_result(&mut stopped);
    wire.lose(ConnectionClosed::Done);
    success_result_of(stopped);
    drop(stops.take());
}

#[test]
fn a_connection_counts_when_it_is_prepared() {
    // CLI-5
    let (service, endpoint, clock) = service();
    let prepared = Rc::new(RefCell::new(Vec::new()));
    let kept = Rc::clone(&prepared);
    let mut service = service.prepare_connection(move |transport| {
        let (promise, deferred) = Deferred::new();
        kept.borrow_mut().push((transport, promise));
        deferred
    });
    let mut waiting = service.when_connected();
    service.start_service();
    let wire = endpoint.accept();
    let (transport, promise) = prepared.borrow_mut().pop().expect("it was asked");
    assert_eq!(transport, wire.transport());
    assert_no_result(&mut waiting);
    assert_no_result(&mut service.when_connected());
    promise.callback(1);
    assert_eq!(success_result_of(waiting), wire.transport());
    // Every connection is.
    wire.lose(ConnectionClosed::Done);
    clock.advance(SECOND);
    let wire = endpoint.accept();
    assert_eq!(prepared.borrow()[0].0, wire.transport());
}

#[test]
fn a_connection_that_is_not_found_good_is_closed_and_its_loss_is_not_heard() {
    // N14, E09, CLI-4, CLI-5
    let (service, endpoint, clock) = service();
    let mut service = service.prepare_connection(|_| Result::<()>::Err(Failure::msg("not good")));
    let (one, mut two) = (service.when_connected_within(1), service.when_connected_within(2));
    service.start_service();
    let wire = endpoint.accept();
    assert_eq!(failure_result_of(one).to_string(), "not good");
    assert!(wire.is_disconnecting());
    assert_eq!((service.failed_attempts(), clock.pending()), (1, 1));
    wire.lose(ConnectionClosed::Done);
    assert_eq!((service.failed_attempts(), clock.pending()), (1, 1));
    assert_no_result(&mut two);
    clock.advance(SECOND);
    let wire = endpoint.accept();
    assert_eq!(failure_result_of(two).to_string(), "not good");
    // Also when it is lost only after the next attempt has begun.
    clock.advance(2 * SECOND);
    assert_eq!(endpoint.begun(), 1);
    wire.lose(ConnectionClosed::Done);
    assert_eq!((service.failed_attempts(), clock.pending(), endpoint.begun()), (2, 0, 1));
}

#[test]
fn a_panic_while_preparing_is_a_failed_attempt() {
    let (service, endpoint, clock) = service();
    let mut service = service.prepare_connection(|_| -> () { panic!("a preparation") });
    let waiting = service.when_connected_within(1);
    service.start_service();
    let wire = endpoint.accept();
    assert!(failure_result_of(waiting).is_panic());
    assert!(wire.is_disconnecting());
    assert_eq!(clock.pending(), 1);
}

#[test]
fn a_connection_that_is_lost_while_it_is_prepared_is_a_failed_attempt() {
    let (service, endpoint, clock) = service();
    let (promise, deferred) = Deferred::<()>::new();
    let mut deferred = Some(deferred);
    let mut service = service.prepare_connection(move |_| deferred.take().expect("one attempt"));
    let waiting = service.when_connected_within(1);
    service.start_service();
    endpoint.accept().lose(ConnectionClosed::Lost(None));
    assert_eq!(failure_result_of(waiting).check(), Some(&ConnectionClosed::Lost(None)));
    assert!(promise.is_cancelled());
    assert_eq!((service.failed_attempts(), clock.pending()), (1, 1));
}

#[test]
fn stopping_while_a_connection_is_prepared_waits_for_its_end() {
    // CLI-7
    let (service, endpoint, clock) = service();
    let (promise, deferred) = Deferred::<()>::new();
    let mut deferred = Some(deferred);
    let mut service = service.prepare_connection(move |_| deferred.take().expect("one attempt"));
    service.start_service();
    let wire = endpoint.accept();
    let mut stopped = service.stop_service();
    assert!(promise.is_cancelled() && wire.is_disconnecting());
    assert_no_result(&mut stopped);
    wire.lose(ConnectionClosed::Done);
    success_result_of(stopped);
    assert_eq!(clock.pending(), 0);
}

#[test]
fn the_protocol_is_told_everything_and_a_panic_of_it_is_a_loss_like_any_other() {
    // CLI-9
    let (mut service, endpoint, clock, notes) = noted();
    service.start_service();
    let wire = endpoint.accept();
    wire.deliver("data");
    wire.deliver_end();
    wire.transport().lose_write_connection();
    wire.finish_writing();
    wire.lose(ConnectionClosed::Done);
    assert_eq!(*notes.0.borrow(), ["made", "data", "read lost", "write lost", "lost"]);
    assert_eq!(clock.pending(), 1);
    struct Panics;
    impl Protocol for Panics {
        fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
        fn connection_lost(&mut self, _: TransportRef, _: &ConnectionClosed) {
            panic!("at the end")
        }
    }
    let mut service = ClientService::new(&clock, endpoint.clone(), || Panics);
    service.start_service();
    endpoint.accept().lose(ConnectionClosed::Done);
    assert_eq!((service.failed_attempts(), clock.pending()), (1, 2));
}

#[test]
fn the_loss_of_a_connection_that_another_protocol_took_over_is_heard() {
    let (mut service, endpoint, clock, _notes) = noted();
    service.start_service();
    let wire = endpoint.accept();
    wire.deliver("switch");
    clock.advance(Duration::ZERO);
    wire.deliver("data");
    assert_eq!(service.failed_attempts(), 0);
    wire.lose(ConnectionClosed::Done);
    assert_eq!(service.failed_attempts(), 1);
    success_result_of(service.stop_service());
    assert_eq!(clock.pending(), 0);
}

#[test]
fn callbacks_may_start_and_stop_the_service() {
    let (mut service, endpoint, clock) = service();
    let mut inner = service.clone();
    let stopped = service.when_connected().add_callback(move |_| inner.stop_service());
    service.start_service();
    let wire = endpoint.accept();
    assert!(wire.is_disconnecting());
    let mut inner = service.clone();
    let restarted = stopped.add_callback(move |()| drop(inner.start_service()));
    wire.lose(ConnectionClosed::Done);
    success_result_of(restarted);
    assert_eq!((endpoint.begun(), clock.pending()), (1, 0));
    // And from a failure, before the wait begins.
    let mut inner = service.clone();
    let failed = service.when_connected_within(1).add_errback(move |failure| {
        drop(inner.stop_service());
        Err(failure)
    });
    endpoint.refuse("no");
    failure_result_of(failed);
    assert_eq!((endpoint.begun(), clock.pending()), (0, 0));
    assert!(is_cancelled(service.when_connected()));
}

#[test]
fn the_wait_grows_to_its_limit_and_strays_by_a_second_at_most() {
    // CLI-1
    let mut policy = ExponentialBackoff::new();
    for _ in 0..100 {
        let wait = policy.wait(1).as_secs_f64();
        assert!((1.5..2.5).contains(&wait), "{wait}");
        for attempts in [11, 100, 101, u32::MAX] {
            let wait = policy.wait(attempts).as_secs_f64();
            assert!((60.0..61.0).contains(&wait), "{wait}");
        }
    }
    let mut absurd = ExponentialBackoff::new().factor(f64::NAN).first(Duration::MAX).jitter(Duration::ZERO);
    assert_eq!(absurd.wait(5), Duration::from_secs(60));
    let mut absurd = ExponentialBackoff::new().factor(f64::INFINITY).longest(Duration::MAX).jitter(Duration::MAX);
    assert_eq!(absurd.wait(5), Duration::MAX);
}

#[test]
fn a_policy_that_panics_costs_a_minute() {
    let (service, endpoint, clock) = service();
    let asked = Rc::new(Cell::new(0));
    let count = Rc::clone(&asked);
    let mut service = service.retry_policy(move |_| {
        count.set(count.get() + 1);
        panic!("a policy")
    });
    service.start_service();
    endpoint.refuse("no");
    assert_eq!((asked.get(), clock.pending()), (1, 1));
    clock.advance(Duration::from_secs(60));
    assert_eq!(endpoint.begun(), 1);
}
