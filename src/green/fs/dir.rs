//! Folders: made by `DirBuilder`, read by `read_dir`, some entries a trip.
//!
//! What must never happen here: a system call for an entry outside of a thread.
use super::{FileType, Metadata, off_loop};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Entries fetched in one trip to a thread.
const BATCH: usize = 128;

/// The entries of a folder, in no order.
///
/// ```
/// use twistlet::green::fs;
///
/// let mut names = Vec::new();
/// for entry in fs::read_dir("src")? {
///     names.push(entry?.file_name());
/// }
/// assert!(names.iter().any(|name| name == "lib.rs"));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// As [`std::fs::read_dir`].
///
/// # Panics
/// In the main loop and its callbacks.
///
/// # Blocking
/// Until a thread has opened the folder and read its first entries.
#[track_caller]
pub fn read_dir(path: impl AsRef<Path>) -> io::Result<ReadDir> {
    let path = path.as_ref().to_owned();
    let (rest, ready) = off_loop(move || Ok(next_batch(fs::read_dir(path)?)))?;
    Ok(ReadDir { rest, ready })
}

type Batch = VecDeque<io::Result<DirEntry>>;

/// What is left to be read (`None`: nothing), and the next entries.
fn next_batch(mut folder: fs::ReadDir) -> (Option<fs::ReadDir>, Batch) {
    let mut ready = Batch::new();
    while ready.len() < BATCH {
        match folder.next() {
            Some(entry) => ready.push_back(entry.map(DirEntry::of)),
            None => return (None, ready),
        }
    }
    (Some(folder), ready)
}

/// What [`read_dir`] gives: an iterator that may wait for a thread every hundred entries or so.
///
/// # Panics
/// In the main loop and its callbacks, when it has to wait.
///
/// # Blocking
/// In `next`, until a thread has read more. Killed in it, it is at its end: the entries that were read are lost.
pub struct ReadDir {
    rest: Option<fs::ReadDir>,
    ready: Batch,
}
impl Iterator for ReadDir {
    type Item = io::Result<DirEntry>;
    #[track_caller]
    fn next(&mut self) -> Option<io::Result<DirEntry>> {
        if self.ready.is_empty()
            && let Some(rest) = self.rest.take()
        {
            match off_loop(move || Ok(next_batch(rest))) {
                Ok((rest, ready)) => (self.rest, self.ready) = (rest, ready),
                Err(error) => return Some(Err(error)),
            }
        }
        self.ready.pop_front()
    }
}
impl fmt::Debug for ReadDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadDir").field("ready", &self.ready.len()).finish_non_exhaustive()
    }
}

/// An entry of a folder: [`std::fs::DirEntry`].
pub struct DirEntry {
    pub(super) inner: Arc<fs::DirEntry>,
    /// Most file systems tell it with the name.
    file_type: Option<FileType>,
}
impl DirEntry {
    /// On a thread.
    fn of(entry: fs::DirEntry) -> DirEntry {
        let file_type = entry.file_type().ok();
        DirEntry { inner: Arc::new(entry), file_type }
    }
    /// The folder's path with the name.
    pub fn path(&self) -> PathBuf {
        self.inner.path()
    }
    /// The name.
    pub fn file_name(&self) -> OsString {
        self.inner.file_name()
    }
    /// What the system knows of it, of a link itself.
    ///
    /// # Errors
    /// As std's.
    ///
    /// # Panics
    /// In the main loop and its callbacks.
    ///
    /// # Blocking
    /// Until a thread has asked.
    #[track_caller]
    pub fn metadata(&self) -> io::Result<Metadata> {
        let entry = Arc::clone(&self.inner);
        off_loop(move || entry.metadata())
    }
    /// What it is, of a link itself. Known already, unless the folder changed while it was read.
    ///
    /// # Errors
    /// As std's.
    ///
    /// # Panics
    /// As [`metadata`](DirEntry::metadata).
    ///
    /// # Blocking
    /// When it is not known already.
    #[track_caller]
    pub fn file_type(&self) -> io::Result<FileType> {
        if let Some(file_type) = self.file_type {
            return Ok(file_type);
        }
        let entry = Arc::clone(&self.inner);
        off_loop(move || entry.file_type())
    }
}
impl fmt::Debug for DirEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// Makes folders: [`std::fs::DirBuilder`].
#[derive(Debug)]
pub struct DirBuilder {
    recursive: bool,
    pub(super) mode: Option<u32>,
}
impl DirBuilder {
    /// One folder, with the mode of the umask.
    #[allow(clippy::new_without_default, reason = "as std has it")]
    pub fn new() -> DirBuilder {
        DirBuilder { recursive: false, mode: None }
    }
    /// Whether those above it are made too, and it is no error that it is there.
    pub fn recursive(&mut self, recursive: bool) -> &mut Self {
        self.recursive = recursive;
        self
    }
    /// Makes the folder.
    ///
    /// # Errors
    /// As std's.
    ///
    /// # Panics
    /// In the main loop and its callbacks.
    ///
    /// # Blocking
    /// Until a thread has made it.
    #[track_caller]
    pub fn create(&self, path: impl AsRef<Path>) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        let mut builder = fs::DirBuilder::new();
        builder.recursive(self.recursive);
        if let Some(mode) = self.mode {
            builder.mode(mode);
        }
        let path = path.as_ref().to_owned();
        off_loop(move || builder.create(path))
    }
}
