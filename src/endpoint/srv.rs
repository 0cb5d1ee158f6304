//! Connecting to a service of a domain instead of a host: the domain's SRV records say which servers there are, in which order to
//! try them and how to share them out (RFC 2782, Twisted's `names.srvconnect`). Feature `dns`.
//!
//! `round` chooses servers; the attempts themselves are a [`Connector`]'s, or another endpoint's.
mod round;
#[cfg(feature = "tls")]
mod secured;

use super::{ClientEndpoint, HostnameEndpoint, connect_error};
use crate::deferred::Deferred;
use crate::error::{Cancelled, ConnectError, TimedOut};
use crate::failure::{Failure, Result};
use crate::protocols::SharedFactory;
use crate::reactor::Reactor;
use crate::transport::dns::Client;
use crate::transport::{self, ClientFactory, Connector, Destination, Factory, TransportRef};
use round::Round;
use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// How long an attempt may take, look-ups included: as for any other.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// A server of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SrvTarget {
    /// Its host name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Lower is tried first.
    pub priority: u16,
    /// Among servers of the same priority: its share of the clients.
    pub weight: u16,
}

/// Why SRV records gave no server to connect to. Comes within [`ConnectError::Failed`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SrvError {
    /// The domain says that it does not offer the service.
    NotOffered {
        /// The name of the records.
        name: String,
    },
    /// There are records, and none that can be connected to.
    NoUsableServer {
        /// The name of the records.
        name: String,
    },
    /// There are no records, so that the domain itself would be the server; but on which port it would listen is not known.
    UnknownPort {
        /// The service.
        service: String,
        /// The domain.
        domain: String,
    },
}
impl fmt::Display for SrvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOffered { name } => write!(f, "{name}: the domain says that it does not offer this service"),
            Self::NoUsableServer { name } => write!(f, "{name}: none of the SRV records names a host and a port"),
            Self::UnknownPort { service, domain } => write!(
                f,
                "{domain} has no SRV records for the service {service:?}, whose port is not known either; \
                 say which with SrvConnector::default_port"
            ),
        }
    }
}
impl Error for SrvError {}

/// A service of a domain, to be connected to: a description, which opens nothing by itself (Twisted's `SRVConnector`).
///
/// [`Reactor::connect_srv`] tries one server for every attempt: a factory that asks again, or a
/// [`ReconnectingClientFactory`](crate::transport::ReconnectingClientFactory), gets the next one, and when all had their turn the
/// records are looked up anew. As an [`endpoint`](SrvConnector::endpoint) it goes through all servers by itself.
///
/// ```no_run
/// use twistlet::endpoint::ClientEndpoint;
/// use twistlet::endpoint::srv::SrvConnector;
/// use twistlet::{Protocol, Reactor, TransportRef};
///
/// struct Chat;
/// impl Protocol for Chat {
///     fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
/// }
/// let reactor = Reactor::new()?;
/// let chat = SrvConnector::new("xmpp-client", "example.org")
///     .default_port(5222)
///     .inspect(|server| println!("trying {}:{}", server.host, server.port));
/// let _ = chat.endpoint(&reactor).connect(|| Chat).add_callback(|wire| println!("connected to {}", wire.peer()));
/// reactor.run()?;
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[derive(Clone)]
pub struct SrvConnector {
    service: String,
    protocol: String,
    domain: String,
    default_port: Option<u16>,
    client: Option<Client>,
    timeout: Duration,
    inspect: Option<Rc<Inspect>>,
    #[cfg(feature = "tls")]
    tls: Option<secured::Tls>,
}

/// Out while it runs.
type Inspect = Cell<Option<Box<dyn FnMut(&SrvTarget)>>>;

impl SrvConnector {
    /// The service (`"xmpp-client"`) of a domain, over TCP.
    pub fn new(service: &str, domain: &str) -> Self {
        SrvConnector {
            service: service.strip_prefix('_').unwrap_or(service).to_owned(),
            protocol: "tcp".to_owned(),
            domain: domain.to_owned(),
            default_port: None,
            client: None,
            timeout: CONNECT_TIMEOUT,
            inspect: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
    /// The records are those for another transport protocol. The connection is by TCP all the same. Default: `"tcp"`.
    pub fn protocol(mut self, protocol: &str) -> Self {
        self.protocol = protocol.strip_prefix('_').unwrap_or(protocol).to_owned();
        self
    }
    /// Where the domain itself listens, should it have no records, and /etc/services not know the service.
    pub fn default_port(mut self, port: u16) -> Self {
        self.default_port = Some(port);
        self
    }
    /// Asks these name servers for the records; host names go to the reactor's resolver. Default: those of /etc/resolv.conf.
    pub fn client(mut self, client: &Client) -> Self {
        self.client = Some(client.clone());
        self
    }
    /// Gives the attempt at a server up after `limit`, which includes looking it up. Default: 30 seconds.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }
    /// Sees each server that is tried, before it is (what overriding `pickServer` was for). Called on the reactor's main loop.
    pub fn inspect(mut self, f: impl FnMut(&SrvTarget) + 'static) -> Self {
        self.inspect = Some(Rc::new(Cell::new(Some(Box::new(f)))));
        self
    }
    /// Speaks TLS with the servers. They must be the domain's: a certificate for the name of the host will not do, because it was a
    /// name server that said which host, and what those say may be forged (RFC 6125). Another name can be demanded with
    /// [`ClientConfig::named`](crate::transport::tls::ClientConfig::named).
    ///
    /// The [endpoint](SrvConnector::endpoint) fires when the handshake is done, and tries the next server where it fails.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, side: impl Into<crate::transport::tls::Side>) -> Self {
        self.tls = Some(secured::Tls::new(side.into()));
        self
    }
    /// As [`tls`](SrvConnector::tls), with servers that have certificates for their own host names, and not for the domain: only
    /// where the answers of the name servers cannot be forged.
    #[cfg(feature = "tls")]
    pub fn tls_by_host(mut self, config: &crate::transport::tls::ClientConfig) -> Self {
        self.tls = Some(secured::Tls::by_host(config));
        self
    }
    /// The name of the records: `_xmpp-client._tcp.example.org`.
    pub fn name(&self) -> String {
        format!("_{}._{}.{}", self.service, self.protocol, self.domain)
    }
    /// An endpoint that tries one server after the other. Each of its connections begins with a look-up.
    pub fn endpoint(&self, reactor: &Reactor) -> SrvEndpoint {
        SrvEndpoint { reactor: *reactor, connector: self.clone() }
    }

    fn looked_at(&self, target: &SrvTarget) {
        let Some(place) = &self.inspect else { return };
        let Some(mut inspect) = place.take() else { return };
        let outcome = crate::failure::catch(|| inspect(target));
        place.set(Some(inspect));
        if let Err(panicked) = outcome {
            crate::failure::report(format_args!("the look at a server of {}", self.name()), &panicked);
        }
    }
}
impl fmt::Debug for SrvConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SrvConnector")
            .field("name", &self.name())
            .field("default_port", &self.default_port)
            .finish_non_exhaustive()
    }
}

impl Reactor {
    /// Connects to a service of a domain by its SRV records (Twisted's `SRVConnector(..).connect()`). The factory hears how it
    /// went as from [`connect_tcp`](Reactor::connect_tcp), whatever stage it went wrong at, and its
    /// [`connect`](Connector::connect) tries the next server. Without records the domain itself is connected to.
    pub fn connect_srv(&self, to: SrvConnector, factory: impl ClientFactory + 'static) -> Connector {
        let called = Destination::from(to.name()).timeout(to.timeout);
        #[cfg(feature = "tls")]
        if let Some(tls) = to.tls.clone() {
            let (factory, told) = tls.wrap_client(&to.domain, factory);
            return connect(self, to, called, told, Box::new(factory));
        }
        connect(self, to, called, |_| (), Box::new(factory))
    }
}
fn connect(
    reactor: &Reactor,
    to: SrvConnector,
    called: Destination,
    chosen: impl Fn(&SrvTarget) + 'static,
    factory: Box<dyn ClientFactory>,
) -> Connector {
    let round = Round::new(reactor, to);
    let chosen = Rc::new(chosen);
    let finder = move || {
        let chosen = Rc::clone(&chosen);
        round.next().add_callback(move |target| {
            chosen(&target);
            Ok(Destination::from((target.host, target.port)))
        })
    };
    transport::connect_found(reactor, called, Rc::new(finder), factory)
}

/// A service of a domain as an endpoint: its servers are tried in the order of RFC 2782 until one accepts. What [`SrvConnector::endpoint`] makes.
///
/// When none does, it fails with what the first one failed with.
#[derive(Clone, Debug)]
pub struct SrvEndpoint {
    reactor: Reactor,
    connector: SrvConnector,
}

impl ClientEndpoint for SrvEndpoint {
    fn connect_boxed(&self, factory: Box<dyn Factory>) -> Deferred<TransportRef> {
        let round = Round::new(&self.reactor, self.connector.clone());
        let attempt = Attempt { reactor: self.reactor, factory: SharedFactory::new(factory), round, first: None };
        attempt.next().add_errback(connect_error)
    }
}

/// A connection in the making, from server to server.
struct Attempt {
    reactor: Reactor,
    factory: SharedFactory,
    round: Round,
    first: Option<Failure>,
}
impl Attempt {
    fn next(self) -> Deferred<TransportRef> {
        let limit = self.round.limit();
        self.round.next().add_timeout(limit, &self.reactor).add_both(move |target| match target {
            Ok(target) => self.connect(&target),
            Err(failure) if failure.is::<TimedOut>() => {
                Deferred::fail(ConnectError::TimedOut { to: self.round.name(), after: limit })
            }
            Err(failure) => Deferred::fail(match self.first {
                Some(first) if !is_final(&failure) => first,
                _ => failure,
            }),
        })
    }
    fn connect(mut self, target: &SrvTarget) -> Deferred<TransportRef> {
        let endpoint = HostnameEndpoint::new(&self.reactor, &*target.host, target.port).timeout(self.round.limit());
        self.dial(&endpoint).add_both(move |outcome: Result<TransportRef>| {
            let failure = match outcome {
                Ok(wire) => return Deferred::succeed(wire),
                Err(failure) => failure,
            };
            if is_final(&failure) {
                return Deferred::fail(failure);
            }
            let first = self.first.get_or_insert(failure).clone();
            if self.round.is_over() { Deferred::fail(first) } else { self.next() }
        })
    }
}

impl Attempt {
    /// Connects, and in the case of TLS waits until that is done.
    fn dial(&self, endpoint: &HostnameEndpoint) -> Deferred<TransportRef> {
        let factory = self.factory.clone();
        #[cfg(feature = "tls")]
        if let Some(tls) = self.round.tls() {
            return tls.connect(endpoint, self.round.domain(), factory);
        }
        endpoint.connect_boxed(Box::new(factory))
    }
}

/// Whether it was decided here: who gave up, or declined, does not want another server.
fn is_final(failure: &Failure) -> bool {
    failure.is::<Cancelled>() || matches!(failure.check(), Some(ConnectError::NoProtocol | ConnectError::Cancelled))
}
