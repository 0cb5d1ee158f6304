//! For tests of the reactor: what this thread has logged, and a dog that bites when a test hangs.
#![allow(dead_code, reason = "each test takes what it needs")]
use std::cell::RefCell;
use std::sync::mpsc;
use std::time::Duration;

thread_local! {
    static LOGGED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}
struct Logger;
impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        if record.level() == log::Level::Error {
            let line = record.args().to_string();
            let _ = LOGGED.try_with(|logged| logged.borrow_mut().push(line));
        }
    }
    fn flush(&self) {}
}

/// What this thread has logged at error level since it was asked last.
pub fn logged() -> Vec<String> {
    LOGGED.take()
}
/// Whether one line was logged, with all of `words` in it.
#[track_caller]
pub fn assert_logged_once(words: &[&str]) {
    let lines = logged();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    for word in words {
        assert!(lines[0].contains(word), "no {word:?} in {lines:#?}");
    }
}

/// Collects what is logged, and ends the process when the test takes longer than a minute.
pub struct Dog(#[allow(dead_code, reason = "dropped, it tells the thread")] mpsc::Sender<()>);
pub fn dog() -> Dog {
    static LOGGER: Logger = Logger;
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(log::LevelFilter::Trace);
    logged();
    let (alive, wait) = mpsc::channel();
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    std::thread::spawn(move || {
        if wait.recv_timeout(Duration::from_secs(60)) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("{name} hangs");
            std::process::abort();
        }
    });
    Dog(alive)
}

/// A list that callbacks write to.
#[derive(Clone, Default)]
pub struct Notes(std::rc::Rc<RefCell<Vec<String>>>);
impl Notes {
    pub fn add(&self, note: impl ToString) {
        self.0.borrow_mut().push(note.to_string());
    }
    /// A callback that adds `note`.
    pub fn adds(&self, note: &str) -> impl FnOnce() + 'static + use<> {
        let (notes, note) = (self.clone(), note.to_owned());
        move || notes.add(note)
    }
    pub fn all(&self) -> String {
        self.0.borrow().join(" ")
    }
}

/// Calls a function when it is dropped.
pub struct OnDrop<F: FnMut()>(pub F);
impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
