//! ureq, a blocking HTTP client, unchanged on green sockets: many requests at once on one thread.
#![cfg(feature = "green")]
mod support;

use std::io::{Read, Write};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use support::{PATIENCE, read_head, serve};
use twistlet::Failure;
use twistlet::green::net::TcpStream;
use twistlet::green::spawn;
use ureq::Agent;
use ureq::config::Config;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport};

#[derive(Debug)]
struct GreenConnector;
impl Connector for GreenConnector {
    type Out = GreenSocket;
    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<GreenSocket>, ureq::Error> {
        let mut outcome = Err(ureq::Error::HostNotFound);
        for address in details.addrs.iter() {
            outcome = match details.timeout.not_zero() {
                Some(limit) => TcpStream::connect_timeout(address, *limit),
                None => TcpStream::connect(address),
            }
            .map_err(ureq::Error::from);
            if outcome.is_ok() {
                break;
            }
        }
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(GreenSocket { stream: outcome?, buffers }))
    }
}

#[derive(Debug)]
struct GreenSocket {
    stream: TcpStream,
    buffers: LazyBuffers,
}
/// ureq tells a timeout by the kind of the error.
fn late(error: std::io::Error, timeout: NextTimeout) -> ureq::Error {
    match error.kind() {
        std::io::ErrorKind::TimedOut => ureq::Error::Timeout(timeout.reason),
        _ => error.into(),
    }
}
impl Transport for GreenSocket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }
    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.set_write_timeout(timeout.not_zero().map(|limit| *limit))?;
        self.stream.write_all(&self.buffers.output()[..amount]).map_err(|e| late(e, timeout))
    }
    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.set_read_timeout(timeout.not_zero().map(|limit| *limit))?;
        let n = self.stream.read(self.buffers.input_append_buf()).map_err(|e| late(e, timeout))?;
        self.buffers.input_appended(n);
        Ok(n > 0)
    }
    fn is_open(&mut self) -> bool {
        let set = self.stream.set_nonblocking(true);
        let quiet = matches!(self.stream.peek(&mut [0]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock);
        set.is_ok() && self.stream.set_nonblocking(false).is_ok() && quiet
    }
}

#[test]
fn fifty_requests_are_under_way_at_once() {
    const REQUESTS: usize = 50;
    // No answer before all requests are there: one after the other they would wait for ever.
    let all = Arc::new(Barrier::new(REQUESTS));
    let server = serve(move |mut stream| {
        let head = read_head(&mut stream);
        all.wait();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let body = path.repeat(2000);
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    });
    let agent = Agent::with_parts(Config::default(), GreenConnector, DefaultResolver::default());
    let tasks: Vec<_> = (0..REQUESTS)
        .map(|i| {
            let agent = agent.clone();
            spawn(move || {
                let mut answer = agent.get(format!("http://{server}/{i}")).call()?;
                Ok::<_, Failure>(answer.body_mut().read_to_string()?)
            })
        })
        .collect();
    for (i, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.wait().unwrap(), format!("/{i}").repeat(2000));
    }
}

#[test]
fn a_mute_server_times_the_request_out() {
    let server = serve(|mut stream| {
        read_head(&mut stream);
        let _ = stream.read(&mut [0; 1]);
    });
    let config = Config::builder().timeout_global(Some(Duration::from_millis(50))).build();
    let agent = Agent::with_parts(config, GreenConnector, DefaultResolver::default());
    let start = Instant::now();
    let outcome = spawn(move || Ok(agent.get(format!("http://{server}/")).call().map(drop)?)).wait();
    assert!(matches!(outcome.unwrap_err().check(), Some(ureq::Error::Timeout(_))));
    assert!(start.elapsed() < PATIENCE);
}
