//! The driver of simulations: a network and a clock inside this thread. Used through `driver::Driver`; `testing` holds a
//! `Handle` to script faults.
//!
//! Time stands still while anything is ready, and jumps to the next arrival or timer when nothing is, so a simulated minute
//! takes no time. `world` is the network, `packet` what travels in it, `stream` what its ends do, `datagram` its datagram
//! sockets, `socket` what transports hold of streams. What must never happen here: a real wait while something simulated could still happen.
mod datagram;
mod packet;
mod socket;
mod stream;
mod world;

pub(crate) use datagram::Datagram;
pub(crate) use socket::{Listener, Socket};
pub(crate) use world::Faults;

use super::{ConnectFault, Event, ListenOptions};
use crate::address::Address;
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use world::World;

/// How long a poll waits, in real time, before it asks again whether other threads may still call.
const PATIENCE: Duration = Duration::from_millis(10);

/// What the world cannot know of itself: what goes on outside of it.
pub(crate) trait Surroundings {
    fn threads(&self) -> Threads;
    /// Nothing will ever happen any more. Called within a poll: it may queue work, and no more.
    fn at_rest(&self);
}

/// What other threads have to do with a simulation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Threads {
    /// None can call.
    Away,
    /// One might call, some time. Time does not wait for it; the end of the simulation does.
    MayCall,
    /// Work was given to one, and its answer will come: time stands still until then.
    AtWork,
}

type Shared = Rc<RefCell<World>>;

/// A network, from outside: made before the driver, and valid after it.
#[derive(Clone)]
pub(crate) struct Handle(Shared);

impl Handle {
    pub(crate) fn new() -> Self {
        Handle(Rc::new(RefCell::new(World::new(Instant::now()))))
    }
    /// A driver on this network.
    pub(crate) fn driver(&self, surroundings: Rc<dyn Surroundings>) -> Driver {
        Driver { world: Rc::clone(&self.0), waker: Waker::default(), surroundings }
    }
    pub(crate) fn elapsed(&self) -> Duration {
        let world = self.0.borrow();
        world.now.saturating_duration_since(world.started)
    }
    pub(crate) fn faults<R>(&self, change: impl FnOnce(&mut Faults) -> R) -> R {
        change(&mut self.0.borrow_mut().faults)
    }
    /// Breaks the connections that have an end at `at`, or all.
    pub(crate) fn reset(&self, at: Option<&Address>) -> usize {
        self.0.borrow_mut().reset(at)
    }
    pub(crate) fn connections(&self) -> usize {
        self.0.borrow().connections()
    }
    pub(crate) fn listening(&self) -> Vec<Address> {
        self.0.borrow().listening()
    }
    /// Where connections were to go, all that were attempted so far.
    pub(crate) fn attempts(&self) -> Vec<Address> {
        self.0.borrow().attempts.clone()
    }
    pub(crate) fn held(&self) -> Vec<Address> {
        self.0.borrow().held()
    }
    pub(crate) fn let_go(&self, error: Option<i32>) -> bool {
        self.0.borrow_mut().let_go(error)
    }
}

pub(crate) struct Driver {
    world: Shared,
    waker: Waker,
    surroundings: Rc<dyn Surroundings>,
}

impl Driver {
    pub(crate) fn poll(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let deadline = timeout.and_then(|timeout| self.now().checked_add(timeout));
        loop {
            let until = {
                let mut world = self.world.borrow_mut();
                world.deliver_due();
                world.take_events(events);
                let late = deadline.is_some_and(|deadline| world.now >= deadline);
                if self.waker.take() || !events.is_empty() || late {
                    return Ok(());
                }
                match (world.next_arrival(), deadline) {
                    (Some(arrival), Some(deadline)) => Some(arrival.min(deadline)),
                    (arrival, deadline) => arrival.or(deadline),
                }
            };
            match (until, self.surroundings.threads()) {
                (_, Threads::AtWork) | (None, Threads::MayCall) => self.waker.wait(PATIENCE),
                (Some(until), _) => self.world.borrow_mut().now = until,
                (None, Threads::Away) => {
                    self.surroundings.at_rest();
                    return Ok(());
                }
            }
        }
    }
    pub(crate) fn now(&self) -> Instant {
        self.world.borrow().now
    }
    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }
    pub(crate) fn connect_tcp(&self, to: SocketAddr, bind: Option<SocketAddr>) -> Result<super::Socket, ConnectFault> {
        let end = self.world.borrow_mut().connect_tcp(to, bind)?;
        Ok(super::Socket::Memory(Socket::new(&self.world, end)))
    }
    pub(crate) fn connect_unix(&self, path: &Path) -> io::Result<super::Socket> {
        let end = self.world.borrow_mut().connect_unix(path)?;
        Ok(super::Socket::Memory(Socket::new(&self.world, end)))
    }
    pub(crate) fn listen_tcp(&self, at: SocketAddr, options: &ListenOptions) -> io::Result<super::Listener> {
        let port = self.world.borrow_mut().listen_tcp(at, options)?;
        Ok(super::Listener::Memory(Listener::new(&self.world, port)))
    }
    pub(crate) fn listen_unix(&self, path: &Path) -> io::Result<super::Listener> {
        let port = self.world.borrow_mut().listen_unix(path)?;
        Ok(super::Listener::Memory(Listener::new(&self.world, port)))
    }
    pub(crate) fn bind_udp(&self, at: SocketAddr, shared: bool) -> io::Result<super::Datagram> {
        let id = self.world.borrow_mut().bind_udp(at, shared)?;
        Ok(super::Datagram::Memory(Datagram::new(&self.world, id)))
    }
    pub(crate) fn register_datagram(&self, socket: &mut Datagram, token: usize) -> io::Result<()> {
        self.world.borrow_mut().watch(socket.id(), token);
        Ok(())
    }
    pub(crate) fn register_socket(&self, socket: &mut Socket, token: usize) -> io::Result<()> {
        self.world.borrow_mut().watch(socket.id(), token);
        Ok(())
    }
    pub(crate) fn register_listener(&self, listener: &mut Listener, token: usize) -> io::Result<()> {
        self.world.borrow_mut().watch(listener.id(), token);
        Ok(())
    }
}

/// Ends a poll that waits, in real time, for other threads.
#[derive(Clone, Default)]
pub(crate) struct Waker(Arc<(Mutex<bool>, Condvar)>);

impl Waker {
    pub(crate) fn wake(&self) {
        let (woken, condition) = &*self.0;
        *woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        condition.notify_one();
    }
    fn take(&self) -> bool {
        std::mem::take(&mut *self.0.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
    /// Returns when woken, at the latest after `limit`. Whether it was is left to be taken.
    fn wait(&self, limit: Duration) {
        let (woken, condition) = &*self.0;
        let woken = woken.lock().unwrap_or_else(PoisonError::into_inner);
        drop(condition.wait_timeout_while(woken, limit, |woken| !*woken));
    }
}
