//! The bytes a line receiver has and has not delivered: nothing at most times, the beginning of a line, or the rest of a chunk
//! while its lines are delivered. Handlers may take them or add to them meanwhile, so a line being delivered is held by an
//! `Rc` of the buffer, not by a borrow.
use crate::protocols::codec::{Lines, find};
use std::cell::{Cell, RefCell};
use std::ops::{Deref, Range};
use std::rc::Rc;

/// Room for the beginning of a line that is kept as it is; more is given back.
const SMALL: usize = 1024;
/// Room that is kept for the next chunk with several lines, one buffer a thread.
const LARGE: usize = 512 * 1024;

thread_local! {
    static SPARE: Cell<Option<Rc<Vec<u8>>>> = const { Cell::new(None) };
}

#[derive(Default)]
pub(super) struct Unread {
    buffer: RefCell<Option<Rc<Vec<u8>>>>,
    /// The first byte of the buffer that is not delivered.
    at: Cell<usize>,
    /// No delimiter begins before this.
    searched: Cell<usize>,
}

/// Some of the bytes, on their way to the handler.
pub(super) struct Piece {
    buffer: Rc<Vec<u8>>,
    range: Range<usize>,
}
impl Deref for Piece {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.buffer[self.range.clone()]
    }
}

pub(super) enum Found {
    Line(Piece),
    /// A line above the limit: as much of it as there is, and where it ends if that is known.
    TooLong(Piece),
    Nothing,
}

impl Unread {
    pub(super) fn len(&self) -> usize {
        self.buffer.borrow().as_ref().map_or(0, |buffer| buffer.len() - self.at.get())
    }
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Appends.
    pub(super) fn push(&self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let at = self.at.get();
        let mut slot = self.buffer.borrow_mut();
        if let Some(buffer) = slot.as_mut().and_then(Rc::get_mut) {
            if at > 0 {
                buffer.drain(..at);
            }
            buffer.extend_from_slice(data);
        } else {
            // There is none, or a piece of it is being delivered.
            let mut buffer = SPARE.try_with(Cell::take).ok().flatten().unwrap_or_default();
            if Rc::get_mut(&mut buffer).is_none() {
                buffer = Rc::default();
            }
            if let Some(fresh) = Rc::get_mut(&mut buffer) {
                if let Some(old) = &*slot {
                    fresh.extend_from_slice(&old[at..]);
                }
                fresh.extend_from_slice(data);
            }
            *slot = Some(buffer);
        }
        self.at.set(0);
        self.searched.set(self.searched.get().saturating_sub(at));
    }
    /// Takes everything, as bytes of one's own.
    pub(super) fn take(&self) -> Vec<u8> {
        let at = self.at.replace(0);
        self.searched.set(0);
        let buffer = self.buffer.take();
        buffer.map_or_else(Vec::new, |buffer| match Rc::try_unwrap(buffer) {
            Ok(mut buffer) => {
                buffer.drain(..at);
                buffer
            }
            Err(shared) => shared[at..].to_vec(),
        })
    }
    fn piece(&self, length: usize) -> Option<Piece> {
        let buffer = self.buffer.borrow().clone()?;
        let at = self.at.get();
        Some(Piece { range: at..at + length, buffer })
    }
    fn advance(&self, length: usize) {
        self.at.set(self.at.get() + length);
        self.searched.set(self.at.get());
    }
    /// Takes all of it for delivery.
    pub(super) fn next_all(&self) -> Option<Piece> {
        let length = self.len();
        let piece = self.piece(length).filter(|piece| !piece.is_empty());
        self.advance(length);
        piece
    }
    /// Takes the next line for delivery.
    pub(super) fn next_line(&self, lines: &Lines) -> Found {
        let Some(all) = self.piece(self.len()) else { return Found::Nothing };
        let from = self.searched.get().saturating_sub(all.range.start);
        match find(&all, lines.delimiter, from) {
            Some(length) => {
                self.advance(length + lines.delimiter.len());
                let line = Piece { range: all.range.start..all.range.start + length, buffer: all.buffer };
                if length > lines.max_length { Found::TooLong(line) } else { Found::Line(line) }
            }
            None if lines.is_too_long(all.len()) => {
                self.advance(all.len());
                Found::TooLong(all)
            }
            None => {
                self.searched.set(all.range.end.saturating_sub(lines.delimiter.len() - 1).max(all.range.start));
                Found::Nothing
            }
        }
    }
    /// Widens a piece to all that comes after it, which is taken.
    pub(super) fn with_rest(&self, piece: Piece) -> Piece {
        self.advance(self.len());
        Piece { range: piece.range.start..piece.buffer.len(), buffer: piece.buffer }
    }
    /// Drops the lines that have ended, keeps the one that has not.
    pub(super) fn skip_lines(&self, lines: &Lines) {
        while let Found::Line(_) | Found::TooLong(_) = self.next_line(lines) {}
    }
    /// Nothing is being delivered: what is left is kept in as little memory as it needs.
    pub(super) fn settle(&self) {
        let mut slot = self.buffer.borrow_mut();
        let Some(buffer) = slot.as_mut().and_then(Rc::get_mut) else { return };
        let at = self.at.replace(0);
        self.searched.set(self.searched.get().saturating_sub(at));
        let left = buffer.len() - at;
        if left > 0 && (buffer.capacity() <= SMALL || buffer.capacity() <= left.saturating_mul(2)) {
            buffer.drain(..at);
            return;
        }
        let kept = (left > 0).then(|| Rc::new(buffer[at..].to_vec()));
        let spare = std::mem::replace(&mut *slot, kept);
        drop(slot);
        if let Some(mut spare) = spare
            && let Some(buffer) = Rc::get_mut(&mut spare)
            && buffer.capacity() <= LARGE
        {
            buffer.clear();
            let _ = SPARE.try_with(|slot| slot.set(Some(spare)));
        }
    }
}
