//! Two hundred conversations on one thread, client and server both, and how long any of them held the loop.
use std::cell::Cell;
use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use twistlet::green::net::{TcpListener, TcpStream};
use twistlet::green::queue::Queue;
use twistlet::green::{GreenClientCreator, GreenThread, GreenTransport, Semaphore, SpawnFactory, spawn, yield_now};
use twistlet::task::LoopingCall;
use twistlet::{Failure, Reactor, Result};

/// How many conversations a test holds at once.
pub const CROWD: usize = 200;
/// How long the reactor may be held.
const LONGEST: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(120);

/// What libraries are generic over.
pub trait Stream: Read + Write + Debug + 'static {}
impl<T: Read + Write + Debug + 'static> Stream for T {}

/// One of the two ways to have a connection here.
pub trait Net: 'static {
    type Stream: Stream;
    fn connect(to: SocketAddr) -> Result<Self::Stream>;
    fn listen(serve: impl Fn(Self::Stream) -> Result + Clone + 'static) -> Server;
}

/// A server on this thread.
pub struct Server {
    pub address: SocketAddr,
    outcomes: Queue<()>,
    close: Box<dyn FnOnce()>,
}
impl Server {
    /// Stops listening once `conversations` have been served, all of them well.
    #[track_caller]
    fn finish(self, conversations: usize) {
        for n in 0..conversations {
            if let Err(failure) = self.outcomes.wait() {
                panic!("the server, after {n} conversations: {failure}");
            }
        }
        (self.close)();
    }
}
fn tell<S>(
    outcomes: &Queue<()>,
    serve: impl Fn(S) -> Result + Clone + 'static,
) -> impl Fn(S) -> Result + Clone + 'static {
    let outcomes = outcomes.clone();
    move |stream| {
        match serve(stream) {
            Ok(()) => outcomes.send(()),
            Err(failure) => outcomes.send_exception(failure),
        }
        Ok(())
    }
}

/// std's names: `green::net`.
pub struct Sockets;
impl Net for Sockets {
    type Stream = TcpStream;
    fn connect(to: SocketAddr) -> Result<TcpStream> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
    fn listen(serve: impl Fn(TcpStream) -> Result + Clone + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let outcomes = Queue::new();
        let serve = tell(&outcomes, serve);
        let closing = listener.try_clone().expect("a clone");
        spawn(move || {
            for stream in listener.incoming() {
                let (stream, serve) = (stream?, serve.clone());
                stream.set_nodelay(true)?;
                spawn(move || serve(stream));
            }
            Ok(())
        });
        Server { address, outcomes, close: Box::new(move || closing.close()) }
    }
}

/// The reactor's transports, as synchronous objects.
pub struct Transports;
impl Net for Transports {
    type Stream = GreenTransport;
    fn connect(to: SocketAddr) -> Result<GreenTransport> {
        GreenClientCreator::new(&Reactor::current()).connect_tcp(to)
    }
    fn listen(serve: impl Fn(GreenTransport) -> Result + Clone + 'static) -> Server {
        let outcomes = Queue::new();
        let factory = SpawnFactory::new(tell(&outcomes, serve));
        let port = Reactor::current().listen_tcp("127.0.0.1:0", factory).expect("a free port");
        let address = port.address().socket().expect("TCP");
        Server { address, outcomes, close: Box::new(move || drop(port.stop_listening())) }
    }
}

/// A stream that takes and gives one byte a call while `slow`: what a library gets from the slowest of peers.
#[derive(Debug)]
pub struct Dribble<S> {
    pub stream: S,
    pub slow: bool,
}
impl<S> Dribble<S> {
    pub fn slowly(stream: S) -> Dribble<S> {
        Dribble { stream, slow: true }
    }
    fn most(&self, length: usize) -> usize {
        if self.slow { length.min(1) } else { length }
    }
}
impl<S: Read> Read for Dribble<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.most(buffer.len());
        self.stream.read(&mut buffer[..most])
    }
}
impl<S: Write> Write for Dribble<S> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.stream.write(&data[..self.most(data.len())])
    }
    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Where the clients of a crowd meet: nobody goes on before all are there.
#[derive(Clone)]
pub struct Gate {
    arrived: Queue<()>,
    open: Semaphore,
}
impl Gate {
    pub fn pass(&self) {
        self.arrived.send(());
        self.open.acquire().forget();
    }
}

/// Runs `CROWD` clients against one server, all on this thread. Each is connected, its handshake done, before any goes on; they
/// come and go on one a turn, as crowds do, and not in step. `name` is for the figures.
#[track_caller]
pub fn crowd<N: Net>(
    name: &'static str,
    serve: impl Fn(N::Stream) -> Result + Clone + Send + 'static,
    client: impl Fn(usize, N::Stream, &Gate) -> Result + Clone + Send + 'static,
) {
    let connect = move |n, to, gate: &Gate| client(n, N::connect(to)?, gate);
    crowd_on(name, CROWD, move || N::listen(serve), connect);
}

/// The same, of clients that connect by themselves; the server serves `conversations`.
#[track_caller]
pub fn crowd_on(
    name: &'static str,
    conversations: usize,
    listen: impl FnOnce() -> Server + Send + 'static,
    client: impl Fn(usize, SocketAddr, &Gate) -> Result + Clone + Send + 'static,
) {
    on_a_thread(move || {
        let server = listen();
        let gate = Gate { arrived: Queue::new(), open: Semaphore::new(0) };
        let held = Held::watch();
        let mut clients = Vec::new();
        for n in 0..CROWD {
            let (client, gate, to) = (client.clone(), gate.clone(), server.address);
            let thread: GreenThread<()> = spawn(move || {
                let outcome = client(n, to, &gate);
                if let Err(failure) = &outcome {
                    gate.arrived.send_exception(failure.clone());
                }
                outcome
            });
            clients.push(thread);
            yield_now();
        }
        for n in 0..CROWD {
            if let Err(failure) = gate.arrived.wait() {
                panic!("a client, {n} are at the gate: {failure}");
            }
        }
        for _ in 0..CROWD {
            gate.open.release();
            yield_now();
        }
        for (n, client) in clients.into_iter().enumerate() {
            client.wait().unwrap_or_else(|failure| panic!("client {n}: {failure}"));
        }
        server.finish(conversations);
        held.judge(name);
    });
}

/// Runs a test on an OS thread of its own, with a limit to how long it may take.
#[track_caller]
pub fn on_a_thread(test: impl FnOnce() + Send + 'static) {
    let (done, ended) = channel::<()>();
    let thread = std::thread::spawn(move || {
        let _done = done;
        test();
    });
    match ended.recv_timeout(PATIENCE) {
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {}
        outcome => panic!("the test hangs ({outcome:?})"),
    }
    if let Err(payload) = thread.join() {
        std::panic::resume_unwind(payload);
    }
}

/// How long the loop was held: the time between two calls of a timer that is due every millisecond, whoever ran in between. It is
/// the thread's own CPU time, since what the machine's other work takes is nobody's fault here. A call that waited by blocking
/// would use none, but would wait for a peer on the same thread, for ever.
pub struct Held {
    ticking: LoopingCall,
    longest: Rc<Cell<Duration>>,
    ticks: Rc<Cell<u32>>,
    started: Instant,
    cpu: Duration,
}
impl Held {
    pub fn watch() -> Held {
        noise(0, 0); // made now, not while the loop is watched
        let (longest, ticks) = (Rc::new(Cell::new(Duration::ZERO)), Rc::new(Cell::new(0)));
        let (last, longest_yet, ticks_yet) = (Cell::new(cpu_time()), longest.clone(), ticks.clone());
        let ticking = LoopingCall::new(&Reactor::current(), move |_| {
            let now = cpu_time();
            longest_yet.set(longest_yet.get().max(now - last.replace(now)));
            ticks_yet.set(ticks_yet.get() + 1);
        });
        drop(ticking.start(Duration::from_millis(1)).add_errback(|_| ()));
        Held { ticking, longest, ticks, started: Instant::now(), cpu: cpu_time() }
    }
    #[track_caller]
    pub fn judge(self, name: &str) {
        self.ticking.stop();
        let (longest, ticks) = (self.longest.get(), self.ticks.get());
        let (took, worked) = (self.started.elapsed(), cpu_time() - self.cpu);
        println!(
            "{name}: {CROWD} at once, held for {longest:.1?} at most, {ticks} ticks, {worked:.0?} of CPU in {took:.0?}"
        );
        assert!(ticks > 10, "{name}: the timer ran {ticks} times only");
        assert!(longest <= LONGEST, "{name}: the reactor was held for {longest:?}");
    }
}

/// The CPU time of this thread.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours that outlives the call.
    let outcome = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(outcome, 0, "this system does not tell a thread's CPU time");
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Bytes of client `n`, as long as `length`, that no mix-up leaves the same.
pub fn noise(n: usize, length: usize) -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    const STRIDE: usize = 4099;
    const MOST: usize = 512 * 1024;
    let noise = NOISE.get_or_init(|| {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let words = (MOST + CROWD * STRIDE * 2) / 8;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        std::iter::repeat_with(next).take(words).flat_map(u64::to_le_bytes).collect()
    });
    &noise[n * STRIDE..][..length]
}
/// How much client `n` sends: from 3 KiB to 250 KiB.
pub fn size(n: usize) -> usize {
    3 * 1024 + (n * 7919 % CROWD) * 1265
}
/// Whether client `n` dribbles, which takes a switch a byte: those send little.
pub fn dribbles(n: usize) -> bool {
    n % 10 == 3
}

/// What came must be what was sent.
pub fn expect(what: &str, n: usize, came: &[u8], sent: &[u8]) -> Result {
    if came == sent {
        return Ok(());
    }
    let same = came.iter().zip(sent).take_while(|(a, b)| a == b).count();
    Err(Failure::msg(format!("{what} {n}: {} bytes came of {}, the first {same} are right", came.len(), sent.len())))
}
