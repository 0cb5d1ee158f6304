//! Byte machines: codecs and the line protocol, written on the transport traits only. Above them stand the green transports,
//! which decode with the same codecs on demand.
//!
//! | Twisted | here |
//! |---|---|
//! | `LineReceiver`, `LineOnlyReceiver` | [`LineReceiver`], [`LineOnlyReceiver`] around a [`LineHandler`]; [`Lines`] as a codec |
//! | `NetstringReceiver` | [`Framed`]`::new(`[`Netstrings`]`::new(), handler)` |
//! | `Int32StringReceiver` | [`Framed`]`::new(`[`Int32Strings`]`::new(), handler)` |
pub mod codec;
mod framed;
mod inbox;
pub mod line;
pub mod pull;
mod shared;

pub use codec::{Chunks, Decoder, Encoder, FrameError, Int32Strings, Lines, Netstrings, Raw};
pub use framed::{Framed, Handler};
pub use inbox::{Inbox, Received};
pub use line::{LineHandler, LineOnlyReceiver, LineReceiver, LineTransport};
pub use pull::{PullFactory, PullTransport};
