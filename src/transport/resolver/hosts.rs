//! `Hosts`: names with addresses by decree, in the syntax of /etc/hosts, and the resolver that looks there first.
use super::{Resolver, international};
use crate::deferred::Deferred;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;

/// The most of a hosts file that is read; block lists of a million names have been seen.
const LARGEST_FILE: u64 = 64 * 1024 * 1024;

/// Names and their addresses. Names are compared without regard to case, or to a dot at their end; with the feature `dns`, a
/// name beyond ASCII is the same as its `xn--` form.
///
/// ```
/// use twistlet::transport::resolver::Hosts;
///
/// let hosts = Hosts::parse("127.0.0.1 localhost  # a comment\n::1 localhost ip6-localhost\n");
/// assert_eq!(hosts.addresses("LOCALHOST"), Some(&["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()][..]));
/// assert_eq!(hosts.addresses("example.org"), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    names: HashMap<String, Vec<IpAddr>>,
}

fn key(name: &str) -> String {
    // A name that is none is nobody's.
    let name = &*international::ascii(name).unwrap_or(name.into());
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

impl Hosts {
    /// A table without names.
    pub fn new() -> Self {
        Hosts::default()
    }
    /// The names in the text of a hosts file: an address and its names on a line, `#` before comments. Lines that are
    /// nothing of the kind are left out.
    pub fn parse(text: &str) -> Self {
        let mut hosts = Hosts::new();
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let Some(address) = words.next().and_then(super::literal) else { continue };
            for name in words {
                hosts.add(name, address);
            }
        }
        hosts
    }
    /// The names in a file, of which 64 MiB are read at most.
    ///
    /// # Errors
    /// The system's, when it cannot be read. Bytes that are no UTF-8 only spoil their own names.
    ///
    /// # Blocking
    /// While the file is read: for the start of a program.
    pub fn read(path: impl AsRef<Path>) -> io::Result<Self> {
        let mut text = Vec::new();
        File::open(path)?.take(LARGEST_FILE).read_to_end(&mut text)?;
        Ok(Hosts::parse(&String::from_utf8_lossy(&text)))
    }
    /// The names in /etc/hosts; none, when it cannot be read.
    ///
    /// # Blocking
    /// As [`read`](Hosts::read).
    pub fn system() -> Self {
        Hosts::read("/etc/hosts").unwrap_or_else(|error| {
            log::debug!(target: "twistlet", "/etc/hosts was not read: {error}");
            Hosts::new()
        })
    }
    /// Adds an address to a name.
    pub fn add(&mut self, name: &str, address: IpAddr) {
        let addresses = self.names.entry(key(name)).or_default();
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    /// This table, with an address more.
    pub fn with(mut self, name: &str, address: IpAddr) -> Self {
        self.add(name, address);
        self
    }
    /// The addresses of a name, in the order they were added.
    pub fn addresses(&self, name: &str) -> Option<&[IpAddr]> {
        self.names.get(&key(name)).map(Vec::as_slice)
    }
    /// How many names there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// A table in front of another resolver, which is asked only for names that are not in it: a name that has an address here, of
/// whichever kind, has no others.
#[derive(Clone, Debug)]
pub struct HostsResolver<R> {
    hosts: Hosts,
    next: R,
}

impl<R: Resolver> HostsResolver<R> {
    /// `hosts` first, then `next`.
    pub fn new(hosts: Hosts, next: R) -> Self {
        HostsResolver { hosts, next }
    }
}
impl<R: Resolver> Resolver for HostsResolver<R> {
    fn resolve(&self, host: &str) -> Deferred<Vec<IpAddr>> {
        match self.hosts.addresses(host) {
            Some(addresses) => Deferred::succeed(addresses.to_vec()),
            None => self.next.resolve(host),
        }
    }
}
