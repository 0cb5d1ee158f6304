//! What tests of green threads share: a guard against hanging, the log of the calling thread, panics as text.
#![allow(dead_code)] // each test file uses a part
use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Once;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;
use twistlet::Reactor;
use twistlet::green::join_reactor;

/// When to give up on a test that hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a test on an OS thread of its own, its end included, and fails when that does not come.
#[track_caller]
pub fn guarded<R: Send + 'static>(test: impl FnOnce() -> R + Send + 'static) -> R {
    install_logger();
    let (done, ended) = channel();
    let (gone, thread_ended) = channel::<()>();
    let thread = std::thread::spawn(move || {
        thread_local!(static GONE: RefCell<Option<std::sync::mpsc::Sender<()>>> = const { RefCell::new(None) });
        GONE.set(Some(gone));
        let outcome = catch_unwind(AssertUnwindSafe(test));
        let _ = done.send(outcome);
    });
    let outcome = match ended.recv_timeout(PATIENCE) {
        Ok(outcome) => outcome,
        Err(_) => panic!("the test hangs"),
    };
    match thread_ended.recv_timeout(PATIENCE) {
        Err(RecvTimeoutError::Disconnected) => {}
        _ => panic!("the thread does not end"),
    }
    drop(thread.join());
    outcome.unwrap_or_else(|payload| resume_unwind(payload))
}

/// As `guarded`, for a test that fails with a failure.
#[track_caller]
pub fn passes(test: impl FnOnce() -> twistlet::Result + Send + 'static) {
    if let Err(failure) = guarded(test) {
        panic!("{failure}");
    }
}

/// Runs a test in join mode: `start` on the main loop's greenlet before the loop runs, then the loop until it is stopped.
#[track_caller]
pub fn joined(start: impl FnOnce(Reactor) + Send + 'static) {
    guarded(move || {
        let reactor = Reactor::new().expect("a reactor");
        join_reactor(&reactor).expect("joined");
        start(reactor);
        reactor.run().expect("it runs");
    });
}

/// Runs `check` in a callback of the main loop, and gives what it returned.
#[track_caller]
pub fn in_callback<R: Send + 'static>(check: impl FnOnce() -> R + Send + 'static) -> R {
    guarded(move || {
        let reactor = Reactor::new().expect("a reactor");
        join_reactor(&reactor).expect("joined");
        let result = Rc::new(RefCell::new(None));
        let slot = result.clone();
        reactor.call_later(Duration::ZERO, move || {
            *slot.borrow_mut() = Some(catch_unwind(AssertUnwindSafe(check)));
            reactor.stop()
        });
        reactor.run().expect("it runs");
        let outcome = result.borrow_mut().take().expect("the callback was called");
        outcome.unwrap_or_else(|payload| resume_unwind(payload))
    })
}

/// What `f` panics with.
#[track_caller]
pub fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("it did not panic"),
        Err(payload) => text(&*payload),
    }
}
pub fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no text".to_owned())
}

/// Pushes words; shows the order things happened in.
#[derive(Clone, Default)]
pub struct Trace(Rc<RefCell<Vec<String>>>);
impl Trace {
    pub fn new() -> Self {
        Trace::default()
    }
    pub fn note(&self, what: impl ToString) {
        self.0.borrow_mut().push(what.to_string());
    }
    /// What was noted so far, and forgotten with this.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut())
    }
    /// Notes `what` when dropped.
    pub fn on_drop(&self, what: &'static str) -> impl Drop + use<> {
        struct Noted(Trace, &'static str);
        impl Drop for Noted {
            fn drop(&mut self) {
                self.0.note(self.1);
            }
        }
        Noted(self.clone(), what)
    }
}

thread_local! {
    static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}
struct Logger;
impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        if record.level() <= log::Level::Warn {
            let line = record.args().to_string();
            let _ = LOG.try_with(|log| log.borrow_mut().push(line));
        }
    }
    fn flush(&self) {}
}
fn install_logger() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Logger).expect("the only logger");
        log::set_max_level(log::LevelFilter::Debug);
    });
}
/// The warnings and errors this thread has logged since it was asked last.
pub fn logged() -> Vec<String> {
    LOG.with(|log| std::mem::take(&mut *log.borrow_mut()))
}
