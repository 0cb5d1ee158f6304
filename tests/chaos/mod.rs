//! A protocol that does at random, in every callback, whatever a protocol may do to its connection, and checks what it is told.
#![allow(dead_code)] // each test file uses a part
use crate::certs;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use twistlet::transport::tls::{ClientConfig, ServerConfig};
use twistlet::{ConnectionClosed, Failure, Producer, Protocol, PullProducer, TransportRef};

/// Numbers that follow from a seed.
pub struct Dice(Cell<u64>);
impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1))
    }
    pub fn below(&self, n: u64) -> u64 {
        let mut x = self.0.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.set(x);
        (x >> 11) % n
    }
    pub fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What both ends of a connection, and all the protocols they have one after the other, share.
pub struct World {
    pub dice: Dice,
    pub server: ServerConfig,
    pub client: ClientConfig,
    /// The client would like TLS; the server has started it.
    wanted: Cell<bool>,
    started: Cell<bool>,
    /// What is wrong.
    pub faults: RefCell<Vec<String>>,
    /// Destroys the connection from outside.
    pub bomb: RefCell<Option<Box<dyn FnOnce()>>>,
    pub trace: RefCell<Vec<String>>,
}
impl World {
    pub fn new(seed: u64) -> Rc<World> {
        Rc::new(World {
            dice: Dice::new(seed),
            server: certs::server(),
            client: certs::client(),
            wanted: Cell::new(false),
            started: Cell::new(false),
            faults: RefCell::default(),
            bomb: RefCell::default(),
            trace: RefCell::default(),
        })
    }
}

/// One end of a connection, through all its protocols.
pub struct End {
    pub world: Rc<World>,
    is_client: bool,
    /// So many layers of TLS are on it, or starting.
    depth: Cell<u8>,
    budget: Cell<u32>,
    producing: Cell<bool>,
    pub transport: Cell<Option<TransportRef>>,
    pub made: Cell<u32>,
    pub lost: Cell<u32>,
    pub secured: Cell<u32>,
    pub reason: RefCell<Option<ConnectionClosed>>,
    /// It has panicked somewhere.
    pub panicked: Cell<bool>,
}
impl End {
    pub fn new(world: &Rc<World>, is_client: bool, depth: u8) -> Rc<End> {
        Rc::new(End {
            world: world.clone(),
            is_client,
            depth: Cell::new(depth),
            budget: Cell::new(30),
            producing: Cell::new(false),
            transport: Cell::new(None),
            made: Cell::new(0),
            lost: Cell::new(0),
            secured: Cell::new(0),
            reason: RefCell::default(),
            panicked: Cell::new(false),
        })
    }
    fn note(&self, what: &str) {
        let who = if self.is_client { "client" } else { "server" };
        self.world.trace.borrow_mut().push(format!("{who} {what}"));
    }
    fn fault(&self, what: String) {
        self.note(&format!("FAULT {what}"));
        self.world.faults.borrow_mut().push(what);
    }
    pub fn is_producing(&self) -> bool {
        self.producing.get()
    }
    /// Bytes that say under how many layers they were written.
    fn mark(&self, transport: TransportRef, times: usize) {
        if !transport.is_disconnecting() {
            transport.write(format!("<<{}>>", self.depth.get()).repeat(times));
        }
    }
    fn start_tls(&self, transport: TransportRef, as_client: bool) {
        if transport.is_disconnecting() || transport.is_handshaking() || self.depth.get() >= 4 {
            return;
        }
        self.note("start_tls");
        self.depth.set(self.depth.get() + 1);
        if as_client {
            transport.start_tls(self.world.client.named("localhost"));
        } else {
            transport.start_tls(&self.world.server);
        }
    }
    /// Something, or nothing.
    pub fn act(self: &Rc<Self>, transport: TransportRef, at: &str) {
        let Some(left) = self.budget.get().checked_sub(1) else { return transport.lose_connection() };
        self.budget.set(left);
        let dice = &self.world.dice;
        let verb = dice.below(26);
        self.note(&format!("{at}: {verb}"));
        match verb {
            0..=4 => self.mark(transport, 1),
            5 => self.mark(transport, 20_000),
            6 => transport.lose_connection(),
            7 => transport.lose_write_connection(),
            8 if dice.one_in(2) => transport.abort_connection(),
            9 if dice.one_in(2) => transport.fail_connection(Failure::msg("chaos")),
            10 | 11 => {
                transport.pause_producing();
                if !dice.one_in(8) {
                    transport.call_later(Duration::from_millis(dice.below(3)), move || transport.resume_producing());
                }
            }
            12 => transport.resume_producing(),
            13 if self.is_client => {
                self.world.wanted.set(true);
                self.mark(transport, 1);
            }
            13 | 14 if !self.is_client => self.offer_tls(transport),
            15 if dice.one_in(6) => self.start_tls(transport, dice.one_in(2) == self.is_client),
            16 => {
                self.note("switch");
                let next = Chaos::new(self);
                transport.switch_protocol(next, "");
            }
            17 => self.produce(transport),
            18 => {
                self.producing.set(false);
                transport.unregister_producer();
            }
            19 | 20 => {
                let me = self.clone();
                let flushed = transport.when_flushed().add_callback(move |()| me.act(transport, "flushed"));
                drop(flushed.add_errback(|_| {}));
            }
            21 => transport.set_read_size(1 + dice.below(40) as usize),
            22 if dice.one_in(3) => {
                self.panicked.set(true);
                panic!("chaos");
            }
            23 => {
                let me = self.clone();
                transport.call_later(Duration::from_millis(dice.below(3)), move || me.act(transport, "later"));
            }
            24 if dice.one_in(3) => {
                let bomb = self.world.bomb.borrow_mut().take();
                if let Some(bomb) = bomb {
                    self.note("bomb");
                    bomb();
                }
            }
            _ => {}
        }
    }
    /// The server says that it is ready, and is.
    fn offer_tls(self: &Rc<Self>, transport: TransportRef) {
        if !transport.is_disconnecting() && !transport.is_handshaking() && !self.world.started.get() {
            self.mark(transport, 1);
            self.world.started.set(true);
            self.start_tls(transport, false);
        }
    }
    fn produce(self: &Rc<Self>, transport: TransportRef) {
        if self.producing.replace(true) {
            return;
        }
        let source = Source(self.clone(), transport);
        if self.world.dice.one_in(2) {
            transport.register_producer(source);
        } else {
            transport.register_pull_producer(source);
        }
    }
}

struct Source(Rc<End>, TransportRef);
impl Producer for Source {
    fn pause_producing(&mut self) {
        self.0.act(self.1, "producer paused");
    }
    fn resume_producing(&mut self) {
        self.0.act(self.1, "producer resumed");
        self.0.mark(self.1, 5);
    }
    fn stop_producing(&mut self) {
        self.0.producing.set(false);
        self.0.act(self.1, "producer stopped");
    }
}
impl PullProducer for Source {
    fn produce(&mut self, consumer: TransportRef) -> bool {
        self.0.mark(consumer, 3);
        self.0.act(consumer, "produce");
        let goes_on = !self.0.world.dice.one_in(3) && self.0.budget.get() > 0;
        if !goes_on {
            self.0.producing.set(false);
        }
        goes_on
    }
    fn stop_producing(&mut self) {
        self.0.producing.set(false);
        self.0.act(self.1, "pull producer stopped");
    }
}

/// The protocol.
pub struct Chaos {
    end: Rc<End>,
    made: bool,
    lost: bool,
    /// The last bytes, in case a mark is cut in two.
    tail: Vec<u8>,
}
impl Chaos {
    pub fn new(end: &Rc<End>) -> Chaos {
        Chaos { end: end.clone(), made: false, lost: false, tail: Vec::new() }
    }
    fn told(&self, what: &str) {
        self.end.note(what);
        if !self.made || self.lost {
            let when = if self.made { "after the end" } else { "before the beginning" };
            self.end.fault(format!("told {what} {when}"));
        }
    }
}
impl Protocol for Chaos {
    fn connection_made(&mut self, transport: TransportRef) {
        if std::mem::replace(&mut self.made, true) {
            self.end.fault("made twice".to_owned());
        }
        self.end.made.set(self.end.made.get() + 1);
        self.end.transport.set(Some(transport));
        self.told("made");
        self.end.act(transport, "made");
    }
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        self.told("data");
        let end = self.end.clone();
        if transport.is_paused() {
            end.fault("data while paused".to_owned());
        }
        if transport.is_handshaking() {
            end.fault("data before the handshake was done".to_owned());
        }
        self.tail.extend_from_slice(data);
        let depth = b'0' + end.depth.get();
        for mark in self.tail.windows(5) {
            if mark.starts_with(b"<<") && mark.ends_with(b">>") && mark[2] != depth {
                end.fault(format!("{} was believed under {} layers", mark.escape_ascii(), end.depth.get()));
            }
        }
        self.tail.drain(..self.tail.len().saturating_sub(4));
        if end.is_client && end.world.started.get() && end.depth.get() <= end.secured.get() as u8 {
            end.world.started.set(false);
            self.tail.clear();
            end.start_tls(transport, true);
        } else if !end.is_client && end.world.wanted.replace(false) {
            self.tail.clear();
            end.offer_tls(transport);
        }
        let before = end.depth.get();
        end.act(transport, "data");
        if end.depth.get() != before {
            self.tail.clear();
        }
    }
    fn read_connection_lost(&mut self, transport: TransportRef) {
        self.told("read lost");
        self.end.act(transport, "read lost");
        transport.lose_connection();
    }
    fn write_connection_lost(&mut self, transport: TransportRef) {
        self.told("write lost");
        self.end.act(transport, "write lost");
    }
    fn handshake_completed(&mut self, transport: TransportRef) {
        self.told("secure");
        self.tail.clear();
        self.end.secured.set(self.end.secured.get() + 1);
        if self.end.secured.get() > u32::from(self.end.depth.get()) {
            self.end.fault("secured too often".to_owned());
        }
        self.end.mark(transport, 1);
        self.end.act(transport, "secure");
    }
    fn connection_lost(&mut self, transport: TransportRef, reason: &ConnectionClosed) {
        self.told("lost");
        self.lost = true;
        self.end.lost.set(self.end.lost.get() + 1);
        *self.end.reason.borrow_mut() = Some(reason.clone());
        self.end.act(transport, "lost");
    }
}
impl Drop for Chaos {
    fn drop(&mut self) {
        if let Some(transport) =
            self.end.transport.get().filter(|_| !std::thread::panicking() && !self.end.panicked.get())
        {
            // Not a panic: a destructor's would abort the test.
            transport.write("from a destructor");
            transport.lose_write_connection();
        }
    }
}
