//! How a stream's output leaves, and what waits for that: flush waiters, producers, the close, the half-close.
use super::{
    BLOCKED, DISCONNECTING, FAILING, PRODUCER, PRODUCER_PAUSED, Registered, Stream, WRITE_LOSING, WRITE_LOST, wire,
};
use crate::error::ConnectionClosed;
use crate::failure;
use crate::reactor::driver::Readiness;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// When the system has no room of its own for output, it does not say when there is some again: it is tried after this long.
const RETRY: Duration = Duration::from_millis(50);

/// Not the connection failed: the system has no memory for its output, or as many descriptors are on their way between processes
/// as one user may have.
pub(super) fn is_want_of_room(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ETOOMANYREFS))
}

impl Stream {
    /// Sends what waits. Returns whether nothing is left and the connection still lives.
    pub(super) fn send(&self) -> bool {
        if self.has(BLOCKED) {
            return self.out.borrow().is_empty();
        }
        if self.descriptors.borrow().is_some() && !self.send_descriptors() {
            return false;
        }
        let sent = {
            let mut out = self.out.borrow_mut();
            let socket = self.socket.borrow();
            let Some(socket) = &*socket else { return false };
            out.send(
                |data| socket.write(data),
                |parts| socket.write_vectored(parts),
                |part| socket.send_file(part.file(), part.position(), part.left()),
            )
        };
        let spent = self.out.borrow_mut().take_spent();
        if !spent.is_empty() {
            // A `Bytes` may have an owner of the user's, and that a destructor.
            failure::drop_quietly(spent);
        }
        match sent {
            Ok(true) => {
                let mut out = self.out.borrow_mut();
                if let Some(buffer) = out.reclaim() {
                    self.core.return_spare(buffer);
                }
                // Not when such a destructor has written.
                out.is_empty()
            }
            Ok(false) => {
                self.set(BLOCKED);
                false
            }
            Err(error) if is_want_of_room(&error) => {
                self.wait_for_room();
                false
            }
            Err(error) => {
                self.write_failed(&error);
                false
            }
        }
    }

    /// As blocked as by a full socket, but no event will end it.
    pub(super) fn wait_for_room(&self) {
        self.set(BLOCKED);
        let (core, token) = (Rc::downgrade(&self.core), self.token);
        let again = move || {
            if let Some(core) = core.upgrade()
                && let Some(stream) = core.source(token)
            {
                stream.ready(&core, Readiness::WRITABLE);
            }
        };
        self.core.schedule(RETRY, Box::new(again));
    }

    /// Calls the producer, which may unregister itself or write meanwhile.
    pub(super) fn with_producer(&self, call: impl FnOnce(&mut Registered) -> bool) {
        let Some(mut producer) = self.producer.take() else { return };
        match failure::catch(|| call(&mut producer)) {
            Ok(goes_on) => {
                let mut kept = Some(producer);
                // Unless it has unregistered itself, or made room for another.
                if self.has(PRODUCER) && self.producer.borrow().is_none() {
                    if goes_on {
                        *self.producer.borrow_mut() = kept.take();
                    } else {
                        self.clear(PRODUCER | PRODUCER_PAUSED);
                    }
                }
                if let Err(failure) = failure::catch(move || drop(kept)) {
                    failure::report("the destructor of a producer", &failure);
                }
            }
            Err(failure) => {
                failure::report(format_args!("a producer of the connection with {}", self.peer), &failure);
                self.clear(PRODUCER);
                failure::drop_quietly(producer);
                self.end(ConnectionClosed::Failed(failure));
            }
        }
    }

    /// Everything has left: what was waiting for that, one thing at a time.
    pub(super) fn flushed(&self) {
        let waiters = std::mem::take(&mut *self.flush_waiters.borrow_mut());
        if !waiters.is_empty() {
            self.core.guard("a flush's Deferred", || waiters.into_iter().for_each(|waiter| waiter.callback(())));
            return self.flush_soon();
        }
        if self.has(FAILING) {
            self.end(ConnectionClosed::Done);
        } else if self.has(PRODUCER) {
            let is_pull = matches!(&*self.producer.borrow(), Some(Registered::Pull(_)));
            if is_pull {
                let name = self.name.get();
                self.with_producer(|producer| match producer {
                    Registered::Pull(producer) => producer.produce(name),
                    Registered::Push(_) => true,
                });
                // Asked again when what it wrote has left; one that wrote nothing waits for the next flush.
                if !self.out.borrow().is_empty() || !self.has(PRODUCER) {
                    self.flush_soon();
                }
            } else if self.has(PRODUCER_PAUSED) {
                self.clear(PRODUCER_PAUSED);
                self.with_producer(|producer| {
                    if let Registered::Push(producer) = producer {
                        producer.resume_producing();
                    }
                    true
                });
                self.flush_soon();
            }
            // A producer that goes on holds the close back until it unregisters.
        } else if self.has(DISCONNECTING) {
            self.end(self.in_order());
        } else if self.has(WRITE_LOSING) && !self.has(WRITE_LOST) {
            self.set(WRITE_LOST);
            if let Some(socket) = &*self.socket.borrow() {
                // Fails only when the peer has gone, which reading will tell.
                let _ = self.core.driver().close_writer(socket);
            }
            if self.only_writes() {
                return self.end(ConnectionClosed::Done);
            }
            let name = self.name.get();
            if let Err(failure) = wire::notify(name, move |protocol| protocol.write_connection_lost(name)) {
                self.end(ConnectionClosed::Failed(failure));
            }
        }
    }
}
