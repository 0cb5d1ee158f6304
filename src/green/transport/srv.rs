//! `connect_srv`: a service of a domain as a synchronous call (twistedutil's `connectSRV`).
use super::conn::{Conn, GreenProtocol};
use super::{GreenClientCreator, GreenTransport, Handle};
use crate::endpoint::ClientEndpoint;
use crate::endpoint::srv::SrvConnector;
use crate::error::ConnectError;
use crate::failure::Result;
use crate::green::block::block_on;
use crate::protocols::codec::Decoder;
use std::cell::RefCell;
use std::rc::Rc;

impl<D: Decoder> GreenClientCreator<D> {
    /// Connects to a service of a domain: the servers that its SRV records name are tried one after the other, and with
    /// [`tls`](SrvConnector::tls) the one whose handshake succeeds is it.
    ///
    /// ```no_run
    /// use twistlet::Reactor;
    /// use twistlet::green::{GreenClientCreator, SrvConnector};
    ///
    /// let chat = SrvConnector::new("xmpp-client", "example.org").default_port(5222);
    /// let conn = GreenClientCreator::new(&Reactor::current()).connect_srv(chat)?;
    /// # Ok::<(), twistlet::Failure>(())
    /// ```
    ///
    /// # Errors
    /// [`ConnectError`]: of the first server, when none will do; around a [`SrvError`](crate::endpoint::srv::SrvError) or a
    /// [`DnsError`](crate::transport::dns::DnsError) when none was found.
    ///
    /// # Blocking
    /// Until connected. Interrupted, no connection is left behind.
    #[track_caller]
    pub fn connect_srv(&self, to: SrvConnector) -> Result<GreenTransport<D>> {
        // One for each server whose handshake is begun; the last one is it.
        let latest = Rc::new(RefCell::new(None));
        let made = Rc::clone(&latest);
        let factory = move || {
            let handle = Rc::new(Handle(Conn::new()));
            let protocol = GreenProtocol::new(&handle.0);
            let old = made.replace(Some(handle));
            drop(old);
            protocol
        };
        block_on(to.endpoint(&self.reactor).connect(factory))?;
        let handle = latest.take().ok_or(ConnectError::NoProtocol)?;
        Ok(GreenTransport::with_handle(handle, (self.decoder)()))
    }
}
