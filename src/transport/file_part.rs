//! `FilePart`: a part of a file among a connection's output, which the system sends from its own memory. Made by `FileSender`,
//! sent by `outbox`.
use std::cell::{Cell, RefCell};
use std::fmt;
use std::fs::File;
use std::io;
use std::rc::Rc;

/// Some bytes of a file, on their way. Clones are the same part, so whoever has one sees how far it has come.
///
/// Sending it reads from the disk what is not in the system's memory, and waits for that.
#[derive(Clone)]
pub struct FilePart(Rc<Part>);

struct Part {
    file: Rc<File>,
    offset: u64,
    length: usize,
    sent: Cell<usize>,
    over: Cell<bool>,
    error: RefCell<Option<io::Error>>,
}

impl FilePart {
    /// `length` bytes of `file` from `offset` on, or as many as there are.
    pub fn new(file: &Rc<File>, offset: u64, length: usize) -> Self {
        FilePart(Rc::new(Part {
            file: Rc::clone(file),
            offset,
            length,
            sent: Cell::new(0),
            over: Cell::new(length == 0),
            error: RefCell::default(),
        }))
    }
    /// The file.
    pub fn file(&self) -> &File {
        &self.0.file
    }
    /// Where in the file the bytes begin that have not left.
    pub fn position(&self) -> u64 {
        self.0.offset + self.0.sent.get() as u64
    }
    /// How many bytes have left.
    pub fn sent(&self) -> usize {
        self.0.sent.get()
    }
    /// How many bytes are to leave yet.
    pub fn left(&self) -> usize {
        if self.0.over.get() { 0 } else { self.0.length - self.0.sent.get() }
    }
    /// Whether nothing more of it will leave: all has, the file has ended before, or could not be read.
    pub fn is_over(&self) -> bool {
        self.0.over.get()
    }
    /// Why the file could not be read, once.
    pub fn take_error(&self) -> Option<io::Error> {
        self.0.error.take()
    }
    /// So many bytes have left; none means that the file has ended.
    pub(super) fn advance(&self, bytes: usize) {
        let sent = self.0.sent.get() + bytes.min(self.left());
        self.0.sent.set(sent);
        self.0.over.set(bytes == 0 || sent == self.0.length);
    }
    /// The file cannot be read, or not in this way.
    pub(super) fn fail(&self, error: io::Error) {
        self.0.over.set(true);
        *self.0.error.borrow_mut() = Some(error);
    }
}
impl fmt::Debug for FilePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilePart")
            .field("position", &self.position())
            .field("left", &self.left())
            .finish_non_exhaustive()
    }
}
