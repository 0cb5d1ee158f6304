//! Destinations that are looked up for every attempt and may be another each time: what stands behind SRV records. Kept by the
//! connector, so that attempts, retries and `stop_connecting` are the same for all.
use super::Inner;
use crate::deferred::Deferred;
use crate::error::ConnectError;
use crate::failure;
use crate::transport::Destination;
use std::rc::Rc;

/// Says, before every attempt, where it goes.
pub(crate) type Finder = Rc<dyn Fn() -> Deferred<Destination>>;

/// As `connect`, to where `finder` says. `to` is what its result is called, and has the time limit.
#[cfg(feature = "dns")]
pub(crate) fn connect_found(
    reactor: &crate::reactor::Reactor,
    to: Destination,
    finder: Finder,
    factory: Box<dyn crate::transport::ClientFactory>,
) -> super::Connector {
    super::begin(reactor, to, Some(finder), factory, None)
}

impl Inner {
    /// Where the present attempt goes, as far as it is known.
    pub(super) fn target(&self) -> Destination {
        self.found.borrow().clone().unwrap_or_else(|| self.to.clone())
    }
    /// In a later turn: what the finder calls is not for the stack of `connect_*`.
    pub(super) fn find_soon(self: &Rc<Self>, attempt: u64, finder: &Finder) {
        self.found.take();
        let (inner, finder) = (Rc::downgrade(self), Rc::clone(finder));
        self.core.call_soon(Box::new(move || {
            if let Some(inner) = inner.upgrade().filter(|inner| inner.is_attempt(attempt)) {
                inner.find(attempt, &finder);
            }
        }));
    }
    fn find(self: &Rc<Self>, attempt: u64, finder: &Finder) {
        let answer = failure::catch(|| finder()).unwrap_or_else(Deferred::fail);
        self.looking.set(Some(answer.canceller()));
        let inner = Rc::downgrade(self);
        let _ = answer.add_both(move |answer| {
            let Some(inner) = inner.upgrade().filter(|inner| inner.is_attempt(attempt)) else { return };
            inner.looking.set(None);
            match answer {
                Ok(found) => {
                    inner.found.replace(Some(found));
                    inner.dial(attempt);
                }
                Err(failure) => inner.fail_soon(ConnectError::from_failure(failure)),
            }
        });
    }
}
