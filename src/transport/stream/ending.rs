//! How connections end: everybody is told once, and what was sent reaches the peer even while it goes on sending.
use super::{ADOPTED, EOF, FAILING, LOST, SHARED, Stream};
use crate::clock::DelayedCall;
use crate::error::ConnectionClosed;
use crate::failure;
use crate::reactor::driver::{Readiness, Socket};
use crate::reactor::{Core, Kind, Source};
use crate::transport::{Transport, wire};
use std::cell::RefCell;
use std::net::Shutdown;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

/// How long a peer that goes on sending keeps the socket from being closed.
const LINGER: Duration = Duration::from_secs(2);
/// Buffers of its input thrown away before others get their turn.
const READS: u32 = 2;

impl Stream {
    /// The one end of every connection: producer, socket, protocol, owner, in this order.
    pub(super) fn end(&self, reason: ConnectionClosed) {
        if self.has(LOST) {
            return;
        }
        self.set(LOST);
        let reset = matches!(reason, ConnectionClosed::Aborted);
        // The protocol's own error is the reason, however the end was reached.
        let fault = if self.has(FAILING) { self.fault.take() } else { None };
        let reason = fault.unwrap_or(reason);
        if let Some(producer) = self.producer.take()
            && let Err(failure) = producer.stop()
        {
            failure::report("a producer", &failure);
        }
        self.host();
        let ourselves = self.core.source(self.token);
        match (self.socket.take(), &reason) {
            (Some(socket), _) if reset => {
                socket.reset_on_close();
                self.close(socket);
            }
            (Some(socket), ConnectionClosed::Lost(_)) => self.close(socket),
            (Some(socket), _) => self.part(socket),
            (None, _) => drop(self.core.remove_source(self.token)),
        }
        drop(self.descriptors.take());
        // Of what is dropped here some is the user's.
        let unsent = std::mem::take(&mut *self.out.borrow_mut());
        failure::drop_quietly(unsent);
        let waiters = std::mem::take(&mut *self.flush_waiters.borrow_mut());
        for waiter in waiters {
            self.core.guard("a flush's Deferred", || waiter.errback(reason.clone()));
        }
        wire::connection_lost(self.name.get(), &reason);
        let owner = self.owner.take();
        if let Some(owner) = owner {
            owner.connection_lost(&reason);
        }
        drop(ourselves);
    }

    fn close(&self, socket: Socket) {
        close(&self.core, socket, self.has(ADOPTED | SHARED));
        drop(self.core.remove_source(self.token));
    }
    /// Closes the socket. With unread input that would be a reset, and what the peer has not received yet would be lost to
    /// it: then the socket stays a while under our token, though the connection is over for everybody else.
    fn part(&self, socket: Socket) {
        let asks = !self.has(EOF) && socket.as_pipe().is_none();
        let still_sends = asks && matches!(socket.read(&mut [0; 4096]), Ok(1..));
        if !still_sends {
            return self.close(socket);
        }
        // Fails only when the peer has gone, which reading will tell.
        let _ = socket.shutdown(Shutdown::Write);
        let (token, shared) = (self.token, self.has(SHARED));
        let core = Rc::downgrade(&self.core);
        let late = self.core.schedule(
            LINGER,
            Box::new(move || {
                if let Some(core) = core.upgrade()
                    && let Some(lingering) = core.source(token)
                {
                    lingering.shut(&core);
                }
            }),
        );
        self.core.install_source(token, Rc::new(Lingering { token, socket: RefCell::new(Some(socket)), shared, late }));
        self.core.dispatch_again(token);
    }
}

/// What is left of a closed connection whose peer still sends: its input is thrown away until it ends.
struct Lingering {
    token: usize,
    socket: RefCell<Option<Socket>>,
    shared: bool,
    late: DelayedCall,
}

/// A socket whose descriptor others share is still watched after it is closed, unless told not to be.
fn close(core: &Core, mut socket: Socket, shared: bool) {
    if shared {
        core.driver().deregister_socket(&mut socket);
    }
}

impl Source for Lingering {
    fn kind(&self) -> Kind {
        Kind::Closing
    }
    fn fd(&self) -> Option<RawFd> {
        self.socket.borrow().as_ref().and_then(Socket::fd)
    }
    fn ready(&self, core: &Rc<Core>, _: Readiness) {
        let mut buffer = core.take_read_buffer();
        let mut reads = 0;
        let goes_on = loop {
            let read = match &*self.socket.borrow() {
                Some(socket) if reads < READS => socket.read(&mut buffer),
                Some(_) => {
                    core.dispatch_again(self.token);
                    break true;
                }
                None => return core.return_read_buffer(buffer),
            };
            reads += 1;
            match read {
                Ok(1..) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break true,
                Ok(0) | Err(_) => break false,
            }
        };
        core.return_read_buffer(buffer);
        if !goes_on {
            self.shut(core);
        }
    }
    fn shut(&self, core: &Rc<Core>) {
        self.late.cancel();
        let socket = self.socket.take();
        if let Some(socket) = socket {
            close(core, socket, self.shared);
        }
        drop(core.remove_source(self.token));
    }
    /// A graceful shutdown is about answers that arrive.
    fn drains(&self) -> bool {
        true
    }
    /// No connection any more, for whoever counts them.
    fn is_internal(&self) -> bool {
        true
    }
}
