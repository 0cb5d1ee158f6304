//! What comes from below: decrypted into one buffer a thread, so that the upper protocol gets as much at a time as a wire
//! without TLS would give it, and rustls is free while it runs.
use super::{
    ABORTED, BUSY, CLOSING, ENDED, EOF, EOF_DONE, FAILED, FLUSH_DUE, GO_ON_DUE, HELD, LOST, LOWER_PAUSED, Layer,
    PAUSED, PEER_CLOSED, PEER_TOLD, SECURE,
};
use crate::transport::tls::{TlsError, TlsInfo};
use crate::transport::wire;
use std::cell::Cell;
use std::io::Read;
use std::time::Duration;

/// As much as a read gives.
const SCRATCH: usize = 256 * 1024;
/// So many of the first bytes are kept for an error message.
const FIRST: usize = 16;

thread_local! {
    static SPARE: Cell<Option<Vec<u8>>> = const { Cell::new(None) };
}

impl Layer {
    /// Bytes from the wire below.
    pub(super) fn input(&self, data: &[u8]) {
        if self.has(LOST | ABORTED | FAILED) {
            return;
        }
        if !self.has(SECURE) {
            let mut first = self.first.borrow_mut();
            let wanted = FIRST.saturating_sub(first.len()).min(data.len());
            first.extend_from_slice(&data[..wanted]);
        }
        if self.has(HELD | BUSY) || self.holds_back() {
            // From a wire that does not heed pauses.
            self.held.borrow_mut().extend_from_slice(data);
            if !self.has(BUSY) {
                self.set(HELD);
                self.sync_pause();
            }
            return;
        }
        let left = self.process(data);
        self.held.borrow_mut().extend_from_slice(&data[data.len() - left..]);
        self.settle();
    }
    /// Goes on after a pause.
    pub(super) fn go_on(&self) {
        self.clear(GO_ON_DUE);
        if self.has(BUSY | ENDED) {
            return;
        }
        let data = self.held.take();
        let left = self.process(&data);
        // Ahead of what came meanwhile.
        self.held.borrow_mut().splice(0..0, data[data.len() - left..].iter().copied());
        self.settle();
    }
    pub(super) fn go_on_soon(&self) {
        if !self.has(GO_ON_DUE | BUSY | ENDED) {
            self.set(GO_ON_DUE);
            self.later(Duration::ZERO, Layer::go_on);
        }
    }
    /// Whether the upper protocol wants nothing now. The handshake goes on without asking it, and so does a close.
    pub(super) fn holds_back(&self) -> bool {
        self.has(PAUSED) && self.has(SECURE) && !self.has(CLOSING)
    }

    /// Decrypts and delivers. Returns how many of the last bytes are left, because of a pause.
    fn process(&self, mut data: &[u8]) -> usize {
        self.set(BUSY);
        self.clear(HELD);
        let _unwound = Unwound(self);
        let mut scratch = SPARE.try_with(Cell::take).ok().flatten().unwrap_or_else(|| vec![0; SCRATCH]);
        loop {
            if self.has(ABORTED | FAILED | ENDED) || (self.has(LOST) && !self.has(SECURE)) {
                data = &[];
                break;
            }
            if self.holds_back() {
                self.set(HELD);
                break;
            }
            let room = self.read_size.get().min(scratch.len());
            let before = data.len();
            let secured = self.decrypt(&mut data, &mut scratch[..room]);
            match secured {
                Decrypted::Secured => self.secured(),
                // While it closes, a protocol that has paused gets nothing, and reading goes on.
                Decrypted::Data(_) if self.has(PAUSED) => {}
                Decrypted::Data(n) => {
                    let told = wire::data_received_above(self.upper.get(), self.depth.get(), &scratch[..n]);
                    if let Err(failure) = told {
                        self.fail(failure);
                    }
                }
                Decrypted::Nothing => {
                    let fault = self.fault.take();
                    if let Some(fault) = fault {
                        self.fail_tls(fault);
                    } else if self.has(PEER_CLOSED) {
                        data = &[];
                        self.peer_closed();
                        break;
                    } else if data.is_empty() || data.len() == before {
                        break;
                    }
                }
            }
        }
        let _ = SPARE.try_with(|spare| spare.set(Some(scratch)));
        data.len()
    }

    /// Feeds rustls until `scratch` is full of plaintext, or something happens.
    fn decrypt(&self, data: &mut &[u8], scratch: &mut [u8]) -> Decrypted {
        let Ok(mut engine) = self.engine.try_borrow_mut() else { return Decrypted::Nothing };
        let Some(connection) = &mut *engine else { return Decrypted::Nothing };
        let mut n = 0;
        while n < scratch.len() {
            if let Ok(more) = connection.reader().read(&mut scratch[n..])
                && more > 0
            {
                n += more;
                continue;
            }
            if data.is_empty() || self.has(PEER_CLOSED) || self.fault.borrow().is_some() {
                break;
            }
            let first = || self.first.borrow().clone();
            if let Err(error) = connection.read_tls(data) {
                let error = rustls::Error::General(error.to_string());
                *self.fault.borrow_mut() = Some(TlsError::Other(error));
                break;
            }
            match connection.process_new_packets() {
                Ok(state) if state.peer_has_closed() => self.set(PEER_CLOSED),
                Ok(_) => {}
                Err(error) => *self.fault.borrow_mut() = Some(TlsError::from_rustls(error, &first())),
            }
            if connection.wants_write() {
                self.send(connection);
            }
            if !self.has(SECURE) && !connection.is_handshaking() && self.fault.borrow().is_none() {
                // A verifier may have ended it.
                if self.has(ABORTED | FAILED | LOST) {
                    return Decrypted::Nothing;
                }
                let _ = self.info.set(TlsInfo::of(connection));
                return Decrypted::Secured;
            }
        }
        if n > 0 { Decrypted::Data(n) } else { Decrypted::Nothing }
    }

    /// The handshake is done: the upper protocol is told before anything that was decrypted.
    fn secured(&self) {
        self.set(SECURE);
        self.stop_timer();
        self.first.take();
        let upper = self.upper.get();
        if let Err(failure) = wire::secured(upper, self.depth.get()) {
            return self.fail(failure);
        }
        self.register_below();
        self.set(FLUSH_DUE);
    }
    fn peer_closed(&self) {
        if !self.has(PEER_TOLD) {
            self.set(PEER_TOLD);
            // Who closes has been waiting for this only.
            if !self.has(CLOSING)
                && let Err(failure) = wire::read_lost_above(self.upper.get(), self.depth.get())
            {
                self.fail(failure);
            }
            self.set(FLUSH_DUE);
        }
    }

    /// What follows from input, once the upper protocol has returned.
    pub(super) fn settle(&self) {
        self.clear(BUSY);
        if self.has(ENDED) {
            return;
        }
        if self.has(LOST) {
            return self.finish_unless_held();
        }
        if self.has(FLUSH_DUE) {
            self.flush();
        }
        if self.has(EOF) && !self.has(EOF_DONE | HELD | LOST) {
            self.set(EOF_DONE);
            self.input_over();
        }
        self.sync_pause();
        // Resumed meanwhile.
        if self.has(HELD) && !self.holds_back() {
            self.go_on_soon();
        }
    }
    /// Pauses the wire below, or lets it go on, as the upper protocol wants.
    pub(super) fn sync_pause(&self) {
        let pause = self.has(HELD) || self.holds_back();
        if pause != self.has(LOWER_PAUSED) && !self.has(LOST) {
            if pause {
                self.set(LOWER_PAUSED);
                self.lower.get().pause_producing();
            } else {
                self.clear(LOWER_PAUSED);
                self.lower.get().resume_producing();
            }
        }
    }
    /// The wire below has no more.
    pub(super) fn end_of_input(&self) {
        self.set(EOF);
        if !self.has(BUSY) {
            self.settle();
        }
    }
}

/// Somebody's verifier may panic within rustls: that connection ends, and can.
struct Unwound<'a>(&'a Layer);
impl Drop for Unwound<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.clear(BUSY);
        }
    }
}

/// What a look into rustls gave.
enum Decrypted {
    /// So many bytes.
    Data(usize),
    /// The handshake is done.
    Secured,
    Nothing,
}
