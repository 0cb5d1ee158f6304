//! Green threads as reports tell of them: the list, the tree of who spawned whom, and the words for each.
use crate::green::hub::Hub;
use crate::green::hub::seen::{LOOP, MAIN};
use crate::green::task::{self, Task};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::panic::Location;
use std::time::{Duration, Instant};

/// One green thread that has not ended, as it was when it was asked about.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GreenInfo {
    /// Tells it from all others of its reactor, ended ones included; in the order of spawning.
    pub id: u64,
    /// The name it was given.
    pub name: Option<String>,
    /// Where it was spawned; `None` for MAIN.
    pub spawned_at: Option<&'static Location<'static>>,
    /// Who spawned it.
    pub spawned_by: Spawner,
    /// What it does.
    pub state: State,
    /// How long it has been pending or parked, to the precision of a turn of the loop.
    pub age: Option<Duration>,
    /// How long until it is to begin, where that is not at once.
    pub starts_in: Option<Duration>,
    /// It was killed, and has not unwound yet.
    pub is_killed: bool,
    /// Address space of its stack in bytes; `None` for MAIN, whose stack is the thread's.
    pub stack_size: Option<usize>,
    /// Bytes of its stack in use at the moment.
    pub stack_used: Option<usize>,
}

/// What a green thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It has not run yet.
    Pending,
    /// Its code runs.
    Running,
    /// It will go on in a later turn.
    Ready,
    /// It waits.
    Parked {
        /// For what, in words.
        reason: &'static str,
        /// The line that made it wait.
        at: &'static Location<'static>,
    },
}

/// Who spawned a green thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spawner {
    /// A callback of the reactor, or the program before it ran the reactor; of MAIN, nobody.
    Loop,
    /// The program's main function, or the thread's.
    Main,
    /// The green thread of this number, which may have ended since.
    GreenThread(u64),
}
impl Spawner {
    fn of(id: u64) -> Spawner {
        match id {
            LOOP => Spawner::Loop,
            MAIN => Spawner::Main,
            id => Spawner::GreenThread(id),
        }
    }
}
impl fmt::Display for Spawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Spawner::Loop => f.write_str("the loop"),
            Spawner::Main => f.write_str("MAIN"),
            Spawner::GreenThread(id) => write!(f, "#{id}"),
        }
    }
}

impl GreenInfo {
    fn of(task: &Task, now: Instant) -> GreenInfo {
        let sight = task.look();
        let (state, age) = match sight.state {
            task::State::Unstarted => (State::Pending, Some(now.saturating_duration_since(sight.since))),
            task::State::Parked => {
                let age = now.saturating_duration_since(sight.since);
                (State::Parked { reason: sight.reason, at: sight.site }, Some(age))
            }
            task::State::Queued => (State::Ready, None),
            _ => (State::Running, None),
        };
        GreenInfo {
            id: task.id(),
            name: task.own_name(),
            spawned_at: (task.id() != MAIN).then(|| task.spawned_at()),
            spawned_by: Spawner::of(task.parent()),
            state,
            age,
            starts_in: sight.start.map(|start| start.saturating_duration_since(now)),
            is_killed: sight.is_killed,
            stack_size: sight.stack_size,
            stack_used: sight.stack_used,
        }
    }
    /// Whether it is MAIN, which waits like a green thread where the loop was started by its first wait.
    pub fn is_main(&self) -> bool {
        self.id == MAIN
    }
    /// Who it is and what it does, without what the tree says anyway.
    fn write_state(&self, f: &mut impl fmt::Write) -> fmt::Result {
        match (&self.name, self.is_main()) {
            (Some(name), _) => write!(f, "#{} green thread '{name}'", self.id)?,
            (None, true) => f.write_str("MAIN")?,
            (None, false) => write!(f, "#{} green thread", self.id)?,
        }
        match self.state {
            State::Pending => f.write_str(" has not begun")?,
            State::Running => f.write_str(" runs")?,
            State::Ready => f.write_str(" is about to go on")?,
            State::Parked { reason, at } => write!(f, " waits for {reason} at {at}")?,
        }
        if let Some(age) = self.age {
            write!(f, ", for {}", Short(age))?;
        }
        if let Some(left) = self.starts_in {
            write!(f, ", begins in {}", Short(left))?;
        }
        if self.is_killed {
            f.write_str(", killed")?;
        }
        Ok(())
    }
    fn write_rest(&self, f: &mut impl fmt::Write) -> fmt::Result {
        if let Some(site) = self.spawned_at {
            write!(f, "; spawned at {site}")?;
        }
        if let (Some(used), Some(size)) = (self.stack_used, self.stack_size) {
            write!(f, "; stack {:.1} of {} KiB", used as f64 / 1024.0, size / 1024)?;
        }
        Ok(())
    }
}
/// One line.
impl fmt::Display for GreenInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_state(f)?;
        self.write_rest(f)?;
        if self.spawned_at.is_some() {
            write!(f, "; by {}", self.spawned_by)?;
        }
        Ok(())
    }
}

/// A length of time as people read it.
pub(super) struct Short(pub(super) Duration);
impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            long if long >= Duration::from_secs(100) => write!(f, "{} s", long.as_secs()),
            medium if medium >= Duration::from_secs(1) => write!(f, "{:.1} s", medium.as_secs_f64()),
            short => write!(f, "{:.1} ms", short.as_secs_f64() * 1000.0),
        }
    }
}

/// Every green thread of this OS thread that has not ended, the oldest first; MAIN too, where it waits like one (gevent's
/// `get_running_greenlets`). Raw greenlets are not in it.
///
/// ```
/// use twistlet::green::{debug, spawn, yield_now};
///
/// let idle = twistlet::green::Event::<()>::new();
/// let waits = idle.clone();
/// let thread = spawn(move || waits.wait());
/// yield_now();
/// let all = debug::green_threads();
/// assert!(matches!(all.last().map(|info| info.state), Some(debug::State::Parked { reason: "an Event", .. })));
/// # idle.send(());
/// # thread.wait()?;
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub fn green_threads() -> Vec<GreenInfo> {
    Hub::existing().map(|hub| look(&hub)).unwrap_or_default()
}
fn look(hub: &Hub) -> Vec<GreenInfo> {
    let now = hub.core().fresh_now();
    hub.everybody().iter().map(|task| GreenInfo::of(task, now)).collect()
}
/// The first of them, and how many there are.
pub(in crate::green) fn first(most: usize) -> (Vec<GreenInfo>, usize) {
    let Some(hub) = Hub::existing() else { return (Vec::new(), 0) };
    let now = hub.core().fresh_now();
    let all = hub.everybody();
    (all.iter().take(most).map(|task| GreenInfo::of(task, now)).collect(), all.len())
}
/// [`green_threads`] as text, one to a line.
pub fn format_green_threads() -> String {
    lines(green_threads().iter())
}
/// What a deadlock tells: everybody who waits.
pub(in crate::green) fn format_parked(hub: &Hub) -> String {
    let all = look(hub);
    lines(all.iter().filter(|info| matches!(info.state, State::Parked { .. })))
}
fn lines<'a>(all: impl Iterator<Item = &'a GreenInfo>) -> String {
    let mut text = String::new();
    for info in all {
        let _ = writeln!(text, "  {info}");
    }
    text
}

/// A green thread in the tree of who spawned whom.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Branch {
    /// So many of its ancestors live: 0 at the root.
    pub depth: usize,
    /// Itself.
    pub thread: GreenInfo,
}

/// [`green_threads`] as a tree by spawner: each is followed by those it spawned. At the root are those whom the loop spawned,
/// or somebody who has ended.
pub fn tree() -> Vec<Branch> {
    let all = green_threads();
    let alive: BTreeSet<u64> = all.iter().map(|info| info.id).collect();
    // Latest first: they are taken from the end.
    let mut children: BTreeMap<Option<u64>, Vec<GreenInfo>> = BTreeMap::new();
    for info in all.into_iter().rev() {
        let parent = match info.spawned_by {
            Spawner::Loop => None,
            Spawner::Main => Some(MAIN),
            Spawner::GreenThread(id) => Some(id),
        };
        children.entry(parent.filter(|parent| alive.contains(parent))).or_default().push(info);
    }
    let mut tree = Vec::new();
    let mut path = vec![None];
    while let Some(parent) = path.last() {
        match children.get_mut(parent).and_then(Vec::pop) {
            Some(thread) => {
                path.push(Some(thread.id));
                tree.push(Branch { depth: path.len() - 2, thread });
            }
            None => drop(path.pop()),
        }
    }
    tree
}
/// [`tree`] as text (gevent's `print_run_info`).
pub fn format_tree() -> String {
    let tree = tree();
    let alive: BTreeSet<u64> = tree.iter().map(|branch| branch.thread.id).collect();
    let mut text = String::new();
    for Branch { depth, thread } in &tree {
        let _ = write!(text, "{:1$}", "", 2 + 2 * depth);
        let _ = thread.write_state(&mut text).and_then(|()| thread.write_rest(&mut text));
        if let Spawner::GreenThread(id) = thread.spawned_by
            && !alive.contains(&id)
        {
            let _ = write!(text, " by #{id}, which has ended");
        }
        text.push('\n');
    }
    text
}

/// Kills the green thread of this number, as [`GreenThread::kill`](crate::green::GreenThread::kill). `false`: there is none,
/// or it is MAIN, or it was killed before.
pub fn kill(id: u64) -> bool {
    let Some(task) = Hub::existing().and_then(|hub| hub.by_id(id)) else { return false };
    let fresh = !task.look().is_killed;
    task.kill();
    fresh
}
