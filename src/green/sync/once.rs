//! `Once`, `OnceLock`, `LazyLock`: std's, for initialisers that may wait, and be killed.
use super::line::{Line, insist};
use crate::failure;
use crate::green::task::remote_waker::this_thread;
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

const INCOMPLETE: u8 = 0;
const RUNNING: u8 = 1;
const COMPLETE: u8 = 2;
const POISONED: u8 = 3;

/// [`std::sync::Once`], in whose closure one may wait: the others who come meanwhile park.
///
/// A panic of the closure poisons it, as std's. A kill does not: the next who comes runs its own closure.
///
/// ```
/// use twistlet::green::sync::Once;
///
/// static START: Once = Once::new();
/// let mut calls = 0;
/// START.call_once(|| calls += 1);
/// START.call_once(|| calls += 1);
/// assert!(START.is_completed() && calls == 1);
/// ```
pub struct Once {
    state: AtomicU8,
    /// The OS thread on which the closure runs.
    runner: AtomicUsize,
    line: Line,
}

/// What [`Once::call_once_force`] tells its closure.
pub struct OnceState(bool);
impl OnceState {
    /// Whether an earlier closure has panicked.
    pub fn is_poisoned(&self) -> bool {
        self.0
    }
}
impl fmt::Debug for OnceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnceState").field("poisoned", &self.0).finish()
    }
}

/// Leaves the state behind, however the closure ends.
struct Ending<'a> {
    once: &'a Once,
    before: u8,
    done: bool,
}
impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let state = match self.done {
            true => COMPLETE,
            false if failure::is_panicking() => POISONED,
            false => self.before,
        };
        self.once.runner.store(0, Ordering::Relaxed);
        self.once.state.store(state, Ordering::Release);
        if !self.once.line.is_still_empty() {
            self.once.line.call_all();
        }
    }
}

impl Once {
    /// One that has not been called.
    #[must_use]
    pub const fn new() -> Self {
        Once { state: AtomicU8::new(INCOMPLETE), runner: AtomicUsize::new(0), line: Line::new() }
    }
    /// Runs `f`, unless one has run to its end. When this returns, one has.
    ///
    /// # Panics
    /// When an earlier one has panicked. In the main loop and its callbacks, when another is still running. Where `f` does.
    ///
    /// # Blocking
    /// While another is running. One that calls itself waits for ever.
    #[track_caller]
    #[inline]
    pub fn call_once<F: FnOnce()>(&self, f: F) {
        if !self.is_completed() {
            let mut f = Some(f);
            self.call(false, &mut |_| f.take().into_iter().for_each(|f| f()));
        }
    }
    /// As [`call_once`](Once::call_once), also when an earlier one has panicked.
    ///
    /// # Panics
    /// In the main loop and its callbacks, when another is still running. Where `f` does.
    ///
    /// # Blocking
    /// As `call_once`.
    #[track_caller]
    #[inline]
    pub fn call_once_force<F: FnOnce(&OnceState)>(&self, f: F) {
        if !self.is_completed() {
            let mut f = Some(f);
            self.call(true, &mut |state| f.take().into_iter().for_each(|f| f(state)));
        }
    }
    /// Whether one has run to its end.
    #[inline]
    pub fn is_completed(&self) -> bool {
        self.state.load(Ordering::Acquire) == COMPLETE
    }
    /// Waits until one has run to its end.
    ///
    /// # Panics
    /// When one has panicked. In the main loop and its callbacks, when none has run.
    ///
    /// # Blocking
    /// Until then, also before anybody has called.
    #[track_caller]
    pub fn wait(&self) {
        self.wait_until_done(false);
    }
    /// As [`wait`](Once::wait); panics of closures are passed over.
    ///
    /// # Panics
    /// In the main loop and its callbacks, when none has run.
    ///
    /// # Blocking
    /// As `wait`.
    #[track_caller]
    pub fn wait_force(&self) {
        self.wait_until_done(true);
    }
    #[track_caller]
    fn wait_until_done(&self, force: bool) {
        loop {
            match self.state.load(Ordering::Acquire) {
                COMPLETE => return,
                POISONED if !force => poisoned(),
                state => self.wait_while(state),
            }
        }
    }
    #[cold]
    #[track_caller]
    fn call(&self, force: bool, f: &mut dyn FnMut(&OnceState)) {
        loop {
            match self.state.load(Ordering::Acquire) {
                COMPLETE => return,
                RUNNING => self.wait_while(RUNNING),
                POISONED if !force => poisoned(),
                before => {
                    let begun = self.state.compare_exchange(before, RUNNING, Ordering::Acquire, Ordering::Acquire);
                    if begun.is_ok() {
                        self.runner.store(this_thread(), Ordering::Relaxed);
                        let mut ending = Ending { once: self, before, done: false };
                        f(&OnceState(before == POISONED));
                        ending.done = true;
                        return;
                    }
                }
            }
        }
    }
    #[track_caller]
    fn wait_while(&self, state: u8) {
        let is_so = || self.state.load(Ordering::Acquire) == state;
        match self.line.be_called((), "a Once", None, is_so) {
            Ok(_) => {}
            Err(failure) if !std::thread::panicking() && crate::green::task::remote_waker::is_stopped(&failure) => {}
            Err(failure) => {
                let runs_here = || self.runner.load(Ordering::Relaxed) == this_thread();
                insist(&failure, "a Once", runs_here, || (!is_so()).then_some(()));
            }
        }
    }
}
#[cold]
#[track_caller]
fn poisoned() -> ! {
    panic!("the Once is poisoned: its closure has panicked before");
}
impl Default for Once {
    fn default() -> Self {
        Once::new()
    }
}
impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").finish_non_exhaustive()
    }
}
