//! `Gate`: between a wire and its producer, which may write when neither the wire nor the throttle holds it back.
//!
//! A push producer is told to pause when the first of them does, and to go on when both let it. A pull producer is not asked
//! meanwhile; it is registered anew with the wire afterwards, which then asks. Producers are called with nothing borrowed, and
//! never from a method of a transport.
use crate::failure;
use crate::protocols::policies::Layer;
use crate::transport::{Producer, PullProducer, Registered, Taken, TransportRef};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

pub(super) struct Gate {
    producer: RefCell<Option<Registered>>,
    /// Which registration it is of, so that a late call does not reach the next producer.
    turn: Cell<u64>,
    /// The wire holds it back; the throttle does; it has been told so.
    full: Cell<bool>,
    throttled: Cell<bool>,
    told: Cell<bool>,
    /// The wire has asked a pull producer in vain.
    asked: Cell<bool>,
    /// Who stands above wants nothing read.
    paused: Cell<bool>,
}

impl Gate {
    pub(super) fn new() -> Rc<Gate> {
        Rc::new(Gate {
            producer: RefCell::default(),
            turn: Cell::new(0),
            full: Cell::new(false),
            throttled: Cell::new(false),
            told: Cell::new(false),
            asked: Cell::new(false),
            paused: Cell::new(false),
        })
    }
    pub(super) fn has_paused(&self) -> bool {
        self.paused.get()
    }
    pub(super) fn set_paused(&self, paused: bool) {
        self.paused.set(paused);
    }
    #[track_caller]
    pub(super) fn register_push(self: &Rc<Self>, layer: Layer, producer: Box<dyn Producer>) {
        let turn = self.turn.get() + 1;
        // First: it refuses a second one.
        layer.lower().register_producer(Through { gate: Rc::clone(self), upper: layer.upper(), turn });
        self.enter(turn, Registered::Push(producer));
        if self.throttled.get() {
            self.update_soon(layer);
        }
    }
    #[track_caller]
    pub(super) fn register_pull(self: &Rc<Self>, layer: Layer, producer: Box<dyn PullProducer>) {
        let turn = self.turn.get() + 1;
        layer.lower().register_pull_producer(Through { gate: Rc::clone(self), upper: layer.upper(), turn });
        self.enter(turn, Registered::Pull(producer));
    }
    fn enter(&self, turn: u64, producer: Registered) {
        self.turn.set(turn);
        self.full.set(false);
        self.told.set(false);
        self.asked.set(false);
        let old = self.producer.replace(Some(producer));
        failure::drop_quietly(old);
    }
    pub(super) fn unregister(self: &Rc<Self>, layer: Layer) {
        self.turn.set(self.turn.get() + 1);
        if let Some(producer) = self.producer.take() {
            // Its destructor is user code, and this is a method of a transport.
            layer.lower().clock().schedule(Duration::ZERO, Box::new(move || failure::drop_quietly(producer)));
        }
        layer.lower().unregister_producer();
    }
    /// Untold, for who registers it elsewhere.
    pub(super) fn take(&self, layer: Layer) -> Option<Taken> {
        let producer = self.producer.take()?;
        self.turn.set(self.turn.get() + 1);
        drop(layer.lower().take_producer());
        Some(Taken { producer, paused: self.told.get() })
    }

    /// The throttle closes or opens. Called by timers, and where a connection begins.
    pub(super) fn throttle(self: &Rc<Self>, layer: Layer, on: bool) {
        self.throttled.set(on);
        let is_pull = matches!(&*self.producer.borrow(), Some(Registered::Pull(_)));
        if !is_pull {
            return self.update_or_fail(layer);
        }
        if !on && self.asked.replace(false) {
            layer.lower().unregister_producer();
            let turn = self.turn.get();
            layer.lower().register_pull_producer(Through { gate: Rc::clone(self), upper: layer.upper(), turn });
        }
    }
    fn update_soon(self: &Rc<Self>, layer: Layer) {
        let gate = Rc::clone(self);
        layer.lower().clock().schedule(Duration::ZERO, Box::new(move || gate.update_or_fail(layer)));
    }
    fn update_or_fail(&self, layer: Layer) {
        if let Err(failure) = failure::catch(|| self.update()) {
            failure::report(format_args!("a producer of the connection with {}", layer.lower().peer()), &failure);
            layer.lower().fail_connection(failure);
        }
    }
    /// Tells a push producer what holds now, if it has been told otherwise.
    fn update(&self) {
        let held_back = self.full.get() || self.throttled.get();
        if !matches!(&*self.producer.borrow(), Some(Registered::Push(_))) || self.told.replace(held_back) == held_back {
            return;
        }
        self.with(|producer| {
            if let Registered::Push(producer) = producer {
                if held_back { producer.pause_producing() } else { producer.resume_producing() }
            }
            true
        });
    }
    /// Calls the producer, taken out meanwhile, and keeps it when it goes on and is still the one registered.
    fn with(&self, call: impl FnOnce(&mut Registered) -> bool) -> bool {
        let Some(mut producer) = self.producer.take() else { return true };
        let turn = self.turn.get();
        let goes_on = call(&mut producer);
        let mut kept = Some(producer);
        if goes_on && self.turn.get() == turn {
            *self.producer.borrow_mut() = kept.take();
        }
        failure::drop_quietly(kept);
        goes_on
    }
}

/// What is registered with the wire below.
struct Through {
    gate: Rc<Gate>,
    upper: TransportRef,
    turn: u64,
}
impl Through {
    fn is_present(&self) -> bool {
        self.gate.turn.get() == self.turn
    }
    fn stop(&self) {
        if self.is_present() {
            let producer = self.gate.producer.take();
            self.gate.turn.set(self.turn + 1);
            match producer {
                Some(Registered::Push(mut producer)) => producer.stop_producing(),
                Some(Registered::Pull(mut producer)) => producer.stop_producing(),
                None => {}
            }
        }
    }
}
impl Producer for Through {
    fn pause_producing(&mut self) {
        if self.is_present() {
            self.gate.full.set(true);
            self.gate.update();
        }
    }
    fn resume_producing(&mut self) {
        if self.is_present() {
            self.gate.full.set(false);
            self.gate.update();
        }
    }
    fn stop_producing(&mut self) {
        self.stop();
    }
}
impl PullProducer for Through {
    fn produce(&mut self, _: TransportRef) -> bool {
        if self.gate.throttled.get() {
            self.gate.asked.set(true);
            return true;
        }
        let upper = self.upper;
        !self.is_present()
            || self.gate.with(|producer| match producer {
                Registered::Pull(producer) => producer.produce(upper),
                Registered::Push(_) => true,
            })
    }
    fn stop_producing(&mut self) {
        self.stop();
    }
}
