//! cargo run --example udp_echo -- ADDRESS [--style callback|green]
//!
//! Sends every datagram back to where it came from: once with a datagram protocol, once with blocking code on a socket that
//! looks like std's. The benchmarks drive it.
use std::net::SocketAddr;
use std::process::ExitCode;
use twistlet::green::{join_reactor, net, spawn};
use twistlet::transport::{DatagramError, ListenAt};
use twistlet::{Address, DatagramPort, DatagramProtocol, Reactor, Result};

/// As much as one datagram can be.
const LARGEST: usize = 65_535;

struct Echo;
impl DatagramProtocol for Echo {
    fn start_protocol(&mut self, port: DatagramPort) {
        println!("listening on {}", port.address());
    }
    fn datagram_received(&mut self, port: DatagramPort, data: &[u8], from: &Address) {
        match port.write_to(data, from) {
            // The network loses datagrams, and so may we: whoever needs an answer asks again.
            Ok(()) | Err(DatagramError::WouldBlock) => {}
            Err(error) => eprintln!("no answer to {from}: {error}"),
        }
    }
    fn stop_protocol(&mut self, _port: DatagramPort) {
        println!("stopped");
    }
}

/// The socket is a green thread's, not the reactor's.
fn green(reactor: &Reactor, at: SocketAddr) -> Result {
    join_reactor(reactor)?;
    let socket = net::UdpSocket::bind(at)?;
    println!("listening on {}", socket.local_addr()?);
    spawn(move || -> Result {
        let mut datagram = vec![0; LARGEST];
        loop {
            let (n, from) = socket.recv_from(&mut datagram)?;
            if let Err(error) = socket.send_to(&datagram[..n], from) {
                eprintln!("no answer to {from}: {error}");
            }
        }
    });
    Ok(())
}

fn main() -> Result<ExitCode> {
    let (mut at, mut style, mut args) = (None, Some("callback".to_owned()), std::env::args().skip(1));
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--style" => style = args.next(),
            address if at.is_none() => at = address.parse::<SocketAddr>().ok(),
            _ => style = None,
        }
    }
    let reactor = Reactor::new()?;
    match (at, style.as_deref()) {
        (Some(at), Some("callback")) => {
            reactor.listen_udp(ListenAt::from(at).max_packet(LARGEST), Echo)?;
        }
        (Some(at), Some("green")) => green(&reactor, at)?,
        _ => {
            eprintln!("usage: udp_echo ADDRESS:PORT [--style callback|green]");
            return Ok(ExitCode::from(2));
        }
    }
    reactor.run()?; // until Ctrl-C
    Ok(ExitCode::SUCCESS)
}

// Try it:
//     cargo run --example udp_echo -- 127.0.0.1:8007
//     nc -u 127.0.0.1 8007
