//! The ends of the network in memory that transports hold: `Socket` and `Listener`. Each is a number in its `World`, and closes
//! when it is dropped.
use super::world::World;
use crate::address::Address;
use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::rc::Rc;

/// One end of a connection, or of an attempt to make one.
pub(crate) struct Socket {
    world: Rc<RefCell<World>>,
    id: u64,
}

impl Socket {
    pub(super) fn new(world: &Rc<RefCell<World>>, id: u64) -> Self {
        Socket { world: Rc::clone(world), id }
    }
    pub(super) fn id(&self) -> u64 {
        self.id
    }
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.world.borrow_mut().read(self.id, buffer)
    }
    pub(crate) fn write(&self, data: &[u8]) -> io::Result<usize> {
        self.world.borrow_mut().write(self.id, &[IoSlice::new(data)])
    }
    pub(crate) fn write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.world.borrow_mut().write(self.id, parts)
    }
    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.world.borrow_mut().shutdown(self.id, how)
    }
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.world.borrow_mut().take_error(self.id))
    }
    pub(crate) fn peer(&self) -> io::Result<Address> {
        self.world.borrow().peer(self.id)
    }
    pub(crate) fn host(&self) -> io::Result<Address> {
        self.world.borrow().host(self.id)
    }
    pub(crate) fn reset_on_close(&self) {
        self.world.borrow_mut().reset_on_close(self.id);
    }
}
impl Drop for Socket {
    fn drop(&mut self) {
        self.world.borrow_mut().close(self.id);
    }
}
impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("host", &self.host().ok()).field("peer", &self.peer().ok()).finish()
    }
}

/// A place where connections arrive.
pub(crate) struct Listener {
    world: Rc<RefCell<World>>,
    id: u64,
}

impl Listener {
    pub(super) fn new(world: &Rc<RefCell<World>>, id: u64) -> Self {
        Listener { world: Rc::clone(world), id }
    }
    pub(super) fn id(&self) -> u64 {
        self.id
    }
    pub(crate) fn accept(&self) -> io::Result<(Socket, Address)> {
        let (end, peer) = self.world.borrow_mut().accept(self.id)?;
        Ok((Socket::new(&self.world, end), peer))
    }
    pub(crate) fn address(&self) -> io::Result<Address> {
        self.world.borrow().address(self.id)
    }
}
impl Drop for Listener {
    fn drop(&mut self) {
        self.world.borrow_mut().close_port(self.id);
    }
}
impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("address", &self.address().ok()).finish()
    }
}
