//! `Network`: the script of a simulated network, its faults and its lines. The network itself is the reactor's in-memory driver.
use crate::address::Address;
use crate::reactor::driver::memory::Handle;
use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

/// A network in memory, as a test scripts it. Clones are the same network; it outlives the reactors that use it.
///
/// Without a script it is perfect: no latency, buffers of 64 KiB each way, every address at hand.
///
/// ```
/// use std::time::Duration;
/// use twistlet::testing::{self, Network};
///
/// let network = Network::new();
/// network.set_latency(Duration::from_millis(40));
/// network.limit_io(1); // every read and write moves one byte
/// testing::simulate_with(&network, |_reactor, _network| Ok(()))?;
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[derive(Clone)]
pub struct Network(pub(super) Handle);

/// How an accept fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AcceptFault {
    /// The connection was gone before it could be accepted (ECONNABORTED). It is lost.
    Aborted,
    /// The process has no descriptor left (EMFILE). The connection goes on waiting.
    NoDescriptors,
    /// The system has no descriptor left (ENFILE). The connection goes on waiting.
    SystemNoDescriptors,
    /// The system's error number. The connection goes on waiting.
    Os(i32),
}

impl Network {
    /// A network without faults.
    pub fn new() -> Self {
        Network(Handle::new())
    }
    /// While on, nobody can connect: attempts are refused.
    pub fn refuse_connects(&self, on: bool) {
        self.0.faults(|faults| faults.refuse = on);
    }
    /// The next `n` datagrams that are sent are lost.
    pub fn lose_datagrams(&self, n: usize) {
        self.0.faults(|faults| faults.lost_datagrams = n);
    }
    /// The next `n` datagrams that are sent arrive twice.
    pub fn double_datagrams(&self, n: usize) {
        self.0.faults(|faults| faults.doubled_datagrams = n);
    }
    /// While on, TCP connection attempts are never answered: they time out. Datagrams are lost.
    pub fn blackhole(&self, on: bool) {
        self.0.faults(|faults| faults.blackhole = on);
    }
    /// While on, TCP connection attempts wait until [`succeed_once`](Network::succeed_once) or
    /// [`fail_once`](Network::fail_once) decides (Twisted's `ConnectionCompleter`).
    ///
    /// ```
    /// use twistlet::protocols::{PullFactory, PullTransport, Raw};
    /// use twistlet::testing::simulate;
    /// use twistlet::ConnectError;
    ///
    /// simulate(|reactor, network| {
    ///     network.hold_connects(true);
    ///     let mut attempt = PullTransport::connect_tcp(reactor, "10.0.0.1:80", Raw);
    ///     let (reactor, network) = (*reactor, network.clone());
    ///     reactor.call_soon(move || {
    ///         assert_eq!(network.held()[0].to_string(), "10.0.0.1:80");
    ///         network.fail_once(std::io::ErrorKind::ConnectionRefused);
    ///     });
    ///     Ok(attempt.add_both(|outcome| Ok(assert!(outcome.unwrap_err().is::<ConnectError>()))))
    /// })?;
    /// # Ok::<(), twistlet::Failure>(())
    /// ```
    pub fn hold_connects(&self, on: bool) {
        self.0.faults(|faults| faults.hold = on);
    }
    /// Where the attempts lead that are held, the oldest first.
    pub fn held(&self) -> Vec<Address> {
        self.0.held()
    }
    /// Lets the oldest held attempt go its way: it connects if somebody listens there. `false`: none is held.
    pub fn succeed_once(&self) -> bool {
        self.0.let_go(None)
    }
    /// Fails the oldest held attempt, as the system would: refused, timed out, unreachable; what has no error number of its
    /// own here is refused. `false`: none is held.
    pub fn fail_once(&self, kind: ErrorKind) -> bool {
        self.0.let_go(Some(match kind {
            ErrorKind::TimedOut => libc::ETIMEDOUT,
            ErrorKind::HostUnreachable => libc::EHOSTUNREACH,
            ErrorKind::NetworkUnreachable => libc::ENETUNREACH,
            ErrorKind::ConnectionReset => libc::ECONNRESET,
            ErrorKind::PermissionDenied => libc::EACCES,
            _ => libc::ECONNREFUSED,
        }))
    }
    /// Where TCP connections were to go, all that were attempted on this network so far (Twisted's
    /// `MemoryReactor.tcpClients`).
    pub fn attempts(&self) -> Vec<Address> {
        self.0.attempts()
    }
    /// No read or write moves more than `n` bytes at once, and at least one; `usize::MAX` ends that.
    pub fn limit_io(&self, n: usize) {
        self.0.faults(|faults| faults.io_limit = (n < usize::MAX).then_some(n.max(1)));
    }
    /// The next `n` accepts that find a connection fail.
    pub fn fail_accepts(&self, n: usize, fault: AcceptFault) {
        let errno = match fault {
            AcceptFault::Aborted => libc::ECONNABORTED,
            AcceptFault::NoDescriptors => libc::EMFILE,
            AcceptFault::SystemNoDescriptors => libc::ENFILE,
            AcceptFault::Os(errno) => errno,
        };
        self.0.faults(|faults| faults.accepts = (n, errno));
    }
    /// The next `n` writes on connections fail with EPIPE: the peer is gone, and nothing has told so yet.
    pub fn break_writes(&self, n: usize) {
        self.0.faults(|faults| faults.writes = (n, libc::EPIPE));
    }
    /// How long whatever is sent from now on travels, one way. What was sent before still arrives first.
    pub fn set_latency(&self, latency: Duration) {
        self.0.faults(|faults| faults.latency = latency);
    }
    /// How many bytes each direction of connections made from now on holds before writes would wait; at least 1. Default:
    /// 65,536.
    pub fn set_buffer(&self, bytes: usize) {
        self.0.faults(|faults| faults.capacity = bytes.max(1));
    }
    /// Breaks all connections: both ends find them reset by the peer.
    pub fn reset_all(&self) {
        self.0.reset(None);
    }
    /// Breaks the connections that have an end at `address`. Returns whether there were any.
    pub fn reset(&self, address: &Address) -> bool {
        self.0.reset(Some(address)) > 0
    }
    /// How many connections there are, those included that were not accepted yet.
    pub fn connections(&self) -> usize {
        self.0.connections()
    }
    /// Where somebody listens.
    pub fn listening(&self) -> Vec<Address> {
        self.0.listening()
    }
    /// How much simulated time has passed on this network.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

impl Default for Network {
    fn default() -> Self {
        Network::new()
    }
}
impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("connections", &self.connections())
            .field("listening", &self.listening())
            .field("elapsed", &self.elapsed())
            .finish_non_exhaustive()
    }
}
