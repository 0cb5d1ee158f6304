//! The loop: its turns (R3 of the design), and what each of them calls. Split from `core`, whose rules hold here too: no cell is
//! borrowed while user code runs, and no panic of user code leaves `turn`.
use super::{Core, State};
use crate::error::ReactorError;
use crate::failure::{self, Failure, Result};
use crate::reactor::driver::Readiness;
use crate::reactor::pulse::Holder;
use crate::reactor::sources::Source;
use std::rc::Rc;
use std::time::Duration;

/// Output written while output is flushed is flushed too, this often, before the poll.
const FLUSH_ROUNDS: usize = 4;
/// Of turns that do not wait, each so-manyth reads the clock for those who keep time; after one that waited it costs
/// nothing to speak of.
const KEEP_TIME: u64 = 64;

impl Core {
    /// Runs until stopped; `startup` and `shutdown` triggers included. The reactor goes on existing: its caller ends it.
    pub(crate) fn run_loop(self: &Rc<Self>) -> Result<()> {
        match self.state.get() {
            State::Idle if self.is_forked() => return Err(ReactorError::Forked.into()),
            State::Idle => {}
            State::Finished | State::Abandoned => return Err(ReactorError::NotRestartable.into()),
            State::Closed => return Err(ReactorError::Closed.into()),
            State::Starting | State::Running | State::Stopping => return Err(ReactorError::AlreadyRunning.into()),
        }
        let abandoned = Abandon(self);
        self.looping.set(true);
        self.crashed.set(false);
        self.phase_due.set(false);
        self.stop_asked.set(false);
        self.state.set(State::Starting);
        self.read_turn_clock();
        self.fire_startup();
        while self.state.get() != State::Finished && !self.crashed.get() {
            self.turn(None);
        }
        std::mem::forget(abandoned);
        self.ignore_signals();
        self.looping.set(false);
        self.pulse.set_holder(Holder::NOBODY);
        if self.crashed.get() && self.state.get() != State::Finished {
            self.state.set(State::Idle);
            if self.is_forked() {
                return Err(ReactorError::Forked.into());
            }
        }
        if self.close_asked.get() {
            self.state.set(State::Finished);
        }
        Ok(())
    }

    /// One turn of the loop; `limit` bounds the wait.
    pub(crate) fn turn(self: &Rc<Self>, limit: Option<Duration>) {
        self.turns.set(self.turns.get() + 1);
        let pulse = &*self.pulse;
        pulse.set_holder(Holder::REMOTE_CALL);
        self.inbox.run(self);
        pulse.set_holder(Holder::DELAYED_CALL);
        self.run_timers();
        pulse.set_holder(Holder::QUEUED_CALL);
        self.run_ready();
        crate::shared::work_off_left_over();
        pulse.set_holder(Holder::TRIGGER);
        self.look_whether_drained();
        if self.phase_due.replace(false) {
            self.finish_phase();
        }
        // A stop during startup waits until startup is complete.
        if self.stop_due() {
            self.stop_asked.set(false);
            self.fire_shutdown();
        }
        if self.state.get() == State::Finished || self.crashed.get() {
            self.flush_all();
            return;
        }
        pulse.set_holder(Holder::SOURCE);
        self.flush_all();
        pulse.set_holder(Holder::NOBODY);
        if pulse.was_reported() {
            self.settle_report();
        }
        self.poll(limit);
        pulse.set_holder(Holder::SOURCE);
        self.dispatch();
        self.flush_all();
    }

    fn stop_due(&self) -> bool {
        self.stop_asked.get() && self.state.get() == State::Running
    }

    fn run_timers(&self) {
        if self.timers.len() == 0 {
            return;
        }
        let mark = self.timers.mark();
        while let Some(call) = self.timers.pop_due(self.turn_clock.get(), mark) {
            self.guard("a delayed call", call);
        }
    }

    /// Runs a callback that nobody waits for.
    pub(crate) fn guard(&self, what: &'static str, call: impl FnOnce()) {
        self.pulse.beat();
        if let Err(failure) = failure::catch(call) {
            failure::report(what, &failure);
        }
    }

    pub(in crate::reactor) fn flush_all(self: &Rc<Self>) {
        for _ in 0..FLUSH_ROUNDS {
            if self.flush.borrow().is_empty() {
                return;
            }
            let mut batch = std::mem::take(&mut *self.flush.borrow_mut());
            self.each_source(batch.drain(..).map(|token| (token, ())), |source, ()| source.flush(self));
            // Its memory is used again, unless somebody needed another list meanwhile.
            let mut list = self.flush.borrow_mut();
            if list.is_empty() {
                *list = batch;
            }
        }
    }

    fn poll(self: &Rc<Self>, limit: Option<Duration>) {
        let mut timeout = self.poll_timeout(limit);
        let only_background = |timeout: Option<Duration>| {
            limit.is_none() && timeout != Some(Duration::ZERO) && self.timers.has_background()
        };
        if (timeout.is_none() || only_background(timeout)) && !self.can_wake() {
            let idle = self.idle.borrow().clone();
            if let Some(idle) = idle {
                idle();
                timeout = self.poll_timeout(limit);
            }
        }
        // Without `green` asking takes a system call.
        if (cfg!(feature = "green") || timeout != Some(Duration::ZERO)) && self.is_forked() {
            return self.crashed.set(true);
        }
        let mut events = self.events.take();
        let polled = self.driver.borrow_mut().poll(timeout, &mut events);
        self.events.set(events);
        if let Err(error) = polled {
            // Only a defect of ours or a lost descriptor gets here; the loop must neither die nor spin.
            failure::report("the poller", &Failure::from(error));
            std::thread::sleep(Duration::from_millis(10));
        }
        self.pulse.set_stale();
        let keep =
            self.keeps_time.get() && (timeout != Some(Duration::ZERO) || self.turns.get().is_multiple_of(KEEP_TIME));
        if self.timers.len() > 0 || keep {
            self.read_turn_clock();
        }
    }

    pub(super) fn read_turn_clock(&self) {
        self.pulse.set_stale();
        self.turn_clock.set(self.now());
    }

    fn poll_timeout(&self, limit: Option<Duration>) -> Option<Duration> {
        let busy = !self.ready.borrow().is_empty()
            || !self.again.borrow().is_empty()
            || !self.flush.borrow().is_empty()
            || self.inbox.is_notified()
            || self.phase_due.get()
            || self.stop_due();
        if busy {
            return Some(Duration::ZERO);
        }
        let timer = self.timers.next_due().map(|due| {
            self.pulse.set_stale();
            due.saturating_duration_since(self.now())
        });
        match (timer, limit) {
            (Some(timer), Some(limit)) => Some(timer.min(limit)),
            (timer, limit) => timer.or(limit),
        }
    }

    /// Whether anything there is could end a wait without end.
    pub(crate) fn can_wake(&self) -> bool {
        self.sources.borrow().len() > 0
            || self.inbox.has_handles()
            || self.inbox.is_notified()
            || self.timers.has_foreground()
    }

    fn dispatch(self: &Rc<Self>) {
        let mut events = self.events.take();
        let again = std::mem::take(&mut *self.again.borrow_mut());
        let polled = events.drain(..).map(|event| (event.token, event.readiness));
        let again = again.into_iter().map(|token| (token, Readiness::default()));
        self.each_source(polled.chain(again), |source, readiness| source.ready(self, readiness));
        self.events.set(events);
    }

    /// Calls `call` with every source that is still there when its turn comes. Sources guard what user code they call; what
    /// is caught here is the panic of a destructor of one that went away. One guard for all: a panic costs a new one.
    fn each_source<T>(&self, mut all: impl Iterator<Item = (usize, T)>, call: impl Fn(&dyn Source, T)) {
        let watched = self.pulse.is_watched();
        loop {
            let done = failure::catch(|| {
                for (token, with) in all.by_ref() {
                    let source = self.sources.borrow().get(token);
                    if let Some(source) = source {
                        self.pulse.beat();
                        if watched {
                            self.pulse.set_holder(Holder::source(source.kind(), source.fd()));
                        }
                        call(&*source, with);
                    }
                }
            });
            match done {
                Ok(()) => return,
                Err(failure) => failure::report("a connection or a watch", &failure),
            }
        }
    }
}

/// Marks the reactor when its loop is left by unwinding, so that the next one can take its place.
struct Abandon<'a>(&'a Rc<Core>);
impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.looping.set(false);
        self.0.pulse.set_holder(Holder::NOBODY);
        self.0.state.set(State::Abandoned);
    }
}
