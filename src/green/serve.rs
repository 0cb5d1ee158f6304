//! Servers and clients in a line: Eventlet's `connect`, `listen` and `serve`, and a server on all cores.
//!
//! A server runs each connection's handler in a green thread of its own, closes the connection when that has ended, whichever
//! way, and goes on when a handler fails. What must never happen here: one connection's failure that ends another, a connection
//! without an end, a loop that spins on errors.
//!
//! ```
//! use std::io::{Read, Write};
//! use twistlet::green::serve::{StopServe, connect, listen, serve};
//! use twistlet::green::spawn;
//!
//! let listener = listen("127.0.0.1:0")?;
//! let address = listener.local_addr()?;
//! let client = spawn(move || {
//!     let mut stream = connect(address)?;
//!     stream.write_all(b"hello")?;
//!     stream.shutdown(std::net::Shutdown::Write)?;
//!     let mut answer = String::new();
//!     stream.read_to_string(&mut answer)?;
//!     Ok(answer)
//! });
//! serve(&listener, |mut stream, _peer| -> twistlet::Result {
//!     let mut text = String::new();
//!     stream.read_to_string(&mut text)?;
//!     stream.write_all(text.to_uppercase().as_bytes())?;
//!     Err(StopServe.into()) // one is enough
//! })?;
//! assert_eq!(client.wait()?, "HELLO");
//! # Ok::<(), twistlet::Failure>(())
//! ```
mod cores;
mod dial;
mod handle;
mod listener;
mod room;
mod server;

pub use cores::{Cores, serve_on_all_cores};
pub use dial::{Connect, Listen, connect, listen};
pub use handle::{ServeHandle, StopServe};
pub use listener::Listener;
pub use server::{Server, serve};
