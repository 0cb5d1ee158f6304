//! What travels in the network in memory, and what its arrival does. Without latency a packet arrives as it is sent, unless
//! earlier ones to the same end are still on their way: they keep their order.
use super::world::{End, State, World};
use crate::address::Address;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub(super) enum Packet {
    /// A client asks to be connected.
    Ask {
        client: u64,
    },
    /// The client is connected.
    Answer {
        to: u64,
    },
    /// The client is not connected, and why.
    Refusal {
        to: u64,
        errno: i32,
    },
    Data {
        to: u64,
        from: u64,
        bytes: Vec<u8>,
    },
    /// No more data will come.
    End {
        to: u64,
    },
    /// The connection is broken.
    Reset {
        to: u64,
    },
    /// Of the socket `sender`; nothing keeps it in order.
    Datagram {
        sender: u64,
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    /// Nobody was where the datagram socket `to` sent.
    Unreachable {
        to: u64,
    },
}

impl Packet {
    /// Whose earlier packets it must not overtake.
    fn to(&self) -> u64 {
        match self {
            Packet::Ask { client } => *client,
            Packet::Answer { to }
            | Packet::Refusal { to, .. }
            | Packet::Data { to, .. }
            | Packet::End { to }
            | Packet::Reset { to }
            | Packet::Unreachable { to } => *to,
            // Sockets have numbers from 1.
            Packet::Datagram { .. } => 0,
        }
    }
}

impl World {
    /// Whether a packet to this end would arrive at once.
    pub(super) fn is_immediate(&self, to: u64) -> bool {
        self.faults.latency == Duration::ZERO && self.ends.get(&to).is_none_or(|end| end.coming == 0)
    }
    pub(super) fn send(&mut self, packet: Packet) {
        let to = packet.to();
        if self.is_immediate(to) {
            return self.arrive(packet);
        }
        let mut at = self.now + self.faults.latency;
        if let Some(end) = self.ends.get_mut(&to) {
            end.coming += 1;
            at = at.max(end.last_arrival);
            end.last_arrival = at;
            if let Packet::Data { bytes, .. } = &packet {
                end.bytes_coming += bytes.len();
            }
        }
        let order = self.number();
        self.agenda.insert((at, order), packet);
    }
    pub(super) fn next_arrival(&self) -> Option<Instant> {
        self.agenda.keys().next().map(|(at, _)| *at)
    }
    /// Lets everything arrive that is due.
    pub(super) fn deliver_due(&mut self) {
        while let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= self.now
        {
            let packet = entry.remove();
            if let Some(end) = self.ends.get_mut(&packet.to()) {
                end.coming = end.coming.saturating_sub(1);
                if let Packet::Data { bytes, .. } = &packet {
                    end.bytes_coming = end.bytes_coming.saturating_sub(bytes.len());
                }
            }
            self.arrive(packet);
        }
    }

    fn arrive(&mut self, packet: Packet) {
        match packet {
            Packet::Ask { client } => self.ask(client),
            Packet::Answer { to } => {
                if let Some(end) = self.ends.get_mut(&to)
                    && end.state == State::Connecting
                {
                    end.state = State::Connected;
                    self.notify(to);
                }
            }
            Packet::Refusal { to, errno } => {
                if let Some(end) = self.ends.get_mut(&to) {
                    end.state = State::Broken;
                    end.error = Some(errno);
                    self.notify(to);
                }
            }
            Packet::Data { to, from, bytes } => match self.ends.get_mut(&to) {
                Some(end) if end.state != State::Broken => {
                    end.arrived.extend(bytes);
                    self.notify(to);
                }
                Some(_) => {}
                // Nobody is there any more to take it.
                None => self.send(Packet::Reset { to: from }),
            },
            Packet::End { to } => {
                if let Some(end) = self.ends.get_mut(&to) {
                    end.ended = true;
                    self.notify(to);
                }
            }
            Packet::Reset { to } => self.break_end(to),
            Packet::Datagram { sender, from, to, bytes } => self.deliver_datagram(sender, from, to, bytes),
            Packet::Unreachable { to } => self.unreachable(to),
        }
    }

    /// As a reset leaves it: what has arrived can still be read, then comes the error, once.
    pub(super) fn break_end(&mut self, id: u64) {
        if let Some(end) = self.ends.get_mut(&id)
            && end.state != State::Broken
        {
            end.state = State::Broken;
            end.error = Some(if end.ended { libc::EPIPE } else { libc::ECONNRESET });
            self.notify(id);
        }
    }

    /// A request to connect arrives where it was sent.
    fn ask(&mut self, client: u64) {
        let Some(end) = self.ends.get(&client) else { return };
        let place = end.remote.clone();
        match self.port_at(&place) {
            Some(port) if self.ports[&port].is_full() => {
                // As with a full backlog: no answer, the client tries on.
                if let Some(port) = self.ports.get_mut(&port) {
                    port.turned_away.push_back(client);
                }
            }
            Some(port) => self.pair(client, port),
            None => self.send(Packet::Refusal { to: client, errno: libc::ECONNREFUSED }),
        }
    }
    /// Makes the server's end of a connection and lets it wait to be accepted.
    pub(super) fn pair(&mut self, client: u64, port: u64) {
        let server = self.number();
        let capacity = self.faults.capacity;
        let Some(end) = self.ends.get_mut(&client) else { return };
        end.other = Some(server);
        let (local, remote) = match (&end.remote, &end.local) {
            (Address::Unix(_), _) => (end.remote.clone(), Address::Unix(None)),
            (remote, local) => (remote.clone(), local.clone()),
        };
        let mut other = End::new(local, remote, capacity, self.now);
        other.state = State::Connected;
        other.other = Some(client);
        self.ends.insert(server, other);
        if let Some(port) = self.ports.get_mut(&port) {
            port.queue.push_back(server);
        }
        self.notify(port);
        self.send(Packet::Answer { to: client });
    }
}
