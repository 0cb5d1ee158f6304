//! The network in memory: ends of connections, places that listen, what is ready, and the faults scripted. Listening,
//! accepting and connecting are here, reading and writing in `stream`. As on Linux, an edge is remembered until a poll, and
//! tells all that is ready then.
use super::datagram::Mailbox;
use super::packet::Packet;
use crate::address::Address;
use crate::reactor::driver::{ConnectFault, Event, ListenOptions, Readiness};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

/// The ports given to those who ask for any.
const ANY_PORT: std::ops::RangeInclusive<u16> = 49152..=65535;

/// What goes wrong, and the properties of the lines.
pub(crate) struct Faults {
    pub(crate) refuse: bool,
    pub(crate) blackhole: bool,
    /// Attempts wait until the test says what becomes of them.
    pub(crate) hold: bool,
    /// The most one call moves.
    pub(crate) io_limit: Option<usize>,
    /// The next so many accepts fail with this.
    pub(crate) accepts: (usize, i32),
    pub(crate) writes: (usize, i32),
    /// The next so many datagrams are lost.
    pub(crate) lost_datagrams: usize,
    /// The next so many datagrams arrive twice.
    pub(crate) doubled_datagrams: usize,
    pub(crate) latency: Duration,
    /// Of connections made from now on: bytes on their way to, or unread at, one end.
    pub(crate) capacity: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Connecting,
    Connected,
    /// Refused or reset.
    Broken,
}

/// One end of a connection.
pub(super) struct End {
    pub(super) local: Address,
    pub(super) remote: Address,
    pub(super) state: State,
    /// The other end's number, which may have been closed since.
    pub(super) other: Option<u64>,
    watch: Watch,
    pub(super) arrived: VecDeque<u8>,
    pub(super) capacity: usize,
    /// Packets, and bytes in them, that are on their way here.
    pub(super) coming: usize,
    pub(super) bytes_coming: usize,
    pub(super) last_arrival: Instant,
    pub(super) error: Option<i32>,
    /// The other end will send no more.
    pub(super) ended: bool,
    pub(super) write_shut: bool,
    pub(super) read_shut: bool,
    /// A write found no room: tell it when there is some.
    pub(super) wants_room: bool,
    pub(super) reset_on_close: bool,
    /// Its local port is its own.
    pub(super) owns_port: bool,
}

#[derive(Default)]
pub(super) struct Watch {
    token: Option<usize>,
    queued: bool,
}

/// A place that listens.
pub(super) struct Port {
    address: Address,
    watch: Watch,
    backlog: usize,
    reuse_port: bool,
    /// Made, to be accepted.
    pub(super) queue: VecDeque<u64>,
    /// Clients that found the queue full.
    pub(super) turned_away: VecDeque<u64>,
}

pub(crate) struct World {
    pub(super) started: Instant,
    pub(super) now: Instant,
    pub(super) faults: Faults,
    numbers: u64,
    next_port: u16,
    /// How many ends and places have a port of their own.
    taken: BTreeMap<u16, usize>,
    pub(super) ends: BTreeMap<u64, End>,
    pub(super) ports: BTreeMap<u64, Port>,
    pub(super) mailboxes: BTreeMap<u64, Mailbox>,
    pub(super) agenda: BTreeMap<(Instant, u64), Packet>,
    ready: VecDeque<u64>,
    /// Where TCP connections were to go.
    pub(super) attempts: Vec<Address>,
    /// Attempts that wait for the test.
    held: VecDeque<u64>,
}

pub(super) fn errno(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}
pub(super) fn would_block() -> io::Error {
    errno(libc::EAGAIN)
}

impl End {
    pub(super) fn new(local: Address, remote: Address, capacity: usize, now: Instant) -> Self {
        End {
            local,
            remote,
            state: State::Connecting,
            other: None,
            watch: Watch::default(),
            arrived: VecDeque::new(),
            capacity,
            coming: 0,
            bytes_coming: 0,
            last_arrival: now,
            error: None,
            ended: false,
            write_shut: false,
            read_shut: false,
            wants_room: false,
            reset_on_close: false,
            owns_port: false,
        }
    }
    pub(super) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.arrived.len() + self.bytes_coming)
    }
}

impl Port {
    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= self.backlog
    }
    fn is_at(&self, place: &Address) -> bool {
        match (&self.address, place) {
            (Address::Tcp(here), Address::Tcp(place)) => {
                let any = match here.ip() {
                    IpAddr::V4(ip) => ip.is_unspecified() && place.is_ipv4(),
                    IpAddr::V6(ip) => ip.is_unspecified(),
                };
                here.port() == place.port() && (any || here.ip() == place.ip())
            }
            (here, place) => here == place,
        }
    }
}

impl World {
    pub(super) fn new(now: Instant) -> Self {
        World {
            started: now,
            now,
            faults: Faults {
                refuse: false,
                blackhole: false,
                hold: false,
                io_limit: None,
                accepts: (0, 0),
                writes: (0, 0),
                lost_datagrams: 0,
                doubled_datagrams: 0,
                latency: Duration::ZERO,
                capacity: 64 * 1024,
            },
            numbers: 0,
            next_port: *ANY_PORT.start(),
            taken: BTreeMap::new(),
            ends: BTreeMap::new(),
            ports: BTreeMap::new(),
            mailboxes: BTreeMap::new(),
            agenda: BTreeMap::new(),
            ready: VecDeque::new(),
            attempts: Vec::new(),
            held: VecDeque::new(),
        }
    }
    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    // ---- readiness ----

    fn watched(&mut self, id: u64) -> Option<&mut Watch> {
        if let Some(end) = self.ends.get_mut(&id) {
            return Some(&mut end.watch);
        }
        match self.ports.get_mut(&id) {
            Some(port) => Some(&mut port.watch),
            None => self.mailboxes.get_mut(&id).map(|mailbox| &mut mailbox.watch),
        }
    }
    /// Watched from now on; what is ready already is an edge.
    pub(super) fn watch(&mut self, id: u64, token: usize) {
        if let Some(watch) = self.watched(id) {
            watch.token = Some(token);
            self.notify(id);
        }
    }
    /// Something has changed there: the next poll tells all that is ready then.
    pub(super) fn notify(&mut self, id: u64) {
        if let Some(watch) = self.watched(id)
            && watch.token.is_some()
            && !std::mem::replace(&mut watch.queued, true)
        {
            self.ready.push_back(id);
        }
    }
    pub(super) fn take_events(&mut self, events: &mut Vec<Event>) {
        while let Some(id) = self.ready.pop_front() {
            let readiness = self.readiness(id);
            let Some(watch) = self.watched(id) else { continue };
            watch.queued = false;
            if let Some(token) = watch.token
                && readiness != Readiness::default()
            {
                events.push(Event { token, readiness });
            }
        }
    }
    fn readiness(&self, id: u64) -> Readiness {
        let mut readiness = Readiness::default();
        let Some(end) = self.ends.get(&id) else {
            let waiting = self.ports.get(&id).is_some_and(|port| !port.queue.is_empty())
                || self.mailboxes.get(&id).is_some_and(Mailbox::is_readable);
            return if waiting { Readiness::READABLE } else { readiness };
        };
        let (ended, broken) = (end.ended || end.read_shut, end.state == State::Broken);
        let room = || end.other.and_then(|other| self.ends.get(&other)).is_none_or(|other| other.room() > 0);
        let connected = end.state == State::Connected;
        for (is, flag) in [
            (!end.arrived.is_empty() || ended || broken, Readiness::READABLE),
            (broken || connected && (end.write_shut || room()), Readiness::WRITABLE),
            (ended || broken, Readiness::READ_CLOSED),
            (end.error.is_some(), Readiness::ERROR),
        ] {
            if is {
                readiness = readiness | flag;
            }
        }
        readiness
    }

    // ---- addresses ----

    /// The place that takes connections to `place`; of several that share it, the one with the fewest in its queue.
    pub(super) fn port_at(&self, place: &Address) -> Option<u64> {
        let here = self.ports.iter().filter(|(_, port)| port.is_at(place));
        here.min_by_key(|(_, port)| port.queue.len()).map(|(id, _)| *id)
    }
    pub(super) fn any_port(&mut self) -> io::Result<u16> {
        for _ in ANY_PORT {
            let port = self.next_port;
            self.next_port = if port == *ANY_PORT.end() { *ANY_PORT.start() } else { port + 1 };
            if !self.taken.contains_key(&port) {
                return Ok(port);
            }
        }
        Err(errno(libc::EADDRNOTAVAIL))
    }
    fn take_port(&mut self, port: u16) {
        *self.taken.entry(port).or_default() += 1;
    }
    pub(super) fn release_port(&mut self, address: &Address) {
        if let Some(port) = address.port()
            && let Some(count) = self.taken.get_mut(&port)
        {
            *count -= 1;
            if *count == 0 {
                self.taken.remove(&port);
            }
        }
    }
    pub(super) fn listening(&self) -> Vec<Address> {
        self.ports.values().map(|port| port.address.clone()).collect()
    }
    pub(super) fn connections(&self) -> usize {
        // Each is counted at the end that asked for it, or at the other when that one has been closed.
        let connected = self.ends.iter().filter(|(_, end)| end.state == State::Connected);
        let counted = connected.filter(|(id, end)| match end.other {
            Some(other) => **id < other || !self.ends.contains_key(&other),
            None => false,
        });
        counted.count()
    }

    // ---- listening ----

    pub(super) fn listen_tcp(&mut self, mut at: SocketAddr, options: &ListenOptions) -> io::Result<u64> {
        if at.port() == 0 {
            at.set_port(self.any_port()?);
        }
        let conflict = self.ports.values().any(|port| {
            let meets = port.address.socket().is_some_and(|here| {
                let any = here.ip().is_unspecified() || at.ip().is_unspecified();
                here.port() == at.port() && (here.ip() == at.ip() || any && here.is_ipv4() == at.is_ipv4())
            });
            meets && !(port.reuse_port && options.reuse_port)
        });
        if conflict {
            return Err(errno(libc::EADDRINUSE));
        }
        self.take_port(at.port());
        Ok(self.listen(Address::Tcp(at), options.backlog as usize, options.reuse_port))
    }
    pub(super) fn listen_unix(&mut self, path: &Path) -> io::Result<u64> {
        let address = Address::Unix(Some(path.to_owned()));
        if self.port_at(&address).is_some() {
            return Err(errno(libc::EADDRINUSE));
        }
        Ok(self.listen(address, usize::MAX, false))
    }
    fn listen(&mut self, address: Address, backlog: usize, reuse_port: bool) -> u64 {
        let id = self.number();
        let port = Port {
            address,
            watch: Watch::default(),
            backlog: backlog.max(1),
            reuse_port,
            queue: VecDeque::new(),
            turned_away: VecDeque::new(),
        };
        self.ports.insert(id, port);
        id
    }
    pub(super) fn address(&self, id: u64) -> io::Result<Address> {
        self.ports.get(&id).map(|port| port.address.clone()).ok_or_else(|| errno(libc::EBADF))
    }
    pub(super) fn accept(&mut self, id: u64) -> io::Result<(u64, Address)> {
        let port = self.ports.get_mut(&id).ok_or_else(|| errno(libc::EBADF))?;
        let server = *port.queue.front().ok_or_else(would_block)?;
        let fault = (self.faults.accepts.0 > 0).then_some(self.faults.accepts.1);
        self.faults.accepts.0 = self.faults.accepts.0.saturating_sub(1);
        if let Some(fault) = fault
            && fault != libc::ECONNABORTED
        {
            // The connection stays in the queue.
            return Err(errno(fault));
        }
        port.queue.pop_front();
        if let Some(client) = port.turned_away.pop_front() {
            self.pair(client, id);
        }
        if let Some(fault) = fault {
            self.reset_on_close(server);
            self.close(server);
            return Err(errno(fault));
        }
        Ok((server, self.ends.get(&server).map_or(Address::Gone, |end| end.remote.clone())))
    }
    pub(super) fn close_port(&mut self, id: u64) {
        let Some(port) = self.ports.remove(&id) else { return };
        self.release_port(&port.address);
        for server in port.queue {
            self.reset_on_close(server);
            self.close(server);
        }
        for client in port.turned_away {
            self.send(Packet::Refusal { to: client, errno: libc::ECONNREFUSED });
        }
    }

    // ---- connecting ----

    pub(super) fn connect_tcp(&mut self, to: SocketAddr, bind: Option<SocketAddr>) -> Result<u64, ConnectFault> {
        let mut to = to;
        if to.ip().is_unspecified() {
            to.set_ip(if to.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
        }
        let mut local = bind.unwrap_or(SocketAddr::new(to.ip(), 0));
        if local.is_ipv4() != to.is_ipv4() {
            return Err(ConnectFault::Bind(errno(libc::EINVAL)));
        }
        if local.port() == 0 {
            local.set_port(self.any_port().map_err(ConnectFault::Bind)?);
        } else if self.taken.contains_key(&local.port()) {
            return Err(ConnectFault::Bind(errno(libc::EADDRINUSE)));
        }
        if local.ip().is_unspecified() {
            local.set_ip(to.ip());
        }
        self.take_port(local.port());
        let client = self.number();
        let mut end = End::new(Address::Tcp(local), Address::Tcp(to), self.faults.capacity, self.now);
        end.owns_port = true;
        self.ends.insert(client, end);
        self.attempts.push(Address::Tcp(to));
        if self.faults.hold {
            self.held.push_back(client);
            return Ok(client);
        }
        match (self.faults.blackhole, self.faults.refuse) {
            (true, _) => {}
            (false, true) => self.send(Packet::Refusal { to: client, errno: libc::ECONNREFUSED }),
            (false, false) => self.send(Packet::Ask { client }),
        }
        Ok(client)
    }
    /// The first attempt that waits for the test goes on, or fails with the error number given. `false`: none waits.
    pub(super) fn let_go(&mut self, error: Option<i32>) -> bool {
        while let Some(client) = self.held.pop_front() {
            // Those that were given up meanwhile are not there any more.
            if self.ends.contains_key(&client) {
                self.send(match error {
                    None => Packet::Ask { client },
                    Some(errno) => Packet::Refusal { to: client, errno },
                });
                return true;
            }
        }
        false
    }
    /// Where to those lead that wait.
    pub(super) fn held(&self) -> Vec<Address> {
        self.held.iter().filter_map(|client| self.ends.get(client)).map(|end| end.remote.clone()).collect()
    }
    /// Decided at once, as on a real system.
    pub(super) fn connect_unix(&mut self, path: &Path) -> io::Result<u64> {
        let place = Address::Unix(Some(path.to_owned()));
        if self.faults.refuse {
            return Err(errno(libc::ECONNREFUSED));
        }
        let port = self.port_at(&place).ok_or_else(|| errno(libc::ENOENT))?;
        let client = self.number();
        let mut end = End::new(Address::Unix(None), place, self.faults.capacity, self.now);
        end.state = State::Connected;
        self.ends.insert(client, end);
        self.pair(client, port);
        Ok(client)
    }
}
