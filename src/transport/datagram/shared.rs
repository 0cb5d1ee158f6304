//! Datagram protocols held by a `Shared`: told at once, or, when somebody is inside, as soon as they left, with a copy of the
//! datagram.
use super::{DatagramPort, DatagramProtocol};
use crate::address::Address;
use crate::failure;
use crate::shared::Shared;

/// Tells a protocol, or queues what `later` makes; a panic of what was queued is logged, and the port goes on.
fn tell<P: 'static, L: FnOnce(&mut P) + 'static>(
    shared: &Shared<P>,
    port: DatagramPort,
    now: impl FnOnce(&mut P),
    later: impl FnOnce() -> L,
) {
    shared.enter_or_queue(now, || {
        let call = later();
        Box::new(move |protocol: &mut P| {
            if let Err(failure) = failure::catch(|| call(protocol)) {
                failure::report(format_args!("the protocol of the datagram port at {}", port.address()), &failure);
            }
        })
    });
}

macro_rules! forward { ($($method:ident)+) => { $(
    fn $method(&mut self, port: DatagramPort) {
        tell(self, port, |protocol| protocol.$method(port), || move |protocol: &mut P| protocol.$method(port));
    }
)+ } }

impl<P: DatagramProtocol + 'static> DatagramProtocol for Shared<P> {
    forward! { start_protocol connection_refused stop_protocol }
    fn datagram_received(&mut self, port: DatagramPort, data: &[u8], from: &Address) {
        tell(
            self,
            port,
            |protocol| protocol.datagram_received(port, data, from),
            || {
                let (data, from) = (data.to_vec(), from.clone());
                move |protocol: &mut P| protocol.datagram_received(port, &data, &from)
            },
        );
    }
}
