//! `SystemResolver`: `getaddrinfo` on the reactor's thread pool, so that /etc/hosts, nsswitch and whatever else the system has
//! hold for programs here too.
use super::Resolver;
use crate::deferred::Deferred;
use crate::error::{ConnectError, TimedOut};
use crate::failure::{Failure, Result};
use crate::reactor::Reactor;
use std::net::{IpAddr, ToSocketAddrs};
use std::time::Duration;

/// How long a look-up may take: Twisted's.
const LIMIT: Duration = Duration::from_secs(60);

/// The system's own look-up, in a thread (Twisted's `GAIResolver`): the default. Its answer comes in a later turn, in the
/// system's order.
///
/// A look-up that nobody waits for any more still holds its thread, of which the pool has ten: a program for which that
/// matters raises [`suggest_thread_pool_size`](Reactor::suggest_thread_pool_size).
#[derive(Clone, Copy, Debug)]
pub struct SystemResolver {
    reactor: Reactor,
    limit: Duration,
}

impl SystemResolver {
    /// On the threads of `reactor`.
    pub fn new(reactor: &Reactor) -> Self {
        SystemResolver { reactor: *reactor, limit: LIMIT }
    }
    /// Fails with [`ConnectError::TimedOut`] after `limit`, and takes no notice of a later answer. Default: 60 seconds.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

impl Resolver for SystemResolver {
    fn resolve(&self, host: &str) -> Deferred<Vec<IpAddr>> {
        let (host, limit) = (host.to_owned(), self.limit);
        let to = host.clone();
        let answer = self.reactor.defer_to_thread(move || look_up(&host));
        answer.add_timeout(limit, &self.reactor).add_errback(move |failure| {
            Err(if failure.is::<TimedOut>() { ConnectError::TimedOut { to, after: limit }.into() } else { failure })
        })
    }
}

/// On a thread of the pool.
fn look_up(host: &str) -> Result<Vec<IpAddr>> {
    let unknown = || Failure::from(ConnectError::UnknownHost { host: host.to_owned() });
    // getaddrinfo would take these for something else, or not at all.
    if host.is_empty() || host.contains(['\0', ' ', '/']) {
        return Err(unknown());
    }
    let addresses = (host, 0).to_socket_addrs().map_err(|error| {
        log::debug!(target: "twistlet", "looking up {host}: {error}");
        unknown()
    })?;
    let mut found: Vec<IpAddr> = Vec::new();
    for address in addresses {
        if !found.contains(&address.ip()) {
            found.push(address.ip());
        }
    }
    if found.is_empty() { Err(unknown()) } else { Ok(found) }
}
