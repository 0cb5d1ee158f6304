//! What a `TransportRef` does to a stream: state changes and requests for a flush. Nothing here runs user code or ends the
//! connection; that is `flush`'s.
use super::output::is_want_of_room;
use super::{
    ABORTING, ADOPTED, BLOCKED, DISCONNECTING, EOF, FAILING, FAULTY, LOST, PAUSED, PRODUCER, PRODUCER_PAUSED, READABLE,
    Stream, WRITE_LOSING,
};
use crate::clock::Clock;
use crate::deferred::Deferred;
use crate::error::ConnectionClosed;
use crate::failure::Failure;
use crate::reactor::Reactor;
use crate::reactor::driver::Socket;
use crate::transport::outbox::SHARE;
use crate::transport::producer::{Producer, PullProducer, Registered, Taken, stop_soon};
use crate::transport::{Address, FilePart, Transport};
use bytes::Bytes;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// A write of this size goes out at once when nothing waits before it: copying it would cost more than the system call.
const AT_ONCE: usize = 16 * 1024;
/// Pieces handed to one writev.
const PIECES: usize = 64;

impl Stream {
    #[track_caller]
    fn register(&self, producer: Registered) {
        if self.has(LOST) {
            return stop_soon(producer);
        }
        assert!(
            !self.has(PRODUCER),
            "a producer is registered with this transport already: unregister_producer() first"
        );
        self.set(PRODUCER);
        self.clear(PRODUCER_PAUSED);
        let old = self.producer.replace(Some(producer));
        drop(old);
        self.flush_soon();
    }
}

impl Transport for Stream {
    fn write(&self, data: &[u8]) {
        if data.is_empty() || self.cannot_write() {
            return;
        }
        let mut out = self.out.borrow_mut();
        let mut rest = data;
        if data.len() >= AT_ONCE && out.is_empty() && !self.has(BLOCKED) && self.descriptors.borrow().is_none() {
            match self.try_write(data) {
                Ok(n) => {
                    rest = &data[n..];
                    if !rest.is_empty() {
                        self.set(BLOCKED);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.set(BLOCKED),
                Err(error) if error.kind() == io::ErrorKind::Interrupted || is_want_of_room(&error) => {}
                // The flush comes to the same error, and may end the write side alone.
                Err(_) if self.has(ADOPTED) => {}
                Err(error) => {
                    drop(out);
                    return self.fail(&error);
                }
            }
        }
        if !rest.is_empty() {
            if out.wants_memory() {
                out.lend(self.core.take_spare());
            }
            out.push(rest);
        }
        let unsent = out.len();
        drop(out);
        if unsent > 0 || self.has(PRODUCER) {
            self.wrote(unsent);
        }
    }
    fn write_vectored(&self, parts: &[IoSlice<'_>]) {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len == 0 || self.cannot_write() {
            return;
        }
        if parts.len() > PIECES {
            // The system takes only so many, and a short write has to mean that the socket is full.
            parts.chunks(PIECES).for_each(|parts| self.write_vectored(parts));
            return;
        }
        let mut out = self.out.borrow_mut();
        let mut sent = 0;
        if len >= AT_ONCE && out.is_empty() && !self.has(BLOCKED) && self.descriptors.borrow().is_none() {
            match self.try_write_vectored(parts) {
                Ok(n) => {
                    sent = n;
                    if n < len {
                        self.set(BLOCKED);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.set(BLOCKED),
                Err(error) if error.kind() == io::ErrorKind::Interrupted || is_want_of_room(&error) => {}
                Err(_) if self.has(ADOPTED) => {}
                Err(error) => {
                    drop(out);
                    return self.fail(&error);
                }
            }
        }
        if sent < len {
            if out.wants_memory() {
                out.lend(self.core.take_spare());
            }
            for part in parts {
                let gone = sent.min(part.len());
                sent -= gone;
                out.push(&part[gone..]);
            }
        }
        let unsent = out.len();
        drop(out);
        if unsent > 0 || self.has(PRODUCER) {
            self.wrote(unsent);
        }
    }
    fn write_bytes(&self, data: Bytes) {
        if data.len() < SHARE {
            // Copied, and dropped with nothing borrowed: its owner may be the user's.
            return self.write(&data);
        }
        if self.cannot_write() {
            return;
        }
        let mut out = self.out.borrow_mut();
        out.push_bytes(data);
        let unsent = out.len();
        drop(out);
        self.wrote(unsent);
    }
    fn write_file(&self, part: &FilePart) -> bool {
        if !self.socket.borrow().as_ref().is_some_and(Socket::sends_files) {
            return false;
        }
        if !self.cannot_write() {
            let mut out = self.out.borrow_mut();
            out.push_file(part.clone());
            let unsent = out.len();
            drop(out);
            self.wrote(unsent);
        }
        true
    }
    fn send_file_descriptor(&self, descriptor: OwnedFd) -> io::Result<()> {
        self.queue_descriptor(descriptor)
    }
    fn lose_connection(&self) {
        if !self.has(DISCONNECTING | ABORTING | LOST) {
            self.set(DISCONNECTING);
            self.flush_soon();
        }
    }
    fn lose_write_connection(&self) {
        if !self.has(WRITE_LOSING | LOST) {
            self.set(WRITE_LOSING);
            self.flush_soon();
        }
    }
    fn abort_connection(&self) {
        if !self.has(ABORTING | LOST) {
            self.set(ABORTING);
            self.flush_soon();
        }
    }
    fn fail_connection(&self, failure: Failure) {
        if !self.has(FAILING | FAULTY | LOST) {
            self.set(DISCONNECTING | FAILING);
            *self.fault.borrow_mut() = Some(ConnectionClosed::Failed(failure));
            self.flush_soon();
        }
    }
    fn is_disconnecting(&self) -> bool {
        self.has(DISCONNECTING | ABORTING | LOST)
    }
    fn is_connected(&self) -> bool {
        !self.has(LOST)
    }
    fn unsent(&self) -> usize {
        self.out.borrow().len()
    }
    fn when_flushed(&self) -> Deferred<()> {
        if self.has(LOST | FAULTY | ABORTING) {
            let fault = self.fault.borrow().clone();
            let aborting = if self.has(LOST) { ConnectionClosed::Done } else { ConnectionClosed::Aborted };
            return Deferred::fail(fault.unwrap_or(aborting));
        }
        if self.out.borrow().is_empty() {
            return Deferred::succeed(());
        }
        let (promise, deferred) = Deferred::new();
        self.flush_waiters.borrow_mut().push(promise);
        deferred
    }
    fn set_read_size(&self, bytes: usize) {
        self.read_size.set(bytes.max(1));
    }
    fn pause_producing(&self) {
        self.set(PAUSED);
    }
    fn resume_producing(&self) {
        if self.has(PAUSED) {
            self.clear(PAUSED);
            if self.has(READABLE) && !self.has(DISCONNECTING | ABORTING | EOF) {
                self.read_again();
            }
        }
    }
    fn register_producer(&self, producer: Box<dyn Producer>) {
        self.register(Registered::Push(producer));
    }
    fn register_pull_producer(&self, producer: Box<dyn PullProducer>) {
        self.register(Registered::Pull(producer));
    }
    fn unregister_producer(&self) {
        if self.has(PRODUCER) {
            self.clear(PRODUCER | PRODUCER_PAUSED);
            // Its destructor is user code, and a transport's methods run none.
            if let Some(producer) = self.producer.take() {
                self.core.call_soon(Box::new(move || drop(producer)));
            }
            self.flush_soon();
        }
    }
    fn take_producer(&self) -> Option<Taken> {
        let producer = self.producer.take()?;
        let paused = self.has(PRODUCER_PAUSED);
        self.clear(PRODUCER | PRODUCER_PAUSED);
        self.flush_soon();
        Some(Taken { producer, paused })
    }
    fn peer(&self) -> Address {
        self.peer.clone()
    }
    fn host(&self) -> Address {
        let ask = || self.socket.borrow().as_ref().and_then(|socket| socket.host().ok()).unwrap_or(Address::Gone);
        self.host.get_or_init(ask).clone()
    }
    fn set_tcp_no_delay(&self, on: bool) {
        if let Some(socket) = &*self.socket.borrow() {
            socket.set_tcp_no_delay(on);
        }
    }
    fn set_tcp_keep_alive(&self, on: bool) {
        if let Some(socket) = &*self.socket.borrow() {
            socket.set_tcp_keep_alive(on);
        }
    }
    fn clock(&self) -> Rc<dyn Clock> {
        Reactor::of(&self.core).handle()
    }
}
