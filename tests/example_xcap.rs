//! The XCAP proxy between raw clients and an HTTPS server that demands digest authentication.
#![cfg(feature = "green")]
mod certs;
#[path = "../examples/shared/digest.rs"]
mod digest;
mod support;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use support::{Program, closed_port, dial, example, folder, serve};

const USER: &str = "alice@example.com";
const REALM: &str = "the tests";
const NONCE: &str = "dcd98b7102dd2f0e8b11d0f600bfb0c0";

fn config() -> Arc<ServerConfig> {
    let pair = certs::pair();
    let chain = CertificateDer::pem_slice_iter(pair.chain.as_bytes()).collect::<Result<Vec<_>, _>>().expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM");
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
    Arc::new(builder.with_single_cert(chain, key).expect("a server"))
}

/// Whether the header proves that whoever asks for `path` knows the password.
fn is_authorized(head: &str, path: &str, qop: bool) -> bool {
    let header = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("authorization").then_some(value)
    });
    let Some(given) = header.and_then(digest::parameters) else { return false };
    let of = |name| digest::value(&given, name).unwrap_or_default();
    let counted = qop.then(|| (of("nc"), of("cnonce")));
    let expected = digest::response((USER, REALM, "secret"), ("GET", path), NONCE, counted);
    (of("username"), of("realm"), of("nonce"), of("uri")) == (USER, REALM, NONCE, path)
        && of("response") == expected
        && of("opaque") == "keep me"
        && (!qop || !of("cnonce").is_empty())
}

/// Answers requests of one connection until it closes.
fn answer(stream: TcpStream, qop: bool) -> std::io::Result<()> {
    let connection = ServerConnection::new(config()).map_err(std::io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let (status, more, body) = if !is_authorized(&head, &path, qop) {
            let qop = if qop { "qop=\"auth,auth-int\", " } else { "" };
            let challenge = format!("Digest realm=\"{REALM}\", {qop}nonce=\"{NONCE}\", opaque=\"keep me\"");
            ("401 Unauthorized", format!("WWW-Authenticate: {challenge}\r\n"), "no".to_owned())
        } else if path.starts_with("/xcap-root/missing/") {
            ("404 Not Found", String::new(), "gone".to_owned())
        } else {
            ("200 OK", String::new(), format!("<document at=\"{path}\"/>"))
        };
        let head = format!("HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\n\r\n", body.len());
        stream.get_mut().write_all((head + &body).as_bytes())?;
    }
}

/// The proxy for a server, as a user with `password`.
fn proxy(server: SocketAddr, password: &str) -> (Program, SocketAddr) {
    let authorities = folder(&format!("xcap-{}", server.port())).join("authority.pem");
    std::fs::write(&authorities, &certs::authority().root).expect("writable");
    let root = format!("https://localhost:{}/xcap-root", server.port());
    let arguments = ["127.0.0.1:0", "--root", &root, "--user", USER, "--ca", &authorities.to_string_lossy()];
    let proxy = Program::start(Command::new(example("xcap_proxy")).args(arguments).env("XCAP_PASSWORD", password));
    let at = proxy.address();
    (proxy, at)
}

struct Client(BufReader<TcpStream>);
impl Client {
    fn of(at: SocketAddr) -> Self {
        Client(BufReader::new(dial(at)))
    }
    fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).expect("taken");
    }
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("an answer");
        line.trim_end().to_owned()
    }
    fn ask(&mut self, text: &str) -> String {
        self.send(&format!("{text}\r\n"));
        self.line()
    }
}

#[test]
fn documents_and_parts_of_them_come_with_and_without_a_counted_nonce() {
    for qop in [true, false] {
        let server = serve(move |stream| drop(answer(stream, qop)));
        let (proxy, at) = proxy(server, "secret");
        let mut client = Client::of(at);
        let own = "/xcap-root/resource-lists/users/alice@example.com/index";
        assert_eq!(client.ask("resource-lists user"), format!("<document at=\"{own}\"/>"));
        assert_eq!(client.ask("resource-lists u"), format!("<document at=\"{own}\"/>"));
        let global = client.ask("resource-lists global");
        assert_eq!(global, "<document at=\"/xcap-root/resource-lists/global/index\"/>");
        let part = client.ask("resource-lists user resource-lists/list[@name=\"my friends\"]");
        assert_eq!(part, format!("<document at=\"{own}/~~/resource-lists/list%5B@name=%22my%20friends%22%5D\"/>"));
        // Several at once are answered in their order, after the client has said all.
        client.send("resource-lists global\r\n\r\nmissing user\r\nresource-lists user\r\n");
        client.0.get_ref().shutdown(std::net::Shutdown::Write).expect("open");
        let mut rest = String::new();
        client.0.read_to_string(&mut rest).expect("a clean end");
        let own = format!("<document at=\"{own}\"/>");
        assert_eq!(rest.lines().collect::<Vec<_>>(), [&global, "error: the server said 404 Not Found", &own]);
        proxy.interrupt_and_finish();
    }
}

#[test]
fn what_goes_wrong_is_said_on_the_line_and_the_connection_stays() {
    let server = serve(|stream| drop(answer(stream, true)));
    let (proxy, at) = proxy(server, "secret");
    let mut client = Client::of(at);
    assert_eq!(client.ask("missing user"), "error: the server said 404 Not Found");
    assert_eq!(client.ask("word"), "error: not a question: app context node");
    assert_eq!(client.ask("resource-lists elsewhere"), "error: no context \\\"elsewhere\\\": say user or global");
    assert_eq!(client.ask("../secrets user"), "error: no application");
    assert!(client.ask("resource-lists user").starts_with("<document"));
    // A line without an end is no reason to keep it.
    client.send(&"x".repeat(10_000));
    assert_eq!(client.0.read_to_end(&mut Vec::new()).unwrap_or(0), 0);
    proxy.interrupt_and_finish();
}

#[test]
fn a_wrong_password_is_told_and_asked_once() {
    let server = serve(|stream| drop(answer(stream, true)));
    let (proxy, at) = proxy(server, "wrong");
    assert_eq!(Client::of(at).ask("resource-lists user"), "error: the server said 401 Unauthorized");
    proxy.interrupt_and_finish();
}

#[test]
fn a_server_that_is_down_or_not_the_one_is_an_error_text() {
    let (down, at) = proxy(closed_port(), "secret");
    let mut client = Client::of(at);
    for _ in 0..2 {
        let text = client.ask("resource-lists user");
        assert!(text.starts_with("error: ") && text.to_lowercase().contains("refused"), "{text}");
    }
    down.interrupt_and_finish();
    // One that shows a certificate of another authority, and one that speaks no TLS.
    let foreign = serve(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
        let _ = stream.read(&mut [0; 1000]);
    });
    let (other, at) = proxy(foreign, "secret");
    let text = Client::of(at).ask("resource-lists user");
    assert!(text.starts_with("error: "), "{text}");
    other.interrupt_and_finish();
}
