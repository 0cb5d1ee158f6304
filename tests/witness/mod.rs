//! A protocol that notes what it is told, and does what a test says when it is.
#![allow(dead_code)] // each test file uses a part
use std::cell::RefCell;
use std::rc::Rc;
use twistlet::{ConnectionClosed, Protocol, TransportRef};

#[derive(Default)]
struct Seen {
    events: Vec<String>,
    data: Vec<u8>,
    reason: Option<ConnectionClosed>,
    transport: Option<TransportRef>,
}

/// What a [`Witness`] has seen; clones are the same.
#[derive(Clone, Default)]
pub struct Record(Rc<RefCell<Seen>>);
impl Record {
    /// What it was told, in order, deliveries that follow each other as one; "made", "secure", "data", "read lost",
    /// "write lost", "lost".
    pub fn events(&self) -> Vec<String> {
        self.0.borrow().events.clone()
    }
    pub fn data(&self) -> Vec<u8> {
        self.0.borrow().data.clone()
    }
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.borrow().data).into_owned()
    }
    pub fn reason(&self) -> Option<ConnectionClosed> {
        self.0.borrow().reason.clone()
    }
    #[track_caller]
    pub fn transport(&self) -> TransportRef {
        self.0.borrow().transport.expect("connected")
    }
    pub fn has(&self, event: &str) -> bool {
        self.0.borrow().events.iter().any(|seen| seen == event)
    }
    pub fn note(&self, event: &str) {
        let mut seen = self.0.borrow_mut();
        if event != "data" || seen.events.last().is_none_or(|last| last != "data") {
            seen.events.push(event.to_owned());
        }
    }
}

type On = Box<dyn FnMut(TransportRef)>;
type OnData = Box<dyn FnMut(TransportRef, &[u8])>;

/// The protocol. What has no closure does what protocols do by default.
#[derive(Default)]
pub struct Witness {
    record: Record,
    made: Option<On>,
    secure: Option<On>,
    data: Option<OnData>,
    read_lost: Option<On>,
    write_lost: Option<On>,
    lost: Option<On>,
}
impl Witness {
    pub fn new(record: &Record) -> Self {
        Witness { record: record.clone(), ..Witness::default() }
    }
    /// Sends back what comes.
    pub fn echo(record: &Record) -> Self {
        Witness::new(record).on_data(|transport, data| transport.write(data))
    }
    pub fn on_made(mut self, call: impl FnMut(TransportRef) + 'static) -> Self {
        self.made = Some(Box::new(call));
        self
    }
    pub fn on_secure(mut self, call: impl FnMut(TransportRef) + 'static) -> Self {
        self.secure = Some(Box::new(call));
        self
    }
    pub fn on_data(mut self, call: impl FnMut(TransportRef, &[u8]) + 'static) -> Self {
        self.data = Some(Box::new(call));
        self
    }
    pub fn on_read_lost(mut self, call: impl FnMut(TransportRef) + 'static) -> Self {
        self.read_lost = Some(Box::new(call));
        self
    }
    pub fn on_write_lost(mut self, call: impl FnMut(TransportRef) + 'static) -> Self {
        self.write_lost = Some(Box::new(call));
        self
    }
    pub fn on_lost(mut self, call: impl FnMut(TransportRef) + 'static) -> Self {
        self.lost = Some(Box::new(call));
        self
    }
}
fn call(on: &mut Option<On>, transport: TransportRef) {
    if let Some(call) = on {
        call(transport);
    }
}
impl Protocol for Witness {
    fn connection_made(&mut self, transport: TransportRef) {
        self.record.note("made");
        self.record.0.borrow_mut().transport = Some(transport);
        call(&mut self.made, transport);
    }
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        assert!(!data.is_empty());
        self.record.note("data");
        self.record.0.borrow_mut().data.extend_from_slice(data);
        if let Some(call) = &mut self.data {
            call(transport, data);
        }
    }
    fn read_connection_lost(&mut self, transport: TransportRef) {
        self.record.note("read lost");
        match &mut self.read_lost {
            Some(call) => call(transport),
            None => transport.lose_connection(),
        }
    }
    fn write_connection_lost(&mut self, transport: TransportRef) {
        self.record.note("write lost");
        call(&mut self.write_lost, transport);
    }
    fn handshake_completed(&mut self, transport: TransportRef) {
        self.record.note("secure");
        call(&mut self.secure, transport);
    }
    fn connection_lost(&mut self, transport: TransportRef, reason: &ConnectionClosed) {
        self.record.note("lost");
        self.record.0.borrow_mut().reason = Some(reason.clone());
        call(&mut self.lost, transport);
    }
}
