//! Factories that run a green thread for each connection (twistedutil's `SimpleSpawnFactory` and `SpawnFactory`).
use super::GreenTransport;
use super::conn::{Conn, GreenProtocol};
use crate::address::Address;
use crate::deferred::{Deferred, IntoDeferred};
use crate::error::{Killed, WaitsForItself};
use crate::failure::{self, Failure, Result};
use crate::green::block::settle;
use crate::green::green_thread::spawn;
use crate::green::task::Waiters;
use crate::greenlet::Greenlet;
use crate::protocols::codec::{Decoder, Raw};
use crate::transport::{Factory, Protocol};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

type Handler<D> = Rc<dyn Fn(GreenTransport<D>) -> Deferred<()>>;

/// What the two factories share, and their clones.
struct Inner<D: 'static> {
    decoder: Box<dyn Fn() -> D>,
    handler: Handler<D>,
    keep_open: Cell<bool>,
    running: RefCell<BTreeMap<u64, Rc<Running>>>,
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
    fn transport(&self, conn: Rc<Conn>) -> GreenTransport<D> {
        GreenTransport::new(conn, (self.decoder)())
    }
    /// Starts the handler of a connection; `done` hears of its outcome.
    fn spawn(
        &self,
        transport: GreenTransport<D>,
        running: Rc<Running>,
        done: impl FnOnce(Result<&(), &Failure>) + 'static,
    ) {
        let handler = Rc::clone(&self.handler);
        let keep_open = self.keep_open.get();
        let thread = spawn(move || {
            // On every way out, a kill included.
            let _close = (!keep_open).then(|| CloseOnDrop(transport.clone()));
            running.greenlet.set(Some(Greenlet::current()));
            settle(handler(transport))
        });
        thread.link(done);
    }
    fn protocol(self: &Rc<Self>, made: impl FnOnce(Rc<Self>, Rc<Conn>) + 'static) -> Option<Box<dyn Protocol>> {
        let inner = Rc::clone(self);
        Some(Box::new(GreenProtocol::when_made(move |conn| made(inner, conn))))
    }
}

/// A handler, as those who wait for it see it.
#[derive(Default)]
struct Running {
    outcome: OnceCell<Result<()>>,
    greenlet: Cell<Option<Greenlet>>,
    waiters: Waiters,
    /// So many wait for it.
    awaited: Cell<usize>,
    /// Somebody has got its outcome.
    seen: Cell<bool>,
    peer: OnceCell<Address>,
}
impl Running {
    fn of(conn: &Conn) -> Rc<Running> {
        let running = Running::default();
        let _ = running.peer.set(conn.peer());
        Rc::new(running)
    }
    fn done(&self, outcome: Result<&(), &Failure>) {
        let greenlet = self.greenlet.take();
        drop(greenlet);
        let _ = self.outcome.set(outcome.copied().map_err(Failure::clone));
        if self.awaited.get() == 0 {
            self.report();
        }
        self.waiters.wake_all();
    }
    fn is_here(&self) -> bool {
        let greenlet = self.greenlet.take();
        let here = greenlet.as_ref().is_some_and(Greenlet::is_current);
        self.greenlet.set(greenlet);
        here
    }
    #[track_caller]
    fn wait(&self) -> Result<()> {
        loop {
            if let Some(outcome) = self.outcome.get() {
                self.seen.set(true);
                return outcome.clone();
            }
            if self.is_here() {
                return Err(WaitsForItself.into());
            }
            self.waiters.wait("the handler of a connection", None)?;
        }
    }
    /// A failure that nobody got.
    fn report(&self) {
        if let Some(Err(failure)) = self.outcome.get()
            && !self.seen.get()
            && !failure.is::<Killed>()
        {
            let peer = self.peer.get().unwrap_or(&Address::Gone);
            failure::report_unobserved(format_args!("the handler of the connection with {peer}"), failure);
        }
    }
}
/// Somebody waits for these.
struct Awaited(Vec<Rc<Running>>);
impl Awaited {
    fn new(handlers: Vec<Rc<Running>>) -> Self {
        handlers.iter().for_each(|handler| handler.awaited.set(handler.awaited.get() + 1));
        Awaited(handlers)
    }
}
impl Drop for Awaited {
    fn drop(&mut self) {
        for handler in &self.0 {
            handler.awaited.set(handler.awaited.get() - 1);
            if handler.awaited.get() == 0 {
                handler.report();
            }
        }
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
        self.0.protocol(|inner, conn| {
            let running = Running::of(&conn);
            inner.spawn(inner.transport(conn), Rc::clone(&running), move |outcome| running.done(outcome));
        })
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
    /// How many handlers run, whether somebody waits for them or not.
    pub fn running(&self) -> usize {
        self.0.running.borrow().len()
    }
    /// The outcomes of the handlers that run now, in the order of their connections. Several may wait for the same handlers.
    ///
    /// # Blocking
    /// Until the last of them is done. Interrupted, it takes nothing from the next call.
    #[track_caller]
    pub fn wait_all(&self) -> Vec<Result<()>> {
        let awaited = Awaited::new(self.0.running.borrow().values().cloned().collect());
        let mut outcomes = Vec::with_capacity(awaited.0.len());
        for handler in &awaited.0 {
            outcomes.push(handler.wait());
        }
        outcomes
    }
    fn start(inner: &Rc<Inner<D>>, conn: Rc<Conn>) {
        let (key, running) = (inner.next.get(), Running::of(&conn));
        let transport = inner.transport(conn);
        inner.next.set(key + 1);
        inner.running.borrow_mut().insert(key, Rc::clone(&running));
        let (set, handler) = (Rc::downgrade(inner), Rc::clone(&running));
        inner.spawn(transport, running, move |outcome| {
            if let Some(inner) = set.upgrade() {
                let ended = inner.running.borrow_mut().remove(&key);
                drop(ended);
            }
            handler.done(outcome);
        });
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
