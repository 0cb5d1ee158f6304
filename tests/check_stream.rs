//! `check_stream` itself: real transports and fakes pass; one that is wrong in a single respect is found out, in each respect.
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use twistlet::testing::{Clock, Network, StreamCheck, StreamRule, check_stream, connect, simulate_with, turns};
use twistlet::transport::{Factory, Wire};
use twistlet::{
    Address, ClientFactory, ConnectionClosed, Deferred, Failure, Producer, Protocol, PullProducer, Reactor, Result,
    Transport, TransportRef,
};

mod certs;
#[path = "support/watch.rs"]
mod support;
use support::dog;

type Boxed = Box<dyn Protocol>;

/// No backtrace for the panics that the suite provokes.
fn quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let provoked = panic.payload_as_str().is_some_and(|text| text.contains("a producer is registered"));
            if !provoked {
                usual(panic);
            }
        }));
    });
}

/// The factory of one connection.
struct Once(Option<Boxed>);
impl Factory for Once {
    fn build_protocol(&mut self, _: &Address) -> Option<Boxed> {
        self.0.take()
    }
}
impl ClientFactory for Once {}

fn over_tcp(reactor: Reactor, at: &'static str) -> impl FnMut(Boxed, Boxed) -> Result<Box<dyn FnMut()>> {
    move |client, server| {
        let port = reactor.listen_tcp(at, Once(Some(server)))?;
        drop(reactor.connect_protocol(&port.address(), client));
        Ok(Box::new(turns(&reactor)))
    }
}
fn over_a_pump(client: Boxed, server: Boxed) -> Result<Box<dyn FnMut()>> {
    let clock = Clock::new();
    let pump = connect(client, server, &clock);
    Ok(Box::new(move || {
        pump.pump();
    }))
}

#[test]
fn tcp_passes() {
    let _dog = dog();
    quiet();
    let reactor = Reactor::new().unwrap();
    check_stream(over_tcp(reactor, "127.0.0.1:0"));
    reactor.close();
}

#[test]
fn unix_passes() {
    let _dog = dog();
    quiet();
    let reactor = Reactor::new().unwrap();
    let at: PathBuf = std::env::temp_dir().join(format!("twistlet-check-stream-{}", std::process::id()));
    let number = Cell::new(0);
    check_stream(|client, server| {
        number.set(number.get() + 1);
        let path = at.with_extension(number.get().to_string());
        reactor.listen_unix(&path, Once(Some(server)))?;
        drop(reactor.connect_protocol_unix(&path, client));
        Ok(turns(&reactor))
    });
    reactor.close();
}

#[test]
fn a_network_in_memory_passes_also_byte_by_byte_and_late() {
    let _dog = dog();
    quiet();
    for (io, latency) in [(usize::MAX, 0), (4096, 30)] {
        let network = Network::new();
        network.limit_io(io);
        network.set_latency(Duration::from_micros(latency));
        simulate_with(&network, |reactor, _| {
            let violations = StreamCheck::new().violations(over_tcp(*reactor, "10.0.0.9:0"));
            assert_eq!(violations, []);
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn two_protocols_on_a_pump_pass() {
    let _dog = dog();
    quiet();
    check_stream(over_a_pump);
}

#[test]
fn tls_passes_in_memory_and_over_tcp() {
    use twistlet::transport::tls::TlsProtocol;
    let _dog = dog();
    quiet();
    let secure = |inner: Boxed, server: bool| -> Boxed {
        match server {
            true => Box::new(TlsProtocol::new(&certs::server(), inner)),
            false => Box::new(TlsProtocol::new(certs::client().named("localhost"), inner)),
        }
    };
    // TLS-7: what the peer says until it has heard of the close is still delivered.
    let check = StreamCheck::new().without(StreamRule::NoDataAfterClose);
    let pump = check.violations(|client, server| over_a_pump(secure(client, false), secure(server, true)));
    assert_eq!(pump, []);
    let reactor = Reactor::new().unwrap();
    let mut tcp = over_tcp(reactor, "127.0.0.1:0");
    assert_eq!(check.violations(|client, server| tcp(secure(client, false), secure(server, true))), []);
    reactor.close();
}

#[test]
fn policies_pass_each_alone_and_all_in_a_stack() {
    use twistlet::protocols::policies::{LimitTotalConnections, TimeoutFactory, TrafficLoggingFactory};
    let _dog = dog();
    quiet();
    let hour = Duration::from_secs(3600);
    type Wrap = Box<dyn Fn(Once) -> Box<dyn Factory>>;
    let wraps: [Wrap; 4] = [
        Box::new(move |inner| Box::new(TimeoutFactory::new(hour, inner))),
        Box::new(|inner| Box::new(LimitTotalConnections::new(9, inner))),
        Box::new(|inner| Box::new(TrafficLoggingFactory::new(std::io::sink(), inner))),
        Box::new(move |inner| {
            Box::new(TimeoutFactory::new(
                hour,
                LimitTotalConnections::new(9, TrafficLoggingFactory::new(std::io::sink(), inner)),
            ))
        }),
    ];
    for wrap in wraps {
        let wrapped = |inner| wrap(Once(Some(inner))).build_protocol(&Address::Gone).unwrap();
        check_stream(|client, server| over_a_pump(wrapped(client), wrapped(server)));
    }
}

/// What is wrong with a wrapper that is right otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    None,
    MadeTwice,
    OtherName,
    EmptyData,
    SwapsBytes,
    RepeatsBytes,
    SplitsDeliveries,
    LosesAByteAtEachPause,
    NeverPausesProducers,
    PausesProducersTwice,
    AsksPullersForEver,
    TakesASecondProducer,
    NeverStopsProducers,
    ClosesUnderAProducer,
    DropsOutputAtClose,
    HidesThatItCloses,
    ReadLostTwice,
    HalfCloseIsClose,
    AbortIsClose,
    FailIsClose,
    KeepsPanicsSecret,
    LostTwice,
    NeverLost,
    ForgetsThePeer,
    FlushesAtOnce,
    TellsWithinAMethod,
    KeepsTheProtocol,
}

/// The protocol of the wire below, which owns the wire above.
struct Below {
    fault: Fault,
    inner: Option<Boxed>,
    lower: Option<TransportRef>,
    upper: Rc<RefCell<Option<Rc<Wire>>>>,
}
impl Below {
    fn tell(&self, event: impl FnOnce(&Wire)) {
        let upper = self.upper.borrow().clone();
        let Some(upper) = upper else { return };
        event(&upper);
        self.look(&upper);
    }
    /// After a panic of the protocol above, which has ended the upper wire, the lower one is closed too.
    fn look(&self, upper: &Wire) {
        if !upper.transport().is_connected() && self.fault != Fault::KeepsPanicsSecret {
            self.lower.unwrap().abort_connection();
        }
    }
}
impl Protocol for Below {
    fn connection_made(&mut self, lower: TransportRef) {
        self.lower = Some(lower);
        let between = Between { fault: self.fault, lower, lost: Cell::new(false), upper: Rc::clone(&self.upper) };
        let above = Above { fault: self.fault, inner: self.inner.take(), lower, was_paused: false };
        let upper = Rc::new(Wire::new(between, above));
        self.upper.replace(Some(Rc::clone(&upper)));
        self.look(&upper);
    }
    fn data_received(&mut self, _: TransportRef, data: &[u8]) {
        match self.fault {
            Fault::SwapsBytes if data.len() > 1 => {
                let mut data = data.to_vec();
                data.swap(0, 1);
                self.tell(|upper| upper.deliver(&data));
            }
            Fault::RepeatsBytes => self.tell(|upper| {
                upper.deliver(data);
                upper.deliver(&data[..1]);
            }),
            _ => self.tell(|upper| upper.deliver(data)),
        }
    }
    fn read_connection_lost(&mut self, _: TransportRef) {
        self.tell(Wire::deliver_read_lost);
        if self.fault == Fault::ReadLostTwice {
            self.tell(Wire::deliver_read_lost);
        }
    }
    fn write_connection_lost(&mut self, _: TransportRef) {
        self.tell(Wire::deliver_write_lost);
    }
    fn connection_lost(&mut self, _: TransportRef, reason: &ConnectionClosed) {
        let upper = self.upper.take().and_then(Rc::into_inner);
        match (self.fault, upper) {
            (_, None) => {}
            (Fault::NeverLost, Some(upper)) => std::mem::forget(upper),
            (_, Some(upper)) => upper.deliver_lost(reason),
        }
    }
}

/// The protocol of the wire above: what goes wrong in spite of the table of wires.
struct Above {
    fault: Fault,
    inner: Option<Boxed>,
    lower: TransportRef,
    was_paused: bool,
}
impl Above {
    fn inner(&mut self) -> &mut dyn Protocol {
        &mut **self.inner.as_mut().unwrap()
    }
}
impl Protocol for Above {
    fn connection_made(&mut self, upper: TransportRef) {
        self.inner().connection_made(upper);
        if self.fault == Fault::MadeTwice {
            self.inner().connection_made(upper);
        }
    }
    fn data_received(&mut self, upper: TransportRef, data: &[u8]) {
        let (one, two) = data.split_at(1);
        match self.fault {
            Fault::EmptyData => self.inner().data_received(upper, b""),
            Fault::OtherName => {
                let lower = self.lower;
                return self.inner().data_received(lower, data);
            }
            Fault::SplitsDeliveries => {
                self.inner().data_received(upper, one);
                if two.is_empty() {
                    return;
                }
                return self.inner().data_received(upper, two);
            }
            Fault::LosesAByteAtEachPause => {
                let lost = std::mem::replace(&mut self.was_paused, false);
                let data = if lost && !two.is_empty() { two } else { data };
                self.inner().data_received(upper, data);
                self.was_paused = upper.is_paused();
                return;
            }
            _ => {}
        }
        self.inner().data_received(upper, data);
    }
    fn read_connection_lost(&mut self, upper: TransportRef) {
        self.inner().read_connection_lost(upper);
    }
    fn write_connection_lost(&mut self, upper: TransportRef) {
        self.inner().write_connection_lost(upper);
    }
    fn connection_lost(&mut self, upper: TransportRef, reason: &ConnectionClosed) {
        self.inner().connection_lost(upper, reason);
        if self.fault == Fault::LostTwice {
            self.inner().connection_lost(upper, reason);
        }
    }
}
impl Drop for Above {
    fn drop(&mut self) {
        if self.fault == Fault::KeepsTheProtocol {
            std::mem::forget(self.inner.take());
        }
    }
}

/// The transport of the wire above.
struct Between {
    fault: Fault,
    lower: TransportRef,
    lost: Cell<bool>,
    upper: Rc<RefCell<Option<Rc<Wire>>>>,
}
impl Transport for Between {
    fn lower(&self) -> Option<TransportRef> {
        Some(self.lower)
    }
    fn write(&self, data: &[u8]) {
        self.lower.write(data);
    }
    fn lose_connection(&self) {
        match self.fault {
            Fault::DropsOutputAtClose => return self.lower.abort_connection(),
            Fault::ClosesUnderAProducer => self.lower.unregister_producer(),
            Fault::TellsWithinAMethod if !self.lost.replace(true) => {
                let upper = self.upper.borrow().clone();
                upper.iter().for_each(|upper| upper.deliver_write_lost());
            }
            _ => {}
        }
        self.lower.lose_connection();
    }
    fn lose_write_connection(&self) {
        match self.fault {
            Fault::HalfCloseIsClose => self.lower.lose_connection(),
            _ => self.lower.lose_write_connection(),
        }
    }
    fn abort_connection(&self) {
        match self.fault {
            Fault::AbortIsClose => self.lower.lose_connection(),
            _ => self.lower.abort_connection(),
        }
    }
    fn fail_connection(&self, failure: Failure) {
        match self.fault {
            Fault::FailIsClose => self.lower.lose_connection(),
            _ => self.lower.fail_connection(failure),
        }
    }
    fn is_disconnecting(&self) -> bool {
        self.fault != Fault::HidesThatItCloses && self.lower.is_disconnecting()
    }
    fn when_flushed(&self) -> Deferred<()> {
        match self.fault {
            Fault::FlushesAtOnce => Deferred::succeed(()),
            _ => self.lower.when_flushed(),
        }
    }
    fn peer(&self) -> Address {
        match self.fault {
            Fault::ForgetsThePeer if self.lower.is_disconnecting() => Address::Gone,
            _ => self.lower.peer(),
        }
    }
    fn register_producer(&self, producer: Box<dyn Producer>) {
        if self.fault == Fault::TakesASecondProducer {
            self.lower.unregister_producer();
        }
        self.lower.register_producer(Push(self.fault, producer));
    }
    fn register_pull_producer(&self, producer: Box<dyn PullProducer>) {
        self.lower.register_pull_producer(Pull(self.fault, producer));
    }
}

struct Push(Fault, Box<dyn Producer>);
impl Producer for Push {
    fn pause_producing(&mut self) {
        if self.0 != Fault::NeverPausesProducers {
            self.1.pause_producing();
        }
        if self.0 == Fault::PausesProducersTwice {
            self.1.pause_producing();
        }
    }
    fn resume_producing(&mut self) {
        if self.0 != Fault::NeverPausesProducers {
            self.1.resume_producing();
        }
    }
    fn stop_producing(&mut self) {
        if self.0 != Fault::NeverStopsProducers {
            self.1.stop_producing();
        }
    }
}
struct Pull(Fault, Box<dyn PullProducer>);
impl PullProducer for Pull {
    fn produce(&mut self, consumer: TransportRef) -> bool {
        let more = self.1.produce(consumer);
        more || self.0 == Fault::AsksPullersForEver && consumer.unsent() > 0
    }
    fn stop_producing(&mut self) {
        self.1.stop_producing();
    }
}

/// The rules that were seen broken by a pump between two faulty wrappers.
fn broken(fault: Fault) -> Vec<StreamRule> {
    let wrap = |inner| Box::new(Below { fault, inner: Some(inner), lower: None, upper: Rc::default() }) as Boxed;
    let violations = StreamCheck::new().violations(|client, server| over_a_pump(wrap(client), wrap(server)));
    let mut rules: Vec<_> = violations.iter().map(|violation| violation.rule).collect();
    rules.sort();
    rules.dedup();
    rules
}

#[test]
fn a_wrapper_that_forwards_all_it_should_passes_over_a_pump_and_over_tcp() {
    let _dog = dog();
    quiet();
    assert_eq!(broken(Fault::None), []);
    let reactor = Reactor::new().unwrap();
    let mut tcp = over_tcp(reactor, "127.0.0.1:0");
    let wrap =
        |inner| Box::new(Below { fault: Fault::None, inner: Some(inner), lower: None, upper: Rc::default() }) as Boxed;
    check_stream(move |client, server| tcp(wrap(client), wrap(server)));
    reactor.close();
}

#[test]
fn every_rule_finds_out_who_breaks_it() {
    let _dog = dog();
    quiet();
    use StreamRule::*;
    for (fault, rule) in [
        (Fault::MadeTwice, Order),
        (Fault::OtherName, Order),
        (Fault::EmptyData, Bytes),
        (Fault::SwapsBytes, Bytes),
        (Fault::RepeatsBytes, Bytes),
        (Fault::SwapsBytes, Switch),
        (Fault::SplitsDeliveries, Pause),
        (Fault::SplitsDeliveries, NoDataAfterClose),
        (Fault::LosesAByteAtEachPause, Pause),
        (Fault::NeverPausesProducers, PushProducer),
        (Fault::PausesProducersTwice, PushProducer),
        (Fault::AsksPullersForEver, PullProducer),
        (Fault::TakesASecondProducer, OneProducer),
        (Fault::NeverStopsProducers, OneProducer),
        (Fault::ClosesUnderAProducer, Close),
        (Fault::DropsOutputAtClose, Close),
        (Fault::HidesThatItCloses, Close),
        (Fault::ReadLostTwice, HalfClose),
        (Fault::HalfCloseIsClose, HalfClose),
        (Fault::AbortIsClose, Abort),
        (Fault::FailIsClose, Failed),
        (Fault::KeepsPanicsSecret, OneEnd),
        (Fault::LostTwice, OneEnd),
        (Fault::NeverLost, OneEnd),
        (Fault::ForgetsThePeer, Names),
        (Fault::FlushesAtOnce, Flush),
        (Fault::TellsWithinAMethod, NoReentry),
        (Fault::KeepsTheProtocol, Released),
    ] {
        let broken = broken(fault);
        assert!(broken.contains(&rule), "{fault:?} should be found by {rule}, and was by {broken:?}");
    }
}

#[test]
fn rules_may_be_left_out() {
    let wrap = |inner| {
        let fault = Fault::HalfCloseIsClose;
        Box::new(Below { fault, inner: Some(inner), lower: None, upper: Rc::default() }) as Boxed
    };
    let check = StreamCheck::new().without(StreamRule::HalfClose);
    assert_eq!(check.violations(|client, server| over_a_pump(wrap(client), wrap(server))), []);
}
