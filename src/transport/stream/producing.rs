//! The producer of a connection: who registers one, and the one place that calls it.
use super::{LOST, PRODUCER, PRODUCER_PAUSED, Stream};
use crate::error::ConnectionClosed;
use crate::failure;
use crate::transport::producer::{Registered, stop_soon};

impl Stream {
    /// Calls the producer, which may unregister itself or write meanwhile.
    pub(super) fn with_producer(&self, call: impl FnOnce(&mut Registered) -> bool) {
        let Some(mut producer) = self.producer.take() else { return };
        match failure::catch(|| call(&mut producer)) {
            Ok(goes_on) => {
                if !goes_on {
                    self.clear(PRODUCER | PRODUCER_PAUSED);
                }
                let mut kept = Some(producer);
                if self.has(PRODUCER) && self.producer.borrow().is_none() {
                    *self.producer.borrow_mut() = kept.take();
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
        self.clear(PRODUCER_PAUSED);
        let old = self.producer.replace(Some(producer));
        drop(old);
        self.flush_soon();
    }
}
