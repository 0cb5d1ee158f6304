//! `IdleTimeout`: a connection on which nothing happens for a while, noticed (Twisted's `TimeoutMixin`). Kept by protocols,
//! and by `TimeoutFactory`.
//!
//! A sign of life only notes the time. The timer finds out, when it fires, that there was one, and waits for the rest.
use crate::clock::{Clock, DelayedCall};
use crate::failure;
use crate::transport::TransportRef;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

type Expired = Box<dyn FnMut(TransportRef)>;

/// Closes a connection on which nothing has happened for a time: a protocol keeps one, says how long, and calls
/// [`reset`](IdleTimeout::reset) at each sign of life, which costs next to nothing. Dropping it ends the waiting.
///
/// ```
/// use std::time::Duration;
/// use twistlet::protocols::policies::IdleTimeout;
/// use twistlet::{Protocol, TransportRef};
///
/// #[derive(Default)]
/// struct Login {
///     idle: IdleTimeout,
/// }
/// impl Protocol for Login {
///     fn connection_made(&mut self, transport: TransportRef) {
///         self.idle.set_timeout(transport, Some(Duration::from_secs(30)));
///     }
///     fn data_received(&mut self, _: TransportRef, _: &[u8]) {
///         self.idle.reset();
///     }
/// }
/// ```
#[derive(Default)]
pub struct IdleTimeout(Rc<Watch>);

#[derive(Default)]
struct Watch {
    period: Cell<Option<Duration>>,
    /// The last sign of life, and by which clock.
    last: Cell<Option<Instant>>,
    clock: RefCell<Option<(TransportRef, Rc<dyn Clock>)>>,
    timer: Cell<Option<DelayedCall>>,
    expired: RefCell<Option<Expired>>,
}

impl IdleTimeout {
    /// Not waiting for anything yet; [`set_timeout`](IdleTimeout::set_timeout) begins. What it does in the end is
    /// `lose_connection`.
    pub fn new() -> Self {
        IdleTimeout::default()
    }
    /// Calls `expired` in the end instead of `lose_connection` (Twisted's `timeoutConnection`). After that nothing is waited
    /// for, until `set_timeout` is called again.
    pub fn on_expiry(self, expired: impl FnMut(TransportRef) + 'static) -> Self {
        *self.0.expired.borrow_mut() = Some(Box::new(expired));
        self
    }
    /// Waits for `period` from now, on the clock of `transport`; `None` waits no more. Returns what the period was before.
    pub fn set_timeout(&self, transport: TransportRef, period: Option<Duration>) -> Option<Duration> {
        let watch = &self.0;
        if let Some(timer) = watch.timer.take() {
            timer.cancel();
        }
        let before = watch.period.replace(period);
        let Some(period) = period else {
            let clock = watch.clock.take();
            drop(clock);
            return before;
        };
        let clock = transport.clock();
        watch.last.set(Some(clock.now()));
        let old = watch.clock.replace(Some((transport, clock)));
        drop(old);
        watch.wait(period);
        before
    }
    /// A sign of life: the whole period is waited for again. Does nothing when nothing is waited for.
    #[inline]
    pub fn reset(&self) {
        if let Some((_, clock)) = &*self.0.clock.borrow() {
            self.0.last.set(Some(clock.recently()));
        }
    }
    /// What is waited for, if anything is.
    pub fn period(&self) -> Option<Duration> {
        self.0.period.get()
    }
}
impl Watch {
    fn wait(self: &Rc<Self>, delay: Duration) {
        let weak = Rc::downgrade(self);
        let fired = move || {
            if let Some(watch) = weak.upgrade() {
                watch.fired();
            }
        };
        if let Some((_, clock)) = &*self.clock.borrow() {
            self.timer.set(Some(clock.schedule(delay, Box::new(fired))));
        }
    }
    fn fired(self: &Rc<Self>) {
        self.timer.set(None);
        let (Some(period), Some(last)) = (self.period.get(), self.last.get()) else { return };
        let Some((transport, now)) = self.clock.borrow().as_ref().map(|(transport, clock)| (*transport, clock.now()))
        else {
            return;
        };
        let left = period.saturating_sub(now.saturating_duration_since(last));
        if !left.is_zero() {
            return self.wait(left);
        }
        self.period.set(None);
        let clock = self.clock.take();
        drop(clock);
        if !transport.is_connected() {
            return;
        }
        // Taken out: it may set the next period, or drop us.
        let expired = self.expired.take();
        match expired {
            None => transport.lose_connection(),
            Some(mut expired) => {
                let outcome = failure::catch(|| expired(transport));
                *self.expired.borrow_mut() = Some(expired);
                if let Err(failure) = outcome {
                    failure::report("the end of an idle timeout", &failure);
                    transport.fail_connection(failure);
                }
            }
        }
    }
}
impl Drop for IdleTimeout {
    fn drop(&mut self) {
        if let Some(timer) = self.0.timer.take() {
            timer.cancel();
        }
    }
}
impl fmt::Debug for IdleTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdleTimeout").field("period", &self.period()).finish_non_exhaustive()
    }
}
