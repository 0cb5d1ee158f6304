//! [`std::sync::mpsc`], whose waits park the green thread. Signatures and errors are std's.
//!
//! The two ends may be on different OS threads; what is sent must be `Send` for that, as ever. A receiver that is killed in its
//! wait takes nothing, and a sender that is killed while it waits for room has sent nothing, unless its item had been taken
//! already. In a destructor that runs because its green thread unwinds nothing waits: there a call that would fails at once, as
//! if the other end were gone, or the time up.
//!
//! | std | here |
//! |---|---|
//! | `channel`, `sync_channel` (0: a rendezvous), `Sender`, `SyncSender`, `Receiver`, `Iter`, `TryIter`, `IntoIter` | mirrored |
//! | `SendError`, `RecvError`, `TryRecvError`, `RecvTimeoutError`, `TrySendError` | std's own |
//! | unstable: `recv_deadline` | not mirrored |
mod chan;

pub use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};

use chan::Chan;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// A channel without a bound: sending never waits.
///
/// ```
/// use twistlet::green::sync::mpsc::channel;
/// use twistlet::green::thread;
///
/// let (send, recv) = channel();
/// for n in 0..3 {
///     let send = send.clone();
///     thread::spawn(move || send.send(n).unwrap());
/// }
/// drop(send);
/// assert_eq!(recv.iter().sum::<i32>(), 3);
/// ```
#[must_use]
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let chan = Arc::new(Chan::new(None));
    (Sender(Arc::clone(&chan)), Receiver { chan, stays_whole: PhantomData })
}
/// A channel with room for `bound` items: sending waits for room. With zero it is a rendezvous: sending waits until the item is
/// taken.
///
/// ```
/// use twistlet::green::sync::mpsc::sync_channel;
/// use twistlet::green::thread;
///
/// let (send, recv) = sync_channel(0);
/// let sender = thread::spawn(move || send.send("taken").unwrap());
/// assert_eq!(recv.recv(), Ok("taken"));
/// sender.join().unwrap();
/// ```
#[must_use]
pub fn sync_channel<T>(bound: usize) -> (SyncSender<T>, Receiver<T>) {
    let chan = Arc::new(Chan::new(Some(bound)));
    (SyncSender(Arc::clone(&chan)), Receiver { chan, stays_whole: PhantomData })
}

/// The sending end of a [`channel`]. Clones send to the same receiver.
pub struct Sender<T>(Arc<Chan<T>>);
/// The sending end of a [`sync_channel`]. Clones send to the same receiver.
pub struct SyncSender<T>(Arc<Chan<T>>);
/// The receiving end.
pub struct Receiver<T> {
    chan: Arc<Chan<T>>,
    /// Not for two threads at once.
    stays_whole: PhantomData<Cell<()>>,
}

impl<T> Sender<T> {
    /// Sends an item. Never waits.
    ///
    /// # Errors
    /// The item, when the receiver is gone.
    pub fn send(&self, t: T) -> Result<(), SendError<T>> {
        match self.0.try_send(t) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(t) | TrySendError::Disconnected(t)) => Err(SendError(t)),
        }
    }
}
impl<T> SyncSender<T> {
    /// Sends an item.
    ///
    /// # Errors
    /// The item, when the receiver is gone.
    ///
    /// # Panics
    /// In the main loop and its callbacks, when there is no room.
    ///
    /// # Blocking
    /// Until there is room; without any, until the item is handed over.
    #[track_caller]
    pub fn send(&self, t: T) -> Result<(), SendError<T>> {
        self.0.send(t).map_err(SendError)
    }
    /// Sends an item if there is room, or the receiver waits for it. Never waits.
    ///
    /// # Errors
    /// The item, when there is no room or the receiver is gone.
    pub fn try_send(&self, t: T) -> Result<(), TrySendError<T>> {
        self.0.try_send(t)
    }
}
macro_rules! sending_end {
    ($($sender:ident)*) => {$(
        impl<T> Clone for $sender<T> {
            fn clone(&self) -> Self {
                self.0.add_sender();
                $sender(Arc::clone(&self.0))
            }
        }
        impl<T> Drop for $sender<T> {
            fn drop(&mut self) {
                self.0.remove_sender();
            }
        }
        impl<T> fmt::Debug for $sender<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($sender)).finish_non_exhaustive()
            }
        }
    )*};
}
sending_end!(Sender SyncSender);

impl<T> Receiver<T> {
    /// Receives the oldest item.
    ///
    /// # Errors
    /// When there is none and all senders are gone.
    ///
    /// # Panics
    /// In the main loop and its callbacks, when it would wait.
    ///
    /// # Blocking
    /// Until there is one.
    #[track_caller]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.chan.recv(None).map_err(|_| RecvError)
    }
    /// Receives the oldest item, if there is one. Never waits.
    ///
    /// # Errors
    /// When there is none; whether there may be one later.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.chan.try_recv()
    }
    /// As [`recv`](Receiver::recv), no longer than `timeout`. Zero never waits.
    ///
    /// # Errors
    /// As `recv`, or when the time is up.
    ///
    /// # Panics
    /// As `recv`.
    ///
    /// # Blocking
    /// At most for `timeout`.
    #[track_caller]
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.chan.recv(Some(timeout))
    }
    /// Receives until all senders are gone.
    ///
    /// # Blocking
    /// `next` does, as [`recv`](Receiver::recv).
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { rx: self }
    }
    /// Receives what there is. Never waits.
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { rx: self }
    }
}
impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.chan.remove_receiver();
    }
}
impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

/// What [`Receiver::iter`] returns.
#[derive(Debug)]
pub struct Iter<'a, T: 'a> {
    rx: &'a Receiver<T>,
}
/// What [`Receiver::try_iter`] returns.
#[derive(Debug)]
pub struct TryIter<'a, T: 'a> {
    rx: &'a Receiver<T>,
}
/// What a [`Receiver`] becomes by `into_iter`.
#[derive(Debug)]
pub struct IntoIter<T> {
    rx: Receiver<T>,
}
impl<T> Iterator for Iter<'_, T> {
    type Item = T;
    #[track_caller]
    fn next(&mut self) -> Option<T> {
        self.rx.recv().ok()
    }
}
impl<T> Iterator for TryIter<'_, T> {
    type Item = T;
    fn next(&mut self) -> Option<T> {
        self.rx.try_recv().ok()
    }
}
impl<T> Iterator for IntoIter<T> {
    type Item = T;
    #[track_caller]
    fn next(&mut self) -> Option<T> {
        self.rx.recv().ok()
    }
}
impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;
    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}
impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;
    fn into_iter(self) -> IntoIter<T> {
        IntoIter { rx: self }
    }
}
