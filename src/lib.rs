//! Twisted's way of networking and Eventlet's way of writing it, on one thread: a callback reactor ([`Reactor`], [`Protocol`],
//! [`TransportRef`], [`Deferred`]) on mio, and green threads ([`green`]) on top of it, so that callbacks become synchronous
//! calls where one wants them and existing blocking code runs without blocking the reactor.
//!
//! A protocol in callbacks:
//!
//! ```
//! use twistlet::{Protocol, Reactor, TransportRef};
//!
//! struct Echo;
//! impl Protocol for Echo {
//!     fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
//!         transport.write(data);
//!     }
//! }
//!
//! let reactor = Reactor::new()?;
//! reactor.listen_tcp("127.0.0.1:0", || Echo)?;
//! reactor.call_soon(move || reactor.stop());
//! reactor.run()?;
//! # Ok::<(), twistlet::Failure>(())
//! ```
#![cfg_attr(
    feature = "green",
    doc = r#"
The same reactor from blocking code; the first call that waits starts it:

```
use twistlet::Reactor;
use twistlet::green::{GreenClientCreator, SpawnFactory, block_on};

let reactor = Reactor::current();
let port = reactor.listen_tcp("127.0.0.1:0", SpawnFactory::new(|conn| conn.write("hello")))?;
let to = port.address().socket().ok_or_else(|| twistlet::Failure::msg("no port"))?;

let conn = GreenClientCreator::new(&reactor).connect_tcp(to)?;
assert_eq!(conn.read_all()?, "hello");
assert_eq!(block_on(reactor.defer_to_thread(|| Ok(6 * 7)))?, 42);
# reactor.close();
# Ok::<(), twistlet::Failure>(())
```
"#
)]
//!
//! # The floors
//!
//! A module uses only those below it. Without the default feature `green` the two lowest and the highest are left out.
//!
//! | floor | what it is |
//! |---|---|
//! | `green` | green threads, [`block_on`](deferred), GreenTransport, primitives, std's names |
//! | [`endpoint`], [`service`] | connecting and listening by description; what starts and stops with a program |
//! | [`protocols`] | byte machines on the transport traits: lines, codecs, policies |
//! | [`transport`] | Protocol, Factory, Transport; TCP, UNIX and UDP sockets, processes, TLS; ports, connectors |
//! | [`task`] | repeated and delayed work on a [`Clock`] |
//! | [`reactor`] | the loop, timers, triggers, threads, signals |
//! | [`deferred`], [`shared`] | values that will come; objects that callbacks share |
//! | `greenlet` | coroutines: parent, switch, throw |
//! | [`error`], [`failure`], [`address`], [`clock`] | values and time |
//!
//! `testing` (with the feature of that name) stands beside them: virtual clocks, transports without sockets, a network in memory.
//!
//! # Threads
//!
//! A reactor belongs to its thread, and so does everything on it: handles are `Copy` names that are not `Send`. Another thread
//! holds a [`Remote`]. Several threads may each have a reactor. Green threads never leave their OS thread, so `Rc` and
//! `RefCell` work in them, and spawning one is safe.
#![deny(missing_docs)]
#![deny(unsafe_op_in_unsafe_fn)]

#[forbid(unsafe_code)]
pub mod address;
#[forbid(unsafe_code)]
pub mod clock;
#[forbid(unsafe_code)]
pub mod deferred;
#[forbid(unsafe_code)]
pub mod endpoint;
#[forbid(unsafe_code)]
pub mod error;
#[forbid(unsafe_code)]
pub mod failure;
#[cfg(feature = "green")]
#[forbid(unsafe_code)]
pub mod green;
#[cfg(feature = "green")]
#[forbid(unsafe_code)]
pub mod greenlet;
#[forbid(unsafe_code)]
pub mod protocols;
#[forbid(unsafe_code)]
pub mod reactor;
#[forbid(unsafe_code)]
pub mod service;
#[forbid(unsafe_code)]
pub mod shared;
mod sys;
#[forbid(unsafe_code)]
pub mod task;
#[cfg(feature = "testing")]
#[forbid(unsafe_code)]
pub mod testing;
#[forbid(unsafe_code)]
pub mod transport;

pub use address::Address;
pub use clock::{Clock, DelayedCall};
pub use deferred::{Deferred, IntoDeferred, Promise};
pub use error::{Cancelled, ConnectError, ConnectionClosed, TimedOut};
pub use failure::{Failure, Result};
pub use reactor::{Reactor, Remote};
pub use shared::{Shared, WeakShared};
pub use transport::{
    ClientFactory, Connector, DatagramPort, DatagramProtocol, Factory, ListeningPort, Producer, Protocol, PullProducer,
    Transport, TransportRef, from_fn,
};

/// README's snippets are doctests.
#[cfg(all(doctest, feature = "green"))]
#[doc = include_str!("../README.md")]
mod readme {}
