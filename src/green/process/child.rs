//! `Child`: a process that was started, with the ends of its pipes.
//!
//! What must never happen here: a pipe left full because nobody reads it while somebody waits.
use super::ending::{Ending, Process};
use super::{ChildStderr, ChildStdin, ChildStdout, ExitStatus, Output};
use crate::deferred::IntoDeferred;
use crate::error::ReactorError;
use crate::failure::Failure;
use crate::green::{GreenThread, block_on, spawn};
use std::fmt;
use std::io::{self, Read};
use std::process;
use std::sync::Arc;
use std::time::Duration;

/// A child process: [`std::process::Child`] (Eventlet's green `Popen`).
///
/// Dropping it lets the child run on, as in std; but when it ends it is reaped, which std does not do, so that no zombie
/// stays, as long as this thread's reactor runs or another child is started. `Command::kill_on_drop` ends it instead.
///
/// ```
/// use std::io::{Read, Write};
/// use twistlet::green::process::{Command, Stdio};
///
/// let mut sort = Command::new("sort").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
/// let mut stdin = sort.stdin.take().expect("piped");
/// stdin.write_all(b"pear\napple\n")?;
/// drop(stdin);
/// let mut sorted = String::new();
/// sort.stdout.take().expect("piped").read_to_string(&mut sorted)?;
/// assert_eq!(sorted, "apple\npear\n");
/// assert!(sort.wait()?.success());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Child {
    /// Its standard input, if that is a pipe.
    pub stdin: Option<ChildStdin>,
    /// Its standard output, if that is a pipe.
    pub stdout: Option<ChildStdout>,
    /// Its standard error, if that is a pipe.
    pub stderr: Option<ChildStderr>,
    process: Arc<Process>,
}

impl Child {
    pub(super) fn of(mut child: process::Child, kill_on_drop: bool) -> Child {
        let stdin = child.stdin.take().map(ChildStdin::from);
        let stdout = child.stdout.take().map(ChildStdout::from);
        let stderr = child.stderr.take().map(ChildStderr::from);
        Child { stdin, stdout, stderr, process: Process::new(child, kill_on_drop) }
    }
    /// Its process id. The system may give it to another process once the child has been waited for.
    pub fn id(&self) -> u32 {
        self.process.id()
    }
    /// Kills it (SIGKILL). Never waits; one that has been waited for is left alone.
    ///
    /// # Errors
    /// The system's, as std has them.
    pub fn kill(&mut self) -> io::Result<()> {
        self.process.kill()
    }
    /// Closes its stdin and waits for its end. Afterwards gives the same status at once.
    ///
    /// # Errors
    /// `ECHILD` when somebody else has reaped it; `Deadlock` never, for a child always ends some day.
    ///
    /// # Panics
    /// In the main loop and its callbacks, unless it has ended.
    ///
    /// # Blocking
    /// Until it has ended. A kill frees the green thread and leaves the child alone. On a thread whose reactor has ended it
    /// holds the thread, as std does: there is nobody to hold up.
    #[track_caller]
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        match self.process.wait(None)? {
            Some(status) => Ok(status),
            None => Err(Failure::from(ReactorError::Stopped).into()),
        }
    }
    /// As [`wait`](Child::wait), no longer than `limit`; `None`: it still runs. Closes its stdin too. Not in std.
    ///
    /// ```
    /// use std::time::Duration;
    /// use twistlet::green::process::Command;
    ///
    /// let mut child = Command::new("sleep").arg("60").spawn()?;
    /// assert_eq!(child.wait_timeout(Duration::from_millis(10))?, None);
    /// child.kill()?;
    /// assert!(!child.wait()?.success());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As `wait`.
    ///
    /// # Panics
    /// As `wait`.
    ///
    /// # Blocking
    /// At most for `limit`. Zero never waits.
    #[track_caller]
    pub fn wait_timeout(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        drop(self.stdin.take());
        self.process.wait(Some(limit))
    }
    /// Its status, if it has ended. Never waits, and leaves stdin open.
    ///
    /// # Errors
    /// As `wait`.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.process.try_wait()
    }
    /// For others who wait for the same child: any number of green threads may. Not in std.
    pub fn ending(&self) -> Ending {
        Ending(Arc::clone(&self.process))
    }
    /// Closes its stdin, reads what it writes to its pipes, both at once, and waits for its end.
    ///
    /// # Errors
    /// As [`wait`](Child::wait), and of the pipes.
    ///
    /// # Panics
    /// As `wait`.
    ///
    /// # Blocking
    /// Until the output is at its end, which is when every process that has the pipe has closed it, and the child has ended.
    #[track_caller]
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        drop(self.stdin.take());
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        match (self.stdout.take(), self.stderr.take()) {
            (None, None) => {}
            (Some(mut out), None) => drop(out.read_to_end(&mut stdout)?),
            (None, Some(mut err)) => drop(err.read_to_end(&mut stderr)?),
            (Some(mut out), Some(err)) => {
                let reader = Reader::start(err);
                out.read_to_end(&mut stdout)?;
                stderr = reader.finish()?;
            }
        }
        let status = self.wait()?;
        Ok(Output { status, stdout, stderr })
    }
}

/// A green thread that reads a pipe; ended with whoever waits for it.
struct Reader(Option<GreenThread<io::Result<Vec<u8>>>>);
impl Reader {
    #[track_caller]
    fn start(mut pipe: ChildStderr) -> Reader {
        let thread = spawn(move || {
            let mut all = Vec::new();
            Ok(pipe.read_to_end(&mut all).map(|_| all))
        });
        thread.set_name("the reader of a child's stderr");
        Reader(Some(thread))
    }
    #[track_caller]
    fn finish(mut self) -> io::Result<Vec<u8>> {
        let Some(thread) = self.0.take() else { return Ok(Vec::new()) };
        // Interrupted, it kills the green thread.
        block_on(thread.into_deferred())?
    }
}
impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            thread.kill();
        }
    }
}
impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("id", &self.id())
            .field("stdin", &self.stdin)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .finish_non_exhaustive()
    }
}
