//! cargo run --example haproxy_server [ENDPOINT]
//!
//! A server behind a load balancer that speaks the PROXY protocol: it knows who its clients are, though all its connections
//! come from the balancer. Where it listens is a string; without one, `haproxy:tcp:8080:interface=127.0.0.1`. Try it with
//!
//!     curl --haproxy-protocol http://127.0.0.1:8080/
//!
//! and give it `tcp:8080:interface=127.0.0.1` to see the difference. Needs no green threads.
use std::cell::Cell;
use std::process::ExitCode;
use std::rc::Rc;
use twistlet::endpoint::{ServerEndpoint, server_from_string};
use twistlet::protocols::{LineHandler, LineOnlyReceiver, LineTransport};
use twistlet::{Reactor, Result};

/// Answers an HTTP request with who has made it.
#[derive(Default)]
struct WhoAmI {
    request: Option<String>,
}

impl LineHandler for WhoAmI {
    fn connection_made(&mut self, transport: LineTransport) {
        // The client's address and the one it connected to; the balancer is not to be seen.
        println!("{} has connected to {}", transport.peer(), transport.host());
    }

    fn line_received(&mut self, transport: LineTransport, line: &[u8]) {
        let request = self.request.get_or_insert_with(|| String::from_utf8_lossy(line).into_owned());
        if !line.is_empty() {
            return;
        }
        println!("{} asks {request}", transport.peer());
        let answer = format!("you are {}\n", transport.peer());
        write!(transport, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
        transport.lose_connection();
    }
}

fn run(endpoint: &str) -> Result {
    let reactor = Reactor::new()?;
    let endpoint = server_from_string(&reactor, endpoint)?;
    let failed = Rc::new(Cell::new(None));
    let why = failed.clone();
    // Whoever stops the reactor must wait until it runs.
    reactor.call_when_running(move || {
        endpoint.listen(|| LineOnlyReceiver::new(WhoAmI::default())).add_both(move |outcome| match outcome {
            Ok(listening) => {
                println!("listening on {}", listening.address());
                Ok(())
            }
            Err(failure) => {
                why.set(Some(failure));
                reactor.stop()
            }
        })
    });
    reactor.run()?; // until Ctrl-C
    failed.take().map_or(Ok(()), Err)
}

fn main() -> ExitCode {
    let endpoint = std::env::args().nth(1).unwrap_or_else(|| "haproxy:tcp:8080:interface=127.0.0.1".into());
    match run(&endpoint) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

// Try it:
//     cargo run --example haproxy_server &
//     curl --haproxy-protocol http://127.0.0.1:8080/
