//! Services of the task floor: `TimerService`, a `LoopingCall`, and `CooperatorService`, a `Cooperator`.
use super::Service;
use crate::clock::Clock;
use crate::deferred::{Deferred, IntoDeferred};
use crate::failure;
use crate::shared::Shared;
use crate::task::{Cooperator, LoopingCall};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// Calls a function at intervals while it runs, the first time as it starts (Twisted's `TimerService`). A failure of the
/// function is logged, and ends the calls until the service is started again. To stop is to wait for the call that is being
/// made.
///
/// ```
/// use std::time::Duration;
/// use twistlet::service::{Service, TimerService};
/// use twistlet::testing::Clock;
///
/// let clock = Clock::new();
/// let mut ticks = TimerService::new(&clock, Duration::from_secs(1), || println!("tick"));
/// ticks.start_service();
/// clock.advance(Duration::from_secs(1));
/// ticks.stop_service();
/// assert_eq!(clock.pending(), 0);
/// ```
pub struct TimerService {
    clock: Rc<dyn Clock>,
    interval: Duration,
    f: Shared<Box<dyn FnMut() -> Deferred<()>>>,
    /// The loop of this start, and its end.
    running: Option<(LoopingCall, Deferred<()>)>,
}

impl TimerService {
    /// A service that calls `f` every `interval` of `clock`. While a Deferred that `f` returned is pending, the next call waits.
    pub fn new<R: IntoDeferred + 'static>(
        clock: &dyn Clock,
        interval: Duration,
        mut f: impl FnMut() -> R + 'static,
    ) -> Self {
        let f: Box<dyn FnMut() -> Deferred<()>> = Box::new(move || f().into_deferred().add_callback(|_| ()));
        TimerService { clock: clock.handle(), interval, f: Shared::new(f), running: None }
    }
}

impl Service for TimerService {
    fn start_service(&mut self) -> Deferred<()> {
        let f = self.f.clone();
        // A call of an earlier start may still be going on, so each start has a loop of its own.
        let ticks = LoopingCall::new(&*self.clock, move |_| f.call(|f| f()));
        let ended = ticks.start(self.interval).add_errback(|failure| {
            failure::report("a TimerService, which calls no more,", &failure);
            Ok(())
        });
        self.running = Some((ticks, ended));
        Deferred::succeed(())
    }
    fn stop_service(&mut self) -> Deferred<()> {
        let Some((ticks, ended)) = self.running.take() else { return Deferred::succeed(()) };
        ticks.stop();
        ended
    }
}
/// A loop runs as long as its clock: who lets go of the service means it to end.
impl Drop for TimerService {
    fn drop(&mut self) {
        drop(self.stop_service());
    }
}
impl fmt::Debug for TimerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running = self.running.as_ref().is_some_and(|(ticks, _)| ticks.is_running());
        f.debug_struct("TimerService")
            .field("interval", &self.interval)
            .field("running", &running)
            .finish_non_exhaustive()
    }
}

/// A [`Cooperator`] that works while the service runs (Twisted's `CooperatorService`): work may be given to it before; what is
/// left when it is stopped ends with [`TaskError::SchedulerStopped`](crate::task::TaskError::SchedulerStopped).
///
/// ```
/// use twistlet::service::{CooperatorService, Service};
/// use twistlet::testing::{Clock, success_result_of};
///
/// let clock = Clock::new();
/// let mut service = CooperatorService::new(&clock);
/// let work = service.cooperator().cooperate([(), ()]);
/// service.start_service();
/// clock.advance(std::time::Duration::from_millis(1));
/// success_result_of(work.when_done());
/// ```
#[derive(Debug)]
pub struct CooperatorService(Cooperator);

impl CooperatorService {
    /// A service with a cooperator on `clock`.
    pub fn new(clock: &dyn Clock) -> Self {
        CooperatorService(Cooperator::not_started(clock))
    }
    /// Its cooperator, to give work to.
    pub fn cooperator(&self) -> Cooperator {
        self.0.clone()
    }
}
impl Service for CooperatorService {
    fn start_service(&mut self) -> Deferred<()> {
        self.0.start();
        Deferred::succeed(())
    }
    fn stop_service(&mut self) -> Deferred<()> {
        self.0.stop();
        Deferred::succeed(())
    }
}
