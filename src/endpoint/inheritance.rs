//! What a process hands to its successor, which it starts itself: listening sockets by name, those of systemd, and the pipe by
//! which the successor says that it is up. Written by `service::successor`, claimed here by the successor when it first asks.
//!
//! All is said in two variables of the environment: whose they are, as systemd's `LISTEN_PID` does, but by the number of the
//! parent, which is the one known before the child is; and a line for each descriptor. What must never happen here: the
//! variables of another process believed.
use crate::sys::inherited;
use std::env;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

const PREDECESSOR: &str = "TWISTLET_PREDECESSOR";
const HANDOVER: &str = "TWISTLET_HANDOVER";

/// What a descriptor is to the successor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// The end of the pipe to write to.
    Ready,
    /// Listens, under the name by which the program asks for it.
    Listener,
    /// Listens, and came from systemd under that name.
    Activated,
}
const ROLES: [(Role, &str); 3] = [(Role::Ready, "ready"), (Role::Listener, "listener"), (Role::Activated, "activated")];

/// Adds to `command` what its child is to have.
pub(crate) fn bequeath(command: &mut Command, heirlooms: Vec<(Role, String, OwnedFd)>) {
    let mut lines = String::new();
    for (role, name, descriptor) in &heirlooms {
        let word = ROLES.iter().find(|(known, _)| known == role).map_or("", |(_, word)| word);
        lines.push_str(&format!("{word} {} {}\n", descriptor.as_raw_fd(), name.replace('\n', " ")));
    }
    command.env(PREDECESSOR, std::process::id().to_string()).env(HANDOVER, lines);
    for systemds in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
        command.env_remove(systemds);
    }
    inherited::keep_open(command, heirlooms.into_iter().map(|(_, _, descriptor)| descriptor).collect());
}

/// What is left of what this process was given.
fn estate() -> MutexGuard<'static, Vec<(Role, String, OwnedFd)>> {
    static ESTATE: OnceLock<Mutex<Vec<(Role, String, OwnedFd)>>> = OnceLock::new();
    let estate = ESTATE.get_or_init(|| {
        let parent = std::os::unix::process::parent_id();
        let lines = parse(parent, env::var(PREDECESSOR).ok().as_deref(), env::var(HANDOVER).ok().as_deref());
        let claimed = lines.into_iter().filter_map(|(role, name, number)| match inherited::claim(number) {
            Ok(descriptor) => Some((role, name, descriptor)),
            Err(error) => {
                log::warn!(target: "twistlet", "descriptor {number} ({name}) of {HANDOVER} cannot be taken: {error}");
                None
            }
        });
        Mutex::new(claimed.collect())
    });
    estate.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Claims everything, so that children of this process do not have it too.
pub(crate) fn claim() {
    drop(estate());
}
/// The first of that role, and of that name where it matters.
pub(crate) fn take(role: Role, name: &str) -> Option<OwnedFd> {
    let mut estate = estate();
    let place = estate.iter().position(|(of, called, _)| *of == role && called == name)?;
    Some(estate.remove(place).2)
}
/// All of that role, in their order.
pub(crate) fn take_all(role: Role) -> Vec<(String, OwnedFd)> {
    let mut estate = estate();
    let all = std::mem::take(&mut *estate);
    let (wanted, left) = all.into_iter().partition(|(of, _, _)| *of == role);
    *estate = left;
    let wanted: Vec<_> = wanted;
    wanted.into_iter().map(|(_, name, descriptor)| (name, descriptor)).collect()
}

fn parse(parent: u32, predecessor: Option<&str>, lines: Option<&str>) -> Vec<(Role, String, RawFd)> {
    if predecessor.and_then(|pid| pid.parse().ok()) != Some(parent) {
        return Vec::new();
    }
    let line = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let word = words.next()?;
        let (role, _) = *ROLES.iter().find(|(_, known)| *known == word)?;
        let number = words.next()?.parse().ok()?;
        Some((role, words.next()?.to_owned(), number))
    };
    lines.unwrap_or_default().lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::{Role, parse};

    #[test]
    fn a_successor_reads_what_it_was_given() {
        let lines = "ready 9 \nlistener 7 127.0.0.1:80\nactivated 8 a name\nnonsense\nlistener x y\nother 5 z\n";
        let expected = [
            (Role::Ready, String::new(), 9),
            (Role::Listener, "127.0.0.1:80".to_owned(), 7),
            (Role::Activated, "a name".to_owned(), 8),
        ];
        assert_eq!(parse(41, Some("41"), Some(lines)), expected);
        // A grandchild has the variables too.
        assert_eq!(parse(42, Some("41"), Some(lines)), []);
        assert_eq!(parse(42, None, Some(lines)), []);
        assert_eq!(parse(42, Some("42"), None), []);
    }
}
