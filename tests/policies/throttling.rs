//! So many bytes a second: who is paused, for how long, and who stays paused.
use super::rig::{Log, Probe, Slot, logged, watch_log};
use super::{SECOND, connect, connect_from};
use std::time::Duration;
use twistlet::protocols::policies::ThrottlingFactory;
use twistlet::testing::Clock;
use twistlet::{ConnectionClosed, Producer, PullProducer, TransportRef};

#[test]
fn reading_too_much_pauses_all_connections_until_it_is_made_up_for() {
    // POL-3
    let clock = Clock::new();
    let mut factory = ThrottlingFactory::new(Probe::new).read_limit(10);
    let (one, two) = (connect(&mut factory, &clock), connect(&mut factory, &clock));
    one.deliver([b'x'; 10]);
    clock.advance(SECOND);
    assert!(!one.is_paused(), "exactly the limit");
    one.deliver([b'x'; 20]);
    two.deliver([b'x'; 15]);
    assert!(!one.is_paused(), "looked at once a second");
    clock.advance(SECOND);
    // 35 bytes at 10 a second: 2.5 seconds more.
    assert!(one.is_paused() && two.is_paused());
    let late = connect(&mut factory, &clock);
    assert!(late.is_paused(), "one that comes meanwhile waits, too");
    clock.advance(Duration::from_millis(2499));
    assert!(one.is_paused() && two.is_paused());
    clock.advance(Duration::from_millis(1));
    assert!(!one.is_paused() && !two.is_paused() && !late.is_paused());
    drop((one, two, late));
    assert_eq!(clock.pending(), 0, "no checks without connections");
}

#[test]
fn a_protocols_own_pause_and_the_throttles_do_not_lift_each_other() {
    let clock = Clock::new();
    let near = Slot::default();
    let told = near.clone();
    let mut factory = ThrottlingFactory::new(move || {
        let told = told.clone();
        Probe::new().on_made(move |t| told.set(t))
    })
    .read_limit(10);
    let wire = connect(&mut factory, &clock);
    let near: TransportRef = near.get();
    wire.deliver([b'x'; 20]);
    clock.advance(SECOND);
    near.pause_producing();
    near.resume_producing();
    assert!(wire.is_paused(), "throttled");
    near.pause_producing();
    clock.advance(SECOND);
    assert!(wire.is_paused(), "its own pause");
    near.resume_producing();
    assert!(!wire.is_paused());
}

/// Writes ten bytes at a time; push or pull.
struct Tens(Log, TransportRef);
impl Producer for Tens {
    fn pause_producing(&mut self) {
        self.0.add("pause");
    }
    fn resume_producing(&mut self) {
        self.0.add("resume");
    }
    fn stop_producing(&mut self) {
        self.0.add("stop");
    }
}
impl PullProducer for Tens {
    fn produce(&mut self, consumer: TransportRef) -> bool {
        assert_eq!(consumer, self.1, "what is produced goes through the policy");
        consumer.write([b'x'; 10]);
        true
    }
}

fn writing(log: &Log, near: &Slot<TransportRef>) -> ThrottlingFactory<impl FnMut() -> Probe + use<>> {
    let _ = log;
    let near = near.clone();
    ThrottlingFactory::new(move || {
        let near = near.clone();
        Probe::new().on_made(move |t| near.set(t))
    })
    .write_limit(10)
}

#[test]
fn writing_too_much_pauses_producers_once_and_only_both_together_resume_them() {
    // POL-3
    let (clock, log, near) = (Clock::new(), Log::default(), Slot::default());
    let wire = connect(&mut writing(&log, &near), &clock);
    let near = near.get();
    near.register_producer(Tens(log.clone(), near));
    near.write([b'x'; 30]);
    assert_eq!(wire.take().len(), 30, "what is written is not held back");
    clock.advance(SECOND);
    assert_eq!(log.take(), ["pause"]);
    wire.pause_producer();
    assert_eq!(log.take(), [""; 0], "it has been told");
    clock.advance(2 * SECOND);
    assert_eq!(log.take(), [""; 0], "the wire is full yet");
    wire.resume_producer();
    assert_eq!(log.take(), ["resume"]);
    // One that registers while the throttle is closed is told, too, though not from within register_producer.
    near.unregister_producer();
    near.write([b'x'; 20]);
    clock.advance(SECOND);
    near.register_producer(Tens(log.clone(), near));
    assert_eq!(log.take(), [""; 0]);
    clock.advance(Duration::ZERO);
    assert_eq!(log.take(), ["pause"]);
    clock.advance(SECOND);
    assert_eq!(log.take(), ["resume"]);
    wire.lose(ConnectionClosed::Done);
    assert_eq!(log.take(), ["stop"]);
}

#[test]
fn a_pull_producer_is_not_asked_while_throttled_and_asked_again_afterwards() {
    let (clock, log, near) = (Clock::new(), Log::default(), Slot::default());
    let wire = connect(&mut writing(&log, &near), &clock);
    let near = near.get();
    near.register_pull_producer(Tens(log, near));
    for _ in 0..3 {
        wire.resume_producer();
    }
    assert_eq!(wire.take().len(), 30);
    clock.advance(SECOND);
    wire.resume_producer();
    assert_eq!(wire.take(), b"");
    assert!(wire.has_producer());
    clock.advance(2 * SECOND);
    wire.resume_producer();
    assert_eq!(wire.take().len(), 10);
}

#[test]
fn a_producer_that_panics_when_throttled_closes_its_connection_only() {
    struct Bad;
    impl Producer for Bad {
        fn pause_producing(&mut self) {
            panic!("not now");
        }
        fn resume_producing(&mut self) {}
        fn stop_producing(&mut self) {}
    }
    watch_log();
    let (clock, log, near) = (Clock::new(), Log::default(), Slot::default());
    let mut factory = writing(&log, &near);
    let bad = connect(&mut factory, &clock);
    near.get().register_producer(Bad);
    let good = connect(&mut factory, &clock);
    near.get().register_producer(Tens(log.clone(), near.get()));
    near.get().write([b'x'; 30]);
    clock.advance(SECOND);
    assert!(bad.is_disconnecting() && !good.is_disconnecting());
    assert_eq!(log.take(), ["pause"]);
    assert_eq!(logged().len(), 1);
}

#[test]
fn connections_beyond_the_throttles_limit_are_declined() {
    // P16
    let clock = Clock::new();
    let mut factory = ThrottlingFactory::new(Probe::new).max_connections(2);
    let (one, _two) = (connect(&mut factory, &clock), connect(&mut factory, &clock));
    assert!(connect_from(&mut factory, 1, &clock).is_none());
    one.lose(ConnectionClosed::Done);
    assert!(connect_from(&mut factory, 1, &clock).is_some());
}
