//! How connections end: everybody is told once, and what was sent reaches the peer even while it goes on sending.
use super::{EOF, FAILING, LOST, READ_CLOSED, READABLE, SENT, Stream};
use crate::clock::DelayedCall;
use crate::error::ConnectionClosed;
use crate::failure;
use crate::reactor::driver::{Readiness, Socket};
use crate::reactor::{Core, Source};
use crate::transport::{Transport, wire};
use std::cell::{Cell, RefCell};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

/// How long a peer that does not end keeps the socket from being closed.
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
                drop(socket);
                drop(self.core.remove_source(self.token));
            }
            (Some(socket), ConnectionClosed::Lost(_)) => {
                drop(socket);
                drop(self.core.remove_source(self.token));
            }
            (Some(socket), _) => self.part(socket),
            (None, _) => drop(self.core.remove_source(self.token)),
        }
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

    /// Closes the socket. Input that is unread then, or comes later, makes the close a reset, and what the peer has not received
    /// by then is lost to it. So where something was sent the peer is told of the end, and the socket stays under our token
    /// until it has ended too, though the connection is over for everybody else.
    fn part(&self, socket: Socket) {
        if self.has(EOF) || !self.has(SENT) {
            drop(socket);
            return drop(self.core.remove_source(self.token));
        }
        // Fails only when the peer has gone, which reading will tell.
        let _ = socket.shutdown(Shutdown::Write);
        let token = self.token;
        let core = Rc::downgrade(&self.core);
        let late = self.core.schedule(
            LINGER,
            Box::new(move || {
                if let Some(core) = core.upgrade() {
                    drop(core.remove_source(token));
                }
            }),
        );
        let counted = Counted::one(self.core.own_timers());
        let socket = RefCell::new(Some(socket));
        let lingering = Lingering { token, socket, late, still_sends: Cell::new(false), _counted: counted };
        self.core.install_source(token, Rc::new(lingering));
        if self.has(READABLE | READ_CLOSED) {
            self.core.dispatch_again(token);
        }
    }
}

/// What is left of a closed connection whose peer has not ended yet: its input is thrown away until it does.
struct Lingering {
    token: usize,
    socket: RefCell<Option<Socket>>,
    late: DelayedCall,
    still_sends: Cell<bool>,
    _counted: Counted,
}

/// One more of something, as long as it lives.
struct Counted(Rc<Cell<usize>>);
impl Counted {
    fn one(count: Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Counted(count)
    }
}
impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Source for Lingering {
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
                Ok(1..) => self.still_sends.set(true),
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
        drop(socket);
        drop(core.remove_source(self.token));
    }
    /// To end now would take what was sent with it, if the peer still sends.
    fn drains(&self) -> bool {
        self.still_sends.get()
    }
    /// No connection any more, for whoever counts them.
    fn is_internal(&self) -> bool {
        true
    }
}
