//! Sockets the process was started with, as systemd hands them over (its socket activation, `sd_listen_fds(3)`): the `LISTEN_*`
//! variables, and endpoints that listen on what they name.
//!
//! A process that another of its program started in its place has them from that one. They are claimed once, when anybody first
//! asks, and kept to the end of the process: each use has a duplicate, and systemd keeps the socket open anyway. What must never
//! happen here: the variables of another process believed.
use super::inheritance::{self, Role};
use super::{Listening, ServerEndpoint};
use crate::deferred::Deferred;
use crate::error::CannotListen;
use crate::reactor::Reactor;
use crate::sys::inherited;
use crate::transport::Factory;
use std::fmt;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::OnceLock;

/// The first descriptor handed over.
const FIRST: RawFd = 3;
/// More than systemd hands over.
const MANY: usize = 4096;
/// The name of one that has none.
const NO_NAME: &str = "unknown";

/// One that was handed over, and its name in the unit (`FileDescriptorName=`).
pub(crate) struct Activated {
    pub(crate) name: String,
    pub(crate) descriptor: OwnedFd,
}

/// All that were handed over to this process, in systemd's order.
pub(crate) fn activated() -> &'static [Activated] {
    static ACTIVATED: OnceLock<Vec<Activated>> = OnceLock::new();
    ACTIVATED.get_or_init(|| {
        let variable = |name| std::env::var(name).ok();
        let (pid, count, names) = (variable("LISTEN_PID"), variable("LISTEN_FDS"), variable("LISTEN_FDNAMES"));
        let named = parse(std::process::id(), pid.as_deref(), count.as_deref(), names.as_deref());
        let mut all: Vec<_> = named.into_iter().filter_map(|(number, name)| claim(number, name)).collect();
        let handed_on = inheritance::take_all(Role::Activated).into_iter();
        all.extend(handed_on.map(|(name, descriptor)| Activated { name, descriptor }));
        all
    })
}

fn claim(number: RawFd, name: String) -> Option<Activated> {
    match inherited::claim(number) {
        Ok(descriptor) => Some(Activated { name, descriptor }),
        Err(error) => {
            log::warn!(target: "twistlet", "descriptor {number} ({name}) of LISTEN_FDS cannot be taken: {error}");
            None
        }
    }
}

/// The numbers and names. None when they are another process's, or when anything is malformed: names that are not as many
/// as descriptors are nobody's. Without names all are called `unknown`, as `sd_listen_fds_with_names(3)` has it.
fn parse(own: u32, pid: Option<&str>, count: Option<&str>, names: Option<&str>) -> Vec<(RawFd, String)> {
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok());
    let (Some(pid), Some(count)) = (number(pid), number(count)) else { return Vec::new() };
    let count = count as usize;
    if pid != own || count > MANY {
        return Vec::new();
    }
    let names: Vec<String> = match names {
        Some(names) => names.split(':').map(str::to_owned).collect(),
        None => vec![NO_NAME.to_owned(); count],
    };
    if names.len() != count { Vec::new() } else { (FIRST..).zip(names).collect() }
}

/// Listens on a socket that systemd handed over (Twisted's `systemd:` endpoint): it is open before the program runs, so that
/// connections wait while the program starts, is restarted, or is not yet wanted.
///
/// ```no_run
/// use twistlet::Reactor;
/// use twistlet::endpoint::{ActivatedServerEndpoint, ServerEndpoint};
/// # use twistlet::{Protocol, TransportRef};
/// # struct Echo;
/// # impl Protocol for Echo { fn data_received(&mut self, t: TransportRef, data: &[u8]) { t.write(data) } }
///
/// let reactor = Reactor::new()?;
/// // `FileDescriptorName=web` in the unit's socket
/// ActivatedServerEndpoint::named(&reactor, "web").listen(|| Echo);
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub struct ActivatedServerEndpoint {
    reactor: Reactor,
    which: Which,
    /// What kind of socket it must be, where somebody says.
    domain: Option<socket2::Domain>,
}

enum Which {
    Name(String),
    Index(usize),
}
impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "systemd's socket {name:?}"),
            Self::Index(index) => write!(f, "systemd's socket number {index}"),
        }
    }
}

impl ActivatedServerEndpoint {
    /// The first of that name.
    pub fn named(reactor: &Reactor, name: impl Into<String>) -> Self {
        ActivatedServerEndpoint { reactor: *reactor, which: Which::Name(name.into()), domain: None }
    }
    /// That of this place, from 0 on, in the order of the unit.
    pub fn indexed(reactor: &Reactor, index: usize) -> Self {
        ActivatedServerEndpoint { reactor: *reactor, which: Which::Index(index), domain: None }
    }
    /// Only if it is of that domain.
    pub(super) fn of_domain(mut self, domain: socket2::Domain) -> Self {
        self.domain = Some(domain);
        self
    }
    fn open(&self) -> io::Result<OwnedFd> {
        let all = activated();
        let found = match &self.which {
            Which::Name(name) => all.iter().find(|socket| socket.name == *name),
            Which::Index(index) => all.get(*index),
        };
        let absent =
            || io::Error::new(io::ErrorKind::NotFound, "systemd did not hand it over: is the unit's socket set up?");
        let socket = &found.ok_or_else(absent)?.descriptor;
        match self.domain {
            Some(domain) if socket2::SockRef::from(socket).domain().ok() != Some(domain) => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is no socket of the domain {domain:?}")))
            }
            _ => socket.try_clone(),
        }
    }
}
impl ServerEndpoint for ActivatedServerEndpoint {
    fn listen_boxed(&self, factory: Box<dyn Factory>) -> Deferred<Listening> {
        match self.open() {
            Ok(socket) => Listening::deferred(self.reactor.listen_tcp(socket, factory)),
            Err(error) => Deferred::fail(CannotListen::new(&self.which, error)),
        }
    }
}
impl fmt::Debug for ActivatedServerEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActivatedServerEndpoint({})", self.which)
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn what_is_handed_over_has_numbers_and_names() {
        // SYD-1
        let named = parse(7, Some("7"), Some("2"), Some("web:admin"));
        assert_eq!(named, [(3, "web".to_owned()), (4, "admin".to_owned())]);
        assert_eq!(parse(7, Some("7"), Some("1"), None), [(3, "unknown".to_owned())]);
    }

    #[test]
    fn what_is_anothers_or_malformed_is_nothing() {
        // SYD-1
        for (pid, count, names) in [
            (Some("8"), Some("1"), Some("web")),
            (None, Some("1"), Some("web")),
            (Some("7"), None, Some("web")),
            (Some("7"), Some("2"), Some("web")),
            (Some("7"), Some("1"), Some("web:more")),
            (Some("7"), Some("-1"), Some("web")),
            (Some("seven"), Some("1"), Some("web")),
            (Some("7"), Some("4000000000"), None),
        ] {
            assert_eq!(parse(7, pid, count, names), [], "{pid:?} {count:?} {names:?}");
        }
    }
}
