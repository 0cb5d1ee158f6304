//! The lock beside a UNIX socket's file, `PATH.lock`: it says that a server lives there, and ends with the server's process
//! however that ends.
//!
//! The lock is the system's (flock), the file holds our process's number for people. Twisted makes a symbolic link to the number
//! instead; that is understood, so that servers of both kinds keep out of each other's way.
use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How often it is tried anew when others take and give up the lock at the same moment.
const ATTEMPTS: u32 = 16;

/// Held until it is dropped, which removes the file too.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    file: File,
}

fn path_of(socket: &Path) -> PathBuf {
    let mut path = OsString::from(socket);
    path.push(".lock");
    path.into()
}
fn held(path: &Path, who: &str) -> io::Error {
    let who = match who.trim() {
        "" => "another process".to_owned(),
        number => format!("process {number}"),
    };
    io::Error::new(io::ErrorKind::AddrInUse, format!("{who} holds the lock {}", path.display()))
}
/// Of a lock as Twisted makes it: whether its process lives. Without `/proc` it is taken to.
fn lives(process: &Path) -> bool {
    match process.to_str().and_then(|number| number.parse::<u32>().ok()) {
        Some(number) => !Path::new("/proc/self").exists() || Path::new("/proc").join(number.to_string()).exists(),
        None => true,
    }
}

impl Lock {
    /// Takes the lock of the socket at this path.
    ///
    /// # Errors
    /// `AddrInUse` while another has it; the file system's.
    pub(super) fn take(socket: &Path) -> io::Result<Lock> {
        let path = path_of(socket);
        for _ in 0..ATTEMPTS {
            if let Ok(process) = std::fs::read_link(&path) {
                if lives(&process) {
                    return Err(held(&path, &process.to_string_lossy()));
                }
                std::fs::remove_file(&path)?;
            }
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o644).custom_flags(libc::O_NOFOLLOW);
            let mut file = options.open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                // Also while somebody asks `is_held`, for a moment.
                Err(TryLockError::WouldBlock) => {
                    std::thread::yield_now();
                    continue;
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // It may have been removed by who held it, after we had opened it.
            if is_at(&file, &path) {
                file.set_len(0)?;
                writeln!(file, "{}", std::process::id())?;
                return Ok(Lock { path, file });
            }
        }
        let mut who = String::new();
        let _ = File::open(&path).and_then(|file| file.take(16).read_to_string(&mut who));
        Err(held(&path, &who))
    }
    /// Whether a process that lives holds the lock of the socket at this path.
    pub(super) fn is_held(socket: &Path) -> bool {
        let path = path_of(socket);
        if let Ok(process) = std::fs::read_link(&path) {
            return lives(&process);
        }
        match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path) {
            Ok(file) => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)),
            Err(_) => false,
        }
    }
}
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}
impl Drop for Lock {
    fn drop(&mut self) {
        // While we hold it nobody else does, so what is there is ours.
        if is_at(&self.file, &self.path) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
