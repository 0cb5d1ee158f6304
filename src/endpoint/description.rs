//! Endpoints from strings: `tcp:host=example.org:port=80`, `haproxy:unix:/run/app.sock`, so that a configuration file or a
//! command line says where to connect and where to listen (Twisted's `clientFromString` and `serverFromString`).
//!
//! `text` splits a description, `arguments` is what an author of a kind works with, `error` what is wrong and where, `clients`
//! and `servers` the kinds there are. What must never happen here: anything opened, looked up or read while a description is
//! parsed.
mod arguments;
mod clients;
mod error;
mod servers;
mod text;
#[cfg(feature = "tls")]
mod tls;

pub use arguments::{Arguments, Value};
pub use error::{ParseError, ParseReason};
pub use text::quote;

use super::{ClientEndpoint, ServerEndpoint};
use crate::reactor::Reactor;
use std::collections::BTreeMap;
use std::fmt;
use text::Text;

/// What connects as `text` says (Twisted's `clientFromString`).
///
/// A description is a kind and its arguments, divided by colons. An argument has a name or none: `tcp:example.org:80` and
/// `tcp:port=80:host=example.org` are the same. A backslash takes its meaning from the character after it ([`quote`]):
/// `tcp:\:\:1:80`. Kinds are found in whatever case.
///
/// | kind | arguments |
/// |---|---|
/// | `tcp` | `host`, `port`; `timeout` in seconds (30), `bindAddress` (an IP address). A name is tried at all its addresses, as [`HostnameEndpoint`](super::HostnameEndpoint) does |
/// | `tcp6` | the same, IPv6 alone |
/// | `unix` | `path`; `timeout`, `lockfile` (1: only if the server holds it) |
/// | `tls`, `ssl` | with the feature of that name: `host`, `port`, `timeout`, `bindAddress` as `tcp`; `trustRoots`, a PEM file or a folder of such (the system's); `certificate` and `privateKey`, PEM files; `endpoint`, a description of what to connect to instead, `host` being the server's name alone |
///
/// Nothing is opened, looked up or read before [`connect`](ClientEndpoint::connect): what is wrong with a host or a file
/// arrives there. The files of `tls` are read at the first connect, those of a server each time it begins to listen.
///
/// ```
/// use twistlet::Reactor;
/// use twistlet::endpoint::client_from_string;
/// let reactor = Reactor::new()?;
/// let _endpoint = client_from_string(&reactor, "tcp:example.org:80:timeout=5")?;
///
/// let error = client_from_string(&reactor, "tcp:example.org:http").err().ok_or("no port")?;
/// assert_eq!(error.to_string(), "\
/// port must be a number from 0 to 65535
///   tcp:example.org:http
///                   ^^^^");
/// # reactor.close();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`ParseError`], which points at the place.
pub fn client_from_string(reactor: &Reactor, text: &str) -> Result<Box<dyn ClientEndpoint>, ParseError> {
    Descriptions::new().client(reactor, text)
}

/// What listens as `text` says (Twisted's `serverFromString`). The form is that of [`client_from_string`].
///
/// | kind | arguments |
/// |---|---|
/// | `tcp` | `port`; `interface` (an IPv4 address, or IPv6; all of IPv4), `backlog` (1,024) |
/// | `tcp6` | the same; `interface` is `::`, all there are |
/// | `unix` | `path`; `mode` in octal (what the umask leaves), `backlog`, `lockfile` (1: as long as it listens it holds the lock `PATH.lock`) |
/// | `tls`, `ssl` | with the feature `tls`: `port`, `interface`, `backlog` as `tcp`; the PEM files `privateKey` (`server.pem`), `certKey` (the same file) and `extraCertChain`; `endpoint`, a description of where to listen instead |
/// | `stdio` | none: standard input and output are the one connection |
/// | `systemd` | `domain`: `INET`, `INET6` or `UNIX`; `index`, from 0, or `name`: a socket that systemd has handed over, see [`ActivatedServerEndpoint`](super::ActivatedServerEndpoint) |
/// | `fd` | `number`: a listening socket that the process was [started with](super::AdoptedServerEndpoint::inherited) |
/// | `haproxy` | a description of its own, all that follows: connections begin with a PROXY header, see [`ProxyFactory`](crate::protocols::proxy::ProxyFactory) |
///
/// ```
/// use twistlet::Reactor;
/// use twistlet::endpoint::{ServerEndpoint, server_from_string};
/// # use twistlet::{Protocol, TransportRef};
/// # struct Echo;
/// # impl Protocol for Echo { fn data_received(&mut self, t: TransportRef, data: &[u8]) { t.write(data) } }
/// let reactor = Reactor::new()?;
/// let endpoint = server_from_string(&reactor, r"haproxy:tcp:0:interface=\:\:1")?;
/// let _listening = endpoint.listen(|| Echo);
/// # reactor.close();
/// # Ok::<(), twistlet::Failure>(())
/// ```
///
/// # Errors
/// As [`client_from_string`].
pub fn server_from_string(reactor: &Reactor, text: &str) -> Result<Box<dyn ServerEndpoint>, ParseError> {
    Descriptions::new().server(reactor, text)
}

type MakeClient = Box<dyn Fn(&mut Arguments<'_>) -> Result<Box<dyn ClientEndpoint>, ParseError>>;
type MakeServer = Box<dyn Fn(&mut Arguments<'_>) -> Result<Box<dyn ServerEndpoint>, ParseError>>;

/// The kinds that descriptions may be of: those of this crate, and a program's own (Twisted's endpoint plug-ins).
///
/// ```
/// use twistlet::Reactor;
/// use twistlet::endpoint::{Descriptions, TcpClientEndpoint};
///
/// let mut kinds = Descriptions::new();
/// // `local:8007`, or `local:port=8007`.
/// kinds.add_client("local", |arguments| {
///     let port = arguments.require("port")?.parse::<u16>("a port")?;
///     Ok(Box::new(TcpClientEndpoint::new(arguments.reactor(), ("127.0.0.1", port))))
/// });
/// let reactor = Reactor::new()?;
/// assert!(kinds.client(&reactor, "local:8007").is_ok());
/// assert!(kinds.client(&reactor, "local:8007:speed=high").is_err());
/// # reactor.close();
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct Descriptions {
    clients: BTreeMap<String, MakeClient>,
    servers: BTreeMap<String, MakeServer>,
}

impl Descriptions {
    /// The kinds of this crate.
    pub fn new() -> Self {
        let mut kinds = Descriptions::none();
        clients::add(&mut kinds);
        servers::add(&mut kinds);
        #[cfg(feature = "tls")]
        tls::add(&mut kinds);
        kinds
    }
    /// No kind at all: for programs that allow only what they name.
    pub fn none() -> Self {
        Descriptions { clients: BTreeMap::new(), servers: BTreeMap::new() }
    }
    /// A kind of client endpoints, in the place of any of that name. `make` takes the arguments it knows; any that it leaves
    /// is an error.
    pub fn add_client(
        &mut self,
        kind: &str,
        make: impl Fn(&mut Arguments<'_>) -> Result<Box<dyn ClientEndpoint>, ParseError> + 'static,
    ) -> &mut Self {
        self.clients.insert(kind.to_ascii_lowercase(), Box::new(make));
        self
    }
    /// A kind of server endpoints, as [`add_client`](Descriptions::add_client).
    pub fn add_server(
        &mut self,
        kind: &str,
        make: impl Fn(&mut Arguments<'_>) -> Result<Box<dyn ServerEndpoint>, ParseError> + 'static,
    ) -> &mut Self {
        self.servers.insert(kind.to_ascii_lowercase(), Box::new(make));
        self
    }
    /// As [`client_from_string`], of these kinds.
    ///
    /// # Errors
    /// [`ParseError`].
    pub fn client(&self, reactor: &Reactor, text: &str) -> Result<Box<dyn ClientEndpoint>, ParseError> {
        self.client_at(reactor, &Text::new(text), 0)
    }
    /// As [`server_from_string`], of these kinds.
    ///
    /// # Errors
    /// [`ParseError`].
    pub fn server(&self, reactor: &Reactor, text: &str) -> Result<Box<dyn ServerEndpoint>, ParseError> {
        self.server_at(reactor, &Text::new(text), 0)
    }

    fn client_at(&self, reactor: &Reactor, text: &Text, depth: usize) -> Result<Box<dyn ClientEndpoint>, ParseError> {
        self.make(reactor, text, depth, &self.clients)
    }
    fn server_at(&self, reactor: &Reactor, text: &Text, depth: usize) -> Result<Box<dyn ServerEndpoint>, ParseError> {
        self.make(reactor, text, depth, &self.servers)
    }
    fn make<E: ?Sized>(
        &self,
        reactor: &Reactor,
        text: &Text,
        depth: usize,
        kinds: &BTreeMap<String, Make<E>>,
    ) -> Result<Box<E>, ParseError> {
        let mut arguments = Arguments::new(self, reactor, text, depth)?;
        let kind = arguments.kind();
        match kinds.get(&kind.as_str().to_ascii_lowercase()) {
            Some(make) => {
                let endpoint = make(&mut arguments)?;
                arguments.finish()?;
                Ok(endpoint)
            }
            None => Err(kind.wrong(ParseReason::UnknownKind {
                kind: kind.as_str().to_owned(),
                known: kinds.keys().cloned().collect(),
            })),
        }
    }
}
type Make<E> = Box<dyn Fn(&mut Arguments<'_>) -> Result<Box<E>, ParseError>>;

impl Default for Descriptions {
    fn default() -> Self {
        Descriptions::new()
    }
}
impl fmt::Debug for Descriptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (clients, servers) = (self.clients.keys(), self.servers.keys());
        f.debug_struct("Descriptions")
            .field("clients", &clients.collect::<Vec<_>>())
            .field("servers", &servers.collect::<Vec<_>>())
            .finish()
    }
}
