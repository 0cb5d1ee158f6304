//! cargo run --example tls_server -- 127.0.0.1:8443 cert.pem key.pem [CLIENT_ROOTS.pem]
//!
//! Echoes what it receives, in callback style, and says with whom it speaks and how. With roots, clients must show a certificate.
use std::process::ExitCode;
use twistlet::transport::tls::ServerConfig;
use twistlet::{ConnectionClosed, Protocol, Reactor, Result, TransportRef};

struct Echo;
impl Protocol for Echo {
    fn handshake_completed(&mut self, transport: TransportRef) {
        let Some(tls) = transport.tls_info() else { return };
        let peer = transport.peer();
        let (name, count) = (tls.server_name().unwrap_or("no name"), tls.peer_certificates().len());
        println!("{peer}: {:?}, {}, asked for {name}, {count} certificates", tls.version(), tls.cipher_suite());
    }
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        transport.write(data);
    }
    fn connection_lost(&mut self, transport: TransportRef, reason: &ConnectionClosed) {
        println!("{}: {reason}", transport.peer());
    }
}

fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (at, certificate, key, roots) = match &args[..] {
        [at, certificate, key] => (at, certificate, key, None),
        [at, certificate, key, roots] => (at, certificate, key, Some(roots)),
        _ => {
            eprintln!("usage: tls_server ADDRESS CERTIFICATES.pem KEY.pem [CLIENT_ROOTS.pem]");
            return Ok(ExitCode::from(2));
        }
    };
    let mut config = ServerConfig::from_pem(std::fs::read(certificate)?, std::fs::read(key)?)?.alpn(["echo"]);
    if let Some(roots) = roots {
        config = config.require_client_certificate(std::fs::read(roots)?)?;
    }
    let reactor = Reactor::new()?;
    let port = reactor.listen_tls(at, &config, || Echo)?;
    println!("listening on {}", port.address());
    reactor.run()?;
    Ok(ExitCode::SUCCESS)
}

// Try it:
//     openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=localhost -keyout key.pem -out cert.pem
//     cargo run --example tls_server -- 127.0.0.1:8443 cert.pem key.pem
//     openssl s_client -connect 127.0.0.1:8443 -quiet
