//! `ConnPool`: connections that are kept for the next who needs one, but not for ever.
//!
//! The counting and waiting is `pools::Pool`'s. Here is what a connection's age adds: it is thrown away when it is too old, and
//! what lies idle is thrown away by one timer of the reactor, which counts for nothing else: it keeps no reactor alive
//! and no deadlock from being reported. What must never happen here: a connection that is broken, or was left in the middle of
//! a cleanup, lent again.
use super::block::settle;
use super::green_thread::spawn_n;
use super::pool::catch_panic;
use super::pools::{Item, Order, Pool};
use super::timeout::with_timeout;
use crate::clock::{Clock, DelayedCall};
use crate::deferred::IntoDeferred;
use crate::error::TimedOut;
use crate::failure::{self, Result};
use crate::reactor::Reactor;
use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Connections, or other things that go stale, lent to one user at a time (Eventlet's `db_pool`). Clones are the same pool.
///
/// The one that was given back last is lent next, so that those not needed grow old. Dropping a [`Connection`] gives it back
/// (Eventlet's `close`), also by a panic or a kill; for one that is broken there is [`Connection::discard`].
///
/// ```
/// use std::time::Duration;
/// use twistlet::green::conn_pool::ConnPool;
/// use twistlet::green::net::{TcpListener, TcpStream};
///
/// let server = TcpListener::bind("127.0.0.1:0")?;
/// let address = server.local_addr()?;
/// let pool = ConnPool::builder(move || Ok(TcpStream::connect(address)?))
///     .max_size(8)
///     .connect_timeout(Duration::from_secs(2))
///     .build();
/// let first = pool.get()?.local_addr()?;
/// assert_eq!(pool.get()?.local_addr()?, first); // the same connection
/// assert_eq!(pool.len(), 1);
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct ConnPool<C: 'static>(Rc<Inner<C>>);

/// How a [`ConnPool`] is to be; made by [`ConnPool::builder`].
pub struct Builder<C: 'static> {
    connect: Box<dyn Fn() -> Result<C>>,
    cleanup: Option<Cleanup<C>>,
    max_size: usize,
    max_idle: Duration,
    max_age: Duration,
    connect_timeout: Duration,
}
type Cleanup<C> = Box<dyn Fn(&mut C) -> Result<()>>;

struct Inner<C: 'static> {
    pool: Pool<Kept<C>>,
    cleanup: Option<Cleanup<C>>,
    max_idle: Duration,
    max_age: Duration,
    reactor: Reactor,
    /// When the idle ones are looked at next.
    sweep: Cell<Option<(Instant, DelayedCall)>>,
}
struct Kept<C> {
    connection: C,
    made: Instant,
    /// When it was given back; `None` before it was lent.
    idle_since: Option<Instant>,
}

/// A connection of a [`ConnPool`]; goes back when it is dropped.
#[must_use = "it goes back at once when this is dropped"]
pub struct Connection<C: 'static> {
    item: Option<Item<Kept<C>>>,
    pool: ConnPool<C>,
}

/// A connection was not made within the pool's `connect_timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectTimeout(
    /// After how long.
    pub TimedOut,
);
impl fmt::Display for ConnectTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the pool's connection was not made within {:?}: raise connect_timeout, or see to the server",
            self.0.0
        )
    }
}
impl std::error::Error for ConnectTimeout {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

impl<C: 'static> Builder<C> {
    /// At most so many connections at a time; at first 4.
    pub fn max_size(mut self, connections: usize) -> Self {
        self.max_size = connections;
        self
    }
    /// How long one is kept unused; at first 10 seconds. With zero none is used twice.
    pub fn max_idle(mut self, limit: Duration) -> Self {
        self.max_idle = limit;
        self
    }
    /// How old one may be when it is given back or lent again; at first 30 seconds. With zero none is used twice.
    pub fn max_age(mut self, limit: Duration) -> Self {
        self.max_age = limit;
        self
    }
    /// How long making one may take; at first 5 seconds. `Duration::MAX` is no limit.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }
    /// What is done to a connection before it is lent again, such as a rollback or a ping; it may wait. One whose cleanup fails
    /// or panics is thrown away, and another made in its place. At first nothing is done.
    pub fn cleanup<R: IntoDeferred<Value = ()>>(mut self, cleanup: impl Fn(&mut C) -> R + 'static) -> Self {
        self.cleanup = Some(Box::new(move |connection| settle(cleanup(connection))));
        self
    }
    /// The pool, on this thread's reactor; no connection is made yet.
    pub fn build(self) -> ConnPool<C> {
        let Builder { connect, cleanup, max_size, max_idle, max_age, connect_timeout } = self;
        let reactor = Reactor::current();
        let create = move || -> Result<Kept<C>> {
            let connection = match with_timeout(connect_timeout, &connect) {
                Ok(connected) => connected?,
                Err(late) => return Err(ConnectTimeout(late).into()),
            };
            Ok(Kept { connection, made: reactor.now(), idle_since: None })
        };
        let pool = Pool::empty(max_size, create);
        pool.set_order(Order::Stack);
        ConnPool(Rc::new(Inner { pool, cleanup, max_idle, max_age, reactor, sweep: Cell::new(None) }))
    }
}

impl<C: 'static> ConnPool<C> {
    /// A pool whose connections `connect` makes; it may wait, and what it returns is as for [`spawn`](super::spawn).
    pub fn builder<R: IntoDeferred<Value = C>>(connect: impl Fn() -> R + 'static) -> Builder<C> {
        Builder {
            connect: Box::new(move || settle(connect())),
            cleanup: None,
            max_size: 4,
            max_idle: Duration::from_secs(10),
            max_age: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
        }
    }

    /// A connection: one that was used before and is clean, or a new one.
    ///
    /// # Errors
    /// What making it failed with; [`ConnectTimeout`]; [`ReactorError::Stopped`](crate::error::ReactorError::Stopped);
    /// [`Deadlock`](crate::error::Deadlock) on MAIN.
    ///
    /// # Panics
    /// With a panic of `connect`. In the main loop and its callbacks.
    ///
    /// # Blocking
    /// Until there is one, and while it is made or cleaned.
    #[track_caller]
    pub fn get(&self) -> Result<Connection<C>> {
        let item = self.0.pool.get()?;
        self.prepare(item)
    }
    /// As [`get`](ConnPool::get), waiting until one is given back no longer than `limit`. Making and cleaning are not part of
    /// it.
    ///
    /// # Errors
    /// [`TimedOut`] when `limit` has passed; otherwise as `get`.
    ///
    /// # Blocking
    /// At most for `limit`, and while a connection is made or cleaned.
    #[track_caller]
    pub fn get_timeout(&self, limit: Duration) -> Result<Connection<C>> {
        let item = self.0.pool.get_timeout(limit)?;
        self.prepare(item)
    }
    #[track_caller]
    fn prepare(&self, item: Item<Kept<C>>) -> Result<Connection<C>> {
        let mut suspect = Suspect(Some(item));
        let fit = suspect.0.as_mut().is_some_and(|item| self.0.is_fit(item) && self.0.clean(item));
        let item = match suspect.0.take() {
            Some(item) if !fit => {
                let (stale, place) = Item::take_out(item);
                dispose(stale.connection);
                Some(place.fill()?)
            }
            item => item,
        };
        Ok(Connection { item, pool: self.clone() })
    }
    /// Throws away those that are free. Those that are lent may still come back. Never waits, unless a connection's
    /// destructor does.
    pub fn clear(&self) {
        let free = self.0.pool.remove_free(|_| false);
        self.0.cancel_sweep();
        for kept in free {
            dispose(kept.connection);
        }
    }
    /// Changes how many connections there may be. Never waits: those above it go when they are given back.
    pub fn resize(&self, max_size: usize) {
        self.0.pool.resize(max_size);
    }
    /// How many connections there are: lent, idle, or being made.
    pub fn len(&self) -> usize {
        self.0.pool.len()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// How many can be had without waiting for somebody: the idle ones, and those that may still be made.
    pub fn free(&self) -> usize {
        self.0.pool.free()
    }
    /// How many green threads wait for one.
    pub fn waiting(&self) -> usize {
        self.0.pool.waiting()
    }
}

/// One that is being cleaned; thrown away when that is left by unwinding.
struct Suspect<C: 'static>(Option<Item<Kept<C>>>);
impl<C: 'static> Drop for Suspect<C> {
    fn drop(&mut self) {
        if let Some(item) = self.0.take() {
            dispose(Item::discard(item).connection);
        }
    }
}
/// Drops a connection, whatever its destructor does.
fn dispose<C>(connection: C) {
    if let Err(failure) = catch_panic(move || drop(connection)) {
        failure::report("the destructor of a pooled connection", &failure);
        failure::drop_quietly(failure);
    }
}

impl<C: 'static> Inner<C> {
    /// When it is to go; `None` is never.
    fn end_of(&self, kept: &Kept<C>) -> Option<Instant> {
        let idle = kept.idle_since.and_then(|since| since.checked_add(self.max_idle));
        let age = kept.made.checked_add(self.max_age);
        match (idle, age) {
            (Some(idle), Some(age)) => Some(idle.min(age)),
            (idle, age) => idle.or(age),
        }
    }
    fn is_stale(&self, kept: &Kept<C>, now: Instant) -> bool {
        self.end_of(kept).is_some_and(|end| end <= now)
    }
    /// Whether it may be lent: a new one may.
    fn is_fit(&self, kept: &Kept<C>) -> bool {
        kept.idle_since.is_none() || !self.is_stale(kept, self.reactor.now())
    }
    /// Whether one that was used is clean.
    fn clean(&self, kept: &mut Kept<C>) -> bool {
        let Some(cleanup) = self.cleanup.as_ref().filter(|_| kept.idle_since.is_some()) else { return true };
        let cleaned = catch_panic(|| cleanup(&mut kept.connection)).and_then(|cleaned| cleaned);
        match cleaned {
            Ok(()) => true,
            Err(failure) => {
                failure::report("the cleanup of a pooled connection, which is thrown away", &failure);
                failure::drop_quietly(failure);
                false
            }
        }
    }

    /// Makes sure that the idle ones are looked at when this one is to go.
    fn sweep_at(self: &Rc<Self>, end: Instant) {
        match self.sweep.get() {
            Some((due, _)) if due <= end => return,
            Some((_, sweep)) => drop(sweep.cancel()),
            None => {}
        }
        let Some(core) = self.reactor.core() else { return };
        let me = Rc::downgrade(self);
        let delay = end.saturating_duration_since(self.reactor.now());
        let call = move || {
            if let Some(inner) = me.upgrade() {
                inner.sweep.set(None);
                inner.sweep();
            }
        };
        self.sweep.set(Some((end, core.schedule_in_background(delay, Box::new(call)))));
    }
    /// Throws away the idle ones whose time has come. Their destructors run in a green thread, where they may wait.
    fn sweep(self: &Rc<Self>) {
        let now = self.reactor.now();
        let gone = self.pool.remove_free(|kept| !self.is_stale(kept, now));
        if !gone.is_empty() {
            spawn_n(move || gone.into_iter().for_each(|kept| dispose(kept.connection)));
        }
        let ends = self.pool.each_free(|kept| self.end_of(kept));
        if let Some(next) = ends.into_iter().flatten().min() {
            self.sweep_at(next);
        }
    }
    fn cancel_sweep(&self) {
        if let Some((_, sweep)) = self.sweep.take() {
            sweep.cancel();
        }
    }
}
impl<C: 'static> Drop for Inner<C> {
    fn drop(&mut self) {
        self.cancel_sweep();
    }
}

impl<C: 'static> Connection<C> {
    /// Throws a broken one away: the pool makes another when it is needed. Gives it, to be closed or dropped, or to be kept.
    pub fn discard(mut connection: Self) -> C {
        match connection.item.take() {
            Some(item) => Item::discard(item).connection,
            None => unreachable!("it holds its item until it goes"),
        }
    }
    /// How long ago it was made.
    pub fn age(connection: &Self) -> Duration {
        connection.pool.0.reactor.now().saturating_duration_since(connection.kept().made)
    }
    fn kept(&self) -> &Kept<C> {
        match &self.item {
            Some(item) => item,
            None => unreachable!("it holds its item until it goes"),
        }
    }
}
impl<C: 'static> Drop for Connection<C> {
    fn drop(&mut self) {
        let Some(mut item) = self.item.take() else { return };
        let inner = &self.pool.0;
        let now = inner.reactor.now();
        item.idle_since = Some(now);
        if inner.is_stale(&item, now) || Item::pool(&item).len() > Item::pool(&item).max() {
            return dispose(Item::discard(item).connection);
        }
        let end = inner.end_of(&item);
        drop(item);
        if let Some(end) = end {
            inner.sweep_at(end);
        }
    }
}
impl<C: 'static> Deref for Connection<C> {
    type Target = C;
    fn deref(&self) -> &C {
        &self.kept().connection
    }
}
impl<C: 'static> DerefMut for Connection<C> {
    fn deref_mut(&mut self) -> &mut C {
        match &mut self.item {
            Some(item) => &mut item.connection,
            None => unreachable!("it holds its item until it goes"),
        }
    }
}
impl<C: fmt::Debug + 'static> fmt::Debug for Connection<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&**self).finish()
    }
}

/// The same pool.
impl<C: 'static> Clone for ConnPool<C> {
    fn clone(&self) -> Self {
        ConnPool(Rc::clone(&self.0))
    }
}
impl<C: 'static> fmt::Debug for ConnPool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.pool.fmt(f)
    }
}
impl<C: 'static> fmt::Debug for Builder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("max_size", &self.max_size)
            .field("max_idle", &self.max_idle)
            .field("max_age", &self.max_age)
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}
