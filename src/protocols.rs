//! Byte machines: codecs and the line protocol, written on the transport traits only. Above them stand the green transports,
//! which decode with the same codecs on demand.
//!
//! | Twisted | here |
//! |---|---|
//! | `LineReceiver`, `LineOnlyReceiver` | [`LineReceiver`], [`LineOnlyReceiver`] around a [`LineHandler`]; [`Lines`] as a codec |
//! | `NetstringReceiver` | [`Framed`]`::new(`[`Netstrings`]`::new(), handler)` |
//! | `Int8StringReceiver`, `Int16StringReceiver`, `Int32StringReceiver` | [`Framed`]`::new(`[`Int32Strings`]`::new(), handler)`, and so on |
//! | `FileSender` | [`FileSender`] |
//! | `portforward.ProxyFactory` | [`ForwardFactory`](portforward::ForwardFactory) |
//! | their `recvd` | [`Unread`], which [`Framed::with_unread`] gives the handler |
pub mod codec;
mod file_sender;
mod forward;
mod framed;
mod inbox;
pub mod line;
pub mod policies;
pub mod portforward;
pub mod proxy;
pub mod pull;
mod shared;
mod shared_factory;

pub use codec::{
    Chunks, Decoder, Encoder, FrameError, Int8Strings, Int16Strings, Int32Strings, Int64Strings, Lines, Netstrings, Raw,
};
pub use file_sender::{FileSender, Sent, TransferStopped};
pub use framed::{Framed, Handler, Unread};
pub use inbox::{Inbox, Received};
pub use line::{LineHandler, LineOnlyReceiver, LineReceiver, LineTransport};
pub use pull::{PullFactory, PullTransport};

pub(crate) use forward::{Forward, Hooks};
pub(crate) use shared_factory::SharedFactory;
