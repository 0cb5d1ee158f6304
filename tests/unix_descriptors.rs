//! Descriptors sent over UNIX sockets: each with a byte, delivered before it, and closed whatever happens.
mod rig;

use rig::{Log, Probe, Slot, logged, open_files, pump, watch_log};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use twistlet::error::DescriptorOverrun;
use twistlet::protocols::FileSender;
use twistlet::protocols::codec::{Framed, Handler, Netstrings};
use twistlet::protocols::line::{LineHandler, LineReceiver, LineTransport};
use twistlet::{ConnectionClosed, Producer, Protocol, Reactor, Shared, TransportRef};

/// Descriptors are the process's: one test at a time counts them, from its beginning until its reactor has ended.
struct Alone(#[allow(dead_code)] MutexGuard<'static, ()>);
fn alone() -> Alone {
    static ALONE: Mutex<()> = Mutex::new(());
    Alone(ALONE.lock().unwrap_or_else(PoisonError::into_inner))
}
impl Drop for Alone {
    fn drop(&mut self) {
        Reactor::current().close();
    }
}
/// A file with a word in it, to be told by.
fn file(word: &str) -> File {
    let path = std::env::temp_dir().join(format!("twistlet-fd-{}-{word}", std::process::id()));
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file.write_all(word.as_bytes()).unwrap();
    file
}
fn word(descriptor: OwnedFd) -> String {
    let mut file = File::from(descriptor);
    file.rewind().unwrap();
    let mut word = String::new();
    file.read_to_string(&mut word).unwrap();
    word
}

/// Notes what comes.
#[derive(Clone, Default)]
struct Note(Log);
impl Protocol for Note {
    fn data_received(&mut self, _: TransportRef, data: &[u8]) {
        self.0.add(format!("data {}", String::from_utf8_lossy(data)));
    }
    fn file_descriptor_received(&mut self, _: TransportRef, descriptor: OwnedFd) {
        self.0.add(format!("descriptor {}", word(descriptor)));
    }
    fn connection_lost(&mut self, _: TransportRef, reason: &ConnectionClosed) {
        self.0.add(format!("lost {reason}"));
    }
}
/// Two protocols connected by a pair of UNIX sockets.
fn pair(reactor: Reactor, near: impl Protocol + 'static, far: impl Protocol + 'static) -> (TransportRef, TransportRef) {
    let (one, two) = UnixStream::pair().unwrap();
    let adopt = |socket, protocol: Box<dyn Protocol>| {
        let mut protocol = Some(protocol);
        let factory = twistlet::from_fn(move |_| protocol.take());
        reactor.adopt_connection(socket, factory).unwrap().unwrap()
    };
    (adopt(one, Box::new(near)), adopt(two, Box::new(far)))
}

#[test]
fn each_descriptor_comes_before_the_byte_it_was_sent_with() {
    // UNX-4, UNX-5
    let _alone = alone();
    let reactor = Reactor::new().unwrap();
    let before = open_files();
    let log = Log::default();
    let (near, _far) = pair(reactor, Note::default(), Note(log.clone()));
    for name in ["one", "two"] {
        near.send_file_descriptor(file(name)).unwrap();
    }
    near.write("abcdef");
    pump(reactor);
    assert_eq!(log.take(), ["descriptor one", "data a", "descriptor two", "data b", "data cdef"]);
    // Large writes go out at once, but not ahead of a descriptor.
    near.send_file_descriptor(file("three")).unwrap();
    near.write(vec![b'x'; 100_000]);
    pump(reactor);
    assert_eq!(log.take()[..2], ["descriptor three", "data x"]);
    reactor.close();
    assert!(open_files() < before, "both ends of the pair and the poller are closed, and nothing else is left");
}

#[test]
fn without_a_byte_for_each_the_connection_is_lost_and_they_are_closed() {
    // UNX-4
    let _alone = alone();
    let reactor = Reactor::new().unwrap();
    let before = open_files();
    let (reason, log) = (Slot::default(), Log::default());
    let told = reason.clone();
    let probe = Probe::new().on_lost(move |_, why| told.set(why.clone()));
    let (near, _far) = pair(reactor, probe, Note(log.clone()));
    for name in ["one", "two"] {
        near.send_file_descriptor(file(name)).unwrap();
    }
    near.write("x");
    assert!(near.is_connected(), "no method of a transport ends it");
    pump(reactor);
    let ConnectionClosed::Failed(failure) = reason.get() else { panic!("{}", reason.get()) };
    assert_eq!(failure.check::<DescriptorOverrun>(), Some(&DescriptorOverrun { descriptors: 2, bytes: 1 }));
    assert!(failure.to_string().contains("2 descriptors"), "{failure}");
    assert_eq!(log.take(), ["lost connection closed in order"]);
    assert_eq!(open_files(), before);
    let late = near.send_file_descriptor(file("late")).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::NotConnected);
    assert_eq!(open_files(), before);
}

#[test]
fn a_protocol_that_expects_none_has_them_closed_and_logged() {
    // UNX-5
    let _alone = alone();
    watch_log();
    let reactor = Reactor::new().unwrap();
    let data = Rc::new(Cell::new(0));
    let seen = data.clone();
    let far = Probe::new().on_data(move |_, data| seen.set(seen.get() + data.len()));
    let (near, _far) = pair(reactor, Note::default(), far);
    let before = open_files();
    for _ in 0..3 {
        near.send_file_descriptor(file("unwanted")).unwrap();
    }
    near.write("abc");
    pump(reactor);
    assert_eq!((data.get(), open_files()), (3, before));
    let lines = logged();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].contains("takes no descriptors"));
}

#[test]
fn tcp_carries_none() {
    let _alone = alone();
    let reactor = Reactor::new().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let transport = reactor.adopt_connection(client, Note::default).unwrap().unwrap();
    let before = open_files();
    assert_eq!(transport.send_file_descriptor(file("x")).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(open_files(), before);
    transport.write("still there");
    pump(reactor);
    assert!(transport.is_connected());
}

#[test]
fn many_that_wait_pause_a_producer_and_a_loss_closes_them() {
    // UNX-4
    let _alone = alone();
    let reactor = Reactor::new().unwrap();
    struct Mark(Log);
    impl Producer for Mark {
        fn pause_producing(&mut self) {
            self.0.add("pause");
        }
        fn resume_producing(&mut self) {
            self.0.add("resume");
        }
        fn stop_producing(&mut self) {
            self.0.add("stop");
        }
    }
    let (socket, far) = UnixStream::pair().unwrap();
    let near = reactor.adopt_connection(socket, Note::default).unwrap().unwrap();
    let before = open_files();
    let log = Log::default();
    near.register_producer(Mark(log.clone()));
    // Nobody reads: what the socket takes it takes, the rest waits.
    near.write(vec![7; 1 << 20]);
    pump(reactor);
    assert_eq!(log.take(), ["pause"]);
    far.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 1 << 16];
    while near.unsent() > 0 {
        while (&far).read(&mut buffer).is_ok() {}
        pump(reactor);
    }
    while (&far).read(&mut buffer).is_ok() {}
    assert_eq!(log.take(), ["resume"]);

    // The socket is filled, a little waits; then descriptors alone are too many.
    while near.unsent() == 0 {
        near.write([7; 8192]);
        pump(reactor);
    }
    for _ in 0..64 {
        near.send_file_descriptor(File::open("/dev/null").unwrap()).unwrap();
    }
    pump(reactor);
    assert!(log.take().is_empty(), "64 are not too many");
    near.send_file_descriptor(File::open("/dev/null").unwrap()).unwrap();
    pump(reactor);
    assert_eq!(log.take(), ["pause"]);
    assert_eq!(open_files(), before + 65);
    near.abort_connection();
    pump(reactor);
    assert_eq!(open_files(), before - 1, "with the socket all that waited are closed");
}

#[test]
fn a_blocked_socket_keeps_the_rest_for_later() {
    // UNX-4
    let _alone = alone();
    let reactor = Reactor::new().unwrap();
    let (socket, far) = UnixStream::pair().unwrap();
    let near = reactor.adopt_connection(socket, Note::default).unwrap().unwrap();
    near.write(vec![b'-'; 1 << 20]);
    pump(reactor);
    assert!(near.unsent() > 0);
    for name in ["one", "two", "three"] {
        near.send_file_descriptor(file(name)).unwrap();
    }
    near.write("end");
    pump(reactor);
    let log = Log::default();
    let note = log.clone();
    let total = Rc::new(Cell::new(0));
    let sum = total.clone();
    struct Sum(Log, Rc<Cell<usize>>);
    impl Protocol for Sum {
        fn data_received(&mut self, _: TransportRef, data: &[u8]) {
            self.1.set(self.1.get() + data.len());
        }
        fn file_descriptor_received(&mut self, _: TransportRef, descriptor: OwnedFd) {
            self.0.add(word(descriptor));
        }
    }
    reactor.adopt_connection(far, move || Sum(note.clone(), sum.clone())).unwrap();
    for _ in 0..200 {
        pump(reactor);
        if total.get() == (1 << 20) + 3 {
            break;
        }
    }
    assert_eq!(total.get(), (1 << 20) + 3);
    assert_eq!(log.take(), ["one", "two", "three"]);
}

#[test]
fn one_that_comes_in_the_middle_of_a_file_goes_with_a_byte_of_it() {
    let _alone = alone();
    let reactor = Reactor::new().unwrap();
    let (socket, far) = UnixStream::pair().unwrap();
    let near = reactor.adopt_connection(socket, Note::default).unwrap().unwrap();
    let content: Vec<u8> = (0..1_u32 << 20).map(|n| (n % 251) as u8).collect();
    let mut sent = file("sent");
    sent.set_len(0).unwrap();
    sent.rewind().unwrap();
    sent.write_all(&content).unwrap();
    sent.rewind().unwrap();
    let _ = FileSender::new(sent).send(near);
    pump(reactor);
    assert!(near.unsent() > 0, "nobody reads");
    near.send_file_descriptor(file("in the middle")).unwrap();
    struct All(Rc<RefCell<Vec<u8>>>, Log);
    impl Protocol for All {
        fn data_received(&mut self, _: TransportRef, data: &[u8]) {
            self.0.borrow_mut().extend_from_slice(data);
        }
        fn file_descriptor_received(&mut self, _: TransportRef, descriptor: OwnedFd) {
            self.1.add(word(descriptor));
        }
    }
    let (all, log) = (Rc::new(RefCell::new(Vec::new())), Log::default());
    let (bytes, note) = (all.clone(), log.clone());
    reactor.adopt_connection(far, move || All(bytes.clone(), note.clone())).unwrap();
    for _ in 0..300 {
        pump(reactor);
        if all.borrow().len() == content.len() {
            break;
        }
    }
    assert!(*all.borrow() == content, "{} bytes of {}", all.borrow().len(), content.len());
    assert_eq!(log.take(), ["in the middle"]);
}

#[test]
fn a_panic_over_a_descriptor_closes_the_connection_and_all_of_them() {
    let _alone = alone();
    watch_log();
    let reactor = Reactor::new().unwrap();
    struct Bad;
    impl Protocol for Bad {
        fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
        fn file_descriptor_received(&mut self, _: TransportRef, _: OwnedFd) {
            panic!("at the sight of it");
        }
    }
    let before = open_files();
    let log = Log::default();
    let (near, far) = pair(reactor, Note(log.clone()), Bad);
    for _ in 0..3 {
        near.send_file_descriptor(file("x")).unwrap();
    }
    near.write("abc");
    pump(reactor);
    assert!(!far.is_connected() && !near.is_connected());
    assert_eq!(open_files(), before);
    assert!(logged().iter().any(|line| line.contains("at the sight of it")));
}

#[test]
fn every_wrapper_hands_descriptors_on() {
    let _alone = alone();
    let reactor = Reactor::new().unwrap();
    let log = Log::default();
    struct Messages(Log);
    impl<M> Handler<M> for Messages {
        fn message_received(&mut self, _: TransportRef, _: M) {
            self.0.add("message");
        }
        fn file_descriptor_received(&mut self, _: TransportRef, descriptor: OwnedFd) {
            self.0.add(word(descriptor));
        }
    }
    struct TextLines(Log);
    impl LineHandler for TextLines {
        fn line_received(&mut self, _: LineTransport, _: &[u8]) {
            self.0.add("line");
        }
        fn file_descriptor_received(&mut self, _: LineTransport, descriptor: OwnedFd) {
            self.0.add(word(descriptor));
        }
    }
    let shared = Shared::new(Note(log.clone()));
    let protocols: Vec<(&str, Box<dyn Protocol>)> = vec![
        ("box", Box::new(Box::new(Note(log.clone())))),
        ("shared", Box::new(shared.clone())),
        ("framed", Box::new(Framed::new(Netstrings::new(), Messages(log.clone())))),
        ("framed-shared", Box::new(Framed::new(Netstrings::new(), Shared::new(Messages(log.clone()))))),
        ("lines", Box::new(LineReceiver::new(TextLines(log.clone())))),
        ("lines-shared", Box::new(LineReceiver::new(Shared::new(TextLines(log.clone()))))),
    ];
    for (name, protocol) in protocols {
        let (near, _far) = pair(reactor, Note::default(), protocol);
        near.send_file_descriptor(file(name)).unwrap();
        near.write("1");
        pump(reactor);
        assert!(log.take()[0].ends_with(name), "{name}");
    }
    // To one that somebody is inside of, it comes when they have left.
    let (near, _far) = pair(reactor, Note::default(), Note::default());
    let (mut outer, note) = (shared.clone(), log.clone());
    let _ = shared.call(move |_| {
        outer.file_descriptor_received(near, file("queued").into());
        note.add("inside");
    });
    assert_eq!(log.take(), ["inside", "descriptor queued"]);
}

#[test]
fn python_sends_several_at_once_and_receives_ours() {
    // UNX-5: a message with three descriptors, and unknown ancillary data besides.
    let _alone = alone();
    let reactor = Reactor::new().unwrap();
    let folder = std::env::temp_dir().join(format!("twistlet-fds-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let at = folder.join("socket");
    let log = Log::default();
    struct Back(Log);
    impl Protocol for Back {
        fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
            self.0.add(format!("data {}", String::from_utf8_lossy(data)));
            transport.send_file_descriptor(file("from rust")).unwrap();
            transport.write("y");
        }
        fn file_descriptor_received(&mut self, _: TransportRef, descriptor: OwnedFd) {
            self.0.add(word(descriptor));
        }
        fn connection_lost(&mut self, _: TransportRef, _: &ConnectionClosed) {
            let _ = Reactor::current().stop();
        }
    }
    let note = log.clone();
    reactor.handle_signals(false);
    reactor.listen_unix(&at, move || Back(note.clone())).unwrap();
    let script = r#"
import os, socket, sys, tempfile
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
files = []
for word in (b"one", b"two", b"three"):
    f = tempfile.TemporaryFile(); f.write(word); f.flush(); files.append(f)
socket.send_fds(s, [b"x"], [f.fileno() for f in files])
data, fds, flags, _ = socket.recv_fds(s, 10, 5)
os.lseek(fds[0], 0, os.SEEK_SET)
print(data.decode(), len(fds), os.read(fds[0], 100).decode())
"#;
    let python = Command::new("python3").args(["-c", script]).arg(&at).stdout(Stdio::piped()).spawn().unwrap();
    rig::finish(reactor);
    let output = python.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "y 1 from rust");
    assert_eq!(log.take(), ["one", "two", "three", "data x"]);
}

#[test]
fn adopting_and_closing_leaves_no_descriptor_behind() {
    // LIS-12 and UDP-1
    let _alone = alone();
    let reactor = Reactor::new().unwrap();
    // The first port of a thread opens a spare.
    reactor.listen_tcp("127.0.0.1:0", Note::default).unwrap();
    let before = open_files();
    for _ in 0..10 {
        let (near, _far) = UnixStream::pair().unwrap();
        let transport = reactor.adopt_connection(near, Note::default).unwrap().unwrap();
        transport.lose_connection();
        assert!(reactor.adopt_connection(File::open("/dev/null").unwrap(), Note::default).is_err());
        assert!(reactor.listen_tcp(OwnedFd::from(File::open("/dev/null").unwrap()), Note::default).is_err());
        pump(reactor);
    }
    assert_eq!(open_files(), before);
}
