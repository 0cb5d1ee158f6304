//! Factories that run a green thread for each connection (twistedutil's `SimpleSpawnFactory` and `SpawnFactory`).
use super::conn::GreenProtocol;
use super::{GreenTransport, conn::Conn};
use crate::address::Address;
use crate::deferred::{Deferred, IntoDeferred};
use crate::error::Killed;
use crate::failure::{self, Result};
use crate::green::thread::{GreenThread, spawn, wait_all};
use crate::protocols::codec::{Decoder, Raw};
use crate::transport::{Factory, Protocol};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

type Handler<D> = Rc<dyn Fn(GreenTransport<D>) -> Deferred<()>>;

/// What the two factories share, and their clones.
struct Inner<D: 'static> {
    decoder: Box<dyn Fn() -> D>,
    handler: Handler<D>,
    keep_open: Cell<bool>,
    running: RefCell<BTreeMap<u64, GreenThread<()>>>,
    next: Cell<u64>,
}

impl<D: Decoder> Inner<D> {
    fn new<R: IntoDeferred + 'static>(
        decoder: impl Fn() -> D + 'static,
        handler: impl Fn(GreenTransport<D>) -> R + 'static,
    ) -> Rc<Self> {
        Rc::new(Inner {
            decoder: Box::new(decoder),
            handler: Rc::new(move |conn| handler(conn).into_deferred().add_callback(|_| ())),
            keep_open: Cell::new(false),
            running: RefCell::default(),
            next: Cell::new(0),
        })
    }
    fn spawn(&self, conn: Rc<Conn>) -> GreenThread<()> {
        let (transport, handler) = (GreenTransport::new(conn, (self.decoder)()), Rc::clone(&self.handler));
        let keep_open = self.keep_open.get();
        spawn(move || {
            // On every way out, a kill included.
            let _close = (!keep_open).then(|| CloseOnDrop(transport.clone()));
            super::super::block::settle(handler(transport))
        })
    }
    fn protocol(self: &Rc<Self>, made: impl FnOnce(Rc<Self>, Rc<Conn>) + 'static) -> Option<Box<dyn Protocol>> {
        let inner = Rc::clone(self);
        Some(Box::new(GreenProtocol::when_made(move |conn| made(inner, conn))))
    }
}

struct CloseOnDrop<D: Decoder>(GreenTransport<D>);
impl<D: Decoder> Drop for CloseOnDrop<D> {
    fn drop(&mut self) {
        self.0.lose_connection();
    }
}

/// [`SpawnFactory`] without the set of handlers (twistedutil's `SimpleSpawnFactory`).
pub struct SimpleSpawnFactory<D: 'static = Raw>(Rc<Inner<D>>);

impl SimpleSpawnFactory {
    /// Runs `handler` in a green thread for each connection. A failure it ends with is logged.
    pub fn new<R: IntoDeferred + 'static>(handler: impl Fn(GreenTransport) -> R + 'static) -> Self {
        SimpleSpawnFactory(Inner::new(|| Raw, handler))
    }
    /// The same, with messages of another kind.
    pub fn framed<D: Decoder, R: IntoDeferred + 'static>(
        decoder: impl Fn() -> D + 'static,
        handler: impl Fn(GreenTransport<D>) -> R + 'static,
    ) -> SimpleSpawnFactory<D> {
        SimpleSpawnFactory(Inner::new(decoder, handler))
    }
}
impl<D: Decoder> Factory for SimpleSpawnFactory<D> {
    fn build_protocol(&mut self, _peer: &Address) -> Option<Box<dyn Protocol>> {
        self.0.protocol(|inner, conn| drop(inner.spawn(conn)))
    }
}
impl<D> fmt::Debug for SimpleSpawnFactory<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimpleSpawnFactory").finish_non_exhaustive()
    }
}

/// A green thread for each connection, which is closed when the handler is done (twistedutil's `SpawnFactory`). Clones share
/// the set of handlers.
///
/// ```
/// # use twistlet::Reactor;
/// use twistlet::green::SpawnFactory;
/// use twistlet::protocols::Lines;
///
/// # let reactor = Reactor::new()?;
/// let factory = SpawnFactory::framed(Lines::new, |conn| {
///     for line in &conn {
///         conn.send_line(line?);
///     }
///     Ok(())
/// });
/// reactor.listen_tcp("127.0.0.1:0", factory)?;
/// # reactor.close();
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct SpawnFactory<D: 'static = Raw>(Rc<Inner<D>>);

impl SpawnFactory {
    /// Runs `handler` in a green thread for each connection. A failure it ends with is logged, unless
    /// [`wait_all`](SpawnFactory::wait_all) takes it.
    pub fn new<R: IntoDeferred + 'static>(handler: impl Fn(GreenTransport) -> R + 'static) -> Self {
        SpawnFactory(Inner::new(|| Raw, handler))
    }
    /// The same, with messages of another kind.
    pub fn framed<D: Decoder, R: IntoDeferred + 'static>(
        decoder: impl Fn() -> D + 'static,
        handler: impl Fn(GreenTransport<D>) -> R + 'static,
    ) -> SpawnFactory<D> {
        SpawnFactory(Inner::new(decoder, handler))
    }
}
impl<D: Decoder> SpawnFactory<D> {
    /// Leaves connections open when the handler is done, as long as somebody holds a clone of the transport.
    pub fn keep_open(self) -> Self {
        self.0.keep_open.set(true);
        self
    }
    /// How many handlers run.
    pub fn running(&self) -> usize {
        self.0.running.borrow().len()
    }
    /// The outcomes of the handlers that run now, in the order of their connections.
    ///
    /// # Blocking
    /// Until the last of them is done.
    #[track_caller]
    pub fn wait_all(&self) -> Vec<Result<()>> {
        let running = std::mem::take(&mut *self.0.running.borrow_mut());
        wait_all(running.into_values())
    }
    fn start(inner: &Rc<Inner<D>>, conn: Rc<Conn>) {
        let key = inner.next.get();
        inner.next.set(key + 1);
        let peer = conn.peer();
        let thread = inner.spawn(conn);
        let set = Rc::downgrade(inner);
        thread.link(move |outcome| {
            let kept = set.upgrade().and_then(|inner| inner.running.borrow_mut().remove(&key));
            // A handle still in the set: nobody waits for this one.
            if let (Some(_), Err(failure)) = (&kept, outcome)
                && !failure.is::<Killed>()
            {
                failure::report_unobserved(format_args!("the handler of the connection with {peer}"), failure);
            }
        });
        if !thread.is_finished() {
            inner.running.borrow_mut().insert(key, thread);
        }
    }
}
impl<D: Decoder> Factory for SpawnFactory<D> {
    fn build_protocol(&mut self, _peer: &Address) -> Option<Box<dyn Protocol>> {
        self.0.protocol(|inner, conn| SpawnFactory::start(&inner, conn))
    }
}
impl<D> Clone for SpawnFactory<D> {
    fn clone(&self) -> Self {
        SpawnFactory(Rc::clone(&self.0))
    }
}
impl<D> fmt::Debug for SpawnFactory<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpawnFactory").field("running", &self.0.running.borrow().len()).finish_non_exhaustive()
    }
}
