//! `std::os::unix::fs`, for green files.
use super::{DirBuilder, DirEntry, File, OpenOptions, off_loop};
use std::io;
use std::os::unix::fs as std_fs;
use std::os::unix::fs::DirEntryExt as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

pub use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

/// [`std::os::unix::fs::OpenOptionsExt`].
pub trait OpenOptionsExt {
    /// The permissions of a file that is made.
    fn mode(&mut self, mode: u32) -> &mut Self;
    /// More flags for `open(2)`.
    fn custom_flags(&mut self, flags: i32) -> &mut Self;
}
impl OpenOptionsExt for OpenOptions {
    fn mode(&mut self, mode: u32) -> &mut Self {
        self.0.mode(mode);
        self
    }
    fn custom_flags(&mut self, flags: i32) -> &mut Self {
        self.0.custom_flags(flags);
        self
    }
}
/// [`std::os::unix::fs::DirBuilderExt`].
pub trait DirBuilderExt {
    /// The permissions of folders that are made.
    fn mode(&mut self, mode: u32) -> &mut Self;
}
impl DirBuilderExt for DirBuilder {
    fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = Some(mode);
        self
    }
}
/// [`std::os::unix::fs::DirEntryExt`].
pub trait DirEntryExt {
    /// Its inode.
    fn ino(&self) -> u64;
}
impl DirEntryExt for DirEntry {
    fn ino(&self) -> u64 {
        self.inner.ino()
    }
}
/// [`std::os::unix::fs::FileExt`]: reading and writing at a place, wherever the file's position is. What is killed in it
/// moves nothing.
pub trait FileExt {
    /// Reads at `offset`, 256 KiB at most.
    ///
    /// # Errors
    /// As std's.
    ///
    /// # Panics
    /// In the main loop and its callbacks.
    ///
    /// # Blocking
    /// Until a thread has done it.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at `offset`, 256 KiB at most.
    ///
    /// # Errors
    /// As std's.
    ///
    /// # Panics
    /// In the main loop and its callbacks.
    ///
    /// # Blocking
    /// Until a thread has done it.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;
    /// Reads all of `buf` at `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof`, and as [`read_at`](FileExt::read_at).
    ///
    /// # Panics
    /// As `read_at`.
    ///
    /// # Blocking
    /// As `read_at`.
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "failed to fill whole buffer")),
                Ok(n) => (buf, offset) = (&mut buf[n..], offset + n as u64),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
    /// Writes all of `buf` at `offset`.
    ///
    /// # Errors
    /// `WriteZero`, and as [`write_at`](FileExt::write_at).
    ///
    /// # Panics
    /// As `write_at`.
    ///
    /// # Blocking
    /// As `write_at`.
    fn write_all_at(&self, mut buf: &[u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.write_at(buf, offset) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::WriteZero, "failed to write whole buffer")),
                Ok(n) => (buf, offset) = (&buf[n..], offset + n as u64),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
impl FileExt for File {
    #[track_caller]
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_through(buf, move |file, buf| file.read_at(buf, offset))
    }
    #[track_caller]
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.write_through(std::iter::once(buf), move |file, buf| file.write_at(buf, offset))
    }
}

/// Makes a symbolic link.
///
/// # Errors
/// As [`std::os::unix::fs::symlink`].
///
/// # Panics
/// In the main loop and its callbacks.
///
/// # Blocking
/// Until a thread has done it.
#[track_caller]
pub fn symlink(original: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
    let (original, link) = (original.as_ref().to_owned(), link.as_ref().to_owned());
    off_loop(move || std_fs::symlink(original, link))
}
/// Changes owner and group.
///
/// # Errors
/// As [`std::os::unix::fs::chown`].
///
/// # Panics
/// In the main loop and its callbacks.
///
/// # Blocking
/// Until a thread has done it.
#[track_caller]
pub fn chown(path: impl AsRef<Path>, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    off_loop(move || std_fs::chown(path, uid, gid))
}
