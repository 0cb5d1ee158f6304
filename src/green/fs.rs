//! `std::fs` that waits without holding the loop: each call runs on the reactor's thread pool while the calling green thread
//! waits. Porting is replacing `std::fs` by `twistlet::green::fs`.
//!
//! Files are always ready, so no poller helps; a disk may take its time all the same. A trip to a thread costs some ten
//! microseconds: read and write through `BufReader` and `BufWriter`, or whole files by [`read`] and [`write()`].
//!
//! | `std::fs` | here |
//! |---|---|
//! | `File`, `OpenOptions`, `DirBuilder`, `ReadDir`, `DirEntry` | mirrored |
//! | `read`, `read_to_string`, `write`, `copy`, `rename`, `remove_file`, `remove_dir`, `remove_dir_all`, `create_dir`, `create_dir_all`, `read_dir`, `metadata`, `symlink_metadata`, `canonicalize`, `hard_link`, `read_link`, `set_permissions`, `exists` | mirrored |
//! | `File::lock`, `lock_shared` | mirrored: an OS thread of their own waits, since locks may be held for long |
//! | `File::try_lock`, `try_lock_shared`, `unlock` | mirrored |
//! | `FileType`, `Metadata`, `Permissions`, `FileTimes`, `TryLockError` | std's own: they hold no file |
//! | `soft_link` | deprecated: [`unix::symlink`] |
//! | `os::unix::fs` | [`unix`] |
//!
//! # Where a call runs
//! On a thread without a reactor, or whose reactor has ended, and in a destructor during an unwinding (a `BufWriter` of a
//! green thread that is killed), a call is made right there. In the main loop and its callbacks a call panics, as every
//! wait.
//!
//! # Kills
//! A green thread that is killed in such a call leaves at once; the call is not undone and runs to its end on its thread,
//! and its result is dropped. So a read has moved the position of the file, and a write may have been made; what follows on
//! the same file may overtake it.
//!
//! # Pool
//! Ten calls run at once, unless [`suggest_thread_pool_size`](crate::Reactor::suggest_thread_pool_size) says otherwise; more
//! wait in line. What may block for ever takes a thread for ever: to open a FIFO waits for the other end, and to read one or
//! a terminal waits for input. Open FIFOs with `custom_flags(O_NONBLOCK)` and give them to
//! [`io::PipeReader`](crate::green::io::PipeReader); terminals are [`io::stdin`](crate::green::io::stdin)'s.
mod dir;
mod file;
mod lock;
mod off_loop;
mod options;
mod paths;
pub mod unix;

pub use dir::{DirBuilder, DirEntry, ReadDir, read_dir};
pub use file::File;
pub(in crate::green) use off_loop::{formatted, off_loop};
pub use options::OpenOptions;
pub use paths::{
    canonicalize, copy, create_dir, create_dir_all, exists, hard_link, metadata, read, read_link, read_to_string,
    remove_dir, remove_dir_all, remove_file, rename, set_permissions, symlink_metadata, write,
};
pub use std::fs::{FileTimes, FileType, Metadata, Permissions, TryLockError};

const _: () = {
    const fn assert_shareable<T: Send + Sync + std::fmt::Debug>() {}
    assert_shareable::<File>();
    assert_shareable::<ReadDir>();
    assert_shareable::<DirEntry>();
};
