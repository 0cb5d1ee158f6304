//! Endpoints around endpoints: what connections begin with, or run through, whatever they run over.
use super::{ClientEndpoint, Listening, ServerEndpoint, as_connect_error};
use crate::address::Address;
use crate::deferred::{Canceller, Deferred, Promise};
use crate::error::{ConnectError, ConnectionClosed};
use crate::failure::{self, Failure};
use crate::protocols::{Forward, Hooks};
use crate::transport::{Factory, Protocol, TransportRef};
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

type Wrap = Rc<dyn Fn(Box<dyn Factory>) -> Box<dyn Factory>>;

/// What [`wrap_server`] makes.
#[derive(Clone)]
pub struct WrappedServerEndpoint<E> {
    endpoint: E,
    wrap: Wrap,
}
/// What [`wrap_client`] makes.
#[derive(Clone)]
pub struct WrappedClientEndpoint<E> {
    endpoint: E,
    wrap: Wrap,
}

/// Listens at `endpoint` with what `wrap` makes of the factory: a policy, a PROXY header, TLS.
///
/// ```
/// use twistlet::Reactor;
/// use twistlet::endpoint::{TcpServerEndpoint, wrap_server};
/// use twistlet::protocols::proxy::ProxyFactory;
/// let reactor = Reactor::new()?;
/// let tcp = TcpServerEndpoint::new(&reactor, "127.0.0.1:0");
/// let _behind_a_proxy = wrap_server(tcp, |factory| ProxyFactory::new(factory).trust([127, 0, 0, 1]));
/// # reactor.close();
/// # Ok::<(), twistlet::Failure>(())
/// ```
pub fn wrap_server<E: ServerEndpoint, F: Factory + 'static>(
    endpoint: E,
    wrap: impl Fn(Box<dyn Factory>) -> F + 'static,
) -> WrappedServerEndpoint<E> {
    WrappedServerEndpoint { endpoint, wrap: Rc::new(move |factory| Box::new(wrap(factory))) }
}

/// Connects to `endpoint` with what `wrap` makes of the factory. The Deferred fires when that of `endpoint` has, and the
/// innermost protocol, that of the factory, has had its `connection_made`; with the transport that this one was told. A
/// connection that ends before fails it.
pub fn wrap_client<E: ClientEndpoint, F: Factory + 'static>(
    endpoint: E,
    wrap: impl Fn(Box<dyn Factory>) -> F + 'static,
) -> WrappedClientEndpoint<E> {
    WrappedClientEndpoint { endpoint, wrap: Rc::new(move |factory| Box::new(wrap(factory))) }
}

impl<E: ServerEndpoint> ServerEndpoint for WrappedServerEndpoint<E> {
    fn listen_boxed(&self, factory: Box<dyn Factory>) -> Deferred<Listening> {
        match failure::catch(|| (self.wrap)(factory)) {
            Ok(factory) => self.endpoint.listen_boxed(factory),
            Err(panicked) => Deferred::fail(panicked),
        }
    }
}
impl<E: ClientEndpoint> ClientEndpoint for WrappedClientEndpoint<E> {
    fn connect_boxed(&self, factory: Box<dyn Factory>) -> Deferred<TransportRef> {
        connect(&self.endpoint, factory, Until::Made, |factory| (self.wrap)(factory))
    }
}

/// When a wrapped connection has come about: after which callback of the innermost protocol.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    Made,
    #[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "for TLS"))]
    Secured,
}

/// Connects to `endpoint` with what `wrap` makes of the factory.
pub(super) fn connect(
    endpoint: &impl ClientEndpoint,
    factory: Box<dyn Factory>,
    until: Until,
    wrap: impl FnOnce(Box<dyn Factory>) -> Box<dyn Factory>,
) -> Deferred<TransportRef> {
    let wait = Rc::new(Wait::default());
    let inner = Watched { factory, wait: Rc::clone(&wait), part: Part::Inner(until) };
    let factory = match failure::catch(|| wrap(Box::new(inner))) {
        Ok(factory) => factory,
        Err(panicked) => return Deferred::fail(ConnectError::Failed(panicked)),
    };
    let outer = Watched { factory, wait: Rc::clone(&wait), part: Part::Outer };
    let (promise, deferred) = Deferred::new();
    // Before anything can happen, what may happen at once included.
    let cancelled = Rc::downgrade(&wait);
    let lower = Rc::new(Cell::new(None));
    let attempt = Rc::clone(&lower);
    promise.on_cancel(move || {
        let canceller: Option<Canceller> = attempt.take();
        if let Some(canceller) = canceller {
            canceller.cancel();
        }
        if let Some(wait) = cancelled.upgrade() {
            if let Some(made) = wait.lower.get() {
                made.abort_connection();
            }
            wait.fail(ConnectError::Cancelled);
        }
    });
    wait.promise.set(Some(promise));
    let connecting = endpoint.connect_boxed(Box::new(outer));
    lower.set(Some(connecting.canceller()));
    let _ = connecting.add_both(move |outcome| match outcome {
        Ok(transport) => {
            wait.lower.set(Some(transport));
            wait.reached();
        }
        Err(failure) => wait.fail(as_connect_error(failure)),
    });
    deferred
}
impl<E: fmt::Debug> fmt::Debug for WrappedServerEndpoint<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WrappedServerEndpoint").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
impl<E: fmt::Debug> fmt::Debug for WrappedClientEndpoint<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WrappedClientEndpoint").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Who waits for a wrapped connection: until the innermost protocol is as far as it should be, and the endpoint below has said
/// that its own part is done.
#[derive(Default)]
struct Wait {
    promise: Cell<Option<Promise<TransportRef>>>,
    lower: Cell<Option<TransportRef>>,
    inner: Cell<Option<TransportRef>>,
}
impl Wait {
    fn reached(&self) {
        if let (Some(_), Some(transport)) = (self.lower.get(), self.inner.get())
            && let Some(promise) = self.promise.take()
        {
            promise.callback(transport);
        }
    }
    fn fail(&self, error: ConnectError) {
        if let Some(promise) = self.promise.take() {
            promise.errback(error);
        }
    }
}

/// Where a protocol stands. The inner one knows when its connection has begun, and why it ends; the outer one that it ends,
/// though there may be no inner one yet.
#[derive(Clone, Copy)]
enum Part {
    Inner(Until),
    Outer,
}
struct Watched {
    factory: Box<dyn Factory>,
    wait: Rc<Wait>,
    part: Part,
}
impl Factory for Watched {
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        match self.factory.build_protocol(peer) {
            Some(inner) => Some(Forward::boxed(inner, Watch { wait: Rc::clone(&self.wait), part: self.part })),
            None => {
                // Of a layer that asks later, the connection is there already.
                self.wait.fail(ConnectError::NoProtocol);
                None
            }
        }
    }
    fn start_factory(&mut self) {
        self.factory.start_factory();
    }
    fn stop_factory(&mut self) {
        self.factory.stop_factory();
    }
}

struct Watch {
    wait: Rc<Wait>,
    part: Part,
}
impl Watch {
    fn reached(&self, until: Until, transport: TransportRef) {
        if matches!(self.part, Part::Inner(wanted) if wanted == until) {
            self.wait.inner.set(Some(transport));
            self.wait.reached();
        }
    }
}
impl Hooks for Watch {
    fn made(&mut self, transport: TransportRef) {
        self.reached(Until::Made, transport);
    }
    fn secured(&mut self, transport: TransportRef) {
        self.reached(Until::Secured, transport);
    }
    fn lost(&mut self, reason: &ConnectionClosed) {
        self.wait.fail(as_connect_error(Failure::from(reason.clone())));
    }
}
