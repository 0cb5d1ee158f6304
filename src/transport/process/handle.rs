//! `ProcessRef`: the name of a child process, which its protocol and everybody else hold.
use super::child::Process;
use super::{ExitReason, ProcessError, Signal};
use crate::deferred::Deferred;
use crate::sys;
use crate::transport::names::Names;
use crate::transport::{Producer, PullProducer, TransportRef};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::os::fd::{AsFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

thread_local! {
    static PROCESSES: RefCell<Names<Process>> = const { RefCell::new(Names::new()) };
}

/// A child process as its protocol, and everybody who was told of it, names it: Twisted's `IProcessTransport`. `Copy`; it owns
/// nothing. No method waits or runs user code before it returns, and once `process_ended` has been called they do nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ProcessRef {
    slot: u32,
    generation: u32,
    thread: PhantomData<*const ()>,
}

impl ProcessRef {
    pub(super) fn at((slot, generation): (u32, u32)) -> Self {
        ProcessRef { slot, generation, thread: PhantomData }
    }
    pub(super) fn place(self) -> (u32, u32) {
        (self.slot, self.generation)
    }
    pub(super) fn find(self) -> Option<Rc<Process>> {
        PROCESSES.try_with(|processes| processes.borrow().get(self.place())).ok().flatten()
    }
    pub(super) fn enter(process: Rc<Process>) -> Self {
        ProcessRef::at(PROCESSES.with(|processes| processes.borrow_mut().insert(process)))
    }
    pub(super) fn forget(self) -> Option<Rc<Process>> {
        PROCESSES.try_with(|processes| processes.borrow_mut().remove(self.place())).ok().flatten()
    }

    /// Its number in the system; `None` once it has exited, for then another process may get it.
    pub fn id(self) -> Option<u32> {
        self.find().filter(|process| process.runs()).map(|process| process.id)
    }
    /// Whether it has not exited yet, as far as the loop knows.
    pub fn is_running(self) -> bool {
        self.id().is_some()
    }
    /// How it exited, once it has.
    pub fn exit_reason(self) -> Option<ExitReason> {
        self.find().and_then(|process| process.exit_reason())
    }
    /// Fires when the process has ended: right after `process_ended`, with the same reason. Fails never; of one that is
    /// forgotten it is [`ExitReason::Unknown`].
    pub fn when_ended(self) -> Deferred<ExitReason> {
        match self.find() {
            Some(process) => process.when_ended(),
            None => Deferred::succeed(ExitReason::Unknown),
        }
    }

    /// Writes to its standard input, or to its terminal. Dropped when that is closed, or no pipe.
    pub fn write(self, data: impl AsRef<[u8]>) {
        if let Some(stdin) = self.stdin() {
            stdin.write(data);
        }
    }
    /// Writes to a pipe that it reads (Twisted's `writeToChild`). Dropped when that is closed.
    ///
    /// # Errors
    /// [`ProcessError::NoSuchPipe`]; [`ProcessError::ExitedAlready`] once it has ended.
    pub fn write_to_child(self, fd: RawFd, data: impl AsRef<[u8]>) -> Result<(), ProcessError> {
        let process = self.find().ok_or(ProcessError::ExitedAlready)?;
        let stream = process.stream(fd).filter(|pipe| pipe.writes).ok_or(ProcessError::NoSuchPipe { fd })?;
        stream.transport.write(data);
        Ok(())
    }
    /// One of its pipes as a transport, with all that these can do: `write_bytes`, `unsent`, `when_flushed`, producers. A name of
    /// nothing once the pipe is closed; `None` when there never was such a pipe. On a terminal, 0 and 1 are that.
    pub fn pipe(self, fd: RawFd) -> Option<TransportRef> {
        self.find().and_then(|process| process.stream(fd)).map(|stream| stream.transport)
    }
    fn stdin(self) -> Option<TransportRef> {
        self.find().and_then(|process| process.stream(0)).map(|stream| stream.transport)
    }
    /// Closes a pipe; what was written to it is sent first (Twisted's `closeChildFD`).
    ///
    /// # Errors
    /// As [`write_to_child`](ProcessRef::write_to_child), for either direction.
    pub fn close_child_fd(self, fd: RawFd) -> Result<(), ProcessError> {
        let process = self.find().ok_or(ProcessError::ExitedAlready)?;
        let stream = process.stream(fd).ok_or(ProcessError::NoSuchPipe { fd })?;
        stream.transport.lose_connection();
        Ok(())
    }
    /// Sends what was written to its standard input, then closes that. No effect on a terminal, which has no end of its own.
    pub fn close_stdin(self) {
        if let Some(process) = self.find()
            && !process.has_terminal()
            && let Some(stdin) = process.stream(0)
        {
            stdin.transport.lose_connection();
        }
    }
    /// Reads no more of its standard output.
    pub fn close_stdout(self) {
        let _ = self.close_child_fd(1);
    }
    /// Reads no more of its standard error.
    pub fn close_stderr(self) {
        let _ = self.close_child_fd(2);
    }
    /// Closes its 0, 1 and 2, as far as they are pipes, what was written being sent first; or hangs its terminal up. What the child
    /// makes of that is its own affair: [`terminate`](ProcessRef::terminate) ends it.
    pub fn lose_connection(self) {
        for fd in 0..=2 {
            let _ = self.close_child_fd(fd);
        }
    }
    /// No more data from any of its pipes until `resume_producing`; it is held back when they are full.
    pub fn pause_producing(self) {
        if let Some(process) = self.find() {
            process.each_reader(TransportRef::pause_producing);
        }
    }
    /// Goes on reading.
    pub fn resume_producing(self) {
        if let Some(process) = self.find() {
            process.each_reader(TransportRef::resume_producing);
        }
    }
    /// Whoever writes more to its standard input than it takes; see [`TransportRef::register_producer`]. Without such a pipe it
    /// is told `stop_producing`.
    ///
    /// # Panics
    /// When a producer is registered already.
    #[track_caller]
    pub fn register_producer(self, producer: impl Producer + 'static) {
        self.stdin().unwrap_or_else(TransportRef::gone).register_producer(producer);
    }
    /// Whoever writes to its standard input when asked; see [`TransportRef::register_pull_producer`].
    ///
    /// # Panics
    /// When a producer is registered already.
    #[track_caller]
    pub fn register_pull_producer(self, producer: impl PullProducer + 'static) {
        self.stdin().unwrap_or_else(TransportRef::gone).register_pull_producer(producer);
    }
    /// The producer is done.
    pub fn unregister_producer(self) {
        if let Some(stdin) = self.stdin() {
            stdin.unregister_producer();
        }
    }

    /// Sends it a signal: `Signal::TERM`, or a number (Twisted's `signalProcess`). Never hits another process that has got its
    /// number.
    ///
    /// # Errors
    /// [`ProcessError::ExitedAlready`]; [`ProcessError::Refused`].
    pub fn signal(self, signal: impl Into<Signal>) -> Result<(), ProcessError> {
        self.find().ok_or(ProcessError::ExitedAlready)?.signal(signal.into())
    }
    /// Kills it (SIGKILL).
    ///
    /// # Errors
    /// As [`signal`](ProcessRef::signal).
    pub fn kill(self) -> Result<(), ProcessError> {
        self.signal(Signal::KILL)
    }
    /// Asks it to end (SIGTERM), and kills it (SIGKILL) when it has not after `grace`.
    ///
    /// # Errors
    /// As [`signal`](ProcessRef::signal).
    pub fn terminate(self, grace: Duration) -> Result<(), ProcessError> {
        let process = self.find().ok_or(ProcessError::ExitedAlready)?;
        process.signal(Signal::TERM)?;
        process.kill_after(grace);
        Ok(())
    }
    /// Tells its terminal another size; the child hears of it by SIGWINCH.
    ///
    /// # Errors
    /// [`ProcessError::NoTerminal`]; [`ProcessError::ExitedAlready`]; [`ProcessError::Refused`].
    pub fn set_terminal_size(self, rows: u16, columns: u16) -> Result<(), ProcessError> {
        let process = self.find().ok_or(ProcessError::ExitedAlready)?;
        let terminal = process.terminal().ok_or(ProcessError::NoTerminal)?;
        sys::terminal::set_size(terminal.as_fd(), rows, columns)
            .map_err(|error| ProcessError::Refused { code: error.raw_os_error().unwrap_or(0) })
    }
}
