//! `connect`: any client endpoint as a synchronous call. (A server endpoint needs no more than a
//! [`SpawnFactory`](super::SpawnFactory).)
use super::conn::{Conn, GreenProtocol};
use super::{GreenClientCreator, GreenTransport, Handle};
use crate::endpoint::ClientEndpoint;
use crate::error::ConnectError;
use crate::failure::Result;
use crate::green::block::block_on;
use crate::protocols::codec::Decoder;
use crate::transport::{TransportRef, from_fn};
use std::cell::RefCell;
use std::rc::Rc;

impl<D: Decoder> GreenClientCreator<D> {
    /// Connects to an endpoint: to what a string describes, to all addresses of a name at once, by TLS over anything, through
    /// any layer.
    ///
    /// ```
    /// use twistlet::Reactor;
    /// use twistlet::endpoint::{ServerEndpoint, client_from_string, server_from_string};
    /// use twistlet::green::{GreenClientCreator, SpawnFactory, block_on};
    ///
    /// let reactor = Reactor::current();
    /// let hello = SpawnFactory::new(|conn| conn.write([b"hello ", &*conn.read_all()?].concat()));
    /// let server = server_from_string(&reactor, "tcp:0:interface=127.0.0.1")?;
    /// let listening = block_on(server.listen(hello))?;
    ///
    /// let port = listening.address().port().unwrap_or_default();
    /// let conn = GreenClientCreator::new(&reactor).connect(client_from_string(&reactor, &format!("tcp:127.0.0.1:{port}"))?)?;
    /// conn.write("world")?;
    /// conn.lose_write_connection();
    /// assert_eq!(conn.read_all()?, "hello world");
    /// # Ok::<(), twistlet::Failure>(())
    /// ```
    ///
    /// # Errors
    /// [`ConnectError`], as the endpoint's own `connect`; [`ReactorError::Stopped`](crate::error::ReactorError::Stopped).
    ///
    /// # Blocking
    /// Until the endpoint has connected, by TLS until the handshake is done. Interrupted, no connection is left behind.
    #[track_caller]
    pub fn connect(&self, to: impl ClientEndpoint) -> Result<GreenTransport<D>> {
        let made = Rc::new(Attempts::default());
        // A connection keeps its factory, and must not keep itself that way.
        let attempts = Rc::downgrade(&made);
        let factory = from_fn(move |_| attempts.upgrade().map(|attempts| attempts.begin()));
        let transport = block_on(to.connect_boxed(Box::new(factory)))?;
        let handle = made.take(transport).ok_or(ConnectError::NoProtocol)?;
        Ok(GreenTransport::with_handle(handle, (self.decoder)()))
    }
}

/// An endpoint may ask for several protocols before one of them is it: one for each server whose handshake is begun. Those that
/// are not it are closed with this.
#[derive(Default)]
struct Attempts(RefCell<Vec<Rc<Handle>>>);
impl Attempts {
    fn begin(&self) -> GreenProtocol {
        let handle = Rc::new(Handle(Conn::new()));
        let protocol = GreenProtocol::new(&handle.0);
        let mut all = self.0.borrow_mut();
        // Those that failed are forgotten, so that many attempts take no more than a few.
        let (failed, left) = all.drain(..).partition(|handle: &Rc<Handle>| handle.has_ended());
        *all = left;
        all.push(handle);
        drop(all);
        drop::<Vec<_>>(failed);
        protocol
    }
    /// The one that speaks on `transport`; or the last one, of an endpoint that gives its own name for that.
    fn take(&self, transport: TransportRef) -> Option<Rc<Handle>> {
        let mut all = self.0.take();
        let at = all.iter().position(|handle| handle.wire() == Some(transport));
        let at = at.or(all.len().checked_sub(1))?;
        Some(all.swap_remove(at))
    }
}
