//! cargo run --example srv_connector --features tls,dns [-- [--dns ADDRESS:PORT] [--roots FILE] [--by-host] [SERVICE DOMAIN]]
//!
//! The founding twisted_srvconnector: a service of a domain is looked up, its servers are told of as they are tried, and with the
//! first that will do, lines are exchanged over TLS. No reactor is started here: the first call that waits starts it.
//!
//! `--dns` asks that name server instead of those of /etc/resolv.conf, `--roots` trusts the certificates in that PEM file instead
//! of the system's, and `--by-host` has the servers prove their own names instead of the domain's.
use std::net::SocketAddr;
use std::process::ExitCode;
use twistlet::green::{GreenClientCreator, SrvConnector};
use twistlet::protocols::Lines;
use twistlet::transport::dns::{Client, Config};
use twistlet::transport::tls::ClientConfig;
use twistlet::{Reactor, Result};

const REQUEST: &str = "MSRP 49fh AUTH\r\n\
    To-Path: msrps://alice@intra.example.com;tcp\r\n\
    From-Path: msrps://alice.example.com:9892/98cjs;tcp\r\n\
    -------49fh$\r\n";

struct Options {
    dns: Option<SocketAddr>,
    roots: Option<String>,
    by_host: bool,
    service: String,
    domain: String,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Option<Options> {
        let (mut dns, mut roots, mut by_host, mut rest) = (None, None, false, Vec::new());
        while let Some(arg) = args.next() {
            match &*arg {
                "--dns" => dns = Some(args.next()?.parse().ok()?),
                "--roots" => roots = Some(args.next()?),
                "--by-host" => by_host = true,
                option if option.starts_with('-') => return None,
                _ => rest.push(arg),
            }
        }
        let (service, domain) = match <[String; 2]>::try_from(rest) {
            Ok([service, domain]) => (service, domain),
            Err(none) if none.is_empty() => ("msrps".to_owned(), "ag-projects.com".to_owned()),
            Err(_) => return None,
        };
        Some(Options { dns, roots, by_host, service, domain })
    }
}

/// Says which server it is about to try.
fn noisy(options: &Options, reactor: &Reactor) -> Result<SrvConnector> {
    let config = match &options.roots {
        Some(file) => ClientConfig::with_roots_pem(std::fs::read(file)?)?,
        None => ClientConfig::new()?,
    };
    let mut connector = SrvConnector::new(&options.service, &options.domain);
    if let Some(server) = options.dns {
        let client = Client::with_config(reactor, Config::new().server(server));
        // Of the hosts that the records name, too.
        reactor.set_resolver(client.clone());
        connector = connector.client(&client);
    }
    connector = if options.by_host { connector.tls_by_host(&config) } else { connector.tls(&config) };
    let name = connector.name();
    Ok(connector.inspect(move |server| println!("resolved {name} --> {}:{}", server.host, server.port)))
}

fn run(options: &Options) -> Result {
    let reactor = Reactor::current();
    let noisy = noisy(options, &reactor)?;
    let conn = GreenClientCreator::new(&reactor).framed(Lines::new).connect_srv(noisy)?;

    println!("Sending:\n{REQUEST}");
    conn.write(REQUEST)?;
    println!("Received:");
    for line in &conn {
        let line = line?;
        println!("{}", line.escape_ascii());
        if line.starts_with(b"-------") {
            break;
        }
    }
    conn.close()
}

fn main() -> ExitCode {
    let Some(options) = Options::parse(std::env::args().skip(1)) else {
        eprintln!("usage: srv_connector [--dns ADDRESS:PORT] [--roots FILE] [--by-host] [SERVICE DOMAIN]");
        return ExitCode::from(2);
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("srv_connector: {failure}");
            ExitCode::FAILURE
        }
    }
}

// Try it where a domain offers the service:
//     cargo run --example srv_connector -- msrps ag-projects.com
