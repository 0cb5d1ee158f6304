//! `TrafficLoggingFactory`: what goes over each connection, as lines of text (Twisted's `TrafficLoggingFactory` and
//! `SpewingFactory`).
//!
//! A sink is the user's code, which methods of a transport do not run: lines are gathered, and handed over in a later turn.
use super::forward;
use super::layered::Layered;
use super::wrapper::{Layer, Wrapper};
use crate::address::Address;
use crate::clock::Clock;
use crate::error::{ConnectError, ConnectionClosed};
use crate::failure::{self, Failure};
use crate::transport::{ClientFactory, Connector, Factory, Protocol};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::fmt::{self, Write as _};
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::Duration;

/// Bytes shown of one chunk.
const SHOWN: usize = 64;
/// Text gathered within one turn; what happens beyond is only counted.
const GATHERED: usize = 256 * 1024;

/// Writes what its connections read, write and do to a sink, a line for each event, with the connection's number:
///
/// ```text
/// 0 * connected to 127.0.0.1:51342
/// 0 < 7 bytes "hello\r\n"
/// 0 > 70000 bytes "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"...
/// 0 * lost: the connection was closed cleanly
/// ```
///
/// The sink gets whole lines, in a later turn of the loop; one that blocks, such as a file, blocks the loop. When it fails
/// that is logged once, and no more is written. Of each chunk only the first bytes are shown, and what comes faster than the
/// sink is asked for is left out, and counted.
///
/// ```
/// use twistlet::protocols::policies::TrafficLoggingFactory;
/// # use twistlet::{Protocol, Reactor, TransportRef};
/// # struct Echo;
/// # impl Protocol for Echo { fn data_received(&mut self, t: TransportRef, data: &[u8]) { t.write(data) } }
/// # let reactor = Reactor::new()?;
/// reactor.listen_tcp("127.0.0.1:0", TrafficLoggingFactory::new(std::io::stderr(), || Echo))?;
/// # reactor.close();
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct TrafficLoggingFactory<F> {
    inner: F,
    log: Rc<Log>,
    next: u64,
    shown: usize,
}

impl<F> TrafficLoggingFactory<F> {
    /// Logs the connections of `inner` to `sink`.
    pub fn new(sink: impl io::Write + 'static, inner: F) -> Self {
        TrafficLoggingFactory { inner, log: Log::new(Box::new(sink)), next: 0, shown: SHOWN }
    }
    /// How many bytes of each chunk are shown: 64, unless told otherwise.
    pub fn shown(mut self, bytes: usize) -> Self {
        self.shown = bytes.min(GATHERED / 8);
        self
    }
}
impl<F: Factory> Factory for TrafficLoggingFactory<F> {
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        let protocol = self.inner.build_protocol(peer)?;
        let number = self.next;
        self.next += 1;
        Some(Layered::boxed(Traffic { log: Rc::clone(&self.log), number, shown: self.shown }, protocol, None))
    }
    forward!(factory);
}
impl<F: ClientFactory> ClientFactory for TrafficLoggingFactory<F> {
    forward!(client);
}
impl<F> fmt::Debug for TrafficLoggingFactory<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrafficLoggingFactory").field("connections", &self.next).finish_non_exhaustive()
    }
}

/// Lines on their way to the sink.
struct Log {
    sink: RefCell<Option<Box<dyn io::Write>>>,
    text: RefCell<String>,
    left_out: Cell<u64>,
    due: Cell<bool>,
}
impl Log {
    fn new(sink: Box<dyn io::Write>) -> Rc<Log> {
        Rc::new(Log {
            sink: RefCell::new(Some(sink)),
            text: RefCell::default(),
            left_out: Cell::new(0),
            due: Cell::new(false),
        })
    }
    fn line(self: &Rc<Self>, clock: impl FnOnce() -> Rc<dyn Clock>, write: impl FnOnce(&mut String) -> fmt::Result) {
        let mut text = self.text.borrow_mut();
        if text.len() >= GATHERED {
            self.left_out.set(self.left_out.get() + 1);
            return;
        }
        // Into a String, which does not fail.
        let _ = write(&mut text);
        text.push('\n');
        drop(text);
        if !self.due.replace(true) {
            let log = Rc::clone(self);
            clock().schedule(Duration::ZERO, Box::new(move || log.hand_over()));
        }
    }
    fn hand_over(&self) {
        self.due.set(false);
        let mut text = self.text.take();
        let left_out = self.left_out.take();
        if left_out > 0 {
            let _ = writeln!(text, "* {left_out} events left out");
        }
        // Taken out: it may do anything, also to our connections.
        let Some(mut sink) = self.sink.take() else { return };
        let written = failure::catch(|| sink.write_all(text.as_bytes()).and_then(|()| sink.flush()));
        match written.and_then(|written| written.map_err(Failure::from)) {
            Ok(()) => *self.sink.borrow_mut() = Some(sink),
            Err(failure) => {
                failure::report("the sink of a traffic log", &failure);
                failure::drop_quietly(sink);
            }
        }
    }
}
/// The reactor has ended before the last lines were handed over.
impl Drop for Log {
    fn drop(&mut self) {
        if !self.text.get_mut().is_empty() {
            self.hand_over();
        }
        failure::drop_quietly(self.sink.take());
    }
}

struct Traffic {
    log: Rc<Log>,
    number: u64,
    shown: usize,
}
impl Traffic {
    /// `what` is text already: writing it as such may take the user's code, and the lines are borrowed here.
    fn event(&self, layer: Layer, what: &str) {
        self.log.line(|| layer.lower().clock(), |text| write!(text, "{} * {what}", self.number));
    }
    fn data<'a>(&self, layer: Layer, direction: char, len: usize, parts: impl Iterator<Item = &'a [u8]>) {
        if len == 0 {
            return;
        }
        self.log.line(
            || layer.lower().clock(),
            |text| {
                write!(text, "{} {direction} {len} bytes \"", self.number)?;
                let mut room = self.shown;
                for part in parts {
                    let shown = &part[..part.len().min(room)];
                    room -= shown.len();
                    write!(text, "{}", shown.escape_ascii())?;
                }
                text.push_str(if len > self.shown { "\"..." } else { "\"" });
                Ok(())
            },
        );
    }
}
impl Wrapper for Traffic {
    fn connection_made(&self, layer: Layer) {
        self.event(layer, &format!("connected to {}", layer.lower().peer()));
    }
    fn data_received(&self, layer: Layer, data: &[u8]) {
        self.data(layer, '<', data.len(), std::iter::once(data));
        layer.deliver(data);
    }
    fn read_connection_lost(&self, layer: Layer) {
        self.event(layer, "the peer sends no more");
        layer.deliver_read_lost();
    }
    fn connection_lost(&self, layer: Layer, reason: &ConnectionClosed) {
        self.event(layer, &format!("lost: {reason}"));
    }
    fn write(&self, layer: Layer, data: &[u8]) {
        self.data(layer, '>', data.len(), std::iter::once(data));
        layer.lower().write(data);
    }
    fn write_bytes(&self, layer: Layer, data: Bytes) {
        self.data(layer, '>', data.len(), std::iter::once(&data[..]));
        layer.lower().write_bytes(data);
    }
    fn write_vectored(&self, layer: Layer, parts: &[IoSlice<'_>]) {
        self.data(layer, '>', parts.iter().map(|part| part.len()).sum(), parts.iter().map(|part| &**part));
        layer.lower().write_vectored(parts);
    }
    fn lose_connection(&self, layer: Layer) {
        self.event(layer, "closing");
        layer.lower().lose_connection();
    }
    fn lose_write_connection(&self, layer: Layer) {
        self.event(layer, "closing the write side");
        layer.lower().lose_write_connection();
    }
    fn abort_connection(&self, layer: Layer) {
        self.event(layer, "aborting");
        layer.lower().abort_connection();
    }
    fn fail_connection(&self, layer: Layer, failure: Failure) {
        self.event(layer, "closing with an error");
        layer.lower().fail_connection(failure);
    }
}
