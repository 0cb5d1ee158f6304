//! The receiving side: a factory whose connections begin with a PROXY header, and the wire above it on which the protocol
//! behind sees the client's address instead of the proxy's.
use super::{ProxyError, ProxyHeader};
use crate::address::Address;
use crate::clock::DelayedCall;
use crate::error::ConnectionClosed;
use crate::failure::{self, Failure, Result};
use crate::protocols::SharedFactory;
use crate::transport::{Factory, FilePart, Protocol, PullProducer, Transport, TransportRef, Wire, refuse_descriptor};
use bytes::Bytes;
use std::cell::Cell;
use std::fmt;
use std::io::IoSlice;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

/// Room for the addresses of every kind, and for what load balancers add.
const MAX_HEADER: usize = 2048;
/// A proxy sends the header in its first segment.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Puts a factory behind a proxy that speaks the PROXY protocol, version 1 or 2 (Twisted's `HAProxyWrappingFactory`).
///
/// The protocol behind is built, and told `connection_made`, when the header is there: so its `peer` and `host`, and the
/// address that its factory is asked about, are from the start the client's and the one the client connected to. (In Twisted
/// `connectionMade` sees the proxy's.) A header that says nothing, or is of a connection of the proxy's own, leaves the
/// real ones. What does not begin with a header, within the time and the length allowed, is closed without a word to the
/// protocol behind; the reason is logged at debug level.
///
/// Who can connect around the proxy can say of himself what he likes: let the proxy alone reach the port, or
/// [name it](ProxyFactory::trust).
///
/// ```
/// use std::net::Ipv4Addr;
/// use twistlet::protocols::proxy::ProxyFactory;
/// use twistlet::{Protocol, Reactor, TransportRef};
///
/// struct Hello;
/// impl Protocol for Hello {
///     fn connection_made(&mut self, transport: TransportRef) {
///         write!(transport, "hello {}", transport.peer());
///     }
///     fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
/// }
/// let reactor = Reactor::new()?;
/// reactor.listen_tcp("127.0.0.1:0", ProxyFactory::new(|| Hello).trust(Ipv4Addr::LOCALHOST))?;
/// # reactor.close();
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct ProxyFactory {
    factory: SharedFactory,
    rules: Rules,
    trusted: Vec<Network>,
    told: Option<Told>,
}
/// Who looks at headers.
type Told = Rc<dyn Fn(&ProxyHeader)>;

#[derive(Clone, Copy)]
struct Rules {
    timeout: Option<Duration>,
    max_header: usize,
}
struct Network {
    ip: IpAddr,
    bits: u32,
}

impl ProxyFactory {
    /// Connections of `factory` begin with a PROXY header.
    pub fn new(factory: impl Factory + 'static) -> Self {
        let rules = Rules { timeout: Some(TIMEOUT), max_header: MAX_HEADER };
        ProxyFactory { factory: SharedFactory::new(Box::new(factory)), rules, trusted: Vec::new(), told: None }
    }
    /// How long the header may take. Default: 5 seconds.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.rules.timeout = Some(limit);
        self
    }
    /// Waits for ever.
    pub fn without_timeout(mut self) -> Self {
        self.rules.timeout = None;
        self
    }
    /// How long in bytes a header of version 2 may be. Default: 2,048. (One of version 1 may have 107.)
    pub fn max_header(mut self, bytes: usize) -> Self {
        self.rules.max_header = bytes;
        self
    }
    /// Takes headers from this address, and from others named so; connections from everywhere else are declined. Peers on
    /// UNIX sockets are always believed. Default: everybody is.
    pub fn trust(self, proxy: impl Into<IpAddr>) -> Self {
        let ip = proxy.into();
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        self.trust_network(ip, bits)
    }
    /// As [`trust`](ProxyFactory::trust), for all addresses whose first `bits` bits are those of `ip`.
    pub fn trust_network(mut self, ip: impl Into<IpAddr>, bits: u32) -> Self {
        self.trusted.push(Network { ip: ip.into().to_canonical(), bits });
        self
    }
    /// Shows each header to `look` before the protocol behind is built. A panic in it closes the connection.
    pub fn on_header(mut self, look: impl Fn(&ProxyHeader) + 'static) -> Self {
        self.told = Some(Rc::new(look));
        self
    }
    fn is_trusted(&self, peer: &Address) -> bool {
        let Some(ip) = peer.ip() else { return true };
        let ip = ip.to_canonical();
        self.trusted.is_empty() || self.trusted.iter().any(|network| network.contains(ip))
    }
}
impl Network {
    fn contains(&self, ip: IpAddr) -> bool {
        match (self.ip, ip) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let differ = u32::from(ours) ^ u32::from(theirs);
                differ.leading_zeros() >= self.bits.min(32)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let differ = u128::from(ours) ^ u128::from(theirs);
                differ.leading_zeros() >= self.bits.min(128)
            }
            _ => false,
        }
    }
}
impl Factory for ProxyFactory {
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        if !self.is_trusted(peer) {
            log::debug!(target: "twistlet", "{peer} is no trusted proxy: its connection is declined");
            return None;
        }
        let begin = Begin {
            factory: self.factory.clone(),
            rules: self.rules,
            told: self.told.clone(),
            timer: None,
            descriptors: Vec::new(),
        };
        Some(Box::new(Proxied { state: State::Header(Vec::new(), begin), secured: false }))
    }
    fn start_factory(&mut self) {
        self.factory.start_factory();
    }
    fn stop_factory(&mut self) {
        self.factory.stop_factory();
    }
}
impl fmt::Debug for ProxyFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyFactory")
            .field("timeout", &self.rules.timeout)
            .field("max_header", &self.rules.max_header)
            .finish_non_exhaustive()
    }
}

/// The protocol on the wire below.
struct Proxied {
    state: State,
    /// The wire below had its handshake before the header was there.
    secured: bool,
}
enum State {
    /// What has come of it.
    Header(Vec<u8>, Begin),
    Open(Wire),
    Over,
}
/// What is needed for the beginning only.
struct Begin {
    factory: SharedFactory,
    rules: Rules,
    told: Option<Told>,
    timer: Option<DelayedCall>,
    descriptors: Vec<OwnedFd>,
}
/// As many as one message may carry.
const DESCRIPTORS: usize = 253;

impl Proxied {
    fn refuse(&mut self, lower: TransportRef, error: ProxyError) {
        log::debug!(target: "twistlet", "{}: {error}", lower.peer());
        self.close(lower, error.into());
    }
    fn close(&mut self, lower: TransportRef, failure: Failure) {
        // What holds the user's things goes when nothing here is borrowed.
        let state = std::mem::replace(&mut self.state, State::Over);
        if let State::Header(_, Begin { timer: Some(timer), .. }) = &state {
            timer.cancel();
        }
        lower.fail_connection(failure);
    }

    /// Bytes of the header, and perhaps more.
    fn header_received(&mut self, lower: TransportRef, data: &[u8]) {
        let State::Header(buffer, begin) = &mut self.state else { return };
        let limit = begin.rules.max_header;
        let kept = buffer.len();
        // The usual header comes in one piece, and is read where it is.
        let outcome = if kept == 0 {
            ProxyHeader::parse(data, limit)
        } else {
            // A complete header is no longer than that, and an incomplete one shorter.
            buffer.extend_from_slice(&data[..data.len().min(limit.max(LONGEST_BUT_ONE) + 1 - kept)]);
            ProxyHeader::parse(buffer, limit)
        };
        match outcome {
            Ok(None) if kept == 0 => buffer.extend_from_slice(data),
            Ok(None) => {}
            Ok(Some((header, length))) => self.open(lower, &header, &data[length - kept..]),
            Err(error) => self.refuse(lower, error),
        }
    }

    /// The header is there: the protocol behind begins.
    fn open(&mut self, lower: TransportRef, header: &ProxyHeader, rest: &[u8]) {
        let State::Header(_, begin) = std::mem::replace(&mut self.state, State::Over) else { return };
        if let Some(timer) = begin.timer {
            timer.cancel();
        }
        let (peer, host) = match (header.source(), header.destination()) {
            (Some(source), Some(destination)) => (source.clone(), destination.clone()),
            _ => (lower.peer(), lower.host()),
        };
        let mut factory = begin.factory;
        let built = failure::catch(|| {
            if let Some(look) = &begin.told {
                look(header);
            }
            factory.build_protocol(&peer)
        });
        failure::drop_quietly(begin.told);
        let protocol = match built {
            Ok(Some(protocol)) => protocol,
            Ok(None) => return lower.lose_connection(),
            Err(panicked) => {
                failure::report(format_args!("the factory of the connection with {peer}"), &panicked);
                return lower.fail_connection(panicked);
            }
        };
        let name = Rc::new(Cell::new(TransportRef::gone()));
        let middle = Rc::new(Middle { lower, upper: Rc::clone(&name), peer, host });
        let wire = Wire::open(middle, protocol);
        let upper = wire.transport();
        name.set(upper);
        self.state = State::Open(wire);
        let mut outcome = Wire::tell(upper, move |protocol| protocol.connection_made(upper));
        if outcome.is_ok() && self.secured {
            outcome = Wire::tell(upper, move |protocol| protocol.handshake_completed(upper));
        }
        for descriptor in begin.descriptors {
            let told = move |protocol: &mut dyn Protocol| protocol.file_descriptor_received(upper, descriptor);
            outcome = outcome.and_then(|()| Wire::tell(upper, told));
        }
        if outcome.is_ok() && !rest.is_empty() && !upper.is_disconnecting() {
            outcome = Wire::feed(upper, rest);
        }
        check(lower, outcome);
    }
    fn tell(&self, lower: TransportRef, event: impl FnOnce(&mut dyn Protocol, TransportRef) + 'static) {
        if let State::Open(wire) = &self.state {
            let upper = wire.transport();
            check(lower, Wire::tell(upper, move |protocol| event(protocol, upper)));
        }
    }
}
/// The longest header of version 1 has a byte more.
const LONGEST_BUT_ONE: usize = 106;

/// The panic of the protocol behind, already logged, has ended the wire above: so it goes with the one below.
fn check(lower: TransportRef, told: Result<()>) {
    if let Err(failure) = told {
        lower.fail_connection(failure);
    }
}

impl Protocol for Proxied {
    fn connection_made(&mut self, lower: TransportRef) {
        let State::Header(_, begin) = &mut self.state else { return };
        if let Some(limit) = begin.rules.timeout {
            let late = move || {
                log::debug!(target: "twistlet", "{}: {}", lower.peer(), ProxyError::TimedOut(limit));
                lower.fail_connection(ProxyError::TimedOut(limit));
            };
            begin.timer = Some(lower.call_later(limit, late));
        }
    }
    #[inline]
    fn data_received(&mut self, lower: TransportRef, data: &[u8]) {
        match &self.state {
            State::Open(wire) => check(lower, Wire::feed(wire.transport(), data)),
            State::Header(..) => self.header_received(lower, data),
            State::Over => {}
        }
    }
    fn read_connection_lost(&mut self, lower: TransportRef) {
        match &self.state {
            State::Open(wire) => check(lower, Wire::end_reading(wire.transport())),
            // A health check, or somebody who changed his mind.
            State::Header(seen, _) if seen.is_empty() => lower.lose_connection(),
            State::Header(..) => self.refuse(lower, ProxyError::Truncated),
            State::Over => lower.lose_connection(),
        }
    }
    fn write_connection_lost(&mut self, lower: TransportRef) {
        self.tell(lower, |protocol, upper| protocol.write_connection_lost(upper));
    }
    fn handshake_completed(&mut self, lower: TransportRef) {
        self.secured = true;
        self.tell(lower, |protocol, upper| protocol.handshake_completed(upper));
    }
    fn file_descriptor_received(&mut self, lower: TransportRef, descriptor: OwnedFd) {
        match &mut self.state {
            State::Open(_) => self.tell(lower, |protocol, upper| protocol.file_descriptor_received(upper, descriptor)),
            // One that comes with bytes behind the header is told of before all of them.
            State::Header(_, begin) if begin.descriptors.len() < DESCRIPTORS => begin.descriptors.push(descriptor),
            _ => refuse_descriptor(lower, descriptor),
        }
    }
    fn connection_lost(&mut self, _: TransportRef, reason: &ConnectionClosed) {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Open(wire) => wire.deliver_lost(reason),
            State::Header(_, begin) => failure::drop_quietly(begin.told),
            State::Over => {}
        }
    }
}

/// The transport of the protocol behind: that below, but for whose it is.
struct Middle {
    lower: TransportRef,
    upper: Rc<Cell<TransportRef>>,
    peer: Address,
    host: Address,
}
impl Transport for Middle {
    fn lower(&self) -> Option<TransportRef> {
        Some(self.lower)
    }
    fn write(&self, data: &[u8]) {
        self.lower.write(data);
    }
    fn write_bytes(&self, data: Bytes) {
        self.lower.write_bytes(data);
    }
    fn write_vectored(&self, parts: &[IoSlice<'_>]) {
        self.lower.write_vectored(parts);
    }
    fn write_file(&self, part: &FilePart) -> bool {
        self.lower.write_file(part)
    }
    fn register_pull_producer(&self, producer: Box<dyn PullProducer>) {
        self.lower.register_pull_producer(Pull { producer, upper: self.upper.get() });
    }
    fn peer(&self) -> Address {
        self.peer.clone()
    }
    fn host(&self) -> Address {
        self.host.clone()
    }
}

/// A pull producer is asked with the transport that it knows.
struct Pull {
    producer: Box<dyn PullProducer>,
    upper: TransportRef,
}
impl PullProducer for Pull {
    fn produce(&mut self, _: TransportRef) -> bool {
        self.producer.produce(self.upper)
    }
    fn stop_producing(&mut self) {
        self.producer.stop_producing();
    }
}
