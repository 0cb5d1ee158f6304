//! A child's output and exit code as Deferreds: Twisted's `getProcessOutputAndValue` and `getProcessValue`.
//!
//! What must never happen here: more memory spent on what a child writes than was allowed.
use super::{ChildFd, Command, ExitReason, OutputTooLong, ProcessProtocol, ProcessRef};
use crate::deferred::{Deferred, Promise};
use crate::error::ReactorError;
use crate::failure::{Failure, Result};
use crate::reactor::Reactor;
use std::cell::RefCell;
use std::process::Output;
use std::rc::Rc;

/// What [`output`] keeps of a child's output at most, both streams together: 16 MiB.
pub const OUTPUT_LIMIT: usize = 16 << 20;

type Outcome<T> = Rc<RefCell<Option<Promise<T>>>>;

/// Runs `command` to its end with no input, and gives what it wrote, as `std::process::Command::output` does (Twisted's
/// `getProcessOutputAndValue`). However it exits, that is no failure. Cancelling the Deferred kills it.
///
/// Fails with [`SpawnError`](super::SpawnError); with [`OutputTooLong`] above [`OUTPUT_LIMIT`]; with
/// [`ReactorError::Stopped`] when the reactor ends first, and the child is killed.
///
/// ```
/// use twistlet::Reactor;
/// use twistlet::transport::process::{Command, output};
///
/// let reactor = Reactor::new()?;
/// let told = output(&reactor, Command::new("sh").args(["-c", "echo hello; exit 3"])).add_callback(move |output| {
///     assert_eq!(output.stdout, b"hello\n");
///     assert_eq!(output.status.code(), Some(3));
///     reactor.stop()
/// });
/// reactor.run()?;
/// # drop(told);
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub fn output(reactor: &Reactor, command: impl Into<Command>) -> Deferred<Output> {
    output_limited(reactor, command, OUTPUT_LIMIT)
}
/// As [`output`], with another limit in bytes.
pub fn output_limited(reactor: &Reactor, command: impl Into<Command>, limit: usize) -> Deferred<Output> {
    let (promise, deferred) = Deferred::new();
    let outcome = Rc::new(RefCell::new(Some(promise)));
    let collects =
        Collector { streams: [Vec::new(), Vec::new()], limit, outcome: Rc::clone(&outcome), too_long: false };
    run(reactor, command.into(), outcome, collects);
    deferred
}

/// Runs `command` to its end with no input, its output being dropped unless `child_fd` says where it goes, and gives the code it
/// exited with (Twisted's `getProcessValue`). Cancelling the Deferred kills it.
///
/// Fails with [`ExitReason::Killed`] when a signal ended it; otherwise as [`output`].
pub fn value(reactor: &Reactor, command: impl Into<Command>) -> Deferred<i32> {
    let (promise, deferred) = Deferred::new();
    let outcome = Rc::new(RefCell::new(Some(promise)));
    let mut command = command.into();
    if !command.fds_set && command.terminal.is_none() {
        command = command.no_child_fds();
    }
    run(reactor, command, Rc::clone(&outcome), Value(outcome));
    deferred
}

fn run<T: 'static>(
    reactor: &Reactor,
    mut command: Command,
    outcome: Outcome<T>,
    protocol: impl ProcessProtocol + 'static,
) {
    if command.terminal.is_none() && matches!(command.fds.get(&0), Some(ChildFd::Write)) {
        command.fds.insert(0, ChildFd::Null);
    }
    match reactor.spawn_process(protocol, command.kill_at_end(true)) {
        Ok(process) => {
            let cancelled = move || {
                // It has ended, or nothing can be done; what it still writes is of no use.
                let _ = process.kill();
                process.lose_connection();
            };
            if let Some(promise) = &*outcome.borrow() {
                promise.on_cancel(cancelled);
            }
        }
        Err(failure) => give(&outcome, Err(failure)),
    }
}
fn give<T: 'static>(outcome: &Outcome<T>, with: Result<T>) {
    let promise = outcome.borrow_mut().take();
    if let Some(promise) = promise {
        match with {
            Ok(value) => promise.callback(value),
            Err(failure) => promise.errback(failure),
        }
    }
}
/// Why there is no status.
fn without_status(reason: ExitReason) -> Failure {
    match reason {
        ExitReason::Left => ReactorError::Stopped.into(),
        other => other.into(),
    }
}

struct Collector {
    streams: [Vec<u8>; 2],
    limit: usize,
    too_long: bool,
    outcome: Outcome<Output>,
}
impl Collector {
    fn keep(&mut self, process: ProcessRef, stream: usize, data: &[u8]) {
        let kept = self.streams.iter().map(Vec::len).sum::<usize>();
        if self.too_long || data.len() > self.limit.saturating_sub(kept) {
            self.too_long = true;
            self.streams = Default::default();
            // It has ended, or nothing can be done.
            let _ = process.kill();
            return process.lose_connection();
        }
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.extend_from_slice(data);
        }
    }
}
impl ProcessProtocol for Collector {
    fn out_received(&mut self, process: ProcessRef, data: &[u8]) {
        self.keep(process, 0, data);
    }
    fn err_received(&mut self, process: ProcessRef, data: &[u8]) {
        self.keep(process, 1, data);
    }
    fn process_ended(&mut self, _process: ProcessRef, reason: &ExitReason) {
        let outcome = match reason.status() {
            _ if self.too_long => Err(OutputTooLong { limit: self.limit }.into()),
            Some(status) => {
                let [stdout, stderr] = std::mem::take(&mut self.streams);
                Ok(Output { status, stdout, stderr })
            }
            None => Err(without_status(*reason)),
        };
        give(&self.outcome, outcome);
    }
}

struct Value(Outcome<i32>);
impl ProcessProtocol for Value {
    fn process_ended(&mut self, _process: ProcessRef, reason: &ExitReason) {
        give(&self.0, reason.code().ok_or_else(|| without_status(*reason)));
    }
}
