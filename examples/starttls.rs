//! cargo run --example starttls -- 127.0.0.1:2525 cert.pem key.pem
//!
//! A line protocol that goes over to TLS on request, as mail servers do. What a client sends behind STARTTLS without waiting for
//! the answer is dropped: it may be somebody else's.
use std::process::ExitCode;
use twistlet::protocols::{LineHandler, LineReceiver, LineTransport};
use twistlet::transport::tls::ServerConfig;
use twistlet::{Reactor, Result};

struct Mail {
    tls: ServerConfig,
}
impl LineHandler for Mail {
    fn connection_made(&mut self, transport: LineTransport) {
        transport.send_line("220 ready");
    }
    fn line_received(&mut self, transport: LineTransport, line: &[u8]) {
        match line.to_ascii_uppercase().as_slice() {
            b"STARTTLS" if transport.is_secure() => transport.send_line("503 already"),
            b"STARTTLS" => {
                transport.send_line("220 go ahead");
                // A copy of `transport` taken earlier is encrypted too.
                transport.start_tls(&self.tls);
            }
            b"QUIT" => {
                transport.send_line("221 bye");
                transport.lose_connection();
            }
            hello if hello.starts_with(b"EHLO") && !transport.is_secure() => {
                transport.send_line("250-hello");
                transport.send_line("250 STARTTLS");
            }
            _ => transport.send_line(if transport.is_secure() { "250 ok, secure" } else { "250 ok" }),
        }
    }
    fn handshake_completed(&mut self, transport: LineTransport) {
        println!("{} is secure", transport.peer());
    }
}

fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [at, certificate, key] = &args[..] else {
        eprintln!("usage: starttls ADDRESS CERTIFICATES.pem KEY.pem");
        return Ok(ExitCode::from(2));
    };
    let tls = ServerConfig::from_pem(std::fs::read(certificate)?, std::fs::read(key)?)?;
    let reactor = Reactor::new()?;
    let port = reactor.listen_tcp(at, move || LineReceiver::new(Mail { tls: tls.clone() }))?;
    println!("listening on {}", port.address());
    reactor.run()?;
    Ok(ExitCode::SUCCESS)
}

// Try it:
//     openssl s_client -connect 127.0.0.1:2525 -starttls smtp -crlf -quiet
