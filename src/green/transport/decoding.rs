//! The decoder of a GreenTransport at work: it is user code, so it is out of its cell meanwhile, and it may panic or wait.
use super::GreenTransport;
use super::turn::busy;
use crate::failure::Result;
use crate::greenlet::Greenlet;
use crate::protocols::codec::{Decoder, Encoder};
use bytes::{Bytes, BytesMut};
use std::cell::{Cell, RefCell};

pub(super) struct Decoding<D> {
    /// Out while it works.
    decoder: RefCell<Option<D>>,
    /// It has been told of its wire.
    attached: Cell<bool>,
    /// Nothing more is to be had from it.
    drained: Cell<bool>,
    /// The handshakes it knows of.
    epoch: Cell<u32>,
}

impl<D> Decoding<D> {
    pub(super) fn new(decoder: D) -> Self {
        Decoding {
            decoder: RefCell::new(Some(decoder)),
            attached: Cell::new(false),
            drained: Cell::new(false),
            epoch: Cell::new(0),
        }
    }
    pub(super) fn is_drained(&self) -> bool {
        self.drained.get()
    }
}

impl<D: Decoder> GreenTransport<D> {
    /// One message from what has arrived, for whoever has the turn.
    #[track_caller]
    pub(super) fn decode(&self) -> Result<Option<D::Item>> {
        if self.decoder.drained.get() {
            return Ok(None);
        }
        let mut work = Work::begin(self).ok_or_else(|| busy("a reader"))?;
        work.reads = true;
        self.conn.set_decoding(Some(Greenlet::current()));
        work.input = self.conn.take_input();
        let over = self.conn.is_over();
        let Some(decoder) = &mut work.decoder else { return Ok(None) };
        if !self.decoder.attached.replace(true) {
            decoder.attached(self.transport(), &self.conn.0.ready());
        }
        let epoch = self.conn.epoch();
        if self.decoder.epoch.replace(epoch) != epoch {
            decoder.restart();
        }
        let mut outcome = decoder.decode(&mut work.input);
        if over && matches!(outcome, Ok(None)) {
            outcome = decoder.decode_eof(&mut work.input);
            if matches!(outcome, Ok(None)) {
                self.decoder.drained.set(true);
            }
        }
        if let Err(failure) = &outcome {
            work.input.clear();
            self.decoder.drained.set(true);
            self.conn.fail_reading(failure);
            self.transport().fail_connection(failure.clone());
        }
        outcome
    }
    pub(super) fn encode<M>(&self, message: M) -> Result<Bytes>
    where
        D: Encoder<M>,
    {
        let mut work = Work::begin(self).ok_or_else(|| busy("an encoder"))?;
        let mut output = BytesMut::new();
        if let Some(decoder) = &mut work.decoder {
            decoder.encode(message, &mut output)?;
        }
        Ok(output.freeze())
    }
}

/// Gives back what is out, also when the decoder panics or is unwound out of a wait of its own.
struct Work<'a, D: 'static> {
    green: &'a GreenTransport<D>,
    decoder: Option<D>,
    /// For whoever has the turn to read.
    reads: bool,
    input: BytesMut,
}
impl<'a, D> Work<'a, D> {
    /// `None` when it is out already.
    fn begin(green: &'a GreenTransport<D>) -> Option<Self> {
        let decoder = green.decoder.decoder.borrow_mut().take()?;
        Some(Work { green, decoder: Some(decoder), reads: false, input: BytesMut::new() })
    }
}
impl<D> Drop for Work<'_, D> {
    fn drop(&mut self) {
        let old = self.green.decoder.decoder.replace(self.decoder.take());
        drop(old);
        if self.reads {
            self.green.conn.set_decoding(None);
        }
        if !self.input.is_empty() {
            self.green.conn.put_back(std::mem::take(&mut self.input));
        }
    }
}
