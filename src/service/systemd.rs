//! Telling systemd how the program does (`sd_notify(3)`), where it wants to know: a datagram to the socket it names.
//!
//! What must never happen here: a wait. Where nobody listens, nothing is sent.
use crate::sys::monotonic::monotonic;
use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Who is told that the program is ready, is stopping, is alive. [`run_application`](super::run_application) tells of these
/// itself; a program has one of its own for its status.
///
/// ```
/// use twistlet::service::systemd::Notifier;
///
/// // Not under systemd, or with another `Type=` than `notify`: nobody wants to know.
/// if let Some(systemd) = Notifier::from_environment() {
///     systemd.status("reading the journal")?;
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Notifier {
    socket: UnixDatagram,
    to: SocketAddr,
}

impl Notifier {
    /// Whom `NOTIFY_SOCKET` names; `None` without it, or when it names nothing that could be sent to.
    pub fn from_environment() -> Option<Self> {
        let address = env::var_os("NOTIFY_SOCKET")?;
        match Notifier::new(&address) {
            Ok(notifier) => Some(notifier),
            Err(error) => {
                log::warn!(target: "twistlet", "NOTIFY_SOCKET={} cannot be told anything: {error}", address.display());
                None
            }
        }
    }
    /// Who listens at a path, or, on Linux, at an abstract name (`@name`).
    ///
    /// # Errors
    /// The system's for a path that is too long, or when there is no descriptor left; `InvalidInput` for what is neither.
    pub fn new(address: impl AsRef<OsStr>) -> io::Result<Self> {
        let bytes = address.as_ref().as_bytes();
        let to = match bytes.first() {
            Some(b'/') => SocketAddr::from_pathname(OsStr::from_bytes(bytes))?,
            Some(b'@') => abstract_address(&bytes[1..])?,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor an abstract name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Notifier { socket, to })
    }
    /// Sends lines of `NAME=value`, as `sd_notify(3)` lists them.
    ///
    /// # Errors
    /// The system's; `WouldBlock` when the receiver is behind.
    pub fn send(&self, state: &str) -> io::Result<()> {
        self.socket.send_to_addr(state.as_bytes(), &self.to).map(drop)
    }
    /// Started: what waits for it may go on.
    ///
    /// # Errors
    /// As [`send`](Notifier::send).
    pub fn ready(&self) -> io::Result<()> {
        self.send("READY=1")
    }
    /// A line for people, as `systemctl status` shows it.
    ///
    /// # Errors
    /// As [`send`](Notifier::send).
    pub fn status(&self, text: &str) -> io::Result<()> {
        // A line end would begin another message.
        self.send(&format!("STATUS={}", text.replace(['\n', '\r'], " ")))
    }
    /// Reads its configuration anew; [`ready`](Notifier::ready) says when that is done.
    ///
    /// # Errors
    /// As [`send`](Notifier::send).
    pub fn reloading(&self) -> io::Result<()> {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic().as_micros()))
    }
    /// About to end.
    ///
    /// # Errors
    /// As [`send`](Notifier::send).
    pub fn stopping(&self) -> io::Result<()> {
        self.send("STOPPING=1")
    }
    /// Alive, for a service with `WatchdogSec=`: every [`watchdog_interval`], or it is taken for dead.
    ///
    /// # Errors
    /// As [`send`](Notifier::send).
    pub fn watchdog(&self) -> io::Result<()> {
        self.send("WATCHDOG=1")
    }
    /// Another process is the service from now on.
    ///
    /// # Errors
    /// As [`send`](Notifier::send).
    pub fn main_pid(&self, pid: u32) -> io::Result<()> {
        self.send(&format!("MAINPID={pid}"))
    }
}
impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier").field("to", &self.to).finish_non_exhaustive()
    }
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}
#[cfg(not(target_os = "linux"))]
fn abstract_address(_name: &[u8]) -> io::Result<SocketAddr> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "abstract names are Linux's"))
}

/// How often to say that the program is alive: half of what `WATCHDOG_USEC` allows. `None` when nobody asks this process.
pub fn watchdog_interval() -> Option<Duration> {
    let variable = |name| env::var(name).ok();
    interval(std::process::id(), variable("WATCHDOG_PID").as_deref(), variable("WATCHDOG_USEC").as_deref())
}

fn interval(own: u32, pid: Option<&str>, micros: Option<&str>) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    let micros: u64 = micros?.parse().ok()?;
    // Less than a millisecond is not kept anyway.
    (micros > 0).then(|| Duration::from_micros(micros / 2).max(Duration::from_millis(1)))
}

#[cfg(test)]
mod tests {
    use super::interval;
    use std::time::Duration;

    #[test]
    fn a_watchdog_is_fed_at_half_of_its_time_and_only_by_whom_it_watches() {
        assert_eq!(interval(7, Some("7"), Some("3000000")), Some(Duration::from_millis(1500)));
        assert_eq!(interval(7, None, Some("3000000")), Some(Duration::from_millis(1500)));
        assert_eq!(interval(7, Some("8"), Some("3000000")), None);
        for absurd in [None, Some("0"), Some("-1"), Some("soon")] {
            assert_eq!(interval(7, Some("7"), absurd), None);
        }
        assert_eq!(interval(7, None, Some("1")), Some(Duration::from_millis(1)));
    }
}
