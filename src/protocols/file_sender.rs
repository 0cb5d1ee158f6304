//! `FileSender`: a file as a connection's output, a piece at a time, as fast as the peer takes it (Twisted's
//! `basic.FileSender`).
//!
//! A pull producer. Where the wire can, the system sends the bytes from its own memory (`sendfile`); otherwise, and for
//! transforms, they are read into one small buffer. Reading waits for the disk, in both ways: one piece a turn of the loop.
use crate::deferred::{Deferred, Promise};
use crate::failure::{Failure, Result};
use crate::transport::{FilePart, PullProducer, TransportRef};
use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

/// Bytes read at once: Twisted's.
const CHUNK: usize = 16 * 1024;
/// Bytes the system is asked to send at once.
const PART: usize = 256 * 1024;

type Transform = Box<dyn FnMut(&[u8]) -> Vec<u8>>;

/// Sends a file, from where it stands to its end, as the peer takes it; memory for one chunk is all it needs, whatever the
/// file's size. Other output of the connection may go between its pieces, never into one.
///
/// A file that grows is followed to the end that it has when that is reached; one that shrinks ends there. Give the
/// [`length`](FileSender::length) when it has been announced to the peer.
///
/// # Blocking
/// No green thread is needed, and none waits; but what is not in the system's memory is read from the disk, and the loop waits
/// for that, 256 KiB at a time.
///
/// ```
/// use std::fs::File;
/// use twistlet::protocols::FileSender;
/// use twistlet::{Failure, Protocol, TransportRef};
///
/// struct Download;
/// impl Protocol for Download {
///     fn connection_made(&mut self, transport: TransportRef) {
///         match File::open("/etc/hosts") {
///             Ok(file) => {
///                 let sent = FileSender::new(file).send(transport);
///                 sent.add_both(move |sent| {
///                     transport.lose_connection();
///                     sent.map(|sent| println!("{} bytes sent", sent.bytes))
///                 });
///             }
///             Err(error) => transport.fail_connection(Failure::from(error)),
///         }
///     }
///     fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
/// }
/// ```
pub struct FileSender {
    source: Source,
    length: Option<u64>,
    transform: Option<Transform>,
    chunk: usize,
}

enum Source {
    /// A file, and where in it to go on.
    At(Rc<File>, u64),
    /// What is only read from front to back.
    Stream(Box<dyn Read>),
}

/// How a transfer ended well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Sent {
    /// So many bytes were taken from the file.
    pub bytes: u64,
    /// The last byte that was sent: what Twisted's Deferred fires with. None of an empty file.
    pub last: Option<u8>,
}

/// The connection ended before the file did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TransferStopped {
    /// So many bytes of the file had been handed to the system.
    pub sent: u64,
}
impl fmt::Display for TransferStopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the connection ended after {} bytes of a file, before its end", self.sent)
    }
}
impl Error for TransferStopped {}

impl FileSender {
    /// A file, from its present position on. A directory, or a file that is not open for reading, fails when it is sent.
    ///
    /// A pipe, a FIFO or a terminal is read, too, and the loop waits for whoever writes to it; one that is not to be waited for
    /// (`O_NONBLOCK`) fails with [`WouldBlock`](io::ErrorKind::WouldBlock) when it is empty.
    pub fn new(mut file: File) -> Self {
        let source = match file.stream_position() {
            Ok(position) => Source::At(Rc::new(file), position),
            // A pipe, a terminal.
            Err(_) => Source::Stream(Box::new(file)),
        };
        FileSender { source, length: None, transform: None, chunk: CHUNK }
    }
    /// Anything that can be read, to its end. It must not make the loop wait for long.
    pub fn reading(reader: impl Read + 'static) -> Self {
        FileSender { source: Source::Stream(Box::new(reader)), length: None, transform: None, chunk: CHUNK }
    }
    /// Exactly so many bytes; a file that ends before makes the transfer fail with
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof).
    pub fn length(mut self, bytes: u64) -> Self {
        self.length = Some(bytes);
        self
    }
    /// Sends what `transform` makes of each chunk instead. When that is nothing, the next chunk is read at once.
    pub fn transform(mut self, transform: impl FnMut(&[u8]) -> Vec<u8> + 'static) -> Self {
        self.transform = Some(Box::new(transform));
        self
    }
    /// Bytes read at once, where the system does not send by itself; 16 KiB unless told otherwise, at least one.
    pub fn chunk_size(mut self, bytes: usize) -> Self {
        self.chunk = bytes.max(1);
        self
    }
    /// Begins to send, as the producer of `transport`. The Deferred fires when all has left and the producer is unregistered;
    /// cancelling it stops the transfer.
    ///
    /// # Errors
    /// The Deferred fails with [`TransferStopped`] when the connection ends before; with the
    /// [`io::Error`] of reading. The connection is left as it is then: part of the file has been sent.
    ///
    /// # Panics
    /// When `transport` has a producer already.
    #[track_caller]
    pub fn send(self, transport: TransportRef) -> Deferred<Sent> {
        let (promise, deferred) = Deferred::new();
        let running = Rc::new(Cell::new(true));
        let mark = Rc::clone(&running);
        promise.on_cancel(move || {
            if mark.replace(false) {
                transport.unregister_producer();
            }
        });
        let by_system = self.transform.is_none() && matches!(self.source, Source::At(..));
        transport.register_pull_producer(Transfer {
            sender: self,
            promise: Some(promise),
            running,
            by_system,
            part: None,
            sent: Sent { bytes: 0, last: None },
            buffer: Vec::new(),
        });
        deferred
    }
}
impl fmt::Debug for FileSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSender").field("length", &self.length).finish_non_exhaustive()
    }
}

struct Transfer {
    sender: FileSender,
    promise: Option<Promise<Sent>>,
    /// It is registered; shared with the Deferred's canceller.
    running: Rc<Cell<bool>>,
    /// The system sends the bytes.
    by_system: bool,
    /// What it is sending, and how much that was to be.
    part: Option<(FilePart, u64)>,
    sent: Sent,
    buffer: Vec<u8>,
}

impl Transfer {
    /// The next piece. `true`: there is no more, and all has left.
    fn step(&mut self, consumer: TransportRef) -> Result<bool> {
        if let Some((part, asked)) = &self.part {
            if !part.is_over() {
                return Ok(false);
            }
            let (sent, asked, error) = (part.sent() as u64, *asked, part.take_error());
            self.part = None;
            self.took(sent);
            if error.is_some() {
                // A file that cannot be sent this way, or not be read: reading tells.
                self.by_system = false;
            } else if sent < asked {
                return self.end();
            }
        }
        if self.rest() == 0 {
            return self.end();
        }
        if self.by_system
            && let Source::At(file, position) = &self.sender.source
        {
            let asked = (PART as u64).min(self.rest());
            let part = FilePart::new(file, *position, asked as usize);
            if consumer.write_file(&part) {
                self.part = Some((part, asked));
                return Ok(false);
            }
            self.by_system = false;
        }
        self.write_chunk(consumer)
    }
    fn write_chunk(&mut self, consumer: TransportRef) -> Result<bool> {
        loop {
            let want = (self.sender.chunk as u64).min(self.rest()) as usize;
            let read = self.read(want)?;
            if read == 0 {
                return self.end();
            }
            self.took(read as u64);
            let made;
            let output = match &mut self.sender.transform {
                Some(transform) => {
                    made = transform(&self.buffer[..read]);
                    &made[..]
                }
                None => &self.buffer[..read],
            };
            if let Some(last) = output.last() {
                self.sent.last = Some(*last);
                consumer.write(output);
                return Ok(false);
            }
        }
    }
    fn read(&mut self, want: usize) -> io::Result<usize> {
        self.buffer.resize(want, 0);
        loop {
            let read = match &mut self.sender.source {
                Source::At(file, position) => file.read_at(&mut self.buffer, *position),
                Source::Stream(reader) => reader.read(&mut self.buffer),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
    /// How much is still to be taken, as far as a length was given.
    fn rest(&self) -> u64 {
        self.sender.length.map_or(u64::MAX, |length| length - self.sent.bytes)
    }
    fn took(&mut self, bytes: u64) {
        self.sent.bytes += bytes;
        if let Source::At(_, position) = &mut self.sender.source {
            *position += bytes;
        }
    }
    fn end(&mut self) -> Result<bool> {
        if self.sender.length.is_some() && self.rest() > 0 {
            let text = format!("the file has ended {} bytes before the length that was given", self.rest());
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text).into());
        }
        // The system does not say what it has sent.
        if self.by_system
            && let Source::At(file, position) = &self.sender.source
            && self.sent.bytes > 0
        {
            let mut last = [0];
            if matches!(file.read_at(&mut last, *position - 1), Ok(1)) {
                self.sent.last = Some(last[0]);
            }
        }
        Ok(true)
    }
}

impl PullProducer for Transfer {
    fn produce(&mut self, consumer: TransportRef) -> bool {
        let outcome = match self.step(consumer) {
            Ok(false) => return true,
            Ok(true) => Ok(self.sent),
            Err(failure) => Err(failure),
        };
        // First: whoever hears of the end may send the next file.
        self.running.set(false);
        consumer.unregister_producer();
        if let Some(promise) = self.promise.take() {
            match outcome {
                Ok(sent) => promise.callback(sent),
                Err(failure) => promise.errback(failure),
            }
        }
        // By now that would be about another producer.
        true
    }
    fn stop_producing(&mut self) {
        self.running.set(false);
        let part = self.part.as_ref().map_or(0, |(part, _)| part.sent() as u64);
        if let Some(promise) = self.promise.take() {
            promise.errback(Failure::from(TransferStopped { sent: self.sent.bytes + part }));
        }
    }
}
