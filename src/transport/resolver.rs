//! Host names: who turns them into addresses, for everything on a reactor that connects by name. `getaddrinfo` on the thread
//! pool unless a program puts something else there (Twisted's `installNameResolver`).
//!
//! `international` writes names beyond ASCII as they are asked for, `system` is the default, `hosts` a table in front of any other; `transport::dns` has a third. Asked by connectors, endpoints
//! and green sockets. What must never happen here: a resolver of the user's run, or dropped, under a borrow.
mod hosts;
pub(super) mod international;
mod system;

pub use hosts::{Hosts, HostsResolver};
pub use system::SystemResolver;

use crate::deferred::Deferred;
use crate::error::ReactorError;
use crate::failure;
use crate::reactor::Reactor;
use std::cell::RefCell;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

/// Turns host names into addresses (Twisted's `IHostnameResolver`). It is never asked for literal addresses.
///
/// ```
/// use twistlet::transport::resolver::{Hosts, HostsResolver, SystemResolver};
/// use twistlet::Reactor;
///
/// let reactor = Reactor::new()?;
/// let hosts = Hosts::new().with("db.internal", [10, 0, 0, 7].into());
/// let system = reactor.set_resolver(HostsResolver::new(hosts, SystemResolver::new(&reactor)));
/// assert_eq!(reactor.resolve("db.internal").result(), Some(Ok(&vec![[10, 0, 0, 7].into()])));
/// reactor.set_resolver(system); // as it was
/// # reactor.close();
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub trait Resolver {
    /// The addresses of `host`, best first, at least one. Fails with
    /// [`ConnectError::UnknownHost`](crate::ConnectError::UnknownHost) when it has none. Cancelling the Deferred gives the
    /// look-up up.
    fn resolve(&self, host: &str) -> Deferred<Vec<IpAddr>>;
}
impl<R: Resolver + ?Sized> Resolver for Rc<R> {
    fn resolve(&self, host: &str) -> Deferred<Vec<IpAddr>> {
        (**self).resolve(host)
    }
}
impl<R: Resolver + ?Sized> Resolver for Box<R> {
    fn resolve(&self, host: &str) -> Deferred<Vec<IpAddr>> {
        (**self).resolve(host)
    }
}

/// A resolver that is a function.
///
/// ```
/// use twistlet::transport::resolver::{Resolver, from_fn};
/// use twistlet::{ConnectError, Deferred};
///
/// let nowhere = from_fn(|host| Deferred::fail(ConnectError::UnknownHost { host: host.to_owned() }));
/// assert!(nowhere.resolve("example.org").result().is_some_and(|answer| answer.is_err()));
/// ```
pub fn from_fn<F: Fn(&str) -> Deferred<Vec<IpAddr>>>(f: F) -> FromFn<F> {
    FromFn(f)
}
/// What [`from_fn`] makes.
#[derive(Clone)]
pub struct FromFn<F>(F);
impl<F: Fn(&str) -> Deferred<Vec<IpAddr>>> Resolver for FromFn<F> {
    fn resolve(&self, host: &str) -> Deferred<Vec<IpAddr>> {
        (self.0)(host)
    }
}
impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromFn")
    }
}

thread_local! {
    /// What the thread's reactor, by number, was given in the place of the default.
    static INSTALLED: RefCell<Option<(u32, Rc<dyn Resolver>)>> = const { RefCell::new(None) };
}

fn swap(new: Option<(u32, Rc<dyn Resolver>)>) -> Option<(u32, Rc<dyn Resolver>)> {
    INSTALLED.try_with(|installed| installed.replace(new)).ok().flatten()
}

impl Reactor {
    /// The addresses of a host, best first, as the reactor's resolver has them (Twisted's `resolve`); a literal address is
    /// itself, at once. Fails with [`ConnectError::UnknownHost`](crate::ConnectError::UnknownHost). Cancelling it gives the
    /// look-up up.
    ///
    /// Literal is what std parses: four decimal parts, or IPv6 with or without brackets; a scope (`%eth0`) is left out.
    ///
    /// Names beyond ASCII are asked for in their `xn--` form (IDNA) with the feature `dns`; without it, and when they are no
    /// valid names, they fail with [`ConnectError::InvalidHost`](crate::ConnectError::InvalidHost).
    pub fn resolve(&self, host: &str) -> Deferred<Vec<IpAddr>> {
        let host = &*match international::ascii(host) {
            Ok(host) => host,
            Err(error) => return Deferred::fail(error),
        };
        if let Some(ip) = literal(host) {
            return Deferred::succeed(vec![ip]);
        }
        let Some(core) = self.core() else { return Deferred::fail(ReactorError::Closed) };
        let installed = INSTALLED.try_with(|installed| installed.borrow().clone()).ok().flatten();
        match installed {
            Some((id, resolver)) if id == core.id() => match failure::catch(|| resolver.resolve(host)) {
                Ok(answer) => answer,
                Err(panicked) => Deferred::fail(panicked),
            },
            _ => SystemResolver::new(self).resolve(host),
        }
    }
    /// Has all names looked up by `resolver` from now on, until the reactor ends (Twisted's `installNameResolver`). Gives the
    /// one in use so far.
    pub fn set_resolver(&self, resolver: impl Resolver + 'static) -> Rc<dyn Resolver> {
        let default = || Rc::new(SystemResolver::new(self));
        let Some(core) = self.core() else { return default() };
        let id = core.id();
        match swap(Some((id, Rc::new(resolver)))) {
            Some((former, resolver)) if former == id => resolver,
            other => {
                core.add_end_hook(Box::new(move || {
                    let ours = INSTALLED.try_with(|installed| installed.borrow().as_ref().is_some_and(|it| it.0 == id));
                    if ours == Ok(true) {
                        failure::drop_quietly(swap(None));
                    }
                }));
                failure::drop_quietly(other);
                default()
            }
        }
    }
}

/// The address that `host` is.
fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse::<Ipv4Addr>() {
        return Some(ip.into());
    }
    let unscoped = bare.split_once('%').map_or(bare, |(ip, _)| ip);
    unscoped.parse::<Ipv6Addr>().ok().map(IpAddr::from)
}
