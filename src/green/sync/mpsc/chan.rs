//! What the two ends of a channel share: items, who waits for them, who waits for room.
//!
//! What must never happen here: an item dropped, which is user code, or a switch, under the lock.
use crate::failure::Result;
use crate::green::task::remote_waker::{RemoteWaker, Sleeper, is_stopped};
use std::collections::VecDeque;
use std::sync::mpsc::{RecvTimeoutError, TryRecvError, TrySendError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(super) struct Chan<T>(Mutex<State<T>>);

struct State<T> {
    items: VecDeque<T>,
    /// `None`: without a bound.
    bound: Option<usize>,
    /// The receiver, while it waits.
    receiver: Option<RemoteWaker>,
    receiver_is_gone: bool,
    senders: usize,
    putters: VecDeque<Putter<T>>,
    next_putter: u64,
}
/// A sender who waits for room, with what it has to send.
struct Putter<T> {
    number: u64,
    waker: RemoteWaker,
    item: T,
}

impl<T> State<T> {
    /// The item of the first who waits for room, who goes on.
    fn next_putter(&mut self) -> Option<T> {
        // Those who unwind already keep their items.
        let at = self.putters.iter().position(|putter| putter.waker.wake())?;
        self.putters.remove(at).map(|putter| putter.item)
    }
    fn take(&mut self) -> Option<T> {
        let Some(item) = self.items.pop_front() else { return self.next_putter() };
        while self.bound.is_some_and(|bound| self.items.len() < bound) {
            match self.next_putter() {
                Some(next) => self.items.push_back(next),
                None => break,
            }
        }
        Some(item)
    }
    fn wake_receiver(&mut self) -> bool {
        self.receiver.take().is_some_and(|receiver| receiver.wake())
    }
    /// Room, or a receiver that waits.
    fn put(&mut self, item: T) -> Result<(), TrySendError<T>> {
        if self.receiver_is_gone {
            return Err(TrySendError::Disconnected(item));
        }
        let has_room = match self.bound {
            None => true,
            Some(0) => return self.hand_over(item),
            Some(bound) => self.items.len() < bound && self.putters.is_empty(),
        };
        if !has_room {
            return Err(TrySendError::Full(item));
        }
        self.items.push_back(item);
        self.wake_receiver();
        Ok(())
    }
    fn hand_over(&mut self, item: T) -> Result<(), TrySendError<T>> {
        if !self.wake_receiver() {
            return Err(TrySendError::Full(item));
        }
        self.items.push_back(item);
        Ok(())
    }
}

impl<T> Chan<T> {
    pub(super) fn new(bound: Option<usize>) -> Self {
        Chan(Mutex::new(State {
            items: VecDeque::new(),
            bound,
            receiver: None,
            receiver_is_gone: false,
            senders: 1,
            putters: VecDeque::new(),
            next_putter: 0,
        }))
    }
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub(super) fn add_sender(&self) {
        self.lock().senders += 1;
    }
    pub(super) fn remove_sender(&self) {
        let mut state = self.lock();
        state.senders -= 1;
        if state.senders == 0 {
            state.wake_receiver();
        }
    }
    pub(super) fn remove_receiver(&self) {
        let items = {
            let mut state = self.lock();
            state.receiver_is_gone = true;
            // They take their items back.
            for putter in &state.putters {
                putter.waker.wake();
            }
            std::mem::take(&mut state.items)
        };
        drop(items);
    }

    pub(super) fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        self.lock().put(item)
    }
    /// The item comes back where the receiver is gone, or nothing may wait.
    #[track_caller]
    pub(super) fn send(&self, item: T) -> Result<(), T> {
        let mut item = match self.try_send(item) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Disconnected(item)) => return Err(item),
            Err(TrySendError::Full(item)) => item,
        };
        loop {
            // A kill that is due already unwinds here, with the item.
            let Ok(sleeper) = Sleeper::new() else { return Err(item) };
            let number = {
                let mut state = self.lock();
                // Perhaps there is room by now, or nobody to take it.
                item = match state.put(item) {
                    Ok(()) => return Ok(()),
                    Err(TrySendError::Disconnected(item)) => return Err(item),
                    Err(TrySendError::Full(item)) => item,
                };
                let number = state.next_putter;
                state.next_putter += 1;
                state.putters.push_back(Putter { number, waker: sleeper.waker(), item });
                number
            };
            let withdraw = Withdraw(self, number);
            let stopped = loop {
                let parked = sleeper.park("room in a channel", None);
                let state = self.lock();
                let is_there = state.putters.iter().any(|putter| putter.number == number);
                match parked {
                    _ if !is_there => return Ok(()),
                    Ok(_) if !state.receiver_is_gone => {}
                    Ok(_) => break false,
                    Err(failure) => break is_stopped(&failure),
                }
            };
            let Some(back) = withdraw.take() else { return Ok(()) };
            if !stopped {
                return Err(back);
            }
            item = back;
        }
    }

    pub(super) fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut state = self.lock();
        match state.take() {
            Some(item) => Ok(item),
            None if state.senders == 0 => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }
    #[track_caller]
    pub(super) fn recv(&self, limit: Option<Duration>) -> Result<T, RecvTimeoutError> {
        let mut end = None;
        let mut sleeper: Option<Sleeper> = None;
        let mut is_late = limit == Some(Duration::ZERO);
        loop {
            {
                let mut state = self.lock();
                match state.take() {
                    Some(item) => return Ok(item),
                    None if state.senders == 0 => return Err(RecvTimeoutError::Disconnected),
                    None if is_late => return Err(RecvTimeoutError::Timeout),
                    None => {}
                }
                if let Some(sleeper) = &sleeper {
                    state.receiver = Some(sleeper.waker());
                }
            }
            let Some(waits) = &sleeper else {
                match Sleeper::new() {
                    Ok(made) => sleeper = Some(made),
                    // Nothing waits while it unwinds.
                    Err(_) if limit.is_some() => return Err(RecvTimeoutError::Timeout),
                    Err(_) => return Err(RecvTimeoutError::Disconnected),
                }
                end = end.or_else(|| limit.and_then(|limit| Instant::now().checked_add(limit)));
                continue;
            };
            let forget = Forget(self);
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let parked = waits.park("an item in a channel", left);
            drop(forget);
            match parked {
                Ok(woken) => is_late = !woken,
                Err(failure) if is_stopped(&failure) => sleeper = None,
                Err(_) => return Err(RecvTimeoutError::Disconnected),
            }
        }
    }
}

/// Takes the receiver's waker out, however its wait ends.
struct Forget<'a, T>(&'a Chan<T>);
impl<T> Drop for Forget<'_, T> {
    fn drop(&mut self) {
        let waker = self.0.lock().receiver.take();
        drop(waker);
    }
}

/// Takes a putter out, unless somebody has taken its item.
struct Withdraw<'a, T>(&'a Chan<T>, u64);
impl<T> Withdraw<'_, T> {
    fn take(self) -> Option<T> {
        self.withdraw()
    }
    fn withdraw(&self) -> Option<T> {
        let mut state = self.0.lock();
        let at = state.putters.iter().position(|putter| putter.number == self.1)?;
        state.putters.remove(at).map(|putter| putter.item)
    }
}
impl<T> Drop for Withdraw<'_, T> {
    fn drop(&mut self) {
        let item = self.withdraw();
        drop(item);
    }
}
