//! cargo run --example client [HOST:PORT [TLS_HOST:PORT]]
//!
//! The founding twisted_client: a GreenTransport read whole, then one by TLS, read line by line. No reactor is started here: the
//! first call that waits starts it.
use std::process::ExitCode;
use twistlet::green::{GreenClientCreator, GreenTransport};
use twistlet::protocols::Lines;
use twistlet::transport::tls::ClientConfig;
use twistlet::{ConnectionClosed, Reactor, Result};

const REQUEST: &str = "GET / HTTP/1.0\r\n\r\n";

/// The answer in one piece.
fn whole(creator: &GreenClientCreator, to: &str) -> Result {
    println!("--- {to}, read as a whole");
    let conn = creator.connect_tcp(to)?;
    conn.write(REQUEST)?;
    conn.lose_write_connection();
    println!("{}", conn.read_all()?.escape_ascii());
    Ok(())
}

/// The answer line by line, for as long as there are lines.
fn by_line(conn: GreenTransport<Lines>) -> Result {
    println!("--- {}, read line by line", conn.peer());
    conn.write(REQUEST)?;
    for (number, line) in conn.iter().enumerate() {
        match line {
            Ok(line) => println!("{number:3} {}", line.escape_ascii()),
            // Web servers often close without saying so.
            Err(failure) if failure.is::<ConnectionClosed>() => println!("--- {failure}"),
            Err(failure) => return Err(failure),
        }
    }
    println!("--- lost {}", conn.peer());
    Ok(())
}

fn run(plain: &str, tls: Option<&str>) -> Result {
    let creator = GreenClientCreator::new(&Reactor::current());
    whole(&creator, plain)?;
    let creator = creator.framed(|| Lines::new().delimiter(b"\n").max_length(1 << 20));
    by_line(match tls {
        Some(tls) => creator.connect_tls(tls, &ClientConfig::new()?)?,
        None => creator.connect_tcp(plain)?,
    })
}

fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (plain, tls) = match &args[..] {
        [] => ("www.google.com:80", Some("sf.net:443")),
        [plain, rest @ ..] => (plain.as_str(), rest.first().map(String::as_str)),
    };
    let is_place = |text: &str| text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if args.len() > 2 || !is_place(plain) || !tls.is_none_or(is_place) {
        eprintln!("usage: client [HOST:PORT [TLS_HOST:PORT]]      (default: www.google.com:80 sf.net:443)");
        eprintln!("With one place, both halves go there, and neither by TLS.");
        return Ok(ExitCode::from(2));
    }
    run(plain, tls)?;
    Ok(ExitCode::SUCCESS)
}

// Try it without the Internet:
//     python3 -m http.server 8000 &
//     openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
//         -keyout key.pem -out cert.pem
//     openssl s_server -port 8443 -cert cert.pem -key key.pem -www &
//     SSL_CERT_FILE=cert.pem cargo run --example client 127.0.0.1:8000 localhost:8443
