//! What a `TransportRef` does to the upper wire. Nothing here runs user code.
use super::output::AT_ONCE;
use super::{
    ABORTED, BUSY, CLOSE_SENT, CLOSING, EOF, FAILED, HELD, LOST, Layer, PAUSED, PRODUCER, SECURE, WRITE_CLOSING,
};
use crate::address::Address;
use crate::clock::Clock;
use crate::deferred::Deferred;
use crate::error::ConnectionClosed;
use crate::failure::Failure;
use crate::transport::producer::{Producer, PullProducer, Registered, Taken};
use crate::transport::tls::{Side, TlsInfo};
use crate::transport::{Transport, TransportRef};
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

impl Layer {
    /// The wire below is gone, and the end waits for the protocol to go on: it need not any more.
    fn end_now(&self) {
        if self.has(LOST) {
            self.later(Duration::ZERO, Layer::finish);
        }
    }
}

impl Transport for Layer {
    fn lower(&self) -> Option<TransportRef> {
        Some(self.lower.get())
    }
    fn write(&self, data: &[u8]) {
        self.push(data);
    }
    fn write_vectored(&self, parts: &[IoSlice<'_>]) {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len < AT_ONCE || parts.len() == 1 {
            return parts.iter().for_each(|part| self.push(part));
        }
        // Full records, whatever the pieces are.
        let mut all = Vec::with_capacity(len);
        parts.iter().for_each(|part| all.extend_from_slice(part));
        self.push(&all);
    }
    /// It would go with a byte of the wire below, and that is none of the protocol's.
    fn send_file_descriptor(&self, _descriptor: OwnedFd) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn lose_connection(&self) {
        if self.has(LOST) {
            return self.end_now();
        }
        if self.has(CLOSING | ABORTED | FAILED) {
            return;
        }
        self.set(CLOSING);
        if !self.has(SECURE) && self.plain.borrow().is_empty() && !self.has(PRODUCER) {
            // Nothing to wait for.
            return self.abort_connection();
        }
        if self.has(HELD) {
            // What is held back is not wanted any more.
            self.go_on_soon();
        } else if !self.has(BUSY) {
            self.sync_pause();
        }
        self.flush_soon();
    }
    fn lose_write_connection(&self) {
        if !self.has(WRITE_CLOSING | LOST) {
            self.set(WRITE_CLOSING);
            self.flush_soon();
        }
    }
    fn abort_connection(&self) {
        if self.has(LOST) {
            return self.end_now();
        }
        if !self.has(ABORTED) {
            self.set(ABORTED);
            self.stop_timer();
            self.lower.get().abort_connection();
        }
    }
    fn fail_connection(&self, failure: Failure) {
        if self.has(LOST) {
            return self.end_now();
        }
        self.fail(failure);
    }
    fn is_disconnecting(&self) -> bool {
        self.has(CLOSING | ABORTED | FAILED | LOST) || self.lower.get().is_disconnecting()
    }
    fn is_connected(&self) -> bool {
        !self.has(LOST)
    }
    fn unsent(&self) -> usize {
        self.plain.borrow().len() + self.lower.get().unsent()
    }
    fn when_flushed(&self) -> Deferred<()> {
        if self.has(LOST | ABORTED | FAILED) {
            let reason = self.reason.borrow().clone();
            return Deferred::fail(reason.unwrap_or(ConnectionClosed::Aborted));
        }
        if self.has(SECURE) && self.plain.borrow().is_empty() {
            return self.lower.get().when_flushed();
        }
        if self.has(CLOSE_SENT) {
            return self.lower.get().when_flushed();
        }
        let (promise, deferred) = Deferred::new();
        self.flush_waiters.borrow_mut().push(promise);
        if self.has(SECURE) {
            self.flush_soon();
        }
        deferred
    }
    fn set_read_size(&self, bytes: usize) {
        self.read_size.set(bytes.max(1));
    }
    fn pause_producing(&self) {
        self.set(PAUSED);
        if !self.has(BUSY) {
            self.sync_pause();
        }
    }
    fn resume_producing(&self) {
        if !self.has(PAUSED) {
            return;
        }
        self.clear(PAUSED);
        if self.has(HELD) {
            self.go_on_soon();
        } else if !self.has(BUSY) {
            self.sync_pause();
            // An end that was seen meanwhile.
            if self.has(EOF) {
                self.go_on_soon();
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
        self.unregister();
    }
    fn take_producer(&self) -> Option<Taken> {
        let producer = self.producer.take()?;
        let paused = self.has(super::PRODUCER_PAUSED);
        self.clear(PRODUCER | super::PRODUCER_PAUSED);
        self.unregister_below();
        Some(Taken { producer, paused })
    }
    fn peer(&self) -> Address {
        self.ends.get().map_or_else(|| self.lower.get().peer(), |(peer, _)| peer.clone())
    }
    fn host(&self) -> Address {
        self.ends.get().map_or_else(|| self.lower.get().host(), |(_, host)| host.clone())
    }
    fn clock(&self) -> Rc<dyn Clock> {
        self.clock.get().map_or_else(|| self.lower.get().clock(), Rc::clone)
    }
    fn is_secure(&self) -> bool {
        true
    }
    fn is_handshaking(&self) -> bool {
        !self.has(SECURE)
    }
    fn tls_info(&self) -> Option<TlsInfo> {
        self.info.get().cloned()
    }
    fn start_tls(&self, side: Side) -> Option<Side> {
        Some(side)
    }
}
