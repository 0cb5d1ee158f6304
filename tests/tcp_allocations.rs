//! What connections cost the allocator: an echo of some bytes nothing, a connection that is gone nothing any more.
mod rig;

use rig::{Probe, dial, pump, serve};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::rc::Rc;
use twistlet::protocols::{LineHandler, LineOnlyReceiver, LineTransport};
use twistlet::{Address, DatagramPort, DatagramProtocol, Protocol, Reactor, TransportRef};

struct Counting;
thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static LIVE: Cell<isize> = const { Cell::new(0) };
}
fn count(blocks: usize, bytes: isize) {
    let _ = COUNT.try_with(|count| count.set(count.get() + blocks));
    let _ = LIVE.try_with(|live| live.set(live.get() + bytes));
}
// SAFETY: forwards to the system's allocator; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, -(layout.size() as isize));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(block, layout) }
    }
}
#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Echo;
impl Protocol for Echo {
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        transport.write(data);
    }
}
impl LineHandler for Echo {
    fn line_received(&mut self, transport: LineTransport, line: &[u8]) {
        transport.send_line(line);
    }
}

/// Blocks allocated by `rounds` echoes of `message`, the test's own turning of the loop taken off.
fn blocks_of_echoes(reactor: Reactor, client: &mut std::net::TcpStream, message: &[u8], rounds: usize) -> usize {
    let mut back = vec![0; message.len()];
    let mut echo = |talk: bool| {
        let before = COUNT.get();
        if talk {
            client.write_all(message).unwrap();
        }
        pump(reactor);
        if talk {
            client.read_exact(&mut back).unwrap();
            assert_eq!(back, message);
        }
        COUNT.get() - before
    };
    let mut sum = 0;
    for _ in 0..rounds {
        let idle = echo(false);
        sum += echo(true).saturating_sub(idle);
    }
    sum
}

#[test]
fn an_echo_allocates_nothing() {
    let reactor = Reactor::new().unwrap();
    reactor.handle_signals(false);
    for line in [false, true] {
        let at = if line { serve(reactor, || LineOnlyReceiver::new(Echo)) } else { serve(reactor, || Echo) };
        let mut client = dial(at);
        pump(reactor);
        let message = b"sixty-two bytes, say, and then the end of a line, as it is\r\n";
        blocks_of_echoes(reactor, &mut client, message, 5);
        assert_eq!(blocks_of_echoes(reactor, &mut client, message, 50), 0, "lines: {line}");
        // Several in a chunk: the memory for the rest is used again.
        let message = message.repeat(16);
        blocks_of_echoes(reactor, &mut client, &message, 5);
        assert_eq!(blocks_of_echoes(reactor, &mut client, &message, 50), 0, "sixteen, lines: {line}");
    }
}

#[test]
fn connections_that_are_gone_hold_no_memory() {
    let reactor = Reactor::new().unwrap();
    reactor.handle_signals(false);
    let lines = serve(reactor, || LineOnlyReceiver::new(Echo));
    let names: Rc<RefCell<Vec<TransportRef>>> = Rc::default();
    let keep = names.clone();
    let raw = serve(reactor, move || {
        let keep = keep.clone();
        Probe::new().on_made(move |transport| {
            let mut keep = keep.borrow_mut();
            keep.clear();
            keep.push(transport);
            transport.write(vec![1; 100_000]);
        })
    });
    let round = |n: usize| {
        for _ in 0..n {
            for at in [lines, raw] {
                let mut client = dial(at);
                client.write_all(b"one\r\ntwo\r\nthree\r\nfo").unwrap();
                pump(reactor);
                rig::reset(client);
                pump(reactor);
            }
        }
    };
    round(100);
    let before = LIVE.get();
    round(500);
    let grown = LIVE.get() - before;
    assert!(grown.abs() < 1024, "{grown} bytes are left of a thousand connections");
}

#[test]
fn an_answered_datagram_allocates_nothing() {
    // UDP-2
    struct Answer;
    impl DatagramProtocol for Answer {
        fn datagram_received(&mut self, port: DatagramPort, data: &[u8], from: &Address) {
            port.write_to(data, from).unwrap();
        }
    }
    let reactor = Reactor::new().unwrap();
    let port = reactor.listen_udp("127.0.0.1:0", Answer).unwrap();
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(rig::PATIENCE)).unwrap();
    client.connect(port.address().socket().unwrap()).unwrap();
    let answers = |number: usize| {
        let before = COUNT.get();
        for _ in 0..number {
            client.send(b"hello").unwrap();
        }
        pump(reactor);
        for _ in 0..number {
            assert_eq!(client.recv(&mut [0; 8]).unwrap(), 5);
        }
        COUNT.get() - before
    };
    // The read buffer is made by the first, and the loop's own lists grow.
    answers(1);
    answers(0);
    let idle = answers(0);
    assert!(answers(50) <= idle, "fifty cost what none does");
}
