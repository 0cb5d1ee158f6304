//! What is different on streams made of descriptors: the protocol is told of them in a later turn, and of two descriptors the
//! one that is written to may break alone. Called by `transport::descriptors` and by the rest of `stream`.
use super::{
    ADOPTED, Address, BLOCKED, DISCONNECTING, EOF, LOST, OUTPUT_LOST, Owner, PRODUCER, PRODUCER_PAUSED, Protocol,
    READ_CLOSED, READABLE, Stream, WRITE_LOSING, WRITE_LOST, wire,
};
use crate::error::ConnectionClosed;
use crate::failure;
use crate::reactor::Core;
use crate::reactor::driver::Socket;
use std::io;
use std::rc::Rc;

impl Stream {
    /// As `new`, of descriptors of the user's; the protocol is told `connection_made` in a later turn.
    pub(in crate::transport) fn adopt(
        core: &Rc<Core>,
        socket: Socket,
        token: usize,
        peer: Address,
        protocol: Box<dyn Protocol>,
        owner: Option<Box<dyn Owner>>,
    ) -> Rc<Stream> {
        let mut flags = ADOPTED;
        if let Some(pipe) = socket.as_pipe() {
            // A terminal gives line by line, so that a short read says nothing: it is read until it has no more.
            flags |= READ_CLOSED;
            flags |= if pipe.is_always_readable() { READABLE } else { 0 };
            flags |= if pipe.has_reader() { 0 } else { EOF };
            flags |= if pipe.has_writer() { 0 } else { WRITE_LOST };
        }
        let stream = Stream::new(core, socket, token, peer, protocol, owner);
        stream.set(flags);
        let name = stream.name();
        wire::notify_soon(name, move |protocol| protocol.connection_made(name));
        if stream.has(READABLE) {
            stream.read_again();
        }
        stream
    }

    /// There is nothing to be read, ever.
    pub(super) fn only_writes(&self) -> bool {
        self.has(ADOPTED)
            && self.socket.borrow().as_ref().and_then(Socket::as_pipe).is_some_and(|pipe| !pipe.has_reader())
    }
    /// How a close that we asked for ends.
    pub(super) fn in_order(&self) -> ConnectionClosed {
        if self.has(OUTPUT_LOST) {
            ConnectionClosed::Lost(Some(io::ErrorKind::BrokenPipe))
        } else {
            ConnectionClosed::Done
        }
    }

    pub(super) fn write_failed(&self, error: &io::Error) {
        let reason = ConnectionClosed::from_io(error);
        if !self.has(ADOPTED) || self.has(EOF | DISCONNECTING) || !self.writes_apart() {
            return self.end(reason);
        }
        self.output_lost(reason);
    }
    fn writes_apart(&self) -> bool {
        self.socket.borrow().as_ref().and_then(Socket::as_pipe).is_some_and(|pipe| pipe.has_own_writer())
    }
    /// The poller has news of an error: perhaps nobody reads any more what we write.
    pub(super) fn look_whether_broken(&self) {
        let broken = self.socket.borrow().as_ref().and_then(Socket::as_pipe).is_some_and(|pipe| pipe.is_broken());
        // A close that has nothing left to send comes by itself.
        let closes = self.has(DISCONNECTING) && !self.has(PRODUCER) && self.out.borrow().is_empty();
        if broken && !closes && !self.has(LOST | WRITE_LOST) {
            self.write_failed(&io::ErrorKind::BrokenPipe.into());
        }
    }
    /// The write side is gone, and reading goes on.
    fn output_lost(&self, reason: ConnectionClosed) {
        self.set(WRITE_LOST | WRITE_LOSING);
        self.clear(BLOCKED);
        if let Some(socket) = &*self.socket.borrow() {
            let _ = self.core.driver().close_writer(socket);
        }
        let unsent = std::mem::take(&mut *self.out.borrow_mut());
        if !unsent.is_empty() {
            self.set(OUTPUT_LOST);
        }
        failure::drop_quietly(unsent);
        self.clear(PRODUCER | PRODUCER_PAUSED);
        if let Some(producer) = self.producer.take()
            && let Err(failure) = producer.stop()
        {
            failure::report("a producer", &failure);
        }
        let waiters = std::mem::take(&mut *self.flush_waiters.borrow_mut());
        for waiter in waiters {
            self.core.guard("a flush's Deferred", || waiter.errback(reason.clone()));
        }
        let name = self.name();
        if let Err(failure) = wire::notify(name, move |protocol| protocol.write_connection_lost(name)) {
            self.end(ConnectionClosed::Failed(failure));
        }
    }
}
