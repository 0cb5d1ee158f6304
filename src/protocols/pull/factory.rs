//! `PullFactory`: calls a handler with each connection, as its own owner of that connection.
use super::PullTransport;
use super::conn::{Conn, PullProtocol};
use crate::address::Address;
use crate::deferred::{IntoDeferred, run_and_report};
use crate::protocols::codec::{Decoder, Raw};
use crate::transport::{ClientFactory, Factory, Protocol};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

/// Calls a handler for each connection; closes it when what the handler returned has fired, after what was written. A
/// failure of it is logged.
///
/// For an `async fn` write `PullFactory::new(|conn| Deferred::from_future(serve(conn)))`.
pub struct PullFactory<P: Decoder, H> {
    decoder: Box<dyn FnMut() -> P>,
    handlers: Rc<Handlers<P, H>>,
}

struct Handlers<P: Decoder, H> {
    /// Out while it runs.
    handler: Cell<Option<H>>,
    /// Connections made while it ran.
    waiting: RefCell<VecDeque<PullTransport<P>>>,
}

impl PullFactory<Raw, ()> {
    /// For raw bytes.
    pub fn new<H, R>(handler: H) -> PullFactory<Raw, H>
    where
        H: FnMut(PullTransport) -> R + 'static,
        R: IntoDeferred,
    {
        PullFactory::framed(|| Raw, handler)
    }
    /// For messages; `decoder` makes a decoder for each connection.
    pub fn framed<P: Decoder, H, R>(decoder: impl FnMut() -> P + 'static, handler: H) -> PullFactory<P, H>
    where
        H: FnMut(PullTransport<P>) -> R + 'static,
        R: IntoDeferred,
    {
        let handlers = Handlers { handler: Cell::new(Some(handler)), waiting: RefCell::default() };
        PullFactory { decoder: Box::new(decoder), handlers: Rc::new(handlers) }
    }
}

impl<P: Decoder, H, R> Handlers<P, H>
where
    H: FnMut(PullTransport<P>) -> R + 'static,
    R: IntoDeferred,
{
    fn made(&self, conn: PullTransport<P>) {
        self.waiting.borrow_mut().push_back(conn);
        while let Some(mut handler) = self.handler.take() {
            let next = self.waiting.borrow_mut().pop_front();
            if let Some(conn) = next {
                run_and_report("the handler of a connection", || {
                    let kept = conn.clone();
                    handler(conn).into_deferred().add_both(move |outcome| {
                        kept.transport().lose_connection();
                        outcome
                    })
                });
            }
            self.handler.set(Some(handler));
            if self.waiting.borrow().is_empty() {
                break;
            }
        }
    }
}

impl<P: Decoder, H, R> Factory for PullFactory<P, H>
where
    H: FnMut(PullTransport<P>) -> R + 'static,
    R: IntoDeferred,
{
    fn build_protocol(&mut self, _peer: &Address) -> Option<Box<dyn Protocol>> {
        let conn = Conn::new((self.decoder)());
        let handlers = Rc::clone(&self.handlers);
        let transport = PullTransport::new(Rc::clone(&conn));
        Some(Box::new(PullProtocol::when_made(conn, move || handlers.made(transport))))
    }
}
impl<P: Decoder, H, R> ClientFactory for PullFactory<P, H>
where
    H: FnMut(PullTransport<P>) -> R + 'static,
    R: IntoDeferred,
{
}
impl<P: Decoder, H> fmt::Debug for PullFactory<P, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullFactory").finish_non_exhaustive()
    }
}
