//! What tests of connections share: a reactor run until an event or until patience ends, a wire whose far end is the test, and
//! a record of what happened.
#![allow(dead_code)] // each test file uses a part
use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use twistlet::transport::Wire;
use twistlet::{Clock, Failure, ListeningPort, Protocol, Reactor, Transport, TransportRef};

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
    for _ in 0..3 {
        reactor.call_soon(move || reactor.crash());
        reactor.run().expect("it runs");
    }
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
