//! One child process: starting it, and calling its protocol with what its pipes and the reaper have to tell.
//!
//! What must never happen here: the protocol entered twice, or called or dropped while something is borrowed; a child that was
//! started and that nobody waits for.
use super::command::{ChildFd, Command};
use super::handle::ProcessRef;
use super::reaper::{self, Watch};
use super::{ExitReason, ProcessError, ProcessProtocol, Signal, SpawnError};
use crate::clock::DelayedCall;
use crate::deferred::{Deferred, Promise};
use crate::error::ConnectionClosed;
use crate::failure::{self, Result};
use crate::reactor::Core;
use crate::reactor::driver::Driver;
use crate::sys;
use crate::transport::descriptors::{self, Ends};
use crate::transport::{Address, Protocol, TransportRef};
use std::borrow::Cow;
use std::cell::{Cell, Ref, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::process::{Child, Stdio};
use std::rc::Rc;
use std::time::Duration;

pub(super) struct Process {
    core: Rc<Core>,
    pub(super) id: u32,
    name: Cell<Option<ProcessRef>>,
    /// Until it has been waited for, or given to another thread.
    child: RefCell<Option<Child>>,
    watch: RefCell<Option<Rc<Watch>>>,
    pipes: RefCell<BTreeMap<RawFd, Pipe>>,
    /// How many are not closed yet.
    open: Cell<usize>,
    /// Our side of its terminal, for its size.
    terminal: RefCell<Option<OwnedFd>>,
    on_terminal: bool,
    kill_at_end: bool,
    reason: Cell<Option<ExitReason>>,
    kill: RefCell<Option<DelayedCall>>,
    /// Out while it runs.
    protocol: RefCell<Option<Box<dyn ProcessProtocol>>>,
    made: Cell<bool>,
    ended: Cell<bool>,
    backlog: RefCell<VecDeque<Event<'static>>>,
    waiting: RefCell<Vec<Promise<ExitReason>>>,
}

/// One of its pipes.
#[derive(Clone, Copy)]
pub(super) struct Pipe {
    pub(super) transport: TransportRef,
    pub(super) reads: bool,
    pub(super) writes: bool,
}

/// What its protocol is told.
enum Event<'a> {
    Made,
    Data(RawFd, Cow<'a, [u8]>),
    Lost(RawFd),
    Exited(ExitReason),
    Ended(ExitReason),
}
impl Event<'_> {
    fn into_owned(self) -> Event<'static> {
        match self {
            Event::Made => Event::Made,
            Event::Data(fd, data) => Event::Data(fd, Cow::Owned(data.into_owned())),
            Event::Lost(fd) => Event::Lost(fd),
            Event::Exited(reason) => Event::Exited(reason),
            Event::Ended(reason) => Event::Ended(reason),
        }
    }
}

/// Starts a child.
pub(super) fn spawn(core: &Rc<Core>, protocol: Box<dyn ProcessProtocol>, command: Command) -> Result<ProcessRef> {
    let program = command.program_text();
    start(core, protocol, command).map_err(|error| SpawnError::new(&program, error).into())
}

fn start(core: &Rc<Core>, protocol: Box<dyn ProcessProtocol>, command: Command) -> io::Result<ProcessRef> {
    if !matches!(&*core.driver(), Driver::Os(_)) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "there are no processes in a simulation"));
    }
    reaper::sweep();
    let (on_terminal, kill_at_end) = (command.terminal.is_some(), command.kill_at_end);
    let Launched { child, pipes, terminal } = launch(command)?;
    let id = child.id();
    let process = Rc::new(Process {
        core: Rc::clone(core),
        id,
        name: Cell::new(None),
        child: RefCell::new(Some(child)),
        watch: RefCell::default(),
        pipes: RefCell::default(),
        open: Cell::new(0),
        terminal: RefCell::new(terminal),
        on_terminal,
        kill_at_end,
        reason: Cell::new(None),
        kill: RefCell::default(),
        protocol: RefCell::new(Some(protocol)),
        made: Cell::new(false),
        ended: Cell::new(false),
        backlog: RefCell::default(),
        waiting: RefCell::default(),
    });
    let name = ProcessRef::enter(Rc::clone(&process));
    process.name.set(Some(name));
    if let Err(error) = process.attach(name, pipes) {
        process.give_up();
        return Err(error);
    }
    core.call_soon(Box::new(move || {
        if let Some(process) = name.find()
            && !process.made.get()
        {
            process.tell(Event::Made);
        }
    }));
    Ok(name)
}

/// What was started, with our ends of its pipes.
struct Launched {
    child: Child,
    pipes: Vec<(RawFd, Ends, bool, bool)>,
    terminal: Option<OwnedFd>,
}

fn launch(command: Command) -> io::Result<Launched> {
    let Command { mut inner, mut fds, fds_set, blocked, terminal, .. } = command;
    let mut plan = sys::spawn::Plan { blocked, terminal: terminal.is_some(), ..Default::default() };
    let mut pipes = Vec::new();
    let mut ours = None;
    if let Some((rows, columns)) = terminal {
        if fds_set {
            let text = "a child on a terminal has no other descriptors: leave child_fd out, or terminal";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let (here, there) = sys::terminal::open()?;
        sys::terminal::set_size(here.as_fd(), rows, columns)?;
        fds.clear();
        for fd in 0..=2 {
            fds.insert(fd, ChildFd::Give(there.try_clone()?));
        }
        ours = Some(here.try_clone()?);
        pipes.push((1, Ends::both(here), true, true));
    }
    for fd in 0..=2 {
        // A program may count on it that they are open.
        fds.entry(fd).or_insert(ChildFd::Null);
    }
    let (lowest, highest) = (fds.keys().next().copied(), fds.keys().next_back().copied());
    if lowest.is_some_and(|fd| fd < 0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a descriptor has no negative number"));
    }
    // What is above the system's limit is refused by it.
    let least = highest.unwrap_or(2).max(2).saturating_add(1);
    for (fd, what) in fds {
        let theirs = match what {
            ChildFd::Write => {
                let (reader, writer) = io::pipe()?;
                pipes.push((fd, Ends::writer(writer), false, true));
                OwnedFd::from(reader)
            }
            ChildFd::Read => {
                let (reader, writer) = io::pipe()?;
                pipes.push((fd, Ends::reader(reader), true, false));
                writer.into()
            }
            ChildFd::Null => null()?,
            ChildFd::Give(given) => given,
            ChildFd::Inherit if fd > 2 => {
                let text = "only 0, 1 and 2 are inherited: give other descriptors away, as ChildFd::Give";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            ChildFd::Inherit => {
                set_standard(&mut inner, fd, Stdio::inherit());
                continue;
            }
        };
        match fd {
            0..=2 => set_standard(&mut inner, fd, theirs.into()),
            _ => plan.descriptors.push((sys::descriptor::duplicate_above(theirs.as_fd(), least)?, fd)),
        }
    }
    let child = sys::spawn::start(&mut inner, plan)?;
    Ok(Launched { child, pipes, terminal: ours })
}
fn set_standard(command: &mut std::process::Command, fd: RawFd, stream: Stdio) {
    match fd {
        0 => command.stdin(stream),
        1 => command.stdout(stream),
        _ => command.stderr(stream),
    };
}
fn null() -> io::Result<OwnedFd> {
    File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from)
}

impl Process {
    pub(super) fn core(&self) -> &Rc<Core> {
        &self.core
    }
    pub(super) fn watch(&self) -> Option<Rc<Watch>> {
        self.watch.borrow().clone()
    }
    pub(super) fn runs(&self) -> bool {
        self.reason.get().is_none()
    }
    pub(super) fn exit_reason(&self) -> Option<ExitReason> {
        self.reason.get()
    }
    pub(super) fn has_terminal(&self) -> bool {
        self.on_terminal
    }
    pub(super) fn terminal(&self) -> Option<Ref<'_, OwnedFd>> {
        Ref::filter_map(self.terminal.borrow(), Option::as_ref).ok()
    }
    pub(super) fn stream(&self, fd: RawFd) -> Option<Pipe> {
        let fd = if self.on_terminal && fd == 0 { 1 } else { fd };
        self.pipes.borrow().get(&fd).copied()
    }
    pub(super) fn each_reader(&self, call: impl Fn(TransportRef)) {
        let readers: Vec<_> = self.pipes.borrow().values().filter(|pipe| pipe.reads).copied().collect();
        readers.into_iter().for_each(|pipe| call(pipe.transport));
    }
    pub(super) fn when_ended(&self) -> Deferred<ExitReason> {
        let (promise, deferred) = Deferred::new();
        self.waiting.borrow_mut().push(promise);
        deferred
    }

    fn attach(&self, name: ProcessRef, pipes: Vec<(RawFd, Ends, bool, bool)>) -> io::Result<()> {
        *self.watch.borrow_mut() = Some(Watch::begin(&self.core, name, self.id)?);
        for (fd, ends, reads, writes) in pipes {
            let ear = Box::new(Ear { process: name, fd });
            let transport = descriptors::adopt(&self.core, ends, Some(Address::Process(self.id)), ear)?;
            self.pipes.borrow_mut().insert(fd, Pipe { transport, reads, writes });
            self.open.set(self.open.get() + 1);
        }
        Ok(())
    }
    /// It was started, but we cannot have it.
    fn give_up(&self) {
        if let Some(name) = self.name.take() {
            drop(name.forget());
        }
        self.abort_pipes();
        if let Some(watch) = self.watch.take() {
            watch.end(&self.core);
        }
        if let Some(mut child) = self.child.take() {
            // It has ended, or nothing can be done.
            let _ = child.kill();
            reaper::bury(child);
        }
    }
    fn abort_pipes(&self) {
        let pipes: Vec<_> = self.pipes.borrow().values().copied().collect();
        pipes.into_iter().for_each(|pipe| pipe.transport.abort_connection());
    }

    pub(super) fn signal(&self, signal: Signal) -> std::result::Result<(), ProcessError> {
        let Some(watch) = self.watch().filter(|_| self.runs()) else { return Err(ProcessError::ExitedAlready) };
        watch.signal(signal.number()).map_err(|error| match error.raw_os_error() {
            Some(libc::ESRCH) => ProcessError::ExitedAlready,
            code => ProcessError::Refused { code: code.unwrap_or(0) },
        })
    }
    pub(super) fn kill_after(&self, grace: Duration) {
        let Some(name) = self.name.get() else { return };
        let call = move || {
            // Gone meanwhile, most likely.
            let _ = name.kill();
        };
        let timer = self.core.schedule(grace, Box::new(call));
        if let Some(earlier) = self.kill.replace(Some(timer)) {
            earlier.cancel();
        }
    }

    // ---- its end ----

    /// Its status, if it has ended; it is reaped with that.
    pub(super) fn try_wait(&self) -> io::Result<Option<ExitReason>> {
        match &mut *self.child.borrow_mut() {
            Some(child) => Ok(child.try_wait()?.map(ExitReason::from)),
            None => Ok(None),
        }
    }
    fn over(&self, reason: ExitReason) {
        self.reason.set(Some(reason));
        if let Some(watch) = self.watch.take() {
            watch.end(&self.core);
        }
        if let Some(timer) = self.kill.take() {
            timer.cancel();
        }
    }
    pub(super) fn exited(&self, reason: ExitReason) {
        if !self.runs() {
            return;
        }
        self.over(reason);
        drop(self.child.take());
        self.tell(Event::Exited(reason));
        self.end_if_over();
    }
    /// The reactor ends.
    pub(super) fn leave(&self) {
        if let Ok(Some(reason)) = self.try_wait() {
            return self.exited(reason);
        }
        self.over(ExitReason::Left);
        if let Some(mut child) = self.child.take() {
            if self.kill_at_end {
                // It has ended, or nothing can be done.
                let _ = child.kill();
            }
            reaper::bury(child);
        }
        self.end_if_over();
    }
    fn pipe_lost(&self, fd: RawFd) {
        self.open.set(self.open.get().saturating_sub(1));
        if self.on_terminal {
            drop(self.terminal.take());
        }
        self.tell(Event::Lost(fd));
        self.end_if_over();
    }
    fn end_if_over(&self) {
        let Some(reason) = self.reason.get() else { return };
        if self.open.get() > 0 || self.ended.replace(true) {
            return;
        }
        self.tell(Event::Ended(reason));
    }
    /// Its protocol has been told all there is.
    fn finish(&self, reason: ExitReason) {
        let Some(name) = self.name.take() else { return };
        let ourselves = name.forget();
        let protocol = self.protocol.take();
        if let Err(failure) = failure::catch(move || drop(protocol)) {
            failure::report("the destructor of a process's protocol", &failure);
        }
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for promise in waiting {
            self.core.guard("a process's Deferred", || promise.callback(reason));
        }
        drop(ourselves);
    }

    // ---- its protocol ----

    /// Calls the protocol; when it runs, as soon as it has returned.
    fn tell(&self, event: Event<'_>) {
        let Some(mut protocol) = self.protocol.borrow_mut().take() else {
            self.backlog.borrow_mut().push_back(event.into_owned());
            return;
        };
        if !self.made.replace(true) && !matches!(event, Event::Made) {
            self.call(&mut protocol, Event::Made);
        }
        let mut ended = matches!(event, Event::Ended(_));
        self.call(&mut protocol, event);
        loop {
            let next = self.backlog.borrow_mut().pop_front();
            let Some(event) = next else { break };
            ended |= matches!(event, Event::Ended(_));
            self.call(&mut protocol, event);
        }
        *self.protocol.borrow_mut() = Some(protocol);
        if ended && let Some(reason) = self.reason.get() {
            self.finish(reason);
        }
    }
    fn call(&self, protocol: &mut Box<dyn ProcessProtocol>, event: Event<'_>) {
        let Some(name) = self.name.get() else { return };
        let closes = matches!(event, Event::Made | Event::Data(..));
        let outcome = failure::catch(|| match event {
            Event::Made => protocol.connection_made(name),
            Event::Data(fd, data) => protocol.child_data_received(name, fd, &data),
            Event::Lost(fd) => protocol.child_connection_lost(name, fd),
            Event::Exited(reason) => protocol.process_exited(name, &reason),
            Event::Ended(reason) => protocol.process_ended(name, &reason),
        });
        if let Err(failure) = outcome {
            failure::report(format_args!("the protocol of process {}", self.id), &failure);
            if closes {
                self.abort_pipes();
            }
        }
    }
}

/// The protocol of one pipe.
struct Ear {
    process: ProcessRef,
    fd: RawFd,
}
impl Protocol for Ear {
    fn data_received(&mut self, _transport: TransportRef, data: &[u8]) {
        if let Some(process) = self.process.find() {
            process.tell(Event::Data(self.fd, Cow::Borrowed(data)));
        }
    }
    fn connection_lost(&mut self, _transport: TransportRef, _reason: &ConnectionClosed) {
        if let Some(process) = self.process.find() {
            process.pipe_lost(self.fd);
        }
    }
}
