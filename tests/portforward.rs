//! Port forwarding: order of events on test wires, then much data, slow sides and ends over sockets.
mod rig;

use rig::{Log, Slot, closed_port, dial, logged, peer, plain_server, run, serve, watch_log};
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;
use twistlet::protocols::policies::{LimitTotalConnections, TimeoutFactory};
use twistlet::protocols::portforward::{Forward, ForwardFactory};
use twistlet::testing::{Clock, StringTransport};
use twistlet::{Address, ConnectionClosed, Deferred, Factory, Failure, Promise, Reactor, TransportRef};

/// A forwarder between two test wires, the outbound one not yet made.
struct Bench {
    clock: Clock,
    inbound: StringTransport,
    outbound: Rc<RefCell<Option<Forward>>>,
    promise: Rc<Cell<Option<Promise<TransportRef>>>>,
    cancelled: Log,
}
impl Bench {
    fn new() -> Self {
        let clock = Clock::new();
        let outbound = Rc::<RefCell<Option<Forward>>>::default();
        let promise = Rc::<Cell<Option<Promise<TransportRef>>>>::default();
        let cancelled = Log::default();
        let (out, told, said) = (Rc::clone(&outbound), Rc::clone(&promise), cancelled.clone());
        let mut factory = ForwardFactory::connecting(move |protocol| {
            *out.borrow_mut() = Some(protocol);
            let (promise, deferred) = Deferred::new();
            let said = said.clone();
            promise.on_cancel(move || said.add("cancelled"));
            told.set(Some(promise));
            deferred
        });
        let protocol = factory.build_protocol(&Address::Gone).expect("never declined");
        let inbound = StringTransport::connect(protocol, &clock);
        Bench { clock, inbound, outbound, promise, cancelled }
    }
    fn connect(&self) -> StringTransport {
        let protocol = self.outbound.take().expect("asked for");
        let outbound = StringTransport::connect(protocol, &self.clock);
        self.promise.take().expect("waiting").callback(outbound.transport());
        outbound
    }
}

#[test]
fn the_client_waits_for_the_other_side_and_then_each_is_the_others_producer() {
    // PX11, PFW-1
    let bench = Bench::new();
    assert!(bench.inbound.is_paused());
    bench.inbound.deliver("early");
    let outbound = bench.connect();
    bench.clock.advance(Duration::ZERO);
    assert!(!bench.inbound.is_paused());
    assert_eq!(outbound.take(), b"early");
    assert!(bench.inbound.has_producer() && outbound.has_producer());
    outbound.deliver("answer");
    assert_eq!(bench.inbound.take(), b"answer");
    // Much is unsent to one: the other is not read.
    bench.inbound.pause_producer();
    assert!(outbound.is_paused() && !bench.inbound.is_paused());
    bench.inbound.resume_producer();
    outbound.pause_producer();
    assert!(!outbound.is_paused() && bench.inbound.is_paused());
}

#[test]
fn losing_either_side_closes_the_other() {
    for first in [true, false] {
        let bench = Bench::new();
        let outbound = bench.connect();
        let (lost, other) = if first { (&bench.inbound, &outbound) } else { (&outbound, &bench.inbound) };
        lost.deliver("last");
        lost.lose(ConnectionClosed::Lost(None));
        assert_eq!(other.value(), b"last");
        assert!(other.is_disconnecting() && !other.has_producer());
        assert_eq!(bench.cancelled.all(), [""; 0]);
    }
}

#[test]
fn each_way_ends_for_itself_and_the_wires_close_after_both() {
    let bench = Bench::new();
    let outbound = bench.connect();
    bench.inbound.deliver_end();
    assert!(outbound.is_write_closing() && !outbound.has_producer() && !outbound.is_disconnecting());
    outbound.finish_writing();
    outbound.deliver("late answer");
    assert_eq!(bench.inbound.value(), b"late answer");
    outbound.deliver_end();
    assert!(bench.inbound.is_write_closing() && outbound.is_disconnecting());
    assert!(!bench.inbound.is_disconnecting(), "its last bytes may still be on their way");
    bench.inbound.finish_writing();
    assert!(bench.inbound.is_disconnecting());
}

#[test]
fn a_failure_to_connect_closes_the_client_and_is_logged() {
    watch_log();
    let bench = Bench::new();
    bench.promise.take().expect("waiting").errback(Failure::msg("no way"));
    assert!(bench.inbound.is_disconnecting());
    let lines = logged();
    assert!(lines.len() == 1 && lines[0].contains("no way"), "{lines:?}");
}

#[test]
fn a_client_that_goes_away_gives_the_attempt_up() {
    watch_log();
    let bench = Bench::new();
    bench.inbound.lose(ConnectionClosed::Done);
    assert_eq!(bench.cancelled.all(), ["cancelled"]);
    assert_eq!(logged(), [""; 0]);
    // Should it come all the same, it is closed.
    let protocol = bench.outbound.take().expect("asked for");
    assert!(StringTransport::connect(protocol, &bench.clock).is_disconnecting());
}

/// Forwards to `to` while `client` talks through it.
fn through<T: Send + 'static>(
    to: SocketAddr,
    wrap: impl FnOnce(ForwardFactory) -> Box<dyn Factory>,
    client: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> T {
    fn watch<T: 'static>(reactor: Reactor, client: Rc<JoinHandle<T>>) {
        if client.is_finished() {
            let _ = reactor.stop();
        } else {
            reactor.call_later(Duration::from_millis(1), move || watch(reactor, client));
        }
    }
    let thread = Slot::<Rc<JoinHandle<T>>>::default();
    let told = thread.clone();
    run(|reactor| {
        let at = serve(reactor, wrap(ForwardFactory::new(&reactor, to)));
        let client = Rc::new(peer(at, client));
        told.set(client.clone());
        watch(reactor, client);
    });
    let client = thread.get();
    drop((thread, told));
    Rc::into_inner(client).expect("the reactor has dropped its own").join().expect("it found what it expected")
}
fn bare(factory: ForwardFactory) -> Box<dyn Factory> {
    Box::new(factory)
}

#[test]
fn much_data_goes_both_ways_past_slow_sides() {
    const LEN: usize = 4_000_000;
    let data: Vec<u8> = (0..LEN).map(|i| (i % 253) as u8).collect();
    let (to, server) = plain_server(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("its end");
        stream.write_all(&all).expect("taken");
        all.len()
    });
    let policies = |factory| -> Box<dyn Factory> {
        Box::new(LimitTotalConnections::new(1, TimeoutFactory::half_an_hour(factory)))
    };
    let sent = data.clone();
    let back = through(to, policies, move |mut stream| {
        stream.write_all(&sent).expect("taken");
        stream.shutdown(Shutdown::Write).expect("open");
        let mut back = Vec::new();
        stream.read_to_end(&mut back).expect("a clean end");
        back
    });
    assert_eq!(server.join().expect("no panic"), LEN);
    assert!(back == data);
}

#[test]
fn a_server_that_speaks_first_and_leaves_is_heard() {
    let (to, server) = plain_server(|mut stream| stream.write_all(b"welcome, and good-bye"));
    let text = through(to, bare, |mut stream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("a clean end");
        text
    });
    assert_eq!(text, "welcome, and good-bye");
    server.join().expect("no panic").expect("taken");
}

#[test]
fn nobody_there_is_an_end_for_the_client() {
    watch_log();
    let read = through(closed_port(), bare, |mut stream| {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).map(|_| rest.len())
    });
    assert_eq!(read.expect("a clean end"), 0);
    assert!(logged().iter().any(|line| line.contains("cannot be forwarded")));
}

#[test]
fn a_reset_of_the_client_reaches_the_server_as_an_end() {
    let (to, server) = plain_server(|mut stream| {
        let mut first = [0; 5];
        stream.read_exact(&mut first).expect("the first bytes");
        stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind())
    });
    run(|reactor| {
        let at = serve(reactor, ForwardFactory::new(&reactor, to));
        drop(std::thread::spawn(move || {
            let mut stream = dial(at);
            stream.write_all(b"hello").expect("taken");
            // Until they are through, a reset would take them along.
            std::thread::sleep(Duration::from_millis(50));
            rig::reset(stream);
        }));
        fn watch(reactor: Reactor, server: Rc<JoinHandle<Result<usize, std::io::ErrorKind>>>) {
            if server.is_finished() {
                let _ = reactor.stop();
            } else {
                reactor.call_later(Duration::from_millis(1), move || watch(reactor, server));
            }
        }
        watch(reactor, Rc::new(server));
    });
}
