//! `DagPool`: jobs that wait for each other's results, by name.
//!
//! Each key has a result, or a job that will give one, or those who wait for one; each who waits has a box into which the keys
//! fall as they come. What must never happen here: a value cloned or dropped, or a job's function called, while the table is
//! borrowed. (Keys are compared and hashed while it is: their `Hash` and `Eq` must not use the pool.)
use super::green_thread::{GreenThread, spawn};
use super::task::Waiters;
use crate::deferred::IntoDeferred;
use crate::error::ReactorError;
use crate::failure::{Failure, Result};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::error::Error;
use std::fmt::{self, Debug};
use std::hash::Hash;
use std::rc::Rc;

/// Jobs that wait for each other's results, by name (Eventlet's `DAGPool`): a graph without circles. Clones are the same pool.
///
/// Every job is given a key, and the keys whose values it needs; these may be spawned later, or [`post`](DagPool::post)ed. It
/// starts at once, and waits where it takes what it needs.
///
/// ```
/// use twistlet::green::dag_pool::DagPool;
///
/// let pool = DagPool::new();
/// pool.spawn("sum", ["a", "b"], |values| values.map(|pair| Ok(pair?.1)).sum::<twistlet::Result<i32>>())?;
/// pool.spawn("a", [], |_| Ok(1))?;
/// pool.post("b", 2)?;
/// assert_eq!(pool.get("sum")?, 3);
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct DagPool<K: 'static, V: 'static>(Rc<RefCell<Table<K, V>>>);

/// What a key of a [`DagPool`] is; `Debug` is for messages. Its `Eq`, `Hash` and `Clone` must not use the pool.
pub trait Key: Eq + Hash + Clone + Debug + 'static {}
impl<K: Eq + Hash + Clone + Debug + 'static> Key for K {}

struct Table<K, V: 'static> {
    results: HashMap<K, Rc<Result<V>>>,
    jobs: HashMap<K, Job<K, V>>,
    /// Who waits for a key.
    waiting: HashMap<K, Vec<Rc<Mailbox<K>>>>,
}
struct Job<K, V: 'static> {
    thread: Rc<GreenThread<V>>,
    inputs: Rc<Mailbox<K>>,
}
/// What somebody waits for.
struct Mailbox<K> {
    missing: RefCell<HashSet<K>>,
    arrived: RefCell<VecDeque<K>>,
    news: Waiters,
}

/// Values of keys, as they come: what a job of a [`DagPool`] is given, and what [`DagPool::wait_each`] gives.
///
/// # Errors
/// An item is a [`PropagateError`] where the key has none, since what was to give it failed. Where the wait itself cannot go on
/// ([`Deadlock`](crate::error::Deadlock) on MAIN, [`ReactorError::Stopped`]), that is the last item.
///
/// # Blocking
/// `next` waits until the next value is there.
pub struct Values<K: Key, V: 'static> {
    pool: DagPool<K, V>,
    inputs: Rc<Mailbox<K>>,
    broken: bool,
}

/// The key has a value, or a job that is to give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collision {
    /// The key.
    pub key: String,
}
impl fmt::Display for Collision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the key {} is taken: it has a value, or a job that is to give one", self.key)
    }
}
impl Error for Collision {}

/// A value will never come: its job failed, was killed, or lacks a value itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PropagateError {
    /// The key.
    pub key: String,
    /// What its job failed with; another `PropagateError` where it was not the first.
    pub cause: Failure,
}
impl fmt::Display for PropagateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no value of {}: {}", self.key, self.cause)
    }
}
impl Error for PropagateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.cause.error())
    }
}

impl<K: Key, V: Clone + 'static> DagPool<K, V> {
    /// One without keys.
    pub fn new() -> Self {
        DagPool(Rc::new(RefCell::new(Table { results: HashMap::new(), jobs: HashMap::new(), waiting: HashMap::new() })))
    }
    /// Runs `f` in a green thread; what it returns becomes the value of `key`. It is given the values of `needs` as they come.
    /// Never waits.
    ///
    /// # Errors
    /// [`Collision`], and nothing is run.
    #[track_caller]
    pub fn spawn<R: IntoDeferred<Value = V> + 'static>(
        &self,
        key: K,
        needs: impl IntoIterator<Item = K>,
        f: impl FnOnce(Values<K, V>) -> R + 'static,
    ) -> Result<(), Collision> {
        self.free(&key)?;
        let values = self.wait_each(needs);
        // Between two looks, `needs` is the caller's code.
        self.free(&key)?;
        let inputs = Rc::clone(&values.inputs);
        let (pool, name) = (self.clone(), key.clone());
        let job = spawn(move || f(values));
        job.set_name(&format!("the job of {key:?}"));
        job.link(move |outcome| match outcome {
            Ok(value) => pool.finish(name, Ok(value.clone())),
            Err(failure) => pool.finish(name, Err(failure.clone())),
        });
        // It has ended where there is no stack for it.
        if !job.is_finished() {
            let old = self.0.borrow_mut().jobs.insert(key, Job { thread: Rc::new(job), inputs });
            drop(old);
        }
        Ok(())
    }
    /// Gives a key its value. Never waits.
    ///
    /// # Errors
    /// [`Collision`], and nothing changes.
    pub fn post(&self, key: K, value: V) -> Result<(), Collision> {
        self.free(&key)?;
        self.finish(key, Ok(value));
        Ok(())
    }
    /// Gives a key that has a value, or failed, another; those who have taken the old one keep it. Never waits.
    ///
    /// # Errors
    /// [`Collision`] while the key's job runs.
    pub fn replace(&self, key: K, value: V) -> Result<(), Collision> {
        if self.0.borrow().jobs.contains_key(&key) {
            return Err(Collision { key: format!("{key:?}") });
        }
        self.finish(key, Ok(value));
        Ok(())
    }
    fn free(&self, key: &K) -> Result<(), Collision> {
        let table = self.0.borrow();
        if table.results.contains_key(key) || table.jobs.contains_key(key) {
            drop(table);
            return Err(Collision { key: format!("{key:?}") });
        }
        Ok(())
    }
    fn finish(&self, key: K, outcome: Result<V>) {
        let (old, waiting) = {
            let mut table = self.0.borrow_mut();
            let old = (table.jobs.remove(&key), table.results.insert(key.clone(), Rc::new(outcome)));
            (old, table.waiting.remove(&key))
        };
        drop(old);
        for mailbox in waiting.into_iter().flatten() {
            mailbox.deliver(key.clone());
        }
    }
    fn outcome(&self, key: &K) -> Option<Result<V>> {
        let outcome = self.0.borrow().results.get(key).cloned()?;
        Some(match &*outcome {
            Ok(value) => Ok(value.clone()),
            Err(cause) => Err(PropagateError { key: format!("{key:?}"), cause: cause.clone() }.into()),
        })
    }

    /// The value of a key, which need not have a job yet.
    ///
    /// # Errors
    /// [`PropagateError`]; [`ReactorError::Stopped`]; [`Deadlock`](crate::error::Deadlock) on MAIN.
    ///
    /// # Panics
    /// In the main loop and its callbacks, when the value is not there.
    ///
    /// # Blocking
    /// Until it is there.
    #[track_caller]
    pub fn get(&self, key: K) -> Result<V> {
        match self.wait_each([key]).next() {
            Some(pair) => pair.map(|(_, value)| value),
            None => Err(ReactorError::Stopped.into()),
        }
    }
    /// The values of some keys, all of them.
    ///
    /// # Errors
    /// As [`get`](DagPool::get): of the first that comes to nothing.
    ///
    /// # Panics
    /// As `get`.
    ///
    /// # Blocking
    /// Until the last of them is there, or one has failed.
    #[track_caller]
    pub fn wait(&self, keys: impl IntoIterator<Item = K>) -> Result<HashMap<K, V>> {
        let mut values = HashMap::new();
        for pair in self.wait_each(keys) {
            let (key, value) = pair?;
            values.insert(key, value);
        }
        Ok(values)
    }
    /// The values of all keys there are now.
    ///
    /// # Errors
    /// As [`wait`](DagPool::wait).
    ///
    /// # Panics
    /// As `get`.
    ///
    /// # Blocking
    /// As `wait`.
    #[track_caller]
    pub fn wait_all(&self) -> Result<HashMap<K, V>> {
        let keys: Vec<K> = {
            let table = self.0.borrow();
            table.results.keys().chain(table.jobs.keys()).cloned().collect()
        };
        self.wait(keys)
    }
    /// The values of some keys, one by one as they come. Never waits; taking them does.
    pub fn wait_each(&self, keys: impl IntoIterator<Item = K>) -> Values<K, V> {
        let mailbox =
            Rc::new(Mailbox { missing: RefCell::default(), arrived: RefCell::default(), news: Waiters::default() });
        let keys: HashSet<K> = keys.into_iter().collect();
        {
            let mut table = self.0.borrow_mut();
            for key in keys {
                if table.results.contains_key(&key) {
                    mailbox.arrived.borrow_mut().push_back(key);
                } else {
                    mailbox.missing.borrow_mut().insert(key.clone());
                    table.waiting.entry(key).or_default().push(Rc::clone(&mailbox));
                }
            }
        }
        Values { pool: self.clone(), inputs: mailbox, broken: false }
    }

    /// Kills the job of a key: those who wait for it get a [`PropagateError`] whose cause is
    /// [`Killed`](crate::error::Killed). Never waits. `false`: it has none that runs.
    pub fn kill(&self, key: &K) -> bool {
        let thread = self.0.borrow().jobs.get(key).map(|job| Rc::clone(&job.thread));
        if let Some(thread) = &thread {
            thread.kill();
        }
        thread.is_some()
    }
    /// How many jobs there are that have not ended.
    pub fn running(&self) -> usize {
        self.0.borrow().jobs.len()
    }
    /// The keys of the jobs that have not ended.
    pub fn running_keys(&self) -> Vec<K> {
        self.0.borrow().jobs.keys().cloned().collect()
    }
    /// How many of the jobs lack a value.
    pub fn waiting(&self) -> usize {
        self.0.borrow().jobs.values().filter(|job| !job.inputs.missing.borrow().is_empty()).count()
    }
    /// What the job of a key lacks; nothing where there is no such job.
    pub fn waiting_for(&self, key: &K) -> HashSet<K> {
        let inputs = self.0.borrow().jobs.get(key).map(|job| Rc::clone(&job.inputs));
        inputs.map(|inputs| inputs.missing.borrow().clone()).unwrap_or_default()
    }
    /// The values there are.
    pub fn items(&self) -> Vec<(K, V)> {
        let results: Vec<_> = {
            let table = self.0.borrow();
            table.results.iter().map(|(key, outcome)| (key.clone(), Rc::clone(outcome))).collect()
        };
        let values = results.into_iter().map(|(key, outcome)| outcome.as_ref().clone().map(|value| (key, value)));
        values.flatten().collect()
    }
}

impl<K: Key> Mailbox<K> {
    fn deliver(&self, key: K) {
        self.missing.borrow_mut().remove(&key);
        self.arrived.borrow_mut().push_back(key);
        self.news.wake_one();
    }
}

impl<K: Key, V: Clone + 'static> Iterator for Values<K, V> {
    type Item = Result<(K, V)>;
    #[track_caller]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.broken {
                return None;
            }
            let arrived = self.inputs.arrived.borrow_mut().pop_front();
            if let Some(key) = arrived {
                // There for ever.
                let outcome = self.pool.outcome(&key)?;
                return Some(outcome.map(|value| (key, value)));
            }
            if self.inputs.missing.borrow().is_empty() {
                return None;
            }
            if let Err(failure) = self.inputs.news.wait("a value of a DagPool", None) {
                self.broken = true;
                return Some(Err(failure));
            }
        }
    }
}
impl<K: Key, V: Clone + 'static> std::iter::FusedIterator for Values<K, V> {}
impl<K: Key, V: 'static> Drop for Values<K, V> {
    /// Nobody takes what still comes.
    fn drop(&mut self) {
        let mut gone = Vec::new();
        let missing = self.inputs.missing.take();
        let mut table = self.pool.0.borrow_mut();
        for key in &missing {
            if let Some(waiting) = table.waiting.get_mut(key) {
                waiting.retain(|mailbox| !Rc::ptr_eq(mailbox, &self.inputs));
                if waiting.is_empty() {
                    gone.extend(table.waiting.remove_entry(key));
                }
            }
        }
        drop(table);
        drop(gone);
    }
}
impl<K: Key, V: 'static> Debug for Values<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Values").field("missing", &self.inputs.missing.borrow().len()).finish_non_exhaustive()
    }
}

impl<K: Key, V: Clone + 'static> Default for DagPool<K, V> {
    fn default() -> Self {
        DagPool::new()
    }
}
/// The same pool.
impl<K: 'static, V: 'static> Clone for DagPool<K, V> {
    fn clone(&self) -> Self {
        DagPool(Rc::clone(&self.0))
    }
}
impl<K: 'static, V: 'static> Debug for DagPool<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.0.borrow();
        f.debug_struct("DagPool").field("results", &table.results.len()).field("running", &table.jobs.len()).finish()
    }
}
