//! Layers put under a wire that is in use: `start_tls`. The owner of the wire goes on calling it by its name, and what the owner
//! says reaches the lowest layer, while what the protocol does to the name reaches the highest.
use super::with;
#[cfg(feature = "tls")]
use super::{Event, open, queue, wake_unless};
use crate::failure::Result;
use crate::transport::TransportRef;
#[cfg(feature = "tls")]
use crate::transport::{Protocol, Transport};
#[cfg(feature = "tls")]
use std::rc::Rc;

/// Who is told instead of the wire's protocol: the next layer that was put under the wire.
pub(super) fn layer_above(wire: TransportRef, layers: usize) -> Option<TransportRef> {
    with(wire, |entry| entry.extra.as_ref()?.layers.get(layers).copied()).flatten()
}

/// Puts a layer under a wire: from here on the wire's name means `transport`, and a new wire, with `protocol`, has the old one
/// below and is told what its owner tells. What had arrived and was not delivered is dropped, and flow is over until
/// `secured`. Returns the new wire's name, how many layers there are now, and whether the wire is paused.
#[cfg(feature = "tls")]
pub(in crate::transport) fn put_under(
    wire: TransportRef,
    transport: Rc<dyn Transport>,
    protocol: Box<dyn Protocol>,
) -> Option<(TransportRef, usize, bool)> {
    // In `connection_lost` it is too late: nobody would tell the layer of any end.
    let old = with(wire, |entry| if entry.lost { None } else { entry.transport.replace(transport) }).flatten()?;
    let lower = open(old, protocol);
    let mut ends = Vec::new();
    let put = with(wire, |entry| {
        let extra = entry.extra.get_or_insert_default();
        extra.layers.push(lower);
        extra.void = true;
        extra.held.retain(|event| !matches!(event, Event::Data(_)));
        extra.backlog.retain(|event| !matches!(event, Event::Data(_)));
        for event in &mut extra.backlog {
            if let Event::Switch(_, unread) = event {
                unread.clear();
            }
        }
        // An end that the owner has told is for the layer to hear.
        let is_end = |event: &mut Event| matches!(event, Event::ReadLost | Event::Lost(_));
        ends.extend(extra.held.extract_if(.., is_end));
        while let Some(at) = extra.backlog.iter_mut().position(is_end) {
            ends.extend(extra.backlog.remove(at));
        }
        (lower, extra.layers.len(), entry.paused)
    });
    for end in ends {
        let running = queue(lower, end);
        wake_unless(running, lower);
    }
    put
}
/// Tells `handshake_completed`, from the layer with so many layers under it.
///
/// # Errors
/// As `data_received`.
pub(in crate::transport) fn secured(wire: TransportRef, layers: usize) -> Result<()> {
    super::notify_above(wire, layers, move |protocol| {
        with(wire, |entry| entry.extra.iter_mut().for_each(|extra| extra.void = false));
        protocol.handshake_completed(wire);
    })
}
/// What the protocol has kept is void, until `secured`.
#[cfg(feature = "tls")]
pub(in crate::transport) fn make_void(wire: TransportRef) {
    with(wire, |entry| entry.extra.get_or_insert_default().void = true);
}
/// Whether a layer was put under the wire that has not said `secured` yet.
pub(in crate::transport) fn is_void(wire: TransportRef) -> bool {
    with(wire, |entry| entry.extra.as_ref().is_some_and(|extra| extra.void)).unwrap_or(false)
}
