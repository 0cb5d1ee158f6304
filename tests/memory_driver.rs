//! Programs on a simulated network: streams, faults and virtual time, through the public API. Case ids: tests/README.md.
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};
use twistlet::clock::Clock as _;
use twistlet::error::{ConnectError, ReactorError};
use twistlet::task::{LoopingCall, defer_later};
use twistlet::testing::{AcceptFault, AtRest, Network, simulate, simulate_with};
use twistlet::{
    Address, ClientFactory, ConnectionClosed, Connector, Deferred, Factory, Failure, Promise, Protocol, Reactor,
    Remote, Result, TransportRef,
};

type Log = Rc<RefCell<Vec<String>>>;

fn note(log: &Log, text: impl Into<String>) {
    log.borrow_mut().push(text.into());
}
fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

struct Echo;
impl Protocol for Echo {
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        transport.write(data);
    }
}

/// Writes something at once, gathers what comes, notes the end, and gives all of it when the connection is lost.
struct Gatherer {
    first: Vec<u8>,
    /// Closes when this much has come.
    expects: usize,
    came: Vec<u8>,
    pieces: usize,
    done: Option<Promise<Gathered>>,
}
#[derive(Debug)]
struct Gathered {
    came: Vec<u8>,
    pieces: usize,
    reason: ConnectionClosed,
}
impl Gatherer {
    fn new(first: impl Into<Vec<u8>>, expects: usize) -> (Gatherer, Deferred<Gathered>) {
        let (promise, done) = Deferred::new();
        (Gatherer { first: first.into(), expects, came: Vec::new(), pieces: 0, done: Some(promise) }, done)
    }
}
impl Protocol for Gatherer {
    fn connection_made(&mut self, transport: TransportRef) {
        transport.write(std::mem::take(&mut self.first));
    }
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        self.pieces += 1;
        self.came.extend_from_slice(data);
        if self.came.len() >= self.expects {
            transport.lose_connection();
        }
    }
    fn connection_lost(&mut self, _: TransportRef, reason: &ConnectionClosed) {
        if let Some(done) = self.done.take() {
            done.callback(Gathered {
                came: std::mem::take(&mut self.came),
                pieces: self.pieces,
                reason: reason.clone(),
            });
        }
    }
}

/// Connects one protocol and notes how it went.
struct Once {
    protocol: Option<Gatherer>,
    log: Log,
}
impl Factory for Once {
    fn build_protocol(&mut self, _: &Address) -> Option<Box<dyn Protocol>> {
        Some(Box::new(self.protocol.take()?))
    }
}
impl ClientFactory for Once {
    fn client_connection_failed(&mut self, _: Connector, reason: &ConnectError) {
        note(&self.log, format!("failed: {reason}"));
    }
    fn client_connection_lost(&mut self, _: Connector, reason: &ConnectionClosed) {
        note(&self.log, format!("lost: {reason:?}"));
    }
}
fn dial(reactor: &Reactor, to: &Address, protocol: Gatherer) -> Log {
    let log = Log::default();
    reactor.connect_tcp(to, Once { protocol: Some(protocol), log: Rc::clone(&log) });
    log
}

fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i % 251) as u8).collect()
}

/// A client sends `n` bytes to an echo server and gets them back.
fn echo_of(network: &Network, n: usize) -> Result<Gathered> {
    simulate_with(network, |reactor, _| {
        let port = reactor.listen_tcp("127.0.0.1:0", || Echo)?;
        let (client, done) = Gatherer::new(pattern(n), n);
        dial(reactor, &port.address(), client);
        Ok(done)
    })
}

#[test]
fn an_echo_comes_back_and_the_connection_closes_in_order() -> Result {
    let network = Network::new();
    let got = echo_of(&network, 10)?;
    assert_eq!(got.came, pattern(10));
    assert!(got.reason.is_clean());
    assert_eq!(network.elapsed(), Duration::ZERO);
    assert_eq!((network.connections(), network.listening().len()), (0, 0));
    Ok(())
}

#[test]
fn more_than_the_buffers_hold_comes_through_in_order() -> Result {
    let network = Network::new();
    for buffer in [1, 1000, 64 * 1024] {
        network.set_buffer(buffer);
        let n = buffer * 20 + 17;
        let got = echo_of(&network, n)?;
        assert!(got.came == pattern(n), "buffer {buffer}");
        assert!(got.reason.is_clean());
    }
    Ok(())
}

#[test]
fn short_reads_and_writes_lose_nothing() -> Result {
    let network = Network::new();
    for limit in [1, 7, 4096, usize::MAX] {
        network.limit_io(limit);
        let got = echo_of(&network, 3000)?;
        assert!(got.came == pattern(3000), "limit {limit}");
        assert!(got.pieces >= 3000_usize.div_ceil(limit));
    }
    Ok(())
}

#[test]
fn latency_is_the_time_it_takes() -> Result {
    let network = Network::new();
    network.set_latency(millis(50));
    let real = Instant::now();
    let got = echo_of(&network, 300_000)?;
    assert!(got.came == pattern(300_000));
    // There and back to connect, there and back for the data, which several windows need.
    assert!(network.elapsed() >= millis(200), "{:?}", network.elapsed());
    assert!(network.elapsed() < seconds(2), "{:?}", network.elapsed());
    assert!(real.elapsed() < seconds(5));
    Ok(())
}

#[test]
fn a_line_that_gets_faster_keeps_the_order() -> Result {
    let got = simulate(|reactor, network| {
        let (server, done) = Gatherer::new("", 6);
        let slot = RefCell::new(Some(server));
        let port = reactor.listen_tcp("127.0.0.1:0", twistlet::from_fn(move |_| slot.borrow_mut().take()))?;
        let (network, log) = (network.clone(), Log::default());
        struct Writer(Network);
        impl Protocol for Writer {
            fn connection_made(&mut self, transport: TransportRef) {
                let network = self.0.clone();
                network.set_latency(seconds(1));
                transport.write(vec![b'a'; 3]);
                transport.call_later(millis(1), move || {
                    network.set_latency(Duration::ZERO);
                    transport.write("bbb");
                });
            }
            fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
        }
        drop(log);
        reactor.connect_tcp(&port.address(), move || Writer(network.clone()));
        Ok(done)
    })?;
    assert_eq!(got.came, b"aaabbb");
    Ok(())
}

#[test]
fn an_hour_takes_no_time_and_passes_exactly() -> Result {
    let real = Instant::now();
    let network = Network::new();
    let late = simulate_with(&network, |reactor, _| {
        let began = reactor.now();
        let reactor = *reactor;
        Ok(defer_later(&reactor, seconds(3600), move || Ok(reactor.now() - began)))
    })?;
    assert_eq!((late, network.elapsed()), (seconds(3600), seconds(3600)));
    assert!(real.elapsed() < seconds(5));
    Ok(())
}

#[test]
fn time_stands_still_while_anything_can_be_done() -> Result {
    simulate(|reactor, network| {
        let (reactor, network) = (*reactor, network.clone());
        let left = Cell::new(100);
        fn again(reactor: Reactor, network: Network, left: Cell<u32>) {
            assert_eq!(network.elapsed(), Duration::ZERO);
            if left.get() > 0 {
                left.set(left.get() - 1);
                reactor.call_soon(move || again(reactor, network, left));
            }
        }
        let (promise, done) = Deferred::new();
        reactor.call_later(Duration::from_nanos(1), move || promise.callback(()));
        again(reactor, network, left);
        Ok(done)
    })
}

#[test]
fn a_loop_ticks_on_simulated_time() -> Result {
    let network = Network::new();
    simulate_with(&network, |reactor, _| {
        let ticks = LoopingCall::new(reactor, |ticks| {
            assert_eq!(ticks.count(), 1);
            if ticks.calls() == 1001 {
                ticks.stop();
            }
        });
        Ok(ticks.start(millis(100)))
    })?;
    assert_eq!(network.elapsed(), seconds(100));
    Ok(())
}

#[test]
fn a_simulation_ends_when_nothing_is_left_to_do() -> Result {
    let network = Network::new();
    let log = Log::default();
    let (client, done) = Gatherer::new("hello", usize::MAX);
    simulate_with(&network, |reactor, _| {
        let port = reactor.listen_tcp("127.0.0.1:8007", || Echo)?;
        dial(reactor, &port.address(), client);
        let log = Rc::clone(&log);
        reactor.call_later(seconds(5), move || note(&log, "timer"));
        Ok(())
    })?;
    assert_eq!(*log.borrow(), ["timer"]);
    // The connection was left standing; the end of the reactor lost it.
    let got = twistlet::testing::success_result_of(done);
    assert_eq!((got.came, got.reason), (b"hello".to_vec(), ConnectionClosed::Lost(None)));
    assert_eq!(network.elapsed(), seconds(5));
    Ok(())
}

#[test]
fn a_deferred_that_nothing_can_fire_is_an_error() {
    let (promise, never) = Deferred::<()>::new();
    let outcome = simulate(|reactor, _| {
        reactor.listen_tcp("127.0.0.1:0", || Echo)?;
        Ok(never)
    });
    assert_eq!(outcome.unwrap_err().check(), Some(&AtRest));
    drop(promise);
}

#[test]
fn stopping_ends_a_simulation_with_its_triggers() -> Result {
    let log = Log::default();
    simulate(|reactor, _| {
        let (reactor, log) = (*reactor, Rc::clone(&log));
        reactor.add_trigger(twistlet::reactor::Phase::DuringShutdown, move || note(&log, "shutdown"));
        let _ = LoopingCall::new(&reactor, |_| ()).start(seconds(1));
        reactor.call_later(seconds(3), move || reactor.stop());
        Ok(())
    })?;
    assert_eq!(*log.borrow(), ["shutdown"]);
    Ok(())
}

#[test]
fn the_reactor_is_closed_however_a_simulation_ends() -> Result {
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        simulate(|reactor, _| -> Result {
            reactor.listen_tcp("127.0.0.1:0", || Echo)?;
            panic!("as asked")
        })
    }));
    assert!(panicked.is_err());
    let failed = simulate(|_, _| Result::<()>::Err(Failure::msg("no")));
    assert_eq!(failed.unwrap_err().to_string(), "no");
    simulate(|_, _| Ok(()))?;
    let reactor = Reactor::new()?;
    let second = simulate(|_, _| Ok(()));
    assert_eq!(second.unwrap_err().check(), Some(&ReactorError::AlreadyInstalled));
    reactor.close();
    Ok(())
}

#[test]
fn a_simulated_reactor_inside_another_is_refused_and_leaves_the_first() -> Result {
    simulate(|reactor, _| {
        let inner = simulate(|_, _| Ok(()));
        assert_eq!(inner.unwrap_err().check(), Some(&ReactorError::AlreadyInstalled));
        Ok(defer_later(reactor, seconds(1), || ()))
    })
}

// ---- faults ----

/// Dials an echo server under a fault and gives what the factory was told, and when.
fn dialled(script: impl FnOnce(&Network)) -> Result<(Vec<String>, Duration)> {
    let network = Network::new();
    let (client, _done) = Gatherer::new("hello", 5);
    let log = simulate_with(&network, |reactor, network| {
        script(network);
        let port = reactor.listen_tcp("127.0.0.1:8007", || Echo)?;
        let log = dial(reactor, &port.address(), client);
        let (promise, logged) = Deferred::new();
        reactor.call_later(seconds(100), move || promise.callback(log));
        Ok(logged)
    })?;
    Ok((log.take(), network.elapsed()))
}

#[test]
fn refused_connections_are_told_so() -> Result {
    let (log, _) = dialled(|network| network.refuse_connects(true))?;
    assert_eq!(log.len(), 1);
    assert!(log[0].starts_with("failed: ") && log[0].contains("refused"), "{log:?}");
    // Nobody listens there.
    let network = Network::new();
    let log = Log::default();
    simulate_with(&network, |reactor, _| {
        let factory = Once { protocol: None, log: Rc::clone(&log) };
        reactor.connect_tcp("192.0.2.1:80", factory);
        Ok(())
    })?;
    assert!(log.borrow()[0].contains("refused"), "{log:?}");
    Ok(())
}

#[test]
fn a_black_hole_times_out_after_thirty_simulated_seconds() -> Result {
    let when = Rc::new(Cell::new(Duration::ZERO));
    struct Failing(Rc<Cell<Duration>>, Network);
    impl Factory for Failing {
        fn build_protocol(&mut self, _: &Address) -> Option<Box<dyn Protocol>> {
            None
        }
    }
    impl ClientFactory for Failing {
        fn client_connection_failed(&mut self, _: Connector, reason: &ConnectError) {
            assert!(matches!(reason, ConnectError::TimedOut { .. }), "{reason:?}");
            self.0.set(self.1.elapsed());
        }
    }
    simulate(|reactor, network| {
        network.blackhole(true);
        reactor.listen_tcp("127.0.0.1:8007", || Echo)?;
        reactor.connect_tcp("127.0.0.1:8007", Failing(Rc::clone(&when), network.clone()));
        Ok(())
    })?;
    assert_eq!(when.get(), seconds(30));
    Ok(())
}

#[test]
fn an_aborted_connection_is_skipped_and_the_port_lives_on() -> Result {
    let first_log = simulate(|reactor, network| {
        network.fail_accepts(1, AcceptFault::Aborted);
        let port = reactor.listen_tcp("127.0.0.1:8007", || Echo)?;
        let (first, _never) = Gatherer::new("one", 3);
        let (second, done) = Gatherer::new("two", 3);
        let log = dial(reactor, &port.address(), first);
        dial(reactor, &port.address(), second);
        Ok(done.add_callback(|got| {
            assert_eq!(got.came, b"two");
            Ok(log)
        }))
    })?;
    assert!(first_log.borrow()[0].contains("reset"), "{first_log:?}");
    Ok(())
}

#[test]
fn without_descriptors_a_port_sheds_and_recovers() -> Result {
    for fault in [AcceptFault::NoDescriptors, AcceptFault::SystemNoDescriptors, AcceptFault::Os(libc::ENOMEM)] {
        simulate(|reactor, network| {
            network.fail_accepts(1, fault);
            let port = reactor.listen_tcp("127.0.0.1:8007", || Echo)?;
            let (first, first_done) = Gatherer::new("one", 3);
            dial(reactor, &port.address(), first);
            let (second, second_done) = Gatherer::new("two", 3);
            let reactor = *reactor;
            reactor.call_later(seconds(1), move || {
                dial(&reactor, &port.address(), second);
            });
            Ok(first_done.add_callback(move |first| {
                // ENOMEM is not shed but tried again, so that one is served late.
                assert_eq!(first.came == b"one", fault == AcceptFault::Os(libc::ENOMEM));
                second_done.add_callback(|second| assert_eq!(second.came, b"two"))
            }))
        })?;
    }
    Ok(())
}

#[test]
fn resetting_everything_loses_every_connection() -> Result {
    let reasons = simulate(|reactor, network| {
        let (server, server_done) = Gatherer::new("", usize::MAX);
        let slot = RefCell::new(Some(server));
        let port = reactor.listen_tcp("127.0.0.1:8007", twistlet::from_fn(move |_| slot.borrow_mut().take()))?;
        let (client, client_done) = Gatherer::new("hello", usize::MAX);
        dial(reactor, &port.address(), client);
        let network = network.clone();
        reactor.call_later(seconds(1), move || {
            assert_eq!(network.connections(), 1);
            assert!(!network.reset(&Address::Tcp("127.0.0.1:1".parse().unwrap())));
            assert!(network.reset(&port.address()));
            network.reset_all();
        });
        Ok(twistlet::deferred::gather_results([server_done, client_done]))
    })?;
    let reset = ConnectionClosed::Lost(Some(std::io::ErrorKind::ConnectionReset));
    assert!(reasons.iter().all(|got| got.reason == reset), "{reasons:?}");
    assert_eq!(reasons[0].came, b"hello");
    Ok(())
}

#[test]
fn a_broken_pipe_loses_the_connection() -> Result {
    let (log, _) = dialled(|network| network.break_writes(1))?;
    assert_eq!(log, ["lost: Lost(Some(BrokenPipe))"]);
    Ok(())
}

/// One end aborts, and the other is told of a reset.
#[test]
fn aborting_resets_the_peer_and_closing_does_not() -> Result {
    struct Rude;
    impl Protocol for Rude {
        fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
            match data {
                b"abort" => transport.abort_connection(),
                _ => transport.lose_connection(),
            }
        }
    }
    for (word, clean) in [("abort", false), ("close", true)] {
        let got = simulate(|reactor, _| {
            let port = reactor.listen_tcp("127.0.0.1:0", || Rude)?;
            let (client, done) = Gatherer::new(word, usize::MAX);
            dial(reactor, &port.address(), client);
            Ok(done)
        })?;
        assert_eq!(got.reason.is_clean(), clean, "{word}: {got:?}");
    }
    Ok(())
}

#[test]
fn a_half_closed_connection_still_answers() -> Result {
    /// Answers when the request has ended.
    struct Server(Vec<u8>);
    impl Protocol for Server {
        fn data_received(&mut self, _: TransportRef, data: &[u8]) {
            self.0.extend_from_slice(data);
        }
        fn read_connection_lost(&mut self, transport: TransportRef) {
            self.0.reverse();
            transport.write(&self.0);
            transport.lose_connection();
        }
    }
    struct Client(Gatherer);
    impl Protocol for Client {
        fn connection_made(&mut self, transport: TransportRef) {
            self.0.connection_made(transport);
            transport.lose_write_connection();
        }
        fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
            self.0.data_received(transport, data);
        }
        fn connection_lost(&mut self, transport: TransportRef, reason: &ConnectionClosed) {
            self.0.connection_lost(transport, reason);
        }
    }
    let network = Network::new();
    network.set_latency(millis(10));
    let got = simulate_with(&network, |reactor, _| {
        let port = reactor.listen_tcp("127.0.0.1:0", || Server(Vec::new()))?;
        let (client, done) = Gatherer::new(pattern(100_000), usize::MAX);
        let slot = RefCell::new(Some(Client(client)));
        reactor.connect_tcp(&port.address(), twistlet::from_fn(move |_| slot.borrow_mut().take()));
        Ok(done)
    })?;
    let mut expected = pattern(100_000);
    expected.reverse();
    assert!(got.came == expected);
    assert!(got.reason.is_clean());
    Ok(())
}

#[test]
fn a_slow_reader_holds_the_writer_back() -> Result {
    struct Lazy(Option<Promise<usize>>);
    impl Protocol for Lazy {
        fn connection_made(&mut self, transport: TransportRef) {
            transport.pause_producing();
            let promise = self.0.take();
            transport.call_later(seconds(10), move || {
                promise.unwrap().callback(0);
                transport.resume_producing();
            });
        }
        fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
    }
    simulate(|reactor, _| {
        let (promise, resumed) = Deferred::new();
        let slot = RefCell::new(Some(Lazy(Some(promise))));
        let port = reactor.listen_tcp("127.0.0.1:0", twistlet::from_fn(move |_| slot.borrow_mut().take()))?;
        struct Writer(Rc<Cell<Option<TransportRef>>>);
        impl Protocol for Writer {
            fn connection_made(&mut self, transport: TransportRef) {
                self.0.set(Some(transport));
                transport.write(vec![b'x'; 1_000_000]);
            }
            fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
        }
        let wire = Rc::new(Cell::new(None));
        let writer = Rc::clone(&wire);
        reactor.connect_tcp(&port.address(), move || Writer(Rc::clone(&writer)));
        let reactor = *reactor;
        Ok(resumed.add_callback(move |_| {
            // All but what the network holds waits at the writer.
            let writer: TransportRef = wire.get().unwrap();
            assert_eq!(writer.unsent(), 1_000_000 - 64 * 1024);
            defer_later(&reactor, seconds(1), move || assert_eq!(writer.unsent(), 0))
        }))
    })
}

// ---- addresses ----

#[test]
fn addresses_are_those_of_the_simulated_network() -> Result {
    let seen = Rc::new(RefCell::new(Vec::new()));
    struct Looking(Rc<RefCell<Vec<(Address, Address)>>>);
    impl Protocol for Looking {
        fn connection_made(&mut self, transport: TransportRef) {
            self.0.borrow_mut().push((transport.host(), transport.peer()));
        }
        fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
    }
    simulate(|reactor, network| {
        let (server, client) = (Rc::clone(&seen), Rc::clone(&seen));
        let port = reactor.listen_tcp(8007, move || Looking(Rc::clone(&server)))?;
        assert_eq!(network.listening(), [port.address()]);
        let taken = reactor.listen_tcp("10.1.1.1:8007", || Echo);
        assert!(taken.unwrap_err().to_string().contains("10.1.1.1:8007"));
        let free: SocketAddr = "10.1.1.2:4000".parse()?;
        let to = twistlet::transport::Destination::from("10.1.1.1:8007").bind(free);
        reactor.connect_tcp(to, move || Looking(Rc::clone(&client)));
        Ok(())
    })?;
    let at = |text: &str| Address::Tcp(text.parse().unwrap());
    let mut seen = seen.take();
    seen.sort_by_key(|(host, _)| host.port());
    assert_eq!(seen[0], (at("10.1.1.2:4000"), at("10.1.1.1:8007")));
    assert_eq!(seen[1], (at("10.1.1.1:8007"), at("10.1.1.2:4000")));
    Ok(())
}

#[test]
fn unix_sockets_have_no_files() -> Result {
    let got = simulate(|reactor, network| {
        let path = "/nowhere/at/all.sock";
        let log = Log::default();
        reactor.connect_unix("/nobody/here", Once { protocol: None, log: Rc::clone(&log) });
        reactor.listen_unix(path, || Echo)?;
        assert!(reactor.listen_unix(path, || Echo).is_err());
        assert_eq!(network.listening(), [Address::Unix(Some(path.into()))]);
        let (client, done) = Gatherer::new("hello", 5);
        let logged = Rc::clone(&log);
        reactor.connect_unix(path, Once { protocol: Some(client), log });
        Ok(done.add_callback(move |got| {
            assert!(logged.borrow()[0].starts_with("failed: "), "{logged:?}");
            Ok(got)
        }))
    })?;
    assert_eq!(got.came, b"hello");
    assert!(got.reason.is_clean());
    Ok(())
}

#[test]
fn a_full_backlog_makes_clients_wait() -> Result {
    simulate(|reactor, _| {
        let at = twistlet::transport::ListenAt::from("127.0.0.1:8007").backlog(1);
        let port = reactor.listen_tcp(at, || Echo)?;
        let all = (0..50).map(|i| {
            let (client, done) = Gatherer::new(format!("{i:03}"), 3);
            dial(reactor, &port.address(), client);
            done
        });
        Ok(twistlet::deferred::gather_results(all.collect::<Vec<_>>()).add_callback(|all| {
            assert!(all.iter().enumerate().all(|(i, got)| got.came == format!("{i:03}").as_bytes()));
        }))
    })
}

#[test]
fn a_port_that_stops_refuses_those_who_waited() -> Result {
    let log = Log::default();
    simulate(|reactor, network| {
        network.set_latency(millis(10));
        let port = reactor.listen_tcp("127.0.0.1:8007", || Echo)?;
        let (client, _done) = Gatherer::new("hello", 5);
        reactor.connect_tcp(&port.address(), Once { protocol: Some(client), log: Rc::clone(&log) });
        reactor.call_later(millis(1), move || port.stop_listening());
        Ok(())
    })?;
    assert!(log.borrow()[0].contains("refused"), "{log:?}");
    Ok(())
}

// ---- threads ----

#[test]
fn a_simulation_at_rest_waits_for_threads_that_may_call() -> Result {
    simulate(|reactor, _| {
        let remote: Remote = reactor.remote();
        let (promise, done) = Deferred::from_thread();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || {
            let _ = wait.recv();
            let _ = remote.call_from_thread(move |_| promise.callback(42));
        });
        reactor.call_later(seconds(1), move || {
            let _ = go.send(());
        });
        Ok(done.add_callback(|n: i32| assert_eq!(n, 42)))
    })
}

#[test]
fn time_stands_still_while_the_thread_pool_is_at_work() -> Result {
    let network = Network::new();
    let answer = simulate_with(&network, |reactor, _| {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let answer = reactor.defer_to_thread(move || {
            let _ = wait.recv();
            Ok(42)
        });
        // Other simulated things go on; the first that needs time finds it standing.
        reactor.call_soon(move || {
            let _ = go.send(());
        });
        Ok(answer.add_timeout(millis(1), reactor))
    })?;
    assert_eq!((answer, network.elapsed()), (42, Duration::ZERO));
    Ok(())
}

#[test]
fn a_name_is_looked_up_before_any_timeout() -> Result {
    let got = simulate(|reactor, _| {
        let port = reactor.listen_tcp("127.0.0.1:8007", || Echo)?;
        let (client, done) = Gatherer::new("hello", 5);
        let to = ("localhost", port.address().port().unwrap_or_default());
        reactor.connect_tcp(to, Once { protocol: Some(client), log: Log::default() });
        Ok(done)
    })?;
    assert_eq!(got.came, b"hello");
    Ok(())
}

#[test]
fn the_same_script_gives_the_same_run() -> Result {
    fn run() -> Result<Vec<String>> {
        let log = Log::default();
        let network = Network::new();
        network.limit_io(100);
        network.set_latency(millis(3));
        simulate_with(&network, |reactor, network| {
            let port = reactor.listen_tcp("127.0.0.1:0", || Echo)?;
            for i in 0..10 {
                let (client, done) = Gatherer::new(pattern(500 * (i + 1)), 500 * (i + 1));
                dial(reactor, &port.address(), client);
                let (log, network) = (Rc::clone(&log), network.clone());
                let _ = done.add_callback(move |got| {
                    note(&log, format!("{i}: {} pieces at {:?}", got.pieces, network.elapsed()));
                });
            }
            Ok(())
        })?;
        Ok(log.take())
    }
    let first = run()?;
    assert_eq!(first.len(), 10);
    assert_eq!(first, run()?);
    Ok(())
}
