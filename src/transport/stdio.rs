//! Standard input and output as one transport: Twisted's `StandardIO`.
//!
//! What must never happen here: two of them at once, for they would steal each other's input.
use super::stream::Owner;
use super::{Protocol, TransportRef, descriptors};
use crate::error::ConnectionClosed;
use crate::failure::Result;
use crate::reactor::Reactor;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// The process has one standard input.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Whoever has it.
struct Claim;
impl Drop for Claim {
    fn drop(&mut self) {
        TAKEN.store(false, Ordering::SeqCst);
    }
}
impl Owner for Claim {
    fn connection_lost(&self, _reason: &ConnectionClosed) {}
}

impl Reactor {
    /// Standard input and output as one transport (Twisted's `StandardIO`): what comes in goes to `data_received`, what is
    /// written goes out. The end of input is [`read_connection_lost`](Protocol::read_connection_lost), which by default flushes
    /// and closes; when whoever reads our output goes away, `write_connection_lost` is told and reading goes on.
    ///
    /// Terminals, pipes, sockets and files all do. Terminals and pipes are opened anew, so that `println!` and the shell find
    /// them blocking, as ever; where that is forbidden, and of sockets, the description is made non-blocking until the end. A
    /// file is read and written in the loop, for it is always ready; one on a slow disk holds the loop.
    ///
    /// The end closes both directions as far as others can see: descriptors 0 and 1 of pipes and sockets become
    /// `/dev/null`, so that a reader finds the end of our output while this process still runs. Terminals and files stay.
    ///
    /// Do not read [`std::io::stdin`] meanwhile: input goes to whoever is first.
    ///
    /// # Errors
    /// `io::Error`: of kind `AlreadyExists` while another has them, on any thread; the system's.
    /// [`ReactorError::Closed`](crate::error::ReactorError::Closed).
    ///
    /// ```no_run
    /// use twistlet::{Protocol, Reactor, TransportRef};
    ///
    /// struct Upper(Reactor);
    /// impl Protocol for Upper {
    ///     fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
    ///         transport.write(data.to_ascii_uppercase());
    ///     }
    ///     fn connection_lost(&mut self, _: TransportRef, _: &twistlet::ConnectionClosed) {
    ///         let _ = self.0.stop();
    ///     }
    /// }
    ///
    /// let reactor = Reactor::new()?;
    /// reactor.stdio(Upper(reactor))?;
    /// reactor.run()?;
    /// # Ok::<(), twistlet::Failure>(())
    /// ```
    pub fn stdio(&self, protocol: impl Protocol + 'static) -> Result<TransportRef> {
        let core = self.open()?;
        if TAKEN.swap(true, Ordering::SeqCst) {
            let text = "standard input and output are a transport already: close that one first";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text).into());
        }
        // Dropped with the stream, or here when there is none.
        Ok(descriptors::adopt_standard(&core, Box::new(protocol), Box::new(Claim))?)
    }
}
