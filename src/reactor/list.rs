//! What the reactor tells about itself to people: its timers, its descriptors, its threads. For `green::debug` and the test kit.
use super::core::Core;
use super::pulse::Kind;
use super::sources::About;
use std::os::fd::RawFd;
use std::panic::Location;
use std::time::Instant;

/// One source of the loop.
#[cfg_attr(not(feature = "green"), allow(dead_code, reason = "reports in full are green"))]
pub(crate) struct Listed {
    pub(crate) kind: Kind,
    pub(crate) fd: Option<RawFd>,
    pub(crate) about: About,
}

/// Threads of the pool.
#[derive(Default)]
#[cfg_attr(not(feature = "green"), allow(dead_code, reason = "reports in full are green"))]
pub(crate) struct PoolFigures {
    pub(crate) threads: usize,
    pub(crate) busy: usize,
    pub(crate) queued: usize,
}

impl Core {
    /// When each timer is due (`None`: never) and where it was made, if that is recorded; the next one first.
    pub(crate) fn list_timers(&self) -> Vec<(Option<Instant>, Option<&'static Location<'static>>)> {
        self.timers.list()
    }
    /// Whether to remember where timers are made.
    pub(crate) fn record_timer_sites(&self, on: bool) {
        self.timers.record_sites(on);
    }
    /// Every source but the reactor's own.
    pub(crate) fn list_sources(&self) -> Vec<Listed> {
        let sources = self.all_sources();
        let listed = sources.iter().filter(|source| !source.is_internal() || source.kind() == Kind::Closing);
        listed.map(|source| Listed { kind: source.kind(), fd: source.fd(), about: source.about() }).collect()
    }
    /// Futures that have not ended, the one at work left out.
    #[cfg(feature = "testing")]
    pub(crate) fn waiting_futures(&self) -> usize {
        self.tasks.borrow().waiting()
    }
    #[cfg_attr(not(feature = "green"), allow(dead_code, reason = "for reports"))]
    pub(crate) fn pool_figures(&self) -> PoolFigures {
        let figures = self.existing_pools().into_iter().map(|pool| pool.figures());
        let (threads, busy, queued) = figures.fold((0, 0, 0), |all, one| (all.0 + one.0, all.1 + one.1, all.2 + one.2));
        PoolFigures { threads, busy, queued }
    }
}
