//! ureq on green sockets: what ureq asks of whoever brings sockets and names of his own, and nothing else.
#![allow(dead_code, reason = "whoever includes this takes what is needed")]
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;
use twistlet::green::block_on;
use twistlet::green::net::TcpStream;
use twistlet::{Reactor, TimedOut};
use ureq::Agent;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::http::uri::Scheme;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, RustlsConnector, Transport,
};

/// An agent whose every wait is a green thread's.
pub fn agent(config: Config) -> Agent {
    Agent::with_parts(config, GreenConnector, GreenResolver)
}

/// The same, with ureq's own TLS for `https`, as `config` says.
pub fn tls_agent(config: Config) -> Agent {
    Agent::with_parts(config, GreenConnector.chain(RustlsConnector::default()), GreenResolver)
}

/// std's calls on `green::net::TcpStream`.
#[derive(Debug)]
pub struct GreenConnector;
impl Connector for GreenConnector {
    type Out = GreenSocket;
    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<GreenSocket>, ureq::Error> {
        let mut outcome = Err(ureq::Error::HostNotFound);
        for address in details.addrs.iter() {
            outcome = match details.timeout.not_zero() {
                Some(limit) => TcpStream::connect_timeout(address, *limit).map_err(|e| late(e, details.timeout)),
                None => TcpStream::connect(address).map_err(ureq::Error::from),
            };
            if outcome.is_ok() {
                break;
            }
        }
        let stream = outcome?;
        stream.set_nodelay(details.config.no_delay())?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(GreenSocket { stream, buffers }))
    }
}

#[derive(Debug)]
pub struct GreenSocket {
    stream: TcpStream,
    buffers: LazyBuffers,
}
impl Transport for GreenSocket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }
    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let timeout = timeout.for_write();
        self.stream.set_write_timeout(timeout.not_zero().map(|limit| *limit))?;
        self.stream.write_all(&self.buffers.output()[..amount]).map_err(|e| late(e, timeout))
    }
    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let timeout = timeout.for_read();
        self.stream.set_read_timeout(timeout.not_zero().map(|limit| *limit))?;
        let n = self.stream.read(self.buffers.input_append_buf()).map_err(|e| late(e, timeout))?;
        self.buffers.input_appended(n);
        Ok(n > 0)
    }
    /// Nothing to read is a connection that can be used again; an end, an error or stray bytes is not.
    fn is_open(&mut self) -> bool {
        let set = self.stream.set_nonblocking(true);
        let quiet = matches!(self.stream.peek(&mut [0]), Err(e) if e.kind() == io::ErrorKind::WouldBlock);
        set.is_ok() && self.stream.set_nonblocking(false).is_ok() && quiet
    }
}
/// ureq tells a timeout by the kind of the error.
fn late(error: io::Error, timeout: NextTimeout) -> ureq::Error {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => ureq::Error::Timeout(timeout.reason),
        _ => error.into(),
    }
}

/// ureq's own resolver would hold the loop; this one asks the reactor's thread pool.
#[derive(Debug)]
pub struct GreenResolver;
impl Resolver for GreenResolver {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?.trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 });
        let reactor = Reactor::current();
        let limit = timeout.not_zero().map_or(Duration::MAX, |limit| *limit);
        let found = block_on(reactor.resolve(host).add_timeout(limit, &reactor)).map_err(|failure| {
            if failure.is::<TimedOut>() {
                ureq::Error::Timeout(timeout.reason)
            } else {
                io::Error::from(failure).into()
            }
        })?;
        let mut addresses = self.empty();
        found.into_iter().take(16).for_each(|ip| addresses.push(SocketAddr::new(ip, port)));
        Ok(addresses)
    }
}
