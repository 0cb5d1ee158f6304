//! `std::os::unix::process`, for green commands.
//!
//! `pre_exec` is unsafe and so not here: `CommandExt::pre_exec(command.as_std_mut(), ..)` with std's trait.
use super::Command;
use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt as _;

pub use std::os::unix::process::{ExitStatusExt, parent_id};

/// What UNIX adds to [`Command`]: [`std::os::unix::process::CommandExt`] without its unsafe and unstable methods.
///
/// ```
/// use twistlet::green::process::Command;
/// use twistlet::green::process::unix::{CommandExt, ExitStatusExt};
///
/// let mut child = Command::new("sleep").arg0("a nap").arg("60").process_group(0).spawn()?;
/// child.kill()?;
/// assert_eq!(child.wait()?.signal(), Some(9));
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait CommandExt {
    /// The user it runs as.
    fn uid(&mut self, id: u32) -> &mut Self;
    /// The group it runs as.
    fn gid(&mut self, id: u32) -> &mut Self;
    /// The process group it joins; 0 is a new one of its own.
    fn process_group(&mut self, pgroup: i32) -> &mut Self;
    /// What it sees as its own name.
    fn arg0(&mut self, arg: impl AsRef<OsStr>) -> &mut Self;
    /// Replaces this process, reactor and green threads included, and returns only when that fails. Nothing is unwound,
    /// no destructor runs.
    ///
    /// # Errors
    /// What it returns.
    fn exec(&mut self) -> io::Error;
}
impl CommandExt for Command {
    fn uid(&mut self, id: u32) -> &mut Self {
        self.as_std_mut().uid(id);
        self
    }
    fn gid(&mut self, id: u32) -> &mut Self {
        self.as_std_mut().gid(id);
        self
    }
    fn process_group(&mut self, pgroup: i32) -> &mut Self {
        self.as_std_mut().process_group(pgroup);
        self
    }
    fn arg0(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.as_std_mut().arg0(arg);
        self
    }
    fn exec(&mut self) -> io::Error {
        self.as_std_mut().exec()
    }
}
