//! System event triggers: what is called before, during and after the reactor's startup and shutdown (Twisted's
//! `addSystemEventTrigger`). The loop fires them; a before-trigger's Deferred holds the rest back, and what follows it always
//! happens in a turn of the loop, never inside the callback that fired the last Deferred.
use super::core::{Core, State};
use crate::deferred::{Deferred, IntoDeferred};
use crate::failure;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::rc::Rc;

/// When a trigger is called: Twisted's phase and event type in one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    /// Before the reactor counts as running. Startup waits for the Deferreds these return.
    BeforeStartup,
    /// As the reactor begins to run.
    DuringStartup,
    /// Once it runs: what `call_when_running` uses.
    AfterStartup,
    /// After `stop`, with everything still working. Shutdown waits for the Deferreds these return.
    BeforeShutdown,
    /// After every connection has been lost.
    DuringShutdown,
    /// Last of all.
    AfterShutdown,
}

/// The name of a trigger that waits, for removing it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Trigger {
    reactor: u32,
    number: u64,
    thread: PhantomData<*const ()>,
}

impl Trigger {
    pub(super) fn none() -> Self {
        Trigger { reactor: 0, number: 0, thread: PhantomData }
    }
    /// Forgets the trigger. Returns whether it was still waiting (Twisted's `removeSystemEventTrigger`).
    ///
    /// ```
    /// use twistlet::Reactor;
    /// use twistlet::reactor::Phase;
    ///
    /// let reactor = Reactor::new()?;
    /// let trigger = reactor.add_trigger(Phase::BeforeShutdown, || println!("goodbye"));
    /// assert!(trigger.remove());
    /// assert!(!trigger.remove());
    /// # reactor.close();
    /// # Ok::<(), twistlet::Failure>(())
    /// ```
    pub fn remove(self) -> bool {
        let removed = Core::named(self.reactor).and_then(|core| core.triggers.remove(self.number));
        removed.is_some()
    }
}

pub(super) type Call = Box<dyn FnOnce() -> Deferred<()>>;

#[derive(Default)]
pub(super) struct Triggers {
    lists: [RefCell<VecDeque<(u64, Call)>>; 6],
    made: Cell<u64>,
    /// Which event's before-triggers are waited for: what an earlier one left unfired, at a crash, holds up nobody.
    event: Cell<u64>,
}

impl Triggers {
    fn remove(&self, number: u64) -> Option<Call> {
        self.lists.iter().find_map(|list| {
            let mut list = list.borrow_mut();
            let position = list.iter().position(|(n, _)| *n == number)?;
            list.remove(position).map(|(_, call)| call)
        })
    }
    fn pop(&self, phase: Phase) -> Option<Call> {
        self.lists[phase as usize].borrow_mut().pop_front().map(|(_, call)| call)
    }
    pub(super) fn take_all(&self) -> Vec<(u64, Call)> {
        self.lists.iter().flat_map(|list| std::mem::take(&mut *list.borrow_mut())).collect()
    }
}

impl Core {
    pub(super) fn add_trigger<R: IntoDeferred + 'static>(
        &self,
        phase: Phase,
        call: impl FnOnce() -> R + 'static,
    ) -> Trigger {
        let number = self.triggers.made.get();
        self.triggers.made.set(number + 1);
        let call: Call = Box::new(move || call().into_deferred().add_callback(|_| ()));
        self.triggers.lists[phase as usize].borrow_mut().push_back((number, call));
        Trigger { reactor: self.id(), number, thread: PhantomData }
    }

    pub(super) fn fire_startup(self: &Rc<Self>) {
        self.fire_before(Phase::BeforeStartup);
    }

    pub(super) fn fire_shutdown(self: &Rc<Self>) {
        if self.state.get() == State::Starting {
            // Startup completes first; then the first turn shuts down.
            self.stop_asked.set(true);
            return;
        }
        self.state.set(State::Stopping);
        self.fire_before(Phase::BeforeShutdown);
    }

    /// All before-triggers are started before any is waited for.
    fn fire_before(self: &Rc<Self>, phase: Phase) {
        let waiting = Rc::new(Cell::new(1usize));
        let event = self.triggers.event.get() + 1;
        self.triggers.event.set(event);
        let arrived = {
            let (waiting, core) = (Rc::clone(&waiting), Rc::downgrade(self));
            move || {
                waiting.set(waiting.get() - 1);
                if waiting.get() == 0
                    && let Some(core) = core.upgrade()
                    && core.triggers.event.get() == event
                {
                    core.phase_due.set(true);
                    // The last Deferred may have been fired outside any turn's reach: a poll must not wait for more.
                    core.inbox().wake();
                }
            }
        };
        while let Some(call) = self.triggers.pop(phase) {
            match failure::catch(call) {
                Ok(deferred) => {
                    waiting.set(waiting.get() + 1);
                    let arrived = arrived.clone();
                    let _ = deferred.add_both(move |outcome| {
                        if let Err(failure) = outcome {
                            failure::report_unobserved("a startup or shutdown trigger", &failure);
                        }
                        arrived();
                    });
                }
                Err(failure) => failure::report("a startup or shutdown trigger", &failure),
            }
        }
        waiting.set(waiting.get() - 1);
        if waiting.get() == 0 {
            self.finish_phase();
        }
    }

    /// The before-triggers are done: the rest of the event.
    pub(super) fn finish_phase(self: &Rc<Self>) {
        match self.state.get() {
            State::Starting => {
                self.state.set(State::Running);
                self.listen_to_signals();
                self.fire_now(Phase::DuringStartup);
                self.fire_now(Phase::AfterStartup);
            }
            State::Stopping => {
                // What the last callbacks wrote leaves, as far as the sockets take it.
                self.flush_all();
                self.state.set(State::Finished);
                self.shut_sources();
                self.fire_now(Phase::DuringShutdown);
                self.stop_threads();
                self.fire_now(Phase::AfterShutdown);
            }
            _ => {}
        }
    }

    fn fire_now(&self, phase: Phase) {
        while let Some(call) = self.triggers.pop(phase) {
            crate::deferred::run_and_report("a startup or shutdown trigger", call);
        }
    }
}
