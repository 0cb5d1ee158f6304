//! `Pump`: two protocols on one wire in memory, moved on by the test.
use super::Clock;
use super::string_transport::address;
use super::tape::{End, HIGH_WATER};
use crate::error::ConnectionClosed;
use crate::transport::{Protocol, TransportRef};
use std::cell::Cell;
use std::fmt;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

/// Two protocols that talk for ever are stopped after this many rounds.
const ROUNDS: usize = 1000;

/// Two protocols, wired to each other in memory (Twisted's `IOPump`); made by [`connect`]. When it is dropped, both
/// connections are lost.
pub struct Pump {
    client: Side,
    server: Side,
    clock: Clock,
    delivery: Cell<Delivery>,
}

/// What a [`Pump`] makes one `data_received` of (Twisted's loopback policies). A stream promises neither; a protocol that
/// works with both, and with [`Network::limit_io`](super::Network::limit_io), works with what a socket may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Delivery {
    /// All that was written since the last round (`collapsingPumpPolicy`).
    #[default]
    Coalesced,
    /// Each write (`identityPumpPolicy`).
    PerWrite,
    /// Each byte, which is the hardest for a parser.
    PerByte,
}

struct Side {
    end: Rc<End>,
    /// The other side sends no more, and the protocol is to be told when it does not pause; then that it was.
    end_due: Cell<bool>,
    told_end: Cell<bool>,
}

/// Wires two protocols to each other; `connection_made` of both has been called on return, the server's first. Nothing moves
/// before the [`Pump`] is asked to.
///
/// ```
/// use std::time::Duration;
/// use twistlet::testing::{Clock, connect};
/// use twistlet::{Protocol, TransportRef};
///
/// struct Greeter;
/// impl Protocol for Greeter {
///     fn connection_made(&mut self, transport: TransportRef) {
///         transport.write("hello");
///     }
///     fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
///         assert_eq!(data, b"hello");
///         transport.lose_connection();
///     }
/// }
/// let pump = connect(Greeter, Greeter, &Clock::new());
/// pump.flush();
/// assert!(!pump.client().is_connected() && !pump.server().is_connected());
/// ```
pub fn connect(client: impl Protocol + 'static, server: impl Protocol + 'static, clock: &Clock) -> Pump {
    let (here, there) = (address([10, 0, 0, 1], 12345), address([192, 168, 1, 1], 54321));
    let server = End::new(server, clock, there.clone(), here.clone(), true);
    let client = End::new(client, clock, here, there, true);
    let side = |end| Side { end, end_due: Cell::new(false), told_end: Cell::new(false) };
    Pump { client: side(client), server: side(server), clock: clock.clone(), delivery: Cell::default() }
}

impl Pump {
    /// One round: calls due on the clock, producers, then what each side has written goes to the other in one piece, then
    /// closes. Returns whether anything moved.
    pub fn pump(&self) -> bool {
        self.clock.advance(Duration::ZERO);
        // What a side writes because of what it was told just now moves in the next round.
        let sent = [self.client.take_output(&self.server), self.server.take_output(&self.client)];
        let mut moved = self.server.receive(&sent[0], self.delivery.get());
        moved |= self.client.receive(&sent[1], self.delivery.get());
        moved |= self.client.close(&self.server);
        moved |= self.server.close(&self.client);
        moved |= self.client.tell_end();
        moved |= self.server.tell_end();
        moved | sent.iter().any(|sent| sent.produced)
    }
    /// Pumps until nothing moves any more.
    ///
    /// # Panics
    /// When that is not so after 1,000 rounds.
    #[track_caller]
    pub fn flush(&self) {
        for _ in 0..ROUNDS {
            if !self.pump() {
                return;
            }
        }
        panic!("the two protocols are still talking after {ROUNDS} rounds: use pump() for those that never end");
    }
    /// What one `data_received` is to be, from the next round on.
    pub fn set_delivery(&self, delivery: Delivery) {
        self.delivery.set(delivery);
    }
    /// The client's transport.
    pub fn client(&self) -> TransportRef {
        self.client.end.name()
    }
    /// The server's transport.
    pub fn server(&self) -> TransportRef {
        self.server.end.name()
    }
}

struct Output {
    data: Vec<u8>,
    /// How long each of its writes is; the last may not be whole.
    writes: Vec<usize>,
    produced: bool,
}

impl Side {
    /// What goes to `other` now: all of it, or what the wire still holds for one who does not read.
    fn take_output(&self, other: &Side) -> Output {
        let tape = &self.end.tape;
        if tape.written.borrow().len() > HIGH_WATER {
            tape.pause_producer();
        }
        let idle = !self.end.is_lost() && tape.written.borrow().is_empty();
        let asked = idle && tape.resume_producer(self.end.name());
        let produced = asked && !(tape.written.borrow().is_empty() && tape.has_producer.get());
        let room = other.end.room();
        let data = {
            let mut written = tape.written.borrow_mut();
            match room {
                0 => Vec::new(),
                room if room >= written.len() => std::mem::take(&mut *written),
                room => written.drain(..room).collect(),
            }
        };
        let data = if tape.aborted.get() { Vec::new() } else { data };
        if tape.written.borrow().is_empty() && !tape.aborted.get() {
            tape.flushed();
        }
        let writes = tape.take_writes(data.len());
        Output { data, writes, produced }
    }
    fn receive(&self, output: &Output, delivery: Delivery) -> bool {
        if output.data.is_empty() {
            return false;
        }
        let mut rest = &output.data[..];
        let deliver = |length: usize| {
            let (piece, left) = rest.split_at(length.min(rest.len()));
            rest = left;
            if !self.end.is_lost() && !piece.is_empty() {
                self.end.deliver(piece);
            }
        };
        match delivery {
            Delivery::Coalesced => [output.data.len()].into_iter().for_each(deliver),
            Delivery::PerWrite => output.writes.iter().copied().for_each(deliver),
            Delivery::PerByte => output.data.iter().map(|_| 1).for_each(deliver),
        }
        true
    }
    /// Closes as asked, once nothing is left to send; `other` is told what follows for it.
    fn close(&self, other: &Side) -> bool {
        let tape = &self.end.tape;
        if self.end.is_lost() {
            // Ended here by a panic: for the other side that is a reset.
            let by_panic = !tape.lost.replace(true);
            if by_panic && !other.end.is_lost() {
                other.end.lose(ConnectionClosed::Lost(Some(ErrorKind::ConnectionReset)));
            }
            return by_panic;
        }
        if tape.aborted.get() {
            self.end.lose(ConnectionClosed::Aborted);
            other.end.lose(ConnectionClosed::Lost(Some(ErrorKind::ConnectionReset)));
            return true;
        }
        let unheld = !tape.has_producer.get() || tape.failed.borrow().is_some();
        let all_sent = tape.written.borrow().is_empty() && unheld;
        if tape.closing.get() && all_sent {
            self.end.lose(tape.reason());
            other.end_due.set(true);
            return true;
        }
        if tape.write_closing.get() && all_sent && !tape.write_closed.get() {
            self.end.deliver_write_lost();
            other.end_due.set(true);
            return true;
        }
        if other.end.is_lost() && !tape.written.borrow().is_empty() && !tape.closing.get() {
            self.end.lose(ConnectionClosed::Lost(Some(ErrorKind::BrokenPipe)));
            return true;
        }
        false
    }
    fn tell_end(&self) -> bool {
        let tells = self.end_due.get() && !self.end.is_lost() && !self.end.holds_back() && !self.told_end.replace(true);
        if tells {
            self.end.deliver_read_lost();
        }
        tells
    }
}

impl fmt::Debug for Pump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pump").field("client", &self.client()).field("server", &self.server()).finish()
    }
}
