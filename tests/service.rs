//! The tree of services and the services of the library, on a test's clock and with endpoints in the test's hands. Case ids:
//! tests/README.md.
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use twistlet::endpoint::{ClientEndpoint, Listening, ServerEndpoint, TcpClientEndpoint, TcpServerEndpoint};
use twistlet::error::{Cancelled, CannotListen};
use twistlet::failure::on_unobserved_failure;
use twistlet::service::{
    ClientService, ConnectionService, CooperatorService, MultiService, Service, ServiceError, ServiceHandle,
    ServicesFailed, StreamServerEndpointService, TimerService,
};
use twistlet::task::TaskError;
use twistlet::testing::{Clock, StringTransport, assert_no_result, failure_result_of, success_result_of};
use twistlet::{
    Address, ConnectError, ConnectionClosed, Deferred, Factory, Failure, Promise, Protocol, Reactor, TransportRef,
};

type Notes = Rc<RefCell<Vec<String>>>;

/// Notes what is asked of it, and answers as it was told.
struct Noting {
    name: &'static str,
    notes: Notes,
    start: Option<Deferred<()>>,
    stop: Option<Deferred<()>>,
}
fn noting(name: &'static str, notes: &Notes) -> Noting {
    Noting { name, notes: Rc::clone(notes), start: None, stop: None }
}
impl Noting {
    fn note(&self, what: &str) {
        self.notes.borrow_mut().push(format!("{what} {}", self.name));
    }
}
impl Service for Noting {
    fn privileged_start(&mut self) -> Deferred<()> {
        self.note("privileged");
        Deferred::succeed(())
    }
    fn start_service(&mut self) -> Deferred<()> {
        self.note("start");
        self.start.take().unwrap_or_else(|| Deferred::succeed(()))
    }
    fn stop_service(&mut self) -> Deferred<()> {
        self.note("stop");
        self.stop.take().unwrap_or_else(|| Deferred::succeed(()))
    }
}
fn take(notes: &Notes) -> Vec<String> {
    std::mem::take(&mut *notes.borrow_mut())
}

#[test]
fn children_start_in_order_and_stop_in_the_opposite_order_without_waiting_for_another() {
    // SVC-2
    let notes = Notes::default();
    let mut program = MultiService::new();
    let (slow, slow_stop) = Deferred::new();
    program.add(noting("a", &notes));
    program.add(Noting { stop: Some(slow_stop), ..noting("b", &notes) });
    program.add(noting("c", &notes));
    success_result_of(program.privileged_start());
    success_result_of(program.start_service());
    assert_eq!(take(&notes), ["privileged a", "privileged b", "privileged c", "start a", "start b", "start c"]);
    assert!(program.services().iter().all(ServiceHandle::is_running));
    let mut stopped = program.stop_service();
    assert_eq!(take(&notes), ["stop c", "stop b", "stop a"]);
    assert!(!program.is_running());
    assert_no_result(&mut stopped);
    slow.callback(());
    success_result_of(stopped);
}

#[test]
fn a_child_that_fails_or_panics_holds_none_of_the_others_up() {
    // SVC-2
    struct Panics;
    impl Service for Panics {
        fn start_service(&mut self) -> Deferred<()> {
            panic!("at the start")
        }
        fn stop_service(&mut self) -> Deferred<()> {
            panic!("at the end")
        }
    }
    let notes = Notes::default();
    let mut program = MultiService::new();
    program.add_named("first", noting("first", &notes)).unwrap();
    let bad = Noting {
        start: Some(Deferred::fail(Failure::msg("bad start"))),
        stop: Some(Deferred::fail(Failure::msg("bad stop"))),
        ..noting("bad", &notes)
    };
    program.add_named("bad", bad).unwrap();
    program.add(Panics);
    program.add(noting("last", &notes));
    let failure = failure_result_of(program.start_service());
    let failed = failure.check::<ServicesFailed>().unwrap();
    assert_eq!(failed.failures[0].0, "bad");
    assert!(failed.failures[1].0.contains("Panics") && failed.failures[1].1.is_panic());
    assert_eq!(take(&notes), ["start first", "start bad", "start last"]);
    assert!(failed.to_string().starts_with("service bad: bad start; service "), "{failed}");
    let failure = failure_result_of(program.stop_service());
    let failures = &failure.check::<ServicesFailed>().unwrap().failures;
    assert_eq!((failures.len(), failures[1].1.to_string()), (2, "bad stop".to_owned()));
    assert_eq!(take(&notes), ["stop last", "stop bad", "stop first"]);
}

#[test]
fn names_are_unique_and_kept_while_there_is_a_parent() {
    // SVC-1, SVC-3
    let notes = Notes::default();
    let program = MultiService::new();
    let web = program.add_named("web", noting("web", &notes)).unwrap();
    assert_eq!(program.named("web"), Ok(web.clone()));
    assert_eq!(program.add_named("web", noting("other", &notes)), Err(ServiceError::DuplicateName("web".into())));
    assert_eq!(program.services().len(), 1);
    assert_eq!(program.named("db"), Err(ServiceError::Unknown("db".into())));
    assert_eq!(web.set_name("www"), Err(ServiceError::HasParent));
    assert_eq!((web.name().as_deref(), web.parent()), (Some("web"), Some(program.clone())));
    success_result_of(web.disown());
    assert_eq!((web.set_name("www"), web.parent()), (Ok(()), None));
    assert!(program.services().is_empty());
    assert!(failure_result_of(program.remove(&web)).is::<ServiceError>());
    success_result_of(web.disown());
}

#[test]
fn what_is_added_to_a_running_parent_starts_at_once_and_what_is_removed_is_stopped() {
    // SVC-3, SVC-1
    let notes = Notes::default();
    let mut program = MultiService::new();
    success_result_of(program.start_service());
    let (promise, stop) = Deferred::new();
    let late = program.add(Noting { stop: Some(stop), ..noting("late", &notes) });
    assert_eq!(take(&notes), ["privileged late", "start late"]);
    let mut removed = program.remove(&late);
    assert_eq!(take(&notes), ["stop late"]);
    assert_no_result(&mut removed);
    promise.errback(Failure::msg("not in order"));
    assert_eq!(failure_result_of(removed).to_string(), "not in order");
    // It may come back.
    late.set_parent(&program).unwrap();
    assert!(late.is_running());
    late.set_parent(&program).unwrap();
    success_result_of(program.stop_service());
    assert_eq!(take(&notes), ["privileged late", "start late", "stop late"]);
}

#[test]
fn a_child_that_moves_between_parents_stops_before_it_starts() {
    // SVC-1
    let notes = Notes::default();
    let (mut here, mut there) = (MultiService::new(), MultiService::new());
    success_result_of(here.start_service());
    success_result_of(there.start_service());
    let (promise, stop) = Deferred::new();
    let child = here.add(Noting { stop: Some(stop), ..noting("child", &notes) });
    child.set_parent(&there).unwrap();
    assert_eq!(take(&notes), ["privileged child", "start child", "stop child"]);
    assert_eq!(child.parent(), Some(there.clone()));
    promise.callback(());
    assert_eq!(take(&notes), ["privileged child", "start child"]);
    // Not into a parent that has one of its name: then it stays where it is.
    child.disown();
    child.set_name("child").unwrap();
    child.set_parent(&there).unwrap();
    here.add_named("child", MultiService::new()).unwrap();
    assert_eq!(child.set_parent(&here), Err(ServiceError::DuplicateName("child".into())));
    assert!(child.is_running() && child.parent() == Some(there));
}

#[test]
fn trees_start_and_stop_whole_and_never_become_rings() {
    let notes = Notes::default();
    let mut root = MultiService::new();
    let branch = MultiService::new();
    root.add(noting("leaf", &notes));
    let handle = root.add_named("branch", branch.clone()).unwrap();
    branch.add(noting("twig", &notes));
    success_result_of(root.start_service());
    assert_eq!(take(&notes), ["start leaf", "start twig"]);
    assert!(branch.is_running());
    assert_eq!(branch.add_named("root", root.clone()), Err(ServiceError::OwnAncestor));
    assert_eq!(handle.set_parent(&branch), Err(ServiceError::OwnAncestor));
    success_result_of(root.stop_service());
    assert_eq!(take(&notes), ["stop twig", "stop leaf"]);
}

#[test]
fn a_start_of_what_runs_and_a_stop_of_what_does_not_do_nothing() {
    let notes = Notes::default();
    let handle = ServiceHandle::new(noting("one", &notes));
    success_result_of(handle.stop());
    success_result_of(handle.start());
    success_result_of(handle.start());
    success_result_of(handle.privileged_start());
    success_result_of(handle.stop());
    success_result_of(handle.stop());
    assert_eq!(take(&notes), ["start one", "stop one"]);
}

#[test]
fn services_may_start_stop_and_remove_each_other_and_themselves() {
    struct Meddler(MultiService, Rc<RefCell<Option<ServiceHandle>>>);
    impl Service for Meddler {
        fn start_service(&mut self) -> Deferred<()> {
            for service in self.0.services() {
                drop(self.0.remove(&service));
            }
            self.0.add(MultiService::new());
            Deferred::succeed(())
        }
        fn stop_service(&mut self) -> Deferred<()> {
            if let Some(own) = &*self.1.borrow() {
                own.start();
            }
            Deferred::succeed(())
        }
    }
    let notes = Notes::default();
    let mut program = MultiService::new();
    let own = Rc::default();
    program.add(noting("before", &notes));
    let meddler = program.add(Meddler(program.clone(), Rc::clone(&own)));
    program.add(noting("after", &notes));
    *own.borrow_mut() = Some(meddler.clone());
    success_result_of(program.start_service());
    assert_eq!(take(&notes), ["start before", "stop before"], "what was removed is not started");
    assert!(meddler.is_running(), "stopped, and started from its stop, as soon as that was done");
    assert_eq!(program.services().len(), 1);
}

#[test]
fn a_late_start_that_fails_is_told_to_the_log() {
    let told = Rc::new(Cell::new(0));
    let heard = Rc::clone(&told);
    on_unobserved_failure(move |_, _| heard.set(heard.get() + 1));
    let mut program = MultiService::new();
    success_result_of(program.start_service());
    program.add(Noting { start: Some(Deferred::fail(Failure::msg("no"))), ..noting("late", &Notes::default()) });
    assert_eq!(told.get(), 1);
}

#[test]
fn a_timer_service_calls_at_once_at_intervals_and_again_after_a_restart() {
    // SVC-6
    let clock = Clock::new();
    let calls = Rc::new(Cell::new(0));
    let count = Rc::clone(&calls);
    let mut ticks = TimerService::new(&clock, Duration::from_secs(1), move || count.set(count.get() + 1));
    for round in 1..=2 {
        success_result_of(ticks.start_service());
        clock.pump([Duration::from_millis(500); 4]);
        assert_eq!(calls.get(), 3 * round);
        success_result_of(ticks.stop_service());
        assert_eq!(clock.pending(), 0);
    }
    ticks.start_service();
    drop(ticks);
    assert_eq!(clock.pending(), 0, "nobody could stop it any more");
}

#[test]
fn a_timer_service_waits_for_its_call_as_it_stops_and_starts_afresh_meanwhile() {
    // SVC-6
    let clock = Clock::new();
    let pending: Rc<RefCell<Vec<Promise<()>>>> = Rc::default();
    let kept = Rc::clone(&pending);
    let mut ticks = TimerService::new(&clock, Duration::from_secs(1), move || {
        let (promise, deferred) = Deferred::new();
        kept.borrow_mut().push(promise);
        deferred
    });
    ticks.start_service();
    let mut stopped = ticks.stop_service();
    assert_no_result(&mut stopped);
    success_result_of(ticks.start_service());
    assert_eq!(pending.borrow().len(), 2);
    let first = pending.borrow_mut().remove(0);
    first.callback(());
    success_result_of(stopped);
}

#[test]
fn a_timer_service_whose_function_fails_says_so_and_can_be_started_again() {
    // SVC-6
    let clock = Clock::new();
    let calls = Rc::new(Cell::new(0));
    let count = Rc::clone(&calls);
    let mut ticks = TimerService::new(&clock, Duration::from_secs(1), move || {
        count.set(count.get() + 1);
        Err::<(), _>(Failure::msg("no more"))
    });
    success_result_of(ticks.start_service());
    assert_eq!(clock.pending(), 0);
    success_result_of(ticks.stop_service());
    ticks.start_service();
    assert_eq!(calls.get(), 2);
}

#[test]
fn a_cooperator_service_works_while_it_runs() {
    // SVC-6
    let clock = Clock::new();
    let mut service = CooperatorService::new(&clock);
    let task = service.cooperator().cooperate(std::iter::repeat(()));
    clock.advance(Duration::from_secs(1));
    success_result_of(service.start_service());
    assert_eq!(clock.pending(), 1);
    success_result_of(service.stop_service());
    assert_eq!(failure_result_of(task.when_done()).check(), Some(&TaskError::SchedulerStopped));
}

/// An endpoint that leaves its answer to the test, and what was asked of it.
#[derive(Clone, Default)]
struct Manual {
    listens: Rc<RefCell<Vec<Promise<Listening>>>>,
    stops: Rc<RefCell<Vec<Promise<()>>>>,
}
impl ServerEndpoint for Manual {
    fn listen_boxed(&self, _factory: Box<dyn Factory>) -> Deferred<Listening> {
        let (promise, deferred) = Deferred::new();
        self.listens.borrow_mut().push(promise);
        deferred
    }
}
impl Manual {
    fn open(&self) {
        let stops = Rc::clone(&self.stops);
        let promise = self.listens.borrow_mut().pop().expect("it was asked to listen");
        promise.callback(Listening::new(Address::Gone, move || {
            let (promise, deferred) = Deferred::new();
            stops.borrow_mut().push(promise);
            deferred
        }));
    }
    fn asked(&self) -> (usize, usize) {
        (self.listens.borrow().len(), self.stops.borrow().len())
    }
}
struct Idle;
impl Protocol for Idle {
    fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
}

#[test]
fn a_server_service_listens_with_the_programs_rights_or_else_as_it_starts() {
    // SVC-4, SVC-5
    for privileged in [true, false] {
        let endpoint = Manual::default();
        let mut server = StreamServerEndpointService::new(endpoint.clone(), || Idle);
        let early = privileged.then(|| server.privileged_start());
        let mut started = server.start_service();
        assert_eq!(endpoint.asked(), (1, 0));
        assert_no_result(&mut started);
        assert!(server.address().is_none());
        endpoint.open();
        success_result_of(started);
        early.map(success_result_of);
        assert_eq!(server.address(), Some(Address::Gone));
        let mut stopped = server.stop_service();
        assert_no_result(&mut stopped);
        endpoint.stops.borrow_mut().pop().unwrap().callback(());
        success_result_of(stopped);
        success_result_of(server.stop_service());
        drop(server.start_service());
        assert_eq!(endpoint.asked(), (1, 0), "it can be started again");
    }
}

#[test]
fn a_server_service_that_stops_before_it_listens_gives_up() {
    // SVC-5
    let endpoint = Manual::default();
    let mut server = StreamServerEndpointService::new(endpoint.clone(), || Idle);
    let started = server.start_service();
    success_result_of(server.stop_service());
    assert!(failure_result_of(started).is::<Cancelled>());
    let promise = endpoint.listens.borrow_mut().pop().unwrap();
    assert!(promise.is_cancelled());
    // The next start is a new one.
    let started = server.start_service();
    endpoint.open();
    success_result_of(started);
}

#[test]
fn a_server_service_tells_why_it_cannot_listen() {
    // SVC-5
    struct Taken;
    impl ServerEndpoint for Taken {
        fn listen_boxed(&self, _factory: Box<dyn Factory>) -> Deferred<Listening> {
            Deferred::fail(CannotListen::new("there", std::io::ErrorKind::AddrInUse.into()))
        }
    }
    let mut program = MultiService::new();
    program.add_named("web", StreamServerEndpointService::new(Taken, || Idle)).unwrap();
    let failure = failure_result_of(program.start_service());
    let failed = failure.check::<ServicesFailed>().unwrap();
    assert!(failed.failures[0].1.is::<CannotListen>());
    assert_eq!(failed.to_string(), "service web: cannot listen at there: address in use");
    success_result_of(program.stop_service());
}

#[test]
fn a_server_service_serves_a_real_port_while_it_runs() {
    struct Port(Reactor);
    impl ServerEndpoint for Port {
        fn listen_boxed(&self, factory: Box<dyn Factory>) -> Deferred<Listening> {
            match self.0.listen_tcp("127.0.0.1:0", twistlet::Shared::new(factory)) {
                Ok(port) => Deferred::succeed(port.into()),
                Err(failure) => Deferred::fail(failure),
            }
        }
    }
    let reactor = Reactor::new().unwrap();
    let server = StreamServerEndpointService::new(Port(reactor), || Idle);
    let handle = ServiceHandle::new(server.clone());
    success_result_of(handle.start());
    let at = server.address().unwrap().socket().unwrap();
    assert!(std::net::TcpStream::connect(at).is_ok());
    let stopped = handle.stop();
    let _ = stopped.add_callback(move |()| reactor.stop());
    reactor.run().unwrap();
    assert!(std::net::TcpStream::connect(at).is_err());
}

type Attempt = (Box<dyn Factory>, Promise<TransportRef>);

/// A client endpoint in the test's hands.
#[derive(Clone, Default)]
struct Line(Rc<RefCell<Vec<Attempt>>>);
impl ClientEndpoint for Line {
    fn connect_boxed(&self, factory: Box<dyn Factory>) -> Deferred<TransportRef> {
        let (promise, deferred) = Deferred::new();
        self.0.borrow_mut().push((factory, promise));
        deferred
    }
}

#[test]
fn a_connection_service_connects_once_and_closes_as_it_stops() {
    // SVC-4
    let (line, clock) = (Line::default(), Clock::new());
    let mut service = ConnectionService::new(line.clone(), || Idle);
    let mut started = service.start_service();
    assert_no_result(&mut started);
    let (mut factory, promise) = line.0.borrow_mut().pop().unwrap();
    let wire = StringTransport::connect(factory.build_protocol(&Address::Gone).unwrap(), &clock);
    promise.callback(wire.transport());
    success_result_of(started);
    assert_eq!(service.connection(), Some(wire.transport()));
    let mut stopped = service.stop_service();
    assert!(wire.is_disconnecting());
    assert_no_result(&mut stopped);
    wire.lose(ConnectionClosed::Done);
    success_result_of(stopped);
    assert_eq!((service.connection(), clock.pending(), line.0.borrow().len()), (None, 0, 0));
}

#[test]
fn a_connection_service_gives_up_an_attempt_and_tells_of_one_that_fails() {
    // SVC-4
    let line = Line::default();
    let mut service = ConnectionService::new(line.clone(), || Idle);
    let started = service.start_service();
    success_result_of(service.stop_service());
    assert!(failure_result_of(started).is::<Cancelled>());
    let started = service.start_service();
    line.0.borrow_mut().pop().unwrap().1.errback(ConnectError::NoProtocol);
    assert!(failure_result_of(started).is::<ConnectError>());
    success_result_of(service.stop_service());
}

#[test]
fn nothing_is_left_of_a_tree_that_was_let_go() {
    let notes = Notes::default();
    let clock = Clock::new();
    let mut program = MultiService::new();
    let branch = MultiService::new();
    program.add(branch.clone());
    branch.add(noting("leaf", &notes));
    let kept = Rc::clone(&notes);
    branch.add(TimerService::new(&clock, Duration::from_secs(1), move || drop(Rc::clone(&kept))));
    success_result_of(program.start_service());
    assert_eq!(Rc::strong_count(&notes), 3);
    drop((program, branch));
    assert_eq!((Rc::strong_count(&notes), clock.pending()), (1, 0));
}

#[test]
fn the_end_of_the_reactor_frees_services_that_ran() {
    let owned = Rc::new(());
    let reactor = Reactor::new().unwrap();
    let (served, used) = (Rc::clone(&owned), Rc::clone(&owned));
    let program = MultiService::new();
    let server = StreamServerEndpointService::new(TcpServerEndpoint::new(&reactor, "127.0.0.1:0"), move || {
        let _ = &served;
        Idle
    });
    let root = ServiceHandle::new(program.clone());
    program.add(server.clone());
    success_result_of(root.start());
    let to = TcpClientEndpoint::new(&reactor, &server.address().unwrap());
    let client = ClientService::new(&reactor, to, move || {
        let _ = &used;
        Idle
    });
    program.add(client.clone());
    let _ = client.when_connected().add_callback(move |_| reactor.stop());
    // Nobody stops them.
    reactor.run().unwrap();
    assert!(client.connection().is_none());
    let _never = client.when_connected();
    drop((program, root, client, server));
    assert_eq!(Rc::strong_count(&owned), 1);
}
