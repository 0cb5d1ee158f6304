//! `start_tls` under a throttle: what it holds back at that moment, a producer or the reading, goes on above TLS.
use super::certs;
use super::rig::{Slot, logged, watch_log};
use super::{SECOND, peer};
use std::cell::Cell;
use std::rc::Rc;
use twistlet::protocols::policies::{ThrottlingFactory, TimeoutFactory};
use twistlet::testing::{Clock, Pump, connect};
use twistlet::{ConnectionClosed, Factory, Producer, Protocol, PullProducer, TransportRef};

const LEN: usize = 5_000;

type Wrap = fn(Box<dyn Factory>) -> Box<dyn Factory>;

/// Writes a hundred bytes at a time, `LEN` in all; and has to be resumed as often as it was paused.
#[derive(Clone)]
struct Hundreds {
    near: TransportRef,
    left: Rc<Cell<usize>>,
    paused: Rc<Cell<bool>>,
}
impl Hundreds {
    fn new(near: TransportRef) -> Self {
        Hundreds { near, left: Rc::new(Cell::new(LEN)), paused: Rc::default() }
    }
    fn one(&self) -> bool {
        if self.left.get() > 0 {
            self.left.set(self.left.get() - 100);
            self.near.write([b'x'; 100]);
        }
        self.left.get() > 0
    }
    /// As a push producer: one each tenth of a second.
    fn tick(self) {
        if !self.paused.get() && !self.one() {
            self.near.unregister_producer();
            return self.near.lose_connection();
        }
        self.near.call_later(SECOND / 10, move || self.tick());
    }
}
impl Producer for Hundreds {
    fn pause_producing(&mut self) {
        assert!(!self.paused.replace(true), "told twice to pause");
    }
    fn resume_producing(&mut self) {
        assert!(self.paused.replace(false), "told to go on, and had not been told to pause");
    }
    fn stop_producing(&mut self) {}
}
impl PullProducer for Hundreds {
    fn produce(&mut self, consumer: TransportRef) -> bool {
        assert_eq!(consumer, self.near);
        let goes_on = self.one();
        if !goes_on {
            consumer.lose_connection();
        }
        goes_on
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Push,
    Pull,
}

/// Registers at once, starts TLS when it is told to.
struct Server(Kind);
impl Protocol for Server {
    fn connection_made(&mut self, near: TransportRef) {
        let producer = Hundreds::new(near);
        match self.0 {
            Kind::Push => {
                near.register_producer(producer.clone());
                producer.tick();
            }
            Kind::Pull => near.register_pull_producer(producer),
        }
    }
    fn data_received(&mut self, near: TransportRef, data: &[u8]) {
        assert_eq!(data, b"tls");
        near.start_tls(certs::server());
    }
}

/// Counts what comes, and how it ends.
#[derive(Clone, Default)]
struct Client {
    got: Rc<Cell<usize>>,
    end: Slot<ConnectionClosed>,
}
impl Protocol for Client {
    fn data_received(&mut self, _: TransportRef, data: &[u8]) {
        self.got.set(self.got.get() + data.len());
    }
    fn connection_lost(&mut self, _: TransportRef, reason: &ConnectionClosed) {
        self.end.set(reason.clone());
    }
}

/// As time goes by, until `done`.
#[track_caller]
fn wait(pump: &Pump, clock: &Clock, what: &str, done: impl Fn() -> bool) {
    for _ in 0..2_000 {
        pump.pump();
        if done() {
            return;
        }
        clock.advance(SECOND / 20);
    }
    panic!("never: {what}");
}

#[test]
fn a_producer_goes_on_above_tls_whether_it_was_held_back_or_not() {
    watch_log();
    let wraps: [Wrap; 3] = [
        |inner| inner,
        |inner| Box::new(ThrottlingFactory::new(inner).write_limit(400)),
        |inner| Box::new(TimeoutFactory::half_an_hour(ThrottlingFactory::new(inner).write_limit(400))),
    ];
    for (number, wrap) in wraps.iter().enumerate() {
        for kind in [Kind::Push, Kind::Pull] {
            // In the throttle's first second, in the pause after it, and later.
            for tenths in [1, 11, 13, 16, 21, 30] {
                let clock = Clock::new();
                let server = wrap(Box::new(move || Server(kind))).build_protocol(&peer(1)).expect("not declined");
                let client = Client::default();
                let pump = connect(client.clone(), server, &clock);
                for _ in 0..tenths {
                    pump.pump();
                    clock.advance(SECOND / 10);
                }
                let before = client.got.get();
                if before == LEN {
                    continue;
                }
                pump.client().write("tls");
                // Until that has arrived nobody may start: what is on its way is plain.
                pump.pump();
                pump.client().start_tls(certs::client().named("localhost"));
                let case = format!("{kind:?} {number} after {tenths}");
                wait(&pump, &clock, &case, || client.end.is_set());
                assert_eq!(client.got.get(), LEN, "{case}");
                assert!(client.end.get().is_clean(), "{case}: {}", client.end.get());
            }
        }
    }
    assert_eq!(logged(), [""; 0]);
}

#[test]
fn a_producer_that_the_wire_has_paused_goes_on_above_tls() {
    const MUCH: usize = 100_000;
    /// Writes more than the wire likes, then waits to be told to go on.
    struct Bulk(TransportRef, Slot<()>);
    impl Producer for Bulk {
        fn pause_producing(&mut self) {
            self.1.set(());
        }
        fn resume_producing(&mut self) {
            self.0.write([b'y'; 10]);
            self.0.unregister_producer();
            self.0.lose_connection();
        }
        fn stop_producing(&mut self) {}
    }
    let plain = |inner: Box<dyn Factory>| inner;
    let throttled = |inner: Box<dyn Factory>| Box::new(ThrottlingFactory::new(inner).write_limit(1 << 40)) as _;
    let wraps: [Wrap; 2] = [plain, throttled];
    for wrap in wraps {
        let (clock, paused, upper) = (Clock::new(), Slot::default(), Slot::<TransportRef>::default());
        let (told, made) = (paused.clone(), upper.clone());
        let server = move || {
            let (told, made) = (told.clone(), made.clone());
            super::rig::Probe::new().on_made(move |near| {
                made.set(near);
                near.register_producer(Bulk(near, told.clone()));
                near.write([b'x'; MUCH]);
            })
        };
        let server = wrap(Box::new(server)).build_protocol(&peer(1)).expect("not declined");
        let got = Slot::default();
        let (count, all) = (got.clone(), Cell::new(0));
        let client = super::rig::Probe::new().on_made(|near| near.pause_producing()).on_data(move |near, data| {
            all.set(all.get() + data.len());
            count.set(all.get());
            if all.get() == MUCH {
                near.start_tls(certs::client().named("localhost"));
            }
        });
        let pump = connect(client, server, &clock);
        wait(&pump, &clock, "a full wire", || paused.is_set());
        upper.get().start_tls(certs::server());
        pump.client().resume_producing();
        wait(&pump, &clock, "the rest", || got.is_set() && got.get() == MUCH + 10);
        wait(&pump, &clock, "the end", || !pump.client().is_connected());
    }
}

#[test]
fn a_handshake_is_read_when_the_throttle_opens_though_the_protocol_has_paused() {
    watch_log();
    let (clock, secure) = (Clock::new(), Slot::default());
    /// Says what it is given, and by what wire.
    struct Pauses(Slot<(TransportRef, bool)>);
    impl Protocol for Pauses {
        fn data_received(&mut self, near: TransportRef, data: &[u8]) {
            if data == b"tls" {
                near.pause_producing();
                near.start_tls(certs::server());
                self.0.set((near, false));
            } else {
                assert_eq!(data, b"secret");
                self.0.set((near, true));
            }
        }
    }
    let told = secure.clone();
    let mut factory = ThrottlingFactory::new(move || {
        let told = told.clone();
        super::rig::Probe::new().on_data(move |near, data| {
            if data[0] == b'.' {
                near.switch_protocol(Pauses(told.clone()), Vec::new());
            }
        })
    })
    .read_limit(100);
    let pump = connect(Client::default(), factory.build_protocol(&peer(1)).expect("not declined"), &clock);
    pump.client().write([b'.'; 250]);
    pump.flush();
    clock.advance(SECOND * 19 / 20);
    pump.client().write("tls");
    pump.flush();
    pump.client().start_tls(certs::client().named("localhost"));
    pump.client().write("secret");
    // The throttle closes with the handshake under way, opens again, and finds a protocol that has paused.
    wait(&pump, &clock, "the handshake", || pump.client().tls_info().is_some());
    (0..400).for_each(|_| {
        pump.pump();
        clock.advance(SECOND / 20);
    });
    let near = secure.get().0;
    assert!(near.tls_info().is_some(), "the throttle has opened long ago");
    assert!(!secure.get().1, "the protocol has paused");
    near.resume_producing();
    wait(&pump, &clock, "the data", || secure.get().1);
    assert_eq!(logged(), [""; 0]);
}
