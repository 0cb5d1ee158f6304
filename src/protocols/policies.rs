//! Factories around factories: what holds for all connections of a service, whatever its protocol (Twisted's
//! `protocols.policies`). They wrap each other in any order, and stand under callbacks, codecs and green threads alike.
//!
//! | Twisted | here |
//! |---|---|
//! | `LimitTotalConnectionsFactory`, its `overflowProtocol` | [`LimitTotalConnections`], [`overflow`](LimitTotalConnections::overflow) |
//! | `LimitConnectionsByPeer` | [`LimitConnectionsByPeer`] |
//! | `TimeoutFactory`, `TimeoutMixin` | [`TimeoutFactory`]; an [`IdleTimeout`] that a protocol keeps |
//! | `ThrottlingFactory` | [`ThrottlingFactory`] |
//! | `TrafficLoggingFactory`, `SpewingFactory` | [`TrafficLoggingFactory`] |
//! | `WrappingFactory`, `ProtocolWrapper` | [`WrappingFactory`] with a [`Wrapper`] of one's own |
//!
//! The limits cost one call a delivery. The others have a wire of their own, between that of the connection and the protocol,
//! which takes no memory and no timer a message.
mod idle;
mod layered;
mod limits;
mod throttle;
mod timeout;
mod traffic;
mod wrapper;
mod wrapping;

pub use idle::IdleTimeout;
pub use limits::{LimitConnectionsByPeer, LimitTotalConnections};
pub use throttle::ThrottlingFactory;
pub use timeout::TimeoutFactory;
pub use traffic::TrafficLoggingFactory;
pub use wrapper::{Layer, Wrapper};
pub use wrapping::{Live, WrappingFactory};

/// The hooks that a factory around `self.inner` passes on.
macro_rules! forward {
    (factory) => {
        fn start_factory(&mut self) {
            self.inner.start_factory();
        }
        fn stop_factory(&mut self) {
            self.inner.stop_factory();
        }
    };
    (client) => {
        fn started_connecting(&mut self, connector: Connector) {
            self.inner.started_connecting(connector);
        }
        fn client_connection_failed(&mut self, connector: Connector, reason: &ConnectError) {
            self.inner.client_connection_failed(connector, reason);
        }
        fn client_connection_lost(&mut self, connector: Connector, reason: &ConnectionClosed) {
            self.inner.client_connection_lost(connector, reason);
        }
    };
}
use forward;
