//! A blocking call on the reactor's thread pool, while only the calling green thread waits.
//!
//! Used by `fs` and `io`. What must never happen here: the loop held while anybody else could run; a result lost that nobody
//! was interrupted for.
use crate::error::ReactorError;
use crate::failure::Failure;
use crate::green::block_on;
use crate::green::hub::Hub;
use crate::reactor::{Core, Reactor};
use std::fmt;
use std::io;

/// Calls `f` on a thread of the pool and waits for it. Interrupted, the green thread leaves at once, `f` runs to its end all
/// the same, and what it returns is dropped.
///
/// Where nobody can be held up it is called right here: on a thread without a reactor, or whose reactor has ended; and in a
/// destructor that runs in an unwinding, which cannot wait: a buffer is better written late than never.
///
/// # Errors
/// Those of `f`; of starting a thread; of waiting.
#[track_caller]
pub(in crate::green) fn off_loop<T: Send + 'static>(
    f: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    if std::thread::panicking() || Core::current().is_none() {
        return f();
    }
    match Hub::current() {
        Some(hub) if !hub.is_stopped() => {
            // A panic in it is a failure, as ever.
            let called = Reactor::of(hub.core()).defer_to_thread(move || Ok::<_, Failure>(f()));
            block_on(called)?
        }
        Some(_) => f(),
        None => Err(Failure::from(ReactorError::Stopped).into()),
    }
}

/// What `write!` is to write, for one trip: its pieces would be one each.
///
/// # Errors
/// As std has it, when a `Display` fails.
pub(in crate::green) fn formatted(arguments: fmt::Arguments<'_>) -> io::Result<Vec<u8>> {
    let mut text = String::new();
    match fmt::write(&mut text, arguments) {
        Ok(()) => Ok(text.into_bytes()),
        Err(_) => Err(io::Error::other("formatter error")),
    }
}
