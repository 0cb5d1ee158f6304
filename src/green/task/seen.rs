//! One green thread as reports see it.
use super::{State, Task};
use crate::greenlet::Greenlet;
use std::panic::Location;
use std::time::Instant;

/// What a report tells of a green thread.
pub(in crate::green) struct Sight {
    pub(in crate::green) state: State,
    pub(in crate::green) reason: &'static str,
    pub(in crate::green) site: &'static Location<'static>,
    /// When it was spawned or began to wait, by the clock of that turn.
    pub(in crate::green) since: Instant,
    /// When it is to start, where that is not at once.
    pub(in crate::green) start: Option<Instant>,
    pub(in crate::green) is_killed: bool,
    pub(in crate::green) stack_size: Option<usize>,
    pub(in crate::green) stack_used: Option<usize>,
}

impl Task {
    /// What tells it from all others of the reactor.
    #[inline]
    pub(in crate::green) fn id(&self) -> u64 {
        self.id.get()
    }
    /// Who spawned it.
    pub(in crate::green) fn parent(&self) -> u64 {
        self.parent.get()
    }
    pub(in crate::green) fn spawned_at(&self) -> &'static Location<'static> {
        self.spawned.get()
    }
    pub(in crate::green) fn own_name(&self) -> Option<String> {
        self.name.borrow().as_ref().map(|name| (**name).to_owned())
    }
    /// Gives a name that other threads have not been told yet.
    pub(in crate::green) fn show_name(&self, tell: impl FnOnce(u64, String)) {
        if !self.shown.get()
            && let Some(name) = self.own_name()
        {
            self.shown.set(true);
            tell(self.id(), name);
        }
    }
    /// It has ended: other threads need not know its name any more.
    #[inline]
    pub(super) fn hide_name(&self) {
        if self.shown.replace(false) {
            self.hub.forget_name(self.id());
        }
    }
    pub(in crate::green) fn look(&self) -> Sight {
        let greenlet = self.greenlet.take();
        let current = greenlet.is_none().then(Greenlet::current);
        let here = match self.state.get() {
            State::Running | State::Preparing => greenlet.as_ref().or(current.as_ref()),
            _ => greenlet.as_ref(),
        };
        let (stack_size, stack_used) =
            here.map_or((None, None), |greenlet| (greenlet.stack_size(), greenlet.stack_used()));
        self.greenlet.set(greenlet);
        let start = self.start.take();
        self.start.set(start);
        Sight {
            state: self.state.get(),
            reason: self.reason.get(),
            site: self.site.get(),
            since: self.since.get(),
            start: start.and_then(|start| start.time()),
            is_killed: self.killed.get(),
            stack_size,
            stack_used,
        }
    }
}
