//! How TLS ends: in order, with a close_notify each way; with an error, after an alert; or because the wire below ends. The upper
//! protocol hears of the end only when the wire below is gone, and after what was decrypted before.
use super::{ABORTED, CLOSE_SENT, CLOSING, ENDED, FAILED, HELD, LOST, LOWER_CLOSING, Layer, PEER_CLOSED, SECURE};
use crate::error::ConnectionClosed;
use crate::failure::{self, Failure};
use crate::reactor::driver::Readiness;
use crate::reactor::{Core, Source};
use crate::transport::tls::TlsError;
use crate::transport::wire;
use std::io::ErrorKind;
use std::rc::{Rc, Weak};
use std::time::Duration;

/// How long a peer may take for its close_notify after ours, and for taking what was sent before an error.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

impl Layer {
    /// What was written has gone down, and no producer goes on: says so to the peer, and waits for its answer.
    pub(super) fn close_in_order(&self) {
        if !self.has(CLOSE_SENT) {
            self.send_close_notify();
        }
        if self.has(PEER_CLOSED) {
            self.close_lower();
        } else if !self.has(LOWER_CLOSING) && self.timer.get().is_none() {
            self.set_timer(CLOSE_TIMEOUT, Layer::close_lower);
        }
    }
    pub(super) fn send_close_notify(&self) {
        self.set(CLOSE_SENT);
        if let Ok(mut engine) = self.engine.try_borrow_mut()
            && let Some(connection) = &mut *engine
        {
            connection.send_close_notify();
            self.send(connection);
        }
    }
    /// The half-close is told when it has left.
    pub(super) fn write_closed(&self) {
        let layer = Weak::clone(&self.me);
        let told = self.lower.get().when_flushed().add_callback(move |()| {
            if let Some(layer) = layer.upgrade().filter(|layer| !layer.has(LOST)) {
                let upper = layer.upper.get();
                layer.tell(move |protocol| protocol.write_connection_lost(upper));
            }
        });
        // When the connection ends before that, its end says it all.
        drop(told.add_errback(|_| {}));
    }
    /// Closes the wire below when it has sent what it has.
    pub(super) fn close_lower(&self) {
        if !self.has(LOWER_CLOSING | LOST) {
            self.set(LOWER_CLOSING);
            self.stop_timer();
            self.unregister_below();
            self.lower.get().lose_connection();
        }
    }
    /// The wire below has no more input, and all that came was delivered.
    pub(super) fn input_over(&self) {
        if self.has(ABORTED | FAILED | LOWER_CLOSING | PEER_CLOSED) {
            return;
        }
        if !self.has(CLOSING) {
            let reason = if self.has(SECURE) {
                // Somebody may have cut it off.
                ConnectionClosed::Lost(Some(ErrorKind::UnexpectedEof))
            } else {
                ConnectionClosed::Failed(TlsError::EndedInHandshake.into())
            };
            self.reason.borrow_mut().get_or_insert(reason);
            self.encrypt();
            self.set(FAILED | CLOSING);
        } else {
            // It was not waited for: many peers answer a close_notify by closing.
            self.encrypt();
        }
        self.close_lower();
    }

    /// Ends with an error of the upper protocol's, or of ours. Runs no user code.
    pub(super) fn fail(&self, failure: Failure) {
        if self.has(FAILED | ABORTED | LOST) {
            return;
        }
        self.encrypt();
        self.set(FAILED | CLOSING);
        self.reason.borrow_mut().get_or_insert(ConnectionClosed::Failed(failure.clone()));
        if self.has(SECURE) && !self.has(CLOSE_SENT) {
            self.send_close_notify();
        }
        self.unregister_below();
        self.lower.get().fail_connection(failure);
    }
    /// The same, of rustls's: its alert is out already, or goes out now.
    pub(super) fn fail_tls(&self, error: TlsError) {
        if let Ok(mut engine) = self.engine.try_borrow_mut()
            && let Some(connection) = &mut *engine
        {
            self.send(connection);
        }
        self.set(CLOSE_SENT);
        self.fail(error.into());
        self.set_timer(CLOSE_TIMEOUT, |layer| layer.lower.get().abort_connection());
    }
    /// Ends with an error and without waiting for a peer that does not do its part.
    pub(super) fn fail_hard(&self, error: TlsError) {
        if self.has(FAILED | ABORTED | LOST) {
            return;
        }
        self.set(FAILED | CLOSING);
        self.reason.borrow_mut().get_or_insert(ConnectionClosed::Failed(error.into()));
        self.unregister_below();
        self.lower.get().abort_connection();
    }

    /// The wire below is gone.
    pub(super) fn lost(&self, reason: &ConnectionClosed) {
        if self.has(LOST) {
            return;
        }
        self.set(LOST);
        self.stop_timer();
        self.stop_producer();
        let reason = self.reason.take().unwrap_or_else(|| self.why(reason));
        let waiters = self.flush_waiters.take();
        for waiter in waiters {
            waiter.errback(reason.clone());
        }
        let lower = self.lower.get();
        let _ = self.ends.set((lower.peer(), lower.host()));
        *self.reason.borrow_mut() = Some(reason);
        if !self.has(super::BUSY) {
            self.finish_unless_held();
        }
    }
    /// What the end of the wire below means here.
    fn why(&self, reason: &ConnectionClosed) -> ConnectionClosed {
        let orderly = self.has(CLOSING | ABORTED) || self.has(PEER_CLOSED);
        match reason {
            ConnectionClosed::Done if orderly => ConnectionClosed::Done,
            ConnectionClosed::Done if self.has(SECURE) => ConnectionClosed::Lost(Some(ErrorKind::UnexpectedEof)),
            ConnectionClosed::Done => ConnectionClosed::Failed(TlsError::EndedInHandshake.into()),
            other => other.clone(),
        }
    }
    /// Tells the end; when the protocol has paused before what had arrived, after it has taken that.
    pub(super) fn finish_unless_held(&self) {
        let ending = Core::current().filter(|core| core.is_ending()).is_some();
        if !self.has(HELD) || self.has(FAILED | ABORTED) || ending {
            return self.finish();
        }
        self.finish_with_the_reactor();
        if !self.holds_back() {
            self.go_on_soon();
        }
    }
    /// At the reactor's end nobody resumes any more, and no turn comes that would go on.
    fn finish_with_the_reactor(&self) {
        if self.waiting.get().is_none()
            && let Some(core) = Core::current()
        {
            let token = core.reserve();
            core.install_source(token, Rc::new(Waiting(Weak::clone(&self.me))));
            self.waiting.set(Some((core.id(), token)));
        }
    }
    pub(super) fn finish(&self) {
        if self.has(ENDED) || !self.has(LOST) {
            return;
        }
        self.set(ENDED);
        if let Some((core, token)) = self.waiting.take()
            && let Some(core) = Core::named(core)
        {
            drop(core.remove_source(token));
        }
        let engine = self.engine.take();
        failure::drop_quietly(engine);
        self.held.take();
        let reason = self.reason.take().unwrap_or(ConnectionClosed::Lost(None));
        wire::connection_lost_above(self.upper.get(), self.depth.get(), &reason);
    }
}

/// Stands in the reactor's table for a layer whose wire is gone and whose protocol has not been told.
struct Waiting(Weak<Layer>);
impl Source for Waiting {
    fn ready(&self, _: &Rc<Core>, _: Readiness) {}
    fn shut(&self, _: &Rc<Core>) {
        if let Some(layer) = self.0.upgrade() {
            layer.finish();
        }
    }
    fn is_internal(&self) -> bool {
        true
    }
}
