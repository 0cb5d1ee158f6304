//! The real driver: mio's poller and the system's sockets. Used through `driver::Driver` only.
use super::{ConnectFault, Datagram, Event, ListenOptions, Listener, Readiness, Socket};
use socket2::{Domain, Protocol, Type};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Events taken in one poll. What a batch of so many connections needs until it is flushed stays in the cache; at a thousand
/// connections a batch of 1,024 took 2 % more of the processor with callbacks and 3 to 13 % more with green threads.
const EVENTS: usize = 128;
/// The token of the waker; no source has it.
const WAKE: usize = usize::MAX;

pub(crate) struct Driver {
    poll: mio::Poll,
    events: mio::Events,
    waker: Arc<mio::Waker>,
}

impl Driver {
    pub(crate) fn new() -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(WAKE))?);
        Ok(Driver { poll, events: mio::Events::with_capacity(EVENTS), waker })
    }
    pub(crate) fn poll(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            // A signal: back to the loop, which looks at its queues and polls again.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        }
        events.extend(self.events.iter().filter(|event| event.token().0 != WAKE).map(|event| {
            let mut readiness = Readiness::default();
            for (is, flag) in [
                (event.is_readable(), Readiness::READABLE),
                (event.is_writable(), Readiness::WRITABLE),
                (event.is_read_closed(), Readiness::READ_CLOSED),
                (event.is_error(), Readiness::ERROR),
            ] {
                if is {
                    readiness = readiness | flag;
                }
            }
            Event { token: event.token().0, readiness }
        }));
        Ok(())
    }
    pub(crate) fn waker(&self) -> Arc<mio::Waker> {
        Arc::clone(&self.waker)
    }
    /// The poller's registry, for sockets that another thread takes over.
    #[cfg(feature = "green")]
    pub(crate) fn registry(&self) -> io::Result<mio::Registry> {
        self.poll.registry().try_clone()
    }
    pub(crate) fn register(&self, source: &mut impl mio::event::Source, token: usize) -> io::Result<()> {
        let both = mio::Interest::READABLE | mio::Interest::WRITABLE;
        self.poll.registry().register(source, mio::Token(token), both)
    }
    pub(crate) fn reregister(&self, source: &mut impl mio::event::Source, token: usize) -> io::Result<()> {
        let both = mio::Interest::READABLE | mio::Interest::WRITABLE;
        self.poll.registry().reregister(source, mio::Token(token), both)
    }
    pub(crate) fn register_readable(&self, source: &mut impl mio::event::Source, token: usize) -> io::Result<()> {
        self.poll.registry().register(source, mio::Token(token), mio::Interest::READABLE)
    }
    pub(crate) fn register_writable(&self, source: &mut impl mio::event::Source, token: usize) -> io::Result<()> {
        self.poll.registry().register(source, mio::Token(token), mio::Interest::WRITABLE)
    }
    pub(crate) fn deregister(&self, source: &mut impl mio::event::Source) -> io::Result<()> {
        self.poll.registry().deregister(source)
    }
}

pub(crate) fn connect_tcp(to: SocketAddr, bind: Option<SocketAddr>) -> Result<Socket, ConnectFault> {
    let Some(local) = bind else {
        return mio::net::TcpStream::connect(to).map(Socket::Tcp).map_err(ConnectFault::Connect);
    };
    let socket = stream_socket(Domain::for_address(to), Some(Protocol::TCP)).map_err(ConnectFault::Connect)?;
    socket.set_reuse_address(true).and_then(|()| socket.bind(&local.into())).map_err(ConnectFault::Bind)?;
    match socket.connect(&to.into()) {
        Ok(()) => {}
        Err(error) if in_progress(&error) => {}
        Err(error) => return Err(ConnectFault::Connect(error)),
    }
    Ok(Socket::Tcp(mio::net::TcpStream::from_std(socket.into())))
}

fn in_progress(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINPROGRESS) || error.kind() == io::ErrorKind::WouldBlock
}

fn stream_socket(domain: Domain, protocol: Option<Protocol>) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(domain, Type::STREAM, protocol)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

pub(crate) fn listen_tcp(at: SocketAddr, options: &ListenOptions) -> io::Result<Listener> {
    let socket = stream_socket(Domain::for_address(at), Some(Protocol::TCP))?;
    // So that a restarted server is not held off by connections of its predecessor in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&at.into())?;
    socket.listen(options.backlog.min(i32::MAX as u32) as i32)?;
    Ok(Listener::Tcp(mio::net::TcpListener::from_std(socket.into())))
}

pub(crate) fn bind_udp(at: SocketAddr, shared: bool) -> io::Result<Datagram> {
    let socket = socket2::Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if shared {
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
    }
    socket.bind(&at.into())?;
    Ok(Datagram::Udp(mio::net::UdpSocket::from_std(socket.into())))
}
