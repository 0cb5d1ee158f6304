//! The kinds of client endpoints.
use super::{Arguments, Descriptions, ParseError};
use crate::endpoint::{ClientEndpoint, HostnameEndpoint, UnixClientEndpoint};
use crate::transport::UnixPath;
use std::net::SocketAddr;

type Made = Result<Box<dyn ClientEndpoint>, ParseError>;

pub(super) fn add(kinds: &mut Descriptions) {
    kinds.add_client("tcp", |arguments| Ok(Box::new(host(arguments)?)));
    kinds.add_client("tcp6", |arguments| Ok(Box::new(host(arguments)?.only_ipv6())));
    kinds.add_client("unix", unix);
}

/// `host`, `port`, `timeout` and `bindAddress`.
pub(super) fn host(arguments: &mut Arguments<'_>) -> Result<HostnameEndpoint, ParseError> {
    // One of them by name leaves the other to what has none.
    let host = arguments.require("host")?.text("a name or an address")?;
    let port = arguments.require("port")?.port()?;
    let mut endpoint = HostnameEndpoint::new(arguments.reactor(), host, port);
    if let Some(timeout) = arguments.take("timeout")? {
        endpoint = endpoint.timeout(timeout.seconds()?);
    }
    if let Some(local) = arguments.take("bindAddress")? {
        // END-14: a bare address means any port of it.
        endpoint = endpoint.bind(SocketAddr::new(local.ip()?, 0));
    }
    Ok(endpoint)
}

fn unix(arguments: &mut Arguments<'_>) -> Made {
    let path = arguments.require("path")?.text("a path")?;
    let mut path = UnixPath::from(path);
    if let Some(lock) = arguments.take("lockfile")?
        && lock.flag()?
    {
        path = path.lock_file();
    }
    let mut endpoint = UnixClientEndpoint::new(arguments.reactor(), path);
    if let Some(timeout) = arguments.take("timeout")? {
        endpoint = endpoint.timeout(timeout.seconds()?);
    }
    Ok(Box::new(endpoint))
}
