//! Who hears of a child's end: a pidfd in the loop, or a thread that waits where there is none; and a thread for each child that
//! outlives its reactor.
//!
//! What must never happen here: a wait on the loop's thread; a child that nobody will wait for.
use super::child::Process;
use super::handle::ProcessRef;
use crate::reactor::driver::Readiness;
use crate::reactor::{About, Core, Kind, Reactor, Source};
use crate::sys;
use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::process::Child;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A thread that only waits.
const STACK: usize = 64 * 1024;
/// When a child has ended but its status is not to be had yet: somebody traces it.
const AGAIN: Duration = Duration::from_millis(50);

/// Children for which not even a thread could be had: looked at when the next is started.
static LEFT: Mutex<Vec<Child>> = Mutex::new(Vec::new());

#[cfg(test)]
thread_local! {
    /// Unit tests do without pidfds.
    pub(super) static WITHOUT: Cell<bool> = const { Cell::new(false) };
}

/// The loop's watch of one child. It is a source also without a descriptor, so that the reactor's end comes to it.
pub(super) struct Watch {
    process: Cell<ProcessRef>,
    id: u32,
    fd: Option<OwnedFd>,
    token: usize,
}

impl Watch {
    /// Of a child that has just been started. Fails never: where there is no pidfd, a thread waits.
    pub(super) fn begin(core: &Rc<Core>, process: ProcessRef, id: u32) -> io::Result<Rc<Watch>> {
        let token = core.reserve();
        let fd = open(id).and_then(|fd| {
            core.driver().register_fd(fd.as_raw_fd(), token)?;
            Ok(fd)
        });
        let fd = fd.ok();
        if fd.is_none()
            && let Err(error) = wait_on_thread(core, process, id)
        {
            drop(core.remove_source(token));
            return Err(error);
        }
        let watch = Rc::new(Watch { process: Cell::new(process), id, fd, token });
        core.install_source(token, watch.clone());
        Ok(watch)
    }
    pub(super) fn end(&self, core: &Rc<Core>) {
        if let Some(fd) = &self.fd {
            let _ = core.driver().deregister_fd(fd.as_raw_fd());
        }
        drop(core.remove_source(self.token));
    }
    /// Asks again a little later.
    pub(super) fn again(&self, core: &Rc<Core>) {
        let process = self.process.get();
        core.schedule(AGAIN, Box::new(move || look(process)));
    }
    /// To a child that has not been waited for.
    pub(super) fn signal(&self, signal: i32) -> io::Result<()> {
        let sent = match &self.fd {
            Some(fd) => sys::pidfd::pidfd_send_signal(fd.as_fd(), signal),
            None => Err(io::ErrorKind::Unsupported.into()),
        };
        match sent {
            Err(error) if error.kind() == io::ErrorKind::Unsupported || error.raw_os_error() == Some(libc::ENOSYS) => {
                sys::pidfd::kill(self.id, signal)
            }
            sent => sent,
        }
    }
}
fn open(id: u32) -> io::Result<OwnedFd> {
    #[cfg(test)]
    if WITHOUT.get() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    sys::pidfd_open(id)
}
fn look(process: ProcessRef) {
    if let Some(process) = process.find() {
        process.look();
    }
}

impl Source for Watch {
    fn ready(&self, _core: &Rc<Core>, _readiness: Readiness) {
        look(self.process.get());
    }
    fn shut(&self, core: &Rc<Core>) {
        match self.process.get().find() {
            Some(process) => process.leave(),
            None => self.end(core),
        }
    }
    fn kind(&self) -> Kind {
        Kind::Child
    }
    fn fd(&self) -> Option<RawFd> {
        self.fd.as_ref().map(AsRawFd::as_raw_fd)
    }
    fn about(&self) -> About {
        About { detail: format!("process {}", self.id), ..About::default() }
    }
}

/// Tells the loop of the end, from a thread that leaves the child to be reaped there.
fn wait_on_thread(core: &Rc<Core>, process: ProcessRef, id: u32) -> io::Result<()> {
    let (remote, place) = (Reactor::of(core).remote(), process.place());
    let wait = move || {
        // Fails when somebody else has reaped it, and then the loop finds that out.
        let _ = sys::pidfd::wait_ended(id);
        // Fails when the reactor has ended, and then another thread has the child.
        let _ = remote.call_from_thread(move |_| look(ProcessRef::at(place)));
    };
    std::thread::Builder::new().name(format!("wait for {id}")).stack_size(STACK).spawn(wait).map(drop)
}

/// Takes over a child that nobody will ask about any more: it is reaped when it ends.
pub(super) fn bury(mut child: Child) {
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    let name = format!("wait for {}", child.id());
    let slot = std::sync::Arc::new(Mutex::new(Some(child)));
    let waits = slot.clone();
    let wait = move || {
        let child = waits.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut child) = child {
            let _ = child.wait();
        }
    };
    if std::thread::Builder::new().name(name).stack_size(STACK).spawn(wait).is_err()
        && let Some(child) = slot.lock().unwrap_or_else(PoisonError::into_inner).take()
    {
        LEFT.lock().unwrap_or_else(PoisonError::into_inner).push(child);
    }
}
/// Reaps those that `bury` could do nothing for.
pub(super) fn sweep() {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner).retain_mut(|child| matches!(child.try_wait(), Ok(None)));
}

impl Process {
    /// It may have ended.
    fn look(&self) {
        let Some(watch) = self.watch() else { return };
        match self.try_wait() {
            Ok(Some(reason)) => self.exited(reason),
            Ok(None) => watch.again(self.core()),
            Err(_) => self.exited(super::ExitReason::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::process::{Command, ExitReason, ProcessProtocol, Signal};
    use std::cell::RefCell;
    use std::sync::atomic::{AtomicUsize, Ordering};

    type Log = Rc<RefCell<Vec<String>>>;
    struct Probe(Log, Reactor);
    impl ProcessProtocol for Probe {
        fn process_exited(&mut self, process: ProcessRef, reason: &ExitReason) {
            assert!(process.signal(Signal::TERM).is_err());
            self.0.borrow_mut().push(format!("exited: {reason}"));
        }
        fn process_ended(&mut self, _: ProcessRef, reason: &ExitReason) {
            self.0.borrow_mut().push(format!("ended: {reason}"));
            let _ = self.1.stop();
        }
    }
    fn run(start: impl FnOnce(Reactor, Log)) -> Vec<String> {
        let log = Log::default();
        let reactor = Reactor::new().expect("a reactor");
        WITHOUT.set(true);
        start(reactor, log.clone());
        reactor.run().expect("it runs");
        WITHOUT.set(false);
        log.take()
    }

    /// Where the system has no descriptors for processes: PRC-4, PRC-6.
    #[test]
    fn without_pidfds_a_thread_tells_of_the_end() {
        let told = run(|reactor, log| {
            let exits = Command::new("sh").args(["-c", "exit 3"]);
            reactor.spawn_process(Probe(log, reactor), exits).expect("it starts");
        });
        assert_eq!(told, ["exited: the process exited with code 3", "ended: the process exited with code 3"]);
        let told = run(|reactor, log| {
            let process = reactor.spawn_process(Probe(log, reactor), "cat").expect("it starts");
            process.signal(Signal::TERM).expect("it runs");
        });
        assert_eq!(told[0], "exited: the process was ended by SIGTERM");
    }
    #[test]
    fn without_pidfds_a_child_that_is_left_is_still_reaped() {
        static ID: AtomicUsize = AtomicUsize::new(0);
        let told = run(|reactor, log| {
            let process = reactor.spawn_process(Probe(log, reactor), Command::new("cat")).expect("it starts");
            ID.store(process.id().map_or(0, |id| id as usize), Ordering::Relaxed);
            reactor.call_soon(move || reactor.stop());
        });
        assert_eq!(told, ["ended: the process still ran when the reactor ended"]);
        let path = format!("/proc/{}", ID.load(Ordering::Relaxed));
        let since = std::time::Instant::now();
        // `cat` has found the end of its input.
        while std::path::Path::new(&path).exists() {
            assert!(since.elapsed() < Duration::from_secs(5), "{path} is still there");
            std::thread::yield_now();
        }
    }
}
