//! Bad input and faults of the callback core, on real sockets: each gives a typed error or a log line, the reactor runs on,
//! and nothing else is lost.
mod rig;

use bytes::Bytes;
use rig::{
    Log, PATIENCE, Probe, Slot, address, dial, finish, logged, once, open_files, peer, pump, reset, run, serve,
    watch_log,
};
use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;
use twistlet::error::LineTooLong;
use twistlet::protocols::codec::{Framed, Handler};
use twistlet::protocols::{FrameError, LineHandler, LineOnlyReceiver, LineReceiver, LineTransport, Netstrings};
use twistlet::{
    Address, ClientFactory, ConnectError, ConnectionClosed, Connector, Factory, Protocol, Reactor, Shared, TransportRef,
};

struct EchoLines(Slot<ConnectionClosed>);
impl LineHandler for EchoLines {
    fn line_received(&mut self, transport: LineTransport, line: &[u8]) {
        transport.send_line(line);
    }
    fn connection_lost(&mut self, _: LineTransport, reason: &ConnectionClosed) {
        self.0.set(reason.clone());
    }
}

/// The server still serves.
#[track_caller]
fn still_serves(reactor: Reactor, at: std::net::SocketAddr) {
    let mut client = dial(at);
    client.write_all(b"hello\r\n").unwrap();
    pump(reactor);
    let mut back = [0; 7];
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello\r\n");
}

#[test]
fn garbage_and_over_long_lines_harm_only_the_connection_they_come_on() {
    let reactor = Reactor::new().unwrap();
    let reason = Slot::default();
    let of = reason.clone();
    let at = serve(reactor, move || LineOnlyReceiver::new(EchoLines(of.clone())));
    // Lines of a kind.
    let mut client = dial(at);
    client.write_all(b"\0\xff\r\r\n\n\r\n\x80\r\n").unwrap();
    pump(reactor);
    let mut back = [0; 13];
    client.read_exact(&mut back[..11]).unwrap();
    assert_eq!(&back[..11], b"\0\xff\r\r\n\n\r\n\x80\r\n");
    // No line at all.
    client.write_all(&[b'x'; 20_000]).unwrap();
    pump(reactor);
    assert_eq!(client.read(&mut back).unwrap(), 0, "closed in order");
    assert!(matches!(reason.get(), ConnectionClosed::Failed(failure) if failure.is::<LineTooLong>()));
    still_serves(reactor, at);
}

struct EchoFrames(Slot<ConnectionClosed>);
impl Handler<Bytes> for EchoFrames {
    fn message_received(&mut self, transport: TransportRef, message: Bytes) {
        transport.write_bytes(message);
    }
    fn connection_lost(&mut self, _: TransportRef, reason: &ConnectionClosed) {
        self.0.set(reason.clone());
    }
}

#[test]
fn garbage_on_a_framed_connection_is_its_typed_end() {
    let reason = Slot::default();
    run(|reactor| {
        let of = reason.clone();
        let at = serve(reactor, move || Framed::new(Netstrings::new(), EchoFrames(of.clone())));
        let mut client = dial(at);
        client.write_all(b"5:hello,GET / HTTP/1.1\r\n").unwrap();
        let talk = std::thread::spawn(move || {
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).unwrap();
            answer
        });
        let remote = reactor.remote();
        std::thread::spawn(move || {
            assert_eq!(talk.join().unwrap(), b"hello", "what was answered before arrives");
            remote.call_from_thread(|reactor| reactor.stop())
        });
    });
    assert!(matches!(reason.get(), ConnectionClosed::Failed(failure) if failure.is::<FrameError>()));
}

#[test]
fn silent_and_half_open_connections_hold_nobody_up() {
    let reactor = Reactor::new().unwrap();
    let at = serve(reactor, || LineOnlyReceiver::new(EchoLines(Slot::default())));
    let silent: Vec<TcpStream> = (0..50).map(|_| dial(at)).collect();
    let half_closed = dial(at);
    half_closed.shutdown(std::net::Shutdown::Read).unwrap();
    let mut half_line = dial(at);
    half_line.write_all(b"begun").unwrap();
    pump(reactor);
    still_serves(reactor, at);
    assert_eq!(reactor.statistics().descriptors, 1 + 52 + 1);
    drop((silent, half_closed, half_line));
    pump(reactor);
    still_serves(reactor, at);
}

#[test]
fn resets_at_any_moment_are_losses_of_their_own_connection() {
    let reactor = Reactor::new().unwrap();
    let log = Log::default();
    let of = log.clone();
    let at = serve(reactor, move || {
        let log = of.clone();
        Probe::new().on_data(|transport, data| transport.write(data)).on_lost(move |_, reason| {
            log.add(matches!(reason, ConnectionClosed::Lost(_)));
        })
    });
    // Before it is accepted, before data, and with data unread on both sides.
    reset(dial(at));
    pump(reactor);
    let early = dial(at);
    pump(reactor);
    reset(early);
    let mut late = dial(at);
    late.write_all(&[1; 100_000]).unwrap();
    pump(reactor);
    reset(late);
    pump(reactor);
    assert_eq!(log.take(), ["true"; 3]);
    assert_eq!(reactor.statistics().descriptors, 1);
}

#[test]
fn a_panic_in_any_callback_is_logged_and_ends_that_connection() {
    watch_log();
    type Make = fn() -> Probe;
    let callbacks: [(&str, Make); 4] = [
        ("made", || Probe::new().on_made(|_| panic!("in made"))),
        ("data", || Probe::new().on_data(|_, _| panic!("in data"))),
        ("read_lost", || Probe::new().on_read_lost(|_| panic!("in read_lost"))),
        ("lost", || Probe::new().on_lost(|_, _| panic!("in lost"))),
    ];
    for (name, make) in callbacks {
        let reactor = Reactor::new().unwrap();
        let first = Cell::new(true);
        let at = serve(reactor, move || -> Box<dyn Protocol> {
            if first.replace(false) {
                Box::new(make())
            } else {
                Box::new(LineReceiver::new(EchoLines(Slot::default())))
            }
        });
        let mut bad = dial(at);
        bad.write_all(b"x").unwrap();
        bad.shutdown(std::net::Shutdown::Write).unwrap();
        pump(reactor);
        assert_eq!(bad.read(&mut [0]).unwrap_or(0), 0, "{name}");
        let lines = logged();
        assert!(lines.len() == 1 && lines[0].contains(&format!("in {name}")), "{lines:?}");
        still_serves(reactor, at);
        assert!(logged().is_empty());
        reactor.close();
    }
}

#[test]
fn a_panic_whose_payload_panics_when_it_is_dropped_is_survived() {
    struct Mine;
    impl Drop for Mine {
        fn drop(&mut self) {
            panic!("again");
        }
    }
    let reactor = Reactor::new().unwrap();
    let first = Cell::new(true);
    let at = serve(reactor, move || -> Box<dyn Protocol> {
        if first.replace(false) {
            Box::new(Probe::new().on_data(|_, _| std::panic::panic_any(Mine)))
        } else {
            Box::new(LineReceiver::new(EchoLines(Slot::default())))
        }
    });
    let mut bad = dial(at);
    bad.write_all(b"x").unwrap();
    pump(reactor);
    assert_eq!(bad.read(&mut [0]).unwrap_or(0), 0);
    still_serves(reactor, at);
}

/// Does `act` when it is dropped.
struct OnDrop<F: FnMut()>(F);
impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn destructors_may_write_close_connect_listen_and_panic() {
    watch_log();
    let acts: [fn(TransportRef, Reactor); 8] = [
        |transport, _| transport.write(b"last words"),
        |transport, _| transport.lose_connection(),
        |transport, _| transport.abort_connection(),
        |transport, _| transport.switch_protocol(Probe::new(), b"x"),
        |transport, _| transport.register_producer(transport),
        |_, reactor| drop(reactor.listen_tcp("127.0.0.1:0", Probe::new)),
        |_, reactor| {
            reactor.connect_tcp("127.0.0.1:1", Probe::new);
        },
        |_, _| panic!("in a destructor"),
    ];
    for act in acts {
        let reactor = Reactor::new().unwrap();
        let others: Rc<RefCell<Vec<TransportRef>>> = Rc::default();
        let names = others.clone();
        let mut n = 0;
        let at = serve(reactor, move || -> Box<dyn Protocol> {
            n += 1;
            if n == 1 {
                let names = names.clone();
                let me = Rc::new(Cell::new(None));
                let of = me.clone();
                // On its own wire and on the other one.
                let guard = OnDrop(move || {
                    let all: Vec<TransportRef> = names.borrow().iter().copied().chain(of.get()).collect();
                    for transport in all {
                        act(transport, reactor);
                    }
                });
                Box::new(Probe::new().on_made(move |transport| me.set(Some(transport))).on_lost(move |_, _| {
                    let _guard = &guard;
                }))
            } else if n == 2 {
                let names = names.clone();
                Box::new(Probe::new().on_made(move |transport| names.borrow_mut().push(transport)))
            } else {
                Box::new(LineReceiver::new(EchoLines(Slot::default())))
            }
        });
        let first = dial(at);
        pump(reactor);
        let _second = dial(at);
        pump(reactor);
        drop(first);
        pump(reactor);
        still_serves(reactor, at);
        reactor.close();
    }
}

/// The owner of a buffer that is sent, with a destructor of its own.
struct Owner {
    data: Vec<u8>,
    on_drop: Box<dyn Fn() + Send>,
}
impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}
impl Drop for Owner {
    fn drop(&mut self) {
        (self.on_drop)();
    }
}

#[test]
fn the_destructor_of_a_buffer_that_was_sent_may_write() {
    thread_local! {
        static WIRE: Cell<Option<TransportRef>> = const { Cell::new(None) };
    }
    for length in [10, 10_000, 8 << 20] {
        let mut client = None;
        run(|reactor| {
            let probe = Probe::new().on_made(move |transport| {
                WIRE.set(Some(transport));
                let on_drop = || {
                    if let Some(transport) = WIRE.get() {
                        transport.write(b"and more");
                        transport.lose_connection();
                    }
                };
                transport.write_bytes(Bytes::from_owner(Owner { data: vec![0; length], on_drop: Box::new(on_drop) }));
            });
            let at = serve(reactor, once(probe.until_lost(reactor, &Slot::default())));
            client = Some(peer(at, |mut stream| {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).unwrap();
                all
            }));
        });
        let all = client.unwrap().join().unwrap();
        assert_eq!((all.len(), all.ends_with(b"and more")), (length + 8, true));
    }
}

#[test]
fn callbacks_may_close_their_own_and_any_other_connection_in_every_event() {
    let acts: [fn(TransportRef); 4] = [
        TransportRef::lose_connection,
        TransportRef::abort_connection,
        TransportRef::lose_write_connection,
        |transport| transport.fail_connection(twistlet::Failure::msg("no")),
    ];
    for act in acts {
        let reactor = Reactor::new().unwrap();
        let room: Rc<RefCell<Vec<TransportRef>>> = Rc::default();
        let lost = Rc::new(Cell::new(0));
        let (in_room, count) = (room.clone(), lost.clone());
        let at = serve(reactor, move || {
            let (enter, all, again, count) = (in_room.clone(), in_room.clone(), in_room.clone(), count.clone());
            Probe::new()
                .on_made(move |transport| enter.borrow_mut().push(transport))
                .on_data(move |_, _| all.borrow().iter().copied().for_each(act))
                .on_lost(move |_, _| {
                    again.borrow().iter().copied().for_each(act);
                    count.set(count.get() + 1);
                })
        });
        let mut clients: Vec<TcpStream> = (0..5).map(|_| dial(at)).collect();
        pump(reactor);
        for client in &mut clients {
            client.write_all(b"x").unwrap();
        }
        pump(reactor);
        drop(clients);
        pump(reactor);
        assert_eq!(lost.get(), 5);
        assert_eq!(reactor.statistics().descriptors, 1);
        reactor.close();
    }
}

/// Owns its port's name, so that a callback can end the port, and with the reactor the factory.
#[test]
fn a_callback_may_end_the_port_its_factory_and_the_reactor() {
    struct Made {
        log: Log,
    }
    impl Factory for Made {
        fn build_protocol(&mut self, _: &Address) -> Option<Box<dyn Protocol>> {
            let log = self.log.clone();
            Some(Box::new(Probe::new().on_lost(move |_, reason| log.add(reason))))
        }
        fn stop_factory(&mut self) {
            self.log.add("stopped");
        }
    }
    impl Drop for Made {
        fn drop(&mut self) {
            self.log.add("dropped");
        }
    }
    let log = Log::default();
    let reactor = Reactor::new().unwrap();
    reactor.handle_signals(false);
    let port = reactor.listen_tcp("127.0.0.1:0", Made { log: log.clone() }).unwrap();
    let mut client = dial(address(port));
    pump(reactor);
    let closer = serve(
        reactor,
        once(Probe::new().on_data(move |_, _| {
            let _ = port.stop_listening();
            reactor.close();
            reactor.close();
            assert!(port.start_listening().is_err());
        })),
    );
    dial(closer).write_all(b"x").unwrap();
    finish(reactor);
    let told = log.take();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told.contains(&"stopped".into()) && told.contains(&"dropped".into()), "{told:?}");
    assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
    assert_eq!(port.address(), Address::Gone);
}

#[test]
fn what_connection_lost_starts_at_the_reactor_s_end_comes_to_nothing_and_to_an_end() {
    let log = Log::default();
    let reactor = Reactor::new().unwrap();
    reactor.handle_signals(false);
    let (lost, failed) = (log.clone(), log.clone());
    let probe = Probe::new()
        .on_made(move |_| {
            let _ = reactor.stop();
        })
        .on_lost(move |transport, _| {
            lost.add("lost");
            transport.write(b"x");
            transport.call_later(Duration::ZERO, || ());
            reactor.call_soon(|| panic!("there is no later turn"));
            let _ = reactor.call_later(Duration::ZERO, || panic!("there is no later turn"));
            let failed = failed.clone();
            let _ = reactor.connect_protocol("127.0.0.1:1", Probe::new()).add_errback(move |_| {
                failed.add("failed");
                Ok(transport)
            });
            let _ = reactor.listen_tcp("127.0.0.1:0", Probe::new);
            let _ = reactor.stop();
            reactor.close();
        });
    let at = serve(reactor, once(probe));
    let _client = dial(at);
    finish(reactor);
    assert_eq!(log.take(), ["lost", "failed"]);
    Reactor::new().expect("the thread is free for another").close();
}

#[test]
fn a_shared_protocol_that_calls_itself_is_not_a_panic() {
    struct Member {
        room: Rc<RefCell<Vec<Shared<Member>>>>,
        heard: usize,
    }
    impl Protocol for Member {
        fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
            for member in self.room.borrow().iter() {
                member.call(|member| member.heard += 1); // itself among them
            }
            transport.write(data);
        }
    }
    watch_log();
    let reactor = Reactor::new().unwrap();
    let room: Rc<RefCell<Vec<Shared<Member>>>> = Rc::default();
    let of = room.clone();
    let at = serve(reactor, move || {
        let member = Shared::new(Member { room: of.clone(), heard: 0 });
        of.borrow_mut().push(member.clone());
        member
    });
    let mut clients = [dial(at), dial(at)];
    pump(reactor);
    for client in &mut clients {
        client.write_all(b"x").unwrap();
    }
    pump(reactor);
    assert_eq!(room.borrow().iter().map(|member| member.borrow().heard).collect::<Vec<_>>(), [2, 2]);
    assert!(logged().is_empty());
    room.borrow_mut().clear();
}

#[test]
fn a_factory_whose_hooks_panic_does_not_stop_the_others() {
    struct Bad;
    impl Factory for Bad {
        fn build_protocol(&mut self, _: &Address) -> Option<Box<dyn Protocol>> {
            panic!("build");
        }
        fn start_factory(&mut self) {
            panic!("start");
        }
        fn stop_factory(&mut self) {
            panic!("stop");
        }
    }
    impl ClientFactory for Bad {
        fn started_connecting(&mut self, _: Connector) {
            panic!("connecting");
        }
        fn client_connection_failed(&mut self, _: Connector, _: &ConnectError) {
            panic!("failed");
        }
    }
    watch_log();
    let reactor = Reactor::new().unwrap();
    let at = serve(reactor, || LineReceiver::new(EchoLines(Slot::default())));
    reactor.connect_tcp(at, Bad);
    pump(reactor);
    pump(reactor);
    let lines = logged();
    for hook in ["start", "connecting", "build", "failed", "stop"] {
        assert!(lines.iter().any(|line| line.contains(hook)), "{hook}: {lines:?}");
    }
    still_serves(reactor, at);
}

#[test]
fn a_write_to_a_peer_that_has_gone_is_a_loss_and_not_a_signal() {
    let reason = Slot::default();
    run(|reactor| {
        let probe = Probe::new().on_made(|transport| {
            transport.pause_producing();
            transport.call_later(Duration::from_millis(20), move || transport.write(b"one"));
            transport.call_later(Duration::from_millis(40), move || transport.write(b"two"));
            transport.call_later(Duration::from_millis(60), move || transport.write(vec![3; 1 << 20]));
        });
        let at = serve(reactor, once(probe.until_lost(reactor, &reason)));
        drop(dial(at));
    });
    assert!(matches!(reason.get(), ConnectionClosed::Lost(_)), "{:?}", reason.get());
}

#[test]
fn ten_thousand_connections_leave_no_descriptor_and_no_entry() {
    if std::env::var_os("TWISTLET_ALONE").is_none() {
        return alone("ten_thousand_connections_leave_no_descriptor_and_no_entry", 1024);
    }
    let reactor = Reactor::new().unwrap();
    reactor.handle_signals(false);
    let lost = Rc::new(Cell::new(0));
    let at = serve(reactor, || Probe::new().on_data(|transport, data| transport.write(data)));
    let before = open_files();
    let all = Rc::new(Cell::new(0));
    /// Fifty at a time, each the next one's cause.
    fn next(reactor: Reactor, at: std::net::SocketAddr, lost: Rc<Cell<usize>>, begun: Rc<Cell<usize>>) {
        if begun.get() == 10_000 {
            return;
        }
        begun.set(begun.get() + 1);
        let n = begun.get();
        let probe = Probe::new()
            .on_made(|transport| transport.write(b"x"))
            .on_data(move |transport, _| {
                transport.call_later(Duration::from_secs(3600), || ());
                // Resets, so that no ports are used up waiting.
                if n.is_multiple_of(10) { transport.lose_connection() } else { transport.abort_connection() }
            })
            .on_lost(move |_, _| {
                lost.set(lost.get() + 1);
                next(reactor, at, lost.clone(), begun.clone());
            });
        let _ = reactor.connect_protocol(at, probe);
    }
    for _ in 0..50 {
        next(reactor, at, lost.clone(), all.clone());
    }
    let deadline = reactor.call_later(Duration::from_secs(60), move || reactor.crash());
    while lost.get() < 10_000 && deadline.active() {
        pump(reactor);
    }
    assert_eq!(lost.get(), 10_000);
    deadline.cancel();
    pump(reactor);
    pump(reactor);
    let statistics = reactor.statistics();
    assert_eq!((statistics.descriptors, statistics.timers), (1, 0));
    assert!(open_files() <= before + 2, "{} descriptors, {before} before", open_files());
}

/// Runs one test of this file in a process of its own, where `TWISTLET_ALONE` is set, with room for `files` open files.
fn alone(test: &str, files: u32) {
    let script = format!("ulimit -n {files} && exec \"$0\" --exact {test} --nocapture");
    let status = Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env("TWISTLET_ALONE", "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} in a process of its own: {status}");
}

#[test]
fn when_descriptors_run_out_clients_are_shed_and_later_ones_served() {
    // TX20, LIS-6, R6
    if std::env::var_os("TWISTLET_ALONE").is_none() {
        return alone("when_descriptors_run_out_clients_are_shed_and_later_ones_served", 64);
    }
    watch_log();
    let reactor = Reactor::new().unwrap();
    reactor.handle_signals(false);
    let built = Rc::new(Cell::new(0));
    let count = built.clone();
    let at = serve(reactor, move || {
        count.set(count.get() + 1);
        LineReceiver::new(EchoLines(Slot::default()))
    });
    // The clients are of this process too: one is there, then everything is used up but for one descriptor, the client's.
    let mut early = dial(at);
    pump(reactor);
    let mut hoard = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoard.push(file);
    }
    drop(hoard.pop());
    let mut shed = dial(at);
    let turns = reactor.statistics().turns;
    for _ in 0..20 {
        pump(reactor);
    }
    assert!(reactor.statistics().turns - turns < 400);
    assert_eq!(shed.read(&mut [0]).unwrap_or(0), 0, "closed at once");
    assert_eq!(built.get(), 1, "no protocol for whom there is no descriptor");
    let lines = logged();
    assert!(lines.len() == 1 && lines[0].contains("were shed"), "one line a second at most: {lines:?}");
    early.write_all(b"still\r\n").unwrap();
    pump(reactor);
    let mut back = [0; 7];
    early.read_exact(&mut back).unwrap();
    drop((hoard, shed));
    still_serves(reactor, at);
}

#[test]
fn a_port_without_descriptors_does_not_spin() {
    if std::env::var_os("TWISTLET_ALONE").is_none() {
        return alone("a_port_without_descriptors_does_not_spin", 64);
    }
    let reactor = Reactor::new().unwrap();
    reactor.handle_signals(false);
    let at = serve(reactor, Probe::new);
    let mut hoard = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoard.push(file);
    }
    drop(hoard.pop());
    let client = dial(at);
    let before = reactor.statistics().turns;
    let turns = Rc::new(Cell::new(0));
    let seen = turns.clone();
    reactor.call_later(Duration::from_millis(500), move || {
        seen.set(reactor.statistics().turns - before);
        reactor.stop()
    });
    finish(reactor);
    assert!(turns.get() < 50, "{} turns in half a second", turns.get());
    drop((hoard, client));
}

#[test]
fn connecting_without_a_descriptor_left_is_told_as_such() {
    if std::env::var_os("TWISTLET_ALONE").is_none() {
        return alone("connecting_without_a_descriptor_left_is_told_as_such", 64);
    }
    let error = Slot::default();
    run(|reactor| {
        let at = serve(reactor, Probe::new);
        let mut hoard = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            hoard.push(file);
        }
        let seen = error.clone();
        let _ = reactor.connect_protocol(at, Probe::new()).add_callback(|_| ()).add_errback(move |failure| {
            drop(std::mem::take(&mut hoard));
            seen.set(failure.trap::<ConnectError>()?.clone());
            let _ = reactor.stop();
            Ok(())
        });
    });
    assert!(matches!(error.get(), ConnectError::Os { code: libc::EMFILE, .. }), "{:?}", error.get());
}

#[test]
fn a_thousand_clients_that_come_and_go_at_random_lose_no_one_s_bytes() {
    // Each says its number and expects it back, or resets in between; the order is what the threads make of it.
    let served = Rc::new(Cell::new(0));
    let mut clients = Vec::new();
    run(|reactor| {
        let count = served.clone();
        let at = serve(reactor, move || {
            let count = count.clone();
            LineOnlyReceiver::new(Counting(count))
        });
        let remote = reactor.remote();
        let all: Vec<_> = (0..4)
            .map(|thread| {
                std::thread::spawn(move || {
                    let mut answered = 0;
                    for n in 0..250 {
                        let mut stream = dial(at);
                        write!(stream, "{thread}-{n}\r\n").unwrap();
                        if n % 3 == 0 {
                            reset(stream);
                            continue;
                        }
                        let mut answer = vec![0; format!("{thread}-{n}\r\n").len()];
                        stream.read_exact(&mut answer).unwrap();
                        assert_eq!(String::from_utf8(answer).unwrap(), format!("{thread}-{n}\r\n"));
                        answered += 1;
                        if n % 2 == 0 {
                            reset(stream);
                        }
                    }
                    answered
                })
            })
            .collect();
        clients.push(std::thread::spawn(move || {
            let answered: usize = all.into_iter().map(|thread| thread.join().unwrap()).sum();
            remote.call_from_thread(|reactor| reactor.stop()).unwrap();
            answered
        }));
    });
    assert_eq!(clients.pop().unwrap().join().unwrap(), 4 * 166);
    assert!(served.get() >= 4 * 166);
}
struct Counting(Rc<Cell<usize>>);
impl LineHandler for Counting {
    fn line_received(&mut self, transport: LineTransport, line: &[u8]) {
        self.0.set(self.0.get() + 1);
        transport.send_line(line);
    }
}

#[test]
fn a_slow_reader_holds_only_itself_back() {
    let reactor = Reactor::new().unwrap();
    reactor.handle_signals(false);
    let at = serve(reactor, || Probe::new().on_made(|transport| transport.write(vec![9; 32 << 20])));
    let lines = serve(reactor, || LineReceiver::new(EchoLines(Slot::default())));
    let slow = dial(at);
    pump(reactor);
    still_serves(reactor, lines);
    let reading = peer(at, |mut stream| {
        let mut buffer = vec![0; 1 << 20];
        stream.read_exact(&mut buffer).map(|()| buffer[0])
    });
    reactor.call_later(Duration::from_millis(50), move || reactor.stop());
    finish(reactor);
    assert_eq!(reading.join().unwrap().unwrap_or(9), 9);
    drop(slow);
    assert!(PATIENCE > Duration::from_secs(1));
    let refused = TcpStream::connect(at).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "the reactor's end closed the port");
}
