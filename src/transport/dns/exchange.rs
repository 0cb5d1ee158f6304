//! One question put to the servers, one after the other and again, until one of them knows. Every try has a socket, a number and
//! a port of its own, drawn so that nobody can guess them; a late answer to an earlier try is taken too.
//!
//! Made by `flights`. What must never happen here: a datagram from somebody else, or to another question, taken for the answer.
use super::config::Config;
use super::error::DnsError;
use super::message::{Question, Reply};
use super::name;
use super::stream::{self, Line};
use crate::clock::{Clock, DelayedCall};
use crate::deferred::{Deferred, Promise};
use crate::error::ReactorError;
use crate::failure::{Failure, Result};
use crate::reactor::Reactor;
use crate::transport::{Address, DatagramPort, DatagramProtocol};
use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;

/// Tries whose answers are still listened for.
const MOST_OPEN: usize = 4;
/// Ports drawn before the choice is left to the system.
const PORT_DRAWS: usize = 8;
const LOWEST_PORT: u16 = 1024;
/// Wrong answers that one try listens to. So many datagrams with the server's address are somebody's who guesses: then it is
/// asked by TCP, where nobody can. On TCP they are the server's own.
const MOST_STRAY: u32 = 64;

/// Where an answer may come from.
enum Wire {
    Datagrams(DatagramPort),
    Stream(Line),
}

/// A question that was sent.
struct Try {
    number: u32,
    id: u16,
    server: SocketAddr,
    extended: bool,
    wire: Wire,
    /// How much was heard that was no answer.
    stray: u32,
}

/// How it is sent.
#[derive(Clone, Copy)]
struct Way {
    stream: bool,
    extended: bool,
}

#[derive(Default)]
struct Faults {
    /// The last server's code.
    failed: Option<Option<u16>>,
    unreachable: bool,
    timed_out: bool,
    socket: Option<Failure>,
}

pub(super) struct Exchange {
    reactor: Reactor,
    config: Rc<Config>,
    question: Question,
    servers: Vec<SocketAddr>,
    promise: Cell<Option<Promise<Reply>>>,
    open: RefCell<Vec<Try>>,
    made: Cell<u32>,
    /// How many servers were turned to.
    asked: Cell<usize>,
    timer: Cell<Option<DelayedCall>>,
    faults: RefCell<Faults>,
    began: Instant,
}

/// Asks; `first` says which server to begin with. Fails with [`DnsError`].
pub(super) fn ask(reactor: Reactor, config: &Rc<Config>, question: Question, first: usize) -> Deferred<Reply> {
    if reactor.core().is_none() {
        return Deferred::fail(ReactorError::Closed);
    }
    let (promise, reply) = Deferred::new();
    let mut servers = config.servers();
    let turn = first % servers.len();
    servers.rotate_left(turn);
    let exchange = Rc::new(Exchange {
        reactor,
        config: Rc::clone(config),
        question,
        servers,
        promise: Cell::new(None),
        open: RefCell::default(),
        made: Cell::new(0),
        asked: Cell::new(0),
        timer: Cell::new(None),
        faults: RefCell::default(),
        began: reactor.now(),
    });
    let given_up = Rc::downgrade(&exchange);
    promise.on_cancel(move || {
        if let Some(exchange) = given_up.upgrade() {
            exchange.close();
        }
    });
    exchange.promise.set(Some(promise));
    exchange.advance();
    reply
}

impl Exchange {
    /// Turns to the next server, and to the first again as often as is configured.
    fn advance(self: &Rc<Self>) {
        let tries = self.servers.len() * self.config.attempts as usize;
        let way = Way { stream: self.config.tcp_only, extended: self.config.payload.is_some() };
        loop {
            let asked = self.asked.get();
            if asked == tries {
                return self.finish(Err(self.fault().into()));
            }
            self.asked.set(asked + 1);
            if self.send(self.servers[asked % self.servers.len()], way) {
                return;
            }
        }
    }
    /// Why nothing came of it.
    fn fault(&self) -> DnsError {
        let name = name::text(&self.question.name);
        let faults = self.faults.take();
        if let Some(code) = faults.failed {
            DnsError::ServerFailed { name, code }
        } else if faults.timed_out {
            DnsError::TimedOut { name, after: self.reactor.now().saturating_duration_since(self.began) }
        } else if let Some(failure) = faults.socket.filter(|_| !faults.unreachable) {
            DnsError::NoSocket(failure)
        } else {
            DnsError::Unreachable { name }
        }
    }

    /// Sends the question to `server`; whether there is anything to wait for.
    fn send(self: &Rc<Self>, server: SocketAddr, way: Way) -> bool {
        self.stop_timer();
        let number = self.made.get() + 1;
        self.made.set(number);
        let id = rand::random::<u16>();
        let payload = self.config.payload.filter(|_| way.extended);
        let Some(bytes) = self.question.encode(id, payload) else { return false };
        let wire = if way.stream {
            Wire::Stream(stream::dial(self, self.reactor, server, self.config.timeout, number, &bytes))
        } else {
            match self.send_datagram(server, number, &bytes) {
                Some(port) => Wire::Datagrams(port),
                None => return false,
            }
        };
        let mut open = self.open.borrow_mut();
        open.push(Try { number, id, server, extended: way.extended, wire, stray: 0 });
        let oldest = if open.len() > MOST_OPEN { Some(open.remove(0)) } else { None };
        drop(open);
        oldest.into_iter().for_each(Try::close);
        let exchange = Rc::downgrade(self);
        let late = move || {
            if let Some(exchange) = exchange.upgrade() {
                exchange.timer.set(None);
                exchange.faults.borrow_mut().timed_out = true;
                exchange.advance();
            }
        };
        self.timer.set(Some(self.reactor.schedule(self.config.timeout, Box::new(late))));
        true
    }
    fn send_datagram(self: &Rc<Self>, server: SocketAddr, number: u32, bytes: &[u8]) -> Option<DatagramPort> {
        let port = match self.bind(server.is_ipv4(), number) {
            Ok(port) => port,
            Err(failure) => {
                log::debug!(target: "twistlet", "no socket to ask {server} with: {failure}");
                self.faults.borrow_mut().socket = Some(failure);
                return None;
            }
        };
        // Connected, the system itself keeps strangers out, and tells when nobody listens there.
        if let Err(error) = port.connect(server).and_then(|()| port.write(bytes)) {
            log::debug!(target: "twistlet", "the name server {server} cannot be asked: {error}");
            self.faults.borrow_mut().unreachable = true;
            let _ = port.stop_listening();
            return None;
        }
        Some(port)
    }
    /// A socket on a port that was drawn.
    fn bind(self: &Rc<Self>, v4: bool, number: u32) -> Result<DatagramPort> {
        let any = if v4 { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        let ear = || Ear { exchange: Rc::clone(self), number };
        for _ in 0..PORT_DRAWS {
            let port = rand::random_range(LOWEST_PORT..=u16::MAX);
            if let Ok(port) = self.reactor.listen_udp(SocketAddr::new(any, port), ear()) {
                return Ok(port);
            }
        }
        self.reactor.listen_udp(SocketAddr::new(any, 0), ear())
    }

    /// Something came on the wire of a try; on datagrams, from whom.
    pub(super) fn heard(self: &Rc<Self>, number: u32, bytes: &[u8], from: Option<&Address>) {
        let asked = self.open.borrow().iter().find(|it| it.number == number).map(|it| {
            let known = from.is_none_or(|from| from.socket().is_some_and(|from| same(from, it.server)));
            (it.id, it.server, it.extended, known)
        });
        let Some((id, server, extended, true)) = asked else { return };
        let Some(reply) = self.question.read(id, bytes) else {
            return self.heard_stray(number, server, Way { stream: true, extended }, from.is_some());
        };
        let is_datagram = from.is_some();
        match reply {
            Reply::Truncated if is_datagram => self.ask_again(number, server, Way { stream: true, extended }),
            Reply::NoExtensions if extended => {
                self.ask_again(number, server, Way { stream: !is_datagram, extended: false });
            }
            Reply::Truncated => self.failed(number, Some(None)),
            Reply::NoExtensions => self.failed(number, Some(Some(1))),
            Reply::Failed(code) => self.failed(number, Some(code)),
            reply => self.finish(Ok(reply)),
        }
    }
    /// Something that is no answer: passed over, but not for ever.
    fn heard_stray(self: &Rc<Self>, number: u32, server: SocketAddr, way: Way, is_datagram: bool) {
        let mut open = self.open.borrow_mut();
        let Some(asked) = open.iter_mut().find(|it| it.number == number) else { return };
        asked.stray += 1;
        if asked.stray < MOST_STRAY {
            return;
        }
        drop(open);
        log::debug!(target: "twistlet", "{server} is heard to give many wrong answers about {}", self.question.name);
        if !is_datagram {
            self.failed(number, Some(None));
        } else if number == self.made.get() {
            self.ask_again(number, server, way);
        } else {
            // Another try is under way.
            self.close_try(number);
        }
    }
    /// Puts the question to the same server in another way.
    fn ask_again(self: &Rc<Self>, number: u32, server: SocketAddr, way: Way) {
        self.close_try(number);
        if !self.send(server, way) {
            self.advance();
        }
    }
    /// Nothing will come of a try: the server gave up, with a code, or it was not reached.
    pub(super) fn failed(self: &Rc<Self>, number: u32, code: Option<Option<u16>>) {
        if !self.close_try(number) {
            return;
        }
        let mut faults = self.faults.borrow_mut();
        match code {
            Some(code) => faults.failed = Some(code),
            None => faults.unreachable = true,
        }
        drop(faults);
        // An earlier try's failure changes nothing for the present one.
        if number == self.made.get() {
            self.stop_timer();
            self.advance();
        }
    }
    /// As [`failed`](Exchange::failed), for want of a socket.
    pub(super) fn without_socket(self: &Rc<Self>, number: u32, failure: Failure) {
        if self.open.borrow().iter().any(|it| it.number == number) {
            self.faults.borrow_mut().socket = Some(failure);
            self.close_try(number);
            if number == self.made.get() {
                self.stop_timer();
                self.advance();
            }
        }
    }
    /// The stream of a try is there.
    pub(super) fn connected(&self, number: u32, line: Line) {
        let mut line = Some(line);
        let mut open = self.open.borrow_mut();
        if let Some(asked) = open.iter_mut().find(|it| it.number == number)
            && let Some(line) = line.take()
        {
            asked.wire = Wire::Stream(line);
        }
        drop(open);
        if let Some(line) = line {
            line.close();
        }
    }
    /// The reactor takes the socket of a try away.
    fn stopped(self: &Rc<Self>, number: u32) {
        if self.open.borrow().iter().any(|it| it.number == number) {
            self.finish(Err(ReactorError::Stopped.into()));
        }
    }

    fn finish(&self, outcome: Result<Reply>) {
        self.close();
        let Some(promise) = self.promise.take() else { return };
        match outcome {
            Ok(reply) => promise.callback(reply),
            Err(failure) => promise.errback(failure),
        }
    }
    fn close(&self) {
        self.stop_timer();
        self.asked.set(self.servers.len() * self.config.attempts as usize);
        let open = self.open.take();
        open.into_iter().for_each(Try::close);
    }
    fn close_try(&self, number: u32) -> bool {
        let mut open = self.open.borrow_mut();
        let Some(at) = open.iter().position(|it| it.number == number) else { return false };
        let closed = open.remove(at);
        drop(open);
        closed.close();
        true
    }
    fn stop_timer(&self) {
        if let Some(timer) = self.timer.take() {
            timer.cancel();
        }
    }
}

impl Try {
    fn close(self) {
        match self.wire {
            Wire::Datagrams(port) => drop(port.stop_listening()),
            Wire::Stream(line) => line.close(),
        }
    }
}

/// Whether a datagram came from the server, whatever scope and flow its address is told with.
fn same(from: SocketAddr, server: SocketAddr) -> bool {
    from.port() == server.port() && from.ip().to_canonical() == server.ip().to_canonical()
}

/// Hears what comes to the socket of one try.
struct Ear {
    exchange: Rc<Exchange>,
    number: u32,
}
impl DatagramProtocol for Ear {
    fn datagram_received(&mut self, _: DatagramPort, data: &[u8], from: &Address) {
        self.exchange.heard(self.number, data, Some(from));
    }
    fn connection_refused(&mut self, _: DatagramPort) {
        self.exchange.failed(self.number, None);
    }
    fn stop_protocol(&mut self, _: DatagramPort) {
        self.exchange.stopped(self.number);
    }
}
