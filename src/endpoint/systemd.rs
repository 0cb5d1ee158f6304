//! Sockets that systemd, or any other supervisor that speaks its protocol, hands over to the process that it starts
//! (`LISTEN_FDS`; Twisted's `systemd:` endpoints).
//!
//! They are the process's, so they are taken once, by whatever thread asks first, and kept here until an endpoint wants one.
use crate::sys::descriptor::take_inherited;
use std::fmt;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The first descriptor that is handed over.
const FIRST: RawFd = 3;
/// Nobody hands over more.
const MOST: usize = 1024;
/// What one without a name is called.
const NAMELESS: &str = "unknown";

/// Which of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Which {
    Index(usize),
    Name(String),
}
impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Which::Index(index) => write!(f, "number {index}"),
            Which::Name(name) => write!(f, "{name:?}"),
        }
    }
}

/// What came of a wish for one.
pub(super) enum Taken {
    It(OwnedFd),
    Used,
    Unfit,
    Missing,
}

struct Handed {
    name: String,
    /// Until an endpoint has it.
    socket: Option<OwnedFd>,
}
/// As the environment says at the first question; what it says later is not heard.
static HANDED: Mutex<Option<Vec<Handed>>> = Mutex::new(None);

fn handed() -> MutexGuard<'static, Option<Vec<Handed>>> {
    HANDED.lock().unwrap_or_else(PoisonError::into_inner)
}
fn read() -> Vec<Handed> {
    let variable = |name| std::env::var(name).ok();
    let names = names(
        variable("LISTEN_PID").as_deref(),
        variable("LISTEN_FDS").as_deref(),
        variable("LISTEN_FDNAMES").as_deref(),
        std::process::id(),
    );
    names.into_iter().zip(FIRST..).map(|(name, number)| Handed { name, socket: take_inherited(number) }).collect()
}
/// The names of those that were handed over to process `own`; none where the variables say nothing that makes sense.
fn names(pid: Option<&str>, count: Option<&str>, names: Option<&str>, own: u32) -> Vec<String> {
    let count = count.and_then(|count| count.parse().ok()).filter(|count| *count <= MOST).unwrap_or(0);
    if pid.and_then(|pid| pid.parse().ok()) != Some(own) || count == 0 {
        return Vec::new();
    }
    let Some(names) = names else { return vec![NAMELESS.to_owned(); count] };
    let names: Vec<String> = names.split(':').map(str::to_owned).collect();
    if names.len() == count { names } else { Vec::new() }
}

/// The names of the sockets that systemd has handed over to this process, in their order, those included that an endpoint has
/// taken since. None when this process was not started that way: `LISTEN_PID` must be its own, `LISTEN_FDS` the number of the
/// sockets, from descriptor 3 on, and `LISTEN_FDNAMES`, if it is there, as many names.
///
/// The first question, by this or by an [endpoint](super::AdoptedServerEndpoint::systemd), takes all of them and has them closed
/// at exec, so that child processes do not get them too. The environment stays as it is, since changing it is unsafe in a
/// program with threads; children find a `LISTEN_PID` in it that is not theirs.
pub fn handed_over() -> Vec<String> {
    let mut handed = handed();
    handed.get_or_insert_with(read).iter().map(|socket| socket.name.clone()).collect()
}

/// One of them, if it fits; no other is taken in its place.
pub(super) fn take(which: &Which, fits: impl FnOnce(&OwnedFd) -> bool) -> Taken {
    let mut handed = handed();
    let all = handed.get_or_insert_with(read);
    let found = match which {
        Which::Index(index) => all.get_mut(*index),
        Which::Name(name) => all.iter_mut().find(|socket| socket.name == *name),
    };
    let Some(found) = found else { return Taken::Missing };
    match &found.socket {
        Some(socket) if !fits(socket) => Taken::Unfit,
        _ => found.socket.take().map_or(Taken::Used, Taken::It),
    }
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn variables_that_make_no_sense_hand_nothing_over() {
        // SYD-1
        let of = |pid, count, list| names(pid, count, list, 77);
        assert_eq!(of(Some("77"), Some("2"), Some("a:b")), ["a", "b"]);
        assert_eq!(of(Some("77"), Some("1"), Some("")), [""]);
        assert_eq!(of(Some("77"), Some("2"), None), ["unknown", "unknown"]);
        for (pid, count, list) in [
            (None, Some("1"), Some("a")),
            (Some("78"), Some("1"), Some("a")),
            (Some("x"), Some("1"), Some("a")),
            (Some("77"), None, Some("a")),
            (Some("77"), Some("0"), Some("")),
            (Some("77"), Some("-1"), Some("a")),
            (Some("77"), Some("1x"), Some("a")),
            (Some("77"), Some("2"), Some("a")),
            (Some("77"), Some("1"), Some("a:b")),
            (Some("77"), Some("99999999"), None),
        ] {
            assert!(of(pid, count, list).is_empty(), "{pid:?} {count:?} {list:?}");
        }
    }
}
