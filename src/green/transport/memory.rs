//! Memory for large pieces of input: what the allocator would map anew for each of them, and fault in page by page.
//!
//! A piece is copied out of the reactor's read buffer into memory that an earlier piece had, once nobody names that one any
//! more. Per OS thread. What must never happen here: more kept than `KEPT`, or a small piece that holds on to much memory.
use bytes::BytesMut;
use std::cell::RefCell;
use std::collections::VecDeque;

/// From here on a piece is worth the search.
const LARGE: usize = 16 * 1024;
/// So many bytes are kept at most.
const KEPT: usize = 4 * 1024 * 1024;
/// So many of those that are kept are looked at for one piece: the oldest, which are free if any is.
const LOOKS: usize = 2;

#[derive(Default)]
struct Memory {
    /// Each the rest of a buffer whose other part is a piece, or was.
    kept: VecDeque<(usize, BytesMut)>,
    bytes: usize,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// A copy of `data`.
pub(super) fn copied(data: &[u8]) -> BytesMut {
    if data.len() < LARGE {
        return BytesMut::from(data);
    }
    MEMORY.try_with(|memory| memory.borrow_mut().copied(data)).unwrap_or_else(|_| BytesMut::from(data))
}

impl Memory {
    fn copied(&mut self, data: &[u8]) -> BytesMut {
        // No more than twice what is needed: whoever keeps a piece keeps all of its memory.
        let size = data.len().next_power_of_two();
        for _ in 0..LOOKS.min(self.kept.len()) {
            let Some((capacity, mut buffer)) = self.kept.pop_front() else { break };
            if capacity == size && buffer.try_reclaim(capacity) {
                return self.fill(capacity, buffer, data);
            }
            self.kept.push_back((capacity, buffer));
        }
        self.bytes += size;
        while self.bytes > KEPT
            && let Some((capacity, _)) = self.kept.pop_front()
        {
            self.bytes -= capacity;
        }
        self.fill(size, BytesMut::with_capacity(size), data)
    }
    fn fill(&mut self, capacity: usize, mut buffer: BytesMut, data: &[u8]) -> BytesMut {
        buffer.extend_from_slice(data);
        let piece = buffer.split();
        self.kept.push_back((capacity, buffer));
        piece
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_piece_that_nobody_names_serves_the_next_of_its_size() {
        let first = copied(&[1; 40_000]);
        let at = first.as_ptr();
        drop(first.freeze());
        assert_eq!(copied(&[2; 50_000]).as_ptr(), at);
    }
    #[test]
    fn pieces_that_are_kept_stay_what_they_were_and_only_so_much_is_kept_for_later() {
        let pieces: Vec<_> = (0..36).map(|n| copied(&[n; 100_000]).freeze()).collect();
        for (n, piece) in pieces.iter().enumerate() {
            assert!(piece.iter().all(|byte| usize::from(*byte) == n), "piece {n} was overwritten");
        }
        let kept = MEMORY.with(|memory| memory.borrow().kept.iter().map(|(capacity, _)| capacity).sum::<usize>());
        assert!(kept <= KEPT, "{kept} bytes are kept");
    }
}
