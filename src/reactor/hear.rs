//! A signal that calls a hook in the loop, and wakes nobody who waits. For reports on request.
use super::core::Core;
use super::driver::Readiness;
use super::pulse::Kind;
use super::sources::Source;
use signal_hook::{SigId, low_level};
use std::cell::Cell;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

struct Heard {
    ear: UnixStream,
    token: usize,
    handler: Cell<Option<SigId>>,
    hook: Box<dyn Fn()>,
}

impl Source for Heard {
    fn ready(&self, core: &Rc<Core>, _readiness: Readiness) {
        let mut bytes = [0; 16];
        let mut came = false;
        while matches!((&self.ear).read(&mut bytes), Ok(1..)) {
            came = true;
        }
        if came {
            core.guard("the hook of a signal", &self.hook);
        }
    }
    fn shut(&self, core: &Rc<Core>) {
        if let Some(handler) = self.handler.take() {
            low_level::unregister(handler);
            let _ = core.driver().deregister_fd(self.ear.as_raw_fd());
            drop(core.remove_source(self.token));
        }
    }
    fn is_internal(&self) -> bool {
        true
    }
    fn kind(&self) -> Kind {
        Kind::Signals
    }
    fn fd(&self) -> Option<RawFd> {
        Some(self.ear.as_raw_fd())
    }
}
impl Drop for Heard {
    fn drop(&mut self) {
        if let Some(handler) = self.handler.take() {
            low_level::unregister(handler);
        }
    }
}

impl Core {
    /// Calls `hook` in the loop whenever `signal` has come, until the reactor ends.
    pub(crate) fn on_signal(self: &Rc<Self>, signal: i32, hook: Box<dyn Fn()>) -> io::Result<()> {
        if signal_hook::consts::FORBIDDEN.contains(&signal) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "this signal cannot be caught"));
        }
        let (ear, mouth) = UnixStream::pair()?;
        ear.set_nonblocking(true)?;
        let token = self.reserve();
        let registered = self.driver().register_fd(ear.as_raw_fd(), token);
        let handler = registered.and_then(|()| low_level::pipe::register(signal, mouth));
        match handler {
            Ok(handler) => {
                let heard = Heard { ear, token, handler: Cell::new(Some(handler)), hook };
                self.install_source(token, Rc::new(heard));
                Ok(())
            }
            Err(error) => {
                let _ = self.driver().deregister_fd(ear.as_raw_fd());
                drop(self.remove_source(token));
                Err(error)
            }
        }
    }
}
