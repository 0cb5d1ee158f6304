//! Figures of a thread: what leaks first shows here.
use super::core;
use crate::green::hub::Hub;
use crate::greenlet::stack_figures;
use std::fmt;

/// What [`stats`] tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Green threads that have been spawned and have not ended.
    pub green_threads: usize,
    /// Green threads spawned so far.
    pub spawned: u64,
    /// How often a green thread has been given its turn to run.
    pub switches: u64,
    /// Delayed calls that wait.
    pub timers: usize,
    /// Descriptors watched, the reactor's own not counted.
    pub descriptors: usize,
    /// Jobs in the ready queue.
    pub ready: usize,
    /// Turns of the loop so far.
    pub turns: u64,
    /// Stacks made so far, of raw greenlets too, used or free.
    pub stacks: usize,
    /// Of these, those that are free and kept for the next green thread.
    pub stacks_cached: usize,
    /// Bytes of all stacks that are in memory.
    pub stack_memory: usize,
    /// Threads of the reactor's pool.
    pub pool_threads: usize,
    /// Of these, those at work.
    pub pool_busy: usize,
    /// Jobs that wait for a thread of the pool.
    pub pool_queued: usize,
}

/// Figures of this thread's reactor and its green threads. Most are there to be read; for the memory of stacks it asks the
/// system, which takes some microseconds, and a millisecond for a hundred thousand green threads.
///
/// ```
/// use twistlet::green::{debug, spawn};
///
/// spawn(|| ()).wait()?;
/// let stats = debug::stats();
/// assert_eq!((stats.green_threads, stats.spawned), (0, 1));
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub fn stats() -> Stats {
    let mut stats = Stats::default();
    if let Some(core) = core() {
        let loops = core.statistics();
        stats.timers = loops.timers;
        stats.descriptors = loops.descriptors;
        stats.ready = loops.ready;
        stats.turns = loops.turns;
        let pool = core.pool_figures();
        (stats.pool_threads, stats.pool_busy, stats.pool_queued) = (pool.threads, pool.busy, pool.queued);
    }
    if let Some(hub) = Hub::existing() {
        stats.green_threads = hub.alive();
        stats.spawned = hub.spawned();
        stats.switches = hub.switches();
    }
    let stacks = stack_figures();
    (stats.stacks, stats.stacks_cached, stats.stack_memory) = (stacks.made, stacks.free, stacks.resident);
    stats
}

/// Some lines of text.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stats { green_threads, spawned, switches, timers, descriptors, ready, turns, .. } = self;
        writeln!(f, "green threads: {green_threads} alive, {spawned} spawned, {switches} switches")?;
        writeln!(f, "loop: {turns} turns, {ready} ready, {timers} timers, {descriptors} descriptors")?;
        let memory = self.stack_memory / 1024;
        writeln!(f, "stacks: {} made, {} cached, {memory} KiB in memory", self.stacks, self.stacks_cached)?;
        let Stats { pool_threads, pool_busy, pool_queued, .. } = self;
        writeln!(f, "thread pool: {pool_threads} threads, {pool_busy} busy, {pool_queued} jobs queued")
    }
}
