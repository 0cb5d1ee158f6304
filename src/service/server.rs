//! `StreamServerEndpointService`: listens while it runs.
use super::Service;
use crate::address::Address;
use crate::deferred::{Canceller, Deferred, Promise};
use crate::endpoint::{Listening, ServerEndpoint};
use crate::error::Cancelled;
use crate::shared::Shared;
use crate::transport::Factory;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

/// Listens on an endpoint while it runs (Twisted's `StreamServerEndpointService`, and `TCPServer` and its like). It begins when
/// it is started with the program's rights, so that low ports can be had, or else when it is started. Clones are the same
/// service.
///
/// Its start fails with what the endpoint said. A stop gives up listening that is not done; connections that are there stay.
#[derive(Clone)]
pub struct StreamServerEndpointService(Rc<Inner>);

struct Inner {
    endpoint: Box<dyn ServerEndpoint>,
    factory: Shared<Box<dyn Factory>>,
    /// That of the last start, until it is stopped.
    port: RefCell<Option<Rc<RefCell<Port>>>>,
    /// What the privileged start came to, for the start.
    up: RefCell<Option<Deferred<()>>>,
}

/// What one start has opened.
enum Port {
    Opening(Option<Canceller>),
    Open(Listening),
    /// It could not be opened.
    Failed,
    /// It was stopped before it was open.
    Unwanted(Promise<()>),
}

impl StreamServerEndpointService {
    /// A service that serves connections of `endpoint` with protocols of `factory`.
    pub fn new(endpoint: impl ServerEndpoint + 'static, factory: impl Factory + 'static) -> Self {
        StreamServerEndpointService(Rc::new(Inner {
            endpoint: Box::new(endpoint),
            factory: Shared::new(Box::new(factory)),
            port: RefCell::default(),
            up: RefCell::default(),
        }))
    }
    /// Where it listens, while it does.
    pub fn address(&self) -> Option<Address> {
        let port = self.0.port.borrow().clone()?;
        let port = port.borrow();
        match &*port {
            Port::Open(listening) => Some(listening.address().clone()),
            _ => None,
        }
    }
}

impl Inner {
    fn listen(&self) -> Deferred<()> {
        let port = Rc::new(RefCell::new(Port::Opening(None)));
        *self.port.borrow_mut() = Some(Rc::clone(&port));
        let listening = self.endpoint.listen_boxed(Box::new(self.factory.clone()));
        if let Port::Opening(canceller) = &mut *port.borrow_mut() {
            *canceller = Some(listening.canceller());
        }
        listening.add_both(move |outcome| match port.replace(Port::Failed) {
            Port::Unwanted(promise) => {
                // It may not have heard that it is not wanted.
                promise.resolve(outcome.map_or_else(|_| Deferred::succeed(()), |listening| listening.stop_listening()));
                Err(Cancelled.into())
            }
            _ => outcome.map(|listening| drop(port.replace(Port::Open(listening)))),
        })
    }
}

impl Service for StreamServerEndpointService {
    fn privileged_start(&mut self) -> Deferred<()> {
        let (ours, theirs) = self.0.listen().fork();
        *self.0.up.borrow_mut() = Some(ours);
        theirs
    }
    fn start_service(&mut self) -> Deferred<()> {
        let up = self.0.up.take();
        up.unwrap_or_else(|| self.0.listen())
    }
    fn stop_service(&mut self) -> Deferred<()> {
        drop(self.0.up.take());
        let Some(port) = self.0.port.take() else { return Deferred::succeed(()) };
        let (promise, stopped) = Deferred::new();
        let state = port.replace(Port::Failed);
        match state {
            Port::Open(listening) => return listening.stop_listening(),
            Port::Opening(canceller) => {
                *port.borrow_mut() = Port::Unwanted(promise);
                if let Some(canceller) = canceller {
                    canceller.cancel();
                }
            }
            Port::Failed | Port::Unwanted(_) => promise.callback(()),
        }
        stopped
    }
}
impl fmt::Debug for StreamServerEndpointService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamServerEndpointService").field("address", &self.address()).finish_non_exhaustive()
    }
}
