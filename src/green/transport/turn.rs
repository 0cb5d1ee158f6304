//! `Turn`: the right to read from a connection, which goes round in the order it was asked for (G9).
//!
//! One who reads has it from the first look until it has what it wants, so that a message, or the n bytes of a `read_n`, goes to
//! one reader whole. Left in whatever way, unwinding included, it goes to the next, who looks whether anything is left.
use super::conn::Conn;
use crate::error::{Busy, TimedOut};
use crate::failure::{Failure, Result};
use crate::reactor::Core;
use std::time::{Duration, Instant};

pub(super) struct Turn<'a> {
    conn: &'a Conn,
    /// It began before the connection ended.
    early: bool,
}

impl Conn {
    /// Waits for the turn.
    ///
    /// # Errors
    /// `Busy` for a decoder that reads its own connection; as `prepare` and `park`.
    #[track_caller]
    pub(super) fn turn(&self) -> Result<Turn<'_>> {
        self.turn_within(&mut Limit::new(None))
    }
    /// The same, within `limit`.
    #[track_caller]
    pub(super) fn turn_within(&self, limit: &mut Limit) -> Result<Turn<'_>> {
        let early = !self.is_over();
        if self.taken.get() {
            if self.is_decoding_here() {
                return Err(busy("a call made by that decoder"));
            }
            if limit.is_zero() || !self.line.wait("its turn to read", limit.left())? {
                return Err(limit.failure());
            }
        }
        self.taken.set(true);
        Ok(Turn { conn: self, early })
    }
}
impl Turn<'_> {
    #[track_caller]
    pub(super) fn wait_input(&self, limit: Option<Duration>) -> Result<bool> {
        self.conn.wait_input(limit)
    }
    /// At the end of the input: the error that this reader must hear of.
    pub(super) fn tell_end(&self) -> Result<()> {
        self.conn.tell_end(self.early)
    }
}
impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // It is handed over as it is, taken.
        if !self.conn.line.wake_one() {
            self.conn.taken.set(false);
        }
    }
}

#[cold]
pub(super) fn busy(refused: &str) -> Failure {
    Busy { holder: "the decoder of this connection".to_owned(), refused: refused.to_owned() }.into()
}

/// How long a read may take in all, on the reactor's clock.
pub(super) struct Limit {
    limit: Option<Duration>,
    /// Known from the first wait on.
    deadline: Option<Instant>,
}
impl Limit {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Limit { limit, deadline: None }
    }
    pub(super) fn is_zero(&self) -> bool {
        self.limit == Some(Duration::ZERO)
    }
    /// What is left of it; `None` for ever.
    pub(super) fn left(&mut self) -> Option<Duration> {
        let limit = self.limit?;
        // Without a reactor there is nothing to wait for either.
        let now = Core::current().map_or_else(Instant::now, |core| core.fresh_now());
        match self.deadline {
            Some(deadline) => Some(deadline.saturating_duration_since(now)),
            None => {
                self.deadline = Some(now.checked_add(limit)?);
                Some(limit)
            }
        }
    }
    pub(super) fn failure(&self) -> Failure {
        TimedOut(self.limit.unwrap_or(Duration::MAX)).into()
    }
}
