//! The table of this thread's wires: which transport and which protocol a `TransportRef` names, and the one place that calls
//! protocols.
//!
//! A protocol is taken out of the table while it runs, so what it does to its own or to any other wire finds the table free;
//! what happens to it meanwhile is queued and follows when it returns. What must never happen here: user code run, or a
//! user's object dropped, while the table is borrowed.
mod flow;
mod layers;
mod owner;

pub(crate) use flow::Flow;
pub(in crate::transport) use flow::flow;
pub use owner::Wire;

use layers::layer_above;
pub(super) use layers::{is_void, secured};
#[cfg(feature = "tls")]
pub(super) use layers::{make_void, put_under};

use super::{Protocol, Transport, TransportRef};
use crate::clock::{Clock, DelayedCall};
use crate::error::ConnectionClosed;
use crate::failure::{self, Result};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// Timers of a wire are swept when there are this many, and no room for more.
const SWEEP_TIMERS: usize = 16;

struct Entry {
    generation: u32,
    transport: Option<Rc<dyn Transport>>,
    /// Out while it runs, and after the end.
    protocol: Option<Box<dyn Protocol>>,
    running: bool,
    lost: bool,
    /// So many protocols are about to take over, one after the other.
    switching: u32,
    paused: bool,
    extra: Option<Box<Extra>>,
}

/// What most wires never have.
#[derive(Default)]
struct Extra {
    timers: Vec<DelayedCall>,
    /// What happened while the protocol ran.
    backlog: VecDeque<Event>,
    /// What is to go on when the wire is resumed.
    held: Vec<Event>,
    /// Wires that `start_tls` put under this one, the lowest first: the owner's calls go to the first, its to the next.
    layers: Vec<TransportRef>,
    /// What the protocol has of bytes came before `start_tls`, and is void.
    void: bool,
}

/// Something to tell a protocol.
enum Event {
    Data(Vec<u8>),
    /// The peer will send no more.
    ReadLost,
    Lost(ConnectionClosed),
    /// Another protocol takes over, with these bytes.
    Switch(Box<dyn Protocol>, Vec<u8>),
    Told(Told),
}
type Told = Box<dyn FnOnce(&mut dyn Protocol)>;

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
        switching: 0,
        paused: false,
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
    data_received_above(wire, 0, data)
}
/// The same, from the layer with so many layers under it, itself included.
pub(super) fn data_received_above(wire: TransportRef, layers: usize, data: &[u8]) -> Result<()> {
    // The usual case first, at the price of looking twice otherwise.
    let free = with(wire, |entry| match entry {
        Entry { running: false, paused: false, extra: None, .. } => {
            entry.running = entry.protocol.is_some();
            entry.protocol.take()
        }
        _ => None,
    });
    if let Some(protocol) = free.flatten() {
        let outcome = call(wire, protocol, |protocol| protocol.data_received(wire, data));
        return match with(wire, |entry| entry.extra.is_none()) {
            Some(false) => outcome.and(drain(wire)),
            _ => outcome,
        };
    }
    if let Some(layer) = layer_above(wire, layers) {
        return data_received(layer, data);
    }
    match with(wire, |entry| (entry.running, entry.paused)) {
        Some((false, false)) => {
            // What was queued may pause it, or start TLS, behind which this is void.
            let before = drain(wire);
            if is_void(wire) {
                return before;
            }
            if is_paused(wire) {
                hold(wire, Event::Data(data.to_vec()));
                return before;
            }
            before.and(tell(wire, |protocol| protocol.data_received(wire, data)))
        }
        Some((true, _)) => {
            queue(wire, Event::Data(data.to_vec()));
            Ok(())
        }
        Some((false, true)) => {
            hold(wire, Event::Data(data.to_vec()));
            Ok(())
        }
        None => Ok(()),
    }
}

/// Tells the protocol that the peer will send no more; behind all that came before, and not while it pauses.
///
/// # Errors
/// As `data_received`.
pub(super) fn read_lost(wire: TransportRef) -> Result<()> {
    read_lost_above(wire, 0)
}
/// The same, from the layer with so many layers under it.
pub(super) fn read_lost_above(wire: TransportRef, layers: usize) -> Result<()> {
    let wire = layer_above(wire, layers).unwrap_or(wire);
    queue(wire, Event::ReadLost);
    drain(wire)
}

/// Tells the protocol something else; later, when it is running.
///
/// # Errors
/// As `data_received`.
pub(super) fn notify(wire: TransportRef, event: impl FnOnce(&mut dyn Protocol) + 'static) -> Result<()> {
    notify_above(wire, 0, event)
}
/// The same, from the layer with so many layers under it.
pub(super) fn notify_above(
    wire: TransportRef,
    layers: usize,
    event: impl FnOnce(&mut dyn Protocol) + 'static,
) -> Result<()> {
    let wire = layer_above(wire, layers).unwrap_or(wire);
    if is_running(wire) {
        queue(wire, Event::Told(Box::new(event)));
        return Ok(());
    }
    tell(wire, event)
}

/// Ends a wire: `connection_lost`, then name, protocol, transport and timers are forgotten. Does nothing the second time.
pub(super) fn connection_lost(wire: TransportRef, reason: &ConnectionClosed) {
    connection_lost_above(wire, 0, reason);
}
/// The same, from the layer with so many layers under it.
pub(super) fn connection_lost_above(wire: TransportRef, layers: usize, reason: &ConnectionClosed) {
    end(layer_above(wire, layers).unwrap_or(wire), reason);
}
fn end(wire: TransportRef, reason: &ConnectionClosed) {
    if is_running(wire) {
        queue(wire, Event::Lost(reason.clone()));
        return;
    }
    // What came first is told first; an error in it is logged, and the end comes anyway.
    let _ = drain(wire);
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
    let unread = if is_void(wire) { Vec::new() } else { unread };
    let running = queue(wire, Event::Switch(protocol, unread));
    with(wire, |entry| entry.switching += 1);
    wake_unless(running, wire);
}

/// Runs `event` as one of the protocol's own: after the present callback, or in a later turn.
pub(super) fn soon(wire: TransportRef, event: Box<dyn FnOnce()>) {
    let running = queue(wire, Event::Told(Box::new(move |_| event())));
    wake_unless(running, wire);
}

/// As `notify`, in a later turn, or before whatever else the protocol is told.
pub(super) fn notify_soon(wire: TransportRef, event: impl FnOnce(&mut dyn Protocol) + 'static) {
    let running = queue(wire, Event::Told(Box::new(event)));
    wake_unless(running, wire);
}

/// Sees to it that a backlog nobody is about to work off is worked off.
fn wake_unless(running: Option<bool>, wire: TransportRef) {
    if running == Some(false)
        && let Some(transport) = transport(wire)
    {
        let work_off = move || {
            if let Err(failure) = tell(wire, |_| {}) {
                fail(wire, failure);
            }
        };
        transport.clock().schedule(Duration::ZERO, Box::new(work_off));
    }
}

/// Closes the connection of a protocol that panicked where its owner cannot be told.
fn fail(wire: TransportRef, failure: failure::Failure) {
    if let Some(transport) = transport(wire) {
        transport.fail_connection(failure);
    }
}

pub(super) fn pause(wire: TransportRef) -> Option<Rc<dyn Transport>> {
    with(wire, |entry| {
        entry.paused = true;
        entry.transport.clone()
    })
    .flatten()
}
pub(super) fn resume(wire: TransportRef) -> Option<Rc<dyn Transport>> {
    with(wire, |entry| {
        entry.paused = false;
        entry.transport.clone()
    })
    .flatten()
}
/// Lets those go on who stopped at the pause.
pub(super) fn resumed(wire: TransportRef) {
    let held = with(wire, |entry| entry.extra.as_mut().map(|extra| std::mem::take(&mut extra.held))).flatten();
    let mut running = None;
    for event in held.into_iter().flatten() {
        running = queue(wire, event);
    }
    wake_unless(running, wire);
}
/// Runs `event` once the wire is resumed. Forgotten when the connection is lost.
pub(super) fn when_resumed(wire: TransportRef, event: Box<dyn FnOnce()>) {
    hold(wire, Event::Told(Box::new(move |_| event())));
}
fn hold(wire: TransportRef, event: Event) {
    let mut event = Some(event);
    with(wire, |entry| {
        if !entry.lost {
            entry.extra.get_or_insert_default().held.extend(event.take());
        }
    });
    drop(event);
}
pub(super) fn is_paused(wire: TransportRef) -> bool {
    with(wire, |entry| entry.paused).unwrap_or(false)
}
pub(super) fn remember_timer(wire: TransportRef, timer: DelayedCall) {
    let known = with(wire, |entry| {
        let timers = &mut entry.extra.get_or_insert_default().timers;
        if timers.len() >= SWEEP_TIMERS && timers.len() == timers.capacity() {
            timers.retain(|timer| timer.active());
        }
        timers.push(timer);
    });
    if known.is_none() {
        timer.cancel();
    }
}

pub(super) fn is_running(wire: TransportRef) -> bool {
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
    // Whoever runs the protocol works the backlog off afterwards.
    let next = |entry: &mut Entry| match &mut entry.extra {
        Some(extra) if !entry.running => extra.backlog.pop_front(),
        _ => None,
    };
    while let Some(event) = with(wire, next).flatten() {
        let next = match event {
            Event::Data(data) => deliver(wire, data),
            Event::Told(event) => run(wire, event),
            Event::ReadLost if is_paused(wire) => {
                hold(wire, Event::ReadLost);
                Ok(())
            }
            Event::ReadLost => run(wire, |protocol| protocol.read_connection_lost(wire)),
            Event::Lost(reason) => {
                end(wire, &reason);
                Ok(())
            }
            Event::Switch(protocol, unread) => {
                let old = with(wire, |entry| {
                    entry.switching -= 1;
                    entry.protocol.take()
                });
                let (old, protocol) = replaced(old.flatten(), protocol);
                let mut protocol = Some(protocol);
                with(wire, |entry| entry.protocol = protocol.take());
                if let Err(failure) = failure::catch(move || drop(old)) {
                    failure::report("the destructor of a protocol", &failure);
                }
                let made = run(wire, |protocol| protocol.connection_made(wire));
                if unread.is_empty() || made.is_err() { made } else { deliver(wire, unread) }
            }
        };
        outcome = outcome.and(next);
    }
    outcome
}

/// What is to be dropped and what to be entered when `protocol` takes over: one that wraps others stays, and takes it in.
fn replaced(
    old: Option<Box<dyn Protocol>>,
    protocol: Box<dyn Protocol>,
) -> (Option<Box<dyn Protocol>>, Box<dyn Protocol>) {
    let Some(mut wrapper) = old else { return (None, protocol) };
    match wrapper.switch_inner(protocol) {
        Ok(old) => (Some(old), wrapper),
        Err(protocol) => (Some(wrapper), protocol),
    }
}

/// Hands over bytes that had to wait: now, after the pause, or to the next protocol, whatever its predecessor has done.
fn deliver(wire: TransportRef, data: Vec<u8>) -> Result<()> {
    match flow(wire) {
        Flow::Go => return run(wire, |protocol| protocol.data_received(wire, &data)),
        Flow::Paused => hold(wire, Event::Data(data)),
        Flow::Over => {
            // Ahead of what the one between, which gets none, has left unread.
            with(wire, |entry| {
                let mut backlog = entry.extra.iter_mut().flat_map(|extra| &mut extra.backlog);
                if let Some(unread) = backlog.find_map(|event| match event {
                    Event::Switch(_, unread) => Some(unread),
                    _ => None,
                }) {
                    unread.splice(0..0, data);
                }
            });
        }
    }
    Ok(())
}

/// Calls the protocol, taken out of the table meanwhile, and contains its panic.
fn run(wire: TransportRef, event: impl FnOnce(&mut dyn Protocol)) -> Result<()> {
    let protocol = with(wire, |entry| {
        let protocol = entry.protocol.take();
        entry.running = protocol.is_some();
        protocol
    });
    match protocol.flatten() {
        Some(protocol) => call(wire, protocol, event),
        None => Ok(()),
    }
}

fn call(wire: TransportRef, mut protocol: Box<dyn Protocol>, event: impl FnOnce(&mut dyn Protocol)) -> Result<()> {
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

pub(super) fn clock(wire: TransportRef) -> Rc<dyn Clock> {
    match transport(wire) {
        Some(transport) => transport.clock(),
        None => crate::reactor::Reactor::ended().handle(),
    }
}
