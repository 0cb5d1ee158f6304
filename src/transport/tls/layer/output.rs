//! What goes down: small writes gathered, encrypted together and handed to the wire below; producers held back by it; who waits
//! for the output to leave.
use super::{
    ABORTED, ADOPTS, BUSY, CLOSE_SENT, CLOSING, ENDED, FAILED, FLUSH_DUE, LOST, LOWER_FULL, LOWER_PRODUCER, Layer,
    PRODUCER, PRODUCER_PAUSED, RESUMING, SECURE, WRITE_CLOSING,
};
use crate::failure;
use crate::transport::producer::{Producer, PullProducer, Registered, Taken, stop_soon};
use crate::transport::{HIGH_WATER, TransportRef};
use rustls::Connection;
use std::cell::RefCell;
use std::io::{self, IoSlice, Write};
use std::rc::Weak;
use std::time::Duration;

/// A write of this size is encrypted at once: a whole record.
pub(super) const AT_ONCE: usize = 16 * 1024;
/// Encrypted in one go, before the wire below gets it.
const PORTION: usize = 64 * 1024;
/// Gathering buffers up to this size are kept for the next writer, so many of them a thread.
const KEEP: usize = 256 * 1024;
const KEPT: usize = 8;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Where rustls writes its records.
struct Sink(TransportRef);
impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data);
        Ok(data.len())
    }
    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(parts);
        Ok(parts.iter().map(|part| part.len()).sum())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Layer {
    /// Hands what rustls has to send to the wire below.
    pub(super) fn send(&self, connection: &mut Connection) {
        let mut sink = Sink(self.lower.get());
        while connection.wants_write() {
            // The sink takes everything.
            if connection.write_tls(&mut sink).is_err() {
                break;
            }
        }
    }
    fn seal(&self, connection: &mut Connection, data: &[u8]) {
        for portion in data.chunks(PORTION) {
            // Fails only once the connection has failed, which whoever received it deals with.
            if connection.writer().write_all(portion).is_err() {
                return;
            }
            self.send(connection);
        }
    }
    /// Takes bytes from the user: gathers them, or encrypts them at once if they are many.
    pub(super) fn push(&self, data: &[u8]) {
        if data.is_empty() || self.has(LOST | ABORTED | FAILED | CLOSE_SENT) {
            return;
        }
        let gathered = self.plain.borrow().len();
        if self.has(SECURE)
            && gathered + data.len() >= AT_ONCE
            && let Ok(mut engine) = self.engine.try_borrow_mut()
            && let Some(connection) = &mut *engine
        {
            if gathered > 0 {
                let plain = self.plain.take();
                self.seal(connection, &plain);
                keep(plain);
            }
            return self.seal(connection, data);
        }
        let mut plain = self.plain.borrow_mut();
        if plain.capacity() == 0 {
            *plain = SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten().unwrap_or_default();
        }
        plain.extend_from_slice(data);
        drop(plain);
        // Before the handshake is done only a producer has to hear of it.
        if self.has(SECURE | PRODUCER) {
            self.flush_soon();
        }
    }
    /// Flushes when the input is worked off, or in a turn of its own.
    pub(super) fn flush_soon(&self) {
        if self.has(FLUSH_DUE | ENDED) {
            return;
        }
        self.set(FLUSH_DUE);
        if !self.has(BUSY) {
            self.later(Duration::ZERO, Layer::flush_due);
        }
    }
    fn flush_due(&self) {
        if self.has(FLUSH_DUE) && !self.has(BUSY) {
            self.flush();
            self.sync_pause();
        }
    }
    /// Encrypts what was gathered.
    pub(super) fn encrypt(&self) {
        if !self.has(SECURE) || self.plain.borrow().is_empty() {
            return;
        }
        let Ok(mut engine) = self.engine.try_borrow_mut() else { return };
        if let Some(connection) = &mut *engine {
            let plain = self.plain.take();
            self.seal(connection, &plain);
            keep(plain);
        }
    }

    /// Sends what waits, then does what waited for that. Runs user code.
    pub(super) fn flush(&self) {
        self.clear(FLUSH_DUE);
        if self.has(LOST | ABORTED) {
            return;
        }
        self.encrypt();
        let all_out = self.has(SECURE) && self.plain.borrow().is_empty();
        if all_out {
            let waiters = self.flush_waiters.take();
            for waiter in waiters {
                waiter.resolve(self.lower.get().when_flushed());
            }
        }
        if self.has(ADOPTS) {
            self.adopt_producer();
            self.clear(ADOPTS);
        }
        if self.has(PRODUCER) {
            self.steer_producer();
        }
        if self.has(FAILED) || !all_out || self.has(PRODUCER) {
            return;
        }
        if self.has(CLOSING) {
            self.close_in_order();
        } else if self.has(WRITE_CLOSING) && !self.has(CLOSE_SENT) {
            self.send_close_notify();
            self.write_closed();
        }
    }

    /// Takes the producer that the wire below had before there was TLS.
    pub(super) fn adopt_producer(&self) {
        if let Some(Taken { producer, paused }) = self.lower.get().take_producer() {
            self.clear(ADOPTS);
            self.register(producer);
            if paused {
                // By those below, who will not say so again: it goes on when the next flush finds nothing against it.
                self.set(PRODUCER_PAUSED);
            }
        }
    }
    #[track_caller]
    pub(super) fn register(&self, producer: Registered) {
        if self.has(LOST) {
            return stop_soon(producer);
        }
        assert!(
            !self.has(PRODUCER),
            "a producer is registered with this transport already: unregister_producer() first"
        );
        self.set(PRODUCER);
        self.clear(PRODUCER_PAUSED | ADOPTS);
        let old = self.producer.replace(Some(producer));
        drop(old);
        if self.has(SECURE) {
            self.register_below();
        }
        self.flush_soon();
    }
    /// Once there can be output, the wire below is asked to say when.
    pub(super) fn register_below(&self) {
        if !self.has(PRODUCER) || self.has(LOWER_PRODUCER) {
            return;
        }
        self.set(LOWER_PRODUCER);
        self.clear(LOWER_FULL);
        let is_pull = matches!(&*self.producer.borrow(), Some(Registered::Pull(_)));
        let valve = Valve(Weak::clone(&self.me));
        if is_pull {
            self.lower.get().register_pull_producer(valve);
        } else {
            self.lower.get().register_producer(valve);
        }
    }
    pub(super) fn unregister_below(&self) {
        if self.has(LOWER_PRODUCER) {
            self.clear(LOWER_PRODUCER | LOWER_FULL);
            self.lower.get().unregister_producer();
        }
    }
    pub(super) fn unregister(&self) {
        if !self.has(PRODUCER) {
            if self.has(ADOPTS) {
                self.lower.get().unregister_producer();
            }
            return;
        }
        self.clear(PRODUCER | PRODUCER_PAUSED);
        self.unregister_below();
        // Its destructor is user code, and a transport's methods run none.
        if let Some(producer) = self.producer.take() {
            self.later(Duration::ZERO, move |_| failure::drop_quietly(producer));
        }
        self.flush_soon();
    }
    /// Pauses a push producer that is ahead of the handshake, or of the wire below; lets it go on when it is not.
    fn steer_producer(&self) {
        if !matches!(&*self.producer.borrow(), Some(Registered::Push(_))) {
            return;
        }
        let waiting = self.plain.borrow().len();
        if !self.has(PRODUCER_PAUSED) && (self.has(LOWER_FULL) || waiting > HIGH_WATER) {
            self.set(PRODUCER_PAUSED);
            self.with_producer(|producer| {
                if let Registered::Push(producer) = producer {
                    producer.pause_producing();
                }
                true
            });
        } else if self.has(PRODUCER_PAUSED) && !self.has(LOWER_FULL | RESUMING) && waiting == 0 {
            self.set(RESUMING);
            if self.lower.get().unsent() <= HIGH_WATER {
                return self.resume_producer();
            }
            // Much of what the handshake held back; the wire below, which did not pause anybody, will not say when it left.
            let layer = Weak::clone(&self.me);
            let left = self.lower.get().when_flushed().add_callback(move |()| {
                if let Some(layer) = layer.upgrade() {
                    layer.resume_producer();
                }
            });
            drop(left.add_errback(|_| {}));
        }
    }
    fn resume_producer(&self) {
        self.clear(RESUMING);
        if self.has(PRODUCER_PAUSED) && !self.has(LOWER_FULL) && self.plain.borrow().is_empty() {
            self.clear(PRODUCER_PAUSED);
            self.with_producer(|producer| {
                if let Registered::Push(producer) = producer {
                    producer.resume_producing();
                }
                true
            });
        }
    }
    /// Calls the producer, taken out meanwhile: it may unregister itself or write. Says whether there still is one.
    fn with_producer(&self, call: impl FnOnce(&mut Registered) -> bool) -> bool {
        let Some(mut producer) = self.producer.take() else { return self.has(PRODUCER) };
        match failure::catch(|| call(&mut producer)) {
            Ok(goes_on) => {
                let mut kept = Some(producer);
                // Unless it has unregistered itself, or made room for another.
                if self.has(PRODUCER) && self.producer.borrow().is_none() {
                    if goes_on {
                        *self.producer.borrow_mut() = kept.take();
                    } else {
                        self.clear(PRODUCER | PRODUCER_PAUSED);
                        self.flush_soon();
                    }
                }
                failure::drop_quietly(kept);
            }
            Err(failure) => {
                let peer = self.lower.get().peer();
                failure::report(format_args!("a producer of the connection with {peer}"), &failure);
                self.clear(PRODUCER | PRODUCER_PAUSED);
                failure::drop_quietly(producer);
                self.fail(failure);
            }
        }
        self.has(PRODUCER)
    }
    /// The upper producer is told that the connection is gone.
    pub(super) fn stop_producer(&self) {
        self.clear(PRODUCER | PRODUCER_PAUSED);
        if let Some(producer) = self.producer.take()
            && let Err(failure) = producer.stop()
        {
            failure::report("a producer", &failure);
        }
    }
}

fn keep(mut buffer: Vec<u8>) {
    if buffer.capacity() <= KEEP {
        buffer.clear();
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < KEPT {
                spare.push(buffer);
            }
        });
    }
}

/// The layer as the producer of the wire below, for the upper one's producer.
struct Valve(Weak<Layer>);
impl Producer for Valve {
    fn pause_producing(&mut self) {
        if let Some(layer) = self.0.upgrade() {
            layer.set(LOWER_FULL);
            layer.steer_producer();
        }
    }
    fn resume_producing(&mut self) {
        if let Some(layer) = self.0.upgrade() {
            layer.clear(LOWER_FULL);
            layer.flush();
        }
    }
    fn stop_producing(&mut self) {
        if let Some(layer) = self.0.upgrade() {
            layer.stop_producer();
        }
    }
}
impl PullProducer for Valve {
    fn produce(&mut self, _: TransportRef) -> bool {
        let Some(layer) = self.0.upgrade() else { return false };
        let upper = layer.upper.get();
        let goes_on = layer.with_producer(|producer| match producer {
            Registered::Pull(producer) => producer.produce(upper),
            Registered::Push(_) => true,
        });
        if !goes_on {
            // The wire below forgets us when it hears so.
            layer.clear(LOWER_PRODUCER);
        }
        layer.flush();
        goes_on
    }
    fn stop_producing(&mut self) {
        Producer::stop_producing(self);
    }
}
