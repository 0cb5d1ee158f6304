//! Interface sketch of twistlet: signatures only.
#![allow(unused_variables, dead_code, clippy::all)]

pub mod address;
pub mod clock;
pub mod deferred;
pub mod error;
pub mod failure;
#[cfg(feature = "green")]
pub mod green;
#[cfg(feature = "green")]
pub mod greenlet;
pub mod protocols;
pub mod reactor;
pub mod shared;
#[cfg(feature = "green")]
mod sys;
pub mod task;
pub mod testing;
pub mod transport;

pub use address::Address;
pub use clock::{Clock, DelayedCall};
pub use deferred::{Deferred, IntoDeferred, Promise};
pub use error::{Cancelled, ConnectError, ConnectionClosed, TimedOut};
pub use failure::{Failure, Result};
pub use reactor::{Reactor, Remote};
pub use shared::{Shared, WeakShared};
pub use transport::{
    ClientFactory, Connector, Factory, ListeningPort, Producer, Protocol, PullProducer, Transport, TransportRef,
    from_fn,
};

/// README's snippets are doctests.
#[cfg(all(doctest, feature = "green"))]
#[doc = include_str!("../README.md")]
mod readme {}
