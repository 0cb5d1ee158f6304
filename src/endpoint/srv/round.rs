//! The servers of a service, one after the other: looked up, put in order as RFC 2782 says, handed out once each, and looked up
//! again. What a name server says is not to be relied on: it may be nothing, thousands, or nonsense.
use super::{SrvConnector, SrvError, SrvTarget};
use crate::deferred::Deferred;
use crate::error::ConnectError;
use crate::failure::{Failure, Result};
use crate::reactor::Reactor;
use crate::transport::dns::{Client, DnsError, Srv};
use std::cell::RefCell;
use std::fs::File;
use std::io::Read;
use std::rc::Rc;
use std::time::Duration;

/// Servers that are tried in a round.
const MOST_SERVERS: usize = 64;
/// The most of /etc/services that is read.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;

/// Clones go through the same round.
#[derive(Clone)]
pub(super) struct Round(Rc<Inner>);

struct Inner {
    connector: SrvConnector,
    client: Client,
    /// Those that had no turn yet.
    left: RefCell<Vec<SrvTarget>>,
    /// All of the latest answer, in case no other comes.
    known: RefCell<Vec<SrvTarget>>,
}

impl Round {
    pub(super) fn new(reactor: &Reactor, connector: SrvConnector) -> Self {
        let client = connector.client.clone().unwrap_or_else(|| Client::new(reactor));
        Round(Rc::new(Inner { connector, client, left: RefCell::default(), known: RefCell::default() }))
    }
    /// Whether the next server would be of another round.
    pub(super) fn is_over(&self) -> bool {
        self.0.left.borrow().is_empty()
    }
    /// The next server. Fails with [`ConnectError`].
    pub(super) fn next(&self) -> Deferred<SrvTarget> {
        if let Some(target) = self.take() {
            return Deferred::succeed(target);
        }
        let domain = &self.0.connector.domain;
        if domain.trim_matches('.').is_empty() {
            // The root has no services.
            return Deferred::fail(ConnectError::UnknownHost { host: domain.clone() });
        }
        let round = self.clone();
        self.0.client.lookup_srv(&self.name()).add_both(move |answer| {
            let targets = round.judge(answer)?;
            round.0.known.borrow_mut().clone_from(&targets);
            *round.0.left.borrow_mut() = targets;
            let none = || SrvError::NoUsableServer { name: round.name() };
            round.take().ok_or_else(|| ConnectError::Failed(none().into()).into())
        })
    }
    /// The name of the records.
    pub(super) fn name(&self) -> String {
        self.0.connector.name()
    }
    #[cfg(feature = "tls")]
    pub(super) fn tls(&self) -> Option<&super::secured::Tls> {
        self.0.connector.tls.as_ref()
    }
    #[cfg(feature = "tls")]
    pub(super) fn domain(&self) -> &str {
        &self.0.connector.domain
    }
    /// How long the attempt at a server may take.
    pub(super) fn limit(&self) -> Duration {
        self.0.connector.timeout
    }
    fn take(&self) -> Option<SrvTarget> {
        let target = choose(&mut self.0.left.borrow_mut(), |most| rand::random_range(0..=most))?;
        self.0.connector.looked_at(&target);
        Some(target)
    }

    fn judge(&self, answer: Result<Vec<Srv>>) -> Result<Vec<SrvTarget>> {
        match answer {
            Ok(records) => usable(records, self.name()).map_err(|error| ConnectError::Failed(error.into()).into()),
            Err(failure) => match failure.check::<DnsError>() {
                Some(error) if error.is_negative() => Ok(vec![self.fall_back()?]),
                Some(error) => {
                    let known = self.0.known.borrow().clone();
                    // Better the servers of a while ago than none.
                    if known.is_empty() {
                        Err(error.clone().into_connect_error(&self.name()).into())
                    } else {
                        Ok(known)
                    }
                }
                None => Err(failure),
            },
        }
    }
    /// Without records, the domain itself is the server.
    fn fall_back(&self) -> Result<SrvTarget> {
        let SrvConnector { service, protocol, domain, default_port, .. } = &self.0.connector;
        let unknown = || SrvError::UnknownPort { service: service.clone(), domain: domain.clone() };
        let port = service_port(service, protocol).or(*default_port);
        let port = port.ok_or_else(|| Failure::from(ConnectError::Failed(unknown().into())))?;
        Ok(SrvTarget { host: domain.clone(), port, priority: 0, weight: 0 })
    }
}

/// Those that name a host and a port, each once, the best of them if they are too many.
fn usable(records: Vec<Srv>, name: String) -> Result<Vec<SrvTarget>, SrvError> {
    let offered = records.iter().any(|record| record.target != ".");
    if !offered && !records.is_empty() {
        return Err(SrvError::NotOffered { name });
    }
    let mut targets: Vec<SrvTarget> = records
        .into_iter()
        .filter(|record| record.target != "." && record.port != 0)
        .map(|srv| SrvTarget { host: srv.target, port: srv.port, priority: srv.priority, weight: srv.weight })
        .collect();
    targets.sort_by(|a, b| (a.priority, b.weight, &a.host, a.port).cmp(&(b.priority, a.weight, &b.host, b.port)));
    targets.dedup();
    targets.truncate(MOST_SERVERS);
    // Those without weight come first among their equals.
    targets.sort_by_key(|target| (target.priority, target.weight));
    Ok(targets)
}

/// Takes the next one out of `left`, which is in order of priority, then weight: among the best ones each with a chance of its
/// share of the weight, those without weight first when the draw is nothing. `draw` gives a number up to its argument.
fn choose(left: &mut Vec<SrvTarget>, draw: impl FnOnce(u32) -> u32) -> Option<SrvTarget> {
    let best = left.first()?.priority;
    let among = left.iter().take_while(|target| target.priority == best).count();
    let total: u32 = left[..among].iter().map(|target| u32::from(target.weight)).sum();
    let drawn = draw(total);
    let mut sum = 0;
    let at = left[..among].iter().position(|target| {
        sum += u32::from(target.weight);
        sum >= drawn
    });
    Some(left.remove(at.unwrap_or(0)))
}

/// The port of a service: a number, or what /etc/services says.
fn service_port(service: &str, protocol: &str) -> Option<u16> {
    if let Ok(port) = service.parse() {
        return Some(port);
    }
    let mut text = Vec::new();
    File::open("/etc/services").ok()?.take(LARGEST_FILE).read_to_end(&mut text).ok()?;
    find_service(&String::from_utf8_lossy(&text), service, protocol)
}
fn find_service(text: &str, service: &str, protocol: &str) -> Option<u16> {
    text.lines().find_map(|line| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let (name, at) = (words.next()?, words.next()?);
        let (port, of) = at.split_once('/')?;
        let is_it = of == protocol && (name == service || words.any(|alias| alias == service));
        if is_it { port.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(priority: u16, weight: u16) -> SrvTarget {
        SrvTarget { host: format!("{priority}.{weight}"), port: 1, priority, weight }
    }

    // SRV-3
    #[test]
    fn the_draw_decides_among_the_best_by_running_sums() {
        let all = || vec![target(1, 0), target(1, 10), target(1, 30), target(2, 100)];
        for (drawn, expected) in [(0, 0), (1, 1), (10, 1), (11, 2), (40, 2)] {
            let mut left = all();
            let chosen = choose(&mut left, |most| {
                assert_eq!(most, 40, "of the best priority alone");
                drawn
            });
            assert_eq!(chosen, Some(all()[expected].clone()), "{drawn}");
            assert_eq!(left.len(), 3);
        }
        let mut left = all();
        let order: Vec<_> = std::iter::from_fn(|| choose(&mut left, |most| most)).map(|target| target.weight).collect();
        assert_eq!(order, [30, 10, 0, 100]);
        let heaviest = vec![target(0, u16::MAX); 65536];
        assert!(choose(&mut heaviest.clone(), |most| most).is_some());
    }

    #[test]
    fn services_are_found_by_name_or_alias_and_protocol() {
        let text = "# comment\nhttp 80/tcp www # web\nhttp 8080/udp\nbad x/tcp\nshort\nlate 70000/tcp";
        assert_eq!(find_service(text, "http", "tcp"), Some(80));
        assert_eq!(find_service(text, "www", "tcp"), Some(80));
        assert_eq!(find_service(text, "http", "udp"), Some(8080));
        for absent in ["web", "bad", "short", "late", "80/tcp", ""] {
            assert_eq!(find_service(text, absent, "tcp"), None, "{absent}");
        }
        assert_eq!(service_port("5060", "tcp"), Some(5060));
    }
}
