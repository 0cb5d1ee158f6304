//! A server on several OS threads: each with a reactor of its own, sharing one port by SO_REUSEPORT.
use super::dial::Listen;
use super::handle::ServeHandle;
use super::server::Server;
use crate::deferred::{Deferred, IntoDeferred};
use crate::error::ReactorError;
use crate::failure::{self, Result};
use crate::green::block_on;
use crate::green::net::{TcpListener, TcpStream, ToSocketAddrs};
use crate::reactor::{Reactor, RemotePromise};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};

/// Serves `addr` on so many OS threads at once, 0 for as many as there are cores; [`Server::serve_on_all_cores`] has options.
///
/// # Errors
/// As [`Listen::bind`](super::Listen::bind); the system's when there is no thread to be had.
///
/// # Blocking
/// While a name is looked up.
#[track_caller]
pub fn serve_on_all_cores<A: ToSocketAddrs, H, R>(addr: A, threads: usize, handler: H) -> io::Result<Cores>
where
    H: Fn(TcpStream, SocketAddr) -> R + Send + Clone + 'static,
    R: IntoDeferred + 'static,
{
    Server::new().serve_on_all_cores(addr, threads, handler)
}

/// A server on several OS threads, which serves by itself. Dropping this leaves it serving.
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::TcpStream;
/// use twistlet::green::serve::serve_on_all_cores;
///
/// let cores = serve_on_all_cores("127.0.0.1:0", 2, |mut stream, _peer| Ok(stream.write_all(b"hello")?))?;
/// let mut text = String::new();
/// TcpStream::connect(cores.local_addr())?.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// cores.handle().stop();
/// assert!(cores.wait().into_iter().all(|thread| thread.is_ok()));
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "it tells how the threads end, and stops them"]
pub struct Cores {
    handle: ServeHandle,
    address: SocketAddr,
    threads: Vec<(Deferred<()>, JoinHandle<()>)>,
}

impl Server {
    /// Serves `addr` on so many OS threads, 0 for as many as there are cores. Each has a reactor and a clone of `handler`; the
    /// system shares out the connections. [`concurrency`](Server::concurrency) is each thread's.
    ///
    /// All of them stop with the [handle](Server::handle), with a handler's [`StopServe`](super::StopServe), or when one of
    /// them fails. A thread's end is its handlers': without [`grace`](Server::grace) they are killed at once.
    ///
    /// # Errors
    /// As [`Listen::bind`](super::Listen::bind); the system's when there is no thread to be had.
    ///
    /// # Blocking
    /// While a name is looked up.
    #[track_caller]
    pub fn serve_on_all_cores<A: ToSocketAddrs, H, R>(&self, addr: A, threads: usize, handler: H) -> io::Result<Cores>
    where
        H: Fn(TcpStream, SocketAddr) -> R + Send + Clone + 'static,
        R: IntoDeferred + 'static,
    {
        let count = match threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let listen = Listen::new().reuse_port(true);
        let first = listen.bind(addr)?;
        let address = first.local_addr()?;
        let mut listeners = vec![first];
        while listeners.len() < count {
            listeners.push(listen.bind(address)?);
        }
        let mut cores = Cores { handle: self.handle(), address, threads: Vec::with_capacity(count) };
        for (number, listener) in listeners.into_iter().enumerate() {
            let (promise, ended) = Deferred::from_thread();
            let (server, handler) = (self.clone(), handler.clone());
            let body = move || server.serve_thread(listener, handler, promise);
            match thread::Builder::new().name(format!("serve-{number}")).spawn(body) {
                Ok(thread) => cores.threads.push((ended, thread)),
                Err(error) => {
                    cores.handle.stop();
                    return Err(error);
                }
            }
        }
        Ok(cores)
    }
    fn serve_thread<R: IntoDeferred + 'static>(
        self,
        listener: TcpListener,
        handler: impl Fn(TcpStream, SocketAddr) -> R + 'static,
        promise: RemotePromise<()>,
    ) {
        let served = failure::catch(|| self.serve(&listener, handler)).and_then(|served| served);
        // One that cannot serve leaves its share of the connections to nobody.
        self.handle().stop();
        listener.close();
        if let Err(failure) = failure::catch(|| Reactor::current().close()) {
            failure::report("the end of a server's thread", &failure);
        }
        match served {
            Ok(()) => promise.callback(()),
            Err(failure) => promise.errback(failure),
        }
    }
}

impl Cores {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
    /// What stops it.
    pub fn handle(&self) -> ServeHandle {
        self.handle.clone()
    }
    /// How many threads serve.
    pub fn threads(&self) -> usize {
        self.threads.len()
    }
    /// Waits until all have stopped: how each of them ended.
    ///
    /// # Panics
    /// In the main loop and its callbacks.
    ///
    /// # Blocking
    /// Until all threads have ended.
    #[track_caller]
    pub fn wait(self) -> Vec<Result<()>> {
        let mut outcomes = Vec::with_capacity(self.threads.len());
        for (ended, thread) in self.threads {
            let outcome = block_on(ended);
            // It has nothing more to do, unless it was our own reactor that stopped.
            let stopped = outcome.as_ref().is_err_and(|failure| failure.is::<ReactorError>());
            if !stopped || thread.is_finished() {
                drop(thread.join());
            }
            outcomes.push(outcome);
        }
        outcomes
    }
}
impl fmt::Debug for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cores").field("address", &self.address).field("threads", &self.threads.len()).finish()
    }
}
