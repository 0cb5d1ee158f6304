//! `std::process` that waits without holding the loop: `green::subprocess` and `green::os.wait` of Eventlet. Porting is
//! replacing `std::process` by `twistlet::green::process`.
//!
//! The end of a child is news from the system (a pidfd, or SIGCHLD where there is none), never polled for; its pipes are
//! watched like sockets.
//!
//! | `std::process` | here |
//! |---|---|
//! | `Command`, all stable methods | mirrored; `spawn` itself starts the child on the calling OS thread, see [`Command::spawn`] |
//! | `Child` and its three pipes | mirrored; beside them [`Child::wait_timeout`], [`Child::ending`], `Command::kill_on_drop` |
//! | `ChildStdin`, `ChildStdout`, `ChildStderr` | mirrored; readable and writable through `&` too |
//! | `Stdio`, `ExitStatus`, `ExitCode`, `Output`, `Termination`, `CommandArgs`, `CommandEnvs` | std's own |
//! | `exit`, `abort`, `id` | std's own: they end the program at once, green threads are not unwound |
//! | `os::unix::process::{CommandExt, ExitStatusExt, ChildExt, parent_id}` | [`unix`]; `pre_exec` is unsafe, so by [`Command::as_std_mut`] |
//! | `FromRawFd` of the pipes | `From<OwnedFd>` |
//!
//! # Whose SIGCHLD
//! Nobody's, on Linux since 5.3: each wait has its own pidfd, so handlers of SIGCHLD that the program or a library installs
//! do not matter, nor does [`signal::Signals`](crate::green::signal::Signals) for it. Without pidfds SIGCHLD is subscribed to
//! while somebody waits, and other handlers are still called. What no library can live with is somebody who waits for *all*
//! children (`waitpid(-1)`), or SIGCHLD set to be ignored: their statuses are gone, and `wait` fails with `ECHILD` as std's
//! does.
//!
//! # Fork
//! Only together with exec: a forked copy of green threads and of the poller is of no use to either process.
mod child;
mod command;
mod ending;
pub(in crate::green) mod pipes;
mod reaper;
#[cfg(test)]
mod tests;
pub mod unix;

pub(in crate::green) use reaper::adopt;

pub use child::Child;
pub use command::Command;
pub use ending::Ending;
pub use pipes::{ChildStderr, ChildStdin, ChildStdout};
pub use std::process::{CommandArgs, CommandEnvs, ExitCode, ExitStatus, Output, Stdio, Termination, abort, exit, id};

const _: () = {
    const fn assert_shareable<T: Send + Sync + std::fmt::Debug + std::panic::UnwindSafe>() {}
    assert_shareable::<Child>();
    assert_shareable::<Ending>();
    assert_shareable::<ChildStdin>();
    assert_shareable::<ChildStdout>();
    assert_shareable::<ChildStderr>();
};
