//! Descriptors that travel with a UNIX stream's bytes: one beside each of the first bytes that wait, and those that arrive.
//! Whatever becomes of the connection, each is given to somebody or closed.
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
    /// Whether producers had better pause.
    pub(super) fn is_full(&self, unsent: usize) -> bool {
        unsent > HIGH_WATER || self.descriptors.borrow().as_ref().is_some_and(|waiting| waiting.len() > MANY)
    }

    /// Sends those that wait, each with a byte. Returns whether the rest of the bytes may follow.
    pub(super) fn send_descriptors(&self) -> bool {
        let waiting = self.descriptors.borrow().as_ref().map_or(0, |waiting| waiting.len());
        let bytes = self.out.borrow().len();
        if waiting > bytes {
            let overrun = DescriptorOverrun { descriptors: waiting, bytes };
            self.end(ConnectionClosed::Failed(Failure::from(overrun)));
            return false;
        }
        for _ in 0..waiting {
            match self.send_one() {
                Ok(sent) => drop(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.set(BLOCKED);
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
    /// The one that was sent, to be closed.
    fn send_one(&self) -> io::Result<Option<OwnedFd>> {
        let mut waiting = self.descriptors.borrow_mut();
        let socket = self.socket.borrow();
        let (Some(waiting), Some(socket)) = (&mut *waiting, &*socket) else { return Ok(None) };
        let Some(first) = waiting.front() else { return Ok(None) };
        loop {
            let sent = self.out.borrow_mut().send_byte(|byte| socket.send_descriptor(byte, first.as_fd()));
            match sent {
                Ok(()) => return Ok(waiting.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
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
