//! A console into the running program: one line, one command, over TCP or a UNIX socket (Eventlet's `backdoor_server`).
//!
//! Each connection has a green thread, so that a command, also one of the program's own, may wait. `talk` is the
//! conversation, `commands` what it understands. There is no password: a UNIX socket is for its user alone, TCP is bound to
//! the loopback interface unless one says otherwise. What must never happen here: a client that holds the loop or takes
//! memory without bound.
mod commands;
mod talk;

use crate::deferred::IntoDeferred;
use crate::error::CannotListen;
use crate::failure::Result;
use crate::green::transport::SpawnFactory;
use crate::protocols::codec::Lines;
use crate::reactor::Reactor;
use crate::transport::{ListenAt, ListeningPort};
use commands::{Command, builtin};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::rc::Rc;

/// The longest command line in bytes.
const LONGEST: usize = 1024;
/// So many clients at a time, unless the program says otherwise.
const CLIENTS: usize = 16;

/// A console at a TCP address, with the built-in commands: as [`Backdoor::serve_tcp`].
///
/// # Errors
/// As there.
pub fn serve_tcp(at: impl Into<ListenAt>) -> Result<ListeningPort> {
    Backdoor::new().serve_tcp(at)
}
/// A console at a path of the file system, with the built-in commands: as [`Backdoor::serve_unix`].
///
/// # Errors
/// As there.
pub fn serve_unix(path: impl AsRef<Path>) -> Result<ListeningPort> {
    Backdoor::new().serve_unix(path)
}

/// A console with commands of the program's own. Say `help` to it for what it knows: `list`, `tree`, `timers`,
/// `descriptors`, `stats`, `kill ID`, `dump`, `watchdog on MS`, `watchdog off`, `quit`.
///
/// ```
/// use std::io::{Read, Write};
/// use twistlet::green::backdoor::Backdoor;
/// use twistlet::green::net::TcpStream;
///
/// let port = Backdoor::new().command("add", "A B: their sum", |args, out| {
///     let sum: i64 = args.iter().filter_map(|arg| arg.parse::<i64>().ok()).sum();
///     out.push_str(&sum.to_string());
/// });
/// let port = port.serve_tcp("127.0.0.1:0")?;
///
/// let mut client = TcpStream::connect(port.address().socket().expect("an address"))?;
/// client.write_all(b"add 20 22\nquit\n")?;
/// let mut told = String::new();
/// client.read_to_string(&mut told)?;
/// assert!(told.contains("42"));
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[must_use = "a backdoor is open once it serves"]
pub struct Backdoor {
    commands: BTreeMap<String, Command>,
    remote: bool,
    clients: usize,
}

impl Backdoor {
    /// With the built-in commands.
    pub fn new() -> Self {
        Backdoor { commands: builtin(), remote: false, clients: CLIENTS }
    }
    /// Adds a command, or replaces one, a built-in one too. `run` is given the words after the name, and writes what the
    /// client gets; it runs in the green thread of the connection, so it may wait, and if it panics the client is told.
    pub fn command<R: IntoDeferred + 'static>(
        mut self,
        name: impl Into<String>,
        help: impl Into<String>,
        run: impl Fn(&[&str], &mut String) -> R + 'static,
    ) -> Self {
        self.commands.insert(name.into(), Command::of_program(help.into(), run));
        self
    }
    /// Also serves addresses that other machines reach. Whoever reaches them may kill green threads.
    pub fn allow_remote(mut self) -> Self {
        self.remote = true;
        self
    }
    /// So many clients at a time are served, 16 by default; the next is told so and left.
    pub fn max_clients(mut self, clients: usize) -> Self {
        self.clients = clients;
        self
    }
    /// Serves on this thread's reactor, until that ends or the port is told to stop. A bare port number means that port of
    /// the loopback interface. Never waits.
    ///
    /// On one machine every user can connect; [`serve_unix`](Backdoor::serve_unix) keeps others out.
    ///
    /// # Errors
    /// [`CannotListen`] for an address that is taken, and, of kind `PermissionDenied`, for one that other machines may reach
    /// without [`allow_remote`](Backdoor::allow_remote).
    pub fn serve_tcp(self, at: impl Into<ListenAt>) -> Result<ListeningPort> {
        let at = at.into();
        let at = if self.remote { at } else { at.at_home() };
        if !self.remote && !at.is_local() {
            let text = "a backdoor that other machines may reach has to be asked for, by allow_remote()";
            return Err(CannotListen::new(at.to_string(), io::Error::new(io::ErrorKind::PermissionDenied, text)).into());
        }
        self.serve(at)
    }
    /// As [`serve_tcp`](Backdoor::serve_tcp), at a path of the file system to which this user alone can connect (mode
    /// 0600). The file is removed when it ends.
    ///
    /// # Errors
    /// [`CannotListen`].
    pub fn serve_unix(self, path: impl AsRef<Path>) -> Result<ListeningPort> {
        self.serve(ListenAt::private_unix(path.as_ref()))
    }
    fn serve(self, at: ListenAt) -> Result<ListeningPort> {
        let reactor = Reactor::current();
        let house = Rc::new(House { commands: self.commands, clients: self.clients, here: Cell::new(0) });
        let lines = || Lines::new().delimiter(b"\n").max_length(LONGEST);
        let factory = SpawnFactory::framed(lines, move |conn| talk::talk(&house, &conn));
        reactor.listen_tcp(at, factory)
    }
}
impl Default for Backdoor {
    fn default() -> Self {
        Backdoor::new()
    }
}
impl fmt::Debug for Backdoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backdoor").field("commands", &self.commands.keys()).field("remote", &self.remote).finish()
    }
}

/// What the connections of one backdoor share.
struct House {
    commands: BTreeMap<String, Command>,
    /// At most, and now.
    clients: usize,
    here: Cell<usize>,
}
