//! `Probe`: a protocol that writes down what happens to it and complains of whatever no wire may do, in every scenario; and
//! `Pair`, two of them on the wire under test.
use super::{StreamRule, Violation};
use crate::deferred::Deferred;
use crate::error::ConnectionClosed;
use crate::failure::Result;
use crate::transport::{Protocol, TransportRef};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a scenario waits for something, in turns and in real time.
const TURNS: usize = 3000;
const PATIENCE: Duration = Duration::from_secs(20);

type Hook = Box<dyn FnMut(&Rc<Seen>, TransportRef)>;
/// The callbacks of a protocol that scenarios hook into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum At {
    Made,
    Data,
    ReadLost,
    WriteLost,
    Lost,
}

/// What both ends of a pair share.
#[derive(Default)]
pub(super) struct Court {
    violations: RefCell<Vec<Violation>>,
    /// A method of a transport is on the stack: nobody may be called.
    in_method: Cell<bool>,
    /// Which scenario runs.
    scenario: Cell<&'static str>,
}
impl Court {
    pub(super) fn begin(&self, scenario: &'static str) {
        self.scenario.set(scenario);
    }
    pub(super) fn complain(&self, rule: StreamRule, what: impl Into<String>) {
        let what = format!("{} ({})", what.into(), self.scenario.get());
        let mut all = self.violations.borrow_mut();
        if !all.iter().any(|known| known.rule == rule && known.what == what) {
            all.push(Violation { rule, what });
        }
    }
    pub(super) fn take(&self) -> Vec<Violation> {
        self.violations.take()
    }
    /// Calls methods of a transport; whatever user code runs meanwhile is a violation.
    pub(super) fn method<R>(&self, call: impl FnOnce() -> R) -> R {
        let _inside = (!self.in_method.replace(true)).then(|| Inside(&self.in_method));
        call()
    }
    /// User code begins.
    pub(super) fn enter(&self, who: &str) {
        if self.in_method.get() {
            self.complain(StreamRule::NoReentry, format!("{who} was called while a method of a transport ran"));
        }
    }
}

/// What one end has seen.
pub(super) struct Seen {
    pub(super) name: &'static str,
    pub(super) court: Rc<Court>,
    wire: Cell<Option<TransportRef>>,
    pub(super) data: RefCell<Vec<u8>>,
    pub(super) calls: RefCell<Vec<At>>,
    pub(super) reason: RefCell<Option<ConnectionClosed>>,
    inside: Cell<bool>,
    /// By our own methods.
    paused: Cell<bool>,
    closing: Cell<bool>,
    hooks: RefCell<Vec<(At, Option<Hook>)>>,
    /// Hears of the peer's end and leaves the connection open.
    pub(super) stays: Cell<bool>,
    pub(super) dropped: Cell<bool>,
    /// Another protocol has the wire: this one hears nothing more.
    pub(super) handed_over: Cell<bool>,
}

impl Seen {
    fn new(name: &'static str, court: &Rc<Court>) -> Rc<Seen> {
        Rc::new(Seen {
            name,
            court: Rc::clone(court),
            wire: Cell::new(None),
            data: RefCell::default(),
            calls: RefCell::default(),
            reason: RefCell::default(),
            inside: Cell::new(false),
            paused: Cell::new(false),
            closing: Cell::new(false),
            hooks: RefCell::default(),
            stays: Cell::new(false),
            dropped: Cell::new(false),
            handed_over: Cell::new(false),
        })
    }
    /// Calls `hook` at each such callback, after it was written down.
    pub(super) fn on(&self, at: At, hook: impl FnMut(&Rc<Seen>, TransportRef) + 'static) {
        self.hooks.borrow_mut().push((at, Some(Box::new(hook))));
    }
    pub(super) fn complain(&self, rule: StreamRule, what: impl std::fmt::Display) {
        self.court.complain(rule, format!("{}: {what}", self.name));
    }
    pub(super) fn wire(&self) -> TransportRef {
        self.wire.get().unwrap_or_else(TransportRef::gone)
    }
    pub(super) fn count(&self, at: At) -> usize {
        self.calls.borrow().iter().filter(|call| **call == at).count()
    }
    pub(super) fn is_made(&self) -> bool {
        self.wire.get().is_some()
    }
    pub(super) fn is_lost(&self) -> bool {
        self.count(At::Lost) > 0 || self.handed_over.get()
    }
    pub(super) fn received(&self) -> usize {
        self.data.borrow().len()
    }
    /// Calls a method of this end's transport.
    pub(super) fn call<R>(&self, method: impl FnOnce(TransportRef) -> R) -> R {
        self.court.method(|| method(self.wire()))
    }
    pub(super) fn write(&self, data: &[u8]) {
        self.call(|wire| wire.write(data));
    }
    pub(super) fn pause(&self) {
        self.paused.set(true);
        self.call(TransportRef::pause_producing);
    }
    pub(super) fn resume(&self) {
        self.paused.set(false);
        self.call(TransportRef::resume_producing);
    }
    pub(super) fn lose(&self) {
        self.closing.set(true);
        self.call(TransportRef::lose_connection);
        if !self.call(TransportRef::is_disconnecting) {
            self.complain(StreamRule::Close, "is_disconnecting() is false right after the connection was closed");
        }
    }
    pub(super) fn abort(&self) {
        self.closing.set(true);
        self.call(TransportRef::abort_connection);
    }
    pub(super) fn closes(&self) {
        self.closing.set(true);
    }

    fn happens(self: &Rc<Self>, at: At, transport: TransportRef, data: Option<&[u8]>) {
        self.court.enter(self.name);
        if self.inside.replace(true) {
            self.complain(StreamRule::NoReentry, format_args!("{at:?} came while another callback ran"));
        }
        let _inside = Inside(&self.inside);
        self.judge(at, transport, data);
        self.calls.borrow_mut().push(at);
        let hooks = self.hooks.borrow().len();
        for number in 0..hooks {
            let hook = match &mut self.hooks.borrow_mut()[number] {
                (there, hook) if *there == at => hook.take(),
                _ => None,
            };
            if let Some(mut hook) = hook {
                hook(self, transport);
                self.hooks.borrow_mut()[number].1 = Some(hook);
            }
        }
    }
    /// What holds always.
    fn judge(&self, at: At, transport: TransportRef, data: Option<&[u8]>) {
        match (at, self.wire.get()) {
            (At::Made, None) => self.wire.set(Some(transport)),
            (At::Made, Some(_)) => self.complain(StreamRule::Order, "connection_made came twice"),
            (_, None) => self.complain(StreamRule::Order, format_args!("{at:?} came before connection_made")),
            (_, Some(wire)) if wire != transport => {
                self.complain(StreamRule::Order, format_args!("{at:?} came with the name of another wire"));
            }
            _ => {}
        }
        if self.count(At::Lost) > 0 {
            let rule = if at == At::Lost { StreamRule::OneEnd } else { StreamRule::Order };
            self.complain(rule, format_args!("{at:?} came after connection_lost"));
        }
        if matches!(at, At::ReadLost | At::WriteLost) && self.count(at) > 0 {
            self.complain(StreamRule::HalfClose, format_args!("{at:?} came twice"));
        }
        if let Some(data) = data {
            if data.is_empty() {
                self.complain(StreamRule::Bytes, "data_received came without data");
            }
            if self.paused.get() {
                self.complain(StreamRule::Pause, "data came while the transport was paused");
            }
            if self.closing.get() {
                self.complain(StreamRule::NoDataAfterClose, "data came after this side had closed the connection");
            }
            if self.count(At::ReadLost) > 0 {
                self.complain(StreamRule::HalfClose, "data came after read_connection_lost");
            }
        }
    }
}

/// A callback, or a method, is on the stack, until it returns or panics.
struct Inside<'a>(&'a Cell<bool>);
impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// The protocol of one end.
pub(super) struct Probe(Rc<Seen>);
impl Protocol for Probe {
    fn connection_made(&mut self, transport: TransportRef) {
        self.0.happens(At::Made, transport, None);
    }
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        self.0.data.borrow_mut().extend_from_slice(data);
        self.0.happens(At::Data, transport, Some(data));
    }
    fn read_connection_lost(&mut self, transport: TransportRef) {
        self.0.happens(At::ReadLost, transport, None);
        if !self.0.stays.get() {
            self.0.lose();
        }
    }
    fn write_connection_lost(&mut self, transport: TransportRef) {
        self.0.happens(At::WriteLost, transport, None);
    }
    fn connection_lost(&mut self, transport: TransportRef, reason: &ConnectionClosed) {
        self.0.reason.borrow_mut().get_or_insert_with(|| reason.clone());
        self.0.happens(At::Lost, transport, None);
    }
}
impl Drop for Probe {
    fn drop(&mut self) {
        self.0.court.enter(self.0.name);
        self.0.dropped.set(true);
    }
}

/// Connects two protocols over the wire under test, and gives what lets things happen.
pub(super) type Make<'a> = &'a mut dyn FnMut(Box<dyn Protocol>, Box<dyn Protocol>) -> Result<Box<dyn FnMut()>>;

/// Two ends, not connected yet, or connected.
pub(super) struct Pair<'a> {
    pub(super) near: Rc<Seen>,
    pub(super) far: Rc<Seen>,
    court: Rc<Court>,
    swapped: bool,
    make: Make<'a>,
    turn: Option<Box<dyn FnMut()>>,
}

impl<'a> Pair<'a> {
    pub(super) fn new(court: &Rc<Court>, swapped: bool, make: Make<'a>) -> Self {
        let (near, far) =
            if swapped { ("the second end", "the first end") } else { ("the first end", "the second end") };
        Pair {
            near: Seen::new(near, court),
            far: Seen::new(far, court),
            court: Rc::clone(court),
            swapped,
            make,
            turn: None,
        }
    }
    pub(super) fn complain(&self, rule: StreamRule, what: impl Into<String>) {
        self.court.complain(rule, what);
    }
    /// Connects them. `false`: that did not work, and a complaint says so.
    pub(super) fn connect(&mut self) -> bool {
        let near: Box<dyn Protocol> = Box::new(Probe(Rc::clone(&self.near)));
        let far: Box<dyn Protocol> = Box::new(Probe(Rc::clone(&self.far)));
        let made = if self.swapped { (self.make)(far, near) } else { (self.make)(near, far) };
        match made {
            Ok(turn) => self.turn = Some(turn),
            Err(failure) => {
                self.complain(StreamRule::Order, format!("the pair was not made: {failure}"));
                return false;
            }
        }
        let (near, far) = (Rc::clone(&self.near), Rc::clone(&self.far));
        self.until(StreamRule::Order, "both ends had been told connection_made", move || {
            near.is_made() && far.is_made()
        })
    }
    fn turn(&mut self) {
        if let Some(turn) = &mut self.turn {
            turn();
        }
    }
    /// Lets things happen until `done`; complains when that does not come.
    pub(super) fn until(&mut self, rule: StreamRule, what: &str, mut done: impl FnMut() -> bool) -> bool {
        let begun = Instant::now();
        for _ in 0..TURNS {
            if done() {
                return true;
            }
            if begun.elapsed() > PATIENCE {
                break;
            }
            self.turn();
        }
        self.complain(rule, format!("in vain it was waited until {what}"));
        false
    }
    /// Lets whatever may come, come.
    pub(super) fn settle(&mut self) {
        for _ in 0..10 {
            self.turn();
        }
    }
    /// Until the end has `bytes` bytes, which are to be `expected`'s.
    pub(super) fn arrives(&mut self, rule: StreamRule, end: &Rc<Seen>, expected: &[u8]) -> bool {
        let there = Rc::clone(end);
        let what = format!("all {} bytes had arrived at {}", expected.len(), end.name);
        let length = expected.len();
        self.until(rule, &what, move || there.received() >= length);
        let data = end.data.borrow();
        if *data == expected {
            return true;
        }
        if let Some(place) = data.iter().zip(expected).position(|(there, sent)| there != sent) {
            self.complain(rule, format!("{}: byte {place} is not what was sent", end.name));
        } else if data.len() > expected.len() {
            self.complain(rule, format!("{}: more bytes came than were sent", end.name));
        }
        false
    }
    pub(super) fn fired<T: 'static>(
        &mut self,
        rule: StreamRule,
        what: &str,
        mut deferred: Deferred<T>,
    ) -> Option<Result<T>> {
        let fired = Rc::new(Cell::new(false));
        let told = Rc::clone(&fired);
        deferred.observe(move |_| told.set(true));
        if self.until(rule, what, move || fired.get()) { deferred.try_take().ok() } else { None }
    }
    /// Until both ends are told of the end.
    pub(super) fn both_lost(&mut self) -> bool {
        let (near, far) = (Rc::clone(&self.near), Rc::clone(&self.far));
        self.until(StreamRule::OneEnd, "both ends had been told connection_lost", move || {
            near.is_lost() && far.is_lost()
        })
    }
    /// Ends what is left, and looks at the end.
    pub(super) fn finish(mut self) {
        for end in [Rc::clone(&self.near), Rc::clone(&self.far)] {
            if end.is_made() && !end.is_lost() {
                end.resume();
                end.abort();
            }
        }
        if self.near.is_made() && self.far.is_made() {
            self.both_lost();
        }
        self.settle();
        for end in [&self.near, &self.far] {
            if end.is_lost() && !end.dropped.get() {
                end.complain(StreamRule::Released, "the protocol is still there after connection_lost");
            }
        }
    }
}
