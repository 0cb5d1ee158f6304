//! A name server that answers with anything: by datagram and, told to, by TCP in pieces. A look-up ends, with records or with a
//! reason.
#![no_main]
use libfuzzer_sys::fuzz_target;
use std::net::SocketAddr;
use std::time::Duration;
use twistlet::testing::simulate;
use twistlet::transport::dns::{Client, Config};
use twistlet::transport::{DatagramPort, DatagramProtocol};
use twistlet::{Address, Protocol, TransportRef};

/// The first byte of the input: make the answer fit the question, or only its number; and how large the pieces are.
const FITS: u8 = 1;
const NUMBERED: u8 = 2;
const TCP: u8 = 4;

fn answer(question: &[u8], input: &[u8]) -> Vec<u8> {
    let Some((&how, rest)) = input.split_first() else { return Vec::new() };
    let mut reply = Vec::new();
    if how & FITS != 0 && question.len() > 12 {
        // The header from the input, but for the number; then the question as it was asked.
        reply.extend_from_slice(&question[..2]);
        reply.extend_from_slice(rest.get(..10).unwrap_or(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]));
        let end = question[12..].iter().position(|&byte| byte == 0).map_or(question.len(), |n| 12 + n + 5);
        reply.extend_from_slice(&question[12..end.min(question.len())]);
        reply.extend_from_slice(rest.get(10..).unwrap_or_default());
    } else {
        if how & NUMBERED != 0 {
            reply.extend_from_slice(question.get(..2).unwrap_or_default());
        }
        reply.extend_from_slice(rest);
    }
    if how & TCP != 0 && reply.len() > 2 {
        reply[2] |= 2; // truncated
    }
    reply
}

struct Datagrams(Vec<u8>);
impl DatagramProtocol for Datagrams {
    fn datagram_received(&mut self, port: DatagramPort, data: &[u8], from: &Address) {
        let _ = port.write_to(answer(data, &self.0), from);
    }
}
struct Stream(Vec<u8>);
impl Protocol for Stream {
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        let mut input = self.0.clone();
        if let Some(how) = input.first_mut() {
            *how &= !TCP;
        }
        let reply = answer(data.get(2..).unwrap_or_default(), &input);
        let mut framed = (reply.len() as u16).to_be_bytes().to_vec();
        framed.extend(reply);
        transport.write(framed);
    }
}

fuzz_target!(|data: &[u8]| {
    if data.len() > 2000 {
        return;
    }
    let server = SocketAddr::from(([10, 0, 0, 1], 53));
    let input = data.to_vec();
    let piece = usize::from(data.first().copied().unwrap_or(1) >> 3);
    let outcome = simulate(move |reactor, network| {
        if piece > 0 {
            network.limit_io(piece);
        }
        reactor.listen_udp(server, Datagrams(input.clone()))?;
        reactor.listen_tcp(server, move || Stream(input.clone()))?;
        let config = Config::new().server(server).attempts(1).timeout(Duration::from_secs(1));
        let client = Client::with_config(reactor, config);
        Ok(client.lookup_srv("_s._tcp.example.org").add_both(|outcome| Ok(outcome.map(|found| found.len()))))
    });
    // A failure of the program itself, a panic in a callback say, is no outcome of a look-up.
    assert!(matches!(outcome, Ok(Ok(_)) | Ok(Err(_))), "{outcome:?}");
});
