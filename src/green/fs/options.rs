//! `OpenOptions`: how a file is opened.
use super::{File, off_loop};
use std::fs;
use std::io;
use std::path::Path;

/// How a file is opened: [`std::fs::OpenOptions`]. The UNIX ones are in
/// [`OpenOptionsExt`](super::unix::OpenOptionsExt).
///
/// ```
/// use std::io::Write;
/// use twistlet::green::fs::{self, OpenOptions};
///
/// let path = std::env::temp_dir().join(format!("twistlet-doc-log-{}", std::process::id()));
/// for word in ["one ", "two"] {
///     let mut log = OpenOptions::new().append(true).create(true).open(&path)?;
///     log.write_all(word.as_bytes())?;
/// }
/// assert_eq!(fs::read_to_string(&path)?, "one two");
/// fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct OpenOptions(pub(super) fs::OpenOptions);

macro_rules! flags {
    ($( $(#[$doc:meta])* $name:ident )*) => { $(
        $(#[$doc])*
        pub fn $name(&mut self, $name: bool) -> &mut Self {
            self.0.$name($name);
            self
        }
    )* };
}
impl OpenOptions {
    /// Nothing is set.
    #[allow(clippy::new_without_default, reason = "as std has it")]
    pub fn new() -> Self {
        OpenOptions(fs::OpenOptions::new())
    }
    flags! {
        /// To read.
        read
        /// To write.
        write
        /// To write at the end, wherever that is then.
        append
        /// What is there is thrown away.
        truncate
        /// Made if it is not there.
        create
        /// Made, and it must not be there.
        create_new
    }
    /// Opens the file.
    ///
    /// # Errors
    /// As std's.
    ///
    /// # Panics
    /// In the main loop and its callbacks.
    ///
    /// # Blocking
    /// Until a thread has opened it: for a FIFO, until the other end is opened too. Killed meanwhile, what was opened is
    /// closed.
    #[track_caller]
    pub fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let (options, path) = (self.0.clone(), path.as_ref().to_owned());
        off_loop(move || options.open(path)).map(File::from)
    }
}
