//! `Command`: std's, whose children are green.
//!
//! What must never happen here: a child started that nobody will reap.
use super::{Child, CommandArgs, CommandEnvs, ExitStatus, Output, Stdio, reaper};
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::Path;
use std::process;

/// A program to be started: [`std::process::Command`], but waiting for what it starts parks the green thread and not the loop.
///
/// ```
/// use twistlet::green::process::Command;
///
/// let output = Command::new("sh").args(["-c", "echo hello; exit 3"]).output()?;
/// assert_eq!(output.stdout, b"hello\n");
/// assert_eq!(output.status.code(), Some(3));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Command {
    inner: process::Command,
    /// Which of stdin, stdout and stderr were set: std's defaults depend on the call, and it does not say.
    set: [bool; 3],
    kill_on_drop: bool,
}

impl Command {
    /// `program`, with no arguments, this process's environment, folder and streams.
    pub fn new(program: impl AsRef<OsStr>) -> Command {
        process::Command::new(program).into()
    }
    /// One more argument.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Command {
        self.inner.arg(arg);
        self
    }
    /// More arguments.
    pub fn args<S: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = S>) -> &mut Command {
        self.inner.args(args);
        self
    }
    /// Sets an environment variable.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Command {
        self.inner.env(key, value);
        self
    }
    /// Sets environment variables.
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(&mut self, vars: impl IntoIterator<Item = (K, V)>) -> &mut Command {
        self.inner.envs(vars);
        self
    }
    /// Takes an environment variable away.
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Command {
        self.inner.env_remove(key);
        self
    }
    /// Takes all environment variables away.
    pub fn env_clear(&mut self) -> &mut Command {
        self.inner.env_clear();
        self
    }
    /// The folder it runs in.
    pub fn current_dir(&mut self, dir: impl AsRef<Path>) -> &mut Command {
        self.inner.current_dir(dir);
        self
    }
    /// Its standard input: inherited by default, nothing for [`output`](Command::output).
    pub fn stdin(&mut self, stream: impl Into<Stdio>) -> &mut Command {
        self.inner.stdin(stream);
        self.set[0] = true;
        self
    }
    /// Its standard output: inherited by default, a pipe for [`output`](Command::output).
    pub fn stdout(&mut self, stream: impl Into<Stdio>) -> &mut Command {
        self.inner.stdout(stream);
        self.set[1] = true;
        self
    }
    /// Its standard error: inherited by default, a pipe for [`output`](Command::output).
    pub fn stderr(&mut self, stream: impl Into<Stdio>) -> &mut Command {
        self.inner.stderr(stream);
        self.set[2] = true;
        self
    }
    /// Whether a child is killed when its [`Child`] is dropped before its end, for instance because the green thread that
    /// waited was killed or was late. Off by default, as in std, which has no such thing.
    pub fn kill_on_drop(&mut self, on: bool) -> &mut Command {
        self.kill_on_drop = on;
        self
    }

    /// Starts it. Never parks, so it works in callbacks too.
    ///
    /// The child is started right here, not on the thread pool. With posix_spawn, which std takes wherever it can, that is
    /// well under a millisecond whatever the size of this process; a user, groups or `pre_exec` make it a fork, whose time
    /// grows with the memory in use. A thread of the pool would cost more than it saved, a kill in the middle would leave a
    /// child nobody knows of, and `PR_SET_PDEATHSIG` would end the child when the *thread* leaves.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied` and the system's others, as std has them.
    ///
    /// # Blocking
    /// Holds the loop until the child has come to `exec`.
    pub fn spawn(&mut self) -> io::Result<Child> {
        reaper::sweep();
        Ok(Child::of(self.inner.spawn()?, self.kill_on_drop))
    }
    /// Runs it to its end, and gives its output; std's defaults for the streams (pipes, and no input).
    ///
    /// # Errors
    /// As [`spawn`](Command::spawn) and [`Child::wait_with_output`].
    ///
    /// # Panics
    /// In the main loop and its callbacks.
    ///
    /// # Blocking
    /// Until it has ended and its output is at the end.
    #[track_caller]
    pub fn output(&mut self) -> io::Result<Output> {
        let defaults = [Stdio::null, Stdio::piped, Stdio::piped];
        self.set_streams(defaults);
        let child = self.spawn();
        // So that `spawn` finds its own defaults.
        self.set_streams([Stdio::inherit; 3]);
        child?.wait_with_output()
    }
    fn set_streams(&mut self, streams: [fn() -> Stdio; 3]) {
        let [stdin, stdout, stderr] = streams;
        if !self.set[0] {
            self.inner.stdin(stdin());
        }
        if !self.set[1] {
            self.inner.stdout(stdout());
        }
        if !self.set[2] {
            self.inner.stderr(stderr());
        }
    }
    /// Runs it to its end; streams are inherited by default.
    ///
    /// # Errors
    /// As [`spawn`](Command::spawn) and [`Child::wait`].
    ///
    /// # Panics
    /// In the main loop and its callbacks.
    ///
    /// # Blocking
    /// Until it has ended.
    #[track_caller]
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        self.spawn()?.wait()
    }

    /// The program.
    pub fn get_program(&self) -> &OsStr {
        self.inner.get_program()
    }
    /// The arguments.
    pub fn get_args(&self) -> CommandArgs<'_> {
        self.inner.get_args()
    }
    /// The environment variables that were set, or taken away.
    pub fn get_envs(&self) -> CommandEnvs<'_> {
        self.inner.get_envs()
    }
    /// The folder it runs in, if one was set.
    pub fn get_current_dir(&self) -> Option<&Path> {
        self.inner.get_current_dir()
    }
    /// std's command.
    pub fn as_std(&self) -> &process::Command {
        &self.inner
    }
    /// std's command, for what is not here, like the unsafe `pre_exec`. Streams set there are not known to
    /// [`output`](Command::output), which replaces them: set them here.
    pub fn as_std_mut(&mut self) -> &mut process::Command {
        &mut self.inner
    }
    /// Gives std's command back.
    pub fn into_std(self) -> process::Command {
        self.inner
    }
}

/// Streams that were set there are not known to [`output`](Command::output), which replaces them.
impl From<process::Command> for Command {
    fn from(inner: process::Command) -> Self {
        Command { inner, set: [false; 3], kill_on_drop: false }
    }
}
/// As std shows it.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
