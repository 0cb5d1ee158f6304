//! `Flow`: whether a protocol with several messages in its bytes may go on to the next. Asked before each.
use super::with;
use crate::transport::TransportRef;

/// Whether a protocol that has found several messages in its bytes may go on to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flow {
    Go,
    /// Not now: `TransportRef::when_resumed` tells when.
    Paused,
    /// Never again: the connection is being closed, is gone, or has got another protocol; or TLS has begun on it, and what was
    /// found before is to be forgotten.
    Over,
}

pub(in crate::transport) fn flow(wire: TransportRef) -> Flow {
    let state = with(wire, |entry| {
        let void = entry.extra.as_ref().is_some_and(|extra| extra.void);
        (!entry.lost && entry.switching == 0 && !void).then(|| (entry.paused, entry.transport.clone()))
    });
    match state.flatten() {
        Some((paused, Some(transport))) if !transport.is_disconnecting() => {
            if paused {
                Flow::Paused
            } else {
                Flow::Go
            }
        }
        _ => Flow::Over,
    }
}
