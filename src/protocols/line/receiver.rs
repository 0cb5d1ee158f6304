//! `LineReceiver` and `LineOnlyReceiver`: the same machine, with and without raw mode. A chunk that is one line is delivered as
//! it lies in the reactor's buffer; of any other the rest is put aside, because the handler may ask for it.
//!
//! Lines are delivered in a loop that asks before each whether the wire still wants them: not while it is paused, not once
//! it is being closed or has another protocol.
use super::unread::{Found, Unread};
use super::{LineHandler, LineTransport};
use crate::error::ConnectionClosed;
use crate::protocols::codec::{Lines, find};
use crate::transport::{Flow, Protocol, TransportRef};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};

/// What a `LineTransport` finds its receiver by: a slot of the thread's table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    slot: u32,
    generation: u32,
}
#[derive(Default)]
struct Names {
    slots: Vec<(u32, Option<Weak<dyn Receiver>>)>,
    free: Vec<u32>,
}
thread_local! {
    static NAMES: RefCell<Names> = const { RefCell::new(Names { slots: Vec::new(), free: Vec::new() }) };
}
impl Name {
    const NONE: Name = Name { slot: u32::MAX, generation: 0 };
    fn give(receiver: Weak<dyn Receiver>) -> Name {
        let given = NAMES.try_with(|names| {
            let names = &mut *names.borrow_mut();
            let slot = names.free.pop().unwrap_or_else(|| {
                names.slots.push((1, None));
                (names.slots.len() - 1) as u32
            });
            let entry = &mut names.slots[slot as usize];
            entry.1 = Some(receiver);
            Name { slot, generation: entry.0 }
        });
        given.unwrap_or(Name::NONE)
    }
    pub(super) fn find(self) -> Option<Rc<dyn Receiver>> {
        let found = NAMES.try_with(|names| {
            let names = names.borrow();
            let entry = names.slots.get(self.slot as usize).filter(|entry| entry.0 == self.generation)?;
            entry.1.clone()
        });
        found.ok().flatten()?.upgrade()
    }
    fn release(self) {
        let released = NAMES.try_with(|names| {
            let names = &mut *names.borrow_mut();
            let entry = names.slots.get_mut(self.slot as usize).filter(|entry| entry.0 == self.generation)?;
            entry.0 = entry.0.wrapping_add(1).max(1);
            names.free.push(self.slot);
            entry.1.take()
        });
        drop(released);
    }
}

/// A receiver as its `LineTransport` sees it.
pub(super) trait Receiver {
    fn unread(&self) -> &Unread;
    fn lines(&self) -> &Lines;
    fn set_raw(&self, raw: bool);
    /// Unless it is at work already.
    fn go_on_soon(self: Rc<Self>);
}

struct Inner<H> {
    /// Borrowed while the handler runs: nobody else enters, the wire sees to that.
    handler: RefCell<H>,
    transport: Cell<Option<LineTransport>>,
    lines: Lines,
    has_raw_mode: bool,
    raw: Cell<bool>,
    unread: Unread,
    /// It stopped at a pause, and goes on by itself.
    held: Cell<bool>,
}

impl<H: LineHandler + 'static> Inner<H> {
    fn new(lines: Lines, handler: H, has_raw_mode: bool) -> Rc<Self> {
        Rc::new(Inner {
            handler: RefCell::new(handler),
            transport: Cell::new(None),
            lines,
            has_raw_mode,
            raw: Cell::new(false),
            unread: Unread::default(),
            held: Cell::new(false),
        })
    }
    /// The wire in the handler's terms; a new wire gets a new name.
    fn transport(self: &Rc<Self>, wire: TransportRef) -> LineTransport {
        match self.transport.get() {
            Some(transport) if transport.wire == wire => transport,
            old => {
                if let Some(old) = old {
                    old.receiver.release();
                }
                let me: Weak<Self> = Rc::downgrade(self);
                let transport = LineTransport { wire, receiver: Name::give(me), delimiter: self.lines.delimiter };
                self.transport.set(Some(transport));
                transport
            }
        }
    }
    fn tell(self: &Rc<Self>, wire: TransportRef, event: impl FnOnce(&mut H, LineTransport)) {
        let transport = self.transport(wire);
        if let Ok(mut handler) = self.handler.try_borrow_mut() {
            event(&mut handler, transport);
        }
    }

    fn receive(self: &Rc<Self>, wire: TransportRef, data: &[u8]) {
        let transport = self.transport(wire);
        let Ok(mut handler) = self.handler.try_borrow_mut() else { return self.unread.push(data) };
        if !self.unread.is_empty() || wire.flow() != Flow::Go {
            self.unread.push(data);
        } else if self.raw.get() {
            handler.raw_data_received(transport, data);
        } else {
            match find(data, self.lines.delimiter, 0) {
                Some(length) if length <= self.lines.max_length => {
                    self.unread.push(&data[length + self.lines.delimiter.len()..]);
                    handler.line_received(transport, &data[..length]);
                }
                // The rare and the unfinished go the long way.
                _ => self.unread.push(data),
            }
        }
        self.work(&mut handler, transport);
    }

    /// Delivers what there is, as long as the wire wants it.
    fn work(self: &Rc<Self>, handler: &mut H, transport: LineTransport) {
        while !self.unread.is_empty() {
            match transport.wire.flow() {
                Flow::Go => {}
                Flow::Paused => {
                    self.go_on_when_resumed(transport.wire);
                    break;
                }
                Flow::Over => {
                    self.unread.take();
                    break;
                }
            }
            if self.raw.get() {
                if let Some(data) = self.unread.next_all() {
                    handler.raw_data_received(transport, &data);
                }
                continue;
            }
            match self.unread.next_line(&self.lines) {
                Found::Line(line) => handler.line_received(transport, &line),
                Found::TooLong(line) if self.has_raw_mode => {
                    let line = self.unread.with_rest(line);
                    handler.line_length_exceeded(transport, &line);
                }
                Found::TooLong(line) => {
                    self.unread.skip_lines(&self.lines);
                    handler.line_length_exceeded(transport, &line);
                }
                Found::Nothing => break,
            }
        }
        self.unread.settle();
    }
    fn work_again(self: Rc<Self>) {
        if let Some(transport) = self.transport.get()
            && let Ok(mut handler) = self.handler.try_borrow_mut()
        {
            self.work(&mut handler, transport);
        }
    }
    fn go_on_when_resumed(self: &Rc<Self>, wire: TransportRef) {
        if !self.held.replace(true) {
            let inner = Rc::downgrade(self);
            wire.when_resumed(move || {
                if let Some(inner) = inner.upgrade() {
                    inner.held.set(false);
                    inner.work_again();
                }
            });
        }
    }
}

impl<H: LineHandler + 'static> Receiver for Inner<H> {
    fn unread(&self) -> &Unread {
        &self.unread
    }
    fn lines(&self) -> &Lines {
        &self.lines
    }
    fn set_raw(&self, raw: bool) {
        if self.has_raw_mode {
            self.raw.set(raw);
        }
    }
    fn go_on_soon(self: Rc<Self>) {
        if self.unread.is_empty() || self.handler.try_borrow_mut().is_err() {
            return;
        }
        if let Some(transport) = self.transport.get() {
            let inner = Rc::downgrade(&self);
            transport.wire.soon(move || {
                if let Some(inner) = inner.upgrade() {
                    inner.work_again();
                }
            });
        }
    }
}

impl<H> Drop for Inner<H> {
    fn drop(&mut self) {
        if let Some(transport) = self.transport.get() {
            transport.receiver.release();
        }
    }
}

macro_rules! receivers { ($($(#[$doc:meta])* $name:ident $raw:literal;)+) => { $(
    $(#[$doc])*
    pub struct $name<H>(Rc<Inner<H>>);

    impl<H: LineHandler + 'static> $name<H> {
        /// Lines end in CRLF and have at most 16,384 bytes.
        pub fn new(handler: H) -> Self {
            Self::with(Lines::new(), handler)
        }
        /// Lines as `lines` says: its delimiter and its limit.
        pub fn with(lines: Lines, handler: H) -> Self {
            $name(Inner::new(lines, handler, $raw))
        }
    }
    impl<H: LineHandler + 'static> Protocol for $name<H> {
        fn connection_made(&mut self, transport: TransportRef) {
            self.0.tell(transport, |handler, transport| handler.connection_made(transport));
        }
        fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
            self.0.receive(transport, data);
        }
        fn read_connection_lost(&mut self, transport: TransportRef) {
            self.0.tell(transport, |handler, transport| handler.read_connection_lost(transport));
        }
        fn write_connection_lost(&mut self, transport: TransportRef) {
            self.0.tell(transport, |handler, transport| handler.write_connection_lost(transport));
        }
        fn handshake_completed(&mut self, transport: TransportRef) {
            // What is left came before TLS, and is void.
            self.0.unread.take();
            self.0.tell(transport, |handler, transport| handler.handshake_completed(transport));
        }
        fn file_descriptor_received(&mut self, transport: TransportRef, descriptor: OwnedFd) {
            self.0.tell(transport, |handler, transport| handler.file_descriptor_received(transport, descriptor));
        }
        fn connection_lost(&mut self, transport: TransportRef, reason: &ConnectionClosed) {
            self.0.tell(transport, |handler, transport| handler.connection_lost(transport, reason));
        }
    }
    impl<H> fmt::Debug for $name<H> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct(stringify!($name)).field("lines", &self.0.lines).finish_non_exhaustive()
        }
    }
)+ } }
receivers! {
    /// The protocol of a [`LineHandler`] that never leaves line mode (Twisted's `LineOnlyReceiver`).
    LineOnlyReceiver false;
    /// The protocol of a [`LineHandler`] that may change to raw data and back (Twisted's `LineReceiver`).
    LineReceiver true;
}
