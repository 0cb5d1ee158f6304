//! A question by TCP: for answers that do not fit a datagram. Every message has its length before it, and comes in whatever
//! pieces the network makes of it.
use super::exchange::Exchange;
use crate::deferred::Canceller;
use crate::error::{ConnectError, ConnectionClosed};
use crate::reactor::Reactor;
use crate::transport::{Destination, Protocol, TransportRef};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// What is to be closed.
pub(super) enum Line {
    Connecting(Canceller),
    Connected(TransportRef),
}
impl Line {
    pub(super) fn close(self) {
        match self {
            Line::Connecting(canceller) => canceller.cancel(),
            Line::Connected(wire) => wire.lose_connection(),
        }
    }
}

/// Connects and asks; what comes of it the exchange hears, in a later turn.
pub(super) fn dial(
    exchange: &Rc<Exchange>,
    reactor: Reactor,
    server: SocketAddr,
    limit: Duration,
    number: u32,
    question: &[u8],
) -> Line {
    let mut message = Vec::with_capacity(2 + question.len());
    // A question is a name and some numbers: 300 bytes.
    message.extend((question.len() as u16).to_be_bytes());
    message.extend(question);
    let asking = Asking { exchange: Rc::clone(exchange), number, message, reader: Reader::default() };
    let connected = reactor.connect_protocol(Destination::from(server).timeout(limit), asking);
    let canceller = connected.canceller();
    let exchange = Rc::downgrade(exchange);
    let _ = connected.add_both(move |outcome| {
        if let (Err(failure), Some(exchange)) = (outcome, exchange.upgrade()) {
            log::debug!(target: "twistlet", "the name server {server} was not reached by TCP: {failure}");
            match failure.check() {
                // Not for want of a server.
                Some(ConnectError::Os { code: libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM, .. }) => {
                    exchange.without_socket(number, failure);
                }
                _ => exchange.failed(number, None),
            }
        }
    });
    Line::Connecting(canceller)
}

struct Asking {
    exchange: Rc<Exchange>,
    number: u32,
    message: Vec<u8>,
    reader: Reader,
}
impl Protocol for Asking {
    fn connection_made(&mut self, wire: TransportRef) {
        wire.write(&self.message);
        self.exchange.connected(self.number, Line::Connected(wire));
    }
    fn data_received(&mut self, _: TransportRef, data: &[u8]) {
        let (exchange, number) = (&self.exchange, self.number);
        self.reader.feed(data, |message| exchange.heard(number, message, None));
    }
    fn connection_lost(&mut self, _: TransportRef, _: &ConnectionClosed) {
        self.exchange.failed(self.number, Some(None));
    }
}

/// Takes messages apart. Holds one at most: 64 KiB.
#[derive(Default)]
pub(super) struct Reader(Vec<u8>);
impl Reader {
    pub(super) fn feed(&mut self, mut data: &[u8], mut message: impl FnMut(&[u8])) {
        while !data.is_empty() {
            let wanted = match self.0[..] {
                [high, low, ..] => 2 + usize::from(u16::from_be_bytes([high, low])),
                _ => 2,
            };
            let (now, rest) = data.split_at(data.len().min(wanted - self.0.len()));
            self.0.extend_from_slice(now);
            data = rest;
            if let [high, low, body @ ..] = &self.0[..]
                && body.len() == usize::from(u16::from_be_bytes([*high, *low]))
            {
                message(body);
                self.0.clear();
            }
        }
    }
}
