//! The PROXY protocol: what headers say, in which pieces they may come, what is refused, and what the protocol behind sees.
mod rig;

use proptest::prelude::*;
use rig::{Log, Probe, Slot, run, serve};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use twistlet::protocols::proxy::{ProxyClientFactory, ProxyError, ProxyFactory, ProxyHeader, ProxyVersion};
use twistlet::testing::{Clock, StringTransport};
use twistlet::{Address, ConnectionClosed, Factory, Failure, Protocol, PullProducer, TransportRef, from_fn};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Notes all that it is told.
struct Noting(Log);
impl Protocol for Noting {
    fn connection_made(&mut self, transport: TransportRef) {
        self.0.add(format!("made by {} to {}", transport.peer(), transport.host()));
    }
    fn data_received(&mut self, _: TransportRef, data: &[u8]) {
        self.0.add(data.escape_ascii());
    }
    fn read_connection_lost(&mut self, transport: TransportRef) {
        self.0.add("read lost");
        transport.lose_connection();
    }
    fn write_connection_lost(&mut self, _: TransportRef) {
        self.0.add("write lost");
    }
    fn handshake_completed(&mut self, _: TransportRef) {
        self.0.add("handshake");
    }
    fn connection_lost(&mut self, transport: TransportRef, reason: &ConnectionClosed) {
        self.0.add(format!("lost {} ({reason})", transport.peer()));
    }
}

struct Connection {
    wire: StringTransport,
    log: Log,
    clock: Clock,
}
/// A connection from 192.168.1.1:54321 behind which `Noting` waits.
fn connect_with(rules: impl FnOnce(ProxyFactory) -> ProxyFactory) -> Connection {
    let (log, clock) = (Log::default(), Clock::new());
    let inner = log.clone();
    let mut factory = rules(ProxyFactory::new(move || Noting(inner.clone())));
    let peer = Address::Tcp("192.168.1.1:54321".parse().unwrap());
    let protocol = factory.build_protocol(&peer).expect("trusted");
    Connection { wire: StringTransport::connect(protocol, &clock), log, clock }
}
fn connect() -> Connection {
    connect_with(|factory| factory)
}
/// Why a connection that begins so is closed; the protocol behind hears nothing.
#[track_caller]
fn refusal(data: &[u8]) -> ProxyError {
    let parsed = ProxyHeader::parse(data, 2048).unwrap_err();
    let connection = connect();
    connection.wire.deliver(data);
    assert!(connection.wire.is_disconnecting(), "closed");
    assert!(connection.log.all().is_empty(), "{:?}", connection.log.all());
    assert!(connection.wire.value().is_empty());
    parsed
}
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend_from_slice(&[command, family]);
    bytes.extend_from_slice(&(block.len() as u16).to_be_bytes());
    bytes.extend_from_slice(block);
    bytes
}
fn tcp(text: &str) -> Address {
    Address::Tcp(text.parse().unwrap())
}

#[test]
fn a_line_of_version_1_says_who_connected() {
    // HAP-2; and HAP-3: not later than `connection_made`
    for (line, made) in [
        ("PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\r\n", "made by 192.0.2.7:4711 to 198.51.100.1:80"),
        ("PROXY TCP6 2001:db8::7 ::1 4711 0\r\n", "made by [2001:db8::7]:4711 to [::1]:0"),
        ("PROXY UNKNOWN\r\n", "made by 192.168.1.1:54321 to 10.0.0.1:12345"),
        ("PROXY UNKNOWN whatever \u{e9} 1\r\n", "made by 192.168.1.1:54321 to 10.0.0.1:12345"),
    ] {
        let connection = connect();
        assert!(connection.log.all().is_empty());
        connection.wire.deliver(format!("{line}GET /"));
        connection.wire.deliver("more");
        assert_eq!(connection.log.take(), [made, "GET /", "more"]);
    }
}

#[test]
fn a_header_of_version_2_says_who_connected() {
    // HAP-2
    let v4 = [&[192, 0, 2, 7, 198, 51, 100, 1][..], &4711u16.to_be_bytes(), &80u16.to_be_bytes()].concat();
    let mut v6 = "2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec();
    v6.extend_from_slice(&std::net::Ipv6Addr::LOCALHOST.octets());
    v6.extend_from_slice(&v4[8..]);
    let mut paths = b"/run/client".to_vec();
    paths.resize(108, 0);
    paths.extend_from_slice(b"/run/server");
    paths.resize(216, 0);
    let own = "made by 192.168.1.1:54321 to 10.0.0.1:12345";
    for (header, made) in [
        (v2(0x21, 0x11, &v4), "made by 192.0.2.7:4711 to 198.51.100.1:80"),
        (v2(0x21, 0x12, &v4), "made by 192.0.2.7:4711 to 198.51.100.1:80"),
        (v2(0x21, 0x21, &v6), "made by [2001:db8::7]:4711 to [::1]:80"),
        (v2(0x21, 0x31, &paths), "made by /run/client to /run/server"),
        (v2(0x21, 0x32, &paths), "made by /run/client to /run/server"),
        (v2(0x21, 0x00, b"\x04\x00\x01x"), own),
        (v2(0x20, 0x11, &v4), own),
        // What a proxy says of its own connection is not looked at.
        (v2(0x20, 0xff, b"\x04\xff"), own),
        (v2(0x20, 0x00, b""), own),
    ] {
        let connection = connect();
        connection.wire.deliver([&header, &b"rest"[..]].concat());
        assert_eq!(connection.log.take(), [made, "rest"]);
    }
}

#[test]
fn what_is_no_header_is_refused_as_soon_as_that_is_certain() {
    // HAP-1, HAP-2
    assert_eq!(refusal(b"GET / HTTP/1.1\r\n"), ProxyError::NoHeader);
    assert_eq!(refusal(b"PROXz"), ProxyError::NoHeader);
    assert_eq!(refusal(b"\r\n\r\n\0\r\nQUIX"), ProxyError::NoHeader);
    for line in [
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\n",
        "PROXY\r\n",
        "PROXY tcp4 192.0.2.7 198.51.100.1 4711 80\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711 80 \r\n",
        "PROXY TCP4  192.0.2.7 198.51.100.1 4711 80\r\n",
        "PROXY TCP4 192.0.2.07 198.51.100.1 4711 80\r\n",
        "PROXY TCP4 ::1 ::1 4711 80\r\n",
        "PROXY TCP6 192.0.2.7 198.51.100.1 4711 80\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 +4711 80\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711 080\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711 65536\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\rx\r\n",
    ] {
        let error = refusal(line.as_bytes());
        assert!(matches!(error, ProxyError::BadLine(_) | ProxyError::NoHeader), "{line:?}: {error:?}");
    }
    let block = [0; 12];
    assert_eq!(refusal(&v2(0x11, 0x11, &block)), ProxyError::BadVersion(1));
    assert_eq!(refusal(&v2(0x11, 0x11, &block)[..13]), ProxyError::BadVersion(1));
    assert_eq!(refusal(&v2(0x22, 0x11, &block)), ProxyError::BadCommand(2));
    assert_eq!(refusal(&v2(0x21, 0x41, &block)), ProxyError::BadFamily(0x41));
    assert_eq!(refusal(&v2(0x21, 0x10, &block)), ProxyError::BadFamily(0x10));
    assert_eq!(refusal(&v2(0x21, 0x11, &block[..11])), ProxyError::ShortAddresses);
    assert_eq!(refusal(&v2(0x21, 0x11, &[&block[..], b"\x04\x00"].concat())), ProxyError::BadTlv);
    assert_eq!(refusal(&v2(0x21, 0x11, &[&block[..], b"\x04\x00\x02x"].concat())), ProxyError::BadTlv);
    assert_eq!(refusal(&v2(0x21, 0x11, &[&block[..], b"\x03\x00\x04abcd"].concat())), ProxyError::BadChecksum);
    assert_eq!(refusal(&v2(0x21, 0x11, &[&block[..], b"\x03\x00\x01a"].concat())), ProxyError::BadChecksum);
}

#[test]
fn no_more_is_kept_than_the_longest_header() {
    // HAP-2
    assert_eq!(refusal(&[b"PROXY UNKNOWN ", &[b'x'; 93][..]].concat()), ProxyError::TooLong(107));
    assert_eq!(refusal(&v2(0x21, 0x11, &[0; 2033])[..16]), ProxyError::TooLong(2048));
    // At the limit both are taken.
    for header in [[b"PROXY UNKNOWN ", &[b'x'; 91][..], b"\r\n"].concat(), v2(0x20, 0x11, &[0; 2032])] {
        let connection = connect();
        for byte in &header {
            assert!(connection.log.all().is_empty());
            connection.wire.deliver([*byte]);
        }
        assert_eq!(connection.log.take().len(), 1);
    }
    let connection = connect_with(|factory| factory.max_header(100));
    connection.wire.deliver(&v2(0x20, 0x11, &[0; 85])[..16]);
    assert!(connection.wire.is_disconnecting());
}

#[test]
fn a_header_that_does_not_come_in_time_is_not_waited_for() {
    let connection = connect();
    // Whoever sends a little now and then gains nothing.
    for piece in ["P", "R", "O", "X"] {
        connection.wire.deliver(piece);
        connection.clock.advance(Duration::from_secs(1));
    }
    connection.wire.deliver("Y");
    connection.clock.advance(Duration::from_millis(999));
    assert!(!connection.wire.is_disconnecting());
    connection.clock.advance(Duration::from_millis(1));
    assert!(connection.wire.is_disconnecting());

    let patient = connect_with(ProxyFactory::without_timeout);
    patient.clock.advance(Duration::from_secs(1000));
    assert!(!patient.wire.is_disconnecting());

    // Once it is there nobody looks at the clock any more.
    let open = connect_with(|factory| factory.timeout(Duration::from_secs(1)));
    open.wire.deliver("PROXY UNKNOWN\r\n");
    open.clock.advance(Duration::from_secs(1000));
    assert!(!open.wire.is_disconnecting());
    assert_eq!(open.log.take().len(), 1);
}

#[test]
fn a_connection_that_ends_within_its_header_is_closed() {
    for begun in ["", "PROXY TCP4"] {
        let connection = connect();
        if !begun.is_empty() {
            connection.wire.deliver(begun);
        }
        connection.wire.deliver_end();
        assert!(connection.wire.is_disconnecting(), "{begun:?}");
        connection.wire.lose(ConnectionClosed::Done);
        assert!(connection.log.all().is_empty());
        assert_eq!(connection.clock.pending(), 0, "no timer is left");
    }
}

#[test]
fn the_protocol_behind_sees_every_event_of_the_connection() {
    // HAP-3, PRO-6
    let connection = connect();
    connection.wire.deliver("PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\r\n");
    connection.wire.deliver("data");
    connection.wire.finish_writing();
    connection.wire.deliver_end();
    assert!(connection.wire.is_disconnecting());
    connection.wire.lose(ConnectionClosed::Done);
    assert_eq!(
        connection.log.take(),
        [
            "made by 192.0.2.7:4711 to 198.51.100.1:80",
            "data",
            "write lost",
            "read lost",
            "lost 192.0.2.7:4711 (connection closed in order)"
        ]
    );
}

#[test]
fn the_transport_behind_does_all_that_the_one_below_does() {
    struct Pull(Slot<TransportRef>);
    impl PullProducer for Pull {
        fn produce(&mut self, consumer: TransportRef) -> bool {
            self.0.set(consumer);
            consumer.write("pulled");
            false
        }
    }
    let own = Slot::default();
    let seen = own.clone();
    let mut factory = ProxyFactory::new(move || {
        let seen = seen.clone();
        Probe::new().on_made(move |transport| seen.set(transport))
    });
    let wire = StringTransport::connect(factory.build_protocol(&tcp("10.9.8.7:1")).unwrap(), &Clock::new());
    wire.deliver("PROXY UNKNOWN\r\n");
    let transport = own.get();
    transport.write("a");
    transport.write_bytes("b".into());
    transport.write_vectored(&[std::io::IoSlice::new(b"c"), std::io::IoSlice::new(b"d")]);
    assert_eq!(wire.take(), b"abcd");
    transport.pause_producing();
    assert!(wire.is_paused() && transport.is_paused());
    transport.resume_producing();
    assert!(!wire.is_paused());
    let consumer = Slot::default();
    transport.register_pull_producer(Pull(consumer.clone()));
    wire.resume_producer();
    assert_eq!(wire.take(), b"pulled");
    assert!(consumer.get() == transport, "asked with the transport it was registered on");
    transport.lose_write_connection();
    assert!(wire.is_write_closing());
    transport.abort_connection();
    assert!(wire.is_aborted() && transport.is_disconnecting());
}

#[test]
fn bytes_behind_the_header_wait_while_the_protocol_has_paused() {
    let (log, own) = (Log::default(), Slot::default());
    let (noted, seen) = (log.clone(), own.clone());
    let mut factory = ProxyFactory::new(move || {
        let (noted, seen) = (noted.clone(), seen.clone());
        Probe::new()
            .on_made(move |transport| {
                transport.pause_producing();
                seen.set(transport);
            })
            .on_data(move |_, bytes| noted.add(bytes.escape_ascii()))
    });
    let clock = Clock::new();
    let wire = StringTransport::connect(factory.build_protocol(&tcp("10.9.8.7:1")).unwrap(), &clock);
    wire.deliver("PROXY UNKNOWN\r\nearly");
    wire.deliver("later");
    clock.advance(Duration::ZERO);
    assert!(log.all().is_empty());
    own.get().resume_producing();
    wire.deliver("last");
    clock.advance(Duration::ZERO);
    assert_eq!(log.take().concat(), "earlylaterlast");
}

#[test]
fn a_protocol_or_a_factory_that_declines_or_panics_ends_the_connection() {
    rig::watch_log();
    let made = || Probe::new().on_made(|_| panic!("made"));
    let data = || Probe::new().on_data(|_, _| panic!("data"));
    let factories: [(ProxyFactory, bool); 5] = [
        (ProxyFactory::new(from_fn(|_| None::<Probe>)), false),
        (ProxyFactory::new(|| -> Probe { panic!("factory") }), true),
        (ProxyFactory::new(made), true),
        (ProxyFactory::new(data), true),
        (ProxyFactory::new(Probe::new).on_header(|_| panic!("header")), true),
    ];
    for (mut factory, logged) in factories {
        let wire = StringTransport::connect(factory.build_protocol(&tcp("10.9.8.7:1")).unwrap(), &Clock::new());
        wire.deliver("PROXY UNKNOWN\r\nx");
        assert!(wire.is_disconnecting());
        wire.deliver("y");
        wire.lose(ConnectionClosed::Done);
        assert_eq!(rig::logged().is_empty(), !logged);
    }
}

#[test]
fn a_protocol_may_close_or_make_way_for_another_at_once() {
    let log = Log::default();
    let noted = log.clone();
    let closes =
        || Probe::new().on_made(|transport| transport.abort_connection()).on_data(|_, _| panic!("it is closed"));
    let makes_way = move || {
        let next = noted.clone();
        Probe::new().on_made(move |transport| transport.switch_protocol(Noting(next.clone()), "unread, "))
    };
    for (mut factory, heard) in [
        (ProxyFactory::new(closes), &[][..]),
        (ProxyFactory::new(makes_way), &["made by 192.168.1.1:54321 to 10.0.0.1:12345", "unread, ", "rest", "more"]),
    ] {
        let wire = StringTransport::connect(factory.build_protocol(&tcp("192.168.1.1:1")).unwrap(), &Clock::new());
        wire.deliver("PROXY UNKNOWN\r\nrest");
        wire.deliver("more");
        assert_eq!(wire.is_aborted(), heard.is_empty());
        assert_eq!(log.take(), heard);
    }
}

#[test]
fn only_named_proxies_are_believed() {
    let declined = |factory: &mut ProxyFactory, peer: &str| factory.build_protocol(&tcp(peer)).is_none();
    let mut one = ProxyFactory::new(Probe::new).trust(Ipv4Addr::LOCALHOST);
    assert!(!declined(&mut one, "127.0.0.1:1") && !declined(&mut one, "[::ffff:127.0.0.1]:1"));
    assert!(declined(&mut one, "127.0.0.2:1") && declined(&mut one, "[::1]:1"));
    assert!(one.build_protocol(&Address::Unix(None)).is_some());
    let mut net = ProxyFactory::new(Probe::new)
        .trust_network([10, 1, 0, 0], 16)
        .trust_network("2001:db8::".parse::<IpAddr>().unwrap(), 33);
    assert!(!declined(&mut net, "10.1.255.255:1") && declined(&mut net, "10.2.0.0:1"));
    assert!(!declined(&mut net, "[2001:db8:7fff::1]:1") && declined(&mut net, "[2001:db8:8000::1]:1"));
    let mut all = ProxyFactory::new(Probe::new).trust_network(Ipv4Addr::UNSPECIFIED, 0);
    assert!(!declined(&mut all, "203.0.113.1:1") && declined(&mut all, "[::1]:1"));
}

#[test]
fn the_factory_is_asked_about_the_client_and_may_see_the_header() {
    let (log, headers) = (Log::default(), Log::default());
    let (asked, seen) = (log.clone(), headers.clone());
    let factory = from_fn(move |peer| {
        asked.add(peer);
        Some(Probe::new())
    });
    let mut factory = ProxyFactory::new(factory).on_header(move |header| {
        seen.add(format!("{:?} {:?}", header.version(), header.tlv(2).map(|host| host.escape_ascii().to_string())))
    });
    let header = ProxyHeader::new(ProxyVersion::V2, "192.0.2.7:1".parse().unwrap(), "192.0.2.8:2".parse().unwrap())
        .with_tlv(2, "example.org")
        .and_then(ProxyHeader::with_checksum)
        .unwrap();
    let wire = StringTransport::connect(factory.build_protocol(&tcp("10.9.8.7:1")).unwrap(), &Clock::new());
    wire.deliver(header.to_bytes());
    assert_eq!(log.take(), ["192.0.2.7:1"]);
    assert_eq!(headers.take(), ["V2 Some(\"example.org\")"]);
}

#[test]
fn a_client_s_header_comes_before_all_that_it_writes() {
    let run_with = |make: fn(SocketAddr) -> ProxyHeader| {
        let log = Log::default();
        let noted = log.clone();
        run(move |reactor| {
            let server = from_fn(move |peer| {
                noted.add(peer);
                let noted = noted.clone();
                Some(Probe::new().on_data(move |_, data| {
                    noted.add(data.escape_ascii());
                    let _ = reactor.stop();
                }))
            });
            let at = serve(reactor, ProxyFactory::new(server));
            let client = || Probe::new().on_made(|transport| transport.write("hello"));
            reactor.connect_tcp(at, ProxyClientFactory::new(make(at), client));
        });
        log.take()
    };
    let far: SocketAddr = "192.0.2.7:4711".parse().unwrap();
    assert_eq!(
        run_with(|at| ProxyHeader::new(ProxyVersion::V1, "192.0.2.7:4711".parse().unwrap(), at)),
        [far.to_string(), "hello".into()]
    );
    assert_eq!(
        run_with(|at| ProxyHeader::new(ProxyVersion::V2, "192.0.2.7:4711".parse().unwrap(), at)),
        [far.to_string(), "hello".into()]
    );
}

#[test]
fn a_direct_client_tells_its_own_ends() {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let mut factory = ProxyClientFactory::direct(version, Probe::new);
        let wire = StringTransport::connect(factory.build_protocol(&tcp("192.168.1.1:54321")).unwrap(), &Clock::new());
        let expected =
            ProxyHeader::new(version, "10.0.0.1:12345".parse().unwrap(), "192.168.1.1:54321".parse().unwrap());
        assert_eq!(wire.value(), expected.to_bytes());
    }
}

#[test]
fn headers_that_a_version_has_no_words_for_say_unknown() {
    let unix = Address::Unix(Some("/run/x".into()));
    let v1 = ProxyHeader::between(ProxyVersion::V1, unix.clone(), unix.clone());
    assert_eq!(v1.to_bytes(), b"PROXY UNKNOWN\r\n");
    assert_eq!(ProxyHeader::local(ProxyVersion::V1).to_bytes(), b"PROXY UNKNOWN\r\n");
    let mixed = ProxyHeader::between(ProxyVersion::V2, unix, tcp("192.0.2.7:1"));
    assert_eq!(mixed.to_bytes(), ProxyHeader::unknown(ProxyVersion::V2).to_bytes());
    let long = Address::Unix(Some("x".repeat(109).into()));
    let long = ProxyHeader::between(ProxyVersion::V2, long.clone(), long);
    assert_eq!(long.to_bytes(), ProxyHeader::unknown(ProxyVersion::V2).to_bytes());
    let families = ProxyHeader::new(ProxyVersion::V1, "192.0.2.7:1".parse().unwrap(), "[::1]:2".parse().unwrap());
    assert_eq!(families.to_bytes(), b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n");
    let full = ProxyHeader::unknown(ProxyVersion::V2).with_tlv(4, [0; 65000]).unwrap();
    assert!(matches!(full.with_tlv(4, [0; 400]), Err(ProxyError::TooLong(_))));
}

#[test]
fn descriptors_go_through_on_unix_sockets() {
    // PRO-6
    struct Take(Log, twistlet::Reactor);
    impl Protocol for Take {
        fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
            self.0.add(format!("{} from {}", data.escape_ascii(), transport.peer()));
            let _ = self.1.stop();
        }
        fn file_descriptor_received(&mut self, _: TransportRef, descriptor: std::os::fd::OwnedFd) {
            let mut text = String::new();
            std::fs::File::from(descriptor).read_to_string(&mut text).expect("readable");
            self.0.add(text);
        }
    }
    let log = Log::default();
    let noted = log.clone();
    let path = std::env::temp_dir().join(format!("twistlet-proxy-{}", std::process::id()));
    let at = path.clone();
    run(move |reactor| {
        reactor.listen_unix(&at, ProxyFactory::new(move || Take(noted.clone(), reactor))).expect("a path");
        let header = ProxyHeader::new(ProxyVersion::V2, "192.0.2.7:1".parse().unwrap(), "192.0.2.8:2".parse().unwrap());
        let client = || {
            Probe::new().on_made(|transport| {
                let _ = transport.when_flushed().add_callback(move |()| {
                    let (reader, mut writer) = std::io::pipe().expect("a pipe");
                    writer.write_all(b"handed over").expect("room");
                    transport.send_file_descriptor(reader)?;
                    transport.write("x");
                    Ok(())
                });
            })
        };
        reactor.connect_unix(&at, ProxyClientFactory::new(header, client));
    });
    assert_eq!(log.take(), ["handed over", "x from 192.0.2.7:1"]);
    let _ = std::fs::remove_file(path);
}

/// What comes of a connection on which `pieces` arrive.
fn outcome(pieces: &[&[u8]]) -> (Vec<String>, String, bool) {
    let connection = connect();
    for piece in pieces {
        if !piece.is_empty() {
            connection.wire.deliver(piece);
        }
    }
    let log = connection.log.take();
    let made = log.first().cloned();
    let data: String = log.into_iter().skip(1).collect();
    (made.into_iter().collect(), data, connection.wire.is_disconnecting())
}
fn split<'a>(data: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (data.len() + 1)).collect();
    cuts.sort_unstable();
    let mut pieces = Vec::new();
    let mut from = 0;
    for cut in cuts {
        pieces.push(&data[from..cut]);
        from = cut;
    }
    pieces.push(&data[from..]);
    pieces
}

prop_compose! {
    fn socket()(six in any::<bool>(), v4 in any::<[u8; 4]>(), v6 in any::<[u16; 8]>(), port in any::<u16>()) -> SocketAddr {
        match six {
            true => (v6, port).into(),
            false => (v4, port).into(),
        }
    }
}
prop_compose! {
    /// Headers in which both ends are of one family, as they come out of a parser.
    fn header()(
        v1 in any::<bool>(), from in socket(), to in socket(), kind in 0..4u8,
        tlvs in prop::collection::vec((4..30u8, prop::collection::vec(any::<u8>(), 0..40)), 0..4),
        sum in any::<bool>(),
    ) -> ProxyHeader {
        let version = if v1 { ProxyVersion::V1 } else { ProxyVersion::V2 };
        let mut to = to;
        if from.is_ipv4() != to.is_ipv4() {
            to = SocketAddr::new(from.ip(), to.port());
        }
        let header = match kind {
            0 => ProxyHeader::unknown(version),
            1 => ProxyHeader::local(version),
            2 if !v1 => ProxyHeader::between(version, Address::Udp(from), Address::Udp(to)),
            _ => ProxyHeader::new(version, from, to),
        };
        if v1 || kind == 1 {
            return header;
        }
        let header = tlvs.into_iter().fold(header, |header, (kind, value)| header.with_tlv(kind, value).unwrap());
        if sum { header.with_checksum().unwrap() } else { header }
    }
}
proptest! {
    #[test]
    fn what_is_written_is_read_again(header in header(), rest in prop::collection::vec(any::<u8>(), 0..20)) {
        let bytes = header.to_bytes();
        let whole = [&bytes[..], &rest].concat();
        prop_assert_eq!(ProxyHeader::parse(&whole, 2048), Ok(Some((header, bytes.len()))));
        for end in 0..bytes.len() {
            prop_assert_eq!(ProxyHeader::parse(&bytes[..end], 2048), Ok(None));
        }
    }

    #[test]
    fn the_pieces_in_which_a_header_comes_make_no_difference(
        header in header(),
        rest in prop::collection::vec(any::<u8>(), 0..40),
        cuts in prop::collection::vec(any::<usize>(), 0..8),
        damage in prop::option::of((any::<usize>(), any::<u8>())),
    ) {
        let mut data = [&header.to_bytes()[..], &rest].concat();
        if let Some((at, byte)) = damage {
            let at = at % data.len();
            data[at] = byte;
        }
        let (whole, pieces) = (outcome(&[&data]), outcome(&split(&data, &cuts)));
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn no_bytes_do_harm(data in prop::collection::vec(any::<u8>(), 0..300), cuts in prop::collection::vec(any::<usize>(), 0..6), start in 0..3u8) {
        let data = match start {
            0 => data,
            1 => [b"PROXY ", &data[..]].concat(),
            _ => [SIGNATURE, b"\x21", &data[..]].concat(),
        };
        prop_assert_eq!(outcome(&[&data]), outcome(&split(&data, &cuts)));
    }
}

#[test]
fn errors_are_failures_that_say_what_to_do() {
    let failure = Failure::from(ProxyError::NoHeader);
    assert_eq!(failure.check(), Some(&ProxyError::NoHeader));
    assert!(failure.to_string().contains("does not begin with a PROXY header"));
}
