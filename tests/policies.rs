//! Factories around factories: how many, how long, how fast, what is seen; alone here, stacked in `policies/stacks.rs`, over
//! sockets in `policies/sockets.rs`.
mod certs;
#[cfg(feature = "green")]
#[path = "policies/everything.rs"]
mod everything;
mod rig;
#[path = "policies/secure.rs"]
mod secure;
#[path = "policies/sockets.rs"]
mod sockets;
#[path = "policies/stacks.rs"]
mod stacks;
#[path = "policies/starting.rs"]
mod starting;
#[path = "policies/throttling.rs"]
mod throttling;

use rig::{Log, Probe, Slot, watch_log};
use std::cell::RefCell;
use std::io::{IoSlice, Write};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use twistlet::protocols::policies::{
    IdleTimeout, Layer, LimitConnectionsByPeer, LimitTotalConnections, ThrottlingFactory, TimeoutFactory,
    TrafficLoggingFactory, Wrapper, WrappingFactory,
};
use twistlet::testing::{Clock, StringTransport};
use twistlet::{Address, ConnectionClosed, Factory, Protocol, TransportRef, from_fn};

const SECOND: Duration = Duration::from_secs(1);

struct Echo;
impl Protocol for Echo {
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        transport.write(data);
    }
}

fn peer(host: u8) -> Address {
    Address::Tcp(SocketAddr::from(([10, 1, 1, host], 1000)))
}
/// Connects what `factory` makes for `host`, unless it declines.
fn connect_from(factory: &mut impl Factory, host: u8, clock: &Clock) -> Option<StringTransport> {
    Some(StringTransport::connect(factory.build_protocol(&peer(host))?, clock))
}
#[track_caller]
fn connect(factory: &mut impl Factory, clock: &Clock) -> StringTransport {
    connect_from(factory, 1, clock).expect("not declined")
}

#[test]
fn connections_beyond_the_limit_are_declined_until_one_has_ended() {
    // P16, POL-4
    let clock = Clock::new();
    let mut factory = LimitTotalConnections::new(2, || Echo);
    let (first, second) = (connect(&mut factory, &clock), connect(&mut factory, &clock));
    assert!(connect_from(&mut factory, 1, &clock).is_none());
    assert_eq!(factory.connections(), 2);
    second.deliver("x");
    assert_eq!(second.value(), b"x");
    first.lose(ConnectionClosed::Done);
    assert_eq!(factory.connections(), 1);
    let third = connect(&mut factory, &clock);
    assert!(connect_from(&mut factory, 1, &clock).is_none());
    drop((second, third));
    assert_eq!(factory.connections(), 0);
}

#[test]
fn the_overflow_protocol_counts_as_a_connection() {
    // POL-4
    let clock = Clock::new();
    let busy = || {
        Probe::new().on_made(|t| {
            t.write("busy");
            t.lose_connection();
        })
    };
    let mut factory = LimitTotalConnections::new(1, || Echo).overflow(busy);
    let first = connect(&mut factory, &clock);
    let beyond = connect(&mut factory, &clock);
    assert_eq!(beyond.value(), b"busy");
    assert!(beyond.is_disconnecting());
    assert_eq!(factory.connections(), 2);
    first.lose(ConnectionClosed::Done);
    // The one that was turned away is still there.
    let other = connect(&mut factory, &clock);
    assert_eq!(other.value(), b"busy");
    beyond.lose(ConnectionClosed::Done);
    other.lose(ConnectionClosed::Done);
    let echo = connect(&mut factory, &clock);
    echo.deliver("x");
    assert_eq!(echo.value(), b"x");
}

#[test]
fn one_host_takes_no_more_than_its_share() {
    // POL-4
    let clock = Clock::new();
    let mut factory = LimitConnectionsByPeer::new(|| Echo);
    let held: Vec<_> = (0..5).map(|_| connect(&mut factory, &clock)).collect();
    assert!(connect_from(&mut factory, 1, &clock).is_none());
    assert!(connect_from(&mut factory, 2, &clock).is_some());
    let host = IpAddr::from([10, 1, 1, 1]);
    assert_eq!(factory.connections(host), 5);
    assert_eq!(factory.connections(IpAddr::from([10, 1, 1, 2])), 0);
    // The same host by a socket for both families.
    let mapped = Address::Tcp(SocketAddr::new(
        IpAddr::V6(match host {
            IpAddr::V4(host) => host.to_ipv6_mapped(),
            IpAddr::V6(host) => host,
        }),
        7,
    ));
    assert!(factory.build_protocol(&mapped).is_none());
    drop(held);
    assert!(factory.build_protocol(&mapped).is_some());
    // Nobody is counted by a path.
    let mut none = LimitConnectionsByPeer::new(|| Echo).limit(0);
    assert!(none.build_protocol(&Address::Gone).is_some());
    assert!(connect_from(&mut none, 1, &clock).is_none());
}

#[test]
fn seats_are_given_back_however_a_connection_ends() {
    watch_log();
    let clock = Clock::new();
    let probes: [fn() -> Probe; 4] = [
        || Probe::new().on_made(|_| panic!("in connection_made")),
        || Probe::new().on_data(|_, _| panic!("in data_received")),
        || Probe::new().on_lost(|_, _| panic!("in connection_lost")),
        || Probe::new().on_read_lost(|_| panic!("in read_connection_lost")),
    ];
    for probe in probes {
        let mut total = LimitTotalConnections::new(9, LimitConnectionsByPeer::new(&probe));
        let mut throttled = ThrottlingFactory::new(probe).max_connections(9);
        for wire in [connect(&mut total, &clock), connect(&mut throttled, &clock)] {
            wire.deliver("x");
            wire.deliver_end();
            wire.lose(ConnectionClosed::Done);
        }
        assert_eq!((total.connections(), throttled.connections()), (0, 0));
    }
    rig::logged();
    // Never connected at all.
    let mut factory = LimitTotalConnections::new(1, || Echo);
    drop(factory.build_protocol(&peer(1)));
    assert_eq!(factory.connections(), 0);
    // The factory within declines: nothing is counted, nothing is wrapped (POL-2).
    let mut factory = ThrottlingFactory::new(LimitTotalConnections::new(1, from_fn(|_| None::<Echo>)));
    assert!(factory.build_protocol(&peer(1)).is_none());
    assert_eq!(factory.connections(), 0);
    let mut factory = LimitTotalConnections::new(1, TimeoutFactory::new(SECOND, from_fn(|_| None::<Echo>)));
    assert!(factory.build_protocol(&peer(1)).is_none());
    assert_eq!(factory.connections(), 0);
}

#[test]
fn a_seat_is_free_for_who_hears_of_the_end() {
    type Limited = Box<dyn Factory>;
    let limits: [fn(Box<dyn Factory>) -> Limited; 3] = [
        |inner| Box::new(LimitTotalConnections::new(1, inner)),
        |inner| Box::new(LimitConnectionsByPeer::new(inner).limit(1)),
        |inner| Box::new(ThrottlingFactory::new(inner).max_connections(1)),
    ];
    for limit in limits {
        let (clock, log) = (Clock::new(), Log::default());
        let limited: Rc<RefCell<Option<Limited>>> = Rc::default();
        let (again, said) = (Rc::downgrade(&limited), log.clone());
        let inner = move || {
            let (again, said) = (again.clone(), said.clone());
            Probe::new().on_lost(move |_, _| {
                let again = again.upgrade().expect("the test has it");
                let mut factory = again.borrow_mut().take().expect("nobody else uses it");
                said.add(factory.build_protocol(&peer(1)).is_some());
                *again.borrow_mut() = Some(factory);
            })
        };
        let mut factory = limit(Box::new(inner));
        let wire = connect(&mut factory, &clock);
        *limited.borrow_mut() = Some(factory);
        wire.lose(ConnectionClosed::Done);
        assert_eq!(log.take(), ["true"]);
    }
}

#[test]
fn a_protocol_that_takes_over_keeps_the_seat_of_the_first() {
    let clock = Clock::new();
    let first = || Probe::new().on_data(|t, _| t.switch_protocol(Echo, "unread"));
    let mut factory = LimitTotalConnections::new(1, LimitConnectionsByPeer::new(TimeoutFactory::new(SECOND, first)));
    let wire = connect(&mut factory, &clock);
    wire.deliver("upgrade");
    assert_eq!(wire.take(), b"unread");
    wire.deliver("x");
    assert_eq!(wire.value(), b"x");
    assert_eq!(factory.connections(), 1);
    let mut bare = LimitTotalConnections::new(1, LimitConnectionsByPeer::new(first));
    let upgraded = connect(&mut bare, &clock);
    upgraded.deliver("upgrade");
    assert_eq!(upgraded.value(), b"unread");
    assert_eq!(bare.connections(), 1);
    upgraded.lose(ConnectionClosed::Done);
    wire.lose(ConnectionClosed::Done);
    assert_eq!((factory.connections(), bare.connections()), (0, 0));
}

#[test]
fn reading_and_every_kind_of_writing_restart_the_idle_timeout() {
    // P17, P18, POL-5
    let clock = Clock::new();
    let mut factory = TimeoutFactory::new(3 * SECOND, Probe::new);
    type Sign = fn(&StringTransport, TransportRef);
    let signs: [Sign; 4] = [
        |wire, _| wire.deliver("x"),
        |_, near| near.write("x"),
        |_, near| near.write_vectored(&[IoSlice::new(b"x"), IoSlice::new(b"y")]),
        |_, near| near.write_bytes(bytes::Bytes::from_static(b"x")),
    ];
    for sign in signs {
        let near = Slot::default();
        let mut factory = TimeoutFactory::new(3 * SECOND, {
            let near = near.clone();
            move || {
                let near = near.clone();
                Probe::new().on_made(move |t| near.set(t))
            }
        });
        let wire = connect(&mut factory, &clock);
        for _ in 0..3 {
            clock.advance(2 * SECOND);
            sign(&wire, near.get());
        }
        clock.advance(Duration::from_millis(2999));
        assert!(!wire.is_disconnecting());
        clock.advance(Duration::from_millis(2));
        assert!(wire.is_disconnecting());
    }
    let wire = connect(&mut factory, &clock);
    wire.lose(ConnectionClosed::Done);
    assert_eq!(clock.pending(), 0, "a timer outlives its connection");
}

#[test]
fn no_timeout_is_off_and_another_end_can_be_chosen() {
    // POL-5
    let clock = Clock::new();
    let mut off = TimeoutFactory::new(None, || Echo);
    let wire = connect(&mut off, &clock);
    assert_eq!(clock.pending(), 0);
    wire.lose(ConnectionClosed::Done);
    let mut abort = TimeoutFactory::new(SECOND, || Echo).on_expiry(|t| t.abort_connection());
    let wire = connect(&mut abort, &clock);
    clock.advance(SECOND);
    assert!(wire.is_aborted());
    let mut patient = TimeoutFactory::half_an_hour(|| Echo);
    let wire = connect(&mut patient, &clock);
    clock.advance(1799 * SECOND);
    assert!(!wire.is_disconnecting());
    clock.advance(SECOND);
    assert!(wire.is_disconnecting());
}

#[test]
fn set_timeout_gives_the_period_before_and_none_disables() {
    // PX09, POL-6
    let clock = Clock::new();
    let wire = StringTransport::connect(Echo, &clock);
    let (idle, near) = (IdleTimeout::new(), wire.transport());
    idle.reset();
    assert_eq!(clock.pending(), 0, "reset starts nothing");
    assert_eq!(idle.set_timeout(near, Some(3 * SECOND)), None);
    clock.advance(2 * SECOND);
    assert_eq!(idle.set_timeout(near, Some(5 * SECOND)), Some(3 * SECOND));
    clock.advance(4 * SECOND);
    assert!(!wire.is_disconnecting());
    idle.reset();
    clock.advance(4 * SECOND);
    assert_eq!(idle.set_timeout(near, None), Some(5 * SECOND));
    assert_eq!(clock.pending(), 0);
    assert_eq!(idle.period(), None);
    clock.advance(60 * SECOND);
    assert!(!wire.is_disconnecting());
    assert_eq!(idle.set_timeout(near, Some(SECOND)), None);
    clock.advance(SECOND);
    assert!(wire.is_disconnecting());
    // Fired: nothing to be cancelled, and that is no error.
    assert_eq!(idle.set_timeout(near, None), None);
}

#[test]
fn an_expiry_may_set_the_next_or_drop_the_timeout_and_its_panic_closes_the_connection() {
    watch_log();
    let clock = Clock::new();
    let wire = StringTransport::connect(Echo, &clock);
    let log = Log::default();
    let idle: Rc<RefCell<Option<IdleTimeout>>> = Rc::default();
    let (inner, said) = (Rc::downgrade(&idle), log.clone());
    let timeout = IdleTimeout::new().on_expiry(move |t| {
        said.add("expired");
        let Some(idle) = inner.upgrade() else { return };
        let done = said.all().len() == 2;
        if done {
            drop(idle.take());
        } else if let Some(idle) = &*idle.borrow() {
            idle.set_timeout(t, Some(2 * SECOND));
        }
    });
    timeout.set_timeout(wire.transport(), Some(SECOND));
    *idle.borrow_mut() = Some(timeout);
    clock.advance(SECOND);
    clock.advance(SECOND);
    assert_eq!(log.all(), ["expired"]);
    clock.advance(SECOND);
    assert_eq!(log.all(), ["expired", "expired"]);
    assert!(idle.borrow().is_none());
    clock.advance(9 * SECOND);
    assert_eq!(log.all().len(), 2);

    let mut factory = TimeoutFactory::new(SECOND, || Echo).on_expiry(|_| panic!("at the end"));
    let wire = connect(&mut factory, &clock);
    clock.advance(SECOND);
    assert!(wire.is_disconnecting());
    assert!(rig::logged().iter().any(|line| line.contains("at the end")));
}

/// Notes what passes.
struct Noted(Log);
impl Wrapper for Noted {
    fn connection_made(&self, layer: Layer) {
        self.0.add(format_args!("wrapper made {}", layer.lower() != layer.upper()));
    }
    fn data_received(&self, layer: Layer, data: &[u8]) {
        layer.deliver(&data.to_ascii_uppercase());
    }
    fn write(&self, layer: Layer, data: &[u8]) {
        layer.lower().write(data.to_ascii_lowercase());
    }
    fn lose_connection(&self, _: Layer) {
        self.0.add("wrapper closes later");
    }
    fn connection_lost(&self, _: Layer, _: &ConnectionClosed) {
        self.0.add("wrapper lost");
    }
}

#[test]
fn a_wrapper_of_ones_own_stands_between_wire_and_protocol() {
    // POL-1, POL-2
    let (clock, log) = (Clock::new(), Log::default());
    let said = log.clone();
    let inner = move || {
        let (made, data, lost) = (said.clone(), said.clone(), said.clone());
        Probe::new()
            .on_made(move |t| {
                made.add("made");
                t.write("HELLO");
            })
            .on_data(move |t, bytes| {
                data.add(String::from_utf8_lossy(bytes));
                t.lose_connection();
                assert!(t.is_disconnecting(), "visible at once, whatever the wrapper does");
            })
            .on_lost(move |t, reason| lost.add(format_args!("{reason:?} {}", t.peer())))
    };
    let said = log.clone();
    let mut factory = WrappingFactory::new(move |_| Some(Noted(said.clone())), inner);
    let live = factory.live();
    let wire = connect(&mut factory, &clock);
    assert_eq!(log.take(), ["wrapper made true", "made"]);
    assert_eq!(wire.take(), b"hello");
    assert_eq!(live.len(), 1);
    assert_ne!(live.transports()[0], wire.transport());
    wire.deliver("abc");
    assert_eq!(log.take(), ["ABC", "wrapper closes later"]);
    assert!(!wire.is_disconnecting());
    wire.lose(ConnectionClosed::Done);
    assert_eq!(log.take(), ["wrapper lost", "Done 192.168.1.1:54321"]);
    assert!(live.is_empty());
}

#[test]
fn a_panic_of_the_wrapped_protocol_is_the_reason_it_hears() {
    watch_log();
    let (clock, log) = (Clock::new(), Log::default());
    let said = log.clone();
    let mut factory = WrappingFactory::new(
        |_| Some(KeepOpen),
        TimeoutFactory::new(SECOND, move || {
            let said = said.clone();
            Probe::new().on_data(|_, _| panic!("boom")).on_lost(move |_, reason| said.add(reason))
        }),
    );
    let live = factory.live();
    let wire = connect(&mut factory, &clock);
    wire.deliver("x");
    assert!(wire.is_disconnecting());
    wire.deliver("y");
    wire.lose(ConnectionClosed::Done);
    assert_eq!(log.take().len(), 1);
    assert!(live.is_empty());
    assert_eq!(rig::logged().len(), 1, "logged once, not once a layer");
    assert_eq!(clock.pending(), 0);
}

struct KeepOpen;
impl Wrapper for KeepOpen {
    fn read_connection_lost(&self, _: Layer) {}
}

#[test]
fn half_closes_reach_a_wrapped_protocol_that_wants_them_and_close_for_the_others() {
    let (clock, log) = (Clock::new(), Log::default());
    let wrap =
        |inner: Box<dyn Factory>| TimeoutFactory::new(SECOND, TrafficLoggingFactory::new(std::io::sink(), inner));
    let wire = connect(&mut wrap(Box::new(|| Echo)), &clock);
    wire.deliver_end();
    assert!(wire.is_disconnecting());
    let said = log.clone();
    let knows = move || {
        let (read, write) = (said.clone(), said.clone());
        Probe::new()
            .on_read_lost(move |t| {
                read.add("read lost");
                t.write("the answer");
                t.lose_write_connection();
            })
            .on_write_lost(move |_| write.add("write lost"))
    };
    let wire = connect(&mut wrap(Box::new(knows)), &clock);
    wire.deliver_end();
    assert!(!wire.is_disconnecting() && wire.is_write_closing());
    assert_eq!(wire.value(), b"the answer");
    wire.finish_writing();
    assert_eq!(log.take(), ["read lost", "write lost"]);
    // Kept open by a wrapper, for a protocol that knows nothing of it.
    let wire = connect(&mut WrappingFactory::new(|_| Some(KeepOpen), || Echo), &clock);
    wire.deliver_end();
    assert!(!wire.is_disconnecting());
}

/// A sink that the test reads.
#[derive(Clone, Default)]
struct Sink(Rc<RefCell<Vec<u8>>>);
impl Sink {
    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.take()).expect("text").lines().map(str::to_owned).collect()
    }
}
impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(data);
        Ok(data.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn traffic_is_logged_a_line_an_event_and_elided() {
    // POL-7
    let (clock, sink) = (Clock::new(), Sink::default());
    let mut factory = TrafficLoggingFactory::new(sink.clone(), || Echo).shown(5);
    let (one, two) = (connect(&mut factory, &clock), connect(&mut factory, &clock));
    one.deliver("hi\r\n");
    two.deliver("much more");
    assert_eq!(sink.lines(), [""; 0], "the sink is no part of a callback");
    clock.advance(Duration::ZERO);
    one.lose(ConnectionClosed::Done);
    clock.advance(Duration::ZERO);
    let lines = sink.lines();
    assert_eq!(
        lines[..6],
        [
            "0 * connected to 192.168.1.1:54321",
            "1 * connected to 192.168.1.1:54321",
            "0 < 4 bytes \"hi\\r\\n\"",
            "0 > 4 bytes \"hi\\r\\n\"",
            "1 < 9 bytes \"much \"...",
            "1 > 9 bytes \"much \"...",
        ]
    );
    assert!(lines[6].starts_with("0 * lost: "), "{}", lines[6]);
    assert_eq!(lines.len(), 7);
}

#[test]
fn a_traffic_log_is_bounded_and_its_failing_sink_is_left_alone() {
    let (clock, sink) = (Clock::new(), Sink::default());
    let mut factory = TrafficLoggingFactory::new(sink.clone(), Probe::new);
    let wire = connect(&mut factory, &clock);
    for _ in 0..10_000 {
        wire.deliver([b'x'; 1000]);
    }
    clock.advance(Duration::ZERO);
    let lines = sink.lines();
    assert!(lines.len() < 5000, "{}", lines.len());
    assert!(lines.last().is_some_and(|line| line.ends_with("events left out")));
    drop(wire);
    clock.advance(Duration::ZERO);
    struct Broken(Log);
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            self.0.add("asked");
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    watch_log();
    let log = Log::default();
    let mut factory = TrafficLoggingFactory::new(Broken(log.clone()), || Echo);
    let wire = connect(&mut factory, &clock);
    for _ in 0..3 {
        wire.deliver("x");
        clock.advance(Duration::ZERO);
    }
    assert_eq!(wire.value(), b"xxx");
    assert_eq!(log.take(), ["asked"]);
    assert_eq!(rig::logged().len(), 1);
}

struct KeepAll;
impl Wrapper for KeepAll {}
