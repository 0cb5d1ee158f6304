//! The kinds that speak TLS. Their files are read when they are used, not while a description is parsed.
use super::clients::host;
use super::servers::tcp;
use super::{Arguments, Descriptions, ParseError};
use crate::deferred::Deferred;
use crate::endpoint::{ClientEndpoint, Listening, ServerEndpoint, wrap_client_tls, wrap_server_tls};
use crate::error::{CannotListen, ConnectError};
use crate::failure::{Failure, Result};
use crate::transport::tls::{ClientConfig, ServerConfig};
use crate::transport::{Factory, TransportRef};
use std::cell::RefCell;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Nobody's certificates take more.
const MAX_FILE: u64 = 1 << 20;

pub(super) fn add(kinds: &mut Descriptions) {
    kinds.add_client("tls", client);
    kinds.add_client("ssl", client);
    kinds.add_server("tls", server);
    kinds.add_server("ssl", server);
}

fn client(arguments: &mut Arguments<'_>) -> Result<Box<dyn ClientEndpoint>, ParseError> {
    let (name, below): (String, Box<dyn ClientEndpoint>) = match arguments.take("endpoint")? {
        Some(endpoint) => {
            // The port is the other endpoint's.
            let name = arguments.require("host")?.text("a name or an address")?;
            arguments.next("port")?.map(|port| port.port()).transpose()?;
            (name, endpoint.client()?)
        }
        None => {
            let host = host(arguments)?;
            (host.host().to_owned(), Box::new(host))
        }
    };
    let mut file = |name| Ok(arguments.take(name)?.map(|path| path.text("a path")).transpose()?.map(PathBuf::from));
    let files = ClientFiles {
        certificate: file("certificate")?.or(file("certKey")?),
        key: file("privateKey")?,
        roots: file("trustRoots")?.or(file("caCertsDir")?),
    };
    Ok(Box::new(Client { name, below, files, config: RefCell::new(None) }))
}

fn server(arguments: &mut Arguments<'_>) -> Result<Box<dyn ServerEndpoint>, ParseError> {
    let below = match arguments.take("endpoint")? {
        Some(endpoint) => endpoint.server()?,
        None => tcp(arguments, Ipv4Addr::UNSPECIFIED.into())?,
    };
    let mut file = |name| Ok(arguments.take(name)?.map(|path| path.text("a path")).transpose()?.map(PathBuf::from));
    let key = file("privateKey")?.unwrap_or_else(|| "server.pem".into());
    let certificate = file("certKey")?.unwrap_or_else(|| key.clone());
    let chain = file("extraCertChain")?;
    Ok(Box::new(Server { below, key, certificate, chain }))
}

/// A file, with its name in what is wrong with it.
fn read(path: &Path) -> Result<Vec<u8>> {
    let about = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut text = Vec::new();
    fs::File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut text)).map_err(about)?;
    if text.len() as u64 > MAX_FILE {
        return Err(about(io::Error::new(io::ErrorKind::FileTooLarge, "more than a certificate can be")).into());
    }
    Ok(text)
}
/// A file, or all of a folder that are called `.pem` or `.crt`.
fn read_roots(path: &Path) -> Result<Vec<u8>> {
    if !path.is_dir() {
        return read(path);
    }
    let about = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(about)? {
        let file = entry.map_err(about)?.path();
        if file.extension().is_some_and(|extension| extension == "pem" || extension == "crt") {
            files.push(file);
        }
    }
    files.sort();
    let mut text = Vec::new();
    for file in files {
        text.extend(read(&file)?);
        text.push(b'\n');
    }
    Ok(text)
}

#[derive(Debug)]
struct ClientFiles {
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    roots: Option<PathBuf>,
}
impl ClientFiles {
    fn config(&self) -> Result<ClientConfig> {
        let config = match &self.roots {
            Some(roots) => ClientConfig::with_roots_pem(read_roots(roots)?)?,
            None => ClientConfig::new()?,
        };
        // One of them may hold both.
        match (&self.certificate, &self.key) {
            (None, None) => Ok(config),
            (Some(both), None) | (None, Some(both)) => {
                let text = read(both)?;
                config.client_certificate(&text, &text)
            }
            (Some(certificate), Some(key)) => config.client_certificate(read(certificate)?, read(key)?),
        }
    }
}

struct Client {
    name: String,
    below: Box<dyn ClientEndpoint>,
    files: ClientFiles,
    /// Since the first use: it has the sessions that can be resumed.
    config: RefCell<Option<ClientConfig>>,
}
impl Client {
    fn config(&self) -> Result<ClientConfig> {
        if let Some(config) = &*self.config.borrow() {
            return Ok(config.clone());
        }
        let config = self.files.config()?;
        *self.config.borrow_mut() = Some(config.clone());
        Ok(config)
    }
}
impl ClientEndpoint for Client {
    fn connect_boxed(&self, factory: Box<dyn Factory>) -> Deferred<TransportRef> {
        match self.config() {
            Ok(config) => wrap_client_tls(&self.below, &config, &*self.name).connect_boxed(factory),
            Err(failure) => Deferred::fail(ConnectError::Tls(failure)),
        }
    }
}
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("name", &self.name).field("files", &self.files).finish_non_exhaustive()
    }
}

struct Server {
    below: Box<dyn ServerEndpoint>,
    key: PathBuf,
    certificate: PathBuf,
    chain: Option<PathBuf>,
}
impl Server {
    fn config(&self) -> Result<ServerConfig> {
        let mut chain = read(&self.certificate)?;
        if let Some(more) = &self.chain {
            chain.push(b'\n');
            chain.extend(read(more)?);
        }
        ServerConfig::from_pem(chain, read(&self.key)?)
    }
}
impl ServerEndpoint for Server {
    fn listen_boxed(&self, factory: Box<dyn Factory>) -> Deferred<Listening> {
        match self.config() {
            Ok(config) => wrap_server_tls(&self.below, &config).listen_boxed(factory),
            Err(failure) => Deferred::fail(cannot_listen(&self.certificate, failure)),
        }
    }
}
fn cannot_listen(certificate: &Path, failure: Failure) -> CannotListen {
    CannotListen::new(format_args!("TLS with {}", certificate.display()), failure.into())
}
