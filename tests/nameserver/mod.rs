//! A name server whose answers a test scripts, byte by byte if need be, on the reactor's own sockets: real ones or simulated.
#![allow(dead_code)] // each test file uses a part
use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use twistlet::transport::{DatagramPort, DatagramProtocol};
use twistlet::{Address, Protocol, Reactor, TransportRef};

pub const A: u16 = 1;
pub const NS: u16 = 2;
pub const CNAME: u16 = 5;
pub const SOA: u16 = 6;
pub const PTR: u16 = 12;
pub const MX: u16 = 15;
pub const TXT: u16 = 16;
pub const AAAA: u16 = 28;
pub const SRV: u16 = 33;

/// A question as the server reads it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub id: u16,
    pub flags: u16,
    pub name: String,
    pub kind: u16,
    pub class: u16,
    /// What the client says it takes.
    pub payload: Option<u16>,
    pub stream: bool,
    pub from: SocketAddr,
    /// The question section.
    pub question: Vec<u8>,
}
impl Asked {
    pub fn parse(bytes: &[u8], stream: bool, from: SocketAddr) -> Asked {
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        assert_eq!(word(4), 1, "one question");
        let (mut at, mut labels) = (12, Vec::new());
        while bytes[at] != 0 {
            let end = at + 1 + usize::from(bytes[at]);
            labels.push(String::from_utf8_lossy(&bytes[at + 1..end]).into_owned());
            at = end;
        }
        let end = at + 5;
        // The only additional record is the OPT one: a root name, the type, the size as the class.
        let payload = (word(10) == 1 && bytes[end] == 0 && word(end + 1) == 41).then(|| word(end + 3));
        Asked {
            id: word(0),
            flags: word(2),
            name: labels.join("."),
            kind: word(at + 1),
            class: word(at + 3),
            payload,
            stream,
            from,
            question: bytes[12..end].to_vec(),
        }
    }
    /// An answer without records.
    pub fn reply(&self) -> Reply {
        Reply { id: self.id, flags: 0x8180, question: self.question.clone(), questions: 1, ..Reply::default() }
    }
}

/// A name as bytes.
pub fn name(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in text.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// An answer in the making.
#[derive(Clone, Default)]
pub struct Reply {
    pub id: u16,
    pub flags: u16,
    pub question: Vec<u8>,
    pub questions: u16,
    pub sections: [Vec<Vec<u8>>; 3],
}
impl Reply {
    pub fn code(mut self, code: u16) -> Self {
        self.flags = self.flags & 0xfff0 | code;
        self
    }
    pub fn flag(mut self, flag: u16) -> Self {
        self.flags |= flag;
        self
    }
    pub fn without_flag(mut self, flag: u16) -> Self {
        self.flags &= !flag;
        self
    }
    pub fn truncated(self) -> Self {
        self.flag(0x0200)
    }
    pub fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }
    pub fn about(mut self, text: &str, kind: u16, class: u16) -> Self {
        self.question = [name(text), kind.to_be_bytes().to_vec(), class.to_be_bytes().to_vec()].concat();
        self
    }
    pub fn record(mut self, section: usize, owner: &str, kind: u16, ttl: u32, data: &[u8]) -> Self {
        let mut record = name(owner);
        record.extend(kind.to_be_bytes());
        record.extend(1u16.to_be_bytes());
        record.extend(ttl.to_be_bytes());
        record.extend((data.len() as u16).to_be_bytes());
        record.extend(data);
        self.sections[section].push(record);
        self
    }
    pub fn ip(self, owner: &str, ip: impl Into<IpAddr>) -> Self {
        match ip.into() {
            IpAddr::V4(ip) => self.record(0, owner, A, 60, &ip.octets()),
            IpAddr::V6(ip) => self.record(0, owner, AAAA, 60, &ip.octets()),
        }
    }
    pub fn cname(self, owner: &str, target: &str) -> Self {
        self.record(0, owner, CNAME, 60, &name(target))
    }
    pub fn srv(self, owner: &str, priority: u16, weight: u16, port: u16, target: &str) -> Self {
        let data = [priority.to_be_bytes(), weight.to_be_bytes(), port.to_be_bytes()].concat();
        self.record(0, owner, SRV, 60, &[data, name(target)].concat())
    }
    /// The authority for what is not there, which may be relied on for `seconds`.
    pub fn soa(self, zone: &str, seconds: u32) -> Self {
        let mut data = [name("ns.test"), name("admin.test")].concat();
        for number in [1u32, 2, 3, 4, seconds] {
            data.extend(number.to_be_bytes());
        }
        self.record(1, zone, SOA, seconds, &data)
    }
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.id.to_be_bytes());
        bytes.extend(self.flags.to_be_bytes());
        bytes.extend(self.questions.to_be_bytes());
        for section in &self.sections {
            bytes.extend((section.len() as u16).to_be_bytes());
        }
        bytes.extend(&self.question);
        self.sections.iter().flatten().for_each(|record| bytes.extend(record));
        bytes
    }
}
impl From<Reply> for Vec<u8> {
    fn from(reply: Reply) -> Vec<u8> {
        reply.bytes()
    }
}

/// Where an answer goes.
#[derive(Clone, Copy)]
pub enum Line {
    Datagram(DatagramPort, SocketAddr),
    Stream(TransportRef),
}
impl Line {
    pub fn send(self, message: impl Into<Vec<u8>>) {
        let message = message.into();
        match self {
            Line::Datagram(port, to) => drop(port.write_to(&message, to)),
            Line::Stream(wire) => {
                wire.write((message.len() as u16).to_be_bytes());
                wire.write(&message);
            }
        }
    }
    pub fn wire(self) -> TransportRef {
        match self {
            Line::Stream(wire) => wire,
            Line::Datagram(..) => panic!("not a stream"),
        }
    }
}

type Script = Rc<RefCell<dyn FnMut(&Asked, Line)>>;

/// A name server at one address, by UDP and TCP, that does what its script says and remembers what it was asked.
#[derive(Clone)]
pub struct NameServer {
    pub at: SocketAddr,
    pub port: DatagramPort,
    asked: Rc<RefCell<Vec<Asked>>>,
}
impl NameServer {
    pub fn new(reactor: &Reactor, at: SocketAddr, script: impl FnMut(&Asked, Line) + 'static) -> NameServer {
        let script: Script = Rc::new(RefCell::new(script));
        let asked = Rc::new(RefCell::new(Vec::new()));
        let serving = Serving { script, asked: asked.clone() };
        // Of the ports that are free for UDP not all are for TCP.
        for _ in 0..50 {
            let port = reactor.listen_udp(at, serving.clone()).expect("a UDP port");
            let bound = port.address().socket().expect("it listens");
            let line = serving.clone();
            match reactor.listen_tcp(bound, move || Session { serving: line.clone(), buffer: Vec::new() }) {
                Ok(_) => return NameServer { at: bound, port, asked },
                Err(failure) if at.port() != 0 => panic!("no TCP port: {failure}"),
                Err(_) => drop(port.stop_listening()),
            }
        }
        panic!("no port that is free for both");
    }
    /// On some port of this machine.
    pub fn here(reactor: &Reactor, script: impl FnMut(&Asked, Line) + 'static) -> NameServer {
        NameServer::new(reactor, SocketAddr::from(([127, 0, 0, 1], 0)), script)
    }
    /// What it was asked, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.borrow().clone()
    }
    /// The names and types it was asked for.
    pub fn questions(&self) -> Vec<(String, u16)> {
        self.asked.borrow().iter().map(|asked| (asked.name.clone(), asked.kind)).collect()
    }
    pub fn count(&self) -> usize {
        self.asked.borrow().len()
    }
}

#[derive(Clone)]
struct Serving {
    script: Script,
    asked: Rc<RefCell<Vec<Asked>>>,
}
impl Serving {
    fn serve(&self, asked: Asked, line: Line) {
        self.asked.borrow_mut().push(asked.clone());
        (self.script.borrow_mut())(&asked, line);
    }
}
impl DatagramProtocol for Serving {
    fn datagram_received(&mut self, port: DatagramPort, data: &[u8], from: &Address) {
        let from = from.socket().expect("UDP");
        self.serve(Asked::parse(data, false, from), Line::Datagram(port, from));
    }
}
struct Session {
    serving: Serving,
    buffer: Vec<u8>,
}
impl Protocol for Session {
    fn data_received(&mut self, wire: TransportRef, data: &[u8]) {
        self.buffer.extend(data);
        while self.buffer.len() >= 2 {
            let end = 2 + usize::from(u16::from_be_bytes([self.buffer[0], self.buffer[1]]));
            if self.buffer.len() < end {
                break;
            }
            let from = wire.peer().socket().expect("TCP");
            let asked = Asked::parse(&self.buffer[2..end], true, from);
            self.buffer.drain(..end);
            self.serving.serve(asked, Line::Stream(wire));
        }
    }
}
