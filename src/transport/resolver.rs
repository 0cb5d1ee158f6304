//! Host names: `getaddrinfo` on the reactor's thread pool, as in Twisted, so that /etc/hosts and the system's settings hold.
use crate::deferred::Deferred;
use crate::error::ConnectError;
use crate::failure::Result;
use crate::reactor::Reactor;
use std::net::{IpAddr, ToSocketAddrs};

impl Reactor {
    /// The addresses of a host, in the system's order (Twisted's `resolve`); a literal address is itself. Fails with
    /// [`ConnectError::UnknownHost`].
    pub fn resolve(&self, host: &str) -> Deferred<Vec<IpAddr>> {
        resolve(self, host)
    }
}

pub(super) fn resolve(reactor: &Reactor, host: &str) -> Deferred<Vec<IpAddr>> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse() {
        return Deferred::succeed(vec![ip]);
    }
    let host = host.to_owned();
    reactor.defer_to_thread(move || look_up(&host))
}

/// On a thread of the pool.
fn look_up(host: &str) -> Result<Vec<IpAddr>> {
    let unknown = || ConnectError::UnknownHost { host: host.to_owned() };
    // getaddrinfo would take these for something else, or not at all.
    if host.is_empty() || host.contains(['\0', ' ', '/']) {
        return Err(unknown().into());
    }
    let mut found: Vec<IpAddr> = Vec::new();
    match (host, 0).to_socket_addrs() {
        Ok(addresses) => {
            for address in addresses {
                if !found.contains(&address.ip()) {
                    found.push(address.ip());
                }
            }
        }
        Err(error) => {
            log::debug!(target: "twistlet", "looking up {host}: {error}");
            return Err(unknown().into());
        }
    }
    if found.is_empty() { Err(unknown().into()) } else { Ok(found) }
}
