//! The table of this thread's wires: which transport and which protocol a `TransportRef` names, and the one place that calls
//! protocols.
//!
//! A protocol is taken out of the table while it runs, so what it does to its own or to any other wire finds the table free;
//! what happens to it meanwhile is queued and follows when it returns. What must never happen here: user code run, or a
//! user's object dropped, while the table is borrowed.
use super::{Protocol, Transport, TransportRef};
use crate::clock::{Clock, DelayedCall};
use crate::error::ConnectionClosed;
use crate::failure::{self, Result};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// Timers of a wire are swept when there are this many.
const SWEEP_TIMERS: usize = 16;

struct Entry {
    generation: u32,
    transport: Option<Rc<dyn Transport>>,
    /// Out while it runs, and after the end.
    protocol: Option<Box<dyn Protocol>>,
    running: bool,
    lost: bool,
    extra: Option<Box<Extra>>,
}

/// What most wires never have.
#[derive(Default)]
struct Extra {
    timers: Vec<DelayedCall>,
    /// What happened while the protocol ran.
    backlog: VecDeque<Event>,
}

/// Something to tell a protocol.
enum Event {
    Data(Vec<u8>),
    Lost(ConnectionClosed),
    /// Another protocol takes over, with these bytes.
    Switch(Box<dyn Protocol>, Vec<u8>),
    Told(Box<dyn FnOnce(&mut dyn Protocol)>),
}

#[derive(Default)]
struct Table {
    entries: Vec<Entry>,
    free: Vec<u32>,
}

thread_local! {
    static WIRES: RefCell<Table> = const { RefCell::new(Table { entries: Vec::new(), free: Vec::new() }) };
}

impl Table {
    fn get(&self, wire: TransportRef) -> Option<&Entry> {
        self.entries.get(wire.slot()).filter(|entry| entry.generation == wire.generation())
    }
    fn get_mut(&mut self, wire: TransportRef) -> Option<&mut Entry> {
        self.entries.get_mut(wire.slot()).filter(|entry| entry.generation == wire.generation())
    }
}

/// Looks a wire up; `None` when it is gone, or the thread is going.
fn with<R>(wire: TransportRef, f: impl FnOnce(&mut Entry) -> R) -> Option<R> {
    WIRES.try_with(|table| table.borrow_mut().get_mut(wire).map(f)).ok().flatten()
}

/// The transport a name stands for.
#[inline]
pub(super) fn transport(wire: TransportRef) -> Option<Rc<dyn Transport>> {
    WIRES.try_with(|table| table.borrow().get(wire).and_then(|entry| entry.transport.clone())).ok().flatten()
}

/// Enters a wire into the table. Its protocol has been told nothing yet.
pub(super) fn open(transport: Rc<dyn Transport>, protocol: Box<dyn Protocol>) -> TransportRef {
    let entry = |generation| Entry {
        generation,
        transport: Some(transport),
        protocol: Some(protocol),
        running: false,
        lost: false,
        extra: None,
    };
    WIRES.with(|table| {
        let mut table = table.borrow_mut();
        match table.free.pop() {
            Some(slot) => {
                let generation = table.entries[slot as usize].generation;
                table.entries[slot as usize] = entry(generation);
                TransportRef::new(slot, generation)
            }
            None => {
                let slot = table.entries.len() as u32;
                table.entries.push(entry(1));
                TransportRef::new(slot, 1)
            }
        }
    })
}

/// Tells the protocol of some bytes.
///
/// # Errors
/// The panic of the protocol, already logged: the wire's owner closes the connection with it.
pub(super) fn data_received(wire: TransportRef, data: &[u8]) -> Result<()> {
    if is_running(wire) {
        queue(wire, Event::Data(data.to_vec()));
        return Ok(());
    }
    tell(wire, |protocol| protocol.data_received(wire, data))
}

/// Tells the protocol something else; later, when it is running.
///
/// # Errors
/// As `data_received`.
pub(super) fn notify(wire: TransportRef, event: impl FnOnce(&mut dyn Protocol) + 'static) -> Result<()> {
    if is_running(wire) {
        queue(wire, Event::Told(Box::new(event)));
        return Ok(());
    }
    tell(wire, event)
}

/// Ends a wire: `connection_lost`, then name, protocol, transport and timers are forgotten. Does nothing the second time.
pub(super) fn connection_lost(wire: TransportRef, reason: &ConnectionClosed) {
    if is_running(wire) {
        queue(wire, Event::Lost(reason.clone()));
        return;
    }
    if with(wire, |entry| std::mem::replace(&mut entry.lost, true)) != Some(false) {
        return;
    }
    let extra = with(wire, |entry| entry.extra.take()).flatten();
    for timer in extra.iter().flat_map(|extra| &extra.timers) {
        timer.cancel();
    }
    drop(extra);
    // A panic here is logged; the rest of the end goes on.
    let _ = run(wire, |protocol| protocol.connection_lost(wire, reason));
    let removed = WIRES.try_with(|table| {
        let table = &mut *table.borrow_mut();
        let entry = table.get_mut(wire)?;
        entry.generation = entry.generation.wrapping_add(1).max(1);
        let parts = (entry.transport.take(), entry.protocol.take(), entry.extra.take());
        table.free.push(wire.slot() as u32);
        Some(parts)
    });
    if let Err(failure) = failure::catch(move || drop(removed)) {
        failure::report("the destructor of a protocol", &failure);
    }
}

/// Puts another protocol in the place of the present one, when the present callback is over, or in a later turn.
pub(super) fn switch(wire: TransportRef, protocol: Box<dyn Protocol>, unread: Vec<u8>) {
    if queue(wire, Event::Switch(protocol, unread)) == Some(false)
        && let Some(transport) = transport(wire)
    {
        transport.clock().schedule(Duration::ZERO, Box::new(move || drop(tell(wire, |_| {}))));
    }
}

pub(super) fn remember_timer(wire: TransportRef, timer: DelayedCall) {
    let known = with(wire, |entry| {
        let timers = &mut entry.extra.get_or_insert_default().timers;
        if timers.len() >= SWEEP_TIMERS {
            timers.retain(|timer| timer.active());
        }
        timers.push(timer);
    });
    if known.is_none() {
        timer.cancel();
    }
}

fn is_running(wire: TransportRef) -> bool {
    with(wire, |entry| entry.running).unwrap_or(false)
}

/// Keeps an event for later. Returns whether the protocol is running, that is, whether the event will follow by itself.
fn queue(wire: TransportRef, event: Event) -> Option<bool> {
    let mut event = Some(event);
    let running = with(wire, |entry| {
        if !entry.lost
            && let Some(event) = event.take()
        {
            entry.extra.get_or_insert_default().backlog.push_back(event);
        }
        entry.running
    });
    // Dropped here, with the table free, when the wire is gone.
    drop(event);
    running
}

/// Runs the protocol, before it what was queued earlier and after it what was queued meanwhile.
fn tell(wire: TransportRef, event: impl FnOnce(&mut dyn Protocol)) -> Result<()> {
    if with(wire, |entry| entry.extra.is_none()) == Some(true) {
        let outcome = run(wire, event);
        return match with(wire, |entry| entry.extra.is_none()) {
            Some(false) => outcome.and(drain(wire)),
            _ => outcome,
        };
    }
    let before = drain(wire);
    let outcome = run(wire, event);
    before.and(outcome).and(drain(wire))
}

fn drain(wire: TransportRef) -> Result<()> {
    let mut outcome = Ok(());
    while let Some(event) =
        with(wire, |entry| entry.extra.as_mut().and_then(|extra| extra.backlog.pop_front())).flatten()
    {
        let next = match event {
            Event::Data(data) => run(wire, |protocol| protocol.data_received(wire, &data)),
            Event::Told(event) => run(wire, event),
            Event::Lost(reason) => {
                connection_lost(wire, &reason);
                Ok(())
            }
            Event::Switch(protocol, unread) => {
                let old = with(wire, |entry| entry.protocol.replace(protocol)).flatten();
                if let Err(failure) = failure::catch(move || drop(old)) {
                    failure::report("the destructor of a protocol", &failure);
                }
                run(wire, |protocol| {
                    protocol.connection_made(wire);
                    if !unread.is_empty() {
                        protocol.data_received(wire, &unread);
                    }
                })
            }
        };
        outcome = outcome.and(next);
    }
    outcome
}

/// Calls the protocol, taken out of the table meanwhile, and contains its panic.
fn run(wire: TransportRef, event: impl FnOnce(&mut dyn Protocol)) -> Result<()> {
    let protocol = with(wire, |entry| {
        let protocol = entry.protocol.take();
        entry.running = protocol.is_some();
        protocol
    });
    let Some(mut protocol) = protocol.flatten() else { return Ok(()) };
    let outcome = failure::catch(|| event(&mut *protocol));
    let mut protocol = Some(protocol);
    with(wire, |entry| {
        entry.running = false;
        entry.protocol = protocol.take();
    });
    if let Err(failure) = &outcome {
        let peer = transport(wire).map(|transport| transport.peer());
        match peer {
            Some(peer) => failure::report(format_args!("the protocol of the connection with {peer}"), failure),
            None => failure::report("a protocol", failure),
        }
    }
    outcome
}

/// The owner of a wire made by hand: a policy's, a test's. Users hold its [`TransportRef`]; the owner plays the part that
/// the reactor plays for a socket.
///
/// Dropping it unended is `deliver_lost(&ConnectionClosed::Lost(None))`.
#[derive(Debug)]
pub struct Wire {
    name: TransportRef,
}

impl Wire {
    /// Enters `transport` and its protocol into the thread's table and tells the protocol `connection_made`.
    pub fn new(transport: impl Transport + 'static, protocol: impl Protocol + 'static) -> Self {
        let name = open(Rc::new(transport), Box::new(protocol));
        let wire = Wire { name };
        if let Err(failure) = notify(name, move |protocol| protocol.connection_made(name)) {
            connection_lost(name, &ConnectionClosed::Failed(failure));
        }
        wire
    }
    /// What the protocol, and everybody else, calls this wire.
    pub fn transport(&self) -> TransportRef {
        self.name
    }
    /// Bytes have arrived. While the protocol runs they wait until it returned. A panic of the protocol ends the wire.
    pub fn deliver(&self, data: &[u8]) {
        if let Err(failure) = data_received(self.name, data) {
            connection_lost(self.name, &ConnectionClosed::Failed(failure));
        }
    }
    /// The peer will send no more.
    pub fn deliver_read_lost(&self) {
        let name = self.name;
        if let Err(failure) = notify(name, move |protocol| protocol.read_connection_lost(name)) {
            connection_lost(name, &ConnectionClosed::Failed(failure));
        }
    }
    /// Our half-close has gone out.
    pub fn deliver_write_lost(&self) {
        let name = self.name;
        if let Err(failure) = notify(name, move |protocol| protocol.write_connection_lost(name)) {
            connection_lost(name, &ConnectionClosed::Failed(failure));
        }
    }
    /// The connection is over: `connection_lost`, and the name means nothing from here on.
    pub fn deliver_lost(self, reason: &ConnectionClosed) {
        connection_lost(self.name, reason);
    }
}
impl Drop for Wire {
    fn drop(&mut self) {
        connection_lost(self.name, &ConnectionClosed::Lost(None));
    }
}

pub(super) fn clock(wire: TransportRef) -> Rc<dyn Clock> {
    match transport(wire) {
        Some(transport) => transport.clock(),
        None => crate::reactor::Reactor::ended().handle(),
    }
}
