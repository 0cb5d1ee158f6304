//! What tests of connections share: a reactor run until an event or until patience ends, a wire whose far end is the test, and
//! a record of what happened.
#![allow(dead_code)] // each test file uses a part
use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;
use twistlet::transport::Wire;
use twistlet::{Clock, ConnectionClosed, Factory, Failure, ListeningPort, Protocol, Reactor, Transport, TransportRef};

/// When to give up on an event that should come at once: only a failing test ever waits as long.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A reactor on which `setup` has worked, run until something stops it.
#[track_caller]
pub fn run(setup: impl FnOnce(Reactor)) {
    let reactor = Reactor::new().expect("a reactor");
    reactor.handle_signals(false);
    setup(reactor);
    finish(reactor);
}

/// Runs `reactor` until something stops it; fails when nothing does.
#[track_caller]
pub fn finish(reactor: Reactor) {
    let late = Rc::new(Cell::new(false));
    let mark = late.clone();
    let deadline = reactor.call_later(PATIENCE, move || {
        mark.set(true);
        reactor.stop()
    });
    reactor.run().expect("it runs");
    deadline.cancel();
    assert!(!late.get(), "nothing stopped the reactor in {PATIENCE:?}");
}

/// Some turns of the loop.
pub fn pump(reactor: Reactor) {
    fn turns(reactor: Reactor, left: usize) {
        match left {
            0 => reactor.crash(),
            left => reactor.call_soon(move || turns(reactor, left - 1)),
        }
    }
    turns(reactor, 6);
    reactor.run().expect("it runs");
}

/// A number of things that must happen; the last one stops the reactor, in the next turn so that what follows from it follows.
#[derive(Clone)]
pub struct Countdown {
    left: Rc<Cell<usize>>,
    reactor: Reactor,
}
impl Countdown {
    pub fn new(reactor: Reactor, things: usize) -> Self {
        Countdown { left: Rc::new(Cell::new(things)), reactor }
    }
    pub fn done(&self) {
        let left = self.left.get().checked_sub(1).expect("no more happens than was counted on");
        self.left.set(left);
        if left == 0 {
            let reactor = self.reactor;
            reactor.call_later(Duration::ZERO, move || reactor.stop());
        }
    }
    pub fn left(&self) -> usize {
        self.left.get()
    }
}

/// What happened, in order.
#[derive(Clone, Default)]
pub struct Log(Rc<RefCell<Vec<String>>>);
impl Log {
    pub fn add(&self, what: impl Display) {
        self.0.borrow_mut().push(what.to_string());
    }
    pub fn take(&self) -> Vec<String> {
        self.0.take()
    }
    pub fn all(&self) -> Vec<String> {
        self.0.borrow().clone()
    }
    pub fn contains(&self, what: &str) -> bool {
        self.0.borrow().iter().any(|line| line == what)
    }
}

/// The address of a port.
pub fn address(port: ListeningPort) -> SocketAddr {
    port.address().socket().expect("it listens")
}

/// The far end of a wire: what the protocol did to it, and what it receives.
pub struct Far {
    state: Rc<State>,
    wire: Option<Wire>,
    pub near: TransportRef,
}
#[derive(Default)]
struct State {
    written: RefCell<Vec<u8>>,
    writes: Cell<usize>,
    disconnecting: Cell<bool>,
    aborted: Cell<bool>,
    paused: Cell<bool>,
    failure: RefCell<Option<Failure>>,
}
struct Near {
    state: Rc<State>,
    reactor: Reactor,
}
impl Transport for Near {
    fn write(&self, data: &[u8]) {
        self.state.writes.set(self.state.writes.get() + 1);
        self.state.written.borrow_mut().extend_from_slice(data);
    }
    fn write_vectored(&self, parts: &[std::io::IoSlice<'_>]) {
        let whole: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.write(&whole);
    }
    fn lose_connection(&self) {
        self.state.disconnecting.set(true);
    }
    fn abort_connection(&self) {
        self.state.aborted.set(true);
        self.state.disconnecting.set(true);
    }
    fn fail_connection(&self, failure: Failure) {
        self.state.disconnecting.set(true);
        *self.state.failure.borrow_mut() = Some(failure);
    }
    fn is_disconnecting(&self) -> bool {
        self.state.disconnecting.get()
    }
    fn pause_producing(&self) {
        self.state.paused.set(true);
    }
    fn resume_producing(&self) {
        self.state.paused.set(false);
    }
    fn clock(&self) -> Rc<dyn Clock> {
        self.reactor.handle()
    }
}
impl Far {
    /// Connects `protocol`.
    pub fn connect(reactor: Reactor, protocol: impl Protocol + 'static) -> Far {
        let state = Rc::new(State::default());
        let wire = Wire::new(Near { state: state.clone(), reactor }, protocol);
        Far { state, near: wire.transport(), wire: Some(wire) }
    }
    pub fn deliver(&self, data: impl AsRef<[u8]>) {
        self.wire.as_ref().expect("not lost yet").deliver(data.as_ref());
    }
    pub fn wire(&self) -> &Wire {
        self.wire.as_ref().expect("not lost yet")
    }
    pub fn lose(&mut self, reason: &twistlet::ConnectionClosed) {
        self.wire.take().expect("not lost yet").deliver_lost(reason);
    }
    /// What was written since the last question.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.state.written.take()).into_owned()
    }
    /// The same, not as text.
    pub fn written_bytes(&self) -> Vec<u8> {
        self.state.written.take()
    }
    pub fn writes(&self) -> usize {
        self.state.writes.take()
    }
    pub fn is_disconnecting(&self) -> bool {
        self.state.disconnecting.get()
    }
    pub fn is_paused(&self) -> bool {
        self.state.paused.get()
    }
    /// What the protocol closed the connection with.
    pub fn failure(&self) -> Option<Failure> {
        self.state.failure.borrow().clone()
    }
}

type On = Box<dyn FnMut(TransportRef)>;
type OnData = Box<dyn FnMut(TransportRef, &[u8])>;
type OnLost = Box<dyn FnMut(TransportRef, &ConnectionClosed)>;

/// A protocol made of closures; what has none does what protocols do by default.
#[derive(Default)]
pub struct Probe {
    made: Option<On>,
    data: Option<OnData>,
    read_lost: Option<On>,
    write_lost: Option<On>,
    lost: Option<OnLost>,
}
impl Probe {
    pub fn new() -> Self {
        Probe::default()
    }
    pub fn on_made(mut self, call: impl FnMut(TransportRef) + 'static) -> Self {
        self.made = Some(Box::new(call));
        self
    }
    pub fn on_data(mut self, call: impl FnMut(TransportRef, &[u8]) + 'static) -> Self {
        self.data = Some(Box::new(call));
        self
    }
    pub fn on_read_lost(mut self, call: impl FnMut(TransportRef) + 'static) -> Self {
        self.read_lost = Some(Box::new(call));
        self
    }
    pub fn on_write_lost(mut self, call: impl FnMut(TransportRef) + 'static) -> Self {
        self.write_lost = Some(Box::new(call));
        self
    }
    pub fn on_lost(mut self, call: impl FnMut(TransportRef, &ConnectionClosed) + 'static) -> Self {
        self.lost = Some(Box::new(call));
        self
    }
    /// Stops the reactor when the connection is lost, and leaves the reason in `reason`.
    pub fn until_lost(self, reactor: Reactor, reason: &Slot<ConnectionClosed>) -> Self {
        let reason = reason.clone();
        self.on_lost(move |_, why| {
            reason.set(why.clone());
            let _ = reactor.stop();
        })
    }
}
impl Protocol for Probe {
    fn connection_made(&mut self, transport: TransportRef) {
        if let Some(call) = &mut self.made {
            call(transport);
        }
    }
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        assert!(!data.is_empty());
        if let Some(call) = &mut self.data {
            call(transport, data);
        }
    }
    fn read_connection_lost(&mut self, transport: TransportRef) {
        match &mut self.read_lost {
            Some(call) => call(transport),
            None => transport.lose_connection(),
        }
    }
    fn write_connection_lost(&mut self, transport: TransportRef) {
        if let Some(call) = &mut self.write_lost {
            call(transport);
        }
    }
    fn connection_lost(&mut self, transport: TransportRef, reason: &ConnectionClosed) {
        if let Some(call) = &mut self.lost {
            call(transport, reason);
        }
    }
}

/// A place for a value that a callback finds.
pub struct Slot<T>(Rc<RefCell<Option<T>>>);
impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Slot(self.0.clone())
    }
}
impl<T> Default for Slot<T> {
    fn default() -> Self {
        Slot(Rc::default())
    }
}
impl<T: Clone> Slot<T> {
    pub fn set(&self, value: T) {
        *self.0.borrow_mut() = Some(value);
    }
    #[track_caller]
    pub fn get(&self) -> T {
        self.0.borrow().clone().expect("the callback was called")
    }
    pub fn is_set(&self) -> bool {
        self.0.borrow().is_some()
    }
}

/// A port on this machine.
#[track_caller]
pub fn serve(reactor: Reactor, factory: impl Factory + 'static) -> SocketAddr {
    address(reactor.listen_tcp("127.0.0.1:0", factory).expect("a free port"))
}

/// A factory for one connection: the first.
pub fn once(probe: Probe) -> impl FnMut() -> Probe {
    let mut probe = Some(probe);
    move || probe.take().unwrap_or_default()
}

/// A client that is a plain socket, and gives up when nothing comes.
#[track_caller]
pub fn dial(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("settable");
    stream.set_write_timeout(Some(PATIENCE)).expect("settable");
    stream
}

/// A plain client on a thread of its own, while the reactor runs on this one.
pub fn peer<T: Send + 'static>(to: SocketAddr, talk: impl FnOnce(TcpStream) -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::spawn(move || talk(dial(to)))
}

/// A plain server for one connection.
pub fn plain_server<T: Send + 'static>(
    talk: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = listener.local_addr().expect("bound");
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        stream.set_read_timeout(Some(PATIENCE)).expect("settable");
        talk(stream)
    });
    (at, thread)
}

/// A port on which nobody listens.
pub fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

/// Resets the connection instead of closing it.
pub fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("settable");
}

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}
struct Lines;
impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        if record.level() <= log::Level::Warn {
            LINES.with(|lines| lines.borrow_mut().push(format!("{}: {}", record.level(), record.args())));
        }
    }
    fn flush(&self) {}
}
/// From here on what this thread logs as a warning or an error is kept for `logged`.
pub fn watch_log() {
    // Another test of the same program may have been first.
    let _ = log::set_logger(&Lines);
    log::set_max_level(log::LevelFilter::Warn);
    logged();
}
pub fn logged() -> Vec<String> {
    LINES.with(RefCell::take)
}

/// Open descriptors of this process.
pub fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux").count()
}
