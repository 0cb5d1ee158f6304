//! Files as output: whole, exact, in little memory; cut off, cancelled, growing and shrinking on the way.
mod certs;
mod rig;

use rig::{Countdown, Log, Probe, Slot, logged, peer, plain_server, run, serve, watch_log};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use twistlet::protocols::policies::{ThrottlingFactory, TimeoutFactory, TrafficLoggingFactory};
use twistlet::protocols::{FileSender, Sent, TransferStopped};
use twistlet::testing::{Clock, StringTransport, failure_result_of};
use twistlet::transport::tls::wrap_factory;
use twistlet::{Cancelled, ConnectionClosed, Deferred, Factory, Reactor, Result, TransportRef};

/// Counts the bytes that this OS thread holds, and remembers the most.
struct Weighing;
thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}
fn weigh(bytes: isize) {
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}
// SAFETY: forwards to the system's allocator; weighing neither allocates nor unwinds.
unsafe impl GlobalAlloc for Weighing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        weigh(layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        weigh(-(layout.size() as isize));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(block, layout) }
    }
}
#[global_allocator]
static ALLOCATOR: Weighing = Weighing;

/// A file that is gone when the test is.
struct Temporary(PathBuf);
impl Temporary {
    fn new(name: &str, content: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("twistlet-file-sender-{}-{name}", std::process::id()));
        std::fs::write(&path, content).expect("writable");
        Temporary(path)
    }
    fn open(&self) -> File {
        File::open(&self.0).expect("it is there")
    }
    /// How many descriptors of this process are its.
    fn descriptors(&self) -> usize {
        let all = std::fs::read_dir("/proc/self/fd").expect("Linux");
        all.flatten().filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|path| path == self.0)).count()
    }
    fn write(&self) -> File {
        File::options().write(true).open(&self.0).expect("it is there")
    }
}
impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn quiet() -> (Clock, StringTransport) {
    let clock = Clock::new();
    let wire = StringTransport::connect(Probe::new(), &clock);
    (clock, wire)
}
/// The outcome of a transfer, once there is one.
fn outcome(deferred: Deferred<Sent>) -> Slot<Result<Sent>> {
    let slot = Slot::default();
    let told = slot.clone();
    drop(deferred.add_both(move |sent| told.set(sent)));
    slot
}

#[test]
fn each_request_is_answered_by_one_chunk_and_the_end_by_the_last_byte() {
    // P14, FIL-1
    let file = Temporary::new("chunks", b"0123456789");
    let (_clock, wire) = quiet();
    let sent = outcome(FileSender::new(file.open()).chunk_size(4).send(wire.transport()));
    let mut pieces = Vec::new();
    while !sent.is_set() {
        wire.resume_producer();
        pieces.push(String::from_utf8(wire.take()).expect("digits"));
    }
    assert_eq!(pieces, ["0123", "4567", "89", ""]);
    let sent = sent.get().expect("no error");
    assert_eq!((sent.bytes, sent.last), (10, Some(b'9')));
    assert!(!wire.has_producer());
}

#[test]
fn a_transform_makes_of_each_chunk_what_it_wants() {
    let file = Temporary::new("transform", b"keep drop keep");
    let (_clock, wire) = quiet();
    let upper = |chunk: &[u8]| if chunk == b"drop " { Vec::new() } else { chunk.to_ascii_uppercase() };
    let sent = outcome(FileSender::new(file.open()).chunk_size(5).transform(upper).send(wire.transport()));
    for _ in 0..4 {
        wire.resume_producer();
    }
    assert_eq!(wire.value(), b"KEEP KEEP");
    let sent = sent.get().expect("no error");
    assert_eq!((sent.bytes, sent.last), (14, Some(b'P')));
}

#[test]
fn a_transfer_that_is_stopped_fails_with_what_it_had_sent() {
    // PX08
    let file = Temporary::new("stopped", b"0123456789");
    let (_clock, wire) = quiet();
    let deferred = FileSender::new(file.open()).chunk_size(4).send(wire.transport());
    wire.resume_producer();
    wire.lose(ConnectionClosed::Lost(None));
    let failure = failure_result_of(deferred);
    assert_eq!(failure.check::<TransferStopped>().map(|stopped| stopped.sent), Some(4));
    // On a connection that is gone already: in a later turn.
    run(|reactor| {
        let file = file.open();
        let to = serve(
            reactor,
            rig::once(Probe::new().on_lost(move |t, _| {
                let file = file.try_clone().expect("a copy");
                reactor.call_soon(move || {
                    let deferred = FileSender::new(file).send(t);
                    drop(deferred.add_both(move |sent| {
                        assert!(sent.is_err_and(|failure| failure.is::<TransferStopped>()));
                        let _ = reactor.stop();
                    }));
                });
            })),
        );
        drop(rig::dial(to));
    });
}

#[test]
fn a_cancelled_transfer_leaves_the_connection_to_others() {
    let file = Temporary::new("cancelled", b"0123456789");
    let (clock, wire) = quiet();
    let deferred = FileSender::new(file.open()).chunk_size(4).send(wire.transport());
    wire.resume_producer();
    deferred.cancel();
    assert!(failure_result_of(deferred).is::<Cancelled>());
    assert!(!wire.has_producer());
    clock.advance(Duration::ZERO);
    wire.resume_producer();
    assert_eq!(wire.take(), b"0123");
    // After the end there is nothing to be cancelled: the next producer stays.
    let first = FileSender::new(file.open()).send(wire.transport());
    let canceller = first.canceller();
    wire.resume_producer();
    wire.resume_producer();
    drop(first);
    drop(FileSender::new(file.open()).send(wire.transport()));
    canceller.cancel();
    assert!(wire.has_producer());
}

#[test]
fn the_next_file_is_sent_from_the_end_of_the_first() {
    let (one, two) = (Temporary::new("one", b"first "), Temporary::new("two", b"second"));
    let (_clock, wire) = quiet();
    let (near, next) = (wire.transport(), two.open());
    let sent = FileSender::new(one.open()).send(near).add_callback(move |_| FileSender::new(next).send(near));
    let sent = outcome(sent);
    while !sent.is_set() {
        wire.resume_producer();
    }
    assert_eq!(wire.value(), b"first second");
    assert_eq!(sent.get().expect("no error").last, Some(b'd'));
}

#[test]
#[should_panic(expected = "a producer is registered with this transport already")]
fn a_transport_sends_one_file_at_a_time() {
    let file = Temporary::new("twice", b"x");
    let (_clock, wire) = quiet();
    drop(FileSender::new(file.open()).send(wire.transport()));
    drop(FileSender::new(file.open()).send(wire.transport()));
}

#[test]
fn a_length_is_kept_to_and_a_file_that_ends_before_is_an_error() {
    let file = Temporary::new("length", b"0123456789");
    let (_clock, wire) = quiet();
    let mut from_two = file.open();
    from_two.seek(SeekFrom::Start(2)).expect("seekable");
    let sent = outcome(FileSender::new(from_two).length(5).send(wire.transport()));
    while !sent.is_set() {
        wire.resume_producer();
    }
    assert_eq!(wire.take(), b"23456");
    let sent = outcome(FileSender::new(file.open()).length(11).send(wire.transport()));
    while !sent.is_set() {
        wire.resume_producer();
    }
    let failure = sent.get().expect_err("too short");
    assert_eq!(failure.check::<std::io::Error>().map(std::io::Error::kind), Some(ErrorKind::UnexpectedEof));
    assert!(!wire.has_producer() && !wire.is_disconnecting());
}

#[test]
fn an_error_of_reading_and_a_panicking_transform_end_the_transfer() {
    struct Broken(u32);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0 += 1;
            match self.0 {
                1 => Err(ErrorKind::Interrupted.into()),
                2 => {
                    buffer[0] = b'x';
                    Ok(1)
                }
                _ => Err(ErrorKind::PermissionDenied.into()),
            }
        }
    }
    let (_clock, wire) = quiet();
    let sent = outcome(FileSender::reading(Broken(0)).send(wire.transport()));
    wire.resume_producer();
    wire.resume_producer();
    assert_eq!(wire.value(), b"x");
    let failure = sent.get().expect_err("denied");
    assert_eq!(failure.check::<std::io::Error>().map(std::io::Error::kind), Some(ErrorKind::PermissionDenied));

    watch_log();
    let file = Temporary::new("panic", b"x");
    let reason = Slot::default();
    run(|reactor| {
        let file = file.open();
        let probe = Probe::new()
            .on_made(move |t| {
                let file = file.try_clone().expect("a copy");
                drop(FileSender::new(file).transform(|_| panic!("no")).send(t));
            })
            .until_lost(reactor, &reason);
        let to = serve(reactor, rig::once(probe));
        drop(peer(to, |mut stream| stream.read_to_end(&mut Vec::new())));
    });
    assert!(matches!(reason.get(), ConnectionClosed::Failed(_)));
    logged();
}

type Wrap = fn(Box<dyn Factory>) -> Box<dyn Factory>;

/// Serves what `send` does with the connection of a plain client, and gives what that has received.
fn received(
    wrap: impl FnOnce(Box<dyn Factory>) -> Box<dyn Factory>,
    send: impl FnMut(TransportRef) + 'static,
) -> Vec<u8> {
    let send = Rc::new(std::cell::RefCell::new(send));
    let mut client = None;
    run(|reactor| {
        let made = move || {
            let send = send.clone();
            Probe::new().on_made(move |t| (send.borrow_mut())(t)).on_lost(move |_, _| {
                let _ = reactor.stop();
            })
        };
        let to = serve(reactor, wrap(Box::new(made)));
        client = Some(peer(to, |mut stream| {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).expect("a clean end");
            all
        }));
    });
    client.expect("started").join().expect("it read to the end")
}

#[test]
fn a_large_file_goes_through_every_kind_of_wire_between_other_writes() {
    let data = content(5_000_000);
    let file = Rc::new(Temporary::new("large", &data));
    let expected = [b"before ", &data[..], b" after"].concat();
    let kinds: [Wrap; 3] = [
        |inner| inner,
        |inner| Box::new(TimeoutFactory::half_an_hour(inner)),
        |inner| {
            Box::new(ThrottlingFactory::new(TrafficLoggingFactory::new(std::io::sink(), inner)).write_limit(1 << 40))
        },
    ];
    for wrap in kinds {
        let (file, last) = (file.clone(), data.last().copied());
        let all = received(wrap, move |t| {
            t.write("before ");
            let sent = FileSender::new(file.open()).send(t);
            drop(sent.add_callback(move |sent| {
                assert_eq!((sent.bytes, sent.last), (5_000_000, last));
                t.write(" after");
                t.lose_connection();
            }));
        });
        assert!(all == expected, "{} bytes", all.len());
    }
}

#[test]
fn a_close_waits_for_the_file_and_other_output_goes_between_its_parts() {
    // TCP-15
    let data = content(3_000_000);
    let file = Temporary::new("close", &data);
    let all = received(
        |inner| inner,
        move |t| {
            drop(FileSender::new(file.open()).send(t).add_callback(move |_| t.write("!")));
            t.write("small");
            t.write_bytes(bytes::Bytes::from(vec![b'.'; 100_000]));
            t.lose_connection();
        },
    );
    assert_eq!(all.len(), 3_000_000 + 100_005 + 1);
    assert_eq!(all.last(), Some(&b'!'));
    let file_only: Vec<u8> = all[100_005..all.len() - 1].to_vec();
    assert!(file_only == data, "what was written before the first part left goes before it");
}

#[test]
fn files_that_the_system_does_not_send_are_read() {
    // Neither has a size; one cannot be sought in.
    let version = std::fs::read("/proc/version").expect("Linux");
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(b"through a pipe").expect("room");
    drop(writer);
    let files = [(File::open("/proc/version").expect("Linux"), version), {
        (File::from(std::os::fd::OwnedFd::from(reader)), b"through a pipe".to_vec())
    }];
    for (file, expected) in files {
        let all = received(
            |inner| inner,
            move |t| {
                let file = file.try_clone().expect("a copy");
                drop(FileSender::new(file).send(t).add_callback(move |_| t.lose_connection()));
            },
        );
        assert_eq!(all, expected);
    }
}

#[test]
fn a_file_that_shrinks_ends_there_and_one_that_grows_is_followed() {
    let data = content(8_000_000);
    for grows in [false, true] {
        let file = Temporary::new(if grows { "grows" } else { "shrinks" }, &data);
        let sent = Slot::default();
        let told = sent.clone();
        let (opened, changed) = (file.open(), file.write());
        let mut once = Some((opened, changed));
        let all = received(
            |inner| inner,
            move |t| {
                let Some((opened, changed)) = once.take() else { return };
                let told = told.clone();
                drop(FileSender::new(opened).send(t).add_callback(move |sent| {
                    told.set(sent);
                    t.lose_connection();
                }));
                if grows {
                    changed.write_all_at(b"the new end", 8_000_000).expect("room");
                } else {
                    changed.set_len(3_000_000).expect("shorter");
                }
            },
        );
        let expected = if grows { 8_000_011 } else { 3_000_000 };
        assert_eq!(all.len(), expected);
        assert_eq!(sent.get().bytes, expected as u64);
        assert!(all[..3_000_000] == data[..3_000_000]);
        assert!(!grows || all.ends_with(b"the new end"));
    }
}

#[test]
fn a_peer_that_goes_away_midway_fails_the_transfer_and_frees_the_file() {
    let file = Temporary::new("midway", &content(20_000_000));
    let stopped = Slot::default();
    run(|reactor| {
        let (told, counted) = (stopped.clone(), Countdown::new(reactor, 2));
        let lost = counted.clone();
        let opened = file.open();
        let probe = Probe::new()
            .on_made(move |t| {
                let (told, counted) = (told.clone(), counted.clone());
                let opened = opened.try_clone().expect("a copy");
                drop(FileSender::new(opened).send(t).add_errback(move |failure| {
                    told.set(failure.check::<TransferStopped>().copied());
                    counted.done();
                    Ok(Sent::clone(&EMPTY.with(|sent| *sent)))
                }));
            })
            .on_lost(move |_, _| lost.done());
        let to = serve(reactor, rig::once(probe));
        drop(peer(to, |mut stream| {
            stream.read_exact(&mut vec![0; 1_000_000]).expect("the beginning");
            rig::reset(stream);
        }));
    });
    let sent = stopped.get().expect("told why").sent;
    assert!((1_000_000..20_000_000).contains(&sent), "{sent}");
    assert_eq!(file.descriptors(), 0);
}
thread_local! {
    static EMPTY: Sent = {
        let (_clock, wire) = quiet();
        let sent = outcome(FileSender::reading(std::io::empty()).send(wire.transport()));
        wire.resume_producer();
        sent.get().expect("nothing to read")
    };
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

/// A client of TLS that is none of ours.
fn session() -> rustls::ClientConnection {
    use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(certs::authority().root.as_bytes()).expect("PEM");
    roots.add(root).expect("a root");
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.expect("a version").with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    rustls::ClientConnection::new(std::sync::Arc::new(config), name).expect("a client")
}

#[test]
fn a_gigabyte_takes_no_more_than_64_kib_of_memory() {
    const GIGABYTE: u64 = 1 << 30;
    let file = Temporary::new("gigabyte", b"");
    file.write().set_len(GIGABYTE).expect("sparse");
    // Sent by the system; read, where something looks at what passes; read and encrypted.
    let kinds: [(Wrap, bool); 3] = [
        (|inner| inner, false),
        (|inner| Box::new(TimeoutFactory::half_an_hour(inner)), false),
        (|inner| Box::new(wrap_factory(certs::server(), inner)), true),
    ];
    for (wrap, is_secure) in kinds {
        let used = Slot::default();
        let client;
        let opened = file.open();
        // It takes longer than `run` has patience for, where builds run beside it.
        let reactor = Reactor::new().expect("a reactor");
        reactor.handle_signals(false);
        {
            let told = used.clone();
            let made = move || {
                let told = told.clone();
                let opened = opened.try_clone().expect("a copy");
                // Asked for it, so that what a handshake takes is not the file's.
                Probe::new().on_data(move |t, _| {
                    let (told, before) = (told.clone(), HELD.get());
                    MOST.set(before);
                    let opened = opened.try_clone().expect("a copy");
                    drop(FileSender::new(opened).send(t).add_callback(move |sent| {
                        told.set((sent.bytes, MOST.get() - before));
                        t.lose_connection();
                        let _ = reactor.stop();
                    }));
                })
            };
            let to = serve(reactor, wrap(Box::new(made)));
            client = peer(to, move |mut stream| {
                let mut buffer = vec![0; 1 << 20];
                let mut all = 0u64;
                let mut count = |stream: &mut dyn ReadWrite| {
                    stream.write_all(b"?").expect("taken");
                    while let Ok(n @ 1..) = stream.read(&mut buffer) {
                        all += n as u64;
                    }
                };
                if is_secure {
                    let mut session = session();
                    count(&mut rustls::Stream::new(&mut session, &mut stream));
                } else {
                    count(&mut stream);
                }
                all
            });
        }
        reactor.call_later(Duration::from_secs(120), move || reactor.stop());
        reactor.run().expect("it runs");
        let (sent, most) = used.get();
        assert_eq!(sent, GIGABYTE);
        assert!(most <= 64 * 1024, "{most} bytes held on the way");
        assert_eq!(client.join().expect("it read"), GIGABYTE);
    }
}

#[test]
fn what_cannot_be_read_as_a_file_is_an_error_and_leaves_the_connection() {
    // A directory; a file that is open for writing only; a FIFO that has no writer and is not to be waited for.
    let file = Temporary::new("write-only", b"secret");
    let fifo = std::env::temp_dir().join(format!("twistlet-file-sender-{}.fifo", std::process::id()));
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo");
    assert!(made.success());
    let open = |path: &std::path::Path| {
        use std::os::unix::fs::OpenOptionsExt;
        File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).expect("it is there")
    };
    let silent = open(&fifo);
    let _writer = File::options().write(true).open(&fifo).expect("it has a reader");
    let cases = [
        (File::open(std::env::temp_dir()).expect("it is there"), ErrorKind::IsADirectory),
        (file.write(), ErrorKind::Other),
        (silent, ErrorKind::WouldBlock),
    ];
    for (file, expected) in cases {
        let told = Slot::default();
        let heard = told.clone();
        let mut file = Some(file);
        let all = received(
            |inner| inner,
            move |t| {
                let heard = heard.clone();
                let Some(file) = file.take() else { return };
                drop(FileSender::new(file).send(t).add_both(move |sent| {
                    heard.set(
                        sent.expect_err("it cannot be read")
                            .check::<std::io::Error>()
                            .map(|e| (e.kind(), e.raw_os_error())),
                    );
                    // Nothing is broken: whoever has announced nothing may say so.
                    t.write("no such file");
                    t.lose_connection();
                }));
            },
        );
        assert_eq!(all, b"no such file");
        let (kind, code) = told.get().expect("an error of the system's");
        assert!(kind == expected || code == Some(libc::EBADF), "{kind:?} {code:?}");
    }
    let _ = std::fs::remove_file(fifo);
}

#[test]
fn one_file_goes_to_several_at_once() {
    let data = content(3_000_000);
    let file = Temporary::new("several", &data);
    // One open file: each transfer has a place in it of its own.
    let opened = file.open();
    let mut clients = Vec::new();
    run(|reactor| {
        let ends = Countdown::new(reactor, 4);
        let made = move || {
            let (opened, ends) = (opened.try_clone().expect("a copy"), ends.clone());
            Probe::new()
                .on_made(move |t| {
                    let opened = opened.try_clone().expect("a copy");
                    drop(FileSender::new(opened).send(t).add_callback(move |_| t.lose_connection()));
                })
                .on_lost(move |_, _| ends.done())
        };
        let to = serve(reactor, made);
        for _ in 0..4 {
            clients.push(peer(to, |mut stream| {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).expect("a clean end");
                all
            }));
        }
    });
    for client in clients {
        assert!(client.join().expect("it read") == data);
    }
}

#[test]
fn a_file_goes_over_a_unix_socket() {
    let data = content(2_000_000);
    let file = Temporary::new("unix", &data);
    let path = std::env::temp_dir().join(format!("twistlet-file-sender-{}.socket", std::process::id()));
    let (at, log) = (path.clone(), Log::default());
    let mut client = None;
    run(|reactor: Reactor| {
        let said = log.clone();
        let made = move || {
            let (said, opened) = (said.clone(), file.open());
            Probe::new()
                .on_made(move |t| {
                    let (said, opened) = (said.clone(), opened.try_clone().expect("a copy"));
                    drop(FileSender::new(opened).send(t).add_callback(move |sent| {
                        said.add(sent.bytes);
                        t.lose_connection();
                    }));
                })
                .on_lost(move |_, _| {
                    let _ = reactor.stop();
                })
        };
        reactor.listen_unix(&path, made).expect("a free path");
        client = Some(std::thread::spawn(move || {
            let mut all = Vec::new();
            std::os::unix::net::UnixStream::connect(at)
                .expect("it listens")
                .read_to_end(&mut all)
                .expect("a clean end");
            all
        }));
    });
    assert!(client.expect("started").join().expect("it read") == data);
    assert_eq!(log.all(), ["2000000"]);
}

#[test]
fn a_slow_peer_holds_the_file_back() {
    let file = Temporary::new("slow", &content(50_000_000));
    let (looked, look) = std::sync::mpsc::channel();
    let (to, server) = plain_server(move |mut stream| {
        // Nothing is read before the sender, at a standstill, was looked at.
        look.recv().expect("somebody looks");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).map(|_| all.len())
    });
    let unsent = Slot::default();
    run(|reactor| {
        let (opened, told) = (file.open(), unsent.clone());
        let made = move || {
            let (opened, told, looked) = (opened.try_clone().expect("a copy"), told.clone(), looked.clone());
            Probe::new()
                .on_made(move |t| {
                    let opened = opened.try_clone().expect("a copy");
                    drop(FileSender::new(opened).send(t).add_callback(move |_| t.lose_connection()));
                    let (told, looked) = (told.clone(), looked.clone());
                    reactor.call_later(Duration::from_millis(60), move || {
                        told.set(t.unsent());
                        looked.send(()).expect("it waits");
                    });
                })
                .on_lost(move |_, _| {
                    let _ = reactor.stop();
                })
        };
        reactor.connect_tcp(to, made);
    });
    assert_eq!(server.join().expect("it read").expect("a clean end"), 50_000_000);
    // Bytes of the file that the system was asked to send are not held; nothing else waits.
    let unsent = unsent.get();
    assert!((1..=256 * 1024).contains(&unsent), "{unsent}");
}
