//! The functions of `std::fs` that take paths.
use super::off_loop;
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::path::{Path, PathBuf};

/// std's function of that name, on a thread.
macro_rules! on_a_thread {
    ($(
        $(#[$doc:meta])*
        $name:ident($($path:ident),+ $(; $other:ident: $type:ty)?) -> $result:ty;
    )*) => { $(
        $(#[$doc])*
        ///
        /// # Errors
        #[doc = concat!("As [`std::fs::", stringify!($name), "`].")]
        ///
        /// # Panics
        /// In the main loop and its callbacks.
        ///
        /// # Blocking
        /// Until a thread has done it.
        #[track_caller]
        pub fn $name($($path: impl AsRef<Path>),+ $(, $other: $type)?) -> io::Result<$result> {
            $( let $path = $path.as_ref().to_owned(); )+
            off_loop(move || fs::$name($($path),+ $(, $other)?))
        }
    )* };
}
on_a_thread! {
    /// A file's bytes.
    ///
    /// ```
    /// use twistlet::green::fs;
    ///
    /// let text = fs::read("Cargo.toml")?;
    /// assert!(text.starts_with(b"[package]"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    read(path) -> Vec<u8>;
    /// A file's text, which is to be UTF-8.
    read_to_string(path) -> String;
    /// Copies a file's bytes and permissions; gives their number.
    copy(from, to) -> u64;
    /// Renames, replacing what is there.
    rename(from, to) -> ();
    /// Removes a file.
    remove_file(path) -> ();
    /// Removes an empty folder.
    remove_dir(path) -> ();
    /// Removes a folder with what is in it.
    remove_dir_all(path) -> ();
    /// Makes a folder.
    create_dir(path) -> ();
    /// Makes a folder, and those above it.
    create_dir_all(path) -> ();
    /// What the system knows of a file.
    metadata(path) -> Metadata;
    /// The same, of a link itself.
    symlink_metadata(path) -> Metadata;
    /// The absolute path, without links.
    canonicalize(path) -> PathBuf;
    /// Another name for a file.
    hard_link(original, link) -> ();
    /// Where a link points.
    read_link(path) -> PathBuf;
    /// Changes a file's permissions.
    set_permissions(path; permissions: Permissions) -> ();
    /// Whether there is something.
    exists(path) -> bool;
}

/// Makes a file of these bytes, or replaces one. The bytes are copied.
///
/// ```
/// use twistlet::green::fs;
///
/// let path = std::env::temp_dir().join(format!("twistlet-doc-{}", std::process::id()));
/// fs::write(&path, "some text")?;
/// assert_eq!(fs::read_to_string(&path)?, "some text");
/// fs::remove_file(&path)?;
/// assert!(!fs::exists(&path)?);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// As [`std::fs::write`].
///
/// # Panics
/// In the main loop and its callbacks.
///
/// # Blocking
/// Until a thread has done it.
#[track_caller]
pub fn write(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> io::Result<()> {
    let (path, contents) = (path.as_ref().to_owned(), contents.as_ref().to_owned());
    off_loop(move || fs::write(path, contents))
}
