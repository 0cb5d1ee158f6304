//! Random stacks of policies that have nothing to object behave as the protocol alone, whatever it does and suffers.
use super::rig::{Log, logged, watch_log};
use super::{KeepAll, SECOND, peer};
use proptest::prelude::*;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use twistlet::protocols::policies::{
    LimitConnectionsByPeer, LimitTotalConnections, ThrottlingFactory, TimeoutFactory, TrafficLoggingFactory,
    WrappingFactory,
};
use twistlet::testing::{Clock, StringTransport};
use twistlet::{ConnectionClosed, Factory, Producer, Protocol, PullProducer, TransportRef};

/// Does what the first byte of its data says, and notes all it hears.
struct Puppet {
    log: Log,
    near: Rc<Cell<Option<TransportRef>>>,
}
impl Puppet {
    fn act(&self, transport: TransportRef, order: u8) {
        match order {
            b'p' => transport.pause_producing(),
            b'r' => transport.resume_producing(),
            b'c' => transport.lose_connection(),
            b'h' => transport.lose_write_connection(),
            b'a' => transport.abort_connection(),
            b'f' => transport.fail_connection(ConnectionClosed::Done),
            b's' => transport.switch_protocol(Puppet { log: self.log.clone(), near: self.near.clone() }, "unread"),
            b'X' => panic!("ordered"),
            b'w' => transport.unregister_producer(),
            b'W' => {
                transport.unregister_producer();
                transport.register_producer(Pushed(self.log.clone(), transport));
            }
            b'L' => {
                transport.unregister_producer();
                transport.register_pull_producer(Pulled(self.log.clone(), 3));
            }
            _ => {}
        }
        self.log.add(format_args!(
            "{} then {} {}",
            char::from(order),
            transport.is_disconnecting(),
            transport.is_paused()
        ));
    }
}
impl Protocol for Puppet {
    fn connection_made(&mut self, transport: TransportRef) {
        self.log.add(format_args!("made {} {}", transport.peer(), transport.host()));
        self.near.set(Some(transport));
    }
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        self.log.add(data.escape_ascii());
        transport.write(data);
        self.act(transport, data[0]);
    }
    fn read_connection_lost(&mut self, transport: TransportRef) {
        self.log.add("read lost");
        transport.write("the rest");
    }
    fn write_connection_lost(&mut self, _: TransportRef) {
        self.log.add("write lost");
    }
    fn connection_lost(&mut self, transport: TransportRef, reason: &ConnectionClosed) {
        let reason = match reason {
            ConnectionClosed::Failed(_) => "Failed".to_owned(),
            reason => format!("{reason:?}"),
        };
        self.log.add(format_args!("lost {reason} {}", transport.peer()));
    }
}

struct Pushed(Log, TransportRef);
impl Producer for Pushed {
    fn pause_producing(&mut self) {
        self.0.add("producer pauses");
        self.1.write("(paused)");
    }
    fn resume_producing(&mut self) {
        self.0.add("producer resumes");
        self.1.write("(resumed)");
    }
    fn stop_producing(&mut self) {
        self.0.add("producer stops");
    }
}
struct Pulled(Log, u32);
impl PullProducer for Pulled {
    fn produce(&mut self, consumer: TransportRef) -> bool {
        self.1 -= 1;
        self.0.add("produces");
        consumer.write("(produced)");
        self.1 > 0
    }
    fn stop_producing(&mut self) {
        self.0.add("producer stops");
    }
}

#[derive(Clone, Copy, Debug)]
enum Policy {
    Total,
    ByPeer,
    Timeout,
    Throttle,
    Traffic,
    Wrapping,
}
fn stack(policies: &[Policy], mut inner: Box<dyn Factory>) -> Box<dyn Factory> {
    for policy in policies {
        inner = match policy {
            Policy::Total => Box::new(LimitTotalConnections::new(1, inner)),
            Policy::ByPeer => Box::new(LimitConnectionsByPeer::new(inner)),
            Policy::Timeout => Box::new(TimeoutFactory::half_an_hour(inner)),
            Policy::Throttle => Box::new(ThrottlingFactory::new(inner).read_limit(1 << 40).write_limit(1 << 40)),
            Policy::Traffic => Box::new(TrafficLoggingFactory::new(std::io::sink(), inner)),
            Policy::Wrapping => Box::new(WrappingFactory::new(|_| Some(KeepAll), inner)),
        };
    }
    inner
}

/// POL-1: each of them, and all of them, is a stream like any other.
#[test]
fn a_policy_owes_its_protocol_what_every_stream_does() {
    use Policy::*;
    watch_log();
    let all = [Total, ByPeer, Timeout, Throttle, Traffic, Wrapping];
    let alone = all.iter().map(std::slice::from_ref);
    for policies in alone.chain([&all[..]]) {
        twistlet::testing::check_stream(|client, server| {
            let wrapped = |protocol| {
                let mut protocol = Some(protocol);
                let once = twistlet::from_fn(move |_: &twistlet::Address| protocol.take());
                stack(policies, Box::new(once)).build_protocol(&peer(1)).expect("the first")
            };
            let clock = Clock::new();
            let pump = twistlet::testing::connect(wrapped(client), wrapped(server), &clock);
            Ok(move || {
                pump.pump();
            })
        });
    }
    logged();
}

#[derive(Clone, Debug)]
enum Step {
    Deliver(u8, u8),
    /// The protocol is told to act from outside its callbacks.
    Resume,
    Pause,
    Write,
    End,
    FinishWriting,
    ProducerPauses,
    ProducerResumes,
    Second,
}
fn step() -> impl Strategy<Value = Step> {
    let order = prop::sample::select(&b"prchafsXwWLeeeeeeWLpr"[..]);
    prop_oneof![
        6 => (order, any::<u8>()).prop_map(|(order, rest)| Step::Deliver(order, rest)),
        2 => Just(Step::Resume),
        1 => Just(Step::Pause),
        1 => Just(Step::Write),
        1 => Just(Step::End),
        1 => Just(Step::FinishWriting),
        2 => Just(Step::ProducerPauses),
        2 => Just(Step::ProducerResumes),
        1 => Just(Step::Second),
    ]
}

/// What a protocol hears and what comes of it under `policies`.
fn play(policies: &[Policy], steps: &[Step]) -> Vec<String> {
    let (clock, log, near) = (Clock::new(), Log::default(), Rc::new(Cell::new(None)));
    let (said, told) = (log.clone(), near.clone());
    let puppet = move || Puppet { log: said.clone(), near: told.clone() };
    let mut factory = stack(policies, Box::new(puppet));
    let protocol = factory.build_protocol(&peer(1)).expect("nothing declines");
    let wire = StringTransport::connect(protocol, &clock);
    let near: TransportRef = near.get().expect("made");
    for step in steps {
        match *step {
            Step::Deliver(order, rest) => wire.deliver([order, rest]),
            Step::Resume => near.resume_producing(),
            Step::Pause => near.pause_producing(),
            Step::Write => near.write("from outside"),
            Step::End => wire.deliver_end(),
            Step::FinishWriting => wire.finish_writing(),
            Step::ProducerPauses => wire.pause_producer(),
            Step::ProducerResumes => wire.resume_producer(),
            Step::Second => clock.advance(SECOND),
        }
        // What a policy passes on from wire to wire takes a turn for each.
        (0..policies.len() + 1).for_each(|_| clock.advance(Duration::ZERO));
        if near.is_connected() {
            log.add(format_args!(
                "{} {} {} {} {} {}",
                wire.value().escape_ascii(),
                wire.is_disconnecting(),
                wire.is_aborted(),
                wire.is_write_closing(),
                wire.is_paused(),
                wire.has_producer(),
            ));
        }
    }
    wire.lose(ConnectionClosed::Lost(None));
    drop((wire, factory));
    clock.advance(Duration::ZERO);
    log.add(format_args!("{} timers", clock.pending()));
    log.take()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// POL-1
    #[test]
    fn a_stack_of_policies_behaves_as_what_it_wraps(
        policies in prop::collection::vec(
            prop::sample::select(&[
                Policy::Total, Policy::ByPeer, Policy::Timeout, Policy::Throttle, Policy::Traffic, Policy::Wrapping,
            ][..]),
            0..5,
        ),
        steps in prop::collection::vec(step(), 0..24),
    ) {
        watch_log();
        let alone = play(&[], &steps);
        prop_assert_eq!(play(&policies, &steps), alone);
        logged();
    }
}
