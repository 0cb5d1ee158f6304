//! Child processes and standard input and output as endpoints.
use super::{ClientEndpoint, Listening, ServerEndpoint, connect_error};
use crate::address::Address;
use crate::deferred::Deferred;
use crate::error::{ConnectError, ConnectionClosed};
use crate::failure;
use crate::protocols::SharedFactory;
use crate::reactor::Reactor;
use crate::transport::process::Command;
use crate::transport::{Factory, Protocol, TransportRef};
use std::cell::RefCell;
use std::fmt;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// A child process to talk to (Twisted's `ProcessEndpoint`): each connect starts one, as
/// [`connect_process`](Reactor::connect_process) does. Its standard output is what is received, its standard input what is
/// written; the connection ends with the process.
///
/// ```
/// use twistlet::endpoint::{ClientEndpoint, ProcessClientEndpoint};
/// use twistlet::transport::process::Command;
/// use twistlet::{Protocol, Reactor, TransportRef};
///
/// struct Ask(Reactor);
/// impl Protocol for Ask {
///     fn connection_made(&mut self, transport: TransportRef) {
///         transport.write("2 + 3\n");
///     }
///     fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
///         assert_eq!(data, b"5\n");
///         transport.lose_connection();
///         let _ = self.0.stop();
///     }
/// }
///
/// let reactor = Reactor::new()?;
/// let script = "while read line; do echo $(($line)); done";
/// let calculator = ProcessClientEndpoint::new(&reactor, move || Command::new("sh").args(["-c", script]));
/// let connecting = calculator.connect(move || Ask(reactor));
/// reactor.run()?;
/// # drop(connecting);
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[derive(Clone)]
pub struct ProcessClientEndpoint {
    reactor: Reactor,
    command: Rc<dyn Fn() -> Command>,
}

impl ProcessClientEndpoint {
    /// What starts the command that `command` gives, and talks to it.
    pub fn new(reactor: &Reactor, command: impl Fn() -> Command + 'static) -> Self {
        ProcessClientEndpoint { reactor: *reactor, command: Rc::new(command) }
    }
}
impl ClientEndpoint for ProcessClientEndpoint {
    fn connect_boxed(&self, factory: Box<dyn Factory>) -> Deferred<TransportRef> {
        let command = match failure::catch(|| (self.command)()) {
            Ok(command) => command,
            Err(panicked) => return Deferred::fail(ConnectError::Failed(panicked)),
        };
        let (protocol, outcome) = Late::new(factory);
        self.reactor
            .connect_process(command, protocol)
            .add_callback(move |transport| match outcome.take() {
                Some(error) => Err(error.into()),
                None => Ok(transport),
            })
            .add_errback(connect_error)
    }
}
impl fmt::Debug for ProcessClientEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessClientEndpoint").finish_non_exhaustive()
    }
}

/// Standard input and output as the one connection of a server (Twisted's `StandardIOEndpoint`), as
/// [`stdio`](Reactor::stdio) makes it: for programs that inetd or ssh starts, and for pipelines.
///
/// Listening is over when it has begun: `stop_listening` does nothing. It fails while somebody has standard input and output.
///
/// ```no_run
/// use twistlet::Reactor;
/// use twistlet::endpoint::{ServerEndpoint, StdioServerEndpoint};
/// # use twistlet::{Protocol, TransportRef};
/// # struct Echo;
/// # impl Protocol for Echo { fn data_received(&mut self, t: TransportRef, data: &[u8]) { t.write(data) } }
/// let reactor = Reactor::new()?;
/// let _listening = StdioServerEndpoint::new(&reactor).listen(|| Echo);
/// reactor.run()?;
/// # Ok::<(), twistlet::Failure>(())
/// ```
#[derive(Clone, Debug)]
pub struct StdioServerEndpoint {
    reactor: Reactor,
}

impl StdioServerEndpoint {
    /// The standard input and output of this process. Nothing is touched before [`listen`](ServerEndpoint::listen).
    pub fn new(reactor: &Reactor) -> Self {
        StdioServerEndpoint { reactor: *reactor }
    }
}
impl ServerEndpoint for StdioServerEndpoint {
    fn listen_boxed(&self, factory: Box<dyn Factory>) -> Deferred<Listening> {
        let (protocol, _outcome) = Late::new(factory);
        match self.reactor.stdio(protocol) {
            Ok(_) => Deferred::succeed(Listening::new(Address::Pipe, || Deferred::succeed(()))),
            Err(failure) => Deferred::fail(failure),
        }
    }
}

/// A protocol that its factory builds when the connection is there, since nothing of the user's may run before.
struct Late {
    factory: InUse,
    inner: Option<Box<dyn Protocol>>,
    outcome: Outcome,
}
/// Why no connection has come about, for whoever waits for it.
type Outcome = Rc<RefCell<Option<ConnectError>>>;

/// The factory is stopped when this goes.
struct InUse(SharedFactory);
impl Drop for InUse {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Late {
    fn new(factory: Box<dyn Factory>) -> (Late, Outcome) {
        let factory = SharedFactory::new(factory);
        factory.enter();
        let outcome = Outcome::default();
        (Late { factory: InUse(factory), inner: None, outcome: Rc::clone(&outcome) }, outcome)
    }
    fn refuse(&self, error: ConnectError) {
        *self.outcome.borrow_mut() = Some(error);
    }
}
impl Protocol for Late {
    fn connection_made(&mut self, transport: TransportRef) {
        let peer = transport.peer();
        let inner = &mut self.inner;
        let factory = &mut self.factory.0;
        let built = failure::catch(|| {
            *inner = factory.build_protocol(&peer);
            if let Some(protocol) = inner {
                protocol.connection_made(transport);
            }
        });
        match built {
            Ok(()) if self.inner.is_some() => {}
            Ok(()) => {
                self.refuse(ConnectError::NoProtocol);
                transport.abort_connection();
            }
            Err(panicked) => {
                failure::report(format_args!("the protocol of the connection with {peer}"), &panicked);
                self.refuse(ConnectError::Failed(panicked.clone()));
                transport.fail_connection(panicked);
            }
        }
    }
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        if let Some(inner) = &mut self.inner {
            inner.data_received(transport, data);
        }
    }
    fn read_connection_lost(&mut self, transport: TransportRef) {
        match &mut self.inner {
            Some(inner) => inner.read_connection_lost(transport),
            None => transport.lose_connection(),
        }
    }
    fn write_connection_lost(&mut self, transport: TransportRef) {
        if let Some(inner) = &mut self.inner {
            inner.write_connection_lost(transport);
        }
    }
    fn handshake_completed(&mut self, transport: TransportRef) {
        if let Some(inner) = &mut self.inner {
            inner.handshake_completed(transport);
        }
    }
    fn file_descriptor_received(&mut self, transport: TransportRef, descriptor: OwnedFd) {
        if let Some(inner) = &mut self.inner {
            inner.file_descriptor_received(transport, descriptor);
        }
    }
    fn connection_lost(&mut self, transport: TransportRef, reason: &ConnectionClosed) {
        if let Some(inner) = &mut self.inner {
            inner.connection_lost(transport, reason);
        }
    }
    fn switch_inner(&mut self, protocol: Box<dyn Protocol>) -> Result<Box<dyn Protocol>, Box<dyn Protocol>> {
        match &mut self.inner {
            Some(inner) => inner.switch_inner(protocol),
            None => Err(protocol),
        }
    }
}
