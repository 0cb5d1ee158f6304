//! The watchdog's thread.
//!
//! It counts its own looks, not the clock: a machine that was stopped, or a watchdog that had no processor, reports nobody.
use super::{Blocked, Holder, Hook};
use crate::failure;
use crate::reactor::core::Core;
use crate::reactor::pulse::{self, Pulse};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many looks in a row must find the same callback: a limit is so many intervals.
const LOOKS: u32 = 4;

pub(super) struct Shared {
    pulse: Arc<Pulse>,
    thread: String,
    /// The file in which the system tells how the thread is, where there is one.
    stat: Option<String>,
    interval: Duration,
    /// The least time between two log lines; `None`: none at all.
    every: Option<Duration>,
    pub(super) count: AtomicU64,
    pub(super) blocked: AtomicBool,
    state: Mutex<Looking>,
    changed: Condvar,
}

#[derive(Default)]
struct Looking {
    stopped: bool,
    /// Who was reported, since when he has held the loop, and whether that was logged.
    reported: Option<(Blocked, Instant, bool)>,
}

impl Shared {
    /// To be made on the thread that is to be watched.
    pub(super) fn new(core: &Core, limit: Duration, every: Option<Duration>) -> Arc<Shared> {
        let thread = std::thread::current();
        let stat = std::fs::read_link("/proc/thread-self").ok().map(|path| format!("/proc/{}/stat", path.display()));
        Arc::new(Shared {
            pulse: Arc::clone(&core.pulse),
            thread: thread.name().map_or_else(|| format!("{:?}", thread.id()), str::to_owned),
            stat,
            interval: limit / LOOKS,
            every,
            count: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }
    fn lock(&self) -> MutexGuard<'_, Looking> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub(super) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }
    pub(super) fn stop(&self) {
        if std::mem::replace(&mut self.lock().stopped, true) {
            // Another may have taken its place, which the loop is to go on telling.
            return;
        }
        self.pulse.set_watched(false);
        self.blocked.store(false, Ordering::Relaxed);
        self.changed.notify_all();
    }
    /// The loop goes on: what was reported, for how long it went on, and whether that was logged.
    pub(super) fn settle(&self) -> Option<(Blocked, bool)> {
        let (mut blocked, since, logged) = self.lock().reported.take()?;
        self.blocked.store(false, Ordering::Relaxed);
        blocked.held = since.elapsed();
        Some((blocked, logged))
    }
    /// Waits for the next look; `false`: there will be none.
    fn wait(&self) -> bool {
        let until = Instant::now() + self.interval;
        let mut state = self.lock();
        while !state.stopped {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }
    /// Whether the thread sleeps in the system or computes.
    fn sleeps(&self) -> Option<bool> {
        let stat = std::fs::read_to_string(self.stat.as_ref()?).ok()?;
        // After the name of the program, which is in parentheses and may contain more of them.
        match stat.rsplit_once(')')?.1.trim_start().chars().next()? {
            'R' => Some(false),
            'S' | 'D' => Some(true),
            _ => None,
        }
    }
    /// Who holds the loop, now that it has been looked up: nobody, if that changed meanwhile.
    fn holder(&self, seen: pulse::Holder) -> Option<Holder> {
        let holder = Holder::of(seen, self.pulse.names());
        (self.pulse.holder() == seen).then_some(holder)
    }
}

/// Starts the thread.
pub(super) fn spawn(shared: Arc<Shared>, hook: Option<Hook>) -> std::io::Result<()> {
    std::thread::Builder::new().name("twistlet-watchdog".to_owned()).spawn(move || look(&shared, hook.as_ref()))?;
    Ok(())
}

fn look(shared: &Shared, hook: Option<&Hook>) {
    // The last look that found the loop moving, and how many have not since.
    let mut since = Instant::now();
    let mut looks = 0;
    let mut log = Logging { every: shared.every, last: None, left_out: 0 };
    while shared.wait() {
        let holder = shared.pulse.holder();
        if shared.pulse.has_moved() || holder == pulse::Holder::NOBODY {
            since = Instant::now();
            looks = 0;
            continue;
        }
        looks += 1;
        if looks != LOOKS {
            continue;
        }
        let Some(holder) = shared.holder(holder) else { continue };
        let blocked = Blocked { thread: shared.thread.clone(), holder, held: since.elapsed(), sleeps: shared.sleeps() };
        let logs = log.may_log();
        {
            let mut state = shared.lock();
            if state.stopped {
                return;
            }
            state.reported = Some((blocked.clone(), since, logs));
        }
        // In this order: the loop settles the report when it sees this.
        shared.count.fetch_add(1, Ordering::Relaxed);
        shared.blocked.store(true, Ordering::Relaxed);
        shared.pulse.set_reported(true);
        if logs {
            log.write(&blocked);
        }
        if let Some(hook) = hook
            && let Err(failure) = failure::catch(|| hook(&blocked))
        {
            failure::report("the hook of a watchdog", &failure);
        }
    }
}

/// Keeps the log from being flooded.
struct Logging {
    every: Option<Duration>,
    last: Option<Instant>,
    left_out: u64,
}
impl Logging {
    fn may_log(&mut self) -> bool {
        let Some(every) = self.every else { return false };
        let may = self.last.is_none_or(|last| last.elapsed() >= every);
        if may {
            self.last = Some(Instant::now());
        } else {
            self.left_out += 1;
        }
        may
    }
    fn write(&mut self, blocked: &Blocked) {
        let left_out = std::mem::take(&mut self.left_out);
        let written = failure::catch(|| match left_out {
            0 => log::warn!(target: "twistlet", "{blocked}"),
            n => log::warn!(target: "twistlet", "{blocked} ({n} more were not logged)"),
        });
        if let Err(failure) = written {
            failure::drop_quietly(failure);
        }
    }
}
