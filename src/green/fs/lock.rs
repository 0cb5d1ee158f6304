//! Locks on files. One may be held by another process for ever, so whoever waits for it waits on an OS thread of its own: the
//! pool's would all be taken, also from whoever is to unlock.
//!
//! What must never happen here: a lock taken for a green thread that has been killed.
use super::{File, TryLockError};
use crate::deferred::Deferred;
use crate::failure::Failure;
use crate::green::block_on;
use crate::green::hub::Hub;
use std::fs;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// What the thread and whoever waits agree on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Claim {
    Waiting,
    Taken,
    GivenUp,
}

impl File {
    /// Locks the file for this open file alone (flock), as [`std::fs::File::lock`]. Released by [`unlock`](File::unlock), or
    /// when the last clone is closed.
    ///
    /// # Errors
    /// As std's.
    ///
    /// # Panics
    /// In the main loop and its callbacks, when it has to wait.
    ///
    /// # Blocking
    /// Until nobody else has it. A green thread that is killed meanwhile does not get it; its OS thread goes when the lock
    /// was free once.
    #[track_caller]
    pub fn lock(&self) -> io::Result<()> {
        match self.inner.try_lock() {
            Err(TryLockError::WouldBlock) => self.wait_for_lock(fs::File::lock),
            done => done.map_err(io::Error::from),
        }
    }
    /// As [`lock`](File::lock), but others may have it `lock_shared` at the same time.
    ///
    /// # Errors
    /// As std's.
    ///
    /// # Panics
    /// As `lock`.
    ///
    /// # Blocking
    /// As `lock`.
    #[track_caller]
    pub fn lock_shared(&self) -> io::Result<()> {
        match self.inner.try_lock_shared() {
            Err(TryLockError::WouldBlock) => self.wait_for_lock(fs::File::lock_shared),
            done => done.map_err(io::Error::from),
        }
    }
    /// Locks it if that is possible now. Never waits.
    ///
    /// # Errors
    /// `WouldBlock` when somebody else has it.
    pub fn try_lock(&self) -> Result<(), TryLockError> {
        self.inner.try_lock()
    }
    /// Locks it to share, if that is possible now. Never waits.
    ///
    /// # Errors
    /// `WouldBlock` when somebody else has it for himself.
    pub fn try_lock_shared(&self) -> Result<(), TryLockError> {
        self.inner.try_lock_shared()
    }
    /// Gives the lock back. Never waits.
    ///
    /// # Errors
    /// As std's.
    pub fn unlock(&self) -> io::Result<()> {
        self.inner.unlock()
    }

    #[track_caller]
    fn wait_for_lock(&self, lock: fn(&fs::File) -> io::Result<()>) -> io::Result<()> {
        if std::thread::panicking() || Hub::current().is_none_or(|hub| hub.is_stopped()) {
            return lock(&self.inner);
        }
        let claim = Arc::new(Mutex::new(Claim::Waiting));
        let (file, theirs) = (Arc::clone(&self.inner), Arc::clone(&claim));
        let (promise, locked) = Deferred::from_thread();
        std::thread::Builder::new().name("twistlet-lock".to_owned()).spawn(move || {
            let outcome = lock(&file);
            if outcome.is_ok() {
                let mut claim = theirs.lock().unwrap_or_else(PoisonError::into_inner);
                if *claim == Claim::GivenUp {
                    // Fails only for a descriptor that is none.
                    let _ = file.unlock();
                    return;
                }
                *claim = Claim::Taken;
            }
            promise.callback(outcome);
        })?;
        let given_up = GiveUp { file: &self.inner, claim: &claim };
        let outcome: Result<io::Result<()>, Failure> = block_on(locked);
        std::mem::forget(given_up);
        outcome?
    }
}

/// Whoever waited has been interrupted.
struct GiveUp<'a> {
    file: &'a fs::File,
    claim: &'a Mutex<Claim>,
}
impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        let mut claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        if *claim == Claim::Taken {
            let _ = self.file.unlock();
        }
        *claim = Claim::GivenUp;
    }
}
