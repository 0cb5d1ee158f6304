//! rustls's `StreamOwned`, client and server, TLS 1.2 and 1.3.
use crate::crowd::*;
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::sync::{Arc, OnceLock};
use twistlet::Result;

struct Configs {
    server: Arc<ServerConfig>,
    clients: [Arc<ClientConfig>; 2],
}
/// A certificate made on the spot, and those who trust it.
fn configs() -> &'static Configs {
    static CONFIGS: OnceLock<Configs> = OnceLock::new();
    CONFIGS.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a root");
        let server = ServerConfig::builder().with_no_client_auth();
        let server = server.with_single_cert(vec![made.cert.der().clone()], key.into()).expect("a server");
        let client = |version| {
            let client = ClientConfig::builder_with_protocol_versions(&[version]);
            Arc::new(client.with_root_certificates(roots.clone()).with_no_client_auth())
        };
        let clients = [client(&rustls::version::TLS13), client(&rustls::version::TLS12)];
        Configs { server: Arc::new(server), clients }
    })
}

/// Takes a length and as many bytes, twice, and sends them back, until the client says that it is done.
fn echo<S: Stream>(stream: S) -> Result {
    let mut tls = StreamOwned::new(ServerConnection::new(configs().server.clone())?, stream);
    for _ in 0..2 {
        let mut length = [0; 4];
        tls.read_exact(&mut length)?;
        let mut data = vec![0; u32::from_be_bytes(length) as usize];
        tls.read_exact(&mut data)?;
        tls.write_all(&data)?;
        tls.flush()?;
    }
    assert_eq!(tls.read(&mut [0])?, 0, "a close_notify");
    tls.conn.send_close_notify();
    tls.flush()?;
    Ok(())
}

fn talk<S: Stream>(n: usize, stream: S, size: usize, gate: &Gate) -> Result {
    let name = ServerName::try_from("localhost").expect("a name");
    let mut tls = StreamOwned::new(ClientConnection::new(configs().clients[n % 2].clone(), name)?, stream);
    for sent in [&b"hello"[..], noise(n, size)] {
        tls.write_all(&(sent.len() as u32).to_be_bytes())?;
        tls.write_all(sent)?;
        tls.flush()?;
        let mut came = vec![0; sent.len()];
        tls.read_exact(&mut came)?;
        expect("the echo of client", n, &came, sent)?;
        if sent.len() == 5 {
            gate.pass();
        }
    }
    tls.conn.send_close_notify();
    tls.flush()?;
    assert_eq!(tls.read(&mut [0])?, 0, "a close_notify");
    Ok(())
}
fn client<S: Stream>(n: usize, stream: S, gate: &Gate) -> Result {
    if dribbles(n) { talk(n, Dribble::slowly(stream), 700, gate) } else { talk(n, stream, size(n), gate) }
}

#[test]
fn rustls_runs_unchanged_on_green_sockets() {
    configs();
    crowd::<Sockets>("rustls, sockets", echo, client);
}
#[test]
fn rustls_runs_unchanged_on_green_transports() {
    configs();
    crowd::<Transports>("rustls, transports", echo, client);
}
