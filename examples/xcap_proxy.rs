//! cargo run --example xcap_proxy [PORT | ADDRESS:PORT] [--root URL] [--user NAME] [--ca FILE]
//!
//! The founding twisted_xcap_proxy: port 8007, each line `app context node` is answered with a document, or a part of one,
//! from an XCAP server (RFC 4825), by HTTPS with digest authentication. The lines come by callbacks; the fetch is blocking code
//! (ureq and its TLS, unchanged) on a green thread, with green sockets below it. What goes wrong is said on the line.
//!
//! `app` is an application such as `resource-lists`, `context` is `user` or `global`, `node` (which may be left out) selects a
//! part of the document. The password is taken from the environment: XCAP_PASSWORD.
#[path = "shared/digest.rs"]
mod digest;
#[path = "shared/green_ureq.rs"]
mod green_ureq;

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use twistlet::green::{defer_to_green_thread, join_reactor};
use twistlet::protocols::{LineHandler, LineReceiver, LineTransport, Lines};
use twistlet::{Failure, Reactor, Result};
use ureq::http::{StatusCode, Uri, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, http::Response};

const LONGEST_LINE: usize = 4096;
const LARGEST_DOCUMENT: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(30);
/// Where Linux systems keep the authorities they trust.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Blocking, as its author found natural.
struct XcapClient {
    agent: Agent,
    root: String,
    user: String,
    password: String,
}
impl XcapClient {
    fn get(&self, app: &str, context: &str, node: Option<&str>) -> Result<String> {
        let tree = match context {
            "g" | "global" => "global".to_owned(),
            "u" | "user" => format!("users/{}", escape(&self.user)),
            other => return Err(Failure::msg(format!("no context {other:?}: say user or global"))),
        };
        if app.is_empty() || app.contains('/') {
            return Err(Failure::msg("no application"));
        }
        let node = node.map_or_else(String::new, |node| format!("/~~/{}", escape(node)));
        let uri: Uri = format!("{}/{}/{tree}/index{node}", self.root, escape(app)).parse()?;
        let first = self.agent.get(&uri).call()?;
        let mut answer = match self.authorization(&first, &uri)? {
            Some(authorization) => {
                drop(first);
                self.agent.get(&uri).header(header::AUTHORIZATION, authorization).call()?
            }
            None => first,
        };
        match answer.status() {
            StatusCode::OK => Ok(answer.body_mut().with_config().limit(LARGEST_DOCUMENT).read_to_string()?),
            status => Err(Failure::msg(format!("the server said {status}"))),
        }
    }

    /// What a server that wants to know who asks is answered.
    fn authorization(&self, answer: &Response<Body>, uri: &Uri) -> Result<Option<String>> {
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(None);
        }
        let asked = answer.headers().get_all(header::WWW_AUTHENTICATE).iter().filter_map(|asked| asked.to_str().ok());
        let asked = asked.filter_map(digest::parameters).find(|asked| {
            digest::value(asked, "algorithm").is_none_or(|algorithm| algorithm.eq_ignore_ascii_case("MD5"))
        });
        let Some(asked) = asked else {
            return Err(Failure::msg("the server wants an authentication that is not digest with MD5"));
        };
        let of = |name| digest::value(&asked, name).unwrap_or_default();
        let (realm, nonce, user) = (of("realm"), of("nonce"), &self.user);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let fresh = format!("{:016x}", RandomState::new().hash_one(nonce));
        let counted = of("qop").split(',').any(|qop| qop.trim() == "auth").then_some(("00000001", &*fresh));
        let response = digest::response((user, realm, &self.password), ("GET", path), nonce, counted);
        let mut text = format!(
            "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{path}\", response=\"{response}\", algorithm=MD5"
        );
        if let Some((count, fresh)) = counted {
            text += &format!(", qop=auth, nc={count}, cnonce=\"{fresh}\"");
        }
        if let Some(opaque) = digest::value(&asked, "opaque") {
            text += &format!(", opaque=\"{opaque}\"");
        }
        Ok(Some(text))
    }
}

/// What may stand in the path of a URI, the rest in percent.
fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The front: callbacks. One question at a time; the next lines wait, at the client's in the end.
struct XcapProxy {
    client: Rc<XcapClient>,
}
impl LineHandler for XcapProxy {
    fn line_received(&mut self, transport: LineTransport, line: &[u8]) {
        let line = String::from_utf8_lossy(line).trim().to_owned();
        if line.is_empty() {
            return;
        }
        println!("received: {}", line.escape_debug());
        let client = Rc::clone(&self.client);
        transport.pause_producing();
        defer_to_green_thread(move || {
            let mut words = line.splitn(3, ' ');
            match (words.next(), words.next(), words.next()) {
                (Some(app), Some(context), node) => client.get(app, context, node),
                _ => Err(Failure::msg("not a question: app context node")),
            }
        })
        .add_both(move |answer| {
            match answer {
                Ok(text) => transport.send_line(text),
                Err(failure) => transport.send_line(format!("error: {}", failure.to_string().escape_debug())),
            }
            transport.resume_producing();
        });
    }
}

struct Options {
    at: SocketAddr,
    root: String,
    user: String,
    authorities: String,
}

fn run(options: Options) -> Result {
    // ureq leaves the choice of an engine to the program.
    let engine = rustls::crypto::ring::default_provider().install_default();
    engine.map_err(|_| Failure::msg("there is a TLS engine already"))?;
    let pem = std::fs::read(&options.authorities)?;
    let trusted = parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let roots = RootCerts::new_with_certs(&trusted.collect::<Vec<_>>());
    let config = Agent::config_builder()
        .proxy(None)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(PATIENCE))
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .build();
    let client = Rc::new(XcapClient {
        agent: green_ureq::tls_agent(config),
        root: options.root.trim_end_matches('/').to_owned(),
        user: options.user,
        password: std::env::var("XCAP_PASSWORD").unwrap_or_default(),
    });
    let reactor = Reactor::new()?;
    join_reactor(&reactor)?;
    let factory =
        move || LineReceiver::with(Lines::new().max_length(LONGEST_LINE), XcapProxy { client: Rc::clone(&client) });
    println!("listening on {}", reactor.listen_tcp(options.at, factory)?.address());
    reactor.run() // until Ctrl-C
}

/// A port alone means every IPv4 interface.
fn address(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| Some(([0, 0, 0, 0], text.parse().ok()?).into()))
}

fn options(mut args: impl Iterator<Item = String>) -> Option<Options> {
    let mut options = Options {
        at: address("8007")?,
        root: "https://xcap.sipthor.net/xcap-root".to_owned(),
        user: "alice@example.com".to_owned(),
        authorities: AUTHORITIES.to_owned(),
    };
    while let Some(arg) = args.next() {
        match &*arg {
            "--root" => options.root = args.next()?,
            "--user" => options.user = args.next()?,
            "--ca" => options.authorities = args.next()?,
            at => options.at = address(at)?,
        }
    }
    Some(options)
}

fn main() -> Result<ExitCode> {
    let Some(options) = options(std::env::args().skip(1)) else {
        eprintln!(
            "usage: xcap_proxy [PORT | ADDRESS:PORT] [--root URL] [--user NAME] [--ca FILE]      (default: 8007)"
        );
        return Ok(ExitCode::from(2));
    };
    run(options)?;
    Ok(ExitCode::SUCCESS)
}

// Try it:
//     XCAP_PASSWORD=secret cargo run --example xcap_proxy -- --root https://xcap.example.org/xcap-root --user bob@example.org
//     printf 'resource-lists user\r\n' | nc 127.0.0.1 8007
