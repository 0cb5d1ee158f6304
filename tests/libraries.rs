//! Blocking libraries that nobody here wrote, unchanged over green sockets and green transports: two hundred conversations at
//! once on one thread, client and server both, every byte compared, and the reactor never held for longer than 20 ms.
#![cfg(feature = "green")]
#[path = "libraries/crowd.rs"]
mod crowd;
#[path = "libraries/gzip.rs"]
mod gzip;
#[path = "libraries/http.rs"]
mod http;
#[path = "libraries/mail.rs"]
mod mail;
mod support;
#[path = "libraries/tls.rs"]
mod tls;
#[path = "libraries/websocket.rs"]
mod websocket;
