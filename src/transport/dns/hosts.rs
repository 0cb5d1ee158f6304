//! Host names by DNS alone: completed with the searched domains, IPv6 and IPv4 addresses asked for together.
use super::{Client, DnsError, name};
use crate::clock::DelayedCall;
use crate::deferred::{Canceller, Deferred, list};
use crate::failure::{Failure, Result};
use crate::transport::resolver::Resolver;
use std::cell::Cell;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::time::Duration;

/// Asks for IPv6 and IPv4 addresses at once, and gives the former first; once there are addresses of one kind, those of the other
/// have 500 ms left to come. A name with fewer dots than configured is completed with
/// the searched domains first and tried as it is last, any other the other way round; a dot at its end says that it is complete.
/// `localhost` is this machine, and not asked about. Of /etc/hosts it knows nothing: put
/// [`Hosts::system`](crate::transport::resolver::Hosts::system) before it where that matters.
///
/// Fails with [`ConnectError`](crate::ConnectError): `UnknownHost`, `TimedOut`, or `Failed` around a [`DnsError`].
impl Resolver for Client {
    fn resolve(&self, host: &str) -> Deferred<Vec<IpAddr>> {
        if is_local(host) {
            return Deferred::succeed(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]);
        }
        let asked = host.to_owned();
        try_names(self, self.full_names(host)).add_errback(move |failure| {
            Err(match failure.check::<DnsError>() {
                Some(error) => error.clone().into_connect_error(&asked).into(),
                None => failure,
            })
        })
    }
}

/// RFC 6761: never asked for outside.
fn is_local(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

impl Client {
    /// What `host` may be short for, in the order to be tried.
    fn full_names(&self, host: &str) -> VecDeque<String> {
        if host.ends_with('.') {
            return [host.to_owned()].into();
        }
        let config = &self.flights().config;
        let searched = config.search.iter().map(|domain| match domain.as_str() {
            "." => host.to_owned(),
            domain => format!("{host}.{domain}"),
        });
        let mut names: VecDeque<String> = searched.filter(|full| name::parse(full).is_ok()).collect();
        if host.bytes().filter(|&byte| byte == b'.').count() >= config.dots {
            names.push_front(host.to_owned());
        } else {
            names.push_back(host.to_owned());
        }
        names
    }

    fn addresses(&self, name: &str) -> Deferred<Vec<IpAddr>> {
        let (v6, v4) = (self.lookup_aaaa(name), self.lookup_a(name));
        let patience = Rc::new(Cell::new(None));
        let [v6_first, v4_first] = [v4.canceller(), v6.canceller()].map(|other| self.hurry(&patience, other));
        let v6 = v6.add_callback(move |ips| Ok(v6_first(ips.into_iter().map(IpAddr::from).collect())));
        let v4 = v4.add_callback(move |ips| Ok(v4_first(ips.into_iter().map(IpAddr::from).collect())));
        let both = list([v6, v4]).add_both(move |both: Result<_>| {
            if let Some(timer) = patience.take() {
                timer.cancel();
            }
            both
        });
        both.add_callback(|both| {
            let (mut found, mut failures) = (Vec::new(), Vec::new());
            for outcome in both {
                match outcome {
                    Ok(ips) => found.extend(ips),
                    Err(failure) => failures.push(failure),
                }
            }
            if found.is_empty() { Err(worst(failures)) } else { Ok(found) }
        })
    }
}

/// How long addresses of one kind wait for those of the other: there are name servers that never answer about IPv6.
const PATIENCE: Duration = Duration::from_millis(500);

impl Client {
    /// What becomes of the addresses of one kind: if they are the first that are there, `other` is given up after a while.
    fn hurry(
        &self,
        patience: &Rc<Cell<Option<DelayedCall>>>,
        other: Canceller,
    ) -> impl FnOnce(Vec<IpAddr>) -> Vec<IpAddr> + use<> {
        let (reactor, patience) = (self.0.reactor, Rc::clone(patience));
        move |ips| {
            if let Some(timer) = patience.take() {
                timer.cancel();
            } else {
                patience.set(Some(reactor.call_later(PATIENCE, move || other.cancel())));
            }
            ips
        }
    }
}

/// Of two failures the one that leaves hope: what is not there for sure is second to what was not found out.
fn worst(failures: Vec<Failure>) -> Failure {
    let unsure = failures.iter().find(|failure| !is_negative(failure)).or(failures.first()).cloned();
    unsure.unwrap_or_else(|| Failure::msg("neither addresses nor failures"))
}
fn is_negative(failure: &Failure) -> bool {
    failure.check::<DnsError>().is_some_and(DnsError::is_negative)
}

fn try_names(client: &Client, mut names: VecDeque<String>) -> Deferred<Vec<IpAddr>> {
    let Some(name) = names.pop_front() else { return Deferred::fail(Failure::msg("no name to look up")) };
    let client = client.clone();
    client.addresses(&name).add_both(move |found: Result<Vec<IpAddr>>| match found {
        Err(failure) if !names.is_empty() && is_negative(&failure) => try_names(&client, names),
        Ok(found) => Deferred::succeed(found),
        Err(failure) => Deferred::fail(failure),
    })
}
