//! Datagrams in the network in memory, and multicast and broadcast on the real one.
mod rig;

use rig::{Log, pump};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::rc::Rc;
use std::time::Duration;
use twistlet::testing::{Network, simulate, simulate_with};
use twistlet::transport::{DatagramError, DatagramPort, DatagramProtocol, Interface, ListenAt};
use twistlet::{Address, Reactor};

/// Notes what it receives, and when.
#[derive(Clone)]
struct Note(Log, &'static str, Rc<dyn Fn() -> Duration>);
impl DatagramProtocol for Note {
    fn datagram_received(&mut self, _: DatagramPort, data: &[u8], from: &Address) {
        self.0.add(format!("{} {} {from} {:?}", self.1, String::from_utf8_lossy(data), (self.2)()));
    }
    fn connection_refused(&mut self, _: DatagramPort) {
        self.0.add(format!("{} refused {:?}", self.1, (self.2)()));
    }
}
fn note(log: &Log, name: &'static str, network: &Network) -> Note {
    let network = network.clone();
    Note(log.clone(), name, Rc::new(move || network.elapsed()))
}
const MS: Duration = Duration::from_millis(1);

#[test]
fn simulated_datagrams_take_their_time_get_lost_and_arrive_twice() {
    let log = Log::default();
    let network = Network::new();
    simulate_with(&network, |reactor, network| {
        let reactor = *reactor;
        reactor.listen_udp("10.0.0.1:53", note(&log, "server", network))?;
        let client = reactor.listen_udp("10.0.0.2:5000", note(&log, "client", network))?;
        network.set_latency(30 * MS);
        client.write_to("slow", "10.0.0.1:53")?;
        network.set_latency(10 * MS);
        client.write_to("fast", "10.0.0.1:53")?;
        network.lose_datagrams(1);
        client.write_to("lost", "10.0.0.1:53")?;
        network.double_datagrams(1);
        client.write_to("twice", "10.0.0.1:53")?;
        let script = network.clone();
        reactor.call_later(40 * MS, move || {
            script.blackhole(true);
            client.write_to("swallowed", "10.0.0.1:53").unwrap();
            script.blackhole(false);
            client.write_to("late", "10.0.0.1:53").unwrap();
        });
        Ok(())
    })
    .unwrap();
    let expected = ["fast 10ms", "twice 10ms", "twice 10ms", "slow 30ms", "late 50ms"];
    let from = "10.0.0.2:5000";
    let expected: Vec<_> =
        expected.iter().map(|line| format!("server {}", line.replace(' ', &format!(" {from} ")))).collect();
    assert_eq!(log.take(), expected);
}

#[test]
fn a_simulated_port_answers_whoever_asked_and_refusals_travel_too() {
    struct Echo;
    impl DatagramProtocol for Echo {
        fn datagram_received(&mut self, port: DatagramPort, data: &[u8], from: &Address) {
            port.write_to(data, from).unwrap();
        }
    }
    let log = Log::default();
    simulate(|reactor, network| {
        network.set_latency(5 * MS);
        reactor.listen_udp("0.0.0.0:7", Echo)?;
        // Any port of its own, any interface: the answer finds it.
        let client = reactor.listen_udp(0, note(&log, "asker", network))?;
        client.write_to("hello", "10.0.0.1:7")?;
        let connected = reactor.listen_udp("10.0.0.3:0", note(&log, "connected", network))?;
        connected.connect("10.0.0.1:8".parse().unwrap())?;
        connected.write("anybody?")?;
        client.write_to("nobody", "10.0.0.1:8")?;
        assert!(
            matches!(reactor.listen_udp("10.0.0.1:7", Echo), Err(failure) if failure.to_string().contains("in use"))
        );
        assert_eq!(client.write_to(vec![0; 65_508], "10.0.0.1:7"), Err(DatagramError::TooLong { len: 65_508 }));
        Ok(())
    })
    .unwrap();
    let mut lines = log.take();
    lines.sort();
    assert_eq!(lines, ["asker hello 10.0.0.1:7 10ms", "connected refused 10ms"]);
}

#[test]
fn simulated_groups_reach_every_member_until_it_leaves() {
    let log = Log::default();
    simulate(|reactor, network| {
        let group = Ipv4Addr::new(239, 1, 2, 3);
        let member = |name| reactor.listen_udp(ListenAt::from(5353).reuse_port(), note(&log, name, network));
        let (one, two, _outsider) = (member("one")?, member("two")?, member("outsider")?);
        one.join_group(group)?;
        two.join_group(group)?;
        assert!(matches!(two.join_group(group), Err(DatagramError::Multicast { .. })));
        let sender = reactor.listen_udp("10.0.0.9:1", note(&log, "sender", network))?;
        sender.write_to("all", (group, 5353))?;
        one.leave_group(group)?;
        sender.write_to("rest", (group, 5353))?;
        assert_eq!(sender.set_multicast_ttl(3), Err(DatagramError::Unsupported));
        Ok(())
    })
    .unwrap();
    let lines = ["one all", "two all", "two rest"].map(|line| format!("{line} 10.0.0.9:1 0ns"));
    assert_eq!(log.take(), lines);
}

/// Counts what comes.
struct Count(Rc<Cell<usize>>);
impl DatagramProtocol for Count {
    fn datagram_received(&mut self, _: DatagramPort, _: &[u8], _: &Address) {
        self.0.set(self.0.get() + 1);
    }
}
fn until(reactor: Reactor, what: &Rc<Cell<usize>>, expected: usize) {
    for _ in 0..500 {
        pump(reactor);
        if what.get() >= expected {
            break;
        }
        std::thread::yield_now();
    }
    assert_eq!(what.get(), expected);
}

fn multicast(
    reactor: Reactor,
    any: IpAddr,
    group: IpAddr,
    interface: Interface,
    scope: u32,
) -> Result<(), DatagramError> {
    let count = Rc::new(Cell::new(0));
    let shared = |port: u16| ListenAt::from(SocketAddr::new(any, port)).reuse_port();
    let first = reactor.listen_udp(shared(0), Count(count.clone())).unwrap();
    let place = first.address().port().unwrap();
    let everybody = match group {
        IpAddr::V4(group) => SocketAddr::from((group, place)),
        IpAddr::V6(group) => SocketAddrV6::new(group, place, 0, scope).into(),
    };
    let second = reactor.listen_udp(shared(place), Count(count.clone())).unwrap();
    let sender = reactor.listen_udp(SocketAddr::new(any, 0), Count(Rc::default())).unwrap();
    sender.set_multicast_interface(interface)?;
    first.join_group_on(group, interface)?;
    second.join_group_on(group, interface)?;
    sender.write_to("to all", everybody)?;
    until(reactor, &count, 2);
    // A member twice is refused, a member no longer hears nothing.
    assert!(matches!(first.join_group_on(group, interface), Err(DatagramError::Multicast { .. })));
    first.leave_group_on(group, interface)?;
    sender.write_to("to the rest", everybody)?;
    until(reactor, &count, 3);
    sender.set_multicast_loopback(false)?;
    assert!(!sender.multicast_loopback()?);
    // What it does shows only on other interfaces: the loopback interface brings everything back.
    sender.set_multicast_ttl(7)?;
    assert_eq!(sender.multicast_ttl()?, 7);
    for port in [first, second, sender] {
        let _ = port.stop_listening();
    }
    pump(reactor);
    Ok(())
}

#[test]
fn ipv4_groups_are_joined_on_the_loopback_interface_and_left() {
    // UDP-7
    let reactor = Reactor::new().unwrap();
    let group = Ipv4Addr::new(239, 255, 42, 99).into();
    if let Err(error) = multicast(reactor, Ipv4Addr::UNSPECIFIED.into(), group, Ipv4Addr::LOCALHOST.into(), 0) {
        eprintln!("skipped: no multicast on this system: {error}");
    }
}

#[test]
fn ipv6_groups_are_joined_on_an_interface_by_number_and_left() {
    // UDP-7
    let reactor = Reactor::new().unwrap();
    let group: Ipv6Addr = "ff01::4299".parse().unwrap();
    let Ok(index) = std::fs::read_to_string("/sys/class/net/lo/ifindex") else {
        return eprintln!("skipped: no loopback interface to be found");
    };
    let index: u32 = index.trim().parse().unwrap();
    if let Err(error) = multicast(reactor, Ipv6Addr::UNSPECIFIED.into(), group.into(), index.into(), index) {
        eprintln!("skipped: no IPv6 multicast on this system: {error}");
    }
}

#[test]
fn no_group_is_a_typed_error_and_broadcast_is_off_until_asked_for() {
    // UDP-7
    let reactor = Reactor::new().unwrap();
    let port = reactor.listen_udp("127.0.0.1:0", Count(Rc::default())).unwrap();
    let error = port.join_group(Ipv4Addr::new(10, 0, 0, 1)).unwrap_err();
    assert!(matches!(&error, DatagramError::Multicast { group, .. } if group == "10.0.0.1"), "{error}");
    assert!(error.to_string().contains("10.0.0.1"));
    let group: Ipv6Addr = "ff01::1".parse().unwrap();
    assert_eq!(port.join_group_on(group, Ipv4Addr::LOCALHOST), Err(DatagramError::Unsupported));
    assert!(!port.broadcast().unwrap());
    port.set_broadcast(true).unwrap();
    assert!(port.broadcast().unwrap());
    port.set_ttl(9).unwrap();
    assert_eq!(port.ttl().unwrap(), 9);
    let _ = port.stop_listening();
    pump(reactor);
    assert_eq!(port.set_broadcast(true), Err(DatagramError::Gone));
    assert_eq!(port.join_group(Ipv4Addr::new(239, 1, 1, 1)), Err(DatagramError::Gone));
}

#[test]
fn a_virtual_query_times_out_without_waiting() {
    // What a DNS client does, on virtual time.
    let network = Network::new();
    network.blackhole(true);
    let tries = Rc::new(Cell::new(0));
    let seen = tries.clone();
    simulate_with(&network, move |reactor, _| {
        let port = reactor.listen_udp(0, Count(Rc::default()))?;
        fn ask(reactor: Reactor, port: DatagramPort, left: u32, tries: Rc<Cell<usize>>) {
            tries.set(tries.get() + 1);
            port.write_to("query", "10.0.0.53:53").unwrap();
            if left > 0 {
                reactor.call_later(Duration::from_secs(5), move || ask(reactor, port, left - 1, tries));
            } else {
                let _ = port.stop_listening();
            }
        }
        ask(*reactor, port, 3, seen);
        Ok(())
    })
    .unwrap();
    assert_eq!((tries.get(), network.elapsed()), (4, Duration::from_secs(15)));
}
