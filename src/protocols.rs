//! Byte machines, written on the transport traits only.
pub mod codec;
pub mod line;

pub use codec::{Chunks, Decoder, Encoder, Inbox, Int32Strings, Lines, Netstrings, Raw, Received};
pub use line::{LineHandler, LineOnlyReceiver, LineReceiver, LineTransport};
