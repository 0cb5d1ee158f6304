//! Name service on the reactor's own sockets: SRV, MX, TXT and every other record, which `getaddrinfo` does not tell (Twisted's
//! `names.client`). Feature `dns`.
//!
//! A [`Client`] is asked; `flights` sees that nothing is asked twice at a time, `exchange` goes from server to server, `message`
//! reads what comes back, `hosts` completes host names and makes the client a resolver. The messages themselves are read and
//! written by hickory-proto.
mod cache;
mod config;
mod error;
mod exchange;
mod flights;
mod hosts;
mod message;
mod name;
mod record;
mod stream;

pub use config::Config;
pub use error::DnsError;
pub use record::{Data, Mx, Record, RecordType, Soa, Srv};

use crate::deferred::Deferred;
use crate::reactor::Reactor;
use flights::{Flights, Found};
use message::{MOST_ALIASES, Question};
use std::cell::OnceCell;
use std::fmt;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

/// Asks name servers (Twisted's `names.client.Resolver`). Clones are the same client, with the same memory of answers.
///
/// Names are taken as they are, from the root; host names are completed with the searched domains only by
/// [`resolve`](crate::transport::resolver::Resolver::resolve). Aliases are followed. Servers are asked in turn, and again, as
/// [`Config`] says; what they are told is believed only from the server asked, to the port and under the number that were drawn
/// for the question. All look-ups fail with [`DnsError`]; cancelling one gives it up.
///
/// ```no_run
/// use twistlet::transport::dns::Client;
/// use twistlet::Reactor;
///
/// let reactor = Reactor::new()?;
/// let _ = Client::new(&reactor).lookup_srv("_xmpp-client._tcp.example.org").add_callback(move |servers| {
///     for server in servers {
///         println!("{}:{}", server.target, server.port);
///     }
///     reactor.stop()
/// });
/// reactor.run()?;
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[derive(Clone)]
pub struct Client(Rc<Inner>);

struct Inner {
    reactor: Reactor,
    /// Made at the first look-up, for the sake of a client that is never asked anything.
    flights: OnceCell<Rc<Flights>>,
}

impl Client {
    /// As /etc/resolv.conf says, which is read at the first look-up.
    pub fn new(reactor: &Reactor) -> Self {
        Client(Rc::new(Inner { reactor: *reactor, flights: OnceCell::new() }))
    }
    /// As `config` says.
    pub fn with_config(reactor: &Reactor, config: Config) -> Self {
        Client(Rc::new(Inner { reactor: *reactor, flights: OnceCell::from(Flights::new(*reactor, config)) }))
    }
    fn flights(&self) -> &Rc<Flights> {
        self.0.flights.get_or_init(|| Flights::new(self.0.reactor, Config::system()))
    }
    /// Forgets the answers that it remembers.
    pub fn forget(&self) {
        if let Some(flights) = self.0.flights.get() {
            flights.forget();
        }
    }

    /// The records of a name, of any type; at least one (Twisted's `query`). Of an alias, what it stands for.
    pub fn lookup(&self, name: &str, kind: RecordType) -> Deferred<Vec<Record>> {
        match name::parse(name).and_then(|name| Question::new(name, kind)) {
            Ok(question) => {
                let asked: Rc<str> = name.into();
                follow(self.flights(), question, MOST_ALIASES, Rc::clone(&asked)).add_errback(move |failure| {
                    Err(match failure.check::<DnsError>() {
                        Some(error) => error.clone().about(&asked).into(),
                        None => failure,
                    })
                })
            }
            Err(error) => Deferred::fail(error),
        }
    }
    fn pick<T: 'static>(&self, name: &str, kind: RecordType, pick: fn(Data) -> Option<T>) -> Deferred<Vec<T>> {
        self.lookup(name, kind)
            .add_callback(move |records| Ok(records.into_iter().filter_map(|record| pick(record.data)).collect()))
    }
    /// IPv4 addresses (Twisted's `lookupAddress`).
    pub fn lookup_a(&self, name: &str) -> Deferred<Vec<Ipv4Addr>> {
        self.pick(name, RecordType::A, |data| if let Data::A(ip) = data { Some(ip) } else { None })
    }
    /// IPv6 addresses (Twisted's `lookupIPV6Address`).
    pub fn lookup_aaaa(&self, name: &str) -> Deferred<Vec<Ipv6Addr>> {
        self.pick(name, RecordType::AAAA, |data| if let Data::Aaaa(ip) = data { Some(ip) } else { None })
    }
    /// The servers of a service, `"_xmpp-client._tcp.example.org"` (Twisted's `lookupService`), in no order;
    /// `endpoint::srv` goes about them as RFC 2782 says.
    pub fn lookup_srv(&self, name: &str) -> Deferred<Vec<Srv>> {
        self.pick(name, RecordType::SRV, |data| if let Data::Srv(srv) = data { Some(srv) } else { None })
    }
    /// Mail exchangers, the preferred ones first (Twisted's `lookupMailExchange`).
    pub fn lookup_mx(&self, name: &str) -> Deferred<Vec<Mx>> {
        let found = self.pick(name, RecordType::MX, |data| if let Data::Mx(mx) = data { Some(mx) } else { None });
        found.add_callback(|mut found| {
            found.sort_by_key(|mx| mx.preference);
            Ok(found)
        })
    }
    /// Texts, each with its pieces put together (Twisted's `lookupText`).
    pub fn lookup_txt(&self, name: &str) -> Deferred<Vec<Vec<u8>>> {
        self.pick(name, RecordType::TXT, |data| if let Data::Txt(text) = data { Some(text.concat()) } else { None })
    }
    /// The names of an address (Twisted's `lookupPointer`).
    pub fn lookup_ptr(&self, address: IpAddr) -> Deferred<Vec<String>> {
        self.pick(&reverse(address), RecordType::PTR, |data| if let Data::Ptr(name) = data { Some(name) } else { None })
    }
    /// What the name is an alias of (Twisted's `lookupCanonicalName`).
    pub fn lookup_cname(&self, name: &str) -> Deferred<Vec<String>> {
        self.pick(name, RecordType::CNAME, |data| if let Data::Cname(name) = data { Some(name) } else { None })
    }
    /// Name servers (Twisted's `lookupNameservers`).
    pub fn lookup_ns(&self, name: &str) -> Deferred<Vec<String>> {
        self.pick(name, RecordType::NS, |data| if let Data::Ns(name) = data { Some(name) } else { None })
    }
    /// The start of a zone (Twisted's `lookupAuthority`).
    pub fn lookup_soa(&self, name: &str) -> Deferred<Vec<Soa>> {
        self.pick(name, RecordType::SOA, |data| if let Data::Soa(soa) = data { Some(soa) } else { None })
    }
}
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", &self.0.flights.get().map(|flights| &flights.config)).finish()
    }
}

/// Asks, and asks about what the name is an alias of, `left` steps far.
fn follow(flights: &Rc<Flights>, question: Question, left: usize, asked: Rc<str>) -> Deferred<Vec<Record>> {
    let kind = question.kind;
    let next = Rc::clone(flights);
    flights.ask(question).add_callback(move |found| match found {
        Found::Records(records) => Deferred::succeed(records.to_vec()),
        Found::Alias(target, steps) => match left.checked_sub(steps) {
            Some(left) => follow(&next, Question { name: target, kind }, left, asked),
            None => Deferred::fail(DnsError::TooManyAliases { name: asked.to_string() }),
        },
    })
}

/// The name under which the names of an address are found.
fn reverse(address: IpAddr) -> String {
    let mut name = String::new();
    // Into a String: cannot fail.
    match address {
        IpAddr::V4(ip) => {
            for byte in ip.octets().iter().rev() {
                let _ = write!(name, "{byte}.");
            }
            name + "in-addr.arpa"
        }
        IpAddr::V6(ip) => {
            for byte in ip.octets().iter().rev() {
                let _ = write!(name, "{:x}.{:x}.", byte & 15, byte >> 4);
            }
            name + "ip6.arpa"
        }
    }
}
