//! What the reactor has pending: timers and descriptors.
use super::core;
use super::info::Short;
use std::fmt::{self, Write};
use std::os::fd::RawFd;
use std::panic::Location;
use std::time::{Duration, Instant};

/// A delayed call that waits for its time: of the program, of a wait with a limit, of the crate itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TimerInfo {
    /// When it is due; `None`: never.
    pub due: Option<Instant>,
    /// How long that is from now; zero when it is late.
    pub left: Option<Duration>,
    /// The line that made it, if it was made while [`record_timer_sites`] was on.
    pub made_at: Option<&'static Location<'static>>,
}
impl fmt::Display for TimerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.left {
            Some(left) => write!(f, "due in {}", Short(left))?,
            None => f.write_str("never due")?,
        }
        self.made_at.map_or(Ok(()), |site| write!(f, ", made at {site}"))
    }
}

/// The timers of this thread's reactor, the next one first.
pub fn timers() -> Vec<TimerInfo> {
    let Some(core) = core() else { return Vec::new() };
    let now = core.fresh_now();
    let timer = |(due, made_at): (Option<Instant>, _)| {
        let left = due.map(|due| due.saturating_duration_since(now));
        TimerInfo { due, left, made_at }
    };
    core.list_timers().into_iter().map(timer).collect()
}
/// [`timers`] as text, one to a line (Eventlet's `format_hub_timers`).
pub fn format_timers() -> String {
    let mut text = String::new();
    for timer in timers() {
        let _ = writeln!(text, "  {timer}");
    }
    text
}
/// From now on, whether the reactor of this thread remembers which line makes each timer (Eventlet's `hub_timer_stacks`). Off
/// at first.
///
/// ```
/// use twistlet::Reactor;
/// use twistlet::green::debug;
/// use std::time::Duration;
///
/// let reactor = Reactor::current();
/// debug::record_timer_sites(true);
/// let call = reactor.call_later(Duration::from_secs(60), || println!("never"));
/// assert_eq!(debug::timers()[0].made_at.map(|site| site.line()), Some(line!() - 1));
/// # call.cancel();
/// # reactor.close();
/// ```
pub fn record_timer_sites(on: bool) {
    if let Some(core) = core() {
        core.record_timer_sites(on);
    }
}

/// A descriptor that the reactor watches.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DescriptorInfo {
    /// Its number; `None` for one of a simulation.
    pub fd: Option<RawFd>,
    /// What it is: "a connection with 127.0.0.1:80", "a green socket", ...
    pub what: String,
    /// What comes in is wanted.
    pub reads: bool,
    /// Somebody waits for room to write.
    pub writes: bool,
    /// The green threads that wait for it, and for what.
    pub waiting: Vec<String>,
}
impl fmt::Display for DescriptorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fd {
            Some(fd) => write!(f, "{fd}: {}", self.what)?,
            None => write!(f, "-: {}", self.what)?,
        }
        match (self.reads, self.writes) {
            (true, true) => f.write_str(", reads and writes")?,
            (true, false) => f.write_str(", reads")?,
            (false, true) => f.write_str(", writes")?,
            (false, false) => f.write_str(", idle")?,
        }
        self.waiting.iter().try_for_each(|who| write!(f, "; {who}"))
    }
}

/// The descriptors that this thread's reactor watches, without those of the reactor itself.
pub fn descriptors() -> Vec<DescriptorInfo> {
    let Some(core) = core() else { return Vec::new() };
    let info = |listed: crate::reactor::Listed| {
        let gap = if listed.about.detail.is_empty() { "" } else { " " };
        DescriptorInfo {
            fd: listed.fd,
            what: format!("{}{gap}{}", listed.kind.name(), listed.about.detail),
            reads: listed.about.reads,
            writes: listed.about.writes,
            waiting: listed.about.waiting,
        }
    };
    let mut all: Vec<DescriptorInfo> = core.list_sources().into_iter().map(info).collect();
    all.sort_by_key(|info| info.fd);
    all
}
/// [`descriptors`] as text, one to a line (Eventlet's `format_hub_listeners`).
pub fn format_descriptors() -> String {
    let mut text = String::new();
    for descriptor in descriptors() {
        let _ = writeln!(text, "  {descriptor}");
    }
    text
}
