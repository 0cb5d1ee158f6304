//! Very many connections whose PROXY headers do not come to their end: what they cost, and for how long.
mod counting;

use counting::live;
use std::time::Duration;
use twistlet::protocols::proxy::{ProxyFactory, ProxyHeader, ProxyVersion};
use twistlet::testing::{Clock, StringTransport};
use twistlet::{Address, ConnectionClosed, Factory, Protocol, TransportRef};

const MANY: isize = 10_000;

struct Quiet;
impl Protocol for Quiet {
    fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
}

// HAP-1, HAP-2
#[test]
fn ten_thousand_headers_that_never_end_take_little_memory_and_little_time() {
    let clock = Clock::new();
    let mut factory = ProxyFactory::new(|| Quiet);
    let peer = Address::Tcp(([192, 0, 2, 1], 4711).into());
    let mut connect =
        || StringTransport::connect(factory.build_protocol(&peer).expect("everybody is believed"), &clock);
    let long = ProxyHeader::new(ProxyVersion::V2, ([192, 0, 2, 7], 1).into(), ([192, 0, 2, 1], 80).into());
    let long = long.with_tlv(0xe0, vec![7; 2000]).expect("it fits").to_bytes();
    let line = [b"PROXY UNKNOWN ", &[b'x'; 90][..]].concat();
    for (header, most) in [(&line[..], 256), (&long[..2016], 4096)] {
        let before = live();
        let connections: Vec<_> = (0..MANY).map(|_| connect()).collect();
        let idle = live();
        for connection in &connections {
            // A byte, and then some at a time, as somebody would who wants to be kept.
            for piece in std::iter::once(&header[..1]).chain(header[1..].chunks(403)) {
                connection.deliver(piece);
                assert!(!connection.is_disconnecting());
            }
        }
        let each = (live() - idle) / MANY;
        assert!(each <= most, "{each} bytes each");
        assert_eq!(clock.pending(), MANY as usize);
        clock.advance(Duration::from_secs(5));
        assert!(connections.iter().all(StringTransport::is_disconnecting), "their time is up");
        for connection in &connections {
            // What comes now is not looked at.
            connection.deliver("more");
            connection.lose(ConnectionClosed::Aborted);
        }
        drop(connections);
        assert_eq!(clock.pending(), 0);
        // But for what tables keep of their size.
        assert!((live() - before) / MANY < 200, "{}", live() - before);
    }
}
