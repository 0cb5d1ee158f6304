//! What a connected end of the network in memory does: read, write, shut down, close. With the behaviour of Linux wherever a
//! transport can tell the difference: a reset lets arrived data be read first, closing with unread data resets the peer.
use super::packet::Packet;
use super::world::{End, State, World, errno, would_block};
use crate::address::Address;
use std::io::{self, IoSlice};
use std::net::Shutdown;

impl World {
    fn end(&mut self, id: u64) -> io::Result<&mut End> {
        self.ends.get_mut(&id).ok_or_else(|| errno(libc::EBADF))
    }
    pub(super) fn read(&mut self, id: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = self.faults.io_limit.unwrap_or(usize::MAX);
        let end = self.end(id)?;
        if buffer.is_empty() {
            return Ok(0);
        }
        if end.arrived.is_empty() {
            return match end.error.take() {
                Some(error) => Err(errno(error)),
                None if end.ended || end.read_shut || end.state == State::Broken => Ok(0),
                None => Err(would_block()),
            };
        }
        let n = buffer.len().min(end.arrived.len()).min(limit);
        for (to, from) in buffer.iter_mut().zip(end.arrived.drain(..n)) {
            *to = from;
        }
        // A short read says that no more is there. When that is not so, the rest is as if it arrived now.
        let other = end.other;
        if n < buffer.len() && !end.arrived.is_empty() {
            self.notify(id);
        }
        if let Some(other) = other
            && self.ends.get_mut(&other).is_some_and(|other| std::mem::take(&mut other.wants_room))
        {
            self.notify(other);
        }
        Ok(n)
    }
    pub(super) fn write(&mut self, id: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let offered: usize = parts.iter().map(|part| part.len()).sum();
        let limit = self.faults.io_limit.unwrap_or(usize::MAX);
        let (failures, fault) = self.faults.writes;
        let end = self.end(id)?;
        if let Some(error) = end.error.take() {
            return Err(errno(error));
        }
        if end.state == State::Broken || end.write_shut {
            return Err(errno(libc::EPIPE));
        }
        let Some(to) = end.other.filter(|_| end.state == State::Connected) else {
            end.wants_room = true;
            return Err(would_block());
        };
        if failures > 0 {
            self.faults.writes.0 -= 1;
            return Err(errno(fault));
        }
        let Some(room) = self.ends.get(&to).map(End::room) else {
            return self.write_to_nobody(id, offered);
        };
        let n = offered.min(room).min(limit);
        if n < offered {
            if n == room {
                self.end(id)?.wants_room = true;
            } else {
                self.notify(id);
            }
        }
        if n == 0 {
            return if offered == 0 { Ok(0) } else { Err(would_block()) };
        }
        let mut bytes = Vec::with_capacity(n);
        for part in parts {
            let left = n - bytes.len();
            bytes.extend_from_slice(&part[..part.len().min(left)]);
        }
        self.send(Packet::Data { to, from: id, bytes });
        Ok(n)
    }
    /// The other end has been closed: the first write goes out all the same, and is answered by a reset.
    fn write_to_nobody(&mut self, id: u64, offered: usize) -> io::Result<usize> {
        if matches!(self.end(id)?.remote, Address::Unix(_)) {
            return Err(errno(libc::EPIPE));
        }
        self.send(Packet::Reset { to: id });
        Ok(offered)
    }
    pub(super) fn shutdown(&mut self, id: u64, how: Shutdown) -> io::Result<()> {
        let end = self.end(id)?;
        if end.state != State::Connected {
            return Err(errno(libc::ENOTCONN));
        }
        if how != Shutdown::Write {
            end.read_shut = true;
        }
        let ends_now = how != Shutdown::Read && !std::mem::replace(&mut end.write_shut, true);
        let other = end.other;
        if ends_now && let Some(to) = other {
            self.send(Packet::End { to });
        }
        self.notify(id);
        Ok(())
    }
    pub(super) fn take_error(&mut self, id: u64) -> Option<io::Error> {
        self.ends.get_mut(&id).and_then(|end| end.error.take()).map(errno)
    }
    pub(super) fn peer(&self, id: u64) -> io::Result<Address> {
        let end = self.ends.get(&id).filter(|end| end.state == State::Connected);
        end.map(|end| end.remote.clone()).ok_or_else(|| errno(libc::ENOTCONN))
    }
    pub(super) fn host(&self, id: u64) -> io::Result<Address> {
        self.ends.get(&id).map(|end| end.local.clone()).ok_or_else(|| errno(libc::EBADF))
    }
    pub(super) fn reset_on_close(&mut self, id: u64) {
        if let Some(end) = self.ends.get_mut(&id) {
            end.reset_on_close = true;
        }
    }
    pub(super) fn close(&mut self, id: u64) {
        let Some(end) = self.ends.remove(&id) else { return };
        if end.owns_port {
            self.release_port(&end.local);
        }
        let Some(to) = end.other.filter(|_| end.state != State::Broken) else { return };
        if end.reset_on_close || !end.arrived.is_empty() {
            self.send(Packet::Reset { to });
        } else if !end.write_shut {
            self.send(Packet::End { to });
        }
        // A writer that waited for room need not wait any more.
        if self.ends.get_mut(&to).is_some_and(|other| std::mem::take(&mut other.wants_room)) {
            self.notify(to);
        }
    }
    pub(super) fn reset(&mut self, at: Option<&Address>) -> usize {
        let meets = |end: &End| at.is_none_or(|at| end.local == *at || end.remote == *at);
        let connected = self.ends.iter().filter(|(_, end)| end.state == State::Connected && meets(end));
        let ids: Vec<u64> = connected.map(|(id, _)| *id).collect();
        for id in &ids {
            self.break_end(*id);
        }
        ids.len()
    }
}
