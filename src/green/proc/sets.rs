//! Sets of procs: `ProcSet` keeps those that have ended, `RunningProcSet` forgets them.
//!
//! What must never happen here: a value dropped, which is user code, while a cell is borrowed.
use super::{LinkId, Proc, kill_all, kill_all_and_wait, spawn, wait_all, wait_all_trapped};
use crate::deferred::IntoDeferred;
use crate::failure::Result;
use crate::green::hub::Hub;
use std::cell::RefCell;
use std::fmt;
use std::rc::{Rc, Weak};

/// Procs that belong together, in the order they came.
///
/// ```
/// use twistlet::green::proc::ProcSet;
///
/// let mut squares = ProcSet::new();
/// for n in 0..5 {
///     squares.spawn(move || Ok(n * n));
/// }
/// assert_eq!(squares.wait_all()?, [0, 1, 4, 9, 16]);
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[derive(Debug)]
pub struct ProcSet<T: 'static>(Vec<Proc<T>>);

impl<T: 'static> ProcSet<T> {
    /// An empty one.
    pub fn new() -> Self {
        ProcSet(Vec::new())
    }
    /// Adds one, if it is not there.
    pub fn add(&mut self, proc: Proc<T>) {
        if !self.contains(&proc) {
            self.0.push(proc);
        }
    }
    /// [`proc::spawn`](super::spawn), added to the set.
    #[track_caller]
    pub fn spawn<R: IntoDeferred<Value = T> + 'static>(&mut self, f: impl FnOnce() -> R + 'static) -> Proc<T> {
        let new = spawn(f);
        self.0.push(new.clone());
        new
    }
    /// Whether this is one of them.
    pub fn contains(&self, proc: &Proc<T>) -> bool {
        self.0.contains(proc)
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Proc<T>> {
        self.0.iter()
    }
    /// [`proc::wait_all`](super::wait_all) of them.
    ///
    /// # Errors
    /// The failure that occurred first.
    ///
    /// # Blocking
    /// Until all have ended, or one has failed.
    #[track_caller]
    pub fn wait_all(&self) -> Result<Vec<T>>
    where
        T: Clone,
    {
        wait_all(self.0.iter().cloned())
    }
    /// [`proc::wait_all_trapped`](super::wait_all_trapped) of them.
    ///
    /// # Blocking
    /// Until all have ended.
    #[track_caller]
    pub fn wait_all_trapped(&self) -> Vec<Result<T>>
    where
        T: Clone,
    {
        wait_all_trapped(self.0.iter().cloned())
    }
    /// Kills them all. Does not wait.
    pub fn kill_all(&self) {
        kill_all(self.0.iter().cloned());
    }
    /// Kills them all, and waits until they have ended.
    ///
    /// # Errors
    /// As [`kill_all_and_wait`](super::kill_all_and_wait).
    ///
    /// # Blocking
    /// Until all have ended.
    #[track_caller]
    pub fn kill_all_and_wait(&self) -> Result {
        kill_all_and_wait(self.0.iter().cloned())
    }
}
impl<T> Default for ProcSet<T> {
    fn default() -> Self {
        ProcSet::new()
    }
}
impl<T: 'static> FromIterator<Proc<T>> for ProcSet<T> {
    fn from_iter<I: IntoIterator<Item = Proc<T>>>(procs: I) -> Self {
        let mut set = ProcSet::new();
        set.extend(procs);
        set
    }
}
impl<T: 'static> Extend<Proc<T>> for ProcSet<T> {
    fn extend<I: IntoIterator<Item = Proc<T>>>(&mut self, procs: I) {
        for proc in procs {
            self.add(proc);
        }
    }
}
impl<'a, T: 'static> IntoIterator for &'a ProcSet<T> {
    type Item = &'a Proc<T>;
    type IntoIter = std::slice::Iter<'a, Proc<T>>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Procs that run: each leaves the set when it has ended (Eventlet's `RunningProcSet`). Clones are the same set.
///
/// ```
/// use twistlet::green::proc::RunningProcSet;
///
/// let running = RunningProcSet::new();
/// let more = running.clone();
/// running.spawn(move || drop(more.spawn(|| println!("spawned by a member"))));
/// running.wait_all()?; // those that are added meanwhile included
/// assert!(running.is_empty());
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct RunningProcSet<T: 'static = ()>(Rc<RefCell<Members<T>>>);
type Members<T> = Vec<(Proc<T>, LinkId)>;

impl<T: 'static> RunningProcSet<T> {
    /// An empty one.
    pub fn new() -> Self {
        RunningProcSet(Rc::default())
    }
    /// Adds one; one that has ended is not kept.
    pub fn add(&self, proc: Proc<T>) {
        if proc.ready() || self.contains(&proc) {
            return;
        }
        let (set, task) = (Rc::downgrade(&self.0), Rc::downgrade(&proc.task));
        let link = proc.source.at_end(move || leave(&set, &task));
        self.0.borrow_mut().push((proc, link));
    }
    /// [`proc::spawn`](super::spawn), added to the set.
    #[track_caller]
    pub fn spawn<R: IntoDeferred<Value = T> + 'static>(&self, f: impl FnOnce() -> R + 'static) -> Proc<T> {
        let new = spawn(f);
        self.add(new.clone());
        new
    }
    /// Takes one out, which runs on. Returns whether it was there.
    pub fn discard(&self, proc: &Proc<T>) -> bool {
        let member = {
            let mut members = self.0.borrow_mut();
            let position = members.iter().position(|(member, _)| member == proc);
            position.map(|position| members.remove(position))
        };
        member.is_some_and(|(member, link)| member.unlink(link))
    }
    /// Whether this is one of them.
    pub fn contains(&self, proc: &Proc<T>) -> bool {
        self.0.borrow().iter().any(|(member, _)| member == proc)
    }
    /// Whether the green thread that calls this is one of them (Eventlet's `getcurrent() in set`).
    pub fn contains_current(&self) -> bool {
        let running = Hub::existing().and_then(|hub| hub.running());
        running.is_some_and(|task| self.0.borrow().iter().any(|(member, _)| Rc::ptr_eq(&member.task, &task)))
    }
    /// How many run.
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }
    /// Whether none do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Those that run now.
    pub fn procs(&self) -> Vec<Proc<T>> {
        self.0.borrow().iter().map(|(member, _)| member.clone()).collect()
    }
    /// Waits until none runs, those that are added meanwhile included. Outcomes are for those who hold the procs.
    ///
    /// # Errors
    /// [`WaitsForItself`](crate::error::WaitsForItself) in a member;
    /// [`ReactorError::Stopped`](crate::error::ReactorError::Stopped); [`Deadlock`](crate::error::Deadlock) on MAIN.
    ///
    /// # Panics
    /// In the main loop and its callbacks, while any runs.
    ///
    /// # Blocking
    /// Until none runs.
    #[track_caller]
    pub fn wait_all(&self) -> Result {
        loop {
            let first = self.0.borrow().first().map(|(member, _)| member.clone());
            let Some(first) = first else { return Ok(()) };
            first.source.wait_end()?;
            // Its link is told in a turn of its own; waiting for that is not needed.
            self.discard(&first);
        }
    }
    /// Kills them all. Does not wait.
    pub fn kill_all(&self) {
        kill_all(self.procs());
    }
    /// Kills them all, and waits until they have ended.
    ///
    /// # Errors
    /// As [`kill_all_and_wait`](super::kill_all_and_wait).
    ///
    /// # Blocking
    /// Until all have ended.
    #[track_caller]
    pub fn kill_all_and_wait(&self) -> Result {
        kill_all_and_wait(self.procs())
    }
}
/// One has ended.
fn leave<T>(set: &Weak<RefCell<Members<T>>>, task: &Weak<crate::green::task::Task>) {
    let Some(set) = set.upgrade() else { return };
    let member = {
        let mut members = set.borrow_mut();
        let position = members.iter().position(|(member, _)| std::ptr::eq(Rc::as_ptr(&member.task), task.as_ptr()));
        position.map(|position| members.remove(position))
    };
    drop(member);
}

/// The same set.
impl<T> Clone for RunningProcSet<T> {
    fn clone(&self) -> Self {
        RunningProcSet(Rc::clone(&self.0))
    }
}
impl<T> Default for RunningProcSet<T> {
    fn default() -> Self {
        RunningProcSet::new()
    }
}
impl<T: 'static> FromIterator<Proc<T>> for RunningProcSet<T> {
    fn from_iter<I: IntoIterator<Item = Proc<T>>>(procs: I) -> Self {
        let set = RunningProcSet::new();
        procs.into_iter().for_each(|proc| set.add(proc));
        set
    }
}
impl<T> fmt::Debug for RunningProcSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.procs()).finish()
    }
}
