//! `AccumulatingProtocol`: a protocol that keeps what it is told, for tests to look at and to wait for.
use crate::deferred::{Deferred, Promise};
use crate::error::ConnectionClosed;
use crate::transport::{Protocol, TransportRef};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

/// Keeps what it is told (Twisted's `AccumulatingProtocol`). Clones are the same protocol: one goes to a factory or a wire,
/// the other is looked at. For one connection; of several it keeps everything together.
///
/// ```
/// use twistlet::testing::{AccumulatingProtocol, simulate};
///
/// let seen = AccumulatingProtocol::new();
/// let server = seen.clone();
/// let reason = simulate(|reactor, _network| {
///     reactor.listen_tcp("10.0.0.1:80", move || server.clone())?;
///     let client = reactor.connect_protocol("10.0.0.1:80", AccumulatingProtocol::new());
///     let _ = client.add_callback(|transport| {
///         transport.write("hello");
///         transport.lose_connection();
///     });
///     Ok(seen.when_closed())
/// })?;
/// assert!(reason.is_clean());
/// assert_eq!(seen.data(), b"hello");
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[derive(Clone, Default)]
pub struct AccumulatingProtocol(Rc<Told>);

#[derive(Default)]
struct Told {
    transport: Cell<Option<TransportRef>>,
    data: RefCell<Vec<u8>>,
    read_lost: Cell<bool>,
    reason: RefCell<Option<ConnectionClosed>>,
    stays: Cell<bool>,
    made: RefCell<Vec<Promise<TransportRef>>>,
    closed: RefCell<Vec<Promise<ConnectionClosed>>>,
}

impl AccumulatingProtocol {
    /// One that has been told nothing.
    pub fn new() -> Self {
        Self::default()
    }
    /// Leaves the connection open at the peer's end, rather than closing it as protocols do.
    pub fn stay_open(&self) {
        self.0.stays.set(true);
    }
    /// Its transport; `None` before `connection_made`.
    pub fn transport(&self) -> Option<TransportRef> {
        self.0.transport.get()
    }
    /// All data so far.
    pub fn data(&self) -> Vec<u8> {
        self.0.data.borrow().clone()
    }
    /// Takes the data there is.
    pub fn take(&self) -> Vec<u8> {
        self.0.data.take()
    }
    /// Whether the peer has said that it sends no more.
    pub fn is_read_lost(&self) -> bool {
        self.0.read_lost.get()
    }
    /// How the connection ended; `None` before `connection_lost`.
    pub fn reason(&self) -> Option<ConnectionClosed> {
        self.0.reason.borrow().clone()
    }
    /// Fires with `connection_made`, at once when that has been.
    pub fn when_made(&self) -> Deferred<TransportRef> {
        match self.transport() {
            Some(transport) => Deferred::succeed(transport),
            None => waiting(&self.0.made),
        }
    }
    /// Fires with `connection_lost`, at once when that has been.
    pub fn when_closed(&self) -> Deferred<ConnectionClosed> {
        match self.reason() {
            Some(reason) => Deferred::succeed(reason),
            None => waiting(&self.0.closed),
        }
    }
}
fn waiting<T: 'static>(list: &RefCell<Vec<Promise<T>>>) -> Deferred<T> {
    let (promise, deferred) = Deferred::new();
    list.borrow_mut().push(promise);
    deferred
}

impl Protocol for AccumulatingProtocol {
    fn connection_made(&mut self, transport: TransportRef) {
        self.0.transport.set(Some(transport));
        for promise in self.0.made.take() {
            promise.callback(transport);
        }
    }
    fn data_received(&mut self, _: TransportRef, data: &[u8]) {
        self.0.data.borrow_mut().extend_from_slice(data);
    }
    fn read_connection_lost(&mut self, transport: TransportRef) {
        self.0.read_lost.set(true);
        if !self.0.stays.get() {
            transport.lose_connection();
        }
    }
    fn connection_lost(&mut self, _: TransportRef, reason: &ConnectionClosed) {
        *self.0.reason.borrow_mut() = Some(reason.clone());
        for promise in self.0.closed.take() {
            promise.callback(reason.clone());
        }
    }
}
impl fmt::Debug for AccumulatingProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccumulatingProtocol")
            .field("data", &self.data().escape_ascii().to_string())
            .field("reason", &self.reason())
            .finish_non_exhaustive()
    }
}
