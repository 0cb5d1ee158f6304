//! The kinds of server endpoints.
use super::{Arguments, Descriptions, ParseError};
use crate::endpoint::{
    ActivatedServerEndpoint, AdoptedServerEndpoint, ServerEndpoint, StdioServerEndpoint, TcpServerEndpoint,
    UnixServerEndpoint, wrap_server,
};
use crate::protocols::proxy::ProxyFactory;
use crate::transport::{ListenAt, UnixPath};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

type Made = Result<Box<dyn ServerEndpoint>, ParseError>;

pub(super) fn add(kinds: &mut Descriptions) {
    kinds.add_server("tcp", |arguments| tcp(arguments, Ipv4Addr::UNSPECIFIED.into()));
    kinds.add_server("tcp6", |arguments| tcp(arguments, Ipv6Addr::UNSPECIFIED.into()));
    kinds.add_server("unix", unix);
    kinds.add_server("fd", inherited);
    kinds.add_server("systemd", systemd);
    kinds.add_server("stdio", |arguments| Ok(Box::new(StdioServerEndpoint::new(arguments.reactor()))));
    kinds.add_server("haproxy", |arguments| Ok(Box::new(wrap_server(arguments.rest_as_server()?, ProxyFactory::new))));
}

/// `port`, `interface` and `backlog`.
pub(super) fn tcp(arguments: &mut Arguments<'_>, everywhere: IpAddr) -> Made {
    Ok(Box::new(TcpServerEndpoint::new(arguments.reactor(), place(arguments, everywhere)?)))
}
fn place(arguments: &mut Arguments<'_>, everywhere: IpAddr) -> Result<ListenAt, ParseError> {
    let port = arguments.require("port")?.port()?;
    let interface = match arguments.next("interface")? {
        Some(interface) if interface.as_str().is_empty() => everywhere,
        Some(interface) => {
            let ip = interface.ip()?;
            if everywhere.is_ipv6() && !ip.is_ipv6() {
                return Err(interface.invalid("an IPv6 address"));
            }
            ip
        }
        None => everywhere,
    };
    let at = ListenAt::from(SocketAddr::new(interface, port));
    match arguments.next("backlog")? {
        Some(backlog) => Ok(at.backlog(backlog.parse("a number of connections")?)),
        None => Ok(at),
    }
}

fn unix(arguments: &mut Arguments<'_>) -> Made {
    // Twisted's name for it, and that of clients.
    let path = match arguments.take("address")? {
        Some(path) => path,
        None => arguments.require("path")?,
    };
    let mut path = UnixPath::from(path.text("a path")?);
    if let Some(mode) = arguments.next("mode")? {
        let octal = u32::from_str_radix(mode.as_str(), 8).ok();
        let permissions = octal.filter(|mode| *mode <= 0o7777).ok_or_else(|| mode.invalid("permissions in octal"))?;
        path = path.mode(permissions);
    }
    if let Some(backlog) = arguments.next("backlog")? {
        path = path.backlog(backlog.parse("a number of connections")?);
    }
    // END-16: unless it is told otherwise.
    if arguments.next("lockfile")?.map_or(Ok(true), |lock| lock.flag())? {
        path = path.lock_file();
    }
    Ok(Box::new(UnixServerEndpoint::new(arguments.reactor(), path)))
}

fn inherited(arguments: &mut Arguments<'_>) -> Made {
    let number = arguments.require("number")?;
    let descriptor = number.parse("the number of a descriptor, 3 or more")?;
    if descriptor < 3 {
        return Err(number.invalid("the number of a descriptor, 3 or more"));
    }
    Ok(Box::new(AdoptedServerEndpoint::inherited(arguments.reactor(), descriptor)))
}

fn systemd(arguments: &mut Arguments<'_>) -> Made {
    let given = arguments.require("domain")?;
    let domain = match given.as_str() {
        "INET" => socket2::Domain::IPV4,
        "INET6" => socket2::Domain::IPV6,
        "UNIX" => socket2::Domain::UNIX,
        _ => return Err(given.invalid("INET, INET6 or UNIX")),
    };
    let reactor = arguments.reactor();
    let endpoint = match (arguments.next("index")?, arguments.take("name")?) {
        (Some(index), None) => ActivatedServerEndpoint::indexed(reactor, index.parse("a number, counted from 0")?),
        (None, Some(name)) => ActivatedServerEndpoint::named(reactor, name.as_str()),
        _ => return Err(arguments.wrong("systemd needs one of index and name")),
    };
    Ok(Box::new(endpoint.of_domain(domain)))
}
