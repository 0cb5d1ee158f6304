//! Policies over real sockets: declined and timed-out clients, client factories, green threads.
use super::rig::{Log, PATIENCE, Probe, dial, peer, run, serve};
use super::{Echo, SECOND};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;
use twistlet::protocols::policies::{
    LimitConnectionsByPeer, LimitTotalConnections, ThrottlingFactory, TimeoutFactory, TrafficLoggingFactory,
};
use twistlet::{
    Address, ClientFactory, ConnectError, ConnectionClosed, Connector, Factory, Protocol, Reactor, TransportRef,
};

/// Serves a plain client on a thread of its own, which is at `to`, and gives what it found.
fn serve_client<T: Send + 'static>(
    factory: impl Factory + 'static,
    talk: impl FnOnce(TcpStream, SocketAddr) -> T + Send + 'static,
) -> T {
    fn watch<T: 'static>(reactor: Reactor, client: Rc<JoinHandle<T>>) {
        if client.is_finished() {
            let _ = reactor.stop();
        } else {
            reactor.call_later(Duration::from_millis(1), move || watch(reactor, client));
        }
    }
    let mut client = None;
    run(|reactor| {
        let to = serve(reactor, factory);
        let thread = Rc::new(peer(to, move |stream| talk(stream, to)));
        client = Some(thread.clone());
        watch(reactor, thread);
    });
    let client = client.and_then(Rc::into_inner).expect("the reactor has dropped its own");
    client.join().expect("the client found what it expected")
}

#[test]
fn a_third_client_is_turned_away_at_once_and_a_slot_frees_when_one_leaves() {
    // P16
    serve_client(LimitTotalConnections::new(2, LimitConnectionsByPeer::new(|| Echo)), |mut first, to| {
        let mut second = dial(to);
        let mut answer = [0];
        for stream in [&mut first, &mut second] {
            stream.write_all(b"x").expect("served");
            stream.read_exact(&mut answer).expect("served");
        }
        assert!(!matches!(dial(to).read(&mut answer), Ok(1..)), "turned away");
        drop(first);
        // Until the server has seen it.
        loop {
            let mut third = dial(to);
            if third.write_all(b"x").is_ok() && third.read_exact(&mut answer).is_ok() {
                break;
            }
        }
    });
}

#[test]
fn a_silent_client_is_closed_and_a_talking_one_is_not() {
    // P18
    let idle = Duration::from_millis(200);
    serve_client(TimeoutFactory::new(idle, || Echo), move |mut stream, _| {
        for _ in 0..5 {
            std::thread::sleep(idle / 2);
            stream.write_all(b"x").expect("open");
            stream.read_exact(&mut [0]).expect("open");
        }
        let begun = std::time::Instant::now();
        assert_eq!(stream.read(&mut [0]).expect("a clean end"), 0);
        assert!(begun.elapsed() >= idle / 2 && begun.elapsed() < PATIENCE);
    });
}

/// The longest that a client waits for an answer to a `?`, of those that it sends for two seconds. The lengths are those of
/// the first question, and of the answer to it.
fn longest_wait(mut stream: TcpStream, question: usize, answer: usize) -> Duration {
    let begun = std::time::Instant::now();
    let (mut question, mut answer) = (vec![b'x'; question], vec![0; answer]);
    let mut longest = Duration::ZERO;
    while begun.elapsed() < 2 * SECOND {
        let asked = std::time::Instant::now();
        stream.write_all(&question).expect("taken");
        stream.write_all(b"?").expect("taken");
        stream.read_exact(&mut answer).expect("an answer");
        longest = longest.max(asked.elapsed());
        (question, answer) = (Vec::new(), vec![0]);
        std::thread::sleep(Duration::from_millis(20));
    }
    longest
}

#[test]
fn a_throttle_holds_real_readers_and_producers_back() {
    // POL-3: half as much again as a second may have is half a second's pause.
    let answering = |first: usize| {
        move || {
            let mut len = first;
            Probe::new().on_data(move |t: TransportRef, data| {
                if data.ends_with(b"?") {
                    let answer = std::io::repeat(b'y').take(std::mem::replace(&mut len, 1) as u64);
                    drop(twistlet::protocols::FileSender::reading(answer).send(t));
                }
            })
        }
    };
    let held_back = Duration::from_millis(400);
    let read = ThrottlingFactory::new(answering(1)).read_limit(100_000);
    let waited = serve_client(read, |stream, _| longest_wait(stream, 150_000, 1));
    assert!(waited >= held_back, "reading: {waited:?}");
    let written = ThrottlingFactory::new(answering(150_000)).write_limit(100_000);
    let waited = serve_client(written, |stream, _| longest_wait(stream, 0, 150_000));
    assert!(waited >= held_back, "writing: {waited:?}");
}

/// Notes every hook.
struct Hooks(Log);
impl Factory for Hooks {
    fn build_protocol(&mut self, _: &Address) -> Option<Box<dyn Protocol>> {
        self.0.add("build");
        Some(Box::new(Probe::new().on_made(TransportRef::lose_connection)))
    }
    fn start_factory(&mut self) {
        self.0.add("start");
    }
    fn stop_factory(&mut self) {
        self.0.add("stop");
    }
}
impl ClientFactory for Hooks {
    fn started_connecting(&mut self, _: Connector) {
        self.0.add("started");
    }
    fn client_connection_failed(&mut self, _: Connector, _: &ConnectError) {
        self.0.add("failed");
    }
    fn client_connection_lost(&mut self, _: Connector, _: &ConnectionClosed) {
        self.0.add("lost");
    }
}

#[test]
fn a_client_factory_in_a_stack_hears_of_everything() {
    // POL-2
    let stack = |log: &Log| {
        TimeoutFactory::new(
            SECOND,
            LimitTotalConnections::new(
                9,
                LimitConnectionsByPeer::new(ThrottlingFactory::new(TrafficLoggingFactory::new(
                    std::io::sink(),
                    twistlet::protocols::policies::WrappingFactory::new(|_| Some(super::KeepAll), Hooks(log.clone())),
                ))),
            ),
        )
    };
    let (log, failed) = (Log::default(), Log::default());
    run(|reactor| {
        let to = serve(reactor, || Echo);
        reactor.connect_tcp(to, stack(&log));
        reactor.connect_tcp(super::rig::closed_port(), stack(&failed));
        let (log, failed) = (log.clone(), failed.clone());
        fn look(reactor: Reactor, log: Log, failed: Log) {
            if log.contains("stop") && failed.contains("stop") {
                let _ = reactor.stop();
            } else {
                reactor.call_later(Duration::from_millis(1), move || look(reactor, log, failed));
            }
        }
        look(reactor, log, failed);
    });
    assert_eq!(log.all(), ["start", "started", "build", "lost", "stop"]);
    assert_eq!(failed.all(), ["start", "started", "failed", "stop"]);
}

#[test]
fn much_data_goes_through_a_stack_with_producers_and_half_close() {
    const LEN: usize = 3_000_000;
    let answer = || {
        // Echoes with the two sides of one connection holding each other back.
        Probe::new()
            .on_made(|t| t.register_producer(t))
            .on_data(|t, data| t.write(data))
            .on_read_lost(|t| {
                t.unregister_producer();
                t.lose_write_connection();
            })
            .on_write_lost(|t| t.lose_connection())
    };
    let factory = TimeoutFactory::new(
        60 * SECOND,
        TrafficLoggingFactory::new(std::io::sink(), ThrottlingFactory::new(LimitTotalConnections::new(1, answer))),
    );
    let back = serve_client(factory, |stream, _| {
        let mut writing = stream.try_clone().expect("a clone");
        let writer = std::thread::spawn(move || {
            let data: Vec<u8> = (0..LEN).map(|i| (i % 251) as u8).collect();
            writing.write_all(&data).expect("taken");
            writing.shutdown(std::net::Shutdown::Write).expect("open");
        });
        let mut back = Vec::new();
        let mut stream = stream;
        stream.read_to_end(&mut back).expect("a clean end");
        writer.join().expect("no panic");
        back
    });
    assert!(back.len() == LEN && back.iter().enumerate().all(|(i, byte)| *byte == (i % 251) as u8));
}

#[cfg(feature = "green")]
#[test]
fn green_threads_are_served_under_a_stack_of_policies() {
    use twistlet::green::{GreenClientCreator, SpawnFactory};
    use twistlet::protocols::Lines;
    let reactor = Reactor::current();
    let sink = super::Sink::default();
    let shouting = SpawnFactory::framed(Lines::new, |conn| {
        for line in &conn {
            conn.send_line(line?.to_ascii_uppercase());
        }
        Ok(())
    });
    let stack = TrafficLoggingFactory::new(
        sink.clone(),
        TimeoutFactory::new(
            Duration::from_millis(100),
            ThrottlingFactory::new(LimitTotalConnections::new(1, shouting.clone())).read_limit(1_000_000),
        ),
    );
    let port = reactor.listen_tcp("127.0.0.1:0", stack).expect("a free port");
    let to = super::rig::address(port);
    let conn = GreenClientCreator::new(&reactor).framed(Lines::new).connect_tcp(to).expect("it listens");
    for text in ["one", "two"] {
        conn.send_line(text);
        assert_eq!(conn.recv().expect("no error").as_deref(), Some(text.to_uppercase().as_bytes()));
    }
    let second = GreenClientCreator::new(&reactor).connect_tcp(to).expect("it listens");
    assert!(second.read_all().map_or(true, |rest| rest.is_empty()), "beyond the limit");
    // Then nobody says anything any more.
    assert!(conn.recv().expect("a clean end").is_none());
    assert_eq!(shouting.wait_all().iter().filter(|outcome| outcome.is_err()).count(), 0);
    assert!(sink.lines().iter().any(|line| line == "0 < 5 bytes \"one\\r\\n\""));
    reactor.close();
}
