//! Descriptors that travel with a UNIX stream's bytes: one beside each of the first bytes that wait, and those that arrive.
//! Whatever becomes of the connection, each is given to somebody or closed.
use super::output::is_want_of_room;
use super::{BLOCKED, HIGH_WATER, Stream, wire};
use crate::error::{ConnectionClosed, DescriptorOverrun};
use crate::failure::Failure;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// More descriptors than this that wait are a full buffer.
const MANY: usize = 64;

impl Stream {
    pub(super) fn queue_descriptor(&self, descriptor: OwnedFd) -> io::Result<()> {
        if self.cannot_write() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if !self.socket.borrow().as_ref().is_some_and(|socket| socket.takes_descriptors()) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.descriptors.borrow_mut().get_or_insert_default().push_back(descriptor);
        self.wrote(self.out.borrow().len());
        Ok(())
    }
    fn descriptors_waiting(&self) -> usize {
        self.descriptors.borrow().as_ref().map_or(0, |waiting| waiting.len())
    }
    /// Whether producers had better pause.
    pub(super) fn is_full(&self, unsent: usize) -> bool {
        unsent > HIGH_WATER || self.descriptors_waiting() > MANY
    }

    /// Sends those that wait, each with a byte. Returns whether the rest of the bytes may follow.
    pub(super) fn send_descriptors(&self) -> bool {
        while let waiting @ 1.. = self.descriptors_waiting() {
            let bytes = self.out.borrow().len();
            let sent = if waiting > bytes { Ok(false) } else { self.send_one() };
            match sent {
                Ok(true) => {}
                Ok(false) => {
                    let overrun = DescriptorOverrun { descriptors: waiting, bytes };
                    self.end(ConnectionClosed::Failed(Failure::from(overrun)));
                    return false;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.set(BLOCKED);
                    return false;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_want_of_room(&error) => {
                    self.wait_for_room();
                    return false;
                }
                Err(error) => {
                    self.end(ConnectionClosed::from_io(&error));
                    return false;
                }
            }
        }
        *self.descriptors.borrow_mut() = None;
        true
    }
    /// `false`: there was no byte for it.
    fn send_one(&self) -> io::Result<bool> {
        let mut waiting = self.descriptors.borrow_mut();
        let socket = self.socket.borrow();
        let (Some(waiting), Some(socket)) = (&mut *waiting, &*socket) else { return Ok(false) };
        let Some(first) = waiting.front() else { return Ok(false) };
        let sent = self.out.borrow_mut().send_byte(|byte| socket.send_descriptor(byte, first.as_fd()))?;
        if sent {
            // Our copy is closed.
            waiting.pop_front();
        }
        Ok(sent)
    }

    /// Whether a read that gave less than there was room for has emptied the socket. A message with descriptors ends a read, and on
    /// some systems the one before it does.
    pub(super) fn short_read_empties(&self, arrived: &[OwnedFd]) -> bool {
        let may_end_before = || self.socket.borrow().as_ref().is_some_and(|socket| socket.takes_descriptors());
        arrived.is_empty() && (cfg!(target_os = "linux") || !may_end_before())
    }
    /// Those that have arrived, before the bytes they came with.
    pub(super) fn deliver_descriptors(&self, arrived: &mut Vec<OwnedFd>) {
        let name = self.name.get();
        for descriptor in arrived.drain(..) {
            let told = wire::notify(name, move |protocol| protocol.file_descriptor_received(name, descriptor));
            if let Err(failure) = told {
                self.end(ConnectionClosed::Failed(failure));
            }
        }
    }
}
