//! Both ends of a connection on this thread's reactor, as green transports.
#![allow(dead_code)] // each test file uses a part
use bytes::Bytes;
use std::net::SocketAddr;
use std::time::Duration;
use twistlet::green::{GreenClientCreator, GreenTransport, Queue, SpawnFactory, sleep};
use twistlet::protocols::{Decoder, Raw};
use twistlet::transport::Factory;
use twistlet::{Reactor, Result};

pub fn creator() -> GreenClientCreator {
    GreenClientCreator::new(&Reactor::current())
}
/// Where `factory` listens.
#[track_caller]
pub fn listen(factory: impl Factory + 'static) -> SocketAddr {
    let port = Reactor::current().listen_tcp("127.0.0.1:0", factory).expect("a free port");
    port.address().socket().expect("it listens")
}
/// The near end with a decoder, the far one raw.
#[track_caller]
pub fn framed_pair<D: Decoder>(decoder: impl Fn() -> D + 'static) -> (GreenTransport<D>, GreenTransport) {
    let accepted = Queue::new();
    let queue = accepted.clone();
    let factory = SpawnFactory::new(move |conn: GreenTransport| queue.send(conn)).keep_open();
    let port = Reactor::current().listen_tcp("127.0.0.1:0", factory).expect("a free port");
    let near = creator().framed(decoder).connect_tcp(&port.address()).expect("it listens");
    let far = accepted.wait().expect("accepted");
    drop(port.stop_listening());
    (near, far)
}
#[track_caller]
pub fn pair() -> (GreenTransport, GreenTransport) {
    framed_pair(|| Raw)
}
/// An item as text; "-" is the end.
pub fn text(item: Result<Option<Bytes>>) -> String {
    match item {
        Ok(Some(bytes)) => bytes.escape_ascii().to_string(),
        Ok(None) => "-".to_owned(),
        Err(failure) => format!("error: {failure}"),
    }
}
/// Lets the loop run until `done`, which a guard sees to if it never comes.
pub fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        sleep(Duration::from_micros(100));
    }
}
