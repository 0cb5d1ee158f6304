//! Our sides of the conversations: servers in callbacks, clients in green threads.
use super::certs;
use super::peers::Served;
use bytes::Bytes;
use std::collections::HashMap;
use twistlet::green::{GreenClientCreator, GreenTransport, spawn};
use twistlet::protocols::codec::Handler;
use twistlet::protocols::proxy::{ProxyFactory, ProxyHeader, ProxyVersion};
use twistlet::protocols::{
    Decoder, Encoder, Framed, Int32Strings, LineHandler, LineReceiver, LineTransport, Lines, Netstrings,
};
use twistlet::transport::tls::ServerConfig;
use twistlet::{Failure, ListeningPort, Protocol, Reactor, Result, TransportRef};

/// What is sent to be echoed: the sizes that twisted_peer.py has.
fn messages(with_empty: bool) -> Vec<Bytes> {
    let mut sizes = vec![1, 2, 79, 80, 81, 1000, 4095, 4096, 4097, 16_000, 16_384, 7];
    sizes.extend(3..60);
    if with_empty {
        sizes.extend([0, 99_999, 0]);
    }
    sizes.into_iter().map(|size: usize| (0..size).map(|i| b'a' + ((size + i) % 26) as u8).collect()).collect()
}

struct Echo {
    tls: ServerConfig,
}
impl LineHandler for Echo {
    fn line_received(&mut self, transport: LineTransport, line: &[u8]) {
        match line {
            b"STARTTLS" if transport.tls_info().is_none() => {
                transport.send_line("220 go ahead");
                transport.start_tls(&self.tls);
            }
            b"WHO" => {
                let peer = transport.peer();
                let (ip, port) = (peer.ip().map(|ip| ip.to_string()), peer.port());
                transport.send_line(format!("{} {}", ip.unwrap_or_default(), port.unwrap_or_default()));
            }
            line => transport.send_line(line),
        }
    }
}

/// As much of SMTP as `openssl s_client -starttls smtp` speaks, then echoes.
struct Mail {
    tls: ServerConfig,
}
impl LineHandler for Mail {
    fn connection_made(&mut self, transport: LineTransport) {
        transport.send_line("220 localhost ready");
    }
    fn line_received(&mut self, transport: LineTransport, line: &[u8]) {
        if line.starts_with(b"EHLO") {
            transport.send_line("250-localhost");
            transport.send_line("250 STARTTLS");
        } else if line == b"STARTTLS" {
            transport.send_line("220 go ahead");
            transport.start_tls(&self.tls);
        } else {
            transport.send_line(line);
        }
    }
}

struct EchoFrames;
impl EchoFrames {
    fn send(transport: TransportRef, mut encoder: impl Encoder<Bytes>, message: Bytes) {
        let mut output = bytes::BytesMut::new();
        match encoder.encode(message, &mut output) {
            Ok(()) => transport.write_bytes(output.freeze()),
            Err(failure) => transport.fail_connection(failure),
        }
    }
}
struct Nets(EchoFrames);
impl Handler<Bytes> for Nets {
    fn message_received(&mut self, transport: TransportRef, message: Bytes) {
        EchoFrames::send(transport, Netstrings::new(), message);
    }
}
struct Ints(EchoFrames);
impl Handler<Bytes> for Ints {
    fn message_received(&mut self, transport: TransportRef, message: Bytes) {
        EchoFrames::send(transport, Int32Strings::new(), message);
    }
}

/// Answers any request with who asked.
#[derive(Default)]
struct Http(Vec<u8>);
impl Protocol for Http {
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        self.0.extend_from_slice(data);
        if self.0.ends_with(b"\r\n\r\n") {
            let body = format!("you are {}", transport.peer().ip().map(|ip| ip.to_string()).unwrap_or_default());
            write!(transport, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            transport.lose_connection();
        }
    }
}

/// All of our servers.
pub struct Servers(HashMap<&'static str, u16>);

impl Servers {
    pub fn listen(chain: &str, key: &str) -> Result<Servers> {
        let tls = ServerConfig::from_pem(chain, key)?.alpn(["lines", "http/1.1"]);
        let reactor = Reactor::current();
        let at = "127.0.0.1:0";
        let mut ports = HashMap::new();
        let mut add = |kind, port: ListeningPort| ports.insert(kind, port.address().port().unwrap_or_default());
        let echo = {
            let tls = tls.clone();
            move || LineReceiver::new(Echo { tls: tls.clone() })
        };
        add("line", reactor.listen_tcp(at, echo.clone())?);
        add("starttls", reactor.listen_tcp(at, echo.clone())?);
        add("tls", reactor.listen_tls(at, &tls, echo.clone())?);
        add("proxy1", reactor.listen_tcp(at, ProxyFactory::new(echo.clone()))?);
        add("proxy2", reactor.listen_tcp(at, ProxyFactory::new(echo))?);
        add("netstring", reactor.listen_tcp(at, || Framed::new(Netstrings::new(), Nets(EchoFrames)))?);
        add("int32", reactor.listen_tcp(at, || Framed::new(Int32Strings::new(), Ints(EchoFrames)))?);
        add("https", reactor.listen_tls(at, &tls, Http::default)?);
        add("proxied", reactor.listen_tcp(at, ProxyFactory::new(Http::default))?);
        add("smtp", reactor.listen_tcp(at, move || LineReceiver::new(Mail { tls: tls.clone() }))?);
        Ok(Servers(ports))
    }
    pub fn port(&self, kind: &str) -> u16 {
        self.0.get(kind).copied().unwrap_or_default()
    }
}

/// Sends everything from one green thread while this one checks what comes back.
fn echoed<D>(conn: &GreenTransport<D>, messages: Vec<Bytes>) -> Result<String>
where
    D: Decoder<Item = Bytes> + Encoder<Bytes>,
{
    let (sender, to_send) = (conn.clone(), messages.clone());
    let sending = spawn(move || {
        for message in to_send {
            sender.send(message)?;
        }
        Ok(())
    });
    for (at, message) in messages.iter().enumerate() {
        match conn.recv()? {
            Some(answer) if answer == *message => {}
            Some(answer) => return Err(Failure::msg(format!("message {at} came back as {} bytes", answer.len()))),
            None => return Err(Failure::msg(format!("the end instead of message {at}"))),
        }
    }
    sending.wait()?;
    conn.close()?;
    Ok(format!("{} messages", messages.len()))
}

fn expect(conn: &GreenTransport<Lines>, line: &str) -> Result {
    match conn.read_line()? {
        Some(got) if got == line => Ok(()),
        got => Err(Failure::msg(format!("{line:?} was expected, not {got:?}"))),
    }
}

/// The client's side of a conversation of this kind.
pub fn talk(kind: &str, server: &Served) -> Result<String> {
    let reactor = Reactor::current();
    let creator = GreenClientCreator::new(&reactor);
    let to = ("127.0.0.1", server.port);
    match kind {
        "netstring" => echoed(&creator.framed(Netstrings::new).connect_tcp(to)?, messages(true)),
        "int32" => echoed(&creator.framed(Int32Strings::new).connect_tcp(to)?, messages(true)),
        // Twisted's server has no answer to ALPN when it was given no protocols.
        "tls" | "alpn" => {
            let offered: &[&str] = if kind == "alpn" { &["other", "lines"] } else { &[] };
            let config = certs::client().alpn(offered);
            let conn = creator.framed(Lines::new).connect_tls(to, config.named("localhost"))?;
            let info = conn.transport().tls_info().ok_or_else(|| Failure::msg("no TLS"))?;
            let agreed = info.alpn().map(|name| name.escape_ascii().to_string());
            if kind == "alpn" && agreed.as_deref() != Some("lines") {
                return Err(Failure::msg(format!("agreed on {agreed:?}")));
            }
            Ok(format!("{}, {:?} {}", echoed(&conn, messages(false))?, info.version(), agreed.unwrap_or_default()))
        }
        "starttls" => {
            let conn = creator.framed(Lines::new).connect_tcp(to)?;
            conn.send_line("STARTTLS");
            expect(&conn, "220 go ahead")?;
            conn.start_tls(certs::client().named("localhost"))?;
            echoed(&conn, messages(false))
        }
        "proxy1" | "proxy2" => {
            let version = if kind == "proxy1" { ProxyVersion::V1 } else { ProxyVersion::V2 };
            let (source, destination) = (([203, 0, 113, 7], 4711), ([198, 51, 100, 1], 25));
            let conn = creator.framed(Lines::new).connect_tcp(to)?;
            conn.write(ProxyHeader::new(version, source.into(), destination.into()).to_bytes())?;
            conn.send_line("WHO");
            expect(&conn, "203.0.113.7 4711")?;
            echoed(&conn, messages(false))
        }
        _ => echoed(&creator.framed(Lines::new).connect_tcp(to)?, messages(false)),
    }
}

/// With `openssl s_server -rev`, which turns each line round.
pub fn talk_reversed(server: &Served) -> Result<String> {
    let creator = GreenClientCreator::new(&Reactor::current()).framed(|| Lines::new().delimiter(b"\n"));
    let conn = creator.connect_tls(("127.0.0.1", server.port), certs::client().named("localhost"))?;
    for word in ["stressed", "drawer", "a"] {
        conn.send_line(word);
        expect(&conn, &word.chars().rev().collect::<String>())?;
    }
    conn.close()?;
    Ok("3 lines".to_owned())
}
