//! Datagram sockets of the network in memory: what they hold, how datagrams find them, lose their way and arrive twice.
//! Datagrams travel as long as everything else, and overtake each other when the latency sinks meanwhile.
use super::packet::Packet;
use super::world::{Watch, World, errno, would_block};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

/// Bytes that wait in one socket to be received, its datagrams' overhead included; what comes above that is lost.
const CAPACITY: usize = 208 * 1024;
const OVERHEAD: usize = 256;
/// What UDP can carry.
const LARGEST: usize = 65_507;

/// A datagram socket's inside.
pub(super) struct Mailbox {
    address: SocketAddr,
    shared: bool,
    peer: Option<SocketAddr>,
    groups: Vec<IpAddr>,
    pub(super) watch: Watch,
    arrived: VecDeque<(SocketAddr, Vec<u8>)>,
    filled: usize,
    refused: bool,
}

impl Mailbox {
    pub(super) fn is_readable(&self) -> bool {
        !self.arrived.is_empty() || self.refused
    }
    /// Whether a datagram between these belongs here.
    fn takes(&self, from: SocketAddr, to: SocketAddr) -> bool {
        let here = self.address.ip();
        let any = here.is_unspecified() && (here.is_ipv6() || to.is_ipv4());
        let is_here = if to.ip().is_multicast() { self.groups.contains(&to.ip()) } else { any || here == to.ip() };
        self.address.port() == to.port() && is_here && self.peer.is_none_or(|peer| peer == from)
    }
}

impl World {
    pub(super) fn bind_udp(&mut self, mut at: SocketAddr, shared: bool) -> io::Result<u64> {
        let conflicts = |world: &World, at: SocketAddr, shared: bool| {
            world.mailboxes.values().any(|other| {
                let any = at.ip().is_unspecified() || other.address.ip().is_unspecified();
                let meets = other.address.ip() == at.ip() || any && other.address.is_ipv4() == at.is_ipv4();
                other.address.port() == at.port() && meets && !(shared && other.shared)
            })
        };
        if at.port() == 0 {
            for _ in 0..=u16::MAX {
                at.set_port(self.any_port()?);
                if !conflicts(self, at, false) {
                    break;
                }
            }
        }
        if conflicts(self, at, shared) {
            return Err(errno(libc::EADDRINUSE));
        }
        let mailbox = Mailbox {
            address: at,
            shared,
            peer: None,
            groups: Vec::new(),
            watch: Watch::default(),
            arrived: VecDeque::new(),
            filled: 0,
            refused: false,
        };
        let id = self.number();
        self.mailboxes.insert(id, mailbox);
        Ok(id)
    }
    fn mailbox(&mut self, id: u64) -> io::Result<&mut Mailbox> {
        self.mailboxes.get_mut(&id).ok_or_else(|| errno(libc::EBADF))
    }
    fn receive(&mut self, id: u64, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let mailbox = self.mailbox(id)?;
        if std::mem::take(&mut mailbox.refused) {
            return Err(errno(libc::ECONNREFUSED));
        }
        let (from, bytes) = mailbox.arrived.pop_front().ok_or_else(would_block)?;
        mailbox.filled -= bytes.len() + OVERHEAD;
        let n = bytes.len().min(buffer.len());
        buffer[..n].copy_from_slice(&bytes[..n]);
        Ok((n, from))
    }
    fn send_datagram(&mut self, id: u64, data: &[u8], to: Option<SocketAddr>) -> io::Result<usize> {
        let mailbox = self.mailbox(id)?;
        if std::mem::take(&mut mailbox.refused) {
            return Err(errno(libc::ECONNREFUSED));
        }
        let to = to.or(mailbox.peer).ok_or_else(|| errno(libc::EDESTADDRREQ))?;
        if data.len() > LARGEST {
            return Err(errno(libc::EMSGSIZE));
        }
        let mut from = mailbox.address;
        if from.ip().is_unspecified() {
            from.set_ip(to.ip());
        }
        let lost = &mut self.faults.lost_datagrams;
        let is_lost = *lost > 0;
        *lost = lost.saturating_sub(1);
        if is_lost || self.faults.blackhole {
            return Ok(data.len());
        }
        let doubled = &mut self.faults.doubled_datagrams;
        let copies = 1 + usize::from(*doubled > 0);
        *doubled = doubled.saturating_sub(1);
        for _ in 0..copies {
            self.send(Packet::Datagram { sender: id, from, to, bytes: data.to_vec() });
        }
        Ok(data.len())
    }
    pub(super) fn deliver_datagram(&mut self, sender: u64, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let takers: Vec<u64> =
            self.mailboxes.iter().filter(|(_, mailbox)| mailbox.takes(from, to)).map(|(id, _)| *id).collect();
        if takers.is_empty() && !to.ip().is_multicast() {
            return self.send(Packet::Unreachable { to: sender });
        }
        // Of several sockets that share a port one gets it; of a group's members each does.
        let copies = if to.ip().is_multicast() { takers.len() } else { 1 };
        for id in takers.into_iter().take(copies) {
            if let Ok(mailbox) = self.mailbox(id)
                && mailbox.filled + bytes.len() + OVERHEAD <= CAPACITY
            {
                mailbox.filled += bytes.len() + OVERHEAD;
                mailbox.arrived.push_back((from, bytes.clone()));
                self.notify(id);
            }
        }
    }
    /// Connected sockets alone hear of it.
    pub(super) fn unreachable(&mut self, id: u64) {
        if let Ok(mailbox) = self.mailbox(id)
            && mailbox.peer.is_some()
        {
            mailbox.refused = true;
            self.notify(id);
        }
    }
}

/// What a port holds of a datagram socket. Closed when it is dropped.
pub(crate) struct Datagram {
    world: Rc<RefCell<World>>,
    id: u64,
}

impl Datagram {
    pub(super) fn new(world: &Rc<RefCell<World>>, id: u64) -> Self {
        Datagram { world: Rc::clone(world), id }
    }
    pub(super) fn id(&self) -> u64 {
        self.id
    }
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.world.borrow_mut().receive(self.id, buffer)
    }
    pub(crate) fn send_to(&self, data: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.world.borrow_mut().send_datagram(self.id, data, Some(to))
    }
    pub(crate) fn send(&self, data: &[u8]) -> io::Result<usize> {
        self.world.borrow_mut().send_datagram(self.id, data, None)
    }
    pub(crate) fn connect(&self, to: SocketAddr) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        let mailbox = world.mailbox(self.id)?;
        mailbox.peer = Some(to);
        if mailbox.address.ip().is_unspecified() {
            mailbox.address.set_ip(to.ip());
        }
        Ok(())
    }
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.world.borrow_mut().mailbox(self.id).map(|mailbox| mailbox.address)
    }
    pub(crate) fn member(&self, group: IpAddr, on: bool) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        let groups = &mut world.mailbox(self.id)?.groups;
        match (on, groups.iter().position(|joined| *joined == group)) {
            (true, Some(_)) => return Err(errno(libc::EADDRINUSE)),
            (true, None) => groups.push(group),
            (false, Some(at)) => drop(groups.remove(at)),
            (false, None) => return Err(errno(libc::EADDRNOTAVAIL)),
        }
        Ok(())
    }
}
impl Drop for Datagram {
    fn drop(&mut self) {
        self.world.borrow_mut().mailboxes.remove(&self.id);
    }
}
impl fmt::Debug for Datagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datagram").field("address", &self.address().ok()).finish()
    }
}
