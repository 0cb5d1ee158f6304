//! Child processes: `Reactor::spawn_process` with a `ProcessProtocol`, a child's output as a Deferred, a child as a connection
//! (Twisted's `spawnProcess`, `IProcessTransport`, `getProcessOutput`).
//!
//! `command` says what is started, `child` starts it and calls its protocol, `handle` is its name, `reaper` hears of its end. Each
//! pipe is a stream of `descriptors`. `output` and `connect` are written on the rest.
//!
//! | `std::process`, Twisted | here |
//! |---|---|
//! | `Command` | [`Command`], passed by value; `From<std::process::Command>` |
//! | the environment: inherited (std), empty (Twisted) | inherited; [`Command::env_clear`] |
//! | `childFDs` | [`Command::child_fd`] with a [`ChildFd`] |
//! | `usePTY` | [`Command::terminal`] |
//! | `ProcessDone`, `ProcessTerminated` | [`ExitReason`] |
//! | `ProcessExitedAlready` | [`ProcessError::ExitedAlready`] |
//! | `getProcessOutputAndValue`, `getProcessValue` | [`output`], [`value`] |
//!
//! # Who reaps
//! The reactor, as soon as a child has ended, by a pidfd on Linux since 5.3 and by a thread elsewhere; other children of the
//! program are left alone, and so is SIGCHLD. A child that outlives its reactor runs on (or is killed, see
//! [`Command::kill_at_end`]), and a thread waits for its end, so that no zombie stays.
mod child;
mod command;
mod connect;
mod ending;
mod handle;
mod output;
mod reaper;
mod shared;
mod signal;

pub use command::{ChildFd, Command};
pub use ending::{ExitReason, OutputTooLong, ProcessError, SpawnError};
pub use handle::ProcessRef;
pub use output::{OUTPUT_LIMIT, output, output_limited, value};
pub use signal::Signal;

use crate::failure::Result;
use crate::reactor::Reactor;
use std::os::fd::RawFd;

/// What a program does with the events of one child process (Twisted's `ProcessProtocol`). The reactor owns it; no method is ever
/// entered while another of the same protocol runs, and none within [`Reactor::spawn_process`].
///
/// The order of calls is `connection_made`; any number of `child_data_received`, one `child_connection_lost` for each pipe and one
/// `process_exited`, in the order in which these things are seen, which is not always that in which they happen; and
/// `process_ended`, exactly once and last: when the child has exited **and** every pipe is closed. A process that the child has
/// started, and that has its pipes too, keeps them open.
///
/// A panic is logged; in `connection_made` or with data it closes the child's pipes.
pub trait ProcessProtocol {
    /// The child runs. What has been written to it before is on its way.
    fn connection_made(&mut self, process: ProcessRef) {
        let _ = process;
    }
    /// Bytes from a pipe of the child. Unless this is overridden, those of 1 and 2 go to `out_received` and `err_received`. On a
    /// terminal everything comes from 1.
    fn child_data_received(&mut self, process: ProcessRef, fd: RawFd, data: &[u8]) {
        match fd {
            1 => self.out_received(process, data),
            2 => self.err_received(process, data),
            _ => {}
        }
    }
    /// Bytes from its standard output.
    fn out_received(&mut self, process: ProcessRef, data: &[u8]) {
        let _ = (process, data);
    }
    /// Bytes from its standard error.
    fn err_received(&mut self, process: ProcessRef, data: &[u8]) {
        let _ = (process, data);
    }
    /// A pipe is closed, by either side. Unless this is overridden, `in_`, `out_` or `err_connection_lost` is told.
    fn child_connection_lost(&mut self, process: ProcessRef, fd: RawFd) {
        match fd {
            0 => self.in_connection_lost(process),
            1 => self.out_connection_lost(process),
            2 => self.err_connection_lost(process),
            _ => {}
        }
    }
    /// Its standard input takes no more.
    fn in_connection_lost(&mut self, process: ProcessRef) {
        let _ = process;
    }
    /// Its standard output has ended.
    fn out_connection_lost(&mut self, process: ProcessRef) {
        let _ = process;
    }
    /// Its standard error has ended.
    fn err_connection_lost(&mut self, process: ProcessRef) {
        let _ = process;
    }
    /// It has exited and has been reaped; some of its output may be still to come. Not called when the reactor ends first.
    fn process_exited(&mut self, process: ProcessRef, reason: &ExitReason) {
        let _ = (process, reason);
    }
    /// The end, exactly once and last: it has exited, and its pipes are closed. Also at the reactor's end, then with
    /// [`ExitReason::Left`] if it still runs.
    fn process_ended(&mut self, process: ProcessRef, reason: &ExitReason) {
        let _ = (process, reason);
    }
}

impl<P: ProcessProtocol + ?Sized> ProcessProtocol for Box<P> {
    fn connection_made(&mut self, process: ProcessRef) {
        (**self).connection_made(process);
    }
    fn child_data_received(&mut self, process: ProcessRef, fd: RawFd, data: &[u8]) {
        (**self).child_data_received(process, fd, data);
    }
    fn out_received(&mut self, process: ProcessRef, data: &[u8]) {
        (**self).out_received(process, data);
    }
    fn err_received(&mut self, process: ProcessRef, data: &[u8]) {
        (**self).err_received(process, data);
    }
    fn child_connection_lost(&mut self, process: ProcessRef, fd: RawFd) {
        (**self).child_connection_lost(process, fd);
    }
    fn in_connection_lost(&mut self, process: ProcessRef) {
        (**self).in_connection_lost(process);
    }
    fn out_connection_lost(&mut self, process: ProcessRef) {
        (**self).out_connection_lost(process);
    }
    fn err_connection_lost(&mut self, process: ProcessRef) {
        (**self).err_connection_lost(process);
    }
    fn process_exited(&mut self, process: ProcessRef, reason: &ExitReason) {
        (**self).process_exited(process, reason);
    }
    fn process_ended(&mut self, process: ProcessRef, reason: &ExitReason) {
        (**self).process_ended(process, reason);
    }
}

impl Reactor {
    /// Starts a child process (Twisted's `spawnProcess`). Its protocol is told `connection_made` in a later turn; nothing of it
    /// runs before this returns.
    ///
    /// The program is there, or this fails: an error of starting it is told here and not in the child's output.
    ///
    /// # Errors
    /// [`SpawnError`] with the program and the system's reason; [`ReactorError::Closed`](crate::error::ReactorError::Closed).
    ///
    /// # Blocking
    /// Holds the loop until the child has come to `exec`: its descriptors and signals are set up in between, so it is a fork, whose
    /// time grows with the memory this process uses.
    ///
    /// ```
    /// use twistlet::Reactor;
    /// use twistlet::transport::process::{Command, ExitReason, ProcessProtocol, ProcessRef};
    ///
    /// struct Upper(Reactor);
    /// impl ProcessProtocol for Upper {
    ///     fn connection_made(&mut self, process: ProcessRef) {
    ///         process.write("hello");
    ///         process.close_stdin();
    ///     }
    ///     fn out_received(&mut self, _: ProcessRef, data: &[u8]) {
    ///         assert_eq!(data, b"HELLO");
    ///     }
    ///     fn process_ended(&mut self, _: ProcessRef, reason: &ExitReason) {
    ///         assert_eq!(*reason, ExitReason::Done);
    ///         let _ = self.0.stop();
    ///     }
    /// }
    ///
    /// let reactor = Reactor::new()?;
    /// reactor.spawn_process(Upper(reactor), Command::new("tr").args(["a-z", "A-Z"]))?;
    /// reactor.run()?;
    /// # Ok::<(), twistlet::Failure>(())
    /// ```
    pub fn spawn_process(
        &self,
        protocol: impl ProcessProtocol + 'static,
        command: impl Into<Command>,
    ) -> Result<ProcessRef> {
        child::spawn(&self.open()?, Box::new(protocol), command.into())
    }
}
