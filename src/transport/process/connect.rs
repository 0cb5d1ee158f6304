//! A child process as a connection: its output is what is received, its input what is written (Twisted's `ProcessEndpoint`).
//!
//! The user's protocol is on a wire of its own, `Face`; `Bridge` is the process's protocol. What must never happen here: a child
//! left running behind a connection that is over.
use super::{Command, ExitReason, ProcessProtocol, ProcessRef};
use crate::clock::{Clock, DelayedCall};
use crate::deferred::{Deferred, Promise};
use crate::error::{ConnectError, ConnectionClosed};
use crate::failure::Failure;
use crate::reactor::Reactor;
use crate::transport::{Address, Protocol, Transport, TransportRef, Wire};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::io::IoSlice;
use std::rc::Rc;
use std::time::Duration;

impl Reactor {
    /// Starts a child and talks to it as to a connection (Twisted's `ProcessEndpoint`): what it writes to its standard output is
    /// received, what is written goes to its standard input. Its standard error is logged as warnings; `child_fd(2,
    /// ChildFd::Null)` drops it, `ChildFd::Inherit` leaves it where ours is.
    ///
    /// The Deferred fires right after `connection_made`. `connection_lost` comes when the child has exited and its pipes are
    /// closed: with [`ConnectionClosed::Done`] after code 0, otherwise with [`ConnectionClosed::Failed`] around the
    /// [`ExitReason`]. `lose_write_connection` closes its standard input. `lose_connection` does so too, after what was
    /// written, and throws away what still comes; a child that does not end within [`Command::grace`] is terminated, then
    /// killed. `abort_connection` kills it.
    ///
    /// Fails with [`ConnectError::Failed`] around a [`SpawnError`](super::SpawnError). Cancelling it kills the child.
    ///
    /// ```
    /// use twistlet::transport::process::Command;
    /// use twistlet::{ConnectionClosed, Protocol, Reactor, TransportRef};
    ///
    /// struct Ask(Reactor);
    /// impl Protocol for Ask {
    ///     fn connection_made(&mut self, transport: TransportRef) {
    ///         transport.write("2 + 3\n");
    ///     }
    ///     fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
    ///         assert_eq!(data, b"5\n");
    ///         transport.lose_connection();
    ///     }
    ///     fn connection_lost(&mut self, _: TransportRef, reason: &ConnectionClosed) {
    ///         assert!(reason.is_clean());
    ///         let _ = self.0.stop();
    ///     }
    /// }
    ///
    /// let reactor = Reactor::new()?;
    /// let calculator = Command::new("sh").args(["-c", "while read line; do echo $(($line)); done"]);
    /// let connected = reactor.connect_process(calculator, Ask(reactor));
    /// reactor.run()?;
    /// # drop(connected);
    /// # Ok::<(), twistlet::Failure>(())
    /// ```
    pub fn connect_process(
        &self,
        command: impl Into<Command>,
        protocol: impl Protocol + 'static,
    ) -> Deferred<TransportRef> {
        let (promise, deferred) = Deferred::new();
        let promise = Rc::new(RefCell::new(Some(promise)));
        let command = command.into();
        let (program, grace) = (command.program_text(), command.grace);
        let bridge = Bridge {
            reactor: *self,
            program,
            grace,
            protocol: Some(Box::new(protocol)),
            wire: None,
            state: None,
            promise: Rc::clone(&promise),
        };
        match self.spawn_process(bridge, command) {
            Ok(process) => {
                if let Some(promise) = &*promise.borrow() {
                    promise.on_cancel(move || abort(process));
                }
            }
            Err(failure) => {
                let promise = promise.borrow_mut().take();
                if let Some(promise) = promise {
                    promise.errback(ConnectError::from_failure(failure));
                }
            }
        }
        deferred
    }
}

fn abort(process: ProcessRef) {
    // It has ended, or nothing can be done.
    let _ = process.kill();
    abort_pipes(process);
}
fn abort_pipes(process: ProcessRef) {
    for fd in 0..=2 {
        if let Some(pipe) = process.pipe(fd) {
            pipe.abort_connection();
        }
    }
}

/// What the wire's transport and the process's protocol share.
struct State {
    process: ProcessRef,
    id: u32,
    reactor: Reactor,
    grace: Duration,
    closing: Cell<bool>,
    aborted: Cell<bool>,
    failure: RefCell<Option<Failure>>,
    late: RefCell<Option<DelayedCall>>,
}

impl State {
    fn pipe(&self, fd: i32) -> TransportRef {
        self.process.pipe(fd).unwrap_or_else(TransportRef::gone)
    }
    /// No more input, and what still comes is thrown away; the child may take a while to end.
    fn close(&self) {
        if self.closing.replace(true) {
            return;
        }
        if !self.process.is_running() {
            return abort_pipes(self.process);
        }
        self.pipe(0).lose_connection();
        self.process.resume_producing();
        let (process, grace) = (self.process, self.grace);
        let late = self.reactor.call_later(grace, move || {
            // Gone meanwhile, most likely.
            let _ = process.terminate(grace);
        });
        *self.late.borrow_mut() = Some(late);
    }
}

/// The connection as its protocol sees it.
struct Face(Rc<State>);
impl Transport for Face {
    fn lower(&self) -> Option<TransportRef> {
        Some(self.0.pipe(0))
    }
    fn write(&self, data: &[u8]) {
        self.0.pipe(0).write(data);
    }
    fn write_bytes(&self, data: Bytes) {
        self.0.pipe(0).write_bytes(data);
    }
    fn write_vectored(&self, parts: &[IoSlice<'_>]) {
        self.0.pipe(0).write_vectored(parts);
    }
    fn lose_connection(&self) {
        self.0.close();
    }
    fn abort_connection(&self) {
        self.0.aborted.set(true);
        self.0.closing.set(true);
        abort(self.0.process);
    }
    fn fail_connection(&self, failure: Failure) {
        self.0.failure.borrow_mut().get_or_insert(failure);
        self.0.pipe(0).unregister_producer();
        self.0.close();
    }
    fn is_disconnecting(&self) -> bool {
        self.0.closing.get() || !self.is_connected()
    }
    fn is_connected(&self) -> bool {
        self.0.process.find().is_some()
    }
    fn set_read_size(&self, bytes: usize) {
        self.0.pipe(1).set_read_size(bytes);
    }
    fn pause_producing(&self) {
        if !self.0.closing.get() {
            self.0.pipe(1).pause_producing();
        }
    }
    fn resume_producing(&self) {
        self.0.pipe(1).resume_producing();
    }
    fn peer(&self) -> Address {
        Address::Process(self.0.id)
    }
    fn host(&self) -> Address {
        Address::Pipe
    }
    fn clock(&self) -> Rc<dyn Clock> {
        self.0.reactor.handle()
    }
}

struct Bridge {
    reactor: Reactor,
    program: String,
    grace: Duration,
    protocol: Option<Box<dyn Protocol>>,
    wire: Option<Wire>,
    state: Option<Rc<State>>,
    promise: Rc<RefCell<Option<Promise<TransportRef>>>>,
}

impl Bridge {
    fn is_closing(&self) -> bool {
        self.state.as_ref().is_none_or(|state| state.closing.get())
    }
    /// Tells the protocol; a panic ends the wire, and then the child is not to go on without it.
    fn tell(&mut self, call: impl FnOnce(&Wire)) {
        let Some(wire) = self.wire.as_ref().filter(|_| !self.is_closing()) else { return };
        call(wire);
        if !wire.transport().is_connected() {
            self.wire = None;
            if let Some(state) = &self.state {
                state.close();
            }
        }
    }
}

impl ProcessProtocol for Bridge {
    fn connection_made(&mut self, process: ProcessRef) {
        let Some(protocol) = self.protocol.take() else { return };
        let state = Rc::new(State {
            process,
            id: process.find().map_or(0, |process| process.id),
            reactor: self.reactor,
            grace: self.grace,
            closing: Cell::new(false),
            aborted: Cell::new(false),
            failure: RefCell::default(),
            late: RefCell::default(),
        });
        self.state = Some(Rc::clone(&state));
        let wire = Wire::new(Face(Rc::clone(&state)), protocol);
        let name = wire.transport();
        self.wire = Some(wire);
        let promise = self.promise.borrow_mut().take();
        if name.is_connected() {
            if let Some(promise) = promise {
                promise.callback(name);
            }
            return;
        }
        // It has panicked, and has been told that it is over.
        self.wire = None;
        state.close();
        if let Some(promise) = promise {
            promise.errback(ConnectError::Failed(Failure::from(ConnectionClosed::Aborted)));
        }
    }
    fn out_received(&mut self, _process: ProcessRef, data: &[u8]) {
        self.tell(|wire| wire.deliver(data));
    }
    fn err_received(&mut self, process: ProcessRef, data: &[u8]) {
        let (program, text) = (&self.program, String::from_utf8_lossy(data));
        for line in text.lines() {
            log::warn!(target: "twistlet", "{program} ({}) says: {line}", process.id().unwrap_or(0));
        }
    }
    fn in_connection_lost(&mut self, _process: ProcessRef) {
        self.tell(Wire::deliver_write_lost);
    }
    fn out_connection_lost(&mut self, _process: ProcessRef) {
        self.tell(Wire::deliver_read_lost);
    }
    fn process_exited(&mut self, process: ProcessRef, _reason: &ExitReason) {
        if self.is_closing() {
            // A process that it has started may have its pipes for ever, and nobody wants what comes from there.
            abort_pipes(process);
        }
    }
    fn process_ended(&mut self, _process: ProcessRef, reason: &ExitReason) {
        let Some(state) = self.state.take() else { return };
        if let Some(late) = state.late.take() {
            late.cancel();
        }
        let failure = state.failure.take();
        let reason = match (failure, reason) {
            (Some(failure), _) => ConnectionClosed::Failed(failure),
            _ if state.aborted.get() => ConnectionClosed::Aborted,
            (None, ExitReason::Done) => ConnectionClosed::Done,
            (None, ExitReason::Left) => ConnectionClosed::Lost(None),
            (None, other) => ConnectionClosed::Failed(Failure::from(*other)),
        };
        if let Some(wire) = self.wire.take() {
            wire.deliver_lost(&reason);
        }
    }
}
