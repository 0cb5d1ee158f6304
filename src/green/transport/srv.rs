//! `connect_srv`: a service of a domain as a synchronous call (twistedutil's `connectSRV`).
use super::{GreenClientCreator, GreenTransport};
use crate::endpoint::srv::SrvConnector;
use crate::failure::Result;
use crate::protocols::codec::Decoder;

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
    /// [`ConnectError`](crate::ConnectError): of the first server, when none will do; around a [`SrvError`](crate::endpoint::srv::SrvError) or a
    /// [`DnsError`](crate::transport::dns::DnsError) when none was found.
    ///
    /// # Blocking
    /// Until connected. Interrupted, no connection is left behind.
    #[track_caller]
    pub fn connect_srv(&self, to: SrvConnector) -> Result<GreenTransport<D>> {
        self.connect(to.endpoint(&self.reactor))
    }
}
