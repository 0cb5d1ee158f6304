//! What a peer sends a TLS server or client: anything, in any pieces, ends or waits in the same way.
#![no_main]
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;
use twistlet::testing::{Clock, StringTransport};
use twistlet::transport::tls::{ClientConfig, ServerConfig, Side, TlsProtocol};
use twistlet::{ConnectionClosed, Protocol, TransportRef};
use twistlet_fuzz::cut;

static CONFIGS: OnceLock<(ClientConfig, ServerConfig)> = OnceLock::new();

fn side(server: bool) -> Side {
    let (client, config) = CONFIGS.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let chain = made.cert.pem();
        let client = ClientConfig::with_roots_pem(&chain).expect("a root");
        (client, ServerConfig::from_pem(&chain, made.signing_key.serialize_pem()).expect("a pair"))
    });
    if server { config.into() } else { client.named("localhost") }
}

/// How it ended, if it did; it must not have been told of data.
#[derive(Default)]
struct Told {
    lost: Option<String>,
    data: usize,
}
struct Listen(Rc<RefCell<Told>>);
impl Protocol for Listen {
    fn connection_made(&mut self, transport: TransportRef) {
        transport.write("hello");
    }
    fn data_received(&mut self, _: TransportRef, data: &[u8]) {
        self.0.borrow_mut().data += data.len();
    }
    fn connection_lost(&mut self, _: TransportRef, reason: &ConnectionClosed) {
        // Of a peer that speaks something else the message shows as much as had come.
        let reason = reason.to_string().split(": it sent").next().map(str::to_owned);
        assert!(std::mem::replace(&mut self.0.borrow_mut().lost, reason).is_none(), "lost twice");
    }
}

fn feed(server: bool, input: &[u8], piece: usize) -> (Option<String>, bool) {
    let clock = Clock::new();
    let told = Rc::new(RefCell::new(Told::default()));
    let wire = StringTransport::connect(TlsProtocol::new(side(server), Listen(told.clone())), &clock);
    for piece in input.chunks(piece.max(1)) {
        wire.deliver(piece);
        clock.advance(Duration::ZERO);
    }
    let closing = wire.is_disconnecting();
    wire.deliver_end();
    clock.advance(Duration::from_secs(60));
    wire.lose(ConnectionClosed::Done);
    let told = told.borrow();
    assert_eq!(told.data, 0, "data without a handshake");
    assert!(told.lost.is_some(), "never told of the end");
    (told.lost.clone(), closing)
}

fuzz_target!(|data: &[u8]| {
    let Some((piece, input)) = cut(data) else { return };
    for server in [true, false] {
        let whole = feed(server, input, input.len());
        assert_eq!(feed(server, input, piece), whole, "in pieces of {piece}");
    }
});
