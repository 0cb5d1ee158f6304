//! What is to be started: program, arguments, environment, and what each descriptor of the child is.
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

/// How long a child that is a connection is waited for when that has been closed, before it gets a signal.
const GRACE: Duration = Duration::from_secs(10);

/// What a descriptor of the child is (the values of Twisted's `childFDs`).
#[derive(Debug)]
#[non_exhaustive]
pub enum ChildFd {
    /// A pipe that this side writes and the child reads.
    Write,
    /// A pipe that the child writes and this side reads.
    Read,
    /// `/dev/null`.
    Null,
    /// What this process has there; of 0, 1 and 2 only.
    Inherit,
    /// This descriptor.
    Give(OwnedFd),
}
impl<T: Into<OwnedFd>> From<T> for ChildFd {
    fn from(fd: T) -> Self {
        ChildFd::Give(fd.into())
    }
}

/// A program to be started by [`Reactor::spawn_process`](crate::Reactor::spawn_process): built by value,
/// `Command::new("sort").arg("-r")`. A plain `"program"` will do where no more is to be said.
///
/// Unless told otherwise the child has this process's environment (Twisted's has an empty one) and folder, 0 is a pipe that we
/// write, 1 and 2 are pipes that we read, all other descriptors are closed, no signal is blocked, and those that this
/// process ignores have their default effect.
pub struct Command {
    pub(super) inner: process::Command,
    pub(super) fds: BTreeMap<RawFd, ChildFd>,
    pub(super) fds_set: bool,
    pub(super) blocked: Vec<i32>,
    pub(super) terminal: Option<(u16, u16)>,
    pub(super) kill_at_end: bool,
    pub(super) grace: Duration,
}

impl Command {
    /// `program`, which is looked for in `PATH` unless it has a slash.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        process::Command::new(program).into()
    }
    /// One more argument. The program's own name is not one.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.inner.arg(arg);
        self
    }
    /// More arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.inner.args(args);
        self
    }
    /// What the program is told of its own name, argument 0.
    pub fn arg0(mut self, name: impl AsRef<OsStr>) -> Self {
        self.inner.arg0(name);
        self
    }
    /// Sets an environment variable.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.inner.env(key, value);
        self
    }
    /// Sets environment variables.
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(mut self, vars: impl IntoIterator<Item = (K, V)>) -> Self {
        self.inner.envs(vars);
        self
    }
    /// Takes an environment variable away.
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.inner.env_remove(key);
        self
    }
    /// Begins with an empty environment (Twisted's default).
    pub fn env_clear(mut self) -> Self {
        self.inner.env_clear();
        self
    }
    /// The folder it runs in.
    pub fn current_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.inner.current_dir(folder);
        self
    }
    /// The user it runs as.
    pub fn uid(mut self, id: u32) -> Self {
        self.inner.uid(id);
        self
    }
    /// The group it runs as.
    pub fn gid(mut self, id: u32) -> Self {
        self.inner.gid(id);
        self
    }
    /// The process group it joins; 0: a new one, so that Ctrl-C in our terminal does not reach it.
    pub fn process_group(mut self, group: i32) -> Self {
        self.inner.process_group(group);
        self
    }
    /// What its descriptor `fd` is (Twisted's `childFDs`): a [`ChildFd`], or anything that owns a descriptor and is given away:
    /// `.child_fd(3, ChildFd::Read)`, `.child_fd(2, log_file)`.
    pub fn child_fd(mut self, fd: RawFd, what: impl Into<ChildFd>) -> Self {
        self.fds.insert(fd, what.into());
        self.fds_set = true;
        self
    }
    /// Forgets the defaults of 0, 1 and 2: those that are not set afterwards are `/dev/null`.
    pub fn no_child_fds(mut self) -> Self {
        self.fds.clear();
        self.fds_set = true;
        self
    }
    /// Signals that are blocked in it.
    pub fn block_signals(mut self, signals: impl IntoIterator<Item = super::Signal>) -> Self {
        self.blocked.extend(signals.into_iter().map(super::Signal::number));
        self
    }
    /// Runs it on a terminal of its own of this size (Twisted's `usePTY`), as the leader of a session: its 0, 1 and 2 are that
    /// terminal, what it writes to either comes from 1, `close_stdin` is of no effect (write what the program takes for an end,
    /// usually `"\x04"`), and closing it hangs it up. Excludes [`child_fd`](Command::child_fd).
    pub fn terminal(mut self, rows: u16, columns: u16) -> Self {
        self.terminal = Some((rows, columns));
        self
    }
    /// Whether it is killed (SIGKILL) when the reactor ends before it does. Off by default: it runs on, with its pipes closed.
    pub fn kill_at_end(mut self, on: bool) -> Self {
        self.kill_at_end = on;
        self
    }
    /// For [`connect_process`](crate::Reactor::connect_process): how long a child that does not end though the connection was
    /// closed is waited for before it is sent SIGTERM, and again before SIGKILL. Default: 10 seconds.
    pub fn grace(mut self, limit: Duration) -> Self {
        self.grace = limit;
        self
    }
    /// The program.
    pub fn program(&self) -> &OsStr {
        self.inner.get_program()
    }
    pub(super) fn program_text(&self) -> String {
        self.program().to_string_lossy().into_owned()
    }
}

/// Streams that were set there are replaced: name them by [`Command::child_fd`].
impl From<process::Command> for Command {
    fn from(inner: process::Command) -> Self {
        let fds = [(0, ChildFd::Write), (1, ChildFd::Read), (2, ChildFd::Read)].into();
        Command { inner, fds, fds_set: false, blocked: Vec::new(), terminal: None, kill_at_end: false, grace: GRACE }
    }
}
macro_rules! program { ($($type:ty)+) => { $(
    impl From<$type> for Command {
        fn from(program: $type) -> Self {
            Command::new(program)
        }
    }
)+ } }
program! { &str String &OsStr &Path PathBuf }

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("command", &self.inner)
            .field("fds", &self.fds)
            .field("terminal", &self.terminal)
            .finish_non_exhaustive()
    }
}
